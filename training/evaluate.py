"""Measure a checkpoint with the service's own predictor, beside OpenCV alone on the same clips.

    python -m training.evaluate CHECKPOINT [--clips N] [--seed N] [--prompt box] [--textures DIR] [--cutouts DIR]
    python -m training.evaluate CHECKPOINT --judge score_service.py --videos DIR     # that judge's composites
    python -m training.evaluate CHECKPOINT --labelled DIR                            # clips with hand-made masks

Without a judge, the clips are the generator's own, with seeds that training never sees. `--corrections 3` adds clicks on
frame 0, each deep inside the largest error; `--away` turns the camera away from the object, for `absent_ok`; `--opencv` adds
the baseline; `--figure FILE.jpg` draws the scores' calibration.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sam_service.core.build import build_predictor, clip_frame
from sam_service.core.device import choose_device
from sam_service.core.frames import ClipFrame, upsample
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.models.family import Checkpoint
from sam_service.core.predictor import ObjectOutput
from sam_service.core.prompts import PointPrompt

from training import opencv_alone
from training.calibration import Pairs, error, figure
from training.cases import Case, Mask, chosen
from training.prompts import LEAST_AREA


@dataclass
class Tally:
    """What was measured over all cases."""

    click: list[float] = field(default_factory=list)
    corrected: list[float] = field(default_factory=list)
    track: list[float] = field(default_factory=list)
    absent: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    scores: Pairs = field(default_factory=list)  # predicted IoU and the true one
    presences: Pairs = field(default_factory=list)  # probability of presence and the truth

    def add(self, case: Case, masks: Sequence[Mask]) -> None:
        """Count the masks of later frames."""
        later = {time: mask for time, mask in case.truth.items() if time}
        overlaps = [overlap(masks[time], mask) for time, mask in later.items() if mask.sum() >= LEAST_AREA]
        self.kept += [bool(masks[time].any()) for time, mask in later.items() if mask.sum() >= LEAST_AREA]
        self.absent += [bool(masks[time].sum() < LEAST_AREA) for time, mask in later.items() if not mask.any()]
        if overlaps:
            self.track.append(float(np.mean(overlaps)))

    def summary(self) -> dict[str, Any]:
        """Means, and calibration errors."""
        means: dict[str, Sequence[float]] = {
            "j_click": self.click,
            "j_corrected": self.corrected,
            "j_track": self.track,
            "absent_ok": self.absent,
            "present_ok": self.kept,
            "robust": [value >= 0.5 for value in self.track],
        }
        out: dict[str, Any] = {"clips": len(self.click)}
        out |= {name: round(float(np.mean(values)), 4) for name, values in means.items() if values}
        out |= {f"{name}_error": round(error(pairs), 4) for name, pairs in
                (("score", self.scores), ("object_score", self.presences)) if pairs}  # fmt: skip
        return out


class Subject:
    """A checkpoint behind the service's predictor."""

    def __init__(self, checkpoint: Path, size: int | None) -> None:
        self.predictor = build_predictor(checkpoint=Checkpoint(checkpoint), image_size=size, policy=choose_device("auto"))

    def run(self, case: Case, tally: Tally, corrections: int) -> list[Mask]:
        """Prompt frame 0, correct it, carry on; the mask (H, W) of every frame."""
        bank, count = MemoryBank(case.name), len(case.frames)
        frames = [self._frame(case, time) for time in range(count)]
        points = case.prompt.reshape(-1, 2).astype(np.float32)
        labels = np.array([1] if len(points) == 1 else [2, 3], np.int32)
        mask, output = self._prompt(bank, frames[0], points, labels, count)
        tally.click.append(overlap(mask, case.truth[0]))
        tally.scores.append((output.score, tally.click[-1]))
        for _ in range(corrections):
            point, label = correction(mask, case.truth[0])
            points, labels = np.vstack([points, point]), np.append(labels, label).astype(np.int32)
            mask, _ = self._prompt(bank, frames[0], points, labels, count)
        if corrections:
            tally.corrected.append(overlap(mask, case.truth[0]))
        masks = [mask]
        for frame in frames[1:]:
            [output] = self.predictor.step(bank, frame, track=[1], num_frames=count)
            masks.append(enlarged(output, frame))
            self._note(case, frame.index, masks[-1], output, tally)
        return masks

    def _frame(self, case: Case, time: int) -> ClipFrame:
        height, width = case.frames[time].shape[:2]
        return clip_frame(self.predictor, time, (width, height), lambda at: case.frames[at], len(case.frames))

    def _prompt(self, bank: MemoryBank, frame: ClipFrame, points: Any, labels: Any, count: int) -> tuple[Mask, ObjectOutput]:
        [output] = self.predictor.step(bank, frame, prompts={1: PointPrompt(points, labels)}, num_frames=count)
        return enlarged(output, frame), output

    def _note(self, case: Case, time: int, mask: Mask, output: ObjectOutput, tally: Tally) -> None:
        truth = case.truth.get(time)
        if truth is None:
            return
        if truth.sum() >= LEAST_AREA:
            tally.scores.append((output.score, overlap(mask, truth)))
        if truth.sum() >= LEAST_AREA or not truth.any():
            tally.presences.append((output.object_score, float(truth.any())))


def enlarged(output: ObjectOutput, frame: ClipFrame) -> Mask:
    """The mask (H, W) as the service answers it."""
    width, height = frame.width, frame.height
    return np.asarray(upsample(output.logits, output.crop, width, height, width, height) > 0)


def correction(mask: Mask, truth: Mask) -> tuple[Any, int]:
    """A click (x, y) deep inside the largest error, as a user would place it, and its label."""
    missed, spilt = (_depth(truth & ~mask), _depth(mask & ~truth))
    depth = missed if missed.max() >= spilt.max() else spilt
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x, y], np.float32), int(truth[y, x])


def _depth(mask: Mask) -> Any:
    return cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]


def overlap(a: Mask, b: Mask) -> float:
    """IoU of two masks."""
    union = (a | b).sum()
    return 1.0 if union == 0 else float((a & b).sum() / union)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, help="image size, where not the checkpoint's own")
    parser.add_argument("--prompt", choices=("click", "box"), default="click")
    parser.add_argument("--corrections", type=int, default=0)
    parser.add_argument("--away", action="store_true", help="let the camera turn away from the object")
    parser.add_argument("--opencv", action="store_true", help="measure OpenCV alone, too")
    parser.add_argument("--figure", type=Path, help="where to draw the calibration of both scores")
    parser.add_argument("--textures", type=Path, help="clips whose frames serve as textures")
    parser.add_argument("--cutouts", type=Path, action="append", help="a folder of PNG files with alpha")
    parser.add_argument("--judge", type=Path, help="the judge's script")
    parser.add_argument("--videos", type=Path, help="clips for the judge's composites")
    parser.add_argument("--labelled", type=Path, help="clips with hand-made masks")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    subject, tally, alone = Subject(args.checkpoint, args.size), Tally(), Tally()
    for case in chosen(args):
        tally.add(case, subject.run(case, tally, args.corrections))
        if args.opencv:
            masks = opencv_alone.segment(case)
            alone.click.append(overlap(masks[0], case.truth[0]))
            alone.add(case, masks)
        track = f"{tally.track[-1]:.3f}" if tally.track else "-"
        print(f"{case.name:28s} click {tally.click[-1]:.3f}  track {track}", flush=True)
    if args.figure:
        figure(args.figure, {"score": tally.scores, "object_score": tally.presences})
    print(json.dumps({"model": tally.summary()} | ({"opencv_alone": alone.summary()} if args.opencv else {})))


if __name__ == "__main__":
    main()
