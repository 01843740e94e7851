"""A process that ends, however it ends, loses nothing that was answered."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.support import settings


@contextmanager
def server(data: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The real command in a process of its own; yields it and its address, read from its log."""
    environment = {**os.environ, "SAM2_DATA_DIR": str(data), "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "sam_service", "serve", "--port", "0"], env=environment,
                                   stdout=out, stderr=out, cwd=data.parent)
    try:
        deadline = time.monotonic() + 60
        while "running on http://" not in (text := log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.05)
        yield process, "http://" + text.split("running on http://")[1].split()[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_kill_9_in_the_middle_of_a_propagation(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "data"
    with server(data, tmp_path / "first.log") as (process, url), SamClient(url) as client:
        client.wait_ready()
        undisturbed = client.open_video(clip, max_frames=40)
        undisturbed.add_object(points=[list(CLICK)])
        expected = {frame.index: frame.masks[1].mask for frame in undisturbed.propagate()}
        video = client.open_video(clip, max_frames=40)
        video.add_object(points=[list(CLICK)])
        frames = video.propagate()
        answered = [next(frames).index for _ in range(8)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with server(data, tmp_path / "second.log") as (_, url), SamClient(url) as client:
        client.wait_ready()
        state = client.call("GET", f"/sessions/{video.session_id}")
        assert set(answered) <= set(state["frames_with_masks"])
        assert state["prompts"][0]["points"] == [list(CLICK)]
        video.client = client
        resumed = list(video.propagate(start_frame=answered[-1] + 1))
        assert resumed[-1].index == 39
        assert all(np.array_equal(frame.masks[1].mask, expected[frame.index]) for frame in resumed)
        assert len(client.call("GET", "/sessions")["sessions"]) == 2


def test_a_prompt_that_was_only_written_down_is_acted_on_after_the_restart(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=5)
        answered = video.add_object(points=[list(CLICK)])
    with sqlite3.connect(tmp_path / "sessions.sqlite") as database:
        database.execute("UPDATE prompts SET settled = 0")
        database.execute("DELETE FROM masks")
    shutil.rmtree(tmp_path / "sessions" / video.session_id / "memory")
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        frames = list(video.propagate())
        assert [list(frame.masks) for frame in frames] == [[1]] * 5
        assert np.array_equal(frames[0].masks[1].mask, answered.mask)


def test_a_session_goes_on_with_another_network(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=5)
        video.add_object(points=[list(CLICK)])
        expected = list(video.propagate())
    with sqlite3.connect(tmp_path / "sessions.sqlite") as database:
        database.execute("UPDATE sessions SET model = 'another'")
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        frames = list(video.propagate())
        assert all(np.array_equal(a.masks[1].mask, b.masks[1].mask) for a, b in zip(frames, expected, strict=True))


def test_sigterm_in_the_middle_of_a_propagation_ends_cleanly(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "data"
    with server(data, tmp_path / "log") as (process, url), SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip)
        video.add_object(points=[list(CLICK)])
        client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True})
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert "Traceback" not in (tmp_path / "log").read_text()
