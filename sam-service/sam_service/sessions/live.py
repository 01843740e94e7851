"""The use case of live sessions: frames are pushed one by one, and each push is one step of tracking.

A push is the step that a propagation does for that frame, so a clip that is pushed has the masks of `/propagate` to the bit.
What is held is bounded: a window of frames with their masks and memories, and a few prompts behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

from sam_service.core.engine import StepResult
from sam_service.errors import BacklogFull, Conflict, InvalidInput, QueueFull
from sam_service.sessions.events import FramePushed, ObjectsChanged
from sam_service.sessions.history import forget_all, store_change
from sam_service.sessions.records import FrameResult, MaskRecord, PromptKind, StepKind, StepRecord
from sam_service.sessions.recovery import exclusive
from sam_service.sessions.render import absent, to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.steps import clear_prompt
from sam_service.video.live import LiveFrames, LiveIntake, Policy

LATEST: Literal["latest"] = "latest"
MAX_WAITING = 8  # frames of a session, with the policy `all`
KEPT_PROMPTS = 4  # of an object, behind the window: its first, and the newest others
MEMORIES_BEHIND = 16  # tracked frames whose memories are read for the frame after the window's first
FEATURES_KEPT = 2  # frames whose image features are kept, for a prompt on the newest ones
BACKOFF_S = 0.01


@dataclass(frozen=True, slots=True)
class Pushed:
    """A frame with its masks. dropped: frames of the session so far that a newer one has replaced. queue_ms: from its arrival
    to its turn; step_ms: from there to its masks."""

    result: FrameResult
    dropped: int
    queue_ms: float
    step_ms: float


@dataclass(slots=True)
class _Backlog:
    """Frames of one session that wait, and whether one is at work. A waiting one gets True for its turn, False once a newer one
    has replaced it."""

    at_work: bool = False
    waiting: list[asyncio.Future[bool]] = field(default_factory=list)

    def drop_waiting(self) -> int:
        """Let all that wait know that a newer frame is there; returns how many they were."""
        dropped, self.waiting = self.waiting, []
        for turn in dropped:
            turn.set_result(False)
        return len(dropped)

    def next(self) -> None:
        """The frame at work is done: the next one's turn."""
        self.at_work = bool(self.waiting)
        if self.waiting:
            self.waiting.pop(0).set_result(True)


