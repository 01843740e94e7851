"""Propagation on the page: live, cancelled, reloaded in the middle, watched by two pages, corrected and exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import CLICK, ball_centre

from tests.web.conftest import OpenStudio
from tests.web.studio import Studio, distance

RUNNING = re.compile(r"^[1-9]\d* of \d+ frames?, [\d.]+ a second, .+ left$")


@pytest.fixture
def clicked(video: VideoSession) -> VideoSession:
    """24 frames with the ball clicked on the first."""
    video.add_object(points=[list(CLICK)])
    return video


@pytest.fixture
def long(client: SamClient, clip: Path) -> VideoSession:
    """The whole clip with the ball clicked on the first frame: long enough to do something while it is tracked."""
    session = client.open_video(clip)
    session.add_object(points=[list(CLICK)])
    return session


def test_masks_arrive_while_it_runs_and_stay(studio: Studio, clicked: VideoSession) -> None:
    studio.open(clicked.session_id)
    x, y = ball_centre(23)
    studio.press("End")
    studio.shown(23)
    bare = studio.pixel(x, y)
    studio.press("t")
    expect(studio.page.locator("#tracking-facts")).to_have_text(RUNNING)
    expect(studio.page.locator("#canvas")).not_to_have_attribute("aria-label", re.compile(r"^Frame 23\."))
    assert studio.tracked().startswith("24 frames in ")
    studio.shown(23)
    studio.idle()
    assert distance(studio.pixel(x, y), bare) > 25
    expect(studio.page.locator("#objects .score")).to_have_text(re.compile("^(good|check|lost|not in frame)$"))
    assert clicked.state()["frames_with_masks"] == list(range(24))


def test_cancel_keeps_what_was_done(studio: Studio, long: VideoSession) -> None:
    studio.open(long.session_id)
    studio.press("t")
    expect(studio.page.locator("#tracking-facts")).to_have_text(RUNNING)
    studio.press("Escape")
    note = studio.tracked()
    assert re.match(r"Cancelled after \d+ frames?; the masks are kept.", note)
    assert len(long.state()["frames_with_masks"]) == int(note.split()[2])
    long.delete()


def test_a_reload_in_the_middle_goes_on_watching_and_a_second_page_keeps_in_step(
        open_studio: OpenStudio, service: str, long: VideoSession) -> None:
    first, second = open_studio(service), open_studio(service)
    second.open(long.session_id)
    first.open(long.session_id)
    first.press("t")
    expect(first.page.locator("#tracking-facts")).to_have_text(RUNNING)
    first.page.reload()
    expect(first.page.locator("#tracking-facts")).to_have_text(RUNNING)
    expect(second.page.locator("#tracking-facts")).to_have_text(RUNNING)
    first.press("Escape")
    second.tracked()
    first.tracked()
    second.press("Home")
    second.shown(0)
    second.press("n")
    second.click(500, 80)
    expect(first.page.locator("#objects input.name")).to_have_count(2)
    first.press("Home", "2", "F2")
    first.page.keyboard.type("bush")
    first.press("Enter")
    expect(second.page.locator("#objects input.name").nth(1)).to_have_value("bush")
    second.press("Delete")
    expect(first.page.locator("#objects input.name")).to_have_count(1)
    first.page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", long.session_id)
    for page in (first, second):
        expect(page.page.locator("#start")).to_be_visible()
        expect(page.page.locator(".toast.failed")).to_contain_text("deleted")


def test_a_range_is_tracked_both_ways_from_its_prompt(studio: Studio, video: VideoSession) -> None:
    x, y = ball_centre(10)
    video.add_object(frame_idx=10, points=[[x, y]])
    studio.open(video.session_id, 6)
    studio.press("i", ".", ".", ".", ".", ".", ".", ".", "o")
    expect(studio.page.locator("#range-label")).to_have_text("6 – 13")
    studio.press("r")
    expect(studio.page.locator("#track-note")).to_have_text(re.compile("^8 frames in "))
    assert video.state()["frames_with_masks"] == list(range(6, 14))


def test_playing_shows_every_frame_and_stops_at_the_end(studio: Studio, video: VideoSession) -> None:
    studio.open(video.session_id)
    studio.press("]", " ")
    expect(studio.page.locator("#play")).to_have_attribute("aria-label", "Pause")
    studio.shown(23)
    expect(studio.page.locator("#play")).to_have_attribute("aria-label", "Play")
    expect(studio.page.locator("#speed")).to_have_value("2")
    assert "frame=23" in studio.page.evaluate("new Promise(done => setTimeout(() => done(location.hash), 400))")


def test_a_weak_frame_is_found_and_corrected(studio: Studio, clicked: VideoSession) -> None:
    x, y = ball_centre(12)
    clicked.add_object(frame_idx=0, points=[[500, 80]], object_id=9)
    list(clicked.propagate())
    track = next(found for found in clicked.client.call("GET", f"/sessions/{clicked.session_id}/tracks")["objects"]
                 if found["object_id"] == 9)
    studio.open(clicked.session_id)
    if any(area and present >= 0.5 and score < 0.5 for score, present, area in zip(
            track["score"], track["object_score"], track["area"], strict=True)):
        expect(studio.page.locator("#weak-label")).to_contain_text("to check")
        studio.press("w")
    studio.page.fill("#frame-number", "12")
    studio.press("Enter")
    studio.shown(12)
    studio.press("1")
    studio.click(x, y)
    assert {"object_id": 1, "frame_idx": 12} in [
        {name: prompt[name] for name in ("object_id", "frame_idx")} for prompt in studio.prompts()]
    studio.press("Control+z")
    studio.idle()
    assert [prompt["frame_idx"] for prompt in studio.prompts()] == [0, 0], "taken back, and tracked again from the first frame"
