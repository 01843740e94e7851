"""Pictures with labels to train on: read from a folder once and kept decoded in a cache, or made up.

A data folder holds folders of pictures (`.webp`, `.jpg`), each with labels in a `.png` of the same name: one channel, 0
background, 1 and up objects, 255 not to be used. The pictures of a folder within `davis16` are a clip, in order of their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import made_up

Image8 = NDArray[np.uint8]
DEV_CLIPS = frozenset(["dance-jump", "dog-agility", "elephant", "hockey", "kite-walk", "scooter-gray", "soccerball", "surf"])
"""Clips that settings are chosen on. Never trained on."""
DEV_SHARE = 10  # one photo in so many, by hash of its name, is kept for the same
CLIPS_FOLDER = "davis16"
UNUSED = 255
MADE_UP = 400  # pictures, where there is no folder
LEAST_SHARE = 0.004  # of a picture, for an object to be trained on in clips
SMALL_SHARE, LEAST_PIXELS = 0.0012, 150  # the same in photos, which zoomed views enlarge; and pixels
OFTEN = {"coco_mval": 2.4, "coco_mini": 3.7}
"""How often a photo of these folders is shown for each time that one of another folder is: what is hard is shown more."""


@dataclass(frozen=True)
class Entry:
    """A picture in the cache: where it starts, in pixels, and the area of each object in pixels."""

    name: str
    height: int
    width: int
    start: int
    areas: dict[int, int]

    @property
    def objects(self) -> list[int]:
        """Labels of the objects that are large enough."""
        return [label for label, area in self.areas.items() if area >= LEAST_SHARE * self.height * self.width]

    @property
    def small_objects(self) -> list[int]:
        """Labels of the objects that are large enough for a zoomed view."""
        least = max(LEAST_PIXELS, SMALL_SHARE * self.height * self.width)
        return [label for label, area in self.areas.items() if area >= least]

    @property
    def weight(self) -> float:
        """How often a photo is shown, compared with the others."""
        return OFTEN.get(Path(self.name).parts[0], 1.0)


@dataclass
class Library:
    """Photos, and clips by name; `picture` gives their pixels."""

    photos: list[Entry]
    clips: dict[str, list[Entry]]
    rgb: Image8 = field(repr=False)
    labels: Image8 = field(repr=False)

    def picture(self, entry: Entry) -> tuple[Image8, Image8]:
        """RGB (H, W, 3) and labels (H, W)."""
        height, width, start = entry.height, entry.width, entry.start
        end = start + height * width
        return self.rgb[3 * start : 3 * end].reshape(height, width, 3), self.labels[start:end].reshape(height, width)


def is_dev(name: str) -> bool:
    """Whether a picture, named by its path below the data folder, is kept for choosing settings."""
    path = Path(name)
    if CLIPS_FOLDER in path.parts[:-1]:
        return path.parent.name in DEV_CLIPS
    return int(hashlib.sha256(path.stem.encode()).hexdigest(), 16) % DEV_SHARE == 0


def open_library(data: Path | None, cache: Path, *, dev: bool, seed: int = 0) -> Library:
    """The pictures for training, or those for choosing. Without a data folder pictures are made up, other ones for each."""
    if data is None:
        return _made_up(np.random.default_rng([seed, int(dev)]), MADE_UP // (8 if dev else 1))
    if not (cache / "index.json").is_file():
        _fill(data, cache)
    index = json.loads((cache / "index.json").read_text())
    if index["data"] != _signature(data):
        raise ValueError(f"the cache {cache} was made from another folder than {data}; remove it to make it anew")
    entries = [Entry(**e | {"areas": {int(label): area for label, area in e["areas"].items()}}) for e in index["entries"]]
    photos: list[Entry] = []
    clips: dict[str, list[Entry]] = {}
    for entry in (entry for entry in entries if is_dev(entry.name) == dev):
        path = Path(entry.name)
        if CLIPS_FOLDER in path.parts[:-1]:
            clips.setdefault(path.parent.name, []).append(entry)
        elif entry.objects:
            photos.append(entry)
    return Library(photos, clips, np.memmap(cache / "rgb.bin", np.uint8, "r"), np.memmap(cache / "labels.bin", np.uint8, "r"))


def _fill(data: Path, cache: Path) -> None:
    """Decode every picture of a folder into two flat files and an index."""
    paths = sorted(path for path in data.rglob("*") if path.suffix in (".webp", ".jpg") and path.with_suffix(".png").is_file())
    if not paths:
        raise ValueError(f"{data} holds no pictures with labels beside them")
    cache.mkdir(parents=True, exist_ok=True)
    entries, start = [], 0
    with (cache / "rgb.bin").open("wb") as rgb, (cache / "labels.bin").open("wb") as labels:
        for path in paths:
            image, marks = cv2.imread(str(path)), cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
            if image is None or marks is None or marks.shape != image.shape[:2] or marks.dtype != np.uint8:
                raise ValueError(f"{path} and the labels beside it do not fit together")
            rgb.write(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).tobytes())
            labels.write(marks.tobytes())
            entries.append(asdict(_entry(str(path.relative_to(data)), np.asarray(marks, np.uint8), start)))
            start += marks.size
    partial = cache / "index.partial"
    partial.write_text(json.dumps({"data": _signature(data), "entries": entries}))
    partial.rename(cache / "index.json")


def _signature(data: Path) -> str:
    """Identifies a data folder: a digest of its files' names."""
    names = sorted(str(path.relative_to(data)) for path in data.rglob("*.png"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _entry(name: str, labels: Image8, start: int) -> Entry:
    found, counts = np.unique(labels, return_counts=True)
    areas = {int(label): int(count) for label, count in zip(found, counts, strict=True) if 0 < label < UNUSED}
    return Entry(name, labels.shape[0], labels.shape[1], start, areas)


def _made_up(rng: np.random.Generator, count: int) -> Library:
    made = [made_up(rng) for _ in range(count)]
    return of_pictures([f"made-up/{n}" for n in range(count)], made)


def of_pictures(names: Sequence[str], pictures: Sequence[tuple[Image8, Image8]]) -> Library:
    """A library of photos in memory: RGB (H, W, 3) and labels (H, W) of each."""
    entries, start = [], 0
    for name, (_, labels) in zip(names, pictures, strict=True):
        entries.append(_entry(name, labels, start))
        start += labels.size
    rgb = np.concatenate([image.ravel() for image, _ in pictures])
    marks = np.concatenate([labels.ravel() for _, labels in pictures])
    return Library([entry for entry in entries if entry.objects], {}, rgb, marks)
