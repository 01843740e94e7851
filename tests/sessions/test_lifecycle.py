"""Deleting, removing and failing at awkward moments."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sam_service.client import SamClient, ServiceProblem
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.support import settings


def test_deleting_while_everything_runs_leaves_nothing_behind(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        for _ in range(6):
            video = client.open_video(clip)
            body = {"session_id": video.session_id}
            click = body | {"points": [list(CLICK)], "mask_format": "none"}
            client.call("POST", "/add-object", json=click)
            with ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(client.http.post, "/add-object", json=click) for _ in range(3)]
                calls.append(pool.submit(client.http.post, "/propagate", json=body | {"background": True}))
                calls += [pool.submit(client.http.delete, f"/sessions/{video.session_id}") for _ in range(2)]
                answers = [call.result().status_code for call in calls]
            assert set(answers) <= {200, 202, 204, 404}, answers
            client.http.delete(f"/sessions/{video.session_id}")
        assert client.call("GET", "/sessions") == {"sessions": []}
        assert client.call("GET", "/health")["memory"]["feature_cache_bytes"] == 0
        assert not list((tmp_path / "sessions").iterdir())


def test_housekeeping_is_never_refused_by_a_full_queue(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(max_queued_steps=1), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=20)
        for _ in range(2):
            video.add_object(points=[list(CLICK)])
        with ThreadPoolExecutor(12) as pool:
            body = {"session_id": video.session_id}
            busy = [pool.submit(client.http.post, "/add-object", json=body | {"points": [[400, 100]]}) for _ in range(10)]
            removed = client.http.post("/remove-object", json=body | {"object_id": 1})
            cleared = client.http.post("/clear-prompts", json=body | {"object_id": 2})
            assert {call.result().status_code for call in busy} <= {200, 503}
        assert (removed.status_code, cleared.status_code) == (200, 200)
        assert 1 not in {item["object_id"] for item in client.call("GET", f"/sessions/{video.session_id}")["objects"]}
        video.delete()
        assert not list((tmp_path / "sessions").iterdir())


def test_a_removed_object_leaves_no_masks_behind(client: SamClient, clip: Path) -> None:
    for _ in range(3):
        with client.open_video(clip) as video:
            video.add_object(points=[list(CLICK)])
            video.add_object(points=[[400, 100]])
            seen = threading.Event()

            def read(video: object = video, seen: threading.Event = seen) -> None:
                for frame in video.propagate(end_frame=12):  # type: ignore[attr-defined]
                    if frame.index == 4:
                        seen.set()

            reader = threading.Thread(target=read)
            reader.start()
            seen.wait(20)
            video.remove_object(2)
            reader.join()
            video.add_object(points=[[400, 100]], object_id=2, frame_idx=20)
            answers = [client.http.get(f"/sessions/{video.session_id}/masks/{frame}/2").status_code for frame in range(13)]
            assert answers == [404] * 13


def test_a_damaged_memory_is_made_anew_and_a_stray_file_is_left_alone(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=6)
        answered = video.add_object(points=[list(CLICK)])
        list(video.propagate())
    memory = tmp_path / "sessions" / video.session_id / "memory" / "1"
    (memory / "copy.safetensors").write_bytes(b"not ours")
    conditioning = next(memory.glob("conditioning-*"))
    conditioning.write_bytes(conditioning.read_bytes()[:100])
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        frames = list(video.propagate())
        assert (frames[0].masks[1].mask == answered.mask).all()
        assert len(frames) == 6


def test_an_extraction_that_fails_midway_keeps_what_was_computed(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=12)
        video.add_object(points=[list(CLICK)])
        while video.state()["status"] == "extracting":
            pass
        (tmp_path / "sessions" / video.session_id / "frames" / "000007.jpg").unlink()
        seen = []
        with pytest.raises(ServiceProblem) as failed:
            for frame in video.propagate():
                seen.append(frame.index)
        assert failed.value.code == "frame_unreadable"
        assert seen == list(range(7))
        assert video.state()["frames_with_masks"] == seen
        shutil.rmtree(tmp_path / "sessions" / video.session_id / "frames")
        video.delete()


def test_a_second_propagation_reads_its_features_from_disk_and_gives_the_same_masks(tmp_path: Path, clip: Path) -> None:
    options = settings(feature_cache_mb=0, feature_disk_mb=64)
    with local_service(options, data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=12) as video:
            video.add_object(points=[list(CLICK)])
            first = [frame.masks[1].mask for frame in video.propagate()]
            held = client.call("GET", "/health")["memory"]["feature_disk_bytes"]
            assert held > 0 and len(list((tmp_path / "features" / video.session_id).iterdir())) >= 11
            second = [frame.masks[1].mask for frame in video.propagate()]
            assert client.call("GET", "/health")["memory"]["feature_disk_bytes"] >= held
            assert all((a == b).all() for a, b in zip(first, second, strict=True))
        assert client.call("GET", "/health")["memory"]["feature_disk_bytes"] == 0
        assert not list((tmp_path / "features").iterdir())
    assert not (tmp_path / "features").exists()
