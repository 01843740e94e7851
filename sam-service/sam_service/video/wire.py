"""What the service and a decoding process say to each other over a socket: one byte of kind, four of length, a body.

Bodies are JSON, and a frame's also its picture. Nothing is unpickled: a decoder that a file has taken over can send false
pictures, and nothing else.
"""

from __future__ import annotations

import json
import math
import socket
from dataclasses import dataclass
from struct import Struct
from typing import Any

OPEN, EXTRACT, PICTURE = b"O", b"J", b"P"
"""To the decoding process: a file, with its descriptor, to look into; frames of it that are wanted; a picture by itself."""
INFO, FRAME, ALIVE, END, ERROR = b"I", b"F", b"A", b"E", b"X"
"""From it: what the file is, a frame, a sign of life, the end of the video, what is wrong with it."""

_HEADER = Struct("<cI")
_FRAME = Struct("<dq")
_MAX_BODY = 256 << 20
_MAX_SEGMENTS = 64


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame: its time in seconds, its number in the source video, and the picture as JPEG or, if asked for, plain RGB."""

    timestamp_s: float
    source_index: int
    data: bytes


class Channel:
    """One end of the socket. `receive` raises EOFError when the other end is gone, TimeoutError by the socket's time-out."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stream = sock.makefile("rb")

    def send(self, kind: bytes, document: dict[str, Any]) -> None:
        """Send a message of JSON. Raises OSError."""
        self.send_bytes(kind, json.dumps(document).encode())

    def send_bytes(self, kind: bytes, body: bytes) -> None:
        """Send a message of plain bytes. Raises OSError."""
        self._socket.sendall(_HEADER.pack(kind, len(body)))
        self._socket.sendall(body)

    def send_frame(self, frame: EncodedFrame) -> None:
        """Send a frame; waits while the other end is behind. Raises OSError."""
        head = _FRAME.pack(frame.timestamp_s, frame.source_index)
        self._socket.sendall(_HEADER.pack(FRAME, len(head) + len(frame.data)) + head)
        self._socket.sendall(frame.data)

    def send_descriptor(self, descriptor: int) -> None:
        """Hand over an open file. Raises OSError."""
        socket.send_fds(self._socket, [b"\0"], [descriptor])

    def receive_descriptor(self) -> int:
        """Take over an open file; comes before everything else."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not data or not descriptors:
            raise EOFError
        return descriptors[0]

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next message's kind and body."""
        kind, length = _HEADER.unpack(self._read(_HEADER.size))
        if length > _MAX_BODY:
            raise ValueError(f"a message of {length} bytes")
        return kind, self._read(length)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._stream.close()
        self._socket.close()


def unpack_frame(body: bytes, width: int, height: int, *, raw: bool = False) -> EncodedFrame:
    """Return the frame in a message, of `width` x `height` pixels: a JPEG, or plain RGB. Raises ValueError for one that cannot
    be: the service decodes it later, and one of another size or of many scans would take memory and time without end."""
    picture = memoryview(body)[_FRAME.size :]
    if raw and len(picture) != width * height * 3:
        raise ValueError(f"{len(picture)} bytes for {width} x {height} pixels")
    if not raw and jpeg_size(bytes(picture)) != (width, height):
        raise ValueError(f"not a JPEG of {width} x {height} pixels")
    timestamp_s, source_index = _FRAME.unpack_from(body)
    if not math.isfinite(timestamp_s) or source_index < 0:
        raise ValueError(f"frame {source_index} at {timestamp_s} s")
    return EncodedFrame(timestamp_s, source_index, body[_FRAME.size :])


def jpeg_size(picture: bytes) -> tuple[int, int]:
    """Width and height of a JPEG as the decoding process writes them: baseline, in one scan. Raises ValueError for another."""
    at, size = 2, (0, 0)
    for _ in range(_MAX_SEGMENTS):
        if picture[at : at + 2] == b"\xff\xda" and picture.count(b"\xff\xda", at) == 1:
            return size
        if picture[at : at + 2] == b"\xff\xc0" and len(picture) >= at + 9:
            size = int.from_bytes(picture[at + 7 : at + 9], "big"), int.from_bytes(picture[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
    raise ValueError("not a baseline JPEG in one scan")
