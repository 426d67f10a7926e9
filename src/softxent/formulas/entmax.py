"""Entmax: p_i = [1 + β (z_i + w)]₊^(1/β) with β = α - 1, z = x - max x, and the w ≤ 0 for which Σ p = 1.

α = 2 is sparsemax, and α → 1 is softmax: [1 + βy]^(1/β) is then exp(y), and w is -log Σ exp z. With
v = [1 + β (z + w)]₊ = p^β, y = (v - 1) / β (the logarithm of p, deformed by β) and s = p^(1-β) = dp/dy on the support,
0 off it, the Jacobian is diag(s) - s sᵀ / Σ s, which is symmetric, and the derivative by α

    dp/dα = b - s Σb / Σs        b = -p (y/v)² μ(1/v - 1)        μ(t) = (t - log1p t) / t²

in which nothing is left of the 0/0 that α = 1 would be. Both add up to 0 in each row.

What is solved for has no graph. Its derivatives are put back afterwards, from p and α alone: two steps of Taylor's
series in the operands' own differences to themselves, which are 0, give first and second derivatives in closed form.
"""

from collections.abc import Callable
from math import inf, log, log2, nan
from typing import Any, NamedTuple

from softxent.formulas.logits import masked, masked_temperature
from softxent.formulas.marks import whole_rows
from softxent.formulas.participation import only

Array = Any

# The cotangent of each result that has one, and the operands that the result has derivatives by.
COTANGENTS = {"g": {"logits", "alpha"}}


class Shares(NamedTuple):
    """Probabilities of a row and what their derivatives are made of."""

    p: Array
    beta: Array | float
    y: Array  # (p^β - 1) / β; off the support, how far below -1/β
    s: Array  # p^(1-β), 0 off the support
    total: Array  # Σ s
    lead: Array  # position of the largest s
    most: Array  # whether that is more than half of the total


