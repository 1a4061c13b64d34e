"""The route that says whether the databases answer."""

from __future__ import annotations

import typing as t

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from ..errors import DatabaseUnavailable, Unavailable
from ..repositories.base import Repository
from ..repositories.journal import JournalRepository
from ..schemas import WireSchema
from ..state import State, get_state
from ..upkeep.check import last_check
from ..upkeep.journal import count_waiting
from .answers import json_answer
from .callers import is_admin
from .mounting import add_function


class DatabaseHealthSchema(WireSchema):
    """One database."""

    ok = fields.Boolean(
        allow_none=True, metadata={"description": "Whether it answers; null when it is not used."}
    )


class LastCheckSchema(WireSchema):
    """The last comparison of the databases."""

    at = fields.AwareDateTime()
    records = fields.Integer()
    findings = fields.Dict(keys=fields.String(), values=fields.Integer())


class HealthSchema(WireSchema):
    """The mode, and the databases."""

    mode = fields.String(metadata={"enum": ["dual", "mongo"]})
    degraded = fields.Boolean(metadata={"description": "The mode is dual and SQL does not answer."})
    mongo = fields.Nested(DatabaseHealthSchema)
    sql = fields.Nested(DatabaseHealthSchema)
    journal = fields.Integer(
        allow_none=True,
        metadata={
            "description": "Records, and bytes of records in SQL, that wait in MongoDB; "
            "null when MongoDB is down."
        },
    )
    last_check = fields.Nested(
        LastCheckSchema,
        allow_none=True,
        metadata={
            "description": "For admins: when the databases were compared last, "
            "and what is left of it."
        },
    )


def health() -> Response:
    """Which mode the extension is in, and which databases answer.

    The status is 503 only when MongoDB is down: without SQL the app goes on.
    """
    state = get_state()
    sql_ok = None
    if state.mode == "dual":
        sql_ok = _answers(state.repository)
    facts = _ask_mongo(state)

    status = 200
    if facts is None:
        status = 503
        facts = {"journal": None}
    answer = {
        "mode": state.mode,
        "degraded": sql_ok is False,
        "mongo": {"ok": status == 200},
        "sql": {"ok": sql_ok},
    }
    return json_answer(answer | facts, status)


def add_views(blueprint: Blueprint) -> None:
    """Add the route of the health check."""
    add_function(
        blueprint,
        health,
        "/health",
        [
            blueprint.doc(operationId="get_health"),
            blueprint.response(200, HealthSchema),
            blueprint.alt_response(503, schema=HealthSchema, description="MongoDB does not answer"),
        ],
    )


def _ask_mongo(state: State) -> dict[str, t.Any] | None:
    """The part of the answer that MongoDB knows; ``None`` if it does not answer."""
    try:
        if not state.mongo.circuit.answers():
            return None
        facts: dict[str, t.Any] = {"journal": _count_waiting(state)}
        if is_admin():
            facts["lastCheck"] = last_check(state)
    except Unavailable:  # it went between one question and the next
        return None
    return facts


def _count_waiting(state: State) -> int:
    """How many records wait in MongoDB for SQL; in dual mode, bytes of records in SQL too."""
    if state.mode == "dual":
        return count_waiting(state)
    return JournalRepository(state.collections).waiting()


def _answers(repository: Repository) -> bool:
    """Tell whether SQL answers: an error that others would not get is no sign that it does not."""
    try:
        repository.version()
    except DatabaseUnavailable:
        return False
    except Unavailable:
        pass  # it answers others
    return True
