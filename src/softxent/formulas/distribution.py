"""Labels as distributions over the classes, smoothed: (1 - ε) q + ε u."""

from typing import Any

from softxent.formulas.participation import only, present_rows
from softxent.formulas.targets import divisor, one_hot, rescaled_prior, smoothed, smoothing_pullbacks

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"labels", "label_smoothing", "smoothing_prior"}}


def value(
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
    q = given(ops, labels, ignore_index, size, axis, dtype, hard=hard)
    if label_smoothing is not None:
        present = present_rows(ops, q, where, None, hard=False, axis=axis)
        q = smoothed(ops, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
        q = only(ops, present, q)
    return ops.astype(q, result, copy=False)


def pullback(
    ops: Any,
    labels: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    label_smoothing: Array | float,
    smoothing_prior: Array | None = None,
    size: int,
    hard: bool,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """(1 - ε) g by the labels, Σ g (u - q) by ε; the prior is pulled through its rescaling."""
    q = given(ops, labels, ignore_index, size, axis, dtype, hard=hard)
    g = only(ops, present_rows(ops, q, where, None, hard=False, axis=axis), ops.astype(g, dtype, copy=False))
    rules = smoothing_pullbacks(ops, g, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
    rules["labels"] = lambda: (1.0 - label_smoothing) * g
    return tuple(rules[name]() for name in by)


def pushforward(
    ops: Any,
    labels: Array,
    *,
    t_labels: Array | None = None,
    t_label_smoothing: Array | None = None,
    t_smoothing_prior: Array | None = None,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    label_smoothing: Array | float,
    smoothing_prior: Array | None = None,
    size: int,
    hard: bool,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """(1 - ε) dq + (u - q) dε + ε du."""
    q = given(ops, labels, ignore_index, size, axis, dtype, hard=hard)
    u, mass = rescaled_prior(ops, q, where, smoothing_prior, axis)
    t = ops.zeros_like(q)
    if t_labels is not None:
        t = t + (1.0 - label_smoothing) * ops.astype(t_labels, dtype, copy=False)
    if t_label_smoothing is not None:
        t = t + (u - q) * t_label_smoothing
    if t_smoothing_prior is not None:
        moved = only(ops, where, t_smoothing_prior + ops.zeros_like(q))
        moved = (moved - u * ops.sum(moved, axis=axis, keepdims=True)) / divisor(ops, mass)
        t = t + label_smoothing * ops.where(ops.equal(mass, 0), 0.0, moved)
    return ops.astype(only(ops, present_rows(ops, q, where, None, hard=False, axis=axis), t), result, copy=False)


def given(
    ops: Any, labels: Array, ignore_index: Array | int | None, size: int, axis: int, dtype: Any, *, hard: bool
) -> Array:
    """Labels as distributions, before smoothing."""
    return one_hot(ops, labels, ignore_index, size, axis, dtype) if hard else ops.astype(labels, dtype, copy=False)
