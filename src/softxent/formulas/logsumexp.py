"""Logarithm of a sum of exponentials, plain and with weights of either sign."""

from math import inf, nan
from typing import Any

from softxent.formulas.logits import tempered, varies
from softxent.formulas.shift import shifted

Array = Any


def logsumexp(
    ops: Any,
    x: Array,
    *,
    b: Array | None = None,
    where: Array | None = None,
    signed: bool = False,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array | tuple[Array, Array]:
    """log Σ b exp(x) along ``axis``, of the entries that ``where`` leaves; with ``signed`` (log abs(Σ), sign)."""
    x = ops.astype(x, dtype, copy=False)
    if x.shape[axis] == 0:
        sign = ops.sum(x, axis=axis, keepdims=True)
        log_sum = sign - inf
    elif b is None:
        log_sum = log_of_sum(ops, x if where is None else ops.where(where, x, -inf), axis)
        sign = sign_of_sum(ops, log_sum)
    else:
        b = ops.astype(b, dtype, copy=False)
        log_sum, sign = log_of_weighted_sum(ops, x, b, axis, where=where, signed=signed)
    log_sum = ops.astype(log_sum, result, copy=False)
    return (log_sum, ops.astype(sign, result, copy=False)) if signed else log_sum


def log_of_sum(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Array:
    """log Σ exp(x / temperature); an empty sum is -inf with derivative 0."""
    s = shifted(ops, x, axis, temperature, undefined=False)
    above = 1.0 + s.beside
    # A largest entry of +inf (NaN) makes the logarithm +inf (NaN) and, through inf/inf, its derivative NaN in the row.
    beyond = ops.log(above * ops.where(s.largest < inf, ops.ones_like(above), s.largest))
    level = tempered(ops, s.reference, None if varies(temperature, axis) else temperature)
    log_sum = level + ops.where(s.largest < inf, s.log_total, beyond)
    return ops.where(s.largest == -inf, -inf, log_sum)


def sign_of_sum(ops: Any, log_sum: Array) -> Array:
    """Sign of a sum of exponentials, from its logarithm: 1, 0 for an empty one, NaN if that is what it is."""
    one = ops.where(ops.isnan(log_sum), nan, ops.ones_like(log_sum))
    return ops.where(log_sum == -inf, 0.0, one)


def log_of_weighted_sum(
    ops: Any, x: Array, b: Array, axis: int, *, where: Array | None, signed: bool
) -> tuple[Array, Array]:
    """log abs(Σ b exp(x)) and the sign; an entry with b = 0 is absent. Without ``signed``, NaN for a negative sum."""
    kept = b != 0
    if where is not None:
        kept = kept & where
    x = ops.where(kept, x, -inf)
    b = ops.where(kept, b, 0.0)
    largest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    level = ops.where(largest == -inf, 0.0, largest)
    gaps = ops.where(x == inf, x, x - level)
    half = ops.exp(0.5 * gaps)  # b · half · half reaches further than b · exp(gap): a large b outweighs an underflow
    terms = b * half * half
    total = ops.sum(terms, axis=axis, keepdims=True)
    whole = ops.stop_gradient(total)
    sign = ops.where(whole > 0, ops.ones_like(whole), ops.where(whole < 0, -1.0, whole))
    size = sign * total * ops.where(largest < inf, ops.ones_like(total), largest)
    # Near 1 the logarithm needs what the sum has beyond 1: the 1 is taken from the largest entries, before summing.
    tops = ops.astype(gaps == 0, x.dtype)
    beyond_1 = ops.sum(sign * terms - tops, axis=axis, keepdims=True) + (ops.sum(tops, axis=axis, keepdims=True) - 1.0)
    near_1 = (size > 0.5) & (size < 2.0)
    nothing = size == 0
    log_size = ops.where(
        near_1, ops.log1p(ops.where(near_1, beyond_1, 0.0)), ops.log(ops.where(near_1 | nothing, 1.0, size))
    )
    if not signed:
        log_size = log_size * ops.where(sign < 0, nan, ops.ones_like(sign))
    return ops.where(nothing, -inf, level + log_size), sign
