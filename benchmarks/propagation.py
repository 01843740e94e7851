#!/usr/bin/env python3
"""Propagate a clip through the service over REST and report speed and memory as JSON.

    .venv/bin/python benchmarks/propagation.py                            a made-up 250-frame clip of 1280 x 720
    .venv/bin/python benchmarks/propagation.py --video clip.mp4 --objects 4

The service runs as a process of its own; its resident memory (`rss_bytes` of `/health`) is read along the way. One object is
clicked in the middle of frame 0, further ones around it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sam_service.client import SamClient, VideoSession


def render(path: Path, frames: int = 250, width: int = 1280, height: int = 720) -> Path:
    """A textured disc that wanders over a textured ground, MPEG-4 at 25 frames per second."""
    rng = np.random.default_rng(3)
    ground, disc = (cv2.resize(rng.integers(0, 255, (height // scale, width // scale, 3), np.uint8), (width, height),
                               interpolation=cv2.INTER_CUBIC) for scale in (40, 12))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for index in range(frames):
        cover = np.zeros((height, width), np.uint8)
        centre = (round(width / 2 + 300 * np.sin(index / 40)), round(height / 2 + 150 * np.sin(index / 23)))
        cv2.circle(cover, centre, 90, 255, -1)
        writer.write(np.where(cover[..., None] > 0, np.roll(disc, centre, (1, 0)), ground))
    writer.release()
    return path


def start_service(folder: Path, extra: list[str]) -> tuple[subprocess.Popen[bytes], str]:
    """Run `sam-service serve` on a free port; returns the process and its address."""
    log = folder / "service.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "sam_service", "serve", "--port", "0", "--data-dir",
                                    str(folder / "data"), *extra], stdout=out, stderr=out)
    while "running on http://" not in (text := log.read_text()):
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.1)
    return process, "http://" + text.split("running on http://")[1].split()[0]


def resident(client: SamClient) -> tuple[int, int]:
    """Resident memory of the service and the part of it that is cached image features, MiB."""
    memory = client.call("GET", "/health")["memory"]
    return round(memory["rss_bytes"] / 2**20), round(memory["feature_cache_bytes"] / 2**20)


@dataclass
class Run:
    """One propagation: when each frame came, in seconds from the request, and `resident` after so many frames."""

    times: list[float] = field(default_factory=list)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def steady(self) -> float | None:
        """Median seconds a frame from frame 8 on, when the memory bank is full."""
        return statistics.median(np.diff(self.times[7:])) if len(self.times) > 8 else None


def propagate(client: SamClient, session: VideoSession, mask_format: str) -> Run:
    """Propagate over all frames."""
    run = Run(memory={0: resident(client)})
    body = {"session_id": session.session_id, "mask_format": mask_format}
    started = time.perf_counter()
    with client.http.stream("POST", "/propagate", json=body, headers={"Accept": "application/x-ndjson"}) as response:
        for line in response.iter_lines():
            event = json.loads(line)
            if event["event"] == "frame":
                run.times.append(time.perf_counter() - started)
                if event["done"] % 50 == 0:
                    run.memory[event["done"]] = resident(client)
            elif event["event"] == "error":
                raise SystemExit(event["detail"])
    return run


def stored_bytes(data: Path) -> float:
    """Mean bytes of a stored mask, of one object on one frame."""
    with contextlib.closing(sqlite3.connect(data / "sessions.sqlite")) as database:
        return float(database.execute("SELECT avg(length(counts)) FROM masks").fetchone()[0])


def peak_mb(process: subprocess.Popen[bytes]) -> int | None:
    """Highest resident memory of a process so far, MiB; None where there is no /proc."""
    status = Path(f"/proc/{process.pid}/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024 if status.exists() else None


def measure(client: SamClient, video: Path, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Open, click, propagate; seconds, frames per second and resident memory. With `--again` a correction and once more."""
    health = client.wait_ready()
    with client.open_video(video, max_frames=options.max_frames) as session:
        while session.state()["status"] == "extracting":
            time.sleep(0.05)
        clicks = []
        for number in range(options.objects):
            point = [session.width * (0.5 + 0.2 * (number % 3)) % session.width, session.height * (0.5 + 0.15 * (number // 3))]
            started = time.perf_counter()
            session.add_object(points=[point])
            clicks.append(round((time.perf_counter() - started) * 1000, 1))
        run = propagate(client, session, options.mask_format)
        report: dict[str, Any] = {
            "model": health["model"], "threads": health["threads"], "objects": options.objects,
            "mask_format": options.mask_format, "frame": [session.width, session.height], "frames": len(run.times),
            "first_click_ms": clicks[0],
            "click_ms_on_encoded_frame": clicks[1:], "frames_per_second": round(len(run.times) / run.times[-1], 2),
            "steady_ms_per_frame": None if run.steady is None else round(run.steady * 1000, 1),
            "rss_and_feature_cache_mb_after_frames": run.memory, "stored_bytes_per_mask": round(stored_bytes(data)),
        }
        if options.again:
            session.refine(1, points=[[session.width / 2 + 8, session.height / 2 + 8]])
            again = propagate(client, session, options.mask_format)
            report["again"] = {
                "steady_ms_per_frame": None if again.steady is None else round(again.steady * 1000, 1),
                "times_the_first_s_speed": round(run.times[-1] / again.times[-1], 2),
                "rss_and_feature_cache_mb_after_frames": again.memory,
            }
        return report


def main() -> None:
    """Parse the options, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="correct object 1 on frame 0 and propagate a second time")
    parser.add_argument("--max-frames", type=int, default=250)
    parser.add_argument("--mask-format", choices=("png", "rle", "polygons", "none"), default="png")
    parser.add_argument("--model-size", default="nano")
    parser.add_argument("--checkpoint")
    parser.add_argument("--image-size", type=int)
    options = parser.parse_args()
    if options.image_size:
        os.environ["SAM2_IMAGE_SIZE"] = str(options.image_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extra = ["--model-size", options.model_size, *(["--checkpoint", options.checkpoint] if options.checkpoint else [])]
        process, url = start_service(folder, extra)
        try:
            with SamClient(url) as client:
                video = options.video or render(folder / "clip.mp4", options.max_frames)
                report = measure(client, video, folder / "data", options)
                report["peak_rss_mb"] = peak_mb(process)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps({"machine": f"{platform.machine()}, {os.cpu_count()} cores", **report}, indent=1))


if __name__ == "__main__":
    main()
