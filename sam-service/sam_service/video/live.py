"""The frames of a live session: clients push them one by one, and only a window of them is kept.

A folder of JPEGs as in `frames.py`, with `live.json` in the place of the index. That document is replaced after each frame's
masks are stored, so a frame counts for the next process once its client could have had an answer.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from sam_service.errors import CapacityError, FrameUnreadable, Gone, InvalidInput, NotFound
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.index import FrameRecord, frame_name
from sam_service.video.limits import VideoLimits
from sam_service.video.manifest import FrameOptions, Manifest, replace_file
from sam_service.video.picture_process import PictureProcess

LIVE_NAME = "live.json"
_VERSION = 1
Policy = Literal["latest", "all"]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live session deals with its frames.

    policy: what happens to frames that come faster than they are tracked. `latest`: one frame waits at most, and a newer one
    takes its place. `all`: none is dropped, and too many that wait are refused. keep_frames: frames of the window.
    fps: frames a second, for the times of frames that come without one.
    """

    policy: Policy = "latest"
    keep_frames: int = 32
    fps: float = 24.0


class LiveFrames(FrameStore):
    """The window of the newest frames, and older ones with a prompt: the memory is made anew from those if it has to be.

    One thread changes it; any number read. Frames keep their numbers, which count all frames since the session began.
    """

    def __init__(self, folder: Path, manifest: Manifest, options: LiveOptions, held: dict[int, FrameRecord], first: int,
                 end: int, dropped: int) -> None:
        super().__init__(folder, manifest, [])
        self.options = options
        self._held = held
        self._first, self._end = first, end
        self._leaving: list[int] = []
        self.dropped = dropped
        """Frames that a newer one has replaced before they were tracked."""

    @classmethod
    def create_live(cls, folder: Path, width: int, height: int, options: LiveOptions, stored: FrameOptions) -> Self:
        """Start an empty store for pictures of width x height pixels. Raises OSError, NotAVideo for too small ones."""
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest.of_size(width, height, options.fps, stored)
        manifest.write(folder)
        frames = cls(folder, manifest, options, {}, 0, 0, 0)
        frames.commit()
        return frames

    @classmethod
    def open_live(cls, folder: Path) -> Self:
        """Open what an earlier process left; a frame that was not finished is removed. Raises FrameUnreadable, NotFound."""
        manifest = Manifest.read(folder)
        try:
            document: dict[str, Any] = json.loads((folder / LIVE_NAME).read_bytes())
            if document["version"] != _VERSION:
                raise ValueError("another version")
            held = {int(index): FrameRecord(*record) for index, record in document["held"]}
            frames = cls(folder, manifest, LiveOptions(**document["options"]), held, document["first"], document["end"],
                         document["dropped"])
        except (OSError, ValueError, TypeError, KeyError):
            raise FrameUnreadable("the list of the live frames is damaged") from None
        frames._sweep()
        return frames

    @property
    def frames_ready(self) -> int:
        """How many frames were pushed: the next one gets this number."""
        with self._changed:
            return self._end

    @property
    def num_frames(self) -> int:
        """The same: how many will come is not known."""
        return self.frames_ready

    @property
    def first(self) -> int:
        """The oldest frame of the window."""
        with self._changed:
            return self._first

    @property
    def needs_extraction(self) -> bool:
        """Never: frames come from clients."""
        return False

    def jpeg(self, index: int) -> bytes:
        """Return frame `index` as JPEG. Raises as `require`, and FrameUnreadable."""
        try:
            return super().jpeg(index)
        except FrameUnreadable:
            self._record(index)  # it has left the window meanwhile
            raise

    def require(self, index: int) -> None:
        """Check that a frame is held. Raises Gone (field `frame_idx`) behind the window, NotFound before its push."""
        self._record(index)

    def require_in_window(self, index: int) -> None:
        """Check that a frame can be prompted, or gone back to. Raises as `require`."""
        if 0 <= index < self.first:
            raise self._gone(index)
        self._record(index)

    def latest(self) -> int:
        """The newest frame. Raises NotFound (field `frame_idx`) before the first push."""
        end = self.frames_ready
        if end == 0:
            raise NotFound("no frame was pushed yet", field="frame_idx", code="no_frame")
        return end - 1

    def timestamps_s(self) -> list[float]:
        """The times of the frames of the window, from `first` on, strictly rising, in seconds."""
        with self._changed:
            return [self._held[index].timestamp_s for index in range(self._first, self._end)]

    def next_time_s(self, given: float | None) -> float:
        """The next frame's time in seconds: the given one, or by the rate. Raises InvalidInput where time would stand still."""
        with self._changed:
            last = self._held[self._end - 1].timestamp_s if self._end else None
        if given is None:
            return 0.0 if last is None else last + 1 / self.options.fps
        if last is not None and given <= last:
            raise InvalidInput(f"timestamp_s is {given:g}, and the frame before it came at {last:g} s; times have to rise",
                               field="timestamp_s")
        return given

    def is_last(self, index: int, jpeg: bytes) -> bool:
        """Whether this picture was the last one that was pushed, as frame `index`."""
        with self._changed:
            record = self._held.get(index)
            return index == self._end - 1 and record is not None and record.fits(jpeg)

    def push(self, jpeg: bytes, timestamp_s: float) -> int:
        """Hold one more frame, a JPEG of the store's size, and return its number. It is to be followed by `commit`, or by
        `withdraw`. Raises OSError, and holds nothing then."""
        index = self.frames_ready
        replace_file(self.folder / frame_name(index), jpeg)
        with self._changed:
            self._held[index] = FrameRecord(timestamp_s, index, len(jpeg), zlib.crc32(jpeg))
            self._end = index + 1
        return index

    def withdraw(self) -> None:
        """Take the last push back."""
        self._drop_after(self.frames_ready - 2)

    def commit(self, prompted: Collection[int] = ()) -> None:
        """Let the window move on, and write down what is held: the window, and the frames `prompted`. Raises OSError."""
        with self._changed:
            self._first = max(self._first, self._end - self.options.keep_frames)
            leaving = [index for index in self._held if index < self._first and index not in prompted]
            for index in leaving:
                del self._held[index]
            self._leaving += leaving
        self._write()
        while self._leaving:  # a file goes once the document no longer names it
            (self.folder / frame_name(self._leaving.pop())).unlink(missing_ok=True)

    def rewind(self, index: int) -> None:
        """Drop all frames after `index`, which is in the window, and write that down. Raises OSError."""
        self._drop_after(index)
        self._write()

    def _drop_after(self, index: int) -> None:
        with self._changed:
            leaving = [held for held in self._held if held > index]
            for held in leaving:
                del self._held[held]
            self._end = index + 1
        for held in leaving:
            (self.folder / frame_name(held)).unlink(missing_ok=True)

    def _write(self) -> None:
        with self._changed:
            document = {"version": _VERSION, "options": asdict(self.options), "first": self._first, "end": self._end,
                        "dropped": self.dropped, "held": sorted(self._held.items())}
        replace_file(self.folder / LIVE_NAME, json.dumps(document).encode())

    def _sweep(self) -> None:
        """Remove the files of frames that are not held."""
        names = {frame_name(index) for index in self._held}
        for path in self.folder.glob("*.jpg"):
            if path.name not in names:
                path.unlink()

    def _is_decided(self, index: int) -> bool:
        return True

    def _record(self, index: int) -> FrameRecord:
        with self._changed:
            record = self._held.get(index)
            first, end = self._first, self._end
        if record is not None:
            return record
        if 0 <= index < end:
            raise self._gone(index)
        raise NotFound(f"there is no frame {index}: " + (f"frames {first} to {end - 1} are held" if end else
                                                        "no frame was pushed yet"), field="frame_idx", code="no_frame")

    def _gone(self, index: int) -> Gone:
        return Gone(f"frame {index} is no longer held: the session keeps its last {self.options.keep_frames} frames "
                    f"(keep_frames), {self.first} to {self.frames_ready - 1}", field="frame_idx", code="frame_gone")


