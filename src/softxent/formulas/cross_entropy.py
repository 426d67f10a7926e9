"""Cross-entropy of logits, one value a row, against a label or a distribution, with every option; and its derivatives.

In the notation of ``shift``, the loss of label t is log1p(R) + (x_a - x_t): two terms that are not negative, so that no
digit cancels, and so are all terms of the general loss of a row,

    s (Σ_c a_c (-log p_c) + λ W lse²),        a = w · q',

of a distribution q smoothed to q'. With A = Σ a its derivative by the logits is s (A p - a + 2 λ W lse p), of which the
first two terms are -s w (1 - p_t) at a label t, and its Hessian s ((A + 2 λ W lse) (diag(p) - p pᵀ) + 2 λ W p pᵀ).
"""

from collections.abc import Callable
from math import inf, nan
from typing import Any

from softxent.formulas.by_products import entropy, margin
from softxent.formulas.log_softmax import less_share, logarithms
from softxent.formulas.logits import CapDerivatives, by_temperature, cap_derivatives, over, tempered
from softxent.formulas.logsumexp import log_of_sum
from softxent.formulas.loss_rows import Rows, against_label, laid_out, per_unit
from softxent.formulas.participation import both, constant_where_idle, only
from softxent.formulas.shift import Shifted, probabilities, shifted, shortfall, spread, variances
from softxent.formulas.targets import at_label, divisor, product, smoothing_pullbacks

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {
        "logits",
        "labels",
        "weight",
        "sample_weight",
        "label_smoothing",
        "smoothing_prior",
        "temperature",
        "softcap",
        "z_loss",
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
    loss, penalty, target_log_p = per_unit(ops, r, steady(z_loss), axis)

    # What the row counts for. A weight of 0 has the loss for its derivative, if that is finite.
    active, share = r.present, r.share
    if sample_weight is not None:
        idle = sample_weight == 0
        active = both(~idle, r.present)
        loss = sample_weight * finite_where(ops, idle, loss)
        penalty = None if penalty is None else sample_weight * penalty
        share = ops.where(sample_weight < 0, nan, sample_weight * finite_where(ops, idle, share))
    counted = only(ops, active, ops.ones_like(r.share)) if mass == "count" else only(ops, r.present, share)

    by_products: dict[str, Callable[[], Array]] = {
        "lse": lambda: log_of_sum(ops, r.x, axis, r.temperature),
        "z_loss": lambda: penalty,
        "entropy": lambda: entropy(ops, r.x, axis, r.temperature),
        "correct": lambda: both(at_label(ops, ops.argmax(r.x, axis=axis, keepdims=True), r.label), r.valid),
        "target_log_prob": lambda: target_log_p,
        "margin": lambda: margin(ops, r.x, r.label, axis, r.temperature) * r.validity,
    }
    others = (only(ops, active, by_products[name]()) for name in aux)
    return only(ops, r.present, loss), counted, *others


def finite_where(ops: Any, idle: Array, y: Array) -> Array:
    """0 in place of what is not finite, in idle rows."""
    return ops.where(idle & ~ops.isfinite(y), 0.0, y)


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(
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
) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, dtype) for _ in by)
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, dtype=dtype, **options)
    g_share = 0.0 if mass == "count" else g_mass if sample_weight is None else g_mass * sample_weight
    s = shifted(ops, r.x, axis, r.temperature)
    rules: dict[str, Callable[[], Array]] = {}
    if z_loss is not None:
        log_z = normaliser(ops, r, s)
        square = factor * log_z * log_z
        g_share = g_share + z_loss * square
        rules["z_loss"] = lambda: only(ops, r.present, r.share * square)
    if {"logits", "temperature", "softcap"} & set(by):
        rules |= pulled_to_logits(ops, r, s, factor, z_loss, axis, options.get("softcap"))
    if {"labels", "weight", "label_smoothing", "smoothing_prior"} & set(by):
        rules |= pulled_to_target(ops, r, s, factor, g_share, axis, **options)
    rules["sample_weight"] = lambda: by_sample_weight(
        ops, logits, labels, g, g_mass, sample_weight, z_loss, mass=mass, axis=axis, dtype=dtype, **options
    )
    return tuple(rules[name]() for name in by)


