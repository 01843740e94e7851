"""Clips of pictures, rates and exports over REST: what is asked for is what is answered."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from sam_service.client import SamClient
from sam_service.local import local_service

from tests import clips
from tests.support import settings
from tests.video.conftest import decoded


def jpeg(index: int, size: tuple[int, int] = (160, 120)) -> bytes:
    """A picture with a number in it."""
    return cv2.imencode(".jpg", clips.picture(index, *size))[1].tobytes()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's folder: a folder of pictures, an archive of them, and slow clips."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "frames").mkdir()
    with zipfile.ZipFile(folder / "frames.zip", "w") as archive:
        for index in range(11):
            (folder / "frames" / f"f{index}.jpg").write_bytes(jpeg(index))
            archive.writestr(f"f{index}.jpg", jpeg(index))
    (folder / "empty").mkdir()
    plain = clips.write_video(folder / "plain.mp4", 6)
    clips.retimed(plain, folder / "slow.mp4", [clips.MP4_TICKS * 1800] * 6)
    clips.retimed(plain, folder / "varying.mp4", [512, 512, 1024, 20480, 512, 512])
    return folder


@pytest.fixture(scope="module")
def http(videos: Path) -> Iterator[httpx.Client]:
    """A service that reads this folder."""
    with local_service(settings(sam2_video_dir=videos, max_upload_mb=5)) as url, SamClient(url) as client:
        client.wait_ready()
        yield client.http


def opened(http: httpx.Client, path: str, **options: Any) -> dict[str, Any]:
    """A session by path, once all of its frames are there."""
    answer = http.post("/initialize", json={"video_path": path, **options})
    assert answer.status_code == 201, answer.text
    return finished(http, answer.json())


def finished(http: httpx.Client, session: dict[str, Any]) -> dict[str, Any]:
    """The session's state with all its frames."""
    while session["status"] == "extracting":
        http.get(f"/sessions/{session['session_id']}/frames/{session['frames_ready']}")
        session = http.get(f"/sessions/{session['session_id']}").json()
    return session


def numbers(http: httpx.Client, session: dict[str, Any]) -> list[int]:
    """The numbers in the session's frames."""
    frames = [http.get(f"/sessions/{session['session_id']}/frames/{index}").content for index in range(session["num_frames"])]
    return [clips.number_in(np.asarray(cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB))) for frame in frames]


@pytest.mark.parametrize("path", ["frames", "frames.zip", "frames/"])
def test_a_path_of_pictures(http: httpx.Client, path: str) -> None:
    session = opened(http, path, fps=10)
    assert (session["status"], session["num_frames"], session["fps"]) == ("ready", 11, 10)
    assert numbers(http, session) == list(range(11))


def test_several_parts_are_a_clip_in_natural_order(http: httpx.Client) -> None:
    parts = [("file", (f"shots/p{index}.jpg", jpeg(index))) for index in reversed(range(11))]
    answer = http.post("/initialize", files=parts, data={"fps": "12.5", "frame_stride": "2"})
    assert answer.status_code == 201, answer.text
    session = finished(http, answer.json())
    assert numbers(http, session) == [0, 2, 4, 6, 8, 10]
    assert session["fps"] == 12.5


@pytest.mark.parametrize("suffix", ["bmp", "tiff", "webp"])
def test_parts_of_other_kinds(http: httpx.Client, suffix: str) -> None:
    parts = [("file", (f"{index}", cv2.imencode(f".{suffix}", clips.picture(index))[1].tobytes())) for index in range(3)]
    answer = http.post("/initialize", files=parts)
    assert answer.status_code == 201, answer.text
    assert numbers(http, finished(http, answer.json())) == [0, 1, 2]


