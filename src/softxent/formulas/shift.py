"""Logits relative to the largest of their row: the step that softmax, log_softmax and logsumexp have in common.

With a the (first) largest entry, e_j = exp(x_j - x_a) and R = Σ_{j≠a} e_j,

    softmax_j = e_j / (1 + R)        logsumexp = x_a + log1p(R)        log_softmax_j = (x_j - x_a) - log1p(R)

keep every digit, since the 1 of the largest entry is never added to what is beside it before log1p. Derivatives need
more care than values. x_a is held constant as the reference, which changes no derivative of a translation-invariant
expression; then 1 + R has to grow with x_a too, and what is e_a - 1 = 0 in value is written expm1(x_a - x_a°). That
makes every derivative exact but those of the largest entry's own share, 1 - p_a = R / (1 + R), which autodiff would
find as a difference. For that entry alone the derivative goes through x_a: R · exp(x_a° - x_a), again the same value.
"""

from math import nan
from typing import Any, NamedTuple

from softxent.formulas.logits import tempered, varies

Array = Any


class Shifted(NamedTuple):
    """A row of logits relative to its largest entry."""

    lead: Array  # position of the first largest entry
    largest: Array  # that entry as it is, held constant
    level: Array  # the same over the temperature; 0 if it is not finite
    gaps: Array  # what lies between an entry and the level
    others: Array  # exp(gaps), 0 at the lead
    beside: Array  # R, to be differentiated with the lead as one entry among others
    beside_lead: Array  # R, to be differentiated as the lead sees it
    unity: Array  # 1; NaN, with derivatives NaN, in rows that have no finite largest entry


def shifted(ops: Any, x: Array, axis: int, temperature: Array | float | None = None) -> Shifted:
    """Gaps to the largest entry, their exponentials, and what these add up to beside it."""
    if varies(temperature, axis):
        x, temperature = tempered(ops, x, temperature), None
    lead = ops.argmax(x, axis=axis, keepdims=True)
    largest = ops.take_along_axis(x, lead, axis=axis)
    sound = ops.isfinite(largest)
    moving = ops.where(sound, largest, 0.0)
    level = ops.stop_gradient(moving)
    gaps = tempered(ops, x - level, temperature)
    rise = tempered(ops, moving - level, temperature)
    others = ops.put_along_axis(ops.exp(gaps), lead, 0.0, axis=axis)
    rest = ops.sum(others, axis=axis, keepdims=True)
    return Shifted(
        lead=lead,
        largest=ops.stop_gradient(largest),
        level=tempered(ops, level, temperature),
        gaps=gaps,
        others=others,
        beside=rest + ops.expm1(rise),
        beside_lead=rest * ops.exp(-rise),
        unity=1.0 + ops.where(sound, ops.zeros_like(level), nan) * (largest - ops.stop_gradient(largest)),
    )
