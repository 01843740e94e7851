"""The Open Inference Protocol v2, with NVIDIA Triton's own client as it comes, and by hand."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.api import oip_routes
from sam_service.api.oip_wire import Flags, Part, read_request, write_response
from sam_service.client import SamClient
from sam_service.errors import ClientError, InvalidInput
from sam_service.local import local_service
from sam_service.video.picture_size import picture_size
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests import colour_family
from tests.support import settings

WIDTH, HEIGHT, CLICK = 64, 48, [[20.0, 24.0]]
MODEL = "/v2/models/sam2"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    options = settings(sam2_model_size=colour_family.register(), frame_jpeg_quality=95, max_frame_dimension=256)
    with local_service(options) as url:
        with SamClient(url) as client:
            client.wait_ready()
        yield url
    colour_family.forget()


@pytest.fixture
def triton(url: str) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def image(x: int = 20) -> NDArray[np.uint8]:
    """A red disc on grey, RGB."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cv2.circle(pixels, (x, 24), 8, (220, 40, 40), -1)
    return pixels


def encoded(x: int = 20, form: str = ".png") -> bytes:
    return cv2.imencode(form, image(x)[..., ::-1])[1].tobytes()


def tensor(name: str, value: Any, datatype: str, *, binary: bool = True) -> InferInput:
    array = np.asarray(value) if datatype == "BYTES" else np.asarray(value, dict(FP32=np.float32, INT32=np.int32,
                                                                                 INT64=np.int64, UINT8=np.uint8)[datatype])
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def picture(x: int = 20) -> InferInput:
    return tensor("image", np.array([encoded(x)], object), "BYTES")


def disc(result: InferResult, index: int = 0) -> float:
    """How far the centre of an object's mask is from the left, pixels."""
    masks = result.as_numpy("masks")
    assert masks.shape[1:] == (HEIGHT, WIDTH)
    assert masks[index].sum() == pytest.approx(200, abs=80)
    return float(np.argwhere(masks[index])[:, 1].mean())


def test_health_metadata_and_configuration(triton: InferenceServerClient) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("sam2") and triton.is_model_ready("sam2", "1")
    server = triton.get_server_metadata()
    assert server["name"] == "sam-service"
    assert {"binary_tensor_data", "sequence", "sequence(string_id)"} <= set(server["extensions"])
    metadata = triton.get_model_metadata("sam2")
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("sam2", ["1"], "pytorch")
    assert metadata["inputs"][:2] == [{"name": "image", "datatype": "BYTES", "shape": [1]},
                                      {"name": "points", "datatype": "FP32", "shape": [-1, 2]}]
    config = triton.get_model_config("sam2", "1")
    assert config["instance_group"] == [{"name": "sam2", "count": 1, "kind": "KIND_CPU", "gpus": []}]
    assert {item["name"]: item["data_type"] for item in config["input"]} == {
        "image": "TYPE_STRING", "points": "TYPE_FP32", "labels": "TYPE_INT32", "box": "TYPE_FP32", "object_id": "TYPE_INT64"}
    assert [item["name"] for item in config["output"]] == [item["name"] for item in metadata["outputs"]]
    assert config["parameters"]["size"]["string_value"] == "colour"


@pytest.mark.parametrize(("device", "kind", "gpus"), [("cpu", "KIND_CPU", []), ("mps", "KIND_GPU", [0]),
                                                      ("cuda", "KIND_GPU", [0]), ("cuda:1", "KIND_GPU", [1])])
def test_where_a_model_runs_in_tritons_words(device: str, kind: str, gpus: list[int]) -> None:
    group = oip_routes.instance_group(device)
    assert (group["kind"], group["gpus"]) == (kind, gpus)


@pytest.mark.parametrize("prompt", [[("points", CLICK, "FP32")], [("points", CLICK, "FP32"), ("labels", [1], "INT32")],
                                    [("box", [12, 16, 28, 32], "FP32")]])
def test_a_picture_is_segmented(url: str, triton: InferenceServerClient, prompt: list[tuple[str, Any, str]]) -> None:
    result = triton.infer("sam2", [picture(), *(tensor(*item) for item in prompt)], request_id="a7")
    assert disc(result) == pytest.approx(20, abs=1)
    assert result.as_numpy("object_ids").tolist() == [1]
    assert result.as_numpy("scores").dtype == np.float32 and result.as_numpy("scores").shape == (1,)
    assert result.as_numpy("boxes")[0].tolist() == pytest.approx([12, 16, 17, 17], abs=5)
    assert result.get_response()["id"] == "a7"
    with SamClient(url) as client:
        assert client.sessions() == []


