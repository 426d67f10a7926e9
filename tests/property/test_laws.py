"""Laws: what holds between calls, whatever the numbers are. Every docstring quotes its law.

Inputs are drawn once, in NumPy, and go to one member of the matrix per library (which one changes from draw to
draw), on jax under jit. Where both sides do the same arithmetic they must be the same bits; elsewhere each side may be
as far from exact as NUMERICS allows, 4 + g units in the last place with g the largest finite gap (`units`).
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix import FRAMEWORKS
from property.inputs import Batch, batches, rounded

from softxent import cross_entropy, log_softmax, logsumexp, one_hot, smooth_labels, softmax, softmin, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matrix import Backend

Array = np.ndarray[Any, Any]
INF, NAN = math.inf, math.nan

SHAPES = (((4, 5), -1), ((9, 4), 0), ((2, 3, 3), (2, 0)))
LAST = (((4, 5), -1), ((3, 2), -1))
FINITE = ("normal", "uniform ±50", "exact ties", "near ties", "one dominant", "offset 1e6", "log-probabilities")
NORMALISERS = (softmax, log_softmax, softmin)
SOUND = (*FINITE, "-inf entries", "uniform ±1e4", "subnormal loss", "offset 1e8")

drawn = partial(batches, "float32", shapes=SHAPES, kinds=SOUND)
last = partial(batches, "float32", shapes=LAST, kinds=SOUND)


def examples(ci: int) -> settings:
    """So many examples in the ci profile, in proportion in the others."""
    return settings(max_examples=max(3, ci * settings().max_examples // 30))


# How a call runs.


def one_each(backends: list[Backend], seed: int, *libraries: str) -> Iterator[Backend]:
    """One member of every library, chosen by the draw."""
    by_library: dict[str, list[Backend]] = {}
    for backend in backends:
        if not backend.exact and (not libraries or backend.library in libraries):
            by_library.setdefault(backend.library, []).append(backend)
    for members in by_library.values():
        yield members[seed % len(members)]


_COMPILED: dict[Any, Callable[..., Any]] = {}


def put(backend: Backend, value: Any) -> Any:
    """NumPy arrays on the backend, numbers as float32, integers as int32; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return backend.array(value, {"f": "float32", "i": "int32"}.get(value.dtype.kind))


