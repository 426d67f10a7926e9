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
    from collections.abc import Callable, Collection, Mapping
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

    def log1p(self, x: Array) -> Array:
        """XLA loses 7 bits of float64 from -0.43 to -0.34: there it is the logarithm, and what 1 + x has rounded."""
        if x.dtype != "float64":
            return namespace.log1p(x)
        poor = (x > -0.45) & (x < -0.33)  # noqa: PLR2004 - a little more than that
        lost = namespace.where(poor, x, -0.375)
        whole = 1.0 + lost
        return namespace.where(poor, namespace.log(whole) + (lost - (whole - 1.0)) / whole, namespace.log1p(x))

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
        form, arguments, given, denominator, *how, _ = call
        arrays, rest = _parted({**arguments, "denominator": denominator})
        if any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            in_parts = getattr(call.formula.value, "loops", False) and not details
            if call.ending.is_one_value and in_parts and not isinstance(denominator, jax.core.Tracer):
                return _at_once_by_rule(function, call)
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

    def over_rows(
        self,
        function: Callable[[dict[str, Array], Callable[..., Any]], tuple[Any, ...]],
        operands: Mapping[str, Array],
        *,
        axis: int,
        count: int,
        added: Collection[int],
    ) -> tuple[Array, ...]:
        """By a scan, whose parts are all of one size, and those that are left; a derivative computes them again."""

        def made(part: dict[str, Array]) -> tuple[Any, ...]:
            return function(part, namespace.matmul)

        size = next(iter(operands.values())).shape[axis]
        rows = -(-size // count)
        count = size // rows
        if count == 1:
            return super().over_rows(function, operands, axis=axis, count=-(-size // rows), added=added)
        first = {name: _cut(x, axis, slice(0, rows * count)) for name, x in operands.items()}
        stacks = {name: _split(x, axis, count) for name, x in first.items()}

        def step(sums: list[Array], part: dict[str, Array]) -> tuple[list[Array], list[Array]]:
            found = made(part)
            places = range(-len(found), 0)
            terms = [x for n, x in zip(places, found, strict=True) if n in added]
            others = [x for n, x in zip(places, found, strict=True) if n not in added]
            return [one + x for one, x in zip(sums, terms, strict=True)], others

        shapes = jax.eval_shape(made, {name: x[0] for name, x in stacks.items()})
        numbers = range(-len(shapes), 0)
        start = [namespace.zeros(x.shape, x.dtype) for n, x in zip(numbers, shapes, strict=True) if n in added]
        step = step if self is _UNWATCHED else jax.checkpoint(step)
        sums, others = jax.lax.scan(step, start, stacks)
        found = dict(zip([n for n in numbers if n in added], sums, strict=True))
        found |= zip([n for n in numbers if n not in added], (_joined(x, axis) for x in others), strict=True)
        if rows * count < size:
            left = made({name: _cut(x, axis, slice(rows * count, size)) for name, x in operands.items()})
            for n, x in zip(numbers, left, strict=True):
                found[n] = found[n] + x if n in added else namespace.concat([found[n], x], axis=axis)
        return tuple(found[n] for n in numbers)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """The same for a function of a formula's."""
        arrays, rest = _parted(operands)
        if any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            return super().evaluate(function, operands, axis=axis, **static)
        options = tuple({**dict(rest), **static, "axis": axis}.items())
        return _compiled(_evaluated, tuple(arrays), (function, options))(*arrays.values())


class _Unwatched(Backend):
    """Inside a compiled function of ours nobody differentiates."""

    short = 1024  # XLA makes no vector instructions of argmax, and of two sums in one go up to here

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


def _at_once_by_rule(function: Callable[..., Any], call: Any) -> Any:
    """A call of one value whose derivatives are made beside it, where asking for them again takes all rows again."""
    given, _ = _parted(call.arguments)
    names = tuple(given)

    def of_backend(ops: Backend, arrays: tuple[Array, ...]) -> Any:
        return call.of(dict(zip(names, arrays, strict=True)))._replace(form=call.form._replace(backend=ops))

    @jax.custom_jvp
    def of(*arrays: Array) -> Any:
        return function(of_backend(_UNWATCHED, _adopted(arrays)))

    def push(arrays: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        zero = jax.custom_derivatives.SymbolicZero
        moving = {n: t for n, t in zip(names, tangents, strict=True) if not isinstance(t, zero)}
        pulled = _twice(lambda ops, *arrays: of_backend(ops, arrays).value_and_pull(tuple(moving)), call.form.backend)
        value, slopes = pulled(*arrays)
        products = (namespace.sum(slope * t) for slope, t in zip(slopes, moving.values(), strict=True))
        return value, sum(products, start=namespace.zeros_like(value)).astype(value.dtype)

    of.defjvp(push, symbolic_zeros=True)
    return of(*given.values())


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
    """A formula's function that is computed as if nobody differentiated it, and differentiated as if it had not."""
    return _twice(lambda by, *arrays: by.evaluate(function, dict(zip(names, arrays, strict=True)), **options), ops)


def _twice(function: Callable[..., Any], ops: Backend) -> Callable[..., Any]:
    """A function of a backend and arrays, by that which nobody watches; its derivatives by the other."""

    @jax.custom_jvp
    def of(*arrays: Array) -> Any:
        return function(_UNWATCHED, *_adopted(arrays))

    @of.defjvp
    def push(arrays: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
        return jax.jvp(lambda *x: function(ops, *_adopted(x)), arrays, tangents)

    return of


def _adopted(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Numbers as they are; jax.jvp hands on NumPy's arrays as neither these nor its own."""
    return tuple(x if isinstance(x, float) else namespace.asarray(x) for x in arrays)


def _cut(x: Array, axis: int, rows: slice) -> Array:
    return x[(*(slice(None) for _ in range(axis)), rows)]


def _split(x: Array, axis: int, count: int) -> Array:
    """So many parts along an axis, put first."""
    shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
    return namespace.moveaxis(namespace.reshape(x, shape), axis, 0)


def _joined(x: Array, axis: int) -> Array:
    """The inverse."""
    x = namespace.moveaxis(x, 0, axis)
    return namespace.reshape(x, (*x.shape[:axis], -1, *x.shape[axis + 2 :]))


def _parted(operands: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """What a compiled function is given, arrays and floats, and what it is compiled for."""
    arrays = {name: x for name, x in operands.items() if isinstance(x, (jax.Array, float))}
    return arrays, tuple((name, x) for name, x in operands.items() if name not in arrays)


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
