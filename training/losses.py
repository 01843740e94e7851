"""What the trainer minimises, for masks at a quarter of the image's side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sam_service.core.models.nano.hints import candidate_scores, mixed
from torch import Tensor
from torch.nn import functional

from training.step import Decoded

VISIBLE_SHARE = 0.001  # of the frame; below it an object counts as absent
BCE_WEIGHT, DICE_WEIGHT, IOU_WEIGHT, SCORE_WEIGHT = 8.0, 1.0, 0.4, 0.6
ABSENT_WEIGHT = 3.0  # of an object that is not there, in the score: few are
CHOICE_WEIGHT, CHOICE_TEMPERATURE = 4.0, 0.05
EDGE_WEIGHT = 2.0  # of a pixel at an outline, on top of the one that every pixel has


@dataclass
class Loss:
    """The sum to minimise, and the mean IoU of the visible objects (no gradient) with their number."""

    total: Tensor
    iou: float
    visible: int


def overlap(logits: Tensor, target: Tensor) -> Tensor:
    """IoU (O,) of logits > 0 with target > 0.5, both (O, 1, h, w)."""
    guess, truth = logits > 0, target > 0.5
    union = (guess | truth).sum((1, 2, 3))
    return (guess & truth).sum((1, 2, 3)) / union.clamp(min=1)


def present(target: Tensor) -> Tensor:
    """Which objects (O,) of soft masks (O, 1, h, w) are visible at all."""
    return target.mean((1, 2, 3)) > VISIBLE_SHARE


def edges(target: Tensor) -> Tensor:
    """How much soft masks (O, 1, h, w) vary within 3 x 3 pixels, 0..1."""
    return functional.max_pool2d(target, 3, 1, 1) + functional.max_pool2d(-target, 3, 1, 1)


def mask_loss(decoded: Decoded, target: Tensor) -> Loss:
    """Cross-entropy and dice on soft masks (O, 1, h, w) where the object is visible; IoU and presence heads."""
    visible = present(target)
    share = visible.float()
    count = share.sum().clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(decoded.logits, target, reduction="none")
    entropy = (entropy * (1 + EDGE_WEIGHT * edges(target))).mean((1, 2, 3))
    guess = decoded.logits.sigmoid()
    both = (guess * target).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (guess.square().sum((1, 2, 3)) + target.square().sum((1, 2, 3)) + 1)
    actual = overlap(decoded.logits.detach(), target)
    score = functional.binary_cross_entropy_with_logits(decoded.score, visible.float(), reduction="none")
    total = (share * (BCE_WEIGHT * entropy + DICE_WEIGHT * dice)).sum() / count
    total = total + IOU_WEIGHT * (share * (decoded.iou - actual).abs()).sum() / count
    total = total + SCORE_WEIGHT * (torch.where(visible, 1.0, ABSENT_WEIGHT) * score).mean()
    return Loss(total, float((share * actual).sum() / count), int((share > 0).sum()))


def choice_loss(every: Decoded, guesses: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What choosing among K decoded guesses as inference does costs, in IoU, and the rows (O,) that it chooses.

    every: O objects times K guesses, a row each; guesses (O * K, 1, h, w) logits; target (O, 1, h, w). Inference takes the
    guess of highest worth; here each is taken with its share of a softmax, so that the expected loss has a gradient.
    """
    count = len(guesses) // len(target)
    logits = every.logits.detach()
    answers = mixed(guesses, logits)
    actual = overlap(answers, target.repeat_interleave(count, 0)).view(-1, count)
    worth = candidate_scores(guesses, logits, answers, every.iou).view(-1, count)
    regret = actual.amax(1, keepdim=True) - actual
    share = present(target).float()
    loss = ((worth / CHOICE_TEMPERATURE).softmax(1) * regret).sum(1) * share
    rows = torch.arange(len(target), device=target.device) * count + worth.argmax(1)
    return loss.sum() / share.sum().clamp(min=1), rows
