"""The use case of undo and redo: the newest step is taken back, or brought back, to the bit.

The store swaps masks, objects and the log in one transaction. The tracking memory follows, by a look at other files, and so it
does in the next process where this one ends in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass

from sam_service.errors import Conflict
from sam_service.sessions.events import MasksChanged, ObjectsChanged
from sam_service.sessions.records import StepRecord
from sam_service.sessions.recovery import exclusive, restore
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.states import JobState, MemoryState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """The step that was undone or redone, and the frames whose masks are others now, in order."""

    step: StepRecord
    frames: tuple[int, ...]


class Undoing:
    """Undo and redo in the sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    async def undo(self, session_id: str) -> Moved:
        """Undo the newest step. Raises NotFound, Conflict where there is none or a propagation runs."""
        return await _whole(self._move(session_id, undone=True))

    async def redo(self, session_id: str) -> Moved:
        """Redo the step that was undone last. Raises NotFound, Conflict where there is none or a propagation runs."""
        return await _whole(self._move(session_id, undone=False))

    async def _move(self, session_id: str, *, undone: bool) -> Moved:
        session = self._sessions.get(session_id)
        async with exclusive(self._sessions, session):
            if session.busy:
                raise Conflict("a propagation runs on this session; cancel it or wait for its end", code="propagation_running")
            if not (session.history.done if undone else session.history.undone):
                what = "undo" if undone else "redo"
                raise Conflict(f"there is nothing to {what} in this session", code=f"nothing_to_{what}")
            moved = await self._switch(session, undone=undone)
        session.events.publish(ObjectsChanged())
        if moved.frames:
            session.events.publish(MasksChanged(moved.frames))
        return moved

    async def _switch(self, session: Session, *, undone: bool) -> Moved:
        """Undo or redo a step. Holds the session's lock."""
        sessions, history = self._sessions, session.history
        change = history.done[-1] if undone else history.undone[0]
        step = change.record
        if step.keeps:
            await self._cancel_paused(session)
        frames = await sessions.pools.store.run(
            lambda: sessions.store.switch_step(session.session_id, step.step, undone=undone))
        session.objects, change.other = change.other, session.objects
        if undone:
            history.undone.insert(0, history.done.pop())
        else:
            history.done.append(history.undone.pop(0))
        if step.keeps:
            bank = session.bank
            try:
                await sessions.pools.steps.run(lambda: bank.switch(step.step, step.keeps, undone=undone))
            except Exception as error:
                logger.warning("session %s: the memory of a step cannot be read back: %s", session.session_id, error)
                session.memory_becomes(MemoryState.STALE)
                await restore(sessions, session)
        return Moved(step, tuple(frames))

    async def _cancel_paused(self, session: Session) -> None:
        """A paused propagation cannot be resumed any more: the memory that it was tracking with goes."""
        job = session.job
        if job is not None and job.state is JobState.PAUSED:
            job.cancel()
            await self._sessions.pools.store.run(lambda: self._sessions.store.end_job(job.job_id, job.state))


async def _whole(work: Coroutine[None, None, Moved]) -> Moved:
    """Do something to its end, even where the one who waits for it goes away: store and memory must not come apart."""
    return await asyncio.shield(asyncio.create_task(work))
