"""A layout that stands still: four screens, one object or eight, with and without messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from sam_service.client import SamClient, VideoSession

from tests.web.studio import WAIT_MS, Studio

SCREENS: dict[str, dict[str, Any]] = {"desktop": {"viewport": {"width": 1440, "height": 900}},
           "tablet": {"viewport": {"width": 1024, "height": 768}, "has_touch": True},
           "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
           "200 % zoom": {"viewport": {"width": 720, "height": 450}, "device_scale_factor": 2}}
PLACES = """() => Object.fromEntries(
  [...document.querySelectorAll("header button, #editor button, #stage, #objects, #timeline-scroller")]
    .filter((element) => element.id && element.checkVisibility({ visibilityProperty: true }))
    .map((element) => [element.id, ["x", "y", "right", "bottom"].map((side) =>
      Math.round(element.getBoundingClientRect()[side]))]))"""
COVERED = """() => [...document.querySelectorAll("header button, #editor button")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest("#objects"))
  .filter((element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return [0.2, 0.5, 0.8].some((at) => !element.contains(document.elementFromPoint(x + width * at, y + height * at)));
  }).map((element) => element.outerHTML.slice(0, 80))"""
PAGE = "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]"


@pytest.fixture(scope="module")
def crowd(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """Three frames with eight objects."""
    with client.open_video(clip, max_frames=3) as session:
        for at in range(8):
            session.add_object(points=[[60 + 70 * at, 100 + 20 * at]])
        yield session


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_moves_and_nothing_is_covered(browser: Browser, service: str, crowd: VideoSession, video: VideoSession,
                                              screen: str) -> None:
    context = browser.new_context(**SCREENS[screen])
    context.set_default_timeout(WAIT_MS)
    studio = Studio(context.new_page(), service)
    look = studio.page.evaluate
    video.add_object(points=[[60, 100]])
    studio.open(video.session_id)
    expect(studio.page.locator("#model")).to_be_visible()
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    one = look(PLACES)
    assert look(PAGE) == [0, 0], "the page itself does not scroll"
    studio.open(crowd.session_id, 2)
    expect(studio.page.locator("#objects .object")).to_have_count(8)
    studio.press("f")
    studio.tracked()
    expect(studio.page.locator("#tracking")).to_be_hidden()
    eight = look(PLACES)
    assert {name: eight[name] for name in one} == one, "eight objects and a note move nothing"
    studio.press("n")
    box = studio.page.locator("#canvas").bounding_box()
    assert box is not None
    studio.page.locator("#canvas").click(button="right", position={"x": box["width"] / 2, "y": box["height"] / 2})
    expect(studio.page.locator(".toast.failed")).to_be_visible()
    assert {name: look(PLACES)[name] for name in one} == one, "a message moves nothing"
    assert look(COVERED) == []
    assert look(PAGE) == [0, 0]
    last = studio.page.locator("#objects .object").last
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport()
    assert look(COVERED) == [], "the list scrolls inside its place"
    assert studio.page.locator("#timeline-scroller").evaluate("(lanes) => lanes.clientHeight") >= 90
    context.close()
    assert studio.complaints == []
