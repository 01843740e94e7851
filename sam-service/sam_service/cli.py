"""The command `sam-service`: serve, segment, demo, models, sessions, doctor. Ctrl-C ends each cleanly, with exit code 130.

Heavy packages are imported by the command that needs them, once something is on the terminal.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sam_service import __version__
from sam_service.commands.exits import TABLE, Exit
from sam_service.commands.prompts import GRAMMAR, check_names, parse_box, parse_name, parse_point, plan_prompts
from sam_service.commands.terminal import Terminal
from sam_service.core.models.registry import AUTO, SIZES
from sam_service.defaults import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_URL
from sam_service.export.formats import FORMATS, formats_with

if TYPE_CHECKING:
    from sam_service.client.calls import OpenOptions
    from sam_service.settings import Settings

EXAMPLES = """examples:
  sam-service segment clip.mp4 --point 640,360
  sam-service segment clip.mp4 --point 1:640,360 --point 1:-500,300 --box 2:100,80,300,240@12 --name 1=cup --out cups
  sam-service segment clip.mp4 --point 640,360 --url http://gpu:8002 --export coco --export webm --json
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, with a pointer to the rest."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        self.exit(Exit.USAGE, f"{self.prog}: {message}; `{self.prog} --help` lists the options\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return Exit.OK
    try:
        run = {"serve": _serve, "segment": _segment, "demo": _demo, "models": _models, "sessions": _sessions,
               "doctor": _doctor, "bench": _bench, "live": _live}[options.command]
        return int(run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="sam-service", description="Segment and track objects through videos with SAM 2.1.",
                    epilog=f"`sam-service COMMAND --help` lists a command's options.\n\n{TABLE}", formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"sam-service {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the REST service")
    serve.add_argument("--host", help=f"address to listen on (default {DEFAULT_HOST})")
    serve.add_argument("--port", type=int, help=f"port to listen on (default {DEFAULT_PORT})")
    serve.add_argument("--data-dir", type=Path, help="where sessions live (default ./data)")
    segment = commands.add_parser("segment", help="track objects through a video and write their masks", allow_abbrev=False,
                                  description="Track objects through a video and write their masks.",
                                  epilog="\n".join((GRAMMAR, EXAMPLES, TABLE)), formatter_class=layout)
    _add_segment(segment)
    live = commands.add_parser("live", help="push a camera, a stream or a file frame by frame", allow_abbrev=False,
                               description="Push the frames of a camera, a stream or a file to a live session, and write their "
                                           "masks.", epilog="\n".join((GRAMMAR, TABLE)), formatter_class=layout)
    _add_live(live)
    demo = commands.add_parser("demo", help="show the whole flow on a clip of your own or on a made-up one")
    demo.add_argument("--video", type=Path, help="a clip of your own (default: one that is made up)")
    demo.add_argument("--point", type=parse_point, metavar="X,Y", help="where to click on frame 0 (default: chosen)")
    demo.add_argument("--max-frames", type=_count, default=150, metavar="N", help="track at most N frames (default 150)")
    demo.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="where the results go (default out)")
    models = commands.add_parser("models", help="list the models, or fetch their weights ahead of the first start",
                                 epilog=TABLE, formatter_class=layout)
    _add_models(models)
    sessions = commands.add_parser("sessions", help="list or delete the sessions of a running service, undo steps",
                                   epilog=TABLE, formatter_class=layout)
    sessions.add_argument("action", choices=("list", "delete", "undo", "redo"), nargs="?", default="list")
    sessions.add_argument("session_ids", nargs="*", metavar="ID", help="the sessions")
    sessions.add_argument("--all", action="store_true", help="delete all sessions")
    sessions.add_argument("--url", default=DEFAULT_URL, help=f"the service, its key in SAM2_API_KEY (default {DEFAULT_URL})")
    sessions.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    sessions.set_defaults(parser=sessions)
    doctor = commands.add_parser("doctor", help="say what this machine offers the service, and what is wrong", epilog=TABLE,
                                 formatter_class=layout)
    doctor.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    bench = commands.add_parser("bench", help="measure the models that are on this machine", epilog=TABLE,
                                formatter_class=layout,
                                description="Measure each model whose weights are on this machine, in each mode that it has: "
                                            "what it takes to encode a frame, to answer a click and to track on to a frame, "
                                            "and the peak of memory. Each is measured in a process of its own.")
    bench.add_argument("--size", action="append", choices=list(SIZES), help="this size only; repeatable")
    bench.add_argument("--frames", type=_count, default=12, metavar="N", help="track N frames of the made-up clip (default 12)")
    bench.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    bench.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    for command in (serve, segment, live, demo, doctor):
        command.add_argument("--model-size", choices=[*SIZES, AUTO])
        command.add_argument("--checkpoint", help="Meta .pt file, Hugging Face folder or hub name")
        command.add_argument("--revision", help="commit, tag or branch of the hub's repository (default main)")
    return parser


