"""Headers, hosts and origins."""

from __future__ import annotations

import socket

import httpx
import pytest
from sam_service.api.guards import Hosts
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.support import settings


def test_every_answer_carries_careful_headers(client: SamClient) -> None:
    for path in ("/health", "/sessions/none", "/nowhere"):
        headers = client.http.get(path).headers
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(("host", "status"), [
    ("localhost", 200), ("LOCALHOST:8002", 200), ("127.0.0.1:1", 200), ("[::1]:8002", 200), ("10.1.2.3", 200),
    ("evil.example", 400), ("localhost.evil.example:8002", 400), ("", 400), ("[::1].evil.example", 400), ("gpu-box", 400),
    ("127.0.0.1:8002@evil.example", 400), ("localhost:80:evil.example", 400), ("127.0.0.1.evil.example", 400),
])
def test_a_local_service_without_a_key_answers_to_its_own_names_only(client: SamClient, host: str, status: int) -> None:
    response = client.http.get("/health", headers={"Host": host})
    assert response.status_code == status
    if status == 400:
        assert response.json()["code"] == "unknown_host"


@pytest.mark.parametrize(("host", "answered"), [
    ("192.168.1.7:8002", True), ("localhost:8002", True), ("sam-service:8002", True), ("gpu.local", True),
    ("sam.cluster.local", True), ("GPU.internal", True), (socket.gethostname(), True), ("evil.example", False),
    ("192.168.1.7.evil.example:8002", False), ("local.evil.example", False), ("", False)])
def test_without_a_key_no_public_name_leads_here(host: str, answered: bool) -> None:
    """A page's own name that its owner lets lead to an address of this network."""
    assert Hosts.of(settings(host="0.0.0.0")).answer_to(host) is answered
    assert Hosts.of(settings(host="0.0.0.0", sam2_api_key="secret")).answer_to(host)
    assert Hosts.of(settings(host="0.0.0.0", allowed_hosts="*")).answer_to(host)


def test_no_answer_leads_to_a_host_that_the_request_names(client: SamClient) -> None:
    for path in ("/health/", "/sessions/", "/initialize/"):
        answer = client.http.get(path)
        assert (answer.status_code, answer.headers.get("location")) == (404, None)
    answer = client.http.get("/docs/")
    assert (answer.status_code, answer.headers["location"]) == (307, "../docs")


def test_origins_and_hosts_are_options() -> None:
    with local_service(settings(cors_origins="https://a.example, https://b.example", allowed_hosts="sam.example")) as url:
        asked = {"Origin": "https://b.example", "Access-Control-Request-Method": "POST", "Host": "sam.example"}
        answer = httpx.options(f"{url}/add-object", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        asked["Origin"] = "https://c.example"
        assert "access-control-allow-origin" not in httpx.options(f"{url}/add-object", headers=asked).headers
        assert httpx.get(f"{url}/health", headers={"Host": "other.example"}).status_code == 400
