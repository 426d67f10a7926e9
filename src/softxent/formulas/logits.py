"""What is done to logits before they are compared: classes taken out, soft cap, temperature.

Each step keeps -inf where it is, and is written so that automatic differentiation of it loses no digit.
"""

from math import inf, nan
from typing import Any

Array = Any


def masked(ops: Any, x: Array, where: Array, axis: int) -> Array:
    """Logits with the classes that ``where`` drops at -inf, and 0 throughout where it drops every class."""
    some = ops.any(where, axis=axis, keepdims=True)
    floor = ops.where(some, ops.full_like(some, -inf, dtype=x.dtype), 0.0)
    return ops.where(where, x, floor)


def capped(ops: Any, x: Array, cap: Array) -> Array:
    """Soft cap, c tanh(x / c), with infinities left as they are.

    With a = abs(x / c) and E = exp(-2a), tanh a = (1 - E) / (1 + E): its derivative is sech² = 4E / (1 + E)² to the
    last digit, where the customary 1 - tanh² has none left from a = 10 (float32) on. 1 - E is expm1 only where it
    cancels, since the derivative that libraries give expm1 cancels where 1 - E does not.
    """
    infinite = ops.isinf(x)
    ratio = ops.where(infinite, 0.0, x) / cap
    side = ops.where(ratio < 0, -ops.ones_like(ratio), 1.0)
    minus_2a = -2.0 * side * ratio
    decay = ops.exp(minus_2a)
    rise = ops.where(decay < 0.5, 1.0 - decay, -ops.expm1(minus_2a))
    return ops.where(infinite, x, cap * (side * rise / (1.0 + decay)))


def tempered(ops: Any, gaps: Array, temperature: Array | float | None) -> Array:
    """Gaps divided by the temperature, NaN where that is not positive.

    For a temperature that may have a derivative the quotient is (gap / T₀) · (T₀ / T) with T₀ = T held constant and the
    second factor, 1, written exp(log T₀ - log T): its derivative is -1/T, where that of gap / T is -gap / T², which
    overflows long before the derivative of a loss does. A gap of -inf stays out of it.
    """
    if temperature is None:
        return gaps
    if isinstance(temperature, float):
        return gaps / temperature
    positive = ops.where(temperature > 0, temperature, nan)
    constant = ops.stop_gradient(positive)
    scaled = gaps / constant
    if constant is positive:  # no derivatives here
        return scaled
    infinite = scaled == -inf
    finite = ops.where(positive < inf, positive, 1.0)
    unit = ops.exp(ops.log(ops.stop_gradient(finite)) - ops.log(finite))
    return ops.where(infinite, scaled, ops.where(infinite, 0.0, scaled) * unit)


def masked_temperature(
    ops: Any, temperature: Array | float | None, kept: Array | None, axis: int
) -> Array | float | None:
    """The temperature, 1 where nothing takes part: what is stored there reaches neither a value nor a derivative."""
    if kept is None or getattr(temperature, "ndim", 0) == 0:
        return temperature
    if not varies(temperature, axis):
        kept = ops.any(kept, axis=axis, keepdims=True)
    return ops.where(kept, temperature, 1.0)


def varies(temperature: Array | float | None, axis: int) -> bool:
    """Whether the temperature differs between the classes of a row."""
    return getattr(temperature, "ndim", 0) > 0 and temperature.shape[axis] != 1  # type: ignore[union-attr]
