"""The one table from exceptions to problem documents (RFC 9457)."""

from __future__ import annotations

import logging
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sam_service import errors
from sam_service.failures import translate
from sam_service.schemas import FieldError, Problem

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.ServiceError], int] = {
    errors.InvalidInput: 422,
    errors.InvalidPrompt: 422,
    errors.NotAVideo: 415,
    errors.TooLarge: 413,
    errors.TooSlow: 408,
    errors.HeadTooLarge: 431,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.ClientError: 400,
    errors.TooManySessions: 429,
    errors.BacklogFull: 429,
    errors.QueueFull: 503,
    errors.NotReady: 503,
    errors.CapacityError: 503,
    errors.ModelUnavailable: 503,
    errors.EngineError: 500,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.RangeNotSatisfiable: 416,
}
MEDIA_TYPE = "application/problem+json"
MAX_FIELDS, MAX_TEXT = 20, 300
MODEL_RETRY_S = 60


def status_of(error: errors.ServiceError) -> int:
    """The HTTP status of an exception: that of its nearest listed class."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def problem_of(error: errors.ServiceError) -> Problem:
    """The problem document of an exception."""
    fields = [FieldError(field=error.field, message=error.message)] if error.field else None
    retry = error.retry_after_s if isinstance(error, errors.CapacityError) else None
    if isinstance(error, errors.ModelUnavailable):
        retry = MODEL_RETRY_S
    return _problem(status_of(error), error.code, error.message, fields, retry)


def install(app: FastAPI) -> None:
    """Answer every failure of the application that is understood with a problem document; `guards.Guard` answers the others."""

    @app.exception_handler(errors.ServiceError)
    async def on_service_error(_: Request, error: errors.ServiceError) -> JSONResponse:
        if isinstance(error, errors.EngineError):
            logger.error("answering %s: %s", error.code, error.message)
        answer = respond(problem_of(error))
        if isinstance(error, errors.RangeNotSatisfiable):
            answer.headers["Content-Range"] = f"bytes */{error.size}"
        return answer

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            return respond(_problem(400, "invalid_json", "the body is not valid JSON"))
        fields = [FieldError(field=_field(item["loc"])[:MAX_TEXT], message=str(item["msg"])[:MAX_TEXT])
                  for item in found[:MAX_FIELDS]]
        detail = "; ".join(f"{field.field}: {field.message}" for field in fields[:5])
        return respond(_problem(422, "invalid_input", detail, fields))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        answer = respond(_problem(error.status_code, phrase.lower().replace(" ", "_"), str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def on_leaving(_: Request, error: ClientDisconnect) -> JSONResponse:
        return respond(_problem(400, "client_left", "the client went away before its body was here"))

    async def on_system_failure(_: Request, error: Exception) -> JSONResponse:
        translated = translate(error)
        if translated is None:
            raise error
        logger.error("answering %s: %s", translated.code, error)
        return respond(problem_of(translated))

    for kind in (OSError, MemoryError, RuntimeError, sqlite3.Error):
        app.add_exception_handler(kind, on_system_failure)


def respond(problem: Problem) -> JSONResponse:
    """A response that carries a problem document."""
    headers = {"Retry-After": str(problem.retry_after_s)} if problem.retry_after_s is not None else {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def internal_error() -> Problem:
    """What a client is told of a fault of the service's own."""
    return _problem(500, "internal_error", "the service failed; its log says why")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI page says of these failures."""
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": {
        "$ref": "#/components/schemas/Problem"}}}} for status in statuses}


def _problem(status: int, code: str, detail: str, fields: list[FieldError] | None = None,
             retry_after_s: int | None = None) -> Problem:
    return Problem(type=f"urn:sam-service:problem:{code}", title=code.replace("_", " ").capitalize(), status=status,
                   detail=detail, code=code, errors=fields, retry_after_s=retry_after_s)


def _field(location: tuple[int | str, ...]) -> str:
    """`("body", "points", 0, 1)` -> `points[0][1]`."""
    name = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name or "body"
