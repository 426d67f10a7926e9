"""binary_cross_entropy_from_probs: probabilities are taken as they are, 0 · log 0 is 0, and only ``eps`` clips."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal, assert_exact, call, default_float, gradients
from derivatives import INF, NAN, assert_close
from differences import exact_arrays, gradient, second
from exact_gradients import assert_like, floor_of, placed, single
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from softxent import (
    binary_cross_entropy,
    binary_cross_entropy_from_probs,
    grad,
    hessian_diagonal,
    hvp,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]
Given = dict[str, Any]

SHAPE = (4, 3)
P = single([[0.25, 0.5, 0.75], [2.0**-30, 1 - 2.0**-24, 0.125], [0.0625, 0.875, 0.375], [2.0**-50, 0.625, 0.96875]])
HARD = np.asarray([[1, 0, 1], [1, 1, 0], [0, 0, 1], [1, 0, 1]], dtype="int32")
SOFT = single([[0.25, 0.5, 0.75], [0.0, 1.0, 0.5], [1.0, 0.0, 0.125], [0.5, 1.0, 2.0**-20]])
KEPT = np.asarray([[True, False, True], [True, True, True], [False, True, True], [True, True, False]])
PUZZLED = np.where(KEPT, P, single([[1, 0, 1], [1, 1, 1], [NAN, 1, 1], [1, 1, -INF]]))
WEIGHT = single([[2.0, 1.0, 0.5], [0.5, 4.0, 1.0], [1.0, 3.0, 0.25], [1.0, 2.0, 0.5]])
COTANGENT = single([[1.0, -0.5, 2.0], [0.25, 1.5, -1.0], [0.75, 1.0, -2.0], [0.5, 1.0, 4.0]])
CASES: dict[str, Given] = {
    "hard": {"probs": P, "labels": HARD},
    "soft": {"probs": P, "labels": SOFT},
    "ignored": {
        "probs": PUZZLED,
        "labels": np.where(KEPT, HARD, 7),
        "ignore_index": 7,
        "weight": WEIGHT,
        "label_smoothing": WEIGHT / single(8.0),
    },
    "weight of 0": {"probs": PUZZLED, "labels": np.where(KEPT, HARD, -1), "weight": np.where(KEPT, WEIGHT, 0)},
    "everything": {
        "probs": PUZZLED,
        "labels": np.where(KEPT, SOFT, single(NAN)),
        "where": KEPT,
        "weight": WEIGHT,
        "pos_weight": WEIGHT[::-1].copy(),
        "label_smoothing": WEIGHT / single(8.0),
        "eps": single(0.1),
    },
}
EACH = pytest.mark.parametrize("name", CASES)
FLOATING = {"probs", "labels", "weight", "pos_weight", "label_smoothing"}


def by_of(name: str) -> tuple[str, ...]:
    return tuple(one for one, x in CASES[name].items() if one in FLOATING and x.dtype.kind == "f")


def half(n: int, given: Given) -> mpf:
    """What an element costs as a positive (0) or as a negative (1), straight from the definition."""
    p, y, w, pos_weight, epsilon = (given[one][0] for one in ("probs", "labels", "weight", "pos_weight", "epsilon"))
    y = (1 - epsilon) * y + epsilon / 2
    if given["eps"] is not None:
        p = min(max(p, given["eps"]), 1 - given["eps"])
    return -w * pos_weight * y * mp.log(p) if n == 0 else -w * (1 - y) * mp.log(1 - p)


@cache
def exact(name: str) -> dict[str, oracle.Sum]:
    """Losses, their derivatives by every argument and the second ones ("bend"), with absolute values of both halves.

    An element of weight 0 is 0 but for its derivative by the weight.
    """
    case = CASES[name]
    found: dict[str, tuple[Any, Any]] = {
        one: (np.full(SHAPE, mpf(0), dtype=object), np.full(SHAPE, mpf(0), dtype=object))
        for one in ("value", "bend", *by_of(name))
    }
    neutral: Given = {"labels": HARD, "weight": np.ones(SHAPE), "pos_weight": np.ones(SHAPE), "label_smoothing": 0 * P}
    arrays = exact_arrays({"probs": P} | neutral | {one: x for one, x in case.items() if one in FLOATING})
    with mp.workdps(oracle.DIGITS):
        eps = mpf(float(case["eps"])) if "eps" in case else None
        for at in np.argwhere(KEPT if name not in {"hard", "soft"} else np.ones(SHAPE, dtype=bool)):
            one: Given = {key: np.asarray([ulps.number(x[tuple(at)])], dtype=object) for key, x in arrays.items()}
            one |= {"epsilon": one.pop("label_smoothing"), "eps": eps}
            for key, (value, absolute) in found.items():
                parts = [derivative(n, one, key) for n in (0, 1)]
                value[tuple(at)], absolute[tuple(at)] = parts[0] + parts[1], abs(parts[0]) + abs(parts[1])
    return {one: oracle.Sum(*parts) for one, parts in found.items()}


def derivative(n: int, given: Given, by: str) -> mpf:
    """Of one of both halves by an argument; the half itself for "value", and its second derivative for "bend"."""

    def function(moved: Given) -> mpf:
        return half(n, {**moved, "eps": given["eps"]})

    moving = {one: x for one, x in given.items() if one != "eps"}
    if by == "value":
        return function(given)
    if by == "bend":
        return second(function, moving, "probs", np.ones(1))[0]
    return gradient(function, moving, "epsilon" if by == "label_smoothing" else by)[0]


def times(sums: oracle.Sum, cotangent: NumPy) -> oracle.Sum:
    g = ulps.exactly(cotangent)
    return oracle.Sum(g * sums.value, abs(g) * sums.absolute)


def assert_derivatives(backend: Backend, name: str, found: Any, *, cotangent: NumPy = COTANGENT) -> None:
    for by, one in zip(by_of(name), found, strict=True):
        assert_close(one, times(exact(name)[by], cotangent), dtype="float32", floor=floor_of(backend))


# -- values and derivatives -------------------------------------------------------------------------------------------


def assert_values_and_derivatives(backend: Backend, name: str) -> None:
    given = placed(backend, CASES[name])
    value, pullback = backend.call(vjp(binary_cross_entropy_from_probs, by_of(name)), **given, reduction="none")
    assert_close(backend.numpy(value), exact(name)["value"], dtype="float32")
    found = backend.call(pullback, backend.array(COTANGENT))
    for by, one in zip(by_of(name), found, strict=True):
        assert_like(backend, one, given[by])
    assert_derivatives(backend, name, [backend.numpy(one) for one in found])
    if backend.library == "jax":  # which compiles for every way to ask
        return
    total, found = backend.call(value_and_grad(binary_cross_entropy_from_probs, by_of(name)), **given, reduction="sum")
    sums = oracle.Sum(*(np.asarray(part.sum()) for part in exact(name)["value"]))
    assert_close(backend.numpy(total), sums, dtype="float32")
    assert_derivatives(backend, name, [backend.numpy(one) for one in found], cotangent=np.ones(SHAPE))


@pytest.mark.backends("numpy", "array_api_strict", "torch", "dask")
@EACH
def test_values_and_derivatives(backend: Backend, name: str) -> None:
    """By what is given and by every option; what takes no part may hold anything."""
    assert_values_and_derivatives(backend, name)


@pytest.mark.backends("jax")
def test_values_and_derivatives_of_jax(backend: Backend) -> None:
    """It compiles for every case anew: here is the one with all options, and others below."""
    assert_values_and_derivatives(backend, "everything")


def autodiff(backend: Backend, name: str) -> None:
    given = placed(backend, CASES[name])
    by = by_of(name)
    arrays = [given.pop(one) for one in by]

    def loss(*arrays: Array) -> Array:
        return binary_cross_entropy_from_probs(**dict(zip(by, arrays, strict=True)), **given, reduction="none")

    assert_derivatives(backend, name, gradients(backend, loss, *arrays, cotangent=COTANGENT))


@pytest.mark.backends("torch")
@EACH
@pytest.mark.parametrize("small", [-1, 2**14], ids=["by the rule", "through the formula"])
def test_autodiff_of_torch(backend: Backend, name: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
    autodiff(backend, name)


@pytest.mark.backends("jax")
def test_autodiff_of_jax(backend: Backend) -> None:
    autodiff(backend, "weight of 0")


@pytest.mark.parametrize("name", ["soft", "everything"])
def test_second_derivatives(backend: Backend, name: str) -> None:
    """Along a vector that is not looked at where nothing takes part."""
    given = placed(backend, CASES[name])
    bend, kept = exact(name)["bend"], np.isfinite(CASES[name]["labels"])
    vector = np.where(kept, COTANGENT, single(NAN))
    if backend.library != "jax" or name == "soft":
        found = backend.call(hessian_diagonal(binary_cross_entropy_from_probs), **given, reduction="sum")
        assert_close(backend.numpy(found), bend, dtype="float32")
    if backend.library != "jax" or name == "everything":
        found = backend.call(
            hvp(binary_cross_entropy_from_probs), **given, reduction="sum", vector=backend.array(vector)
        )
        assert_like(backend, found, given["probs"])
        assert_close(backend.numpy(found), times(bend, np.where(kept, COTANGENT, 0)), dtype="float32")


@pytest.mark.backends("torch", "jax")
def test_autodiff_twice(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the formula is differentiated twice by, and its pullback once."""
    name = "everything" if backend.library == "torch" else "soft"
    given = placed(backend, CASES[name])
    p, g = given.pop("probs"), backend.array(COTANGENT)
    expected = times(exact(name)["bend"], COTANGENT)

    def f(p: Array) -> Array:
        return binary_cross_entropy_from_probs(p, **given, reduction="none")

    if backend.library == "jax":
        import jax

        def total(p: Array) -> Array:
            return (g * f(p)).sum()

        found = jax.jit(jax.grad(lambda p: jax.grad(total)(p).sum()))(p)
        assert_close(backend.numpy(found), expected, dtype="float32")
        return

    def slope(p: Array) -> Array:
        return backend.xp.autograd.grad(f(p), p, g, create_graph=True)[0]

    for small in (-1, 2**14):
        monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
        (found,) = gradients(backend, slope, p)
        assert_close(found, expected, dtype="float32")


