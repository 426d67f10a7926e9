"""JAX: stop_gradient, gathers, and values that a trace hides."""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as namespace
import numpy as np

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from softxent.backends.generic import Foresee, Formula

Array = Any

_COUNTED = 2**23  # integers up to here, and halves between them, are float32


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

    def segment_sum(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """In parts, since each is added to one by one."""
        parts, at = self.places(index, x.shape[axis], count)
        found = jax.ops.segment_sum(namespace.moveaxis(x, axis, 0), at, count * parts)
        found = namespace.sum(namespace.reshape(found, (count, parts, *found.shape[1:])), axis=1)
        return namespace.moveaxis(found, 0, axis)

    def segment_max(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """As jax calls it."""
        return namespace.moveaxis(jax.ops.segment_max(namespace.moveaxis(x, axis, 0), index, count), 0, axis)

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
        if isinstance(integers, jax.core.Tracer):
            return None
        seen = np.asarray(integers)
        return (int(np.minimum.reduce(seen, axis=None)), int(np.maximum.reduce(seen, axis=None))) if seen.size else None

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - a setting of the process
        """float64 only with jax_enable_x64."""
        return jax.dtypes.canonicalize_dtype(float)

    def traits(self, x: Array) -> Any:
        """Class, dtype and shape of what is concrete and free to move, and the width of numbers."""
        concrete = not isinstance(x, jax.core.Tracer) and not x.committed
        return (type(x), x.dtype, x.shape, jax.config.jax_enable_x64) if concrete else None

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

    def run(
        self,
        formula: Formula,
        operands: Mapping[str, Any],
        *,
        axis: int,
        by_products: bool = False,
        foresee: Foresee | None = None,  # noqa: ARG002 - the rule needs no cotangents
        **static: Any,
    ) -> Any:
        """By the formula's own derivatives, if the trace should ask for any; by-products leave that to jax."""
        arrays, rest = _parted(operands)
        if by_products or self is _UNWATCHED or not any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            return self.evaluate(formula.value, operands, axis=axis, **static)
        options = {**dict(rest), **static, "axis": axis}
        return _by_rule(self, formula, tuple(arrays), options)(*arrays.values())

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

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """-inf by a minimum, which XLA makes vector instructions of where it makes none of a choice; NaN stays NaN."""
        if not isinstance(value, float) or value != -inf or x.shape[axis] > _COUNTED:
            return super().put_along_axis(x, index, value, axis=axis)
        away = namespace.abs(self.positions(x, axis, x.shape[axis]).astype(x.dtype) - index.astype(x.dtype))
        return namespace.minimum(x, (away - 0.5) * inf)


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


def _by_rule(ops: Backend, formula: Formula, names: tuple[str, ...], options: dict[str, Any]) -> Callable[..., Any]:
    """A formula with its own derivatives. The rule is linear in the tangents, so that reverse mode has it too."""
    value = _exact(ops, formula.value, names, options)

    @jax.custom_jvp
    def of(*arrays: Array) -> Any:
        return value(*arrays)

    def push(arrays: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        zero = jax.custom_derivatives.SymbolicZero
        moving = {n: t for n, t in zip(names, tangents, strict=True) if not isinstance(t, zero)}
        pushforward = getattr(formula, "pushforward", None)
        if pushforward is not None:
            named = (*names, *(f"t_{name}" for name in moving))
            return of(*arrays), _exact(ops, pushforward, named, options)(*arrays, *moving.values())
        return _pushed_by_rows(ops, formula, names, options, arrays=arrays, moving=moving)

    of.defjvp(push, symbolic_zeros=True)
    return of


def _pushed_by_rows(
    ops: Backend,
    formula: Any,
    names: tuple[str, ...],
    options: dict[str, Any],
    *,
    arrays: tuple[Array, ...],
    moving: dict[str, Array],
) -> tuple[Any, Any]:
    """One value a row, and its tangent: the gradient times the tangents, added up along the row."""
    axis, one = options["axis"], namespace.ones((1,) * arrays[0].ndim, dtype=options["dtype"])
    named = (*names, *formula.COTANGENTS)
    results: tuple[Array, ...] = ()
    pushed = []
    for n, sources in enumerate(formula.COTANGENTS.values()):
        seeds = [one if k == n else 0 * one for k in range(len(formula.COTANGENTS))]
        by = tuple(name for name in moving if name in sources)
        function = formula.pullback if results else formula.value_and_pullback
        if not results or by:
            found = _exact(ops, function, named, {**options, "by": by})(*arrays, *seeds)
            results, found = results or found[: len(found) - len(by)], found[len(found) - len(by) :]
        products = (
            namespace.sum(g * moving[name], axis=axis, keepdims=True) for g, name in zip(found, by, strict=by != ())
        )
        pushed.append(sum(products, start=namespace.zeros_like(results[n])).astype(results[n].dtype))
    pushed += [namespace.zeros_like(x) for x in results[len(pushed) :]]
    return (results, tuple(pushed)) if len(results) > 1 else (results[0], pushed[0])


def _exact(
    ops: Backend, function: Callable[..., Any], names: tuple[str, ...], options: dict[str, Any]
) -> Callable[..., Any]:
    """A function that is computed as if nobody differentiated it, and differentiated as if it had not been."""

    def evaluated(by: Backend, arrays: tuple[Array, ...]) -> Any:
        return by.evaluate(function, dict(zip(names, arrays, strict=True)), **options)

    @jax.custom_jvp
    def of(*arrays: Array) -> Any:
        return evaluated(_UNWATCHED, arrays)

    @of.defjvp
    def push(arrays: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
        return jax.jvp(lambda *x: evaluated(ops, x), arrays, tangents)

    return of


def _parted(operands: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """What a compiled function is given, arrays and floats, and what it is compiled for."""
    arrays = {name: x for name, x in operands.items() if isinstance(x, (jax.Array, float))}
    return arrays, tuple((name, x) for name, x in operands.items() if name not in arrays)


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
