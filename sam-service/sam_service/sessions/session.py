"""One open video: its frames, its objects and their prompts, and its tracking memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sam_service.core.memory.bank import MemoryBank
from sam_service.core.prompts import Prompt
from sam_service.errors import Conflict, NotFound
from sam_service.sessions.events import Events
from sam_service.sessions.history import Change, History
from sam_service.sessions.jobs import Job
from sam_service.sessions.labels import Label
from sam_service.sessions.objects import FIRST_OBJECT_ID, Objects
from sam_service.sessions.records import PromptRecord, SessionRecord, StepRecord
from sam_service.sessions.states import MEMORY_FOLLOWERS, SESSION_FOLLOWERS, MemoryState, SessionState, follow
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.live import LiveFrames

MAX_OBJECT_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Unapplied:
    """A line of the log that is still to be applied. before: the objects before it."""

    line: PromptRecord
    before: Objects


@dataclass(slots=True)
class Session:
    """The live side of a stored session.

    memory: the state of `bank`, which can be used once it is restored. objects: what they are and what they are prompted with.
    unapplied: lines of the log that an earlier process wrote down and did not apply. history: what can be undone.
    """

    record: SessionRecord
    folder: Path
    frames: FrameStore
    extraction: Extraction
    _bank: MemoryBank
    memory: MemoryState
    state: SessionState = SessionState.OPENING
    objects: Objects = field(default_factory=Objects)
    history: History = field(default_factory=History)
    events: Events = field(default_factory=Events)
    job: Job | None = None
    last_used_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unapplied: list[Unapplied] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold the session's lock, for what needs no tracking memory; the rest uses `recovery.exclusive`.

        Raises NotFound where the session was deleted while the lock was waited for.
        """
        async with self.lock:
            if self.closed:
                raise NotFound("this session has just been deleted", field="session_id")
            yield

    @property
    def spilled_bytes(self) -> int:
        """Bytes of tracking memory on disk, with those that steps keep."""
        return 0 if self._bank.spill is None else self._bank.spill.nbytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of tracking memory on disk that are only there so that steps can be undone or redone."""
        return 0 if self._bank.spill is None else self._bank.spill.nbytes - self._bank.spill.visible_bytes

    @property
    def any_bank(self) -> MemoryBank:
        """The tracking memory, restored or not, for what concerns its files, on the device's thread, or its model."""
        return self._bank

    @property
    def prompts(self) -> Mapping[int, Mapping[int, Prompt]]:
        """By object and frame, all that an object is prompted with there."""
        return self.objects.prompts

    @property
    def bank(self) -> MemoryBank:
        """The tracking memory. Raises RuntimeError before it is restored: see `recovery.exclusive`."""
        if self.memory not in (MemoryState.READY, MemoryState.RESTORING):
            raise RuntimeError(f"the memory of session {self.session_id} is {self.memory}: it has to be restored first")
        return self._bank

    def become(self, state: SessionState) -> None:
        """Enter a state of the life cycle."""
        self.state = follow(self.state, state, SESSION_FOLLOWERS)

    def memory_becomes(self, state: MemoryState) -> None:
        """Enter a state of the memory's life cycle."""
        self.memory = follow(self.memory, state, MEMORY_FOLLOWERS)

    @property
    def closed(self) -> bool:
        """Whether it is being deleted."""
        return self.state in (SessionState.CLOSED, SessionState.DELETION_FAILED)

    @property
    def session_id(self) -> str:
        """The client's name for the session."""
        return self.record.session_id

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the session's frames in pixels."""
        manifest = self.frames.manifest
        return manifest.width, manifest.height

    @property
    def live(self) -> LiveFrames | None:
        """The window of frames of a live session; None of one with a file."""
        return self.frames if isinstance(self.frames, LiveFrames) else None

    @property
    def busy(self) -> bool:
        """Whether a propagation runs."""
        return self.job is not None and self.job.running

    def require_object(self, object_id: int, field: str = "object_id") -> Mapping[int, Prompt]:
        """The prompts of an object by frame. Raises NotFound, which names `field`."""
        if object_id not in self.prompts:
            objects = ", ".join(map(str, self.prompts)) or "none yet"
            raise NotFound(f"there is no object {object_id} in this session; its objects: {objects}", field=field)
        return self.prompts[object_id]

    def require_unlocked(self, objects: Iterable[int], field: str = "object_id") -> None:
        """Raise Conflict, which names `field`, where one of the objects is locked."""
        locked = [object_id for object_id in objects if object_id in self.objects.locked]
        if locked:
            raise Conflict(f"object {locked[0]} is locked; unlock it first", field=field, code="object_locked")

    def free_object_id(self) -> int:
        """An object id that was never used in this session, as long as there is one; then one that is not in use."""
        if self.objects.highest_id < MAX_OBJECT_ID:
            return self.objects.highest_id + 1
        return next(number for number in count(FIRST_OBJECT_ID) if number not in self.prompts)

    def label(self, object_id: int) -> Label:
        """An object's name and colour."""
        return self.objects.label(object_id)

    def replay(self, log: Iterable[PromptRecord], steps: Iterable[StepRecord]) -> None:
        """Rebuild the objects and their history from the log."""
        known = {record.step: record for record in steps}
        lines = list(log)
        for line in (line for line in lines if not line.undone):
            if line.step is not None and line.step in known and not self.history.has(line.step):
                self.history.done.append(Change(known[line.step], self.objects))
            if not line.applied:
                self.unapplied.append(Unapplied(line, self.objects))
            self.objects = self.objects.after(line, *self.size)
        ahead = self.objects
        for line in (line for line in lines if line.undone):
            ahead = ahead.after(line, *self.size)
            step = known[line.sequence if line.step is None else line.step]
            if not self.history.undone or self.history.undone[-1].record != step:
                self.history.undone.append(Change(step, ahead))
            self.history.undone[-1].other = ahead
