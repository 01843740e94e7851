"""Services in processes of their own, to be killed, stopped and starved.

Each is the command `sam-service serve`, forked from a process that has the libraries loaded already: starting one then takes
half a second of CPU instead of five, and a hundred of them can be killed in minutes.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sam_service.cli import main
from sam_service.client import SamClient

START_TIMEOUT_S = 60.0
LISTENING = "running on http://"
SMALL = {"SAM2_IMAGE_SIZE": "128", "TORCH_NUM_THREADS": "1"}
"""Options of a service whose masks need not be good."""
DESCRIPTORS = "TEST_DESCRIPTORS"
"""An option of these tests alone: how many files the process may open at most; half as many until it asks for more."""


def _serve(data: Path, log: Path, options: dict[str, str]) -> None:
    """What the child does: run the command, its output in `log`."""
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if descriptors := int(options.pop(DESCRIPTORS, 0)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors // 2, descriptors))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # where every thread is, into the log
    os.environ.update(options)
    os.chdir(data.parent)
    os._exit(main(["serve", "--port", "0", "--data-dir", str(data)]))


class Server:
    """One service on `data`, which is made if it is missing. Start it as often as it was ended."""

    def __init__(self, data: Path, **options: str) -> None:
        self.data = data
        self.options = SMALL | options
        self.log = Path(f"{data}.log")
        self.url = ""
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the process that all are forked from
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["cv2", "torch", "uvicorn", "pytest", "sam_service.api.app", __name__])
        self._process = self._context.Process(target=_serve)

    def spawn(self) -> Self:
        """Start the process and do not wait for it."""
        arguments = self.data, self.log, self.options
        self.log.unlink(missing_ok=True)
        self._process = self._context.Process(target=_serve, args=arguments)
        self._process.start()
        return self

    def start(self) -> Self:
        """Start the process and wait until it listens and its model is loaded."""
        self.spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while LISTENING not in (told := self.told()):
            assert self._process.is_alive() and time.monotonic() < deadline, told
            time.sleep(0.01)
        self.url = "http://" + told.split(LISTENING)[1].split()[0]
        with SamClient(self.url) as client:
            client.wait_ready()
        return self

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def told(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        """End the process as a power cut would, as far as the process is concerned."""
        self.send(signal.SIGKILL)
        self.wait()

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end; the exit code, or minus the signal that ended it."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"still running after {timeout_s} s:\n{self.told()}"
        return code


@contextmanager
def server(data: Path, **options: str) -> Iterator[Server]:
    """A service that is ready, killed at the end of the block if it still runs."""
    started = Server(data, **options)
    try:
        yield started.start()
    finally:
        if started.alive:
            started.kill()
