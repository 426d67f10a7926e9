"""Binary cross-entropy and focal loss: values and derivatives by every argument, exact on every library.

The reference is the definition in mpmath. It is differentiated at 100 digits, the halves for positive and for negative
targets apart, so that the absolute values of the terms are known too.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import differences
import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal, assert_exact, call, default_float, gradients
from derivatives import INF, NAN, assert_close, assert_ulps
from exact_gradients import EAGER, assert_like, assert_same, floor_of, placed, single, widest
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES, numpy_dtype
from mpmath import mp, mpf

from softxent import (
    binary_cross_entropy,
    binary_focal_loss,
    grad,
    hessian_diagonal,
    hvp,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matrix import Backend

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

Array = Any
NumPy = np.ndarray[Any, Any]
Exact = Any


# -- exact ------------------------------------------------------------------------------------------------------------


class Halves(NamedTuple):
    """What elements cost as positives and as negatives."""

    positive: Exact
    negative: Exact


def each(function: Callable[..., Any], *arrays: Any) -> Exact:
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), dtype=object)


def half(n: int, given: dict[str, Exact]) -> mpf:
    """One of both of a single element."""
    return halves(given)[n][0]


def halves(given: dict[str, Exact]) -> Halves:
    """The definition. An element that takes no part has a weight of 0 and harmless numbers."""
    x, y, w = (given[name] for name in ("logits", "labels", "weight"))
    p, q = (each(lambda t, s=sign: 1 / (1 + mp.exp(-s * t)), x) for sign in (1, -1))
    u, v = (each(lambda t, s=sign: mp.log1p(mp.exp(-s * t)), x) for sign in (1, -1))
    y = y * (1 - given["label_smoothing"]) + given["label_smoothing"] / 2
    alpha, gamma = given["alpha"], given["gamma"]
    positive, negative = (1, 1) if alpha is None else (alpha, 1 - alpha)
    return Halves(
        w * given["pos_weight"] * positive * y * each(mp.power, q, gamma) * u,
        w * negative * (1 - y) * each(mp.power, p, gamma) * v,
    )


class Case(NamedTuple):
    """A call on logits of shape (4, 3), and what takes part in it."""

    labels: Any
    options: dict[str, Any]
    logits: Any = None
    axis: int = -1

    @property
    def function(self) -> Callable[..., Array]:
        return binary_focal_loss if "gamma" in self.options else binary_cross_entropy

    def arrays(self, dtype: str = "float32") -> dict[str, NumPy]:
        """All arguments; numbers in `dtype`, integers and bool as they are."""
        given = {"logits": LOGITS if self.logits is None else self.logits, "labels": self.labels, **self.options}
        arrays = {name: np.asarray(x) for name, x in given.items()}
        return {
            name: x.astype(dtype) if x.dtype.kind == "f" else x.astype("int32") if x.dtype.kind == "i" else x
            for name, x in arrays.items()
        }

    @property
    def by(self) -> tuple[str, ...]:
        return tuple(name for name, x in self.arrays().items() if x.dtype.kind == "f")

    @property
    def sharp(self) -> bool:
        """Whether targets are 0 and 1 and nothing mixes them, so that no sum has two terms."""
        return not {"label_smoothing", "gamma"} & set(self.options) and "labels" not in self.by

    def full(self, dtype: str = "float32") -> tuple[dict[str, Exact], NumPy, NumPy]:
        """Every argument of the definition, one entry an element; which elements take part; which have a loss."""
        arrays = self.arrays(dtype)
        kept = np.broadcast_to(arrays.pop("where", np.asarray([True])), (4, 3))
        if "ignore_index" in arrays:
            kept = kept & (arrays["labels"] != arrays.pop("ignore_index"))
        sound = kept & np.isfinite(arrays["logits"])  # the others that take part weigh 0
        neutral: dict[str, Any] = {"weight": 1, "pos_weight": 1, "label_smoothing": 0, "gamma": 0, "alpha": None}
        exact: dict[str, Exact] = {}
        for name in ("logits", "labels", *neutral):
            x = arrays.get(name, neutral.get(name))
            exact[name] = None if x is None else ulps.exactly(self.spread(np.asarray(x)))
        for name in ("logits", "labels"):
            exact[name] = np.where(sound, exact[name], mpf(0))
        return exact, kept, sound

    def spread(self, x: NumPy) -> NumPy:
        """An option, one entry an element."""
        x = x.reshape((-1, 1)) if x.shape == (4,) and self.axis == 0 else x
        return np.broadcast_to(x, (4, 3))

    def gathered(self, x: Exact, name: str) -> Exact:
        """The transpose of that."""
        shape = self.arrays()[name].shape
        one = oracle.sum_to(x, (4, 1) if self.axis == 0 else (1, 3)) if len(shape) == 1 else x
        return np.asarray(one).reshape(shape) if len(shape) == 1 else _summed(x, shape)


def _summed(x: Exact, shape: tuple[int, ...]) -> Exact:
    return np.asarray(oracle.sum_to(x, shape), dtype=object)


# Both tails, both sides of 0, 0 itself; numbers that float32 and float64 hold.
LOGITS = single([[0.5, -1.25, 2.0], [30.0, -30.0, 0.0], [-4.0, 8.0, 2.0**-100], [-40.0, 40.0, -0.5]])
HARD = [[1, 0, 1], [1, 1, 0], [0, 0, 1], [1, 0, 1]]
SOFT = single([[0.25, 0.5, 0.75], [0.0, 1.0, 0.5], [1.0, 0.0, 0.125], [0.0, 1.0, 2.0**-20]])
HOLES = np.where([[True, False, True], [True, True, True], [False, True, True], [True, True, False]], LOGITS, NAN)
KEPT = np.isfinite(HOLES)
PUZZLED = np.where(KEPT, LOGITS, [[1.0, INF, 1.0], [1.0] * 3, [-INF, 1.0, 1.0], [1.0, 1.0, NAN]])
COTANGENT = single([[1.0, -0.5, 2.0], [0.25, 1.5, -1.0], [0.75, 1.0, -2.0], [0.5, 1.0, 4.0]])
ALONG, DOWN = single([2.0, 1.0, 0.5]), single([1.0, 0.25, 3.0, 2.0])
EPSILON = single([[0.125], [0.0], [2.0**-22], [1.0]])
WEIGHT = single([[2.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 3.0, 0.25], [1.0, 2.0, 0.0]])

CASES = {
    "hard": Case(HARD, {}),
    "soft": Case(SOFT, {}),
    "where": Case(np.where(KEPT, SOFT, NAN), {"where": KEPT}, PUZZLED),
    "where-row": Case(HARD, {"where": np.asarray([[True, False, True]])}, LOGITS),
    "ignored": Case(np.where(KEPT, HARD, -1), {"ignore_index": np.asarray(-1)}, PUZZLED),
    "number": Case(HARD, {"weight": single(2.0), "pos_weight": single(3.0)}),
    "along": Case(SOFT, {"weight": ALONG, "pos_weight": ALONG}),
    "down": Case(HARD, {"weight": DOWN, "pos_weight": DOWN[::-1]}, axis=0),
    "weight": Case(np.where(KEPT, HARD, 7), {"weight": WEIGHT, "pos_weight": DOWN[:, None]}, PUZZLED),
    "smoothing": Case(HARD, {"label_smoothing": EPSILON, "weight": ALONG}),
    "focal-0": Case(SOFT, {"gamma": single(0.0)}),
    "focal-half": Case(HARD, {"gamma": single(0.5), "alpha": single(0.25)}),
    "focal-2": Case(SOFT, {"gamma": single(2.0), "weight": DOWN[:, None]}),
    "everything": Case(
        np.where(KEPT, SOFT, NAN),
        {
            "where": KEPT,
            "weight": ALONG,
            "pos_weight": DOWN[:, None],
            "label_smoothing": single([[0.125, 0.25, 2.0**-22]]),
            "gamma": single([[0.5, 0.0, 2.0]]),
            "alpha": single([[0.25], [0.5], [0.0], [1.0]]),
        },
        PUZZLED,
    ),
}
EACH = pytest.mark.parametrize("name", CASES)
SOME = pytest.mark.parametrize("name", ["ignored", "weight", "everything"])  # jax compiles for every case anew


@cache
def exact_values(name: str) -> oracle.Sum:
    given, _, kept = CASES[name].full()
    with mp.workdps(oracle.DIGITS):
        parts = halves(given)
        return oracle.Sum(*(np.where(kept, x, mpf(0)) for x in (parts.positive + parts.negative,) * 2))


def elements(given: dict[str, Exact]) -> Iterator[dict[str, Exact]]:
    """One element after the other: beside large ones the digits of small ones would be lost in differences."""
    for at in np.ndindex(4, 3):
        yield {name: x if x is None else np.asarray([x[at]], dtype=object) for name, x in given.items()}


@cache
def exact_by(name: str, by: str, *, plain: bool = False) -> oracle.Sum:
    """The derivative of Σ cotangent · loss by an argument, and the absolute values of its terms."""
    case, g = CASES[name], ulps.exactly(np.ones((4, 3)) if plain else COTANGENT)
    given, _, kept = case.full()
    positive, negative = (
        np.asarray([differences.gradient(partial(half, n), one, by)[0] for one in elements(given)]) for n in range(2)
    )
    with mp.workdps(oracle.DIGITS):
        g = np.where(kept, g, mpf(0))
        value, absolute = (
            g * (positive + negative).reshape(4, 3),
            abs(g) * (abs(positive) + abs(negative)).reshape(4, 3),
        )
        return oracle.Sum(case.gathered(value, by), case.gathered(absolute, by))


@cache
def exact_bends(name: str, *, plain: bool = False) -> oracle.Sum:
    """Second derivatives of Σ cotangent · loss by each logit; under a power, each half is a sum of three terms."""
    case, g = CASES[name], ulps.exactly(np.ones((4, 3)) if plain else COTANGENT)
    given, _, kept = case.full()
    one = np.ones(1)
    value = [
        differences.second(lambda x: (halves(x).positive + halves(x).negative)[0], x, "logits", one)[0]
        for x in elements(given)
    ]
    with mp.workdps(oracle.DIGITS):
        x, gamma = given["logits"], given["gamma"]
        p, q = (each(lambda t, s=sign: 1 / (1 + mp.exp(-s * t)), x) for sign in (1, -1))
        u, v = (each(lambda t, s=sign: mp.log1p(mp.exp(-s * t)), x) for sign in (1, -1))
        costs = halves(given)
        of_u = costs.positive / u * (p * q * (1 + 2 * gamma) + gamma**2 * p**2 * u + gamma * p * q * u)
        of_v = costs.negative / v * (p * q * (1 + 2 * gamma) + gamma**2 * q**2 * v + gamma * p * q * v)
        g = np.where(kept, g, mpf(0))
        return oracle.Sum(g * np.asarray(value).reshape(4, 3), abs(g) * (of_u + of_v))


def gap(name: str) -> float:
    """γ g: what the power costs in ULP."""
    case = CASES[name]
    x = np.nan_to_num(case.arrays()["logits"], posinf=0.0, neginf=0.0)
    return float(np.max(case.arrays()["gamma"]) * (np.max(np.abs(x)) + 1)) if "gamma" in case.options else 0.0


def on(backend: Backend, case: Case, **more: Any) -> dict[str, Any]:
    """The arguments as arrays of the backend."""
    return {**placed(backend, case.arrays()), "axis": case.axis, **more}


def assert_by(backend: Backend, name: str, by: str, found: Any, sums: oracle.Sum) -> None:
    assert_close(found, sums, dtype="float32", gap=gap(name), floor=floor_of(backend))
    if CASES[name].sharp and by == "logits":
        assert_ulps(found, sums.value, dtype="float32", bound=4.0, floor=floor_of(backend))


def by_library(backend: Backend, total: Callable[[Array], Array], x: Array) -> NumPy:
    """What torch or jax find, the latter in one compilation."""
    if backend.library != "jax":
        return gradients(backend, total, x)[0]
    import jax

    return backend.numpy(jax.jit(jax.grad(total))(x))


# -- values and derivatives on every library --------------------------------------------------------------------------


@pytest.mark.backends("numpy-readonly", "strict-no-x64", "torch")
@EACH
def test_values_and_derivatives_by_every_argument(backend: Backend, name: str) -> None:
    assert_values_and_derivatives(backend, name)


@pytest.mark.backends("jax", "dask-classes", "strict-no-lazy", "strict-device2")
@SOME
def test_values_and_derivatives_elsewhere(backend: Backend, name: str) -> None:
    assert_values_and_derivatives(backend, name)


def assert_values_and_derivatives(backend: Backend, name: str) -> None:
    case = CASES[name]
    given = on(backend, case, reduction="none")

    def ours(cotangent: Array) -> Any:
        value, pullback = vjp(case.function, case.by)(**given)
        return value, pullback(cotangent)

    value, found = backend.call(backend.compiled(ours), backend.array(COTANGENT))
    assert_close(backend.numpy(value), exact_values(name), dtype="float32", gap=gap(name), floor=floor_of(backend))
    for by, derivative in zip(case.by, found, strict=True):
        assert_like(backend, derivative, given[by])
        assert_by(backend, name, by, backend.numpy(derivative), exact_by(name, by))
    if backend.library != "jax":  # which compiles for every way to ask; value and derivative are made at once here
        total, found = backend.call(value_and_grad(case.function, case.by), **{**given, "reduction": "sum"})
        sums = oracle.Sum(*(np.asarray(part.sum()) for part in exact_values(name)))
        assert_close(backend.numpy(total), sums, dtype="float32", gap=gap(name))
        for by, derivative in zip(case.by, found, strict=True):
            assert_by(backend, name, by, backend.numpy(derivative), exact_by(name, by, plain=True))


@pytest.mark.backends("torch")
@EACH
@pytest.mark.parametrize("small", [-1, 2**14], ids=["by the rule", "through the formula"])
def test_autodiff_finds_the_same(backend: Backend, name: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No NaN comes back from what does not count."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
    assert_autodiff(backend, name)


@pytest.mark.backends("jax")
@SOME
def test_autodiff_of_jax_finds_the_same(backend: Backend, name: str) -> None:
    import jax

    loss, arrays = differentiable(backend, name)
    found = jax.jit(lambda arrays: jax.vjp(loss, *arrays)[1](backend.array(COTANGENT)))(arrays)
    for by, derivative in zip(CASES[name].by, found, strict=True):
        assert_by(backend, name, by, backend.numpy(derivative), exact_by(name, by))


def assert_autodiff(backend: Backend, name: str) -> None:
    loss, arrays = differentiable(backend, name)
    found = gradients(backend, loss, *arrays, cotangent=COTANGENT)
    for by, derivative in zip(CASES[name].by, found, strict=True):
        assert_by(backend, name, by, derivative, exact_by(name, by))


def differentiable(backend: Backend, name: str) -> tuple[Callable[..., Array], list[Array]]:
    """The losses as a function of the arguments that have derivatives, and these."""
    case = CASES[name]
    given = on(backend, case, reduction="none")
    others = {one: x for one, x in given.items() if one not in case.by}

    def loss(*arrays: Array) -> Array:
        return case.function(**dict(zip(case.by, arrays, strict=True)), **others)

    return loss, [given[by] for by in case.by]


@pytest.mark.parametrize("name", ["soft", "weight", "focal-2", "everything"])
def test_second_derivatives(backend: Backend, name: str) -> None:
    """Whatever the vector has where nothing takes part."""
    case, sums = CASES[name], exact_bends(name, plain=True)
    given = on(backend, case, reduction="sum")
    absent = sums.absolute == 0
    vector = np.where(absent & ~np.isfinite(case.arrays()["logits"]), single(NAN), COTANGENT)

    def ours(vector: Array) -> Any:
        return hessian_diagonal(case.function)(**given), hvp(case.function)(**given, vector=vector)

    results = backend.call(backend.compiled(ours), backend.array(vector))
    for found, expected in zip(results, (sums, exact_bends(name)), strict=True):
        assert_like(backend, found, given["logits"])
        assert_close(backend.numpy(found), expected, dtype="float32", gap=gap(name), floor=floor_of(backend))


@pytest.mark.backends("torch")
@pytest.mark.parametrize("name", ["weight", "everything"])
def test_autodiff_twice(backend: Backend, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the formula is differentiated twice by, and its pullback once."""
    case = CASES[name]
    given = on(backend, case, reduction="none")
    x, g = given.pop("logits"), backend.array(COTANGENT)

    def slope(x: Array) -> Array:
        return backend.xp.autograd.grad(case.function(x, **given), x, g, create_graph=True)[0]

    for small in (-1, 2**14):
        monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
        (found,) = gradients(backend, slope, x)
        assert_close(found, exact_bends(name), dtype="float32", gap=gap(name), floor=floor_of(backend))


