"""Large JSON: what of it costs time is counted while it comes, and it is parsed beside the event loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from sam_service.errors import TooLarge

INLINE_BYTES = 64 << 10
"""What a JSON body may have that brings no mask, and what the event loop parses itself."""
OUTLINE_BYTES = 384 << 10
"""What a body that may bring a mask may have outside of its strings."""
ESCAPED_SHARE = 8  # one byte in eight of a long string may be an escape, such as the slashes that some write as \/
_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class Outline:
    """Counts a JSON text that comes in pieces: bytes outside of strings, and escapes within them.

    Long strings are read in no time, all else takes a parser microseconds for each byte, in which no other client is served.
    """

    def __init__(self) -> None:
        self._in_string = False
        self._half_escape = b""
        self._bytes = self._outside = self._escaped = 0

    def feed(self, piece: bytes) -> None:
        """Count on. Raises TooLarge."""
        self._bytes += len(piece)
        text, escapes = _ESCAPE.subn(b"", self._half_escape + piece)
        self._half_escape = text[-1:] if text.endswith(b"\\") else b""
        text = text.removesuffix(b"\\")
        runs = text.split(b'"')
        self._outside += sum(map(len, runs[self._in_string::2])) + len(runs) - 1
        self._in_string ^= len(runs) % 2 == 0
        self._escaped += 2 * escapes
        if self._outside > OUTLINE_BYTES or self._escaped > OUTLINE_BYTES + self._bytes // ESCAPED_SHARE:
            raise TooLarge(f"a JSON body may have {OUTLINE_BYTES >> 10} KiB outside of its mask", code="body_too_large")


class LargeJsonRequest(Request):
    """A request whose JSON is parsed in a thread where it is large."""

    async def json(self) -> Any:
        """The parsed body. Raises JSONDecodeError."""
        body = await self.body()
        if len(body) <= INLINE_BYTES:
            return await super().json()
        return await asyncio.to_thread(json.loads, body)


class LargeJsonRoute(APIRoute):
    """A route that takes large JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, given such requests."""
        handle = super().get_route_handler()

        async def with_large_json(request: Request) -> Response:
            return await handle(LargeJsonRequest(request.scope, request.receive))

        return with_large_json
