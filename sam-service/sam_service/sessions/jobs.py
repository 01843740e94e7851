"""A propagation under way: a task that others watch, cancel and read from, at their own pace.

A job keeps what it computed as compressed masks, a few KB a frame, so that a slow reader holds up nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sam_service.errors import ServiceError
from sam_service.sessions.plan import Plan
from sam_service.sessions.records import FrameResult
from sam_service.sessions.states import AT_WORK, JOB_FOLLOWERS, STOPPED_AS, JobState, follow


@dataclass(slots=True)
class Job:
    """One propagation. total: frames it will compute, by the best knowledge so far. at: the frame in work, or the last one.

    readers: clients that stop it by leaving. background: it needs no reader. attempts: processes that took it up. first_kept:
    results before this one were let go.
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
    readers: int = 0
    first_kept: int = 0
    started_at: float = field(default_factory=time.monotonic)
    finished_at: float | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether it is at work: frames are still to come, or it stops within a frame."""
        return self.state in AT_WORK

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and has not stopped yet."""
        return self.running and self.state is not JobState.RUNNING

    @property
    def resumable(self) -> bool:
        """Whether it is paused, or about to be."""
        return self.state in (JobState.PAUSING, JobState.PAUSED)

    @property
    def public_state(self) -> str:
        """The state's name in the API: running, done, cancelled, failed or interrupted."""
        if self.running:
            return JobState.RUNNING
        return JobState.CANCELLED if self.state is JobState.PAUSED else self.state

    @property
    def stopped_as(self) -> JobState:
        """What a job at work becomes when its frames come to their end, or to a stop."""
        return STOPPED_AS[self.state]

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
        self._notify()

    def finish(self, state: JobState, error: ServiceError | None = None) -> None:
        """Publish the end, or the pause."""
        self._become(state)
        self.error = error
        if state is JobState.DONE:
            self.total = self.done
        self.finished_at = time.monotonic()
        self._notify()

    def cancel(self) -> None:
        """Ask the job to stop for good; the frame in work is still finished and stored. A paused job is cancelled at once, one
        that has ended stays as it is."""
        if self.state in (JobState.RUNNING, JobState.PAUSING, JobState.INTERRUPTING):
            self._become(JobState.CANCELLING)
        elif self.state is JobState.PAUSED:
            self._become(JobState.CANCELLED)

    def interrupt(self) -> None:
        """The process stops: stop within a frame, to be resumed by the next process. What was cancelled stays cancelled."""
        if self.state in (JobState.RUNNING, JobState.PAUSING):
            self._become(JobState.INTERRUPTING)

    def leave(self) -> None:
        """A reader disconnects. Without another one the job pauses, unless it is a background job."""
        self.readers -= 1
        if self.state is JobState.RUNNING and self.readers == 0 and not self.background:
            self._become(JobState.PAUSING)

    def start_over(self) -> None:
        """Drop what a paused job has done: its memory was rebuilt from the prompts alone."""
        self.results, self.done, self.first_kept = [], 0, 0

    def resume(self) -> None:
        """A paused job runs again."""
        self._become(JobState.RUNNING)
        self.error = None
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

    def _become(self, state: JobState) -> None:
        self.state = follow(self.state, state, JOB_FOLLOWERS)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
