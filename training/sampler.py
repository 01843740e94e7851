"""What a training step sees: photos, real clips, and clips made from photos.

A mask is (H, W) float32: 1 the object, 0 not, NaN not to be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sam_service.core.models.nano.input_size import input_size

from training.library import UNUSED, Entry, Library
from training.neighbours import SAME, cut_out, with_neighbour
from training.shapes import random_parts
from training.views import ASPECTS, Colours, Floats, Image8, Size, moved, path, random_view, seen, zoomed_view

FRAMES = 4  # of a clip: a prompted one and three in order
LEAST_AREA, LEAST_IN_PHOTO = 0.003, 0.0025  # of the input, for an object to be prompted
REAL, PHOTO = 0.5, 0.87  # real clips among clips; photos, not frames of clips, among pictures
COMPOSITE, OCCLUDED, GONE, BACK = 0.6, 0.45, 0.28, 0.4  # of made clips
ZOOMED, WHOLE = 0.3, 0.45  # photos in a zoomed view; the whole picture among the others
CROWDED, MOST_NEIGHBOURS = 0.3, 3  # pictures with pasted neighbours, and how many
BY_SIZE = 0.5  # how often a larger object of a photo is taken more often, with the root of its area
SHAPED, SHAPED_PICTURE = 0.3, 0.15  # made clips, and pictures, whose object is a random shape with a photo's texture
LEAVES, CUT, COVERED = range(3)  # how an object goes


@dataclass(frozen=True)
class Clip:
    """FRAMES pictures (H, W, 3) with masks; distances: of each from the first, in frames."""

    images: list[Image8]
    masks: list[Floats]
    distances: list[int]


class Sampler:
    """Draws from a library; all randomness comes from `rng`."""

    def __init__(self, library: Library, rng: np.random.Generator) -> None:
        self._library = library
        self._rng = rng
        self._names = sorted(name for name, frames in library.clips.items() if len(frames) >= FRAMES)
        self._crowd = [entry for entry in library.photos if entry.small_objects]
        weights = np.array([entry.weight for entry in self._crowd])
        self._chance = weights / weights.sum()

    def size(self, side: int) -> Size:
        """An input size of about side x side pixels, of any usual aspect."""
        aspect = self._rng.choice([a for a, _ in ASPECTS], p=[p for _, p in ASPECTS])
        return input_size(round(1000 * aspect), 1000, side)

    def photo(self, size: Size) -> tuple[Image8, Floats]:
        """A picture and the mask of one of its objects."""
        while True:
            if self._rng.random() < SHAPED_PICTURE:
                clip = self._made(size, shaped=True)
                if np.nansum(clip.masks[0]) >= LEAST_AREA * clip.masks[0].size:
                    return clip.images[0], clip.masks[0]
                continue
            still = not self._names or self._rng.random() < PHOTO
            if still:
                entry, label = self._crowd_object()
            else:
                frames = self._library.clips[self._pick(self._names)]
                entry, label = frames[self._rng.integers(len(frames))], 1
            source, labels = self._library.picture(entry)
            if not (labels == label).any():
                continue
            zoomed = still and self._rng.random() < ZOOMED
            view = (zoomed_view(self._rng, labels, size, label) if zoomed
                    else random_view(self._rng, labels, size, label, whole=WHOLE))
            image, mask = _image(source, view, size), _mask(labels, view, size, label)
            if np.nansum(mask) >= LEAST_IN_PHOTO * mask.size and self._rng.random() < CROWDED:
                image, mask = self._crowded(image, mask, cut_out(source, labels, label))
            if np.nansum(mask) >= LEAST_IN_PHOTO * mask.size:
                return Colours(self._rng)(image), mask

    def clip(self, size: Size) -> Clip:
        """A clip whose object is seen on the first frame."""
        while True:
            real = bool(self._names) and self._rng.random() < REAL
            found = self._real(size) if real else self._made(size, shaped=bool(self._rng.random() < SHAPED))
            if np.nansum(found.masks[0]) >= LEAST_AREA * found.masks[0].size:
                return found

    def _made(self, size: Size, *, shaped: bool) -> Clip:
        return _MadeClip(self._library, self._rng, self._object, size, shaped).clip()

    def _object(self) -> tuple[Entry, int]:
        photos = self._library.photos
        entry = photos[self._rng.integers(len(photos))]
        return entry, entry.objects[self._rng.integers(len(entry.objects))]

    def _crowd_object(self) -> tuple[Entry, int]:
        """A photo, those of crowds more often, and one of its objects of any size."""
        entry = self._crowd[self._rng.choice(len(self._crowd), p=self._chance)]
        objects = entry.small_objects
        weights = np.array([entry.areas[label] for label in objects]) ** (0.5 if self._rng.random() < BY_SIZE else 0.0)
        return entry, objects[self._rng.choice(len(objects), p=weights / weights.sum())]

    def _crowded(self, image: Image8, mask: Floats, own: tuple[Image8, Floats] | None) -> tuple[Image8, Floats]:
        """The picture with some neighbours of its object."""
        for _ in range(int(self._rng.integers(1, MOST_NEIGHBOURS + 1))):
            neighbour = own
            if own is None or self._rng.random() >= SAME:
                entry, label = self._crowd_object()
                neighbour = cut_out(*self._library.picture(entry), label)
            if neighbour is not None and np.nansum(mask) > 0:
                image, mask = with_neighbour(self._rng, image, mask, neighbour)
        return image, mask

    def _pick(self, names: list[str]) -> str:
        return names[self._rng.integers(len(names))]

    def _real(self, size: Size) -> Clip:
        """Four frames of a clip, forward or backward: a gap of up to 60 frames, then two short ones."""
        rng = self._rng
        frames = self._library.clips[self._pick(self._names)]
        short = (1, 4) if rng.random() < 0.75 else (2, 9)
        first = rng.integers(1, 9) if rng.random() < 0.5 else rng.integers(5, 60)
        gaps = [int(gap) for gap in (first, rng.integers(*short), rng.integers(*short))]
        while sum(gaps) > len(frames) - 1:
            gaps = [max(1, gap // 2) for gap in gaps]
        start = int(rng.integers(len(frames) - sum(gaps)))
        times = [start + shift for shift in np.cumsum([0, *gaps])]
        if rng.random() < 0.4:
            times.reverse()
        view = random_view(rng, self._library.picture(frames[times[0]])[1], size, 1, whole=0.5)
        colours = Colours(rng)
        pictures = [self._library.picture(frames[time]) for time in times]
        images = [colours(_image(image, view, size)) for image, _ in pictures]
        masks = [_mask(labels, view, size, 1) for _, labels in pictures]
        return Clip(images, masks, [abs(int(time - times[0])) for time in times])


class _MadeClip:
    """One clip from photos: the camera moves over one, or its object moves over another; something may hide the object."""

    def __init__(self, library: Library, rng: np.random.Generator, pick: Callable[[], tuple[Entry, int]], size: Size,
                 shaped: bool) -> None:
        self._library, self._rng, self._pick, self._size = library, rng, pick, size
        entry, self._label = pick()
        self._image, self._labels = library.picture(entry)
        if shaped:
            self._label, self._labels = 1, random_shape(rng, *self._labels.shape)
        self._view = random_view(rng, self._labels, size, None if shaped else self._label, whole=0.6 if shaped else 0.35)
        self._speed = math.exp(rng.uniform(math.log(0.01), math.log(0.12)))
        self._camera = path(rng, FRAMES, self._speed, 0.06, 0.05)
        self._composite = bool(shaped or rng.random() < COMPOSITE)
        if self._composite:
            self._ground, labels = library.picture(pick()[0])
            self._ground_view = random_view(rng, labels, size, None, whole=0.2)
            self._way = path(rng, FRAMES, self._speed, 0.1, 0.08)
        gone = rng.random() < GONE
        self._going = int(rng.integers(1, FRAMES)) if gone else FRAMES
        self._back = bool(gone and rng.random() < BACK)
        self._how = int(rng.integers(3)) if gone else LEAVES
        self._occluder = self._cut_out() if rng.random() < OCCLUDED or (gone and self._how == COVERED) else None

    def clip(self) -> Clip:
        """Draw the frames."""
        rng, colours = self._rng, Colours(self._rng)
        start = np.array([rng.uniform(0, self._size[1]), rng.uniform(0, self._size[0])])
        step = rng.normal(size=2) * self._speed * 1.5 * (self._size[1], self._size[0])
        height = math.exp(rng.uniform(math.log(0.12), math.log(0.5))) * self._size[0]
        images, masks = [], []
        for time in range(FRAMES):
            away = time == self._going or (time > self._going and not self._back)
            image, mask = self._layered(time, away) if self._composite else self._plain(time, away)
            if self._occluder is not None:
                covered = away and self._how == COVERED
                image, mask = self._hidden(image, mask, start + step * time, height, time, whole=covered)
            images.append(colours(image))
            masks.append(mask)
        distances = np.cumsum(rng.integers(1, 4, FRAMES))
        return Clip(images, masks, [int(d - distances[0]) for d in distances])

    def _plain(self, time: int, away: bool) -> tuple[Image8, Floats]:
        """The photo, its camera moved, or another one."""
        if away and self._how != COVERED:
            other, labels = self._library.picture(self._pick()[0])
            view = random_view(self._rng, labels, self._size, None)
            return _image(other, view, self._size), np.zeros(self._size, np.float32)
        view = moved(self._view, self._camera[time], self._size)
        return _image(self._image, view, self._size), _mask(self._labels, view, self._size, self._label)

    def _layered(self, time: int, away: bool) -> tuple[Image8, Floats]:
        """The object in front of another photo, each moving its own way."""
        ground = _image(self._ground, moved(self._ground_view, self._camera[time], self._size), self._size)
        pose = self._way[time].copy()
        if away and self._how == LEAVES:
            pose[self._rng.integers(2)] += 2.5 * self._rng.choice([-1, 1])
        view = moved(self._view, pose, self._size)
        mask = np.nan_to_num(_mask(self._labels, view, self._size, self._label))
        if away and self._how == CUT:
            mask[:] = 0
        return _over(ground, _image(self._image, view, self._size), mask), mask

    def _cut_out(self) -> tuple[Image8, Floats]:
        entry, label = self._pick()
        image, labels = self._library.picture(entry)
        ys, xs = np.nonzero(labels == label)
        part = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        return image[part], np.asarray(labels[part] == label, np.float32)

    def _hidden(
        self, image: Image8, mask: Floats, centre: NDArray[np.float64], height: float, time: int, *, whole: bool
    ) -> tuple[Image8, Floats]:
        """The same behind the occluder, or behind a picture that hides the object wholly."""
        assert self._occluder is not None
        picture, shape = self._occluder
        rows, columns = shape.shape
        width = height * columns / rows
        visible = np.nan_to_num(mask) > 0.5
        if whole and visible.any():
            ys, xs = np.nonzero(visible)
            centre = np.array([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2])
            width, height = (float(np.ptp(at) + 9) * 1.5 for at in (xs, ys))
            shape = np.ones_like(shape)
        across, down = columns / width, rows / height
        left, top = centre[0] - width / 2, centre[1] - height / 2
        view = np.array([[across, 0, -across * left], [0, down, -down * top]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cover = cv2.warpAffine(shape, view, self._size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        front = cv2.warpAffine(picture, view, self._size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        rest = np.where(cover > 0.5, np.float32(0), mask).astype(np.float32)
        if time == 0 and np.nansum(rest) < 0.5 * np.nansum(mask):
            return image, mask
        return _over(image, np.asarray(front, np.uint8), np.asarray(cover, np.float32)), rest


def random_shape(rng: np.random.Generator, height: int, width: int) -> Image8:
    """Labels (H, W): 1 in a random shape of one or more parts."""
    labels = np.zeros((height, width), np.uint8)
    size = math.exp(rng.uniform(math.log(0.1), math.log(0.38))) * min(height, width)
    centre, time = rng.uniform(0.25, 0.75, 2) * (width, height), float(rng.uniform(0, 20))
    for part in random_parts(rng):
        cv2.fillPoly(labels, [np.round((part.at(time) * size + centre) * 8).astype(np.int32)], 1, cv2.LINE_8, shift=3)
    return labels


def _image(image: Image8, view: Floats, size: Size) -> Image8:
    return np.asarray(seen(image, view, size), np.uint8)


def _mask(labels: Image8, view: Floats, size: Size, label: int) -> Floats:
    there = seen(labels, view, size, labels=UNUSED)
    return np.where(there == UNUSED, np.nan, there == label).astype(np.float32)


def _over(back: Image8, front: Image8, mask: Floats) -> Image8:
    """`front` where the mask is, with soft edges."""
    weight = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
    return np.asarray(back * (1 - weight) + front * weight, np.uint8)
