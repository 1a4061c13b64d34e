"""Programs of the command line: how each uploads, goes on with what broke off, downloads and
plays."""

from __future__ import annotations

import json
import subprocess
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

from .site import OWNER, Site, digest

MIB = 1024 * 1024

CUT = 3 * MIB // 2
"""Bytes after which a connection is cut: more than the systems of both ends keep for one that is
not read."""

SECONDS = 60

Do = Callable[[Site, Path], None]
"""Does something and checks what came of it. The path is an empty folder."""


class Failed(Exception):
    """A program ended with an error."""


def run(*command: str | Path, stdin: bytes | None = None) -> bytes:
    """Execute a program.

    :return: What it wrote.
    :raises Failed: It ended with an error.
    """
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, timeout=SECONDS, **t.cast("t.Any", given)
    )
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace")
        raise Failed(f"{command[0]} ended with {done.returncode}: {said[-2000:]}")
    return done.stdout


def breaks_off(*command: str | Path, stdin: bytes | None = None) -> None:
    """Execute a program that is to end with an error, as when its connection is cut."""
    try:
        run(*command, stdin=stdin)
    except Failed:
        return
    raise AssertionError(f"{command[0]} ended as if all were well")


def check_download(site: Site, target: Path) -> None:
    assert digest(target.read_bytes()) == digest(site.content)


def check_part(site: Site, target: Path) -> None:
    """Check that a download broke off in the middle."""
    assert 0 < target.stat().st_size < len(site.content)


# curl


