"""sparsemax, entmax and their losses: values and derivatives against mpmath, special values, laws, faults of peers."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, call, default_float, gradients, hessian
from derivatives import INF, NAN, ROWS, assert_close
from differences import gradient, second
from exact_gradients import KEPT, assert_like, assert_same, floor_of, placed, single
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix import HALVES, load
from mpmath import mp, mpf
from test_blocks import RUNNERS, cut
from ulps import eps, error, exactly

from softxent import (
    cross_entropy,
    entmax,
    entmax_loss,
    fenchel_young_loss,
    grad,
    hessian_diagonal,
    hvp,
    softmax,
    sparsemax,
    sparsemax_loss,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

# One of each kind but jax, which compiles for every option and shape anew.
EAGER = pytest.mark.backends("numpy", "strict-no-x64", "torch", "dask-classes")

# Supports of every size, ties, an offset, -inf, a masked NaN, a fully masked row. KEPT masks the last two rows.
LOGITS = single(
    [
        [0.5, -1.25, 2],
        [1, 1, -0.5],
        [0.25, 0.5, 0],
        [1000002, 1000000.5, 1000001.75],
        [-INF, 3, 2.75],
        [NAN, 0, 0.125],
        [NAN] * 3,
    ]
)
PULL = single(
    [[1, -0.5, 0.25], [2, 1, -1], [0.5, 1, 2], [1, 0, 0], [0, 1, 0.5], [NAN, 1, -1], [NAN] * 3],
)
ROWWISE = single([[1.0], [1.125], [1.5], [1.75], [2.0], [2.5], [NAN]])  # softmax and sparsemax among them
ALPHAS: dict[str, Any] = {
    **{str(alpha): alpha for alpha in (1.0, 1.0078125, 1.25, 1.5, 1.75, 2.0, 3.0)},
    "rows": ROWWISE,
}
LABELS = np.asarray([2, 0, 2, 2, 1, 1, 0], dtype="int32")
SOFT = single([[0.25, 0.25, 0.5], [1, 0, 0], [0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0.5, 0.5], [0, 0, 1], [0, 1, 0]])


# -- what is exact ----------------------------------------------------------------------------------------------------


def map_of(x: list[mpf], alpha: mpf) -> list[mpf]:
    """Entmax of finite logits: the threshold by bisection in floats, and then by Newton's method on the support."""
    top, b = max(x), alpha - 1
    if b == 0:
        e = [mp.exp(v - top) for v in x]
        return [v / sum(e) for v in e]

    def powers(z: list[Any], b: Any, t: Any, exponent: Any) -> Any:
        return sum((b * v - t) ** exponent for v in z if b * v > t)

    z, slope = [v - top for v in x], float(b)
    rough, low, high = [float(v) for v in z], -1.0, -(len(x) ** -slope)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if powers(rough, slope, middle, 1 / slope) >= 1 else (low, middle)
    t = mpf(low)
    for _ in range(5):
        t += (powers(z, b, t, 1 / b) - 1) / (powers(z, b, t, 1 / b - 1) / b)
    return [(b * v - t) ** (1 / b) if b * v > t else mpf(0) for v in z]


def entropy_of(p: list[mpf], alpha: mpf) -> mpf:
    """Tsallis' entropy, Shannon's for α = 1."""
    if alpha == 1:
        return -sum((v * mp.log(v) for v in p if v != 0), mpf(0))
    return sum((v - v**alpha for v in p), mpf(0)) / (alpha * (alpha - 1))


def loss_of(x: list[mpf], q: list[mpf], alpha: mpf) -> mpf:
    """The definition, at finite logits; labels that sum to Q are Q times a distribution."""
    amount = sum(q, mpf(0))
    q = [v / amount for v in q]
    p = map_of(x, alpha)
    linear = sum(((a - b) * v for a, b, v in zip(p, q, x, strict=True)), mpf(0))
    return amount * (linear + entropy_of(p, alpha) - entropy_of(q, alpha))


def alpha_of(name: str, row: int) -> Any:
    """Of a row, as an array of mpf that can be moved."""
    alpha = ALPHAS[name]
    return exactly(alpha if isinstance(alpha, float) else alpha[row, 0])


def live(row: int) -> list[int]:
    """Classes of a row that take part with a finite logit."""
    return [c for c in range(3) if KEPT[row, c] and np.isfinite(LOGITS[row, c])]


@cache
def exact_map(name: str) -> tuple[NumPy, NumPy]:
    """Values, and what an error of half a unit in every number of the computation amounts to in each."""
    value, absolute = (np.full((ROWS, 3), mpf(0), dtype=object) for _ in range(2))
    with mp.workdps(oracle.DIGITS):
        for n in range(ROWS - 1):
            at = live(n)
            x = [mpf(float(LOGITS[n, c])) for c in at]
            alpha = alpha_of(name, n)[()]
            p = map_of(x, alpha)
            reach = max(max(x) - v for v, share in zip(x, p, strict=True) if share)
            for c, share in zip(at, p, strict=True):
                value[n, c] = share
                absolute[n, c] = share * (1 - mp.log(share)) + share ** (2 - alpha) * reach if share else mpf(0)
    return value, absolute


@cache
def exact_pullback(name: str) -> tuple[oracle.Sum, oracle.Sum]:
    """By logits and by α, from differences; the terms are those of the Jacobian, s_i (δ_ij - s_j / Σ s)."""
    by_x, by_x_abs = (np.full((ROWS, 3), mpf(0), dtype=object) for _ in range(2))
    by_a, by_a_abs = (np.full((ROWS, 1), mpf(0), dtype=object) for _ in range(2))
    p, absolute = exact_map(name)
    with mp.workdps(oracle.DIGITS):
        for n in range(ROWS - 1):
            at = live(n)
            g = [mpf(float(PULL[n, c])) for c in at]

            def pulled(d: dict[str, Any], g: list[mpf] = g) -> mpf:
                return sum((a * b for a, b in zip(g, map_of(list(d["x"]), d["alpha"][()]), strict=True)), mpf(0))

            arrays = {"x": LOGITS[n, at], "alpha": alpha_of(name, n)}
            by_x[n, at] = gradient(pulled, arrays, "x")
            s = [p[n, c] ** (2 - arrays["alpha"][()]) if p[n, c] else mpf(0) for c in at]
            spread = sum((a * abs(b) for a, b in zip(s, g, strict=True)), mpf(0)) / sum(s)
            by_x_abs[n, at] = [a * (abs(b) + spread) for a, b in zip(s, g, strict=True)]
            if name == "rows":
                if arrays["alpha"][()] > 1:
                    by_a[n, 0] = gradient(pulled, arrays, "alpha")[()]
                else:  # from above only: -(p log² p - p Σ p log² p) / 2
                    b = [-v * mp.log(v) ** 2 / 2 for v in s]
                    by_a[n, 0] = sum(
                        (v * (y - sum(map(mp.fmul, s, g), mpf(0))) for v, y in zip(b, g, strict=True)), mpf(0)
                    )
                logs = [mp.log(p[n, c]) if p[n, c] else mpf(0) for c in at]
                by_a_abs[n, 0] = sum(
                    (absolute[n, c] * v**2 * (abs(b) + spread) for c, v, b in zip(at, logs, g, strict=True)), mpf(0)
                )
    return oracle.Sum(by_x, by_x_abs), oracle.Sum(by_a, by_a_abs)


