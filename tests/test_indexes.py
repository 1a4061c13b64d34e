"""Each of the 18 indexes serves a query that we ship."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from flask_dualmedia.models import AVAILABLE, KINDS, CourseResource, CourseVideo, Media, MediaStorage, ProductImage, now
from flask_dualmedia.quotas import of_owner
from flask_dualmedia.repositories.base import Listing, Selection
from flask_dualmedia.repositories.sql import (
    select_listing,
    select_of_owners,
    select_stored_size,
    select_unfinished,
)

from .conftest import Databases, unique
from .test_repositories import REQUIRED
from .test_schema import INDEXES

Query = Callable[[], sa.Select[t.Any]]

ROWS = 10_000
OWNERS = 2_000


@pytest.fixture(scope="module")
def connection(servers: t.Any, template_database: str) -> Iterator[sa.Connection]:
    """Tables filled as a shop of some size would fill them."""
    databases = Databases(servers.postgres)
    url = databases.create(unique("filled"), template=template_database)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for kind in KINDS.values():
            _copy_rows(connection, kind)
            connection.exec_driver_sql(f"ANALYZE {kind.__tablename__}")
        yield connection
    databases.drop_all()


def _copy_rows(connection: sa.Connection, kind: type[Media]) -> None:
    """By COPY: inserts take several times as long."""
    names = kind.field_names()
    cursor: t.Any = connection.connection.cursor()
    with cursor.copy(f"COPY {kind.__tablename__} ({', '.join(names)}) FROM STDIN") as copy:
        for values in _rows(kind):
            copy.write_row([values[name] for name in names])


def _rows(kind: type[Media]) -> Iterator[dict[str, t.Any]]:
    types = ("image", "video", "document", "audio")
    for n in range(ROWS):
        record = kind.new(**REQUIRED[kind.kind] | {"storage_type": "external", "uploaded_by": f"user {n % 500}"})
        values = record.values() | {kind.owner_field: f"owner {n % OWNERS}", "access_count": n * 7919 % ROWS}
        values["state"] = "pending" if n % 1000 == 0 else AVAILABLE
        if "mongo_lesson_id" in values:
            values["mongo_lesson_id"] = f"lesson {n % 3000}"
        if "is_main_image" in values:
            values["is_main_image"] = n < OWNERS
        if "media_type" in values:
            values["media_type"] = types[0 if n % 400 == 0 else 1 + n % 3]
        yield values


def _filled(query: sa.Select[t.Any], given: dict[str, t.Any]) -> sa.Select[t.Any]:
    return query.params(given)


def _page(kind: type[Media], where: dict[str, t.Any], sort: str = "id", **kwargs: t.Any) -> Query:
    return lambda: _filled(*select_listing(Listing(kind, where, sort=sort, limit=20, **kwargs)))


def _owners(kind: type[Media], reference_type: str | None = None) -> Query:
    given = {"owners": [f"owner {n}" for n in range(20)]} | (
        {"reference_type": reference_type} if reference_type else {}
    )
    return lambda: _filled(select_of_owners(kind, "any"), given)


def _of_user(kind: type[Media]) -> Query:
    return _page(kind, {"uploaded_by": "user 7"})


def _unfinished(kind: type[Media]) -> Query:
    return lambda: select_unfinished(kind, now() - timedelta(hours=1), 100)


QUERIES: dict[str, Query] = {
    "ix_product_images_owner": _owners(ProductImage),
    "uq_product_images_main": _page(ProductImage, {"mongo_product_id": "owner 7", "is_main_image": True}),
    "ix_product_images_accessed": _page(ProductImage, {}, "access_count", descending=True),
    "ix_course_videos_owner": _page(CourseVideo, {"mongo_course_id": "owner 7"}, "position"),
    "ix_course_videos_lesson": _page(CourseVideo, {"mongo_lesson_id": "lesson 7"}, "position"),
    "ix_course_resources_owner": _page(CourseResource, {"mongo_course_id": "owner 7"}),
    "ix_course_resources_lesson": _page(CourseResource, {"mongo_lesson_id": "lesson 7"}),
    "ix_media_storage_owner": _owners(MediaStorage, "user"),
    "ix_media_storage_type": _page(MediaStorage, {"media_type": "image"}, descending=True),
    "ix_media_storage_accessed": _page(MediaStorage, {}, "access_count", descending=True),
    **{f"ix_{kind.__tablename__}_uploader": _of_user(kind) for kind in KINDS.values()},
    **{f"ix_{kind.__tablename__}_unfinished": _unfinished(kind) for kind in KINDS.values()},
}


def test_every_index_has_its_query() -> None:
    assert set(QUERIES) == set[str]().union(*INDEXES.values())


@pytest.mark.parametrize("index", sorted(QUERIES))
def test_the_index_serves_the_query(connection: sa.Connection, index: str) -> None:
    plan = plan_of(connection, QUERIES[index]())
    assert re.search(rf"\b{index}\b", plan), plan
    assert "Seq Scan" not in plan, plan


def plan_of(connection: sa.Connection, query: sa.Select[t.Any]) -> str:
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {str(compiled).replace('%', '%%')}").scalars())


QUOTAS: dict[str, tuple[Selection, set[str]]] = {
    "of an uploader": (
        {kind: {"uploaded_by": "user 7"} for kind in KINDS.values()},
        {f"ix_{kind.__tablename__}_uploader" for kind in KINDS.values()},
    ),
    "of a product": (
        of_owner("product", "owner 7"),
        {"ix_product_images_owner", "ix_media_storage_owner"},
    ),
    "of a course": (
        of_owner("course", "owner 7"),
        {"ix_course_videos_owner", "ix_course_resources_owner", "ix_media_storage_owner"},
    ),
    "of a user": (of_owner("user", "owner 7"), {"ix_media_storage_owner"}),
}


@pytest.mark.parametrize("whose", QUOTAS)
def test_quotas_are_summed_by_an_index(connection: sa.Connection, whose: str) -> None:
    """T45: they are summed at every upload."""
    selection, indexes = QUOTAS[whose]
    plan = plan_of(connection, select_stored_size(selection))
    assert set(re.findall(r"\b(?:ix|uq)_\w+", plan)) == indexes, plan
    assert "Seq Scan" not in plan, plan


def test_a_page_in_the_middle_of_a_list_starts_in_the_index(connection: sa.Connection) -> None:
    """The place to go on from is a condition of the index, so that a page costs the same however deep it is."""
    some = connection.scalars(sa.select(ProductImage.id).offset(ROWS // 2).limit(1)).one()
    query = _filled(*select_listing(Listing(ProductImage, {}, sort="access_count", after=(ROWS // 2, some), limit=20)))
    plan = plan_of(connection, query)
    assert re.search(r"Index Cond: \(ROW\(access_count, id\) >", plan), plan
    assert "Sort" not in plan, plan
