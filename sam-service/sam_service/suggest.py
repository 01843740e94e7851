"""Where to click when nobody says so: on something that moves against its background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.client import SamClient, ServiceProblem, VideoSession

SIDE = 256
CANDIDATES = 6
LATER_FRAMES = (4, 8)
TRIED_FRAMES = 16  # over which each candidate is tracked
LEAST_SHARE, MOST_SHARE = 0.002, 0.4  # of the frame
MOST_CONTRAST = 3.0  # in motion, between a mask and the rest
GOOD_SHARE = 0.01  # of the frame; smaller ones count for less
CUT_OFF = 0.5  # what a mask counts for that the edge of the frame cuts off


def suggest_point(client: SamClient, video: Path) -> tuple[float, float]:
    """A point [x, y] in pixels on frame 0 of a video, tried out in a short session of its own."""
    with client.open_video(video, max_frames=TRIED_FRAMES) as session:
        return _best_point(session)


def _best_point(session: VideoSession) -> tuple[float, float]:
    """Of the places that move most, the one with the best mask of a sensible size, on frame 0 and tracked on."""
    motion = _motion(session)
    points, rates = {}, {}
    for number, (x, y) in enumerate(_peaks(motion), 1):
        point = ((x + 0.5) * session.width / SIDE, (y + 0.5) * session.height / SIDE)
        found = session.add_object(points=[point], labels=[1], object_id=number)
        share = found.area / (session.width * session.height)
        if not LEAST_SHARE <= share <= MOST_SHARE:
            session.remove_object(number)
            continue
        points[number], rates[number] = point, _rate(found.mask, motion) * found.score * min(1.0, share / GOOD_SHARE) ** 0.5
    if not points:
        return session.width / 2, session.height / 2
    for _ in session.propagate(masks=False):
        pass
    for number, track in session.tracks().items():
        steady = float(track.area.min() / max(1, track.area.max()))
        rates[number] *= float((track.score * track.object_score).mean()) * steady
    return points[max(rates, key=lambda number: rates[number])]


def _rate(mask: NDArray[np.bool_], motion: NDArray[np.float32]) -> float:
    """How much more a mask (H, W) moves than the rest; less where the edge of the frame cuts it off."""
    inside = cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0
    contrast = float(motion[inside].mean() / (motion[~inside].mean() + 1e-3)) if inside.any() else 0.0
    edges = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    return min(contrast, MOST_CONTRAST) * (CUT_OFF if edges else 1.0)


def _motion(session: VideoSession) -> NDArray[np.float32]:
    """(SIDE, SIDE) how much each place of frame 0 changes, once the camera's own motion is taken out."""
    first = _grey(session.frame(0))
    total = np.zeros((SIDE, SIDE), np.float32)
    for index in LATER_FRAMES:
        try:
            later = _grey(session.frame(index))
        except ServiceProblem:
            break  # the clip is shorter
        transform = np.eye(2, 3, dtype=np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
        try:
            _, found = cv2.findTransformECC(first, later, transform, cv2.MOTION_AFFINE, criteria)
        except cv2.error:
            found = transform  # no alignment found: a still camera is assumed
        aligned = cv2.warpAffine(later, found, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                 borderMode=cv2.BORDER_REPLICATE)
        total += cv2.absdiff(first, aligned).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(total, (0, 0), 4), np.float32)


def _grey(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _peaks(motion: NDArray[np.float32]) -> Sequence[tuple[int, int]]:
    """The strongest places as (x, y), apart from one another; always at least the centre."""
    remaining = motion.copy()
    margin = SIDE // 20
    remaining[:margin], remaining[-margin:], remaining[:, :margin], remaining[:, -margin:] = 0, 0, 0, 0
    peaks = []
    for _ in range(CANDIDATES):
        y, x = np.unravel_index(int(remaining.argmax()), remaining.shape)
        if remaining[y, x] <= 0:
            break
        peaks.append((int(x), int(y)))
        cv2.circle(remaining, (int(x), int(y)), SIDE // 10, (0.0,), -1)
    return peaks or [(SIDE // 2, SIDE // 2)]
