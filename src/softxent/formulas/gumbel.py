"""Gumbel-softmax: softmax of the noisy logits over the temperature; or the class it chooses, differentiated as that."""

from typing import Any

from softxent.formulas import softmax
from softxent.formulas.logits import tempered, varies
from softxent.formulas.participation import only

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "noise", "temperature"}}


def value(
    ops: Any,
    logits: Array,
    noise: Array,
    *,
    hard: bool,
    where: Array | None = None,
    temperature: Array | float | None = None,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """Softmax of the sum along ``axis``; with ``hard`` 1 at its first largest entry and 0 elsewhere."""
    x = noisy(ops, logits, noise, dtype)
    options: dict[str, Any] = {"where": where, "temperature": temperature, "axis": axis, "dtype": dtype}
    if not hard or x.shape[axis] == 0:
        return softmax.value(ops, x, **options, result=result)
    p = softmax.value(ops, x, **options, result=dtype)
    x, heat = softmax.prepared(ops, ops.stop_gradient(x), where, temperature, axis, dtype, negate=False)
    x = tempered(ops, x, ops.stop_gradient(heat)) if varies(heat, axis) else x
    chosen = ops.argmax(x, axis=axis, keepdims=True)
    choice = only(ops, where, ops.put_along_axis(ops.zeros_like(x), chosen, 1.0, axis=axis))
    return ops.astype(choice + (p - ops.stop_gradient(p)), result, copy=False)  # 0 is added, and its derivatives


def pullback(
    ops: Any,
    logits: Array,
    noise: Array,
    *,
    by: tuple[str, ...],
    hard: bool,  # noqa: ARG001 - a choice has the derivatives of the relaxed sample
    dtype: Any,
    **given: Any,
) -> tuple[Array, ...]:
    """That of softmax; the noise has the logits' derivative."""
    names = tuple(dict.fromkeys("logits" if name == "noise" else name for name in by))
    x = noisy(ops, logits, noise, dtype)
    found = dict(zip(names, softmax.pullback(ops, x, by=names, dtype=dtype, **given), strict=True))
    return tuple(found["logits" if name == "noise" else name] for name in by)


def pushforward(
    ops: Any,
    logits: Array,
    noise: Array,
    *,
    t_logits: Array | None = None,
    t_noise: Array | None = None,
    hard: bool,  # noqa: ARG001 - the same
    dtype: Any,
    **given: Any,
) -> Array:
    """The same."""
    x = noisy(ops, logits, noise, dtype)
    t = [ops.astype(t, dtype, copy=False) for t in (t_logits, t_noise) if t is not None]
    return softmax.pushforward(ops, x, t_logits=sum(t[1:], start=t[0]) if t else None, dtype=dtype, **given)


def noisy(ops: Any, logits: Array, noise: Array, dtype: Any) -> Array:
    """The sum, in the dtype of the arithmetic."""
    return ops.astype(logits, dtype, copy=False) + ops.astype(noise, dtype, copy=False)
