"""Procedural clips: textured objects that move, turn, bend and hide each other in front of a moving background."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.shapes import Floats, Part, random_parts, rotation
from training.textures import SIZE, Image, TextureBank

FRAMES = 10
TARGETS = 3  # objects of a clip whose masks are kept
CUTOUT_SHARE = 0.5  # of the objects, where there are cut-outs
TURN_SHARE = 0.15  # of the clips, in which the camera turns away
SHIFT = 4  # fractional bits of drawn vertices
Pixels = NDArray[np.float32]


@dataclass
class Actor:
    """An object on its path, in pixels of the squashed frame; `squash` is how many times narrower squashing made it."""

    parts: list[Part]
    textures: list[Image]
    size: float
    centre: Floats
    velocity: Floats
    squash: float
    angle: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0
    bend: float = 0.0
    sway: Floats = field(default_factory=lambda: np.zeros(2))
    phase: float = 0.0
    back: float = np.inf  # when it turns round and retraces its path
    camera: Floats = field(default_factory=lambda: np.zeros((FRAMES, 2)))  # how far the camera has turned, for each frame
    cutout: Image | None = None  # drawn in the place of the parts

    def draw(self, time: float) -> tuple[Pixels, Pixels]:
        """Coverage (SIZE, SIZE) in 0..1 at `time`, and colour (SIZE, SIZE, 3) where there is coverage."""
        seen_from = np.array([np.interp(time, range(FRAMES), along) for along in self.camera.T])
        time = min(time, 2 * self.back - time)
        scale = self.size * np.exp(self.zoom * time)
        squash = np.diag([1 / self.squash, 1.0])
        matrix = squash @ rotation(self.angle + self.turn * time) * scale
        centre = self.centre + self.velocity * time + self.sway * np.sin(0.3 * time + self.phase) - seen_from
        if self.cutout is not None:
            return _pasted(self.cutout, matrix, centre, self.size)
        cover: Image = np.zeros((SIZE, SIZE), np.uint8)
        colour = np.zeros((SIZE, SIZE, 3), np.uint8)
        for part in self.parts:
            outline = part.at(time)
            outline = outline * (1 + self.bend * np.sin(2 * outline[:, ::-1] + 0.35 * time + self.phase))
            stencil = np.zeros((SIZE, SIZE), np.uint8)
            vertices = np.round((outline @ matrix.T + centre) * 2**SHIFT).clip(-(2**20), 2**20).astype(np.int32)
            cv2.fillPoly(stencil, [vertices], 255, cv2.LINE_AA, shift=SHIFT)
            texture = self.textures[part.texture % len(self.textures)]
            warp = np.hstack([matrix / self.size, (centre - matrix @ np.full(2, SIZE / 2) / self.size)[:, None]])
            warped = cv2.warpAffine(texture, warp, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
            cv2.copyTo(warped, np.asarray(stencil > 64, np.uint8), colour)
            cover = np.maximum(cover, stencil)
        return np.asarray(cover / 255, np.float32), colour.astype(np.float32)


def _pasted(cutout: Image, matrix: Floats, centre: Floats, size: float) -> tuple[Pixels, Pixels]:
    """Coverage (SIZE, SIZE) and colour (SIZE, SIZE, 3) of a cut-out whose half-extent the matrix maps to pixels."""
    side = int(np.clip(2 * size, 16, cutout.shape[0]))
    layers = cutout.astype(np.float32)
    layers[..., :3] *= layers[..., 3:] / 255
    layers = np.asarray(cv2.resize(layers, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    scaled = matrix / (side / 2)
    middle = np.full(2, (side - 1) / 2)
    warp = np.hstack([scaled, (centre - scaled @ middle)[:, None]])
    warped = np.asarray(cv2.warpAffine(layers, warp, (SIZE, SIZE), borderMode=cv2.BORDER_CONSTANT), np.float32)
    cover = np.asarray(warped[..., 3] / 255, np.float32)
    return cover, np.asarray(warped[..., :3] / np.maximum(cover, 0.02)[..., None], np.float32)


@dataclass
class Clip:
    """frames (FRAMES, SIZE, SIZE, 3); covers (FRAMES, TARGETS, SIZE, SIZE), the visible share of each pixel in 0..1."""

    frames: Image
    covers: Pixels


def _tinted(rng: np.random.Generator, image: Image) -> Image:
    """The texture flipped, and its channels scaled and shifted."""
    gain, offset = rng.uniform(0.65, 1.3, 3), rng.uniform(-30, 30, 3)
    flipped = cv2.flip(image, int(rng.integers(-1, 2))) if rng.random() < 0.7 else image
    return np.asarray((flipped * gain + offset).clip(0, 255), dtype=np.uint8)


def _recoloured(rng: np.random.Generator, cutout: Image) -> Image:
    """The cut-out in other light, mirrored every second time, its channels swapped now and then."""
    colour = cutout[..., :3] if rng.random() < 0.8 else cutout[..., rng.permutation(3)]
    colour = (colour * rng.uniform(0.75, 1.2, 3) + rng.uniform(-20, 20, 3)).clip(0, 255).astype(np.uint8)
    image = np.dstack([colour, cutout[..., 3]])
    return np.ascontiguousarray(image[:, ::-1] if rng.random() < 0.5 else image)


def _actor(rng: np.random.Generator, bank: TextureBank, squash: float, pace: float) -> Actor:
    """A random object somewhere in the frame."""
    real = float(rng.choice([0.0, 0.6, 1.0, 1.0]))
    cutout = None
    if bank.cutouts and rng.random() < CUTOUT_SHARE:
        cutout = _recoloured(rng, bank.cutouts[rng.integers(len(bank.cutouts))])
    upright = cutout is not None and rng.random() < 0.7
    return Actor(
        parts=random_parts(rng),
        textures=[_tinted(rng, bank.image(rng, real)) for _ in range(int(rng.choice([1, 1, 2, 3])))],
        size=float(np.exp(rng.uniform(np.log(13), np.log(80)))),
        centre=rng.uniform(0.15, 0.85, 2) * SIZE,
        velocity=rng.normal(0, 3.2 * pace, 2) / (squash, 1),
        squash=squash,
        angle=rng.normal(0, 0.2) if upright else rng.uniform(0, 2 * np.pi),
        turn=rng.normal(0, 0.035 * pace),
        zoom=rng.normal(0, 0.009 * pace),
        bend=rng.uniform(0, 0.14),
        sway=rng.uniform(0, 12, 2) / (squash, 1),
        phase=rng.uniform(0, 2 * np.pi),
        cutout=cutout,
    )


def _lookalike(rng: np.random.Generator, actor: Actor, pace: float) -> Actor:
    """Another object of the same make elsewhere, on its own path."""
    return Actor(actor.parts, actor.textures, actor.size * rng.uniform(0.8, 1.2), rng.uniform(0.1, 0.9, 2) * SIZE,
                 rng.normal(0, 3.2 * pace, 2), actor.squash, rng.uniform(0, 2 * np.pi), bend=actor.bend,
                 cutout=actor.cutout)  # fmt: skip


def _cross(rng: np.random.Generator, actor: Actor, target: Actor) -> None:
    """Send `actor` over the middle of `target`'s path at some time in the clip; every second one hides it wholly."""
    meeting = rng.uniform(2, FRAMES)
    if hides := rng.random() < 0.5:
        actor.size, actor.cutout = target.size * rng.uniform(1.3, 2.2), None
    direction = rotation(rng.uniform(0, 2 * np.pi)) @ np.array([rng.uniform(8, 22 if hides else 30), 0])
    actor.velocity, actor.sway = direction, np.zeros(2)
    actor.centre = target.centre + target.velocity * meeting - direction * meeting