def test_pixels_json_and_chosen_outputs(triton: InferenceServerClient) -> None:
    pixels, click = tensor("image", image(), "UINT8"), tensor("points", CLICK, "FP32", binary=False)
    outputs = [InferRequestedOutput("masks", binary_data=False), InferRequestedOutput("scores", binary_data=True)]
    result = triton.infer("sam2", [pixels, click], outputs=outputs)
    assert disc(result) == pytest.approx(20, abs=1)
    assert result.as_numpy("scores").tolist() == pytest.approx([0.9])
    assert result.as_numpy("boxes") is None
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(encoded()).decode()]},
                       {"name": "points", "datatype": "FP32", "shape": [1, 2], "data": [20, 24]}]}
    assert triton is not None
    answer = httpx.post(f"http://{triton._parsed_url.netloc}{MODEL}/infer", json=body).json()
    assert [item["name"] for item in answer["outputs"]] == list(oip_routes.OUTPUTS)
    assert sum(answer["outputs"][1]["data"]) == int(result.as_numpy("masks").sum())


@pytest.mark.parametrize("sequence", [7, "a-clip"])
def test_a_clip_is_tracked_frame_by_frame(url: str, triton: InferenceServerClient, sequence: int | str) -> None:
    first = triton.infer("sam2", [picture(20), tensor("points", CLICK, "FP32"), tensor("object_id", [5], "INT64")],
                         sequence_id=sequence, sequence_start=True)
    assert first.as_numpy("object_ids").tolist() == [5]
    session = first.get_response()["parameters"]["session_id"]
    for x in range(22, 40, 2):
        result = triton.infer("sam2", [picture(x)], sequence_id=sequence)
        assert disc(result) == pytest.approx(x, abs=1)
        assert result.as_numpy("frame").tolist() == [(x - 20) // 2]
    two = triton.infer("sam2", [picture(40), tensor("points", [[60, 4]], "FP32")], sequence_id=sequence)
    assert two.as_numpy("object_ids").tolist() == [5, 6]
    with SamClient(url) as client:
        live = client.session(session).state()["live"]
        assert live is not None and live["keep_frames"] == 32
        last = triton.infer("sam2", [picture(42)], sequence_id=sequence, sequence_end=True)
        assert disc(last) == pytest.approx(42, abs=1)
        assert client.sessions() == []
    with pytest.raises(InferenceServerException, match="was not started"):
        triton.infer("sam2", [picture(44)], sequence_id=sequence)


def test_a_sequence_that_starts_anew_ends_the_one_before_and_rest_sessions_are_sequences(
        url: str, triton: InferenceServerClient) -> None:
    click = tensor("points", CLICK, "FP32")
    one = triton.infer("sam2", [picture(), click], sequence_id=9, sequence_start=True)
    other = triton.infer("sam2", [picture(), click], sequence_id=9, sequence_start=True)
    assert other.as_numpy("frame").tolist() == [0]
    with SamClient(url) as client:
        ids = [item["session_id"] for item in client.sessions()]
        assert ids == [other.get_response()["parameters"]["session_id"]]
        assert one.get_response()["parameters"]["session_id"] not in ids
        triton.infer("sam2", [picture()], sequence_id=9, sequence_end=True)
        with client.live(WIDTH, HEIGHT) as live:
            live.push(encoded())
            live.add_object(points=CLICK, frame_idx="latest")
            assert disc(triton.infer("sam2", [picture(24)], sequence_id=live.session_id)) == pytest.approx(24, abs=1)


@pytest.mark.parametrize(("inputs", "options", "match"), [
    ([], {}, "image"), ([picture()], {}, "points"),
    ([picture(), tensor("points", [[900, 24]], "FP32")], {}, "outside"),
    ([picture(), tensor("points", [[1, 2, 3]], "FP32")], {}, r"\[n, 2\]"),
    ([picture(), tensor("points", [[np.nan, 2]], "FP32")], {}, "finite"),
    ([picture(), tensor("labels", [1], "INT32")], {}, "points"),
    ([picture(), tensor("points", CLICK, "FP32"), tensor("labels", [0], "INT32")], {}, "positive"),
    ([picture(), tensor("box", [1, 2, 3], "FP32")], {}, r"\[4\]"),
    ([picture(), tensor("points", CLICK, "FP32"), tensor("object_id", [-1], "INT64")], {}, "object_id"),
    ([picture(), tensor("clicks", CLICK, "FP32")], {}, "clicks"),
    ([tensor("image", np.array([b"text"], object), "BYTES"), tensor("points", CLICK, "FP32")], {}, "JPEG"),
    ([tensor("image", np.array([encoded()[:-40]], object), "BYTES"), tensor("points", CLICK, "FP32")], {}, "decoded"),
    ([tensor("image", np.array([encoded(), encoded()], object), "BYTES"), tensor("points", CLICK, "FP32")], {}, "one picture"),
    ([tensor("image", np.zeros((300, 40, 3)), "UINT8"), tensor("points", CLICK, "FP32")], {}, "MAX_FRAME_DIMENSION"),
    ([tensor("image", np.zeros((30, 40)), "UINT8"), tensor("points", CLICK, "FP32")], {}, "width, 3"),
    ([picture(), tensor("points", CLICK, "FP32")], {"outputs": [InferRequestedOutput("depth")]}, "depth"),
    ([picture(), tensor("points", CLICK, "FP32")], {"outputs": [InferRequestedOutput("masks", class_count=2)]}, "parameter"),
    ([picture(), tensor("points", CLICK, "FP32")], {"sequence_start": True}, None),
    ([picture()], {"sequence_id": 77}, "not started"),
    ([picture(), tensor("points", CLICK, "FP32")], {"request_compression_algorithm": "gzip"}, "uncompressed"),
])
def test_what_cannot_be_inferred_is_said_in_one_sentence(url: str, triton: InferenceServerClient, inputs: list[InferInput],
                                                         options: dict[str, Any], match: str | None) -> None:
    if match is None:  # the client leaves the start of no sequence out
        assert disc(triton.infer("sam2", inputs, **options)) == pytest.approx(20, abs=1)
    else:
        with pytest.raises(InferenceServerException, match=match):
            triton.infer("sam2", inputs, **options)
    with SamClient(url) as client:
        assert client.sessions() == []


def test_a_wrong_prompt_in_a_sequence_pushes_nothing(triton: InferenceServerClient) -> None:
    triton.infer("sam2", [picture(), tensor("points", CLICK, "FP32")], sequence_id=3, sequence_start=True)
    with pytest.raises(InferenceServerException, match="outside"):
        triton.infer("sam2", [picture(), tensor("points", [[900, 1]], "FP32")], sequence_id=3)
    assert triton.infer("sam2", [picture()], sequence_id=3, sequence_end=True).as_numpy("frame").tolist() == [1]


def test_other_models_and_versions_are_not_there(triton: InferenceServerClient) -> None:
    assert not triton.is_model_ready("sam3")
    with pytest.raises(InferenceServerException, match="sam3"):
        triton.get_model_metadata("sam3")
    with pytest.raises(InferenceServerException, match="version"):
        triton.get_model_config("sam2", "2")


BAD: list[tuple[bytes, str | None]] = [
    (b"{", None), (b"[]", None), (b"{}", None), (b'{"inputs": {}}', None), (b'{"inputs": [1]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [2], "data": [1]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [-1], "data": []}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [99999, 99999, 99999], "data": []}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "COMPLEX", "shape": [1], "data": [1]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "INT32", "shape": [1], "data": [1.5]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1], "data": [300]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1], "data": ["x"]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [[1], [2, 3]]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "BYTES", "shape": [1], "data": ["?"]}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}', None),
    (b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 3}}]}abc', "86"),
    (b'{"inputs": [{"name": "a", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}'
     b"\xff\x00\x00\x00a", "87"),
    (b'{"inputs": []}rest', "14"), (b'{"inputs": []}', "15"), (b'{"inputs": []}', "-1"), (b'{"inputs": []}', "x"),
    (b'{"inputs": [], "id": 5}', None), (b'{"inputs": [], "parameters": 5}', None), (b"[" * 100_000, None),
]


