"""Binary cross-entropy and focal loss of logits, one value an element, with every option; and their derivatives.

With u = -log sigmoid(x) and v = -log sigmoid(-x), an element of target y costs

    w (a u (1 - p)^γ + b v p^γ),        a = P α y',  b = (1 - α) (1 - y'),

y' being the smoothed target, p = sigmoid(x), P the weight of positive targets; α, 1 - α and the powers are there for
the focal loss only. The powers are exp(-γ v) and exp(-γ u), so that nothing of them is lost in either tail. The second
half is the first of -x, and all of it is made of e = exp(-abs(x)), as in ``sigmoid``.
"""

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

from softxent.formulas.loss_rows import finite_where, mass_of
from softxent.formulas.participation import both, constant_where_idle, only
from softxent.formulas.targets import equals, product

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {"logits", "labels", "weight", "pos_weight", "label_smoothing", "gamma", "alpha"},
    "g_mass": {"weight"},
}


class Elements(NamedTuple):
    """Logits, targets and what each costs. Where nothing takes part, harmless numbers stand in for both."""

    present: Array | None  # elements that take part
    validity: Array | None  # 1, and NaN for a target that is none; None if that is known
    x: Array
    y: Array  # the target
    smoothed: Array  # y'
    a: Array  # what multiplies the cost of a positive
    b: Array  # what multiplies the cost of a negative


class Tails(NamedTuple):
    """What costs and their derivatives are made of."""

    positive: Array  # x > 0
    size: Array  # abs(x)
    e: Array  # exp(-abs(x))
    rest: Array  # log1p(e)
    larger: Array  # the larger of p and 1 - p


class Focal(NamedTuple):
    """The costs of both halves, and their derivatives, under a focal power."""

    u: Array
    v: Array
    p: Array
    q: Array  # 1 - p
    of_u: Array  # (1 - p)^γ
    of_v: Array  # p^γ


def value(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    weight: Array | None = None,
    gamma: Array | float | None = None,
    mass: str,
    axis: int,  # noqa: ARG001 - each element is a row of its own
    dtype: Any,
    **options: Any,
) -> tuple[Array, Array]:
    """What each element costs, and its mass in the mean ("weight" or "count", by ``mass``)."""
    steady = constant_where_idle(ops, weight)
    r = laid_out(ops, logits, labels, steady=steady, dtype=dtype, **options)
    loss = per_unit(ops, r, tails(ops, r.x), gamma)
    if weight is not None:  # a weight of 0 has the loss for its derivative, if that is finite
        loss = weight * finite_where(ops, weight == 0, loss)
    return only(ops, r.present, loss), mass_of(ops, ops.ones_like(loss), r.present, None, weight, mass)


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


def laid_out(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    pos_weight: Array | float | None = None,
    label_smoothing: Array | float | None = None,
    alpha: Array | float | None = None,
    in_bounds: bool = False,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
    dtype: Any,
) -> Elements:
    """The elements of a call; ``active`` leaves out further ones.

    What ``steady`` makes constants has no derivative. ``in_bounds`` says that the targets that take part are known to
    be targets.
    """
    present = both(active, taking_part(ops, labels, where, ignore_index))
    x = steady(only(ops, present, ops.astype(logits, dtype, copy=False)))
    y = steady(only(ops, present, ops.astype(labels, dtype, copy=False)))
    validity = None if in_bounds else ops.where((y >= 0) & (y <= 1), ops.ones_like(y), nan)
    smoothed = y if label_smoothing is None else (1.0 - label_smoothing) * y + 0.5 * label_smoothing
    a, b = smoothed, 1.0 - smoothed
    if pos_weight is not None:
        a = steady(pos_weight) * a
    if alpha is not None:
        a, b = steady(alpha) * a, (1.0 - steady(alpha)) * b
    return Elements(present, validity, x, y, smoothed, a, b)


def taking_part(ops: Any, labels: Array, where: Array | None, ignore_index: Array | int | None) -> Array | None:
    """Which elements take part; None for all."""
    return where if ignore_index is None else both(where, ~equals(ops, labels, ignore_index))


def tails(ops: Any, x: Array) -> Tails:
    """Choices instead of abs and max: both halves of a derivative meet at 0."""
    positive = x > 0
    size = ops.where(positive, x, -x)
    e = ops.exp(-size)
    return Tails(positive, size, e, ops.log1p(e), 1.0 / (1.0 + e))


def costs(ops: Any, t: Tails) -> tuple[Array, Array]:
    """u and v: the costs of a positive and a negative."""
    return ops.where(t.positive, 0.0, t.size) + t.rest, ops.where(t.positive, t.size, 0.0) + t.rest


def focal(ops: Any, t: Tails, gamma: Array | float) -> Focal:
    """The powers as exponentials of the costs."""
    u, v = costs(ops, t)
    smaller = t.e * t.larger
    p, q = ops.where(t.positive, t.larger, smaller), ops.where(t.positive, smaller, t.larger)
    gamma = gamma + ops.zeros_like(u)
    return Focal(u, v, p, q, ops.exp(-product(ops, gamma, v)), ops.exp(-product(ops, gamma, u)))


