"""Memory selection: which memories an object's frame sees (SAM 2, Ravi et al., 2024, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sam_service.core.memory.bank import FrameMemory, ObjectMemory


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """How many memories a network reads for a frame.

    tracked: the last tracked frames, beside all conditioning frames. pointers: frames, this one included, whose object pointers
    are read; a clip shorter than that counts as that much shorter.
    """

    tracked: int = 6
    pointers: int = 16

    def pointers_in(self, num_frames: int) -> int:
        """Frames whose pointers are read in a clip of `num_frames`."""
        return min(num_frames, self.pointers)


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """The memory of a tracked frame. distance: how many runs of the network it lies before the frame that sees it, 1 for the
    newest."""

    frame_index: int
    distance: int
    memory: FrameMemory


@dataclass(frozen=True, slots=True)
class Selection:
    """The memories that one object's frame sees.

    conditioning: all prompted frames. tracked: the last tracked ones in the direction of travel, the oldest first. pointers:
    memories whose object pointers are read, by signed distance in runs of the network.
    """

    frame_index: int
    reverse: bool
    conditioning: Mapping[int, FrameMemory]
    tracked: list[TrackedFrame]
    pointers: list[tuple[float, FrameMemory]]


def neighbour_of(frame_index: int, *, reverse: bool) -> int:
    """The frame that a propagation passes just before this one."""
    return frame_index + (1 if reverse else -1)


def _counted_back(frame_index: int, *, reverse: bool, every: int) -> Callable[[int], int]:
    """Gives the n-th frame that the network runs on before a frame, counted against the direction of travel; n from 1."""
    step = 1 if reverse else -1
    nearest = (frame_index + step) * -step // every * -step
    return lambda distance: (nearest + step * (distance - 1)) * every


def frames_selected(frame_index: int, layout: MemoryLayout, *, reverse: bool, num_frames: int, every: int = 1) -> list[int]:
    """The frames whose tracked memories `select` asks for, and the neighbour that optical flow starts from."""
    before = _counted_back(frame_index, reverse=reverse, every=every)
    frames = [before(distance) for distance in range(1, max(layout.tracked + 1, layout.pointers_in(num_frames)))]
    return frames if every == 1 else [neighbour_of(frame_index, reverse=reverse), *frames]


def select(memory: ObjectMemory, frame_index: int, layout: MemoryLayout, *, reverse: bool, num_frames: int,
           every: int = 1) -> Selection:
    """Select the memories that a frame sees.

    every: the network runs on multiples of this; the frames between leave no memory (`keyframes.py`).
    """
    step = 1 if reverse else -1
    before = _counted_back(frame_index, reverse=reverse, every=every)
    pointers: list[tuple[float, FrameMemory]] = [
        ((at - frame_index) * step / every, entry) for at, entry in memory.conditioning.items()
        if (at - frame_index) * step >= 0]
    tracked = []
    for distance in range(layout.tracked, 0, -1):
        entry = memory.tracked(before(distance))
        if entry is not None and not entry.interpolated:
            tracked.append(TrackedFrame(before(distance), distance, entry))
    for distance in range(1, layout.pointers_in(num_frames)):
        entry = memory.tracked(before(distance))
        if entry is not None and not entry.interpolated:
            pointers.append((distance, entry))
    return Selection(frame_index, reverse, memory.conditioning, tracked, pointers)
