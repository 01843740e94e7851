"""The formats that carry masks, read by the tools that they are for."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from sam_service.client import SamClient, VideoSession
from sam_service.export.davis import PALETTE
from sam_service.export.polygons import one_polygon
from sam_service.export.yolo import outline
from sam_service.local import local_service
from sam_service.masks.png import decode_png
from sam_service.masks.polygons import mask_to_polygons

from tests.export.conftest import NAMES
from tests.export.support import Mask, export, parsed, refused, stored, unzipped
from tests.support import iou, settings

PYCOCOTOOLS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own, with NumPy 2


@pytest.fixture(scope="module")
def small(clip: Path) -> Iterator[VideoSession]:
    """A session whose frames have half the size of the video: 320 x 180 of 640 x 360; every third frame."""
    with local_service(settings(max_frame_dimension=320)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=5, start_frame=2, frame_stride=3) as video:
            video.add_object(points=[[75, 100]])
            list(video.propagate())
            yield video


def test_png_holds_the_stored_masks_bit_for_bit(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="png"))
    index = json.loads(files.pop("index.json"))
    assert (index["width"], index["height"], index["fps"]) == (640, 360, pytest.approx(24, abs=0.01))
    assert [item["name"] for item in index["objects"]] == list(NAMES.values())
    assert index["objects"][0]["color"] == "#56b4e9"
    folders = {item["object_id"]: item["folder"] for item in index["objects"]}
    assert [frame["frame_idx"] for frame in index["frames"]] == list(range(10))
    assert index["frames"][6]["timestamp_s"] == pytest.approx(0.25, abs=0.01)
    assert all(0 <= item["score"] <= 1 for frame in index["frames"] for item in frame["objects"])
    assert set(files) == {f"{folder}/{frame:05d}.png" for folder in folders.values() for frame in range(10)}
    for object_id, folder in folders.items():
        for frame in (0, 4, 9):
            grey = np.asarray(Image.open(io.BytesIO(files[f"{folder}/{frame:05d}.png"])))
            assert set(np.unique(grey)) <= {0, 255}
            assert np.array_equal(grey > 0, stored(tracked, frame, object_id))


def test_davis_has_every_frame_and_later_objects_in_front(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="davis", images=True))
    assert json.loads(files["meta.json"])["videos"]["ball"]["objects"]["2"] == {"object_id": 2, "name": NAMES[2]}
    for frame in range(12):
        image = Image.open(io.BytesIO(files[f"Annotations/ball/{frame:05d}.png"]))
        assert image.mode == "P"
        labels = np.asarray(image)
        expected = np.zeros((360, 640), np.uint8)
        for object_id in (1, 2, 3) if frame < 10 else ():
            expected[stored(tracked, frame, object_id)] = object_id
        assert np.array_equal(labels, expected)
        assert files[f"JPEGImages/ball/{frame:05d}.jpg"] == tracked.frame(frame)
    colours = image.getpalette()
    assert colours is not None
    assert colours[: 3 * 4] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert PALETTE[3 * 9 : 3 * 10] + PALETTE[3 * 22 : 3 * 23] == bytes((191, 0, 0, 22, 22, 22))
    assert (stored(tracked, 0, 1) & stored(tracked, 0, 2)).any(), "the clip is to have an overlap"


def test_davis_numbers_the_chosen_objects_in_their_order(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="davis", object_ids="3,1", start_frame=2, end_frame=3))
    assert set(files) == {"meta.json", "Annotations/ball/00002.png", "Annotations/ball/00003.png"}
    labels = np.asarray(Image.open(io.BytesIO(files["Annotations/ball/00003.png"])))
    assert np.array_equal(labels == 2, stored(tracked, 3, 1))
    assert np.array_equal(labels == 1, stored(tracked, 3, 3) & ~stored(tracked, 3, 1))


@PYCOCOTOOLS
def test_coco_is_read_by_pycocotools(tracked: VideoSession, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(export(tracked, format="coco").content)
    coco = COCO(str(path))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["ball", NAMES[2]]
    assert [image["frame_index"] for image in coco.loadImgs(coco.getImgIds())] == list(range(10))
    assert coco.dataset["videos"][0] | {"fps": 24} == {
        "id": 1, "name": "ball", "width": 640, "height": 360, "length": 12, "fps": 24, "start_frame": 0, "end_frame": 11}
    for image_id in coco.getImgIds():
        image = coco.imgs[image_id]
        assert image["file_name"] == f"ball/{image['frame_index']:05d}.jpg"
        for annotation in coco.loadAnns(coco.getAnnIds([image_id])):
            mask = stored(tracked, image["frame_index"], annotation["track_id"])
            assert np.array_equal(coco.annToMask(annotation) > 0, mask)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == list(cv2.boundingRect(mask.astype(np.uint8)))
            assert annotation["category_id"] == (2 if annotation["track_id"] == 2 else 1)
            assert annotation["iscrowd"] == 0
    results = coco.loadRes(coco.dataset["annotations"])
    assert len(results.anns) == len(coco.anns) > 0


def test_an_empty_mask_is_no_annotation_and_its_frame_is_an_image(tracked: VideoSession) -> None:
    document = parsed(export(tracked, format="coco"))
    filled = {(frame, number) for frame in range(10) for number in NAMES if stored(tracked, frame, number).any()}
    assert {(item["image_id"] - 1, item["track_id"]) for item in document["annotations"]} == filled
    assert len(document["images"]) == 10


def from_polygons(polygons: list[list[float]], height: int, width: int) -> Mask:
    """Polygons painted by pycocotools."""
    if not polygons:
        return np.zeros((height, width), np.bool_)
    return np.asarray(coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, height, width))) > 0)


@PYCOCOTOOLS
def test_coco_polygons_are_the_masks_in_one_piece_each(tracked: VideoSession) -> None:
    document = parsed(export(tracked, format="coco", segmentation="polygon"))
    exact = parsed(export(tracked, format="coco"))
    assert [{**item, "segmentation": None} for item in document["annotations"]] \
        == [{**item, "segmentation": None} for item in exact["annotations"]], "area and box are those of the mask"
    coco = COCO()
    coco.dataset = document
    coco.createIndex()
    for image_id in coco.getImgIds():
        for annotation in coco.loadAnns(coco.getAnnIds([image_id])):
            assert len(annotation["segmentation"]) == 1, "Label Studio's converter reads no second polygon"
            mask = stored(tracked, image_id - 1, annotation["track_id"])
            assert iou(coco.annToMask(annotation) > 0, mask) > 0.98


@PYCOCOTOOLS
def test_a_polygon_in_one_piece_keeps_holes_and_parts() -> None:
    mask = np.zeros((90, 120), np.bool_)
    mask[20:80, 30:90], mask[40:60, 50:70], mask[5:10, 100:110], mask[0, 0] = True, False, True, True
    painted = from_polygons([one_polygon(mask)], 90, 120)
    assert np.array_equal(painted, from_polygons(mask_to_polygons(mask), 90, 120)), "bridges have no width"
    assert iou(painted, mask) > 0.99
    assert one_polygon(np.zeros((4, 4), np.bool_)) == []


@PYCOCOTOOLS
def test_of_very_many_parts_none_is_lost() -> None:
    mask = np.zeros((200, 300), np.bool_)
    mask[::3, ::3] = True
    mask[90:120, 90:120], mask[95:105, 95:105] = True, False
    rings = [np.asarray(polygon).reshape(-1, 2) for polygon in mask_to_polygons(mask)]
    assert len(rings) > 5000
    polygon = one_polygon(mask)
    assert len(polygon) // 2 < sum(map(len, rings)) + 2 * len(rings) + 1
    assert np.array_equal(from_polygons([polygon], 200, 300), from_polygons(mask_to_polygons(mask), 200, 300))


def label_studio_items(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What Label Studio's converter makes of COCO: of each annotation its first polygon, in percent of the picture; here its
    label and its area in pixels. It reads nothing but lists of numbers as segmentation (label-studio-converter 0.0.59)."""
    names = {item["id"]: item["name"] for item in document["categories"]}
    images = {item["id"]: item for item in document["images"]}
    for annotation in document["annotations"]:
        points = [float(number) for number in annotation["segmentation"][0]]
        image = images[annotation["image_id"]]
        percents = np.array(points).reshape(-1, 2) / (image["width"], image["height"]) * 100
        assert ((percents >= 0) & (percents <= 100)).all()
        x, y = np.array(points).reshape(-1, 2).T
        yield names[annotation["category_id"]], abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_coco_polygons_are_whole_for_label_studio(tracked: VideoSession) -> None:
    document = parsed(export(tracked, format="coco", segmentation="polygon"))
    items = list(label_studio_items(document))
    assert len(items) == len(document["annotations"]) > 10
    for (label, area), annotation in zip(items, document["annotations"], strict=True):
        assert label == NAMES[annotation["track_id"]]
        assert area == pytest.approx(annotation["area"], rel=0.02)


