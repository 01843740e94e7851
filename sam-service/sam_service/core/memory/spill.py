"""Memories on disk: one safetensors file for each object and frame, written whole or not at all."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam_service.core.memory.bank import FrameMemory, Kind
from sam_service.core.memory.generations import EMPTIED, GONE_SUFFIX, KeptStep, ObjectFiles, StoredFile
from sam_service.errors import EngineError, MemoryUnreadable
from sam_service.failures import translate

logger = logging.getLogger(__name__)

LOGITS = "logits"  # the tensor of a file that is not the network's state
_DIRECTION = {True: "backward", False: "forward", None: "prompted"}
_REVERSE = {name: reverse for reverse, name in _DIRECTION.items()} | {"gone": None}


class DiskSpill:
    """A folder `<object_id>/<kind>-<direction>-<frame>[-<generation>].safetensors`.

    Conditioning frames are exempt from the byte budget; where tracked ones exceed it, `save` keeps what it has and lets the
    new frame live in the window alone, so that a long clip cannot fill the disk. A later prompt on such a frame then sees the
    conditioning frames and no neighbours. What steps keep (`generations.py`) is not counted there: its owner forgets steps in
    time, by `nbytes`.
    """

    def __init__(self, folder: Path, budget_bytes: int, base: int = 0, steps: Sequence[KeptStep] = ()) -> None:
        """base, steps: the last step that was forgotten, and those that are kept. Files of any other step are deleted."""
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._base = base
        self._objects: dict[int, ObjectFiles] = {}
        self._lock = threading.RLock()  # the device's thread writes; others read ahead, and look at what steps keep
        self._scan({kept.step: kept for kept in steps})

    @property
    def nbytes(self) -> int:
        """Bytes on disk, with those that steps keep."""
        with self._lock:
            return sum(files.nbytes for files in self._objects.values())

    @property
    def visible_bytes(self) -> int:
        """Bytes on disk of the memories that there are now."""
        with self._lock:
            return sum(files.visible_bytes for files in self._objects.values())

    def save(self, object_id: int, kind: Kind, frame_index: int, memory: FrameMemory) -> None:
        """Write a memory; an earlier one of the same kind on that frame is replaced. Raises StorageFull, EngineError."""
        if kind is Kind.TRACKED and self.visible_bytes >= self._budget_bytes:
            self.delete(object_id, kind, frame_index)
            return
        files = self._files(object_id)
        files.folder.mkdir(parents=True, exist_ok=True)
        generation = f"-{files.generation}" if files.generation else ""
        path = files.folder / f"{kind}-{_DIRECTION[memory.reverse]}-{frame_index:07d}{generation}.safetensors"
        temporary = path.with_suffix(".tmp")
        tensors = {**memory.state, LOGITS: memory.logits}
        scores = {"object_score": repr(memory.object_score), "iou": repr(memory.iou), "sequence": repr(memory.sequence),
                  "rank": repr(memory.rank), "interpolated": repr(memory.interpolated)}
        try:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, metadata=scores)
            with self._lock:
                os.replace(temporary, path)
                files.put((kind, frame_index), StoredFile(path, path.stat().st_size))
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            logger.error("a memory could not be written: %s", error)
            raise translate(error) or EngineError("the tracking memory could not be written; the log says why") from error

    def load(self, object_id: int, kind: Kind, frame_index: int) -> FrameMemory:
        """Read a memory back. Raises KeyError where none was kept, MemoryUnreadable where its file is damaged."""
        with self._lock:
            path = self._objects[object_id].visible[kind, frame_index].path
        try:
            with safe_open(path, framework="pt") as file:
                scores = file.metadata()
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (a map would be read later)
            return FrameMemory(
                logits=state.pop(LOGITS), object_score=float(scores["object_score"]), iou=float(scores["iou"]), state=state,
                reverse=_parse(path)[2], sequence=int(scores.get("sequence", 0)), rank=int(scores.get("rank", 0)),
                interpolated=scores["interpolated"] == "True" if "interpolated" in scores else _is_empty(state))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise MemoryUnreadable(f"the stored memory of object {object_id} on frame {frame_index} is damaged") from error

    def delete(self, object_id: int, kind: Kind, frame_index: int) -> None:
        """Remove a memory; nothing happens where there is none."""
        with self._lock:
            if object_id in self._objects:
                self._objects[object_id].drop((kind, frame_index))

    def delete_object(self, object_id: int) -> None:
        """Remove everything of one object."""
        with self._lock:
            if object_id in self._objects:
                self._objects[object_id].empty()

    def entries(self, objects: Iterable[int] | None = None) -> list[tuple[int, Kind, int, bool | None]]:
        """Every memory that is here, of some objects or of all: object id, kind, frame, direction."""
        with self._lock:
            chosen = sorted(self._objects if objects is None else self._objects.keys() & set(objects))
            return [(object_id, kind, frame_index, _parse(file.path)[2]) for object_id in chosen
                    for (kind, frame_index), file in sorted(self._objects[object_id].visible.items())]

    def begin(self, step: int, objects: Iterable[int]) -> None:
        """Keep from now on what objects have now, so that the step can be taken back."""
        with self._lock:
            for object_id in objects:
                self._files(object_id).begin(step)

    def switch(self, step: int, objects: Iterable[int], *, undone: bool) -> None:
        """Take the newest step back or, where it was taken back, bring it back."""
        with self._lock:
            for object_id in objects:
                files = self._files(object_id)
                (files.take_back if undone else files.bring_back)(step)

    def forget(self, step: int) -> None:
        """Delete what the oldest step keeps: it cannot be taken back any more."""
        with self._lock:
            self._base = max(self._base, step)
            for files in self._objects.values():
                files.forget(step)

    def discard(self, step: int) -> None:
        """Delete what was written since a step that is undone, or that failed."""
        with self._lock:
            for files in self._objects.values():
                files.discard(step)

    def __contains__(self, key: tuple[int, Kind, int]) -> bool:
        object_id, kind, frame_index = key
        return object_id in self._objects and (kind, frame_index) in self._objects[object_id].visible

    def _files(self, object_id: int) -> ObjectFiles:
        if object_id not in self._objects:
            self._objects[object_id] = ObjectFiles(self._folder / str(object_id), self._base)
        return self._objects[object_id]

    def _scan(self, steps: Mapping[int, KeptStep]) -> None:
        for leftover in self._folder.glob("*/*.tmp"):
            leftover.unlink()
        for kept in steps.values():
            if not kept.undone:
                self.begin(kept.step, kept.objects)
        for path in sorted([*self._folder.glob("*/*.safetensors"), *self._folder.glob(f"*/*{GONE_SUFFIX}")]):
            try:
                self._take(path, steps)
            except (ValueError, KeyError):
                logger.warning("%s is not one of ours and is left alone", path)
        for files in self._objects.values():
            files.refresh()

    def _take(self, path: Path, steps: Mapping[int, KeptStep]) -> None:
        """Take a file of an earlier process; delete it where its step is unknown, since the step never came to its end."""
        object_id, emptied = int(path.parent.name), path.stem.startswith(EMPTIED)
        generation = int(path.stem.split("-")[1 if emptied else 3]) if emptied or path.stem.count("-") > 2 else 0
        if generation > self._base and generation not in steps:
            path.unlink()
        elif emptied:
            self._files(object_id).found_emptied(generation)
        else:
            gone = path.suffix == GONE_SUFFIX
            kind, frame_index, _ = _parse(path)
            size = 0 if gone else path.stat().st_size
            self._files(object_id).found((kind, frame_index), generation, StoredFile(path, size, gone))


def _is_empty(state: Mapping[str, Tensor]) -> bool:
    """Whether a file without a word on it holds an interpolated frame: it was written with an empty memory map."""
    return any(len(tensor) == 0 for tensor in state.values())


def _parse(path: Path) -> tuple[Kind, int, bool | None]:
    kind, direction, frame = path.stem.split("-")[:3]
    return Kind(kind), int(frame), _REVERSE[direction]
