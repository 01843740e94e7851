"""Use cases around prompts: add an object, refine it, name it, remove it, clear prompts.

Each waits for its frame, takes the session's lock, writes the prompt down, applies it and stores the mask. What cannot be
applied is struck out of the log again, so that a refused or failed prompt leaves the session as it was.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sam_service.core.prompts import Prompt
from sam_service.errors import Conflict, InvalidPrompt, TooLarge
from sam_service.sessions.events import ObjectsChanged, PromptAnswered
from sam_service.sessions.history import store_change
from sam_service.sessions.labels import Label, check_color, check_name
from sam_service.sessions.objects import Objects
from sam_service.sessions.prompts import PromptInput, check_prompt, is_positive, merge
from sam_service.sessions.records import MaskRecord, PromptKind, StepKind, StepRecord
from sam_service.sessions.recovery import exclusive, strike_out
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.steps import PromptedFrame, apply_prompt, clear_prompt, prepare, remove_object

EditLine = tuple[PromptKind, dict[str, Any], Callable[[Objects], Objects]]


@dataclass(frozen=True, slots=True)
class Edit:
    """What an object is called and shown as; None leaves what there is. position: its place in the list, 0 being the first."""

    name: str | None = None
    color: str | None = None
    locked: bool | None = None
    position: int | None = None


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
                after = session.objects.with_label(object_id, Label(name, session.label(object_id).color))
                await self._edit(session, PromptKind.LABEL, object_id, asdict(after.labels[object_id]), after,
                                 session.history.done[-1].record)
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
            session.require_unlocked([object_id])
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

    async def edit(self, session_id: str, object_id: int, change: Edit) -> None:
        """Change what an object is called or shown as, lock it or move it in the list, as one step.

        Raises NotFound, InvalidInput, Conflict for a lock of an object that is being tracked.
        """
        session = self._sessions.get(session_id)
        async with exclusive(self._sessions, session) if session.unapplied else session.hold():  # needs no memory
            session.require_object(object_id)
            if change.locked is not None and session.job is not None and session.busy and object_id in session.job.plan.objects:
                raise Conflict(f"object {object_id} is being tracked; cancel the propagation or wait for its end",
                               field="locked", code="propagation_running")
            step: StepRecord | None = None
            for kind, payload, after in _edits(session.objects, object_id, change):
                step = await self._edit(session, kind, object_id, payload, after(session.objects), step)
        session.events.publish(ObjectsChanged())

    async def remove_object(self, session_id: str, object_id: int) -> None:
        """Remove an object with its prompts, its memory and its masks. Raises NotFound."""
        session = self._sessions.get(session_id)
        session.require_object(object_id)
        async with exclusive(self._sessions, session):
            session.require_object(object_id)
            session.require_unlocked([object_id])
            sequence = await self._append(session, PromptKind.REMOVE, object_id, 0, {})
            await remove_object(self._sessions, session, object_id, sequence)
            await store_change(self._sessions, session, sequence, session.objects.without([object_id]), gone=[object_id],
                               step=StepRecord(sequence, StepKind.REMOVE, (object_id,)))
        session.events.publish(ObjectsChanged())

    async def clear_prompts(self, session_id: str, object_id: int | None, frame_index: int | None) -> int:
        """Clear prompts: of one object or all that are not locked, on one frame or all, as one step. Returns how many frames'
        prompts went.

        An object without another prompt stays in the list and loses its memory and its masks.
        """
        session = self._sessions.get(session_id)
        if object_id is not None:
            session.require_object(object_id)
        if frame_index is not None:
            await self._sessions.require_frame(session, frame_index)
        async with exclusive(self._sessions, session):
            objects = [number for number in session.prompts if number not in session.objects.locked]
            if object_id is not None:
                session.require_unlocked([object_id])
                objects = [object_id]
            cleared = [(number, at) for number in objects for at in session.require_object(number)
                       if frame_index is None or at == frame_index]
            step: StepRecord | None = None
            for number, at in cleared:
                sequence = await self._append(session, PromptKind.CLEAR, number, at, {}, step)
                begun = step or StepRecord(sequence, StepKind.CLEAR, tuple(dict.fromkeys(number for number, _ in cleared)),
                                           frame_index)
                emptied = await clear_prompt(self._sessions, session, number, at, begun.step)
                await store_change(self._sessions, session, sequence, session.objects.without_prompt(number, at),
                                   gone=[number] if emptied else (), step=begun if step is None else None)
                step = begun
        session.events.publish(ObjectsChanged())
        return len(cleared)

    async def _apply(self, session: Session, kind: PromptKind, object_id: int, frame: PromptedFrame, prompt: Prompt,
                     payload: dict[str, Any]) -> MaskRecord:
        """Write a prompt down, apply it and store its mask; struck out again where that fails. Holds the session's lock."""
        self._sessions.require_room()
        sequence = await self._append(session, kind, object_id, frame.index, payload)
        try:
            record = await apply_prompt(self._sessions, session, object_id, frame, replace(prompt, sequence=sequence))
            await store_change(self._sessions, session, sequence, session.objects.with_prompt(object_id, frame.index, prompt),
                               masks=[record], step=StepRecord(sequence, StepKind(kind), (object_id,), frame.index))
        except CancelledError:  # the service stops; the next process applies what was written down
            raise
        except BaseException:
            await strike_out(self._sessions, session, sequence, [object_id])
            raise
        return record

    async def _edit(self, session: Session, kind: PromptKind, object_id: int, payload: dict[str, Any], after: Objects,
                    step: StepRecord | None) -> StepRecord:
        """Store a change that the tracking has no part in; returns its step, a new one if None was given."""
        sequence = await self._append(session, kind, object_id, 0, payload, step)
        begun = step or StepRecord(sequence, StepKind.EDIT, (object_id,))
        await store_change(self._sessions, session, sequence, after, step=begun if step is None else None)
        return begun

    async def _append(self, session: Session, kind: PromptKind, object_id: int, frame_index: int,
                      payload: dict[str, Any], step: StepRecord | None = None) -> int:
        """Write a line into the prompt log, as part of a step or a new one; returns its place."""
        store, begun = self._sessions.store, None if step is None else step.step
        return await self._sessions.pools.store.run(
            lambda: store.append_prompt(session.session_id, kind, object_id, frame_index, payload, begun))


def _edits(objects: Objects, object_id: int, change: Edit) -> list[EditLine]:
    """The lines of the log that a change makes, each with what it does. Raises InvalidInput before anything is changed."""
    lines: list[EditLine] = []
    if change.name is not None or change.color is not None:
        earlier = objects.label(object_id)
        label = Label(earlier.name if change.name is None else check_name(change.name),
                      earlier.color if change.color is None else check_color(change.color))
        lines.append((PromptKind.LABEL, asdict(label), lambda objects: objects.with_label(object_id, label)))
    locked, position = change.locked, change.position
    if position is not None:
        lines.append((PromptKind.MOVE, {"position": position}, lambda objects: objects.with_place(object_id, position)))
    if locked is not None:
        lines.append((PromptKind.LOCK, {"locked": locked}, lambda objects: objects.with_lock(object_id, locked)))
    return lines


def _payload(raw: PromptInput) -> dict[str, Any]:
    """A prompt as the log keeps it: what was given, nothing else."""
    return {name: value for name, value in asdict(raw).items() if value not in (None, False)}
