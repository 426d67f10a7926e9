"""How far from exact a result may be: the targets of NUMERICS, turned into a tolerance for every entry.

The base is 4 units in the last place. What comes on top is what rounding of the inputs of exp cannot avoid: a
difference of two logits that is not exact costs its own size times the unit roundoff: the "g" of the targets, the
largest one that matters for the entry at hand. A temperature rounds once more; a temperature of its own for every
class, or a soft cap, rounds the logits themselves, before the shift. A sum, a product or a power on the way adds one
rounding each. All tolerances are absolute numbers (mpf), sums of terms; none was found by trying.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
from mpmath import mp, mpf
from oracle import INF, Distribution, Example
from ulps import FORMATS, eps, exactly, smallest_normal, spacing

if TYPE_CHECKING:
    from collections.abc import Callable

Exact = Any

BASE = 4  # units in the last place that every value may be off
TANH = 4  # units in the last place granted to the library's exp, expm1 and division inside the soft cap


def exact_in(value: mpf, dtype: str) -> bool:
    """Whether the dtype holds the number."""
    bits, low, _ = FORMATS[dtype]
    if value == 0:
        return True
    with mp.workdps(oracle.DIGITS):
        _, binary = mp.frexp(value)
        return bool(mp.isint(mp.ldexp(value, -max(int(binary) - bits, low - bits + 1))))


def grown(units: mpf, dtype: str) -> mpf:
    """Relative error of exp where its argument is off by so many units of roundoff, absolute."""
    return mp.expm1(units * eps(dtype) / 2)


def shift_units(d: Distribution, dtype: str, *, divided: int = 0, before: int = 0) -> list[mpf]:
    """Error of every max - z_j, in units of roundoff, after so many roundings of z and of the gap."""
    kept = [z for z, k in zip(d.z, d.keep, strict=True) if k]
    if d.undefined or not kept:
        return [mpf(0)] * len(d.z)
    top = max(kept)
    units = []
    for z, gap, k in zip(d.z, d.gap, d.keep, strict=True):
        if not k or z == -INF:
            units.append(mpf(0))
            continue
        shift = 0 if not divided and not before and exact_in(gap, dtype) else 1
        units.append((shift + divided) * gap + before * (abs(z) + abs(top)))
    return units


def mean_units(d: Distribution, units: list[mpf]) -> mpf:
    """Σ p_k units_k: what logsumexp is off by."""
    return sum((p * u for p, u in zip(d.p, units, strict=True) if p), mpf(0))


def reach(d: Distribution, units: list[mpf], dtype: str, *, without: int | None = None) -> mpf:
    """The g of the targets: the largest error of a gap that matters for Σ p, or for that sum without one class."""
    whole = d.others[without] if without is not None else mpf(1)
    shares = ((p, u) for k, (p, u) in enumerate(zip(d.p, units, strict=True)) if k != without)
    return max((u for p, u in shares if p > eps(dtype) * whole), default=mpf(0))


def within(value: mpf, g: mpf, dtype: str, base: mpf | int = BASE) -> mpf:
    """(base + g) ulp, in full where the error of the argument of exp is no longer small."""
    unit = ulp(value, dtype)
    return base * unit + max(g * unit, abs(value) * grown(g, dtype))


def softmax_entry(d: Distribution, units: list[mpf], j: int, dtype: str) -> mpf:
    """(4 + g) ulp."""
    if not mp.isfinite(d.p[j]):
        return mpf(0)
    return within(d.p[j], max(units[j], reach(d, units, dtype)), dtype)


def log_softmax_entry(d: Distribution, units: list[mpf], j: int, dtype: str) -> mpf:
    """(4 + g) ulp for the largest entry, whose value is a sum of exponentials; rounding of a gap is absolute in it."""
    if not mp.isfinite(d.log_p[j]):
        return mpf(0)
    if d.gap[j] == 0:
        return within(d.log_p[j], reach(d, units, dtype, without=j), dtype)
    return BASE * ulp(d.log_p[j], dtype) + grown(units[j] + mean_units(d, units), dtype)


def ulp(value: mpf, dtype: str) -> mpf:
    return spacing(np.array(value, dtype=object), dtype)[()]


@dataclass
class Rounding:
    """What the options of one call of cross_entropy cost."""

    dtype: str  # the compute dtype
    options: dict[str, Any]
    soft: bool
    one_temperature: bool

    @property
    def plain(self) -> bool:
        """No option that scales, mixes or adds: the bound of integer labels holds as it is."""
        return not self.soft and not set(self.options) - {"where", "ignore_index", "temperature", "softcap"}

    @property
    def sharp(self) -> bool:
        """The derivative by the logits has no true cancellation."""
        return not self.soft and not {"label_smoothing", "z_loss"} & set(self.options)

    def units(self, e: Example) -> list[mpf]:
        tempered = "temperature" in self.options
        before = (2 * (1 + TANH) if "softcap" in self.options else 0) + (
            1 if tempered and not self.one_temperature else 0
        )
        return shift_units(e.d, self.dtype, divided=int(tempered and self.one_temperature), before=before)

    def roundings(self, e: Example) -> mpf:
        """Relative roundings of a row beside those of its log-probabilities."""
        count = mpf(BASE)
        count += 2 * (("weight" in self.options) + ("sample_weight" in self.options))
        classes = len(e.x)
        if self.soft or "label_smoothing" in self.options:
            count += mpf(classes) / 2 + 4
        if "smoothing_prior" in self.options:
            count += mpf(classes) / 2 + 2
        return count

    def lse(self, e: Example, units: list[mpf]) -> mpf:
        """Absolute error of logsumexp."""
        top = max((abs(z) for z, k in zip(e.z, e.keep, strict=True) if k and mp.isfinite(z)), default=mpf(0))
        size = abs(e.d.lse) if mp.isfinite(e.d.lse) else mpf(0)
        return BASE * eps(self.dtype) * (size + top) + grown(mean_units(e.d, units), self.dtype)

    def z_part(self, e: Example, units: list[mpf]) -> mpf:
        """Absolute error of λ W lse², per unit of sample weight."""
        if not e.z_weight or not mp.isfinite(e.d.lse):
            return mpf(0)
        size = abs(e.d.lse)
        error = self.lse(e, units)
        return e.z_weight * e.W * (2 * size * error + error**2 + self.roundings(e) * eps(self.dtype) * size**2)

    def minus_log_p(self, e: Example, units: list[mpf], c: int) -> mpf:
        return log_softmax_entry(e.d, units, c, self.dtype)

    def value(self, e: Example) -> mpf:
        """Of the row's loss."""
        if not e.takes_part or e.undefined or not mp.isfinite(e.loss):
            return mpf(0)
        return abs(e.s) * self.per_unit(e) + ulp(e.loss, self.dtype)

    def per_unit(self, e: Example) -> mpf:
        if not e.counted or e.undefined or not mp.isfinite(e.per_unit()):
            return INF if e.counted else mpf(0)
        units = self.units(e)
        if self.plain and e.label is not None:
            return log_softmax_entry(e.d, units, e.label, self.dtype)
        terms = sum((a * log_softmax_entry(e.d, units, c, self.dtype) for c, a in enumerate(e.a) if a), mpf(0))
        relative = self.roundings(e) * eps(self.dtype) * abs(e.per_unit())
        underflow = self.roundings(e) * ulp(mpf(0), self.dtype) * (1 + sum(e.a, mpf(0)))
        return terms + relative + underflow + self.z_part(e, units)

    def by_z(self, e: Example) -> list[mpf]:
        """Of the derivatives by the final logits."""
        if not e.takes_part or e.undefined:
            return [mpf(0)] * len(e.x)
        units = self.units(e)
        all_a = sum(e.a, mpf(0))
        size, count = abs(e.s) * all_a, self.roundings(e)
        tiny = ulp(mpf(0), self.dtype)
        out = []
        for j, g in enumerate(e.by_z()):
            p, others = e.d.p[j], e.d.others[j]
            if self.sharp:  # p_j off the label, 1 - p_j at the label, times w and s
                hit = e.label == j
                widest = max(reach(e.d, units, self.dtype, without=j if hit else None), mpf(0) if hit else units[j])
                entry = within(others if hit else p, widest, self.dtype)
                scaled = mpf(0) if self.plain else count * (eps(self.dtype) * abs(g.value) + (1 + size) * tiny)
                out.append(size * entry + scaled)
                continue
            own = units[j] if all_a * p > eps(self.dtype) * e.a[j] else mpf(0)
            widest = max(reach(e.d, units, self.dtype), own)
            # A probability that is subnormal is off by its last place, whatever it is then multiplied by.
            factor = 1 + all_a + (2 * abs(e.s) * e.z_weight * e.W * abs(e.d.lse) if e.z_weight else 0)
            out.append(
                (count + 2) * (eps(self.dtype) * g.absolute + tiny * factor)
                + size * p * max(widest * eps(self.dtype), grown(widest, self.dtype))
            )
            if e.z_weight:
                square = 2 * abs(e.s) * e.z_weight * e.W * p
                out[-1] += square * (self.lse(e, units) + abs(e.d.lse) * grown(widest, self.dtype))
        return out

    def slope(self, e: Example, j: int) -> mpf:
        """Relative error of dz/dx: sech² of an argument a off by one rounding costs 2a; the temperature one more."""
        if self.options.get("softcap") is not None and e.cap is not None and mp.isfinite(e.x[j]):
            ratio = abs(e.x[j] / e.cap)
            return (3 * TANH + 1) * mpf(eps(self.dtype)) + mp.expm1(2 * ratio * eps(self.dtype))
        return mpf(eps(self.dtype)) * (2 if "temperature" in self.options else 0)

    def by_x(self, e: Example) -> list[mpf]:
        out = []
        for j, (g, t) in enumerate(zip(e.by_z(), self.by_z(e), strict=True)):
            if not e.keep[j] or e.undefined:
                out.append(mpf(0))
                continue
            slope = e.slope(j)
            out.append(t * slope + (abs(g.value) + t) * slope * self.slope(e, j))
            out[-1] += ulp(g.value * slope, self.dtype) * (slope != 1)
            if self.options.get("softcap") is not None:  # sech² is 4 exp(-2a), which may be subnormal, to autodiff
                out[-1] += 4 * ulp(mpf(0), self.dtype) * abs(g.value) / e.temperature[j]
        return out

    def by_q(self, e: Example) -> list[mpf]:
        if not e.takes_part or e.undefined:
            return [mpf(0)] * len(e.x)
        units = self.units(e)
        factor = 1 - (e.smoothing if e.smoothing is not None else 0)
        out = []
        for c, g in enumerate(e.by_q()):
            if e.q[c] and not mp.isfinite(e.d.log_p[c]):  # the loss is infinite, in proportion to q_c
                out.append(INF)
                continue
            tolerance = self.roundings(e) * (eps(self.dtype) * g.absolute + ulp(g.value, self.dtype))
            tolerance += abs(e.s) * factor * e.w[c] * self.minus_log_p(e, units, c)
            if e.z_weight:
                size, error = abs(e.d.lse), self.lse(e, units)
                tolerance += abs(e.s) * e.z_weight / e.mass * (e.w[c] + e.W) * (2 * size * error + error**2)
            out.append(tolerance)
        return out

    def by_w(self, e: Example) -> list[mpf]:
        if not e.takes_part or e.undefined or not mp.isfinite(e.loss):
            return [INF if e.takes_part else mpf(0)] * len(e.x)
        units = self.units(e)
        out = []
        for c, g in enumerate(e.by_w()):
            if not mp.isfinite(g.value):
                out.append(INF)
                continue
            tolerance = self.roundings(e) * (eps(self.dtype) * g.absolute + ulp(g.value, self.dtype))
            tolerance += abs(e.s) * e.target[c] * self.minus_log_p(e, units, c) if e.target[c] else mpf(0)
            if e.z_weight:
                size, error = abs(e.d.lse), self.lse(e, units)
                tolerance += abs(e.s) * e.z_weight * e.q[c] / e.mass * (2 * size * error + error**2) if e.q[c] else 0
            out.append(tolerance)
        return out

    def by_s(self, e: Example) -> mpf:
        return self.per_unit(e)

    def by_temperature(self, e: Example) -> Any:
        """Σ_j dL/dz_j (z_j - max)/T: errors of both factors; one T a class has no sum and no shift."""
        zero, unknown = (mpf(0), INF) if self.one_temperature else ([mpf(0)] * len(e.x), [INF] * len(e.x))
        if not e.takes_part:
            return zero
        if e.undefined or not mp.isfinite(e.loss):
            return unknown
        units = self.units(e)
        top = max(z for z, k in zip(e.z, e.keep, strict=True) if k)
        parts = []
        for j, (g, t) in enumerate(zip(e.by_z(), self.by_z(e), strict=True)):
            if not mp.isfinite(e.z[j]):
                parts.append(mpf(0))
                continue
            reach = abs(e.z[j] - top) if self.one_temperature else abs(e.z[j])
            error = t * reach + abs(g.value) * units[j] * eps(self.dtype)
            error += (self.roundings(e) + 4) * (eps(self.dtype) * g.absolute * reach + ulp(mpf(0), self.dtype))
            parts.append(error / e.temperature[j])
        if not self.one_temperature:
            return parts
        offset = mpf(0)
        if e.z_weight:
            t = e.temperature[e.keep.index(True)]
            error = self.lse(e, units) + (self.roundings(e) + 4) * eps(self.dtype) * abs(e.d.lse)
            offset = 2 * abs(e.s) * e.z_weight * e.W * abs(top) / t * error
        return sum(parts, mpf(0)) + offset

    def scale(self, e: Example) -> mpf:
        """How far a flushed number of the size of the smallest normal may be magnified on its way to a result."""
        one = mpf(1)
        reach = max((abs(g) for g in e.d.gap if mp.isfinite(g)), default=one)
        heat = min((t for t in e.temperature if t > 0), default=one)
        factor = max(one, abs(e.s)) * max(one, *e.w) * max(one, reach) * max(one, 1 / heat)
        return factor * max(one, e.z_weight * max(one, abs(e.d.lse) if mp.isfinite(e.d.lse) else one))


