"""What happens in a session, published to all who watch it. A slow watcher holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sam_service.sessions.jobs import Job
from sam_service.sessions.records import FrameResult, MaskRecord

MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class ObjectsChanged:
    """Objects, their names or their prompts are not what they were."""


@dataclass(frozen=True, slots=True)
class MasksChanged:
    """The stored masks of these frames are others, or gone, by no propagation."""

    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptAnswered:
    """A prompt's mask."""

    mask: MaskRecord


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A propagation has begun, gone on or ended."""

    job: Job


@dataclass(frozen=True, slots=True)
class FrameDone:
    """A propagation has come a frame further: the `done`-th."""

    job: Job
    done: int
    result: FrameResult


@dataclass(frozen=True, slots=True)
class FramePushed:
    """A live session has got one more frame, and its masks. dropped: frames so far that a newer one has replaced."""

    result: FrameResult
    dropped: int


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is; total: frames. state: running, done, failed or cancelled."""

    format: str
    done: int
    total: int
    state: str


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    """The session is gone. The last event."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Events were dropped, since they were not fetched in time: read the whole state again."""


Event = (ObjectsChanged | MasksChanged | PromptAnswered | JobChanged | FrameDone | FramePushed | ExportProgress | SessionDeleted
         | Missed)


class Watcher:
    """One who watches. Holds at most MAX_WAITING events; beyond that all are dropped for one `Missed`."""

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue an event for the watcher."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting = [Missed()]
        self._waiting.append(event)
        self._arrived.set()

    async def next(self, timeout_s: float) -> Event | None:
        """The next event, or None when there is none within `timeout_s` seconds."""
        if not self._waiting:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
        return self._waiting.pop(0) if self._waiting else None


class Events:
    """A session's events. Belongs to one event loop."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    def publish(self, event: Event) -> None:
        """Hand an event to everybody who watches."""
        for watcher in self._watchers:
            watcher.put(event)

    @contextlib.contextmanager
    def watch(self) -> Iterator[Watcher]:
        """Watch for the length of a block."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
