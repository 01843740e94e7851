"""A session's objects as one value: what each is prompted with, its name and colour, whether it is locked.

Each change makes another value, so that a step can be undone by going back to the value that there was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sam_service.core.prompts import Prompt
from sam_service.sessions.labels import Label, default_label
from sam_service.sessions.prompts import PromptInput, check_prompt, merge
from sam_service.sessions.records import PromptKind, PromptRecord

T = TypeVar("T")
FIRST_OBJECT_ID = 1


@dataclass(frozen=True, slots=True)
class Objects:
    """prompts: by object and frame, all that an object is prompted with there; the objects are in the order of the list.

    labels: of the objects that somebody named or coloured. locked: objects that nothing may change. absences: by object, frames
    from which on it is not in the picture, up to its next prompt. highest_id: of all objects that there ever were, so that none
    is chosen twice.
    """

    prompts: Mapping[int, Mapping[int, Prompt]] = field(default_factory=dict)
    labels: Mapping[int, Label] = field(default_factory=dict)
    locked: frozenset[int] = frozenset()
    absences: Mapping[int, frozenset[int]] = field(default_factory=dict)
    highest_id: int = FIRST_OBJECT_ID - 1

    def label(self, object_id: int) -> Label:
        """An object's name and colour."""
        return self.labels.get(object_id) or default_label(object_id)

    def is_absent(self, object_id: int, frame_index: int) -> bool:
        """Whether somebody said that the object is not in this frame."""
        begun = max((frame for frame in self.absences.get(object_id, ()) if frame <= frame_index), default=None)
        return begun is not None and not any(begun <= frame <= frame_index for frame in self.prompts.get(object_id, ()))

    def with_prompt(self, object_id: int, frame_index: int, prompt: Prompt) -> Objects:
        """An object, new or not, is prompted on a frame; it is there then."""
        on_frames = {**self.prompts.get(object_id, {}), frame_index: prompt}
        absences = {**self.absences, object_id: self.absences.get(object_id, frozenset()) - {frame_index}}
        return replace(self, prompts={**self.prompts, object_id: on_frames}, absences=absences,
                       highest_id=max(self.highest_id, object_id))

    def without_prompt(self, object_id: int, frame_index: int) -> Objects:
        """An object is not prompted on a frame any more; it stays in the list."""
        if object_id not in self.prompts:
            return self
        on_frames = {frame: prompt for frame, prompt in self.prompts[object_id].items() if frame != frame_index}
        absences = self.absences if on_frames else _without(self.absences, [object_id])
        return replace(self, prompts={**self.prompts, object_id: on_frames}, absences=absences)

    def without(self, objects: Iterable[int]) -> Objects:
        """Objects are removed."""
        gone = list(objects)
        return replace(self, prompts=_without(self.prompts, gone), labels=_without(self.labels, gone),
                       locked=self.locked - set(gone), absences=_without(self.absences, gone))

    def with_label(self, object_id: int, label: Label) -> Objects:
        """An object has another name or colour."""
        return replace(self, labels={**self.labels, object_id: label})

    def with_lock(self, object_id: int, locked: bool) -> Objects:
        """An object is locked, or not any more."""
        return replace(self, locked=self.locked | {object_id} if locked else self.locked - {object_id})

    def with_place(self, object_id: int, position: int) -> Objects:
        """An object moves to a place in the list, 0 being the first; one behind the end is the last."""
        order = [other for other in self.prompts if other != object_id]
        order.insert(position, object_id)
        return replace(self, prompts={number: self.prompts[number] for number in order})

    def with_absence(self, object_id: int, frame_index: int) -> Objects:
        """An object is not in the picture from a frame on, up to its next prompt."""
        absences = self.absences.get(object_id, frozenset()) | {frame_index}
        return replace(self, absences={**self.absences, object_id: absences})

    def merged(self, objects: list[int], prompts: Mapping[int, Prompt]) -> Objects:
        """Objects become one, the first of them, which is prompted with `prompts`, by frame."""
        kept = replace(self, prompts={**self.prompts, objects[0]: dict(prompts)}, absences=_without(self.absences, objects))
        return kept.without(objects[1:])

    def after(self, line: PromptRecord, width: int, height: int) -> Objects:
        """What a line of the prompt log makes of them. width, height: of the session's frames, pixels."""
        object_id, frame_index, payload = line.object_id, line.frame_index, line.payload
        match line.kind:
            case PromptKind.ADD | PromptKind.REFINE:
                raw = dict(payload)
                anew = bool(raw.pop("replace", False))
                earlier = self.prompts.get(object_id, {}).get(frame_index)
                new = check_prompt(PromptInput(**raw), width, height, stored=True)
                return self.with_prompt(object_id, frame_index, merge(earlier, new, replace=anew))
            case PromptKind.REMOVE:
                return self.without([object_id])
            case PromptKind.CLEAR:
                return self.without_prompt(object_id, frame_index)
            case PromptKind.LABEL:
                return self.with_label(object_id, Label(**payload))
            case PromptKind.LOCK:
                return self.with_lock(object_id, bool(payload["locked"]))
            case PromptKind.MOVE:
                return self.with_place(object_id, int(payload["position"]))
            case PromptKind.ABSENT:
                return self.with_absence(object_id, frame_index)
            case PromptKind.MERGE:
                prompts = {int(frame): check_prompt(PromptInput(mask=mask), width, height, stored=True)
                           for frame, mask in payload["prompts"].items()}
                return self.merged([int(number) for number in payload["objects"]], prompts)


def _without(items: Mapping[int, T], keys: Iterable[int]) -> dict[int, T]:
    gone = set(keys)
    return {key: value for key, value in items.items() if key not in gone}
