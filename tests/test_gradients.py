"""value_and_grad, grad, vjp, hvp, hessian_diagonal on every backend: against exact derivatives, and as users call them.

First derivatives are held against the oracle's, second ones against its differences at 100 digits: entry by entry in
units of the last place where nothing cancels, against the terms of the exact sum elsewhere. The rest is what may be
passed in and where: reductions, argnums, axes, partials, views, lazy arrays, blocks of rows, transforms of torch and
jax. What wrong calls say is in test_gradient_errors.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import ROUNDED_ONCE, assert_equal
from derivatives import (
    BY_NAME,
    CASES,
    COTANGENT,
    INF,
    NAMES,
    NAN,
    ROWS,
    Case,
    assert_close,
    assert_ulps,
    exact,
    gradient,
    hessian,
    temperature_gap,
)
from matrix import numpy_dtype
from mpmath import mp, mpf

from softxent import (
    cross_entropy,
    grad,
    hessian_diagonal,
    hvp,
    log_softmax,
    logsumexp,
    smooth_labels,
    softmax,
    softmin,
    value_and_grad,
    vjp,
)
from softxent.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # So does Dynamo, which makes an instance of Function for every rule that it traces.
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]

Array = Any
NumPy = np.ndarray[Any, Any]

# All but jax, which compiles for every option and shape anew.
EAGER = pytest.mark.backends("numpy", "array_api_strict", "torch", "dask")


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
    """Smallest normal numbers by which a result may be off: XLA on CPU flushes what is below them."""
    return 1.0 if backend.library == "jax" else 0.0


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


# -- cross_entropy, one value a row -----------------------------------------------------------------------------------

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


def assert_pulls_back(backend: Backend, case: Case, dtype: str, by: tuple[str, ...]) -> None:
    arguments = arguments_of(backend, case, dtype)
    pair = backend.call(vjp(cross_entropy, by), **arguments, reduction="none", check=False)
    found = backend.call(pair[1], backend.array(COTANGENT, dtype))
    gap, floor = temperature_gap(case), floor_of(backend)
    for name, derivative in zip(by, found, strict=True):
        assert_like(backend, derivative, arguments[name])
        sums = exact_by(case.name, name, dtype)
        assert_close(backend.numpy(derivative), sums, dtype=dtype, gap=gap, floor=floor)
        if case.sharp and name == "logits":
            assert_ulps(backend.numpy(derivative), sums.value, dtype=dtype, bound=4.0 + gap, floor=floor)


@EAGER
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_pullback_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    assert_pulls_back(backend, case, dtype, tuple(dict.fromkeys((*case.by, *case.varied))))


@pytest.mark.backends("jax")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_pullback_is_exact_on_jax(backend: Backend, case: Case) -> None:
    """In float32; float64 is a matter of the dtype, of which `test_jax` has more."""
    assert_pulls_back(backend, case, "float32", tuple(dict.fromkeys((*case.by, *case.varied))))


@pytest.mark.backends("jax")
@pytest.mark.dtypes("float64")
def test_pullback_is_exact_on_jax_in_float64(backend: Backend, dtype: str) -> None:
    assert_pulls_back(backend, BY_NAME["temperature-examples"], dtype, ("logits", "temperature"))


@pytest.mark.parametrize("case", SHAPED, ids=lambda case: case.name)
def test_options_of_every_shape(backend: Backend, case: Case) -> None:
    assert_pulls_back(backend, case, "float32", ("logits", *case.options))


# -- reductions -------------------------------------------------------------------------------------------------------

REDUCED = Case(
    "reduced",
    [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [NAN, 3, INF]],
    [2, 0, 0, -1],
    {"ignore_index": -1, "weight": [2.0, 1.0, 0.5]},
)
REDUCTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "empty_mean": {"empty_mean": "nan"},
    "count": {"denominator": "count"},
    "all": {"denominator": "all"},
    "number": {"denominator": 2.5},
    "0-d array": {"denominator": single(2.5)},
    "0-d integer": {"denominator": np.asarray(3, dtype="int32")},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "sum_and_weight": {"reduction": "sum_and_weight"},
    "sum_and_count": {"reduction": "sum_and_weight", "denominator": "count"},
}


@pytest.mark.parametrize("options", REDUCTIONS.values(), ids=REDUCTIONS)
def test_reductions(backend: Backend, options: dict[str, Any]) -> None:
    """The value is the function's own to the bit; the mean's derivative by logits is that of a sum over a constant."""
    arguments = arguments_of(backend, REDUCED) | placed(backend, options)
    value, found = backend.call(value_and_grad(cross_entropy), **arguments)
    assert_same(backend, value, backend.call(cross_entropy, **arguments))
    assert_same(backend, found, backend.call(grad(cross_entropy), **arguments))
    assert_like(backend, found, arguments["logits"])
    reference = exact(REDUCED, "float32")
    below = 1 if "reduction" in options else reference.denominator(options.get("denominator", "weight")).value
    expected = reference.gradient("logits").value / below
    assert_ulps(backend.numpy(found), expected, dtype="float32", bound=4.0, floor=floor_of(backend))


@pytest.mark.parametrize("reduction", ["mean", "none", "sum_and_weight"])
def test_aux_comes_with_the_value(backend: Backend, reduction: str) -> None:
    arguments = arguments_of(backend, REDUCED) | {"reduction": reduction}
    value, found = backend.call(value_and_grad(cross_entropy), **arguments, aux=("lse", "correct"))
    assert isinstance(value[1], dict)
    assert_same(backend, value, backend.call(cross_entropy, **arguments, aux=("lse", "correct")))
    assert_same(backend, found, backend.call(grad(cross_entropy), **arguments))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_aux_has_no_cotangent(backend: Backend, reduction: str) -> None:
    arguments = arguments_of(backend, REDUCED) | {"reduction": reduction}
    (loss, _), pullback = backend.call(vjp(cross_entropy), **arguments, aux="lse")
    ones = backend.call(backend.xp.ones_like, loss)
    assert_same(backend, backend.call(pullback, ones), backend.call(grad(cross_entropy), **arguments))


@pytest.mark.parametrize("aux", [None, "lse"])
def test_a_pair_of_cotangents_for_sum_and_weight(backend: Backend, aux: str | None) -> None:
    """Of g · sum + h · weight; logits have no part in the weight, class weights have."""
    case = Case("pair", REDUCED.logits, REDUCED.labels, REDUCED.options)
    arguments = arguments_of(backend, case) | {"reduction": "sum_and_weight", "aux": aux}
    _, pullback = backend.call(vjp(cross_entropy, ("logits", "weight")), **arguments)
    one, half, none = (backend.array(v, "float32") for v in (1.0, 0.5, 0.0))
    by_sum = backend.call(pullback, (one, none))
    by_mass = backend.call(pullback, (none, half))
    both = backend.call(pullback, (one, half))
    assert_same(backend, by_sum[0], backend.call(grad(cross_entropy), **arguments))
    assert not backend.numpy(by_mass[0]).any()
    np.testing.assert_array_equal(backend.numpy(by_mass[1]), [2.0, 0.0, 1.0])  # 4 and 2 rows of these labels, halved
    np.testing.assert_allclose(backend.numpy(both[1]) - backend.numpy(by_sum[1]), [2.0, 0.0, 1.0], rtol=1e-6)


NOTHING: dict[str, dict[str, Any]] = {
    "ignore_index": {"ignore_index": -1},
    "where": {"where": False},
    "sample_weight": {"sample_weight": np.zeros(2, dtype="float32")},
}


@pytest.mark.parametrize("options", NOTHING.values(), ids=NOTHING)
def test_nothing_takes_part(backend: Backend, options: dict[str, Any]) -> None:
    """The mean is 0 or NaN, as `empty_mean` says, and the derivative exactly 0, whatever the logits are."""
    x, t = backend.array([[NAN, 1, INF], [-INF, -INF, -INF]], "float32"), backend.array([-1, -1], "int32")
    for reduction, expected in (
        ({}, 0.0),
        ({"empty_mean": "nan"}, NAN),
        ({"reduction": "sum"}, 0.0),
        ({"reduction": "none"}, [0.0, 0.0]),
    ):
        given = placed(backend, options)
        value, found = backend.call(value_and_grad(cross_entropy), x, t, **given, **reduction)
        assert_equal(backend, value, single(expected))
        assert_equal(backend, found, np.zeros((2, 3), dtype="float32"))


# The mean divides by what these weigh.
MEANS = (
    Case(
        "mean-of-labels",
        [[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]],
        [2, 0, 0],
        {"sample_weight": [2.0, 0.0, 0.5], "weight": [2.0, 0.5, 1.0]},
        ("logits", "sample_weight", "weight"),
    ),
    Case(
        "mean-of-distributions",
        [[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]],
        [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.5, 0.5, 1.0]],
        {"sample_weight": [2.0, 1.0, 0.5], "weight": [2.0, 0.5, 1.0], "z_loss": 0.5},
        ("logits", "labels", "sample_weight", "weight"),
    ),
)


def mass_by_weight(e: oracle.Example) -> list[oracle.Sum]:
    return [oracle.total(e.s * q / e.mass) for q in e.q]


def mass_by_labels(e: oracle.Example) -> list[oracle.Sum]:
    return [oracle.total(e.s * w / e.mass, -e.s * e.W / e.mass) for w in e.w]


@cache
def exact_mean_by(case_name: str, name: str, kind: str) -> oracle.Sum:
    """(dL - m dM) / M of the mean m = L / M, where M is Σ s W; a count does not move."""
    (case,) = (case for case in MEANS if case.name == case_name)
    reference = exact(case, "float32")
    of_sum = reference.gradient(name)
    mean, mass = reference.mean(kind).value, reference.denominator(kind).value
    if kind == "count" or name == "logits":
        return of_sum.times(1 / mass)
    if name == "sample_weight":
        share = reference.spread(name, lambda e: e.W)
        of_mass = oracle.Sum(share, share)
    else:
        of_mass = added_up(reference, name, {"weight": mass_by_weight, "labels": mass_by_labels}[name])
    with mp.workdps(oracle.DIGITS):
        return oracle.Sum(
            (of_sum.value - mean * of_mass.value) / mass, (of_sum.absolute + abs(mean) * of_mass.absolute) / mass
        )


@pytest.mark.parametrize("kind", ["weight", "count"])
@pytest.mark.parametrize("case", MEANS, ids=lambda case: case.name)
def test_mean_by_what_it_divides_by(backend: Backend, case: Case, kind: str) -> None:
    """By a sample weight (L_n - mean · W_n) / Σ s W, also at 0; class weights and distributions likewise."""
    found = backend.call(grad(cross_entropy, case.by), **arguments_of(backend, case), denominator=kind)
    for name, derivative in zip(case.by, found, strict=True):
        assert_close(
            backend.numpy(derivative), exact_mean_by(case.name, name, kind), dtype="float32", floor=floor_of(backend)
        )


# -- the confident prediction -----------------------------------------------------------------------------------------

GAPS = {"float32": (5, 10, 17, 20, 40, 80, 85), "float64": (5, 10, 17, 20, 37, 40, 80, 85, 100, 300, 700)}


def exact_confident(gaps: tuple[int, ...], label: int) -> tuple[Any, Any]:
    """Loss and gradient of [g, 0]."""
    with mp.workdps(oracle.DIGITS + max(gaps)):
        small = [mp.exp(-g) for g in gaps]
        losses = [mp.log1p(e) + (g if label else 0) for e, g in zip(small, gaps, strict=True)]
        shares = [(1 / (1 + e) if label else e / (1 + e)) for e in small]
    return np.asarray(losses, dtype=object), np.asarray([(p, -p) if label else (-p, p) for p in shares], dtype=object)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("label", [0, 1], ids=["hit", "miss"])
def test_confident_rows_keep_every_digit(backend: Backend, dtype: str, label: int) -> None:
    gaps = GAPS[dtype]
    x, t = backend.array([[g, 0] for g in gaps], dtype), backend.array([label] * len(gaps), "int32")
    losses, found = backend.call(value_and_grad(cross_entropy), x, t, reduction="none")
    expected, by_logits = exact_confident(gaps, label)
    assert_ulps(backend.numpy(losses), expected, dtype=dtype, bound=4.0)
    assert_ulps(backend.numpy(found), by_logits, dtype=dtype, bound=4.0)


@pytest.mark.dtypes("float32", "float64")
def test_a_confident_prediction_keeps_every_digit(backend: Backend, dtype: str) -> None:
    """Issue 2, one example alone: at a gap of 40 the loss is 4.2e-18 and so is the derivative."""
    for gap in GAPS[dtype]:
        loss, found = backend.call(value_and_grad(cross_entropy), backend.array([gap, 0], dtype), 0)
        expected, by_logits = exact_confident((gap,), 0)
        assert_ulps(backend.numpy(loss), expected[0], dtype=dtype, bound=4.0)
        assert_ulps(backend.numpy(found), by_logits[0], dtype=dtype, bound=4.0)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("b", [None, [1.0, 1.0]], ids=["plain", "b=1"])
def test_second_derivatives_of_a_confident_prediction(backend: Backend, dtype: str, b: Any) -> None:
    """Of p (1 - p), 4.248e-18 at a gap of 40: to 4 units in the last place, with weights of 1 as without."""
    x = backend.array([40, 0], dtype)
    with mp.workdps(oracle.DIGITS):
        p = 1 / (1 + mp.exp(-40))
        expected = [p * (1 - p)] * 2
    given = {} if b is None else {"b": backend.array(b, dtype)}
    found = backend.call(hessian_diagonal(logsumexp), x, **given)
    assert_ulps(backend.numpy(found), expected, dtype=dtype, bound=4.0)
    if b is None:
        found = backend.call(hessian_diagonal(cross_entropy), x, 0)
        assert_ulps(backend.numpy(found), expected, dtype=dtype, bound=4.0)
        found = backend.call(hvp(cross_entropy), x, 0, vector=backend.array([1, 0], dtype))
        assert_ulps(backend.numpy(found), [expected[0], -expected[1]], dtype=dtype, bound=4.0)


# -- second derivatives -----------------------------------------------------------------------------------------------

VECTOR = np.resize([1.0, -0.5, 2.0, 0.25, -1.5], (ROWS, 3))
OTHER = np.resize([0.5, 1.0, -2.0, 0.75], (ROWS, 3))


def vector_of(case: Case) -> NumPy:
    """NaN wherever nothing takes part."""
    live = [[e.takes_part and kept for kept in e.keep] for e in exact(case).examples]
    return np.where(live, VECTOR, NAN)


def assert_second(backend: Backend, case: Case, dtype: str) -> None:
    arguments = arguments_of(backend, case, dtype) | {"reduction": "none", "check": False}
    vector = vector_of(case)
    product = backend.call(hvp(cross_entropy), **arguments, vector=backend.array(vector, dtype))
    squares = backend.call(hessian_diagonal(cross_entropy), **arguments)
    matrices = exact_hessian(case.name)
    gap, floor = temperature_gap(case), floor_of(backend)
    for found, sums in ((product, applied(matrices, vector)), (squares, diagonal(matrices))):
        assert_like(backend, found, arguments["logits"])
        assert_close(backend.numpy(found), sums, dtype=dtype, gap=gap, floor=floor)
    if case.sharp:
        assert_ulps(backend.numpy(squares), diagonal(matrices).value, dtype=dtype, bound=4.0, floor=floor)


@EAGER
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_second_derivatives(backend: Backend, case: Case) -> None:
    """Hessians times a vector, and their diagonals: exactly 0 for what takes no part, a vector of NaN or not."""
    assert_second(backend, case, widest(backend))


SECOND = ("plain", "ignored", "where-logits", "soft-weight", "temperature-classes", "softcap")


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_on_jax(backend: Backend, name: str) -> None:
    assert_second(backend, BY_NAME[name], "float32")


@pytest.mark.parametrize("name", ["where-logits", "softcap"])
def test_hessians_are_linear_and_symmetric(backend: Backend, name: str) -> None:
    """H (2u) = 2 H u, H (u + v) = H u + H v, uᵀ H v = vᵀ H u."""
    case, dtype = BY_NAME[name], "float32"
    arguments = arguments_of(backend, case, dtype) | {"reduction": "none", "check": False}

    def product(vector: NumPy) -> NumPy:
        return backend.numpy(backend.call(hvp(cross_entropy), **arguments, vector=backend.array(vector, dtype)))

    of_u, of_v = product(VECTOR), product(OTHER)
    np.testing.assert_array_equal(product(2 * VECTOR), 2 * of_u)
    size = np.asarray(applied(exact_hessian(name), abs(VECTOR) + abs(OTHER)).absolute, dtype=float)
    bound = 2 * (4 + temperature_gap(case)) * ulps.eps(dtype) / 2 * size
    assert np.all(abs(product(VECTOR + OTHER) - (of_u + of_v)) <= bound)
    left, right = (VECTOR * of_v).sum(), (OTHER * of_u).sum()
    assert abs(left - right) <= (bound * (abs(VECTOR) + abs(OTHER))).sum()


@pytest.mark.parametrize("options", [{}, {"denominator": "count"}, {"reduction": "sum"}], ids=str)
def test_second_derivatives_of_reductions(backend: Backend, options: dict[str, Any]) -> None:
    """Those of the rows, over the denominator, with aux or without."""
    arguments = arguments_of(backend, REDUCED)
    vector = backend.array(VECTOR, "float32")
    reference = exact(REDUCED, "float32")
    below = 1.0 if "reduction" in options else float(reference.denominator(options.get("denominator", "weight")).value)
    for function, given in ((hvp, {"vector": vector}), (hessian_diagonal, {})):
        rows = backend.call(function(cross_entropy), **arguments, **given, reduction="none")
        found = backend.call(function(cross_entropy), **arguments, **given, **options)
        np.testing.assert_allclose(backend.numpy(found), backend.numpy(rows) / below, rtol=4 * ulps.eps("float32"))


# -- normalisers ------------------------------------------------------------------------------------------------------

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
HEATS: dict[str, Any] = {
    "none": None,
    "0-d": single(0.5),
    "rows": single([[0.5], [2], [4], [0.25], [1], [2], [1]]),
    "classes": single([0.5, 1.0, 2.0]),
}
# A normaliser, the exact pullback, and the sign that turns logits of the one into those of the other.
NORMALISERS: dict[str, tuple[Any, Callable[..., oracle.Sum], int]] = {
    "softmax": (softmax, oracle.softmax_vjp, 1),
    "log_softmax": (log_softmax, oracle.log_softmax_vjp, 1),
    "softmin": (softmin, oracle.softmax_vjp, -1),
}


@cache
def exact_pullback(name: str, heat_name: str) -> tuple[oracle.Sum, oracle.Sum]:
    """Of a normaliser, by its logits and by its temperature: -Σ dz_j z_j / T, z after the shift if T is a row's."""
    _, pullback, sign = NORMALISERS[name]
    heat = np.asarray(1.0 if HEATS[heat_name] is None else HEATS[heat_name])
    with mp.workdps(oracle.DIGITS):
        by_logits = pullback(PULL, LOGITS, where=KEPT, temperature=HEATS[heat_name])
        x = np.where(KEPT & np.isfinite(LOGITS), LOGITS, np.nan)
        of_rows = heat.ndim == 0 or heat.shape[-1] == 1
        top = np.nanmax(np.where(KEPT.any(axis=-1, keepdims=True), x, 0.0), axis=-1, keepdims=True)
        z = ulps.exactly(np.nan_to_num(x - top if of_rows else x)) / ulps.exactly(heat)
        value, absolute = -by_logits.value * z, by_logits.absolute * abs(z)
    by_heat = oracle.Sum(*(oracle.sum_to(part, heat.shape) for part in (value, absolute)))
    return oracle.Sum(sign * by_logits.value, by_logits.absolute), by_heat


