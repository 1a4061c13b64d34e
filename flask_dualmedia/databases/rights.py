"""What the app's account may do with our tables in PostgreSQL, and the statements that give it what
it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from ..models import MediaChunk
from .tables import MODELS, VERSION_TABLE, Tables

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

_USED = {VERSION_TABLE: ("SELECT",), MediaChunk.__tablename__: ("SELECT", "INSERT", "DELETE")}
"""What the app does with a table, where that is not everything."""

_ABOUT_RIGHTS = ("42501", "25006", "3F000")
"""SQLSTATE codes of a missing right, of a transaction that is read-only, and of no schema."""

_ACCOUNT = sa.text("""
    SELECT quote_ident(current_user), quote_ident(current_schema()),
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
        current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
        (SELECT quote_ident(min(n.nspname)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname IN :names AND c.relkind = 'r')
""").bindparams(sa.bindparam("names", expanding=True))

_TABLES = sa.text("""
    SELECT c.relname, quote_ident(pg_get_userbyid(c.relowner)), pg_has_role(c.relowner, 'USAGE'),
        has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
        has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE')
    FROM pg_class c WHERE c.relname IN :names AND c.relkind IN ('r', 'p', 'v', 'f') AND pg_table_is_visible(c.oid)
    ORDER BY c.relname
""").bindparams(sa.bindparam("names", expanding=True))


@dataclass(frozen=True)
class TableRights:
    """What the account may do with one table."""

    name: str
    plain_name: str
    """As the models name it."""
    owner: str
    is_owned: bool
    """Whether the account may change the table itself."""
    granted: tuple[str, ...]

    def missing(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(right for right in needed if right not in self.granted)


@dataclass(frozen=True)
class Rights:
    """What the account may do. Names are quoted where SQL needs it."""

    account: str
    schema: str | None
    """Where new tables are made; ``None`` if it may use no schema of its ``search_path``."""
    hidden_schema: str
    """Where our tables seem to be then."""
    may_create: bool
    is_read_only: bool
    is_standby: bool
    tables: tuple[TableRights, ...]

    def owns(self, table: str) -> bool:
        return any(found.is_owned for found in self.tables if found.name == table)

    def may_read(self, table: str) -> bool:
        """Whether it may read a table, if there is one."""
        return all("SELECT" in found.granted for found in self.tables if found.name == table)

    def missing_for_use(self) -> list[str]:
        """What it lacks to work with the tables that there are, as sentences with the statements
        that give it."""
        lacks = [*self._missing_at_all()]
        grants = [*self._grants(lambda table: _USED.get(table.plain_name, _ALL))]
        if grants:
            lacks.append(f"{self.account} lacks rights on our tables: {'; '.join(grants)}")
        return lacks

    def missing_for_upgrade(self) -> list[str]:
        """What it lacks to change the schema, in the same way."""
        lacks = [*self._missing_at_all()]
        if self.schema is not None and not self.may_create:
            grant = f"GRANT CREATE ON SCHEMA {self.schema} TO {self.account}"
            lacks.append(f"{self.account} may create nothing in the schema {self.schema}: {grant}")
        foreign = [table for table in self.tables if not table.is_owned]
        if foreign:
            owners = ", ".join(sorted({table.owner for table in foreign}))
            changes = "; ".join(
                f"ALTER TABLE {table.name} OWNER TO {self.account}" for table in foreign
            )
            lacks.append(f"tables of ours belong to {owners}: {changes}")
        grants = [*self._grants(lambda table: _ALL if table.plain_name == VERSION_TABLE else ())]
        if grants:
            lacks.append(f"{self.account} lacks rights on our tables: {'; '.join(grants)}")
        return lacks

    def _missing_at_all(self) -> Iterator[str]:
        if self.schema is None:
            grant = f"GRANT USAGE, CREATE ON SCHEMA {self.hidden_schema} TO {self.account}"
            yield f"{self.account} may use no schema of its search_path: {grant}"
        if self.is_standby:
            yield "the server is a standby, which changes nothing: connect to the primary"
        elif self.is_read_only:
            change = f"ALTER ROLE {self.account} SET default_transaction_read_only = off"
            yield f"transactions of {self.account} are read-only: {change}"

    def _grants(self, needed: Callable[[TableRights], tuple[str, ...]]) -> Iterator[str]:
        for table in self.tables:
            rights = ", ".join(table.missing(needed(table)))
            if rights:
                yield f"GRANT {rights} ON {table.name} TO {self.account}"


def rights_of(connection: sa.Connection, tables: Tables = MODELS) -> Rights | None:
    """The rights of the account of a connection; ``None`` on databases that have no such thing."""
    if connection.dialect.name != "postgresql":
        return None
    names = {"names": tables.names}
    account, schema, may_create, is_read_only, is_standby, hidden = connection.execute(
        _ACCOUNT, names
    ).one()
    found = []
    for name, owner, is_owned, *granted in connection.execute(_TABLES, names):
        rights = tuple(right for right, is_granted in zip(_ALL, granted, strict=True) if is_granted)
        found.append(TableRights(name, tables.plain_name(name) or name, owner, is_owned, rights))
    return Rights(
        account, schema, hidden or "public", may_create, is_read_only, is_standby, tuple(found)
    )


def is_about_rights(error: BaseException) -> bool:
    """Whether a database refused something for want of a right, and will again while the rights are
    the same."""
    return _state_of(error) in _ABOUT_RIGHTS


def said_by_server(error: BaseException) -> str:
    """What the server said of a refusal, which names the table and the right; it is for the log."""
    cause = getattr(error.__cause__, "orig", None) or error.__cause__
    diagnostic = getattr(cause, "diag", None)
    return getattr(diagnostic, "message_primary", None) or ""


def _state_of(error: BaseException) -> str | None:
    cause = getattr(error.__cause__, "orig", None) or error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