@pytest.mark.parametrize(("body", "length"), BAD)
def test_a_body_that_makes_no_sense_is_refused(url: str, body: bytes, length: str | None) -> None:
    if length is not None and length.isdigit() and b'"parameters": {' in body:
        length = str(body.index(b"]}", body.index(b"}}")) + 2)
    with pytest.raises((ClientError, InvalidInput)):
        read_request(body, length)
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    answer = httpx.post(f"{url}{MODEL}/infer", content=body, headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert list(answer.json()) == ["error"]


def whole(parts: list[Part]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part() for part in parts)


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_masks_are_written_one_at_a_time(objects: int) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (objects, 4, 5), np.uint8)
    made: list[int] = []

    def piece(at: int) -> NDArray[np.uint8]:
        made.append(at)
        return np.asarray(masks[at], np.uint8)

    flags = Flags(20, [functools.partial(piece, at) for at in range(objects)])
    outputs: list[tuple[str, str, Any, Any]] = [("masks", "UINT8", flags, masks.shape), ("frame", "INT64", np.array([7]), (1,))]
    for binary in ({"masks": False, "frame": False}, {"masks": True, "frame": False}, {"masks": False, "frame": True}):
        parts, length, head = write_response({"id": '"]}'}, outputs, binary)
        assert not made
        body = whole(parts)
        assert len(body) == length and made == list(range(objects))
        made.clear()
        document = json.loads(body[:head])
        assert document["id"] == '"]}'
        written = document["outputs"][0]
        data = np.frombuffer(body[head:], np.uint8) if binary["masks"] else np.array(written["data"], np.uint8)
        assert written["shape"] == [objects, 4, 5] and np.array_equal(data, masks.ravel())
        assert written.get("parameters") == ({"binary_data_size": masks.size} if binary["masks"] else None)
        if not binary["frame"]:
            assert document["outputs"][1]["data"] == [7]
        else:
            assert body[head:] == (7).to_bytes(8, "little")