def _leave(rng: np.random.Generator, actor: Actor) -> None:
    """Send `actor` out of the frame within the clip, over the nearest side; every second one comes back."""
    side = int(np.argmin(np.concatenate([actor.centre, SIZE - actor.centre])))
    distance = min(actor.centre[side % 2], SIZE - actor.centre[side % 2]) + 1.3 * actor.size
    actor.velocity[side % 2] = (1 if side >= 2 else -1) * distance / rng.uniform(2, FRAMES - 2)
    if rng.random() < 0.5:
        actor.back = rng.uniform(3, FRAMES - 2)


def _turn_camera(rng: np.random.Generator) -> Floats:
    """How far a camera has turned (FRAMES, 2) that leaves part of what it saw, or all of it, behind from some frame on."""
    start, end = np.sort(rng.uniform(0, FRAMES, 2))
    share = ((np.arange(FRAMES) - start) / max(1.0, end - start)).clip(0, 1)
    return np.asarray(share[:, None] * rotation(rng.uniform(0, 2 * np.pi))[0] * rng.uniform(0.3, 1.1) * SIZE)


def _cast(rng: np.random.Generator, bank: TextureBank) -> list[Actor]:
    """The objects of a clip; the first TARGETS (or fewer) are followed. The drawing order is chosen elsewhere."""
    squash = float(rng.choice([16 / 9, 16 / 9, 4 / 3, 1.0, 9 / 16]))
    pace = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    actors = [_actor(rng, bank, squash, pace) for _ in range(int(rng.integers(1, TARGETS + 1)))]
    target = actors[0]
    if rng.random() < 0.35:
        actors.append(_lookalike(rng, target, pace))
    if rng.random() < 0.35:
        occluder = _actor(rng, bank, squash, pace)
        _cross(rng, occluder, target)
        actors.append(occluder)
    if rng.random() < 0.25:
        _leave(rng, target)
    return actors


