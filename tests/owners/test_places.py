"""New media goes behind the last, and becomes the main image where there is none, however many are
saved at once."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from flask_dualmedia import (
    InvalidMedia,
    MediaConflict,
    UnsupportedType,
    delete_media,
    failpoints,
    get_course_videos,
    get_product_images,
    save_course_video,
    save_product_image,
    save_product_images,
    update_media,
)
from flask_dualmedia.models import Media, ProductImage
from flask_dualmedia.signals import media_saved

from ..conftest import MakeApp
from ..samples import Owners, counting, mp4, png
from ..tools.proxy import Proxy

MIB = 1024 * 1024


def shown(owners: Owners) -> list[tuple[int, bool]]:
    return [(image.position, image.is_main_image) for image in get_product_images(owners.product)]


@pytest.mark.usefixtures("context")
def test_a_single_image_goes_behind_the_others(owners: Owners) -> None:
    sources: list[t.Any] = [png(), "https://cdn.example/a.jpg", png(comment=counting(2 * MIB))]
    first = save_product_image(owners.product, sources[0])
    for source in sources[1:]:
        save_product_image(owners.product, source)
    assert shown(owners) == [(0, True), (1, False), (2, False)]

    save_product_image(owners.product, png(), position=7)
    save_product_images(owners.product, [png(), "https://cdn.example/b.jpg"])
    save_product_images(owners.product, ["https://cdn.example/c.jpg", "https://cdn.example/d.jpg"])
    assert [position for position, _ in shown(owners)] == [0, 1, 2, 7, 8, 9, 10, 11]

    delete_media(ProductImage, first.id)
    assert save_product_image(owners.product, png(), is_main_image=False).is_main_image is False
    assert save_product_image(owners.product, png()).is_main_image is True
    with pytest.raises(MediaConflict):
        save_product_image(owners.product, png(), is_main_image=True)
    assert sum(is_main for _, is_main in shown(owners)) == 1


@pytest.mark.usefixtures("context")
def test_the_last_position_of_all_is_shared(owners: Owners) -> None:
    first = save_product_image(owners.product, png())
    update_media(ProductImage, first.id, position=2**31 - 1)
    assert save_product_image(owners.product, png()).position == 2**31 - 1
    _, last = save_product_images(owners.product, ["https://cdn.example/a.jpg"] * 2)
    assert last.position == 2**31 - 1


@pytest.mark.usefixtures("context")
def test_a_single_video_goes_behind_the_others_of_its_lesson(owners: Owners) -> None:
    saved = [
        save_course_video(owners.course, mp4(), lesson_id=lesson)
        for lesson in ("a", "a", "b", None, None)
    ]
    assert [video.position for video in saved] == [0, 1, 0, 2, 3]
    url = "https://cdn.example/a.mp4"
    assert save_course_video(owners.course, url, lesson_id="a", position=0).position == 0
    assert [video.position for video in get_course_videos(owners.course, lesson_id="a")] == [
        0,
        0,
        1,
    ]


def at_once(app: Flask, saves: list[t.Callable[[], t.Any]]) -> list[Media]:
    barrier = threading.Barrier(len(saves))

    def run(save: t.Callable[[], t.Any]) -> t.Any:
        with app.app_context():
            barrier.wait(30)
            return save()

    with ThreadPoolExecutor(len(saves)) as pool:
        return list(pool.map(run, saves))


def test_of_many_at_once_one_becomes_the_main_image(app: Flask, owners: Owners) -> None:
    """Small ones, large ones, URLs and several together. Those that end at the same moment may
    share a position."""
    sources: list[t.Any] = [png(), png(comment=counting(2 * MIB)), "https://cdn.example/a.jpg"] * 3
    saves: list[t.Callable[[], t.Any]] = [
        lambda source=source: save_product_image(owners.product, source) for source in sources
    ]
    saves.append(
        lambda: save_product_images(
            owners.product, ["https://cdn.example/b.jpg", "https://cdn.example/c.jpg"]
        )
    )
    saves.append(lambda: save_product_images(owners.product, [png(), "https://cdn.example/d.jpg"]))
    at_once(app, saves)
    with app.app_context():
        found = shown(owners)
        last = save_product_image(owners.product, png())
    assert len(found) == 13
    assert sum(is_main for _, is_main in found) == 1
    assert last.position == found[-1][0] + 1


def test_another_may_be_faster(app: Flask, owners: Owners) -> None:
    """A request makes another the main image between the look and the statement."""

    def save_main_image() -> None:
        save_product_image(owners.product, png(), is_main_image=True, position=0)

    for source in (png(), "https://cdn.example/a.jpg", png(comment=counting(2 * MIB))):
        with app.app_context():
            for image in get_product_images(owners.product):
                delete_media(ProductImage, image.id)
            with failpoints.on("place:main", save_main_image):
                assert save_product_image(owners.product, source).is_main_image is False
            assert shown(owners) == [(0, True), (1, False)]


def test_of_several_files_one_may_be_gone_when_another_is_refused(
    app: Flask, owners: Owners
) -> None:
    def delete(sender: Flask, record: Media) -> None:
        delete_media(ProductImage, record.id)

    with app.app_context(), media_saved.connected_to(delete, app), pytest.raises(UnsupportedType):
        save_product_images(owners.product, [png(), b"no image"])


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize(
    ("position", "positions"),
    [(3, [3, 4]), ("3", [3, 4]), (2**31 - 1, [2**31 - 1] * 2), (True, None), ("x", None)],
)
def test_several_urls_have_the_places_that_several_files_have(
    owners: Owners, position: t.Any, positions: list[int] | None
) -> None:
    for source in (png(), "https://cdn.example/a.jpg"):
        if positions is None:
            with pytest.raises(InvalidMedia, match="position"):
                save_product_images(
                    owners.product, [source] * 2, is_main_image=False, position=position
                )
            continue
        saved = save_product_images(
            owners.product, [source] * 2, is_main_image=False, position=position
        )
        assert [image.position for image in saved] == positions


def test_images_have_places_while_sql_is_down(make_proxied: MakeApp, proxy: Proxy) -> None:
    app = make_proxied(DUALMEDIA_REFERENCES={"product": None})
    with app.app_context():
        proxy.refuse()
        saved = [save_product_image("p", png()) for _ in range(2)]
        saved += save_product_images(
            "p", ["https://cdn.example/a.jpg", "https://cdn.example/b.jpg"]
        )
    assert [(image.position, image.is_main_image) for image in saved] == [
        (0, True),
        (1, False),
        (2, False),
        (3, False),
    ]
