"""Attending to the part of the memory that matters: sparse memory retrieval after Efficient-SAM2 (2026, arXiv 2602.08224).

When a tracked frame is read for the first time, as the newest memory, it is read whole, and the tokens that got the most
attention are noted, for each layer of the memory attention. From then on only these are read. Conditioning frames and the
newest frame are always read whole; pointers are few and stay. Of a full bank's 28 736 tokens at 1024 px about 9 300 are left.

Fused attention hides its scores, and tiles do not hold them whole, so attention is estimated from every `STRIDE`th query.
No weights change. Which tokens are kept is stored with the memory, so that a restarted process goes on as it would have.

B: objects. T: tokens of one map. K: memory tokens, K' those that are kept. C: hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sam_service.core.memory_bank import ObjectMemory
from sam_service.core.memory_tokens import Near

SHARE = 0.05
STRIDE = 16


class Salience:
    """Chooses memory tokens. share: how much of an old map is kept, more than 0 and less than 1."""

    def __init__(self, layers: int, tokens: int, share: float = SHARE) -> None:
        self._layers = layers
        self._tokens = tokens
        self._kept = max(1, round(tokens * share))

    def shape(self, near: Near) -> int:
        """How many maps are read whole; objects are attended to together where this is the same, too."""
        return sum(self._salient(near, at) is None for at in range(len(near.maps)))

    def look(self, nears: Sequence[Near], num_pointer_tokens: int, device: torch.device) -> Choice:
        """What B objects of one shape attend to."""
        keep = [torch.stack([self._row(near, depth, num_pointer_tokens) for near in nears]).to(device)
                for depth in range(self._layers)]
        return Choice(keep)

    def note(self, objects: Sequence[ObjectMemory], nears: Sequence[Near], choice: Choice) -> None:
        """Remember the salient tokens of maps that were read for the first time."""
        for row, (memory, near) in enumerate(zip(objects, nears, strict=True)):
            start = 0
            for at, found in enumerate(near.maps):
                salient = self._salient(near, at)
                if found.tracked is not None and (found.entry.salient is None or len(found.entry.salient[0]) != self._kept):
                    mass = torch.stack([layer[row, start:start + self._tokens] for layer in choice.mass])
                    memory.note_salient(found.tracked, mass.topk(self._kept, dim=1).indices.sort(dim=1).values.int().cpu())
                start += self._tokens if salient is None else self._kept

    def _row(self, near: Near, depth: int, num_pointer_tokens: int) -> Tensor:
        whole = torch.arange(self._tokens)
        parts = []
        for at in range(len(near.maps)):
            salient = self._salient(near, at)
            parts.append(at * self._tokens + (whole if salient is None else salient[depth].long()))
        pointers = len(near.maps) * self._tokens + torch.arange(num_pointer_tokens)
        return torch.cat([*parts, pointers])

    def _salient(self, near: Near, at: int) -> Tensor | None:
        """The kept tokens of a map (layers, n), None where it is read whole."""
        found = near.maps[at]
        salient = found.entry.salient
        if found.tracked is None or found.newest or salient is None or salient.shape != (self._layers, self._kept):
            return None
        return salient


class Choice:
    """What is attended to in one step (`memory_attention.Look`), and how much attention each of these tokens got.

    keep: for each layer (B, K'). mass: for each layer (B, K'), the mean weight over the queries that were asked.
    """

    def __init__(self, keep: list[Tensor]) -> None:
        self.keep = keep
        self.mass: list[Tensor] = []

    def watch(self, depth: int, query: Tensor, key: Tensor) -> None:
        """Estimate the attention that a layer pays."""
        assert depth == len(self.mass)
        self.mass.append(torch.softmax(query[:, ::STRIDE] @ key.transpose(1, 2), dim=-1).mean(dim=1))
