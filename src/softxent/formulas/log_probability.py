"""Log-probability of the label, and entropy of the distribution that it is taken from: two values a row."""

from typing import Any

from softxent.formulas import cross_entropy, divergences
from softxent.formulas.participation import both, present_rows

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "temperature"}, "g_entropy": {"logits", "temperature"}}


def value(ops: Any, logits: Array, labels: Array, *, where: Array | None = None, **given: Any) -> tuple[Array, Array]:
    """Both; 0 where nothing takes part."""
    loss, _ = cross_entropy.value(ops, logits, labels, where=where, mass="count", **given)
    entropy, _ = divergences.value(ops, logits=logits, **of_entropy(ops, labels, where, **given))
    return 0.0 - loss, entropy


def of_entropy(
    ops: Any,
    labels: Array,
    where: Array | None,
    *,
    ignore_index: Array | int | None = None,
    hard: bool,
    axis: int,
    in_bounds: bool = False,  # noqa: ARG001 - does not matter
    **given: Any,
) -> dict[str, Any]:
    """The operands of the entropy."""
    present = present_rows(ops, labels, None, ignore_index, hard=hard, axis=axis)
    return {"measure": "entropy", "mass": "count", "where": both(where, present), "axis": axis, **given}


def pullback(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    g: Array,
    g_entropy: Array,
    by: tuple[str, ...],
    where: Array | None = None,
    **given: Any,
) -> tuple[Array, ...]:
    """The derivatives of both, added up."""
    nothing = ops.zeros_like(g)
    options: dict[str, Any] = {"by": by, "g_mass": nothing}
    of_loss = cross_entropy.pullback(ops, logits, labels, g=0.0 - g, where=where, mass="count", **options, **given)
    options |= of_entropy(ops, labels, where, **given)
    of_spread = divergences.pullback(ops, logits=logits, g=g_entropy, **options)
    return tuple(one + other for one, other in zip(of_loss, of_spread, strict=True))


def value_and_pullback(ops: Any, logits: Array, labels: Array, **given: Any) -> tuple[Array, ...]:
    """The one and the other."""
    options = {name: x for name, x in given.items() if name not in {"by", "g", "g_entropy"}}
    return *value(ops, logits, labels, **options), *pullback(ops, logits, labels, **given)
