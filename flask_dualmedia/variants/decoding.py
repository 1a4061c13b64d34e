"""Images as pixels: opened, checked before they are decoded, and decoded no larger than needed.

Pillow has readers for 40 formats, some of which start other programs. Here are those that browsers
show, and what cameras and scanners write.
"""

from __future__ import annotations

import itertools
import math
import struct
import typing as t
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ExifTags import Base as ExifTag

from .colors import resizable, to_srgb
from .failures import LimitExceeded, UndecodableMedia
from .sizes import Plan

_Reader = tuple[Callable[..., ImageFile.ImageFile], Callable[[bytes], t.Any]]
"""Opens an image, and tells by its first bytes whether it can."""

_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
_READERS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
"""Pillow's names of what the plugins read."""

_SCALED_WHILE_DECODED = ("JPEG", "MPO")
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")

_DRAFT_GAP = 1.25
"""How much larger a JPEG is decoded than its largest variant."""

_REDUCING_GAP = 1.5
"""How much larger an image is averaged roughly before it is resized with care."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image is made upright, by its EXIF orientation."""


_OF_DAMAGED_BYTES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
"""Whatever Pillow and its decoders raise. What else there is comes from elsewhere."""


class Pixels:
    """Decoded pixels, from which variants of several sizes are made.

    :param image: As :func:`~.colors.resizable` makes it, and not upright yet.
    :param size: Its width and height, in which it may have a fraction of its last pixels.
    :param orientation: By EXIF.
    :param profile: The ICC profile.
    """

    def __init__(
        self,
        image: Image.Image,
        size: tuple[float, float],
        orientation: int,
        profile: bytes | None,
    ) -> None:
        self._image = image
        self._size = size
        self._orientation = orientation
        self._profile = profile

    def variant(self, plan: Plan) -> Image.Image:
        """An upright image of the planned size in sRGB: ``L``, ``RGB`` or ``RGBA``."""
        size = (plan.width, plan.height)
        if self._orientation > 4:
            size = (plan.height, plan.width)
        image = self._image.resize(
            size,
            Image.Resampling.LANCZOS,
            box=self._box(plan),
            reducing_gap=_REDUCING_GAP,
        )
        image = to_srgb(image, self._profile)

        # Last, when there are few pixels left to turn.
        turn = _TURNS.get(self._orientation)
        if turn is not None:
            image = image.transpose(turn)
        image.info = {}  # where encoders look for profiles and comments
        return image

    def _box(self, plan: Plan) -> tuple[float, float, float, float]:
        """The planned part as edges in the image as it is stored."""
        width, height = self._size
        first = _stored(plan.left, plan.top, self._orientation)
        second = _stored(plan.right, plan.bottom, self._orientation)
        left, right = sorted((first[0], second[0]))
        top, bottom = sorted((first[1], second[1]))
        return (
            max(left * width, 0),
            max(top * height, 0),
            min(right * width, self._image.width),
            min(bottom * height, self._image.height),
        )


@contextmanager
def translated() -> Iterator[None]:
    """Raise :class:`UndecodableMedia` for what Pillow raises at bytes that are no image.

    Errors of the storage that the bytes are read from pass, and so does a lack of memory.
    """
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitExceeded(str(error)) from error
    except _OF_DAMAGED_BYTES as error:
        # Pillow's own errors have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UndecodableMedia(f"the image cannot be decoded: {error}") from error


