"""Single pictures of a live session, as the decoding process reads them: JPEG, PNG and WebP, told by content."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Self

from PIL import Image

from sam_service.errors import InvalidInput, NotAVideo, ServiceError
from sam_service.video.confine import renew_processor_time
from sam_service.video.limits import VideoLimits, too_large
from sam_service.video.manifest import pack_error
from sam_service.video.reading import encode
from sam_service.video.stills import FORMATS, fitted, turn_of
from sam_service.video.wire import ERROR, PICTURE, Channel, EncodedFrame, jpeg_size

DAMAGED, SIZES_DIFFER, SEVERAL = "picture_damaged", "sizes_differ", "several_pictures"
PICTURE_ERRORS = frozenset({DAMAGED, SIZES_DIFFER, SEVERAL, "too_many_pixels"})
"""Codes of what is wrong with a picture and leaves its decoder as it was."""

_JPEGS = ("JPEG", "MPO")  # a camera's second picture behind the first is passed over
_SOI, _EXIF, _SCAN = b"\xff\xd8", 0xE1, 0xDA


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """size: width and height of the frames that are wanted. accepted: another size that pictures may have; they are brought to
    `size`. quality: 1 to 100, of the JPEG of a picture that is not used as it is."""

    size: tuple[int, int]
    accepted: tuple[int, int]
    quality: int

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """What came as JSON."""
        return cls(tuple(document["size"]), tuple(document["accepted"]), document["quality"])


def serve_pictures(channel: Channel, request: PictureRequest, limits: VideoLimits) -> None:
    """Answer each picture with its frame, or with what is wrong with it, until the service closes the socket."""
    while True:
        renew_processor_time(limits.max_frame_cpu_s)
        kind, data = channel.receive()
        if kind != PICTURE:
            raise ValueError(f"a message of kind {kind!r}")
        try:
            frame = usable(data, request, limits)
        except MemoryError:
            channel.send(ERROR, pack_error(too_large("decoding the picture takes more memory than it may use",
                                                     "too_much_memory")) or {})
        except ServiceError as error:
            channel.send(ERROR, pack_error(error) or {})
        else:
            channel.send_frame(EncodedFrame(0.0, 0, frame))


def usable(data: bytes, request: PictureRequest, limits: VideoLimits) -> bytes:
    """The JPEG to store for a picture. A baseline JPEG in one scan, of the wanted size, grey or in colour and upright, is
    decoded to see that it can be, and used as it is but for its metadata; so pushing a session's own frames changes no pixel.

    Raises InvalidInput (`sizes_differ`, `several_pictures`), NotAVideo (`picture_damaged`), TooLarge (`too_many_pixels`).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            limits.check_picture(*image.size)
            is_jpeg = image.format in _JPEGS
            if not is_jpeg and getattr(image, "n_frames", 1) > 1:
                raise InvalidInput("the body holds several pictures; push them one by one", field="body", code=SEVERAL)
            turn, exchanging = turn_of(image)
            size = (image.height, image.width) if exchanging else image.size
            if size not in (request.size, request.accepted):
                raise InvalidInput(f"the frame has {size[0]} x {size[1]} pixels, and those of this session have "
                                   + " or ".join(f"{width} x {height}" for width, height in
                                                 dict.fromkeys((request.size, request.accepted))),
                                   field="body", code=SIZES_DIFFER)
            as_it_is = is_jpeg and turn is None and size == request.size and image.mode in ("L", "RGB")
            if is_jpeg and not as_it_is:
                image.draft("RGB", request.size if not exchanging else request.size[::-1])
            image.load()
            if as_it_is and _is_plain(plain := without_metadata(data)):
                return plain
            upright = image.transpose(turn) if turn is not None else image
            return encode(fitted(upright, *request.size), request.quality)
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, NotImplementedError):
        raise NotAVideo("the body is no JPEG, PNG or WebP that can be decoded", field="body", code=DAMAGED) from None


def _is_plain(jpeg: bytes) -> bool:
    """Whether a JPEG is baseline and in one scan, as the service takes it from this process."""
    try:
        jpeg_size(jpeg)
    except ValueError:
        return False
    return True


def without_metadata(jpeg: bytes) -> bytes:
    """A JPEG without EXIF and XMP, its pixels untouched. Raises ValueError for one whose segments make no sense."""
    kept, at = [_SOI], 2
    while True:
        if jpeg[at : at + 1] != b"\xff":
            raise ValueError("no marker")
        if jpeg[at + 1] == 0xFF:  # a marker may be preceded by fill bytes
            at += 1
            continue
        if jpeg[at + 1] == _SCAN:
            return b"".join([*kept, jpeg[at:]])
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(jpeg):
            raise ValueError("a segment that breaks off")
        if jpeg[at + 1] != _EXIF:
            kept.append(jpeg[at:end])
        at = end
