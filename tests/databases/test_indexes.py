"""Each of the indexes serves a query that we ship, and no list reads what its reader may not
see."""

from __future__ import annotations

import itertools
import json
import random
import re
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from flask_dualmedia.models import (
    AVAILABLE,
    KINDS,
    CourseResource,
    CourseVideo,
    Media,
    MediaRecord,
    MediaStorage,
    MediaVariant,
    ProductImage,
    now,
)
from flask_dualmedia.quotas import of_owner
from flask_dualmedia.repositories.base import Listing, Selection
from flask_dualmedia.repositories.statements import (
    select_announced,
    select_derived_size,
    select_listing,
    select_of_owners,
    select_stored_size,
    select_unfinished,
    select_variant,
    select_variants,
    select_with_variant,
)

from ..conftest import Databases, MakeApp, unique
from ..repositories.test_repositories import REQUIRED
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
            _copy_rows(connection, kind, _rows(kind))
            connection.exec_driver_sql(f"ANALYZE {kind.__tablename__}")
        yield connection
    databases.drop_all()


def _copy_rows(
    connection: sa.Connection,
    kind: type[MediaRecord],
    rows: Iterable[dict[str, t.Any]],
) -> None:
    """Insert by COPY: single inserts take several times as long."""
    names = kind.field_names()
    cursor: t.Any = connection.connection.cursor()
    with cursor.copy(f"COPY {kind.__tablename__} ({', '.join(names)}) FROM STDIN") as copy:
        for values in rows:
            copy.write_row([values[name] for name in names])


def _rows(kind: type[Media]) -> Iterator[dict[str, t.Any]]:
    types = ("image", "video", "document", "audio")
    for n in range(ROWS):
        record = kind.new(
            **REQUIRED[kind.kind] | {"storage_type": "external", "uploaded_by": f"user {n % 500}"}
        )
        values = record.values() | {
            kind.owner_field: f"owner {n % OWNERS}",
            "access_count": n * 7919 % ROWS,
        }
        values["state"] = "pending" if n % 1000 == 0 else AVAILABLE
        if "mongo_lesson_id" in values:
            values["mongo_lesson_id"] = f"lesson {n % 3000}"
        values["is_public"] = n % 3 == 0
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
    "uq_product_images_main": _page(
        ProductImage, {"mongo_product_id": "owner 7", "is_main_image": True}
    ),
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


def _seen(kind: type[Media], where: dict[str, t.Any], sort: str = "id") -> Query:
    return _page(kind, where, sort, visible_to="user 7")


KEYS: dict[str, tuple[type[Media], dict[str, t.Any], str]] = {
    "product_images_{}_owner": (ProductImage, {"mongo_product_id": "owner 7"}, "position"),
    "product_images_{}_accessed": (ProductImage, {}, "access_count"),
    "course_videos_{}_owner": (CourseVideo, {"mongo_course_id": "owner 7"}, "position"),
    "course_videos_{}_lesson": (CourseVideo, {"mongo_lesson_id": "lesson 7"}, "position"),
    "course_resources_{}_owner": (CourseResource, {"mongo_course_id": "owner 7"}, "id"),
    "course_resources_{}_lesson": (CourseResource, {"mongo_lesson_id": "lesson 7"}, "id"),
    "media_storage_{}_owner": (
        MediaStorage,
        {"reference_type": "user", "reference_id": "owner 7"},
        "id",
    ),
    "media_storage_{}_type": (MediaStorage, {"media_type": "image"}, "id"),
    "media_storage_{}_accessed": (MediaStorage, {}, "access_count"),
    **{f"{kind.__tablename__}_{{}}": (kind, {}, "id") for kind in KINDS.values()},
}
"""By the name of an index of what readers may see, with a gap for whether it is public: the list
that it serves."""

for _name, _list in KEYS.items():
    _scopes = ("public",) if _name.endswith(("_accessed", "_type")) else ("public", "private")
    QUERIES |= {f"ix_{_name.format(scope)}": _seen(*_list) for scope in _scopes}
