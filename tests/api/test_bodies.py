"""What of a request's body is read, how much of it, and what it costs the others."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sam_service.api import app as application
from sam_service.api.json_bodies import INLINE_BYTES, Outline
from sam_service.client import SamClient, VideoSession
from sam_service.errors import TooLarge
from sam_service.local import local_service

from tests.fuzz.wire import connect, exchange, read_head, request
from tests.support import settings

JSON = {"Content-Type": "application/json"}
OVER = b" " * (INLINE_BYTES + 1)


def refused(*pieces: bytes) -> bool:
    outline = Outline()
    try:
        for piece in pieces:
            outline.feed(piece)
    except TooLarge:
        return True
    return False


@pytest.mark.parametrize("text", [
    b'{"mask": "' + b"A" * (20 << 20) + b'"}',
    b'{"mask": "' + b"A/" * (1 << 20) + b'"}',
    b'{"mask": "' + (b"A" * 60 + b"\\/") * (1 << 18) + b'"}',  # as PHP writes a slash
    b'{"points": [' + b"[1, 2]," * 5000 + b'[1, 2]], "mask": "' + b"A" * (1 << 20) + b'"}',
    json.dumps({"name": "\u00fc" * 80, "mask": "A" * 100_000}).encode(),
])
def test_one_long_string_is_taken(text: bytes) -> None:
    assert not refused(text)
    assert not refused(*(text[at:at + 65536] for at in range(0, len(text), 65536)))


@pytest.mark.parametrize("text", [
    b"[" + b"1," * (1 << 20), b"[" * (2 << 20), b'"",' * (1 << 19), b'"' * (2 << 20), b" " * (2 << 20),
    b'{"mask": "' + b"\\u0041" * (1 << 20), b'{"mask": "' + b"\\/" * (1 << 20), b'{"mask": "' + b'\\"' * (1 << 20),
])
def test_what_costs_a_parser_time_is_refused(text: bytes) -> None:
    assert refused(text)
    assert refused(*(text[at:at + 999] for at in range(0, len(text), 999)))


@given(st.text(alphabet='ab"\\/{}[],: ', max_size=40), st.integers(1, 7))
def test_pieces_are_counted_as_the_whole(text: str, size: int) -> None:
    raw = text.encode()
    whole, pieces = Outline(), Outline()
    whole.feed(raw)
    for at in range(0, len(raw), size):
        pieces.feed(raw[at:at + size])
    assert vars(whole) == vars(pieces)


def test_64_kib_are_enough_for_all_but_masks(video: VideoSession) -> None:
    http = video.client.http
    for method, path in (("POST", "/initialize"), ("POST", "/propagate"), ("POST", "/remove-object"),
                         ("POST", "/clear-prompts"), ("PATCH", f"/sessions/{video.session_id}/objects/1"),
                         ("POST", "/nothing")):
        answer = http.request(method, path, content=OVER, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large"), path
        assert str(INLINE_BYTES) in answer.json()["detail"]
        chunked = http.request(method, path, content=iter([OVER]), headers=JSON)
        assert chunked.status_code == 413, path
    known = {"session_id": video.session_id, "points": [[1] * 8] * 1000}
    assert http.post("/add-object", json=known | {"mask": "A" * (1 << 20)}).status_code == 422
    answer = http.post("/add-object", json=known | {"points": [[1] * 8] * 100_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_call_that_takes_no_body_does_not_wait_for_one(video: VideoSession) -> None:
    url, path = str(video.client.http.base_url).rstrip("/"), f"/sessions/{video.session_id}"
    for line in (f"GET {path}", f"POST {path}/cancel", "GET /health", "DELETE /sessions/none", "HEAD /"):
        for length in ({"Content-Length": "60000"}, {"Transfer-Encoding": "chunked"}):
            with connect(url) as connection:
                connection.sendall(request(line, length))
                head = read_head(connection).lower()
            assert head.startswith((b"http/1.1 20", b"http/1.1 404")) and b"connection: close" in head, head
    answer = video.client.http.request("POST", f"{path}/cancel", json={})
    assert answer.status_code == 200
    answer = video.client.http.request("GET", path, content=OVER)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = application.BODIES
    assert rules.held == 128 << 20
    monkeypatch.setattr(application, "BODIES", dataclasses.replace(rules, held=100_000))
    half = request("POST /propagate", {**JSON, "Content-Length": "60000"}, b" " * 50_000)
    with local_service(settings(sam2_image_size=128)) as url, contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(url)) for _ in range(2)]
        for connection in held:
            connection.sendall(half)
        def third() -> httpx.Response:
            return httpx.post(f"{url}/propagate", content=b"{}" + b" " * 30_000, headers=JSON, timeout=20)
        answer = third()
        while answer.status_code != 503:  # until the halves have been read
            assert answer.status_code == 422
            answer = third()
        assert answer.json()["code"] == "too_many_bodies" and int(answer.headers["retry-after"]) > 0
        assert httpx.get(f"{url}/health").status_code == 200
        for connection in held:
            connection.close()
        while (answer := third()).status_code != 422:  # what they held is free again
            assert answer.status_code == 503


def test_large_json_is_parsed_beside_the_event_loop(video: VideoSession, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    loads = json.loads

    def noted(text: bytes) -> object:
        if len(text) > INLINE_BYTES and b'"mask"' in text:
            threads.append(threading.current_thread().name)
        return loads(text)

    monkeypatch.setattr("sam_service.api.json_bodies.json.loads", noted)
    body = {"session_id": video.session_id, "object_id": 1, "mask": "A" * (1 << 20)}
    assert video.client.http.post("/refine", json=body).json()["code"] == "not_found"
    assert len(threads) == 1 and threads[0].startswith("asyncio_")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service with a bug in one of its calls."""
    async def broken(*_: object) -> object:
        raise ZeroDivisionError("a bug")
    monkeypatch.setattr("sam_service.api.views.session_info", broken)
    with local_service(settings(sam2_image_size=128)) as url, SamClient(url) as client:
        client.wait_ready()
        yield url


