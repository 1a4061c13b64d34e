"""Run the revisions: for ``flask db`` on an app without a Flask-Migrate of its own, and for the extension itself."""

from __future__ import annotations

from logging.config import fileConfig

from alembic import context
from flask import current_app

from flask_dualmedia.models import Base
from flask_dualmedia.schema import VERSION_TABLE

config = context.config
metadata = Base.metadata
given = config.attributes.get("connection")


def include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Look at our tables alone: the others in the database are the host's."""
    return type_ != "table" or name in metadata.tables


options = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "include_name": include_name,
    "compare_type": True,
    "render_as_batch": True,
}

if given is not None:
    context.configure(connection=given, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    if config.config_file_name:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    engine = current_app.extensions["dualmedia"].engine
    if context.is_offline_mode():
        context.configure(dialect_name=engine.dialect.name, literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
    else:
        with engine.connect() as connection:
            context.configure(connection=connection, **options)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
