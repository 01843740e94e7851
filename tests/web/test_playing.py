"""Playing a clip on the page."""

from __future__ import annotations

from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import Studio


def test_a_tracked_session_plays_when_it_is_opened_again(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    list(video.propagate())
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .score")).not_to_be_empty()
    studio.press(" ")
    studio.shown(23)
    expect(studio.page.locator("#play")).to_have_attribute("aria-label", "Play")
