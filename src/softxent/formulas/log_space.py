"""Differences in log space, of each element alone.

With f(d) = 1 - exp(-d), which is -expm1(-d) and keeps every digit for small d,

    log1mexp(d) = log f(d), for small d, and log1p(-exp(-d)), for large        logsubexp(x, y) = x + log1mexp(x - y)

Both derivatives, exp(-d) / f(d) and 1 / f(d), are quotients in which nothing cancels.
"""

from math import inf, nan
from typing import Any

from softxent.formulas.elementwise import Elementwise

Array = Any

# Mächler's log 2, moved to where neither loses a digit more than there: log1p(y) of XLA is off by 128 units in the last
# place for y from -0.41 to -0.29, which is exp(-d) for d up to 1.23, in float64.
_SMALL = 1.25


def log1mexp_of(ops: Any, x: Array) -> Array:
    """log(1 - exp(-x)); NaN below 0."""
    small = x < _SMALL
    # NaN as a factor, so that it is the derivative too.
    near = ops.log(lacking(ops, ops.where(small, x * defined(ops, x), 1.0)))
    far = ops.log1p(-ops.exp(-ops.where(small, 1.0, x)))
    return ops.where(small, near, far)


def lacking(ops: Any, x: Array) -> Array:
    """1 - exp(-x), what exp(-x) lacks to 1; never -0, whose reciprocal has the wrong sign."""
    return 0.0 - ops.expm1(-x)


def defined(ops: Any, x: Array) -> Array:
    """1, and NaN below 0."""
    return ops.where(x < 0, nan, ops.ones_like(x))


def log1mexp_slope(ops: Any, x: Array) -> Array:
    """exp(-x) / (1 - exp(-x)), where 1 / expm1(x) would underflow early."""
    return ops.exp(-x) / lacking(ops, x) * defined(ops, x)


def log1mexp_bend(ops: Any, x: Array) -> Array:
    """The slope s of that, -s (1 + s)."""
    slope = log1mexp_slope(ops, x)
    return -slope * (1.0 + slope)


def distance(ops: Any, x: Array, y: Array) -> Array:
    """x - y, and infinity where exp(y) is 0, also from -inf."""
    return ops.where((y == -inf) & ~ops.isnan(x), inf, x - y)


def logsubexp_of(ops: Any, x: Array, y: Array) -> Array:
    """log(exp(x) - exp(y)); NaN for x < y."""
    return x + log1mexp_of(ops, distance(ops, x, y))


def logsubexp_by_x(ops: Any, x: Array, y: Array) -> Array:
    """1 / (1 - exp(y - x))."""
    d = distance(ops, x, y)
    return defined(ops, d) / lacking(ops, d)


def logsubexp_by_y(ops: Any, x: Array, y: Array) -> Array:
    """-1 / expm1(x - y)."""
    return -log1mexp_slope(ops, distance(ops, x, y))


def logsubexp_bend(ops: Any, x: Array, y: Array) -> Array:
    """The slope of the first of these, which is their product."""
    return logsubexp_by_x(ops, x, y) * logsubexp_by_y(ops, x, y)


log1mexp = Elementwise(log1mexp_of, {"x": log1mexp_slope}, log1mexp_bend)
logsubexp = Elementwise(logsubexp_of, {"x": logsubexp_by_x, "y": logsubexp_by_y}, logsubexp_bend)
