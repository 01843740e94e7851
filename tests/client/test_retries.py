"""What the client does when connections break and when the service is full. The relay between them breaks for real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sam_service.client import Busy, SamClient, Unreachable
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.client.relay import relay
from tests.support import settings


def test_a_propagation_goes_on_where_the_connection_broke(client: SamClient, service: str, clip: Path) -> None:
    with client.initialize(clip, max_frames=24) as video:
        video.add_object(points=[CLICK])
        whole = list(video.propagate())
        with relay(service, 6000, 6000) as broken, SamClient(broken.url) as other:
            video.client = other
            frames = list(video.propagate())
        video.client = client
        assert broken.connections == 3
        assert [frame.index for frame in frames] == [frame.index for frame in whole]
        assert all((a.masks[1].mask == b.masks[1].mask).all() for a, b in zip(frames, whole, strict=True))
        assert any(b"last-event-id" in head.lower() for head in broken.heads)


@contextmanager
def process(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service as a process of its own, once it answers."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "sam_service", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
    with (folder / "log").open("ab") as log, subprocess.Popen(arguments, env=environment, stdout=log, stderr=log) as running:
        try:
            with SamClient(f"http://127.0.0.1:{port}") as client:
                while running.poll() is None:
                    try:
                        client.wait_ready()
                        break
                    except Unreachable:
                        time.sleep(0.1)
            yield running
        finally:
            running.kill()


def test_a_propagation_outlives_the_process_of_the_service(tmp_path: Path, clip: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with SamClient(f"http://127.0.0.1:{port}", max_wait_s=300.0) as client:
        with process(tmp_path, port) as first:
            video = client.initialize(clip, max_frames=30)
            video.add_object(points=[CLICK])
            whole = list(video.propagate())
            frames = video.propagate()
            arrived = [next(frames) for _ in range(5)]
            first.kill()
        with process(tmp_path, port):
            arrived += list(frames)
    assert [frame.index for frame in arrived] == list(range(30))
    assert all((a.masks[1].mask == b.masks[1].mask).all() for a, b in zip(arrived, whole, strict=True))


def test_a_service_that_stays_away_is_given_up(service: str, client: SamClient, clip: Path) -> None:
    with client.initialize(clip) as video:
        video.add_object(points=[CLICK])
        with relay(service) as between, SamClient(between.url, max_wait_s=1.0) as other:
            video.client = other
            frames = video.propagate()
            next(frames)
            between.close()
            with pytest.raises(Unreachable):
                list(frames)
        video.client = client


def test_reading_is_tried_again_and_a_prompt_is_not(client: SamClient, service: str, clip: Path) -> None:
    with client.initialize(clip, max_frames=1) as video:
        with relay(service, 1) as broken, SamClient(broken.url) as other:
            assert other.session(video.session_id).session_id == video.session_id
            assert broken.connections == 2
        with relay(service, 1) as broken, SamClient(broken.url) as other:
            attached = client.session(video.session_id)
            attached.client = other
            with pytest.raises(Unreachable):
                attached.add_object(points=[CLICK])
            assert broken.connections == 1


def test_a_full_service_is_waited_for_as_long_as_it_says(clip: Path) -> None:
    with local_service(settings(max_queued_steps=1)) as url, SamClient(url) as client:
        client.wait_ready()
        sessions = [client.initialize(clip, max_frames=1) for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            clicks = [pool.submit(session.add_object, points=[CLICK]) for session in sessions]
            assert all(click.result().area > 0 for click in clicks)


def test_a_wait_that_is_too_long_is_not_begun(clip: Path) -> None:
    with local_service(settings(max_sessions=1)) as url, SamClient(url, max_wait_s=5.0) as client:
        client.wait_ready()
        with client.initialize(clip, max_frames=1), pytest.raises(Busy) as full:
            client.initialize(clip, max_frames=1)
        assert (full.value.code, full.value.retry_after_s) == ("too_many_sessions", 30)
