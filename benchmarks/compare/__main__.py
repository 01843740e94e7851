"""Run the same clip, weights and clicks through three predictors and compare speed, memory and answers.

    make bench                                              # Meta's code, transformers' and ours: tiny, EdgeTAM; 1 object, 4
    make bench ARGS=--quick                                 # the rows that matter most, in some 8 minutes on 2 cores
    make bench ARGS='--size tiny --only ours --modes exact size-512'
    make bench ARGS='--size tiny --checkpoint sam2.1_hiera_tiny.pt --video clip.mp4 --click 640 360 --repeat 3'

Every run is a process of its own, one after the other. Prints a table and writes JSON; progress goes to stderr. Exit code 1
where a contender failed. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sam_service.core.device import cpu_has_bfloat16
from sam_service.core.models.registry import SIZES
from sam_service.core.threads import usable_cpus

from benchmarks.compare import report
from benchmarks.compare.clip import clicks, write_frames
from benchmarks.compare.measure import LOGITS_FILE, MASKS_FILE, RESULT_FILE, Job
from benchmarks.compare.neighbour import neighbour
from benchmarks.compare.ours import MODES
from benchmarks.compare.peers import (
    EDGETAM,
    META,
    ROOT,
    environment,
    last_lines,
    peer_python,
    seeded_checkpoint,
)
from benchmarks.compare.plan import CONDENSED, EMBEDDED, EXACT, HALF, MODULES, Entry, entries, modes_of


def progress(text: str) -> None:
    """Say on stderr how far the comparison is."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["tiny", CONDENSED], metavar="SIZE",
                        help=f"by default %(default)s; {EMBEDDED}, the embedded model, has no peers but itself")
    parser.add_argument("--only", default=",".join(MODULES), help="contenders, with commas between: %(default)s")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=[],
                        help="how ours runs; by default exact and, where the size has them, bfloat16 and 512 pixels")
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--frames", type=int, default=14, help=f"at least {report.STEADY_FROM + 1}; by default %(default)s")
    parser.add_argument("--image-size", type=int, help="side of the model's input; by default the size's own")
    parser.add_argument("--beside", choices=("quiet", "busy", "both"), default="both",
                        help="busy: beside a process that computes on all cores; by default the exact runs of one object are "
                             "made both ways")
    parser.add_argument("--quick", action="store_true", help="a part of the rows, 10 frames, each run once")
    parser.add_argument("--checkpoint", type=Path, help="Meta's .pt, of one size; by default seeded random weights")
    parser.add_argument("--video", type=Path, help="by default a made-up clip of 1280 x 720")
    parser.add_argument("--click", nargs=2, type=float, action="append", default=[], metavar=("X", "Y"),
                        help="a point of frame 0 in pixels, once for each object; by default the middle and around it")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="by default the usable CPUs, %(default)s here")
    parser.add_argument("--repeat", type=int, default=1, help="run everything so many times, interleaved")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "compare.json")
    parser.add_argument("--meta-python", default=os.environ.get("SAM2_PEER_PYTHON"),
                        help="an interpreter that has sam2; by default SAM2_PEER_PYTHON, or an environment that is made")
    parser.add_argument("--edgetam-python", default=os.environ.get("EDGETAM_PEER_PYTHON"),
                        help="the same for Meta's and transformers' EdgeTAM; by default EDGETAM_PEER_PYTHON")
    parser.add_argument("--torch-index", help="where pip finds torch for those environments, such as PyTorch's CPU wheels")
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.repeat = report.STEADY_FROM + 2, 1
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in MODULES]
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if options.frames <= report.STEADY_FROM or min(*options.objects, options.threads, options.repeat) < 1:
        parser.error(f"--frames is at least {report.STEADY_FROM + 1}; --objects, --threads and --repeat at least 1")
    if options.checkpoint and len(options.size) > 1:
        parser.error("--checkpoint holds one size: name it with --size")
    for mode in options.modes:
        if not any(mode in modes_of(size, options.modes) for size in options.size):
            parser.error(f"--modes: {' and '.join(options.size)} have no {mode}")
    if not cpu_has_bfloat16() and not options.modes:
        options.modes = [EXACT, HALF]
    return options


def planned(options: argparse.Namespace) -> list[Entry]:
    """The runs that the options ask for."""
    every = list(entries(options.size, options.only, options.modes, options.objects, beside=options.beside,
                         repeats=options.repeat))
    if not options.quick:
        return every
    return [entry for entry in every if entry.name != "transformers" or entry.size == CONDENSED
            if entry.objects == 1 or (entry.size == CONDENSED and entry.mode == EXACT and entry.name != "transformers")
            if not entry.busy or entry.size == CONDENSED]


