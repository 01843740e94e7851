"""Tensors of the Open Inference Protocol v2 over HTTP, in JSON or, by the binary tensor extension, behind it."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_service.api.json_bodies import INLINE_BYTES, Outline
from sam_service.errors import ClientError, InvalidInput

HEADER_LENGTH = "inference-header-content-length"
DTYPES: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
"""The protocol's names of data types, and NumPy's, little-endian."""
BYTES = "BYTES"
MAX_DIMENSIONS, MAX_TENSORS = 8, 32
MAX_ELEMENTS = 1024
"""Elements of a tensor of BYTES: each is an object of Python's, however short it is."""

Value = NDArray[Any] | list[bytes]
Part = bytes | Callable[[], bytes]
"""Bytes of an answer, or what makes them; that blocks."""


@dataclass(frozen=True, slots=True)
class Flags:
    """A tensor of UINT8, zeros and ones, that is made a piece at a time, so that an answer is never whole in memory.

    pieces: each makes `size` elements.
    """

    size: int
    pieces: Sequence[Callable[[], NDArray[np.uint8]]]


def config_type(datatype: str) -> str:
    """A data type as the model's configuration names it."""
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that is asked for. binary: behind the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request. inputs: by name; outputs: None for all, of which `binary` says how they travel."""

    inputs: Mapping[str, Value]
    request_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[WantedOutput] | None = None
    binary: bool = False


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """A body as what it asks for. Takes time for large JSON: call it off the event loop. Raises ClientError, InvalidInput."""
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12 or int(header_length) > length:
            raise InvalidInput(f"Inference-Header-Content-Length has to be a number of at most {length}, the body's bytes",
                               field=HEADER_LENGTH)
        length = int(header_length)
    if length > INLINE_BYTES:
        Outline().feed(body[:length])
    try:
        document = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise ClientError("the body is not valid JSON", code="invalid_json") from None
    document = _object(document, "body")
    parameters = _object(document.get("parameters", {}), "parameters")
    binary = _flag(parameters, "binary_data_output", False, "parameters")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidInput("id has to be a string", field="id")
    return InferRequest(_inputs(document, memoryview(body)[length:]), request_id, parameters,
                        _outputs(document.get("outputs"), binary), binary)


def write_response(document: dict[str, Any], outputs: Iterable[tuple[str, str, Value | Flags, Sequence[int]]],
                   binary: Mapping[str, bool]) -> tuple[list[Part], int, int | None]:
    """An answer's body in parts, its bytes, and the bytes of its JSON where tensors follow.

    outputs: name, data type, values and shape. binary: by name, whether a tensor comes behind the JSON.
    """
    parts, behind = list[Part](), list[Part]()
    length = behind_length = 0

    def write(text: str) -> None:
        nonlocal length
        parts.append(data := text.encode())
        length += len(data)

    write(json.dumps(document)[:-1] + (", " if document else "") + '"outputs": [')
    for place, (name, datatype, value, shape) in enumerate(outputs):
        item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
        if binary[name]:
            made, size = _binary(value, datatype)
            item["parameters"] = {"binary_data_size": size}
            behind += made
            behind_length += size
        elif isinstance(value, list):
            item["data"] = [base64.b64encode(one).decode() for one in value]
        elif not isinstance(value, Flags):
            item["data"] = value.ravel().tolist()
        write(", " * bool(place) + json.dumps(item)[:-1])
        if isinstance(value, Flags) and not binary[name]:
            write(', "data": [')
            made, size = _digits(value)
            parts += made
            length += size
            write("]")
        write("}")
    write("]}")
    return [*parts, *behind], length + behind_length, length if behind else None


def _binary(value: Value | Flags, datatype: str) -> tuple[list[Part], int]:
    """A tensor as the bytes behind the JSON, and how many."""
    if isinstance(value, Flags):
        return [functools.partial(_as_bytes, piece) for piece in value.pieces] or [b""], value.size * len(value.pieces)
    data = b"".join(struct.pack("<I", len(one)) + one for one in value) if isinstance(value, list) else (
        np.ascontiguousarray(value, DTYPES[datatype]).tobytes())
    return [data], len(data)


def _as_bytes(piece: Callable[[], NDArray[np.uint8]]) -> bytes:
    return piece().tobytes()


def _digits(value: Flags) -> tuple[list[Part], int]:
    """Flags as numbers with commas between, and how many characters."""
    if not value.pieces or not value.size:
        return [], 0
    last = len(value.pieces) - 1
    return [functools.partial(_as_digits, piece, more=at < last) for at, piece in enumerate(value.pieces)], (
        2 * value.size * len(value.pieces) - 1)


def _as_digits(piece: Callable[[], NDArray[np.uint8]], *, more: bool) -> bytes:
    flags = piece().ravel()
    characters = np.full((flags.size, 2), ord(","), np.uint8)
    np.add(flags, ord("0"), out=characters[:, 0])
    return characters.tobytes() if more else characters.ravel()[:-1].tobytes()


def _inputs(document: Mapping[str, Any], behind: memoryview) -> dict[str, Value]:
    inputs: dict[str, Value] = {}
    at = 0
    for position, raw in enumerate(_list(document.get("inputs"), "inputs")):
        tensor = _object(raw, f"inputs[{position}]")
        name, datatype = tensor.get("name"), tensor.get("datatype")
        if not isinstance(name, str) or not name or name in inputs:
            raise InvalidInput("each input has a name of its own", field=f"inputs[{position}].name")
        if not isinstance(datatype, str) or datatype != BYTES and datatype not in DTYPES:
            raise InvalidInput(f"{name[:100]}: datatype has to be {BYTES} or one of {', '.join(DTYPES)}", field=name[:100])
        shape = _shape(name, tensor.get("shape"))
        count = math.prod(shape)
        if datatype == BYTES and count > MAX_ELEMENTS:
            raise InvalidInput(f"{name[:100]}: a tensor of {BYTES} may have at most {MAX_ELEMENTS} elements", field=name[:100])
        size = _object(tensor.get("parameters", {}), f"{name[:100]}.parameters").get("binary_data_size")
        if size is None:
            inputs[name] = _from_json(name, datatype, shape, count, tensor.get("data"))
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(behind) - at:
            raise InvalidInput(f"{name[:100]}: binary_data_size has to be a number of bytes that follow the JSON",
                               field=name[:100])
        inputs[name] = _from_binary(name, datatype, shape, count, bytes(behind[at:at + size]))
        at += size
    if at != len(behind):
        raise InvalidInput(f"{len(behind) - at} bytes behind the JSON belong to no input", field="inputs")
    return inputs


def _shape(name: str, shape: Any) -> list[int]:
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(
            isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 31 for size in shape):
        raise InvalidInput(f"{name[:100]}: shape has to be a list of at most {MAX_DIMENSIONS} numbers, 0 or more",
                           field=name[:100])
    return shape


def _from_binary(name: str, datatype: str, shape: list[int], count: int, data: bytes) -> Value:
    if datatype == BYTES:
        found, at = list[bytes](), 0
        while at < len(data) and len(found) <= count:
            if len(data) - at < 4 or (length := struct.unpack_from("<I", data, at)[0]) > len(data) - at - 4:
                raise InvalidInput(f"{name[:100]}: an element is longer than its bytes", field=name[:100])
            found.append(data[at + 4:at + 4 + length])
            at += 4 + length
        if len(found) != count:
            raise InvalidInput(f"{name[:100]}: the shape says {count} elements and the bytes others", field=name[:100])
        return found
    dtype = np.dtype(DTYPES[datatype])
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(f"{name[:100]}: {datatype} of the shape {shape} has {count * dtype.itemsize} bytes, and {len(data)} "
                           "came", field=name[:100])
    return np.frombuffer(data, dtype).reshape(shape)


def _from_json(name: str, datatype: str, shape: list[int], count: int, data: Any) -> Value:
    if not isinstance(data, list):
        raise InvalidInput(f"{name[:100]}: data has to be a list, or bytes behind the JSON", field=name[:100])
    if datatype == BYTES:
        try:
            found = [base64.b64decode(one, validate=True) for one in data]
        except (binascii.Error, ValueError, TypeError):
            raise InvalidInput(f"{name[:100]}: each element has to be base64", field=name[:100]) from None
        if len(found) != count:
            raise InvalidInput(f"{name[:100]}: the shape says {count} elements, and {len(found)} came", field=name[:100])
        return found
    try:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf" and array.size:
            raise ValueError
        converted = array.astype(DTYPES[datatype])
        if array.size != count or (array.size and converted.dtype.kind in "iub" and (converted != array).any()):
            raise ValueError
        return converted.reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(f"{name[:100]}: data has to be {count} numbers that {datatype} can hold", field=name[:100]) from None


def _outputs(raw: Any, binary: bool) -> list[WantedOutput] | None:
    if raw is None:
        return None
    wanted = []
    for position, item in enumerate(_list(raw, "outputs")):
        output = _object(item, f"outputs[{position}]")
        parameters = _object(output.get("parameters", {}), f"outputs[{position}].parameters")
        unknown = parameters.keys() - {"binary_data"}
        if unknown:
            raise InvalidInput(f"outputs take no parameter {min(unknown)[:100]!r}", field=f"outputs[{position}].parameters")
        wanted.append(WantedOutput(str(output.get("name")), _flag(parameters, "binary_data", binary,
                                                                  f"outputs[{position}].parameters")))
    return wanted


def _flag(parameters: Mapping[str, Any], name: str, default: bool, field: str) -> bool:
    flag = parameters.get(name, default)
    if not isinstance(flag, bool):
        raise InvalidInput(f"{name} has to be true or false", field=f"{field}.{name}")
    return flag


def _list(raw: Any, field: str) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > MAX_TENSORS:
        raise InvalidInput(f"{field} has to be a list of at most {MAX_TENSORS}", field=field)
    return raw


def _object(raw: Any, field: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise InvalidInput(f"{field} has to be a JSON object", field=field)
    return raw