PAIRS = [(name, heat) for name in NORMALISERS for heat in HEATS if name == "softmax" or heat in {"none", "classes"}]


@pytest.mark.parametrize(("name", "heat"), PAIRS)
def test_normalisers_pull_back_exactly(backend: Backend, name: str, heat: str) -> None:
    function, _, sign = NORMALISERS[name]
    given = placed(backend, {"where": KEPT, "temperature": HEATS[heat]})
    x, by = backend.array(sign * LOGITS), ("logits",) if heat == "none" else ("logits", "temperature")
    value, pullback = backend.call(vjp(function, by), x, **given)
    assert_same(backend, value, backend.call(function, x, **given))
    found = backend.call(pullback, backend.array(PULL))
    for one, derivative, sums in zip(by, found, exact_pullback(name, heat), strict=False):
        assert_like(backend, derivative, x if one == "logits" else given[one])
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


def test_log_softmax_passes_the_cotangent_of_minus_infinity(backend: Backend) -> None:
    """§2: -inf gives 0 by softmax, and by log_softmax the entry's own cotangent."""
    x, g = backend.array([0.0, -INF, 0.0], "float32"), backend.array([1.0, 4.0, 2.0], "float32")
    assert_equal(backend, backend.call(vjp(softmax), x)[1](g), single([-0.25, 0.0, 0.25]))
    assert_equal(backend, backend.call(vjp(log_softmax), x)[1](g), single([-2.5, 4.0, -1.5]))


