"""What is done to logits before they are compared: classes taken out, soft cap, temperature; and how to pull it back.

Each step keeps -inf where it is, and is written so that automatic differentiation of it loses no digit.
"""

from math import inf, nan
from typing import Any, NamedTuple

Array = Any


def masked(ops: Any, x: Array, where: Array, axis: int) -> Array:
    """Logits with the classes that ``where`` drops at -inf, and 0 throughout where it drops every class."""
    some = ops.any(where, axis=axis, keepdims=True)
    floor = ops.where(some, ops.full_like(some, -inf, dtype=x.dtype), 0.0)
    return ops.where(where, x, floor)


def capped(ops: Any, x: Array, cap: Array | float) -> Array:
    """Soft cap, c tanh(x / c), with infinities left as they are.

    With a = abs(x / c) and E = exp(-2a), tanh a = (1 - E) / (1 + E): its derivative is sech² = 4E / (1 + E)² to the
    last digit, where the customary 1 - tanh² has none left from a = 10 (float32) on. 1 - E is expm1 only where it
    cancels, since the derivative that libraries give expm1 cancels where 1 - E does not.
    """
    infinite, _, tanh = _cap(ops, x, cap)
    return ops.where(infinite, x, cap * tanh)


def _cap(ops: Any, x: Array, cap: Array | float) -> tuple[Array, Array, Array]:
    """Where x is infinite, x / cap, and its tanh."""
    infinite = ops.isinf(x)
    ratio = ops.where(infinite, 0.0, x) / cap
    side = ops.where(ratio < 0, -ops.ones_like(ratio), 1.0)
    minus_2a = -2.0 * side * ratio
    decay = ops.exp(minus_2a)
    rise = ops.where(decay < 0.5, 1.0 - decay, -ops.expm1(minus_2a))
    return infinite, ratio, side * rise / (1.0 + decay)


class CapDerivatives(NamedTuple):
    """Derivatives of the soft cap; an infinite logit passes with slope 1."""

    sech: Array  # sech(x / c), whose square is the slope; multiplied twice, so that it does not underflow on its own
    curvature: Array  # twice by x, over the slope: -2 tanh(x / c) / c
    by_cap: Array  # by c: tanh(x / c) - (x / c) sech²(x / c)

    def pulled(self, g: Array) -> Array:
        """A derivative by the capped logits as one by the logits."""
        return g * self.sech * self.sech


def cap_derivatives(ops: Any, x: Array, cap: Array | float) -> CapDerivatives:
    """What the pullbacks of a capped logit need."""
    infinite, ratio, tanh = _cap(ops, x, cap)
    decay = ops.exp(ops.where(ratio < 0, ratio, -ratio))
    sech = 2.0 * decay / (1.0 + decay * decay)
    return CapDerivatives(
        sech=ops.where(infinite, 1.0, sech),
        curvature=ops.where(infinite, 0.0, -2.0 * tanh / cap),
        by_cap=ops.where(infinite, 0.0, tanh - ratio * sech * sech),
    )


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


def over(dz: Array, temperature: Array | float | None) -> Array:
    """The derivative by logits from that by their quotients z with the temperature."""
    return dz if temperature is None else dz / temperature


def by_temperature(
    ops: Any, dz: Array, x: Array, gaps: Array, temperature: Array | float, axis: int, *, offset: Array | float = 0.0
) -> Array:
    """-Σ dz z / T, or -dz z / T for each class if the temperature varies; -inf stays out of it.

    A temperature of the row sees the gaps in place of z, which are smaller: where dz adds up to 0 their reference does
    not matter. ``offset`` is what it contributes where dz does not, as under a z-loss.
    """
    if varies(temperature, axis):
        z = tempered(ops, x, temperature)
        return 0.0 - dz * ops.where(z == -inf, 0.0, z) / temperature
    moment = ops.sum(dz * ops.where(gaps == -inf, 0.0, gaps), axis=axis, keepdims=True)
    return 0.0 - (moment + offset) / temperature


def along_temperature(
    ops: Any,
    tangent: Array | None,
    x: Array,
    gaps: Array,
    temperature: Array | float | None,
    t: Array | None,
    axis: int,
) -> Array:
    """The tangent of z = x / T, up to a constant for each row, from those of x and T; the pushforward of the above."""
    dz = ops.zeros_like(gaps) if tangent is None else over(tangent, temperature)
    if t is None:
        return dz
    z = tempered(ops, x, temperature) if varies(temperature, axis) else gaps
    return dz - ops.where(z == -inf, 0.0, z) * (t / temperature)
