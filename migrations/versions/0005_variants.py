"""The table of variants, which are derived from media.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "media_variants"

CHECKS = {
    "state": "state IN ('pending', 'available', 'deleting', 'trashed')",
    "file_size": "file_size >= 0",
    "width": "width >= 0",
    "height": "height >= 0",
    "duration": "duration >= 0",
}


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("storage_type", sa.String(16), nullable=False),
        sa.Column("storage_key", sa.String(255)),
        sa.Column("filename", sa.String(255)),
        sa.Column("mime_type", sa.String(255)),
        sa.Column("file_size", sa.BigInteger()),
        sa.Column("checksum", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("media_kind", sa.String(32), nullable=False),
        sa.Column("media_id", sa.Uuid(), nullable=False),
        sa.Column("source_key", sa.String(255), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("recipe", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("duration", sa.Double()),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=f"pk_{TABLE}"),
        *(
            sa.CheckConstraint(check, name=op.f(f"ck_{TABLE}_{name}"))
            for name, check in CHECKS.items()
        ),
    )

    available = sa.text("state = 'available'")
    op.create_index(
        f"uq_{TABLE}_recipe",
        TABLE,
        ["media_id", "source_key", "name", "recipe"],
        unique=True,
        postgresql_where=available,
        sqlite_where=available,
    )
    op.create_index(f"ix_{TABLE}_original", TABLE, ["media_id"])
    unfinished = sa.text("state <> 'available'")
    op.create_index(
        f"ix_{TABLE}_unfinished",
        TABLE,
        ["updated_at"],
        postgresql_where=unfinished,
        sqlite_where=unfinished,
    )


def downgrade() -> None:
    """Drop the table, and the bytes of variants that are in the database.

    Those in other storages are orphans for the earlier version: its check removes them.
    """
    variants = sa.table(TABLE, sa.column("storage_key"), sa.column("storage_type"))
    keys = sa.select(variants.c.storage_key).where(variants.c.storage_type == "database")
    chunks = sa.table("media_chunks", sa.column("storage_key"))
    op.execute(sa.delete(chunks).where(chunks.c.storage_key.in_(keys)))
    op.drop_table(TABLE)