# -- the ends ---------------------------------------------------------------------------------------------------------

# Against 0, against 1, and against 1/2: losses, slopes and second derivatives that are known.
TINY, NEXT = np.float64(np.float32(1e-30)), 1 - 2.0**-24
ENDS = single([[0, 1, TINY], [NEXT, 1, 0], [TINY, NEXT, 0], [1, NAN, 2]])
LABELS = single([[0, 1, 0], [0, 0, 1], [1, 1, 0.5], [0.5, 1, 0]])
LOSSES: Any = [[0, 0, TINY], [24 * np.log(2), INF, INF], [-np.log(TINY), -np.log1p(-(2.0**-24)), INF], [INF, NAN, NAN]]
SLOPES: Any = [[1, -1, 1], [2.0**24, INF, -INF], [-1 / TINY, -1 / NEXT, -INF], [INF, NAN, NAN]]
BENDS: Any = [[1, 1, 1], [2.0**48, INF, INF], [INF, 1 / NEXT**2, INF], [INF, NAN, NAN]]


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_the_ends(backend: Backend, kind: str) -> None:
    """At p = y it costs 0 and has a slope, at the other end inf; no probability is NaN, value and derivative."""
    rows = 4 if kind == "float32" else 2  # without the label 1/2
    p, y = backend.array(ENDS[:rows]), backend.array(LABELS[:rows].astype(kind))
    f = binary_cross_entropy_from_probs
    value, pullback = backend.call(vjp(f), p, y, reduction="none")
    assert_exact(backend, value, LOSSES[:rows])
    assert_exact(backend, backend.call(pullback, backend.array(np.ones((rows, 3), "float32"))), SLOPES[:rows])
    if kind == "float32":
        found = backend.call(hessian_diagonal(f), p, y, reduction="sum")
        assert_exact(backend, found, BENDS[:rows])
        by_label = backend.call(grad(f, "labels"), p[:3, :], y[:3, :], reduction="sum")
        expected = [[0, 0, -np.log(TINY)], [-24 * np.log(2), 0, 0], [-np.log(TINY), -24 * np.log(2), 0]]
        np.testing.assert_allclose(backend.numpy(by_label), expected, rtol=1e-6)


