"""The two kinds of training step: a picture with corrections, and a clip with memories of the network's own making."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sam_service.core.models.nano.architecture import Features, Network, Past
from torch import Tensor
from torch.nn import functional as F

from training.losses import Truth, cost, overlap
from training.prompts import Asked, correction, first_prompt, tensors, worn
from training.sampler import FRAMES, Clip
from training.views import Floats, Image8

ROUNDS = (2, 3)  # answers to one prompt that are learnt from, each as often
LATE, SKIPPED = 0.18, 2  # how often the first SKIPPED answers are not learnt from, so that later corrections are
WORN_START = 0.1  # how often a picture begins with a bad mask to be corrected
CLICKED_START, GOOD_CLICK = 0.4, 0.6  # how often a clip's first memory is the network's own answer; where its IoU is so
RIGHT_MEMORY, WORN_MEMORY = 0.15, 0.2  # how often a tracked memory is the truth, or a worn truth
FIRST_IS_RECENT, SHORT_GAP = 0.7, 6  # how often the prompted frame is also a recent one, up to so many frames away
CORRECTED = 0.35  # how often the last frame of a clip is corrected
GONE_LOGIT = -6.0
Note = Callable[[str, float], None]


def pixels(images: Sequence[Image8], device: torch.device) -> Tensor:
    """uint8 pictures -> (B, 3, H, W) for the encoder."""
    stacked = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()
    return ((stacked - 127) / 128).contiguous(memory_format=torch.channels_last)


def truth_of(masks: Sequence[Floats], device: torch.device) -> Truth:
    """Masks (H, W) of a batch."""
    return Truth.of(torch.from_numpy(np.stack(masks))[:, None].to(device))


def logits_of(share: Tensor) -> Tensor:
    """Logits of cells that are the object's by so much."""
    return share.clamp(4.5e-5, 1 - 4.5e-5).logit()


def _boolean(mask: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.asarray(np.nan_to_num(mask) > 0.5)


def _worn_logits(mask: Floats, rng: np.random.Generator, device: torch.device) -> Tensor:
    """(1, H/4, W/4) of a bad version of a mask."""
    bad = torch.from_numpy(worn(_boolean(mask), rng).astype(np.float32)).to(device)
    return logits_of(F.avg_pool2d(bad[None, None], 4)[0])


def _correct(asked: Sequence[Asked], logits: Tensor, truth: Truth, rng: np.random.Generator) -> None:
    """A click in each answer's largest error."""
    answers, masks, usable = ((t[:, 0]).cpu().numpy() for t in (logits > 0, truth.mask > 0.5, truth.usable))
    for row, one in enumerate(asked):
        found = correction(answers[row], masks[row], usable[row], rng)
        if found is not None:
            (x, y), label = found
            one.add((4 * x, 4 * y), label)


def picture_step(
    network: Network, photos: Sequence[tuple[Image8, Floats]], rng: np.random.Generator, device: torch.device, note: Note
) -> Tensor:
    """Prompt, correct and correct again; the mean cost of the answers."""
    truth = truth_of([mask for _, mask in photos], device)
    features = network.encode(pixels([image for image, _ in photos], device))
    earlier = torch.full_like(truth.mask, torch.nan)
    asked = []
    for row, (_, mask) in enumerate(photos):
        if rng.random() < WORN_START:
            earlier[row] = _worn_logits(mask, rng, device)
            asked.append(Asked())
            one = slice(row, row + 1)
            _correct(asked[-1:], earlier[one], Truth(truth.mask[one], truth.usable[one]), rng)
        else:
            asked.append(first_prompt(_boolean(mask), rng))
    skipped = SKIPPED if rng.random() < LATE else 0
    rounds = int(rng.choice(ROUNDS))
    total = truth.mask.new_zeros(())
    for number in range(skipped + rounds):
        with torch.set_grad_enabled(number >= skipped):
            answer = network.decode(features, tensors(asked, device), earlier, None)
        if number >= skipped:
            found = cost(answer, truth)
            total = total + found.total
            note(f"answer {number + 1}", float(found.iou.mean()))
        earlier = answer.logits.detach()
        _correct(asked, earlier, truth, rng)
    return total / rounds


def clip_step(
    network: Network, clips: Sequence[Clip], rng: np.random.Generator, device: torch.device, note: Note
) -> Tensor:
    """Track an object of each clip through its frames; the mean cost of the answers. All clips have one input size."""
    count = len(clips)
    images = [clip.images[time] for time in range(FRAMES) for clip in clips]
    features = network.encode(pixels(images, device))
    frames = [Features(*(level[time * count : (time + 1) * count] for level in features)) for time in range(FRAMES)]
    truths = [truth_of([clip.masks[time] for clip in clips], device) for time in range(FRAMES)]
    times = np.round(np.mean([clip.distances for clip in clips], 0)).astype(int).tolist()
    start = _start(network, frames[0], truths[0], clips, rng, device)
    first = network.memory_of(frames[0], start)
    recent: list[tuple[int, Past]] = []
    total = truths[0].mask.new_zeros(())
    for time in range(1, FRAMES):
        memories = [Past(first, True, times[time])]
        memories += [past._replace(distance=max(1, times[time] - at)) for at, past in recent]
        if time == 1 and rng.random() < (FIRST_IS_RECENT if times[1] <= SHORT_GAP else 0.3):
            memories.append(Past(first, False, max(1, times[1])))
        readout = network.readout(frames[time], memories)
        answer = network.decode(frames[time], None, None, readout)
        found = cost(answer, truths[time])
        total = total + found.total
        here = truths[time].area > 0
        for row in range(count):
            note(f"tracked {time}" if here[row] else "empty when gone", float(found.iou[row]))
        note("presence", float(((answer.presence > 0) == here).float().mean()))
        gone = (answer.presence.detach() <= 0)[:, None, None, None]
        logits = torch.where(gone, answer.logits.detach().clamp(max=GONE_LOGIT), answer.logits.detach())
        if time < FRAMES - 1:
            logits = _remembered(logits, truths[time], [clip.masks[time] for clip in clips], rng, device)
            recent.append((times[time], Past(network.memory_of(frames[time], logits), False, 1)))
        elif rng.random() < CORRECTED and bool(here.all()):
            asked = [Asked() for _ in clips]
            _correct(asked, logits, truths[time], rng)
            better = cost(network.decode(frames[time], tensors(asked, device), logits, readout), truths[time])
            total = total + better.total
            note("gained by a correction", float((better.iou - found.iou).mean()))
    return total / (FRAMES - 1)


def _start(
    network: Network, features: Features, truth: Truth, clips: Sequence[Clip], rng: np.random.Generator, device: torch.device
) -> Tensor:
    """Logits of the first frame: the truth, or the network's own answer to a prompt where that is about right."""
    given = logits_of(truth.mask)
    if rng.random() >= CLICKED_START:
        return given
    asked = [first_prompt(_boolean(clip.masks[0]), rng) for clip in clips]
    with torch.no_grad():
        answer = network.decode(features, tensors(asked, device), None, None)
    good = overlap(answer.logits, truth) > GOOD_CLICK
    return torch.where(good[:, None, None, None], answer.logits, given)


def _remembered(
    logits: Tensor, truth: Truth, masks: Sequence[Floats], rng: np.random.Generator, device: torch.device
) -> Tensor:
    """What goes into the memory: mostly the network's own answer."""
    how = rng.random()
    if how < WORN_MEMORY and bool((truth.area > 0).all()):
        return torch.stack([_worn_logits(mask, rng, device) for mask in masks])
    return logits_of(truth.mask) if how < WORN_MEMORY + RIGHT_MEMORY else logits
