"""The page for everyone: radios by arrow keys, names, targets for fingers, borders, less motion, and a whole job by roles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import COLOURS, WAIT_MS, Studio

SMALL = """() => [...document.querySelectorAll("button, select, summary, a[href], input, [role=slider]")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.matches(".unseen, .skip"))
  .map((element) => [element, element.closest("label") ?? element])
  .filter(([, target]) => {
    const { width, height } = target.getBoundingClientRect();
    return width < 43.5 || height < 43.5;
  }).map(([element, target]) => `${element.outerHTML.slice(0, 70)} ${JSON.stringify(target.getBoundingClientRect())}`)"""
BORDERS = "() => {" + COLOURS + """
  const ratio = (one, two) => {
    const [a, b] = [light(one), light(two)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  return [...document.querySelectorAll("button, select, input[type=number], input[type=text], .drop, .formats label")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled)
    .map((element) => [element, getComputedStyle(element)])
    .filter(([, { borderTopWidth: width, borderTopColor: color }]) => parseFloat(width) && numbers(color)[3] !== 0)
    .map(([element, style]) => [element, Math.max(ratio(numbers(style.borderTopColor), ground(element.parentElement)),
      ratio(ground(element), ground(element.parentElement)))])
    .filter(([, found]) => found < 3).map(([element, found]) => `${element.outerHTML.slice(0, 80)} ${found}`);
}"""
MOVING = """() => [...document.querySelectorAll("body *")].filter((element) => {
  const { transitionDuration: turn, animationName: name } = getComputedStyle(element);
  return turn.split(",").some((time) => parseFloat(time) > 0) || name !== "none";
}).map((element) => element.outerHTML.slice(0, 80))"""


def test_arrow_keys_choose_what_a_click_does(studio: Studio, video: VideoSession) -> None:
    studio.open(video.session_id)
    studio.page.locator("#mode-add").focus()
    studio.press("ArrowRight")
    expect(studio.page.get_by_role("radio", name="Remove", exact=True)).to_be_focused()
    expect(studio.page.get_by_role("radio", name="Remove", exact=True)).to_be_checked()
    studio.press("ArrowLeft", "ArrowLeft")
    expect(studio.page.get_by_role("radio", name="Eraser")).to_be_checked()
    assert studio.page.locator("#modes [tabindex='0']").count() == 1, "one stop for Tab"
    studio.shown(0)


def test_names_are_words_without_letters_of_keys(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    for name in ("Export", "New", "Whole clip", "Back", "Forward", "Start here", "End here"):
        expect(studio.page.get_by_role("button", name=name, exact=True)).to_have_count(1)


def test_the_skip_link_leads_to_the_picture(studio: Studio, video: VideoSession) -> None:
    studio.open(video.session_id)
    studio.page.locator("#skip").focus()
    expect(studio.page.locator("#skip")).to_be_in_viewport()
    studio.press("Enter")
    expect(studio.page.locator("#canvas")).to_be_focused()
    assert "session=" in studio.page.evaluate("location.hash")


@pytest.mark.parametrize("screen", [
    {"viewport": {"width": 1024, "height": 768}}, {"viewport": {"width": 390, "height": 844}, "is_mobile": True}],
    ids=["tablet", "phone"])
def test_everything_is_large_enough_for_fingers(browser: Browser, service: str, video: VideoSession,
                                                screen: dict[str, Any]) -> None:
    context = browser.new_context(has_touch=True, reduced_motion="reduce", **screen)
    context.set_default_timeout(WAIT_MS)
    studio = Studio(context.new_page(), service)
    video.add_object(points=[list(CLICK)])
    studio.start()
    expect(studio.page.locator("#sessions li").first).to_be_visible()
    assert studio.page.evaluate(SMALL) == []
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    assert studio.page.evaluate(SMALL) == []
    assert studio.page.evaluate(MOVING) == [], "nothing moves where less motion is wanted"
    context.close()


def test_borders_are_seen(studio: Studio, video: VideoSession) -> None:
    studio.start()
    for _ in range(2):
        assert studio.page.evaluate(BORDERS) == []
        studio.page.locator("#theme").click()
    studio.open(video.session_id)
    for _ in range(2):
        assert studio.page.evaluate(BORDERS) == []
        studio.page.locator("#theme").click()


def test_a_whole_job_by_roles_and_keys(studio: Studio, clip: Path, tmp_path: Path) -> None:
    """What a screen reader has: roles, names and the live region, and a keyboard."""
    studio.start()
    page, said = studio.page, studio.page.get_by_role("status").filter(has_text=re.compile("."))
    page.get_by_text("Open from the server").press("Enter")
    page.get_by_role("spinbutton", name="Frames at most").fill("8")
    page.get_by_label("Drop a video here").set_input_files(clip)
    picture = page.get_by_role("img", name="Frame 0. Press X for a crosshair that the arrow keys move.")
    expect(picture).to_be_focused()
    expect(said.first).to_have_text("ball.mp4, 8 frames, 0 objects")
    picture.press("x")
    expect(said.first).to_have_text("Crosshair on; the arrow keys move it, Enter clicks")
    width, height = studio.frame_size()
    studio.press(*["Shift+ArrowLeft"] * round((width / 2 - CLICK[0]) / 32), *["ArrowDown"] * round((CLICK[1] - height / 2) / 4))
    studio.press("Enter")
    expect(said.first).to_have_text(re.compile(r"^object 1: \d+ pixels, (good|check)$"))
    expect(page.get_by_role("list", name="Objects").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("textbox", name="Name of object 1").fill("ball")
    studio.press("Enter")
    page.get_by_role("button", name="Whole clip").press("Enter")
    expect(said.first).to_have_text(re.compile("^8 frames in "))
    expect(page.get_by_role("slider", name="Playhead")).to_have_attribute("aria-valuetext", "frame 0, of 0 to 7")
    page.get_by_role("button", name="Export", exact=True).press("Enter")
    dialog = page.get_by_role("dialog", name="Export")
    dialog.get_by_role("radio", name=re.compile("^COCO")).check()
    expect(dialog.get_by_role("checkbox", name="ball")).to_be_checked()
    expect(dialog.get_by_role("status").first).to_have_text("8 of 8 frames tracked.")
    with page.expect_download() as waiting:
        dialog.get_by_role("button", name="Export").press("Enter")
    waiting.value.save_as(tmp_path / "ball.json")
    assert json.loads((tmp_path / "ball.json").read_text())["categories"][0]["name"] == "ball"
    page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", studio.session_id)
    expect(page.get_by_role("heading", name="Follow an object through a video")).to_be_visible()
