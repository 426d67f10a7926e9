"""nll_loss and cross_entropy_from_probs: what is given is taken as it is, and 0 · log 0 is 0."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, gradients
from derivatives import INF, NAN, assert_close
from differences import exact_arrays, gradient
from exact_gradients import assert_like, placed, single
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from softxent import (
    cross_entropy,
    cross_entropy_from_probs,
    grad,
    hessian_diagonal,
    hvp,
    log_softmax,
    nll_loss,
    softmax,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any

P = single([[0.25, 0.5, 0.25], [0.125, 0.75, 0.0625], [2.0**-30, 0.75, 0.25], [0.125, 0.25, 0.5]])
HARD = np.asarray([1, 1, 0, 2], dtype="int32")
SOFT = single([[0.25, 0.5, 0.25], [0.125, 0.5, 0.25], [0.5, 0.25, 0.5], [0.5, 0.25, 0.75]])
COTANGENT = single([1.0, -0.5, 2.0, 0.25])
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weight": single([2.0, 0.5, 1.0]), "sample_weight": single([1.0, 2.0, 0.25, 0.5])},
    "where-examples": {"where": np.asarray([True, False, True, True])},
    "where-classes": {"where": np.asarray([[True, False, True]])},
    "smoothing": {"label_smoothing": single(0.25), "smoothing_prior": single([0.5, 0.125, 0.5])},
    "eps": {"eps": single(0.2)},
}
CASES = [
    (function, target, options)
    for function in (nll_loss, cross_entropy_from_probs)
    for target in ("hard", "soft")
    for options in OPTIONS
    if options != "eps" or function is cross_entropy_from_probs
]


def name_of(function: Any) -> str:
    return "log_probs" if function is nll_loss else "probs"


def given_of(function: Any, target: str, options: str) -> dict[str, Any]:
    return {name_of(function): P, "labels": HARD if target == "hard" else SOFT, **OPTIONS[options]}


def rows_of(function: Any, arrays: dict[str, Any]) -> list[mpf]:
    """Σ s w q' (-log p) of every row, straight from the definition."""
    x, labels = arrays[name_of(function)], arrays["labels"]
    q = np.eye(3)[labels] if labels.dtype.kind == "i" else labels
    keep = np.asarray(arrays.get("where", True))
    keep = np.broadcast_to(keep[:, None] if keep.shape == (4,) else keep, x.shape)
    weight, s = arrays.get("weight", [mpf(1)] * 3), arrays.get("sample_weight", [mpf(1)] * 4)
    found = []
    for n, row in enumerate(x):
        target = [mpf(v) for v in q[n]]
        if "label_smoothing" in arrays:
            epsilon, prior = arrays["label_smoothing"][()], arrays["smoothing_prior"]
            target = [(1 - epsilon) * t + epsilon * v / sum(prior) for t, v in zip(target, prior, strict=True)]
        cost = [-v if function is nll_loss else -mp.log(clipped(v, arrays.get("eps"))) for v in row]
        found.append(s[n] * sum((t * weight[c] * cost[c] for c, t in enumerate(target) if keep[n, c]), mpf(0)))
    return found


def clipped(p: mpf, eps: Any) -> mpf:
    return p if eps is None else min(max(p, eps[()]), 1 - eps[()])


@cache
def exact(function: Any, target: str, options: str) -> tuple[Any, dict[str, oracle.Sum]]:
    """Rows, and derivatives of Σ cotangent · row by every floating argument but eps."""
    arrays = given_of(function, target, options)
    with mp.workdps(oracle.DIGITS):
        rows = np.asarray(rows_of(function, exact_arrays(arrays)), dtype=object)

    def total(moved: dict[str, Any]) -> mpf:
        return sum((mpf(float(g)) * r for g, r in zip(COTANGENT, rows_of(function, moved), strict=True)), mpf(0))

    found = {}
    for name, x in arrays.items():
        if x.dtype.kind == "f" and name != "eps":
            by = gradient(total, arrays, name)
            scale = np.max(abs(by)) if name in {"labels", "weight", "label_smoothing", "smoothing_prior"} else abs(by)
            found[name] = oracle.Sum(by, scale + 0 * by)
    return rows, found


