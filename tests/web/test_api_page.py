"""The page of the API, and both pages under a prefix at a proxy: a real browser, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.support import settings
from tests.web.prefix import prefixed

PREFIX = "/vision/sam"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with a prefix."""
    with local_service(settings(root_path=PREFIX, sam2_image_size=128)) as url, SamClient(url) as client:
        client.wait_ready()
        yield url


@pytest.fixture(params=["left on", "taken off"])
def proxy(request: pytest.FixtureRequest, behind: str) -> Iterator[str]:
    """The address under the prefix at a proxy that leaves it in the path, or takes it off."""
    with prefixed(behind, PREFIX, keep=request.param == "left on") as url:
        yield url


def shown(page: Page, address: str) -> tuple[set[str], list[str]]:
    """Open a page; the hosts that it asked, and its complaints."""
    hosts: set[str] = set()
    complaints: list[str] = []
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    return hosts, complaints


def test_the_page_of_the_api_comes_from_here_alone(browser: Browser, service: str) -> None:
    page = browser.new_page()
    hosts, complaints = shown(page, f"{service}/docs")
    expect(page.get_by_text("/add-object").first).to_be_visible()
    page.get_by_text("/health").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")
    assert (hosts, complaints) == ({urlsplit(service).netloc}, [])
    policy = httpx.get(f"{service}/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "http" not in policy
    page.close()


def test_the_pages_work_under_a_prefix(browser: Browser, proxy: str) -> None:
    page = browser.new_page()
    hosts, complaints = shown(page, f"{proxy}/docs")
    page.get_by_text("/health").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")
    assert (hosts, complaints) == ({urlsplit(proxy).netloc}, [])
    hosts, complaints = shown(page, f"{proxy}/")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#start-model")).to_contain_text("nano")
    assert (hosts, complaints) == ({urlsplit(proxy).netloc}, [])
    page.close()


def test_calls_and_locations_work_under_a_prefix(proxy: str, clip_bytes: bytes) -> None:
    with httpx.Client(timeout=60) as http:
        assert http.get(f"{proxy}/health").status_code == 200
        assert http.get(f"{proxy}/nothing").status_code == 404
        opened = http.post(f"{proxy}/initialize", files={"file": ("a.mp4", clip_bytes)}, data={"max_frames": "3"}).json()
        known = {"session_id": opened["session_id"]}
        assert http.post(f"{proxy}/add-object", json={**known, "points": [[320, 180]]}).status_code == 200
        job = http.post(f"{proxy}/propagate", json={**known, "background": True})
        assert job.headers["location"] == f"{PREFIX}/jobs/{job.json()['job_id']}"
        root = f"http://{urlsplit(proxy).netloc}"
        assert http.get(root + job.headers["location"]).status_code == 200
        assert http.get(f"{proxy}/openapi.json").json()["servers"] == [{"url": PREFIX}]
        assert http.delete(f"{proxy}/sessions/{opened['session_id']}").status_code == 204


def test_the_prefix_alone_leads_to_the_page(behind: str) -> None:
    answer = httpx.get(behind + PREFIX)
    assert (answer.status_code, answer.headers["location"]) == (307, PREFIX + "/")


@pytest.fixture(scope="module")
def clip_bytes(clip: object) -> bytes:
    with open(str(clip), "rb") as file:
        return file.read()
