"""A propagation under way: a task that others watch, cancel and read from, at their own pace.

A job keeps what it computed as compressed masks, a few KB a frame, so that a slow reader holds up nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

from sam_service.errors import ServiceError
from sam_service.sessions.plan import Plan
from sam_service.sessions.store import MaskRecord


class JobState(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class FrameResult:
    """All objects' masks on one frame. timestamp_s: seconds from the start of the video."""

    frame_index: int
    timestamp_s: float
    masks: tuple[MaskRecord, ...]


@dataclass(slots=True)
class Job:
    """One propagation. total: frames it will compute, by the best knowledge so far. at: the frame in work, or the last one.

    left: it was stopped for no other reason than that its last reader went away, or its process. background: it needs no
    reader. attempts: processes that took it up. first_kept: results before this one were let go.
    """

    job_id: str
    session_id: str
    plan: Plan
    total: int
    background: bool = False
    state: JobState = JobState.RUNNING
    attempts: int = 1
    done: int = 0
    error: ServiceError | None = None
    at: int | None = None
    results: list[FrameResult] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    cancel_requested: bool = False
    interrupted: bool = False
    readers: int = 0
    left: bool = False
    first_kept: int = 0
    started_at: float = field(default_factory=time.monotonic)
    finished_at: float | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether frames are still to come."""
        return self.state is JobState.RUNNING

    @property
    def stopped_as(self) -> JobState:
        """The state of a job whose frames have come to their end, or to a stop."""
        if not self.cancel_requested:
            return JobState.DONE
        return JobState.INTERRUPTED if self.interrupted else JobState.CANCELLED

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, or from start to end."""
        return (self.finished_at or time.monotonic()) - self.started_at

    @property
    def frames_per_second(self) -> float:
        """Frames computed per second so far."""
        return self.done / max(self.elapsed_s, 1e-9)

    def add(self, result: FrameResult) -> None:
        """Publish a frame."""
        self.results.append(result)
        self.done += 1
        self._tell()

    def finish(self, state: JobState, error: ServiceError | None = None) -> None:
        """Publish the end."""
        self.state, self.error = state, error
        self.left = self.left and state is JobState.CANCELLED
        if state is JobState.DONE:
            self.total = self.done
        self.finished_at = time.monotonic()
        self._tell()

    def cancel(self) -> None:
        """Ask the job to stop; the frame in work is still finished and stored."""
        self.cancel_requested, self.left = True, False

    def interrupt(self) -> None:
        """The process ends: stop, to go on in the next one. A job that is cancelled already stays so."""
        if not self.cancel_requested or self.left:
            self.cancel_requested = self.interrupted = True

    def start_over(self) -> None:
        """Forget what a job that was stopped has done."""
        self.results, self.done, self.first_kept = [], 0, 0

    def leave(self) -> None:
        """A reader goes away. Without another one the job stops, and goes on if the reader comes back."""
        self.readers -= 1
        if self.running and self.readers == 0 and not (self.cancel_requested or self.background):
            self.cancel_requested = self.left = True

    def reopen(self) -> None:
        """A job that was stopped runs again."""
        self.state, self.error, self.cancel_requested, self.left = JobState.RUNNING, None, False, False
        if self.finished_at is not None:
            self.started_at += time.monotonic() - self.finished_at
            self.finished_at = None

    def recall(self, earlier: list[FrameResult]) -> None:
        """Take back results that were let go: the last ones before those that are kept."""
        self.results = [*earlier, *self.results]
        self.first_kept -= len(earlier)

    def release(self) -> None:
        """Let go of the results of a job that has ended; its figures stay. Who follows it already reads on."""
        self.results, self.first_kept = [], self.done

    async def wait(self) -> None:
        """Wait for the end, whatever it is."""
        while self.running:
            await self._changed.wait()

    async def follow(self, start: int = 0) -> AsyncIterator[FrameResult]:
        """Yield the frames from the `start`-th computed one on, as they come, until the job ends."""
        kept, first, position = self.results, self.first_kept, start
        while True:
            while position < first + len(kept):
                yield kept[position - first]
                position += 1
            if self.results is not kept and self.first_kept <= position:  # recalled, or released
                kept, first = self.results, self.first_kept
            elif not self.running:
                return
            else:
                await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
