"""What travels over the wire. Field descriptions give units; examples show one session of a 1280 x 720 clip."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator

from sam_service.core.models.registry import DEFAULT_SIZE, SIZES
from sam_service.export.clip import Look, Segmentation, Size
from sam_service.export.formats import FORMATS, FormatName, formats_with
from sam_service.masks.encode import MaskFormat

MAX_ID = 2**31 - 1
MAX_POINTS = 256
EXAMPLE_DETAIL = "points[0] (1300, 20) lies outside the frame: x goes from 0 to 1280, y from 0 to 720"
EXAMPLE_MASK = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2iQAAAABJRU5ErkJggg=="

SessionId = Annotated[str, Field(min_length=1, max_length=64, description="the session, as `/initialize` named it",
                                 examples=["0f8b5c3e9a7d4b1c8e2f6a5d4c3b2a19"])]
ObjectId = Annotated[int, Field(ge=0, le=MAX_ID, description="the client's number for an object", examples=[1])]
FrameIndex = Annotated[int, Field(ge=0, le=MAX_ID, description="frame of the session, from 0", examples=[0])]
LATEST: Any = "latest"


def _latest(given: Any, number: ValidatorFunctionWrapHandler) -> Any:
    return LATEST if given == LATEST else number(given)


# A number, or LATEST, which is no part of the type, so that an error names the field and not a member of a union.
FrameOrLatest = Annotated[int, Field(ge=0, le=MAX_ID), WrapValidator(_latest), WithJsonSchema({
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_ID}, {"const": "latest", "type": "string"}],
    "description": "frame of the session, from 0; in a live session also `latest`, the newest one", "examples": [0]})]
ModelSize = Annotated[str, Field(description=f"a size that `/models` lists: {', '.join(SIZES)}", examples=[DEFAULT_SIZE])]
Number = Annotated[float, Field(allow_inf_nan=False)]

# The same in answers, where a bound would turn the service's own word into an error.
AnsweredObjectId = Annotated[int, Field(description="the client's number for an object", examples=[1])]
AnsweredFrameIndex = Annotated[int, Field(description="frame of the session, from 0", examples=[0])]


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt option is not ignored."""

    model_config = ConfigDict(extra="forbid", strict=False)


class InitializeBody(Body):
    """Open a video that lies in the service's video folder."""

    video_path: str = Field(max_length=4096, description="path inside the video folder, or relative to it",
                            examples=["clips/cups.mp4"])
    start_frame: int = Field(0, ge=0, le=MAX_ID, description="frame of the file that becomes frame 0", examples=[0])
    max_frames: int | None = Field(None, ge=1, le=MAX_ID, description="frames of the session at most", examples=[250])
    frame_stride: int = Field(1, ge=1, le=MAX_ID, description="take every n-th frame of the file", examples=[1])
    image_size: int | None = Field(None, description="side of the network's input, pixels, a multiple of 32; "
                                                     "the model's own if absent", examples=[1024])
    fps: float | None = Field(None, ge=0.001, le=1000, examples=[24],
                              description="frames a second of a folder or an archive of pictures, 24 if "
                                          "absent; a video has times of its own")


class LiveBody(Body):
    """Open a session without a file, whose frames will be pushed one by one."""

    live: Literal[True] = Field(description="a session without a file", examples=[True])
    width: int = Field(ge=8, le=16384, description="of the frames that will be pushed, pixels", examples=[1280])
    height: int = Field(ge=8, le=16384, description="of the frames that will be pushed, pixels", examples=[720])
    policy: Literal["latest", "all"] = Field("latest", examples=["latest"], description=(
        "frames that come faster than they are tracked: `latest`, one waits and a newer one replaces it; `all`, none is "
        "dropped and too many are refused"))
    keep_frames: int = Field(32, ge=2, le=1024, description="the last frames that are kept, to be prompted and gone back to",
                             examples=[32])
    image_size: int | None = Field(None, description="side of the network's input, pixels, a multiple of 32; "
                                                     "the model's own if absent", examples=[1024])
    fps: float = Field(24.0, ge=0.001, le=1000, examples=[24], description="frames a second, for the times of frames that come "
                                                                            "without one")


class LiveState(BaseModel):
    """How a live session deals with its frames."""

    policy: str = Field(description="latest or all", examples=["latest"])
    keep_frames: int = Field(description="the last frames that are kept", examples=[32])
    first_frame: int = Field(description="the oldest frame that is kept", examples=[10])
    dropped: int = Field(description="frames so far that a newer one replaced before they were tracked", examples=[3])


