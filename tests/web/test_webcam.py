"""The camera on the page: Chromium's fake device is pushed to a live session."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sam_service.client import SamClient

from tests.web.studio import ARGUMENTS, WAIT_MS, find_browser

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a Chromium whose camera shows a test pattern and needs no permission."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on PATH; install it (Debian: `apt-get install chromium`) or name one in CHROMIUM_PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *CAMERA])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(WAIT_MS)
        yield opened
        browser.close()


def live_sessions(client: SamClient) -> list[str]:
    return [item["session_id"] for item in client.sessions() if item["status"] == "live"]


def test_the_camera_is_pushed_clicked_and_let_go(page: Page, service: str, client: SamClient) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(service)
    page.click("#camera")
    picture = page.locator(".live-picture")
    expect(picture).to_have_attribute("data-frame", re.compile(r"[1-9]\d*"))
    [session_id] = live_sessions(client)
    picture.click(position={"x": 200, "y": 150})
    expect(picture).to_have_attribute("data-areas", re.compile(r"\d+"))
    state = client.session(session_id).state()
    assert [item["object_id"] for item in state["objects"]] == [1]
    x, y = state["prompts"][0]["points"][0]
    box = picture.bounding_box()
    assert box is not None
    assert (x, y) == pytest.approx((200 * state["width"] / box["width"], 150 * state["height"] / box["height"]), abs=2)
    page.click("#live-stop")
    expect(page.locator("#live-dialog")).to_have_count(0)
    page.wait_for_function("async (path) => (await fetch(path)).status === 404", arg=f"/sessions/{session_id}")
    assert problems == []


def test_what_the_camera_gave_can_be_opened_in_the_editor(page: Page, service: str, client: SamClient) -> None:
    page.goto(service)
    page.click("#camera")
    expect(page.locator(".live-picture")).to_have_attribute("data-frame", re.compile(r"[1-9]\d*"))
    page.click("#live-keep")
    [session_id] = live_sessions(client)
    page.wait_for_url(re.compile(f"#session={session_id}"))
    expect(page.locator("#video-name")).to_have_text("live")
    client.http.delete(f"/sessions/{session_id}")
