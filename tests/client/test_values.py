"""What a prompt may be handed over as: lists, NumPy arrays and scalars, tensors; and what is refused before it is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sam_service.client import AsyncSamClient, InvalidArgument, SamClient, VideoSession
from sam_service.client.calls import add_object
from sam_service.client.values import mask_pixels, plain, prompt_fields
from sam_service.demo_clip import CLICK, RADIUS

from tests.support import iou

Y, X = np.mgrid[0:360, 0:640]
BALL = np.hypot(X - CLICK[0], Y - CLICK[1]) <= RADIUS
SOFT = np.clip(RADIUS + 0.5 - np.hypot(X - CLICK[0], Y - CLICK[1]), 0, 1)


@pytest.mark.parametrize("mask", [
    BALL, BALL.astype(np.uint8), BALL.astype(np.uint8) * 255, BALL.astype(np.int64), BALL.astype(np.float32),
    BALL.astype(np.float16) * 255, BALL[None], BALL[None, None], BALL[:, :, None], BALL.tolist(), torch.from_numpy(BALL),
    torch.from_numpy(BALL)[None].float().requires_grad_(), torch.from_numpy(BALL).to(torch.bfloat16),
])
def test_a_mask_is_bool_0_and_1_or_0_and_255_of_any_kind(mask: Any) -> None:
    assert np.array_equal(mask_pixels(mask), BALL)


@pytest.mark.parametrize("mask", [SOFT, SOFT.astype(np.float16), np.round(SOFT * 255).astype(np.uint8)])
def test_of_a_soft_mask_counts_what_is_above_half_of_the_maximum(mask: Any) -> None:
    assert np.array_equal(mask_pixels(mask), mask > np.array(0.5 if mask.dtype.kind == "f" else 127))
    assert iou(mask_pixels(mask), BALL) > 0.98


def test_all_and_nothing_are_masks() -> None:
    for value in (True, 1, 1.0, np.uint8(255)):
        assert mask_pixels(np.full((4, 6), value)).all()
    for value in (False, 0, 0.0):
        assert not mask_pixels(np.full((4, 6), value)).any()


@pytest.mark.parametrize(("mask", "told"), [
    (np.where(BALL, 8.0, -8.0), r"logits > 0"),
    (torch.from_numpy(np.where(BALL, 8.0, -8.0)), r"logits > 0"),
    (np.where(BALL, 9.5, 0.0), "fractions"),
    (np.where(BALL, np.nan, 0.0), "NaN"),
    (np.where(BALL, np.inf, 0.0), "infinite"),
    (np.where(BALL, 300, 0), "from 0 to 300"),
    (np.where(BALL, 2, 0), "label map"),
    (SOFT * 0.4, "label map"),
    (np.zeros((360, 640, 4), np.uint8), r"\(360, 640, 4\); wanted is \(height, width\)"),
    (np.zeros((2, 360, 640), np.bool_), "wanted is"),
    (np.zeros(640, np.bool_), "wanted is"),
    (np.zeros((0, 4), np.bool_), "wanted is"),
    (np.full((4, 4), "x"), "numbers"),
    (np.full((4, 4), 1j), "numbers"),
    ([[1, 0], [1]], "array"),
    (b"PNG", "numbers"),
    (object(), "numbers"),
])
def test_anything_else_is_no_mask_and_says_so(mask: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told) as wrong:
        mask_pixels(mask)
    assert wrong.value.field == "mask"
    assert str(wrong.value).startswith("mask ")
    assert isinstance(wrong.value, ValueError)


@pytest.mark.parametrize("points", [[[150, 200]], np.array([[150, 200]]), np.array([[[150.0, 200.0]]]), (150, 200),
                                    torch.tensor([[150.0, 200.0]]), [np.float32(150), np.array(200)],
                                    [torch.tensor([150, 200])]], ids=str)
@pytest.mark.parametrize("labels", [[1], np.array([1]), np.array(1), np.True_, torch.tensor([[1]]), 1, [np.uint8(1)]], ids=str)
def test_points_and_labels_are_taken_as_they_come(points: Any, labels: Any) -> None:
    fields = prompt_fields({"points": points, "labels": labels, "box": None})
    assert fields == {"points": [[150, 200]], "labels": [1]}
    assert {type(label) for label in fields["labels"]} == {int}


@pytest.mark.parametrize("box", [[1, 2, 3, 4], np.array([1, 2, 3, 4]), np.array([[1.0, 2.0, 3.0, 4.0]]),
                                 torch.tensor([[1, 2, 3, 4]]), [np.array(1), np.float32(2), torch.tensor(3), 4]], ids=str)
def test_a_box_is_four_numbers(box: Any) -> None:
    assert prompt_fields({"box": box}) == {"box": [1, 2, 3, 4]}


@pytest.mark.parametrize(("prompt", "told"), [
    ({"points": [[1, 2, 3]]}, r"^points has the shape \(1, 3\)"),
    ({"points": [[1, np.nan]]}, "^points has values that are NaN"),
    ({"points": "here"}, "^points has to hold numbers, not 'here'"),
    ({"points": [[1, 2], [3]]}, "^points cannot be read"),
    ({"points": [[1, 2]], "labels": [0.5]}, "^labels has to be 1"),
    ({"points": [[1, 2]], "labels": [[1, 0], [0, 1]]}, "^labels has the shape"),
    ({"box": [1, 2, 3]}, r"^box has the shape \(3,\)"),
    ({"box": [[1, 2], [3, 4]]}, r"^box has the shape \(2, 2\)"),
    ({"box": [1, 2, 3, float("inf")]}, "^box has values that are NaN or infinite"),
])
def test_wrong_points_and_boxes_name_the_argument(prompt: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        prompt_fields(prompt)


def test_numbers_of_any_library_become_those_of_json() -> None:
    value = {"a": np.int64(3), "b": np.array(4), "c": [np.float32(0.5), torch.tensor(2)], "d": np.bool_(True), "e": {5},
             "f": np.str_("name"), "g": None, "h": range(2)}
    assert plain(value) == {"a": 3, "b": 4, "c": [0.5, 2], "d": True, "e": [5], "f": "name", "g": None, "h": [0, 1]}
    with add_object("s", {"object_id": np.int64(3), "frame_idx": np.array(0), "points": [(1, 2)]}).arguments() as arguments:
        assert arguments["json"] == {"session_id": "s", "mask_format": "rle", "object_id": 3, "frame_idx": 0,
                                     "points": [[1, 2]]}


def test_ids_and_prompts_of_numpy_through_a_whole_session(video: VideoSession) -> None:
    three, frame = np.int64(3), np.array(2)
    clicked = video.add_object(object_id=three, points=torch.tensor([CLICK]), labels=np.array(1), name="ball")
    assert (clicked.object_id, clicked.frame_index) == (3, 0)
    assert video.refine(three, frame_idx=frame, points=np.array([[5.0, 5.0]]), labels=np.array([0])).frame_index == 2
    frames = list(video.propagate(object_ids=np.array([3]), start_frame=np.int32(0), end_frame=frame))
    assert [item.index for item in frames] == [0, 1, 2]
    assert video.masks(frame).masks[3].area == frames[2].masks[3].area
    assert video.frame(np.int64(1))[:2] == b"\xff\xd8"
    assert video.rename(three, np.str_("cup"))["name"] == "cup"
    assert video.clear_prompts(object_id=three, frame_idx=frame) == 1
    video.remove_object(three)
    assert video.state()["objects"] == []


@pytest.mark.parametrize("mask", [BALL.astype(np.float32), np.where(BALL, 255, 0).astype(np.uint8)[None],
                                  torch.from_numpy(SOFT)[None]])
def test_a_mask_of_any_kind_is_the_object_on_its_frame(video: VideoSession, mask: Any) -> None:
    assert iou(video.add_object(mask=mask).mask, BALL) > 0.9


def test_logits_are_refused_and_nothing_is_sent(client: SamClient, video: VideoSession) -> None:
    with pytest.raises(InvalidArgument, match="logits > 0"):
        video.add_object(mask=np.where(BALL, 8.0, -8.0))
    assert video.state()["objects"] == []


@pytest.mark.parametrize("address", ["localhost:8002", "gpu", "", "http://", "ftp://gpu", "http://::1:8002", "http://gpu:99999"])
@pytest.mark.parametrize("kind", [SamClient, AsyncSamClient])
def test_an_address_that_is_none_is_refused(address: str, kind: type[Any]) -> None:
    with pytest.raises(InvalidArgument, match="^base_url "):
        kind(address)
