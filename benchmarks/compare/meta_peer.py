"""Meta's own video predictors, unmodified, in float32: `sam2` 1.1.0, or the code of EdgeTAM, a `sam2` package as well.

Each runs in an environment of its own (`peers.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.compare.measure import EncoderClock, Job, main

CONFIGS = {size: f"configs/sam2.1/sam2.1_hiera_{letter}.yaml"
           for size, letter in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l"))}
CONFIGS["edgetam"] = "configs/edgetam.yaml"


class MetaPeer:
    """The predictor reads a folder of JPEG files whole, and encodes frame 0, when a clip is opened."""

    def __init__(self, job: Job) -> None:
        overrides = [f"++model.image_size={job.image_size}"]
        if job.size == "edgetam":
            _load_no_encoder()
            cells = job.image_size // 16
            overrides.append(f"++model.memory_attention.layer.cross_attention.q_sizes=[{cells},{cells}]")
        from sam2.build_sam import build_sam2_video_predictor  # type: ignore[import-not-found]

        self.predictor: Any = build_sam2_video_predictor(
            CONFIGS[job.size], job.checkpoint, device="cpu", hydra_overrides_extra=overrides)
        self.predictor.fill_hole_area = 0  # the code of EdgeTAM fills small holes on a CPU, too; nobody else does here
        self.clock = EncoderClock().watch(self.predictor.image_encoder)
        self.parts: dict[str, EncoderClock] = {}
        self.prepare_s = 0.0
        self._state: dict[str, Any] = {}

    def open(self, frames: list[Path]) -> None:
        self._state.clear()
        with tempfile.TemporaryDirectory() as folder:
            for path in frames:
                (Path(folder) / path.name).symlink_to(path)
            self._state = self.predictor.init_state(folder)

    def click(self, object_id: int, x: float, y: float) -> None:
        self.predictor.add_new_points_or_box(
            self._state, frame_idx=0, obj_id=object_id, points=np.array([[x, y]], np.float32), labels=np.ones(1, np.int32))

    def track(self) -> Iterator[Tensor]:
        for _, _, logits in self.predictor.propagate_in_video(self._state):
            yield logits[:, 0]


def _load_no_encoder() -> None:
    """EdgeTAM's code has timm fetch weights of the image encoder, which the checkpoint's replace; without a hub it cannot."""
    models: Any = import_module("timm.models")
    usual = models.create_model
    models.create_model = lambda name, pretrained=False, **options: usual(name, pretrained=False, **options)


if __name__ == "__main__":
    main(MetaPeer)
