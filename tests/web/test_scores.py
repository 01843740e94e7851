"""Scores in words: the limits, and which frame a person should look at first."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import Studio


def test_words_stand_for_scores_by_the_limits(studio: Studio) -> None:
    studio.start()
    masks = [(0.5, 0.9, 7), (0.44, 0.5, 7), (0.3, 0.9, 7), (0.29, 0.9, 7), (0.9, 0.49, 7), (0.9, 0.9, 0)]
    found = studio.page.evaluate(
        """async (masks) => {
          const { verdict } = await import("/studio/tracks.js");
          return masks.map(([score, inFrame, area]) =>
            verdict({ score: [score], object_score: [inFrame], area: [area] }, 0));
        }""", masks)
    assert found == ["good", "check", "check", "lost", "gone", "gone"]


def test_the_worst_frame_of_each_stretch_comes_worst_first(studio: Studio) -> None:
    studio.start()
    scores = [0.9, 0.45, 0.4, 0.9, 0.2, 0.1, 0.25, 0.9, 0.9, 0.35]
    here = [1.0] * 7 + [1.0, 0.1, 0.1]
    found = studio.page.evaluate(
        """async ([score, object_score]) => {
          const { weakFrames } = await import("/studio/tracks.js");
          return weakFrames([{ score, object_score, area: score.map(() => 9) }]);
        }""", [scores, here])
    assert found == [5, 2, 8], "a lost stretch, one to check, then the frame that the object leaves in"


def test_the_list_shows_a_word_and_the_number_on_hover(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    list(video.propagate(end_frame=1))
    studio.open(video.session_id)
    cell = studio.page.locator("#objects .score")
    expect(cell).to_have_text(re.compile("^(good|check|lost|not in frame)$"))
    expect(cell).to_have_attribute("title", re.compile(r"^Mask score \d\.\d\d of 1, in the frame \d\.\d\d of 1, \d+ pixels$"))


def test_w_goes_to_the_worst_frame_first(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])

    def lowered(route: Route) -> None:
        """Scores of a worse model: the two bad stretches are where the test can name them."""
        answer = route.fetch()
        found = answer.json()
        for track in found["objects"]:
            track["frames"], track["score"] = list(range(24)), [0.9] * 24
            track["score"][4:6], track["score"][15:18] = [0.45, 0.4], [0.2, 0.1, 0.25]
            track["object_score"], track["area"] = [0.9] * 24, [900] * 24
        route.fulfill(response=answer, json=found)

    studio.page.route("**/tracks", lowered)
    studio.open(video.session_id)
    expect(studio.page.locator("#weak-label")).to_have_text("2 to check")
    for frame in (16, 5, 16):
        studio.press("w")
        studio.shown(frame)
    studio.press("Shift+W")
    studio.shown(5)
