"""MLX: lazy arrays without devices, its own transformations, exponentials and sums to the last digits."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import mlx.core as namespace

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from softxent.backends.generic import Formula

Array = Any

# Of a dtype: the powers of 2 between which e^x is neither 0 nor infinity, and ln 2 in two parts, the first of so few
# bits that its multiples by whole numbers are exact.
_LOG2E = 1.4426950408889634
_SCALES = {
    namespace.float32: (-170.0, 130.0, 0.693359375, -2.12194440e-4),
    namespace.float64: (-1100.0, 1030.0, 0.6931471803691238, 1.9082149292705877e-10),
}


class Backend(generic.Ruled):
    """MLX arrays, which are computed when somebody looks at them."""

    name = "mlx"
    array = namespace.array
    plain_sums = False

    def __init__(self, namespace: Any) -> None:
        """Wrap the namespace, which has the dtype of conditions by another name."""
        super().__init__(namespace)
        self.bool = namespace.bool_

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    def stop_gradient(self, x: Array) -> Array:
        """As MLX calls it."""
        return namespace.stop_gradient(x)

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        """A choice whose derivative is one: MLX's multiplies by 0, which is NaN where the other side has infinity."""
        like = next((one for one in (x, y) if isinstance(one, namespace.array) and _moves(one)), None)
        if like is None:
            return namespace.where(condition, x, y)
        sides = [one if isinstance(one, namespace.array) else namespace.array(one, dtype=like.dtype) for one in (x, y)]
        dtype = namespace.result_type(*sides)
        return _chosen(*namespace.broadcast_arrays(condition, *(self.astype(one, dtype) for one in sides)))

    def exp(self, x: Array) -> Array:
        """To the last digit, subnormal results too."""
        return _exp(x) if x.dtype in _SCALES and _on_cpu() else namespace.exp(x)

    def sum(self, x: Array, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """A few entries at a time, and then the sums of these: MLX adds one by one, and of none may never end."""
        if not prod(x.shape):
            return self._zeros_of_rows(x, axis, keepdims=keepdims)
        if axis is None:
            flat = self.sum(namespace.reshape(x, (-1,)), axis=0)
            return namespace.reshape(flat, (1,) * x.ndim) if keepdims else flat
        if isinstance(axis, tuple):
            for d in sorted(d % x.ndim for d in axis):
                x = self.sum(x, axis=d, keepdims=True)
            return x if keepdims else namespace.squeeze(x, axis=axis)
        along = axis % x.ndim
        while (size := x.shape[along]) > generic.FEW:
            rows, left = divmod(size, generic.FEW)
            before, after = x.shape[:along], x.shape[along + 1 :]
            head, *tail = namespace.split(x, [size - left], axis=along) if left else (x,)
            x = namespace.sum(namespace.reshape(head, (*before, rows, generic.FEW, *after)), axis=along + 1)
            if left:
                x = namespace.concatenate([x, namespace.sum(tail[0], axis=along, keepdims=True)], axis=along)
        return namespace.sum(x, axis=along, keepdims=keepdims)

    def any(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """As MLX calls it, but for none."""
        some = prod(x.shape)
        return namespace.any(x, axis, keepdims) if some else self._zeros_of_rows(x, axis, keepdims=keepdims)

    def _zeros_of_rows(self, x: Array, axis: Any, *, keepdims: bool) -> Array:
        """What a sum over nothing is."""
        axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        gone = {d % x.ndim for d in axes}
        shape = tuple(1 if d in gone else n for d, n in enumerate(x.shape) if keepdims or d not in gone)
        return namespace.zeros(shape, dtype=x.dtype)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By gather."""
        return namespace.take_along_axis(x, namespace.stop_gradient(index), axis=axis)

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """By scatter."""
        return namespace.put_along_axis(x, namespace.stop_gradient(index), namespace.asarray(value, x.dtype), axis=axis)

    def take(self, x: Array, index: Array, *, axis: int) -> Array:
        """As MLX calls it; an index has no tangent."""
        return namespace.take(x, namespace.stop_gradient(index), axis=axis)

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """As MLX calls it, in the dtype of positions; MLX refuses no rows as it does no classes."""
        some = prod(x.shape)
        found = namespace.argmax(x, axis, keepdims) if some else self._zeros_of_rows(x, axis, keepdims=keepdims)
        return found.astype(namespace.int32)

    def sort(self, x: Array, *, axis: int = -1, descending: bool = False) -> Array:
        """Downwards by the negative, which is exact."""
        return -namespace.sort(-x, axis=axis) if descending else namespace.sort(x, axis=axis)

    def copysign(self, x: Array, y: Array) -> Array:
        """For what the sign of 0 does not matter to."""
        return namespace.where(y < 0, -namespace.abs(x), namespace.abs(x))

    # -- what the standard has, without devices and copies ------------------------------------------------------------

    def astype(self, x: Array, dtype: Any, *, copy: bool = True) -> Array:  # noqa: ARG002 - arrays do not change
        """The same array if it has that dtype."""
        return x if x.dtype == dtype else x.astype(dtype)

    def asarray(self, value: Any, *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - there is none
        """A number; MLX takes integers of 64 bits with a sign."""
        if isinstance(value, int) and value >= 2**63:
            return namespace.array(value - 2**64, dtype=namespace.int64).astype(dtype)
        return namespace.array(value, dtype=dtype)

    def arange(self, size: int, *, dtype: Any = namespace.int32, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """Positions."""
        return namespace.arange(size, dtype=dtype)

    def full(self, shape: tuple[int, ...], value: float, *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """One number throughout."""
        return namespace.full(shape, value, dtype=dtype)

    def full_like(self, x: Array, value: Any, *, dtype: Any = None) -> Array:
        """One number throughout; True and False as results of the entries.

        Under vmap, and, or of a constant and of what is mapped are wrong if the constant comes first.
        """
        if isinstance(value, bool):
            return (x == x) | True if value else (x != x) & False  # noqa: PLR0124 - see above
        return namespace.full_like(x, value, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """0 throughout."""
        return namespace.zeros(shape, dtype=dtype)

    # -- what public functions ask ------------------------------------------------------------------------------------

    def device(self, x: Array) -> Any:  # noqa: ARG002 - memory is shared, and streams have devices
        """Nothing to compare."""
        return None

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - the process decides
        """float64 on the CPU alone."""
        return None if name == "float64" and not _on_cpu() else getattr(namespace, name, None)

    def is_readable(self, x: Array) -> bool:  # noqa: ARG002 - whether it is traced, MLX does not tell
        """On the CPU; on a GPU a look would wait for it."""
        return _on_cpu()

    def read(self, condition: Array) -> Any:
        """The value, unless it is traced by compile or vmap."""
        with suppress(ValueError):
            return bool(condition)
        return None

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """The same."""
        if not prod(integers.shape):
            return None
        with suppress(ValueError):
            return int(namespace.min(integers)), int(namespace.max(integers))
        return None

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - of all
        """float32."""
        return namespace.float32

    def traits(self, x: Array) -> Any:
        """Dtype, shape, and where it will be computed."""
        return type(x), x.dtype, x.shape, _on_cpu()

    # -- formulas -----------------------------------------------------------------------------------------------------

    def by_rule(self, formula: Formula, names: tuple[str, ...], options: dict[str, Any], *arrays: Array) -> Any:
        """For transformations: those derivatives are computed that somebody looks at."""
        return _by_rule(self, formula, names, options)(*arrays)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """With all operands mapped where one is."""
        arrays = {name: x for name, x in operands.items() if isinstance(x, namespace.array)}
        if len(arrays) > 1:
            operands = {**operands, **dict(zip(arrays, _tied(*arrays.values()), strict=True))}
        return super().evaluate(function, operands, axis=axis, **static)


class _Unwatched(Backend):
    """Inside a rule nobody differentiates."""

    def stop_gradient(self, x: Array) -> Array:
        """The very same."""
        return x

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        """As MLX calls it."""
        return namespace.where(condition, x, y)

    def exp(self, x: Array) -> Array:
        """The same without a rule."""
        return _scaled_exp(x) if x.dtype in _SCALES and _on_cpu() else namespace.exp(x)


_UNWATCHED = _Unwatched(namespace)


def _on_cpu() -> bool:
    return bool(namespace.default_device() == namespace.Device(namespace.cpu))


def _scaled_exp(x: Array) -> Array:
    """2^n e^r, where x = n ln 2 + r.

    MLX's own on the CPU multiplies by 1 / ln 2 in float32, for float64 too (ml-explore/mlx#3047): of e^-40 it has 5
    digits, and 0 for what is subnormal.
    """
    low, high, coarse, fine = _SCALES[x.dtype]
    n = namespace.clip(namespace.round(namespace.stop_gradient(x) * _LOG2E), low, high)
    grown = namespace.expm1((x - n * coarse) - n * fine) + 1.0
    two, half = namespace.array(2.0, dtype=x.dtype), namespace.floor(n * 0.5)
    return grown * namespace.power(two, half) * namespace.power(two, n - half)


# -- rules ------------------------------------------------------------------------------------------------------------


@namespace.custom_function
def _exp(x: Array) -> Array:
    return _scaled_exp(x)


@_exp.vjp
def _pull_exp(_: Array, g: Array, y: Array) -> Array:
    return g * y


@_exp.jvp
def _push_exp(x: Array, t: Array) -> Array:
    return _exp(x) * t


@namespace.custom_function
def _chosen(condition: Array, x: Array, y: Array) -> Array:
    return namespace.where(condition, x, y)


@_chosen.vjp
def _pull_chosen(given: tuple[Array, ...], g: Array, _: Array) -> tuple[Array, ...]:
    condition, nothing = given[0], namespace.zeros_like(g)
    return namespace.zeros_like(condition), _chosen(condition, g, nothing), _chosen(condition, nothing, g)


@_chosen.jvp
def _push_chosen(given: tuple[Array, ...], tangents: tuple[Array, ...]) -> Array:
    x, y = (namespace.zeros_like(given[1]) if t is None else t for t in tangents[1:])
    return _chosen(given[0], x, y)


@namespace.custom_function
def _tied(*arrays: Array) -> tuple[Array, ...]:
    """The very same; under vmap all are mapped if one is.

    Of two where only the second is mapped, MLX makes a wrong bitwise and, or, in silence.
    """
    return arrays


@_tied.vjp
def _pull_tied(_: Any, cotangents: Any, __: Any) -> tuple[Array, ...]:
    return tuple(cotangents)


@_tied.jvp
def _push_tied(arrays: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(namespace.zeros_like(x) if t is None else t for x, t in zip(arrays, tangents, strict=True))


@_tied.vmap
def _map_tied(arrays: tuple[Array, ...], axes: tuple[Any, ...]) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    sizes = (x.shape[a] for x, a in zip(arrays, axes, strict=True) if a is not None)
    size = next(sizes)
    mapped = (
        namespace.broadcast_to(x, (size, *x.shape)) if a is None else namespace.moveaxis(x, a, 0)
        for x, a in zip(arrays, axes, strict=True)
    )
    return tuple(mapped), (0,) * len(arrays)


def _by_rule(ops: Backend, formula: Any, names: tuple[str, ...], options: dict[str, Any]) -> Callable[..., Any]:
    """A formula of the arrays named, with its own derivatives."""

    def named(arrays: Any) -> dict[str, Array]:
        return dict(zip(names, _several(arrays), strict=True))

    of = namespace.custom_function(lambda *arrays: _UNWATCHED.evaluate(formula.value, named(arrays), **options))

    @of.vjp
    def pull(arrays: Any, cotangents: Any, _: Any) -> Any:
        operands, seeds = named(arrays), dict(zip(formula.COTANGENTS, _several(cotangents), strict=False))
        sources = set().union(*formula.COTANGENTS.values())
        by = tuple(name for name, x in operands.items() if name in sources and _moves(x))
        found = dict(zip(by, ops.pull(formula, seeds, operands, by=by, **options), strict=True))
        return tuple(found[name] if name in found else namespace.zeros_like(x) for name, x in operands.items())

    @of.jvp
    def push(arrays: Any, tangents: Any) -> Any:
        operands = named(arrays)
        moving = {n: t for n, t in named(tangents).items() if t is not None and _moves(operands[n])}
        pushforward = getattr(formula, "pushforward", None)
        if pushforward is not None:
            return ops.evaluate(pushforward, {**operands, **{f"t_{n}": t for n, t in moving.items()}}, **options)
        pushed = tuple(
            _pushed_by_rows(ops, formula, result, operands, moving=moving, options=options)
            for result in formula.COTANGENTS
        )
        return pushed if len(pushed) > 1 else pushed[0]

    return of


def _pushed_by_rows(
    ops: Backend,
    formula: Any,
    result: str,
    operands: dict[str, Array],
    *,
    moving: dict[str, Array],
    options: dict[str, Any],
) -> Array:
    """The tangent of one value a row: the gradient times the tangents, added up along the row."""
    axis, one = options["axis"], namespace.ones((1,) * next(iter(operands.values())).ndim, dtype=options["dtype"])
    seeds = {name: one if name == result else namespace.zeros_like(one) for name in formula.COTANGENTS}
    by = tuple(moving)
    found = ops.evaluate(formula.pullback, {**operands, **seeds}, by=by, **options)
    return sum(ops.sum(g * t, axis=axis, keepdims=True) for g, t in zip(found, moving.values(), strict=True))


def _moves(x: Array) -> bool:
    return bool(namespace.issubdtype(x.dtype, namespace.floating))


def _several(x: Any) -> tuple[Array, ...]:
    """MLX hands over what is alone without a tuple."""
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
