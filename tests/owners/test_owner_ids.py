"""One document has one id, in whatever spelling requests name it."""

from __future__ import annotations

import hashlib
import io
import typing as t
import uuid

import pytest
from bson import Binary, ObjectId
from bson.binary import UuidRepresentation
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_dualmedia import (
    MediaConflict,
    MediaStorage,
    Owner,
    OwnerNotFound,
    ProductImage,
    QuotaExceeded,
    anyone_may_add,
    delete_media_of,
    failpoints,
    get_media,
    get_media_by_reference,
    get_media_stats,
    get_owner,
    get_product_images,
    save_media_storage,
    save_product_image,
    save_product_images,
)
from flask_dualmedia.authorization import is_usual
from flask_dualmedia.models import AVAILABLE, Media
from flask_dualmedia.state import State, get_state
from flask_dualmedia.testing import count_queries
from flask_dualmedia.upkeep.check import Checker

from ..conftest import MakeApp, StorageOptions
from ..samples import Tokens, Tus, encoded, part, png, post_form

HEX = ObjectId("abcdefabcdefabcdefabcdef")
UUID = uuid.UUID("abcdefab-1234-5678-1234-567812345678")

SPELLINGS: dict[t.Any, list[str]] = {
    HEX: ["ABCDEFABCDEFABCDEFABCDEF", "abcdefABCDEFabcdefABCDEF"],
    UUID: [
        "ABCDEFAB-1234-5678-1234-567812345678",
        "abcdefab123456781234567812345678",
        "{abcdefab-1234-5678-1234-567812345678}",
        "urn:uuid:abcdefab-1234-5678-1234-567812345678",
        "abcdefab1234-567812345678-12345678",
    ],
}

ALL = [
    (document_id, spelling)
    for document_id, spellings in SPELLINGS.items()
    for spelling in spellings
]


@pytest.fixture
def host(app: Flask) -> t.Iterator[Flask]:
    with app.app_context():
        for collection in ("products", "users"):
            get_state().mongo[collection].insert_many(
                {"_id": document_id} for document_id in SPELLINGS
            )
        yield app


def test_functions_keep_the_one_id(host: Flask) -> None:
    for document_id, spelling in ALL:
        for source in (io.BytesIO(png()), "https://cdn.example/a.png"):
            assert save_product_image(spelling, source).mongo_product_id == str(document_id), (
                spelling
            )
        both = save_product_images(
            spelling, ["https://cdn.example/b.png", "https://cdn.example/c.png"]
        )
        assert {image.mongo_product_id for image in both} == {str(document_id)}
        number = len(get_product_images(document_id))
        assert len(get_product_images(spelling)) == number
        assert get_media_stats("product", spelling).media == number
        file = save_media_storage("user", spelling, b"bytes")
        assert [one.id for one in get_media_by_reference("user", spelling)] == [file.id]
        assert delete_media_of("user", spelling) == 1
    assert Checker(get_state()).run().clean


def test_every_way_in_keeps_the_one_id(host: Flask, client: FlaskClient, tokens: Tokens) -> None:
    for document_id, spelling in ALL:
        names = {"mongoProductId": spelling}
        form = post_form(
            client, tokens.alice, "/media/product-images", {"file": part(png()), **names}
        )
        external = client.post(
            "/media/product-images",
            headers=tokens.alice,
            json=names | {"imageUrl": "https://cdn.example/a"},
        )
        tus = Tus(client, tokens.alice)
        metadata = encoded({"kind": "product-images", **names})
        resumed = tus.create(len(png()), png(), Upload_Metadata=metadata).headers[
            "Content-Location"
        ]
        made = [form.json, external.json, client.get(resumed, headers=tokens.alice).json]
        assert [(one or {})["mongoProductId"] for one in made] == [str(document_id)] * 3
        query = {"mongoProductId": spelling}
        listed = (
            client.get("/media/product-images", headers=tokens.alice, query_string=query).json or {}
        )
        usual = client.get(
            "/media/product-images",
            headers=tokens.alice,
            query_string={"mongoProductId": document_id},
        )
        assert listed["items"] == (usual.json or {})["items"] != []


