"""Memories on disk: one safetensors file for each object and frame, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam_service.core.memory.bank import FrameMemory, Kind
from sam_service.errors import EngineError, MemoryUnreadable
from sam_service.failures import translate

logger = logging.getLogger(__name__)

LOGITS = "logits"  # the tensor of a file that is not the network's state
_DIRECTION = {True: "backward", False: "forward", None: "prompted"}
_REVERSE = {name: reverse for reverse, name in _DIRECTION.items()}


class DiskSpill:
    """A folder `<object_id>/<kind>-<direction>-<frame>.safetensors`.

    Conditioning frames are exempt from the byte budget; where tracked ones exceed it, `save` keeps what it has and lets the
    new frame live in the window alone, so that a long clip cannot fill the disk. A later prompt on such a frame then sees the
    conditioning frames and no neighbours.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._paths: dict[tuple[int, Kind, int], Path] = {}
        self._bytes = 0
        self._scan()

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self._bytes

    def save(self, object_id: int, kind: Kind, frame_index: int, memory: FrameMemory) -> None:
        """Write a memory; an earlier one of the same kind on that frame is replaced. Raises StorageFull, EngineError."""
        if kind is Kind.TRACKED and self._bytes >= self._budget_bytes:
            self.delete(object_id, kind, frame_index)
            return
        folder = self._folder / str(object_id)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{kind}-{_DIRECTION[memory.reverse]}-{frame_index:07d}.safetensors"
        temporary = path.with_suffix(".tmp")
        tensors = {**memory.state, LOGITS: memory.logits}
        scores = {"object_score": repr(memory.object_score), "iou": repr(memory.iou), "sequence": repr(memory.sequence),
                  "interpolated": repr(memory.interpolated)}
        try:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, metadata=scores)
            self.delete(object_id, kind, frame_index)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            logger.error("a memory could not be written: %s", error)
            raise translate(error) or EngineError("the tracking memory could not be written; the log says why") from error
        self._paths[object_id, kind, frame_index] = path
        self._bytes += path.stat().st_size

    def load(self, object_id: int, kind: Kind, frame_index: int) -> FrameMemory:
        """Read a memory back. Raises KeyError where none was kept, MemoryUnreadable where its file is damaged."""
        path = self._paths[object_id, kind, frame_index]
        try:
            with safe_open(path, framework="pt") as file:
                scores = file.metadata()
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (a map would be read later)
            return FrameMemory(
                logits=state.pop(LOGITS), object_score=float(scores["object_score"]), iou=float(scores["iou"]), state=state,
                reverse=_parse(path)[2], sequence=int(scores.get("sequence", 0)),
                interpolated=scores["interpolated"] == "True" if "interpolated" in scores else _is_empty(state))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise MemoryUnreadable(f"the stored memory of object {object_id} on frame {frame_index} is damaged") from error

    def delete(self, object_id: int, kind: Kind, frame_index: int) -> None:
        """Remove a memory; nothing happens where there is none."""
        path = self._paths.pop((object_id, kind, frame_index), None)
        if path is not None and path.is_file():
            self._bytes -= path.stat().st_size
            path.unlink()

    def delete_object(self, object_id: int) -> None:
        """Remove everything of one object."""
        for key in [key for key in self._paths if key[0] == object_id]:
            self.delete(*key)
        shutil.rmtree(self._folder / str(object_id), ignore_errors=True)

    def entries(self) -> Iterator[tuple[int, Kind, int, bool | None]]:
        """Every memory that is here: object id, kind, frame, direction."""
        for (object_id, kind, frame_index), path in sorted(self._paths.items()):
            yield object_id, kind, frame_index, _parse(path)[2]

    def __contains__(self, key: tuple[int, Kind, int]) -> bool:
        return key in self._paths

    def _scan(self) -> None:
        for leftover in self._folder.glob("*/*.tmp"):
            leftover.unlink()
        for path in self._folder.glob("*/*.safetensors"):
            try:
                kind, frame_index, _ = _parse(path)
                self._paths[int(path.parent.name), kind, frame_index] = path
            except (ValueError, KeyError):
                logger.warning("%s is not one of ours and is left alone", path)
                continue
            self._bytes += path.stat().st_size


def _is_empty(state: Mapping[str, Tensor]) -> bool:
    """Whether a file without a word on it holds an interpolated frame: it was written with an empty memory map."""
    return any(len(tensor) == 0 for tensor in state.values())


def _parse(path: Path) -> tuple[Kind, int, bool | None]:
    kind, direction, frame = path.stem.split("-")
    return Kind(kind), int(frame), _REVERSE[direction]
