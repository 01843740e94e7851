"""The background work that turns a video file into the frames of a store."""

from __future__ import annotations

import errno
import logging
import math
import threading
from pathlib import Path

from sam_service.errors import CapacityError, EngineError, InvalidInput, NotAVideo, ServiceError
from sam_service.video.decoder import Decoder
from sam_service.video.frames import FrameStore

_log = logging.getLogger(__name__)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Extraction:
    """One pass over `source`, in a thread of its own, into `store`.

    A store that already holds frames is gone on with: the source is decoded again from its start up to the source
    frame after the last one stored. Seeking would be faster and lands on other frames with many files.

    Session frame k is the k-th picture that could be decoded among source frames start, start + stride, ... A source
    frame that the decoder passes over for damage has no number, so frames after it keep their own timestamps.
    """

    def __init__(self, source: Path, store: FrameStore, *, decoder_threads: int = 1) -> None:
        self._source = source
        self._store = store
        self._decoder_threads = decoder_threads
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start, or resume, the work; does nothing while it runs or when the store needs none. Raises OSError."""
        if self.running or not self._store.needs_extraction:
            return
        self._cancelled.clear()
        self._store.resume()
        self._thread = threading.Thread(target=self._run, name=f"extract-{self._store.folder.name}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop after the frame at hand and wait for the thread. What is stored stays; `start` goes on from there."""
        self._cancelled.set()
        self.join()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the work has ended, at most `timeout_s` seconds."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._extract()
        except Exception as error:
            _log.warning("extraction into %s ended early", self._store.folder.name, exc_info=error)
            self._fail(_as_service_error(error))

    def _fail(self, error: ServiceError) -> None:
        try:
            self._store.fail(error)
        except OSError as again:  # told in memory already; the disk cannot take the note
            _log.warning("the error could not be written down", exc_info=again)

    def _extract(self) -> None:
        options = self._store.manifest.options
        last = self._store.last_record
        wanted = options.start_frame if last is None else last.source_index + options.frame_stride
        undecodable = 0
        source = 0
        truncated = False
        with Decoder(self._source, threads=self._decoder_threads) as decoder:
            while decoder.grab():
                if self._cancelled.is_set():
                    self._store.stop()
                    return
                if source == wanted:
                    if self._store.frames_ready == options.max_frames:
                        truncated = True
                        break
                    undecodable += not self._take(decoder, source)
                    wanted += options.frame_stride
                source += 1
        self._end(decoder, source, truncated, undecodable)

    def _take(self, decoder: Decoder, source: int) -> bool:
        """Store the grabbed picture, source frame `source`. False when it cannot be converted."""
        picture = decoder.picture()
        if picture is None:
            return False
        self._store.append(picture, self._timestamp_s(decoder, source), source_index=source)
        return True

    def _timestamp_s(self, decoder: Decoder, source: int) -> float:
        """Return the container's time of the grabbed picture, or one after the last frame's if that is not later."""
        position = decoder.position_s
        last = self._store.last_record
        if last is None:
            return position if math.isfinite(position) and (position > 0 or source == 0) else source / decoder.fps
        if math.isfinite(position) and position > last.timestamp_s:
            return position
        return last.timestamp_s + (source - last.source_index) / decoder.fps

    def _end(self, decoder: Decoder, source: int, truncated: bool, undecodable: int) -> None:
        """Complete the store after `source` decodable source frames, or say why there is no frame at all."""
        start = self._store.manifest.options.start_frame
        if self._store.frames_ready == 0:
            if 0 < source <= start:
                raise InvalidInput(f"start_frame is {start}, but the video has {source} frames", field="start_frame")
            raise NotAVideo("the video holds no frame that can be decoded", field="video_path", code="no_frames")
        passed_over = 0
        if not truncated and decoder.container.lists_every_frame and decoder.frame_count is not None:
            passed_over = max(0, decoder.frame_count - source)
        self._store.finish(truncated=truncated, missing_frames=passed_over + undecodable)


def _as_service_error(error: Exception) -> ServiceError:
    """Return what the store's readers are told; the cause itself is for the log."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return CapacityError("there is no room to store the video's frames", code="storage_full", retry_after_s=60)
    if isinstance(error, OSError):
        return EngineError("the video's frames could not be stored", code="storage_failed")
    return EngineError("the video's frames could not be extracted", code="extraction_failed")