FIRST_AND_SECOND: dict[str, Any] = {
    "grad": lambda f, _, *args, **given: grad(f)(*args, **given),
    "hvp": lambda f, vector, *args, **given: hvp(f)(*args, **given, vector=vector),
    "hessian_diagonal": lambda f, _, *args, **given: hessian_diagonal(f)(*args, **given),
}


def test_rows_that_are_undefined(backend: Backend) -> None:
    """§2: NaN throughout the row, and in no other."""
    x = single([[-INF, -INF, -INF], [0, INF, 1], [0, NAN, 1], [0.5, -1.25, 2]])
    undefined = [[True] * 3] * 3 + [[False] * 3]
    ones = backend.array(np.ones((4, 3)), "float32")
    for function, _, sign in NORMALISERS.values():
        found = backend.numpy(backend.call(vjp(function), backend.array(sign * x))[1](ones))
        np.testing.assert_array_equal(np.isnan(found), undefined)
    labels = backend.array([0, 0, 0, 0], "int32")
    for derivative in FIRST_AND_SECOND.values():
        found = backend.call(derivative, cross_entropy, ones, backend.array(x), labels, reduction="sum")
        np.testing.assert_array_equal(np.isnan(backend.numpy(found)), undefined)


@EAGER
@pytest.mark.parametrize("row", [[-INF, -INF, -INF], [0, INF, 1], [0, NAN, 1]], ids=str)
def test_options_of_an_undefined_row(backend: Backend, row: list[float]) -> None:
    """A loss that is NaN has NaN for every derivative, by numbers as by distributions."""
    given = {
        "logits": [row],
        "labels": [[0.5, 0.25, 0.25]],
        "sample_weight": 2.0,
        "label_smoothing": 0.25,
        "temperature": 0.5,
        "softcap": 8.0,
        "z_loss": 0.5,
    }
    arrays = {name: backend.array(x, "float32") for name, x in given.items()}
    loss, found = backend.call(value_and_grad(cross_entropy, tuple(given)), **arrays, reduction="sum")
    assert_equal(backend, loss, single(NAN))
    for name, derivative in zip(given, found, strict=True):
        assert np.isnan(backend.numpy(derivative)).all(), name


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