class Model(BaseModel):
    """Which network answers."""

    size: ModelSize
    image_size: int = Field(description="side of the network's input, pixels", examples=[1024])
    device: str = Field(description="cpu, cuda or mps", examples=["cpu"])
    quantized: bool = Field(description="whether the image encoder runs in INT8", examples=[False])


class Initialized(BaseModel):
    """A session that can be clicked on."""

    session_id: SessionId
    status: str = Field(description="extracting, ready or failed; live for a session without a file", examples=["extracting"])
    num_frames: int = Field(description="frames of the session; an estimate while extracting", examples=[250])
    frames_ready: int = Field(description="frames extracted so far", examples=[12])
    width: int = Field(description="pixels; coordinates and masks use this size", examples=[1280])
    height: int = Field(description="pixels", examples=[720])
    original_width: int = Field(description="of the file, upright, with square pixels", examples=[3840])
    original_height: int = Field(description="of the file, upright, with square pixels", examples=[2160])
    pixel_aspect: float = Field(description="width of a stored pixel of the file divided by its height; not 1 where the "
                                            "pictures were brought to square pixels", examples=[1.0])
    size_changed: bool = Field(description="whether some of the file's pictures have another size than the first and "
                                           "were brought to it; exact once extracted", examples=[False])
    missing_frames: int = Field(description="pictures that the file's index lists and that could not be decoded: damage, or an "
                                            "upload that broke off; exact once extracted", examples=[0])
    scale_factor: float = Field(description="width / original_width", examples=[0.3333])
    fps: float = Field(description="frames per second of the file on average; exact once extracted", examples=[29.97])
    truncated: bool = Field(description="whether a limit on frames cut the clip; exact once extracted", examples=[False])
    model: Model = Field(description="which network answers")
    live: LiveState | None = Field(None, description="of a session without a file; null for the others", examples=[None])
    expires_at: float = Field(description="when the session ends if left alone, seconds since 1970", examples=[1767225600.0])


class ObjectState(BaseModel):
    """An object of a session."""

    object_id: AnsweredObjectId
    name: str = Field(description="what people call it", examples=["red cup"])
    color: str = Field(description="#rrggbb", examples=["#56b4e9"])
    prompted_frames: list[int] = Field(description="frames with a prompt for it", examples=[[0, 42]])
    locked: bool = Field(description="whether nothing may change its masks", examples=[False])
    absent_from: list[int] = Field(description="frames from which on it is not in the picture, up to its next prompt",
                                   examples=[[]])


class PromptState(BaseModel):
    """What an object is prompted with on a frame."""

    object_id: AnsweredObjectId
    frame_idx: AnsweredFrameIndex
    points: list[list[float]] = Field(description="clicks [x, y], pixels", examples=[[[640.0, 360.0]]])
    labels: list[int] = Field(description="1 object, 0 not the object", examples=[[1]])
    box: list[float] | None = Field(description="[x0, y0, x1, y1], pixels", examples=[[500.0, 300.0, 700.0, 420.0]])
    mask: bool = Field(description="whether the prompt is a mask", examples=[False])


class JobInfo(BaseModel):
    """Work on a session."""

    job_id: str = Field(description="the job's name", examples=["4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012"])
    session_id: SessionId
    state: str = Field(description="running, done, cancelled or failed", examples=["running"])
    done: int = Field(description="frames computed", examples=[40])
    total: int = Field(description="frames to compute", examples=[250])
    frames_per_second: float = Field(description="computed so far, per second", examples=[17.5])
    elapsed_s: float = Field(description="seconds since the start", examples=[2.3])
    error: dict[str, Any] | None = Field(None, description="the problem document of what ended it early, with `frame_idx`",
                                         examples=[None])


class StepState(BaseModel):
    """What a user did at once, and can undo or redo at once."""

    kind: str = Field(examples=["refine"], description=(
        "add, refine, clear, remove, merge, absent, start_over, or edit: a name, a colour, a lock or a place in the list"))
    object_ids: list[int] = Field(description="objects that it changed", examples=[[1]])
    frame_idx: int | None = Field(description="its frame; null where it is about none, or several", examples=[42])


class History(BaseModel):
    """What can be undone and redone, the next one first, at most 100 steps each."""

    undo: list[StepState] = Field(description="for `POST /undo`")
    redo: list[StepState] = Field(description="for `POST /redo`; a change or a propagation empties it")


