"""What an answer of the network costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sam_service.core.models.nano.architecture import Answer
from torch import Tensor
from torch.nn import functional as F

EDGE_WEIGHT = 2.0  # of cells at outlines, on top of one
COARSE_WEIGHT, IOU_WEIGHT, PRESENCE_WEIGHT, SPILL_WEIGHT = 0.3, 0.1, 0.15, 0.3
UNSURE_AREA = 8  # cells; objects smaller than that count neither as present nor as gone


@dataclass(frozen=True)
class Truth:
    """mask: (B, 1, H/4, W/4), the share of each cell that is the object's; usable: the same shape, bool."""

    mask: Tensor
    usable: Tensor

    @staticmethod
    def of(masks: Tensor) -> Truth:
        """From masks (B, 1, H, W) in input pixels, NaN where they must not be used."""
        unusable = F.max_pool2d(masks.isnan().float(), 4) > 0
        return Truth(F.avg_pool2d(torch.nan_to_num(masks), 4), ~unusable)

    @property
    def area(self) -> Tensor:
        """Cells that are mostly the object's: (B,)."""
        return ((self.mask > 0.5) & self.usable).sum((1, 2, 3))


@dataclass(frozen=True)
class Cost:
    """total: what to minimise; iou: of the answers with the truth (B,), 1 where both are empty."""

    total: Tensor
    iou: Tensor


def overlap(logits: Tensor, truth: Truth) -> Tensor:
    """IoU of masks, (B,); 1 where both are empty."""
    a, b = (logits > 0) & truth.usable, (truth.mask > 0.5) & truth.usable
    union = (a | b).sum((1, 2, 3)).float()
    return torch.where(union > 0, (a & b).sum((1, 2, 3)) / union.clamp(min=1), torch.ones_like(union))


def cost(answer: Answer, truth: Truth) -> Cost:
    """Of the masks at both strides, and of the ratings."""
    here, iou = (truth.area > 0).float(), overlap(answer.logits.detach(), truth)
    coarse = Truth(F.avg_pool2d(truth.mask, 4), F.avg_pool2d(truth.usable.float(), 4) > 0.5)
    total = _masks(answer.logits, truth, edges=True) + COARSE_WEIGHT * _masks(answer.coarse, coarse, edges=False)
    rating = F.binary_cross_entropy_with_logits(answer.iou, iou, reduction="none")
    sure = ((truth.area == 0) | (truth.area >= UNSURE_AREA)).float()
    presence = F.binary_cross_entropy_with_logits(answer.presence, here, reduction="none")
    return Cost(total + IOU_WEIGHT * (rating * here).mean() + PRESENCE_WEIGHT * (presence * sure).mean(), iou)


def _masks(logits: Tensor, truth: Truth, *, edges: bool) -> Tensor:
    """Cross-entropy, more at outlines, and Dice where there is an object; where there is none, the surest cell costs."""
    weight, whole = truth.usable.float(), (1, 2, 3)
    if edges:
        spread = F.max_pool2d(truth.mask, 3, 1, 1) + F.max_pool2d(-truth.mask, 3, 1, 1)
        weight = weight * (1 + EDGE_WEIGHT * (spread > 0.2).float())
    entropy = F.binary_cross_entropy_with_logits(logits, truth.mask, reduction="none")
    entropy = (entropy * weight).sum(whole) / weight.sum(whole).clamp(min=1)
    guess, mask = logits.sigmoid() * truth.usable, truth.mask * truth.usable
    dice = 1 - (2 * (guess * mask).sum(whole) + 1) / (guess.sum(whole) + mask.sum(whole) + 1)
    here = (mask.sum(whole) > 2).float()
    return (entropy + dice * here + SPILL_WEIGHT * (1 - here) * guess.amax(whole)).mean()
