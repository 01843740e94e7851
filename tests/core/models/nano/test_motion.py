"""What moves along with an object, and what first guesses make of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.core.build import build_predictor
from sam_service.core.flow import FLOW_SIDE as SIDE
from sam_service.core.flow import backward_flow, grey
from sam_service.core.frames import ClipFrame, cut
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.models.nano.motion import Places, moving_along, reference_frames
from sam_service.core.models.nano.proposal import proposals
from sam_service.core.prompts import PointPrompt

from tests.clips import texture
from tests.support import iou

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MIDDLE, CAMERA, OWN = (120, 130), (4, 1), (-5, 3)  # x, y; the camera's motion, and an object's in the scene
CLICK = np.array([MIDDLE], np.float32)


def disc(radius: int, shift: tuple[int, int] = (0, 0)) -> Mask:
    y, x = np.indices((SIDE, SIDE))
    return np.asarray(np.hypot(x - MIDDLE[0] - shift[0], y - MIDDLE[1] - shift[1]) < radius)


def scene(radius: int, *, later: bool, own: tuple[int, int] = OWN) -> Image:
    """A ground, and a disc whose colours are a little brighter, before and after both have moved."""
    ground, thing = texture(2 * SIDE, 2 * SIDE, seed=1), cv2.add(texture(2 * SIDE, 2 * SIDE, seed=2), np.full(4, 30.0))
    mask = disc(radius)
    if later:
        shift = (CAMERA[0] + own[0], CAMERA[1] + own[1])
        ground, thing = np.roll(ground, CAMERA[::-1], (0, 1)), np.roll(thing, shift[::-1], (0, 1))
        mask = disc(radius, shift)
    return np.where(mask[..., None], thing[:SIDE, :SIDE], ground[:SIDE, :SIDE])


def flow(radius: int, own: tuple[int, int] = OWN) -> NDArray[np.float32]:
    return backward_flow(grey(scene(radius, later=False)), grey(scene(radius, later=True, own=own)), SIDE)


@pytest.mark.parametrize(("index", "count", "other"), [(0, 10, 2), (7, 10, 9), (8, 10, 6), (9, 10, 7), (0, 2, 1), (1, 2, 0),
                                                       (1, 3, 2), (0, 1, None)])
def test_a_frame_is_compared_with_one_a_little_later_where_there_is_one(index: int, count: int, other: int | None) -> None:
    assert next((at for at in reference_frames(index) if at < count), None) == other


@pytest.mark.parametrize("places", [Places.of_clicks(CLICK, 1.0), Places.of_box(np.array([80, 90, 160, 170], np.float32))])
def test_what_moves_along_is_told_from_what_moves_as_the_camera_does(places: Places) -> None:
    found = moving_along(flow(40), places)
    assert found is not None
    assert (found < 0)[disc(34)].mean() > 0.95
    assert (found > 0)[~disc(52)].mean() > 0.9


def test_nothing_is_said_of_what_moves_as_the_camera_does() -> None:
    assert moving_along(flow(40, own=(0, 0)), Places.of_clicks(CLICK, 1.0)) is None


def test_nothing_is_said_where_no_background_is_left() -> None:
    everywhere = np.stack(np.meshgrid(np.arange(8, SIDE, 16), np.arange(8, SIDE, 16)), -1).reshape(-1, 2).astype(np.float32)
    assert moving_along(flow(40), Places.of_clicks(everywhere, 1.0)) is None
    assert moving_along(flow(40), Places.of_box(np.array([0, 0, SIDE - 1, SIDE - 1], np.float32))) is None


def guesses(radius: int, *, moving: bool) -> list[float]:
    """How well each first guess of a click on the disc overlaps with it."""
    image, prompt = scene(radius, later=False), PointPrompt(CLICK, np.array([1], np.int32))
    motion = moving_along(flow(radius), Places.of_clicks(CLICK, 1.0)) if moving else None
    found = proposals(lambda window: cut(image, window, SIDE, SIDE), image, SIDE, SIDE, prompt, SIDE, lambda: motion)
    return [iou(guess > 0, disc(radius)) for guess in found]


@pytest.mark.parametrize("radius", [60, 75])
def test_a_large_object_with_the_colours_of_its_surroundings_is_guessed_by_how_it_moves(radius: int) -> None:
    assert max(guesses(radius, moving=True)) > 0.9 > 0.1 > max(guesses(radius, moving=False))


def test_a_frame_is_compared_once_for_all_its_prompts() -> None:
    side, read = 128, []
    pictures = [np.asarray(cv2.resize(scene(40, later=later), (side, side)), np.uint8) for later in (False, True)]

    class Frame(ClipFrame):
        def pixels(self, index: int | None = None) -> Image:
            read.append(index)
            return super().pixels(index)

    predictor = build_predictor(image_size=side)
    bank = MemoryBank("a")
    frame = Frame(0, (side, side), lambda at: pictures[at], reference=1)
    prompts = {number: PointPrompt(np.float32(0.5) * CLICK, np.array([1], np.int32), sequence=number) for number in (1, 2)}
    outputs = predictor.step(bank, frame, prompts=prompts, num_frames=2)
    assert len(outputs) == 2 and read == [None, 1]
