"""What every answer and every caller is held to: headers that keep browsers careful, how long a request's head may be, and
which hosts and pages may call."""

from __future__ import annotations

import asyncio
import ipaddress

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service.api.bodies import Exchange
from sam_service.api.problems import problem_of, respond
from sam_service.errors import ClientError, HeadTooLarge, NotReady, ServiceError
from sam_service.settings import Settings

MAX_HEAD_BYTES = 64 << 10
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_OWN_NAMES = frozenset({"localhost"})


def install(app: FastAPI, settings: Settings) -> None:
    """Guard an application as its settings say."""
    app.add_middleware(Guard, hosts=_hosts(settings), open_to_pages=bool(settings.cors_origins))
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=_listed(settings.cors_origins), allow_methods=["*"],
                           allow_headers=["*"], expose_headers=["Location", "Retry-After", "Content-Disposition"], max_age=600)


def _hosts(settings: Settings) -> frozenset[str] | None:
    """The host names that are answered; None for any.

    A service without a key that listens on this machine alone answers to this machine's names alone: otherwise any page could
    let its own name lead here and call the service from the user's browser.
    """
    if settings.allowed_hosts:
        names = frozenset(_listed(settings.allowed_hosts))
        return None if "*" in names else names
    if settings.sam2_api_key is None and _is_loopback(settings.host):
        return _OWN_NAMES
    return None


def _listed(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware: refuses heads over `MAX_HEAD_BYTES` with 431 and other hosts' names with 400, and adds the headers. An
    address is always a host's own name."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, open_to_pages: bool) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = dict(_HEADERS)
        if open_to_pages:
            del self._headers["Cross-Origin-Resource-Policy"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)

        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            exchange = Exchange(receive, with_headers)
            return await respond(problem_of(refusal))(scope, exchange.receive, exchange.send)
        try:
            await self._app(scope, receive, with_headers)
        except asyncio.CancelledError:  # by the server, which has waited for long enough at its stop
            if started or scope["type"] == "websocket":
                return None
            await respond(problem_of(NotReady("the service is stopping", code="stopping", retry_after_s=10)))(
                scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        if _head_bytes(scope) > MAX_HEAD_BYTES:
            return head_too_large()
        if not self._answers(scope):
            return ClientError("this service does not answer to that Host (ALLOWED_HOSTS)", field="host", code="unknown_host")
        return None

    def _answers(self, scope: Scope) -> bool:
        if self._hosts is None:
            return True
        host = Headers(scope=scope).get("host", "").lower()
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        return name in self._hosts or _is_address(name)


def head_too_large() -> HeadTooLarge:
    """What a request is told whose head is over the limit. The server refuses it so too, where it comes in several pieces."""
    return HeadTooLarge(f"the request line with its URL, and the headers, may have {MAX_HEAD_BYTES >> 10} KiB together")


def _head_bytes(scope: Scope) -> int:
    line = len(scope.get("method", "")) + len(scope.get("raw_path", b"")) + len(scope["query_string"])
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
