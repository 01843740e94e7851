"""The list of models: which sizes there are, and which of them are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam_service.core.hub import FILES, find_cached
from sam_service.core.sizes import SIZES
from sam_service.core.weights import NANO_FOLDER


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the list of models. `present`: loading it needs no network.

    `revision` is what is asked of the hub, `commit` what that was when `folder` was fetched.
    """

    size: str
    parameters_m: float
    source: str
    present: bool
    image_size: int
    note: str
    revision: str | None = None
    commit: str | None = None
    folder: str | None = None


def available_models(cache_dir: Path | str | None = None, revisions: Mapping[str, str] | None = None) -> list[ModelInfo]:
    """Every size in order, and whether its usual source is on this machine. Never touches the network.

    `revisions` names by size another revision than the usual one.
    """
    infos = []
    for spec in SIZES.values():
        if spec.repo is None:
            present = all((NANO_FOLDER / file).is_file() for file in FILES)
            infos.append(ModelInfo(spec.name, spec.parameters_m, "embedded", present, spec.image_size, spec.note,
                                   folder=str(NANO_FOLDER)))
            continue
        revision = (revisions or {}).get(spec.name, spec.revision)
        found = find_cached(spec.repo, revision, cache_dir)
        infos.append(ModelInfo(spec.name, spec.parameters_m, spec.repo, found is not None, spec.image_size, spec.note, revision,
                               found.commit if found else None, str(found.folder) if found else None))
    return infos


def asked_revisions(size: str, checkpoint: str | None, revision: str | None) -> dict[str, str]:
    """The revision that is asked for, by its size. A commit belongs to one repository, so it is no other size's."""
    return {size: revision} if revision is not None and checkpoint is None else {}
