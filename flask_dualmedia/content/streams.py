"""Containers of film and sound besides MP4, and what is in them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

# Ogg: RFC 3533, and https://www.iana.org/assignments/media-types says which streams make it a film.
_OGG_FILM = (b"\x80theora", b"BBCD\0", b"\x01video\0", b"\x80daala", b"VP8 ", b"OVP80")
_OGG_SOUND = (
    b"\x01vorbis",
    b"OpusHead",
    b"Speex   ",
    b"\x7fFLAC",
    b"PCM     ",
    b"CELT    ",
    b"\x01audio\0",
)

# Matroska and WebM: RFC 8794, RFC 9559. Elements with their length marks.
EBML = b"\x1a\x45\xdf\xa3"
_DOCTYPE = 0x4282
_SEGMENT = 0x18538067
_TRACKS = 0x1654AE6B
_TRACK = 0xAE
_TRACK_TYPE = 0x83
_CLUSTER = 0x1F43B675
_FILM_TRACK, _SOUND_TRACK = 1, 2
_MATROSKA_NAMES = {b"webm": "webm", b"matroska": "matroska"}
_MAX_ELEMENTS = 256
"""Elements looked at in one. The smallest are two bytes: a head full of them takes seconds."""

Element = tuple[int, int, int]
"""Id of an EBML element, where its content begins, and where it ends."""

_UNKNOWN_SIZE = 1 << 62
"""A size that stands for everything up to the end of the file."""

# ASF, section 10.4: the types of streams, as GUIDs.
_ASF_FILM = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_ASF_SOUND = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")

_PACKETS = ((188, 0), (192, 4), (204, 0))
"""Sizes of packets of an MPEG transport stream, and where in one its first byte is.

