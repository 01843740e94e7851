"""What streams: server-sent events with resume, the session's WebSocket, cancelling."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.local import local_service
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support import settings

Event = tuple[str | None, dict[str, Any]]


def sse(response: httpx.Response) -> Iterator[Event]:
    """Events of a stream as (id, data)."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), json.loads(fields["data"])
            fields = {}


@contextmanager
def stream(video: VideoSession, last: str | None = None, **body: Any) -> Iterator[Iterator[Event]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    body = {"session_id": video.session_id, "mask_format": "rle", **body}
    with video.client.http.stream("POST", "/propagate", json=body, headers=headers) as response:
        if response.is_error:
            raise ServiceProblem(json.loads(response.read()))
        assert response.headers["content-type"].startswith("text/event-stream")
        yield sse(response)


@contextmanager
def listen(video: VideoSession, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    address = str(video.client.http.base_url).replace("http", "ws").rstrip("/")
    with connect(f"{address}/sessions/{video.session_id}/events{query}", **options) as socket:
        yield socket


def until(socket: ClientConnection, event: str) -> list[dict[str, Any]]:
    """All messages up to the next `event`, that one included."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["event"] != event:
        messages.append(json.loads(socket.recv(timeout=30)))
    return messages


def wait_idle(video: VideoSession) -> None:
    deadline = time.monotonic() + 30
    while video.state()["running"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_server_sent_events_are_the_lines_with_ids(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    with stream(video, end_frame=4) as events:
        found = list(events)
    assert [data["event"] for _, data in found] == ["start", *["frame"] * 5, "end"]
    job = found[0][1]["job_id"]
    assert [number for number, _ in found] == [f"{job}:{n}" for n in range(7)]


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_stream_that_broke_goes_on_after_the_last_event(client: SamClient, video: VideoSession, clip: Path,
                                                          direction: str) -> None:
    video.add_object(points=[list(CLICK)], frame_idx=6)
    with client.open_video(clip, max_frames=24) as undisturbed:
        undisturbed.add_object(points=[list(CLICK)], frame_idx=6)
        with stream(undisturbed, direction=direction) as events:
            whole = [data["objects"] for _, data in events if data["event"] == "frame"]
    last: str | None = None
    head: list[list[dict[str, Any]]] = []
    with stream(video, direction=direction) as events:
        for number, data in events:
            if data["event"] == "frame":
                last, head = number, [*head, data["objects"]]
            if len(head) == 4:
                break
    with stream(video, last, direction=direction) as events:
        rest = [data for _, data in events]
    assert [data["event"] for data in rest] == [*["frame"] * (len(whole) - 4), "end"]
    assert [data["done"] for data in rest[:-1]] == list(range(5, len(whole) + 1))
    masks = [[item["mask"] for item in objects] for objects in [*head, *(data["objects"] for data in rest[:-1])]]
    assert masks == [[item["mask"] for item in objects] for objects in whole]


def test_a_propagation_that_was_cancelled_on_purpose_stays_so(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    with stream(video) as events:
        _, begun = next(events)
        cancelled = video.client.call("POST", f"/sessions/{video.session_id}/cancel")
        assert cancelled["cancelled"] == [begun["job_id"]]
        rest = [data for _, data in events]
        assert (rest[-1]["event"], rest[-1]["state"]) == ("end", "cancelled")
    with stream(video, f"{begun['job_id']}:0") as events:
        again = [data for _, data in events]
    assert (again[-1]["event"], again[-1]["state"], len(again)) == ("end", "cancelled", len(rest))
    assert video.client.call("POST", f"/sessions/{video.session_id}/cancel")["cancelled"] == []


@pytest.mark.parametrize(("last", "status"), [("nonsense", 422), ("f" * 32 + ":3", 404), ("{job}:99", 409)])
def test_a_wrong_last_event_id_is_refused(video: VideoSession, last: str, status: int) -> None:
    video.add_object(points=[list(CLICK)])
    with stream(video, end_frame=1) as events:
        job = next(events)[1]["job_id"]
        list(events)
    with pytest.raises(ServiceProblem) as refused, stream(video, last.format(job=job)):
        pass
    assert refused.value.status == status


def test_the_frames_of_an_earlier_propagation_come_from_the_store(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    with stream(video, end_frame=3) as events:
        first = list(events)
    job = first[0][1]["job_id"]
    list(video.propagate(end_frame=1))
    with stream(video, f"{job}:1") as events:
        assert [(number, data["event"]) for number, data in events] == [(n, d["event"]) for n, d in first[2:]]
    with video.client.http.stream("GET", f"/jobs/{job}/events?mask_format=rle") as response:
        again = list(sse(response))
    assert [data["objects"][0]["area"] for _, data in again[1:-1]] == [data["objects"][0]["area"] for _, data in first[1:-1]]


def test_a_job_is_followed_and_outlives_its_followers(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    job = video.client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True})
    http, path = video.client.http, f"/jobs/{job['job_id']}/events"
    with http.stream("GET", path) as response:
        number = next(number for number, data in sse(response) if data["event"] == "frame")
    with http.stream("GET", path, headers={"Last-Event-ID": str(number)}) as response:
        rest = list(sse(response))
    assert [data["done"] for _, data in rest[:-1]] == list(range(2, 25))
    assert rest[-1][1]["state"] == "done"
    assert http.get(path, headers={"Last-Event-ID": str(rest[-1][0])}).status_code == 204


def test_the_websocket_tells_all_that_happens(video: VideoSession) -> None:
    with listen(video, "?mask_format=rle") as socket:
        (hello,) = until(socket, "hello")
        assert hello["session"]["session_id"] == video.session_id
        video.add_object(points=[list(CLICK)], name="ball")
        messages = until(socket, "mask")
        objects = next(message for message in messages if message["event"] == "objects")
        assert objects["objects"][0]["name"] == "ball"
        assert objects["prompts"][0]["points"] == [list(CLICK)]
        assert messages[-1]["object"]["mask"]["size"] == [360, 640]
        frames = list(video.propagate(end_frame=5))
        messages = until(socket, "frame")
        while messages[-1].get("done") != 6:
            messages += until(socket, "frame")
        assert [message["done"] for message in messages if message["event"] == "frame"] == [1, 2, 3, 4, 5, 6]
        assert messages[-1]["objects"][0]["area"] == frames[5].masks[1].area
        assert until(socket, "job")[-1]["job"]["state"] == "done"
        socket.send('{"ping": 1}')
        until(socket, "pong")
        video.remove_object(1)
        assert until(socket, "objects")[-1]["objects"] == []
        video.delete()
        until(socket, "deleted")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)


def test_the_websocket_tells_the_extraction(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video, listen(video) as socket:
        (hello,) = until(socket, "hello")
        last = hello["session"]
        while last["status"] != "ready":
            last = until(socket, "extraction")[-1]
        assert last["frames_ready"] == last["num_frames"] == 72


def test_a_page_of_another_host_may_not_listen(video: VideoSession) -> None:
    with listen(video, origin="http://elsewhere.example") as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


def test_the_websocket_wants_the_key_and_a_session(clip: Path) -> None:
    key = "a key/with+signs"
    coded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    with local_service(settings(sam2_api_key=key)) as url, SamClient(url, api_key=key) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        for options, code in (({}, 4401), ({"additional_headers": {"X-API-Key": "wrong"}}, 4401),
                              ({"subprotocols": ["sam-service", "key.!"]}, 4401)):
            with listen(video, **options) as socket, pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code
        allowed: list[dict[str, Any]] = [{"additional_headers": {"X-API-Key": key}},
                                         {"subprotocols": ["sam-service", f"key.{coded}"]}]
        for options in allowed:
            with listen(video, **options) as socket:
                until(socket, "hello")
        video.delete()
        with listen(video, **allowed[0]) as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4404
