"""The four media tables and the chunks of their bytes.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("product_images", "course_videos", "course_resources", "media_storage")

STATES = "state IN ('pending', 'available', 'deleting')"
STORAGE_TYPES = "storage_type IN ('database', 'local', 's3', 'google_drive', 'cloud', 'external')"


def upgrade() -> None:
    create(
        "product_images",
        sa.Column("mongo_product_id", sa.String(255), nullable=False),
        sa.Column("image_url", sa.Text()),
        sa.Column("alt_text", sa.Text()),
        sa.Column("is_main_image", sa.Boolean(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        not_negative=("position", "width", "height"),
    )
    create(
        "course_videos",
        sa.Column("mongo_course_id", sa.String(255), nullable=False),
        sa.Column("mongo_lesson_id", sa.String(255)),
        sa.Column("video_type", sa.String(16), nullable=False),
        sa.Column("video_url", sa.Text()),
        sa.Column("title", sa.String(255)),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("duration", sa.Double()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("processing_status", sa.String(16), nullable=False),
        not_negative=("position", "duration", "width", "height"),
        one_of={
            "video_type": "video_type IN ('intro', 'lesson', 'module')",
            "processing_status": "processing_status IN ('pending', 'processing', 'ready', 'failed')",
        },
    )
    create(
        "course_resources",
        sa.Column("mongo_course_id", sa.String(255), nullable=False),
        sa.Column("mongo_lesson_id", sa.String(255)),
        sa.Column("resource_name", sa.String(255)),
        sa.Column("resource_url", sa.Text()),
        sa.Column("resource_type", sa.String(16), nullable=False),
        one_of={"resource_type": "resource_type IN ('pdf', 'document', 'image', 'archive', 'code')"},
    )
    create(
        "media_storage",
        sa.Column("reference_type", sa.String(64), nullable=False),
        sa.Column("reference_id", sa.String(255), nullable=False),
        sa.Column("media_type", sa.String(16), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("title", sa.String(255)),
        one_of={"media_type": "media_type IN ('image', 'video', 'document', 'audio')"},
    )

    op.create_index("ix_product_images_owner", "product_images", ["mongo_product_id", "position", "id"])
    main = sa.text("is_main_image AND state = 'available'")
    op.create_index(
        "uq_product_images_main",
        "product_images",
        ["mongo_product_id"],
        unique=True,
        postgresql_where=main,
        sqlite_where=main,
    )
    op.create_index("ix_product_images_accessed", "product_images", ["access_count", "id"])
    op.create_index("ix_course_videos_owner", "course_videos", ["mongo_course_id", "position", "id"])
    op.create_index("ix_course_videos_lesson", "course_videos", ["mongo_lesson_id", "position", "id"])
    op.create_index("ix_course_resources_owner", "course_resources", ["mongo_course_id", "id"])
    op.create_index("ix_course_resources_lesson", "course_resources", ["mongo_lesson_id", "id"])
    op.create_index("ix_media_storage_owner", "media_storage", ["reference_type", "reference_id", "id"])
    op.create_index("ix_media_storage_type", "media_storage", ["media_type", "id"])
    op.create_index("ix_media_storage_accessed", "media_storage", ["access_count", "id"])
    unfinished = sa.text("state <> 'available'")
    for table in TABLES:
        op.create_index(f"ix_{table}_uploader", table, ["uploaded_by", "id"])
        op.create_index(
            f"ix_{table}_unfinished", table, ["updated_at"], postgresql_where=unfinished, sqlite_where=unfinished
        )

    op.create_table(
        "media_chunks",
        sa.Column("storage_key", sa.String(255), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("storage_key", "seq", name="pk_media_chunks"),
    )
    if op.get_context().dialect.name == "postgresql":
        # Media are compressed already, and a range of a value that is not compressed is read without the rest.
        op.execute("ALTER TABLE media_chunks ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("media_chunks")
    for table in reversed(TABLES):
        op.drop_table(table)


def create(
    table: str, *columns: sa.Column, not_negative: tuple[str, ...] = (), one_of: dict[str, str] | None = None
) -> None:
    """Create a table with what all kinds share, and ``columns``."""
    checks = {"state": STATES, "storage_type": STORAGE_TYPES, **(one_of or {})}
    checks |= {name: f"{name} >= 0" for name in ("file_size", "access_count", *not_negative)}
    op.create_table(
        table,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("storage_type", sa.String(16), nullable=False),
        sa.Column("storage_key", sa.String(255)),
        sa.Column("filename", sa.String(255)),
        sa.Column("mime_type", sa.String(255)),
        sa.Column("file_size", sa.BigInteger()),
        sa.Column("checksum", sa.String(64)),
        sa.Column("uploaded_by", sa.String(255)),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("access_count", sa.BigInteger(), nullable=False),
        sa.Column("last_accessed_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("links_revoked_at", sa.DateTime(timezone=True)),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        *(sa.CheckConstraint(check, name=op.f(f"ck_{table}_{name}")) for name, check in checks.items()),
    )