CONVERTER = shutil.which("label-studio-converter")


@pytest.mark.skipif(CONVERTER is None, reason="label-studio-converter is not installed; the reader above stands in")
def test_label_studios_converter_reads_coco_polygons(tracked: VideoSession, tmp_path: Path) -> None:
    """Its tasks show each object where it is: polygons in percent, painted again."""
    assert CONVERTER is not None
    (tmp_path / "coco.json").write_bytes(export(tracked, format="coco", segmentation="polygon").content)
    subprocess.run([CONVERTER, "import", "coco", "-i", tmp_path / "coco.json", "-o", tmp_path / "tasks.json"], check=True,
                   capture_output=True, timeout=120)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 10
    document = parsed(export(tracked, format="coco", segmentation="polygon"))
    for frame, task in enumerate(tasks):
        assert task["data"]["image"].endswith(f"ball/{frame:05d}.jpg")
        numbers = [item["track_id"] for item in document["annotations"] if item["image_id"] == frame + 1]
        results = [item for item in task["annotations"][0]["result"] if item["type"] == "polygonlabels"]
        assert len(results) == len(numbers)
        for result, number in zip(results, numbers, strict=True):
            points = np.array(result["value"]["points"]) / 100 * (result["original_width"], result["original_height"])
            painted = np.zeros((360, 640), np.uint8)
            cv2.fillPoly(painted, [np.round(points).astype(np.int32)], 1)
            assert iou(painted > 0, stored(tracked, frame, number)) > 0.9


