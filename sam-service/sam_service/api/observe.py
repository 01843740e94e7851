"""ASGI middleware that counts and times requests, and gives each an id that its log lines and its answer carry."""

from __future__ import annotations

import json
import re
import secrets
import time
from contextvars import Token

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service import logs
from sam_service.api.problems import MEDIA_TYPE
from sam_service.telemetry import Telemetry

REQUEST_HEADER, TRACE_HEADER = "x-request-id", "traceparent"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_STREAMS = ("text/event-stream", "application/x-ndjson")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Observed:
    """Around the whole application. An `X-Request-Id` that is no plain word of up to 128 characters is replaced."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        request = _Request(scope, send, self._telemetry)
        tokens = request.enter()
        self._telemetry.requests_running += scope["type"] == "http"
        try:
            await self._app(scope, receive, request.send if scope["type"] == "http" else send)
        finally:
            self._telemetry.requests_running -= scope["type"] == "http"
            request.end()
            for token in tokens:
                token.var.reset(token)


class _Request:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send, telemetry: Telemetry) -> None:
        self._scope, self._send, self._telemetry = scope, send, telemetry
        self._started = time.perf_counter()
        self._status, self._first_byte_s, self._media_type = 0, 0.0, ""
        headers = Headers(scope=scope)
        given, trace = headers.get(REQUEST_HEADER, ""), _TRACE.fullmatch(headers.get(TRACE_HEADER, ""))
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.trace_id = "" if trace is None else trace[1]

    def enter(self) -> list[Token[str]]:
        """Set the ids for all that the request starts."""
        return [logs.request_id.set(self.request_id), logs.trace_id.set(self.trace_id), logs.session_id.set("")]

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._first_byte_s = time.perf_counter() - self._started
            headers = MutableHeaders(scope=message)
            self._media_type = headers.get("content-type", "").partition(";")[0]
            headers[REQUEST_HEADER] = self.request_id
        elif self._media_type == MEDIA_TYPE and message.get("body"):
            self._telemetry.rejected.labels(_code(message["body"])).inc()
        await self._send(message)

    def end(self) -> None:
        """Count the request, once its answer has gone out or its client has."""
        if self._scope["type"] != "http" or not self._status:
            return
        route = getattr(self._scope.get("route"), "path", "unmatched")
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        self._telemetry.http_requests.labels(route, method, str(self._status)).inc()
        if self._media_type in _STREAMS:
            self._telemetry.http_first_byte_seconds.labels(route, method).observe(self._first_byte_s)
        else:
            self._telemetry.http_request_seconds.labels(route, method).observe(time.perf_counter() - self._started)


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
