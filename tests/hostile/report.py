"""`python -m tests.hostile.report`: what each hostile request costs the service, as a table in Markdown.

The service is a process of its own. Seconds are from the request's first byte to the answer's last. MiB are the most that its
decoding processes held meanwhile, and what the service itself held more at the end than at the start.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from sam_service.client import SamClient

from tests import clips
from tests.hostile.cases import CASES, MAX_UPLOAD_MB, Case, Target, answer_of

MIB = 1 << 20
SAMPLE_S = 0.01


class Meter:
    """The most memory, in bytes, that the decoding processes of a service held together since `start`."""

    def __init__(self, service: psutil.Process) -> None:
        self._service = service
        self._peak = 0
        self._done = threading.Event()

    def __enter__(self) -> Meter:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """In bytes."""
        return self._peak

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            with contextlib.suppress(psutil.Error):
                held = sum(_memory(child) for child in self._service.children())
                self._peak = max(self._peak, held)


def main() -> int:
    """Run every case once and print the table; 1 where an answer was not the right one."""
    failed = 0
    with tempfile.TemporaryDirectory() as name, _service(Path(name).resolve()) as (target, process):
        print("| request | answer | s | decoding, MiB | service, MiB |\n| --- | --- | ---: | ---: | ---: |")
        for case in CASES:
            failed += not _run(case, target, process)
    return 1 if failed else 0


def _run(case: Case, target: Target, process: psutil.Process) -> bool:
    before = _memory(process)
    with Meter(process) as meter:
        began = time.perf_counter()
        answer = answer_of(target, case.send(target))
        took = time.perf_counter() - began
        for session_id in target.opened:  # with all of its frames, not only the first
            _wait_until_extracted(target, session_id)
            target.client.http.delete(f"/sessions/{session_id}")
        target.opened.clear()
    held = (_memory(process) - before) / MIB
    right = answer.status in case.statuses and case.code in (None, answer.code)
    told = f"{answer.status or 'closed'} {f'`{answer.code}`' if answer.code else ''}".strip()
    told += "" if right else " **wrong**"
    print(f"| {case.name} | {told} | {took:.2f} | {meter.peak / MIB:.0f} | {held:+.0f} |", flush=True)
    return right


def _wait_until_extracted(target: Target, session_id: str) -> None:
    for _ in range(600):
        if target.client.http.get(f"/sessions/{session_id}").json()["status"] != "extracting":
            return
        time.sleep(0.05)


def _memory(process: psutil.Process) -> int:
    held: int = process.memory_info().rss
    return held


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[tuple[Target, psutil.Process]]:
    """A service of its own process, without the machine's options, and a client that is ready."""
    for name in ("videos", "scratch", "data"):
        (folder / name).mkdir()
    clip = clips.write_video(folder / "videos" / "clip.mp4")
    port = _free_port()
    options = {"SAM2_DATA_DIR": folder / "data", "SAM2_VIDEO_DIR": folder / "videos", "MAX_UPLOAD_MB": MAX_UPLOAD_MB,
               "PYTHONPATH": ":".join(sys.path), "LOG_LEVEL": "error", "OMP_NUM_THREADS": 1}
    command = [sys.executable, "-m", "sam_service", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env={name: str(value) for name, value in options.items()})
    try:
        _wait_for(port, process)
        with SamClient(f"http://127.0.0.1:{port}") as client:
            client.wait_ready()
            session = client.open_video_on_server(clip.name)
            yield Target(client, folder / "videos", folder / "scratch", session.session_id), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("the service did not start")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
