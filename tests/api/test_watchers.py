"""Many who watch the same cost one rendering, and a mask that cannot be sent as polygons ends its stream with an error."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any

import pytest
from sam_service.api import views
from sam_service.api.sharing import KEPT, Shared
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK
from sam_service.masks import polygons

from tests.api.test_events import listen, until

WATCHERS, FRAMES = 20, 4


def test_what_many_want_is_made_once_and_what_failed_again() -> None:
    async def scenario() -> None:
        shared, made = Shared(), list[int]()

        async def make() -> dict[str, Any]:
            await asyncio.sleep(0)
            made.append(1)
            if len(made) == 1:
                raise ValueError("the first time")
            return {"number": len(made)}

        subject = object()
        failed = await asyncio.gather(*(shared.get(subject, "rle", make) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, ValueError) for error in failed) and len(made) == 1
        assert await asyncio.gather(*(shared.get(subject, "rle", make) for _ in range(3))) == [{"number": 2}] * 3
        leaving = asyncio.create_task(shared.get(subject, "png", make))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await shared.get(subject, "png", make) == {"number": 3}
        for _ in range(KEPT):
            await shared.get(object(), "rle", make)
        assert (await shared.get(subject, "rle", make))["number"] > 3

    asyncio.run(scenario())


def test_many_watchers_of_a_session_cost_one_rendering(video: VideoSession, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = list[int]()
    frame_masks = views.frame_masks

    def counted(session_id: str, result: Any, mask_format: Any) -> Any:
        rendered.append(result.frame_index)
        return frame_masks(session_id, result, mask_format)

    monkeypatch.setattr(views, "frame_masks", counted)
    video.add_object(points=[list(CLICK)])
    with ExitStack() as stack:
        sockets = [stack.enter_context(listen(video, "?mask_format=rle")) for _ in range(WATCHERS)]
        for socket in sockets:
            until(socket, "hello")
        frames = list(video.propagate(end_frame=FRAMES - 1))
        for socket in sockets:
            for frame in frames:
                (message,) = [item for item in until(socket, "frame") if item["event"] == "frame"]
                assert (message["frame_idx"], message["objects"][0]["area"]) == (frame.index, frame.masks[1].area)
    assert sorted(rendered) == list(range(FRAMES))


def test_a_mask_of_too_many_outlines_is_an_error_and_no_broken_stream(
        video: VideoSession, monkeypatch: pytest.MonkeyPatch) -> None:
    video.add_object(points=[list(CLICK)])
    monkeypatch.setattr(polygons, "MAX_OUTLINES", 0)
    stored = video.client.http.get(f"/sessions/{video.session_id}/masks/0", params={"mask_format": "polygons"})
    assert (stored.status_code, stored.json()["code"]) == (413, "too_many_outlines")
    body = {"session_id": video.session_id, "mask_format": "polygons"}
    with listen(video, "?mask_format=polygons") as socket:
        with video.client.http.stream("POST", "/propagate", json=body, headers={"Accept": "application/x-ndjson"}) as response:
            events = [json.loads(line) for line in response.iter_lines()]
        assert (events[-1]["event"], events[-1]["code"], events[-1]["frame_idx"]) == ("error", "too_many_outlines", 0)
        assert until(socket, "error")[-1]["code"] == "too_many_outlines"
