"""What a loss may report beside its value: entropy, margin, whether the label is the largest."""

from math import inf
from typing import Any

from softxent.formulas.log_softmax import log_probabilities
from softxent.formulas.logits import tempered
from softxent.formulas.targets import product

Array = Any


def entropy(ops: Any, x: Array, axis: int, temperature: Array | float | None) -> Array:
    """-Σ p log p."""
    log_p = log_probabilities(ops, x, axis, temperature)
    return 0.0 - ops.sum(product(ops, ops.exp(log_p), log_p), axis=axis, keepdims=True)


def margin(ops: Any, x: Array, label: Array, axis: int, temperature: Array | float | None) -> Array:
    """What the label's logit is above the largest of the others, +inf if there are none."""
    largest = ops.max(x, axis=axis, keepdims=True)
    reference = ops.where(ops.isfinite(largest), largest, 0.0)
    gaps = tempered(ops, x - reference, temperature)
    own = ops.take_along_axis(gaps, label, axis=axis)
    return own - ops.max(ops.put_along_axis(gaps, label, -inf, axis=axis), axis=axis, keepdims=True)
