"""Random but seeded weights in the layout of Meta's `.pt`, so that two implementations can run the very same network.

    python seeded_weights.py DIR [SIZE ...]      writes DIR/SIZE.pt, for SAM 2.1's four sizes unless some are named

Names and shapes come from the project's own table; the `sam2` package is not needed. Values are uniform numbers from
numpy's PCG64, which are the same bits on every machine, one stream for each name. They are scaled so that activations
stay moderate, the masks have both signs, most frames have an object and the choice between masks is not a tie.
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.models.edgetam import config as edgetam_config
from sam_service.core.models.edgetam import meta_layout as edgetam_layout
from sam_service.core.models.edgetam import network as edgetam_network
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.meta_layout import to_meta
from sam_service.core.models.sam2.network import empty_model
from torch import Tensor

SEED = 2
SIZES = ("tiny", "small", "base_plus", "large")

# Name, centre, half range; the first match wins. Matrices that no row names are scaled by their fan-in (variance 1).
CONSTANTS: tuple[tuple[str, float, float], ...] = (
    (r"image_encoder\.trunk\.pos_embed.*", 0.0, 0.2),
    (r".*\.token_mixer\.\w+\.bn\.weight", 0.4, 0.1),  # RepViT adds its branches up, block after block
    (r".*\.running_mean", 0.0, 0.1),
    (r".*\.running_var", 1.0, 0.2),
    (r"spatial_perceiver\.latents.*", 0.0, 1.0),
    (r".*positional_encoding_gaussian_matrix", 0.0, 1.7),
    (r"maskmem_tpos_enc|no_[a-z_]+", 0.0, 0.6),
    (r".*\.(\w+_tokens?|no_mask_embed|not_a_point_embed|point_embeddings\.\d)\.weight", 0.0, 0.6),
    (r".*\.final_attn_token_to_image\..*\.weight", 0.0, 0.6),  # a sharp last look at the image
    (r".*fuser\.layers\.\d+\.gamma", 0.1, 0.05),
    (r".*pred_obj_score_head\.layers\.2\.bias", 2.3, 0.0),  # most frames have the object, a few do not
    (r".*(patch_embed|cross_attn_\w+)\..*\.bias", 1.0, 0.1),  # large enough that a forgotten bias shows
    (r".*\.bias", 0.0, 0.05),
)
# Name, factor over the fan-in scale: contrast from the image's own details, object scores that differ from frame to
# frame, pointer times that matter; and a memory whose feedback does not blow rounding errors up (a sharper attention
# multiplies a difference of 1e-6 by forty on each frame, in any implementation).
GAINS: tuple[tuple[str, float], ...] = (
    (r".*\.conv_s[01]\.weight", 2.0),
    (r"memory_attention.*\.[qk]_proj\.weight", 0.7),
    (r"memory_attention.*\.cross_attn_image\.out_proj\.weight", 0.5),
    (r"obj_ptr_tpos_proj\.weight", 4.0),
    (r".*pred_obj_score_head\.layers\.2\.weight", 12.0),
)


def seeded(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The value of one tensor; it depends on nothing but SEED, its name and its shape."""
    generator = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))
    uniform = generator.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)
    centre, half_range = _scale(name, shape)
    return uniform * np.float32(half_range) + np.float32(centre)


def _scale(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    for pattern, centre, half_range in CONSTANTS:
        if re.fullmatch(pattern, name):
            return centre, half_range
    if len(shape) == 1:
        return 1.0, 0.1  # the weight of a layer norm
    transposed = "output_upscaling" in name
    fan_in = shape[0] if transposed else math.prod(shape[1:])
    gain = next((factor for pattern, factor in GAINS if re.fullmatch(pattern, name)), 1.0)
    return 0.0, gain * math.sqrt(3 / fan_in)


def layout_of(size: str) -> dict[str, Tensor]:
    """Meta's names for the tensors of a size, which are on the meta device."""
    if size == "edgetam":
        return edgetam_layout.to_meta(edgetam_network.empty_model(edgetam_config.config_for(1024)).state_dict())
    return to_meta(empty_model(config_for(size)).state_dict())


def write_seeded(path: Path, size: str) -> None:
    """Write the seeded weights of `size` to `path` as `{"model": {name: tensor}}`."""
    layout = layout_of(size)
    torch.save({"model": {name: torch.from_numpy(seeded(name, tuple(v.shape))) for name, v in layout.items()}}, path)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or SIZES:
        write_seeded(Path(sys.argv[1]) / f"{wanted}.pt", wanted)
