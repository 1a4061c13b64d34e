"""The rights of the app's account on our tables in PostgreSQL.

For rights that it lacks, there are the statements that give them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from ..models import MediaChunk
from .tables import MODELS, VERSION_TABLE, Tables

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

_USED = {VERSION_TABLE: ("SELECT",), MediaChunk.__tablename__: ("SELECT", "INSERT", "DELETE")}
"""The rights that the app uses on a table, where those are not all."""

_ABOUT_RIGHTS = ("42501", "25006", "3F000")
"""SQLSTATE codes of a missing right, of a transaction that is read-only, and of no schema."""

_ACCOUNT = sa.text("""
    SELECT quote_ident(current_user), quote_ident(current_schema()),
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
        current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
        (SELECT quote_ident(min(n.nspname))
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname IN :names AND c.relkind = 'r')
""").bindparams(sa.bindparam("names", expanding=True))

_TABLES = sa.text("""
    SELECT c.relname, quote_ident(pg_get_userbyid(c.relowner)), pg_has_role(c.relowner, 'USAGE'),
        has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
        has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE')
    FROM pg_class c
    WHERE c.relname IN :names AND c.relkind IN ('r', 'p', 'v', 'f') AND pg_table_is_visible(c.oid)
    ORDER BY c.relname
""").bindparams(sa.bindparam("names", expanding=True))


@dataclass(frozen=True)
class TableRights:
    """The rights of the account on one table."""

    name: str
    plain_name: str
    """The table's name in the models."""
    owner: str
    is_owned: bool
    """Whether the account may change the table itself."""
    granted: tuple[str, ...]

    def missing(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the rights that the account lacks."""
        return tuple(right for right in needed if right not in self.granted)


@dataclass(frozen=True)
class Rights:
    """The rights of the account. Names are quoted where SQL needs it."""

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
        """Whether it owns a table, if there is one."""
        return any(rights.is_owned for rights in self.tables if rights.name == table)

    def may_read(self, table: str) -> bool:
        """Whether it may read a table, if there is one."""
        return all("SELECT" in rights.granted for rights in self.tables if rights.name == table)

    def missing_for_use(self) -> list[str]:
        """Return what it lacks to work with the tables that there are.

        These are sentences with the statements that give it.
        """
        return [
            *self._missing_at_all(),
            *self._missing_on_tables(lambda table: _USED.get(table.plain_name, _ALL)),
        ]

    def missing_for_upgrade(self) -> list[str]:
        """Return what it lacks to change the schema, in the same way."""
        return [
            *self._missing_at_all(),
            *self._missing_in_schema(),
            *self._missing_ownership(),
            *self._missing_on_tables(_needed_for_upgrade),
        ]

    def _missing_at_all(self) -> Iterator[str]:
        if self.schema is None:
            grant = f"GRANT USAGE, CREATE ON SCHEMA {self.hidden_schema} TO {self.account}"
            yield f"{self.account} may use no schema of its search_path: {grant}"
        if self.is_standby:
            yield "the server is a standby, which changes nothing: connect to the primary"
        elif self.is_read_only:
            change = f"ALTER ROLE {self.account} SET default_transaction_read_only = off"
            yield f"transactions of {self.account} are read-only: {change}"

    def _missing_in_schema(self) -> Iterator[str]:
        if self.schema is not None and not self.may_create:
            grant = f"GRANT CREATE ON SCHEMA {self.schema} TO {self.account}"
            yield f"{self.account} may create nothing in the schema {self.schema}: {grant}"

    def _missing_ownership(self) -> Iterator[str]:
        owners = set()
        changes = []
        for table in self.tables:
            if not table.is_owned:
                owners.add(table.owner)
                changes.append(f"ALTER TABLE {table.name} OWNER TO {self.account}")
        if changes:
            yield f"tables of ours belong to {', '.join(sorted(owners))}: {'; '.join(changes)}"

    def _missing_on_tables(self, needed: Callable[[TableRights], tuple[str, ...]]) -> Iterator[str]:
        grants = []
        for table in self.tables:
            rights = ", ".join(table.missing(needed(table)))
            if rights:
                grants.append(f"GRANT {rights} ON {table.name} TO {self.account}")
        if grants:
            yield f"{self.account} lacks rights on our tables: {'; '.join(grants)}"


def _needed_for_upgrade(table: TableRights) -> tuple[str, ...]:
    """Return the rights that an upgrade needs on a table besides owning it."""
    if table.plain_name == VERSION_TABLE:
        return _ALL
    return ()


def rights_of(connection: sa.Connection, tables: Tables = MODELS) -> Rights | None:
    """Return the rights of the account of a connection.

    They are ``None`` on databases that have no such thing.
    """
    if connection.dialect.name != "postgresql":
        return None

    names = {"names": tables.names}
    row = connection.execute(_ACCOUNT, names).one()
    account, schema, may_create, is_read_only, is_standby, hidden_schema = row
    return Rights(
        account,
        schema,
        hidden_schema or "public",
        may_create,
        is_read_only,
        is_standby,
        tuple(_rights_on_tables(connection, tables)),
    )


def _rights_on_tables(connection: sa.Connection, tables: Tables) -> Iterator[TableRights]:
    for name, owner, is_owned, *flags in connection.execute(_TABLES, {"names": tables.names}):
        plain_name = tables.plain_name(name) or name
        granted = tuple(right for right, flag in zip(_ALL, flags, strict=True) if flag)
        yield TableRights(name, plain_name, owner, is_owned, granted)


def is_about_rights(error: BaseException) -> bool:
    """Whether a database refused something for want of a right.

    It will again while the rights are the same.
    """
    return _sqlstate(error) in _ABOUT_RIGHTS


def said_by_server(error: BaseException) -> str:
    """Return the server's words about a refusal, which name the table and the right.

    They are for the log.
    """
    diagnostic = getattr(_driver_error(error), "diag", None)
    return getattr(diagnostic, "message_primary", None) or ""


def _sqlstate(error: BaseException) -> str | None:
    driver_error = _driver_error(error)
    return getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)


def _driver_error(error: BaseException) -> BaseException | None:
    """Return the driver's error behind one of ours, which SQLAlchemy may have wrapped."""
    cause = error.__cause__
    return getattr(cause, "orig", None) or cause
