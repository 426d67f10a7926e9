"""entr, rel_entr, xlogy, xlog1py: values as SciPy has them, and derivatives, which SciPy has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checks import assert_equal, assert_exact, assert_near, gradients
from derivatives import INF, NAN
from exact_gradients import single
from mpmath import mp, mpf
from ulps import exactly

from softxent import entr, grad, hessian_diagonal, hvp, rel_entr, value_and_grad, xlog1py, xlogy

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any

# Ordinary pairs, equal ones, neighbours, large ratios both ways.
X = single([0.5, 0.25, 1.0, 0.75, 1e-30, 1e30, 0.3])
Y = single([0.25, 0.25, 1.0000001, 0.5, 1e5, 1e-5, 0.30000004])
EXACT: dict[Any, tuple[Callable[..., mpf], Callable[..., mpf], Callable[..., mpf] | None, Callable[..., mpf]]] = {
    entr: (lambda x: -x * mp.log(x), lambda x: -mp.log(x) - 1, None, lambda x: -1 / x),
    rel_entr: (
        lambda x, y: x * mp.log(x / y),
        lambda x, y: mp.log(x / y) + 1,
        lambda x, y: -x / y,
        lambda x, _: 1 / x,
    ),
    xlogy: (lambda x, y: x * mp.log(y), lambda _, y: mp.log(y), lambda x, y: x / y, lambda _x, _y: mpf(0)),
    xlog1py: (
        lambda x, y: x * mp.log1p(y),
        lambda _, y: mp.log1p(y),
        lambda x, y: x / (1 + y),
        lambda _x, _y: mpf(0),
    ),
}
FUNCTIONS = pytest.mark.parametrize("function", EXACT, ids=lambda f: f.__name__)


def arguments(function: Any) -> tuple[Any, ...]:
    return (X,) if function is entr else (X, Y)


def each(rule: Callable[..., mpf], *arrays: Any) -> Any:
    with mp.workdps(60):
        return np.asarray(np.frompyfunc(rule, len(arrays), 1)(*map(exactly, arrays)), dtype=object)


@FUNCTIONS
def test_values_and_derivatives(backend: Backend, function: Any) -> None:
    """Within 4 ULP, by both arguments; a derivative log x ± 1 may cancel its 1."""
    given, (of, by_x, by_y, bend) = arguments(function), EXACT[function]
    arrays = [backend.array(x) for x in given]
    names = (0,) if by_y is None else (0, 1)
    value, found = backend.call(value_and_grad(function, names), *arrays)
    assert_exact(backend, value, each(of, *given))
    slopes = [each(by_x, *given)] + ([] if by_y is None else [each(by_y, *given)])
    for derivative, expected in zip(found, slopes, strict=True):
        np.testing.assert_allclose(backend.numpy(derivative), expected.astype("float64"), rtol=5e-7, atol=1e-6)
    bent = backend.call(hessian_diagonal(function), *arrays)
    assert_exact(backend, bent, each(bend, *given))
    product = backend.call(hvp(function), *arrays, vector=backend.array(0 * X + 2))
    assert_exact(backend, product, 2 * each(bend, *given))


@pytest.mark.backends("autodiff")
@FUNCTIONS
def test_automatic_differentiation(backend: Backend, function: Any) -> None:
    given = tuple(x[[0, 1, 3]] for x in arguments(function))
    found = gradients(backend, function, *(backend.array(x) for x in given))
    for got, rule in zip(found, EXACT[function][1:3], strict=False):
        if rule is not None:
            assert_near(got, each(rule, *given), ulp=16)


def test_special_values(backend: Backend) -> None:
    x = single([0, 0, 0, 1, -1, 0, NAN])
    y = single([0, 1, NAN, 0, 1, -1, 1])
    found = backend.call(entr, backend.array(x))
    assert_equal(backend, found, single([0, 0, 0, 0, -INF, 0, NAN]))
    a, b = backend.array(x), backend.array(y)
    assert_equal(backend, backend.call(rel_entr, a, b), single([0, 0, NAN, INF, INF, INF, NAN]))
    assert_equal(backend, backend.call(xlogy, a, b), single([0, 0, NAN, -INF, 0, 0, NAN]) + single(0))
    c = backend.array(y - 1)
    assert_equal(backend, backend.call(xlog1py, a, c), single([0, 0, NAN, -INF, 0, 0, NAN]) + single(0))


def test_derivatives_at_zero(backend: Backend) -> None:
    """The limits, and 0 where there is no term."""
    x, y = backend.array(single([0, 0])), backend.array(single([0, 1]))
    assert_equal(backend, backend.call(grad(entr), y), single([INF, -1]))
    by_x, by_y = backend.call(grad(rel_entr, (0, 1)), x, y)
    assert_equal(backend, by_x, single([0, -INF]))
    assert_equal(backend, by_y, single([0, 0]))
    by_x, by_y = backend.call(grad(xlogy, (0, 1)), x, y)
    assert_equal(backend, by_x, single([-INF, 0]))
    assert_equal(backend, by_y, single([0, 0]))


@pytest.mark.backends("autodiff")
def test_derivatives_at_zero_by_automatic_differentiation(backend: Backend) -> None:
    """The same, on torch of the value."""
    x, y = backend.array(single([0, 0, 0])), backend.array(single([0, 1, 2]))
    for function, arrays in ((entr, (y,)), (rel_entr, (x, y)), (xlogy, (x, y)), (xlog1py, (x, y - 1))):
        expected = grad(function, tuple(range(len(arrays))))(*arrays)
        for got, other in zip(gradients(backend, function, *arrays), expected, strict=True):
            np.testing.assert_allclose(got, backend.numpy(other), rtol=1e-6)


def test_outside(backend: Backend) -> None:
    """Infinite and constant: the derivative is 0 there; next to it, where y = 0 alone, it is infinite."""
    x, y = backend.array(single([-1, 1, 1, 0])), backend.array(single([1, -1, 0, -1]))
    assert_equal(backend, backend.call(grad(entr), x)[:1], single([0]))
    by_x, by_y = backend.call(grad(rel_entr, (0, 1)), x, y)
    assert_equal(backend, by_x, single([0, 0, INF, 0]))
    assert_equal(backend, by_y, single([0, 0, -INF, 0]))


def test_tiny_ratios(backend: Backend) -> None:
    """Next to each other at the end of the range, and so far apart that their ratio is no number."""
    x, y = single([3e-37, 1e-30, 3e-20]), single([8e-37, 2e30, 2e-30])
    found = backend.call(rel_entr, backend.array(x), backend.array(y))
    assert_exact(backend, found, each(lambda a, b: a * mp.log(a / b), x, y))


@pytest.mark.backends("autodiff")
def test_derivatives_below_zero_by_automatic_differentiation(backend: Backend) -> None:
    """By y the slope is a ratio there too, where the value is NaN."""
    x, y = backend.array(single([1, -2, 0])), backend.array(single([-4, -0.5, -1]))
    for function, other in ((xlogy, y), (xlog1py, y - 1)):
        expected = backend.call(grad(function, "y"), x, other)
        assert_near(backend.numpy(expected), single([-0.25, 4, 0]))
        found = gradients(backend, function, x, other)[1]
        np.testing.assert_allclose(found, backend.numpy(expected), rtol=1e-6)


@pytest.mark.backends("autodiff")
def test_xlogy_of_one_argument_at_zero(backend: Backend) -> None:
    """D z log z at 0 is NaN in libraries where x / y is 0 / 0 there."""
    (found,) = gradients(backend, lambda z: xlogy(z, z), backend.array(single([0, 1, 2])))
    assert not np.isnan(found).any()
    assert_near(found[1:], single([1, np.log(2.0) + 1]))


def test_second_argument(backend: Backend) -> None:
    """A number, sizes of 1, another dtype; nothing larger than the first."""
    x = backend.array(single([[0.5, 1, 2], [3, 4, 5]]))
    assert_exact(backend, backend.call(xlogy, x, 2.0), backend.numpy(x).astype("float64") * np.log(2.0), ulp=2)
    column = backend.array(single([[2], [4]]))
    found = backend.call(grad(xlogy, "y"), x, column)
    assert_exact(backend, found, [[3.5 / 2], [12 / 4]])
    for wrong in (single([1, 2]), single([[1, 2]]), single([[[1, 2, 3]]])):
        with pytest.raises(ValueError, match="y must be a scalar or have the batch shape"):
            backend.call(xlogy, x, backend.array(wrong))
    if "float64" in backend.floats:
        both = backend.call(xlogy, x, backend.array([[2.0], [4.0]], "float64"))
        assert backend.numpy(both).dtype == np.float64


@pytest.mark.backends("jax")
@pytest.mark.dtypes("float64")
def test_log1p_of_xla_is_not_ours(backend: Backend, dtype: str) -> None:
    """It is off by a hundred units of float64 in this range."""
    y = np.linspace(-0.42, -0.29, 200)
    found = backend.call(xlog1py, backend.array(np.ones_like(y)), backend.array(y))
    assert_exact(backend, found, [mp.log1p(mpf(float(one))) for one in y], dtype)
