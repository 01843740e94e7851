"""What can go wrong between a client and the service.

    SamError
    ├── InvalidArgument         an argument is wrong, and nothing was sent; also a ValueError
    ├── Unreachable             no answer: the service is down, or the connection broke
    │   └── NoService           nothing listens at this address
    └── ApiError                the service answered a problem document
        ├── InvalidRequest      a value is wrong; `fields` names it (400, 405, 413, 415, 422)
        ├── Unauthorized        the API key is missing or wrong (401)
        ├── NotFound            no such session, object, frame, mask or job (404)
        │   └── SessionExpired  it expired, unused for too long (410)
        ├── Conflict            right request, wrong state (409)
        │   └── Cancelled       the propagation was cancelled by someone
        ├── Busy                full for now; `retry_after_s` says when to come back (429, 503)
        │   └── NotReady        the model is still loading, or the service is stopping
        └── ServiceFailed       the service's own failure; its log says why (5xx)
            └── ModelUnavailable    the weights cannot be had; waiting does not help
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import httpx

from sam_service.client.addresses import through_proxy


class SamError(Exception):
    """The root: everything that a client raises on purpose."""


class InvalidArgument(SamError, ValueError):
    """An argument cannot mean anything to the service; `field` names it. Nothing was sent."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} {what}")
        self.field = field
        self.what = what


class Unreachable(SamError):
    """The service gave no answer, or stopped in the middle of one."""


class NoService(Unreachable):
    """Nothing listens at this address: the service does not run, or the address is another one. url: scheme, host, port."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"no service at {url}: {why}")
        self.url = url


class ApiError(SamError):
    """The service refused or failed. `code` is stable; `fields` maps each bad field to what is wrong with it.

    document: the problem document as it came; retry_after_s: seconds, where the service said when to come back.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(f"{document.get('status', '')} {document.get('code', '')}: {document.get('detail', '')}")
        self.document = dict(document)
        self.status = int(document.get("status", 0))
        self.code = str(document.get("code", ""))
        self.detail = str(document.get("detail", ""))
        self.fields = {str(item["field"]): str(item["message"]) for item in document.get("errors") or ()}
        self.retry_after_s: float | None = document.get("retry_after_s")


class InvalidRequest(ApiError):
    """A value is missing, malformed or outside its limit: the same request gets the same answer again."""


class Unauthorized(ApiError):
    """The service wants an API key and got none, or a wrong one."""


class NotFound(ApiError):
    """Nothing with that name exists."""


class SessionExpired(NotFound):
    """The session existed and has expired."""


class Conflict(ApiError):
    """The request is fine, the session is in the wrong state for it."""


class Cancelled(Conflict):
    """A propagation was cancelled; what it had computed is stored."""


class Busy(ApiError):
    """The service is full for now."""


class NotReady(Busy):
    """The model is not loaded yet, or the service is stopping."""


class ServiceFailed(ApiError):
    """The service failed."""


class ModelUnavailable(ServiceFailed):
    """The weights that the service was asked for cannot be had."""


BY_CODE: dict[str, type[ApiError]] = {
    "cancelled": Cancelled, "not_ready": NotReady, "stopping": NotReady, "model_unavailable": ModelUnavailable,
    "session_expired": SessionExpired, "frame_gone": NotFound,
}
BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized, 403: Unauthorized, 404: NotFound, 409: Conflict, 410: SessionExpired, 429: Busy, 503: Busy,
}


def error_of(document: Mapping[str, Any]) -> ApiError:
    """The exception for a problem document: by its code, else by its status."""
    status = int(document.get("status", 0))
    otherwise = ServiceFailed if status >= 500 else InvalidRequest
    kind = BY_CODE.get(str(document.get("code", ""))) or BY_STATUS.get(status, otherwise)
    return kind(document)


def raise_for(response: httpx.Response) -> None:
    """Raise what an answer of 400 and more means; its body was read. A proxy on the way answers no problem document."""
    if not response.is_error:
        return
    document: Any = None
    if "json" in response.headers.get("content-type", ""):
        with contextlib.suppress(ValueError):
            document = response.json()
    if not isinstance(document, Mapping) or "code" not in document:
        document = {"code": response.reason_phrase.lower().replace(" ", "_"),
                    "detail": response.text[:200] + through_proxy(response.request.url)}
    raise error_of({**document, "status": response.status_code})
