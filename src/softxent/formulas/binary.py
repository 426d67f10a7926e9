"""Binary cross-entropy and focal loss, one value an element, with every option; and their derivatives.

With u = -log p and v = -log(1 - p), an element of target y costs

    w (a u (1 - p)^γ + b v p^γ),        a = P α y',  b = (1 - α) (1 - y'),

y' being the smoothed target, P the weight of positive targets; α, 1 - α and the powers are there for the focal loss
only. Where logits are given p is sigmoid(x), and all of it is made of e = exp(-abs(x)). Without powers

    a u + b v = (a + b) log1p(e) + c x,        c = b for x > 0, -a elsewhere,

two terms that are not negative, and the slope is c - sign(x) (a + b) e / (1 + e). The powers are exp(-γ v) and
exp(-γ u), so that nothing of them is lost in either tail. What depends on the sign of x is made as in ``sigmoid``.

Where probabilities are given u and v are their logarithms, with slopes -1 / p and 1 / (1 - p), and 0 · log 0 is 0: a
term whose factor is 0 costs nothing at p in {0, 1} either, and has no derivative there.
"""

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

from softxent.formulas.loss_rows import by_weight, mass_of, times, validated, weighted
from softxent.formulas.participation import both, constant_where_idle, only, only_present, weighing
from softxent.formulas.sigmoid import bump_of, decay, within
from softxent.formulas.targets import equals, product

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {"logits", "probs", "labels", "weight", "pos_weight", "label_smoothing", "gamma", "alpha"},
    "g_mass": {"weight"},
}


class Elements(NamedTuple):
    """What is given, and targets. Where nothing takes part, harmless numbers stand in for both."""

    present: Array | None  # elements that take part
    validity: Array | None  # 1, and NaN for a target that is none; None if that is known
    x: Array  # the logit or the probability
    y: Array  # the target
    positive: Array  # y'
    negative: Array  # 1 - y'
    a: Array  # what multiplies the cost of a positive
    b: Array  # what multiplies the cost of a negative


class Costs(NamedTuple):
    """What elements cost per unit of weight, and its derivatives by what is given: each made once it is asked for."""

    loss: Callable[[], Array]  # a u (1 - p)^γ + b v p^γ
    halves: Callable[[], tuple[Array, Array]]  # what multiplies a and b in it
    slope: Callable[[], Array]
    bend: Callable[[], Array]
    by_gamma: Callable[[], Array] | None = None


class Tails(NamedTuple):
    """What the costs of logits are made of."""

    total: Array | None  # a + b; None if it is 1
    c: Array  # what multiplies x without a power
    high: Array  # 1 for x > 0, 0 elsewhere
    fall: Array  # -1 for x > 0, 1 elsewhere: the slope of -abs(x)
    e: Array  # exp(-abs(x))


class Focal(NamedTuple):
    """The costs of both halves, and their derivatives, under a focal power."""

    u: Array
    v: Array
    p: Array
    q: Array  # 1 - p
    of_u: Array  # (1 - p)^γ
    of_v: Array  # p^γ
    gamma: Array | float


def value(
    ops: Any,
    *,
    weight: Array | None = None,
    mass: str,
    axis: int,  # noqa: ARG001 - each element is a row of its own
    **given: Any,
) -> tuple[Array, Array]:
    """What each element costs, and its mass in the mean ("weight" or "count", by ``mass``)."""
    r, costs = looked_at(ops, steady=constant_where_idle(ops, weight), **given)
    return weighted(ops, r.present, None, validated(r, costs.loss()), weight, mass)


def masses(
    ops: Any,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    weight: Array | None = None,
    mass: str,
    dtype: Any,
    **_: Any,
) -> Array:
    """What each element counts for in a mean: that depends on no logit."""
    one = ops.full_like(labels, 1.0, dtype=dtype)
    return mass_of(ops, one, taking_part(ops, labels, where, ignore_index), None, weight, mass)


def looked_at(
    ops: Any,
    *,
    logits: Array | None = None,
    probs: Array | None = None,
    labels: Array,
    gamma: Array | float | None = None,
    eps: Array | float | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
    **options: Any,
) -> tuple[Elements, Costs]:
    """The elements of a call, and what they cost. What ``steady`` makes constants has no derivative."""
    if logits is None:
        r = laid_out(ops, probs, labels, harmless=0.5, steady=steady, **options)
        return r, of_probabilities(ops, r, eps)
    r = laid_out(ops, logits, labels, harmless=0.0, steady=steady, **options)
    return r, of_logits(ops, r, steady(gamma))


