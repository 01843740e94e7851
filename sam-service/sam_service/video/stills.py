"""Clips that are pictures: a folder or an archive of picture files in natural order, or one animated WebP.

They are decoded by Pillow, in the decoding process like everything else, and offer what `decoder.Decoder` offers.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import stat
import zipfile
from collections.abc import Callable
from fractions import Fraction
from types import TracebackType
from typing import IO, Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_service.errors import InvalidInput, NotAVideo
from sam_service.video.clock import Clock, mean_rate
from sam_service.video.containers import Container
from sam_service.video.limits import VideoLimits, too_large
from sam_service.video.naming import frames_of, may_be_frame, shown

DEFAULT_FPS = 24.0
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
_EXCHANGING = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))  # width and height
_MAX_PICTURE_BYTES = 256 << 20
_PIECE_BYTES = 1 << 20
_MOST_BITS = 16  # of grey
_PHOTOMETRIC = 262  # the tag of a TIFF that says whether 0 is black or white
_LOOKED_INTO = 9  # pictures whose brightest pixel is looked for
_CHECKED_AT_ONCE = 5000  # pictures whose size is compared before the first is shown


class Source(Protocol):
    """One pass over a clip, whatever it is made of. The attributes are described at `decoder.Decoder`."""

    container: Container
    width: int
    height: int
    pixel_aspect: Fraction
    fps: float
    frame_count: int | None
    size_changed: bool

    @property
    def time_s(self) -> float:
        """Seconds from the first picture to the grabbed one."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the grabbed picture as it is stored, in pixels."""

    def grab(self) -> bool:
        """Go on to the next picture. False at the end."""

    def picture(self, width: int, height: int) -> Image.Image | None:
        """The grabbed picture at `width` x `height` pixels, RGB or RGBX; None when it cannot be decoded."""


