"""`frames.json`: what a folder of frames says about itself, in one small document that is replaced in one step."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from sam_service.errors import ClientError, FrameUnreadable, InvalidInput, NotAVideo, NotFound, TooLarge
from sam_service.video.limits import VideoInfo

MANIFEST_NAME = "frames.json"
_VERSION = 1
MIN_SIDE = 8
"""Pixels of a frame's shorter side at least: objects are looked for among its pixels."""

MIN_FPS, MAX_FPS = 0.001, 1000.0
"""Frames a second that a collection of pictures may be given."""

_LASTING_ERRORS: dict[str, type[ClientError]] = {kind.__name__: kind for kind in (InvalidInput, NotAVideo, TooLarge)}


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """Which source frames become the session's frames, and how they are stored. `InvalidInput` names a wrong one.

    Attributes:
        start_frame: the source frame that becomes frame 0.
        frame_stride: every how manyth source frame is taken from there.
        max_frames: at most this many session frames, None for all.
        max_dimension: longer side of a stored frame in pixels; larger sources are downsampled, none is enlarged.
        jpeg_quality: 1 to 100.
        fps: frames a second of a folder or an archive of pictures, None for the usual.
    """

    start_frame: int = 0
    frame_stride: int = 1
    max_frames: int | None = None
    max_dimension: int = 1920
    jpeg_quality: int = 85
    fps: float | None = None

    def __post_init__(self) -> None:
        for field, lowest, highest in (
            ("start_frame", 0, None),
            ("frame_stride", 1, None),
            ("max_frames", 1, None),
            ("max_dimension", 1, None),
            ("jpeg_quality", 1, 100),
            ("fps", MIN_FPS, MAX_FPS),
        ):
            value = getattr(self, field)
            if value is not None and (value < lowest or (highest is not None and value > highest)):
                bound = f"at least {lowest}" if highest is None else f"between {lowest} and {highest}"
                raise InvalidInput(f"{field} is {value}; it must be {bound}", field=field)

    def session_frames(self, source_frames: int) -> int:
        """Return how many session frames a video of `source_frames` frames gives."""
        taken = max(0, -(-(source_frames - self.start_frame) // self.frame_stride))
        return taken if self.max_frames is None else min(taken, self.max_frames)

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) in pixels of a stored frame for a source of `width` x `height`."""
        scale = min(1.0, self.max_dimension / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, slots=True)
class Manifest:
    """The document. Counts are in frames, sizes in pixels.

    `original_width` and `original_height` are upright, with square pixels; `pixel_aspect` is a stored pixel's width divided by
    its height. `size_changed` says that some source frames had another size and were brought to this one. `fps` is the mean of
    the source frames once the extraction is complete. `estimate` is the best guess of the session's frames before the
    extraction is complete, None without one. `count` is exact when `complete`; until then the index knows better. `truncated`
    says that `max_frames` cut the video off. `missing_frames` are source frames that were there and could not be decoded.
    `error` is one that another attempt would meet again, as {kind, message, field, code}.
    """

    width: int
    height: int
    original_width: int
    original_height: int
    fps: float
    options: FrameOptions
    estimate: int | None
    count: int = 0
    complete: bool = False
    truncated: bool = False
    missing_frames: int = 0
    error: dict[str, str | None] | None = None
    pixel_aspect: float = 1.0
    size_changed: bool = False

    @classmethod
    def of(cls, info: VideoInfo, options: FrameOptions) -> Self:
        """Return the manifest of a video before its first frame is stored. Raises `NotAVideo` for too small pictures."""
        estimate = None if info.num_frames is None else options.session_frames(info.num_frames)
        return replace(cls.of_size(info.width, info.height, info.fps, options), estimate=estimate,
                       pixel_aspect=info.pixel_aspect)

    @classmethod
    def of_size(cls, original_width: int, original_height: int, fps: float, options: FrameOptions) -> Self:
        """Return the manifest of pictures of that size, in pixels, of which nothing else is known. Raises as `of`."""
        width, height = options.stored_size(original_width, original_height)
        if min(width, height) < MIN_SIDE:
            raise NotAVideo(f"the pictures have {original_width} x {original_height} pixels, the frames {width} x {height}; at "
                            f"least {MIN_SIDE} on each side are needed", code="picture_too_small")
        return cls(width, height, original_width, original_height, fps, options, estimate=None)

    @property
    def scale_factor(self) -> float:
        """Stored width divided by original width."""
        return self.width / self.original_width

    def write(self, folder: Path) -> None:
        """Write the document into `folder` in one step. Raises OSError."""
        document = {"version": _VERSION, "scale_factor": self.scale_factor, **asdict(self)}
        replace_file(folder / MANIFEST_NAME, json.dumps(document, indent=1).encode(), durable=True)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the document in `folder`. Raises `NotFound` without one, `FrameUnreadable` when it is damaged."""
        try:
            document: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_bytes())
            if document.pop("version") != _VERSION:
                raise ValueError("another version")
            del document["scale_factor"]
            return cls(**{**document, "options": FrameOptions(**document["options"])})
        except FileNotFoundError:
            raise NotFound("no frames are stored here") from None
        except (ValueError, TypeError, KeyError, AttributeError, InvalidInput):
            raise FrameUnreadable("the list of the stored frames is damaged") from None


def pack_error(error: Exception | None) -> dict[str, str | None] | None:
    """Return `error` for the manifest if it is the video's own fault, None for one that may pass (a full disk)."""
    if not isinstance(error, ClientError) or type(error).__name__ not in _LASTING_ERRORS:
        return None
    return {"kind": type(error).__name__, "message": error.message, "field": error.field, "code": error.code}


def unpack_error(packed: dict[str, str | None] | None) -> ClientError | None:
    """Return the error that `pack_error` wrote."""
    if packed is None:
        return None
    kind = _LASTING_ERRORS.get(packed["kind"] or "", NotAVideo)
    return kind(packed["message"] or "", field=packed["field"], code=packed["code"])


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data` as `path` so that a reader sees the old file or the new one, never a part. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        if durable:
            sync_file(temporary)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Return once a file's bytes are on the disk, where a power cut leaves them. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