@whole_rows
def value(
    ops: Any, logits: Array, *, alpha: Array | float, where: Array | None = None, axis: int, dtype: Any, result: Any
) -> Array:
    """Entmax along ``axis``; 0 at dropped classes."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    d = laid_out(ops, logits, alpha, where, axis, dtype)
    return ops.astype(only(ops, where, d.p), result, copy=False)


@whole_rows
def pullback(
    ops: Any,
    logits: Array,
    *,
    g: Array,
    by: tuple[str, ...],
    alpha: Array | float,
    where: Array | None = None,
    axis: int,
    dtype: Any,
    **_: Any,
) -> tuple[Array, ...]:
    """s_i (g_i - Σ s g / Σ s) by the logits, Σ b_i (g_i - Σ s g / Σ s) by α."""
    if logits.shape[axis] == 0:
        return tuple(ops.astype(logits, dtype) for _ in by)
    d = laid_out(ops, logits, alpha, where, axis, dtype)
    r = relative(ops, only(ops, where, ops.astype(g, dtype, copy=False)), d, axis)
    rules = {
        "logits": lambda: only(ops, where, d.s * r),
        "alpha": lambda: ops.sum(only(ops, where, drift(ops, d) * r), axis=axis, keepdims=True),
    }
    return tuple(rules[name]() for name in by)


@whole_rows
def pushforward(
    ops: Any,
    logits: Array,
    *,
    t_logits: Array | None = None,
    t_alpha: Array | None = None,
    alpha: Array | float,
    where: Array | None = None,
    axis: int,
    dtype: Any,
    result: Any,
) -> Array:
    """The same for tangents of the logits and of α."""
    if logits.shape[axis] == 0:
        return ops.astype(logits, result)
    d = laid_out(ops, logits, alpha, where, axis, dtype)
    t = None if t_logits is None else only(ops, where, ops.astype(t_logits, dtype, copy=False))
    return ops.astype(only(ops, where, moved(ops, d, t, t_alpha, axis)), result, copy=False)


def laid_out(ops: Any, logits: Array, alpha: Array | float, where: Array | None, axis: int, dtype: Any) -> Shares:
    """The row of a call, dropped classes out."""
    x = ops.astype(logits, dtype, copy=False)
    if where is not None:
        x = masked(ops, x, where, axis)
    return shares(ops, x, masked_temperature(ops, alpha, where, axis), axis)


# -- derivatives ------------------------------------------------------------------------------------------------------


def shares(ops: Any, x: Array, alpha: Array | float, axis: int) -> Shares:
    """The probabilities of logits that are already cast and masked, with first and second derivatives."""
    numeric = isinstance(alpha, float)
    x_still, alpha_still = ops.stop_gradient(x), alpha if numeric else ops.stop_gradient(alpha)
    p, y = solved(ops, x_still, alpha_still, axis)
    d = spread_of(ops, p, y, alpha_still - 1.0, axis)
    if x_still is x and alpha_still is alpha:
        return d
    gone = ops.equal(p, 0)
    t = None if x_still is x else ops.where(gone, 0.0, x) - ops.where(gone, 0.0, x_still)
    t_alpha = None if alpha_still is alpha else alpha - alpha_still
    once = moved(ops, d, t, t_alpha, axis)
    d = spread_of(ops, p + once, y, alpha - 1.0, axis)
    twice = 0.5 * (once + moved(ops, d, t, t_alpha, axis))
    return spread_of(ops, p + twice, y, alpha - 1.0, axis)


def spread_of(ops: Any, p: Array, y: Array, beta: Array | float, axis: int) -> Shares:
    """What the derivatives at p are made of."""
    kept = ops.not_equal(p, 0)
    s = ops.where(kept, slope(ops, ops.where(kept, p, 1.0), beta), 0.0)
    lead = ops.argmax(ops.stop_gradient(s), axis=axis, keepdims=True)
    total = ops.sum(s, axis=axis, keepdims=True)
    return Shares(p, beta, y, s, total, lead, 2.0 * ops.take_along_axis(s, lead, axis=axis) > total)


def slope(ops: Any, p: Array, beta: Array | float) -> Array:
    """p^(1-β). For β > 1 it grows without bound as p vanishes; its square is to be a number still."""
    if isinstance(beta, float):
        if beta == 0.0:
            return p
        if beta == 0.5:
            return ops.sqrt(p)
        if beta == 1.0:
            return 1.0 + 0.0 * p
    exponent = (1.0 - beta) * ops.log(p)
    bound = 0.5 * log(ops.finfo(p.dtype).max)
    return ops.exp(ops.where(exponent > bound, bound, exponent))


def drift(ops: Any, d: Shares) -> Array:
    """b: how p moves with α where the threshold does not; 0 off the support."""
    log_p = ops.log(ops.where(ops.equal(d.p, 0), 1.0, d.p))
    ratio = 0.0 - deformed(ops, -log_p, d.beta)
    return 0.0 - d.p * ratio * (ratio * defect(ops, -d.beta * ratio))


def relative(ops: Any, g: Array, d: Shares, axis: int) -> Array:
    """g_i - Σ s g / Σ s. Where one entry has most of the total, nothing is left of its own g to cancel."""
    g = g - ops.where(d.most, ops.take_along_axis(g, d.lead, axis=axis), 0.0)
    return g - ops.sum(d.s * g, axis=axis, keepdims=True) / d.total


def moved(ops: Any, d: Shares, t: Array | None, t_alpha: Array | None, axis: int) -> Array:
    """How p moves with the logits and α: b_i - s_i Σb / Σs, b being what each entry would do for itself.

    Where one entry has most of Σs it moves by what the others leave it. That is the transpose of what ``relative``
    does, so that automatic differentiation of either loses nothing.
    """
    b = ops.zeros_like(d.p) if t is None else d.s * t
    if t_alpha is not None:
        b = b + drift(ops, d) * t_alpha
    b = b - d.s * (ops.sum(b, axis=axis, keepdims=True) / d.total)
    own = ops.take_along_axis(b, d.lead, axis=axis)
    others = ops.sum(ops.put_along_axis(b + 0.0, d.lead, 0.0, axis=axis), axis=axis, keepdims=True)
    return ops.put_along_axis(b, d.lead, ops.where(d.most, 0.0 - others, own), axis=axis)


# -- functions that 0/0 would be --------------------------------------------------------------------------------------


def defect(ops: Any, t: Array) -> Array:
    """μ(t) = (t - log1p t) / t² for t ≥ -1: 1/2 at 0, always positive.

    With c = t / (2 + t), log1p t is 2 atanh c, and μ = (1 - c) (1 - c (1 - c) (1/3 + c²/5 + c⁴/7 + …)) / 2.
    """
    near = (t > -0.4) & (t < 0.66)
    c = ops.where(near, t, 0.0)
    c = c / (2.0 + c)
    square = c * c
    series = ops.zeros_like(c)
    for k in range(27, 1, -2):
        series = series * square + 1.0 / k
    far = ops.where(near, 1.0, t)
    return ops.where(near, 0.5 * (1.0 - c) * (1.0 - c * (1.0 - c) * series), (1.0 - ops.log1p(far) / far) / far)


def deformed(ops: Any, u: Array, beta: Array | float) -> Array:
    """(exp(βu) - 1) / β: u itself for β = 0."""
    if isinstance(beta, float):
        return u if beta == 0.0 else ops.expm1(beta * u) / beta
    t = beta * u
    near = (t > -0.0625) & (t < 0.0625)
    small = ops.where(near, t, 0.0)
    series = ops.ones_like(small)
    for k in range(10, 1, -1):
        series = 1.0 + series * small / k
    far = ops.where(near, 1.0, t)
    return ops.where(near, u * series, ops.expm1(far) / ops.where(near, 1.0, beta))


# -- the probabilities themselves, where nobody differentiates --------------------------------------------------------


def solved(ops: Any, x: Array, alpha: Array | float, axis: int) -> tuple[Array, Array]:
    """p, and y = z + w, of logits; NaN throughout a row where these have no largest finite one, or α < 1."""
    largest = ops.max(x, axis=axis, keepdims=True)
    sound = ops.isfinite(largest)
    z = x - ops.where(sound, largest, 0.0)
    beta = alpha - 1.0
    if isinstance(beta, float):
        if beta in {0.5, 1.0}:
            p, v, w = by_sorting(ops, z, beta, axis)
        elif beta <= 1.0:
            p, v, w = by_newton(ops, z, beta, axis)
        else:
            p, v, w = by_support(ops, z, beta, axis)
    else:
        sound = sound & (beta >= 0)
        large = beta > 1
        few = by_support(ops, z, ops.where(large, beta, 2.0), axis)
        many = by_newton(ops, z, ops.where(large, 1.0, beta), axis)
        p, v, w = (ops.where(large, one, other) for one, other in zip(few, many, strict=True))
    p, w = completed(ops, p, v, w, axis)
    undefined = ops.where(sound, ops.zeros_like(p), nan)
    return p + undefined, z + (w + undefined)


def completed(ops: Any, p: Array, v: Array, w: Array, axis: int) -> tuple[Array, Array]:
    """A last step of Newton's in p itself, which makes Σ p = 1 but for the rounding of each."""
    s = p / ops.where(ops.equal(p, 0), 1.0, v)
    surplus = (ops.sum(p, axis=axis, keepdims=True) - 1.0) / ops.sum(s, axis=axis, keepdims=True)
    p = p - s * surplus
    return ops.where(p > 0, p, 0.0), w - surplus


