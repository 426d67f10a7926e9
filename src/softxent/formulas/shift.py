"""Logits relative to the largest of their row: the step that softmax, log_softmax, logsumexp and the losses share.

With a the (first) largest entry, e_j = exp(x_j - x_a) and R = Σ_{j≠a} e_j,

    softmax_j = e_j / (1 + R)        logsumexp = x_a + log1p(R)        log_softmax_j = (x_j - x_a) - log1p(R)

keep every digit, since the 1 of the largest entry is never added to what is beside it before log1p. Derivatives need
more care than values. The reference x_a° is the number x_a held constant, which changes no derivative of an expression
that does not depend on the reference; R is then a function of the other entries alone, and how x_a moves is in the
``rise`` x_a - x_a°, which is 0. Three expressions are equal in value, and each has derivatives without cancellation
where another's would cancel:

* 1 + R exp(-rise), as the largest entry sees it: its own share 1 / (1 + R) then has the derivative R / (1 + R)²;
* 1 + (R + expm1(rise)), as the others see it: there the largest entry is one among others, with derivative 1;
* their logarithms, of which one is exact to second order for R < 1 and the other for R ≥ 1.
"""

from math import nan
from typing import Any, NamedTuple

from softxent.formulas.logits import tempered, varies

Array = Any


class Shifted(NamedTuple):
    """A row of logits relative to its largest entry."""

    lead: Array  # position of the first largest entry
    largest: Array  # that entry, held constant
    reference: Array  # the same; 0 if it is not finite and somebody differentiates
    gaps: Array  # (x - reference) / temperature
    others: Array  # exp(gaps), 0 at the lead
    beside: Array  # R, where the largest entry is one among others
    beside_lead: Array  # R, as the largest entry sees it
    log_total: Array  # log(1 + R)
    watched: bool  # whether somebody differentiates


def shifted(
    ops: Any,
    x: Array,
    axis: int,
    temperature: Array | float | None = None,
    *,
    undefined: bool = True,
    spent: bool = False,
) -> Shifted:
    """Gaps to the largest entry, their exponentials, and what these add up to beside it.

    Where the largest entry is not finite, softmax is not defined: R and its derivatives are NaN. Without ``undefined``
    such rows are left to the caller, if somebody differentiates. ``spent`` gaps are not needed any more: the
    exponentials may take their place.
    """
    if varies(temperature, axis):
        x, temperature = tempered(ops, x, temperature), None
    lead = ops.argmax(x, axis=axis, keepdims=True)
    largest = ops.take_along_axis(x, lead, axis=axis)
    constant = ops.stop_gradient(largest)
    watched = constant is not largest
    sound = ops.isfinite(constant) if watched else None
    reference = ops.where(sound, constant, 0.0) if watched else constant
    gaps = tempered(ops, ops.minus(x, reference), temperature)
    exponentials = ops.reusing("exp", gaps) if spent else ops.exp(gaps)
    others = ops.put_along_axis(exponentials, lead, 0.0, axis=axis)
    rest = ops.sum(others, axis=axis, keepdims=True)
    if watched:  # the rise is for derivatives: it is 0
        if undefined:
            rest = rest * (1.0 + ops.where(sound, ops.zeros_like(reference), nan) * (largest - constant))
        rise = tempered(ops, ops.where(sound, largest, 0.0) - reference, temperature)
        beside, beside_lead = rest + ops.expm1(rise), rest * ops.exp(-rise)
        log_total = ops.where(rest < 1, ops.log1p(beside_lead) + rise, ops.log1p(beside))
    else:
        beside = beside_lead = rest + (largest - largest)
        log_total = ops.log1p(beside)
    return Shifted(
        lead=lead,
        largest=constant,
        reference=reference,
        gaps=gaps,
        others=others,
        beside=beside,
        beside_lead=beside_lead,
        log_total=log_total,
        watched=watched,
    )


def shares(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Array:
    """Softmax where nobody differentiates: e_j / Σ e, for which it does not matter where the largest entry is.

    A largest entry that is not finite is no number less than itself, and makes the sum NaN.
    """
    _, gaps = to_largest(ops, x, axis, temperature)
    e = ops.reusing("exp", gaps)
    return ops.reusing("divide", e, ops.sum(e, axis=axis, keepdims=True))


def to_largest(ops: Any, x: Array, axis: int, temperature: Array | float | None) -> tuple[Array, Array]:
    """The largest logits, and the gaps to them over the temperature."""
    if varies(temperature, axis):
        x, temperature = tempered(ops, x, temperature), None
    largest = ops.max(x, axis=axis, keepdims=True)
    return largest, tempered(ops, ops.minus(x, largest), temperature)


def excess(
    ops: Any, x: Array, axis: int, temperature: Array | float | None = None, *, spent: bool = False
) -> tuple[Array, Array, Array]:
    """The largest logits, the gaps to them, and R, where nobody differentiates.

    An exponential is 1 at the largest logit and at its equals, and ⌊e⌋ is 0 everywhere else: with the equals counted,
    R = Σ (e - ⌊e⌋) + (Σ ⌊e⌋ - 1) has lost nothing either. That is less work where rows are ``short``, since nothing is
    sought and replaced in each of them, and more where they are long.
    """
    if ops.classes(x, axis) > ops.short:
        s = shifted(ops, x, axis, temperature, spent=spent)
        return s.largest, s.gaps, s.beside
    largest, gaps = to_largest(ops, x, axis, temperature)
    e = ops.reusing("exp", gaps) if spent else ops.exp(gaps)
    ones = ops.floor(e)
    equals = ops.sum(ones, axis=axis, keepdims=True)
    rest = ops.sum(ops.reusing("subtract", e, ones), axis=axis, keepdims=True)
    return largest, gaps, rest + (equals - 1.0)


def probabilities(ops: Any, s: Shifted, axis: int) -> Array:
    """e_j / (1 + R), and 1 / (1 + R) for the largest entry."""
    p = s.others / (1.0 + s.beside)
    return ops.put_along_axis(p, s.lead, 1.0 / (1.0 + s.beside_lead), axis=axis)


def shortfall(s: Shifted) -> Array:
    """What the largest probability lacks to 1, R / (1 + R)."""
    return s.beside_lead / (1.0 + s.beside_lead)


def centred(ops: Any, t: Array, p: Array, lead: Array, axis: int) -> tuple[Array, Array]:
    """t less a constant for each row, and the mean of that, Σ p t: their difference is t_i - Σ p t.

    Where the leading share has most of the mass the constant is its t: t_a (1 - p_a) - Σ_{j≠a} p_j t_j then needs no
    difference of numbers next to each other.
    """
    has_most = ops.abs(ops.take_along_axis(p, lead, axis=axis)) > 0.5
    t = t - ops.where(has_most, ops.take_along_axis(t, lead, axis=axis), 0.0)
    return t, ops.sum(p * t, axis=axis, keepdims=True)


def spread(ops: Any, t: Array, p: Array, lead: Array, axis: int) -> Array:
    """p_i (t_i - Σ p t): the Jacobian of softmax, diag(p) - p pᵀ, times t."""
    t, mean = centred(ops, t, p, lead, axis)
    return p * (t - mean)


def variances(ops: Any, p: Array, lead: Array, lacking: Array, axis: int) -> Array:
    """p_i (1 - p_i), the diagonal of that Jacobian, given what the leading share lacks to 1."""
    return p * ops.put_along_axis(1.0 - p, lead, lacking, axis=axis)
