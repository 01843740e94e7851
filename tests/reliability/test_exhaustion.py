"""A disk that is full and memory that is used up: the client is told, that request ends, everything else goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.clips import write_video
from tests.reliability.ledger import Counts, masks_of, read_masks
from tests.reliability.servers import Server, server

FRAMES = 12
DISK_MIB = 20
CLICK = [30, 60]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a running process are set the Linux way")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; making one takes privileges."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], check=False,
                          capture_output=True)
    if made.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, leave_bytes: int = 0) -> Iterator[None]:
    """A disk with only `leave_bytes` left."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave_bytes))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        filler.unlink()


def refused(answer: httpx.Response, *codes: str) -> None:
    """The answer says that there is no room, and when to come back."""
    document = answer.json()
    assert answer.status_code == 503 and document["code"] in codes, document
    assert int(answer.headers["retry-after"]) > 0
    assert "/" not in document["detail"]


def open_session(http: httpx.Client) -> str:
    opened: str = http.post("/initialize", json={"video_path": "clip.mp4"}).json()["session_id"]
    http.get(f"/sessions/{opened}/frames/{FRAMES - 1}").raise_for_status()
    return opened


def body(session_id: str, **more: Any) -> dict[str, Any]:
    return {"session_id": session_id, "mask_format": "rle", **more}


def propagated(http: httpx.Client, session_id: str) -> Counts:
    answer = http.post("/propagate", json=body(session_id))
    assert answer.status_code == 200, answer.text
    masks: Counts = {}
    for frame in answer.json()["frames"]:
        masks |= masks_of(frame)
    return masks


def upload(http: httpx.Client, clip: Path) -> httpx.Response:
    return http.post("/initialize", files={"file": ("a.mp4", clip.read_bytes())})


def check_full(http: httpx.Client, service: Server, clip: Path, session_id: str, before: dict[str, Any]) -> None:
    """What cannot be stored is refused, what is stored can be read, and nothing has changed."""
    for _ in range(3):
        refused(http.post("/add-object", json=body(session_id, points=[[100, 30]])), "disk_full")
        refused(http.post("/refine", json=body(session_id, object_id=1, points=[[40, 60]])), "disk_full")
        refused(upload(http, clip), "disk_full")
        answer = http.post("/propagate", json=body(session_id))
        refused(answer, "disk_full")
    time.sleep(1.1)  # reading counts as a use, which is noted every second
    assert http.get(f"/sessions/{session_id}/frames/3").status_code == 200
    assert read_masks(http, session_id, [0])
    now = http.get(f"/sessions/{session_id}").json()
    assert {name: now[name] for name in ("objects", "prompts")} == {name: before[name] for name in ("objects", "prompts")}
    assert service.alive and http.get("/health").json()["ready"]


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", FRAMES)
    (small_disk / "tmp").mkdir()
    options = {"SAM2_VIDEO_DIR": str(tmp_path), "MIN_FREE_DISK_MB": "0", "TMPDIR": str(small_disk / "tmp")}
    with server(small_disk / "data", **options) as service, httpx.Client(base_url=service.url, timeout=60) as http:
        untouched = open_session(http)
        http.post("/add-object", json=body(untouched, points=[CLICK])).raise_for_status()
        expected = propagated(http, untouched)
        session_id = open_session(http)
        http.post("/add-object", json=body(session_id, points=[CLICK])).raise_for_status()
        before = http.get(f"/sessions/{session_id}").json()
        with filled(small_disk):
            check_full(http, service, clip, session_id, before)
        assert propagated(http, session_id) == expected
        assert upload(http, clip).status_code == 201
        with filled(small_disk):
            service.kill()
            service.start()  # a disk that is full is no reason not to start
            with httpx.Client(base_url=service.url, timeout=60) as again:
                assert read_masks(again, session_id, list(range(FRAMES))) == expected


def test_a_disk_that_is_nearly_full(tmp_path: Path, small_disk: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", FRAMES)
    options = {"SAM2_VIDEO_DIR": str(tmp_path), "MIN_FREE_DISK_MB": "8"}
    with server(small_disk / "data", **options) as service, httpx.Client(base_url=service.url, timeout=60) as http:
        session_id = open_session(http)
        http.post("/add-object", json=body(session_id, points=[CLICK])).raise_for_status()
        with filled(small_disk, leave_bytes=6 << 20):
            refused(upload(http, clip), "disk_full")
            refused(http.post("/propagate", json=body(session_id)), "disk_full")
        assert len(propagated(http, session_id)) == FRAMES


def test_memory_that_cannot_be_had(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", FRAMES, 640, 360)
    with server(tmp_path / "data", SAM2_VIDEO_DIR=str(tmp_path)) as service, \
            httpx.Client(base_url=service.url, timeout=60) as http:
        small = open_session(http)
        http.post("/add-object", json=body(small, points=[CLICK])).raise_for_status()
        expected = propagated(http, small)
        large = http.post("/initialize", json={"video_path": "clip.mp4", "image_size": 1024}).json()["session_id"]
        told = set()
        for frame, headroom_mib in enumerate((4, 16, 32, 64, 96, 128, 192, 256)):
            limit = psutil.Process(service.pid).memory_info().vms + (headroom_mib << 20)
            resource.prlimit(service.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            answer = http.post("/add-object", json=body(large, points=[CLICK], frame_idx=frame))
            told.add(answer.status_code)
            if answer.status_code != 200:
                refused(answer, "memory_full")
            assert read_masks(http, small, [1])
        resource.prlimit(service.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert 503 in told
        assert propagated(http, small) == expected
        assert http.post("/add-object", json=body(large, points=[CLICK], frame_idx=11)).status_code == 200
        assert http.get("/health").json()["worker"]["alive"]
        assert "Traceback" not in service.told(), service.told()
