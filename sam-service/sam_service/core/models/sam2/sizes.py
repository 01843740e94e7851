"""The sizes of SAM 2.1, and where their weights are published. Imports neither torch nor transformers."""

from __future__ import annotations

from sam_service.core.models.sizes import Advice, ModelSize

SIZES = {size.name: size for size in (
    ModelSize("tiny", "SAM 2.1 tiny", 39.0, 1024, "facebook/sam2.1-hiera-tiny", meta_file="sam2.1_hiera_tiny.pt",
              advised=(Advice("mps", 0), Advice("cuda", 3), Advice("cpu", 1, image_size=512))),
    ModelSize("small", "SAM 2.1 small", 46.1, 1024, "facebook/sam2.1-hiera-small", meta_file="sam2.1_hiera_small.pt",
              advised=(Advice("cuda", 2),)),
    ModelSize("base_plus", "SAM 2.1 base plus", 80.9, 1024, "facebook/sam2.1-hiera-base-plus",
              meta_file="sam2.1_hiera_base_plus.pt", advised=(Advice("cuda", 1),)),
    ModelSize("large", "SAM 2.1 large", 224.4, 1024, "facebook/sam2.1-hiera-large", meta_file="sam2.1_hiera_large.pt",
              advised=(Advice("cuda", 0),)),
)}
