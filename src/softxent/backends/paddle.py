"""Paddle: autograd whose tensors say what is *not* differentiated, narrow integers, and names of its own."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from softxent.backends.generic import Formula

Array = Any

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_LOWEST = {paddle.float32: -87.0, paddle.float64: -708.0}
_HALVES = {paddle.float16, paddle.bfloat16}
_NARROW = {paddle.int8, paddle.int16, paddle.uint8, paddle.uint16}  # Paddle has no choice and no maximum of these


class Namespace:
    """The standard's names for Paddle's functions, where the two differ; sums keep their digits."""

    __name__ = "paddle"

    # Paddle's own take no numbers.
    add, subtract = staticmethod(operator.add), staticmethod(operator.sub)
    multiply, divide = staticmethod(operator.mul), staticmethod(operator.truediv)

    def __getattr__(self, name: str) -> Any:
        """Where they do not differ."""
        return getattr(paddle, name)

    # -- making and casting -------------------------------------------------------------------------------------------

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None) -> Array:  # noqa: ARG002 - the default place
        """A tensor of what is none."""
        return paddle.to_tensor(x, dtype=dtype)

    def astype(self, x: Array, dtype: Any, *, copy: bool = True) -> Array:  # noqa: ARG002 - nobody writes to tensors
        """A tensor of another dtype; the same of the same.

        What is nothing in float16 is made nothing before: Paddle makes 4e-07 of 2e-26.
        """
        if x.dtype == dtype:
            return x
        if dtype == paddle.float16 and x.dtype in _LOWEST:
            nothing = paddle.abs(x) < 2.0**-26
            x = x - _constant(self.where(nothing, x, 0.0))  # the derivative is that of x
        return paddle.cast(x, dtype)

    def arange(self, stop: int, *, dtype: Any = paddle.int64, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """From 0 on."""
        return paddle.arange(stop, dtype=dtype)

    def full(self, shape: Sequence[int], value: Any, *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """The same everywhere."""
        return paddle.full(shape, value, dtype=dtype)

    def zeros(self, shape: Sequence[int], *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """0 everywhere."""
        return paddle.zeros(shape, dtype=dtype)

    def full_like(self, x: Array, value: Any, *, dtype: Any = None) -> Array:
        """The same everywhere, in the shape of a tensor."""
        return paddle.full_like(x, value, dtype=dtype or x.dtype)

    def result_type(self, *dtypes: Any) -> Any:
        """The wider of floating dtypes."""
        return max(dtypes, key=lambda dtype: paddle.finfo(dtype).bits)

    def iinfo(self, dtype: Any) -> Any:
        """As NumPy knows it."""
        return np.iinfo(str(dtype).rpartition(".")[2])

    # -- element by element -------------------------------------------------------------------------------------------

    def exp(self, x: Array) -> Array:
        """By a square where the result is no normal number: Paddle's own stops there, at 2.9e-39 for -inf."""
        low = x < _LOWEST[x.dtype]
        root = paddle.exp(0.5 * self.where(low, x, 0.0))
        return self.where(low, root * root, paddle.exp(self.where(low, 0.0, x)))

    def where(self, condition: Array, x: Any, y: Any) -> Array:
        """A choice; a number takes the dtype of what is beside it, halves and narrow integers go by a wider one."""
        like = x if isinstance(x, paddle.Tensor) or not isinstance(x, (bool, int, float)) else y
        dtype = like.dtype
        if dtype in _HALVES | _NARROW:
            wide = paddle.float32 if dtype in _HALVES else paddle.int32
            x, y = (one if isinstance(one, (bool, int, float)) else paddle.cast(one, wide) for one in (x, y))
            return paddle.cast(self.where(condition, x, y), dtype)
        x, y = (paddle.full([], one, dtype=dtype) if isinstance(one, (bool, int, float)) else one for one in (x, y))
        return paddle.where(condition, x, y)

    # -- shapes -------------------------------------------------------------------------------------------------------

    def permute_dims(self, x: Array, axes: Sequence[int]) -> Array:
        """As Paddle calls it."""
        return paddle.transpose(x, list(axes))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """The same entries in another shape."""
        return paddle.reshape(x, list(shape))

    def expand_dims(self, x: Array, *, axis: int) -> Array:
        """As Paddle calls it."""
        return paddle.unsqueeze(x, axis)

    def squeeze(self, x: Array, *, axis: Any) -> Array:
        """Without axes of size 1."""
        return paddle.squeeze(x, axis)

    def take(self, x: Array, index: Array, *, axis: int) -> Array:
        """By selection."""
        return paddle.index_select(x, index, axis)

    # -- along an axis ------------------------------------------------------------------------------------------------

    def max(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """As Paddle calls it, which knows no halves."""
        if x.dtype in _HALVES:
            return paddle.cast(self.max(paddle.cast(x, paddle.float32), axis=axis, keepdims=keepdims), x.dtype)
        return paddle.max(x, axis=axis, keepdim=keepdims)

    def min(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """As Paddle calls it, which knows no halves."""
        if x.dtype in _HALVES:
            return paddle.cast(self.min(paddle.cast(x, paddle.float32), axis=axis, keepdims=keepdims), x.dtype)
        return paddle.min(x, axis=axis, keepdim=keepdims)

    def any(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """As Paddle calls it."""
        return paddle.any(x, axis=axis, keepdim=keepdims)

    def all(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """As Paddle calls it."""
        return paddle.all(x, axis=axis, keepdim=keepdims)

    def sum(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Pairwise: Paddle adds one by one."""
        axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if axis is None and x.ndim > 1 and not keepdims:
            x, axes = paddle.reshape(x, [-1]), (0,)
        for d in axes:
            x = _added(x, d % x.ndim)
        return x if keepdims or not axes else paddle.squeeze(x, list(axes))

    def sort(self, x: Array, *, axis: int = -1, descending: bool = False) -> Array:
        """As Paddle calls it."""
        return paddle.sort(x, axis=axis, descending=descending)

    def cumulative_sum(self, x: Array, *, axis: int) -> Array:
        """As Paddle calls it."""
        return paddle.cumsum(x, axis=axis)


def _added(x: Array, axis: int) -> Array:
    """The sum along an axis, which stays with size 1."""
    size = x.shape[axis]
    while size > generic.FEW:
        share = size // 2
        first = paddle.slice(x, [axis], [0], [share])
        second = paddle.slice(x, [axis], [share], [2 * share])
        halved = first + second
        x = paddle.concat([halved, paddle.slice(x, [axis], [2 * share], [size])], axis=axis) if size % 2 else halved
        size = share + size % 2
    return paddle.sum(x, axis=axis, keepdim=True)


class Backend(generic.Ruled):
    """Tensors, eager or of a program that is being made."""

    name = "paddle"
    array = paddle.Tensor
    plain_sums = False

    def adopt(self, x: Array) -> Array:
        """Integers that Paddle cannot choose from in wider ones."""
        return self.comparable(x)

    def comparable(self, integers: Array) -> Array:
        """The same."""
        return paddle.cast(integers, paddle.int32) if integers.dtype in _NARROW else integers

    def stop_gradient(self, x: Array) -> Array:
        """Detached; the same tensor where nobody differentiates."""
        return _constant(x) if _is_watched(x) else x

    def equal(self, x: Array | float, y: Array | float) -> Any:
        """By comparisons: Paddle's own == and != take what differs by less than 1e-15 for the same."""
        return (x >= y) & (x <= y)

    def not_equal(self, x: Array | float, y: Array | float) -> Any:
        """The contrary, of NaN too."""
        same = self.equal(x, y)
        return not same if isinstance(same, bool) else ~same

    def in_order(self, x: Array) -> Array:
        """Sums do not ask how memory lies."""
        return x

    def sum_over(self, x: Array, axes: tuple[int, ...]) -> Array:
        """One after the other."""
        return self.sum(x, axis=axes, keepdims=True)

    # -- what public functions ask ------------------------------------------------------------------------------------

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - all devices
        """As Paddle names it."""
        return getattr(paddle, name) if name in _FLOATS else None

    def device(self, x: Array) -> Any:
        """The tensor's place; None in a program, which runs where it is put."""
        return str(x.place) if isinstance(x, paddle.Tensor) else None

    def is_readable(self, x: Array) -> bool:
        """Eager tensors in host memory."""
        return isinstance(x, paddle.Tensor) and x.place.is_cpu_place()

    def read(self, condition: Array) -> bool | None:
        """The value, unless it is one of a program."""
        return bool(condition) if isinstance(condition, paddle.Tensor) else None

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """In two looks, unless they are of a program."""
        return super().bounds(self.comparable(integers)) if isinstance(integers, paddle.Tensor) else None

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - a setting of the process
        """What paddle.set_default_dtype says."""
        return getattr(paddle, paddle.get_default_dtype())

    # -- formulas -----------------------------------------------------------------------------------------------------

    def watches(self, arrays: Collection[Array]) -> bool:
        """Where autograd looks on; a program, which has no such tensors, is left to Paddle."""
        return any(map(_is_watched, arrays))

    def by_rule(self, formula: Formula, names: tuple[str, ...], options: dict[str, Any], *arrays: Array) -> Any:
        """For autograd."""
        return _Rule.apply(self, formula, names, options, *arrays)


def _is_watched(x: Any) -> bool:
    """Whether autograd looks on; in a program it may come later."""
    if not isinstance(x, paddle.Tensor):
        return not isinstance(x, (bool, int, float))
    return not x.stop_gradient and paddle.is_grad_enabled()


def _constant(x: Array) -> Array:
    """Detached; of a program a copy: Paddle writes over memory that a detached tensor of one shares with the other."""
    if isinstance(x, paddle.Tensor):
        return x.detach()
    constant = paddle.assign(x)
    constant.stop_gradient = True
    return constant


class _Rule(paddle.autograd.PyLayer):
    """Every formula's rule, which Paddle differentiates again as it is written."""

    @staticmethod
    def forward(
        ctx: Any, ops: Backend, formula: Formula, names: tuple[str, ...], options: dict[str, Any], *tensors: Array
    ) -> Any:
        """The value."""
        sources = set().union(*formula.COTANGENTS.values())
        ctx.call = ops, formula, names, options
        ctx.by = tuple(n for n, x in zip(names, tensors, strict=True) if n in sources and not x.stop_gradient)
        ctx.save_for_backward(*tensors)
        return ops.evaluate(formula.value, dict(zip(names, tensors, strict=True)), **options)

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> Any:
        """The pullback."""
        ops, formula, names, options = ctx.call
        tensors = ctx.saved_tensor()
        seeds = dict(zip(formula.COTANGENTS, cotangents, strict=False))
        found = ops.pull(formula, seeds, dict(zip(names, tensors, strict=True)), by=ctx.by, **options)
        given = dict(zip(ctx.by, found, strict=True))
        return tuple(given.get(n) for n in names)


def backend() -> Backend:
    """The one instance."""
    return Backend(Namespace())
