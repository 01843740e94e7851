"""COCO run lengths: exact both ways, equal to pycocotools, and safe against what a client may send."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco  # type: ignore[import-untyped,unused-ignore]
from sam_service.errors import InvalidInput, TooLarge
from sam_service.masks.rle import decode_rle, encode_rle, rle_area, rle_bbox

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(MASKS)
def test_round_trip(mask: npt.NDArray[np.bool_]) -> None:
    rle = encode_rle(mask)
    assert np.array_equal(decode_rle(rle), mask)
    assert rle["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert rle["size"] == list(mask.shape)


@given(MASKS)
def test_area_and_box(mask: npt.NDArray[np.bool_]) -> None:
    rle = encode_rle(mask)
    assert rle_area(rle) == mask.sum()
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        assert rle_bbox(rle) is None
        return
    x, y = int(columns.min()), int(rows.min())
    assert rle_bbox(rle) == [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]


def test_long_runs_and_views() -> None:
    mask = np.zeros((2000, 3000), np.bool_)
    mask[:, 2999] = True
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)
    assert np.array_equal(decode_rle(encode_rle(mask[::2, ::-1])), mask[::2, ::-1])


GOOD = encode_rle(np.eye(6, dtype=np.bool_))
BAD: dict[str, Any] = {
    "no object": "abc",
    "no size": {"counts": GOOD["counts"]},
    "three sides": {**GOOD, "size": [6, 6, 1]},
    "size of text": {**GOOD, "size": ["6", "6"]},
    "size of truth": {**GOOD, "size": [True, 36]},
    "size of nothing": {**GOOD, "size": [0, 6]},
    "size below nothing": {**GOOD, "size": [-6, -6]},
    "another size": {**GOOD, "size": [6, 7]},
    "no counts": {"size": [6, 6]},
    "counts as a list": {"size": [6, 6], "counts": [36]},
    "empty counts": {"size": [6, 6], "counts": ""},
    "wrong alphabet": {"size": [6, 6], "counts": "T1~"},
    "not ascii": {"size": [6, 6], "counts": "T1é"},
    "cut off": {"size": [6, 6], "counts": "T"},
    "negative run": {"size": [6, 6], "counts": "O" + "T1" + "1"},
    "endless number": {"size": [6, 6], "counts": "o" * 30 + "0"},
}


@pytest.mark.parametrize("rle", BAD.values(), ids=BAD.keys())
def test_what_is_not_an_rle_is_refused(rle: Any) -> None:
    for function in (decode_rle, rle_area, rle_bbox):
        with pytest.raises(InvalidInput) as caught:
            function(rle)
        assert caught.value.field == "mask"


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_any_string_is_refused_or_decoded(counts: str, height: int, width: int) -> None:
    try:
        mask = decode_rle({"size": [height, width], "counts": counts})
    except InvalidInput:
        return
    assert mask.shape == (height, width)


def test_pixel_limit() -> None:
    with pytest.raises(TooLarge):
        decode_rle({"size": [100_000, 100_000], "counts": "0"})
    with pytest.raises(TooLarge):
        decode_rle(GOOD, max_pixels=35)
