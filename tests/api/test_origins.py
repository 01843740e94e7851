"""Which pages may call: a browser sends its requests whoever's page asks for them, and says whose."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from sam_service.api.origins import is_foreign, normal_origin
from sam_service.client import SamClient, VideoSession
from sam_service.local import local_service
from starlette.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support import settings

EVIL = "https://evil.example"
FRIEND = "https://friend.example"
OWN: list[dict[str, str]] = [
    {},  # curl, the client, a server
    {"origin": "http://127.0.0.1:8002", "host": "127.0.0.1:8002"},
    {"origin": "http://LocalHost:8002", "host": "localhost:8002"},
    {"origin": "http://localhost", "host": "localhost:80"},
    {"origin": "https://sam.example", "host": "sam.example:443"},
    {"origin": "https://sam.example:443", "host": "SAM.example"},
    {"origin": "http://[::1]:8002", "host": "[::1]:8002"},
    {"origin": "https://sam.example:8443", "host": "sam.example:8443"},
    # Behind nginx, in the ways that its examples show.
    {"origin": "https://sam.example:8443", "host": "sam.example", "x-forwarded-for": "10.0.0.1"},
    {"origin": "https://sam.example", "host": "sam.example", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
    {"origin": "https://sam.example", "host": "127.0.0.1:8002", "x-forwarded-host": "sam.example"},
    {"origin": "https://sam.example:8443", "host": "127.0.0.1:8002", "x-forwarded-host": "sam.example:8443, inner"},
    {"origin": "https://sam.example:8443", "host": "127.0.0.1:8002", "x-forwarded-host": "sam.example",
     "x-forwarded-port": "8443"},
    # What the browser says itself goes before what proxies made of the host.
    {"origin": "https://sam.example", "host": "127.0.0.1:8002", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none", "host": "localhost"},
    {"origin": FRIEND, "host": "sam.example", "sec-fetch-site": "cross-site"},
    {"origin": "HTTPS://Friend.Example:443", "host": "sam.example"},
]
FOREIGN: list[dict[str, str]] = [
    {"origin": EVIL, "host": "127.0.0.1:8002"},
    {"origin": "null", "host": "127.0.0.1:8002"},
    {"origin": "", "host": "127.0.0.1:8002"},
    {"origin": "file://", "host": "127.0.0.1:8002"},
    {"origin": "chrome-extension://abc", "host": "127.0.0.1:8002"},
    {"origin": "http://localhost:3000", "host": "localhost:8002"},
    {"origin": "http://localhost:3000", "host": "localhost"},
    {"origin": "http://localhost", "host": "localhost:8002"},
    {"origin": "http://127.0.0.1:8002.evil.example", "host": "127.0.0.1:8002"},
    {"origin": "http://127.0.0.1:8002@evil.example", "host": "127.0.0.1:8002"},
    {"origin": "http://localhost:99999", "host": "localhost"},
    {"origin": f"{EVIL}, http://localhost", "host": "localhost"},
    {"origin": "https://sam.example:9000", "host": "sam.example", "x-forwarded-for": "10.0.0.1", "x-forwarded-port": "443"},
    {"origin": EVIL, "host": "127.0.0.1:8002", "x-forwarded-host": "sam.example"},
    {"origin": "http://friend.example", "host": "127.0.0.1:8002"},
    {"origin": f"{FRIEND}.evil.example", "host": "127.0.0.1:8002"},
    {"origin": "https://localhost:3000", "host": "localhost:8002", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "host": "127.0.0.1:8002"},  # a form, or a script that asks for no answer
    {"sec-fetch-site": "same-site", "host": "127.0.0.1:8002"},
    {"sec-fetch-site": "rubbish", "host": "127.0.0.1:8002"},
]


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_no_page_its_own_page_and_a_friends(headers: dict[str, str]) -> None:
    assert not is_foreign(Headers(headers), frozenset({FRIEND}))


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page(headers: dict[str, str]) -> None:
    assert is_foreign(Headers(headers), frozenset({FRIEND}))
    assert not is_foreign(Headers(headers), frozenset({"*"}))


@pytest.mark.parametrize(("origin", "normal"), [
    ("https://A.example/", "https://a.example"), ("https://a.example:443", "https://a.example"), ("http://[::1]:80", "http://[::1]"),
    ("http://a.example:8080", "http://a.example:8080"), ("*", "*"), ("null", "null")])
def test_how_origins_are_compared(origin: str, normal: str) -> None:
    assert normal_origin(origin) == normal


def sessions(client: SamClient) -> list[str]:
    return [session["session_id"] for session in client.call("GET", "/sessions")["sessions"]]


@pytest.mark.parametrize("page", [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str)
def test_a_foreign_page_changes_nothing(video: VideoSession, clip_bytes: bytes, page: dict[str, str]) -> None:
    http, before = video.client.http, sessions(video.client)
    known = {"session_id": video.session_id}
    answers = [
        http.post("/initialize", files={"file": ("a.mp4", clip_bytes)}, headers=page),
        http.post("/initialize", json={"video_path": "ball.mp4"}, headers=page),
        http.post("/add-object", json={**known, "points": [[10, 10]]}, headers=page),
        http.post("/propagate", json=known, headers=page),
        http.post(f"/sessions/{video.session_id}/cancel", headers=page),
        http.delete(f"/sessions/{video.session_id}", headers=page),
        http.patch(f"/sessions/{video.session_id}/objects/1", json={"name": "a"}, headers=page)]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
        assert "CORS_ORIGINS" in answer.json()["detail"]
    assert sessions(video.client) == before
    assert video.state()["objects"] == []
    assert http.get("/sessions", headers=page).status_code == 200  # the browser keeps the answer from the page


@pytest.fixture(scope="module")
def clip_bytes(clip: object) -> bytes:
    from pathlib import Path
    return Path(str(clip)).read_bytes()


@pytest.fixture(scope="module")
def friendly() -> Iterator[str]:
    with local_service(settings(cors_origins="https://Friend.example:443/, http://other.example", sam2_image_size=128)) as url:
        yield url


def test_a_listed_page_may_call_and_reads_the_answer(friendly: str) -> None:
    answer = httpx.delete(f"{friendly}/sessions/none", headers={"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, FRIEND)
    assert httpx.delete(f"{friendly}/sessions/none", headers={"Origin": EVIL}).status_code == 403


def closed_with(url: str, **headers: str) -> int:
    with pytest.raises(ConnectionClosed) as closed, \
            connect(url.replace("http", "ws") + "/sessions/none/events", additional_headers=headers) as socket:
        socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_who_may_listen(friendly: str, service: str) -> None:
    own = service
    assert closed_with(own, Origin=EVIL) == closed_with(friendly, Origin=EVIL) == 4403
    assert closed_with(own, Origin=own.replace("127.0.0.1", "localhost")) == 4403
    for origin in (own, own.upper()):
        assert closed_with(own, Origin=origin) == 4404
    assert closed_with(friendly, Origin=FRIEND) == 4404
    proxied = {"X-Forwarded-Host": "sam.example:8443", "X-Forwarded-For": "10.0.0.1"}
    assert closed_with(own, Origin="https://sam.example:8443", **proxied) == 4404
    assert closed_with(own, Origin=EVIL, **proxied) == 4403
