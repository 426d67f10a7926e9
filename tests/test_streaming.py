"""States of streams: equal to the functions in one piece whatever the split and the order, merged, pickled, traced."""

from __future__ import annotations

import pickle
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, assert_near, call, default_float, hessian
from derivatives import INF, NAN, assert_close
from exact_gradients import assert_same, floor_of, single
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from property import bounds
from ulps import difference

from softxent import cross_entropy
from softxent.streaming import LogSumExp, LossSum, SoftmaxStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

STATISTICS = ("logsumexp", "entropy", "mean", "confidence")

# Ties, near ties, one logit far above the others, offsets, infinities, a row of -inf alone.
LOGITS = single(
    [
        [0.25, -1.5, 2.0, 0.5, 2.0, -0.75],
        [0.0, -17.0, -16.5, -INF, -80.0, -20.0],
        [1e6, 1e6 + 1, 1e6 - 2, -1e6, 1e6 + 1, 0.0],
        [-0.49999997, 0.5, 0.49999997, 0.50000006, 1.5, -0.5],
        [-INF, -INF, -INF, -INF, -INF, -INF],
        [1.0, 0.0, INF, 2.0, 3.0, 100.0],
        [1.0, 0.0, 2.0, NAN, INF, NAN],
    ]
)
KEPT = np.asarray([[True, False, True, True, True, True]] * 6 + [[False] * 6])


def seen(kind: Any, backend: Backend, x: NumPy, places: list[int], where: NumPy | None = None) -> Any:
    """The state that has seen some classes."""
    options = {} if where is None else {"where": backend.array(where[:, places])}
    if kind is SoftmaxStatistics:
        options["start"] = places[0] if places else 0
    return backend.call(kind().update, backend.array(x[:, places]), **options)


def exact_statistics(row: NumPy) -> dict[str, oracle.Sum]:
    """Of the entries of a row that take part, all finite, by the definitions."""
    with mp.workdps(oracle.DIGITS):
        x = [mpf(float(v)) for v in row if v != -INF]
        top = max(x)
        e = [mp.exp(v - top) for v in x]
        total = mp.fsum(e)
        below = mp.fsum(p * (top - v) for p, v in zip(e, x, strict=True)) / total
        log_total = mp.log(total)
        return {
            "logsumexp": oracle.Sum(top + log_total, abs(top) + log_total),
            "entropy": oracle.Sum(log_total + below, log_total + below),
            "mean": oracle.Sum(top - below, abs(top) + below),
            "confidence": oracle.Sum(1 / total, 1 / total),
        }


# -- any split, any order ---------------------------------------------------------------------------------------------

LIBRARIES = pytest.mark.backends("numpy-readonly", "strict", "torch", "jax")  # Dask makes a graph of every step
EAGER = pytest.mark.backends("numpy-readonly", "strict", "torch")  # jax compiles for seconds


@st.composite
def splits(draw: st.DrawFn) -> list[list[int]]:
    """Six classes in an order, in pieces, empty ones among them."""
    order = draw(st.permutations(range(6)))
    cuts = sorted(draw(st.lists(st.sampled_from([0, 3, 6]), min_size=1, max_size=3)))
    ends = zip([0, *cuts], [*cuts, 6], strict=True)
    return [sorted(order[start:stop]) for start, stop in ends]


@cache
def exact_sums(*, masked: bool) -> tuple[Any, Any]:
    """Of every row, and how far off they may be in one piece."""
    where = KEPT if masked else None
    exact = oracle.logsumexp(LOGITS, where=where)[0]
    return exact, bounds.logsumexp_rows(LOGITS, "float32", axis=-1, where=where)


@LIBRARIES
@given(pieces=splits(), masked=st.booleans())
def test_any_split_in_any_order_is_the_row_in_one_piece(
    backend: Backend, pieces: list[list[int]], *, masked: bool
) -> None:
    """As exact as logsumexp in one piece, infinities, NaN, masks and empty blocks included."""
    where = KEPT if masked else None
    states = [seen(LogSumExp, backend, LOGITS, places, where) for places in pieces]
    found = backend.numpy(reduce(LogSumExp.merge, states, LogSumExp()).value)
    exact, tolerance = exact_sums(masked=masked)
    assert np.all(difference(found, exact, "float32") <= tolerance + floor_of(backend) * mpf(2) ** -126)


