"""Networks for tests that look inside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint
from sam_service.core.models.sam.network import SamNetwork


def load_network(size: str, *, checkpoint: Path | str | None = None, image_size: int | None = None, **more: Any) -> SamNetwork:
    """A network of SAM 2's kind, as the registry loads it: on the CPU in float32, not prepared. more: of the `Checkpoint`."""
    return cast(SamNetwork, registry.load(size, Checkpoint(checkpoint, **more), image_size))
