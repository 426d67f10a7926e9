"""JAX: stop_gradient, gathers, and values that a trace hides."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as namespace
import numpy as np

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

Array = Any


class Backend(generic.Backend):
    """JAX arrays and tracers."""

    name = "jax"
    adopts_numpy = True
    plain_sums = False

    def adopt(self, x: Array) -> Array:
        """NumPy arrays may stand beside jax arrays."""
        return namespace.asarray(x)

    def stop_gradient(self, x: Array) -> Array:
        """As jax calls it."""
        return jax.lax.stop_gradient(x)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By gather."""
        return namespace.take_along_axis(x, index, axis=axis)

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - the process decides
        """float64 only with jax_enable_x64."""
        if not hasattr(namespace, name):
            return None
        known = namespace.dtype(name)
        return known if jax.dtypes.canonicalize_dtype(known) == known else None

    def device(self, x: Array) -> Any:
        """The device an array was put on; None for tracers, sharded arrays and arrays free to move."""
        if isinstance(x, jax.core.Tracer) or not x.committed or len(x.devices()) > 1:
            return None
        return x.device

    def is_readable(self, x: Array) -> bool:
        """Concrete arrays in host memory."""
        return not isinstance(x, jax.core.Tracer) and all(device.platform == "cpu" for device in x.devices())

    def reading(self) -> AbstractContextManager[Any]:
        """Outside any trace: inside one even operations on concrete arrays are traced."""
        return jax.ensure_compile_time_eval()

    def read(self, condition: Array) -> bool | None:
        """The value, unless it is traced."""
        return None if isinstance(condition, jax.core.Tracer) else bool(condition)

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """By NumPy, which sees the same memory and starts faster."""
        seen = np.asarray(integers)
        return (int(seen.min()), int(seen.max())) if seen.size else None

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - a setting of the process
        """float64 only with jax_enable_x64."""
        return jax.dtypes.canonicalize_dtype(float)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Concrete arrays through one compiled function; inside a trace the function itself.

        What is an array or a float is an operand, so that another temperature compiles nothing again.
        """
        if any(isinstance(x, jax.core.Tracer) for x in operands.values()):
            return super().evaluate(function, operands, axis=axis, **static)
        arrays = {name: x for name, x in operands.items() if isinstance(x, (jax.Array, float))}
        rest = {name: x for name, x in operands.items() if name not in arrays}
        return _compiled(function, axis, tuple(rest.items()), tuple(static.items()))(arrays)


@lru_cache(maxsize=256)
def _compiled(
    function: Callable[..., Any], axis: int, rest: tuple[tuple[str, Any], ...], static: tuple[tuple[str, Any], ...]
) -> Callable[[dict[str, Any]], Any]:
    constants = {**dict(rest), **dict(static)}
    return jax.jit(lambda arrays: function(backend(), **arrays, **constants, axis=axis))


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
