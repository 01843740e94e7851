"""The timeline: zoom by wheel, a preview under the mouse, diamonds, weak stretches and gaps to go to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import ball_centre

from tests.web.studio import Studio

HEAD, LANE = 66, 22


@pytest.fixture(scope="module")
def tracked(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """24 frames: the ball is clicked on frames 4 and 20, and tracked from 2 to 9."""
    with client.open_video(clip, max_frames=24) as session:
        session.add_object(frame_idx=4, points=[list(ball_centre(4))])
        session.refine(1, frame_idx=20, points=[list(ball_centre(20))])
        list(session.propagate(start_frame=2, end_frame=9))
        yield session


def point(studio: Studio, frame: float, y: float) -> tuple[float, float]:
    """Where the middle of a frame is on the page, while the timeline shows all of 24 frames."""
    box = studio.page.locator("#timeline").bounding_box()
    assert box is not None
    return box["x"] + (frame + 0.5) / 24 * box["width"], box["y"] + y


def test_the_mouse_shows_the_frame_under_it(studio: Studio, tracked: VideoSession) -> None:
    studio.open(tracked.session_id)
    studio.page.mouse.move(*point(studio, 15, 40))
    expect(studio.page.locator("#preview-text")).to_have_text("frame 15 · 0:00.6")
    expect(studio.page.locator("#preview-image")).to_have_attribute("src", re.compile("^blob:"))
    studio.page.mouse.move(*point(studio, 20.1, HEAD + LANE / 2))
    expect(studio.page.locator("#preview-text")).to_have_text("frame 20 · 0:00.8 · object 1 clicked here")
    studio.page.mouse.move(300, 300)
    expect(studio.page.locator("#preview")).to_be_hidden()
    studio.shown(0)


def test_the_wheel_zooms_around_the_mouse(studio: Studio, tracked: VideoSession) -> None:
    studio.open(tracked.session_id)
    out = studio.page.locator("#timeline-out")
    expect(out).to_be_disabled()
    x, y = point(studio, 12, 40)
    studio.page.mouse.move(x, y)
    for _ in range(4):
        studio.page.mouse.wheel(0, -120)
    expect(out).to_be_enabled()
    studio.page.mouse.move(x + 1, y)
    expect(studio.page.locator("#preview-text")).to_contain_text("frame 12")
    studio.page.mouse.move(point(studio, 0, 40)[0], y)
    expect(studio.page.locator("#preview-text")).to_contain_text("frame 8")
    studio.press("End")
    studio.shown(23)
    studio.page.mouse.move(point(studio, 23, 40)[0], y)
    expect(studio.page.locator("#preview-text")).to_contain_text("frame 23")
    for _ in range(4):
        out.click(force=True)
    expect(out).to_be_disabled()


def test_diamonds_and_gaps_are_gone_to(studio: Studio, tracked: VideoSession) -> None:
    studio.open(tracked.session_id)
    expect(studio.page.locator("#gap-next")).to_have_text("3 gaps")
    x, y = point(studio, 20, HEAD + LANE / 2)
    studio.page.mouse.click(x + 5, y)
    studio.shown(20)
    for frame in (21, 0, 10):
        studio.press("g")
        studio.shown(frame)


def test_an_underlined_stretch_leads_to_its_worst_frame(studio: Studio, tracked: VideoSession) -> None:
    def lowered(route: Route) -> None:
        """Scores of a worse model: the bad stretch is where the test can name it."""
        answer = route.fetch()
        found = answer.json()
        for track in found["objects"]:
            track["frames"], track["score"] = list(range(24)), [0.9] * 24
            track["score"][14:18] = [0.4, 0.2, 0.1, 0.25]
            track["object_score"], track["area"] = [0.9] * 24, [900] * 24
        route.fulfill(response=answer, json=found)

    studio.page.route("**/tracks", lowered)
    studio.open(tracked.session_id)
    expect(studio.page.locator("#weak-label")).to_have_text("1 to check")
    expect(studio.page.locator("#gap-next")).to_be_hidden()
    studio.page.mouse.click(*point(studio, 14, HEAD + LANE - 2))
    studio.shown(16)
