"""Functions of each element alone: a value, its slope by each operand, and its curvature by the first."""

from collections.abc import Callable, Mapping
from typing import Any

Array = Any
Function = Callable[..., Array]


class Elementwise:
    """A formula whose rows are single elements. What it is made of takes the operands by name."""

    def __init__(self, of: Function, slopes: Mapping[str, Function], curvature: Function) -> None:
        self.of, self.slopes, self.curvature = of, slopes, curvature
        self.COTANGENTS = {"g": set(slopes)}

    def value(self, ops: Any, *, axis: int, dtype: Any, result: Any, **operands: Any) -> Array:  # noqa: ARG002 - each element is a row
        """The function itself."""
        return ops.astype(self.of(ops, **cast(ops, operands, dtype)), result, copy=False)

    def pullback(
        self,
        ops: Any,
        *,
        g: Array,
        by: tuple[str, ...],
        axis: int,  # noqa: ARG002 - each element is a row
        dtype: Any,
        result: Any,  # noqa: ARG002 - of values alone
        **operands: Any,
    ) -> tuple[Array, ...]:
        """The cotangent times each slope."""
        operands, g = cast(ops, operands, dtype), ops.astype(g, dtype, copy=False)
        return tuple(g * self.slopes[name](ops, **operands) for name in by)

    def value_and_pullback(self, ops: Any, *, g: Array, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
        """The one and the other."""
        return self.value(ops, **given), *self.pullback(ops, g=g, by=by, **given)

    def hvp(self, ops: Any, *, vector: Array, dtype: Any, **given: Any) -> Array:
        """The curvature times a vector."""
        return self.hessian_diagonal(ops, dtype=dtype, **given) * ops.astype(vector, dtype, copy=False)

    def hessian_diagonal(
        self,
        ops: Any,
        *,
        g: Array,
        axis: int,  # noqa: ARG002 - each element is a row
        dtype: Any,
        result: Any,  # noqa: ARG002 - of values alone
        **operands: Any,
    ) -> Array:
        """The cotangent times the curvature."""
        return ops.astype(g, dtype, copy=False) * self.curvature(ops, **cast(ops, operands, dtype))


def cast(ops: Any, operands: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Operands in the dtype of the arithmetic; Python numbers stay what they are."""
    return {name: x if isinstance(x, float) else ops.astype(x, dtype, copy=False) for name, x in operands.items()}
