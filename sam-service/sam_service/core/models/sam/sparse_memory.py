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

from sam_service.core.memory.selection import MemoryLayout, Selection
from sam_service.core.models.sam.memory_tokens import MemoryMap, maps_of

STRIDE = 16
SALIENT = "salient"
"""In a frame's state: (layers, n) int32, the tokens of its map that are read once the frame is not the newest."""


class SparseMemory:
    """Chooses memory tokens."""

    def __init__(self, layout: MemoryLayout, layers: int, tokens: int, share: float) -> None:
        """tokens: of one map. share: how much of an old map is kept, more than 0 and less than 1."""
        self._layout = layout
        self._layers = layers
        self._tokens = tokens
        self._kept = max(1, round(tokens * share))

    def whole_maps(self, selection: Selection) -> int:
        """How many maps are read whole; objects are attended to together where this is the same, too."""
        return sum(self._salient(found) is None for found in self._maps(selection))

    def choose(self, selections: Sequence[Selection], num_pointer_tokens: int, device: torch.device) -> TokenSelection:
        """What B objects of one shape attend to."""
        keep = [torch.stack([self._row(selection, depth, num_pointer_tokens) for selection in selections]).to(device)
                for depth in range(self._layers)]
        return TokenSelection(keep)

    def notes(self, selection: Selection, chosen: TokenSelection, row: int) -> dict[int, dict[str, Tensor]]:
        """The salient tokens of maps that the `row`-th object read for the first time, by frame."""
        notes, start = {}, 0
        for found in self._maps(selection):
            salient, before = self._salient(found), found.memory.state.get(SALIENT)
            if found.tracked is not None and (before is None or len(before[0]) != self._kept):
                mass = torch.stack([layer[row, start:start + self._tokens] for layer in chosen.mass])
                notes[found.tracked] = {SALIENT: mass.topk(self._kept, dim=1).indices.sort(dim=1).values.int().cpu()}
            start += self._tokens if salient is None else self._kept
        return notes

    def _maps(self, selection: Selection) -> list[MemoryMap]:
        return maps_of(selection, self._layout)

    def _row(self, selection: Selection, depth: int, num_pointer_tokens: int) -> Tensor:
        whole = torch.arange(self._tokens)
        parts = []
        maps = self._maps(selection)
        for at, found in enumerate(maps):
            salient = self._salient(found)
            parts.append(at * self._tokens + (whole if salient is None else salient[depth].long()))
        pointers = len(maps) * self._tokens + torch.arange(num_pointer_tokens)
        return torch.cat([*parts, pointers])

    def _salient(self, found: MemoryMap) -> Tensor | None:
        """The kept tokens of a map (layers, n), None where it is read whole."""
        salient = found.memory.state.get(SALIENT)
        if found.tracked is None or found.newest or salient is None or salient.shape != (self._layers, self._kept):
            return None
        return salient.cpu()


class TokenSelection:
    """What is attended to in one step, and how much attention each of these tokens got.

    keep: for each layer (B, K'). mass: for each layer (B, K'), the mean weight over the queries that were asked.
    """

    def __init__(self, keep: list[Tensor]) -> None:
        self.keep = keep
        self.mass: list[Tensor] = []

    def watch(self, depth: int, query: Tensor, key: Tensor) -> None:
        """Estimate the attention that a layer pays."""
        assert depth == len(self.mass)
        self.mass.append(torch.softmax(query[:, ::STRIDE] @ key.transpose(1, 2), dim=-1).mean(dim=1))
