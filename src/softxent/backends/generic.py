"""The backend of any array API library: its namespace, and the primitives that the standard lacks.

Every other backend is this one with a few methods replaced by what its library does better.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import inf, prod
from typing import TYPE_CHECKING, Any, Protocol

import array_api_compat as compat

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

Array = Any
Foresee = Callable[[tuple[str, ...]], "tuple[Array, ...] | None"]

FEW = 8  # entries that a plain sum adds as exactly as a pairwise one


class Formula(Protocol):
    """What a backend is handed to run: a module of ``softxent.formulas`` with these functions in it.

    A ``pushforward`` beside them gives forward derivatives of results that are arrays of the logits' shape; those of
    one value a row follow from the pullback, and have ``value_and_pullback`` for both at once, and ``hvp`` and
    ``hessian_diagonal`` for second derivatives.
    """

    @property
    def value(self) -> Callable[..., Any]:
        """The formula itself."""

    @property
    def pullback(self) -> Callable[..., tuple[Array, ...]]:
        """Its derivatives by the operands named in ``by``, times the cotangents of its results."""

    @property
    def COTANGENTS(self) -> Mapping[str, set[str]]:  # noqa: N802 - a constant of the module
        """What the pullback calls the cotangents of the results, in order; what these can be differentiated by."""


class Backend:
    """An array namespace, and the primitives that formulas use beside it."""

    name = "array"
    kinds: type | tuple[type, ...] = ()  # what its arrays are instances of
    adopts_numpy = False
    short = 32  # classes of a row in which it pays to take all entries once more rather than to look for one
    plain_sums = True  # unless the last axis is contiguous, for all that is known
    # Bytes of linear logits at a time, measured on two cores at 2048 rows, 256 features and 16384 classes: a product of
    # fewer rows reads the weights too often, and one of more leaves the cache before the loss has read it.
    chunk_bytes = 2**24

    def __init__(self, namespace: Any) -> None:
        """Wrap ``namespace``, which follows the array API standard (or is made to by array-api-compat)."""
        self.namespace = namespace

    def __getattr__(self, name: str) -> Any:
        """What is no primitive comes from the namespace."""
        if name == "namespace":  # unset only while being copied
            raise AttributeError(name)
        return getattr(self.namespace, name)

    # -- primitives of formulas ---------------------------------------------------------------------------------------

    def stop_gradient(self, x: Array) -> Array:
        """Hold ``x`` constant under differentiation; the very same array where there is no differentiation."""
        return x

    def equal(self, x: Array | float, y: Array | float) -> Any:
        """Whether numbers are the same. Formulas ask in this way, as not every library has an == that can tell."""
        return x == y

    def not_equal(self, x: Array | float, y: Array | float) -> Any:
        """The contrary."""
        return x != y

    def minus(self, x: Array, y: Array) -> Array:
        """A difference, which a backend may put where the result of a block goes."""
        return x - y

    def reusing(self, operation: str, x: Array, *others: Array) -> Array:
        """An elementwise function of an array that is not needed any more: the result may take its place."""
        return getattr(self, operation)(x, *others)

    def classes(self, x: Array, axis: int) -> int:
        """How many classes a row has, of which ``x`` may have a part."""
        return x.shape[axis]

    def positions(self, like: Array, axis: int, size: int) -> Array:
        """0, 1, …, size - 1 along ``axis``, on the device of ``like``, to be compared with indices."""
        counted = self.arange(size, device=self.device(like))
        return self.reshape(counted, tuple(size if d == axis % like.ndim else 1 for d in range(like.ndim)))

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """Position of the first largest entry or NaN, in the dtype that the device has for positions."""
        size = x.shape[axis]
        largest = self.max(x, axis=axis, keepdims=True)
        found = self.where(self.equal(x, largest) | self.isnan(x), self.positions(x, axis, size), size - 1)
        return self.min(found, axis=axis, keepdims=keepdims)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """The one entry of each row that ``index`` (size 1 along ``axis``) names."""
        at = self._at(x, index, axis)
        return self.sum(self.where(at, x, self.zeros_like(x)), axis=axis, keepdims=True)

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """``x`` with the entry of each row that ``index`` names replaced; ``x`` itself may be overwritten."""
        return self.where(self._at(x, index, axis), value, x)

    def _at(self, x: Array, index: Array, axis: int) -> Array:
        positions = self.positions(x, axis, x.shape[axis])
        return positions == self.astype(index, positions.dtype)

    def segment_sum(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """What entries of the same ``index`` add up to, which has one dimension, along ``axis`` for 0 to count - 1."""
        return self._of_segments(self.sum, x, index, count, axis=axis, empty=0.0)

    def segment_max(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """The largest entry of the same ``index``, or NaN; -inf where there is none."""
        return self._of_segments(self.max, x, index, count, axis=axis, empty=-inf)

    def _of_segments(
        self, reduce: Callable[..., Array], x: Array, index: Array, count: int, *, axis: int, empty: float
    ) -> Array:
        members = self.positions(self.expand_dims(index, axis=1), 0, count) == index
        each = self.where(members, self.expand_dims(self.moveaxis(x, axis, -1), axis=-2), empty)
        return self.moveaxis(reduce(each, axis=-1), -1, axis)

    def places(self, index: Array, size: int, count: int) -> tuple[int, Array]:
        """So many parts for each of ``count`` segments, and which part of them all an entry of ``size`` is added to.

        For libraries that add one by one: there are as many parts as entries, and those that follow each other, or one
        another at even distances, are added to different ones.
        """
        parts = max(1, size // count)
        counted = self.arange(size, dtype=index.dtype, device=self.device(index))
        return parts, index * parts + (counted + counted // parts) % parts

    # -- what public functions ask ------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """The library's name in errors."""
        return (
            str(getattr(self.namespace, "__name__", type(self.namespace).__name__))
            .removeprefix("array_api_compat.")
            .split(".", maxsplit=1)[0]
        )

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - other backends look at it
        """The library's dtype of that name; None if it has none, or not on the device of ``like``."""
        known = self.namespace.__array_namespace_info__().dtypes(kind="real floating", device=self.device(like))
        return known.get(name)

    def scalar(self, value: Any, like: Array, dtype: Any) -> Array:
        """A Python number as a 0-d array on the device of ``like``."""
        return self.asarray(value, dtype=dtype, device=self.device(like))

    def adopt(self, x: Array) -> Array:
        """The array as formulas are to see it."""
        return x

    def comparable(self, integers: Array) -> Array:
        """Integers in a dtype that the library can compare; 64 bits stay the same bits."""
        return integers

    def oddity(self, x: Array) -> str | None:  # noqa: ARG002 - other backends look at it
        """What makes an array none that functions take, and what to pass instead; None for a plain one."""
        return None

    def device(self, x: Array) -> Any:
        """Where the array lives; None if that cannot be told or does not matter."""
        return compat.device(x)

    def is_portable(self, x: Array) -> bool:  # noqa: ARG002 - other backends look at it
        """Whether the library lets this array take part on any device."""
        return False

    def is_readable(self, x: Array) -> bool:
        """Whether values can be looked at without forcing a trace, a computation or a transfer."""
        return not (compat.is_lazy_array(x) or compat.is_cupy_array(x))

    def reading(self) -> AbstractContextManager[Any]:
        """A context in which readable values can be computed with, whatever trace the caller is in."""
        return nullcontext()

    def read(self, condition: Array) -> bool | None:
        """The value of a 0-d bool array, computed if need be; None where there is none, as inside a trace."""
        return bool(condition)

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """The smallest and largest of readable integers; None if there are none, or they cannot be read after all."""
        return (int(self.min(integers)), int(self.max(integers))) if prod(integers.shape) else None

    def default_float(self, like: Array) -> Any:
        """The library's default floating dtype."""
        return self.namespace.__array_namespace_info__().default_dtypes(device=self.device(like))["real floating"]

    def traits(self, x: Array) -> Any:  # noqa: ARG002 - other backends look at it
        """What checks of an argument depend on, apart from its entries, as a key; None if that cannot be told."""
        return None

    def quietly(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call without the library's warnings about overflow and NaN: special values are results like others."""
        return function(*arguments, **keywords)

    # -- formulas -----------------------------------------------------------------------------------------------------

    def replays(self, call: Any) -> bool:  # noqa: ARG002 - those do that have programs
        """Whether a call is done as others alike were."""
        return False

    def at_once(self, function: Callable[..., Any], call: Any, *details: Any) -> Any:
        """What a function makes of a call (of ``softxent.calls``), with whatever beside the formula that takes."""
        return function(call, *details)

    def run(
        self,
        formula: Formula,
        operands: Mapping[str, Any],
        *,
        axis: int,
        by_products: bool = False,  # noqa: ARG002 - backends with a rule of their own for derivatives look at these
        foresee: Foresee | None = None,  # noqa: ARG002 - likewise
        **static: Any,
    ) -> Any:
        """The value of a formula, differentiable where the library is.

        Each operand is an array aligned to the logits (the first), a 0-d array, or a number. With ``by_products`` there
        are results beyond those that the formula's pullback knows. ``foresee`` has the cotangents that will come back
        for derivatives by what is named, if these can be told before there are results.
        """
        return self.evaluate(formula.value, operands, axis=axis, **static)

    def pull(
        self,
        formula: Formula,
        cotangents: Mapping[str, Array],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """Derivatives of the formula by the operands named, each of the shape and dtype of its operand."""
        return self.derived(formula.pullback, {**operands, **cotangents}, by=by, axis=axis, **static) if by else ()

    def visit(
        self,
        formula: Formula,
        cotangents: Mapping[str, Array],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Results of a formula of one value a row, and their derivatives, from one look at the logits."""
        found = self.derived(
            formula.value_and_pullback,  # type: ignore[attr-defined]
            {**operands, **cotangents},
            by=by,
            axis=axis,
            **static,
        )
        return found[: -len(by)], found[-len(by) :]

    def derived(
        self,
        function: Callable[..., Any],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """A function whose last results are derivatives: these get the shape and dtype of what they are by."""
        found = self.evaluate(function, operands, by=by, axis=axis, **static)
        derivatives = (self.quietly(self.summed_to, x, operands[n]) for n, x in zip(by, found[-len(by) :], strict=True))
        return *found[: -len(by)], *derivatives

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Any function of a formula's, on operands as for ``run``: its value, pullback or another derivative."""
        place = self.place(operands, axis)
        if place is None:
            return self.quietly(function, self, **operands, axis=axis, **static)
        moved = {name: self._with_classes(x, axis, place) for name, x in operands.items()}
        results = self.quietly(function, self, **moved, axis=place, **static)
        if isinstance(results, tuple):
            return tuple(self.moveaxis(result, place, axis) for result in results)
        return self.moveaxis(results, place, axis)

    def over_rows(
        self,
        function: Callable[[dict[str, Array], Callable[..., Any]], tuple[Any, ...]],
        operands: Mapping[str, Array],
        *,
        axis: int,
        count: int,
        added: Collection[int],
    ) -> tuple[Array, ...]:
        """What a function makes of ``count`` parts of the operands along an axis, put together along it.

        The results in ``added``, which are counted from the end, are added up instead. The function is also given what
        to multiply matrices by, where the product is one of these.
        """
        columns: list[list[Array]] = []
        for part in self.parts(operands, axis, count):
            found = function(part, self.matmul)
            columns = columns or [[] for _ in found]
            for n, (column, x) in enumerate(zip(columns, found, strict=True), start=-len(found)):
                if n in added and column:
                    column[0] = column[0] + x
                else:
                    column.append(x)
        return tuple(column[0] if len(column) == 1 else self.concat(column, axis=axis) for column in columns)

    def parts(self, operands: Mapping[str, Array], axis: int, count: int) -> Iterator[dict[str, Array]]:
        """Arrays cut into so many parts of nearly the same size."""
        size = next(iter(operands.values())).shape[axis]
        for n in range(count):
            at = (*(slice(None) for _ in range(axis)), slice(n * size // count, (n + 1) * size // count), ...)
            yield {name: x[at] for name, x in operands.items()}

    def summed_to(self, x: Array, operand: Array) -> Array:
        """What an operand that was broadcast gets back: the sum over all that it met, in its dtype."""
        number = operand.ndim == 0
        axes = tuple(d for d in range(x.ndim) if number or (operand.shape[d] == 1 and x.shape[d] != 1))
        x = self.sum_over(x, axes) if axes else x
        return self.astype(self.adopt(self.reshape(x, ()) if number else x), operand.dtype, copy=False)

    def sum_over(self, x: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes, which stay with size 1; they are made one contiguous axis, so that it is pairwise."""
        others = tuple(d for d in range(x.ndim) if d not in axes)
        moved = self.permute_dims(x, (*others, *axes))
        kept = moved.shape[: len(others)]
        line = self._in_order(moved, (*kept, prod(moved.shape[len(kept) :])))
        return self.reshape(self.sum(line, axis=-1), tuple(1 if d in axes else n for d, n in enumerate(x.shape)))

    def _in_order(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Of that shape, with memory in the order of the axes: what is flattened on the way has no strides left."""
        return self.reshape(self.reshape(x, (-1,)), shape)

    def place(self, operands: Mapping[str, Any], axis: int) -> int | None:
        """Where the class axis has to go for the formula; None if it can stay."""
        return -1 if self.sums_plainly(next(iter(operands.values())), axis) else None

    def sums_plainly(self, x: Array, axis: int) -> bool:
        """Whether a sum along the axis would be a plain one, whose error grows with the number of classes."""
        return self.plain_sums and x.shape[axis] > FEW and axis % x.ndim != x.ndim - 1

    def _with_classes(self, x: Any, axis: int, place: int) -> Any:
        """An operand with the class axis elsewhere, also in memory."""
        if getattr(x, "ndim", 0) == 0:
            return x
        return self.in_order(self.moveaxis(x, axis, place))

    def in_order(self, x: Array) -> Array:
        """The same array, with memory in the order of its axes."""
        return self._in_order(x, x.shape)


class Ruled(Backend):
    """A library that can be told the derivatives of a function, and is told those of formulas."""

    array: type  # of what it differentiates by
    by_rule: Callable[..., Any]  # a formula, with names of its arrays, the options, and the arrays themselves

    def watches(self, arrays: Collection[Array]) -> bool:  # noqa: ARG002 - those do that can tell
        """Whether derivatives by any of the arrays may be wanted."""
        return True

    def run(
        self,
        formula: Formula,
        operands: Mapping[str, Any],
        *,
        axis: int,
        by_products: bool = False,
        foresee: Foresee | None = None,  # noqa: ARG002 - the rules need no cotangents
        **static: Any,
    ) -> Any:
        """By the formula's own derivatives where any may be wanted; by-products leave that to the library."""
        arrays = {name: x for name, x in operands.items() if isinstance(x, self.array)}
        if by_products or not self.watches(arrays.values()):
            return self.evaluate(formula.value, operands, axis=axis, **static)
        options = {name: x for name, x in operands.items() if name not in arrays} | {"axis": axis} | static
        return self.by_rule(formula, tuple(arrays), options, *arrays.values())