@EAGER
@given(pieces=splits(), masked=st.booleans())
def test_statistics_of_any_split_in_any_order(backend: Backend, pieces: list[list[int]], *, masked: bool) -> None:
    """Classes that are not next to each other come as blocks of one, each with its place."""
    where = KEPT if masked else None
    ordered = [[place] for places in pieces for place in places]
    states = [seen(SoftmaxStatistics, backend, LOGITS, places, where) for places in ordered]
    found = reduce(SoftmaxStatistics.merge, states)
    keep = KEPT if masked else np.full_like(KEPT, fill_value=True)
    x = np.where(keep, LOGITS, -INF)
    for n in range(4):
        for name, sums in exact_statistics(x[n]).items():
            gap = 40.0 if name != "logsumexp" and n == 1 else 4.0
            got = backend.numpy(getattr(found, name))[n]
            assert_close(got, sums, dtype="float32", gap=gap, floor=floor_of(backend))
    top = backend.numpy(found.max)
    np.testing.assert_array_equal(top, np.where(keep.any(axis=-1), np.max(x, axis=-1), -INF))
    place = np.where(keep.any(axis=-1), np.argmax(np.where(keep, LOGITS, -INF), axis=-1), -1)
    place[4] = np.argmax(keep[4])  # of -inf alone, the first that takes part
    np.testing.assert_array_equal(backend.numpy(found.argmax), place)
    undefined = single([NAN, NAN, 0.0 if masked else NAN])
    for name in ("entropy", "mean", "confidence"):
        np.testing.assert_array_equal(backend.numpy(getattr(found, name))[4:], undefined)
    assert found.classes == 6


@EAGER
@given(order=st.permutations([0, 1, 2]))
def test_merging_is_associative_and_has_an_identity(backend: Backend, order: list[int]) -> None:
    """To the last bits but for what additions lose, which states carry along."""
    for kind, name in ((LogSumExp, "value"), (SoftmaxStatistics, "entropy")):
        a, b, c = (seen(kind, backend, LOGITS[:4], [[0], [1, 2, 3], [4, 5]][n]) for n in order)
        left, right = backend.call(a.merge(b).merge, c), backend.call(a.merge, b.merge(c))
        got, expected = (backend.numpy(getattr(state, name)) for state in (left, right))
        np.testing.assert_array_almost_equal_nulp(got, expected, 2)
        empty = seen(kind, backend, LOGITS[:4], [])
        for same in (kind().merge(a), a.merge(kind()), a + kind(), a.merge(empty), empty.merge(a)):
            assert_same(backend, getattr(same, name), getattr(a, name))
    assert_equal(backend, seen(LogSumExp, backend, LOGITS, []).value, single([-INF] * 7))


@pytest.mark.backends("numpy-readonly")
def test_errors_do_not_grow_with_the_number_of_blocks(backend: Backend) -> None:
    """Rescaled, or added without care, a thousand times, the sums of these would be off by many units."""
    rising, small = np.linspace(-1.0, 0.0, 1001), np.append(np.linspace(-16.0, -17.0, 1000), 0.0)
    x = single([rising, rising[::-1], np.zeros(1001), small, small[::-1]])
    state = reduce(SoftmaxStatistics.update, (backend.array(x[:, n : n + 1]) for n in range(1001)), SoftmaxStatistics())
    exact = [exact_statistics(row) for row in x]
    for name in STATISTICS:
        assert_exact(backend, getattr(state, name), [sums[name].value for sums in exact])


def test_three_blocks_on_every_library(backend: Backend) -> None:
    """Lazily, on other devices, without 64 bits."""
    state = reduce(SoftmaxStatistics.merge, (seen(SoftmaxStatistics, backend, LOGITS, [n, n + 1]) for n in (2, 0, 4)))
    exact, tolerance = exact_sums(masked=False)
    found = backend.numpy(state.logsumexp)
    assert np.all(difference(found, exact, "float32") <= tolerance + floor_of(backend) * mpf(2) ** -126)
    np.testing.assert_array_equal(backend.numpy(state.argmax), np.argmax(LOGITS, axis=-1))
    losses = backend.call(LossSum().update, backend.array(LOSSES[:3])).merge(
        LossSum().update(backend.array(LOSSES[3:]))
    )
    assert_exact(backend, losses.mean, 2.375)


