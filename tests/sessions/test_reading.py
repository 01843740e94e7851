"""The device's thread reads no file and decodes no picture: what a step needs is read before it is queued."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sam_service.client import SamClient
from sam_service.core import feature_files
from sam_service.core.memory import spill
from sam_service.local import local_service
from sam_service.video.frames import FrameStore

from tests.clips import write_video
from tests.support import settings

FRAMES, CLICK = 28, [[30, 60]]


def test_the_devices_thread_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_video(tmp_path / "clip.mp4", FRAMES)
    reads: Counter[tuple[str, bool]] = Counter()

    def watch(place: object, name: str) -> None:
        real: Callable[..., Any] = getattr(place, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            reads[name, threading.current_thread().name == "device"] += 1
            return real(*arguments, **options)
        monkeypatch.setattr(place, name, watched)

    options = settings(sam2_video_dir=tmp_path, sam2_image_size=128, feature_cache_mb=0, feature_disk_mb=64,
                       torch_num_threads=1)
    with local_service(options, data_dir=tmp_path / "data") as url, SamClient(url) as client:
        client.wait_ready()
        watch(spill, "safe_open")
        watch(feature_files, "load_file")
        watch(FrameStore, "read")
        video = client.open_video(clip)
        video.add_object(points=CLICK)
        assert len(list(video.propagate())) == FRAMES
        video.refine(1, points=[[33, 60]], frame_idx=3)
        assert len(list(video.propagate(start_frame=20, direction="backward"))) == 21
    with local_service(options, data_dir=tmp_path / "data") as url, SamClient(url) as client:
        client.wait_ready()
        which = {"session_id": video.session_id}
        client.call("POST", "/refine", json=which | {"object_id": 1, "points": [[36, 60]], "frame_idx": 9})
        client.call("POST", "/propagate", json=which | {"start_frame": 15, "direction": "backward"})
    assert {name for name, _ in reads} == {"safe_open", "load_file", "read"}
    assert not [name for name, on_device in reads if on_device], reads
