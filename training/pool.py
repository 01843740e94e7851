"""A ring of ready-made clips on disk: generator processes fill it, trainers draw from it at random.

    python -m training.pool --out DIR [--textures DIR] [--cutouts DIR] [--slots N] [--workers N] [--rounds N]

Slots are overwritten for as long as the generators run, so the data stays fresh while no trainer ever waits.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sam_service.core.flow import backward_flow, grey
from sam_service.core.frames import cut
from sam_service.core.models.nano.grabcut import LIMIT, STRETCH
from sam_service.core.models.nano.motion import Places, moving_along, reference_frames
from sam_service.core.models.nano.proposal import BOX_SCALES, CLICK_RADII, proposals
from sam_service.core.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE, PointPrompt

from training.clips import FRAMES, TARGETS, Clip, make_clip
from training.prompts import LEAST_AREA, box_around, click_inside
from training.textures import SIZE, TextureBank

SIDE = SIZE // 4  # of masks and proposals
LANDSCAPE = 16 / 9  # the video that its square frames stand for
KINDS = {"click": len(CLICK_RADII), "box": len(BOX_SCALES)}  # prompts, and how many first guesses there are for each
PROMPTED = 2  # frames of each clip with prompts: the first, and a later one
STRIDES = (1, 2)  # frames between two for which there is a flow
ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    "frames": ((FRAMES, SIZE, SIZE, 3), "uint8"),
    "covers": ((FRAMES, TARGETS, SIDE, SIDE), "uint8"),  # visible share, 0..255
    "prompted": ((PROMPTED,), "int64"),  # frame numbers
    "present": ((PROMPTED, TARGETS), "bool"),  # whether there is a prompt
    "clicks": ((PROMPTED, TARGETS, 2), "float32"),
    "boxes": ((PROMPTED, TARGETS, 4), "float32"),
    "proposals": ((PROMPTED, TARGETS, sum(KINDS.values()), SIDE, SIDE), "int8"),  # logits in steps of LIMIT / 127
    "flows": ((len(STRIDES), FRAMES - 1, SIDE, SIDE, 2), "float16"),  # to each frame t + stride from t; pixels of SIDE
    "filled": ((), "bool"),
}


class Pool:
    """The arrays of a pool folder, mapped into memory."""

    def __init__(self, folder: Path, slots: int | None = None) -> None:
        """Open `folder`, or create it with `slots` empty slots."""
        note = folder / "pool.json"
        if slots is not None and not note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for name, (shape, kind) in ARRAYS.items():
                np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(kind), (slots, *shape)).flush()
            note.write_text(json.dumps({"slots": slots}))
        self.slots: int = json.loads(note.read_text())["slots"]
        self.arrays = {name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+") for name in ARRAYS}

    def write(self, slot: int, record: dict[str, NDArray[Any]]) -> None:
        """Replace a slot; a reader that meets it half-written sees it as empty."""
        self.arrays["filled"][slot] = False
        for name, value in record.items():
            self.arrays[name][slot] = value
        self.arrays["filled"][slot] = True

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, NDArray[Any]]:
        """`count` random filled slots, each array with the slots in front."""
        chosen = rng.choice(np.flatnonzero(self.arrays["filled"]), count)
        return {name: array[chosen] for name, array in self.arrays.items() if name != "filled"}


def record(rng: np.random.Generator, clip: Clip) -> dict[str, NDArray[Any]]:
    """A clip with its prompts and their proposals, as a slot holds it."""
    small = [[cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for c in covers] for covers in clip.covers]
    prompted = np.array([0, rng.integers(FRAMES // 2, FRAMES)])
    out: dict[str, NDArray[Any]] = {
        "frames": clip.frames,
        "flows": _flows(clip.frames),
        "covers": np.round(np.asarray(small) * 255).astype(np.uint8),
        "prompted": prompted,
        **{name: np.zeros(ARRAYS[name][0], ARRAYS[name][1]) for name in ("present", "clicks", "boxes", "proposals")},
    }
    for p, frame in enumerate(prompted):
        flow = _reference_flow(clip.frames, frame)
        for k in range(TARGETS):
            mask = clip.covers[frame, k] > 0.5
            if mask.sum() < LEAST_AREA:
                continue
            out["present"][p, k] = True
            out["clicks"][p, k] = click = click_inside(rng, mask)
            out["boxes"][p, k] = box = box_around(rng, mask)
            with_click, with_box = Places.of_clicks(click[None], STRETCH), Places.of_box(box)
            guesses = (
                _guesses(clip.frames[frame], click[None], [POSITIVE], moving_along(flow, with_click)),
                _guesses(clip.frames[frame], box.reshape(2, 2), [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], moving_along(flow, with_box)),
            )
            out["proposals"][p, k] = np.round(np.concatenate(guesses) * (127 / LIMIT)).astype(np.int8)
    return out


def _guesses(image: NDArray[np.uint8], points: NDArray[np.float32], labels: list[int],
             moving: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """First guesses (K, SIDE, SIDE) for a prompt on a square picture, which stands for a landscape frame."""
    width = round(LANDSCAPE * SIZE)
    prompt = PointPrompt((points * [LANDSCAPE, 1]).astype(np.float32), np.array(labels, np.int32))
    return proposals(lambda window: cut(image, window, width, SIZE), image, width, SIZE, prompt, SIDE,
                     lambda: moving)


def _reference_flow(frames: NDArray[np.uint8], index: int) -> NDArray[np.float32]:
    """The flow (SIZE, SIZE, 2) that first guesses on a prompted frame may start from."""
    other = next(at for at in reference_frames(index) if at < len(frames))
    return backward_flow(grey(frames[index]), grey(frames[other]), SIZE)


def _flows(frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Backward flows (STRIDES, FRAMES - 1, SIDE, SIDE, 2); number t of a stride leads from frame t + stride to frame t."""
    greys = [grey(frame) for frame in frames]
    out = np.zeros(ARRAYS["flows"][0], np.float16)
    for s, stride in enumerate(STRIDES):
        for t in range(FRAMES - stride):
            out[s, t] = backward_flow(greys[t + stride], greys[t], SIDE)
    return out


