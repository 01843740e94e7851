"""The command `sam-service`: serve, segment, demo. Ctrl-C ends each of them cleanly, with exit code 130."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        run = {"serve": _serve, "segment": _segment, "demo": _demo}[options.command]
        return run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sam-service", description="Segment and track objects through videos with SAM 2.1.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the REST service")
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (default 8002)")
    segment = commands.add_parser("segment", help="track one object through a video and write its masks")
    segment.add_argument("video", type=Path)
    segment.add_argument("--point", type=_numbers(2), action="append", metavar="X,Y", help="a click on the object; repeatable")
    segment.add_argument("--not-point", type=_numbers(2), action="append", metavar="X,Y", help="a click beside it; repeatable")
    segment.add_argument("--box", type=_numbers(4), metavar="X0,Y0,X1,Y1")
    segment.add_argument("--frame", type=int, default=0, help="the frame that is clicked (default 0)")
    segment.add_argument("--direction", choices=("forward", "backward", "both"), default="forward")
    segment.add_argument("--max-frames", type=int)
    segment.add_argument("--out", type=Path, required=True, metavar="DIR")
    demo = commands.add_parser("demo", help="show the whole flow on a clip, one's own or one that is made up")
    demo.add_argument("--video", type=Path)
    demo.add_argument("--point", type=_numbers(2), metavar="X,Y", help="where to click on frame 0 (default: chosen)")
    demo.add_argument("--max-frames", type=int, default=150)
    demo.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    for command in (serve, segment, demo):
        command.add_argument("--model-size", choices=("nano", "tiny", "small", "base_plus", "large"))
        command.add_argument("--checkpoint", help="Meta .pt file, Hugging Face folder or hub name")
    serve.add_argument("--data-dir", type=Path, help="where sessions live (default ./data)")
    return parser


def _numbers(count: int) -> Any:
    def parse(text: str) -> list[float]:
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            raise argparse.ArgumentTypeError(f"expected {count} numbers with commas between, got {text!r}")
        return numbers
    return parse


def _settings(options: argparse.Namespace) -> Any:
    """The settings of the environment with the command line's on top; threads are set before torch is imported."""
    from pydantic import ValidationError

    from sam_service.core.threads import apply_threads
    from sam_service.settings import Settings
    names = {"host": "host", "port": "port", "data_dir": "sam2_data_dir", "model_size": "sam2_model_size",
             "checkpoint": "sam2_checkpoint"}
    given = {setting: value for option, setting in names.items() if (value := getattr(options, option, None)) is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for item in error.errors():
            print(f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None
    apply_threads(settings.torch_num_threads)
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if settings.hf_hub_offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return settings


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    import cv2
    import torch

    from sam_service.server import Server
    torch.set_num_interop_threads(settings.torch_num_interop_threads)
    cv2.setNumThreads(1)  # frames are read, resized and encoded side by side already
    server = Server(settings, restart_when_hung=True)
    server.run()
    return 0 if server.started else EXIT_FAILED


def _segment(options: argparse.Namespace) -> int:
    if not options.point and options.box is None:
        print("say where the object is: --point X,Y or --box X0,Y0,X1,Y1", file=sys.stderr)
        return EXIT_USAGE
    settings = _settings(options)
    from sam_service.flow import FlowOptions, run_flow
    points = [*(options.point or []), *(options.not_point or [])]
    labels = [1] * len(options.point or []) + [0] * len(options.not_point or [])
    prompt = {"frame_idx": options.frame, **({"points": points, "labels": labels} if points else {}),
              **({"box": options.box} if options.box else {})}
    return run_flow(settings, FlowOptions(options.video, prompt, options.out, options.max_frames, options.direction))


def _demo(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from sam_service.flow import FlowOptions, run_flow
    prompt = {"points": [options.point], "labels": [1]} if options.point else None
    return run_flow(settings, FlowOptions(options.video, prompt, options.out, options.max_frames, "forward", demo=True))
