#!/usr/bin/env python3
"""Mixed work for a long time, with clients that crash, and what the service holds meanwhile.

    .venv/bin/python benchmarks/soak.py --minutes 30 --out soak.json

The service runs as a process of its own. Some clients open, click, correct, propagate in every way and delete; others reset
their connections in the middle of uploads and streams and leave their sessions behind, to expire. Every few seconds resident
memory, open files, threads, disk space and sessions are read. A growth is the slope of the line through the samples, the first
third left out, over the time that they span. Exit code 1 where one is over its limit, or an answer was a failure of the
service's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK, render_clip

LIMITS = {"rss_mib": 50.0, "handles": 8.0, "threads": 4.0, "disk_mib": 50.0, "sessions": 4.0}
TTL_S = 60
OPTIONS = {"SESSION_TTL_S": str(TTL_S), "MAX_SESSIONS": "12", "TORCH_NUM_THREADS": "1", "SAM2_IMAGE_SIZE": "256",
           "FEATURE_CACHE_MB": "64"}
NDJSON = "application/x-ndjson"
ACCEPTED = ("application/json", NDJSON, "text/event-stream")


class Soak:
    """One run: the service's address, the clip, what was answered so far, and when to stop."""

    def __init__(self, url: str, clip: Path, pause_s: float) -> None:
        self.url, self.clip, self.pause_s = url, clip, pause_s
        self.stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.failures: list[str] = []

    def keep(self, client: Callable[[int], None], seed: int) -> None:
        """Be a client until the end; one whose call fails in its connection is counted, and another takes its place."""
        while not self.stop.is_set():
            try:
                client(seed)
            except httpx.TransportError as error:
                self.failures.append(repr(error))

    def user(self, seed: int) -> None:
        """A client that behaves."""
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=120, event_hooks={"response": [self._count]}) as http:
            while not self.stop.wait(self.pause_s):
                session_id = self._open(http, chance)
                if session_id is not None:
                    self._work(http, chance, session_id)
                    http.delete(f"/sessions/{session_id}")
                    self.did["sessions worked through"] += 1

    def crasher(self, seed: int) -> None:
        """A client that vanishes in the middle of what it does, and deletes nothing."""
        chance = random.Random(seed)
        while not self.stop.wait(self.pause_s):
            with httpx.Client(base_url=self.url, timeout=120, event_hooks={"response": [self._count]}) as http:
                session_id = self._open(http, chance) if chance.random() < 0.5 else None
                if session_id is None:
                    video = self.clip.read_bytes()
                    self._send_and_reset("/initialize", "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-'
                                         b'data; name="file"; filename="a.mp4"\r\n\r\n' + video, chance.random(), 0)
                    self.did["uploads broken off"] += 1
                    continue
                http.post("/add-object", json={"session_id": session_id, "points": [list(CLICK)], "mask_format": "none"})
            body = json.dumps({"session_id": session_id, "mask_format": "png"}).encode()
            self._send_and_reset("/propagate", "application/json", body, 1.0, chance.randrange(1, 60_000))
            self.did["streams broken off"] += 1

    def _open(self, http: httpx.Client, chance: random.Random) -> str | None:
        options = {"max_frames": str(chance.randrange(8, 48)), "frame_stride": str(chance.choice([1, 1, 2]))}
        with self.clip.open("rb") as file:
            answer = http.post("/initialize", files={"file": ("clip.mp4", file)}, data=options)
        return answer.json()["session_id"] if answer.is_success else None

    def _work(self, http: httpx.Client, chance: random.Random, session_id: str) -> None:
        body: dict[str, Any] = {"session_id": session_id, "mask_format": chance.choice(["png", "rle", "polygons", "none"])}
        http.post("/add-object", json=body | {"points": [list(CLICK)], "object_id": 1})
        if chance.random() < 0.5:
            http.post("/add-object", json=body | {"box": [300, 100, 400, 200], "object_id": 2, "frame_idx": 2})
        for _ in range(2):
            self._propagate(http, chance, body)
            http.post("/refine", json=body | {"points": [[CLICK[0] + 9, CLICK[1]]], "object_id": 1, "frame_idx": 3})
        http.get(f"/sessions/{session_id}/frames/1?width=160")
        http.get(f"/sessions/{session_id}/masks/1")
        http.get(f"/sessions/{session_id}/tracks")

    def _propagate(self, http: httpx.Client, chance: random.Random, body: dict[str, Any]) -> None:
        if chance.random() < 0.25:
            answer = http.post("/propagate", json=body | {"background": True})
            if answer.is_success:
                http.get(f"/jobs/{answer.json()['job_id']}/events")
            return
        with http.stream("POST", "/propagate", json=body, headers={"Accept": chance.choice(ACCEPTED)}) as answer:
            for _ in answer.iter_bytes():
                if chance.random() < 0.005:
                    return  # stopped by the user

    def _send_and_reset(self, path: str, kind: str, body: bytes, part: float, read: int) -> None:
        """Send a part of a request, read some bytes of its answer, and tear the connection down."""
        host, port = self.url.removeprefix("http://").split(":")
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nAccept: {NDJSON}\r\nContent-Length: "
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 30) as connection:
            connection.sendall(head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body[:int(part * len(body))])
            while read > 0 and (chunk := connection.recv(4096)):
                read -= len(chunk)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _count(self, response: httpx.Response) -> None:
        failed = response.status_code >= 500 and "retry-after" not in response.headers
        self.answers["failed" if failed else str(response.status_code)] += 1


