"""What every function means, computed with mpmath straight from the definitions, and the bounds of its errors.

A definition takes one row (or one element) of each argument as exact numbers and returns the exact value and its exact
derivatives, each with its bound beside it: `within(k, x)` is k units in the last place of x, `of_terms(k, a, b, …)` is
their sum within k u Σ of the absolute values of the terms. u is half the spacing of the numbers just above 1.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from mpmath import mp, mpf

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Row = tuple[mpf, ...]


class Format(NamedTuple):
    """A floating dtype: bits of the significand, exponents of the smallest normal number and past the largest one."""

    bits: int
    low: int
    high: int


FORMATS = {
    "float16": Format(11, -14, 16),
    "bfloat16": Format(8, -126, 128),
    "float32": Format(24, -126, 128),
    "float64": Format(53, -1022, 1024),
}
ARITHMETIC = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
# Of what is exact. 1 - p keeps 60 of them where p is as close to 1 as the smallest normal number is to 0.
DIGITS = {"float32": 100, "float64": 400}

# The dtype that the arithmetic at hand is done in, which decides what is rounded at all.
COMPUTED: ContextVar[str] = ContextVar("dtype of the arithmetic", default="float32")


SEGMENTS = 3

# Options that the functions are called with.
THREE_QUARTERS, THREE_HALVES, TWO = mpf("0.75"), mpf("1.5"), mpf(2)


# -- exact numbers and their bounds ------------------------------------------------------------------------------------


class Sum(NamedTuple):
    """A sum and the sum of the absolute values of its terms."""

    value: mpf
    size: mpf

    def times(self, factor: mpf) -> Sum:
        """Each term times a number."""
        return Sum(self.value * factor, self.size * abs(factor))


class Exact(NamedTuple):
    """An exact number and its bound: so many units in its last place, and so many u times its terms."""

    value: mpf
    units: Any = 0
    terms: Any = 0

    def times(self, factor: mpf) -> Exact:
        """Times a power of two, which rounds nothing."""
        return Exact(self.value * factor, self.units, self.terms * abs(factor))


def within(units: Any, value: mpf) -> Exact:
    """A value, within so many units in its last place."""
    return Exact(value, units=units)


def of_terms(factor: Any, *terms: mpf | Sum) -> Exact:
    """A sum, within so many u times the sum of the absolute values of its terms."""
    whole = summed(terms)
    return Exact(whole.value, terms=factor * whole.size)


def summed(terms: Iterable[mpf | Sum]) -> Sum:
    """The sum of numbers and of sums."""
    value = size = mpf(0)
    for term in terms:
        value += term.value if isinstance(term, Sum) else term
        size += term.size if isinstance(term, Sum) else abs(term)
    return Sum(value, size)


def others(values: Sequence[mpf]) -> list[Sum]:
    """Σ_{k≠j} of the values, for every j, without a subtraction."""
    zero = Sum(mpf(0), mpf(0))
    before, after = [zero], [zero]
    for v, w in zip(values[:-1], reversed(values[1:]), strict=True):
        before.append(summed((before[-1], v)))
        after.append(summed((after[-1], w)))
    return [summed(pair) for pair in zip(before, reversed(after), strict=True)]


def mean(values: Iterable[mpf], weights: Iterable[mpf]) -> mpf:
    """The weighted mean, 0 where nothing weighs anything."""
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if w]
    total = sum((w for _, w in pairs), mpf(0))
    return sum((v * w for v, w in pairs), mpf(0)) / total if total else mpf(0)


# -- logits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """Softmax of a row x: p_j = exp x_j / Σ_k exp x_k.

    others_j is 1 - p_j. gap_j is m - x_j, by which the largest logit m is above x_j. g_j is the gap that matters to p_j
    and 1 - p_j: that of j itself, or where it is larger that of the others, which 1 - p_j is made of, each counted with
    its share. rounded_gap_j and rounded_g_j are the same, or 0 where all gaps are numbers of the arithmetic's dtype.
    """

    p: list[mpf]
    others: list[mpf]
    gap: list[mpf]
    g: list[mpf]
    rounded_gap: list[mpf]
    rounded_g: list[mpf]

    @property
    def classes(self) -> range:
        """Indices of the classes."""
        return range(len(self.p))

    def cost(self, j: int) -> mpf:
        """-log p_j."""
        return -mp.log(self.p[j]) if self.p[j] < mpf(0.5) else -mp.log1p(-self.others[j])


def inexact(gap: mpf) -> mpf:
    """A gap, or 0 if it is a number of the arithmetic's dtype."""
    return gap if gap.bc > FORMATS[COMPUTED.get()].bits else mpf(0)


