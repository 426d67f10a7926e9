"""Logarithm of a mean of exponentials. Its derivatives are those of ``logsumexp``: the count is a constant."""

from math import inf
from typing import Any

from softxent.formulas import logsumexp

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"x"}}

pullback, hvp, hessian_diagonal = logsumexp.pullback, logsumexp.hvp, logsumexp.hessian_diagonal


def value(ops: Any, x: Array, *, where: Array | None = None, axis: int, dtype: Any, result: Any) -> Array:
    """log(Σ exp(x) / n) along ``axis``, of the n entries that ``where`` leaves; -inf if there are none."""
    x = ops.astype(x, dtype, copy=False)
    if x.shape[axis] == 0:
        return ops.astype(ops.sum(x, axis=axis, keepdims=True) - inf, result, copy=False)
    x = x if where is None else ops.where(where, x, -inf)
    constant = ops.stop_gradient(x)
    log_mean = log_of_mean(ops, constant, where, axis)
    if constant is not x:  # the derivatives of the sum, to second order
        log_sum = logsumexp.log_of_sum(ops, x, axis)
        log_mean = ops.where(ops.isfinite(log_mean), log_mean + (log_sum - ops.stop_gradient(log_sum)), log_sum)
    return ops.astype(log_mean, result, copy=False)


def value_and_pullback(
    ops: Any, x: Array, *, g: Array, by: tuple[str, ...], axis: int, dtype: Any, **given: Any
) -> tuple[Array, ...]:
    """The one and the other."""
    log_mean = value(ops, x, axis=axis, dtype=dtype, **given)
    return log_mean, *pullback(ops, x, g=g, by=by, axis=axis, dtype=dtype, **given)


def log_of_mean(ops: Any, x: Array, where: Array | None, axis: int) -> Array:
    """First roughly, c = max + log(mean exp(x - max)), then what that lacks, log1p(mean expm1(x - c)).

    The correction is next to 0 and made of entries relative to the result. So an error is never larger than a unit of
    the result or of the entries that have the mass, where c alone has those of a maximum that may have none of it.
    """
    ones = ops.ones_like(x)
    counted = ones if where is None else ops.where(where, ones, 0.0)
    count = ops.sum(counted, axis=axis, keepdims=True)
    count = ops.where(ops.equal(count, 0), 1.0, count)
    largest = ops.max(x, axis=axis, keepdims=True)
    level = ops.where(largest == -inf, 0.0, largest)
    rough = level + ops.log(ops.sum(ops.exp(x - level), axis=axis, keepdims=True) / count)
    rise = ops.expm1(x - rough)
    rise = rise if where is None else ops.where(where, rise, 0.0)
    lacking = ops.log1p(ops.sum(rise, axis=axis, keepdims=True) / count)
    return ops.where(ops.isfinite(largest), rough + lacking, largest)
