"""Threads decode together as much as the budget allows, in the order in which they came."""

from __future__ import annotations

import io
import os
import threading
from contextlib import ExitStack

import pytest

from flask_dualmedia.variants.budget import PixelBudget, RendererBusy, weighted
from flask_dualmedia.variants.failures import UndecodableMedia
from flask_dualmedia.variants.images import render

from ..waiting import eventually
from .pictures import quadrants, recipe, saved


class Worker(threading.Thread):
    """Has a part of a budget until it is told to give it back."""

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        super().__init__(daemon=True)
        self._budget = budget
        self._pixels = pixels
        self._done = threading.Event()
        self.is_at_work = threading.Event()
        self.start()

    def run(self) -> None:
        with self._budget.taken(self._pixels):
            self.is_at_work.set()
            self._done.wait(10)

    def finish(self) -> None:
        self._done.set()
        self.join(10)


def is_free(budget: PixelBudget, pixels: int) -> bool:
    try:
        with budget.taken(pixels, timeout=0):
            return True
    except RendererBusy:
        return False


def test_images_that_fit_are_decoded_together() -> None:
    budget = PixelBudget(10)
    first, second = Worker(budget, 6), Worker(budget, 4)
    assert first.is_at_work.wait(10)
    assert second.is_at_work.wait(10)
    assert not is_free(budget, 1)

    first.finish()
    assert is_free(budget, 6)
    second.finish()
    assert is_free(budget, 10)


def test_a_large_image_is_not_overtaken() -> None:
    budget = PixelBudget(10)
    running = Worker(budget, 8)
    assert running.is_at_work.wait(10)
    assert is_free(budget, 1)

    large = Worker(budget, 9)
    eventually(lambda: not is_free(budget, 1), pause=0.001)
    assert not large.is_at_work.is_set()

    running.finish()
    assert large.is_at_work.wait(10)
    assert is_free(budget, 1)
    large.finish()


def test_an_image_larger_than_the_budget_is_decoded_alone() -> None:
    budget = PixelBudget(10)
    small = Worker(budget, 1)
    assert small.is_at_work.wait(10)
    huge = Worker(budget, 500)
    eventually(lambda: not is_free(budget, 1), pause=0.001)
    assert not huge.is_at_work.is_set()

    small.finish()
    assert huge.is_at_work.wait(10)
    assert not is_free(budget, 1)
    huge.finish()
    assert is_free(budget, 10)


def test_many_threads_never_decode_more_than_the_budget() -> None:
    budget = PixelBudget(10)
    running: list[int] = []
    most = []

    def work(pixels: int) -> None:
        for _ in range(20):
            with budget.taken(pixels):
                running.append(pixels)
                most.append(sum(running))
                running.remove(pixels)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (1, 2, 3, 4, 5, 6, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 140
    assert max(most) <= 10


def test_who_waits_too_long_is_told_to_come_again() -> None:
    budget = PixelBudget(10)
    with budget.taken(10), pytest.raises(RendererBusy) as caught:
        render(io.BytesIO(saved(quadrants(), "PNG")), [recipe()], budget=budget, timeout=0.01)
    assert caught.value.code == 503
    assert caught.value.retry_after == 1


def test_a_failed_image_gives_its_part_back() -> None:
    budget = PixelBudget(10)
    content = saved(quadrants(), "PNG")
    with pytest.raises(UndecodableMedia):
        render(io.BytesIO(content[:-200]), [recipe()], budget=budget)
    assert is_free(budget, 10)


def test_formats_count_by_what_they_cost() -> None:
    assert weighted("JPEG", 100) == 100
    assert weighted("PNG", 100) == 300
    for name in ("WEBP", "AVIF", "HEIF", "GIF", None):
        assert weighted(name, 100) == 400


def test_a_forked_process_has_a_budget_of_its_own() -> None:
    budget = PixelBudget(10)
    worker = Worker(budget, 10)
    assert worker.is_at_work.wait(10)
    with ExitStack() as stack:
        stack.callback(worker.finish)
        child = os.fork()
        if not child:
            os._exit(not is_free(budget, 10))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not is_free(budget, 1)
    assert is_free(budget, 10)
