#!/usr/bin/env python3
"""Show where each millisecond of a tracked frame goes, from the stored JPEG to the bytes on the wire.

    .venv/bin/python benchmarks/budget.py [--video clip.mp4] [--objects 4] [--mask-format png]

The service runs in this process, over real HTTP, with timers around its functions. Some of them overlap: the next frame is read
and the last one compressed and stored while the network works, so the parts add up to more than the wall time of a frame.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from propagation import measure, render
from sam_service.client import SamClient
from sam_service.core import predictor
from sam_service.core.memory import spill
from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint
from sam_service.local import local_service
from sam_service.sessions import render as answers
from sam_service.sessions import store
from sam_service.settings import Settings
from sam_service.video import frames

NETWORK = type(registry.load(registry.DEFAULT_SIZE, Checkpoint()))

# What is timed: a name for the table, and where the function is looked up when the service calls it.
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("read and decode the JPEG", frames.FrameStore, "read"),
    ("resize to the input", NETWORK, "resize"),
    ("encode the image", NETWORK, "encode"),
    ("track", NETWORK, "track"),
    ("write the memory to disk", spill.DiskSpill, "save"),
    ("the whole step", predictor.VideoPredictor, "step"),
    ("enlarge and threshold", answers, "upsample"),
    ("compress for the store", answers, "encode_rle"),
    ("store", store.SqliteStore, "put_masks"),
    ("unpack and write PNG", answers, "to_format"),
)


class Clock:
    """Seconds spent in each part, over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed under `name`."""
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds[name] += time.perf_counter() - started
        return timed


def main() -> None:
    """Parse the options, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--max-frames", type=int, default=120)
    parser.add_argument("--mask-format", choices=("png", "rle", "polygons", "none"), default="png")
    parser.add_argument("--image-size", type=int)
    parser.set_defaults(again=False)
    options = parser.parse_args()
    clock = Clock()
    for name, owner, attribute in PARTS:
        setattr(owner, attribute, clock.around(name, getattr(owner, attribute)))
    settings = Settings(sam2_image_size=options.image_size, log_level="warning")
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), Path(name) / "data"
        with local_service(settings, data_dir=data) as url, SamClient(url) as client:
            report = measure(client, options.video or render(folder / "clip.mp4", options.max_frames), data, options)
    count = int(str(report["frames"]))
    table = {name: round(clock.seconds[name] / count * 1000, 2) for name, _, _ in PARTS}
    print(json.dumps({"frames_per_second": report["frames_per_second"], "objects": options.objects,
                      "milliseconds_per_frame": table}, indent=1))


if __name__ == "__main__":
    main()
