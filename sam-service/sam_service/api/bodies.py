"""Bodies are read under limits: so many bytes, counted as they come, and not slower than a client that means it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service.api.json_bodies import INLINE_BYTES, Outline
from sam_service.api.problems import problem_of, respond
from sam_service.api.scopes import declared_bytes, expects_body, is_multipart, route_path
from sam_service.errors import CapacityError, ClientError, NotReady, ServiceError, TooLarge, TooSlow

LINGER_S = 3.0  # for a client that is refused in the middle of its body


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a body may come.

    silence_s: seconds without a byte. grace_s: seconds of waiting after which the mean rate counts. bytes_per_s: that rate.
    """

    silence_s: float = 30.0
    grace_s: float = 60.0
    bytes_per_s: int = 4096


JSON_PACE = Pace(bytes_per_s=64 << 10)


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


@dataclass(frozen=True, slots=True)
class BodyRules:
    """How many bytes the bodies of which routes may have. Forms of `uploads` are counted by their own route.

    large: paths that take a mask, and so much. pictures: paths whose body is a picture, or has one, of at most `picture_bytes`.
    none: patterns of paths that take no body although they change something. held: bytes of all bodies together that are in
    memory.
    """

    usual: int = INLINE_BYTES
    large: Mapping[str, int] = field(default_factory=dict)
    uploads: frozenset[str] = frozenset()
    none: tuple[re.Pattern[str], ...] = ()
    pictures: re.Pattern[str] | None = None
    picture_bytes: int = 0
    held: int = 128 << 20

    def limit(self, method: str, path: str) -> int | None:
        """The most bytes; None where no body is taken."""
        if method not in ("POST", "PUT", "PATCH") or any(pattern.fullmatch(path) for pattern in self.none):
            return None
        return self.picture_bytes if self.is_picture(path) else self.large.get(path, self.usual)

    def is_picture(self, path: str) -> bool:
        """Whether a path takes a picture as its body."""
        return self.pictures is not None and self.pictures.fullmatch(path) is not None


class BodyLimit:
    """ASGI middleware: reads a body before its route, where the route takes one. One longer than `rules` allow gets 413,
    one that does not come 408, one for which there is no memory 503. Where a route takes none, it is passed over."""

    def __init__(self, app: ASGIApp, rules: BodyRules, stopping: asyncio.Event, pace: Pace | None = None) -> None:
        self._app = app
        self._rules = rules
        self._stopping = stopping
        self._pace = pace or JSON_PACE
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, path = Headers(scope=scope), route_path(scope)
        exchange = Exchange(receive, send, expects_body(scope))
        if path in self._rules.uploads and is_multipart(headers):
            return await self._app(scope, exchange.receive, exchange.send)
        body = bytearray()
        try:
            try:
                await self._read(body, self._rules.limit(scope["method"], path), headers, exchange.receive,
                                 is_picture=self._rules.is_picture(path))
            except ServiceError as error:
                return await respond(problem_of(error))(scope, receive, exchange.send)
            pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

            async def replay() -> Message:
                return pending.pop() if pending else await exchange.receive()

            await self._app(scope, replay, exchange.send)
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, limit: int | None, headers: Headers, receive: Receive, *,
                    is_picture: bool) -> None:
        """Read into `body`, which is counted as held from its first byte on. Raises ServiceError."""
        if limit is None:
            if declared_bytes(headers) > self._rules.usual:
                raise TooLarge("this call takes no body", code="body_too_large")
            return
        too_large = TooLarge(f"the body may have at most {limit} bytes", code="body_too_large")
        if declared_bytes(headers) > limit:
            raise too_large
        outline = Outline() if limit > INLINE_BYTES and not is_picture else None
        async for piece in pieces(receive, limit, too_large, self._pace, self._stopping):
            if outline is not None:
                outline.feed(piece)
            if self._held + len(piece) > self._rules.held:
                raise CapacityError("the service holds as many bodies of requests as it may; try again later",
                                    code="too_many_bodies")
            self._held += len(piece)
            body += piece


class Exchange:
    """A request that may be answered before its body is read. Then the connection is closed behind the answer, a little
    later: closed at once, with bytes unread, the system would take the answer back with a reset.

    has_body: whether there is a body to read.
    """

    def __init__(self, receive: Receive, send: Send, has_body: bool) -> None:
        self._receive = receive
        self._send = send
        self._complete = not has_body

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

