"""Polygons that pycocotools, and any filling by the even-odd rule, paint back to the mask they came from."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco  # type: ignore[import-untyped,unused-ignore]
from sam_service.errors import TooLarge
from sam_service.masks.polygons import mask_to_polygons
from sam_service.masks.rle import decode_rle

Mask = npt.NDArray[np.bool_]


def painted(polygons: list[list[float]], shape: tuple[int, int]) -> Mask:
    rle = coco.merge(coco.frPyObjects(polygons, *shape))
    return decode_rle({**rle, "counts": rle["counts"].decode()})


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def blob(seed: int, shape: tuple[int, int] = (180, 320)) -> Mask:
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 7) > 0.01)


def test_empty_mask() -> None:
    assert mask_to_polygons(np.zeros((5, 5), np.bool_)) == []


def test_a_rectangle_is_its_four_corners() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[2:5, 3:9] = True
    (polygon,) = mask_to_polygons(mask)
    points = sorted(zip(polygon[::2], polygon[1::2], strict=True))
    assert points == [(3, 2), (3, 5), (9, 2), (9, 5)]


def test_a_single_pixel_is_a_square() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[3, 0] = True
    (polygon,) = mask_to_polygons(mask)
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert np.array_equal(painted([polygon], (4, 4)), mask)


def test_one_polygon_per_component() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[1:4, 1:4] = mask[10:15, 8:12] = mask[19, 19] = True
    assert len(mask_to_polygons(mask)) == 3


def test_holes_stay_empty() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:35, 5:55] = True
    mask[10:20, 10:20] = mask[15:30, 30:45] = False
    polygons = mask_to_polygons(mask)
    assert len(polygons) == 1
    assert iou(painted(polygons, (40, 60)), mask) > 0.99


def test_an_island_in_a_hole_is_a_component_of_its_own() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[5:35, 5:35] = True
    mask[10:30, 10:30] = False
    mask[15:25, 15:25] = True
    polygons = mask_to_polygons(mask)
    assert len(polygons) == 2
    assert iou(painted(polygons, (40, 40)), mask) > 0.99


def test_ragged_masks_come_back() -> None:
    for seed in range(3):
        mask = blob(seed)
        assert iou(painted(mask_to_polygons(mask), (180, 320)), mask) > 0.98


def test_without_tolerance_any_mask_comes_back_exactly() -> None:
    for mask in (blob(0), np.random.default_rng(0).random((60, 80)) > 0.7):
        assert np.array_equal(painted(mask_to_polygons(mask, tolerance_px=0), mask.shape), mask)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_thousands_of_holes_come_back_exactly(step: int) -> None:
    mask = np.ones((step * 40 + 1, step * 50 + 1), np.bool_)
    mask[1::step, 1::step] = False
    mask[2::step, 1 : 10 * step : 2 * step] = False
    assert np.array_equal(painted(mask_to_polygons(mask, tolerance_px=0), mask.shape), mask)


def test_more_outlines_than_anybody_draws_are_refused() -> None:
    mask = np.ones((2 * 150 + 1, 2 * 150 + 1), np.bool_)
    mask[1::2, 1::2] = False
    with pytest.raises(TooLarge, match="20000") as refused:
        mask_to_polygons(mask)
    assert (refused.value.field, refused.value.code) == ("mask_format", "too_many_outlines")


def test_straightening_spares_points() -> None:
    points = [sum(map(len, mask_to_polygons(blob(0), tolerance))) for tolerance in (0, 0.5)]
    assert points[1] < points[0] / 2


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_every_polygon_is_valid(mask: Mask) -> None:
    height, width = mask.shape
    polygons = mask_to_polygons(mask)
    components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    assert len(polygons) == components
    for polygon in polygons:
        assert len(polygon) >= 6
        assert len(polygon) % 2 == 0
        assert all(0 <= x <= width for x in polygon[::2])
        assert all(0 <= y <= height for y in polygon[1::2])