@pytest.mark.backends("jax")
def test_autodiff_of_jax_twice(backend: Backend) -> None:
    """Both in one compilation, under one jit."""
    import jax

    names = ("weight", "everything")
    given = {name: on(backend, CASES[name], reduction="none") for name in names}
    g = backend.array(COTANGENT)

    def total(x: Array, name: str) -> Array:
        return (g * CASES[name].function(**{**given[name], "logits": x})).sum()

    def bends(x: Array) -> list[Array]:
        return [jax.grad(lambda x, name=name: jax.grad(total)(x, name).sum())(x) for name in names]

    for name, found in zip(names, jax.jit(bends)(backend.array(PUZZLED, "float32")), strict=True):
        assert_close(backend.numpy(found), exact_bends(name), dtype="float32", gap=gap(name), floor=floor_of(backend))


# -- the ends ---------------------------------------------------------------------------------------------------------

ENDS = (1e-30, 1.0, 30.0, 88.0, 700.0, INF)


@pytest.mark.dtypes("float32", "float64")
def test_binary_cross_entropy_at_the_ends(backend: Backend, dtype: str) -> None:
    """Logits ±1e-30, ±1, ±30, ±88, ±700 (float64), ±inf, both labels, value and derivative within 4 ULP.

    They are 0 and inf where those are the limits; by value_and_grad, the pullback and, on torch and jax, autodiff.
    """
    size = np.asarray([t for t in ENDS if dtype == "float64" or t != 700.0])
    x = np.stack([np.concatenate([-size, size])] * 2).astype(dtype)
    y = np.asarray([[0] * len(x[0]), [1] * len(x[0])], dtype="int32")
    exact = ulps.exactly(x * np.where(y == 1, -1, 1))  # a positive costs what a negative does on the other side
    with mp.workdps(oracle.DIGITS):
        loss = each(lambda t: mp.log1p(mp.exp(t)), exact)
        slope = each(lambda t: 1 / (1 + mp.exp(-t)), exact) * np.where(y == 1, -1, 1)

    def assert_right(found: NumPy, right: Exact) -> None:
        assert found.dtype == dtype
        assert_ulps(found, right, dtype=dtype, bound=4.0, floor=floor_of(backend))

    f = partial(binary_cross_entropy, reduction="none")
    logits, labels, ones = backend.array(x), backend.array(y), backend.array(np.ones_like(x))
    assert_right(backend.numpy(call(backend, f, logits, labels)), loss)
    if backend.library != "jax":  # which compiles for it; its own derivatives are the pullback's
        value, pullback = backend.call(vjp(f), logits, labels)
        assert_right(backend.numpy(value), loss)
        assert_right(backend.numpy(backend.call(pullback, ones)), slope)
    total, found = backend.call(value_and_grad(binary_cross_entropy), logits, labels, reduction="sum")
    assert backend.numpy(total) == INF
    assert_right(backend.numpy(found), slope)
    if backend.autodiff:
        assert_right(gradients(backend, lambda x: f(x, labels), logits)[0], slope)