class Comparison:
    """All runs over one clip. folder: scratch, holds the frames and the answers that others are compared with."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.frames = folder / "frames"
        self.width, self.height = write_frames(self.frames, options.video, options.frames)
        self.checkpoints = {size: options.checkpoint or (None if size == EMBEDDED else seeded_checkpoint(size, progress))
                            for size in options.size}
        self.runs: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, str, int, bool], Path] = {}

    def run_all(self) -> None:
        """Every run, one after the other."""
        plan = planned(self.options)
        for number, entry in enumerate(plan):
            progress(f"run {number + 1} of {len(plan)}: {entry.label}")
            run = {"contender": entry.name, **{name: getattr(entry, name) for name in ("size", "objects", "busy", "repeat")},
                   "same_size": entry.mode if entry.module != "ours" or entry.mode == HALF else EXACT}
            try:
                self.runs.append(run | self._run(entry))
            except (subprocess.CalledProcessError, OSError) as error:
                said = error.stdout if isinstance(error, subprocess.CalledProcessError) else None
                self.runs.append(run | {"error": last_lines(said or str(error))})
                progress(f"FAILED: {self.runs[-1]['error']}")

    def _python(self, entry: Entry) -> str:
        """The interpreter of a run."""
        options = self.options
        if entry.module == "ours" or (entry.module == "transformers_peer" and entry.size != CONDENSED):
            return sys.executable
        given, peer = (options.edgetam_python, EDGETAM) if entry.size == CONDENSED else (options.meta_python, META)
        return given or str(peer_python(peer, options.torch_index, progress))

    def _run(self, entry: Entry) -> dict[str, Any]:
        options, out = self.options, self.folder / re.sub(r"\W+", "-", f"{entry.label} {entry.repeat}")
        out.mkdir()
        checkpoint, side = self.checkpoints[entry.size], options.image_size or SIZES[entry.size].image_size
        if entry.module != "ours" and entry.mode == HALF:
            side = MODES[HALF].image_size
        job = Job(entry.size, "" if checkpoint is None else str(checkpoint.resolve()), side, options.threads, str(self.frames),
                  self.width, self.height, clicks(entry.objects, self.width, self.height, options.click), str(out), entry.mode)
        (out / "job.json").write_text(json.dumps(asdict(job)))
        command = [self._python(entry), "-m", f"benchmarks.compare.{entry.module}", str(out / "job.json")]
        load, started = os.getloadavg(), time.monotonic()
        with neighbour(options.threads, there=entry.busy):
            _watch(command, environment(options.threads, waits=entry.module == "ours"), out / "log.txt")
        result = json.loads((out / RESULT_FILE).read_text())
        return {**result, "every": MODES[entry.mode].every, "wall_s": round(time.monotonic() - started, 1),
                "load_average_before": load, **self._compare(entry, out)}

    def _compare(self, entry: Entry, out: Path) -> dict[str, Any]:
        """How masks and logits differ from those of the first run of `entry.base`; keeps masks, drops logits."""
        masks = self.options.out.parent / "masks"
        masks.mkdir(exist_ok=True)
        (out / MASKS_FILE).replace(kept := masks / f"{re.sub(r'[^a-z0-9-]+', '-', entry.label)}.npz")
        if entry.module == "ours" and entry.mode in (EXACT, HALF):
            self._answers.setdefault(entry.key, out / LOGITS_FILE)
        found: dict[str, Any] = {}
        if (exact := self._answers.get(entry.base)) is not None:
            ours, theirs = self._logits(exact, entry.objects), self._logits(out / LOGITS_FILE, entry.objects)
            found = {"mask_iou": report.agreement(theirs > 0, ours > 0),
                     "logits_difference": report.logits_difference(theirs, ours)}
        if out / LOGITS_FILE not in self._answers.values():
            (out / LOGITS_FILE).unlink()
        return {**found, "masks": str(kept.name)}

    def _logits(self, path: Path, objects: int) -> NDArray[np.float32]:
        """(F, O, H, W), read from disk as it is needed."""
        return np.memmap(path, np.float32, "r", shape=(self.options.frames, objects, self.height, self.width))


def _watch(command: list[str], variables: dict[str, str], log: Path) -> None:
    """Run a contender and show what it says. Raises CalledProcessError with the end of its log."""
    with log.open("w") as file, subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=file, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                progress(f"  {line.rstrip()}")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command,
                                            log.read_text() + f"exit code {process.returncode}")


def main() -> int:
    """Parse the options, run, print a table, write JSON."""
    options = parse()
    machine = report.machine()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    where = f"{machine['cpu']}, {machine['cores']} cores, {options.threads} threads"
    load = machine["load_average_at_start"][0]
    busy = f"load average {load:.2f} at the start" + (": other work slows all of this down" if load > 0.3 else "")
    progress(f"{where}; {busy}")
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        try:
            comparison = Comparison(options, Path(folder).resolve())
        except (ValueError, subprocess.CalledProcessError) as error:
            progress(last_lines(getattr(error, "stdout", None) or str(error)))
            return 2
        comparison.run_all()
    found = report.rows(comparison.runs)
    seeded = options.checkpoint is None and options.size != [EMBEDDED]
    torch_versions = sorted({run["torch_version"] for run in comparison.runs if "torch_version" in run})
    written = {
        "machine": {**machine, "torch": torch_versions, "threads": options.threads},
        "clip": {"video": options.video.name if options.video else "made up", "frames": options.frames,
                 "size": [comparison.width, comparison.height]},
        "model": {"sizes": options.size, "image_size": options.image_size,
                  "weights": "seeded random" if seeded else options.checkpoint.name if options.checkpoint else "embedded"},
        "modes": {mode: str(MODES[mode]) for size in options.size for mode in modes_of(size, options.modes)},
        "note": report.note(seeded), "results": found, "runs": comparison.runs,
    }
    options.out.write_text(json.dumps(written, indent=1))
    print(report.table(found))
    if parts := report.profile(comparison.runs):
        print(f"\nSeconds of a frame with one object, by part:\n{parts}")
    print(f"\n{report.note(seeded)}\n{where}, torch {', '.join(torch_versions)}; {busy}\nJSON in {options.out}")
    return 1 if any(row["failed"] for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
