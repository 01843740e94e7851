"""A session cannot be used before its memory is restored, and taking its lock restores it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest
from sam_service.api.deps import Services
from sam_service.sessions.plan import PropagationRequest
from sam_service.sessions.prompting import Edit
from sam_service.sessions.prompts import PromptInput
from sam_service.sessions.recovery import exclusive
from sam_service.sessions.service import OpenOptions
from sam_service.sessions.session import Session
from sam_service.sessions.states import JobState, MemoryState

from tests import colour_family
from tests.clips import write_video
from tests.sessions.services import running

CLICK = PromptInput(points=[[30, 60]])
FRAMES = 6


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


def process(folder: Path, colour: str) -> AbstractAsyncContextManager[Services]:
    """The services of one process on the folder, without HTTP."""
    return running(folder, restored=True, sam2_model_size=colour)


async def prepared(folder: Path, colour: str) -> None:
    """A process that leaves a session with one object, tracked up to a pause."""
    async with process(folder, colour) as services:
        session = await services.sessions.open("clip.mp4", OpenOptions(), path=write_video(folder / "clip.mp4", FRAMES))
        await services.sessions.require_frame(session, FRAMES - 1)
        await services.prompting.add_object(session.session_id, 0, None, CLICK)
        job = await services.propagation.start(session.session_id, PropagationRequest())
        job.readers = 1
        async for _ in job.follow():
            job.leave()
            break
        await job.wait()
        assert job.state is JobState.PAUSED and 0 < job.done < FRAMES


def only(services: Services) -> Session:
    (session,) = services.sessions.sessions()
    return session


def test_a_memory_is_restored_with_the_lock_and_cannot_be_used_before(tmp_path: Path, colour: str) -> None:
    async def scenario() -> None:
        await prepared(tmp_path, colour)
        async with process(tmp_path, colour) as services:
            session = only(services)
            with pytest.raises(RuntimeError, match="restored first"):
                _ = session.bank
            await services.prompting.edit(session.session_id, 1, Edit("cup"))  # needs no memory
            assert session.memory is MemoryState.STORED
            async with exclusive(services.sessions, session):
                assert set(session.bank.objects) == {1}
            assert session.job is not None
            done = session.job.done
            job = await services.propagation.resume(session.session_id, session.job.job_id, done)
            await job.wait()
            assert (job.state, job.done) == (JobState.DONE, FRAMES)

    asyncio.run(scenario())


def test_a_rebuilt_memory_lets_a_paused_propagation_start_over(tmp_path: Path, colour: str) -> None:
    async def scenario() -> None:
        await prepared(tmp_path, colour)
        with closing(sqlite3.connect(tmp_path / "data" / "sessions.sqlite")) as database, database:
            database.execute("UPDATE sessions SET model = 'another'")
        async with process(tmp_path, colour) as services:
            session = only(services)
            assert session.job is not None and session.job.done > 0
            await services.prompting.refine(session.session_id, 1, 1, CLICK, replace=False)  # rebuilds
            assert (session.memory, session.job.done) == (MemoryState.READY, 0)
            job = await services.propagation.resume(session.session_id, session.job.job_id, 0)
            await job.wait()
            assert (job.state, job.done) == (JobState.DONE, FRAMES)

    asyncio.run(scenario())


def test_a_paused_propagation_that_is_cancelled_stays_so_in_the_next_process(tmp_path: Path, colour: str) -> None:
    async def scenario() -> None:
        await prepared(tmp_path, colour)
        async with process(tmp_path, colour) as services:
            session = only(services)
            assert session.job is not None
            await services.propagation.cancel(session.job)
        async with process(tmp_path, colour) as services:
            job = only(services).job
            assert job is not None and job.state is JobState.CANCELLED

    asyncio.run(scenario())
