"""Names of torchvision's compiled operators, which are absent beside a CPU build of torch.

Declaring them lets `sam2`, timm and transformers import torchvision; nothing here calls them. The package imports this first.
"""

from __future__ import annotations

from typing import Any

import torch

OPERATORS: Any = torch.library.Library("torchvision", "FRAGMENT")
SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
                 "int sampling_ratio, bool aligned) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
for schema in SCHEMAS.values():
    OPERATORS.define(schema)