class SessionInfo(Initialized):
    """A session's whole state."""

    video_name: str = Field(description="name of the file", examples=["cups.mp4"])
    created_at: float = Field(description="seconds since 1970", examples=[1767222000.0])
    objects: list[ObjectState] = Field(description="objects in the order they were added")
    prompts: list[PromptState] = Field(description="all prompts, by object and frame")
    frames_with_masks: list[int] = Field(description="frames that have a stored mask", examples=[[0, 1, 2]])
    running: JobInfo | None = Field(description="the propagation under way")
    history: History = Field(description="what can be undone and redone")
    error: str | None = Field(None, description="what ended the extraction early", examples=[None])


class SessionList(BaseModel):
    """All open sessions."""

    sessions: list[SessionInfo] = Field(description="oldest first")


class LibraryVideo(BaseModel):
    """A video, or a folder of pictures, that `/initialize` takes by path."""

    video_path: str = Field(description="path relative to the video folder", examples=["clips/cups.mp4"])
    size_bytes: int = Field(description="bytes of the file; 0 of a folder", examples=[1843200])
    modified_at: float = Field(description="seconds since 1970", examples=[1767222000.0])
    is_folder: bool = Field(description="whether it is a folder of pictures", examples=[False])


class Library(BaseModel):
    """What lies in the service's video folder."""

    enabled: bool = Field(description="whether the service has a video folder", examples=[True])
    complete: bool = Field(description="whether these are all; at most 500 are listed", examples=[True])
    videos: list[LibraryVideo] = Field(description="by path")


class Prompt(Body):
    """A prompt for one object on one frame: points, a box, both, or a mask."""

    session_id: SessionId
    frame_idx: FrameOrLatest = 0
    points: list[Annotated[list[Number], Field(max_length=8)]] | None = Field(
        None, max_length=MAX_POINTS, description="clicks [x, y], pixels of the session's frames", examples=[[[640, 360]]])
    labels: list[int] | None = Field(None, max_length=MAX_POINTS, examples=[[1]],
                                     description="one for each point: 1 object, 0 not the object; all 1 if absent")
    box: list[Number] | None = Field(None, max_length=8, description="[x0, y0, x1, y1], pixels",
                                     examples=[[500, 300, 700, 420]])
    mask: str | None = Field(None, examples=[EXAMPLE_MASK], description=(
        "base64 PNG or JPEG of the frame's size in pixels: bool, 0 and 1, or 0 and 255, not zero where the object is; soft "
        "edges are cut at half of the largest value"))
    normalized: bool = Field(False, description="coordinates are fractions of width and height", examples=[False])
    mask_format: MaskFormat = Field("png", description="form of the mask in the answer", examples=["png"])


class AddObject(Prompt):
    """A new object."""

    object_id: ObjectId | None = Field(None, description="chosen if absent", examples=[1])
    name: str | None = Field(None, max_length=1024, examples=["red cup"],
                             description="1 to 80 characters; `object N` if absent")


class Refine(Prompt):
    """One more prompt for an object that exists."""

    object_id: ObjectId
    replace: bool = Field(False, description="forget the earlier prompts and mask of this frame first", examples=[False])


class EditObject(Body):
    """What an object is called and shown as, and whether it may change; what is absent stays."""

    name: str | None = Field(None, max_length=1024, description="1 to 80 characters", examples=["red cup"])
    color: str | None = Field(None, max_length=64, description="#rrggbb", examples=["#e69f00"])
    locked: bool | None = Field(None, description="whether nothing may change its prompts and masks", examples=[True])
    position: int | None = Field(None, ge=0, le=MAX_ID, examples=[0],
                                 description="place in the list, 0 the first; behind the end is the last")


class RemoveObject(Body):
    """Remove an object."""

    session_id: SessionId
    object_id: ObjectId


class ClearPrompts(Body):
    """Take prompts back."""

    session_id: SessionId
    object_id: ObjectId | None = Field(None, description="all objects if absent", examples=[1])
    frame_idx: FrameIndex | None = Field(None, description="all frames if absent", examples=[0])


class MergeObjects(Body):
    """Make several objects one."""

    session_id: SessionId
    object_ids: list[ObjectId] = Field(min_length=2, max_length=1024, examples=[[1, 2]],
                                       description="the first one stays, with its number, name and colour")


