"""One connection: how long it may wait, how many there may be, and an answer to what cannot be read as HTTP."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sam_service.api.bodies import LINGER_S
from sam_service.api.guards import head_too_large
from sam_service.api.problems import problem_of, respond
from sam_service.errors import CapacityError, ClientError, ServiceError, TooSlow

HEAD_TIMEOUT_S = 30.0
"""How long a connection may take to send a request's head, the first one or a later one."""
STALLED_S = 5.0
"""A client that reads nothing for so long may lose its connection where others need it."""
UNREAD_S = 60.0
"""A client that reads nothing for so long loses its connection."""
SLOW_S, SLOW_BYTES_PER_S = 15.0, 64 << 10
"""A client whose body comes slower than so, after so many seconds, may lose its connection where others need it."""
MAX_LINES = 256
"""Lines of a head, for each of which a parser needs its time."""
MAX_SMALL_CHUNKS, SMALL_BYTES = 2048, 16
"""So many chunks of a body may have less than so many bytes each, on the average."""
_LENGTHS = re.compile(rb"^content-length[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_TRANSFER = re.compile(rb"^transfer-encoding[ \t]*:", re.IGNORECASE | re.MULTILINE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class Gate:
    """Keeps the number of connections at `limit`. A new one takes the place of the one that has waited longest for a request,
    then of one whose client does not read its answer, then of the one whose body comes slowest; where all are at work, the new
    one is refused."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting: dict[Connection, None] = {}  # oldest first
        self.stalled: dict[Connection, float] = {}  # since when, on the loop's clock
        self.sending: dict[Connection, float] = {}  # a body; since when

    def let_in(self, open_connections: set[Any], now: float) -> bool:
        """Make room for the newest of `open_connections`. False where there is none to be had."""
        while len(open_connections) > self.limit:
            victim = next(iter(self.waiting), None)
            if victim is None:
                victim = next((one for one, since in self.stalled.items() if now - since > STALLED_S), None)
            victim = victim or self._slowest(now)
            if victim is not None:
                victim.hang_up()
            elif (closing := next((one for one in open_connections if getattr(one, "close_sent", False)), None)) is not None:
                open_connections.discard(closing)  # a WebSocket that was refused, whose client does not hang up
                closing.transport.abort()
            else:
                return False
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self.waiting.pop(connection, None)
        self.stalled.pop(connection, None)
        self.sending.pop(connection, None)

    def _slowest(self, now: float) -> Connection | None:
        """The client whose body comes slowest, where that is too slow. Those that wait for the service are none."""
        rates = {one: one.body_bytes / (now - since) for one, since in self.sending.items()
                 if now - since > SLOW_S and not one.flow.read_paused}
        slowest = min(rates, key=rates.__getitem__, default=None)
        return slowest if slowest is not None and rates[slowest] < SLOW_BYTES_PER_S else None


class _Reader(h11.Connection):
    """h11, which also refuses heads whose length can be read in two ways, since a proxy may have read the other one, and what
    costs far more time to read than to send."""

    _searched = _chunks = _chunk_bytes = 0

    def next_event(self) -> Any:
        """The next event. Raises RemoteProtocolError."""
        if self.their_state is h11.IDLE:
            received = self.trailing_data[0]
            end = _HEAD_END.search(received, max(0, self._searched - len(b"\r\n\r")))
            self._searched = len(received)
            if end is not None:
                self._searched = self._chunks = self._chunk_bytes = 0
                _check_head(received[:end.start() + 1])
        event = super().next_event()
        if isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
            self._chunk_bytes += len(event.data)
            if self._chunks > MAX_SMALL_CHUNKS and self._chunk_bytes < SMALL_BYTES * self._chunks:
                raise h11.RemoteProtocolError("the body comes in too many small chunks")
        return event


def _check_head(head: bytes) -> None:
    """Raise RemoteProtocolError for a head of many lines, and for one that says its body's length twice, in two ways, or over
    several lines."""
    if head.count(b"\n") > MAX_LINES:
        raise h11.RemoteProtocolError("too many headers", error_status_hint=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    lengths = _LENGTHS.findall(head)
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise h11.RemoteProtocolError("Content-Length has to be one number")
    if _TRANSFER.search(head):
        if lengths:
            raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding exclude each other")
        if head.partition(b"\n")[0].rstrip().endswith(b"HTTP/1.0"):
            raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
    if re.search(rb"\n[ \t]", head):
        raise h11.RemoteProtocolError("a header goes on in the next line")


class Connection(H11Protocol):
    """uvicorn's connection, with problem documents for requests that never reach the application, and limits in time and count.

    After such an answer it sends no more, and reads what the client still has to say for up to `LINGER_S`: closed at once, with
    bytes unread, the system would take the answer back with a reset.
    """

    def __init__(self, *args: Any, gate: Gate, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate = gate
        self.conn = _Reader(h11.SERVER, self.config.h11_max_incomplete_event_size or 16 << 10)
        self._refused: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self.body_bytes = 0  # of the body that is coming

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, or refuse the client where there is no room."""
        super().connection_made(transport)
        if self._gate.let_in(self.connections, self.loop.time()):
            self._wait()
        else:
            self._refuse(CapacityError("all connections of the service are in use; try again later",
                                       code="too_many_connections"))

    def data_received(self, data: bytes) -> None:
        """Read on, unless the client was refused."""
        if self._refused is None:
            self.body_bytes += len(data)
            super().data_received(data)

    def handle_events(self) -> None:
        """Act on what came; note whether a request is at work or waited for."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        if self.conn.their_state is not h11.SEND_BODY:
            self._gate.sending.pop(self, None)
        elif self not in self._gate.sending:
            self.body_bytes = 0
            self._gate.sending[self] = self.loop.time()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; it goes on being counted."""
        self._stop_waiting()
        self._gate.leave(self)
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is made."""
        self._gate.stalled.setdefault(self, self.loop.time())
        self._watch_reader(0)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._gate.stalled.pop(self, None)
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 has just refused, unless an answer has begun: then all that can be done is to hang up."""
        fault = sys.exception()
        hint = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else None
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._refuse(head_too_large() if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else ClientError(
            f"this is no HTTP request that can be answered: {fault}", code="invalid_http"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers with the connection."""
        if self._refused is not None:
            self._refused.cancel()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._stop_waiting()
        self._gate.leave(self)
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """Close at once, to make room. The descriptor is free in the event loop's next round."""
        self._gate.leave(self)
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self, error: ServiceError) -> None:
        """Answer before there is a request, send no more, and close a little later."""
        answer = respond(problem_of(error))
        start = h11.Response(status_code=answer.status_code, headers=[*answer.raw_headers, (b"connection", b"close")],
                             reason=HTTPStatus(answer.status_code).phrase)
        events = start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._stop_waiting()
        self._gate.waiting[self] = None  # the first to go where others need its place
        self._refused = self.loop.call_later(LINGER_S, self.transport.close)

    def _wait(self) -> None:
        """Begin to wait for a request's head."""
        self._stop_waiting()
        if not self.transport.is_closing():
            self._gate.waiting[self] = None
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _stop_waiting(self) -> None:
        self._gate.waiting.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_reader(self, unread: int) -> None:
        """Hang up where the client has read nothing since `unread` bytes were waiting for it; else look again later."""
        waiting = self.transport.get_write_buffer_size()
        if unread and waiting >= unread:
            self.hang_up()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_S, self._watch_reader, waiting)

    def _head_is_late(self) -> None:
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            self._refuse(TooSlow(f"the request's head did not come within {HEAD_TIMEOUT_S:.0f} s"))
        elif self.transport.get_write_buffer_size():  # the client does not read: a close would wait for it
            self.hang_up()
        else:
            self.transport.close()


def connections(limit: int) -> Callable[..., Connection]:
    """What makes the connections of one server: at most `limit` at a time."""
    gate = Gate(limit)

    def make(*args: Any, **options: Any) -> Connection:
        return Connection(*args, gate=gate, **options)

    return make
