"""Targets of categorical losses: integer labels, the distributions they stand for, and smoothing."""

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


def distribution(
    ops: Any,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    size: int,
    hard: bool,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """Labels as distributions over ``size`` classes, smoothed; 0 throughout for an example that takes no part."""
    q = one_hot(ops, labels, ignore_index, size, axis, dtype) if hard else ops.astype(labels, dtype, copy=False)
    if label_smoothing is not None:
        present = ops.any(q != 0, axis=axis, keepdims=True)
        if where is not None:
            present = present & ops.any(where, axis=axis, keepdims=True)
        q = smoothed(ops, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
        q = ops.where(present, q, 0.0)
    return ops.astype(q, result, copy=False)


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
    if where is None:
        uniform = ops.full_like(q, 1.0 / max(q.shape[axis], 1))
    else:
        kept = ops.where(where, ops.ones_like(q), 0.0)
        uniform = kept / divisor(ops, ops.sum(kept, axis=axis, keepdims=True))
    u = uniform
    if prior is not None:
        prior = prior if where is None else ops.where(where, prior, 0.0)
        mass = ops.sum(prior, axis=axis, keepdims=True)
        u = ops.where(mass == 0, uniform, prior / divisor(ops, mass))
    return (1.0 - epsilon) * q + epsilon * u


def divisor(ops: Any, mass: Array) -> Array:
    """A divisor: 1 in place of 0."""
    return ops.where(mass == 0, 1.0, mass)