@pytest.mark.parametrize(("function", "target", "options"), CASES)
def test_values_and_derivatives(backend: Backend, function: Any, target: str, options: str) -> None:
    """By what is given and by every option."""
    given = placed(backend, given_of(function, target, options))
    rows, derivatives = exact(function, target, options)
    value, pullback = backend.call(vjp(function, tuple(derivatives)), **given, reduction="none")
    assert_close(backend.numpy(value), oracle.Sum(rows, abs(rows)), dtype="float32")
    found = backend.call(pullback, backend.array(COTANGENT))
    for (name, expected), derivative in zip(derivatives.items(), found, strict=True):
        assert_like(backend, derivative, given[name])
        assert_close(backend.numpy(derivative), expected, dtype="float32", gap=8)


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("target", ["hard", "soft"])
@pytest.mark.parametrize("function", [nll_loss, cross_entropy_from_probs])
def test_automatic_differentiation(backend: Backend, function: Any, target: str) -> None:
    given = placed(backend, given_of(function, target, "weights"))
    x = given.pop(name_of(function))
    labels = given.pop("labels")
    (found,) = gradients(backend, lambda x: function(x, labels, **given, reduction="none"), x, cotangent=COTANGENT)
    assert_close(found, exact(function, target, "weights")[1][name_of(function)], dtype="float32", gap=8)


# Zeros: where the target is 0 too they cost nothing and have no derivative; on the target they cost +inf.
EDGES = single([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [NAN, 0.5, 0.5], [-0.25, 0.75, 0.5]])


