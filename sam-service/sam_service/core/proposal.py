"""First guesses of an object's mask from its clicks or its box alone, with no network: GrabCut at several scales. No torch.

A click does not say how large its object is. So there is one guess for each of a few radii, and the nano model, which was
trained with such a guess as the mask prompt of an object's first prompt, decodes them all and keeps the one that it
rates best. Each guess looks at its own part of the frame alone, so that a small object has as many pixels as a large one.

W, H: the frame in pixels. s: side of the model's logits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.core.grabcut import LIMIT, SIDE, Mask, as_logits, grab_cut, lab, press, touching
from sam_service.core.prompts import POSITIVE, PointPrompt
from sam_service.core.zoom import Detail, Floats, Image, Window, put_back, resized

CLICK_RADII = (0.08, 0.12, 0.17)  # of a square as large as the frame, that an object is first thought to reach from a click
RADIUS_PIXELS = (24, 24, 32)  # at which GrabCut sees such a radius
SURE_SHARE = 0.15  # of a radius: object for sure
REACH = 2.0  # beyond this many radii a pixel is background for sure
MARGIN = 1.35  # how far the picture is looked at, in reaches
FLATNESS = 0.84  # of the ellipse around a click
LIGHTNESS_FROM = 0.16  # from this radius on colours are compared in Lab, which parts large objects better than RGB
BOX_SCALES = (1.1, 0.8)  # of the ellipse in a box that is likely the object
BOX_SIDES = (SIDE, 128)  # pixels at most of the picture for each; the coarser one minds texture less
BOX_SURE = 0.25  # share of the way from the middle of a box to its sides
BOX_LEAST = 0.38  # of the box's ellipse; a guess smaller than that has failed
BOX_CONTEXT = 0.35  # of a box's sides, looked at around it
LEAST_CONTEXT = 4.0  # pixels of the frame
BOX_TOUCH = 4.0  # pixels of the picture around a click beside a box

Look = Callable[[Window], Image]
Place = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class View:
    """A window of the frame as a picture of columns x rows."""

    window: Window
    columns: int
    rows: int

    @classmethod
    def between(cls, least: Place, most: Place, width: int, height: int, scale: float = 1.0, side: int = SIDE) -> View:
        """What lies from corner to corner (x, y), at `scale` pixels per pixel of the frame and no side longer than `side`."""
        x0, y0 = np.floor(least).clip(0, [width - 1, height - 1]).astype(int)
        x1, y1 = np.ceil(most).clip([x0 + 1, y0 + 1], [width, height]).astype(int)
        scale = min(1.0, scale, side / max(x1 - x0, y1 - y0))
        window = Window(int(x0), int(y0), int(x1), int(y1))
        return cls(window, max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))

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


def proposals(look: Look, width: int, height: int, prompt: PointPrompt, side: int) -> Floats:
    """Logits (K, s, s) of K first guesses, all of which hold the clicks.

    look: gives a window of the frame as RGB; prompt: in pixels of the frame. Without a box there must be a positive click, or
    the guesses are empty.
    """
    empty = np.full((side, side), -LIMIT, np.float32)
    positive, box = prompt.points[prompt.labels == POSITIVE], prompt.box
    if box is not None:
        settings, views = BOX_SCALES, [_view_of_box(box, most, width, height) for most in BOX_SIDES]
    elif len(positive):
        settings = tuple(radius * (width * height) ** 0.5 for radius in CLICK_RADII)
        views = [_view_of_clicks(positive, radius, radius_pixels, width, height)
                 for radius, radius_pixels in zip(settings, RADIUS_PIXELS, strict=True)]
    else:
        return np.stack([empty] * len(CLICK_RADII))
    pictures = {view: resized(look(view.window), view.columns, view.rows) for view in views}

    def guess(view: View, setting: float) -> Floats:
        if box is not None:
            mask = _from_box(pictures[view], view, prompt, box, setting)
        else:
            fine = setting < LIGHTNESS_FROM * (width * height) ** 0.5
            mask = _from_clicks(pictures[view] if fine else lab(pictures[view]), view, prompt, setting)
        return put_back(empty, Detail(view.window, as_logits(mask, side)), width, height)

    with ThreadPoolExecutor(len(views)) as threads:  # GrabCut lets go of Python's lock
        return np.stack(list(threads.map(guess, views, settings)))


def _view_of_clicks(positive: Floats, radius: float, radius_pixels: float, width: int, height: int) -> View:
    extent = MARGIN * REACH * radius * np.array([1, FLATNESS])
    return View.between(positive.min(0) - extent, positive.max(0) + extent, width, height, radius_pixels / radius)


def _view_of_box(box: Floats, side: int, width: int, height: int) -> View:
    context = BOX_CONTEXT * (box[2:] - box[:2]) + LEAST_CONTEXT
    return View.between(box[:2] - context, box[2:] + context, width, height, side=side)


def _from_clicks(picture: Image, view: View, prompt: PointPrompt, radius: float) -> Mask:
    """GrabCut (rows, columns) from an ellipse around every positive click, `radius` pixels of the frame wide."""
    points, labels = prompt.clicks
    columns, rows = view.places()
    distances = [np.hypot(columns - x, (rows - y) / FLATNESS) for x, y in points]
    nearest = np.minimum.reduce([d for d, label in zip(distances, labels, strict=True) if label == POSITIVE])
    seeds = np.full(nearest.shape, cv2.GC_BGD, np.uint8)
    seeds[nearest < REACH * radius] = cv2.GC_PR_BGD
    seeds[nearest < radius] = cv2.GC_PR_FGD
    press(seeds, distances, labels, SURE_SHARE * radius)
    sure = seeds == cv2.GC_FGD
    return touching(grab_cut(picture, seeds), sure)


def _from_box(picture: Image, view: View, prompt: PointPrompt, box: Floats, likely: float) -> Mask:
    """GrabCut (rows, columns) from the ellipse in a box; `likely` scales it."""
    points, labels = prompt.clicks
    columns, rows = view.places()
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2] + 1) / 2
    across, down = (columns - middle[0]) / half[0], (rows - middle[1]) / half[1]
    radius = np.hypot(across, down)
    seeds = np.full(radius.shape, cv2.GC_BGD, np.uint8)
    inside = (np.abs(across) <= 1) & (np.abs(down) <= 1)
    seeds[inside] = cv2.GC_PR_BGD
    seeds[inside & (radius < likely)] = cv2.GC_PR_FGD
    seeds[radius < max(BOX_SURE, float(radius.min()) + 1e-3)] = cv2.GC_FGD
    press(seeds, [np.hypot(columns - x, rows - y) for x, y in points], labels, BOX_TOUCH / view.scale)
    guess = grab_cut(lab(picture), seeds)
    ellipse = radius < 1
    failed = guess.sum() < BOX_LEAST * ellipse.sum()  # the object looks like its surroundings
    return np.asarray(ellipse if failed else guess)
