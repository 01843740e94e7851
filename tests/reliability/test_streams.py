"""Readers that vanish or dawdle, and clicks in the middle of a propagation."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sam_service.client import SamClient
from sam_service.core.worker import Priority, Worker
from sam_service.local import local_service

from tests.clips import write_video
from tests.fuzz.wire import connect, request, reset
from tests.reliability.servers import Server, server
from tests.support import settings

FRAMES = 40
CLICK = [30, 60]
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    write_video(folder / "clip.mp4", FRAMES)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder)) as started:
        yield started


@pytest.fixture
def http(service: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.fixture
def session_id(http: httpx.Client) -> Iterator[str]:
    """A session with one object."""
    opened: str = http.post("/initialize", json={"video_path": "clip.mp4"}).json()["session_id"]
    http.post("/add-object", json={"session_id": opened, "points": [CLICK]}).raise_for_status()
    yield opened
    http.delete(f"/sessions/{opened}").raise_for_status()


def start_stream(service: Server, session_id: str, accept: str, mask_format: str = "rle") -> socket.socket:
    """A connection on which a propagation has just begun to be answered."""
    connection = connect(service.url)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps({"session_id": session_id, "mask_format": mask_format}).encode()
    connection.sendall(request("POST /propagate", {"Content-Type": "application/json", "Accept": accept}, body))
    received = b""
    while b"frame" not in received and accept != "application/json":
        received += connection.recv(100)
    return connection


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to come."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("accept", [NDJSON, SSE, "application/json"])
def test_a_reset_in_the_middle_frees_everything(service: Server, http: httpx.Client, session_id: str, accept: str) -> None:
    process = psutil.Process(service.pid)
    state = f"/sessions/{session_id}"
    handles = []
    for _ in range(4):
        connection = start_stream(service, session_id, accept)
        until(lambda: http.get(state).json()["running"] is not None)
        reset(connection)
        until(lambda: http.get(state).json()["running"] is None)
        handles.append(process.num_fds())
    assert handles[-1] <= handles[0] + 2
    answer = http.post("/propagate", json={"session_id": session_id, "mask_format": "none"}).json()
    assert answer["num_frames"] == FRAMES
    assert "Traceback" not in service.told()


def test_a_propagation_that_nobody_reads_comes_to_its_end(service: Server, http: httpx.Client, session_id: str) -> None:
    with start_stream(service, session_id, NDJSON, "png") as connection:
        until(lambda: http.get(f"/sessions/{session_id}").json()["running"] is None)
        assert http.get(f"/sessions/{session_id}").json()["frames_with_masks"] == list(range(FRAMES))
        received = b""
        while b'"event":"end"' not in received:
            received += connection.recv(65536)
    assert b'"state":"done"' in received


def test_a_click_waits_for_the_frame_in_work_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[tuple[str, Priority, int]] = []  # what, of what priority, which step
    submit = Worker.submit

    def recorded(worker: Worker, run: Callable[[], Any], priority: Priority = Priority.CLICK, **options: Any) -> Any:
        number = len(happened)

        def marked() -> Any:
            happened.append(("begun", priority, number))
            return run()

        happened.append(("queued", priority, number))
        return submit(worker, marked, priority, **options)

    monkeypatch.setattr(Worker, "submit", recorded)
    write_video(tmp_path / "clip.mp4", FRAMES)
    options = settings(sam2_video_dir=tmp_path, sam2_image_size=128, torch_num_threads=1)
    with local_service(options) as url, SamClient(url) as client:
        client.wait_ready()
        videos = [client.open_video_on_server("clip.mp4") for _ in range(3)]
        for video in videos:
            video.add_object(points=[CLICK])
        happened.clear()
        readers = [threading.Thread(target=list, args=[video.propagate()]) for video in videos[:2]]
        for reader in readers:
            reader.start()
        clicks = 0
        while clicks < 4 or (clicks < 12 and any(reader.is_alive() for reader in readers)):
            videos[2 * (clicks % 2)].refine(1, points=[[CLICK[0] + clicks, CLICK[1]]])  # another session's, and the same
            clicks += 1
        for reader in readers:
            reader.join()
    click_steps = [number for what, priority, number in happened if what == "queued" and priority is Priority.CLICK]
    assert len(click_steps) >= clicks
    for number in click_steps:
        queued, begun = (happened.index((what, Priority.CLICK, number)) for what in ("queued", "begun"))
        between = [item for item in happened[queued:begun] if item[:2] == ("begun", Priority.FRAME)]
        assert len(between) <= 1
