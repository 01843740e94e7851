"""SIGTERM and Ctrl-C in the middle of an upload and of an extraction: a clean end, a clean folder, and the work goes on.

In the middle of a propagation: `tests/sessions/test_jobs.py`, also for a second signal.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clips import write_video
from tests.reliability.servers import Server, server

LONG = 500
EXIT_CODES = {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}
SIGNALS = pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: signal.Signals(number).name)


def end(service: Server, number: signal.Signals) -> None:
    """Send a signal and wait for the end that it should bring."""
    service.send(number)
    assert service.wait(30) == EXIT_CODES[number], service.told()
    assert "Traceback" not in service.told(), service.told()


@SIGNALS
def test_in_the_middle_of_an_upload(tmp_path: Path, number: signal.Signals) -> None:
    clip = write_video(tmp_path / "clip.mp4", 4)
    sent = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + clip.read_bytes()
        while True:
            yield bytes(1000)
            sent.set()
            time.sleep(0.02)

    def upload(url: str) -> None:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(f"{url}/initialize", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"})

    data = tmp_path / "data"
    with server(data, SHUTDOWN_TIMEOUT_S="1") as service:
        thread = threading.Thread(target=upload, args=[service.url])
        thread.start()
        assert sent.wait(30)
        end(service, number)
        thread.join(30)
        assert not thread.is_alive()
    assert not list(data.glob("upload-*"))
    assert not list((data / "sessions").iterdir())


@SIGNALS
def test_in_the_middle_of_an_extraction(tmp_path: Path, number: signal.Signals) -> None:
    write_video(tmp_path / "clip.mp4", LONG, 640, 360)
    data = tmp_path / "data"
    with server(data, SAM2_VIDEO_DIR=str(tmp_path)) as service:
        with httpx.Client(base_url=service.url, timeout=60) as http:
            state = http.post("/initialize", json={"video_path": "clip.mp4"}).json()
        assert state["frames_ready"] < LONG
        end(service, number)
    stored = len(list((data / "sessions" / state["session_id"] / "frames").glob("*.jpg")))
    assert state["frames_ready"] <= stored < LONG
    with server(data) as service, httpx.Client(base_url=service.url, timeout=60) as http:
        assert http.get(f"/sessions/{state['session_id']}/frames/{LONG - 1}").status_code == 200
        while (after := http.get(f"/sessions/{state['session_id']}").json())["status"] == "extracting":
            time.sleep(0.05)
        assert (after["num_frames"], after["status"]) == (LONG, "ready")
