"""Bytes on a socket, below any HTTP client."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import struct
from urllib.parse import urlsplit

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
PATIENCE_S, ANSWER_TIMEOUT_S = 0.3, 20.0
CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9  # kinds of frames of a WebSocket


def connect(url: str) -> socket.socket:
    """A connection to a service."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), ANSWER_TIMEOUT_S)


def exchange(url: str, sent: bytes, *, patience_s: float = PATIENCE_S) -> tuple[list[int], bytes]:
    """Send bytes and read until the service hangs up; the statuses and all that came. A service that says nothing for
    `patience_s` is told that no more bytes come.

    Raises TimeoutError where it then neither answers nor hangs up.
    """
    received = b""
    with connect(url) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # hung up before all was sent: that is an answer
            connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            connection.settimeout(patience_s)
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except TimeoutError:
                connection.settimeout(ANSWER_TIMEOUT_S)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    received += chunk
    return [int(status) for status in _STATUS.findall(received)], received


def read_head(connection: socket.socket) -> bytes:
    """An answer's head, and what came with it. Raises TimeoutError; ends early where the service hangs up."""
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
        received += piece
    return received


def reset(connection: socket.socket) -> None:
    """Tear a connection down with RST, as a machine does that lost its power and is back."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def request(line: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as bytes, with a length where there is a body and none is given."""
    fields = {"Host": "localhost", **({"Content-Length": str(len(body))} if body else {}), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body


def upgrade(path: str, **headers: str) -> bytes:
    """A request for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(f"GET {path}", {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                   "Sec-WebSocket-Key": key, **given})


def frame(opcode: int, payload: bytes, *, last: bool = True, masked: bool = True, reserved: int = 0, claimed: int | None = None
          ) -> bytes:
    """A frame as a client sends it. claimed: the length that it says it has."""
    length = len(payload) if claimed is None else claimed
    size = struct.pack("!B", length) if length < 126 else struct.pack("!BH", 126, length) if length < 1 << 16 else \
        struct.pack("!BQ", 127, length)
    head = bytes([last << 7 | reserved << 4 | opcode]) + bytes([size[0] | masked << 7]) + size[1:]
    return head + (b"\0\0\0\0" if masked else b"") + payload
