"""Entropies and divergences of one or two distributions, given by logits or by probabilities; one value a row.

With d = log p - log q and m = βp + (1 - β)q, the measures are sums over classes:

    entropy            -p log p                               by p: -log p - 1
    cross-entropy      -p log q                                     -log q                by q: -p / q
    KL                  p d                                          d + 1                      -p / q
    Jensen-Shannon      β p log(p/m) + (1 - β) q log(q/m)            β log(p/m)                 (1 - β) log(q/m)
    total variation     abs(p - q) / 2                               sign(p - q) / 2            -sign(p - q) / 2

Of logits, with f the derivative by p, the derivative is p (f - Σ p f) over the temperature, and constants in f do not
matter. Where p is 0 its term contributes nothing, to every order.

Divergences of distributions near each other are small, and what they are sums of must be too. Of logits, d comes from
``log_ratio``, which keeps every digit of a small difference; p - q is made of d, see ``apart_by``; and since
Σ (p - q) = 0, the sum of p d is that of p (d - 1 + exp(-d)), no term of which is negative.
"""

from collections.abc import Callable
from math import factorial, inf, nan
from typing import Any, NamedTuple

from softxent.formulas.information import log_quotient
from softxent.formulas.log_softmax import logarithms
from softxent.formulas.logits import by_temperature, masked, masked_temperature, over, tempered, varies
from softxent.formulas.loss_rows import by_weight, weighted
from softxent.formulas.participation import both, constant_where_idle, only, weighing
from softxent.formulas.shift import Shifted, centred, probabilities, shifted, shortfall, spread
from softxent.formulas.targets import product

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {"logits", "p_logits", "q_logits", "probs", "p_probs", "q_probs", "sample_weight", "temperature"},
    "g_mass": {"sample_weight"},
}
LOGITS = ("logits", "p_logits", "q_logits")
FIRST = ("logits", "p_logits", "probs", "p_probs")


class Side(NamedTuple):
    """A distribution, and the logits that it comes from, if any."""

    p: Array
    given: Array  # the logits, dropped classes out; or the probabilities
    x: Any = None  # the logits over a temperature that differs between classes
    shifted: Any = None
    temperature: Any = None  # of whole rows


class Pair(NamedTuple):
    """Two distributions, and how they differ."""

    p: Side
    q: Side
    d: Any  # log p - log q: -inf where p alone is 0, +inf where q alone is, 0 where both are
    difference: Any  # p - q
    axis: int


class Measure(NamedTuple):
    """What classes contribute, and the derivatives of their sum."""

    terms: Callable[[], Array]
    by_p: Callable[[], Array]
    constant: float  # to be added to that for probabilities, where it matters
    by_q: Callable[[], Array] | None  # None: -p / q
    slope: Callable[[], Array | float]  # of by_p by log p


# -- measures ---------------------------------------------------------------------------------------------------------


def entropy(ops: Any, s: Pair, beta: Array | float | None) -> Measure:  # noqa: ARG001 - all are called alike
    """-Σ p log p."""
    cost = 0.0 - logarithm(ops, s.p, s.axis)
    return Measure(lambda: product(ops, s.p.p, cost), lambda: cost, -1.0, None, lambda: -1.0)


def cross_entropy_between(ops: Any, s: Pair, beta: Array | float | None) -> Measure:  # noqa: ARG001 - the same
    """-Σ p log q."""
    p, cost = s.p.p, 0.0 - logarithm(ops, s.q, s.axis, beside=s.p)
    return Measure(lambda: expected(ops, s.p, cost), lambda: cost + 0.0 * p, 0.0, None, lambda: 0.0)


def kl_divergence(ops: Any, s: Pair, beta: Array | float | None) -> Measure:  # noqa: ARG001 - the same
    """Σ p (log p - log q)."""

    def terms() -> Array:
        if s.p.shifted is None:  # which need not add up to 1
            return product(ops, s.p.p, s.d)
        found = gain(ops, s.p.p, s.d, s.difference)
        return ops.where(ops.equal(s.p.p, 0) & (s.d == inf), inf, found)  # p is only too small to be told from 0

    return Measure(terms, lambda: s.d, 1.0, None, lambda: 1.0)