def weighed(
    ops: Any, logits: Array, labels: Array, g: Array, sample_weight: Array | None, **options: Any
) -> tuple[Rows, Array]:
    """Rows, those of sample weight 0 out, and what the derivatives of each are multiplied by."""
    # The cotangent has the dimensions of rows, which a scalar weight has not.
    active = None if sample_weight is None else (ops.zeros_like(g) == 0) & (sample_weight != 0)
    r = laid_out(ops, logits, labels, active=active, **options)
    return r, (g if sample_weight is None else g * sample_weight) * r.validity


def pulled_to_logits(
    ops: Any, r: Rows, s: Shifted, factor: Array, z_loss: Array | float | None, axis: int, softcap: Array | float | None
) -> dict[str, Callable[[], Array]]:
    """Derivatives by what makes the final logits."""
    dz = by_final_logits(ops, r, s, probabilities(ops, s, axis), factor, z_loss, axis)
    by_capped = over(dz, r.heat)
    cap = cap_slopes(ops, r, softcap)
    # Under a z-loss dz adds up to 2 λ W lse, so that it matters what the gaps refer to.
    offset = 0.0
    if z_loss is not None and r.temperature is not None:
        offset = of_normaliser(ops, r, s, factor, z_loss) * tempered(ops, s.reference, r.temperature)
    rules = {
        "logits": lambda: by_capped if cap is None else cap.pulled(by_capped),
        "temperature": lambda: only(
            ops, r.present, by_temperature(ops, dz, r.capped, s.gaps, r.heat, axis, offset=offset)
        ),
    }
    if cap is not None:
        rules["softcap"] = lambda: ops.sum(by_capped * cap.by_cap, axis=axis, keepdims=True)
    return rules


def cap_slopes(ops: Any, r: Rows, softcap: Array | float | None) -> CapDerivatives | None:
    """Derivatives of the soft cap, if there is one."""
    return None if softcap is None else cap_derivatives(ops, r.given, softcap)


def by_final_logits(
    ops: Any, r: Rows, s: Shifted, p: Array, factor: Array, z_loss: Array | float | None, axis: int
) -> Array:
    """A p - a + 2 λ W lse p, times the factor; 0 for what takes no part."""
    by_lse = None if z_loss is None else of_normaliser(ops, r, s, factor, z_loss)
    if r.a is None:
        own = factor * r.share
        lacking = ops.where(
            at_label(ops, s.lead, r.label), shortfall(s), 1.0 - ops.take_along_axis(p, r.label, axis=axis)
        )
        at = 0.0 - own * lacking
        if by_lse is not None:
            at = at + by_lse * ops.take_along_axis(p, r.label, axis=axis)
            own = own + by_lse
        dz = ops.put_along_axis(own * p, r.label, at, axis=axis)
    else:
        dz = factor * less_share(ops, -costing(ops, r, s), s, p, axis)
        if by_lse is not None:
            dz = dz + by_lse * p
    return only(ops, r.kept, dz)


def costing(ops: Any, r: Rows, s: Shifted) -> Array:
    """a, held constant where it is 0 at an infinite cost: it contributes nothing there, to every order."""
    constant = ops.stop_gradient(r.a)
    return r.a if constant is r.a else ops.where((constant == 0) & (s.gaps == -inf), constant, r.a)


def of_normaliser(ops: Any, r: Rows, s: Shifted, factor: Array, z_loss: Array | float) -> Array:
    """2 λ W lse, times the factor: the derivative of the z-loss by the normaliser."""
    return 2.0 * factor * z_loss * r.share * normaliser(ops, r, s)


def normaliser(ops: Any, r: Rows, s: Shifted) -> Array:
    """lse; NaN in a row without derivatives, as everything shifted is."""
    return tempered(ops, s.reference, r.temperature) + s.log_total


