"""A tracked session that the tests of exports share: three objects, masks on frames 0 to 9 of 12."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import CLICK, RADIUS
from sam_service.masks.png import encode_png

NAMES = {1: "ball", 2: "../täg: patch", 3: "ball"}


@pytest.fixture(scope="session")
def tracked(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """1 the ball; 2 a mask prompt with a hole, in two parts, that overlaps the ball on frame 0; 3 a box, named as 1 is."""
    with client.open_video(clip, max_frames=12) as video:
        x, y = CLICK
        video.add_object(box=[x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS], name=NAMES[1])
        patch = np.zeros((360, 640), np.bool_)
        patch[180:340, 140:300], patch[230:280, 200:250], patch[20:80, 500:600] = True, False, True
        video.add_object(mask=base64.b64encode(encode_png(patch)).decode(), name=NAMES[2])
        video.add_object(box=[400, 200, 520, 300], name=NAMES[3])
        assert len(list(video.propagate(end_frame=9))) == 10
        yield video
