"""The class axis, and every other argument aligned to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softxent.backends.generic import Backend, Formula

Array = Any


class Layout(NamedTuple):
    """How arrays of the caller's shape are seen by formulas: with one class axis.

    An integer axis stays where it is. Several axes are put last and flattened in the order given; no axis at all
    becomes a new last one of size 1. ``shape`` is the caller's, ``axes`` the class axes in it.
    """

    backend: Backend
    shape: tuple[Any, ...]
    axes: tuple[int, ...]

    def of_any_batch(self, backend: Backend) -> Layout:
        """The same for any number of examples, as far as results are concerned."""
        shape = tuple(n if d in self.axes else None for d, n in enumerate(self.shape))
        return Layout(backend, shape, self.axes)

    @property
    def single(self) -> bool:
        """Whether the class axis is just one of the caller's."""
        return len(self.axes) == 1

    @property
    def whole(self) -> Way | None:
        """The way of an array with the logits' number of dimensions."""
        return None if self.single else Layout.inward

    @property
    def axis(self) -> int:
        """The class axis that formulas see."""
        return self.axes[0] if self.single else len(self.batch_axes)

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The caller's other axes."""
        return tuple(d for d in range(len(self.shape)) if d not in self.axes)

    @property
    def batch_shape(self) -> tuple[Any, ...]:
        """The caller's shape without class axes."""
        return tuple(self.shape[d] for d in self.batch_axes)

    @property
    def size(self) -> int:
        """Number of classes."""
        return self.shape[self.axes[0]] if len(self.axes) == 1 else math.prod([self.shape[d] for d in self.axes])

    def inward(self, x: Array) -> Array:
        """An array with the logits' number of dimensions, each size theirs or 1, as formulas see it."""
        if self.single:
            return x
        if not self.axes:
            return self.backend.expand_dims(x, axis=self.axis)
        ours = tuple(x.shape[d] for d in self.axes)
        if all(size == 1 for size in ours):
            size = 1
        else:
            size = self.size
            full = tuple(self.shape[d] if d in self.axes else n for d, n in enumerate(x.shape))
            x = x if full == tuple(x.shape) else self.backend.broadcast_to(x, full)
        x = self.backend.permute_dims(x, (*self.batch_axes, *self.axes))
        return self.backend.reshape(x, (*x.shape[: len(self.batch_axes)], size))

    def outward(self, x: Array) -> Array:
        """A result of the logits' shape, back in the caller's axes."""
        if self.single:
            return x
        if not self.axes:
            return self.backend.squeeze(x, axis=self.axis)
        return self._unpermuted(self.backend.reshape(x, (*x.shape[:-1], *(self.shape[d] for d in self.axes))))

    def returned(self, x: Array, shape: tuple[Any, ...], *, per_example: bool) -> Array:
        """A derivative by an operand in the shape that the caller's argument had: the transpose of aligning it.

        ``per_example`` says how arguments of fewer dimensions than the logits were aligned: to the batch or the
        classes, or broadcast as in NumPy.
        """
        ndim = len(self.shape)
        if self.axes and not self.single and shape and (len(shape) == ndim or not per_example):
            full = (*(1 for _ in range(ndim - len(shape))), *shape)
            one_class = is_known(x.shape[-1]) and x.shape[-1] == 1
            sizes = tuple(1 if one_class else self.shape[d] for d in self.axes)
            x = self._unpermuted(self.backend.reshape(x, (*x.shape[:-1], *sizes)))
            broadcast = tuple(d for d in self.axes if full[d] == 1 and x.shape[d] != 1)
            x = self.backend.sum(x, axis=broadcast, keepdims=True) if broadcast else x
        if same(x.shape, shape):
            return x
        if same(tuple(n for d, n in enumerate(x.shape) if d != self.axis), shape):
            return self.backend.squeeze(x, axis=self.axis)
        return self.backend.reshape(x, shape)

    def _unpermuted(self, x: Array) -> Array:
        order = (*self.batch_axes, *self.axes)
        return self.backend.permute_dims(x, tuple(order.index(d) for d in range(len(self.shape))))

    def padded(self, x: Array) -> Array:
        """An array that broadcasts against the logits, as formulas see it."""
        missing = len(self.shape) - x.ndim
        return self.inward(self.backend.reshape(x, ((1,) * missing + tuple(x.shape))) if missing else x)

    def number(self, x: Array) -> Array:
        """A 0-d array with one axis for each that formulas see."""
        return self.backend.reshape(x, (1,) * (len(self.batch_axes) + 1))

    def per_row(self, x: Array) -> Array:
        """An array of the batch's number of dimensions as formulas see it: with a class axis of size 1."""
        return self.backend.expand_dims(x, axis=self.axis)

    def rows(self, x: Array, *, keepdims: bool = False) -> Array:
        """A result of one value a row in the batch shape, or with the class axes kept as 1."""
        x = self.backend.squeeze(x, axis=self.axis)
        if keepdims:
            for d in sorted(self.axes):
                x = self.backend.expand_dims(x, axis=d)
        return x

    def row_values(self, x: Array, *, keepdims: bool = False) -> Array:
        """The inverse of ``rows``; a 0-d array is one value for all."""
        if x.ndim == 0:
            return self.number(x)
        if keepdims:
            for d in sorted(self.axes, reverse=True):
                x = self.backend.squeeze(x, axis=d)
        return self.per_row(x)

    def per_class(self, x: Array) -> Array:
        """A 1-D array, one value a class, as formulas see it."""
        ndim = len(self.batch_axes) + 1
        return self.backend.reshape(x, tuple(-1 if d == self.axis else 1 for d in range(ndim)))

    def aligned(self, x: Any, way: Way | None) -> Any:
        """An argument as formulas see it."""
        return x if way is None else way(self, x)


