"""Rubbish on the WebSocket: refused or overheard, and the service stays well."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.clips import write_video
from tests.fuzz.wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, exchange, frame, request, reset, upgrade
from tests.fuzz.wire import connect as open_socket
from tests.reliability.servers import Server, server

RESERVED_OPCODE = 5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sockets")
    write_video(folder / "clip.mp4", 2)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def path(service: Server) -> str:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        return f"/sessions/{http.post('/initialize', json={'video_path': 'clip.mp4'}).json()['session_id']}/events"


@pytest.fixture(autouse=True)
def stays_well(service: Server, path: str) -> Iterator[None]:
    """After each test somebody who listens properly is told what there is to tell, and no failure is in the log."""
    before = len(service.told())
    yield
    with connect(service.url.replace("http", "ws") + path) as socket:
        assert json.loads(socket.recv(30))["event"] == "hello"
        socket.send('{"ping": 1}')
        assert json.loads(socket.recv(30))["event"] == "pong"
    told = service.told()[before:]
    assert "Traceback" not in told, told


FRAMES = {
    "not masked": frame(TEXT, b"hello", masked=False),
    "no UTF-8": frame(TEXT, b"\xff\xfe"),
    "a reserved bit": frame(TEXT, b"hello", reserved=7),
    "a reserved kind": frame(RESERVED_OPCODE, b"hello"),
    "an end without a beginning": frame(CONTINUATION, b"hello"),
    "a beginning without an end": frame(TEXT, b"he", last=False),
    "a beginning twice": frame(TEXT, b"he", last=False) + frame(TEXT, b"llo"),
    "a long ping": frame(PING, b"a" * 200),
    "a ping in parts": frame(PING, b"a", last=False),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close without a reason": frame(CLOSE, struct.pack("!H", 99)),
    "more after the close": frame(CLOSE, struct.pack("!H", 1000)) + frame(TEXT, b"hello"),
    "a huge length": frame(BINARY, b"a", claimed=1 << 62),
    "20 MiB": frame(BINARY, b"\0" * (20 << 20)),
    "half a head": frame(TEXT, b"a" * 300)[:3],
    "half a payload": frame(TEXT, b"a" * 300)[:100],
    "HTTP": request("GET /health", {}),
    "rubbish": random.Random(1).randbytes(5000),
}


@pytest.mark.parametrize("name", FRAMES)
def test_wrong_frames(service: Server, path: str, name: str) -> None:
    statuses, received = exchange(service.url, upgrade(path) + FRAMES[name])
    assert statuses[0] == 101, received


@pytest.mark.parametrize("message", [
    "", "ping", "[]", "{}", "7", "null", '"ping"', '["ping"]', '{"ping": ', "[" * 500, "[" * 4096, "\0", "9" * 4000,
    '{"event": "deleted"}', b"", b"\xff", b'{"ping": 1}'], ids=lambda message: repr(message)[:20])
def test_messages_that_mean_nothing(service: Server, path: str, message: str | bytes) -> None:
    with connect(service.url.replace("http", "ws") + path) as socket:
        assert json.loads(socket.recv(30))["event"] == "hello"
        socket.send(message)
        socket.send('{"ping": 1}')
        assert json.loads(socket.recv(30))["event"] == "pong"


@pytest.mark.parametrize("target", ["/sessions/nothing/events", f"/sessions/{'a' * 100}/events", "/sessions/%00/events",
                                    "/sessions", "/", "/nothing", "?mask_format=gif"])
def test_wrong_addresses(service: Server, path: str, target: str) -> None:
    address = service.url.replace("http", "ws") + (path + target if target.startswith("?") else target)
    with pytest.raises((ConnectionClosed, InvalidStatus)) as refused, connect(address) as socket:
        socket.recv(30)
    if isinstance(refused.value, InvalidStatus):
        assert refused.value.response.status_code in (400, 403, 404)


@pytest.mark.parametrize("headers", [
    {"Sec_WebSocket_Version": "7"}, {"Sec_WebSocket_Key": "short"}, {"Upgrade": "chess"}, {"Connection": "close"},
    {"Sec_WebSocket_Protocol": "key.%%%, key.\u20ac, ,,"}, {"Sec_WebSocket_Protocol": "key." + "A" * 5000},
    {"Sec_WebSocket_Extensions": "permessage-deflate; x=" + "a" * 5000}, {"Origin": "null"}, {"Origin": "http://["},
    {"Origin": "http://elsewhere.example"}], ids=lambda headers: next(iter(headers)))
def test_wrong_upgrades(service: Server, path: str, headers: dict[str, str]) -> None:
    statuses, received = exchange(service.url, upgrade(path, **headers))
    assert all(status < 500 for status in statuses), received


def test_many_that_come_and_vanish(service: Server, path: str) -> None:
    for number in range(60):
        with contextlib.closing(open_socket(service.url)) as connection:
            connection.sendall(upgrade(path))
            if number % 3:
                connection.recv(10)
            reset(connection)
