"""From one value a row to what the caller asked for: none, sum, mean, or the two sums of a mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softxent.backends.generic import Backend

Array = Any

REDUCTIONS = ("mean", "sum", "none", "sum_and_weight")
DENOMINATORS = ("weight", "count", "all")
EMPTY_MEANS = ("zero", "nan")


def check(reduction: Any, denominator: Any, empty_mean: Any) -> None:
    """Refuse what is unknown, and what cannot matter for the reduction."""
    for name, value, known in (
        ("reduction", reduction, REDUCTIONS),
        ("empty_mean", empty_mean, EMPTY_MEANS),
        *((("denominator", denominator, DENOMINATORS),) if isinstance(denominator, str) else ()),
    ):
        if not isinstance(value, str) or value not in known:
            msg = f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}"
            raise ValueError(msg)
    if denominator is None:
        msg = f"denominator must be one of {', '.join(map(repr, DENOMINATORS))} or a number, got None"
        raise ValueError(msg)
    by_name = isinstance(denominator, str)
    matters = reduction == "mean" or (reduction == "sum_and_weight" and by_name)
    if not matters and not (by_name and denominator == "weight"):
        msg = f"denominator must be left out for reduction={reduction!r}, where it cannot matter, got {denominator!r}"
        raise ValueError(msg)
    if empty_mean != "zero" and reduction != "mean":
        msg = f"empty_mean must be left out for reduction={reduction!r}, which divides by nothing, got {empty_mean!r}"
        raise ValueError(msg)


def reduced(
    backend: Backend, loss: Array, mass: Array, *, reduction: str, denominator: Any, empty_mean: str
) -> Array | tuple[Array, Array]:
    """Rows (in the batch shape) reduced; ``mass`` is what each counts for in the mean."""
    if reduction == "none":
        return loss
    total = backend.adopt(backend.sum(loss))
    if reduction == "sum":
        return total
    if not isinstance(denominator, str):
        count = denominator
    elif denominator == "all":
        count = backend.sum(backend.ones_like(loss))
    else:
        count = backend.sum(mass)
    if reduction == "sum_and_weight":
        return total, backend.adopt(count)
    if isinstance(count, float):
        count = backend.full_like(total, count)
    count = backend.astype(count, total.dtype, copy=False)
    nothing = count == 0
    mean = total / backend.where(nothing, backend.ones_like(count), count)
    return backend.adopt(backend.where(nothing, math.nan if empty_mean == "nan" else 0.0, mean))
