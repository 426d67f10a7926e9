"""The loss that entmax is the gradient of, against a label or a distribution q, one value a row; and its derivatives.

In the notation of ``entmax`` the loss of a distribution is a sum of terms that are not negative,

    Σ_i T(q_i, p_i)        T = [q (v_q - v) / β - v (q - p)] / a        v_q = q^β, v = 1 + βy, a = 1 + β = α

where v < 0 off the support says how far below the threshold the logit is. For a class with q = 0 it is v p / a. Where q
and p are near each other the difference is written with e = 1 - p/q and D = (v_q / v - 1) / β,

    T = q v (β D² μ(βD) + e² μ(-e)) / a

which is the Kullback-Leibler term q log(q/p) - q + p for β = 0, and (q - p)² / 2 for β = 1. Labels that sum to Q count
Q times as much as the distribution q / Q. The gradient is Q p - q by the logits, and the Hessian Q times the Jacobian
of entmax.
"""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from softxent.formulas import loss_rows
from softxent.formulas.entmax import Shares, defect, deformed, relative, shares
from softxent.formulas.logits import masked, masked_temperature
from softxent.formulas.loss_rows import by_weight, class_of, validated, validity_of, weighted
from softxent.formulas.marks import whole_rows
from softxent.formulas.participation import both, constant_where_idle, only, present_rows, weighing
from softxent.formulas.targets import divisor, product

Array = Any

masses = loss_rows.masses  # what the rows count for in a mean

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "labels", "alpha", "sample_weight"}, "g_mass": {"sample_weight"}}


class Rows(NamedTuple):
    """Logits, their entmax, and the target of every row. Where nothing takes part, harmless numbers stand in."""

    x: Array
    alpha: Array | float
    d: Shares
    kept: Array | None  # classes that take part
    present: Array | None  # rows that take part
    validity: Array | None  # 1, and NaN for a label that is none; None if that is known
    label: Array | None  # None if the target is a distribution
    labels: Array | None  # the distribution as it was given; None if the target is a label
    q: Array | None  # the same, divided by its sum
    amount: Array | float  # that sum, Q


@whole_rows
def value(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    dtype: Any,
    **options: Any,
) -> tuple[Array, Array]:
    """Loss of each row, and its mass in the mean ("weight" or "count", by ``mass``)."""
    if logits.shape[axis] == 0:
        nothing = ops.sum(ops.astype(logits, dtype, copy=False), axis=axis, keepdims=True)
        return nothing, ops.zeros_like(nothing)
    steady = constant_where_idle(ops, sample_weight)
    r = laid_out(ops, logits, labels, steady=steady, axis=axis, dtype=dtype, **options)
    return weighted(ops, r.present, None, watched(ops, r, axis), sample_weight, mass)


def laid_out(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    alpha: Array | float,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    hard: bool,
    in_bounds: bool = False,
    axis: int,
    dtype: Any,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
) -> Rows:
    """The rows of a call; ``active`` leaves out further ones, and what ``steady`` makes constants has no derivative."""
    x = ops.astype(logits, dtype, copy=False)
    present = both(active, present_rows(ops, labels, where, ignore_index, hard=hard, axis=axis))
    kept = both(where, present)
    x = steady(x if kept is None else masked(ops, x, kept, axis))
    alpha = steady(masked_temperature(ops, alpha, kept, axis))
    label = given = q = validity = None
    amount: Any = 1.0
    if hard:
        label, valid = class_of(ops, labels, present, ops.classes(x, axis), in_bounds=in_bounds)
        validity = validity_of(ops, labels, valid, present, dtype)
    else:
        given = ops.astype(labels, dtype, copy=False)
        given = steady(ops.where(present, given, 0.0))
        amount = ops.sum(given, axis=axis, keepdims=True)
        q = given / divisor(ops, amount)
    return Rows(x, alpha, shares(ops, x, alpha, axis), kept, present, validity, label, given, q, amount)


# -- the loss ---------------------------------------------------------------------------------------------------------


def per_unit(ops: Any, r: Rows, axis: int) -> Array:
    """The loss of a row per unit of sample weight, which nobody is to differentiate."""
    p, y, beta = r.d.p, r.d.y, r.alpha - 1.0
    log_p = ops.log(ops.where(ops.equal(p, 0), 1.0, p))
    absent = p * ops.exp(beta * log_p) / r.alpha  # what a class costs of which the target has nothing
    if r.label is not None:
        p_label, y_label = (ops.take_along_axis(part, r.label, axis=axis) for part in (p, y))
        rest = ops.sum(ops.put_along_axis(absent, r.label, 0.0, axis=axis), axis=axis, keepdims=True)
        one = ops.ones_like(p_label)
        return validated(r, rest + term(ops, one, p_label, y_label, missing(ops, r, axis), beta))
    nothing = ops.equal(r.q, 0)
    q = ops.where(nothing, 1.0, r.q)
    terms = term(ops, q, p, y, (q - p) / q, beta)
    return product(ops, r.amount, ops.sum(ops.where(nothing, absent, terms), axis=axis, keepdims=True))