def softmax(x: Row) -> Distribution:
    """Softmax of a row."""
    return _softmax(x, COMPUTED.get())


@lru_cache(maxsize=512)
def _softmax(x: Row, _: str) -> Distribution:
    m = max(x)
    e = [mp.exp(v - m) for v in x]
    z = sum(e, mpf(0))
    p = [v / z for v in e]
    rest = [other.value for other in others(p)]
    gap = [m - v for v in x]
    rounded = gap if any(inexact(v) for v in gap) else [mpf(0)] * len(x)
    return Distribution(p, rest, gap, mattering(p, rest, gap), rounded, mattering(p, rest, rounded))


def mattering(p: list[mpf], rest: list[mpf], gap: list[mpf]) -> list[mpf]:
    """The gaps that matter to p and to 1 - p."""
    moments = others([v * w for v, w in zip(p, gap, strict=True)])
    return [max(g, m.value / r) if r else g for g, m, r in zip(gap, moments, rest, strict=True)]


def pulled(p: Distribution, g: Sequence[mpf], gaps: Sequence[mpf]) -> list[Exact]:
    """Σ_j g_j ∂p_j/∂x_i = g_i p_i (1 - p_i) - p_i Σ_{j≠i} g_j p_j, within (4 + g) u Σ of the terms."""
    rest = others([a * b for a, b in zip(g, p.p, strict=True)])
    return [of_terms(4 + gaps[i], g[i] * p.p[i] * p.others[i], rest[i].times(-p.p[i])) for i in p.classes]


def of_softmax(x: Row, g: Row) -> Any:
    """p_j, within 4 + g units, g being its own gap."""
    p = softmax(x)
    return [within(4 + p.rounded_gap[j], p.p[j]) for j in p.classes], [pulled(p, g, p.g)]


def of_softmin(x: Row, g: Row) -> Any:
    """Softmax of -x."""
    values, (by_x,) = of_softmax(tuple(-v for v in x), g)
    return values, [[d.times(mpf(-1)) for d in by_x]]


def of_gumbel_softmax(x: Row, noise: Row, g: Row) -> Any:
    """Softmax of the sum of logits and noise over T = 1/2. Both have the same derivative."""
    z = tuple(2 * (a + b) for a, b in zip(x, noise, strict=True))
    p, (_, (by_z,)) = softmax(z), of_softmax(z, g)
    values = [within(4 + p.gap[j], p.p[j]) for j in p.classes]  # what is added has been rounded
    by_x = [d.times(mpf(2)) for d in by_z]
    return values, [by_x, by_x]


def of_log_softmax(x: Row, g: Row) -> Any:
    """Values log p_j within 4 + g units; the derivatives are g_i (1 - p_i) - p_i Σ_{j≠i} g_j."""
    p = softmax(x)
    values = [within(4 + p.rounded_g[j], -p.cost(j)) for j in p.classes]
    rest = others(g)
    return values, [[of_terms(4 + p.g[i], g[i] * p.others[i], rest[i].times(-p.p[i])) for i in p.classes]]


def of_cross_entropy(x: Row, t: int) -> Any:
    """-log p_t and p_j - [j = t], all within 4 + g units."""
    p = softmax(x)
    by_x = [within(4 + p.rounded_gap[j], v) for j, v in enumerate(p.p)]
    by_x[t] = within(4 + p.rounded_g[t], -p.others[t])
    return within(4 + p.rounded_g[t], p.cost(t)), [by_x]


