"""The renderer of an app: images small enough in its own process, larger ones in a jail."""

from __future__ import annotations

import io
import threading
import typing as t
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..databases.clock import elapsed
from ..processes.forks import begin_in_children, notice_fork
from ..storages.stored import Stored
from . import jail
from .budget import PixelBudget
from .failures import ProcessingError
from .images import MAX_ANIMATION_PIXELS, arguments_for, render, weigh
from .ranges import RangeFile
from .recipes import Recipe

JAIL_PIXELS = 32_000_000
"""Weighted pixels of an image up to which it is decoded in the process of the app: a JPEG of most
phones."""

_REMEMBERED = 1000
"""Failures that a process remembers."""

_FORGOTTEN_AFTER = 60.0
"""Seconds until something is tried again that may end in another way."""


@dataclass(frozen=True)
class RenderLimits:
    """The limits that the host sets."""

    pixels: int
    """Weighted pixels that the process decodes at a time."""
    jail_pixels: int
    """Weighted pixels of an image up to which it is decoded in the process of the app."""
    seconds: float
    """For one image in the jail."""
    memory: int
    """Bytes for one image in the jail."""


class Rendered(t.NamedTuple):
    """One variant, and what else was learnt about its original."""

    content: bytes
    width: int
    height: int
    placeholder: str
    """A data URI of the whole picture, 16 pixels wide or high."""
    color: str
    """The mean colour as ``#rrggbb``."""


class StoredSource:
    """The bytes of an original, any range of which a decoder can read."""

    def __init__(self, original: Stored) -> None:
        self._original = original

    @property
    def size(self) -> int:
        return self._original.size

    def read(self, start: int, stop: int) -> bytes:
        return b"".join(self._original.open(start, stop))

    def file(self) -> t.BinaryIO:
        """The same bytes as a seekable file."""
        return t.cast("t.BinaryIO", io.BufferedReader(RangeFile(self.size, self.read)))


class Renderer:
    """Renders images, as many at a time as the process has memory for.

    It remembers what could not be rendered, so that nobody decodes it at each request.
    """

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._budget = PixelBudget(limits.pixels)
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Have a lock of its own in a forked process."""
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, str], tuple[ProcessingError, float]] = OrderedDict()

    def render(self, original: Stored, recipe: Recipe, max_pixels: int | None) -> Rendered:
        """Make one variant.

        :param max_pixels: Limit of the width times the height of the original.
        :raises ProcessingError: Nothing can be made of it. Only the first call takes the time to
            find that out.
        :raises RendererBusy: Other images were being decoded for as long as one may wait.
        :raises MissingExtra: Pillow is not installed, or for HEIC pillow-heif.
        """
        with self._remembering(original, recipe):
            source = StoredSource(original)
            file = source.file()
            weight = weigh(file, [recipe], max_pixels=max_pixels)
            if weight <= self._limits.jail_pixels:
                return self._render_here(file, recipe, max_pixels)
            with self._budget.taken(weight):
                return self._render_in_jail(source, recipe, max_pixels)

    def _render_here(
        self,
        file: t.BinaryIO,
        recipe: Recipe,
        max_pixels: int | None,
    ) -> Rendered:
        result = render(file, [recipe], max_pixels=max_pixels, budget=self._budget)
        (image,) = result.images
        return Rendered(
            image.content,
            image.width,
            image.height,
            result.placeholder,
            result.color,
        )

    def _render_in_jail(
        self,
        source: StoredSource,
        recipe: Recipe,
        max_pixels: int | None,
    ) -> Rendered:
        arguments = arguments_for(
            [recipe],
            max_pixels=max_pixels,
            max_animation_pixels=MAX_ANIMATION_PIXELS,
        )
        limits = jail.Limits(
            seconds=self._limits.seconds,
            cpu_seconds=max(1, round(self._limits.seconds)),
            memory=self._limits.memory,
        )
        content = io.BytesIO()
        result = jail.run("render", arguments, source, {recipe.path: content}, limits)
        (image,) = result["images"]
        return Rendered(
            content.getvalue(),
            image["width"],
            image["height"],
            result["placeholder"],
            result["color"],
        )

    @contextmanager
    def _remembering(self, original: Stored, recipe: Recipe) -> Iterator[None]:
        """Raise the failure of earlier at once, and remember a new one.

        Keys are immutable: the same bytes fail in the same way.
        """
        notice_fork()
        name = (original.key, recipe.digest)
        with self._lock:
            failure, until = self._failures.get(name, (None, 0.0))
        if failure is not None and (failure.permanent or elapsed() < until):
            raise type(failure)(*failure.args)

        try:
            yield
        except ProcessingError as error:
            with self._lock:
                self._failures[name] = (error, elapsed() + _FORGOTTEN_AFTER)
                self._failures.move_to_end(name)
                if len(self._failures) > _REMEMBERED:
                    self._failures.popitem(last=False)
            raise
