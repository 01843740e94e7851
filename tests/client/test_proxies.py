"""The proxies of the environment: never for this machine itself, for others used and named where something goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from sam_service.client import ApiError, AsyncSamClient, InvalidRequest, NoService, SamClient, ServiceFailed, Unreachable
from sam_service.client.addresses import is_loopback, origin_of, proxy_of

from tests.client.relay import relay
from tests.test_cli import SEGMENT, command

DEAD = "http://user:password@127.0.0.1:9"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through, in its own words."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Gateway</h1>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_this_machine_is_reached_past_a_proxy(service: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with relay(service) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        with SamClient(service) as client:
            assert client.wait_ready()["ready"]
        with SamClient(service.replace("127.0.0.1", "localhost")) as client:
            client.sessions()
        assert asyncio.run(_sessions(service)) is not None
        assert proxy.connections == 0


async def _sessions(service: str) -> object:
    async with AsyncSamClient(service) as client:
        return await client.sessions()


def test_other_machines_are_reached_through_it(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(service) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with SamClient("http://gpu.invalid:8002") as client, pytest.raises(InvalidRequest) as answered:
            client.health()
        assert answered.value.code == "unknown_host", "the service itself answered"
        assert proxy.connections == 1
        assert b"http://gpu.invalid:8002/health" in proxy.heads[0]


def test_a_proxy_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", DEAD)
    with SamClient("http://gpu.invalid:8002") as client, pytest.raises(Unreachable) as error:
        client.sessions()
    assert "through the proxy 127.0.0.1:9" in str(error.value)
    assert "NO_PROXY=gpu.invalid" in str(error.value)
    assert "password" not in str(error.value)
    assert not isinstance(error.value, NoService), "whether the service is there is not known"


def test_what_a_proxy_answers_itself_is_said_to_be_from_it(monkeypatch: pytest.MonkeyPatch, refusing_proxy: str) -> None:
    monkeypatch.setenv("http_proxy", refusing_proxy)
    with SamClient("http://gpu.invalid:8002") as client, pytest.raises(ServiceFailed) as error:
        client.sessions()
    assert error.value.status == 502
    assert f"through the proxy {refusing_proxy.removeprefix('http://')}" in error.value.detail


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "strange://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named(service: str, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(Unreachable, match=r"the proxy 127\.0\.0\.1:9 cannot be used"):
        SamClient("http://gpu.invalid:8002")
    with SamClient(service) as client:
        client.sessions()


def test_without_a_proxy_none_is_named() -> None:
    with SamClient("http://127.0.0.1:9") as client, pytest.raises(NoService) as error:
        client.sessions()
    assert error.value.url == "http://127.0.0.1:9"
    assert "proxy" not in str(error.value)


@pytest.mark.parametrize(("address", "own"), [
    ("http://127.0.0.1:8002", True), ("http://127.8.9.1", True), ("http://localhost:1", True), ("http://a.localhost", True),
    ("http://[::1]:8002", True), ("http://[::ffff:127.0.0.1]", True), ("http://10.0.0.1", False), ("http://gpu", False),
    ("http://localhost.example", False), ("http://[2001:db8::1]", False)])
def test_loopback_is_known_in_all_its_forms(address: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", DEAD)
    url = httpx.URL(address)
    assert is_loopback(url) is own
    assert (proxy_of(url) is None) is own
    assert origin_of(url) == address


def test_no_proxy_goes_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setenv("no_proxy", "gpu,example.org")
    assert proxy_of(httpx.URL("http://gpu:8002")) is None
    assert proxy_of(httpx.URL("http://other:8002")) == "127.0.0.1:9"


def test_segment_and_sessions_work_where_a_proxy_is_set(tmp_path: Path, clip: Path, service: str) -> None:
    proxies = {name: DEAD for name in ("http_proxy", "HTTP_PROXY", "all_proxy")}
    done = command(*SEGMENT, clip, "--url", service, "--max-frames", "1", "--json", cwd=tmp_path, **proxies)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"
    listed = command("sessions", "--url", service, "--json", cwd=tmp_path, **proxies)
    assert listed.returncode == 0, listed.stderr
    away = command("sessions", "--url", "http://gpu.invalid:8002", cwd=tmp_path, **proxies)
    assert (away.returncode, away.stdout) == (4, "")
    assert "through the proxy 127.0.0.1:9" in away.stderr
    assert "Traceback" not in away.stderr


def test_an_answer_of_somebody_else_is_an_error(refusing_proxy: str) -> None:
    with SamClient(refusing_proxy) as client, pytest.raises(ApiError, match="Gateway"):
        client.sessions()
