"""One open video: its frames, its objects and their prompts, and its tracking memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sam_service.core.memory.bank import MemoryBank
from sam_service.core.prompts import Prompt
from sam_service.errors import NotFound
from sam_service.sessions.events import Events
from sam_service.sessions.jobs import Job
from sam_service.sessions.labels import Label, default_label
from sam_service.sessions.prompts import PromptInput, check_prompt, merge
from sam_service.sessions.records import PromptKind, PromptRecord, SessionRecord
from sam_service.sessions.states import MEMORY_FOLLOWERS, SESSION_FOLLOWERS, MemoryState, SessionState, follow
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.live import LiveFrames

FIRST_OBJECT_ID, MAX_OBJECT_ID = 1, 2**31 - 1


@dataclass(slots=True)
class Session:
    """The live side of a stored session.

    memory: the state of `bank`, which can be used once it is restored. prompts: by object and frame, all that an object is
    prompted with there. unapplied: prompts that an earlier process wrote down and did not apply. labels: of the objects that
    somebody named or coloured. highest_object_id: of all objects that there ever were, so that none is chosen twice.
    """

    record: SessionRecord
    folder: Path
    frames: FrameStore
    extraction: Extraction
    _bank: MemoryBank
    memory: MemoryState
    state: SessionState = SessionState.OPENING
    prompts: dict[int, dict[int, Prompt]] = field(default_factory=dict)
    labels: dict[int, Label] = field(default_factory=dict)
    events: Events = field(default_factory=Events)
    job: Job | None = None
    last_used_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unapplied: list[PromptRecord] = field(default_factory=list)
    highest_object_id: int = FIRST_OBJECT_ID - 1

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
        """Bytes of tracking memory on disk."""
        return 0 if self._bank.spill is None else self._bank.spill.nbytes

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

    def require_object(self, object_id: int, field: str = "object_id") -> dict[int, Prompt]:
        """The prompts of an object by frame. Raises NotFound, which names `field`."""
        if object_id not in self.prompts:
            objects = ", ".join(map(str, self.prompts)) or "none yet"
            raise NotFound(f"there is no object {object_id} in this session; its objects: {objects}", field=field)
        return self.prompts[object_id]

    def free_object_id(self) -> int:
        """An object id that was never used in this session, as long as there is one; then one that is not in use."""
        if self.highest_object_id < MAX_OBJECT_ID:
            return self.highest_object_id + 1
        return next(number for number in count(FIRST_OBJECT_ID) if number not in self.prompts)

    def label(self, object_id: int) -> Label:
        """An object's name and colour."""
        return self.labels.get(object_id) or default_label(object_id)

    def set_prompt(self, object_id: int, frame_index: int, prompt: Prompt) -> None:
        """Note what an object is prompted with on a frame from now on."""
        self.prompts.setdefault(object_id, {})[frame_index] = prompt
        self.highest_object_id = max(self.highest_object_id, object_id)

    def replay(self, log: Iterable[PromptRecord]) -> None:
        """Rebuild the prompts from the log."""
        width, height = self.size
        for line in log:
            if not line.applied:
                self.unapplied.append(line)
            match line.kind:
                case PromptKind.ADD | PromptKind.REFINE:
                    raw = dict(line.payload)
                    replace = bool(raw.pop("replace", False))
                    earlier = self.prompts.get(line.object_id, {}).get(line.frame_index)
                    new = check_prompt(PromptInput(**raw), width, height, stored=True)
                    self.set_prompt(line.object_id, line.frame_index, merge(earlier, new, replace=replace))
                case PromptKind.REMOVE:
                    self.prompts.pop(line.object_id, None)
                    self.labels.pop(line.object_id, None)
                case PromptKind.CLEAR:
                    self.prompts.get(line.object_id, {}).pop(line.frame_index, None)
                case PromptKind.LABEL:
                    self.labels[line.object_id] = Label(**line.payload)
