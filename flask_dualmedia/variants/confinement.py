"""The walls of a process that decodes: what the system is asked to refuse it.

Each wall that this system cannot build is left out; the limits of :func:`limit` are everywhere.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# landlock(7). The numbers of these calls are the same on all processors.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_PATH_BENEATH = 1
_EXECUTE = 1 << 0
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_FILE_RIGHTS_BY_VERSION = ((1, 13), (2, 14), (3, 15), (5, 16))
"""From which version of Landlock on how many rights to files are known."""
_ALL_TCP = 0b11  # to bind and to connect, from version 4 on
_ALL_SCOPES = 0b11  # sockets without a file, and signals, from version 6 on

_LIBRARIES = ("PIL", "pillow_heif")
"""Packages that a task may go on to import while it decodes."""

_READABLE = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/fonts",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
)
"""Places that libraries of the system, and the names of fonts, come from."""


def leave_network() -> None:
    """Leave for a network of one's own, where nobody is. Many containers forbid that."""
    if sys.platform == "linux":
        _system().unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def die_with(parent: int) -> None:
    """Have the system end this process when its parent ends.

    To be called after :func:`leave_network`, by which the system forgets it.
    """
    if sys.platform == "linux":
        _system().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before


def close_files() -> None:
    """Let no file be opened from now on but those of Python, of libraries and of fonts.

    It closes TCP too, where the system is new enough.
    """
    if sys.platform != "linux":
        return
    system = _system()
    system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = system.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return

    known = max(count for since, count in _FILE_RIGHTS_BY_VERSION if since <= version)
    attributes = struct.pack("=Q", (1 << known) - 1)
    if version >= 4:
        attributes += struct.pack("=Q", _ALL_TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _ALL_SCOPES)
    ruleset = system.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return

    for path in _readable_paths():
        _allow(system, ruleset, path)
    system.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def limit(limits: Mapping[str, float]) -> None:
    """Set the limits of :class:`~.jail.Limits`. No file may grow, and no core is dumped."""
    seconds = int(limits["cpu_seconds"])
    _set_limit(resource.RLIMIT_CPU, seconds, seconds + 1)  # SIGXCPU first: that says why
    if sys.platform != "darwin":  # which knows the limit, and refuses it
        _set_limit(resource.RLIMIT_AS, int(limits["memory"]))
    _set_limit(resource.RLIMIT_NOFILE, int(limits["files"]))
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)


def _set_limit(number: int, soft: int, hard: int | None = None) -> None:
    """Never above what the process was given."""
    if hard is None:
        hard = soft
    _, highest = resource.getrlimit(number)
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.setrlimit(number, (soft, hard))


def _system() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _readable_paths() -> Iterable[str]:
    yield from _READABLE
    yield str(Path(__file__).parents[1])
    yield str(Path(os.__file__).parent)
    for name in ("lib", "lib64"):
        yield os.path.join(sys.base_exec_prefix, name)
    for library in _LIBRARIES:
        spec = PathFinder.find_spec(library)
        if spec is not None and spec.origin:
            yield str(Path(spec.origin).parents[1])


def _allow(system: ctypes.CDLL, ruleset: int, path: str) -> None:
    """Let what is under a path be read and executed."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there
    rights = _EXECUTE | _READ_FILE
    if os.path.isdir(path):
        rights |= _READ_DIR
    rule = struct.pack("=Qi", rights, place)
    system.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    os.close(place)
