"""Requests that no client library would send: each gets an answer or a hang-up, and the service stays well."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.clips import write_video
from tests.fuzz.wire import ANSWER_TIMEOUT_S, connect, exchange, request, reset
from tests.reliability.servers import Server, server

JSON = {"Content-Type": "application/json", "Connection": "close"}
FORM = {"Content-Type": "multipart/form-data; boundary=x", "Connection": "close"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sockets")
    write_video(folder / "clip.mp4", 2)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder), MAX_UPLOAD_MB="2", MAX_SESSIONS="4") as started:
        yield started


@pytest.fixture(autouse=True)
def stays_well(service: Server) -> Iterator[None]:
    """After each test the service answers, has no failure in its log, and nothing of the test's uploads on its disk."""
    before = len(service.told())
    yield
    with httpx.Client(base_url=service.url, timeout=30) as http:
        assert http.get("/health").json()["ready"]
        for session in http.get("/sessions").json()["sessions"]:
            http.delete(f"/sessions/{session['session_id']}")
    told = service.told()[before:]
    assert "Traceback" not in told, told
    assert not list(service.data.glob("upload-*"))


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


FILE = part("file", b"not a video", '; filename="a.mp4"')
END = b"--x--\r\n"
SURROGATE = b'{"session_id": "\\ud800", "points": [[1, 1]]}'