def pulled_to_target(
    ops: Any,
    r: Rows,
    s: Shifted,
    factor: Array,
    g_share: Array | float,
    axis: int,
    *,
    where: Array | None = None,
    weight: Array | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    **_: Any,
) -> dict[str, Callable[[], Array]]:
    """Derivatives by what makes the target: -log p by a, 0 where it is infinite, and ``g_share`` by W."""
    if r.a is None:  # a label and nothing else: its weight
        surprise = against_label(ops, r, s, axis)
        by_share = factor * ops.where(ops.isinf(surprise), 0.0, surprise) + g_share
        return {
            "weight": lambda: only(
                ops, r.present, ops.put_along_axis(ops.zeros_like(r.x), r.label, by_share, axis=axis)
            )
        }
    surprise = 0.0 - logarithms(ops, s, axis)
    by_a = factor * ops.where(ops.isinf(surprise), 0.0, surprise)
    by_smoothed = by_a if weight is None else product(ops, by_a, weight)
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

    rules |= {"labels": by_labels, "weight": lambda: r.target * by_a + g_share * (r.q / total)}
    return {name: only_present(ops, r, rule) for name, rule in rules.items()}


def only_present(ops: Any, r: Rows, rule: Callable[[], Array]) -> Callable[[], Array]:
    """A rule, 0 in rows that take no part."""
    return lambda: only(ops, r.present, rule())


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
    loss, _, _ = per_unit(ops, r, steady(z_loss), options["axis"])
    idle = sample_weight == 0
    by_weight = g * finite_where(ops, idle, loss)
    if mass != "count":
        by_weight = by_weight + g_mass * finite_where(ops, idle, r.share)
    return only(ops, r.present, by_weight)


def hvp(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    vector: Array,
    sample_weight: Array | None = None,
    z_loss: Array | float | None = None,
    axis: int,
    dtype: Any,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    aux: tuple[str, ...] = (),  # noqa: ARG001 - only the loss is differentiated
    **options: Any,
) -> Array:
    """The Hessian of g · loss by the logits, times a vector."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, dtype)
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, dtype=dtype, **options)
    s = shifted(ops, r.x, axis, r.temperature)
    p = probabilities(ops, s, axis)
    v = only(ops, r.kept, ops.astype(vector, dtype, copy=False))
    cap = cap_slopes(ops, r, options.get("softcap"))
    t = over(v if cap is None else cap.pulled(v), r.heat)
    hz = of_spread(ops, r, s, factor, z_loss, axis) * spread(ops, t, p, s.lead, axis)
    if z_loss is not None:
        hz = hz + 2.0 * factor * z_loss * r.share * p * ops.sum(p * t, axis=axis, keepdims=True)
    hx = over(hz, r.heat)
    if cap is not None:
        dz = by_final_logits(ops, r, s, p, factor, z_loss, axis)
        hx = cap.pulled(hx + cap.curvature * over(dz, r.heat) * v)
    return only(ops, r.kept, hx)


def hessian_diagonal(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    sample_weight: Array | None = None,
    z_loss: Array | float | None = None,
    axis: int,
    dtype: Any,
    mass: str,  # noqa: ARG001 - does not depend on the logits
    aux: tuple[str, ...] = (),  # noqa: ARG001 - only the loss is differentiated
    **options: Any,
) -> Array:
    """Second derivatives of g · loss by each logit."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, dtype)
    r, factor = weighed(ops, logits, labels, g, sample_weight, axis=axis, dtype=dtype, **options)
    s = shifted(ops, r.x, axis, r.temperature)
    p = probabilities(ops, s, axis)
    hz = of_spread(ops, r, s, factor, z_loss, axis) * variances(ops, p, s.lead, shortfall(s), axis)
    if z_loss is not None:
        hz = hz + 2.0 * factor * z_loss * r.share * p * p
    hx = over(over(hz, r.heat), r.heat)
    cap = cap_slopes(ops, r, options.get("softcap"))
    if cap is not None:
        dz = by_final_logits(ops, r, s, p, factor, z_loss, axis)
        hx = cap.pulled(cap.pulled(hx) + cap.curvature * over(dz, r.heat))
    return only(ops, r.kept, hx)


def of_spread(ops: Any, r: Rows, s: Shifted, factor: Array, z_loss: Array | float | None, axis: int) -> Array:
    """What diag(p) - p pᵀ is multiplied by: A + 2 λ W lse, times the factor."""
    all_a = r.share if r.a is None else ops.sum(costing(ops, r, s), axis=axis, keepdims=True)
    return factor * all_a if z_loss is None else factor * all_a + of_normaliser(ops, r, s, factor, z_loss)
