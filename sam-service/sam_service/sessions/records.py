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
    LOCK = "lock"
    MOVE = "move"
    ABSENT = "absent"
    MERGE = "merge"


class StepKind(StrEnum):
    """What a step did, as clients read it. EDIT: a name, a colour, a lock or a place in the list; it changes no mask."""

    ADD = "add"
    REFINE = "refine"
    CLEAR = "clear"
    REMOVE = "remove"
    EDIT = "edit"
    MERGE = "merge"
    ABSENT = "absent"
    START_OVER = "start_over"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is stored. Times are seconds since 1970; `source` is the video that its frames come from,
    `model` the network that made its memories, `base_step` the last step that cannot be undone any more."""

    session_id: str
    created_at: float
    last_used_at: float
    image_size: int
    video_name: str
    source: str
    model: str
    base_step: int = 0


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One line of a session's prompt log. payload: the prompt as it came; applied: whether the memory and the masks have it;
    step: what a user undoes at once, None in logs of earlier versions; undone: whether it is, and can be redone."""

    sequence: int
    kind: PromptKind
    object_id: int
    frame_index: int
    payload: dict[str, Any]
    applied: bool
    step: int | None = None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One or several lines of the prompt log that are undone and redone at once. step: the sequence of the first of them.

    object_ids: what it changed. frame_index: None where it is about no frame, or about several.
    """

    step: int
    kind: StepKind
    object_ids: tuple[int, ...]
    frame_index: int | None = None
    undone: bool = False

    @property
    def keeps(self) -> tuple[int, ...]:
        """The objects whose masks and memories come back with it."""
        return () if self.kind is StepKind.EDIT else self.object_ids


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
