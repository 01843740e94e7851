"""Clients that connect and do not go on: others are served all the same, and the log stays short."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from sam_service import connection as connections
from sam_service import server as servers
from sam_service import websocket as websockets
from sam_service.connection import Gate
from sam_service.local import local_service

from tests.clips import write_video
from tests.fuzz.wire import ANSWER_TIMEOUT_S, CLOSE, CONTINUATION, PING, TEXT, connect, exchange, frame, request, reset, upgrade
from tests.reliability.servers import DESCRIPTORS, Server, server
from tests.support import settings

FILES = 256
LIMIT = FILES // 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("connections")
    write_video(folder / "clip.mp4", 2)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder), **{DESCRIPTORS: str(FILES)}) as started:
        yield started


@contextlib.contextmanager
def many(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that were made and say no more than `sent`."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(stack.enter_context(connect(url)))
            with contextlib.suppress(OSError):  # closed already, for a later one
                made[-1].sendall(sent)
        yield made


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_the_soft_limit_of_files_is_raised(service: Server) -> None:
    assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE) == (FILES, FILES)
    assert f"{LIMIT} connections at a time, not MAX_CONNECTIONS=512" in service.told()


@pytest.mark.parametrize("sent", [b"", b"GET /health HTT", request("GET /health", {})[:-2]])
def test_idle_connections_stop_nobody(service: Server, sent: bytes) -> None:
    with httpx.Client(base_url=service.url, timeout=20) as http, many(service.url, 300, sent) as idle:
        for _ in range(20):
            assert http.get("/health", headers={"Connection": "close"}).status_code == 200
        opened = http.post("/initialize", json={"video_path": "clip.mp4"})
        assert opened.status_code == 201, opened.text
        session = f"/sessions/{opened.json()['session_id']}"
        while http.get(session).json()["status"] == "extracting":
            time.sleep(0.01)
        assert http.get(session).json()["status"] == "ready"
        http.delete(session)
        assert sum(is_open(connection) for connection in idle) <= LIMIT
    assert len(service.told()) < 20_000


def test_all_at_work_refuses_the_next_and_tells_why(service: Server) -> None:
    half = request("POST /initialize", {"Content-Type": "application/json", "Content-Length": "100"}, b"{")
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + 20
        refused = b""
        while not refused:  # one that has only just connected may still lose its place to the next
            assert time.monotonic() < deadline
            stack.enter_context(many(service.url, 8, half))
            with connect(service.url) as one:
                one.sendall(request("GET /health", {"Connection": "close"}))
                answer = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := one.recv(65536):
                        answer += piece
            refused = answer if answer.startswith(b"HTTP/1.1 503 ") else b""
        document = json.loads(refused.partition(b"\r\n\r\n")[2])
        assert (document["code"], document["retry_after_s"]) == ("too_many_connections", 5)
    assert httpx.get(f"{service.url}/health", timeout=20).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    assert connections.HEAD_TIMEOUT_S == 30.0
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 2.0)
    with local_service(settings(sam2_image_size=128)) as url:
        for first in (b"", request("GET /health", {})):
            with connect(url) as connection:
                connection.sendall(first)
                if first:
                    answer = b""
                    while not answer.endswith(b"}"):  # the head may come before the body
                        answer += connection.recv(65536)
                    assert answer.startswith(b"HTTP/1.1 200")
                connection.sendall(sent)
                received = b""
                while chunk := connection.recv(65536):
                    received += chunk
            assert received.startswith(b"HTTP/1.1 408 ") if sent else not received
            assert not sent or b'"code":"too_slow"' in received


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    with local_service(settings(sam2_image_size=128, max_connections=8)) as url:
        yield url


def test_a_client_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, small: str) -> None:
    assert connections.UNREAD_S == 60.0
    monkeypatch.setattr(connections, "UNREAD_S", 0.1)
    host, port = small.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(request("GET /docs/swagger-ui-bundle.js", {}) * 10)
        deadline = time.monotonic() + 20
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                connection.sendall(b"\r\n")
                time.sleep(0.02)


def test_clients_that_leave_in_mid_answer_are_not_logged(small: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        connection = connect(small)
        connection.sendall(request("GET /docs/swagger-ui-bundle.js", {}) * 10)
        connection.recv(1)
        reset(connection)
    assert httpx.get(f"{small}/health", timeout=20).status_code == 200
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_refused_websockets_give_way(small: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(connect(small))
            one.sendall(request("GET /sessions/none/events", upgrade))
            received = b""
            while (4404).to_bytes(2, "big") not in received:  # the code of the frame that closes; it is not answered
                received += one.recv(4096)
        assert httpx.get(f"{small}/health", timeout=20).status_code == 200


@pytest.fixture(scope="module")
def events(service: Server) -> Iterator[str]:
    """The path of a session's events."""
    with httpx.Client(base_url=service.url, timeout=20) as http:
        session_id = http.post("/initialize", json={"video_path": "clip.mp4"}).json()["session_id"]
        yield f"/sessions/{session_id}/events"
        http.delete(f"/sessions/{session_id}")


