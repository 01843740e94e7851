"""This service's predictor as its engine runs it: cached features, bounded memory, and every memory written to disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sam_service.core.device import choose_device
from sam_service.core.features import Frame, to_square
from sam_service.core.memory_bank import MemoryBank
from sam_service.core.nano import quicken
from sam_service.core.prompts import POSITIVE, PointPrompt
from sam_service.core.quantize import quantize_encoder
from sam_service.core.sam2_video_predictor import ObjectOutput, Sam2VideoPredictor
from sam_service.core.spill import DiskSpill
from sam_service.core.weights import load_model
from torch import Tensor

from benchmarks.compare.measure import Job, enlarge, main

SPILL_BYTES = 4 << 30
EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Mode:
    """How the predictor is built. image_size: None for that of the run. predictor: arguments of `Sam2VideoPredictor`."""

    image_size: int | None = None
    quantize: bool = False
    precision: str = "float32"
    predictor: dict[str, Any] = field(default_factory=dict)

    @property
    def every(self) -> int:
        """The network runs on every n-th frame."""
        return int(self.predictor.get("track_every", 1))


MODES: dict[str, Mode] = {
    EXACT: Mode(),
    "exact-int8": Mode(quantize=True),
    "share-5": Mode(predictor={"memory_share": 0.05}),
    "bfloat16": Mode(precision="bfloat16"),
    "bfloat16-share-5": Mode(precision="bfloat16", predictor={"memory_share": 0.05}),
    "every-2": Mode(predictor={"track_every": 2}),
    "every-4": Mode(predictor={"track_every": 4}),
    "size-512": Mode(image_size=512),
    "size-672": Mode(image_size=672),
    "size-768": Mode(image_size=768),
    "size-896": Mode(image_size=896),
    "size-512-every-2": Mode(image_size=512, predictor={"track_every": 2}),
}


class Ours:
    """The predictor in the mode of the job. Frames are read one by one, as the service does."""

    def __init__(self, job: Job) -> None:
        mode = MODES[job.mode or EXACT]
        policy = choose_device("cpu", precision=mode.precision)
        loaded = load_model(job.size, checkpoint=job.checkpoint or None, image_size=mode.image_size or job.image_size)
        quicken(loaded.model, policy.device)
        if mode.quantize:
            quantize_encoder(loaded.model, policy.device)
        self.predictor = Sam2VideoPredictor(loaded.model, policy, hints=loaded.hints, **mode.predictor)
        self.encoder = loaded.model.vision_encoder
        self.prepare_s = 0.0
        self._job = job
        self._frames: list[Path] = []
        self._bank = MemoryBank("none")
        self._opened = 0

    def open(self, frames: list[Path]) -> None:
        self._opened += 1
        folder = Path(self._job.out) / "memory"
        shutil.rmtree(folder, ignore_errors=True)
        self._frames, self._bank = frames, MemoryBank(f"clip {self._opened}", DiskSpill(folder, SPILL_BYTES))

    def click(self, object_id: int, x: float, y: float) -> None:
        prompt = PointPrompt(np.array([[x, y]], np.float32), np.array([POSITIVE], np.int32))
        self._enlarge(self.predictor.step(self._bank, self._frame(0), prompts={object_id: prompt},
                                          num_frames=len(self._frames)))

    def track(self) -> Iterator[Tensor]:
        for index in range(len(self._frames)):
            yield self._enlarge(self.predictor.step(self._bank, self._frame(index), track=list(self._bank.objects),
                                                    num_frames=len(self._frames)))

    def _frame(self, index: int) -> Frame:
        return Frame(index, self._job.width, self._job.height, lambda: self._pixels(index), self._pixels)

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """(S, S, 3) uint8 RGB."""
        started = time.perf_counter()
        square = to_square(np.asarray(Image.open(self._frames[index]).convert("RGB")), self.predictor.image_size)
        self.prepare_s += time.perf_counter() - started
        return square

    def _enlarge(self, outputs: list[ObjectOutput]) -> Tensor:
        logits = torch.from_numpy(np.stack([output.logits for output in outputs]))[:, None]
        return enlarge(logits, self._job.height, self._job.width)


if __name__ == "__main__":
    main(Ours)
