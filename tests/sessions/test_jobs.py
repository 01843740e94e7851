"""Propagations outlive their clients and their processes; a service that is full, stopping or stuck says so."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.errors import StoreUnusable
from sam_service.local import local_service
from sam_service.sessions.store import SqliteStore
from sam_service.sessions.tables import FORMAT

from tests.sessions.test_restart import server
from tests.support import settings

FRAMES = 40


def rles(video: VideoSession) -> dict[int, str]:
    """The stored masks of object 1, by frame."""
    path = f"/sessions/{video.session_id}/masks/{{}}?mask_format=rle"
    found = {index: video.client.call("GET", path.format(index))["objects"] for index in range(FRAMES)}
    return {index: objects[0]["mask"]["counts"] for index, objects in found.items() if objects}


def background(video: VideoSession) -> str:
    job = video.client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True})
    return str(job["job_id"])


def wait_done(client: SamClient, job_id: str, at_least: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (job := client.call("GET", f"/jobs/{job_id}"))["done"] < at_least:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return dict(job)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_background_job_goes_on_in_the_next_process(tmp_path: Path, clip: Path, how: signal.Signals) -> None:
    data = tmp_path / "data"
    with server(data, tmp_path / "first.log") as (process, url), SamClient(url) as client:
        client.wait_ready()
        undisturbed = client.open_video(clip, max_frames=FRAMES)
        undisturbed.add_object(points=[list(CLICK)])
        list(undisturbed.propagate())
        expected = rles(undisturbed)
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=[list(CLICK)])
        job_id = background(video)
        seen = wait_done(client, job_id, 5)["done"]
        process.send_signal(how)
        process.wait(20)
    with server(data, tmp_path / "second.log") as (_, url), SamClient(url) as client:
        assert client.call("GET", f"/jobs/{job_id}")["done"] >= seen
        job = wait_done(client, job_id, FRAMES)
        while job["state"] == "running":
            job = client.call("GET", f"/jobs/{job_id}")
        assert (job["state"], job["total"]) == ("done", FRAMES)
        video.client = client
        assert rles(video) == expected


def test_a_stream_goes_on_over_a_restart(tmp_path: Path, clip: Path) -> None:
    body: dict[str, Any] = {"mask_format": "rle"}
    accept = {"Accept": "text/event-stream"}
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=[list(CLICK)])
        body["session_id"] = video.session_id
        with client.http.stream("POST", "/propagate", json=body, headers=accept) as response:
            for line in response.iter_lines():
                if line.startswith("id: "):
                    last = line[4:]
                if line.startswith("id: ") and line.endswith(":6"):
                    break
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        assert client.call("GET", f"/jobs/{last.partition(':')[0]}")["done"] >= 6
        again = {**accept, "Last-Event-ID": last.partition(":")[0] + ":3"}
        with client.http.stream("POST", "/propagate", json=body, headers=again) as response:
            events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    assert [event["done"] for event in events[:-1]] == list(range(4, FRAMES + 1))
    assert events[-1]["state"] == "done"


def test_a_stop_ends_open_answers_in_good_order(tmp_path: Path, clip: Path) -> None:
    with server(tmp_path / "data", tmp_path / "log") as (process, url), SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip)
        video.add_object(points=[list(CLICK)])
        body = {"session_id": video.session_id, "mask_format": "none"}
        with client.http.stream("POST", "/propagate", json=body, headers={"Accept": "application/x-ndjson"}) as response:
            events = []
            for line in response.iter_lines():
                events.append(json.loads(line))
                if len(events) == 4:
                    process.send_signal(signal.SIGTERM)
        assert (events[-1]["event"], events[-1]["state"]) == ("end", "interrupted")
        process.wait(20)
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_second_signal_ends_at_once(tmp_path: Path, clip: Path) -> None:
    with server(tmp_path / "data", tmp_path / "log") as (process, url), SamClient(url) as client:
        client.wait_ready()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0


def test_a_folder_has_one_owner_and_no_later_format(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    with pytest.raises(StoreUnusable, match="in use"):
        SqliteStore(tmp_path / "s.sqlite")
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(StoreUnusable, match="later version"):
        SqliteStore(tmp_path / "s.sqlite")


@pytest.mark.parametrize(("limit", "code"), [
    ({"min_free_disk_mb": 1 << 30}, "disk_full"), ({"max_memory_mb": 64}, "memory_full")])
def test_without_room_new_work_is_refused_and_nothing_is_lost(
        tmp_path: Path, clip: Path, limit: dict[str, int], code: str) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=3)
        video.add_object(points=[list(CLICK)])
        before = video.state()
    with local_service(settings(**limit), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        point = {"session_id": video.session_id, "object_id": 1, "points": [[1, 1]], "labels": [0]}
        with clip.open("rb") as file:
            answers = [client.http.post("/refine", json=point), client.http.post("/propagate", json={
                "session_id": video.session_id}), client.http.post("/initialize", files={"file": file})]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, code)] * 3
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert client.call("GET", f"/sessions/{video.session_id}")["prompts"] == before["prompts"]


def test_prompts_and_objects_are_capped(clip: Path) -> None:
    with local_service(settings(max_objects=2, max_prompts=2)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=4) as video:
            for _ in range(2):
                video.add_object(points=[list(CLICK)])
            with pytest.raises(ServiceProblem) as refused:
                video.add_object(points=[list(CLICK)])
            assert (refused.value.status, refused.value.code) == (413, "too_many_objects")
            video.refine(1, points=[list(CLICK)], frame_idx=1)
            video.refine(1, points=[list(CLICK)], frame_idx=1)
            with pytest.raises(ServiceProblem) as refused:
                video.refine(1, points=[list(CLICK)], frame_idx=2)
            assert (refused.value.status, refused.value.code) == (413, "too_many_prompts")


HANGING = """
    import sys, threading, time
    from sam_service.api import app as application
    from sam_service.server import Server
    from sam_service.settings import Settings
    from pathlib import Path
    settings = Settings(_env_file=None, port={port}, sam2_data_dir=Path(sys.argv[1]), step_timeout_s=2)
    server = Server(settings, restart_when_hung=True)
    marker = Path(sys.argv[1]).with_name("hung")
    def hang():
        services = server._app.state.services
        while not services.engine.ready:
            time.sleep(0.1)
        services.engine.worker.submit(lambda: time.sleep(1000))
    if not marker.exists():
        marker.touch()
        threading.Thread(target=lambda: (time.sleep(3), hang()), daemon=True).start()
    server.run()
"""


def test_a_step_that_hangs_is_noticed_and_the_process_starts_anew(tmp_path: Path, clip: Path, unused_port: int) -> None:
    script = tmp_path / "hanging.py"
    script.write_text(textwrap.dedent(HANGING.format(port=unused_port)))
    data = tmp_path / "data"
    data.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([sys.executable, str(script), str(data)], env=environment, stdout=out, stderr=out)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{unused_port}", timeout=5) as http:
            deadline = time.monotonic() + 60
            restarts = 0
            while not restarts:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                try:
                    health = http.get("/health").json()
                    restarts = health["worker"]["process_restarts"]
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
            while not http.get("/health").json()["ready"]:
                time.sleep(0.1)
            with SamClient(str(http.base_url)) as client, client.open_video(clip, max_frames=2) as video:
                video.add_object(points=[list(CLICK)])
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
