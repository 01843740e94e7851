"""An export in parts: a download that broke goes on, and never with the bytes of another file."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sam_service.api.ranges import wanted_range, within
from sam_service.client import VideoSession
from starlette.datastructures import Headers


@pytest.mark.parametrize(("asked", "part"), [
    ("bytes=0-0", range(1)), ("bytes=10-19", range(10, 20)), ("bytes=90-200", range(90, 100)), ("bytes=99-", range(99, 100)),
    ("bytes=-10", range(90, 100)), ("bytes=-500", range(100)), ("bytes= 1 - 2", range(1, 3)),
    ("bytes=100-", None), ("bytes=-0", None)])
def test_which_bytes_a_range_means(asked: str, part: range | None) -> None:
    wanted = wanted_range(Headers({"range": asked}), '"a"')
    assert wanted is not None and within(wanted, 100) == part


@pytest.mark.parametrize("headers", [
    {}, {"range": "bytes=-"}, {"range": "bytes=5-4"}, {"range": "bytes=0-1,3-4"}, {"range": "lines=0-1"},
    {"range": "bytes=a-b"}, {"range": "bytes=\u00b2-"}, {"range": "bytes=" + "9" * 5000 + "-"},
    {"range": "bytes=0-1", "if-range": '"b"'}])
def test_what_is_no_range_gets_the_whole_file(headers: dict[str, str]) -> None:
    assert wanted_range(Headers(headers), '"a"') is None


def ask(video: VideoSession, method: str = "GET", headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
    return video.client.http.request(method, f"/sessions/{video.session_id}/export", params=query, headers=headers)


@pytest.mark.parametrize("form", ["png", "coco", "webm", "cutout"])
def test_parts_make_the_whole(tracked: VideoSession, form: str) -> None:
    whole = ask(tracked, format=form)
    assert whole.headers["accept-ranges"] == "bytes"
    size, etag = len(whole.content), whole.headers["etag"]
    first = ask(tracked, format=form, headers={"Range": "bytes=0-999"})
    rest = ask(tracked, format=form, headers={"Range": "bytes=1000-", "If-Range": etag})
    assert (first.status_code, first.headers["content-range"]) == (206, f"bytes 0-999/{size}")
    assert (rest.status_code, rest.headers["content-range"]) == (206, f"bytes 1000-{size - 1}/{size}")
    assert first.headers["content-type"] == whole.headers["content-type"]
    assert first.headers["content-length"] == "1000" and first.headers["etag"] == etag
    assert first.content + rest.content == whole.content
    beyond = ask(tracked, format=form, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"


def test_a_head_says_what_a_get_would(tracked: VideoSession) -> None:
    whole, head = (ask(tracked, method, format="png") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-disposition", "etag", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]
    assert ask(tracked, "HEAD", format="png", object_ids="9").status_code == 404
    assert ask(tracked, "HEAD", format="gif").status_code == 422


def test_a_part_is_never_of_another_file(tracked: VideoSession) -> None:
    etag = ask(tracked, "HEAD", format="coco").headers["etag"]
    assert ask(tracked, "HEAD", format="coco").headers["etag"] == etag
    others = [ask(tracked, "HEAD", format=form, **query).headers["etag"]
              for form, query in (("png", {}), ("coco", {"end_frame": 3}), ("coco", {"object_ids": "1"}))]
    try:
        tracked.client.call("PATCH", f"/sessions/{tracked.session_id}/objects/3", json={"name": "another"})
        changed = ask(tracked, format="coco", headers={"Range": "bytes=10-", "If-Range": etag})
    finally:
        tracked.client.call("PATCH", f"/sessions/{tracked.session_id}/objects/3", json={"name": "ball"})
    assert (changed.status_code, changed.json()["info"]["version"]) == (200, "1.0")
    assert len({etag, changed.headers["etag"], *others}) == 5
