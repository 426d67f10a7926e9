"""Cross-entropy of logits, one value a row, against a label or a distribution, with every option; and its derivatives.

In the notation of ``shift``, the loss of label t is log1p(R) + (x_a - x_t): two terms that are not negative, so that no
digit cancels, and so are all terms of the general loss of a row,

    s (Σ_c a_c (-log p_c) + λ W lse²),        a = w · q',

of a distribution q smoothed to q'. With A = Σ a its derivative by the logits is s (A p - a + 2 λ W lse p), of which the
first two terms are -s w (1 - p_t) at a label t, and its Hessian s ((A + 2 λ W lse) (diag(p) - p pᵀ) + 2 λ W p pᵀ).
"""

from collections.abc import Callable
from math import inf
from typing import Any

from softxent.formulas import loss_rows
from softxent.formulas.by_products import entropy, margin
from softxent.formulas.costs import PARAMETERS, Cost
from softxent.formulas.log_softmax import less_share
from softxent.formulas.logits import CapDerivatives, by_temperature, cap_derivatives, over, tempered
from softxent.formulas.logsumexp import log_of_sum
from softxent.formulas.loss_rows import (
    AgainstLabel,
    Rows,
    beside,
    by_weight,
    cost_of,
    label_of,
    lacking_of,
    laid_out,
    likelihood,
    opposed,
    per_unit,
    share_of,
    target_log_probability,
    times,
    validated,
    weighted,
)
from softxent.formulas.participation import both, constant_where_idle, only, only_present, weighing
from softxent.formulas.shift import Shifted, centred, probabilities, shifted, shortfall, spread, variances
from softxent.formulas.targets import at_label, divisor, product, smoothing_pullbacks

Array = Any

masses = loss_rows.masses  # what the rows count for in a mean

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {
        "logits",
        "labels",
        "weight",
        "alpha",
        "sample_weight",
        "label_smoothing",
        "smoothing_prior",
        "temperature",
        "softcap",
        "z_loss",
        *PARAMETERS,
    },
    "g_mass": {"labels", "weight", "sample_weight"},
}


def value(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    sample_weight: Array | None = None,
    z_loss: Array | float | None = None,
    mass: str,
    aux: tuple[str, ...] = (),
    axis: int,
    dtype: Any,
    **options: Any,
) -> tuple[Array, ...]:
    """Loss of each row, its mass in the mean ("weight" or "count", by ``mass``), and the by-products in ``aux``."""
    if logits.shape[axis] == 0:
        nothing = ops.sum(ops.astype(logits, dtype, copy=False), axis=axis, keepdims=True)
        return (nothing, ops.zeros_like(nothing), *(nothing != 0 if name == "correct" else nothing for name in aux))
    steady = constant_where_idle(ops, sample_weight)
    r = laid_out(ops, logits, labels, steady=steady, axis=axis, dtype=dtype, **options)
    c = opposed(ops, r, axis)
    loss, penalty = per_unit(ops, r, c, steady(z_loss), axis)
    active = r.present if sample_weight is None else both(ops.not_equal(sample_weight, 0), r.present)

    by_products: dict[str, Callable[[], Array]] = {
        "lse": lambda: log_of_sum(ops, r.x, axis, r.temperature),
        "z_loss": lambda: times(sample_weight, penalty),
        "entropy": lambda: entropy(ops, r.x, axis, r.temperature),
        "correct": lambda: both(
            at_label(ops, ops.argmax(r.x, axis=axis, keepdims=True), label_of(ops, r, axis)), r.valid
        ),
        "target_log_prob": lambda: target_log_probability(ops, r, c, axis),
        "margin": lambda: validated(r, margin(ops, r.x, label_of(ops, r, axis), axis, r.temperature)),
    }
    others = (only(ops, active, by_products[name]()) for name in aux)
    return *weighted(ops, r.present, r.share, loss, sample_weight, mass), *others


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(
    ops: Any, logits: Array, labels: Array, *, by: tuple[str, ...], axis: int, **given: Any
) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, given["dtype"]) for _ in by)
    _, rules = differentiated(ops, logits, labels, by=by, axis=axis, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    by: tuple[str, ...],
    sample_weight: Array | None = None,
    z_loss: Array | float | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[Array, ...]:
    """The loss of each row and its mass, and the derivatives: what they share is computed once."""
    options: dict[str, Any] = {"sample_weight": sample_weight, "z_loss": z_loss, "mass": mass, "axis": axis}
    if logits.shape[axis] == 0:
        cotangents = {name: given.pop(name) for name in COTANGENTS}
        value_of = value(ops, logits, labels, **options, **given)
        return *value_of, *pullback(ops, logits, labels, by=by, **options, **cotangents, **given)
    (r, c), rules = differentiated(ops, logits, labels, by=by, **options, **given)
    loss, _ = per_unit(ops, r, c, z_loss, axis)
    return *weighted(ops, r.present, r.share, loss, sample_weight, mass), *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    g_mass: Array,
    by: tuple[str, ...],
    sample_weight: Array | None = None,
    z_loss: Array | float | None = None,
    mass: str,
    axis: int,
    dtype: Any,
    aux: tuple[str, ...] = (),  # noqa: ARG001 - by-products are not pulled back
    **options: Any,
) -> tuple[tuple[Rows, Any], dict[str, Callable[[], Array]]]:
    """The rows, opposed to their targets, and a rule for each operand that there is a derivative by."""
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, dtype=dtype, **options)
    g_share = 0.0 if mass == "count" else g_mass if sample_weight is None else g_mass * sample_weight
    c = opposed(ops, r, axis)
    rules: dict[str, Callable[[], Array]] = {}
    by_lse = None
    if z_loss is not None:
        log_z = log_of_sum(ops, r.x, axis, r.temperature) + 0.0 * c.log_total  # NaN in a row without derivatives
        square = factor * log_z * log_z
        g_share = g_share + z_loss * square
        rules["z_loss"] = lambda: only(ops, r.present, share_of(ops, r, square) * square)
        by_lse = of_normaliser(ops, r, log_z, factor, z_loss)
    if {"logits", "temperature", "softcap"} & set(by):
        rules |= pulled_to_logits(ops, r, c, factor, by_lse, axis, options.get("softcap"))
    if {"labels", "weight", "alpha", "label_smoothing", "smoothing_prior"} & set(by):
        rules |= pulled_to_target(ops, r, c, factor, g_share, axis, **options)
    cost = r.cost
    if cost is not None:
        rules |= dict.fromkeys(PARAMETERS, lambda: by_parameter(ops, r, cost(likelihood(ops, c, axis)), factor, axis))
    rules["sample_weight"] = lambda: by_sample_weight(
        ops, logits, labels, g, g_mass, sample_weight, z_loss, mass=mass, axis=axis, dtype=dtype, **options
    )
    return (r, c), rules


