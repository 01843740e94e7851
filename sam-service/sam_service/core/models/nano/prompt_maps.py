"""Prompts as maps for the decoder: bumps around clicks, what looks like a clicked cell, a box, an earlier answer.

B: objects. Coordinates are pixels of the network's input, x to the right and y down.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDES = (16, 8, 4)
BUMPS: dict[int, tuple[float, ...]] = {16: (12.0, 32.0, 96.0), 8: (6.0, 20.0), 4: (4.0, 10.0)}
"""Standard deviations, in input pixels, of the bumps around clicks at each stride."""
HEADS = {16: 8, 8: 4, 4: 0}
"""Groups of key channels whose similarity to a clicked cell is given as one map each."""
EARLIER_CHANNELS = {16: 2, 8: 5, 4: 2}
"""Maps that an earlier answer takes."""
LOGIT_LIMIT, LOGIT_UNIT = 10.0, 5.0
NOT_ALIKE = -1.0


class Prompts(NamedTuple):
    """points: (B, N, 2) x, y; labels: (B, N) 1 inside, 0 outside, -1 no click; boxes: (B, 4) x0, y0, x1, y1, NaN for none."""

    points: Tensor
    labels: Tensor
    boxes: Tensor


def map_channels(stride: int) -> int:
    """How many maps there are at a stride."""
    return 2 * (len(BUMPS[stride]) + HEADS[stride]) + 1 + EARLIER_CHANNELS[stride]


def prompt_maps(
    k16: Tensor, k8: Tensor, size4: tuple[int, ...], count: int, prompts: Prompts | None, earlier: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The maps at strides 16, 8 and 4, each (count, map_channels(stride), h, w), zero where there is no prompt.

    k16, k8: unit keys (b, C, h, w) of `count` frames or one. earlier: (count, 1, H/4, W/4) logits, a row of NaN is none.
    """
    if earlier is None:
        earlier = k16.new_full((count, 1, *size4), float("nan"))
    given = (~earlier[:, :, :1, :1].isnan()).float()
    logits = torch.nan_to_num(earlier.float())
    mask = logits.sigmoid() * given
    sizes = {16: k16.shape[-2:], 8: k8.shape[-2:], 4: size4}
    earlier_maps = {
        16: [F.avg_pool2d(mask, 4), given.expand(-1, 1, *sizes[16])],
        8: [F.pixel_unshuffle(mask, 2), given.expand(-1, 1, *sizes[8])],
        4: [logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) / LOGIT_UNIT * given, mask],
    }
    found = []
    for stride, keys in zip(STRIDES, (k16, k8, None), strict=True):
        if prompts is None:
            bumps, alike, inside = (k16.new_zeros(count, len(BUMPS[stride]), *sizes[stride]),
                                    k16.new_full((count, HEADS[stride], *sizes[stride]), NOT_ALIKE),
                                    k16.new_zeros(count, 1, *sizes[stride]))
            found.append(torch.cat([bumps, alike, bumps, alike, inside, *earlier_maps[stride]], 1))
            continue
        maps = []
        for label in (1, 0):
            clicked = prompts.labels == label
            maps.append(_bumps(prompts.points, clicked, stride, sizes[stride]))
            if keys is not None:
                maps.append(_alike(keys, prompts.points, clicked, stride))
        found.append(torch.cat([*maps, _inside(prompts.boxes, stride, sizes[stride]), *earlier_maps[stride]], 1))
    return found[0], found[1], found[2]


def _centres(count: int, stride: int, device: torch.device) -> Tensor:
    """Where the cells of a row lie, in input pixels."""
    return (torch.arange(count, device=device) + 0.5) * stride


def _bumps(points: Tensor, clicked: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """Bumps of several widths around the nearest of the clicks (B, N) that count: (B, len(BUMPS[stride]), h, w)."""
    ys, xs = _centres(size[0], stride, points.device), _centres(size[1], stride, points.device)
    apart = (points[:, :, 1, None, None] - ys[:, None]).square() + (points[:, :, 0, None, None] - xs).square()
    nearest = (apart + 1e9 * (~clicked)[:, :, None, None]).amin(1)
    return torch.stack([(-nearest / (2 * width * width)).exp() for width in BUMPS[stride]], 1)


def _alike(keys: Tensor, points: Tensor, clicked: Tensor, stride: int) -> Tensor:
    """How like each cell is to the most similar clicked one, for each head: (B, heads, h, w); NOT_ALIKE without clicks."""
    b, c, h, w = keys.shape
    heads, count = HEADS[stride], points.shape[:2]
    where = points / points.new_tensor([w * stride, h * stride]) * 2 - 1
    at = F.grid_sample(
        keys.expand(count[0], -1, -1, -1), where[:, :, None].to(keys.dtype), align_corners=False, padding_mode="border"
    )
    with torch.autocast(keys.device.type, enabled=False):
        at = F.normalize(at.float().reshape(count[0], heads, c // heads, count[1]), dim=2)
        cells = F.normalize(keys.float().reshape(b, heads, c // heads, h * w), dim=2)
        alike = (at.transpose(2, 3) @ cells).masked_fill(~clicked[:, None, :, None], NOT_ALIKE)
    return alike.amax(2).reshape(count[0], heads, h, w)


def _inside(boxes: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """1 inside a box, -1 outside, between on its edge: (B, 1, h, w); 0 where there is no box."""
    x0, y0, x1, y1 = (boxes[:, k, None] for k in range(4))
    ys, xs = _centres(size[0], stride, boxes.device), _centres(size[1], stride, boxes.device)
    tall = ((ys - y0) / stride + 0.5).clamp(0, 1) * ((y1 - ys) / stride + 0.5).clamp(0, 1)
    wide = ((xs - x0) / stride + 0.5).clamp(0, 1) * ((x1 - xs) / stride + 0.5).clamp(0, 1)
    return torch.nan_to_num(tall[:, :, None] * wide[:, None, :] * 2 - 1, nan=0.0)[:, None]
