"""TensorFlow: tapes, graphs whose values and sizes are not known yet, and names that are not the standard's."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python import pywrap_tfe  # there is no public way to ask what a tape watches

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from softxent.backends.generic import Formula

Array = Any

_PARTS = 512
_WIDTHS = {tf.float16: 16, tf.bfloat16: 16, tf.float32: 32, tf.float64: 64}
_NEAR = 2.0**-10  # the first term that the series leaves out is less than an ULP of float64


class Namespace:
    """The standard's names for TensorFlow's functions, where the two differ; sums keep their digits."""

    __name__ = "tensorflow"

    log, log1p = map(staticmethod, (tf.math.log, tf.math.log1p))
    isnan, isinf, isfinite = map(staticmethod, (tf.math.is_nan, tf.math.is_inf, tf.math.is_finite))
    max, min, any, all = map(staticmethod, (tf.reduce_max, tf.reduce_min, tf.reduce_any, tf.reduce_all))
    permute_dims = staticmethod(tf.transpose)
    ceil, matrix_transpose = staticmethod(tf.math.ceil), staticmethod(tf.linalg.matrix_transpose)

    def __getattr__(self, name: str) -> Any:
        """Where they do not differ."""
        return getattr(tf, name)

    # -- making and casting -------------------------------------------------------------------------------------------

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None) -> Array:  # noqa: ARG002 - the runtime places
        """A tensor of what is none."""
        return tf.convert_to_tensor(x, dtype=dtype)

    def astype(self, x: Array, dtype: Any, *, copy: bool = True) -> Array:  # noqa: ARG002 - nobody writes to tensors
        """A tensor of another dtype; the same of the same."""
        return tf.cast(x, dtype)

    def arange(self, stop: Any, *, dtype: Any = tf.int32, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """From 0 on; 32 bits are TensorFlow's way with positions."""
        return tf.range(tf.cast(stop, dtype))

    def full(self, shape: Sequence[int], value: Any, *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """The same everywhere."""
        return tf.fill(shape, tf.constant(value, dtype))

    def zeros(self, shape: Sequence[int], *, dtype: Any, device: Any = None) -> Array:  # noqa: ARG002 - the same
        """0 everywhere."""
        return tf.zeros(shape, dtype)

    def full_like(self, x: Array, value: Any, *, dtype: Any = None) -> Array:
        """The same everywhere, in the shape of a tensor."""
        filled = tf.fill(tf.shape(x), tf.constant(value, dtype or x.dtype))
        filled.set_shape(x.shape)
        return filled

    def result_type(self, *dtypes: Any) -> Any:
        """The wider of floating dtypes."""
        return max(dtypes, key=_WIDTHS.__getitem__)

    def finfo(self, dtype: Any) -> Any:
        """As NumPy knows it."""
        return np.finfo(dtype.as_numpy_dtype)

    def iinfo(self, dtype: Any) -> Any:
        """As NumPy knows it."""
        return np.iinfo(dtype.as_numpy_dtype)

    # -- element by element -------------------------------------------------------------------------------------------

    def where(self, condition: Array, x: Any, y: Any) -> Array:
        """A choice; a number takes the dtype of what is beside it, in a graph too."""
        if not tf.is_tensor(x):
            x = tf.constant(x, y.dtype)
        elif not tf.is_tensor(y):
            y = tf.constant(y, x.dtype)
        return tf.where(condition, x, y)

    def expm1(self, x: Array) -> Array:
        """TensorFlow's, but by the series next to 0, where a quotient by it would show what that loses."""
        near = tf.abs(x) < _NEAR
        y = tf.where(near, x, tf.zeros_like(x))
        series = y + y * y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y / 720))))
        return tf.where(near, series, tf.math.expm1(x))

    def copysign(self, x: Array, y: Array) -> Array:
        """One's size, the other's sign; that of -0 is told by its bits."""
        bits = tf.int64 if y.dtype == tf.float64 else tf.int32
        return tf.where(tf.bitcast(y, bits) < 0, -tf.abs(x), tf.abs(x))

    # -- shapes -------------------------------------------------------------------------------------------------------

    def reshape(self, x: Array, shape: Sequence[Any]) -> Array:
        """Sizes that are not known yet are those that stood in the same place, or the one that is left."""
        if None not in shape:
            return tf.reshape(x, shape)
        known: list[Any] = list(shape)
        if known.count(None) == 1 and -1 not in known:
            known[known.index(None)] = -1
        else:
            sizes = tf.shape(x)
            known = [sizes[d] if n is None else n for d, n in enumerate(shape)]
        return tf.ensure_shape(tf.reshape(x, known), [None if n == -1 else n for n in shape])

    def broadcast_to(self, x: Array, shape: Sequence[Any]) -> Array:
        """The same: a size that is not known stays as it is."""
        if None not in shape:
            return tf.broadcast_to(x, shape)
        sizes = tf.shape(x)
        return tf.broadcast_to(x, [sizes[d] if n is None else n for d, n in enumerate(shape)])

    def squeeze(self, x: Array, *, axis: Any) -> Array:
        """Without axes of size 1."""
        return tf.squeeze(x, axis=axis)

    def moveaxis(self, x: Array, source: int, destination: int) -> Array:
        """One axis elsewhere."""
        order = [d for d in range(x.ndim) if d != source % x.ndim]
        order.insert(destination % x.ndim, source % x.ndim)
        return tf.transpose(x, order)

    def take(self, x: Array, index: Array, *, axis: int) -> Array:
        """By gather."""
        return tf.gather(x, index, axis=axis)

    # -- along an axis ------------------------------------------------------------------------------------------------

    def sum(self, x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        """Pairwise: TensorFlow adds one by one where the axis is not the last, and XLA along any axis."""
        if x.dtype not in _WIDTHS:
            return tf.reduce_sum(x, axis=axis, keepdims=keepdims)
        if axis is None and x.ndim != 1:
            x, shape = tf.reshape(x, (-1,)), (1,) * x.ndim
            found = self.sum(x, axis=0)
            return tf.reshape(found, shape) if keepdims else found
        axes = (0,) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        for d in axes:
            x = _added(x, d % x.ndim)
        return x if keepdims else tf.squeeze(x, axis=axes) if axes else x

    def sort(self, x: Array, *, axis: int = -1, descending: bool = False) -> Array:
        """As TensorFlow calls it."""
        return tf.sort(x, axis=axis, direction="DESCENDING" if descending else "ASCENDING")

    def cumulative_sum(self, x: Array, *, axis: int) -> Array:
        """As TensorFlow calls it."""
        return tf.cumsum(x, axis=axis)


def _added(x: Array, axis: int) -> Array:
    """The sum along an axis, which stays with size 1."""
    size = x.shape[axis]
    if size is None:
        x, size = _thinned(x, axis), _PARTS
    while size > generic.FEW:
        size = -(-size // generic.FEW)
        # Sums of sums would not do: XLA makes one sum of them.
        a, b, c, d, e, f, g, h = tf.unstack(_parted(x, axis, size), axis=axis)
        x = ((a + b) + (c + d)) + ((e + f) + (g + h))
    return tf.reduce_sum(x, axis=axis, keepdims=True)


def _parted(x: Array, axis: int, share: int) -> Array:
    """An axis as eight times a share, filled up by 0."""
    x = _filled_up(x, axis, generic.FEW * share - x.shape[axis])
    sizes = [*_sizes(x)]
    return tf.reshape(x, [*sizes[:axis], generic.FEW, share, *sizes[axis + 1 :]])


def _thinned(x: Array, axis: int) -> Array:
    """An axis of unknown size as one of so many sums."""
    x = _filled_up(x, axis, -tf.shape(x)[axis] % _PARTS)
    sizes = [*_sizes(x)]
    x = tf.reduce_sum(tf.reshape(x, [*sizes[:axis], _PARTS, -1, *sizes[axis + 1 :]]), axis=axis + 1)
    return tf.ensure_shape(x, [_PARTS if d == axis else n for d, n in enumerate(x.shape)])


def _filled_up(x: Array, axis: int, missing: Any) -> Array:
    if isinstance(missing, int) and missing == 0:
        return x
    return tf.pad(x, [[0, missing if d == axis else 0] for d in range(x.ndim)])


def _sizes(x: Array) -> Iterator[Any]:
    """The shape, in which what is not known yet is a tensor."""
    unknown = tf.shape(x) if None in tuple(x.shape) else ()
    return (unknown[d] if n is None else n for d, n in enumerate(x.shape))


class Backend(generic.Ruled):
    """Tensors and variables, eager or of a graph."""

    name = "tensorflow"
    array = tf.Tensor
    adopts_numpy = True
    plain_sums = False

    def adopt(self, x: Array) -> Array:
        """Variables are read; NumPy arrays may stand beside tensors."""
        return tf.convert_to_tensor(x)

    def oddity(self, x: Array) -> str | None:
        """Tensors that have no entry at every place, or no number of dimensions."""
        if isinstance(x, tf.RaggedTensor):
            return "a RaggedTensor; pass its .to_tensor() and a mask as where="
        if isinstance(x, tf.SparseTensor):
            return "a SparseTensor; pass tf.sparse.to_dense(...)"
        if isinstance(x, tf.IndexedSlices):
            return "IndexedSlices; pass tf.convert_to_tensor(...)"
        return "one of unknown rank; pass tf.ensure_shape(...)" if x.shape.rank is None else None

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    def stop_gradient(self, x: Array) -> Array:
        """As TensorFlow calls it."""
        return tf.stop_gradient(x)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By a choice, of which the sum loses nothing."""
        return tf.reduce_sum(self.where(self._at(x, index, axis), x, tf.zeros_like(x)), axis=axis, keepdims=True)

    def in_order(self, x: Array) -> Array:
        """Memory always is."""
        return x

    def sum_over(self, x: Array, axes: tuple[int, ...]) -> Array:
        """One after the other."""
        return self.sum(x, axis=axes, keepdims=True)

    def segment_sum(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """In parts, since each is added to one by one."""
        parts, at = self.places(index, x.shape[axis], count)
        found = tf.math.unsorted_segment_sum(self.moveaxis(x, axis, 0), at, count * parts)
        found = self.sum(self.reshape(found, (count, parts, *found.shape[1:])), axis=1)
        return self.moveaxis(found, 0, axis)

    def segment_max(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """TensorFlow's, which has the smallest finite number in place of -inf, and may lose NaN."""
        moved = self.moveaxis(x, axis, 0)
        largest = tf.math.unsorted_segment_max(moved, index, count)
        above = tf.cast(moved > -inf, tf.int32)
        some = tf.math.unsorted_segment_max(above, index, count) == 1
        undefined = tf.math.unsorted_segment_max(tf.cast(tf.math.is_nan(moved), tf.int32), index, count) == 1
        found = self.where(undefined, nan, self.where(some, largest, -inf))
        return self.moveaxis(found, 0, axis)

    # -- what public functions ask ------------------------------------------------------------------------------------

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - all devices
        """As TensorFlow names it."""
        found = getattr(tf, name, None)
        return found if found in _WIDTHS else None

    def device(self, x: Array) -> Any:  # noqa: ARG002 - the runtime moves what it needs
        """Nothing to compare."""
        return None

    def is_readable(self, x: Array) -> bool:
        """Eager tensors in host memory."""
        if isinstance(x, tf.Variable):
            return bool(tf.executing_eagerly() and "CPU" in x.device)
        return not tf.is_symbolic_tensor(x) and "CPU" in x.device

    def reading(self) -> AbstractContextManager[Any]:
        """Outside any graph: inside one even operations on eager tensors are recorded."""
        return _outside()

    def read(self, condition: Array) -> bool | None:
        """The value, unless it is one of a graph."""
        return None if tf.is_symbolic_tensor(condition) else bool(condition)

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """In two looks, unless they are of a graph."""
        integers = tf.convert_to_tensor(integers)
        return None if tf.is_symbolic_tensor(integers) else super().bounds(integers)

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - one for all
        """32 bits."""
        return tf.float32

    # -- formulas -----------------------------------------------------------------------------------------------------

    def watches(self, arrays: Collection[Array]) -> bool:
        """Where a tape may ask."""
        return any(map(_is_watched, arrays))

    def by_rule(self, formula: Formula, names: tuple[str, ...], options: dict[str, Any], *arrays: Array) -> Any:
        """For tapes."""
        return _by_rule(self, formula, names, options)(*arrays)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """As if nobody differentiated, where nobody does."""
        if self is not _UNWATCHED and not any(_is_watched(x) for x in operands.values() if tf.is_tensor(x)):
            return _UNWATCHED.evaluate(function, operands, axis=axis, **static)
        return super().evaluate(function, operands, axis=axis, **static)


class _Unwatched(Backend):
    """Where nobody differentiates."""

    def stop_gradient(self, x: Array) -> Array:
        """The very same."""
        return x


_UNWATCHED = _Unwatched(Namespace())


@contextmanager
def _outside() -> Iterator[None]:
    """Lifted out of a graph, whose own tensors cannot come along."""
    try:
        with tf.init_scope():
            yield
    except TypeError as error:
        if "out of scope" not in str(error):
            raise
        msg = "check=True must read the values of arguments, got a traced array; check outside the trace"
        raise ValueError(msg) from None


def _is_watched(x: Array) -> bool:
    """Whether a tape, or a forward accumulator, looks on; in a graph one may come later."""
    if tf.is_symbolic_tensor(x) or not tf.executing_eagerly():
        return True
    return bool(pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes([x]))


def _by_rule(ops: Backend, formula: Formula, names: tuple[str, ...], options: dict[str, Any]) -> Callable[..., Any]:
    """A formula with its own pullback, which tapes differentiate again as it is written."""
    sources = set().union(*formula.COTANGENTS.values())

    @tf.custom_gradient
    def of(*arrays: Array) -> Any:
        by = tuple(
            n for n, x in zip(names, arrays, strict=True) if n in sources and x.dtype.is_floating and _is_watched(x)
        )
        constants = dict(zip(names, map(tf.stop_gradient, arrays), strict=True))
        results = _UNWATCHED.evaluate(formula.value, constants, **options)

        def pull(*cotangents: Array) -> list[Array | None]:
            seeds = dict(zip(formula.COTANGENTS, cotangents, strict=False))
            operands = dict(zip(names, arrays, strict=True))
            # In a graph each by itself: what nobody asks for is taken out, and what they share is computed once.
            groups = [by] if tf.executing_eagerly() else [(name,) for name in by]
            found: dict[str, Array] = {}
            for group in groups:
                found |= zip(group, ops.pull(formula, seeds, operands, by=group, **options), strict=True)
            return [found.get(name) for name in names]

        return results, pull

    return of


def backend() -> Backend:
    """The one instance."""
    return Backend(Namespace())
