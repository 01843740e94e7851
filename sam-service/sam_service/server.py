"""The process that serves: how it ends, and how it gets over a step of the network that hangs."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from types import FrameType
from typing import NoReturn

import uvicorn

from sam_service.api.app import create_app
from sam_service.api.guards import MAX_HEAD_BYTES
from sam_service.connection import Connection
from sam_service.settings import Settings

logger = logging.getLogger(__name__)
RESTARTS = "SAM_SERVICE_RESTARTS"  # when the process started anew, seconds since 1970; handed on from one to the next
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0
EXIT_HUNG = 70


class Server(uvicorn.Server):
    """uvicorn, which tells the application of a stop before it waits for its clients; a second signal ends it at once."""

    def __init__(self, settings: Settings, *, log_level: str | None = None, restart_when_hung: bool = False) -> None:
        self._app = create_app(settings, on_hang=start_anew if restart_when_hung else None,
                               process_restarts=len(_restarts()))
        super().__init__(uvicorn.Config(
            self._app, host=settings.host, port=settings.port, log_level=log_level or settings.log_level, access_log=False,
            http=Connection, h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s))))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for a stop; the second ends the process. All that was answered is on disk."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new work, let running frames and open answers end, then stop."""
        self._app.state.services.begin_stop()
        await super().shutdown(sockets)


def start_anew() -> NoReturn:
    """Replace this process by a fresh one of the same command: what hangs in native code cannot be stopped otherwise.

    Sessions, prompts and masks are on disk, and background jobs go on. Too many restarts in a row end the process.
    """
    now = time.time()
    recent = [then for then in _restarts() if now - then < RESTART_WINDOW_S]
    if len(recent) >= MAX_RESTARTS:
        logger.critical("%d restarts within %.0f s: giving up", len(recent), RESTART_WINDOW_S)
        os._exit(EXIT_HUNG)
    os.environ[RESTARTS] = ",".join(f"{then:.0f}" for then in [*_restarts(), now])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _restarts() -> list[float]:
    return [float(then) for then in os.environ.get(RESTARTS, "").split(",") if then]