def laid_out(
    ops: Any,
    x: Array,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    pos_weight: Array | float | None = None,
    label_smoothing: Array | float | None = None,
    alpha: Array | float | None = None,
    in_bounds: bool = False,
    active: Array | None = None,
    harmless: float,
    steady: Callable[[Any], Any],
    dtype: Any,
) -> Elements:
    """The elements of a call; ``active`` leaves out further ones.

    ``in_bounds`` says that the targets that take part are known to be targets.
    """
    present = both(active, taking_part(ops, labels, where, ignore_index))
    x = ops.astype(x, dtype, copy=False)
    x = steady(x if present is None else ops.where(present, x, harmless))
    y = steady(only(ops, present, ops.astype(labels, dtype, copy=False)))
    validity = None if in_bounds else ops.where((y >= 0) & (y <= 1), ops.ones_like(y), nan)
    positive, negative = y, 1.0 - y
    if label_smoothing is not None:  # both as sums: 1 - y' would not have all digits of a small ε
        kept, uniform = 1.0 - steady(label_smoothing), 0.5 * steady(label_smoothing)
        positive, negative = kept * positive + uniform, kept * negative + uniform
    a, b = positive, negative
    if alpha is not None:
        a, b = steady(alpha) * a, (1.0 - steady(alpha)) * b
    if pos_weight is not None:
        a = steady(pos_weight) * a
    return Elements(present, validity, x, y, positive, negative, a, b)


def taking_part(ops: Any, labels: Array, where: Array | None, ignore_index: Array | int | None) -> Array | None:
    """Which elements take part; None for all."""
    return where if ignore_index is None else both(where, ~equals(ops, labels, ignore_index))


# -- what logits cost -------------------------------------------------------------------------------------------------


def of_logits(ops: Any, r: Elements, gamma: Array | float | None) -> Costs:
    """By the tails of the sigmoid, under a focal power if there is one."""
    high, fall, e = decay(ops, r.x)
    c = high - r.y if r.a is r.y else high * r.b - (1.0 - high) * r.a  # the same, but the first takes fewer operations
    t = Tails(None if r.a is r.positive else r.a + r.b, c, high, fall, e)
    f = focal(ops, r, t, gamma)
    return Costs(
        lambda: per_unit(ops, r, t, f),
        lambda: surprises(ops, r, t) if f is None else (f.u * f.of_u, f.v * f.of_v),
        lambda: slope(ops, r, t, f),
        lambda: bend(ops, r, t, f),
        None if f is None else lambda: by_gamma(ops, r, t, f),
    )


def per_unit(ops: Any, r: Elements, t: Tails, f: Focal | None) -> Array:
    """The loss per unit of weight."""
    if f is None:
        return times(t.total, ops.log1p(t.e)) + product(ops, t.c, r.x)
    return product(ops, r.a * f.of_u, f.u) + product(ops, r.b * f.of_v, f.v)


def surprises(ops: Any, r: Elements, t: Tails) -> tuple[Array, Array]:
    """u and v: the costs of a positive and a negative."""
    rest = ops.log1p(t.e)
    return rest - product(ops, 1.0 - t.high, r.x), rest + product(ops, t.high, r.x)


def focal(ops: Any, r: Elements, t: Tails, gamma: Array | float | None) -> Focal | None:
    """The powers as exponentials of the costs; None without them."""
    if gamma is None:
        return None
    u, v = surprises(ops, r, t)
    low, larger = 1.0 - t.high, 1.0 / (1.0 + t.e)
    p, q = (t.high + low * t.e) * larger, (low + t.high * t.e) * larger
    power = gamma + ops.zeros_like(u)
    return Focal(u, v, p, q, ops.exp(-product(ops, power, v)), ops.exp(-product(ops, power, u)), gamma)


def slope(ops: Any, r: Elements, t: Tails, f: Focal | None) -> Array:
    """By the logit; with a power b p^γ (p + γ (1 - p) v) - a (1 - p)^γ (1 - p + γ p u)."""
    if f is None:
        return t.c + times(t.total, t.fall * (t.e / (1.0 + t.e)))
    of_a = f.of_u * (f.q + f.gamma * product(ops, f.p, f.u))
    of_b = f.of_v * (f.p + f.gamma * product(ops, f.q, f.v))
    return r.b * of_b - r.a * of_a


def bend(ops: Any, r: Elements, t: Tails, f: Focal | None) -> Array:
    """The slope of that."""
    both_sides = bump_of(t.e)  # p (1 - p)
    if f is None:
        return times(t.total, both_sides)
    pu, qv = product(ops, f.p, f.u), product(ops, f.q, f.v)
    both_sides = both_sides * (1.0 + 2.0 * f.gamma)
    of_a = both_sides - f.gamma * f.q * pu + f.gamma * f.gamma * f.p * pu
    of_b = both_sides - f.gamma * f.p * qv + f.gamma * f.gamma * f.q * qv
    return r.a * f.of_u * of_a + r.b * f.of_v * of_b


def by_gamma(ops: Any, r: Elements, t: Tails, f: Focal) -> Array:
    """By the power: its derivative is itself, times the logarithm of what it is of."""
    rest = ops.log1p(t.e)
    smaller_by_larger = product(ops, rest, rest - t.fall * r.x)
    return (r.a * f.of_u + r.b * f.of_v) * -smaller_by_larger


# -- what probabilities cost ------------------------------------------------------------------------------------------


