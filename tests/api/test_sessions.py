"""Opening, looking at and deleting sessions."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.local import local_service

from tests.support import iou, jpeg_size, settings

FIELDS = {"session_id", "status", "num_frames", "frames_ready", "width", "height", "original_width", "original_height",
          "scale_factor", "fps", "truncated", "model", "expires_at"}


def test_initialize_by_upload_answers_the_contract(client: SamClient, clip: Path) -> None:
    with clip.open("rb") as file:
        response = client.http.post("/initialize", files={"file": ("ball.mp4", file)}, data={"max_frames": "10"})
    assert response.status_code == 201
    answer = response.json()
    assert set(answer) >= FIELDS
    assert (answer["width"], answer["height"], answer["scale_factor"]) == (640, 360, 1.0)
    assert answer["num_frames"] == 10
    assert answer["frames_ready"] >= 1
    assert answer["fps"] == pytest.approx(24)
    assert answer["model"]["size"] == "nano"
    assert answer["expires_at"] > time.time()
    client.http.delete(f"/sessions/{answer['session_id']}")


@pytest.mark.parametrize("absolute", [False, True])
def test_initialize_by_path(client: SamClient, clip: Path, absolute: bool) -> None:
    with client.open_video_on_server(str(clip) if absolute else clip.name, start_frame=4, frame_stride=2,
                                     max_frames=5) as video:
        assert video.state()["video_name"] == clip.name
        wait_extracted(video)
        assert video.state()["num_frames"] == 5
        assert video.state()["truncated"]


def test_frames_are_the_same_picture_for_everyone(client: SamClient, clip: Path, video: VideoSession) -> None:
    with client.open_video(clip, start_frame=3, frame_stride=4, max_frames=3) as other:
        assert other.frame(1) == video.frame(7)
        assert jpeg_size(other.frame(1)) == (640, 360)


def test_a_frame_not_extracted_yet_is_waited_for(video: VideoSession) -> None:
    assert jpeg_size(video.frame(23)) == (640, 360)


def test_large_frames_are_downsampled(clip: Path) -> None:
    with local_service(settings(max_frame_dimension=320)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=2) as video:
            assert (video.width, video.height) == (320, 180)
            assert video.info["original_width"] == 640
            assert video.info["scale_factor"] == 0.5
            mask = video.add_object(points=[[75, 100]]).mask
            assert mask.shape == (180, 320)


def test_image_size_is_chosen_for_each_session(client: SamClient, clip: Path, video: VideoSession) -> None:
    mask = video.add_object(points=[[150, 200]]).mask
    with client.open_video(clip, max_frames=4, image_size=320) as finer:
        assert finer.info["model"]["image_size"] == 320
        assert iou(finer.add_object(points=[[150, 200]]).mask, mask) > 0.5
        assert len(list(finer.propagate())) == 4


def test_state_tells_objects_prompts_and_frames_with_masks(video: VideoSession) -> None:
    video.add_object(points=[[150, 200]], object_id=7)
    video.refine(7, points=[[152, 210]], labels=[1])
    state = video.state()
    assert state["objects"] == [{"object_id": 7, "name": "object 7", "color": "#d55e00", "prompted_frames": [0],
                                 "locked": False, "absent_from": []}]
    assert state["prompts"][0]["points"] == [[150, 200], [152, 210]]
    assert state["frames_with_masks"] == [0]
    assert state["running"] is None
    listed = video.client.call("GET", "/sessions")["sessions"]
    assert video.session_id in [session["session_id"] for session in listed]


def test_delete_frees_everything_and_is_idempotent(client: SamClient, clip: Path, tmp_path: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as own:
        own.wait_ready()
        video = own.open_video(clip)
        video.add_object(points=[[150, 200]])
        assert any((tmp_path / "sessions").iterdir())
        assert own.http.delete(f"/sessions/{video.session_id}").status_code == 204
        assert own.http.delete(f"/sessions/{video.session_id}").status_code == 204
        assert not any((tmp_path / "sessions").iterdir())
        with pytest.raises(ServiceProblem) as refused:
            video.state()
        assert refused.value.status == 404


def test_the_cap_on_sessions_answers_429_with_retry_after(clip: Path) -> None:
    with local_service(settings(max_sessions=1)) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        with clip.open("rb") as file:
            refused = client.http.post("/initialize", files={"file": ("ball.mp4", file)})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        video.delete()
        client.open_video(clip, max_frames=2).delete()


def test_an_unused_session_expires_and_says_so(clip: Path) -> None:
    with local_service(settings(session_ttl_s=1.0)) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        deadline = time.monotonic() + 30
        while client.call("GET", "/sessions")["sessions"] and time.monotonic() < deadline:
            time.sleep(0.2)
        with pytest.raises(ServiceProblem) as expired:
            video.state()
        assert (expired.value.status, expired.value.code) == (410, "session_expired")


def wait_extracted(video: VideoSession) -> None:
    """Wait until the whole clip is extracted."""
    deadline = time.monotonic() + 60
    while video.state()["status"] == "extracting":
        assert time.monotonic() < deadline
        time.sleep(0.05)
