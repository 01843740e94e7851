"""`sam-service live`: the frames of a camera, a stream or a file are pushed to a live session, and their masks written."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.client import LiveFrame, LiveSession, NoService, SamError
from sam_service.commands.exits import Exit, exit_of
from sam_service.commands.files import clear_masks, write_masks
from sam_service.commands.interrupts import deferred_interrupt
from sam_service.commands.prompts import PlannedPrompt
from sam_service.commands.service import connected, explained
from sam_service.commands.terminal import Terminal
from sam_service.commands.words import counted
from sam_service.export.overlay import draw_overlay
from sam_service.settings import Settings
from sam_service.video.writer import WebmWriter

Picture = NDArray[np.uint8]
FALLBACK_FPS = 24.0
FIRST_PICTURE_S = 30.0


@dataclass(frozen=True, slots=True)
class LiveCommand:
    """source: a file, a camera's number, or the address of a stream. settings: of the service that is started where `url` is
    None. max_frames: pushed at most. masks, overlay: what is written into the folder `out`."""

    source: str
    prompts: list[PlannedPrompt]
    names: dict[int, str]
    max_frames: int | None
    image_size: int | None
    out: Path
    masks: bool
    overlay: bool
    url: str | None
    settings: Settings | None
    quiet: bool


@dataclass(slots=True)
class _Figures:
    """What a run has come to. seen: pictures that the camera gave, those that were passed over included."""

    pushed: int = 0
    seen: int = 0
    started: float = 0.0
    last: LiveFrame | None = None

    def line(self) -> str:
        """The run in one line."""
        assert self.last is not None
        rate = self.pushed / max(1e-9, time.perf_counter() - self.started)
        areas = ", ".join(f"{number}: {mask.area}" for number, mask in self.last.masks.items()) or "nothing to track yet"
        passed = f", {self.seen - self.pushed} passed over" if self.seen > self.pushed else ""
        return f"frame {self.last.index}   {areas}   {rate:.1f} frames/s, {self.last.step_ms:.0f} ms{passed}"


def run_live(options: LiveCommand) -> Exit:
    """Run the command until its source ends, or Ctrl-C; returns its exit code."""
    terminal, figures = Terminal(quiet=options.quiet), _Figures()
    try:
        _run(options, terminal, figures)
        code = Exit.OK
    except KeyboardInterrupt:
        terminal.error("interrupted")
        code = Exit.INTERRUPTED
    except (SamError, OSError) as error:
        code = Exit.FAILED if figures.pushed else exit_of(error)
        terminal.error(explained(error) if isinstance(error, NoService) else str(error))
    if figures.pushed:
        terminal.say(f"live      {counted(figures.pushed, 'frame')} pushed; {figures.line()}")
    return code


def _run(options: LiveCommand, terminal: Terminal, figures: _Figures) -> None:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(opened(options.source)))
        client = stack.enter_context(connected(options.url, options.settings))
        client.wait_ready()
        pictures = source.pictures()
        first = next(pictures, None)
        if first is None:
            raise OSError(f"{options.source} gives no picture")
        height, width = first[0].shape[:2]
        more: dict[str, Any] = {} if options.image_size is None else {"image_size": options.image_size}
        session = stack.enter_context(client.live(width, height, policy="all", fps=source.fps, **more))
        terminal.say(f"live      {width} x {height}, watch it at {str(client.http.base_url).rstrip('/')}/"
                     f"#session={session.session_id}")
        options.out.mkdir(parents=True, exist_ok=True)
        overlay = stack.enter_context(WebmWriter(options.out / "overlay.webm", session.width, session.height, source.fps)
                                      ) if options.overlay else None
        if options.masks:
            clear_masks(options.out / "masks")
        figures.started = time.perf_counter()
        for image, time_s in _chained(first, pictures):
            with deferred_interrupt():
                frame = session.push(image, frame_idx=figures.pushed, timestamp_s=time_s)
                figures.pushed, figures.seen, figures.last = figures.pushed + 1, source.seen, frame
                frame = _prompt(session, options, frame)
                if options.masks:
                    write_masks(options.out / "masks", frame)
                if overlay is not None:
                    overlay.add(_drawn(image, frame, session), time_s, 1 / source.fps)
            terminal.draw(figures.line())
            if figures.pushed == options.max_frames:
                break


def _prompt(session: LiveSession, options: LiveCommand, frame: LiveFrame) -> LiveFrame:
    """Prompt what is to be prompted on a frame; returns it with the masks that come of it."""
    for prompt in options.prompts:
        if prompt.fields["frame_idx"] != frame.index:
            continue
        if not prompt.is_new:
            answer = session.refine(prompt.object_id, **prompt.fields)
        elif prompt.object_id in options.names:
            answer = session.add_object(object_id=prompt.object_id, name=options.names[prompt.object_id], **prompt.fields)
        else:
            answer = session.add_object(object_id=prompt.object_id, **prompt.fields)
        frame.masks[prompt.object_id] = answer
    return frame


def _drawn(image: Picture, frame: LiveFrame, session: LiveSession) -> Picture:
    size = session.width, session.height
    fitting = image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return draw_overlay(np.asarray(fitting, np.uint8), {number: mask.mask for number, mask in frame.masks.items()})


def _chained(first: tuple[Picture, float], rest: Iterator[tuple[Picture, float]]) -> Iterator[tuple[Picture, float]]:
    yield first
    yield from rest


class Recording:
    """The pictures of a file, each of them, in order. fps: frames a second; seen: pictures so far."""

    def __init__(self, source: str) -> None:
        self._capture = _capture(source)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 0.001 <= rate <= 1000 else FALLBACK_FPS
        self.seen = 0

    def pictures(self) -> Iterator[tuple[Picture, float]]:
        """Each picture, (H, W, 3) RGB, and its time in seconds."""
        while (image := _read(self._capture)) is not None:
            yield image, self.seen / self.fps
            self.seen += 1

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class Camera:
    """The newest picture of a camera or a stream, whenever one is wanted: a thread reads them all, so that none is old."""

    def __init__(self, source: str) -> None:
        self._capture = _capture(source)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 0.001 <= rate <= 1000 else FALLBACK_FPS
        self.seen = 0
        self._newest: tuple[Picture, float] | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read_on, name="camera", daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[tuple[Picture, float]]:
        """The newest picture each time, (H, W, 3) RGB, and its time in seconds; one is given once. Ends with the source."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended, FIRST_PICTURE_S)
                newest, self._newest = self._newest, None
            if newest is None:
                return
            yield newest

    def close(self) -> None:
        """Let the camera go."""
        self._ended = True
        self._thread.join(FIRST_PICTURE_S)
        self._capture.release()

    def _read_on(self) -> None:
        started = time.perf_counter()
        while not self._ended and (image := _read(self._capture)) is not None:
            with self._changed:
                self._newest = image, time.perf_counter() - started
                self.seen += 1
                self._changed.notify()
        with self._changed:
            self._ended = True
            self._changed.notify()


def opened(source: str) -> Recording | Camera:
    """A file, a camera by its number, or a stream by its address. Raises OSError."""
    return Recording(source) if Path(source).exists() else Camera(source)


def _capture(source: str) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(int(source)) if source.isdecimal() else cv2.VideoCapture(source)
    if not capture.isOpened():
        what = f"camera {source}" if source.isdecimal() else source
        raise OSError(f"{what} cannot be opened: it is no video file, camera or stream that OpenCV can read")
    return capture


def _read(capture: cv2.VideoCapture) -> Picture | None:
    found, image = capture.read()
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) if found else None