RULES: dict[str, Callable[[Rounding, Example], Any]] = {
    "logits": Rounding.by_x,
    "labels": Rounding.by_q,
    "weight": Rounding.by_w,
    "sample_weight": Rounding.by_s,
    "temperature": Rounding.by_temperature,
}


def flushed(classes: int, dtype: str) -> mpf:
    """What XLA loses on the CPU, where it flushes subnormal terms: one smallest normal a class."""
    return mpf(classes) * smallest_normal(dtype)


def logsumexp_rows(x: Any, dtype: str, *, axis: oracle.Axis, b: Any = None, where: Any = None) -> Exact:
    """BASE ulp; the shift by its share; where the largest entry and the logarithm cancel, what they are off by.

    With weights everything inside the logarithm is magnified by the condition number.
    """
    value, _, condition = oracle.logsumexp(x, axis=axis, b=b, where=where)
    layout = oracle.Layout(np.shape(x), axis)
    rows = exactly(layout.rows(x))
    keep = layout.rows(True if where is None else where)
    weights = exactly(layout.rows(1.0 if b is None else b))
    out = np.full(layout.batch, mpf(0), dtype=object)
    for n in np.ndindex(*layout.batch):
        if not mp.isfinite(value[n]):
            continue
        live = [j for j in range(layout.classes) if keep[n][j] and weights[n][j] != 0 and rows[n][j] != -INF]
        top = max(rows[n][j] for j in live)
        terms = {j: abs(weights[n][j]) * mp.exp(rows[n][j] - top) for j in live}
        whole = sum(terms.values(), mpf(0))
        units = {j: mpf(0) if exact_in(top - rows[n][j], dtype) else top - rows[n][j] for j in live}
        mean = sum((terms[j] * units[j] for j in live), mpf(0)) / whole
        rest = value[n] - top
        cancel = abs(top) + abs(rest) if (top < 0) != (rest < 0) else mpf(0)
        out[n] = BASE * (ulp(value[n], dtype) + eps(dtype) / 2 * cancel) + condition[n] * grown(mean, dtype)
        if b is not None:
            # Products with the weights, their sum, and exp in two halves: roundings of every term.
            out[n] += condition[n] * (BASE + 3 + mpf(len(live)) / 2) * eps(dtype)
            if condition[n] * eps(dtype) > 1e-2:
                out[n] = INF
    return out


def rounded_once(tolerance: Exact, exact: Exact, dtype: str) -> Exact:
    """The tolerance of the compute dtype, and half a unit of the dtype the result is then rounded to."""
    return tolerance + spacing(exact, dtype) / 2


def vjp_terms(absolute: Exact, units: Exact, dtype: str, *, g: Any = 1.0) -> Exact:
    """(4 + g) u times the sum of the absolute terms; what a probability loses to underflow, times the cotangents."""
    lost = BASE * ulp(mpf(0), dtype) * (1 + 2 * mpf(float(np.max(np.abs(g), initial=0.0))))
    return np.frompyfunc(lambda a, u: (BASE + u) * eps(dtype) * a + lost, 2, 1)(absolute, units)
