"""Live sessions without HTTP: frames that wait, what is bounded, and what a failed push leaves behind."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from sam_service.api.deps import Services
from sam_service.errors import BacklogFull, CapacityError, Conflict, InvalidMask, StorageFull
from sam_service.failures import disk_full
from sam_service.sessions.live import MAX_WAITING, MEMORIES_BEHIND, Pushed
from sam_service.sessions.prompts import PromptInput
from sam_service.sessions.service import LiveOpening
from sam_service.sessions.session import Session
from sam_service.video.live import LiveIntake, LiveOptions

from tests import colour_family
from tests.colour_family import ColourNetwork
from tests.sessions.services import running as services_running
from tests.sessions.services import until
from tests.sessions.test_stopping import occupied

SIZE = (64, 48)
KEEP = 8
QUICK, LONG = 600, 10_000
GROWTH_MIB = 24


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Services]:
    """The real service without HTTP, with a model that takes no time."""
    size = colour_family.register()
    try:
        async with services_running(folder, sam2_model_size=size) as services:
            yield services
    finally:
        colour_family.forget()


def picture(index: int) -> bytes:
    """A red disc on grey that wanders."""
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    cv2.circle(image, (20 + index % 24, 24), 8, (40, 40, 220), -1)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()


async def begun(services: Services, options: LiveOptions) -> Session:
    """A live session with an object on its first frame."""
    session = await services.sessions.open_live(LiveOpening(*SIZE, options))
    await services.live.push(session.session_id, picture(0))
    await services.prompting.add_object(session.session_id, 0, None, PromptInput(points=[[20, 24]]))
    return session


async def pushed_while_busy(services: Services, session: Session, count: int) -> list[asyncio.Task[Pushed]]:
    """Push frames while the device is busy: all have arrived before the first of them is tracked."""
    async with occupied(services.engine.worker) as release:
        tasks = []
        for index in range(1, count + 1):
            tasks.append(asyncio.create_task(services.live.push(session.session_id, picture(index))))
            await asyncio.sleep(0)
        await until(lambda: services.engine.worker.queued > 0)
        release.set()
        await asyncio.wait(tasks)
    return tasks


def test_the_policy_latest_tracks_the_newest_of_those_that_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("latest", KEEP))
            tasks = await pushed_while_busy(services, session, 5)
            assert [task.exception() is None for task in tasks] == [True, False, False, False, True]
            for task in tasks[1:4]:
                error = task.exception()
                assert isinstance(error, Conflict) and error.code == "frame_dropped"
            assert [task.result().result.frame_index for task in (tasks[0], tasks[4])] == [1, 2]
            assert tasks[4].result().dropped == 3
            assert session.live is not None
            assert session.live.jpeg(2) == picture(5)
            assert services.engine.telemetry.registry.get_sample_value("sam_service_live_frames_dropped_total") == 3

    asyncio.run(scenario())


def test_the_policy_all_tracks_each_in_order_and_refuses_too_many(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("all", KEEP))
            tasks = await pushed_while_busy(services, session, MAX_WAITING + 3)
            taken, refused = tasks[:MAX_WAITING + 1], tasks[MAX_WAITING + 1:]
            assert [task.result().result.frame_index for task in taken] == [*range(1, MAX_WAITING + 2)]
            for task in refused:
                error = task.exception()
                assert isinstance(error, BacklogFull) and error.retry_after_s == 1
            assert taken[-1].result().dropped == 0
            assert (await services.live.push(session.session_id, picture(9))).result.frame_index == MAX_WAITING + 2

    asyncio.run(scenario())


def test_one_that_waits_and_is_given_up_lets_the_next_one_pass(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("all", KEEP))
            async with occupied(services.engine.worker) as release:
                tasks = []
                for index in range(1, 5):
                    tasks.append(asyncio.create_task(services.live.push(session.session_id, picture(index))))
                    await asyncio.sleep(0)
                tasks[1].cancel()
                await asyncio.wait([tasks[1]])
                release.set()
                await asyncio.wait(tasks)
            assert [task.result().result.frame_index for task in (tasks[0], *tasks[2:])] == [1, 2, 3]

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", ["network", "store", "frames"])
def test_a_push_that_fails_is_as_if_it_had_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def broken(*_: object, **__: object) -> None:
        if failing == "network":
            raise InvalidMask("the network's logits on this frame are not finite numbers")
        raise disk_full("there is no room")

    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("all", KEEP))
            assert session.live is not None
            with monkeypatch.context() as patch:
                target = {"network": (ColourNetwork, "track"), "store": (services.sessions.store, "put_live_masks"),
                          "frames": (session.live, "_write")}[failing]
                patch.setattr(*target, broken)
                with pytest.raises((InvalidMask, StorageFull)):
                    await services.live.push(session.session_id, picture(12))
            assert session.live.frames_ready == 1
            assert [path.name for path in session.live.folder.glob("*.jpg")] == ["000000.jpg"]
            pushed = await services.live.push(session.session_id, picture(1))
            reference = await begun(services, LiveOptions("all", KEEP))
            expected = await services.live.push(reference.session_id, picture(1))
            assert pushed.result.masks[0].counts == expected.result.masks[0].counts

    asyncio.run(scenario())


def test_a_decoder_that_ends_costs_one_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("all", KEEP))
            assert isinstance(session.extraction, LiveIntake)
            process = session.extraction._process
            assert process is not None
            assert process._started is not None
            process._started.process.kill()
            with pytest.raises(CapacityError, match="killed"):
                await services.live.push(session.session_id, picture(1))
            assert (await services.live.push(session.session_id, picture(1))).result.frame_index == 1

    asyncio.run(scenario())


def test_a_session_that_is_deleted_ends_its_decoder(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions("all", KEEP))
            assert isinstance(session.extraction, LiveIntake)
            process = session.extraction._process
            assert process is not None
            assert process._started is not None
            await services.sessions.delete(session.session_id)
            assert process._started.process.poll() is not None

    asyncio.run(scenario())


def test_live_sessions_expire_sooner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session = await begun(services, LiveOptions())
            sessions = services.sessions
            assert sessions.expires_at(session) == session.last_used_at + sessions.limits.live_ttl_s
            assert sessions.limits.live_ttl_s < sessions.limits.ttl_s
            session.last_used_at -= sessions.limits.live_ttl_s + 1
            await sessions.expire()
            assert sessions.find(session.session_id) is None

    asyncio.run(scenario())


async def streamed(services: Services, count: int) -> tuple[Session, list[int], list[float]]:
    """Push many frames, with corrections on the way; returns resident bytes at tenths of the way, and each step's ms."""
    session = await begun(services, LiveOptions("all", KEEP))
    resident, steps = list[int](), list[float]()
    for index in range(1, count):
        pushed = await services.live.push(session.session_id, picture(index))
        steps.append(pushed.step_ms)
        if index % 50 == 0:
            await services.prompting.refine(session.session_id, index, 1, PromptInput(points=[[20 + index % 24, 24]]),
                                            replace=False)
        if index % (count // 10) == 0:
            resident.append(psutil.Process().memory_info().rss)
    return session, resident, steps


def bounded(services: Services, session: Session) -> None:
    """Nothing of a session is more than its window, and its prompts."""
    assert session.live is not None
    prompted = set(session.prompts[1])
    assert len(prompted) <= 5
    memory = session.bank.objects[1]
    assert len(memory._tracked) <= KEEP + MEMORIES_BEHIND + 1
    assert len(memory.directions) <= KEEP + MEMORIES_BEHIND + 1 + len(prompted)
    assert set(memory.conditioning) | set(memory._staged) <= prompted
    assert len([*(session.folder / "memory").rglob("*.safetensors")]) <= KEEP + MEMORIES_BEHIND + 1 + len(prompted)
    assert len([*(session.folder / "frames").iterdir()]) <= KEEP + len(prompted) + 2
    assert len(services.sessions.store.masks(session.session_id)) <= KEEP
    assert len(services.sessions.store.prompts(session.session_id)) <= 6
    assert services.engine.cache_nbytes <= 4 * (32 * 32 * 3 * 4)
    assert services.engine.disk_nbytes == 0


def test_nothing_grows_with_the_frames(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            session, resident, _ = await streamed(services, QUICK)
            bounded(services, session)
            assert resident[-1] - resident[2] < GROWTH_MIB << 20

    asyncio.run(scenario())


@pytest.mark.slow
def test_nothing_grows_over_ten_thousand_frames(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as services:
            threads, files = threading.active_count(), psutil.Process().num_fds()
            session, resident, _ = await streamed(services, LONG)
            bounded(services, session)
            print(f"resident, MiB: {[round(value / 2**20, 1) for value in resident]}, peak "
                  f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")
            assert resident[-1] - resident[1] < GROWTH_MIB << 20
            assert threading.active_count() <= threads + 12
            assert psutil.Process().num_fds() <= files + 12
            database = services.settings.sam2_data_dir / "sessions.sqlite"
            assert database.stat().st_size < 2 << 20

    asyncio.run(scenario())
