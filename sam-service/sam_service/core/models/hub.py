"""The Hugging Face hub: what its cache on this disk holds, fetching into it, and checksums. Reads no settings."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from sam_service.errors import ModelUnavailable, StorageFull
from sam_service.failures import is_disk_full

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FILES = [CONFIG_FILE, WEIGHTS_FILE]
# What the client's HTTP library raises: httpx, or httpx2 in later versions. It is no OSError.
TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
NO_ROOM = "Not enough free disk space"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a repository at one commit, on this disk. revision: what was asked for, a commit, tag or branch."""

    repo: str
    revision: str
    folder: Path

    @property
    def commit(self) -> str:
        """The commit that the revision was when these files were fetched."""
        return self.folder.name

    def __str__(self) -> str:
        return f"hub {self.repo}@{self.revision}" + (f" (commit {self.commit})" if self.commit != self.revision else "")


def find_cached(repo: str, revision: str, cache_dir: Path | str | None = None) -> Snapshot | None:
    """The snapshot if all of it is in the cache, otherwise None. Never touches the network."""
    paths = [try_to_load_from_cache(repo, file, cache_dir, revision) for file in FILES]
    return Snapshot(repo, revision, Path(str(paths[0])).parent) if all(isinstance(path, str) for path in paths) else None


def fetch(repo: str, revision: str, *, cache_dir: Path | str | None = None, offline: bool = False,
          bar: type[Any] | None = None) -> Snapshot:
    """The snapshot, fetched where it is not in the cache, or where a branch or tag has moved. bar: shows progress.

    A commit never moves: in the cache, it asks no network.
    Raises ModelUnavailable, or StorageFull: before anything is fetched where the hub tells the size.
    """
    if re.fullmatch("[0-9a-f]{40}", revision) and (cached := find_cached(repo, revision, cache_dir)):
        return cached
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=NO_ROOM)  # the client warns, and then fills the disk
            folder = snapshot_download(repo, revision=revision, cache_dir=cache_dir, local_files_only=offline,
                                       allow_patterns=FILES, tqdm_class=bar)
    except (TRANSPORT_ERROR, UserWarning, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserWarning) or is_disk_full(error):
            raise StorageFull(f"the disk has no room for the weights of {repo}: {error}") from error
        why = _why(error, revision, offline)
        raise ModelUnavailable(f"{repo} at {revision} on the Hugging Face hub cannot be had: {why}") from error
    return Snapshot(repo, revision, Path(folder))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(file: Path, found: str, wanted: str) -> None:
    """Raise ModelUnavailable unless the SHA-256 that was found in a file is the wanted one."""
    if found != wanted.lower():
        raise ModelUnavailable(f"{file.name} is not the file that was asked for: its SHA-256 is {found}, not {wanted.lower()}")


def _why(error: Exception, revision: str, offline: bool) -> str:
    if offline:
        return "it is not in the local cache and the network is switched off (HF_HUB_OFFLINE)"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no commit, tag or branch {revision}"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is not open to all"
    return _first_line(error.__cause__ or error)


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"
