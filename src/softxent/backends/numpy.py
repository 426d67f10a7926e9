"""NumPy: gathers by index, no floating-point warnings, sums along contiguous memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as namespace
import numpy as np

from softxent.backends import blocks, generic

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any


class Backend(blocks.Backend):
    """NumPy arrays."""

    name = "numpy"

    def adopt(self, x: Array) -> Array:
        """A plain ndarray: scalars become 0-d, memory maps views."""
        return np.asarray(x)

    def oddity(self, x: Array) -> str | None:
        """Subclasses that mean something else by their operations."""
        return unplain(type(x))

    def device(self, x: Array) -> Any:  # noqa: ARG002 - there is only one
        """Nothing to compare."""
        return None

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - one device
        """Also what is registered with NumPy, as bfloat16 is by ml_dtypes."""
        return registered(name, dtype)

    def is_readable(self, x: Array) -> bool:  # noqa: ARG002 - always
        """Host memory."""
        return True

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """The library's own."""
        return self.namespace.argmax(x, axis=axis, keepdims=keepdims)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By fancy indexing."""
        return np.take_along_axis(x, index.astype(np.intp), axis)

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """In place."""
        np.put_along_axis(x, index.astype(np.intp), value, axis)
        return x

    def quietly(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call with NumPy's floating-point errors off, whatever the caller has set."""
        with np.errstate(all="ignore"):
            return function(*arguments, **keywords)

    def must_move(self, x: Array, axis: int) -> bool:
        """NumPy sums pairwise along contiguous memory only."""
        return bool(x.strides[axis] != x.itemsize and x.shape[axis] > generic.FEW)


def registered(name: str, dtype: Any) -> Any:
    """NumPy's dtype of that name, or what NumPy makes of the caller's object; None if it knows neither."""
    for candidate in (name, dtype):
        try:
            return np.dtype(candidate)
        except TypeError:
            continue
    return None


_UNPLAIN = {np.matrix: "numpy.asarray(...)", np.ma.MaskedArray: "its .data, and where= for the mask"}


def unplain(kind: type) -> str | None:
    """The oddity of a class of arrays."""
    for base, hint in _UNPLAIN.items():
        if issubclass(kind, base):
            return f"numpy {kind.__name__}; pass {hint}"
    return None


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
