"""WebM and MP4 videos, written by a process of their own: the FFmpeg that encodes them does not go together with OpenCV's."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import subprocess
import sys
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sam_service.video.launch import environment

PICTURE_HEAD = Struct("<dd")
_END_TIMEOUT_S = 60.0


class WebmWriter:
    """Writes a WebM in which each picture has its own time: VP8, or VP9 with an alpha channel. Odd sizes are cut by a pixel.

    fps is the mean that the file says of itself. As a context manager it finishes the file at the end. Everything raises
    OSError where the file cannot be written; its `errno` says why.
    """

    suffix = ".webm"

    def __init__(self, path: Path, width: int, height: int, fps: float, *, alpha: bool = False) -> None:
        self._channels = 4 if alpha else 3
        self._size = (height, width)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sam_service.video.writer_child"], env=environment(), cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._closed = False
        try:
            options = {"path": str(path.absolute()), "width": width, "height": height, "fps": fps, "alpha": alpha,
                       "suffix": self.suffix}
            self._send(json.dumps(options).encode() + b"\n")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.kill()
        else:
            self._finish()

    def add(self, image: NDArray[np.uint8], at_s: float, shown_s: float) -> None:
        """Append a picture, uint8 (H, W, 3) RGB, or (H, W, 4) BGRA with alpha, shown for `shown_s` seconds from `at_s` on."""
        if image.shape != (*self._size, self._channels):
            raise ValueError(f"a picture of shape {image.shape} in a video of {self._size}")
        self._send(PICTURE_HEAD.pack(at_s, shown_s))
        self._send(np.ascontiguousarray(image).data)

    def kill(self) -> None:
        """End the process now; the file is not finished. May be called twice."""
        self._closed = True
        self._process.kill()
        self._free()

    def _send(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            raise self._why() from None

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            if self._process.wait(_END_TIMEOUT_S):
                raise self._why()
        except subprocess.TimeoutExpired:
            raise OSError(errno.EIO, "the encoder does not end") from None
        finally:
            self._process.kill()
            self._free()

    def _why(self) -> OSError:
        """What the process says that went wrong."""
        assert self._process.stdout is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        self._process.kill()
        said = self._process.stdout.read()
        try:
            document = json.loads(said)
            return OSError(int(document["errno"]), str(document["message"]))
        except (ValueError, KeyError, TypeError):
            return OSError(errno.EIO, "the encoder broke off")

    def _free(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Mp4Writer(WebmWriter):
    """Writes an MP4 in H.264, as `WebmWriter` does a WebM; it has no alpha."""

    suffix = ".mp4"


@functools.cache
def has_h264() -> bool:
    """Whether the encoding process has an H.264 encoder. Blocks for a moment, once."""
    try:
        asked = subprocess.run([sys.executable, "-P", "-m", "sam_service.video.writer_child", "--encoders"], env=environment(),
                               cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=_END_TIMEOUT_S, check=True)
        return "libx264" in json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return False


def shown_for(times_s: list[float], fps: float) -> list[float]:
    """How long each picture is shown, in seconds: until the next; the last as long as the one before it, or as `fps` says."""
    steps = [later - earlier for earlier, later in zip(times_s, times_s[1:], strict=False)]
    return [*steps, steps[-1] if steps else 1 / fps]

