"""The service's side of a process that decodes pictures which clients push: one process for each live session."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import asdict
from pathlib import Path

from sam_service.errors import NotAVideo, ServiceError
from sam_service.video.launch import Started, spares
from sam_service.video.limits import VideoLimits
from sam_service.video.pictures import PICTURE_ERRORS, PictureRequest
from sam_service.video.process import DecodingProcess
from sam_service.video.wire import FRAME, OPEN, PICTURE, unpack_frame


class PictureProcess(DecodingProcess):
    """Decodes one picture after another, confined like the process of a video. `ended`: it takes no more, start another one."""

    def __init__(self, size: tuple[int, int], accepted: tuple[int, int], quality: int, limits: VideoLimits) -> None:
        """Args: as in `PictureRequest`."""
        super().__init__(Path("a live frame"), limits)
        self._request = PictureRequest(size, accepted, quality)
        self.ended = False

    def jpeg(self, data: bytes) -> bytes:
        """A picture as a JPEG of the session's size; one that is such a JPEG already comes back as it is, without metadata.

        Raises InvalidInput, NotAVideo and TooLarge for what is no such picture or breaks the decoder, CapacityError and
        EngineError for what is no fault of the picture. From one thread at a time.
        """
        try:
            started = self._started or self._begin()
            with contextlib.suppress(OSError):  # the process is gone; its exit status says why, below
                started.channel.send_bytes(PICTURE, data)
            _, body = self._receive(FRAME)
            width, height = self._request.size
            return self._understood(functools.partial(unpack_frame, width=width, height=height), body).data
        except ServiceError as error:
            if error.code in PICTURE_ERRORS:
                raise
            self.close()
            if isinstance(error, NotAVideo):
                raise NotAVideo("the picture breaks the decoder", field="body", code=error.code) from None
            raise

    def close(self) -> None:
        """End the process and free what it holds. May be called twice."""
        self.ended = True
        super().close()

    def _begin(self) -> Started:
        started = self._start()
        nothing = os.open(os.devnull, os.O_RDONLY)  # the only file that the process may still open
        try:
            with contextlib.suppress(OSError):  # as above
                started.channel.send_descriptor(nothing)
                started.channel.send(OPEN, {"limits": asdict(self._limits), "pictures": asdict(self._request)})
        finally:
            os.close(nothing)
        spares.refill()
        return started
