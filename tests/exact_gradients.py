"""Exact derivatives beyond those of `derivatives`, and the calls that the tests of gradients share.

What the oracle does not differentiate by, smoothing, its prior, the soft cap and the z-loss, is written here from the
definition, and Hessians with the absolute values of all their terms.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal
from derivatives import (
    BY_NAME,
    COTANGENT,
    INF,
    NAN,
    ROWS,
    Case,
    exact,
    gradient,
    hessian,
)
from matrix import FRAMEWORKS
from mpmath import mp, mpf

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

# All but jax, which compiles for every option and shape anew.
EAGER = pytest.mark.backends("numpy", "array_api_strict", "torch", "dask", *FRAMEWORKS)


# -- helpers ----------------------------------------------------------------------------------------------------------


def arguments_of(backend: Backend, case: Case, dtype: str = "float32") -> dict[str, Array]:
    return {name: backend.array(array) for name, array in case.arrays(dtype).items()}


def placed(backend: Backend, given: dict[str, Any]) -> dict[str, Any]:
    """NumPy arrays as the backend's, whatever else as it is."""
    return {name: backend.array(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}


def single(value: Any) -> NumPy:
    return np.asarray(value, dtype="float32")


def widest(backend: Backend) -> str:
    return "float64" if "float64" in backend.floats else "float32"


def floor_of(backend: Backend) -> float:
    """Smallest normal numbers by which a result may be off: XLA and TensorFlow on CPU flush what is below them."""
    return 1.0 if backend.flushes else 0.0


def assert_same(backend: Backend, found: Any, expected: Any) -> None:
    """The same arrays to the bit, in the same tuples and dictionaries."""
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            assert_same(backend, one, other)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert_same(backend, tuple(found.values()), tuple(expected.values()))
    else:
        assert_equal(backend, found, backend.numpy(expected))


def assert_like(backend: Backend, derivative: Array, argument: Array) -> None:
    """Of the argument's library, shape and dtype."""
    assert backend.owns(derivative)
    assert derivative.shape == argument.shape
    assert derivative.dtype == argument.dtype


# -- exact derivatives ------------------------------------------------------------------------------------------------


@cache
def exact_by(case_name: str, name: str, dtype: str) -> oracle.Sum:
    """The derivative of Σ cotangent · row of a known case by any of its arguments."""
    case = KNOWN[case_name]
    if name not in BY_OTHERS:
        return gradient(case, name, dtype)
    reference = exact(case, dtype)
    reference.shapes[name] = case.arrays(dtype)[name].shape
    return added_up(reference, name, BY_OTHERS[name], COTANGENT)


def added_up(
    reference: oracle.CrossEntropy, name: str, rule: Callable[[oracle.Example], Any], cotangent: Any = 1.0
) -> oracle.Sum:
    """Σ cotangent · rule over the rows that take part, shaped like the argument of that name."""

    def part(number: int) -> Callable[[oracle.Example], Any]:
        def inner(e: oracle.Example) -> Any:
            found = rule(e)
            if isinstance(found, list):
                return [one[number] if e.takes_part else mpf(0) for one in found]
            return found[number] if e.takes_part else mpf(0)

        return inner

    with mp.workdps(oracle.DIGITS):
        value, absolute = (reference.spread(name, part(k), c) for k, c in ((0, cotangent), (1, np.abs(cotangent))))
    return oracle.Sum(value, absolute)


def costs(e: oracle.Example) -> list[mpf]:
    """What a unit of target costs in each class, s w_c (-log p_c); infinite costs are no derivatives."""
    return [e.s * w * -lp if mp.isfinite(lp) else mpf(0) for w, lp in zip(e.w, e.d.log_p, strict=True)]


def by_smoothing(e: oracle.Example, cost: list[mpf]) -> oracle.Sum:
    """Σ_c (u_c - q_c) cost_c."""
    gained, lost = ((v * c for v, c in zip(of, cost, strict=True)) for of in (e.u, e.q))
    return oracle.total(*gained, *(-v for v in lost))


def by_prior(e: oracle.Example, cost: list[mpf]) -> list[oracle.Sum]:
    """ε (cost_c - Σ u cost) over the sum of the prior, for the classes that are left."""
    assert e.prior is not None
    mass = sum((u for u, kept in zip(e.prior, e.keep, strict=True) if kept), mpf(0))
    mean = [-u * c for u, c in zip(e.u, cost, strict=True)]
    found = []
    for c, kept in zip(cost, e.keep, strict=True):
        found.append(oracle.total(c, *mean).times(e.smoothing / mass) if kept and mass else oracle.total())
    return found


def by_softcap(e: oracle.Example) -> oracle.Sum:
    """Σ_j dL/dz_j (tanh r_j - r_j sech² r_j) / T_j with r = x / cap; an infinite logit is not capped."""
    value, absolute = mpf(0), mpf(0)
    for g, x, t in zip(e.by_z(), e.x, e.temperature, strict=True):
        if g.value != 0 and mp.isfinite(x):
            r = x / e.cap
            bend = oracle.total(mp.tanh(r), -r * mp.sech(r) ** 2)
            value, absolute = value + g.value * bend.value / t, absolute + g.absolute * bend.absolute / t
    return oracle.Sum(value, absolute)


BY_OTHERS: dict[str, Callable[[oracle.Example], Any]] = {
    "label_smoothing": lambda e: by_smoothing(e, costs(e)),
    "smoothing_prior": lambda e: by_prior(e, costs(e)),
    "softcap": by_softcap,
    "z_loss": lambda e: oracle.total(e.s * e.W * e.d.lse**2),
}


@cache
def exact_hessian(case_name: str) -> oracle.Sum:
    """Of every row by its own logits, with all terms: those that a z-loss and a softcap bring are terms too."""
    case = BY_NAME[case_name]
    value = hessian(case).value
    absolute = np.full(value.shape, mpf(0), dtype=object)
    with mp.workdps(oracle.DIGITS):
        for n, e in enumerate(exact(case).examples):
            live = [j for j in range(len(e.x)) if e.takes_part and e.keep[j]]
            penalty = abs(2 * e.z_weight * e.W)
            level = abs(sum(e.a, mpf(0))) + (penalty * abs(e.d.lse) if penalty else 0)
            for i in live:
                for j in live:
                    both = level * (e.d.p[i] * e.d.p[j] + (e.d.p[i] if i == j else 0)) + penalty * e.d.p[i] * e.d.p[j]
                    absolute[n, i, j] = abs(e.s) * both * e.slope(i) * e.slope(j)
                if e.cap is not None and mp.isfinite(e.x[i]):
                    bend = 2 * abs(mp.tanh(e.x[i] / e.cap)) / e.cap
                    absolute[n, i, i] += abs(e.by_z()[i].absolute) * bend * e.slope(i)
    return oracle.Sum(value, absolute)


def applied(matrices: oracle.Sum, vector: NumPy) -> oracle.Sum:
    """Matrices of rows times a vector, whose numbers at what takes no part are not looked at."""
    v = ulps.exactly(np.where(np.isfinite(vector), vector, 0.0))[:, None, :]
    with mp.workdps(oracle.DIGITS):
        return oracle.Sum((matrices.value * v).sum(axis=-1), (matrices.absolute * abs(v)).sum(axis=-1))


def covariances(p: oracle.Sum) -> oracle.Sum:
    """The matrix diag(p) - p pᵀ of every row."""
    rows, classes = p.value.shape
    value, absolute = (np.full((rows, classes, classes), mpf(0), dtype=object) for _ in range(2))
    with mp.workdps(oracle.DIGITS):
        for n, i, j in np.ndindex(rows, classes, classes):
            value[n, i, j] = (p.value[n, i] if i == j else 0) - p.value[n, i] * p.value[n, j]
            absolute[n, i, j] = p.absolute[n, i] * ((1 if i == j else 0) + p.absolute[n, j])
    return oracle.Sum(value, absolute)


def diagonal(matrices: oracle.Sum) -> oracle.Sum:
    return oracle.Sum(*(np.asarray([np.diagonal(row) for row in part]) for part in matrices))


# -- calls -------------------------------------------------------------------------------------------------------------

# Options in every shape that they may have.
SHAPED = (
    Case(
        "numbers",
        [[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]],
        [2, 0, 0],
        {"temperature": 0.5, "sample_weight": 2.0, "label_smoothing": [0.125], "softcap": 8.0, "z_loss": 0.25},
    ),
    Case(
        "rows",
        [[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]],
        [2, 0, 0],
        {
            "temperature": [[0.5], [2.0], [1.0]],
            "sample_weight": [1.0, 0.5, 2.0],
            "label_smoothing": [0.125, 0.5, 0.0],
            "smoothing_prior": [0.5, 0.25, 0.75],
        },
    ),
    Case(
        "classes",
        [[0.5, -1.25, 2], [1, 2, -0.5], [4, 0, 0]],
        [2, 0, 0],
        {"temperature": [[0.5, 1.0, 2.0]], "sample_weight": [0.5], "label_smoothing": 0.25, "weight": [2.0, 1.0, 0.5]},
    ),
    Case(
        "logits",
        [[0.5, -1.25, 2], [1, 2, -0.5], [4, 0, 0]],
        [2, 0, 0],
        {"temperature": [[0.5, 1.0, 2.0], [1.0, 1.0, 0.5], [4.0, 2.0, 1.0]]},
    ),
    Case("one", [[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]], [2, 0, 0], {"temperature": [0.5], "softcap": 8.0}),
)


KNOWN = BY_NAME | {case.name: case for case in SHAPED}


REDUCED = Case(
    "reduced",
    [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [NAN, 3, INF]],
    [2, 0, 0, -1],
    {"ignore_index": -1, "weight": [2.0, 1.0, 0.5]},
)


VECTOR = np.resize([1.0, -0.5, 2.0, 0.25, -1.5], (ROWS, 3))


# Ties at the top and below, wide gaps, an offset, -inf, a masked NaN, a fully masked row.
LOGITS = single(
    [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [1000002, 1000000, 1000001], [-INF, 3, 3], [NAN, 0, 1], [NAN] * 3]
)


KEPT = np.asarray([[True] * 3] * 5 + [[False, True, True], [False] * 3])


# A cotangent is not looked at where a class is masked.
PULL = single(
    [
        [1.0, -0.5, 0.25],
        [2.0, 1.0, -1.0],
        [0.5, 1.0, 2.0],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [NAN, 1.0, 1.0],
        [NAN] * 3,
    ]
)


WEIGHTS: dict[str, Any] = {
    "plain": None,
    "number": single(2.0),
    "classes": single([1.0, 0.5, 2.0]),
    "signed": single(
        [[1, -0.5, 2], [0.5, -0.25, 0.25], [1, 1, -3], [0.25, 1, 0], [0, -1, 4], [1, 1, 1], [1, 1, 1]],
    ),
}


def by_weights(name: str) -> tuple[str, ...]:
    return ("x",) if WEIGHTS[name] is None else ("x", "b")