@dataclass(frozen=True)
class Sources:
    """Where pixels come from beside the procedural ones: a folder of clips, folders of cut-outs."""

    textures: Path | None = None
    cutouts: tuple[Path, ...] = ()


def fill(folder: Path, sources: Sources, worker: int, workers: int, rounds: int, seed: int) -> None:
    """Write every `workers`-th slot, `rounds` times over, at the lowest priority."""
    os.nice(19)
    cv2.setNumThreads(1)
    pool = Pool(folder)
    rng = np.random.default_rng([seed, worker])
    for _ in range(rounds):
        bank = TextureBank(rng, sources.textures, cutouts=list(sources.cutouts))
        for slot in range(worker, pool.slots, workers):
            item = record(rng, make_clip(rng, bank))
            while not item["present"][0].any():
                item = record(rng, make_clip(rng, bank))
            pool.write(slot, item)


def start(folder: Path, sources: Sources, slots: int, seed: int = 0, first: int = 200) -> multiprocessing.Process:
    """Create a pool, keep filling it in the background, and wait until `first` slots are ready."""
    pool = Pool(folder, slots)
    job = multiprocessing.Process(target=fill, args=(folder, sources, 0, 1, 1000, seed), daemon=True)
    job.start()
    while pool.arrays["filled"].sum() < min(first, slots):
        time.sleep(1)
    return job


def main() -> None:
    """Fill a pool from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--textures", type=Path, help="a folder of .mp4 clips whose frames serve as textures")
    parser.add_argument("--cutouts", type=Path, action="append", default=[], help="a folder of PNG files with alpha")
    parser.add_argument("--slots", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    Pool(args.out, args.slots)
    sources = Sources(args.textures, tuple(args.cutouts))
    jobs = [
        multiprocessing.Process(
            target=fill, args=(args.out, sources, w, args.workers, args.rounds, args.seed), daemon=True
        )
        for w in range(args.workers)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()


if __name__ == "__main__":
    main()
