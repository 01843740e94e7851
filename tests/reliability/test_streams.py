"""Readers that vanish or dawdle, and clicks in the middle of a propagation."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sam_service.client import SamClient
from sam_service.core.worker import Priority, Worker
from sam_service.local import local_service

from tests import colour_family
from tests.clips import write_video
from tests.fuzz.wire import connect, request, reset
from tests.reliability.servers import Server, server
from tests.support import settings

FRAMES = 40
CLICK = [30, 60]
BUFFERS = Path("/proc/sys/net/ipv4/tcp_wmem")
LARGEST_BUFFER = int(BUFFERS.read_text().split()[-1]) if BUFFERS.exists() else 4 << 20
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    write_video(folder / "clip.mp4", FRAMES)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder)) as started:
        yield started


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


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


def test_a_propagation_that_nobody_reads_comes_to_its_end(tmp_path: Path, colour: str) -> None:
    """The answer has more bytes than all buffers between the service and a client that reads none of them."""
    frames, objects = 24, 40
    clip = write_video(tmp_path / "clip.mp4", frames, 640, 480)
    with local_service(settings(sam2_model_size=colour)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.initialize(clip) as video, connect(url) as connection:
            for number in range(objects):
                video.add_object(points=[[16 * number + 4, 240]])
            connection.sendall(request("POST /propagate", {"Content-Type": "application/json", "Accept": NDJSON}, json.dumps(
                {"session_id": video.session_id, "mask_format": "rle"}).encode()))
            until(lambda: video.state()["running"] is not None or len(video.state()["frames_with_masks"]) > 1)
            until(lambda: video.state()["running"] is None)
            assert video.state()["frames_with_masks"] == list(range(frames))
            received, size = b"", 0
            while b'"event":"end"' not in received:
                piece = connection.recv(1 << 20)
                assert piece, received[-2000:]
                received, size = received[-2000:] + piece, size + len(piece)
            assert b'"state":"done"' in received
    assert size > 1.5 * LARGEST_BUFFER


def test_a_click_waits_for_the_frame_in_work_and_no_other(
        tmp_path: Path, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three propagations has a frame in the queue when a click comes; the click is next. In order of arrival it would
    be the fourth."""
    workers, begun = list[Worker](), list[Priority]()  # of each step, once it runs
    submit = Worker.submit

    def recorded(worker: Worker, run: Callable[[], Any], priority: Priority = Priority.CLICK, **options: Any) -> Any:
        def marked() -> Any:
            begun.append(priority)
            return run()

        workers.append(worker)
        return submit(worker, marked, priority, **options)

    monkeypatch.setattr(Worker, "submit", recorded)
    write_video(tmp_path / "clip.mp4", FRAMES)
    options = settings(sam2_video_dir=tmp_path, sam2_model_size=colour)
    with local_service(options) as url, SamClient(url) as client, ThreadPoolExecutor() as pool:
        client.wait_ready()
        videos = [client.open_video_on_server("clip.mp4") for _ in range(4)]
        for video in videos:
            video.add_object(points=[CLICK])
        readers = [pool.submit(list, video.propagate()) for video in videos[:3]]
        worker = workers[0]
        for number, video in enumerate([videos[3], videos[0], videos[3]]):  # another session's, and one that is propagated
            with busy(worker):
                until(lambda: worker.queued == 3)
                begun.clear()
                click = pool.submit(video.refine, 1, points=[[CLICK[0] + number, CLICK[1]]])
                until(lambda: worker.queued == 4)
            click.result(60)
            assert begun[0] is Priority.CLICK
        for reader in readers:
            assert len(reader.result(60)) == FRAMES


@contextmanager
def busy(worker: Worker) -> Iterator[None]:
    """Keep the device at a step of its own for the length of a block."""
    begun, end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        end.wait(60)

    worker.submit(wait)
    try:
        assert begun.wait(60)
        yield
    finally:
        end.set()