def test_masks_of_a_large_answer_are_not_all_in_memory() -> None:
    flags = Flags(2 << 20, [lambda: np.ones((1024, 2048), np.uint8)] * 32)
    tracemalloc.start()
    try:
        parts, length, _ = write_response({}, [("masks", "UINT8", flags, (32, 1024, 2048))], {"masks": False})
        written = sum(len(part if isinstance(part, bytes) else part()) for part in parts)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert written == length > 128 << 20


HALF = json.dumps("\ud800").encode()
IMAGE = b'{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["' + base64.b64encode(encoded()) + b'"]}'
POINTS = b'{"name": "points", "datatype": "FP32", "shape": [1, 2], "data": [20, 24]}'


def scalar(name: str, datatype: str, value: str) -> bytes:
    return f'{{"name": "{name}", "datatype": "{datatype}", "shape": [1], "data": [{value}]}}'.encode()


@pytest.mark.parametrize(("inputs", "said"), [
    (b'{"name": ' + HALF + b', "datatype": "X", "shape": [1], "data": [1]}', "datatype"),
    (b'{"name": ' + HALF + b', "datatype": "FP32", "shape": [1], "data": [1]}', "no input"),
    (scalar("labels", "FP32", "1.9"), "whole"), (scalar("labels", "FP32", "0.5"), "whole"),
    (scalar("labels", "BOOL", "5"), "BOOL"), (scalar("object_id", "FP64", "1.7"), "whole"),
    (scalar("object_id", "FP32", "-0.5"), "whole")])
def test_what_an_input_cannot_be_is_said(url: str, inputs: bytes, said: str) -> None:
    answer = httpx.post(f"{url}{MODEL}/infer", content=b'{"inputs": [' + b", ".join((IMAGE, POINTS, inputs)) + b"]}")
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]


@pytest.mark.parametrize("where", ['"parameters": {"binary_data_output": "no"}',
                                   '"outputs": [{"name": "masks", "parameters": {"binary_data": 1}}]'])
def test_a_flag_is_true_or_false(url: str, where: str) -> None:
    body = b'{"inputs": [' + IMAGE + b", " + POINTS + b"], " + where.encode() + b"}"
    answer = httpx.post(f"{url}{MODEL}/infer", content=body)
    assert answer.status_code == 422 and "true or false" in answer.json()["error"]


@pytest.mark.parametrize("shape", [(1, 1_100_000, 3), (1_100_000, 1, 3)])
def test_pixels_that_no_picture_can_have_are_refused(triton: InferenceServerClient, shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceServerException, match="16384"):
        triton.infer("sam2", [tensor("image", np.zeros(shape), "UINT8"), tensor("points", CLICK, "FP32")])


def test_a_tensor_of_bytes_has_few_elements() -> None:
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [5000],
                                   "parameters": {"binary_data_size": 20_000}}]}).encode()
    with pytest.raises(InvalidInput, match="1024"):
        read_request(head + bytes(20_000), str(len(head)))


def test_tensors_come_back_as_they_went() -> None:
    values: list[tuple[str, str, Any, Any]] = [
        ("a", "FP32", np.array([[1.5, 2]], np.float32), (1, 2)), ("b", "BYTES", [b"x", b""], (2,)),
        ("c", "BOOL", np.array([True, False]), (2,))]
    for binary in (True, False):
        parts, length, head = write_response({}, values, dict.fromkeys("abc", binary))
        body = whole(parts)
        assert len(body) == length
        request = body.replace(b'"outputs"', b'"inputs" ')
        found = read_request(request, None if head is None else str(head)).inputs
        assert np.array_equal(found["a"], values[0][2])
        assert found["b"] == values[1][2]
        assert np.array_equal(found["c"], values[2][2])


@pytest.mark.parametrize(("form", "lossless"), [(".png", 0), (".jpg", 0), (".webp", 0), (".webp", 101)])
def test_the_size_of_a_picture_is_read_from_its_head(form: str, lossless: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
    data = cv2.imencode(form, pixels, (cv2.IMWRITE_WEBP_QUALITY, lossless) if lossless else ())[1].tobytes()
    assert picture_size(data) == (53, 37)
    for cut in range(40):
        with contextlib.suppress(ClientError):
            picture_size(data[:cut])
