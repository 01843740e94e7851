"""Log lines for people or for machines, with the ids of the request and the session that they belong to.

A request's id is the client's `X-Request-Id` or one of the service's own; a trace's id is that of the W3C `traceparent` header.
Both travel in context variables, which tasks and the pools' threads inherit where they are started from a request.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

request_id: ContextVar[str] = ContextVar("request_id", default="")
session_id: ContextVar[str] = ContextVar("session_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
_IDS = {"request_id": request_id, "session_id": session_id, "trace_id": trace_id}
_CONSOLE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up(level: str, form: Literal["console", "json"]) -> None:
    """Send the process's log to stderr in one form. Called by the doors, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter(_CONSOLE))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if form == "json":  # uvicorn's own lines, too
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).handlers.clear()


class ConsoleFormatter(logging.Formatter):
    """A line for people; the request's id behind it, where there is one. What a client says can neither begin a line nor move
    the cursor: further lines of a message are indented, and control characters are written out."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        shown = ("".join(one if one.isprintable() else ascii(one)[1:-1] for one in line) for line in record.message.split("\n"))
        record.message = "\n    ".join(shown)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        line = super().format(record)
        ids = " ".join(f"{name}={found}" for name, variable in _IDS.items()
                       if name != "session_id" and (found := variable.get()))
        if not ids:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} [{ids}]{newline}{rest}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the ids, error and traceback that there are."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= {name: found for name, variable in _IDS.items() if (found := variable.get())}
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "traceback": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False)
