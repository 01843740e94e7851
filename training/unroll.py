"""A training step's forward pass: images with a correction click, or clips, their memory told the truth at first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.flow import warp_mask
from torch import Tensor
from transformers import Sam2VideoModel

from training.batch import Batch
from training.losses import CHOICE_WEIGHT, Loss, choice_loss, mask_loss, present
from training.step import Decoded, Features, Memory, corrected, encode, memorise, prompted, tracked

TRUTH_LOGIT = 10.0  # size of the logits made of true masks
WITHHELD, MISPLACED = 0.2, 0.15  # shares of carried masks
CORRECTED_WEIGHT = 0.6  # of the loss after correction clicks, against the first prompt's
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
    truth = (target > 0.5)[:, 0].cpu().numpy()
    guess = (decoded.logits.detach() > 0)[:, 0].cpu().numpy()
    points, labels = [], []
    for want, have in zip(truth, guess, strict=True):
        missed, spilt = (_depth(want & ~have), _depth(have & ~want))
        depth = missed if missed.max() >= spilt.max() else spilt
        if depth.max() == 0:  # nothing wrong: confirm the object
            depth = _depth(want)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        points.append([[4 * x + 1.5, 4 * y + 1.5]])
        labels.append([int(want[y, x])])
    device = target.device
    return torch.tensor(points, dtype=torch.float32, device=device), torch.tensor(labels, dtype=torch.int32, device=device)


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance (h, w) of each pixel of `mask` from its edge."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(depth, np.float32)


def image_step(model: Sam2VideoModel, batch: Batch, corrections: int) -> Outcome:
    """Single frames: the first prompt, then further clicks, each with the earlier logits as mask prompt."""
    encoded = encode(model, batch.pixels[:, 0])
    features, target, points, labels = encoded.of(batch.owner), batch.targets[0], batch.points, batch.labels
    if batch.proposals is None:
        first = decoded = prompted(model, features, points, labels)
        loss = again = mask_loss(decoded, target)
        total = loss.total
    else:
        count = batch.proposals.shape[1]
        each = torch.arange(len(target), device=target.device).repeat_interleave(count)
        guesses = batch.proposals.flatten(0, 1)[:, None]
        every = prompted(model, encoded.of(batch.owner[each]), points[each], labels[each], guesses)
        regret, best = choice_loss(every, guesses, target)
        first = decoded = every.of(best)
        loss = again = mask_loss(first, target)
        total = mask_loss(every, target[each]).total + CHOICE_WEIGHT * regret
    for _ in range(corrections):
        click = correction(decoded, target)
        points, labels = torch.cat([points, click[0]], 1), torch.cat([labels, click[1]], 1)
        decoded = prompted(model, features, points, labels, decoded.logits.detach())
        again = mask_loss(decoded, target)
        total = total + CORRECTED_WEIGHT / corrections * again.total
    return Outcome(total, loss.iou, again.iou if corrections else None, None, first.logits.detach()[None])


def clip_step(model: Sam2VideoModel, batch: Batch, truth: float, rng: np.random.Generator, correct: bool) -> Outcome:
    """Whole clips; each memory is made of the true mask with probability `truth`, of the predicted one otherwise."""
    clips, frames = batch.pixels.shape[:2]
    encoded = encode(model, batch.pixels.flatten(0, 1))
    memories: list[Memory] = []
    losses: list[Loss] = []
    logits = []
    top: Tensor | None = None
    for time in range(frames):
        features: Features = encoded.of(batch.owner * frames + time)
        if time == 0:
            decoded = prompted(model, features, batch.points, batch.labels, batch.proposals)
        else:
            carried = carry(memories[-1].logits, batch.flows[time - 1], batch.owner)
            decoded, top = tracked(model, features, memories, time, worn(carried, rng))
        losses.append(mask_loss(decoded, batch.targets[time]))
        logits.append(decoded.logits.detach())
        if time < frames - 1:
            forced = _told(decoded, batch.targets[time], max(truth, 0.3) if time == 0 else truth, rng)
            memories.append(memorise(model, features, forced, time, is_prompted=time == 0))
    later = losses[1:]
    seen = max(1, sum(loss.visible for loss in later))
    total = losses[0].total + TRACK_WEIGHT * torch.stack([loss.total for loss in later]).mean()
    track = sum(loss.iou * loss.visible for loss in later) / seen
    mended = None
    if correct and top is not None:
        again = mask_loss(corrected(model, features, top, *correction(decoded, batch.targets[-1]), logits[-1]),
                          batch.targets[-1])  # fmt: skip
        total, mended = total + CORRECTED_WEIGHT * again.total, again.iou
    return Outcome(total, losses[0].iou, mended, track, torch.stack(logits))


def carry(logits: Tensor, flows: NDArray[np.float32], owner: Tensor) -> Tensor:
    """The last masks' logits (O, 1, s, s) moved by the flow (B, s, s, 2) of each object's clip."""
    pairs = zip(logits[:, 0].cpu().numpy(), owner.tolist(), strict=True)
    return torch.from_numpy(np.stack([warp_mask(mask, flows[clip])[None] for mask, clip in pairs])).to(logits.device)


def worn(carried: Tensor, rng: np.random.Generator) -> Tensor:
    """Carried masks (O, 1, s, s), some of them withheld and some put in a wrong place, so that none is trusted blindly."""
    out = carried.clone()
    for index in range(len(carried)):
        chance = rng.random()
        if chance < WITHHELD:
            out[index] = 0
        elif chance < WITHHELD + MISPLACED:
            reach = carried.shape[-1] // 8
            shift = rng.integers(-reach, reach + 1, 2)
            out[index] = torch.roll(out[index], (int(shift[0]), int(shift[1])), (-2, -1))
    return out


def _told(decoded: Decoded, target: Tensor, truth: float, rng: np.random.Generator) -> Decoded:
    """`decoded`, with the truth in the place of each object's mask and presence with probability `truth`."""
    chosen = torch.from_numpy(rng.random(len(target)) < truth).to(target.device)
    logits = torch.where(chosen[:, None, None, None], (2 * target - 1) * TRUTH_LOGIT, decoded.logits)
    score = torch.where(chosen, present(target).float() - 0.5, decoded.score)
    return replace(decoded, logits=logits, score=score)
