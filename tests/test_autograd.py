"""HIPS autograd: grad, elementwise_grad and second derivatives by nesting, through every function."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from every import DIFFERENTIABLE, EVERY, LABELS, X, cotangent, expected

from softxent import cross_entropy, hvp, sigmoid, softmax, value_and_grad, vjp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matrix import Autograd

Array = Any

pytestmark = pytest.mark.backends("autograd")

LOST = 8.496708e-18  # log1p(2 exp(-40))


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """NumPy's, which autograd's backward pass would give its user."""
    with warnings.catch_warnings(action="error"), np.errstate(all="warn", under="ignore"):
        yield


def test_the_digits_that_everybody_loses(backend: Autograd) -> None:
    x = np.asarray([40, 0, 0], dtype="float32")
    loss, by_x = backend.autograd.value_and_grad(cross_entropy)(x, 0)
    np.testing.assert_allclose(loss, LOST, rtol=3e-7)
    np.testing.assert_allclose(by_x, [-LOST, LOST / 2, LOST / 2], rtol=3e-7)
    assert by_x.dtype == np.float32


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_grad(backend: Autograd, name: str) -> None:
    """What NumPy has in closed form, to the bit but for fenchel_young_loss and nll_loss, which are several calls."""
    function, (first, *others) = EVERY[name]
    value, pulled = expected(name)
    g = np.asarray(cotangent(value))
    found = backend.autograd.grad(lambda x: backend.autograd.numpy.sum(function(x, *others) * g))(first)
    assert found.dtype == first.dtype
    np.testing.assert_allclose(found, pulled, rtol=2e-6, atol=1e-6 * np.abs(pulled).max(initial=0))


# What is linear has no second derivative, nor has what a caller's own functions make of constants.
CURVED = [
    name for name in DIFFERENTIABLE if name not in {"fenchel_young_loss", "smooth_labels", "total_variation_from_probs"}
]


@pytest.mark.parametrize("name", CURVED)
def test_elementwise_grad_and_second_derivatives(backend: Autograd, name: str) -> None:
    """By nesting, against differences of first derivatives, in float64."""
    function, (first, *others) = EVERY[name]
    first = np.where(np.abs(first) == 40, 4.0, first).astype("float64") + 0.0625 * (name == "segment_softmax")
    others = [x.astype("float64") if x.dtype == np.float32 else x for x in others]
    slopes = backend.autograd.elementwise_grad(function)

    def gradient(x: Array) -> Array:
        return slopes(x, *others)

    along = np.resize(np.asarray([1, -0.5, 0.25, 2, 0.5]), first.shape)
    found = backend.autograd.grad(lambda x: backend.autograd.numpy.sum(gradient(x) * along))(first)
    step = 1e-5
    differences = (gradient(first + step * along) - gradient(first - step * along)) / (2 * step)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-6)


def test_third_derivatives(backend: Autograd) -> None:
    slope = backend.autograd.elementwise_grad
    x = np.asarray([0.0, 1.0, -3.0, 30.0])
    p = sigmoid(x)
    third = p * (1 - p) * (1 - 6 * p * (1 - p))
    np.testing.assert_allclose(slope(slope(slope(sigmoid)))(x), third, rtol=1e-9, atol=1e-15)


def test_jacobian_and_hessian(backend: Autograd) -> None:
    x = X[1].astype("float64")
    p = softmax(x)
    covariance = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(backend.autograd.jacobian(softmax)(x), covariance, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(backend.autograd.hessian(cross_entropy)(x, 0), covariance, rtol=1e-12, atol=1e-16)
    product = backend.autograd.hessian_vector_product(cross_entropy)(X, LABELS, np.ones_like(X))
    np.testing.assert_allclose(product, 0, atol=1e-8)


def test_several_arguments(backend: Autograd) -> None:
    """What is no box stays NumPy's; a temperature that is a number becomes one."""
    weight, t = np.asarray([1.0, 0.5, 2.0, 0.25], dtype="float32"), 2.0

    def loss(x: Array, weight: Array, t: Array) -> Array:
        return cross_entropy(x, LABELS, sample_weight=weight, temperature=t)

    found = backend.autograd.grad(loss, (0, 1, 2))(X, weight, t)
    _, exact = value_and_grad(cross_entropy, ("logits", "sample_weight", "temperature"))(
        X, LABELS, sample_weight=weight, temperature=np.asarray(t)
    )
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-12)


def test_sums_and_by_products(backend: Autograd) -> None:
    def sums(x: Array) -> Array:
        total, weight = cross_entropy(x, LABELS, reduction="sum_and_weight")
        return total / weight

    expected = value_and_grad(cross_entropy)(X, LABELS)[1]
    np.testing.assert_allclose(backend.autograd.grad(sums)(X), expected, rtol=1e-6, atol=1e-12)
    found = backend.autograd.grad(lambda x: cross_entropy(x, LABELS, aux="lse")[0])(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_closed_forms_inside_a_trace(backend: Autograd) -> None:
    """value_and_grad, vjp and hvp of boxes are differentiated as anything else is."""
    x, along = X[1].astype("float64"), np.asarray([1.0, -0.5, 0.25])
    total = backend.autograd.numpy.sum
    product = hvp(cross_entropy)(x, 0, vector=along)
    by_loss = backend.autograd.grad(lambda x: total(value_and_grad(cross_entropy)(x, 0)[1] * along))(x)
    np.testing.assert_allclose(by_loss, product, rtol=1e-12, atol=1e-15)
    again = backend.autograd.grad(lambda x: total(vjp(softmax)(x)[1](along) * along))(x)
    nested = backend.autograd.grad(
        lambda x: total(backend.autograd.elementwise_grad(lambda x: softmax(x) * along)(x) * along)
    )
    np.testing.assert_allclose(again, nested(x), rtol=1e-12, atol=1e-15)


def test_errors_read_what_is_in_the_box(backend: Autograd) -> None:
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        backend.autograd.grad(lambda x: cross_entropy(x, np.asarray([0, 3, 1, 0])))(X)
    soft = np.asarray([[0.5, 0.75, 0.25]])
    with pytest.raises(ValueError, match=r"labels must .* got 1.5 at position 0"):
        backend.autograd.grad(lambda q: cross_entropy(X[:1], q, check=True))(soft)


def test_forward_mode_is_not_there(backend: Autograd) -> None:
    with pytest.raises(TypeError, match=r"no forward mode on autograd; take autograd\.grad, or softxent\.vjp and hvp"):
        backend.autograd.make_jvp(cross_entropy)(X, LABELS)(X)