def by_sorting(ops: Any, z: Array, beta: float, axis: int) -> tuple[Array, Array, Array]:
    """β = 1 and 1/2: p is v or v², v = u + βz being linear in z, so that sums of the largest z tell the support.

    Entry k, from the largest on, belongs to it if Σ p over those before is less than 1 with the threshold at z_k.
    """
    z = ops.where(z > -1.0 / beta, z, -1.0 / beta)  # never in the support
    ordered = ops.sort(z, axis=axis, descending=True)
    count = ops.astype(ops.positions(z, axis, z.shape[axis]), z.dtype) + 1.0
    first = ops.cumulative_sum(ordered, axis=axis)
    if beta == 1.0:
        inside = first - count * ordered < 1.0
    else:
        second = ops.cumulative_sum(ordered * ordered, axis=axis)
        inside = second - ordered * (first + first - count * ordered) < 4.0
    last = ops.min(ops.where(inside, ordered, 0.0), axis=axis, keepdims=True)
    inside = z >= last
    size = ops.sum(ops.astype(inside, z.dtype), axis=axis, keepdims=True)
    mean = ops.sum(ops.where(inside, z, 0.0), axis=axis, keepdims=True) / size
    if beta == 1.0:
        u = 1.0 / size - mean
    else:
        beyond = ops.where(inside, z - mean, 0.0)
        left = 1.0 - 0.25 * ops.sum(beyond * beyond, axis=axis, keepdims=True)
        u = ops.sqrt(ops.where(left > 0, left, 0.0) / size) - 0.5 * mean
    v = u + beta * z
    v = ops.where(v > 0, v, 0.0)
    return (v if beta == 1.0 else v * v), v, (u - 1.0) / beta


