"""Entropies and divergences: values, derivatives and second derivatives against mpmath, and the edges where p is 0."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, gradients, hessian
from derivatives import INF, NAN, assert_close
from differences import exact_arrays, gradient, second
from exact_gradients import EAGER, assert_like, floor_of, placed, single, widest
from hypothesis import given
from hypothesis import strategies as st
from matrix import load
from mpmath import mp, mpf
from test_blocks import RUNNERS, cut

import softxent
from softxent import grad, hessian_diagonal, hvp, value_and_grad, vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NUMPY = load("numpy")

MEASURES = ("entropy", "cross_entropy_between", "kl_divergence", "js_divergence", "total_variation")
# Ties, near ties, an offset, wide gaps.
X = single([[0.5, -1.25, 2], [1, 1, -0.5], [20, 0, 0], [1000002, 1000000, 1000001]])
Y = single([[0.25, 1.5, -2], [1, 1.0009765625, -0.5], [0, 4, 0], [-3, 1, 0]])
KEPT = np.asarray([[True] * 3, [True, True, False], [True] * 3, [False, True, True]])
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "where": {"where": KEPT, "sample_weight": single([1.0, -0.5, 2.0, 0.25])},
    "temperature": {"temperature": single([0.5, 2.0, 4.0, 1.0]), "scale_by_t2": True},
}
COTANGENT = single([1.0, -0.5, 2.0, 0.25])
VECTOR = single([[1, -0.5, 2], [0.25, 1, 1], [0, 1, -1], [0.5, 0.25, -0.75]])


def function_of(measure: str, *, probs: bool = False) -> Any:
    return getattr(softxent, measure + ("_from_probs" if probs else ""))


def names_of(measure: str, *, probs: bool = False) -> tuple[str, ...]:
    kind = "probs" if probs else "logits"
    return (kind,) if measure == "entropy" else (f"p_{kind}", f"q_{kind}")


def options_of(measure: str, options: str) -> dict[str, Any]:
    given = dict(OPTIONS[options])
    if measure == "js_divergence":
        given["beta"] = 0.25
    if measure == "entropy":
        given.pop("scale_by_t2", None)
    return given


def measured(measure: str, p: list[mpf], q: list[mpf], beta: mpf) -> mpf:
    """Straight from the definition; what has p = 0 contributes nothing."""

    def relative(p: list[mpf], q: list[mpf]) -> mpf:
        return sum((a * mp.log(a / b) if b else mpf(INF) for a, b in zip(p, q, strict=True) if a), mpf(0))

    if measure == "entropy":
        return -sum((a * mp.log(a) for a in p if a), mpf(0))
    if measure == "cross_entropy_between":
        return sum((-a * mp.log(b) if b else mpf(INF) for a, b in zip(p, q, strict=True) if a), mpf(0))
    if measure == "kl_divergence":
        return relative(p, q)
    if measure == "js_divergence":
        m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        return beta * relative(p, m) + (1 - beta) * relative(q, m)
    return sum((abs(a - b) for a, b in zip(p, q, strict=True)), mpf(0)) / 2


def softmax_of(x: list[mpf], keep: list[bool], t: mpf) -> list[mpf]:
    e = [mp.exp(v / t) if k else mpf(0) for v, k in zip(x, keep, strict=True)]
    return [v / sum(e) for v in e]


def rows_of(measure: str, arrays: dict[str, Any]) -> list[mpf]:
    """Of logits."""
    sides = [arrays[name] for name in names_of(measure)]
    where = arrays.get("where", np.ones((4, 3), bool))
    t, s = arrays.get("temperature", [mpf(1)] * 4), arrays.get("sample_weight", [mpf(1)] * 4)
    found = []
    for n in range(4):
        p, q = (softmax_of(list(side[n]), list(where[n]), t[n]) for side in (sides[0], sides[-1]))
        scale = t[n] ** 2 if arrays.get("scale_by_t2") else 1
        found.append(s[n] * scale * measured(measure, p, q, mpf(0.25)))
    return found


def arrays_of(measure: str, options: str) -> dict[str, Any]:
    return {**dict(zip(names_of(measure), (X, Y), strict=False)), **options_of(measure, options)}


class Terms(NamedTuple):
    """Σ of the absolute values of what a row and its derivatives are sums of, whichever measure it is."""

    row: mpf
    by_logits: list[mpf]
    by_heat: mpf


def terms_of(measure: str, arrays: dict[str, Any], n: int) -> Terms:
    """Logarithms of both sides count one by one, since their difference is what cancels."""
    sides = [arrays[name] for name in names_of(measure)]
    keep = list(arrays.get("where", np.ones((4, 3), bool))[n])
    t = arrays.get("temperature", [mpf(1)] * 4)[n]
    scale = t**2 if arrays.get("scale_by_t2") else mpf(1)
    p, q = (softmax_of(list(side[n]), keep, t) for side in (sides[0], sides[-1]))
    both = [a + b for a, b in zip(p, q, strict=True)]
    logs = [abs(mp.log(a)) + abs(mp.log(b)) if a and b else mpf(0) for a, b in zip(p, q, strict=True)]
    row = sum((b * v for b, v in zip(both, logs, strict=True)), mpf(0)) + 2 * (measure == "total_variation")
    by_z = [b * (v + row + 1) for b, v in zip(both, logs, strict=True)]
    gaps = [sum(abs(max(side[n]) - side[n, c]) / t for side in sides) for c in range(3)]
    moment = sum((a * gap for a, gap in zip(by_z, gaps, strict=True)), mpf(0))
    return Terms(scale * row, [scale * a / t for a in by_z], scale * (moment + 2 * row) / t)


@cache
def exact(measure: str, options: str) -> tuple[oracle.Sum, dict[str, oracle.Sum], oracle.Sum]:
    """Rows; derivatives of Σ cotangent · row by every floating array; the Hessian by the first, times a vector."""
    arrays = arrays_of(measure, options)
    numbers: dict[str, Any] = {n: arrays.pop(n) for n in ("beta", "scale_by_t2") if n in arrays}
    names = names_of(measure)

    def total(moved: dict[str, Any]) -> mpf:
        found = rows_of(measure, {**moved, **numbers})
        return sum((mpf(float(g)) * r for g, r in zip(COTANGENT, found, strict=True)), mpf(0))

    with mp.workdps(oracle.DIGITS):
        given: dict[str, Any] = {**exact_arrays(arrays), **numbers}
        rows = np.asarray(rows_of(measure, given), dtype=object)
        terms = [terms_of(measure, given, n) for n in range(4)]
        s = [abs(v) for v in given.get("sample_weight", [mpf(1)] * 4)]
        g = [abs(mpf(float(v))) for v in COTANGENT]
        weight = [a * b for a, b in zip(s, g, strict=True)]
        sizes = {
            name: np.asarray([[w * a for a in t.by_logits] for w, t in zip(weight, terms, strict=True)])
            for name in names
        }
        sizes["sample_weight"] = np.asarray([w * t.row for w, t in zip(g, terms, strict=True)])
        sizes["temperature"] = np.asarray([w * t.by_heat for w, t in zip(weight, terms, strict=True)])
        of_rows = oracle.Sum(rows, np.asarray([w * t.row for w, t in zip(s, terms, strict=True)]))
    floating = [name for name, x in arrays.items() if x.dtype.kind == "f"]
    derivatives = {name: oracle.Sum(gradient(total, arrays, name), sizes[name]) for name in floating}
    product = second(total, arrays, names[0], VECTOR)
    return of_rows, derivatives, oracle.Sum(product, 0 * product + np.max(abs(product)) + 1)


def gap_of(options: str) -> float:
    """A temperature rounds the gaps, which are exact otherwise: the widest that matters."""
    return 10.0 if options == "temperature" else 4.0


@pytest.mark.any_width
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("measure", MEASURES)
def test_values_and_derivatives(backend: Backend, measure: str, options: str) -> None:
    function, arrays = function_of(measure), arrays_of(measure, options)
    rows, derivatives, _ = exact(measure, options)
    value, pullback = backend.call(vjp(function, tuple(derivatives)), **placed(backend, arrays))
    floor, gap = floor_of(backend), gap_of(options)
    assert_close(backend.numpy(value), rows, dtype="float32", gap=gap, floor=floor)
    found = backend.call(pullback, backend.array(COTANGENT))
    for (name, expected), derivative in zip(derivatives.items(), found, strict=True):
        assert_like(backend, derivative, backend.array(arrays[name]))
        assert_close(backend.numpy(derivative), expected, dtype="float32", gap=gap, floor=floor)


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("measure", MEASURES)
def test_automatic_differentiation(backend: Backend, measure: str) -> None:
    """Of the value on torch, by the pullback on jax; by both sides."""
    names = names_of(measure)
    arrays = placed(backend, arrays_of(measure, "where"))
    sides = [arrays.pop(name) for name in names]
    found = gradients(backend, lambda *x: function_of(measure)(*x, **arrays), *sides, cotangent=COTANGENT)
    for name, derivative in zip(names, found, strict=True):
        assert_close(derivative, exact(measure, "where")[1][name], dtype="float32", gap=8, floor=floor_of(backend))


@EAGER
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("measure", MEASURES)
def test_second_derivatives(backend: Backend, measure: str, options: str) -> None:
    """By the first argument: the product against differences, the diagonal against products."""
    function, dtype = function_of(measure), widest(backend)
    arrays = arrays_of(measure, options)
    arrays["sample_weight"] = arrays.get("sample_weight", single(1.0)) * COTANGENT
    arrays = {n: x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for n, x in arrays.items()}
    given = {**placed(backend, arrays), "reduction": "sum"}
    product = backend.call(hvp(function), **given, vector=backend.array(VECTOR, dtype))
    assert_close(backend.numpy(product), exact(measure, options)[2], dtype=dtype, gap=60)
    diagonal = backend.numpy(backend.call(hessian_diagonal(function), **given))
    for c, unit in enumerate(np.eye(3)):
        column = backend.call(hvp(function), **given, vector=backend.array(np.resize(unit, (4, 3)), dtype))
        np.testing.assert_allclose(diagonal[:, c], backend.numpy(column)[:, c], rtol=1e-4, atol=1e-6)


@EAGER
@pytest.mark.parametrize("measure", MEASURES)
def test_second_derivatives_with_a_temperature_of_classes(backend: Backend, measure: str) -> None:
    """Those by the logits over it, divided by it twice; powers of two divide exactly."""
    function, names, heat = function_of(measure), names_of(measure), single([[0.5, 2, 4]])
    hot = {name: backend.array(x) for name, x in zip(names, (X, Y), strict=False)}
    cold = {name: backend.array(x / heat) for name, x in zip(names, (X, Y), strict=False)}
    given = {"temperature": backend.array(heat), "reduction": "sum"}
    found = backend.call(hvp(function), **hot, **given, vector=backend.array(VECTOR, "float32"))
    expected = backend.call(hvp(function), **cold, reduction="sum", vector=backend.array(VECTOR / heat, "float32"))
    np.testing.assert_allclose(backend.numpy(found), backend.numpy(expected) / heat, rtol=1e-5, atol=1e-6)


# -- next to each other -----------------------------------------------------------------------------------------------

# Ordinary logits, with an offset, one that has nearly all of the mass, -inf on both sides.
NEAR = single([[0.5, -1.25, 2], [1000002, 1000000, 1000001], [30, 1, 0], [-INF, 0.25, 1]])
STEP = np.asarray([[1, -0.5, 0.25], [1, -1, 0.5], [0.25, 1, -0.5], [0, 1, 0.5]])
APART = {"float32": (2.0**-4, 2.0**-13), "float64": (2.0**-13, 2.0**-30)}


def moved(dtype: str, by: float) -> tuple[Any, Any]:
    """Pairs that are told apart by their last digits; the offset has the coarsest ones."""
    x = NEAR.astype(dtype)
    return x, (x + np.maximum(by, 2 * np.spacing(np.where(np.isfinite(x), np.abs(x), 0))) * STEP).astype(dtype)


@cache
def exactly_apart(measure: str, dtype: str, by: float) -> tuple[Any, list[Any]]:
    """Of each row; derivatives of their sum by both sides."""
    names = names_of(measure)

    def rows(arrays: dict[str, Any]) -> list[mpf]:
        return rows_of(measure, arrays)

    with mp.workdps(oracle.DIGITS):
        given = dict(zip(names, moved(dtype, by), strict=False))
        found = np.asarray(rows(exact_arrays(given)), dtype=object)
    return found, [gradient(lambda arrays: sum(rows(arrays), mpf(0)), given, name) for name in names]


@pytest.mark.parametrize("far", [0, 1])
@pytest.mark.parametrize("measure", ["kl_divergence", "js_divergence", "total_variation", "cross_entropy_between"])
def test_distributions_next_to_each_other(backend: Backend, measure: str, far: int) -> None:
    """A divergence keeps its digits however small it is, and so do q - p and the other derivatives.

    p (d - Σ p d) is a difference, of terms that are all as small as the divergence of logits.
    """
    dtype = widest(backend)
    by, function, names = APART[dtype][far], function_of(measure), names_of(measure)
    x, y = (backend.array(side) for side in moved(dtype, by))
    beta = {"beta": 0.25} if measure == "js_divergence" else {}
    value, slopes = backend.call(value_and_grad(function, names), x, y, **beta)
    rows, derivatives = exactly_apart(measure, dtype, by)
    assert_exact(backend, value, rows, dtype, ulp=8)
    assert_near_each(backend, measure, slopes, derivatives, dtype)


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("measure", ["kl_divergence", "js_divergence", "total_variation"])
def test_the_same_by_automatic_differentiation(backend: Backend, measure: str) -> None:
    dtype = widest(backend)
    by = APART[dtype][1]
    sides = [backend.array(side) for side in moved(dtype, by)]
    beta = {"beta": 0.25} if measure == "js_divergence" else {}
    found = gradients(backend, lambda *x: function_of(measure)(*x, **beta), *sides)
    assert_near_each(backend, measure, found, exactly_apart(measure, dtype, by)[1], dtype)


def assert_near_each(backend: Backend, measure: str, found: Any, expected: list[Any], dtype: str) -> None:
    """Within a few units of the largest derivative of the row by p, of each by q where that is q - p."""
    for n, (slope, exact_slope) in enumerate(zip(found, expected, strict=True)):
        got = slope if isinstance(slope, np.ndarray) else backend.numpy(slope)
        sizes = abs(exact_slope)
        if n == 0 or measure not in {"kl_divergence", "cross_entropy_between"}:
            sizes = np.broadcast_to(np.max(sizes, axis=-1, keepdims=True), sizes.shape)
        assert_close(got, oracle.Sum(exact_slope, sizes), dtype=dtype, gap=28, floor=floor_of(backend))


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("measure", MEASURES)
def test_second_derivatives_by_automatic_differentiation(backend: Backend, measure: str) -> None:
    """By the first argument."""
    names, x, y = names_of(measure), single([0.5, -1.25, 2]), single([0.25, 1.5, -2])

    def of_row(arrays: dict[str, Any]) -> mpf:
        p, q = (softmax_of(list(arrays[name]), [True] * 3, mpf(1)) for name in (names[0], names[-1]))
        return measured(measure, p, q, mpf(0.5))

    given = dict(zip(names, (x, y), strict=False))
    others = [backend.array(y)] if len(names) > 1 else []
    found = hessian(backend, lambda x: function_of(measure)(x, *others), backend.array(x))
    for c, unit in enumerate(np.eye(3)):
        expected = second(of_row, given, names[0], unit)
        assert_close(found[:, c], oracle.Sum(expected, 0 * expected + 1), dtype="float32", gap=4)


def test_one_class_with_all_the_mass(backend: Backend) -> None:
    """Second derivatives there are as small as what the others have."""
    x = single([60, 0, 1])
    expected = np.asarray([second(entropy_row, {"logits": x}, "logits", unit)[c] for c, unit in enumerate(np.eye(3))])
    found = backend.call(hessian_diagonal(softxent.entropy), backend.array(x))
    assert_exact(backend, found, expected, ulp=40)


def entropy_row(arrays: dict[str, Any]) -> mpf:
    p = softmax_of(list(arrays["logits"]), [True] * 3, mpf(1))
    return measured("entropy", p, p, mpf(0.5))


# -- probabilities ----------------------------------------------------------------------------------------------------

P = single([[0.25, 0.5, 0.25], [0.125, 0.75, 0.0625], [0.5, 0.25, 0.25]])
Q = single([[0.5, 0.25, 0.125], [0.25, 0.5, 0.25], [0.25, 0.625, 0.125]])


@pytest.mark.parametrize("measure", MEASURES)
def test_probabilities(backend: Backend, measure: str) -> None:
    """As they are, normalised or not; derivatives by both, second ones by the first."""
    function, names = function_of(measure, probs=True), names_of(measure, probs=True)
    given = dict(zip(names, (P, Q), strict=False))
    beta = {"beta": 0.25} if measure == "js_divergence" else {}

    def total(arrays: dict[str, Any]) -> mpf:
        sides = [arrays[name] for name in names]
        return sum((measured(measure, list(sides[0][n]), list(sides[-1][n]), mpf(0.25)) for n in range(3)), mpf(0))

    value, found = backend.call(value_and_grad(function, names), **placed(backend, given), **beta, reduction="sum")
    assert_exact(backend, value, total(exact_arrays(given)), ulp=8)
    for name, derivative in zip(names, found, strict=True):
        expected = gradient(total, given, name)
        assert_close(backend.numpy(derivative), oracle.Sum(expected, abs(expected) + 1), dtype="float32")
    expected = second(total, given, names[0], VECTOR[:3])
    vector = backend.array(VECTOR[:3])
    product = backend.call(hvp(function), **placed(backend, given), **beta, reduction="sum", vector=vector)
    assert_close(backend.numpy(product), oracle.Sum(expected, abs(expected) + 1), dtype="float32", gap=8)
    diagonal = backend.call(hessian_diagonal(function), **placed(backend, given), **beta, reduction="sum")
    assert_exact(backend, diagonal * vector, backend.numpy(product).astype("float64"))


def test_clipping(backend: Backend) -> None:
    """Explicit, with derivative 0 where it clips."""
    p = backend.array(single([[0, 0.25, 0.75], [0.5, 0.25, 0.25]]))
    value, slope = backend.call(value_and_grad(softxent.entropy_from_probs), p, eps=0.125, reduction="none")
    assert_exact(backend, value, [0.125 * np.log(8) + 0.25 * np.log(4) - 0.75 * np.log(0.75), 1.5 * np.log(2.0)])
    assert_equal(backend, slope[0, :1], single([0]))
    assert_exact(backend, slope[1, :], [np.log(2.0) - 1, np.log(4.0) - 1, np.log(4.0) - 1], ulp=8)


def test_probabilities_of_zero(backend: Backend) -> None:
    """0 · log 0 is 0 and has no derivative; what p expects where q is 0 costs +inf."""
    p, q = backend.array(single([[0, 1, 0], [0.5, 0.5, 0]])), backend.array(single([[0.5, 0.5, 0], [0, 1, 0]]))
    value, slopes = backend.call(
        value_and_grad(softxent.kl_divergence_from_probs, ("p_probs", "q_probs")), p, q, reduction="none"
    )
    assert_exact(backend, value, [np.log(2.0), INF])
    assert_exact(backend, slopes[0][0, :], [0, np.log(2.0) + 1, 0])
    assert_equal(backend, slopes[1], single([[0, -2, 0], [-INF, -0.5, 0]]))
    value, slope = backend.call(value_and_grad(softxent.entropy_from_probs), p)
    assert_exact(backend, value, [0, np.log(2.0)])
    assert_exact(backend, slope, single([[0, -1, 0], [np.log(2.0) - 1, np.log(2.0) - 1, 0]]).astype("float64"), ulp=8)


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("measure", MEASURES)
def test_probabilities_of_zero_by_automatic_differentiation(backend: Backend, measure: str) -> None:
    function, names = function_of(measure, probs=True), names_of(measure, probs=True)
    sides = [backend.array(x) for x in (single([[0, 1, 0], [0.5, 0, 0.5]]), single([[0, 0.5, 0.5], [0.25, 0.25, 0.5]]))]
    found = gradients(backend, function, *sides[: len(names)])
    assert all(np.isfinite(x).all() for x in found)


@pytest.mark.parametrize("measure", MEASURES)
def test_negative_probabilities(backend: Backend, measure: str) -> None:
    """NaN on either side, clipped or not, in that row only."""
    function, names = function_of(measure, probs=True), names_of(measure, probs=True)
    wrong, good = single([[-0.25, 0.5, 0.75], [0, 0.5, 0.5]]), single([[0.25, 0.25, 0.5], [0.25, 0.5, 0.25]])
    for sides in ((wrong, good), (good, wrong))[: len(names)]:
        arrays = [backend.array(x) for x in sides[: len(names)]]
        for options in ({}, {"eps": 0.0625}):
            value, slopes = backend.call(value_and_grad(function, names), *arrays, **options)
            np.testing.assert_array_equal(np.isnan(backend.numpy(value)), [True, False])
            of_wrong = backend.numpy(slopes[0 if sides[0] is wrong else 1])
            assert np.isnan(of_wrong[0, 0])
            assert all(not np.isnan(backend.numpy(slope)[1]).any() for slope in slopes)


# -- special values ---------------------------------------------------------------------------------------------------

EDGES = single([[0, -INF, 1], [-INF, 0, -INF], [NAN, 1, 2], [-INF] * 3])
OTHER = single([[0, -INF, 1], [1, 2, 0], [0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("measure", MEASURES)
def test_infinite_logits(backend: Backend, measure: str) -> None:
    """-inf on both sides or in p contributes nothing; undefined rows are NaN, and no other."""
    function, names = function_of(measure), names_of(measure)
    sides = [backend.array(x) for x in (EDGES, OTHER)][: len(names)]
    value, slopes = backend.call(value_and_grad(function, names), *sides, reduction="none")
    assert np.isfinite(backend.numpy(value)[:2]).all()
    assert np.isnan(backend.numpy(value)[2:]).all()
    for slope in slopes:
        got = backend.numpy(slope)
        assert np.isfinite(got[:2]).all()
        assert got[0, 1] == 0
        assert np.isnan(got[2:]).all()
    if measure in {"kl_divergence", "cross_entropy_between"}:
        swapped = backend.call(function, backend.array(OTHER[1:2]), backend.array(EDGES[1:2]))
        assert_equal(backend, swapped, single([INF]))


def test_derivatives_of_an_infinite_divergence(backend: Backend) -> None:
    """By q they are q - p as ever; by p of what is finite. A p that its dtype cannot hold is there all the same."""
    x, y = single([[0, 0, -INF], [0, -200, 1]]), single([[0, -INF, 0], [0, -INF, 0]])
    for function in (softxent.kl_divergence, softxent.cross_entropy_between):
        value, (by_p, by_q) = backend.call(value_and_grad(function, (0, 1)), backend.array(x), backend.array(y))
        assert_equal(backend, value, single([INF, INF]))
        assert np.isfinite(backend.numpy(by_p)).all()
        assert_equal(backend, by_q[0, :], single([0, -0.5, 0.5]))


@pytest.mark.backends("autodiff")
def test_derivatives_of_an_infinite_divergence_by_automatic_differentiation(backend: Backend) -> None:
    sides = [backend.array(single(x)) for x in ([[0, 0, -INF]] * 3, [[0, -INF, 0]] * 3)]
    by_p, by_q = gradients(backend, softxent.kl_divergence, *sides)
    assert np.isfinite(by_p).all()
    np.testing.assert_allclose(by_q, single([[0, -0.5, 0.5]] * 3), atol=1e-7)


@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_no_classes(backend: Backend, measure: str, *, probs: bool) -> None:
    """Such an example takes no part."""
    function, names = function_of(measure, probs=probs), names_of(measure, probs=probs)
    sides = [backend.array(np.zeros((2, 0), "float32")) for _ in names]
    value, slopes = backend.call(value_and_grad(function, names), *sides, reduction="none")
    assert_equal(backend, value, single([0, 0]))
    assert all(slope.shape == (2, 0) for slope in slopes)
    value, pullback = backend.call(vjp(function, names), *sides)
    assert all(slope.shape == (2, 0) for slope in backend.call(pullback, value))
    assert_equal(backend, backend.call(function, *sides, reduction="mean"), single(0))
    assert backend.call(hvp(function), *sides, vector=sides[0]).shape == (2, 0)
    assert backend.call(hessian_diagonal(function), *sides).shape == (2, 0)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_takes_no_part(backend: Backend, measure: str) -> None:
    """Masked classes may hold anything; rows without a class, or of weight 0, are 0 with derivative 0."""
    function, names = function_of(measure), names_of(measure)
    x = single([[0.5, NAN, 1], [NAN, INF, -INF], [NAN, 0, 1], [1, 0, INF]])
    where = np.asarray([[True, False, True], [False] * 3, [True] * 3, [True, True, False]])
    weight = single([1, 1, 0, 1])
    given = placed(backend, {"where": where, "sample_weight": weight})
    sides = [backend.array(x), backend.array(np.where(np.isnan(x), x, 2 * x))][: len(names)]
    value, slopes = backend.call(value_and_grad(function, names), *sides, **given, reduction="none")
    assert np.isfinite(backend.numpy(value)).all()
    np.testing.assert_array_equal(backend.numpy(value)[1:3], 0)
    for slope in slopes:
        np.testing.assert_array_equal(backend.numpy(slope)[~where | (weight == 0)[:, None]], 0)
        assert np.isfinite(backend.numpy(slope)).all()


def test_total_variation_at_ties(backend: Backend) -> None:
    x = backend.array(X)
    value, slopes = backend.call(value_and_grad(softxent.total_variation, (0, 1)), x, x, reduction="none")
    for array in (value, *slopes):
        np.testing.assert_array_equal(backend.numpy(array), 0)


def test_peers_divide_zero_by_zero(backend: Backend) -> None:
    """Σ p (log p - log q) with p = 0 is NaN as it stands, value and gradient; here it is what remains."""
    p, q = single([0.0, 1.0, 0.0]), single([0.5, 0.5, 0.0])

    def plain(p: Any, q: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.sum(p * (np.log(p) - np.log(q)))

    assert np.isnan(plain(p, q))
    assert_exact(
        backend, backend.call(softxent.kl_divergence_from_probs, backend.array(p), backend.array(q)), np.log(2.0)
    )


def test_entropy_of_logits_at_minus_infinity(backend: Backend) -> None:
    """-Σ p log p with log p = -inf is NaN as it stands; the policies of masked games need a number."""
    x = single([0, -INF, 0])
    with np.errstate(all="ignore"):
        assert np.isnan(-np.sum(np.exp(x) / 2 * (x - np.log(2.0))))
    value, slope = backend.call(value_and_grad(softxent.entropy), backend.array(x))
    assert_exact(backend, value, np.log(2.0))
    assert backend.numpy(slope)[1] == 0
    np.testing.assert_allclose(backend.numpy(slope), 0, atol=1e-7)


# -- shapes and laws --------------------------------------------------------------------------------------------------


def test_shapes_and_dtypes(backend: Backend) -> None:
    """Several class axes, the first one, one example, halves, integers; the dtype both are promoted to."""
    x, y = X[:3], Y[:3]
    expected = backend.numpy(backend.call(softxent.kl_divergence, backend.array(x), backend.array(y)))
    turned = backend.call(softxent.kl_divergence, backend.array(x.T.copy()), backend.array(y.T.copy()), axis=0)
    assert_exact(backend, turned, expected.astype("float64"), ulp=8)
    one = backend.call(softxent.kl_divergence, backend.array(x[0]), backend.array(y[0]))
    assert_exact(backend, one, expected[0].astype("float64"), ulp=2)
    jointly = backend.call(softxent.entropy, backend.array(x), axis=None)
    assert jointly.shape == ()
    if "float16" in backend.floats:
        half = backend.call(softxent.kl_divergence, backend.array(x[:1], "float16"), backend.array(y[:1], "bfloat16"))
        assert backend.numpy(half).dtype == np.float32
    if "float64" in backend.floats:
        both = backend.call(softxent.kl_divergence, backend.array(x), backend.array(y, "float64"))
        assert backend.numpy(both).dtype == np.float64
    empty = backend.call(softxent.entropy, backend.array(np.zeros((0, 3), "float32")), reduction="sum")
    assert_equal(backend, empty, single(0))


@pytest.mark.parametrize("reduction", ["mean", "sum", "sum_and_weight"])
def test_reductions(backend: Backend, reduction: str) -> None:
    x, y, s = backend.array(X), backend.array(Y), single([1.0, 0.5, 2.0, 0.0])
    rows = backend.numpy(backend.call(softxent.kl_divergence, x, y)).astype("float64")
    found = backend.call(softxent.kl_divergence, x, y, sample_weight=backend.array(s), reduction=reduction)
    total, weight = np.sum(rows * s), float(s.sum())
    expected = {"mean": (total / weight,), "sum": (total,), "sum_and_weight": (total, weight)}[reduction]
    for one, other in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        assert_exact(backend, one, other)
    twice = backend.call(softxent.kl_divergence, x, y, sample_weight=2.0)
    assert_exact(backend, twice, 2 * rows, ulp=1)
    slope = backend.call(grad(softxent.kl_divergence, 1), x, y, sample_weight=backend.array(s), reduction="mean")
    sums = backend.call(grad(softxent.kl_divergence, 1), x, y, sample_weight=backend.array(s), reduction="sum")
    assert_exact(backend, slope, backend.numpy(sums).astype("float64") / weight, ulp=2)


@given(st.integers(0, 2**32 - 1))
def test_laws(backends: list[Backend], seed: int) -> None:
    """H(p, q) = H(p) + KL(p, q); JS is symmetric for β = 1/2 and at most log 2; TV² is at most KL / 2 (Pinsker)."""
    rng = np.random.default_rng(seed)
    x, y = (single(rng.normal(size=(4, 3)) * rng.choice([0.1, 1, 5])) for _ in range(2))
    for backend in backends:
        if backend.exact or backend.name in {"strict-no-lazy", "strict-device2"}:
            continue
        a, b = backend.array(x), backend.array(y)

        def of(name: str, *sides: Any, backend: Backend = backend) -> Any:
            return backend.numpy(backend.call(function_of(name), *sides)).astype("float64")

        kl, tv = of("kl_divergence", a, b), of("total_variation", a, b)
        cross, own = of("cross_entropy_between", a, b), of("entropy", a)
        np.testing.assert_allclose(cross, own + kl, rtol=1e-5, atol=1e-6)
        js = of("js_divergence", a, b)
        np.testing.assert_allclose(js, of("js_divergence", b, a), rtol=1e-4, atol=1e-7)
        assert (js <= np.log(2.0) + 1e-6).all()
        assert (kl >= 0).all()
        assert (js >= 0).all()
        assert (tv**2 <= kl / 2 + 1e-6).all()


@pytest.mark.backends("numpy", "torch")
def test_many_rows(backend: Backend) -> None:
    """Through the blocks."""
    rng = np.random.default_rng(0)
    x, y = (backend.array(rng.normal(size=(60_000, 10)).astype("float32")) for _ in range(2))
    value, slope = backend.call(value_and_grad(softxent.kl_divergence), x, y, reduction="mean")
    few = backend.call(value_and_grad(softxent.kl_divergence), x[:50], y[:50], reduction="sum")
    np.testing.assert_allclose(backend.numpy(slope)[:50] * 60_000, backend.numpy(few[1]), rtol=1e-4, atol=1e-7)
    assert np.isfinite(backend.numpy(value))


@pytest.mark.backends("numpy-readonly", "torch")
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("way", ["rows", "pieces of rows", "classes first"])
def test_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, measure: str, way: str) -> None:
    """Value and derivatives do not depend on how rows are cut, but for how sums are."""
    rng = np.random.default_rng(0)
    sides = [backend.array(single(rng.normal(size=(5, 9)))) for _ in names_of(measure)]
    call = value_and_grad(function_of(measure), names_of(measure))
    cut(monkeypatch, backend, RUNNERS["off"])
    whole, slopes = backend.call(call, *sides)
    cut(monkeypatch, backend, RUNNERS[way])
    found, parts = backend.call(call, *sides)
    for one, other in zip((found, *parts), (whole, *slopes), strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-5, atol=1e-7)


A, B = np.asarray(X), np.asarray(Y)
ERRORS: dict[str, Callable[[], Any]] = {
    "q_logits must have the shape of p_logits, (4, 3), got (4, 2)": lambda: softxent.kl_divergence(A, B[:, :2]),
    "q_logits must have the shape of p_logits, (4, 3), got (3,)": lambda: softxent.js_divergence(A, B[0]),
    "scale_by_t2 must come with temperature": lambda: softxent.kl_divergence(A, B, scale_by_t2=True),
    "beta must be between 0 and 1, got 1.0": lambda: softxent.js_divergence(A, B, beta=1),
    "beta must be from 0 to 1, got 2": lambda: softxent.js_divergence(A, B, beta=2),
    "eps must be from 0 to 0.5, got 0;": lambda: softxent.entropy_from_probs(P, eps=0),
    "temperature must be finite and greater than 0, got 0": lambda: softxent.entropy(A, temperature=0),
    "denominator must be left out for reduction='none'": lambda: softxent.entropy(A, denominator="count"),
    "temperature must be a scalar or have the batch shape (4,)": lambda: softxent.kl_divergence(
        A, B, temperature=np.ones((1, 3)), scale_by_t2=True
    ),
    "q_logits must be an array, got 2.0; wrap it": lambda: softxent.kl_divergence(A, 2.0),
    "logits must be an array, got None": lambda: softxent.entropy(None),
    "sample_weight must not be negative where the mean divides by it, got -1 at position 1": lambda: softxent.entropy(
        A, sample_weight=np.asarray([1.0, -1, 1, 1]), reduction="mean"
    ),
    "check must be True, False or None, got 1": lambda: softxent.entropy(A, check=1),  # type: ignore[arg-type]
    "scale_by_t2 must be True or False, got 1": lambda: softxent.kl_divergence(A, B, scale_by_t2=1),  # type: ignore[arg-type]
    "temperature must be finite and positive, got -1": lambda: softxent.entropy(
        A, temperature=np.asarray(-1.0), check=True
    ),
    "beta must be between 0 and 1, got 1;": lambda: softxent.js_divergence(A, B, beta=np.asarray(1.0), check=True),
    "p_probs must be finite and not negative, got -0.5 at position (1, 0)": lambda: softxent.kl_divergence_from_probs(
        np.asarray([[0.5, 0.5], [-0.5, 1.5]]), np.asarray([[0.5, 0.5], [0.5, 0.5]]), check=True
    ),
    "q_probs must be distributions that sum to 1, got 0.75 at position 1": lambda: softxent.kl_divergence_from_probs(
        np.asarray([[0.5, 0.5], [0.5, 0.5]]), np.asarray([[0.5, 0.5], [0.5, 0.25]]), check=True
    ),
    "p_logits must be an array": lambda: softxent.kl_divergence([[1.0]], B),
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        ERRORS[text]()
    assert str(error.value).startswith(text)


def test_what_is_checked() -> None:
    """Of probabilities that take part; negative weights where nothing divides by them pass."""
    p = np.asarray([[0.5, 0.5], [0.5, 7.0], [NAN, 1.0]])
    found = softxent.entropy_from_probs(p, sample_weight=np.asarray([1.0, 0.0, 0.0]), check=True)
    assert_exact(NUMPY, found, [np.log(2.0), 0, 0], "float64")
    found = softxent.entropy_from_probs(p, where=np.asarray([[True, False]] * 2 + [[False, True]]), check=True)
    assert_exact(NUMPY, found, [np.log(2.0) / 2, np.log(2.0) / 2, 0], "float64")
    assert softxent.entropy_from_probs(np.asarray([0, 1]), check=True) == 0
    with pytest.raises(ValueError, match="probs must be distributions that sum to 1"):
        softxent.entropy_from_probs(np.asarray([1, 1]), check=True)
    assert np.isnan(softxent.entropy(A, sample_weight=np.asarray([1.0, -1, 1, 1]), reduction="mean", check=False))
    assert softxent.entropy(A, sample_weight=-1.0, reduction="sum") < 0


def test_calls_alike_are_remembered() -> None:
    """The same traits and options are checked once, and give the same for other entries."""
    first, again = softxent.kl_divergence(A, B), softxent.kl_divergence(B, A)
    assert (first != again).all()
    np.testing.assert_array_equal(softxent.kl_divergence(A, B), first)
    scaled = softxent.kl_divergence(A, B, temperature=2.0, scale_by_t2=True)
    np.testing.assert_array_equal(scaled, 4 * softxent.kl_divergence(A, B, temperature=2.0))


def test_scalars_of_numpy() -> None:
    """They are arrays of no dimensions: of one class."""
    assert softxent.kl_divergence(np.float64(1.0), np.float64(2.0)) == 0
    assert softxent.entropy(np.float32(1.0)) == 0
