"""Logarithms of running sums of exponentials, y_i = log Σ_{j≤i} exp(x_j).

With m_i the largest of x_0 … x_i, all of it is made of sums that fade where the maximum rises,

    F(d)_i = Σ_{j≤i} d_j exp(m_j - m_i),        y_i = m_i + log1p(R_i),  R = F(exp(min(x_i, m_{i-1}) - m_i)),

where R_i leaves the 1 of a largest entry out, so that no digit is lost before log1p: it is counted once a larger one
has come. No factor is above 1. The derivative of y_i by x_j is exp(x_j - m_j) exp(m_j - m_i) / (1 + R_i): the
pushforward is an F, and the pullback the transpose of it, which has the same factors. Cotangents of either sign are
added up in units of what they are multiplied by, and none of them is scaled up.

Maxima and sums that fade are scans by doubling: after k steps an entry has what the 2^k up to it come to.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any, NamedTuple

from softxent.formulas.marks import whole_rows

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"x"}}


class Running(NamedTuple):
    """What running sums are made of."""

    largest: Array  # m, held constant
    level: Array  # the same, 0 for -inf
    e: Array  # exp(x - m), of each entry and the maximum at its own place
    beside: Array  # R; NaN where the largest is not below infinity


@whole_rows
def value(ops: Any, x: Array, *, reverse: bool, exclusive: bool, axis: int, dtype: Any, result: Any) -> Array:
    """log Σ exp(x) of the entries up to each one; from each one on if ``reverse``; without it if ``exclusive``."""
    along = Along(axis % x.ndim, reverse)
    x = ops.astype(x, dtype, copy=False)
    r = running(ops, along.but_last(x) if exclusive else x, along)
    sums = ops.where(ops.isfinite(r.largest), r.largest + ops.log1p(r.beside), r.largest)
    if exclusive:
        sums = along.joined(ops, ops.full_like(along.one(x), -inf), sums)
    return ops.astype(sums, result, copy=False)


@whole_rows
def pullback(
    ops: Any,
    x: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    reverse: bool,
    exclusive: bool,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """Σ_{i≥j} g_i exp(x_j - y_i)."""
    along = Along(axis % x.ndim, reverse)
    x, g = ops.astype(x, dtype, copy=False), ops.astype(g, dtype, copy=False)
    r = running(ops, along.but_last(x) if exclusive else x, along)
    g = along.back.but_last(g) if exclusive else g
    dx = r.e * faded(ops, g / (1.0 + r.beside), r, along, along.back)
    if exclusive:
        dx = along.back.joined(ops, ops.zeros_like(along.one(x)), dx)
    return tuple(dx for _ in by)


@whole_rows
def pushforward(
    ops: Any, x: Array, *, t_x: Array, reverse: bool, exclusive: bool, axis: int, dtype: Any, result: Any
) -> Array:
    """Σ_{j≤i} exp(x_j - y_i) t_j."""
    along = Along(axis % x.ndim, reverse)
    x, t = ops.astype(x, dtype, copy=False), ops.astype(t_x, dtype, copy=False)
    r = running(ops, along.but_last(x) if exclusive else x, along)
    t = along.but_last(t) if exclusive else t
    dy = faded(ops, r.e * t, r, along, along) / (1.0 + r.beside)
    if exclusive:
        dy = along.joined(ops, ops.zeros_like(along.one(x)), dy)
    return ops.astype(dy, result, copy=False)


class Along(NamedTuple):
    """An axis, and the direction of the sums: from its end if ``reverse``."""

    axis: int
    reverse: bool

    @property
    def back(self) -> Along:
        """The other direction."""
        return Along(self.axis, not self.reverse)

    def joined(self, ops: Any, first: Array, others: Array) -> Array:
        """One after the other."""
        return ops.concat([others, first] if self.reverse else [first, others], axis=self.axis)

    def one(self, x: Array) -> Array:
        """Any one entry, if there are entries."""
        return self._slice(x, 0, min(1, x.shape[self.axis]))

    def first(self, x: Array, k: int) -> Array:
        """The first k entries."""
        n = x.shape[self.axis]
        return self._slice(x, n - k, n) if self.reverse else self._slice(x, 0, k)

    def after(self, x: Array, k: int) -> Array:
        """All others."""
        n = x.shape[self.axis]
        return self._slice(x, 0, n - k) if self.reverse else self._slice(x, k, n)

    def but_last(self, x: Array) -> Array:
        """All entries but the last, if there is one."""
        return self.first(x, max(0, x.shape[self.axis] - 1))

    def _slice(self, x: Array, start: int, stop: int) -> Array:
        return x[tuple(slice(start, stop) if d == self.axis else slice(None) for d in range(x.ndim))]


def running(ops: Any, x: Array, along: Along) -> Running:
    """Running maxima, and what is beside them."""
    constant = ops.stop_gradient(x)
    largest = running_max(ops, constant, along)
    level = ops.where(largest == -inf, 0.0, largest)
    before = along.joined(ops, ops.full_like(along.one(x), -inf), along.but_last(largest))
    smaller = ops.where(constant > before, before, constant)
    r = Running(largest, level, ops.exp(x - level), ops.exp(smaller - level))
    beside = faded(ops, r.beside, r, along, along)
    if constant is not x:  # the difference is 0, and 1 + R has every derivative of Σ exp(x - m)
        whole = faded(ops, r.e, r, along, along)
        beside = beside + (whole - ops.stop_gradient(whole))
    # NaN as a factor, so that it is the derivative too.
    return r._replace(beside=beside * ops.where(level < inf, ops.ones_like(level), nan))


def running_max(ops: Any, x: Array, along: Along) -> Array:
    """The largest entry up to each one; NaN from the first NaN on."""
    n, k = x.shape[along.axis], 1
    while k < n:
        larger = ops.maximum(along.first(x, n - k), along.after(x, k))
        x = along.joined(ops, along.first(x, k), larger)
        k *= 2
    return x


def faded(ops: Any, d: Array, r: Running, along: Along, to: Along) -> Array:
    """F(d) or, summed ``to`` the other direction, its transpose Σ_{i≥j} exp(m_j - m_i) d_i."""
    n, k = d.shape[along.axis], 1
    while k < n:
        fade = ops.exp(along.first(r.largest, n - k) - along.after(r.level, k))
        d = to.joined(ops, to.first(d, k), to.after(d, k) + fade * to.first(d, n - k))
        k *= 2
    return d
