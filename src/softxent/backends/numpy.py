"""NumPy: blocks on threads, gathers by index, no floating-point warnings, sums that are pairwise or of a few."""

from __future__ import annotations

import operator
from functools import lru_cache
from itertools import count
from math import inf, prod
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as namespace
import numpy as np

from softxent import workers
from softxent.backends import blocks, generic, recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Array = Any

_PIECE = 2**17  # entries that the cache holds the right way round and the other
_COLUMNS = 4  # so few are faster copied one by one
# Not the power, for which ** has ways of its own.
_UFUNCS: dict[Any, np.ufunc] = {
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.divide,
    operator.neg: np.negative,
    operator.abs: np.abs,
}


class Backend(blocks.Backend):
    """NumPy arrays."""

    name = "numpy"
    kinds = np.ndarray, np.generic
    small = 2**14  # logits up to which finding out what to do takes a good part of a call

    _found: tuple[Array, Array, Array] | None = None  # in a block: where the largest was last looked for, and found; it
    _last: tuple[Array, Any, Array] | None = None  # in a block: the index last asked for, in what, and its positions
    _groups: tuple[Array, tuple[Array | None, Array, Array]] | None = None  # in a block: the segments last asked for

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

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """The same with less ado."""
        if integers.size == 0:
            return None
        return int(np.minimum.reduce(integers, axis=None)), int(np.maximum.reduce(integers, axis=None))

    def traits(self, x: Array) -> Any:
        """Class, dtype, shape and strides."""
        return type(x), x.dtype, x.shape, x.strides

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    # np.sum, np.max and np.copy with less ado.
    added: Any = staticmethod(np.add.reduce)
    largest: Any = staticmethod(np.maximum.reduce)
    copied: Any = staticmethod(np.array)

    def sum(self, x: Array, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
        """Along the first axis, where NumPy adds one by one, by halves."""
        if axis == 0 and keepdims and x.ndim > 1:
            return self.by_halves(x)
        return self.added(x, axis=axis, keepdims=keepdims)

    def by_halves(self, x: Array) -> Array:
        """The sum along the first axis; of few as it is."""
        if len(x) <= generic.FEW:
            return self.added(x, axis=0, keepdims=True)
        half = len(x) // 2
        return self.by_halves(x[:half]) + self.by_halves(x[half:])

    def max(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        """Not row by row, where these are short and many."""
        return self.largest(self.in_columns(x, axis), axis=axis, keepdims=keepdims)

    def in_columns(self, x: Array, axis: int | None) -> Array:
        """The same array, with memory in the order of columns where it has many short rows along the axis."""
        rows = axis is not None and x.flags.c_contiguous and axis % x.ndim == x.ndim - 1
        return self.copied(x, order="F") if rows and 0 < x.shape[-1] <= self.few <= x.size // x.shape[-1] else x

    def expand_dims(self, x: Array, *, axis: int) -> Array:
        """By an index, which takes a third of the time."""
        return x[(slice(None),) * (axis % (x.ndim + 1)) + (None,)]

    def moveaxis(self, x: Array, source: int, destination: int) -> Array:
        """The same with less ado."""
        source, destination = source % x.ndim, destination % x.ndim
        if source == destination:
            return x
        order = [d for d in range(x.ndim) if d != source]
        order.insert(destination, source)
        return x.transpose(order)

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """The library's own, but along the first of several axes, where that is slow."""
        if axis != 0 or x.ndim == 1 or not keepdims or not 0 < len(x) <= self.few:
            return np.argmax(x, axis=axis, keepdims=keepdims)
        found, largest = argmax_of_few(x)
        if self.private:
            self._found = x, found, largest
        return found

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By fancy indexing, in one dimension."""
        if self._found is not None and self._found[0] is x and self._found[1] is index:
            return self._found[2]
        x = np.ascontiguousarray(x)
        found = x.reshape(-1)[self._positions(x.shape, index, axis)]
        return found.reshape(index.shape if found.size == index.size else _rows(x.shape, axis))

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """In place."""
        x = np.ascontiguousarray(x)
        if not isinstance(value, float):
            rows = _rows(x.shape, axis)
            value = (value if value.shape == rows else np.broadcast_to(value, rows)).reshape(-1)
        x.reshape(-1)[self._positions(x.shape, index, axis)] = value
        return x

    def segment_sum(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """Pairwise, of entries brought next to each other."""
        return self._of_segments(np.add, x, index, count, axis=axis, empty=0.0)

    def segment_max(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """The same."""
        return self._of_segments(np.maximum, x, index, count, axis=axis, empty=-inf)

    def _of_segments(self, reduce: Any, x: Array, index: Array, count: int, *, axis: int, empty: float) -> Array:
        order, starts, present = self._grouped(index)
        x = np.moveaxis(x, axis, -1)
        x = np.ascontiguousarray(x) if order is None else np.take(x, order, axis=-1)
        found = np.full((*x.shape[:-1], count), empty, dtype=x.dtype)
        found[..., present] = reduce.reduceat(x, starts, axis=-1)
        return np.moveaxis(found, -1, axis)

    def _grouped(self, index: Array) -> tuple[Array | None, Array, Array]:
        """The order that brings segments together, if there is need of one, where each starts, and which they are."""
        if self._groups is not None and self._groups[0] is index:
            return self._groups[1]
        order = None if np.all(index[1:] >= index[:-1]) else np.argsort(index, kind="stable")
        grouped = index if order is None else index[order]
        starts = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), grouped[1:] != grouped[:-1])))
        found = order, starts, grouped[starts]
        if self.private:
            self._groups = index, found
        return found

    def _positions(self, shape: tuple[int, ...], index: Array, axis: int) -> Array:
        """Where in contiguous memory the entries lie that ``index`` names, one a row, in the order of rows."""
        if self._last is not None and self._last[0] is index and self._last[1] == (shape, axis):
            return self._last[2]
        rows = _rows(shape, axis)
        if prod(rows) == 1:  # one row for all
            return index.reshape(-1)
        inner = prod(shape[axis % len(shape) + 1 :])
        at = (index if index.shape == rows else np.broadcast_to(index, rows)).reshape(-1).astype(np.intp, copy=False)
        starts = _starts(shape, axis) if prod(shape) <= self.small else _starts.__wrapped__(shape, axis)
        found = (at * inner if inner > 1 else at) + starts
        if self.private:
            self._last = index, (shape, axis), found
        return found

    # -- how formulas are run -----------------------------------------------------------------------------------------

    def replays(self, call: Any) -> bool:
        """Small ones."""
        return prod(call.arguments[call.like].shape) <= self.small and not getattr(call.formula.value, "loops", False)

    def at_once(self, function: Callable[..., Any], call: Any, *details: Any) -> Any:
        """A small call by the program that was made of one alike."""
        if call.alike is None:
            return function(call, *details)
        program = call.alike.programs.get((function, *details)) or self.program(function, call, *details)
        return program(*call.inputs)

    def program(
        self, function: Callable[..., Any], call: Any, *details: Any, lent: Callable[[Any], Any] | None = None
    ) -> Callable[..., Any]:
        """What a function makes of the arrays of a call, and of all alike: written down the second time it is asked.

        A call of another library is ``lent`` for that, which makes one of NumPy of it.
        """
        alike, key = call.alike, (function, *details)
        if key in alike.programs:
            return alike.programs[key]
        call = call.made if lent is None else lent(call.made)
        again = alike.recordable.get(key)
        found = self.quietly(recording.program, self, function, call, *details) if again else None
        if found is None:
            alike.recordable[key] = again is None
            return lambda *_: function(call, *details)
        alike.programs[key] = np.errstate(all="ignore")(found)  # entered in less time than by a with statement
        return alike.programs[key]

    def for_parts(
        self, method: str, function: Callable[..., Any], operands: Mapping[str, Any], **details: Any
    ) -> Callable[[Mapping[str, Any], Array | None], Any]:
        """By a program, written down the second time that operands alike are walked over.

        Between blocks threads wait for each other, a few microseconds of Python at a time: by a program they do with a
        tenth of that. Options given as numbers are part of it, those given as arrays are not.
        """
        plainly = super().for_parts(method, function, operands, **details)
        if self.are_wide(operands, details["axis"]):
            return plainly
        traits = [
            (name, self.traits(x) if isinstance(x, np.ndarray) else (type(x), repr(x))) for name, x in operands.items()
        ]
        walks, programs = _walked(self, method, function, *traits, *details.items())
        if next(walks) == 0:  # of those that were before
            return plainly

        def by_program(part: Mapping[str, Any], room: Array | None) -> Any:
            key = next(iter(part.values())).shape, None if room is None else room.dtype
            if key in programs:
                return programs[key](part, room)
            recorded = recording.part(self, method, function, part, room, **details)
            programs[key], found = recorded or (plainly, plainly(part, room))
            return found

        return by_program

    def into(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """The same function of entries with an ``out``; None if there is no such thing."""
        is_one = isinstance(function, np.ufunc) and function.signature is None  # a matrix product has one
        return function if is_one else _UFUNCS.get(function)

    def quietly(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call with NumPy's floating-point errors off, whatever the caller has set; in a block they are."""
        if self.private:
            return function(*arguments, **keywords)
        with np.errstate(all="ignore"):
            return function(*arguments, **keywords)

    def sums_plainly(self, x: Array, axis: int) -> bool:
        """NumPy sums pairwise along contiguous memory only."""
        return bool(x.strides[axis] != x.itemsize and x.shape[axis] > generic.FEW)

    def in_parallel(self, work: Callable[[int], None], count: int) -> None:
        """On threads: NumPy lets others run while it computes."""
        workers.in_parallel(work, count)

    def in_order(self, x: Array) -> Array:
        """A copy only if need be."""
        if x.flags.c_contiguous:
            return x
        if x.size <= self.small:
            return x.copy()
        ordered = np.empty(x.shape, dtype=x.dtype)
        self.fill(ordered, x)
        return ordered

    def fill(self, whole: Array, part: Array) -> None:
        """In pieces that fit the cache, where rows and columns change places."""
        matrix = part.ndim == 2  # noqa: PLR2004 - a matrix has two axes
        if not matrix or part.size <= _PIECE or part.strides[1] <= part.strides[0]:
            whole[...] = part
            return
        if part.shape[1] <= _COLUMNS:
            for k in range(part.shape[1]):
                whole[:, k] = part[:, k]
            return
        longer = 0 if part.shape[0] > part.shape[1] else 1
        step = max(1, _PIECE // part.shape[1 - longer])
        for n in range(0, part.shape[longer], step):
            at = (*(slice(None) for _ in range(longer)), slice(n, n + step))
            whole[at] = part[at]


@lru_cache(maxsize=256)
def _walked(*_: Any) -> tuple[Iterator[int], dict[Any, Callable[..., Any]]]:
    """How often operands alike have been walked over before, and the programs that were made of their parts."""
    return count(), {}


@lru_cache(maxsize=256)
def _starts(shape: tuple[int, ...], axis: int) -> Array:
    """Where the first entry of each row lies."""
    axis %= len(shape)
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    return ((np.arange(outer) * (size * inner))[:, None] + np.arange(inner)).reshape(-1)


def _rows(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape of one value a row."""
    axis %= len(shape)
    return (*shape[:axis], 1, *shape[axis + 1 :])


def argmax_of_few(x: Array) -> tuple[Array, Array]:
    """Position of the first largest along the first axis, and itself, in few operations on all rows."""
    largest = np.max(x, axis=0, keepdims=True)
    from_the_end = np.arange(len(x), 0, -1, dtype=np.uint8).reshape(-1, *(1,) * (x.ndim - 1))
    first = np.max((x == largest) * from_the_end, axis=0, keepdims=True)
    unfound = np.any(first == 0)  # NaN equals nothing
    return np.argmax(x, axis=0, keepdims=True) if unfound else len(x) - first, largest


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


def backend() -> Backend:
    """The one instance."""
    ops = Backend(namespace)
    ops.keep_freed_memory()
    return ops
