"""The studio page as a test drives it: a real browser on a real service."""

from __future__ import annotations

import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]
WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
NETWORK_NOISE = ("Failed to load resource", "WebSocket connection to")
"""What the browser itself writes to its console when a call is refused or the service is away."""
COLOURS = """
  // What a script that measures contrast needs: a colour's numbers, its luminance by WCAG, and the colour behind an element.
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.7) return found;
    }
  };
"""


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome; CHROMIUM_PATH goes first."""
    return os.environ.get("CHROMIUM_PATH") or next((path for name in NAMES if (path := shutil.which(name))), None)


class Studio:
    """One page. Coordinates are pixels of the session's frames."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", lambda message: self._complain(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._complain(str(error)))

    def _complain(self, text: str) -> None:
        if not text.startswith(NETWORK_NOISE):
            self.complaints.append(text)

    # Getting there

    def start(self) -> None:
        """Show the start screen."""
        self.page.goto(self.url)
        expect(self.page.locator("#start")).to_be_visible()

    def upload(self, clip: Path, **options: int) -> None:
        """Open a video as a user does who chooses a file."""
        self.start()
        if options:
            self.page.locator("details summary").click()
            for name, value in options.items():
                self.page.fill(f"[name={name}]", str(value))
        self.page.set_input_files("#file", clip)
        self.shown(0)

    def open(self, session_id: str, frame: int = 0) -> None:
        """Open a session by its address."""
        self.page.goto(f"{self.url}/#session={session_id}&frame={frame}")
        self.shown(frame)

    @property
    def session_id(self) -> str:
        """The session that the address names."""
        expect(self.page).to_have_url(re.compile("#session="))
        found: str = self.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('session')")
        return found

    # Looking

    def shown(self, frame: int) -> None:
        """Wait until a frame is on the canvas."""
        expect(self.page.locator("#canvas")).to_have_attribute("aria-label", re.compile(rf"^Frame {frame}\."))

    def idle(self) -> None:
        """Wait until no prompt is under way and the picture is drawn."""
        expect(self.page.locator("#canvas")).to_have_attribute("aria-busy", "false")
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """The colour on the canvas at a point of the frame."""
        px, py = self.on_canvas(x, y)
        r, g, b = self.page.evaluate(
            "([x, y]) => { const canvas = document.getElementById('canvas'), ratio = canvas.width / canvas.clientWidth;"
            " return [...canvas.getContext('2d').getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data]"
            ".slice(0, 3); }", [px, py])
        return r, g, b

    def frame_size(self) -> tuple[float, float]:
        """Width and height of the session's frames, from what the page says of it."""
        width, height = self.page.locator("#video-facts").inner_text().split(" · ")[0].split(" × ")
        return float(width), float(height)

    def on_canvas(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the frame is on the canvas, CSS pixels, while the picture is fitted."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        width, height = self.frame_size()
        scale = min(box["width"] / width, box["height"] / height)
        return (box["width"] - width * scale) / 2 + x * scale, (box["height"] - height * scale) / 2 + y * scale

    @property
    def objects(self) -> list[str]:
        """The names in the list of objects."""
        return [field.input_value() for field in self.page.locator("#objects input.name").all()]

    def prompts(self) -> list[dict[str, Any]]:
        """What the service holds as prompts of this session."""
        found: list[dict[str, Any]] = self.page.evaluate(
            "async (id) => (await (await fetch(`sessions/${id}`)).json()).prompts", self.session_id)
        return found

    # Acting

    def click(self, x: float, y: float, **options: Any) -> None:
        """Click a point of the frame and wait for the answer."""
        px, py = self.on_canvas(x, y)
        self.page.locator("#canvas").click(position={"x": px, "y": py}, **options)
        self.idle()

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Drag a box and wait for the answer."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        corners = [self.on_canvas(x0, y0), self.on_canvas(x1, y1)]
        (ax, ay), (bx, by) = [(box["x"] + x, box["y"] + y) for x, y in corners]
        self.page.mouse.move(ax, ay)
        self.page.mouse.down()
        self.page.mouse.move((ax + bx) / 2, (ay + by) / 2)
        self.page.mouse.move(bx, by)
        self.page.mouse.up()
        self.idle()

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as if the picture had the focus."""
        for key in keys:
            self.page.keyboard.press(key)

    def tracked(self) -> str:
        """Wait for the end of a propagation; what the page says of it."""
        ended = re.compile("frames? in|Cancelled after")
        expect(self.page.locator("#track-note")).to_have_text(ended, timeout=2 * WAIT_MS)
        return self.page.locator("#track-note").inner_text()


def distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """How far two colours are from each other, 0 to 442."""
    return math.dist(a, b)
