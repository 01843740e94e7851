"""What a request's head says, for middleware that runs before any route."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path that routes see: without the prefix ROOT_PATH, which a proxy may have left on or taken off."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    return path[len(prefix):] if prefix and (path + "/").startswith(prefix + "/") else path


def expects_body(scope: Scope) -> bool:
    """Whether the head announces a body."""
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def declared_bytes(headers: Headers) -> int:
    """What the request says its body has, 0 where it does not say."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() and len(declared) < 20 else 0


def is_multipart(headers: Headers) -> bool:
    """Whether the body is a multipart form."""
    return headers.get("content-type", "").lower().startswith("multipart/")
