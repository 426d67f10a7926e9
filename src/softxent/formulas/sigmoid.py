"""The sigmoid family, right in both tails.

All of it is made of e = exp(-abs(x)), which never overflows:

    sigmoid(x) = 1 / (1 + e) for x > 0, e / (1 + e) elsewhere        softplus(x) = max(x, 0) + log1p(e)

The kinks of abs and max are products with 0, 1 and -1. These are exact, both halves of a derivative meet at 0 on every
library, and no processor waits for the signs of x, as it does where ``where`` cannot be foreseen.
"""

from math import nan
from typing import Any

from softxent.formulas.elementwise import Elementwise
from softxent.formulas.targets import product

Array = Any


def decay(ops: Any, x: Array) -> tuple[Array, Array, Array]:
    """1 for x > 0 and 0 elsewhere; -1 and 1, the slope of -abs(x); and exp(-abs(x))."""
    high = ops.astype(x > 0, x.dtype)
    fall = 1.0 - 2.0 * high
    return high, fall, ops.reusing("exp", fall * x)


def sigmoid_of(ops: Any, x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    high, _, e = decay(ops, x)
    return (high + (1.0 - high) * e) / (1.0 + e)


def softplus_of(ops: Any, x: Array) -> Array:
    """log(1 + exp(x))."""
    high, _, e = decay(ops, x)
    return product(ops, high, x) + ops.log1p(e)


def log_sigmoid_of(ops: Any, x: Array) -> Array:
    """-log(1 + exp(-x))."""
    high, _, e = decay(ops, x)
    return product(ops, 1.0 - high, x) - ops.log1p(e)


def bump(ops: Any, x: Array) -> Array:
    """sigmoid(x) sigmoid(-x), the slope of sigmoid."""
    _, _, e = decay(ops, x)
    return bump_of(e)


def bump_of(e: Array) -> Array:
    """The same from exp(-abs(x))."""
    total = 1.0 + e
    return e / (total * total)


def bend(ops: Any, x: Array) -> Array:
    """The slope of that: sigmoid(x) sigmoid(-x) (1 - 2 sigmoid(x))."""
    _, fall, e = decay(ops, x)
    return -fall * bump_of(e) * (ops.expm1(fall * x) / (1.0 + e))


def logit_of(ops: Any, x: Array) -> Array:
    """log(p / (1 - p)); near 1/2, where the logarithms cancel, of the quotient's distance to 1."""
    x = within(ops, x)
    central = (x > 0.25) & (x < 0.75)
    p = ops.where(central, x, 0.5)
    upper = p > 0.5
    excess = ops.log1p(ops.where(upper, (p - 0.5) + (p - 0.5), (0.5 - p) + (0.5 - p)) / ops.where(upper, 1.0 - p, p))
    p = ops.where(central, 0.25, x)
    return ops.where(central, ops.where(upper, excess, 0.0 - excess), ops.log(p) - ops.log1p(-p))


def logit_slope(ops: Any, x: Array) -> Array:
    """1 / (p (1 - p))."""
    x = within(ops, x)
    return 1.0 / (x * (1.0 - x))


def logit_bend(ops: Any, x: Array) -> Array:
    """(2p - 1) / (p (1 - p))², whose denominator may be too small a number where the whole is none too large."""
    x = within(ops, x)
    bump = x * (1.0 - x)
    return ((x - 0.5) + (x - 0.5)) / bump / bump


def within(ops: Any, x: Array) -> Array:
    """A probability; what is none makes NaN of values and, by a factor, of derivatives."""
    return x * ops.where((x >= 0) & (x <= 1), ops.ones_like(x), nan)


sigmoid = Elementwise(sigmoid_of, {"x": bump}, bend)
softplus = Elementwise(softplus_of, {"x": sigmoid_of}, bump)
log_sigmoid = Elementwise(log_sigmoid_of, {"x": lambda ops, x: sigmoid_of(ops, -x)}, lambda ops, x: -bump(ops, x))
logit = Elementwise(logit_of, {"x": logit_slope}, logit_bend)
