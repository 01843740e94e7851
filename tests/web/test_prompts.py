"""Clicks, boxes and objects on the page, and taking them back."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import Studio, distance

X, Y = CLICK
NEAR = (X + 22, Y + 14)
"""In the ball, beside the mark of the click."""
FAR = (520.0, 60.0)
"""In the meadow."""


def opened(studio: Studio, clip: Path) -> Studio:
    """The first frames of the ball clip."""
    studio.upload(clip, max_frames=16)
    return studio


def test_a_click_shows_the_mask_at_once(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    expect(studio.page.locator("#hint")).to_contain_text("Click what you want to follow")
    ball, meadow = studio.pixel(*NEAR), studio.pixel(*FAR)
    started = time.perf_counter()
    studio.click(X, Y)
    took = time.perf_counter() - started
    print(f"click to mask on screen: {took * 1000:.0f} ms")
    assert studio.objects == ["object 1"]
    assert distance(studio.pixel(*NEAR), ball) > 25
    assert distance(studio.pixel(*FAR), meadow) < 5
    studio.press("v")
    studio.idle()
    assert distance(studio.pixel(*NEAR), ball) < 5, "hidden"
    assert studio.prompts() == [{"object_id": 1, "frame_idx": 0, "points": [[X, Y]], "labels": [1], "box": None, "mask": False}]


def test_what_takes_away_is_sent_as_such(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    studio.click(X, Y)
    studio.click(500, 80, button="right")
    studio.click(520, 90, modifiers=["Shift"])
    studio.page.locator("#mode-remove").click()
    studio.click(540, 100)
    (prompt,) = studio.prompts()
    assert prompt["labels"] == [1, 0, 0, 0]
    assert all(abs(x - want) < 1.5 for (x, _), want in zip(prompt["points"], (X, 500, 520, 540), strict=True))


def test_a_drag_is_a_box_and_every_step_can_be_undone(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    studio.drag(X - 50, Y - 50, X + 50, Y + 50)
    (prompt,) = studio.prompts()
    assert all(abs(side - want) < 2 for side, want in zip(prompt["box"], (X - 50, Y - 50, X + 50, Y + 50), strict=True))
    studio.click(X, Y)
    studio.press("n")
    expect(studio.page.locator("#objects .draft")).to_be_visible()
    studio.click(400, 100)
    assert studio.objects == ["object 1", "object 2"]
    for left in (1, 1, 0):
        studio.page.locator("#undo").click()
        studio.idle()
        assert len(studio.prompts()) == left
    assert studio.objects == []
    expect(studio.page.locator("#undo")).to_be_disabled()
    for _ in range(3):
        studio.press("Control+Shift+Z")
    studio.idle()
    prompts = studio.prompts()
    assert [found["object_id"] for found in prompts] == [1, 2]
    assert prompts[0]["box"] is not None and len(prompts[0]["points"]) == 1
    assert studio.objects == ["object 1", "object 2"]


def test_undo_gives_back_the_very_masks_with_their_tracks_also_after_a_reload(studio: Studio, video: VideoSession) -> None:
    def stored() -> list[object]:
        return [video.client.call("GET", f"/sessions/{video.session_id}/masks/{frame}?mask_format=rle")["objects"]
                for frame in range(6)]

    video.add_object(points=[[X, Y]])
    list(video.propagate(end_frame=5))
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    before = stored()
    studio.click(X + 20, Y + 10)
    studio.click(520, 90, button="right")
    clicked = stored()
    assert clicked != before
    studio.press("Delete")
    studio.idle()
    assert studio.objects == []
    studio.page.reload()
    studio.shown(0)
    expect(studio.page.locator("#undo")).to_have_attribute("title", "Undo removal of an object (Ctrl+Z)")
    studio.press("Control+z")
    studio.idle()
    assert stored() == clicked
    studio.press("Control+z", "Control+z")
    studio.idle()
    assert stored() == before and studio.objects == ["object 1"]
    expect(studio.page.locator("#objects .score")).not_to_be_empty()
    studio.press("Control+Shift+Z", "Control+Shift+Z")
    studio.idle()
    assert stored() == clicked


def test_quick_clicks_on_a_new_object_are_one_object(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    for x, y in ((X, Y), (X + 10, Y), (X, Y + 10)):
        px, py = studio.on_canvas(x, y)
        studio.page.locator("#canvas").click(position={"x": px, "y": py})
    studio.idle()
    (prompt,) = studio.prompts()
    assert len(prompt["points"]) == 3


def test_objects_are_named_coloured_removed_and_brought_back(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    studio.click(X, Y)
    studio.press("F2")
    studio.page.keyboard.type("ball")
    studio.press("Enter")
    studio.idle()
    studio.page.locator("#objects input[type=color]").evaluate(
        "(field) => { field.value = '#12ab34'; field.dispatchEvent(new Event('change')); }")
    studio.idle()
    studio.page.locator("#objects").get_by_label("More about ball").click()
    studio.page.get_by_role("group", name="ball").get_by_role("button", name="Remove").click()
    studio.idle()
    assert studio.objects == [] and studio.prompts() == []
    studio.press("Control+z")
    studio.idle()
    assert studio.objects == ["ball"]
    assert studio.page.locator("#objects input[type=color]").input_value() == "#12ab34"
    studio.page.reload()
    studio.shown(0)
    expect(studio.page.locator("#objects input.name")).to_have_value("ball")
    studio.press("Control+Shift+Z")
    studio.idle()
    assert studio.objects == [], "also after a reload"


def test_a_prompt_that_the_service_refuses_is_said_in_words(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    studio.click(X, Y, button="right")
    expect(studio.page.locator(".toast.failed")).to_contain_text("Click the object first")
    assert studio.objects == []
    studio.click(X, Y)
    assert studio.objects == ["object 1"], "the page goes on"


def test_a_click_hits_the_same_pixel_when_zoomed(studio: Studio, clip: Path) -> None:
    opened(studio, clip)
    px, py = studio.on_canvas(X, Y)
    box = studio.page.locator("#canvas").bounding_box()
    assert box is not None
    studio.page.mouse.move(box["x"] + px, box["y"] + py)
    for _ in range(4):
        studio.page.mouse.wheel(0, -120)
    expect(studio.page.locator("#zoom-label")).not_to_have_text("155%")
    studio.page.locator("#canvas").click(position={"x": px, "y": py})
    studio.idle()
    (prompt,) = studio.prompts()
    assert abs(prompt["points"][0][0] - X) < 1 and abs(prompt["points"][0][1] - Y) < 1
    studio.press("h")
    studio.drag(X, Y, X + 100, Y)
    studio.press("0")
    assert len(studio.prompts()[0]["points"]) == 1, "moving the picture is no prompt"