def _backgrounds(rng: np.random.Generator, bank: TextureBank) -> list[Image]:
    """FRAMES images (SIZE, SIZE, 3): consecutive frames of a clip, or one texture under a moving camera."""
    real = bank.run(rng, FRAMES) if rng.random() < 0.6 else None
    if real is not None and rng.random() < 0.75:
        gain = rng.uniform(0.75, 1.25)
        return [np.asarray((frame * gain).clip(0, 255), dtype=np.uint8) for frame in real]
    texture = _tinted(rng, bank.image(rng, 0.4))
    drift, turn, zoom = rng.normal(0, 3, 2), rng.normal(0, 0.01), rng.normal(0, 0.01)
    scale = rng.uniform(1.0, 2.0)
    images = []
    for time in range(FRAMES):
        warp = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), np.degrees(turn * time), scale * np.exp(zoom * time))
        warp[:, 2] = warp[:, 2] + drift * time
        images.append(np.asarray(cv2.warpAffine(texture, warp, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT), np.uint8))
    return images


def _shifted(background: Image, by: Floats) -> Image:
    """What a camera sees that has turned by so many pixels (x, y); beyond its sides a background is mirrored."""
    warp = np.hstack([np.eye(2), -by[:, None]])
    return np.asarray(cv2.warpAffine(background, warp, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _degrade(rng: np.random.Generator, frames: list[Pixels]) -> list[Image]:
    """What a camera and a codec do to a clip: brightness drift, softness, sensor noise, JPEG."""
    noise = rng.uniform(0, 8)
    quality = int(rng.integers(50, 96))
    soft = rng.uniform(0.4, 1.1) if rng.random() < 0.25 else 0.0
    drift = rng.normal(0, 0.012) if rng.random() < 0.5 else 0.0
    out = []
    for time, frame in enumerate(frames):
        image = frame * (1 + drift * time)
        image += noise * rng.standard_normal(image.shape, np.float32)
        if soft:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), soft), np.float32)
        packed = image.clip(0, 255).astype(np.uint8)
        if quality < 90:
            coded = cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            packed = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        out.append(packed)
    return out


def _render(background: Image, actors: list[Actor], targets: int, time: float) -> tuple[Pixels, Pixels]:
    """One sharp frame (SIZE, SIZE, 3) and the covers (TARGETS, SIZE, SIZE); `actors` are drawn from last to first."""
    image = background.astype(np.float32)
    covers = np.zeros((TARGETS, SIZE, SIZE), np.float32)
    for index in range(len(actors) - 1, -1, -1):
        cover, colour = actors[index].draw(time)
        image = np.asarray(image + (colour - image) * cover[..., None], np.float32)
        covers *= 1 - cover
        if index < targets:
            covers[index] = cover
    return image, covers


def make_clip(rng: np.random.Generator, bank: TextureBank) -> Clip:
    """A random clip."""
    actors = _cast(rng, bank)
    targets = min(TARGETS, len(actors))
    order = rng.permutation(len(actors))
    # The order decides who is in front; what crosses was made last and is usually drawn in front.
    actors = [actors[i] for i in order] if rng.random() < 0.6 else actors[::-1]
    shutter = (0.0, 0.35, 0.7) if rng.random() < 0.2 else (0.0,)
    camera = _turn_camera(rng) if rng.random() < TURN_SHARE else np.zeros((FRAMES, 2))
    for actor in actors:
        actor.camera = camera
    frames: list[Pixels] = []
    covers: list[Pixels] = []
    for time, background in enumerate(_backgrounds(rng, bank)):
        if camera[time].any():
            background = _shifted(background, camera[time])
        shots = [_render(background, actors, targets, time + offset) for offset in shutter]
        frames.append(np.asarray(np.mean([image for image, _ in shots], 0), np.float32))
        covers.append(np.asarray(np.mean([cover for _, cover in shots], 0), np.float32))
    return Clip(np.stack(_degrade(rng, frames)), np.stack(covers))
