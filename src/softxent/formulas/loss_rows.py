"""What a categorical loss is made of, row by row, once every option is applied; value and derivatives start from it."""

from collections.abc import Callable
from math import inf, nan
from typing import Any, NamedTuple

from softxent.formulas.costs import PARAMETERS, Cost, Likelihood
from softxent.formulas.log_softmax import logarithms
from softxent.formulas.logits import capped, masked, masked_temperature, tempered, varies
from softxent.formulas.logsumexp import log_of_sum
from softxent.formulas.participation import both, only, present_rows
from softxent.formulas.shift import Shifted, probabilities, shifted, shortfall
from softxent.formulas.targets import divisor, in_range, product, smoothed

Array = Any


class Rows(NamedTuple):
    """Logits and target of every row. Where nothing takes part, harmless numbers stand in for both."""

    given: Array  # the logits, dropped classes out
    capped: Array  # the same, bounded by the soft cap
    x: Array  # the same, over a temperature if that varies between classes
    temperature: Array | float | None  # of whole rows, yet to divide
    heat: Array | float | None  # the temperature, whichever it is
    kept: Array | None  # classes that take part
    present: Array | None  # rows that take part
    label: Array | None  # None if the target is a distribution
    valid: Array | None  # whether a label is a class; None if that is known
    validity: Array | None  # 1, and NaN for a label that is none
    q: Array | None  # the target; None if it is a label and not smoothed
    target: Array | None  # q', smoothed
    a: Array | None  # what each class's cost is multiplied by: w · α · q'
    worth: Array | None  # the same of a label alone; None if that is 1
    share: Array | None  # W = Σ w q / Σ q; None without class weights, where it is 1
    cost: Callable[[Likelihood], Cost] | None  # what a class costs; None if that is its surprise


class AgainstLabel(NamedTuple):
    """The label of each row beside the other classes: R is what these add up to, relative to the largest logit."""

    reference: Array  # the largest logit; 0 if that is not finite and somebody differentiates
    gap: Array  # of the label to the largest
    others: Array  # the exponentials of the others' gaps; 0 at the label
    own: Array  # exp(gap)
    rest: Array  # R
    total: Array  # R + exp(gap)
    log_total: Array
    lead: tuple[Array, Array] | None  # if somebody differentiates: where another class has most of the mass; its share


def laid_out(
    ops: Any,
    logits: Array,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    weight: Array | None = None,
    alpha: Array | None = None,
    label_smoothing: Array | float | None = None,
    smoothing_prior: Array | None = None,
    temperature: Array | float | None = None,
    softcap: Array | float | None = None,
    hard: bool,
    in_bounds: bool = False,
    axis: int,
    dtype: Any,
    active: Array | None = None,
    steady: Callable[[Any], Any] = lambda operand: operand,
    **parameters: Array | float,
) -> Rows:
    """The rows of a call; ``active`` leaves out further ones, and what ``steady`` makes constants has no derivative.

    ``in_bounds`` says that the labels that take part are known to be classes. Of ``parameters`` there is one at most:
    it makes a cost of ``costs``.
    """
    raw = ops.astype(logits, dtype, copy=False)
    present = both(active, present_rows(ops, labels, where, ignore_index, hard=hard, axis=axis))

    # The logits as softmax sees them: dropped classes out, capped, and over a temperature that differs between classes.
    kept = both(where, present)
    raw = steady(raw if kept is None else masked(ops, raw, kept, axis))
    bounded = raw if softcap is None else capped(ops, raw, steady(softcap))
    heat = steady(masked_temperature(ops, temperature, kept, axis))
    x, of_rows = (tempered(ops, bounded, heat), None) if varies(heat, axis) else (bounded, heat)

    # The target: a label, a distribution q where one is needed, and W = Σ w q / Σ q, which is 1 without class weights.
    label: Any = None
    valid: Any = None
    share: Any = None
    worth: Any = None
    if hard:
        label, valid = class_of(ops, labels, present, ops.classes(x, axis), in_bounds=in_bounds)
        share = None if weight is None else steady(ops.take_along_axis(weight, label, axis=axis))
        worth = share if alpha is None else times(share, steady(ops.take_along_axis(alpha, label, axis=axis)))
        q = None if label_smoothing is None else ops.put_along_axis(ops.zeros_like(x), label, 1.0, axis=axis)
    else:
        q = ops.astype(labels, dtype, copy=False)
        q = steady(q if where is None and active is None else ops.where(present, q, 0.0))
        share = None if weight is None else steady(mean_weight(ops, weight, q, axis))
    target = q
    if label_smoothing is not None:
        target = smoothed(ops, q, label_smoothing, where=where, prior=smoothing_prior, axis=axis)
    a = target
    for factor in (weight, alpha):
        a = a if a is None or factor is None else product(ops, a, factor)

    return Rows(
        given=raw,
        capped=bounded,
        x=x,
        temperature=of_rows,
        heat=heat,
        kept=kept,
        present=present,
        label=label,
        valid=valid,
        validity=validity_of(ops, labels, valid, present, dtype),
        q=q,
        target=target,
        a=steady(a),
        worth=worth,
        share=share,
        cost=priced(ops, {name: steady(x) for name, x in parameters.items()}),
    )


