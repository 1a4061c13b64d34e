"""Whether the databases answer."""

from __future__ import annotations

import typing as t

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from ..errors import DatabaseUnavailable, Unavailable
from ..repositories.base import Repository
from ..repositories.mongo import JournalRepository
from ..schemas import WireSchema
from ..state import State, get_state
from ..upkeep.check import last_check
from ..upkeep.journal import count_waiting
from .answers import json_answer
from .callers import is_admin


class DatabaseHealthSchema(WireSchema):
    ok = fields.Boolean(
        allow_none=True, metadata={"description": "Whether it answers; null when it is not used."}
    )


class LastCheckSchema(WireSchema):
    at = fields.AwareDateTime()
    records = fields.Integer()
    findings = fields.Dict(keys=fields.String(), values=fields.Integer())


class HealthSchema(WireSchema):
    mode = fields.String(metadata={"enum": ["dual", "mongo"]})
    degraded = fields.Boolean(metadata={"description": "The mode is dual and SQL does not answer."})
    mongo = fields.Nested(DatabaseHealthSchema)
    sql = fields.Nested(DatabaseHealthSchema)
    journal = fields.Integer(
        allow_none=True,
        metadata={
            "description": "Records, and bytes of records in SQL, that wait in MongoDB; null when MongoDB is down."
        },
    )
    last_check = fields.Nested(
        LastCheckSchema,
        allow_none=True,
        metadata={
            "description": "For admins: when the databases were compared last, and what is left of it."
        },
    )


def add_views(blueprint: Blueprint) -> None:
    @blueprint.route("/health")
    @blueprint.doc(operationId="get_health")
    @blueprint.response(200, HealthSchema)
    @blueprint.alt_response(503, schema=HealthSchema, description="MongoDB does not answer")
    def health() -> Response:
        """Which mode the extension is in, and which databases answer.

        The status is 503 only when MongoDB is down: without SQL the app goes on.
        """
        state = get_state()
        sql_ok = _answers(state.repository) if state.mode == "dual" else None
        mongo_ok, held = _ask_mongo(state)
        answer = {
            "mode": state.mode,
            "degraded": sql_ok is False,
            "mongo": {"ok": mongo_ok},
            "sql": {"ok": sql_ok},
        }
        return json_answer(answer | held, 200 if mongo_ok else 503)


def _ask_mongo(state: State) -> tuple[bool, dict[str, t.Any]]:
    """Whether MongoDB answers, and what it tells that belongs into the answer."""
    try:
        if state.mongo.circuit.answers():
            is_dual = state.mode == "dual"
            waiting = (
                count_waiting(state) if is_dual else JournalRepository(state.collections).waiting()
            )
            held: dict[str, t.Any] = {"journal": waiting}
            if is_admin():
                held["lastCheck"] = last_check(state)
            return True, held
    except Unavailable:  # it went between one question and the next
        pass
    return False, {"journal": None}


def _answers(repository: Repository) -> bool:
    try:
        repository.version()
    except DatabaseUnavailable:
        return False
    except Unavailable:
        pass  # it answers others
    return True
