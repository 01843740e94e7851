"""A client's prompt, checked against its frame, becomes the prompt that the engine takes.

Every refusal is an `InvalidPrompt` that names the field. Coordinates are pixels of the session's frames, origin top left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_service.core.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, POSITIVE, MaskPrompt, PointPrompt, Prompt
from sam_service.errors import InvalidInput, InvalidPrompt
from sam_service.masks.given import read_mask
from sam_service.masks.png import decode_png, from_base64

MAX_POINTS = 256
CLAMPED_PX = 1.0  # what lies less than this outside of the frame is moved to its edge


@dataclass(frozen=True, slots=True)
class PromptInput:
    """A prompt as it came: lists of numbers, and a base64 PNG or JPEG; coordinates in pixels or, `normalized`, in fractions."""

    points: Sequence[Sequence[float]] | None = None
    labels: Sequence[int] | None = None
    box: Sequence[float] | None = None
    mask: str | None = None
    normalized: bool = False


def check_prompt(raw: PromptInput, width: int, height: int, *, stored: bool = False) -> Prompt:
    """Turn an input into a prompt for frames of width x height pixels. Raises InvalidPrompt.

    stored: it was accepted before, perhaps by a version with wider rules, and must not be lost now: of a mask that is not taken
    any more all that is not black is the object.
    """
    if raw.mask is not None:
        for field in ("points", "labels", "box"):
            if getattr(raw, field) is not None:
                raise InvalidPrompt(f"a mask is a prompt of its own; leave `{field}` out or the mask", field=field)
        return MaskPrompt(_mask(raw.mask, width, height, stored=stored))
    points, labels = _points(raw, width, height)
    if raw.box is not None:
        corners = _box(raw, width, height)
        points = np.concatenate([corners, points])
        labels = np.concatenate([np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.int32), labels])
    if len(points) == 0:
        raise InvalidPrompt("a prompt needs `points`, a `box` or a `mask`", field="points")
    return PointPrompt(points, labels, boxed=raw.box is not None)


def is_positive(prompt: Prompt) -> bool:
    """Whether a prompt says where the object is, not only where it is not."""
    return isinstance(prompt, MaskPrompt) or bool((prompt.labels != NEGATIVE).any())


def merge(earlier: Prompt | None, new: Prompt, *, replace: bool) -> Prompt:
    """What an object is prompted with on a frame once `new` comes on top of `earlier`.

    Points add to earlier points and a new box takes the place of an earlier one; a mask, or points after a mask, start anew.
    """
    if isinstance(new, MaskPrompt):
        return new
    if replace or not isinstance(earlier, PointPrompt):
        return PointPrompt(new.points, new.labels, fresh=replace, boxed=new.boxed)
    box = new if new.box is not None else earlier
    kept = box.labels >= BOX_TOP_LEFT
    earlier_points, earlier_labels = earlier.clicks
    new_points, new_labels = new.clicks
    points = np.concatenate([box.points[kept], earlier_points, new_points])
    if len(points) > MAX_POINTS:
        raise InvalidPrompt(f"an object takes at most {MAX_POINTS} points on a frame, and would have {len(points)}",
                            field="points")
    return PointPrompt(points, np.concatenate([box.labels[kept], earlier_labels, new_labels]), boxed=new.boxed)


def _points(raw: PromptInput, width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    if raw.points is None:
        if raw.labels is not None:
            raise InvalidPrompt("`labels` came without `points`", field="labels")
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    if not raw.points:
        raise InvalidPrompt("`points` is empty; give at least one [x, y], or leave it out", field="points")
    if len(raw.points) > MAX_POINTS:
        raise InvalidPrompt(f"at most {MAX_POINTS} points fit on a frame, and {len(raw.points)} came", field="points")
    labels = raw.labels if raw.labels is not None else [POSITIVE] * len(raw.points)
    if len(labels) != len(raw.points):
        raise InvalidPrompt(f"{len(raw.points)} points need {len(raw.points)} labels, and {len(labels)} came", field="labels")
    for index, label in enumerate(labels):
        if label not in (NEGATIVE, POSITIVE):
            raise InvalidPrompt(f"a label is 1 (object) or 0 (not the object), and labels[{index}] is {label}", field="labels")
    scaled = [_scale(f"points[{index}]", "points", point, raw.normalized, width, height)
              for index, point in enumerate(raw.points)]
    return np.array(scaled, np.float32), np.array(labels, np.int32)


def _box(raw: PromptInput, width: int, height: int) -> NDArray[np.float32]:
    assert raw.box is not None
    if len(raw.box) != 4:
        raise InvalidPrompt(f"a box is [x0, y0, x1, y1], and {len(raw.box)} numbers came", field="box")
    x0, y0 = _scale("the box's first corner", "box", raw.box[:2], raw.normalized, width, height)
    x1, y1 = _scale("the box's second corner", "box", raw.box[2:], raw.normalized, width, height)
    if x1 <= x0 or y1 <= y0:
        raise InvalidPrompt(f"the box is turned inside out or empty: x0 < x1 and y0 < y1 are needed, and it is "
                            f"[{', '.join(map(_shown, (x0, y0, x1, y1)))}]", field="box")
    return np.array([[x0, y0], [x1, y1]], np.float32)


def _scale(name: str, field: str, point: Sequence[float], normalized: bool, width: int, height: int) -> tuple[float, float]:
    if len(point) != 2:
        raise InvalidPrompt(f"{name} is not [x, y]: it has {len(point)} numbers", field=field)
    x, y = (float(value) for value in point)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InvalidPrompt(f"{name} is not finite", field=field)
    in_pixels = (x * width, y * height) if normalized else (x, y)
    if not (-CLAMPED_PX < in_pixels[0] < width + CLAMPED_PX and -CLAMPED_PX < in_pixels[1] < height + CLAMPED_PX):
        limit_x, limit_y = (1, 1) if normalized else (width, height)
        raise InvalidPrompt(f"{name} ({_shown(x)}, {_shown(y)}) lies outside the frame: x goes from 0 to {limit_x}, "
                            f"y from 0 to {limit_y}", field=field)
    return min(max(in_pixels[0], 0.0), float(width)), min(max(in_pixels[1], 0.0), float(height))


def _shown(value: float) -> str:
    """A number as it was given: 640.0001, not 640."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _mask(encoded: str, width: int, height: int, *, stored: bool) -> NDArray[np.bool_]:
    data = from_base64(encoded)
    try:
        mask = read_mask(data, width, height)
    except InvalidInput:
        if not stored:
            raise
        mask = decode_png(data, max_pixels=width * height)
    if not mask.any():
        raise InvalidPrompt("the mask is empty", field="mask")
    return mask
