"""The embedded network: an image encoder, a memory that is matched cell by cell, and one decoder for prompts and tracking.

A frame is encoded once, for all objects. What one object leaves on a frame (`memory_of`) are the frame's matching keys and, in
each cell, what the object's mask was like there. On a later frame each cell looks for cells like it on the prompted frames
and, nearby, on the last ones, and reads what they hold (`readout`). The decoder draws the mask from the frame's features, the
prompts, earlier logits on the same frame, and the readout; all may be absent.

B: objects. H, W: the input's sides, multiples of 32. Strides are named by number: h16 = H / 16.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam_service.core.models.nano.encoder import TAP_WIDTHS, Encoder
from sam_service.core.models.nano.prompt_maps import Prompts, map_channels, prompt_maps

WIDTH16, WIDTH8, WIDTH4 = 128, 64, 32
KEY16, KEY8 = 64, 32
VALUE = 64
SLOT16, SLOT8 = VALUE + 2, 4 + 1  # what is read at strides 16 (values, similarity, whether any) and 8 (mask, similarity)
KEPT_PROMPTED, KEPT_RECENT = (4, 2), (1, 1)  # memories that are read, at strides 16 and 8
FAR = 8  # frames: older memories are searched no wider
BLOCK = 208  # cells matched at a time, so that their scores stay in the processor's cache; training takes all at once
ARCHITECTURE = "nano-3"
ABSENT_LOGIT = -6.0


class Features(NamedTuple):
    """What the encoder says of frames: maps p (b, width, h, w) for the decoder and unit keys k (b, key, h, w) for matching."""

    p4: Tensor
    p8: Tensor
    p16: Tensor
    k8: Tensor
    k16: Tensor


class Memory(NamedTuple):
    """What one object leaves on one frame: the frame's keys and the object's values, all (1, channels, h, w), float16."""

    k16: Tensor
    v16: Tensor
    k8: Tensor
    v8: Tensor


class Past(NamedTuple):
    """A memory, whether it was prompted (or a recent tracked one), and how many frames away it is."""

    memory: Memory
    prompted: bool
    distance: int


class Readout(NamedTuple):
    """What the memories say of a frame: (b, 2 x SLOT16, h16, w16) and (b, 2 x SLOT8, h8, w8), prompted before recent."""

    at16: Tensor
    at8: Tensor


class Answer(NamedTuple):
    """logits (B, 1, H / 4, W / 4); coarse: the same at stride 16; iou, presence: logits (B,)."""

    logits: Tensor
    coarse: Tensor
    iou: Tensor
    presence: Tensor


class Residual(nn.Module):
    """Two 3x3 convolutions added to the identity, the first one dilated."""

    def __init__(self, width: int, dilation: int = 1, *, normalised: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.norm = nn.GroupNorm(8, width) if normalised else nn.Identity()
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.3 / math.sqrt(9 * width))
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same shape."""
        residual: Tensor = self.second(F.relu(self.norm(self.first(F.relu(x)))))
        return x + residual


