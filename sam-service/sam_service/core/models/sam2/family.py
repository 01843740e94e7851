"""The family of SAM 2.1: its sizes, and how their weights are loaded.

Sources: Meta's `.pt` (see `meta_layout.py`), or a Hugging Face folder or repository with a `Sam2VideoModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import Sam2VideoConfig, Sam2VideoModel

from sam_service.core.models.checkpoints import (
    locate,
    read_folder,
    read_meta_file,
    read_shapes,
    require_shapes,
    shapes_of,
    unavailable,
)
from sam_service.core.models.family import Checkpoint, NetworkInfo
from sam_service.core.models.hub import CONFIG_FILE
from sam_service.core.models.sam.configuration import with_rope_parameters
from sam_service.core.models.sam.resizing import compute_positions, count_parameters
from sam_service.core.models.sam2.config import config_for, with_image_size
from sam_service.core.models.sam2.meta_layout import POSITION_MATRIX, POSITION_MATRIX_COPY, from_meta, to_meta
from sam_service.core.models.sam2.network import Sam2Network, empty_model
from sam_service.core.models.sam2.sizes import SIZES
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import InvalidInput

TOLD_APART_BY = ("hidden_size", "blocks_per_stage", "num_attention_heads_per_stage", "global_attention_blocks",
                 "window_size_per_stage")


class Sam2Family:
    """See `Family`."""

    sizes = SIZES

    def load(self, size: str, checkpoint: Checkpoint, image_size: int | None) -> Sam2Network:
        """See `Family.load`."""
        spec = SIZES[size]
        place, source = locate(spec, checkpoint)
        if place.is_file():
            model = _load_meta_file(spec, place, image_size or spec.image_size)
        else:
            model = _load_folder(spec, place, image_size)
        model.train(False).requires_grad_(False)
        return Sam2Network(model, NetworkInfo(size, _image_size(model.config), source, count_parameters(model)))

    def check_folder(self, size: str, folder: Path) -> None:
        """See `Family.check_folder`."""
        spec = SIZES[size]
        shapes, raw = read_shapes(spec, folder)
        shapes.setdefault(POSITION_MATRIX_COPY, shapes.get(POSITION_MATRIX, ()))
        config = _config(spec, folder, raw)
        require_shapes(spec, folder, shapes, shapes_of(empty_model(with_image_size(config, _image_size(config))).state_dict()))

    def check_image_size(self, image_size: int) -> None:
        """See `Family.check_image_size`."""
        if not 128 <= image_size <= 2048 or image_size % 32:
            raise InvalidInput(
                f"image_size must be a multiple of 32 between 128 and 2048, not {image_size}: the encoder's position "
                "embedding repeats every 8 tokens of 4 pixels, and its coarsest tokens are 32 pixels wide",
                field="image_size",
            )


FAMILY = Sam2Family()


def _load_meta_file(size: ModelSize, path: Path, image_size: int) -> Sam2VideoModel:
    state = read_meta_file(size, path)
    model = empty_model(config_for(size.name, image_size))
    require_shapes(size, path, shapes_of(state), shapes_of(to_meta(model.state_dict())))
    return _fill(model, from_meta(state))


def _load_folder(size: ModelSize, folder: Path, image_size: int | None) -> Sam2VideoModel:
    state, raw = read_folder(size, folder)
    state.setdefault(POSITION_MATRIX_COPY, state.get(POSITION_MATRIX, Tensor()).clone())  # files may keep it once
    config = _config(size, folder, raw)
    model = empty_model(with_image_size(config, image_size or _image_size(config)))
    require_shapes(size, folder, shapes_of(state), shapes_of(model.state_dict()))
    return _fill(model, state)


def _config(size: ModelSize, folder: Path, raw: dict[str, Any]) -> Sam2VideoConfig:
    """The configuration. Raises ModelUnavailable unless it has the encoder of `size`: shapes do not tell heads or windows."""
    try:
        config = Sam2VideoConfig.from_dict(with_rope_parameters(raw))
    except (StrictDataclassError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise unavailable(size, f"{CONFIG_FILE} does not describe a Sam2VideoModel: {error}") from error
    vision: tuple[Any, Any] = (config_for(size.name).vision_config, config.vision_config)
    ours, theirs = (part.backbone_config for part in vision)
    for field in TOLD_APART_BY:
        if getattr(theirs, field, None) != getattr(ours, field):
            why = f"{field} is {getattr(theirs, field, None)} and {size.name} has {getattr(ours, field)}"
            raise unavailable(size, f"{folder.name} holds another network: {why}")
    return config


def _fill(model: Sam2VideoModel, state: Mapping[str, Tensor]) -> Sam2VideoModel:
    """Put real tensors into an empty model, without a copy where they are fp32 already."""
    model.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    compute_positions(model)
    return model


def _image_size(config: Sam2VideoConfig) -> int:
    """The side in pixels; the library's type also allows a pair, of which only squares run."""
    size = config.image_size
    return size if isinstance(size, int) else int(size[0])
