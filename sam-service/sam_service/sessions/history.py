"""What can be undone and redone in a session, and the one way in which a change is stored.

A step is what a user did at once. Undoing it gives back the objects as a whole, as they were before it (`objects.py`), and of
the objects that it changed the masks (`stored_steps.py`) and the tracking memory (`core/memory/generations.py`). What other
objects were tracked to since stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sam_service.errors import NotReady
from sam_service.sessions.objects import Objects
from sam_service.sessions.records import MaskRecord, StepRecord
from sam_service.sessions.states import MemoryState

if TYPE_CHECKING:
    from sam_service.sessions.service import SessionService
    from sam_service.sessions.session import Session

logger = logging.getLogger(__name__)
MAX_STEPS = 100


@dataclass(slots=True)
class Change:
    """A step. other: the objects on its other side, before it where it is done, after it where it is undone."""

    record: StepRecord
    other: Objects


@dataclass(slots=True)
class History:
    """done: steps that can be undone, the newest last. undone: steps that can be redone, the next one first."""

    done: list[Change] = field(default_factory=list)
    undone: list[Change] = field(default_factory=list)

    def keep(self) -> dict[int, int]:
        """By object, the step that keeps what is replaced from now on."""
        return {object_id: change.record.step for change in self.done for object_id in change.record.keeps}

    def has(self, step: int) -> bool:
        """Whether a step is there that can be undone."""
        return any(change.record.step == step for change in self.done)


async def store_change(sessions: SessionService, session: Session, sequence: int, after: Objects, *,
                       step: StepRecord | None = None, before: Objects | None = None, masks: Iterable[MaskRecord] = (),
                       gone: Iterable[int] = ()) -> None:
    """Note that a line of the log was applied, with all that came of it; the session's objects are `after` from now on.

    step: the step that the line begins, None where it goes on with the last one. before: the objects before it, those of now if
    None. gone: objects that lose all their masks. Holds the session's lock.
    """
    history, store = session.history, sessions.store
    keep = history.keep() | ({object_id: step.step for object_id in step.keeps} if step is not None else {})
    await sessions.pools.store.run(lambda: store.mark_applied(
        session.session_id, sequence, masks, step=step, gone=gone, keep=keep))
    if step is not None:
        history.done.append(Change(step, session.objects if before is None else before))
        _discard(sessions, session, history.undone)
    session.objects = after
    await forget_oldest(sessions, session)


async def drop_undone(sessions: SessionService, session: Session) -> None:
    """What is undone cannot be redone any more: masks are about to change. Holds the session's lock."""
    if session.history.undone:
        await sessions.pools.store.run(lambda: sessions.store.drop_undone(session.session_id))
        _discard(sessions, session, session.history.undone)


async def forget_oldest(sessions: SessionService, session: Session) -> None:
    """Keep the history within its limits: MAX_STEPS steps, and fewer where the memory with what they keep takes more than a
    session may have on disk. The newest one stays. Holds the session's lock."""

    def too_large() -> bool:
        return bool(session.memory is MemoryState.READY and session.kept_bytes
                    and session.spilled_bytes > sessions.limits.spill_bytes)

    steps = session.history.done
    while len(steps) > MAX_STEPS or (len(steps) > 1 and too_large()):
        await _forget(sessions, session, 1)


async def forget_all(sessions: SessionService, session: Session) -> None:
    """Nothing can be undone or redone any more. Holds the session's lock."""
    await drop_undone(sessions, session)
    if session.history.done:
        await _forget(sessions, session, len(session.history.done))


async def _forget(sessions: SessionService, session: Session, count: int) -> None:
    """The oldest steps cannot be undone any more."""
    steps = [change.record.step for change in session.history.done[:count]]

    def forget_files() -> None:
        for step in steps:
            session.any_bank.forget(step)

    await sessions.pools.store.run(lambda: sessions.store.forget_steps(session.session_id, steps[-1]))
    del session.history.done[:count]
    forgotten = asyncio.wrap_future(sessions.engine.run_on_device(forget_files))
    if session.memory is MemoryState.READY:  # otherwise the model may still be loading
        await forgotten


def _discard(sessions: SessionService, session: Session, changes: list[Change]) -> None:
    """Delete the files of memories that undone steps hold. Nobody waits for it: the next process sweeps what stays."""
    steps = [change.record.step for change in changes]
    changes.clear()

    def delete() -> None:
        for step in steps:
            session.any_bank.discard(step, ())

    def done(future: Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            logger.warning("files of an undone step could not be deleted: %s", error)

    if steps:
        with contextlib.suppress(NotReady):  # the service stops
            sessions.engine.run_on_device(delete).add_done_callback(done)
