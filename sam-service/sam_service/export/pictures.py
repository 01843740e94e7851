"""The pictures under the masks: the session's own JPEGs, or the source video's pictures in their original size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.errors import ClientError, Conflict, EngineError
from sam_service.video.frames import FrameStore
from sam_service.video.job import Job
from sam_service.video.limits import VideoLimits
from sam_service.video.process import DecodingProcess
from sam_service.video.wire import EncodedFrame

Image = NDArray[np.uint8]
ORIGINAL_JPEG_QUALITY = 95


class Pictures(Protocol):
    """Pictures by frame of the session. Asked for in rising order."""

    def read(self, index: int) -> Image:
        """The frame as RGB, uint8 (H, W, 3)."""

    def jpeg(self, index: int) -> bytes:
        """The frame as JPEG."""


class SessionPictures:
    """The session's frames, byte for byte as the network and the page get them."""

    def __init__(self, frames: FrameStore) -> None:
        self.read, self.jpeg = frames.read, frames.jpeg

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SourcePictures:
    """The pictures of the source video in its own size, decoded from its start: seeking lands on other frames with many files.

    They are decoded in a confined process, like those of the session. source_index: the source's frame for a frame of the
    session. stride: how far apart these are in the source. fps: of a collection of pictures. Raises Conflict where the file is
    gone or another one.
    """

    def __init__(self, source: Path, width: int, height: int, source_index: Callable[[int], int], *, stride: int = 1,
                 fps: float | None = None, limits: VideoLimits | None = None) -> None:
        self._size = (width, height)
        self._source_index = source_index
        self._stride = stride
        self._process = DecodingProcess(source, limits or VideoLimits(), fps=fps)
        self._frames: Iterator[EncodedFrame] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.close()

    def cancel(self) -> None:
        """End the decoding now, from any thread; a call that waits for a picture raises."""
        self._process.kill()

    def read(self, index: int) -> Image:
        """The frame as RGB, uint8 (H, W, 3)."""
        width, height = self._size
        wanted = self._source_index(index)
        if self._frames is None:
            self._frames = self._opened(wanted)
        try:
            frame = next((frame for frame in self._frames if frame.source_index >= wanted), None)
        except ClientError:
            frame = None
        if frame is None or frame.source_index != wanted:
            raise _gone(f"the source video has no frame {index} any more")
        return np.frombuffer(frame.data, np.uint8).reshape(height, width, 3)

    def jpeg(self, index: int) -> bytes:
        """The frame as JPEG, encoded anew."""
        return encode_jpeg(self.read(index))

    def _opened(self, first: int) -> Iterator[EncodedFrame]:
        """The source's pictures from number `first` on."""
        width, height = self._size
        try:
            info = self._process.open()
        except ClientError:
            raise _gone("the source video is no longer there") from None
        if (info.width, info.height) != (width, height):
            raise _gone("the source video is not the one that this session was opened with")
        return self._process.frames(Job(first, self._stride, None, width, height, ORIGINAL_JPEG_QUALITY, raw=True))


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture, uint8 (H, W, 3), as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, ORIGINAL_JPEG_QUALITY))
    if not ok:
        raise EngineError(f"a picture of shape {image.shape} could not be encoded as JPEG")
    return encoded.tobytes()


def _gone(what: str) -> Conflict:
    return Conflict(f"{what}; `size=session` exports the session's own frames", field="size", code="source_gone")
