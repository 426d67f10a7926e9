"""Targets of categorical losses: integer labels, the distributions they stand for, and smoothing."""

from collections.abc import Callable
from math import nan
from typing import Any

Array = Any

_INT32 = 2**31  # from here on a Python int is made an array first: libraries take it for a signed one


def in_range(ops: Any, labels: Array, size: int) -> Array:
    """Whether 0 <= label < size, compared in the labels' own dtype: no bound is used that this cannot hold."""
    bounds = ops.iinfo(labels.dtype)
    inside = ops.full_like(labels, True, dtype=ops.bool)
    if bounds.min < 0:
        inside = inside & (labels >= 0)
    if bounds.max >= size:
        inside = inside & (labels < size)
    return inside


def equals(ops: Any, labels: Array, index: Array | int) -> Array:
    """Whether a label is ``index``, as integers of any size: without a common dtype there is no wrapping into one."""
    if isinstance(index, int):
        bounds = ops.iinfo(labels.dtype)
        if not bounds.min <= index <= bounds.max:
            return ops.full_like(labels, False, dtype=ops.bool)
        return labels == (index if index < _INT32 else ops.scalar(index, labels, labels.dtype))
    if labels.dtype == index.dtype:
        return labels == index
    widest = ops.positions(labels, 0, 1).dtype
    a, b = ops.astype(labels, widest), ops.astype(index, widest)
    # A value too large for the widest signed dtype has become negative, as has none that was positive there before.
    same_side = (a >= 0) == (labels >= 0)
    return (a == b) & same_side & ((b >= 0) == (index >= 0))


def one_hot(ops: Any, labels: Array, ignore_index: Array | int | None, size: int, axis: int, dtype: Any) -> Array:
    """1 at the label; a row of 0 for an ignored label, of NaN for one out of range."""
    valid = in_range(ops, labels, size)
    positions = ops.positions(labels, axis, size)
    index = ops.astype(ops.where(valid, labels, ops.zeros_like(labels)), positions.dtype)
    hot = ops.astype(positions == index, dtype)
    hot = ops.where(valid, hot, nan)
    return hot if ignore_index is None else ops.where(equals(ops, labels, ignore_index), 0.0, hot)


def smoothed(
    ops: Any, q: Array, epsilon: Array | float, *, where: Array | None, prior: Array | None, axis: int
) -> Array:
    """(1 - ε) q + ε u, with u the prior, uniform by default, over the classes that ``where`` leaves."""
    u, _ = rescaled_prior(ops, q, where, prior, axis)
    return (1.0 - epsilon) * q + epsilon * u


def rescaled_prior(
    ops: Any, like: Array, where: Array | None, prior: Array | None, axis: int
) -> tuple[Array, Array | None]:
    """u, which sums to 1 over the classes that ``where`` leaves, and what the prior summed to there."""
    if where is None:
        uniform = ops.full_like(like, 1.0 / max(ops.classes(like, axis), 1))
    else:
        kept = ops.where(where, ops.ones_like(like), 0.0)
        uniform = kept / divisor(ops, ops.sum(kept, axis=axis, keepdims=True))
    if prior is None:
        return uniform, None
    prior = prior if where is None else ops.where(where, prior, 0.0)
    mass = ops.sum(prior, axis=axis, keepdims=True)
    return ops.where(ops.equal(mass, 0), uniform, prior / divisor(ops, mass)), mass


def smoothing_pullbacks(
    ops: Any, g: Array, q: Array, epsilon: Array | float, *, where: Array | None, prior: Array | None, axis: int
) -> dict[str, Callable[[], Array]]:
    """Σ g · smoothed, differentiated by ε and by the prior; by q it is (1 - ε) g."""
    u, mass = rescaled_prior(ops, q, where, prior, axis)

    def by_prior() -> Array:
        centred = epsilon * (g - ops.sum(g * u, axis=axis, keepdims=True)) / divisor(ops, mass)
        centred = ops.where(ops.equal(mass, 0), 0.0, centred)
        return centred if where is None else ops.where(where, centred, 0.0)

    return {
        "label_smoothing": lambda: ops.sum((u - q) * g, axis=axis, keepdims=True),
        "smoothing_prior": by_prior,
    }


def divisor(ops: Any, mass: Array) -> Array:
    """A divisor: 1 in place of 0."""
    return ops.where(ops.equal(mass, 0), 1.0, mass)


def product(ops: Any, a: Array, y: Array) -> Array:
    """A factor times a value, 0 where the factor is 0 and the value infinite: 0 · log 0 = 0, to every order."""
    infinite = ops.isinf(y)
    constant = ops.stop_gradient(a)
    if constant is not a:  # the derivative by the factor is 0 there, and the value where it is finite
        a = ops.where(infinite, constant, a)
    return a * ops.where(ops.equal(a, 0) & infinite, 0.0, y)


def at_label(ops: Any, position: Array, label: Array) -> Array:
    """Whether a position is the label; labels that are classes fit the dtype of positions."""
    return position == ops.astype(label, position.dtype)
