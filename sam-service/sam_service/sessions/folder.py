"""The data folder: whose it is, who may read it, and what an earlier process left in it that may be deleted."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from sam_service.errors import StoreUnusable

logger = logging.getLogger(__name__)

MARKER, DATABASE, SESSIONS = "sam-service.json", "sessions.sqlite", "sessions"
UPLOAD_PREFIX = "upload-"
SAMPLE_SUFFIX = ".mp4"
FOLDER_MODE = 0o700
_TEMPORARY = f".{MARKER}.tmp"
_HARMLESS = frozenset({"lost+found", ".env", ".DS_Store", ".gitkeep", ".gitignore", _TEMPORARY})  # with these alone it is empty
_SESSION_NAME = re.compile(r"[0-9a-f]{32}")
_UPLOAD_NAME = re.compile(UPLOAD_PREFIX + r"[a-z0-9_]{8}(\.mp4)?")  # as `tempfile` makes them


class DataFolder:
    """A folder that is ours: empty when it was first used, and marked since then.

    It is made where it is missing, and closed to other users of the machine. Raises StoreUnusable for a folder that holds
    something and is not marked; one with a database of an earlier version, which had no mark, is taken as ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / DATABASE
        self.sessions = path / SESSIONS
        self._may_sweep = True
        try:
            path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._claim({entry.name for entry in path.iterdir()} - _HARMLESS)
        except OSError as error:
            raise StoreUnusable(f"the data folder {path} cannot be used: {error.strerror} (SAM2_DATA_DIR)") from error
        _close_to_others(path)
        self.sessions.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def keep_sessions(self) -> None:
        """Note that what lies under `sessions` now is never to be swept: the database is about to be created, and the earlier
        one may have been moved, or not been restored. Raises OSError."""
        self._may_sweep = False
        names = sorted(entry.name for entry in self.sessions.iterdir())
        if names:
            logger.warning("%s is new, and %d folders of sessions are there; they are left alone", self.database, len(names))
        self._mark([*self._kept(), *names])

    def sweep(self, known: Collection[str]) -> None:
        """Delete what an earlier process left half made or half deleted: uploads, and folders of sessions that are not `known`.
        Only names that this service gives are touched, and none where the database is new."""
        if not self._may_sweep:
            return
        kept = {*known, *self._kept()}
        for entry in self.sessions.iterdir():
            if _SESSION_NAME.fullmatch(entry.name) and entry.name not in kept and stat.S_ISDIR(entry.lstat().st_mode):
                shutil.rmtree(entry, ignore_errors=True)
        for entry in self.path.iterdir():
            if _UPLOAD_NAME.fullmatch(entry.name) and stat.S_ISREG(entry.lstat().st_mode):
                entry.unlink(missing_ok=True)

    def _claim(self, names: Collection[str]) -> None:
        if MARKER in names:
            self._kept()
        elif not names:
            self._mark([])
        elif DATABASE not in names:
            raise StoreUnusable(f"{self.path} is neither empty nor a data folder of this service (it holds "
                                f"{min(names)!r}); give it an empty folder or a new one (SAM2_DATA_DIR)")

    def _kept(self) -> list[str]:
        """The folders under `sessions` that are never deleted. Raises StoreUnusable for a marker that is not this service's."""
        try:
            return [str(name) for name in json.loads((self.path / MARKER).read_bytes())["kept_sessions"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            raise StoreUnusable(f"{self.path / MARKER} is damaged, or not this service's") from None

    def _mark(self, kept: list[str]) -> None:
        document = {"this folder belongs to": "sam-service", "kept_sessions": list(dict.fromkeys(kept))}
        temporary = self.path / _TEMPORARY
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(document, file, indent=1)
        os.replace(temporary, self.path / MARKER)


def _close_to_others(path: Path) -> None:
    """Let nobody but the owner read a folder."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        try:
            path.chmod(mode & FOLDER_MODE)
        except OSError as error:
            logger.warning("%s can be read by other users, and that cannot be changed: %s", path, error.strerror)
