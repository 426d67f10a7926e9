"""What Paddle does to the functions: backward, grad once and twice, programs made of them, tensors that stay constant.

First derivatives are held against exact ones (`derivatives`, `oracle`), second ones against finite differences of the
oracle. Collected where Paddle is asked for: `pytest --backend paddle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derivatives import BY_NAME, CASES, COTANGENT, NAMES, Case, assert_gradient, second_derivative, tangent
from every import DIFFERENTIABLE, EVERY, cotangent, expected

import softxent
from softxent import (
    cross_entropy,
    cross_entropy_from_probs,
    entropy_from_probs,
    hvp,
    linear_cross_entropy,
    logsumexp,
    softmax,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from matrix import Backend

pytestmark = pytest.mark.backends("paddle")

Array = Any


def arrays(backend: Backend, case: Case, dtype: str) -> dict[str, Array]:
    """The call's arguments; those that it is differentiated by are leaves."""
    given = {name: backend.array(array) for name, array in case.arrays(dtype).items()}
    for name in case.by:
        given[name].stop_gradient = False
    return given


def weighed(backend: Backend, arguments: dict[str, Array]) -> Array:
    """Σ cotangent · row."""
    options = {name: value for name, value in arguments.items() if name not in {"logits", "labels"}}
    losses = cross_entropy(arguments["logits"], arguments["labels"], reduction="none", **options)
    return (losses * backend.array(COTANGENT, backend.numpy(losses.detach()).dtype.name)).sum()


def leaf(backend: Backend, value: Any, dtype: str = "float32") -> Array:
    x = backend.array(value, dtype)
    x.stop_gradient = False
    return x


def test_confident_prediction(backend: Backend) -> None:
    """8.4967e-18 in float32, and its negative is the derivative at the target."""
    x = leaf(backend, [40, 0, 0])
    loss = cross_entropy(x, 0)
    loss.backward()
    assert float(loss) == pytest.approx(8.4967e-18, rel=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), [-8.4967e-18, 4.24835e-18, 4.24835e-18], rtol=1e-5)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradient_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    given = arrays(backend, case, dtype)
    weighed(backend, given).backward()
    for name in case.by:
        assert_gradient(case, name, backend.numpy(given[name].grad), dtype=dtype)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_function(backend: Backend, name: str) -> None:
    """Values and derivatives of NumPy."""
    function, (first, *others) = EVERY[name]
    value, pulled = expected(name)
    x = leaf(backend, first)
    found = function(x, *map(backend.array, others))
    paddle = backend.paddle  # type: ignore[attr-defined]
    (by,) = paddle.grad(found, x, backend.array(cotangent(value)))
    for one, right in ((found.detach(), value), (by, pulled)):
        np.testing.assert_allclose(one.numpy(), right, rtol=2e-6, atol=1e-6 * np.abs(right).max(initial=0))


TWICE = ("infinities", "soft", "soft-zeros", "temperature-classes", "everything")


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(backend: Backend, dtype: str, name: str) -> None:
    paddle, case = backend.paddle, BY_NAME[name]  # type: ignore[attr-defined]
    given = arrays(backend, case, dtype)
    moving = [given[one] for one in case.by]
    first = paddle.grad(weighed(backend, given), moving, create_graph=True)
    along = [backend.array(tangent(case, one), dtype) for one in case.by]
    projected = sum((g * t).sum() for g, t in zip(first, along, strict=True))
    found = paddle.grad(projected, moving, allow_unused=True)
    expected = second_derivative(case, case.by)
    for one, x in zip(case.by, found, strict=True):
        right = expected[one].astype(float)
        got = np.zeros_like(right) if x is None else backend.numpy(x)
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-13, err_msg=one)


def test_closed_forms(backend: Backend) -> None:
    """value_and_grad, vjp and hvp give what autograd gives."""
    paddle = backend.paddle  # type: ignore[attr-defined]
    x, labels = leaf(backend, [[0.5, -1.25, 2], [1, 1, -0.5]]), backend.array([2, 0], "int64")
    v = backend.array([[1, 2, -1], [0.5, 0, 1]], "float32")
    loss = cross_entropy(x, labels)
    (first,) = paddle.grad(loss, x, create_graph=True)
    value, gradient = value_and_grad(cross_entropy)(x.detach(), labels)
    np.testing.assert_allclose(value.numpy(), loss.numpy(), rtol=1e-6)
    np.testing.assert_allclose(gradient.numpy(), first.numpy(), rtol=1e-6)
    (second,) = paddle.grad((first * v).sum(), x)
    np.testing.assert_allclose(hvp(cross_entropy)(x.detach(), labels, vector=v).numpy(), second.numpy(), rtol=1e-5)
    (pulled,) = paddle.grad(softmax(x), x, v)
    np.testing.assert_allclose(vjp(softmax)(x.detach())[1](v).numpy(), pulled.numpy(), rtol=1e-5, atol=1e-7)


def test_what_is_constant(backend: Backend) -> None:
    """Tensors are constant unless told otherwise; inside no_grad all are."""
    paddle = backend.paddle  # type: ignore[attr-defined]
    assert softmax(backend.array([1, 2], "float32")).stop_gradient
    x = leaf(backend, [1, 2])
    assert not softmax(x).stop_gradient
    with paddle.no_grad():
        assert softmax(x).stop_gradient
    weight = backend.array([1, 2], "float32")
    cross_entropy(x, 0, weight=weight).backward()
    assert weight.grad is None