def weighed(
    ops: Any, logits: Array, labels: Array, g: Array, sample_weight: Array | None, **options: Any
) -> tuple[Rows, Array]:
    """Rows, those of sample weight 0 out, and what the derivatives of each are multiplied by."""
    active, g = weighing(ops, g, sample_weight)
    r = laid_out(ops, logits, labels, active=active, **options)
    return r, validated(r, g)


def pulled_to_logits(
    ops: Any, r: Rows, c: Any, factor: Array, by_lse: Array | None, axis: int, softcap: Array | float | None
) -> dict[str, Callable[[], Array]]:
    """Derivatives by what makes the final logits."""
    dz, own = against(ops, r, c, factor, by_lse, axis)
    by_capped = over(dz, r.heat)
    cap = cap_slopes(ops, r, softcap)

    def by_heat() -> Array:
        # Under a z-loss dz adds up to 2 λ W lse, so that it matters what the gaps refer to.
        offset: Any = 0.0 if by_lse is None else by_lse * tempered(ops, c.reference, r.temperature)
        if isinstance(c, AgainstLabel):  # whose own gap has a derivative of its own
            gaps = ops.put_along_axis(tempered(ops, r.x - c.reference, r.temperature), r.label, -inf, axis=axis)
            offset = offset + own * ops.where(c.gap == -inf, 0.0, c.gap)
        else:
            gaps = c.gaps
        return only(ops, r.present, by_temperature(ops, dz, r.capped, gaps, r.heat, axis, offset=offset))

    rules = {
        "logits": lambda: by_capped if cap is None else cap.pulled(by_capped),
        "temperature": by_heat,
    }
    if cap is not None:
        rules["softcap"] = lambda: ops.sum(by_capped * cap.by_cap, axis=axis, keepdims=True)
    return rules


