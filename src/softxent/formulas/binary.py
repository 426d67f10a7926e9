"""Binary cross-entropy and focal loss of logits, one value an element, with every option; and their derivatives.

With u = -log sigmoid(x) and v = -log sigmoid(-x), an element of target y costs

    w (a u (1 - p)^γ + b v p^γ),        a = P α y',  b = (1 - α) (1 - y'),

y' being the smoothed target, p = sigmoid(x), P the weight of positive targets; α, 1 - α and the powers are there for
the focal loss only. All of it is made of e = exp(-abs(x)). Without powers

    a u + b v = (a + b) log1p(e) + c x,        c = b for x > 0, -a elsewhere,

two terms that are not negative, and the slope is c - sign(x) (a + b) e / (1 + e). The powers are exp(-γ v) and
exp(-γ u), so that nothing of them is lost in either tail. What depends on the sign of x is made as in ``sigmoid``.
"""

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

from softxent.formulas.loss_rows import finite_where, mass_of, times, validated, weighted
from softxent.formulas.participation import both, constant_where_idle, only, only_present, weighing
from softxent.formulas.sigmoid import bump_of, decay
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
    positive: Array  # y'
    negative: Array  # 1 - y'
    a: Array  # what multiplies the cost of a positive
    b: Array  # what multiplies the cost of a negative
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
    return weighted(ops, r.present, None, per_unit(ops, r, focal(ops, r, steady(gamma))), weight, mass)


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
    positive, negative, total = y, 1.0 - y, None
    if label_smoothing is not None:  # both as sums: 1 - y' would not have all digits of a small ε
        kept, uniform = 1.0 - steady(label_smoothing), 0.5 * steady(label_smoothing)
        positive, negative = kept * positive + uniform, kept * negative + uniform
    a, b = positive, negative
    if alpha is not None:
        a, b = steady(alpha) * a, (1.0 - steady(alpha)) * b
    if pos_weight is not None:
        a = steady(pos_weight) * a
    if a is not positive:
        total = a + b
    high, fall, e = decay(ops, x)
    c = high - y if a is y else high * b - (1.0 - high) * a  # the same, but the first takes fewer operations
    return Elements(present, validity, x, y, positive, negative, a, b, total, c, high, fall, e)


def taking_part(ops: Any, labels: Array, where: Array | None, ignore_index: Array | int | None) -> Array | None:
    """Which elements take part; None for all."""
    return where if ignore_index is None else both(where, ~equals(ops, labels, ignore_index))


def per_unit(ops: Any, r: Elements, f: Focal | None) -> Array:
    """The loss per unit of weight."""
    if f is None:
        return validated(r, times(r.total, ops.log1p(r.e)) + product(ops, r.c, r.x))
    return validated(r, product(ops, r.a * f.of_u, f.u) + product(ops, r.b * f.of_v, f.v))


def costs(ops: Any, r: Elements) -> tuple[Array, Array]:
    """u and v: the costs of a positive and a negative."""
    rest = ops.log1p(r.e)
    return rest - product(ops, 1.0 - r.high, r.x), rest + product(ops, r.high, r.x)


