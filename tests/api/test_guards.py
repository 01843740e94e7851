"""Headers, hosts and origins."""

from __future__ import annotations

import httpx
import pytest
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
    ("evil.example", 400), ("localhost.evil.example:8002", 400), ("", 400),
])
def test_a_local_service_without_a_key_answers_to_its_own_names_only(client: SamClient, host: str, status: int) -> None:
    response = client.http.get("/health", headers={"Host": host})
    assert response.status_code == status
    if status == 400:
        assert response.json()["code"] == "unknown_host"


def test_origins_and_hosts_are_options() -> None:
    with local_service(settings(cors_origins="https://a.example, https://b.example", allowed_hosts="sam.example")) as url:
        asked = {"Origin": "https://b.example", "Access-Control-Request-Method": "POST", "Host": "sam.example"}
        answer = httpx.options(f"{url}/add-object", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        asked["Origin"] = "https://c.example"
        assert "access-control-allow-origin" not in httpx.options(f"{url}/add-object", headers=asked).headers
        assert httpx.get(f"{url}/health", headers={"Host": "other.example"}).status_code == 400
