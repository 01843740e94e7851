"""EdgeTAM's image encoder: RepViT-M1 (Wang et al., 2023) and a feature pyramid, in the tensors' names of timm.

Built here, because timm cannot be imported without torchvision, which nothing else of the service needs.

B: images. S: side of the input. C: channels, as they are at that place.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.edgetam.modeling_edgetam import EdgeTamVisionEncoderOutput

WIDTHS = (48, 96, 192, 384)
DEPTHS = (2, 2, 14, 2)
SQUEEZED = {48: 16, 96: 24, 192: 48, 384: 96}
"""Channels between the two layers of a squeeze-and-excitation, by those of its input."""
PYRAMID = 256
EPSILON = 1e-5


class Norm(nn.Module):
    """Batch normalisation by stored statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.running_mean = nn.Buffer(torch.zeros(width))
        self.running_var = nn.Buffer(torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=EPSILON)


class NormedConvolution(nn.Module):
    """A convolution without bias, and the normalisation behind it."""

    def __init__(self, width_in: int, width_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = Norm(width_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h/stride, w/stride)."""
        normed: Tensor = self.bn(self.c(features))
        return normed

    def folded(self) -> nn.Conv2d:
        """One convolution that gives the same up to rounding."""
        scale = self.bn.weight.double() / (self.bn.running_var.double() + EPSILON).sqrt()
        weight = self.c.weight.double() * scale[:, None, None, None]
        return _convolution(self.c, weight, self.bn.bias.double() - self.bn.running_mean.double() * scale)


class Mixer(nn.Module):
    """Mixes places: a depthwise 3 x 3, a depthwise 1 x 1 and the input itself are added up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = NormedConvolution(width, width, 3, groups=width)
        self.conv1 = NormedConvolution(width, width, 1, groups=width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        mixed: Tensor = self.conv(features) + self.conv1(features) + features
        return mixed

    def folded(self) -> nn.Conv2d:
        """One convolution that gives the same up to rounding."""
        wide, point = self.conv.folded(), self.conv1.folded()
        assert wide.bias is not None and point.bias is not None
        weight = wide.weight.double()
        weight[:, :, 1:2, 1:2] += point.weight.double() + 1
        return _convolution(wide, weight, wide.bias.double() + point.bias.double())


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2018): weighs channels by their means over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, SQUEEZED[width], 1), nn.Conv2d(SQUEEZED[width], width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        weights: Tensor = self.fc2(F.relu(self.fc1(features.mean((2, 3), keepdim=True)))).sigmoid()
        return features * weights


class ChannelMixer(nn.Module):
    """Mixes channels, twice as many in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = NormedConvolution(width, 2 * width), NormedConvolution(2 * width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> what is to be added to it."""
        mixed: Tensor = self.conv2(F.gelu(self.conv1(features)))
        return mixed


class Block(nn.Module):
    """Mixes places, then channels."""

    def __init__(self, width: int, *, squeeze: bool) -> None:
        super().__init__()
        self.token_mixer = Mixer(width)
        self.se = Squeeze(width) if squeeze else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        mixed: Tensor = self.se(self.token_mixer(features))
        found: Tensor = mixed + self.channel_mixer(mixed)
        return found


class Downsample(nn.Module):
    """Half the resolution, more channels."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.pre_block = Block(width_in, squeeze=False)
        self.spatial_downsample = NormedConvolution(width_in, width_in, 3, stride=2, groups=width_in)
        self.channel_downsample = NormedConvolution(width_in, width_out)
        self.ffn = ChannelMixer(width_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h/2, w/2)."""
        smaller: Tensor = self.channel_downsample(self.spatial_downsample(self.pre_block(features)))
        found: Tensor = smaller + self.ffn(smaller)
        return found


class Stem(nn.Module):
    """A quarter of the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(3, width // 2, 3, stride=2)
        self.conv2 = NormedConvolution(width // 2, width, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C, S/4, S/4)."""
        features: Tensor = self.conv2(F.gelu(self.conv1(image)))
        return features


class Stage(nn.Module):
    """Blocks at one resolution."""

    def __init__(self, width_in: int, width: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if width_in == width else Downsample(width_in, width)
        self.blocks = nn.Sequential(*(Block(width, squeeze=number % 2 == 0) for number in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        found: Tensor = self.blocks(self.downsample(features))
        return found


class RepVit(nn.Module):
    """RepViT-M1 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(WIDTHS[0])
        for number, (width_in, width, depth) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, DEPTHS, strict=False)):
            self.add_module(f"stages_{number}", Stage(width_in, width, depth))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> features of each stage, at S/4, S/8, S/16 and S/32."""
        features, found = self.stem(image), []
        for number in range(len(WIDTHS)):
            features = self.get_submodule(f"stages_{number}")(features)
            found.append(features)
        return found


class EdgeTamEncoder(nn.Module):
    """RepViT and the pyramid over it, in the place of the library's vision encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck = nn.Module(), nn.Module()
        self.backbone.timm_model = RepVit()
        self.neck.convs = nn.ModuleList(nn.Conv2d(width, PYRAMID, 1) for width in reversed(WIDTHS))

    def forward(self, pixel_values: Tensor, **_: Any) -> EdgeTamVisionEncoderOutput:
        """(B, 3, S, S) normalised RGB -> `fpn_hidden_states`: (B, PYRAMID, h, w) at S/4, S/8 and S/16, the last with what the
        coarsest stage sees."""
        stages = cast(RepVit, self.backbone.timm_model)(pixel_values)
        laterals = cast(nn.ModuleList, self.neck.convs)
        fine, middle, top, coarse = (lateral(stage) for lateral, stage in zip(reversed(laterals), stages, strict=True))
        top = top + F.interpolate(coarse.float(), scale_factor=2.0, mode="nearest").to(top.dtype)
        levels: Any = (fine, middle, top)  # the library's annotation says one tensor
        return EdgeTamVisionEncoderOutput(fpn_hidden_states=levels)


def fold(module: nn.Module) -> None:
    """Merge normalisations and parallel branches into convolutions, in place; answers change by rounding only.

    Afterwards the state has other names than a checkpoint: load first. May be called again.
    """
    for name, child in module.named_children():
        if isinstance(child, (Mixer, NormedConvolution)):
            setattr(module, name, child.folded())
        else:
            fold(child)


def _convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same form, for inference."""
    made = nn.Conv2d(like.in_channels, like.out_channels, cast(tuple[int, int], like.kernel_size),
                     cast(tuple[int, int], like.stride), cast(tuple[int, int], like.padding), groups=like.groups, device="meta")
    made.weight = nn.Parameter(weight.float(), requires_grad=False)
    made.bias = nn.Parameter(bias.float(), requires_grad=False)
    return made.train(like.training)