class Network(nn.Module):
    """See the module's description. Computes in its weights' precision; matching is always float32."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        c4, c8, c16, c32 = TAP_WIDTHS
        self.in32, self.in16 = nn.Conv2d(c32, WIDTH16, 1), nn.Conv2d(c16, WIDTH16, 1)
        self.in8, self.in4 = nn.Conv2d(c8, WIDTH8, 1), nn.Conv2d(c4, WIDTH4, 1)
        self.top = Residual(WIDTH16)
        self.down8, self.down4 = nn.Conv2d(WIDTH16, WIDTH8, 1), nn.Conv2d(WIDTH8, WIDTH4, 1)
        self.key16, self.key8 = nn.Conv2d(WIDTH16, KEY16, 1), nn.Conv2d(WIDTH8, KEY8, 1)
        self.value_in, self.value_mid = nn.Conv2d(16 + 1 + WIDTH16, 96, 1), Residual(96)
        self.value_out = nn.Conv2d(96, VALUE, 1)
        # Logarithms of how sharply cells are matched (prompted and recent at stride 16, the same at stride 8), and of how far
        # recent memories are searched, in cells (strides 16 and 8).
        self.sharp = nn.Parameter(torch.full((4,), math.log(16.0)))
        self.reach = nn.Parameter(torch.full((2,), math.log(6.0)))
        self.maps16 = nn.Conv2d(map_channels(16) + 2 * SLOT16, WIDTH16, 3, padding=1)
        self.maps8 = nn.Conv2d(map_channels(8) + 2 * SLOT8, WIDTH8, 3, padding=1)
        self.maps4 = nn.Conv2d(map_channels(4) + 2, WIDTH4, 3, padding=1)
        self.blocks16 = nn.Sequential(Residual(WIDTH16), Residual(WIDTH16, 2), Residual(WIDTH16, 3))
        self.context = nn.Linear(2 * WIDTH16, WIDTH16)
        self.to8, self.to4 = nn.Conv2d(WIDTH16, WIDTH8, 1), nn.Conv2d(WIDTH8, WIDTH4, 1)
        self.blocks8 = nn.Sequential(Residual(WIDTH8, normalised=False), Residual(WIDTH8, 2, normalised=False))
        self.blocks4 = nn.Sequential(Residual(WIDTH4, normalised=False))
        self.coarse, self.fine = nn.Conv2d(WIDTH16, 1, 1), nn.Conv2d(WIDTH4, 1, 3, padding=1)
        self.judge = nn.Sequential(nn.Linear(3 * WIDTH16 + 8, 96), nn.ReLU(), nn.Linear(96, 2))

    def encode(self, pixels: Tensor) -> Features:
        """pixels: (b, 3, H, W) RGB as (x - 127) / 128."""
        c4, c8, c16, c32 = self.encoder(pixels.to(self.in4.weight.dtype))
        x16 = self.in16(c16)
        p16 = self.top(x16 + _resized(self.in32(c32), x16))
        x8 = self.in8(c8)
        p8 = x8 + _resized(self.down8(p16), x8)
        x4 = self.in4(c4)
        p4 = x4 + _resized(self.down4(p8), x4)
        k8, k16 = F.normalize(self.key8(p8).float(), dim=1), F.normalize(self.key16(p16).float(), dim=1)
        return Features(p4, p8, p16, k8, k16)

    def memory_of(self, features: Features, logits: Tensor) -> Memory:
        """What B objects with masks of logits (B, 1, H / 4, W / 4) leave on their frames, or on one frame."""
        mask = logits.float().sigmoid()
        cells = F.pixel_unshuffle(mask, 4)
        p16 = features.p16.expand(len(cells), -1, -1, -1)
        x = self.value_in(torch.cat([cells, cells.mean(1, keepdim=True), p16.float()], 1).to(self.in4.weight.dtype))
        value = self.value_out(F.relu(self.value_mid(x)))
        return Memory(features.k16, value.float(), features.k8, F.pixel_unshuffle(mask, 2))

    def readout(self, features: Features, memories: Sequence[Past]) -> Readout:
        """Match a frame with an object's memories: those prompted anywhere, the nearest recent one only nearby."""
        at16, at8 = [], []
        for slot, prompted in enumerate((True, False)):
            found = sorted((past for past in memories if past.prompted == prompted), key=lambda past: past.distance)
            kept16, kept8 = (found[:kept] for kept in (KEPT_PROMPTED if prompted else KEPT_RECENT))
            near16, near8 = (None, None) if prompted else (self.reach[0], self.reach[1])
            entries16 = [(past.memory.k16, past.memory.v16, past.distance) for past in kept16]
            entries8 = [(past.memory.k8, past.memory.v8, past.distance) for past in kept8]
            read16 = _read(features.k16, entries16, VALUE, self.sharp[slot], near16)
            at16 += [read16, torch.full_like(read16[:, :1], float(bool(found)))]
            at8.append(_read(features.k8, entries8, 4, self.sharp[2 + slot], near8))
        return Readout(torch.cat(at16, 1), torch.cat(at8, 1))

    def decode(
        self, features: Features, prompts: Prompts | None, earlier: Tensor | None, readout: Readout | None
    ) -> Answer:
        """Draw the masks of B objects on one frame, or of one object on each of B frames.

        earlier: (B, 1, H / 4, W / 4) logits of an earlier answer on the frame, which the prompts correct; a row of NaN is none.
        """
        counts = [len(features.p16)]
        counts += [len(given) for given in (earlier, None if readout is None else readout.at16) if given is not None]
        counts += [] if prompts is None else [len(prompts.points)]
        m16, m8, m4 = prompt_maps(features.k16, features.k8, features.p4.shape[-2:], max(counts), prompts, earlier)
        if readout is None:
            r16, r8 = (m.new_zeros(len(m), 2 * slot, *m.shape[-2:]) for m, slot in ((m16, SLOT16), (m8, SLOT8)))
        else:
            r16, r8 = readout
        carried = torch.stack([r8[:, :4].mean(1), r8[:, SLOT8:-1].mean(1)], 1)
        x = features.p16 + self.maps16(self._input(m16, r16))
        x = self.blocks16[0](x)
        pooled = torch.cat([x.float().mean((2, 3)), x.float().amax((2, 3))], 1)
        x = x + self.context(pooled.to(x.dtype))[:, :, None, None]
        x = F.relu(self.blocks16[2](self.blocks16[1](x)))
        coarse = self.coarse(x).float()
        y = features.p8 + _resized(self.to8(x), features.p8) + self.maps8(self._input(m8, r8))
        y = F.relu(self.blocks8(y))
        carried = F.interpolate(carried, size=m4.shape[-2:], mode="bilinear", align_corners=False)
        z = features.p4 + _resized(self.to4(y), features.p4) + self.maps4(self._input(m4, carried))
        logits = self.fine(F.relu(self.blocks4(z))).float() + _resized(coarse, features.p4)
        iou, presence = self._judge(x.float(), logits.detach(), r16.detach())
        return Answer(logits, coarse, iou, presence)

    def _input(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1).to(self.in4.weight.dtype, memory_format=torch.channels_last)

    def _judge(self, x: Tensor, logits: Tensor, r16: Tensor) -> tuple[Tensor, Tensor]:
        """Rate masks by the features (B, WIDTH16, h16, w16) inside them and how sure they are: logits of IoU and presence."""
        mask = logits.sigmoid()
        low = F.avg_pool2d(mask, 4)
        area, whole = low.sum((2, 3)) + 1e-3, (1, 2, 3)
        sure = ((mask - 0.5).abs() * mask).sum(whole) / (mask.sum(whole) + 1e-3)
        share, hard = mask.mean(whole).sqrt(), (logits > 0).float().mean(whole).sqrt()
        alike = [(r16[:, at] * low[:, 0]).sum((1, 2)) / area[:, 0] for at in (VALUE, SLOT16 + VALUE)]
        have = [r16[:, at].amax((1, 2)) for at in (VALUE + 1, SLOT16 + VALUE + 1)]
        extra = torch.stack([sure, share, mask.amax(whole), hard, *alike, *have], 1)
        inside = (x * low).sum((2, 3)) / area
        judged = self.judge(torch.cat([inside, x.mean((2, 3)), x.amax((2, 3)), extra], 1).to(self.in4.weight.dtype)).float()
        return judged[:, 0], judged[:, 1]


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _read(
    query: Tensor, memories: Sequence[tuple[Tensor, Tensor, int]], channels: int, sharp: Tensor, reach: Tensor | None
) -> Tensor:
    """Each cell's softmax-weighted sum of the values of cells like it, and the similarity of the most similar one.

    query: (b, C, h, w) unit keys; memories: keys, values (b, channels, h, w) and distance in frames. reach: in cells, how far
    the search goes for a memory one frame away; None is anywhere. -> (b, channels + 1, h, w), zero without memories.
    """
    b, _, h, w = query.shape
    if not memories:
        return query.new_zeros(b, channels + 1, h, w)
    with torch.autocast(query.device.type, enabled=False):
        sharpness = sharp.float().exp()
        q = query.float().flatten(2).transpose(1, 2) * sharpness
        k = torch.cat([keys.flatten(2).float() for keys, _, _ in memories], 2)
        v = torch.cat([values.flatten(2).float() for _, values, _ in memories], 2)
        if reach is not None:
            decays = [1 / (reach.float().exp().square() * math.sqrt(min(max(far, 1), FAR))) for _, _, far in memories]
            here, there = _places(h, w, query.device)
            q = torch.cat([q, here.expand(b, -1, -1)], 2)
            k = torch.cat([k, torch.cat([there * decay for decay in decays], 1).expand(b, -1, -1)], 1)
        block = h * w if torch.is_grad_enabled() else BLOCK
        found = []
        for row, start in itertools.product(range(b), range(0, h * w, block)):
            scores = q[row, start : start + block] @ k[row]
            best = scores.detach().amax(1, keepdim=True) / sharpness.detach()
            found.append(torch.cat([F.linear(scores.softmax(1), v[row]), best], 1))
    return torch.cat(found).reshape(b, h * w, channels + 1).transpose(1, 2).reshape(b, channels + 1, h, w)


@functools.lru_cache(maxsize=16)
def _places(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers for each cell of a grid, (h w, 4) and (4, h w): their product is minus half the squared distance, in cells."""
    with torch.inference_mode(False):  # so that training may use them, whoever asked first
        ys, xs = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        y, x = ys.flatten() - (h - 1) / 2, xs.flatten() - (w - 1) / 2
        half, ones = -(y.square() + x.square()) / 2, torch.ones_like(y)
        return torch.stack([y, x, half, ones], 1), torch.stack([y, x, ones, half])