def against(
    ops: Any, r: Rows, c: AgainstLabel | Shifted, factor: Array, by_lse: Array | None, axis: int
) -> tuple[Array, Array | None]:
    """A p - a + 2 λ W lse p, times the factor, 0 for what takes no part; and its entry at the label, if it has one."""
    slope = None if r.cost is None else r.cost(likelihood(ops, c, axis)).slope
    if not isinstance(c, AgainstLabel):
        p = probabilities(ops, c, axis)
        dz = factor * less_share(ops, -times(slope, costing(ops, r, c)), c, p, axis)
        return only(ops, r.kept, dz if by_lse is None else dz + by_lse * p), None
    own = times(slope, factor if r.worth is None else factor * r.worth)
    at = 0.0 - own * lacking_of(ops, c)
    if by_lse is not None:
        at = at + by_lse * (c.own / c.total)
        own = own + by_lse
    dz = ops.put_along_axis(beside(ops, c, own), r.label, at, axis=axis)
    return only(ops, r.kept, dz), at


def cap_slopes(ops: Any, r: Rows, softcap: Array | float | None) -> CapDerivatives | None:
    """Derivatives of the soft cap, if there is one."""
    return None if softcap is None else cap_derivatives(ops, r.given, softcap)


def costing(ops: Any, r: Rows, s: Shifted) -> Array:
    """a, held constant where it is 0 at an infinite cost: it contributes nothing there, to every order."""
    constant = ops.stop_gradient(r.a)
    return r.a if constant is r.a else ops.where(ops.equal(constant, 0) & (s.gaps == -inf), constant, r.a)


def of_normaliser(ops: Any, r: Rows, log_z: Array, factor: Array, z_loss: Array | float) -> Array:
    """2 λ W lse, times the factor: the derivative of the z-loss by the normaliser."""
    return 2.0 * factor * z_loss * share_of(ops, r, log_z) * log_z


def pulled_to_target(
    ops: Any,
    r: Rows,
    c: Any,
    factor: Array,
    g_share: Array | float,
    axis: int,
    *,
    where: Array | None = None,
    weight: Array | None = None,
    alpha: Array | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    **_: Any,
) -> dict[str, Callable[[], Array]]:
    """Derivatives by what makes the target: the cost by a, 0 where it is infinite, and ``g_share`` by W."""
    cost = cost_of(ops, r, c, axis)
    by_a = validated(r, factor * ops.where(ops.isinf(cost), 0.0, cost))
    if r.a is None:  # a label and nothing else: its weights

        def of_label(by: Array) -> Array:
            return only(ops, r.present, ops.put_along_axis(ops.zeros_like(r.x), r.label, by, axis=axis))

        def by_class(factor: Array | None) -> Array:
            return by_a if factor is None else by_a * ops.take_along_axis(factor, r.label, axis=axis)

        return {"weight": lambda: of_label(by_class(alpha) + g_share), "alpha": lambda: of_label(by_class(weight))}
    by_weighted = by_a if alpha is None else product(ops, by_a, alpha)
    by_smoothed = by_weighted if weight is None else product(ops, by_weighted, weight)
    total = divisor(ops, ops.sum(r.q, axis=axis, keepdims=True))
    rules: dict[str, Callable[[], Array]] = {}
    if label_smoothing is not None:
        rules = smoothing_pullbacks(
            ops, by_smoothed, r.q, label_smoothing, where=where, prior=smoothing_prior, axis=axis
        )

    def by_labels() -> Array:
        kept: Any = 1.0 if label_smoothing is None else 1.0 - label_smoothing
        by_q = kept * by_smoothed
        return by_q if weight is None else by_q + g_share * (weight - r.share) / total

    rules |= {
        "labels": by_labels,
        "weight": lambda: r.target * by_weighted + g_share * (r.q / total),
        "alpha": lambda: (r.target if weight is None else product(ops, r.target, weight)) * by_a,
    }
    return {name: only_present(ops, r, rule) for name, rule in rules.items()}


def by_parameter(ops: Any, r: Rows, cost: Cost, factor: Array, axis: int) -> Array:
    """Derivative by the parameter of a cost, 0 where that is infinite."""
    by_cost = ops.where(ops.isinf(cost.of), 0.0, cost.by_parameter)
    if r.a is None:
        return only(ops, r.present, factor * times(r.worth, by_cost))
    return only(ops, r.present, factor * ops.sum(r.a * by_cost, axis=axis, keepdims=True))


def by_sample_weight(
    ops: Any,
    logits: Array,
    labels: Array,
    g: Array,
    g_mass: Array,
    sample_weight: Array,
    z_loss: Array | float | None,
    *,
    mass: str,
    **options: Any,
) -> Array:
    """The loss of the row, and its W for the mass; also at a weight of 0, where they are finite."""
    steady = constant_where_idle(ops, sample_weight)
    r = laid_out(ops, logits, labels, steady=steady, **options)
    loss, _ = per_unit(ops, r, opposed(ops, r, options["axis"]), steady(z_loss), options["axis"])
    return by_weight(ops, r.present, r.share, loss, g, g_mass, sample_weight, mass)


