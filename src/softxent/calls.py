"""A call of a public function after its checks: what formula it runs on what, and what becomes of the results.

A public function makes a `Call` and returns its value. The functions in ``gradients`` make the same call and ask it for
derivatives: the cotangent of the result goes back the way the rows came, through the reduction and the layout, the
formula's own pullback takes it to the operands, and each derivative leaves in the shape and dtype of its argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from softxent.backends.generic import Formula
    from softxent.layout import Layout

Array = Any


@dataclass(frozen=True)
class Call:
    """What a public function is to compute.

    ``given`` has the caller's arrays by argument, as the formula's operands are named. ``finish`` makes the result that
    the caller gets from the formula's, and ``start`` the cotangents of the formula's results from the caller's, from
    ones where that is None; it is handed a function for the results, which it may not need. ``foresee`` makes them
    before there are results, for derivatives by the arguments named, where those do not need any.
    """

    form: Layout
    formula: Formula
    operands: Mapping[str, Any]
    static: Mapping[str, Any]
    given: Mapping[str, Any]
    finish: Callable[[Any], Any]
    start: Callable[[Callable[[], Any], Any], tuple[Array, ...]]
    foresee: Callable[[tuple[str, ...]], tuple[Array, ...] | None] = lambda _: None
    by_products: bool = False  # whether the formula's pullback leaves some of its results out
    beside: bool = False  # whether what is differentiated is only the first part of the caller's result
    per_example: bool = True  # options of fewer dimensions than the logits belong to rows; otherwise they broadcast

    @property
    def like(self) -> str:
        """What the logits are called."""
        return next(iter(self.operands))

    def results(self) -> Any:
        """What the formula gives."""
        return self.form.backend.run(
            self.formula,
            self.operands,
            axis=self.form.axis,
            by_products=self.by_products,
            foresee=self.foresee,
            **self.static,
        )

    def value(self) -> Any:
        """What the caller gets."""
        return self.finish(self.results())

    def differentiated(self, value: Any) -> Any:
        """The part of the caller's result that has derivatives."""
        return value[0] if self.beside else value

    def pull(self, results: Callable[[], Any], cotangent: Any, by: tuple[str, ...]) -> tuple[Array, ...]:
        """Derivatives by arguments, each of the argument's shape and dtype."""
        backend = self.form.backend
        cotangents = dict(zip(self.formula.COTANGENTS, self.start(results, cotangent), strict=True))
        found = backend.pull(self.formula, cotangents, self.operands, by=by, axis=self.form.axis, **self.static)
        return tuple(self._outward(name, x) for name, x in zip(by, found, strict=True))

    def value_and_pull(self, by: tuple[str, ...]) -> tuple[Any, tuple[Array, ...]]:
        """What the caller gets, and its derivatives by arguments; from one look at the logits if possible."""
        seeds = self.foresee(by)
        if seeds is None:
            results = self.results()
            return self.finish(results), self.pull(lambda: results, None, by)
        backend = self.form.backend
        cotangents = dict(zip(self.formula.COTANGENTS, seeds, strict=True))
        results, found = backend.visit(
            self.formula, cotangents, self.operands, by=by, axis=self.form.axis, **self.static
        )
        value = self.finish(results if len(results) > 1 else results[0])
        return value, tuple(self._outward(name, x) for name, x in zip(by, found, strict=True))

    def second(self, name: str, **arrays: Array) -> Array:
        """A second derivative by the logits, which the formula has under that name."""
        backend = self.form.backend
        seed = {next(iter(self.formula.COTANGENTS)): self.start(self.results, None)[0]}
        operands = {**self.operands, **seed, **{name: self.form.inward(x) for name, x in arrays.items()}}
        found = backend.evaluate(getattr(self.formula, name), operands, axis=self.form.axis, **self.static)
        return self._outward(self.like, found)

    def _outward(self, name: str, x: Array) -> Array:
        given, backend = self.given[name], self.form.backend
        x = backend.quietly(self.form.returned, x, tuple(given.shape), per_example=self.per_example)
        return backend.quietly(backend.astype, x, given.dtype, copy=False)
