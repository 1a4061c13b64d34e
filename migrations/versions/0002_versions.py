"""The version of a record, and the state of records in the trash.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("product_images", "course_videos", "course_resources", "media_storage")

STATES = "state IN ('pending', 'available', 'deleting')"
STATES_WITH_TRASH = "state IN ('pending', 'available', 'deleting', 'trashed')"


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("version", sa.Integer(), server_default="1", nullable=False))
        change_states(table, STATES_WITH_TRASH)


def downgrade() -> None:
    for table in reversed(TABLES):
        # The earlier revision knows no trash: what is in it was taken away.
        media = sa.table(table, sa.column("state"))
        op.execute(media.update().where(media.c.state == "trashed").values(state="deleting"))
        change_states(table, STATES)
        with op.batch_alter_table(table) as batch:
            batch.drop_column("version")


def change_states(table: str, states: str) -> None:
    """Allow other states. SQLite cannot change a check: there the table is made anew."""
    name = op.f(f"ck_{table}_state")
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, states)
