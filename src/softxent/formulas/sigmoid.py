"""The sigmoid family, right in both tails.

All of it is made of e = exp(-abs(x)), which never overflows:

    sigmoid(x) = 1 / (1 + e) for x > 0, e / (1 + e) elsewhere        softplus(x) = max(x, 0) + log1p(e)

The kinks of abs and max are written as choices, so that both halves of a derivative meet at 0 on every library.
"""

from math import nan
from typing import Any

from softxent.formulas.elementwise import Elementwise

Array = Any


def decay(ops: Any, x: Array) -> Array:
    """exp(-abs(x))."""
    return ops.exp(ops.where(x > 0, -x, x))


def sigmoid_of(ops: Any, x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    e = decay(ops, x)
    larger = 1.0 / (1.0 + e)
    return ops.where(x > 0, larger, e * larger)


def softplus_of(ops: Any, x: Array) -> Array:
    """log(1 + exp(x))."""
    return ops.where(x > 0, x, 0.0) + ops.log1p(decay(ops, x))


def log_sigmoid_of(ops: Any, x: Array) -> Array:
    """-log(1 + exp(-x))."""
    return ops.where(x > 0, 0.0, x) - ops.log1p(decay(ops, x))


def bump(ops: Any, x: Array) -> Array:
    """sigmoid(x) sigmoid(-x), the slope of sigmoid."""
    e = decay(ops, x)
    larger = 1.0 / (1.0 + e)
    return e * larger * larger


def bend(ops: Any, x: Array) -> Array:
    """The slope of that: sigmoid(x) sigmoid(-x) (1 - 2 sigmoid(x))."""
    fall = ops.expm1(ops.where(x > 0, -x, x)) / (1.0 + decay(ops, x))
    return bump(ops, x) * ops.where(x > 0, fall, -fall)


def logit_of(ops: Any, x: Array) -> Array:
    """log(p / (1 - p)); near 1/2, where the logarithms cancel, of the quotient's distance to 1."""
    central = (x > 0.25) & (x < 0.75)
    p = ops.where(central, x, 0.5)
    upper = p > 0.5
    excess = ops.log1p(ops.where(upper, (p - 0.5) + (p - 0.5), (0.5 - p) + (0.5 - p)) / ops.where(upper, 1.0 - p, p))
    p = ops.where(central, 0.25, x)
    return ops.where(central, ops.where(upper, excess, 0.0 - excess), ops.log(p) - ops.log1p(-p))


def logit_slope(ops: Any, x: Array) -> Array:
    """1 / (p (1 - p)); NaN where there is no logit."""
    inside = (x >= 0) & (x <= 1)
    return 1.0 / ops.where(inside, x * (1.0 - x), nan)


def logit_bend(ops: Any, x: Array) -> Array:
    """(2p - 1) / (p (1 - p))²."""
    slope = logit_slope(ops, x)
    return ((x - 0.5) + (x - 0.5)) * slope * slope


sigmoid = Elementwise(sigmoid_of, {"x": bump}, bend)
softplus = Elementwise(softplus_of, {"x": sigmoid_of}, bump)
log_sigmoid = Elementwise(log_sigmoid_of, {"x": lambda ops, x: sigmoid_of(ops, -x)}, lambda ops, x: -bump(ops, x))
logit = Elementwise(logit_of, {"x": logit_slope}, logit_bend)
