"""Clips to measure on, each with a prompt and true masks: the generator's own, a judge's composites, hand-labelled ones."""

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
from numpy.typing import NDArray

from training.clips import make_clip
from training.prompts import LEAST_AREA, box_around, click_inside
from training.textures import TextureBank

Mask = NDArray[np.bool_]
Image8 = NDArray[np.uint8]
WINDOW = 0.45  # of a frame's sides, through which a camera looks that turns away
FRESH = 900_000  # added to the seeds of own clips


@dataclass
class Case:
    """RGB frames (H, W, 3); true masks (H, W) of some; the prompt of frame 0, a click or a box, in their pixels."""

    name: str
    frames: list[Image8]
    truth: dict[int, Mask]
    prompt: NDArray[np.float32]


def own_cases(args: argparse.Namespace) -> Iterator[Case]:
    """The generator's clips, with seeds kept apart from training."""
    bank = TextureBank(np.random.default_rng(FRESH + args.seed), args.textures, patterns=100, cutouts=args.cutouts)
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


def turned_away(case: Case) -> Case | None:
    """The same seen through a window that turns to the corner where the object is not, in the second third of the clip;
    None where no corner is free of it."""
    (height, width), count = case.frames[0].shape[:2], len(case.frames)
    rows, columns = (round(WINDOW * side) for side in (height, width))
    box = cv2.boundingRect(case.truth[0].astype(np.uint8))
    start = np.array([box[0] + (box[2] - columns) / 2, box[1] + (box[3] - rows) / 2]).clip(0, [width - columns, height - rows])
    late = np.logical_or.reduce([mask for time, mask in case.truth.items() if time >= 2 * count // 3])
    corners = [(x, y) for x in (0, width - columns) for y in (0, height - rows)]
    end = min(corners, key=lambda corner: late[corner[1] : corner[1] + rows, corner[0] : corner[0] + columns].sum())
    if late[end[1] : end[1] + rows, end[0] : end[0] + columns].any():
        return None
    frames, truth = [], {}
    for time, frame in enumerate(case.frames):
        x, y = np.round(start + (end - start) * np.clip(3 * time / count - 1, 0, 1)).astype(int)
        frames.append(np.asarray(cv2.resize(frame[y : y + rows, x : x + columns], (width, height)), np.uint8))
        if time in case.truth:
            part = case.truth[time][y : y + rows, x : x + columns].astype(np.uint8)
            truth[time] = cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    prompt = (case.prompt - np.tile(start.round(), len(case.prompt) // 2)) / WINDOW
    return Case(f"{case.name}-away", frames, truth, prompt.astype(np.float32))


def chosen(args: argparse.Namespace) -> Iterator[Case]:
    """The cases that the command line asks for."""
    cases = _chosen(args)
    return filter(None, map(turned_away, cases)) if args.away else cases


def _chosen(args: argparse.Namespace) -> Iterator[Case]:
    if args.labelled:
        return labelled_cases(args)
    return judge_cases(_judge(args.judge), args) if args.judge else own_cases(args)


def _rgb(image: Any) -> Image8:
    """OpenCV's channels the right way round."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _judge(path: Path) -> ModuleType:
    """The judge's module, from its file."""
    spec = importlib.util.spec_from_file_location("judge", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