for _kind in KINDS.values():
    QUERIES[f"ix_{_kind.__tablename__}_public_uploader"] = _seen(_kind, {"uploaded_by": "user 8"})


def test_every_index_has_its_query() -> None:
    assert set(QUERIES) == set[str]().union(*INDEXES.values())


@pytest.mark.parametrize("index", sorted(QUERIES))
def test_the_index_serves_the_query(connection: sa.Connection, index: str) -> None:
    plan = plan_of(connection, QUERIES[index]())
    assert re.search(rf"\b{index}\b", plan), plan
    assert "Seq Scan" not in plan, plan


def plan_of(connection: sa.Connection, query: sa.Select[t.Any]) -> str:
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    return "\n".join(
        connection.exec_driver_sql(f"EXPLAIN {str(compiled).replace('%', '%%')}").scalars()
    )


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
    """Quotas are summed at every upload."""
    selection, indexes = QUOTAS[whose]
    plan = plan_of(connection, select_stored_size(selection))
    assert set(re.findall(r"\b(?:ix|uq)_\w+", plan)) == indexes, plan
    assert "Seq Scan" not in plan, plan


def test_variants_are_found_by_an_index(connection: sa.Connection) -> None:
    originals = [*connection.scalars(sa.select(ProductImage.id).limit(OWNERS))]
    rows = []
    for number, media_id in enumerate(originals * 5):
        variant = MediaVariant.new(
            state=AVAILABLE, storage_type="database", media_kind="product-images",
            media_id=media_id, source_key="source", name="card", recipe=f"{number // OWNERS}",
        )  # fmt: skip
        rows.append(variant.values())
    _copy_rows(connection, MediaVariant, rows)
    connection.exec_driver_sql("ANALYZE media_variants")

    one = {"media_id": originals[7], "source_key": "source", "name": "card", "recipe": "1"}
    some = {"ids": originals[:3]}
    queries = {
        "uq_media_variants_recipe": [
            select_variant().params({f"{name}_": value for name, value in one.items()}),
            select_with_variant(ProductImage, 1000).params(one | {"id": originals[7]}),
        ],
        "ix_media_variants_original": [
            select_variants(as_array=False).params(some),
            select_derived_size(as_array=False).params(some),
        ],
        "ix_media_variants_unfinished": [select_unfinished(MediaVariant, now(), 100)],
    }
    for index, served in queries.items():
        for query in served:
            plan = plan_of(connection, query)
            assert index in plan, plan
            assert "Seq Scan" not in plan, plan


def test_announced_uploads_are_counted_by_an_index(connection: sa.Connection) -> None:
    given = {"uploaded_by": "user 7", "since": now(), "but": uuid.uuid4()}
    plan = plan_of(connection, select_announced().params(given))
    assert "Seq Scan" not in plan, plan
    assert len(re.findall(r"\bix_\w+_(?:unfinished|uploader)\b", plan)) >= len(KINDS), plan


