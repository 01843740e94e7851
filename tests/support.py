"""Small things that many tests need."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from sam_service.settings import Settings


def settings(**options: object) -> Settings:
    """The default settings with some changed; reads no `.env` file."""
    return Settings(_env_file=None, log_level="warning", **options)  # type: ignore[call-arg, arg-type]


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.shape[1], image.shape[0]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = np.logical_or(a, b).sum()
    return 1.0 if union == 0 else float(np.logical_and(a, b).sum() / union)