def test_focal_loss_at_infinity(backend: Backend) -> None:
    """The limits: 0 with slope 0 for a right one, inf with slope ±1 for a wrong one; by γ 0 or unknown, by p 0."""
    x, y = (
        backend.array([[INF, -INF, INF], [-INF, 0.0, 0.0]], "float32"),
        backend.array([[1, 0, 0], [1, 1, 0]], "int32"),
    )
    ones = backend.array(np.ones((2, 3)), "float32")

    def ours(x: Array, power: Array) -> Any:
        value, pullback = vjp(binary_focal_loss, ("logits", "gamma"))(x, y, gamma=power, reduction="none")
        return value, *pullback(ones)

    def theirs(x: Array, power: Array) -> Any:
        def loss(x: Array, power: Array) -> Array:
            return binary_focal_loss(x, y, gamma=power, reduction="none")

        if backend.library == "jax":
            import jax

            return jax.vjp(loss, x, power)[1](ones)
        return [backend.array(one) for one in gradients(backend, loss, x, power)]

    run, by_itself = backend.compiled(ours), backend.compiled(theirs)
    for gamma in (0.0, 0.5, 2.0):
        half = 0.5**gamma * np.log(2.0)
        slope = 0.5**gamma * (0.5 + 0.5 * gamma * np.log(2.0))
        expected = [[0, 0, INF], [INF, half, half]], [[0, 0, 1], [-1, -slope, slope]], -2 * np.log(2.0) * half
        power = backend.array(gamma, "float32")
        found = [backend.numpy(one) for one in backend.call(run, x, power)]
        for one, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, right, rtol=3e-7)
        if backend.autodiff:
            for one, right in zip(by_itself(x, power), expected[1:], strict=True):
                np.testing.assert_allclose(backend.numpy(one), right, rtol=3e-7)