Way = Callable[[Layout, Array], Array]  # how an argument becomes what formulas see


class Making(NamedTuple):
    """How logits that are not given are made of features."""

    formula: Formula  # of features
    beside: dict[str, Any]  # arguments
    laid_out: Callable[[Any, dict[str, Any], Any], tuple[Any, Layout]]  # the dtype of the arithmetic; their layout
    static: tuple[tuple[str, Any], ...]  # options of the formula


def aligned(backend: Backend, name: str, x: Array, axis: Any) -> Layout:
    """Where the classes of ``x`` lie, by the caller's ``axis``: an int, a tuple of ints, or None for all axes."""
    ndim = len(x.shape)
    if axis is None:
        axes = tuple(range(ndim))
    elif isinstance(axis, tuple):
        axes = tuple(_axis(name, axis, one, ndim) for one in axis)
    elif ndim == 0 and _is_int(axis) and axis == -1:
        axes = ()
    else:
        axes = (_axis(name, axis, axis, ndim),)
    if len(set(axes)) < len(axes):
        msg = f"axis must name each axis once, got {axis}"
        raise ValueError(msg)
    for d in axes:
        if not is_known(x.shape[d]):
            msg = (
                f"{name} must have a known number of classes, got an unknown size along axis {d}; "
                "call compute_chunk_sizes() (Dask) or tf.ensure_shape(...) (TensorFlow) first"
            )
            raise ValueError(msg)
    return Layout(backend, tuple(x.shape), axes)


def elements(backend: Backend, x: Array) -> Layout:
    """Where every element is an example."""
    return Layout(backend, tuple(x.shape), ())


def with_classes(backend: Backend, labels: Array, size: int, axis: Any) -> Layout:
    """The layout of distributions over ``size`` classes along a new ``axis``, one for each of the labels."""
    ndim = labels.ndim + 1
    if not _is_int(axis) or not -ndim <= axis < ndim:
        msg = f"axis must be an int from {-ndim} to {ndim - 1} for labels of {ndim - 1} dimensions, got {axis!r}"
        raise ValueError(msg)
    axis = index(axis) % ndim
    return Layout(backend, (*labels.shape[:axis], size, *labels.shape[axis:]), (axis,))


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _axis(name: str, axis: Any, one: Any, ndim: int) -> int:
    if not _is_int(one):
        msg = f"axis must be an int, a tuple of ints or None, got {axis!r}"
        raise ValueError(msg)
    if not -ndim <= one < ndim:
        allowed = f"from {-ndim} to {ndim - 1}" if ndim else "-1, None or ()"
        msg = f"axis must be {allowed} for {name} of {ndim} dimensions, got {axis}"
        raise ValueError(msg)
    return index(one) % ndim


def is_known(size: Any) -> bool:
    """Whether a size in a shape is a number: Dask's may be NaN, Paddle's -1, others' None."""
    return isinstance(size, int) and size >= 0


# -- shapes -----------------------------------------------------------------------------------------------------------


def fits(shape: Sequence[Any], full: Sequence[Any]) -> bool:
    """Whether each size equals the full one or is 1, as far as sizes are known."""
    return len(shape) == len(full) and all(
        a in {1, b} or not is_known(a) or not is_known(b) for a, b in zip(shape, full, strict=True)
    )


