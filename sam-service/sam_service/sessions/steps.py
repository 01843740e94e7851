"""The step behind a prompt: the network's mask for it, and taking prompts and objects back out of the tracking memory.

All but `prepare` hold the session's lock, and wait for the device alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sam_service.core.prompts import MaskPrompt, Prompt
from sam_service.sessions.records import MaskRecord
from sam_service.sessions.render import absent, given_record, to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.uniting import united


@dataclass(frozen=True, slots=True)
class PromptedFrame:
    """A frame whose step can run: all frames that it reads are extracted. num_frames: the clip's length as far as the network
    needs it."""

    index: int
    num_frames: int


async def prepare(sessions: SessionService, session: Session, frame_index: int) -> PromptedFrame:
    """Wait for all frames that the step of a prompt reads. Called before the session is locked, since it can take long.

    Raises NotFound past the end of the clip, NotReady where a frame does not come in time, Gone where it is no longer held.
    """
    if session.live is not None:
        session.live.require(frame_index)  # a prompted frame is held behind the window, too
    else:
        await sessions.require_frame(session, frame_index)
    return PromptedFrame(frame_index, await sessions.require_length(session))


async def apply_prompt(sessions: SessionService, session: Session, object_id: int, frame: PromptedFrame,
                       prompt: Prompt) -> MaskRecord:
    """Run the step of one prompt: the memory has it then. Returns its mask; stores nothing."""
    started = time.perf_counter()
    pixels = await sessions.prompted_frame(session, frame.index, object_id, frame.num_frames)
    step = await asyncio.wrap_future(sessions.engine.step(
        session.record.image_size, session.bank, pixels, prompts={object_id: prompt}, num_frames=frame.num_frames))
    [output] = step.outputs
    if isinstance(prompt, MaskPrompt):
        record = await sessions.pools.steps.run(lambda: given_record(prompt.mask, output, step.elapsed_ms))
    else:
        record = await sessions.pools.steps.run(lambda: to_record(output, *session.size, step.elapsed_ms))
    sessions.telemetry.first_mask_seconds.labels("click").observe(time.perf_counter() - started)
    return record


async def remove_object(sessions: SessionService, session: Session, object_id: int, step: int) -> None:
    """Remove an object's memory, as part of a step that can be undone. Its masks go when the step is stored."""
    bank = session.bank

    def run() -> None:
        bank.begin(step, [object_id])
        bank.remove(object_id)

    await asyncio.wrap_future(sessions.engine.run_on_device(run))


async def clear_prompt(sessions: SessionService, session: Session, object_id: int, frame_index: int, step: int) -> bool:
    """Take a prompt out of the memory, as part of a step that can be undone. Says whether the object has no other prompt: then
    it has lost its memory, and loses its masks when the step is stored."""
    if not session.prompts[object_id].keys() - {frame_index}:
        await remove_object(sessions, session, object_id, step)
        return True
    bank = session.bank

    def run() -> None:
        bank.begin(step, [object_id])
        bank.object(object_id).clear_prompt(frame_index)

    await asyncio.wrap_future(sessions.engine.run_on_device(run))
    return False


async def merge_objects(sessions: SessionService, session: Session, objects: Sequence[int], prompts: Mapping[int, Prompt],
                        sequence: int) -> list[MaskRecord]:
    """Make several objects the first of them, as the step `sequence`: its memory is what `prompts`, by frame, are answered
    with. Returns its masks on all frames; stores nothing."""
    bank, first = session.bank, objects[0]
    stored = await sessions.pools.rendering.run(lambda: sessions.store.masks(session.session_id))

    def run() -> None:
        bank.begin(sequence, objects)
        for object_id in objects:
            bank.remove(object_id)

    await asyncio.wrap_future(sessions.engine.run_on_device(run))
    masks = {mask.frame_index: mask for mask in await sessions.pools.rendering.run(lambda: united(stored, objects, first))}
    for frame_index, prompt in prompts.items():
        frame = await prepare(sessions, session, frame_index)
        masks[frame_index] = await apply_prompt(sessions, session, first, frame, replace(prompt, sequence=sequence))
    return list(masks.values())


async def set_absent(sessions: SessionService, session: Session, object_id: int, frame_index: int,
                     step: int) -> list[MaskRecord]:
    """Take an object out of the memory from a frame on, up to its next prompt, as part of a step. Returns the empty masks of
    these frames, as far as they are extracted; stores nothing."""
    end = min((at for at in session.prompts[object_id] if at > frame_index), default=sys.maxsize)
    bank = session.bank

    def run() -> None:
        bank.begin(step, [object_id])
        bank.object(object_id).forget_tracked(range(frame_index, end))

    await asyncio.wrap_future(sessions.engine.run_on_device(run))
    return [absent(at, object_id, *session.size) for at in range(frame_index, min(end, session.frames.frames_ready))]