def test_derivatives_by_targets_hold_at_the_ends(backend: Backend) -> None:
    """-x at 0 and 1 too; 0 where a term is infinite (§3.10)."""
    x, y = backend.array([3.0, -2.0, INF], "float32"), backend.array([1.0, 0.0, 1.0], "float32")
    ours = partial(grad(binary_cross_entropy, "labels"), reduction="sum")
    found = backend.call(backend.compiled(ours), x, y)
    np.testing.assert_allclose(backend.numpy(found), [-3.0, 2.0, 0.0], rtol=1e-6)
    if backend.autodiff:
        found = by_library(backend, lambda y: binary_cross_entropy(x, y, reduction="sum"), y)
        np.testing.assert_allclose(found, [-3.0, 2.0, 0.0], rtol=1e-6)


def test_a_nan_stays_where_it_is(backend: Backend) -> None:
    x, y = backend.array([NAN, 1.0, -1.0], "float32"), backend.array([1, 1, 0], "int32")
    for f in (binary_cross_entropy, binary_focal_loss):
        total, found = backend.call(value_and_grad(f), x, y, reduction="sum")
        assert np.isnan(backend.numpy(total))
        np.testing.assert_array_equal(np.isnan(backend.numpy(found)), [True, False, False])


# -- reductions -------------------------------------------------------------------------------------------------------


def reduced(name: str, reduction: str, denominator: str) -> Callable[[dict[str, Exact]], Any]:
    """The reduction in mpmath."""
    exact, kept, sound = CASES[name].full()
    taking_part = mpf(int(np.sum(kept & (exact["weight"] != 0))))

    def of(given: dict[str, Exact]) -> Any:
        total = np.sum(np.where(sound, sum(halves(given)), mpf(0)))
        weight = given["weight"]
        if reduction == "sum":
            return total
        count = {
            "weight": np.sum(np.where(kept, weight, mpf(0))),
            "count": taking_part,
            "all": mpf(12),
        }
        return total / count[denominator]

    return of


@cache
def exact_mean(name: str, denominator: str, by: tuple[str, ...]) -> tuple[Exact, Exact, list[Exact]]:
    """The mean, the sum, and derivatives of the mean by elements."""
    mean, total = (reduced(name, kind, denominator) for kind in ("mean", "sum"))
    exact, _, _ = CASES[name].full()
    slopes = [differences.gradient(mean, exact, one) for one in by]
    with mp.workdps(oracle.DIGITS):
        return mean(exact), total(exact), slopes


@pytest.mark.backends("numpy-readonly", "strict", "torch", "jax", "dask-classes")
@pytest.mark.parametrize(("name", "denominator"), [("everything", "weight"), ("weight", "count"), ("weight", "all")])
def test_means_divide_by_what_is_asked_for(backend: Backend, name: str, denominator: str) -> None:
    """W is the weight; neither pos_weight nor alpha is in it (§6). The pair has the same numbers, not yet divided."""
    if backend.library == "jax" and denominator == "all":  # it is a number, and would be compiled for
        return
    case, by = CASES[name], ("logits", "weight", "pos_weight")
    value, total, slopes = exact_mean(name, denominator, by)
    given = on(backend, case, denominator=denominator)
    kept = case.full()[1]
    with mp.workdps(oracle.DIGITS):
        count = total / value
    static = {"axis": given.pop("axis"), "denominator": given.pop("denominator")}
    ours = backend.compiled(lambda given: value_and_grad(case.function, by)(**given, **static))
    found, derivatives = backend.call(ours, given)
    assert_close(backend.numpy(found), oracle.Sum(value, abs(value)), dtype="float32", gap=gap(name))
    for one, derivative, slopes_of_one in zip(by, derivatives, slopes, strict=True):
        sums = exact_by(name, one, plain=True)
        slope = case.gathered(slopes_of_one, one)
        absolute = sums.absolute / count
        if one == "weight" and denominator == "weight":
            absolute = absolute + case.gathered(np.where(kept, value, mpf(0)), one) / count
        assert_close(backend.numpy(derivative), oracle.Sum(slope, absolute), dtype="float32", gap=gap(name))
    if backend.library != "jax":
        pair = [
            backend.numpy(part) for part in backend.call(case.function, **given, **static, reduction="sum_and_weight")
        ]
        assert_close(pair[0], oracle.Sum(total, total), dtype="float32", gap=gap(name))
        assert pair[1] == float(count)


def test_a_given_denominator(backend: Backend) -> None:
    x, y = backend.array([0.0, 0.0, 0.0], "float32"), backend.array([1, 0, 1], "int32")
    for eight in (8.0, backend.array(8.0, "float32")):
        value, found = backend.call(value_and_grad(binary_cross_entropy), x, y, denominator=eight)
        assert_exact(backend, value, 3 * np.log(2) / 8)
        assert_exact(backend, found, [-0.0625, 0.0625, -0.0625])


def test_a_mean_over_nothing(backend: Backend) -> None:
    """0 with derivative 0, or NaN where that is asked for (§4)."""
    x, y = backend.array([NAN, INF, 0.0], "float32"), backend.array([-1, -1, -1], "int32")
    options: dict[str, Any] = {"ignore_index": -1}
    for f in (binary_focal_loss, binary_cross_entropy)[: 1 if backend.library == "jax" else 2]:
        value, found = backend.call(backend.compiled(partial(value_and_grad(f), **options)), x, y)
        assert_equal(backend, value, single(0.0))
        assert_equal(backend, found, single([0.0] * 3))
    assert np.isnan(backend.numpy(call(backend, binary_cross_entropy, x, y, **options, empty_mean="nan")))


@EAGER
def test_no_elements(backend: Backend) -> None:
    for shape in ((0,), (2, 0)):
        x, y = backend.array(np.zeros(shape), "float32"), backend.array(np.zeros(shape), "int32")
        value, found = backend.call(value_and_grad(binary_cross_entropy), x, y)
        assert_equal(backend, value, single(0.0))
        assert_like(backend, found, x)
        assert backend.numpy(backend.call(binary_cross_entropy, x, y, reduction="none")).shape == shape


# -- shapes and dtypes ------------------------------------------------------------------------------------------------


