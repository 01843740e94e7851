"""The decoding process: `python -m sam_service.video.child DESCRIPTOR`, with one end of a socket as its argument.

It waits for one file, decodes it, and ends; for a live session it decodes one picture after another. What it may do at most is
set in `confine.py`; who starts it, and what its end means, is in `process.py`. It imports neither torch nor OpenCV, whose
FFmpeg does not go together with the one used here.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from sam_service.errors import InvalidInput, ServiceError
from sam_service.video.confine import (
    EXIT_MEMORY,
    NICENESS,
    confine,
    die_with_parent,
    memory_used,
    renew_processor_time,
)
from sam_service.video.containers import Container
from sam_service.video.decoder import Decoder, quiet_decoder
from sam_service.video.job import Job
from sam_service.video.limits import VideoLimits, too_large
from sam_service.video.manifest import pack_error
from sam_service.video.pictures import PictureRequest, serve_pictures
from sam_service.video.reading import Reading, look_into
from sam_service.video.source import container_of
from sam_service.video.stills import AnimatedWebp, Pictures, prepare_pictures
from sam_service.video.wire import ALIVE, END, ERROR, INFO, Channel

SIGN_OF_LIFE_S = 0.5
_WATCH_INTERVAL_S = 0.2
_STACK_BYTES = 256 << 10  # of the watching threads, out of the memory that decoding may use


def main(arguments: list[str]) -> int:
    """Serve one file."""
    die_with_parent()
    quiet_decoder()
    prepare_pictures()
    threading.stack_size(_STACK_BYTES)
    sock = socket.socket(fileno=int(arguments[0]))
    channel = Channel(sock)
    try:
        _serve(channel, sock)
    except (EOFError, ConnectionError):
        return 0  # the service went away, or wants no more
    return 0


def _serve(channel: Channel, sock: socket.socket) -> None:
    video = channel.receive_descriptor()
    request = _document(channel)
    limits = VideoLimits(**request["limits"])
    guards = confine(video, limits.max_memory_bytes, limits.max_cpu_s)
    try:
        if "memory" not in guards:
            threading.Thread(target=_watch_memory, args=(limits.max_memory_bytes,), daemon=True).start()
        if "pictures" in request:
            return serve_pictures(channel, PictureRequest.of(request["pictures"]), limits)
        renew_processor_time(limits.max_frame_cpu_s)
        with _opened(video, limits, request["threads"], request["fps"]) as source:
            info = look_into(source, limits)
            channel.send(INFO, {"info": asdict(info), "guards": guards})
            os.nice(NICENESS)  # the first picture somebody waits for; the others give way to the network
            job = Job(**_document(channel))
            # The service sends nothing more: from here on a socket that can be read is one that was closed.
            threading.Thread(target=_end_with, args=(sock,), daemon=True).start()
            _read(channel, source, job, limits)
    except MemoryError:
        _send_error(channel, too_large("decoding the video takes more memory than it may use", "too_much_memory"))
    except ServiceError as error:
        _send_error(channel, error)


def _opened(video: int, limits: VideoLimits, threads: int, fps: float | None) -> Decoder | Pictures | AnimatedWebp:
    """What decodes this file. Raises ServiceError."""
    container = container_of(video)
    if container.is_collection:
        return Pictures(video, container, fps, limits)
    if fps is not None:
        raise InvalidInput("fps is for folders and archives of pictures; a video has times of its own", field="fps")
    if container is Container.WEBP:
        return AnimatedWebp(video, limits)
    return Decoder(video, container, threads=threads)


def _read(channel: Channel, source: Decoder | Pictures | AnimatedWebp, job: Job, limits: VideoLimits) -> None:
    """Send the frames of a job, and a sign of life where there is none for long."""
    reading = Reading(source, job, limits)
    sent = time.monotonic()
    for frame in reading:
        if frame is not None:
            channel.send_frame(frame)
            sent = time.monotonic()
        elif time.monotonic() - sent > SIGN_OF_LIFE_S:
            channel.send(ALIVE, {})
            sent = time.monotonic()
        renew_processor_time(limits.max_frame_cpu_s)
    channel.send(END, {"truncated": reading.truncated, "missing_frames": reading.missing_frames, "fps": reading.fps,
                       "size_changed": reading.size_changed})


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


def _send_error(channel: Channel, error: ServiceError) -> None:
    """Send what is wrong with the video. What is not the video's fault goes to the log."""
    packed = pack_error(error)
    if packed is None:
        raise error
    channel.send(ERROR, packed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