def test_a_failure_is_answered_and_its_connection_closed(failing: str, clip_path: str) -> None:
    with open(clip_path, "rb") as clip:
        opened = httpx.post(f"{failing}/initialize", files={"file": ("a.mp4", clip)}, data={"max_frames": "1"}, timeout=60)
    sent = request(f"GET /sessions/{opened.json()['session_id']}", {"Content-Length": "5"}, b"hello")
    for asked in (sent, sent + request("GET /health", {}), sent[:-5]):
        statuses, received = exchange(failing, asked)
        head, _, body = received.partition(b"\r\n\r\n")
        assert statuses == [500] and b"connection: close" in head.lower(), received
        document = json.loads(body)
        assert document["code"] == "internal_error" and "bug" not in document["detail"]
    assert httpx.get(f"{failing}/health").status_code == 200


@pytest.fixture(scope="module")
def clip_path(clip: object) -> str:
    return str(clip)


def test_the_header_of_a_session_comes_back(client: SamClient, clip_path: str) -> None:
    http = client.http
    for path, status in (("/health", 200), ("/sessions/none", 404), ("/nothing", 404)):
        answer = http.get(path, headers={"X-Session-Id": "node-7/abc"})
        assert (answer.status_code, answer.headers["x-session-id"]) == (status, "node-7/abc")
        assert "x-session-id" not in http.get(path).headers
    with open(clip_path, "rb") as clip:
        opened = http.post("/initialize", files={"file": ("a.mp4", clip)}, data={"max_frames": "1"})
    assert opened.headers["x-session-id"] == opened.json()["session_id"]
    http.delete(f"/sessions/{opened.json()['session_id']}")
    for wrong in (b"a" * 129, b"a b", b"", b"\xff"):
        answer = http.get("/health", headers={b"X-Session-Id": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "x-session-id")


def test_a_socket_that_is_given_up_frees_what_it_held(client: SamClient) -> None:
    url = str(client.http.base_url).rstrip("/")
    part = request("POST /add-object", {**JSON, "Content-Length": str(20 << 20)}, b'{"mask": "' + b"A" * 500_000)
    for _ in range(30):
        with connect(url) as connection:
            connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
    assert client.http.post("/add-object", json={"session_id": "a", "mask": "A" * (8 << 20)}).status_code == 404