def of_soft_cross_entropy(x: Row, q: Row) -> Any:
    """-Σ q_j log p_j within 4 + g units; the derivatives are p_i Σ_{j≠i} q_j - q_i (1 - p_i), and -log p_i by q."""
    p = softmax(x)
    costs = [p.cost(j) for j in p.classes]
    terms = [a * b for a, b in zip(q, costs, strict=True)]
    rest = others(q)
    by_x = [of_terms(4 + p.g[i], rest[i].times(p.p[i]), -q[i] * p.others[i]) for i in p.classes]
    by_q = [of_terms(4 + g, cost) for cost, g in zip(costs, p.g, strict=True)]
    return within(4 + mean(p.rounded_g, terms), sum(terms, mpf(0))), [by_x, by_q]


def of_focal_loss(x: Row, t: int, gamma: mpf = TWO) -> Any:
    """(1 - p)^γ (-log p), within 4 + g + γ (4 + log 1 / (1 - p)) units.

    The derivatives are a (p_j - [j = t]) with a = (1 - p)^γ + γ p (1 - p)^(γ - 1) (-log p).
    """
    z = softmax(x)
    p, rest, cost = z.p[t], z.others[t], z.cost(t)
    power = gamma * (4 - mp.log(rest))
    a = rest**gamma + gamma * p * rest ** (gamma - 1) * cost
    by_x = [of_terms(4 + max(z.g[t], z.gap[j]) + power, -a * rest if j == t else a * z.p[j]) for j in z.classes]
    return within(4 + z.g[t] + power, rest**gamma * cost), [by_x]


def of_poly_loss(x: Row, t: int, epsilon: mpf = TWO) -> Any:
    """-log p + ε (1 - p), within 4 + g units; the derivatives are (1 + ε p) (p_j - [j = t])."""
    z = softmax(x)
    a = 1 + epsilon * z.p[t]
    gaps = [max(z.g[t], z.gap[j]) for j in z.classes]
    by_x = [of_terms(4 + gaps[j], -a * z.others[j] if j == t else a * z.p[j]) for j in z.classes]
    return within(4 + z.g[t], z.cost(t) + epsilon * z.others[t]), [by_x]


def of_generalized_cross_entropy(x: Row, t: int, q: mpf = THREE_QUARTERS) -> Any:
    """(1 - p^q) / q, within 4 + g units; the derivatives p^q (p_j - [j = t]) within q (4 + log 1 / p) more."""
    z = softmax(x)
    a = z.p[t] ** q
    gaps = [max(z.g[t], z.gap[j]) + q * (4 + z.cost(t)) for j in z.classes]
    by_x = [of_terms(4 + gaps[j], -a * z.others[j] if j == t else a * z.p[j]) for j in z.classes]
    return within(4 + z.g[t], -mp.expm1(-q * z.cost(t)) / q), [by_x]


# -- probabilities and log-probabilities -------------------------------------------------------------------------------


def of_nll_loss(log_p: Row, t: int) -> Any:
    """-log p_t, which is given."""
    return within(4, -log_p[t]), [[within(4, mpf(-(j == t))) for j in range(len(log_p))]]


def of_soft_nll_loss(log_p: Row, q: Row) -> Any:
    """-Σ q_j log p_j; the derivatives are -q and -log p."""
    value = of_terms(4, *(-a * b for a, b in zip(q, log_p, strict=True)))
    return value, [[of_terms(4, -v) for v in q], [of_terms(4, -v) for v in log_p]]


def of_cross_entropy_from_probs(p: Row, t: int) -> Any:
    """-log p_t, within 4 units."""
    return within(4, -mp.log(p[t])), [[within(4, -1 / v if j == t else mpf(0)) for j, v in enumerate(p)]]


def of_soft_cross_entropy_from_probs(p: Row, q: Row) -> Any:
    """-Σ q_j log p_j, within 4 u Σ of the terms."""
    return of_cross_entropy_between_from_probs(q, p, by=(1, 0))


# -- binary losses -----------------------------------------------------------------------------------------------------


