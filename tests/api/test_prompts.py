"""Adding, refining and removing objects."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK, RADIUS
from sam_service.masks.png import decode_png, encode_png, to_base64
from sam_service.masks.rle import decode_rle

from tests.support import iou

BOX = [CLICK[0] - RADIUS, CLICK[1] - RADIUS, CLICK[0] + RADIUS, CLICK[1] + RADIUS]


def ball() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The truth on frame 0."""
    y, x = np.mgrid[0:360, 0:640]
    return np.asarray(np.hypot(x - CLICK[0], y - CLICK[1]) <= RADIUS)


def post(video: VideoSession, path: str, **body: Any) -> Any:
    return video.client.call("POST", path, json={"session_id": video.session_id, **body})


def test_a_click_answers_the_contract(video: VideoSession) -> None:
    answer = post(video, "/add-object", points=[list(CLICK)], labels=[1])
    assert set(answer) >= {"session_id", "frame_idx", "object_id", "mask", "mask_format", "score", "object_score", "area",
                           "bbox", "elapsed_ms"}
    mask = decode_png(base64.b64decode(answer["mask"]))
    assert mask.shape == (360, 640)
    assert answer["area"] == mask.sum()
    assert (answer["frame_idx"], answer["object_id"], answer["mask_format"]) == (0, 1, "png")
    assert 0 <= answer["score"] <= 1
    assert 0 <= answer["object_score"] <= 1
    x, y, width, height = answer["bbox"]
    assert mask[y:y + height, x:x + width].sum() == mask.sum()
    stored = video.client.http.get(f"/sessions/{video.session_id}/masks/0/1")
    assert stored.headers["content-type"] == "image/png"
    assert (decode_png(stored.content) == mask).all()


def test_a_box_finds_the_ball(video: VideoSession) -> None:
    assert iou(video.add_object(box=BOX).mask, ball()) > 0.6


def test_a_click_on_the_last_frame(video: VideoSession) -> None:
    """What moves is seen from the frames before it."""
    video.add_object(points=[list(CLICK)])
    tracked = list(video.propagate())[23].masks[1]
    assert tracked.bbox is not None
    left, top, width, height = tracked.bbox
    last = video.add_object(points=[[left + width / 2, top + height / 2]], frame_idx=23)
    assert iou(last.mask, tracked.mask) > 0.6


@pytest.mark.parametrize("frames", [1, 2])
def test_a_click_where_there_is_little_or_nothing_to_compare_with(client: SamClient, clip: Path, frames: int) -> None:
    with client.open_video(clip, max_frames=frames) as short:
        assert iou(short.add_object(points=[list(CLICK)]).mask, ball()) > 0.6


def test_a_box_with_points(video: VideoSession) -> None:
    assert iou(video.add_object(box=BOX, points=[list(CLICK)], labels=[1]).mask, ball()) > 0.6


def test_a_mask_is_taken_as_it_is(video: VideoSession) -> None:
    answer = video.add_object(mask=to_base64(encode_png(ball())))
    assert (answer.mask == ball()).all()
    first = next(iter(video.propagate()))
    assert first.index == 0 and (first.masks[1].mask == ball()).all()


@pytest.mark.parametrize("side", [1, 3, 6])
def test_a_small_mask_is_its_own_answer_and_never_becomes_empty(video: VideoSession, side: int) -> None:
    mask = np.zeros((360, 640), np.bool_)
    mask[int(CLICK[1]):int(CLICK[1]) + side, int(CLICK[0]):int(CLICK[0]) + side] = True
    answer = video.add_object(mask=to_base64(encode_png(mask)))
    assert (answer.mask == mask).all() and answer.object_score is not None and answer.object_score > 0.5
    assert (next(iter(video.propagate())).masks[1].mask == mask).all()
    assert answer.object_score > 0.99


def test_normalized_coordinates_are_fractions(video: VideoSession) -> None:
    pixels = video.add_object(points=[list(CLICK)])
    fractions = video.add_object(points=[[CLICK[0] / 640, CLICK[1] / 360]], normalized=True)
    assert (pixels.mask == fractions.mask).all()
    assert fractions.object_id == pixels.object_id + 1


@pytest.mark.parametrize("mask_format", ["png", "rle", "polygons", "none"])
def test_mask_formats(video: VideoSession, mask_format: str) -> None:
    answer = post(video, "/add-object", points=[list(CLICK)], mask_format=mask_format)
    match mask_format:
        case "none":
            assert answer["mask"] is None
        case "rle":
            assert answer["mask"]["size"] == [360, 640]
            assert decode_rle(answer["mask"]).sum() == answer["area"]
        case "polygons":
            assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in answer["mask"])


def test_refining_adds_points_and_starts_from_the_mask_so_far(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    video.refine(1, points=[[CLICK[0], CLICK[1] + 20]], labels=[1])
    video.refine(1, points=[[500, 100]], labels=[0])
    prompts = video.state()["prompts"][0]
    assert len(prompts["points"]) == 3
    assert prompts["labels"] == [1, 1, 0]


def test_replace_starts_over(video: VideoSession) -> None:
    first = video.add_object(points=[list(CLICK)])
    video.refine(1, points=[[400, 100]], labels=[1])
    again = video.refine(1, points=[list(CLICK)], labels=[1], replace=True)
    assert (again.mask == first.mask).all()
    assert video.state()["prompts"][0]["points"] == [list(CLICK)]


def test_replacing_the_only_prompt_by_negative_clicks_is_refused(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    with pytest.raises(ServiceProblem) as refused:
        video.refine(1, points=[[10, 10]], labels=[0], replace=True)
    assert "labels" in refused.value.fields


def test_object_ids_up_to_the_limit(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)], object_id=2**31 - 1)
    assert video.add_object(points=[list(CLICK)]).object_id == 1
    assert len(video.state()["objects"]) == 2
    video.remove_object(2**31 - 1)


def test_remove_object(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    video.add_object(points=[[400, 100]])
    video.remove_object(1)
    assert [state["object_id"] for state in video.state()["objects"]] == [2]
    assert video.client.http.get(f"/sessions/{video.session_id}/masks/0/1").status_code == 404
    assert video.add_object(points=[list(CLICK)]).object_id == 3


def test_clear_prompts_of_one_frame_and_of_all(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    video.refine(1, points=[[200, 200]], labels=[1], frame_idx=5)
    video.add_object(points=[[400, 100]])
    assert post(video, "/clear-prompts", object_id=1, frame_idx=5)["cleared"] == 1
    assert video.state()["objects"][0]["prompted_frames"] == [0]
    assert post(video, "/clear-prompts")["cleared"] == 2
    assert [state["prompted_frames"] for state in video.state()["objects"]] == [[], []]
    assert video.state()["frames_with_masks"] == []
    with pytest.raises(ServiceProblem) as refused:
        list(video.propagate())
    assert refused.value.code == "nothing_to_propagate"
    video.refine(1, points=[list(CLICK)], labels=[1])
    assert len(list(video.propagate(end_frame=2))) == 3