class Live:
    """Live sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions
        self._backlogs: WeakKeyDictionary[LiveFrames, _Backlog] = WeakKeyDictionary()

    def frame_of(self, session_id: str, frame_idx: int | Literal["latest"]) -> int:
        """The frame that a prompt names. Raises InvalidInput where a session with a file has no `latest`, NotFound."""
        if frame_idx != LATEST:
            return frame_idx
        live = self._sessions.get(session_id).live
        if live is None:
            raise InvalidInput('"latest" is for live sessions; this one has a file, whose frames have numbers',
                               field="frame_idx")
        return live.latest()

    async def push(self, session_id: str, picture: bytes, *, timestamp_s: float | None = None,
                   frame_idx: int | None = None) -> Pushed:
        """Track all objects on one more frame. frame_idx: the number that it has to get; the last frame again, with the same
        picture, is answered as before.

        Raises InvalidInput, NotAVideo and TooLarge for what is no picture of the session's size, Conflict where a newer frame
        has replaced this one, where it is not its turn, in a session with a file or beside a propagation, BacklogFull.
        """
        session = self._sessions.get(session_id)
        frames = _require_live(session)
        self._sessions.engine.require_ready()
        self._sessions.require_room()
        arrived = time.perf_counter()
        async with self._turn(frames):
            began = time.perf_counter()
            intake = session.extraction
            assert isinstance(intake, LiveIntake)
            jpeg = await self._sessions.pools.pictures.run(lambda: intake.jpeg(picture))
            async with exclusive(self._sessions, session):
                if session.busy:
                    raise Conflict("a propagation runs on this session; cancel it or wait for its end before the next frame",
                                   code="propagation_running")
                if frame_idx is not None and frames.is_last(frame_idx, jpeg):
                    result = await self._again(session, frame_idx)
                else:
                    result = await self._track(session, frames, jpeg, timestamp_s, frame_idx)
            ended = time.perf_counter()
        self._sessions.telemetry.live_lag_seconds.observe(ended - arrived)
        session.events.publish(FramePushed(result, frames.dropped))
        return Pushed(result, frames.dropped, (began - arrived) * 1000, (ended - began) * 1000)

    async def rewind(self, session_id: str, frame_index: int) -> None:
        """Drop the frames after one of the window, with their masks, memories and prompts; the next push follows on it.

        Objects that were prompted on later frames only stay in the list, without prompt. Raises Gone, NotFound, Conflict.
        """
        session = self._sessions.get(session_id)
        frames = _require_live(session)
        pools, store = self._sessions.pools, self._sessions.store
        async with exclusive(self._sessions, session):
            frames.require_in_window(frame_index)
            if session.busy:
                raise Conflict("a propagation runs on this session; cancel it or wait for its end", code="propagation_running")
            later = [(object_id, at) for object_id, on_frames in session.prompts.items()
                     for at in on_frames if at > frame_index]
            for object_id, at in later:
                sequence = await pools.store.run(functools.partial(
                    store.append_prompt, session_id, PromptKind.CLEAR, object_id, at, {}))
                emptied = await clear_prompt(self._sessions, session, object_id, at, sequence)
                await store_change(self._sessions, session, sequence, session.objects.without_prompt(object_id, at),
                                   gone=[object_id] if emptied else (),
                                   step=StepRecord(sequence, StepKind.CLEAR, (object_id,), at))
            await forget_all(self._sessions, session)  # frames go: nothing before can be undone
            engine, bank = self._sessions.engine, session.bank
            engine.forget(session_id, range(frame_index + 1, frames.frames_ready))
            await asyncio.wrap_future(engine.run_on_device(lambda: bank.forget_after(frame_index)))
            await pools.steps.run(lambda: frames.rewind(frame_index))
            await pools.store.run(lambda: store.delete_masks_after(session_id, frame_index))
        session.events.publish(ObjectsChanged())

    @contextlib.asynccontextmanager
    async def _turn(self, frames: LiveFrames) -> AsyncIterator[None]:
        """Wait for a frame's turn. Raises Conflict where a newer one comes meanwhile, BacklogFull."""
        backlog = self._backlogs.setdefault(frames, _Backlog())
        if backlog.at_work:
            await self._wait(backlog, frames, frames.options.policy)
        backlog.at_work = True
        try:
            yield
        finally:
            backlog.next()

    async def _wait(self, backlog: _Backlog, frames: LiveFrames, policy: Policy) -> None:
        if policy == LATEST:
            dropped = backlog.drop_waiting()
            frames.dropped += dropped
            self._sessions.telemetry.live_dropped.inc(dropped)
        elif len(backlog.waiting) >= MAX_WAITING:
            raise BacklogFull(f"{MAX_WAITING} frames of this session wait for their turn; push slower, or open it with the "
                              "policy `latest`", retry_after_s=1)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        backlog.waiting.append(turn)
        try:
            is_turn = await turn
        except asyncio.CancelledError:
            if turn in backlog.waiting:
                backlog.waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.result():
                backlog.next()
            raise
        if not is_turn:
            raise Conflict("a newer frame has replaced this one before its turn (policy `latest`)", code="frame_dropped")

    async def _track(self, session: Session, frames: LiveFrames, jpeg: bytes, timestamp_s: float | None,
                     frame_idx: int | None) -> FrameResult:
        """Hold a frame and track all objects on it; where that fails it is as if it had not come. Holds the session's lock."""
        if frame_idx is not None and frame_idx != frames.frames_ready:
            raise Conflict(f"the next frame of this session is {frames.frames_ready}, not {frame_idx}", field="frame_idx",
                           code="frame_out_of_order")
        time_s = frames.next_time_s(timestamp_s)
        sessions = self._sessions
        await forget_all(sessions, session)  # a frame more: what was done before cannot be undone any more
        index = await sessions.pools.steps.run(lambda: frames.push(jpeg, time_s))
        try:
            first = max(frames.first, index + 1 - frames.options.keep_frames)
            await self._let_go_of_prompts(session, first)
            masks = await self._masks(session, index, first)
            await sessions.pools.store.run(lambda: sessions.store.put_live_masks(session.session_id, masks, first))
            prompted = {at for on_frames in session.prompts.values() for at in on_frames}
            await sessions.pools.steps.run(lambda: frames.commit(prompted))
        except BaseException:
            frames.withdraw()
            sessions.engine.forget(session.session_id, (index,))
            raise
        return FrameResult(index, time_s, tuple(masks))

    async def _masks(self, session: Session, index: int, first: int) -> list[MaskRecord]:
        """The mask of every object on a frame, an empty one without a prompt. first: of the window from now on."""
        width, height = session.size
        prompted = [object_id for object_id, on_frames in session.prompts.items() if on_frames]
        outputs: dict[int, MaskRecord] = {}
        if prompted:
            step = await self._step(session, index, first, prompted)

            def render() -> dict[int, MaskRecord]:
                with self._sessions.telemetry.stage("render"):
                    return {output.object_id: to_record(output, width, height, step.elapsed_ms) for output in step.outputs}

            outputs = await self._sessions.pools.steps.run(render)
        there = {object_id: mask for object_id, mask in outputs.items() if not session.objects.is_absent(object_id, index)}
        return [there.get(object_id) or absent(index, object_id, width, height) for object_id in session.prompts]

    async def _step(self, session: Session, index: int, first: int, objects: Sequence[int]) -> StepResult:
        """One step of tracking, behind what keeps the memory within its bounds. A full queue is waited for."""
        engine, bank = self._sessions.engine, session.bank
        frame = self._sessions.tracked_frame(session, index, reverse=False, following=True)
        await self._sessions.read(frame)
        num_frames = await self._sessions.require_length(session)
        await self._sessions.recall(session, index, num_frames, track=objects)
        engine.forget(session.session_id, range(max(0, index - FEATURES_KEPT)))
        behind = range(first - MEMORIES_BEHIND * engine.options.track_every, index)
        moved = asyncio.wrap_future(engine.run_on_device(lambda: bank.move_window(behind)))
        while True:
            try:
                stepped = asyncio.wrap_future(engine.step(session.record.image_size, bank, frame, track=objects,
                                                          num_frames=num_frames))
                break
            except QueueFull:
                await asyncio.sleep(BACKOFF_S)
        await moved
        return await stepped

    async def _let_go_of_prompts(self, session: Session, first: int) -> None:
        """Of each object's prompts behind the window keep the first and the newest ones."""
        leaving = []
        for object_id, on_frames in session.prompts.items():
            behind = sorted(at for at in on_frames if at < first)
            if len(behind) > KEPT_PROMPTS:
                leaving += [(object_id, at) for at in behind[1:1 - KEPT_PROMPTS]]
        if not leaving:
            return
        bank = session.bank

        def forget() -> None:
            for object_id, at in leaving:
                bank.object(object_id).forget(at)

        await self._sessions.pools.store.run(lambda: self._sessions.store.forget_prompts(session.session_id, leaving))
        for object_id, at in leaving:
            session.objects = session.objects.without_prompt(object_id, at)
        await asyncio.wrap_future(self._sessions.engine.run_on_device(forget))

    async def _again(self, session: Session, index: int) -> FrameResult:
        """The stored masks of a frame that was pushed already."""
        found = {mask.object_id: mask for mask in await self._sessions.pools.store.run(
            lambda: self._sessions.store.masks(session.session_id, index))}
        masks = tuple(found.get(object_id) or absent(index, object_id, *session.size) for object_id in session.prompts)
        return FrameResult(index, session.frames.timestamp_s(index), masks)


def _require_live(session: Session) -> LiveFrames:
    if session.live is None:
        raise Conflict("this session has a file; frames can be pushed to live sessions only (`/initialize` with `live`)",
                       code="not_live")
    return session.live
