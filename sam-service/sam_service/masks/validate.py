"""The check between the network and everything that is made of its answer.

It looks at the logits, not at the thresholded mask: `nan > 0` is False, so after the threshold a broken answer
can no longer be told from an empty mask.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_service.errors import InvalidMask


def check_logits(logits: npt.NDArray[np.generic], shape: tuple[int, ...] | None = None) -> None:
    """Raise `InvalidMask` unless `logits` is a finite floating point array of exactly `shape`, of any two dimensions if None.

    Args:
        logits: what the network answered, one value per pixel, positive inside the object.
        shape: what was asked for, usually (H, W) or (objects, H, W).
    """
    if not np.issubdtype(logits.dtype, np.floating):
        raise InvalidMask(f"logits have type {logits.dtype}, not floating point")
    if logits.shape != shape if shape is not None else logits.ndim != 2:
        raise InvalidMask(f"logits have shape {logits.shape}, not {shape or '(H, W)'}")
    if not np.isfinite(logits).all():
        bad = int(logits.size - np.count_nonzero(np.isfinite(logits)))
        raise InvalidMask(f"{bad} of {logits.size} logits are not finite")


def binarize(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return the mask of `logits`: bool, same shape, True where the logit is above 0 (probability over one half)."""
    mask: npt.NDArray[np.bool_] = logits > 0
    return mask
