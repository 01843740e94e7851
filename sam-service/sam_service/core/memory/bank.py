"""The memory bank: what the tracker remembers of each object, bounded in memory and complete on disk.

SAM 2 (Ravi et al., 2024, section 4) keeps two kinds of memory for an object. *Conditioning* frames are those that were
prompted; they are few and stay in memory. *Tracked* frames are all others; a network reads the last few of them
(`selection.py`), so only a window of them stays in memory. Every frame is also written to the spill, since a later
prompt in the middle of the clip, a propagation the other way or a restarted process reads memory from anywhere.

`object_id` is the client's name for an object and never changes meaning; frames are session frame numbers.

s: side of a model's logits.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from torch import Tensor

from sam_service.errors import MemoryUnreadable

logger = logging.getLogger(__name__)

# Fifteen pointers are read for each tracked frame, one is written, and a few are left for a click in between.
WINDOW = 20


class Kind(StrEnum):
    """Where an entry stands. A staged one was prompted since the last propagation and becomes memory when one starts."""

    CONDITIONING = "conditioning"
    TRACKED = "tracked"
    STAGED_CONDITIONING = "staged_conditioning"
    STAGED_TRACKED = "staged_tracked"


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """What one object leaves behind on one frame.

    logits: (s, s) float32 mask logits. object_score: logit of presence. iou: predicted, 0 to 1.
    state: what the network keeps beside them, under names that only its family knows.
    reverse: whether the frame was reached going backward; None on a frame that was prompted before any tracking.
    sequence: the prompt that this answers, as the session's log numbers it; 0 for a tracked frame.
    rank: the first of the prompts on a frame that is prompted; conditioning frames are in this order.
    interpolated: the mask was carried here by optical flow; such a frame is no memory for the network.
    """

    logits: Tensor
    object_score: float
    iou: float
    state: Mapping[str, Tensor]
    reverse: bool | None = None
    sequence: int = 0
    rank: int = 0
    interpolated: bool = False


class Spill(Protocol):
    """Where memories go that must outlive the window, or the process."""

    @property
    def nbytes(self) -> int: ...
    @property
    def visible_bytes(self) -> int: ...
    def save(self, object_id: int, kind: Kind, frame_index: int, memory: FrameMemory) -> None: ...
    def load(self, object_id: int, kind: Kind, frame_index: int) -> FrameMemory: ...
    def delete(self, object_id: int, kind: Kind, frame_index: int) -> None: ...
    def delete_object(self, object_id: int) -> None: ...
    def entries(self, objects: Iterable[int] | None = None) -> list[tuple[int, Kind, int, bool | None]]: ...
    def begin(self, step: int, objects: Iterable[int]) -> None: ...
    def switch(self, step: int, objects: Iterable[int], *, undone: bool) -> None: ...
    def forget(self, step: int) -> None: ...
    def discard(self, step: int) -> None: ...
    def __contains__(self, key: tuple[int, Kind, int]) -> bool: ...


class ObjectMemory:
    """The memory of one object."""

    def __init__(self, object_id: int, spill: Spill | None, window: int = WINDOW) -> None:
        self.object_id = object_id
        self.conditioning: dict[int, FrameMemory] = {}
        self.directions: dict[int, bool] = {}
        """Frames that a propagation has passed, and whether it went backward."""
        self._tracked: set[int] = set()
        self._recent: OrderedDict[int, FrameMemory] = OrderedDict()
        self._staged: dict[int, tuple[FrameMemory, bool]] = {}
        self._read_ahead: dict[int, Future[FrameMemory]] = {}
        self._spill = spill
        self._window = window

    def tracked(self, frame_index: int) -> FrameMemory | None:
        """The memory of a tracked frame, from the window or from the spill; None where it was never tracked."""
        if frame_index not in self._tracked:
            return None
        memory = self._recent.get(frame_index)
        if memory is None:
            if self._spill is None:
                return None
            try:
                memory = self._load(frame_index)
            except MemoryUnreadable as error:
                logger.warning("object %d tracks on without frame %d: %s", self.object_id, frame_index, error.message)
                self._forget_tracked(frame_index)
                return None
            self._remember(frame_index, memory)
        else:
            self._recent.move_to_end(frame_index)
        return memory

    def prefetch(self, pool: Executor, frames: Iterable[int]) -> list[Future[FrameMemory]]:
        """Read tracked frames outside the window ahead, on `pool`; `tracked` takes what was read. The futures are to be waited
        for, and not asked for their results."""
        if self._spill is None:
            return []
        for frame_index in frames:
            if frame_index in self._tracked and frame_index not in self._recent and frame_index not in self._read_ahead:
                self._read_ahead[frame_index] = pool.submit(self._spill.load, self.object_id, Kind.TRACKED, frame_index)
        return list(self._read_ahead.values())

    def at(self, frame_index: int) -> FrameMemory | None:
        """The memory of a frame, prompted or tracked."""
        return self.conditioning.get(frame_index) or self.tracked(frame_index)

    def latest(self, frame_index: int) -> FrameMemory | None:
        """The last answer for a frame, whatever its kind: what a refinement starts from."""
        staged = self._staged.get(frame_index)
        if staged is not None:
            return staged[0]
        return self.at(frame_index)

    def add_tracked(self, frame_index: int, memory: FrameMemory) -> None:
        """Remember a frame that a propagation has just reached."""
        self._tracked.add(frame_index)
        self._remember(frame_index, memory)
        self._save(Kind.TRACKED, frame_index, memory)

    def annotate(self, frame_index: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep further tensors with the state of a tracked frame; nothing happens where it was forgotten."""
        memory = self.tracked(frame_index)
        if memory is not None:
            self.add_tracked(frame_index, replace(memory, state={**memory.state, **tensors}))

    def stage(self, frame_index: int, memory: FrameMemory, *, conditioning: bool) -> None:
        """Keep the answer to a prompt until the next propagation takes it into the memory. A prompt of the log begins a step:
        what the object has now can be brought back."""
        if self._spill is not None and memory.sequence:
            self._spill.begin(memory.sequence, [self.object_id])
        staged = self._staged.get(frame_index)
        first = staged[0] if staged is not None else self.conditioning.get(frame_index)
        memory = replace(memory, rank=memory.sequence if first is None else first.rank)
        self._save(Kind.STAGED_CONDITIONING if conditioning else Kind.STAGED_TRACKED, frame_index, memory)
        self._staged[frame_index] = (memory, conditioning)

    def commit(self) -> None:
        """Take the staged answers into the memory; a conditioning frame replaces a tracked one on the same frame."""
        for frame_index, (memory, conditioning) in self._staged.items():
            if conditioning:
                self.conditioning[frame_index] = memory
                self._forget_tracked(frame_index)
                self._save(Kind.CONDITIONING, frame_index, memory)
                self._delete(Kind.STAGED_CONDITIONING, frame_index)
            else:
                if frame_index not in self.conditioning:
                    self.add_tracked(frame_index, memory)
                self._delete(Kind.STAGED_TRACKED, frame_index)
        self._staged.clear()

    def clear_prompt(self, frame_index: int) -> None:
        """Take back what was prompted on a frame. A conditioning frame goes on as a tracked one, as in SAM 2."""
        staged = self._staged.pop(frame_index, None)
        if staged is not None:
            self._delete(Kind.STAGED_CONDITIONING if staged[1] else Kind.STAGED_TRACKED, frame_index)
        memory = self.conditioning.pop(frame_index, None)
        if memory is not None:
            self.directions.pop(frame_index, None)
            self._delete(Kind.CONDITIONING, frame_index)
            self.add_tracked(frame_index, replace(memory, reverse=None))

    def keep_tracked(self, frames: range) -> None:
        """Forget the tracked frames outside of `frames`. Conditioning frames stay."""
        for frame_index in [at for at in self._tracked if at not in frames]:
            self._forget_tracked(frame_index)
        for frame_index in [at for at in self.directions if at not in frames and at not in self.conditioning]:
            del self.directions[frame_index]

    def forget_tracked(self, frames: range) -> None:
        """Forget the tracked frames among `frames`: they are as if no propagation had reached them."""
        for frame_index in [at for at in self._tracked if at in frames]:
            self._forget_tracked(frame_index)
        for frame_index in [at for at in self.directions if at in frames and at not in self.conditioning]:
            del self.directions[frame_index]

    def forget(self, frame_index: int) -> None:
        """Forget everything about a frame, its prompt's answer included."""
        staged = self._staged.pop(frame_index, None)
        if staged is not None:
            self._delete(Kind.STAGED_CONDITIONING if staged[1] else Kind.STAGED_TRACKED, frame_index)
        if self.conditioning.pop(frame_index, None) is not None:
            self._delete(Kind.CONDITIONING, frame_index)
        self._forget_tracked(frame_index)
        self.directions.pop(frame_index, None)

    def forget_after(self, frame_index: int) -> None:
        """Forget everything about the frames after `frame_index`."""
        for later in {*self._tracked, *self._staged, *self.conditioning, *self.directions}:
            if later > frame_index:
                self.forget(later)

    def restore(self, kind: Kind, frame_index: int, reverse: bool | None) -> None:
        """Take back an entry that the spill holds from an earlier process."""
        assert self._spill is not None
        if kind is Kind.TRACKED:
            self._tracked.add(frame_index)
        else:
            memory = self._spill.load(self.object_id, kind, frame_index)
            if kind is Kind.CONDITIONING:
                self.conditioning[frame_index] = memory
            else:
                self._staged[frame_index] = (memory, kind is Kind.STAGED_CONDITIONING)
        if reverse is not None:
            self.directions[frame_index] = reverse

    def restored(self) -> None:
        """All entries are back: bring the prompted ones into the order in which they were prompted."""
        self.conditioning = dict(sorted(self.conditioning.items(), key=lambda item: item[1].rank))
        self._staged = dict(sorted(self._staged.items(), key=lambda item: item[1][0].rank))

    def mark_passed(self, frame_index: int, *, reverse: bool) -> None:
        """Note that a propagation has passed a frame: a later prompt there is a correction, not a new start."""
        self.directions[frame_index] = reverse
        memory = self.conditioning.get(frame_index)
        if memory is not None and memory.reverse is not reverse:
            self.conditioning[frame_index] = replace(memory, reverse=reverse)
            self._save(Kind.CONDITIONING, frame_index, self.conditioning[frame_index])

    def _load(self, frame_index: int) -> FrameMemory:
        """A tracked frame from the spill, or what was read of it ahead. Raises MemoryUnreadable."""
        assert self._spill is not None
        ahead = self._read_ahead.pop(frame_index, None)
        if ahead is not None and ahead.done() and not ahead.cancelled() and ahead.exception() is None:
            return ahead.result()
        return self._spill.load(self.object_id, Kind.TRACKED, frame_index)

    def _remember(self, frame_index: int, memory: FrameMemory) -> None:
        self._recent[frame_index] = memory
        self._recent.move_to_end(frame_index)
        while len(self._recent) > self._window:
            evicted, _ = self._recent.popitem(last=False)
            if self._spill is None or (self.object_id, Kind.TRACKED, evicted) not in self._spill:
                self._tracked.discard(evicted)

    def _forget_tracked(self, frame_index: int) -> None:
        if frame_index in self._tracked:
            self._tracked.discard(frame_index)
            self._recent.pop(frame_index, None)
            self._delete(Kind.TRACKED, frame_index)

    def _save(self, kind: Kind, frame_index: int, memory: FrameMemory) -> None:
        if self._spill is not None:
            self._spill.save(self.object_id, kind, frame_index, memory)
            if kind is Kind.TRACKED:
                self._read_ahead.pop(frame_index, None)

    def _delete(self, kind: Kind, frame_index: int) -> None:
        if self._spill is not None:
            self._spill.delete(self.object_id, kind, frame_index)
            if kind is Kind.TRACKED:
                self._read_ahead.pop(frame_index, None)