def test_by_products_are_differentiated(backend: Backend) -> None:
    x = leaf(backend, [[0.5, -1.25, 2], [1, 1, -0.5]])
    _, aux = cross_entropy(x, backend.array([2, 0]), aux=("lse",))
    aux["lse"].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), softmax(x.detach()).numpy(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")  # Paddle's own, of its own functions
@pytest.mark.parametrize("full_graph", [False, True])
def test_dynamic_to_static(backend: Backend, full_graph: bool) -> None:  # noqa: FBT001 - a parameter of the test
    paddle = backend.paddle  # type: ignore[attr-defined]
    value, labels = np.asarray([[0.5, -1.25, 2], [40, 0, 0]]), backend.array([2, 0])

    def loss(x: Array, t: Array) -> Array:
        return cross_entropy(x, t)

    if full_graph:  # which would translate the source of softxent, and cannot
        paddle.jit.ignore_module([softxent])
    static = paddle.jit.to_static(loss, full_graph=full_graph)
    x, eager = leaf(backend, value), leaf(backend, value)
    static(x, labels).backward()
    cross_entropy(eager, labels).backward()
    np.testing.assert_allclose(x.grad.numpy(), eager.grad.numpy(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")  # the same
def test_a_program_with_an_unknown_batch_size(backend: Backend) -> None:
    """Paddle has -1 for a size that is not known."""
    paddle = backend.paddle  # type: ignore[attr-defined]
    paddle.jit.ignore_module([softxent])

    def both(x: Array, t: Array, w: Array) -> Array:
        return cross_entropy(x, t) + linear_cross_entropy(x, w, t)

    specs = [
        paddle.static.InputSpec([None, 3]),
        paddle.static.InputSpec([None], "int64"),
        paddle.static.InputSpec([3, 3]),
    ]
    static, w = paddle.jit.to_static(both, full_graph=True, input_spec=specs), backend.array(np.eye(3), "float32")
    for rows in (1, 2, 3):
        x = backend.array([[0.5, -1.25, 2], [40, 0, 0], [1, 2, 3]][:rows], "float32")
        t = backend.array([2, 1, 0][:rows], "int64")
        np.testing.assert_allclose(static(x, t, w).numpy(), 2 * cross_entropy(x.numpy(), t.numpy()), rtol=1e-6)


def test_long_sums_keep_their_digits(backend: Backend) -> None:
    size = 70_000
    x = backend.array(np.zeros((size, 2)), "float32")
    for axis in (0, -1):
        found = logsumexp(x if axis == 0 else x.T, axis=axis)
        np.testing.assert_allclose(found.numpy(), np.log(size), rtol=2.0**-23)
    loss = cross_entropy(x, backend.array(np.zeros(size), "int64"), reduction="sum")
    assert float(loss) == pytest.approx(size * np.log(2.0), rel=2.0**-23)


def test_halves_of_almost_nothing(backend: Backend) -> None:
    """Paddle itself makes 4e-07 of 2e-26."""
    assert float(softmax(backend.array([60, 0], "float16")).astype("float32")[1]) == 0


def test_what_is_almost_nothing_is_something(backend: Backend) -> None:
    """Paddle's == takes 1e-20 for 0: a probability that small would cost nothing, a weight that small leave no mean."""
    found = logsumexp(backend.array([0.0, 0.0], "float32"), b=backend.array([1e-20, 1e-21], "float32"))
    np.testing.assert_allclose(found.numpy(), np.log(1.1e-20), rtol=1e-6)
    soft, zeros = np.asarray([[1e-20, 0], [0, 0]], dtype="float32"), np.zeros((2, 2), dtype="float32")
    found = cross_entropy(backend.array(zeros), backend.array(soft), reduction="none").numpy()
    np.testing.assert_allclose(found, [1e-20 * np.log(2), 0], rtol=1e-6)
    p = np.asarray([1e-20, 1.0], dtype="float32")
    found = entropy_from_probs(backend.array(p)).numpy()
    np.testing.assert_allclose(found, -1e-20 * np.log(1e-20), rtol=1e-6)
    x, labels = backend.array(np.asarray([[0.5, -1.25], [1, 1]], dtype="float32")), backend.array([0, 1], "int64")
    weights = np.asarray([1e-20, 3e-20], dtype="float32")
    weighed = cross_entropy(x, labels, sample_weight=backend.array(weights))
    np.testing.assert_allclose(
        weighed.numpy(), cross_entropy(x.numpy(), np.asarray([0, 1]), sample_weight=weights), rtol=1e-6
    )


def test_the_classic_loss(backend: Backend) -> None:
    p, y = np.asarray([[0.5, 0.25, 0.25]], dtype="float32"), np.asarray([[0.25, 0.75, 0.0]], dtype="float32")
    found = cross_entropy_from_probs(backend.array(p), backend.array(y))
    np.testing.assert_allclose(found.numpy(), np.mean(-np.sum(y * np.log(p), axis=1)), rtol=1e-6)
