"""Looking at a picture: affine views, colours, and paths of a camera or an object.

A view is a (2, 3) matrix that takes pixels of the result to pixels of the picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
Size = tuple[int, int]
"""Height and width in pixels."""
ASPECTS = ((9 / 16, 0.45), (3 / 4, 0.25), (1.0, 0.15), (4 / 3, 0.15))
"""Height over width of training inputs, and how often each."""
CLEAR_SHARE = 0.6  # of an object that a crop shows at least, where that can be had in TRIES
SMALLEST = 0.004  # of the view
TRIES = 8
ZOOMED_AREA = (0.015, 0.4)  # share of a zoomed view that its object would fill if it were whole
CLOSEST, FARTHEST = 0.33, 1.2  # picture pixels for each pixel of a zoomed view; the latter times that of the whole picture
ZOOMED_SHARE = 0.7  # of the object that a zoomed view shows at least, where that can be had in TRIES


def view_of(centre: tuple[float, float], scale: float, angle: float, flip: bool, size: Size, stretch: float = 1.0) -> Floats:
    """The view whose middle shows `centre`; `scale` picture pixels for each of its own, `stretch` times as many across."""
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    across = -stretch if flip else stretch
    turn = np.array([[cos * across, -sin], [sin * across, cos]], np.float32)
    middle = np.array([[size[1] / 2 - 0.5], [size[0] / 2 - 0.5]], np.float32)
    return np.concatenate([turn, np.array([[centre[0]], [centre[1]]], np.float32) - turn @ middle], 1)


def seen(image: Image8, view: Floats, size: Size, *, labels: int | None = None) -> Image8:
    """The picture through the view, mirrored beyond its edges; labels are not blended, and `labels` beyond the edges."""
    if labels is None:
        flags, border, value = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0
    else:
        flags, border, value = cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, labels
    flags |= cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(image, view, (size[1], size[0]), flags=flags, borderMode=border, borderValue=value)
    return np.asarray(found, np.uint8)


def random_view(
    rng: np.random.Generator, labels: Image8, size: Size, label: int | None, whole: float = 0.35
) -> Floats:
    """The whole picture, squashed, with probability `whole`, or else a crop that shows most of the object `label`."""
    height, width = labels.shape
    flip = bool(rng.random() < 0.5)
    if rng.random() < whole:
        scale = height / size[0]
        return view_of((width / 2 - 0.5, height / 2 - 0.5), scale, 0, flip, size, width / size[1] / scale)
    ys, xs = np.nonzero(labels == label) if label is not None else (np.empty(0), np.empty(0))
    for _ in range(TRIES):
        scale = min(width / size[1], height / size[0]) * rng.uniform(0.5, 1.2)
        stretch = math.exp(rng.uniform(-0.12, 0.12))
        half_x, half_y = size[1] * scale * stretch / 2, size[0] * scale / 2
        x = rng.uniform(half_x, width - half_x) if half_x < width / 2 else width / 2
        y = rng.uniform(half_y, height - half_y) if half_y < height / 2 else height / 2
        if label is None:
            break
        inside = ((abs(xs - x) < half_x) & (abs(ys - y) < half_y)).sum()
        if inside >= CLEAR_SHARE * len(xs) and inside > SMALLEST * 4 * half_x * half_y:
            break
    return view_of((x, y), scale, rng.normal() * 0.08, flip, size, stretch)


def zoomed_view(rng: np.random.Generator, labels: Image8, size: Size, label: int) -> Floats:
    """A crop in which the object `label` has a random size, whatever its size in the picture."""
    height, width = labels.shape
    ys, xs = np.nonzero(labels == label)
    farthest = FARTHEST * min(width / size[1], height / size[0])
    for _ in range(TRIES):
        share = math.exp(rng.uniform(*np.log(ZOOMED_AREA)))
        scale = min(max(math.sqrt(len(ys) / (share * size[0] * size[1])), CLOSEST), farthest)
        stretch = math.exp(rng.uniform(-0.15, 0.15))
        half_x, half_y = size[1] * scale * stretch / 2, size[0] * scale / 2
        pixel = rng.integers(len(ys))
        x, y = xs[pixel] + rng.uniform(-0.8, 0.8) * half_x, ys[pixel] + rng.uniform(-0.8, 0.8) * half_y
        x = min(max(x, half_x), width - half_x) if half_x < width / 2 else width / 2
        y = min(max(y, half_y), height - half_y) if half_y < height / 2 else height / 2
        if ((abs(xs - x) < half_x) & (abs(ys - y) < half_y)).sum() >= ZOOMED_SHARE * len(xs):
            break
    return view_of((x, y), scale, rng.normal() * 0.1, bool(rng.random() < 0.5), size, stretch)


def path(rng: np.random.Generator, count: int, speed: float, zoom: float, turn: float) -> NDArray[np.float64]:
    """`count` poses, the first at rest: shift across and down in shares of the view, log of the scale, angle."""
    spread = np.array([speed, speed, zoom, turn])
    times = np.cumsum(np.r_[0, rng.uniform(0.4, 1.6, count - 1)])
    shake = np.r_[np.zeros((1, 4)), rng.normal(size=(count - 1, 4)) * spread * 0.35]
    return np.asarray(times[:, None] * rng.normal(size=4) * spread + shake)


def moved(view: Floats, pose: NDArray[np.float64], size: Size) -> Floats:
    """The view after what it shows has moved by a pose of `path`."""
    cos, sin = math.cos(pose[3]) * math.exp(-pose[2]), math.sin(pose[3]) * math.exp(-pose[2])
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    middle = np.array([size[1] / 2, size[0] / 2], np.float32)
    shift = middle - turn @ (middle + np.array([pose[0] * size[1], pose[1] * size[0]], np.float32))
    inner = np.eye(3, dtype=np.float32)
    inner[:2, :2], inner[:2, 2] = turn, shift
    return np.asarray((np.vstack([view, [[0, 0, 1]]]).astype(np.float32) @ inner)[:2], np.float32)


class Colours:
    """One random change of colours, the same for all frames of a clip: contrast, brightness, saturation, tint, blur."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.plain = bool(rng.random() < 0.25)
        self.contrast, self.brightness, self.saturation = rng.uniform(0.75, 1.3), rng.uniform(-22, 22), rng.uniform(0.5, 1.35)
        self.tint = rng.uniform(0.9, 1.1, 3).astype(np.float32)
        self.blur = float(rng.uniform(0.4, 1.3)) if rng.random() < 0.15 else 0.0

    def __call__(self, image: Image8) -> Image8:
        """(H, W, 3) uint8 -> the same shape."""
        if self.plain:
            return image
        x = image.astype(np.float32)
        grey = x.mean(2, keepdims=True)
        x = (grey + (x - grey) * self.saturation) * self.tint
        painted = ((x - 127) * self.contrast + 127 + self.brightness).clip(0, 255).astype(np.uint8)
        return np.asarray(cv2.GaussianBlur(painted, (0, 0), self.blur), np.uint8) if self.blur else painted
