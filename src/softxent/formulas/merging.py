"""Sums that merge: of exponentials over classes that come in pieces, and of losses over examples that do.

Of a piece of a row with its largest entry t are kept, beside t and over all entries but that one,

    R = Σ_j exp(x_j - r)        D = Σ_j exp(x_j - r) (r - x_j)

relative to the level r, which is t rounded to an integer. Pieces of one level add up, and t of one of them joins the
others; from a level s up to r they go by the factor exp(s - r), D with (r - s) R added. Of all classes,

    logsumexp = t + log1p(R')        entropy = log1p(R') + D' / (1 + R')        mean = t - D' / (1 + R')

with R' = exp(r - t) R and D' = exp(r - t) (D + (t - r) R), which is the same sum relative to t: terms that are not
negative, so that no digit cancels. Relative to t itself, sorted classes that come one by one would have the sums
rescaled, and rounded, every time. A level rises by 1 or more, and what was rounded before it did fades with it; within
a level the sums carry along what additions lose. So errors do not grow with the number of pieces.
"""

from math import inf, nan
from typing import Any, NamedTuple

from softxent.formulas.targets import divisor

Array = Any


class Sums(NamedTuple):
    """Of the classes seen so far, one value a row."""

    top: Array  # t, -inf if there is none
    rest: Array  # R
    rest_lost: Array  # what additions have taken from it
    drop: Array = None  # D
    drop_lost: Array = None
    position: Array = None  # of the first largest class; -1 if there is none


def of_block(
    ops: Any,
    x: Array,
    *,
    where: Array | None = None,
    start: Array | None = None,
    moments: bool = False,
    axis: int,
    dtype: Any,
) -> tuple[Array, ...]:
    """The sums of a block of classes, of those that ``where`` leaves, the first of them at the position ``start``."""
    x = ops.astype(x, dtype, copy=False)
    if x.shape[axis] == 0:
        nothing = ops.sum(x, axis=axis, keepdims=True)
        none = ops.astype(nothing, ops.positions(x, axis, 1).dtype) - 1
        sums = Sums(nothing - inf, nothing, nothing, nothing, nothing, none)
    else:
        x = x if where is None else ops.where(where, x, -inf)
        lead = ops.argmax(x, axis=axis, keepdims=True)
        top = ops.take_along_axis(x, lead, axis=axis)
        gaps = x - level(ops, top)
        exponentials = ops.exp(gaps) if moments else ops.reusing("exp", gaps)
        others = ops.put_along_axis(exponentials, lead, 0.0, axis=axis)
        rest = ops.sum(others, axis=axis, keepdims=True)
        sums = Sums(top, rest, ops.zeros_like(top))
        if moments:
            drop = ops.sum(others * ops.where(gaps == -inf, 0.0, -gaps), axis=axis, keepdims=True)
            position = lead if start is None else lead + ops.astype(start, lead.dtype)
            if where is not None:
                position = ops.where(ops.any(where, axis=axis, keepdims=True), position, -1)
            sums = Sums(top, rest, ops.zeros_like(top), drop, ops.zeros_like(top), position)
    return sums if moments else sums[:3]


def merged(ops: Any, *, axis: int, **given: Array) -> tuple[Array, ...]:  # noqa: ARG001 - each row by itself
    """The sums of classes that are in one piece or the other; what the other has is called ``other_…``."""
    one, other = parted(given)
    a, b = Sums(**one), Sums(**other)
    first = leads(ops, a, b)
    high = Sums(*(None if x is None else ops.where(first, x, y) for x, y in zip(a, b, strict=True)))
    low = Sums(*(None if x is None else ops.where(first, y, x) for x, y in zip(a, b, strict=True)))

    r = level(ops, high.top)
    s = ops.where(low.top == -inf, r, level(ops, low.top))
    fade = ops.exp(difference(ops, s, r))
    led = ops.exp(difference(ops, low.top, r))  # the lower of the largest is one of the others now
    rest, lost = added(ops, (high.rest, high.rest_lost), (fade * low.rest, fade * low.rest_lost))
    rest, lost = added(ops, (rest, lost), (led, 0.0))
    if high.drop is None:
        return high.top, rest, lost
    drop, drop_lost = added(ops, (high.drop, high.drop_lost), (fade * low.drop, fade * low.drop_lost))
    climb = difference(ops, r, s) * (low.rest + low.rest_lost)
    depth = difference(ops, r, ops.where(low.top == -inf, r, low.top))
    drop, drop_lost = added(ops, (drop, drop_lost), (fade * climb + led * depth, 0.0))
    return high.top, rest, lost, drop, drop_lost, high.position