def given_alpha(backend: Backend, name: str) -> Any:
    return ALPHAS[name] if isinstance(ALPHAS[name], float) else backend.array(ALPHAS[name])


def assert_map(backend: Backend, found: Any, name: str, factor: float = 4.0) -> None:
    """Within 4 u of what belongs to each value, and 0 exactly where that is 0."""
    value, absolute = exact_map(name)
    off = abs(exactly(backend.numpy(found)) - value)
    room = absolute * (factor * eps("float32") / 2) + np.where(value == 0, 0, floor_of(backend) * 2.0**-126)
    assert np.all(off <= room), f"{backend.numpy(found)}\n{value.astype(float)}\n{(off / eps('float32')).astype(float)}"


# -- the maps ---------------------------------------------------------------------------------------------------------


def mapped(backend: Backend, name: str) -> None:
    """Value, pullback and, of an array, the derivative by α.

    s = p^(2-α) has the relative error of p, which is what belongs to a value over the value.
    """
    p, absolute = exact_map(name)
    gap = np.where(p == 0, mpf(0), absolute / np.where(p == 0, mpf(1), p))
    x, where, alpha = backend.array(LOGITS), backend.array(KEPT), given_alpha(backend, name)
    by = ("logits",) if isinstance(alpha, float) else ("logits", "alpha")
    value, pullback = backend.call(vjp(entmax, by), x, alpha, where=where)
    if backend.library != "jax":
        assert_same(backend, value, backend.call(entmax, x, alpha, where=where))
    assert_like(backend, value, x)
    assert_map(backend, value, name)
    for one, derivative, sums in zip(
        by, backend.call(pullback, backend.array(PULL)), exact_pullback(name), strict=False
    ):
        assert_like(backend, derivative, x if one == "logits" else alpha)
        gap = gap if one == "logits" else gap.max(axis=-1, keepdims=True)
        assert_close(backend.numpy(derivative), sums, dtype="float32", gap=gap, floor=floor_of(backend))


@EAGER
@pytest.mark.parametrize("name", ALPHAS)
def test_entmax_is_exact(backend: Backend, name: str) -> None:
    mapped(backend, name)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", ["1.25", "1.5", "rows"])
def test_entmax_on_jax(backend: Backend, name: str) -> None:
    mapped(backend, name)


def test_sparsemax_is_entmax_2(backend: Backend) -> None:
    x, where = backend.array(LOGITS), backend.array(KEPT)
    value, pullback = backend.call(vjp(sparsemax), x, where=where)
    assert_map(backend, value, "2.0")
    sums = exact_pullback("2.0")[0]
    assert_close(backend.numpy(backend.call(pullback, backend.array(PULL))), sums, dtype="float32")


@EAGER
def test_alpha_1_is_softmax_to_the_bit(backend: Backend) -> None:
    """Value and pullback of the number; of an array within the usual bounds (above)."""
    x, where, g = backend.array(LOGITS), backend.array(KEPT), backend.array(PULL)
    for alpha in (1, 1.0, np.float32(1)):
        value, pullback = backend.call(vjp(entmax), x, alpha, where=where)
        same, same_pullback = backend.call(vjp(softmax), x, where=where)
        assert_same(backend, value, same)
        assert_same(backend, backend.call(pullback, g), backend.call(same_pullback, g))


@EAGER
def test_alpha_goes_to_1_smoothly(backend: Backend) -> None:
    """What α adds to softmax is its derivative by α, all the way down to the last digit of α."""
    x = backend.array([[0.5, -1.25, 2.0], [1, 1, -0.5], [3, -4, 0]], "float32")
    exact = oracle.softmax(backend.numpy(x))
    with mp.workdps(50):
        logs = np.frompyfunc(mp.log, 1, 1)(exact)
        b = -exact * logs**2 / 2
        by_alpha = b - exact * b.sum(axis=-1, keepdims=True)
        size = -exact * logs + exact * logs**2
        for exponent in (10, 16, 23):
            alpha = 1 + 2.0**-exponent
            first_order = exact + by_alpha * 2.0**-exponent
            for given_as in (alpha, backend.array(alpha, "float32")):
                off = abs(exactly(backend.numpy(backend.call(entmax, x, given_as))) - first_order)
                room = 4 * eps("float32") * (exact + size) / 2 + 8 * 4.0**-exponent * size * (1 + abs(logs)) ** 2
                assert np.all(off <= room), exponent


@EAGER
def test_special_values(backend: Backend) -> None:
    """§2 and §10: -inf is out; NaN where there is no largest finite logit or α < 1, in that row only, also if hard."""
    x = single([[-INF, 0, -INF], [-INF] * 3, [0, INF, 1], [0, NAN, 1], [0.5, 0.5, 0.5]])
    undefined = [[False] * 3] + [[True] * 3] * 3 + [[False] * 3]
    ones = backend.array(np.ones((5, 3)), "float32")
    for alpha in (1.0, 1.25, 1.5, 2.0, 3.0, backend.array([[1.0], [1.5], [2.0], [1.5], [3.0]], "float32")):
        value, pullback = backend.call(vjp(entmax), backend.array(x), alpha)
        np.testing.assert_array_equal(np.isnan(backend.numpy(value)), undefined)
        np.testing.assert_array_equal(backend.numpy(value)[0], [0, 1, 0])
        np.testing.assert_allclose(backend.numpy(value)[4], 1 / 3, rtol=1e-6)
        found = backend.numpy(backend.call(pullback, ones))
        np.testing.assert_array_equal(np.isnan(found), undefined)
        np.testing.assert_array_equal(found[0], 0)
    low = backend.array([[0.5], [1.0], [NAN], [1.5], [2.0]], "float32")
    flat = backend.array(np.zeros((5, 3)), "float32")
    value, pullback = backend.call(vjp(entmax, (0, 1)), flat, low)
    for found in (value, *backend.call(pullback, ones)):
        np.testing.assert_array_equal(np.isnan(backend.numpy(found)).any(axis=-1), [True, False, True, False, False])