def focal(ops: Any, r: Elements, gamma: Array | float | None) -> Focal | None:
    """The powers as exponentials of the costs; None without them."""
    if gamma is None:
        return None
    u, v = costs(ops, r)
    low, larger = 1.0 - r.high, 1.0 / (1.0 + r.e)
    p, q = (r.high + low * r.e) * larger, (low + r.high * r.e) * larger
    power = gamma + ops.zeros_like(u)
    return Focal(u, v, p, q, ops.exp(-product(ops, power, v)), ops.exp(-product(ops, power, u)), gamma)


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    rules, _ = differentiated(ops, logits, labels, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], g: Array, g_mass: Array, **given: Any
) -> tuple[Array, ...]:
    """The one and the other."""
    rules, results = differentiated(ops, logits, labels, g=g, g_mass=g_mass, **given)
    return *results(), *(rules[name]() for name in by)


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
    axis: int,
    dtype: Any,
    **options: Any,
) -> tuple[dict[str, Callable[[], Array]], Callable[[], tuple[Array, Array]]]:
    """A rule for each operand that there is a derivative by, and the value."""
    r, factor = weighed(ops, logits, labels, g, weight, dtype=dtype, **options)
    f = focal(ops, r, gamma)
    pos_weight, alpha = options.get("pos_weight"), options.get("alpha")
    of_negative = None if alpha is None else 1.0 - alpha

    def results() -> tuple[Array, Array]:
        if weight is None:  # nothing more is known of the elements
            return weighted(ops, r.present, None, per_unit(ops, r, f), weight, mass)
        given = {"weight": weight, "gamma": gamma, "mass": mass, "axis": axis, "dtype": dtype}
        return value(ops, logits, labels, **given, **options)

    def per_target() -> tuple[Array, Array]:
        u, v = costs(ops, r) if f is None else (f.u * f.of_u, f.v * f.of_v)
        return ops.where(ops.isinf(u), 0.0, u), ops.where(ops.isinf(v), 0.0, v)

    def by_smoothed() -> Array:
        u, v = per_target()
        return factor * (times(pos_weight, times(alpha, u)) - times(of_negative, v))

    def by_alpha() -> Array:
        u, v = per_target()
        return factor * (times(pos_weight, r.positive * u) - r.negative * v)

    def by_gamma() -> Array:
        rest = ops.log1p(r.e)
        smaller_by_larger = product(ops, rest, rest - r.fall * r.x)
        return factor * (r.a * f.of_u + r.b * f.of_v) * -smaller_by_larger  # type: ignore[union-attr] # it is there

    def by_weight() -> Array:
        every = laid_out(ops, logits, labels, dtype=dtype, **options)
        loss = finite_where(ops, weight == 0, per_unit(ops, every, focal(ops, every, gamma)))
        return only(ops, every.present, g * loss if mass == "count" else g * loss + g_mass)

    rules = {
        "logits": lambda: factor * slope(ops, r, f),
        "labels": lambda: times(1.0 - options.get("label_smoothing", 0.0), by_smoothed()),
        "label_smoothing": lambda: (0.5 - r.y) * by_smoothed(),
        "pos_weight": lambda: factor * r.positive * times(alpha, per_target()[0]),
        "alpha": by_alpha,
        "gamma": by_gamma,
    }
    rules = {name: only_present(ops, r, rule) for name, rule in rules.items()}
    return {**rules, "weight": by_weight}, results


def weighed(
    ops: Any, logits: Array, labels: Array, g: Array, weight: Array | None, **options: Any
) -> tuple[Elements, Array]:
    """Elements, those of weight 0 out, and what the derivatives of each are multiplied by."""
    active, g = weighing(ops, g, weight)
    r = laid_out(ops, logits, labels, active=active, **options)
    return r, validated(r, g)


def slope(ops: Any, r: Elements, f: Focal | None) -> Array:
    """By the logit; with a power b p^γ (p + γ (1 - p) v) - a (1 - p)^γ (1 - p + γ p u)."""
    if f is None:
        return r.c + times(r.total, r.fall * (r.e / (1.0 + r.e)))
    of_a = f.of_u * (f.q + f.gamma * product(ops, f.p, f.u))
    of_b = f.of_v * (f.p + f.gamma * product(ops, f.q, f.v))
    return r.b * of_b - r.a * of_a


def bend(ops: Any, r: Elements, f: Focal | None) -> Array:
    """The slope of that."""
    both_sides = bump_of(r.e)  # p (1 - p)
    if f is None:
        return times(r.total, both_sides)
    pu, qv = product(ops, f.p, f.u), product(ops, f.q, f.v)
    both_sides = both_sides * (1.0 + 2.0 * f.gamma)
    of_a = both_sides - f.gamma * f.q * pu + f.gamma * f.gamma * f.p * pu
    of_b = both_sides - f.gamma * f.p * qv + f.gamma * f.gamma * f.q * qv
    return r.a * f.of_u * of_a + r.b * f.of_v * of_b


def hvp(ops: Any, logits: Array, labels: Array, *, vector: Array, dtype: Any, **given: Any) -> Array:
    """Second derivatives by each logit, times a vector, which is not looked at where nothing takes part."""
    r, curvature = second_order(ops, logits, labels, dtype=dtype, **given)
    return only(ops, r.present, curvature * ops.astype(vector, dtype, copy=False))


def hessian_diagonal(ops: Any, logits: Array, labels: Array, **given: Any) -> Array:
    """Second derivatives of g · loss by each logit."""
    r, curvature = second_order(ops, logits, labels, **given)
    return only(ops, r.present, curvature)


def second_order(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    weight: Array | None = None,
    gamma: Array | float | None = None,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    axis: int,  # noqa: ARG001 - each element is a row of its own
    **options: Any,
) -> tuple[Elements, Array]:
    """The elements, and the second derivative of each."""
    r, factor = weighed(ops, logits, labels, g, weight, **options)
    return r, factor * bend(ops, r, focal(ops, r, gamma))
