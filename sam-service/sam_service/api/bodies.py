"""Bodies are read under limits: so many bytes, counted as they come, and not slower than a client that means it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service.api.problems import problem_of, respond
from sam_service.errors import ClientError, NotReady, ServiceError, TooLarge, TooSlow

LINGER_S = 3.0  # for a client that is refused in the middle of its body


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a body may come.

    silence_s: seconds without a byte. grace_s: seconds of waiting after which the mean rate counts. bytes_per_s: that rate.
    """

    silence_s: float = 30.0
    grace_s: float = 60.0
    bytes_per_s: int = 4096


async def pieces(receive: Receive, max_bytes: int, too_large: ServiceError, pace: Pace,
                 stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """A body as it comes. Raises `too_large` past `max_bytes`, TooSlow, ClientError where the client leaves, and NotReady
    once the service is `stopping`: what the body asks for would not be begun any more."""
    clock = asyncio.get_running_loop().time
    received, waited, more = 0, 0.0, True
    while more:
        asked = clock()
        message = await _next(receive, pace.silence_s, stopping)
        waited += clock() - asked
        if message["type"] != "http.request":
            raise ClientError("the client left before its body was complete", code="client_left")
        body, more = message.get("body", b""), message.get("more_body", False)
        received += len(body)
        if received > max_bytes:
            raise too_large
        if more and waited > pace.grace_s and received < pace.bytes_per_s * waited:
            raise TooSlow(f"the body comes slower than {pace.bytes_per_s} bytes a second")
        if body:
            yield body


async def _next(receive: Receive, silence_s: float, stopping: asyncio.Event) -> Message:
    coming, stop = asyncio.ensure_future(receive()), asyncio.ensure_future(stopping.wait())
    try:
        done, _ = await asyncio.wait((coming, stop), timeout=silence_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        coming.cancel()
        stop.cancel()
    if stopping.is_set():
        raise NotReady("the service is stopping", code="stopping", retry_after_s=10)
    if not done:
        raise TooSlow(f"nothing of the body came for {silence_s:.0f} s")
    return coming.result()


def declared_bytes(headers: Headers) -> int:
    """What the request says its body has, 0 where it does not say."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() and len(declared) < 20 else 0


class BodyLimit:
    """ASGI middleware: a body may have at most `max_bytes`; a longer one is answered 413, one that does not come 408.
    `uploads` are paths that take multipart bodies and count those themselves."""

    def __init__(self, app: ASGIApp, max_bytes: int, uploads: frozenset[str], stopping: asyncio.Event,
                 pace: Pace | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = uploads
        self._stopping = stopping
        self._pace = pace or Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(receive, send)
        if scope["path"] in self._uploads and is_multipart(headers):
            await self._app(scope, exchange.receive, exchange.send)
            return
        try:
            body = await self._read(headers, exchange.receive)
        except ServiceError as error:
            await respond(problem_of(error))(scope, receive, exchange.send)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        too_large = TooLarge(f"a JSON body may have at most {self._max_bytes} bytes", code="body_too_large")
        if declared_bytes(headers) > self._max_bytes:
            raise too_large
        body = bytearray()
        async for piece in pieces(receive, self._max_bytes, too_large, self._pace, self._stopping):
            body += piece
        return bytes(body)


class Exchange:
    """A request that may be answered before its body is read. Then the connection is closed behind the answer, a little
    later: closed at once, with bytes unread, the system would take the answer back with a reset."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            await self._send({**message, "headers": [*message.get("headers", []), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._pass_over()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_over(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._complete:
                    await self.receive()


def is_multipart(headers: Headers) -> bool:
    """Whether the body is a multipart form."""
    return headers.get("content-type", "").lower().startswith("multipart/")
