"""Each call of the contract once: what is asked, and what the answer becomes. The sync and the async client only send it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, SupportsIndex, TypedDict, TypeVar, cast

import httpx
from numpy.typing import NDArray

from sam_service.client import results
from sam_service.client.addresses import origin_of, through_proxy
from sam_service.client.errors import ServiceFailed, raise_for
from sam_service.client.results import FrameMasks, Moved, ObjectMask, ObjectState, SessionState, Track
from sam_service.client.uploads import Video, opened
from sam_service.client.values import Tensor, plain, prompt_fields
from sam_service.export.formats import FormatName

T = TypeVar("T")
Direction = Literal["forward", "backward", "both"]
Numbers = Sequence[Any] | NDArray[Any] | Tensor
Id = SupportsIndex
ExportFormat = FormatName


class OpenOptions(TypedDict, total=False):
    """How a video is opened. start_frame, max_frames, frame_stride: frames of the file; image_size: pixels; fps: frames a
    second of a clip of pictures, 24 if absent."""

    start_frame: Id
    max_frames: Id
    frame_stride: Id
    image_size: Id
    fps: float


class Prompt(TypedDict, total=False):
    """What an object is prompted with on a frame; coordinates are pixels of the session's frames.

    frame_idx: in a live session also `latest`; points: [[x, y]…]; labels: 1 (object) or 0 (not the object) for each point;
    box: [x0, y0, x1, y1]; mask: (H, W) of bool, 0 and 1, or 0 and 255, or a base64 PNG; of a soft mask, up to 1 or up to 255,
    what is above half of that; normalized: coordinates are fractions of width and height. Lists, NumPy arrays and tensors of
    torch are taken alike.
    """

    frame_idx: Id | Literal["latest"]
    points: Numbers
    labels: Numbers | int
    box: Numbers
    mask: Numbers | str
    normalized: bool


class NewObject(Prompt, total=False):
    """A new object's first prompt. object_id, name: chosen by the service if absent."""

    object_id: Id
    name: str


class Correction(Prompt, total=False):
    """One more prompt. replace: forget the earlier ones of this frame first."""

    replace: bool


class ObjectChanges(TypedDict, total=False):
    """What of an object is changed; what is left out, or None, stays. color: `#rrggbb`; locked: nothing may change its prompts
    and masks; position: place in the list, 0 the first."""

    name: str | None
    color: str | None
    locked: bool | None
    position: Id | None


class Range(TypedDict, total=False):
    """What is propagated. end_frame: the last one, inclusive; the defaults are the contract's."""

    start_frame: Id
    end_frame: Id
    direction: Direction
    object_ids: Iterable[Id]


class ExportOptions(TypedDict, total=False):
    """What is exported. size: of the pictures; end_frame: the last one, inclusive; object_ids: all if absent; images: put the
    frames in (davis, yolo, labelme); feather: width of the soft edge in pixels (cut-outs); segmentation: of coco; look,
    opacity (0 to 1): of a video."""

    size: Literal["session", "original"]
    start_frame: Id
    end_frame: Id
    object_ids: Iterable[Id]
    images: bool
    feather: float
    segmentation: Literal["rle", "polygon"]
    look: Literal["tint", "outline", "spotlight", "blur"]
    opacity: float


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call. `repeatable`: doing it twice does what doing it once does. `video`: sent as the form's `file`. `content`: a
    body that is no JSON."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, str | int | float] | None = None
    headers: Mapping[str, str] | None = None
    form: Mapping[str, str] | None = None
    content: bytes | None = None
    video: Video | None = None
    repeatable: bool = False

    @contextlib.contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """What httpx's `build_request` takes; a video's file is open meanwhile. Raises OSError, InvalidArgument."""
        arguments: dict[str, Any] = {"json": plain(self.json), "params": plain(self.params), "headers": self.headers,
                                     "data": self.form, "content": self.content}
        if self.video is None:
            yield arguments
            return
        with opened(self.video) as named_file:
            yield arguments | {"files": {"file": named_file}}

    def result(self, response: httpx.Response) -> T:
        """What the answer, whose body was read, means. Raises ApiError, ServiceFailed where it is not of this service."""
        raise_for(response)
        try:
            return self.read(response)
        except (ValueError, KeyError, TypeError) as error:
            url = response.request.url
            detail = (f"{origin_of(url)}{url.path} gave an answer that is not of this service, or of another version of it"
                      + through_proxy(url))
            raise ServiceFailed({"status": response.status_code, "code": "not_understood", "detail": detail}) from error


def call(method: str, path: str, json: Mapping[str, Any] | None = None) -> Call[Any]:
    """Any call, by hand."""
    return Call(method, path, _document, json=json, repeatable=method in ("GET", "DELETE", "PUT"))


def health() -> Call[dict[str, Any]]:
    """The state of the service."""
    return Call("GET", "/health", _health, repeatable=True)


def ready() -> Call[dict[str, Any]]:
    """Whether the model is loaded."""
    return Call("GET", "/ready", _document, repeatable=True)


def initialize(video: Video, options: OpenOptions) -> Call[SessionState]:
    """Upload a video and open it."""
    form = {name: str(value) for name, value in plain(given(options)).items()}
    return Call("POST", "/initialize", _state, form=form, video=video)