def test_every_dtype(backend: Backend, dtype: str) -> None:
    """Losses of halves are float32, derivatives halves that are rounded once (§1.4)."""
    x = np.asarray([-12.0, -0.75, 3.5]).astype(numpy_dtype(dtype))
    y = np.asarray([0, 1, 1], dtype="int32")
    exact = ulps.exactly(np.asarray(x, dtype="float64") * np.where(y == 1, -1, 1))
    with mp.workdps(oracle.DIGITS):
        loss = each(lambda t: mp.log1p(mp.exp(t)), exact)
        slope = each(lambda t: 1 / (1 + mp.exp(-t)), exact) * np.where(y == 1, -1, 1)

    def ours(x: Array, y: Array) -> Any:
        none = partial(binary_cross_entropy, x, y, reduction="none")
        return *value_and_grad(binary_cross_entropy)(x, y), none(), none(dtype="float32")

    value, found, rows, cast = backend.call(backend.compiled(ours), backend.array(x), backend.array(y))
    precise = "float32" if dtype in HALVES else dtype
    assert backend.numpy(value).dtype == precise
    assert_exact(backend, found, slope / 3, dtype)
    assert_exact(backend, rows, loss, precise)
    assert backend.numpy(cast).dtype == "float32"


def test_every_integer_dtype_of_labels(backend: Backend, int_dtype: str) -> None:
    """Eight of them, with the same bits as bool; also with what is ignored, at the end of the dtype."""
    x = backend.array([0.5, -1.25, 2.0], "float32")
    f = partial(binary_cross_entropy, reduction="none")
    last = int(np.iinfo(int_dtype).max)
    given = [backend.array([True, False, True])]
    given += [backend.array(np.asarray(y, dtype=int_dtype)) for y in ([1, 0, 1], [1, last, 1], last)]

    def losses(known: Array, labels: Array, *ignored: Array) -> tuple[Array, ...]:
        found = f(x, known), f(x, labels)
        return (*found, *(f(x, ignored[0], ignore_index=index) for index in (last, ignored[1]))) if ignored else found

    if backend.library == "jax":  # it compiles for every dtype, and eagerly for every operation
        few = given if int_dtype in {"int8", "uint32"} else given[:2]
        found = (losses if int_dtype == "int8" else backend.compiled(losses))(*few)
    else:
        found = backend.call(losses, *given)
    expected = backend.numpy(found[0])
    assert_equal(backend, found[1], expected)
    for one in found[2:]:
        assert_equal(backend, one, np.where([True, False, True], expected, single(0.0)))


@pytest.mark.parametrize("whole", ["bool", "int8", "uint8", "int32"])
def test_whole_logits(backend: Backend, whole: str) -> None:
    """They become the library's default floating dtype first."""
    x, y = np.asarray([1, 0, 1]).astype(whole), backend.array([1, 0, 0], "int32")
    found = call(backend, binary_cross_entropy, backend.array(x), y)
    expected = np.mean(np.logaddexp(0.0, [-1.0, 0.0, 1.0]))
    assert backend.numpy(found).dtype == default_float(backend)
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=3e-7)


def test_labels_of_another_dtype_are_cast(backend: Backend) -> None:
    """The logits' dtype alone decides (§1.3)."""
    x = backend.array([0.5, -1.25, 2.0], "float32")
    ours = backend.compiled(lambda labels, weight: binary_cross_entropy(x, labels, weight=weight))
    y, weight = [0.25, 1.0, 0.0], [1, 2, 0]
    found = backend.call(ours, backend.array(y, widest(backend)), backend.array(weight, "int32"))
    assert backend.numpy(found).dtype == "float32"
    expected = backend.call(ours, backend.array(y, "float32"), backend.array(weight, "float32"))
    assert_same(backend, found, expected)


def test_a_number_for_a_weight(backend: Backend) -> None:
    """It multiplies the losses, and what their mean divides by (§4)."""
    x, y = backend.array([0.0, 0.0, 0.0], "float32"), backend.array([1, 0, 1], "int32")
    for reduction, times in (("sum", 6), ("mean", 1)):
        found = backend.call(binary_cross_entropy, x, y, weight=2.0, reduction=reduction)
        assert_exact(backend, found, times * np.log(2.0))


def test_a_single_logit(backend: Backend) -> None:
    """0-d, with an array or a number for its label."""
    x = backend.array(0.0, "float32")
    half = single(0.5)
    labels = (backend.array(1, "int32"), backend.array(1.0, "float32"), 1, 1.0, True)
    for y in labels[:: 2 if backend.library == "jax" else 1]:  # which compiles for each
        value, found = backend.call(value_and_grad(binary_cross_entropy), x, y)
        assert_exact(backend, value, np.log(2.0))
        assert_equal(backend, found, -half)
    with pytest.raises(ValueError, match="labels must be from 0 to 1, got 2"):
        backend.call(binary_cross_entropy, x, 2)
    assert np.isnan(backend.numpy(backend.call(binary_cross_entropy, x, 2, check=False)))
    assert backend.numpy(backend.call(binary_cross_entropy, x, 2, where=backend.array(np.asarray(False)))) == 0  # noqa: FBT003


@pytest.mark.backends("numpy", "torch")
def test_strides_do_not_matter(backend: Backend) -> None:
    x = single(np.linspace(-3.0, 3.0, 24)).reshape(4, 6)
    y = (x > 1.0).astype("int32")
    logits, labels = (backend.array(t)[:, ::2].T for t in (x, y))
    expected = value_and_grad(binary_cross_entropy)(*(backend.array(t[:, ::2].T.copy()) for t in (x, y)))
    for one, other in zip(value_and_grad(binary_cross_entropy)(logits, labels), expected, strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=3e-7)


# -- large ------------------------------------------------------------------------------------------------------------

SIZE = 300_000
BLOCKS = {"as they are": {}, "small": {"entries": 20_000}, "whole": {"entries": 2**40}}


@cache
def large(function: Callable[..., Array]) -> tuple[dict[str, NumPy], dict[str, NumPy]]:
    """What is given, and what comes of it in float64."""
    rng = np.random.default_rng(1)
    x, y = single(rng.normal(size=SIZE) * 10), rng.integers(0, 2, SIZE).astype("int32")
    weight = single(rng.uniform(0.5, 2.0, SIZE))
    wide = x.astype("float64")
    mean, by = value_and_grad(function)(wide, y, weight=weight)
    loss, slope = function(wide, y, reduction="none"), grad(function)(wide, y, reduction="sum")
    return {"logits": x, "labels": y, "weight": weight}, {"loss": loss, "slope": slope, "mean": mean, "by": by}


