"""The store of frames: what is written comes back, what is damaged is told, and a killed process loses nothing."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from sam_service.errors import CapacityError, FrameUnreadable, InvalidInput, NotFound, NotReady, ServiceError
from sam_service.video.containers import Container
from sam_service.video.frames import FrameStore
from sam_service.video.limits import VideoInfo
from sam_service.video.manifest import FrameOptions

from tests import clips

INFO = VideoInfo(160, 120, 25.0, 10, 0.4, Container.MP4)


def jpeg(index: int) -> bytes:
    return cv2.imencode(".jpg", clips.picture(index), (cv2.IMWRITE_JPEG_QUALITY, 85))[1].tobytes()


def filled(folder: Path, frames: int, options: FrameOptions | None = None) -> FrameStore:
    store = FrameStore.create(folder, INFO, options or FrameOptions())
    for index in range(frames):
        store.append(jpeg(index), index / 25, source_index=index)
    return store


def test_frames_come_back_as_rgb(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    frame = store.read(2)
    assert frame.shape == (120, 160, 3)
    assert frame.dtype == np.uint8
    assert np.abs(frame[..., ::-1].astype(int) - clips.picture(2)).mean() < 4
    assert clips.number_in(frame) == 2
    assert store.jpeg(2).startswith(b"\xff\xd8")
    assert store.timestamps_s() == [0, 0.04, 0.08]
    assert store.timestamp_s(1) == 0.04


def test_num_frames_is_an_estimate_until_complete(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    assert (store.num_frames, store.frames_ready, store.complete) == (10, 3, False)
    store.finish(truncated=False, missing_frames=2)
    assert (store.num_frames, store.complete, store.manifest.missing_frames) == (3, True, 2)


def test_a_frame_beyond_the_end(tmp_path: Path) -> None:
    store = filled(tmp_path, 3, FrameOptions(max_frames=5))
    with pytest.raises(NotReady):
        store.jpeg(4)
    for index in (5, -1):
        with pytest.raises(NotFound) as caught:
            store.read(index)
        assert caught.value.field == "frame_idx"
    store.finish(truncated=False, missing_frames=0)
    with pytest.raises(NotFound, match="3 frames"):
        store.wait_for(4, 0)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_frame_is_told(tmp_path: Path, damage: str) -> None:
    store = filled(tmp_path, 2)
    path = tmp_path / "000001.jpg"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flipped" else data[:-100])
    with pytest.raises(FrameUnreadable):
        store.read(1)
    assert clips.number_in(store.read(0)) == 0


def test_reopening_a_complete_store(tmp_path: Path) -> None:
    filled(tmp_path, 4, FrameOptions(jpeg_quality=70)).finish(truncated=True, missing_frames=0)
    store = FrameStore.open(tmp_path)
    assert (store.frames_ready, store.complete, store.needs_extraction) == (4, True, False)
    assert store.manifest.truncated
    assert store.manifest.options.jpeg_quality == 70
    assert clips.number_in(store.read(3)) == 3
    document = json.loads((tmp_path / "frames.json").read_text())
    assert (document["version"], document["count"], document["scale_factor"]) == (1, 4, 1.0)


def test_reopening_after_a_kill_keeps_whole_frames_only(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    (tmp_path / "000003.jpg").write_bytes(b"")  # lost with the power
    with (tmp_path / "frames.idx").open("ab") as file:
        file.write(b"half a record")
    store = FrameStore.open(tmp_path)
    assert (store.frames_ready, store.needs_extraction) == (3, True)
    store.append(jpeg(3), 0.12, source_index=3)
    assert FrameStore.open(tmp_path).frames_ready == 4


def test_what_a_power_cut_left_empty_is_extracted_again(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    path = tmp_path / "000002.jpg"
    path.write_bytes(bytes(path.stat().st_size))
    assert FrameStore.open(tmp_path).frames_ready == 2


def test_a_complete_store_that_lost_a_frame_is_extracted_again(tmp_path: Path) -> None:
    filled(tmp_path, 4).finish(truncated=False, missing_frames=0)
    (tmp_path / "000002.jpg").unlink()
    store = FrameStore.open(tmp_path)
    assert (store.frames_ready, store.complete, store.needs_extraction) == (2, False, True)


def test_creating_over_old_frames_starts_empty(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    FrameStore.create(tmp_path, INFO, FrameOptions(frame_stride=2))
    assert FrameStore.open(tmp_path).frames_ready == 0


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 99}', '{"version": 1, "scale_factor": 1}'])
def test_damaged_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "frames.json").write_text(content)
    with pytest.raises(FrameUnreadable):
        FrameStore.open(tmp_path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        FrameStore.open(tmp_path)


def test_waiting_for_a_frame(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    store.wait_for(0, 0)
    with pytest.raises(NotReady):
        store.wait_for(1, 0.01)
    writer = threading.Timer(0.05, lambda: store.append(jpeg(1), 0.04, source_index=1))
    writer.start()
    store.wait_for(1, 10)
    assert clips.number_in(store.read(1)) == 1
    writer.join()


def test_whoever_waits_is_told_of_the_end(tmp_path: Path) -> None:
    endings = {
        "finish": lambda store: store.finish(truncated=False, missing_frames=0),
        "fail": lambda store: store.fail(CapacityError("full")),
        "stop": lambda store: store.stop(),
    }
    expected: dict[str, type[ServiceError]] = {"finish": NotFound, "fail": CapacityError, "stop": NotReady}
    for name, end in endings.items():
        store = filled(tmp_path / name, 1)
        timer = threading.Timer(0.05, end, [store])
        timer.start()
        began = time.monotonic()
        with pytest.raises(expected[name]):
            store.wait_for(1, 10)
        assert time.monotonic() - began < 5
        timer.join()


def test_the_fault_of_the_video_outlives_the_process_and_a_full_disk_does_not(tmp_path: Path) -> None:
    filled(tmp_path / "a", 0).fail(InvalidInput("start_frame is 9", field="start_frame"))
    store = FrameStore.open(tmp_path / "a")
    assert not store.needs_extraction
    with pytest.raises(InvalidInput) as caught:
        store.wait_for(0)
    assert (caught.value.field, caught.value.message) == ("start_frame", "start_frame is 9")

    filled(tmp_path / "b", 1).fail(CapacityError("full"))
    assert FrameStore.open(tmp_path / "b").needs_extraction


def test_many_readers_and_one_writer(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, INFO, FrameOptions())
    seen: list[list[int]] = []

    def reader() -> None:
        numbers = []
        for index in range(20):
            store.wait_for(index, 20)
            numbers.append(clips.number_in(store.read(index)))
        seen.append(numbers)

    threads = [threading.Thread(target=reader) for _ in range(6)]
    for thread in threads:
        thread.start()
    for index in range(20):
        store.append(jpeg(index), index / 25, source_index=index)
    for thread in threads:
        thread.join(20)
    assert seen == [list(range(20))] * 6


@pytest.mark.parametrize(
    ("field", "value"),
    [("start_frame", -1), ("frame_stride", 0), ("max_frames", 0), ("max_dimension", 0), ("jpeg_quality", 101)],
)
def test_wrong_options_name_their_field(field: str, value: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        FrameOptions(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("source", "stored"),
    [((1920, 1080), (1920, 1080)), ((3840, 2160), (1920, 1080)), ((1081, 3841), (540, 1920)), ((9000, 1), (1920, 1))],
)
def test_stored_size(source: tuple[int, int], stored: tuple[int, int]) -> None:
    assert FrameOptions().stored_size(*source) == stored