def test_zeros(backend: Backend) -> None:
    """§5: d/dp is -q / p, 0 where q = 0, also at p = 0; p < 0 is NaN, what does not take part is not looked at."""
    p, labels = backend.array(EDGES), backend.array([1, 0, 1, 0], "int32")
    value, slope = backend.call(value_and_grad(cross_entropy_from_probs), p, labels, reduction="none")
    assert_exact(backend, value, single([0, INF, np.log(2.0), NAN]))
    expected = single([[0, -1, 0], [-INF, 0, 0], [0, -2, 0], [4, 0, 0]])
    assert_equal(backend, slope, expected)
    soft = backend.array(single([[0, 1, 0], [0, 0.5, 0.5], [0, 0, 0], [0, 1, 0]]))
    value, slope = backend.call(value_and_grad(cross_entropy_from_probs), p, soft, reduction="none")
    assert_exact(backend, value[:3], [0, np.log(2.0), 0])
    assert_equal(backend, slope[:3, :], single([[0, -1, 0], [0, -1, -1], [0, 0, 0]]))


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_zeros_by_automatic_differentiation(backend: Backend, target: str) -> None:
    """Where -q / p as libraries take it would be 0 / 0."""
    q = single([[0, 1, 0], [0, 1, 0], [0, 0, 1]])
    labels = backend.array(q) if target == "soft" else backend.array([1, 1, 2], "int32")
    p = backend.array(single([[0, 1, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]))
    (found,) = gradients(backend, lambda p: cross_entropy_from_probs(p, labels, reduction="none"), p)
    np.testing.assert_array_equal(found, single([[0, -1, 0], [0, -2, 0], [0, 0, -2]]))


def test_log_probabilities_of_zero(backend: Backend) -> None:
    x = backend.array(single([[-INF, 0, -INF], [-INF, -1, -0.5], [NAN, -1, -0.5], [0, -1, -2]]))
    soft = backend.array(single([[0, 1, 0], [0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]]))
    value, slope = backend.call(value_and_grad(nll_loss), x, soft, reduction="none")
    assert_equal(backend, value, single([0, INF, 0, 2]))
    assert_equal(backend, slope, -backend.numpy(soft) + single(0))


def test_clipping(backend: Backend) -> None:
    """Explicit, with derivative 0 where it clips; without it a confident wrong prediction keeps its gradient."""
    p, labels = backend.array(single([[1e-9, 0.5, 0.5], [0.25, 0.5, 0.25], [0, 0.5, 0.5]])), [0, 0, 0]
    labels = backend.array(labels, "int32")
    value, slope = backend.call(value_and_grad(cross_entropy_from_probs), p, labels, eps=1e-7, reduction="none")
    edge = -np.log(np.float64(np.float32(1e-7)))
    assert_exact(backend, value, [edge, np.log(4.0), edge])
    assert_equal(backend, slope, single([[0, 0, 0], [-4, 0, 0], [0, 0, 0]]))
    _, slope = backend.call(value_and_grad(cross_entropy_from_probs), p, labels, reduction="none")
    assert_exact(backend, slope[0, 0], -1 / np.float64(np.float32(1e-9)))


def test_second_derivatives(backend: Backend) -> None:
    """Q / p² on the diagonal, and nothing else; a log-probability enters linearly."""
    p, soft = backend.array(P[:3]), backend.array(SOFT[:3])
    vector = single([[1, -0.5, 2], [0.25, 1, 1], [0, 1, -1]])
    expected = SOFT[:3].astype("float64") / P[:3].astype("float64") ** 2
    diagonal = backend.call(hessian_diagonal(cross_entropy_from_probs), p, soft, reduction="sum")
    product = backend.call(hvp(cross_entropy_from_probs), p, soft, reduction="sum", vector=backend.array(vector))
    assert_exact(backend, diagonal[:2, :], expected[:2])
    assert_exact(backend, product[:2, :], (expected * vector)[:2])
    linear = backend.call(hvp(nll_loss), p, soft, vector=backend.array(vector))
    assert_equal(backend, linear, np.zeros_like(vector))


X = single([[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]])


@pytest.mark.parametrize("denominator", ["weight", "count", "all", 2.5])
def test_reductions(backend: Backend, denominator: Any) -> None:
    """As cross_entropy's: of log-probabilities they are the same numbers, but for rounding."""
    x, labels = backend.array(X), backend.array([2, 7, 1], "int32")
    given = {"ignore_index": 7, "weight": backend.array(single([1.0, 2.0, 0.5])), "denominator": denominator}
    expected = backend.call(cross_entropy, x, labels, **given)
    logs = backend.call(log_softmax, x)
    assert_exact(backend, backend.call(nll_loss, logs, labels, **given), backend.numpy(expected).astype("float64"))
    probs = backend.call(softmax, x)
    found = backend.call(cross_entropy_from_probs, probs, labels, **given)
    assert_exact(backend, found, backend.numpy(expected).astype("float64"), ulp=8)
    given["sample_weight"] = backend.array(single([1.0, 2.0, 0.0]))
    by_weight = backend.call(grad(nll_loss, "sample_weight"), logs, labels, **given)
    expected = backend.call(grad(cross_entropy, "sample_weight"), x, labels, **given)
    np.testing.assert_allclose(backend.numpy(by_weight), backend.numpy(expected), rtol=1e-5, atol=1e-6)


def test_shapes(backend: Backend) -> None:
    """The class axis first, several class axes, one example, no class, halves."""
    p = backend.array(P[:3].T.copy())
    labels = backend.array(HARD[:3])
    rows = backend.call(nll_loss, p, labels, axis=0, reduction="none")
    assert_equal(backend, rows, -P[np.arange(3), HARD[:3]])
    assert_equal(backend, backend.call(nll_loss, backend.array(P[0]), 1), single(-0.5))
    assert_equal(backend, backend.call(nll_loss, p, backend.array(4, "int32"), axis=(1, 0)), -P[1, 1])
    empty = backend.call(value_and_grad(nll_loss), backend.array(np.zeros((3, 0), "float32")), labels, check=False)
    assert_equal(backend, empty[0], single(0))
    nothing = backend.array(np.zeros((3, 0), "float32"))
    for second in (hvp(nll_loss), hessian_diagonal(nll_loss)):
        given = {"vector": nothing} if second.__name__.startswith("hvp") else {}
        assert backend.call(second, nothing, labels, check=False, **given).shape == (3, 0)


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves(backend: Backend, dtype: str) -> None:
    p, labels = backend.array(P[:3], dtype), backend.array(HARD[:3])
    value, slope = backend.call(value_and_grad(cross_entropy_from_probs), p, labels, reduction="sum")
    assert backend.numpy(value).dtype == np.float32
    assert backend.numpy(slope).dtype == backend.numpy(p).dtype


@given(st.integers(0, 2**32 - 1))
def test_of_softmax_it_is_cross_entropy(backends: list[Backend], seed: int) -> None:
    """-log of what softmax gives, as long as that has its digits."""
    x = np.random.default_rng(seed).normal(size=(4, 3)).astype("float32")
    labels = np.random.default_rng(seed).integers(0, 3, 4).astype("int32")
    for backend in backends:
        if backend.exact or "float32" not in backend.floats:
            continue
        logits, y = backend.array(x), backend.array(labels)
        expected = backend.numpy(backend.call(cross_entropy, logits, y))
        probs = backend.call(softmax, logits)
        np.testing.assert_allclose(backend.numpy(backend.call(cross_entropy_from_probs, probs, y)), expected, rtol=1e-5)


ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "eps must be from 0 to 0.5, got 0.7": lambda p, y: cross_entropy_from_probs(p, y, eps=0.7),
    "labels must be from 0 to 2, got 9 at position 1": lambda p, _: nll_loss(p, np.asarray([0, 9, 1])),
    "floating labels must have the shape of log_probs, (3, 3), got (3,)": lambda p, _: nll_loss(p, np.zeros(3)),
    "integer labels must have the batch shape (3,), got (3, 3)": lambda p, _: nll_loss(p, np.zeros((3, 3), int)),
    "labels must be an array, or an int for unbatched probs": lambda p, _: cross_entropy_from_probs(p, None),
    "probs must be an array": lambda _, y: cross_entropy_from_probs([[0.5, 0.5]], y),
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        ERRORS[text](np.asarray(P[:3]), HARD[:3])
    assert str(error.value).startswith(text)
