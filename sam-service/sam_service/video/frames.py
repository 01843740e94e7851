"""The session's frames on disk: written once by the extraction, read by the model, the client and the export alike."""

from __future__ import annotations

import copy
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from sam_service.errors import FrameUnreadable, NotFound, NotReady, ServiceError
from sam_service.video.index import INDEX_NAME, FrameRecord, append_record, frame_name, load_records
from sam_service.video.limits import VideoInfo
from sam_service.video.manifest import FrameOptions, Manifest, pack_error, replace_file, sync_file, unpack_error

THUMBNAIL_QUALITY = 80
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class FrameStore:
    """A folder of JPEGs, `000000.jpg` onwards, with the manifest and the index that describe them.

    One thread appends; any number read. What is on disk is whole at every moment, so another process may open the
    folder after this one was killed. Use `create` or `open`.
    """

    def __init__(self, folder: Path, manifest: Manifest, records: list[FrameRecord]) -> None:
        self.folder = folder
        self._manifest = manifest
        self._records = records
        self._error: ServiceError | None = unpack_error(manifest.error)
        self._stopped = False
        self._changed = threading.Condition()

    @classmethod
    def create(cls, folder: Path, info: VideoInfo, options: FrameOptions) -> Self:
        """Start an empty store in `folder`, which is made if it is missing. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX_NAME).unlink(missing_ok=True)
        manifest = Manifest.of(info, options)
        manifest.write(folder)
        return cls(folder, manifest, [])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what an earlier process left in `folder`. Raises `NotFound` or `FrameUnreadable`."""
        manifest = Manifest.read(folder)
        records = load_records(folder, verify=not manifest.complete)
        if manifest.complete and len(records) < manifest.count:
            manifest = replace(manifest, complete=False, truncated=False)
        return cls(folder, manifest, records)

    @property
    def manifest(self) -> Manifest:
        """What is known of the frames as a whole; `count` is that of the last document written."""
        with self._changed:
            return self._manifest

    @property
    def first(self) -> int:
        """The oldest frame that there is."""
        return 0

    @property
    def frames_ready(self) -> int:
        """How many frames can be read now: 0 up to this number, exclusive."""
        with self._changed:
            return len(self._records)

    @property
    def complete(self) -> bool:
        """Whether the extraction has reached its end."""
        with self._changed:
            return self._manifest.complete

    @property
    def error(self) -> ServiceError | None:
        """What ended the extraction early, None if nothing did."""
        with self._changed:
            return self._error

    @property
    def needs_extraction(self) -> bool:
        """Whether an extraction should be started, or resumed: unfinished, and not for a fault of the video itself."""
        with self._changed:
            return not self._manifest.complete and pack_error(self._error) is None

    @property
    def num_frames(self) -> int:
        """How many frames the session has: exact when complete, before that the container's word or those ready."""
        with self._changed:
            ready = len(self._records)
            if self._manifest.complete or self._error is not None:
                return ready
            return max(ready, self._manifest.estimate or 0)

    @property
    def last_record(self) -> FrameRecord | None:
        """The record of the newest frame, from which an extraction goes on; None when there is none."""
        with self._changed:
            return self._records[-1] if self._records else None

    def timestamp_s(self, index: int) -> float:
        """Return the time of frame `index` in seconds from the start of the source video. Raises as `jpeg`."""
        return self._record(index).timestamp_s

    def source_index(self, index: int) -> int:
        """Return which frame of the source video frame `index` is. Raises as `jpeg`."""
        return self._record(index).source_index

    def timestamps_s(self) -> list[float]:
        """Return the times of all frames that are ready, strictly rising, in seconds."""
        with self._changed:
            return [record.timestamp_s for record in self._records]

    def jpeg(self, index: int) -> bytes:
        """Return frame `index` as JPEG.

        Raises:
            NotFound: (field `frame_idx`) the session has no such frame.
            NotReady: the extraction has not come to it yet.
            FrameUnreadable: the file is gone, or not what was stored.
        """
        record = self._record(index)
        try:
            data = (self.folder / frame_name(index)).read_bytes()
        except OSError:
            raise FrameUnreadable(f"frame {index} cannot be read") from None
        if not record.fits(data):
            raise FrameUnreadable(f"frame {index} is damaged")
        return data

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return frame `index` as RGB, uint8 (height, width, 3). Raises as `jpeg`."""
        image = cv2.imdecode(np.frombuffer(self.jpeg(index), np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise FrameUnreadable(f"frame {index} is damaged")
        return np.asarray(image, np.uint8)

    def thumbnail(self, index: int, width: int) -> bytes:
        """Return frame `index` as a JPEG of `width` pixels across, or as it is when it is not wider. Raises as `jpeg`."""
        data = self.jpeg(index)
        size = self._manifest.width, self._manifest.height
        if width >= size[0]:
            return data
        shrink = next((by for by in _REDUCED if width * by <= size[0]), 1)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED.get(shrink, cv2.IMREAD_COLOR))
        if image is None:
            raise FrameUnreadable(f"frame {index} is damaged")
        target = width, max(1, round(width * size[1] / size[0]))
        small = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY))[1].tobytes()

    def wait_for(self, index: int, timeout_s: float | None = None) -> None:
        """Return once frame `index` can be read.

        Raises:
            NotFound: (field `frame_idx`) the video ended before it.
            NotReady: not within `timeout_s` seconds, or the extraction was stopped.
            ServiceError: what ended the extraction early, for a frame it did not reach.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_decided(index), timeout_s)
        self._record(index)

    def append(self, jpeg: bytes, timestamp_s: float, *, source_index: int) -> None:
        """Store the next frame, a JPEG of the store's size. For the one thread that extracts.

        Args:
            jpeg: the picture.
            timestamp_s: its time in the source video, seconds.
            source_index: its number in the source video.

        Raises OSError when it cannot be written; the store is then as it was.
        """
        record = FrameRecord(timestamp_s, source_index, len(jpeg), zlib.crc32(jpeg))
        replace_file(self.folder / frame_name(self.frames_ready), jpeg)
        append_record(self.folder, record)
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()

    def resume(self) -> None:
        """Say that an extraction runs (again): an earlier passing error, or a stop, is over. Raises OSError."""
        records = load_records(self.folder)
        with self._changed:
            self._records = records
            self._stopped = False
            if pack_error(self._error) is None:
                self._error = None

    def finish(self, *, truncated: bool, missing_frames: int, fps: float | None = None, size_changed: bool = False) -> None:
        """Say that the last frame is in, once all are safely on the disk. Raises OSError.

        Args: as in `Manifest`; fps: None where it was not measured.
        """
        count = self.frames_ready
        for name in (*map(frame_name, range(count)), INDEX_NAME):
            sync_file(self.folder / name)
        self._publish(replace(self.manifest, count=count, complete=True, truncated=truncated, missing_frames=missing_frames,
                              fps=fps or self.manifest.fps, size_changed=size_changed))

    def fail(self, error: ServiceError) -> None:
        """Say that the extraction ended early. Wakes whoever waits; the video's own fault is stored on disk."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
        packed = pack_error(error)
        if packed is not None:
            self._publish(replace(self.manifest, count=self.frames_ready, error=packed))

    def stop(self) -> None:
        """Say that the extraction was stopped and may be resumed. Wakes whoever waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _publish(self, manifest: Manifest) -> None:
        manifest.write(self.folder)
        with self._changed:
            self._manifest = manifest
            self._changed.notify_all()

    def _is_decided(self, index: int) -> bool:
        """Whether waiting longer cannot change the answer for frame `index`. Holds the lock."""
        return index < len(self._records) or self._error is not None or self._stopped or self._past_end(index)

    def _past_end(self, index: int) -> bool:
        """Whether frame `index`, which is not here, will never be. Holds the lock."""
        limit = self._manifest.options.max_frames
        return self._manifest.complete or index < 0 or (limit is not None and index >= limit)

    def _record(self, index: int) -> FrameRecord:
        with self._changed:
            if 0 <= index < len(self._records):
                return self._records[index]
            if self._error is not None:
                raise copy.copy(self._error)  # a raised exception collects tracebacks; this one is raised often
            if not self._past_end(index):
                raise NotReady(f"frame {index} is not extracted yet", code="frame_not_ready")
            raise NotFound(f"there is no frame {index}: the session has {self._count_text()}", field="frame_idx")

    def _count_text(self) -> str:
        if self._manifest.complete:
            return f"{len(self._records)} frames"
        return f"at most {self._manifest.options.max_frames} frames"