@translated()
def open_image(source: t.BinaryIO, max_pixels: int | None) -> ImageFile.ImageFile:
    """Read what an image says about itself. Nothing is decoded.

    :param source: A seekable file.
    :param max_pixels: Limit of its width times its height.
    :raises LimitExceeded: It has more pixels.
    :raises UndecodableMedia: It is of no format that is read here.
    :raises MissingExtra: It is HEIC, and pillow-heif is not installed.
    """
    source.seek(0)
    head = source.read(32)
    for reader, accepts in _readers():
        # Where Pillow was built without a format it answers with a sentence.
        if accepts(head) is not True:
            continue
        source.seek(0)
        try:
            # Image.open() has a limit of its own, which is the same for a whole process.
            image = reader(source, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
        _check_pixels(image, max_pixels)
        return image
    raise UndecodableMedia("the bytes are no image of a format that is rendered")


@translated()
def is_animated(image: ImageFile.ImageFile) -> bool:
    """Whether an image has several frames that follow each other in time."""
    return image.format in _ANIMATED and getattr(image, "is_animated", False)


@translated()
def upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """The width and height of an image as it is shown.

    Decodes it, unless it is one that can be decoded smaller when it is known how small.
    """
    if image.format not in _SCALED_WHILE_DECODED:
        image.load()
    if _orientation(image) > 4:
        return image.height, image.width
    return image.size


def decode(
    image: ImageFile.ImageFile,
    plans: list[Plan],
    max_animation_pixels: int | None = None,
) -> Iterator[tuple[Pixels, int]]:
    """Decode an image, as large as the largest of its variants needs it.

    :param image: Is changed, and of no use afterwards.
    :param max_animation_pixels: Limit of the pixels of all frames together; ``None`` to decode the
        first one only.
    :return: Each frame, and for how many milliseconds it is shown.
    :raises LimitExceeded: The frames have more pixels.
    :raises UndecodableMedia: It is damaged, or ends too early.
    """
    if max_animation_pixels is None:
        yield _decode_still(image, plans), 0
    else:
        yield from _decode_frames(image, plans, max_animation_pixels)


@translated()
def _decode_still(image: ImageFile.ImageFile, plans: list[Plan]) -> Pixels:
    orientation = _orientation(image)
    scale = _largest_scale(image, plans, orientation)
    width, height = map(float, image.size)

    if image.format in _SCALED_WHILE_DECODED:
        # Before load(): afterwards all pixels are there, and it changes nothing.
        enough = min(scale * _DRAFT_GAP, 1)
        draft = image.draft(None, (math.ceil(width * enough), math.ceil(height * enough)))
        if draft is not None:
            width, height = draft[1][2:]
    image.load()
    return _reduced(image, (width, height), orientation, scale)


def _decode_frames(
    image: ImageFile.ImageFile,
    plans: list[Plan],
    max_pixels: int,
) -> Iterator[tuple[Pixels, int]]:
    pixels = image.width * image.height
    first = 0
    if getattr(image, "default_image", False):
        first = 1  # an APNG may begin with a still for those who know no animations
    if image.format != "GIF":  # which does not say how many it has before all of it was read
        _check_frames(getattr(image, "n_frames", 1), pixels, max_pixels)

    for number in itertools.count(first):
        _check_frames(number - first + 1, pixels, max_pixels)
        frame = _decode_frame(image, plans, number)
        if frame is None:
            return
        yield frame


@translated()
def _decode_frame(
    image: ImageFile.ImageFile,
    plans: list[Plan],
    number: int,
) -> tuple[Pixels, int] | None:
    """One frame of an animation; ``None`` behind the last one."""
    size = image.size
    try:
        image.seek(number)
    except EOFError:
        return None
    image.load()
    if image.size != size:
        raise UndecodableMedia("the frames of the animation differ in size")

    orientation = _orientation(image)
    scale = _largest_scale(image, plans, orientation)
    width, height = map(float, size)
    duration = round(image.info.get("duration", 100))
    return _reduced(image, (width, height), orientation, scale), duration


def loop_count(image: ImageFile.ImageFile) -> int:
    """How often an animation is shown; 0 for ever."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return loop or 0
    if loop is None:
        return 1
    return loop and loop + 1  # a GIF says how often it is repeated


def _check_pixels(image: ImageFile.ImageFile, max_pixels: int | None) -> None:
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise LimitExceeded(
            f"the image has {width} x {height} pixels; at most {max_pixels} in all are rendered"
        )


def _check_frames(frames: int, pixels: int, max_pixels: int) -> None:
    if frames * pixels > max_pixels:
        raise LimitExceeded(
            f"the animation has {frames} frames of {pixels} pixels or more; "
            f"at most {max_pixels} pixels in all are kept"
        )


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8.

    Browsers ignore that of XMP, for which Pillow looks too. In TIFF files Pillow sees to it itself.
    """
    data = image.info.get("exif")
    if not data:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = exif.get(ExifTag.Orientation, 1)
    except Exception:
        # Damaged EXIF data raises nearly anything. The picture may be whole.
        return 1
    if orientation in _TURNS:
        return orientation
    return 1


def _stored(x: float, y: float, orientation: int) -> tuple[float, float]:
    """Where a point of the upright image is in the image as it is stored."""
    if orientation > 4:
        x, y = y, x
    if orientation in (2, 3, 7, 8):
        x = 1 - x
    if orientation in (3, 4, 6, 7):
        y = 1 - y
    return x, y


def _largest_scale(image: ImageFile.ImageFile, plans: list[Plan], orientation: int) -> float:
    """The scale at which the largest variant shows an image, at most 1."""
    width, height = image.size
    if orientation > 4:
        width, height = height, width
    scale = 0.0
    for plan in plans:
        part_width = (plan.right - plan.left) * width
        part_height = (plan.bottom - plan.top) * height
        scale = max(scale, plan.width / part_width, plan.height / part_height)
    return min(scale, 1)


def _reduced(
    image: ImageFile.ImageFile,
    size: tuple[float, float],
    orientation: int,
    scale: float,
) -> Pixels:
    """Loaded pixels, averaged to as few as all variants can be made from."""
    width, height = size
    pixels = resizable(image)
    # In relation to the whole image, of which a draft has fewer pixels.
    factor = int(1 / (scale * _REDUCING_GAP))
    if factor > 1 and image.format not in _SCALED_WHILE_DECODED:
        pixels = pixels.reduce(factor)
        width /= factor
        height /= factor
    return Pixels(pixels, (width, height), orientation, image.info.get("icc_profile"))


@cache
def _readers() -> tuple[_Reader, ...]:
    readers: list[_Reader] = []
    for name in _READERS:
        reader, accepts = Image.OPEN[name]
        if accepts is not None:
            readers.append((reader, accepts))
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        readers.append((_refuse_heif, _is_heif))
    else:
        readers.append((HeifImageFile, _is_heif))
    return tuple(readers)


def _refuse_heif(*_: object) -> t.NoReturn:
    from ..errors import MissingExtra

    raise MissingExtra("rendering HEIC images", "heif")


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
