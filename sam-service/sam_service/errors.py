"""Every error that the service raises on purpose.

    ServiceError
    ├── ClientError             the caller asked for something that cannot be done
    │   ├── InvalidInput        a value is wrong; names the field
    │   │   └── InvalidPrompt   a prompt is wrong for this frame or object
    │   ├── NotAVideo           the bytes are not a video that can be decoded
    │   ├── TooLarge            over a byte, pixel or frame limit
    │   ├── HeadTooLarge        the URL and the headers are longer than anyone needs
    │   ├── TooSlow             the body does not come
    │   ├── NotFound            no such session, object, frame, mask or model
    │   ├── Unauthorized        the API key is missing or wrong
    │   ├── Forbidden           a web page of another origin asks for what it may not
    │   ├── RangeNotSatisfiable the part of a file that is asked for lies behind its end
    │   ├── Gone                the session was there, and has expired; or a live session's frame, and is no longer held
    │   └── Conflict            right request, wrong state
    ├── CapacityError           not now; try again later
    │   ├── TooManySessions
    │   ├── BacklogFull         frames of a live session come faster than they are tracked
    │   ├── QueueFull
    │   ├── StorageFull         the disk is full, or nearly so
    │   ├── MemoryFull          memory is used up, or nearly so
    │   └── NotReady            the model is still loading, or a frame is not extracted yet
    └── EngineError             our side failed
        ├── StoreUnusable       the data folder is another process's, or of a later version
        ├── ModelUnavailable    weights that were asked for cannot be had
        ├── InvalidMask         the network answered something that is not a mask
        ├── FrameUnreadable     a stored frame cannot be read back
        └── MemoryUnreadable    a stored memory cannot be read back

Nothing here knows HTTP: `api/problems.py` holds the one table from these classes to status codes.
"""

from __future__ import annotations


class ServiceError(Exception):
    """The root. `code` is stable and machine readable; the message is for people."""

    code = "error"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class ClientError(ServiceError):
    """The caller's mistake: repeating the request unchanged gives the same answer."""

    code = "bad_request"


class InvalidInput(ClientError):
    """A value is missing, malformed or outside its limit."""

    code = "invalid_input"


class InvalidPrompt(InvalidInput):
    """A prompt does not fit its frame, its object or itself."""

    code = "invalid_prompt"


class NotAVideo(ClientError):
    """The file holds no frame that the decoder can read."""

    code = "not_a_video"


class TooLarge(ClientError):
    """A limit on bytes, pixels or frames is exceeded."""

    code = "too_large"


class HeadTooLarge(ClientError):
    """The request line and the headers are over their limit."""

    code = "head_too_large"


class TooSlow(ClientError):
    """The request's body comes too slowly, or not at all."""

    code = "too_slow"


class NotFound(ClientError):
    """Nothing with that name exists."""

    code = "not_found"


class Unauthorized(ClientError):
    """The service wants an API key and got none, or a wrong one."""

    code = "unauthorized"


class Forbidden(ClientError):
    """A web page of another origin asks for a change."""

    code = "forbidden"


class RangeNotSatisfiable(ClientError):
    """The part of a file that is asked for has no byte. size: of the file, bytes."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, *, field: str, size: int) -> None:
        super().__init__(message, field=field)
        self.size = size


class Gone(ClientError):
    """The session existed and has expired, or the frame was held and is not any more."""

    code = "session_expired"


class Conflict(ClientError):
    """The request is fine, the session is in the wrong state for it."""

    code = "conflict"


class CapacityError(ServiceError):
    """The service is full for now. `retry_after_s` says when to come back."""

    code = "capacity"

    def __init__(self, message: str, *, retry_after_s: int = 5, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class TooManySessions(CapacityError):
    """The cap on open sessions is reached."""

    code = "too_many_sessions"


class BacklogFull(CapacityError):
    """As many frames of a live session wait as may."""

    code = "backlog_full"


class QueueFull(CapacityError):
    """The device's queue is full."""

    code = "queue_full"


class StorageFull(CapacityError):
    """The disk has no room for what was asked; nothing that is stored is touched."""

    code = "disk_full"


class MemoryFull(CapacityError):
    """There is no memory for what was asked."""

    code = "memory_full"


class NotReady(CapacityError):
    """The model is not loaded yet, or the service is stopping."""

    code = "not_ready"


class EngineError(ServiceError):
    """The service's own failure."""

    code = "internal_error"


class StoreUnusable(EngineError):
    """The data folder cannot be used by this process."""

    code = "store_unusable"


class ModelUnavailable(EngineError):
    """The weights that were asked for are not here and could not be had."""

    code = "model_unavailable"


class InvalidMask(EngineError):
    """The network's logits are not finite or have the wrong shape; no mask is made of them."""

    code = "invalid_mask"


class FrameUnreadable(EngineError):
    """A frame that was extracted cannot be read back."""

    code = "frame_unreadable"


class MemoryUnreadable(EngineError):
    """A tracking memory that was stored cannot be read back."""

    code = "memory_unreadable"
