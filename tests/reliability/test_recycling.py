"""A process that starts anew on purpose: when it does, and that no session and no client is lost by it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from sam_service.api.recycling import PATIENCE_S, Recycling
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK


class Conditions:
    """What a `Recycling` asks for, made up."""

    def __init__(self, steps: int | None = None, memory_bytes: int | None = None) -> None:
        self.engine = SimpleNamespace(ready=True, steps_done=0)
        self.idle, self.now, self.held = True, 0.0, 100
        self.recycling = Recycling(self.engine, steps, memory_bytes, lambda: self.idle,  # type: ignore[arg-type]
                                   clock=lambda: self.now, memory=lambda: self.held)


def test_without_marks_it_is_never_due() -> None:
    made = Conditions()
    made.engine.steps_done, made.held = 10**9, 1 << 50
    assert not made.recycling.due()


def test_it_is_due_after_so_many_steps() -> None:
    made = Conditions(steps=5)
    made.engine.steps_done = 4
    assert not made.recycling.due()
    made.engine.steps_done = 5
    assert made.recycling.due()
    made.engine.ready = False
    assert not made.recycling.due()


def test_it_waits_for_an_idle_moment_and_not_for_ever() -> None:
    made = Conditions(steps=1)
    made.engine.steps_done, made.idle = 1, False
    assert not made.recycling.due()
    made.now = PATIENCE_S - 1
    assert not made.recycling.due()
    made.now = PATIENCE_S
    assert made.recycling.due()


def test_a_memory_mark(caplog: pytest.LogCaptureFixture) -> None:
    made = Conditions(memory_bytes=200)
    assert not made.recycling.due()
    made.held = 200
    assert made.recycling.due()
    below = Conditions(memory_bytes=50)  # a fresh process holds more
    assert not below.recycling.due() and not below.recycling.due()
    assert caplog.text.count("is ignored") == 1


@pytest.fixture
def service(tmp_path: Path, unused_port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The command itself, in a process that is replaced after three steps."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RECYCLE_STEPS": "3", "SAM2_IMAGE_SIZE": "128"}
    command = [sys.executable, "-m", "sam_service", "serve", "--port", str(unused_port), "--data-dir", str(tmp_path / "data")]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", unused_port)):
            break
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    yield f"http://127.0.0.1:{unused_port}", process
    process.kill()
    process.wait()


def test_a_process_that_starts_anew_loses_no_session_and_refuses_nobody(
        service: tuple[str, subprocess.Popen[bytes]], clip: Path) -> None:
    url, process = service
    with SamClient(url) as client:
        client.wait_ready()
        client.call("PUT", "/mode", json={"mode": "quality"})
        video = client.initialize(clip, max_frames=2)
        video.add_object(points=[CLICK])
        assert len(list(video.propagate())) == 2
        before = client.call("GET", f"/sessions/{video.session_id}/masks/1")
        if not client.health()["worker"]["recycled"]:
            video.refine(1, points=[CLICK], frame_idx=0)
    deadline = time.monotonic() + 240
    while not (health := httpx.get(f"{url}/health", timeout=240).json())["worker"]["recycled"]:  # one refusal would raise
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.poll() is None and health["mode"] == "quality"
    with SamClient(url) as client:
        client.wait_ready()
        assert client.call("GET", f"/sessions/{video.session_id}/masks/1") == before
        assert client.session(video.session_id).refine(1, points=[CLICK], frame_idx=1).area > 0