def test_a_page_in_the_middle_of_a_list_starts_in_the_index(connection: sa.Connection) -> None:
    """The place to go on from is a condition of the index, so that a page costs the same however
    deep it is."""
    some = connection.scalars(sa.select(ProductImage.id).offset(ROWS // 2).limit(1)).one()
    query = _filled(
        *select_listing(
            Listing(ProductImage, {}, sort="access_count", after=(ROWS // 2, some), limit=20)
        )
    )
    plan = plan_of(connection, query)
    assert re.search(r"Index Cond: \(ROW\(access_count, id\) >", plan), plan
    assert "Sort" not in plan, plan


# Lists, and many records that their reader may not see

READER = "reader"
CROWD = "crowd"
"""Uploader of what the reader may not see."""

HIDDEN = 20_000
VISIBLE = 3_000
PAGE = 20

FILTERS: dict[type[Media], list[dict[str, t.Any]]] = {
    ProductImage: [
        {},
        {"mongo_product_id": "busy"},
        {"is_main_image": False},
        {"is_main_image": True},
    ],
    CourseVideo: [
        {},
        {"mongo_course_id": "busy"},
        {"mongo_lesson_id": "busy"},
        {"video_type": "intro"},
    ],
    CourseResource: [
        {},
        {"mongo_course_id": "busy"},
        {"mongo_lesson_id": "busy"},
        {"resource_type": "code"},
    ],
    MediaStorage: [
        {},
        {"reference_type": "user", "reference_id": "busy"},
        {"reference_type": "user"},
        {"media_type": "audio"},
    ],
}
"""Fields that routes filter by, with the values that most of the hidden records have. All of them
are combined."""

IN_ORDER = {
    (ProductImage, ()): {"id"},
    (ProductImage, ("mongo_product_id",)): {"position"},
    (CourseVideo, ()): {"id"},
    (CourseVideo, ("mongo_course_id",)): {"position"},
    (CourseVideo, ("mongo_lesson_id",)): {"position"},
    (CourseResource, ()): {"id"},
    (CourseResource, ("mongo_course_id",)): {"id"},
    (CourseResource, ("mongo_lesson_id",)): {"id"},
    (MediaStorage, ()): {"id"},
    (MediaStorage, ("reference_type", "reference_id")): {"id"},
}
"""The sort orders of lists that are read in order from indexes, so that a page costs the same
however much is behind it. In other orders what the reader has uploaded is sorted, or all that the
reader may see."""


def _crowded_rows(kind: type[Media], number: int, **fields: t.Any) -> Iterator[dict[str, t.Any]]:
    """Records of which most have the values that lists are filtered by."""
    chance = random.Random(number)
    common = {name: value for where in FILTERS[kind] for name, value in where.items()}
    common["is_main_image"] = False
    for n in range(number):
        record = kind.new(
            **REQUIRED[kind.kind] | {"storage_type": "external", "state": AVAILABLE} | fields
        )
        values = record.values() | {"access_count": chance.randrange(50)}
        if n % 10:
            values |= {name: value for name, value in common.items() if name in values}
        if "position" in values:
            values["position"] = chance.randrange(50)
        yield values


@pytest.fixture(scope="module")
def crowded(servers: t.Any, template_database: str) -> Iterator[dict[str, sa.Connection]]:
    """Two databases in which nearly everything is hidden: in one the planner knows it, in the other
    it came since the planner has looked."""
    databases = Databases(servers.postgres)
    names = unique("crowded"), unique("crowded")

    def connect(url: sa.URL) -> sa.Connection:
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()

    with connect(databases.create(names[0], template=template_database)) as connection:
        for kind in KINDS.values():
            table = kind.__tablename__
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
            _copy_rows(
                connection,
                kind,
                _crowded_rows(kind, VISIBLE // 3 * 2, is_public=True, uploaded_by="you"),
            )
            _copy_rows(
                connection,
                kind,
                _crowded_rows(kind, VISIBLE // 6, is_public=True, uploaded_by=READER),
            )
            _copy_rows(connection, kind, _crowded_rows(kind, VISIBLE // 6, uploaded_by=READER))
            connection.exec_driver_sql(f"ANALYZE {table}")
            _copy_rows(connection, kind, _crowded_rows(kind, HIDDEN, uploaded_by=CROWD))
    known = connect(databases.create(names[1], template=names[0]))
    for kind in KINDS.values():
        known.exec_driver_sql(f"ANALYZE {kind.__tablename__}")
    with known, connect(servers.postgres.set(database=names[0])) as surprised:
        yield {"known": known, "surprised": surprised}
    databases.drop_all()


def _combinations(kind: type[Media]) -> Iterator[Listing[t.Any]]:
    """Every list that the routes offer."""
    wheres = [one | another for one in FILTERS[kind] for another in FILTERS[kind]]
    wheres += [
        where | {"uploaded_by": name} for where in FILTERS[kind] for name in (READER, CROWD, "you")
    ]
    sorts = [sort for sort in ("id", "position", "access_count") if sort in kind.field_names()]
    unique_wheres = {tuple(sorted(where.items())): where for where in wheres}
    places = {
        "id": (None, kind.new().id),
        "position": (25, uuid.UUID(int=0)),
        "access_count": (25, uuid.UUID(int=0)),
    }
    for where in unique_wheres.values():
        for sort in sorts:
            for descending in (False, True):
                for after in (None, places[sort]):
                    yield Listing(kind, where, READER, sort, descending, after, PAGE)


def _nodes(plan: dict[str, t.Any]) -> Iterator[dict[str, t.Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _examined(node: dict[str, t.Any]) -> float:
    """The rows that a node of a plan has read from the table."""
    if "Relation Name" not in node:
        return 0
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + dropped) * node["Actual Loops"]


def _analyze(connection: sa.Connection, listing: Listing[t.Any]) -> dict[str, t.Any]:
    compiled = _filled(*select_listing(listing)).compile(
        connection, compile_kwargs={"literal_binds": True}
    )
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {str(compiled).replace('%', '%%')}"
    found = connection.exec_driver_sql(query).scalar_one()
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


@pytest.mark.long
@pytest.mark.parametrize("planner", ["known", "surprised"])
@pytest.mark.parametrize("kind", KINDS.values())
def test_a_list_reads_nothing_that_its_reader_may_not_see(
    crowded: dict[str, sa.Connection], kind: type[Media], planner: str
) -> None:
    for listing in _combinations(kind):
        plan = _analyze(crowded[planner], listing)
        about = f"{listing}\n{json.dumps(plan, indent=1)}"
        nodes = [*_nodes(plan)]
        assert all(node["Node Type"] != "Seq Scan" for node in nodes), about
        assert sum(map(_examined, nodes)) <= VISIBLE, about
        if listing.sort in IN_ORDER.get((kind, tuple(listing.where)), ()):
            assert sum(map(_examined, nodes)) <= 3 * PAGE, about


@pytest.mark.parametrize("kind", KINDS.values())
def test_stats_read_nothing_that_their_reader_may_not_see(
    crowded: dict[str, sa.Connection], kind: type[Media]
) -> None:
    """They list all that the reader may see of one document."""
    where = FILTERS[kind][1]
    plan = _analyze(crowded["known"], Listing(kind, where, READER))
    assert sum(map(_examined, _nodes(plan))) <= VISIBLE, json.dumps(plan, indent=1)


@pytest.mark.long
def test_each_look_of_a_list_in_mongodb_begins_an_index_with_what_its_reader_may_see(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index serves a look whose filter has its first fields. Of what other people added it then
    reads nothing."""
    repository = make_app("mongo").extensions["dualmedia"].repository
    repository.ensure_indexes()
    looks: list[dict[str, t.Any]] = []
    find = repository._find

    def noted(kind: type[Media], where: dict[str, t.Any], *rest: t.Any) -> list[Media]:
        looks.append(where)
        return find(kind, where, *rest)

    monkeypatch.setattr(repository, "_find", noted)
    for kind in KINDS.values():
        indexes = repository._collection(kind).index_information().values()
        for listing in _combinations(kind):
            looks.clear()
            repository.select(listing)
            assert looks
            for where in looks:
                fixed = {name for name, value in where.items() if not isinstance(value, dict)}
                begun = [
                    {*itertools.takewhile(fixed.__contains__, index)}
                    for index in map(_names, indexes)
                ]
                assert any({"is_public", "uploaded_by"} & names for names in begun), (
                    listing,
                    where,
                )


def _names(index: dict[str, t.Any]) -> list[str]:
    return [name for name, _ in index["key"]]
