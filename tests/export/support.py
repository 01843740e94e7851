"""What tests of exports need: the call, archives, the masks that the service has stored, and a reader of WebM."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.client import ServiceProblem, VideoSession
from sam_service.masks.png import decode_png

Mask = NDArray[np.bool_]

CONTAINERS = {0x18538067: "Segment", 0x1654AE6B: "Tracks", 0xAE: "TrackEntry", 0xE0: "Video", 0x1F43B675: "Cluster",
              0xA0: "BlockGroup", 0x75A1: "BlockAdditions", 0xA6: "BlockMore", 0x1549A966: "Info", 0x1A45DFA3: "EBML"}
VALUES = {0x4282: "DocType", 0x86: "CodecID", 0x53C0: "AlphaMode", 0xA3: "SimpleBlock", 0xA1: "Block",
          0xA5: "BlockAdditional", 0x4489: "Duration", 0x2AD7B1: "TimestampScale", 0xE7: "ClusterTime"}


def export(video: VideoSession, **query: Any) -> httpx.Response:
    """`GET /sessions/{id}/export`. Raises ServiceProblem."""
    response = video.client.http.get(f"/sessions/{video.session_id}/export", params=query)
    if response.is_error:
        raise ServiceProblem(response.json())
    return response


def refused(video: VideoSession, **query: Any) -> ServiceProblem:
    """The problem that an export answers."""
    with pytest.raises(ServiceProblem) as problem:
        export(video, **query)
    return problem.value


def unzipped(response: httpx.Response) -> dict[str, bytes]:
    """The files of an archive, whose checksums are right and whose names stay in the folder that it is unpacked in."""
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        assert not any(".." in Path(name).parts or name.startswith("/") or "\\" in name for name in names)
        return {name: archive.read(name) for name in names}


def stored(video: VideoSession, frame: int, object_id: int) -> Mask:
    """A mask as the service has it."""
    response = video.client.http.get(f"/sessions/{video.session_id}/masks/{frame}/{object_id}")
    response.raise_for_status()
    return decode_png(response.content)


def webm_elements(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The elements of a WebM that matter here, in order."""
    position = 0
    while position < len(data):
        id_length = 9 - data[position].bit_length()
        number = int.from_bytes(data[position : position + id_length])
        position += id_length
        size_length = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + size_length]) & ((1 << 7 * size_length) - 1)
        position += size_length
        body = data[position : position + size]
        position += size
        if number in CONTAINERS:
            yield from webm_elements(body)
        elif number in VALUES:
            yield VALUES[number], body


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    """The pictures of a video, BGR, as OpenCV decodes them."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened()
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(np.asarray(read[1], np.uint8))
    capture.release()
    return pictures


def parsed(response: httpx.Response) -> Any:
    """The document of a JSON export."""
    assert response.headers["content-type"] == "application/json"
    return json.loads(response.content)
