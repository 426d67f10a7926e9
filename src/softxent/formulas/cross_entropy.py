"""Cross-entropy of logits, one value a row, against a label or a distribution, with every option.

In the notation of ``shift``, the loss of label t is log1p(R) + (x_a - x_t): two terms that are not negative, so that no
digit cancels, and so are all terms of the general loss Σ_c a_c (-log p_c) + λ W logsumexp², a = w · q', of a
distribution q smoothed to q'.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Any

from softxent.formulas.logits import capped, masked, masked_temperature, tempered, varies
from softxent.formulas.logsumexp import log_of_sum
from softxent.formulas.shift import shifted
from softxent.formulas.softmax import log_probabilities
from softxent.formulas.targets import divisor, equals, in_range, smoothed

Array = Any


def cross_entropy(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    temperature: Array | float | None = None,
    softcap: Array | float | None = None,
    z_loss: Array | float | None = None,
    hard: bool,
    mass: str,
    aux: tuple[str, ...] = (),
    axis: int,
    dtype: Any,
) -> tuple[Array, ...]:
    """Loss of each row, its mass in the mean ("weight" or "count", by ``mass``), and the by-products in ``aux``."""
    x = ops.astype(logits, dtype, copy=False)
    if x.shape[axis] == 0:
        nothing = ops.sum(x, axis=axis, keepdims=True)
        return (nothing, nothing, *(nothing != 0 if name == "correct" else nothing for name in aux))
    present = present_rows(ops, labels, where, ignore_index, hard=hard, axis=axis)
    steady = constant_where_idle(ops, sample_weight)

    # The logits as softmax sees them: dropped classes out, capped, and over a temperature that differs between classes.
    kept = both(where, present)
    x = steady(x if kept is None else masked(ops, x, kept, axis))
    if softcap is not None:
        x = capped(ops, x, steady(softcap))
    temperature = steady(masked_temperature(ops, temperature, kept, axis))
    if varies(temperature, axis):
        x, temperature = tempered(ops, x, temperature), None

    # The target: a label, a distribution q where one is needed, and W = Σ w q / Σ q, which is 1 without class weights.
    one = ops.ones_like(ops.sum(x, axis=axis, keepdims=True))
    valid = None
    if hard:
        valid = in_range(ops, labels, x.shape[axis])
        label = ops.where(both(valid, present), labels, ops.zeros_like(labels))
        share = one if weight is None else steady(ops.take_along_axis(weight, label, axis=axis))
        q = None if label_smoothing is None else ops.put_along_axis(ops.zeros_like(x), label, 1.0, axis=axis)
    else:
        q = ops.astype(labels, dtype, copy=False)
        q = steady(q if present is None else ops.where(present, q, 0.0))
        label = ops.argmax(q, axis=axis, keepdims=True)
        share = one if weight is None else steady(mean_weight(ops, weight, q, axis))

    # A label out of range makes its row NaN by a product, so that its derivative is NaN as well.
    validity = one if valid is None else ops.where(valid if present is None else valid | ~present, one, nan)
    if q is None:
        surprise = against_label(ops, x, label, axis, temperature) * validity
        loss, target_log_p = product(ops, share, surprise), 0.0 - surprise
    else:
        log_p = log_probabilities(ops, x, axis, temperature)
        if hard:
            target_log_p = ops.take_along_axis(log_p, label, axis=axis) * validity
        else:
            target_log_p = ops.sum(product(ops, q, log_p), axis=axis, keepdims=True)
        if label_smoothing is not None:
            q = smoothed(ops, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
        a = steady(q if weight is None else product(ops, q, weight))
        loss = ops.sum(product(ops, a, -log_p), axis=axis, keepdims=True) * validity
    penalty = None
    if z_loss is not None:
        log_z = log_of_sum(ops, x, axis, temperature)
        penalty = product(ops, steady(z_loss) * share, log_z * log_z)
        loss = loss + penalty

    # What the row counts for. A weight of 0 has the loss for its derivative, if that is finite.
    active = present
    if sample_weight is not None:
        idle = sample_weight == 0
        active = both(~idle, present)
        loss = sample_weight * ops.where(idle & ~ops.isfinite(loss), 0.0, loss)
        penalty = None if penalty is None else sample_weight * penalty
        share = ops.where(idle & ~ops.isfinite(share), 0.0, share)
        share = ops.where(sample_weight < 0, nan, sample_weight * share)
    counted = only(ops, active, one) if mass == "count" else only(ops, present, share)

    by_products: dict[str, Callable[[], Array]] = {
        "lse": lambda: log_of_sum(ops, x, axis, temperature),
        "z_loss": lambda: penalty,
        "entropy": lambda: entropy(ops, x, axis, temperature),
        "correct": lambda: both(at_label(ops, ops.argmax(x, axis=axis, keepdims=True), label), valid),
        "target_log_prob": lambda: target_log_p,
        "margin": lambda: margin(ops, x, label, axis, temperature) * validity,
    }
    others = (only(ops, active, by_products[name]()) for name in aux)
    return only(ops, present, loss), counted, *others


def present_rows(
    ops: Any, labels: Array, where: Array | None, ignore_index: Array | int | None, *, hard: bool, axis: int
) -> Array | None:
    """Rows with a label that is not ignored, or soft labels not all 0, and with a class left; None: all of them."""
    present = None if where is None else ops.any(where, axis=axis, keepdims=True)
    if not hard:
        present = both(present, ops.any(labels != 0, axis=axis, keepdims=True))
    elif ignore_index is not None:
        present = both(present, ~equals(ops, labels, ignore_index))
    return present


def constant_where_idle(ops: Any, sample_weight: Array | None) -> Callable[[Any], Any]:
    """What makes an operand a constant in rows of sample weight 0: only that weight has a derivative there."""

    def steady(operand: Any) -> Any:
        if sample_weight is None or operand is None or isinstance(operand, float):
            return operand
        constant = ops.stop_gradient(operand)
        return operand if constant is operand else ops.where(sample_weight == 0, constant, operand)

    return steady


def against_label(ops: Any, x: Array, label: Array, axis: int, temperature: Array | float | None) -> Array:
    """-log softmax(x / temperature) at the label: log(1 + R) less its gap, which is 0 for the largest logit."""
    s = shifted(ops, x, axis, temperature)
    gap = tempered(ops, ops.take_along_axis(x, label, axis=axis) - s.reference, temperature)
    return ops.where(at_label(ops, s.lead, label), ops.log1p(s.beside_lead), s.log_total - gap)


def at_label(ops: Any, position: Array, label: Array) -> Array:
    """Whether a position is the label; labels that are classes fit the dtype of positions."""
    return position == ops.astype(label, position.dtype)


def product(ops: Any, a: Array, y: Array) -> Array:
    """A factor times a value, 0 where the factor is 0 and the value infinite: 0 · log 0 = 0, to every order."""
    infinite = ops.isinf(y)
    constant = ops.stop_gradient(a)
    if constant is not a:  # the derivative by the factor is 0 there, and the value where it is finite
        a = ops.where(infinite, constant, a)
    return a * ops.where((a == 0) & infinite, 0.0, y)


def mean_weight(ops: Any, weight: Array, q: Array, axis: int) -> Array:
    """Class weights averaged over a distribution that need not be normalised."""
    total = ops.sum(q, axis=axis, keepdims=True)
    return ops.sum(product(ops, q, weight), axis=axis, keepdims=True) / divisor(ops, total)


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


def both(a: Array | None, b: Array | None) -> Array | None:
    """Conjunction of two masks, either of which may be absent."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def only(ops: Any, rows: Array | None, result: Array) -> Array:
    """A row result, 0 (False) where the row is none of ``rows``."""
    if rows is None:
        return result
    return ops.where(rows, result, ops.zeros_like(result))
