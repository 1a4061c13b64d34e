"""The indexes by which lists find what their reader may see.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PUBLIC = "is_public AND state = 'available'"
PRIVATE = "NOT is_public AND state = 'available'"

KEYS = {
    "product_images": {
        "owner": ["mongo_product_id", "position"],
        "accessed": ["access_count"],
    },
    "course_videos": {
        "owner": ["mongo_course_id", "position"],
        "lesson": ["mongo_lesson_id", "position"],
    },
    "course_resources": {
        "owner": ["mongo_course_id"],
        "lesson": ["mongo_lesson_id"],
    },
    "media_storage": {
        "owner": ["reference_type", "reference_id"],
        "type": ["media_type"],
        "accessed": ["access_count"],
    },
}
"""By table and name of the index, the columns that lists are filtered or sorted by."""

OF_OWNERS = ("owner", "lesson")


def upgrade() -> None:
    for table, keys in KEYS.items():
        create_index(table, "public", ["id"], PUBLIC)
        create_index(table, "public_uploader", ["uploaded_by", "id"], PUBLIC)
        create_index(table, "private", ["uploaded_by", "id"], PRIVATE)
        for name, columns in keys.items():
            create_index(table, f"public_{name}", [*columns, "id"], PUBLIC)
            if name in OF_OWNERS:
                create_index(table, f"private_{name}", ["uploaded_by", *columns, "id"], PRIVATE)


def downgrade() -> None:
    for table, keys in KEYS.items():
        names = ["public", "public_uploader", "private", *(f"public_{name}" for name in keys)]
        names += [f"private_{name}" for name in keys if name in OF_OWNERS]
        for name in names:
            op.drop_index(f"ix_{table}_{name}", table_name=table)


def create_index(table: str, name: str, columns: list[str], where: str) -> None:
    """Create an index, unless somebody has built it beforehand."""
    op.create_index(
        f"ix_{table}_{name}",
        table,
        columns,
        if_not_exists=True,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(where),
    )