def softplus(x: mpf) -> mpf:
    """Logarithm log(1 + exp x)."""
    return mp.log1p(mp.exp(x))


def sigmoid(x: mpf) -> mpf:
    """1 / (1 + exp -x)."""
    return 1 / (1 + mp.exp(-x))


def of_binary_cross_entropy(x: mpf, y: int) -> Any:
    """-log p or -log(1 - p), and its derivative p - y, within 4 units."""
    side = -x if y else x
    slope = sigmoid(side)
    return within(4, softplus(side)), [within(4, -slope if y else slope)]


def of_soft_binary_cross_entropy(x: mpf, y: mpf) -> Any:
    """The sum y softplus(-x) + (1 - y) softplus(x), within 4 u Σ of the terms.

    The derivatives are (1 - y) p - y (1 - p) and softplus(-x) - softplus(x).
    """
    value = of_terms(4, y * softplus(-x), (1 - y) * softplus(x))
    by_x = of_terms(4, (1 - y) * sigmoid(x), -y * sigmoid(-x))
    return value, [by_x, of_terms(4, softplus(-x), -softplus(x))]


def of_binary_focal_loss(x: mpf, y: int, gamma: mpf = TWO) -> Any:
    """(1 - p)^γ (-log p) of the target's p, within 4 + γ max(-log p, -log(1 - p)) units, and so the derivative."""
    side = x if y else -x
    p, rest, cost = sigmoid(side), sigmoid(-side), softplus(-side)
    k = 4 + gamma * max(cost, softplus(side))
    slope = rest**gamma * rest + gamma * p * rest**gamma * cost
    return within(k, rest**gamma * cost), [within(k, -slope if y else slope)]


def of_binary_cross_entropy_from_probs(p: mpf, y: int) -> Any:
    """-log p or -log(1 - p), within 4 units."""
    mass = p if y else 1 - p
    return within(4, -mp.log(mass)), [within(4, -1 / mass if y else 1 / mass)]


# -- functions of each element -----------------------------------------------------------------------------------------


def of_sigmoid(x: mpf) -> Any:
    """1 / (1 + exp -x), within 4 units, as its derivative p (1 - p)."""
    return within(4, sigmoid(x)), [within(4, sigmoid(x) * sigmoid(-x))]


def of_log_sigmoid(x: mpf) -> Any:
    """-log(1 + exp -x), within 4 units, as its derivative sigmoid(-x)."""
    return within(4, -softplus(-x)), [within(4, sigmoid(-x))]


def of_softplus(x: mpf) -> Any:
    """Logarithm log(1 + exp x), within 4 units, as its derivative sigmoid(x)."""
    return within(4, softplus(x)), [within(4, sigmoid(x))]


def of_logit(p: mpf) -> Any:
    """Logarithm log(p / (1 - p)), within 4 units, as its derivative 1 / (p (1 - p))."""
    return within(4, mp.log(p / (1 - p))), [within(4, 1 / (p * (1 - p)))]


def of_entr(x: mpf) -> Any:
    """-x log x, within 4 units; the derivative -log x - 1 within 4 u (1 + abs log x)."""
    return within(4, -x * mp.log(x)), [of_terms(4, -mp.log(x), mpf(-1))]


def of_rel_entr(x: mpf, y: mpf) -> Any:
    """The product x log(x / y), within 4 units; the derivatives are log(x / y) + 1, of two terms, and -x / y."""
    return within(4, x * mp.log(x / y)), [of_terms(4, mp.log(x / y), mpf(1)), within(4, -x / y)]


def of_xlogy(x: mpf, y: mpf) -> Any:
    """The product x log y, within 4 units, as the derivatives log y and x / y."""
    return within(4, x * mp.log(y)), [within(4, mp.log(y)), within(4, x / y)]


def of_xlog1py(x: mpf, y: mpf) -> Any:
    """The product x log(1 + y), within 4 units, as the derivatives log(1 + y) and x / (1 + y)."""
    return within(4, x * mp.log(1 + y)), [within(4, mp.log(1 + y)), within(4, x / (1 + y))]