# -- arrays of every kind ---------------------------------------------------------------------------------------------


def test_halves_and_integers(backend: Backend, dtype: str) -> None:
    x = backend.array([[1.0, 2.0], [-0.5, 4.0]], dtype)
    state = backend.call(SoftmaxStatistics().update, x)
    wide = "float64" if dtype == "float64" else "float32"
    assert_exact(backend, state.logsumexp, oracle.logsumexp(np.asarray([[1.0, 2.0], [-0.5, 4.0]]))[0], wide)
    assert_exact(backend, state.max, [2.0, 4.0], wide)
    counted = backend.call(LogSumExp().update, backend.array([[1, 2]], "int32")).value
    assert_exact(backend, counted, [exact_statistics(single([1, 2]))["logsumexp"].value], default_float(backend))


@EAGER
def test_every_axis(backend: Backend) -> None:
    """Others than the last, several jointly, all; a mask that broadcasts; memory in another order."""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) % 7
    mask = np.broadcast_to([True, False, True, True], x.shape)
    for axis in (1, (2, 0), None):
        state = backend.call(LogSumExp().update, backend.array(x), axis=axis, where=backend.array([mask[0, 0]]))
        assert_exact(backend, state.value, oracle.logsumexp(x, axis=axis, where=mask)[0])
    flipped = backend.array(x[0]).T
    assert_exact(backend, backend.call(LogSumExp().update, flipped, axis=0).value, oracle.logsumexp(x[0])[0])


@pytest.mark.backends("numpy", "torch")
def test_rows_in_blocks_and_in_pieces(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    x = LOGITS[:4]
    whole = backend.call(SoftmaxStatistics().update, backend.array(x))
    monkeypatch.setattr("softxent.backends.blocks.WIDE", 1)
    for library in ("numpy", "torch"):
        monkeypatch.setattr(f"softxent.backends.{library}.Backend.entries", 2)
    cut = backend.call(SoftmaxStatistics().update, backend.array(x))
    for name in (*STATISTICS, "max", "argmax"):
        np.testing.assert_allclose(
            backend.numpy(getattr(cut, name)), backend.numpy(getattr(whole, name)), rtol=3e-7, atol=0
        )


# -- derivatives, traces, pickles -------------------------------------------------------------------------------------


def parts(kind: Any, x: Array) -> Any:
    """The state of three classes in two blocks."""
    return kind().update(x[..., :1]).merge(kind().update(x[..., 1:]))


CASES = single([[0.25, -1.5, 2.0], [0.0, 0.0, 0.0], [-INF, 1.0, -30.0], [17.5, 0.0, 1.0]])


def by_logits(backend: Backend, functions: dict[str, Callable[[Array], Array]], x: NumPy) -> dict[str, NumPy]:
    """Derivatives of each function's sum, as torch and jax find them."""
    given = backend.array(x)
    if backend.library == "torch":
        leaf = given.requires_grad_()
        return {n: backend.numpy(backend.xp.autograd.grad(f(leaf).sum(), leaf)[0]) for n, f in functions.items()}
    import jax

    found = jax.jit(lambda x: {n: jax.grad(lambda x, f=f: f(x).sum())(x) for n, f in functions.items()})(given)
    return {name: backend.numpy(g) for name, g in found.items()}


def statistic(name: str) -> Callable[[Array], Array]:
    """Of three classes in two blocks."""
    return lambda x: getattr(parts(SoftmaxStatistics, x), name)


def jacobians(x: NumPy) -> dict[str, NumPy]:
    """The same by their formulas: p, -p (log p + H), p (1 + x - mean) and p_a (δ_a - p)."""
    x = x.astype(float)
    gaps = np.where(x == -INF, -1e4, x - np.max(x, axis=-1, keepdims=True))
    total = np.sum(np.exp(gaps), axis=-1, keepdims=True)
    p, z = np.exp(gaps) / total, np.where(x == -INF, 0.0, x)
    log_p = gaps - np.log(total)
    lead = np.arange(x.shape[-1]) == np.argmax(x, axis=-1)[:, None]
    return {
        "logsumexp": p,
        "entropy": -p * (log_p - np.sum(p * log_p, axis=-1, keepdims=True)),
        "mean": p * (1.0 + z - np.sum(p * z, axis=-1, keepdims=True)),
        "confidence": np.sum(p * lead, axis=-1, keepdims=True) * (lead - p),
    }


@pytest.mark.backends("torch", "jax")
def test_gradients_are_those_of_the_whole(backend: Backend) -> None:
    """Ties, -inf and confident rows; by the logarithm of the sum, the share of every class to its last digits."""
    found = by_logits(backend, {name: statistic(name) for name in STATISTICS}, CASES)
    shares = oracle.logsumexp_vjp(1.0, CASES)[0]
    assert_close(found["logsumexp"], shares, dtype="float32", gap=32.0, floor=floor_of(backend))
    for name, expected in jacobians(CASES).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-5, atol=3e-7, err_msg=name)


