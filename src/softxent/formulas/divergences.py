"""Entropies and divergences of one or two distributions, given by logits or by probabilities; one value a row.

With d = log p - log q and m = βp + (1 - β)q, the measures are sums over classes:

    entropy            -p log p                               by p: -log p - 1
    cross-entropy      -p log q                                     -log q                by q: -p / q
    KL                  p d                                          d + 1                      -p / q
    Jensen-Shannon      β p log(p/m) + (1 - β) q log(q/m)            β log(p/m)                 (1 - β) log(q/m)
    total variation     abs(p - q) / 2                               sign(p - q) / 2            -sign(p - q) / 2

Of logits, with f the derivative by p, the derivative is p (f - Σ p f) over the temperature, and constants in f do not
matter. Where p is 0 its term contributes nothing, to every order.
"""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from softxent.formulas.log_softmax import logarithms
from softxent.formulas.logits import by_temperature, masked, masked_temperature, over
from softxent.formulas.loss_rows import finite_where, mass_of
from softxent.formulas.participation import both, constant_where_idle, only
from softxent.formulas.shift import centred, probabilities, shifted
from softxent.formulas.targets import product

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {"logits", "p_logits", "q_logits", "probs", "p_probs", "q_probs", "sample_weight", "temperature"},
    "g_mass": {"sample_weight"},
}


class Side(NamedTuple):
    """A distribution, its logarithm, and the logits it comes from, if any."""

    p: Array
    log: Array
    x: Any = None
    shifted: Any = None


class Measure(NamedTuple):
    """What classes contribute, and the derivatives of their sum."""

    terms: Array
    by_p: Array
    constant: float  # to be added to that for probabilities, where it matters
    by_q: Callable[[], Array]
    q_by_q: Callable[[], Array]  # q times the same
    slope: Array | float  # of by_p by log p


def entropy(ops: Any, p: Side, _: Side, beta: Array | float | None) -> Measure:  # noqa: ARG001 - all are called alike
    """-Σ p log p."""
    cost = 0.0 - p.log
    nothing = lambda: ops.zeros_like(cost)  # noqa: E731 - of one distribution
    return Measure(product(ops, p.p, cost), at_mass(ops, p, cost), -1.0, nothing, nothing, -1.0)


def cross_entropy_between(ops: Any, p: Side, q: Side, beta: Array | float | None) -> Measure:  # noqa: ARG001
    """-Σ p log q."""
    cost = ops.where(p.log == -inf, 0.0, 0.0 - q.log)
    return Measure(product(ops, p.p, cost), cost, 0.0, lambda: quotient(ops, p.p, q.p), lambda: -p.p, 0.0)


def kl_divergence(ops: Any, p: Side, q: Side, beta: Array | float | None) -> Measure:  # noqa: ARG001
    """Σ p (log p - log q)."""
    gone = p.log == -inf
    d = ops.where(gone, 0.0, p.log) - ops.where(gone, 0.0, q.log)
    return Measure(product(ops, p.p, d), d, 1.0, lambda: quotient(ops, p.p, q.p), lambda: -p.p, 1.0)


def js_divergence(ops: Any, p: Side, q: Side, beta: Array | float) -> Measure:
    """β KL(p, m) + (1 - β) KL(q, m), by the exponential of -abs(d), which does not overflow."""
    gone = p.log == -inf
    d = ops.where(gone, 0.0, p.log) - ops.where(gone, 0.0, q.log)
    d = ops.where(gone & (q.log != -inf), -inf, d)
    more = d > 0
    e = ops.exp(ops.where(more, -d, d))
    fall = ops.where(e < 0.5, e - 1.0, ops.expm1(ops.where(more, -d, d)))  # whose derivative cancels elsewhere
    rest = ops.log1p(ops.where(more, (1.0 - beta) * fall, beta * fall))
    of_p = ops.where(more, 0.0, d) - rest  # log(p / m)
    of_q = ops.where(more, -d, 0.0) - rest  # log(q / m)
    terms = beta * product(ops, p.p, of_p) + (1.0 - beta) * product(ops, q.p, of_q)
    by_q = (1.0 - beta) * at_mass(ops, q, of_q)
    slope = beta * (1.0 - beta) * ops.exp(of_q)
    return Measure(terms, beta * at_mass(ops, p, of_p), 0.0, lambda: by_q, lambda: q.p * by_q, slope)


def total_variation(ops: Any, p: Side, q: Side, beta: Array | float | None) -> Measure:  # noqa: ARG001
    """Σ abs(p - q) / 2, with derivative 0 where they are equal."""
    excess = p.p - q.p
    one = ops.ones_like(excess)
    half = 0.5 * ops.where(excess > 0, one, ops.where(excess < 0, -one, 0.0 * excess))
    return Measure(half * excess, half, 0.0, lambda: -half, lambda: q.p * -half, 0.0)


