"""Uploads that do not come as they should: too slow, broken off, too much for the disk. Real sockets against real services."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sam_service.api import uploads
from sam_service.api.bodies import Pace
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.support import settings

PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
END = b"\r\n--x--\r\n"
IMPATIENT = Pace(silence_s=0.5, grace_s=0.2, bytes_per_s=1 << 20)


def head(length: int | None, path: str = "/initialize", kind: str = "multipart/form-data; boundary=x") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[SamClient, Path]]:
    """A service that waits for half a second."""
    limits = uploads.UploadLimits
    monkeypatch.setattr(uploads, "UploadLimits", lambda max_mb, free: limits(max_mb, free, IMPATIENT))
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        yield client, tmp_path


def connect(client: SamClient) -> socket.socket:
    connection = socket.create_connection((client.http.base_url.host, client.http.base_url.port or 80), timeout=20)
    connection.settimeout(20)
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    status, _, rest = data.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])["code"]


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("upload-*")]


def test_a_client_that_falls_silent(impatient: tuple[SamClient, Path]) -> None:
    client, folder = impatient
    with connect(client) as connection:
        connection.sendall(head(100_000) + PART + b"a" * 1000)
        assert answer(connection) == (408, "too_slow")
    assert not left_behind(folder)


def test_a_client_that_trickles(impatient: tuple[SamClient, Path]) -> None:
    client, folder = impatient
    with connect(client) as connection:
        connection.sendall(head(100_000) + PART)
        with pytest.raises(OSError):
            for _ in range(400):
                connection.sendall(b"a")
                time.sleep(0.05)
    assert not left_behind(folder)


def test_a_client_that_leaves(client: SamClient, tmp_path: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as own:
        own.wait_ready()
        with connect(own) as connection:
            connection.sendall(head(50 << 20) + PART + bytes(3 << 20))
            while not any(path.stat().st_size for path in tmp_path.glob("upload-*")):
                time.sleep(0.01)
        while left_behind(tmp_path):
            time.sleep(0.01)
        assert own.http.get("/health").status_code == 200


def test_more_than_is_allowed_is_refused_before_it_is_sent(client: SamClient) -> None:
    with connect(client) as connection:
        connection.sendall(head(6 << 20))
        assert answer(connection) == (413, "upload_too_large")
    with connect(client) as connection:
        connection.sendall(head(25 << 20, "/add-object", "application/json"))
        assert answer(connection) == (413, "body_too_large")


def test_a_disk_without_room(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(min_free_disk_mb=1 << 30), data_dir=tmp_path) as url, SamClient(url) as own:
        own.wait_ready()
        response = own.http.post("/initialize", files={"file": ("a.mp4", clip.read_bytes())})
        assert (response.status_code, response.json()["code"]) == (503, "disk_full")
        assert int(response.headers["retry-after"]) > 0
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_a_form_in_pieces_of_any_size(client: SamClient, clip: Path, piece: int) -> None:
    content = clip.read_bytes() if piece > 100 else clip.read_bytes()[:400]  # more in such pieces would be refused for them
    option = b'--x\r\nContent-Disposition: form-data; name="max_frames"\r\n\r\n2\r\n'
    body = option + PART + content + END
    pieces = (body[at : at + piece] for at in range(0, len(body), piece))
    response: httpx.Response = client.http.post("/initialize", content=pieces, headers={
        "Content-Type": "multipart/form-data; boundary=x"})
    if piece > 100:
        assert response.status_code == 201
        assert response.json()["num_frames"] == 2
        client.http.delete(f"/sessions/{response.json()['session_id']}")
    else:
        assert response.json()["code"] == "no_frames"
