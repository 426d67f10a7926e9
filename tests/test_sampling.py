"""gumbel_softmax: softmax of noisy logits, hard choices with soft derivatives, special values, laws, errors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, default_float, gradients
from derivatives import INF, NAN, assert_close
from exact_gradients import KEPT, LOGITS, PULL, assert_like, assert_same, floor_of, placed, single
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES
from test_blocks import RUNNERS, cut

from softxent import grad, gumbel_softmax, softmax, vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

EAGER = pytest.mark.backends("numpy", "array_api_strict", "torch", "dask")
pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

# So few bits that the sums are exact; NaN where a class is masked. Row 1 has a tie of the sums at the top.
NOISE = single([[0.25, 3, -1], [0.5, 0.5, 4], [-0.5, 1, 2], [1, -2, 0.5], [9, 0.5, -0.25], [NAN, 2, 0], [NAN] * 3])
SUMS = LOGITS + NOISE
HEATS: dict[str, Any] = {
    "number": 0.5,
    "rows": single([[0.5], [2], [4], [0.25], [1], [2], [NAN]]),
    "classes": single([0.5, 1.0, 2.0]),
}


def heat_of(name: str) -> Any:
    """For the oracle: a masked row is not to look at its temperature."""
    return np.nan_to_num(np.asarray(HEATS[name]), nan=1.0)


@pytest.mark.parametrize("name", HEATS)
def test_values_and_derivatives_are_those_of_softmax(backend: Backend, name: str) -> None:
    """By noise as by logits; by a temperature as softmax of the sums has it."""
    x, noise, options = backend.array(LOGITS), backend.array(NOISE), placed(backend, {"where": KEPT})
    options["temperature"] = HEATS[name] if name == "number" else backend.array(HEATS[name])
    by = ("logits", "noise") if name == "number" else ("logits", "noise", "temperature")
    value, pullback = backend.call(vjp(gumbel_softmax, by), x, noise, **options)
    sums = backend.array(SUMS)
    assert_same(backend, value, backend.call(softmax, sums, **options))
    assert_exact(backend, value, oracle.softmax(SUMS, where=KEPT, temperature=heat_of(name)), ulp=8.0)
    g = backend.array(PULL)
    by_x, by_noise, *by_heat = backend.call(pullback, g)
    expected = oracle.softmax_vjp(PULL, SUMS, where=KEPT, temperature=heat_of(name))
    assert_close(backend.numpy(by_x), expected, dtype="float32", gap=4.0, floor=floor_of(backend))
    assert_like(backend, by_noise, noise)
    assert_same(backend, by_noise, by_x)
    if by_heat:
        _, of_softmax = backend.call(vjp(softmax, "temperature"), sums, **options)
        assert_same(backend, by_heat[0], backend.call(of_softmax, g))


@pytest.mark.parametrize("name", HEATS)
def test_hard_is_the_first_largest(backend: Backend, name: str) -> None:
    """One-hot of the largest sum over the temperature, with the derivatives of the soft sample to the bit."""
    x, noise, options = backend.array(LOGITS), backend.array(NOISE), placed(backend, {"where": KEPT})
    options["temperature"] = HEATS[name] if name == "number" else backend.array(HEATS[name])
    value, pullback = backend.call(vjp(gumbel_softmax), x, noise, **options, hard=True)
    z = np.where(KEPT, SUMS / heat_of(name), -INF)
    one_hot = np.where(KEPT.any(axis=-1, keepdims=True), np.eye(3)[np.argmax(z, axis=-1)], 0)
    assert_equal(backend, value, single(one_hot))
    _, soft = backend.call(vjp(gumbel_softmax), x, noise, **options)
    g = backend.array(PULL)
    assert_same(backend, backend.call(pullback, g), backend.call(soft, g))


def test_equal_sums_choose_the_first(backend: Backend) -> None:
    x, noise = backend.array([[1.0, 2.0, 0.0]], "float32"), backend.array([[1.0, 0.0, 2.0]], "float32")
    assert_equal(backend, backend.call(gumbel_softmax, x, noise, hard=True), single([[1, 0, 0]]))


@pytest.mark.backends("autodiff")
@pytest.mark.parametrize("hard", [False, True])
def test_autodiff(backend: Backend, hard: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Straight through: torch's autograd and jax's see the soft sample behind the hard one."""
    where, heat = backend.array(KEPT), backend.array(0.5, "float32")
    pulled = np.where(np.isnan(PULL), single(0), PULL)

    def f(x: Array, noise: Array, heat: Array) -> Array:
        return gumbel_softmax(x, noise, temperature=heat, where=where, hard=hard)

    by_x, by_noise, by_heat = gradients(backend, f, backend.array(LOGITS), backend.array(NOISE), heat, cotangent=pulled)
    expected = oracle.softmax_vjp(pulled, SUMS, where=KEPT, temperature=0.5)
    assert_close(by_x, expected, dtype="float32", gap=4.0, floor=floor_of(backend))
    np.testing.assert_array_equal(by_noise, by_x)
    z = np.where(KEPT & np.isfinite(SUMS), SUMS, 0).astype("float64") / 0.5
    top = np.where(KEPT, z, -INF).max(axis=-1, keepdims=True)
    moments = by_x.astype("float64") * np.where(KEPT & np.isfinite(LOGITS), z - top, 0)
    np.testing.assert_allclose(by_heat, -moments.sum(), rtol=1e-5)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("small", [2**14, -1], ids=["formula", "rule"])
