"""Softmax and logsumexp of segments: entries along the axis that have the same id, next to each other or not.

With m the largest entry of a segment, e_j = exp(x_j - m), which is 1 at m and at its equals, and R = Σ e - 1, summed
as Σ (e - ⌊e⌋) + (Σ ⌊e⌋ - 1),

    logsumexp = m + log1p(R)        softmax_j = e_j / (1 + R)

keep every digit. Derivatives need more care where one entry, the lead, has most of a segment (R < 1), as in ``shift``.
What it lacks to 1 is R / (1 + R), and the others are summed without it. The Jacobian of softmax is then Dᵀ C D, where D
takes the lead's number off those of the others, and C is diag(p) - p pᵀ of the others: no difference of shares.

An id that is none makes the entry's softmax NaN, and every sum: nobody can tell which of them the entry was meant for.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Any, NamedTuple

from softxent.formulas.marks import whole_rows
from softxent.formulas.participation import only
from softxent.formulas.targets import in_range

Array = Any


class Segmented:
    """A formula of segments, which asks for all of their entries at once."""

    def __init__(
        self,
        by: str,
        value: Callable[..., Array],
        pullback: Callable[..., tuple[Array, ...]],
        pushforward: Callable[..., Array],
    ) -> None:
        self.value, self.pullback, self.pushforward = map(whole_rows, (value, pullback, pushforward))
        self.COTANGENTS = {"g": {by}}


class Members(NamedTuple):
    """Entries, and the segment that each is in."""

    x: Array  # in the dtype of the arithmetic, -inf where the id is none
    place: Array  # of that segment; one-dimensional
    number: int  # of segments
    valid: Array | None  # whether an id is one; None if all are
    axis: int

    @property
    def none(self) -> bool:
        """Whether there are no entries, or no segments."""
        return self.number == 0 or 0 in self.x.shape

    def sums(self, ops: Any, y: Array) -> Array:
        """Of each segment."""
        return ops.segment_sum(y, self.place, self.number, axis=self.axis)

    def each(self, ops: Any, y: Array) -> Array:
        """What each entry's segment has of ``y``."""
        return ops.take(y, self.place, axis=self.axis)


class Shares(NamedTuple):
    """What each entry has of its segment. Where the largest is not finite that is NaN, as is the logarithm."""

    largest: Array  # of each segment, held constant
    log_sum: Array
    p: Array
    lead: Array  # entries that have most of their segment


# -- logsumexp --------------------------------------------------------------------------------------------------------


def log_of_sums(ops: Any, x: Array, *, axis: int, dtype: Any, result: Any, **given: Any) -> Array:
    """log Σ exp(x) of each segment; -inf for an empty one."""
    m = members(ops, x, axis=axis, dtype=dtype, **given)
    if m.none:
        shape = tuple(m.number if d == axis % x.ndim else n for d, n in enumerate(x.shape))
        return ops.full(shape, -inf, dtype=result, device=ops.device(x))
    s = shares(ops, m, undefined=False)
    log_sum = all_or_nan(ops, m, ops.where(ops.isfinite(s.largest), s.log_sum, s.largest))
    if m.valid is not None:  # has a derivative by each entry, by those without a segment too
        log_sum = log_sum + ops.sum(without_segment(ops, m, x), axis=m.axis, keepdims=True)
    return ops.astype(log_sum, result, copy=False)


def pull_sums(
    ops: Any, x: Array, *, g: Array, by: tuple[str, ...], axis: int, dtype: Any, result: Any, **given: Any
) -> tuple[Array, ...]:
    """p times the cotangent of the segment."""
    del result
    m = members(ops, x, axis=axis, dtype=dtype, **given)
    if m.none:
        return tuple(ops.zeros_like(m.x) for _ in by)
    g = ops.astype(g, dtype, copy=False)
    dx = shares(ops, m, undefined=False).p * m.each(ops, g)
    return tuple(all_or_nan(ops, m, dx) for _ in by)


def push_sums(ops: Any, x: Array, *, t_x: Array, axis: int, dtype: Any, result: Any, **given: Any) -> Array:
    """Σ p t of each segment."""
    m = members(ops, x, axis=axis, dtype=dtype, **given)
    if m.none:
        shape = tuple(m.number if d == axis % x.ndim else n for d, n in enumerate(x.shape))
        return ops.zeros(shape, dtype=result, device=ops.device(x))
    t = ops.astype(t_x, dtype, copy=False)
    dy = m.sums(ops, shares(ops, m, undefined=False).p * t)
    return ops.astype(all_or_nan(ops, m, dy), result, copy=False)


def all_or_nan(ops: Any, m: Members, y: Array) -> Array:
    """NaN throughout, in the derivative too, if an id is none."""
    return y if m.valid is None else y * ops.where(ops.all(m.valid), ops.ones_like(y), nan)


# -- softmax ----------------------------------------------------------------------------------------------------------


