"""What is stored, as plain records: sessions, prompts, masks, jobs, and the masks of one frame together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class PromptKind(StrEnum):
    """What a line of the prompt log did."""

    ADD = "add"
    REFINE = "refine"
    REMOVE = "remove"
    CLEAR = "clear"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is stored. Times are seconds since 1970; `source` is the video that its frames come from,
    `model` the network that made its memories."""

    session_id: str
    created_at: float
    last_used_at: float
    image_size: int
    video_name: str
    source: str
    model: str


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One line of a session's prompt log. payload: the prompt as it came; applied: whether the memory and the masks have it."""

    sequence: int
    kind: PromptKind
    object_id: int
    frame_index: int
    payload: dict[str, Any]
    applied: bool


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """One object's mask on one frame. counts: compressed RLE of the (height, width) mask."""

    frame_index: int
    object_id: int
    height: int
    width: int
    counts: str
    score: float
    object_score: float
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class FrameResult:
    """All objects' masks on one frame. timestamp_s: seconds from the start of the video."""

    frame_index: int
    timestamp_s: float
    masks: tuple[MaskRecord, ...]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A propagation as it is stored. plan: as `Plan.to_json` writes it; background: it goes on without its client; done: frames
    whose masks are stored; attempts: processes that took it up; state: `running` until it has ended, even when no process
    is there."""

    job_id: str
    session_id: str
    plan: str
    background: bool
    total: int
    done: int = 0
    attempts: int = 1
    state: str = "running"
