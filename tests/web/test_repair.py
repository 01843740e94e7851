"""Repair on the frame: points and boxes are moved and removed, a mask is painted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK, ball_centre

from tests.web.studio import Studio

X, Y = CLICK


def near(found: list[float], wanted: tuple[float, ...], px: float = 2.0) -> bool:
    """Whether numbers are within some pixels of others."""
    return all(abs(value - want) < px for value, want in zip(found, wanted, strict=True))


def mask_on(video: VideoSession, frame: int) -> NDArray[np.bool_]:
    """The first object's mask on a frame, as the service holds it: bool (H, W)."""
    found: NDArray[np.bool_] = video.masks(frame).masks[1].mask
    return found


@pytest.fixture
def boxed(studio: Studio, video: VideoSession) -> Studio:
    """The ball in a box, with a point in it and one in the meadow that removes."""
    video.add_object(points=[[X, Y], [500, 80]], labels=[1, 0], box=[X - 60, Y - 60, X + 60, Y + 60])
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(1)
    return studio


def test_a_click_on_a_point_removes_it_and_undo_brings_it_back(boxed: Studio) -> None:
    boxed.click(500, 80)
    (prompt,) = boxed.prompts()
    assert prompt["labels"] == [1] and prompt["box"] is not None
    boxed.press("Control+z")
    boxed.idle()
    assert boxed.prompts()[0]["labels"] == [1, 0]


def test_points_and_edges_are_dragged(boxed: Studio) -> None:
    boxed.drag(500, 80, 530, 100)
    assert near(boxed.prompts()[0]["points"][1], (530, 100))
    boxed.drag(X + 60, Y, X + 90, Y + 10)
    assert near(boxed.prompts()[0]["box"], (X - 60, Y - 60, X + 90, Y + 60)), "the right edge alone"
    boxed.drag(X - 60, Y - 60, X - 55, Y - 50)
    (prompt,) = boxed.prompts()
    assert near(prompt["box"], (X - 55, Y - 50, X + 90, Y + 60)), "a corner"
    assert len(prompt["points"]) == 2


def test_the_box_is_removed_by_its_cross_and_the_frame_is_cleared_by_a_key(boxed: Studio) -> None:
    corner = boxed.on_canvas(X + 60, Y - 60)
    boxed.page.locator("#canvas").click(position={"x": corner[0] + 11, "y": corner[1] - 11})
    boxed.idle()
    (prompt,) = boxed.prompts()
    assert prompt["box"] is None and len(prompt["points"]) == 2
    boxed.press("k")
    boxed.idle()
    assert boxed.prompts() == [] and boxed.objects == ["object 1"]
    boxed.press("k")
    expect(boxed.page.locator(".toast")).to_contain_text("no click, box or mask on this frame")


def test_a_point_is_removed_by_the_keyboard(boxed: Studio) -> None:
    boxed.press("x")
    width, height = boxed.frame_size()
    boxed.press(*["ArrowRight"] * round((500 - width / 2) / 4), *["ArrowUp"] * round((height / 2 - 80) / 4))
    boxed.press("Enter")
    boxed.idle()
    assert boxed.prompts()[0]["labels"] == [1]


def test_brush_and_eraser_paint_the_mask(studio: Studio, video: VideoSession) -> None:
    studio.open(video.session_id)
    studio.press("p")
    studio.page.locator("#brush-size").fill("60")
    studio.drag(300, 100, 400, 100)
    (prompt,) = studio.prompts()
    assert prompt["mask"] and studio.objects == ["object 1"]
    painted = mask_on(video, 0)
    assert painted[100, 300:400].all() and painted[75:125, 350].all()
    assert not painted[:60].any() and not painted[:, :255].any()
    studio.press("q")
    studio.page.locator("#brush-size").fill("30")
    studio.drag(350, 60, 350, 140)
    erased = mask_on(video, 0)
    assert not erased[75:125, 340:360].any() and erased[100, 310] and erased[100, 390]
    studio.page.locator("#brush-size").fill("120")
    studio.drag(260, 100, 440, 100)
    expect(studio.page.locator(".toast")).to_contain_text("Nothing of the mask would be left")
    assert (mask_on(video, 0) == erased).all()


def test_a_correction_on_a_later_frame_by_brush_is_tracked_on(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[[X, Y]])
    list(video.propagate())
    before = mask_on(video, 16)
    studio.open(video.session_id, 12)
    expect(studio.page.locator("#objects .score")).not_to_be_empty()
    x, y = ball_centre(12)
    studio.press("p")
    studio.drag(x, y - 40, x, y + 40)
    assert [prompt["frame_idx"] for prompt in studio.prompts() if prompt["mask"]] == [12]
    studio.press("f")
    assert studio.tracked().startswith("12 frames in ")
    bx, by = (round(value) for value in ball_centre(16))
    assert mask_on(video, 16)[by, bx] and before[by, bx]