def js_divergence(ops: Any, s: Pair, beta: Array | float) -> Measure:
    """β KL(p, m) + (1 - β) KL(q, m): with e = exp(-d), p / m = 1 / (β + (1 - β) e) and q / m = e p / m."""
    p, q, d = s.p.p, s.q.p, s.d
    high, low = d > -1.0, d < 1.0  # one of them by itself would overflow
    of_e = ops.log1p((1.0 - beta) * rise(ops, guarded(ops, high, -d)))
    of_inverse = ops.log1p(beta * rise(ops, guarded(ops, low, d)))
    of_p = ops.where(high, 0.0 - of_e, d - of_inverse)  # log(p / m)
    of_q = ops.where(low, 0.0 - of_inverse, 0.0 - d - of_e)  # log(q / m)

    def terms() -> Array:
        first = gain(ops, p, of_p, (1.0 - beta) * s.difference)
        second = gain(ops, q, of_q, 0.0 - beta * s.difference)
        return beta * first + (1.0 - beta) * second

    return Measure(
        terms,
        lambda: beta * of_p,
        0.0,
        lambda: (1.0 - beta) * of_q,
        lambda: beta * (1.0 - beta) * ops.exp(of_q),
    )


def total_variation(ops: Any, s: Pair, beta: Array | float | None) -> Measure:  # noqa: ARG001 - the same
    """Σ abs(p - q) / 2, with derivative 0 where they are equal."""
    excess = ops.stop_gradient(s.difference)
    one = ops.ones_like(excess)
    half = 0.5 * ops.where(excess > 0, one, ops.where(excess < 0, -one, 0.0 * excess))
    return Measure(lambda: half * s.difference, lambda: half, 0.0, lambda: -half, lambda: 0.0)


MEASURES = {
    "entropy": entropy,
    "cross_entropy_between": cross_entropy_between,
    "kl_divergence": kl_divergence,
    "js_divergence": js_divergence,
    "total_variation": total_variation,
}
COMPARING = ("kl_divergence", "js_divergence", "total_variation")


def expected(ops: Any, p: Side, y: Array) -> Array:
    """P times a cost: +inf also where p has underflowed and the cost is infinite; 0 where there is no p."""
    terms = product(ops, p.p, y)
    return terms if p.shifted is None else ops.where(ops.equal(p.p, 0) & (y == inf) & ~absent(ops, p), inf, terms)


def gain(ops: Any, p: Array, d: Array, lost: Array) -> Array:
    """P d less what p has lost by it, p - p exp(-d): a term that is not negative; by a series where d is small."""
    near = small(d)
    series = p * surplus(ops, guarded(ops, near, d))
    return ops.where(near, series, product(ops, p, guarded(ops, ~near, d)) - lost)


def small(d: Array) -> Array:
    """Whether abs(d) < 1."""
    return (d < 1.0) & (d > -1.0)


def guarded(ops: Any, here: Array, x: Array) -> Array:
    """0 in place of what is not selected, if somebody differentiates: infinite derivatives would be NaN times 0."""
    return x if ops.stop_gradient(x) is x else ops.where(here, x, 0.0)


def surplus(ops: Any, d: Array) -> Array:
    """D - 1 + exp(-d) for abs(d) < 1, and its first two derivatives, to the precision of the dtype."""
    last = 12 if ops.finfo(d.dtype).eps > 1e-10 else 20
    sums = d * ((-1.0) ** last / factorial(last)) + (-1.0) ** (last - 1) / factorial(last - 1)
    for k in range(last - 2, 1, -1):
        sums = ops.reusing("multiply", sums, d)
        sums = ops.reusing("add", sums, (-1.0) ** k / factorial(k))
    return d * d * sums


def rise(ops: Any, z: Array) -> Array:
    """exp(z) - 1 for z < 1. By tanh: expm1 is exp - 1 itself to torch's compiler, which loses all digits of a small z.

    If somebody differentiates, by the exponential where that does not cancel: the derivative of tanh does.
    """
    if ops.stop_gradient(z) is z:
        return by_tanh(ops, z)
    deep = z < -0.5
    return ops.where(deep, ops.exp(ops.where(deep, z, 0.0)) - 1.0, by_tanh(ops, ops.where(deep, 0.0, z)))


def by_tanh(ops: Any, z: Array) -> Array:
    """exp(z) - 1 = 2 t / (1 - t) with t = tanh(z / 2)."""
    t = ops.tanh(0.5 * z)
    return (t + t) / (1.0 - t)