def by_newton(ops: Any, z: Array, beta: Array | float, axis: int) -> tuple[Array, Array, Array]:
    """0 ≤ β ≤ 1: Newton's method from w = 0 for (Σ p)^β = 1.

    (Σ p)^β is the (1/β)-norm of v, convex in w, so that the steps descend to the root and never past it; it is linear
    where all z are equal, and where β is 0. What a step has too much falls with the number of entries that it drops
    from the support: of n, log2(n) steps can drop half of what is left each time, and few more are needed.

    u = 1 + βw is kept beside w: where it is small, as with many classes of like size, v = u + βz has digits that
    1 + β (z + w) has not.
    """
    alive = z > -inf
    z = ops.where(alive, z, 0.0)
    w = ops.zeros_like(ops.max(z, axis=axis, keepdims=True))
    u = 1.0 + w

    def at(w: Array, u: Array) -> tuple[Array, Array]:
        t = beta * (z + w)
        v = ops.where(u < 0.5, u + beta * z, 1.0 + t)
        kept = alive & (v > 0)
        v = ops.where(kept, v, 1.0)
        log_v = ops.where(u < 0.5, ops.log(v), ops.log1p(ops.where(kept, t, 0.0)))
        if isinstance(beta, float):
            log_p = z + w if beta == 0.0 else log_v / beta
        else:
            log_p = ops.where(ops.equal(beta, 0), z + w, log_v / ops.where(ops.equal(beta, 0), 1.0, beta))
        return ops.where(kept, ops.exp(log_p), 0.0), v

    def further(w: Array, u: Array) -> tuple[Array, Array]:
        p, v = at(w, u)
        total = ops.sum(p, axis=axis, keepdims=True)
        step = total / ops.sum(p / v, axis=axis, keepdims=True) * deformed(ops, -ops.log(total), beta)
        return w + step, u + beta * step

    most = beta if isinstance(beta, float) else 1.0
    count = 2 if most == 0.0 else 5 + int(most * (2.0 + log2(ops.classes(z, axis))))
    w, u = repeated(count, further, w, u)
    return *at(w, u), w


def repeated(count: int, step: Callable[..., tuple[Array, ...]], *state: Array) -> tuple[Array, ...]:
    """A step so many times over."""
    for _ in range(count):
        state = step(*state)
    return state


def by_support(ops: Any, z: Array, beta: Array | float, axis: int) -> tuple[Array, Array, Array]:
    """β > 1: the support by bisection over the sorted z, then Newton's method for its smallest probability q.

    p_i = (q^β + β (z_i - z_k))^(1/β) is convex in q, with slope (q / p_i)^(β-1) from 0 to 1, where in w it is neither.
    """
    z = ops.where(z > -2.0 / beta, z, -2.0 / beta)  # never in the support
    ordered = ops.sort(z, axis=axis, descending=True)
    size = z.shape[axis]

    def power(v: Array) -> Array:
        kept = v > 0
        return ops.where(kept, ops.exp(ops.log(ops.where(kept, v, 1.0)) / beta), 0.0)

    position = ops.zeros_like(ops.argmax(z, axis=axis, keepdims=True))
    for k in range((size - 1).bit_length() - 1, -1, -1):
        there = position + 2**k
        exists = there < size
        there = ops.where(exists, there, size - 1)
        mass = ops.sum(power(beta * (z - ops.take_along_axis(ordered, there, axis=axis))), axis=axis, keepdims=True)
        position = ops.where(exists & (mass < 1), there, position)
    last = ops.take_along_axis(ordered, position, axis=axis)
    kept, edge = z >= last, ops.equal(z, last)
    q = 1.0 / ops.sum(ops.astype(kept, z.dtype), axis=axis, keepdims=True)

    def at(q: Array) -> Array:
        p = power(ops.exp(beta * ops.log(q)) + beta * ops.where(kept, z - last, 0.0))
        return ops.where(edge, q, ops.where(kept, p, 0.0))

    def further(q: Array) -> tuple[Array]:
        p = at(q)
        slopes = ops.exp((beta - 1.0) * ops.log(q / ops.where(kept, p, 1.0)))
        surplus = ops.sum(p, axis=axis, keepdims=True) - 1.0
        lower = q - surplus / ops.sum(ops.where(kept, slopes, 0.0), axis=axis, keepdims=True)
        return (ops.where(lower > 0, lower, 0.5 * q),)

    (q,) = repeated(10, further, q)
    p = at(q)
    v = ops.exp(beta * ops.log(ops.where(kept, p, 1.0)))
    return p, v, (ops.exp(beta * ops.log(q)) - 1.0) / beta - last
