"""What a class costs that the target asks for, as a function of its surprise s = -log p: losses beside cross-entropy.

    focal           (1 - p)^γ s             hard examples weigh more
    poly            s + ε (1 - p)           the first coefficient of the expansion in 1 - p, adjusted
    generalised     (1 - p^q) / q           bounded, for labels that may be wrong; s for q → 0

A loss is Σ a · cost. Since ∂s_c by the logits is p - e_c, its gradient is that of cross-entropy with a · slope in place
of a, and to its Hessian the bend adds Σ a · bend (p - e_c) (p - e_c)ᵀ. All are made of s, p and 1 - p, which the losses
have to the last digit.
"""

from math import inf
from typing import Any, NamedTuple

from softxent.formulas.targets import product

Array = Any


class Cost(NamedTuple):
    """A cost, and its derivatives by the surprise and by the parameter."""

    of: Array
    slope: Array
    bend: Array
    by_parameter: Array


class Likelihood(NamedTuple):
    """A probability in three forms, each of which keeps every digit."""

    surprise: Array
    p: Array
    lacking: Array  # 1 - p


def focal(ops: Any, x: Likelihood, gamma: Array | float) -> Cost:
    """The factor (1 - p)^γ is exp(γ log(1 - p)), which is 1 for γ = 0 even where p is 1."""
    s, p, lacking = x
    sure = ops.equal(lacking, 0)
    log_lacking = ops.where(sure, -inf, ops.log(ops.where(sure, 1.0, lacking)))
    gamma = gamma + ops.zeros_like(s)
    factor = ops.exp(product(ops, gamma, log_lacking))
    per_lacking = ops.where(sure, 1.0, s / ops.where(sure, 1.0, lacking))  # s / (1 - p), 1 in the limit
    pull = product(ops, p, per_lacking)
    slope = factor * (1.0 + gamma * pull)
    inner = p * (2.0 + gamma * pull) - pull
    bend = ops.where(sure, 0.0, gamma * factor * inner / ops.where(sure, 1.0, lacking))
    return Cost(product(ops, factor, s), slope, bend, product(ops, factor, product(ops, s, log_lacking)))


def poly(ops: Any, x: Likelihood, epsilon: Array | float) -> Cost:  # noqa: ARG001 - costs are called alike
    """Cross-entropy plus ε (1 - p)."""
    return Cost(x.surprise + epsilon * x.lacking, 1.0 + epsilon * x.p, 0.0 - epsilon * x.p, x.lacking)


def generalised(ops: Any, x: Likelihood, q: Array | float) -> Cost:
    """Of a power of p, by expm1 where that is near 1; elsewhere the derivative that libraries give expm1 cancels."""
    exponent = 0.0 - q * x.surprise
    power = ops.exp(exponent)
    of = ops.where(power < 0.5, 1.0 - power, 0.0 - ops.expm1(exponent)) / q
    return Cost(of, power, 0.0 - q * power, (product(ops, power, x.surprise) - of) / q)


PARAMETERS = {"gamma": focal, "epsilon": poly, "q": generalised}
