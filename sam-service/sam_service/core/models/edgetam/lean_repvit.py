"""EdgeTAM's image encoder on a CPU: the same weights, the same result up to rounding, with less work.

- Pictures lie channels last, so that a 1 x 1 convolution is one matrix product and a depthwise one reads whole channels.
- GELUs and sums of branches are written with the convolution before them (`cpu/onednn.py`).
- A level's lateral 1 x 1 convolution and the mask decoder's 1 x 1 projection behind it are one.

C: channels, as they are at that place. S: side of the input.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam_service.core.cpu.onednn import convolve
from sam_service.core.models.edgetam.repvit import Block, ChannelMixer, Downsample, EdgeTamEncoder, RepVit, Squeeze, Stage


class LeanEdgeTamEncoder(EdgeTamEncoder):
    """The image encoder, with the mask decoder's projections of its two finer levels. Its convolutions have to be folded."""

    def fuse_projections(self, decoder: Any) -> None:
        """Prepare; called once after the change of class. decoder: the mask decoder."""
        laterals = [cast(nn.Conv2d, layer) for layer in reversed(cast(nn.ModuleList, self.neck.convs))]
        projections: list[nn.Conv2d | None] = [decoder.conv_s0, decoder.conv_s1, None, None]
        self._laterals = [_after(lateral, projection) for lateral, projection in zip(laterals, projections, strict=True)]

    def levels(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, 3, S, S) -> fine (1, 32, S/4, S/4) and middle (1, 64, S/8, S/8), projected for the mask decoder, and top
        (1, 256, S/16, S/16)."""
        net = cast(RepVit, self.backbone.timm_model)
        x = image.to(memory_format=torch.channels_last)
        x = convolve(convolve(x, _conv(net.stem.conv1), "gelu"), _conv(net.stem.conv2))
        found: list[Tensor] = []
        for number, lateral in enumerate(self._laterals):
            x = _stage(cast(Stage, net.get_submodule(f"stages_{number}")), x)
            found.append(convolve(x, lateral))
        fine, middle, top, coarse = found
        top = top + F.interpolate(coarse.float(), scale_factor=2.0, mode="nearest").to(top.dtype)
        return fine.contiguous(), middle.contiguous(), top.contiguous()

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The levels, where the plain encoder gives an output with much else in it."""
        return self.levels(pixel_values)


def use_lean_encoder(model: Any) -> None:
    """Let a folded EdgeTAM encoder compute this way, in place; parameters and their names stay. May be called again."""
    encoder = model.vision_encoder
    if type(encoder) is EdgeTamEncoder:
        encoder.__class__ = LeanEdgeTamEncoder
        cast(LeanEdgeTamEncoder, encoder).fuse_projections(model.mask_decoder)


def _stage(stage: Stage, x: Tensor) -> Tensor:
    if isinstance(stage.downsample, Downsample):
        down = stage.downsample
        x = convolve(_block(down.pre_block, x), _conv(down.spatial_downsample))
        x = _mix(down.ffn, convolve(x, _conv(down.channel_downsample)))
    for block in stage.blocks:
        x = _block(cast(Block, block), x)
    return x


def _block(block: Block, x: Tensor) -> Tensor:
    x = convolve(x, _conv(block.token_mixer))
    if isinstance(block.se, Squeeze):
        means = x.mean((2, 3), keepdim=True)
        x = x.mul_(block.se.fc2(F.relu(block.se.fc1(means))).sigmoid())
    return _mix(block.channel_mixer, x)


def _mix(mixer: ChannelMixer, x: Tensor) -> Tensor:
    """x, which is overwritten, with what the mixer adds to it."""
    return convolve(convolve(x, _conv(mixer.conv1), "gelu"), _conv(mixer.conv2), added=x)


def _conv(module: nn.Module) -> nn.Conv2d:
    """A module that `fold` has made a convolution."""
    assert isinstance(module, nn.Conv2d)
    return module


def _after(lateral: nn.Conv2d, projection: nn.Conv2d | None) -> nn.Conv2d:
    """One 1 x 1 convolution for a lateral one and the projection behind it."""
    if projection is None:
        return lateral
    assert lateral.bias is not None and projection.bias is not None
    inner, outer = lateral.weight.double().flatten(1), projection.weight.double().flatten(1)
    made = nn.Conv2d(lateral.in_channels, projection.out_channels, 1, device="meta")
    made.weight = nn.Parameter((outer @ inner).float()[:, :, None, None], requires_grad=False)
    made.bias = nn.Parameter((outer @ lateral.bias.double() + projection.bias.double()).float(), requires_grad=False)
    return made
