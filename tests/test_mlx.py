"""MLX: every function under grad, jvp, vmap and compile; laziness; digits that MLX's own exponential and sum lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checks import assert_exact
from every import DIFFERENTIABLE, EVERY, LABELS, X, cotangent, expected
from exact_gradients import assert_like
from mpmath import mp, mpf

from softxent import cross_entropy, hvp, logsumexp, softmax, value_and_grad, vjp
from softxent.backends import backend_of

if TYPE_CHECKING:
    from matrix import Backend

Array = Any

pytestmark = pytest.mark.backends("mlx")

LOST = 8.496708e-18  # log1p(2 exp(-40))


def close(backend: Backend, got: Any, expected: Any) -> None:
    """Within a few roundings of what NumPy has: entries are held against the largest of theirs."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(backend.numpy(got), expected, rtol=2e-6, atol=1e-6 * np.abs(expected).max(initial=0))


def arrays_of(backend: Backend, name: str) -> list[Array]:
    return [backend.array(x) for x in EVERY[name][1]]


def test_the_digits_that_everybody_loses(backend: Backend) -> None:
    mx, x, label = backend.xp, backend.array([40, 0, 0], "float32"), backend.array(0, "int32")
    assert_exact(backend, cross_entropy(x, label), mp.log1p(2 * mp.exp(-40)))
    loss, by_x = mx.value_and_grad(cross_entropy)(x, label)
    np.testing.assert_allclose(backend.numpy(loss), LOST, rtol=3e-7)
    np.testing.assert_allclose(backend.numpy(by_x), [-LOST, LOST / 2, LOST / 2], rtol=3e-7)
    assert_like(backend, by_x, x)
    for got, again in zip(value_and_grad(cross_entropy)(x, label), (loss, by_x), strict=True):
        np.testing.assert_array_equal(backend.numpy(got), backend.numpy(again))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(backend: Backend, name: str) -> None:
    """Backwards and forwards: what NumPy has in closed form."""
    mx, function = backend.xp, EVERY[name][0]
    first, *others = arrays_of(backend, name)
    value, pulled = expected(name)
    g = backend.array(cotangent(value))

    def total(x: Array) -> Array:
        return mx.sum(function(x, *others) * g)

    close(backend, function(first, *others), value)
    close(backend, mx.grad(total)(first), pulled)
    along = backend.array(np.resize(np.asarray([1, -0.5, 0.25, 2, 0.5], dtype="float32"), first.shape))
    directed = np.sum(np.asarray(pulled, dtype="float64") * backend.numpy(along))
    _, (pushed,) = mx.jvp(total, [first], [along])
    room = 1e-5 * np.abs(pulled).max(initial=0)
    np.testing.assert_allclose(float(pushed), directed, rtol=1e-5, atol=room)


@pytest.mark.parametrize("name", ["cross_entropy", "softmax"])
def test_compile(backend: Backend, name: str) -> None:
    """Of few: on a CPU, MLX has a C++ compiler make each of the kernels."""
    mx, function = backend.xp, EVERY[name][0]
    first, *others = arrays_of(backend, name)
    value, pulled = expected(name)
    g = backend.array(cotangent(value))
    close(backend, mx.compile(function)(first, *others), value)
    close(backend, mx.compile(mx.grad(lambda x: mx.sum(function(x, *others) * g)))(first), pulled)


SMOOTH = ("binary_cross_entropy", "cross_entropy", "entmax_loss", "focal_loss", "logsumexp", "sigmoid", "softplus")


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(backend: Backend, name: str) -> None:
    """The derivative of MLX's gradient along a vector, which is ours of ours, is what hvp has."""
    mx, function = backend.xp, EVERY[name][0]
    first, *others = arrays_of(backend, name)
    along = backend.array(np.resize(np.asarray([1, -0.5, 0.25, 2, 0.5], dtype="float32"), first.shape))

    def directed(x: Array) -> Array:
        return mx.sum(mx.grad(lambda x: mx.sum(function(x, *others)))(x) * along)

    got = backend.numpy(mx.grad(directed)(first))
    product = backend.numpy(hvp(function)(first, *others, vector=along))
    np.testing.assert_allclose(got, product, rtol=1e-5, atol=1e-6)


def test_vmap(backend: Backend) -> None:
    """Over rows, over labels alone, over both twice, and of gradients."""
    mx, x, labels = backend.xp, backend.array(X), backend.array(LABELS)
    rows = cross_entropy(x, labels, reduction="none")
    np.testing.assert_array_equal(backend.numpy(mx.vmap(cross_entropy)(x, labels)), backend.numpy(rows))
    close(backend, mx.vmap(softmax)(x), backend.numpy(softmax(x)))
    one = mx.vmap(lambda label: cross_entropy(x[1], label))(labels)
    close(backend, one, [backend.numpy(cross_entropy(x[1], label)) for label in labels])
    gradients = value_and_grad(cross_entropy)(x, labels, reduction="sum")[1]
    close(backend, mx.vmap(mx.grad(cross_entropy))(x, labels), backend.numpy(gradients))
    twice = mx.vmap(mx.vmap(cross_entropy))(mx.stack([x, x]), mx.stack([labels, labels]))
    np.testing.assert_array_equal(backend.numpy(twice), backend.numpy(mx.stack([rows, rows])))


