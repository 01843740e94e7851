"""Write a hub cache with seeded weights of a size, in their real layout: `python -m deploy.image_weights SIZE FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sam_service.core.models.registry import SIZES

COMMIT = "c0" * 20


def main() -> None:
    """Make the folder."""
    size, folder = SIZES[sys.argv[1]], Path(sys.argv[2])
    place = folder / "hub" / f"models--{str(size.repo).replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    config, shapes = layout(size.name)
    torch.manual_seed(0)
    save_file({name: torch.ones(shape) if name.endswith("running_var") else torch.randn(shape) * 0.02
               for name, shape in shapes.items()}, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps(config))


def layout(size: str) -> tuple[dict[str, object], dict[str, torch.Size]]:
    """The configuration of a size and the shape of each of its tensors."""
    if size == "edgetam":
        from sam_service.core.models.edgetam.config import FLAGS
        from sam_service.core.models.edgetam.config import config_for as config_of
        from sam_service.core.models.edgetam.network import empty_model as empty
        config = config_of(SIZES[size].image_size)
        tensors = empty(config).state_dict().items()
        return dict(FLAGS), {name: value.shape for name, value in tensors if value.is_floating_point()}
    from sam_service.core.models.sam2.config import config_for
    from sam_service.core.models.sam2.network import empty_model
    described = config_for(size)
    return described.to_dict(), {name: value.shape for name, value in empty_model(described).state_dict().items()}


if __name__ == "__main__":
    main()
