"""What every function means, computed with mpmath at 100 digits straight from the definitions.

This is the check on the library, so it shares nothing with it: no array API, no stable formulations beyond writing
1 - p as the sum of the other probabilities, one row after the other, formulas as in the textbook. Inputs are NumPy
arrays whose entries are taken as exact numbers; results are object arrays of mpf. Every derivative comes with the sum
of the absolute values of the terms it is made of (`Sum`), which is what its rounding error is measured against.

One row at a time: `Distribution` (softmax of a row), `Example` (cross-entropy of a row and its derivatives). Arrays:
`softmax`, `log_softmax`, `softmin`, `logsumexp`, `cross_entropy`, `smooth_labels` and the pullbacks `softmax_vjp`,
`log_softmax_vjp`, `logsumexp_vjp`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from mpmath import mp, mpf
from ulps import exactly

Array = Any
Exact = Any  # an object array of mpf
Axis = int | Sequence[int] | None
P = ParamSpec("P")
T = TypeVar("T")

DIGITS = 100
NAN, INF = mpf("nan"), mpf("inf")


class Sum(NamedTuple):
    """An exact sum and the sum of the absolute values of its terms."""

    value: Any
    absolute: Any

    def times(self, factor: Any) -> Sum:
        return Sum(self.value * factor, self.absolute * abs(factor))


def total(*terms: mpf) -> Sum:
    """The sum of the terms, with the sum of their absolute values."""
    return Sum(sum(terms, mpf(0)), sum((abs(t) for t in terms), mpf(0)))


def _precise(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with mp.workdps(DIGITS):
            return function(*args, **kwargs)

    return inner


@dataclass
class Distribution:
    """softmax of one row: z_j over the classes kept.

    p_j = e^z_j / Σ_k e^z_k, others_j = Σ_{k≠j} p_k = 1 - p_j, log p_j = -log(1 + Σ_{k≠j} e^z_k / e^z_j),
    lse = log Σ_k e^z_k.
    """

    z: list[mpf]
    keep: list[bool]
    undefined: bool = field(init=False)
    lse: mpf = field(init=False)
    p: list[mpf] = field(init=False)
    others: list[mpf] = field(init=False)
    log_p: list[mpf] = field(init=False)
    gap: list[mpf] = field(init=False)

    def __post_init__(self) -> None:
        count = range(len(self.z))
        kept = [self.z[j] for j in count if self.keep[j]]
        unknown = any(mp.isnan(z) or z == INF for z in kept)
        self.undefined = unknown or (bool(kept) and all(z == -INF for z in kept))
        self.p, self.others, self.log_p, self.gap = [], [], [], []
        if self.undefined or not kept:
            self.lse = logsum([mpf(1)] * len(kept), kept)[0]
            filler = NAN if self.undefined else mpf(0)
            for j in count:
                self.p.append(filler if self.keep[j] else mpf(0))
                self.others.append(filler)
                self.log_p.append(filler if self.keep[j] else -INF)
                self.gap.append(mpf(0))
            if not kept:
                self.log_p = [-INF] * len(self.z)
            return
        e = [mp.exp(self.z[j]) if self.keep[j] else mpf(0) for j in count]
        everything = sum(e, mpf(0))
        self.lse = logsum([mpf(1)] * len(kept), kept)[0]
        largest = max(kept)
        for j in count:
            rest = sum((e[k] for k in count if k != j), mpf(0))
            self.p.append(e[j] / everything)
            self.others.append(rest / everything)
            self.log_p.append(-mp.log1p(rest / e[j]) if e[j] else -INF)
            self.gap.append(largest - self.z[j] if self.keep[j] else mpf(0))


def logsum(b: list[mpf], x: list[mpf]) -> tuple[mpf, mpf]:
    """(log abs Σ b e^x, sign of the sum); entries with b = 0 are absent."""
    pairs = [(b_j, x_j) for b_j, x_j in zip(b, x, strict=True) if b_j != 0]
    if any(mp.isnan(b_j) or mp.isnan(x_j) for b_j, x_j in pairs):
        return NAN, NAN
    infinite = {mp.sign(b_j) for b_j, x_j in pairs if x_j == INF or abs(b_j) == INF}
    if infinite:
        return (INF, infinite.pop()) if len(infinite) == 1 else (NAN, NAN)
    finite = [(b_j, x_j) for b_j, x_j in pairs if x_j != -INF]
    if not finite:
        return -INF, mpf(0)
    b_m, m = max(finite, key=lambda pair: pair[1])
    rest = list(finite)
    rest.remove((b_m, m))
    excess = (b_m - 1) + sum((b_j * mp.exp(x_j - m) for b_j, x_j in rest), mpf(0))  # Σ b e^(x-m), less 1
    if excess == -1:
        return -INF, mpf(0)
    if excess > -1:
        return m + mp.log1p(excess), mpf(1)
    return m + mp.log(-1 - excess), mpf(-1)


@dataclass
class Example:
    """Cross-entropy of one row with every option, and its first derivatives.

    L = s · ( Σ_c w_c q'_c (-log p_c) + λ W lse² ), q' = (1-ε) q + ε u, W = Σ w_c q_c / Σ q_c; p and lse of
    z = cap·tanh(x/cap) / T over the classes kept.
    """

    x: list[mpf]
    q: list[mpf]
    keep: list[bool]
    w: list[mpf]
    s: mpf
    smoothing: mpf | None
    prior: list[mpf] | None
    temperature: list[mpf]
    cap: mpf | None
    z_weight: mpf
    label: int | None  # None for a soft row
    ignored: bool
    invalid: bool  # a label outside the range

    def __post_init__(self) -> None:
        count = range(len(self.x))
        self.counted = not self.ignored and any(self.keep) and not (self.label is None and all(q == 0 for q in self.q))
        self.takes_part = self.counted and self.s != 0
        eps = self.smoothing if self.smoothing is not None else mpf(0)
        self.u = self._uniform()
        self.target = [(1 - eps) * self.q[c] + eps * self.u[c] for c in count]
        self.a = [self.w[c] * self.target[c] for c in count]
        mass = sum(self.q, mpf(0))
        self.mass = mass
        self.W = sum((self.w[c] * self.q[c] for c in count), mpf(0)) / mass if mass else mpf(0)
        self.z = [self._final(c) if self.keep[c] else -INF for c in count]
        self.d = Distribution(self.z, self.keep)
        cold = any(not t > 0 for t, k in zip(self.temperature, self.keep, strict=True) if k)
        self.undefined = self.invalid or self.d.undefined or cold

    def _uniform(self) -> list[mpf]:
        """u: the prior restricted to the classes kept and rescaled to 1, uniform where nothing is left."""
        weights = [mpf(1) if self.prior is None else self.prior[c] for c in range(len(self.x))]
        weights = [v if k else mpf(0) for v, k in zip(weights, self.keep, strict=True)]
        if sum(weights, mpf(0)) == 0:
            weights = [mpf(1) if k else mpf(0) for k in self.keep]
        whole = sum(weights, mpf(0))
        return [v / whole for v in weights] if whole else weights

    def _final(self, c: int) -> mpf:
        x = self.x[c]
        if mp.isnan(x) or not self.temperature[c] > 0:
            return NAN
        if self.cap is not None and mp.isfinite(x):
            x = self.cap * mp.tanh(x / self.cap)
        return x / self.temperature[c]

    def slope(self, c: int) -> mpf:
        """dz/dx at class c; the cap leaves -inf where it is."""
        if self.cap is not None and mp.isfinite(self.x[c]):
            return mp.sech(self.x[c] / self.cap) ** 2 / self.temperature[c]
        return 1 / self.temperature[c]

    @property
    def z_part(self) -> mpf:
        if not self.takes_part:
            return mpf(0)
        return self.s * self._z_part()

    def _z_part(self) -> mpf:
        return self.z_weight * self.W * self.d.lse**2 if self.z_weight and self.W else mpf(0)

    def per_unit(self) -> mpf:
        """The row's loss before its sample weight."""
        if self.undefined:
            return NAN
        return sum((a * -lp for a, lp in zip(self.a, self.d.log_p, strict=True) if a != 0), mpf(0)) + self._z_part()

    @property
    def loss(self) -> mpf:
        return self.s * self.per_unit() if self.takes_part else mpf(0)

    # Derivatives of the row's loss.

    def by_z(self) -> list[Sum]:
        """dL/dz_j = A p_j - a_j + 2 λ W lse p_j, A = Σ a; the first two as p_j Σ_{c≠j} a_c - a_j (1 - p_j)."""
        out = []
        for j in range(len(self.x)):
            if not self.takes_part or not self.keep[j]:
                out.append(total(mpf(0)))
            elif self.undefined:
                out.append(Sum(NAN, NAN))
            else:
                p, a = self.d.p[j], self.a[j]
                away = sum((self.a[c] for c in range(len(self.x)) if c != j), mpf(0))
                square = 2 * self.z_weight * self.W * self.d.lse * p if self.z_weight and self.W and p else mpf(0)
                exact = p * away - a * self.d.others[j] + square
                out.append(Sum(exact, p * abs(away) + abs(a) * self.d.others[j] + abs(square)).times(self.s))
        return out

    def by_x(self) -> list[Sum]:
        return [g.times(self.slope(j)) if g.value != 0 else g for j, g in enumerate(self.by_z())]

    def by_q(self) -> list[Sum]:
        """-(1-ε) w_c log p_c + λ lse² dW/dq_c; the first is 0 where log p_c = -inf."""
        out = []
        for c in range(len(self.x)):
            if not self.takes_part:
                out.append(total(mpf(0)))
            elif self.undefined:
                out.append(Sum(NAN, NAN))
            else:
                log_p = self.d.log_p[c]
                eps = self.smoothing if self.smoothing is not None else mpf(0)
                terms = [(1 - eps) * self.w[c] * -log_p if mp.isfinite(log_p) else mpf(0)]
                if self.z_weight:
                    unit = self.z_weight * self.d.lse**2 / self.mass
                    terms += [unit * self.w[c], -unit * self.W]
                out.append(total(*terms).times(self.s))
        return out

    def by_w(self) -> list[Sum]:
        """q'_c (-log p_c) + λ lse² q_c / Σq."""
        out = []
        for c in range(len(self.x)):
            if not self.takes_part:
                out.append(total(mpf(0)))
            elif self.undefined:
                out.append(Sum(NAN, NAN))
            else:
                first = self.target[c] * -self.d.log_p[c] if self.target[c] else mpf(0)
                share = self.q[c] / self.mass if self.q[c] else mpf(0)
                second = self.z_weight * self.d.lse**2 * share if self.z_weight and share else mpf(0)
                out.append(total(first, second).times(self.s))
        return out

    def by_s(self) -> Sum:
        """The row's loss per unit of sample weight, where the sample weight is 0 too."""
        return total(self.per_unit()) if self.counted else total(mpf(0))

    def by_temperature(self) -> list[Sum]:
        """-z_j dL/dz_j / T_j for every class; their sum for a temperature the whole row shares."""
        out = []
        for j, g in enumerate(self.by_z()):
            if g.value == 0 or self.undefined:
                out.append(g)
            else:
                out.append(g.times(-self.z[j] / self.temperature[j]))
        return out

    def by_shared_temperature(self) -> Sum:
        """The same for one T a row, with the terms taken after the shift: Σ_j dL/dz_j = 2 s λ W lse."""
        parts = self.by_z()
        if not self.takes_part:
            return total(mpf(0))
        if self.undefined:
            return Sum(NAN, NAN)
        t = self.temperature[self.keep.index(True)]
        top = max(z for z, k in zip(self.z, self.keep, strict=True) if k)
        live = [j for j, g in enumerate(parts) if g.value != 0]
        value = -sum((parts[j].value * self.z[j] for j in live), mpf(0)) / t
        absolute = sum((parts[j].absolute * abs(self.z[j] - top) for j in live), mpf(0)) / t
        offset = abs(2 * self.s * self.z_weight * self.W * self.d.lse * top / t) if self.z_weight and self.W else mpf(0)
        return Sum(value, absolute + offset)

    # What `aux` names.

    def aux(self, name: str) -> Any:
        if not self.takes_part:
            return False if name == "correct" else mpf(0)
        results: dict[str, Callable[[], Any]] = {
            "z_loss": lambda: self.z_part,
            "lse": lambda: self.d.lse,
            "entropy": lambda: self._expected(self.d.p, -1),
            "target_log_prob": lambda: self._expected(self.q, 1),
            "margin": self._margin,
            "correct": lambda: _first_largest(self.z) == self._label(),
        }
        return results[name]()

    def _label(self) -> int:
        return self.label if self.label is not None else _first_largest(self.q)

    def _expected(self, p: list[mpf], sign: int) -> mpf:
        """±Σ p log p over the classes with p > 0."""
        if self.undefined:
            return NAN
        return sum((sign * v * lp for v, lp in zip(p, self.d.log_p, strict=True) if v), mpf(0))

    def _margin(self) -> mpf:
        """The label's final logit less the largest of the others."""
        if self.undefined:
            return NAN
        label = self._label()
        rivals = [z for c, z in enumerate(self.z) if c != label and self.keep[c]]
        return self.z[label] - max(rivals) if rivals else INF


def _first_largest(values: list[mpf]) -> int:
    return max(range(len(values)), key=lambda c: (values[c], -c))


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The class axes, in the order given; None is all of them, and a 0-d array has none."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, int):
        return (axis % ndim,) if ndim else ()
    return tuple(a % ndim for a in axis)


class Layout:
    """How an array falls apart into rows: the class axes moved to the end, in the order given, and flattened."""

    def __init__(self, shape: tuple[int, ...], axis: Axis) -> None:
        self.shape = shape
        self.axes = axes_of(axis, len(shape))
        self.left = tuple(a for a in range(len(shape)) if a not in self.axes)
        self.batch = tuple(shape[a] for a in self.left)
        self.classes = math.prod(shape[a] for a in self.axes)

    def rows(self, array: Array) -> Array:
        """Something of the full shape (after broadcasting) as batch + (classes,)."""
        full = np.broadcast_to(np.asarray(array), self.shape)
        return full.transpose(self.left + self.axes).reshape((*self.batch, self.classes))

    def back(self, rows: Array) -> Array:
        """The inverse of `rows`."""
        moved = np.asarray(rows).reshape(self.batch + tuple(self.shape[a] for a in self.axes))
        return moved.transpose(np.argsort(self.left + self.axes))

    def keepdims(self, rows: Array) -> Array:
        """Something of the batch shape with the class axes put back as 1."""
        return np.asarray(rows).reshape(tuple(1 if a in self.axes else n for a, n in enumerate(self.shape)))

    def option(self, value: Any) -> tuple[Array, bool]:
        """`where` or `temperature` as batch + (classes,), and whether it has one value a row."""
        value = np.asarray(value)
        if value.ndim == 0:
            return np.broadcast_to(value, (*self.batch, self.classes)), True
        if value.ndim == len(self.batch) and value.ndim != len(self.shape):
            return np.broadcast_to(np.broadcast_to(value, self.batch)[..., None], (*self.batch, self.classes)), True
        rows = self.rows(value)
        padded = (1,) * (len(self.shape) - value.ndim) + value.shape
        return rows, all(padded[a] == 1 for a in self.axes)


def _objects(shape: tuple[int, ...]) -> Exact:
    return np.full(shape, mpf(0), dtype=object)


@_precise
def _distributions(x: Array, axis: Axis, where: Any, temperature: Any) -> tuple[Layout, Any]:
    layout = Layout(np.shape(x), axis)
    rows = exactly(layout.rows(x))
    keep = layout.rows(True if where is None else where)
    heat = exactly(layout.rows(1.0 if temperature is None else temperature))
    out = np.empty(layout.batch, dtype=object)
    for n in np.ndindex(*layout.batch):
        z = [v / t if t > 0 else NAN for v, t in zip(rows[n], heat[n], strict=True)]
        out[n] = Distribution(z, [bool(k) for k in keep[n]])
    return layout, out


def _collect(layout: Layout, rows: Any, what: Callable[[Distribution], list[mpf]]) -> Exact:
    out = _objects((*layout.batch, layout.classes))
    for n in np.ndindex(*layout.batch):
        out[n] = what(rows[n])
    return layout.back(out)


@_precise
def softmax(x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Exact:
    """p_j = e^(x_j/T) / Σ_k e^(x_k/T) over the classes kept, 0 on the others."""
    return _collect(*_distributions(x, axis, where, temperature), lambda d: d.p)


@_precise
def log_softmax(x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Exact:
    """Logarithms of p_j, -inf on the classes left out."""
    return _collect(*_distributions(x, axis, where, temperature), lambda d: d.log_p)


@_precise
def softmin(x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Exact:
    """softmax(-x)."""
    return softmax(-np.asarray(x, dtype=np.float64), axis=axis, where=where, temperature=temperature)


@_precise
def gaps(x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Exact:
    """(max - x_j)/T for every class kept, 0 on the others: what rounding of the shift is proportional to."""
    return _collect(*_distributions(x, axis, where, temperature), lambda d: d.gap)


def _pull(layout: Layout, rows: Any, g: Array, heat: Array, what: Callable[[Distribution, list[mpf], int], Sum]) -> Sum:
    g = exactly(layout.rows(g))
    value, absolute = _objects((*layout.batch, layout.classes)), _objects((*layout.batch, layout.classes))
    for n in np.ndindex(*layout.batch):
        for i in range(layout.classes):
            if not rows[n].keep[i]:
                continue
            s = what(rows[n], list(g[n]), i)
            value[(*n, i)], absolute[(*n, i)] = s.value / heat[(*n, i)], s.absolute / heat[(*n, i)]
    return Sum(layout.back(value), layout.back(absolute))


@_precise
def softmax_vjp(g: Array, x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Sum:
    """Σ_j g_j dp_j/dx_i = p_i (g_i - Σ_j p_j g_j) / T_i = p_i Σ_j p_j (g_i - g_j) / T_i."""
    layout, rows = _distributions(x, axis, where, temperature)

    def entry(d: Distribution, g: list[mpf], i: int) -> Sum:
        inside = [d.p[i] * d.p[j] * (g[i] - g[j]) for j in range(len(g)) if d.keep[j]]
        beside = sum((d.p[j] * abs(g[j]) for j in range(len(g)) if d.keep[j] and j != i), mpf(0))
        absolute = d.p[i] * (abs(g[i]) * d.others[i] + beside)
        return Sum(sum(inside, mpf(0)), absolute)

    heat = exactly(layout.rows(1.0 if temperature is None else temperature))
    return _pull(layout, rows, g, heat, entry)


@_precise
def log_softmax_vjp(g: Array, x: Array, *, axis: Axis = -1, where: Any = None, temperature: Any = None) -> Sum:
    """Σ_j g_j dlog p_j/dx_i = (g_i - p_i Σ_j g_j) / T_i = (g_i (1 - p_i) - p_i Σ_{j≠i} g_j) / T_i."""
    layout, rows = _distributions(x, axis, where, temperature)

    def entry(d: Distribution, g: list[mpf], i: int) -> Sum:
        rest = [g[j] for j in range(len(g)) if j != i and d.keep[j]]
        terms = [g[i] * d.others[i], -d.p[i] * sum(rest, mpf(0))]
        absolute = abs(g[i]) * d.others[i] + d.p[i] * sum((abs(v) for v in rest), mpf(0))
        return Sum(sum(terms, mpf(0)), absolute)

    heat = exactly(layout.rows(1.0 if temperature is None else temperature))
    return _pull(layout, rows, g, heat, entry)


@_precise
def logsumexp(
    x: Array, *, axis: Axis = -1, b: Any = None, where: Any = None, keepdims: bool = False
) -> tuple[Exact, Exact, Exact]:
    """The logarithm of abs Σ b e^x, the sign of the sum, and the condition number Σ abs(b e^x) / abs(Σ b e^x)."""
    layout = Layout(np.shape(x), axis)
    rows, keep = exactly(layout.rows(x)), layout.rows(True if where is None else where)
    weights = exactly(layout.rows(1.0 if b is None else b))
    value, sign, condition = _objects(layout.batch), _objects(layout.batch), _objects(layout.batch)
    for n in np.ndindex(*layout.batch):
        kept = [j for j in range(layout.classes) if keep[n][j]]
        x_n, b_n = [rows[n][j] for j in kept], [weights[n][j] for j in kept]
        value[n], sign[n] = logsum(b_n, x_n)
        whole = logsum([abs(v) for v in b_n], x_n)[0]
        condition[n] = mp.exp(whole - value[n]) if mp.isfinite(value[n]) else mpf(1)
    if keepdims:
        value, sign, condition = layout.keepdims(value), layout.keepdims(sign), layout.keepdims(condition)
    return value, sign, condition


@_precise
def logsumexp_vjp(g: Array, x: Array, *, axis: Axis = -1, b: Any = None, where: Any = None) -> tuple[Sum, Sum]:
    """By x: g b_i e^x_i / Σ b e^x, by b: g e^x_i / Σ b e^x (0 where b = 0), each of the full shape."""
    layout = Layout(np.shape(x), axis)
    rows, keep = exactly(layout.rows(x)), layout.rows(True if where is None else where)
    weights = exactly(layout.rows(1.0 if b is None else b))
    g = exactly(np.broadcast_to(g, layout.batch))
    shape = (*layout.batch, layout.classes)
    by_x, by_b, sizes = _objects(shape), _objects(shape), _objects(layout.batch)
    for n in np.ndindex(*layout.batch):
        live = [j for j in range(layout.classes) if keep[n][j] and weights[n][j] != 0 and rows[n][j] != -INF]
        if not live:
            continue
        m = max(rows[n][j] for j in live)
        e = {j: mp.exp(rows[n][j] - m) for j in live}
        whole = total(*(weights[n][j] * e[j] for j in live))
        sizes[n] = whole.absolute / abs(whole.value) if whole.value else INF
        for j in live:
            if whole.value:
                by_x[(*n, j)] = g[n] * weights[n][j] * e[j] / whole.value
                by_b[(*n, j)] = g[n] * e[j] / whole.value
    grow = np.broadcast_to(sizes[..., None], shape)
    both = [Sum(layout.back(v), layout.back(np.abs(v) * grow)) for v in (by_x, by_b)]
    return both[0], both[1]


@dataclass
class CrossEntropy:
    """Everything about a batch: rows, reductions, derivatives, aux."""

    layout: Layout
    examples: Any  # object array of Example, batch shape
    shapes: dict[str, tuple[int, ...]]  # of the arguments given, for the derivatives by them
    one_temperature: bool

    def _map(self, what: Callable[[Example], Any]) -> Exact:
        out = _objects(self.layout.batch)
        with mp.workdps(DIGITS):
            for n in np.ndindex(*self.layout.batch):
                out[n] = what(self.examples[n])
        return out

    @property
    def rows(self) -> Exact:
        """`reduction="none"`."""
        return self._map(lambda e: e.loss)

    @property
    def takes_part(self) -> np.ndarray[Any, Any]:
        return np.asarray(self._map(lambda e: e.takes_part), dtype=bool)

    def aux(self, name: str) -> Exact:
        return self._map(lambda e: e.aux(name))

    @_precise
    def denominator(self, kind: Any = "weight") -> Sum:
        """Of the mean: Σ s·W or the number of examples that take part, the number of all, or the number given."""
        live = [e for e in self.examples.ravel() if e.takes_part]
        if isinstance(kind, str):
            if kind == "weight":
                return total(*(e.s * e.W for e in live))
            return total(mpf(len(live) if kind == "count" else self.examples.size))
        return total(mpf(float(kind)))

    @_precise
    def numerator(self) -> Sum:
        rows = list(self.rows.ravel())
        return total(*rows)

    @_precise
    def mean(self, kind: Any = "weight", empty_mean: str = "zero") -> Sum:
        below = self.denominator(kind).value
        if below == 0:
            return total(mpf(0)) if empty_mean == "zero" else Sum(NAN, NAN)
        return self.numerator().times(1 / below)

    @_precise
    def gradient(self, name: str, cotangent: Array = 1.0) -> Sum:
        """Σ_n cotangent_n dL_n/d(name), shaped like the argument of that name.

        The names: logits, labels, weight, sample_weight, temperature.
        """
        rule: Callable[[Example], Sum | list[Sum]] = {
            "logits": Example.by_x,
            "labels": Example.by_q,
            "weight": Example.by_w,
            "sample_weight": Example.by_s,
            "temperature": Example.by_shared_temperature if self.one_temperature else Example.by_temperature,
        }[name]

        def part(number: int) -> Callable[[Example], Any]:
            def inner(e: Example) -> Any:
                result = rule(e)
                return [entry[number] for entry in result] if isinstance(result, list) else result[number]

            return inner

        return Sum(self.spread(name, part(0), cotangent), self.spread(name, part(1), np.abs(cotangent)))

    @_precise
    def spread(self, name: str, what: Callable[[Example], Any], cotangent: Array = 1.0) -> Exact:
        """Σ_n cotangent_n what(example n), one number a row or one a class, shaped like the argument of that name."""
        layout, shape = self.layout, self.shapes[name]
        factor = exactly(np.broadcast_to(np.asarray(cotangent), layout.batch))
        found = {n: what(self.examples[n]) for n in np.ndindex(*layout.batch)}
        if found and not any(isinstance(entry, list) for entry in found.values()):
            out = _objects(layout.batch)
            for n, entry in found.items():
                out[n] = _times(entry, factor[n])
            if len(shape) == len(layout.shape) != len(layout.batch):
                out = layout.keepdims(out)
            return sum_to(out, shape)
        out = _objects((*layout.batch, layout.classes))
        for n, row in found.items():
            out[n] = [_times(entry, factor[n]) for entry in row]
        if name == "weight":
            return np.asarray(out.reshape(-1, layout.classes).sum(axis=0), dtype=object)
        return sum_to(layout.back(out), shape)


def _times(entry: mpf, factor: mpf) -> mpf:
    return entry * factor if entry != 0 and factor != 0 else mpf(0)


def sum_to(array: Exact, shape: tuple[int, ...]) -> Exact:
    """The transpose of broadcasting: sum over what was broadcast."""
    while array.ndim > len(shape):
        array = np.asarray(array.sum(axis=0), dtype=object)
    for a, n in enumerate(shape):
        if n == 1 and array.shape[a] != 1:
            array = array.sum(axis=a, keepdims=True)
    return array


@_precise
def cross_entropy(
    logits: Array,
    labels: Array,
    *,
    axis: Axis = -1,
    where: Any = None,
    ignore_index: int | None = None,
    weight: Array = None,
    sample_weight: Array = None,
    label_smoothing: Any = None,
    smoothing_prior: Array = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
) -> CrossEntropy:
    """The batch as a `CrossEntropy`; ask it for rows, reductions, derivatives and aux."""
    layout = Layout(np.shape(logits), axis)
    x = exactly(layout.rows(logits))
    labels = np.asarray(labels)
    soft = labels.dtype.kind not in "iu"
    q = exactly(layout.rows(labels)) if soft else None
    keep, _ = layout.option(True if where is None else where)
    heat, one_temperature = layout.option(1.0 if temperature is None else temperature)
    heat = exactly(heat)
    w = [mpf(1)] * layout.classes if weight is None else list(exactly(weight))
    s = exactly(np.broadcast_to(1.0 if sample_weight is None else sample_weight, layout.batch))
    smoothing = None
    if label_smoothing is not None:
        smoothing = exactly(np.broadcast_to(label_smoothing, layout.batch))
    examples = np.empty(layout.batch, dtype=object)
    for n in np.ndindex(*layout.batch):
        label = None if soft else int(labels[n])
        ignored = label is not None and ignore_index is not None and label == int(ignore_index)
        invalid = label is not None and not ignored and not 0 <= label < layout.classes
        row = list(q[n]) if q is not None else [mpf(int(c == label)) for c in range(layout.classes)]
        examples[n] = Example(
            x=list(x[n]),
            q=row,
            keep=[bool(k) for k in keep[n]],
            w=w,
            s=s[n],
            smoothing=None if smoothing is None else smoothing[n],
            prior=None if smoothing_prior is None else list(exactly(smoothing_prior)),
            temperature=list(heat[n]),
            cap=None if softcap is None else mpf(float(softcap)),
            z_weight=mpf(0) if z_loss is None else mpf(float(z_loss)),
            label=label,
            ignored=ignored,
            invalid=invalid,
        )
    shapes = {"logits": np.shape(logits), "labels": labels.shape}
    options = {"weight": weight, "sample_weight": sample_weight, "temperature": temperature}
    shapes |= {name: np.shape(value) for name, value in options.items() if value is not None}
    return CrossEntropy(layout, examples, shapes, one_temperature)


@_precise
def smooth_labels(
    labels: Array,
    label_smoothing: Any,
    *,
    num_classes: int | None = None,
    axis: int = -1,
    where: Any = None,
    smoothing_prior: Array = None,
    ignore_index: int | None = None,
) -> Exact:
    """(1-ε) q + ε u, u uniform (or the prior) over the classes kept; 0 for ignored labels, NaN for invalid ones."""
    labels = np.asarray(labels)
    if labels.dtype.kind in "iu":
        if num_classes is None:
            raise ValueError("num_classes")
        place = axis % (labels.ndim + 1)
        layout = Layout((*labels.shape[:place], num_classes, *labels.shape[place:]), axis)
    else:
        layout = Layout(labels.shape, axis)
    full = np.zeros(layout.shape)
    whole = cross_entropy(
        full,
        labels,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
    )
    out = _objects((*layout.batch, layout.classes))
    for n in np.ndindex(*layout.batch):
        e = whole.examples[n]
        out[n] = [mpf(0)] * layout.classes if not e.counted else [NAN] * layout.classes if e.invalid else e.target
    return layout.back(out)
