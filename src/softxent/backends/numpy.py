"""NumPy: gathers by index, no floating-point warnings, sums along contiguous memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as namespace
import numpy as np

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = Any

_FEW = 8  # entries that a plain sum adds as exactly as a pairwise one


class Backend(generic.Backend):
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

    def run(self, formula: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Evaluate without warnings, the class axis last in memory where NumPy would otherwise not sum pairwise."""
        logits = next(iter(operands.values()))
        strided = logits.shape[axis] > _FEW and logits.strides[axis] != logits.itemsize
        with np.errstate(all="ignore"):
            if not strided:
                return formula(self, **operands, axis=axis, **static)
            moved = {name: _classes_last(x, axis) for name, x in operands.items()}
            results = formula(self, **moved, axis=-1, **static)
        if isinstance(results, tuple):
            return tuple(np.moveaxis(result, -1, axis) for result in results)
        return np.moveaxis(results, -1, axis)


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


def _classes_last(x: Any, axis: int) -> Any:
    return np.ascontiguousarray(np.moveaxis(x, axis, -1)) if isinstance(x, np.ndarray) and x.ndim > 0 else x


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
