"""Too little processor: one core for four threads, and a neighbour that uses it too. Slower, and the same masks to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from tests.clips import write_video
from tests.reliability.ledger import Counts, masks_of
from tests.reliability.servers import server

FRAMES = 8
THREADS = {"TORCH_NUM_THREADS": "4", "OMP_NUM_THREADS": "4", "SAM2_IMAGE_SIZE": "256"}


@contextmanager
def one_busy_core(pid: int) -> Iterator[None]:
    """Leave a process, with all of its threads, one core, and let another process run on that without a pause."""
    core = min(os.sched_getaffinity(0))
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})
    busy = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def tracked(url: str) -> Counts:
    """The masks of a click, a correction and a propagation."""
    with httpx.Client(base_url=url, timeout=300) as http:
        session = http.post("/initialize", json={"video_path": "clip.mp4"}).raise_for_status().json()["session_id"]
        body = {"session_id": session, "mask_format": "rle"}
        http.post("/add-object", json=body | {"points": [[30, 60]]}).raise_for_status()
        http.post("/refine", json=body | {"object_id": 1, "points": [[38, 60]]}).raise_for_status()
        masks: Counts = {}
        for frame in http.post("/propagate", json=body).raise_for_status().json()["frames"]:
            masks |= masks_of(frame)
        return masks


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be taken away on Linux only")
def test_a_starved_run_gives_the_same_masks_to_the_bit(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", FRAMES)
    found = []
    for starved in (False, True):
        with (server(tmp_path / f"starved {starved}", SAM2_VIDEO_DIR=str(tmp_path), **THREADS) as service,
              one_busy_core(service.pid) if starved else nullcontext()):
            found.append(tracked(service.url))
    assert len(found[0]) == FRAMES
    assert found[0] == found[1]