def test_an_upload_that_broke_off_says_what_is_missing(http: httpx.Client, tmp_path: Path) -> None:
    whole = clips.write_avi(tmp_path / "whole.avi", clips.jpeg_frames(24))
    with clips.cut_off(whole, tmp_path / "cut.avi", 0.6).open("rb") as file:
        session = finished(http, http.post("/initialize", files={"file": ("clip.avi", file)}).json())
    assert 5 < session["num_frames"] < 24
    assert session["missing_frames"] == 24 - session["num_frames"]
    assert opened(http, "plain.mp4")["missing_frames"] == 0


def test_an_uploaded_archive(http: httpx.Client, videos: Path) -> None:
    answer = http.post("/initialize", files={"file": ("frames.zip", (videos / "frames.zip").read_bytes())})
    assert answer.status_code == 201, answer.text
    session = finished(http, answer.json())
    assert (session["num_frames"], session["fps"]) == (11, 24)


@pytest.mark.parametrize(("body", "status", "field"), [
    ({"video_path": "plain.mp4", "fps": 25}, 422, "fps"),
    ({"video_path": "frames", "fps": 0}, 422, "fps"),
    ({"video_path": "frames", "fps": 1e6}, 422, "fps"),
    ({"video_path": "empty"}, 404, "video_path"),
    ({"video_path": "none"}, 404, "video_path"),
])
def test_what_cannot_be_opened_names_its_field(http: httpx.Client, body: dict[str, Any], status: int, field: str) -> None:
    answer = http.post("/initialize", json=body)
    assert answer.status_code == status, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_an_upload_names_the_form_field(http: httpx.Client) -> None:
    for content in (b"no video", b"PK\x03\x04 no archive"):
        answer = http.post("/initialize", files={"file": ("a.mp4", content)})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (415, "file")
    parts = [("file", ("0.jpg", jpeg(0))), ("file", ("1.jpg", jpeg(1, (80, 60))))]
    answer = http.post("/initialize", files=parts)
    assert (answer.status_code, answer.json()["code"], answer.json()["errors"][0]["field"]) == (422, "sizes_differ", "file")
    assert "1.jpg has 80 x 60 pixels" in answer.json()["detail"]


@pytest.mark.parametrize(("name", "times_s"), [
    ("slow.mp4", [1800.0 * index for index in range(6)]),
    ("varying.mp4", [0, 0.04, 0.08, 0.16, 1.76, 1.8]),
])
@pytest.mark.parametrize("form", ["webm", "cutout"])
def test_exported_videos_keep_the_times(http: httpx.Client, tmp_path: Path, name: str, times_s: list[float], form: str) -> None:
    session = opened(http, name)
    session_id = session["session_id"]
    assert session["fps"] == pytest.approx(5 / times_s[-1], rel=1e-4)
    assert http.post("/add-object", json={"session_id": session_id, "points": [[80, 60]]}).status_code == 200
    tracked = http.post("/propagate", json={"session_id": session_id, "mask_format": "none"}).json()
    assert [frame["timestamp_s"] for frame in tracked["frames"]] == pytest.approx(times_s, abs=1e-4)
    assert http.get(f"/sessions/{session_id}/timestamps").json()["timestamps_s"] == pytest.approx(times_s, abs=1e-4)
    answer = http.get(f"/sessions/{session_id}/export", params={"format": form})
    assert answer.status_code == 200, answer.text
    (tmp_path / "export.webm").write_bytes(answer.content)
    clip = decoded(tmp_path / "export.webm")
    assert clip.times_s == pytest.approx(times_s, abs=0.001)
    assert clip.process.fps == pytest.approx(5 / times_s[-1], rel=0.01)


def test_the_original_size_of_pictures(http: httpx.Client) -> None:
    session_id = opened(http, "frames", start_frame=2, frame_stride=3)["session_id"]
    http.post("/add-object", json={"session_id": session_id, "points": [[80, 60]]})
    answer = http.get(f"/sessions/{session_id}/export", params={"format": "cutout-png", "size": "original"})
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["00000.png", "00001.png", "00002.png"]