MEASURES = {
    "entropy": entropy,
    "cross_entropy_between": cross_entropy_between,
    "kl_divergence": kl_divergence,
    "js_divergence": js_divergence,
    "total_variation": total_variation,
}


def at_mass(ops: Any, side: Side, y: Array) -> Array:
    """A derivative by a probability, 0 where that is 0: there is no term."""
    return ops.where(side.log == -inf, 0.0, y)


def quotient(ops: Any, p: Array, q: Array) -> Array:
    """-p / q, 0 where p is 0."""
    return ops.where(p == 0, 0.0, -p / ops.where(p == 0, 1.0, q))


def value(
    ops: Any,
    *,
    sample_weight: Array | None = None,
    squared: bool = False,
    temperature: Array | float | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[Array, Array]:
    """The measure of each row, and its mass in the mean."""
    steady = constant_where_idle(ops, sample_weight)
    present, _, measure = measured(ops, temperature=temperature, steady=steady, axis=axis, **given)
    row = total(ops, measure, axis, temperature if squared else None)
    if sample_weight is not None:  # a weight of 0 has the measure for its derivative, if that is finite
        row = sample_weight * finite_where(ops, sample_weight == 0, row)
    one = ops.ones_like(row)
    return only(ops, present, row), mass_of(ops, one, present, None, sample_weight, mass)


def total(ops: Any, measure: Measure, axis: int, temperature: Array | float | None) -> Array:
    """The sum over classes, times T² if there is a temperature."""
    row = ops.sum(measure.terms, axis=axis, keepdims=True)
    return row if temperature is None else row * (temperature * temperature)


def measured(
    ops: Any,
    *,
    measure: str,
    beta: Array | float | None = None,
    temperature: Array | float | None = None,
    where: Array | None = None,
    eps: Array | float | None = None,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
    axis: int,
    dtype: Any,
    **given: Array,
) -> tuple[Array | None, tuple[Side, Side], Measure]:
    """Which rows take part, both distributions, and the measure of them; ``active`` leaves out further rows."""
    present = both(active, None if where is None else ops.any(where, axis=axis, keepdims=True))
    kept = both(where, active)
    sides = []
    for name, x in given.items():
        x = ops.astype(x, dtype, copy=False)  # noqa: PLW2901 - the same array
        if name in LOGITS:
            sides.append(of_logits(ops, x, kept, temperature, axis, steady))
        else:
            sides.append(of_probabilities(ops, steady(only(ops, kept, x)), eps))
    pair = sides[0], sides[-1]
    return present, pair, MEASURES[measure](ops, *pair, beta)


LOGITS = ("logits", "p_logits", "q_logits")


def of_logits(
    ops: Any,
    x: Array,
    kept: Array | None,
    temperature: Array | float | None,
    axis: int,
    steady: Callable[[Any], Any],
) -> Side:
    """Softmax of the classes that are kept, and its logarithm."""
    x = steady(x if kept is None else masked(ops, x, kept, axis))
    heat = steady(masked_temperature(ops, temperature, kept, axis))
    s = shifted(ops, x, axis, heat)
    return Side(probabilities(ops, s, axis), logarithms(ops, s, axis), x, s)


def of_probabilities(ops: Any, p: Array, eps: Array | float | None) -> Side:
    """Probabilities as they are, or clipped; the logarithm of 0 is set apart, for its derivative's sake."""
    if eps is not None:
        p = ops.where(p < eps, eps, ops.where(p > 1.0 - eps, 1.0 - eps, p))
    nothing = p == 0
    return Side(p, ops.where(nothing, -inf, ops.log(ops.where(nothing, 1.0, p))))


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · measure + g_mass · mass by the operands in ``by``."""
    rules = differentiated(ops, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(ops: Any, *, by: tuple[str, ...], g: Array, g_mass: Array, **given: Any) -> tuple[Array, ...]:
    """The one and the other."""
    return *value(ops, **given), *pullback(ops, by=by, g=g, g_mass=g_mass, **given)


def differentiated(
    ops: Any,
    *,
    g: Array,
    g_mass: Array,
    sample_weight: Array | None = None,
    squared: bool = False,
    temperature: Array | float | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> dict[str, Callable[[], Array]]:
    """A rule for each operand that there is a derivative by."""
    active = None if sample_weight is None else (ops.zeros_like(g) == 0) & (sample_weight != 0)
    present, (p, q), m = measured(ops, temperature=temperature, active=active, axis=axis, **given)
    heat: Any = masked_temperature(ops, temperature, present, axis)
    weighed = g if sample_weight is None else g * sample_weight
    factor = weighed * (heat * heat) if squared else weighed

    def of_softmax(side: Side, f: Array) -> Array:
        f, mean = centred(ops, f, side.p, side.shifted.lead, axis)
        return factor * side.p * (f - mean)

    def by_q_logits() -> Array:
        term = m.q_by_q()
        return factor * (term - q.p * ops.sum(term, axis=axis, keepdims=True))

    def clipped(name: str, y: Array) -> Array:
        eps, x = given.get("eps"), given[name]
        inside = None if eps is None else (x >= eps) & (x <= 1.0 - eps)
        return only(ops, kept_of(given, active), factor * only(ops, inside, y))

    def by_heat() -> Array:
        sides = ((p, of_softmax(p, m.by_p)), *(((q, by_q_logits()),) if "q_logits" in given else ()))
        found = sum(by_temperature(ops, dz, side.x, side.shifted.gaps, heat, axis) for side, dz in sides)
        if squared:
            found = found + 2.0 * weighed * heat * total(ops, m, axis, None)
        return only(ops, present, found)

    def by_sample_weight() -> Array:
        steady = constant_where_idle(ops, sample_weight)
        taking_part, _, every = measured(ops, temperature=temperature, steady=steady, axis=axis, **given)
        row = total(ops, every, axis, temperature if squared else None)
        found = g * finite_where(ops, sample_weight == 0, row)
        return only(ops, taking_part, found if mass == "count" else found + g_mass)

    def of_logits_of(rule: Callable[[], Array]) -> Callable[[], Array]:
        return lambda: only(ops, kept_of(given, active), over(rule(), heat))

    by_p_logits = of_logits_of(lambda: of_softmax(p, m.by_p))
    return {
        "logits": by_p_logits,
        "p_logits": by_p_logits,
        "q_logits": of_logits_of(by_q_logits),
        "probs": lambda: clipped("probs", m.by_p + at_mass(ops, p, m.constant + ops.zeros_like(p.p))),
        "p_probs": lambda: clipped("p_probs", m.by_p + at_mass(ops, p, m.constant + ops.zeros_like(p.p))),
        "q_probs": lambda: clipped("q_probs", m.by_q()),
        "temperature": by_heat,
        "sample_weight": by_sample_weight,
    }


def kept_of(given: dict[str, Any], active: Array | None) -> Array | None:
    """The classes that have derivatives."""
    return both(given.get("where"), active)


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
) -> tuple[Side, Measure, Array, Array | float | None, Array | None]:
    """The first distribution and its measure, the factor, the temperature, and what is kept."""
    active = None if sample_weight is None else (ops.zeros_like(g) == 0) & (sample_weight != 0)
    present, (p, _), m = measured(ops, temperature=temperature, active=active, axis=axis, **given)
    heat: Any = masked_temperature(ops, temperature, present, axis)
    factor = g if sample_weight is None else g * sample_weight
    return p, m, factor * (heat * heat) if squared else factor, heat, kept_of(given, active)


def hvp(ops: Any, *, vector: Array, axis: int, dtype: Any, **given: Any) -> Array:
    """Second derivatives by the first argument, times a vector.

    With u = t - Σ p t for the tangent t of the logits over the temperature, it is p (u (f - F + f') - Σ p u (f + f')).
    """
    p, m, factor, heat, kept = second_order(ops, axis=axis, dtype=dtype, **given)
    v = only(ops, kept, ops.astype(vector, dtype, copy=False))
    if p.shifted is None:
        return only(ops, kept, factor * per_probability(ops, p, m) * v)
    t, mean = centred(ops, over(v, heat), p.p, p.shifted.lead, axis)
    u = t - mean
    f, middle = centred(ops, m.by_p, p.p, p.shifted.lead, axis)
    moved = ops.sum(product(ops, p.p * u, f - middle + m.slope), axis=axis, keepdims=True)
    return only(ops, kept, over(factor * p.p * (u * (f - middle + m.slope) - moved), heat))


def hessian_diagonal(ops: Any, *, axis: int, dtype: Any, **given: Any) -> Array:
    """Second derivatives by each entry of the first argument."""
    p, m, factor, heat, kept = second_order(ops, axis=axis, dtype=dtype, **given)
    if p.shifted is None:
        return only(ops, kept, factor * per_probability(ops, p, m))
    f, middle = centred(ops, m.by_p, p.p, p.shifted.lead, axis)
    bent = f - middle + m.slope
    mean = ops.sum(p.p * bent, axis=axis, keepdims=True)
    found = p.p * ((1.0 - p.p) * bent - p.p * (bent - mean))
    return only(ops, kept, over(over(factor * found, heat), heat))


def per_probability(ops: Any, p: Side, m: Measure) -> Array:
    """The second derivative by a probability: the slope by log p, over p."""
    slope = m.slope + ops.zeros_like(p.p)
    return ops.where(p.p == 0, 0.0, slope / ops.where(p.p == 0, 1.0, p.p))
