"""The async client, and that it is the twin of the other."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from pathlib import Path

import pytest
from sam_service.client import (
    AsyncLiveSession,
    AsyncSamClient,
    AsyncVideoSession,
    LiveSession,
    NotFound,
    SamClient,
    VideoSession,
)
from sam_service.demo_clip import CLICK


def test_a_session_from_click_to_masks(service: str, clip: Path) -> None:
    async def run() -> list[int]:
        async with AsyncSamClient(service) as client:
            await client.wait_ready()
            async with await client.initialize(clip, max_frames=6) as video:
                await video.add_object(points=[CLICK])
                areas = [int(frame.masks[1].mask.sum()) async for frame in video.propagate()]
                assert (await video.tracks())[1].area.tolist() == areas
                assert (await video.masks(5)).masks[1].area == areas[5]
            with pytest.raises(NotFound):
                await client.session(video.session_id)
            return areas

    assert len(asyncio.run(run())) == 6


def test_two_videos_at_once_and_a_break_cancels(service: str, clip: Path) -> None:
    async def until(client: AsyncSamClient, last: int) -> int:
        async with await client.initialize(clip) as video:
            await video.add_object(points=[CLICK])
            async with contextlib.aclosing(video.propagate(masks=False)) as frames:
                async for frame in frames:
                    if frame.index == last:
                        break
            while (state := await video.state())["running"] is not None:
                await asyncio.sleep(0.02)
            return len(state["frames_with_masks"])

    async def run() -> tuple[int, int]:
        async with AsyncSamClient(service) as client:
            return await asyncio.gather(until(client, 3), until(client, 5))

    three, five = asyncio.run(run())
    assert 4 <= three < 60
    assert 6 <= five < 60


def test_a_task_that_is_cancelled_cancels_its_propagation(service: str, client: SamClient, clip: Path) -> None:
    async def run(session_id: str) -> None:
        async with AsyncSamClient(service) as connected, await connected.session(session_id) as video:
            seen = asyncio.Event()

            async def read() -> None:
                async for _ in video.propagate():
                    seen.set()

            task = asyncio.create_task(read())
            await seen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (await video.state())["running"] is not None:
                await asyncio.sleep(0.02)

    with client.initialize(clip) as owner:
        owner.add_object(points=[CLICK])
        asyncio.run(run(owner.session_id))
        assert 1 <= len(owner.state()["frames_with_masks"]) < 60


@pytest.mark.parametrize(("one", "other"), [(SamClient, AsyncSamClient), (VideoSession, AsyncVideoSession),
                                            (LiveSession, AsyncLiveSession)])
def test_the_twins_have_the_same_methods(one: type, other: type) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {name: list(inspect.signature(value).parameters) for name, value in vars(kind).items()
                if inspect.isfunction(value) and not name.startswith(("_", "open_video"))}

    assert methods(one) == methods(other)
