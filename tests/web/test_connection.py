"""What goes wrong around the page: the service restarts, wants a key, refuses a file, forgets a session."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.support import settings
from tests.web.conftest import OpenStudio
from tests.web.studio import Studio


def test_a_restart_under_the_page_loses_nothing(open_studio: OpenStudio, clip: Path, tmp_path: Path, unused_port: int) -> None:
    with local_service(settings(), port=unused_port, data_dir=tmp_path) as url:
        with SamClient(url) as client:
            client.wait_ready()
        studio = open_studio(url)
        studio.upload(clip, max_frames=20)
        studio.click(*CLICK)
        studio.press("t")
        expect(studio.page.locator("#tracking-facts")).to_contain_text("left")
    expect(studio.page.locator("#offline")).to_be_visible()
    expect(studio.page.locator("#offline")).to_contain_text("Trying again")
    px, py = studio.on_canvas(500, 80)
    studio.page.locator("#canvas").click(position={"x": px, "y": py})
    expect(studio.page.locator(".toast.failed")).to_contain_text("Your click is kept")
    with local_service(settings(), port=unused_port, data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        expect(studio.page.locator("#offline")).to_be_hidden()
        assert studio.objects == ["object 1"]
        assert "frames in" in studio.tracked(), "the propagation went on where it was"
        assert len(client.call("GET", f"/sessions/{studio.session_id}")["frames_with_masks"]) == 20
        studio.idle()
        assert sum(len(prompt["points"]) for prompt in studio.prompts()) == 2, "the click arrived once"
        studio.page.reload()
        expect(studio.page.locator("#objects input.name")).to_have_value("object 1")


def test_a_service_with_a_key_asks_for_it_once(open_studio: OpenStudio, clip: Path) -> None:
    with local_service(settings(sam2_api_key="open sesame")) as url:
        with SamClient(url) as client:
            client.wait_ready()
        studio = open_studio(url)
        studio.start()
        studio.page.fill("#key", "wrong")
        studio.press("Enter")
        expect(studio.page.locator("#key-error")).to_be_visible()
        studio.page.fill("#key", "open sesame")
        studio.press("Enter")
        expect(studio.page.locator("#key-dialog")).to_be_hidden()
        studio.page.locator("details summary").click()
        studio.page.fill("[name=max_frames]", "3")
        studio.page.set_input_files("#file", clip)
        studio.shown(0)
        studio.click(*CLICK)
        studio.press("t")
        assert "frames in" in studio.tracked(), "the events come as well"
        studio.page.reload()
        expect(studio.page.locator("#objects input.name")).to_have_count(1)
        expect(studio.page.locator("#key-dialog")).to_be_hidden()


def test_what_is_no_video_is_said_in_words(studio: Studio, tmp_path: Path) -> None:
    studio.start()
    wrong = tmp_path / "letter.mp4"
    wrong.write_text("Dear Sir or Madam,\n" * 50)
    studio.page.set_input_files("#file", wrong)
    expect(studio.page.locator("#opening-error")).to_contain_text("not one of the accepted containers")
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(6 << 20))
    studio.page.set_input_files("#file", large)
    expect(studio.page.locator("#opening-error")).to_contain_text("at most 5 MiB")
    expect(studio.page.locator("#drop")).to_be_visible()


def test_a_path_in_the_video_folder_is_opened_and_listed(studio: Studio, clip: Path) -> None:
    studio.start()
    studio.page.locator("details summary").click()
    studio.page.fill("[name=video_path]", "../nothing.mp4")
    studio.press("Enter")
    expect(studio.page.locator("#opening-error")).to_have_text("That file is not in the server's video folder.")
    studio.page.fill("[name=video_path]", clip.name)
    studio.page.fill("[name=max_frames]", "4")
    studio.press("Enter")
    studio.shown(0)
    session_id = studio.session_id
    studio.page.locator("#home").click()
    studio.page.locator(f"#sessions a[href$='{session_id}']").click()
    studio.shown(0)
    studio.page.locator("#home").click()
    row = studio.page.locator(f"#sessions li:has(a[href$='{session_id}'])")
    row.get_by_role("button", name=f"Delete {clip.name}", exact=True).click()
    row.get_by_role("button", name=f"Really delete {clip.name}").dispatch_event("click")
    expect(row).to_have_count(0)


def test_an_unknown_session_leads_back_to_the_start(studio: Studio) -> None:
    studio.page.goto(f"{studio.url}/#session={'0' * 32}")
    expect(studio.page.locator(".toast.failed")).to_contain_text("no such session")
    expect(studio.page.locator("#start")).to_be_visible()
    expect(studio.page.locator("#start-model")).to_contain_text("nano")
    expect(studio.page.locator("#model-words")).to_have_text("Fast trial model. Better masks: how")
    studio.page.locator("#model").click()
    expect(studio.page.locator("#model-note")).to_contain_text("SAM2_MODEL_SIZE")
