"""What a categorical loss is made of, row by row, once every option is applied; value and derivatives start from it."""

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

from softxent.formulas.log_softmax import log_probabilities
from softxent.formulas.logits import capped, masked, masked_temperature, tempered, varies
from softxent.formulas.logsumexp import log_of_sum
from softxent.formulas.participation import both, present_rows
from softxent.formulas.shift import Shifted, shifted
from softxent.formulas.targets import at_label, divisor, in_range, product, smoothed

Array = Any


class Rows(NamedTuple):
    """Logits and target of every row. Where nothing takes part, harmless numbers stand in for both."""

    given: Array  # the logits, dropped classes out
    capped: Array  # the same, bounded by the soft cap
    x: Array  # the same, over a temperature if that varies between classes
    temperature: Array | float | None  # of whole rows, yet to divide
    heat: Array | float | None  # the temperature, whichever it is
    kept: Array | None  # classes that take part
    present: Array | None  # rows that take part
    label: Array  # of a distribution its largest class
    valid: Array | None  # whether a label is a class
    validity: Array  # 1, and NaN for a label that is none
    q: Array | None  # the target; None if it is a label and not smoothed
    target: Array | None  # q', smoothed
    a: Array | None  # w · q'
    share: Array  # W = Σ w q / Σ q, 1 without class weights


def laid_out(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    weight: Array | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    temperature: Array | float | None = None,
    softcap: Array | float | None = None,
    hard: bool,
    axis: int,
    dtype: Any,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
) -> Rows:
    """The rows of a call; ``active`` leaves out further ones, and what ``steady`` makes constants has no derivative."""
    raw = ops.astype(logits, dtype, copy=False)
    present = both(active, present_rows(ops, labels, where, ignore_index, hard=hard, axis=axis))

    # The logits as softmax sees them: dropped classes out, capped, and over a temperature that differs between classes.
    kept = both(where, present)
    raw = steady(raw if kept is None else masked(ops, raw, kept, axis))
    bounded = raw if softcap is None else capped(ops, raw, steady(softcap))
    heat = steady(masked_temperature(ops, temperature, kept, axis))
    x, of_rows = (tempered(ops, bounded, heat), None) if varies(heat, axis) else (bounded, heat)

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
    target = q
    if label_smoothing is not None:
        target = smoothed(ops, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
    a = target if target is None or weight is None else product(ops, target, weight)

    # A label out of range makes its row NaN by a product, so that its derivative is NaN as well.
    validity = one if valid is None else ops.where(valid if present is None else valid | ~present, one, nan)
    return Rows(raw, bounded, x, of_rows, heat, kept, present, label, valid, validity, q, target, steady(a), share)


def per_unit(ops: Any, r: Rows, z_loss: Array | float | None, axis: int) -> tuple[Array, Array | None, Array]:
    """A row's loss per unit of sample weight, the z-loss in it, and the log-probability of the target."""
    if r.a is None:
        s = shifted(ops, r.x, axis, r.temperature)
        surprise = against_label(ops, r, s, axis) * r.validity
        loss, target_log_p = product(ops, r.share, surprise), 0.0 - surprise
    else:
        log_p = log_probabilities(ops, r.x, axis, r.temperature)
        if r.valid is not None:
            target_log_p = ops.take_along_axis(log_p, r.label, axis=axis) * r.validity
        else:
            target_log_p = ops.sum(product(ops, r.q, log_p), axis=axis, keepdims=True)
        loss = ops.sum(product(ops, r.a, -log_p), axis=axis, keepdims=True) * r.validity
    if z_loss is None:
        return loss, None, target_log_p
    log_z = log_of_sum(ops, r.x, axis, r.temperature)
    penalty = product(ops, z_loss * r.share, log_z * log_z)
    return loss + penalty, penalty, target_log_p


def against_label(ops: Any, r: Rows, s: Shifted, axis: int) -> Array:
    """-log softmax at the label: log(1 + R) less its gap, which is 0 for the largest logit."""
    gap = tempered(ops, ops.take_along_axis(r.x, r.label, axis=axis) - s.reference, r.temperature)
    return ops.where(at_label(ops, s.lead, r.label), ops.log1p(s.beside_lead), s.log_total - gap)


def mean_weight(ops: Any, weight: Array, q: Array, axis: int) -> Array:
    """Class weights averaged over a distribution that need not be normalised."""
    total = ops.sum(q, axis=axis, keepdims=True)
    return ops.sum(product(ops, q, weight), axis=axis, keepdims=True) / divisor(ops, total)
