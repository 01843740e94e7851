"""softmax(query · keyᵀ) · value by the device's own kernel.

B: objects. Q: queries. K: keys. C, D: widths of keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SCORES = 1 << 28
"""Bytes of scores at a time on Metal, whose kernel holds them whole in float32 and aborts the process beyond 2^32."""


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query: (B, Q, C), already scaled; key: (B, K, C); value: (B, K, D). Returns (B, Q, D)."""
    rows = query.shape[1]
    if query.device.type == "mps":
        rows = max(1, SCORES // (4 * len(key) * key.shape[1]))
    return attend_in_parts(query, key, value, rows)


def attend_in_parts(query: Tensor, key: Tensor, value: Tensor, rows: int) -> Tensor:
    """The same, `rows` queries at a time; each query's answer depends on no other query."""
    answers = [F.scaled_dot_product_attention(part[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
               for part in query.split(rows, dim=1)]
    return answers[0] if len(answers) == 1 else torch.cat(answers, dim=1)
