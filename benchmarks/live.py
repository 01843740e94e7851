#!/usr/bin/env python3
"""How steady a live session is: the time of each pushed frame over REST, and the service's resident memory.

    .venv/bin/python benchmarks/live.py --frames 600

One object of the demo's clip is tracked on and on, the clip there and back. The first frames, in which the window fills, are
left out of the times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import psutil
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK, render_clip
from sam_service.local import local_service
from sam_service.settings import Settings

WARM_UP = 40


@dataclass(frozen=True, slots=True)
class Figures:
    """Times of a push as the client sees it, in milliseconds; processor time of the same, which other work on the machine does
    not stretch; resident memory in MiB, early and late; load of the machine."""

    model: str
    image_size: int
    frames: int
    median_ms: float
    p95_ms: float
    highest_ms: float
    p95_to_median: float
    cpu_median_ms: float
    cpu_p95_ms: float
    cpu_p95_to_median: float
    resident_early_mib: float
    resident_late_mib: float
    load: float


def measure(frames: int, image_size: int | None = None) -> Figures:
    """Push so many frames to a service of its own in this process."""
    with TemporaryDirectory() as folder:
        capture = cv2.VideoCapture(str(render_clip(Path(folder) / "clip.mp4")))
        once = []
        while (picture := capture.read()[1]) is not None:
            once.append(cv2.imencode(".jpg", picture)[1].tobytes())
        pictures = [*once, *once[-2:0:-1]]
        settings = Settings(_env_file=None, log_level="warning")
        with local_service(settings) as url, SamClient(url) as client:
            client.wait_ready()
            options: dict[str, Any] = {} if image_size is None else {"image_size": image_size}
            with client.live(640, 360, policy="all", **options) as live:
                live.push(pictures[0])
                live.add_object(points=[list(CLICK)], frame_idx="latest")
                times, cpu, resident = list[float](), list[float](), list[float]()
                for number in range(1, frames):
                    started, cpu_started = time.perf_counter(), time.process_time()
                    live.push(pictures[number % len(pictures)])
                    times.append((time.perf_counter() - started) * 1000)
                    cpu.append((time.process_time() - cpu_started) * 1000)
                    resident.append(psutil.Process().memory_info().rss / 2**20)
                model = live.info["model"]
    steady = times[WARM_UP:]
    median, p95 = statistics.median(steady), float(np.percentile(steady, 95))
    cpu_median, cpu_p95 = statistics.median(cpu[WARM_UP:]), float(np.percentile(cpu[WARM_UP:], 95))
    tenth = len(resident) // 10
    return Figures(model["size"], model["image_size"], frames, round(median, 1), round(p95, 1), round(max(steady), 1),
                   round(p95 / median, 2), round(cpu_median, 1), round(cpu_p95, 1), round(cpu_p95 / cpu_median, 2),
                   round(statistics.median(resident[tenth:2 * tenth]), 1),
                   round(statistics.median(resident[-tenth:]), 1), round(os.getloadavg()[0], 1))


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--image-size", type=int, help="side of the network's input, pixels (default: the model's own)")
    options = parser.parse_args()
    print(json.dumps(asdict(measure(max(WARM_UP + 20, options.frames), options.image_size)), indent=1))


if __name__ == "__main__":
    main()
