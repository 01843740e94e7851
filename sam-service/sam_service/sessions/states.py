"""The life cycles of a session, of its tracking memory and of a job: the states, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)


class SessionState(StrEnum):
    """OPENING: its first frame is not there yet. CLOSED: it is being deleted, and nobody may use it. DELETION_FAILED: the same,
    and the deletion is tried again."""

    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"
    DELETION_FAILED = "deletion_failed"


class MemoryState(StrEnum):
    """STORED: on disk, as an earlier process left it. RESTORING: it is read back, or rebuilt, under the session's lock.
    STALE: it has to be rebuilt from the prompts."""

    STORED = "stored"
    RESTORING = "restoring"
    READY = "ready"
    STALE = "stale"


class JobState(StrEnum):
    """RUNNING, CANCELLING (somebody cancelled it), PAUSING (its last reader disconnected) and INTERRUPTING (the process stops)
    are states of a job at work; the last three end within a frame. PAUSED: it can be resumed. INTERRUPTED: the next process
    finds it paused."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    PAUSING = "pausing"
    INTERRUPTING = "interrupting"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


AT_WORK = frozenset({JobState.RUNNING, JobState.CANCELLING, JobState.PAUSING, JobState.INTERRUPTING})
RESUMABLE = frozenset({JobState.PAUSED, JobState.INTERRUPTED})
_ENDS = frozenset({JobState.DONE, JobState.FAILED})  # a job may come to its end, or fail, whatever was asked of it meanwhile

SESSION_FOLLOWERS: Mapping[SessionState, Set[SessionState]] = {
    SessionState.OPENING: {SessionState.OPEN},
    SessionState.OPEN: {SessionState.CLOSED},
    SessionState.CLOSED: {SessionState.DELETION_FAILED},
    SessionState.DELETION_FAILED: {SessionState.CLOSED},
}
MEMORY_FOLLOWERS: Mapping[MemoryState, Set[MemoryState]] = {
    MemoryState.STORED: {MemoryState.RESTORING},
    MemoryState.STALE: {MemoryState.RESTORING},
    MemoryState.RESTORING: {MemoryState.READY, MemoryState.STORED, MemoryState.STALE},
    MemoryState.READY: {MemoryState.STALE},
}
JOB_FOLLOWERS: Mapping[JobState, Set[JobState]] = {
    JobState.RUNNING: _ENDS | {JobState.CANCELLING, JobState.PAUSING, JobState.INTERRUPTING},
    JobState.PAUSING: _ENDS | {JobState.CANCELLING, JobState.INTERRUPTING, JobState.PAUSED},
    JobState.INTERRUPTING: _ENDS | {JobState.CANCELLING, JobState.INTERRUPTED},
    JobState.CANCELLING: _ENDS | {JobState.CANCELLED},
    JobState.PAUSED: {JobState.RUNNING, JobState.CANCELLED, JobState.FAILED},
    JobState.INTERRUPTED: set(),
    JobState.DONE: set(),
    JobState.CANCELLED: set(),
    JobState.FAILED: set(),
}
STOPPED_AS = {JobState.RUNNING: JobState.DONE, JobState.CANCELLING: JobState.CANCELLED, JobState.PAUSING: JobState.PAUSED,
              JobState.INTERRUPTING: JobState.INTERRUPTED}
"""What a job becomes once its frames have come to their end, or to the stop that was asked for."""


def follow(now: State, then: State, followers: Mapping[State, Set[State]]) -> State:
    """`then`, where it may follow `now`. Raises RuntimeError: it is the service's own mistake otherwise."""
    if then not in followers[now]:
        raise RuntimeError(f"{type(now).__name__}: {then} cannot follow {now}")
    return then
