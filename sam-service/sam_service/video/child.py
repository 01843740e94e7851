"""The decoding process: `python -m sam_service.video.child DESCRIPTOR`, with one end of a socket as its argument.

It waits for one file, decodes it, and ends. What it may do at most is set in `confine.py`; who starts it, and what its end
means, is in `process.py`. It imports no torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import cv2

from sam_service.errors import ServiceError
from sam_service.video.confine import (
    EXIT_MEMORY,
    NICENESS,
    confine,
    die_with_parent,
    memory_used,
    renew_processor_time,
)
from sam_service.video.decoder import Decoder
from sam_service.video.limits import VideoLimits, too_large
from sam_service.video.manifest import pack_error
from sam_service.video.reading import Job, Reading, look_into
from sam_service.video.wire import ALIVE, END, ERROR, INFO, Channel

SIGN_OF_LIFE_S = 0.5
_WATCH_INTERVAL_S = 0.2
_LINE_BUFFERED = 1  # _IOLBF
_STACK_BYTES = 256 << 10  # of the watching threads, out of the memory that decoding may use


def main(arguments: list[str]) -> int:
    """Serve one file."""
    die_with_parent()
    _print_at_once()
    cv2.setNumThreads(1)
    threading.stack_size(_STACK_BYTES)
    sock = socket.socket(fileno=int(arguments[0]))
    channel = Channel(sock)
    try:
        _serve(channel, sock)
    except (EOFError, OSError):
        return 0  # the service went away, or wants no more
    return 0


def _print_at_once() -> None:
    """OpenCV prints FFmpeg's messages by C's standard output, which would keep them back until an orderly end."""
    libc = ctypes.CDLL(None)
    for name in ("stdout", "__stdoutp"):  # Linux, macOS
        with contextlib.suppress(ValueError):
            libc.setvbuf(ctypes.c_void_p.in_dll(libc, name), None, _LINE_BUFFERED, 0)


def _serve(channel: Channel, sock: socket.socket) -> None:
    video = channel.receive_descriptor()
    request = _document(channel)
    limits = VideoLimits(**request["limits"])
    guards = confine(video, limits.max_memory_bytes)
    try:
        if "memory" not in guards:
            threading.Thread(target=_watch_memory, args=(limits.max_memory_bytes,), daemon=True).start()
        renew_processor_time(limits.max_frame_cpu_s)
        with Decoder(video, threads=request["threads"]) as decoder:
            info = look_into(decoder, limits)
            channel.send(INFO, {"info": asdict(info), "guards": guards})
            os.nice(NICENESS)  # the first picture somebody waits for; the others give way to the network
            job = Job(**_document(channel))
            # The service sends nothing more: from here on a socket that can be read is one that was closed.
            threading.Thread(target=_end_with, args=(sock,), daemon=True).start()
            _read(channel, decoder, job, limits)
    except MemoryError:
        _tell(channel, too_large("decoding the video takes more memory than it may use", "too_much_memory"))
    except ServiceError as error:
        _tell(channel, error)


def _read(channel: Channel, decoder: Decoder, job: Job, limits: VideoLimits) -> None:
    """Send the frames of a job, and a sign of life where there is none for long."""
    reading = Reading(decoder, job, limits)
    told = time.monotonic()
    for frame in reading:
        if frame is not None:
            channel.send_frame(frame)
            told = time.monotonic()
        elif time.monotonic() - told > SIGN_OF_LIFE_S:
            channel.send(ALIVE, {})
            told = time.monotonic()
        renew_processor_time(limits.max_frame_cpu_s)
    channel.send(END, {"truncated": reading.truncated, "missing_frames": reading.missing_frames})


def _watch_memory(max_bytes: int) -> None:
    """End this process when it holds more than `max_bytes` over what it holds now. For systems without such a limit."""
    allowed = memory_used() + max_bytes
    while memory_used() <= allowed:
        time.sleep(_WATCH_INTERVAL_S)
    os._exit(EXIT_MEMORY)


def _end_with(sock: socket.socket) -> None:
    """End this process, whatever it is doing, when the service closes the socket or dies."""
    sock.recv(1)
    os._exit(0)


def _document(channel: Channel) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(channel.receive()[1])
    return document


def _tell(channel: Channel, error: ServiceError) -> None:
    """Send what is wrong with the video. What is not the video's fault is for the log."""
    packed = pack_error(error)
    if packed is None:
        raise error
    channel.send(ERROR, packed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