def of_probabilities(ops: Any, r: Elements, eps: Array | float | None) -> Costs:
    """By their logarithms. What is clipped has the cost of the bound, and no slope."""
    p, inside, upper = within(ops, r.x) if eps is None else r.x, None, None
    if eps is not None:
        # 1 - eps may have few of the digits of eps, or none: both ends are made of eps, and u and v change places.
        upper = 1.0 - p < eps
        clipped = (p < eps) | upper
        p, inside = ops.where(clipped, eps, p), ~clipped
    for_u = ops.where(ops.equal(p, 0) & ops.equal(r.a, 0), 1.0, p)
    for_v = ops.where(ops.equal(p, 1) & ops.equal(r.b, 0), 0.0, p)

    def halves() -> tuple[Array, Array]:
        u, v = 0.0 - ops.log(for_u), 0.0 - ops.log1p(-for_v)
        return (u, v) if upper is None else (ops.where(upper, v, u), ops.where(upper, u, v))

    def loss() -> Array:
        u, v = halves()
        return product(ops, r.a, u) + product(ops, r.b, v)

    def terms() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """The slope of each half, times its factor, and without it."""
        of_u, of_v = -1.0 / for_u, 1.0 / (1.0 - for_v)
        return (product(ops, r.a, of_u), of_u), (product(ops, r.b, of_v), of_v)

    def slope() -> Array:
        (of_a, _), (of_b, _) = terms()
        return only(ops, inside, of_a + of_b)

    def bend() -> Array:
        return only(ops, inside, sum(product(ops, *term) for term in terms()))

    return Costs(loss, halves, slope, bend)


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    rules, _ = differentiated(ops, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """The one and the other."""
    rules, results = differentiated(ops, **given)
    return *results(), *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    *,
    g: Array,
    g_mass: Array,
    weight: Array | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[dict[str, Callable[[], Array]], Callable[[], tuple[Array, Array]]]:
    """A rule for each operand that there is a derivative by, and the value."""
    r, costs, factor = weighed(ops, g, weight, **given)
    pos_weight, alpha = given.get("pos_weight"), given.get("alpha")
    of_negative = None if alpha is None else 1.0 - alpha

    def results() -> tuple[Array, Array]:
        if weight is None:  # nothing more is known of the elements
            return weighted(ops, r.present, None, validated(r, costs.loss()), weight, mass)
        return value(ops, weight=weight, mass=mass, axis=axis, **given)

    def per_target() -> tuple[Array, Array]:
        u, v = costs.halves()
        return ops.where(ops.isinf(u), 0.0, u), ops.where(ops.isinf(v), 0.0, v)

    def by_smoothed() -> Array:
        u, v = per_target()
        return factor * (times(pos_weight, times(alpha, u)) - times(of_negative, v))

    def by_alpha() -> Array:
        u, v = per_target()
        return factor * (times(pos_weight, r.positive * u) - r.negative * v)

    def by_own_weight() -> Array:
        every, its_costs = looked_at(ops, **given)
        return by_weight(ops, every.present, None, validated(every, its_costs.loss()), g, g_mass, weight, mass)

    def by_given() -> Array:
        return factor * costs.slope()

    rules = {
        "logits": by_given,
        "probs": by_given,
        "labels": lambda: times(1.0 - given.get("label_smoothing", 0.0), by_smoothed()),
        "label_smoothing": lambda: (0.5 - r.y) * by_smoothed(),
        "pos_weight": lambda: factor * r.positive * times(alpha, per_target()[0]),
        "alpha": by_alpha,
        "gamma": lambda: factor * costs.by_gamma(),  # type: ignore[misc] # it is there
    }
    rules = {name: only_present(ops, r, rule) for name, rule in rules.items()}
    return {**rules, "weight": by_own_weight}, results


def weighed(ops: Any, g: Array, weight: Array | None, **given: Any) -> tuple[Elements, Costs, Array]:
    """Elements, those of weight 0 out, what they cost, and what the derivatives of each are multiplied by."""
    active, g = weighing(ops, g, weight)
    r, costs = looked_at(ops, active=active, **given)
    return r, costs, validated(r, g)


def hvp(ops: Any, *, vector: Array, dtype: Any, **given: Any) -> Array:
    """Second derivatives by what is given, times a vector, which is not looked at where nothing takes part."""
    r, curvature = second_order(ops, dtype=dtype, **given)
    return only(ops, r.present, curvature * ops.astype(vector, dtype, copy=False))


def hessian_diagonal(ops: Any, **given: Any) -> Array:
    """Second derivatives of g · loss by each logit or probability."""
    r, curvature = second_order(ops, **given)
    return only(ops, r.present, curvature)


def second_order(
    ops: Any,
    *,
    g: Array,
    weight: Array | None = None,
    mass: str,  # noqa: ARG001 - does not depend on what is given
    axis: int,  # noqa: ARG001 - each element is a row of its own
    **given: Any,
) -> tuple[Elements, Array]:
    """The elements, and the second derivative of each."""
    r, costs, factor = weighed(ops, g, weight, **given)
    return r, factor * costs.bend()