def of_log1mexp(x: mpf) -> Any:
    """Logarithm log(1 - exp -x), within 4 units, as its derivative 1 / (exp x - 1)."""
    return within(4, mp.log(-mp.expm1(-x))), [within(4, 1 / mp.expm1(x))]


def of_logsubexp(x: mpf, y: mpf) -> Any:
    """Logarithm log(exp x - exp y), within 4 units times its condition number where that is above 1.

    The derivatives 1 / (1 - exp(y - x)) and -1 / (exp(x - y) - 1) are within 4 + g units, g being x - y.
    """
    by_x, by_y = -1 / mp.expm1(y - x), -1 / mp.expm1(x - y)
    value = x + mp.log(-mp.expm1(y - x))
    condition = (abs(x * by_x) + abs(y * by_y)) / abs(value)
    k = 4 + (x - y)
    return within(4 * max(1, condition), value), [within(k, by_x), within(k, by_y)]


# -- log space ---------------------------------------------------------------------------------------------------------


def condition(p: Sequence[mpf], x: Sequence[mpf], value: mpf) -> mpf:
    """The condition number of a logarithm of a sum of exponentials, Σ p abs(x) / abs(value); at least 1."""
    return max(mpf(1), sum((abs(a * b) for a, b in zip(p, x, strict=True)), mpf(0)) / abs(value) if value else mp.inf)


def of_logsumexp(x: Row) -> Any:
    """Logarithm of Σ exp x_j, within 4 units times its condition number; the derivatives are p."""
    p = softmax(x)
    value = max(x) + p.cost(x.index(max(x)))
    return within(4 * condition(p.p, x, value), value), [[of_terms(4 + p.gap[j], p.p[j]) for j in p.classes]]


def of_weighted_logsumexp(x: Row, b: Row) -> Any:
    """Logarithm of Σ b_j exp x_j, whose condition number is also Σ abs(b exp x) / abs(Σ b exp x).

    The derivatives are b_j exp x_j and exp x_j over the sum, whose terms are as many times larger.
    """
    p = softmax(x)
    total = summed(a * b for a, b in zip(b, p.p, strict=True))
    cancelled = total.size / abs(total.value)
    value = max(x) + p.cost(x.index(max(x))) + mp.log(total.value)
    shares = [a * b / total.value for a, b in zip(b, p.p, strict=True)]
    k = 4 * max(cancelled, condition(shares, x, value))
    by_x = [Exact(v, terms=(4 + g) * cancelled * abs(v)) for v, g in zip(shares, p.gap, strict=True)]
    by_b = [Exact(v / w, terms=(4 + g) * cancelled * abs(v / w)) for v, w, g in zip(shares, b, p.gap, strict=True)]
    return within(k, value), [by_x, by_b]


def of_logmeanexp(x: Row) -> Any:
    """Logarithm of the mean of exp x_j, within 4 units times its condition number; the derivatives are p."""
    p = softmax(x)
    top = x.index(max(x))
    value = x[top] + mp.log(sum((mp.exp(v - x[top]) for v in x), mpf(0)) / len(x))
    return within(4 * condition(p.p, x, value), value), [[of_terms(4 + p.gap[j], p.p[j]) for j in p.classes]]


def of_logcumsumexp(x: Row, g: Row) -> Any:
    """L_i = log Σ_{j≤i} exp x_j, within 4 + g units, or 4 times its condition number near 0.

    The derivatives are Σ_{i≥j} g_i exp(x_j - L_i).
    """
    m = max(x)
    e = [mp.exp(v - m) for v in x]
    sums, tops = list(accumulate(e)), list(accumulate(x, max))
    moments = accumulate(a * abs(v) for a, v in zip(e, x, strict=True))
    values = []
    for v, s, top, moment in zip(x, sums, tops, moments, strict=True):
        value = m + mp.log(s)
        near_zero = moment / s / abs(value) if value else mp.inf
        values.append(within(max(4 + inexact(top - v), 4 * near_zero), value))
    by_x, tail = [], Sum(mpf(0), mpf(0))
    for j in reversed(range(len(x))):
        tail = summed((tail, g[j] / sums[j]))
        by_x.append(of_terms(4 + (m - x[j]), tail.times(e[j])))
    return values, [by_x[::-1]]


