"""The benchmarks' measures, the folders they read, and both of them once over REST."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from sam_service.client import SamClient
from sam_service.settings import Settings

from benchmarks import clicks, davis
from benchmarks.labelled import clips_of, read_labels
from benchmarks.metrics import boundary, corrective_click, inner_point, outline, region


def square(x: int, y: int, side: int = 20) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((100, 160), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_region_and_boundary_of_squares() -> None:
    assert region(square(10, 10), square(10, 10)) == boundary(square(10, 10), square(10, 10)) == 1
    assert region(square(10, 10), square(20, 10)) == pytest.approx(1 / 3)
    assert region(square(10, 10), square(20, 10), square(10, 10)) == pytest.approx(0.5)
    # The diagonal is 189 pixels: outlines that lie 2 pixels off count in full, and those 3 off do not.
    assert boundary(square(10, 10), square(12, 10)) == 1
    assert 0.4 < boundary(square(10, 10), square(13, 10)) < 0.8
    assert boundary(square(10, 10), square(60, 60)) == 0


def test_empty_masks() -> None:
    empty = np.zeros((100, 160), bool)
    assert region(empty, empty) == boundary(empty, empty) == 1
    assert region(empty, square(5, 5)) == boundary(empty, square(5, 5)) == boundary(square(5, 5), empty) == 0


def test_an_outline_is_one_pixel_wide() -> None:
    assert outline(square(10, 10)).sum() == 4 * 20
    assert not outline(np.ones((8, 8), bool)).any()


def test_clicks_go_where_the_error_is_deepest() -> None:
    truth, usable = square(10, 10), np.ones((100, 160), bool)
    x, y = inner_point(truth)
    assert truth[int(y), int(x)] and abs(x - 20) < 2 and abs(y - 20) < 2
    x, y, label = corrective_click(truth & ~square(10, 10, 12), truth, usable) or (0, 0, -1)
    assert label == 1 and square(10, 10, 12)[int(y), int(x)]
    x, y, label = corrective_click(truth | square(100, 50), truth, usable) or (0, 0, -1)
    assert label == 0 and square(100, 50)[int(y), int(x)]
    assert corrective_click(truth, truth, usable) is None
    assert corrective_click(truth | square(100, 50), truth, ~square(100, 50)) is None


def write(folder: Path, labels_folder: Path, count: int, value: int) -> None:
    """A bright disc that moves over a dark ground, with its masks."""
    for path in (folder, labels_folder):
        path.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, labels = np.full((96, 160, 3), 40, np.uint8), np.zeros((96, 160), np.uint8)
        cv2.circle(image, (50 + 6 * index, 48), 22, (60, 190, 240), -1, cv2.LINE_AA)
        cv2.circle(labels, (50 + 6 * index, 48), 22, value, -1)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), image)
        cv2.imwrite(str(labels_folder / f"{index:05d}.png"), labels)


def test_folders_are_read_as_davis_has_them_and_with_labels_beside(tmp_path: Path) -> None:
    write(tmp_path / "a/JPEGImages/480p/disc", tmp_path / "a/Annotations/480p/disc", 3, 255)
    write(tmp_path / "b/disc", tmp_path / "b/disc", 3, 1)
    for root in ("a", "b"):
        [clip] = clips_of(tmp_path / root)
        assert clip.name == "disc" and len(clip.pictures) == 3
        assert np.unique(read_labels(clip.labels[0])).tolist() == [0, 1]
    with pytest.raises(SystemExit, match="no sequences named dog"):
        clips_of(tmp_path / "b", ["dog"])
    (tmp_path / "b/disc/00002.png").unlink()
    with pytest.raises(SystemExit, match=r"00002\.png is missing"):
        clips_of(tmp_path / "b")


def test_modes_change_the_settings_for_a_while_and_become_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM2_IMAGE_SIZE", "320")
    with davis.changed(davis.MODES["size-256"] | davis.MODES["every-2"]):
        assert (os.environ["SAM2_IMAGE_SIZE"], os.environ["SAM2_TRACK_EVERY"]) == ("256", "2")
    assert os.environ["SAM2_IMAGE_SIZE"] == "320" and "SAM2_TRACK_EVERY" not in os.environ
    assert all(name.lower() in Settings.model_fields for change in davis.MODES.values() for name in change)
    reports = {mode: {"mask": {"mean": {"J&F": quality, "fps": fps}}, "box": {"mean": {"J&F": quality / 2, "fps": fps + 2}}}
               for mode, quality, fps in (("plain", 0.8, 9.0), ("every-2", 0.7, 11.0))}
    assert davis.table(reports, ["mask", "box"]).splitlines() == [
        "| mode | J&F, mask | J&F, box | frames a second |", "| --- | --- | --- | --- |",
        "| plain | 0.800 | 0.400 | 10.0 |", "| every-2 | 0.700 | 0.350 | 12.0 |"]


def test_both_benchmarks_over_rest(client: SamClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "disc", tmp_path / "disc", 5, 1)
    report = davis.measure(client, clips_of(tmp_path), davis.KINDS, 1)
    assert json.loads(json.dumps(report))["mask"]["sequences"]["disc"]["J"] > 0.8
    assert report["click"]["mean"]["first"] > 0.8 and report["box"]["mean"]["J&F"] > 0.7
    found = clicks.measure(client, clicks.pictures_of(tmp_path, dev=False)[:1])
    assert found["pictures"] == 1 and found["mean"]["IoU after 1"] > 0.8 and found["mean"]["clicks to 85%"] <= 3
    assert "disc" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no pictures"):
        clicks.pictures_of(tmp_path / "disc" / "none", dev=False)
