"""The API key: checked by the headers, before anything of a body is read."""

from __future__ import annotations

import hmac

from fastapi.requests import HTTPConnection
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from sam_service.api.bodies import Exchange
from sam_service.api.problems import problem_of, respond
from sam_service.api.scopes import expects_body, route_path
from sam_service.errors import Unauthorized


class KeyGuard:
    """ASGI middleware: a call without the key is answered 401, whatever it is and whatever its body. `open_paths` need none;
    one that ends in a slash stands for all below it. WebSockets are checked by their own route, which tells a page why."""

    def __init__(self, app: ASGIApp, key: SecretStr, open_paths: frozenset[str]) -> None:
        self._app = app
        self._key = key
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(route_path(scope)) or is_key(given_key(HTTPConnection(scope)), self._key):
            return await self._app(scope, receive, send)
        exchange = Exchange(receive, send, expects_body(scope))
        refusal = Unauthorized("this service wants its API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        await respond(problem_of(refusal))(scope, exchange.receive, exchange.send)

    def _is_open(self, path: str) -> bool:
        folder = path.rpartition("/")[0] + "/"
        return path in self._open_paths or (folder != "/" and folder in self._open_paths)


def given_key(connection: HTTPConnection) -> bytes:
    """The key that a request's headers carry, as it came, or nothing."""
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    key = bearer if scheme.lower() == "bearer" else connection.headers.get("x-api-key", "")
    return key.encode("latin-1")


def is_key(given: bytes, expected: SecretStr) -> bool:
    """Whether a key is the service's, in a time that does not depend on where it is wrong.

    A key that is not ASCII is taken in UTF-8, as curl sends it, and in Latin-1, as browsers do.
    """
    key = expected.get_secret_value()
    right = hmac.compare_digest(given, key.encode())
    return hmac.compare_digest(given, key.encode("latin-1")) or right if _is_latin_1(key) else right


def _is_latin_1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
