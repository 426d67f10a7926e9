"""What an evaluation counts: where labels stand among classes, how sure predictions are, and how often right."""

from math import inf
from typing import Any

from softxent.formulas.marks import whole_rows
from softxent.formulas.merging import Sums, confidence, entropy, of_block, of_losses
from softxent.formulas.targets import in_range

Array = Any


def standing(ops: Any, x: Array, labels: Array, *, axis: int, dtype: Any) -> tuple[Array, Array, Array]:
    """How many classes come before the label, the largest probability, and the entropy.

    Before it come larger logits, and equal ones of smaller index, as for the argmax; everything and more does where the
    label is no class, or softmax is not defined.
    """
    x = ops.astype(x, dtype, copy=False)
    valid = in_range(ops, labels, ops.classes(x, axis))
    positions = ops.positions(x, axis, x.shape[axis])
    index = ops.astype(ops.where(valid, labels, ops.zeros_like(labels)), positions.dtype)
    own = ops.take_along_axis(x, index, axis=axis)
    before = (x > own) | (ops.equal(x, own) & (positions < index))
    count = ops.sum(ops.astype(before, dtype), axis=axis, keepdims=True)
    sums = dict(zip(Sums._fields, of_block(ops, x, moments=True, axis=axis, dtype=dtype), strict=True))
    sureness = confidence(ops, axis=axis, **sums)
    return ops.where(valid & ~ops.isnan(sureness), count, inf), sureness, entropy(ops, axis=axis, **sums)


@whole_rows
def tallies(
    ops: Any,
    losses: Array,
    before: Array,
    sureness: Array,
    entropies: Array,
    *,
    kept: Array | None = None,
    top: tuple[int, ...],
    bins: int,
    axis: int,
    dtype: Any,
) -> Array:
    """What is counted over one row of examples, of those that are ``kept``: all in one array, to be read at once.

    The sums that losses merge by, Σ entropy, how many labels are among the first of each number in ``top``, and for
    each bin of confidence, (m / bins, (m + 1) / bins], how many examples, how many right, and Σ confidence.
    """
    one = ops.ones_like(losses) if kept is None else ops.astype(kept, dtype)

    def counted(y: Array) -> Array:
        return ops.where(ops.equal(one, 0), 0.0, y)

    def total(y: Array) -> Array:
        return ops.sum(counted(y), axis=axis, keepdims=True)

    hits = [total(ops.astype(before < k, dtype)) for k in top]
    known = ops.where(ops.isnan(sureness), 0.0, sureness)
    place = ops.where(known > 0, ops.ceil(known * bins) - 1.0, 0.0)
    place = ops.astype(ops.where(place < bins, place, bins - 1.0), ops.positions(losses, axis, 1).dtype)
    right = ops.astype(before == 0, dtype)
    of_bins = [
        ops.segment_sum(ops.reshape(counted(y), (-1,)), ops.reshape(place, (-1,)), bins, axis=0)
        for y in (one, right, sureness)
    ]
    sums = of_losses(ops, losses, weight=one, axis=axis, dtype=dtype)
    parts = (*sums, total(entropies), *hits, *of_bins)
    return ops.concat([ops.astype(ops.reshape(y, (-1,)), dtype) for y in parts], axis=0)