@pytest.mark.backends("numpy-readonly", "torch")
@pytest.mark.parametrize("function", [binary_cross_entropy, binary_focal_loss])
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_large_calls_are_as_exact(
    backend: Backend, function: Callable[..., Array], blocks: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks, threads and, on torch, NumPy at work. float64 stands in for exact, and for the sum of terms."""
    arrays, exact = large(function)
    for name, value in blocks.items():
        monkeypatch.setattr(f"softxent.backends.numpy.Backend.{name}", value)
        monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.{name}", value)
    room = 4.0 + (0.0 if function is binary_cross_entropy else 2.0 * np.abs(arrays["logits"]) + 2.0)

    def assert_right(found: NumPy, right: NumPy) -> None:
        unit = np.spacing(np.abs(right).astype("float32"))
        assert np.all(np.abs(found - right) <= room * unit)

    logits, labels, weight = (backend.array(x) for x in arrays.values())
    assert_right(backend.numpy(function(logits, labels, reduction="none")), exact["loss"])
    value, found = value_and_grad(function)(logits, labels, reduction="sum")
    np.testing.assert_allclose(backend.numpy(value), np.sum(exact["loss"]), rtol=1e-6)
    assert_right(backend.numpy(found), exact["slope"])
    if backend.library == "torch":
        assert_right(gradients(backend, lambda x: function(x, labels, reduction="sum"), logits)[0], exact["slope"])
    mean, by = value_and_grad(function)(logits, labels, weight=weight)
    np.testing.assert_allclose(backend.numpy(mean), exact["mean"], rtol=1e-6)
    np.testing.assert_allclose(backend.numpy(by), exact["by"], rtol=1e-5, atol=1e-38)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("size", [2**13, 2**14 + 1])
def test_what_torch_lends_to_numpy_is_right(backend: Backend, size: int) -> None:
    """From 2^13 elements on NumPy works on torch's memory: with options of every shape, as in a small call."""
    rows = size // 8
    x = single(np.random.default_rng(2).normal(size=(rows, 8)) * 4)
    y = single(np.random.default_rng(3).uniform(size=(rows, 8)))
    weight, gamma = single(np.linspace(0.0, 2.0, 8)), single(np.linspace(0.0, 3.0, rows)[:, None])
    options = placed(backend, {"weight": weight, "gamma": gamma, "label_smoothing": single([[0.25]])})
    by = ("logits", "labels", "weight", "gamma", "label_smoothing")
    options["reduction"] = "sum"
    value, found = value_and_grad(binary_focal_loss, by)(backend.array(x), backend.array(y), **options)
    wide = {name: t if isinstance(t, str) else t.double() for name, t in options.items()}
    right = value_and_grad(binary_focal_loss, by)(backend.array(x, "float64"), backend.array(y, "float64"), **wide)
    np.testing.assert_allclose(backend.numpy(value), backend.numpy(right[0]), rtol=2e-6)
    for one, exact in zip(found, right[1], strict=True):
        scale = np.max(np.abs(backend.numpy(exact)))
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(exact), rtol=2e-5, atol=1e-5 * scale)


# -- targets that are none --------------------------------------------------------------------------------------------


def assert_nan(backend: Backend, y: NumPy, *, options: dict[str, Any]) -> None:
    """Value and derivative at the targets that are none, and nowhere else."""
    wrong = ~((y >= 0) & (y <= 1))
    x, labels = backend.array([[0.5, -1.25, 2.0]] * 2, "float32"), backend.array(y)
    for f in (binary_focal_loss, binary_cross_entropy)[: 1 if backend.library == "jax" else 2]:

        def total(x: Array, f: Callable[..., Array] = f) -> Array:
            return f(x, labels, **options, reduction="sum")

        def ours(x: Array, f: Callable[..., Array] = f) -> Any:
            derivatives = [
                derivative(f)(x, labels, **options, reduction="sum") for derivative in (grad, hessian_diagonal)
            ]
            return [f(x, labels, **options, reduction="none"), *derivatives]

        results = [backend.numpy(one) for one in backend.call(backend.compiled(ours), x)]
        if backend.autodiff:
            results.append(by_library(backend, total, x))
        for found in results:
            np.testing.assert_array_equal(np.isnan(found), wrong)


@pytest.mark.parametrize(
    "bad", [np.asarray([2, -1, 7], dtype="int32"), single([1.5, -0.25, NAN])], ids=["integer", "floating"]
)
def test_a_target_out_of_range(backend: Backend, bad: NumPy) -> None:
    """An error that says where, if the value can be read; NaN, value and derivative, if not (§3.5)."""
    assert_nan(backend, np.asarray([[1, 0, bad[0]], [1, *bad[1:]]], dtype=bad.dtype), options={"check": False})
    if not backend.readable:
        assert_nan(backend, np.asarray([[1, 0, bad[0]], [1, *bad[1:]]], dtype=bad.dtype), options={})
    x = backend.array([0.5, -1.25, 2.0], "float32")
    for one in bad:
        labels = backend.array(np.asarray([1, 0, one], dtype=bad.dtype))
        with pytest.raises(ValueError, match=f"labels must be from 0 to 1, got {one} at position 2; "):
            binary_cross_entropy(x, labels, check=None if backend.readable else True)


def test_hints_of_the_error() -> None:
    x = np.zeros((2, 2), dtype="float32")
    for bad, dtype, hint in (
        (-1, "int64", r"got -1 at position \(1, 0\); of -1 and 1 make 0 and 1, or to leave .* ignore_index=-1"),
        (-1.0, "float32", r"got -1.0 at position \(1, 0\); of -1 and 1 make 0 and 1, or to leave .* pass where="),
        (2, "uint8", r"got 2 at position \(1, 0\); to leave such elements out pass ignore_index=2"),
        (1.5, "float32", r"got 1.5 at position \(1, 0\); to leave such elements out pass where="),
    ):
        with pytest.raises(ValueError, match=hint):
            binary_cross_entropy(x, np.asarray([[0, 1], [bad, 1]], dtype=dtype))


@pytest.mark.backends("torch", "jax")
def test_a_target_out_of_range_in_a_trace(backend: Backend) -> None:
    """No error can be raised there, and check=True is one itself."""
    x = backend.array([0.5, -1.25, 2.0], "float32")
    for bad, dtype in ((2, "int32"), (1.5, "float32")):
        y = backend.array(np.asarray([1, 0, bad], dtype=dtype))
        if backend.library == "jax":
            import jax

            rows = jax.jit(jax.vmap(binary_cross_entropy))(x, y)
            found = jax.jit(jax.grad(lambda x, y: binary_cross_entropy(x, y, reduction="sum")))(x, y)
            with pytest.raises(ValueError, match="check=True must read the values of labels"):
                jax.jit(partial(binary_cross_entropy, check=True))(x, y)
        else:
            func = backend.xp.func
            rows = func.vmap(binary_cross_entropy)(x, y)
            found = func.vmap(func.grad(binary_cross_entropy))(x, y)
        for result in (rows, found):
            np.testing.assert_array_equal(np.isnan(backend.numpy(result)), [False, False, True])


def test_what_takes_no_part_may_have_any_target(backend: Backend) -> None:
    """§2: it is neither looked at nor checked."""
    x, y = backend.array([0.0, NAN, 0.0], "float32"), backend.array([1, 7, 0], "int32")
    ways: tuple[dict[str, Any], ...] = (
        {"where": backend.array([True, False, True])},
        {"ignore_index": 7},
        {"weight": backend.array([1.0, 0.0, 1.0], "float32")},
    )
    for way in ways:
        ours = partial(value_and_grad(binary_cross_entropy), **way)
        value, found = backend.call(backend.compiled(ours) if "weight" in way else ours, x, y)
        assert_exact(backend, value, np.log(2.0))
        assert_exact(backend, found, [-0.25, 0.0, 0.25])


