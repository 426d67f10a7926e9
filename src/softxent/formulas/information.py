"""Terms of entropies, each element for itself, with 0 · log 0 = 0.

What is not selected by a choice is computed all the same, so that logarithms get 1 where they do not count. Where the
value is 0 and its derivative infinite, a square root has both.
"""

from math import inf, nan
from typing import Any

from softxent.formulas.elementwise import Elementwise

Array = Any


def logarithm(ops: Any, x: Array) -> Array:
    """log x, -inf at 0 and NaN below, where its slope is 1 / x all the same."""
    return ops.log(ops.where(x < 0, -x, x)) + ops.where(x < 0, nan, ops.zeros_like(x))


def log_quotient(ops: Any, x: Array, y: Array) -> Array:
    """log(x / y) of positive numbers; its derivatives are those of both logarithms, its digits are not.

    Numbers near each other are told apart by their difference, others by their ratio where that is a normal number.
    """
    a, b = ops.stop_gradient(x), ops.stop_gradient(y)
    near = (a > 0.5 * b) & (a < 2.0 * b)
    excess = ops.where(near, a - b, 0.0) / b
    limits, share = ops.finfo(a.dtype), a / b
    normal = (share >= float(limits.smallest_normal)) & (share <= float(limits.max))
    apart = ops.where(normal, ops.log(ops.where(normal, share, 1.0)), ops.log(a) - ops.log(b))
    found = ops.where(near, ops.log1p(excess), apart)
    if a is x:
        return found
    logs = ops.log(x) - ops.log(y)
    moving = ops.where(ops.isfinite(logs), logs, 0.0)
    return found + (moving - ops.stop_gradient(moving))


def fall(ops: Any, x: Array, here: Array) -> Array:
    """0 where x is 0 and ``here``, with the slope -inf."""
    return ops.where(here, 0.0 - ops.sqrt(ops.where(here, x + 0.0, 1.0)), 0.0)


def nan_of(ops: Any, *arrays: Array) -> Array:
    """NaN where one of them is, 0 elsewhere."""
    unknown = ops.isnan(arrays[0]) if len(arrays) == 1 else ops.isnan(arrays[0]) | ops.isnan(arrays[1])
    return ops.where(unknown, nan, ops.zeros_like(sum(arrays[1:], arrays[0])))


def entr_of(ops: Any, x: Array) -> Array:
    """-x log x; -inf below 0."""
    positive = x > 0
    safe = ops.where(positive, x, 1.0)
    below = ops.where(x < 0, -inf, nan_of(ops, x) - fall(ops, x, ops.equal(x, 0)))
    return ops.where(positive, 0.0 - safe * ops.log(safe), below)


def entr_slope(ops: Any, x: Array) -> Array:
    """-log x - 1, 0 where the function is constant."""
    return ops.where(x < 0, 0.0, 0.0 - ops.log(ops.where(x < 0, 1.0, x)) - 1.0)


def rel_entr_of(ops: Any, x: Array, y: Array) -> Array:
    """x log(x / y): 0 for x = 0, +inf where x or y is negative or y alone is 0."""
    positive, unbounded = (x > 0) & (y > 0), (x > 0) & ops.equal(y, 0)
    a, b = ops.where(positive, x, 1.0), ops.where(positive, y, 1.0)
    known = a * log_quotient(ops, a, b)
    beyond = ops.where(unbounded, x, 1.0) * (0.0 - ops.log(ops.where(unbounded, y, 1.0)))
    edge = fall(ops, x, ops.equal(x, 0) & (y > 0))
    edge = ops.where(ops.equal(x, 0) & (y >= 0), edge, inf + nan_of(ops, x, y))
    return ops.where(positive, known, ops.where(unbounded, beyond, edge))


def rel_entr_by_x(ops: Any, x: Array, y: Array) -> Array:
    """log(x / y) + 1, 0 where there is no term or the function is constant."""
    positive = (x > 0) & (y > 0)
    a, b = ops.where(positive, x, 1.0), ops.where(positive, y, 1.0)
    limit = ops.where(ops.equal(x, 0) & (y > 0), -inf, ops.where((x > 0) & ops.equal(y, 0), inf, nan_of(ops, x, y)))
    return ops.where(positive, log_quotient(ops, a, b) + 1.0, limit)


def rel_entr_by_y(ops: Any, x: Array, y: Array) -> Array:
    """-x / y, 0 where there is no term or the function is constant."""
    defined = (x > 0) & (y >= 0)
    return ops.where(defined, 0.0 - x / ops.where(defined, y, 1.0), nan_of(ops, x, y))


def rel_entr_bend(ops: Any, x: Array, y: Array) -> Array:
    """1 / x, in the same places."""
    defined = ((x > 0) & (y >= 0)) | (ops.equal(x, 0) & (y > 0))
    return ops.where(defined, 1.0 / ops.where(defined, x, 1.0), nan_of(ops, x, y))


def ratio(ops: Any, x: Array, y: Array) -> Array:
    """x / y, 0 where x is 0."""
    return ops.where(ops.equal(x, 0), 0.0 * ops.ones_like(y), x / ops.where(ops.equal(x, 0), 1.0, y))


def times_log(ops: Any, x: Array, y: Array, log: Any, zero: float) -> Array:
    """X times a logarithm of y that is infinite at ``zero``; 0 where x is 0 unless y is NaN."""
    idle = ops.equal(x, 0) & ~ops.isnan(y) & ~((y > zero) & (y < inf))
    return ops.where(idle, fall(ops, x, idle & ops.equal(y, zero)), x * log(ops.where(idle, 1.0, y)))


def log_where_defined(ops: Any, x: Array, y: Array, log: Any, zero: float) -> Array:
    """The derivative of that by x, 0 where x is 0 and there is no logarithm."""
    idle = ops.equal(x, 0) & ((y < zero) | (y == inf))
    return ops.where(idle, 0.0, log(ops.where(idle, 1.0, y))) + 0.0 * x


entr = Elementwise(
    entr_of,
    {"x": entr_slope},
    lambda ops, x: ops.where(x < 0, 0.0, -1.0 / ops.where(x < 0, 1.0, x)),
)
rel_entr = Elementwise(rel_entr_of, {"x": rel_entr_by_x, "y": rel_entr_by_y}, rel_entr_bend)
xlogy = Elementwise(
    lambda ops, x, y: times_log(ops, x, y, lambda z: logarithm(ops, z), 0.0),
    {"x": lambda ops, x, y: log_where_defined(ops, x, y, lambda z: logarithm(ops, z), 0.0), "y": ratio},
    lambda ops, x, y: ops.zeros_like(x + y),
)
xlog1py = Elementwise(
    lambda ops, x, y: times_log(ops, x, y, ops.log1p, -1.0),
    {
        "x": lambda ops, x, y: log_where_defined(ops, x, y, ops.log1p, -1.0),
        "y": lambda ops, x, y: ratio(ops, x, 1.0 + y),
    },
    lambda ops, x, y: ops.zeros_like(x + y),
)
