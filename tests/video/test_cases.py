"""The clips of ../shared/cases, where that folder is present, against the values that another decoder gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam_service.errors import NotAVideo
from sam_service.video.manifest import MIN_SIDE, FrameOptions, Manifest

from tests.video.conftest import decoded, quarters

FOLDER = Path(__file__).parents[3] / "shared" / "cases"
if not FOLDER.is_dir():
    FOLDER = Path(__file__).parents[4] / "shared" / "cases"
CASES: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text()) if FOLDER.is_dir() else {}

pytestmark = pytest.mark.skipif(not CASES, reason="../shared/cases is not here; test_kinds.py makes clips of the same kinds")


@pytest.mark.parametrize("name", [name for name, expected in CASES.items() if expected["video"]])
def test_a_clip_that_went_wrong(name: str) -> None:
    expected = CASES[name]
    clip = decoded(FOLDER / name)
    shape = (clip.info.width, clip.info.height)
    assert shape == (round(expected["width"] * clip.info.pixel_aspect), expected["height"])
    assert all(picture.shape[1::-1] == shape for picture in clip.pictures)
    assert len(clip.pictures) == expected["frames"]
    assert clip.process.fps is not None
    times = expected["times"]
    if times is not None and times == sorted(times):
        assert clip.times_s == pytest.approx(times, abs=0.5 / clip.process.fps)
    if min(shape) < MIN_SIDE:
        with pytest.raises(NotAVideo):
            Manifest.of(clip.info, FrameOptions())
        return
    last = len(clip.pictures) - 1
    for index, colours in zip((0, len(clip.pictures) // 2, last), expected["quarters"], strict=True):
        assert np.abs(quarters(clip.pictures[index]) - colours).max() < 14


@pytest.mark.parametrize("name", [name for name, expected in CASES.items() if not expected["video"]])
def test_a_file_that_is_no_video(name: str) -> None:
    with pytest.raises(NotAVideo):
        decoded(FOLDER / name)


@pytest.mark.parametrize(("name", "lowest", "highest"), [
    ("rec_vp8.webm", 17, 22), ("rec_h264.mkv", 17, 22), ("rec_av1.webm", 17, 22), ("vfr_src.mkv", 3.8, 4.1)])
def test_a_rate_is_measured(name: str, lowest: float, highest: float) -> None:
    clip = decoded(FOLDER / name)
    assert clip.process.fps is not None
    assert lowest <= clip.process.fps <= highest
    assert lowest <= clip.info.fps <= highest


def test_the_archive_of_frames() -> None:
    clip = decoded(FOLDER / "frames.zip")
    assert len(clip.pictures) == 5
    assert clip.times_s == pytest.approx([at / 24 for at in range(5)])