def test_nothing_wraps_on_the_way_to_another_library(backend: Backend) -> None:
    """NumPy labels stand beside jax and Dask, and may not fit a dtype there."""
    if backend.library not in {"jax", "dask"}:
        return
    x, f = backend.array([0.0, 0.0, 0.0], "float32"), partial(binary_cross_entropy, reduction="none")
    far = np.asarray([2**32, 1, 2**40])
    found = backend.numpy(backend.call(f, x, far, check=False))
    np.testing.assert_array_equal(np.isnan(found), [True, False, True])
    found = backend.numpy(backend.call(f, x, far, check=False, ignore_index=2**40))
    np.testing.assert_array_equal(np.isnan(found), [True, False, False])
    assert found[2] == 0
    if backend.readable:
        with pytest.raises(ValueError, match="labels must be from 0 to 1, got 4294967296 at position 0"):
            backend.call(f, x, far)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_arguments_that_are_refused(backend: Backend) -> None:
    x, y = backend.array(np.zeros((2, 3)), "float32"), backend.array(np.zeros((2, 3)), "int32")
    soft = backend.array(np.zeros((2, 3)), "float32")
    four = backend.array(np.zeros(4), "float32")
    cases: tuple[tuple[type[Exception], str, Array, Any, dict[str, Any]], ...] = (
        (TypeError, "logits must be an array, got list", [0.0], y, {}),
        (TypeError, "labels must be an array of the logits' shape", x, None, {}),
        (TypeError, "labels must be an array of the logits' shape", x, 1, {}),
        (ValueError, r"labels must have the logits' shape \(2, 3\), got \(4,\); nothing is broadcast", x, four, {}),
        (
            ValueError,
            "ignore_index must come with integer labels, got -1 beside floating",
            x,
            soft,
            {"ignore_index": -1},
        ),
        (TypeError, "ignore_index must be an int", x, y, {"ignore_index": 0.5}),
        (ValueError, r"weight must be a scalar .* or \(3,\) along axis 1", x, y, {"weight": four}),
        (ValueError, r"pos_weight must be a scalar", x, y, {"pos_weight": four}),
        (ValueError, r"label_smoothing must be a scalar", x, y, {"label_smoothing": four}),
        (ValueError, "label_smoothing must be from 0 to 1, got 1.5", x, y, {"label_smoothing": 1.5}),
        (ValueError, "pos_weight must be finite and at least 0, got -1", x, y, {"pos_weight": -1}),
        (ValueError, "reduction must be one of", x, y, {"reduction": "avg"}),
        (ValueError, "denominator must be left out", x, y, {"reduction": "sum", "denominator": "count"}),
        (ValueError, "axis must be from -2 to 1", x, y, {"axis": 2}),
        (TypeError, "where must be bool", x, y, {"where": soft}),
        (TypeError, "check must be True, False or None", x, y, {"check": 1}),
    )
    for error, text, logits, labels, options in cases:
        with pytest.raises(error, match=text):
            backend.call(binary_cross_entropy, logits, labels, **options)
    for name, value, text in (
        ("gamma", -0.5, "gamma must be finite and at least 0, got -0.5"),
        ("gamma", None, "gamma must be a number or an array, got None"),
        ("alpha", 1.5, "alpha must be from 0 to 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=text):
            backend.call(binary_focal_loss, x, y, **{name: value})


@EAGER
def test_negative_weights(backend: Backend) -> None:
    """A mean does not divide by them (§4); otherwise they are weights like others."""
    x, y = backend.array([0.0, 0.0, 0.0], "float32"), backend.array([1, 0, 1], "int32")
    weight = backend.array([1.0, -0.5, 2.0], "float32")
    if backend.readable:
        with pytest.raises(ValueError, match=r"weight must not be negative where the mean .* got -0\.5"):
            backend.call(binary_cross_entropy, x, y, weight=weight)
    for check in (None,) if backend.lazy else (None, True):  # to check is to compute
        found = backend.call(grad(binary_cross_entropy), x, y, weight=weight, reduction="sum", check=check)
        assert_exact(backend, found, [-0.5, -0.25, -1.0])
    assert np.isnan(backend.numpy(backend.call(binary_cross_entropy, x, y, weight=weight, check=False)))
    value = backend.call(binary_cross_entropy, x, y, weight=weight, denominator="count")
    assert_exact(backend, value, 2.5 * np.log(2.0) / 3)


@pytest.mark.parametrize("dtype", ["complex64", "U1"])
def test_dtypes_of_labels_that_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match="labels must be bool, integers 0 and 1 or floating numbers from 0 to 1, got"):
        binary_cross_entropy(np.zeros(3), np.zeros(3).astype(dtype))


# -- laws -------------------------------------------------------------------------------------------------------------

ROW = st.lists(st.floats(-60, 60, width=32), min_size=3, max_size=3)


@given(x=ROW, y=st.lists(st.sampled_from([0, 1]), min_size=3, max_size=3))
def test_no_power_is_cross_entropy(backends: list[Backend], x: list[float], y: list[int]) -> None:
    """γ = 0, within the 4 ULP of both; in bits where the library adds the same terms."""
    for backend in backends:
        if backend.exact or backend.lazy:
            continue
        logits, labels = backend.array(x, "float32"), backend.array(y, "int32")
        none, focal = (
            backend.numpy(backend.call(f, logits, labels, reduction="none"))
            for f in (binary_cross_entropy, partial(binary_focal_loss, gamma=0.0))
        )
        np.testing.assert_allclose(focal, none, rtol=1e-6, atol=2e-38)


@given(x=ROW, y=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_turning_everything_round(backends: list[Backend], x: list[float], y: list[float]) -> None:
    """Positives of x are negatives of -x; the halves' weights change places."""
    for backend in backends:
        if backend.exact or backend.lazy or "float64" not in backend.floats:
            continue
        logits, turned = (backend.array([s * t for t in x], "float64") for s in (1.0, -1.0))
        labels, others = backend.array(y, "float64"), backend.array([1.0 - t for t in y], "float64")
        one = backend.call(binary_focal_loss, logits, labels, alpha=0.25, gamma=1.5, reduction="none")
        other = backend.call(binary_focal_loss, turned, others, alpha=0.75, gamma=1.5, reduction="none")
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-12, atol=1e-300)


# -- faults of peers --------------------------------------------------------------------------------------------------


def test_confident_mistakes_keep_costing() -> None:
    """In keras on NumPy a probability comes first and is clipped: no loss above 16.118, none below 1.19e-7."""

    def of_keras(x: NumPy, y: NumPy) -> NumPy:
        p = np.clip(1 / (1 + np.exp(-x)), 1e-7, 1 - 1e-7)
        return -np.log(np.where(y == 1, p, 1 - p))

    x, y = single([-40.0, 40.0]), np.asarray([1, 1])
    np.testing.assert_allclose(of_keras(x, y), [16.118, 1.19e-7], rtol=2e-3)
    exact = [mpf(40), mp.log1p(mp.exp(-40))]
    assert_ulps(binary_cross_entropy(x, y, reduction="none"), exact, dtype="float32", bound=4.0)


@pytest.mark.backends("torch")
def test_the_hardest_examples_keep_their_gradient(backend: Backend) -> None:
    """The focal loss of keras goes by clipped probabilities: at a logit of -60 nothing is left to learn from."""
    torch = backend.xp

    def of_keras(x: Array) -> Array:
        p = torch.sigmoid(x).clamp(1e-7, 1 - 1e-7)
        return -((1 - p) ** 2) * torch.log(p)

    x = backend.array([-60.0, -20.0], "float32")
    np.testing.assert_array_equal(gradients(backend, of_keras, x)[0], [0.0, 0.0])
    y = backend.array([1, 1])
    (found,) = gradients(backend, lambda x: binary_focal_loss(x, y, gamma=2.0, reduction="sum"), x)
    np.testing.assert_allclose(found, [-1.0, -1.0], rtol=1e-5)


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves_stay_finite(backend: Backend, dtype: str) -> None:
    """In keras, on NumPy and jax: its ε of 1e-7 is next to nothing in float16, log(0) and 0 · inf come out."""

    def of_keras(x: NumPy, y: NumPy) -> NumPy:
        p = np.clip(1 / (1 + np.exp(-x)), np.float16(1e-8), 1 - np.float16(1e-8))
        return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))

    with np.errstate(all="ignore"):
        assert not np.isfinite(of_keras(np.asarray([12.0, -30.0], "float16"), np.asarray([1, 1], "float16"))).any()
    x, y = backend.array([12.0, -30.0, 1.0], dtype), backend.array([1.0, 1.0, 0.0], dtype)
    for f in (binary_cross_entropy, partial(binary_focal_loss, gamma=0.5)):
        value, found = backend.call(backend.compiled(partial(value_and_grad(f), reduction="sum")), x, y)
        assert np.isfinite(backend.numpy(value))
        assert np.isfinite(np.asarray(backend.numpy(found), dtype="float32")).all()


