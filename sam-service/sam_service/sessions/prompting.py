"""Use cases around prompts: add an object, refine it, name it, remove it, clear prompts.

Each waits for its frame, takes the session's lock, writes the prompt down, applies it and stores the mask. What cannot be
applied is struck out of the log again, so that a refused or failed prompt leaves the session as it was.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import asdict, replace
from typing import Any

from sam_service.core.prompts import Prompt
from sam_service.errors import Conflict, InvalidPrompt, TooLarge
from sam_service.sessions.events import ObjectsChanged, PromptAnswered
from sam_service.sessions.labels import Label, check_color, check_name
from sam_service.sessions.prompts import PromptInput, check_prompt, is_positive, merge
from sam_service.sessions.records import MaskRecord, PromptKind
from sam_service.sessions.recovery import exclusive
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.states import MemoryState
from sam_service.sessions.steps import PromptedFrame, apply_prompt, clear_prompt, prepare, remove_object


class Prompting:
    """Prompts of the sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    async def add_object(self, session_id: str, frame_index: int, object_id: int | None, raw: PromptInput,
                         name: str | None = None) -> MaskRecord:
        """Add an object by its first prompt. Raises Conflict where the object exists, InvalidPrompt, NotFound."""
        session = self._sessions.get(session_id)
        if name is not None:
            name = check_name(name)
        await self._sessions.require_frame(session, frame_index)
        prompt = await self._sessions.pools.rendering.run(lambda: check_prompt(raw, *session.size))
        if not is_positive(prompt):
            raise InvalidPrompt("an object's first prompt needs a positive point (label 1), a box or a mask", field="labels")
        frame = await prepare(self._sessions, session, frame_index)
        async with exclusive(self._sessions, session):
            if object_id is None:
                object_id = session.free_object_id()
            elif object_id in session.prompts:
                raise Conflict(f"object {object_id} exists already; prompt it again with /refine", field="object_id",
                               code="object_exists")
            if len(session.prompts) >= self._sessions.limits.max_objects:
                raise TooLarge(f"a session holds at most {self._sessions.limits.max_objects} objects", field="object_id",
                               code="too_many_objects")
            record = await self._apply(session, PromptKind.ADD, object_id, frame, prompt, _payload(raw))
            if name is not None:
                await self._label(session, object_id, Label(name, session.label(object_id).color))
        session.events.publish(ObjectsChanged())
        session.events.publish(PromptAnswered(record))
        return record

    async def refine(self, session_id: str, frame_index: int, object_id: int, raw: PromptInput, *,
                     replace: bool) -> MaskRecord:
        """Prompt an existing object again, on any frame. Points add to the earlier ones of that frame unless `replace`."""
        session = self._sessions.get(session_id)
        session.require_object(object_id)
        await self._sessions.require_frame(session, frame_index)
        new = await self._sessions.pools.rendering.run(lambda: check_prompt(raw, *session.size))
        frame = await prepare(self._sessions, session, frame_index)
        async with exclusive(self._sessions, session):
            on_frames = session.require_object(object_id)
            if frame_index not in on_frames and len(on_frames) >= self._sessions.limits.max_prompts:
                raise TooLarge(f"an object holds prompts on at most {self._sessions.limits.max_prompts} frames",
                               field="frame_idx", code="too_many_prompts")
            prompt = merge(on_frames.get(frame_index), new, replace=replace)
            if not on_frames.keys() - {frame_index} and not is_positive(prompt):
                raise InvalidPrompt("the object has no other prompt; this one needs a positive point (label 1), a box or a "
                                    "mask", field="labels")
            payload = _payload(raw) | ({"replace": True} if replace else {})
            record = await self._apply(session, PromptKind.REFINE, object_id, frame, prompt, payload)
        session.events.publish(ObjectsChanged())
        session.events.publish(PromptAnswered(record))
        return record

    async def label(self, session_id: str, object_id: int, name: str | None, color: str | None) -> None:
        """Name an object, or choose its colour; None leaves what there is. Raises NotFound, InvalidInput."""
        session = self._sessions.get(session_id)
        async with session.hold():
            session.require_object(object_id)
            earlier = session.label(object_id)
            await self._label(session, object_id, Label(earlier.name if name is None else check_name(name),
                                                        earlier.color if color is None else check_color(color)))
        session.events.publish(ObjectsChanged())

    async def remove_object(self, session_id: str, object_id: int) -> None:
        """Remove an object with its prompts, its memory and its masks. Raises NotFound."""
        session = self._sessions.get(session_id)
        session.require_object(object_id)
        async with exclusive(self._sessions, session):
            session.require_object(object_id)
            sequence = await self._append(session, PromptKind.REMOVE, object_id, 0, {})
            await remove_object(self._sessions, session, object_id)
            del session.prompts[object_id]
            session.labels.pop(object_id, None)
            await self._mark_applied(session, sequence)
        session.events.publish(ObjectsChanged())

    async def clear_prompts(self, session_id: str, object_id: int | None, frame_index: int | None) -> int:
        """Clear prompts: of one object or all, on one frame or all. Returns how many frames' prompts went.

        An object without another prompt stays in the list and loses its memory and its masks.
        """
        session = self._sessions.get(session_id)
        if object_id is not None:
            session.require_object(object_id)
        if frame_index is not None:
            await self._sessions.require_frame(session, frame_index)
        async with exclusive(self._sessions, session):
            objects = list(session.prompts) if object_id is None else [object_id]
            cleared = [(number, at) for number in objects for at in session.require_object(number)
                       if frame_index is None or at == frame_index]
            for number, at in cleared:
                sequence = await self._append(session, PromptKind.CLEAR, number, at, {})
                await clear_prompt(self._sessions, session, number, at)
                del session.prompts[number][at]
                await self._mark_applied(session, sequence)
        session.events.publish(ObjectsChanged())
        return len(cleared)

    async def _apply(self, session: Session, kind: PromptKind, object_id: int, frame: PromptedFrame, prompt: Prompt,
                     payload: dict[str, Any]) -> MaskRecord:
        """Write a prompt down, apply it and store its mask; struck out again where that fails. Holds the session's lock."""
        self._sessions.require_room()
        sequence = await self._append(session, kind, object_id, frame.index, payload)
        applied = False
        try:
            record = await apply_prompt(self._sessions, session, object_id, frame, replace(prompt, sequence=sequence))
            applied = True
            await self._mark_applied(session, sequence, record)
        except CancelledError:  # the service stops; the next process applies what was written down
            raise
        except BaseException:
            if applied:
                session.memory_becomes(MemoryState.STALE)  # it holds an answer that the client never got
            await self._sessions.pools.store.run(lambda: self._sessions.store.retract_prompt(sequence))
            raise
        session.set_prompt(object_id, frame.index, prompt)
        return record

    async def _label(self, session: Session, object_id: int, label: Label) -> None:
        sequence = await self._append(session, PromptKind.LABEL, object_id, 0, asdict(label))
        session.labels[object_id] = label
        await self._mark_applied(session, sequence)

    async def _append(self, session: Session, kind: PromptKind, object_id: int, frame_index: int,
                      payload: dict[str, Any]) -> int:
        """Write a line into the prompt log; returns its place."""
        store = self._sessions.store
        return await self._sessions.pools.store.run(
            lambda: store.append_prompt(session.session_id, kind, object_id, frame_index, payload))

    async def _mark_applied(self, session: Session, sequence: int, *masks: MaskRecord) -> None:
        store = self._sessions.store
        await self._sessions.pools.store.run(lambda: store.mark_applied(session.session_id, sequence, masks))


def _payload(raw: PromptInput) -> dict[str, Any]:
    """A prompt as the log keeps it: what was given, nothing else."""
    return {name: value for name, value in asdict(raw).items() if value not in (None, False)}
