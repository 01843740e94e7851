"""Train the nano model: from nothing, from a checkpoint, or from where an earlier run in the same folder stopped.

    python -m training.train --out DIR [--start CHECKPOINT [--course NAME]] [--textures DIR] [--cutouts DIR] [--minutes N]

DIR receives run.pt (all that a resumed run needs), curves.csv, pictures/ and checkpoint/ (what the service loads).
Clips come from a pool on disk, which a generator process keeps filling while the training runs.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sam_service.core.models.nano.architecture import build_nano
from torch import distributed, nn
from torch.multiprocessing.spawn import start_processes
from transformers import Sam2VideoModel

from training import curves, pool
from training.average import Average
from training.batch import draw
from training.checkpoint import export, fill
from training.initial import initialise
from training.unroll import Outcome, clip_step, image_step


@dataclass(frozen=True)
class Stage:
    """A part of the course: up to which share of the time it lasts, and what a process sees in one step."""

    until: float
    size: int
    images: int
    frames: int = 1  # of a clip; 1 means images only
    clips: int = 0
    image_share: float = 0.5  # of the steps, where there are clips
    truth: tuple[float, float] = (0.0, 0.0)  # teacher forcing, from the stage's start to its end


@dataclass(frozen=True)
class Course:
    """Every choice of a run."""

    stages: tuple[Stage, ...] = (
        Stage(until=0.07, size=128, images=16),
        Stage(until=0.16, size=192, images=10),
        Stage(until=0.42, size=192, images=12, frames=4, clips=4, truth=(1.0, 0.3)),
        Stage(until=0.52, size=192, images=12, frames=8, clips=3, truth=(0.3, 0.1)),
        Stage(until=0.71, size=256, images=8, frames=4, clips=3, image_share=0.65, truth=(0.2, 0.1)),
        Stage(until=1.00, size=256, images=8, frames=8, clips=2, truth=(0.1, 0.0)),
    )
    final_size: int = 320  # written into the checkpoint; larger than in training, which helps small objects
    rate: float = 1.2e-3
    least_rate: float = 2e-5
    warm_up: int = 100  # steps
    decay: float = 0.02
    clip_norm: float = 1.0
    correct: float = 0.4  # share of steps with correction clicks
    most_corrections: int = 3
    withhold: float = 0.15  # share of steps without the proposal
    seed: int = 1
    frozen: tuple[str, ...] = ()  # names of parts that keep their weights
    processes: int = 2
    save_every: float = 120.0  # seconds
    picture_every: float = 240.0

    def stage(self, progress: float) -> tuple[Stage, float]:
        """The stage at `progress` in 0..1, and how much of that stage is over."""
        start = 0.0
        for stage in self.stages:
            if progress < stage.until:
                return stage, (progress - start) / (stage.until - start)
            start = stage.until
        return self.stages[-1], 1.0

    def rate_at(self, progress: float, step: int) -> float:
        """Learning rate: a linear start, then half a cosine over the whole time."""
        wave = 0.5 * (1 + np.cos(np.pi * min(progress, 1.0)))
        return float((self.least_rate + (self.rate - self.least_rate) * wave) * min(1.0, (step + 1) / self.warm_up))


FROM_NOTHING = Course()
FROM_CHECKPOINT = Course(
    stages=(
        Stage(until=0.70, size=192, images=10, frames=4, clips=3, image_share=0.4, truth=(0.4, 0.1)),
        Stage(until=0.88, size=256, images=8, frames=4, clips=2, image_share=0.4, truth=(0.1, 0.0)),
        Stage(until=1.00, size=256, images=8, frames=7, clips=2, image_share=0.4),
    ),
    rate=6e-4,
    seed=2,
    frozen=("vision_encoder.stem", "vision_encoder.stages.0", "vision_encoder.stages.1"),
)

POLISH = replace(
    FROM_CHECKPOINT,
    stages=(
        Stage(until=0.55, size=256, images=8, frames=4, clips=2, image_share=0.55, truth=(0.2, 0.0)),
        Stage(until=1.00, size=256, images=8, frames=7, clips=2, image_share=0.55),
    ),
    rate=5e-4,
    correct=0.2,
    withhold=0.25,
    seed=4,
    frozen=("vision_encoder.stem", "vision_encoder.stages.0"),
)
TRACKING = replace(  # what prompts are answered with stays as it is; presence and memory learn on
    POLISH,
    stages=(
        Stage(until=0.35, size=256, images=8, frames=5, clips=3, image_share=0.0, truth=(0.2, 0.0)),
        Stage(until=1.00, size=256, images=8, frames=8, clips=2, image_share=0.0),
    ),
    correct=0.1,
    seed=6,
    frozen=("no_memory_embedding", "vision_encoder.", "prompt_encoder.", *(f"mask_decoder.{part}" for part in (
        "iou_token", "mask_tokens", "obj_score_token", "transformer.", "upscale_", "output_hypernetworks_mlps.",
        "iou_prediction_head.", "conv_s", "prompt_readout.", "hint_embed.", "outline."))),
)
COURSES = {"whole": FROM_NOTHING, "further": FROM_CHECKPOINT, "polish": POLISH, "tracking": TRACKING}


@dataclass
class Place:
    """Where a run keeps things, what it starts from, on which device, and how long it may take."""

    out: Path
    clips: Path
    minutes: float
    start: Path | None = None
    device: str = "cpu"


class Trainer:
    """One of the processes: its model, its optimiser, its share of the data."""

    def __init__(self, course: Course, place: Place, rank: int) -> None:
        self.course, self.place, self.rank = course, place, rank
        torch.manual_seed(course.seed)
        self.device = torch.device(place.device)
        self.precision = working_precision(self.device)
        self.models: dict[int, Sam2VideoModel] = {}
        self.model = build_nano(course.final_size)
        initialise(self.model)
        if place.start is not None:
            fill(self.model, place.start)
        network: Any = self.model
        network.to(self.device)
        self.model.vision_encoder.to(memory_format=torch.channels_last)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(course.frozen))
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        matrices = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": course.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=course.rate, betas=(0.9, 0.98), fused=True)
        self.average = Average(self.model)
        self.step, self.spent = 0, 0.0
        self._resume()
        self.pool = pool.Pool(place.clips)
        self.rng = np.random.default_rng([course.seed, rank, self.step])

    def _resume(self) -> None:
        """Continue from run.pt where there is one."""
        path = self.place.out / "run.pt"
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.average.state = saved["average"]
        self.average.updates = saved["step"]
        if len(saved["optimiser"]["state"]) == len(self.parameters):  # else other parts were frozen: moments start anew
            self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.spent = saved["step"], saved["spent"]

    def at(self, size: int) -> Sam2VideoModel:
        """The model for frames of `size` pixels: the same parameters under that size's configuration."""
        if size not in self.models:
            sized = build_nano(size)
            # The decoder's heads are 8 wide over few tokens: the fused kernel is slower there, backwards above all.
            sized.mask_decoder.config._attn_implementation = "eager"
            for name, module in self.model.named_modules():
                twin = sized.get_submodule(name)
                twin._parameters.update(module._parameters)
                kept = module._buffers.keys() - module._non_persistent_buffers_set
                twin._buffers.update({k: module._buffers[k] for k in kept})
            self.models[size] = sized.train()
            for module in sized.modules():  # what keeps its weights keeps its statistics as well
                if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                    module.eval()
        return self.models[size]

    def forward(self, stage: Stage, part: float) -> Outcome:
        """One batch through the network. What is drawn may differ between processes; the kind of step may not."""
        course = self.course
        shared = np.random.default_rng([course.seed, self.step])
        model = self.at(stage.size)
        correct = shared.random() < course.correct
        single = stage.frames == 1 or shared.random() < stage.image_share
        count, frames = (stage.images, 1) if single else (stage.clips, stage.frames)
        batch = draw(self.pool, self.rng, count, frames, stage.size, course.withhold).to(self.device)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            if single:
                corrections = int(shared.integers(1, 1 + course.most_corrections)) if correct else 0
                outcome = image_step(model, batch, corrections)
            else:
                truth = stage.truth[0] + (stage.truth[1] - stage.truth[0]) * part
                outcome = clip_step(model, batch, truth, self.rng, correct)
        self.seen = batch
        return outcome

    def share_gradients(self) -> None:
        """Average the gradients of all processes."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.contiguous().flatten() for p in self.parameters if p.grad is not None])
        if self.course.processes > 1:
            distributed.all_reduce(flat)
            flat /= self.course.processes
        pieces = torch.split(flat, [p.numel() for p in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def one_step(self, progress: float) -> tuple[Stage, Outcome, float]:
        """Forward, backward, update."""
        stage, part = self.course.stage(progress)
        rate = self.course.rate_at(progress, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        outcome = self.forward(stage, part)
        torch.autograd.backward(outcome.total)
        self.share_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.course.clip_norm)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        if self.rank == 0:
            self.average.update(self.model)
        return stage, outcome, rate

    def save(self) -> None:
        """Write run.pt and the checkpoint of the averaged weights."""
        saved = {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "spent": self.spent,
        }
        partial = self.place.out / "run.partial"
        torch.save(saved, partial)
        os.replace(partial, self.place.out / "run.pt")
        export(self.average.state, self.place.out / "checkpoint", self.course.final_size)

    def run(self) -> None:
        """Train until the time is over."""
        log = curves.Curves(self.place.out) if self.rank == 0 else None
        total, last = self.place.minutes * 60, time.monotonic()
        saved = pictured = self.spent
        clock = torch.zeros(1)
        while True:
            now = time.monotonic()
            self.spent, last = self.spent + now - last, now
            clock[0] = self.spent
            if self.course.processes > 1:
                distributed.broadcast(clock, 0)
            self.spent = float(clock)
            if self.spent >= total:
                break
            stage, outcome, rate = self.one_step(self.spent / total)
            if log is None:
                continue
            log.add(self.spent, total, self.step, stage.size, self.seen.kind, outcome, rate)
            if self.spent - pictured > self.course.picture_every:
                pictured = self.spent
                curves.picture(self.place.out, self.step, self.seen, outcome.logits)
            if self.spent - saved > self.course.save_every:
                saved = self.spent
                self.save()
        if self.rank == 0:
            self.save()


def working_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, float32 where it would only be emulated, hundreds of times slower."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def work(rank: int, course: Course, place: Place) -> None:
    """The body of one training process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if course.processes > 1:
        store = f"file://{(place.out / 'rendezvous').resolve()}"
        distributed.init_process_group("gloo", store, timedelta(minutes=10), course.processes, rank)
    Trainer(course, place, rank).run()