class MarkAbsent(Body):
    """Say that an object is not in the picture from a frame on."""

    session_id: SessionId
    object_id: ObjectId
    frame_idx: FrameIndex = Field(description="the first frame without it", examples=[42])


class Colors(BaseModel):
    """The colours that objects have unless somebody chose others."""

    colors: list[str] = Field(description="#rrggbb; object N has the one at place (N - 1) modulo 64", examples=[["#56b4e9"]])


class Changed(BaseModel):
    """A session's objects after a change."""

    session_id: SessionId
    object_ids: list[int] = Field(description="objects of the session", examples=[[1, 2]])
    cleared: int = Field(0, description="prompts taken back", examples=[1])
    changed_frames: list[int] = Field([], description="frames whose stored masks are others now, of `/merge-objects`, "
                                                      "`/mark-absent` and `/start-over`", examples=[[0, 1, 2]])


class OfSession(Body):
    """A call that needs nothing but its session."""

    session_id: SessionId


class Moved(BaseModel):
    """What was undone or redone."""

    session_id: SessionId
    step: StepState = Field(description="the step that was undone or redone")
    object_ids: list[int] = Field(description="objects of the session now, in order", examples=[[1, 2]])
    changed_frames: list[int] = Field(description="frames whose stored masks are others now", examples=[[0, 1, 2]])
    history: History = Field(description="what can be undone and redone now")


class ObjectMask(BaseModel):
    """One object's mask on one frame."""

    session_id: SessionId
    frame_idx: AnsweredFrameIndex
    object_id: AnsweredObjectId
    mask: Any = Field(description="as `mask_format` says: base64 PNG (0 and 255), RLE, polygons, or null",
                      examples=[EXAMPLE_MASK])
    mask_format: MaskFormat = Field(description="form of the mask", examples=["png"])
    score: float = Field(description="predicted IoU, 0 to 1", examples=[0.93])
    object_score: float = Field(description="probability that the object is in the frame, 0 to 1", examples=[0.99])
    area: int = Field(description="pixels", examples=[18250])
    bbox: list[int] | None = Field(description="[x, y, w, h], pixels; null for an empty mask", examples=[[512, 301, 180, 118]])
    elapsed_ms: float = Field(description="time of the step on the device, ms", examples=[41.7])


class Propagate(Body):
    """Carry objects through the clip."""

    session_id: SessionId
    start_frame: FrameIndex | None = Field(None, description="the earliest prompted frame if absent", examples=[0])
    end_frame: FrameIndex | None = Field(None, description="last frame, inclusive; the clip's end if absent", examples=[249])
    direction: Literal["forward", "backward", "both"] = Field("forward", examples=["forward"], description=(
        "forward to end_frame, backward to end_frame, or both: forward to end_frame, then backward from the start to frame 0"))
    object_ids: list[ObjectId] | None = Field(None, min_length=1, max_length=1024, description="all objects if absent",
                                              examples=[[1]])
    mask_format: MaskFormat = Field("png", description="form of the masks in the answer", examples=["rle"])
    background: bool = Field(False, description="answer 202 at once; the work goes on as a job", examples=[False])


class Timestamps(BaseModel):
    """When each frame is shown."""

    timestamps_s: list[float] = Field(description="seconds from the start of the video, of all frames extracted so far; of a "
                                                  "live session, of the frames that are kept", examples=[[0.0, 0.0417, 0.0834]])
    first_frame: int = Field(0, description="frame of the first of these; not 0 in a live session whose window has moved on",
                             examples=[0])


class FrameMasks(BaseModel):
    """All objects on one frame."""

    frame_idx: AnsweredFrameIndex
    timestamp_s: float = Field(description="seconds from the start of the video", examples=[0.0417])
    objects: list[ObjectMask] = Field(description="every object, with an empty mask where it is absent")


class PushedFrame(FrameMasks):
    """A frame of a live session that was tracked."""

    dropped: int = Field(description="frames of the session so far that a newer one replaced before they were tracked",
                         examples=[0])
    queue_ms: float = Field(description="time from the frame's arrival to its turn, ms", examples=[0.1])
    step_ms: float = Field(description="time from its turn to its masks, ms", examples=[48.2])


class Rewind(Body):
    """Go back in a live session."""

    frame_idx: FrameIndex = Field(description="the frame that is the newest then, one of those that are kept", examples=[41])


class Rewound(BaseModel):
    """A live session after going back."""

    session_id: SessionId
    frame_idx: AnsweredFrameIndex
    num_frames: int = Field(description="number that the next frame gets", examples=[42])
    object_ids: list[int] = Field(description="objects of the session", examples=[[1, 2]])