def softmax_of(ops: Any, logits: Array, *, axis: int, dtype: Any, result: Any, **given: Any) -> Array:
    """exp(x_j) / Σ exp(x) of the segment."""
    m = members(ops, logits, axis=axis, dtype=dtype, **given)
    if m.none:
        return ops.full_like(logits, nan, dtype=result)
    return ops.astype(valid_or_nan(ops, m, shares(ops, m).p, logits), result, copy=False)


def pull_softmax(
    ops: Any, logits: Array, *, g: Array, by: tuple[str, ...], axis: int, dtype: Any, result: Any, **given: Any
) -> tuple[Array, ...]:
    """p_i (g_i - Σ p g)."""
    del result
    m = members(ops, logits, axis=axis, dtype=dtype, **given)
    dx = spread(ops, m, ops.astype(g, dtype, copy=False))
    return tuple(dx for _ in by)


def push_softmax(
    ops: Any, logits: Array, *, t_logits: Array, axis: int, dtype: Any, result: Any, **given: Any
) -> Array:
    """p_i (t_i - Σ p t)."""
    m = members(ops, logits, axis=axis, dtype=dtype, **given)
    return ops.astype(spread(ops, m, ops.astype(t_logits, dtype, copy=False)), result, copy=False)


def spread(ops: Any, m: Members, t: Array) -> Array:
    """The Jacobian, which is symmetric, times t."""
    if m.none:
        return ops.full_like(m.x, nan)
    s, given = shares(ops, m), t
    t = only(ops, m.valid, t)
    t = t - m.each(ops, m.sums(ops, ops.where(s.lead, t, 0.0)))  # 0 at the lead; the same where there is none
    of_others = ops.where(s.lead, 0.0, s.p * (t - m.each(ops, m.sums(ops, s.p * t))))
    of_lead = 0.0 - m.each(ops, m.sums(ops, of_others))
    return valid_or_nan(ops, m, ops.where(s.lead, of_lead, of_others), given)


def valid_or_nan(ops: Any, m: Members, y: Array, x: Array) -> Array:
    """NaN, and so its derivative by ``x``, where the id is none; nothing of it gets into a segment."""
    return y if m.valid is None else ops.where(m.valid, y, without_segment(ops, m, x))


# -- both -------------------------------------------------------------------------------------------------------------


def members(
    ops: Any, x: Array, *, segment_ids: Array, num_segments: int, in_bounds: bool, axis: int, dtype: Any
) -> Members:
    """Entries in the dtype of the arithmetic, and the segment of each. One whose id is none adds nothing to the first.

    ``in_bounds`` says that there is no such id.
    """
    x, valid = ops.astype(x, dtype, copy=False), None
    if not in_bounds:
        valid = in_range(ops, segment_ids, num_segments)
        segment_ids = ops.where(valid, segment_ids, ops.zeros_like(segment_ids))
        x = ops.where(valid, x, -inf)
    place = ops.astype(ops.reshape(segment_ids, (-1,)), ops.positions(segment_ids, 0, 1).dtype, copy=False)
    return Members(x, place, num_segments, valid, axis % x.ndim)


def without_segment(ops: Any, m: Members, x: Array) -> Array:
    """NaN, and so its derivative, where the id is none, and 0 elsewhere. NaN is a factor, for the derivative's sake."""
    x = ops.astype(x, m.x.dtype, copy=False)
    return ops.where(m.valid, 0.0, x) * ops.where(m.valid, ops.ones_like(x), nan)


def shares(ops: Any, m: Members, *, undefined: bool = True) -> Shares:
    """The shares of segments. Of those that hold nothing they are NaN or, without ``undefined``, 0."""
    constant = ops.stop_gradient(m.x)
    largest = ops.segment_max(constant, m.place, m.number, axis=m.axis)
    something = largest != -inf
    level = ops.where(something, largest, 0.0)
    e = ops.exp(m.x - m.each(ops, level))
    ones = ops.floor(ops.stop_gradient(e))
    equals = m.sums(ops, ones) - 1.0
    beside = m.sums(ops, e - ones) + equals
    led = (ops.stop_gradient(beside) < 1) & something  # by the only largest entry
    lead = m.each(ops, led) & (ones == 1)
    if constant is m.x:
        beside = beside if undefined else ops.where(something, beside, 0.0)
        return Shares(largest, level + ops.log1p(beside), e / (1.0 + m.each(ops, beside)), lead)
    # The rise is for derivatives, as in ``shift``: it is 0.
    rise = m.sums(ops, ops.where(lead, m.x - constant, 0.0))
    rest = m.sums(ops, ops.where(lead, 0.0, e - ones)) + ops.where(led, 0.0, equals)
    rest = rest if undefined else ops.where(something, rest, 0.0)
    beside, beside_lead = rest + ops.expm1(rise), rest * ops.exp(-rise)
    p = ops.where(lead, 1.0 / (1.0 + m.each(ops, beside_lead)), e / (1.0 + m.each(ops, beside)))
    log_total = ops.where(led, ops.log1p(beside_lead) + rise, ops.log1p(beside))
    return Shares(largest, level + log_total, p, lead)


logsumexp = Segmented("x", log_of_sums, pull_sums, push_sums)
softmax = Segmented("logits", softmax_of, pull_softmax, push_softmax)