def main() -> None:
    """Fill the pool in the background and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--textures", type=Path, help="a folder of .mp4 clips whose frames serve as textures")
    parser.add_argument("--cutouts", type=Path, action="append", default=[], help="a folder of PNG files with alpha")
    parser.add_argument("--start", type=Path, help="a checkpoint folder whose weights are the beginning")
    parser.add_argument("--course", choices=sorted(COURSES),
                        help="whole, or further with a start; polish, for the end; tracking, which leaves prompts alone")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--pool", type=Path, help="a pool that is filled already, by training.pool")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--slots", type=int, default=3000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rendezvous").unlink(missing_ok=True)
    course = COURSES[args.course or ("whole" if args.start is None else "further")]
    if args.device != "cpu":
        course = replace(course, processes=1)
    (args.out / "course.txt").write_text("\n".join(f"{k} = {v}" for k, v in asdict(course).items()) + "\n")
    clips = args.pool or args.out / "pool"
    filler = None if args.pool else pool.start(clips, pool.Sources(args.textures, tuple(args.cutouts)), args.slots)
    try:
        where = Place(args.out, clips, args.minutes, args.start, args.device)
        start_processes(work, (course, where), course.processes)
    finally:
        if filler is not None:
            filler.terminate()


if __name__ == "__main__":
    main()
