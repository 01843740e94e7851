"""A service for the length of a command or a test: real HTTP on a free loopback port, in a thread of this process."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sam_service.server import Server
from sam_service.settings import Settings

START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 30.0


@contextlib.contextmanager
def local_service(settings: Settings, *, port: int = 0, data_dir: Path | None = None) -> Iterator[str]:
    """Run the service; yields its address. Port 0 is a free one; without `data_dir` its data go when it ends."""
    with tempfile.TemporaryDirectory(prefix="sam-service-") as folder:
        changed = {"sam2_data_dir": data_dir or Path(folder), "shutdown_timeout_s": min(settings.shutdown_timeout_s, 2.0)}
        listener = socket.create_server(("127.0.0.1", port))
        server = Server(settings.model_copy(update=changed), log_level="warning")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="service", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the service did not start; its log says why")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT_S)