def missing(ops: Any, r: Rows, axis: int) -> Array:
    """What the probability of the label lacks to 1."""
    return ops.sum(ops.put_along_axis(r.d.p + 0.0, r.label, 0.0, axis=axis), axis=axis, keepdims=True)


def term(ops: Any, q: Array, p: Array, y: Array, e: Array, beta: Array | float) -> Array:
    """T of q > 0 and p, with e = 1 - p/q; infinite where the logit is."""
    near, lost = (e > -3.0) & (e < 0.75), y == -inf
    y = ops.where(near, deformed(ops, ops.log(ops.where(near, p, 1.0)), beta), ops.where(lost, 0.0, y))
    v = 1.0 + beta * y
    e_near = ops.where(near, e, 0.0)
    log_ratio = -ops.log1p(-e_near)
    d = deformed(ops, log_ratio, beta)
    close = q * v * (beta * d * d * defect(ops, beta * d) + e_near * e_near * defect(ops, -e_near))
    apart = q * (deformed(ops, ops.log(q), beta) - y) - v * (q - p)
    return ops.where(lost, inf, ops.where(near, close, apart) / (1.0 + beta))


def watched(ops: Any, r: Rows, axis: int) -> Array:
    """The loss with first and second derivatives, by the trapezoidal rule over a step that is 0."""
    loss = ops.stop_gradient(per_unit(ops, r, axis))
    operands = {"logits": r.x, "labels": r.labels, "alpha": r.alpha}
    for name, operand in operands.items():
        if operand is None or isinstance(operand, float):
            continue
        constant = ops.stop_gradient(operand)
        if constant is operand:
            continue
        slope = RULES[name](ops, r, axis)
        mean = 0.5 * (slope + ops.stop_gradient(slope))
        if name == "logits":
            lost = constant == -inf  # differentiated as such: it has no difference to itself
            step = mean * (ops.where(lost, 0.0, operand) - ops.where(lost, 0.0, constant))
            step = ops.where(lost, product(ops, ops.stop_gradient(slope), ops.where(lost, operand, 0.0)), step)
        else:
            step = mean * (operand - constant)
        step = validated(r, step)
        loss = loss + (step if name == "alpha" else ops.sum(step, axis=axis, keepdims=True))
    return loss


# -- derivatives per unit of sample weight ----------------------------------------------------------------------------


def by_logits(ops: Any, r: Rows, axis: int) -> Array:
    """Q p - q; what p lacks to 1 at a label."""
    p = r.d.p
    if r.label is None:
        return only(ops, r.kept, r.amount * p - r.labels)
    found = ops.put_along_axis(p + 0.0, r.label, 0.0 - missing(ops, r, axis), axis=axis)
    return only(ops, r.kept, found)


def by_labels(ops: Any, r: Rows, axis: int) -> Array:
    """(v_q - v) / β, and what the sum of the labels brings; 0 where it is infinite."""
    beta, nothing, gone = r.d.beta, ops.equal(r.q, 0), ops.equal(r.d.p, 0)
    y_q = deformed(ops, ops.log(ops.where(nothing, 1.0, r.q)), beta)
    y_p = deformed(ops, ops.log(ops.where(gone, 1.0, r.d.p)), beta)
    powers = r.d.p * (1.0 + beta * y_p) - r.q * (1.0 + beta * y_q)
    y_lead, x_lead = (ops.take_along_axis(part, r.d.lead, axis=axis) for part in (y_p, r.x))
    y_p = ops.where(gone, y_lead + (r.x - x_lead), y_p)
    lost = y_p == -inf
    ratio = ops.where(nothing, lowest(ops, beta), y_q) - ops.where(lost, 0.0, y_p)
    level = ops.sum(powers, axis=axis, keepdims=True) / (1.0 + beta)
    return only(ops, r.present, ops.where(lost | ops.isinf(ratio), 0.0, ratio + level))


def lowest(ops: Any, beta: Array | float) -> Array | float:
    """(0^β - 1) / β."""
    if isinstance(beta, float):
        return -1.0 / beta if beta > 0.0 else -inf
    return ops.where(beta > 0, -1.0 / ops.where(beta > 0, beta, 1.0), -inf)