@EAGER
def test_masked_classes(backend: Backend) -> None:
    """As if absent: NaN and ±inf of theirs, and of cotangents there, are not looked at; a row without classes is 0."""
    x = single([[1, NAN, 0.5], [NAN, INF, -INF], [INF, 2, NAN]])
    where = np.asarray([[True, False, True], [False] * 3, [False, True, False]])
    for alpha in (1.25, 1.5, 2.0, backend.array([[2.0], [NAN], [1.25]], "float32")):
        value, pullback = backend.call(vjp(entmax), backend.array(x), alpha, where=backend.array(where))
        derivative = backend.numpy(backend.call(pullback, backend.array(np.where(where, single(2), single(NAN)))))
        np.testing.assert_array_equal(backend.numpy(value)[1:], [[0, 0, 0], [0, 1, 0]])
        np.testing.assert_array_equal(derivative, 0)
        kept = backend.call(
            entmax, backend.array(x[:1, ::2].copy()), alpha if isinstance(alpha, float) else alpha[:1, :]
        )
        np.testing.assert_array_equal(backend.numpy(value)[0, ::2], backend.numpy(kept)[0])


@EAGER
def test_wide_gaps_offsets_and_many_classes(backend: Backend) -> None:
    big = backend.array([[1e30, -1e30, 0.0], [3e38, -3e38, 3e38]], "float32")
    for alpha in (1.25, 1.5, 2.0, 4.0):
        assert_equal(backend, backend.call(entmax, big, alpha), single([[1, 0, 0], [0.5, 0, 0.5]]))
    flat = backend.array(np.full((1, 4096), 7.0), "float32")
    for alpha in (1.0, 1.125, 1.5, 1.75, 2.0, 3.0):
        np.testing.assert_allclose(backend.numpy(backend.call(entmax, flat, alpha)), 2.0**-12, rtol=4e-7)


@EAGER
@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_every_dtype(backend: Backend, dtype: str, alpha: float) -> None:
    """Halves are computed in float32 and rounded once."""
    x = [[0.5, -1.25, 2], [1, 1, -0.5], [0.25, 0.5, 0]]
    found = backend.call(entmax, backend.array(x, dtype), alpha)
    value, absolute = (part[:3] for part in exact_map(str(alpha)))
    if dtype in HALVES:
        assert_exact(backend, found, value, dtype)
    else:
        assert np.all(abs(exactly(backend.numpy(found)) - value) <= 2 * eps(dtype) * absolute)


test_every_dtype = pytest.mark.dtypes("float16", "bfloat16", "float64")(test_every_dtype)


@EAGER
def test_integers_and_dtype(backend: Backend) -> None:
    x = backend.array([[2, 1, 0]], "int32")
    found = backend.call(sparsemax, x)
    assert backend.numpy(found).dtype == default_float(backend)
    assert_equal(backend, backend.call(sparsemax, x, dtype="float32"), single([[1, 0, 0]]))


AXES = (0, -2, (0, 2), (2, 0), None, ())


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axes(backend: Backend, axis: Any) -> None:
    """As of the flattened rows, derivatives included; also of an array without C order."""
    cube = single(np.arange(24.0).reshape(2, 3, 4) * 5 % 7 / 4)
    form = oracle.Layout(cube.shape, axis)
    axes = oracle.axes_of(axis, 3)
    batch = [d for d in range(3) if d not in axes]
    shape = [n if d in batch else 1 for d, n in enumerate(cube.shape)]
    alpha = single(1.25 + np.arange(np.prod(shape)) / 8).reshape(shape)
    value, pullback = backend.call(vjp(entmax, (0, 1)), backend.array(cube), backend.array(alpha), axis=axis)
    rows = backend.array(np.ascontiguousarray(form.rows(cube)))
    flat_alpha = backend.array(alpha.transpose([*batch, *axes]).reshape(*(cube.shape[d] for d in batch), 1))
    flat, flat_pullback = backend.call(vjp(entmax, (0, 1)), rows, flat_alpha)
    assert_equal(backend, value, form.back(backend.numpy(flat)))
    by_x, by_alpha = backend.call(pullback, backend.array(cube))
    flat_x, flat_by_alpha = backend.call(flat_pullback, rows)
    assert_equal(backend, by_x, form.back(backend.numpy(flat_x)))
    np.testing.assert_array_equal(np.ravel(backend.numpy(by_alpha)), np.ravel(backend.numpy(flat_by_alpha)))
    assert by_alpha.shape == alpha.shape


@EAGER
def test_no_classes_and_no_dimensions(backend: Backend) -> None:
    one = backend.array(2.5, "float32")
    for axis in (-1, None, ()):
        value, pullback = backend.call(vjp(entmax), one, axis=axis)
        assert_equal(backend, value, single(1.0))
        assert_equal(backend, backend.call(pullback, one), single(0.0))
    for shape in ((2, 0), (0, 0), (0, 3)):
        empty = backend.array(np.zeros(shape), "float32")
        value, pullback = backend.call(vjp(entmax), empty, 1.25)
        assert_like(backend, value, empty)
        assert_like(backend, backend.call(pullback, empty), empty)
    labels = backend.array([0, 0], "int32")
    nothing = backend.array(np.zeros((2, 0)), "float32")
    loss, by = backend.call(value_and_grad(entmax_loss), nothing, labels, check=False, reduction="none")
    assert_equal(backend, loss, single([0, 0]))
    assert_like(backend, by, nothing)
    for function in (hessian_diagonal(entmax_loss), partial(hvp(entmax_loss), vector=nothing)):
        assert_like(backend, backend.call(function, nothing, labels, check=False, reduction="sum"), nothing)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("runner", ["blocks", "pieces of rows", "rows, classes first"])