def segments(x: Row, ids: Sequence[int]) -> dict[int, list[int]]:
    """Where each segment's entries are."""
    return {s: [j for j in range(len(x)) if ids[j] == s] for s in range(SEGMENTS)}


def of_segment_logsumexp(x: Row, g: Row, ids: Sequence[int]) -> Any:
    """Function logsumexp of each segment."""
    values, by_x = [], [Exact(mpf(0))] * len(x)
    for s, places in segments(x, ids).items():
        value, (slopes,) = of_logsumexp(tuple(x[j] for j in places))
        values.append(value)
        for j, slope in zip(places, slopes, strict=True):
            by_x[j] = slope.times(g[s])
    return values, [by_x]


def of_segment_softmax(x: Row, g: Row, ids: Sequence[int]) -> Any:
    """Softmax of each segment."""
    values, by_x = [Exact(mpf(0))] * len(x), [Exact(mpf(0))] * len(x)
    for places in segments(x, ids).values():
        found, (slopes,) = of_softmax(tuple(x[j] for j in places), tuple(g[j] for j in places))
        for j, value, slope in zip(places, found, slopes, strict=True):
            values[j], by_x[j] = value, slope
    return values, [by_x]


# -- entropies and divergences -----------------------------------------------------------------------------------------


def of_entropy(x: Row) -> Any:
    """-Σ p_j log p_j."""
    p = softmax(x)
    costs = [p.cost(j) for j in p.classes]
    terms = [a * b for a, b in zip(p.p, costs, strict=True)]
    return within(4 + mean(p.g, terms), sum(terms, mpf(0))), [pulled(p, costs, p.g)]


def wider(p: Distribution, q: Distribution) -> list[mpf]:
    """The larger gap of either row."""
    return [max(a, b) for a, b in zip(p.g, q.g, strict=True)]


def log_ratio(p: Distribution, q: Distribution) -> list[mpf]:
    """Logarithm log(p_j / q_j)."""
    return [q.cost(j) - p.cost(j) for j in p.classes]


def apart(p: Distribution, q: Distribution) -> list[mpf]:
    """p_j - q_j."""
    return [a - b if a + b < 1 else d - c for a, b, c, d in zip(p.p, q.p, p.others, q.others, strict=True)]


def by_second(p: Distribution, q: Distribution) -> list[Exact]:
    """q_j - p_j = Σ_k (q_j p_k - p_j q_k), within (8 + g) u Σ of the absolute values of these terms."""
    terms = ([abs(b * v - a * w) for v, w in zip(p.p, q.p, strict=True)] for a, b in zip(p.p, q.p, strict=True))
    sizes = (sum(one, mpf(0)) for one in terms)
    return [Exact(-d, terms=(8 + g) * size) for d, g, size in zip(apart(p, q), wider(p, q), sizes, strict=True)]


def of_cross_entropy_between(x: Row, y: Row) -> Any:
    """-Σ p_j log q_j, within 4 + g units; the derivative by the logits of q is q - p."""
    p, q = softmax(x), softmax(y)
    gaps, costs = wider(p, q), [q.cost(j) for j in q.classes]
    terms = [a * b for a, b in zip(p.p, costs, strict=True)]
    return within(4 + mean(gaps, terms), sum(terms, mpf(0))), [pulled(p, costs, gaps), by_second(p, q)]


def of_kl_divergence(x: Row, y: Row) -> Any:
    """Σ p_j log(p_j / q_j), within 4 + g units; the derivative by the logits of q is q - p."""
    p, q = softmax(x), softmax(y)
    gaps, logs, differences = wider(p, q), log_ratio(p, q), apart(p, q)
    terms = [a * b - d for a, b, d in zip(p.p, logs, differences, strict=True)]  # p log(p / q) - p + q, all ≥ 0
    return within(4 + mean(gaps, terms), sum(terms, mpf(0))), [pulled(p, logs, gaps), by_second(p, q)]