@pytest.mark.backends("numpy", "torch")
def test_a_probability_whose_reciprocal_overflows(backend: Backend) -> None:
    """It does not matter to a negative."""
    p, y = backend.array(single([1e-40, 0.5])), backend.array([0, 1], "int32")
    value, slope = value_and_grad(binary_cross_entropy_from_probs)(p, y, reduction="sum")
    assert_exact(backend, value, np.log(2))
    assert_equal(backend, slope, single([1, -2]))
    bend = hessian_diagonal(binary_cross_entropy_from_probs)(p, y, reduction="sum")
    assert_equal(backend, bend, single([1, 4]))


@pytest.mark.backends("torch", "jax")
def test_autodiff_at_the_ends(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 · log 0 = 0 to the first order too, where libraries would have 0 · inf."""
    p, y = backend.array(ENDS), backend.array(LABELS)
    for small in (-1, 2**14) if backend.library == "torch" else (None,):
        if small is not None:
            monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
        (found,) = gradients(backend, lambda p: binary_cross_entropy_from_probs(p, y, reduction="none"), p)
        np.testing.assert_allclose(found, SLOPES, rtol=3e-7)
    if backend.library == "jax":
        import jax

        batched = jax.jit(jax.vmap(jax.grad(binary_cross_entropy_from_probs)))(p[0], y[0])
        np.testing.assert_array_equal(backend.numpy(batched), SLOPES[0])


def test_what_nan_to_num_is_written_for(backend: Backend) -> None:
    """Of outputs that equal their labels the sum is 0; of others it is the one that can be written down."""

    def usual(a: NumPy, y: NumPy) -> Any:
        with np.errstate(all="ignore"):
            return np.sum(np.nan_to_num(-y * np.log(a) - (1 - y) * np.log(1 - a)))

    y = single([1, 0, 1])
    f = partial(binary_cross_entropy_from_probs, reduction="sum")
    for a in (y, single([0.5, 0.25, 0.875])):
        found = backend.call(f, backend.array(a), backend.array(y))
        np.testing.assert_allclose(backend.numpy(found), usual(a.astype("float64"), y), rtol=3e-7)
    assert usual(single([0.0, 0.25, 0.875]), y) > 1e38  # a mistake, by the largest number; here it is what it is
    assert backend.numpy(backend.call(f, backend.array(single([0.0, 0.25, 0.875])), backend.array(y))) == INF


@pytest.mark.backends("numpy", "torch", "jax")
def test_the_clamps_of_torch_and_keras_are_not_ours(backend: Backend) -> None:
    """Torch bounds logarithms at -100, and a slope at 1e12; keras clips p at 1e-7, past which no slope is left."""
    p, y = single([0, 1e-30, 1e-50 + 1e-40]), np.asarray([1, 1, 1])
    keras = np.clip(p, np.float32(1e-7), np.float32(1 - 1e-7))
    np.testing.assert_allclose(-np.log(keras), [16.118] * 3, rtol=1e-4)
    given = backend.array(p), backend.array(y, "int32")
    value, slope = backend.call(value_and_grad(binary_cross_entropy_from_probs), *given, reduction="sum")
    assert backend.numpy(value) == INF
    rows = backend.numpy(backend.call(binary_cross_entropy_from_probs, *given, reduction="none"))
    assert rows[0] == INF
    assert_exact(backend, slope[:2], [-INF, -1 / TINY])
    np.testing.assert_allclose(rows[1], 69.0776, rtol=1e-5)
    if backend.library == "torch":
        theirs = backend.xp.nn.functional.binary_cross_entropy
        leaf = given[0].clone().requires_grad_()
        loss = theirs(leaf, given[1].float(), reduction="none")
        np.testing.assert_array_equal(backend.numpy(loss)[0], 100.0)
        (clamped,) = backend.xp.autograd.grad(loss.sum(), leaf)
        np.testing.assert_allclose(backend.numpy(clamped)[:2], -1e12, rtol=1e-6)


# -- eps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-7, 1e-10])
def test_eps_clips_both_ends_alike(backend: Backend, eps: float) -> None:
    """Also where 1 - eps is 1 in float32. No slope where it clips, as outside 0 to 1; NaN stays NaN."""
    p = backend.array(single([[0, 1, 0.25], [1, 0, 0.75], [-1, 2, NAN]]))
    y = backend.array(single([[1, 0, 1], [1, 0, 0], [1, 0, 1]]))
    f = partial(binary_cross_entropy_from_probs, eps=eps)
    far, near = -np.log(np.float64(np.float32(eps))), -np.log1p(-np.float64(np.float32(eps)))
    expected = [[far, far, np.log(4)], [near, near, np.log(4)], [far, far, NAN]]
    value, slope = backend.call(value_and_grad(f), p, y, reduction="none")
    assert_exact(backend, value, expected)
    assert_equal(backend, slope, single([[0, 0, -4], [0, 0, 4], [0, 0, NAN]]))
    if eps == 1e-7:
        assert_equal(
            backend,
            backend.call(hessian_diagonal(f), p, y, reduction="sum"),
            single([[0, 0, 16], [0, 0, 16], [0, 0, NAN]]),
        )
        array = backend.call(f, p, y, eps=backend.array(single(eps)), reduction="none")
        assert_exact(backend, array, expected)


# -- reductions, shapes, dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("denominator", ["weight", "count", "all", 2.5])
def test_reductions(backend: Backend, denominator: Any) -> None:
    """As binary_cross_entropy's of the logits: they are the same numbers, but for rounding."""
    if backend.library == "jax" and denominator != "weight":  # which it compiles for
        return
    x = single([[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]])
    p, y = (1 / (1 + np.exp(-x.astype("float64")))).astype("float32"), HARD[:3].copy()
    y[1, 1] = 7
    options = {"ignore_index": 7, "weight": single([1, 2, 0.5]), "pos_weight": single([[2.0], [1.0], [0.5]])}
    given = placed(backend, options)
    by = ("weight", "pos_weight")
    found = backend.call(
        value_and_grad(binary_cross_entropy_from_probs, by),
        backend.array(p),
        backend.array(y),
        **given,
        denominator=denominator,
    )
    expected = value_and_grad(binary_cross_entropy, by)(x, y, **options, denominator=denominator)
    np.testing.assert_allclose(backend.numpy(found[0]), expected[0], rtol=1e-6)
    for one, right in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(backend.numpy(one), right, rtol=1e-5, atol=1e-6)


def test_options_of_every_shape(backend: Backend) -> None:
    """Along an axis, for all, or one an element."""
    p, y = backend.array(P), backend.array(HARD)
    few = {"weight": single([2, 1, 0.5]), "label_smoothing": single([[0.5], [0.25], [0], [1]]), "pos_weight": single(3)}
    many = {one: np.broadcast_to(x, SHAPE).copy() for one, x in few.items()}
    f = partial(binary_cross_entropy_from_probs, reduction="none")
    found, expected = (backend.call(f, p, y, **placed(backend, options)) for options in (few, many))
    assert_equal(backend, found, backend.numpy(expected))


@pytest.mark.backends("numpy", "array_api_strict", "torch", "dask")
def test_shapes(backend: Backend) -> None:
    """One number, no element, options along another axis."""
    f = binary_cross_entropy_from_probs
    value, slope = backend.call(value_and_grad(f), backend.array(single(0.25)), 1)
    assert_exact(backend, value, np.log(4))
    assert_equal(backend, slope, single(-4))
    nothing = backend.array(np.zeros((2, 0), "float32"))
    value, slope = backend.call(value_and_grad(f), nothing, nothing)
    assert_equal(backend, value, single(0))
    assert slope.shape == (2, 0)
    p, y, w = backend.array(P.T.copy()), backend.array(HARD.T.copy()), backend.array(single([2, 1, 0.5]))
    found = backend.call(f, p, y, weight=w, axis=0)
    expected = backend.call(f, backend.array(P), backend.array(HARD), weight=w)
    np.testing.assert_allclose(backend.numpy(found), backend.numpy(expected), rtol=3e-7)


@pytest.mark.parametrize("whole", ["bool", "int32"])
def test_whole_probabilities(backend: Backend, whole: str) -> None:
    """0 and 1 as integers become the library's default floating dtype."""
    p, y = backend.array(np.asarray([0, 1, 1]).astype(whole)), backend.array([0, 1, 0], "int32")
    found = backend.numpy(call(backend, binary_cross_entropy_from_probs, p, y, reduction="none"))
    assert found.dtype == default_float(backend)
    np.testing.assert_array_equal(found, [0, 0, INF])


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves(backend: Backend, dtype: str) -> None:
    """Losses are float32, of the probabilities as they are; derivatives halves that are rounded once."""
    p, y = backend.array([0.25, 0.9375, 0.0], dtype), backend.array([1, 0, 0], "int32")
    value, slope = backend.call(value_and_grad(binary_cross_entropy_from_probs), p, y, reduction="sum")
    assert_exact(backend, value, np.log(4) + np.log(16))
    assert_exact(backend, slope, [-4, 16, 1], dtype)
    clipped = backend.call(binary_cross_entropy_from_probs, p, y, reduction="none", eps=1e-7)
    assert_exact(backend, clipped, [np.log(4), np.log(16), -np.log1p(-np.float64(np.float32(1e-7)))])


@pytest.mark.dtypes("float16")
def test_certain_halves_cost_nothing__keras_3_15(backend: Backend, dtype: str) -> None:
    """In keras, on NumPy and jax, 1 - ε is 1 in float16: a certain hit costs 0 · log 0, which is NaN."""

    def of_keras(p: NumPy, y: NumPy) -> NumPy:
        p = np.clip(p, np.float16(1e-7), 1 - np.float16(1e-7))
        return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))

    p, y = np.asarray([1.0, 0.5], dtype), np.asarray([1.0, 1.0], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.isnan(of_keras(p, y)), [True, False])
    given = backend.array(p, dtype), backend.array(y, dtype)
    value, slope = backend.call(value_and_grad(binary_cross_entropy_from_probs), *given, reduction="sum")
    assert_exact(backend, value, np.log(2))
    assert_exact(backend, slope, [-1, -2], dtype)