WRONG: dict[str, bytes] = {
    "nothing": b"",
    "a blank line": b"\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c403035f"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: 127.0.0.1\r\n\r\n",
    "a host that is a path": request("GET /sessions", {"Host": "localhost/health?x=", "Connection": "close"}),
    "a long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long header": request("GET /health", {"X-Long": "a" * 200_000}),
    "many headers": request("GET /health", {f"X-{number}": "a" for number in range(5000)}),
    "a header without a name": b"GET /health HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n",
    "a header with a NUL": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a path that is no UTF-8": b"GET /sessions/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a path with raw bytes": b"GET /sessions/\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a path with a NUL": b"GET /sessions/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a path upwards": request("GET /sessions/../../../etc/passwd", {"Connection": "close"}),
    "a whole address": request("GET http://localhost/health", {"Connection": "close"}),
    "an asterisk": request("OPTIONS *", {"Connection": "close"}),
    "CONNECT": request("CONNECT example.com:443", {"Connection": "close"}),
    "a huge number": request(f"GET /sessions/a/frames/{'9' * 6000}", {"Connection": "close"}),
    "a key that is no ASCII": request("GET /sessions", {"X-API-Key": "ключ", "Authorization": "Bearer \u20ac"}),
    "a cookie bomb": request("GET /sessions", {"Cookie": "a=b;" * 5000, "Connection": "close"}),
    "a length that is no number": request("POST /add-object", {**JSON, "Content-Length": "many"}, b"{}"),
    "a negative length": request("POST /add-object", {**JSON, "Content-Length": "-1"}, b"{}"),
    "a superscript length": request("POST /initialize", {**FORM, "Content-Length": "²"}, b"{}"),
    "a huge length": request("POST /initialize", {**FORM, "Content-Length": "9" * 19}, FILE),
    "two lengths": b"POST /add-object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": request("POST /add-object", {**JSON, "Transfer-Encoding": "chunked", "Content-Length": "3"},
                                   b"0\r\n\r\n"),
    "a length in a list": request("POST /add-object", {**JSON, "Content-Length": "2,2"}, b"{}"),
    "a length twice": b"POST /add-object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a length over two lines": request("POST /add-object", {**JSON, "Content-Length": "2\r\n ,2"}, b"{}"),
    "chunks in HTTP/1.0": b"POST /add-object HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body that stops": request("POST /add-object", {**JSON, "Content-Length": "500"}, b'{"session_id": '),
    "a chunk size that is no number": request("POST /add-object", {**JSON, "Transfer-Encoding": "chunked"}, b"zz\r\n{}\r\n"),
    "chunks that stop": request("POST /add-object", {**JSON, "Transfer-Encoding": "chunked"}, b"5\r\nabc"),
    "an unknown transfer": request("POST /add-object", {**JSON, "Transfer-Encoding": "gzip"}, b"{}"),
    "a smuggled request": request("POST /add-object", JSON, b"{}") + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an expectation": request("POST /add-object", {**JSON, "Expect": "100-continue"}, b"{}"),
    "an upgrade to nothing": request("GET /health", {"Connection": "Upgrade", "Upgrade": "chess"}),
    "JSON with a surrogate": request("POST /add-object", JSON, SURROGATE),
    "JSON with a surrogate for a name": request("POST /add-object", JSON, b'{"\\ud800": 1}'),
    "a path with a surrogate": request("POST /initialize", JSON, b'{"video_path": "\\ud800"}'),
    "an option with a surrogate": request("POST /initialize", JSON, b'{"video_path": "clip.mp4", "\\udfff": 1}'),
    "JSON in UTF-16": request("POST /add-object", JSON, '{"session_id": "a"}'.encode("utf-16")),
    "JSON that is deep": request("POST /add-object", JSON, b'{"points": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
    "JSON with a huge number": request("POST /add-object", JSON, b'{"frame_idx": ' + b"9" * 10_000 + b"}"),
    "JSON twice": request("POST /add-object", JSON, b"{}{}"),
    "a form without a boundary": request("POST /initialize", {**FORM, "Content-Type": "multipart/form-data"}, FILE + END),
    "a form with an empty boundary": request("POST /initialize", {**FORM, "Content-Type": "multipart/form-data; boundary="},
                                             FILE + END),
    "a form with another boundary": request("POST /initialize", {**FORM, "Content-Type": "multipart/form-data; boundary=y"},
                                            FILE + END),
    "a form with a long boundary": request(
        "POST /initialize", {**FORM, "Content-Type": f"multipart/form-data; boundary={'b' * 5000}"}, FILE + END),
    "a form without an end": request("POST /initialize", FORM, FILE),
    "a form with rubbish first": request("POST /initialize", FORM, b"rubbish" * 100 + FILE + END),
    "a form with rubbish last": request("POST /initialize", FORM, FILE + END + b"rubbish" * 100),
    "a form of nothing": request("POST /initialize", FORM, END),
    "a form in another charset": request("POST /initialize", {**FORM, "Content-Type": FORM["Content-Type"] + "; charset=idna"},
                                         part("file", b"x", '; filename="\u00fc..mp4"') + part("a" * 70, b"1") + END),
    "a form in a charset of escapes": request(
        "POST /initialize", {**FORM, "Content-Type": FORM["Content-Type"] + "; charset=unicode_escape"},
        part("\\ud800", b"1") + part("file", b"x", '; filename="\\ud800.mp4"') + END),
    "a form in no charset": request("POST /initialize", {**FORM, "Content-Type": FORM["Content-Type"] + "; charset=undefined"},
                                    part("a", b"1") + FILE + END),
    "a form in a charset with a NUL": request(
        "POST /initialize", {**FORM, "Content-Type": FORM["Content-Type"] + '; charset="utf\\0"'}, part("a", b"1") + END),
    "a form with a part without a name": request("POST /initialize", FORM, b"--x\r\nA: b\r\n\r\n1\r\n" + FILE + END),
    "a form with a part without a head": request("POST /initialize", FORM, b"--x\r\n\r\n1\r\n" + FILE + END),
    "a form with a wrong head": request("POST /initialize", FORM, b"--x\r\nContent Disposition\r\n\r\n1\r\n" + FILE + END),
    "a form with a long head": request("POST /initialize", FORM, part("a", b"1", "; b=" + "c" * 100_000) + END),
    "a form with many heads": request("POST /initialize", FORM, b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n1\r\n" + END),
    "a form with many parts": request("POST /initialize", FORM, part("a", b"1") * 2000 + END),
    "a form with two files": request("POST /initialize", FORM, FILE * 2 + END),
    "a form with a long field": request("POST /initialize", FORM, part("max_frames", b"1" * 1_500_000) + FILE + END),
    "a form with a file for an option": request("POST /initialize", FORM, part("max_frames", b"1", '; filename="a"') + END),
    "a form with a field for the file": request("POST /initialize", FORM, part("file", b"x") + END),
    "a file name upwards": request("POST /initialize", FORM, part("file", b"x", '; filename="../../a.mp4"') + END),
    "a file without a name": request("POST /initialize", FORM, part("file", b"x", '; filename=""') + END),
    "a form of another kind": request("POST /initialize", {**FORM, "Content-Type": "multipart/mixed; boundary=x"}, FILE + END),
    "a form where none is taken": request("POST /add-object", FORM, FILE + END),
    "a urlencoded form": request("POST /initialize", {**FORM, "Content-Type": "application/x-www-form-urlencoded"},
                                 b"a=" + b"%" * 5000),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request(service: Server, name: str) -> None:
    statuses, received = exchange(service.url, WRONG[name])
    assert all(status < 500 for status in statuses), received[:1000]
    assert not {201, 202} & set(statuses), received[:1000]


@pytest.mark.parametrize("in_one", [True, False])
@pytest.mark.parametrize(("name", "kib"), [("URL", 96), ("header", 96), ("URL", 2048)])
def test_a_head_over_the_limit_is_told_so_however_it_comes(service: Server, name: str, kib: int, in_one: bool) -> None:
    long = "a" * (kib << 10)
    sent = request(f"GET /{long}", {}) if name == "URL" else request("GET /health", {"X-Long": long})
    received = b""
    with connect(service.url) as connection:
        for piece in (sent,) if in_one else (sent[:70_000], sent[70_000:]):
            connection.sendall(piece)
            time.sleep(0.1)
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ") and b"application/problem+json" in head, received[:1000]
    assert json.loads(body)["code"] == "head_too_large" and "64 KiB" in json.loads(body)["detail"]


@pytest.mark.parametrize("name", [
    "no HTTP", "TLS", "no host", "a negative length", "an unknown transfer", "a chunk size that is no number",
    "a length and chunks", "a length in a list", "a length twice", "a length over two lines", "chunks in HTTP/1.0",
    "a folded header"])
def test_what_is_no_request_is_told_so_in_a_problem_document(service: Server, name: str) -> None:
    statuses, received = exchange(service.url, WRONG[name])
    head, _, body = received.partition(b"\r\n\r\n")
    assert statuses == [400] and b"application/problem+json" in head, received[:1000]
    assert json.loads(body)["code"] == "invalid_http", received[:1000]


def test_a_video_in_a_form_with_odd_but_right_parts(service: Server) -> None:
    video = (service.data.parent / "clip.mp4").read_bytes()
    body = b"\r\n" + part("max_frames", b"1") + part("file", video, '; filename="a;b\\"c.mp4"; filename*=UTF-8\'\'%00') + END
    statuses, received = exchange(service.url, request("POST /initialize", FORM, body), patience_s=ANSWER_TIMEOUT_S)
    assert statuses == [201], received[:1000]


def test_many_requests_in_one_packet_are_answered_in_order(service: Server) -> None:
    paths = ["/health", "/sessions", "/sessions/nothing", "/ready"] * 10
    sent = b"".join(request(f"GET {path}", {}) for path in paths) + request("GET /nothing", {"Connection": "close"})
    statuses, _ = exchange(service.url, sent)
    assert statuses == [200, 200, 404, 200] * 10 + [404]


def test_bytes_one_by_one(service: Server) -> None:
    with connect(service.url) as connection:
        for byte in request("GET /sessions/nothing", {"Connection": "close"}):
            connection.sendall(bytes([byte]))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 404")


def test_requests_that_stop_anywhere_hold_nothing(service: Server) -> None:
    process = psutil.Process(service.pid)
    whole = request("POST /initialize", FORM, FILE * 200 + END)
    chance = random.Random(1)

    def break_off(times: int) -> None:
        for _ in range(times):
            connection = connect(service.url)
            connection.sendall(whole[:chance.randrange(1, len(whole))])
            reset(connection) if chance.random() < 0.5 else connection.close()
        exchange(service.url, request("GET /health", {"Connection": "close"}))

    break_off(50)
    before = process.num_fds()
    break_off(100)
    deadline = time.monotonic() + 60
    while process.num_fds() > before + 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def mutated(data: bytes, cuts: list[tuple[float, float, bytes]]) -> bytes:
    for at, length, new in cuts:
        start = int(at * len(data))
        data = data[:start] + new + data[start + int(length * 20):]
    return data


CUTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.binary(max_size=8) | st.sampled_from(
    [b"\r\n", b"\0", b"--x", b'"', b";", b":", b"{", b"\xff\xfe", b"99999999999"])), min_size=1, max_size=4)
RIGHT = [request("POST /initialize", FORM, part("max_frames", b"1") + FILE + END),
         request("POST /add-object", JSON, b'{"session_id": "a", "points": [[1, 2]], "labels": [1], "box": [1, 2, 3, 4]}'),
         request("GET /sessions/a/frames/1?width=20", {"Connection": "close", "Accept": "*/*"}),
         request("POST /propagate", {**JSON, "Accept": "text/event-stream", "Last-Event-ID": "a" * 32 + ":1"},
                 b'{"session_id": "a", "object_ids": [1], "background": false}')]


def fuzz_bytes(service: Server, examples: int, *, derandomize: bool) -> None:
    @settings(max_examples=examples, deadline=None, database=None, derandomize=derandomize, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(whole=st.sampled_from(RIGHT), cuts=CUTS)
    def run(whole: bytes, cuts: list[tuple[float, float, bytes]]) -> None:
        statuses, received = exchange(service.url, mutated(whole, cuts))
        assert all(status < 500 for status in statuses), received[:1000]

    run()


def test_right_requests_with_wrong_bytes(service: Server) -> None:
    fuzz_bytes(service, 150, derandomize=True)


@pytest.mark.slow
def test_right_requests_with_wrong_bytes_at_length(service: Server) -> None:
    fuzz_bytes(service, 10_000, derandomize=False)
