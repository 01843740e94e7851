"""Weights become a network: where weights come from, how they are checked and loaded.

A size that was asked for is loaded, or `ModelUnavailable` says what was looked for, why it cannot be had and how to get
it; another size is never put in its place. Whatever the source, every learned tensor has to be there in its shape, and
nothing may be left over. Nothing here reads settings or the environment.

Sources: Meta's `.pt` (see `meta_layout`), a Hugging Face folder or repository with `Sam2VideoModel`, the embedded nano.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import Sam2VideoConfig, Sam2VideoModel

from sam_service.core.hub import CONFIG_FILE, WEIGHTS_FILE, check_sha256, fetch, sha256_of
from sam_service.core.meta_layout import POSITION_MATRIX, POSITION_MATRIX_COPY, from_meta, to_meta
from sam_service.core.nano import ARCHITECTURE, build_nano, fold_norms
from sam_service.core.sizes import SIZES, ModelSize, check_image_size, config_for, resize
from sam_service.errors import InvalidInput, ModelUnavailable

NANO_FOLDER = Path(__file__).parent.parent / "checkpoints" / "nano"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network ready to run: fp32, on the CPU, in eval mode, without gradients.

    `source` says in words where the weights came from; `hints` whether the network takes hints (`hints.py`; nano only).
    """

    model: Sam2VideoModel
    size: str
    image_size: int
    source: str
    hints: bool
    parameters: int


def load_model(
    size: str,
    *,
    checkpoint: Path | str | None = None,
    image_size: int | None = None,
    cache_dir: Path | str | None = None,
    offline: bool = False,
    revision: str | None = None,
    sha256: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load `size` from `checkpoint`: Meta's `.pt`, a folder, `owner/name` on the hub, or None for its usual source.

    `image_size` is the side in pixels of the square that the network sees; None keeps the checkpoint's own. `revision`
    is a commit, tag or branch on the hub. `sha256` is what the `.pt` or `model.safetensors` has to have, checked before it
    is read. `progress` is told in words what takes time. Raises InvalidInput (unknown size, impossible image size),
    ModelUnavailable, or StorageFull.
    """
    if size not in SIZES:
        raise InvalidInput(f"there is no model size {size!r}; there are {', '.join(SIZES)}", field="size")
    if image_size is not None:
        check_image_size(image_size)
    tell = progress or (lambda _text: None)
    spec = SIZES[size]
    place, source = _locate(spec, checkpoint, revision or spec.revision, cache_dir, offline, tell)
    if sha256 is not None:
        _check_sha256(spec, place if place.is_file() else place / WEIGHTS_FILE, sha256)
    tell(f"loading {size} ({source})")
    if place.is_file():
        model = _load_meta_file(spec, place, image_size or spec.image_size)
    elif spec.repo is None:
        model = _load_nano(place, image_size)
    else:
        model = _load_folder(spec, place, image_size)
    model.train(False).requires_grad_(False)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return LoadedModel(model, size, _image_size(model.config), source, spec.repo is None, parameters)


def check_folder(size: str, folder: Path) -> None:
    """Raise ModelUnavailable unless a Hugging Face folder holds the network of `size`. Reads names and shapes, no weights."""
    spec = SIZES[size]
    try:
        raw: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(spec, folder, error) from error
    shapes.setdefault(POSITION_MATRIX_COPY, shapes.get(POSITION_MATRIX, ()))
    config = _read_config(spec, folder, raw)
    _check(spec, folder, shapes, _shapes(empty_model(resize(config, _image_size(config))).state_dict()))


def empty_model(config: Sam2VideoConfig) -> Sam2VideoModel:
    """The network without weights: names and shapes on the meta device, no memory and no initialisation."""
    with torch.device("meta"):
        return Sam2VideoModel(config)


def _locate(
    spec: ModelSize,
    checkpoint: Path | str | None,
    revision: str,
    cache_dir: Path | str | None,
    offline: bool,
    tell: Callable[[str], None],
) -> tuple[Path, str]:
    """Where the weights lie on this disk, after a download if need be, and where they came from in words."""
    if checkpoint is None and spec.repo is None:
        return NANO_FOLDER, "embedded"
    path = Path(checkpoint or "")
    if checkpoint is not None and path.exists():
        return path, f"{'file' if path.is_file() else 'folder'} {path.name}"
    repo = str(checkpoint or spec.repo)
    if isinstance(checkpoint, Path) or path.suffix in (".pt", ".pth") or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise _unavailable(spec, f"there is no file or folder {path.name}")
    tell(f"fetching {repo} at {revision} ({spec.parameters_m:.0f} million parameters)")
    try:
        snapshot = fetch(repo, revision, cache_dir=cache_dir, offline=offline)
    except ModelUnavailable as error:
        raise _unavailable(spec, error.message) from error
    return snapshot.folder, str(snapshot)


def _check_sha256(spec: ModelSize, file: Path, wanted: str) -> None:
    try:
        check_sha256(file, sha256_of(file), wanted)
    except OSError as error:
        raise _unavailable(spec, f"{file.name} cannot be read: {type(error).__name__}") from error
    except ModelUnavailable as error:
        raise _unavailable(spec, error.message) from error


def _load_meta_file(spec: ModelSize, path: Path, image_size: int) -> Sam2VideoModel:
    if spec.repo is None:
        raise _unavailable(spec, f"{path.name} is a file; nano is read from a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        shapes = {name: tuple(value.shape) for name, value in state.items()}
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        why = "it is truncated, is no PyTorch file, or holds more than tensors"
        raise _unavailable(spec, f"{path.name} cannot be read as Meta's .pt: {why} ({type(error).__name__})") from error
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise _unavailable(spec, f"{path.name} does not hold {{'model': weights by name}} as Meta's .pt does") from error
    model = empty_model(config_for(spec.name, image_size))
    _check(spec, path, shapes, _shapes(to_meta(model.state_dict())))
    return _fill(model, from_meta(state))


def _load_folder(spec: ModelSize, folder: Path, image_size: int | None) -> Sam2VideoModel:
    state, raw = _read_folder(spec, folder)
    state.setdefault(POSITION_MATRIX_COPY, state.get(POSITION_MATRIX, torch.empty(0)).clone())  # files may keep it once
    config = _read_config(spec, folder, raw)
    model = empty_model(resize(config, image_size or _image_size(config)))
    _check(spec, folder, _shapes(state), _shapes(model.state_dict()))
    return _fill(model, state)


def _read_config(spec: ModelSize, folder: Path, raw: dict[str, Any]) -> Sam2VideoConfig:
    """The configuration. Raises ModelUnavailable unless it has the encoder of `spec`: shapes do not tell heads or windows."""
    try:
        config = Sam2VideoConfig.from_dict(raw)
    except (StrictDataclassError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unavailable(spec, f"{CONFIG_FILE} does not describe a Sam2VideoModel: {error}") from error
    vision: tuple[Any, Any] = (config_for(spec.name).vision_config, config.vision_config)
    ours, theirs = (part.backbone_config for part in vision)
    for field in (
        "hidden_size",
        "blocks_per_stage",
        "num_attention_heads_per_stage",
        "global_attention_blocks",
        "window_size_per_stage",
    ):
        if getattr(theirs, field, None) != getattr(ours, field):
            why = f"{field} is {getattr(theirs, field, None)} and {spec.name} has {getattr(ours, field)}"
            raise _unavailable(spec, f"{folder.name} holds another network: {why}")
    return config


def _load_nano(folder: Path, image_size: int | None) -> Sam2VideoModel:
    spec = SIZES["nano"]
    state, config = _read_folder(spec, folder)
    if "sha256" not in config:
        raise _unavailable(spec, f"{CONFIG_FILE} is not nano's: it has no sha256")
    if config.get("architecture") != ARCHITECTURE:
        raise _unavailable(spec, f"{folder.name} holds the architecture {config.get('architecture')!r}, and this version "
                                 f"runs {ARCHITECTURE!r}")
    digest = sha256_of(folder / WEIGHTS_FILE)
    if digest != config["sha256"]:
        raise _unavailable(spec, f"{WEIGHTS_FILE} is damaged: sha256 is {digest}, not {config['sha256']}")
    model = build_nano(image_size or int(config["image_size"]))
    _check(spec, folder, _shapes(state), _shapes(model.state_dict()))
    model.load_state_dict({name: value.float() for name, value in state.items()})
    fold_norms(model)
    return model


def _read_folder(spec: ModelSize, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        return load_file(folder / WEIGHTS_FILE), config
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(spec, folder, error) from error


def _fill(model: Sam2VideoModel, state: Mapping[str, Tensor]) -> Sam2VideoModel:
    """Put real tensors into an empty model, without a copy where they are fp32 already."""
    model.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    _compute_positions(model)
    return model


def _compute_positions(model: Sam2VideoModel) -> None:
    """Compute what no checkpoint stores: the memory attention's grid of positions and its rotary frequencies."""
    attention = model.memory_attention
    attention.position_ids = attention.precompute_positions(model.config)
    attention.rotary_emb = type(attention.rotary_emb)(model.config)


def _image_size(config: Sam2VideoConfig) -> int:
    """The side in pixels; the library's type also allows a pair, of which only squares run."""
    size = config.image_size
    return size if isinstance(size, int) else int(size[0])


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _check(spec: ModelSize, place: Path, found: Shapes, wanted: Shapes) -> None:
    """Raise ModelUnavailable, naming the first few, unless names and shapes are exactly those of the size."""
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": [name for name in wanted if name in found and found[name] != wanted[name]],
    }
    told = [f"{len(names)} {fault} ({', '.join(names[:4])})" for fault, names in faults.items() if names]
    if told:
        raise _unavailable(spec, f"the tensors in {place.name} are not those of {spec.name}: {'; '.join(told)}")


