"""The table of hostile requests: what is sent, and what is answered. Each is harmless to a service that keeps its promises."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sam_service.client import SamClient
from sam_service.masks.png import to_base64

from tests import clips
from tests.hostile import files

MAX_UPLOAD_MB = 5
_FORM = {"Content-Type": "multipart/form-data; boundary=x"}
_FILE_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the problem's code where there is one, and all of what came back."""

    status: int
    code: str | None
    text: str


@dataclass(slots=True)
class Target:
    """A service under attack: a client, the folder that it reads videos from, a scratch folder, and an open session."""

    client: SamClient
    videos: Path
    scratch: Path
    session_id: str = ""
    opened: list[str] = field(default_factory=list)

    def upload(self, content: bytes) -> httpx.Response:
        """Send `content` as a video."""
        return self.client.http.post("/initialize", files={"file": ("clip.mp4", content)})

    def path(self, path: Any) -> httpx.Response:
        """Ask for a video by its path."""
        return self.client.http.post("/initialize", json={"video_path": path})

    def json(self, body: bytes, path: str = "/add-object", kind: str = "application/json") -> httpx.Response:
        """Send a body as it is."""
        return self.client.http.post(path, content=body, headers={"Content-Type": kind})

    def prompt(self, **prompt: Any) -> httpx.Response:
        """Prompt an object of the open session."""
        return self.json(json.dumps({"session_id": self.session_id, **prompt}).encode())

    def form(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a multipart body as it is."""
        return self.client.http.post("/initialize", content=body, headers=headers or _FORM)

    def raw(self, request: bytes) -> Answer:
        """Send bytes over a socket of its own and read the answer."""
        url = self.client.http.base_url
        with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
            connection.settimeout(1)
            answer, sent = b"", False
            try:
                connection.sendall(request)
                while not _whole(answer):
                    try:
                        data = connection.recv(65536)
                    except TimeoutError:  # it waits for more: there is none
                        if sent:
                            break
                        connection.shutdown(socket.SHUT_WR)
                        sent = True
                        continue
                    if not data:
                        break
                    answer += data
            except (ConnectionResetError, BrokenPipeError):
                pass
        text = answer.decode("latin-1")
        status = re.match(r"HTTP/1.1 (\d+)", text)
        code = re.search(r'"code":"(\w+)"', text)
        return Answer(int(status.group(1)) if status else 0, code.group(1) if code else None, text)


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return length is not None and len(body) >= int(length.group(1))


def answer_of(target: Target, response: httpx.Response | Answer) -> Answer:
    """What came back; a session that was opened is noted."""
    if isinstance(response, Answer):
        return response
    document = response.json() if response.content and "json" in response.headers.get("content-type", "") else {}
    if response.status_code == 201:
        target.opened.append(document["session_id"])
    return Answer(response.status_code, document.get("code"), response.text)


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and the statuses and codes that are right answers to it. code None: any, or none."""

    name: str
    send: Callable[[Target], httpx.Response | Answer]
    statuses: tuple[int, ...]
    code: str | None = None


def _file(name: str, make: Callable[[Path], bytes], statuses: tuple[int, ...], code: str | None = None,
          ending: str = "mp4") -> Case:
    return Case(f"file: {name}", lambda target: target.upload(make(target.scratch / f"made.{ending}")), statuses, code)


def _video_path(name: str, path: Any, status: int, code: str | None = None) -> Case:
    return Case(f"path: {name}", lambda target: target.path(path), (status,), code)


def _prompt(title: str, statuses: tuple[int, ...], **prompt: Any) -> Case:
    return Case(f"prompt: {title}", lambda target: target.prompt(**prompt), statuses)


def _made_path(name: str, make: Callable[[Path], object], statuses: tuple[int, ...], code: str | None = None) -> Case:
    def send(target: Target) -> httpx.Response:
        path = target.videos / f"made-{len(list(target.videos.iterdir()))}.mp4"
        make(path)
        return target.path(path.name)
    return Case(f"path: {name}", send, statuses, code)


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _folder(members: dict[str, bytes | None]) -> Callable[[Path], None]:
    """A folder of files; None makes a link to the password list."""
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in members.items():
            if content is None:
                (path / name).symlink_to("/etc/passwd")
            else:
                (path / name).write_bytes(content)
    return make


def _parts(*contents: bytes, names: tuple[str, ...] = ("0.png", "1.png", "2.png")) -> Callable[[Target], httpx.Response]:
    """Several files in one form."""
    return lambda target: target.client.http.post("/initialize", files=[
        ("file", (name, content)) for name, content in zip(names, contents, strict=False)])


NOT_VIDEOS = [_file(name, lambda _, content=content: content, (415,), "not_a_video")  # type: ignore[misc]
              for name, content in files.TEXTS.items()]
FILES = [
    _file("empty", lambda _: b"", (415,), "empty_file"),
    _file("one byte", lambda _: b"\0", (415,), "not_a_video"),
    *(_file(f"random bytes as {kind}", lambda _, magic=magic: files.noise(magic), (415,), "no_frames")  # type: ignore[misc]
      for kind, magic in files.MAGIC.items()),
    _file("random transport stream", lambda _: files.transport_noise(), (415,), "no_frames"),
    _file("playlist behind a video's first bytes", lambda _: files.playlist_behind_magic(), (415,), "no_frames"),
    _file("mp4 without its end", lambda path: files.encoded(path, "mp4v")[:-2000], (415,), "no_frames"),
    _file("avi without its end", lambda path: files.encoded(path, "MJPG")[:-2000], (201,), ending="avi"),
    *(_file(f"flipped bytes {seed}", partial(files.flipped, seed=seed), (201, 415)) for seed in range(4)),
    _file("32768 x 32768", lambda path: files.bomb(path, 32768), (415,), "no_frames", "avi"),
    _file("16000 x 16000", lambda path: files.bomb(path, 16000), (413,), "too_many_pixels", "avi"),
    *(_file(f"picture {at} of {side} x {side} behind 160 x 120", partial(files.bomb_behind_a_small_size, at=at, side=side),
            (201, 413), ending="avi") for at in (0, 5) for side in (16000, 32768)),
    _file("9 million frames claimed", lambda path: files.claimed_frames(path, 9_000_000), (413,), "too_many_frames", "avi"),
    _file("4 billion frames claimed", lambda path: files.claimed_frames(path, 2**32 - 1), (201, 413), ending="avi"),
    _file("10 h in 12 frames", lambda path: files.retimed(path, [clips.MP4_TICKS * 3000] * 12), (201,)),
    _file("33 h in 12 frames", lambda path: files.retimed(path, [clips.MP4_TICKS * 10_000] * 12), (413,), "too_long"),
    _file("12 800 frames a second", lambda path: files.retimed(path, [1] * 12), (201,)),
    _file("no duration", lambda path: files.retimed(path, [0] * 12), (201,)),
    _file("frames of 1 tick and of 1 h", lambda path: files.retimed(path, [1, clips.MP4_TICKS * 3600] * 6), (201,)),
    _file("a codec that is not accepted", lambda path: files.encoded(path, "MAGY"), (415,), "codec_not_accepted", "avi"),
    _file("an archive that holds a larger one than it says", lambda path: files.archive_bomb(path), (413,), "file_too_large",
          "zip"),
    _file("an archive with a name that climbs", lambda path: files.archive(path, {"../0.png": files.png(16, 16)}), (422,),
          "unsafe_archive", "zip"),
    _file("an archive in an archive", lambda path: files.archive(path, {"0.zip": b"PK\x03\x04"}), (415,), "not_a_video", "zip"),
    _file("an attached file with a path", files.with_attachment, (201,), ending="mkv"),
]
PATHS = [
    _video_path("parent", "../outside.mp4", 422, "path_outside"),
    _video_path("absolute", "/etc/passwd", 422, "path_outside"),
    _video_path("escaped parent", "%2e%2e/%2e%2e/etc/passwd", 404),
    _video_path("backslashes", "..\\..\\etc\\passwd", 404),
    _video_path("NUL", "clip.mp4\0.txt", 422),
    Case("path: half a surrogate", lambda target: target.json(b'{"video_path": "\\ud800.mp4"}', "/initialize"), (400, 422)),
    _video_path("100 000 characters", "a" * 100_000, 413),
    _video_path("5000 characters", "a" * 5000, 422),
    _video_path("a name of 1000 characters", "a" * 1000, 422),
    _video_path("concat protocol", "concat:/etc/passwd|/etc/hosts", 404),
    _video_path("subfile protocol", "subfile,,start,0,end,9,,:/etc/passwd", 404),
    _video_path("address", "http://127.0.0.1/clip.mp4", 404),
    _video_path("option", "-i", 404),
    _video_path("the folder itself", ".", 404),
    _video_path("a number", 7, 422),
    _made_path("named pipe", os.mkfifo, (404,)),
    _made_path("socket", _bind, (404,)),
    _made_path("link to /etc/passwd", lambda path: path.symlink_to("/etc/passwd"), (422,), "path_outside"),
    _made_path("link to a device", lambda path: path.symlink_to("/dev/zero"), (422,), "path_outside"),
    _made_path("link to itself", lambda path: path.symlink_to(path), (404, 422)),
    _made_path("a folder named .mp4", lambda path: path.mkdir(), (404,)),
    _made_path("a folder with a picture that is none", _folder({"0.png": b"no picture"}), (415,), "picture_damaged"),
    _made_path("a folder with a link", _folder({"0.png": None}), (415,), "picture_damaged"),
    _made_path("a playlist", lambda path: path.write_bytes(files.TEXTS["m3u8"]), (415,), "not_a_video"),
]
BODIES = [
    Case("json: 50 000 levels deep", lambda target: target.json(b"[" * 50_000, "/initialize"), (400,), "invalid_json"),
    Case("json: 50 000 levels deep, whole", lambda target: target.json(b"[" * 50_000 + b"]" * 50_000), (400, 422)),
    Case("json: 25 MiB", lambda target: target.json(b" " * (25 << 20)), (413,), "body_too_large"),
    Case("json: 20 MiB of numbers", lambda target: target.json(
        b'{"session_id": "a", "points": [' + b"1," * (10 << 20) + b"1]}"), (413,), "body_too_large"),
    Case("json: 8 MiB of escapes", lambda target: target.json(
        b'{"session_id": "a", "mask": "' + b"\\u0041" * (4 << 18) + b'"}'), (413,), "body_too_large"),
    Case("json: 100 KiB where no mask is taken", lambda target: target.json(
        b'{"session_id": "' + b"a" * 100_000 + b'"}', "/propagate"), (413,), "body_too_large"),
    Case("json: 100 KiB for a call without a body", lambda target: target.client.http.request(
        "DELETE", "/sessions/none", content=b"a" * 100_000), (413,), "body_too_large"),
    Case("json: a number of 100 000 digits", lambda target: target.json(
        b'{"session_id": ' + b"9" * 100_000 + b"}"), (400, 422)),
    Case("json: a key twice", lambda target: target.json(
        b'{"session_id": "a", "session_id": "b", "points": [[1, 1]]}'), (404,)),
    Case("json: utf-16", lambda target: target.json('{"session_id": "a"}'.encode("utf-16")), (400, 404, 422)),
    Case("json: not utf-8", lambda target: target.json(b'{"session_id": "\xff\xfe"}'), (400, 422)),
    Case("json: empty", lambda target: target.json(b""), (400, 422)),
    Case("json: as text", lambda target: target.json(b"{}", kind="text/plain"), (422,)),
    Case("json: to /initialize as a form", lambda target: target.json(b"a=b", "/initialize",
                                                                     "application/x-www-form-urlencoded"), (400,)),
    Case("json: compressed", lambda target: target.client.http.post("/add-object", content=files.TEXTS["gzip"], headers={
        "Content-Type": "application/json", "Content-Encoding": "gzip"}), (400, 422)),
]
PROMPTS = [
    _prompt("PNG of 60000 x 60000 by its header", (413,), mask=to_base64(files.png(60_000, 60_000, rows=10))),
    _prompt("PNG of 8192 x 8192 zeros", (413, 422), mask=to_base64(files.png(8192, 8192))),
    _prompt("PNG that breaks off", (422,), mask=to_base64(files.png(160, 120)[:-20])),
    _prompt("PNG with one row of many", (422,), mask=to_base64(files.png(160, 120, rows=1))),
    _prompt("labels of three objects as a mask", (422,), mask=to_base64(files.picture("PNG", labels=True))),
    _prompt("a photograph as a mask", (422,), mask=to_base64(files.picture("JPEG"))),
    _prompt("half a JPEG as a mask", (422,), mask=to_base64(files.picture("JPEG")[:-300])),
    _prompt("JPEG of 65535 x 65535 by its header", (413,), mask=to_base64(files.picture("JPEG", claimed=65535))),
    _prompt("PNG whose 160 x 120 pixels unpack to 256 MiB", (422,), mask=to_base64(files.png(160, 120, rows=1_667_000))),
    _prompt("PNG of 100 000 chunks", (422,), mask=to_base64(files.png(160, 120, extra=[(b"abCd", b"")] * 100_000))),
    _prompt("JPEG of 100 000 scans", (422,), mask=to_base64(files.scans(100_000))),
    _prompt("JPEG of a million segments", (422,), mask=to_base64(
        b"\xff\xd8" + b"\xff\xe5\0\x02" * 1_000_000 + files.picture("JPEG")[2:])),
    _prompt("text as a mask", (422,), mask="A" * 40_000),
    _prompt("RLE garbage as a mask", (422,), mask={"size": [1 << 40, -1], "counts": "\x7f" * 1000}),
    _prompt("not a number", (422,), points=[[float("nan"), 1]]),
    _prompt("infinite", (422,), box=[0, 0, float("inf"), 1]),
    _prompt("10 000 points", (422,), points=[[1, 1]] * 10_000),
    _prompt("object 2**63", (422,), object_id=2**63, points=[[1, 1]]),
    _prompt("frame 10**400", (400, 422), frame_idx=10**400, points=[[1, 1]]),
    _prompt("a name of 100 000 characters", (422,), name="a" * 100_000, points=[[1, 1]]),
]
FORMS = [
    Case("form: no boundary", lambda target: target.form(_FILE_PART, {"Content-Type": "multipart/form-data"}), (422,)),
    Case("form: a boundary of 10 000 characters", lambda target: target.form(_FILE_PART, {
        "Content-Type": "multipart/form-data; boundary=" + "x" * 10_000}), (422,)),
    Case("form: 6 MiB before the first part", lambda target: target.form(b"\r\n" * (3 << 20)), (413, 422)),
    Case("form: 6 MiB after the last part", lambda target: target.form(
        _FILE_PART + b"a\r\n--x--\r\n" + b"a" * (6 << 20)), (413, 415, 422)),
    Case("form: a header of 1 MiB", lambda target: target.form(b"--x\r\nContent-Disposition: " + b"a" * (1 << 20)), (422,)),
    Case("form: 10 000 headers in a part", lambda target: target.form(b"--x\r\n" + b"A: b\r\n" * 10_000), (422,)),
    Case("form: 10 000 parts", lambda target: target.form(b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % n for n in range(10_000)) + b"--x--\r\n"), (422,)),
    Case("form: a field of 1 MiB", lambda target: target.form(
        b'--x\r\nContent-Disposition: form-data; name="max_frames"\r\n\r\n' + b"1" * (1 << 20) + b"\r\n--x--\r\n"), (422,)),
    Case("form: a field twice", lambda target: target.form(
        b'--x\r\nContent-Disposition: form-data; name="max_frames"\r\n\r\n1\r\n' * 2 + b"--x--\r\n"), (422,)),
    Case("form: the file twice", lambda target: target.form((_FILE_PART + b"a\r\n") * 2 + b"--x--\r\n"), (422,)),
    Case("form: several videos", _parts(files.MAGIC["mp4"], files.MAGIC["mp4"]), (422,)),
    Case("form: pictures of one name", _parts(files.png(8, 8), files.png(8, 8), names=("0.png", "0.png")), (422,)),
    Case("form: pictures of two sizes", _parts(files.png(16, 16), files.png(32, 16)), (422,), "sizes_differ"),
    Case("form: pictures whose names climb", _parts(files.png(16, 16), files.png(16, 16),
                                                    names=("../../0.png", "..\\..\\1.png")), (201,)),
    Case("form: a picture of 60000 x 60000 by its header", _parts(files.png(60_000, 60_000, rows=2), files.png(16, 16)), (413,),
         "too_many_pixels"),
    Case("form: pictures that break off", _parts(files.png(16, 16)[:-30], files.png(16, 16)), (415,), "picture_damaged"),
    Case("form: no end", lambda target: target.form(_FILE_PART + b"a" * 1000), (422,), "invalid_multipart"),
    Case("form: a part without a name", lambda target: target.form(
        b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--\r\n"), (422,), "invalid_multipart"),
    Case("form: a file name that climbs", lambda target: target.form(
        _FILE_PART.replace(b"a.mp4", b"../../../tmp/a.mp4") + b"a\r\n--x--\r\n"), (415,)),
    Case("form: a file name of control characters", lambda target: target.form(_FILE_PART.replace(
        b'filename="a.mp4"', b"filename*=UTF-8''%00%0D%0A%1B%E2%80%AE.mp4") + b"a\r\n--x--\r\n"), (415,)),
    Case("form: a file name that is no UTF-8", lambda target: target.form(
        _FILE_PART.replace(b"a.mp4", b"caf\xe9.mp4") + b"a\r\n--x--\r\n"), (415,)),
    Case("form: 100 GB announced", lambda target: target.raw(
        b"POST /initialize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: 100000000000\r\n\r\n" + _FILE_PART), (413,)),
]
_HEAD = b"POST /add-object HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
PROTOCOL = [
    Case("http: 2000 headers", lambda target: target.raw(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(
        b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(2000)) + b"\r\n"), (431,), "head_too_large"),
    Case("http: a path of 200 000 characters", lambda target: target.raw(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"),
         (431,), "head_too_large"),
    Case("http: negative length", lambda target: target.raw(_HEAD + b"Content-Length: -1\r\n\r\n{}"), (400,), "invalid_http"),
    Case("http: two lengths", lambda target: target.raw(_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), (400,),
         "invalid_http"),
    Case("http: length and chunks", lambda target: target.raw(
        _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), (400,), "invalid_http"),
    Case("http: the same length twice", lambda target: target.raw(_HEAD + b"Content-Length: 2,2\r\n\r\n{}"), (400,),
         "invalid_http"),
    Case("http: a length over two lines", lambda target: target.raw(_HEAD + b"Content-Length: 2\r\n ,2\r\n\r\n{}"), (400,),
         "invalid_http"),
    Case("http: 20 000 chunks of a byte", lambda target: target.raw(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 20_000), (400,), "invalid_http"),
    Case("http: chunks in HTTP/1.0", lambda target: target.raw(
        _HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), (400,), "invalid_http"),
    Case("http: 300 headers of a byte", lambda target: target.raw(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(
        b"X%d: a\r\n" % n for n in range(300)) + b"\r\n"), (431,), "head_too_large"),
    Case("http: a chunk of 2**64 bytes", lambda target: target.raw(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{}"), (0, 400)),
    Case("http: no HTTP", lambda target: target.raw(bytes(range(256)) * 10), (400,), "invalid_http"),
    Case("http: a body that ends early", lambda target: target.raw(_HEAD + b"Content-Length: 1000\r\n\r\n{"), (0, 400)),
]
_PAGE = {"Origin": "https://evil.example"}
PAGES = [
    Case("page: an upload", lambda target: target.client.http.post("/initialize", files={"file": ("a.mp4", b"a")},
                                                                   headers=_PAGE),
         (403,), "foreign_origin"),
    Case("page: a prompt", lambda target: target.client.http.post("/add-object", json={
        "session_id": target.session_id, "points": [[9, 9]]}, headers=_PAGE), (403,), "foreign_origin"),
    Case("page: a prompt from a sandbox", lambda target: target.client.http.post("/add-object", json={
        "session_id": target.session_id, "points": [[9, 9]]}, headers={"Origin": "null"}), (403,), "foreign_origin"),
    Case("page: a form without an origin", lambda target: target.client.http.post("/propagate", json={
        "session_id": target.session_id}, headers={"Sec-Fetch-Site": "cross-site"}), (403,), "foreign_origin"),
    Case("page: cancel", lambda target: target.client.http.post(
        f"/sessions/{target.session_id}/cancel", headers=_PAGE), (403,), "foreign_origin"),
    Case("page: delete", lambda target: target.client.http.delete(f"/sessions/{target.session_id}", headers=_PAGE),
         (403,), "foreign_origin"),
    Case("page: a host name behind an address", lambda target: target.client.http.get("/sessions", headers={
        "Host": "127.0.0.1:80@evil.example"}), (400,), "unknown_host"),
    Case("page: a redirect to its host", lambda target: target.client.http.get("/sessions/"), (404,)),
    Case("page: a name that leads here", lambda target: target.client.http.post("/propagate", json={}, headers={
        "Host": "evil.example"}), (400,), "unknown_host"),
]
QUERIES = [
    Case("query: object_ids of 5000 digits", lambda target: target.client.http.get(
        f"/sessions/{target.session_id}/export?format=png&object_ids={'9' * 5000}"), (422,), "invalid_input"),
    Case("query: object_ids of other digits", lambda target: target.client.http.get(
        f"/sessions/{target.session_id}/export", params={"format": "png", "object_ids": "\u0661,\u00b2"}), (422,),
         "invalid_input"),
    Case("query: a frame of 5000 digits", lambda target: target.client.http.get(
        f"/sessions/{target.session_id}/frames/{'9' * 5000}"), (422,), "invalid_input"),
    Case("query: a session's header of 10 000 characters", lambda target: target.client.http.get(
        "/health", headers={"X-Session-Id": "a" * 10_000}), (422,), "invalid_input"),
    Case("query: a key that is not ASCII", lambda target: target.raw(
        b"GET /sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: \xff\xfe\r\n\r\n"), (200,)),
]
CASES = [*PAGES, *QUERIES, *FILES, *NOT_VIDEOS, *PATHS, *BODIES, *PROMPTS, *FORMS, *PROTOCOL]
