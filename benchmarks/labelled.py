"""Pictures and clips with labels, as the public benchmarks lay them out, and a service to put them to."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sam_service.client import SamClient, VideoSession

from benchmarks.metrics import Mask
from benchmarks.propagation import start_service

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
UNUSED = 255


@dataclass(frozen=True)
class Clip:
    """A sequence: its pictures in order, and a file of labels for each."""

    name: str
    pictures: list[Path]
    labels: list[Path]


def clips_of(folder: Path, names: Sequence[str] = ()) -> list[Clip]:
    """The sequences of a folder: in `JPEGImages` and `Annotations` as DAVIS has them, or folders of pictures and their labels.

    names: only these. Raises SystemExit where there are none, or a picture has no labels.
    """
    pictures, labels = folder / "JPEGImages" / "480p", folder / "Annotations" / "480p"
    if not pictures.is_dir():
        pictures = labels = folder
    found = []
    for sequence in sorted(path for path in pictures.iterdir() if path.is_dir() and (not names or path.name in names)):
        images = sorted(path for path in sequence.iterdir() if path.suffix.lower() in PICTURES and not _is_labels(path, labels))
        marks = [labels / sequence.name / f"{image.stem}.png" for image in images]
        if missing := [path for path in marks if not path.is_file()]:
            raise SystemExit(f"{missing[0]} is missing: every picture needs its labels")
        if images:
            found.append(Clip(sequence.name, images, marks))
    if not found:
        raise SystemExit(f"{folder} holds no sequences" + (f" named {', '.join(names)}" if names else ""))
    return found


def _is_labels(path: Path, labels: Path) -> bool:
    """Whether a PNG beside pictures holds the labels of one of them."""
    return path.suffix == ".png" and path.is_relative_to(labels)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Labels (H, W). 255 is the one object where there is no other, as in DAVIS 2016; elsewhere it is not to be used."""
    with Image.open(path) as image:
        labels = np.array(image if image.mode in ("L", "P") else image.convert("L"), np.uint8)
    if UNUSED in labels and not ((labels > 0) & (labels < UNUSED)).any():
        labels[labels == UNUSED] = 1
    return labels


def read_picture(path: Path) -> NDArray[np.uint8]:
    """BGR (H, W, 3)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path} is no picture")
    return np.asarray(image, np.uint8)


def write_video(path: Path, pictures: Sequence[Path]) -> Path:
    """The pictures as a video without loss, at their own size."""
    images = [read_picture(picture) for picture in pictures]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 24, (width, height))
    for picture, image in zip(pictures, images, strict=True):
        if image.shape[:2] != (height, width):
            raise SystemExit(f"{picture} is not of the size of the first picture, {width} x {height}")
        writer.write(image)
    writer.release()
    return path


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Which service answers: one that runs, or one of one's own of any model size."""
    parser.add_argument("--url", help="a service that runs already; without it one is started")
    parser.add_argument("--model-size", default="nano")
    parser.add_argument("--checkpoint")
    parser.add_argument("--image-size", type=int, help="pixels; the model's own if absent")
    parser.add_argument("--json", type=Path, help="also write the figures here")


@contextlib.contextmanager
def service(options: argparse.Namespace) -> Iterator[SamClient]:
    """A client of the service that the options name."""
    if options.url:
        with SamClient(options.url) as client:
            client.wait_ready()
            yield client
        return
    if options.image_size:
        os.environ["SAM2_IMAGE_SIZE"] = str(options.image_size)
    with tempfile.TemporaryDirectory() as name:
        extra = ["--model-size", options.model_size, *(["--checkpoint", options.checkpoint] if options.checkpoint else [])]
        process, url = start_service(Path(name), extra)
        try:
            with SamClient(url) as client:
                client.wait_ready()
                yield client
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def session_of(client: SamClient, pictures: Sequence[Path]) -> Iterator[VideoSession]:
    """A session on the pictures, all frames extracted. Frames may be smaller than the pictures."""
    with tempfile.TemporaryDirectory() as name:
        video = write_video(Path(name) / "clip.avi", pictures)
        with client.open_video(video, max_frames=len(pictures)) as session:
            while (state := session.state())["status"] == "extracting":
                time.sleep(0.02)
            if state["num_frames"] != len(pictures):
                raise SystemExit(f"the service read {state['num_frames']} of {len(pictures)} frames")
            yield session


def resized(mask: Mask, height: int, width: int) -> Mask:
    """A mask at another size."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0)
