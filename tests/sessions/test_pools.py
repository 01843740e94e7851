"""Slow work of one kind holds up no other: videos that take for ever to open leave every other call alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sam_service.client import SamClient
from sam_service.local import local_service
from sam_service.sessions.service import SessionService
from sam_service.video.process import DecodingProcess

from tests import colour_family
from tests.clips import write_video
from tests.reliability.test_streams import until
from tests.support import settings

AT_ONE_TIME, OPENING = 4, 6


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


@pytest.fixture
def client(tmp_path: Path, colour: str) -> Iterator[SamClient]:
    write_video(tmp_path / "clip.mp4", 6)
    with local_service(settings(sam2_model_size=colour, sam2_video_dir=tmp_path)) as url, SamClient(url) as connected:
        connected.wait_ready()
        yield connected


def test_videos_that_open_slowly_hold_up_nobody_and_are_few_at_one_time(
        client: SamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    video = client.open_video_on_server("clip.mp4")
    video.frame(5)
    entered, most, release = list[int](), list[int](), threading.Event()
    opened = DecodingProcess.open

    def slow(process: DecodingProcess) -> Any:
        entered.append(1)
        most.append(len(entered))
        assert release.wait(60)
        entered.pop()
        return opened(process)

    monkeypatch.setattr(DecodingProcess, "open", slow)
    with ThreadPoolExecutor(OPENING) as pool:
        try:
            opening = [pool.submit(client.open_video_on_server, "clip.mp4") for _ in range(OPENING)]
            until(lambda: len(entered) == AT_ONE_TIME)
            assert video.add_object(points=[[30, 60]]).object_id == 1
            assert len(list(video.propagate())) == 6
            assert video.frame(3) and video.state()["frames_with_masks"] == list(range(6))
            video.delete()
        finally:
            release.set()
        assert len({opened_video.result(60).session_id for opened_video in opening}) == OPENING
    assert max(most) == AT_ONE_TIME


def test_a_slow_disk_under_the_database_does_not_stop_the_event_loop(
        client: SamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    video = client.open_video_on_server("clip.mp4")
    begun, release = threading.Event(), threading.Event()

    def slow(service: SessionService, session_id: str, now: float) -> None:
        begun.set()
        assert release.wait(60)

    monkeypatch.setattr(SessionService, "_touch", slow)
    try:
        until(lambda: bool(video.state()) and begun.is_set())  # a use is noted once a second
        assert client.call("GET", "/health")["ready"]
        assert video.frame(2)
    finally:
        release.set()
