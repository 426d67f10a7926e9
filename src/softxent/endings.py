"""What becomes of a formula's results: an array of the caller's shape, one value a row, or a loss that is reduced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from softxent.layout import is_known

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.calls import Call
    from softxent.reductions import Reduction

Array = Any


class SameShape(NamedTuple):
    """The formula's one result has the caller's shape."""

    @property
    def is_one_value(self) -> bool:
        """Whether all examples make one number."""
        return False

    @property
    def is_one_array(self) -> bool:
        """Whether there is one array, with nothing beside it."""
        return True

    def finish(self, call: Call, results: Any) -> Any:
        """In the caller's axes."""
        return call.form.outward(results)

    def start(self, call: Call, _: Any, cotangent: Any) -> tuple[Array, ...]:
        """In the formula's axes."""
        return (call.form.inward(cotangent),)

    def foresee(self, _: Call, by: tuple[str, ...]) -> None:
        """Nothing is known before."""


class Rows(NamedTuple):
    """One value a row, or two."""

    dtype: Any
    keepdims: bool = False
    signed: bool = False

    @property
    def is_one_value(self) -> bool:
        """Not in general."""
        return False

    @property
    def is_one_array(self) -> bool:
        """Whether there is one array, with nothing beside it."""
        return not self.signed

    def finish(self, call: Call, results: Any) -> Any:
        """In the batch shape."""
        if self.signed:
            return tuple(call.form.rows(part, keepdims=self.keepdims) for part in results)
        return call.form.rows(results, keepdims=self.keepdims)

    def start(self, call: Call, _: Callable[[], Any], cotangent: Any) -> tuple[Array, ...]:
        """Ones for all, if there is none."""
        if cotangent is None:
            return self.foresee(call, ())
        return (call.form.row_values(cotangent, keepdims=self.keepdims),)

    def foresee(self, call: Call, _: tuple[str, ...]) -> tuple[Array, ...]:
        """Ones need no results."""
        form = call.form
        return (form.number(form.backend.scalar(1.0, call.arguments[call.like], self.dtype)),)


class Columns(NamedTuple):
    """Several values a row, each with a derivative."""

    @property
    def is_one_value(self) -> bool:
        """Never."""
        return False

    @property
    def is_one_array(self) -> bool:
        """Whether there is one array, with nothing beside it."""
        return False

    def finish(self, call: Call, results: Any) -> Any:
        """In the batch shape."""
        return tuple(call.form.rows(part) for part in results)

    def start(self, call: Call, _: Callable[[], Any], cotangent: Any) -> tuple[Array, ...]:
        """One for each."""
        return tuple(call.form.row_values(part) for part in cotangent)

    def foresee(self, _: Call, by: tuple[str, ...]) -> None:
        """Nothing is known before."""


class Loss(NamedTuple):
    """One loss a row and its mass, which are reduced; further results are by-products."""

    reduction: Reduction
    aux: tuple[str, ...] = ()
    beside: bool = False  # whether by-products were asked for, be it none of them
    plain: bool = False  # whether every row has the mass 1

    @property
    def is_one_value(self) -> bool:
        """A mean or a sum, with nothing beside it."""
        return self.reduction.kind in {"mean", "sum"} and not self.beside

    @property
    def is_one_array(self) -> bool:
        """Whether there is one array, with nothing beside it."""
        return self.reduction.kind != "sum_and_weight" and not self.beside

    def finish(self, call: Call, results: Any) -> Any:
        """The reduced loss, and the by-products."""
        loss, mass, *others = results
        form, backend = call.form, call.form.backend
        if self.reduction.kind == "none":
            loss = form.rows(loss)
        else:
            reduce = self.reduction.value
            loss = backend.quietly(reduce, backend, loss, mass, call.denominator, plain=self.plain)
        if not self.beside:
            return loss
        return loss, tuple(form.rows(row) for row in others)

    def start(self, call: Call, results: Callable[[], Any], cotangent: Any) -> tuple[Array, ...]:
        """The cotangents of losses and masses."""
        form, backend = call.form, call.form.backend

        def rows() -> tuple[Array, Array]:
            loss, mass = results()[:2]
            return form.rows(loss), form.rows(mass)

        seeds = backend.quietly(
            self.reduction.cotangents, backend, rows, call.denominator, cotangent, _one(call), plain=self.plain
        )
        return tuple(form.row_values(seed) for seed in seeds)

    def foresee(self, call: Call, by: tuple[str, ...]) -> tuple[Array, ...] | None:
        """What depends on no loss."""
        form, backend, formula = call.form, call.form.backend, call.formula
        equal = self.plain and all(map(is_known, form.batch_shape))
        if self.aux or (self.reduction.kind == "mean" and not equal and not hasattr(formula, "masses")):
            return None

        def masses() -> Array:
            if equal:
                return backend.broadcast_to(_one(call), form.batch_shape)
            beside = {name: x for name, x in call.operands.items() if name != call.like}
            static = {**dict(call.static), "size": form.size}
            found = backend.evaluate(formula.masses, beside, axis=form.axis, **static)  # type: ignore[attr-defined] # seen above
            return form.rows(found)

        seeds = backend.quietly(
            self.reduction.foreseen,
            backend,
            masses,
            call.denominator,
            _one(call),
            plain=self.plain,
            by_mass=bool(formula.COTANGENTS["g_mass"] & set(by)),
        )
        return None if seeds is None else tuple(form.row_values(seed) for seed in seeds)


def _one(call: Call) -> Array:
    return call.form.backend.scalar(1.0, call.arguments[call.like], dict(call.static)["dtype"])
