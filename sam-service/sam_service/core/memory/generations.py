"""One object's files of memories, in generations: what a step of a user replaces stays on disk until the step is forgotten.

A step begins a generation for the objects that it changes. From then on their files are written under its number, and earlier
ones are kept beside them. An object is seen as the newest of its files show it, of the steps that are not taken back. So to
take a step back, or to bring it back, is to look at other files: none is written or moved, and a crash can spoil nothing.
"""

from __future__ import annotations

import bisect
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam_service.core.memory.bank import Kind

Key = tuple[Kind, int]
"""Which memory of an object: its kind and its frame."""

GONE_SUFFIX, EMPTIED = ".gone", "emptied"


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step that can be taken back or, `undone`, brought back. step: its number, larger than those of earlier steps."""

    step: int
    objects: frozenset[int]
    undone: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file and its bytes. gone: it holds nothing and says that the memory is gone from its generation on."""

    path: Path
    size: int = 0
    gone: bool = False


class ObjectFiles:
    """The files of one object. visible: those that are seen now. nbytes, visible_bytes: of all files, and of those."""

    def __init__(self, folder: Path, base: int = 0, steps: Iterable[int] = ()) -> None:
        """base: files up to this generation belong to no step that is kept. steps: kept and not undone, in order."""
        self.folder = folder
        self.base = base
        self.steps = sorted(steps)
        self.visible: dict[Key, StoredFile] = {}
        self.nbytes = self.visible_bytes = 0
        self._versions: dict[Key, dict[int, StoredFile]] = {}
        self._emptied: set[int] = set()

    @property
    def generation(self) -> int:
        """The generation that is written now; 0 where there was never a step."""
        return self.steps[-1] if self.steps else self.base

    def found(self, key: Key, generation: int, file: StoredFile) -> None:
        """Take a file that an earlier process left. `refresh` shows it. Of two for the same memory and generation, of which a
        crash left both, the one that holds something stays, or the newer one."""
        versions = self._versions.setdefault(key, {})
        other = versions.pop(generation, None)
        if other is not None:
            self.nbytes -= other.size
            keep, drop = (file, other) if (not file.gone, _age(file)) >= (not other.gone, _age(other)) else (other, file)
            drop.path.unlink(missing_ok=True)
            file = keep
        versions[generation] = file
        self.nbytes += file.size

    def found_emptied(self, generation: int) -> None:
        """Take the mark of an earlier process that the object had no memory when a generation began."""
        self._emptied.add(generation)

    def put(self, key: Key, file: StoredFile) -> None:
        """Take a file that was just written in the present generation. What it replaces is deleted, unless a step keeps it."""
        versions, generation = self._versions.setdefault(key, {}), self.generation
        for number in [number for number in versions if number == generation or (not self.steps and number < generation)]:
            self._delete(versions.pop(number), but=file.path)
        versions[generation] = file
        self.nbytes += file.size
        self._show(key, file)

    def drop(self, key: Key) -> None:
        """Delete a memory; where a step keeps it, it is only hidden. Nothing happens where there is none."""
        if key not in self.visible:
            return
        versions, generation = self._versions[key], self.generation
        if any(self._seen(number) and not file.gone for number, file in versions.items() if number != generation):
            if not self.steps:
                for number in [number for number in versions if number != generation]:
                    self._delete(versions.pop(number))
            else:
                kind, frame_index = key
                marker = self.folder / f"{kind}-gone-{frame_index:07d}-{generation}{GONE_SUFFIX}"
                marker.touch()
                written, versions[generation] = versions.get(generation), StoredFile(marker, gone=True)
                self._show(key, None)
                if written is not None:
                    self._delete(written)
                return
        self._show(key, None)
        written = versions.pop(generation, None)
        if written is not None:
            self._delete(written)

    def empty(self) -> None:
        """Delete all memories; those that a step keeps are only hidden."""
        generation = self.generation
        if self.steps and any(number != generation for versions in self._versions.values() for number in versions):
            (self.folder / f"{EMPTIED}-{generation}{GONE_SUFFIX}").touch()
            self._emptied.add(generation)
        for key in list(self._versions):
            for number in list(self._versions[key]):
                if number == generation or not self.steps:
                    self._delete(self._versions[key].pop(number))
        self.refresh()

    def take_back(self, step: int) -> None:
        """Show the object as it was before its newest step."""
        if step in self.steps:
            self.steps.remove(step)
            self.refresh()

    def bring_back(self, step: int) -> None:
        """Show the object as it was when the step was taken back."""
        if step not in self.steps:
            bisect.insort(self.steps, step)
            self.refresh()

    def begin(self, step: int) -> None:
        """Write into another generation from now on; a step that has begun goes on."""
        if step not in self.steps:
            bisect.insort(self.steps, step)

    def forget(self, step: int) -> None:
        """The oldest step cannot be taken back any more: delete what only it kept."""
        if step in self.steps:
            self.steps.remove(step)
        self.base = max(self.base, step)
        floor = max((number for number in self._emptied if number <= self.base), default=-1)
        for versions in self._versions.values():
            *older, newest = sorted(number for number in versions if number <= self.base) or [-1]
            for number in older:
                self._delete(versions.pop(number))
            if newest >= 0 and (newest < floor or versions[newest].gone):
                self._delete(versions.pop(newest))
        for number in [number for number in self._emptied if number <= self.base]:
            self._unmark(number)
        self.refresh()

    def discard(self, step: int) -> None:
        """Delete all that was written since a step, which is undone or failed, as if it had never been."""
        if step in self.steps:
            self.steps.remove(step)
        for versions in self._versions.values():
            if step in versions:
                self._delete(versions.pop(step))
        if step in self._emptied:
            self._unmark(step)
        self.refresh()

    def refresh(self) -> None:
        """Find out anew which files are seen."""
        floor = max((number for number in self._emptied if self._seen(number)), default=-1)
        self.visible, self.visible_bytes = {}, 0
        for key in [key for key, versions in self._versions.items() if not versions]:
            del self._versions[key]
        for key, versions in self._versions.items():
            newest = max((number for number in versions if number >= floor and self._seen(number)), default=-1)
            if newest >= 0 and not versions[newest].gone:
                self._show(key, versions[newest])
        if not self._versions:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._emptied.clear()

    def _seen(self, generation: int) -> bool:
        return generation <= self.base or generation in self.steps

    def _show(self, key: Key, file: StoredFile | None) -> None:
        earlier = self.visible.pop(key, None)
        self.visible_bytes += (file.size if file is not None else 0) - (earlier.size if earlier is not None else 0)
        if file is not None:
            self.visible[key] = file

    def _delete(self, file: StoredFile, but: Path | None = None) -> None:
        self.nbytes -= file.size
        if file.path != but:
            file.path.unlink(missing_ok=True)

    def _unmark(self, generation: int) -> None:
        self._emptied.discard(generation)
        (self.folder / f"{EMPTIED}-{generation}{GONE_SUFFIX}").unlink(missing_ok=True)


def _age(file: StoredFile) -> int:
    return file.path.stat().st_mtime_ns
