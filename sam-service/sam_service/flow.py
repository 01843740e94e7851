"""The whole flow over REST on one clip: open, click, propagate with a progress bar, masks and an overlay video on disk."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.client import FrameMasks, SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK, render_clip
from sam_service.export.overlay import OverlayVideo, draw_overlay
from sam_service.local import local_service
from sam_service.masks.png import decode_png, encode_png
from sam_service.settings import Settings
from sam_service.suggest import suggest_point
from sam_service.video.decoder import prepare_decoder

BAR_WIDTH = 30


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """video: None for a clip that is made up; prompt: as in `/add-object`, None to choose a point; out: folder."""

    video: Path | None
    prompt: dict[str, Any] | None
    out: Path
    max_frames: int | None
    direction: str
    demo: bool = False


def run_flow(settings: Settings, options: FlowOptions) -> int:
    """Run the flow on a service of its own; returns an exit code."""
    prepare_decoder()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sam-demo-") as folder:
        video = options.video
        prompt = options.prompt
        if video is None:
            video = render_clip(Path(folder) / "made-up.mp4")
            prompt = prompt or {"points": [list(CLICK)], "labels": [1]}
            say(f"clip      made up: {video.name}")
        elif not video.is_file():
            say(f"there is no file {video}")
            return 2
        with local_service(settings) as url, SamClient(url) as client:
            try:
                return _flow(settings, client, url, video, prompt, options)
            except ServiceProblem as problem:
                say(f"the service refused: {problem}")
                return 1


def _flow(settings: Settings, client: SamClient, url: str, video: Path, prompt: dict[str, Any] | None,
          options: FlowOptions) -> int:
    health = client.wait_ready()
    model = health["model"]
    say(f"service   {url}, model {model['size']} at {model['image_size']} px on {health['device']}, "
        f"{health['threads']} threads")
    if model["note"] is not None:
        say(f"          {model['note']}")
    limit = {} if options.max_frames is None else {"max_frames": options.max_frames}
    with client.open_video(video, **limit) as session:
        say(f"video     {video.name}: {session.width} x {session.height}, {session.info['fps']:.2f} fps")
        if prompt is None:
            prompt = {"points": [suggest_point(client, video)], "labels": [1]}
            say(f"click     ({prompt['points'][0][0]:.0f}, {prompt['points'][0][1]:.0f}), chosen where something moves; "
                "POINT=x,y (or --point) sets your own")
        clicked = session.add_object(**prompt)
        say(f"mask      {clicked.area} pixels, score {clicked.score:.2f}")
        count = _write(session, options)
    say(f"results   {options.out / 'overlay.webm'}, {count} masks in {options.out / 'masks'}, {options.out / 'first.png'}")
    if options.demo:
        say(f"next      `make serve`, then http://{settings.host}:{settings.port}/docs lists every call")
    return 0


def _write(session: VideoSession, options: FlowOptions) -> int:
    """Propagate and write the masks as they come, then the overlay, which takes longer than the tracking."""
    masks = options.out / "masks"
    masks.mkdir(exist_ok=True)
    for old in masks.glob("[0-9][0-9][0-9][0-9][0-9]_*.png"):
        old.unlink()
    written: dict[int, list[int]] = {}
    started = time.perf_counter()
    for frame in progress("propagate", session.propagate(direction=options.direction)):
        for object_id, found in frame.masks.items():
            mask_path(masks, frame.index, object_id).write_bytes(encode_png(found.mask))
        written[frame.index] = list(frame.masks)
    seconds = time.perf_counter() - started
    say(f"propagate {len(written)} frames in {seconds:.1f} s, {len(written) / seconds:.1f} frames/s, masks written")
    with OverlayVideo(options.out / "overlay.webm", session.width, session.height, session.info["fps"]) as overlay:
        for done, (index, object_ids) in enumerate(sorted(written.items()), start=1):
            picture = cv2.imdecode(np.frombuffer(session.frame(index), np.uint8), cv2.IMREAD_COLOR_RGB)
            image: NDArray[np.uint8] = np.asarray(picture, np.uint8)
            drawn = draw_overlay(image, {object_id: decode_png(mask_path(masks, index, object_id).read_bytes())
                                         for object_id in object_ids})
            overlay.add(drawn)
            if done == 1:
                cv2.imwrite(str(options.out / "first.png"), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
            show("overlay", len(written), done)
    return sum(len(object_ids) for object_ids in written.values())


def mask_path(folder: Path, index: int, object_id: int) -> Path:
    """Where the mask of an object on a frame is written."""
    return folder / f"{index:05d}_{object_id}.png"


def progress(what: str, frames: Iterator[FrameMasks]) -> Iterator[FrameMasks]:
    """Pass frames through and show how far they are, with rate and time left."""
    started = time.perf_counter()
    for frame in frames:
        rate = frame.done / (time.perf_counter() - started)
        show(what, frame.total, frame.done, f" {rate:.1f} frames/s, {(frame.total - frame.done) / rate:.0f} s left")
        yield frame


def show(what: str, total: int, done: int, more: str = "") -> None:
    """Draw a bar on stderr; on anything but a terminal, a line for every tenth."""
    filled = BAR_WIDTH * done // total
    line = f"{what:9} [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{total}{more}"
    if sys.stderr.isatty():
        print(f"\r{line}\033[K", end="\r\033[K" if done == total else "", file=sys.stderr, flush=True)
    elif done % max(1, total // 10) == 0:
        print(line, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, file=sys.stderr, flush=True)
