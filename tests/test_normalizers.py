"""softmax, log_softmax, softmin, logsumexp: examples, special values, regressions, on every backend."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, assert_near, call, default_float, gradients, hessian
from matrix import Backend, numpy_dtype

from softxent import log_softmax, logsumexp, softmax, softmin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INF, NAN = math.inf, math.nan
NORMALISERS = (softmax, log_softmax, softmin)
EXACT: dict[Any, Callable[..., Any]] = {
    softmax: oracle.softmax,
    log_softmax: oracle.log_softmax,
    softmin: oracle.softmin,
    logsumexp: lambda x, **options: oracle.logsumexp(x, **options)[0],
}
EVERY = pytest.mark.parametrize("function", list(EXACT), ids=lambda f: f.__name__)
AUTODIFF = pytest.mark.backends("autodiff")

X = np.array([[0.5, -1.0, 2.0], [3.0, 3.0, -4.0]])  # exact in every floating dtype
CUBE = np.arange(24.0).reshape(2, 3, 4) % 7 - 3 + np.arange(3.0).reshape(3, 1) / 4


# -- dtypes and libraries ---------------------------------------------------------------------------------------------


@EVERY
def test_every_floating_dtype_in_and_out(backend: Backend, dtype: str, function: Any) -> None:
    result = call(backend, function, backend.array(X, dtype))
    assert_exact(backend, result, EXACT[function](X), dtype)


@EVERY
def test_every_integer_dtype_is_promoted_before_anything_else(backend: Backend, int_dtype: str, function: Any) -> None:
    info = np.iinfo(int_dtype)
    x = np.array([[info.min, info.max, 3], [1, 60, 2]], dtype=int_dtype)
    result = call(backend, function, backend.array(x))
    name = default_float(backend)
    promoted = x.astype(name).astype(np.float64)
    assert_exact(backend, result, EXACT[function](promoted), name)


@EVERY
def test_bool_logits_are_0_and_1(backend: Backend, function: Any) -> None:
    x = np.array([[True, False, True]])
    result = call(backend, function, backend.array(x))
    assert_exact(backend, result, EXACT[function](x.astype(np.float64)), default_float(backend))


def test_classic_example(backend: Backend) -> None:
    result = call(backend, softmax, backend.array([6.0, 6.0, -6.0], "float32"))
    assert_exact(backend, result, [0.4999984639516306, 0.4999984639516306, 3.0720967388567383e-06])


@EVERY
def test_dtype_by_name_and_by_object_is_cast_to_before_the_arithmetic(backend: Backend, function: Any) -> None:
    x = [[2**24 + 1, 2**24, 0]]  # float32 holds 2**24 for both
    rounded = np.array(x, dtype=np.float32).astype(np.float64)
    given = backend.array(x, "int32")
    for dtype in ("float32", backend.dtype("float32")):
        assert_exact(backend, call(backend, function, given, dtype=dtype), EXACT[function](rounded))
    if "float64" in backend.floats:
        for dtype in ("float64", backend.dtype("float64")):
            result = call(backend, function, given, dtype=dtype)
            assert_exact(backend, result, EXACT[function](np.array(x, dtype=np.float64)), "float64")


@pytest.mark.dtypes("float16", "bfloat16")
@EVERY
def test_dtype_is_the_only_way_up_from_halves(backend: Backend, dtype: str, function: Any) -> None:
    result = call(backend, function, backend.array(X, dtype), dtype="float32")
    assert_exact(backend, result, EXACT[function](X))


@EVERY
def test_dtype_may_go_down(backend: Backend, function: Any) -> None:
    if "float16" in backend.floats:
        result = call(backend, function, backend.array(X, "float32"), dtype="float16")
        assert_exact(backend, result, EXACT[function](X), "float16")


@pytest.mark.backends("numpy")
@EVERY
@pytest.mark.parametrize("asked", [np.float32, np.dtype(np.float32), "float32"], ids=["class", "dtype", "name"])
def test_numpy_dtypes_may_be_classes(backend: Backend, function: Any, asked: Any) -> None:
    assert_exact(backend, function(backend.array(X, "float64"), dtype=asked), EXACT[function](X))


@cache
def long_rows(classes: int) -> Any:
    """Largest logits that tie, that stand alone, that all others are like; no differences that would be rounded."""
    x = (np.random.default_rng(0).normal(size=(5, classes)) * 64).round() / 64
    x[1, ::7] = 5
    x[2, :] = -1.25
    x[3, 5] = 40  # almost all of the mass
    x[4, 3:] = -INF
    return x


@cache
def exact_on_long_rows(function: Any, classes: int) -> Any:
    return EXACT[function](long_rows(classes))


@pytest.mark.parametrize("function", [log_softmax, logsumexp])
@pytest.mark.parametrize("classes", [32, 33, 1_025])
def test_rows_are_exact_whatever_their_length(backend: Backend, function: Any, classes: int) -> None:
    """Backends take longer ones in another way."""
    x = long_rows(classes).astype(np.float32)
    assert_exact(backend, call(backend, function, backend.array(x)), exact_on_long_rows(function, classes))
    x[0, 1], x[4, 0] = NAN, INF
    found = backend.numpy(call(backend, function, backend.array(x)))
    assert np.isnan(found[0]).all()
    assert np.isnan(found[4]).all() if function is log_softmax else found[4] == INF


@pytest.mark.backends("numpy", "strict", "torch", "dask")
def test_other_arrays_never_raise_the_dtype(backend: Backend) -> None:
    x, b = backend.array(X, "float32"), np.array([[1.0, 2.0, 0.5], [1.0, 1.0, 3.0]])
    double = backend.array(b, "float64")
    assert_exact(backend, call(backend, logsumexp, x, b=double), oracle.logsumexp(X, b=b)[0])
    assert_exact(backend, call(backend, softmax, x, temperature=double), oracle.softmax(X, temperature=b), ulp=8)


def test_integer_weights_and_temperatures_are_cast(backend: Backend) -> None:
    x, b = backend.array(X, "float32"), np.array([3, 1, 2])
    assert_exact(backend, call(backend, logsumexp, x, b=backend.array(b, "int32")), oracle.logsumexp(X, b=b * 1.0)[0])
    result = call(backend, softmax, x, temperature=backend.array(2, "int32"))
    assert_exact(backend, result, oracle.softmax(X, temperature=2.0))
    result = call(backend, logsumexp, x, b=backend.array([True, False, True]))
    assert_exact(backend, result, oracle.logsumexp(X, b=np.array([1.0, 0.0, 1.0]))[0])


@pytest.mark.parametrize("function", NORMALISERS)
@pytest.mark.parametrize("name", ["jax", "dask"])
def test_numpy_arrays_may_stand_beside_jax_and_dask(name: str, function: Any, backends: list[Backend]) -> None:
    for backend in (b for b in backends if b.library == name):
        keep, heat = np.array([True, True, False]), np.array([[2.0], [0.5]], dtype=np.float32)
        result = call(backend, function, backend.array(X, "float32"), where=keep, temperature=heat)
        assert_exact(backend, result, EXACT[function](X, where=keep, temperature=heat))


@pytest.mark.backends("jax", "dask")
def test_options_decide_the_library_beside_numpy_logits(backend: Backend) -> None:
    result = call(backend, softmax, X.astype(np.float32), where=backend.array([True, True, False]))
    assert_exact(backend, result, oracle.softmax(X, where=np.array([True, True, False])))


@pytest.mark.backends("strict-device2", "strict-no-float64", "strict-no-x64")
def test_two_devices_are_an_error_naming_both(backend: Backend) -> None:
    elsewhere = backend.xp.asarray(np.array([True, True, False]), device=backend.xp.Device("CPU_DEVICE"))
    with pytest.raises(ValueError, match=r"(?s)where.*CPU_DEVICE") as caught:
        softmax(backend.array(X, "float32"), where=elsewhere)
    assert str(backend.device) in str(caught.value)


# -- the confident row ------------------------------------------------------------------------------------------------


@pytest.mark.dtypes("float32", "float64")
@EVERY
def test_confident_rows_keep_every_digit(backend: Backend, dtype: str, function: Any) -> None:
    x = np.array([[40.0, 0.0, 0.0], [0.0, -40.0, -41.0]])
    assert_exact(backend, call(backend, function, backend.array(x, dtype)), EXACT[function](x), dtype)


@AUTODIFF
@pytest.mark.dtypes("float32", "float64")
def test_derivatives_of_confident_rows_keep_every_digit(backend: Backend, dtype: str) -> None:
    x, g = np.array([[40.0, 0.0, 0.0]]), np.array([[2.0, 1.0, 1.0]])
    array = backend.array(x, dtype)
    assert_near(gradients(backend, softmax, array, cotangent=g)[0], oracle.softmax_vjp(g, x).value, dtype, ulp=8)
    only_first = np.array([[1.0, 0.0, 0.0]])
    expected = oracle.log_softmax_vjp(only_first, x).value
    assert_near(gradients(backend, log_softmax, array, cotangent=only_first)[0], expected, dtype, ulp=8)


@AUTODIFF
def test_softmax_with_an_all_ones_cotangent_has_derivative_0(backend: Backend) -> None:
    (g,) = gradients(backend, softmax, backend.array(X, "float32"))
    assert (np.abs(g) <= 4 * 2.0**-24 * np.asarray(oracle.softmax(X), dtype=float)).all()


# -- special values ---------------------------------------------------------------------------------------------------

P0, P2 = 0.2689414213699951, 0.7310585786300049  # softmax of 0 beside 1
L0, L2 = -1.3132616875182228, -0.31326168751822286
LSE = 1.3132616875182228
G = (1.0, 2.0, -4.0)  # cotangent of softmax and log_softmax
MEAN = P0 * G[0] + P2 * G[2]


class Special(NamedTuple):
    """A row, its mask, and what SEMANTICS §2 says of it; derivatives pulled back from G, that of logsumexp from 1."""

    row: tuple[float, ...]
    where: tuple[bool, ...] | None
    softmax: tuple[float, ...]
    log_softmax: tuple[float, ...]
    logsumexp: float
    by_softmax: tuple[float, ...]
    by_log_softmax: tuple[float, ...]
    by_logsumexp: tuple[float, ...]


ABSENT = (
    (P0, 0.0, P2),
    (L0, -INF, L2),
    LSE,
    (P0 * (G[0] - MEAN), 0.0, P2 * (G[2] - MEAN)),
)
NOWHERE = ((0.0,) * 3, (-INF,) * 3, -INF, (0.0,) * 3, (0.0,) * 3, (0.0,) * 3)
UNKNOWN = (NAN,) * 3
# log_softmax lets the own cotangent of an entry of -inf through; a masked entry's is cut off with it.
PASSED = (G[0] + P0, G[1], G[2] + P2)  # g_i - p_i Σg, Σg = -1
CUT = (G[0] + 3 * P0, 0.0, G[2] + 3 * P2)  # the same with Σg = -3 over the classes kept

SPECIAL = {
    "-inf among finite": Special((0.0, -INF, 1.0), None, *ABSENT, PASSED, (P0, 0.0, P2)),
    "all masked": Special((5.0, 6.0, 7.0), (False,) * 3, *NOWHERE),
    "all masked, NaN and inf": Special((NAN, INF, -INF), (False,) * 3, *NOWHERE),
    "all -inf": Special((-INF,) * 3, None, UNKNOWN, UNKNOWN, -INF, UNKNOWN, UNKNOWN, (0.0,) * 3),
    "+inf": Special((0.0, INF, 1.0), None, UNKNOWN, UNKNOWN, INF, UNKNOWN, UNKNOWN, UNKNOWN),
    "+inf twice": Special((INF, INF, 1.0), None, UNKNOWN, UNKNOWN, INF, UNKNOWN, UNKNOWN, UNKNOWN),
    "+inf and -inf": Special((0.0, INF, -INF), None, UNKNOWN, UNKNOWN, INF, UNKNOWN, UNKNOWN, UNKNOWN),
    "NaN": Special((0.0, NAN, 1.0), None, UNKNOWN, UNKNOWN, NAN, UNKNOWN, UNKNOWN, UNKNOWN),
    "NaN first": Special((NAN, 0.0, 1.0), None, UNKNOWN, UNKNOWN, NAN, UNKNOWN, UNKNOWN, UNKNOWN),
    "NaN and +inf": Special((INF, NAN, 1.0), None, UNKNOWN, UNKNOWN, NAN, UNKNOWN, UNKNOWN, UNKNOWN),
    "NaN and -inf": Special((-INF, NAN, -INF), None, UNKNOWN, UNKNOWN, NAN, UNKNOWN, UNKNOWN, UNKNOWN),
} | {
    f"{masked} masked": Special((0.0, masked, 1.0), (True, False, True), *ABSENT, CUT, (P0, 0.0, P2))
    for masked in (NAN, INF, -INF, 1e30, 0.5)
}
special = pytest.mark.parametrize("case", SPECIAL.values(), ids=list(SPECIAL))

ABOVE, BELOW = (0.25, 0.0, -1.0), (2.0, 1.0, 2.0)  # ordinary rows around the special one


def around(case: Special) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    x = np.array([ABOVE, case.row, BELOW])
    return x, None if case.where is None else np.array([(True,) * 3, case.where, (True,) * 3])


def with_ordinary(exact: Any, middle: Any) -> Any:
    """Exact values of the ordinary rows, with those of the special row put between them."""
    rows = np.array(of_ordinary(exact), dtype=object)
    rows[1] = middle
    return rows


@cache
def of_ordinary(exact: Any) -> Any:
    return exact(np.array([ABOVE, ABOVE, BELOW]))


SEED = np.array([G, G, G])


def softmax_pulled(x: Any) -> Any:
    return oracle.softmax_vjp(SEED, x).value


def log_softmax_pulled(x: Any) -> Any:
    return oracle.log_softmax_vjp(SEED, x).value


@special
def test_special_values(backend: Backend, case: Special) -> None:
    x, where = around(case)
    array = backend.array(x, "float32")
    mask = None if where is None else backend.array(where)
    result = call(backend, softmax, array, where=mask)
    assert_exact(backend, result, with_ordinary(oracle.softmax, case.softmax))
    result = call(backend, log_softmax, array, where=mask)
    assert_exact(backend, result, with_ordinary(oracle.log_softmax, case.log_softmax))
    value, sign = call(backend, logsumexp, array, where=mask, return_sign=True)
    assert_exact(backend, value, with_ordinary(EXACT[logsumexp], case.logsumexp))
    expected = NAN if math.isnan(case.logsumexp) else 0.0 if case.logsumexp == -INF else 1.0
    assert_exact(backend, sign, [1.0, expected, 1.0])
    assert_exact(backend, call(backend, logsumexp, array, where=mask), with_ordinary(EXACT[logsumexp], case.logsumexp))


@AUTODIFF
@special
def test_derivatives_at_special_values(backend: Backend, case: Special) -> None:
    x, where = around(case)
    array = backend.array(x, "float32")
    mask = None if where is None else backend.array(where)
    (got,) = gradients(backend, partial(softmax, where=mask), array, cotangent=SEED)
    assert_near(got, with_ordinary(softmax_pulled, case.by_softmax), ulp=16)
    (got,) = gradients(backend, partial(log_softmax, where=mask), array, cotangent=SEED)
    assert_near(got, with_ordinary(log_softmax_pulled, case.by_log_softmax), ulp=16)
    (got,) = gradients(backend, partial(logsumexp, where=mask), array)
    assert_near(got, with_ordinary(oracle.softmax, case.by_logsumexp))


def test_softmin_at_special_values(backend: Backend) -> None:
    for case in (SPECIAL["-inf among finite"], SPECIAL["all masked, NaN and inf"], SPECIAL["+inf"]):
        x, where = around(case)
        mask = None if where is None else backend.array(where)
        result = call(backend, softmin, backend.array(-x, "float32"), where=mask)
        assert_exact(backend, result, with_ordinary(oracle.softmax, case.softmax))


@AUTODIFF
def test_second_derivatives_beside_minus_inf_and_masks_are_finite(backend: Backend) -> None:
    p = np.array([P0, 0.0, P2])
    expected = np.diag(p) - np.outer(p, p)
    for row, where in (((0.0, -INF, 1.0), None), ((0.0, NAN, 1.0), backend.array([True, False, True]))):
        got = hessian(backend, partial(logsumexp, where=where), backend.array(row, "float32"))
        assert_near(got, expected, ulp=16)


@AUTODIFF
def test_derivatives_at_ties_are_those_of_the_function(backend: Backend) -> None:
    x = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    seed = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    array = backend.array(x, "float32")
    assert_near(gradients(backend, logsumexp, array)[0], oracle.softmax(x))
    assert_near(gradients(backend, softmax, array, cotangent=seed)[0], oracle.softmax_vjp(seed, x).value, ulp=16)
    expected = oracle.log_softmax_vjp(seed, x).value
    assert_near(gradients(backend, log_softmax, array, cotangent=seed)[0], expected, ulp=16)


# -- axes -------------------------------------------------------------------------------------------------------------

AXES = (0, 1, 2, -2, -3, (-1,), (0, 2), (2, 0), (2, 1, 0), None, ())


@cache
def exact_of_cube(function: Any, axis: Any) -> Any:
    return EXACT[function](CUBE, axis=axis)


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axes(backend: Backend, axis: Any) -> None:
    x = backend.array(CUBE, "float32")
    for function in EXACT:
        assert_exact(backend, call(backend, function, x, axis=axis), exact_of_cube(function, axis), ulp=8)


@EVERY
def test_the_last_axis_is_the_default(backend: Backend, function: Any) -> None:
    x = backend.array(CUBE, "float32")
    assert_equal(backend, call(backend, function, x), backend.numpy(call(backend, function, x, axis=-1)))


@pytest.mark.parametrize("axis", [0, -1, (1, 2), (2, 0), None, ()], ids=str)
def test_keepdims(backend: Backend, axis: Any) -> None:
    result = call(backend, logsumexp, backend.array(CUBE, "float32"), axis=axis, keepdims=True)
    assert_exact(backend, result, oracle.logsumexp(CUBE, axis=axis, keepdims=True)[0], ulp=8)


@pytest.mark.parametrize("axis", [-1, None, ()], ids=str)
def test_0_d_input_is_one_element(backend: Backend, axis: Any) -> None:
    x = backend.array(2.5, "float32")
    assert_exact(backend, call(backend, softmax, x, axis=axis), 1.0)
    assert_exact(backend, call(backend, log_softmax, x, axis=axis), 0.0)
    assert_exact(backend, call(backend, softmin, x, axis=axis), 1.0)
    assert_exact(backend, call(backend, logsumexp, x, axis=axis), 2.5, ulp=0)
    assert_exact(backend, call(backend, logsumexp, x, axis=axis, keepdims=True), 2.5, ulp=0)


def test_no_axis_normalises_each_element_alone(backend: Backend) -> None:
    x = backend.array([[1.0, -INF], [NAN, 3.0]], "float32")
    assert_exact(backend, call(backend, softmax, x, axis=()), [[1.0, NAN], [NAN, 1.0]])
    assert_exact(backend, call(backend, log_softmax, x, axis=()), [[0.0, NAN], [NAN, 0.0]])
    assert_exact(backend, call(backend, logsumexp, x, axis=()), [[1.0, -INF], [NAN, 3.0]], ulp=0)


def test_repeated_axes_are_an_error(backend: Backend) -> None:
    x = backend.array(CUBE, "float32")
    for function in EXACT:
        for axis in ((0, 0), (0, -3), (1, 2, -1)):
            with pytest.raises(ValueError, match="axis must name each axis once"):
                call(backend, function, x, axis=axis)


@pytest.mark.parametrize("axis", [(2, 0), None], ids=str)
def test_masks_weights_and_temperatures_follow_tuple_axes(backend: Backend, axis: Any) -> None:
    where = np.arange(24).reshape(2, 3, 4) % 3 > 0
    heat, b = np.array([[1.0], [2.0], [0.5]]), np.array([0.5, 2.0, 0.0, 1.0])  # broadcast against the cube as it is
    x, mask = backend.array(CUBE, "float32"), backend.array(where)
    result = call(backend, softmax, x, axis=axis, where=mask)
    assert_exact(backend, result, oracle.softmax(CUBE, axis=axis, where=where), ulp=8)
    result = call(backend, log_softmax, x, axis=axis, temperature=backend.array(heat, "float32"))
    assert_exact(backend, result, oracle.log_softmax(CUBE, axis=axis, temperature=heat), ulp=16)
    result = call(backend, logsumexp, x, axis=axis, where=mask, b=backend.array(b, "float32"))
    assert_exact(backend, result, oracle.logsumexp(CUBE, axis=axis, where=where, b=b)[0], ulp=8)


# -- where, temperature -----------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    "where",
    [True, [True, False, True], [[True, True, False]], [[True], [False]], [[True, True, False], [False, True, True]]],
    ids=str,
)
def test_where_broadcasts_as_in_numpy(backend: Backend, function: Any, where: Any) -> None:
    mask = where if where is True else backend.array(where)
    result = call(backend, function, backend.array(X, "float32"), where=mask)
    assert_exact(backend, result, EXACT[function](X, where=np.array(where)))


@EVERY
def test_where_as_a_number_and_a_0_d_array(backend: Backend, function: Any) -> None:
    x = backend.array([[1.0, NAN]], "float32")
    nothing = {softmax: [[0.0, 0.0]], softmin: [[0.0, 0.0]], log_softmax: [[-INF, -INF]], logsumexp: [-INF]}[function]
    for where in (False, backend.array(np.zeros((), dtype=bool))):
        assert_exact(backend, call(backend, function, x, where=where), nothing)


@pytest.mark.parametrize("function", NORMALISERS)
@pytest.mark.parametrize("heat", [0.5, [2.0], [[4.0], [0.25]], [[1.0, 2.0, 0.5]], [[1.0, 2.0, 4.0], [0.5, 1.0, 8.0]]])
def test_temperature_broadcasts_as_in_numpy(backend: Backend, function: Any, heat: Any) -> None:
    value = heat if isinstance(heat, float) else backend.array(heat, "float32")
    result = call(backend, function, backend.array(X, "float32"), temperature=value)
    assert_exact(backend, result, EXACT[function](X, temperature=np.array(heat)))


@pytest.mark.parametrize("function", NORMALISERS)
def test_temperature_as_a_number_and_as_arrays_is_the_same(backend: Backend, function: Any) -> None:
    x = backend.array(X, "float32")
    expected = backend.numpy(call(backend, function, x, temperature=0.5))
    for heat in (backend.array(0.5, "float32"), backend.array([[0.5], [0.5]], "float32")):
        assert_equal(backend, call(backend, function, x, temperature=heat), expected)
    expected = backend.numpy(call(backend, function, x))
    assert_equal(backend, call(backend, function, x, temperature=None, where=None), expected)
    assert_equal(backend, call(backend, function, x, temperature=1), expected)


@pytest.mark.parametrize("function", NORMALISERS)
def test_temperature_divides_after_the_shift(backend: Backend, function: Any) -> None:
    """No overflow for small T: 100 / 1e-37 has none left of the gap of 1e-36 · 10."""
    x = np.array([[100.0, 100.0, -INF]]) if function is not softmin else np.array([[100.0, 100.0, INF]])
    result = call(backend, function, backend.array(x, "float32"), temperature=1e-37)
    log_half = -0.6931471805599453
    assert_exact(backend, result, [[log_half, log_half, -INF]] if function is log_softmax else [[0.5, 0.5, 0.0]])
    x = np.array([[3e38, 3e38, 2e38]])
    result = call(backend, softmax, backend.array(x, "float32"), temperature=1e-3)
    assert_exact(backend, result, [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("function", NORMALISERS)
def test_temperature_that_is_not_positive(backend: Backend, function: Any) -> None:
    x = backend.array(np.array([X[0]] * 4), "float32")
    with pytest.raises(ValueError, match=r"temperature.*argmax"):
        call(backend, function, x, temperature=0)
    with pytest.raises(ValueError, match="temperature"):
        call(backend, function, x, temperature=-1.0)
    heat = np.array([[1.0], [0.0], [-2.0], [NAN]])
    expected = np.full((4, 3), NAN, dtype=object)
    expected[0] = EXACT[function](X[0])
    assert_exact(backend, call(backend, function, x, temperature=backend.array(heat, "float32")), expected)


@AUTODIFF
def test_derivatives_by_temperature(backend: Backend) -> None:
    """By T: (Σ_k p_k x_k - x_j) / T² for log p_j, here for two classes a gap apart; and finite where T is tiny."""
    t, gap = 0.5, 1.0
    p1 = 1 / (1 + math.exp(gap / t))
    (got,) = gradients(
        backend,
        lambda heat: log_softmax(backend.array([3.0, 2.0], "float32"), temperature=heat),
        backend.array(t, "float32"),
        cotangent=np.array([1.0, 0.0]),
    )
    assert_near(got, -p1 * gap / t**2, ulp=8)
    x = backend.array([100.0, 99.0, -INF], "float32")
    for where in (None, backend.array([True, True, False])):
        (got,) = gradients(
            backend,
            partial(lambda heat, where: softmax(x, temperature=heat, where=where), where=where),
            backend.array(1e-37, "float32"),
            cotangent=np.array([1.0, 2.0, 3.0]),
        )
        assert got == 0


@EVERY
def test_nothing_enlarges_the_logits(backend: Backend, function: Any) -> None:
    x = backend.array([[1.0, 2.0, 3.0]], "float32")
    for shape in ((2, 3), (1, 1, 3), (4,)):
        with pytest.raises(ValueError, match=r"where must broadcast to the logits' shape \(1, 3\)"):
            call(backend, function, x, where=backend.array(np.ones(shape, dtype=bool)))
        name = "b" if function is logsumexp else "temperature"
        with pytest.raises(ValueError, match=f"{name} must broadcast"):
            call(backend, function, x, **{name: backend.array(np.ones(shape), "float32")})


# -- empty, single, awkward in memory ---------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(("shape", "axis"), [((0, 3), -1), ((3, 0), -1), ((0,), -1), ((0, 0), 0), ((2, 0, 3), (0, 2))])
def test_empty_inputs(backend: Backend, function: Any, shape: tuple[int, ...], axis: Any) -> None:
    result = call(backend, function, backend.array(np.zeros(shape), "float32"), axis=axis)
    assert_exact(backend, result, EXACT[function](np.zeros(shape), axis=axis))


def test_logsumexp_over_no_entries_is_minus_inf(backend: Backend) -> None:
    for shape, axis, left in (((3, 0), -1, (3,)), ((0,), None, ()), ((0, 2), 0, (2,)), ((2, 0), (0, 1), ())):
        value, sign = call(backend, logsumexp, backend.array(np.zeros(shape), "float32"), axis=axis, return_sign=True)
        assert_exact(backend, value, np.full(left, -INF))
        assert_exact(backend, sign, np.zeros(left))
        weights = backend.array(np.ones(shape), "float32")
        value = call(backend, logsumexp, backend.array(np.zeros(shape), "float32"), axis=axis, b=weights)
        assert_exact(backend, value, np.full(left, -INF))


def test_a_single_class_has_probability_1(backend: Backend) -> None:
    x = backend.array([[7.0], [-3e38], [0.0]], "float32")
    assert_exact(backend, call(backend, softmax, x), [[1.0], [1.0], [1.0]], ulp=0)
    assert_exact(backend, call(backend, log_softmax, x), [[0.0], [0.0], [0.0]])
    assert_exact(
        backend, call(backend, logsumexp, x), np.array([7.0, -3e38, 0.0], dtype=np.float32).astype(float), ulp=0
    )
    heat = backend.array([[1.0], [0.0], [2.0]], "float32")
    assert_exact(backend, call(backend, softmax, x, temperature=heat), [[1.0], [NAN], [1.0]])


@pytest.mark.backends("numpy", "torch")
@EVERY
def test_views_that_are_not_contiguous(backend: Backend, function: Any) -> None:
    base = np.arange(60.0).reshape(5, 12) % 8 / 4
    x = backend.array(base, "float32")
    for index in ((slice(None), slice(None, None, 3)), (slice(1, None, 2), slice(2, 7)), (0,)):
        assert_exact(backend, function(x[index]), EXACT[function](base[index]))
    assert_exact(backend, function(x.T), EXACT[function](base.T))
    assert_exact(backend, function(x.T, axis=0), EXACT[function](base.T, axis=0), ulp=8)


@pytest.mark.backends("numpy")
@EVERY
def test_numpy_views_of_every_kind(backend: Backend, function: Any) -> None:
    base = np.arange(60.0, dtype=np.float32).reshape(5, 12) % 8 / 4
    for view in (base[::-1, ::-2], np.broadcast_to(base[0], (4, 12)), np.asfortranarray(base)):
        result = function(view)
        assert_exact(backend, result, EXACT[function](np.array(view, dtype=float)))


@pytest.mark.backends("numpy-readonly")
@EVERY
def test_memory_maps_give_plain_arrays(backend: Backend, function: Any, tmp_path: Path) -> None:
    X.astype(np.float32).tofile(tmp_path / "logits")
    mapped = np.memmap(tmp_path / "logits", dtype=np.float32, mode="r", shape=X.shape)
    result = function(mapped)
    assert type(result) is np.ndarray
    assert_exact(backend, result, EXACT[function](X))


@pytest.mark.backends("numpy")
@EVERY
def test_numpy_scalars_are_0_d_arrays(backend: Backend, function: Any) -> None:
    expected = {softmax: 1.0, softmin: 1.0, log_softmax: 0.0, logsumexp: 1.5}[function]
    assert_exact(backend, function(np.float32(1.5)), expected)
    assert_exact(backend, function(np.int8(1), axis=None), expected if function is not logsumexp else 1.0, "float64")


@EVERY
def test_inputs_are_never_written_to(backend: Backend, function: Any) -> None:
    x, where = np.array([[40.0, NAN, 1.0], [0.0, 0.0, -INF]]), np.array([[True, False, True], [True, True, True]])
    given, mask, other = backend.array(x, "float32"), backend.array(where), backend.array([2.0, 1.0, 0.5], "float32")
    name = "b" if function is logsumexp else "temperature"
    for axis in (-1, 0, None):
        call(backend, function, given, axis=axis)
        call(backend, function, given, axis=axis, where=mask)
        call(backend, function, given, axis=axis, where=mask, **{name: other})
    assert_equal(backend, given, x.astype(np.float32))
    assert_equal(backend, mask, where)
    assert_equal(backend, other, np.array([2.0, 1.0, 0.5], dtype=np.float32))
    if backend.library == "torch":
        assert (given._version, mask._version, other._version) == (0, 0, 0)


@pytest.mark.backends("numpy", "torch", "strict")
def test_a_result_is_never_the_input(backend: Backend) -> None:
    x = backend.array([[1.0], [2.0]], "float32")
    result = logsumexp(x, axis=())
    result += 1.0
    assert_equal(backend, x, np.array([[1.0], [2.0]], dtype=np.float32))


# -- logsumexp --------------------------------------------------------------------------------------------------------

LOG2, LOG3 = 0.6931471805599453, 1.0986122886681098


@pytest.mark.parametrize(
    ("x", "b", "value", "sign"),
    [
        ([0.0, 0.0], [1.0, 2.0], LOG3, 1),
        ([0.0, 0.0], [1.0, -3.0], LOG2, -1),
        ([0.0, 0.0], [-1.0, 1.0], -INF, 0),
        ([0.0, NAN], [2.0, 0.0], LOG2, 1),
        ([0.0, INF], [2.0, 0.0], LOG2, 1),
        ([0.0, INF], [2.0, 1.0], INF, 1),
        ([0.0, INF], [2.0, -1.0], INF, -1),
        ([INF, INF], [1.0, -1.0], NAN, NAN),
        ([INF, INF], [1.0, 2.0], INF, 1),
        ([INF, -INF], [-1.0, 1.0], INF, -1),
        ([-INF, -INF], [1.0, -1.0], -INF, 0),
        ([-INF, 0.0], [-5.0, 3.0], LOG3, 1),
        ([0.0, NAN], [1.0, 1.0], NAN, NAN),
        ([0.0, 0.0], [1.0, NAN], NAN, NAN),
        ([NAN, INF], [0.0, 0.0], -INF, 0),
        ([1000.0, 1000.0], [2.0, -1.0], 1000.0, 1),
        ([-1000.0, -1000.0], [-2.0, -1.0], LOG3 - 1000, -1),
    ],
    ids=str,
)
def test_logsumexp_with_weights(backend: Backend, x: Any, b: Any, value: float, sign: float) -> None:
    arrays = backend.array([x], "float32"), backend.array([b], "float32")
    found, direction = call(backend, logsumexp, arrays[0], b=arrays[1], return_sign=True)
    assert_exact(backend, found, [value])
    assert_exact(backend, direction, [float(sign)])
    plain = call(backend, logsumexp, arrays[0], b=arrays[1])
    assert_exact(backend, plain, [NAN if sign == -1 else value])


@AUTODIFF
def test_derivatives_of_logsumexp_with_weights(backend: Backend) -> None:
    """By x: b e^x / Σ, by b: e^x / Σ, both 0 where b = 0, whatever x is there."""
    x, b = [[0.0, NAN, LOG2], [0.0, INF, LOG2], [1.0, 2.0, -INF]], [[1.0, 0.0, 2.0], [1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]
    by_x, by_b = gradients(
        backend,
        lambda x, b: logsumexp(x, b=b, return_sign=True)[0],
        backend.array(x, "float32"),
        backend.array(b, "float32"),
    )
    assert_near(by_x, [[0.2, 0.0, 0.8], [-1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], ulp=8)
    assert_near(by_b, [[0.2, 0.0, 0.4], [-1.0, 0.0, -2.0], [0.0, 1.0, 0.0]], ulp=8)


@AUTODIFF
@pytest.mark.parametrize(
    ("x", "b"),
    [((0.0, 0.0), (1.0, -1.0)), ((-INF, -INF), (1.0, 1.0)), ((NAN, INF), (0.0, 0.0)), ((-INF, 0.0), (2.0, 0.0))],
    ids=str,
)
def test_a_sum_of_0_has_derivative_0(backend: Backend, x: Any, b: Any) -> None:
    found = gradients(backend, lambda x, b: logsumexp(x, b=b), backend.array(x, "float32"), backend.array(b, "float32"))
    for got in found:
        assert_near(got, [0.0, 0.0])


@AUTODIFF
def test_the_sign_has_derivative_0(backend: Backend) -> None:
    x, b = backend.array([1.0, 2.0], "float32"), backend.array([1.0, -1.0], "float32")
    for got in gradients(backend, lambda x, b: logsumexp(x, b=b, return_sign=True)[1], x, b):
        assert_near(got, [0.0, 0.0])


def test_b_as_a_number_and_as_arrays_is_the_same(backend: Backend) -> None:
    x = backend.array(X, "float32")
    expected = backend.numpy(call(backend, logsumexp, x, b=2.0))
    assert_exact(backend, call(backend, logsumexp, x, b=2.0), oracle.logsumexp(X, b=2.0)[0])
    for b in (2, backend.array(2.0, "float32"), backend.array(np.full((2, 3), 2.0), "float32")):
        assert_equal(backend, call(backend, logsumexp, x, b=b), expected)
    value, sign = call(backend, logsumexp, x, b=-0.5, return_sign=True)
    assert_exact(backend, value, oracle.logsumexp(X, b=0.5)[0])
    assert_exact(backend, sign, [-1.0, -1.0])
    assert_exact(backend, call(backend, logsumexp, x, b=0), [-INF, -INF])


@pytest.mark.parametrize("axis", [0, (0, 1), None, ()], ids=str)
def test_return_sign_and_keepdims_with_axes(backend: Backend, axis: Any) -> None:
    b = np.array([[1.0, -2.0, 1.0], [0.5, 1.0, -8.0]])
    arrays = backend.array(X, "float32"), backend.array(b, "float32")
    value, sign, condition = oracle.logsumexp(X, axis=axis, b=b, keepdims=True)
    found = call(backend, logsumexp, arrays[0], axis=axis, b=arrays[1], return_sign=True, keepdims=True)
    assert isinstance(found, tuple)
    assert_exact(backend, found[0], value, ulp=8 * float(np.max(condition)))
    assert_exact(backend, found[1], sign)


@pytest.mark.dtypes("float32", "float64")
def test_logsumexp_near_0_keeps_its_digits(backend: Backend, dtype: str) -> None:
    x = np.array([[-20.0, 0.0], [-LOG2, -LOG2]])
    x = x.astype(dtype).astype(float)
    result = call(backend, logsumexp, backend.array(x[:1], dtype))
    assert_exact(backend, result, oracle.logsumexp(x[:1])[0], dtype)
    assert float(oracle.logsumexp(x[:1])[0][0]) == pytest.approx(2.0611536e-9)


# -- regressions: what users of the peers ran into (PEERS, sections 2 and 3) -------------------------------------------


def test_fully_masked_rows_are_0__pytorch_55056(backend: Backend) -> None:
    x, where = [[1.0, 2.0], [3.0, 4.0]], [[False, False], [True, True]]
    result = call(backend, softmax, backend.array(x, "float32"), where=backend.array(where))
    assert_exact(backend, result, [[0.0, 0.0], [P0, P2]])


def test_safe_softmax_keeps_nan_of_rows_that_take_part__torch_xpu_ops_5022(backend: Backend) -> None:
    """Fully masked is read from the mask, never from a sentinel: rows of the lowest number are rows."""
    low = float(np.finfo(np.float32).min)
    x = [[NAN, 1.0], [low, low], [-INF, NAN]]
    result = call(backend, softmax, backend.array(x, "float32"), where=backend.array([[True, True]] * 3))
    assert_exact(backend, result, [[NAN, NAN], [0.5, 0.5], [NAN, NAN]])


@AUTODIFF
def test_derivative_of_logsumexp_of_all_minus_inf_is_0__pytorch_31829_jax_6811(backend: Backend) -> None:
    (got,) = gradients(backend, logsumexp, backend.array([[-INF, -INF], [0.0, -INF]], "float32"))
    assert_near(got, [[0.0, 0.0], [1.0, 0.0]])


@AUTODIFF
@EVERY
def test_masked_huge_values_do_not_poison_derivatives__jax_17117_19490(backend: Backend, function: Any) -> None:
    x = backend.array([[0.0, 1e30, 1.0], [0.0, -1e30, 1.0], [0.0, INF, 1.0]], "float32")
    where = backend.array([True, False, True])
    clean = backend.array([[0.0, 0.0, 1.0]] * 3, "float32")
    (got,) = gradients(backend, partial(function, where=where), x, cotangent=1.0)
    (expected,) = gradients(backend, partial(function, where=where), clean, cotangent=1.0)
    np.testing.assert_array_equal(got, expected)
    assert (got[:, 1] == 0).all()
    assert np.isfinite(got).all()


def test_int8_and_uint8_logits_do_not_wrap__jax_scipy(backend: Backend) -> None:
    for dtype, x in (("int8", [-128, 127]), ("uint8", [0, 255]), ("uint8", [255, 0])):
        result = backend.numpy(call(backend, softmax, backend.array(x, dtype)))
        assert result.argmax() == np.argmax(x)
        assert result.sum() == 1


@pytest.mark.backends("numpy", "torch", "jax", "dask")
@pytest.mark.dtypes("float16")
def test_70000_equal_halves__torch_jax_scipy(backend: Backend, dtype: str) -> None:
    if backend.name == "dask-classes":
        return  # 35 000 blocks say no more than two
    x = backend.array(np.zeros((1, 70_000)), dtype)
    assert_exact(backend, call(backend, logsumexp, x), [math.log(70_000)], dtype)
    result = call(backend, softmax, x)
    np.testing.assert_array_equal(backend.numpy(result), np.full((1, 70_000), 1 / 70_000, dtype=np.float16))


@AUTODIFF
@pytest.mark.dtypes("float16")
def test_derivative_of_log_softmax_of_65536_halves__jax_40598(backend: Backend, dtype: str) -> None:
    seed = np.zeros(2**16)
    seed[0] = 1.0
    (got,) = gradients(backend, log_softmax, backend.array(np.zeros(2**16), dtype), cotangent=seed)
    assert got[0] == 1  # 1 - 2**-16, rounded once
    np.testing.assert_array_equal(got[1:], numpy_dtype(dtype).type(-(2.0**-16)))


def test_log_softmax_at_the_winning_class__scipy_19521(backend: Backend) -> None:
    result = call(backend, log_softmax, backend.array([[20.0, 0.0], [100.0, 50.0]], "float32"))
    assert_exact(backend, result, [[-2.0611536181902037e-09, -20.0], [-1.9287498479639178e-22, -50.0]])


@pytest.mark.parametrize(("b", "exact"), [([1, 1], 2.0611536181902037e-09), ([-1, 1], -2.0611536224385579e-09)])
def test_weighted_sum_near_1_keeps_its_digits(backend: Backend, b: list[int], exact: float) -> None:
    x = backend.array([-20.0, 0.0], "float32")
    assert_exact(backend, call(backend, logsumexp, x, b=backend.array(b, "int32")), exact)


def test_logsumexp_where_one_term_dominates__scipy_21597(backend: Backend) -> None:
    assert_exact(backend, call(backend, logsumexp, backend.array([-20.0, 0.0], "float32")), 2.0611536181902037e-09)


@AUTODIFF
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("large", [800.0, 1e30])
def test_derivative_of_logsumexp_past_the_overflow_of_exp__scipy_1_17(
    backend: Backend, dtype: str, large: float
) -> None:
    """NaN in SciPy on torch and jax: a plain log(Σ exp) stands in the branch that is not selected."""
    (got,) = gradients(backend, logsumexp, backend.array([large, large, 0.0], dtype))
    assert_near(got, [0.5, 0.5, 0.0], dtype)


@AUTODIFF
@EVERY
def test_back_propagation_works_in_torch__scipy_1_17_log_softmax(backend: Backend, function: Any) -> None:
    (got,) = gradients(backend, function, backend.array(X, "float32"))
    assert np.isfinite(got).all()


def test_softmax_over_several_axes__pytorch_71357_34874(backend: Backend) -> None:
    result = backend.numpy(call(backend, softmax, backend.array(CUBE, "float32"), axis=(1, 2)))
    np.testing.assert_allclose(result.sum(axis=(1, 2)), 1, rtol=1e-6)


@pytest.mark.backends("strict")
def test_python_scalars_stay_on_the_device__scipy_22680(backend: Backend) -> None:
    x = backend.array(X, "float32")
    for function in EXACT:
        assert function(x, where=True).device == backend.device
    assert logsumexp(x, b=2.0).device == backend.device
    assert softmax(x, temperature=2.0).device == backend.device


@pytest.mark.backends("torch")
@EVERY
def test_requires_grad_is_kept__scipy_24186_pytorch_170819(backend: Backend, function: Any) -> None:
    x = backend.array(X, "float32").requires_grad_()
    assert function(x).requires_grad
    assert function(x, where=backend.array([True, True, False])).requires_grad


@pytest.mark.dtypes("bfloat16")
def test_bfloat16_sums_do_not_stick_at_256__executorch_20090(backend: Backend, dtype: str) -> None:
    result = call(backend, logsumexp, backend.array(np.zeros(1000), dtype))
    assert_exact(backend, result, math.log(1000), dtype)


@pytest.mark.backends("numpy", "torch")
def test_sums_between_other_axes_are_pairwise(backend: Backend) -> None:
    """Entries that do not lie next to each other, added one by one, lose a digit for every hundred of them."""
    x = np.random.default_rng(0).normal(size=(2, 50_000, 3)).astype("float32")
    e = np.exp(x.astype("float64") - x.max(axis=1, keepdims=True))
    p = backend.numpy(softmax(backend.array(x), axis=1))
    assert np.max(np.abs(p / (e / e.sum(axis=1, keepdims=True)) - 1)) < 8 * np.finfo("float32").eps
