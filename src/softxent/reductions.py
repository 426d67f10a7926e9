"""From one value a row to what the caller asked for: none, sum, mean, or the two sums of a mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Reduction(NamedTuple):
    """How rows become one number; the mass is what each counts for in the mean."""

    kind: str
    denominator: str | None  # None if it is given
    empty_mean: str

    @classmethod
    def chosen(cls, reduction: str, denominator: Any, empty_mean: str) -> Reduction:
        """The caller's choice, checked; a denominator without a name is still to come."""
        check(reduction, denominator, empty_mean)
        return cls(reduction, denominator if isinstance(denominator, str) else None, empty_mean)

    @property
    def mass(self) -> str:
        """What formulas call what a row counts for."""
        return "count" if self.denominator == "count" else "weight"

    @property
    def divides_by_weight(self) -> bool:
        """Whether the sum of weights is a denominator, or returned as one."""
        return self.denominator == "weight" and self.kind in {"mean", "sum_and_weight"}

    def value(self, backend: Backend, loss: Array, mass: Array, given: Any, *, plain: bool) -> Any:
        """The rows reduced; ``given`` is the denominator where it has no name. With ``plain`` every mass is 1."""
        total = backend.adopt(backend.sum(loss))
        if self.kind == "sum":
            return total
        if self.kind == "sum_and_weight":
            return total, backend.adopt(self._count(backend, mass, given, total))
        empty = math.nan if self.empty_mean == "nan" else 0.0
        rows = self._rows(mass, plain=plain)
        if rows is not None:
            return backend.adopt(total / rows if rows else total + empty)
        count, nothing = self._divisor(backend, mass, given, total)
        return backend.adopt(backend.where(nothing, empty, total / count))

    def cotangents(
        self, backend: Backend, rows: Callable[[], tuple[Array, Array]], given: Any, g: Any, one: Array, *, plain: bool
    ) -> tuple[Array, Array]:
        """Those of the rows and of their masses, in the batch shape or one for all, from that of the result (None: 1).

        The mean m = L / M has dm = (dL - m dM) / M; over nothing its derivative is 0. The rows are asked for only where
        they matter; ``one`` is 1 in their dtype.
        """
        zero = backend.zeros_like(one)
        if self.kind == "sum_and_weight":
            by_sum, by_weight = (one, zero) if g is None else g
            return by_sum, by_weight if self.denominator == "weight" else zero
        g = one if g is None else backend.astype(g, one.dtype, copy=False)
        if self.kind in {"none", "sum"}:
            return g, zero
        loss, mass = rows()
        per_row = self._per_row(backend, mass, given, g, one, plain=plain)
        if self.denominator != "weight":
            return per_row, zero
        count, nothing = self._divisor(backend, mass, given, one)
        mean = backend.where(nothing, zero, backend.adopt(backend.sum(loss)) / count)
        return per_row, -per_row * mean

    def foreseen(
        self, backend: Backend, mass: Callable[[], Array], given: Any, one: Array, *, plain: bool, by_mass: bool
    ) -> tuple[Array, Array] | None:
        """The same for a cotangent of 1, before there is a loss; None where the mean matters, as by mass."""
        zero = backend.zeros_like(one)
        if self.kind != "mean":
            return one, zero
        if by_mass and self.denominator == "weight":
            return None
        return self._per_row(backend, mass(), given, one, one, plain=plain), zero

    def _per_row(self, backend: Backend, mass: Array, given: Any, g: Array, one: Array, *, plain: bool) -> Array:
        """What each row's loss is multiplied by."""
        rows = self._rows(mass, plain=plain)
        if rows is not None:
            return g / max(rows, 1)
        count, nothing = self._divisor(backend, mass, given, one)
        return backend.where(nothing, backend.zeros_like(one), g / count)

    def _rows(self, mass: Array, *, plain: bool) -> int | None:
        """The denominator of a mean, where it is the number of all rows and that is known."""
        counts_all = self.denominator == "all" or (plain and self.denominator is not None)
        return math.prod(mass.shape) if counts_all and all(isinstance(n, int) and n >= 0 for n in mass.shape) else None

    def _divisor(self, backend: Backend, mass: Array, given: Any, like: Array) -> tuple[Array, Array]:
        """The denominator of a mean, 1 in place of 0, and whether it is 0."""
        count = backend.astype(self._count(backend, mass, given, like), like.dtype, copy=False)
        nothing = backend.equal(count, 0)
        return backend.where(nothing, backend.ones_like(count), count), nothing

    def _count(self, backend: Backend, mass: Array, given: Any, like: Array) -> Array:
        if self.denominator is None:
            return backend.full_like(like, given) if isinstance(given, float) else given
        if self.denominator == "all":
            return backend.sum(backend.ones_like(mass))
        return backend.sum(mass if self.denominator == "weight" else backend.stop_gradient(mass))
