"""value_and_grad, grad, vjp, hvp, hessian_diagonal of cross_entropy on every backend, against exact derivatives.

First derivatives are held against the oracle's, second ones against its differences at 100 digits: entry by entry in
units of the last place where nothing cancels, against the terms of the exact sum elsewhere. Then reductions, argnums,
and partials. What wrong calls say is in test_gradient_errors.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal
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
    temperature_gap,
)
from exact_gradients import (
    EAGER,
    REDUCED,
    SHAPED,
    VECTOR,
    added_up,
    applied,
    arguments_of,
    assert_like,
    assert_same,
    diagonal,
    exact_by,
    exact_hessian,
    floor_of,
    placed,
    single,
    widest,
)
from mpmath import mp, mpf

from softxent import (
    cross_entropy,
    grad,
    hessian_diagonal,
    hvp,
    logsumexp,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from matrix import Backend

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # So does Dynamo, which makes an instance of Function for every rule that it traces.
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]

Array = Any
NumPy = np.ndarray[Any, Any]


# -- cross_entropy, one value a row -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("other", [0.5, -INF], ids=["finite", "infinite"])
@pytest.mark.parametrize("by", ["logits", "weight"])
def test_a_denominator_of_0_beside_a_loss(backend: Backend, by: str, other: float) -> None:
    """§4: a denominator of exactly 0 gives 0 with derivative 0, whatever the losses are."""
    logits, weight = single([[-1.25, other]]), single([0.0, 0.5])
    arguments = placed(backend, {"logits": logits, "weight": weight})
    labels = backend.array(np.asarray([0], dtype="int32"))
    value, found = backend.call(value_and_grad(cross_entropy, by), labels=labels, **arguments, label_smoothing=0.25)
    assert_equal(backend, value, np.asarray(0.0, dtype="float32"))
    assert not backend.numpy(found).any()


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
