"""What callers hand over becomes what JSON holds: NumPy arrays and scalars, tensors and lists; a mask becomes a PNG.

Tensors of torch are recognised by their methods, so torch is never imported. What is not a number, a point or a mask is refused
here, with the name of the argument: the service would read it as another prompt than the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_service.client.errors import InvalidArgument

HALF_OF_255 = 127
PROMPT_ARRAYS = ("points", "labels", "box", "mask")


class Tensor(Protocol):
    """A tensor of torch, on any device."""

    def detach(self) -> Any:
        """The same tensor without its gradient."""


def plain(value: Any) -> Any:
    """A value of a request as JSON has it, item by item: scalars and arrays of any library become numbers and lists."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)  # NumPy has a kind of its own
    if _is_tensor(value) or isinstance(value, np.ndarray | np.generic):
        return _array(value, "value").tolist()
    return value


def prompt_fields(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt's fields as the service takes them; what is None is left out. Raises InvalidArgument."""
    fields = {name: plain(value) for name, value in prompt.items() if value is not None and name not in PROMPT_ARRAYS}
    for name, convert in (("points", _points), ("labels", _labels), ("box", _box), ("mask", mask_base64)):
        if prompt.get(name) is not None:
            fields[name] = convert(prompt[name])
    return fields


def mask_base64(mask: Any) -> str:
    """A mask prompt as base64 of a PNG; text is taken as being one already. Raises InvalidArgument."""
    if isinstance(mask, str):
        return mask
    pixels = mask_pixels(mask)
    from sam_service.masks.png import encode_png, to_base64  # imports OpenCV
    return to_base64(encode_png(pixels))


def mask_pixels(mask: Any) -> NDArray[np.bool_]:
    """The pixels (H, W) that a mask prompt means.

    Taken are bool, 0 and 1, and 0 and 255, of any type of number. Of a soft mask, whole numbers up to 255 or fractions up to 1,
    the pixels above half of that maximum are the object. Axes of length 1 around height and width are dropped. Anything else,
    such as logits or NaN, raises InvalidArgument.
    """
    array = _flat_mask(_array(mask, "mask"))
    if array.dtype == np.bool_:
        return array
    if not np.isfinite(array).all():
        raise InvalidArgument("mask", "has values that are NaN or infinite")
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise InvalidArgument("mask", f"has values from {low:g} to {high:g}; a mask is bool, 0 and 1, or 0 and 255. "
                                      "Logits become one with `logits > 0`")
    if high <= 1:
        return _above(array, 0.5)
    if array.dtype.kind == "f" and not np.isin(array, (0, 255)).all():
        raise InvalidArgument("mask", f"has fractions, and values up to {high:g}; a mask is bool, 0 and 1, or 0 and 255")
    return _above(array, HALF_OF_255)


def _above(array: NDArray[Any], half: float) -> NDArray[np.bool_]:
    """The pixels above half of the maximum. Raises InvalidArgument where the array is neither empty nor reaches so far."""
    pixels = np.asarray(array > half)
    if array.any() and not pixels.any():
        raise InvalidArgument("mask", f"has values up to {array.max():g} and none above {half:g}, half of the maximum. "
                                      "One object of a label map is `labels == number`")
    return pixels


def _flat_mask(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W), without axes of length 1 before them, or behind them. Raises InvalidArgument."""
    shape = array.shape
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidArgument("mask", f"has the shape {shape}; wanted is (height, width)")
    return array


def _points(points: Any) -> list[list[float]]:
    """[[x, y]…] of an array (N, 2), also (1, N, 2), or of a single point (2,)."""
    array = _numbers(points, "points")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.shape == (2,):
        array = array[None]
    if array.ndim != 2 or (array.size and array.shape[1] != 2):
        raise InvalidArgument("points", f"has the shape {array.shape}; wanted is (number of points, 2)")
    listed: list[list[float]] = array.tolist()
    return listed


def _labels(labels: Any) -> list[int]:
    """A label for each point, of an array (N,), also (1, N) or a single number."""
    array = _numbers(labels, "labels")
    if array.size != max(array.shape, default=1):
        raise InvalidArgument("labels", f"has the shape {array.shape}; wanted is (number of points,)")
    if (array != np.round(array)).any():
        raise InvalidArgument("labels", "has to be 1 (object) or 0 (not the object) for each point")
    return [int(label) for label in array.ravel()]


def _box(box: Any) -> list[float]:
    """[x0, y0, x1, y1] of an array (4,), also (1, 4)."""
    array = _numbers(box, "box")
    if array.size != 4 or max(array.shape) != 4:
        raise InvalidArgument("box", f"has the shape {array.shape}; wanted are the four numbers x0, y0, x1, y1")
    listed: list[float] = array.ravel().tolist()
    return listed


def _numbers(value: Any, name: str) -> NDArray[Any]:
    """Finite numbers; bool counts as 0 and 1. Raises InvalidArgument."""
    array = _array(value, name)
    if not np.isfinite(array).all():
        raise InvalidArgument(name, "has values that are NaN or infinite")
    return array.astype(np.int64) if array.dtype == np.bool_ else array


def _array(value: Any, name: str) -> NDArray[Any]:
    """Numbers as an array, whatever held them. Raises InvalidArgument."""
    try:
        array = np.asarray(_on_cpu(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidArgument(name, f"cannot be read as an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidArgument(name, f"has to hold numbers, not {_shown(value)}")
    return array


def _on_cpu(value: Any) -> Any:
    """Tensors as arrays, also those within lists; a type that NumPy lacks, such as bfloat16, as float32."""
    if _is_tensor(value):
        tensor = value.detach().cpu()
        try:
            return tensor.numpy()
        except TypeError:
            return tensor.float().numpy()
    return [_on_cpu(item) for item in value] if isinstance(value, list | tuple) else value


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")


def _shown(value: Any) -> str:
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else type(value).__name__