@dataclass(slots=True)
class MemoryBank:
    """The memories of all objects of one session, by object id in order of appearance.

    key: a name for the session, unique in the process; image features are cached under it. model: the identity of the network
    that makes the memories, which no other network can read; empty: whichever runs.
    """

    key: str
    spill: Spill | None = None
    objects: dict[int, ObjectMemory] = field(default_factory=dict)
    model: str = ""

    def object(self, object_id: int) -> ObjectMemory:
        """The memory of an object, made on first use."""
        if object_id not in self.objects:
            self.objects[object_id] = ObjectMemory(object_id, self.spill)
        return self.objects[object_id]

    def remove(self, object_id: int) -> None:
        """Forget an object, in memory and in the spill. Removing an unknown one does nothing."""
        self.objects.pop(object_id, None)
        if self.spill is not None:
            self.spill.delete_object(object_id)

    def clear(self) -> None:
        """Forget all objects, those too that only the spill knows."""
        known = [] if self.spill is None else [entry[0] for entry in self.spill.entries()]
        for object_id in dict.fromkeys([*self.objects, *known]):
            self.remove(object_id)

    def commit(self) -> None:
        """Take the answers to all prompts into the memory; done when a propagation starts."""
        for memory in self.objects.values():
            memory.commit()

    def move_window(self, frames: range) -> None:
        """Make ready for tracking on to the frame behind `frames`, which came one by one: answers to prompts are taken in,
        their frames count as passed going forward, and tracked frames outside of `frames` are forgotten."""
        self.commit()
        for memory in self.objects.values():
            for frame_index in memory.conditioning.keys() - memory.directions.keys():
                memory.mark_passed(frame_index, reverse=False)
            memory.keep_tracked(frames)

    def forget_after(self, frame_index: int) -> None:
        """Forget everything about the frames after `frame_index`, of all objects."""
        for memory in self.objects.values():
            memory.forget_after(frame_index)

    def restore(self, objects: Iterable[int] | None = None) -> None:
        """Rebuild the bank, or some objects of it, from what its spill holds. Raises MemoryUnreadable."""
        if self.spill is None:
            return
        for object_id in list(self.objects) if objects is None else objects:
            self.objects.pop(object_id, None)
        entries = self.spill.entries(objects)
        for object_id, kind, frame_index, reverse in entries:
            self.object(object_id).restore(kind, frame_index, reverse)
        for object_id in {entry[0] for entry in entries}:
            self.objects[object_id].restored()

    # Steps of a user, which are kept on disk (`generations.py`). Without a spill none can be taken back.

    def begin(self, step: int, objects: Iterable[int]) -> None:
        """A step is about to change objects: keep what they have now."""
        if self.spill is not None:
            self.spill.begin(step, objects)

    def switch(self, step: int, objects: Collection[int], *, undone: bool) -> None:
        """Take the newest step of these objects back or, where it was taken back, bring it back. Raises MemoryUnreadable."""
        if self.spill is not None:
            self.spill.switch(step, objects, undone=undone)
            self.restore(objects)

    def discard(self, step: int, objects: Collection[int]) -> None:
        """Forget all that came of a step. Raises MemoryUnreadable."""
        if self.spill is not None:
            self.spill.discard(step)
            self.restore(objects)

    def forget(self, step: int) -> None:
        """The oldest step cannot be taken back any more."""
        if self.spill is not None:
            self.spill.forget(step)
