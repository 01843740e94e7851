"""Masks drawn over frames."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.export.clip import Look
from sam_service.masks.palette import colour_of

OPACITY = {"tint": 0.45, "outline": 0.0, "spotlight": 0.7, "blur": 1.0}
"""How strong each look is unless somebody says otherwise."""


def draw_look(image: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]], look: Look, opacity: float | None = None, *,
              colours: Mapping[int, tuple[int, int, int]] | None = None) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB picture with the objects brought out.

    look: `tint` and `outline` draw on the (H, W) masks; `spotlight` darkens what is outside of them all, `blur` blurs it.
    opacity: of the tint, the darkness or the blurred picture, 0 to 1; None for OPACITY's. An outline has none.
    """
    strength = OPACITY[look] if opacity is None or look == "outline" else opacity
    if look in ("tint", "outline"):
        return draw_overlay(image, masks, strength, colours=colours)
    sigma = max(image.shape[:2]) / 60
    outside = np.zeros_like(image) if look == "spotlight" else np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    drawn = np.asarray(cv2.addWeighted(image, 1 - strength, outside, strength, 0), np.uint8)
    for mask in masks.values():
        cv2.copyTo(image, np.ascontiguousarray(mask).view(np.uint8), drawn)
    return drawn


def draw_overlay(image: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]], opacity: float = 0.45, *,
                 colours: Mapping[int, tuple[int, int, int]] | None = None) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB picture with each (H, W) mask tinted and outlined in its object's colour.

    colours: RGB by object; `colour_of` for those that are not in it.
    """
    drawn = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 500))
    for object_id, mask in masks.items():
        colour = (colours or {}).get(object_id) or colour_of(object_id)
        inside = np.ascontiguousarray(mask).view(np.uint8)
        x, y, width, height = cv2.boundingRect(inside)
        if width == 0:
            continue
        part = drawn[y : y + height, x : x + width]
        tinted = cv2.addWeighted(part, 1 - opacity, np.full_like(part, colour), opacity, 0)
        cv2.copyTo(tinted, inside[y : y + height, x : x + width], part)
        outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, thickness, cv2.LINE_AA)
    return drawn
