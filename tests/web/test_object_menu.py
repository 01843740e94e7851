"""What is done with whole objects: lock, order, merge, "not in the frame from here", start over. All of it can be undone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import Studio

X, Y = CLICK


@pytest.fixture
def two(studio: Studio, video: VideoSession) -> Studio:
    """The ball and a piece of meadow, tracked over six frames."""
    video.add_object(points=[[X, Y]], name="ball")
    video.add_object(points=[[500, 80]], name="meadow")
    list(video.propagate(end_frame=5))
    studio.open(video.session_id)
    expect(studio.page.locator("#objects .object")).to_have_count(2)
    return studio


def choose(studio: Studio, name: str, act: str) -> None:
    """Press a button in an object's menu and wait for the answer."""
    studio.page.get_by_label(f"More about {name}").click()
    studio.page.get_by_role("group", name=name).get_by_role("button", name=act).click()
    studio.idle()


def undo(studio: Studio) -> None:
    """Take the last step back and wait for the answer."""
    studio.press("Control+z")
    studio.idle()


def test_a_locked_object_is_left_as_it_is(two: Studio, video: VideoSession) -> None:
    before = [video.masks(frame).masks[1].rle for frame in range(6)]
    more = two.page.get_by_label("More about meadow").bounding_box()
    two.page.get_by_label("More about meadow").click()
    panel = two.page.get_by_role("group", name="meadow").bounding_box()
    assert more is not None and panel is not None
    assert abs(panel["x"] + panel["width"] - more["x"] - more["width"]) < 2, "the menu opens at its row"
    two.press("Escape")
    choose(two, "ball", "Lock")
    expect(two.page.locator("#objects .lock")).to_have_count(1)
    two.click(X + 20, Y)
    expect(two.page.locator(".toast.failed")).to_contain_text("This object is locked. Unlock it in its menu first.")
    two.press("t")
    assert two.tracked().startswith("24 frames in ")
    assert [video.masks(frame).masks[1].rle for frame in range(6)] == before
    assert set(video.tracks()[1].frames) == set(range(6)) and len(video.tracks()[2].frames) == 24
    choose(two, "ball", "Unlock")
    expect(two.page.locator("#objects .lock")).to_have_count(0)


def test_objects_are_ordered_and_merged(two: Studio, video: VideoSession) -> None:
    choose(two, "meadow", "Move up")
    assert two.objects == ["meadow", "ball"]
    undo(two)
    assert two.objects == ["ball", "meadow"]
    apart = [video.masks(3).masks[number].mask for number in (1, 2)]
    two.page.get_by_label("More about meadow").click()
    two.page.get_by_label("Merge into another object").select_option(label="ball")
    two.idle()
    assert two.objects == ["ball"]
    assert (video.masks(3).masks[1].mask == (apart[0] | apart[1])).all()
    undo(two)
    assert two.objects == ["ball", "meadow"]
    assert (video.masks(3).masks[1].mask == apart[0]).all()


def test_an_object_leaves_the_frame_from_here(two: Studio, video: VideoSession) -> None:
    two.press("1", ".", ".", ".")
    two.shown(3)
    two.press("m")
    two.idle()
    expect(two.page.locator("#objects [data-object='1'] .score")).to_have_text("not in frame")
    assert [bool(video.masks(frame).masks[1].area) for frame in range(6)] == [True] * 3 + [False] * 3
    assert video.masks(4).masks[2].area, "the other one stays"
    undo(two)
    assert video.masks(4).masks[1].area


def test_starting_over_removes_all_and_can_be_undone(two: Studio, video: VideoSession) -> None:
    two.page.locator("#start-over").click()
    two.idle()
    assert two.objects == []
    expect(two.page.locator("#start-over")).to_be_disabled()
    undo(two)
    assert two.objects == ["ball", "meadow"]
    assert len(video.tracks()[1].frames) == 6