def of_js_divergence(x: Row, y: Row) -> Any:
    """(KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, within 5 + g units."""
    p, q = softmax(x), softmax(y)
    gaps = wider(p, q)
    halves = [mp.expm1(-v) / 2 for v in log_ratio(p, q)], [mp.expm1(v) / 2 for v in log_ratio(p, q)]
    by_p, by_q = ([-mp.log1p(v) for v in half] for half in halves)  # log(p / m) = -log(1 + (q / p - 1) / 2)
    terms = [(a * c + b * d) / 2 for a, b, c, d in zip(p.p, q.p, by_p, by_q, strict=True)]
    halved = ([v / 2 for v in logs] for logs in (by_p, by_q))
    slopes = [pulled(side, logs, gaps) for side, logs in zip((p, q), halved, strict=True)]
    return within(5 + mean(gaps, terms), sum(terms, mpf(0))), slopes


def of_total_variation(x: Row, y: Row) -> Any:
    """Σ abs(p_j - q_j) / 2, within 4 + g units. Where rounding decides which is larger, either derivative is right."""
    p, q = softmax(x), softmax(y)
    gaps, differences = wider(p, q), apart(p, q)
    signs = [mp.sign(d) / 2 for d in differences]
    terms = [abs(d) / 2 for d in differences]
    unit = mp.ldexp(1, -FORMATS[COMPUTED.get()].bits)
    masses = zip(differences, p.p, q.p, gaps, strict=True)
    level = [j for j, (d, a, b, g) in enumerate(masses) if d and abs(d) <= (4 + g) * unit * (a + b)]
    slopes = []
    for side, s in (p, signs), (q, [-s for s in signs]):
        turned = sum((side.p[j] for j in level), mpf(0))
        room = [(turned + (j in level)) * side.p[j] / unit for j in side.classes]
        slopes.append([e._replace(terms=e.terms + r) for e, r in zip(pulled(side, s, gaps), room, strict=True)])
    return within(4 + mean(gaps, terms), sum(terms, mpf(0))), slopes


def of_entropy_from_probs(p: Row) -> Any:
    """-Σ p_j log p_j; the derivatives are -log p_j - 1."""
    logs = [mp.log(v) for v in p]
    return of_terms(8, *(-a * b for a, b in zip(p, logs, strict=True))), [[of_terms(8, -v, mpf(-1)) for v in logs]]


def of_cross_entropy_between_from_probs(p: Row, q: Row, by: tuple[int, ...] = (0, 1)) -> Any:
    """-Σ p_j log q_j; the derivatives are -log q_j and -p_j / q_j."""
    logs = [mp.log(v) for v in q]
    slopes = [of_terms(8, -v) for v in logs], [of_terms(8, -a / b) for a, b in zip(p, q, strict=True)]
    return of_terms(8, *(-a * b for a, b in zip(p, logs, strict=True))), [slopes[n] for n in by]


def of_kl_divergence_from_probs(p: Row, q: Row) -> Any:
    """Σ p_j log(p_j / q_j); the derivatives are log(p_j / q_j) + 1 and -p_j / q_j."""
    logs = [mp.log(a / b) for a, b in zip(p, q, strict=True)]
    by_p = [of_terms(8, v, mpf(1)) for v in logs]
    by_q = [of_terms(8, -a / b) for a, b in zip(p, q, strict=True)]
    return of_terms(8, *(a * b for a, b in zip(p, logs, strict=True))), [by_p, by_q]


def of_js_divergence_from_probs(p: Row, q: Row) -> Any:
    """(Σ p_j log(p_j / m_j) + Σ q_j log(q_j / m_j)) / 2; the derivatives are log(p_j / m_j) / 2 and the same of q."""
    logs = [[mp.log(2 * v / (a + b)) / 2 for v, a, b in zip(side, p, q, strict=True)] for side in (p, q)]
    terms = (v * w for side, own in zip((p, q), logs, strict=True) for v, w in zip(side, own, strict=True))
    return of_terms(8, *terms), [[of_terms(8, v) for v in own] for own in logs]