def by_alpha(ops: Any, r: Rows, axis: int) -> Array:
    """Σ ω(q) - ω(p), ω being the derivative of (t^α - t) / (α (α - 1)) by α."""
    beta = r.d.beta
    log_p = ops.log(ops.where(ops.equal(r.d.p, 0), 1.0, r.d.p))
    if r.label is None:
        log_q = ops.log(ops.where(ops.equal(r.q, 0), 1.0, r.q))
        change = steepening(ops, r.q, log_q, beta) - steepening(ops, r.d.p, log_p, beta)
        return r.amount * ops.sum(change, axis=axis, keepdims=True)
    lacking = missing(ops, r, axis)
    lost = lacking >= 1
    own = ops.where(lost, 0.0, 1.0 - lacking)
    own = steepening(ops, own, ops.log1p(-ops.where(lost, 0.0, lacking)), beta)
    every = ops.put_along_axis(steepening(ops, r.d.p, log_p, beta), r.label, own, axis=axis)
    return 0.0 - ops.sum(every, axis=axis, keepdims=True)


def steepening(ops: Any, t: Array, log_t: Array, beta: Array) -> Array:
    """ω(t) = t (y' - y / a) / a, with y = (t^β - 1) / β and y' its derivative by β."""
    y, ratio = deformed(ops, log_t, beta), 0.0 - deformed(ops, -log_t, beta)
    rise = y * (ratio * defect(ops, -beta * ratio))
    return t * (rise - y / (1.0 + beta)) / (1.0 + beta)


RULES: dict[str, Callable[[Any, Rows, int], Array]] = {"logits": by_logits, "labels": by_labels, "alpha": by_alpha}


# -- derivatives of rows ----------------------------------------------------------------------------------------------


@whole_rows
def pullback(
    ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], axis: int, **given: Any
) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, given["dtype"]) for _ in by)
    _, rules = differentiated(ops, logits, labels, axis=axis, **given)
    return tuple(rules[name]() for name in by)


@whole_rows
def value_and_pullback(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    by: tuple[str, ...],
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[Array, ...]:
    """The loss of each row and its mass, and the derivatives."""
    options: dict[str, Any] = {"sample_weight": sample_weight, "mass": mass, "axis": axis}
    if logits.shape[axis] == 0:
        cotangents = {name: given.pop(name) for name in COTANGENTS}
        found = value(ops, logits, labels, **options, **given)
        return *found, *pullback(ops, logits, labels, by=by, **options, **cotangents, **given)
    r, rules = differentiated(ops, logits, labels, **options, **given)
    results = weighted(ops, r.present, None, watched(ops, r, axis), sample_weight, mass)
    return *results, *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    g_mass: Array,
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    **options: Any,
) -> tuple[Rows, dict[str, Callable[[], Array]]]:
    """The rows, and a rule for each operand that there is a derivative by."""
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, **options)

    def by_sample_weight() -> Array:
        every = laid_out(ops, logits, labels, axis=axis, **options)
        return by_weight(ops, every.present, None, watched(ops, every, axis), g, g_mass, sample_weight, mass)

    def by_operand(name: str) -> Callable[[], Array]:
        kept = r.kept if name == "logits" else r.present
        return lambda: only(ops, kept, factor * RULES[name](ops, r, axis))

    return r, {**{name: by_operand(name) for name in RULES}, "sample_weight": by_sample_weight}


def weighed(
    ops: Any, logits: Array, labels: Array, g: Array, sample_weight: Array | None, **options: Any
) -> tuple[Rows, Array]:
    """Rows, those of sample weight 0 out, and what the derivatives of each are multiplied by."""
    active, g = weighing(ops, g, sample_weight)
    r = laid_out(ops, logits, labels, active=active, **options)
    return r, validated(r, g)


@whole_rows
def hvp(ops: Any, logits: Array, labels: Array, *, vector: Array, axis: int, dtype: Any, **given: Any) -> Array:
    """g Q (diag(s) - s sᵀ / Σ s) times a vector, which is not looked at where nothing takes part."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, dtype)
    r, factor = second_order(ops, logits, labels, axis=axis, dtype=dtype, **given)
    t = only(ops, r.kept, ops.astype(vector, dtype, copy=False))
    return only(ops, r.kept, factor * r.d.s * relative(ops, t, r.d, axis))


@whole_rows
def hessian_diagonal(ops: Any, logits: Array, labels: Array, *, axis: int, dtype: Any, **given: Any) -> Array:
    """g Q s_i (1 - s_i / Σ s)."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, dtype)
    r, factor = second_order(ops, logits, labels, axis=axis, dtype=dtype, **given)
    s, lead = r.d.s, r.d.lead
    rest = ops.sum(ops.put_along_axis(s + 0.0, lead, 0.0, axis=axis), axis=axis, keepdims=True)
    lacking = ops.put_along_axis(1.0 - s / r.d.total, lead, rest / r.d.total, axis=axis)
    return only(ops, r.kept, factor * s * lacking)


def second_order(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    sample_weight: Array | None = None,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    **options: Any,
) -> tuple[Rows, Array]:
    """The rows, and what the Jacobian of entmax is multiplied by in each."""
    r, factor = weighed(ops, logits, labels, g, sample_weight, **options)
    return r, factor * r.amount
