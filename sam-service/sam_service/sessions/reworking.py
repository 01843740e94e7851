"""Use cases on whole objects: merge some into one, say that one is not in the picture, start over. Each is one step.

None of them runs beside a propagation, whose frames would come from what was there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sam_service.errors import Conflict, InvalidInput, TooLarge
from sam_service.sessions.events import MasksChanged, ObjectsChanged
from sam_service.sessions.history import store_change
from sam_service.sessions.records import PromptKind, StepKind, StepRecord
from sam_service.sessions.recovery import exclusive, strike_out
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.steps import merge_objects, prepare, remove_object, set_absent
from sam_service.sessions.uniting import as_png, united_prompts


class Reworking:
    """Changes of whole objects in the sessions of one service. Each returns the frames whose masks are others then."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    async def merge(self, session_id: str, objects: Sequence[int]) -> list[int]:
        """Make several objects one, the first of them, whose masks are theirs united. On each frame that one of them was
        prompted on, the united mask is its prompt from now on.

        Raises NotFound, InvalidInput for fewer than two, Conflict for a locked one or beside a propagation, TooLarge,
        InvalidPrompt where a united mask is too small for the model.
        """
        session = self._sessions.get(session_id)
        chosen = list(dict.fromkeys(objects))
        if len(chosen) < 2:
            raise InvalidInput("merging takes two objects or more", field="object_ids")
        for index in {frame for number in chosen for frame in session.require_object(number, "object_ids")}:
            await prepare(self._sessions, session, index)
        async with self._at_rest(session, chosen, "object_ids"):
            stored = await self._sessions.pools.rendering.run(lambda: self._sessions.store.masks(session_id))
            prompts = await self._sessions.pools.rendering.run(lambda: united_prompts(stored, {
                number: session.prompts[number] for number in chosen}))
            if len(prompts) > self._sessions.limits.max_prompts:
                raise TooLarge(f"an object holds prompts on at most {self._sessions.limits.max_prompts} frames",
                               field="object_ids", code="too_many_prompts")
            payload = {"objects": chosen, "prompts": {str(at): as_png(prompt.mask) for at, prompt in prompts.items()}}
            sequence = await self._append(session, PromptKind.MERGE, chosen[0], 0, payload)
            try:
                masks = await merge_objects(self._sessions, session, chosen, prompts, sequence)
            except asyncio.CancelledError:
                raise
            except BaseException:
                await strike_out(self._sessions, session, sequence, chosen)
                raise
            await store_change(self._sessions, session, sequence, session.objects.merged(chosen, prompts), masks=masks,
                               gone=chosen, step=StepRecord(sequence, StepKind.MERGE, tuple(chosen)))
        return self._published(session, [mask.frame_index for mask in masks])

    async def mark_absent(self, session_id: str, object_id: int, frame_index: int) -> list[int]:
        """Say that an object is not in the picture from a frame on, up to its next prompt: its masks there are empty, and no
        propagation changes that. Raises NotFound, Conflict for a locked one, a prompted frame, or beside a propagation."""
        session = self._sessions.get(session_id)
        session.require_object(object_id)
        await self._sessions.require_frame(session, frame_index)
        async with self._at_rest(session, [object_id], "object_id"):
            on_frames = session.require_object(object_id)
            if not on_frames:
                raise Conflict(f"object {object_id} has no prompt, so it is in no frame", field="object_id", code="no_prompt")
            if frame_index in on_frames:
                raise Conflict(f"object {object_id} is prompted on frame {frame_index}; clear that prompt first",
                               field="frame_idx", code="prompted_here")
            sequence = await self._append(session, PromptKind.ABSENT, object_id, frame_index, {})
            masks = await set_absent(self._sessions, session, object_id, frame_index, sequence)
            await store_change(self._sessions, session, sequence, session.objects.with_absence(object_id, frame_index),
                               masks=masks, step=StepRecord(sequence, StepKind.ABSENT, (object_id,), frame_index))
        return self._published(session, [mask.frame_index for mask in masks])

    async def start_over(self, session_id: str) -> list[int]:
        """Remove all objects that are not locked. Raises NotFound, Conflict beside a propagation."""
        session = self._sessions.get(session_id)
        async with self._at_rest(session, [], "session_id"):
            leaving = [number for number in session.prompts if number not in session.objects.locked]
            frames = await self._sessions.pools.store.run(lambda: self._sessions.store.masked_frames(session_id))
            step: StepRecord | None = None
            for number in leaving:
                sequence = await self._append(session, PromptKind.REMOVE, number, 0, {}, step)
                begun = step or StepRecord(sequence, StepKind.START_OVER, tuple(leaving))
                await remove_object(self._sessions, session, number, begun.step)
                await store_change(self._sessions, session, sequence, session.objects.without([number]), gone=[number],
                                   step=begun if step is None else None)
                step = begun
        return self._published(session, frames if leaving else [])

    @asynccontextmanager
    async def _at_rest(self, session: Session, objects: Sequence[int], field: str) -> AsyncIterator[None]:
        """Hold the session's lock beside no propagation, where none of the objects is locked."""
        async with exclusive(self._sessions, session):
            for number in objects:
                session.require_object(number, field)
            session.require_unlocked(objects, field)
            if session.busy:
                raise Conflict("a propagation runs on this session; cancel it or wait for its end", code="propagation_running")
            self._sessions.require_room()
            yield

    def _published(self, session: Session, frames: list[int]) -> list[int]:
        session.events.publish(ObjectsChanged())
        if frames:
            session.events.publish(MasksChanged(tuple(sorted(frames))))
        return sorted(frames)

    async def _append(self, session: Session, kind: PromptKind, object_id: int, frame_index: int, payload: dict[str, Any],
                      step: StepRecord | None = None) -> int:
        store, begun = self._sessions.store, None if step is None else step.step
        return await self._sessions.pools.store.run(
            lambda: store.append_prompt(session.session_id, kind, object_id, frame_index, payload, begun))
