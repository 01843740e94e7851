"""What every answer and every caller is held to: headers that keep browsers careful, how long a request's head may be, which
hosts and pages may call and with what key, and what is answered where the service itself fails."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service.api.bodies import Exchange
from sam_service.api.keys import KeyGuard
from sam_service.api.origins import OriginGuard, normal_origin
from sam_service.api.problems import internal_error, problem_of, respond
from sam_service.api.scopes import expects_body, route_path
from sam_service.errors import ClientError, HeadTooLarge, InvalidInput, NotReady, ServiceError
from sam_service.settings import Settings

logger = logging.getLogger(__name__)
MAX_HEAD_BYTES = 64 << 10
SESSION_HEADER = "x-session-id"
_SESSION_ID = re.compile(r"[!-~]{1,128}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST = re.compile(r"(?:\[([0-9a-f:.%]+)\]|([^\[\]:@]+))(?::[0-9]{0,5})?")
_LOCAL_ENDINGS = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


def install(app: FastAPI, settings: Settings, open_paths: frozenset[str]) -> None:
    """Guard an application as its settings say. open_paths: those that need no key; see `KeyGuard`."""
    origins = frozenset(map(normal_origin, _listed(settings.cors_origins)))
    app.state.origins = origins
    if settings.sam2_api_key is not None:
        app.add_middleware(KeyGuard, key=settings.sam2_api_key, open_paths=open_paths)
    app.add_middleware(OriginGuard, allowed=origins)
    app.add_middleware(Guard, hosts=Hosts.of(settings), open_to_pages=bool(origins),
                       prefix=settings.root_path.rstrip("/"))
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=sorted(origins), allow_methods=["*"], allow_headers=["*"], max_age=600,
                           expose_headers=["Location", "Retry-After", "Content-Disposition", SESSION_HEADER])


@dataclass(frozen=True, slots=True)
class Hosts:
    """Which host names are answered, besides addresses: `names` (None for any) and, with `local`, those that the public name
    system cannot give away: without a dot, or with an ending for local networks.

    Without a key any page could otherwise let its own name lead here and call the service from the user's browser.
    """

    names: frozenset[str] | None
    local: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Hosts:
        """What the settings say."""
        if settings.allowed_hosts:
            names = frozenset(_listed(settings.allowed_hosts))
            return cls(None if "*" in names else names)
        if settings.sam2_api_key is not None:
            return cls(None)
        if is_loopback(settings.host):
            return cls(frozenset({"localhost"}))
        return cls(frozenset({socket.gethostname().lower()}), local=True)

    def answer_to(self, header: str) -> bool:
        """Whether a request with this Host header is for this service."""
        if self.names is None:
            return True
        found = _HOST.fullmatch(header.lower())
        if found is None:
            return False
        name = found[1] or found[2]
        return name in self.names or _is_address(name) or (self.local and ("." not in name or name.endswith(_LOCAL_ENDINGS)))


def _listed(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's alone."""
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
    address is always a host's own name. What nobody else has answered is answered 500, and the connection closed behind it.

    prefix: of the paths at a proxy, which may leave it on or take it off.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, open_to_pages: bool, prefix: str) -> None:
        self._app = app
        self._hosts = hosts
        self._prefix = prefix
        self._headers = dict(_HEADERS)
        if open_to_pages:
            del self._headers["Cross-Origin-Resource-Policy"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)

        scope["root_path"] = self._prefix
        started, web_socket = False, scope["type"] == "websocket"
        given = Headers(scope=scope).get(SESSION_HEADER)

        async def with_headers(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if given is not None and _SESSION_ID.fullmatch(given):
                    headers[SESSION_HEADER] = given
            await send(message)

        refusal = self._refusal(scope, given)
        if refusal is not None and web_socket:
            return await send({"type": "websocket.close", "code": 1008})
        exchange = Exchange(receive, with_headers, not web_socket and expects_body(scope))
        if refusal is not None:
            return await respond(problem_of(refusal))(scope, exchange.receive, exchange.send)
        if not route_path(scope):  # the prefix of ROOT_PATH alone
            return await RedirectResponse(self._prefix + "/")(scope, exchange.receive, exchange.send)
        try:
            await self._app(scope, receive if web_socket else exchange.receive, with_headers)
        except asyncio.CancelledError:  # by the server, which has waited for long enough at its stop
            if not started and not web_socket:
                await respond(problem_of(NotReady("the service is stopping", code="stopping", retry_after_s=10)))(
                    scope, receive, with_headers)
        except Exception:
            if started or web_socket:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            answer = respond(internal_error())
            answer.headers["Connection"] = "close"
            await answer(scope, exchange.receive, exchange.send)

    def _refusal(self, scope: Scope, session_id: str | None) -> ServiceError | None:
        if _head_bytes(scope) > MAX_HEAD_BYTES:
            return head_too_large()
        if not self._hosts.answer_to(Headers(scope=scope).get("host", "")):
            return ClientError("this service does not answer to that Host; list it in ALLOWED_HOSTS", field="host",
                               code="unknown_host")
        if session_id is not None and not _SESSION_ID.fullmatch(session_id):
            return InvalidInput(f"{SESSION_HEADER} has 1 to 128 printable ASCII characters and no space", field=SESSION_HEADER)
        return None


def head_too_large() -> HeadTooLarge:
    """What a request is told whose head is over the limit. The server refuses it so too, where it comes in several pieces."""
    return HeadTooLarge(f"the request line with its URL, and the headers, may have {MAX_HEAD_BYTES >> 10} KiB together, and "
                        "256 lines")


def _head_bytes(scope: Scope) -> int:
    line = len(scope.get("method", "")) + len(scope.get("raw_path", b"")) + len(scope["query_string"])
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