@PYCOCOTOOLS
def test_labelme_has_a_document_with_polygons_for_each_frame(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="labelme", images=True))
    assert set(files) == {f"ball/{frame:05d}.{ending}" for frame in range(10) for ending in ("json", "jpg")}
    for frame in range(10):
        document = json.loads(files[f"ball/{frame:05d}.json"])
        assert set(document) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
        assert (document["imageWidth"], document["imageHeight"], document["imageData"]) == (640, 360, None)
        assert files[f"ball/{document['imagePath']}"] == tracked.frame(frame), "labelme finds the picture by this path"
        for number, name in NAMES.items():
            shapes = [shape for shape in document["shapes"] if shape["group_id"] == number]
            assert {(shape["label"], shape["shape_type"]) for shape in shapes} <= {(name, "polygon")}
            assert all(len(point) == 2 for shape in shapes for point in shape["points"])
            polygons = [[value for point in shape["points"] for value in point] for shape in shapes]
            assert iou(from_polygons(polygons, 360, 640), stored(tracked, frame, number)) > 0.98
    assert len(unzipped(export(tracked, format="labelme"))) == 10, "no pictures unless asked for"


def polygons_of(label: str) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.float64]]]]:
    """The lines of a label file as ultralytics documents them: class, then x y pairs as fractions, at least three."""
    for line in label.splitlines():
        first, *numbers = line.split(" ")
        assert len(numbers) >= 6
        assert len(numbers) % 2 == 0
        points = np.array([float(number) for number in numbers]).reshape(-1, 2)
        assert ((points >= 0) & (points <= 1)).all()
        yield int(first), points


def filled(points: np.ndarray[Any, np.dtype[Any]]) -> Mask:
    """A polygon in pixels painted as ultralytics does, which cuts coordinates, and as others do, who round them."""
    masks = np.zeros((2, 360, 640), np.uint8)
    for mask, whole in zip(masks, (points, np.round(points)), strict=True):
        cv2.fillPoly(mask, [whole.astype(np.int32)], 1)
    assert np.array_equal(masks[0], masks[1])
    return np.asarray(masks[0] > 0)