def test_a_direct_upload_keeps_the_one_id(
    make_app: MakeApp, storage_options: StorageOptions
) -> None:
    app = make_app(
        "mongo", DUALMEDIA_STORAGES=storage_options("s3"), DUALMEDIA_DEFAULT_STORAGE="s3"
    )
    state, headers = get_state(app), Tokens.of(app).alice
    state.mongo["users"].insert_one({"_id": HEX})
    announced = {
        "filename": "a",
        "mimeType": "",
        "fileSize": 1,
        "checksum": hashlib.sha256(b"a").hexdigest(),
    }
    owner = {"referenceType": "user", "referenceId": str(HEX).upper()}
    begun = app.test_client().post(
        "/media/files/direct-uploads", headers=headers, json=announced | owner
    )
    record = state.repository.find(MediaStorage, uuid.UUID((begun.json or {})["id"]))
    assert record is not None
    assert record.reference_id == str(HEX)


def test_a_document_has_one_main_image_and_one_quota(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, DUALMEDIA_QUOTA_PER_OWNER=1000)
    with app.app_context():
        for name in ("products", "users"):
            get_state().mongo[name].insert_many({"_id": document_id} for document_id in SPELLINGS)
        for document_id, spellings in SPELLINGS.items():
            save_product_image(document_id, "https://cdn.example/a.png", is_main_image=True)
            save_media_storage("user", document_id, bytes(600))
            for spelling in spellings:
                with pytest.raises(MediaConflict):
                    save_product_image(spelling, "https://cdn.example/a.png", is_main_image=True)
                with pytest.raises(QuotaExceeded):
                    save_media_storage("user", spelling, bytes(600))


def test_the_rule_is_asked_about_the_one_id(make_app: MakeApp) -> None:
    asked = []

    def rule(action: str, subject: t.Any, identity: str | None, claims: t.Any) -> bool:
        if isinstance(subject, Owner):
            asked.append((subject.reference_id, get_owner(subject) is not None))
        return anyone_may_add(t.cast(t.Any, action), subject, identity, claims)

    app = make_app("mongo", DUALMEDIA_AUTHORIZE=rule)
    get_state(app).mongo["products"].insert_one({"_id": HEX})
    form = {"file": part(png()), "mongoProductId": str(HEX).upper()}
    alice = Tokens.of(app).alice
    created = post_form(app.test_client(), alice, "/media/product-images", form)
    assert created.status_code == 201
    assert asked == [(str(HEX), True)]


def test_a_document_that_the_request_has_read_by_another_spelling(host: Flask) -> None:
    with host.test_request_context():
        assert get_owner(Owner(ProductImage, "product", str(HEX).upper())) is not None
        image = save_product_image(str(HEX).upper(), "https://cdn.example/a")
        assert image.mongo_product_id == str(HEX)


def test_other_numbers_and_other_strings_are_other_ids(host: Flask) -> None:
    """An app may spell its own strings as it likes, also where documents have ids that look
    alike."""
    products = get_state().mongo["products"]
    products.insert_many([{"_id": 7}, {"_id": "ABCDEFABCDEFABCDEFABCDEF"}])
    for spelling in ("07", "+7", " 7", "7 ", "7.0", "\u0667", "ABCDEFABCDEFABCDEFABCDE"):
        with pytest.raises(OwnerNotFound):
            save_product_image(spelling, "https://cdn.example/a")
    upper = save_product_image("ABCDEFABCDEFABCDEFABCDEF", "https://cdn.example/a")
    lower = save_product_image(HEX, "https://cdn.example/a")
    assert upper.mongo_product_id == "ABCDEFABCDEFABCDEFABCDEF"
    assert lower.mongo_product_id == str(HEX)
    assert delete_media_of("product", "ABCDEFABCDEFABCDEFABCDEF") == 1
    assert [image.id for image in get_product_images(HEX)] == [lower.id]


def test_a_uuid_of_an_old_client_has_the_id_that_the_client_shows(
    make_app: MakeApp, mongo_uri: str
) -> None:
    joined = "&" if "?" in mongo_uri else "?"
    app = make_app("mongo", MONGO_URI=f"{mongo_uri}{joined}uuidRepresentation=javaLegacy")
    with app.app_context():
        kept = Binary.from_uuid(UUID, UuidRepresentation.JAVA_LEGACY)
        get_state().mongo["products"].insert_one({"_id": kept})
        others = [uuid.UUID(bytes=bytes(kept)), UUID, str(UUID).upper()]
        ids = {
            save_product_image(other, "https://cdn.example/a").mongo_product_id for other in others
        }
        assert ids == {str(UUID)}