def run(backend: Backend, function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """The result as NumPy. Arrays among the options are operands under jax.jit, the rest is static."""
    operands = {name: put(backend, value) for name, value in options.items() if isinstance(value, np.ndarray)}
    static = {name: value for name, value in options.items() if name not in operands}
    call: Callable[..., Any] = partial(function, **static)
    if backend.autodiff == "jax":
        key = (function, *sorted((name, repr(value)) for name, value in static.items()))
        call = _COMPILED.setdefault(key, backend.compiled(call))
    result = backend.call(call, *(put(backend, x) for x in arrays), **operands)
    if isinstance(result, tuple):
        return tuple(backend.numpy(part) for part in result)
    return backend.numpy(result)


def pull(backend: Backend, function: Callable[..., Any], x: Array, cotangent: Array, **options: Any) -> Array:
    """The derivative of Σ cotangent · function(x, **options) by x: the library's own, or ours where it has none."""
    operands = {name: put(backend, value) for name, value in options.items() if isinstance(value, np.ndarray)}
    static = {name: value for name, value in options.items() if name not in operands}
    array, seed = put(backend, x), put(backend, np.asarray(cotangent, dtype=np.float64))
    if backend.autodiff == "torch":
        leaf = array.requires_grad_()
        function(leaf, **operands, **static).backward(seed)
        return backend.numpy(leaf.grad)
    if backend.autodiff in FRAMEWORKS:
        return backend.pulled(lambda x: function(x, **operands, **static), [array], cotangent)[1][0]
    if backend.autodiff is None:
        _, pullback = backend.call(vjp(function), array, **operands, **static)
        return backend.numpy(backend.call(pullback, seed))
    key = ("pull", function, *sorted((name, repr(value)) for name, value in static.items()))
    if key not in _COMPILED:
        import jax

        def pulled(x: Any, seed: Any, operands: Any) -> Any:
            return jax.vjp(lambda x: function(x, **operands, **static), x)[1](seed)[0]

        _COMPILED[key] = jax.jit(pulled)
    return backend.numpy(_COMPILED[key](array, seed, operands))


# How two results are compared.


def units(batch: Batch, *, sides: int = 2) -> float:
    """What two results may be apart, each within 4 + g."""
    rows = batch.layout.rows(batch.logits)
    finite = np.where(np.isfinite(rows), rows, NAN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gap = np.nanmax(finite, axis=-1) - np.nanmin(finite, axis=-1) if finite.size else np.zeros(1)
    return sides * (4 + float(np.nanmax(gap, initial=0.0)))


def same(backend: Backend, got: Array, expected: Array) -> None:
    """The same bits, NaN equal to NaN and 0 to -0."""
    np.testing.assert_array_equal(got, expected, err_msg=str(backend), strict=True)


def near(backend: Backend, got: Array, expected: Any, within: float, *, at_least: Any = 0.0) -> None:
    """Within units in the last place of the larger one, or of `at_least`; infinities and NaN equal.

    What jax may flush, a few of the smallest normal numbers, comes on top for everyone.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{backend}: {got.shape}, not {expected.shape}"
    a, b = got.astype(np.float64), expected.astype(np.float64)
    unequal = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not unequal.any():
        return
    a, b = a[unequal], b[unequal]
    assert np.isfinite(a).all(), f"{backend}: {got} where {expected} is right"
    assert np.isfinite(b).all(), f"{backend}: {got} where {expected} is right"
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.broadcast_to(at_least, got.shape)[unequal])
    bound = within * np.spacing(size.astype(np.float32)).astype(np.float64) + 32 * float(np.finfo(np.float32).tiny)
    off = np.abs(a - b)
    assert (off <= bound).all(), f"{backend}: {got} where {expected} is right, off by {off / bound} of what is allowed"


def masks(batch: Batch) -> Array:
    """A mask of classes that leaves at least one in every row."""
    keep = batch.rng.random(size=(*batch.batch, batch.classes)) < 0.6
    keep[..., batch.rng.integers(batch.classes)] = True
    return np.ascontiguousarray(batch.layout.back(keep))


# Normalisers.


@examples(6)
@given(seed=st.integers(0, 2**32 - 1), c=st.integers(-1000, 1000), shape=st.sampled_from(SHAPES))
def test_translation(backends: list[Backend], seed: int, c: int, shape: Any) -> None:
    """Translation invariance: f(x + c) = f(x), to the bit where x + c is exact; logsumexp(x + c) = logsumexp(x) + c."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-400, 400, size=shape[0]) / 8
    layout = Batch("normal", seed, "float32", *shape)
    labels = layout.labels()
    for backend in one_each(backends, seed):
        for function in NORMALISERS:
            same(backend, run(backend, function, x + c, axis=shape[1]), run(backend, function, x, axis=shape[1]))
        moved, there = (
            run(backend, cross_entropy, logits, labels, axis=shape[1], reduction="none") for logits in (x + c, x)
        )
        same(backend, moved, there)
        lse = run(backend, logsumexp, x, axis=shape[1])
        near(backend, run(backend, logsumexp, x + c, axis=shape[1]), lse + c, 9, at_least=abs(c) + 60.0)


@examples(6)
@given(batch=last())
def test_permutation_of_classes(backends: list[Backend], batch: Batch) -> None:
    """Permuting the classes permutes the result (and the labels): f(x[s]) = f(x)[s]."""
    order = batch.rng.permutation(batch.classes)
    labels = batch.labels()
    inverse = np.argsort(order)
    for backend in one_each(backends, batch.seed):
        for function in NORMALISERS:
            there = run(backend, function, batch.logits)[..., order]
            near(backend, run(backend, function, batch.logits[..., order]), there, units(batch))
        moved = run(backend, cross_entropy, batch.logits[..., order], inverse[labels], reduction="none")
        near(backend, moved, run(backend, cross_entropy, batch.logits, labels, reduction="none"), units(batch))


@examples(6)
@given(batch=drawn())
def test_probabilities_sum_to_one(backends: list[Backend], batch: Batch) -> None:
    """Σ softmax = 1: off by at most Σ p (4 + g) u <= (4 + log C) u, as Σ p g <= log C."""
    for backend in one_each(backends, batch.seed):
        for function in (softmax, softmin):
            if function is softmin and batch.kind == "-inf entries":
                continue  # +inf to softmin
            p = batch.layout.rows(run(backend, function, batch.logits, axis=batch.axis)).astype(np.float64)
            assert (p >= 0).all()
            assert (np.abs(p.sum(axis=-1) - 1) <= (4 + math.log(batch.classes)) * 2.0**-23).all()


@examples(6)
@given(batch=drawn())
def test_exp_of_log_softmax_is_softmax(backends: list[Backend], batch: Batch) -> None:
    """exp(log_softmax(x)) = softmax(x)."""
    for backend in one_each(backends, batch.seed):
        log_p = run(backend, log_softmax, batch.logits, axis=batch.axis).astype(np.float64)
        p = run(backend, softmax, batch.logits, axis=batch.axis)
        # the logarithm's own units are absolute errors of size 4 |log p| u
        deep = float(np.max(-log_p, where=np.isfinite(log_p), initial=0.0))
        with np.errstate(under="ignore"):
            near(backend, p, np.exp(log_p), units(batch) + 4 * min(deep, 110.0))


@examples(6)
@given(batch=last())
def test_masked_equals_left_out(backends: list[Backend], batch: Batch) -> None:
    """What `where` drops might as well not be there, whatever it holds."""
    keep = batch.rng.random(size=batch.classes) < 0.6
    keep[batch.rng.integers(batch.classes)] = True
    # the same shapes again and again, for jax: as many classes as keep leaves are few
    filled = np.where(keep, batch.logits, batch.rng.choice([NAN, INF, -INF, 1e30, 0.0], size=batch.logits.shape))
    rows = batch.rng.integers(np.count_nonzero(keep), size=batch.batch)
    labels = np.flatnonzero(keep)[rows]
    kept = np.where(np.isneginf(batch.logits[:, keep]).all(axis=-1, keepdims=True), 0.0, batch.logits[:, keep])
    filled[:, keep] = kept
    for backend in one_each(backends, batch.seed, "numpy", "torch", "array_api_strict", "dask"):
        for function in (softmax, log_softmax):
            got = run(backend, function, filled, where=keep)
            near(backend, got[:, keep], run(backend, function, kept), units(batch))
            assert (got[:, ~keep] == (0 if function is softmax else -INF)).all()
        near(
            backend,
            run(backend, logsumexp, filled, where=keep),
            run(backend, logsumexp, kept),
            units(batch),
            at_least=np.max(np.abs(kept), where=np.isfinite(kept), initial=0.0, axis=-1),
        )
        got = run(backend, cross_entropy, filled, labels, where=keep[None], label_smoothing=0.25, reduction="none")
        with_few = run(backend, cross_entropy, kept, rows, label_smoothing=0.25, reduction="none")
        near(backend, got, with_few, units(batch) + 2 * batch.classes)


@examples(6)
@given(batch=drawn())
def test_masked_equals_minus_inf(backends: list[Backend], batch: Batch) -> None:
    """A class dropped by `where` is a class at -inf, to the bit, where a class is left."""
    keep = masks(batch)
    dropped = np.where(keep, np.where(np.isneginf(batch.logits), 0.0, batch.logits), -INF)
    for backend in one_each(backends, batch.seed):
        for function in (softmax, log_softmax, logsumexp):
            there = run(backend, function, dropped, axis=batch.axis)
            got = run(backend, function, np.where(keep, dropped, 5.0), axis=batch.axis, where=keep)
            same(backend, got, there)


@examples(6)
@given(batch=drawn())
def test_axis_equals_moveaxis(backends: list[Backend], batch: Batch) -> None:
    """f(x, axis) is f(x with these axes put last and flattened, axis=-1): moveaxis for one, reshape for several."""
    rows = np.ascontiguousarray(batch.layout.rows(batch.logits))
    labels = batch.labels()
    for backend in one_each(backends, batch.seed):
        for function in NORMALISERS:
            got = batch.layout.rows(run(backend, function, batch.logits, axis=batch.axis))
            near(backend, got, run(backend, function, rows), units(batch))
        got = run(backend, logsumexp, batch.logits, axis=batch.axis)
        size = np.max(np.abs(rows), where=np.isfinite(rows), initial=0.0, axis=-1)
        near(backend, got, run(backend, logsumexp, rows), units(batch), at_least=size)
        got = run(backend, cross_entropy, batch.logits, labels, axis=batch.axis, reduction="none")
        near(backend, got, run(backend, cross_entropy, rows, labels, reduction="none"), units(batch))


@examples(6)
@given(batch=drawn(), power=st.sampled_from([-3, -1, 1, 4]))
def test_temperature_divides_the_logits(backends: list[Backend], batch: Batch, power: int) -> None:
    """f(x, T) = f(x / T), to the bit where x / T is exact: for powers of two."""
    heat = 2.0**power
    labels = batch.labels()
    for backend in one_each(backends, batch.seed):
        for function in NORMALISERS:
            got = run(backend, function, batch.logits, axis=batch.axis, temperature=np.asarray(heat))
            same(backend, got, run(backend, function, batch.logits / heat, axis=batch.axis))
        got = run(
            backend,
            cross_entropy,
            batch.logits,
            labels,
            axis=batch.axis,
            temperature=np.asarray(heat),
            reduction="none",
        )
        same(backend, got, run(backend, cross_entropy, batch.logits / heat, labels, axis=batch.axis, reduction="none"))


@examples(6)
@given(batch=drawn())
def test_softmin_mirrors_softmax(backends: list[Backend], batch: Batch) -> None:
    """softmin(x) = softmax(-x), to the bit."""
    for backend in one_each(backends, batch.seed):
        there = run(backend, softmax, -batch.logits, axis=batch.axis)
        same(backend, run(backend, softmin, batch.logits, axis=batch.axis), there)


# logsumexp.


@examples(6)
@given(batch=batches("float32", shapes=LAST, kinds=("normal", "exact ties", "uniform ±50", "-inf entries")))
def test_weights_are_repetitions(backends: list[Backend], batch: Batch) -> None:
    """Log Σ b e^x with whole b is the logsumexp of x with every entry b times; b = 0 leaves it out."""
    b = batch.rng.integers(0, 3, size=batch.classes)
    b[0] = 2
    times = np.concatenate([b, [6 - b.sum()]]) if b.sum() <= 6 else np.concatenate([b, [0]])
    padded = np.concatenate([batch.logits, np.full((*batch.batch, 1), -INF)], axis=-1)
    repeated = np.repeat(padded, times, axis=-1)
    size = np.max(np.abs(repeated), where=np.isfinite(repeated), initial=1.0, axis=-1)
    for backend in one_each(backends, batch.seed, "numpy", "torch", "array_api_strict", "dask"):
        got = run(backend, logsumexp, batch.logits, b=b.astype(np.float64))
        near(backend, got, run(backend, logsumexp, repeated), units(batch) + 8, at_least=size)
        minus, sign = run(backend, logsumexp, batch.logits, b=-b.astype(np.float64), return_sign=True)
        same(backend, minus, got)
        same(backend, sign, np.where(np.isneginf(got), 0, -1).astype(np.float32))


@examples(6)
@given(batch=batches("float32", shapes=LAST, kinds=SOUND))
def test_a_sum_may_be_split(backends: list[Backend], batch: Batch) -> None:
    """logsumexp(x) = logsumexp(logsumexp(x₁), logsumexp(x₂))."""
    size = np.max(np.abs(batch.logits), where=np.isfinite(batch.logits), initial=1.0, axis=-1)
    for backend in one_each(backends, batch.seed):
        parts = [run(backend, logsumexp, part) for part in (batch.logits[:, :1], batch.logits[:, 1:])]
        got = run(backend, logsumexp, np.stack(parts, axis=-1).astype(np.float64))
        near(backend, got, run(backend, logsumexp, batch.logits), 2 * units(batch), at_least=size)


# cross_entropy.


def weights(batch: Batch) -> Array:
    return rounded(batch.rng.uniform(0.25, 4.0, size=batch.classes), "float32")


@examples(6)
@given(batch=drawn(), smoothing=st.sampled_from([None, 0.25]))
def test_indices_equal_one_hot(backends: list[Backend], batch: Batch, smoothing: float | None) -> None:
    """One-hot distributions give what indices give: rows, sums and means, with class weights too."""
    labels, w = batch.labels(), weights(batch)
    hot = np.ascontiguousarray(batch.layout.back(np.eye(batch.classes)[labels]))
    options: dict[str, Any] = {"axis": batch.axis, "weight": w, "label_smoothing": smoothing}
    slack = units(batch) + 4 + 2 * batch.classes
    for backend in one_each(backends, batch.seed):
        for reduction in ("none", "mean"):
            got = run(backend, cross_entropy, batch.logits, hot, reduction=reduction, **options)
            there = run(backend, cross_entropy, batch.logits, labels, reduction=reduction, **options)
            near(backend, got, there, slack + (8 if reduction == "mean" else 0))


@examples(6)
@given(batch=last(), epsilon=st.sampled_from([0.0, 0.25, 1.0]))
def test_smoothing_as_function_equals_option(backends: list[Backend], batch: Batch, epsilon: float) -> None:
    """cross_entropy(x, smooth_labels(y, ε)) = cross_entropy(x, y, label_smoothing=ε), with where and a prior."""
    labels, keep = batch.labels(), masks(batch)
    np.put_along_axis(keep, labels[..., None], values=True, axis=-1)
    prior = rounded(batch.rng.uniform(0, 3, size=batch.classes), "float32")
    slack = units(batch) + 8 + 2 * batch.classes
    for backend in one_each(backends, batch.seed):
        for options in ({}, {"where": keep, "smoothing_prior": prior}):
            soft = run(
                backend,
                smooth_labels,
                labels,
                np.asarray(epsilon),
                num_classes=batch.classes,
                dtype="float32",
                **options,
            ).astype(np.float64)
            mask = {"where": keep} if options else {}
            got = run(backend, cross_entropy, batch.logits, soft, reduction="none", **mask)
            there = run(
                backend,
                cross_entropy,
                batch.logits,
                labels,
                label_smoothing=np.asarray(epsilon),
                reduction="none",
                **options,
            )
            near(backend, got, there, slack)


@examples(6)
@given(batch=batches("float32", shapes=SHAPES, kinds=FINITE))
def test_reductions_add_up(backends: list[Backend], batch: Batch) -> None:
    """Sum = Σ none; mean = sum / denominator; the pair is both; the denominators are those of SEMANTICS §4."""
    labels, w = batch.labels(), weights(batch)
    s = rounded(batch.rng.uniform(0.25, 2.0, size=batch.batch) * (batch.rng.random(size=batch.batch) < 0.7), "float32")
    where = batch.rng.random(size=batch.batch) < 0.8
    part = where & (s != 0)
    below = {
        "weight": float(np.sum(s * w[labels] * part)),
        "count": float(np.count_nonzero(part)),
        "all": float(part.size),
    }
    options: dict[str, Any] = {"axis": batch.axis, "weight": w, "sample_weight": s, "where": where}
    n = part.size
    for backend in one_each(backends, batch.seed):
        call = partial(run, backend, cross_entropy, batch.logits, labels, **options)
        each = call(reduction="none").astype(np.float64)
        assert (each[~part] == 0).all()
        total = call(reduction="sum")
        near(backend, total, each.sum(), n)
        for denominator, count in below.items():
            pair = call(reduction="sum_and_weight", denominator=denominator)
            same(backend, pair[0], total)
            near(backend, pair[1], np.asarray(count), n + 2)
            near(backend, call(denominator=denominator), each.sum() / count if count else 0.0 * count, 2 * n + 4)
        near(backend, call(denominator=np.asarray(7.0)), each.sum() / 7, n + 2)


@examples(6)
@given(batch=batches("float32", shapes=LAST, kinds=FINITE))
def test_pairs_add_up_over_micro_batches(backends: list[Backend], batch: Batch) -> None:
    """Σ numerators / Σ denominators of the parts is the mean of the whole."""
    labels, w = batch.labels(), weights(batch)
    for backend in one_each(backends, batch.seed):
        parts = [
            run(backend, cross_entropy, batch.logits[cut], labels[cut], weight=w, reduction="sum_and_weight")
            for cut in (slice(0, 1), slice(1, None))
        ]
        above, below = (sum(float(part[k]) for part in parts) for k in (0, 1))
        near(backend, run(backend, cross_entropy, batch.logits, labels, weight=w), np.asarray(above / below), 24)


@examples(6)
@given(batch=drawn(), bad=st.sampled_from([NAN, INF, -INF]))
def test_rows_are_independent(backends: list[Backend], batch: Batch, bad: float) -> None:
    """What stands in one row changes no other, bit for bit, in value and derivative."""
    rows = np.array(batch.layout.rows(batch.logits))
    where = (0,) * len(batch.batch)
    rows[where] = bad
    spoilt = np.ascontiguousarray(batch.layout.back(rows))
    labels = batch.labels()
    others = np.ones(batch.batch, dtype=bool)
    others[where] = False
    for backend in one_each(backends, batch.seed):
        for function in (softmax, log_softmax):
            got, there = (batch.layout.rows(run(backend, function, x, axis=batch.axis)) for x in (spoilt, batch.logits))
            same(backend, got[others], there[others])
        got, there = (
            run(backend, cross_entropy, x, labels, axis=batch.axis, reduction="none") for x in (spoilt, batch.logits)
        )
        same(backend, got[others], there[others])
        options: dict[str, Any] = {"labels": labels, "axis": batch.axis, "reduction": "none"}
        got, there = (
            batch.layout.rows(pull(backend, cross_entropy, x, np.ones(batch.batch), **options))
            for x in (spoilt, batch.logits)
        )
        same(backend, got[others], there[others])


@examples(6)
@given(batch=last())
def test_order_of_examples(backends: list[Backend], batch: Batch) -> None:
    """Permuting the examples permutes the rows and leaves the mean."""
    order = batch.rng.permutation(batch.batch[0])
    labels = batch.labels()
    for backend in one_each(backends, batch.seed):
        got = run(backend, cross_entropy, batch.logits[order], labels[order], reduction="none")
        near(backend, got, run(backend, cross_entropy, batch.logits, labels, reduction="none")[order], units(batch))
        mean = run(backend, cross_entropy, batch.logits[order], labels[order])
        near(backend, mean, run(backend, cross_entropy, batch.logits, labels), units(batch) + 8)


@examples(6)
@given(batch=last())
def test_what_takes_no_part_might_hold_anything(backends: list[Backend], batch: Batch) -> None:
    """Logits and labels of examples that take no part are not looked at: the same bits whatever they hold."""
    labels = batch.labels()
    n = batch.batch[0]
    drop = batch.rng.random(size=n) < 0.5
    junk = np.where(drop[:, None], batch.rng.choice([NAN, INF, -INF, 3.0], size=batch.logits.shape), batch.logits)
    wrong = np.where(drop, 99, labels)
    ways: tuple[dict[str, Any], ...] = (
        {"where": ~drop},
        {"sample_weight": np.where(drop, 0.0, 1.0)},
        {"ignore_index": 99},
    )
    for backend in one_each(backends, batch.seed):
        for way in ways:
            y = wrong if "ignore_index" in way else labels
            for reduction in ("none", "mean"):
                there = run(backend, cross_entropy, batch.logits, y, reduction=reduction, **way)
                same(backend, run(backend, cross_entropy, junk, wrong, reduction=reduction, **way), there)


# Derivatives.


@examples(6)
@given(batch=drawn())
def test_gradient_rows_sum_to_0(backends: list[Backend], batch: Batch) -> None:
    """Σ_j dL/dx_j = 0, up to (4 + g) u for each term."""
    labels = batch.labels()
    on_minus_inf = np.isneginf(np.take_along_axis(batch.layout.rows(batch.logits), labels[..., None], -1))[..., 0]
    for backend in one_each(backends, batch.seed):
        got = pull(
            backend, cross_entropy, batch.logits, np.ones(batch.batch), labels=labels, axis=batch.axis, reduction="none"
        )
        rows = batch.layout.rows(got).astype(np.float64)
        bound = units(batch, sides=1) * 2.0**-23 * np.abs(rows).sum(axis=-1) + 32 * np.finfo(np.float32).tiny
        assert (np.abs(rows.sum(axis=-1)) <= bound).all()
        assert np.isfinite(rows[~on_minus_inf]).all()


@examples(6)
@given(batch=drawn())
def test_derivative_of_logsumexp_is_softmax(backends: list[Backend], batch: Batch) -> None:
    """D logsumexp / dx = softmax(x)."""
    for backend in one_each(backends, batch.seed):
        got = pull(backend, logsumexp, batch.logits, np.ones(batch.batch), axis=batch.axis)
        near(backend, got, run(backend, softmax, batch.logits, axis=batch.axis), units(batch))


@examples(6)
@given(batch=drawn())
def test_derivatives_of_cross_entropy(backends: list[Backend], batch: Batch) -> None:
    """dL/dx = p - q, and dL/dq = -log p where that is finite."""
    labels = batch.labels()
    q = np.ascontiguousarray(batch.layout.back(np.eye(batch.classes)[labels]))
    ones = np.ones(batch.batch)
    for backend in one_each(backends, batch.seed):
        p = run(backend, softmax, batch.logits, axis=batch.axis).astype(np.float64)
        for target in (labels, q):
            got = pull(backend, cross_entropy, batch.logits, ones, labels=target, axis=batch.axis, reduction="none")
            near(backend, got, p - q, units(batch), at_least=1.0)
            near(backend, got[q == 0], p[q == 0], units(batch) + (2 * batch.classes if target is q else 0))
        log_p = run(backend, log_softmax, batch.logits, axis=batch.axis)
        if backend.autodiff is None:
            given = {"labels": put(backend, q), "axis": batch.axis, "reduction": "none"}
            _, pullback = backend.call(vjp(cross_entropy, "labels"), put(backend, batch.logits), **given)
            by_q = backend.numpy(backend.call(pullback, put(backend, ones)))
        else:
            by_q = pull(backend, of_labels, q, ones, logits=batch.logits, axis=batch.axis)
        finite = np.isfinite(log_p)
        near(backend, by_q[finite], -log_p[finite], units(batch))
        assert (by_q[~finite & (q == 0)] == 0).all()


def of_labels(labels: Any, *, logits: Any, axis: Any) -> Any:
    return cross_entropy(logits, labels, axis=axis, reduction="none")


# Backends and inputs.


@examples(6)
@given(batch=drawn())
def test_results_are_equal_across_backends(backends: list[Backend], batch: Batch) -> None:
    """A function behaves the same on every library: each is within 4 + g of exact, so any two within twice that."""
    labels, q = batch.labels(), batch.distributions()
    calls: list[tuple[Callable[..., Any], tuple[Array, ...], dict[str, Any]]] = [
        *((function, (batch.logits,), {}) for function in (softmax, log_softmax)),
        (cross_entropy, (batch.logits, labels), {"reduction": "none"}),
        (cross_entropy, (batch.logits, q), {"reduction": "none"}),
    ]
    members = [backend for backend in backends if not backend.exact and "float32" in backend.floats]
    for function, arrays, options in calls:
        first, *others = members
        there = run(first, function, *arrays, axis=batch.axis, **options)
        slack = units(batch) + (2 * batch.classes + 4 if arrays[-1] is q else 0)
        for backend in others:
            near(backend, run(backend, function, *arrays, axis=batch.axis, **options), there, slack)


@examples(6)
@given(batch=batches("float32", shapes=LAST), double=st.booleans())
def test_numpy_never_warns(batch: Batch, double: bool) -> None:  # noqa: FBT001
    """No floating-point warning reaches the caller, under np.seterr(all="raise") and with warnings as errors."""
    x = batch.logits if double else batch.logits.astype(np.float32)
    x = np.concatenate(
        [x, np.full_like(x[:1], NAN), np.full_like(x[:1], INF), np.full_like(x[:1], -INF), np.zeros_like(x[:1])]
    )
    n, c = x.shape
    labels = batch.rng.integers(c, size=n)
    q = np.eye(c)[labels]
    q[0] = 0
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    keep = batch.rng.random(size=x.shape) < 0.5
    huge = np.where(batch.rng.random(size=c) < 0.5, 1e300, 1e-300)
    s = np.where(batch.rng.random(size=n) < 0.5, 1e300, -1e300)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for where in (None, keep):
            for function in NORMALISERS:
                function(x, where=where)
                function(x, where=where, temperature=np.float64(1e-300))
                function(x, where=where, temperature=huge)
            logsumexp(x, where=where, b=huge)
            logsumexp(x, where=where, b=-huge, return_sign=True)
            for y in (labels, q):
                for reduction in ("none", "sum", "mean", "sum_and_weight"):
                    cross_entropy(x, y, where=where, reduction=reduction, z_loss=1e30)
                cross_entropy(x, y, where=where, weight=huge, softcap=1e-300, label_smoothing=1e-300)
                cross_entropy(x, y, where=where, sample_weight=s, denominator=1e-300)
                cross_entropy(x, y, where=where, temperature=huge[None], denominator=np.float64(1e-300))
            smooth_labels(q, 1e-300, where=where, smoothing_prior=huge)
        one_hot(labels, c)
        cross_entropy(x, q, check=True, weight=np.ones(c))
        cross_entropy(half, labels, weight=huge)
        softmax(x, dtype="float16")


@examples(6)
@given(batch=drawn())
def test_inputs_are_never_written_to(backends: list[Backend], batch: Batch) -> None:
    """Inputs are never written to."""
    labels, q, keep, w = batch.labels(), batch.distributions(), masks(batch), weights(batch)
    for backend in one_each(backends, batch.seed, "numpy", "torch", "array_api_strict"):
        given_arrays = [put(backend, value) for value in (batch.logits, labels, q, keep, w)]
        x, y, soft, where, weight = given_arrays
        for function in (*NORMALISERS, logsumexp):
            backend.call(function, x, axis=batch.axis, where=where)
            backend.call(function, x, axis=batch.axis)
        for target in (y, soft):
            for options in ({}, {"where": where, "weight": weight, "label_smoothing": 0.25, "smoothing_prior": weight}):
                backend.call(cross_entropy, x, target, axis=batch.axis, aux=("margin", "entropy"), **options)
        for array, value in zip(given_arrays, (batch.logits, labels, q, keep, w), strict=True):
            np.testing.assert_array_equal(backend.numpy(array), value.astype(backend.numpy(array).dtype))


def single(values: list[float]) -> Array:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("seed", [3, 11])
def test_the_laws_can_fail(seed: int, backends: list[Backend]) -> None:
    """`near` and `same` notice what is wrong."""
    backend = next(one_each(backends, seed))
    with pytest.raises(AssertionError):
        near(backend, single([1.0, 2.0]), single([1.0, 2.00001]), 8)
    with pytest.raises(AssertionError):
        near(backend, single([1.0, NAN]), single([1.0, 2.0]), 8)
    with pytest.raises(AssertionError):
        near(backend, single([INF]), single([-INF]), 8)
    with pytest.raises(AssertionError):
        same(backend, single([1.0]), single([1.0000001]))
