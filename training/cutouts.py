"""Pictures of real things with transparent surroundings: objects of many parts that belong together.

    python -m training.cutouts --font NotoColorEmoji.ttf --out DIR     # the emoji of a colour font, as PNG files

A folder of PNG files with alpha, from this command or from anywhere, goes to the trainer as `--cutouts`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 192  # of a cut-out, whose longer side fills it
LEAST_SHARE = 0.12  # of the square that a cut-out covers at least
BITMAP = 109  # the one size in pixels that Noto's bitmaps have
BLOCKS = ((0x1F300, 0x1F650), (0x1F680, 0x1F6FD), (0x1F90C, 0x1FAF9))

Rgba = NDArray[np.uint8]


def read(folders: list[Path]) -> list[Rgba]:
    """Every usable cut-out (SIDE, SIDE, 4) of some folders: RGB, and alpha as 0..255."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.png"))]
    return [image for path in paths if (image := _square(path)) is not None]


def _square(path: Path) -> Rgba | None:
    """A PNG file cropped to what it shows and fitted into a square; None where it is no cut-out."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        return None
    rows, columns = np.flatnonzero((image[..., 3] > 127).any(1)), np.flatnonzero((image[..., 3] > 127).any(0))
    if len(rows) < 48 or len(columns) < 48:
        return None
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    opaque = image[..., 3] > 127
    if opaque.mean() > 0.97:  # a picture with square corners is no outline to learn
        return None
    image[..., :3] = image[..., :3] * image[..., 3:] / 255
    scale = SIDE / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    down, right = SIDE - small.shape[0], SIDE - small.shape[1]
    small = cv2.copyMakeBorder(small, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_CONSTANT)
    if (small[..., 3] > 127).mean() < LEAST_SHARE:
        return None
    small[..., :3] = small[..., :3] * 255 / np.maximum(small[..., 3:], 1)
    return np.asarray(small[..., [2, 1, 0, 3]].clip(0, 255), np.uint8)


def render(font: Path, folder: Path) -> int:
    """Write the emoji of a colour font as PNG files; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    face = ImageFont.truetype(str(font), BITMAP)
    written = 0
    for code in (code for block in BLOCKS for code in range(*block)):
        image = Image.new("RGBA", (BITMAP + 60, BITMAP + 60))
        ImageDraw.Draw(image).text((10, 10), chr(code), font=face, embedded_color=True)
        if image.getbbox() is not None:
            image.save(folder / f"{code:x}.png")
            written += 1
    return written


def main() -> None:
    """Render from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(f"{render(args.font, args.out)} cut-outs in {args.out}")


if __name__ == "__main__":
    main()