def bomb() -> bytes:
    """15 KiB that unpack to 15 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (packer.compress(b"a" * (15 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


TOO_MUCH = {
    "a long message": frame(TEXT, b"a" * 5000),
    "15 MiB announced": frame(TEXT, b"a", claimed=15 << 20),
    "a long message in parts": frame(TEXT, b"a" * 3000, last=False) + frame(CONTINUATION, b"a" * 3000, last=False),
    "3000 empty parts": frame(TEXT, b"", last=False) + frame(CONTINUATION, b"", last=False) * 3000,
    "3000 pings": frame(PING, b"") * 3000,
    "3000 messages": frame(TEXT, b"{}") * 3000,
    "what unpacks to 15 MiB": frame(TEXT, bomb(), reserved=4),
    "text that is no UTF-8": frame(TEXT, b"\xff"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_websocket_that_says_too_much_is_closed(service: Server, events: str, name: str) -> None:
    before = len(service.told())
    with connect(service.url) as one:
        one.sendall(upgrade(events, Sec_WebSocket_Extensions="permessage-deflate"))
        received = b""
        while b"frames_ready" not in received and b"\r\n\r\n" not in received:
            received += one.recv(65536)
        one.sendall(TOO_MUCH[name])
        with contextlib.suppress(ConnectionResetError):
            while one.recv(65536):  # TimeoutError where it stays open
                pass
    assert "Traceback" not in service.told()[before:]


def test_websockets_are_not_logged(service: Server) -> None:
    before = len(service.told())
    for _ in range(3):
        exchange(service.url, upgrade("/sessions/none/events") + frame(CLOSE, b"\x03\xe8"))
    assert service.told()[before:] == ""


def test_a_websocket_whose_client_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, small: str) -> None:
    monkeypatch.setattr(websockets, "UNREAD_S", 0.1)
    monkeypatch.setattr(websockets, "MAX_BYTES", 1 << 30)
    host, port = small.removeprefix("http://").split(":")
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((host, int(port)))
        one.settimeout(20)
        one.sendall(upgrade("/sessions/none/events"))
        with pytest.raises(ConnectionError):
            while True:  # TimeoutError where the service waits as well
                one.sendall(frame(PING, b"a" * 125) * 100)


def test_a_body_in_tiny_chunks_is_refused(small: str) -> None:
    head = request("POST /add-object", {"Content-Type": "application/json", "Transfer-Encoding": "chunked",
                                        "Connection": "close"})
    statuses, received = exchange(small, head + b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n")
    assert statuses == [400] and b"too many small chunks" in received
    statuses, received = exchange(small, head + b"1\r\n \r\n" * 1000 + b"0\r\n\r\n", patience_s=ANSWER_TIMEOUT_S)
    assert statuses == [400] and b"invalid_json" in received  # read, and found to be blank


def test_a_head_of_many_lines_is_refused(small: str) -> None:
    for count, status in ((240, 200), (300, 431)):
        statuses, _ = exchange(small, request("GET /health", {f"X-{n}": "a" for n in range(count)} | {"Connection": "close"}))
        assert statuses == [status]


def test_what_cannot_be_accepted_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    class Loop:
        now = 0.0

        def time(self) -> float:
            return self.now

    loop, handler = Loop(), servers.AcceptErrors()
    for _ in range(1000):
        handler(loop, {"message": "socket.accept() out of system resource",  # type: ignore[arg-type]
                       "exception": OSError(24, "Too many open files")})
        loop.now += 0.001
    assert [record.getMessage() for record in caplog.records] == [
        "a connection could not be accepted: [Errno 24] Too many open files"]


def test_a_slow_body_gives_way(monkeypatch: pytest.MonkeyPatch, small: str) -> None:
    assert (connections.SLOW_S, connections.SLOW_BYTES_PER_S) == (15.0, 64 << 10)
    monkeypatch.setattr(connections, "SLOW_S", 0.0)
    half = request("POST /initialize", {"Content-Type": "application/json", "Content-Length": "100"}, b"{")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(small)) for _ in range(8)]
        for one in slow:
            one.sendall(half)
        for _ in range(3):
            assert httpx.get(f"{small}/health", timeout=20).status_code == 200
        assert sum(is_open(one) for one in slow) >= 5  # one for each new client, the others go on


def test_only_a_body_that_is_slow_gives_way() -> None:
    class One:
        def __init__(self, body_bytes: int, paused: bool = False) -> None:
            self.body_bytes, self.flow = body_bytes, SimpleNamespace(read_paused=paused)

        def hang_up(self) -> None:
            connected.discard(self)
            gate.leave(self)  # type: ignore[arg-type]

    gate = Gate(4)
    fast, slow, slower, waiting, new = One(10 << 20), One(9000), One(5000), One(0, paused=True), One(0)
    connected: set[object] = {fast, slow, slower, waiting, new}
    for one in (fast, slow, slower, waiting):
        gate.sending[one] = 10.0  # type: ignore[index]
    assert not gate.let_in(connected, now=24.0)
    assert gate.let_in(connected, now=30.0)
    assert connected == {fast, slow, waiting, new}
    gate.limit = 2
    assert not gate.let_in(connected, now=30.0)
    assert connected == {fast, waiting, new}


def test_a_client_that_reads_nothing_goes_before_the_newest_is_refused() -> None:
    class One:
        def hang_up(self) -> None:
            connected.discard(self)
            gate.leave(self)  # type: ignore[arg-type]

    gate = Gate(2)
    reading, unread, new = One(), One(), One()
    connected: set[object] = {reading, unread, new}
    gate.stalled[unread] = 10.0  # type: ignore[index]
    assert not gate.let_in(connected, now=11.0)
    assert gate.let_in(connected, now=20.0)
    assert connected == {reading, new}
