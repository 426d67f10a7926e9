"""Cross-entropy of probabilities, or of log-probabilities, as they are given: nothing is normalised.

A row is s Σ_c w_c q'_c (-log p_c). Its derivative by p_c is -s w_c q'_c / p_c, which is 0 for a class of no target even
at p = 0; by a log-probability it is -s w_c q'_c.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from softxent.formulas import loss_rows
from softxent.formulas.cross_entropy import pulled_to_target
from softxent.formulas.loss_rows import (
    Given,
    Rows,
    by_weight,
    laid_out,
    per_unit,
    times,
    validated,
    weighted,
)
from softxent.formulas.participation import constant_where_idle, only, weighing
from softxent.formulas.targets import product

Array = Any

masses = loss_rows.masses

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {
    "g": {"probs", "log_probs", "labels", "weight", "sample_weight", "label_smoothing", "smoothing_prior"},
    "g_mass": {"labels", "weight", "sample_weight"},
}


class Costs(NamedTuple):
    """-log p of the label, or of each class under a distribution, and its derivatives by what is given: p or log p."""

    cost: Array
    slope: Array
    bend: Array


def value(
    ops: Any,
    *,
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    dtype: Any,
    **given: Any,
) -> tuple[Array, Array]:
    """Loss of each row, and its mass in the mean."""
    x = given_array(given)
    if x.shape[axis] == 0:
        nothing = ops.sum(ops.astype(x, dtype, copy=False), axis=axis, keepdims=True)
        return nothing, ops.zeros_like(nothing)
    steady = constant_where_idle(ops, sample_weight)
    r, costs = looked_at(ops, steady=steady, axis=axis, dtype=dtype, **given)
    loss, _ = per_unit(ops, r, Given(costs.cost), None, axis)
    return weighted(ops, r.present, r.share, loss, sample_weight, mass)


def given_array(given: dict[str, Any]) -> Array:
    """The probabilities or log-probabilities."""
    return given["probs"] if "probs" in given else given["log_probs"]


def looked_at(
    ops: Any,
    *,
    probs: Array | None = None,
    log_probs: Array | None = None,
    eps: float | None = None,
    labels: Array,
    steady: Callable[[Any], Any] = lambda operand: operand,
    **options: Any,
) -> tuple[Rows, Costs]:
    """The rows of a call, and what they cost: nothing where a class takes no part."""
    x = log_probs if probs is None else probs
    axis = options["axis"]
    r = laid_out(ops, x, labels, steady=steady, **options)
    x = ops.astype(x, options["dtype"], copy=False)
    x = steady(x if r.kept is None else ops.where(r.kept, x, 0.0 if probs is None else 1.0))
    if r.a is None:
        x = ops.take_along_axis(x, r.label, axis=axis)
    one = ops.ones_like(x)
    if probs is None:
        return r, Costs(0.0 - x, -one, 0.0 * one)
    if r.a is not None:  # 0 · log 0 = 0, and so are its derivatives
        x = ops.where(ops.equal(x, 0) & ops.equal(r.a, 0), 1.0, x)
    inside = None if eps is None else (x >= eps) & (x <= 1.0 - eps)
    if eps is not None:
        x = ops.where(x < eps, eps, ops.where(x > 1.0 - eps, 1.0 - eps, x))
    return r, Costs(0.0 - ops.log(x), only(ops, inside, -one / x), only(ops, inside, one / (x * x)))


# -- derivatives ------------------------------------------------------------------------------------------------------


def pullback(ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    x = given_array(given)
    if x.shape[given["axis"]] == 0:
        return tuple(ops.astype(x, given["dtype"]) for _ in by)
    _, rules = differentiated(ops, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(ops: Any, *, by: tuple[str, ...], g: Array, g_mass: Array, **given: Any) -> tuple[Array, ...]:
    """The one and the other, from one look at what is given."""
    if given_array(given).shape[given["axis"]] == 0:
        return *value(ops, **given), *pullback(ops, by=by, g=g, g_mass=g_mass, **given)
    (r, c), rules = differentiated(ops, g=g, g_mass=g_mass, **given)
    loss, _ = per_unit(ops, r, c, None, given["axis"])
    results = weighted(ops, r.present, r.share, loss, given.get("sample_weight"), given["mass"])
    return *results, *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    *,
    g: Array,
    g_mass: Array,
    sample_weight: Array | None = None,
    mass: str,
    axis: int,
    **given: Any,
) -> tuple[tuple[Rows, Given], dict[str, Callable[[], Array]]]:
    """The rows and what they cost, and a rule for each operand that there is a derivative by."""
    r, costs, factor = weighed(ops, g, sample_weight, axis=axis, **given)
    g_share = 0.0 if mass == "count" else g_mass if sample_weight is None else g_mass * sample_weight
    c = Given(costs.cost)
    rules = pulled_to_target(ops, r, c, factor, g_share, axis, **target_options(given))

    def by_given() -> Array:
        return only(ops, r.kept, multiplied(ops, r, factor, costs.slope, axis))

    def by_sample_weight() -> Array:
        steady = constant_where_idle(ops, sample_weight)
        every, all_costs = looked_at(ops, steady=steady, axis=axis, **given)
        loss, _ = per_unit(ops, every, Given(all_costs.cost), None, axis)
        return by_weight(ops, every.present, every.share, loss, g, g_mass, sample_weight, mass)

    return (r, c), {**rules, "probs": by_given, "log_probs": by_given, "sample_weight": by_sample_weight}


def target_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options that make the target."""
    names = ("where", "weight", "label_smoothing", "smoothing_prior")
    return {name: given[name] for name in names if name in given}


def weighed(ops: Any, g: Array, sample_weight: Array | None, *, axis: int, **given: Any) -> tuple[Rows, Costs, Array]:
    """Rows, those of sample weight 0 out, and what the derivatives of each are multiplied by."""
    active, g = weighing(ops, g, sample_weight)
    r, costs = looked_at(ops, active=active, axis=axis, **given)
    return r, costs, validated(r, g)


def multiplied(ops: Any, r: Rows, factor: Array, derivative: Array, axis: int) -> Array:
    """A derivative of costs, times what these are multiplied by: nothing beside a label."""
    if r.a is not None:
        return factor * product(ops, r.a, derivative)
    return ops.put_along_axis(ops.zeros_like(r.x), r.label, factor * times(r.worth, derivative), axis=axis)


def hvp(ops: Any, *, vector: Array, dtype: Any, **given: Any) -> Array:
    """Second derivatives of g · loss by what is given, times a vector."""
    if given_array(given).shape[given["axis"]] == 0:
        return ops.astype(vector, dtype)
    r, bend = second_order(ops, dtype=dtype, **given)
    return only(ops, r.kept, bend * ops.astype(vector, dtype, copy=False))


def hessian_diagonal(ops: Any, **given: Any) -> Array:
    """Second derivatives of g · loss by what is given: w q / p² by a probability, 0 by its logarithm."""
    x = given_array(given)
    if x.shape[given["axis"]] == 0:
        return ops.astype(x, given["dtype"])
    r, bend = second_order(ops, **given)
    return only(ops, r.kept, bend)


def second_order(
    ops: Any,
    *,
    g: Array,
    sample_weight: Array | None = None,
    mass: str,  # noqa: ARG001 - does not depend on probabilities
    axis: int,
    **given: Any,
) -> tuple[Rows, Array]:
    """The rows, and the diagonal of the Hessian, which is all of it."""
    r, costs, factor = weighed(ops, g, sample_weight, axis=axis, **given)
    return r, multiplied(ops, r, factor, costs.bend, axis)
