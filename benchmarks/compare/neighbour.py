"""A busy neighbour: a process that multiplies matrices on all cores, as another torch program does, until it is ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.compare.peers import environment

WORK = """
import os, threading, torch
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()  # ends with the process that started it
a = torch.randn(1024, 1024)
print("busy", flush=True)
while True:
    a = torch.nn.functional.normalize(a @ a)
"""


@contextlib.contextmanager
def neighbour(threads: int, *, there: bool) -> Iterator[None]:
    """Have a neighbour while this lasts, where one is to be there."""
    if not there:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", WORK], env=environment(threads), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "busy":
                raise OSError("the busy neighbour did not start")
            yield
        finally:
            process.kill()
