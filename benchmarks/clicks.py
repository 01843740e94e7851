#!/usr/bin/env python3
"""How many clicks a mask takes, over REST: each click lies deepest inside the deepest error of the answer before it.

    python -m benchmarks.clicks FOLDER                        a service of its own with the embedded model
    python -m benchmarks.clicks FOLDER --model-size tiny      another size, whose weights are on this machine
    python -m benchmarks.clicks FOLDER --dev                  the tenth of the training pictures that is kept for choosing

FOLDER, or folders in it, holds pictures with labels in PNG files of the same name beside them: 1 and up are objects, of which
the largest is asked for; 255 does not count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sam_service.client import SamClient, VideoSession

from benchmarks.labelled import PICTURES, UNUSED, add_service_options, read_labels, resized, service, session_of
from benchmarks.metrics import Mask, bounding_box, corrective_click, inner_point, region

SHOWN = (1, 2, 3, 5)
WANTED = (0.85, 0.90)
MOST = 20  # clicks, by the custom of the field


def pictures_of(folder: Path, *, dev: bool) -> list[tuple[Path, Path]]:
    """Pictures, each with its labels."""
    found = []
    for path in sorted(folder.rglob("*")):
        labels = path.with_suffix(".png")
        if path.suffix.lower() in PICTURES and path != labels and labels.is_file():
            found.append((path, labels))
    if dev:
        from training.library import CLIPS_FOLDER, is_dev

        names = [path.relative_to(folder) for path, _ in found]
        found = [pair for pair, name in zip(found, names, strict=True) if CLIPS_FOLDER not in name.parts and is_dev(str(name))]
    if not found:
        raise SystemExit(f"{folder} holds no pictures with labels beside them")
    return found


def largest_object(labels: NDArray[np.uint8]) -> Mask | None:
    """The mask of the largest object, None where there is none."""
    areas = np.bincount(labels.ravel(), minlength=256)[1:UNUSED]
    return None if not areas.any() else np.asarray(labels == 1 + int(areas.argmax()))


def overlaps(session: VideoSession, truth: Mask, usable: Mask) -> list[float]:
    """IoU after each click, until all of WANTED are reached and all of SHOWN are known, or after MOST."""
    found: list[float] = []
    click: tuple[float, float, int] | None = (*inner_point(truth), 1)
    while click is not None and len(found) < MOST and (len(found) < max(SHOWN) or max(found) < max(WANTED)):
        x, y = click[0] * session.width / truth.shape[1], click[1] * session.height / truth.shape[0]
        prompt = {"points": [[x, y]], "labels": [click[2]], "frame_idx": 0}
        answer = session.refine(1, **prompt) if found else session.add_object(object_id=1, **prompt)  # type: ignore[arg-type]
        mask = resized(answer.mask, *truth.shape)
        found.append(region(mask, truth, usable))
        click = corrective_click(mask, truth, usable)
    return found + [found[-1]] * (max(SHOWN) - len(found))


def box_overlap(session: VideoSession, truth: Mask, usable: Mask) -> float:
    """IoU after a tight box alone."""
    scale = np.array([session.width / truth.shape[1], session.height / truth.shape[0]] * 2)
    answer = session.add_object(object_id=2, frame_idx=0, box=(np.array(bounding_box(truth)) * scale).tolist())
    return region(resized(answer.mask, *truth.shape), truth, usable)


def clicks_to(wanted: float, found: Sequence[float]) -> int:
    """The number of the first click after which the IoU is `wanted`; MOST where none is."""
    return next((number for number, value in enumerate(found, 1) if value >= wanted), MOST)


def measure(client: SamClient, pictures: Sequence[tuple[Path, Path]]) -> dict[str, Any]:
    """All figures, and the IoU of each picture."""
    rows: dict[str, dict[str, Any]] = {}
    for picture, path in pictures:
        labels = read_labels(path)
        truth = largest_object(labels)
        if truth is None:
            continue
        with session_of(client, [picture]) as session:
            found = overlaps(session, truth, labels != UNUSED)
            box = box_overlap(session, truth, labels != UNUSED)
            rows[f"{picture.parent.name}/{picture.stem}"] = {"clicks": found, "box": box}
        if len(rows) % 25 == 0:
            print(f"{len(rows)} pictures: {_line(_means(rows))}", flush=True)
    return {"model": client.health()["model"], "pictures": len(rows), "mean": _means(rows), "rows": rows}


def _means(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    clicks = [row["clicks"] for row in rows.values()]
    means = {f"IoU after {count}": float(np.mean([found[count - 1] for found in clicks])) for count in SHOWN}
    means |= {f"clicks to {wanted:.0%}": float(np.mean([clicks_to(wanted, found) for found in clicks])) for wanted in WANTED}
    return means | {"IoU of a box": float(np.mean([row["box"] for row in rows.values()]))}


def _line(means: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" if "clicks" in name else f"{name} {value:.3f}" for name, value in means.items())


def main() -> None:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", action="store_true", help="only photos that are kept for choosing settings")
    parser.add_argument("--limit", type=int, help="the first so many pictures")
    add_service_options(parser)
    options = parser.parse_args()
    pictures = pictures_of(options.folder, dev=options.dev)[: options.limit]
    with service(options) as client:
        report = measure(client, pictures)
    print(f"{report['pictures']} pictures: {_line(report['mean'])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