# -- distributions ----------------------------------------------------------------------------------------------------


def of_logits(
    ops: Any,
    x: Array,
    kept: Array | None,
    temperature: Array | float | None,
    axis: int,
    steady: Callable[[Any], Any],
) -> Side:
    """Softmax of the classes that are kept."""
    given = steady(x if kept is None else masked(ops, x, kept, axis))
    heat = steady(masked_temperature(ops, temperature, kept, axis))
    x, heat = (tempered(ops, given, heat), None) if varies(heat, axis) else (given, heat)
    s = shifted(ops, x, axis, heat)
    return Side(probabilities(ops, s, axis), given, x, s, heat)


def of_probabilities(
    ops: Any, p: Array, kept: Array | None, eps: Array | float | None, steady: Callable[[Any], Any]
) -> Side:
    """Probabilities as they are, or clipped; NaN below 0. A class that is dropped is as if both were 1."""
    p = given = steady(p if kept is None else ops.where(kept, p, 1.0))
    p = p * ops.where(p < 0, nan, ops.ones_like(p))
    if eps is not None:
        p = ops.where(p < eps, eps, ops.where(p > 1.0 - eps, 1.0 - eps, p))
        p = p if kept is None else ops.where(kept, p, 1.0)
    return Side(p, given)


def absent(ops: Any, side: Side) -> Array:
    """Where there is no probability, not even one too small to be told from 0."""
    return ops.equal(ops.stop_gradient(side.p), 0) if side.x is None else ops.stop_gradient(side.x) == -inf


def logarithm(ops: Any, side: Side, axis: int, *, beside: Side | None = None) -> Array:
    """log p. It has a derivative at 0 only ``beside`` a side that needs it, where that is not 0."""
    if side.shifted is not None:
        return logarithms(ops, side.shifted, axis)
    nothing = ops.equal(side.p, 0)
    if beside is not None:
        nothing = nothing & ops.equal(beside.p, 0)
    return ops.where(nothing, -inf, ops.log(ops.where(nothing, 1.0, side.p)))


def compared(ops: Any, p: Side, q: Side, axis: int) -> Pair:
    """Both, and how they differ."""
    if p.shifted is None:
        return Pair(p, q, log_ratio_of_probabilities(ops, p, q), p.p - q.p, axis)
    d = log_ratio(ops, p, q, axis)
    hold = ops.stop_gradient
    difference = apart_by(ops, hold(p.p), hold(q.p), hold(d))
    if p.shifted.watched or q.shifted.watched:
        moving = p.p - q.p
        difference = difference + (moving - hold(moving))
    return Pair(p, q, d, difference, axis)


def apart_by(ops: Any, a: Array, b: Array, d: Array) -> Array:
    """A - b of numbers whose logarithms are ``d`` apart, of which no digit cancels: max(a, b) (1 - exp(-abs(d)))."""
    return ops.copysign(ops.maximum(a, b) * rise(ops, -ops.abs(d)), d)


def log_ratio(ops: Any, p: Side, q: Side, axis: int) -> Array:
    """log p - log q of logits; its derivatives are those of the logarithms, its digits are not.

    It is (x - y) less its value between the largest logits of both, less log(Z / W) of the sums of exponentials Z, W
    that these refer to. The rounding error of x - y is known exactly, and Z - W is a sum of accurate differences.
    """
    hold = ops.stop_gradient
    s, t = p.shifted, q.shifted
    x, y = hold(p.x), hold(q.x)
    finite = ops.isfinite(x) & ops.isfinite(y)
    gap, rounded = difference_of(x, y)
    level, level_rounded = difference_of(s.reference, t.reference)
    heat = p.temperature if p.temperature is None or isinstance(p.temperature, float) else hold(p.temperature)
    undefined = 0.0 * (hold(s.beside) + hold(t.beside))  # NaN in a row that is, 0 in others
    infinite = ops.where(y == -inf, ops.where(x == -inf, undefined, undefined + inf), undefined - inf)
    apart = ops.where(finite, tempered(ops, (gap - level) + (rounded - level_rounded), heat), infinite)

    each = apart_by(ops, exponentials(ops, s, axis), exponentials(ops, t, axis), apart)
    excess = ops.sum(each, axis=axis, keepdims=True) / (1.0 + hold(t.beside))
    near = (excess < 0.5) & (excess > -0.5)
    of_sums = ops.where(near, ops.log1p(ops.where(near, excess, 0.0)), hold(s.log_total) - hold(t.log_total))
    both_absent = (x == -inf) & (y == -inf)
    d = ops.where(both_absent, undefined, apart - of_sums)
    if s.watched or t.watched:
        logs = logarithms(ops, s, axis) - logarithms(ops, t, axis)
        moving = ops.where(finite, logs, 0.0)
        d = d + (moving - hold(moving))
        d = ops.where(~finite & ~both_absent & (y == -inf), logs, d)
    return d


