"""ndonnx: arrays that become an ONNX model, whose sizes and values may be unknown."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ndonnx as namespace

from softxent.backends import generic

Array = Any


class Backend(generic.Backend):
    """ndonnx arrays. Gathers and reductions are onnxruntime's; nothing is computed while the model is built."""

    name = "ndonnx"

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    def copysign(self, x: Array, y: Array) -> Array:
        """For what the sign of 0 does not matter to."""
        return namespace.where(y < 0, -namespace.abs(x), namespace.abs(x))

    def zeros_like(self, x: Array) -> Array:
        """By a choice of 0 and 0: ndonnx's own forgets which sizes are known."""
        nothing = namespace.asarray(0, dtype=x.dtype)
        return namespace.where(x == x, nothing, nothing)  # noqa: PLR0124 - see above

    def matmul(self, x: Array, y: Array) -> Array:
        """With the sizes that are known, which ndonnx's own forgets."""
        found, last = namespace.matmul(x, y), y.shape[-1]
        if found.ndim != 2 or not isinstance(last, int):  # noqa: PLR2004 - a matrix
            return found
        rows = x.shape[0]
        return namespace.reshape(found, (rows if isinstance(rows, int) else -1, last))

    # -- what public functions ask ------------------------------------------------------------------------------------

    def device(self, x: Array) -> Any:  # noqa: ARG002 - whoever runs the model chooses
        """Nothing to compare."""
        return None

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - one device
        """float16 too."""
        return getattr(namespace, name, None)

    def is_readable(self, x: Array) -> bool:  # noqa: ARG002 - never
        """A look would run a model."""
        return False

    def read(self, condition: Array) -> bool | None:
        """The value of a constant, by running its model."""
        with suppress(ValueError):
            return bool(condition)
        return None

    def bounds(self, integers: Array) -> tuple[int, int] | None:  # noqa: ARG002 - never
        """Two runs, where one condition will do."""
        return None


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