def test_rows_in_blocks(backend: Backend, runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is sorted as a whole, however narrow the blocks; the same bits but where sums run in another order."""
    x = np.random.default_rng(3).normal(size=(14, 9)).astype("float32")
    labels = backend.array(np.arange(14) % 9, "int32")
    alpha = single(1 + np.arange(14.0)[:, None] / 8)

    def results() -> list[Any]:
        found = []
        for a in (1.25, 1.5, 2.0, backend.array(alpha)):
            value, pullback = vjp(entmax)(backend.array(x), a)
            each = a if isinstance(a, float) else a[:, 0]
            loss = value_and_grad(entmax_loss)(backend.array(x), labels, each, reduction="none")
            second_by = hvp(entmax_loss)(backend.array(x), labels, each, reduction="sum", vector=backend.array(x))
            found += [value, pullback(backend.array(x)), *loss, second_by]
        return [backend.numpy(one) for one in found]

    cut(monkeypatch, backend, RUNNERS["off"])
    whole = results()
    cut(monkeypatch, backend, RUNNERS[runner])
    for one, other in zip(results(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


# -- autodiff ---------------------------------------------------------------------------------------------------------

SMALL = single([[0.5, -1.25, 2], [1, 1, -0.5], [0.25, 0.5, 0]])
AUTODIFF = pytest.mark.backends("autodiff")


@AUTODIFF
@pytest.mark.parametrize("name", ["1.5", "2.0"])
def test_autodiff_of_maps(backend: Backend, name: str) -> None:
    """By torch on the formula, by jax with its rule: the pullback's digits, and exact second derivatives."""
    alpha, where = ALPHAS[name], backend.array(KEPT)
    pulled = np.where(np.isnan(PULL), single(0), PULL)  # torch and jax multiply it by the 0 of a masked class
    (found,) = gradients(backend, partial(entmax, alpha=alpha, where=where), backend.array(LOGITS), cotangent=pulled)
    assert_close(found, exact_pullback(name)[0], dtype="float32", gap=16.0, floor=floor_of(backend))
    f, x, g = partial(entmax, alpha=alpha), backend.array(SMALL), PULL[:3]
    weight = backend.array(g)

    def weighed(x: Array) -> Array:
        p = f(x)
        return backend.xp.sum(p * p * weight)

    matrix = hessian(backend, weighed, x)

    def squares(d: dict[str, Any]) -> mpf:
        p = map_of(list(d["x"]), mpf(alpha))
        return sum((c * v * v for c, v in zip(exactly(g[2]), p, strict=True)), mpf(0))

    vector = [1.0, -0.5, 0.25]
    exact = second(squares, {"x": SMALL[2]}, "x", vector).astype(float)
    np.testing.assert_allclose(matrix[2, :, 2, :] @ vector, exact, rtol=2e-5, atol=2e-6)


@AUTODIFF
def test_autodiff_of_losses(backend: Backend) -> None:
    x, labels = backend.array(SMALL), backend.array(LABELS[:3])
    f = partial(entmax_loss, alpha=1.5, reduction="none")
    (found,) = gradients(backend, lambda x: f(x, labels), x)
    loss, by = value_and_grad(f)(x, labels)
    np.testing.assert_array_equal(backend.numpy(loss), backend.numpy(f(x, labels)))
    np.testing.assert_allclose(found, backend.numpy(by), rtol=3e-7, atol=1e-38)
    matrix = hessian(backend, lambda x: backend.xp.sum(f(x, labels)), x)
    product = hvp(entmax_loss)(x, labels, reduction="sum", vector=x)
    np.testing.assert_allclose(np.einsum("aibj,bj->ai", matrix, SMALL), backend.numpy(product), rtol=1e-5, atol=1e-6)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("small", [2**14, -1], ids=["formula", "rule"])
def test_gradcheck(backend: Backend, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, reverse and twice over, by every argument, off the support as on it."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
    torch = backend.xp
    x = torch.tensor([[0.5, -1.25, 2], [1, 1, -0.5], [0.2, 0.1, 0.05], [0.9, 0.3, 0]], dtype=torch.float64)
    alpha = torch.tensor([[1.001], [1.4], [1.9], [2.7]], dtype=torch.float64)
    q = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.5, 0.3], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=torch.float64)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.25], dtype=torch.float64)
    for leaf in (x, alpha, q, weight):
        leaf.requires_grad_()
    labels = torch.tensor([0, 1, 2, 1])
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (entmax, (x, alpha)),
        (lambda x, a, w: entmax_loss(x, labels, a[:, 0], sample_weight=w), (x, alpha, weight)),
        (lambda x, q, a: entmax_loss(x, q, a[:, 0], reduction="none"), (x, q, alpha)),
    ]
    for function, arguments in calls if small > 0 else calls[::2]:
        assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, arguments, atol=1e-5, fast_mode=True)


@pytest.mark.backends("torch")
def test_torch_vmap(backend: Backend) -> None:
    """Peers: entmax 1.3 cannot be mapped."""
    torch = backend.xp
    x, labels = backend.array(SMALL), backend.array(LABELS[:3].astype("int64"))
    for alpha in (1.25, 1.5):
        each = torch.func.vmap(partial(entmax, alpha=alpha))(x)
        np.testing.assert_allclose(backend.numpy(each), backend.numpy(entmax(x, alpha)), rtol=1e-6)
        rows = torch.func.vmap(torch.func.grad(lambda x, t, a=alpha: entmax_loss(x, t, a)))(x, labels)
        expected = grad(entmax_loss)(x, labels, alpha, reduction="sum")
        np.testing.assert_allclose(backend.numpy(rows), backend.numpy(expected), rtol=1e-6)


@pytest.mark.backends("jax")
def test_jax_jit_and_vmap(backend: Backend) -> None:
    import jax

    x, labels = backend.array(SMALL), backend.array(LABELS[:3])
    rows = jax.jit(jax.vmap(jax.grad(lambda x, t: entmax_loss(x, t, 1.5))))(x, labels)
    expected = backend.numpy(grad(entmax_loss)(x, labels, reduction="sum"))
    np.testing.assert_allclose(backend.numpy(rows), expected, rtol=1e-6, atol=1e-7)
    empty = backend.array(np.zeros((2, 0)), "float32")
    assert_like(backend, jax.jvp(entmax, (empty,), (empty,))[1], empty)


# -- the losses -------------------------------------------------------------------------------------------------------


def targets(kind: str) -> NumPy:
    return LABELS if kind == "labels" else SOFT


def loss_row(kind: str, n: int, at: list[int]) -> list[mpf]:
    q = np.eye(3, dtype="float32")[LABELS[n]] if kind == "labels" else SOFT[n]
    assert q.sum() == q[at].sum()
    return [mpf(float(v)) for v in q[at]]


@cache
def exact_loss(name: str, kind: str) -> dict[str, Any]:
    """Loss, gradients and Hessian times `SECOND`, from differences of the definition."""
    found: dict[str, Any] = {key: np.full((ROWS, 3), mpf(0), dtype=object) for key in ("logits", "labels", "hvp")}
    found |= {key: np.full(ROWS, mpf(0), dtype=object) for key in ("loss", "alpha")}
    with mp.workdps(oracle.DIGITS):
        for n in range(ROWS - 1):
            at = live(n)
            q = loss_row(kind, n, at)
            arrays = {"x": LOGITS[n, at], "q": exactly(np.asarray(q, dtype=object)), "alpha": alpha_of(name, n)}

            def of(d: dict[str, Any]) -> mpf:
                return loss_of(list(d["x"]), list(d["q"]), d["alpha"][()])

            exact = {key: exactly(value) for key, value in arrays.items()}
            found["loss"][n] = of(exact)
            found["logits"][n, at] = gradient(of, arrays, "x")
            found["hvp"][n, at] = second(of, arrays, "x", SECOND[n, at])
            if name == "rows" and exact["alpha"][()] > 1:
                found["alpha"][n] = gradient(of, arrays, "alpha")[()]
            if kind == "soft" and min(q) > 0:
                found["labels"][n, at] = gradient(of, arrays, "q")
    return found


