"""Which examples take part in a loss, and what becomes of those that do not."""

from collections.abc import Callable
from typing import Any

from softxent.formulas.targets import equals

Array = Any


def present_rows(
    ops: Any, labels: Array, where: Array | None, ignore_index: Array | int | None, *, hard: bool, axis: int
) -> Array | None:
    """Rows with a label that is not ignored, or soft labels not all 0, and with a class left; None: all of them."""
    present = None if where is None else ops.any(where, axis=axis, keepdims=True)
    if not hard:
        present = both(present, ops.any(ops.not_equal(labels, 0), axis=axis, keepdims=True))
    elif ignore_index is not None:
        present = both(present, ~equals(ops, labels, ignore_index))
    return present


def constant_where_idle(ops: Any, sample_weight: Array | None) -> Callable[[Any], Any]:
    """What makes an operand a constant in rows of sample weight 0: only that weight has a derivative there."""

    def steady(operand: Any) -> Any:
        if sample_weight is None or operand is None or isinstance(operand, float):
            return operand
        constant = ops.stop_gradient(operand)
        return operand if constant is operand else ops.where(ops.equal(sample_weight, 0), constant, operand)

    return steady


def weighing(ops: Any, g: Array, sample_weight: Array | None) -> tuple[Array | None, Array]:
    """Rows of sample weight other than 0, None for all; and the cotangent of the losses, times the weight."""
    if sample_weight is None:
        return None, g
    # The cotangent has the dimensions of rows, which a scalar weight has not.
    return ops.not_equal(sample_weight, 0) & (ops.zeros_like(g) == 0), g * sample_weight


def only_present(ops: Any, r: Any, rule: Callable[[], Array]) -> Callable[[], Array]:
    """A rule for a derivative, 0 in rows that take no part."""
    return lambda: only(ops, r.present, rule())


def both(a: Array | None, b: Array | None) -> Array | None:
    """Conjunction of two masks, either of which may be absent."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def only(ops: Any, kept: Array | None, result: Array) -> Array:
    """A result, 0 (False) where it is none of what is kept; None keeps all."""
    return result if kept is None else ops.where(kept, result, ops.zeros_like(result))
