"""Run the revisions: for ``flask db`` on an app without a Flask-Migrate of its own, and for the
extension itself."""

from __future__ import annotations

import sys
import typing as t
from logging.config import fileConfig

from alembic import context
from flask import current_app

from flask_dualmedia.databases.tables import RenamedOutput, renamed_statements

config = context.config
given = config.attributes.get("connection")
tables = config.attributes.get("tables") or current_app.extensions["dualmedia"].tables
metadata = tables.metadata


def include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Look at our tables alone: the others in the database are the host's."""
    return type_ != "table" or name in metadata.tables


options = {
    "target_metadata": metadata,
    "version_table": tables.version_table,
    "include_name": include_name,
    "compare_type": True,
    "render_as_batch": True,
}

# The revisions name tables as the models do; what is sent has the names that the app gives them.
if given is not None:
    with renamed_statements(given, tables):
        context.configure(connection=given, **options)
        with context.begin_transaction():
            context.run_migrations()
else:
    if config.config_file_name:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    engine = current_app.extensions["dualmedia"].engine
    if context.is_offline_mode():
        output = t.cast("t.TextIO", RenamedOutput(config.output_buffer or sys.stdout, tables))
        context.configure(
            dialect_name=engine.dialect.name, literal_binds=True, output_buffer=output, **options
        )
        with context.begin_transaction():
            context.run_migrations()
    else:
        with engine.connect() as connection, renamed_statements(connection, tables):
            context.configure(connection=connection, **options)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