def of_total_variation_from_probs(p: Row, q: Row) -> Any:
    """Σ abs(p_j - q_j) / 2; the derivatives are ±1/2."""
    differences = [a - b for a, b in zip(p, q, strict=True)]
    by_p = [of_terms(4, mp.sign(d) / 2) for d in differences]
    return of_terms(4, *(abs(d) / 2 for d in differences)), [by_p, [d.times(mpf(-1)) for d in by_p]]


# -- sparse maps and losses --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sparse:
    """Entmax of a row: p_j = max(0, (α - 1) x_j - τ)^(1 / (α - 1)), with the τ for which they sum to 1."""

    p: list[mpf]
    s: list[mpf]  # p^(2 - α) on the support, 0 off it
    spread: mpf  # the largest difference of logits within the support
    rounding: list[mpf]  # what rounding amounts to in each p, in u: 4 times p (1 - log p) + s · spread


@lru_cache(maxsize=512)
def entmax(x: Row, alpha: mpf, _: str) -> Sparse:
    """By Newton's method from below, where the sum is above 1 and convex, so that no step goes too far."""
    z = [(alpha - 1) * v for v in x]
    power = int(1 / (alpha - 1))
    tau, step = max(z) - 1, mpf(1)
    while step > mpf(10) ** (20 - mp.dps):
        bases = [v - tau for v in z if v > tau]
        step = (sum(b**power for b in bases) - 1) / (power * sum(b ** (power - 1) for b in bases))
        tau += step
    p = [(v - tau) ** power if v > tau else mpf(0) for v in z]
    s = [v ** (2 - alpha) if v else mpf(0) for v in p]
    inside = [v for v, w in zip(x, p, strict=True) if w]
    spread = max(inside) - min(inside)
    rounding = [4 * (a * (1 - mp.log(a)) + b * spread) if a else mpf(0) for a, b in zip(p, s, strict=True)]
    return Sparse(p, s, spread, rounding)


def of_entmax(x: Row, g: Row, alpha: mpf = THREE_HALVES) -> Any:
    """p_j; the derivatives are s_i g_i (1 - s_i / S) - s_i Σ_{j≠i} s_j g_j / S with S = Σ s.

    These within (4 + r) u Σ of the terms, r being the largest relative bound of a p above 0, in u.
    """
    z = entmax(x, alpha, COMPUTED.get())
    values = [Exact(v, terms=r) for v, r in zip(z.p, z.rounding, strict=True)]
    total, rest = sum(z.s), others(z.s)
    pull = others([a * b for a, b in zip(z.s, g, strict=True)])
    k = 4 + max(r / v for r, v in zip(z.rounding, z.p, strict=True) if v)
    by_x = [of_terms(k, s * g[i] * rest[i].value / total, pull[i].times(-s / total)) for i, s in enumerate(z.s)]
    return values, [by_x]


def of_entmax_loss(x: Row, t: int, alpha: mpf = THREE_HALVES) -> Any:
    """⟨p - q, x⟩ + H(p) - H(q) with H(p) = Σ (p_j - p_j^α) / (α (α - 1)) and the q of the label, whose H is 0.

    The derivatives are p - q.
    """
    z = entmax(x, alpha, COMPUTED.get())
    rest = others(z.p)
    by_x = [Exact(-rest[j].value if j == t else v, terms=z.rounding[j]) for j, v in enumerate(z.p)]
    by_x[t] = Exact(by_x[t].value, terms=sum((r for j, r in enumerate(z.rounding) if j != t), mpf(0)))
    disorder = sum(((v - v**alpha) / (alpha * (alpha - 1)) for v in z.p if v), mpf(0))
    value = sum((v * (w - x[t]) for v, w in zip(z.p, x, strict=True)), mpf(0)) + disorder
    m = max(x)
    moved = sum((abs(d.value) * (m - v) for d, v in zip(by_x, x, strict=True)), mpf(0))
    return Exact(value, units=6, terms=moved), [by_x]
