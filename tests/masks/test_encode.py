"""One mask in each of the forms that a client can ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sam_service.errors import InvalidInput
from sam_service.masks.encode import encode_mask
from sam_service.masks.png import decode_png, from_base64
from sam_service.masks.rle import decode_rle

MASK = np.eye(5, dtype=np.bool_)


def test_every_format() -> None:
    encoded: Any = encode_mask(MASK, "png")
    assert np.array_equal(decode_png(from_base64(encoded)), MASK)
    encoded = encode_mask(MASK, "rle")
    assert np.array_equal(decode_rle(encoded), MASK)
    encoded = encode_mask(MASK, "polygons")
    assert len(encoded) == 1
    assert encode_mask(MASK, "none") is None


def test_an_unknown_format_is_told() -> None:
    unknown: Any = "tiff"
    with pytest.raises(InvalidInput) as caught:
        encode_mask(MASK, unknown)
    assert caught.value.field == "mask_format"
