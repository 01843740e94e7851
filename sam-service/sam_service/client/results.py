"""What the service's answers become. Masks stay compressed until they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray


class ObjectState(TypedDict):
    """An object of a session. color: `#rrggbb`; prompted_frames: frames with a prompt for it; locked: nothing may change its
    masks; absent_from: frames from which on it is not in the picture, up to its next prompt."""

    object_id: int
    name: str
    color: str
    prompted_frames: list[int]
    locked: bool
    absent_from: list[int]


class Step(TypedDict):
    """What was done at once, and is undone or redone at once. kind: add, refine, clear, remove, edit, merge, absent or
    start_over; frame_idx: None where it is about no frame, or several."""

    kind: str
    object_ids: list[int]
    frame_idx: int | None


class History(TypedDict):
    """What can be undone and redone, the next one first."""

    undo: list[Step]
    redo: list[Step]


class Moved(TypedDict):
    """What was undone or redone. object_ids: all objects now; changed_frames: frames whose masks are others now."""

    session_id: str
    step: Step
    object_ids: list[int]
    changed_frames: list[int]
    history: History


class SessionState(TypedDict):
    """A session as `GET /sessions/{id}` answers it; `docs/api.md` describes each field.

    status: extracting, ready, failed or live; width, height: pixels; expires_at, created_at: seconds since 1970; live: how a
    live session deals with its frames, None of one with a file.
    """

    session_id: str
    status: str
    num_frames: int
    frames_ready: int
    width: int
    height: int
    original_width: int
    original_height: int
    scale_factor: float
    fps: float
    truncated: bool
    model: dict[str, Any]
    expires_at: float
    video_name: str
    created_at: float
    objects: list[ObjectState]
    prompts: list[dict[str, Any]]
    frames_with_masks: list[int]
    running: dict[str, Any] | None
    history: History
    error: str | None
    live: dict[str, Any] | None


@dataclass(frozen=True)
class ObjectMask:
    """One object on one frame.

    score: predicted IoU; object_score: probability that the object is in the frame; area: pixels; bbox: [x, y, w, h] in
    pixels, None for an empty mask; rle: the mask as COCO run lengths, None where it was not asked for.
    """

    object_id: int
    frame_index: int
    score: float
    object_score: float
    area: int
    bbox: tuple[int, int, int, int] | None
    rle: Mapping[str, Any] | None

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, (H, W) bool, decoded when it is first read."""
        from sam_service.masks.rle import decode_rle  # imports OpenCV, needed for masks only
        if self.rle is None:
            raise ValueError("this answer was asked for without masks")
        return decode_rle(self.rle)


@dataclass(frozen=True)
class FrameMasks:
    """The objects on one frame, by object id."""

    index: int
    timestamp_s: float
    masks: dict[int, ObjectMask]


@dataclass(frozen=True)
class PropagatedFrame(FrameMasks):
    """A frame of a propagation under way. done, total: its progress in frames."""

    done: int
    total: int
    frames_per_second: float


@dataclass(frozen=True)
class Track:
    """An object through the clip, in columns of equal length. frames: (N,) int64; score, object_score: (N,) float64;
    area: (N,) int64, pixels."""

    object_id: int
    frames: NDArray[np.int64]
    score: NDArray[np.float64]
    object_score: NDArray[np.float64]
    area: NDArray[np.int64]


def object_mask(document: Mapping[str, Any]) -> ObjectMask:
    """An object mask of the contract."""
    box = document["bbox"]
    return ObjectMask(document["object_id"], document["frame_idx"], document["score"], document["object_score"],
                      document["area"], None if box is None else (box[0], box[1], box[2], box[3]), document["mask"])


def frame_masks(document: Mapping[str, Any]) -> FrameMasks:
    """All masks of a frame."""
    return FrameMasks(document["frame_idx"], document["timestamp_s"], masks_by_object(document))


def propagated_frame(event: Mapping[str, Any]) -> PropagatedFrame:
    """The `frame` event of a propagation."""
    return PropagatedFrame(event["frame_idx"], event["timestamp_s"], masks_by_object(event), event["done"], event["total"],
                           event["frames_per_second"])


def tracks(document: Mapping[str, Any]) -> dict[int, Track]:
    """The columns of `GET /sessions/{id}/tracks`, by object id."""
    return {columns["object_id"]: Track(
        columns["object_id"], np.asarray(columns["frames"], np.int64), np.asarray(columns["score"], np.float64),
        np.asarray(columns["object_score"], np.float64), np.asarray(columns["area"], np.int64))
        for columns in document["objects"]}


def masks_by_object(document: Mapping[str, Any]) -> dict[int, ObjectMask]:
    """The object masks of a frame."""
    return {item["object_id"]: object_mask(item) for item in document["objects"]}
