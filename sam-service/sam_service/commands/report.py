"""What `segment --json` prints: one document, whatever happened."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam_service.client import ApiError, ObjectState, PropagatedFrame


@dataclass(slots=True)
class Report:
    """A run so far. state: refused until the propagation begins, then interrupted, failed or done."""

    state: str = "refused"
    error: dict[str, Any] | None = None
    session_id: str | None = None
    model: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    objects: list[dict[str, Any]] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    elapsed_s: float = 0.0
    frames_per_second: float = 0.0

    @property
    def begun(self) -> bool:
        """Whether the propagation was asked for."""
        return self.state != "refused"

    def begin(self, objects: list[ObjectState]) -> None:
        """The prompts are answered, the propagation begins."""
        self.state = "failed"
        self.objects = [{**state, "frames_found": 0, "mean_score": None} for state in objects]

    def add_frame(self, frame: PropagatedFrame, started: float) -> None:
        """Note a frame's figures. started: when the propagation began, by `time.perf_counter`."""
        self.frames.append({"frame_idx": frame.index, "timestamp_s": frame.timestamp_s, "objects": [
            {"object_id": mask.object_id, "score": mask.score, "object_score": mask.object_score, "area": mask.area,
             "bbox": mask.bbox} for mask in frame.masks.values()]})
        self.elapsed_s = round(time.perf_counter() - started, 3)
        self.frames_per_second = round(len(self.frames) / max(self.elapsed_s, 1e-9), 3)

    def add_files(self, kind: str, path: Path, count: int = 1) -> None:
        """Note what was written: a file, or a folder with `count` files of this run."""
        self.files.append({"kind": kind, "path": str(path), "count": count})

    def fail(self, error: Exception) -> None:
        """Note what went wrong."""
        self.error = {"code": type(error).__name__.lower(), "detail": str(error), "fields": {}}
        if isinstance(error, ApiError):
            self.error = {"code": error.code, "detail": error.detail, "fields": error.fields}

    def to_json(self) -> str:
        """The document."""
        for item in self.objects:
            found = [mask["score"] for frame in self.frames for mask in frame["objects"]
                     if mask["object_id"] == item["object_id"] and mask["area"]]
            item["frames_found"] = len(found)
            item["mean_score"] = round(sum(found) / len(found), 4) if found else None
        return json.dumps(asdict(self), indent=1)