def priced(ops: Any, parameters: dict[str, Array | float]) -> Callable[[Likelihood], Cost] | None:
    """What a class costs, by the one parameter given; its surprise, if there is none."""
    for name, parameter in parameters.items():
        return lambda likelihood: PARAMETERS[name](ops, likelihood, parameter)
    return None


def times(factor: Array | None, y: Array) -> Array:
    """A product with a factor that may be absent."""
    return y if factor is None else factor * y


def class_of(
    ops: Any, labels: Array, present: Array | None, size: int, *, in_bounds: bool
) -> tuple[Array, Array | None]:
    """The label of each row, 0 where it takes no part or is no class; and whether it is one, None if that is known."""
    valid = None if in_bounds else in_range(ops, labels, size)
    is_class = both(valid, present)
    return labels if is_class is None else ops.where(is_class, labels, ops.zeros_like(labels)), valid


def validity_of(ops: Any, labels: Array, valid: Array | None, present: Array | None, dtype: Any) -> Array | None:
    """1, and NaN for a label out of range: as a factor it makes the row's derivative NaN as well."""
    if valid is None:
        return None
    one = ops.full_like(labels, 1.0, dtype=dtype)
    return ops.where(valid if present is None else valid | ~present, one, nan)


def masses(
    ops: Any,
    labels: Array,
    *,
    where: Array | None = None,
    ignore_index: Array | int | None = None,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    hard: bool,
    in_bounds: bool = False,
    mass: str,
    size: int,
    axis: int,
    dtype: Any,
    **_: Any,
) -> Array:
    """What each row counts for in a mean: that depends on no logit, and can be had before any is looked at."""
    present = present_rows(ops, labels, where, ignore_index, hard=hard, axis=axis)
    one = ops.full_like(labels if hard else present, 1.0, dtype=dtype)
    if size == 0:  # no class to be of
        return ops.zeros_like(one)
    share: Any = None
    if weight is not None and mass != "count":
        if hard:
            label = class_of(ops, labels, present, size, in_bounds=in_bounds)[0]
            share = ops.take_along_axis(weight, label, axis=axis)
        else:
            q = ops.where(present, ops.astype(labels, dtype, copy=False), 0.0)
            share = mean_weight(ops, weight, q, axis)
    return mass_of(ops, one, present, share, sample_weight, mass)


