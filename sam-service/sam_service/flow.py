"""The demo, the whole flow over REST on one clip: open, click, propagate, masks and an overlay video on disk."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sam_service.client import SamClient, SamError
from sam_service.client.calls import NewObject, OpenOptions
from sam_service.commands.exits import Exit, exit_of
from sam_service.commands.files import clear_masks, write_masks, write_overlay
from sam_service.commands.interrupts import deferred_interrupt
from sam_service.commands.service import connected
from sam_service.commands.terminal import Terminal
from sam_service.commands.words import counted
from sam_service.defaults import url_of
from sam_service.demo_clip import CLICK, render_clip
from sam_service.settings import Settings
from sam_service.suggest import suggest_point


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """video: None for a clip that is made up; point: where to click on frame 0, pixels, None to choose; out: a folder."""

    video: Path | None
    point: tuple[float, float] | None
    out: Path
    max_frames: int | None


def run_demo(settings: Settings, options: DemoOptions) -> Exit:
    """Run the demo on a service of its own; returns its exit code."""
    terminal = Terminal(tenths=True)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sam-demo-") as folder:
            video, point = options.video, options.point
            if video is None:
                video = render_clip(Path(folder) / "made-up.mp4")
                point = point or CLICK
                terminal.say(f"clip      {video.name}, a made-up clip of a ball; VIDEO=path (--video path) takes your own")
            elif not video.exists():
                raise FileNotFoundError(f"there is no file {video}")
            with connected(None, settings) as client:
                _show(client, terminal, video, point, options)
    except (SamError, OSError) as error:
        terminal.error(f"the demo failed: {error}")
        return exit_of(error)
    finally:
        terminal.clear()
    address = url_of(settings.host, settings.port)
    terminal.say(f"next      `make serve` starts the service: {address}/ in a browser, {address}/docs lists every call")
    return Exit.OK


def _show(client: SamClient, terminal: Terminal, video: Path, point: tuple[float, float] | None, options: DemoOptions) -> None:
    health = client.wait_ready()
    model = health["model"]
    terminal.say(f"service   {client.http.base_url}, model {model['size']} at {model['image_size']} px on {health['device']}, "
                 f"{counted(health['threads'], 'thread')}")
    if model["note"] is not None:
        terminal.say(f"          {model['note']}")
    opening: OpenOptions = {} if options.max_frames is None else {"max_frames": options.max_frames}
    with client.initialize(video, **opening) as session:
        terminal.say(f"video     {video.name}: {session.width} x {session.height}, {session.info['fps']:.2f} fps")
        if point is None:
            point = suggest_point(client, video)
            terminal.say(f"click     ({point[0]:.0f}, {point[1]:.0f}), chosen where something moves; to click elsewhere: "
                         "make demo POINT=x,y (--point x,y)")
        prompt: NewObject = {"points": [point], "labels": [1]}
        clicked = session.add_object(**prompt)
        terminal.say(f"mask      {counted(clicked.area, 'pixel')}, score {clicked.score:.2f}")
        masks = options.out / "masks"
        clear_masks(masks)
        started = time.perf_counter()
        written: dict[int, list[int]] = {}
        times_s: dict[int, float] = {}
        for frame in terminal.progress("propagate", session.propagate()):
            with deferred_interrupt():
                write_masks(masks, frame)
                written[frame.index] = list(frame.masks)
                times_s[frame.index] = frame.timestamp_s
        seconds = time.perf_counter() - started
        terminal.say(f"propagate {counted(len(written), 'frame')} in {seconds:.1f} s, {len(written) / seconds:.1f} frames/s")
        video_path, first = write_overlay(session, options.out, written, times_s, terminal)
    terminal.say(f"results   {video_path}, {counted(sum(map(len, written.values())), 'mask')} in {masks}, {first}")
