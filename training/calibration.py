"""How far predicted scores can be believed: expected calibration error, its figure, and a correction by Platt's method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pairs = list[tuple[float, float]]  # predicted, true, both 0..1
BINS = 10
SIDE, MARGIN = 300, 40  # of a panel of the figure, in pixels


def bins(pairs: Pairs) -> list[tuple[float, float, int]]:
    """Mean prediction, mean truth and number of the pairs in each of BINS equal ranges of the prediction."""
    values = np.asarray(pairs, np.float64).reshape(-1, 2)
    index = (values[:, 0] * BINS).astype(int).clip(0, BINS - 1)
    groups = [values[index == number] for number in range(BINS)]
    return [(float(group[:, 0].mean()), float(group[:, 1].mean()), len(group)) for group in groups if len(group)]


def error(pairs: Pairs) -> float:
    """Expected calibration error: the mean gap between prediction and truth over BINS ranges."""
    return sum(abs(said - true) * count for said, true, count in bins(pairs)) / max(1, len(pairs))


def platt(logits: NDArray[np.float64], truth: NDArray[np.float64], steps: int = 60) -> tuple[float, float]:
    """Scale and shift that make sigmoid(scale * logit + shift) fit truths in 0..1 best, by Newton's method."""
    design = np.stack([logits, np.ones_like(logits)], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(steps):
        guess = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (guess - truth)
        curve = (design * (guess * (1 - guess))[:, None]).T @ design + 1e-6 * np.eye(2)
        weights -= np.linalg.solve(curve, slope).clip(-1, 1)
    return float(weights[0]), float(weights[1])


def figure(path: Path, panels: Mapping[str, Pairs]) -> None:
    """A reliability diagram for each kind of score: predicted to the right, true upwards, dots by number of cases."""
    cv2.imwrite(str(path), np.hstack([_panel(name, pairs) for name, pairs in panels.items()]), [cv2.IMWRITE_JPEG_QUALITY, 90])


def _panel(name: str, pairs: Pairs) -> NDArray[np.uint8]:
    """One diagram."""
    canvas = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 255, np.uint8)
    low, high = MARGIN, MARGIN + SIDE
    cv2.rectangle(canvas, (low, low), (high, high), (160, 160, 160), 1)
    cv2.line(canvas, (low, high), (high, low), (200, 200, 200), 1, cv2.LINE_AA)
    dots = []
    for said, true, count in bins(pairs):
        place = round(low + said * SIDE), round(high - true * SIDE)
        dots.append(place)
        cv2.circle(canvas, place, round(3 + 12 * np.sqrt(count / len(pairs))), (170, 90, 20), -1, cv2.LINE_AA)
    cv2.polylines(canvas, [np.array(dots, np.int32).reshape(-1, 1, 2)], False, (170, 90, 20), 1, cv2.LINE_AA)
    text = cv2.FONT_HERSHEY_SIMPLEX
    title = f"{name}: error {error(pairs):.3f}, n = {len(pairs)}"
    cv2.putText(canvas, title, (low, low - 12), text, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, "predicted", (low, high + 25), text, 0.4, (90, 90, 90), 1, cv2.LINE_AA)
    cv2.putText(canvas, "true", (4, low + 10), text, 0.4, (90, 90, 90), 1, cv2.LINE_AA)
    return canvas
