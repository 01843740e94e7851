"""The studio page: packaged files, served without a key. They ask the API for everything, with the key that the user gives."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from sam_service.errors import NotFound

router = APIRouter(include_in_schema=False)
PIECE_BYTES = 64 << 10

MEDIA_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
               "svg": "image/svg+xml"}
# Nothing comes from another host, nothing runs that is not one of the page's own files; frames are shown as blobs.
POLICY = ("default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
          "frame-ancestors 'none'")
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    data: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """The page's files by name, read once."""
    found = {}
    for file in files("sam_service").joinpath("web").iterdir():
        kind = file.name.rpartition(".")[2]
        if kind in MEDIA_TYPES:
            data = file.read_bytes()
            found[file.name] = Asset(data, MEDIA_TYPES[kind], etag_of(data))
    return found


def etag_of(data: bytes) -> str:
    """What tells one version of a file from another."""
    return f'"{hashlib.sha256(data).hexdigest()[:20]}"'


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself."""
    return answer(request, assets()["index.html"], POLICY)


@router.api_route("/studio/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    """A file that the page loads."""
    found = assets().get(name)
    if found is None:
        raise NotFound("the studio page has no such file", field="name")
    return answer(request, found, POLICY)


def answer(request: Request, found: Asset, policy: str) -> Response:
    """A file, or 304 where the browser's copy is the same. policy: what the browser lets the page do."""
    headers = {**HEADERS, "Content-Security-Policy": policy, "ETag": found.etag}
    if found.etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    if len(found.data) <= PIECE_BYTES:
        return Response(found.data, media_type=found.media_type, headers=headers)
    headers["Content-Length"] = str(len(found.data))
    return StreamingResponse(_pieces(found.data), media_type=found.media_type, headers=headers)


async def _pieces(data: bytes) -> AsyncIterator[memoryview]:
    """A file in pieces, so that a client that does not read holds only one of them."""
    for at in range(0, len(data), PIECE_BYTES):
        yield memoryview(data)[at:at + PIECE_BYTES]
        await asyncio.sleep(0)  # a client that has left is noticed between two pieces
