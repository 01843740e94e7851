"""Corrections of a mask by clicks, with no network: each changes what hangs together with its click and nothing else. No torch.

A click says that its pixel is wrong, and not how much around it. So GrabCut runs around the click, a few times as far as it is
from the mask's outline, with several sizes of what is sure and what is likely to change; of the changes that come out the one
is kept whose outline runs along edges of the picture best, or the smallest where each would change too much of the mask. So a
click is always heeded. Colours are compared within that part alone.

W, H: the session's frame in pixels. s: side of the model's logits.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from sam_service.core.frames import Crop, Floats, Image, Mask, Window, resized, shrunk, upsample
from sam_service.core.models.nano.grabcut import SIDE, as_logits, grab_cut, lab
from sam_service.core.prompts import POSITIVE, PointPrompt

REACH, LEAST_REACH = 4.0, 8.0  # how far a correction goes: in distances of its click from the outline, and at least, in pixels
SURE_AND_LIKELY = ((0.2, 0.5), (0.5, 1.0), (0.9, 1.3))  # radii around a click, in the same distances
LEAST_SURE, LEAST_LIKELY = 1.5, 2.5  # pixels
CONTEXT = 1.5  # how far GrabCut looks, in reaches
SOFTNESS = 2.0  # sigma in pixels of the blur before edges are looked for
MOST_LOST, MOST_GAINED = 0.6, 1.0  # of a mask, by one click, where a smaller change can be had


def corrected(mask: Mask, image_rgb: Image, prompt: PointPrompt) -> Mask:
    """A mask (SIDE, SIDE) after each click that it has wrong was heeded; image (SIDE, SIDE, 3), the prompt in its pixels."""
    colours = lab(image_rgb)
    soft = cv2.GaussianBlur(colours, (0, 0), SOFTNESS).astype(np.float32)
    points, labels = prompt.clicks
    inside = ((points >= 0) & (points <= SIDE)).all(axis=1)
    for point, label in zip(points[inside], labels[inside], strict=True):
        mask = _one(mask, colours, soft, point, points[inside & (labels != label)], add=bool(label == POSITIVE))
    return mask


def within(window: Window, image_rgb: Image, prompt: PointPrompt, logits: Floats, crop: Crop | None, width: int,
           height: int) -> Floats | None:
    """The answer (s, s) for a window of a frame, seen as image_rgb (h, w, 3), after an earlier one (s, s) for the whole frame,
    with its finer part, was corrected there; the prompt in pixels of the frame. None where no click is wrong."""
    small = resized(image_rgb, SIDE, SIDE)
    columns, rows = round(width * SIDE / (window.x1 - window.x0)), round(height * SIDE / (window.y1 - window.y0))
    left, top = round(window.x0 / width * columns), round(window.y0 / height * rows)
    part = upsample(logits, crop, width, height, columns, rows)[top:top + SIDE, left:left + SIDE]
    before = np.asarray(cv2.resize(part, (SIDE, SIDE)), np.float32)
    after = corrected(before > 0, small, window.map(prompt, SIDE))
    if (after == (before > 0)).all():
        return None
    changed = shrunk((after != (before > 0)).astype(np.float32), len(logits)) > 0
    kept = crop.logits if crop is not None and crop.window == window else shrunk(before, len(logits))
    return np.asarray(np.where(changed, as_logits(after, len(logits)), kept), np.float32)


def _one(mask: Mask, colours: Image, soft: Floats, point: Floats, against: Floats, *, add: bool) -> Mask:
    """The mask with a click heeded; unchanged where the click agrees with it. against: clicks (P, 2) that say the opposite."""
    column, row = point.astype(int).clip(0, SIDE - 1)
    right = mask == add  # already what the click says
    if right[row, column]:
        return mask
    outline = cv2.distanceTransform(np.pad((~right).astype(np.uint8), 1, constant_values=int(add)), cv2.DIST_L2, 5)
    depth = float(outline[row + 1, column + 1])
    reach = max(LEAST_REACH, REACH * depth)
    x0, y0 = (point - CONTEXT * reach).clip(0, SIDE - 1).astype(int)
    x1, y1 = (point + CONTEXT * reach + 1).clip(1, SIDE).astype(int)
    view = slice(y0, y1), slice(x0, x1)
    rows, columns = np.mgrid[view].astype(np.float32)
    distance = np.hypot(columns - point[0], rows - point[1])
    free = np.ones(distance.shape, np.bool_)
    for x, y in against:
        free &= np.hypot(columns - x, rows - y) >= LEAST_SURE

    def attempt(size: tuple[float, float]) -> tuple[Mask, float]:
        radii = max(LEAST_SURE, size[0] * depth), max(LEAST_LIKELY, size[1] * depth)
        found = _change(colours[view], right[view], distance, free & (distance < reach), radii, add=add)
        return found, _roughness(soft[view], mask[view] ^ found, found)

    with ThreadPoolExecutor(len(SURE_AND_LIKELY)) as threads:  # GrabCut lets go of Python's lock
        attempts = [(found, cost) for found, cost in threads.map(attempt, SURE_AND_LIKELY) if found.any()]
    most = (MOST_GAINED if add else MOST_LOST) * mask.sum()
    modest = [(found, cost) for found, cost in attempts if found.sum() <= most]
    out = mask.copy()
    if modest:
        out[view] ^= min(modest, key=lambda tried: tried[1])[0]
    elif attempts:
        out[view] ^= min(attempts, key=lambda tried: tried[0].sum())[0]
    return out


def _change(colours: Image, right: Mask, distance: Floats, free: Mask, radii: tuple[float, float], *, add: bool) -> Mask:
    """What GrabCut would change (h, w) of what is `free`, together with the click, given what is sure and what is likely."""
    sure, likely = radii
    yes, maybe, no, never = (cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD, cv2.GC_BGD) if add else (
        cv2.GC_BGD, cv2.GC_PR_BGD, cv2.GC_PR_FGD, cv2.GC_FGD)
    seeds = np.full(distance.shape, never, np.uint8)
    seeds[free] = no
    seeds[free & (distance < likely)] = maybe
    seeds[right | free & (distance < sure)] = yes
    changed = ((grab_cut(colours, seeds) == add) | (distance < sure)) & free & ~right
    _, parts = cv2.connectedComponents(changed.astype(np.uint8), connectivity=4)
    return np.asarray(np.isin(parts, np.setdiff1d(parts[distance < 2], [0])))


def _roughness(soft: Floats, mask: Mask, change: Mask) -> float:
    """How little the new outline of a changed mask follows edges of a picture (h, w, 3): GrabCut's penalty, 0 to 1."""
    steps, crossed = [], []
    for axis in (0, 1):
        step = np.square(np.diff(soft, axis=axis)).sum(-1)
        before, after = (slice(None, -1), slice(1, None))
        one, other = ((before, after) if axis == 0 else ((slice(None), before), (slice(None), after)))
        steps.append(step.ravel())
        crossed.append(step[(mask[one] != mask[other]) & (change[one] | change[other])])
    outline = np.concatenate(crossed)
    if not len(outline):
        return 0.0
    contrast = 2 * float(np.concatenate(steps).mean()) + 1e-6
    return float(np.exp(-outline / contrast).mean())
