"""One browser for all tests of the page; a fresh tab and a clean storage for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from sam_service.client import SamClient

from tests.web.studio import ARGUMENTS, WAIT_MS, Studio, find_browser

OpenStudio = Callable[..., Studio]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, where it is installed. It ends with each file: while it runs, Playwright keeps an event loop in this thread."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on PATH; install it (Debian: `apt-get install chromium`) or name one in CHROMIUM_PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def open_studio(browser: Browser) -> Iterator[OpenStudio]:
    """A function that opens a page on a service; no page may have complained in the browser's console by the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark", accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    opened: list[Studio] = []

    def open_one(url: str) -> Studio:
        opened.append(Studio(context.new_page(), url))
        return opened[-1]

    yield open_one
    complaints = [complaint for studio in opened for complaint in studio.complaints]
    context.close()
    assert complaints == []


@pytest.fixture
def studio(open_studio: OpenStudio, client: SamClient, service: str) -> Studio:
    """A page on the shared service, whose model is loaded."""
    assert client is not None
    return open_studio(service)
