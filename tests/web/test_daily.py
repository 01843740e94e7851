"""What spoils a day's work where it fails: ranges by mouse, the playhead, Space, drops, a service that is silent."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import ball_centre

from tests.web.black_hole import relayed
from tests.web.conftest import OpenStudio
from tests.web.studio import Studio


@pytest.fixture
def short(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """Eight frames with the ball clicked on frame 4."""
    with client.open_video(clip, max_frames=8) as session:
        session.add_object(frame_idx=4, points=[list(ball_centre(4))])
        yield session


def drag_handle(studio: Studio, start: float, end: float) -> None:
    """Drag on the ruler of the timeline between two shares of its width."""
    box = studio.page.locator("#timeline").bounding_box()
    assert box is not None
    xs = [box["x"] + 2 + share * (box["width"] - 4) for share in (start, (start + end) / 2, end)]
    studio.page.mouse.move(xs[0], box["y"] + 8)
    studio.page.mouse.down()
    for x in xs[1:]:
        studio.page.mouse.move(x, box["y"] + 8)
    studio.page.mouse.up()


def test_the_range_is_set_by_mouse(studio: Studio, short: VideoSession) -> None:
    studio.open(short.session_id)
    label = studio.page.locator("#range-label")
    expect(label).to_have_text("not set")
    drag_handle(studio, 0, 2 / 8)
    expect(label).to_have_text("2 – 7")
    drag_handle(studio, 1, 6 / 8)
    expect(label).to_have_text("2 – 5")
    studio.page.locator("#range-clear").click()
    expect(label).to_have_text("not set")
    studio.press("Home", ".", ".", ".")
    studio.page.locator("#range-start").click()
    expect(label).to_have_text("3 – 7")
    studio.press(".")
    studio.page.locator("#range-end").click()
    expect(label).to_have_text("3 – 4")
    drag_handle(studio, 0, 0)
    studio.shown(0)
    expect(label).to_have_text("3 – 4")


def test_the_playhead_returns_for_the_other_direction(studio: Studio, short: VideoSession) -> None:
    studio.open(short.session_id, 4)
    studio.press("f")
    assert studio.tracked().startswith("4 frames in ")
    studio.shown(4)
    studio.press("b")
    expect(studio.page.locator("#track-note")).to_contain_text("5 frames in ")
    studio.shown(4)
    assert short.state()["frames_with_masks"] == list(range(8))


def test_one_object_is_tracked_and_the_others_stay(studio: Studio, short: VideoSession) -> None:
    short.add_object(frame_idx=4, points=[[500, 80]])
    studio.open(short.session_id, 4)
    expect(studio.page.locator("#objects .object")).to_have_count(2)
    studio.press("2")
    studio.page.get_by_label("Only this object").check()
    studio.press("f")
    assert studio.tracked().startswith("4 frames in ")
    tracks = short.client.call("GET", f"/sessions/{short.session_id}/tracks")["objects"]
    assert [track["frames"] for track in tracks] == [[4], [4, 5, 6, 7]]
    studio.press("n")
    expect(studio.page.locator("#track-forward")).to_be_disabled()


def test_space_plays_and_never_presses_the_last_button(studio: Studio, short: VideoSession) -> None:
    studio.open(short.session_id)
    play = studio.page.locator("#play")
    studio.page.locator("#new-object").click()
    expect(studio.page.locator("#objects .draft")).to_be_visible()
    studio.page.locator("#step").click()
    studio.shown(1)
    studio.page.locator("#speed").select_option("0.25")
    studio.press(" ")
    expect(play).to_have_attribute("aria-label", "Pause")
    studio.press(" ")
    expect(play).to_have_attribute("aria-label", "Play")
    studio.page.locator("#help").click()
    studio.press("Escape")
    studio.press("Home", " ")
    expect(play).to_have_attribute("aria-label", "Pause")
    expect(studio.page.locator("#help-dialog")).to_be_hidden()


def test_a_drop_on_the_editor_opens_the_file(studio: Studio, short: VideoSession, clip: Path) -> None:
    studio.open(short.session_id)
    transfer = studio.page.evaluate_handle(
        """(data) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], "second.mp4"));
          return transfer;
        }""", base64.b64encode(clip.read_bytes()).decode())
    studio.page.dispatch_event("#canvas", "drop", {"dataTransfer": transfer})
    expect(studio.page.locator("#video-name")).to_have_text("second.mp4")
    studio.shown(0)
    assert studio.session_id != short.session_id
    studio.page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", studio.session_id)
    expect(studio.page.locator("#start")).to_be_visible()


def test_several_pictures_are_opened_as_one_clip(studio: Studio, tmp_path: Path) -> None:
    paths = [tmp_path / f"photo{at}.png" for at in range(3)]
    for at, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((48, 64, 3), 80 * at, np.uint8))
    studio.start()
    studio.page.set_input_files("#file", paths)
    studio.shown(0)
    expect(studio.page.locator("#video-facts")).to_contain_text("64 × 48 · 3 frames")
    studio.page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", studio.session_id)
    expect(studio.page.locator("#start")).to_be_visible()


def test_a_silent_stall_is_said_and_a_click_in_it_is_kept(open_studio: OpenStudio, service: str, short: VideoSession) -> None:
    with relayed(service) as relay:
        studio = open_studio(relay.url)
        studio.open(short.session_id, 2)
        expect(studio.page.locator("#objects .object")).to_have_count(1)
        relay.open.clear()
        px, py = studio.on_canvas(*ball_centre(2))
        studio.page.locator("#canvas").click(position={"x": px, "y": py})
        expect(studio.page.locator("#offline")).to_contain_text("has not answered for")
        relay.open.set()
        expect(studio.page.locator("#offline")).to_be_hidden()
        studio.idle()
        assert [prompt["frame_idx"] for prompt in studio.prompts()] == [2, 4]
        studio.page.close()


def test_an_export_says_what_is_not_tracked(studio: Studio, short: VideoSession) -> None:
    studio.open(short.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    studio.press("e")
    coverage = studio.page.locator("#export-coverage")
    expect(coverage).to_contain_text("1 of 8 frames tracked. The others come without masks")
    studio.page.fill("#export-form [name=start_frame]", "4")
    studio.page.fill("#export-form [name=end_frame]", "4")
    studio.press("Tab")
    expect(coverage).to_have_text("1 of 1 frame tracked.")


def test_numbers_and_times_are_written_as_a_person_would(studio: Studio) -> None:
    studio.start()
    assert studio.page.evaluate(
        """async () => {
          const { remaining } = await import("/studio/tracking.js");
          return [0.2, 59.2, 2579.7, 4800].map(remaining);
        }""") == ["1 s", "1 min 0 s", "43 min 0 s", "1 h 20 min"]
    assert studio.page.evaluate(
        """async () => {
          const { count } = await import("/studio/say.js");
          return [0, 1, 2].map((number) => count(number, "frame"));
        }""") == ["0 frames", "1 frame", "2 frames"]
