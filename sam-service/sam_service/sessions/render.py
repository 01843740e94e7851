"""The network's logits become a mask that is stored, and a stored mask becomes what a client asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_service.core.frames import upsample
from sam_service.core.predictor import ObjectOutput
from sam_service.masks.encode import EncodedMask, MaskFormat, encode_mask
from sam_service.masks.rle import decode_rle, encode_rle
from sam_service.masks.validate import binarize, check_logits
from sam_service.sessions.records import MaskRecord


def to_record(output: ObjectOutput, width: int, height: int, elapsed_ms: float) -> MaskRecord:
    """Check an output's logits, bring them to width x height, threshold and compress. Raises InvalidMask."""
    check_logits(output.logits)
    rle = encode_rle(binarize(upsample(output.logits, width, height)))
    return MaskRecord(output.frame_index, output.object_id, height, width, rle["counts"], output.score, output.object_score,
                      elapsed_ms)


def given_record(mask: NDArray[np.bool_], output: ObjectOutput, elapsed_ms: float) -> MaskRecord:
    """The answer to a mask prompt (H, W): that mask, whatever the network's resolution, with the network's scores."""
    check_logits(output.logits)
    height, width = mask.shape
    return MaskRecord(output.frame_index, output.object_id, height, width, encode_rle(mask)["counts"], output.score,
                      output.object_score, elapsed_ms)


def absent(frame_index: int, object_id: int, width: int, height: int) -> MaskRecord:
    """The empty mask of an object that has nothing to be tracked from."""
    counts = encode_rle(np.zeros((height, width), bool))["counts"]
    return MaskRecord(frame_index, object_id, height, width, counts, score=0.0, object_score=0.0, elapsed_ms=0.0)


def to_format(record: MaskRecord, mask_format: MaskFormat) -> EncodedMask:
    """A stored mask in the form that a client asked for."""
    rle = as_rle(record)
    if mask_format == "rle":
        return {"size": rle["size"], "counts": rle["counts"]}
    return None if mask_format == "none" else encode_mask(decode_rle(rle), mask_format)


def as_rle(record: MaskRecord) -> dict[str, Any]:
    """A stored mask as COCO compressed RLE."""
    return {"size": [record.height, record.width], "counts": record.counts}
