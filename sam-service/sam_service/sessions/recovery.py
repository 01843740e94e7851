"""The tracking memory of a session, restored after a restart before anybody uses it.

Memories are read back from disk. Prompts that were written down and not applied before the process ended are applied now. Where
a memory is damaged, or another network answers than the one that made it, all prompts are applied anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from sam_service.errors import MemoryUnreadable
from sam_service.sessions.history import forget_all, store_change
from sam_service.sessions.records import MaskRecord, PromptKind, PromptRecord, StepKind, StepRecord
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session, Unapplied
from sam_service.sessions.states import JobState, MemoryState
from sam_service.sessions.steps import apply_prompt, clear_prompt, merge_objects, prepare, remove_object, set_absent

logger = logging.getLogger(__name__)
_STEPS = {PromptKind.ADD: StepKind.ADD, PromptKind.REFINE: StepKind.REFINE, PromptKind.REMOVE: StepKind.REMOVE,
          PromptKind.CLEAR: StepKind.CLEAR, PromptKind.ABSENT: StepKind.ABSENT, PromptKind.MERGE: StepKind.MERGE}


@contextlib.asynccontextmanager
async def exclusive(sessions: SessionService, session: Session) -> AsyncIterator[None]:
    """Hold the session's lock with its memory restored.

    The frames that restoring needs are waited for before the lock is taken, so nobody waits for a frame while holding it.
    Raises NotFound where the session was deleted while the lock was waited for, NotReady where the memory has to be restored
    and the model is still loading.
    """
    if session.memory is not MemoryState.READY:
        sessions.engine.require_ready()
        for index in sorted({index for on_frames in session.prompts.values() for index in on_frames}):
            await prepare(sessions, session, index)
    async with session.hold():
        if session.memory is not MemoryState.READY:
            await restore(sessions, session)
        yield


async def restore(sessions: SessionService, session: Session) -> None:
    """Make the memory ready. Where that fails it stays as it was, to be tried again at the next use. Holds the session's
    lock."""
    before = session.memory
    session.memory_becomes(MemoryState.RESTORING)
    try:
        if before is MemoryState.STORED and not await _read_back(sessions, session):
            before = MemoryState.STALE
        if before is MemoryState.STALE:
            await _rebuild(sessions, session)
        while session.unapplied:
            await _apply(sessions, session, session.unapplied[0])
            session.unapplied.pop(0)
    except BaseException:
        session.memory_becomes(before)
        raise
    session.memory_becomes(MemoryState.READY)


async def _read_back(sessions: SessionService, session: Session) -> bool:
    """Read the memory from disk; returns whether it can be used."""
    try:
        await sessions.pools.steps.run(session.bank.restore)
    except MemoryUnreadable as error:
        logger.warning("session %s: %s", session.session_id, error.message)
        return False
    return sessions.engine.serves(session.record.model)


async def _apply(sessions: SessionService, session: Session, unapplied: Unapplied) -> None:
    """Apply a line of the prompt log, which is part of the session's objects already, and store what comes of it."""
    line, masks, gone = unapplied.line, [], []
    begun, step = line.sequence if line.step is None else line.step, None
    if not session.history.has(begun):
        changed = tuple(int(number) for number in line.payload.get("objects", [line.object_id]))
        step = StepRecord(begun, _STEPS.get(line.kind, StepKind.EDIT), changed, _frame_of(line))
    match line.kind:
        case PromptKind.ADD | PromptKind.REFINE:
            prompt = session.prompts.get(line.object_id, {}).get(line.frame_index)
            if prompt is not None:
                frame = await prepare(sessions, session, line.frame_index)
                masks = [await apply_prompt(sessions, session, line.object_id, frame, replace(prompt, sequence=line.sequence))]
        case PromptKind.REMOVE:
            await remove_object(sessions, session, line.object_id, begun)
            gone = [line.object_id]
        case PromptKind.CLEAR:
            if await clear_prompt(sessions, session, line.object_id, line.frame_index, begun):
                gone = [line.object_id]
        case PromptKind.ABSENT:
            masks = await set_absent(sessions, session, line.object_id, line.frame_index, begun)
        case PromptKind.MERGE:
            gone = [int(number) for number in line.payload["objects"]]
            masks = await merge_objects(sessions, session, gone, session.prompts[gone[0]], line.sequence)
        case PromptKind.LABEL | PromptKind.LOCK | PromptKind.MOVE:
            pass  # it has no part in the tracking
    await store_change(sessions, session, line.sequence, session.objects, step=step, before=unapplied.before, masks=masks,
                       gone=gone)


async def strike_out(sessions: SessionService, session: Session, sequence: int, objects: Sequence[int]) -> None:
    """A line of the log failed: the memory becomes what it was before, and the log loses the line. Holds the session's lock."""
    bank = session.bank
    try:
        await asyncio.wrap_future(sessions.engine.run_on_device(lambda: bank.discard(sequence, objects)))
    except Exception:
        session.memory_becomes(MemoryState.STALE)  # it holds an answer that the client never got
    await sessions.pools.store.run(lambda: sessions.store.retract_prompt(sequence))


def _frame_of(line: PromptRecord) -> int | None:
    return line.frame_index if line.kind in (PromptKind.ADD, PromptKind.REFINE, PromptKind.CLEAR, PromptKind.ABSENT) else None


async def _rebuild(sessions: SessionService, session: Session) -> None:
    """Make the memory anew from the prompts. It lacks the tracked frames, so a paused propagation starts over. Nothing can be
    undone then: what the steps keep does not fit to it."""
    store, session_id, model = sessions.store, session.session_id, sessions.engine.identity
    logger.info("the memory of session %s (%s) is made anew from its prompts (%s)", session_id, session.record.model, model)
    await forget_all(sessions, session)
    await asyncio.wrap_future(sessions.engine.run_on_device(session.bank.clear))
    session.bank.model = model
    for object_id, on_frames in session.prompts.items():
        for frame_index, prompt in sorted(on_frames.items()):
            frame = await prepare(sessions, session, frame_index)
            await _store_mask(sessions, session, await apply_prompt(sessions, session, object_id, frame, prompt))
    session.record = await sessions.pools.store.run(lambda: store.set_model(session.record, model))
    if session.job is not None and session.job.state is JobState.PAUSED:
        session.job.start_over()


async def _store_mask(sessions: SessionService, session: Session, mask: MaskRecord) -> None:
    await sessions.pools.store.run(lambda: sessions.store.put_masks(session.session_id, [mask]))