def sample(process: psutil.Process, http: httpx.Client, data: Path, started: float) -> dict[str, float]:
    """What the service, with its child processes, holds now."""
    family = [process, *process.children(recursive=True)]
    figures: Counter[str] = Counter()
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            figures["rss"] += member.memory_info().rss
            figures["handles"] += member.num_fds()
            figures["threads"] += member.num_threads()
    size = 0
    for path in data.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return {"minute": round((time.monotonic() - started) / 60, 2), "rss_mib": round(figures["rss"] / 2**20, 1),
            "handles": figures["handles"], "threads": figures["threads"], "disk_mib": round(size / 2**20, 1),
            "sessions": http.get("/health").json()["sessions"]["open"]}


def verdict(samples: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """The growth of each figure over the later two thirds, and whether it is within its limit."""
    later = samples[len(samples) // 3:]
    minutes = np.array([item["minute"] for item in later])
    found = {}
    for name, limit in LIMITS.items():
        values = np.array([item[name] for item in later])
        slope = float(np.polyfit(minutes, values, 1)[0]) if len(later) > 2 else 0.0
        growth = slope * float(minutes[-1] - minutes[0])
        found[name] = {"mean": round(float(values.mean()), 1), "highest": float(values.max()), "per_hour": round(slope * 60, 2),
                       "growth": round(growth, 2), "limit": limit, "ok": growth <= limit}
    return found


def start_service(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Run `sam-service serve` on a free port; returns the process and its address."""
    log = folder / "service.log"
    environment = {**os.environ, **OPTIONS}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "sam_service", "serve", "--port", "0", "--data-dir",
                                    str(folder / "data")], stdout=out, stderr=out, env=environment)
    while "running on http://" not in (text := log.read_text()):
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.1)
    return process, "http://" + text.split("running on http://")[1].split()[0]


def run(minutes: float, interval_s: float, users: int, crashers: int, pause_s: float, folder: Path) -> dict[str, Any]:
    """Soak for `minutes` and report."""
    clip = render_clip(folder / "clip.mp4")
    service, url = start_service(folder)
    soak = Soak(url, clip, pause_s)
    samples: list[dict[str, float]] = []
    try:
        with SamClient(url) as client:
            health = client.wait_ready()
        threads = [threading.Thread(target=soak.keep, args=[client, seed], daemon=True) for seed, client in
                   enumerate([soak.user] * users + [soak.crasher] * crashers)]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        process = psutil.Process(service.pid)
        with httpx.Client(base_url=url, timeout=60) as http:
            while time.monotonic() - started < minutes * 60:
                time.sleep(interval_s)
                samples.append(sample(process, http, folder / "data", started))
                if len(samples) % 12 == 0:
                    print("  ".join(f"{name} {value:g}" for name, value in samples[-1].items()), flush=True)
            soak.stop.set()
            for thread in threads:
                thread.join(120)
        cores = os.cpu_count()
        return {"machine": f"{platform.machine()}, {cores} cores", "minutes": minutes, "model": health["model"],
                "clients": {"users": users, "crashing": crashers}, "did": dict(soak.did), "answers": dict(soak.answers),
                "connections_that_failed": soak.failures,
                "tracebacks_in_the_log": (folder / "service.log").read_text().count("Traceback"),
                "verdict": verdict(samples), "samples": samples}
    finally:
        service.terminate()
        service.wait(60)


def main() -> int:
    """Parse the options, run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--interval", type=float, default=5, help="seconds between samples")
    parser.add_argument("--users", type=int, default=2)
    parser.add_argument("--crashing", type=int, default=2)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that a client rests between sessions")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = run(options.minutes, options.interval, options.users, options.crashing, options.pause, Path(name))
    for name, found in report["verdict"].items():
        print(f"{name:10} mean {found['mean']:>8g}  highest {found['highest']:>8g}  per hour {found['per_hour']:>+8g}  "
              f"growth {found['growth']:>+7g} of {found['limit']:g}  {'ok' if found['ok'] else 'TOO MUCH'}")
    print(json.dumps({name: value for name, value in report.items() if name not in ("samples", "verdict")}))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1))
    good = all(found["ok"] for found in report["verdict"].values())
    bad = report["answers"].get("failed"), report["tracebacks_in_the_log"], report["connections_that_failed"]
    return 0 if good and not any(bad) else 1


if __name__ == "__main__":
    sys.exit(main())
