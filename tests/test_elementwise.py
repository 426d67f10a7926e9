"""The sigmoid family: values, slopes and curvatures to the last digits in both tails, on every library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import differences
import numpy as np
import oracle
import pytest
import ulps
from checks import assert_exact, call, default_float, gradients
from derivatives import INF, NAN, assert_close, assert_ulps
from exact_gradients import assert_like, assert_same, floor_of, single, widest
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES, numpy_dtype
from mpmath import mp, mpf

from softxent import hessian_diagonal, hvp, log_sigmoid, logit, sigmoid, softplus, value_and_grad, vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]


# -- exact ------------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A function, itself and its first two derivatives in mpmath, and where these are asked for.

    ``terms`` are the absolute values of what the second derivative is the sum of: p² q and p q² for sigmoid.
    """

    function: Callable[..., Array]
    value: Callable[[mpf], mpf]
    slope: Callable[[mpf], mpf]
    curvature: Callable[[mpf], mpf]
    terms: Callable[[mpf], mpf]
    grid: tuple[float, ...]


def p(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def pq(x: mpf) -> mpf:
    return p(x) * p(-x)


def odds(x: mpf) -> mpf:
    """Of p: p / (1 - p), NaN for what is no probability."""
    return mp.nan if not 0 <= x <= 1 else mp.inf if x == 1 else x / (1 - x)


def spread(x: mpf) -> mpf:
    """Its slope by p over itself: 1 / (p (1 - p))."""
    return mp.nan if not 0 <= x <= 1 else mp.inf if x in {0, 1} else 1 / (x * (1 - x))


HALF = (0.0, 2.0**-149, 1e-30, 2.0**-20, 0.125, 0.75, 1.0, 2.5, 10.0, 17.5, 30.0, 88.0, 100.0, 700.0, 1e4, INF)
REAL = (*(-x for x in HALF), *HALF, NAN)
NEAR_HALF = (0.5, 0.5 - 2.0**-25, 0.5 + 2.0**-24, 0.5 - 1e-4, 0.5 + 1e-4, 0.25, 0.75, 0.2499, 0.7501)
UNIT = (-INF, -1.0, -(2.0**-10), 0.0, 2.0**-126, 1e-30, 1e-3, 0.1, 0.9, 0.999, 1 - 2.0**-24, 1.0, 1.5, INF, NAN)

KNOWN = {
    "sigmoid": Known(sigmoid, p, pq, lambda x: pq(x) * (p(-x) - p(x)), pq, REAL),
    "log_sigmoid": Known(log_sigmoid, lambda x: -mp.log1p(mp.exp(-x)), lambda x: p(-x), lambda x: -pq(x), pq, REAL),
    "softplus": Known(softplus, lambda x: mp.log1p(mp.exp(x)), p, pq, pq, REAL),
    "logit": Known(
        logit,
        lambda x: mp.log(odds(x)),
        spread,
        lambda x: (2 * x - 1) * spread(x) ** 2,
        lambda x: (x**2 + (1 - x) ** 2) * spread(x) ** 2,
        (*UNIT, *NEAR_HALF),
    ),
}
EACH = pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)


def of(function: Callable[[mpf], mpf], x: NumPy) -> Any:
    """A function of mpmath's, of every entry."""
    with mp.workdps(oracle.DIGITS):
        return np.asarray(np.frompyfunc(function, 1, 1)(ulps.exactly(x)), dtype=object)


def grid(known: Known, dtype: str) -> NumPy:
    with np.errstate(all="ignore"):
        return np.asarray(known.grid).astype(numpy_dtype(dtype))


def assert_right(backend: Backend, result: Array, exact: Any, dtype: str, *, factor: float = 1.0) -> None:
    """Within 4 ULP, correctly rounded in halves; what XLA takes for 0 is, times a factor, next to nothing."""
    assert backend.owns(result)
    got = backend.numpy(result)
    assert got.dtype == numpy_dtype(dtype)
    assert_ulps(got, exact, dtype=dtype, bound=0.51 if dtype in HALVES else 4.0, floor=factor * floor_of(backend))


@EACH
def test_the_references_are_derivatives_of_each_other(known: Known) -> None:
    x = [t for t in known.grid if 1e-4 < abs(t) < 20 and not (known.function is logit and t >= 1)]
    given = {"x": np.asarray([t for t in x if t > 0 or known.function is not logit])}
    slope = differences.gradient(lambda given: np.sum(of(known.value, given["x"])), given, "x")
    bend = differences.second(lambda given: np.sum(of(known.value, given["x"])), given, "x", np.ones(given["x"].shape))
    for found, written in ((slope, known.slope), (bend, known.curvature)):
        exact = of(written, given["x"])
        assert np.all(abs(found - exact) <= mpf(10) ** -25 * (1 + abs(exact)))


