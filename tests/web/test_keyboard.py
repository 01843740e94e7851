"""The page without a mouse, for a screen reader, and with fingers."""

from __future__ import annotations

from playwright.sync_api import Browser, expect
from sam_service.client import VideoSession
from sam_service.demo_clip import CLICK

from tests.web.studio import COLOURS, Studio

NAMELESS = """() => [...document.querySelectorAll("button, input, select, a, [role=slider], canvas[tabindex]")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }))
  .filter((element) => !(element.ariaLabel || element.getAttribute("aria-label") ||
    element.innerText?.trim() || element.labels?.length || element.title))
  .map((element) => element.outerHTML.slice(0, 120))"""
CONTRAST = "() => {" + COLOURS + """
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => !element.disabled && !element.closest(":disabled") &&
      [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
      return [element.innerText.slice(0, 40), Math.round((a + 0.05) / (b + 0.05) * 10) / 10];
    }).filter(([, ratio]) => ratio < 4.5);
}"""


def test_the_whole_flow_by_keyboard(studio: Studio, video: VideoSession) -> None:
    studio.open(video.session_id)
    studio.press("x")
    width, height = studio.frame_size()
    for key, far, near in (("ArrowLeft", (width / 2 - CLICK[0]) // 32, (width / 2 - CLICK[0]) % 32 // 4),
                           ("ArrowDown", (CLICK[1] - height / 2) // 32, (CLICK[1] - height / 2) % 32 // 4)):
        studio.press(*[f"Shift+{key}"] * int(far), *[key] * int(near))
    studio.press("Enter")
    studio.idle()
    (prompt,) = studio.prompts()
    assert all(abs(value - want) <= 4 for value, want in zip(prompt["points"][0], CLICK, strict=True))
    studio.press("Shift+ArrowUp", "Shift+ArrowUp", "Shift+ArrowUp", "Shift+Enter")
    studio.idle()
    assert studio.prompts()[0]["labels"] == [1, 0]
    studio.press("n", "c", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp", "c")
    studio.idle()
    assert studio.prompts()[1]["box"] is not None
    studio.press("Control+z")
    studio.idle()
    assert len(studio.prompts()) == 1
    studio.press("x", "ArrowRight", "Shift+ArrowRight", "End", ",", "ArrowLeft")
    studio.shown(21)
    studio.press("f")
    assert studio.tracked().startswith("3 frames in ")
    studio.press("Home", ".")
    studio.shown(1)
    studio.press("b")
    assert studio.tracked().startswith("2 frames in ")
    studio.press("?")
    expect(studio.page.locator("#help-dialog")).to_be_visible()
    studio.press("n")
    expect(studio.page.locator("#objects .draft")).to_have_count(0)
    studio.press("Escape")
    expect(studio.page.locator("#help-dialog")).to_be_hidden()


def test_everything_has_a_name_and_enough_contrast(studio: Studio, video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    studio.start()
    expect(studio.page.locator("#sessions li").first).to_be_visible()
    for theme in ("dark", "light"):
        assert studio.page.evaluate("document.documentElement.dataset.theme || 'dark'") == theme
        assert studio.page.evaluate(NAMELESS) == []
        assert studio.page.evaluate(CONTRAST) == [], theme
        studio.page.locator("#theme").click()
    studio.open(video.session_id)
    for theme in ("dark", "light"):
        assert studio.page.evaluate("document.documentElement.dataset.theme") == theme
        assert studio.page.evaluate(NAMELESS) == []
        assert studio.page.evaluate(CONTRAST) == [], theme
        studio.page.locator("#theme").click()


def test_fingers_on_a_tablet(browser: Browser, service: str, video: VideoSession) -> None:
    context = browser.new_context(viewport={"width": 820, "height": 1180}, has_touch=True)
    studio = Studio(context.new_page(), service)
    studio.open(video.session_id)
    box = studio.page.locator("#canvas").bounding_box()
    assert box is not None
    tap = studio.page.touchscreen.tap
    width, height = video.width, video.height
    scale = min(box["width"] / width, box["height"] / height)
    left, top = box["x"] + (box["width"] - width * scale) / 2, box["y"] + (box["height"] - height * scale) / 2
    tap(left + CLICK[0] * scale, top + CLICK[1] * scale)
    expect(studio.page.locator("#objects input.name")).to_have_count(1)
    studio.page.locator("#mode-remove").tap()
    tap(left + 500 * scale, top + 80 * scale)
    studio.idle()
    expect(studio.page.locator("#undo")).to_have_attribute("title", "Undo click (Ctrl+Z)")
    assert studio.prompts()[0]["labels"] == [1, 0]
    context.close()
    assert studio.complaints == []
