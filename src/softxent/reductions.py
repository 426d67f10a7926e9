"""From one value a row to what the caller asked for: none, sum, mean, or the two sums of a mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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


@dataclass(frozen=True)
class Reduction:
    """How rows (in the batch shape) become one number; the mass is what each counts for in the mean."""

    backend: Backend
    kind: str
    denominator: Any  # one of the names, a number, or a 0-d array
    empty_mean: str

    def value(self, loss: Array, mass: Array) -> Array | tuple[Array, Array]:
        """The rows reduced."""
        backend = self.backend
        if self.kind == "none":
            return loss
        total = backend.adopt(backend.sum(loss))
        if self.kind == "sum":
            return total
        if self.kind == "sum_and_weight":
            return total, backend.adopt(self._count(mass, total))
        count = backend.astype(self._count(mass, total), total.dtype, copy=False)
        nothing = count == 0
        mean = total / backend.where(nothing, backend.ones_like(count), count)
        return backend.adopt(backend.where(nothing, math.nan if self.empty_mean == "nan" else 0.0, mean))

    def cotangents(self, rows: Callable[[], tuple[Array, Array]], g: Any, one: Array) -> tuple[Array, Array]:
        """Those of the rows and of their masses, in the batch shape or one for all, from that of the result (None: 1).

        The mean m = L / M has dm = (dL - m dM) / M; over nothing its derivative is 0. The rows are asked for only where
        they matter; ``one`` is 1 in their dtype.
        """
        backend = self.backend
        zero = backend.zeros_like(one)
        if self.kind == "sum_and_weight":
            by_sum, by_weight = (one, zero) if g is None else g
            return by_sum, by_weight if self._is_weighed else zero
        g = one if g is None else backend.astype(g, one.dtype, copy=False)
        if self.kind in {"none", "sum"}:
            return g, zero
        loss, mass = rows()
        per_row, count, nothing = self._per_row(mass, g, one)
        if not self._is_weighed:
            return per_row, zero
        mean = backend.where(nothing, zero, backend.adopt(backend.sum(loss)) / count)
        return per_row, -per_row * mean

    def foreseen(self, mass: Callable[[], Array], one: Array, *, by_mass: bool) -> tuple[Array, Array] | None:
        """The same for a cotangent of 1, before there is a loss; None where the mean matters, for derivatives by mass."""
        zero = self.backend.zeros_like(one)
        if self.kind != "mean":
            return one, zero
        if by_mass and self._is_weighed:
            return None
        per_row, _, _ = self._per_row(mass(), one, one)
        return per_row, zero

    def _per_row(self, mass: Array, g: Array, one: Array) -> tuple[Array, Array, Array]:
        """What each row's loss is multiplied by, the denominator (1 in place of 0), and whether that is 0."""
        backend = self.backend
        count = backend.astype(self._count(mass, one), one.dtype, copy=False)
        nothing = count == 0
        count = backend.where(nothing, one, count)
        return backend.where(nothing, backend.zeros_like(one), g / count), count, nothing

    @property
    def _is_weighed(self) -> bool:
        return isinstance(self.denominator, str) and self.denominator == "weight"

    def _count(self, mass: Array, like: Array) -> Array:
        backend = self.backend
        if isinstance(self.denominator, float):
            return backend.full_like(like, self.denominator)
        if not isinstance(self.denominator, str):
            return self.denominator
        if self.denominator == "all":
            return backend.sum(backend.ones_like(mass))
        return backend.sum(mass if self._is_weighed else backend.stop_gradient(mass))
