"""Our memory attention against the library's, on its own random weights."""

from __future__ import annotations

import pytest
import torch
from sam_service.core.cpu.tiled_attention import attend
from sam_service.core.models.sam.memory_attention import MemoryAttention
from sam_service.core.models.sam.network import SamNetwork
from torch.nn import functional as F

from tests.networks import small_sam


@pytest.mark.parametrize("maps", [1, 3, 7])
def test_equals_the_library(maps: int) -> None:
    network = small_sam().network
    assert isinstance(network, SamNetwork)
    torch.manual_seed(maps)
    model = network.model
    width, tokens = model.hidden_dim, (128 // 16) ** 2
    features, image_positions = torch.randn(tokens, width), torch.randn(tokens, width)
    memory = torch.randn(2, maps * tokens + 6, 64)
    positions = torch.randn(2, maps * tokens + 6, 64)
    with torch.inference_mode():
        ours = MemoryAttention(model.memory_attention)(features, image_positions, memory, positions, 6)
        for row in range(2):
            theirs = model.memory_attention(
                current_vision_features=features[:, None], current_vision_position_embeddings=image_positions[:, None],
                memory=memory[row][:, None], memory_posision_embeddings=positions[row][:, None],
                num_object_pointer_tokens=6).reshape(tokens, width)
            assert (ours[row] - theirs).abs().max() / theirs.abs().max() < 1e-5


@pytest.mark.parametrize("fast", [False, True])
def test_tiles_give_the_exact_softmax(fast: bool) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 100, 32) * 3, torch.randn(2, 333, 32), torch.randn(2, 333, 8)
    expected = F.softmax(query @ key.transpose(1, 2), dim=-1) @ value
    with torch.inference_mode(fast):  # autograd keeps oneDNN away
        assert (attend(query, key, value, tile=64) - expected).abs().max() < 1e-5


def test_tiles_survive_large_scores() -> None:
    query = torch.full((1, 70, 4), 100.0)
    key = torch.linspace(-1, 1, 300)[None, :, None].expand(1, 300, 4)
    value = torch.linspace(-1, 1, 300)[None, :, None]
    with torch.inference_mode():
        assert torch.isfinite(attend(query, key, value, tile=64)).all()