class Propagated(BaseModel):
    """A whole propagation."""

    session_id: SessionId
    num_frames: int = Field(description="frames in this answer", examples=[250])
    frames: list[FrameMasks] = Field(description="in the order they were computed")
    elapsed_s: float = Field(description="seconds from start to end", examples=[14.2])
    frames_per_second: float = Field(description="frames per second over that time", examples=[17.6])


class Track(BaseModel):
    """One object over time: columns of equal length, by frame."""

    object_id: AnsweredObjectId
    frames: list[int] = Field(description="frames with a stored mask", examples=[[0, 1, 2]])
    score: list[float] = Field(description="predicted IoU, 0 to 1", examples=[[0.93, 0.92, 0.9]])
    object_score: list[float] = Field(description="probability that the object is in the frame, 0 to 1",
                                      examples=[[0.99, 0.99, 0.98]])
    area: list[int] = Field(description="pixels", examples=[[18250, 18310, 18190]])


class Tracks(BaseModel):
    """All objects over time, as a timeline shows them."""

    session_id: SessionId
    num_frames: int = Field(description="frames of the session; an estimate while extracting", examples=[250])
    objects: list[Track] = Field(description="in the order they were added")


class Cancelled(BaseModel):
    """What was stopped."""

    session_id: SessionId
    cancelled: list[str] = Field(description="jobs that ran and were stopped", examples=[["4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012"]])


class ExportQuery(Body):
    """What to export, and as what."""

    format: FormatName = Field(description="; ".join(f"{name}: {form.description}" for name, form in FORMATS.items()),
                               examples=["coco"])
    size: Size = Field("session", description="the session's frames, or the file's upright pictures", examples=["session"])
    start_frame: FrameIndex | None = Field(None, description="0 if absent", examples=[0])
    end_frame: FrameIndex | None = Field(None, description="last frame, inclusive; the clip's end if absent", examples=[249])
    object_ids: str | None = Field(None, max_length=16384, description="objects' numbers with commas; all if absent",
                                   examples=["1,2"])
    images: bool = Field(False, description=f"put the frames in as JPEG; {formats_with('images')}", examples=[False])
    feather: Number = Field(0.0, description=f"width of the soft edge, 0 to 100 pixels; {formats_with('feather')}",
                            examples=[0])
    segmentation: Segmentation = Field("rle", description="masks as compressed RLE, exact, or as one polygon each; "
                                                          f"{formats_with('segmentation')}", examples=["polygon"])
    look: Look = Field("tint", description="tint or outline the objects, darken or blur what is outside of them; "
                                           f"{formats_with('look')}", examples=["spotlight"])
    opacity: Number | None = Field(None, description="strength of the look, 0 to 1, its own if absent; "
                                                     f"{formats_with('opacity')}", examples=[0.45])


class ExportFormat(BaseModel):
    """A format of exports."""

    format: str = Field(description="its name in `GET /sessions/{id}/export?format=`", examples=["coco"])
    title: str = Field(description="its name for people", examples=["COCO"])
    description: str = Field(description="what the file is", examples=["JSON with compressed RLE or polygons"])
    media_type: str = Field(description="of the answer", examples=["application/json"])
    options: list[str] = Field(description="the options that mean something to it", examples=[["segmentation"]])


class ExportFormats(BaseModel):
    """All formats of exports."""

    formats: list[ExportFormat] = Field(description="in the order in which the page shows them")


class FieldError(BaseModel):
    """One bad field."""

    field: str = Field(description="name of the field", examples=["points"])
    message: str = Field(description="what is wrong with it", examples=[EXAMPLE_DETAIL])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="URI of the kind of problem", examples=["urn:sam-service:problem:invalid_prompt"])
    title: str = Field(description="the kind of problem in words", examples=["Invalid prompt"])
    status: int = Field(description="HTTP status", examples=[422])
    detail: str = Field(description="what happened, for people", examples=[EXAMPLE_DETAIL])
    code: str = Field(description="stable, machine readable", examples=["invalid_prompt"])
    errors: list[FieldError] | None = Field(None, description="each bad field, the first 20 of them")
    retry_after_s: int | None = Field(None, description="seconds, as in the Retry-After header", examples=[5])


class Ready(BaseModel):
    """The service takes work."""

    ready: bool = Field(description="always true; 503 otherwise", examples=[True])