SECOND = np.resize(single([1.0, -0.5, 2.0, 0.25, -1.5]), (ROWS, 3))
LOSSES = [(name, kind) for name in ("1.0", "1.25", "1.5", "2.0", "3.0", "rows") for kind in ("labels", "soft")]


def assert_about(found: NumPy, exact: Any, ulp: float, size: Any = 0.0) -> None:
    """Within so many units of the value, and of a size beside it."""
    assert found.dtype == np.float32
    exact = np.asarray(exact, dtype=object)
    off = abs(exactly(found) - exact)
    room = ulp * eps("float32") / 2 * (abs(exact) + size) + 2.0**-126
    assert np.all(off <= room), f"{found}\n{exact.astype(float)}\n{(off / eps('float32')).astype(float)}"


def sizes(name: str, kind: str) -> Any:
    """What rounding amounts to in p - q: that of p, at a label that of all the others."""
    absolute = exact_map(name)[1].copy()
    if kind == "soft":
        return absolute + abs(exactly(SOFT))
    at = np.arange(ROWS), LABELS
    absolute[at] = 0
    absolute[at] = absolute.sum(axis=-1)
    return absolute


def assert_losses(backend: Backend, name: str, kind: str) -> None:
    alpha = given_alpha(backend, name)
    alpha = alpha if isinstance(alpha, float) else alpha[:, 0]
    x, where, labels = backend.array(LOGITS), backend.array(KEPT), backend.array(targets(kind))
    by = ["logits"] + ["labels"] * (kind == "soft") + ["alpha"] * (name == "rows")
    given = {"where": where, "reduction": "none"}
    loss, found = backend.call(value_and_grad(entmax_loss, tuple(by)), x, labels, alpha, **given)
    assert_same(backend, backend.call(entmax_loss, x, labels, alpha, **given), loss)
    exact = exact_loss(name, kind)
    assert_about(backend.numpy(loss), exact["loss"], 12.0)
    for one, derivative in zip(by, found, strict=True):
        assert_like(backend, derivative, {"logits": x, "labels": labels, "alpha": alpha}[one])
        got = backend.numpy(derivative)
        if one == "labels":
            rows = np.asarray([n < ROWS - 1 and SOFT[n, live(n)].min() > 0 for n in range(ROWS)])
            assert_about(got[rows], exact[one][rows], 12.0, 1.0)
        elif one == "alpha":
            assert_about(got[1:], exact[one][1:], 12.0, 0.25)  # α = 1 has no difference from below
        else:
            assert_about(got, exact[one], 4.0, sizes(name, kind))
    product = backend.call(hvp(entmax_loss), x, labels, alpha, **given, vector=backend.array(SECOND))
    assert_about(backend.numpy(product), exact["hvp"], 12.0, 4.0)
    diagonal = backend.numpy(backend.call(hessian_diagonal(entmax_loss), x, labels, alpha, **given))
    for c in range(3):
        unit = backend.array(np.eye(3, dtype="float32")[c] * np.ones((ROWS, 1), dtype="float32"))
        product = backend.call(hvp(entmax_loss), x, labels, alpha, **given, vector=unit)
        np.testing.assert_allclose(diagonal[:, c], backend.numpy(product)[:, c], rtol=1e-6, atol=1e-38)


@EAGER
@pytest.mark.parametrize(("name", "kind"), LOSSES)
def test_losses_are_exact(backend: Backend, name: str, kind: str) -> None:
    assert_losses(backend, name, kind)


@pytest.mark.backends("jax")
@pytest.mark.parametrize(("name", "kind"), [("1.5", "soft")])
def test_losses_on_jax(backend: Backend, name: str, kind: str) -> None:
    assert_losses(backend, name, kind)


@EAGER
def test_alpha_1_is_cross_entropy_less_entropy(backend: Backend) -> None:
    """Also of labels that do not sum to 1, but for the entropy of their sum."""
    x, labels = backend.array(SMALL), backend.array(LABELS[:3])
    for alpha in (1.0, backend.array([1.0, 1.0, 1.0], "float32")):
        loss, by = backend.call(value_and_grad(entmax_loss), x, labels, alpha, reduction="none")
        same, same_by = backend.call(value_and_grad(cross_entropy), x, labels, reduction="none")
        np.testing.assert_allclose(backend.numpy(loss), backend.numpy(same), rtol=5e-7)
        np.testing.assert_allclose(backend.numpy(by), backend.numpy(same_by), rtol=5e-7)
    q = single([[0.5, 0.25, 0.25], [1, 1, 2], [0.25, 0, 0.25]])
    amount = q.sum(axis=-1)
    entropy = -np.sum(np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0), axis=-1) + amount * np.log(amount)
    loss = backend.numpy(backend.call(entmax_loss, x, backend.array(q), 1.0, reduction="none"))
    same = backend.numpy(backend.call(cross_entropy, x, backend.array(q), reduction="none"))
    np.testing.assert_allclose(loss, same - entropy, rtol=2e-6, atol=1e-7)


@EAGER
def test_small_losses_keep_their_digits(backend: Backend) -> None:
    """Sums of what is not negative: 2.1e-9 of softmax, ½ Σ (q - p)² near a fit, 0 beyond it."""
    x = backend.array([[20.0, 0.0, -INF], [1.0, 2.0**-12, -5], [3.0, 0.0, 0.0]], "float32")
    labels = backend.array([0, 0, 0], "int32")
    loss = backend.numpy(backend.call(entmax_loss, x, labels, 1.0, reduction="none"))
    np.testing.assert_allclose(loss[0], np.log1p(np.exp(-20.0)), rtol=3e-7)
    loss = backend.call(sparsemax_loss, x, labels, reduction="none")
    np.testing.assert_allclose(backend.numpy(loss), [0, 2.0**-26, 0], rtol=5e-7)  # p = (1 - 2⁻¹³, 2⁻¹³)
    p = single([[0.5, 0.375, 0.125]])
    logits = np.sqrt(p.astype("float64")) * 2
    for off in (2.0**-8, 2.0**-16):
        q = p + single([[off, -off, 0]])
        with mp.workdps(60):
            exact = loss_of(list(exactly(logits.astype("float32"))[0]), list(exactly(q)[0]), mpf(1.5))
        found = backend.numpy(backend.call(entmax_loss, backend.array(logits, "float32"), backend.array(q)))
        assert error(found, np.asarray(exact), "float32") < (2**7 if off > 2.0**-12 else 2**15)  # rounding of p


