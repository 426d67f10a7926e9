"""Terms of entropies, each element for itself, with 0 · log 0 = 0. Arguments of logarithms are kept from 0 and below.

What is not selected by a choice is computed all the same, so that each logarithm is given 1 where it does not count.
"""

from math import inf, nan
from typing import Any

from softxent.formulas.elementwise import Elementwise

Array = Any


def logarithm(ops: Any, x: Array) -> Array:
    """log x, -inf at 0 and NaN below."""
    positive = x > 0
    known = ops.log(ops.where(positive, x, 1.0))
    return ops.where(positive, known, ops.where(x == 0, -inf, nan * ops.ones_like(x)))


def entr_of(ops: Any, x: Array) -> Array:
    """-x log x; -inf below 0."""
    positive = x > 0
    known = 0.0 - ops.where(positive, x, 1.0) * ops.log(ops.where(positive, x, 1.0))
    return ops.where(positive, known, ops.where(x < 0, -inf, x * 0.0))


def log_quotient(ops: Any, x: Array, y: Array) -> Array:
    """log(x / y) of positive numbers; of what they differ by, where they are near each other."""
    near = (x > 0.5 * y) & (x < 2.0 * y)
    excess = ops.where(near, x - y, 0.0) / y
    return ops.where(near, ops.log1p(excess), ops.log(x) - ops.log(y))


def rel_entr_of(ops: Any, x: Array, y: Array) -> Array:
    """x log(x / y): 0 for x = 0, +inf where x or y is negative or y alone is 0."""
    positive = (x > 0) & (y > 0)
    a, b = ops.where(positive, x, 1.0), ops.where(positive, y, 1.0)
    nothing = (x == 0) & (y >= 0)
    known = a * log_quotient(ops, a, b)
    return ops.where(positive, known, ops.where(nothing, 0.0, inf + 0.0 * (x + y)))


def rel_entr_by_x(ops: Any, x: Array, y: Array) -> Array:
    """log(x / y) + 1, 0 where there is no term."""
    positive = (x > 0) & (y > 0)
    a, b = ops.where(positive, x, 1.0), ops.where(positive, y, 1.0)
    limit = ops.where((x == 0) & (y > 0), -inf, ops.where((x == 0) & (y == 0), 0.0, nan * ops.ones_like(a)))
    return ops.where(positive, log_quotient(ops, a, b) + 1.0, limit)


def ratio(ops: Any, x: Array, y: Array) -> Array:
    """x / y, 0 where x is 0."""
    return ops.where(x == 0, 0.0 * ops.ones_like(y), x / ops.where(x == 0, 1.0, y))


def xlogy_of(ops: Any, x: Array, y: Array) -> Array:
    """x log y, 0 where x is 0 unless y is NaN."""
    idle = (x == 0) & ~ops.isnan(y)
    return ops.where(idle, 0.0, x * ops.where(idle, 0.0, logarithm(ops, ops.where(idle, 1.0, y))))


def xlog1py_of(ops: Any, x: Array, y: Array) -> Array:
    """x log(1 + y), 0 where x is 0 unless y is NaN."""
    idle = (x == 0) & ~ops.isnan(y)
    return ops.where(idle, 0.0, x * ops.log1p(ops.where(idle, 0.0, y)))


entr = Elementwise(
    entr_of,
    {"x": lambda ops, x: 0.0 - logarithm(ops, x) - 1.0},
    lambda ops, x: ops.where(x < 0, nan, -1.0 / x),
)
rel_entr = Elementwise(
    rel_entr_of,
    {"x": rel_entr_by_x, "y": lambda ops, x, y: 0.0 - ratio(ops, x, y)},
    lambda ops, x, y: ops.where((x == 0) & (y == 0), 0.0, ops.where((x < 0) | (y <= 0), nan, 1.0 / x)),
)
xlogy = Elementwise(
    xlogy_of,
    {"x": lambda ops, x, y: logarithm(ops, y) + 0.0 * x, "y": ratio},
    lambda ops, x, y: ops.zeros_like(x + y),
)
xlog1py = Elementwise(
    xlog1py_of,
    {"x": lambda ops, x, y: ops.log1p(y) + 0.0 * x, "y": lambda ops, x, y: ratio(ops, x, 1.0 + y)},
    lambda ops, x, y: ops.zeros_like(x + y),
)