def parted(given: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The fields of one state and of the other."""
    one = {name: x for name, x in given.items() if not name.startswith("other_")}
    return one, {name.removeprefix("other_"): x for name, x in given.items() if name not in one}


def leads(ops: Any, a: Sums, b: Sums) -> Array:
    """Whether the largest entry of the first is that of both: the first NaN, or the first of the largest."""
    nan_a, nan_b = ops.isnan(a.top), ops.isnan(b.top)
    above, equal = (a.top > b.top) | (nan_a & ~nan_b), ops.equal(a.top, b.top) | (nan_a & nan_b)
    if a.position is None:
        return above | equal
    earlier = (b.position < 0) | ((a.position >= 0) & (a.position <= b.position))
    return above | (equal & earlier)


def level(ops: Any, top: Array) -> Array:
    """The largest entry rounded to an integer, a constant; 0 for none."""
    constant = ops.stop_gradient(top)
    return ops.where(constant == -inf, 0.0, ops.round(constant))


def difference(ops: Any, a: Array, b: Array) -> Array:
    """a - b, also of equal infinities."""
    return ops.where((a == b) & ops.isinf(a), 0.0, a - b)


def added(ops: Any, a: tuple[Array, Any], b: tuple[Array, Any]) -> tuple[Array, Array]:
    """A sum, and what it has lost (D. E. Knuth): nothing where it is not finite."""
    (x, x_lost), (y, y_lost) = a, b
    u, v = ops.stop_gradient(x), ops.stop_gradient(y)
    total = u + v
    part = total - u
    error = (u - (total - part)) + (v - part)
    return x + y, ops.where(ops.isfinite(total), error + (x_lost + y_lost), 0.0)


# -- what sums tell of the row ----------------------------------------------------------------------------------------


class Excess(NamedTuple):
    """The largest entry and what is beside it, as in ``shift``."""

    constant: Array  # the largest entry, held constant
    sound: Array  # whether it is finite
    reference: Array  # the same, 0 where it is not
    rise: Array  # for derivatives: it is 0
    fade: Array  # exp(r - t)
    height: Array  # t - r, which rises with t
    others: Array  # R', where the largest entry does not move


def excess(ops: Any, s: Sums) -> Excess:
    """Sums relative to the largest entry."""
    constant = ops.stop_gradient(s.top)
    sound = ops.isfinite(constant)
    top = ops.where(sound, s.top, 0.0)
    reference = ops.stop_gradient(top)
    height = ops.where(sound, reference - level(ops, s.top), 0.0)
    fade = ops.exp(-height)
    others = fade * (s.rest + s.rest_lost)
    others = ops.where((constant == inf) & ops.isnan(others), 0.0, others)
    return Excess(constant, sound, reference, top - reference, fade, height + (top - reference), others)


def log_sum(ops: Any, *, axis: int, **sums: Array) -> Array:  # noqa: ARG001 - each row by itself
    """log Σ exp(x). Its derivative is 0 for an empty sum, and NaN for a sum that is not finite."""
    s = Sums(**sums)
    e = excess(ops, s)
    rest = e.others
    of_lead = ops.log1p(rest * ops.exp(-e.rise)) + e.rise
    log_total = ops.where(rest < 1, of_lead, ops.log1p(rest + ops.expm1(e.rise)))
    beyond = ops.log((1.0 + rest) * ops.exp(ops.where(e.sound | (e.constant == -inf), 0.0, s.top)))
    found = ops.where(e.sound, e.reference + log_total, beyond)
    return ops.where(e.constant == -inf, -inf, found)


def entropy(ops: Any, *, axis: int, **sums: Array) -> Array:  # noqa: ARG001 - each row by itself
    """-Σ p log p."""
    s = Sums(**sums)
    beside, below, defined = below_top(ops, s)
    return defined * (ops.log1p(beside) + below)


def mean(ops: Any, *, axis: int, **sums: Array) -> Array:  # noqa: ARG001 - each row by itself
    """Σ p x."""
    s = Sums(**sums)
    _, below, defined = below_top(ops, s)
    return defined * (ops.where(ops.isfinite(s.top), s.top, 0.0) - below)


def confidence(ops: Any, *, axis: int, **sums: Array) -> Array:  # noqa: ARG001 - each row by itself
    """The largest probability."""
    s = Sums(**sums)
    beside, _, defined = below_top(ops, s)
    return ops.where(s.position < 0, 0.0, defined / (1.0 + beside))


def below_top(ops: Any, s: Sums) -> tuple[Array, Array, Array]:
    """R', how far the logits lie below the largest in the mean, and a factor that is NaN where softmax is undefined."""
    e = excess(ops, s)
    sinking = ops.exp(-e.rise)
    beside = e.others * sinking
    drop = sinking * (e.fade * (s.drop + s.drop_lost) + e.height * e.others)
    defined = e.sound | (s.position < 0)
    factor = ops.where(defined, ops.ones_like(beside), nan * ops.where(defined, 0.0, s.top))  # by the largest, too
    return beside, drop / (1.0 + beside), factor


# -- losses -----------------------------------------------------------------------------------------------------------


class Losses(NamedTuple):
    """Of weighted losses: the sums that their mean is made of, and its spread."""

    total: Array  # Σ w x
    total_lost: Array  # what additions have taken from it
    weight: Array  # Σ w
    weight_lost: Array
    examples: Array = None  # of weight other than 0
    squares: Array = None  # Σ w²
    centre: Array = None  # Σ w² x / Σ w²
    spread: Array = None  # Σ w² (x - centre)²


def of_losses(ops: Any, x: Array, *, weight: Array | None = None, axis: int, dtype: Any) -> tuple[Array, ...]:
    """Those of a row of losses. One of weight 0 is not looked at."""
    x = ops.astype(x, dtype, copy=False)
    w = ops.ones_like(x) if weight is None else ops.astype(weight, dtype, copy=False) + ops.zeros_like(x)
    if weight is not None:
        x = ops.where(ops.equal(w, 0), 0.0, x)

    def total(y: Array) -> Array:
        return ops.sum(y, axis=axis, keepdims=True)

    squares = total(w * w)
    centre = total(w * w * x) / divisor(ops, squares)
    spread = total(w * w * (x - centre) * (x - centre))
    examples = ops.astype(total(ops.astype(ops.not_equal(w, 0), dtype)), ops.positions(x, axis, 1).dtype)
    return Losses(total(w * x), 0.0 * squares, total(w), 0.0 * squares, examples, squares, centre, spread)


def losses_merged(ops: Any, *, axis: int = 0, **given: Array) -> tuple[Array, ...]:  # noqa: ARG001 - the same
    """Those of the one and the other; the spread by T. F. Chan, G. H. Golub and R. J. LeVeque."""
    one, other = parted(given)
    a, b = Losses(**one), Losses(**other)
    total = added(ops, (a.total, a.total_lost), (b.total, b.total_lost))
    weight = added(ops, (a.weight, a.weight_lost), (b.weight, b.weight_lost))
    if a.spread is None or b.spread is None:
        return *total, *weight
    squares = a.squares + b.squares
    share, apart = b.squares / divisor(ops, squares), b.centre - a.centre
    spread = a.spread + b.spread + apart * apart * a.squares * share
    return *total, *weight, a.examples + b.examples, squares, a.centre + apart * share, spread


def mean_loss(ops: Any, *, axis: int = 0, **sums: Array) -> Array:  # noqa: ARG001 - each row by itself
    """Σ w x / Σ w, 0 for nothing."""
    s = Losses(**sums)
    weight = s.weight + s.weight_lost
    return ops.where(ops.equal(weight, 0), 0.0, (s.total + s.total_lost) / divisor(ops, weight))


def standard_error(ops: Any, *, axis: int = 0, dtype: Any = float, **sums: Array) -> Array:
    """Of that mean: the root of n / (n - 1) Σ w² (x - mean)² / (Σ w)², the variance of a quotient of sums."""
    s = Losses(**sums)
    apart = s.centre - mean_loss(ops, axis=axis, **sums)
    weight = s.weight + s.weight_lost
    n = ops.astype(s.examples, dtype)
    few = n < 2
    variance = (s.spread + s.squares * apart * apart) / divisor(ops, weight * weight)
    return ops.where(few, nan, ops.sqrt(variance * (n / ops.where(few, 1.0, n - 1.0))))
