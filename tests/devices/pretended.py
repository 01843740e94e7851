"""A pretended accelerator: tensors that say they are on `cuda` or `mps` and compute on the CPU.

They carry the dispatch keys of their device, so that mixed precision chooses dtypes as it would there, and an operation that
mixes them with tensors of the CPU is refused as the real device refuses it. Kernels, their speed and their rounding are not
tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

COMPOSITE: Any = torch._C.DispatchKey.CompositeImplicitAutograd
# Operations that take indices, or fill a tensor, from the host on any device.
FROM_HOST = ("aten.index.Tensor", "aten.index_put", "aten._index_put", "aten.copy_", "aten._to_copy")


class Pretended(Tensor):
    """A tensor of the pretended device. held: the same on the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Pretended:
        made: Any = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=device, requires_grad=False)
        made.held = held
        return made  # type: ignore[no-any-return]

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert a tensor of {self.device} to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        found = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Pretended))
        return Accelerator.current(found.device).run(func, args, kwargs or {})


class Accelerator:
    """The pretended device. transfers: copies from it to the host, by how they were asked for."""

    _running: dict[str, Accelerator] = {}

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind, 0)
        self.transfers: Counter[str] = Counter()

    @classmethod
    def current(cls, device: torch.device) -> Accelerator:
        return cls._running[device.type]

    def is_mine(self, device: Any) -> bool:
        return device is not None and torch.device(device).type == self.device.type

    def hold(self, value: Any) -> Any:
        """A tensor of the CPU as one of this device; anything else as it is."""
        return Pretended(value, self.device) if isinstance(value, Tensor) and not isinstance(value, Pretended) else value

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute an operation on the CPU."""
        name = str(func)
        if name.startswith("aten.to."):
            return self._move(func, args, kwargs)
        fused = "scaled_dot_product_attention" in name  # one kernel there, though composed of others here
        if func._overloadpacket is not torch.ops.aten.linear and not fused and torch._C._dispatch_has_kernel_for_dispatch_key(
                func.name(), COMPOSITE):
            with Dispatch(self):
                found = func._op_dk(COMPOSITE, *args, **kwargs)
            if found is not NotImplemented:
                return found
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        mine = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
        self._check(name, tensors, mine)
        if mine and name.startswith("aten._local_scalar_dense"):
            self.transfers["item"] += 1
        asked = kwargs.get("device")
        here = self.is_mine(asked) if asked is not None else bool(mine)
        if asked is not None:
            self.transfers["copy"] += bool(mine) and not here
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        if fused and len({tensor.dtype for tensor in tensors}) > 1:
            raise RuntimeError(f"query, key and value of different dtypes: {[tensor.dtype for tensor in tensors]}")
        found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if func._schema.is_mutable and name.split(".")[1].endswith("_"):
            return args[0]
        return tree_map(self.hold, found) if here else found

    def _move(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Tensor.to in each of its forms."""
        given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
        source: Tensor = given["self"]
        if "other" in given:
            given["device"], given["dtype"] = given["other"].device, given["other"].dtype
        device, dtype = given.get("device"), given.get("dtype") or source.dtype
        here = self.is_mine(device) if device is not None else isinstance(source, Pretended)
        if here and self.device.type == "mps" and dtype in (torch.float64, torch.complex64):
            raise TypeError(f"Metal has no {dtype}")
        self.transfers["copy"] += isinstance(source, Pretended) and not here
        held = _held(source)
        moved = held.to(dtype, copy=bool(given.get("copy")))
        if moved is held and here and isinstance(source, Pretended):
            return source
        return self.hold(moved) if here else moved

    def _check(self, name: str, tensors: list[Tensor], mine: list[Pretended]) -> None:
        others = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.dim() > 0]
        if mine and others and not name.startswith(FROM_HOST):
            raise RuntimeError(f"expected all tensors on the same device, found {self.device} and cpu in {name}")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


class Dispatch(TorchDispatchMode):
    """Operations that make tensors on the device, and those in which tensors of the CPU come first."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._accelerator = accelerator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._accelerator.run(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """What Python's side of torch does with a tensor's memory by itself, without an operation."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self._accelerator = accelerator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, on = kwargs or {}, self._accelerator
        name = getattr(func, "__name__", "")
        if func is torch.tensor and on.is_mine(kwargs.get("device")):
            return on.hold(func(*args, **{**kwargs, "device": "cpu"}))
        if args and isinstance(args[0], Pretended):
            if name in ("contiguous", "expand"):
                return on.hold(getattr(args[0].held, name)(*args[1:], **kwargs))
            if name == "__getitem__":
                return on.hold(args[0].held[_indices(args[1])])
            if name == "__setitem__":
                args[0].held[_indices(args[1])] = _held(args[2])
                return None
            if name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__"):
                on.transfers[name] += 1
                return getattr(args[0].held, name)()
        return func(*args, **kwargs)


def _indices(index: Any) -> Any:
    return tuple(map(_held, index)) if isinstance(index, tuple) else _held(index)


@contextmanager
def pretend(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """`cuda` or `mps` is there while this lasts."""
    accelerator = Accelerator(kind)
    monkeypatch.setattr(Accelerator, "_running", {kind: accelerator})
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    for owner, name, value in (
        (torch.cuda, "is_available", lambda: kind == "cuda"),
        (torch.cuda, "is_bf16_supported", lambda including_emulation=True: True),
        (torch.cuda, "get_device_name", lambda *_: "pretended"),
        (torch.cuda, "device_count", lambda: 1),
        (torch.cuda, "_lazy_init", nothing),
        (torch.cuda, "synchronize", nothing),
        (torch.cuda, "empty_cache", nothing),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.backends.mps, "is_available", lambda: kind == "mps"),
        (torch.mps, "synchronize", nothing),
        (torch.mps, "empty_cache", nothing),
    ):
        monkeypatch.setattr(owner, name, value)
    usual = nn.Module.to

    def move(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        if not args or isinstance(args[0], torch.dtype) or not accelerator.is_mine(args[0]):
            return _cast(module, args[0]) if args and isinstance(args[0], torch.dtype) else usual(module, *args, **kwargs)
        return _replace(module, accelerator.hold)

    monkeypatch.setattr(nn.Module, "to", move)
    torch._C._ensureCUDADeviceGuardSet()
    with ExitStack() as stack:
        stack.enter_context(Functions(accelerator))
        stack.enter_context(Dispatch(accelerator))
        yield accelerator


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return _replace(module, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _replace(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A module's own tensors cannot change their kind in place, as `Module.to` would have it; they are replaced."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = nn.Parameter(change(parameter.detach()), requires_grad=False)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module
