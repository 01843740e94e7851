"""EdgeTAM's one size, and where its weights are published. Imports neither torch nor transformers."""

from __future__ import annotations

from sam_service.core.models.sizes import Advice, ModelSize

SIZES = {"edgetam": ModelSize("edgetam", "EdgeTAM", 13.9, 1024, "yonigozlan/EdgeTAM-hf", meta_file="edgetam.pt",
                              note="for machines without a GPU; the input's side is a multiple of 256 pixels",
                              advised=(Advice("cpu", 0, threads=8), Advice("cpu", 0, image_size=512), Advice("mps", 1),
                                       Advice("cuda", 4)))}
