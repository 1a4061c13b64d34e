"""Storages of any name: what may be one is checked when records are made.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("product_images", "course_videos", "course_resources", "media_storage")

NAMES = ("database", "local", "s3", "google_drive", "cloud", "external")
"""The names that there were before."""


def upgrade() -> None:
    for table in TABLES:
        drop_check(table)


def downgrade() -> None:
    if not op.get_context().as_sql:
        for table in TABLES:
            refuse_other_names(table)
    allowed = ", ".join(f"'{name}'" for name in NAMES)
    for table in reversed(TABLES):
        with op.batch_alter_table(table) as batch:
            batch.create_check_constraint(check_of(table), f"storage_type IN ({allowed})")


def check_of(table: str) -> str:
    return op.f(f"ck_{table}_storage_type")


def drop_check(table: str) -> None:
    """Drop a check, unless an app that may not run revisions has done so already.

    SQLite cannot drop one: there the table is made anew.
    """
    name = check_of(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
        return
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(name, type_="check")


def refuse_other_names(table: str) -> None:
    """Refuse to go back while there is media that the earlier revision has no storage for."""
    media = sa.table(table, sa.column("storage_type"))
    query = sa.select(media.c.storage_type).where(media.c.storage_type.not_in(NAMES)).limit(1)
    name = op.get_bind().execute(query).scalar_one_or_none()
    if name is not None:
        raise CommandError(
            f"{table} has media in the storage {name!r}, which the earlier revision does not know: "
            f'move it first (flask dualmedia move --from {name} --to ...), or delete it'
        )
