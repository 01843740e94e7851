"""First guesses of an object's mask from its clicks or its box alone, with no network: GrabCut at several scales. No torch.

A click does not say how large its object is. So there is one guess for each of a few radii, and the nano model, which was
trained with such a guess as the mask prompt of an object's first prompt, decodes them all and keeps the one that it
rates best. A box is looked at closer, so that a small object has as many pixels as a large one. (Clicks were, too: neither
better nor worse, and slower.) Some guesses start from what moves along with the prompt's object, where that differs from how
the camera moves; the others are as if nothing moved, for motion may mislead. The largest of a click's grows with it.

W, H: the frame in pixels. s: side of the model's logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from sam_service.core.frames import Crop, Floats, Image, Mask, Window, resized
from sam_service.core.models.nano.grabcut import (
    LIMIT,
    SIDE,
    STRETCH,
    Labels,
    as_logits,
    distances_from,
    grab_cut,
    lab,
    press,
    touching,
)
from sam_service.core.models.nano.zoom import cut_out, paste
from sam_service.core.prompts import POSITIVE, PointPrompt

CLICK_RADII = (0.06, 0.09, 0.13)  # share of the frame's width that an object is first thought to reach from a click
MOVING_FROM = 0.08  # from this share of the frame's width on a guess starts from what moves along
LARGEST_RADIUS = 0.2  # share of the frame's width to which the last radius grows where something large moves along
FILLED = 0.7  # share of the ellipses of such a radius around the clicks that moves along with them
BRIDGE = 7  # pixels; what moves along and is thinner is let go
UNMOVED = 0.35  # of a radius: object at first, however it moves
SURE_SHARE = 0.15  # of a radius: object for sure
REACH = 2.0  # beyond this many radii a pixel is background for sure
MARGIN = 1.35  # how far the picture is looked at, in reaches
LIGHTNESS_FROM = 0.12  # from this radius on colours are compared in Lab, which parts large objects better than RGB
BOX_SCALES = (1.1, 0.8)  # of the ellipse in a box that is likely the object
BOX_SIDES = (SIDE, 128)  # pixels at most of the picture for each; the coarser one minds texture less
BOX_MOVING = (False, True)  # whether the guess starts from what moves along
BOX_UNMOVED = 0.7  # share of the way to a box's sides: object at first, however it moves
BOX_SURE = 0.25  # share of the way from the middle of a box to its sides
BOX_LEAST = 0.38  # of the box's ellipse; a guess smaller than that has failed
BOX_CONTEXT = 0.35  # of a box's sides, looked at around it
LEAST_CONTEXT = 4.0  # pixels of the frame
BOX_TOUCH = 4.0  # pixels of the picture around a click beside a box

Look = Callable[[Window], Image]
Moving = Callable[[], Floats | None]


@dataclass(frozen=True, slots=True)
class View:
    """A window of the frame as a picture of columns x rows."""

    window: Window
    columns: int
    rows: int

    @classmethod
    def of(cls, window: Window, most: int) -> View:
        """A window no larger than in the frame and no side longer than `most`."""
        width, height = window.x1 - window.x0, window.y1 - window.y0
        scale = min(1.0, most / max(width, height))
        return cls(window, max(1, round(width * scale)), max(1, round(height * scale)))

    @property
    def scale(self) -> float:
        """Pixels of the picture per pixel of the frame."""
        return self.columns / (self.window.x1 - self.window.x0)

    def places(self) -> tuple[Floats, Floats]:
        """x and y of each pixel's middle, in pixels of the frame: (columns,) and (rows, 1)."""
        window = self.window
        x = window.x0 + (np.arange(self.columns) + 0.5) * (window.x1 - window.x0) / self.columns - 0.5
        y = window.y0 + (np.arange(self.rows) + 0.5) * (window.y1 - window.y0) / self.rows - 0.5
        return x.astype(np.float32), y.astype(np.float32)[:, None]


def proposals(look: Look, pixels: Image, width: int, height: int, prompt: PointPrompt, side: int,
              moving: Moving = lambda: None) -> Floats:
    """Logits (K, s, s) of K first guesses, all of which hold the clicks.

    look: gives a window of the frame as RGB, for boxes; pixels: the whole frame, squashed to a square, for clicks; prompt: in
    pixels of the frame. Without a box there must be a positive click, or the guesses are empty. moving: gives (m, m) of the
    whole frame, negative where it moves along with the object, or None; called once, in a thread.
    """
    box = prompt.box
    if box is not None:
        window = _around(box, width, height)
        picture = look(window)

        def boxed(likely: float, most: int, heeds_motion: bool, moving: Moving) -> Floats:
            view = View.of(window, most)
            motion = moving() if heeds_motion else None
            along = None if motion is None else cut_out(motion, window, width, height, (view.columns, view.rows)) < 0
            mask = _from_box(resized(picture, view.columns, view.rows), view, prompt, box, likely, along)
            empty = np.full((side, side), -LIMIT, np.float32)
            return paste(empty, Crop(window, as_logits(mask, side)), width, height)

        return _side_by_side([partial(boxed, *how) for how in zip(BOX_SCALES, BOX_SIDES, BOX_MOVING, strict=True)], moving)
    points, labels = prompt.clicks
    points = (points * [SIDE / width, SIDE / height]).astype(np.float32)
    small = resized(pixels, SIDE, SIDE)

    def clicked(radius: float, moving: Moving) -> Floats:
        motion = moving() if radius >= MOVING_FROM * SIDE else None
        along = None if motion is None else cv2.resize(motion, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) < 0
        if along is not None and radius == CLICK_RADII[-1] * SIDE:
            radius = max(radius, min(LARGEST_RADIUS * SIDE, _reach(along, points[labels == POSITIVE])))
        return as_logits(_from_clicks(small, points, labels, radius, along), side)

    return _side_by_side([partial(clicked, radius * SIDE) for radius in CLICK_RADII], moving)


