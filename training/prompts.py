"""Prompts as users give them: clicks inside an object, boxes around it, corrections of what an answer got wrong.

Masks are (H, W) bool. Points are (x, y) in the mask's pixels, at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.models.nano.prompt_maps import Prompts

Mask = NDArray[np.bool_]
Point = tuple[float, float]
CLICKS, BOX_AND_CLICK = 0.66, 0.12  # how often a first prompt is a click; how often a box has one, too
CARELESS = (0.0, 0.02, 0.06)  # standard deviation of a box's sides, as shares of its size; each as often
DEEPEST = 0.75  # how often a first click lies deepest inside; else anywhere, deeper places more often
CORRECTED_DEEPEST = 0.65  # how often a correction lies deepest inside the deepest error; else in the largest one,
LARGEST_DEEPEST = 0.7  # and so often deepest in that


@dataclass
class Asked:
    """What one object was asked for so far: points, their labels (1 inside, 0 outside), and a box (x0, y0, x1, y1)."""

    points: list[Point] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None

    def add(self, point: Point, label: int) -> None:
        """One more click."""
        self.points.append(point)
        self.labels.append(label)


def depth(mask: Mask) -> NDArray[np.float32]:
    """How far each pixel of a mask is from its edge, in pixels; the picture's edge counts as one."""
    return np.asarray(cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def click_inside(mask: Mask, rng: np.random.Generator | None = None, deepest: float = DEEPEST) -> Point:
    """A point inside a mask that is not empty: the deepest one, or with `rng` sometimes another."""
    deep = depth(mask)
    if rng is None or rng.random() < deepest:
        at = int(deep.argmax())
    else:
        chance = deep.ravel().astype(np.float64)
        at = int(rng.choice(chance.size, p=chance / chance.sum()))
    return at % mask.shape[1] + 0.5, at // mask.shape[1] + 0.5


def box_around(mask: Mask, rng: np.random.Generator | None = None) -> tuple[float, float, float, float]:
    """The box around a mask that is not empty, with `rng` drawn as carelessly as people do."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float64)
    if rng is not None:
        box += rng.normal(size=4) * rng.choice(CARELESS) * np.tile(box[2:] - box[:2], 2)
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def first_prompt(mask: Mask, rng: np.random.Generator) -> Asked:
    """A click or a box, sometimes both."""
    if rng.random() < CLICKS:
        return Asked([click_inside(mask, rng)], [1])
    asked = Asked(box=box_around(mask, rng))
    if rng.random() < BOX_AND_CLICK:
        asked.add(click_inside(mask, rng), 1)
    return asked


def correction(
    answer: Mask, truth: Mask, usable: Mask, rng: np.random.Generator | None = None
) -> tuple[Point, int] | None:
    """A click in the deepest error, or with `rng` sometimes in the largest; and its label; None where nothing is wrong."""
    if rng is None or rng.random() < CORRECTED_DEEPEST:
        return _deepest_correction(answer, truth, usable)
    largest, found = 0, None
    for label in (1, 0):
        wrong = (answer != truth) & usable & (truth == bool(label))
        count, parts, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        if count > 1:
            part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            if stats[part, cv2.CC_STAT_AREA] > largest:
                largest, found = int(stats[part, cv2.CC_STAT_AREA]), (parts == part, label)
    return None if found is None else (click_inside(found[0], rng, LARGEST_DEEPEST), found[1])


def _deepest_correction(answer: Mask, truth: Mask, usable: Mask) -> tuple[Point, int] | None:
    """The place farthest from where the answer is right, as benchmarks click."""
    errors = {label: (answer != truth) & usable & (truth == bool(label)) for label in (1, 0)}
    label = max(errors, key=lambda label: float(depth(errors[label]).max()))
    return (click_inside(errors[label]), label) if errors[label].any() else None


def worn(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask as if it had been predicted badly: grown or shrunk, shifted, with discs added and taken out."""
    found = mask.astype(np.uint8)
    size = 2 * int(rng.integers(1, 7)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    how = rng.random()
    if how < 0.3:
        found = np.asarray(cv2.dilate(found, kernel), np.uint8)
    elif how < 0.55:
        thinner = np.asarray(cv2.erode(found, kernel), np.uint8)
        found = thinner if thinner.sum() > 0.2 * found.sum() else found
    if rng.random() < 0.5:
        found = np.roll(found, tuple(int(shift) for shift in rng.integers(-4, 5, 2)), (0, 1))
    height, width = mask.shape
    for _ in range(int(rng.integers(0, 3))):
        centre, radius = (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(2, max(3, height // 6)))
        found = np.ascontiguousarray(found)
        cv2.circle(found, centre, radius, int(rng.integers(2)), -1)
    return np.asarray(found > 0)


def tensors(asked: list[Asked], device: torch.device | None = None) -> Prompts:
    """For the network: one row for each object."""
    most = max(1, *(len(one.points) for one in asked))
    points, labels = np.zeros((len(asked), most, 2), np.float32), np.full((len(asked), most), -1)
    boxes = np.full((len(asked), 4), np.nan, np.float32)
    for row, one in enumerate(asked):
        for at, (point, label) in enumerate(zip(one.points, one.labels, strict=True)):
            points[row, at], labels[row, at] = point, label
        if one.box is not None:
            boxes[row] = one.box
    return Prompts(*(torch.from_numpy(array).to(device) for array in (points, labels, boxes)))