@pytest.mark.backends("torch", "jax")
def test_gradients_where_nothing_is_defined(backend: Backend) -> None:
    """0 for an empty sum, NaN in a row with +inf or NaN and in no other."""
    x = single([[-INF, -INF, -INF], [0.0, INF, 1.0], [0.0, NAN, 1.0], [0.5, 0.5, 0.5]])
    undefined = np.asarray([[False] * 3, [True] * 3, [True] * 3, [False] * 3])
    found = by_logits(backend, {"value": lambda x: parts(LogSumExp, x).value, "entropy": statistic("entropy")}, x)
    np.testing.assert_array_equal(np.isnan(found["value"]), undefined)
    assert_near(found["value"][[0, 3]], [[0.0] * 3, [mpf(1) / 3] * 3])
    undefined[0] = True
    np.testing.assert_array_equal(np.isnan(found["entropy"]), undefined)


@pytest.mark.backends("torch", "jax")
def test_second_derivatives(backend: Backend) -> None:
    """Those of the sum are diag(p) - p pᵀ, those of the entropy differences of its first ones."""
    x, h = np.asarray([0.25, -1.5, 2.0]), 1e-5
    p = jacobians(x[None])["logsumexp"][0]
    rises = [jacobians(x[None] + sign * h * np.eye(3))["entropy"] for sign in (1, -1)]
    expected = {"logsumexp": np.diag(p) - np.outer(p, p), "entropy": (rises[0] - rises[1]) / (2 * h)}
    for name, matrix in expected.items():
        found = hessian(backend, statistic(name), backend.array(x, "float32"))
        np.testing.assert_allclose(found, matrix, rtol=1e-5, atol=3e-7)


@pytest.mark.backends("jax")
def test_a_state_is_the_carry_of_a_scan(backend: Backend) -> None:
    """And passes through jit, vmap and grad, without having been registered anywhere."""
    import jax

    blocks = backend.array(np.moveaxis(LOGITS[:4].reshape(4, 2, 3), 1, 0))

    def scanned(kind: Any, blocks: Array) -> Any:
        start = kind().update(blocks[0][:, :0])
        return jax.lax.scan(lambda state, block: (state.update(block), None), start, blocks)[0]

    def both(blocks: Array) -> tuple[Any, ...]:
        state = scanned(SoftmaxStatistics, blocks)
        gradient = jax.grad(lambda blocks: scanned(LogSumExp, blocks).value.sum())(blocks)
        each = jax.vmap(lambda x: parts(LogSumExp, x))(blocks[0])
        return state.logsumexp, state.argmax, state.classes, gradient, each

    log_sum, argmax, classes, gradient, each = jax.jit(both)(blocks)
    exact, tolerance = exact_sums(masked=False)
    assert np.all(difference(backend.numpy(log_sum), exact[:4], "float32") <= tolerance[:4] + mpf(2) ** -126)
    np.testing.assert_array_equal(backend.numpy(argmax), np.argmax(LOGITS[:4], axis=-1))
    assert int(classes) == 6
    found = np.moveaxis(backend.numpy(gradient), 0, 1).reshape(4, 6)
    assert_close(found, oracle.logsumexp_vjp(1.0, LOGITS[:4])[0], dtype="float32", gap=64.0, floor=1.0)
    assert_same(backend, each.value, parts(LogSumExp, blocks[0]).value)
    assert jax.tree_util.tree_structure(each) == jax.tree_util.tree_structure(LogSumExp(1, 2, 3))


