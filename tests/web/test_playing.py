"""Playing a clip on the page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import CLICK

from tests import clips
from tests.web.studio import Studio


def test_the_clock_shows_each_frames_own_time(studio: Studio, client: SamClient, tmp_path: Path) -> None:
    plain = clips.write_video(tmp_path / "plain.mp4", 6)
    varying = clips.retimed(plain, tmp_path / "varying.mp4", [512, 512, 1024, 20480, 512, 512])
    with client.initialize(varying) as video:
        studio.open(video.session_id, 3)
        expect(studio.page.locator("#time")).to_have_text("0:00.2")
        studio.open(video.session_id, 4)
        expect(studio.page.locator("#time")).to_have_text("0:01.8")


def test_a_tracked_session_plays_when_it_is_opened_again(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    list(video.propagate())
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .score")).not_to_be_empty()
    studio.press(" ")
    studio.shown(23)
    expect(studio.page.locator("#play")).to_have_attribute("aria-label", "Play")