class LiveIntake(Extraction):
    """In the place of an extraction: the process that decodes a live session's pictures. It is started at the first one."""

    def __init__(self, frames: LiveFrames, limits: VideoLimits) -> None:
        super().__init__(Path(), frames, limits)
        self._frames = frames
        self._picture_limits = limits
        self._process: PictureProcess | None = None
        self._closed = False

    def jpeg(self, data: bytes) -> bytes:
        """A pushed picture as the frame that is stored: a JPEG of the session's size. For one thread at a time. Blocks.

        Raises InvalidInput, NotAVideo and TooLarge for what is no such picture, CapacityError and EngineError.
        """
        if self._cancelled.is_set():
            raise NotFound("this session has just been deleted", field="session_id")
        if self._process is None or self._process.ended:
            manifest = self._frames.manifest
            self._process = PictureProcess(
                (manifest.width, manifest.height), (manifest.original_width, manifest.original_height),
                manifest.options.jpeg_quality, self._picture_limits)
        try:
            return self._process.jpeg(data)
        except CapacityError:
            if self._cancelled.is_set():
                raise NotFound("this session has just been deleted", field="session_id") from None
            raise

    def cancel(self) -> None:
        """End the process."""
        self._cancelled.set()
        if self._process is not None:
            self._process.close()


def is_live(folder: Path) -> bool:
    """Whether a folder holds the frames of a live session."""
    with contextlib.suppress(OSError):
        return (folder / LIVE_NAME).is_file()
    return False
