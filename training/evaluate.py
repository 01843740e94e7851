"""Measure a checkpoint, stepping through clips as the service does.

    python -m training.evaluate CHECKPOINT [--clips N] [--seed N] [--prompt box] [--textures DIR]
    python -m training.evaluate CHECKPOINT --judge score_service.py --videos DIR     # that judge's composites
    python -m training.evaluate CHECKPOINT --judge score_service.py --labelled DIR   # clips with hand-made masks

Without a judge, the clips are the generator's own, with seeds that training never sees.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sam_service.core.proposal import proposal
from torch.nn import functional
from transformers import Sam2VideoModel

from training.checkpoint import load
from training.clips import make_clip
from training.prompts import LEAST_AREA, box_around, click_inside
from training.step import Memory, encode, memorise, normalise, prompted, tracked
from training.textures import TextureBank

Mask = NDArray[np.bool_]
Image8 = NDArray[np.uint8]
FRESH = 900_000  # added to the seeds of own clips


@dataclass
class Case:
    """RGB frames (H, W, 3); true masks (H, W) of some; the prompt of frame 0, a click or a box, in their pixels."""

    name: str
    frames: list[Image8]
    truth: dict[int, Mask]
    prompt: NDArray[np.float32]


@torch.inference_mode()
def segment(model: Sam2VideoModel, case: Case, with_proposal: bool) -> list[Mask]:
    """The mask (H, W) of every frame of a case."""
    size = model.prompt_encoder.input_image_size
    assert isinstance(size, int)
    height, width = case.frames[0].shape[:2]
    scaled = case.prompt.reshape(-1, 2) * np.array([size / width, size / height], np.float32)
    labels = np.array([1] if len(scaled) == 1 else [2, 3], np.int32)
    memories: list[Memory] = []
    masks: list[Mask] = []
    for time, frame in enumerate(case.frames):
        small = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
        features = encode(model, normalise(torch.from_numpy(small.copy()))[None])
        if time == 0:
            guess = _guess(small, scaled, labels) if with_proposal else None
            decoded = prompted(
                model, features, torch.from_numpy(scaled)[None].float(), torch.from_numpy(labels)[None], guess
            )
        else:
            decoded = tracked(model, features, memories, time)
        memories.append(memorise(model, features, decoded, time, is_prompted=time == 0))
        memories = [m for m in memories if m.prompted or time - m.time < model.config.max_object_pointers_in_encoder]
        full = functional.interpolate(decoded.gated(), size=(height, width), mode="bilinear", align_corners=False)
        masks.append((full[0, 0] > 0).numpy())
    return masks


def _guess(image: Image8, points: NDArray[np.float32], labels: NDArray[np.int32]) -> torch.Tensor:
    """The proposal (1, 1, S/4, S/4) for a click, or for a box given as two corners."""
    if len(points) == 1:
        logits = proposal(image, points, labels)
    else:
        logits = proposal(image, points[:0], labels[:0], points.reshape(-1))
    return torch.from_numpy(logits)[None, None]


def own_cases(args: argparse.Namespace) -> Iterator[Case]:
    """The generator's clips, with seeds kept apart from training."""
    bank = TextureBank(np.random.default_rng(FRESH + args.seed), args.textures, patterns=100)
    for index in range(args.clips):
        rng = np.random.default_rng([FRESH + args.seed, index])
        clip = make_clip(rng, bank)
        masks = clip.covers[:, 0] > 0.5
        if masks[0].sum() < LEAST_AREA:
            continue
        prompt = (box_around if args.prompt == "box" else click_inside)(rng, masks[0])
        yield Case(f"own-{args.seed}-{index}", list(clip.frames), dict(enumerate(masks)), prompt)


def judge_cases(judge: ModuleType, args: argparse.Namespace) -> Iterator[Case]:
    """The composites that the judge would send, through the same kind of video file."""
    clips = sorted(args.videos.glob("*.mp4"))
    for index in range(args.clips):
        frames, masks = judge.composite(np.random.default_rng([args.seed, index]), clips, occluded=index % 3 == 2)
        prompt = judge.bounding_box(masks[0]) if args.prompt == "box" else judge.interior_point(masks[0])
        coded = [_rgb(cv2.imdecode(cv2.imencode(".jpg", frame)[1], cv2.IMREAD_COLOR)) for frame in frames]
        yield Case(f"composite-{args.seed}-{index}", coded, dict(enumerate(masks)), np.array(prompt, np.float32))


def labelled_cases(args: argparse.Namespace) -> Iterator[Case]:
    """Clips with a few hand-made masks."""
    for entry in json.loads((args.labelled / "index.json").read_text()):
        capture = cv2.VideoCapture(str(args.labelled / f"{entry['clip']}.mp4"))
        read = [capture.read()[1] for _ in range(max(entry["frames"]) + 1)]
        drawn = {i: cv2.imread(str(args.labelled / entry["clip"] / f"{i:05d}.png"), 0) for i in entry["frames"]}
        truth = {i: np.asarray(mask) > 127 for i, mask in drawn.items()}
        yield Case(entry["clip"], [_rgb(f) for f in read], truth, np.array(entry[args.prompt], np.float32))


def _rgb(image: Any) -> Image8:
    """OpenCV's channels the right way round."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def overlap(a: Mask, b: Mask) -> float:
    """IoU of two masks."""
    union = (a | b).sum()
    return 1.0 if union == 0 else float((a & b).sum() / union)


def score(model: Sam2VideoModel, cases: Iterator[Case], with_proposal: bool, quiet: bool = False) -> dict[str, Any]:
    """Mean IoU on the prompted frame and on later ones, and the share of absent frames left empty."""
    clicks, tracks, absent = [], [], []
    for case in cases:
        got = segment(model, case, with_proposal)
        clicks.append(overlap(got[0], case.truth[0]))
        later = [overlap(got[i], mask) for i, mask in case.truth.items() if i and mask.sum() >= LEAST_AREA]
        absent += [bool(got[i].sum() < LEAST_AREA) for i, mask in case.truth.items() if i and not mask.any()]
        if later:
            tracks.append(float(np.mean(later)))
        if not quiet:
            print(f"{case.name:28s} click {clicks[-1]:.3f}  track {np.mean(later) if later else float('nan'):.3f}")
    return {
        "clips": len(clicks),
        "j_click": round(float(np.mean(clicks)), 4),
        "j_track": round(float(np.mean(tracks)), 4),
        "robust": round(float(np.mean([t >= 0.5 for t in tracks])), 3),
        "absent_ok": round(float(np.mean(absent)), 3) if absent else None,
    }


def _judge(path: Path) -> ModuleType:
    """The judge's module, from its file."""
    spec = importlib.util.spec_from_file_location("judge", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, help="image size, where not the checkpoint's own")
    parser.add_argument("--prompt", choices=("click", "box"), default="click")
    parser.add_argument("--textures", type=Path, help="clips whose frames serve as textures")
    parser.add_argument("--judge", type=Path, help="the judge's script")
    parser.add_argument("--videos", type=Path, help="clips for the judge's composites")
    parser.add_argument("--labelled", type=Path, help="clips with hand-made masks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-proposal", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, with_proposal = load(args.checkpoint, args.size)
    if args.labelled:
        cases = labelled_cases(args)
    elif args.judge:
        cases = judge_cases(_judge(args.judge), args)
    else:
        cases = own_cases(args)
    print(json.dumps(score(model, cases, with_proposal and not args.no_proposal)))


if __name__ == "__main__":
    main()