def difference_of(a: Array, b: Array) -> tuple[Array, Array]:
    """A - b, and what rounding has lost of it."""
    found = a - b
    part = found - a
    return found, (a - (found - part)) - (b + part)


def exponentials(ops: Any, s: Shifted, axis: int) -> Array:
    """Those of all gaps, held constant."""
    return ops.put_along_axis(ops.stop_gradient(s.others) + 0.0, s.lead, 1.0, axis=axis)


def log_ratio_of_probabilities(ops: Any, p: Side, q: Side) -> Array:
    """log p - log q; where q alone is 0 it has the derivative by q, where p is 0 it has none."""
    positive, infinite = (p.p > 0) & (q.p > 0), (p.p > 0) & ops.equal(q.p, 0)
    d = log_quotient(ops, ops.where(positive, p.p, 1.0), ops.where(positive, q.p, 1.0))
    beyond = 0.0 - ops.log(ops.where(infinite, q.p, 1.0))
    nothing = ops.where(ops.equal(p.p, 0) & (q.p > 0), -inf, nan * ops.ones_like(d))
    nothing = ops.where(ops.equal(p.p, 0) & ops.equal(q.p, 0), 0.0, nothing)
    return ops.where(positive, d, ops.where(infinite, beyond, nothing))


# -- values -----------------------------------------------------------------------------------------------------------


