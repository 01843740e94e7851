"""The process that serves: how it ends, and how it gets over a step of the network that hangs."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from sam_service.api.app import create_app
from sam_service.api.guards import MAX_HEAD_BYTES
from sam_service.connection import connections
from sam_service.settings import Settings
from sam_service.websocket import MAX_MESSAGE_BYTES, WebSocket

logger = logging.getLogger(__name__)
LISTENING, RECYCLED = "SAM_SERVICE_LISTENING", "SAM_SERVICE_RECYCLED"
"""A process hands the file descriptor that it listens on to the next one, and how often that was done."""
RESTARTS = "SAM_SERVICE_RESTARTS"  # when the process started anew, seconds since 1970; handed on from one to the next
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0
EXIT_HUNG = 70
MAX_DESCRIPTORS = 65536
LOG_INTERVAL_S = 1.0
LISTEN_BACKLOG = 1024
LAST_REQUESTS_S = 0.5  # for the requests of connections that were just accepted


class Server(uvicorn.Server):
    """uvicorn, which tells the application of a stop before it waits for its clients; a second signal ends it at once.

    At most MAX_CONNECTIONS clients are connected, and never more than a quarter of the file descriptors that the process may
    have: the others are for files, for videos and for connections that are on their way in or out.
    """

    def __init__(self, settings: Settings, *, log_level: str | None = None, restart_when_hung: bool = False) -> None:
        self.recycles = False
        """Whether the process is to be replaced by a fresh one, now that `run` has returned."""
        self._kept: socket.socket | None = None
        self._app = create_app(settings, on_hang=self._hung if restart_when_hung else None,
                               on_recycle=self._recycle if restart_when_hung else None, process_restarts=len(_restarts()),
                               recycled=recycled())
        descriptors = raise_descriptor_limit()
        limit = min(settings.max_connections, max(8, descriptors // 4))
        if limit < settings.max_connections:
            logger.warning("%d connections at a time, not MAX_CONNECTIONS=%d: the system lets the process open %d files",
                           limit, settings.max_connections, descriptors)
        super().__init__(uvicorn.Config(
            self._app, host=settings.host, port=settings.port, log_level=log_level or settings.log_level, access_log=False,
            http=connections(limit),  # type: ignore[arg-type]
            ws=WebSocket, ws_max_size=MAX_MESSAGE_BYTES,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES, backlog=min(256, max(8, descriptors // 16)),
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s))))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. A system that hands out no descriptors for new connections is logged once a second at most.

        asyncio accepts `backlog` connections in one round, so that is small; how many may wait in the kernel is another matter.
        """
        asyncio.get_running_loop().set_exception_handler(AcceptErrors())
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(LISTEN_BACKLOG)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end; on the socket of the process that this one replaces, if it does."""
        if sockets is None and (descriptor := os.environ.pop(LISTENING, "")):
            sockets = [socket.socket(fileno=int(descriptor))]
        super().run(sockets)

    def _recycle(self) -> None:
        """Stop as for a signal, but keep listening: clients that come meanwhile wait for the next process."""
        self._kept = next(one for server in self.servers for one in server.sockets).dup()
        self.recycles = self.should_exit = True

    def replace(self) -> NoReturn:
        """Let a fresh process of the same command take the place of this one, whose sessions are all on disk."""
        assert self._kept is not None
        os.set_inheritable(self._kept.fileno(), True)
        os.environ[LISTENING] = str(self._kept.fileno())
        os.environ[RECYCLED] = str(int(os.environ.get(RECYCLED, "0")) + 1)
        self._execute()

    def _hung(self) -> None:
        start_anew(self._execute)

    def _execute(self) -> NoReturn:
        """Become a fresh process, in the mode that is in use."""
        os.environ["SAM2_MODE"] = self._app.state.services.modes.current
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for a stop; the second ends the process. All that was answered is on disk."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new work, let running frames and open answers end, then stop."""
        self._app.state.services.begin_stop()
        if self.recycles:
            for server in self.servers:
                server.close()  # the next process accepts from here on
            await asyncio.sleep(LAST_REQUESTS_S)
        await super().shutdown(sockets)


class AcceptErrors:
    """The event loop's handler of errors: of those while a connection is accepted, one line a second; the others as usual."""

    def __init__(self) -> None:
        self._logged_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not str(context.get("message", "")).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif loop.time() - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = loop.time()
            logger.warning("a connection could not be accepted: %s", context.get("exception"))


def raise_descriptor_limit() -> int:
    """Let the process open as many files as the system allows, at most MAX_DESCRIPTORS; returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS allows less than it says
        return soft
    return wanted


def start_anew(execute: Callable[[], NoReturn]) -> NoReturn:
    """Replace this process by a fresh one of the same command: what hangs in native code cannot be stopped otherwise.

    Sessions, prompts and masks are on disk, and background jobs go on. Too many restarts in a row end the process.
    """
    now = time.time()
    recent = [then for then in _restarts() if now - then < RESTART_WINDOW_S]
    if len(recent) >= MAX_RESTARTS:
        logger.critical("%d restarts within %.0f s: giving up", len(recent), RESTART_WINDOW_S)
        os._exit(EXIT_HUNG)
    os.environ[RESTARTS] = ",".join(f"{then:.0f}" for then in [*_restarts(), now])
    execute()


def recycled() -> int:
    """How often the process was replaced on purpose."""
    return int(os.environ.get(RECYCLED, "0"))


def _restarts() -> list[float]:
    return [float(then) for then in os.environ.get(RESTARTS, "").split(",") if then]
