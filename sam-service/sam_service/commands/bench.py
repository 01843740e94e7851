"""`sam-service bench`: what the models on this machine take, each measured in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sam_service import __version__
from sam_service.commands.exits import Exit
from sam_service.commands.terminal import Terminal
from sam_service.core.models.catalogue import available_models
from sam_service.core.models.registry import SIZES
from sam_service.core.threads import usable_cpus
from sam_service.demo_clip import CLICK, HEIGHT, WIDTH, draw_frames
from sam_service.settings import Settings

MIB, REPEATS = 1 << 20, 4


@dataclass(frozen=True, slots=True)
class Mode:
    """How a model runs, as the service's options say it; image_size: the size's own if None. exact: whether its masks are those
    of the plain run, up to rounding."""

    name: str
    image_size: int | None = None
    precision: str = "float32"
    memory_share: float = 1.0
    track_every: int = 1
    exact: bool = False


PLAIN = Mode("plain", exact=True)
EMBEDDED_MODES = (PLAIN, Mode("SAM2_TRACK_EVERY=2", track_every=2))
MODES = (PLAIN, Mode("SAM2_IMAGE_SIZE=512", image_size=512), Mode("SAM2_MEMORY_SHARE=0.05", memory_share=0.05),
         Mode("SAM2_TRACK_EVERY=4", track_every=4), Mode("SAM2_PRECISION=bfloat16", precision="bfloat16"))


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: what is asked for, then seconds and MiB. error: why there is none.

    encode_s: resizing a frame and the image encoder on it. click_s: a click on a frame that is encoded already. frame_s: a
    tracked frame, encoding included; the mean over the second half of the clip.
    """

    size: str
    mode: Mode
    device: str
    frames: int
    threads: int
    image_size: int = 0
    load_s: float = 0.0
    encode_s: float = 0.0
    click_s: float = 0.0
    frame_s: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None


def run_bench(settings: Settings, sizes: Sequence[str] | None, *, device: str, frames: int, as_json: bool) -> Exit:
    """Measure and print; the exit code is that of a failure where nothing could be measured."""
    terminal, runs = Terminal(quiet=as_json), []
    present = {model.size for model in available_models() if model.present}
    threads = settings.torch_num_threads or usable_cpus()
    for size in sizes or [size for size in SIZES if size in present]:
        if size not in present:
            missing = f"its weights are not here: sam-service models pull {size}"
            runs.append(Run(size, PLAIN, device, frames, threads, error=missing))
            continue
        for mode in EMBEDDED_MODES if SIZES[size].embedded else MODES:
            terminal.draw(f"{size}, {mode.name}")
            runs.append(_apart(Run(size, mode, device, frames, threads)))
    terminal.clear()
    if as_json:
        print(json.dumps({"version": __version__, "machine": _machine(), "clip": f"{WIDTH} x {HEIGHT}, one object",
                          "runs": [asdict(run) for run in runs]}, indent=1))
    else:
        _print(runs, threads)
    return Exit.OK if any(run.error is None for run in runs) else Exit.FAILED


def measure(run: Run) -> Run:
    """Measure in this process. Raises ServiceError."""
    from sam_service.core.build import build_predictor, clip_frame, use_threads
    from sam_service.core.device import choose_device
    from sam_service.core.memory.bank import MemoryBank
    from sam_service.core.models.family import Checkpoint
    from sam_service.core.prompts import POSITIVE, PointPrompt
    from sam_service.core.speedups import Speedups

    use_threads(run.threads)
    started = time.perf_counter()
    policy = choose_device(run.device, precision=run.mode.precision)
    predictor = build_predictor(run.size, Checkpoint(offline=True), image_size=run.mode.image_size, policy=policy,
                                speedups=Speedups(memory_share=run.mode.memory_share), track_every=run.mode.track_every)
    load_s, network = time.perf_counter() - started, predictor.network
    pictures = [np.ascontiguousarray(image[..., ::-1]) for _, image in zip(range(run.frames), draw_frames(), strict=False)]
    frames = [clip_frame(predictor, index, (WIDTH, HEIGHT), pictures.__getitem__)
              for index in range(len(pictures))]
    click = PointPrompt(np.array([CLICK], np.float32), np.array([POSITIVE], np.int32))
    bank, count = MemoryBank("bench"), len(frames)

    def answer() -> None:
        predictor.step(bank, frames[0], prompts={1: replace(click, fresh=True)}, num_frames=count)

    encode_s = [_timed(partial(predictor.encode, frames[0])) for _ in range(REPEATS)]
    answer()
    clicks_s = [_timed(answer) for _ in range(REPEATS)]
    frames_s = [_timed(partial(predictor.step, bank, frame, track=[1], num_frames=count)) for frame in frames[1:]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)
    return replace(run, device=str(policy.device), image_size=network.image_size, load_s=load_s,
                   encode_s=float(np.median(encode_s[1:])), click_s=float(np.median(clicks_s)),
                   frame_s=float(np.mean(frames_s[len(frames_s) // 2:])), peak_mib=peak)


def _apart(run: Run) -> Run:
    """Measure in a process of its own, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, run).result()
        except Exception as error:  # what one model or mode cannot do is no reason to leave out the others
            return replace(run, error=str(error) or type(error).__name__)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _machine() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {usable_cpus()} CPUs usable"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def _print(runs: Sequence[Run], threads: int) -> None:
    print(f"{_machine()}, {threads} threads; one object on a clip of {WIDTH} x {HEIGHT}")
    rows = [("model", "mode", "input", "encode", "click", "a frame", "frames/s", "peak memory")]
    for run in runs:
        if run.error is not None:
            rows.append((run.size, run.mode.name, "", run.error, "", "", "", ""))
            continue
        rows.append((run.size, run.mode.name, f"{run.image_size} px", _ms(run.encode_s), _ms(run.click_s), _ms(run.frame_s),
                     f"{1 / run.frame_s:.1f}", f"{run.peak_mib:.0f} MiB"))
    widths = [max(len(row[column]) for row in rows if row[4] or column < 3) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
