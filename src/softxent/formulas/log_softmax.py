"""The logarithm of softmax: (x_j - x_a) - log(1 + R), and -log(1 + R) for the largest, in the notation of ``shift``."""

from math import inf
from typing import Any

from softxent.formulas.marks import one_a_logit
from softxent.formulas.participation import only
from softxent.formulas.shift import Shifted, centred, excess, probabilities, shifted, shortfall
from softxent.formulas.softmax import by_each, laid_out, prepared, tangent

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "temperature"}}


@one_a_logit
def value(
    ops: Any,
    logits: Array,
    *,
    where: Array | None = None,
    temperature: Array | float | None = None,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """Logarithm of softmax along ``axis``; -inf at dropped classes."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    x, temperature = prepared(ops, logits, where, temperature, axis, dtype, negate=False)
    if ops.stop_gradient(x) is x:
        _, gaps, rest = excess(ops, x, axis, temperature)
        log_p = ops.reusing("subtract", gaps, ops.log1p(rest))
    else:
        log_p = log_probabilities(ops, x, axis, temperature)
    return ops.astype(log_p if where is None else ops.where(where, log_p, -inf), result, copy=False)


def pullback(
    ops: Any,
    logits: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    where: Array | None = None,
    temperature: Array | float | None = None,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """g_i - p_i Σ g by the logits over the temperature."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, dtype) for _ in by)
    x, s, temperature = laid_out(ops, logits, where, temperature, axis, dtype)
    g = only(ops, where, ops.astype(g, dtype, copy=False))
    dz = only(ops, where, less_share(ops, g, s, probabilities(ops, s, axis), axis))
    return by_each(ops, by, dz, x, s, temperature, axis)


def pushforward(
    ops: Any,
    logits: Array,
    *,
    t_logits: Array | None = None,
    t_temperature: Array | None = None,
    where: Array | None = None,
    temperature: Array | float | None = None,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """t_i - Σ p t, t being the tangent of the logits over the temperature."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    x, s, temperature = laid_out(ops, logits, where, temperature, axis, dtype)
    t = tangent(ops, t_logits, t_temperature, x, s, where, temperature, axis, dtype)
    t, mean = centred(ops, t, probabilities(ops, s, axis), s.lead, axis)
    return ops.astype(only(ops, where, t - mean), result, copy=False)


def log_probabilities(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Array:
    """Log-probabilities of logits that are already cast and masked."""
    return logarithms(ops, shifted(ops, x, axis, temperature), axis)


def logarithms(ops: Any, s: Shifted, axis: int) -> Array:
    """Log-probabilities of shifted logits."""
    log_p = s.gaps - s.log_total
    if not s.watched:  # the gap of the largest is 0
        return log_p
    return ops.put_along_axis(log_p, s.lead, 0.0 - ops.log1p(s.beside_lead), axis=axis)


def less_share(ops: Any, g: Array, s: Shifted, p: Array, axis: int) -> Array:
    """g_i - p_i Σ g: the transposed Jacobian of log_softmax times g.

    At the largest entry it is g_a (1 - p_a) - p_a Σ_{j≠a} g_j, where nothing cancels that is not a difference of the
    cotangents themselves.
    """
    own = ops.take_along_axis(g, s.lead, axis=axis)
    beside = ops.sum(ops.put_along_axis(g + 0.0, s.lead, 0.0, axis=axis), axis=axis, keepdims=True)
    at_lead = own * shortfall(s) - beside / (1.0 + s.beside_lead)
    return ops.put_along_axis(g - p * (own + beside), s.lead, at_lead, axis=axis)
