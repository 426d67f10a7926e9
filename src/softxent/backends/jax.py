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
        return x if isinstance(x, jax.Array) else namespace.asarray(x)

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

    def at_once(self, function: Callable[..., Any], call: Any, *details: Any) -> Any:
        """Concrete arrays through one compiled function, in which nobody differentiates; inside a trace as it is.

        What is an array or a float is an operand of it, so that another temperature compiles nothing again.
        """
        form, arguments, given, denominator, *how = call
        arrays, rest = _parted({**arguments, "denominator": denominator})
        if any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            return function(call, *details)
        by = {name: given[name] for name in (details[0] if details else ())}
        fixed = type(call), form.of_any_batch(_UNWATCHED), tuple(arguments), rest, tuple(by), tuple(how)
        return _compiled(_called, tuple(arrays), (function, details, fixed))(*arrays.values(), *by.values())

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """The same for a function of a formula's."""
        arrays, rest = _parted(operands)
        if any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            return super().evaluate(function, operands, axis=axis, **static)
        options = tuple({**dict(rest), **static, "axis": axis}.items())
        return _compiled(_evaluated, tuple(arrays), (function, options))(*arrays.values())


class _Unwatched(Backend):
    """Inside a compiled function of ours nobody differentiates."""

    def stop_gradient(self, x: Array) -> Array:
        """The very same."""
        return x


_UNWATCHED = _Unwatched(namespace)


@lru_cache(maxsize=256)
def _compiled(function: Callable[..., Any], names: tuple[str, ...], options: tuple[Any, ...]) -> Callable[..., Any]:
    """A function of arrays by name and of constants, compiled once for all that are equal."""
    return jax.jit(lambda *arrays: function(names, arrays, *options))


def _evaluated(
    names: tuple[str, ...],
    arrays: tuple[Array, ...],
    function: Callable[..., Any],
    options: tuple[tuple[str, Any], ...],
) -> Any:
    return function(_UNWATCHED, **dict(zip(names, arrays, strict=True)), **dict(options))


def _called(
    names: tuple[str, ...],
    arrays: tuple[Array, ...],
    function: Callable[..., Any],
    details: tuple[Any, ...],
    fixed: tuple[Any, ...],
) -> Any:
    """The call put together again."""
    kind, form, order, rest, by, how = fixed
    operands = {**dict(rest), **dict(zip(names, arrays, strict=False))}
    given = dict(zip(by, arrays[len(names) :], strict=True))
    arguments = {name: operands[name] for name in order}
    return function(kind(form, arguments, given, operands["denominator"], *how), *details)


def _parted(operands: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """What a compiled function is given, arrays and floats, and what it is compiled for."""
    arrays = {name: x for name, x in operands.items() if isinstance(x, (jax.Array, float))}
    return arrays, tuple((name, x) for name, x in operands.items() if name not in arrays)


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
