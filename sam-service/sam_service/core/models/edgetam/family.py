"""The family of EdgeTAM: how its weights are loaded.

Sources: Meta's `edgetam.pt` (see `meta_layout.py`), or a Hugging Face folder or repository with an `EdgeTamVideoModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import EdgeTamVideoConfig

from sam_service.core.models.checkpoints import (
    locate,
    read_folder,
    read_meta_file,
    read_shapes,
    require_shapes,
    shapes_of,
    unavailable,
)
from sam_service.core.models.edgetam.config import STEP, config_for, read_config
from sam_service.core.models.edgetam.meta_layout import COUNTER, from_meta, to_meta
from sam_service.core.models.edgetam.network import EdgeTamNetwork, empty_model
from sam_service.core.models.edgetam.sizes import SIZES
from sam_service.core.models.family import Checkpoint, NetworkInfo
from sam_service.core.models.hub import CONFIG_FILE
from sam_service.core.models.sam.configuration import with_rope_parameters
from sam_service.core.models.sam.renaming import POSITION_MATRIX, POSITION_MATRIX_COPY
from sam_service.core.models.sam.resizing import compute_positions, count_parameters
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import InvalidInput


class EdgeTamFamily:
    """See `Family`."""

    sizes = SIZES

    def load(self, size: str, checkpoint: Checkpoint, image_size: int | None) -> EdgeTamNetwork:
        """See `Family.load`."""
        spec = SIZES[size]
        place, source = locate(spec, checkpoint)
        if place.is_file():
            config = config_for(image_size or spec.image_size)
            state = _without_counters(read_meta_file(spec, place))
            require_shapes(spec, place, shapes_of(state), shapes_of(to_meta(empty_model(config).state_dict())))
            state = from_meta(state)
        else:
            state, raw = read_folder(spec, place)
            config = _config(spec, raw, image_size)
            state = _without_counters(state)
            _complete(state)
            require_shapes(spec, place, shapes_of(state), shapes_of(empty_model(config).state_dict()))
        model = empty_model(config)
        model.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
        compute_positions(model)
        model.train(False).requires_grad_(False)
        return EdgeTamNetwork(model, NetworkInfo(size, cast(int, model.image_size), source, count_parameters(model)))

    def check_folder(self, size: str, folder: Path) -> None:
        """See `Family.check_folder`."""
        spec = SIZES[size]
        shapes, raw = read_shapes(spec, folder)
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
        _complete(shapes)
        require_shapes(spec, folder, shapes, shapes_of(empty_model(_config(spec, raw, None)).state_dict()))

    def check_image_size(self, image_size: int) -> None:
        """See `Family.check_image_size`."""
        if not STEP <= image_size <= 2048 or image_size % STEP:
            raise InvalidInput(f"image_size of edgetam must be a multiple of {STEP} between {STEP} and 2048, not {image_size}: "
                               "its memory is condensed over 16 x 16 windows of whole cells of 16 pixels", field="image_size")


FAMILY = EdgeTamFamily()


def _config(size: ModelSize, raw: Mapping[str, Any], image_size: int | None) -> EdgeTamVideoConfig:
    try:
        return read_config(with_rope_parameters(dict(raw)), image_size)
    except (StrictDataclassError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise unavailable(size, f"{CONFIG_FILE} does not describe an EdgeTamVideoModel: {error}") from error


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}


def _complete(named: dict[str, Any]) -> None:
    """Files may keep the position matrix once, under either name."""
    for name, other in ((POSITION_MATRIX, POSITION_MATRIX_COPY), (POSITION_MATRIX_COPY, POSITION_MATRIX)):
        if name in named and other not in named:
            named[other] = named[name]
