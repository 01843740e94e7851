"""Stopping is stopping: what is queued is done, what waits for a full queue is interrupted and not failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sam_service.api.deps import Services
from sam_service.core.engine import Engine
from sam_service.core.worker import Worker
from sam_service.errors import NotReady, QueueFull
from sam_service.sessions.plan import PropagationRequest
from sam_service.sessions.prompts import PromptInput
from sam_service.sessions.records import MaskRecord
from sam_service.sessions.service import OpenOptions
from sam_service.sessions.session import Session
from sam_service.sessions.states import JobState

from tests.clips import write_video
from tests.sessions.services import running as services_running
from tests.sessions.services import until

CLICK = PromptInput(points=[[30, 60]])


def running(folder: Path) -> AbstractAsyncContextManager[Services]:
    """A service with a queue of one step."""
    return services_running(folder, max_queued_steps=1, sam2_image_size=128, torch_num_threads=1)


async def opened(services: Services, folder: Path) -> Session:
    clip = folder / "clip.mp4"
    session = await services.sessions.open("clip.mp4", OpenOptions(), path=clip if clip.exists() else write_video(clip, 4))
    await services.sessions.require_frame(session, 3)
    return session


@asynccontextmanager
async def occupied(worker: Worker) -> AsyncIterator[threading.Event]:
    """Keep the device busy until the event is set."""
    release = threading.Event()
    try:
        worker.submit(release.wait)
        await until(lambda: worker.queued == 0)
        yield release
    finally:
        release.set()


def test_a_stop_interrupts_what_waits_for_a_full_queue_and_does_what_is_queued(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = list[int]()
    step = Engine.step

    def counted(engine: Engine, *arguments: Any, **options: Any) -> Any:
        try:
            return step(engine, *arguments, **options)
        except QueueFull:
            refused.append(1)
            raise

    monkeypatch.setattr(Engine, "step", counted)

    async def scenario() -> None:
        async with running(tmp_path) as services:
            one, other = [await opened(services, tmp_path) for _ in range(2)]
            await services.prompting.add_object(one.session_id, 0, None, CLICK)
            async with occupied(services.engine.worker) as release:
                click = asyncio.create_task(services.prompting.add_object(other.session_id, 0, None, CLICK))
                await until(lambda: services.engine.worker.queued == 1)
                job = await services.propagation.start(one.session_id, PropagationRequest(), background=True)
                await until(lambda: bool(refused))
                services.begin_stop()
                release.set()
                async with asyncio.timeout(60):
                    assert isinstance(await click, MaskRecord)
                    await job.wait()
            assert (job.state, job.error) == (JobState.INTERRUPTED, None)
            assert [record.state for record in services.sessions.store.jobs()] == [JobState.RUNNING]
            with pytest.raises(NotReady):
                await services.prompting.add_object(one.session_id, 1, None, CLICK)

    asyncio.run(scenario())


def test_a_propagation_let_in_just_before_the_stop_is_interrupted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await opened(services, tmp_path)
            await services.prompting.add_object(session.session_id, 0, None, CLICK)
            busy = threading.Event()
            services.sessions.pools.store.executor.submit(busy.wait)  # the job cannot be stored yet
            starting = asyncio.create_task(services.propagation.start(session.session_id, PropagationRequest()))
            await until(lambda: session.lock.locked())
            await asyncio.sleep(0)
            services.begin_stop()
            busy.set()
            async with asyncio.timeout(60):
                job = await starting
                await job.wait()
            assert (job.state, job.error) == (JobState.INTERRUPTED, None)

    asyncio.run(scenario())