def test_labels_in_a_trace_are_not_looked_at(backend: Backend) -> None:
    """A wrong one is an error outside, and NaN where it has no value; check=True says why it cannot look."""
    mx, x, wrong = backend.xp, backend.array(X), backend.array([0, 3, 1, 0], "int32")
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        cross_entropy(x, wrong)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        mx.grad(cross_entropy)(x, wrong)  # which are no part of the trace
    assert np.isnan(backend.numpy(mx.compile(cross_entropy)(x, wrong)))
    rows = backend.numpy(mx.vmap(cross_entropy)(x, wrong))
    np.testing.assert_array_equal(np.isnan(rows), [False, True, False, False])
    with pytest.raises(ValueError, match="check=True must read the values of labels"):
        mx.compile(lambda x, y: cross_entropy(x, y, check=True))(x, wrong)


def test_nothing_is_computed_before_it_is_asked_for(backend: Backend) -> None:
    """64 GiB of logits are no obstacle to a graph."""
    mx = backend.xp
    x = mx.zeros((2**20, 2**14))
    labels = mx.zeros((2**20,), dtype=mx.int32)
    before = mx.get_active_memory()
    loss, gradient = value_and_grad(cross_entropy)(x, labels, check=False)
    _, pullback = vjp(softmax)(x)
    assert loss.shape == ()
    assert gradient.shape == pullback(x).shape == x.shape
    assert mx.get_active_memory() - before < 2**20


@pytest.mark.dtypes("float32", "float64")
def test_exponential(backend: Backend, dtype: str) -> None:
    """MLX's own has 5 digits at -40 in either dtype, and none of what is subnormal."""
    ops = backend_of(backend.array([0.0], dtype))
    assert ops is not None
    lowest, highest = {"float32": (-103.0, 88.0), "float64": (-744.0, 709.0)}[dtype]
    points = np.asarray([0.0, -0.5, 0.3, -40.0, lowest, highest, *np.linspace(lowest, highest, 97)], dtype=dtype)
    assert_exact(backend, ops.exp(backend.array(points)), [mp.exp(mpf(float(x))) for x in points], dtype, ulp=1.0)
    special = backend.array([-np.inf, np.inf, np.nan, -1e30, 1e30], dtype)
    np.testing.assert_array_equal(backend.numpy(ops.exp(special)), [0, np.inf, np.nan, 0, np.inf])
    slopes = backend.numpy(backend.xp.grad(lambda x: backend.xp.sum(ops.exp(x)))(special))
    np.testing.assert_array_equal(slopes, [0, np.inf, np.nan, 0, np.inf])


def test_long_sums(backend: Backend) -> None:
    """MLX adds 100 000 numbers one by one, with an error of thousands of units."""
    x = backend.array(np.full((2, 100_003), 0.1), "float32")
    exact = mpf(float(np.float32(0.1))) + mp.log(100_003)
    assert_exact(backend, logsumexp(x), [exact, exact])
    ops = backend_of(x)
    assert ops is not None
    for axis, keepdims in ((None, False), (None, True), (-1, False), ((0, 1), True), ((0, 1), False)):
        got = backend.numpy(ops.sum(x, axis=axis, keepdims=keepdims))
        expected = np.sum(backend.numpy(x).astype("float64"), axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=3e-7)


def test_a_choice_keeps_infinity_out_of_the_other_side(backend: Backend) -> None:
    """MLX's own multiplies the derivative by 0, also forwards; ours is a choice, to every order."""
    mx, x = backend.xp, backend.array([1.0, 2.0], "float32")
    ops, left = backend_of(x), backend.array([True, False], "bool")
    assert ops is not None
    steep = backend.array([np.inf, 3.0], "float32")

    def weighed(x: Array) -> Array:
        return mx.sum(ops.where(left, 0.0, x) * steep)

    np.testing.assert_array_equal(backend.numpy(mx.grad(weighed)(x)), [0.0, 3.0])
    _, (pushed,) = mx.jvp(lambda x: ops.where(left, 0.0, x), [x], [steep])
    np.testing.assert_array_equal(backend.numpy(pushed), [0.0, 3.0])
    np.testing.assert_array_equal(backend.numpy(ops.where(left, 1, 2)), [1, 2])


def test_float64_is_of_the_cpu(backend: Backend) -> None:
    mx, x = backend.xp, backend.array([40, 0, 0], "float64")
    assert_exact(backend, cross_entropy(x, 0), mp.log1p(2 * mp.exp(-40)), "float64")
    assert softmax(backend.array([1.0, 2.0], "float32"), dtype="float64").dtype == mx.float64
