"""Softmax and its logarithm: e_j / (1 + R) and (x_j - x_a) - log1p(R), in the notation of ``shift``."""

from math import inf
from typing import Any

from softxent.formulas.logits import masked, masked_temperature
from softxent.formulas.shift import shifted

Array = Any


def softmax(
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
        return ops.astype(logits, result, copy=False)
    x = prepared(ops, logits, where, axis, dtype, negate=negate)
    s = shifted(ops, x, axis, masked_temperature(ops, temperature, where, axis))
    p = s.others / (1.0 + s.beside)
    p = ops.put_along_axis(p, s.lead, 1.0 / (1.0 + s.beside_lead), axis=axis)
    if where is not None:
        p = ops.where(where, p, 0.0)
    return ops.astype(p, result, copy=False)


def log_softmax(
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
        return ops.astype(logits, result, copy=False)
    temperature = masked_temperature(ops, temperature, where, axis)
    log_p = log_probabilities(ops, prepared(ops, logits, where, axis, dtype), axis, temperature)
    if where is not None:
        log_p = ops.where(where, log_p, -inf)
    return ops.astype(log_p, result, copy=False)


def log_probabilities(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Array:
    """Log-probabilities of logits that are already cast and masked."""
    s = shifted(ops, x, axis, temperature)
    log_p = s.gaps - s.log_total
    return ops.put_along_axis(log_p, s.lead, 0.0 - ops.log1p(s.beside_lead), axis=axis)


def prepared(ops: Any, logits: Array, where: Array | None, axis: int, dtype: Any, *, negate: bool = False) -> Array:
    """Logits in the dtype of the arithmetic, dropped classes out."""
    x = ops.astype(logits, dtype, copy=False)
    if negate:
        x = -x
    return x if where is None else masked(ops, x, where, axis)
