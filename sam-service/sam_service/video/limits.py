"""What a video is, and what it may be at most."""

from __future__ import annotations

from dataclasses import dataclass

from sam_service.errors import ServiceError, TooLarge
from sam_service.video.containers import Container


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video that has at least one picture.

    Attributes:
        width, height: pixels as displayed: upright, and square.
        fps: frames a second on average, above 0; an estimate until all frames were seen.
        num_frames: source frames by the container's word, None when it has none. An estimate.
        duration_s: seconds by the same estimate, None without it.
        container: what the file is.
        pixel_aspect: width of a stored pixel divided by its height; the size above has square ones.
    """

    width: int
    height: int
    fps: float
    num_frames: int | None
    duration_s: float | None
    container: Container
    pixel_aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may be at most, and what decoding it may cost. The container's word is checked, and then the pictures.

    Attributes:
        max_bytes: size of the file.
        max_side: longer side of a source picture, pixels.
        max_pixels: width times height of a source picture.
        max_source_frames: source frames, those that the session leaves out included.
        max_duration_s: length in seconds.
        max_memory_bytes: what the decoding process may allocate. 2 GiB hold an 8K picture with 16 reference pictures.
        max_frame_cpu_s: processor seconds for one picture; also for opening the file.
        max_cpu_s: processor seconds for the whole file.
        max_silence_s: seconds without a sign of life from the decoding process.
        min_free_bytes: what must stay free on the disk that the frames are stored on.
    """

    max_bytes: int = 64 << 30
    max_side: int = 16384
    max_pixels: int = 8192 * 8192
    max_source_frames: int = 5_000_000
    max_duration_s: float = 24 * 3600.0
    max_memory_bytes: int = 2 << 30
    max_frame_cpu_s: int = 30
    max_cpu_s: int = 12 * 3600
    max_silence_s: float = 60.0
    min_free_bytes: int = 256 << 20

    def check_bytes(self, size: int) -> None:
        """Raise `TooLarge` for a file of `size` bytes over the limit."""
        if size > self.max_bytes:
            raise too_large(f"the file has {size} bytes; the limit is {self.max_bytes}", "file_too_large")

    def check_picture(self, width: int, height: int) -> None:
        """Raise `TooLarge` for a picture of `width` x `height` pixels over a limit."""
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise too_large(
                f"the video has {width} x {height} pixels; the limit is {self.max_pixels} pixels and "
                f"{self.max_side} on the longer side",
                "too_many_pixels",
            )

    def check_length(self, frames: int, duration_s: float) -> None:
        """Raise `TooLarge` for more source frames, or more seconds, than a video may have."""
        if frames > self.max_source_frames:
            raise too_large(f"the video has {frames} frames or more; the limit is {self.max_source_frames}", "too_many_frames")
        if duration_s > self.max_duration_s:
            raise too_large(f"the video lasts {duration_s:.0f} s; the limit is {self.max_duration_s:.0f} s", "too_long")

    def check(self, info: VideoInfo) -> None:
        """Raise `TooLarge` where the container's own word is over a limit."""
        self.check_picture(info.width, info.height)
        self.check_length(info.num_frames or 0, info.duration_s or 0.0)


def too_large(message: str, code: str) -> ServiceError:
    """A limit of the video, exceeded."""
    return TooLarge(message, code=code)
