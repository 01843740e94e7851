"""Nothing that is not finite, floating point and of the right shape becomes a mask."""

from __future__ import annotations

import numpy as np
import pytest
from sam_service.errors import InvalidMask
from sam_service.masks.validate import binarize, check_logits


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_good_logits_pass(dtype: type) -> None:
    check_logits(np.zeros((3, 4), dtype), (3, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_told(value: float) -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[1, 2] = value
    with pytest.raises(InvalidMask, match="1 of 12"):
        check_logits(logits, (3, 4))


def test_wrong_shape_and_type_are_told() -> None:
    with pytest.raises(InvalidMask, match="shape"):
        check_logits(np.zeros((4, 3), np.float32), (3, 4))
    check_logits(np.zeros((4, 3), np.float32))
    with pytest.raises(InvalidMask, match="shape"):
        check_logits(np.zeros((1, 4, 3), np.float32))
    with pytest.raises(InvalidMask, match="type"):
        check_logits(np.zeros((3, 4), np.uint8), (3, 4))


def test_the_threshold_is_above_zero() -> None:
    mask = binarize(np.array([[-1.0, 0.0, 1e-6]], np.float32))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True]]