def _curl(site: Site, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
    shared = ("--silent", "--show-error", "--fail-with-body", "-H", f"Authorization: {site.token}")
    return run("curl", *shared, *arguments, stdin=stdin)


def curl_upload(site: Site, _: Path) -> None:
    form = [argument for name, value in OWNER.items() for argument in ("-F", f"{name}={value}")]
    record = json.loads(
        _curl(site, *form, "-F", f"file=@{site.film};type=video/mp4", f"{site.origin}/media/files")
    )
    site.check_kept(record["url"])
    for body, stdin in ((site.film, None), ("-", site.content)):  # the latter is chunked
        path = site.keep_something()
        _curl(site, "-T", body, f"{site.origin}{path}", stdin=stdin)
        site.check_kept(path)


def curl_resume_upload(site: Site, _: Path) -> None:
    tus = ("-H", "Tus-Resumable: 1.0.0")
    metadata = "kind ZmlsZXM=,referenceType cGFnZQ==,referenceId MQ==,filename YS5tcDQ="
    created = ("-H", f"Upload-Length: {len(site.content)}", "-H", f"Upload-Metadata: {metadata}")
    headers = _curl(
        site, "-X", "POST", "-D", "-", *tus, *created, f"{site.origin}/media/uploads"
    ).decode()
    path = _header(headers, "Location")
    patch = (*tus, "-X", "PATCH", "-H", "Content-Type: application/offset+octet-stream", "-T")
    authorization = ("-H", f"Authorization: {site.token}")
    site.proxy.cut_request(CUT)
    breaks_off(
        "curl",
        "-sS",
        *authorization,
        *patch,
        site.film,
        "-H",
        "Upload-Offset: 0",
        f"{site.proxied}{path}",
    )
    deadline = time.monotonic() + SECONDS
    while (
        not (offset := _offset(site, path)) and time.monotonic() < deadline
    ):  # what came is still being kept
        time.sleep(0.1)
    assert 0 < offset < len(site.content)
    rest = site.content[offset:]
    answer = _curl(
        site,
        "-D",
        "-",
        *patch,
        "-",
        "-H",
        f"Upload-Offset: {offset}",
        f"{site.origin}{path}",
        stdin=rest,
    )
    site.check_kept(_header(answer.decode(), "Content-Location"))


def _offset(site: Site, path: str) -> int:
    """How much the app has of an upload."""
    headers = _curl(site, "-I", "-H", "Tus-Resumable: 1.0.0", f"{site.origin}{path}").decode()
    return int(_header(headers, "Upload-Offset"))


def _header(headers: str, name: str) -> str:
    return next(
        line.partition(": ")[2]
        for line in headers.splitlines()
        if line.lower().startswith(f"{name.lower()}:")
    )


def curl_download(site: Site, folder: Path) -> None:
    _curl(site, "-o", folder / "film", f"{site.origin}{site.keep_film()}")
    check_download(site, folder / "film")


def curl_resume_download(site: Site, folder: Path) -> None:
    url, target = f"{site.proxied}{site.keep_film()}", folder / "film"
    site.proxy.cut_answer(CUT)
    breaks_off("curl", "-sS", "-H", f"Authorization: {site.token}", "-o", target, url)
    check_part(site, target)
    _curl(site, "-C", "-", "-o", target, url)
    check_download(site, target)


# HTTPie


def _httpie(site: Site, *arguments: str | Path) -> tuple[str | Path, ...]:
    return (
        "http",
        "--ignore-stdin",
        "--check-status",
        "--timeout",
        "30",
        *arguments,
        f"Authorization:{site.token}",
    )


def httpie_upload(site: Site, _: Path) -> None:
    form = [f"{name}={value}" for name, value in OWNER.items()]
    command = _httpie(
        site, "--form", "--body", "POST", f"{site.origin}/media/files", *form, f"file@{site.film}"
    )
    site.check_kept(json.loads(run(*command))["url"])
    for chunked in ((), ("--chunked",)):
        path = site.keep_something()
        run(*_httpie(site, *chunked, "PUT", f"{site.origin}{path}", f"@{site.film}"))
        site.check_kept(path)


def httpie_download(site: Site, folder: Path) -> None:
    run(
        *_httpie(
            site,
            "--download",
            "--output",
            folder / "film",
            "GET",
            f"{site.origin}{site.keep_film()}",
        )
    )
    check_download(site, folder / "film")


def httpie_resume_download(site: Site, folder: Path) -> None:
    url, target = f"{site.proxied}{site.keep_film()}", folder / "film"
    site.proxy.cut_answer(CUT)
    breaks_off(*_httpie(site, "--download", "--output", target, "GET", url))
    check_part(site, target)
    run(*_httpie(site, "--download", "--continue", "--output", target, "GET", url))
    check_download(site, target)


# aria2c


def _aria2c(site: Site, folder: Path, *arguments: str) -> tuple[str | Path, ...]:
    shared = (
        "aria2c",
        "--no-conf",
        f"--header=Authorization: {site.token}",
        f"--dir={folder}",
        "--out=film",
    )
    return (*shared, *arguments)


def aria2c_download(site: Site, folder: Path) -> None:
    # Four pieces at once, by ranges.
    pieces = ("--split=4", "--max-connection-per-server=4", "--min-split-size=1M")
    run(*_aria2c(site, folder, *pieces, f"{site.origin}{site.keep_film()}"))
    check_download(site, folder / "film")


def aria2c_resume_download(site: Site, folder: Path) -> None:
    url = f"{site.proxied}{site.keep_film()}"
    site.proxy.cut_answer(CUT)
    breaks_off(*_aria2c(site, folder, "--max-tries=1", url))
    check_part(site, folder / "film")
    run(*_aria2c(site, folder, "--continue=true", url))
    check_download(site, folder / "film")


# wget


def _wget(site: Site, *arguments: str | Path) -> tuple[str | Path, ...]:
    return (
        "wget",
        "--no-config",
        "--no-verbose",
        f"--header=Authorization: {site.token}",
        *arguments,
    )


def wget_upload(site: Site, folder: Path) -> None:
    path = site.keep_something()
    run(
        *_wget(
            site,
            "--method=PUT",
            f"--body-file={site.film}",
            "-O",
            folder / "answer",
            f"{site.origin}{path}",
        )
    )
    site.check_kept(path)


def wget_download(site: Site, folder: Path) -> None:
    run(*_wget(site, "-O", folder / "film", f"{site.origin}{site.keep_film()}"))
    check_download(site, folder / "film")


def wget_resume_download(site: Site, folder: Path) -> None:
    url, target = f"{site.proxied}{site.keep_film()}", folder / "film"
    site.proxy.cut_answer(CUT)
    breaks_off(*_wget(site, "--tries=1", "-O", target, url))
    check_part(site, target)
    run(*_wget(site, "--continue", "-O", target, url))
    check_download(site, target)


# rclone


def _rclone(site: Site, folder: Path, url: str) -> tuple[str | Path, ...]:
    """A copy from its remote ``http``, which reads on by ranges where a connection broke off."""
    remote, _, name = url.rpartition("/")
    options = (
        "--config",
        folder / "none",
        "--http-url",
        remote,
        "--http-headers",
        f"Authorization,{site.token}",
    )
    return ("rclone", "copyto", *options, "--retries", "1", f":http:{name}", folder / "film")


def rclone_download(site: Site, folder: Path) -> None:
    run(*_rclone(site, folder, f"{site.origin}{site.keep_film()}"))
    check_download(site, folder / "film")


def rclone_resume_download(site: Site, folder: Path) -> None:
    url = f"{site.proxied}{site.keep_film()}"
    site.proxy.cut_answer(CUT)
    run(*_rclone(site, folder, url))
    check_download(site, folder / "film")


# ffmpeg


def _ffmpeg(*arguments: str | Path) -> tuple[str | Path, ...]:
    return ("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", *arguments)


def _authorized(site: Site) -> tuple[str, str]:
    return "-headers", f"Authorization: {site.token}\r\n"


def ffmpeg_upload(site: Site, _: Path) -> None:
    # A film that is written while it is sent, in chunks: nobody knows its length beforehand.
    written = ("-i", site.film, "-map", "0", "-c", "copy", "-fflags", "+bitexact", "-f", "matroska")
    expected = run(*_ffmpeg(*written, "pipe:1"))
    path = site.keep_something()
    run(*_ffmpeg(*written, "-method", "PUT", *_authorized(site), f"{site.origin}{path}"))
    # It waits for no answer.
    deadline = time.monotonic() + SECONDS
    while site.record(path)["mimeType"] != "video/matroska" and time.monotonic() < deadline:
        time.sleep(0.1)
    site.check_kept(path, expected)


def ffmpeg_download(site: Site, folder: Path) -> None:
    target = folder / "film"
    source = (*_authorized(site), "-f", "data", "-i", f"{site.origin}{site.keep_film()}")
    run(*_ffmpeg(*source, "-map", "0", "-c", "copy", "-f", "data", target))
    check_download(site, target)


def ffmpeg_resume_download(site: Site, folder: Path) -> None:
    target = folder / "film"
    url = f"{site.proxied}{site.keep_film()}"
    site.proxy.cut_answer(CUT)
    reconnecting = (
        "-reconnect",
        "1",
        "-reconnect_on_network_error",
        "1",
        "-reconnect_delay_max",
        "2",
    )
    source = (*reconnecting, *_authorized(site), "-f", "data", "-i", url)
    run(*_ffmpeg(*source, "-map", "0", "-c", "copy", "-f", "data", target))
    check_download(site, target)


def ffmpeg_play(site: Site, _: Path) -> None:
    """Pictures from the middle, which are found by ranges, are those of the file."""

    def frames(*source: str | Path) -> bytes:
        return run(
            *_ffmpeg("-ss", "20", *source, "-frames:v", "5", "-map", "0:v", "-f", "framemd5", "-")
        )

    url = f"{site.origin}{site.keep_film()}"
    assert frames(*_authorized(site), "-seekable", "1", "-i", url) == frames("-i", site.film)


# tus-js-client


def _tus_js(site: Site, action: str) -> None:
    environment = {
        "ORIGIN": site.origin,
        "TOKEN": site.token,
        "VIDEO": site.film,
        "NPM_DIRECTORY": site.npm,
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    run("env", *assignments, "node", Path(__file__).with_name("tus.mjs"), action)


def tus_js_upload(site: Site, _: Path) -> None:
    _tus_js(site, "upload")


def tus_js_resume_upload(site: Site, _: Path) -> None:
    _tus_js(site, "resume")


PROGRAMS: dict[str, dict[str, Do]] = {
    "curl": {
        "upload": curl_upload,
        "resume up": curl_resume_upload,
        "download": curl_download,
        "resume down": curl_resume_download,
    },
    "HTTPie": {
        "upload": httpie_upload,
        "download": httpie_download,
        "resume down": httpie_resume_download,
    },
    "aria2c": {"download": aria2c_download, "resume down": aria2c_resume_download},
    "wget": {"upload": wget_upload, "download": wget_download, "resume down": wget_resume_download},
    "rclone": {"download": rclone_download, "resume down": rclone_resume_download},
    "ffmpeg": {
        "upload": ffmpeg_upload,
        "download": ffmpeg_download,
        "resume down": ffmpeg_resume_download,
        "play": ffmpeg_play,
    },
    "tus-js-client": {"upload": tus_js_upload, "resume up": tus_js_resume_upload},
}
"""By client and by what it can do."""
