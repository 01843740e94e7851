"""The Python client against a real service: every method, the kinds of errors, what leaving does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sam_service.client import (
    Cancelled,
    Conflict,
    InvalidRequest,
    NotFound,
    SamClient,
    Unauthorized,
    Unreachable,
    VideoSession,
)
from sam_service.demo_clip import CLICK, RADIUS
from sam_service.local import local_service

from tests.support import jpeg_size, settings

BOX = (CLICK[0] - RADIUS, CLICK[1] - RADIUS, CLICK[0] + RADIUS, CLICK[1] + RADIUS)


def wait_idle(video: VideoSession) -> None:
    deadline = time.monotonic() + 20
    while video.state()["running"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_importing_it_brings_neither_torch_nor_opencv() -> None:
    heavy = ("torch", "cv2", "pydantic", "fastapi", "transformers", "pycocotools")
    script = f"import sys, sam_service.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True,
                          text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_session_from_the_first_click_to_the_tracks(client: SamClient, clip: Path) -> None:
    with client.initialize(clip, max_frames=8) as video:
        clicked = video.add_object(points=[CLICK], name="ball")
        assert (clicked.object_id, clicked.frame_index) == (1, 0)
        assert clicked.mask.sum() == clicked.area > 0
        video.add_object(box=np.array(BOX), object_id=7)
        refined = video.refine(7, points=np.array([[5.0, 5.0]]), labels=[0], frame_idx=2)
        assert refined.frame_index == 2
        frames = list(video.propagate())
        assert [frame.index for frame in frames] == list(range(8))
        assert (frames[-1].done, frames[-1].total) == (8, 8)
        stored = video.masks(5)
        assert {number: mask.mask.tolist() for number, mask in stored.masks.items()} \
            == {number: mask.mask.tolist() for number, mask in frames[5].masks.items()}
        tracks = video.tracks()
        assert tracks[1].frames.tolist() == list(range(8))
        assert tracks[1].area[5] == stored.masks[1].area
        assert video.rename(7, "other ball", color="#102030")["name"] == "other ball"
        assert [(item["object_id"], item["name"]) for item in video.state()["objects"]] == [(1, "ball"), (7, "other ball")]
        assert video.clear_prompts(object_id=7, frame_idx=2) == 1
        video.remove_object(7)
        assert [item["object_id"] for item in video.state()["objects"]] == [1]
    assert video.session_id not in [session["session_id"] for session in client.sessions()]


def test_a_mask_is_a_prompt_as_numpy_and_comes_back(video: VideoSession) -> None:
    y, x = np.mgrid[0:360, 0:640]
    ball = np.hypot(x - CLICK[0], y - CLICK[1]) <= RADIUS
    answer = video.add_object(mask=ball)
    assert (answer.mask & ball).sum() > 0.9 * ball.sum()


def test_masks_stay_with_the_service_on_demand(video: VideoSession) -> None:
    video.add_object(points=[CLICK])
    frames = list(video.propagate(masks=False, end_frame=2))
    assert all(frame.masks[1].area > 0 for frame in frames)
    with pytest.raises(ValueError, match="without masks"):
        assert frames[0].masks[1].mask.any()
    assert video.masks(2).masks[1].mask.sum() == frames[2].masks[1].area


def test_frames_and_thumbnails(video: VideoSession) -> None:
    assert jpeg_size(video.frame(3)) == (640, 360)
    assert jpeg_size(video.frame(3, width=160)) == (160, 90)


def test_a_video_comes_from_a_file_object_or_from_the_server(client: SamClient, clip: Path) -> None:
    with client.initialize(io.BytesIO(clip.read_bytes()), max_frames=1) as uploaded:
        assert uploaded.width == 640
    with client.initialize_on_server(clip.name, max_frames=1) as named:
        assert named.width == 640


def test_attaching_again_keeps_the_session(client: SamClient, video: VideoSession) -> None:
    video.add_object(points=[CLICK])
    with client.session(video.session_id) as again:
        assert (again.width, again.info["video_name"]) == (640, "ball.mp4")
        assert len(list(again.propagate(end_frame=3))) == 4
    assert video.state()["frames_with_masks"] == [0, 1, 2, 3]


def test_a_break_cancels_and_keeps_what_was_computed(client: SamClient, clip: Path) -> None:
    with client.initialize(clip) as video:
        video.add_object(points=[CLICK])
        for frame in video.propagate():
            if frame.index == 3:
                break
        wait_idle(video)
        assert 4 <= len(video.state()["frames_with_masks"]) < 60


def test_leaving_an_attached_session_cancels_and_keeps_it(client: SamClient, clip: Path) -> None:
    with client.initialize(clip) as owner:
        owner.add_object(points=[CLICK])
        with client.session(owner.session_id) as video:
            frames = video.propagate()
            next(frames)
        assert owner.state()["running"] is None
        assert 1 <= len(owner.state()["frames_with_masks"]) < 60
        frames.close()


def test_cancelling_from_elsewhere_ends_the_iterator(client: SamClient, clip: Path) -> None:
    with client.initialize(clip) as video:
        video.add_object(points=[CLICK])
        frames = video.propagate()
        next(frames)
        assert len(video.cancel()) == 1
        with pytest.raises(Cancelled, match="of 72 frames"):
            list(frames)
        assert video.cancel() == []


def test_errors_have_kinds_and_name_the_field(client: SamClient, video: VideoSession) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        video.add_object(points=[[9000, 20]])
    assert (wrong.value.status, wrong.value.code) == (422, "invalid_prompt")
    assert "640" in wrong.value.fields["points"]
    with pytest.raises(NotFound):
        client.session("0" * 32)
    with pytest.raises(NotFound):
        video.frame(24)
    with pytest.raises(Conflict) as nothing:
        list(video.propagate())
    assert nothing.value.code == "nothing_to_propagate"


def test_the_key_comes_from_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_service(settings(sam2_api_key="secret")) as url:
        with SamClient(url, api_key="secret") as client:
            assert client.sessions() == []
        with SamClient(url) as client, pytest.raises(Unauthorized):
            client.sessions()
        monkeypatch.setenv("SAM2_API_KEY", "secret")
        with SamClient(url) as client:
            assert client.sessions() == []
        with SamClient(url, api_key="wrong") as client, pytest.raises(Unauthorized):
            client.sessions()


def test_nobody_there_is_told_as_such() -> None:
    with SamClient("http://127.0.0.1:9") as client, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        client.sessions()