def _unreadable(spec: ModelSize, folder: Path, error: Exception) -> ModelUnavailable:
    return _unavailable(spec, f"{folder.name} needs {CONFIG_FILE} and {WEIGHTS_FILE} in good order: {type(error).__name__}")


def _unavailable(spec: ModelSize, why: str) -> ModelUnavailable:
    if spec.repo is None:
        remedy = "reinstall the package, or name a folder that the trainer wrote"
    else:
        remedy = f"download {spec.meta_file} from Meta or the repository {spec.repo}, and name it as the checkpoint"
    return ModelUnavailable(f"model {spec.name} is not available: {why}. To get it: {remedy}.")


def resized(loaded: LoadedModel, image_size: int) -> Sam2VideoModel:
    """The same network for another input size in pixels. All weights are shared, a quantized image encoder too.

    Raises InvalidInput for a size that the network cannot run at.
    """
    check_image_size(image_size)
    source = loaded.model
    config = resize(copy.deepcopy(source.config), image_size)
    model = build_nano(image_size) if loaded.size == "nano" else empty_model(config)
    sized = {"prompt_encoder", "memory_attention"}
    for name, module in source.named_children():
        if name not in sized:
            setattr(model, name, module)
    for name in sized:
        getattr(model, name).load_state_dict(getattr(source, name).state_dict(), assign=True)
    for name, parameter in source.named_parameters(recurse=False):
        setattr(model, name, parameter)
    _compute_positions(model)
    model.train(False).requires_grad_(False)
    return model
