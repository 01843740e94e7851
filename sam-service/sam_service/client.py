"""A Python client over REST: what the command line, the demo and the tests use.

    with SamClient("http://127.0.0.1:8002") as client, client.open_video("clip.mp4") as video:
        video.add_object(points=[[640, 360]])
        for frame in video.propagate():
            print(frame.index, frame.masks[1].mask.sum())
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from sam_service.masks.rle import decode_rle

MAX_WAIT_S = 60.0


class ServiceProblem(Exception):
    """The service refused or failed. `code` is stable; `fields` maps each bad field to what is wrong with it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(f"{document.get('status', '')} {document.get('code', '')}: {document.get('detail', '')}")
        self.status = int(document.get("status", 0))
        self.code = str(document.get("code", ""))
        self.detail = str(document.get("detail", ""))
        self.fields = {str(item["field"]): str(item["message"]) for item in document.get("errors") or ()}


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object on one frame. mask: (H, W) bool; score: predicted IoU; object_score: probability of presence."""

    object_id: int
    frame_index: int
    mask: NDArray[np.bool_]
    score: float
    object_score: float
    area: int
    bbox: tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """All objects on one frame, by object id. done, total: progress of the propagation in frames."""

    index: int
    timestamp_s: float
    masks: dict[int, ObjectMask]
    done: int
    total: int


class SamClient:
    """A connection to a service. `api_key` is sent with every call."""

    def __init__(self, base_url: str = "http://127.0.0.1:8002", *, api_key: str | None = None,
                 timeout_s: float = 3600.0) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = httpx.Client(base_url=base_url, timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One call; its JSON answer. Waits as `Retry-After` says while the service is full. Raises ServiceProblem."""
        return _answer(self._send(method, path, **options))

    def wait_ready(self, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait until the model is loaded, and return `/health`. Raises ServiceProblem when it cannot be loaded."""
        deadline = time.monotonic() + timeout_s
        while True:
            response = self.http.get("/ready")
            if response.is_success:
                health: dict[str, Any] = self.call("GET", "/health")
                return health
            problem = ServiceProblem(response.json())
            if problem.code != "not_ready" or time.monotonic() > deadline:
                raise problem
            time.sleep(0.1)

    def open_video(self, path: str | Path, **options: int) -> VideoSession:
        """Upload a video and open it. Options: start_frame, max_frames, frame_stride, image_size."""
        path = Path(path)
        with path.open("rb") as file:
            answer = self.call("POST", "/initialize", files={"file": (path.name, file)},
                               data={name: str(value) for name, value in options.items()})
        return VideoSession(self, answer)

    def open_video_on_server(self, video_path: str, **options: int) -> VideoSession:
        """Open a video that lies in the service's video folder."""
        return VideoSession(self, self.call("POST", "/initialize", json={"video_path": video_path, **options}))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        waited = 0.0
        while True:
            response = self.http.request(method, path, **options)
            retry_after = response.headers.get("retry-after", "")
            is_full = response.status_code in (429, 503) and retry_after.isdigit()
            if not is_full or waited >= MAX_WAIT_S or "files" in options:
                return response
            waited += float(retry_after)
            time.sleep(float(retry_after))


class VideoSession:
    """An open video. As a context manager it deletes the session at the end."""

    def __init__(self, client: SamClient, info: Mapping[str, Any]) -> None:
        self.client = client
        self.info = dict(info)
        self.session_id: str = info["session_id"]
        self.width: int = info["width"]
        self.height: int = info["height"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    def state(self) -> dict[str, Any]:
        """The session's whole state."""
        state: dict[str, Any] = self.client.call("GET", f"/sessions/{self.session_id}")
        return state

    def frame(self, index: int) -> bytes:
        """A frame as JPEG."""
        response = self.client.http.get(f"/sessions/{self.session_id}/frames/{index}")
        _check(response)
        return response.content

    def add_object(self, **prompt: Any) -> ObjectMask:
        """Add an object: points, labels, box, mask, frame_idx, object_id, normalized."""
        return _object_mask(self._post("/add-object", mask_format="rle", **prompt))

    def refine(self, object_id: int, **prompt: Any) -> ObjectMask:
        """Correct an object: the same, and replace."""
        return _object_mask(self._post("/refine", object_id=object_id, mask_format="rle", **prompt))

    def remove_object(self, object_id: int) -> None:
        """Remove an object."""
        self._post("/remove-object", object_id=object_id)

    def clear_prompts(self, **which: int) -> None:
        """Take prompts back: object_id, frame_idx, or all."""
        self._post("/clear-prompts", **which)

    def propagate(self, *, object_ids: Sequence[int] | None = None, **options: Any) -> Iterator[FrameMasks]:
        """Yield frames as they are computed: start_frame, end_frame, direction. Leaving the loop cancels the rest."""
        body = {"session_id": self.session_id, "mask_format": "rle", **options}
        if object_ids is not None:
            body["object_ids"] = list(object_ids)
        accept = {"Accept": "application/x-ndjson"}
        with self.client.http.stream("POST", "/propagate", json=body, headers=accept) as response:
            if response.is_error:
                response.read()
            _check(response)
            for line in response.iter_lines():
                event = json.loads(line)
                if event["event"] == "error":
                    raise ServiceProblem(event)
                if event["event"] == "frame":
                    yield _frame_masks(event)
                elif event["event"] == "end" and event["state"] != "done":
                    raise ServiceProblem({"status": 409, "code": event["state"],
                                          "detail": f"the propagation was {event['state']} after {event['done']} frames"})

    def delete(self) -> None:
        """Delete the session and all it holds."""
        _check(self.client.http.delete(f"/sessions/{self.session_id}"))

    def _post(self, path: str, **body: Any) -> Any:
        return self.client.call("POST", path, json={"session_id": self.session_id, **body})


def _check(response: httpx.Response) -> None:
    if response.is_error:
        try:
            document = response.json()
        except ValueError:
            document = {"status": response.status_code, "detail": response.text[:200]}
        raise ServiceProblem(document)


def _answer(response: httpx.Response) -> Any:
    _check(response)
    return response.json() if response.content else None


def _object_mask(document: Mapping[str, Any]) -> ObjectMask:
    return ObjectMask(document["object_id"], document["frame_idx"], decode_rle(document["mask"]), document["score"],
                      document["object_score"], document["area"], tuple(document["bbox"]) if document["bbox"] else None)


def _frame_masks(event: Mapping[str, Any]) -> FrameMasks:
    masks = {document["object_id"]: _object_mask(document) for document in event["objects"]}
    return FrameMasks(event["frame_idx"], event["timestamp_s"], masks, event["done"], event["total"])
