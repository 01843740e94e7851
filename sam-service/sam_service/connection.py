"""One connection: what cannot be read as HTTP is answered like every other mistake, and the answer arrives."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sam_service.api.bodies import LINGER_S
from sam_service.api.guards import head_too_large
from sam_service.api.problems import problem_of, respond
from sam_service.errors import ClientError


class Connection(H11Protocol):
    """uvicorn's connection, with problem documents for requests that never reach the application.

    After such an answer it sends no more, and reads what the client still has to say for up to `LINGER_S`: closed at once, with
    bytes unread, the system would take the answer back with a reset.
    """

    _refused: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Read on, unless the client was refused."""
        if self._refused is None:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 has just refused, unless an answer has begun: then all that is left is to hang up."""
        fault = sys.exception()
        hint = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else None
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        answer = respond(problem_of(head_too_large() if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else ClientError(
            f"this is no HTTP request that can be answered: {fault}", code="invalid_http")))
        start = h11.Response(status_code=answer.status_code, headers=[*answer.raw_headers, (b"connection", b"close")],
                             reason=HTTPStatus(answer.status_code).phrase)
        for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._refused = self.loop.call_later(LINGER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer with the connection."""
        if self._refused is not None:
            self._refused.cancel()
        super().connection_lost(exc)
