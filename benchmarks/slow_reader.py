#!/usr/bin/env python3
"""What a slow reader costs the others: the rate of one client's propagation beside a fast reader's and beside one at 1 KB/s.

    .venv/bin/python benchmarks/slow_reader.py

Both clients propagate a made-up clip, masks as PNG, at the same time; the other one reads as fast as it can, or 1 KB a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sam_service.client import SamClient
from sam_service.demo_clip import CLICK, FRAMES, render_clip

SLOW_BYTES_PER_S = 1024


def start_service(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Run `sam-service serve` on a free port; returns the process and its address."""
    log = folder / "service.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "sam_service", "serve", "--port", "0", "--data-dir",
                                    str(folder / "data")], stdout=out, stderr=out)
    while "running on http://" not in (text := log.read_text()):
        if process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.1)
    return process, "http://" + text.split("running on http://")[1].split()[0]


def read(url: str, session_id: str, bytes_per_s: int | None, stop: threading.Event) -> None:
    """Propagate, and read the answer at a rate, or as fast as it comes, until the end or until told to stop."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"session_id": session_id, "mask_format": "png"}).encode()
    with socket.create_connection((host, int(port)), 600) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = (f"POST /propagate HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Accept: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n")
        connection.sendall(head.encode() + body)
        while not stop.is_set() and connection.recv(bytes_per_s or 65536):
            if bytes_per_s is not None:
                stop.wait(1)


def rate_beside(client: SamClient, url: str, clip: Path, bytes_per_s: int | None) -> float:
    """Frames per second of a propagation while another one is read at a rate."""
    with client.open_video(clip) as one, client.open_video(clip) as other:
        for video in (one, other):
            video.add_object(points=[list(CLICK)])
            video.frame(FRAMES - 1)  # waits until all is extracted
        stop = threading.Event()
        reader = threading.Thread(target=read, args=[url, other.session_id, bytes_per_s, stop])
        reader.start()
        started = time.perf_counter()
        frames = len(list(one.propagate()))
        elapsed = time.perf_counter() - started
        stop.set()
        reader.join()
    return frames / elapsed


def main() -> None:
    """Parse the options, measure in turns, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = render_clip(folder / "clip.mp4")
        process, url = start_service(folder)
        try:
            with SamClient(url) as client:
                client.wait_ready()
                rates = [(rate_beside(client, url, clip, None), rate_beside(client, url, clip, SLOW_BYTES_PER_S))
                         for _ in range(rounds)]
        finally:
            process.terminate()
            process.wait()
    fast, slow = (statistics.median(column) for column in zip(*rates, strict=True))
    print(json.dumps({"machine": f"{platform.machine()}, {os.cpu_count()} cores", "rounds": rounds,
                      "frames_per_second_beside_a_fast_reader": round(fast, 2),
                      "frames_per_second_beside_a_slow_reader": round(slow, 2), "ratio": round(slow / fast, 3)}, indent=1))


if __name__ == "__main__":
    main()
