"""The steps of a session in the database, and the masks that each replaced.

A step keeps the first mask that each object had on each frame when the step, or a propagation after it, replaced it; a row
without counts says that there was none. Undoing a step swaps these masks with those that there are, and so does redoing it.
All of this runs inside a transaction of the caller's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from sam_service.sessions.records import MaskRecord, StepKind, StepRecord

_MASK = "height, width, counts, score, object_score, elapsed_ms"
_M = "m.height, m.width, m.counts, m.score, m.object_score, m.elapsed_ms"


def begin_step(database: sqlite3.Connection, session_id: str, step: StepRecord) -> None:
    """Note a step, as the last one that can be undone. What is undone cannot be redone any more. A step that is there stays."""
    drop_undone(database, session_id)
    database.execute("INSERT OR IGNORE INTO steps (session_id, step, kind, object_ids, frame_index) VALUES (?, ?, ?, ?, ?)",
                     (session_id, step.step, step.kind, json.dumps(step.object_ids), step.frame_index))


def steps_of(rows: Iterable[tuple[int, str, str, int | None, int]]) -> list[StepRecord]:
    """Rows (step, kind, object_ids, frame_index, undone) as records."""
    return [StepRecord(step, StepKind(kind), tuple(json.loads(object_ids)), frame_index, bool(undone))
            for step, kind, object_ids, frame_index, undone in rows]


def put_masks(database: sqlite3.Connection, session_id: str, masks: Iterable[MaskRecord], keep: Mapping[int, int]) -> None:
    """Store masks. keep: by object, the step that keeps what they replace; no other object's masks are kept."""
    rows = [asdict(mask) | {"session_id": session_id, "step": keep.get(mask.object_id)} for mask in masks]
    database.executemany(
        f"INSERT OR IGNORE INTO replaced_masks SELECT :session_id, :step, :frame_index, :object_id, {_M} FROM (SELECT 1) "
        "LEFT JOIN masks m ON m.session_id = :session_id AND m.frame_index = :frame_index AND m.object_id = :object_id",
        [row for row in rows if row["step"] is not None])
    database.executemany(
        "INSERT OR REPLACE INTO masks VALUES (:session_id, :frame_index, :object_id, :height, :width, :counts, :score, "
        ":object_score, :elapsed_ms)", rows)


def remove_masks(database: sqlite3.Connection, session_id: str, object_id: int, step: int | None) -> None:
    """Remove all masks of an object. step: the one that keeps them, if any."""
    values = {"id": session_id, "object": object_id, "step": step}
    if step is not None:
        database.execute(f"INSERT OR IGNORE INTO replaced_masks SELECT session_id, :step, frame_index, object_id, {_MASK} "
                         "FROM masks WHERE session_id = :id AND object_id = :object", values)
    database.execute("DELETE FROM masks WHERE session_id = :id AND object_id = :object", values)


def switch_step(database: sqlite3.Connection, session_id: str, step: int, *, undone: bool) -> list[int]:
    """Undo a step, the newest one, or redo the one that was undone last. Returns the frames whose masks it swaps, in order."""
    values = {"id": session_id, "step": step, "undone": undone}
    at_step = "WHERE session_id = :id AND step = :step"
    frames = [row[0] for row in database.execute(
        f"SELECT DISTINCT frame_index FROM replaced_masks {at_step} ORDER BY frame_index", values)]
    for statement in (
        f"INSERT INTO replaced_masks SELECT r.session_id, -r.step, r.frame_index, r.object_id, {_M} FROM replaced_masks r "
        "LEFT JOIN masks m USING (session_id, frame_index, object_id) WHERE r.session_id = :id AND r.step = :step",
        f"DELETE FROM masks WHERE session_id = :id AND (frame_index, object_id) IN (SELECT frame_index, object_id "
        f"FROM replaced_masks {at_step})",
        f"INSERT INTO masks SELECT session_id, frame_index, object_id, {_MASK} FROM replaced_masks {at_step} "
        "AND counts IS NOT NULL",
        f"DELETE FROM replaced_masks {at_step}",
        "UPDATE replaced_masks SET step = :step WHERE session_id = :id AND step = -:step",
        f"UPDATE steps SET undone = :undone {at_step}",
        f"UPDATE prompts SET undone = :undone {at_step}",
    ):
        database.execute(statement, values)
    return frames


def drop_undone(database: sqlite3.Connection, session_id: str) -> None:
    """What is undone cannot be redone any more."""
    undone = "SELECT step FROM steps WHERE session_id = ? AND undone"
    database.execute(f"DELETE FROM replaced_masks WHERE session_id = ? AND step IN ({undone})", (session_id, session_id))
    database.execute("DELETE FROM prompts WHERE session_id = ? AND undone", (session_id,))
    database.execute("DELETE FROM steps WHERE session_id = ? AND undone", (session_id,))


def forget_steps(database: sqlite3.Connection, session_id: str, last: int) -> None:
    """The steps up to `last` cannot be undone any more."""
    values = (session_id, last)
    database.execute("DELETE FROM replaced_masks WHERE session_id = ? AND step <= ?", values)
    database.execute("DELETE FROM steps WHERE session_id = ? AND step <= ?", values)
    database.execute("UPDATE sessions SET base_step = MAX(base_step, ?) WHERE session_id = ?", (last, session_id))
