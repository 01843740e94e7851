"""The tracking memory of a session, restored after a restart before anybody uses it.

Memories are read back from disk. Prompts that were written down and not applied before the process ended are applied now. Where
a memory is damaged, or another network answers than the one that made it, all prompts are applied anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

from sam_service.errors import MemoryUnreadable
from sam_service.sessions.records import MaskRecord, PromptKind, PromptRecord
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.states import JobState, MemoryState
from sam_service.sessions.steps import apply_prompt, clear_prompt, prepare, remove_object

logger = logging.getLogger(__name__)

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
            await _restore(sessions, session)
        yield


async def _restore(sessions: SessionService, session: Session) -> None:
    """Make the memory ready. Where that fails it stays as it was, to be tried again at the next use."""
    before = session.memory
    session.memory_becomes(MemoryState.RESTORING)
    try:
        if before is MemoryState.STORED and not await _read_back(sessions, session):
            before = MemoryState.STALE
        if before is MemoryState.STALE:
            await _rebuild(sessions, session)
        while session.unapplied:
            line = session.unapplied[0]
            masks = await _apply(sessions, session, line)
            await _mark_applied(sessions, session, line, masks)
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
    return session.record.model == sessions.engine.identity


async def _apply(sessions: SessionService, session: Session, line: PromptRecord) -> list[MaskRecord]:
    """Apply a line of the prompt log, which is part of the session's prompts already; returns the masks that came of it."""
    match line.kind:
        case PromptKind.ADD | PromptKind.REFINE:
            prompt = session.prompts.get(line.object_id, {}).get(line.frame_index)
            if prompt is not None:
                frame = await prepare(sessions, session, line.frame_index)
                return [await apply_prompt(sessions, session, line.object_id, frame, replace(prompt, sequence=line.sequence))]
        case PromptKind.REMOVE:
            await remove_object(sessions, session, line.object_id)
        case PromptKind.CLEAR:
            if line.object_id in session.prompts:
                await clear_prompt(sessions, session, line.object_id, line.frame_index)
        case PromptKind.LABEL:
            pass  # it has no part in the tracking
    return []


async def _mark_applied(sessions: SessionService, session: Session, line: PromptRecord, masks: list[MaskRecord]) -> None:
    await sessions.pools.store.run(lambda: sessions.store.mark_applied(session.session_id, line.sequence, masks))


async def _rebuild(sessions: SessionService, session: Session) -> None:
    """Make the memory anew from the prompts. It lacks the tracked frames, so a paused propagation starts over."""
    store, session_id = sessions.store, session.session_id
    logger.info("the memory of session %s (%s) is made anew from its prompts (%s)", session_id, session.record.model,
                sessions.engine.identity)
    await asyncio.wrap_future(sessions.engine.run_on_device(session.bank.clear))
    for object_id, on_frames in session.prompts.items():
        for frame_index, prompt in sorted(on_frames.items()):
            frame = await prepare(sessions, session, frame_index)
            await _store_mask(sessions, session, await apply_prompt(sessions, session, object_id, frame, prompt))
    session.record = await sessions.pools.store.run(lambda: store.set_model(session.record, sessions.engine.identity))
    if session.job is not None and session.job.state is JobState.PAUSED:
        session.job.start_over()


async def _store_mask(sessions: SessionService, session: Session, mask: MaskRecord) -> None:
    await sessions.pools.store.run(lambda: sessions.store.put_masks(session.session_id, [mask]))
