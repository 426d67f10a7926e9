"""log1mexp, logsubexp, logmeanexp and logcumsumexp: values and derivatives against their definitions in mpmath."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import differences
import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal, assert_exact, default_float, gradients, hessian
from derivatives import INF, NAN, assert_close, assert_ulps
from exact_gradients import EAGER, assert_like, assert_same, floor_of, single
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES, numpy_dtype
from mpmath import mp, mpf

from softxent import (
    grad,
    hessian_diagonal,
    hvp,
    log1mexp,
    logcumsumexp,
    logmeanexp,
    logsubexp,
    logsumexp,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

AUTODIFF = pytest.mark.backends("autodiff")
pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]


def each_way(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How derivatives are found: torch's on the formula itself, as of small arrays, then by the formula's own."""
    yield
    if backend.library == "torch":
        monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
        yield


def each(function: Callable[..., mpf], *arrays: Any) -> Any:
    """A function of mpf, of every entry."""
    with mp.workdps(oracle.DIGITS):
        return np.asarray(np.frompyfunc(function, len(arrays), 1)(*map(ulps.exactly, arrays)), dtype=object)


# -- differences ------------------------------------------------------------------------------------------------------

X = [[0.0, 2.0**-100, 2.0**-24], [0.125, 0.5, 0.6875], [1.0, 1.2421875, 1.2578125], [17.0, 40.0, INF]]


def complement(x: mpf) -> mpf:
    """log(1 - exp(-x))."""
    return mp.nan if not x >= 0 else -mp.inf if x == 0 else mp.log(-mp.expm1(-x))


def complement_slope(x: mpf) -> mpf:
    return mp.nan if not x >= 0 else mp.inf if x == 0 else 1 / mp.expm1(x)


def complement_bend(x: mpf) -> mpf:
    return -mp.inf if x == 0 else mpf(0) if mp.isinf(x) else -mp.exp(x) / mp.expm1(x) ** 2


def test_log1mexp_is_exact(backend: Backend, dtype: str) -> None:
    x = np.asarray(X).astype(numpy_dtype(dtype))
    assert_exact(backend, backend.call(log1mexp, backend.array(x)), each(complement, x), dtype)


def test_derivatives_of_log1mexp_are_exact(backend: Backend) -> None:
    """1 / expm1(x), infinite at 0 and 0 at infinity; and of that -exp(x) / expm1(x)²."""
    x = single(X)
    value, slope = backend.call(value_and_grad(log1mexp), backend.array(x))
    assert_exact(backend, value, each(complement, x))
    assert_like(backend, slope, backend.array(x))
    assert_ulps(backend.numpy(slope), each(complement_slope, x), dtype="float32", bound=4.0)
    x = single(np.maximum(X, 2.0**-24))
    bend = backend.call(hessian_diagonal(log1mexp), backend.array(x))
    assert_ulps(backend.numpy(bend), each(complement_bend, x), dtype="float32", bound=6.0)
    assert_same(backend, backend.call(hvp(log1mexp), backend.array(x), vector=backend.array(np.ones_like(x))), bend)


