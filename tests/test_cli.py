"""The command line, run as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sam_service", *map(str, arguments)], cwd=cwd, env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=120, check=False)


def test_segment_writes_masks_and_an_overlay(tmp_path: Path, clip: Path) -> None:
    done = command("segment", clip, "--point", "150,200", "--max-frames", "12", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 12
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.webm"))
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 640
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 12
    assert "frames/s" in done.stderr


def test_demo_chooses_a_point_that_moves(tmp_path: Path, clip: Path) -> None:
    done = command("demo", "--video", clip, "--max-frames", "10", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chosen where something moves" in done.stderr
    assert (tmp_path / "out" / "overlay.webm").stat().st_size > 1000


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["segment", "missing.mp4", "--point", "1,2", "--out", "out"], 2, "no file"),
    (["segment", "missing.mp4", "--out", "out"], 2, "--point"),
    (["segment", "missing.mp4", "--point", "1;2", "--out", "out"], 2, "2 numbers"),
    (["segment", "text.mp4", "--point", "1,2", "--out", "out"], 1, "not_a_video"),
    (["serve", "--port", "99999"], 2, "PORT"),
])
def test_wrong_input_is_told_with_an_exit_code(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_at_once_without_a_trace(tmp_path: Path, clip: Path) -> None:
    arguments = [sys.executable, "-m", "sam_service", "demo", "--video", str(clip), "--out", str(tmp_path / "out")]
    with subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = ""
        while "mask " not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "Traceback" not in rest
