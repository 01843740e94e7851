"""Take the pictures of the studio page that the documents show, and the README's film of a correction on a later frame.

    PYTHONPATH=sam-service:. python docs/make_pictures.py [VIDEO --click X,Y [--click X,Y]] [--frames N] [--theme light]

A browser drives the page of a service on loopback. Each click, in pixels of the frames, becomes an object of its own. Without
a video the clip of `docs/scene.py` is used. Needs Chromium, like the tests of the page.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright
from sam_service.client import SamClient
from sam_service.demo_clip import render_clip
from sam_service.local import local_service

from docs.scene import BALL, BALLOON, FPS, balloon_at, render_scene
from tests.support import settings
from tests.web.studio import ARGUMENTS, Studio, find_browser

QUALITY = 82
FILM_WIDTH, FILM_STEP, FILM_QUALITY, FILM_FRAMES = 480, 2, 55, 64
CORRECTED, HELD = 30, 14  # the frame that is corrected; pictures that the film stands still


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
    with (tempfile.TemporaryDirectory() as folder, local_service(settings(sam2_video_dir=Path(folder))) as url,
          SamClient(url) as client):
        client.wait_ready()
        render_clip(Path(folder) / "meadow.mp4")
        video = options.video or render_scene(Path(folder) / "balloon.mp4")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=options.theme)
            studio = Studio(page, url)
            take(studio, video, clicks, options.frames, options.out)
            if options.video is None:
                film(studio, video, options.out)
            browser.close()
    return 0


def take(studio: Studio, video: Path, clicks: list[tuple[float, ...]], frames: int, out: Path) -> None:
    """Go through the page's states and take a picture of each."""
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
    studio.start()
    studio.page.locator("#start-model:not(:empty)").wait_for()
    studio.page.locator("#library").scroll_into_view_if_needed()
    studio.page.locator("#library img").first.wait_for()
    studio.page.locator("#start").evaluate("(screen) => screen.scrollTo(0, 0)")
    shoot(studio.page, out, "start")


def film(studio: Studio, video: Path, out: Path) -> None:
    """Write studio-finished, and film.webp: a mask that takes too much, and its correction on a later frame.

    An animated picture is shown where documents cannot show a video. The balloon is clicked, and its mask takes the ball as
    well; on frame CORRECTED a box around the balloon alone puts it right.
    """
    studio.upload(video, max_frames=FILM_FRAMES)
    studio.click(*BALLOON)
    track(studio, "t")
    seen = [caption(picture(studio, frame), "One click on the balloon. Its mask takes the ball, too.")
            for frame in range(0, CORRECTED, FILM_STEP)]
    studio.page.fill("#frame-number", str(CORRECTED))
    studio.press("Enter")
    seen += [caption(picture(studio, CORRECTED), "On a later frame: a box around the balloon …")] * HELD
    x, y = balloon_at(CORRECTED)
    studio.drag(x - 84, y - 96, x + 84, y + 148)
    seen += [caption(picture(studio, CORRECTED), "… leaves the ball out.")] * HELD
    track(studio, "f")
    seen += [caption(picture(studio, frame), "Tracked on from there: the balloon alone.")
             for frame in range(CORRECTED, FILM_FRAMES, FILM_STEP)]
    first, *rest = seen
    picture(studio, CORRECTED)
    shoot(studio.page, out, "finished")
    first.save(out / "film.webp", save_all=True, append_images=rest, duration=round(1000 * FILM_STEP / FPS), loop=0,
               quality=FILM_QUALITY, method=4)


def track(studio: Studio, key: str) -> None:
    """Track by a key of the page, and wait for the end."""
    studio.press(key)
    studio.page.locator("#tracking").wait_for(state="visible")
    studio.page.locator("#tracking").wait_for(state="hidden", timeout=600_000)


def picture(studio: Studio, frame: int) -> Image.Image:
    """The stage with a frame and its masks, FILM_WIDTH pixels wide."""
    if studio.page.locator("#frame-number").input_value() != str(frame):
        studio.page.fill("#frame-number", str(frame))
        studio.press("Enter")
    studio.shown(frame)
    studio.idle()
    studio.page.wait_for_timeout(250)  # until the frame's masks are drawn, too
    shot = Image.open(io.BytesIO(studio.page.locator("#stage").screenshot(type="png"))).convert("RGB")
    (left, top), (right, bottom) = studio.on_canvas(0, 0), studio.on_canvas(*studio.frame_size())
    return shot.crop((round(left), round(top), round(right), round(bottom))).resize((FILM_WIDTH, FILM_WIDTH * 9 // 16))


def caption(picture: Image.Image, words: str) -> Image.Image:
    """The picture with words on a dark bar below it."""
    height = picture.height
    drawn = Image.new("RGB", (picture.width, height + 26), (14, 16, 20))
    drawn.paste(picture)
    ImageDraw.Draw(drawn).text((10, height + 5), words, (231, 234, 240), ImageFont.load_default(14))
    return drawn


def shoot(page: Page, out: Path, name: str) -> None:
    """Take a picture of the page once thumbnails and the picture are there."""
    page.wait_for_timeout(1500)
    page.screenshot(path=out / f"studio-{name}.jpg", type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    sys.exit(main())