# -- every library ----------------------------------------------------------------------------------------------------


@EACH
def test_values_and_slopes(backend: Backend, dtype: str, known: Known) -> None:
    x = grid(known, dtype)
    value, slope = backend.call(value_and_grad(known.function), backend.array(x))
    assert_right(backend, value, of(known.value, x), dtype)
    assert_right(backend, slope, of(known.slope, x), dtype)


@EACH
def test_a_value_by_itself(backend: Backend, known: Known) -> None:
    """The same bits, but on jax, which compiles the two apart."""
    x = backend.array(grid(known, "float32"))
    value = call(backend, known.function, x)
    assert_right(backend, value, of(known.value, grid(known, "float32")), "float32")
    if backend.library != "jax":
        assert_same(backend, value, backend.call(value_and_grad(known.function), x)[0])


@EACH
def test_pullback_and_second_derivatives(backend: Backend, known: Known) -> None:
    dtype = widest(backend)
    x = grid(known, dtype)
    g = np.resize(np.asarray([1.0, -0.5, 2.0, 0.25, -4.0], dtype=dtype), x.shape)
    given, cotangent = backend.array(x), backend.array(g)
    (found,) = backend.call(vjp(known.function, (0,)), given)[1](cotangent)
    assert_like(backend, found, given)
    assert_right(backend, found, of(known.slope, x) * ulps.exactly(g), dtype, factor=4.0)
    exact = of(known.curvature, x)
    assert_right(backend, backend.call(hessian_diagonal(known.function), given), exact, dtype)
    if dtype == "float64" or backend.library != "jax":  # whose floats overflow on the way
        along = backend.call(hvp(known.function), given, vector=cotangent)
        assert_right(backend, along, exact * ulps.exactly(g), dtype, factor=4.0)


@pytest.mark.backends("torch", "jax")
@EACH
def test_autodiff_is_right_to_second_order(backend: Backend, known: Known) -> None:
    """Large calls go by the rule on torch, small ones by the formula itself, which has to be as right."""
    dtype = widest(backend)
    for copies in (1, 2**15) if backend.library == "torch" else (1,):
        x = grid(known, dtype)
        (found,) = gradients(backend, known.function, backend.array(np.tile(x, (copies, 1))))
        assert_ulps(found[-1], of(known.slope, x), dtype=dtype, bound=4.0, floor=floor_of(backend))
        with np.errstate(over="ignore"):
            inner = x[np.isfinite(of(known.curvature, x).astype("float64").astype(dtype))]

        def slope(x: Array) -> Array:
            if backend.library == "torch":
                return backend.xp.autograd.grad(known.function(x).sum(), x, create_graph=True)[0]
            import jax

            return jax.grad(lambda x: known.function(x).sum())(x)

        (twice,) = gradients(backend, slope, backend.array(np.tile(inner, (copies, 1))))
        sums = oracle.Sum(of(known.curvature, inner), of(known.terms, inner))
        assert_close(twice[-1], sums, dtype=dtype, floor=floor_of(backend))


def test_softplus_at_0_has_the_slope_one_half(backend: Backend) -> None:
    """Where abs and maximum have a kink; on every library, by every way to ask."""
    for zero in (0.0, -0.0):
        x, half = backend.array([zero] * 3, "float32"), single([0.5] * 3)
        one = backend.array([1.0] * 3, "float32")
        assert_exact(backend, backend.call(value_and_grad(softplus), x)[1], half, ulp=0.0)
        assert_exact(backend, backend.call(vjp(softplus), x)[1](one), half, ulp=0.0)
        if backend.autodiff:
            np.testing.assert_array_equal(gradients(backend, softplus, x)[0], half)


@pytest.mark.parametrize("function", [sigmoid, log_sigmoid, softplus, logit])
def test_shapes_and_dtypes(backend: Backend, function: Callable[..., Array]) -> None:
    """0-d, empty, integers, bool, and a dtype that is asked for."""
    for shape in ((), (0,), (2, 0)):
        x = backend.array(np.full(shape, 0.25), "float32")
        assert backend.numpy(call(backend, function, x)).shape == shape
    whole = {"int8": [0, 1, 1], "bool": [False, True, True]}
    for dtype, x in whole.items():
        found = backend.numpy(call(backend, function, backend.array(x, dtype)))
        assert found.dtype == default_float(backend)
        again = backend.numpy(call(backend, function, backend.array(x, default_float(backend))))
        np.testing.assert_array_equal(found, again)
    wide = widest(backend)
    found = call(backend, function, backend.array([0.25, 0.5, 1.0], "float32"), dtype=wide)
    assert backend.numpy(found).dtype == wide


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("function", [sigmoid, log_sigmoid, softplus, logit])
def test_strides_do_not_matter(backend: Backend, function: Callable[..., Array]) -> None:
    x = single(np.linspace(0.0, 1.0, 24)).reshape(4, 6)
    expected = backend.numpy(function(backend.array(x[:, ::2].T.copy())))
    array = backend.array(x)[:, ::2].T
    np.testing.assert_array_equal(backend.numpy(function(array)), expected)


