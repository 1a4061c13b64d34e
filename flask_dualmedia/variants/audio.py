"""The shape of a piece of sound, for a player to draw."""

from __future__ import annotations

import typing as t
from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from .containers import VideoLimits, decode, decoding, opened, seconds_of
from .failures import LimitExceeded, UndecodableMedia

PEAKS = 800

_RATE = 8_000
_STEP = 160
"""Samples of which one peak is kept until the length of the whole is known."""

_LOUDEST = 32_767


def waveform(
    arguments: Mapping[str, t.Any],
    source: t.Any,
    _sinks: Mapping[str, t.Any],
    report: Callable[[float], None],
) -> dict[str, t.Any]:
    """The loudest moments of equal parts of the sound, each from 0 to 100.

    :param arguments: ``peaks``, how many; ``limits``, those of
        :class:`~.containers.VideoLimits`.
    :return: ``duration`` in seconds, as it was decoded, and ``peaks``.
    """
    limits = VideoLimits(**arguments.get("limits", {}))
    outline = _Outline()
    with opened(source, limits) as file:
        if file.audio is None:
            raise UndecodableMedia("no sound in it")
        for frame in decode(file, file.audio):
            outline.add(t.cast(AudioFrame, frame))
            if outline.duration > limits.seconds:
                raise LimitExceeded(f"longer than {limits.seconds:g} seconds")
            position = seconds_of(frame)
            if position is not None and file.duration:
                report((position - file.start) / file.duration)

    peaks = outline.divide(arguments.get("peaks", PEAKS))
    if not peaks:
        raise UndecodableMedia("no sound can be decoded")
    return {"duration": round(outline.duration, 3), "peaks": peaks}


class _Outline:
    """Peaks of short steps of sound, as they come."""

    def __init__(self) -> None:
        self._kind: tuple[t.Any, ...] = ()
        self._resampler: t.Any = None
        self._samples = array("h")
        self._steps = array("i")

    @property
    def duration(self) -> float:
        """Seconds of sound that have come."""
        return (len(self._steps) * _STEP + len(self._samples)) / _RATE

    def add(self, frame: AudioFrame) -> None:
        """Take sound of any rate and number of channels."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            self._resampler = AudioResampler("s16", "mono", _RATE)
            self._kind = kind
        frame.pts = None  # one sample behind the other, whatever the time says
        with decoding():
            for simple in self._resampler.resample(frame):
                plane = bytes(simple.planes[0])
                self._samples.frombytes(plane[: simple.samples * self._samples.itemsize])
        self._take_steps()

    def divide(self, count: int) -> list[int]:
        """The peaks of this many equal parts, or of fewer if there are fewer steps."""
        steps = self._steps
        if self._samples:
            steps = steps + array("i", [_peak(self._samples)])
        if not steps:
            return []
        count = min(count, len(steps))
        bounds = [len(steps) * number // count for number in range(count + 1)]
        return [round(100 * max(steps[start:stop]) / _LOUDEST) for start, stop in pairwise(bounds)]

    def _take_steps(self) -> None:
        """Note the peak of each whole step, and forget its samples."""
        whole = len(self._samples) // _STEP * _STEP
        for start in range(0, whole, _STEP):
            self._steps.append(_peak(self._samples[start : start + _STEP]))
        del self._samples[:whole]


def _peak(samples: array[int]) -> int:
    """The largest distance from silence."""
    return min(max(max(samples), -min(samples)), _LOUDEST)