def mass_of(
    ops: Any, one: Array, present: Array | None, share: Array | None, sample_weight: Array | None, mass: str
) -> Array:
    """Sample weight times W, or a count of 1; 0 for a row that takes no part."""
    if mass == "count":
        return only(ops, present if sample_weight is None else both(ops.not_equal(sample_weight, 0), present), one)
    share = one if share is None else share
    if sample_weight is not None:
        share = sample_weight * finite_where(ops, ops.equal(sample_weight, 0), share)
        share = ops.where(sample_weight < 0, nan, share)
    return only(ops, present, share)


def weighted(
    ops: Any, present: Array | None, share: Array | None, loss: Array, sample_weight: Array | None, mass: str
) -> tuple[Array, Array]:
    """Losses per unit of sample weight as those of their rows, and what each row counts for."""
    if sample_weight is not None:  # a weight of 0 has the loss for its derivative, if that is finite
        loss = sample_weight * finite_where(ops, ops.equal(sample_weight, 0), loss)
    return only(ops, present, loss), mass_of(ops, ops.ones_like(loss), present, share, sample_weight, mass)


def by_weight(
    ops: Any,
    present: Array | None,
    share: Array | None,
    loss: Array,
    g: Array,
    g_mass: Array,
    sample_weight: Array,
    mass: str,
) -> Array:
    """The derivative of the same by the weight: the loss, and W for the mass; at 0 too, where they are finite."""
    idle = ops.equal(sample_weight, 0)
    found = g * finite_where(ops, idle, loss)
    if mass != "count":
        found = found + (g_mass if share is None else g_mass * finite_where(ops, idle, share))
    return only(ops, present, found)


def opposed(ops: Any, r: Rows, axis: int) -> AgainstLabel | Shifted:
    """The logits against the label, or shifted where the target is a distribution."""
    return against_label(ops, r, axis) if r.a is None else shifted(ops, r.x, axis, r.temperature)


def against_label(ops: Any, r: Rows, axis: int) -> AgainstLabel:
    """Gaps and exponentials of the classes beside the label.

    They refer to the label's own logit where that is the largest, and to a constant elsewhere: the derivative goes
    through the label where it matters, and neither 1 - p nor a difference of logarithms is left to cancel.
    """
    largest = ops.max(r.x, axis=axis, keepdims=True)
    constant = ops.stop_gradient(largest)
    chosen = ops.take_along_axis(r.x, r.label, axis=axis)
    watched = constant is not largest
    sound = ops.isfinite(constant) if watched else None
    reference = ops.where(sound, constant, 0.0) if watched else constant
    pivot, lag = reference, chosen - reference
    if watched:  # the same numbers, differentiated otherwise
        hit = sound & ops.equal(chosen, constant)
        pivot, lag = ops.where(hit, chosen, reference), ops.where(hit, 0.0, lag)
    gap = tempered(ops, lag, r.temperature)
    gaps = ops.put_along_axis(tempered(ops, ops.minus(r.x, pivot), r.temperature), r.label, -inf, axis=axis)
    others = ops.reusing("exp", gaps)
    rest = ops.sum(others, axis=axis, keepdims=True)
    if watched:  # where the largest logit is not finite, softmax is not defined
        rest = rest * ops.where(sound, ops.ones_like(rest), nan)
    own = ops.exp(gap)
    excess = rest + (own - 1.0)  # of which nothing is lost where R is the smaller: there the gap is 0
    total, log_total, lead = rest + own, ops.log1p(excess), None
    if watched:  # another class with most of the mass has the share 1 / (1 + r), which is differentiated as such
        top = ops.equal(r.x, constant)
        rise = tempered(ops, ops.where(sound, largest, 0.0) - reference, r.temperature)
        remainder = ops.sum(ops.where(top, 0.0, others), axis=axis, keepdims=True) + own
        remainder = remainder * ops.exp(-rise)
        alone = ~hit & (total < 2)
        log_total = ops.where(alone, ops.log1p(remainder) + rise, log_total)
        lead = alone & top, 1.0 / (1.0 + remainder)
    return AgainstLabel(pivot, gap, others, own, rest, total, log_total, lead)


