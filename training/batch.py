"""Slots of the pool become tensors: augmented, scaled to the stage's image size, objects flattened over clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.models.nano.grabcut import LIMIT
from torch import Tensor
from torch.nn import functional

from training.pool import KINDS, STRIDES, Pool
from training.step import normalise
from training.textures import SIZE

Arrays = dict[str, NDArray[Any]]


@dataclass
class Batch:
    """T frames of B clips with O prompted objects among them.

    pixels (B, T, 3, S, S) normalised; owner (O,), the clip of each object; targets (T, O, 1, S/4, S/4) in 0..1;
    points (O, P, 2) and labels (O, P), prompts of frame 0; proposals (O, K, S/4, S/4), all guesses at an image and one of them
    for a clip, or None when withheld;
    flows (T - 1, B, S/4, S/4, 2), from each frame but the first back to the one before, in pixels of that grid.
    """

    pixels: Tensor
    owner: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    proposals: Tensor | None
    flows: NDArray[np.float32]
    kind: str

    def to(self, device: torch.device) -> Batch:
        """The same on a device; the flows stay, since OpenCV uses them."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def draw(pool: Pool, rng: np.random.Generator, clips: int, frames: int, size: int, withhold: float) -> Batch:
    """A batch at `size` pixels: images, prompted early or late in their clip, if `frames` is 1; else clips."""
    drawn = pool.draw(rng, clips)
    late = rng.integers(0, 2, clips) if frames == 1 else np.zeros(clips, int)
    each = np.arange(clips)
    first = drawn["prompted"][each, late]
    longest = min(max(STRIDES), (drawn["frames"].shape[1] - 1) // max(1, frames - 1))
    step = 1 if frames == 1 else int(rng.integers(1, 1 + longest))
    times = np.stack([first + step * t for t in range(frames)], 1)  # (B, T)
    kind = int(rng.random() < 0.3)
    guesses = np.split(np.arange(sum(KINDS.values())), np.cumsum(list(KINDS.values()))[:-1])[kind]
    if frames > 1:
        guesses = rng.choice(guesses, 1)
    picked: Arrays = {
        "frames": drawn["frames"][each[:, None], times],
        "covers": drawn["covers"][each[:, None], times],
        "flows": drawn["flows"][each[:, None], STRIDES.index(step), times[:, :-1]].astype(np.float32),
        "proposals": drawn["proposals"][each, late][:, :, guesses],
        "points": drawn["boxes" if kind else "clicks"][each, late].reshape(clips, -1, 2 if kind else 1, 2),
    }
    picked = _augmented(rng, picked)
    owner, member = np.nonzero(drawn["present"][each, late])
    covers = picked["covers"][owner, :, member].swapaxes(0, 1)
    points = torch.from_numpy(picked["points"][owner, member] * (size / SIZE)).float()
    proposals = torch.from_numpy(picked["proposals"][owner, member]).float() * (LIMIT / 127)
    return Batch(
        pixels=_coloured(rng, normalise(torch.from_numpy(_resized(picked["frames"], size)))),
        owner=torch.from_numpy(owner),
        targets=_scaled(torch.from_numpy(covers).float()[:, :, None] / 255, size // 4),
        points=points,
        labels=torch.tensor([2, 3] if kind else [1], dtype=torch.int32).expand(len(points), -1),
        proposals=None if rng.random() < withhold else _scaled(proposals, size // 4),
        flows=_flows(picked["flows"], size // 4),
        kind=list(KINDS)[kind],
    )


def _flows(flows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Flows (B, T - 1, h, w, 2) in pixels of their grid -> (T - 1, B, size, size, 2) in pixels of that one."""
    clips, steps, side = flows.shape[:3]
    if not steps or side == size:
        return np.ascontiguousarray(flows.swapaxes(0, 1))
    flat = [cv2.resize(flow, (size, size), interpolation=cv2.INTER_AREA) for flow in flows.reshape(-1, side, side, 2)]
    scaled = np.stack(flat).reshape(clips, steps, size, size, 2) * np.float32(size / side)
    return np.ascontiguousarray(scaled.swapaxes(0, 1))


def _scaled(images: Tensor, size: int) -> Tensor:
    """(..., c, H, W) -> (..., c, size, size), averaging over areas."""
    if images.shape[-1] == size:
        return images
    flat = functional.interpolate(images.flatten(0, -4), size=(size, size), mode="area")
    return flat.reshape(*images.shape[:-2], size, size)


def _resized(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bytes (B, T, SIZE, SIZE, 3) -> (B, T, size, size, 3)."""
    if size == SIZE:
        return frames
    flat = frames.reshape(-1, SIZE, SIZE, 3)
    small = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in flat])
    return np.asarray(small.reshape(*frames.shape[:2], size, size, 3), np.uint8)


def _coloured(rng: np.random.Generator, pixels: Tensor) -> Tensor:
    """Each clip (B, T, 3, S, S) in other light: contrast, brightness, tint; at times grey, or with channels swapped."""
    clips = len(pixels)
    gain = torch.from_numpy(rng.uniform(0.75, 1.3, (clips, 1, 1, 1, 1)) * rng.uniform(0.9, 1.1, (clips, 1, 3, 1, 1)))
    pixels = pixels * gain.float() + torch.from_numpy(rng.normal(0, 0.2, (clips, 1, 1, 1, 1))).float()
    for clip in range(clips):
        chance = rng.random()
        if chance < 0.05:
            pixels[clip] = pixels[clip].mean(1, keepdim=True)
        elif chance < 0.25:
            pixels[clip] = pixels[clip][:, rng.permutation(3).tolist()]
    return pixels


def _augmented(rng: np.random.Generator, arrays: Arrays) -> Arrays:
    """Mirror the whole batch, and now and then exchange rows and columns."""
    frames, covers, guesses, points, flows = (arrays[k] for k in ("frames", "covers", "proposals", "points", "flows"))
    if rng.random() < 0.5:
        frames, covers, guesses = frames[:, :, :, ::-1], covers[..., ::-1], guesses[..., ::-1]
        points, flows = _mirrored(points, 0), flows[:, :, :, ::-1] * np.array([-1, 1], np.float32)
    if rng.random() < 0.3:
        frames, covers, guesses = frames[:, :, ::-1], covers[..., ::-1, :], guesses[..., ::-1, :]
        points, flows = _mirrored(points, 1), flows[:, :, ::-1] * np.array([1, -1], np.float32)
    if rng.random() < 0.15:
        frames, covers, guesses = frames.swapaxes(2, 3), covers.swapaxes(-1, -2), guesses.swapaxes(-1, -2)
        points, flows = points[..., ::-1], flows.swapaxes(2, 3)[..., ::-1]
    changed = {"frames": frames, "covers": covers, "proposals": guesses, "points": points, "flows": flows}
    return {name: np.ascontiguousarray(value) for name, value in changed.items()}


def _mirrored(points: NDArray[Any], axis: int) -> NDArray[Any]:
    """Points (..., P, 2) mirrored along one axis; a box's two corners stay the least and the greatest."""
    out = points.copy()
    out[..., axis] = SIZE - 1 - points[..., ::-1, axis]
    return out
