"""The list of models: which sizes there are, and which of them are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam_service.core.models.hub import FILES, find_cached
from sam_service.core.models.registry import SIZES


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the list of models. `present`: loading it needs no network.

    `revision` is what is asked of the hub, `commit` what that was when `folder` was fetched.
    """

    size: str
    label: str
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
    for size in SIZES.values():
        if size.folder is not None:
            present = all((size.folder / file).is_file() for file in FILES)
            infos.append(ModelInfo(size.name, size.label, size.parameters_m, "embedded", present, size.image_size, size.note,
                                   folder=str(size.folder)))
            continue
        assert size.repo is not None
        revision = (revisions or {}).get(size.name, size.revision)
        found = find_cached(size.repo, revision, cache_dir)
        infos.append(ModelInfo(size.name, size.label, size.parameters_m, size.repo, found is not None, size.image_size,
                               size.note, revision, found.commit if found else None, str(found.folder) if found else None))
    return infos


def asked_revisions(size: str, checkpoint: Path | str | None, revision: str | None) -> dict[str, str]:
    """The revision that is asked for, by its size. A commit belongs to one repository, so it is no other size's."""
    return {size: revision} if revision is not None and checkpoint is None else {}
