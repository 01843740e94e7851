"""What must outlive the process: sessions, their prompts in order, and the mask of every object on every frame.

`SessionStore` is the interface; `SqliteStore` is the one for a single machine. Masks are COCO compressed RLE.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sam_service.errors import StoreUnusable
from sam_service.failures import translate
from sam_service.sessions import stored_steps
from sam_service.sessions.records import JobRecord, MaskRecord, PromptKind, PromptRecord, SessionRecord, StepRecord
from sam_service.sessions.tables import FORMAT, make_tables

try:
    import fcntl
except ImportError:  # Windows, where two services on one folder are not told apart
    fcntl = None  # type: ignore[assignment]

ENDED_JOBS_KEPT = 16
NOTHING: Mapping[int, int] = {}


class MaskSnapshot(Protocol):
    """A session's masks as they were when the first of them was read. For one thread at a time."""

    def masks(self, first: int, last: int) -> Iterator[MaskRecord]: ...
    def close(self) -> None: ...


class SessionStore(Protocol):
    """Everything below raises OSError or its own database's error when the disk fails, and then has changed nothing."""

    def create(self, record: SessionRecord) -> None: ...
    def sessions(self) -> list[SessionRecord]: ...
    def touch(self, session_id: str, now: float) -> None: ...
    def delete(self, session_id: str, *, expired: bool) -> None: ...
    def is_expired(self, session_id: str) -> bool: ...
    def append_prompt(self, session_id: str, kind: PromptKind, object_id: int, frame_index: int,
                      payload: dict[str, Any], step: int | None = None) -> int: ...
    def mark_applied(self, session_id: str, sequence: int, masks: Iterable[MaskRecord] = (), *, step: StepRecord | None = None,
                     gone: Iterable[int] = (), keep: Mapping[int, int] = NOTHING) -> None: ...
    def retract_prompt(self, sequence: int) -> None: ...
    def set_model(self, record: SessionRecord, model: str) -> SessionRecord: ...
    def prompts(self, session_id: str) -> list[PromptRecord]: ...
    def steps(self, session_id: str) -> list[StepRecord]: ...
    def switch_step(self, session_id: str, step: int, *, undone: bool) -> list[int]: ...
    def drop_undone(self, session_id: str) -> None: ...
    def forget_steps(self, session_id: str, last: int) -> None: ...
    def put_masks(self, session_id: str, masks: Iterable[MaskRecord], *, job_id: str | None = None, done: int = 0,
                  keep: Mapping[int, int] = NOTHING) -> None: ...
    def put_live_masks(self, session_id: str, masks: Iterable[MaskRecord], first: int) -> None: ...
    def delete_masks_after(self, session_id: str, frame_index: int) -> None: ...
    def forget_prompts(self, session_id: str, frames: Iterable[tuple[int, int]]) -> None: ...
    def put_job(self, job: JobRecord) -> None: ...
    def end_job(self, job_id: str, state: str) -> None: ...
    def jobs(self) -> list[JobRecord]: ...
    def mask(self, session_id: str, frame_index: int, object_id: int) -> MaskRecord | None: ...
    def masks(self, session_id: str, frame_index: int | None = None) -> list[MaskRecord]: ...
    def masked_frames(self, session_id: str) -> list[int]: ...
    def snapshot(self, session_id: str) -> MaskSnapshot: ...
    def close(self) -> None: ...


_SESSION = "session_id, created_at, last_used_at, image_size, video_name, source, model, base_step"
_MASK = "frame_index, object_id, height, width, counts, score, object_score, elapsed_ms"


