"""The times of a video's pictures and the frame rate that follows from them. Knows no decoder."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

FALLBACK_FPS = 30.0
"""Frames a second for a video that says nothing about its times."""

_LEAST_STEP_S = 1e-5
_FRAMES_SET_BACK = 4  # a clock that goes back by more than so many frames was set anew; by less, it is inexact
_SAME_RATE = 0.25  # frames: two rates that differ by less than this at the last picture are the same
_MAX_CLAIMED_FPS = 1000.0


class Clock:
    """Gives each picture, in the order shown, its time in seconds from the first: strictly rising, whatever the file says.

    A picture without a time comes one frame after the one before it, at `fps` frames a second. Where the file's times go back,
    as in files that were put together, they go on after the picture before.
    """

    def __init__(self, fps: float) -> None:
        self._step_s = 1.0 / fps
        self._start: float | None = None
        self._stamp: float | None = None
        self.time_s = -math.inf

    def tick(self, stamp: float | None) -> float:
        """Return the time of the next picture, for which the file says `stamp` seconds, None where it says nothing."""
        if self.time_s == -math.inf:
            self.time_s = 0.0
        elif stamp is None or stamp == self._stamp:
            self.time_s += self._step_s
        else:
            if self._start is None or (self._stamp is not None and stamp < self._stamp - _FRAMES_SET_BACK * self._step_s):
                self._start = stamp - self.time_s - self._step_s
            self.time_s = max(stamp - self._start, self.time_s + _LEAST_STEP_S)
        if stamp is not None:
            self._start = stamp - self.time_s if self._start is None else self._start
            self._stamp = stamp
        return self.time_s


class Order:
    """Gives pictures their stamps in the order shown, where a container has them in the order of decoding: H.264 with B-frames
    in AVI and in some MXF and MP4 files.

    The stamps of such a file rise from packet to packet, although its pictures are shown in another order. Each picture then
    gets the smallest stamp that no picture has yet.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._is_wrong = False

    def sent(self, stamp: int | None) -> None:
        """A packet with this stamp goes to the decoder."""
        if stamp is not None:
            heapq.heappush(self._waiting, stamp)

    def shown(self, stamp: int | None, is_between: bool) -> int | None:
        """The right stamp of the next picture, for which the file says `stamp`. is_between: whether it is a B-frame."""
        if stamp is None or not self._waiting:
            return stamp
        self._is_wrong |= is_between and stamp != self._waiting[0]
        while not self._is_wrong and self._waiting and self._waiting[0] < stamp:
            heapq.heappop(self._waiting)  # of a packet that became no picture
        return heapq.heappop(self._waiting) if self._waiting else stamp


def mean_rate(frames: int, last_s: float, claimed: float | None) -> float | None:
    """Frames a second of `frames` pictures, the last at `last_s` seconds; None where that says nothing.

    It is the rate that the container claims where both put the last picture in the same place: times may be rounded.
    """
    if frames < 2 or not 0 < last_s < math.inf:
        return None
    if claimed and abs(last_s - (frames - 1) / claimed) * claimed < _SAME_RATE:
        return claimed
    return float(f"{(frames - 1) / last_s:.9g}")


def rate_of(stamps_s: Sequence[float], claimed: float | None) -> float:
    """Frames a second of pictures with these times, in any order; else what the container claims, if it can be true."""
    span = max(stamps_s) - min(stamps_s) if stamps_s else 0.0
    measured = mean_rate(len(stamps_s), span, claimed)
    if measured is not None:
        return measured
    return claimed if claimed and 0 < claimed <= _MAX_CLAIMED_FPS else FALLBACK_FPS