@AUTODIFF
def test_autodiff_of_log1mexp(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in each_way(backend, monkeypatch):
        x = backend.array(X, "float32")
        (found,) = gradients(backend, log1mexp, x)
        assert_ulps(found, each(complement_slope, X), dtype="float32", bound=4.0)
        at = [2.0**-10, 1.0, 17.0]
        bends = hessian(backend, lambda x: backend.xp.sum(log1mexp(x)), backend.array(at, "float32"))
        assert_ulps(np.diagonal(bends), each(complement_bend, at), dtype="float32", bound=6.0)


def test_log1mexp_of_what_has_no_complement(backend: Backend) -> None:
    """NaN, and so are the derivatives."""
    x = backend.array([-1.0, -INF, NAN], "float32")
    for found in (*backend.call(value_and_grad(log1mexp), x), backend.call(hessian_diagonal(log1mexp), x)):
        assert_equal(backend, found, single([NAN, NAN, NAN]))
    if backend.autodiff:
        assert np.isnan(gradients(backend, log1mexp, x)).all()


FROM = [[0.0, 0.5, 1000.0], [1.0, 1.0, 0.0], [-3.0, -INF, INF], [40.0, 2.0, 0.6953125]]
LESS = [[-1.0, 0.25, 999.0], [1.0 - 2.0**-24, 1.0, -INF], [-19.0, -INF, 5.0], [0.0, -80.0, 0.0]]


def difference(x: mpf, y: mpf) -> mpf:
    if y == -mp.inf or x == mp.inf:
        return x
    return -mp.inf if x == y else x + mp.log(-mp.expm1(y - x))


def difference_by_x(x: mpf, y: mpf) -> mpf:
    if y == -mp.inf or x == mp.inf:
        return mpf(1)
    return mp.inf if x == y else -1 / mp.expm1(y - x)


def difference_by_y(x: mpf, y: mpf) -> mpf:
    if y == -mp.inf or x == mp.inf:
        return mpf(0)
    return -mp.inf if x == y else -1 / mp.expm1(x - y)


def difference_bend(x: mpf, y: mpf) -> mpf:
    return difference_by_x(x, y) * difference_by_y(x, y) if x != y else -mp.inf if mp.isfinite(x) else mpf(0)


def conditioned(x: Any, y: Any, dtype: str) -> Any:
    """Four units, and what the arguments being off by a unit each may do."""
    value = each(difference, x, y)
    by = [
        each(lambda a, d: abs(a) * abs(d) if mp.isfinite(a) and mp.isfinite(d) else mpf(0), of, each(slope, x, y))
        for of, slope in ((x, difference_by_x), (y, difference_by_y))
    ]
    return 4.0 * (ulps.spacing(value, dtype) + ulps.eps(dtype) / 2 * (by[0] + by[1]))


def test_logsubexp_is_exact(backend: Backend, dtype: str) -> None:
    """To a few units, but for its condition number; in halves rounded once."""
    x, y = (np.asarray(v).astype(numpy_dtype(dtype)) for v in (FROM, LESS))
    found = backend.call(logsubexp, backend.array(x), backend.array(y))
    value = each(difference, x, y)
    if dtype in HALVES:
        assert_exact(backend, found, value, dtype)
    else:
        assert backend.numpy(found).dtype.name == dtype
        assert np.all(ulps.difference(backend.numpy(found), value, dtype) <= conditioned(x, y, dtype))


def test_derivatives_of_logsubexp_are_exact(backend: Backend) -> None:
    """1 / (1 - exp(y - x)) and -1 / expm1(x - y), also where only one of them is large."""
    x, y = backend.array(FROM, "float32"), backend.array(LESS, "float32")
    _, (by_x, by_y) = backend.call(value_and_grad(logsubexp, ("x", "y")), x, y)
    floor = floor_of(backend)
    assert_ulps(backend.numpy(by_x), each(difference_by_x, FROM, LESS), dtype="float32", bound=4.0)
    assert_ulps(backend.numpy(by_y), each(difference_by_y, FROM, LESS), dtype="float32", bound=4.0, floor=floor)
    bend = backend.call(hessian_diagonal(logsubexp), x, y)
    assert_ulps(backend.numpy(bend), each(difference_bend, FROM, LESS), dtype="float32", bound=8.0, floor=floor)


@AUTODIFF
def test_autodiff_of_logsubexp(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in each_way(backend, monkeypatch):
        by_x, by_y = gradients(backend, logsubexp, backend.array(FROM, "float32"), backend.array(LESS, "float32"))
        assert_ulps(by_x, each(difference_by_x, FROM, LESS), dtype="float32", bound=4.0)
        assert_ulps(by_y, each(difference_by_y, FROM, LESS), dtype="float32", bound=4.0, floor=floor_of(backend))


def test_logsubexp_of_what_has_no_logarithm(backend: Backend) -> None:
    """Of x < y, two infinities, NaN: NaN, and so are the derivatives."""
    x, y = (
        backend.array([[0, -INF, INF], [NAN, 0, NAN]], "float32"),
        backend.array([[1, 0, INF], [0, NAN, -INF]], "float32"),
    )
    value, (by_x, by_y) = backend.call(value_and_grad(logsubexp, (0, 1)), x, y)
    for found in (value, by_x, by_y):
        assert_equal(backend, found, np.full((2, 3), NAN, dtype="float32"))


def test_the_second_may_be_a_number_or_have_sizes_of_1(backend: Backend) -> None:
    x, y = backend.array([[3, 4, 5], [6, 7, 8]], "float32"), backend.array([[2], [2]], "float32")
    expected = backend.numpy(backend.call(logsubexp, x, backend.array(np.full((2, 3), 2.0), "float32")))
    for other in (2, 2.0, y, backend.array(2.0, "float32")):
        assert_equal(backend, backend.call(logsubexp, x, other), expected)
    by_y = backend.call(grad(logsubexp, "y"), x, y)
    assert_like(backend, by_y, y)
    whole = each(difference_by_y, backend.numpy(x), np.full((2, 3), 2.0)).sum(axis=1, keepdims=True)
    assert_ulps(backend.numpy(by_y), whole, dtype="float32", bound=4.0)


# -- means ------------------------------------------------------------------------------------------------------------

# Equal entries; a result next to 0 of entries that are, and of entries that are not; one that has hardly any of the
# mass; an offset; one that has it all; -inf; what is masked.
MEANS = single(
    [
        [1000002.5] * 9,
        [2.0**-20, -(2.0**-20), 2.0**-21, 0, 0, 0, 0, 0, -(2.0**-19)],
        [1, 0.5, -0.25, -4, 0.125, 0, -0.5, 0, -0.5],
        [2, 0, 0, 0, 0, 0, 0, 0, -INF],
        [1000002, 1000000, 1000001, 1000000, 1000000, 1000000, 1000000, 1000000, 1000000],
        [40, 0, 0, 0, 0, 0, 0, 0, 0],
        [-INF, -INF, -INF, -INF, -INF, -INF, -INF, 3, 3],
        [NAN, 0, 1, INF, 0, 0, 0, 0, 0],
        [NAN] * 9,
        [-INF] * 9,
    ]
)
COUNTED = np.ones((10, 9), dtype=bool)
COUNTED[7, [0, 3]] = COUNTED[8] = False
SEED = single([1, -0.5, 2, 0.25, 1, 1.5, -1, 0.75, 3, 2])


def means(dtype: str) -> NumPy:
    """As the dtype holds them: float16 has no million."""
    return np.where((MEANS > 1e5) & np.isfinite(MEANS) & (dtype in HALVES), 60.0, MEANS).astype(numpy_dtype(dtype))


def log_mean(x: Any, kept: Any) -> mpf:
    terms = [mp.exp(v) for v, k in zip(x, kept, strict=True) if k]
    return mp.log(mp.fsum(terms) / len(terms)) if terms and any(terms) else -mp.inf


@cache
def exact_means(dtype: str) -> tuple[Any, Any]:
    """The means of the rows, and Σ p abs(x)."""
    found, size = [], []
    with mp.workdps(oracle.DIGITS):
        for row, kept in zip(ulps.exactly(means(dtype)), COUNTED, strict=True):
            found.append(log_mean(row, kept))
            live = [v for v, k in zip(row, kept, strict=True) if k and mp.isfinite(v)]
            size.append(mp.fsum(mp.exp(v) * abs(v) for v in live) / max(mp.fsum(map(mp.exp, live)), mpf(10) ** -90))
    return np.asarray(found, dtype=object), np.asarray(size, dtype=object)


def sum_of_means(given: dict[str, Any]) -> mpf:
    """Σ cotangent · mean, of the rows that have one."""
    values = [log_mean(row, kept) for row, kept in zip(given["x"], COUNTED, strict=True)]
    return mp.fsum(g * v for g, v in zip(given["g"], values, strict=True) if mp.isfinite(v))


@cache
def means_gradient() -> Any:
    return differences.gradient(sum_of_means, {"x": MEANS, "g": ulps.exactly(SEED)}, "x")


def test_means_are_exact(backend: Backend, dtype: str) -> None:
    """4 units, but for the condition number of the entries that have the mass; an entry if all are equal."""
    x, where = means(dtype), backend.array(COUNTED)
    found = backend.call(logmeanexp, backend.array(x), where=where)
    value, size = exact_means(dtype)
    if dtype in HALVES:
        assert_exact(backend, found, value, dtype, ulp=0.51)
        return
    off = ulps.difference(backend.numpy(found), value, dtype)
    assert np.all(off <= 4.0 * (ulps.spacing(value, dtype) + ulps.eps(dtype) / 2 * size)), off
    assert backend.numpy(found)[0] == x[0, 0]


@pytest.mark.dtypes("float32")
def test_an_outlier_without_mass(backend: Backend, dtype: str) -> None:
    """However large the largest entry is, digits are those of what has the mass: 13 beside a million of 0."""
    x = np.zeros(10**6, dtype=dtype)
    x[17] = 6.0
    expected = mp.log1p(mp.expm1(6) / 10**6)
    found = backend.numpy(backend.call(logmeanexp, backend.array(x)))
    assert abs(mpf(float(found)) - expected) <= 8 * expected * ulps.eps(dtype)


def test_derivatives_of_means(backend: Backend) -> None:
    """They are p g, of any count; 0 for what is masked and of a mean of -inf."""
    x, where = backend.array(MEANS), backend.array(COUNTED)
    value, pullback = backend.call(vjp(logmeanexp), x, where=where)
    assert_same(backend, value, backend.call(logmeanexp, x, where=where))
    (found,) = (backend.call(pullback, backend.array(SEED)),)
    assert_like(backend, found, x)
    assert_ulps(backend.numpy(found), means_gradient(), dtype="float32", bound=4.0, floor=floor_of(backend))
    given = {"where": where, "keepdims": True}
    _, first = backend.call(value_and_grad(logmeanexp), x, **given)
    assert_same(backend, first, backend.call(grad(logsumexp), x, **given))
    vector = backend.array(np.ones_like(MEANS) * single(np.arange(9)))
    for of_mean, of_sum in ((hvp(logmeanexp), hvp(logsumexp)),):
        assert_same(
            backend,
            backend.call(of_mean, x, **given, vector=vector),
            backend.call(of_sum, x, **given, vector=vector),
        )
    assert_same(
        backend,
        backend.call(hessian_diagonal(logmeanexp), x, **given),
        backend.call(hessian_diagonal(logsumexp), x, **given),
    )


@AUTODIFF
def test_autodiff_of_means(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in each_way(backend, monkeypatch):
        where = backend.array(COUNTED)
        (found,) = gradients(backend, partial(logmeanexp, where=where), backend.array(MEANS), cotangent=SEED)
        assert_ulps(found, means_gradient(), dtype="float32", bound=4.0, floor=floor_of(backend))
        second = hessian(backend, logmeanexp, backend.array([40.0, 0.0, 0.0], "float32"))
        p = float(1 / (2 + mp.exp(40)))
        np.testing.assert_allclose(second, single([[2, -1, -1], [-1, 1, -p], [-1, -p, 1]]) * p, rtol=1e-6)


def test_means_that_are_none(backend: Backend) -> None:
    """+inf, NaN: derivative NaN throughout; -inf without a mask: 0."""
    x = backend.array([[0, INF, 1], [0, NAN, 1], [-INF] * 3, [1, 1, 1]], "float32")
    value, gradient = backend.call(value_and_grad(logmeanexp), x)
    assert_equal(backend, value, single([INF, NAN, -INF, 1]))
    expected = single([[NAN] * 3, [NAN] * 3, [0] * 3, [1 / 3] * 3])
    np.testing.assert_array_equal(np.isnan(backend.numpy(gradient)), np.isnan(expected))
    assert not backend.numpy(gradient)[2].any()
    if backend.autodiff:
        (found,) = gradients(backend, logmeanexp, x)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


# -- running sums -----------------------------------------------------------------------------------------------------

# Rising, falling, ties, wide gaps, an offset, -inf, results next to 0. Shifts are exact in float32.
ROWS = single(
    [
        [0.5, 1, 2, 3, 5, 8, 13, 21, 34],
        [34, 21, 13, 8, 5, 3, 2, 1, 0.5],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 40, 0, 80, 40, 0, 85, 85, -4],
        [1000000, 1000002, 1000001, 1000000, 1000003, 1000003, 999999, 1000001, 1000002],
        [-INF, -INF, 0, -INF, 2, 2, -INF, 1, -INF],
        [-2, -1, -1.5, -3, -4.5, -2.25, -2.25, -3, -8],
    ]
)
PULLED = single(np.resize([1, -0.5, 2, 0.25, -1, 3, -2, 0.125], (7, 9)))
FORMS = [(False, False), (False, True), (True, False), (True, True)]
forms = pytest.mark.parametrize(("reverse", "exclusive"), FORMS, ids=["plain", "exclusive", "reverse", "both"])


def running(row: Any, *, reverse: bool, exclusive: bool) -> list[mpf]:
    """From the definition: which entries are before, and their sum."""
    n = len(row)
    found = []
    for i in range(n):
        summed = [row[j] for j in range(n) if (j > i if reverse else j < i) or (j == i and not exclusive)]
        total = mp.fsum(map(mp.exp, summed))
        found.append(mp.log(total) if total else -mp.inf)
    return found


@cache
def exact_running(reverse: bool, exclusive: bool) -> Any:  # noqa: FBT001
    with mp.workdps(oracle.DIGITS):
        rows = ulps.exactly(ROWS)
        return np.asarray([running(row, reverse=reverse, exclusive=exclusive) for row in rows], dtype=object)


@cache
def running_gradient(reverse: bool, exclusive: bool) -> oracle.Sum:  # noqa: FBT001
    """Of Σ cotangent · value, and with the absolute values of all terms."""

    def total(given: dict[str, Any]) -> mpf:
        terms = []
        for row, g in zip(given["x"], given["g"], strict=True):
            values = running(row, reverse=reverse, exclusive=exclusive)
            terms += [c * v for c, v in zip(g, values, strict=True) if mp.isfinite(v)]
        return mp.fsum(terms)

    found = []
    for g in (PULLED, abs(PULLED)):
        by_row = [
            differences.gradient(total, {"x": ROWS[n : n + 1], "g": ulps.exactly(g[n : n + 1])}, "x") for n in range(7)
        ]
        found.append(np.concatenate(by_row))
    return oracle.Sum(*found)


def of_form(reverse: bool, exclusive: bool) -> Any:  # noqa: FBT001
    return partial(logcumsumexp, reverse=reverse, exclusive=exclusive)


@forms
def test_running_sums_are_exact(backend: Backend, reverse: bool, exclusive: bool) -> None:  # noqa: FBT001
    """4 units, but for the condition number near 0; -inf of nothing."""
    found = backend.call(of_form(reverse, exclusive), backend.array(ROWS))
    assert backend.owns(found)
    value, got = exact_running(reverse, exclusive), backend.numpy(found)
    assert got.dtype == np.float32
    room = 4.0 * ulps.spacing(value, "float32")
    room[6] += 4.0 * ulps.eps("float32") / 2 * 3  # Σ p abs(x) is below 3 in this row
    assert np.all(ulps.difference(got, value, "float32") <= room), ulps.error(got, value, "float32")


@pytest.mark.dtypes("float16", "bfloat16", "float64")
def test_running_sums_of_other_dtypes(backend: Backend, dtype: str) -> None:
    rows = [0, 1, 2, 3, 5]  # float16 has no million
    x = np.where(np.isin(np.arange(7), rows)[:, None], ROWS, 0.0).astype(numpy_dtype(dtype))
    found = backend.numpy(backend.call(logcumsumexp, backend.array(x)))[rows]
    assert found.dtype == numpy_dtype(dtype)
    off = ulps.error(found, exact_running(False, False)[rows], dtype)  # noqa: FBT003
    assert np.all(off <= (0.51 if dtype in HALVES else 4.0)), off


@forms
def test_running_sums_pull_back_exactly(backend: Backend, reverse: bool, exclusive: bool) -> None:  # noqa: FBT001
    """Σ g exp(x_j - y_i), of cotangents of either sign."""
    x = backend.array(ROWS)

    def pulled(x: Array, g: Array) -> tuple[Array, Array]:
        value, pullback = vjp(of_form(reverse, exclusive))(x)
        return value, pullback(g)

    value, found = backend.call(pulled, x, backend.array(PULLED))
    assert_same(backend, value, backend.call(of_form(reverse, exclusive), x))
    assert_like(backend, found, x)
    sums = running_gradient(reverse, exclusive)
    assert_close(backend.numpy(found), sums, dtype="float32", floor=floor_of(backend))


@AUTODIFF
@forms
def test_autodiff_of_running_sums(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    reverse: bool,  # noqa: FBT001
    exclusive: bool,  # noqa: FBT001
) -> None:
    function = of_form(reverse, exclusive)
    for _ in each_way(backend, monkeypatch):
        (found,) = gradients(backend, function, backend.array(ROWS), cotangent=PULLED)
        sums = running_gradient(reverse, exclusive)
        assert_close(found, sums, dtype="float32", floor=floor_of(backend))
        tangents = backend.array(np.where(np.isfinite(ROWS), single(np.arange(9) - 4.0), single(0.0)))
        if backend.library == "torch":
            _, pushed = backend.xp.func.jvp(function, (backend.array(ROWS),), (tangents,))
        elif backend.library != "jax":
            continue
        else:
            import jax

            pushed = jax.jit(lambda x, t: jax.jvp(function, (x,), (t,))[1])(backend.array(ROWS), tangents)
        finite = np.isfinite(np.asarray(exact_running(reverse, exclusive), dtype=np.float64))
        g = np.where(finite, PULLED, 0.0)
        ahead = float(np.sum(backend.numpy(pushed).astype("float64") * g))
        with mp.workdps(oracle.DIGITS):
            behind = float((sums.value * ulps.exactly(backend.numpy(tangents))).sum())
        assert abs(ahead - behind) <= 1e-4 * abs(behind) + 1e-4


@AUTODIFF
def test_second_derivatives_of_running_sums(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    row, g = single([0.5, 3, -1]), backend.array([1, -0.5, 2], "float32")

    def total(given: dict[str, Any]) -> mpf:
        values = running(given["x"], reverse=False, exclusive=False)
        return values[0] - values[1] / 2 + 2 * values[2]

    for _ in each_way(backend, monkeypatch):
        found = hessian(backend, lambda x: backend.xp.sum(g * logcumsumexp(x)), backend.array(row))
        for k in range(3):
            exact = differences.second(total, {"x": row}, "x", np.eye(3)[k])
            np.testing.assert_allclose(found[k], exact.astype("float64"), rtol=1e-5, atol=1e-6)


@forms
def test_running_sums_past_infinity(backend: Backend, reverse: bool, exclusive: bool) -> None:  # noqa: FBT001
    """+inf from there on, NaN from there on; NaN for the derivatives by all that is in such a sum, 0 for the rest."""
    x = single([[0, INF, 1], [NAN, 0, INF], [0, 1, INF], [-INF] * 3])
    function = of_form(reverse, exclusive)
    value, pullback = backend.call(vjp(function), backend.array(x))
    ordered = x[:, ::-1] if reverse else x
    with np.errstate(invalid="ignore"):
        sums = np.logaddexp.accumulate(ordered, axis=1)
    if exclusive:
        sums = np.concatenate([np.full((4, 1), -INF, dtype="float32"), sums[:, :-1]], axis=1)
    np.testing.assert_allclose(backend.numpy(value), sums[:, ::-1] if reverse else sums, rtol=1e-6)
    found = backend.numpy(backend.call(pullback, backend.array(np.ones((4, 3)), "float32")))
    bad = np.any(~(ordered[:, : 2 if exclusive else 3] < INF), axis=1, keepdims=True)
    expected = np.zeros((4, 3), dtype=bool)
    expected[:, : 2 if exclusive else 3] = bad
    expected = expected[:, ::-1] if reverse else expected
    np.testing.assert_array_equal(np.isnan(found), expected)
    assert not found[3].any()
    if backend.autodiff:
        (found,) = gradients(backend, function, backend.array(x))
        np.testing.assert_array_equal(np.isnan(found), expected)


CUBE = single(np.arange(24.0).reshape(2, 3, 4) % 7 / 4 + np.arange(3.0).reshape(3, 1) / 2)


@EAGER
@pytest.mark.parametrize("axis", [0, -2, (0, 2), (2, 0), None, ()], ids=str)
def test_axes(backend: Backend, axis: Any) -> None:
    """Those of the flattened call, in the caller's shape; along several axes in C order of the axes as given."""
    form, x = oracle.Layout(CUBE.shape, axis), backend.array(CUBE)
    rows = backend.array(np.ascontiguousarray(form.rows(CUBE)))
    g = single(np.arange(24.0).reshape(2, 3, 4) % 5)
    for options in ({}, {"reverse": True, "exclusive": True}):
        value, pullback = backend.call(vjp(logcumsumexp), x, axis=axis, **options)
        flat, flat_pullback = backend.call(vjp(logcumsumexp), rows, **options)
        assert_equal(backend, value, form.back(backend.numpy(flat)))
        by = backend.call(flat_pullback, backend.array(np.ascontiguousarray(form.rows(g))))
        assert_equal(backend, backend.call(pullback, backend.array(g)), form.back(backend.numpy(by)))
    kept = backend.call(logmeanexp, x, axis=axis, keepdims=True)
    assert_equal(backend, kept, form.keepdims(backend.numpy(backend.call(logmeanexp, rows))))


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (3, 1)], ids=str)
def test_few_entries(backend: Backend, shape: tuple[int, ...]) -> None:
    x = backend.array(np.ones(shape), "float32")
    for reverse, exclusive in FORMS:
        value, pullback = backend.call(vjp(of_form(reverse, exclusive)), x)
        assert_equal(backend, value, np.full(shape, -INF if exclusive else 1.0, dtype="float32"))
        by = backend.call(pullback, x)
        assert_equal(backend, by, np.full(shape, 0.0 if exclusive else 1.0, dtype="float32"))
    mean = backend.call(logmeanexp, x)
    assert_equal(backend, mean, np.full(shape[:1], 1.0 if shape[1] else -INF, dtype="float32"))
    assert_like(backend, backend.call(grad(logmeanexp), x), x)
    for function in (log1mexp, lambda x: logsubexp(x, 0.5)):
        assert backend.call(function, x).shape == shape


@pytest.mark.parametrize("axis", [-1, None, ()], ids=str)
def test_0_d_input(backend: Backend, axis: Any) -> None:
    x = backend.array(2.5, "float32")
    assert_equal(backend, backend.call(logmeanexp, x, axis=axis), single(2.5))
    assert_equal(backend, backend.call(logcumsumexp, x, axis=axis), single(2.5))
    assert_equal(backend, backend.call(logcumsumexp, x, axis=axis, exclusive=True), single(-INF))
    assert_equal(backend, backend.call(grad(logmeanexp), x, axis=axis), single(1.0))


def test_integers_become_floating(backend: Backend) -> None:
    x = backend.array([1, 2, 3], "int8")
    for function in (log1mexp, partial(logsubexp, y=0), logmeanexp, logcumsumexp):
        found = backend.numpy(backend.call(function, x))
        assert found.dtype.name == default_float(backend)
        assert backend.numpy(backend.call(function, x, dtype="float32")).dtype == np.float32


@pytest.mark.backends("numpy-readonly", "torch")
@pytest.mark.parametrize("axis", [0, 1], ids=str)
def test_blocks_are_the_same(backend: Backend, monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    """Whether rows are taken all at once, in blocks or, where a formula can, in pieces."""
    rng = np.random.default_rng(3)
    x = backend.array(rng.normal(size=(9, 7)), "float32")
    g, h = backend.array(rng.normal(size=(9, 7)), "float32"), backend.array(np.ones(7 if axis == 0 else 9), "float32")

    def everything() -> tuple[Array, ...]:
        found: tuple[Array, ...] = ()
        for function, seed in ((logcumsumexp, g), (logmeanexp, h)):
            value, pullback = vjp(function)(x, axis=axis)
            found += value, pullback(seed)
        return (*found, *value_and_grad(logmeanexp)(x, axis=axis, where=g > 0))

    def cut(entries: int, wide: int) -> None:
        monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.entries", entries)
        monkeypatch.setattr("softxent.backends.blocks.WIDE", wide)

    cut(2**62, 2**62)
    expected = everything()
    for entries, wide in ((20, 2**62), (1, 2**62), (3, 1)):
        cut(entries, wide)
        for one, other in zip(everything(), expected, strict=True):
            np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6, atol=1e-7)


@pytest.mark.backends("torch")
def test_torch_maps_running_sums(backend: Backend) -> None:
    torch = backend.xp
    x, g = backend.array(ROWS), backend.array(PULLED)

    def total(x: Array, g: Array) -> Array:
        y = logcumsumexp(x)
        return torch.sum(torch.where(torch.isfinite(y), y, 0.0) * g)

    mapped = torch.func.vmap(torch.func.grad(total))(x, g)
    assert_close(backend.numpy(mapped), running_gradient(False, False), dtype="float32")  # noqa: FBT003


@pytest.mark.backends("jax")
def test_jax_maps_running_sums(backend: Backend) -> None:
    import jax

    def total(x: Array, g: Array) -> Array:
        y = logcumsumexp(x)
        return jax.numpy.sum(jax.numpy.where(jax.numpy.isfinite(y), y, 0.0) * g)

    mapped = jax.jit(jax.vmap(jax.grad(total)))(backend.array(ROWS), backend.array(PULLED))
    sums = running_gradient(False, False)  # noqa: FBT003
    assert_close(backend.numpy(mapped), sums, dtype="float32", floor=floor_of(backend))


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy", "torch", "jax")
def test_errors(backend: Backend) -> None:
    x = backend.array([[1.0, 2.0, 3.0]], "float32")
    for function in (logmeanexp, logcumsumexp, log1mexp, partial(logsubexp, y=x)):
        with pytest.raises(TypeError, match=r"x must be an array, got list; wrap it"):
            function([1.0])
        with pytest.raises(TypeError, match=r"x must be float16, .*, got dtype complex64; take its real part"):
            function(backend.xp.zeros(3, dtype=backend.dtype("complex64")))
        with pytest.raises(TypeError, match=r"dtype must be a floating dtype or its name, got 'int8'"):
            function(x, dtype="int8")
    with pytest.raises(ValueError, match=r"axis must be from -2 to 1 for x of 2 dimensions, got 2"):
        logcumsumexp(x, axis=2)
    with pytest.raises(ValueError, match=r"axis must name each axis once, got \(0, 0\)"):
        logmeanexp(x, axis=(0, 0))
    with pytest.raises(TypeError, match=r"reverse must be True or False, got 1"):
        logcumsumexp(x, reverse=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"exclusive must be True or False, got None"):
        logcumsumexp(x, exclusive=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"keepdims must be True or False, got 'no'"):
        logmeanexp(x, keepdims="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"where must be bool, got dtype float32; compare first"):
        logmeanexp(x, where=x)
    with pytest.raises(ValueError, match=r"where must broadcast to the logits' shape \(1, 3\), got shape \(2, 3\)"):
        logmeanexp(x, where=backend.array(np.ones((2, 3), dtype=bool)))
    with pytest.raises(ValueError, match=r"y must be a scalar or have the batch shape \(1, 3\), .*, got shape \(3,\)"):
        logsubexp(x, backend.array([1.0, 2.0, 3.0], "float32"))
    with pytest.raises(ValueError, match=r"y must be finite, got -inf"):
        logsubexp(x, -INF)
    with pytest.raises(TypeError, match=r"grad must be given a function of one value.*pass a cotangent to vjp"):
        grad(logcumsumexp)


# -- laws -------------------------------------------------------------------------------------------------------------

numbers = st.lists(st.floats(-30, 30, width=32), min_size=9, max_size=9)


@given(row=numbers, offset=st.integers(-8, 8))
@pytest.mark.dtypes("float32")
def test_running_sums_end_in_the_sum(backend: Backend, dtype: str, row: list[float], offset: int) -> None:
    """logcumsumexp(x)[-1] = logsumexp(x) = logmeanexp(x) + log n = logcumsumexp(x, reverse=True)[0]."""
    x = backend.array(single([row]) + single(offset))
    whole = backend.numpy(backend.call(logsumexp, x))
    size = 16 * ulps.eps(dtype) * (1 + np.max(np.abs(backend.numpy(x))))
    for found in (
        backend.numpy(backend.call(logcumsumexp, x))[:, -1],
        backend.numpy(backend.call(logcumsumexp, x, reverse=True))[:, 0],
        backend.numpy(backend.call(logmeanexp, x)) + single(np.log(9.0)),
    ):
        np.testing.assert_allclose(found, whole, rtol=0, atol=size)


@given(row=numbers)
@pytest.mark.dtypes("float32")
def test_differences_take_running_sums_apart(backend: Backend, dtype: str, row: list[float]) -> None:
    """logsubexp(logcumsumexp(x), logcumsumexp(x, exclusive=True)) = x, as far as the sum's digits go."""
    x = np.sort(single([row]))
    sums, before = (backend.numpy(backend.call(of_form(False, e), backend.array(x))) for e in (False, True))  # noqa: FBT003
    found = backend.numpy(backend.call(logsubexp, backend.array(sums), backend.array(before)))
    room = 16 * ulps.eps(dtype) * (1 + np.abs(x).max()) * np.exp(sums - x)
    assert np.all(np.abs(found - x) <= room)
