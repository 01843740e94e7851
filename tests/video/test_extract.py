"""From a real file to numbered frames, in the background: which frames, at which times, and what goes wrong."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from sam_service.errors import CapacityError, EngineError, InvalidInput, NotAVideo, NotFound
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.limits import VideoLimits
from sam_service.video.manifest import FrameOptions
from sam_service.video.probe import probe

from tests import clips


def extraction(path: Path, folder: Path, options: FrameOptions | None = None) -> tuple[FrameStore, Extraction]:
    store = FrameStore.create(folder, probe(path, VideoLimits()), options or FrameOptions())
    return store, Extraction(path, store)


def extract(path: Path, folder: Path, options: FrameOptions | None = None) -> FrameStore:
    store, work = extraction(path, folder, options)
    work.start()
    work.join(60)
    return store


def numbers(store: FrameStore) -> list[int]:
    return [clips.number_in(store.read(index)) for index in range(store.frames_ready)]


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "mp4v"), ("clip.avi", "MJPG"), ("clip.webm", "VP90")])
def test_every_frame_in_order(tmp_path: Path, name: str, codec: str) -> None:
    store = extract(clips.write_video(tmp_path / name, codec=codec), tmp_path / "frames")
    assert store.complete
    assert numbers(store) == list(range(12))
    assert store.timestamps_s() == pytest.approx(np.arange(12) / 25, abs=1e-3)
    assert (store.num_frames, store.manifest.missing_frames, store.manifest.truncated) == (12, 0, False)


@pytest.mark.parametrize(
    ("options", "expected", "truncated"),
    [
        (FrameOptions(start_frame=5), range(5, 12), False),
        (FrameOptions(frame_stride=3), range(0, 12, 3), False),
        (FrameOptions(start_frame=1, frame_stride=4, max_frames=2), (1, 5), True),
        (FrameOptions(start_frame=1, frame_stride=4, max_frames=3), (1, 5, 9), False),
        (FrameOptions(max_frames=12), range(12), False),
        (FrameOptions(max_frames=11), range(11), True),
        (FrameOptions(start_frame=11), (11,), False),
    ],
)
def test_start_stride_and_max(tmp_path: Path, options: FrameOptions, expected: range, truncated: bool) -> None:
    path = clips.write_video(tmp_path / "clip.mp4")
    store, work = extraction(path, tmp_path / "frames", options)
    assert store.num_frames == len(expected)
    work.start()
    work.join(60)
    assert numbers(store) == list(expected)
    assert store.timestamps_s() == pytest.approx([number / 25 for number in expected], abs=1e-3)
    assert store.manifest.truncated is truncated


def test_start_beyond_the_end(tmp_path: Path) -> None:
    store = extract(clips.write_video(tmp_path / "clip.mp4"), tmp_path / "frames", FrameOptions(start_frame=12))
    with pytest.raises(InvalidInput, match="12 frames") as caught:
        store.wait_for(0, 10)
    assert caught.value.field == "start_frame"


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_clips_are_stored_upright(tmp_path: Path, degrees: int) -> None:
    turns = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    source = clips.write_video(tmp_path / "clip.mp4", frames=3)
    plain = extract(source, tmp_path / "plain")
    turned = extract(clips.rotated(source, tmp_path / "turned.mp4", degrees), tmp_path / "turned")
    assert turned.read(2).shape == ((120, 160, 3) if degrees == 180 else (160, 120, 3))
    difference = np.abs(cv2.rotate(plain.read(2), turns[degrees]).astype(int) - turned.read(2))
    assert difference.mean() < 6  # stored as JPEG, on another grid; 40 for a wrong turn


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    durations = [1536 if index % 2 else 512 for index in range(12)]
    source = clips.write_video(tmp_path / "clip.mp4")
    store = extract(clips.retimed(source, tmp_path / "vfr.mp4", durations), tmp_path / "frames")
    assert numbers(store) == list(range(12))
    expected = np.concatenate(([0], np.cumsum(durations)[:-1])) / clips.MP4_TICKS
    assert store.timestamps_s() == pytest.approx(expected, abs=1e-3)


def test_times_rise_even_where_the_container_says_nothing(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mpg", codec="MPG1")  # its last picture comes with position 0
    times = extract(path, tmp_path / "frames").timestamps_s()
    assert len(times) == 12
    assert all(0 < later - earlier < 0.1 for earlier, later in pairwise(times))


@pytest.mark.parametrize("damaged", [(5,), (4, 5, 6), tuple(range(3, 103))], ids=["one", "three", "a hundred"])
def test_damaged_frames_are_passed_over_and_counted(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    jpegs = clips.jpeg_frames(110)
    for index in damaged:
        jpegs[index] = b"\x00" * 700
    store = extract(clips.write_avi(tmp_path / "damaged.avi", jpegs), tmp_path / "frames")
    expected = [index for index in range(110) if index not in damaged]
    assert numbers(store) == expected
    assert store.timestamps_s() == pytest.approx([index / 25 for index in expected], abs=1e-3)
    assert store.manifest.missing_frames == len(damaged)


def test_damage_gives_the_same_frames_every_time(tmp_path: Path) -> None:
    source = clips.write_video(tmp_path / "clip.mp4", frames=24)
    path = clips.damaged(source, tmp_path / "damaged.mp4", 0.4, 0.6)
    first, second = (extract(path, tmp_path / name) for name in ("a", "b"))
    assert 2 < first.frames_ready <= 24
    assert first.timestamps_s() == second.timestamps_s()
    assert all(first.jpeg(index) == second.jpeg(index) for index in range(first.frames_ready))
    assert first.manifest.missing_frames == 24 - first.frames_ready


def test_an_upload_that_broke_off_says_how_much_is_missing(tmp_path: Path) -> None:
    path = clips.write_avi(tmp_path / "whole.avi", clips.jpeg_frames(24))
    store = extract(clips.cut_off(path, tmp_path / "cut.avi", 0.6), tmp_path / "frames")
    assert 5 < store.num_frames < 24
    assert store.manifest.missing_frames == 24 - store.num_frames


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.webm", "VP90"), ("clip.ts", "mp4v")])
def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path, name: str, codec: str) -> None:
    source = clips.write_video(tmp_path / name, frames=24, codec=codec)
    store = extract(clips.cut_off(source, tmp_path / f"cut_{name}", 0.6), tmp_path / "frames")
    assert store.complete
    assert 5 < store.num_frames < 24
    assert numbers(store)[:-1] == list(range(store.num_frames - 1))


def test_one_frame_odd_size_and_4k(tmp_path: Path) -> None:
    assert numbers(extract(clips.write_video(tmp_path / "one.mp4", frames=1), tmp_path / "one")) == [0]

    odd = clips.write_avi(tmp_path / "odd.avi", clips.jpeg_frames(2, 161, 121), 161, 121)
    assert extract(odd, tmp_path / "odd").read(1).shape == (121, 161, 3)

    large = clips.write_video(tmp_path / "4k.avi", frames=2, width=3840, height=2160, codec="MJPG")
    store = extract(large, tmp_path / "4k")
    assert store.read(1).shape == (1080, 1920, 3)
    assert (store.manifest.original_width, store.manifest.scale_factor) == (3840, 0.5)
    assert numbers(store) == [0, 1]


@pytest.mark.parametrize("stride", [1, 2])
def test_resuming_gives_the_same_frames(tmp_path: Path, stride: int) -> None:
    path = clips.write_video(tmp_path / "clip.webm", frames=30, codec="VP90")
    options = FrameOptions(start_frame=3, frame_stride=stride)
    whole = extract(path, tmp_path / "whole", options)
    extract(path, tmp_path / "part", options)
    for index in range(6, whole.frames_ready):
        (tmp_path / "part" / f"{index:06d}.jpg").unlink()

    part = FrameStore.open(tmp_path / "part")
    assert part.frames_ready == 6
    work = Extraction(path, part)
    work.start()
    work.join(60)

    assert part.complete
    assert part.timestamps_s() == whole.timestamps_s()
    assert all(part.jpeg(index) == whole.jpeg(index) for index in range(whole.frames_ready))


KILLED_WHILE_EXTRACTING = """
import sys, time
from pathlib import Path
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
Extraction(Path(sys.argv[1]), FrameStore.open(Path(sys.argv[2]))).start()
time.sleep(60)
"""


def test_a_killed_process_leaves_frames_to_go_on_from(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.webm", frames=60, width=640, height=480, codec="VP90")
    whole = extract(path, tmp_path / "whole")
    extraction(path, tmp_path / "killed")
    process = subprocess.Popen([sys.executable, "-c", KILLED_WHILE_EXTRACTING, path, tmp_path / "killed"])
    while not (tmp_path / "killed" / "000005.jpg").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()

    store = FrameStore.open(tmp_path / "killed")
    assert 5 <= store.frames_ready < 60
    work = Extraction(path, store)
    work.start()
    work.join(60)
    assert store.complete
    assert store.timestamps_s() == whole.timestamps_s()
    assert all(store.jpeg(index) == whole.jpeg(index) for index in range(60))


def test_cancelling_and_going_on(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.avi", frames=60, width=640, height=480, codec="MJPG")
    store, work = extraction(path, tmp_path / "frames")
    work.start()
    store.wait_for(0, 10)
    began = time.monotonic()
    work.cancel()
    assert time.monotonic() - began < 2
    assert not work.running
    assert 1 <= store.frames_ready < 60
    assert not store.complete
    work.cancel()

    work.start()
    work.start()
    work.join(60)
    assert numbers(store) == list(range(60))
    work.start()
    assert not work.running


def test_the_first_frame_does_not_wait_for_the_last(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.avi", frames=120, width=640, height=480, codec="MJPG")
    store, work = extraction(path, tmp_path / "frames")
    work.start()
    store.wait_for(0, 10)
    ready = store.frames_ready
    work.cancel()
    assert ready < 60


def test_a_video_that_is_gone_can_come_back(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mp4")
    store, work = extraction(path, tmp_path / "frames")
    path.rename(tmp_path / "away.mp4")
    work.start()
    with pytest.raises(NotFound):
        store.wait_for(0, 10)
    (tmp_path / "away.mp4").rename(path)
    work.join()
    work.start()
    work.join(60)
    assert store.num_frames == 12


def test_a_video_without_a_frame(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mp4")
    store, work = extraction(path, tmp_path / "frames")
    clips.write_avi(path, [b"\x00" * 500] * 5)
    work.start()
    with pytest.raises(NotAVideo) as caught:
        store.wait_for(0, 10)
    assert caught.value.code == "no_frames"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mp4")
    store, work = extraction(path, tmp_path / "frames")
    (tmp_path / "frames" / ".000004.jpg.tmp").mkdir()  # where frame 4 would be written first
    work.start()
    with pytest.raises(EngineError) as caught:
        store.wait_for(4, 10)
    assert caught.value.code == "storage_failed"
    assert str(tmp_path) not in caught.value.message
    assert numbers(store) == [0, 1, 2, 3]

    work.join()
    (tmp_path / "frames" / ".000004.jpg.tmp").rmdir()
    work.start()
    work.join(60)
    assert numbers(store) == list(range(12))


def test_a_full_disk(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mp4")
    store, work = extraction(path, tmp_path / "frames")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may grow past 2000 bytes
    try:
        work.start()
        work.join(60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(CapacityError) as caught:
        store.wait_for(0, 10)
    assert caught.value.code == "disk_full"
    assert errno.errorcode[errno.EFBIG] not in caught.value.message
    assert sorted(file.name for file in (tmp_path / "frames").iterdir()) == ["frames.json"]
    assert store.needs_extraction
