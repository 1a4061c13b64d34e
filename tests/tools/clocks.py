"""Processes whose wall clock is wrong, like that of another host::

    subprocess.Popen([sys.executable, "-m", "gunicorn", ...], env=skewed_environment(3600,
    environment))

libfaketime does it, for the process and for all that it starts. Monotonic clocks stay right, so
waiting takes as long as it should; Python's sleep needs ``skewed/sitecustomize.py`` for that. Times
of files are told as they are: gunicorn keeps its heartbeats there, in monotonic time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_LIBRARY = "libfaketimeMT.so.1"  # for programs with threads
_FOLDERS = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")


class ClocksAreFixed(RuntimeError):
    """libfaketime is not installed."""


def skewed_environment(
    seconds: float, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of a process whose wall clock is off.

    :param seconds: How far it is ahead; negative for behind.
    :param environment: What else the process gets.
    :raises ClocksAreFixed: libfaketime is not installed.
    """
    library = _library()
    _remove_leftovers()
    return {
        **environment,
        "LD_PRELOAD": _before(library, environment.get("LD_PRELOAD")),
        "PYTHONPATH": _before(Path(__file__).parent / "skewed", environment.get("PYTHONPATH")),
        "FAKETIME": f"{seconds:+f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # its name before libfaketime 0.9.9
        "NO_FAKE_STAT": "1",
    }


def _before(path: Path, others: str | None) -> str:
    return f"{path}:{others}" if others else str(path)


def _library() -> Path:
    for folder in _FOLDERS:
        for path in Path("/usr").glob(f"{folder}/{_LIBRARY}"):
            return path
    raise ClocksAreFixed(
        f"no {_LIBRARY} below /usr: install libfaketime (Debian and Ubuntu: apt install faketime)"
    )


def _remove_leftovers() -> None:
    """Remove the shared memory of killed processes: another one with the same pid would not
    start."""
    for pattern in ("faketime_shm_*", "sem.faketime_sem_*"):
        for path in Path("/dev/shm").glob(pattern):
            pid = path.name.rpartition("_")[2]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                with suppress(OSError):
                    path.unlink()
