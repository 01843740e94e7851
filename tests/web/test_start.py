"""The start screen: a sample clip, the server's videos, a folder of pictures, and what is said of open sessions."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import Studio


def delete(studio: Studio) -> None:
    """Delete the session that the address names, and see the start screen."""
    studio.page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", studio.session_id)
    expect(studio.page.locator("#start")).to_be_visible()


def test_a_sample_clip_can_be_clicked_on(studio: Studio) -> None:
    studio.start()
    studio.page.get_by_role("button", name="Try a sample clip").click()
    studio.shown(0)
    expect(studio.page.locator("#video-name")).to_have_text("sample.mp4")
    studio.click(*CLICK)
    assert studio.objects == ["object 1"]
    delete(studio)


def test_a_video_of_the_server_is_opened_by_its_picture(studio: Studio, clip: Path) -> None:
    studio.start()
    card = studio.page.locator("#library").get_by_role("button", name=clip.name)
    card.scroll_into_view_if_needed()  # below the sessions that other tests leave; pictures are asked for when they are seen
    expect(card.locator("img")).to_have_attribute("src", re.compile("^blob:"))
    card.click()
    expect(studio.page.locator("#video-name")).to_have_text(clip.name)
    studio.shown(0)
    delete(studio)


def test_a_folder_of_pictures_is_opened_in_the_order_of_its_names(studio: Studio, tmp_path: Path) -> None:
    for at in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"photo{at}.png"), np.full((48, 64, 3), 20 * at, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    studio.start()
    studio.page.set_input_files("#folder", tmp_path)
    studio.shown(0)
    expect(studio.page.locator("#video-facts")).to_contain_text("64 × 48 · 3 frames")
    studio.press("End")
    studio.shown(2)
    assert abs(studio.pixel(30, 20)[0] - 200) < 4, "photo10 comes last"
    delete(studio)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    studio.page.set_input_files("#folder", tmp_path)
    expect(studio.page.locator(".toast.failed").last).to_contain_text("holds no pictures")


def test_sessions_say_how_far_they_are_and_how_long_they_stay(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    list(video.propagate(end_frame=5))
    studio.start()
    row = studio.page.locator(f"#sessions li:has(a[href$='{video.session_id}'])")
    expect(row).to_contain_text("6 of 24 frames tracked")
    expect(row).to_contain_text("opened just now")
    expect(row).to_contain_text(re.compile(r"kept \d+ (min|h|days) more"))
