"""The page's files as the service sends them; needs no browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import sam_service
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.support import settings

WEB = Path(sam_service.__file__).parent / "web"
FILES = sorted(path.name for path in WEB.iterdir())


@pytest.mark.parametrize("path", ["/", *(f"/studio/{name}" for name in FILES)])
def test_files_are_sent_with_strict_headers_and_again_only_when_they_change(client: SamClient, path: str) -> None:
    first = client.http.get(path)
    assert first.status_code == 200
    policy = first.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["cache-control"] == "no-cache"
    again = client.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.http.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    head = client.http.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])
    assert head.headers["content-length"] == str(len(first.content))


def test_what_is_no_file_of_the_page_is_not_found(client: SamClient) -> None:
    for name in ("none.js", "", "..%2Fsettings.py", "%2e%2e/settings.py", "__init__.py"):
        assert client.http.get(path := f"/studio/{name}").status_code == 404, path


def test_the_page_is_open_where_a_key_is_set() -> None:
    with local_service(settings(sam2_api_key="secret")) as url, httpx.Client(base_url=url) as http:
        assert http.get("/").status_code == 200
        assert http.get("/studio/main.js").status_code == 200
        assert http.get("/sessions").status_code == 401


def test_the_page_names_only_files_that_there_are_and_no_other_host() -> None:
    for name in FILES:
        text = (WEB / name).read_text()
        addresses = set(re.findall(r"https?://[^\"'` )]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, f"{name} names {addresses}"
        for used in re.findall(r'from "\./([^"]+)"', text) + re.findall(r'(?:src|href)="studio/([^"]+)"', text):
            assert used in FILES, f"{name} uses {used}"


def test_the_page_holds_nothing_inline_that_its_policy_forbids() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.findall(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", page)


def test_every_element_that_a_script_looks_up_is_in_the_page() -> None:
    there = set(re.findall(r'\sid="([^"]+)"', (WEB / "index.html").read_text()))
    for path in WEB.glob("*.js"):
        assert path.name == "dom.js" or "getElementById" not in path.read_text(), "looked up by `byId`, which refuses others"
        looked_up = set(re.findall(r'(?:byId|getElementById)\("([^"]+)"\)', path.read_text()))
        assert looked_up <= there, f"{path.name}: {looked_up - there}"
