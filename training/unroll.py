"""A training step's forward pass: images with a correction click, or clips, their memory told the truth at first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam2VideoModel

from training.batch import Batch
from training.losses import Loss, mask_loss, present
from training.step import Decoded, Features, Memory, encode, memorise, prompted, tracked

TRUTH_LOGIT = 10.0  # size of the logits made of true masks
TRACK_WEIGHT = 2.0  # of the mean loss over tracked frames, against the prompted frame's


@dataclass
class Outcome:
    """The loss to minimise; mean IoU at the first prompt, corrected, on tracked frames; logits (T, O, 1, h, w)."""

    total: Tensor
    first: float
    corrected: float | None
    track: float | None
    logits: Tensor


def correction(decoded: Decoded, target: Tensor) -> tuple[Tensor, Tensor]:
    """Points (O, 1, 2) in pixels and labels (O, 1): a click deep inside the largest error, as a user would place it."""
    truth = (target > 0.5)[:, 0].numpy()
    guess = (decoded.logits.detach() > 0)[:, 0].numpy()
    points, labels = [], []
    for want, have in zip(truth, guess, strict=True):
        missed, spilt = (_depth(want & ~have), _depth(have & ~want))
        depth = missed if missed.max() >= spilt.max() else spilt
        if depth.max() == 0:  # nothing wrong: confirm the object
            depth = _depth(want)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        points.append([[4 * x + 1.5, 4 * y + 1.5]])
        labels.append([int(want[y, x])])
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels, dtype=torch.int32)


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance (h, w) of each pixel of `mask` from its edge."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(depth, np.float32)


def image_step(model: Sam2VideoModel, batch: Batch, correct: bool) -> Outcome:
    """Single frames: the first prompt, and if `correct` one more click with the earlier logits as mask prompt."""
    features = encode(model, batch.pixels[:, 0]).of(batch.owner)
    target = batch.targets[0]
    decoded = prompted(model, features, batch.points, batch.labels, batch.proposals)
    loss = mask_loss(decoded, target)
    if not correct:
        return Outcome(loss.total, loss.iou, None, None, decoded.logits.detach()[None])
    points, labels = correction(decoded, target)
    points, labels = torch.cat([batch.points, points], 1), torch.cat([batch.labels, labels], 1)
    again = mask_loss(prompted(model, features, points, labels, decoded.logits.detach()), target)
    return Outcome(loss.total + 0.5 * again.total, loss.iou, again.iou, None, decoded.logits.detach()[None])


def clip_step(model: Sam2VideoModel, batch: Batch, truth: float, generator: torch.Generator) -> Outcome:
    """Whole clips; each memory is made of the true mask with probability `truth`, of the predicted one otherwise."""
    clips, frames = batch.pixels.shape[:2]
    encoded = encode(model, batch.pixels.flatten(0, 1))
    memories: list[Memory] = []
    losses: list[Loss] = []
    logits = []
    for time in range(frames):
        features: Features = encoded.of(batch.owner * frames + time)
        if time == 0:
            decoded = prompted(model, features, batch.points, batch.labels, batch.proposals)
        else:
            decoded = tracked(model, features, memories, time)
        losses.append(mask_loss(decoded, batch.targets[time]))
        logits.append(decoded.logits.detach())
        if time < frames - 1:
            forced = _told(decoded, batch.targets[time], max(truth, 0.3) if time == 0 else truth, generator)
            memories.append(memorise(model, features, forced, time, is_prompted=time == 0))
    later = losses[1:]
    seen = max(1, sum(loss.visible for loss in later))
    total = losses[0].total + TRACK_WEIGHT * torch.stack([loss.total for loss in later]).mean()
    track = sum(loss.iou * loss.visible for loss in later) / seen
    return Outcome(total, losses[0].iou, None, track, torch.stack(logits))


def _told(decoded: Decoded, target: Tensor, truth: float, generator: torch.Generator) -> Decoded:
    """`decoded`, with the truth in the place of each object's mask and presence with probability `truth`."""
    chosen = torch.rand(len(target), generator=generator) < truth
    logits = torch.where(chosen[:, None, None, None], (2 * target - 1) * TRUTH_LOGIT, decoded.logits)
    score = torch.where(chosen, present(target).float() - 0.5, decoded.score)
    return replace(decoded, logits=logits, score=score)
