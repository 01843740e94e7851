"""The pictures under the masks: the session's own JPEGs, or the source video's pictures in their original size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.errors import CapacityError, Conflict, EngineError, NotAVideo, NotFound
from sam_service.video.decoder import Decoder
from sam_service.video.frames import FrameStore

Image = NDArray[np.uint8]
ORIGINAL_JPEG_QUALITY = 95


class Pictures(Protocol):
    """Pictures by frame of the session. Asked for in rising order."""

    def read(self, index: int) -> Image:
        """The frame as RGB, uint8 (H, W, 3)."""

    def jpeg(self, index: int) -> bytes:
        """The frame as JPEG."""

    def cancel(self) -> None:
        """End the reading now, from any thread; a call that waits for a picture raises."""


class SessionPictures:
    """The session's frames, byte for byte as the network and the page get them."""

    def __init__(self, frames: FrameStore) -> None:
        self.read, self.jpeg = frames.read, frames.jpeg

    def cancel(self) -> None:
        """Does nothing: a frame is read in a moment."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SourcePictures:
    """The pictures of the source video, decoded from its start: seeking lands on other frames with many files.

    source_index: the source's frame for a frame of the session. Raises Conflict where the file is gone or another one.
    """

    def __init__(self, source: Path, width: int, height: int, source_index: Callable[[int], int]) -> None:
        self._source = source
        self._size = (width, height)
        self._source_index = source_index
        self._next = 0
        self._decoder: Decoder | None = None
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def cancel(self) -> None:
        """End the decoding now, from any thread; a call that waits for a picture raises."""
        self._cancelled = True

    def read(self, index: int) -> Image:
        """The frame as RGB, uint8 (H, W, 3)."""
        decoder = self._decoder = self._decoder or self._opened()
        wanted = self._source_index(index)
        while self._next <= wanted:
            if self._cancelled:
                raise CapacityError("the decoding was cancelled", code="export_cancelled")
            if not decoder.grab():
                raise _gone(f"the source video ends before frame {index}")
            self._next += 1
        picture = decoder.picture()
        if picture is None or picture.shape[1::-1] != self._size:
            raise _gone("the source video is not the one that this session was opened with")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    def jpeg(self, index: int) -> bytes:
        """The frame as JPEG, encoded anew."""
        return encode_jpeg(self.read(index))

    def _opened(self) -> Decoder:
        try:
            return Decoder(self._source)
        except (NotFound, NotAVideo):
            raise _gone("the source video is no longer there") from None


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture, uint8 (H, W, 3), as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, ORIGINAL_JPEG_QUALITY))
    if not ok:
        raise EngineError(f"a picture of shape {image.shape} could not be encoded as JPEG")
    return encoded.tobytes()


def _gone(what: str) -> Conflict:
    return Conflict(f"{what}; `size=session` exports the session's own frames", field="size", code="source_gone")