@pytest.mark.backends("torch")
def test_torch_func(backend: Backend) -> None:
    x = backend.array(CASES)
    state = backend.xp.func.vmap(lambda x: parts(LogSumExp, x))(x)
    assert isinstance(state, LogSumExp)
    assert_same(backend, state.value, parts(LogSumExp, x).value)


def test_pickles(backend: Backend) -> None:
    if backend.library == "autograd":  # a box belongs to a trace, and is nothing to keep
        with pytest.raises(AttributeError, match="VJPNode"):
            pickle.dumps(parts(LogSumExp, backend.array(CASES)))
        return
    x = backend.array(CASES)
    for state in (parts(LogSumExp, x), parts(SoftmaxStatistics, x), LossSum().update(x[0, :])):
        again = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
        assert type(again) is type(state)
        for one, other in zip(state, again, strict=True):
            if backend.owns(one):
                assert_same(backend, other, one)
        with pytest.raises(AttributeError):
            setattr(state, state._fields[0], None)


# -- sums of losses ---------------------------------------------------------------------------------------------------

LOSSES = single([0.5, 1.25, 3.0, 0.0, 2.0, 7.5])
WEIGHTS = single([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])


def direct(x: NumPy, w: NumPy) -> tuple[float, float]:
    """The mean and its standard error by the definition, in double precision."""
    x, w = x.astype(float)[w != 0], w.astype(float)[w != 0]
    mean = np.sum(w * x) / np.sum(w)
    n = len(x)
    return mean, np.sqrt(n / (n - 1) * np.sum(w**2 * (x - mean) ** 2)) / np.sum(w)


@LIBRARIES
@given(cuts=st.lists(st.sampled_from([0, 3, 6]), max_size=2), weighted=st.booleans(), reverse=st.booleans())
def test_losses_merge_in_any_split(backend: Backend, cuts: list[int], *, weighted: bool, reverse: bool) -> None:
    """Mean, standard error and interval are those of all losses; a loss of weight 0 is not looked at."""
    w = WEIGHTS if weighted else np.ones_like(WEIGHTS)
    x = np.where(w == 0, np.float32(NAN), LOSSES)
    ends = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    pieces = [
        backend.call(LossSum().update, backend.array(x[a:b]), backend.array(w[a:b]) if weighted else None)
        for a, b in ends
    ]
    found = reduce(LossSum.merge, reversed(pieces) if reverse else pieces)
    mean, error = direct(x, w)
    got = [backend.numpy(v) for v in (found.mean, found.standard_error, *found.interval(), found.perplexity)]
    reach = 1.959963984540054 * error
    np.testing.assert_allclose(got, [mean, error, mean - reach, mean + reach, np.exp(mean)], rtol=2e-6)
    assert int(backend.numpy(found.examples)) == np.count_nonzero(w)
    in_numbers = reduce(LossSum.merge, [piece.in_numbers() for piece in pieces], LossSum())
    np.testing.assert_allclose([in_numbers.mean, *in_numbers.interval(0.5)][0], mean, rtol=1e-6)
    np.testing.assert_allclose(in_numbers.perplexity_interval(), np.exp([mean - reach, mean + reach]), rtol=1e-5)


def test_pairs_add_up(backend: Backend) -> None:
    x, labels = single([[0.5, 1.0, -1.0], [2.0, 0.0, 0.0], [0.0, 3.0, 1.0]]), np.asarray([0, 2, 1], dtype=np.int32)
    weights = single([1.0, 0.0, 0.5])
    whole = call(backend, cross_entropy, backend.array(x), backend.array(labels), sample_weight=backend.array(weights))
    total = LossSum()
    for n in range(3):
        pair = call(
            backend,
            cross_entropy,
            backend.array(x[n]),
            backend.array(labels[n]),
            sample_weight=backend.array(weights[n]),
            reduction="sum_and_weight",
        )
        total = total + backend.call(LossSum().add, *pair) if n else backend.call(total.add, *pair)
    np.testing.assert_allclose(backend.numpy(total.mean), backend.numpy(whole), rtol=3e-7)
    assert backend.numpy(total.weight) == 1.5
    assert total.examples is None
    with pytest.raises(ValueError, match=r"standard_error must come from losses of examples"):
        total.interval()
    with pytest.raises(ValueError, match=r"standard_error must come"):
        total.merge(LossSum().update(backend.array(LOSSES))).interval()
    assert LossSum().add(3, 2).add(1.0, 2).mean == 1.0
    one = backend.call(LossSum().add, backend.array(3.0, "float32"), 2)
    assert backend.numpy(one.mean) == 1.5


