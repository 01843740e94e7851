"""The tables of the database, and how those of earlier versions become them."""

from __future__ import annotations

import sqlite3

FORMAT = 4  # format 1 has no LABEL lines in the log, format 2 no jobs, format 3 no steps

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, created_at REAL NOT NULL, last_used_at REAL NOT NULL, image_size INTEGER NOT NULL,
    video_name TEXT NOT NULL, source TEXT NOT NULL, model TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS prompts (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    kind TEXT NOT NULL, object_id INTEGER NOT NULL, frame_index INTEGER NOT NULL, payload TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX IF NOT EXISTS prompts_by_session ON prompts (session_id, sequence);
CREATE TABLE IF NOT EXISTS masks (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, frame_index INTEGER NOT NULL,
    object_id INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, counts TEXT NOT NULL,
    score REAL NOT NULL, object_score REAL NOT NULL, elapsed_ms REAL NOT NULL,
    PRIMARY KEY (session_id, frame_index, object_id)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS masks_by_frame ON masks (session_id, frame_index);
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, plan TEXT NOT NULL,
    background INTEGER NOT NULL, total INTEGER NOT NULL, done INTEGER NOT NULL, attempts INTEGER NOT NULL, state TEXT NOT NULL)
    STRICT;
CREATE TABLE IF NOT EXISTS expired (session_id TEXT PRIMARY KEY, at REAL NOT NULL DEFAULT (unixepoch())) STRICT;
CREATE TABLE IF NOT EXISTS steps (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, step INTEGER NOT NULL, kind TEXT NOT NULL,
    object_ids TEXT NOT NULL, frame_index INTEGER, undone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (session_id, step))
    STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replaced_masks (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, step INTEGER NOT NULL, frame_index INTEGER NOT NULL,
    object_id INTEGER NOT NULL, height INTEGER, width INTEGER, counts TEXT, score REAL, object_score REAL, elapsed_ms REAL,
    PRIMARY KEY (session_id, step, frame_index, object_id)) STRICT, WITHOUT ROWID;
"""
_LATER_COLUMNS = (("sessions", "base_step", "INTEGER NOT NULL DEFAULT 0"), ("prompts", "step", "INTEGER"),
                  ("prompts", "undone", "INTEGER NOT NULL DEFAULT 0"))


def make_tables(database: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to date, all or nothing."""
    with database:
        database.execute("BEGIN")
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        for table, column, kind in _LATER_COLUMNS:
            if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
                database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        database.execute(f"PRAGMA user_version = {FORMAT}")
