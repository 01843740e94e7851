"""Weights on disk: where they come from, how their files are read and checked. The half that all families share.

A size that was asked for is loaded, or `ModelUnavailable` says what was looked for, why it cannot be had and how to get
it; another size is never put in its place. Whatever the source, every learned tensor has to be there in its shape, and
nothing may be left over. Nothing here reads settings or the environment.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sam_service.core.models.family import Checkpoint
from sam_service.core.models.hub import CONFIG_FILE, WEIGHTS_FILE, check_sha256, fetch, sha256_of
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import ModelUnavailable

Shapes = Mapping[str, tuple[int, ...]]


def locate(size: ModelSize, checkpoint: Checkpoint) -> tuple[Path, str]:
    """Where the weights lie on this disk, after a download if need be, and where they came from in words.

    Their checksum is compared where one is given. Raises ModelUnavailable or StorageFull.
    """
    place, source = _locate(size, checkpoint)
    if checkpoint.sha256 is not None:
        _check_sha256(size, place if place.is_file() else place / WEIGHTS_FILE, checkpoint.sha256)
    checkpoint.progress(f"loading {size.name} ({source})")
    return place, source


def _locate(size: ModelSize, checkpoint: Checkpoint) -> tuple[Path, str]:
    asked = checkpoint.place
    if asked is None and size.folder is not None:
        return size.folder, "embedded"
    path = Path(asked or "")
    if asked is not None and path.exists():
        return path, f"{'file' if path.is_file() else 'folder'} {path.name}"
    repo = str(asked or size.repo)
    if isinstance(asked, Path) or path.suffix in (".pt", ".pth") or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise unavailable(size, f"there is no file or folder {path.name}")
    revision = checkpoint.revision or size.revision
    checkpoint.progress(f"fetching {repo} at {revision} ({size.parameters_m:.0f} million parameters)")
    try:
        snapshot = fetch(repo, revision, cache_dir=checkpoint.cache_dir, offline=checkpoint.offline)
    except ModelUnavailable as error:
        raise unavailable(size, error.message) from error
    return snapshot.folder, str(snapshot)


def _check_sha256(size: ModelSize, file: Path, wanted: str) -> None:
    try:
        check_sha256(file, sha256_of(file), wanted)
    except OSError as error:
        raise unavailable(size, f"{file.name} cannot be read: {type(error).__name__}") from error
    except ModelUnavailable as error:
        raise unavailable(size, error.message) from error


def read_meta_file(size: ModelSize, path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` of Meta's, under Meta's names. No code in it is run. Raises ModelUnavailable."""
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
        shapes_of(state)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        why = "it is truncated, is no PyTorch file, or holds more than tensors"
        raise unavailable(size, f"{path.name} cannot be read as Meta's .pt: {why} ({type(error).__name__})") from error
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise unavailable(size, f"{path.name} does not hold {{'model': weights by name}} as Meta's .pt does") from error
    return state


def read_folder(size: ModelSize, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the configuration of a folder. Raises ModelUnavailable."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        return load_file(folder / WEIGHTS_FILE), config
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(size, folder, error) from error


def read_shapes(size: ModelSize, folder: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The tensors' shapes and the configuration of a folder; reads no weights. Raises ModelUnavailable."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, config  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(size, folder, error) from error


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(value.shape) for name, value in state.items()}


def require_shapes(size: ModelSize, place: Path, found: Shapes, wanted: Shapes) -> None:
    """Raise ModelUnavailable, naming the first few, unless names and shapes are exactly those of the size."""
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": [name for name in wanted if name in found and found[name] != wanted[name]],
    }
    listed = [f"{len(names)} {fault} ({', '.join(names[:4])})" for fault, names in faults.items() if names]
    if listed:
        raise unavailable(size, f"the tensors in {place.name} are not those of {size.name}: {'; '.join(listed)}")


def unavailable(size: ModelSize, why: str) -> ModelUnavailable:
    """The error for weights that cannot be had: what, why, and how to get them."""
    if size.embedded:
        remedy = "reinstall the package, or name a folder that the trainer wrote"
    else:
        remedy = f"download {size.meta_file} from Meta or the repository {size.repo}, and name it as the checkpoint"
    return ModelUnavailable(f"model {size.name} is not available: {why}. To get it: {remedy}.")


def _unreadable(size: ModelSize, folder: Path, error: Exception) -> ModelUnavailable:
    return unavailable(size, f"{folder.name} needs {CONFIG_FILE} and {WEIGHTS_FILE} in good order: {type(error).__name__}")
