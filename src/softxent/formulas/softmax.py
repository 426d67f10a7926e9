"""Softmax: e_j / (1 + R), in the notation of ``shift``."""

from typing import Any

from softxent.formulas.logits import along_temperature, by_temperature, masked, masked_temperature, over
from softxent.formulas.marks import one_a_logit
from softxent.formulas.participation import only
from softxent.formulas.shift import Shifted, probabilities, shares, shifted, spread

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
    negate: bool = False,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """Softmax along ``axis``, of -logits if ``negate``; 0 at dropped classes."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    x, temperature = prepared(ops, logits, where, temperature, axis, dtype, negate=negate)
    if ops.stop_gradient(x) is x:
        p = shares(ops, x, axis, temperature)
    else:
        p = probabilities(ops, shifted(ops, x, axis, temperature), axis)
    return ops.astype(only(ops, where, p), result, copy=False)


def pullback(
    ops: Any,
    logits: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    where: Array | None = None,
    temperature: Array | float | None = None,
    negate: bool = False,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """p_i (g_i - Σ p g) by the logits over the temperature."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, dtype) for _ in by)
    x, s, temperature = laid_out(ops, logits, where, temperature, axis, dtype, negate=negate)
    g = only(ops, where, ops.astype(g, dtype, copy=False))
    dz = only(ops, where, spread(ops, g, probabilities(ops, s, axis), s.lead, axis))
    return by_each(ops, by, dz, x, s, temperature, axis, negate=negate)


def pushforward(
    ops: Any,
    logits: Array,
    *,
    t_logits: Array | None = None,
    t_temperature: Array | None = None,
    where: Array | None = None,
    temperature: Array | float | None = None,
    negate: bool = False,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """p_i (t_i - Σ p t), t being the tangent of the logits over the temperature."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    x, s, temperature = laid_out(ops, logits, where, temperature, axis, dtype, negate=negate)
    t = tangent(ops, t_logits, t_temperature, x, s, where, temperature, axis, dtype, negate=negate)
    return ops.astype(only(ops, where, spread(ops, t, probabilities(ops, s, axis), s.lead, axis)), result, copy=False)


def laid_out(
    ops: Any,
    logits: Array,
    where: Array | None,
    temperature: Array | float | None,
    axis: int,
    dtype: Any,
    *,
    negate: bool = False,
) -> tuple[Array, Shifted, Array | float | None]:
    """Logits in the dtype of the arithmetic with dropped classes out, shifted, and the temperature."""
    x, temperature = prepared(ops, logits, where, temperature, axis, dtype, negate=negate)
    return x, shifted(ops, x, axis, temperature), temperature


def prepared(
    ops: Any,
    logits: Array,
    where: Array | None,
    temperature: Array | float | None,
    axis: int,
    dtype: Any,
    *,
    negate: bool,
) -> tuple[Array, Array | float | None]:
    """The same before the shift."""
    x = ops.astype(logits, dtype, copy=False)
    if negate:
        x = -x
    if where is not None:
        x = masked(ops, x, where, axis)
    return x, masked_temperature(ops, temperature, where, axis)


def by_each(
    ops: Any,
    by: tuple[str, ...],
    dz: Array,
    x: Array,
    s: Shifted,
    temperature: Array | float | None,
    axis: int,
    *,
    negate: bool = False,
) -> tuple[Array, ...]:
    """Derivatives by the operands named, from those by the logits over the temperature."""
    rules = {
        "logits": lambda: -over(dz, temperature) if negate else over(dz, temperature),
        "temperature": lambda: by_temperature(ops, dz, x, s.gaps, temperature, axis),
    }
    return tuple(rules[name]() for name in by)


def tangent(
    ops: Any,
    t_logits: Array | None,
    t_temperature: Array | None,
    x: Array,
    s: Shifted,
    where: Array | None,
    temperature: Array | float | None,
    axis: int,
    dtype: Any,
    *,
    negate: bool = False,
) -> Array:
    """The tangent of the logits over the temperature, up to a constant for each row; 0 at dropped classes."""
    if t_logits is not None:  # integers have none
        t_logits = ops.astype(t_logits, dtype, copy=False)
        t_logits = only(ops, where, -t_logits if negate else t_logits)
    return along_temperature(ops, t_logits, x, s.gaps, temperature, t_temperature, axis)