def beside(ops: Any, c: AgainstLabel, factor: Array) -> Array:
    """Softmax of the classes beside the label, and 0 there, times a factor; it may take the exponentials' place."""
    if c.lead is None:
        return ops.reusing("multiply", c.others, factor / c.total)
    return factor * ops.where(*c.lead, c.others / c.total)


def surprise(c: AgainstLabel) -> Array:
    """-log softmax at the label, two terms that are not negative."""
    return c.log_total - c.gap


def likelihood(ops: Any, c: Any, axis: int) -> Likelihood:
    """Of the label, or of every class where the target is a distribution."""
    if isinstance(c, AgainstLabel):
        return Likelihood(surprise(c), c.own / c.total, lacking_of(ops, c))
    p = probabilities(ops, c, axis)
    return Likelihood(0.0 - logarithms(ops, c, axis), p, ops.put_along_axis(1.0 - p, c.lead, shortfall(c), axis=axis))


def lacking_of(ops: Any, c: AgainstLabel) -> Array:
    """What the label's probability lacks to 1."""
    lacking = c.rest / c.total
    if c.lead is None:
        return lacking
    return ops.where(c.rest < 1, lacking, 1.0 - c.own / c.total)  # the same number, differentiated otherwise


class Given(NamedTuple):
    """Costs that come from no logits: of the label, or of every class where the target is a distribution."""

    cost: Array


def cost_of(ops: Any, r: Rows, c: Any, axis: int) -> Array:
    """What the label costs, or every class where the target is a distribution."""
    if isinstance(c, Given):
        return c.cost
    if r.cost is not None:
        return r.cost(likelihood(ops, c, axis)).of
    return surprise(c) if isinstance(c, AgainstLabel) else 0.0 - logarithms(ops, c, axis)


def per_unit(ops: Any, r: Rows, c: Any, z_loss: Array | float | None, axis: int) -> tuple[Array, Array | None]:
    """A row's loss per unit of sample weight, and the z-loss in it."""
    cost = cost_of(ops, r, c, axis)
    if r.a is None:
        loss = validated(r, cost)
        loss = loss if r.worth is None else product(ops, r.worth, loss)
    else:
        loss = validated(r, ops.sum(product(ops, r.a, cost), axis=axis, keepdims=True))
    if z_loss is None:
        return loss, None
    log_z = log_of_sum(ops, r.x, axis, r.temperature)
    penalty = product(ops, z_loss * share_of(ops, r, log_z), log_z * log_z)
    return loss + penalty, penalty


def target_log_probability(ops: Any, r: Rows, c: Any, axis: int) -> Array:
    """log p at a label, and on average over a distribution."""
    if r.a is None:
        return 0.0 - validated(r, surprise(c))
    log_p = ops.sum(product(ops, r.q, logarithms(ops, c, axis)), axis=axis, keepdims=True)
    return validated(r, log_p)


def label_of(ops: Any, r: Rows, axis: int) -> Array:
    """The label; of a distribution its largest class."""
    return ops.argmax(r.q, axis=axis, keepdims=True) if r.label is None else r.label


def finite_where(ops: Any, idle: Array, y: Array) -> Array:
    """0 in place of what is not finite, in idle rows."""
    return ops.where(idle & ~ops.isfinite(y), 0.0, y)


def validated(r: Any, y: Array) -> Array:
    """NaN in place of what belongs to a label that is no class, or no target."""
    return times(r.validity, y)


def share_of(ops: Any, r: Rows, like: Array) -> Array:
    """W, as an array of rows."""
    return ops.ones_like(like) if r.share is None else r.share


def mean_weight(ops: Any, weight: Array, q: Array, axis: int) -> Array:
    """Class weights averaged over a distribution that need not be normalised."""
    total = ops.sum(q, axis=axis, keepdims=True)
    return ops.sum(product(ops, q, weight), axis=axis, keepdims=True) / divisor(ops, total)
