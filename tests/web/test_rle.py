"""The page reads run lengths as the service writes them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.masks.rle import encode_rle, rle_bbox

from tests.web.studio import Studio

DECODE = """async (masks) => {
  const { decodeBox } = await import("/studio/rle.js");
  return masks.map(({ rle, bbox }) => Array.from(decodeBox(rle, bbox)));
}"""


def shapes() -> list[NDArray[np.bool_]]:
    """Masks of many kinds: noise, one pixel, everything, edges, columns, runs over column ends, a large odd size."""
    rng = np.random.default_rng(3)
    masks = [rng.random((height, width)) < share for height, width, share in
             ((1, 1, 1.0), (7, 5, 0.5), (40, 60, 0.1), (64, 64, 0.9), (33, 129, 0.5))]
    masks += [np.ones((20, 30), np.bool_), np.zeros((20, 30), np.bool_)]
    masks[-1][13, 29] = True
    blob = np.zeros((241, 363), np.uint8)
    cv2.ellipse(blob, (180, 120), (160, 110), 20, 0, 360, 1, -1)
    return [*masks, blob.astype(np.bool_), np.pad(np.ones((50, 4), np.bool_), ((0, 0), (9, 30)))]


def test_masks_are_decoded_pixel_for_pixel(studio: Studio) -> None:
    studio.start()
    sent = [{"rle": encode_rle(mask), "bbox": rle_bbox(encode_rle(mask))} for mask in shapes()]
    for mask, given, found in zip(shapes(), sent, studio.page.evaluate(DECODE, sent), strict=True):
        bbox = given["bbox"]
        assert isinstance(bbox, list)
        x, y, width, height = bbox
        inside = np.array(found, np.uint8).reshape(height + 2, width + 2)
        assert (inside[1:-1, 1:-1] == mask[y: y + height, x: x + width]).all(), mask.shape
        inside[1:-1, 1:-1] = 0
        assert not inside.any(), "the margin stays empty"


@pytest.mark.parametrize("edge", [1, 2])
def test_masks_are_painted_with_an_outline(studio: Studio, edge: int) -> None:
    studio.start()
    mask = np.zeros((30, 40), np.bool_)
    mask[5:25, 10:30] = True
    rle = encode_rle(mask)
    alpha = np.array(studio.page.evaluate(
        """async ([rle, bbox, edge]) => {
          const { paint } = await import("/studio/rle.js");
          const { canvas } = paint(rle, bbox, "#3366cc", 0.4, edge);
          return Array.from(canvas.getContext("2d").getImageData(0, 0, bbox[2], bbox[3]).data);
        }""", [rle, rle_bbox(rle), edge]), np.uint8).reshape(20, 20, 4)[..., 3]
    assert (alpha[edge:-edge, edge:-edge] == 102).all()
    alpha[edge:-edge, edge:-edge] = 255
    assert (alpha == 255).all()
