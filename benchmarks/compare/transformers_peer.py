"""transformers' `Sam2VideoModel` or `EdgeTamVideoModel` behind its own session and `propagate_in_video_iterator`, in float32.

The library's video processor needs torchvision, which the project does not have; so the session is given frames that were
resized and normalised here as Meta's predictor does it, and points that were scaled as the processor does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sam_service.core.models import registry
from sam_service.core.models.edgetam import config as edgetam_config
from sam_service.core.models.edgetam.meta_layout import COUNTER, from_meta
from sam_service.core.models.family import Checkpoint
from sam_service.core.models.sam.network import MEAN, STD
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.network import Sam2Network
from torch import Tensor
from transformers import (
    EdgeTamVideoInferenceSession,
    EdgeTamVideoModel,
    EdgeTamVisionConfig,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
    TimmWrapperConfig,
)

from benchmarks.compare.measure import EncoderClock, Job, enlarge, main


class TransformersPeer:
    """The library's model as it builds it itself; only the weights come through the project's table of Meta's names."""

    def __init__(self, job: Job) -> None:
        self._job = job
        model, self._session_of = _edgetam(job) if job.size == "edgetam" else _sam2(job)
        self.model = model.eval()
        self.clock = EncoderClock().watch(self.model.vision_encoder)
        self.parts: dict[str, EncoderClock] = {}
        self.prepare_s = 0.0
        self._session: Any = None

    def open(self, frames: list[Path]) -> None:
        video = torch.stack([self._pixels(path) for path in frames])
        self._session = self._session_of(video=video, video_height=self._job.height, video_width=self._job.width,
                                         dtype=torch.float32)

    def click(self, object_id: int, x: float, y: float) -> None:
        job, session = self._job, self._session
        scaled = torch.tensor([[[[x / job.width, y / job.height]]]]) * job.image_size
        session.add_point_inputs(session.obj_id_to_idx(object_id), 0,
                                 {"point_coords": scaled, "point_labels": torch.ones(1, 1, 1, dtype=torch.int64)})
        session.obj_with_new_inputs = [object_id]
        enlarge(self.model(session, frame_idx=0).pred_masks[-1:], job.height, job.width)

    def track(self) -> Iterator[Tensor]:
        for output in self.model.propagate_in_video_iterator(self._session):
            yield enlarge(output.pred_masks, self._job.height, self._job.width)

    def _pixels(self, path: Path) -> Tensor:
        """One frame as the network wants it: (3, S, S)."""
        side = self._job.image_size
        square = np.array(Image.open(path).convert("RGB").resize((side, side)))
        scaled = torch.from_numpy(square).permute(2, 0, 1).float() / 255
        return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _sam2(job: Job) -> tuple[Any, Any]:
    ours = registry.load(job.size, Checkpoint(Path(job.checkpoint)), job.image_size)
    assert isinstance(ours, Sam2Network)
    model: Any = Sam2VideoModel(config_for(job.size, job.image_size))
    model.load_state_dict(ours.model.state_dict())
    return model, Sam2VideoInferenceSession


def _edgetam(job: Job) -> tuple[Any, Any]:
    """With the library's own image encoder, by timm."""
    config: Any = edgetam_config.config_for(job.image_size)
    pyramid: Any = edgetam_config.ENCODER
    places = config.vision_config.backbone_feature_sizes
    config.vision_config = EdgeTamVisionConfig(
        backbone_config=TimmWrapperConfig(architecture="repvit_m1", do_pooling=False, model_args={
            "in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}),
        backbone_feature_sizes=places, **pyramid)
    model: Any = EdgeTamVideoModel(config)
    missing, unused = model.load_state_dict(from_meta(torch.load(job.checkpoint)["model"]), strict=False)
    assert not unused and all(name.endswith(COUNTER) for name in missing), (missing, unused)
    return model, EdgeTamVideoInferenceSession


if __name__ == "__main__":
    main(TransformersPeer)
