"""Use cases around prompts: add an object, refine it, name it, remove it, take prompts back.

Each takes the session's lock, writes the prompt down, acts on it and stores the mask. What cannot be acted on is struck out of
the log again, so that a refused or failed prompt leaves the session as it was.
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
from sam_service.sessions.recovery import answer, forget, require_bank, take_back
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.store import MaskRecord, PromptKind


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
        prompt = await self._sessions.in_pool(lambda: check_prompt(raw, *session.size))
        if not is_positive(prompt):
            raise InvalidPrompt("an object's first prompt needs a positive point (label 1), a box or a mask", field="labels")
        async with session.exclusive():
            if object_id is None:
                object_id = session.free_object_id()
            elif object_id in session.prompts:
                raise Conflict(f"object {object_id} exists already; prompt it again with /refine", field="object_id",
                               code="object_exists")
            if len(session.prompts) >= self._sessions.limits.max_objects:
                raise TooLarge(f"a session holds at most {self._sessions.limits.max_objects} objects", field="object_id",
                               code="too_many_objects")
            record = await self._act(session, PromptKind.ADD, object_id, frame_index, prompt, _payload(raw))
            if name is not None:
                self._label(session, object_id, Label(name, session.label(object_id).color))
        _tell(session, record)
        return record

    async def refine(self, session_id: str, frame_index: int, object_id: int, raw: PromptInput, *,
                     replace: bool) -> MaskRecord:
        """Prompt an existing object again, on any frame. Points add to the earlier ones of that frame unless `replace`."""
        session = self._sessions.get(session_id)
        session.require_object(object_id)
        await self._sessions.require_frame(session, frame_index)
        new = await self._sessions.in_pool(lambda: check_prompt(raw, *session.size))
        async with session.exclusive():
            on_frames = session.require_object(object_id)
            if frame_index not in on_frames and len(on_frames) >= self._sessions.limits.max_prompts:
                raise TooLarge(f"an object holds prompts on at most {self._sessions.limits.max_prompts} frames",
                               field="frame_idx", code="too_many_prompts")
            prompt = merge(on_frames.get(frame_index), new, replace=replace)
            if not on_frames.keys() - {frame_index} and not is_positive(prompt):
                raise InvalidPrompt("the object has no other prompt; this one needs a positive point (label 1), a box or a "
                                    "mask", field="labels")
            payload = _payload(raw) | ({"replace": True} if replace else {})
            record = await self._act(session, PromptKind.REFINE, object_id, frame_index, prompt, payload)
        _tell(session, record)
        return record

    async def label(self, session_id: str, object_id: int, name: str | None, color: str | None) -> None:
        """Name an object, or choose its colour; None leaves what there is. Raises NotFound, InvalidInput."""
        session = self._sessions.get(session_id)
        async with session.exclusive():
            session.require_object(object_id)
            earlier = session.label(object_id)
            self._label(session, object_id, Label(earlier.name if name is None else check_name(name),
                                                  earlier.color if color is None else check_color(color)))
        session.events.tell(ObjectsChanged())

    async def remove_object(self, session_id: str, object_id: int) -> None:
        """Remove an object with its prompts, its memory and its masks. Raises NotFound."""
        session = self._sessions.get(session_id)
        async with session.exclusive():
            session.require_object(object_id)
            await require_bank(self._sessions, session)
            sequence = self._sessions.store.append_prompt(session_id, PromptKind.REMOVE, object_id, 0, {})
            await forget(self._sessions, session, object_id)
            del session.prompts[object_id]
            session.labels.pop(object_id, None)
            self._sessions.store.settle_prompt(session_id, sequence)
        session.events.tell(ObjectsChanged())

    async def clear_prompts(self, session_id: str, object_id: int | None, frame_index: int | None) -> int:
        """Take prompts back: of one object or all, on one frame or all. Returns how many frames' prompts went.

        An object without a prompt left stays in the list and loses its memory and its masks.
        """
        session = self._sessions.get(session_id)
        if frame_index is not None:
            await self._sessions.require_frame(session, frame_index)
        async with session.exclusive():
            objects = list(session.prompts) if object_id is None else [object_id]
            cleared = [(known, at) for known in objects for at in session.require_object(known)
                       if frame_index is None or at == frame_index]
            await require_bank(self._sessions, session)
            for known, at in cleared:
                sequence = self._sessions.store.append_prompt(session_id, PromptKind.CLEAR, known, at, {})
                await take_back(self._sessions, session, known, at)
                del session.prompts[known][at]
                self._sessions.store.settle_prompt(session_id, sequence)
        session.events.tell(ObjectsChanged())
        return len(cleared)

    async def _act(self, session: Session, kind: PromptKind, object_id: int, frame_index: int, prompt: Prompt,
                   payload: dict[str, Any]) -> MaskRecord:
        store = self._sessions.store
        self._sessions.require_room()
        await require_bank(self._sessions, session)
        sequence = await self._sessions.in_pool(
            lambda: store.append_prompt(session.session_id, kind, object_id, frame_index, payload))
        numbered = replace(prompt, sequence=sequence)
        answered = False
        try:
            record = await answer(self._sessions, session, object_id, frame_index, numbered)
            answered = True
            store.settle_prompt(session.session_id, sequence, [record])
        except CancelledError:  # the service stops; what was written down is acted on by the next process
            raise
        except BaseException:
            session.memory_is_stale = answered  # the memory holds an answer that the client never got
            store.retract_prompt(sequence)
            raise
        session.set_prompt(object_id, frame_index, prompt)
        return record

    def _label(self, session: Session, object_id: int, label: Label) -> None:
        store = self._sessions.store
        sequence = store.append_prompt(session.session_id, PromptKind.LABEL, object_id, 0, asdict(label))
        session.labels[object_id] = label
        store.settle_prompt(session.session_id, sequence)


def _tell(session: Session, mask: MaskRecord) -> None:
    session.events.tell(ObjectsChanged())
    session.events.tell(PromptAnswered(mask))


def _payload(raw: PromptInput) -> dict[str, Any]:
    """A prompt as the log keeps it: what was given, nothing else."""
    return {name: value for name, value in asdict(raw).items() if value not in (None, False)}
