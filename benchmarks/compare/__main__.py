"""Run the same clip, weights and clicks through three predictors and compare speed, memory and answers.

    make bench                                              # Meta's sam2 1.1.0, transformers, ours: 1 object, 4 objects
    make bench ARGS='--only ours --modes exact size-512'
    make bench ARGS='--checkpoint sam2.1_hiera_tiny.pt --video clip.mp4 --click 640 360 --repeat 3'

Every run is a process of its own, one after the other. Prints a table and writes JSON; progress goes to stderr. Exit code 1
where a contender failed. docs/benchmarks.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sam_service.core.models.registry import SIZES
from sam_service.core.threads import usable_cpus

from benchmarks.compare import report
from benchmarks.compare.clip import clicks, write_frames
from benchmarks.compare.measure import LOGITS_FILE, MASKS_FILE, RESULT_FILE, Job
from benchmarks.compare.ours import EXACT, MODES
from benchmarks.compare.peers import ROOT, environment, last_lines, meta_python, seeded_checkpoint

MODULES = {"ours": "ours", "meta": "meta_peer", "transformers": "transformers_peer"}
BASE = f"ours {EXACT}"
NANO = "nano"


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(MODULES), help="contenders, with commas between: %(default)s")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=[EXACT], help="how ours runs, by default exact")
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--frames", type=int, default=14, help=f"at least {report.STEADY_FROM + 1}; by default %(default)s")
    parser.add_argument("--image-size", type=int, help="side of the model's input; by default the size's own")
    parser.add_argument("--size", choices=(NANO, "tiny", "small", "base_plus", "large"), default="tiny",
                        help=f"by default %(default)s; {NANO}, the embedded model, knows no peers and is compared with itself")
    parser.add_argument("--checkpoint", type=Path, help="Meta's .pt of that size; by default seeded random weights")
    parser.add_argument("--video", type=Path, help="by default a made-up clip of 1280 x 720")
    parser.add_argument("--click", nargs=2, type=float, action="append", default=[], metavar=("X", "Y"),
                        help="a point of frame 0 in pixels, once for each object; by default the middle and around it")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="by default the usable CPUs, %(default)s here")
    parser.add_argument("--repeat", type=int, default=1, help="run everything so many times, interleaved")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "compare.json")
    parser.add_argument("--meta-python", default=os.environ.get("SAM2_PEER_PYTHON"),
                        help="an interpreter that has sam2; by default SAM2_PEER_PYTHON, or an environment that is made")
    parser.add_argument("--torch-index", help="where pip finds torch for that environment, such as PyTorch's CPU wheels")
    options = parser.parse_args(arguments)
    options.only = ["ours"] if options.size == NANO else options.only.split(",")
    options.image_size = options.image_size or SIZES[options.size].image_size
    unknown = [name for name in options.only if name not in MODULES]
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if options.frames <= report.STEADY_FROM or min(*options.objects, options.threads, options.repeat) < 1:
        parser.error(f"--frames is at least {report.STEADY_FROM + 1}; --objects, --threads and --repeat at least 1")
    return options


class Comparison:
    """All runs over one clip. folder: scratch, holds the frames and the answers of ours exact."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.frames = folder / "frames"
        self.width, self.height = write_frames(self.frames, options.video, options.frames)
        self.checkpoint = options.checkpoint or (None if options.size == NANO else seeded_checkpoint(options.size, tell))
        self.runs: list[dict[str, Any]] = []
        self._exact: dict[int, Path] = {}

    def contenders(self) -> list[tuple[str, str, str]]:
        """(name, module, mode) in the order of the runs; ours exact goes first, since others are compared with it."""
        modes = sorted(dict.fromkeys(self.options.modes), key=lambda mode: mode != EXACT)
        ours = [(f"ours {mode}", "ours", mode) for mode in modes] if "ours" in self.options.only else []
        return ours + [(name, MODULES[name], "") for name in dict.fromkeys(self.options.only) if name != "ours"]

    def run_all(self) -> None:
        """Every contender with each number of objects, `--repeat` times, interleaved."""
        for repeat in range(self.options.repeat):
            for objects in dict.fromkeys(self.options.objects):
                for name, module, mode in self.contenders():
                    tell(f"{name}, {objects} object{'s' * (objects > 1)}, run {repeat + 1} of {self.options.repeat}")
                    run = {"contender": name, "objects": objects, "repeat": repeat}
                    try:
                        self.runs.append(run | self._run(name, module, mode, objects, repeat))
                    except (subprocess.CalledProcessError, OSError) as error:
                        said = error.stdout if isinstance(error, subprocess.CalledProcessError) else None
                        self.runs.append(run | {"error": last_lines(said or str(error))})
                        tell(f"FAILED: {self.runs[-1]['error']}")

    def _run(self, name: str, module: str, mode: str, objects: int, repeat: int) -> dict[str, Any]:
        options = self.options
        python = sys.executable
        if module == "meta_peer":
            python = options.meta_python or str(meta_python(options.torch_index, tell))
        out = self.folder / f"{name.replace(' ', '-')}-{objects}-{repeat}"
        out.mkdir()
        checkpoint = "" if self.checkpoint is None else str(self.checkpoint.resolve())
        job = Job(options.size, checkpoint, options.image_size, options.threads, str(self.frames),
                  self.width, self.height, clicks(objects, self.width, self.height, options.click), str(out), mode)
        (out / "job.json").write_text(json.dumps(asdict(job)))
        load, started = os.getloadavg(), time.monotonic()
        command = [python, "-m", f"benchmarks.compare.{module}", str(out / "job.json")]
        variables = environment(options.threads)
        with (out / "log.txt").open("w") as log, subprocess.Popen(
                command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    tell(f"  {line.rstrip()}")
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            said = (out / "log.txt").read_text() + f"exit code {process.returncode}"
            raise subprocess.CalledProcessError(process.returncode, command, said)
        result = json.loads((out / RESULT_FILE).read_text())
        every = MODES[mode].every if mode else 1
        return {**result, "every": every, "wall_s": round(time.monotonic() - started, 1), "load_average_before": load,
                **self._compare(name, objects, out)}

    def _compare(self, name: str, objects: int, out: Path) -> dict[str, Any]:
        """How masks and logits differ from ours exact's of the first run; keeps masks, drops logits."""
        masks = self.options.out.parent / "masks"
        masks.mkdir(exist_ok=True)
        (out / MASKS_FILE).replace(kept := masks / f"{name.replace(' ', '-')}-{objects}.npz")
        if name == BASE and objects not in self._exact:
            self._exact[objects] = out / LOGITS_FILE
        found: dict[str, Any] = {}
        if (exact := self._exact.get(objects)) is not None:
            ours, theirs = self._logits(exact, objects), self._logits(out / LOGITS_FILE, objects)
            found = {"mask_iou": report.agreement(theirs > 0, ours > 0),
                     "logits_difference": report.logits_difference(theirs, ours)}
        if out / LOGITS_FILE != exact:
            (out / LOGITS_FILE).unlink()
        return {**found, "masks": str(kept.name)}

    def _logits(self, path: Path, objects: int) -> NDArray[np.float32]:
        """(F, O, H, W), read from disk as it is needed."""
        return np.memmap(path, np.float32, "r", shape=(self.options.frames, objects, self.height, self.width))


def main() -> int:
    """Parse the options, run, print a table, write JSON."""
    options = parse()
    machine = report.machine()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    where = f"{machine['cpu']}, {machine['cores']} cores, {options.threads} threads"
    load = machine["load_average_at_start"][0]
    busy = f"load average {load:.2f} at the start" + (": other work slows all of this down" if load > 0.3 else "")
    tell(f"{where}; {busy}")
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        try:
            comparison = Comparison(options, Path(folder).resolve())
        except (ValueError, subprocess.CalledProcessError) as error:
            tell(last_lines(getattr(error, "stdout", None) or str(error)))
            return 2
        comparison.run_all()
    found = report.rows(comparison.runs)
    seeded = options.checkpoint is None and options.size != NANO
    torch_versions = sorted({run["torch_version"] for run in comparison.runs if "torch_version" in run})
    written = {
        "machine": {**machine, "torch": torch_versions, "threads": options.threads},
        "clip": {"video": options.video.name if options.video else "made up", "frames": options.frames,
                 "size": [comparison.width, comparison.height]},
        "model": {"size": options.size, "image_size": options.image_size,
                  "weights": "seeded random" if seeded else options.checkpoint.name if options.checkpoint else "embedded"},
        "modes": {mode: str(MODES[mode]) for mode in options.modes},
        "note": report.note(seeded), "results": found, "runs": comparison.runs,
    }
    options.out.write_text(json.dumps(written, indent=1))
    print(report.table(found))
    print(f"\n{report.note(seeded)}\n{where}, torch {', '.join(torch_versions)}; {busy}\nJSON in {options.out}")
    return 1 if any(row["failed"] for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