def test_torch_transforms(backend: Backend, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both orders, both modes, and vmap over rows."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
    torch = backend.xp
    x = torch.tensor([[0.5, -1.25, 2], [1, 1, -0.5]], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([[0.5, 2, -1], [0, 0.25, 1]], dtype=torch.float64, requires_grad=True)
    heat = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    f = partial(gumbel_softmax, temperature=heat)
    assert torch.autograd.gradcheck(f, (x, noise), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, t: gumbel_softmax(x, noise, temperature=t), (x, heat), fast_mode=True)
    plain, rows = x.detach(), torch.func.vmap(partial(gumbel_softmax, hard=True))
    assert_equal(backend, rows(plain, noise.detach()), np.asarray([[1.0, 0, 0], [0, 1, 0]]))


@pytest.mark.backends("jax")
def test_jax_vmap(backend: Backend) -> None:
    import jax

    x, noise = single([[1, 0, 2], [2, 1, 0]]), single([[0.5, 2, -0.25], [0, 0.5, 1]])
    weight = backend.array([1.0, 2.0, 4.0], "float32")

    def chosen(x: Array, noise: Array) -> Array:
        return (gumbel_softmax(x, noise, hard=True) * weight).sum()

    found = jax.jit(jax.vmap(jax.grad(chosen)))(backend.array(x), backend.array(noise))
    expected = oracle.softmax_vjp(single([[1, 2, 4]] * 2), x + noise)
    assert_close(backend.numpy(found), expected, dtype="float32", gap=4.0, floor=floor_of(backend))


@EAGER
def test_special_values(backend: Backend) -> None:
    """-inf is never chosen; NaN in that row only, also if hard; a temperature that is not positive."""
    x = single([[-INF, 0, 1], [-INF] * 3, [0, INF, 1], [0, NAN, 1], [0, 0, 0]])
    zero, ones = backend.array(np.zeros_like(x)), backend.array(np.ones_like(x))
    undefined = [[False] * 3] + [[True] * 3] * 3 + [[False] * 3]
    heat = backend.array([[1.0], [1.0], [1.0], [1.0], [-1.0]], "float32")
    for hard in (False, True):
        value, pullback = backend.call(vjp(gumbel_softmax), backend.array(x), zero, hard=hard)
        assert backend.numpy(value)[0, 0] == 0
        np.testing.assert_array_equal(np.isnan(backend.numpy(value)), undefined)
        np.testing.assert_array_equal(np.isnan(backend.numpy(backend.call(pullback, ones))), undefined)
        found = backend.numpy(backend.call(gumbel_softmax, zero, zero, temperature=heat, hard=hard))
        np.testing.assert_array_equal(np.isnan(found).any(axis=-1), [False] * 4 + [True])


@EAGER
def test_integers_halves_and_dtype(backend: Backend) -> None:
    """The logits' dtype decides; noise keeps what digits it has beside halves."""
    noise = backend.array([[0.5, 0.25, 0.0]], "float32")
    found = backend.call(gumbel_softmax, backend.array([[0, 1, 2]], "int32"), noise)
    assert backend.numpy(found).dtype == default_float(backend)
    fine = single([[2.0**-13, 0.0, 0.0]])  # less than half a unit of 1 in either half
    for half in set(HALVES) & set(backend.floats):
        x = backend.array([[1.0, 1.0, 0.0]], half)
        found = backend.call(gumbel_softmax, x, backend.array(fine), temperature=2.0**-12)
        exact = oracle.softmax(single([[1, 1, 0]]) + fine, temperature=2.0**-12)
        assert_exact(backend, found, exact, half)
        assert_exact(
            backend,
            backend.call(gumbel_softmax, x, backend.array(fine), dtype="float32"),
            oracle.softmax(single([[1, 1, 0]]) + fine),
        )


@EAGER
@pytest.mark.parametrize("axis", [0, (2, 0), None, ()], ids=str)
def test_axes(backend: Backend, axis: Any) -> None:
    cube = single(np.arange(24.0).reshape(2, 3, 4) * 5 % 7 / 4)
    form = oracle.Layout(cube.shape, axis)
    x, noise = backend.array(cube), backend.array(cube[::-1] / 2)
    rows, noisy = (backend.array(np.ascontiguousarray(form.rows(part))) for part in (cube, cube[::-1] / 2))
    for hard in (False, True):
        value, pullback = backend.call(vjp(gumbel_softmax), x, noise, axis=axis, hard=hard)
        flat, flat_pullback = backend.call(vjp(gumbel_softmax), rows, noisy, hard=hard)
        assert_equal(backend, value, form.back(backend.numpy(flat)))
        assert_equal(backend, backend.call(pullback, x), form.back(backend.numpy(backend.call(flat_pullback, rows))))


@EAGER
def test_no_classes_and_no_dimensions(backend: Backend) -> None:
    one = backend.array(2.5, "float32")
    assert_equal(backend, backend.call(gumbel_softmax, one, one, hard=True), single(1.0))
    if backend.library == "numpy":  # whose scalars are 0-d arrays
        assert_equal(backend, gumbel_softmax(one, np.float64(0.5)), single(1.0))
    empty = backend.array(np.zeros((2, 0)), "float32")
    for hard in (False, True):
        value, pullback = backend.call(vjp(gumbel_softmax), empty, empty, hard=hard)
        assert_like(backend, value, empty)
        assert_like(backend, backend.call(pullback, empty), empty)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("runner", ["blocks", "pieces of rows", "rows, classes first"])
def test_rows_in_blocks(backend: Backend, runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x, noise = (backend.array(rng.normal(size=(5, 9)).astype("float32")) for _ in range(2))

    def results() -> list[NumPy]:
        found = []
        for hard in (False, True):
            value, pullback = vjp(gumbel_softmax)(x, noise, hard=hard)
            found += [value, pullback(x)]
        return [backend.numpy(one) for one in found]

    cut(monkeypatch, backend, RUNNERS["off"])
    whole = results()
    cut(monkeypatch, backend, RUNNERS[runner])
    for one, other in zip(results(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@given(
    rows=st.lists(st.lists(st.integers(-40, 40), min_size=3, max_size=3), min_size=2, max_size=2),
    noise=st.lists(st.lists(st.integers(-40, 40), min_size=3, max_size=3), min_size=2, max_size=2),
)
def test_laws(rows: list[list[int]], noise: list[list[int]]) -> None:
    """Noise of 0 is softmax; logits and noise are interchangeable; soft tends to hard as T falls to 0."""
    x, n = np.asarray(rows) / 8.0, np.asarray(noise) / 8.0
    np.testing.assert_array_equal(gumbel_softmax(x, 0 * n), softmax(x))
    np.testing.assert_array_equal(gumbel_softmax(x, n), gumbel_softmax(n, x))
    hard = gumbel_softmax(x, n, hard=True)
    np.testing.assert_array_equal(hard.sum(axis=-1), 1)
    ordered = np.sort(x + n, axis=-1)
    clear = ordered[:, -1] > ordered[:, -2]
    soft = gumbel_softmax(x, n, temperature=2.0**-10)
    np.testing.assert_allclose(soft[clear], hard[clear], atol=1e-30)


def test_choices_follow_softmax() -> None:
    """The Gumbel-max trick: frequencies of 20 000 samples within five standard deviations."""
    count, x = 20_000, np.asarray([1.0, 0.0, 2.0])
    noise = np.random.default_rng(0).gumbel(size=(count, 3))
    frequency = gumbel_softmax(np.broadcast_to(x, (count, 3)), noise, hard=True).mean(axis=0)
    p = softmax(x)
    assert np.all(abs(frequency - p) < 5 * np.sqrt(p * (1 - p) / count))


X = np.zeros((2, 3))
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: gumbel_softmax(X, None), TypeError, "noise must be an array of the logits' shape, got None; draw one .*"),
    (lambda: gumbel_softmax(X, 0.0), TypeError, "noise must be an array of the logits' shape, got 0.0; draw one .*"),
    (
        lambda: gumbel_softmax(X, X[0]),
        ValueError,
        r"noise must have the logits' shape \(2, 3\), got \(3,\); nothing is broadcast: draw one Gumbel number a logit",
    ),
    (lambda: gumbel_softmax(X, X + 0j), TypeError, "noise must be float16, .*, got dtype complex128; .*"),
    (
        lambda: gumbel_softmax(X, X, temperature=0.0),
        ValueError,
        "temperature must be finite and greater than 0, got 0.0; the limit at 0 is argmax of the logits",
    ),
    (lambda: gumbel_softmax(X, X, hard=1), TypeError, "hard must be True or False, got 1"),  # type: ignore[arg-type]
    (lambda: grad(gumbel_softmax), TypeError, "grad must be given a function of one value, .* got gumbel_softmax, .*"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
def test_errors(wrong: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{message}$"):
        wrong()