def hvp(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    vector: Array,
    z_loss: Array | float | None = None,
    axis: int,
    **given: Any,
) -> Array:
    """The Hessian of g · loss by the logits, times a vector."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, given["dtype"])
    r, s, p, factor, of_spread, by_lse, bent = second_order(ops, logits, labels, z_loss=z_loss, axis=axis, **given)
    v = only(ops, r.kept, ops.astype(vector, p.dtype, copy=False))
    cap = cap_slopes(ops, r, given.get("softcap"))
    t = over(v if cap is None else cap.pulled(v), r.heat)
    hz = of_spread * spread(ops, t, p, s.lead, axis)
    if z_loss is not None:
        of_square = 2.0 * factor * z_loss * share_of(ops, r, factor)
        hz = hz + of_square * p * ops.sum(p * t, axis=axis, keepdims=True)
    if bent is not None:
        t, mean = centred(ops, t, p, s.lead, axis)
        hz = hz + less_share(ops, bent * (t - mean), s, p, axis)
    hx = over(hz, r.heat)
    if cap is not None:
        dz, _ = against(ops, r, opposed(ops, r, axis), factor, by_lse, axis)
        hx = cap.pulled(hx + cap.curvature * over(dz, r.heat) * v)
    return only(ops, r.kept, hx)


def hessian_diagonal(
    ops: Any, logits: Array, labels: Array, *, z_loss: Array | float | None = None, axis: int, **given: Any
) -> Array:
    """Second derivatives of g · loss by each logit."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, given["dtype"])
    r, s, p, factor, of_spread, by_lse, bent = second_order(ops, logits, labels, z_loss=z_loss, axis=axis, **given)
    hz = of_spread * variances(ops, p, s.lead, shortfall(s), axis)
    if z_loss is not None:
        hz = hz + 2.0 * factor * z_loss * share_of(ops, r, factor) * p * p
    if bent is not None:
        lacking = ops.put_along_axis(1.0 - p, s.lead, shortfall(s), axis=axis)
        others = ops.sum(bent, axis=axis, keepdims=True) - bent
        hz = hz + p * p * others + lacking * lacking * bent
    hx = over(over(hz, r.heat), r.heat)
    cap = cap_slopes(ops, r, given.get("softcap"))
    if cap is not None:
        dz, _ = against(ops, r, opposed(ops, r, axis), factor, by_lse, axis)
        hx = cap.pulled(cap.pulled(hx) + cap.curvature * over(dz, r.heat))
    return only(ops, r.kept, hx)


def second_order(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    sample_weight: Array | None = None,
    z_loss: Array | float | None,
    axis: int,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    aux: tuple[str, ...] = (),  # noqa: ARG001 - only the loss is differentiated
    **options: Any,
) -> tuple[Rows, Shifted, Array, Array, Array, Array | None, Array | None]:
    """What both need of rows and shifted logits, and what they multiply.

    These are p, the factor, what diag(p) - p pᵀ is multiplied by, 2 λ W lse, and a · bend of the costs.
    """
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, **options)
    s = shifted(ops, r.x, axis, r.temperature)
    bent: Any = None
    if r.cost is not None:
        cost = r.cost(likelihood(ops, s, axis))
        a = costing(ops, r, s) if r.a is not None else of_label_alone(ops, r, axis)
        all_a = ops.sum(a * cost.slope, axis=axis, keepdims=True)
        bent = factor * a * cost.bend
    elif r.a is None:
        all_a = share_of(ops, r, factor)
    else:
        all_a = ops.sum(costing(ops, r, s), axis=axis, keepdims=True)
    of_spread, by_lse = factor * all_a, None
    if z_loss is not None:
        by_lse = of_normaliser(ops, r, log_of_sum(ops, r.x, axis, r.temperature), factor, z_loss)
        of_spread = of_spread + by_lse
    return r, s, probabilities(ops, s, axis), factor, of_spread, by_lse, bent


def of_label_alone(ops: Any, r: Rows, axis: int) -> Array:
    """What each class's cost is multiplied by where the target is a label."""
    one = ops.ones_like(ops.take_along_axis(r.x, r.label, axis=axis))
    return ops.put_along_axis(ops.zeros_like(r.x), r.label, times(r.worth, one), axis=axis)
