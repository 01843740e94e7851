"""Measure a checkpoint on the pictures that are kept for choosing, with the service's own predictor.

    python -m training.evaluate CHECKPOINT --data FOLDER [--what photos clips gone] [--calibrate OUT]

Photos: IoU after 1 to 5 clicks, and after a box. Clips: J and F after the first mask, a click, a box. Gone: made clips whose
object leaves, is cut away, or is covered. `--calibrate` writes the checkpoint anew with scores that mean what they say; its
masks are the same, but an object counts as gone where the calibrated presence is below that of LEAN. The public figures come
from `benchmarks/`, over REST.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sam_service.core.build import build_predictor, clip_frame
from sam_service.core.device import choose_device
from sam_service.core.frames import ClipFrame, upsample
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.models.family import Checkpoint
from sam_service.core.predictor import ObjectOutput
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from torch import Tensor

from benchmarks.metrics import Mask, boundary, bounding_box, corrective_click, inner_point, region
from training.calibration import Pairs, error, platt
from training.checkpoint import export
from training.library import UNUSED, Library, open_library
from training.sampler import Sampler
from training.views import Image8

CLICKS = 5
VISIBLE = 30  # pixels, for an object to be in a frame
MADE = 120  # clips for `gone`
LEAN = 0.5  # taken from the calibrated logit of presence: a mask on what hides an object is worse than a frame without one
KINDS = ("mask", "click", "box")


@dataclass
class Tally:
    """Everything that was measured: means are over pictures, or over clips."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    scores: Pairs = field(default_factory=list)
    presences: Pairs = field(default_factory=list)

    def line(self, *names: str) -> str:
        """Means under these names, or all."""
        shown = names or tuple(self.values)
        return "  ".join(f"{name} {np.mean(self.values[name]):.4f}" for name in shown if self.values[name])


class Subject:
    """A checkpoint behind the service's predictor."""

    def __init__(self, checkpoint: Path, image_size: int | None = None) -> None:
        self.predictor = build_predictor(
            "nano", Checkpoint(checkpoint), image_size=image_size, policy=choose_device("auto")
        )
        self._names = map("evaluated-{}".format, itertools.count())

    def session(self) -> MemoryBank:
        """A bank for another clip."""
        return MemoryBank(next(self._names))

    def frame(self, index: int, image: Image8) -> ClipFrame:
        """A frame of a clip."""
        return clip_frame(self.predictor, index, (image.shape[1], image.shape[0]), lambda _: image)

    def ask(self, bank: MemoryBank, frame: ClipFrame, prompt: Prompt) -> tuple[Mask, ObjectOutput]:
        """Prompt object 1."""
        [output] = self.predictor.step(bank, frame, prompts={1: prompt}, num_frames=1000)
        return mask_of(output, frame), output

    def track(self, bank: MemoryBank, frame: ClipFrame) -> tuple[Mask, ObjectOutput]:
        """Carry object 1 on."""
        [output] = self.predictor.step(bank, frame, track=[1], num_frames=1000)
        return mask_of(output, frame), output


def mask_of(output: ObjectOutput, frame: ClipFrame) -> Mask:
    """The mask (H, W) as the service answers it."""
    return np.asarray(upsample(output.logits, frame.width, frame.height) > 0)


def prompt_of(kind: str, mask: Mask) -> Prompt:
    """A first prompt for an object with this mask."""
    if kind == "mask":
        return MaskPrompt(mask)
    if kind == "click":
        return points_prompt([inner_point(mask)], [1])
    x0, y0, x1, y1 = bounding_box(mask)
    return points_prompt([(x0, y0), (x1 + 1, y1 + 1)], [2, 3], boxed=True)


def points_prompt(points: list[tuple[float, float]], labels: list[int], *, boxed: bool = False) -> PointPrompt:
    """Clicks in pixels, or the corners of a box."""
    shift = 0.0 if boxed else 0.5  # to the pixel's centre
    return PointPrompt(np.array(points, np.float32) + shift, np.array(labels, np.int32), boxed=boxed)


def measure_photos(subject: Subject, library: Library, tally: Tally, limit: int | None) -> None:
    """Clicks and boxes."""
    rng = np.random.default_rng(0)
    for entry in library.photos[:limit]:
        image, labels = library.picture(entry)
        usable = labels != UNUSED
        truth = np.asarray(labels == entry.objects[int(rng.integers(len(entry.objects)))])
        bank, frame = subject.session(), subject.frame(0, image)
        points, marks = [inner_point(truth)], [1]
        for number in range(1, CLICKS + 1):
            mask, output = subject.ask(bank, frame, points_prompt(points, marks))
            overlap = region(mask, truth, usable)
            tally.values[f"click {number}"].append(overlap)
            if number == 1:
                tally.scores.append((output.score, overlap))
            click = corrective_click(mask, truth, usable)
            if click is not None:
                points, marks = [*points, click[:2]], [*marks, click[2]]
        mask, output = subject.ask(subject.session(), frame, prompt_of("box", truth))
        tally.values["photo box"].append(region(mask, truth, usable))
        tally.scores.append((output.score, tally.values["photo box"][-1]))


