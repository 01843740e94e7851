"""The life cycle of sessions: opened, restored after a restart, looked up, expired, deleted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_service import logs
from sam_service.core.engine import Engine
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.generations import KeptStep
from sam_service.core.memory.selection import neighbour_of
from sam_service.core.memory.spill import DiskSpill
from sam_service.errors import Gone, NotFound, NotReady, TooManySessions
from sam_service.export.webm import TEMPORARY_PREFIX
from sam_service.failures import translate
from sam_service.sessions.admission import Admission, Reserve
from sam_service.sessions.events import SessionDeleted
from sam_service.sessions.folder import FOLDER_MODE, DataFolder
from sam_service.sessions.names import shown_name
from sam_service.sessions.pools import Pools
from sam_service.sessions.records import SessionRecord, StepRecord
from sam_service.sessions.session import Session
from sam_service.sessions.states import MemoryState, SessionState
from sam_service.sessions.store import SessionStore
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.limits import VideoLimits
from sam_service.video.live import LiveFrames, LiveIntake, LiveOptions, is_live
from sam_service.video.manifest import FrameOptions
from sam_service.video.process import DecodingProcess

logger = logging.getLogger(__name__)

FIRST_FRAME_TIMEOUT_S = 60.0
FRAME_TIMEOUT_S = 600.0
WAIT_SLICE_S = 1.0
TOUCH_INTERVAL_S, BUSY_TOUCH_INTERVAL_S = 1.0, 60.0
LIVE_VIDEO_NAME = "live"
LENGTH_THAT_MATTERS = 16  # SAM 2 scales the time of object pointers by the clip's length below this


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may be at most."""

    max_frames: int = 10_000
    max_dimension: int = 1920
    jpeg_quality: int = 85
    max_sessions: int = 32
    max_objects: int = 64
    max_prompts: int = 256
    ttl_s: float = 3600.0
    live_ttl_s: float = 300.0
    spill_bytes: int = 4 << 30
    video: VideoLimits = field(default_factory=VideoLimits)


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a client wants its video opened; None is the service's own choice."""

    start_frame: int = 0
    max_frames: int | None = None
    frame_stride: int = 1
    image_size: int | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class LiveOpening:
    """A session without a file. width, height: of the frames that will be pushed, pixels."""

    width: int
    height: int
    options: LiveOptions = LiveOptions()
    image_size: int | None = None


