"""The background work that turns a video file into the frames of a store."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

from sam_service.errors import EngineError, ServiceError
from sam_service.failures import disk_full, is_disk_full, translate
from sam_service.video.frames import FrameStore
from sam_service.video.job import Job
from sam_service.video.limits import VideoLimits
from sam_service.video.process import DecodingProcess

_log = logging.getLogger(__name__)
NO_ROOM = "there is no room to store the video's frames"


class Extraction:
    """One pass over `source`, by a process of its own and a thread that takes its frames, into `store`.

    If the store already holds frames, extraction resumes after the last one: the source is decoded again from its start, and
    frames are taken from there on. Seeking would be faster and lands on other frames with many files.

    Session frame k is the k-th picture that could be decoded among source frames start, start + stride, ... A source
    frame that the decoder passes over for damage has no number, so frames after it keep their own timestamps.
    """

    def __init__(self, source: Path, store: FrameStore, limits: VideoLimits | None = None, *, decoder_threads: int = 1) -> None:
        self._source = source
        self._store = store
        self._limits = limits or VideoLimits()
        self._decoder_threads = decoder_threads
        self._cancelled = threading.Event()
        self._process: DecodingProcess | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, opened: DecodingProcess | None = None) -> None:
        """Start, or resume, the work; does nothing while it runs or when the store needs none. Raises OSError.

        `opened` is a process that has opened the source already. It is closed when the work ends; where this raises, it
        is still the caller's.
        """
        if self.running or not self._store.needs_extraction:
            if opened is not None:
                opened.close()
            return
        self._store.resume()
        self._cancelled.clear()
        self._process = opened or DecodingProcess(
            self._source, self._limits, threads=self._decoder_threads, fps=self._store.manifest.options.fps)
        self._thread = threading.Thread(
            target=self._run, args=(self._process, opened is not None), name=f"extract-{self._store.folder.name}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the process and wait for the thread. What is stored stays; `start` goes on from there."""
        self._cancelled.set()
        if self._process is not None:
            self._process.kill()
        self.join()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the work has ended, at most `timeout_s` seconds."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, process: DecodingProcess, is_open: bool) -> None:
        try:
            with process:
                if not is_open:
                    process.open()
                self._take_frames(process)
        except Exception as error:
            if self._cancelled.is_set():
                self._store.stop()
                return
            _log.warning("extraction into %s ended early: %s", self._store.folder.parent.name, error,
                         exc_info=None if isinstance(error, ServiceError) else error)
            self._fail(_as_service_error(error))

    def _fail(self, error: ServiceError) -> None:
        try:
            self._store.fail(error)
        except OSError as again:  # readers have it already; the disk cannot take the note
            _log.warning("the error could not be written down", exc_info=again)

    def _take_frames(self, process: DecodingProcess) -> None:
        for frame in process.frames(self._job()):
            if self._cancelled.is_set():
                self._store.stop()
                return
            if shutil.disk_usage(self._store.folder).free < self._limits.min_free_bytes:
                raise disk_full(NO_ROOM)
            self._store.append(frame.data, frame.timestamp_s, source_index=frame.source_index)
        self._store.finish(truncated=process.truncated, missing_frames=process.missing_frames, fps=process.fps,
                           size_changed=process.size_changed)

    def _job(self) -> Job:
        """The frames that are missing."""
        manifest, last = self._store.manifest, self._store.last_record
        options = manifest.options
        job = Job(options.start_frame, options.frame_stride, options.max_frames, manifest.width, manifest.height,
                  options.jpeg_quality)
        if last is None:
            return job
        return replace(job, stored=self._store.frames_ready, last_source_index=last.source_index,
                       last_timestamp_s=last.timestamp_s)


def _as_service_error(error: Exception) -> ServiceError:
    """The error that whoever waits for a frame gets; the cause itself is for the log."""
    if is_disk_full(error):
        return disk_full(NO_ROOM)
    translated = translate(error)
    if translated is not None:
        return translated
    if isinstance(error, OSError):
        return EngineError("the video's frames could not be stored", code="storage_failed")
    return EngineError("the video's frames could not be extracted", code="extraction_failed")
