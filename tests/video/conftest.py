"""Clips of every kind, made once, and what a decoding process makes of a clip."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sam_service.video.job import Job
from sam_service.video.limits import VideoInfo, VideoLimits
from sam_service.video.process import DecodingProcess

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the clips of `made.py`."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, "-m", "tests.video.made", folder], cwd=ROOT, check=True, timeout=120, capture_output=True)
    return folder


@dataclass(frozen=True)
class Decoded:
    """All frames of a clip. pictures: uint8 (H, W, 3) RGB each; times_s: in seconds; process: which is closed."""

    info: VideoInfo
    pictures: list[npt.NDArray[np.uint8]]
    times_s: list[float]
    process: DecodingProcess


def decoded(path: Path, *, fps: float | None = None, limits: VideoLimits | None = None) -> Decoded:
    """Decode a clip as the service does. Raises ServiceError."""
    with DecodingProcess(path.resolve(), limits or VideoLimits(), fps=fps) as process:
        info = process.open()
        frames = list(process.frames(Job(0, 1, None, info.width, info.height, 95)))
    pictures = [np.asarray(Image.open(io.BytesIO(frame.data)), np.uint8) for frame in frames]
    return Decoded(info, pictures, [frame.timestamp_s for frame in frames], process)


def quarters(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The mean colours of a picture's quarters, (4, 3): upper left, upper right, lower left, lower right."""
    height, width = picture.shape[:2]
    return np.array([picture[y, x].mean((0, 1)) for y in (slice(height // 2), slice(height // 2, None))
                     for x in (slice(width // 2), slice(width // 2, None))])
