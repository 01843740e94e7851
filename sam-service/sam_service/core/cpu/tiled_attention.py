"""softmax(query · keyᵀ) · value on a CPU, without ever holding the scores whole.

Tiles with a running maximum (online softmax; Milakov and Gimelshein, 2018; Rabe and Staats, 2021), small enough for the
processor's cache.

B: heads or objects. Q: queries. K: keys. C, D: widths of keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sam_service.core.cpu import onednn

TILE = 1024
FAINTEST = -80.0
"""Scores so far below the highest count for nothing; a little further down exp gives denormal numbers, which take ten times as
long."""


def attend(query: Tensor, key: Tensor, value: Tensor, tile: int = TILE) -> Tensor:
    """query: (B, Q, C), already scaled; key: (B, K, C); value: (B, K, D). Returns (B, Q, D)."""
    operand = onednn.operand_type(query)
    if query.shape[1] <= tile and key.shape[1] <= (4 * tile if operand is None else tile // 2):
        return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
    if operand is not None:
        query, key, value = (x.to(operand) for x in (query, key, value))
    return torch.stack([_attend_tiles(*one, tile) for one in zip(query, key, value, strict=True)])


def _attend_tiles(query: Tensor, key: Tensor, value: Tensor, tile: int) -> Tensor:
    """One head: (Q, C), (K, C) and (K, D). In mixed precision sums and the softmax are float32."""
    pairs = [(keys.contiguous(), values.T.contiguous())
             for keys, values in zip(key.split(tile), value.split(tile), strict=True)]
    answers = []
    for rows in query.split(tile):
        rows = rows.contiguous()
        highest = rows.new_full((len(rows), 1), -torch.inf, dtype=torch.float32)
        total = rows.new_zeros(len(rows), 1, dtype=torch.float32)
        mixed = rows.new_zeros(len(rows), value.shape[1], dtype=torch.float32)
        for keys, values in pairs:
            scores = onednn.product(rows, keys).float()
            new_highest = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
            weights = scores.sub_(new_highest).clamp_(min=FAINTEST).exp_()
            scale = torch.exp(highest - new_highest)
            total = total.mul_(scale).add_(weights.sum(dim=-1, keepdim=True))
            mixed = mixed.mul_(scale).add_(onednn.product(weights.to(rows.dtype), values))
            highest = new_highest
        answers.append(mixed / total)
    return torch.cat(answers)
