"""`cutout` and `cutout-png`: the chosen objects on a transparent ground."""

from __future__ import annotations

from collections.abc import Generator

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.errors import EngineError
from sam_service.export.archive import Member, zip_stream
from sam_service.export.clip import Clip, Masks, Options
from sam_service.export.webm import film

_PNG_PARAMS = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def write_cutout(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """A WebM with an alpha channel: VP9, the alpha beside each picture as a stream of its own."""
    return film(clip, _pictures(clip, options), alpha=True)


def write_cutout_png(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """`<frame>.png` for every frame of the range: 8-bit RGBA, alpha not multiplied in."""
    return zip_stream(_members(clip, options))


def _members(clip: Clip, options: Options) -> Generator[Member, None, None]:
    for place, picture in enumerate(_pictures(clip, options)):
        ok, encoded = cv2.imencode(".png", picture, _PNG_PARAMS)
        if not ok:
            raise EngineError(f"a picture of shape {picture.shape} could not be encoded as PNG")
        yield Member(f"{clip.first + place:05d}.png", encoded.tobytes())


def _pictures(clip: Clip, options: Options) -> Generator[NDArray[np.uint8], None, None]:
    """Every frame of the range as BGRA, uint8 (H, W, 4); black where it is fully transparent."""
    with clip.open_pictures() as pictures:
        for index, masks in clip.all_frames():
            alpha = feathered(_union(clip, masks), options.feather_px)
            red, green, blue = cv2.split(cv2.copyTo(pictures.read(index), alpha))
            yield np.asarray(cv2.merge((blue, green, red, alpha)), np.uint8)


def _union(clip: Clip, masks: Masks) -> NDArray[np.bool_]:
    whole = np.zeros((clip.height, clip.width), np.bool_)
    for mask in masks:
        whole |= clip.pixels(mask)
    return whole


def feathered(mask: NDArray[np.bool_], width_px: float) -> NDArray[np.uint8]:
    """The mask's alpha, uint8 (H, W): 0 and 255, or rising over `width_px` pixels across the boundary, half of it inside."""
    alpha = np.where(mask, np.uint8(255), np.uint8(0))
    if width_px <= 0:
        return alpha
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    from_edge = np.where(mask, inside - 0.5, 0.5 - outside)  # the distances are between centres of pixels
    return np.asarray(np.rint(255 * np.clip(0.5 + from_edge / width_px, 0, 1)), np.uint8)