class SqliteStore:
    """One SQLite file in WAL mode. Each call is one transaction. Writes take turns, and so do short reads, on a connection of
    their own: in WAL mode neither waits for the other. Reads of a whole session take milliseconds for thousands of masks, and
    each has its own connection."""

    def __init__(self, path: Path, *, before_creating: Callable[[], None] = lambda: None) -> None:
        """before_creating: called before the tables of a new database are made. Raises StoreUnusable."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._owner = _claim(path)
        self._lock, self._reading = threading.Lock(), threading.Lock()
        _close_to_others(path)
        self._db = self._reader = sqlite3.connect(path, check_same_thread=False)
        try:
            self._prepare(path, before_creating)
            self._reader = _connect_to_read(path)
        except sqlite3.DatabaseError as error:
            self.close()
            raise translate(error) or StoreUnusable(f"{path} cannot be used: {error}") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, path: Path, before_creating: Callable[[], None]) -> None:
        """Make the tables, or bring those of an earlier version up to date."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "sessions" not in tables:
            raise StoreUnusable(f"{path} is not a database of this service; it has the tables {', '.join(sorted(tables)[:5])}")
        if version == 0:
            before_creating()
        if not 0 <= version <= FORMAT:
            raise StoreUnusable(f"{path} has format {version}, of a later version of this service; this one reads formats up "
                                f"to {FORMAT}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what is answered outlives a power cut; costs about half a millisecond
        self._db.execute("PRAGMA foreign_keys = ON")
        if version < FORMAT:  # otherwise nothing is written, so that the service starts on a full disk too
            make_tables(self._db)

    def create(self, record: SessionRecord) -> None:
        """Add a session."""
        self._write(f"INSERT INTO sessions ({_SESSION}) VALUES (:session_id, :created_at, :last_used_at, :image_size, "
                    ":video_name, :source, :model, :base_step)", asdict(record))

    def sessions(self) -> list[SessionRecord]:
        """All sessions, oldest first."""
        rows = self._read(f"SELECT {_SESSION} FROM sessions ORDER BY created_at", {})
        return [SessionRecord(*row) for row in rows]

    def touch(self, session_id: str, now: float) -> None:
        """Note that a session was used."""
        self._write("UPDATE sessions SET last_used_at = :now WHERE session_id = :id", {"id": session_id, "now": now})

    def delete(self, session_id: str, *, expired: bool) -> None:
        """Remove a session with its prompts and masks; `expired` leaves a note that it was there."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
            if expired:
                self._db.execute("INSERT OR REPLACE INTO expired (session_id) VALUES (?)", (session_id,))
                self._db.execute("DELETE FROM expired WHERE at < unixepoch() - 30 * 86400")

    def is_expired(self, session_id: str) -> bool:
        """Whether a session of that name has expired in the last 30 days."""
        return bool(self._read("SELECT 1 FROM expired WHERE session_id = :id", {"id": session_id}))

    def append_prompt(self, session_id: str, kind: PromptKind, object_id: int, frame_index: int,
                      payload: dict[str, Any], step: int | None = None) -> int:
        """Write a line into the log, not applied yet; returns its place there. step: the one that it is part of, a new one if
        None."""
        with self._lock, self._db:
            place = self._db.execute(
                "INSERT INTO prompts (session_id, kind, object_id, frame_index, payload, step) VALUES (?, ?, ?, ?, ?, ?)",
                (session_id, kind, object_id, frame_index, json.dumps(payload), step)).lastrowid or 0
            if step is None:
                self._db.execute("UPDATE prompts SET step = sequence WHERE sequence = ?", (place,))
        return place

    def mark_applied(self, session_id: str, sequence: int, masks: Iterable[MaskRecord] = (), *, step: StepRecord | None = None,
                     gone: Iterable[int] = (), keep: Mapping[int, int] = NOTHING) -> None:
        """Note that a line of the log was applied and store the masks that came of it, all or nothing.

        step: the step that it begins; what is undone cannot be redone then. gone: objects that lose all their masks. keep: by
        object, the step that keeps what is replaced.
        """
        with self._lock, self._db:
            self._db.execute("UPDATE prompts SET settled = 1 WHERE sequence = ?", (sequence,))
            if step is not None:
                stored_steps.begin_step(self._db, session_id, step)
            for object_id in gone:
                stored_steps.remove_masks(self._db, session_id, object_id, keep.get(object_id))
            stored_steps.put_masks(self._db, session_id, masks, keep)

    def set_model(self, record: SessionRecord, model: str) -> SessionRecord:
        """Note which network makes a session's memories from now on; returns the record as it is then."""
        self._write("UPDATE sessions SET model = :model WHERE session_id = :id", {"id": record.session_id, "model": model})
        return replace(record, model=model)

    def retract_prompt(self, sequence: int) -> None:
        """Strike out a prompt that could not be applied."""
        self._write("DELETE FROM prompts WHERE sequence = :sequence", {"sequence": sequence})

    def prompts(self, session_id: str) -> list[PromptRecord]:
        """The prompt log in order."""
        rows = self._read("SELECT sequence, kind, object_id, frame_index, payload, settled, step, undone FROM prompts "
                          "WHERE session_id = :id ORDER BY sequence", {"id": session_id})
        return [PromptRecord(row[0], PromptKind(row[1]), row[2], row[3], json.loads(row[4]), bool(row[5]), row[6], bool(row[7]))
                for row in rows]

    def steps(self, session_id: str) -> list[StepRecord]:
        """The steps that can be undone or redone, in order."""
        return stored_steps.steps_of(self._read("SELECT step, kind, object_ids, frame_index, undone FROM steps "
                                                "WHERE session_id = :id ORDER BY step", {"id": session_id}))

    def switch_step(self, session_id: str, step: int, *, undone: bool) -> list[int]:
        """Undo the newest step, or redo the one that was undone last; returns the frames whose masks it swaps, in order."""
        with self._lock, self._db:
            return stored_steps.switch_step(self._db, session_id, step, undone=undone)

    def drop_undone(self, session_id: str) -> None:
        """What is undone cannot be redone any more."""
        with self._lock, self._db:
            stored_steps.drop_undone(self._db, session_id)

    def forget_steps(self, session_id: str, last: int) -> None:
        """The steps up to `last` cannot be undone any more."""
        with self._lock, self._db:
            stored_steps.forget_steps(self._db, session_id, last)

    def put_masks(self, session_id: str, masks: Iterable[MaskRecord], *, job_id: str | None = None, done: int = 0,
                  keep: Mapping[int, int] = NOTHING) -> None:
        """Store the masks of a frame, all or none, and with them how far the job is; earlier masks are replaced.

        keep: by object, the step that keeps what is replaced."""
        with self._lock, self._db:
            stored_steps.put_masks(self._db, session_id, masks, keep)
            if job_id is not None:
                self._db.execute("UPDATE jobs SET done = ? WHERE job_id = ?", (done, job_id))

    def put_live_masks(self, session_id: str, masks: Iterable[MaskRecord], first: int) -> None:
        """Store the masks of a frame and remove those of the frames before `first`, both or neither."""
        with self._lock, self._db:
            stored_steps.put_masks(self._db, session_id, masks, NOTHING)
            self._db.execute("DELETE FROM masks WHERE session_id = ? AND frame_index < ?", (session_id, first))

    def delete_masks_after(self, session_id: str, frame_index: int) -> None:
        """Remove the masks of all frames after one."""
        self._write("DELETE FROM masks WHERE session_id = :id AND frame_index > :frame",
                    {"id": session_id, "frame": frame_index})

    def forget_prompts(self, session_id: str, frames: Iterable[tuple[int, int]]) -> None:
        """Strike out all prompts of objects on frames, given as (object, frame)."""
        with self._lock, self._db:
            self._db.executemany("DELETE FROM prompts WHERE session_id = ? AND object_id = ? AND frame_index = ? AND kind IN "
                                 "('add', 'refine', 'clear')", [(session_id, *pair) for pair in frames])

    def put_job(self, job: JobRecord) -> None:
        """Note the job of a session, new or changed: any other is over. Of those that are over the last few are kept."""
        with self._lock, self._db:
            self._db.execute("UPDATE jobs SET state = 'cancelled' WHERE session_id = :session_id AND job_id != :job_id AND "
                             "state = 'running'", asdict(job))
            self._db.execute("INSERT OR REPLACE INTO jobs VALUES (:job_id, :session_id, :plan, :background, :total, :done, "
                             ":attempts, :state)", asdict(job))
            self._db.execute("DELETE FROM jobs WHERE session_id = :id AND rowid NOT IN (SELECT rowid FROM jobs "
                             "WHERE session_id = :id ORDER BY rowid DESC LIMIT :kept)",
                             {"id": job.session_id, "kept": ENDED_JOBS_KEPT})

    def end_job(self, job_id: str, state: str) -> None:
        """Note that a job has ended, and how."""
        self._write("UPDATE jobs SET state = :state, total = CASE :state WHEN 'done' THEN done ELSE total END "
                    "WHERE job_id = :id", {"id": job_id, "state": state})

    def jobs(self) -> list[JobRecord]:
        """All jobs, oldest first."""
        rows = self._read("SELECT job_id, session_id, plan, background, total, done, attempts, state FROM jobs "
                          "ORDER BY rowid", {})
        return [JobRecord(job_id, session_id, plan, bool(background), *rest)
                for job_id, session_id, plan, background, *rest in rows]

    def mask(self, session_id: str, frame_index: int, object_id: int) -> MaskRecord | None:
        """A stored mask, or None."""
        rows = self._read(f"SELECT {_MASK} FROM masks WHERE session_id = :id AND frame_index = :frame AND object_id = :object",
                          {"id": session_id, "frame": frame_index, "object": object_id})
        return MaskRecord(*rows[0]) if rows else None

    def masks(self, session_id: str, frame_index: int | None = None) -> list[MaskRecord]:
        """All stored masks, or those of one frame, by frame and object. Takes milliseconds for thousands of them."""
        if frame_index is None:
            rows = self._read_long(f"SELECT {_MASK} FROM masks WHERE session_id = :id ORDER BY frame_index, object_id",
                                   {"id": session_id})
        else:
            rows = self._read(f"SELECT {_MASK} FROM masks WHERE session_id = :id AND frame_index = :frame ORDER BY object_id",
                              {"id": session_id, "frame": frame_index})
        return [MaskRecord(*row) for row in rows]

    def masked_frames(self, session_id: str) -> list[int]:
        """Frames with masks, in order. Takes milliseconds for thousands of them."""
        return [row[0] for row in self._read_long("SELECT DISTINCT frame_index FROM masks INDEXED BY masks_by_frame "
                                                  "WHERE session_id = :id ORDER BY frame_index", {"id": session_id})]

    def snapshot(self, session_id: str) -> SqliteSnapshot:
        """The session's masks as they are now, to be read while others are stored. To be closed."""
        return SqliteSnapshot(self._path, session_id)

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._db.close()
            self._owner.close()

    def _write(self, statement: str, values: dict[str, Any]) -> int:
        with self._lock, self._db:
            return self._db.execute(statement, values).lastrowid or 0

    def _read(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with self._reading:
            return self._reader.execute(statement, values).fetchall()

    def _read_long(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with contextlib.closing(_connect_to_read(self._path)) as database:
            return database.execute(statement, values).fetchall()


class SqliteSnapshot:
    """A read transaction on a connection of its own: in WAL mode it sees no later write and holds up none."""

    def __init__(self, path: Path, session_id: str) -> None:
        self._session_id = session_id
        self._db = _connect_to_read(path)
        self._db.execute("BEGIN")

    def masks(self, first: int, last: int) -> Iterator[MaskRecord]:
        """Masks of the frames from `first` to `last`, both inclusive, by frame and object; one at a time."""
        rows = self._db.execute(
            f"SELECT {_MASK} FROM masks WHERE session_id = ? AND frame_index BETWEEN ? AND ? ORDER BY frame_index, object_id",
            (self._session_id, first, last))
        return (MaskRecord(*row) for row in rows)

    def close(self) -> None:
        """End the transaction."""
        self._db.close()


def _close_to_others(path: Path) -> None:
    """Make the database's file if it is missing, for nobody but its owner; SQLite makes the files beside it alike."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(OSError):  # another user's
            file.chmod(0o600)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection on which each statement sees what was last committed, unless a transaction is begun."""
    database = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, check_same_thread=False)
    database.isolation_level = None
    return database


def _claim(path: Path) -> BinaryIO:
    """Be the only process that uses a store, until the file that this returns is closed. Raises StoreUnusable."""
    owner = os.fdopen(os.open(path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "wb")
    if fcntl is not None:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner.close()
            raise StoreUnusable(f"{path.parent} is in use by another running service; give this one a folder of its own "
                                "(SAM2_DATA_DIR)") from None
    return owner
