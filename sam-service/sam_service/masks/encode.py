"""A mask in the form that a client asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from sam_service.errors import InvalidInput
from sam_service.masks.png import encode_png, to_base64
from sam_service.masks.polygons import mask_to_polygons
from sam_service.masks.rle import Rle, encode_rle

MaskFormat = Literal["png", "rle", "polygons", "none"]
EncodedMask = str | Rle | list[list[float]] | None


def encode_mask(mask: npt.NDArray[np.bool_], mask_format: MaskFormat) -> EncodedMask:
    """Return `mask`, bool (H, W), as base64 of a PNG, as COCO RLE, as polygons or not at all.

    Raises `InvalidInput` (field `mask_format`) for any other format.
    """
    match mask_format:
        case "png":
            return to_base64(encode_png(mask))
        case "rle":
            return encode_rle(mask)
        case "polygons":
            return mask_to_polygons(mask)
        case "none":
            return None
        case _:
            raise InvalidInput("mask_format is not one of png, rle, polygons, none", field="mask_format")