@pytest.mark.parametrize("name", WEIGHTS)
def test_logsumexp_pulls_back_exactly(backend: Backend, name: str) -> None:
    """By x and by b, of the logarithm if the sign comes with it, in the cotangent's shape."""
    x = backend.array(LOGITS)
    given = placed(backend, {"where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True, "keepdims": True}
    value, pullback = backend.call(vjp(logsumexp, by_weights(name)), x, **given)
    assert_same(backend, value, backend.call(logsumexp, x, **given))
    found = backend.call(pullback, backend.array(COTANGENT[:, None], "float32"))
    expected = oracle.logsumexp_vjp(COTANGENT, LOGITS, b=WEIGHTS[name], where=KEPT)
    for one, derivative, (value, absolute) in zip(by_weights(name), found, expected, strict=False):
        argument = x if one == "x" else given["b"]
        assert_like(backend, derivative, argument)
        sums = oracle.Sum(*(oracle.sum_to(part, tuple(argument.shape)) for part in (value, absolute)))
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


@pytest.mark.parametrize("name", WEIGHTS)
def test_second_derivatives_of_logsumexp(backend: Backend, name: str) -> None:
    """(diag(p) - p pᵀ) v with p = b e^x / Σ: 0 where nothing is summed, whatever the vector has there."""
    given = placed(backend, {"where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True}
    matrices = covariances(oracle.logsumexp_vjp(1.0, LOGITS, b=WEIGHTS[name], where=KEPT)[0])
    x, vector = backend.array(LOGITS), single(np.where(KEPT, VECTOR, NAN))
    product = backend.call(hvp(logsumexp), x, **given, vector=backend.array(vector))
    assert_close(backend.numpy(product), applied(matrices, vector), dtype="float32", floor=floor_of(backend))
    squares = backend.call(hessian_diagonal(logsumexp), x, **given)
    assert_close(backend.numpy(squares), diagonal(matrices), dtype="float32", floor=floor_of(backend))


def test_sums_without_a_logarithm(backend: Backend) -> None:
    """Derivatives are 0 of a sum that is 0, empty or of -inf alone; NaN of a negative one, and beside +inf."""
    x = single([[1, 1, NAN], [NAN, INF, 0], [-INF, -INF, -INF], [0, 0, 0], [0, INF, 0], [0, 0, 0]])
    b = single([[1, -1, 0], [0, 0, 0], [1, 2, 1], [1, -2, 0.5], [1, 1, 1], [1, 2, 1]])
    by_x, by_b = backend.call(grad(logsumexp, ("x", "b")), backend.array(x), b=backend.array(b))
    nan = [NAN, NAN, NAN]
    expected = single([[0, 0, 0], [0, 0, 0], [0, 0, 0], nan, nan, [0.25, 0.5, 0.25]])
    assert_equal(backend, by_x, expected)
    assert_equal(backend, by_b, np.where(np.isnan(expected) | (expected == 0), expected, single(0.25)))


@pytest.mark.parametrize("derivative", FIRST_AND_SECOND.values(), ids=FIRST_AND_SECOND)
def test_what_is_absent_from_an_undefined_sum(backend: Backend, derivative: Any) -> None:
    """§2: exactly 0 where an entry is masked or of weight 0, NaN throughout the rest of the row."""
    x, b = single([[0, 0, 5], [0, NAN, 5], [0, 1, 2]]), single([[1, -2, 1], [1, 1, 1], [0, 1, -2]])
    kept = np.asarray([[True, True, False], [True, True, False], [False, True, True]])
    where, ones = backend.array(kept | [[False], [False], [True]]), backend.array(np.ones((3, 3)), "float32")
    found = backend.call(derivative, logsumexp, ones, backend.array(x), b=backend.array(b), where=where)
    assert_equal(backend, found, np.where(kept, single(NAN), single(0.0)))


@pytest.mark.parametrize("derivative", FIRST_AND_SECOND.values(), ids=FIRST_AND_SECOND)
def test_what_is_masked_in_an_undefined_row(backend: Backend, derivative: Any) -> None:
    """§2: exactly 0 at a dropped class, NaN throughout the rest of the row."""
    x = backend.array([[0, INF, 5], [0, NAN, 5], [-INF, -INF, 5]], "float32")
    where, ones = backend.array([[True, True, False]]), backend.array(np.ones((3, 3)), "float32")
    found = backend.call(derivative, cross_entropy, ones, x, backend.array([0, 1, 0], "int32"), where=where)
    assert_equal(backend, found, single([[NAN, NAN, 0]] * 3))


SMOOTHED = {
    "labels": single([[0.25, 0.5, 0.75], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 0], [0.25, 0.5, 0], [0, 1, 0], [0, 0, 1]]),
    "label_smoothing": single([0.125, 0.5, 0.0, 0.25, 0.75, 1.0, 0.5]),
    "smoothing_prior": single([0.5, 0.25, 0.75]),
}


def test_smooth_labels_pull_back_exactly(backend: Backend) -> None:
    """(1 - ε) g by the labels, Σ g (u - q) by ε; the prior is rescaled over the classes that take part.

    A dropped class gets nothing of ε and keeps (1 - ε) q. A row that takes no part is not looked at.
    """
    where = np.asarray([[True, False, True]] + [[True] * 3] * 5 + [[False] * 3])
    pulled = PULL[[0, 1, 2, 6, 3, 4, 6]]
    given = placed(backend, SMOOTHED)
    value, pullback = backend.call(vjp(smooth_labels, tuple(SMOOTHED)), **given, where=backend.array(where))
    assert_same(backend, value, backend.call(smooth_labels, **given, where=backend.array(where)))
    found = backend.call(pullback, backend.array(pulled))
    reference = oracle.cross_entropy(
        np.zeros((ROWS, 3)),
        SMOOTHED["labels"],
        where=where,
        label_smoothing=SMOOTHED["label_smoothing"],
        smoothing_prior=SMOOTHED["smoothing_prior"],
    )
    seeds = {id(e): list(ulps.exactly(np.nan_to_num(g))) for e, g in zip(reference.examples, pulled, strict=True)}
    rules: dict[str, Callable[[oracle.Example], Any]] = {
        "labels": lambda e: [oracle.total(g - e.smoothing * g) for g in seeds[id(e)]],
        "label_smoothing": lambda e: by_smoothing(e, seeds[id(e)]),
        "smoothing_prior": lambda e: by_prior(e, seeds[id(e)]),
    }
    reference.shapes |= {name: value.shape for name, value in SMOOTHED.items()}
    for name, derivative in zip(SMOOTHED, found, strict=True):
        assert_like(backend, derivative, given[name])
        sums = added_up(reference, name, rules[name])
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


def test_a_prior_that_leaves_nothing(backend: Backend) -> None:
    """It is uniform then, and has derivative 0 (§3.6): its mass is a divisor."""
    q, epsilon = backend.array([[0.5, 0.25, 0.25]], "float32"), backend.array(0.5, "float32")
    prior, where = backend.array([0.0, 0.0, 2.0], "float32"), backend.array([[True, True, False]])
    given = {"labels": q, "label_smoothing": epsilon, "smoothing_prior": prior, "where": where}
    _, pullback = backend.call(vjp(smooth_labels, ("label_smoothing", "smoothing_prior")), **given)
    by_epsilon, by_prior = backend.call(pullback, backend.array([[1.0, 2.0, 4.0]], "float32"))
    assert_equal(backend, by_epsilon, single(-0.5))  # Σ g (u - q), u = (1/2, 1/2, 0)
    assert_equal(backend, by_prior, single([0.0, 0.0, 0.0]))


def test_smooth_labels_of_indices_by_smoothing(backend: Backend) -> None:
    """Σ g (1/3 - q); an ignored label has no part in it."""
    labels, epsilon = backend.array([2, -1, 0], "int32"), backend.array([0.25, 0.5, 0.0], "float32")
    given = {"num_classes": 3, "ignore_index": -1}
    _, pullback = backend.call(vjp(smooth_labels, 1), labels, epsilon, **given)
    found = backend.call(pullback, backend.array([[3, 6, 12], [NAN, NAN, NAN], [6, 0, 3]], "float32"))
    assert_ulps(backend.numpy(found), [mpf(-5), mpf(0), mpf(-3)], dtype="float32", bound=4.0)


# -- argnums ----------------------------------------------------------------------------------------------------------

SOFT = BY_NAME["soft"]


@EAGER
def test_argnums(backend: Backend) -> None:
    """Positions and names of arguments however they are given, one of them or a tuple in any order."""
    given = arguments_of(backend, SOFT) | {"temperature": backend.array(2.0, "float32")}
    x, t, heat = given.values()

    def found(argnums: Any) -> Any:
        return backend.call(grad(cross_entropy, argnums), x, t, temperature=heat)

    by_x, by_t, by_heat = found((0, 1, "temperature"))
    expected: dict[Any, Any] = {
        0: by_x,
        1: by_t,
        "logits": by_x,
        "labels": by_t,
        "temperature": by_heat,
        (): (),
        (0,): (by_x,),
        ("temperature", "logits", 1): (by_heat, by_x, by_t),
    }
    for argnums, derivatives in expected.items():
        assert_same(backend, found(argnums), derivatives)
        assert_same(backend, backend.call(grad(cross_entropy, argnums), **given), derivatives)


@pytest.mark.backends("jax")
def test_argnums_on_jax(backend: Backend) -> None:
    given = arguments_of(backend, SOFT)
    by_t, by_x = grad(cross_entropy, (1, "logits"))(*given.values())
    np.testing.assert_allclose(grad(cross_entropy)(**given), by_x, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(grad(cross_entropy, "labels")(**given), by_t, rtol=1e-6)


@EAGER
@pytest.mark.dtypes("float64")
def test_each_derivative_has_the_dtype_of_its_argument(backend: Backend, dtype: str) -> None:
    """Computed in the logits' dtype and rounded to the argument's."""
    case = BY_NAME["everything"]
    by = tuple(name for name, x in case.arrays(dtype).items() if x.dtype.kind == "f")
    arguments = arguments_of(backend, case, dtype) | {"check": False}
    mixed = {
        name: backend.array(x, "float32") if name in by and name != "logits" else backend.array(x)
        for name, x in case.arrays(dtype).items()
    } | {"check": False}
    expected = backend.call(grad(cross_entropy, by), **arguments)
    for name, found, derivative in zip(by, backend.call(grad(cross_entropy, by), **mixed), expected, strict=True):
        assert_like(backend, found, mixed[name])
        rounded = backend.numpy(derivative).astype(dtype if name == "logits" else "float32")
        assert_equal(backend, found, rounded)


def test_integers_beside_what_is_differentiated(backend: Backend) -> None:
    """Logits that are integers have no derivative, but a temperature beside them has."""
    x, t, heat = (backend.array(v, d) for v, d in (([[2, 0], [1, 3]], "int32"), ([0, 1], "int32"), (2.0, "float32")))
    found = backend.call(grad(cross_entropy, "temperature"), x, t, temperature=heat)
    assert_like(backend, found, heat)
    expected = oracle.cross_entropy(np.asarray([[2.0, 0], [1, 3]]), np.asarray([0, 1]), temperature=2.0)
    assert_close(backend.numpy(found), expected.gradient("temperature").times(mpf(1) / 2), dtype="float32")


# -- axes -------------------------------------------------------------------------------------------------------------

CUBE = single(np.arange(24.0).reshape(2, 3, 4) % 7 / 4 + np.arange(3.0).reshape(3, 1) / 2)
MASK = np.arange(12).reshape(1, 3, 4) % 5 > 0
HEAT = single([[[0.5, 1.0, 2.0, 1.0]], [[4.0, 0.5, 1.0, 2.0]]])  # (2, 1, 4)
BY_CLASS = single([0.5, 1.0, 2.0, 0.25])  # (4,)


def flattened(form: oracle.Layout, given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The same call with the class axes moved to the end and made one, and nothing left to broadcast."""
    return given | {name: np.ascontiguousarray(form.rows(given[name])) for name in names}


def assert_along(
    backend: Backend, function: Any, form: oracle.Layout, given: dict[str, Any], names: tuple[str, ...], **options: Any
) -> None:
    """Derivatives along the axis are those of the flattened call, moved back and added up where it broadcast."""
    by = tuple(name for name, x in given.items() if x.dtype.kind == "f")
    axis = options.pop("axis")
    rows = placed(backend, flattened(form, given, names))
    value, pullback = backend.call(vjp(function, by), **placed(backend, given), axis=axis, **options)
    flat, flat_pullback = backend.call(vjp(function, by), **rows, **options)
    g = np.resize(COTANGENT, np.shape(backend.numpy(flat))).astype("float32")
    moved = form.back(g) if g.ndim == len(form.batch) + 1 else g
    found = backend.call(pullback, backend.array(moved))
    expected = backend.call(flat_pullback, backend.array(g))
    assert_equal(backend, value, form.back(backend.numpy(flat)) if moved is not g else backend.numpy(flat))
    for name, one, other in zip(by, found, expected, strict=True):
        assert one.shape == given[name].shape
        of_rows = backend.numpy(other)
        whole = form.back(of_rows) if name in names else of_rows
        if whole.shape == given[name].shape and name in names:
            assert_equal(backend, one, whole)
        else:  # added up in another order
            size = oracle.sum_to(abs(whole.astype("float64")), given[name].shape)
            difference = backend.numpy(one) - oracle.sum_to(whole.astype("float64"), given[name].shape)
            assert np.all(abs(difference) <= 4 * ulps.eps("float32") * size)


def losses_along(axis: Any) -> tuple[oracle.Layout, dict[str, Any], tuple[str, ...]]:
    """Distributions as labels, temperatures with sizes of 1, weights of both kinds, a mask of classes."""
    form = oracle.Layout(CUBE.shape, axis)
    examples = [n if k == 0 else 1 for k, n in enumerate(form.batch)]
    given = {
        "logits": CUBE,
        "labels": np.where(MASK, CUBE / 8, single(0.0)),
        "temperature": HEAT,
        "sample_weight": single(np.arange(1.0, np.prod(examples) + 1)).reshape(examples),
        "weight": single(np.arange(1.0, form.classes + 1) / 4),
        "where": MASK,
    }
    return form, given, ("logits", "labels", "temperature", "where")


AXES = (0, -2, (0, 2), (2, 0), None, ())


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_class_axes_of_losses(backend: Backend, axis: Any) -> None:
    form, given, names = losses_along(axis)
    assert_along(backend, cross_entropy, form, given, names, axis=axis, reduction="none")


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axes_of_normalisers(backend: Backend, axis: Any) -> None:
    """Options of fewer dimensions broadcast as in NumPy."""
    form = oracle.Layout(CUBE.shape, axis)
    for function, name, option in ((softmax, "logits", "temperature"), (logsumexp, "x", "b")):
        given = {name: CUBE, option: BY_CLASS, "where": MASK[0]}
        assert_along(backend, function, form, given, tuple(given), axis=axis)


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_cotangents_of_sums_with_their_dimensions_kept(backend: Backend, axis: Any) -> None:
    form, x = oracle.Layout(CUBE.shape, axis), backend.array(CUBE)
    g = np.resize(COTANGENT, form.batch).astype("float32")
    _, pullback = backend.call(vjp(logsumexp), x, axis=axis, keepdims=True)
    _, plain = backend.call(vjp(logsumexp), x, axis=axis)
    found = backend.call(pullback, backend.array(form.keepdims(g)))
    assert_same(backend, found, backend.call(plain, backend.array(g)))


@pytest.mark.backends("jax")
def test_axes_on_jax(backend: Backend) -> None:
    form, given, names = losses_along((2, 0))
    assert_along(backend, cross_entropy, form, given, names, axis=(2, 0), reduction="none")


@pytest.mark.parametrize("axis", [-1, None, ()], ids=str)
def test_0_d_input(backend: Backend, axis: Any) -> None:
    """One element is one class: certain, whatever it is."""
    x, one, heat = (backend.array(v, "float32") for v in (2.5, 1.0, 0.5))
    zero = single(0.0)
    loss, by = backend.call(value_and_grad(cross_entropy, ("logits", "temperature")), x, 0, temperature=heat, axis=axis)
    for found in (loss, *by, *(backend.call(vjp(f), x, axis=axis)[1](one) for f in (softmax, log_softmax))):
        assert_equal(backend, found, zero)
    assert_equal(backend, backend.call(grad(logsumexp), x, axis=axis), single(1.0))
    assert_equal(backend, backend.call(grad(logsumexp), x, b=one, axis=axis, keepdims=True), single(1.0))
    by_x, by_labels = backend.call(grad(cross_entropy, (0, 1)), x, one, axis=axis)
    assert_equal(backend, by_x, zero)
    assert_equal(backend, by_labels, zero)
    for function in (hessian_diagonal(cross_entropy), partial(hvp(cross_entropy), vector=one)):
        assert_equal(backend, backend.call(function, x, 0, axis=axis), zero)


# -- pullbacks and transforms -----------------------------------------------------------------------------------------


def test_pullbacks_are_linear(backend: Backend) -> None:
    """And can be called again: to twice the cotangent belongs twice the derivative, to a sum the sum."""
    x = backend.array(LOGITS[:5])
    _, pullback = backend.call(vjp(softmax), x)
    g, h = PULL[:5], PULL[4::-1]
    of_g, of_h, twice, both = (
        backend.numpy(backend.call(pullback, backend.array(one))) for one in (g, h, 2 * g, g + h)
    )
    np.testing.assert_array_equal(twice, 2 * of_g)
    size = sum(oracle.softmax_vjp(one, LOGITS[:5]).absolute for one in (g, h))
    assert np.all(abs(both - (of_g + of_h)) <= 4 * ulps.eps("float32") * size.astype(float))


X = [[0.5, -1.25, 2.0], [1.0, 1.0, -0.5], [40.0, 0.0, 0.0]]
TRANSPOSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "softmax": (softmax, {"logits": X, "temperature": [0.5, 1.0, 2.0]}),
    "log_softmax": (log_softmax, {"logits": X, "temperature": 0.5}),
    "logsumexp": (logsumexp, {"x": X, "b": [[1, 0.5, 2], [0.5, 0.25, 0], [1, 2, 1]]}),
    "cross_entropy": (
        partial(cross_entropy, reduction="none"),
        {"logits": X, "labels": [[0.25, 0.5, 0.75], [1, 0, 0], [0.5, 0.5, 0.25]], "temperature": [0.5, 2.0, 1.0]},
    ),
    "smooth_labels": (
        smooth_labels,
        {"labels": [[0.25, 0.5, 0.75], [1, 0, 0], [0.5, 0.5, 0.25]], "label_smoothing": [0.125, 0.5, 0.25]},
    ),
}


def assert_transposed(backend: Backend, name: str, dtype: str, pushforward: Callable[..., Any]) -> None:
    """The g · (J t) of the library is our (Jᵀ g) · t."""
    function, given = TRANSPOSED[name]
    primals = tuple(backend.array(x, dtype) for x in given.values())
    tangents = tuple(backend.array(np.resize([1.0, -0.5, 0.25, 2.0, 0.5], np.shape(x)), dtype) for x in given.values())

    def call(*arrays: Array) -> Array:
        return function(**dict(zip(given, arrays, strict=True)))

    value, pushed = pushforward(call, primals, tangents)
    g = np.resize([1.0, -0.5, 2.0, 0.25], np.shape(value))
    _, pullback = vjp(function, tuple(given))(**dict(zip(given, primals, strict=True)))
    pulled = pullback(backend.array(g, dtype))
    left = g * backend.numpy(pushed)
    right = [backend.numpy(d) * backend.numpy(t) for d, t in zip(pulled, tangents, strict=True)]
    size = abs(left).sum() + sum(abs(terms).sum() for terms in right)
    assert abs(left.sum() - sum(terms.sum() for terms in right)) <= 4 * ulps.eps(dtype) * size


@pytest.mark.backends("torch")
@pytest.mark.parametrize("name", TRANSPOSED)
def test_pullbacks_are_transposed_pushforwards_of_torch(backend: Backend, name: str) -> None:
    assert_transposed(backend, name, "float64", backend.xp.func.jvp)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_pullbacks_are_transposed_pushforwards_of_jax(backend: Backend, name: str) -> None:
    import jax

    assert_transposed(backend, name, "float32", jax.jit(jax.jvp, static_argnums=0))


@pytest.mark.backends("torch")
def test_torch_vmap(backend: Backend) -> None:
    """One example at a time is what the batch is."""
    vmap, close = backend.xp.func.vmap, partial(backend.xp.testing.assert_close, rtol=1e-14, atol=0)
    x, t, v = backend.array(X, "float64"), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    close(vmap(value_and_grad(cross_entropy))(x, t), value_and_grad(cross_entropy)(x, t, reduction="none"))
    close(vmap(hessian_diagonal(cross_entropy))(x, t), hessian_diagonal(cross_entropy)(x, t, reduction="sum"))
    of_rows = vmap(lambda x, t, v: hvp(cross_entropy)(x, t, vector=v))(x, t, v)
    close(of_rows, hvp(cross_entropy)(x, t, reduction="sum", vector=v))
    close(vmap(lambda x, g: vjp(softmax)(x)[1](g))(x, v), vjp(softmax)(x)[1](v))


@pytest.mark.backends("torch")
@pytest.mark.parametrize("small", [True, False], ids=["autograd of the formula", "rule"])
def test_torch_autograd(backend: Backend, monkeypatch: pytest.MonkeyPatch, *, small: bool) -> None:
    """Through the value comes the gradient, through the gradient the Hessian times what is pulled back."""
    if not small:
        monkeypatch.setattr(backend_of(backend.array(1.0)), "small", 0)
    autograd, close = backend.xp.autograd, partial(backend.xp.testing.assert_close, rtol=1e-14, atol=0)
    x, t, v = backend.array(X, "float64").requires_grad_(), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    loss, found = value_and_grad(cross_entropy)(x, t, label_smoothing=0.125)
    assert loss.requires_grad
    assert found.requires_grad
    close(autograd.grad(loss, x, retain_graph=True)[0], found.detach())
    expected = hvp(cross_entropy)(x.detach(), t, label_smoothing=0.125, vector=v)
    close(autograd.grad(found, x, v)[0], expected, atol=1e-17)
    with backend.xp.no_grad():
        assert not any(y.requires_grad for y in value_and_grad(cross_entropy)(x, t))


@pytest.mark.backends("torch")
def test_torch_compile(backend: Backend) -> None:
    """fullgraph=True, and the compiled loss has its backward."""
    torch = backend.xp
    x, t, v = backend.array(X, "float64").requires_grad_(), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    weight = backend.array([2.0, 1.0, 0.5], "float64")

    def everything(x: Array, t: Array, v: Array, weight: Array) -> tuple[Any, ...]:
        smoothed = partial(cross_entropy, weight=weight, label_smoothing=0.125)
        return (
            *value_and_grad(smoothed)(x, t),
            *grad(cross_entropy, (0, "weight"))(x, t, weight=weight),
            hvp(smoothed)(x, t, vector=v),
            hessian_diagonal(cross_entropy)(x, t),
            vjp(softmax)(x)[1](v),
        )

    torch._dynamo.reset()
    found = torch.compile(everything, fullgraph=True, backend="aot_eager")(x, t, v, weight)
    for one, expected in zip(found, everything(x, t, v, weight), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-14, atol=1e-17)
    torch.testing.assert_close(torch.autograd.grad(found[0], x)[0], found[1].detach(), rtol=1e-14, atol=1e-17)
    torch._dynamo.reset()


@pytest.mark.backends("jax")
def test_jax_transforms(backend: Backend) -> None:
    """Inside jit: the call itself, under vmap, and differentiated again, forward and in reverse."""
    import jax

    x, t = backend.array(X, "float32"), backend.array([2, 1, 0], "int32")

    def everything(x: Array, t: Array) -> tuple[Any, ...]:
        def columns(x: Array, t: Array) -> Array:
            return jax.vmap(lambda v: hvp(cross_entropy)(x, t, vector=v))(jax.numpy.eye(3, dtype=x.dtype))

        return (
            value_and_grad(cross_entropy)(x, t, reduction="none"),
            jax.vmap(value_and_grad(cross_entropy))(x, t),
            jax.vmap(columns)(x, t),
            jax.vmap(jax.jacfwd(grad(cross_entropy)))(x, t),
            jax.vmap(jax.jacrev(grad(cross_entropy)))(x, t),
        )

    *gradients, columns, forward, reverse = jax.jit(everything)(x, t)
    reference = oracle.cross_entropy(np.asarray(X), np.asarray([2, 1, 0]))
    for losses, found in gradients:
        assert_ulps(losses, reference.rows, dtype="float32", bound=4.0)
        assert_ulps(found, reference.gradient("logits").value, dtype="float32", bound=4.0)
    p = oracle.softmax(np.asarray(X))
    for found in (columns, forward, reverse):
        assert_close(found, covariances(oracle.Sum(p, p)), dtype="float32", floor=1.0)


# -- sums over rows ---------------------------------------------------------------------------------------------------


def test_long_sums_over_rows_keep_their_digits(backend: Backend) -> None:
    """By what all rows share, one number for all or one a class: as exact at 1e5 rows as at one."""
    rng = np.random.default_rng(0)
    x, t = single(rng.normal(size=(100_000, 3))), rng.integers(0, 3, size=100_000).astype("int32")
    options = {"weight": single([1.0, 2.0, 0.5]), "z_loss": single(0.5)}
    found = backend.call(
        grad(cross_entropy, tuple(options)),
        backend.array(x),
        backend.array(t),
        **placed(backend, options),
        reduction="sum",
    )
    double = {name: option.astype("float64") for name, option in options.items()}
    expected = grad(cross_entropy, tuple(options))(x.astype("float64"), t, **double, reduction="sum")
    for one, other in zip(found, expected, strict=True):  # no term is negative
        off = abs(backend.numpy(one) - other) / other / ulps.eps("float32") * 2
        assert np.all(off <= 4), off


# -- partials and names -----------------------------------------------------------------------------------------------


def test_partials(backend: Backend) -> None:
    """What a partial fixes is as if it were given: by name, by position, nested; a call's own keyword wins."""
    given = arguments_of(backend, SOFT)
    x, t = given.values()
    options = {"reduction": "sum", "temperature": backend.array(2.0, "float32")}
    expected = backend.call(value_and_grad(cross_entropy), x, t, **options)
    by_name = partial(cross_entropy, **options)
    inner = partial(cross_entropy, reduction="none", temperature=3.0)
    vars(inner)["note"] = "Python leaves a partial of a partial with attributes as it is"
    nested = partial(inner, **options)
    assert nested.func is inner
    assert_same(backend, backend.call(value_and_grad(by_name), x, t), expected)
    assert_same(backend, backend.call(value_and_grad(nested), x, t), expected)
    assert_same(backend, backend.call(value_and_grad(partial(nested, labels=t)), x), expected)
    assert_same(backend, backend.call(value_and_grad(partial(nested, x), "logits"), t), expected)
    first = partial(nested, x)
    vars(first)["note"] = "the same"
    assert_same(backend, backend.call(value_and_grad(partial(first, t), "logits")), expected)
    assert_same(backend, backend.call(partial(value_and_grad(by_name), x), t), expected)
    overridden = backend.call(value_and_grad(partial(by_name, reduction="mean")), x, t, reduction="sum")
    assert_same(backend, overridden, expected)


def test_positions_are_those_left_by_a_partial(backend: Backend) -> None:
    """As in a call of the partial: its first argument is the labels."""
    x, t = arguments_of(backend, SOFT).values()
    of_labels = backend.call(grad(cross_entropy, "labels"), x, t)
    assert_same(backend, backend.call(grad(partial(cross_entropy, x)), t), of_labels)
    assert_same(backend, backend.call(grad(partial(cross_entropy, labels=t), "labels"), x), of_labels)


def test_second_derivatives_of_partials_are_by_logits(backend: Backend) -> None:
    """Whoever gives them, the partial or the call."""
    x, t = arguments_of(backend, BY_NAME["plain"]).values()
    v = backend.array(VECTOR, "float32")
    expected = backend.call(hvp(cross_entropy), x, t, vector=v)
    assert_same(backend, backend.call(hvp(partial(cross_entropy, labels=t)), x, vector=v), expected)
    assert_same(backend, backend.call(hvp(partial(cross_entropy, x)), t, vector=v), expected)
    expected = backend.call(hessian_diagonal(logsumexp), x)
    assert_same(backend, backend.call(hessian_diagonal(partial(logsumexp, x))), expected)


@pytest.mark.parametrize("user", [value_and_grad, grad, vjp, hvp, hessian_diagonal])
def test_results_say_what_they_are_of(user: Any) -> None:
    for function in (cross_entropy, partial(cross_entropy, reduction="sum"), partial(partial(cross_entropy), axis=0)):
        assert user(function).__name__ == f"{user.__name__}(cross_entropy)"
        assert user(function).__qualname__ == f"{user.__name__}(cross_entropy)"


# -- what arrays may be -----------------------------------------------------------------------------------------------


def test_inputs_are_left_alone(backend: Backend) -> None:
    """Neither written to nor given back: a derivative is memory of its own."""
    case = BY_NAME["everything"]
    before = case.arrays("float32")
    given = arguments_of(backend, case)
    found = backend.call(grad(cross_entropy, case.by), **given)
    _, pullback = backend.call(vjp(log_softmax), given["logits"])
    cotangent = backend.array(PULL)
    backend.call(pullback, cotangent)
    assert_equal(backend, cotangent, PULL)
    for name, array in given.items():
        assert_equal(backend, array, before[name])
        assert not any(one is array for one in found)


@pytest.mark.backends("numpy", "torch")
def test_views(backend: Backend) -> None:
    """Transposed, strided, expanded and, on NumPy, reversed: as exact as any, in the shape of the view."""
    base = np.linspace(-2.0, 3.0, 24, dtype="float32").reshape(4, 6)
    whole = backend.array(base)
    xp = backend.xp
    pairs = [(whole.T[::2, :3], base.T[::2, :3]), (whole[:3, ::2], base[:3, ::2])]
    pairs.append((xp.broadcast_to(whole[0, :3], (3, 3)), np.broadcast_to(base[0, :3], (3, 3))))
    if backend.library == "numpy":
        pairs += [(whole[2::-1, 5::-2], base[2::-1, 5::-2]), (np.asfortranarray(whole[:3, :3]), base[:3, :3])]
    labels = np.asarray([[0, 9], [2, 9], [1, 9]])
    vector = VECTOR[:3].astype("float32")
    for view, plain in pairs:
        exactly = oracle.cross_entropy(plain, labels[:, 0])
        t = backend.array(labels)[:, 0]
        losses, found = value_and_grad(cross_entropy)(view, t, reduction="none")
        assert_ulps(backend.numpy(losses), exactly.rows, dtype="float32", bound=4.0 + 5.0)
        assert_close(backend.numpy(found), exactly.gradient("logits"), dtype="float32", gap=5.0)
        p = oracle.softmax(plain)
        product = hvp(cross_entropy)(view, t, reduction="sum", vector=backend.array(vector.T.copy()).T)
        matrices = covariances(oracle.Sum(p, p))
        assert_close(backend.numpy(product), applied(matrices, vector), dtype="float32", gap=5.0)
        pulled = vjp(softmax)(view)[1](backend.array(vector.T.copy()).T)
        assert_close(backend.numpy(pulled), oracle.softmax_vjp(vector, plain), dtype="float32", gap=5.0)


SIZES = ((0, 3), (2, 0), (0, 0), (3, 1), (1, 3), (1, 1))


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_no_and_one_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    """Where there is nothing to choose from, nothing is lost and nothing changes that."""
    rows, classes = shape
    x, t = backend.array(np.full(shape, 1.5), "float32"), backend.array(np.zeros(rows), "int32")
    given = {"temperature": backend.array(np.ones((rows, 1)), "float32")}
    (loss, (by_x, by_heat)) = backend.call(value_and_grad(cross_entropy, (0, "temperature")), x, t, **given)
    assert_like(backend, by_x, x)
    assert_like(backend, by_heat, given["temperature"])
    certain = classes <= 1 or rows == 0
    expected = oracle.cross_entropy(np.full(shape, 1.5), np.zeros(rows, dtype=int))
    assert_ulps(backend.numpy(loss), expected.mean().value, dtype="float32", bound=4.0)
    assert_ulps(backend.numpy(by_x), expected.gradient("logits").value, dtype="float32", bound=4.0)
    if certain:
        assert not backend.numpy(by_x).any()
        assert not backend.numpy(by_heat).any()


@EAGER
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_second_derivatives_of_no_and_one_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    x, t = backend.array(np.full(shape, 1.5), "float32"), backend.array(np.zeros(shape[0]), "int32")
    for found in (
        backend.call(hvp(cross_entropy), x, t, vector=x),
        backend.call(hvp(logsumexp), x, vector=x),
        backend.call(hessian_diagonal(logsumexp), x, b=x),
        backend.call(vjp(softmax), x)[1](x),
    ):
        assert_like(backend, found, x)
        assert shape == (1, 3) or not backend.numpy(found).any()


@EAGER
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
def test_options_of_no_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    """A derivative that is a sum over nothing is 0."""
    rows, classes = shape
    given = {
        "logits": np.zeros(shape),
        "labels": np.zeros(shape),
        "weight": np.ones(classes),
        "sample_weight": np.ones(rows),
        "label_smoothing": np.asarray(0.125),
        "smoothing_prior": np.ones(classes),
        "softcap": np.asarray(8.0),
        "z_loss": np.asarray(0.5),
    }
    placed_ = {name: backend.array(x, "float32") for name, x in given.items()}
    for name, found in zip(given, backend.call(grad(cross_entropy, tuple(given)), **placed_), strict=True):
        assert_equal(backend, found, np.zeros_like(given[name], dtype="float32"))


@EAGER
def test_every_integer_dtype_of_labels(backend: Backend, int_dtype: str) -> None:
    x = backend.array(X, "float32")
    vector = backend.array(VECTOR[:3], "float32")
    for function in (value_and_grad(cross_entropy), partial(hvp(cross_entropy), vector=vector)):
        found = backend.call(function, x, backend.array([2, 1, 0], int_dtype))
        assert_same(backend, found, backend.call(function, x, backend.array([2, 1, 0], "int32")))


@pytest.mark.dtypes("float16", "bfloat16")
@pytest.mark.parametrize("name", ["where-classes", "temperature"])
def test_halves(backend: Backend, dtype: str, name: str) -> None:
    """float32 losses; derivatives in the dtype of halves, correctly rounded but for ties."""
    case = BY_NAME[name]
    arguments = arguments_of(backend, case, dtype) | {"reduction": "sum"}
    loss, found = backend.call(value_and_grad(cross_entropy), **arguments)
    assert backend.numpy(loss).dtype == "float32"
    assert_like(backend, found, arguments["logits"])
    value = exact(case, dtype).gradient("logits").value
    assert ulps.error(backend.numpy(found), value, dtype).max() <= ROUNDED_ONCE
    if backend.library != "jax":
        squares = backend.call(hessian_diagonal(cross_entropy), **arguments)
        assert_like(backend, squares, arguments["logits"])
        value = diagonal(exact_hessian(name)).value
        if dtype == "float16":  # bfloat16 rounds the offsets that `exact_hessian` was taken at
            assert ulps.error(backend.numpy(squares), value, dtype).max() <= ROUNDED_ONCE


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves_of_normalisers(backend: Backend, dtype: str) -> None:
    """Halves in, halves out, rounded once from float32; so is the cotangent that comes in."""
    x, g = (np.resize(values, (4, 5)).astype(numpy_dtype(dtype)) for values in ([0.5, -1.25, 2, 1], [1, -0.5, 0.25]))
    for function, pullback in ((softmax, oracle.softmax_vjp), (log_softmax, oracle.log_softmax_vjp)):
        value, pull = backend.call(vjp(function), backend.array(x))
        found = backend.call(pull, backend.array(g))
        assert backend.numpy(value).dtype.name == dtype
        assert backend.numpy(found).dtype.name == dtype
        sums = pullback(g, x)
        room = ROUNDED_ONCE * ulps.spacing(sums.value, dtype) + 8 * ulps.eps("float32") * sums.absolute
        assert np.all(ulps.difference(backend.numpy(found), sums.value, dtype) <= room)


@pytest.mark.backends("jax", "dask")
def test_numpy_arrays_may_stand_beside_those_of_jax_and_dask(backend: Backend) -> None:
    """§1.2, whichever of them they are: logits, labels, cotangent, vector."""
    x, t = single(X), np.asarray([2, 1, 0], dtype="int32")
    v = VECTOR[:3].astype("float32")
    ours, labels = backend.array(x), backend.array(t)
    expected = backend.call(value_and_grad(cross_entropy), ours, labels)
    assert_same(backend, backend.call(value_and_grad(cross_entropy), ours, t), expected)
    assert_same(backend, backend.call(value_and_grad(cross_entropy), x, labels), expected)
    expected = backend.call(hvp(cross_entropy), ours, labels, vector=backend.array(v))
    assert_same(backend, backend.call(hvp(cross_entropy), ours, t, vector=v), expected)
    expected = backend.call(vjp(softmax), ours)[1](backend.array(v))
    assert_same(backend, backend.call(vjp(softmax), ours)[1](v), expected)


# -- dask -------------------------------------------------------------------------------------------------------------


@pytest.mark.backends("dask")
def test_derivatives_are_cut_as_the_logits_are(backend: Backend) -> None:
    """By rows; class axes are made whole, since every class has a say in every derivative."""
    blocks = ((3, 4), (3,))
    given = {name: backend.array(x) for name, x in BY_NAME["soft"].arrays("float32").items()}
    given = {name: x.rechunk(blocks) for name, x in given.items()}
    v = backend.xp.from_array(VECTOR, chunks=(2, 3))
    by = backend.call(grad(cross_entropy, (0, 1)), **given)
    product = backend.call(hvp(cross_entropy), **given, vector=v)
    squares = backend.call(hessian_diagonal(cross_entropy), **given)
    pulled = backend.call(vjp(softmax), given["logits"])[1](v)
    assert {x.chunks for x in (*by, product, squares, pulled)} == {blocks}


@pytest.mark.backends("dask")
def test_an_unknown_batch_size(backend: Backend) -> None:
    """Rows chosen by a boolean array: nobody knows how many, and nothing has to."""
    x, t = np.resize(single(X), (ROWS, 3)), np.resize(np.asarray([2, 1, -1, 0]), ROWS)
    v, kept, weight = VECTOR.astype("float32"), np.asarray([1, 0, 1, 1, 0, 1, 1], dtype=bool), single([2.0, 1.0, 0.5])

    def chosen(array: NumPy) -> Array:
        lazy, choice = (backend.xp.from_array(one, chunks=(3, *one.shape[1:])) for one in (array, kept))
        return lazy[choice]

    rows, labels, vector = chosen(x), chosen(t), chosen(v)
    assert np.isnan(rows.shape[0])
    options: dict[str, Any] = {"ignore_index": -1, "label_smoothing": 0.125, "weight": weight}
    value, found = backend.call(value_and_grad(cross_entropy, (0, "weight")), rows, labels, **options)
    expected, derivatives = value_and_grad(cross_entropy, (0, "weight"))(x[kept], t[kept], **options)
    np.testing.assert_allclose(backend.numpy(value), expected, rtol=1e-6)
    for one, other in zip(found, derivatives, strict=True):
        np.testing.assert_allclose(backend.numpy(one), other, rtol=1e-6, atol=1e-9)
    product = backend.call(hvp(cross_entropy), rows, labels, vector=vector, reduction="none", **options)
    expected = hvp(cross_entropy)(x[kept], t[kept], vector=v[kept], reduction="none", **options)
    np.testing.assert_array_equal(backend.numpy(product), expected)
    pulled = backend.call(vjp(log_softmax), rows)[1](vector)
    np.testing.assert_array_equal(backend.numpy(pulled), vjp(log_softmax)(x[kept])[1](v[kept]))


@pytest.mark.backends("dask")
def test_blocks_of_unknown_size_that_do_not_match(backend: Backend) -> None:
    """One block of labels beside two of logits cannot be cut to fit: an error, and no labels used twice."""
    x, t, kept = single(X + X[:1]), np.asarray([2, 1, 0, 1]), np.asarray([True, False, True, False])
    rows = backend.xp.from_array(x, chunks=(2, 3))[backend.xp.from_array(kept, chunks=2)]
    labels = backend.xp.from_array(t, chunks=4)[backend.xp.from_array(kept, chunks=4)]
    with pytest.raises(ValueError, match="labels must"):
        backend.call(grad(cross_entropy), rows, labels)


# -- blocks of rows ---------------------------------------------------------------------------------------------------


def everything_of(backend: Backend, given: dict[str, Any], **options: Any) -> dict[str, NumPy]:
    """The value of a call and all its derivatives, by name."""
    by = tuple(name for name, x in given.items() if backend.numpy(x).dtype.kind == "f")
    value, pullback = vjp(cross_entropy, by)(**given, **options)
    seed = np.resize(COTANGENT, tuple(value.shape))
    found = dict(zip(by, pullback(backend.array(seed, "float32")), strict=True))
    vector = backend.array(np.resize(VECTOR, tuple(given["logits"].shape)), "float32")
    found["hvp"] = hvp(cross_entropy)(**given, **options, vector=vector)
    found["hessian_diagonal"] = hessian_diagonal(cross_entropy)(**given, **options)
    return {name: backend.numpy(x) for name, x in ({"value": value} | found).items()}


def assert_same_in_blocks(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], blocks: int, **options: Any
) -> None:
    """Bit for bit where a row or a logit has a number of its own; within rounding where rows are added up."""
    whole = everything_of(backend, given, **options)
    ours = backend_of(given["logits"])
    monkeypatch.setattr(ours, "entries", 1)
    _, cuts = ours._blocks({"logits": given["logits"]}, options.get("axis", -1))  # type: ignore[union-attr]
    assert len(cuts) == blocks
    cut = everything_of(backend, given, **options)
    for name, expected in whole.items():
        if expected.shape == whole["logits"].shape or expected.shape == whole["value"].shape:
            np.testing.assert_array_equal(cut[name], expected, err_msg=name)
        else:
            np.testing.assert_allclose(cut[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_rows_in_blocks(backend: Backend, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_in_blocks(backend, monkeypatch, arguments_of(backend, case), ROWS, reduction="none", check=False)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize(("shape", "axis", "rows"), [((2, 5, 3), -1, 5), ((5, 3, 2), 1, 5), ((3, 2, 4), 0, 4)], ids=str)
def test_blocks_are_cut_along_the_longest_axis(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axis: int, rows: int
) -> None:
    """Options that are the same along it are added up, others are cut with it."""
    batch = tuple(n for d, n in enumerate(shape) if d != axis % 3)
    longest = tuple(n if n == rows else 1 for n in batch)
    given = {
        "logits": np.resize(X, shape),
        "labels": np.resize([0.25, 0.5, 0.0, 1.0], shape),
        "sample_weight": np.resize([1.0, 0.5, 2.0], longest),
        "temperature": np.resize([0.5, 2.0], tuple(1 if n == rows else n for n in batch)),
        "weight": np.resize([2.0, 1.0, 0.5], shape[axis]),
        "softcap": np.asarray(8.0),
    }
    arrays = {name: backend.array(x, "float32") for name, x in given.items()}
    assert_same_in_blocks(backend, monkeypatch, arrays, rows, axis=axis, reduction="none")


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("reduction", ["mean", "sum_and_weight"])
def test_reductions_in_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    given = arguments_of(backend, REDUCED) | {"reduction": reduction}
    expected = value_and_grad(cross_entropy, ("logits", "weight"))(**given)
    monkeypatch.setattr(backend_of(given["logits"]), "entries", 1)
    value, (by_logits, by_weight) = value_and_grad(cross_entropy, ("logits", "weight"))(**given)
    assert_same(backend, (value, by_logits), (expected[0], expected[1][0]))
    np.testing.assert_allclose(backend.numpy(by_weight), backend.numpy(expected[1][1]), rtol=1e-6, atol=1e-6)
    assert grad(cross_entropy, ())(**given) == ()


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("name", WEIGHTS)
def test_sums_in_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = placed(backend, {"x": LOGITS, "where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True}
    seed = backend.array(COTANGENT, "float32")
    expected = vjp(logsumexp, by_weights(name))(**given)[1](seed)
    monkeypatch.setattr(backend_of(given["x"]), "entries", 1)
    found = vjp(logsumexp, by_weights(name))(**given)[1](seed)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6, atol=1e-6)
    assert_same(backend, found[0], expected[0])
