"""The image encoder's shorter way against the library's, on its own random weights."""

from __future__ import annotations

import copy

import pytest
import torch
from sam_service.core.cpu import onednn
from sam_service.core.cpu.onednn import use_fast_linears
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.hiera import LeanBlock, LeanEncoder, use_lean_encoder
from torch import Tensor
from transformers import Sam2VideoModel


def library_model(size: str, image_size: int) -> Sam2VideoModel:
    torch.manual_seed(0)
    model = Sam2VideoModel(config_for(size, image_size))
    model.eval()
    return model


def library_levels(model: Sam2VideoModel, image: Tensor) -> list[Tensor]:
    levels = model.vision_encoder(image).fpn_hidden_states
    return [model.mask_decoder.conv_s0(levels[0]), model.mask_decoder.conv_s1(levels[1]), levels[2]]


# 416: windows that do not divide the picture. 640: blocks in strips, the last one shorter than the others.
@pytest.mark.parametrize(("size", "image_size"), [("tiny", 416), ("tiny", 640), ("base_plus", 416), ("large", 416)])
def test_equals_the_library(size: str, image_size: int) -> None:
    model = library_model(size, image_size)
    image = torch.randn(1, 3, image_size, image_size)
    with torch.inference_mode():
        wanted = library_levels(model, image)
        names = list(model.state_dict())
        use_fast_linears(model)
        use_lean_encoder(model)
        use_lean_encoder(model)
        assert type(model.vision_encoder) is LeanEncoder and list(model.state_dict()) == names
        assert any(isinstance(module, LeanBlock) for module in model.modules())
        found = model.vision_encoder(image)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape and one.is_contiguous()
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


def test_where_onednn_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = library_model("tiny", 416)
    image = torch.randn(1, 3, 416, 416)
    lean = copy.deepcopy(model)
    monkeypatch.setattr(onednn, "_LINEAR", None)
    with torch.inference_mode():
        use_fast_linears(lean)
        use_lean_encoder(lean)
        for one, other in zip(lean.vision_encoder(image), library_levels(model, image), strict=True):
            assert (one - other).abs().max() < 1e-5 * other.abs().max()
