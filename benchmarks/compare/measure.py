"""What every contender's process does: load, warm up, click, track, and write what it measured.

    python -m benchmarks.compare.ours JOB.json

Runs in the peers' environments too: it imports the standard library, numpy and torch. Reading, decoding and resizing frames
is outside all times, since each contender does it at another moment; enlarging masks to the video's resolution is inside.

F: frames. O: objects. H, W: the video's size. S: side of the model's input.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

LOGITS_FILE, MASKS_FILE, RESULT_FILE = "logits.f32", "masks.npz", "result.json"
WARM_UP_FRAMES = 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one contender. clicks: (x, y) of each object on frame 0. out: where the answers go."""

    size: str
    checkpoint: str
    image_size: int
    threads: int
    frames: str
    width: int
    height: int
    clicks: list[list[float]]
    out: str
    mode: str = ""


@dataclass(slots=True)
class Result:
    """Seconds, and the peak of resident memory in MiB.

    frames_cpu_s: of all threads, waiting ones included. encoder_s: the image encoder's part of each frame's time. parts_s:
    that of other parts, of contenders that count them.
    prepare_s: reading, decoding and resizing all frames.
    """

    torch_version: str
    threads: int
    load_s: float
    prepare_s: float = 0.0
    first_click_s: float = 0.0
    first_click_without_encoder_s: float = 0.0
    later_clicks_s: list[float] = field(default_factory=list)
    frames_s: list[float] = field(default_factory=list)
    frames_cpu_s: list[float] = field(default_factory=list)
    encoder_s: list[float] = field(default_factory=list)
    parts_s: dict[str, list[float]] = field(default_factory=dict)
    peak_rss_mib: float = 0.0


class Contender(Protocol):
    """A predictor behind the calls that are timed.

    clock: of its image encoder. parts: further clocks, by the part's name. prepare_s: what reading frames took so far, apart
    from `open`.
    """

    clock: EncoderClock
    parts: dict[str, EncoderClock]
    prepare_s: float

    def open(self, frames: list[Path]) -> None:
        """Start over with a clip."""

    def click(self, object_id: int, x: float, y: float) -> None:
        """Answer one positive click on frame 0, in pixels of the video."""

    def track(self) -> Iterator[Tensor]:
        """Logits (O, H, W) of each frame, from frame 0."""


class EncoderClock:
    """Seconds spent in the image encoder since `reset`."""

    def __init__(self) -> None:
        self.seconds = self._started = 0.0

    def watch(self, encoder: nn.Module) -> EncoderClock:
        """Count what a module takes; returns the clock."""
        encoder.register_forward_pre_hook(self._start)
        encoder.register_forward_hook(self._stop)
        return self

    def around(self, encode: Callable[..., T]) -> Callable[..., T]:
        """A function like `encode` that is counted."""
        def timed(*args: Any, **kwargs: Any) -> T:
            self._start()
            try:
                return encode(*args, **kwargs)
            finally:
                self._stop()
        return timed

    def reset(self) -> float:
        """Start from zero; what there was."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def _stop(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._started


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """Logits (O, 1, h, w) -> (O, H, W), as Meta's predictor does it."""
    return F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def peak_rss_mib() -> float:
    """The highest resident memory of this process, in MiB.

    On Linux from the memory's own high-water mark: a child's `ru_maxrss` starts at what its parent held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main(build: Callable[[Job], Contender]) -> None:
    """Run the job that the command line names."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    started = time.perf_counter()
    with torch.inference_mode():
        contender = build(job)
        result = Result(torch.__version__, torch.get_num_threads(), time.perf_counter() - started)
        measure(contender, job, result)
    result.peak_rss_mib = peak_rss_mib()
    (Path(job.out) / RESULT_FILE).write_text(json.dumps(asdict(result)))


def measure(contender: Contender, job: Job, result: Result) -> None:
    """Fill in the times, and write masks as packed bits and logits as raw float32 (F, O, H, W)."""
    frames = sorted(Path(job.frames).iterdir())
    contender.open(frames[:WARM_UP_FRAMES])
    contender.click(1, *job.clicks[0])
    for _ in contender.track():
        pass
    print("warm", flush=True)
    clock = contender.clock
    contender.prepare_s, started = 0.0, time.perf_counter()
    contender.open(frames)
    opened_s = time.perf_counter() - started - clock.seconds
    _click(contender, job, result, clock)
    masks: list[NDArray[np.uint8]] = []
    answers = contender.track()
    with (Path(job.out) / LOGITS_FILE).open("wb") as file:
        for index in range(len(frames)):
            for each in (clock, *contender.parts.values()):
                each.reset()
            prepared, cpu, started = contender.prepare_s, time.process_time(), time.perf_counter()
            logits = next(answers)
            result.frames_s.append(time.perf_counter() - started - (contender.prepare_s - prepared))
            result.frames_cpu_s.append(time.process_time() - cpu)
            result.encoder_s.append(clock.reset())
            for name, part in contender.parts.items():
                result.parts_s.setdefault(name, []).append(part.reset())
            host = np.ascontiguousarray(logits.float().numpy())
            if host.shape != (len(job.clicks), job.height, job.width):
                raise SystemExit(f"frame {index} has logits of shape {host.shape}")
            file.write(host.data)
            masks.append(np.packbits(host > 0, axis=None))
            print(f"frame {index + 1} of {len(frames)}, {result.frames_s[-1]:.2f} s", flush=True)
    result.prepare_s = opened_s + contender.prepare_s
    np.savez_compressed(Path(job.out) / MASKS_FILE, masks=np.stack(masks),
                        shape=(len(frames), len(job.clicks), job.height, job.width))


def _click(contender: Contender, job: Job, result: Result, clock: EncoderClock) -> None:
    """Click each object. An encoder that ran when the clip was opened counts as part of the first click."""
    for number, (x, y) in enumerate(job.clicks):
        opened = clock.reset()
        prepared, started = contender.prepare_s, time.perf_counter()
        contender.click(number + 1, x, y)
        seconds = time.perf_counter() - started - (contender.prepare_s - prepared)
        if number:
            result.later_clicks_s.append(seconds)
        else:
            result.first_click_s = seconds + opened
            result.first_click_without_encoder_s = seconds - clock.seconds