def value(
    ops: Any,
    *,
    sample_weight: Array | None = None,
    squared: bool = False,
    temperature: Array | float | None = None,
    where: Array | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[Array, Array]:
    """The measure of each row, and its mass in the mean."""
    if is_empty(given, axis):
        nothing = ops.sum(nothing_of(ops, given), axis=axis, keepdims=True)
        return nothing, ops.zeros_like(nothing)
    steady = constant_where_idle(ops, sample_weight)
    present, _, measure = measured(ops, temperature=temperature, where=where, steady=steady, axis=axis, **given)
    heat = steady(masked_temperature(ops, temperature, where, axis)) if squared else None
    return weighted(ops, present, None, total(ops, measure, axis, heat), sample_weight, mass)


def is_empty(given: dict[str, Any], axis: int) -> bool:
    """Whether there are no classes."""
    return first_of(given).shape[axis] == 0


def first_of(given: dict[str, Any]) -> Array:
    """The first distribution."""
    return next(given[name] for name in FIRST if name in given)


def nothing_of(ops: Any, given: dict[str, Any]) -> Array:
    """An array without classes."""
    return ops.astype(first_of(given), given["dtype"], copy=False)


def total(ops: Any, measure: Measure, axis: int, temperature: Array | float | None) -> Array:
    """The sum over classes, times T² if there is a temperature."""
    row = ops.sum(measure.terms(), axis=axis, keepdims=True)
    return row if temperature is None else row * temperature * temperature


def measured(
    ops: Any,
    *,
    measure: str,
    compare: bool = False,
    beta: Array | float | None = None,
    temperature: Array | float | None = None,
    where: Array | None = None,
    eps: Array | float | None = None,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
    axis: int,
    dtype: Any,
    **given: Array,
) -> tuple[Array | None, Pair, Measure]:
    """Which rows take part, both distributions, and the measure of them; ``active`` leaves out further rows.

    ``compare`` asks how they differ also where the measure does not.
    """
    present = both(active, None if where is None else ops.any(where, axis=axis, keepdims=True))
    kept = both(where, active)
    sides = []
    for name, x in given.items():
        x = ops.astype(x, dtype, copy=False)  # noqa: PLW2901 - the same array
        if name in LOGITS:
            sides.append(of_logits(ops, x, kept, temperature, axis, steady))
        else:
            sides.append(of_probabilities(ops, x, kept, eps, steady))
    p, q = sides[0], sides[-1]
    pair = compared(ops, p, q, axis) if compare or measure in COMPARING else Pair(p, q, None, None, axis)
    return present, pair, MEASURES[measure](ops, pair, beta)


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, *, by: tuple[str, ...], axis: int, **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · measure + g_mass · mass by the operands in ``by``."""
    if is_empty(given, axis):
        return tuple(nothing_of(ops, given) for _ in by)
    _, rules = differentiated(ops, by=by, axis=axis, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any,
    *,
    by: tuple[str, ...],
    g: Array,
    g_mass: Array,
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[Array, ...]:
    """The one and the other: what they share is computed once."""
    options: dict[str, Any] = {"sample_weight": sample_weight, "mass": mass, "axis": axis}
    if is_empty(given, axis):
        return *value(ops, **options, **given), *(nothing_of(ops, given) for _ in by)
    (present, row_of), rules = differentiated(ops, by=by, g=g, g_mass=g_mass, **options, **given)
    results = weighted(ops, present, None, row_of(), sample_weight, mass)
    return *results, *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    *,
    by: tuple[str, ...],
    g: Array,
    g_mass: Array,
    sample_weight: Array | None = None,
    squared: bool = False,
    temperature: Array | float | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[tuple[Array | None, Callable[[], Array]], dict[str, Callable[[], Array]]]:
    """Which rows take part and what they measure, and a rule for each operand that there is a derivative by."""
    active, factor = weighing(ops, g, sample_weight)
    kept = both(given.get("where"), active)
    by_ratio = given["measure"] == "cross_entropy_between" and bool({"q_logits", "temperature"} & set(by))
    present, s, m = measured(
        ops, temperature=temperature, active=active, compare=by_ratio and "p_logits" in given, axis=axis, **given
    )
    heat: Any = masked_temperature(ops, temperature, kept, axis)

    def of_softmax(side: Side, f: Array) -> Array:
        return spread(ops, finite_only(ops, f), side.p, side.shifted.lead, axis)

    def by_p_logits() -> Array:
        return of_softmax(s.p, m.by_p())

    def by_q_logits() -> Array:
        return 0.0 - s.difference if m.by_q is None else of_softmax(s.q, m.by_q())

    def scaled(rule: Callable[[], Array]) -> Callable[[], Array]:
        return lambda: only(ops, kept, factor * (rule() * heat if squared else over(rule(), heat)))

    def of_probs(name: str, f: Callable[[], Array]) -> Callable[[], Array]:
        def rule() -> Array:
            eps, x = given.get("eps"), given[name]
            inside = None if eps is None else ~((x >= 0) & (x < eps)) & ~(x > 1.0 - eps)
            return only(ops, kept, factor * only(ops, inside, f()))

        return rule

    def by_p() -> Array:
        f = finite_only(ops, m.by_p())
        return ops.where(ops.equal(s.p.p, 0), 0.0, f + m.constant) if m.constant else f

    def by_q() -> Array:
        if m.by_q is not None:
            return finite_only(ops, m.by_q())
        nothing = ops.equal(s.p.p, 0)
        return 0.0 - ops.where(nothing, 0.0, s.p.p / ops.where(nothing, 1.0, s.q.p))

    def by_heat() -> Array:
        sides = ((s.p, by_p_logits()), *(((s.q, by_q_logits()),) if "q_logits" in given else ()))
        found: Any = sum(by_temperature(ops, dz, side.given, side.shifted.gaps, heat, axis) for side, dz in sides)
        if squared:
            found = found * heat * heat + 2.0 * heat * total(ops, m, axis, None)
        return only(ops, present, factor * found)

    def by_sample_weight() -> Array:
        steady = constant_where_idle(ops, sample_weight)
        taking_part, _, every = measured(ops, temperature=temperature, steady=steady, axis=axis, **given)
        of_rows = masked_temperature(ops, temperature, given.get("where"), axis) if squared else None
        return by_weight(ops, taking_part, None, total(ops, every, axis, of_rows), g, g_mass, sample_weight, mass)

    return (present, lambda: total(ops, m, axis, heat if squared else None)), {
        "logits": scaled(by_p_logits),
        "p_logits": scaled(by_p_logits),
        "q_logits": scaled(by_q_logits),
        "probs": of_probs("probs", by_p),
        "p_probs": of_probs("p_probs", by_p),
        "q_probs": of_probs("q_probs", by_q),
        "temperature": by_heat,
        "sample_weight": by_sample_weight,
    }


def finite_only(ops: Any, f: Array) -> Array:
    """A derivative by a probability, 0 where it is infinite: the probability is 0 there, or the measure infinite."""
    return ops.where(ops.isinf(f), 0.0, f)


class SecondOrder(NamedTuple):
    """What second derivatives by the first argument are made of."""

    p: Side
    kept: Array | None
    factor: Array
    heat: Any
    squared: bool
    bent: Array  # of logits f - Σ p f + f'; of probabilities f' / p

    def scaled(self, y: Array) -> Array:
        """Second derivatives by the logits over the temperature as those by the logits."""
        y = self.factor * y
        return y if self.squared else over(over(y, self.heat), self.heat)


def second_order(
    ops: Any,
    *,
    g: Array,
    sample_weight: Array | None = None,
    squared: bool = False,
    temperature: Array | float | None = None,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    axis: int,
    **given: Any,
) -> SecondOrder:
    """The first distribution, and how its derivatives change with log p."""
    active, factor = weighing(ops, g, sample_weight)
    kept = both(given.get("where"), active)
    _, s, m = measured(ops, temperature=temperature, active=active, axis=axis, **given)
    heat: Any = masked_temperature(ops, temperature, kept, axis)
    slope = m.slope() + ops.zeros_like(s.p.p)
    if s.p.shifted is not None:
        f, mean = centred(ops, finite_only(ops, m.by_p()), s.p.p, s.p.shifted.lead, axis)
        bent = (f - mean) + slope
    else:
        eps, x = given.get("eps"), first_of(given)
        nothing = ops.equal(s.p.p, 0)
        bent = ops.where(nothing, 0.0, slope / ops.where(nothing, 1.0, s.p.p))
        bent = bent if eps is None else only(ops, (x >= eps) & (x <= 1.0 - eps), bent)
    return SecondOrder(s.p, kept, factor, heat, squared, bent)


def hvp(ops: Any, *, vector: Array, axis: int, dtype: Any, **given: Any) -> Array:
    """Second derivatives by the first argument, times a vector.

    With t the tangent of the logits over the temperature it is p (w - Σ p w) for w = (t - Σ p t) (f - Σ p f + f').
    """
    if is_empty(given, axis):
        return ops.astype(vector, dtype)
    h = second_order(ops, axis=axis, dtype=dtype, **given)
    v = only(ops, h.kept, ops.astype(vector, dtype, copy=False))
    if h.p.shifted is None:
        return only(ops, h.kept, h.factor * h.bent * v)
    p, lead = h.p.p, h.p.shifted.lead
    if varies(h.heat, axis):
        t, mean = centred(ops, over(v, h.heat), p, lead, axis)
        return only(ops, h.kept, over(h.factor * spread(ops, (t - mean) * h.bent, p, lead, axis), h.heat))
    t, mean = centred(ops, v, p, lead, axis)
    return only(ops, h.kept, h.scaled(spread(ops, (t - mean) * h.bent, p, lead, axis)))


def hessian_diagonal(ops: Any, *, axis: int, dtype: Any, **given: Any) -> Array:
    """Second derivatives by each entry of the first argument.

    By a logit over the temperature it is p_i ((1 - p_i)² b_i + p_i Σ_{j≠i} p_j b_j) with b = f - Σ p f + f'.
    """
    if is_empty(given, axis):
        return nothing_of(ops, {**given, "dtype": dtype})
    h = second_order(ops, axis=axis, dtype=dtype, **given)
    if h.p.shifted is None:
        return only(ops, h.kept, h.factor * h.bent)
    p, s = h.p.p, h.p.shifted
    weighed = p * h.bent
    beside = ops.sum(ops.put_along_axis(weighed + 0.0, s.lead, 0.0, axis=axis), axis=axis, keepdims=True)
    others = ops.put_along_axis(ops.sum(weighed, axis=axis, keepdims=True) - weighed, s.lead, beside, axis=axis)
    lacking = ops.put_along_axis(1.0 - p, s.lead, shortfall(s), axis=axis)
    return only(ops, h.kept, h.scaled(p * (lacking * lacking * h.bent + p * others)))