Blu-ray puts a time in front.
"""


def sniff_ogg(head: bytes) -> str:
    """Tell film from sound by the pages that begin the streams.

    These pages all come first (RFC 3533, section 4).
    """
    first_packets: list[bytes] = []
    place = 0
    while head.startswith(b"OggS\0", place) and place + 27 <= len(head):
        is_first_page = head[place + 5] & 2
        if not is_first_page:
            break
        segment_count = head[place + 26]
        start = place + 27 + segment_count
        first_packets.append(head[start : start + 16])
        place = start + sum(head[place + 27 : start])

    if any(packet.startswith(_OGG_FILM) for packet in first_packets):
        return "video/ogg"
    if any(packet.startswith(_OGG_SOUND) for packet in first_packets):
        return "audio/ogg"
    return "application/ogg"


def sniff_asf(head: bytes) -> str:
    """Tell film from sound by the types of streams in the header.

    At most 64 KiB of the header are looked at.
    """
    start = head.ljust(24, b"\0")
    (size,) = struct.unpack_from("<Q", start, 16)
    header = head[: min(size, 65536)]
    if _ASF_FILM in header:
        return "video/x-ms-wmv"
    if _ASF_SOUND in header:
        return "audio/x-ms-wma"
    return "application/vnd.ms-asf"


def is_transport_stream(head: bytes) -> bool:
    """Tell whether each packet begins with its mark, at least three of them."""
    for size, start in _PACKETS:
        stop = start + 8 * size
        marks = head[start:stop:size]
        if len(marks) >= 3 and marks.count(0x47) == len(marks):
            return True
    return False


def sniff_matroska(head: bytes) -> str | None:
    """Tell WebM from Matroska by the header, and film from sound by the tracks.

    The tracks count as far as they are among these bytes.

    :return: ``None`` if the header is damaged, or names another format.
    """
    header = _element(head, 0, len(head))
    if header is None:
        return None
    _, start, end = header

    doctype = b""
    for name, content, stop in _elements(head, start, end):
        if name == _DOCTYPE:
            doctype = head[content:stop].rstrip(b"\0")
    container = _MATROSKA_NAMES.get(doctype)
    if container is None:
        return None

    tracks = _track_types(head, end)
    if _FILM_TRACK in tracks or _SOUND_TRACK not in tracks:
        return f"video/{container}"
    return f"audio/{container}"


def _track_types(head: bytes, start: int) -> set[int]:
    """Return the types of the tracks.

    :return: Empty if their list is not among these bytes. A list that ends behind them counts only
        if a film is in it already.
    """
    for name, segment, segment_end in _elements(head, start, len(head)):
        if name != _SEGMENT:
            continue
        for inner, tracks, tracks_end in _elements(head, segment, segment_end):
            if inner == _CLUSTER:
                return set()
            if inner == _TRACKS:
                types = _listed_track_types(head, tracks, tracks_end)
                is_certain = tracks_end <= len(head) or _FILM_TRACK in types
                return types if is_certain else set()
    return set()


def _listed_track_types(head: bytes, start: int, end: int) -> set[int]:
    """Return the types of tracks in a list, which may end behind these bytes."""
    types: set[int] = set()
    for name, track, track_end in _elements(head, start, end):
        if name != _TRACK:
            continue
        for field, content, stop in _elements(head, track, track_end):
            if field == _TRACK_TYPE and content < len(head) and stop == content + 1:
                types.add(head[content])
    return types


def _elements(head: bytes, start: int, end: int) -> Iterator[Element]:
    """Yield the elements up to an end that may be behind these bytes."""
    end = min(end, len(head))
    for _ in range(_MAX_ELEMENTS):
        element = _element(head, start, end)
        if element is None:
            return
        yield element
        start = element[2]


def _element(head: bytes, start: int, end: int) -> Element | None:
    """Read the element that begins at ``start``. It may end behind these bytes.

    :return: ``None`` if no element begins there, or its content begins behind ``end``.
    """
    if start >= end or not head[start]:
        return None
    id_length = 9 - head[start].bit_length()
    place = start + id_length
    if id_length > 4 or place >= end or not head[place]:
        return None
    size_length = 9 - head[place].bit_length()
    content = place + size_length
    if content > end:
        return None

    name = int.from_bytes(head[start:place])
    all_ones = (1 << 7 * size_length) - 1
    size = int.from_bytes(head[place:content]) & all_ones
    if size == all_ones:
        size = _UNKNOWN_SIZE
    return name, content, content + size


# MPEG audio (ISO/IEC 11172-3, 13818-3): bit rates in kbit/s by version and layer, sampling rates by
# version.
_BIT_RATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BIT_RATES[2, 1] = _BIT_RATES[2, 2]
_BIT_RATES |= {(0, layer): _BIT_RATES[2, layer] for layer in (1, 2, 3)}
_SAMPLE_RATES = {
    3: (44100, 48000, 32000),
    2: (22050, 24000, 16000),
    0: (11025, 12000, 8000),
}

_ID3 = re.compile(rb"ID3[\x02-\x04][\0-\x0f][\0-\xff][\0-\x7f]{4}", re.DOTALL)


def sniff_sound(head: bytes) -> str | None:
    """Recognize MP3 and AAC as they are broadcast, with and without a tag in front."""
    if _ID3.match(head):
        return _behind_tag(head)
    if not head.startswith(b"\xff"):
        return None
    if _is_adts(head):
        return "audio/aac"
    if _is_mpeg_audio(head):
        return "audio/mpeg"
    return None


def _behind_tag(head: bytes) -> str:
    """Tell what sound follows an ID3 tag. MP3 is the usual one, also where it is out of sight."""
    tag_size = 0
    for byte in head[6:10]:  # seven bits in each
        tag_size = tag_size << 7 | byte
    sound = head[10 + tag_size :]
    if sound.startswith(b"fLaC"):
        return "audio/flac"
    if _is_adts(sound):
        return "audio/aac"
    return "audio/mpeg"


def _is_mpeg_audio(head: bytes) -> bool:
    """Tell whether one frame follows another."""
    length = _frame_length(head)
    if length is None:
        return False
    if length >= len(head):
        return len(head) > 4
    return _frame_length(head[length : length + 4]) is not None


def _frame_length(frame: bytes) -> int | None:
    """Read from its first four bytes how long a frame of MPEG audio is."""
    if len(frame) < 4 or frame[:2] < b"\xff\xe0":  # the first 11 bits are set
        return None
    version = frame[1] >> 3 & 3
    layer = frame[1] >> 1 & 3
    rate = frame[2] >> 4
    sampling = frame[2] >> 2 & 3
    padding = frame[2] >> 1 & 1
    if version == 1 or layer == 0 or rate in (0, 15) or sampling == 3:
        return None

    bit_rates = _BIT_RATES[version, layer]
    bits = bit_rates[rate - 1] * 1000
    frequency = _SAMPLE_RATES[version][sampling]
    if layer == 3:
        return (12 * bits // frequency + padding) * 4
    samples = 144
    if layer == 1 and version != 3:
        samples = 72
    return samples * bits // frequency + padding


def _is_adts(head: bytes) -> bool:
    """Tell whether these are frames of AAC (ISO/IEC 13818-7, section 6.2), one behind another."""
    for _ in range(2):
        if len(head) < 7:
            return False
        has_mark = head[0] == 0xFF and head[1] & 0xF6 == 0xF0
        sampling = head[2] >> 2 & 15
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if not has_mark or sampling > 12 or length < 7:
            return False
        if length >= len(head):
            break
        head = head[length : length + 8]
    return True
