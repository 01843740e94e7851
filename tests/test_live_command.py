"""`sam-service live`: a file and a camera are pushed frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from sam_service.cli import main
from sam_service.client import SamClient
from sam_service.commands import live
from sam_service.demo_clip import CLICK


def live_command(service: str, source: str | Path, out: Path, *more: str) -> int:
    x, y = CLICK
    return main(["live", str(source), "--url", service, "--out", str(out), "--image-size", "128", "--point", f"{x},{y}", *more])


def test_a_file_is_pushed_and_its_masks_are_written(service: str, client: SamClient, clip: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert live_command(service, clip, tmp_path, "--max-frames", "5", "--box", "2:400,100,560,300@2") == 0
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["00000_1.png", "00001_1.png", "00002_1.png", "00002_2.png", "00003_1.png", "00003_2.png", "00004_1.png",
                     "00004_2.png"]
    capture = cv2.VideoCapture(str(tmp_path / "overlay.webm"))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 5
    said = capsys.readouterr().err
    assert "640 x 360" in said and "5 frames pushed" in said
    assert not [item for item in client.sessions() if item["status"] == "live"]


def test_a_camera_gives_its_newest_picture_and_says_what_was_passed_over(
        service: str, client: SamClient, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """There is no camera here: a file, read as fast as it comes, is in its place. It is over long before it is tracked."""
    monkeypatch.setattr(live, "opened", live.Camera)
    assert live_command(service, clip, tmp_path, "--no-overlay") == 0
    count = len(list((tmp_path / "masks").iterdir()))
    assert 1 <= count < 72
    assert "passed over" in capsys.readouterr().err
    assert not (tmp_path / "overlay.webm").exists()


@pytest.mark.parametrize("source", ["nothing.mp4", "99"])
def test_a_source_that_cannot_be_opened_is_named(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                 source: str) -> None:
    assert live_command(service, source, tmp_path) == 3
    assert f"{source} cannot be opened" in capsys.readouterr().err
