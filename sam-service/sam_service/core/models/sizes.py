"""What is said of a model size before anything of it is loaded. Imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Advice:
    """On which machines a size is advised.

    device: `cpu`, `cuda` or `mps`. order: the lowest is the best where several are advised. threads: on the CPU, at least.
    image_size: side in pixels of the input, None for the size's own.
    """

    device: str
    order: int
    threads: int = 1
    image_size: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSize:
    """One size of a family.

    label: for people. image_size: side in pixels of the usual input. repo: where its weights are published on the hub, at
    `revision`, a commit, tag or branch. meta_file: the name of Meta's `.pt`. folder: of weights that come with the package, for
    a size that needs no download. advised: where a person should take it (`choice.py`).
    """

    name: str
    label: str
    parameters_m: float
    image_size: int
    repo: str | None = None
    revision: str = "main"
    meta_file: str | None = None
    folder: Path | None = None
    note: str = ""
    advised: tuple[Advice, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the weights come with the package."""
        return self.folder is not None
