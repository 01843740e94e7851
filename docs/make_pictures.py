"""Take the pictures of the studio page that the documents show: a browser drives the page of a service on loopback.

    PYTHONPATH=sam-service:. python docs/make_pictures.py VIDEO --click X,Y --click X,Y [--frames N] [--theme light] [--size WxH]

Each click, in pixels of the frames, becomes an object of its own. Needs Chromium, like the tests of the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from sam_service.client import SamClient
from sam_service.local import local_service
from tests.support import settings
from tests.web.studio import ARGUMENTS, Studio, find_browser

QUALITY = 82


def main() -> int:
    """Write studio-start, -clicked, -objects, -tracking and -finished as JPEG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--click", action="append", required=True, metavar="X,Y")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--theme", choices=("light", "dark"), default="dark")
    parser.add_argument("--size", default="1280x800", metavar="WxH")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    clicks = [tuple(float(value) for value in click.split(",")) for click in options.click]
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, local_service(settings(), data_dir=Path(folder)) as url, SamClient(url) as client:
        client.wait_ready()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=options.theme)
            take(Studio(page, url), options.video, clicks, options.frames, options.out)
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
    while int(studio.page.locator("#canvas").get_attribute("data-frame") or 0) < frames // 3:
        studio.page.wait_for_timeout(100)
    shoot(studio.page, out, "tracking")
    studio.page.locator("#tracking").wait_for(state="hidden", timeout=600_000)
    studio.press("w")
    shoot(studio.page, out, "finished")


def shoot(page: Page, out: Path, name: str) -> None:
    """Take a picture of the page once thumbnails and the picture are there."""
    page.wait_for_timeout(1500)
    page.screenshot(path=out / f"studio-{name}.jpg", type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    sys.exit(main())
