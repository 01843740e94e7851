"""Which models there are. The only module that imports a family; the list of sizes needs neither torch nor transformers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sam_service.core.models.edgetam import sizes as edgetam
from sam_service.core.models.nano import sizes as nano
from sam_service.core.models.sam2 import sizes as sam2
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import InvalidInput

if TYPE_CHECKING:
    from sam_service.core.models.family import Checkpoint, Family, Network

_FAMILIES: dict[str, dict[str, ModelSize]] = {
    "sam_service.core.models.nano.family": nano.SIZES,
    "sam_service.core.models.edgetam.family": edgetam.SIZES,
    "sam_service.core.models.sam2.family": sam2.SIZES,
}
"""The module that holds a family as `FAMILY`, imported when one of its sizes is loaded; and its sizes."""

SIZES: dict[str, ModelSize] = {name: size for sizes in _FAMILIES.values() for name, size in sizes.items()}
"""Every model size by its name, in the order in which they are listed."""

DEFAULT_SIZE = next(name for name, size in SIZES.items() if size.embedded)
"""The size that runs without a download."""

AUTO = "auto"
"""Stands for the size that this machine is advised (`choice.py`), where the service's settings ask for a size."""


def require_size(name: str) -> ModelSize:
    """A size by its name. Raises InvalidInput."""
    if name not in SIZES:
        raise InvalidInput(f"there is no model size {name!r}; there are {', '.join(SIZES)}", field="size")
    return SIZES[name]


def advice(name: str) -> str | None:
    """What a person should know while a size answers: that an embedded one is for trying."""
    if not SIZES[name].embedded:
        return None
    better = [other for other, size in SIZES.items() if not size.embedded]
    return (f"the embedded {name} model answers: for trying, testing and speed. For quality start the service with "
            f"SAM2_MODEL_SIZE={better[0]}, the fastest without a GPU (or {', '.join(better[1:])}: SAM 2.1), which fetches it")


def family_of(size: str) -> Family:
    """The family that a size belongs to. Raises InvalidInput."""
    require_size(size)
    module = next(module for module, sizes in _FAMILIES.items() if size in sizes)
    return cast("Family", import_module(module).FAMILY)


def register(module: str, sizes: dict[str, ModelSize]) -> None:
    """Add a family: the name of the module that holds it as `FAMILY`, and its sizes."""
    _FAMILIES[module] = sizes
    SIZES.update(sizes)


def load(size: str, checkpoint: Checkpoint, image_size: int | None = None) -> Network:
    """Load a network on the CPU in float32; image_size: the side in pixels of its input, the size's own if None.

    Raises InvalidInput (unknown size, impossible image size), ModelUnavailable, or StorageFull.
    """
    family = family_of(size)
    if image_size is not None:
        family.check_image_size(image_size)
    return family.load(size, checkpoint, image_size)


def check_folder(size: str, folder: Path) -> None:
    """Raise ModelUnavailable unless a folder holds the weights of a size. Reads names and shapes only."""
    family_of(size).check_folder(size, folder)
