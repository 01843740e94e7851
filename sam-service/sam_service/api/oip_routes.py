"""The Open Inference Protocol v2 over HTTP, for clients of NVIDIA Triton and KServe: one model, `sam2`.

A call without a sequence segments one picture. With `sequence_id` (Triton's sequence extension) each call is the next picture
of a clip: a frame pushed to a live session. `docs/triton.md` shows both.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from sam_service import __version__
from sam_service.api import oip_wire as wire
from sam_service.api.deps import ServicesDep
from sam_service.api.problems import problem_of
from sam_service.errors import InvalidInput, NotFound, ServiceError, TooLarge
from sam_service.masks.rle import decode_rle, rle_bbox
from sam_service.schemas import MAX_ID
from sam_service.sessions.prompts import PromptInput
from sam_service.sessions.render import as_rle
from sam_service.sessions.sequences import MAX_SEQUENCE_ID, Answered, Asked, Sequence

NAME, VERSION = "sam2", "1"
MAX_SIDE = 16384  # pixels, as of every picture
EXTENSIONS = ["binary_tensor_data", "model_configuration", "parameters", "sequence", "sequence(string_id)"]
Tensors = Mapping[str, tuple[str, list[int], str]]
INPUTS: Tensors = {
    "image": (wire.BYTES, [1], "a JPEG, PNG or WebP; in JSON as base64. Also taken: UINT8 [height, width, 3], RGB"),
    "points": ("FP32", [-1, 2], "clicks (x, y), pixels"),
    "labels": ("INT32", [-1], "for each point 1 (object) or 0 (not the object); all 1 if absent"),
    "box": ("FP32", [4], "x0, y0, x1, y1, pixels"),
    "object_id": ("INT64", [1], "which object the prompt is of; a new one if absent"),
}
OUTPUTS: Tensors = {
    "object_ids": ("INT64", [-1], "the objects"),
    "masks": ("UINT8", [-1, -1, -1], "for each object a mask (height, width), 1 where it is"),
    "scores": ("FP32", [-1], "predicted IoU, 0 to 1"),
    "object_scores": ("FP32", [-1], "probability that the object is in the picture"),
    "boxes": ("INT32", [-1, 4], "x, y, width, height, pixels; zeros for an empty mask"),
    "frame": ("INT64", [1], "number of the picture in its sequence, from 0"),
}


class OipRoute(APIRoute):
    """A route that answers failures as this protocol has them: `{"error": "one sentence"}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ServiceError as error:
                problem = problem_of(error)
                retry = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
                field = f" ({error.field})" if error.field and error.field not in error.message else ""
                return _failure(error.message + field, problem.status, retry)
            except RequestValidationError as error:
                return _failure(str(error.errors()[0]["msg"]), 400)
            except HTTPException as error:
                return _failure(str(error.detail), error.status_code)

        return answer


def _failure(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII: a name that the sentence repeats may hold half characters, which UTF-8 has not."""
    return Response(json.dumps({"error": sentence}), status, headers, "application/json")


def _named(request: Request, model: Annotated[str, Path(description=f"the model's name: {NAME}", examples=[NAME])]) -> None:
    """Raise NotFound where the path names another model, or another version of it."""
    version = request.path_params.get("version", VERSION)
    if model != NAME:
        raise NotFound(f"there is no model {model[:100]!r}; there is {NAME}", field="model")
    if version not in (VERSION, ""):
        raise NotFound(f"the model {NAME} has no version {version[:100]!r}; it has {VERSION}", field="version")


Named = Annotated[None, Depends(_named)]

open_router = APIRouter(tags=["Open Inference Protocol"], route_class=OipRoute, prefix="/v2")
router = APIRouter(tags=["Open Inference Protocol"], route_class=OipRoute, prefix="/v2")


@open_router.get("/health/live", summary="Is the server alive")
async def live() -> dict[str, bool]:
    """200 while the process answers."""
    return {"live": True}


@open_router.get("/health/ready", summary="Can the server take work")
async def ready(services: ServicesDep) -> Response:
    """200 once the model is loaded and warm, 503 before."""
    there = services.engine.ready
    return JSONResponse({"ready": there}, 200 if there else 503)


@router.get("", summary="The server's metadata")
async def server() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "sam-service", "version": __version__, "extensions": EXTENSIONS}


@router.get("/models/{model}", summary="A model's metadata")
@router.get("/models/{model}/versions/{version}", include_in_schema=False)
async def metadata(_: Named) -> dict[str, Any]:
    """Its inputs and outputs; -1 is a free size."""
    inputs, outputs = ([{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape, _) in tensors.items()]
                       for tensors in (INPUTS, OUTPUTS))
    return {"name": NAME, "versions": [VERSION], "platform": "pytorch", "inputs": inputs, "outputs": outputs}


@router.get("/models/{model}/ready", summary="Can a model take work")
@router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
async def model_ready(_: Named, services: ServicesDep) -> Response:
    """200 once it is loaded and warm, 503 before."""
    there = services.engine.ready
    return JSONResponse({"name": NAME, "ready": there}, 200 if there else 503)


@router.get("/models/{model}/config", summary="A model's configuration")
@router.get("/models/{model}/versions/{version}/config", include_in_schema=False)
async def config(_: Named, services: ServicesDep) -> dict[str, Any]:
    """The configuration as Triton has it: data types, where the model runs, sequences, warm-up."""
    info = services.engine.require_model()
    policy = services.engine.policy
    precision = "float32" if policy is None or policy.autocast is None else str(policy.autocast).removeprefix("torch.")
    return {
        "name": NAME, "platform": "pytorch", "backend": "pytorch", "max_batch_size": 0,
        "version_policy": {"specific": {"versions": [int(VERSION)]}},
        "input": [{"name": name, "data_type": wire.config_type(datatype), "dims": shape, "optional": name != "image"}
                  for name, (datatype, shape, _) in INPUTS.items()],
        "output": [{"name": name, "data_type": wire.config_type(datatype), "dims": shape}
                   for name, (datatype, shape, _) in OUTPUTS.items()],
        "instance_group": [instance_group(info.device)],
        "sequence_batching": {"max_sequence_idle_microseconds": int(services.settings.live_ttl_s * 1e6), "control_input": [],
                              "direct": {}},
        "model_warmup": [{"name": "two steps before readiness", "batch_size": 1}],
        "parameters": {name: {"string_value": str(value)} for name, value in (
            ("size", info.size), ("image_size", info.image_size), ("device", info.device), ("precision", precision))},
    }


def instance_group(device: str) -> dict[str, Any]:
    """Where a model on a device of torch runs, in Triton's words: Metal and CUDA are KIND_GPU."""
    kind, _, index = device.partition(":")
    on_gpu = kind in ("cuda", "mps")
    return {"name": NAME, "count": 1, "kind": "KIND_GPU" if on_gpu else "KIND_CPU", "gpus": [int(index or 0)] if on_gpu else []}


_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": {
    "type": "object", "required": ["inputs"], "properties": {
        "id": {"type": "string"}, "parameters": {"type": "object"}, "outputs": {"type": "array", "items": {"type": "object"}},
        "inputs": {"type": "array", "items": {"type": "object", "required": ["name", "shape", "datatype"]}}}}}}}}


@router.post("/models/{model}/infer", summary="Segment a picture, or the next one of a sequence", openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
async def infer(_: Named, request: Request, services: ServicesDep) -> Response:
    """Inputs and outputs as the metadata lists them, as JSON or by the binary tensor extension."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidInput("send the body uncompressed", field="content-encoding")
    services.engine.require_ready()
    body = await request.body()
    asked = await asyncio.to_thread(wire.read_request, body, request.headers.get(wire.HEADER_LENGTH))
    call = await asyncio.to_thread(_asked, asked)
    sequence = _sequence(asked.parameters)
    wanted = {output.name: output.binary for output in asked.outputs} if asked.outputs is not None else dict.fromkeys(
        OUTPUTS, asked.binary)
    if unknown := wanted.keys() - OUTPUTS.keys():
        raise InvalidInput(f"there is no output {min(unknown)[:100]!r}; there are {', '.join(OUTPUTS)}", field="outputs")
    answered = await services.sequences.infer(call, sequence)
    rendering = services.sessions.pools.rendering
    parts, length, head = await rendering.run(lambda: _answer(asked, answered, sequence, wanted))

    async def pieces() -> AsyncIterator[bytes]:
        for part in parts:
            yield part if isinstance(part, bytes) else await rendering.run(part)

    headers = {"Content-Length": str(length)} | ({} if head is None else {"Inference-Header-Content-Length": str(head)})
    return StreamingResponse(pieces(), headers=headers,
                             media_type="application/json" if head is None else "application/octet-stream")


def _answer(asked: wire.InferRequest, answered: Answered, sequence: Sequence | None,
            wanted: Mapping[str, bool]) -> tuple[list[wire.Part], int, int | None]:
    """As `wire.write_response`. The masks are made when it is their turn: those of many objects would fill the memory."""
    masks = answered.masks
    rles = [as_rle(mask) for mask in masks]
    values: dict[str, Any] = {
        "object_ids": np.array([mask.object_id for mask in masks], np.int64),
        "scores": np.array([mask.score for mask in masks], np.float32),
        "object_scores": np.array([mask.object_score for mask in masks], np.float32),
        "boxes": np.array([rle_bbox(rle) or [0, 0, 0, 0] for rle in rles], np.int32).reshape(-1, 4),
        "frame": np.array([answered.frame_index], np.int64)}
    height, width = (masks[0].height, masks[0].width) if masks else (0, 0)
    values["masks"] = wire.Flags(height * width, [functools.partial(_pixels, rle) for rle in rles])
    document: dict[str, Any] = {"model_name": NAME, "model_version": VERSION}
    if asked.request_id is not None:
        document["id"] = asked.request_id
    if sequence is not None:
        document["parameters"] = {"sequence_id": asked.parameters["sequence_id"], "session_id": answered.session_id}
    return wire.write_response(document, [
        (name, OUTPUTS[name][0], values[name], (len(masks), height, width) if name == "masks" else values[name].shape)
        for name in wanted], wanted)


def _pixels(rle: Mapping[str, Any]) -> NDArray[np.uint8]:
    return decode_rle(rle).view(np.uint8)


def _asked(request: wire.InferRequest) -> Asked:
    """What the inputs mean. Raises InvalidInput."""
    inputs = request.inputs
    if unknown := inputs.keys() - INPUTS.keys():
        raise InvalidInput(f"there is no input {min(unknown)[:100]!r}; there are {', '.join(INPUTS)}", field=min(unknown)[:100])
    if "image" not in inputs:
        raise InvalidInput("the input `image` is missing", field="image")
    points, labels, box, object_id = (_numbers(inputs, name) for name in ("points", "labels", "box", "object_id"))
    if points is not None and (points.ndim != 2 or points.shape[1] != 2):
        raise InvalidInput(f"points has the shape {list(points.shape)}; wanted is [n, 2]", field="points")
    if box is not None and box.shape != (4,):
        raise InvalidInput(f"box has the shape {list(box.shape)}; wanted is [4]", field="box")
    prompt = None
    if points is not None or box is not None or labels is not None:
        prompt = PromptInput(points=None if points is None else points.tolist(), box=None if box is None else box.tolist(),
                             labels=None if labels is None else [int(label) for label in labels.ravel()])
    if object_id is not None and (object_id.size != 1 or not 0 <= int(object_id.ravel()[0]) <= MAX_ID):
        raise InvalidInput(f"object_id has to be one number from 0 to {MAX_ID}", field="object_id")
    return Asked(_picture(inputs["image"]), prompt, None if object_id is None else int(object_id.ravel()[0]))


def _picture(image: wire.Value) -> bytes:
    if isinstance(image, list):
        if len(image) != 1:
            raise InvalidInput(f"image has {len(image)} elements; wanted is one picture", field="image")
        return image[0]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InvalidInput(f"image is {image.dtype} of the shape {list(image.shape)}; wanted are BYTES [1], or UINT8 [height, "
                           "width, 3]", field="image")
    if max(image.shape[:2]) > MAX_SIDE:
        raise TooLarge(f"image has {image.shape[1]} x {image.shape[0]} pixels; the limit is {MAX_SIDE} on each side",
                       field="image", code="too_many_pixels")
    return cv2.imencode(".png", image[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()


def _numbers(inputs: Mapping[str, wire.Value], name: str) -> Any:
    value = inputs.get(name)
    if isinstance(value, list) or (value is not None and not np.isfinite(value).all()):
        raise InvalidInput(f"{name} has to be {INPUTS[name][0]}, finite numbers", field=name)
    if value is not None and INPUTS[name][0].startswith("INT") and (value != np.floor(value)).any():
        raise InvalidInput(f"{name} has to be {INPUTS[name][0]}, whole numbers", field=name)
    return value


def _sequence(parameters: Mapping[str, Any]) -> Sequence | None:
    """The sequence that a request belongs to; none where its id is absent, 0 or empty. Raises InvalidInput."""
    given = parameters.get("sequence_id", 0)
    if isinstance(given, bool) or not isinstance(given, int | str) or len(str(given)) > MAX_SEQUENCE_ID:
        raise InvalidInput(f"sequence_id has to be a number, or a string of at most {MAX_SEQUENCE_ID} characters",
                           field="sequence_id")
    start, end = (parameters.get(name, False) for name in ("sequence_start", "sequence_end"))
    for name, flag in (("sequence_start", start), ("sequence_end", end)):
        if not isinstance(flag, bool):
            raise InvalidInput(f"{name} has to be true or false", field=name)
    if given in (0, ""):
        if start or end:
            raise InvalidInput("sequence_start and sequence_end go with a sequence_id", field="sequence_id")
        return None
    return Sequence(str(given), start, end)