def _add_models(models: argparse.ArgumentParser) -> None:
    layout = argparse.RawDescriptionHelpFormatter
    models.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    actions = models.add_subparsers(dest="action", metavar="ACTION")
    listed = actions.add_parser("list", help="say which models there are, and which are on this machine (the default)")
    pull = actions.add_parser("pull", help="fetch the weights of these sizes and check them", epilog=TABLE,
                              formatter_class=layout)
    pull.set_defaults(parser=pull)
    pull.add_argument("sizes", nargs="+", choices=list(SIZES), metavar="SIZE", help=", ".join(SIZES))
    pull.add_argument("--revision", help="commit, tag or branch of the hub's repository, for one size (default main)")
    pull.add_argument("--sha256", type=_sha256, metavar="HEX", help="what model.safetensors has to have, for one size")
    for action in (listed, pull):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document on stdout")


def _add_segment(segment: argparse.ArgumentParser) -> None:
    segment.set_defaults(parser=segment)
    segment.add_argument("video", type=Path, help="a video, a zip of pictures, or a folder of pictures")
    prompts = segment.add_argument_group("what to track")
    prompts.add_argument("--point", type=parse_point, action="append", default=[], metavar="POINT",
                         help="a click, [OBJECT:][-]X,Y[@FRAME]; repeatable")
    prompts.add_argument("--box", type=parse_box, action="append", default=[], metavar="BOX",
                         help="a box, [OBJECT:]X0,Y0,X1,Y1[@FRAME]; repeatable")
    prompts.add_argument("--at", type=_count, default=0, metavar="FRAME",
                         help="the frame of prompts that name none (default 0)")
    prompts.add_argument("--name", type=parse_name, action="append", default=[], metavar="OBJECT=NAME",
                         help="what an object is called; repeatable")
    prompts.add_argument("--normalized", action="store_true", help="coordinates are fractions of width and height")
    frames = segment.add_argument_group("which frames")
    frames.add_argument("--max-frames", "--frames", type=_count, metavar="N", help="open at most N frames of the video")
    frames.add_argument("--fps", type=_rate, metavar="RATE", help="frames a second of a clip of pictures (default 24)")
    frames.add_argument("--start", type=_count, metavar="FRAME", help="first frame (default: the earliest prompted one)")
    frames.add_argument("--end", type=_count, metavar="FRAME", help="last frame, inclusive (default: the clip's last)")
    frames.add_argument("--direction", choices=("forward", "backward", "both"), default="forward")
    results = segment.add_argument_group("results")
    results.add_argument("--out", type=Path, default=Path("out"), metavar="DIR",
                         help="where masks/FRAME_OBJECT.png go, and overlay.webm or what --export names (default out)")
    results.add_argument("--export", action="append", default=[], choices=tuple(FORMATS), metavar="FORMAT",
                         help=f"write this instead of the overlay: {', '.join(FORMATS)}; repeatable")
    results.add_argument("--export-size", choices=("session", "original"), default="session",
                         help="size of exported pictures and coordinates (default session)")
    results.add_argument("--export-segmentation", choices=("rle", "polygon"), default="rle",
                         help=f"how masks are written by {formats_with('segmentation')} (default rle)")
    results.add_argument("--json", action="store_true", help="print one JSON document on stdout: objects, frames, files")
    results.add_argument("--quiet", action="store_true", help="print errors only, and no progress bar")
    service = segment.add_argument_group("service")
    service.add_argument("--url", help="a running service, its key in SAM2_API_KEY (default: one of the command's own)")
    service.add_argument("--keep-session", action="store_true", help="leave the session on the service of --url open")