class Pictures:
    """A collection of picture files as a clip of `fps` frames a second, all of one size."""

    def __init__(self, descriptor: int, container: Container, fps: float | None, limits: VideoLimits) -> None:
        """Read the list of an open folder or archive and the sizes of its pictures.

        Raises:
            NotAVideo: an archive that cannot be read, no picture, one that is damaged.
            InvalidInput: pictures of several sizes, kinds or folders; names that climb, links, encryption.
            TooLarge: over a limit.
        """
        self.container = container
        self.pixel_aspect, self.size_changed = Fraction(1), False
        self.fps = fps or DEFAULT_FPS
        self._limits = limits
        self._open: Callable[[str], IO[bytes]]
        if container is Container.ZIP:
            self._archive = _archive(descriptor)
            names, self._open = _members(self._archive), self._archive.open
        else:
            names, self._open = os.listdir(descriptor), lambda name: _opened(descriptor, name)
        self._names = frames_of(names)
        limits.check_length(len(self._names), len(self._names) / self.fps)
        self.frame_count: int | None = len(self._names)
        self.width, self.height = 0, 0
        for name in self._names[:_CHECKED_AT_ONCE]:
            with self._file(name) as file:
                self._check(name, _header(name, file))
        self._at = -1
        self._bits = self._depth()

    @property
    def time_s(self) -> float:
        """Seconds from the first picture to the grabbed one."""
        return self._at / self.fps

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        return self.width, self.height

    def grab(self) -> bool:
        """Go on to the next picture. False at the end."""
        self._at += 1
        return self._at < len(self._names)

    def picture(self, width: int, height: int) -> Image.Image | None:
        """The grabbed picture at `width` x `height` pixels, RGB. Raises NotAVideo, InvalidInput and MemoryError."""
        name = self._names[self._at]
        with self._file(name) as file:
            image = _header(name, file)
            turn = self._check(name, image)
            try:
                if image.format == "JPEG":
                    image.draft("RGB", (width, height))
                upright = image.transpose(turn) if turn is not None else image
                picture = fitted(self._eight_bits(name, upright, _white_is_zero(image)), width, height)
                while self.container is Container.ZIP and file.read(_PIECE_BYTES):
                    pass  # an archive's checksum is compared at the end of a member
                return picture
            except (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile):
                raise _damaged(name) from None

    def _check(self, name: str, image: Image.Image) -> Image.Transpose | None:
        """Check a picture by its header, and return how it is to be turned."""
        self._limits.check_picture(*image.size)
        turn, exchanging = turn_of(image)
        size = (image.height, image.width) if exchanging else image.size
        if not self.width:
            self.width, self.height = size
        if size != (self.width, self.height):
            raise InvalidInput(f"{shown(name)} has {size[0]} x {size[1]} pixels and {shown(self._names[0])} {self.width} x "
                               f"{self.height}; all pictures of a clip must have the same size", code="sizes_differ")
        return turn

    def _depth(self) -> int:
        """How many bits of 16-bit grey are in use, by the brightest pixel of a few pictures across the clip: cameras and
        microscopes write 10, 12 or 14 bits into 16, which would be nearly black."""
        brightest, step = 0, max(1, len(self._names) // _LOOKED_INTO)
        for name in self._names[::step][:_LOOKED_INTO]:
            with self._file(name) as file:
                image = _header(name, file)
                self._check(name, image)
                if not image.mode.startswith("I"):
                    return _MOST_BITS
                brightest = max(brightest, int(_loaded(name, image).max()))
        return next(bits for bits in (8, 10, 12, 14, _MOST_BITS) if brightest < 1 << bits or bits == _MOST_BITS)

    def _eight_bits(self, name: str, image: Image.Image, white_is_zero: bool) -> Image.Image:
        """16-bit grey with the upper 8 of the bits in use; other pictures as they are. Raises InvalidInput.

        white_is_zero: 0 is the brightest value. Pillow turns that round for 8 bits, and not for 16.
        """
        if image.mode == "F":
            raise InvalidInput(f"{shown(name)} has floating point numbers; make it 8-bit or 16-bit grey", code="picture_depth")
        if not image.mode.startswith("I"):
            return image
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 1 << self._bits:
            raise InvalidInput(f"{shown(name)} has values from {values.min()} to {values.max()}, while the other pictures use "
                               f"{self._bits} bits; make all of them 8-bit grey", code="picture_depth")
        grey = np.asarray(values >> (self._bits - 8), np.uint8)
        return Image.fromarray(255 - grey if white_is_zero else grey)

    def _file(self, name: str) -> IO[bytes]:
        try:
            return self._open(name)
        except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
            raise _damaged(name) from None

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AnimatedWebp:
    """An animated WebP: each picture is shown for its own time."""

    def __init__(self, descriptor: int, limits: VideoLimits) -> None:
        """Raises NotAVideo and TooLarge."""
        self.container = Container.WEBP
        self.pixel_aspect, self.size_changed = Fraction(1), False
        file = os.fdopen(os.dup(descriptor), "rb")
        file.seek(0)
        try:
            self._image = Image.open(file, formats=("WEBP",))
            limits.check_picture(*self._image.size)
            self.frame_count: int | None = getattr(self._image, "n_frames", 1)
            self._image.load()
        except (OSError, ValueError, SyntaxError, EOFError):
            raise NotAVideo("the file holds no video that can be decoded", code="no_frames") from None
        self.width, self.height = self._image.size
        self.fps = mean_rate(2, self._duration_s(), None) or DEFAULT_FPS
        self._clock = Clock(self.fps)
        self._at, self._next_s = -1, 0.0

    @property
    def time_s(self) -> float:
        """Seconds from the first picture to the grabbed one."""
        return self._clock.time_s

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        return self.width, self.height

    def grab(self) -> bool:
        """Go on to the next picture. False at the end, or where it is damaged."""
        self._at += 1
        try:
            self._image.seek(self._at)
            self._image.load()
        except (EOFError, OSError, ValueError, SyntaxError):
            return False
        self._clock.tick(self._next_s)
        self._next_s += self._duration_s()
        return True

    def picture(self, width: int, height: int) -> Image.Image | None:
        """The grabbed picture at `width` x `height` pixels, RGB; black where it is transparent. Raises MemoryError."""
        return fitted(self._image, width, height)

    def _duration_s(self) -> float:
        return max(0.0, float(self._image.info.get("duration") or 0)) / 1000

    def close(self) -> None:
        """Give the picture's memory back. May be called twice."""
        self._image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture of up to 8 bits as RGB of `width` x `height` pixels, areas averaged; what lies behind transparency shows."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("RGB")
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BOX)


