"""Closed outlines and the objects built from them: a main part, and often limbs that swing on it.

Coordinates are in units of the object's size, x to the right and y down, before any squashing to a square frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
POINTS = 96  # vertices of an outline


def _radial(radius: Floats) -> Floats:
    """The outline (n, 2) whose distance from the centre at equally spaced angles is `radius` (n,)."""
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]


def blob(rng: np.random.Generator) -> Floats:
    """A smooth lumpy outline: a few random radii, joined by raised cosines."""
    knots = rng.uniform(0.45, 1.0, rng.integers(4, 9))
    position = np.linspace(0, len(knots), POINTS, endpoint=False)
    left = position.astype(int)
    ease = (1 - np.cos(np.pi * (position - left))) / 2
    return _radial(knots[left] * (1 - ease) + knots[(left + 1) % len(knots)] * ease)


def polygon(rng: np.random.Generator) -> Floats:
    """Straight edges between three to seven corners at random angles."""
    count = int(rng.integers(3, 8))
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.6, 1.0, (count, 1))
    along = np.linspace(0, 1, POINTS // count, endpoint=False)[None, :, None]
    edges: Floats = corners[:, None] * (1 - along) + np.roll(corners, -1, 0)[:, None] * along
    return edges.reshape(-1, 2)


def star(rng: np.random.Generator) -> Floats:
    """Arms around a centre, rounded or pointed."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    wave = np.cos(rng.integers(3, 8) * angle)
    depth = rng.uniform(0.12, 0.4)
    return _radial(1 - depth + depth * np.sign(wave) * np.abs(wave) ** rng.uniform(0.6, 2.0))


def superellipse(rng: np.random.Generator) -> Floats:
    """Anything from a lens over an ellipse to nearly a rectangle."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    power = rng.uniform(1.3, 6.0)
    return _radial((np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power))


def bean(rng: np.random.Generator) -> Floats:
    """An ellipse bent along its length."""
    outline = superellipse(rng) * (1.0, rng.uniform(0.25, 0.5))
    outline[:, 1] += rng.uniform(0.2, 0.7) * (outline[:, 0] ** 2 - 0.4)
    return outline


KINDS = (blob, blob, polygon, star, superellipse, superellipse, bean)


def random_outline(rng: np.random.Generator) -> Floats:
    """An outline (n, 2) of half-extent one, of any kind, flattened and turned at random."""
    outline = KINDS[rng.integers(len(KINDS))](rng) * (1.0, rng.uniform(0.5, 1.0))
    outline = outline / np.abs(outline).max()
    turned: Floats = outline @ rotation(rng.uniform(0, 2 * np.pi)).T
    return turned


def rotation(angle: float) -> Floats:
    """The 2 x 2 matrix that turns by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@dataclass
class Part:
    """One outline of an object, hung at a joint and swinging about it; `texture` numbers the object's textures."""

    outline: Floats
    joint: Floats
    swing: float
    rate: float
    phase: float
    texture: int

    def at(self, time: float) -> Floats:
        """The outline (n, 2) at `time`, in object units."""
        turned = self.outline @ rotation(self.swing * np.sin(self.rate * time + self.phase)).T
        moved: Floats = turned + self.joint
        return moved


def random_parts(rng: np.random.Generator) -> list[Part]:
    """Back to front: for most objects one part; otherwise a body with up to five limbs, of its texture or another."""
    body = Part(random_outline(rng), np.zeros(2), 0.0, 0.0, 0.0, 0)
    if rng.random() < 0.6:
        return [body]
    limbs = []
    for _ in range(rng.integers(1, 6)):
        anchor = body.outline[rng.integers(len(body.outline))] * rng.uniform(0.6, 0.95)
        limb = random_outline(rng) * (rng.uniform(0.25, 0.7), rng.uniform(0.12, 0.35))
        turn = rotation(np.arctan2(anchor[1], anchor[0]) + rng.normal(0, 0.5))
        limb = (limb + (0.8 * np.abs(limb[:, 0]).max(), 0)) @ turn.T
        swing, rate = rng.uniform(0, 0.6), rng.uniform(0.1, 0.6)
        limbs.append(Part(limb, anchor, swing, rate, rng.uniform(0, 2 * np.pi), int(rng.integers(0, 4))))
    behind = int(rng.integers(0, len(limbs) + 1))
    return [*limbs[:behind], body, *limbs[behind:]]
