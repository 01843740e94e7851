"""One WebSocket: how much its client may send, and how long it may read nothing. Clients listen; all they send is pings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sam_service.connection import UNREAD_S

MAX_MESSAGE_BYTES = 4096
"""The longest message, before and after it is unpacked."""
MAX_BYTES, WINDOW_S = 16 << 10, 1.0
"""A client that sends more than so many bytes within so many seconds is hung up on: each frame costs time, however small."""
_NO_TEXT, _POLICY_VIOLATION = 1007, 1008
_logger = logging.getLogger(__name__)
_logger.setLevel(logging.WARNING)  # uvicorn has three lines for each that comes and goes


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with these limits. The connection is counted by `connection.Gate` all the while."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = self.conn.logger = _logger
        self._window, self._window_bytes = float("-inf"), 0
        self._unread = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look whether the client reads."""
        super().connection_made(transport)
        self._watch_reader()

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much. The first bytes are the request's head, which has limits of its own."""
        if self.handshake_initiated and not self._may_send(len(data)):
            if not self.close_sent and self.handshake_complete:
                self.conn.fail(_POLICY_VIOLATION, "too many messages")
                self.handle_parser_exception()
            return
        super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        """Hand a message on. Text that is no UTF-8 ends the connection; uvicorn would put a traceback for each into the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(_NO_TEXT, "text is UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer with the connection."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def _may_send(self, count: int) -> bool:
        now = self.loop.time()
        if now - self._window > WINDOW_S:
            self._window, self._window_bytes = now, 0
        self._window_bytes += count
        return self._window_bytes <= MAX_BYTES

    def _watch_reader(self) -> None:
        """Hang up where the client has read nothing of what has waited for it since the last time; look again later."""
        waiting = self.transport.get_write_buffer_size()
        if self._unread and waiting >= self._unread:
            self.transport.abort()
            return
        self._unread = waiting
        self._unread_timer = self.loop.call_later(UNREAD_S, self._watch_reader)