def initialize_on_server(video_path: str, options: OpenOptions) -> Call[SessionState]:
    """Open a video that lies in the service's video folder."""
    return Call("POST", "/initialize", _state, json={"video_path": video_path, **options})


def sessions() -> Call[list[SessionState]]:
    """All open sessions."""
    return Call("GET", "/sessions", lambda response: cast(list[SessionState], response.json()["sessions"]), repeatable=True)


def session(session_id: str) -> Call[SessionState]:
    """One session's whole state."""
    return Call("GET", f"/sessions/{session_id}", _state, repeatable=True)


def delete(session_id: str) -> Call[None]:
    """Delete a session."""
    return Call("DELETE", f"/sessions/{session_id}", _nothing, repeatable=True)


def cancel(session_id: str) -> Call[list[str]]:
    """Stop what runs on a session; the names of the jobs that it stopped."""
    return Call("POST", f"/sessions/{session_id}/cancel", lambda response: list(response.json()["cancelled"]), repeatable=True)


def add_object(session_id: str, prompt: NewObject) -> Call[ObjectMask]:
    """Add an object."""
    return Call("POST", "/add-object", _mask, json=_prompt(session_id, prompt))


def refine(session_id: str, object_id: Id, prompt: Correction) -> Call[ObjectMask]:
    """Prompt an object again."""
    return Call("POST", "/refine", _mask, json={**_prompt(session_id, prompt), "object_id": object_id})


def remove_object(session_id: str, object_id: Id) -> Call[None]:
    """Remove an object."""
    return Call("POST", "/remove-object", _nothing, json={"session_id": session_id, "object_id": object_id})


def clear_prompts(session_id: str, object_id: Id | None, frame_idx: Id | None) -> Call[int]:
    """Take prompts back; how many frames' prompts went."""
    body = given({"session_id": session_id, "object_id": object_id, "frame_idx": frame_idx})
    return Call("POST", "/clear-prompts", lambda response: int(response.json()["cleared"]), json=body)


def undo(session_id: str) -> Call[Moved]:
    """Undo the last step."""
    return Call("POST", "/undo", _moved, json={"session_id": session_id})


def redo(session_id: str) -> Call[Moved]:
    """Redo the step that was undone last."""
    return Call("POST", "/redo", _moved, json={"session_id": session_id})


def edit(session_id: str, object_id: Id, changes: ObjectChanges) -> Call[ObjectState]:
    """Change an object's name, colour, lock or place in the list."""
    return Call("PATCH", f"/sessions/{session_id}/objects/{object_id}", lambda response: cast(ObjectState, response.json()),
                json=given(changes), repeatable=True)


def merge(session_id: str, objects: Iterable[Id]) -> Call[list[int]]:
    """Make several objects one; the frames whose masks changed."""
    return Call("POST", "/merge-objects", _changed_frames, json={"session_id": session_id, "object_ids": list(objects)})


def mark_absent(session_id: str, object_id: Id, frame_idx: Id) -> Call[list[int]]:
    """Say that an object is not in the picture from a frame on; the frames whose masks changed."""
    body = {"session_id": session_id, "object_id": object_id, "frame_idx": frame_idx}
    return Call("POST", "/mark-absent", _changed_frames, json=body)


def start_over(session_id: str) -> Call[list[int]]:
    """Remove all objects that are not locked; the frames whose masks changed."""
    return Call("POST", "/start-over", _changed_frames, json={"session_id": session_id})


def frame(session_id: str, index: Id, width: int | None) -> Call[bytes]:
    """A frame as JPEG."""
    return Call("GET", f"/sessions/{session_id}/frames/{index}", lambda response: response.content,
                params=given({"width": width}), repeatable=True)


def masks(session_id: str, index: Id) -> Call[FrameMasks]:
    """All stored masks of a frame."""
    return Call("GET", f"/sessions/{session_id}/masks/{index}", lambda response: results.frame_masks(response.json()),
                params={"mask_format": "rle"}, repeatable=True)


def export(session_id: str, export_format: ExportFormat, options: ExportOptions) -> Call[None]:
    """A finished session in a format of the field, read piece by piece."""
    query = {"format": export_format, **given(options)}
    if "object_ids" in query:
        query["object_ids"] = ",".join(str(object_id) for object_id in plain(list(query["object_ids"])))
    return Call("GET", f"/sessions/{session_id}/export", _nothing, params=query, repeatable=True)


def tracks(session_id: str) -> Call[dict[int, Track]]:
    """Scores and areas of all objects through the clip."""
    return Call("GET", f"/sessions/{session_id}/tracks", lambda response: results.tracks(response.json()), repeatable=True)


def _document(response: httpx.Response) -> Any:
    return response.json() if response.content else None


def _health(response: httpx.Response) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    if "version" not in document:
        raise KeyError("version")
    return document


def _nothing(response: httpx.Response) -> None:
    return None


def _state(response: httpx.Response) -> SessionState:
    return cast(SessionState, response.json())


def _changed_frames(response: httpx.Response) -> list[int]:
    return list(response.json()["changed_frames"])


def _moved(response: httpx.Response) -> Moved:
    return cast(Moved, response.json())


def _mask(response: httpx.Response) -> ObjectMask:
    return results.object_mask(response.json())


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def _prompt(session_id: str, prompt: Prompt) -> dict[str, Any]:
    return {"session_id": session_id, "mask_format": "rle", **prompt_fields(prompt)}
