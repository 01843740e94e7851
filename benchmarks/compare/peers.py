"""What the runs need beside the project: an environment with Meta's predictor, and weights that all can read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sam_service.core.threads import WAITING

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / ".peers"
SEEDER = ROOT / "tests" / "parity" / "seeded_weights.py"

TORCH = "torch==2.13.0"
COMMON = ("numpy==2.4.6", "pillow==13.0.0", "opencv-python-headless==5.0.0.93", "tqdm==4.70.1", "hydra-core==1.3.8",
          "iopath==0.1.10")
TORCHVISION = "torchvision==0.28.0"  # without its dependencies, which would bring a torch of its own


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment of its own for a peer. bare: packages that are installed without what they depend on."""

    name: str
    pins: tuple[str, ...]
    bare: tuple[str, ...]


META = Environment("meta", COMMON, ("sam2==1.1.0", TORCHVISION))
EDGETAM = Environment("edgetam", (*COMMON, "transformers==5.23.0", "huggingface_hub==2.4.0", "safetensors==0.8.0",
                                  "PyYAML==6.0.3", "prometheus_client==0.26.0"),
                      ("edgetam-dimos==1.0.1", "timm==1.0.31", TORCHVISION))
"""Meta's EdgeTAM is a package `sam2`, too, so it cannot lie beside SAM 2.1's. The library's class of it needs timm."""


def environment(threads: int, *, waits: bool = False) -> dict[str, str]:
    """The variables of a contender's process: the packages of this tree, so many threads, no network.

    waits: threads wait for work as the service lets them (`core/threads.py`), else as they do by themselves.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "sam-service")])
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    return {**kept, **(WAITING if waits else {}), "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def peer_python(peer: Environment, torch_index: str | None, progress: Callable[[str], None]) -> Path:
    """The interpreter of a peer's environment; made on first use, and again when a pin moved.

    torch_index: the address of an index for torch alone, as `make install` takes it. Raises CalledProcessError.
    """
    folder = PEERS / peer.name
    python, note = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join([TORCH, *peer.pins, *peer.bare])
    if note.is_file() and note.read_text() == wanted:
        return python
    progress(f"making {folder.relative_to(ROOT)} with {peer.bare[0]} and torch, minutes and a gigabyte")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *(["--index-url", torch_index] if torch_index else []), TORCH])
    _run([*pip, TORCH, *peer.pins])
    _run([*pip, "--no-deps", *peer.bare])
    note.write_text(wanted)
    return python


def seeded_checkpoint(size: str, progress: Callable[[str], None]) -> Path:
    """Random weights of a size in Meta's layout, those of the parity tests; written on first use.

    Raises CalledProcessError.
    """
    version = hashlib.sha256(SEEDER.read_bytes()).hexdigest()[:8]
    folder = PEERS / f"weights-{version}"
    path = folder / f"{size}.pt"
    if not path.is_file():
        progress(f"writing seeded weights of size {size}")
        part = folder / "part"
        part.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, str(SEEDER), str(part), size], environment(1))
        (part / path.name).replace(path)
    return path


def last_lines(text: str, count: int = 6) -> str:
    """The end of a log, without empty lines."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def _run(command: list[str], variables: dict[str, str] | None = None) -> None:
    """Run a command; what it said goes into the error where it fails."""
    subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
