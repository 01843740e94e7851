"""`sam-service segment`: objects are prompted, tracked through a video and written, on a running service or one of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sam_service.client import NoService, SamError, VideoSession
from sam_service.client.calls import ExportFormat, ExportOptions, OpenOptions, Range
from sam_service.commands.exits import Exit, exit_of
from sam_service.commands.files import clear_masks, write_masks, write_overlay
from sam_service.commands.interrupts import deferred_interrupt
from sam_service.commands.prompts import PlannedPrompt
from sam_service.commands.report import Report
from sam_service.commands.service import connected, explained
from sam_service.commands.terminal import Terminal
from sam_service.commands.words import counted, is_or_are
from sam_service.export.formats import FORMATS
from sam_service.settings import Settings


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """settings: of the service that is started where `url` is None; exports: the overlay where there are none; export_options:
    `size` and `segmentation`; out: a folder."""

    video: Path
    prompts: list[PlannedPrompt]
    names: dict[int, str]
    opening: OpenOptions
    which: Range
    exports: list[ExportFormat]
    export_options: dict[str, Any]
    out: Path
    url: str | None
    settings: Settings | None
    keep_session: bool
    as_json: bool
    quiet: bool


def run_segment(options: SegmentOptions) -> Exit:
    """Run the command; returns its exit code. What went wrong is said on stderr, and in the document of `--json`."""
    terminal, report = Terminal(quiet=options.quiet), Report()
    try:
        _run(options, terminal, report)
        report.state, code = "done", Exit.OK
    except KeyboardInterrupt:
        report.state, code = "interrupted", Exit.INTERRUPTED
        terminal.error("interrupted   " + (_computed(options, report) if report.frames else "before the first frame"))
    except (SamError, OSError) as error:
        report.fail(error)
        code = Exit.FAILED if report.begun else exit_of(error)
        terminal.error(explained(error) if isinstance(error, NoService) else f"{report.state}: {error}")
        if report.frames:
            terminal.error(_computed(options, report))
    if options.as_json:
        print(report.to_json())
    return code


def _computed(options: SegmentOptions, report: Report) -> str:
    return f"{is_or_are(len(report.frames), 'frame')} computed, the masks are in {options.out / 'masks'}"


def _run(options: SegmentOptions, terminal: Terminal, report: Report) -> None:
    if not options.video.exists():
        raise FileNotFoundError(f"there is no file {options.video}")
    options.out.mkdir(parents=True, exist_ok=True)
    with connected(options.url, options.settings) as client:
        health = client.wait_ready()
        report.model = health["model"]
        terminal.say(f"service   {client.http.base_url}, model {health['model']['size']} at {health['model']['image_size']} px "
                     f"on {health['device']}, {counted(health['threads'], 'thread')}")
        with client.initialize(options.video, **options.opening) as session:
            session.delete_at_exit = not options.keep_session
            report.session_id = session.session_id
            report.video = {"name": options.video.name, "width": session.width, "height": session.height,
                            "fps": session.info["fps"]}
            terminal.say(f"video     {options.video.name}: {session.width} x {session.height}, {session.info['fps']:.2f} fps")
            _prompt(session, options, terminal)
            report.begin(session.state()["objects"])
            _track(session, options, terminal, report)
            _write_results(session, options, terminal, report)


def _prompt(session: VideoSession, options: SegmentOptions, terminal: Terminal) -> None:
    for prompt in options.prompts:
        object_id = prompt.object_id
        if not prompt.is_new:
            answer = session.refine(object_id, **prompt.fields)
        elif object_id in options.names:
            answer = session.add_object(object_id=object_id, name=options.names[object_id], **prompt.fields)
        else:
            answer = session.add_object(object_id=object_id, **prompt.fields)
        terminal.say(f"object {object_id:<2} frame {answer.frame_index}: {counted(answer.area, 'pixel')}, "
                     f"score {answer.score:.2f}")


def _track(session: VideoSession, options: SegmentOptions, terminal: Terminal, report: Report) -> None:
    """Propagate; each frame is on disk before the next is waited for, so that it is kept whatever ends this."""
    masks = options.out / "masks"
    clear_masks(masks)
    started = time.perf_counter()
    try:
        for frame in terminal.progress("propagate", session.propagate(**options.which)):
            with deferred_interrupt():
                write_masks(masks, frame)
                report.add_frame(frame, started)
    finally:
        terminal.clear()
        report.add_files("masks", masks, sum(len(frame["objects"]) for frame in report.frames))
    terminal.say(f"propagate {counted(len(report.frames), 'frame')} in {report.elapsed_s:.1f} s, "
                 f"{report.frames_per_second:.1f} frames/s, masks in {masks}")


def _write_results(session: VideoSession, options: SegmentOptions, terminal: Terminal, report: Report) -> None:
    if not options.exports:
        written = {frame["frame_idx"]: [item["object_id"] for item in frame["objects"]] for frame in report.frames}
        times_s = {frame["frame_idx"]: frame["timestamp_s"] for frame in report.frames}
        for path in write_overlay(session, options.out, written, times_s, terminal):
            report.add_files("overlay", path)
            terminal.say(f"overlay   {path}")
    for export_format in options.exports:
        def received(done: int, total: int | None, what: str = export_format) -> None:
            terminal.draw(f"{what:9} {done / 1e6:.1f} MB")

        takes = FORMATS[export_format].takes | {"size"}
        chosen = cast(ExportOptions, {name: value for name, value in options.export_options.items() if name in takes})
        path = session.export(export_format, options.out, progress=received, **chosen)
        report.add_files(export_format, path)
        terminal.say(f"{export_format:9} {path}")
