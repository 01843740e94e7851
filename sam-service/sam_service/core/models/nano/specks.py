"""Specks of a tracked mask: parts that are small beside its largest. Only the nano model's masks are freed of them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

LEAST_SHARE = 0.1  # of the largest part's area; a smaller part is a speck
OUTSIDE = -1.0  # the highest logit of what was a speck


def without_specks(logits: Tensor) -> Tensor:
    """Masks' logits (B, 1, s, s) with the specks of each mask outside of it, on the same device."""
    cleaned = logits.float().cpu().numpy().copy()
    for mask in cleaned[:, 0]:
        count, parts, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        if count > 2:
            specks = np.isin(parts, 1 + np.flatnonzero(areas < LEAST_SHARE * areas.max()))
            mask[specks] = np.minimum(mask[specks], OUTSIDE)
    return torch.from_numpy(cleaned).to(logits.device)