@pytest.mark.parametrize("bad", [[1.0], 1.0, "x", None])
def test_what_is_no_array_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="x must be an array, got"):
        sigmoid(bad)


@pytest.mark.backends("numpy", "torch")
def test_large_arrays_are_the_same(backend: Backend) -> None:
    """Blocks, threads and, on torch, NumPy at work: no entry is off by more than anywhere else."""
    x = single(np.random.default_rng(3).normal(size=300_000) * 20)
    for name in ("sigmoid", "softplus", "log_sigmoid"):
        function = KNOWN[name].function
        found = value_and_grad(function)(backend.array(x))
        exact = value_and_grad(function)(x.astype("float64"))
        # NumPy's exp of float32 is off by 2.4 ULP alone, which are nearly 5 where p (1 - p) is just below a power of 2.
        for result, right, bound in zip(found, exact, (4.0, 5.0 if function is sigmoid else 4.0), strict=True):
            unit = np.spacing(np.abs(right).astype("float32")).astype("float64")
            assert np.max(np.abs(backend.numpy(result) - right) / unit) <= bound


# -- laws -------------------------------------------------------------------------------------------------------------

REALS = st.lists(st.floats(-500, 500), min_size=4, max_size=4)


@given(values=REALS)
def test_laws_of_the_family(backends: list[Backend], values: list[float]) -> None:
    """sigmoid(x) + sigmoid(-x) = 1; softplus(x) - softplus(-x) = x; log_sigmoid(x) = -softplus(-x), to the bit."""
    for backend in backends:
        if "float64" not in backend.floats or backend.exact or backend.lazy or backend.library == "jax":
            continue
        x, minus = backend.array(values, "float64"), backend.array([-v for v in values], "float64")
        s, t, minus_s, one = (
            backend.numpy(backend.call(f, at))
            for f, at in ((softplus, x), (softplus, minus), (log_sigmoid, minus), (sigmoid, x))
        )
        np.testing.assert_allclose(s - t, values, rtol=4e-16, atol=4e-16)
        np.testing.assert_array_equal(minus_s, -s)
        np.testing.assert_allclose(one + backend.numpy(backend.call(sigmoid, minus)), 1.0, rtol=4e-16)


@given(values=st.lists(st.floats(-30, 3), min_size=4, max_size=4))
def test_logit_undoes_sigmoid(values: list[float]) -> None:
    """As far as the condition number, 1 / (1 - p), lets it."""
    x = np.asarray(values)
    np.testing.assert_allclose(logit(sigmoid(x)), x, rtol=1e-14, atol=1e-14)


# -- faults of peers ---------------------------------------------------------------------------------------------------


@pytest.mark.backends("torch")
def test_softplus_has_no_threshold(backend: Backend) -> None:
    """In torch it is x from 20 on, with slope 1: half a million ULP off in float64 (NUMERICS)."""
    torch = backend.xp

    def of_torch(x: Array) -> Array:
        return torch.nn.functional.softplus(x)

    x = np.asarray([20.5, 25.0])
    exact, slope = of(KNOWN["softplus"].value, x), of(p, x)
    given = backend.array(x)
    assert np.min(ulps.error(backend.numpy(of_torch(given)), exact)) > 1e3
    assert np.min(ulps.error(gradients(backend, of_torch, given)[0], slope)) > 1e3
    assert_right(backend, softplus(given), exact, "float64")
    assert_ulps(gradients(backend, softplus, given)[0], slope, dtype="float64", bound=4.0)


def test_sigmoid_keeps_the_tail_of_its_slope() -> None:
    """From s (1 - s), as it is mostly written, nothing is left at x = 17 in float32."""

    def usual(x: NumPy) -> NumPy:
        s = 1 / (1 + np.exp(-x))
        return s * (1 - s)

    x = single([18.0, 60.0])
    assert np.all(usual(x) == 0)
    assert_ulps(value_and_grad(sigmoid)(x)[1], of(pq, x), dtype="float32", bound=4.0)