def test_yolo_labels_follow_the_documented_format(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="yolo", images=True))
    data = yaml.safe_load(files["data.yaml"])
    assert data["names"] == {0: "ball", 1: NAMES[2]}
    assert data["train"] == data["val"] == "images"
    assert {name for name in files if name.startswith("labels")} == {f"labels/{frame:05d}.txt" for frame in range(10)}
    for frame in range(10):
        assert files[f"images/{frame:05d}.jpg"] == tracked.frame(frame)
        objects = [number for number in NAMES if stored(tracked, frame, number).any()]
        lines = list(polygons_of(files[f"labels/{frame:05d}.txt"].decode()))
        assert [line[0] for line in lines] == [1 if number == 2 else 0 for number in objects]
        for (_, points), number in zip(lines, objects, strict=True):
            mask, painted = stored(tracked, frame, number), filled(points * (640, 360))
            assert not (mask & ~painted).any()
            parts = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
            assert parts > 1 or np.array_equal(painted, mask)


def ultralytics_folder(data_yaml: Path, split: str) -> Path:
    """Where ultralytics looks for a split's pictures, by the rule of its `check_det_dataset` (8.4): below `path`, or else below
    the folder of the YAML file; a `path` that exists is taken as it is, so a relative one starts from the working folder."""
    data = yaml.safe_load(data_yaml.read_text())
    return Path(data.get("path") or data_yaml.parent, data[split]).resolve()


def test_yolo_is_found_from_any_working_folder(tracked: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in unzipped(export(tracked, format="yolo", images=True, end_frame=1)).items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for split in ("train", "val"):
        assert ultralytics_folder(Path("../set/data.yaml"), split) == tmp_path / "set" / "images"


def test_ultralytics_itself_finds_the_data_set(tracked: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("ultralytics.data.utils", reason="ultralytics is not installed; the reader above stands in")
    for name, data in unzipped(export(tracked, format="yolo", images=True, end_frame=1)).items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert utils.check_det_dataset("../set/data.yaml")["train"] == str(tmp_path / "set" / "images")


def test_a_yolo_polygon_keeps_holes_and_parts() -> None:
    mask = np.zeros((360, 640), np.bool_)
    mask[20:80, 30:90], mask[40:60, 50:70] = True, False
    points = outline(mask)
    assert np.array_equal(filled(points), mask)
    mask[50:60, 200:220] = True
    added = filled(outline(mask)) & ~mask
    assert 0 < added.sum() <= 200 - 90, "a bridge of one pixel"
    single = np.zeros((360, 640), np.bool_)
    single[359, 639] = True
    assert len(outline(single)) == 3
    assert np.array_equal(filled(outline(single)), single)
    assert len(outline(np.zeros((4, 4), np.bool_))) == 0


def test_original_size_enlarges_masks_to_the_source(small: VideoSession) -> None:
    files = unzipped(export(small, format="png", size="original"))
    index = json.loads(files["index.json"])
    assert (index["width"], index["height"]) == (640, 360)
    assert index["fps"] == pytest.approx(8, abs=0.01)
    large = decode_png(files["masks/object 1/00003.png"])
    mask = stored(small, 3, 1)
    assert large.shape == (360, 640)
    assert iou(np.repeat(np.repeat(mask, 2, 0), 2, 1), large) > 0.97
    document = parsed(export(small, format="coco", size="original"))
    assert document["images"][0]["width"] == 640
    assert document["annotations"][0]["segmentation"]["size"] == [360, 640]


def test_original_size_takes_pictures_from_the_source(small: VideoSession, clip: Path) -> None:
    files = unzipped(export(small, format="davis", size="original", images=True, start_frame=1))
    capture = cv2.VideoCapture(str(clip))
    source = [np.asarray(capture.read()[1]) for _ in range(15)]
    for frame in range(1, 5):
        picture = cv2.imdecode(np.frombuffer(files[f"JPEGImages/ball/{frame:05d}.jpg"], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        differences = [cv2.norm(picture, other, cv2.NORM_L1) for other in source]
        assert int(np.argmin(differences)) == 2 + 3 * frame


def test_a_source_that_is_gone_is_said(clip: Path, tmp_path: Path) -> None:
    video_dir = tmp_path / "videos"
    video_dir.mkdir()
    (video_dir / "here.mp4").write_bytes(clip.read_bytes())
    with local_service(settings(sam2_video_dir=video_dir)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video_on_server("here.mp4", max_frames=3) as video:
            video.add_object(points=[[150, 200]])
            video.frame(2)
            (video_dir / "here.mp4").unlink()
            problem = refused(video, format="webm", size="original")
            assert (problem.status, problem.code) == (409, "source_gone")
            assert "size=session" in problem.fields["size"]
            assert len(unzipped(export(video, format="png", size="original"))) == 2, "masks need no source"