def prepare_pictures() -> None:
    """Load what Pillow needs, before this process may open no file any more."""
    Image.init()
    codecs.lookup("cp437")  # the letters of names in archives
    Image.MAX_IMAGE_PIXELS = None  # `VideoLimits` are checked instead


def _archive(descriptor: int) -> zipfile.ZipFile:
    file = os.fdopen(os.dup(descriptor), "rb")
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, OverflowError):
        file.close()
        raise NotAVideo("the archive cannot be read") from None


def _members(archive: zipfile.ZipFile) -> list[str]:
    """The names of the pictures in an archive, after a look at everything that could make them something else."""
    names, folders = set(), set()
    for entry in archive.infolist():
        name = entry.filename
        if "\\" in name:
            raise InvalidInput(f"the archive holds a name with a backslash: {shown(name)}; folders are told apart by /",
                               code="unsafe_archive")
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise InvalidInput(f"the archive holds a name that leaves its folder: {shown(name)}", code="unsafe_archive")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InvalidInput(f"the archive holds a link: {shown(name)}", code="unsafe_archive")
        if entry.is_dir() or not may_be_frame(name):
            continue
        if entry.flag_bits & 1:
            raise InvalidInput(f"{shown(name)} is encrypted", code="unsafe_archive")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput(f"{shown(name)} is compressed in a way that is not accepted; use deflate or none",
                               code="unsafe_archive")
        if entry.file_size > _MAX_PICTURE_BYTES:
            raise too_large(f"{shown(name)} has {entry.file_size} bytes; the limit for a picture is {_MAX_PICTURE_BYTES}",
                            "file_too_large")
        if name in names:
            raise InvalidInput(f"the archive holds {shown(name)} twice", code="unsafe_archive")
        names.add(name)
        folders.add(name.rpartition("/")[0])
        if len(folders) > 1:
            first, second = sorted(folders)[:2]
            raise InvalidInput(f"the pictures lie in several folders of the archive: {shown(first) or 'its top'} and "
                               f"{shown(second)}; one clip is one folder", code="several_folders")
    return list(names)


def _opened(folder: int, name: str) -> IO[bytes]:
    """A regular file of an open folder; no link is followed. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        if status.st_size > _MAX_PICTURE_BYTES:
            raise too_large(f"{shown(name)} has {status.st_size} bytes; the limit for a picture is {_MAX_PICTURE_BYTES}",
                            "file_too_large")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _header(name: str, file: IO[bytes]) -> Image.Image:
    """A picture of which only the header is read. Raises NotAVideo."""
    try:
        image = Image.open(file, formats=FORMATS)
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        raise _damaged(name) from None
    if pages > 1:
        raise InvalidInput(f"{shown(name)} has {pages} pages; a clip's frame is a file with one picture", code="several_pages")
    return image


def _loaded(name: str, image: Image.Image) -> npt.NDArray[np.generic]:
    """The pixels of a picture. Raises NotAVideo."""
    try:
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile):
        raise _damaged(name) from None


def turn_of(image: Image.Image) -> tuple[Image.Transpose | None, bool]:
    """How a picture is to be turned, by its header, and whether that exchanges width and height."""
    turn = _TURNS.get(_orientation(image))
    return turn, turn in _EXCHANGING


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF says that its smallest value is white."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC) == 0


def _orientation(image: Image.Image) -> int:
    """How the picture lies, by what its header says in EXIF's numbers. The pixels are not decoded for that."""
    orientation = 1
    if "exif" in image.info:
        with contextlib.suppress(Exception):  # a damaged description says nothing about how a picture lies
            orientation = int(image.getexif().get(0x0112, 1))
    return orientation


def _damaged(name: str) -> NotAVideo:
    return NotAVideo(f"{shown(name)} is no JPEG, PNG, WebP, BMP or TIFF that can be decoded", code="picture_damaged")
