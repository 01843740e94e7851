"""A propagation's stream of server-sent events, resumed when its connection breaks: what to send, and what each line means."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sam_service.client.calls import Call, Range
from sam_service.client.errors import Cancelled, Unreachable, error_of
from sam_service.client.results import PropagatedFrame, propagated_frame

SSE = "text/event-stream"
FIRST_PAUSE_S, MAX_PAUSE_S = 0.3, 3.0


class PropagationStream:
    """One propagation, requested again whenever its connection breaks; `ended` once all of it has arrived.

    Each event has an id. With the last one in `Last-Event-ID` the service resumes after it, also after a restart, so no frame
    is lost or comes twice. max_wait_s: how long to wait for a service that does not answer.
    """

    def __init__(self, session_id: str, which: Range, *, masks: bool, max_wait_s: float) -> None:
        self.ended = False
        self._body: dict[str, Any] = {"session_id": session_id, "mask_format": "rle" if masks else "none", **which}
        if self._body.get("object_ids") is not None:
            self._body["object_ids"] = list(self._body["object_ids"])
        self._fields: dict[str, str] = {}
        self._last_id = ""
        self._max_wait_s = max_wait_s
        self._breaks = 0
        self._broken_since: float | None = None

    def call(self) -> Call[None]:
        """The next request."""
        self._fields = {}
        resumed = {"Last-Event-ID": self._last_id} if self._last_id else {}
        return Call("POST", "/propagate", lambda response: None, json=self._body, headers={"Accept": SSE, **resumed},
                    repeatable=bool(resumed))

    def read(self, line: str) -> PropagatedFrame | None:
        """The frame that is complete with this line, if any. Raises ApiError where the propagation ended early.

        An event is lines of `name: value` and ends with an empty one; the service writes its data as one line.
        """
        name, _, value = line.partition(":")
        if line:
            self._fields[name] = value.strip()
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        frame = self._frame(json.loads(fields["data"]))
        self._last_id = fields.get("id", self._last_id)
        self._breaks, self._broken_since = 0, None
        return frame

    def check_ended(self) -> None:
        """Raise Unreachable where the answer is over before the propagation is."""
        if not self.ended:
            raise Unreachable("the service closed the connection in the middle of a propagation")

    def pause(self, broken: Unreachable) -> float:
        """Seconds to wait before the next request. Raises `broken` where nothing came yet, or the service stays away."""
        now = time.monotonic()
        if self._broken_since is None:
            self._broken_since = now
        if not self._last_id or now - self._broken_since > self._max_wait_s:
            raise broken
        self._breaks += 1
        return min(FIRST_PAUSE_S * 2.0 ** (self._breaks - 1), MAX_PAUSE_S)

    def _frame(self, event: Mapping[str, Any]) -> PropagatedFrame | None:
        match event["event"]:
            case "frame":
                return propagated_frame(event)
            case "error":
                raise error_of(event)
            case "end" if event["state"] == "interrupted":
                raise Unreachable("the service stopped in the middle of a propagation")
            case "end" if event["state"] != "done":
                raise Cancelled({"status": 409, "code": event["state"], "detail":
                                 f"the propagation was {event['state']} after {event['done']} of {event['total']} frames"})
            case "end":
                self.ended = True
        return None
