"""This service's predictor as its engine runs it: cached features, bounded memory, and every memory written to disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sam_service.core.build import build_predictor, clip_frame
from sam_service.core.device import choose_device
from sam_service.core.frames import ClipFrame, upsample
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.family import Checkpoint
from sam_service.core.predictor import ObjectOutput
from sam_service.core.prompts import POSITIVE, PointPrompt
from sam_service.core.speedups import Speedups
from torch import Tensor

from benchmarks.compare.measure import EncoderClock, Job, main
from benchmarks.compare.plan import EXACT, HALF

SPILL_BYTES = 4 << 30
PARTS = {"memory attention": "_attend", "mask decoder": "decode", "memory encoder": "_encode_memory"}
"""Methods of networks of SAM 2's kind whose time is counted."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the predictor is built. image_size: None for that of the run. every: the network runs on every n-th frame."""

    image_size: int | None = None
    precision: str = "float32"
    speedups: Speedups = Speedups()
    every: int = 1


MODES: dict[str, Mode] = {
    EXACT: Mode(),
    "exact-int8": Mode(speedups=Speedups(quantize=True)),
    "share-5": Mode(speedups=Speedups(memory_share=0.05)),
    "bfloat16": Mode(precision="bfloat16"),
    "bfloat16-share-5": Mode(precision="bfloat16", speedups=Speedups(memory_share=0.05)),
    "every-2": Mode(every=2),
    "every-4": Mode(every=4),
    HALF: Mode(image_size=512),
    "size-672": Mode(image_size=672),
    "size-768": Mode(image_size=768),
    "size-896": Mode(image_size=896),
    "size-512-every-2": Mode(image_size=512, every=2),
}


class InThisThread(Executor):
    """Runs at once what is handed to it, so that it can be timed."""

    def submit(self, run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(run(*args, **kwargs))
        return done


class Ours:
    """The predictor in the mode of the job. Frames are read one by one, as the service does."""

    def __init__(self, job: Job) -> None:
        mode = MODES[job.mode or EXACT]
        self.predictor = build_predictor(
            job.size, Checkpoint(job.checkpoint or None), image_size=mode.image_size or job.image_size,
            policy=choose_device("cpu", precision=mode.precision), speedups=mode.speedups, track_every=mode.every)
        self.clock, network = EncoderClock(), self.predictor.network
        network.encode = self.clock.around(network.encode)  # type: ignore[method-assign]
        self.parts = {part: EncoderClock() for part, name in PARTS.items() if hasattr(network, name)}
        for part, clock in self.parts.items():
            setattr(network, PARTS[part], clock.around(getattr(network, PARTS[part])))
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

    def _frame(self, index: int) -> ClipFrame:
        frame = clip_frame(self.predictor, index, (self._job.width, self._job.height), self._read)
        started = time.perf_counter()
        frame.prefetch(InThisThread(), [index])
        self.prepare_s += time.perf_counter() - started
        return frame

    def _read(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return np.asarray(Image.open(self._frames[index]).convert("RGB"))

    def _enlarge(self, outputs: list[ObjectOutput]) -> Tensor:
        width, height = self._job.width, self._job.height
        return torch.from_numpy(np.stack([upsample(output.logits, width, height)
                                          for output in outputs]))


if __name__ == "__main__":
    main(Ours)