def _reach(along: Mask, points: Floats) -> float:
    """The radius of the ellipse that is as large as what moves along (SIDE, SIDE) and hangs together with the clicks (P, 2); 0
    where it leaves such ellipses around the clicks unfilled, and so is something else."""
    thick = cv2.morphologyEx(along.astype(np.uint8), cv2.MORPH_OPEN, np.ones((BRIDGE, BRIDGE), np.uint8)) > 0
    columns, rows = points.round().astype(int).clip(0, SIDE - 1).T
    clicked = np.zeros_like(thick)
    clicked[rows, columns] = True
    whole = touching(thick, clicked)
    radius = float(np.sqrt(whole.sum() / (np.pi * STRETCH)))
    y, x = np.indices((SIDE, SIDE), np.float32)
    near = np.minimum.reduce(distances_from(points, x, y)) < radius
    return radius if (whole & near).sum() > FILLED * near.sum() else 0.0


def _side_by_side(guesses: Sequence[Callable[[Moving], Floats]], moving: Moving) -> Floats:
    """All guesses; GrabCut lets go of Python's lock, and a click's last guess, the largest, takes longest. Those that do not
    ask what moves are at work while that is found out."""
    with ThreadPoolExecutor(len(guesses) + 1) as threads:
        motion = threads.submit(moving)
        jobs = [threads.submit(guess, motion.result) for guess in reversed(guesses)]
        return np.stack([job.result() for job in reversed(jobs)])


def _around(box: Floats, width: int, height: int) -> Window:
    """A box and what is around it."""
    context = BOX_CONTEXT * (box[2:] - box[:2]) + LEAST_CONTEXT
    x0, y0 = np.floor(box[:2] - context).clip(0, [width - 1, height - 1]).astype(int)
    x1, y1 = np.ceil(box[2:] + context).clip([x0 + 1, y0 + 1], [width, height]).astype(int)
    return Window(int(x0), int(y0), int(x1), int(y1))


def _from_clicks(image: Image, points: Floats, labels: Labels, radius: float, along: Mask | None) -> Mask:
    """GrabCut (SIDE, SIDE) from an ellipse of that radius in pixels around every positive click, or what moves along in it."""
    found = np.zeros((SIDE, SIDE), np.bool_)
    positive = points[labels == POSITIVE]
    if not len(positive):
        return found
    extent = MARGIN * REACH * radius * np.array([1, STRETCH])
    x0, y0 = np.floor(positive.min(0) - extent).clip(0, SIDE - 1).astype(int)
    x1, y1 = np.ceil(positive.max(0) + extent).clip(0, SIDE - 1).astype(int) + 1
    part = slice(y0, y1), slice(x0, x1)
    rows, columns = np.mgrid[part].astype(np.float32)
    distances = distances_from(points, columns, rows)
    nearest = np.minimum.reduce([d for d, label in zip(distances, labels, strict=True) if label == POSITIVE])
    seeds = np.full(nearest.shape, cv2.GC_BGD, np.uint8)
    seeds[nearest < REACH * radius] = cv2.GC_PR_BGD
    likely = nearest < radius
    if along is not None:
        likely &= along[part] | (nearest < UNMOVED * radius)
    seeds[likely] = cv2.GC_PR_FGD
    press(seeds, distances, labels, max(1.5, SURE_SHARE * radius))
    sure = seeds == cv2.GC_FGD
    picture = image[part] if radius < LIGHTNESS_FROM * SIDE else lab(image[part])
    found[part] = touching(grab_cut(picture, seeds), sure)
    return found


def _from_box(picture: Image, view: View, prompt: PointPrompt, box: Floats, likely: float, along: Mask | None) -> Mask:
    """GrabCut (rows, columns) from the ellipse in a box, which `likely` scales, or from what moves along in the box."""
    points, labels = prompt.clicks
    columns, rows = view.places()
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2] + 1) / 2
    across, down = (columns - middle[0]) / half[0], (rows - middle[1]) / half[1]
    radius = np.hypot(across, down)
    seeds = np.full(radius.shape, cv2.GC_BGD, np.uint8)
    inside = (np.abs(across) <= 1) & (np.abs(down) <= 1)
    seeds[inside] = cv2.GC_PR_BGD
    seeds[inside & (radius < likely if along is None else along | (radius < BOX_UNMOVED))] = cv2.GC_PR_FGD
    seeds[radius < max(BOX_SURE, float(radius.min()) + 1e-3)] = cv2.GC_FGD
    press(seeds, distances_from(points, columns, rows, 1.0), labels, BOX_TOUCH / view.scale)
    guess = grab_cut(lab(picture), seeds)
    ellipse = radius < 1
    failed = guess.sum() < BOX_LEAST * ellipse.sum()  # the object looks like its surroundings
    return np.asarray(ellipse if failed else guess)
