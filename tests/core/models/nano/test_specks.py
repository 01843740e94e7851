"""Specks of the embedded model's tracked masks."""

import torch
from sam_service.core.models.nano.specks import without_specks


def test_small_parts_go_and_large_ones_stay() -> None:
    logits = torch.full((2, 1, 32, 32), -5.0)
    logits[0, 0, 2:12, 2:12] = 4.0
    logits[0, 0, 20:25, 20:25] = 3.0  # a quarter of the largest
    logits[0, 0, 28:30, 2:4] = 2.0  # a twenty-fifth
    cleaned = without_specks(logits)
    assert (cleaned[0, 0] > 0).sum() == 125
    assert torch.equal(cleaned[0, 0, :26], logits[0, 0, :26])
    assert torch.equal(cleaned[1], logits[1])