def same(shape: Sequence[Any], full: Sequence[Any]) -> bool:
    """Whether two shapes are equal as far as sizes are known."""
    return len(shape) == len(full) and all(
        a == b or not is_known(a) or not is_known(b) for a, b in zip(shape, full, strict=True)
    )


def broadcast(form: Layout, name: str, option: Any) -> Way | None:
    """The way of an option that broadcasts against the logits as in NumPy; it may not enlarge them."""
    if option is None or isinstance(option, Real):
        return None
    shape = (*(1 for _ in range(len(form.shape) - option.ndim)), *option.shape)
    if not fits(shape, form.shape):
        msg = (
            f"{name} must broadcast to the logits' shape {form.shape}, got shape {tuple(option.shape)}; "
            "give it their number of dimensions, with sizes equal or 1"
        )
        raise ValueError(msg)
    if option.ndim == 0 and name != "where":  # a 0-d array may be of another device; a mask is reduced along the axis
        return None
    return Layout.padded


def per_example(form: Layout, name: str, option: Any, *, or_class: bool = False) -> Way | None:
    """The way of an option of one value an example (with ``or_class``, or one a logit); scalars stay as they are."""
    if option is None or isinstance(option, Real):
        return None
    shape = tuple(option.shape)
    if not shape:
        return None
    if fits(shape, form.batch_shape):
        return Layout.per_row
    if or_class and fits(shape, form.shape):
        return form.whole
    also = f", or the logits' {form.shape}" if or_class else ""
    msg = (
        f"{name} must be a scalar or have the batch shape {form.batch_shape}{also}, each size equal or 1, "
        f"got shape {shape}; add or drop a dimension"
    )
    raise ValueError(msg)


@dataclass(frozen=True)
class Along:
    """A one-dimensional option along one of the caller's axes, where every element is an example."""

    ndim: int
    place: int

    def __call__(self, form: Layout, x: Array) -> Array:
        """With an axis for each that formulas see."""
        return form.backend.reshape(x, tuple(-1 if d == self.place else 1 for d in range(self.ndim + 1)))


def place_along(name: str, x: Array, axis: Any) -> int | None:
    """The axis that options of one dimension are aligned to; None if they are not to be."""
    return None if axis is None or x.ndim == 0 else _axis(name, axis, axis, x.ndim)


def per_element(form: Layout, name: str, option: Any, place: int | None = None) -> Way | None:
    """The way of an option of one value an element, or one for each place along an axis; scalars stay as they are."""
    if option is None or isinstance(option, Real) or option.ndim == 0:
        return None
    shape = tuple(option.shape)
    if fits(shape, form.shape):
        return Layout.per_row
    if place is not None and same(shape, (form.shape[place],)):
        return Along(len(form.shape), place)
    along = "" if place is None else f", or ({form.shape[place]},) along axis {place}"
    msg = (
        f"{name} must be a scalar or have the logits' number of dimensions, each size equal to that of {form.shape} "
        f"or 1{along}, got shape {shape}; add or drop a dimension"
    )
    raise ValueError(msg)


def per_class(form: Layout, name: str, option: Any) -> Way | None:
    """The way of an option of one value a class."""
    if option is None:
        return None
    if isinstance(option, Real) or tuple(option.shape) != (form.size,):
        came = "a number" if isinstance(option, Real) else f"shape {tuple(option.shape)}"
        msg = f"{name} must have shape ({form.size},), one value a class, got {came}"
        raise ValueError(msg)
    return Layout.per_class


def per_example_or_class(form: Layout, name: str, option: Any) -> Way | None:
    """The way of an option of one value an example or a logit."""
    return per_example(form, name, option, or_class=True)


def example_or_class_mask(form: Layout, name: str, where: Array | None) -> Way | None:
    """The way of ``where``, of examples or of classes."""
    way = per_example(form, name, where, or_class=True)
    return way if where is None or where.ndim > 0 else Layout.number


def scalar(_: Layout, name: str, option: Any) -> Way | None:
    """The way of an option of one value for all, which is as it is."""
    if option is not None and not isinstance(option, Real) and option.ndim > 0:
        kind = "an int" if name == "ignore_index" else "a number"
        msg = f"{name} must be {kind} or a 0-d array, got shape {tuple(option.shape)}; it is one for all examples"
        raise ValueError(msg)
    return None
