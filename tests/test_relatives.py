"""focal_loss, poly_loss, generalized_cross_entropy: cross-entropy with another cost, so with all of its options.

The exact values put the cost in place of -log p in the oracle's rows. Exact gradients put a times the cost's slope in
place of a, which is held against differences at 100 digits first.
"""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, gradients
from derivatives import BY_NAME, COTANGENT, INF, NAN, Case, assert_close, exact, temperature_gap
from differences import gradient, second
from exact_gradients import EAGER, arguments_of, assert_like, floor_of, single
from mpmath import mp, mpf
from ulps import exactly

from softxent import (
    cross_entropy,
    focal_loss,
    generalized_cross_entropy,
    grad,
    hessian_diagonal,
    hvp,
    poly_loss,
    softmax,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any


class Relative(NamedTuple):
    """A loss, its parameter, and its cost and slope as functions of s = -log p, 1 - p and the parameter."""

    function: Any
    name: str
    value: float
    cost: Callable[[mpf, mpf, mpf], mpf]
    slope: Callable[[mpf, mpf, mpf], mpf]

    @property
    def options(self) -> dict[str, float]:
        return {self.name: self.value}


def focal_cost(s: mpf, lacking: mpf, gamma: mpf) -> mpf:
    return lacking**gamma * s


def focal_slope(s: mpf, lacking: mpf, gamma: mpf) -> mpf:
    if lacking == 0 or not mp.isfinite(s):  # where s / (1 - p) is 1, and p s 0
        return lacking**gamma
    return lacking**gamma + gamma * lacking ** (gamma - 1) * mp.exp(-s) * s


LOSSES = {
    "focal-0.5": Relative(focal_loss, "gamma", 0.5, focal_cost, focal_slope),
    "focal-2": Relative(focal_loss, "gamma", 2.0, focal_cost, focal_slope),
    "poly": Relative(
        poly_loss, "epsilon", 1.5, lambda s, lacking, e: s + e * lacking, lambda s, _, e: 1 + e * mp.exp(-s)
    ),
    "generalized": Relative(
        generalized_cross_entropy,
        "q",
        0.5,
        lambda s, _, q: (1 - mp.exp(-q * s)) / q,
        lambda s, _, q: mp.exp(-q * s),
    ),
}
NAMES = ("plain", "infinities", "where-logits", "soft-zeros", "soft-weight", "smoothing", "temperature", "everything")


def cost_of(e: oracle.Example, c: int, loss: Relative) -> tuple[mpf, mpf]:
    """The cost of a class, and its slope."""
    s, lacking, parameter = -e.d.log_p[c], e.d.others[c], mpf(loss.value)
    if not e.keep[c] and e.takes_part:  # it has the probability 0
        s, lacking = mpf("inf"), mpf(1)
    return loss.cost(s, lacking, parameter), loss.slope(s, lacking, parameter)


def row(e: oracle.Example, loss: Relative) -> mpf:
    if not e.takes_part:
        return mpf(0)
    if e.undefined:
        return mpf(NAN)
    costs = [a * cost_of(e, c, loss)[0] for c, a in enumerate(e.a) if a != 0]
    return e.s * sum(costs, mpf(0)) + e.z_part


@cache
def exact_rows(case_name: str, loss_name: str, dtype: str) -> Any:
    examples = exact(BY_NAME[case_name], dtype).examples
    with mp.workdps(oracle.DIGITS):
        return np.asarray([row(e, LOSSES[loss_name]) for e in examples], dtype=object)


def sloped(e: oracle.Example, loss: Relative) -> oracle.Example:
    """The same row with a times the slope in place of a: its cross-entropy has the gradient of the loss."""
    if not e.takes_part or e.undefined:
        return e
    changed = copy(e)
    changed.a = [a * cost_of(e, c, loss)[1] if a else a for c, a in enumerate(e.a)]
    return changed


@cache
def exact_gradient(case_name: str, loss_name: str, dtype: str, name: str = "logits") -> oracle.Sum:
    reference = copy(exact(BY_NAME[case_name], dtype))
    with mp.workdps(oracle.DIGITS):
        reference.examples = np.asarray([sloped(e, LOSSES[loss_name]) for e in reference.examples], dtype=object)
        return reference.gradient(name, COTANGENT)


def scalar_of(case: Case, loss: Relative) -> Callable[[dict[str, Any]], mpf]:
    """Σ cotangent · row as a function of arrays of mpf."""

    def function(arrays: dict[str, Any]) -> mpf:
        arrays = dict(arrays)
        changed = loss._replace(value=arrays.pop(loss.name)[()]) if loss.name in arrays else loss
        rows = [row(e, changed) for e in oracle.cross_entropy(**arrays).examples]
        return sum((mpf(g) * r for g, r in zip(COTANGENT, rows, strict=True) if not mp.isnan(r)), mpf(0))

    assert case.name
    return function


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case_name", ["plain", "soft-weight"])
def test_the_reference_itself(case_name: str, name: str) -> None:
    case = BY_NAME[case_name]
    expected = gradient(scalar_of(case, LOSSES[name]), case.arrays("float64"), "logits")
    found = exact_gradient(case_name, name, "float64").value
    assert np.all(abs(found - expected) < mpf(10) ** -25 * (1 + abs(expected)))


def gap_of(case: Case, loss: Relative, dtype: str) -> Any:
    """What the power adds to every row: γ times the error of 1 - p, and that of its logarithm as an exponent."""
    if loss.name != "gamma":
        return temperature_gap(case)
    lacking = [min((p for p in e.d.others if p > 0), default=mpf(1)) for e in exact(case, dtype).examples]
    return np.asarray([temperature_gap(case) + loss.value * (4 - mp.log(p)) if mp.isfinite(p) else 0 for p in lacking])


@EAGER
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case_name", NAMES)
def test_values_and_gradients(backend: Backend, dtype: str, case_name: str, name: str) -> None:
    assert_values_and_gradients(backend, dtype, case_name, name)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case_name", ["plain", "soft-zeros", "everything"])
def test_values_and_gradients_on_jax(backend: Backend, case_name: str, name: str) -> None:
    assert_values_and_gradients(backend, "float32", case_name, name)


def assert_values_and_gradients(backend: Backend, dtype: str, case_name: str, name: str) -> None:
    case, loss = BY_NAME[case_name], LOSSES[name]
    arguments = arguments_of(backend, case, dtype)
    rows, pullback = backend.call(vjp(loss.function), **arguments, **loss.options, reduction="none", check=False)
    exact_values, gap = exact_rows(case_name, name, dtype), gap_of(case, loss, dtype)
    floor = floor_of(backend)
    assert_close(
        backend.numpy(rows), oracle.Sum(exact_values, abs(exact_values)), dtype=dtype, gap=gap, floor=4 * floor
    )
    found = backend.call(pullback, backend.array(COTANGENT, dtype))
    assert_like(backend, found, arguments["logits"])
    of_rows = gap[:, None] if isinstance(gap, np.ndarray) else gap
    expected = exact_gradient(case_name, name, dtype)
    assert_close(backend.numpy(found), expected, dtype=dtype, gap=of_rows, floor=4 * floor)


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case_name", ["plain", "infinities", "soft-zeros", "where-logits"])
def test_automatic_differentiation(backend: Backend, case_name: str, name: str) -> None:
    """Of the value on torch, by the pullback on jax."""
    case, loss = BY_NAME[case_name], LOSSES[name]
    arguments = arguments_of(backend, case)
    logits = arguments.pop("logits")

    def rows(x: Array) -> Array:
        return loss.function(x, **arguments, **loss.options, reduction="none", check=False)

    (found,) = gradients(backend, rows, logits, cotangent=COTANGENT)
    gap = gap_of(case, loss, "float32")
    of_rows = gap[:, None] if isinstance(gap, np.ndarray) else gap
    expected = exact_gradient(case_name, name, "float32")
    assert_close(found, expected, dtype="float32", gap=4 + of_rows, floor=4 * floor_of(backend))


VECTOR = np.resize([1.0, -0.5, 2.0, 0.25, -1.5], (7, 3))


@cache
def exact_product(case_name: str, loss_name: str) -> Any:
    case = BY_NAME[case_name]
    return second(scalar_of(case, LOSSES[loss_name]), case.arrays("float64"), "logits", VECTOR)


@EAGER
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case_name", ["temperature", "soft-weight"])
def test_second_derivatives(backend: Backend, case_name: str, name: str) -> None:
    """Hvp against differences; the diagonal against hvp along each class."""
    case, loss = BY_NAME[case_name], LOSSES[name]
    dtype = "float64" if "float64" in backend.floats else "float32"
    arguments = arguments_of(backend, case, dtype)
    arguments["sample_weight"] = backend.array(COTANGENT * case.arrays(dtype).get("sample_weight", 1.0), dtype)
    given = {**arguments, **loss.options, "reduction": "sum"}
    product = backend.call(hvp(loss.function), **given, vector=backend.array(VECTOR, dtype))
    expected = exact_product(case_name, name)
    # What cross-entropy has there is one of the terms, the cost's bend makes up for part of it.
    of_spread = backend.call(hvp(cross_entropy), **arguments, reduction="sum", vector=backend.array(VECTOR, dtype))
    terms = abs(expected) + abs(exactly(backend.numpy(of_spread))) + mpf(10) ** -20
    absolute = np.max(terms, axis=-1, keepdims=True) + 0 * expected
    assert_close(backend.numpy(product), oracle.Sum(expected, absolute), dtype=dtype, gap=60.0)
    diagonal = backend.numpy(backend.call(hessian_diagonal(loss.function), **given))
    along = [
        backend.numpy(backend.call(hvp(loss.function), **given, vector=backend.array(np.resize(unit, (7, 3)), dtype)))
        for unit in np.eye(3)
    ]
    np.testing.assert_allclose(diagonal, np.stack([along[c][:, c] for c in range(3)], axis=-1), rtol=2e-5, atol=1e-9)


@EAGER
@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_by_parameter_and_alpha(backend: Backend, name: str) -> None:
    """By the parameter, a number for all or one a row; by alpha, which is no weight of the mean."""
    loss, case = LOSSES[name], BY_NAME["soft-weight"]
    arrays = {**case.arrays("float64"), loss.name: np.asarray(loss.value)}
    expected = gradient(scalar_of(case, loss), arrays, loss.name)
    given = {n: backend.array(x, "float32") for n, x in arrays.items()}
    given["sample_weight"] = backend.array(arrays["sample_weight"] * COTANGENT, "float32")
    found = backend.call(grad(loss.function, loss.name), **given, reduction="sum")
    assert_exact(backend, found, expected, ulp=200)
    by_row = {**given, loss.name: backend.array(np.full(7, loss.value), "float32")}
    rows = backend.call(grad(loss.function, loss.name), **by_row, reduction="sum")
    assert rows.shape == (7,)
    np.testing.assert_allclose(backend.numpy(rows).sum(), float(expected), rtol=1e-4)


X = single([[0.5, -1.25, 2], [1, 1, -0.5], [4, 0, 0]])


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_by_parameter_of_single_labels(backend: Backend, name: str) -> None:
    """Those of one-hot distributions."""
    loss, labels = LOSSES[name], np.asarray([2, 0, 1])
    by, parameter = grad(loss.function, loss.name), {loss.name: backend.array(loss.value, "float32")}
    hard, soft = (
        backend.numpy(backend.call(by, backend.array(X), target, **parameter, reduction="sum"))
        for target in (backend.array(labels, "int32"), backend.array(np.eye(3)[labels], "float32"))
    )
    assert hard != 0
    np.testing.assert_allclose(hard, soft, rtol=2e-6)


def test_alpha(backend: Backend) -> None:
    """It multiplies the costs as class weights do; the mean divides by these alone."""
    labels, alpha, weight = np.asarray([2, 0, 1]), single([0.25, 0.5, 1.0]), single([1.0, 2.0, 0.5])
    x, y = backend.array(X), backend.array(labels, "int32")
    given = {"alpha": backend.array(alpha), "weight": backend.array(weight), "gamma": 2.0}
    rows = backend.call(focal_loss, x, y, **given, reduction="none")
    plain = backend.call(focal_loss, x, y, gamma=2.0, reduction="none")
    factor = alpha[labels] * weight[labels]
    assert_exact(backend, rows, backend.numpy(plain).astype("float64") * factor, ulp=2)
    mean = backend.call(focal_loss, x, y, **given)
    assert_exact(backend, mean, backend.numpy(rows).astype("float64").sum() / weight[labels].sum())
    by_alpha = backend.call(grad(focal_loss, "alpha"), x, y, **given, reduction="sum")
    expected = np.zeros(3)
    np.add.at(expected, labels, backend.numpy(plain).astype("float64") * weight[labels])
    assert_exact(backend, by_alpha, expected)
    soft = backend.array(np.eye(3)[labels], "float32")
    of_soft = backend.call(value_and_grad(focal_loss, ("alpha", "weight")), x, soft, **given, reduction="sum")
    of_hard = backend.call(value_and_grad(focal_loss, ("alpha", "weight")), x, y, **given, reduction="sum")
    for one, other in ((of_soft[0], of_hard[0]), *zip(of_soft[1], of_hard[1], strict=True)):
        assert_exact(backend, one, backend.numpy(other).astype("float64"))


@pytest.mark.parametrize(("function", "options"), [(focal_loss, {"gamma": 0.0}), (poly_loss, {"epsilon": 0.0})])
def test_cross_entropy_is_among_them(backend: Backend, function: Any, options: dict[str, float]) -> None:
    """γ = 0 and ε = 0, values and gradients; also where the label has all of the mass."""
    x = backend.array(single([[0.5, -1.25, 2], [200, 0, 0], [-200, 0, 0], [1, 1, 1]]))
    labels = backend.array([2, 0, 0, 1], "int32")
    value, slope = backend.call(value_and_grad(function), x, labels, **options, reduction="none")
    expected = backend.call(value_and_grad(cross_entropy), x, labels, reduction="none")
    assert_equal(backend, value, backend.numpy(expected[0]))
    assert_exact(backend, slope, backend.numpy(expected[1]).astype("float64"), ulp=1)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_gradients_are_finite(backend: Backend, gamma: float) -> None:
    """Where other implementations have NaN: p next to 1 with γ below 1, γ = 0, labels on a logit of -inf."""
    x = single([[0, -INF, 0], [300, 0, 0], [-300, 0, 0], [-INF, 0, 0]])
    labels = backend.array([0, 0, 0, 1], "int32")
    function = value_and_grad(focal_loss)
    value, slope = backend.call(function, backend.array(x), labels, gamma=gamma, reduction="none")
    assert np.isfinite(backend.numpy(value)).all()
    assert np.isfinite(backend.numpy(slope)).all()


def test_focal_keeps_the_hardest_examples(backend: Backend) -> None:
    """In keras the focal loss of clipped probabilities saturates at 16.118 and has no gradient there."""
    x, label = single([-60.0, 0, 0]), 0

    def clipped(x: Any) -> Any:
        p = np.clip(np.exp(x) / np.exp(x).sum(), 1e-7, 1 - 1e-7)[label]
        return (1 - p) ** 2 * -np.log(p)

    assert clipped(x) < 16.2
    assert clipped(x) == clipped(x - single([1.0, 0, 0]))
    value, slope = backend.call(value_and_grad(focal_loss), backend.array(x), label, gamma=2.0)
    assert_exact(backend, value, 60 + np.log(2.0), ulp=2)
    assert_exact(backend, slope, single([-1.0, 0.5, 0.5]))


def test_generalized_is_bounded(backend: Backend) -> None:
    """A label that cannot be costs 1 / q, and moves nothing."""
    x, labels = backend.array(single([[-INF, 0, 1], [0, 0, 0], [2, 1, 0]])), backend.array([0, 1, 0], "int32")
    value, slope = backend.call(value_and_grad(generalized_cross_entropy), x, labels, q=0.5, reduction="none")
    assert_exact(backend, value[0], 2.0)
    assert_equal(backend, slope[0, :], single([0, 0, 0]))


def test_by_products_come_along(backend: Backend) -> None:
    x, labels = backend.array(X), backend.array([2, 0, 1], "int32")
    loss, aux = backend.call(focal_loss, x, labels, aux=("lse", "correct"), reduction="none")
    assert_equal(backend, loss, backend.numpy(backend.call(focal_loss, x, labels, reduction="none")))
    expected = backend.call(cross_entropy, x, labels, aux=("lse", "correct"), reduction="none")[1]
    for name, array in aux.items():
        assert_equal(backend, array, backend.numpy(expected[name]))


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("name", LOSSES)
def test_many_rows(backend: Backend, name: str) -> None:
    """Through the blocks, and on torch through the gradient that is made with the loss."""
    loss, rng = LOSSES[name], np.random.default_rng(0)
    x, labels = rng.normal(size=(60_000, 10)).astype("float32"), rng.integers(0, 10, 60_000)
    value, slope = backend.call(value_and_grad(loss.function), backend.array(x), backend.array(labels), **loss.options)
    few = backend.call(
        value_and_grad(loss.function),
        backend.array(x[:50]),
        backend.array(labels[:50]),
        **loss.options,
        reduction="sum",
    )
    np.testing.assert_allclose(backend.numpy(slope)[:50] * 60_000, backend.numpy(few[1]), rtol=1e-5, atol=1e-9)
    if backend.name == "torch":
        leaf = backend.array(x).requires_grad_()
        loss.function(leaf, backend.array(labels), **loss.options).backward()
        np.testing.assert_allclose(leaf.grad.numpy(), backend.numpy(slope), rtol=1e-5, atol=1e-12)
    assert np.isfinite(backend.numpy(value))


ERRORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gamma must be finite and at least 0, got -1.0": (focal_loss, {"gamma": -1.0}),
    "gamma must be a number or an array, got None": (focal_loss, {"gamma": None}),
    "alpha must have shape (3,)": (focal_loss, {"alpha": single([1.0, 2.0])}),
    "epsilon must be finite": (poly_loss, {"epsilon": INF}),
    "q must be from 0 to 1, got 1.5": (generalized_cross_entropy, {"q": 1.5}),
    "q must be from 0 to 1, got 0.0": (generalized_cross_entropy, {"q": 0.0}),
    "gamma must be a scalar or have the batch shape (3,)": (focal_loss, {"gamma": single([1.0, 2.0])}),
}


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("text", ERRORS)
def test_errors(backend: Backend, text: str) -> None:
    function, options = ERRORS[text]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        function(backend.array(X), backend.array([0, 1, 2]), **options)
    assert str(error.value).startswith(text)


def test_softmax_of_the_gradient(backend: Backend) -> None:
    """The gradient of the loss for q = 1 is that of 1 - p: minus the row of softmax's Jacobian."""
    x, labels = backend.array(X), backend.array([2, 0, 1], "int32")
    found = backend.call(grad(generalized_cross_entropy), x, labels, q=1.0, reduction="sum")
    seed = backend.array(-np.eye(3)[[2, 0, 1]], "float32")
    assert_exact(backend, found, backend.numpy(backend.call(vjp(softmax), x)[1](seed)).astype("float64"), ulp=8)