@EAGER
def test_losses_at_infinity(backend: Backend) -> None:
    """A label on -inf or on a dropped class costs +inf, with the usual gradient; a class that is out costs nothing."""
    x = backend.array([[-INF, 1, 1], [1, -INF, 1], [1, 1, 5]], "float32")
    where = backend.array([[True] * 3, [True] * 3, [True, True, False]])
    labels, soft = backend.array([0, 0, 2], "int32"), backend.array(np.eye(3)[[0, 0, 2]], "float32")
    for alpha in (1.0, 1.25, 1.5, 2.0, 3.0, backend.array([1.0, 1.5, 2.0], "float32")):
        for target in (labels, soft):
            loss, by = backend.call(value_and_grad(entmax_loss), x, target, alpha, where=where, reduction="none")
            np.testing.assert_array_equal(np.isinf(backend.numpy(loss)), [True, False, True])
            expected = single([[-1, 0.5, 0.5], [-0.5, 0, 0.5], [0.5, 0.5, 0]])
            np.testing.assert_allclose(backend.numpy(by), expected, rtol=1e-6)
    (found,) = gradients(backend, lambda x: entmax_loss(x, labels, where=where), x) if backend.autodiff else (None,)
    if found is not None:
        np.testing.assert_allclose(found * 3, expected, rtol=1e-6)


@EAGER
def test_what_takes_no_part_in_a_loss(backend: Backend) -> None:
    """Ignored, masked, of weight 0, of no mass: NaN of theirs reaches neither value nor derivative."""
    x = single([[0.5, -1.25, 2], [NAN, 1, INF], [1, 1, -0.5]])
    given: list[tuple[Any, dict[str, Any]]] = [
        (np.asarray([2, -1, 0], dtype="int32"), {"ignore_index": -1}),
        (np.asarray([2, 7, 0], dtype="int32"), {"where": np.asarray([True, False, True])}),
        (np.asarray([2, 0, 0], dtype="int32"), {"sample_weight": single([1, 0, 1])}),
        (single([[0, 0, 1], [0, 0, 0], [1, 0, 0]]), {}),
    ]
    keep = [0, 2]
    for alpha in (1.5, backend.array([1.25, NAN, 2.0], "float32")):
        kept_alpha = alpha if isinstance(alpha, float) else backend.array([1.25, 2.0], "float32")
        mean, by_kept = backend.call(
            value_and_grad(entmax_loss), backend.array(x[keep]), backend.array([2, 0], "int32"), kept_alpha
        )
        for labels, options in given:
            names = (0, "sample_weight") if "sample_weight" in options and isinstance(alpha, float) else (0,)
            call_of = value_and_grad(entmax_loss, names)
            loss, (by, *_) = backend.call(
                call_of, backend.array(x), backend.array(labels), alpha, **placed(backend, options)
            )
            np.testing.assert_allclose(backend.numpy(loss), backend.numpy(mean), rtol=1e-6)
            np.testing.assert_allclose(backend.numpy(by)[keep], backend.numpy(by_kept), rtol=1e-6)
            np.testing.assert_array_equal(backend.numpy(by)[1], 0)


@EAGER
def test_sample_weights(backend: Backend) -> None:
    """Rows times their weights over the sum of these; by a weight of 0 the derivative is the row's loss."""
    x, labels = backend.array(SMALL), backend.array(LABELS[:3])
    weight = backend.array([2.0, 0.0, 0.5], "float32")
    rows = backend.numpy(backend.call(sparsemax_loss, x, labels, reduction="none"))
    f = value_and_grad(sparsemax_loss, (0, "sample_weight"))
    loss, (_, by) = backend.call(f, x, labels, sample_weight=weight, reduction="sum")
    np.testing.assert_allclose(backend.numpy(loss), 2 * rows[0] + 0.5 * rows[2], rtol=1e-6)
    np.testing.assert_allclose(backend.numpy(by), rows, rtol=1e-6)
    mean = backend.call(sparsemax_loss, x, labels, sample_weight=weight)
    np.testing.assert_allclose(backend.numpy(mean), backend.numpy(loss) / 2.5, rtol=1e-6)
    total, mass = backend.call(sparsemax_loss, x, labels, sample_weight=0.5, reduction="sum_and_weight")
    np.testing.assert_allclose([backend.numpy(total), backend.numpy(mass)], [rows.sum() / 2, 1.5], rtol=1e-6)
    counted = backend.call(sparsemax_loss, x, labels, sample_weight=weight, denominator="count")
    np.testing.assert_allclose(backend.numpy(counted), backend.numpy(loss) / 2, rtol=1e-6)


@EAGER
def test_losses_of_halves_and_out_of_range(backend: Backend) -> None:
    """Losses of halves are float32; a label that is none makes its row NaN where it is not refused."""
    x = backend.array([[2.0, 1.0, 0.0]], "float32")
    for half in set(HALVES) & set(backend.floats):
        loss = backend.call(entmax_loss, backend.array([[2.0, 1.0, 0.0]], half), backend.array([1], "int32"))
        assert_equal(backend, loss, backend.numpy(backend.call(entmax_loss, x, backend.array([1], "int32"))))
    loss, by = backend.call(value_and_grad(entmax_loss), x, backend.array([3], "int32"), check=False)
    assert np.isnan(backend.numpy(loss))
    assert np.isnan(backend.numpy(by)).all()


# -- laws -------------------------------------------------------------------------------------------------------------

NUMBERS = st.lists(st.lists(st.integers(-64, 64), min_size=4, max_size=4), min_size=3, max_size=3)
ALPHA = st.sampled_from([1.0, 1.0625, 1.25, 1.5, 1.75, 2.0, 2.5, 4.0])