def measure_clips(subject: Subject, library: Library, tally: Tally, kinds: tuple[str, ...]) -> None:
    """J and F, without the first and the last frame; F on every second frame."""
    for name, entries in sorted(library.clips.items()):
        for kind in kinds:
            bank, regions, boundaries = subject.session(), [], []
            for index, entry in enumerate(entries[:-1]):
                image, labels = library.picture(entry)
                truth, frame = np.asarray(labels == 1), subject.frame(index, image)
                if index == 0:
                    mask, _ = subject.ask(bank, frame, prompt_of(kind, truth))
                    tally.values[f"{kind} first"].append(region(mask, truth))
                    continue
                mask, output = subject.track(bank, frame)
                regions.append(region(mask, truth))
                boundaries += [boundary(mask, truth)] if index % 2 else []
                tally.scores.append((output.score, regions[-1]))
            tally.values[f"{kind} J"].append(float(np.mean(regions)))
            tally.values[f"{kind} F"].append(float(np.mean(boundaries)))
            tally.values[f"{kind} J&F"].append((tally.values[f"{kind} J"][-1] + tally.values[f"{kind} F"][-1]) / 2)
            print(f"{name:16s} {kind:6s} J {np.mean(regions):.3f}  F {np.mean(boundaries):.3f}", flush=True)


def measure_gone(subject: Subject, library: Library, tally: Tally, seed: int, clips: int = MADE) -> None:
    """Made clips, in which objects go and come back."""
    sampler = Sampler(Library(library.photos, {}, library.rgb, library.labels), np.random.default_rng([seed, 900_000]))
    for _ in range(clips):
        clip = sampler.clip(sampler.size(subject.predictor.network.image_size))
        bank = subject.session()
        for index, (image, drawn) in enumerate(zip(clip.images, clip.masks, strict=True)):
            truth, frame = np.asarray(np.nan_to_num(drawn) > 0.5), subject.frame(index, image)
            if index == 0:
                subject.ask(bank, frame, MaskPrompt(truth))
                continue
            mask, output = subject.track(bank, frame)
            if truth.sum() >= VISIBLE:
                tally.values["made J"].append(region(mask, truth))
                tally.values["made kept"].append(float(mask.any()))
            elif not truth.any():
                tally.values["made empty"].append(float(not mask.any()))
            if truth.sum() >= VISIBLE or not truth.any():
                tally.presences.append((output.object_score, float(truth.any())))


def calibrated(state: dict[str, Tensor], tally: Tally) -> dict[str, Tensor]:
    """The state with Platt's correction of both scores folded into the last layer that rates masks."""
    weight, bias = state["judge.2.weight"].float().clone(), state["judge.2.bias"].float().clone()
    for row, pairs in enumerate((tally.scores, tally.presences)):
        values: NDArray[np.float64] = np.asarray(pairs, np.float64)
        said = values[:, 0].clip(1e-6, 1 - 1e-6)
        scale, shift = platt(np.log(said / (1 - said)), values[:, 1])
        shift -= (0.0, LEAN)[row]
        weight[row], bias[row] = weight[row] * scale, bias[row] * scale + shift
        print(f"{('score', 'object_score')[row]}: logits times {scale:.3f} plus {shift:+.3f}")
    return {**state, "judge.2.weight": weight, "judge.2.bias": bias}


def run(subject: Subject, library: Library, args: argparse.Namespace) -> Iterator[str]:
    """Measure what is asked for; a line for each part."""
    tally: Tally = args.tally
    if "photos" in args.what:
        measure_photos(subject, library, tally, args.limit)
        yield tally.line(*(f"click {n}" for n in range(1, CLICKS + 1)), "photo box")
    if "clips" in args.what and library.clips:
        measure_clips(subject, library, tally, tuple(args.kinds))
        yield tally.line(*(f"{kind} {name}" for kind in args.kinds for name in ("first", "J", "F", "J&F")))
    if "gone" in args.what:
        measure_gone(subject, library, tally, seed=1)
        yield tally.line("made J", "made kept", "made empty")
    yield f"calibration error: score {error(tally.scores):.3f}  object_score {error(tally.presences):.3f}"


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="the folder of `training.train`; made-up pictures without it")
    parser.add_argument("--cache", type=Path, default=Path("training/runs/cache"), help="where pictures are kept decoded")
    parser.add_argument("--what", nargs="+", choices=("photos", "clips", "gone"), default=["photos", "clips", "gone"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--limit", type=int, help="the first so many photos")
    parser.add_argument("--image-size", type=int, help="where not the checkpoint's own")
    parser.add_argument("--calibrate", type=Path, help="where to write the checkpoint with calibrated scores")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    args.tally = Tally()
    subject = Subject(args.checkpoint, args.image_size)
    for line in run(subject, open_library(args.data, args.cache, dev=True), args):
        print(line, flush=True)
    if args.calibrate:
        state = load_file(args.checkpoint / "model.safetensors")
        export(calibrated(state, args.tally), args.calibrate, subject.predictor.network.image_size)


if __name__ == "__main__":
    main()
