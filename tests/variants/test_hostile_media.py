"""Files that want something of their reader: other files, servers, memory, or its life."""

from __future__ import annotations

import os
import random
import socket
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_dualmedia.variants import jail
from flask_dualmedia.variants.audio import waveform
from flask_dualmedia.variants.failures import (
    LimitExceeded,
    ProcessingError,
    UndecodableMedia,
    UnsupportedCodec,
)
from flask_dualmedia.variants.jail import Limits
from flask_dualmedia.variants.streams import short
from flask_dualmedia.variants.video import poster, probe

from . import clips
from .calls import Bytes, Outputs, call

RENDITION = {"name": "180", "width": 320, "height": 180}

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        yield listening
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.fixture
def playlists(
    server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """Lists of a file beside them, of a file by its path, and of a server."""
    neighbour = tmp_path / "neighbour.mp4"
    neighbour.write_bytes(clips.plain())
    monkeypatch.chdir(tmp_path)
    url = f"http://127.0.0.1:{server.getsockname()[1]}/leak.ts"
    header = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n"
    lists = {
        "concat": "ffconcat version 1.0\nfile neighbour.mp4\n",
        "hls of a server": f"{header}{url}\n#EXT-X-ENDLIST\n",
        "hls of a file": f"{header}{neighbour}\n#EXT-X-ENDLIST\n",
        "hls of a neighbour": f"{header}neighbour.mp4\n#EXT-X-ENDLIST\n",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{url}</BaseURL></MPD>',
        "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }
    return {name: text.encode() for name, text in lists.items()}


@pytest.mark.parametrize(
    "name", ["concat", "hls of a server", "hls of a file", "hls of a neighbour", "dash", "sdp"]
)
@pytest.mark.parametrize("task", [probe, poster, waveform])
def test_a_list_of_other_files_opens_none_of_them(
    playlists: dict[str, bytes], name: str, task: t.Any
) -> None:
    with pytest.raises(UndecodableMedia):
        call(task, playlists[name])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        random.Random(1).randbytes(100_000),
        b"<!doctype html><title>no video</title>",
        SVG,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=["empty", "zero", "random", "html", "svg", "png", "mp4", "avi", "webm"],
)
@pytest.mark.parametrize("task", [probe, poster, waveform])
def test_what_is_no_video_is_undecodable(content: bytes, task: t.Any) -> None:
    with pytest.raises((UndecodableMedia, UnsupportedCodec)):
        call(task, content)


def test_a_video_that_is_cut_off_is_undecodable() -> None:
    for part in (2, 10):
        with pytest.raises(UndecodableMedia):
            call(probe, clips.plain()[: len(clips.plain()) // part])


def test_damaged_videos_are_done_or_fail_with_a_code() -> None:
    _try_damaged(range(12))


@pytest.mark.long
def test_thousands_of_damaged_videos_are_done_or_fail_with_a_code() -> None:
    _try_damaged(range(12, 2012))


def _try_damaged(seeds: t.Iterable[int]) -> None:
    outcomes = set()
    for seed in seeds:
        source = Bytes(_damage(seed))
        outputs = Outputs()
        for name in ("poster", "video"):
            outputs[name] = outputs[name]
        task, arguments = [
            ("probe", {}),
            ("poster", {}),
            ("waveform", {}),
            ("short", {"rendition": RENDITION}),
        ][seed % 4]
        try:
            jail.run(task, arguments, source, outputs, Limits(memory=700 * 1024**2))
            outcomes.add("done")
        except ProcessingError as error:
            outcomes.add(error.code)
            if type(error) is ProcessingError:
                raise AssertionError(f"{task} of seed {seed}") from error
    assert outcomes >= {"done", "undecodable"}
    assert not outcomes & {"killed", "timeout"}


def _damage(seed: int) -> bytes:
    """A clip with some bytes changed, left out or doubled; often in its index."""
    generator = random.Random(seed)
    content = bytearray(generator.choice([clips.plain(), clips.webm(), clips.with_cover()]))
    for _ in range(generator.choice([1, 4, 40])):
        place = generator.randrange(len(content))
        if generator.random() < 0.5:
            place = len(content) - 1 - generator.randrange(min(3000, len(content)))
        kind = generator.random()
        if kind < 0.8:
            content[place] = generator.randrange(256)
        elif kind < 0.9:
            del content[place : place + generator.randrange(100)]
        else:
            content[place:place] = content[place : place + generator.randrange(100)]
    return bytes(content)


@pytest.mark.long
def test_a_frame_of_many_pixels_in_few_bytes_is_refused_before_it_is_decoded() -> None:
    source = Bytes(clips.huge())
    assert source.size < 1024**2
    for task, arguments in (("probe", {}), ("poster", {}), ("short", {"rendition": RENDITION})):
        with pytest.raises(LimitExceeded):
            jail.run(task, arguments, source, {}, Limits(memory=700 * 1024**2))


@pytest.mark.long
def test_a_frame_of_many_pixels_is_scaled_within_its_memory() -> None:
    outputs = Outputs(poster=outputs_file())
    arguments = {"limits": {"pixels": 2**30}, "width": 640}
    result = jail.run("poster", arguments, Bytes(clips.huge()), outputs, Limits(seconds=120))
    assert result["width"] == 640


def outputs_file() -> t.Any:
    return Outputs()["poster"]


def test_a_video_that_says_less_of_its_frames_than_they_are_is_refused() -> None:
    content = bytearray(clips.plain())
    entry = content.index(b"avc1", content.index(b"stsd")) + 28
    assert content[entry : entry + 4] == bytes([0x01, 0x40, 0x00, 0xB4])  # 320, 180
    content[entry : entry + 4] = bytes([0, 16, 0, 16])
    with pytest.raises(ProcessingError):
        call(short, bytes(content), rendition=RENDITION, limits={"pixels": 1000})


def test_nothing_is_left_in_the_folder_of_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    outputs = Outputs()
    arguments = {"rendition": RENDITION}
    jail.run("short", arguments, Bytes(clips.silent()), {"video": outputs["video"]})
    assert os.listdir(tmp_path) == []
    assert outputs.of("video")
