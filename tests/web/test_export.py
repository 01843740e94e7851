"""The export dialog: what the browser downloads is the whole file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK
from sam_service.export.formats import FORMATS

from tests.web.studio import Studio, distance


@pytest.fixture
def tracked(video: VideoSession) -> VideoSession:
    """Two objects, the first with masks on frames 0 to 3."""
    video.add_object(points=[list(CLICK)])
    list(video.propagate(end_frame=3))
    video.add_object(points=[[500, 80]])
    return video


def download(studio: Studio, format_name: str, folder: Path) -> Path:
    """Export in a format by the dialog."""
    studio.press("e")
    studio.page.locator(f"#export-formats [value='{format_name}']").check()
    with studio.page.expect_download() as waiting:
        studio.page.locator("#export-go").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    expect(studio.page.locator("#export-dialog")).to_be_hidden()
    return path


def test_files_are_downloaded_and_open(studio: Studio, tracked: VideoSession, tmp_path: Path) -> None:
    studio.open(tracked.session_id)
    expect(studio.page.locator("#objects input.name")).to_have_count(2)
    studio.press("2", "v", "i", ".", ".", ".", "o")
    studio.shown(3)
    coco = json.loads(download(studio, "coco", tmp_path).read_bytes())
    assert [annotation["category_id"] for annotation in coco["annotations"]] == [1] * 4, "the hidden object is left out"
    davis = download(studio, "davis", tmp_path)
    with zipfile.ZipFile(davis) as archive:
        assert archive.testzip() is None
        assert len([name for name in archive.namelist() if name.endswith(".png")]) == 4
    reader = cv2.VideoCapture(str(download(studio, "webm", tmp_path)))
    frames = 0
    while reader.read()[0]:
        frames += 1
    assert frames == 4
    assert davis.name.startswith("ball"), "named after the video"


def test_the_dialog_offers_the_formats_of_the_service(studio: Studio, tracked: VideoSession, tmp_path: Path) -> None:
    studio.open(tracked.session_id)
    expect(studio.page.locator("#objects input.name")).to_have_count(2)
    studio.press("e")
    expect(studio.page.locator("#export-formats input")).to_have_count(len(FORMATS))
    for name, form in FORMATS.items():
        choice = studio.page.locator(f"#export-formats label:has([value='{name}'])")
        expect(choice).to_contain_text(form.title)
        expect(choice).to_contain_text(form.description)
        choice.locator("input").check()
        for option in ("images", "feather", "segmentation", "look", "opacity"):
            expect(studio.page.locator(f"#export-form [name={option}]")).to_be_visible(visible=option in form.takes)
    studio.page.locator("#export-formats [value='coco']").check()
    studio.page.locator("[name=segmentation]").check()
    studio.page.locator("#export-close").click()
    coco = json.loads(download(studio, "coco", tmp_path).read_bytes())
    assert all(isinstance(annotation["segmentation"], list) for annotation in coco["annotations"])


def test_what_cannot_be_exported_is_said_in_the_dialog(studio: Studio, tracked: VideoSession) -> None:
    studio.open(tracked.session_id)
    expect(studio.page.locator("#objects input.name")).to_have_count(2)
    studio.press("e")
    for box in studio.page.locator("#export-objects input").all():
        box.uncheck()
    studio.page.locator("#export-go").click()
    expect(studio.page.locator("#export-error")).to_contain_text("at least one object")
    studio.page.locator("#export-objects input").first.check()
    studio.page.fill("[name=start_frame] >> visible=true", "3")
    studio.page.fill("[name=end_frame]", "1")
    studio.page.locator("#export-go").click()
    expect(studio.page.locator("#export-error")).to_contain_text("frame")
    studio.page.locator("#export-close").click()
    expect(studio.page.locator("#export-dialog")).to_be_hidden()


def test_a_look_on_the_page_is_that_of_the_export(studio: Studio, tracked: VideoSession, tmp_path: Path) -> None:
    studio.open(tracked.session_id)
    expect(studio.page.locator("#objects input.name")).to_have_count(2)
    studio.press("2", "v")
    studio.idle()
    x, y = CLICK
    tinted, meadow = studio.pixel(x + 20, y + 14), studio.pixel(30, 330)
    studio.page.locator("#look-open").click()
    studio.page.get_by_role("radio", name="Spotlight").check()
    studio.idle()
    ball = studio.pixel(x + 20, y + 14)
    assert distance(ball, tinted) > 25, "without its tint"
    assert sum(studio.pixel(30, 330)) < 0.5 * sum(meadow), "dark outside"
    studio.page.get_by_role("radio", name="Cut out").check()
    studio.idle()
    assert distance(studio.pixel(x + 20, y + 14), ball) < 5 and max(studio.pixel(30, 330)) - min(studio.pixel(30, 330)) < 20
    studio.page.get_by_role("radio", name="Spotlight").check()
    studio.page.get_by_label("Show points and boxes").uncheck()
    studio.idle()
    assert distance(studio.pixel(x, y), (255, 255, 255)) > 40, "no mark"
    studio.press("Escape")
    studio.page.reload()
    studio.shown(0)
    studio.press("2", "v", "e")
    expect(studio.page.locator("[name=look]")).to_have_value("spotlight")
    preview = "document.getElementById('export-picture').getContext('2d').getImageData(18, 198, 1, 1).data.slice(0, 3)"
    studio.page.locator("#export-formats [value='mp4']").check()
    assert sum(studio.page.evaluate(f"[...{preview}]")) < 0.5 * sum(meadow)
    with studio.page.expect_download() as waiting:
        studio.page.locator("#export-go").click()
    waiting.value.save_as(tmp_path / "spotlight.mp4")
    read, frame = cv2.VideoCapture(str(tmp_path / "spotlight.mp4")).read()
    assert read and frame[330, 30].sum() < 0.5 * sum(meadow)