@pytest.mark.backends("numpy", "torch")
def test_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows taken few at a time are the same."""
    rng = np.random.default_rng(0)
    p, y = single(rng.uniform(size=(3000, 8))), rng.integers(0, 2, (3000, 8)).astype("int32")
    given = {"weight": backend.array(single(rng.uniform(0.5, 2, 8))), "eps": 0.125}
    f = value_and_grad(binary_cross_entropy_from_probs, ("probs", "weight"))
    found = []
    for entries in (2**30, 1000):
        monkeypatch.setattr("softxent.backends.numpy.Backend.entries", entries)
        monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.entries", entries)
        value, derivatives = f(backend.array(p), backend.array(y), **given)
        found.append([backend.numpy(one) for one in (value, *derivatives)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


# -- laws -------------------------------------------------------------------------------------------------------------

FRACTION = st.integers(0, 2**20).map(lambda n: n / 2**20)


@given(p=st.lists(FRACTION, min_size=3, max_size=3), y=st.lists(FRACTION, min_size=3, max_size=3))
def test_turning_everything_round(backends: list[Backend], p: list[float], y: list[float]) -> None:
    """Positives of p are negatives of 1 - p."""
    for backend in backends:
        if backend.exact or backend.lazy:
            continue
        one, other = (
            backend.call(binary_cross_entropy_from_probs, *both, reduction="none")
            for both in (
                (backend.array(p, "float32"), backend.array(y, "float32")),
                (backend.array([1 - x for x in p], "float32"), backend.array([1 - x for x in y], "float32")),
            )
        )
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6)


# -- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "eps must be from 0 to 0.5, got 0.7": lambda p, y: binary_cross_entropy_from_probs(p, y, eps=0.7),
    "eps must be from 0 to 0.5, got 0": lambda p, y: binary_cross_entropy_from_probs(p, y, eps=0),
    "eps must be a number or a 0-d array": lambda p, y: binary_cross_entropy_from_probs(p, y, eps=np.ones(3)),
    "probs must be an array": lambda _, y: binary_cross_entropy_from_probs([0.5], y),
    "labels must be from 0 to 1, got 2 at position": lambda p, y: binary_cross_entropy_from_probs(p, y + 1),
    "pos_weight must be finite and at least 0": lambda p, y: binary_cross_entropy_from_probs(p, y, pos_weight=-1),
    "ignore_index must come with integer labels": lambda p, _: binary_cross_entropy_from_probs(p, p, ignore_index=-1),
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        ERRORS[text](P, HARD)
    assert str(error.value).startswith(text)


def test_shapes_that_are_refused(backend: Backend) -> None:
    """Nothing is broadcast between probabilities and labels."""
    for labels in (P[0], P[:, :1]):
        with pytest.raises(ValueError, match=r"labels must have .*shape .*\(4, 3\), got .*nothing is broadcast"):
            backend.call(binary_cross_entropy_from_probs, backend.array(P), backend.array(labels))


@pytest.mark.parametrize("bad", [2, 1.5])
def test_a_target_that_is_none(backend: Backend, bad: float) -> None:
    """NaN, value and derivative, where it is not refused (§3.5)."""
    p, y = backend.array(single([0.25, 0.5, 0.5])), backend.array(np.asarray([1, 0, bad], np.float32))
    value, slope = backend.call(value_and_grad(binary_cross_entropy_from_probs), p, y, reduction="none", check=False)
    assert_exact(backend, value, [np.log(4), np.log(2), NAN])
    assert_equal(backend, slope, single([-4, 2, NAN]))