def per_unit(ops: Any, r: Elements, t: Tails, gamma: Array | float | None) -> Array:
    """The loss per unit of weight."""
    if gamma is None:
        cost = (r.a + r.b) * t.rest + product(ops, ops.where(t.positive, r.b, r.a), t.size)
    else:
        f = focal(ops, t, gamma)
        cost = product(ops, r.a, f.u * f.of_u) + product(ops, r.b, f.v * f.of_v)
    return validated(r, cost)


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    rules = differentiated(ops, logits, labels, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], g: Array, g_mass: Array, **given: Any
) -> tuple[Array, ...]:
    """The one and the other."""
    results = value(ops, logits, labels, **given)
    return *results, *pullback(ops, logits, labels, by=by, g=g, g_mass=g_mass, **given)


def differentiated(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    g_mass: Array,
    weight: Array | None = None,
    gamma: Array | float | None = None,
    mass: str,
    axis: int,  # noqa: ARG001
    dtype: Any,
    **options: Any,
) -> dict[str, Callable[[], Array]]:
    """A rule for each operand that there is a derivative by."""
    r, factor = weighed(ops, logits, labels, g, weight, dtype=dtype, **options)
    t = tails(ops, r.x)
    if gamma is None:
        u, v = costs(ops, t)
        slope = ops.where(t.positive, r.b - r.a * t.e, r.b * t.e - r.a) * t.larger
    else:
        f = focal(ops, t, gamma)
        slope = focal_slope(ops, r, f, gamma)
        u, v = f.u * f.of_u, f.v * f.of_v
    u, v = ops.where(ops.isinf(u), 0.0, u), ops.where(ops.isinf(v), 0.0, v)
    pos_weight, alpha = options.get("pos_weight", 1.0), options.get("alpha")
    of_positive, of_negative = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    by_smoothed = factor * (pos_weight * of_positive * u - of_negative * v)

    def by_weight() -> Array:
        every = laid_out(ops, logits, labels, dtype=dtype, **options)
        idle = weight == 0
        loss = finite_where(ops, idle, per_unit(ops, every, tails(ops, every.x), gamma))
        return only(ops, every.present, g * loss if mass == "count" else g * loss + g_mass)

    rules = {
        "logits": lambda: factor * slope,
        "labels": lambda: (1.0 - options.get("label_smoothing", 0.0)) * by_smoothed,
        "label_smoothing": lambda: (0.5 - r.y) * by_smoothed,
        "pos_weight": lambda: factor * r.smoothed * of_positive * u,
        "alpha": lambda: factor * (pos_weight * r.smoothed * u - (1.0 - r.smoothed) * v),
        "gamma": lambda: factor * (r.a * f.of_u + r.b * f.of_v) * -product(ops, f.u, f.v),
    }
    rules = {name: present_only(ops, r, rule) for name, rule in rules.items()}
    return {**rules, "weight": by_weight}


def present_only(ops: Any, r: Elements, rule: Callable[[], Array]) -> Callable[[], Array]:
    """A rule, 0 for what takes no part."""
    return lambda: only(ops, r.present, rule())


def weighed(
    ops: Any, logits: Array, labels: Array, g: Array, weight: Array | None, **options: Any
) -> tuple[Elements, Array]:
    """Elements, those of weight 0 out, and what the derivatives of each are multiplied by."""
    active = None if weight is None else (ops.zeros_like(g) == 0) & (weight != 0)
    r = laid_out(ops, logits, labels, active=active, **options)
    return r, validated(r, g if weight is None else g * weight)


def validated(r: Elements, y: Array) -> Array:
    """NaN in place of what belongs to a target that is none."""
    return y if r.validity is None else y * r.validity


def focal_slope(ops: Any, r: Elements, f: Focal, gamma: Array | float) -> Array:
    """b p^γ (p + γ (1 - p) v) - a (1 - p)^γ (1 - p + γ p u)."""
    of_a = f.of_u * (f.q + gamma * product(ops, f.p, f.u))
    of_b = f.of_v * (f.p + gamma * product(ops, f.q, f.v))
    return r.b * of_b - r.a * of_a


def focal_bend(ops: Any, r: Elements, f: Focal, gamma: Array | float) -> Array:
    """The slope of that."""
    pu, qv = product(ops, f.p, f.u), product(ops, f.q, f.v)
    both_sides = f.p * f.q * (1.0 + 2.0 * gamma)
    of_a = both_sides - gamma * f.q * pu + gamma * gamma * f.p * pu
    of_b = both_sides - gamma * f.p * qv + gamma * gamma * f.q * qv
    return r.a * f.of_u * of_a + r.b * f.of_v * of_b


def hvp(ops: Any, logits: Array, labels: Array, *, vector: Array, dtype: Any, **given: Any) -> Array:
    """Second derivatives by each logit, times a vector, which is not looked at where nothing takes part."""
    r, bend = second_order(ops, logits, labels, dtype=dtype, **given)
    return only(ops, r.present, bend * ops.astype(vector, dtype, copy=False))


def hessian_diagonal(ops: Any, logits: Array, labels: Array, **given: Any) -> Array:
    """Second derivatives of g · loss by each logit."""
    r, bend = second_order(ops, logits, labels, **given)
    return only(ops, r.present, bend)


def second_order(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    weight: Array | None = None,
    gamma: Array | float | None = None,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    axis: int,  # noqa: ARG001
    **options: Any,
) -> tuple[Elements, Array]:
    """The elements, and (a + b) p (1 - p) of each, or what a focal power makes of it."""
    r, factor = weighed(ops, logits, labels, g, weight, **options)
    t = tails(ops, r.x)
    bend = (r.a + r.b) * t.e * t.larger * t.larger if gamma is None else focal_bend(ops, r, focal(ops, t, gamma), gamma)
    return r, factor * bend