def test_the_usual_spelling_costs_no_query_more(
    host: Flask, client: FlaskClient, tokens: Tokens
) -> None:
    names = {"imageUrl": "https://cdn.example/a"}
    numbers = []
    for document_id in (HEX, UUID):
        with count_queries(host) as queries:
            answer = client.post(
                "/media/product-images",
                headers=tokens.alice,
                json=names | {"mongoProductId": str(document_id)},
            )
            assert answer.status_code == 201
        numbers.append(len([query for query in queries.mongo if "products" in str(query)]))
        with count_queries(host) as queries:
            get_product_images(document_id)
        numbers.append(len([query for query in queries.mongo if "products" in str(query)]))
    assert numbers == [1, 0, 1, 0]


ENDS = [("", ""), ("{", "}"), ("urn:uuid:", ""), (" ", ""), ("", "\u200b"), ("0x", "")]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(list(SPELLINGS)),
    st.integers(0, 2**36 - 1),
    st.sampled_from(ENDS),
    st.booleans(),
)
def test_whatever_names_a_document_is_kept_as_its_one_id(
    host: Flask, document_id: t.Any, capitals: int, ends: tuple[str, str], hyphens: bool
) -> None:
    letters = [
        c.upper() if capitals >> place & 1 else c for place, c in enumerate(str(document_id))
    ]
    spelling = ends[0] + "".join(letters) + ends[1]
    try:
        saved = save_product_image(
            spelling if hyphens else spelling.replace("-", ""), "https://cdn.example/a"
        )
    except OwnerNotFound:
        return
    assert saved.mongo_product_id == str(document_id)
    assert is_usual(saved.mongo_product_id)


def misspell(state: State, record: Media, spelling: str) -> None:
    """Keep it as an earlier version did."""
    where = {"state": AVAILABLE, "version": record.version}
    assert state.repository.update(
        type(record), record.id, {record.owner_field: spelling}, where=where
    )


def test_check_finds_and_mends_what_was_kept_under_another_spelling(host: Flask) -> None:
    state = get_state()
    misspelled: list[tuple[Media, str]] = []
    for number, (document_id, spelling) in enumerate(ALL):
        image = save_product_image(document_id, png(comment=b"%d" % number))
        misspell(state, image, spelling)
        misspelled.append((image, str(document_id)))
    external = save_media_storage(
        "page", "ABCDEFABCDEFABCDEFABCDEF", "https://cdn.example/of/no/collection"
    )

    found = Checker(state).run()
    assert found.found == {"owner_misspelled": len(ALL)}
    assert {finding.subject for finding in found.findings} == {
        str(image.id) for image, _ in misspelled
    }
    assert Checker(state, repair=True).run().clean
    assert Checker(state).run().found == {}
    for image, owner_id in misspelled:
        mended = get_media(ProductImage, image.id)
        assert (mended.mongo_product_id, mended.checksum) == (owner_id, image.checksum)
    assert get_media(MediaStorage, external.id).reference_id == "ABCDEFABCDEFABCDEFABCDEF"
    assert len(get_product_images(HEX)) == len(SPELLINGS[HEX])


def test_a_second_main_image_that_is_mended_is_an_ordinary_one(host: Flask) -> None:
    state = get_state()
    hidden = save_product_image(HEX, "https://cdn.example/a", is_main_image=True)
    misspell(state, hidden, str(HEX).upper())
    seen = save_product_image(HEX, "https://cdn.example/b", is_main_image=True)
    assert Checker(state, repair=True).run().clean
    images = {image.id: image.is_main_image for image in get_product_images(HEX)}
    assert images == {hidden.id: False, seen.id: True}


def test_what_was_changed_since_it_was_found_is_left(host: Flask) -> None:
    state = get_state()
    image = save_product_image(HEX, "https://cdn.example/a")
    misspell(state, image, str(HEX).upper())

    def edit() -> None:
        current = get_media(ProductImage, image.id)
        where = {"state": AVAILABLE, "version": current.version}
        state.repository.update(ProductImage, image.id, {"alt_text": "edited"}, where=where)

    with failpoints.on("repair:looked", edit):
        report = Checker(state, repair=True).run()
    assert (report.clean, report.found) == (False, {"owner_misspelled": 1})
    assert Checker(state, repair=True).run().clean
    assert get_media(ProductImage, image.id).alt_text == "edited"
