"""ICC profiles, made here: of a display with wide colours, and of a printing press."""

from __future__ import annotations

import io
import itertools
import struct

from PIL import Image, ImageCms

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

# Display P3 under D50, as ICC has it.
_PRIMARIES = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}

PRESS_RED = (220, 30, 30)
"""The colour of magenta and yellow together on the press of :func:`press`."""


def display_p3() -> bytes:
    """The profile of sRGB with the primaries of Display P3, whose curve is the same."""
    profile = bytearray(_SRGB.tobytes())
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name in _PRIMARIES:
            struct.pack_into(">3i", profile, offset + 8, *map(_fixed, _PRIMARIES[name]))
    name = "sRGB".encode("utf-16-be")
    return bytes(profile).replace(name, "wide".encode("utf-16-be"))


def in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """An image in sRGB with the values that it has in a profile of RGB."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, _SRGB, target)
    assert converted is not None
    return converted


def press() -> bytes:
    """The profile of a press whose inks are duller than those that computers take for granted."""
    colors = Image.new("RGB", (16, 1))
    for number, inks in enumerate(itertools.product((0, 1), repeat=4)):
        colors.putpixel((number, 0), _printed(*inks))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    table = ImageCms.profileToProfile(colors, _SRGB, lab, outputMode="LAB")
    assert table is not None

    identity = struct.pack(">9i", *map(_fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    curve = bytes(range(256))
    lookup = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + identity
    lookup += 4 * curve + _as_icc(table.tobytes()) + 3 * curve
    lookup += bytes(-len(lookup) % 4)
    white = struct.pack(">4s4x3i", b"XYZ ", *map(_fixed, (0.9642, 1.0, 0.8249)))

    begin = 128 + 4 + 2 * 12
    tags = struct.pack(">I", 2)
    tags += struct.pack(">4sII", b"A2B0", begin, len(lookup))
    tags += struct.pack(">4sII", b"wtpt", begin + len(lookup), len(white))
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        begin + len(lookup) + len(white),
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"acsp",
        *map(_fixed, (0.9642, 1.0, 0.8249)),
    )
    return header + tags + lookup + white


def _printed(cyan: int, magenta: int, yellow: int, black: int) -> tuple[int, int, int]:
    """The colour of full inks on paper."""
    if black:
        return (30, 28, 28)
    if (cyan, magenta, yellow) == (0, 1, 1):
        return PRESS_RED
    return (245 - 200 * cyan, 245 - 190 * magenta, 240 - 180 * yellow)


def _as_icc(values: bytes) -> bytes:
    """Values of Pillow's mode LAB as ICC has them: a and b count from -128."""
    lightness, a, b = values[0::3], values[1::3], values[2::3]
    shifted = bytes(range(128, 256)) + bytes(range(128))
    triples = zip(lightness, a.translate(shifted), b.translate(shifted), strict=True)
    return bytes(itertools.chain.from_iterable(triples))


def _fixed(number: float) -> int:
    return round(number * 65536)
