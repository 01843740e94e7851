"""The words on the page are those of a person, not of the API."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sam_service

from tests.web.studio import Studio

PAGE = (Path(sam_service.__file__).parent / "web" / "index.html").read_text()


@pytest.mark.parametrize(("problem", "words"), [
    ({"code": "path_outside", "detail": "`video_path` lies outside"}, "That file is not in the server's video folder."),
    ({"code": "invalid_input", "detail": "start_frame: 99 is behind `end_frame`"}, "first frame: 99 is behind last frame"),
    ({"code": "upload_too_large", "detail": "an upload may have at most 5 MiB (MAX_UPLOAD_MB)"},
     "an upload may have at most 5 MiB"),
    ({"title": "Conflict"}, "Conflict"),
    ({}, "nothing"),
])
def test_problems_are_said_in_words_of_the_page(studio: Studio, problem: dict[str, str], words: str) -> None:
    studio.start()
    assert studio.page.evaluate(
        """async (problem) => (await import("/studio/words.js")).inWords(problem, "nothing")""", problem) == words


def test_the_page_has_no_words_of_the_api() -> None:
    shown = re.sub(r"<[^>]*>", " ", PAGE) + " ".join(re.findall(r'(?:title|aria-label|placeholder)="([^"]*)"', PAGE))
    for word in ("takes away", "video_path", "propagat", "weak", "absent", "SAM2_", "of the session"):
        assert word not in shown, word
