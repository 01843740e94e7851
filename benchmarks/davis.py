#!/usr/bin/env python3
"""J and F of the DAVIS benchmark, over REST: prompt every object on the first frame, propagate once.

    python -m benchmarks.davis DAVIS                                  a service of its own with the embedded model
    python -m benchmarks.davis DAVIS --model-size tiny                another size, whose weights are on this machine
    python -m benchmarks.davis FOLDER --sequences elephant surf       some sequences
    python -m benchmarks.davis FOLDER --modes plain every-2 int8      each mode in a service of its own, with a table

FOLDER is laid out as DAVIS is, or holds a folder for each sequence with pictures and PNG files of labels beside them. As in the
benchmark, the first and the last frame do not count, and a sequence counts as much as any other. A click lies deepest inside
the object; boxes are tight.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sam_service.client import SamClient, VideoSession

from benchmarks.labelled import UNUSED, Clip, add_service_options, clips_of, read_labels, resized, service, session_of
from benchmarks.metrics import Mask, boundary, bounding_box, inner_point, region

KINDS = ("mask", "click", "box")
# What is changed in the service's settings, by mode.
MODES: dict[str, dict[str, str]] = {
    "plain": {},
    "float32": {"SAM2_PRECISION": "float32"},
    "bfloat16": {"SAM2_PRECISION": "bfloat16"},
    "int8": {"SAM2_QUANTIZE": "true"},
    "share-5": {"SAM2_MEMORY_SHARE": "0.05"},
    "every-2": {"SAM2_TRACK_EVERY": "2"},
    "every-4": {"SAM2_TRACK_EVERY": "4"},
    **{f"size-{side}": {"SAM2_IMAGE_SIZE": str(side)} for side in (128, 192, 256, 512, 768)},
}


def prompt_of(kind: str, mask: Mask, session: VideoSession) -> dict[str, Any]:
    """The prompt for an object with this mask, in the session's pixels."""
    if kind == "mask":
        return {"mask": resized(mask, session.height, session.width)}
    scale = np.array([session.width / mask.shape[1], session.height / mask.shape[0]])
    if kind == "click":
        return {"points": [(np.array(inner_point(mask)) * scale).tolist()]}
    return {"box": (np.array(bounding_box(mask)) * np.tile(scale, 2)).tolist()}


def run_clip(client: SamClient, clip: Clip, kind: str, every: int) -> dict[str, float]:
    """Mean J and F over the objects of a sequence, J on the prompted frame, and frames a second."""
    first = read_labels(clip.labels[0])
    labels = [int(label) for label in np.unique(first) if 0 < label < UNUSED]
    counted = list(range(1, len(clip.pictures) - 1))[::every]
    regions, boundaries, starts = [], [], []
    with session_of(client, clip.pictures) as session:
        for label in labels:
            answer = session.add_object(object_id=label, **prompt_of(kind, first == label, session))
            starts.append(region(resized(answer.mask, *first.shape), first == label, first != UNUSED))
        began = time.perf_counter()
        for frame in session.propagate():
            if frame.index in counted:
                truth = read_labels(clip.labels[frame.index])
                usable = truth != UNUSED
                for label in labels:
                    found = _found(frame.masks[label].mask if label in frame.masks else None, truth)
                    regions.append(region(found, truth == label, usable))
                    boundaries.append(boundary(found & usable, (truth == label) & usable))
        seconds = time.perf_counter() - began
    j, f = float(np.mean(regions)), float(np.mean(boundaries))
    return {"J": j, "F": f, "J&F": (j + f) / 2, "first": float(np.mean(starts)), "fps": len(clip.pictures) / seconds}


def _found(mask: Mask | None, truth: NDArray[np.uint8]) -> Mask:
    return np.zeros(truth.shape, bool) if mask is None else resized(mask, *truth.shape)


def measure(client: SamClient, clips: Sequence[Clip], kinds: Sequence[str], every: int) -> dict[str, Any]:
    """All figures, by kind of prompt and by sequence; a line for each on the way."""
    report: dict[str, Any] = {"model": client.health()["model"], "frames_counted": "all" if every == 1 else f"every {every}th"}
    for kind in kinds:
        rows = {}
        for clip in clips:
            rows[clip.name] = run_clip(client, clip, kind, every)
            print(f"{kind:6s} {clip.name:24s} " + _figures(rows[clip.name]), flush=True)
        mean = {name: float(np.mean([row[name] for row in rows.values()])) for name in ("J", "F", "J&F", "first", "fps")}
        report[kind] = {"mean": mean, "sequences": rows}
        print(f"{kind:6s} {f'mean of {len(rows)}':24s} " + _figures(mean), flush=True)
    return report


def _figures(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" if name == "fps" else f"{name} {value:.3f}" for name, value in row.items())


def main() -> None:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sequences", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--prompts", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--every", type=int, default=1, help="count every n-th frame only; all are tracked")
    add_service_options(parser)
    parser.add_argument("--modes", nargs="+", choices=MODES, help="run a service of its own in each of these")
    options = parser.parse_args()
    if options.modes and options.url:
        parser.error("--modes are of a service of its own; leave out --url")
    clips, reports = clips_of(options.folder, options.sequences), {}
    for mode in options.modes or ["plain"]:
        print(f"mode {mode}", flush=True)
        with changed(MODES[mode]), service(options) as client:
            reports[mode] = measure(client, clips, options.prompts, options.every)
    if options.modes:
        print(table(reports, options.prompts))
    if options.json:
        options.json.write_text(json.dumps(reports if options.modes else reports["plain"], indent=1) + "\n")


@contextlib.contextmanager
def changed(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment for a while; services that start then have them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def table(reports: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """Mean J&F by mode and kind of prompt, and frames a second, as a table in Markdown."""
    lines = [["mode", *(f"J&F, {kind}" for kind in kinds), "frames a second"], ["---"] * (len(kinds) + 2)]
    for mode, report in reports.items():
        means = [report[kind]["mean"] for kind in kinds]
        lines.append([mode, *(f"{mean['J&F']:.3f}" for mean in means), f"{np.mean([mean['fps'] for mean in means]):.1f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