@given(rows=NUMBERS, alpha=ALPHA, scale=st.sampled_from([0.015625, 0.0625, 1.0]))
@settings(max_examples=60)
def test_laws_of_the_map(rows: list[list[int]], alpha: float, scale: float) -> None:
    """Σ p = 1, p in the order of x, equal where x is, unmoved by a constant and by the order; an array is a number."""
    x = np.asarray(rows, dtype="float64") * scale
    p = entmax(x, alpha)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-15)
    order = np.argsort(x, axis=-1)
    ordered = np.take_along_axis(p, order, axis=-1)
    assert (np.diff(ordered, axis=-1) >= -1e-15).all()
    np.testing.assert_allclose(entmax(x + 8.0, alpha), p, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(entmax(x[:, ::-1], alpha), p[:, ::-1], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(entmax(x, np.full((3, 1), alpha)), p, rtol=1e-10, atol=1e-14)


@given(rows=NUMBERS, alpha=ALPHA, masses=st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(max_examples=60)
def test_laws_of_the_loss(rows: list[list[int]], alpha: float, masses: list[int]) -> None:
    """Not negative; 0 at the fit; one-hot distributions are labels; the gradient is p - q."""
    x, q = np.asarray(rows, dtype="float64") / 32, np.asarray(masses) + np.asarray([1.0, 0, 0, 0])
    q = np.tile(q / q.sum(), (3, 1))
    loss, by = value_and_grad(entmax_loss)(x, q, alpha, reduction="none")
    assert (loss >= 0).all()
    p = entmax(x, alpha)
    np.testing.assert_allclose(by, p - q, rtol=1e-13, atol=1e-15)
    assert (entmax_loss(x, p, alpha, reduction="none") <= 1e-28 + 1e-15 * (alpha > 2)).all()
    labels = np.asarray([0, 3, 1])
    of_labels = entmax_loss(x, labels, alpha, reduction="none")
    np.testing.assert_allclose(entmax_loss(x, np.eye(4)[labels], alpha, reduction="none"), of_labels, rtol=1e-12)


# -- a map of one's own -----------------------------------------------------------------------------------------------


def test_fenchel_young_loss_of_sparsemax(backend: Backend) -> None:
    """The envelope theorem: gradient p - q, though nobody differentiates the map; every reduction."""
    xp = backend.xp
    x, labels, soft = backend.array(SMALL), backend.array(LABELS[:3]), backend.array(SOFT[:3])
    own: dict[str, Any] = {"mapping": sparsemax, "regulariser": lambda p: xp.sum(p * p, axis=-1) * 0.5}

    def expected_by(target: Any) -> Any:
        return backend.numpy(grad(sparsemax_loss)(x, target))

    for target in (labels,) if backend.library == "jax" else (labels, soft):
        found = backend.call(fenchel_young_loss, x, target, **own, reduction="none")
        expected = backend.numpy(backend.call(sparsemax_loss, x, target, reduction="none"))
        np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-6, atol=1e-6)
        if backend.autodiff:
            (by,) = gradients(backend, lambda x, target=target: fenchel_young_loss(x, target, **own), x)
            np.testing.assert_allclose(by, expected_by(target), rtol=1e-6, atol=1e-7)
        loss, by = backend.call(value_and_grad(fenchel_young_loss), x, target, **own)
        np.testing.assert_allclose(backend.numpy(loss), expected.mean(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(backend.numpy(by), expected_by(target), rtol=1e-6, atol=1e-7)
    ignored = backend.array([2, -1, 2], "int32")
    weights = backend.array([1.0, 3.0, 0.5], "float32")
    options = {"ignore_index": -1, "sample_weight": weights}
    found = backend.call(fenchel_young_loss, x, ignored, **own, **options)
    expected = backend.call(sparsemax_loss, x, ignored, **options)
    np.testing.assert_allclose(backend.numpy(found), backend.numpy(expected), rtol=1e-6)
    every = ("logits", "sample_weight")
    found = backend.call(grad(fenchel_young_loss, every), x, ignored, **own, **options)
    expected = backend.call(grad(sparsemax_loss, every), x, ignored, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6, atol=1e-6)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("rows", [3, 6000])  # the second is differentiated in closed form
def test_fenchel_young_loss_by_distributions(backend: Backend, rows: int) -> None:
    """∇Ω(q) - x, by differentiating what the caller has given."""
    torch = backend.xp
    generator = torch.Generator().manual_seed(0)
    x, q = torch.randn(2, rows, 3, generator=generator)
    q = torch.softmax(q, -1).requires_grad_()
    fenchel_young_loss(x, q, mapping=sparsemax, regulariser=lambda p: (p * p).sum(-1) / 2, reduction="sum").backward()
    torch.testing.assert_close(q.grad, q.detach() - x)


@EAGER
def test_fenchel_young_loss_along_axes(backend: Backend) -> None:
    """The functions are given the caller's shape; -inf of a class that is out costs nothing."""
    xp = backend.xp
    x = backend.array([[1.0, 0.5, -INF], [0.5, 3.0, 0.0]], "float32")
    own: dict[str, Any] = {"mapping": partial(sparsemax, axis=0), "regulariser": lambda p: xp.sum(p * p, axis=0) * 0.5}
    found = backend.call(fenchel_young_loss, x, backend.array([0, 0, 1], "int32"), **own, axis=0, reduction="none")
    assert_equal(backend, found, single([0.0625, 2.5, 0.0]))


# -- errors -----------------------------------------------------------------------------------------------------------

X, ROW_LABELS = np.zeros((2, 3), dtype="float32"), np.asarray([0, 1])
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: entmax(X, 0.5), ValueError, "alpha must be finite and at least 1, got 0.5; .*"),
    (
        lambda: entmax(X, None),
        ValueError,
        "alpha must be a number or an array, got None; 1.0 is softmax, 2.0 sparsemax",
    ),
    (lambda: entmax(X, NAN), ValueError, "alpha must be finite and at least 1, got nan; .*"),
    (lambda: entmax(X, [1.5, 2.0]), TypeError, "alpha must be a number or an array, got list; .*"),
    (
        lambda: entmax(X, np.full(3, 1.5)),
        ValueError,
        r"alpha must be one value a row, of size 1 along the class axis, got shape \(3,\) .* for example to \(2, 1\)",
    ),
    (
        lambda: entmax(X, np.full((4, 1), 1.5)),
        ValueError,
        r"alpha must broadcast to the logits' shape \(2, 3\), got .*",
    ),
    (
        lambda: entmax_loss(X, ROW_LABELS, np.full((2, 1), 1.5)),
        ValueError,
        r"alpha must be a scalar or have the batch .*",
    ),
    (
        lambda: entmax_loss(X, ROW_LABELS, np.asarray([1.5, 0.5]), check=True),
        ValueError,
        "alpha must be finite and at least 1, got 0.5 at position 1; mend it, or drop check=True",
    ),
    (lambda: sparsemax([1.0, 2.0]), TypeError, "logits must be an array, got list; wrap it.*"),
    (lambda: sparsemax(X, where=X), TypeError, "where must be bool, got dtype float32; compare first.*"),
    (lambda: sparsemax_loss(X, np.asarray([0, 3])), ValueError, "labels must be from 0 to 2, got 3 at position 1; .*"),
    (lambda: sparsemax_loss(X, X[:, :2]), ValueError, r"floating labels must have the logits' shape \(2, 3\), got .*"),
    (
        lambda: sparsemax_loss(X, X + 0.5, check=True),
        ValueError,
        "labels must be distributions that sum to 1, got 1.5 .*",
    ),
    (
        lambda: sparsemax_loss(X, X, ignore_index=0),
        ValueError,
        "ignore_index must be left out beside floating labels.*",
    ),
    (lambda: sparsemax_loss(X, ROW_LABELS, reduction="avg"), ValueError, "reduction must be one of .*"),
    (
        lambda: sparsemax_loss(X, ROW_LABELS, sample_weight=np.asarray([1.0, -1.0])),
        ValueError,
        "sample_weight must not be negative where the mean divides by it, got -1 at position 1; .*",
    ),
    (
        lambda: fenchel_young_loss(X, ROW_LABELS, mapping=None, regulariser=np.sum),  # type: ignore[arg-type]
        TypeError,
        "mapping must be a function of an array of the logits' shape, got None; .*",
    ),
    (
        lambda: hessian_diagonal(fenchel_young_loss)(X, ROW_LABELS, mapping=sparsemax, regulariser=np.sum),
        TypeError,
        "hessian_diagonal must be given a function whose second derivatives .*, got fenchel_young_loss; .*",
    ),
    (
        lambda: fenchel_young_loss(X, ROW_LABELS, mapping=sparsemax, regulariser=np.sum),
        ValueError,
        r"regulariser must return an array of shape \(2,\), got shape \(\); it is one number an example",
    ),
    (
        lambda: fenchel_young_loss(X, ROW_LABELS, mapping=lambda _: 1.0, regulariser=np.sum),
        ValueError,
        r"mapping must return an array of shape \(2, 3\), got float; it is one a logit",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
def test_errors(wrong: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}$"):
        wrong()


# -- faults of peers --------------------------------------------------------------------------------------------------


def test_keras_sparsemax_of_more_than_one(backend: Backend) -> None:
    """Version 3.15.1 adds up the cumulative sums of the support where it means the last of them (keras#23425)."""

    def peer(x: NumPy) -> NumPy:
        ordered = -np.sort(-x, axis=-1)
        sums, counts = np.cumsum(ordered, axis=-1), np.arange(1, x.shape[-1] + 1)
        support = ordered - (sums - 1) / counts > 0
        size = support.sum(axis=-1, keepdims=True)
        tau = (np.where(support, sums, 0).sum(axis=-1, keepdims=True) - 1) / size
        return np.asarray(np.maximum(x - tau, 0))

    x = single([[1, 0.5, -9], [2, 0, 0]])
    np.testing.assert_array_equal(peer(x), [[0.25, 0, 0], [1, 0, 0]])  # a support of 1 does not show it
    assert_equal(backend, call(backend, sparsemax, backend.array(x)), single([[0.75, 0.25, 0], [1, 0, 0]]))


@EAGER
def test_entmax_package_alpha_1_is_softmax(backend: Backend) -> None:
    """Its bisection divides by α - 1 = 0, and normalises what is left: uniform."""

    def peer(x: NumPy, alpha: float) -> NumPy:
        z = (x - x.max(axis=-1, keepdims=True)) * (alpha - 1)
        with np.errstate(divide="ignore"):
            p = np.maximum(z + 1, 0) ** (1 / np.float64(alpha - 1))
        return np.asarray(p / p.sum(axis=-1, keepdims=True))

    x = single([[2, 1, 0]])
    np.testing.assert_allclose(peer(x, 1.0), 1 / 3)
    found = backend.numpy(backend.call(entmax, backend.array(x), 1.0))
    np.testing.assert_allclose(found, [[0.66524096, 0.24472847, 0.09003057]], rtol=1e-6)


@EAGER
def test_entmax_package_all_minus_infinity(backend: Backend) -> None:
    """Its sorting finds no support and takes entry -1: an error where a row of NaN, and of no other, is asked for."""

    def peer(x: NumPy) -> NumPy:
        ordered = -np.sort(-x, axis=-1)
        with np.errstate(invalid="ignore"):
            support = (np.arange(1, x.shape[-1] + 1) * ordered + 1 > np.cumsum(ordered, axis=-1)).sum(axis=-1)
        if (support == 0).any():
            raise RuntimeError("index -1 is out of bounds")
        return x

    x = single([[-INF, -INF, -INF], [1, 0.5, -INF]])
    with pytest.raises(RuntimeError, match="index -1"):
        peer(x)
    for alpha in (1.5, 2.0, 1.25):
        found = backend.numpy(backend.call(entmax, backend.array(x), alpha))
        np.testing.assert_array_equal(np.isnan(found), [[True] * 3, [False] * 3])


@EAGER
def test_entmax_package_ignore_index_works(backend: Backend) -> None:
    """Its guard is ignore_index >= 0, so that its default of -100 indexes a one-hot matrix with -100."""

    def peer(x: NumPy, labels: NumPy, ignore_index: int) -> NumPy:
        ignored = labels == ignore_index if ignore_index >= 0 else np.zeros_like(labels, dtype=bool)
        q = np.zeros_like(x)
        q[np.arange(len(x)), labels] = 1
        return np.where(ignored, 0, ((x - q) ** 2).sum(axis=-1))

    x, labels = SMALL[:2], np.asarray([2, -100], dtype="int32")
    with pytest.raises(IndexError):
        peer(x, labels, -100)
    found = backend.call(sparsemax_loss, backend.array(x), backend.array(labels), ignore_index=-100)
    first = backend.call(sparsemax_loss, backend.array(x[:1]), backend.array(labels[:1]))
    assert_equal(backend, found, backend.numpy(first))


@EAGER
def test_entmax_package_alpha_of_rows_gives_one_loss_a_row(backend: Backend) -> None:
    """It multiplies (N,) by (N, 1), which is a matrix."""

    def peer(entropy: NumPy, alpha: NumPy) -> NumPy:
        return np.asarray(entropy / (alpha * (alpha - 1)))

    alpha = single([[1.25], [1.5], [2.0]])
    assert peer(np.ones(3), alpha).shape == (3, 3)
    x, labels = backend.array(SMALL), backend.array(LABELS[:3])
    rows = backend.numpy(backend.call(entmax_loss, x, labels, backend.array(alpha[:, 0]), reduction="none"))
    assert rows.shape == (3,)
    for n, one in enumerate(alpha[:, 0]):
        alone = backend.call(entmax_loss, backend.array(SMALL[n : n + 1]), backend.array(LABELS[n : n + 1]), float(one))
        np.testing.assert_allclose(rows[n], backend.numpy(alone), rtol=2e-6)


def test_entmax_package_vmap() -> None:
    """Its functions index with what they find, of which vmap has no single value; see `test_torch_vmap` for ours."""
    torch = pytest.importorskip("torch")

    def peer(x: Any) -> Any:
        ordered, _ = torch.sort(x, descending=True)
        size = (1 + torch.arange(1, 4) * ordered > torch.cumsum(ordered, 0)).sum()
        return x - (ordered[: int(size)].sum() - 1) / size

    x = load("torch").array(SMALL)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(peer)(x)
    assert torch.func.vmap(sparsemax)(x).shape == x.shape
