"""Which web pages may call: this service's own, and those of CORS_ORIGINS. What is no page may always.

A browser sends many requests to any address that any page names, such as a form; it only keeps their answers from the page. So
a request that changes something is refused by what the browser says of the page that made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sam_service.api.bodies import Exchange
from sam_service.api.problems import problem_of, respond
from sam_service.api.scopes import expects_body
from sam_service.errors import Forbidden

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ANY = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_BY_PROXIES = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded", "via")


class OriginGuard:
    """ASGI middleware: requests that may change something are refused with 403 where a foreign page makes them."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or not is_foreign(Headers(scope=scope), self._allowed):
            return await self._app(scope, receive, send)
        exchange = Exchange(receive, send, expects_body(scope))
        refusal = Forbidden("a page of another origin may not do this; list its origin in CORS_ORIGINS", field="origin",
                            code="foreign_origin")
        await respond(problem_of(refusal))(scope, exchange.receive, exchange.send)


def is_foreign(headers: Headers, allowed: frozenset[str]) -> bool:
    """Whether a page that is neither the service's own nor in `allowed` (normal origins, or `*`) makes the request."""
    if ANY in allowed:
        return False
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "").lower()
    if origin is not None and normal_origin(origin) in allowed:
        return False
    if site:  # a browser's own word, which no page can change
        return site not in ("same-origin", "none")
    return origin is not None and not _is_own(origin, headers)


def normal_origin(origin: str) -> str:
    """An origin in lower case, without a slash at its end or the scheme's own port."""
    text = origin.strip().lower().rstrip("/")
    scheme, host, port = _parts(text)
    if host is None or scheme not in _DEFAULT_PORTS:
        return text
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port in (None, _DEFAULT_PORTS[scheme]) else f"{scheme}://{shown}:{port}"


def _is_own(origin: str, headers: Headers) -> bool:
    """Whether an origin has the host and the port that the request was sent to, at this service or at a proxy before it."""
    scheme, host, port = _parts(origin)
    if host is None or scheme not in _DEFAULT_PORTS:
        return False
    port = port or _DEFAULT_PORTS[scheme]
    return any(host == name and port in ports for name, ports in _own_addresses(headers, scheme, port))


def _own_addresses(headers: Headers, scheme: str, asked: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and ports that the client may have connected to. Proxies often hand on the name alone: then `asked`, the port of
    the origin, is taken as theirs unless they name another."""
    forwarded = headers.get("x-forwarded-port", "").partition(",")[0].strip()
    behind_proxy = any(name in headers for name in _BY_PROXIES)
    for name in ("x-forwarded-host", "host"):
        _, host, port = _parts(f"//{headers.get(name, '').partition(',')[0].strip()}")
        if host is None:
            continue
        if forwarded.isdecimal() and len(forwarded) < 6:
            yield host, (int(forwarded), *((port,) if port else ()))
        elif port is not None:
            yield host, (port,)
        else:
            yield host, (asked,) if behind_proxy else (_DEFAULT_PORTS[scheme],)


def _parts(text: str) -> tuple[str, str | None, int | None]:
    """Scheme, host in lower case and port; no host where the text is no address."""
    try:
        parts = urlsplit(text.strip())
        return parts.scheme, parts.hostname or None, parts.port
    except ValueError:
        return "", None, None
