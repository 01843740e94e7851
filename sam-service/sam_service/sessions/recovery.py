"""The tracking memory of a session, brought back after a restart.

Memories are read back from disk. Prompts that were written down and not acted on before the process ended are acted on now;
where a memory is damaged, or another network answers than the one that made it, all prompts are acted on anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from sam_service.core.prompts import Prompt
from sam_service.errors import MemoryUnreadable
from sam_service.sessions.render import to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.store import MaskRecord, PromptKind

logger = logging.getLogger(__name__)


async def answer(sessions: SessionService, session: Session, object_id: int, frame_index: int, prompt: Prompt) -> MaskRecord:
    """Run the step of one prompt and return its mask; stores nothing."""
    num_frames = await sessions.require_length(session)
    reference = await sessions.require_reference(session, frame_index)
    frame = await sessions.prompted_frame(session, frame_index, reference)
    image_size = session.record.image_size
    step = await asyncio.wrap_future(sessions.engine.step(
        image_size, session.bank, frame, prompts={object_id: prompt}, num_frames=num_frames))
    return await sessions.in_pool(lambda: to_record(step.outputs[0], *session.size, step.elapsed_ms))


async def forget(sessions: SessionService, session: Session, object_id: int) -> None:
    """Drop an object's memory and masks."""
    await asyncio.wrap_future(sessions.engine.run_on_device(lambda: session.bank.remove(object_id)))
    sessions.store.delete_masks(session.session_id, object_id)


async def take_back(sessions: SessionService, session: Session, object_id: int, frame_index: int) -> None:
    """Act on a prompt that is cleared: an object without another one loses its memory and its masks."""
    if session.prompts[object_id].keys() - {frame_index}:
        memory = session.bank.object(object_id)
        await asyncio.wrap_future(sessions.engine.run_on_device(lambda: memory.clear_prompt(frame_index)))
    else:
        await forget(sessions, session, object_id)


async def require_bank(sessions: SessionService, session: Session) -> bool:
    """Bring back the memory of a session that an earlier process left; does nothing once that is done.

    Returns whether it had to be made anew, which leaves it without the frames that were tracked.
    """
    if not session.bank_restored:
        session.memory_is_stale |= session.record.model != sessions.engine.identity
        try:
            await asyncio.wrap_future(sessions.engine.run_on_device(session.bank.restore))
        except MemoryUnreadable as error:
            logger.warning("session %s: %s", session.session_id, error.message)
            session.memory_is_stale = True
    rebuilt = session.memory_is_stale
    if rebuilt:
        await _rebuild(sessions, session)
    for line in session.unsettled:
        masks = []
        match line.kind:
            case PromptKind.ADD | PromptKind.REFINE:
                prompt = session.prompts.get(line.object_id, {}).get(line.frame_index)
                if prompt is not None:
                    await sessions.require_frame(session, line.frame_index)
                    numbered = replace(prompt, sequence=line.sequence)
                    masks = [await answer(sessions, session, line.object_id, line.frame_index, numbered)]
            case PromptKind.REMOVE:
                await forget(sessions, session, line.object_id)
            case PromptKind.CLEAR:
                if line.object_id in session.prompts:  # the replay has struck the prompt out already
                    await take_back(sessions, session, line.object_id, line.frame_index)
            case PromptKind.LABEL:
                pass  # it has no part in the tracking
        sessions.store.settle_prompt(session.session_id, line.sequence, masks)
    session.unsettled.clear()
    session.bank_restored = True
    return rebuilt


async def _rebuild(sessions: SessionService, session: Session) -> None:
    logger.info("the memory of session %s (%s) is made anew from its prompts (%s)", session.session_id, session.record.model,
                sessions.engine.identity)
    await asyncio.wrap_future(sessions.engine.run_on_device(session.bank.clear))
    for object_id, on_frames in session.prompts.items():
        for frame_index, prompt in sorted(on_frames.items()):
            await sessions.require_frame(session, frame_index)
            record = await answer(sessions, session, object_id, frame_index, prompt)
            sessions.store.put_masks(session.session_id, [record])
    session.record = sessions.store.set_model(session.record, sessions.engine.identity)
    session.memory_is_stale = False