@pytest.mark.backends("numpy-readonly", "torch", "jax")
def test_losses_add_up_as_in_double_precision(backend: Backend) -> None:
    """float32 alone is off."""
    loss, weight = backend.array(0.1, "float32"), backend.array(1.0, "float32")
    total = LossSum().add(0.0 * loss, 0.0 * loss)
    if backend.library == "jax":
        import jax

        total = jax.lax.scan(lambda state, _: (state.add(loss, weight), None), total, None, length=2000)[0]
    else:
        total = reduce(lambda state, _: state.add(loss, weight), range(2000), total)
    assert float(total.mean) == np.float32(0.1)
    assert float(total.total) != np.float32(200.0)


def test_special_losses(backend: Backend) -> None:
    infinite = backend.call(LossSum().update, backend.array([INF, 1.0], "float32"))
    assert backend.numpy(infinite.merge(LossSum().update(backend.array(LOSSES))).mean) == INF
    assert np.isnan(backend.numpy(infinite.standard_error))
    nothing = backend.call(LossSum().update, backend.array([INF], "float32"), 0.0)
    assert backend.numpy(nothing.mean) == 0.0
    assert backend.numpy(nothing.merge(LossSum().update(backend.array(LOSSES))).mean) == np.float32(2.375)
    single_one = backend.call(LossSum().update, backend.array([2.0], "float32"))
    assert np.isnan(backend.numpy(single_one.standard_error))
    assert LossSum().add(1e4, 1.0).perplexity == INF
    halves = backend.call(LossSum().update, backend.array([1.0, 2.0], "float32"), weight=2.0)
    assert backend.numpy(halves.weight) == 4.0


@pytest.mark.backends("torch", "jax")
def test_gradients_of_a_mean(backend: Backend) -> None:
    found = by_logits(backend, {"mean": lambda x: LossSum().update(x[:1]).update(x[1:]).mean}, LOSSES[:3])
    assert_near(found["mean"], [mpf(1) / 3] * 3)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy")
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda _: LogSumExp().value, ValueError, r"LogSumExp\(\) must have seen something, got none; call update"),
        (lambda _: LossSum().mean, ValueError, r"LossSum\(\) must have seen something"),
        (lambda _: SoftmaxStatistics().argmax, ValueError, "must have seen something"),
        (lambda _: LogSumExp().update([1.0]), TypeError, "block must be a number or an array, got list"),
        (
            lambda x: LogSumExp().update(x).update(x[:2]),
            ValueError,
            r"other must have the batch shape \(4,\), got \(2,\)",
        ),
        (lambda x: LogSumExp().merge(x), TypeError, "other must be a LogSumExp, got ndarray"),
        (
            lambda _: LogSumExp().merge(SoftmaxStatistics()),  # type: ignore[arg-type]
            TypeError,
            "other must be a LogSumExp, got SoftmaxStatistics",
        ),
        (lambda x: LogSumExp().update(x, where=1.0), TypeError, "where must be bool"),
        (lambda x: LogSumExp().update(x, axis=2), ValueError, "axis must be from -2 to 1"),
        (lambda x: SoftmaxStatistics().update(x, start=0.5), TypeError, "start must be an int"),
        (lambda x: LossSum().update(x, weight=-1.0), ValueError, "weight must be finite and at least 0"),
        (lambda x: LossSum().update(x, weight=np.ones(7)), ValueError, "weight must broadcast"),
        (lambda x: LossSum().add(x, 1.0), ValueError, r"total must be a 0-d array, got shape \(4, 3\)"),
        (lambda x: LossSum().update(x).merge(LossSum().add(1.0, 1.0)), TypeError, "Python numbers beside arrays"),
        (lambda x: LossSum().update(x).interval(95), ValueError, "level must be between 0 and 1, got 95"),
    ],
)
def test_errors(backend: Backend, wrong: Callable[[Array], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrong(backend.array(np.ones((4, 3)), "float32"))
