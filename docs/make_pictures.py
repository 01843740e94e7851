"""Take the pictures of the studio page that the documents show, and the README's film of the service's own export.

    PYTHONPATH=sam-service:. python docs/make_pictures.py [VIDEO --click X,Y [--click X,Y]] [--frames N] [--theme light]

A browser drives the page of a service on loopback. Each click, in pixels of the frames, becomes an object of its own. Without
a video the clip of `docs/scene.py` is used. Needs Chromium, like the tests of the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sam_service.client import SamClient
from sam_service.local import local_service

from docs.scene import BALL, BALLOON, render_scene
from tests.support import settings
from tests.web.studio import ARGUMENTS, Studio, find_browser

QUALITY = 82
FILM_WIDTH, FILM_STEP, FILM_QUALITY = 480, 2, 55


def main() -> int:
    """Write studio-start, -clicked, -objects, -tracking and -finished as JPEG, and film as animated WebP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--click", action="append", default=[], metavar="X,Y")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--theme", choices=("light", "dark"), default="dark")
    parser.add_argument("--size", default="1280x800", metavar="WxH")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    clicks = [tuple(float(value) for value in click.split(",")) for click in options.click] or [BALLOON, BALL]
    options.out.mkdir(parents=True, exist_ok=True)
    with (tempfile.TemporaryDirectory() as scratch, local_service(settings()) as url,
          SamClient(url) as client):
        client.wait_ready()
        video = options.video or render_scene(Path(scratch) / "balloon.mp4")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=options.theme)
            studio = Studio(page, url)
            take(studio, video, clicks, options.frames, options.out)
            film(client.session(studio.session_id).export("webm", scratch), options.out / "film.webp")
            browser.close()
    return 0


def take(studio: Studio, video: Path, clicks: list[tuple[float, ...]], frames: int, out: Path) -> None:
    """Go through the page's states and take a picture of each."""
    studio.start()
    studio.page.locator("#start-model:not(:empty)").wait_for()
    shoot(studio.page, out, "start")
    studio.upload(video, max_frames=frames)
    studio.click(*clicks[0])
    shoot(studio.page, out, "clicked")
    for x, y in clicks[1:]:
        studio.press("n")
        studio.click(x, y)
    shoot(studio.page, out, "objects")
    studio.press("t")
    while studio.page.locator("#frame-number").input_value() in map(str, range(frames // 3)):
        studio.page.wait_for_timeout(100)
    shoot(studio.page, out, "tracking")
    studio.page.locator("#tracking").wait_for(state="hidden", timeout=600_000)
    studio.press("w")
    shoot(studio.page, out, "finished")


def film(overlay: Path, to: Path) -> None:
    """Make an animated picture of an exported overlay: documents can show it where they cannot show a video."""
    capture = cv2.VideoCapture(str(overlay))
    fps = capture.get(cv2.CAP_PROP_FPS)
    pictures = []
    while (frame := capture.read()[1]) is not None:
        height = round(frame.shape[0] * FILM_WIDTH / frame.shape[1])
        small = cv2.resize(frame, (FILM_WIDTH, height), interpolation=cv2.INTER_AREA)
        pictures.append(Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)))
    first, *rest = pictures[::FILM_STEP]
    first.save(to, save_all=True, append_images=rest, duration=round(1000 * FILM_STEP / fps), loop=0, quality=FILM_QUALITY,
               method=6)


def shoot(page: Page, out: Path, name: str) -> None:
    """Take a picture of the page once thumbnails and the picture are there."""
    page.wait_for_timeout(1500)
    page.screenshot(path=out / f"studio-{name}.jpg", type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    sys.exit(main())
