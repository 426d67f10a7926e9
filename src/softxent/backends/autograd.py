"""HIPS autograd: values and first derivatives by NumPy's backend, further ones by formulas on autograd.numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import autograd.numpy as namespace
import numpy as np
from autograd.extend import defjvp_argnums, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval, isbox

from softxent.backends import generic
from softxent.backends import numpy as plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from softxent.backends.generic import Foresee, Formula

Array = Any

_numpy = plain.backend()


class Backend(generic.Backend):
    """Boxes, in which autograd wraps the arrays that it differentiates by; NumPy arrays may stand beside them."""

    name = "autograd"
    adopts_numpy = True

    def adopt(self, x: Array) -> Array:
        """Boxes as they are."""
        return x if isbox(x) else np.asarray(x)

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    def stop_gradient(self, x: Array) -> Array:
        """What is in the box, and in the box in that."""
        return getval(x)

    def abs(self, x: Array) -> Array:
        """By a choice: autograd divides by the absolute value, which may be infinite."""
        return namespace.where(x < 0, -x, x)

    def copysign(self, x: Array, y: Array) -> Array:
        """The same."""
        return namespace.where(np.signbit(getval(y)), -self.abs(x), self.abs(x))

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """A choice whose derivatives have the dtype of the result; autograd's are float64."""
        return _chosen(getval(condition), x, y)

    def tanh(self, x: Array) -> Array:
        """The derivative without an overflow."""
        return _tanh(x)

    def sort(self, x: Array, *, axis: int = -1, descending: bool = False) -> Array:
        """By position, which has a derivative in any number of dimensions."""
        key = -getval(x) if descending else getval(x)
        order = np.argsort(key, axis=axis, stable=True)
        places: list[Array] = list(np.indices(order.shape, sparse=True))
        places[axis] = order
        return x[tuple(places)]

    def cumulative_sum(self, x: Array, *, axis: int) -> Array:
        """As autograd knows it."""
        return namespace.cumsum(x, axis=axis)

    def concat(self, arrays: list[Array], *, axis: int) -> Array:
        """As autograd knows it."""
        return namespace.concatenate(arrays, axis)

    def take(self, x: Array, index: Array, *, axis: int) -> Array:
        """By indexing."""
        return x[(*(slice(None) for _ in range(axis)), index)]

    def matrix_transpose(self, x: Array) -> Array:
        """By a swap, which autograd differentiates."""
        return namespace.swapaxes(x, -1, -2)

    def astype(self, x: Array, dtype: Any, *, copy: bool = True) -> Array:  # noqa: ARG002 - nobody writes to it
        """The same array if it has that dtype."""
        return x if x.dtype == dtype else _cast(x, np.dtype(dtype))

    # -- what public functions ask ------------------------------------------------------------------------------------

    def device(self, x: Array) -> Any:  # noqa: ARG002 - there is only one
        """Nothing to compare."""
        return None

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - one device
        """As NumPy has it."""
        return plain.registered(name, dtype)

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - of all
        """float64."""
        return np.dtype("float64")

    def min(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """Of all entries it is looked at and no more."""
        return np.min(getval(x)) if axis is None else namespace.min(x, axis=axis, keepdims=keepdims)

    def max(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """The same."""
        return np.max(getval(x)) if axis is None else namespace.max(x, axis=axis, keepdims=keepdims)

    def is_readable(self, x: Array) -> bool:  # noqa: ARG002 - always
        """Host memory."""
        return True

    def read(self, condition: Array) -> bool:
        """What is in the box."""
        return bool(getval(condition))

    def quietly(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """As NumPy does."""
        return _numpy.quietly(function, *arguments, **keywords)

    # -- formulas -----------------------------------------------------------------------------------------------------

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
        """By the formula's own derivatives, as one operation; by-products leave that to autograd."""
        boxes = {name: x for name, x in operands.items() if isbox(x)}
        if not boxes:
            return self.evaluate(formula.value, operands, axis=axis, **static)
        call = _Call(self, formula, operands, tuple(boxes), {**static, "axis": axis})
        found = _value(call, *boxes.values())
        if not isinstance(getval(found), tuple):
            return found
        count = len(formula.COTANGENTS if by_products else found)
        others = self.evaluate(formula.value, operands, axis=axis, **static)[count:] if by_products else ()
        return *(found[k] for k in range(count)), *others  # what is a tuple in a box is no tuple

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """On NumPy where nothing is in a box."""
        if not any(map(isbox, operands.values())):
            return _numpy.evaluate(function, operands, axis=axis, **static)
        kept = {name: _kept(x) if isbox(x) else x for name, x in operands.items()}
        return super().evaluate(function, kept, axis=axis, **static)

    def derived(
        self,
        function: Callable[..., Any],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """The same."""
        if not any(map(isbox, operands.values())):
            return _numpy.derived(function, operands, by=by, axis=axis, **static)
        return super().derived(function, operands, by=by, axis=axis, **static)


class _Call(NamedTuple):
    """A formula and its operands, of which those named move."""

    backend: Backend
    formula: Formula
    operands: Mapping[str, Any]
    names: tuple[str, ...]
    keywords: dict[str, Any]

    def of(self, arrays: tuple[Array, ...]) -> dict[str, Any]:
        """The operands, with other arrays."""
        return {**self.operands, **dict(zip(self.names, map(self.backend.adopt, arrays), strict=True))}

    def pull(self, g: Any, arrays: tuple[Array, ...], by: tuple[str, ...]) -> tuple[Array, ...]:
        """Derivatives by the operands named."""
        seeds = g if isinstance(getval(g), tuple) else (g,)
        cotangents = {name: self.backend.adopt(seeds[k]) for k, name in enumerate(self.formula.COTANGENTS)}
        return self.backend.pull(self.formula, cotangents, self.of(arrays), by=by, **self.keywords)


# -- operations that autograd is told of ------------------------------------------------------------------------------


@primitive
def _value(call: _Call, *arrays: Array) -> Any:
    """The value of a formula."""
    return _numpy.evaluate(call.formula.value, call.of(arrays), **call.keywords)


def _pulled(argnums: tuple[int, ...], _: Any, args: tuple[Any, ...], __: Any) -> Callable[[Any], tuple[Array, ...]]:
    call, *arrays = args
    by = tuple(call.names[n - 1] for n in argnums)
    return lambda g: call.pull(g, tuple(arrays), by)


def _pushed(*_: Any) -> Any:
    msg = "softxent has no forward mode on autograd; take autograd.grad, or softxent.vjp and hvp, got make_jvp"
    raise TypeError(msg)


defvjp_argnums(_value, _pulled)
defjvp_argnums(_value, _pushed)


@primitive
def _kept(x: Array) -> Array:
    """The array, whose derivative gets its dtype, whatever autograd's operations make of it."""
    return x


@primitive
def _cast(x: Array, dtype: Any) -> Array:
    return np.asarray(x).astype(dtype)


@primitive
def _chosen(condition: Array, x: Array, y: Array) -> Array:
    return np.where(condition, x, y)


@primitive
def _tanh(x: Array) -> Array:
    return np.tanh(x)


def _like(x: Array) -> Callable[[Array], Array]:
    """How a derivative gets the shape and dtype of what it is by, which was broadcast."""
    x = getval(x)
    dtype, shape = np.result_type(x), np.shape(x)

    def like(g: Array) -> Array:
        missing = g.ndim - len(shape)
        axes = tuple(d for d, n in enumerate(g.shape) if d < missing or shape[d - missing] != n)
        g = namespace.reshape(namespace.sum(g, axis=axes), shape) if axes else g
        return g if g.dtype == dtype else _cast(g, dtype)

    return like


def _over_squared_cosh(g: Array, x: Array) -> Array:
    """By what does not overflow: 1 / cosh(x) = 2 e^-|x| / (1 + e^-2|x|)."""
    e = namespace.exp(-_chosen(getval(x) < 0, -x, x))
    return g * (2.0 * e / (1.0 + e * e)) ** 2


defvjp(_kept, lambda _, x: _like(x))
defvjp(_cast, lambda _, x, __: _like(x))
defvjp(
    _chosen,
    None,
    lambda _, condition, x, __: lambda g: _like(x)(_chosen(condition, g, 0.0)),
    lambda _, condition, __, y: lambda g: _like(y)(_chosen(condition, 0.0, g)),
)
defvjp(_tanh, lambda _, x: lambda g: _over_squared_cosh(g, x))


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
