"""Live sessions: the calls that push frames, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

import httpx
import numpy as np
from numpy.typing import NDArray

from sam_service.client.calls import Call, Id, given
from sam_service.client.errors import InvalidArgument
from sam_service.client.results import FrameMasks, SessionState, masks_by_object

Picture = bytes | NDArray[np.uint8]
"""A JPEG, PNG or WebP, or an array (H, W, 3) of RGB."""

JPEG_QUALITY = 95
_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


class LiveOptions(TypedDict, total=False):
    """How a live session is opened. policy: `latest` replaces a waiting frame by a newer one, `all` refuses too many;
    keep_frames: the last frames that can be prompted and gone back to; image_size: pixels; fps: for frames without a time."""

    policy: Literal["latest", "all"]
    keep_frames: Id
    image_size: Id
    fps: float


@dataclass(frozen=True)
class LiveFrame(FrameMasks):
    """A frame that was pushed. dropped: frames of the session so far that a newer one replaced; queue_ms: time until its turn,
    step_ms: from there to its masks."""

    dropped: int
    queue_ms: float
    step_ms: float


def initialize_live(width: Id, height: Id, options: LiveOptions) -> Call[SessionState]:
    """Open a session without a file."""
    return Call("POST", "/initialize", lambda response: cast(SessionState, response.json()),
                json={"live": True, "width": width, "height": height, **options})


def push(session_id: str, picture: Picture, frame_idx: Id | None, timestamp_s: float | None, masks: bool) -> Call[LiveFrame]:
    """Push a frame; with its number the call may be repeated. Raises InvalidArgument."""
    content = picture if isinstance(picture, bytes) else encoded(picture)
    params = given({"mask_format": "rle" if masks else "none", "frame_idx": frame_idx, "timestamp_s": timestamp_s})
    return Call("PUT", f"/sessions/{session_id}/frames", _live_frame, params=params, content=content,
                headers={"Content-Type": kind_of(content)}, repeatable=frame_idx is not None)


def rewind(session_id: str, frame_idx: Id) -> Call[int]:
    """Drop the frames after one; the number that the next frame gets."""
    return Call("POST", f"/sessions/{session_id}/rewind", lambda response: int(response.json()["num_frames"]),
                json={"frame_idx": frame_idx}, repeatable=True)


def kind_of(content: bytes) -> str:
    """The media type of a picture, by its first bytes. Raises InvalidArgument."""
    for head, kind in _KINDS.items():
        if content.startswith(head):
            return kind
    raise InvalidArgument("picture", "has to be a JPEG, PNG or WebP, or an array (height, width, 3) of RGB, uint8")


def encoded(picture: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, 3) of RGB as a JPEG. Raises InvalidArgument."""
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InvalidArgument("picture", f"has the shape {array.shape} and holds {array.dtype}; wanted is (height, width, 3) "
                                         "of RGB, uint8")
    import cv2  # as for masks: only where it is needed
    return cv2.imencode(".jpg", array[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()


def _live_frame(response: httpx.Response) -> LiveFrame:
    document: Mapping[str, Any] = response.json()
    return LiveFrame(document["frame_idx"], document["timestamp_s"], masks_by_object(document), document["dropped"],
                     document["queue_ms"], document["step_ms"])
