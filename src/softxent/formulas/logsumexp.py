"""Logarithm of a sum of exponentials, plain and with weights of either sign."""

from math import inf, nan
from typing import Any, NamedTuple

from softxent.formulas.logits import tempered, varies
from softxent.formulas.participation import only
from softxent.formulas.shift import excess, probabilities, shifted, shortfall, spread, variances

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"x", "b"}}


def value(
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
        sign = sign_of_sum(ops, log_sum) if signed else None
    else:
        b = ops.astype(b, dtype, copy=False)
        log_sum, sign = log_of_weighted_sum(ops, x, b, axis, where=where, signed=signed)
    log_sum = ops.astype(log_sum, result, copy=False)
    return (log_sum, ops.astype(sign, result, copy=False)) if signed else log_sum


def pullback(
    ops: Any,
    x: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    b: Array | None = None,
    where: Array | None = None,
    signed: bool = False,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """g p_i by x and g p_i / b_i by b, with p_i = b_i exp(x_i) / Σ b exp(x); 0 for what is absent."""
    if x.shape[axis] == 0:
        return tuple(ops.astype(x, dtype) for _ in by)
    s = shares(ops, x, b, where, axis, dtype, signed=signed)
    g = ops.astype(g, dtype, copy=False)
    rules = {"x": lambda: g * s.p, "b": lambda: g * s.by_b}
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any, x: Array, *, g: Array, by: tuple[str, ...], signed: bool = False, **given: Any
) -> tuple[Array, ...]:
    """The one and the other."""
    log_sum = value(ops, x, signed=signed, **given)
    results = log_sum if isinstance(log_sum, tuple) else (log_sum,)
    return *results, *pullback(ops, x, g=g, by=by, signed=signed, **given)


def hvp(
    ops: Any,
    x: Array,
    *,
    g: Array,
    vector: Array,
    b: Array | None = None,
    where: Array | None = None,
    signed: bool = False,
    axis: int,
    dtype: Any,
    **_: Any,
) -> Array:
    """g (diag(p) - p pᵀ) times a vector."""
    if x.shape[axis] == 0:
        return ops.astype(x, dtype)
    s = shares(ops, x, b, where, axis, dtype, signed=signed)
    v = ops.where(s.kept, ops.astype(vector, dtype, copy=False), 0.0)
    return ops.astype(g, dtype, copy=False) * only(ops, s.kept, spread(ops, v, s.p, s.lead, axis))


def hessian_diagonal(
    ops: Any,
    x: Array,
    *,
    g: Array,
    b: Array | None = None,
    where: Array | None = None,
    signed: bool = False,
    axis: int,
    dtype: Any,
    **_: Any,
) -> Array:
    """g p_i (1 - p_i)."""
    if x.shape[axis] == 0:
        return ops.astype(x, dtype)
    s = shares(ops, x, b, where, axis, dtype, signed=signed)
    spreading = variances(ops, s.p, s.lead, s.lacking, axis)
    return ops.astype(g, dtype, copy=False) * only(ops, s.kept, spreading)


def log_of_sum(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Array:
    """log Σ exp(x / temperature); an empty sum is -inf with derivative 0."""
    if ops.stop_gradient(x) is x:
        largest, _, rest = excess(ops, x, axis, temperature, spent=True)
        level = tempered(ops, largest, None if varies(temperature, axis) else temperature)
        return ops.where(ops.isfinite(largest), level + ops.log1p(rest), largest)
    s = shifted(ops, x, axis, temperature, undefined=False)
    level = tempered(ops, s.reference, None if varies(temperature, axis) else temperature)
    above = 1.0 + s.beside
    # A largest entry of +inf (NaN) makes the logarithm +inf (NaN) and, through inf/inf, its derivative NaN in the row.
    beyond = ops.log(above * ops.where(s.largest < inf, ops.ones_like(above), s.largest))
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
    w = weighted(ops, x, b, axis, where=where)
    terms, largest, level = w.b * w.half * w.half, w.largest, w.level
    total = ops.sum(terms, axis=axis, keepdims=True)
    whole = ops.stop_gradient(total)
    sign = ops.where(whole > 0, ops.ones_like(whole), ops.where(whole < 0, -1.0, whole))
    size = sign * total * ops.where(largest < inf, ops.ones_like(total), largest)
    # Near 1 the logarithm needs what the sum has beyond 1: the 1 is taken from the largest entries, before summing.
    tops = ops.astype(ops.equal(w.gaps, 0), x.dtype)
    beyond_1 = ops.sum(sign * terms - tops, axis=axis, keepdims=True) + (ops.sum(tops, axis=axis, keepdims=True) - 1.0)
    near_1 = (size > 0.5) & (size < 2.0)
    nothing = ops.equal(size, 0)
    log_size = ops.where(
        near_1, ops.log1p(ops.where(near_1, beyond_1, 0.0)), ops.log(ops.where(near_1 | nothing, 1.0, size))
    )
    if not signed:
        log_size = log_size * ops.where(sign < 0, nan, ops.ones_like(sign))
    return ops.where(nothing, -inf, level + log_size), sign


class Weighted(NamedTuple):
    """Weights and the exponentials they multiply, relative to the largest entry of weight other than 0."""

    b: Array  # 0 for what is absent
    largest: Array  # held constant
    level: Array  # the same, 0 for an empty sum
    gaps: Array  # x - level
    half: Array  # exp(gaps / 2): b · half · half reaches further than b · exp(gap), a large b outweighs an underflow


def weighted(ops: Any, x: Array, b: Array, axis: int, *, where: Array | None) -> Weighted:
    """What a weighted sum is made of; an entry with b = 0 is absent."""
    kept = ops.not_equal(b, 0)
    if where is not None:
        kept = kept & where
    x = ops.where(kept, x, -inf)
    b = ops.where(kept, b, 0.0)
    largest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    level = ops.where(largest == -inf, 0.0, largest)
    gaps = ops.where(x == inf, x, x - level)
    return Weighted(b, largest, level, gaps, ops.exp(0.5 * gaps))


class Shares(NamedTuple):
    """What each entry has of a sum of exponentials, 0 where it is absent."""

    kept: Array  # which entries are summed
    p: Array  # b exp(x) over the sum: the derivative of its logarithm by x
    by_b: Array  # exp(x) over the sum
    lead: Array  # position of the largest
    lacking: Array  # what that lacks to 1


def shares(ops: Any, x: Array, b: Array | None, where: Array | None, axis: int, dtype: Any, *, signed: bool) -> Shares:
    """The shares of a sum; 0 if it is 0 or empty, NaN if its logarithm is NaN or +inf."""
    x = ops.astype(x, dtype, copy=False)
    if b is None:
        x = x if where is None else ops.where(where, x, -inf)
        kept = some = ops.any(x != -inf, axis=axis, keepdims=True)
        if where is not None:
            kept = where & some
        s = shifted(ops, ops.where(some, x, 0.0), axis)
        p = only(ops, kept, probabilities(ops, s, axis))
        return Shares(kept, p, p, s.lead, shortfall(s))
    b = ops.astype(b, dtype, copy=False)
    w = weighted(ops, x, b, axis, where=where)
    terms = w.b * w.half * w.half
    total = ops.sum(terms, axis=axis, keepdims=True)
    kept = ops.not_equal(w.b, 0) & ops.not_equal(total, 0)
    defined = (w.largest < inf) if signed else (w.largest < inf) & ~(total < 0)
    whole = ops.where(ops.equal(total, 0), 1.0, total) * ops.where(defined, ops.ones_like(total), nan)
    p, by_b = only(ops, kept, terms / whole), only(ops, kept, w.half * (w.half / whole))
    lead = ops.argmax(ops.abs(terms), axis=axis, keepdims=True)
    beside = ops.sum(ops.put_along_axis(terms, lead, 0.0, axis=axis), axis=axis, keepdims=True)
    return Shares(kept, p, by_b, lead, beside / whole)
