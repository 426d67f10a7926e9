"""Fenchel-Young loss of a map p(x) = argmax ⟨p, x⟩ - Ω(p) that others evaluate: Ω(q) - Ω(p) + ⟨p - q, x⟩ a row.

How p moves with x does not matter where it is the maximum, so that the derivative by x is p - q, p being constant.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from softxent.formulas import loss_rows
from softxent.formulas.loss_rows import by_weight, class_of, validated, validity_of, weighted
from softxent.formulas.participation import both, only, present_rows, weighing
from softxent.formulas.targets import one_hot, product

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "q", "of_q", "sample_weight"}, "g_mass": {"sample_weight"}}


class Rows(NamedTuple):
    """Logits and p - q of every row, 0 where nothing takes part."""

    x: Array
    excess: Array
    present: Array | None  # rows that take part
    validity: Array | None  # 1, and NaN for a label that is none; None if that is known


def value(
    ops: Any, logits: Array, *, of_p: Array, of_q: Array, sample_weight: Array | None = None, mass: str, **given: Any
) -> tuple[Array, Array]:
    """Loss of each row, and its mass in the mean."""
    r = laid_out(ops, logits, **given)
    return weighted(ops, r.present, None, per_unit(ops, r, of_p, of_q, given["axis"]), sample_weight, mass)


def laid_out(
    ops: Any,
    logits: Array,
    *,
    p: Array,
    labels: Array | None = None,
    q: Array | None = None,
    ignore_index: Array | int | None = None,
    hard: bool,
    in_bounds: bool,
    axis: int,
    dtype: Any,
) -> Rows:
    """The rows of a call: of class indices ``labels``, or distributions ``q``."""
    present = present_rows(ops, labels if hard else q, None, ignore_index, hard=hard, axis=axis)
    x, p = (only(ops, present, ops.astype(y, dtype, copy=False)) for y in (logits, p))
    if not hard:
        return Rows(x, p - only(ops, present, ops.astype(q, dtype, copy=False)), present, None)
    label, valid = class_of(ops, labels, present, ops.classes(x, axis), in_bounds=in_bounds)
    own = ops.take_along_axis(p, label, axis=axis) - 1.0
    excess = only(ops, present, ops.put_along_axis(p + 0.0, label, own, axis=axis))
    return Rows(x, excess, present, validity_of(ops, labels, valid, present, dtype))


def safe(
    ops: Any,
    logits: Array,
    *,
    labels: Array | None = None,
    q: Array | None = None,
    ignore_index: Array | int | None = None,
    hard: bool,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, Array]:
    """What the map and Ω are evaluated at: logits and distributions, 0 in rows that take no part."""
    present = present_rows(ops, labels if hard else q, None, ignore_index, hard=hard, axis=axis)
    x = only(ops, present, ops.astype(logits, dtype, copy=False))
    if hard:
        return x, one_hot(ops, labels, ignore_index, ops.classes(x, axis), axis, dtype)
    return x, only(ops, present, ops.astype(q, dtype, copy=False))


def per_unit(ops: Any, r: Rows, of_p: Array, of_q: Array, axis: int) -> Array:
    """The loss of a row per unit of sample weight."""
    gained = ops.sum(product(ops, r.excess, r.x), axis=axis, keepdims=True)
    return validated(r, gained + (of_q - of_p))


def masses(ops: Any, *, labels: Array | None = None, q: Array | None = None, **given: Any) -> Array:
    """What each row counts for in a mean."""
    return loss_rows.masses(ops, labels if q is None else q, **given)


def pullback(ops: Any, logits: Array, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
    """Derivatives of g · loss + g_mass · mass by the operands in ``by``."""
    _, rules = differentiated(ops, logits, **given)
    return tuple(rules[name]() for name in by)


def value_and_pullback(
    ops: Any, logits: Array, *, by: tuple[str, ...], g: Array, g_mass: Array, **given: Any
) -> tuple[Array, ...]:
    """The one and the other."""
    (r, loss), rules = differentiated(ops, logits, g=g, g_mass=g_mass, **given)
    results = weighted(ops, r.present, None, loss, given.get("sample_weight"), given["mass"])
    return *results, *(rules[name]() for name in by)


def differentiated(
    ops: Any,
    logits: Array,
    *,
    g: Array,
    g_mass: Array,
    of_p: Array,
    of_q: Array,
    sample_weight: Array | None = None,
    mass: str,
    **given: Any,
) -> tuple[tuple[Rows, Array], dict[str, Callable[[], Array]]]:
    """The rows and what they lose, and a rule for each operand that there is a derivative by."""
    r = laid_out(ops, logits, **given)
    loss = per_unit(ops, r, of_p, of_q, given["axis"])
    active, factor = weighing(ops, g, sample_weight)

    def scaled(y: Array) -> Array:
        return only(ops, both(active, r.present), validated(r, factor) * y)

    return (r, loss), {
        "logits": lambda: scaled(r.excess),
        "q": lambda: scaled(0.0 - r.x),
        "of_q": lambda: scaled(ops.ones_like(loss)),
        "sample_weight": lambda: by_weight(ops, r.present, None, loss, g, g_mass, sample_weight, mass),
    }