class SessionService:
    """All open sessions. Belongs to one event loop; blocking work goes to `pools`, the network's to the engine."""

    def __init__(self, data: DataFolder, store: SessionStore, engine: Engine, limits: Limits,
                 reserve: Reserve, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self.telemetry = engine.telemetry
        self.limits = limits
        self.store = store
        self.pools = Pools()
        self.pool = self.pools.steps.executor
        self.clock = clock
        self._data, self._folder = data, data.sessions
        self._admission = Admission(self._folder, reserve)
        self._stopping = False
        self._sessions: dict[str, Session] = {}
        self._opening = 0

    # Life cycle

    async def open(self, name: str, options: OpenOptions, *, path: Path | None = None, upload: Path | None = None) -> Session:
        """Open a video, by a path that stays where it is or an uploaded file that the session takes over.

        Returns as soon as frame 0 can be clicked. Raises NotAVideo, TooLarge, InvalidInput, TooManySessions, NotReady.
        """
        name = shown_name(name)
        image_size, model = self._network_input(options.image_size)
        return await self._open(lambda session_id: self._create(session_id, name, options, image_size, model, path, upload))

    async def open_live(self, opening: LiveOpening) -> Session:
        """Open a session whose frames will be pushed. Raises TooLarge, NotAVideo, InvalidInput, TooManySessions, NotReady."""
        image_size, model = self._network_input(opening.image_size)
        self.limits.video.check_picture(opening.width, opening.height)
        return await self._open(lambda session_id: self._create_live(session_id, opening, image_size, model))

    def _network_input(self, asked: int | None) -> tuple[int, str]:
        """The input size of a new session, pixels, and the identity of its network."""
        model = self.engine.require_ready().identity
        image_size = asked if asked is not None else self.engine.usual_image_size
        self.engine.check_image_size(image_size)
        return image_size, model

    async def _open(self, create: Callable[[str], Session]) -> Session:
        self.require_place()
        self._opening += 1
        session_id = secrets.token_hex(16)
        folder = self._folder / session_id
        session = None
        try:
            session = await self.pools.opening.run(lambda: create(session_id))
            if session.live is None:
                await self.require_frame(session, 0, timeout_s=FIRST_FRAME_TIMEOUT_S)
            record = session.record
            await self.pools.store.run(lambda: self.store.create(record))
        except BaseException:
            if session is not None:
                await self.pools.files.run(session.extraction.cancel)
            await self.pools.files.run(lambda: shutil.rmtree(folder, ignore_errors=True))
            raise
        finally:
            self._opening -= 1
        session.become(SessionState.OPEN)
        self._sessions[session_id] = session
        self.telemetry.sessions_opened.inc()
        logger.info("session %s opened: %s, %d x %d", session_id, session.record.video_name, *session.size)
        return session

    def get(self, session_id: str) -> Session:
        """A session, which counts as a use of it; log lines name it from here on. Raises NotFound, or Gone where it has
        expired."""
        logs.session_id.set(session_id)
        session = self._sessions.get(session_id)
        if session is None or session.closed:
            if self.store.is_expired(session_id):
                raise Gone("this session has expired and everything it held was freed", field="session_id")
            raise NotFound("there is no such session", field="session_id")
        self._use(session, TOUCH_INTERVAL_S)
        return session

    def find(self, session_id: str) -> Session | None:
        """A session, or None; looking does not count as a use."""
        session = self._sessions.get(session_id)
        return None if session is None or session.closed else session

    def require_room(self) -> None:
        """Raise StorageFull or MemoryFull where there is no room for more work."""
        self._admission.require_room()

    def require_place(self) -> None:
        """Raise StorageFull or MemoryFull as `require_room`, and TooManySessions where no session more can be opened."""
        self.require_room()
        if len(self._sessions) + self._opening >= self.limits.max_sessions:
            raise TooManySessions(f"all {self.limits.max_sessions} sessions are in use; delete one or come back later",
                                  retry_after_s=30)

    def sessions(self) -> list[Session]:
        """All open sessions, oldest first; looking does not count as a use."""
        return [session for session in self._sessions.values() if not session.closed]

    def expires_at(self, session: Session) -> float:
        """When a session expires if it is left alone, in seconds since 1970."""
        return session.last_used_at + (self.limits.ttl_s if session.live is None else self.limits.live_ttl_s)

    async def delete(self, session_id: str) -> None:
        """Stop all work of a session and free everything it holds. Unknown ids are no error."""
        session = self._sessions.get(session_id)
        if session is not None and not session.closed:
            await self._free(session, expired=False)

    async def expire(self) -> None:
        """Delete the sessions that were not used for their time to live, and try failed deletions again. Running work and an
        open page are uses."""
        for session in list(self._sessions.values()):
            if session.state is SessionState.DELETION_FAILED:
                await self._free(session, expired=False)
            elif session.state is SessionState.OPEN and (session.busy or session.events.watched):
                self._use(session, BUSY_TOUCH_INTERVAL_S)
            elif session.state is SessionState.OPEN and self.clock() > self.expires_at(session):
                await self._free(session, expired=True)

    async def _free(self, session: Session, *, expired: bool) -> None:
        """Close a session to all that comes, stop what runs, free what it holds. What fails is tried again by `expire`."""
        session.become(SessionState.CLOSED)
        try:
            await self.pools.files.run(session.extraction.cancel)
            async with session.lock:
                pass  # whatever held it was let in before the session was closed; nothing comes after it
            if session.job is not None:
                session.job.cancel()
                await session.job.wait()
                session.job.release()
            async with session.lock:
                self.engine.forget(session.session_id)
                await self.pools.store.run(lambda: self.store.delete(session.session_id, expired=expired))
                await self.pools.files.run(lambda: shutil.rmtree(session.folder, ignore_errors=True))
        except BaseException:
            session.become(SessionState.DELETION_FAILED)
            raise
        del self._sessions[session.session_id]
        self.telemetry.sessions_ended.labels("expired" if expired else "deleted").inc()
        session.events.publish(SessionDeleted())
        logger.info("session %s %s", session.session_id, "expired" if expired else "deleted")

    def _use(self, session: Session, interval_s: float) -> None:
        """Note a use; in the store, at most every `interval_s` seconds and without waiting for it."""
        now = self.clock()
        if now - session.last_used_at > interval_s:
            session.last_used_at = now
            self.pools.store.executor.submit(self._touch, session.session_id, now)

    def _touch(self, session_id: str, now: float) -> None:
        """Note a use in the store. Blocks. A full disk is no reason not to be used."""
        try:
            self.store.touch(session_id, now)
        except Exception as error:
            logger.warning("a use of session %s could not be noted: %s", session_id, error,
                           exc_info=None if translate(error) else error)

    def restore(self) -> None:
        """Open the sessions of an earlier process; extractions resume. Blocks; called before serving."""
        records = self.store.sessions()
        for record in records:
            try:
                self._sessions[record.session_id] = self._restored(record)
            except Exception:  # one session that cannot be read must not keep the others away
                logger.exception("session %s cannot be restored; its files are left in %s", record.session_id, self._folder)
        self._data.sweep({record.session_id for record in records})
        if self._sessions:
            logger.info("%d sessions restored", len(self._sessions))

    def begin_stop(self) -> None:
        """Let nobody wait any longer for frames that are still to be extracted."""
        self._stopping = True

    async def close(self) -> None:
        """Stop all work; sessions stay on disk for the next process."""
        self.begin_stop()
        for session in self.sessions():
            await self.pools.files.run(session.extraction.cancel)
            if session.job is not None:
                session.job.interrupt()
                await session.job.wait()
        self.pools.close()

    # Shared by the use cases

    async def require_frame(self, session: Session, index: int, *, timeout_s: float = FRAME_TIMEOUT_S) -> None:
        """Wait until a frame is extracted. Raises NotFound past the end of the video, NotReady when it takes too long.

        A frame of a live session is in the window, or it raises NotFound before its push and Gone behind the window.
        """
        if session.live is not None:
            return session.live.require_in_window(index)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not 0 <= index < session.frames.frames_ready:
            slice_s = min(WAIT_SLICE_S, max(0.0, deadline - loop.time()))
            try:
                await loop.run_in_executor(self.pools.waiting.executor, session.frames.wait_for, index, slice_s)
            except NotReady:
                if session.closed or self._stopping or loop.time() >= deadline:
                    raise

    async def require_length(self, session: Session) -> int:
        """The clip's length as far as the network needs it, which is up to 16 frames. Live sessions count as long ones."""
        if session.live is not None:
            return LENGTH_THAT_MATTERS
        if session.frames.num_frames < LENGTH_THAT_MATTERS and not session.frames.complete:
            with contextlib.suppress(NotFound):  # the clip is shorter, and then its length is known
                await self.require_frame(session, LENGTH_THAT_MATTERS - 1)
        return min(session.frames.num_frames, LENGTH_THAT_MATTERS)

    async def prompted_frame(self, session: Session, index: int, object_id: int, num_frames: int) -> ClipFrame:
        """A frame for a prompt of an object, with all read that its step needs."""
        frame = self._frame(session, index, [index])
        await self.read(frame)
        await self.recall(session, index, num_frames, prompted=[object_id])
        return frame

    async def recall(self, session: Session, index: int, num_frames: int, *, prompted: Sequence[int] = (),
                     track: Sequence[int] = (), reverse: bool = False) -> None:
        """Read from disk what the step of a frame needs beside pixels. What cannot be read is dealt with by the step."""
        reads = self.engine.read_ahead(session.record.image_size, session.bank, index, self.pool, prompted=prompted,
                                       track=track, reverse=reverse, num_frames=num_frames)
        await asyncio.gather(*(asyncio.wrap_future(read) for read in reads), return_exceptions=True)

    def tracked_frame(self, session: Session, index: int, *, reverse: bool, following: bool) -> ClipFrame:
        """A frame for tracking, whose pixels are being read; `read` waits for them. following: the one before it is tracked
        just before."""
        neighbour = neighbour_of(index, reverse=reverse)
        needed = self.engine.tracking_reads_neighbour(index, reverse=reverse, following=following)
        return self._frame(session, index, [index, neighbour] if needed else [index])

    async def read(self, frame: ClipFrame) -> None:
        """Wait until what a frame reads ahead is there, so that the device's thread reads no file. Raises FrameUnreadable."""
        for reading in frame.reads:
            await asyncio.wrap_future(reading)

    def _frame(self, session: Session, index: int, wanted: Sequence[int]) -> ClipFrame:
        image_size, bank = session.record.image_size, session.any_bank

        def read(at: int) -> NDArray[np.uint8]:
            with self.telemetry.stage("decode"):
                return session.frames.read(at)

        frame = ClipFrame(index, session.size, read, lambda image: self.engine.resize(image, image_size, bank.model))
        there = [at for at in wanted if session.frames.first <= at < session.frames.frames_ready]
        frame.prefetch(self.pool, self.engine.frames_read(image_size, session.session_id, there))
        return frame

    # Blocking parts, run in the pool

    def _create(self, session_id: str, name: str, options: OpenOptions, image_size: int, model: str, path: Path | None,
                upload: Path | None) -> Session:
        folder = self._folder / session_id
        folder.mkdir(mode=FOLDER_MODE)
        if upload is not None:
            path = folder / "video"
            shutil.move(upload, path)
        assert path is not None
        limit = self.limits.max_frames
        frame_options = FrameOptions(
            start_frame=options.start_frame, frame_stride=options.frame_stride,
            max_frames=min(options.max_frames, limit) if options.max_frames is not None else limit,
            max_dimension=self.limits.max_dimension, jpeg_quality=self.limits.jpeg_quality, fps=options.fps)
        now = self.clock()
        record = SessionRecord(session_id, now, now, image_size, name, str(path), model)
        process = DecodingProcess(path, self.limits.video, fps=options.fps)
        try:
            frames = FrameStore.create(folder / "frames", process.open(), frame_options)
            session = self._session(record, folder, frames, MemoryState.READY)
            session.extraction.start(process)
        except BaseException:
            process.close()
            raise
        return session

    def _create_live(self, session_id: str, opening: LiveOpening, image_size: int, model: str) -> Session:
        folder = self._folder / session_id
        folder.mkdir(mode=FOLDER_MODE)
        stored = FrameOptions(max_dimension=self.limits.max_dimension, jpeg_quality=self.limits.jpeg_quality)
        frames = LiveFrames.create_live(folder / "frames", opening.width, opening.height, opening.options, stored)
        now = self.clock()
        record = SessionRecord(session_id, now, now, image_size, LIVE_VIDEO_NAME, "", model)
        return self._session(record, folder, frames, MemoryState.READY)

    def _restored(self, record: SessionRecord) -> Session:
        folder = self._folder / record.session_id
        for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
            if leftover.is_file():
                leftover.unlink()
        steps, stored = self.store.steps(record.session_id), folder / "frames"
        frames = LiveFrames.open_live(stored) if is_live(stored) else FrameStore.open(stored)
        session = self._session(record, folder, frames, MemoryState.STORED, steps)
        session.replay(self.store.prompts(record.session_id), steps)
        session.extraction.start()
        session.become(SessionState.OPEN)
        return session

    def _session(self, record: SessionRecord, folder: Path, frames: FrameStore, memory: MemoryState,
                 steps: Sequence[StepRecord] = ()) -> Session:
        kept = [KeptStep(step.step, frozenset(step.keeps), step.undone) for step in steps]
        spill = DiskSpill(folder / "memory", self.limits.spill_bytes, record.base_step, kept)
        bank = MemoryBank(record.session_id, spill, model=record.model)
        extraction = LiveIntake(frames, self.limits.video) if isinstance(frames, LiveFrames) else Extraction(
            Path(record.source), frames, self.limits.video)
        return Session(record, folder, frames, extraction, bank, memory, last_used_at=record.last_used_at)
