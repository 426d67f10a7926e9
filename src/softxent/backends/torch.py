"""PyTorch: autograd, gathers and scatters, labels of wide unsigned dtypes, values that compilers and vmap hide."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as namespace
import torch

from softxent.backends import generic

Array = Any

_INCOMPARABLE = {torch.uint16, torch.uint32, torch.uint64}  # torch has no order on these


class Backend(generic.Backend):
    """PyTorch tensors, eager, compiled or inside torch.func."""

    name = "torch"
    plain_sums = False

    def stop_gradient(self, x: Array) -> Array:
        """Detached from reverse and forward mode."""
        return x.detach()

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """The library's own."""
        return self.namespace.argmax(x, axis=axis, keepdims=keepdims)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By gather, which wants int64, and rows that match: take_along_dim would make a dynamic size a constant."""
        rows = [x.shape[d] if d == axis % x.ndim else index.shape[d] for d in range(x.ndim)]
        return torch.gather(x.expand(rows), axis, index.to(torch.int64))

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """By scatter."""
        return torch.scatter(x, axis, index.to(torch.int64), value)

    def comparable(self, integers: Array) -> Array:
        """Wide unsigned integers as int64."""
        return integers.to(torch.int64) if integers.dtype in _INCOMPARABLE else integers

    def oddity(self, x: Array) -> str | None:
        """Sparse tensors."""
        return None if x.layout is torch.strided else f"a {x.layout} tensor; pass its .to_dense()"

    def device(self, x: Array) -> Any:
        """The tensor's device."""
        return x.device

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - all devices
        """As torch names it."""
        return getattr(torch, name, None)

    def is_portable(self, x: Array) -> bool:
        """Torch mixes 0-d CPU tensors with any device."""
        return bool(x.ndim == 0 and x.device.type == "cpu")

    def is_readable(self, x: Array) -> bool:
        """Only eager CPU tensors: elsewhere a look synchronises or breaks the graph."""
        return bool(x.device.type == "cpu" and not torch.compiler.is_compiling())

    def read(self, condition: Array) -> bool | None:
        """The value, unless the tensor is fake or batched by vmap, or a graph is being traced."""
        if torch.compiler.is_compiling():
            return None  # pragma: no cover - traced by Dynamo
        try:
            return bool(condition)
        except RuntimeError:
            return None

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - a setting of the process
        """What torch.set_default_dtype says."""
        return torch.get_default_dtype()


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