@pytest.mark.backends("torch", "jax")
def test_infinite_logits_that_are_right_cost_nothing(backend: Backend) -> None:
    """In torch and optax NaN for (+inf, 1) and (-inf, 0), value and gradient (pytorch#49844)."""
    xp = backend.xp

    def of_optax(x: Array, y: Array) -> Array:
        p, q = (1 / (1 + xp.exp(-s * x)) for s in (1, -1))
        return -y * xp.log(p) - (1 - y) * xp.log(q)

    x, y = backend.array([INF, -INF, 0.0], "float32"), backend.array([1.0, 0.0, 1.0], "float32")
    theirs: list[Any] = [lambda x: of_optax(x, y)]
    if backend.library == "torch":
        theirs.append(lambda x: xp.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none"))
    for f in theirs:
        assert np.isnan(backend.numpy(backend.compiled(f)(x))[:2]).all()
    ours = partial(binary_cross_entropy, reduction="none")
    np.testing.assert_allclose(backend.numpy(ours(x, y)), [0.0, 0.0, np.log(2.0)], rtol=1e-6)
    np.testing.assert_array_equal(gradients(backend, lambda x: ours(x, y), x)[0], [0.0, 0.0, -0.5])


@pytest.mark.backends("jax")
def test_no_power_has_a_gradient(backend: Backend) -> None:
    """In optax (1 - p_t) ** γ has the derivative 0 · inf at γ = 0, where 1 - p_t is 0 (optax#1267)."""

    def of_optax(x: Array) -> Array:
        p = 1 / (1 + backend.xp.exp(-x))
        return (1 - p) ** backend.array(0.0, "float32") * -backend.xp.log(p)

    x, y = backend.array([40.0, 90.0, 1.0], "float32"), backend.array([1, 1, 1], "int32")
    import jax

    gammas = (0.0, backend.array(0.0, "float32"))
    ours = [partial(binary_focal_loss, labels=y, gamma=gamma, reduction="sum") for gamma in gammas]
    slopes = jax.jit(lambda x: [jax.grad(lambda x, f=f: f(x).sum())(x) for f in (of_optax, *ours)])(x)
    assert np.isnan(backend.numpy(slopes[0])).any()
    for found in slopes[1:]:
        assert np.isfinite(backend.numpy(found)).all()


def test_nothing_is_broadcast_between_logits_and_labels(backend: Backend) -> None:
    """In optax: (N, N) losses of (N, 1) logits and (N,) labels, which are then averaged."""

    def of_optax(x: NumPy, y: NumPy) -> NumPy:
        return np.asarray(np.logaddexp(0, x) - x * y)

    x, y = np.zeros((3, 1), dtype="float32"), np.asarray([1, 0, 1], dtype="int32")
    assert of_optax(x, y).shape == (3, 3)
    for logits, labels in ((x, y), (x[:, 0], y[:, None])):
        with pytest.raises(ValueError, match=r"labels must have the logits' shape .* nothing is broadcast: reshape or"):
            backend.call(binary_cross_entropy, backend.array(logits), backend.array(labels))


def test_a_weight_of_0_is_a_mask(backend: Backend) -> None:
    """0 · NaN is NaN in keras (keras#18818) and torch, and so is their mean."""

    def of_keras(x: NumPy, y: NumPy, w: NumPy) -> Any:
        return np.sum(w * (np.logaddexp(0, x) - x * y)) / np.sum(w)

    x, y, w = single([0.0, NAN, INF]), single([1.0, 1.0, 0.0]), single([1.0, 0.0, 0.0])
    with np.errstate(all="ignore"):
        assert np.isnan(of_keras(x, y, w))
    given = {"labels": backend.array(y), "weight": backend.array(w)}
    for f in (binary_cross_entropy, partial(binary_focal_loss, gamma=0.0)):
        value, found = backend.call(value_and_grad(f), backend.array(x), **given)
        assert_exact(backend, value, np.log(2.0))
        assert_exact(backend, found, [-0.5, 0.0, 0.0])


@pytest.mark.backends("torch")
def test_certain_negatives_keep_their_digits(backend: Backend) -> None:
    """In torch it is (1 - y) x - log_sigmoid(x): for label 0 two numbers of the size of x cancel."""
    torch = backend.xp

    def of_torch(x: Array) -> Array:
        return torch.nn.functional.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none")

    x = single([-6.0, -12.0, -20.0])
    exact = each(lambda t: mp.log1p(mp.exp(t)), ulps.exactly(x))
    assert np.min(ulps.error(backend.numpy(of_torch(backend.array(x))), exact)) > 100
    found = binary_cross_entropy(backend.array(x), backend.array([0, 0, 0]), reduction="none")
    assert_exact(backend, found, exact)


def test_a_little_smoothing_is_not_lost() -> None:
    """1 - y' taken from the rounded y' has few digits of ε / 2, or none; on a confident logit that is all there is."""

    def usual(x: NumPy, y: NumPy, epsilon: NumPy) -> NumPy:
        y = y * (1 - epsilon) + epsilon / 2
        return np.asarray(y * np.log1p(np.exp(-x)) + (1 - y) * (x + np.log1p(np.exp(-x))))

    x, y, epsilon = single([60.0]), single([1.0]), single(2.0**-25)
    exact = [mpf(60) * mpf(2) ** -26]
    assert usual(x, y, epsilon) < 1e-20
    found = binary_cross_entropy(x, y, label_smoothing=epsilon, reduction="none")
    assert_ulps(found, exact, dtype="float32", bound=4.0)