def _add_live(live: argparse.ArgumentParser) -> None:
    live.set_defaults(parser=live)
    live.add_argument("source", help="a video file, a camera's number (0 is the first), or the address of a stream (rtsp://…)")
    live.add_argument("--point", type=parse_point, action="append", default=[], metavar="POINT",
                      help="a click, [OBJECT:][-]X,Y[@FRAME]; repeatable")
    live.add_argument("--box", type=parse_box, action="append", default=[], metavar="BOX",
                      help="a box, [OBJECT:]X0,Y0,X1,Y1[@FRAME]; repeatable")
    live.add_argument("--name", type=parse_name, action="append", default=[], metavar="OBJECT=NAME",
                      help="what an object is called; repeatable")
    live.add_argument("--normalized", action="store_true", help="coordinates are fractions of width and height")
    live.add_argument("--max-frames", type=_count, metavar="N", help="push at most N frames (default: until the source ends)")
    live.add_argument("--image-size", type=_count, metavar="PX", help="side of the network's input (default: the model's own)")
    live.add_argument("--out", type=Path, default=Path("out"), metavar="DIR",
                      help="where masks/FRAME_OBJECT.png and overlay.webm go (default out)")
    live.add_argument("--no-masks", action="store_true", help="write no masks")
    live.add_argument("--no-overlay", action="store_true", help="write no overlay.webm")
    live.add_argument("--url", help="a running service, its key in SAM2_API_KEY (default: one of the command's own)")
    live.add_argument("--quiet", action="store_true", help="print errors only")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected frames a second, such as 24 or 29.97, got {text!r}")
    return rate


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


def _settings(options: argparse.Namespace, *, log_level: str | None = None) -> Settings:
    """The settings of the environment with the command line's on top; threads are set before torch is imported.

    log_level: what is logged where LOG_LEVEL is not set.
    """
    from pydantic import ValidationError

    from sam_service.core.environment import prepare_metal
    from sam_service.core.threads import apply_threads, usable_cpus
    from sam_service.logs import set_up
    from sam_service.settings import Settings, check_dotenv
    names = {"host": "host", "port": "port", "data_dir": "sam2_data_dir", "model_size": "sam2_model_size",
             "checkpoint": "sam2_checkpoint", "revision": "sam2_revision"}
    given: dict[str, Any] = {setting: value for option, setting in names.items()
                             if (value := getattr(options, option, None)) is not None}
    try:
        check_dotenv()
        settings = Settings(**given)
    except ValidationError as error:
        for item in error.errors():
            print(f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}", file=sys.stderr)
        raise SystemExit(Exit.USAGE) from None
    except UnicodeDecodeError as error:
        print(f".env: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8", file=sys.stderr)
        raise SystemExit(Exit.USAGE) from None
    apply_threads(settings.knobs().thread_count(usable_cpus()))
    prepare_metal()
    if settings.hf_hub_offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if log_level is not None and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": log_level})
    set_up(settings.log_level, settings.log_format)
    return settings


def _serve(options: argparse.Namespace) -> int:
    Terminal().say(f"sam-service {__version__} starts")
    settings = _settings(options)
    import cv2
    import torch

    from sam_service.errors import StoreUnusable
    from sam_service.server import Server
    from sam_service.sessions.folder import DataFolder
    try:
        DataFolder(settings.sam2_data_dir.resolve())
    except StoreUnusable as error:
        print(error.message, file=sys.stderr)
        return Exit.NOT_STARTED
    os.umask(0o077)  # what the service writes is closed to other users
    torch.set_num_interop_threads(settings.torch_num_interop_threads)
    cv2.setNumThreads(1)  # frames are read, resized and encoded in parallel already
    server = Server(settings, restart_when_hung=True)
    server.run()
    if server.recycles:
        server.replace()
    return Exit.OK if server.started else Exit.NOT_STARTED


def _segment(options: argparse.Namespace) -> int:
    names = dict(options.name)
    try:
        prompts = plan_prompts(options.point, options.box, at=options.at, normalized=options.normalized)
        check_names(names, prompts)
    except ValueError as error:
        options.parser.error(str(error))
    if not prompts:
        options.parser.error("say where an object is: --point X,Y or --box X0,Y0,X1,Y1")
    if options.url is not None and (options.model_size or options.checkpoint or options.revision):
        options.parser.error("--model-size, --checkpoint and --revision are the service's own with --url")
    if options.url is None and options.keep_session:
        options.parser.error("--keep-session needs --url")
    export_options = _export_options(options)
    _check_url(options)
    Terminal(quiet=options.quiet).say(f"segment   {options.video}, "
                                      + (f"on {options.url}" if options.url else "starting a service of its own"))
    settings = None if options.url is not None else _settings(options, log_level="warning")
    from sam_service.commands.segment import SegmentOptions, run_segment
    opening: OpenOptions = {} if options.max_frames is None else {"max_frames": options.max_frames}
    if options.fps is not None:
        opening["fps"] = options.fps
    which: dict[str, Any] = {"start_frame": options.start, "end_frame": options.end}
    return run_segment(SegmentOptions(
        options.video, prompts, names, opening,
        {"direction": options.direction, **{key: value for key, value in which.items() if value is not None}},  # type: ignore[typeddict-item]
        options.export, export_options, options.out, options.url, settings, options.keep_session, options.json,
        options.quiet))


