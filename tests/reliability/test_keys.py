"""With a key set, every route there is wants it; those that do not are listed here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sam_service.api.app import create_app
from sam_service.local import local_service
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.fuzz.wire import connect as connect_socket
from tests.fuzz.wire import exchange, read_head, request
from tests.support import settings

KEY = "correct horse"
OPEN = {"/", "/health", "/ready", "/openapi.json", "/docs", "/v2/health/live", "/v2/health/ready",
        "/metrics"}  # on loopback only, where this service listens
OPEN_FOLDERS = ("/studio/", "/docs/")  # the pages' own files; the pages ask for the key
WRONG_KEYS: list[dict[str, str]] = [
    {}, {"X-API-Key": ""}, {"X-API-Key": KEY.upper()}, {"X-API-Key": KEY + " x"}, {"Authorization": "Bearer"},
    {"Authorization": f"Basic {KEY}"}, {"Authorization": "Bearer wrong", "X-API-Key": KEY}, {"Cookie": f"X-API-Key={KEY}"}]

Route = tuple[str, str]  # method or WS, and path with something in place of its parameters


def routes(within: Any, prefix: str = "") -> Iterator[Route]:
    """Every route of an application, a router or a mount, whatever it is nested in."""
    for route in within.routes:
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "original_router", None) or (route if getattr(route, "routes", None) else None)
        if inner is not None:
            yield from routes(inner, path)
            continue
        filled = re.sub(r"{[^}]*}", "1", path)
        for method in getattr(route, "methods", None) or (["WS"] if "WebSocket" in type(route).__name__ else ["GET"]):
            yield method, filled


ALL = sorted(set(routes(create_app(settings(sam2_api_key=KEY)))))
GUARDED = [(method, path) for method, path in ALL if path not in OPEN and not path.startswith(OPEN_FOLDERS)]


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with local_service(settings(sam2_api_key=KEY, sam2_image_size=128)) as url:
        yield url


def test_the_list_is_complete(service: str) -> None:
    described = httpx.get(f"{service}/openapi.json").json()["paths"]
    calls = {(method.upper(), re.sub(r"{[^}]*}", "1", path)) for path, methods in described.items() for method in methods}
    assert calls <= set(ALL)
    assert ("WS", "/sessions/1/events") in GUARDED
    assert len(GUARDED) >= 18


@pytest.mark.parametrize("headers", WRONG_KEYS, ids=str)
def test_every_other_route_wants_the_key(service: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=service, timeout=30) as http:
        for method, path in GUARDED:
            if method == "WS":
                with pytest.raises(ConnectionClosed) as closed, \
                        connect(service.replace("http", "ws") + path, additional_headers=headers) as socket:
                    socket.recv(30)
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401
            else:
                answer = http.request(method, path, json={}, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), f"{method} {path}"


def test_what_is_no_call_wants_the_key_too(service: str) -> None:
    for path in ("/nothing", "/redoc", "/studio/../sessions", "/studio/a/b", "/docs/a/b", "/sessions/", "//", "/health/x"):
        statuses, _ = exchange(service, request(f"GET {path}", {"Connection": "close"}))
        assert statuses == [401], path


def test_a_wrong_key_is_told_so_whatever_the_body(service: str) -> None:
    kinds = ("application/json", "multipart/form-data; boundary=x", "text/plain")
    for body in (b"", b"{", b"[" * 100_000, b"x" * (8 << 20)):
        for kind in kinds:
            for method, path in (("POST", "/initialize"), ("POST", "/add-object"), ("DELETE", "/sessions/1"), ("POST", "/no")):
                answer = httpx.request(method, service + path, content=body, headers={"Content-Type": kind}, timeout=30)
                assert answer.status_code == 401, (method, path, kind, len(body))


@pytest.mark.parametrize("length", ["Content-Length: 25000000", "Transfer-Encoding: chunked", "Content-Length: 99999999999"])
def test_no_body_is_waited_for_without_the_key(service: str, length: str) -> None:
    with connect_socket(service) as connection:
        connection.sendall(f"POST /add-object HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
                           .encode())
        assert read_head(connection).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("key", ["schl\u00fcssel", "\u043a\u043b\u044e\u0447"])
def test_a_key_that_is_not_ascii(key: str) -> None:
    with local_service(settings(sam2_api_key=key, sam2_image_size=128)) as url:
        sent = [key.encode(), *([key.encode("latin-1")] if key.startswith("s") else [])]
        for raw in sent:
            assert httpx.get(f"{url}/sessions", headers={b"X-API-Key": raw}, timeout=30).status_code == 200
            assert httpx.get(f"{url}/sessions", headers={b"Authorization": b"Bearer " + raw}, timeout=30).status_code == 200
        assert httpx.get(f"{url}/sessions", headers={b"X-API-Key": b"\xff"}, timeout=30).status_code == 401


def test_a_host_that_is_a_path_opens_nothing(service: str) -> None:
    for method, path in GUARDED:
        if method != "WS":
            sent = request(f"{method} {path}", {"Host": "localhost/health?x=", "Connection": "close"})
            statuses, _ = exchange(service, sent)
            assert statuses[0] in (400, 401)


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"},
                                     {"Authorization": f"bearer {KEY}"}], ids=str)
def test_the_key_opens(service: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=service, timeout=30, headers=headers) as http:
        for method, path in GUARDED:
            if method != "WS":
                assert http.request(method, path, json={}).status_code != 401, f"{method} {path}"