def _live(options: argparse.Namespace) -> int:
    names = dict(options.name)
    try:
        prompts = plan_prompts(options.point, options.box, at=0, normalized=options.normalized)
        check_names(names, prompts)
    except ValueError as error:
        options.parser.error(str(error))
    if options.url is not None and (options.model_size or options.checkpoint or options.revision):
        options.parser.error("--model-size, --checkpoint and --revision are the service's own with --url")
    if options.max_frames == 0:
        options.parser.error("argument --max-frames: expected 1 or more")
    _check_url(options)
    settings = None if options.url is not None else _settings(options, log_level="warning")
    from sam_service.commands.live import LiveCommand, run_live
    return run_live(LiveCommand(options.source, prompts, names, options.max_frames, options.image_size, options.out,
                                not options.no_masks, not options.no_overlay, options.url, settings, options.quiet))


def _export_options(options: argparse.Namespace) -> dict[str, Any]:
    """What every export of the command is asked for with; `segmentation` goes to the formats that take it."""
    takers = [name for name in options.export if "segmentation" in FORMATS[name].takes]
    if options.export_segmentation != "rle" and not takers:
        options.parser.error(f"--export-segmentation goes with --export {formats_with('segmentation')}")
    return {"size": options.export_size, "segmentation": options.export_segmentation}


def _check_url(options: argparse.Namespace) -> None:
    """End the command where `--url` is no address."""
    if options.url is None:
        return
    from sam_service.client import InvalidArgument
    from sam_service.client.connection import checked_url
    try:
        checked_url(options.url)
    except InvalidArgument as error:
        options.parser.error(f"argument --url: {error.what}")


def _demo(options: argparse.Namespace) -> int:
    Terminal().say("demo      starting a service of its own")
    settings = _settings(options, log_level="warning")
    from sam_service.flow import DemoOptions, run_demo
    return run_demo(settings, DemoOptions(options.video, options.point.xy if options.point else None, options.out,
                                          options.max_frames))


def _models(options: argparse.Namespace) -> int:
    if options.action == "pull" and len(set(options.sizes)) > 1 and (options.revision or options.sha256):
        options.parser.error("--revision and --sha256 go with one size")
    waiting = Terminal()
    waiting.draw("looking for models on this machine")
    settings = _settings(options, log_level="warning")
    from sam_service.commands.models import list_models, pull_models
    waiting.clear()
    if options.action != "pull":
        return list_models(settings, as_json=options.json)
    return pull_models(settings, list(dict.fromkeys(options.sizes)), revision=options.revision, sha256=options.sha256,
                       as_json=options.json)


def _bench(options: argparse.Namespace) -> int:
    settings = _settings(options, log_level="error")
    from sam_service.commands.bench import run_bench
    return run_bench(settings, options.size, device=options.device, frames=max(2, options.frames), as_json=options.json)


def _sessions(options: argparse.Namespace) -> int:
    named = bool(options.session_ids)
    if options.action == "delete" and named == options.all:
        options.parser.error("say which sessions to delete: their IDs, or --all")
    if options.action == "list" and (named or options.all):
        options.parser.error("IDs and --all go with delete")
    if options.action in ("undo", "redo") and (not named or options.all):
        options.parser.error(f"say where to {options.action}: the ID of a session")
    _check_url(options)
    from sam_service.commands.sessions import delete_sessions, list_sessions, move_sessions
    if options.action in ("undo", "redo"):
        return move_sessions(options.url, options.session_ids, undo=options.action == "undo", as_json=options.json)
    if options.action == "list":
        return list_sessions(options.url, as_json=options.json)
    return delete_sessions(options.url, None if options.all else options.session_ids, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    settings = _settings(options, log_level="error")
    from sam_service.commands.doctor import run_doctor
    return run_doctor(settings, as_json=options.json)
