"""What torch does to the functions: autograd once and twice, torch.func, torch.compile, fake tensors, export.

First derivatives are held against exact ones (`derivatives`, `oracle`), second ones against finite differences of the
oracle and by gradgradcheck; the transforms of torch.func against each other and against autograd. Then what a torch
user expects besides: graphs only where asked for, default dtype, views, parameters. Inductor has a file of its own.
"""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from derivatives import (
    BY_NAME,
    CASES,
    COTANGENT,
    INF,
    NAMES,
    NAN,
    ROWS,
    Case,
    assert_close,
    assert_gradient,
    assert_ulps,
    exact,
    hessian,
    row_gaps,
    temperature_gap,
)

import softxent
from softxent import cross_entropy, log_softmax, logsumexp, one_hot, smooth_labels, softmax, softmin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matrix import Backend

pytestmark = [
    pytest.mark.backends("torch"),
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # So does Dynamo, which makes an instance of Function for every rule that it traces.
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]

Array = Any

# What gradcheck compares with: steps that keep every sum in CASES exact, and what is then left of rounding.
DIFFERENCES: dict[str, Any] = {"eps": 2.0**-17, "atol": 1e-8, "rtol": 1e-6}
DIFFERENCES_TWICE: dict[str, Any] = {"eps": 2.0**-17, "atol": 1e-7, "rtol": 1e-5}


# -- helpers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which derivatives: the formulas' own "rule", here for small calls too, or torch's autograd on the "formula"."""
    if getattr(request, "param", "rule") == "rule":
        monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)


both_paths = pytest.mark.parametrize("path", ["rule", "formula"], indirect=True)


def tensors(backend: Backend, case: Case, dtype: str, by: tuple[str, ...] = ()) -> dict[str, Array]:
    """The case's arguments as tensors; those in `by` ask for gradients."""
    found = {name: backend.array(array) for name, array in case.arrays(dtype).items()}
    for name in by:
        found[name].requires_grad_()
    return found


def rows(**arguments: Array) -> Array:
    """One loss a row."""
    return cross_entropy(arguments.pop("logits"), arguments.pop("labels"), reduction="none", check=False, **arguments)


def weighed(backend: Backend) -> Callable[..., Array]:
    """Σ cotangent · row, as a function of the arguments by name."""

    def total(**arguments: Array) -> Array:
        losses = rows(**arguments)
        return (losses * backend.array(COTANGENT).to(losses.dtype)).sum()

    return total


def positional(
    function: Callable[..., Array], arguments: dict[str, Array], by: tuple[str, ...]
) -> Callable[..., Array]:
    """The function of what is differentiated alone, by position."""
    return lambda *values: function(**{**arguments, **dict(zip(by, values, strict=True))})


def whole(array: Array) -> np.ndarray[Any, Any]:
    return np.asarray(array.detach())


@contextlib.contextmanager
def fresh_dynamo(backend: Backend) -> Iterator[None]:
    """Compilation without what earlier tests compiled."""
    backend.xp._dynamo.reset()
    yield
    backend.xp._dynamo.reset()


# -- cross_entropy, once ----------------------------------------------------------------------------------------------


@both_paths
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_backward_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    arguments = tensors(backend, case, dtype, case.by)
    weighed(backend)(**arguments).backward()
    for name in case.by:
        assert_gradient(case, name, backend.numpy(arguments[name].grad), dtype=dtype)


@both_paths
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradcheck(backend: Backend, case: Case) -> None:
    arguments = tensors(backend, case, "float64", case.varied)
    function = positional(rows, arguments, case.varied)
    values = [arguments[name] for name in case.varied]
    gradcheck = backend.xp.autograd.gradcheck
    assert gradcheck(finite_only(backend, function), values, check_forward_ad=True, **DIFFERENCES)


def finite_only(backend: Backend, function: Callable[..., Array]) -> Callable[..., Array]:
    """Infinite rows out of it: their differences are NaN."""

    def inner(*values: Array) -> Array:
        losses = function(*values)
        return losses[backend.xp.isfinite(losses.detach())]

    return inner


@both_paths
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradgradcheck(backend: Backend, case: Case) -> None:
    """Not by a sample weight of 0, through which only the first derivative by itself passes."""
    by = tuple(name for name in case.varied if name != "sample_weight" or 0.0 not in case.options["sample_weight"])
    arguments = tensors(backend, case, "float64", by)
    function = positional(rows, arguments, by)
    values = [arguments[name] for name in by]
    assert backend.xp.autograd.gradgradcheck(finite_only(backend, function), values, **DIFFERENCES_TWICE)


@both_paths
@pytest.mark.parametrize("case", [case for case in CASES if case.sharp], ids=lambda case: case.name)
def test_hessian(backend: Backend, case: Case) -> None:
    """Forward over reverse and reverse over reverse, each row by itself."""
    arguments = tensors(backend, case, "float64")
    logits = arguments.pop("logits")
    func = backend.xp.func

    def total(x: Array) -> Array:
        losses = rows(logits=x, **arguments)
        return backend.xp.where(backend.xp.isfinite(losses), losses, 0.0).sum()

    sums, gap = hessian(case), row_gaps(case)[:, None]
    for found in (func.hessian(total)(logits), func.jacrev(func.jacrev(total))(logits)):
        own = np.asarray([found[n, :, n, :].detach().numpy() for n in range(len(logits))])
        assert_close(own, sums, dtype="float64", gap=gap)
        across = [found[n, :, k, :] for n, k in itertools.permutations(range(len(logits)), 2)]
        assert not any(block.any() for block in across)


@both_paths
@pytest.mark.parametrize("label", [0, 1], ids=["hit", "miss"])
def test_hessian_keeps_every_digit(backend: Backend, label: int) -> None:
    case = Case("gap", [[40, 0, 0]], [label])
    logits, labels = tensors(backend, case, "float64").values()
    for twice in (backend.xp.func.hessian, lambda f: backend.xp.func.jacrev(backend.xp.func.jacrev(f))):
        found = twice(lambda x: cross_entropy(x, labels, reduction="sum"))(logits)
        assert_ulps(found[0, :, 0, :].numpy(), hessian(case).value[0], dtype="float64", bound=8.0)


def test_confident_prediction(backend: Backend) -> None:
    """Issue 2: 8.4967e-18 in float32, and its negative is the derivative at the target."""
    logits = backend.array([[40, 0, 0]], "float32").requires_grad_()
    loss = cross_entropy(logits, backend.array([0]))
    loss.backward()
    assert loss.item() == pytest.approx(8.4967e-18, rel=1e-5)
    assert logits.grad[0, 0].item() == pytest.approx(-8.4967e-18, rel=1e-5)
    assert logits.grad.sum().item() == 0.0


# -- cross_entropy, reductions and what takes no part -----------------------------------------------------------------


REDUCTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean-nan": {"empty_mean": "nan"},
    "sum": {"reduction": "sum"},
    "count": {"denominator": "count"},
    "all": {"denominator": "all"},
    "number": {"denominator": 2.5},
}


@pytest.mark.parametrize("name", ["plain", "weight", "everything"])
@pytest.mark.parametrize("options", REDUCTIONS.values(), ids=REDUCTIONS)
def test_backward_of_reductions(backend: Backend, name: str, options: dict[str, Any]) -> None:
    """The mean's derivative by logits is that of the sum over a constant."""
    case = BY_NAME[name]
    arguments = tensors(backend, case, "float64", ("logits",))
    cross_entropy(arguments["logits"], arguments.pop("labels"), **arguments_of(arguments), **options).backward()
    kind = options.get("denominator", "weight")
    below = 1.0 if "reduction" in options else exact(case).denominator(kind).value
    sums = exact(case).gradient("logits").times(1 / below)
    assert_close(arguments["logits"].grad.numpy(), sums, dtype="float64", gap=temperature_gap(case) + ROWS)


def arguments_of(arguments: dict[str, Array]) -> dict[str, Array]:
    return {name: value for name, value in arguments.items() if name != "logits"}


@pytest.mark.parametrize("kind", ["weight", "count", "all"])
def test_mean_by_sample_weight(backend: Backend, kind: str) -> None:
    """(L_n - mean · W_n) / Σ s W under "weight", also at s_n = 0; else L_n / count."""
    case = Case(
        "reweight",
        [[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]],
        [2, 0, 0],
        {"sample_weight": [2.0, 0.0, 0.5], "weight": [2.0, 0.5, 1.0]},
    )
    arguments = tensors(backend, case, "float64", ("sample_weight",))
    cross_entropy(arguments.pop("logits"), arguments.pop("labels"), denominator=kind, **arguments).backward()
    reference = exact(case)
    below = reference.denominator(kind).value
    mean = reference.mean(kind).value
    share = [e.W if kind == "weight" else 0 for e in reference.examples]
    value = [(e.per_unit() - mean * w) / below for e, w in zip(reference.examples, share, strict=True)]
    np.testing.assert_allclose(arguments["sample_weight"].grad.numpy(), np.asarray(value, dtype=float), rtol=1e-14)


def test_sum_and_weight(backend: Backend) -> None:
    """Both parts have a graph where there is one, and the denominator has none by the logits."""
    case = BY_NAME["soft-weight"]
    arguments = tensors(backend, case, "float64", ("logits",))
    total, mass = cross_entropy(
        arguments.pop("logits"), arguments.pop("labels"), reduction="sum_and_weight", **arguments
    )
    assert total.requires_grad
    assert not mass.requires_grad


@pytest.mark.parametrize("name", ["ignored", "where-examples", "where-logits", "sample-weight-of-nan", "soft-zeros"])
@pytest.mark.dtypes("float16", "bfloat16", "float32")
def test_gradient_is_0_where_nothing_takes_part(backend: Backend, dtype: str, name: str) -> None:
    """Exactly 0, not NaN, in the mean too, in every dtype."""
    case = BY_NAME[name]
    arguments = tensors(backend, case, dtype, ("logits",))
    logits = arguments.pop("logits")
    cross_entropy(logits, arguments.pop("labels"), **arguments).backward()
    idle = ~exact(case, dtype).takes_part
    assert idle.any()
    assert not whole(logits.grad.float())[idle].any()
    assert np.isfinite(whole(logits.grad.float())).all()


@pytest.mark.parametrize("options", [{"ignore_index": -1}, {"where": False}, {"sample_weight": 0.0}], ids=str)
def test_nothing_at_all_takes_part(backend: Backend, options: dict[str, Any]) -> None:
    logits = backend.array([[NAN, 1, INF], [-INF, -INF, -INF]], "float32").requires_grad_()
    loss = cross_entropy(logits, backend.array([-1, -1]), **options)
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_an_empty_batch(backend: Backend) -> None:
    logits = backend.array(np.zeros((0, 3)), "float32").requires_grad_()
    cross_entropy(logits, backend.array(np.zeros(0, dtype="int64"))).backward()
    assert logits.grad.shape == (0, 3)


def test_no_classes(backend: Backend) -> None:
    logits = backend.array(np.zeros((2, 0)), "float32").requires_grad_()
    cross_entropy(logits, backend.array([0, 0]), reduction="sum").backward()
    assert logits.grad.shape == (2, 0)


@both_paths
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.125}, {"z_loss": 0.5}, {"temperature": 2.0}], ids=str)
@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_out_of_range(backend: Backend, label: int, options: dict[str, Any]) -> None:
    """§3.5, unchecked: value and derivative are NaN in that row and in no other."""
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]], "float32").requires_grad_()
    losses = cross_entropy(logits, backend.array([2, label, 0]), reduction="none", check=False, **options)
    losses.sum().backward()
    assert losses.isnan().tolist() == [False, True, False]
    assert logits.grad.isnan().all(dim=1).tolist() == [False, True, False]
    assert logits.grad.isnan().any(dim=1).tolist() == [False, True, False]


UNDEFINED: dict[str, list[float]] = {
    "all -inf": [-INF, -INF, -INF],
    "+inf": [0.0, INF, 1.0],
    "+inf at the label": [INF, 0.0, 1.0],
    "NaN": [0.0, NAN, 1.0],
    "NaN at the label": [NAN, 0.0, 1.0],
}


@both_paths
@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
@pytest.mark.parametrize("row", UNDEFINED.values(), ids=UNDEFINED)
def test_undefined_rows(backend: Backend, row: list[float], *, soft: bool) -> None:
    """The table of §2: value and derivative are NaN in that row, throughout, and in no other."""
    logits = backend.array([row, [0.5, -1.25, 2]], "float64").requires_grad_()
    labels = backend.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]] if soft else [0, 0])
    losses = cross_entropy(logits, labels, reduction="none")
    losses.sum().backward()
    assert losses.isnan().tolist() == [True, False]
    assert logits.grad.isnan().all(dim=1).tolist() == [True, False]
    assert logits.grad.isnan().any(dim=1).tolist() == [True, False]


@both_paths
def test_label_on_minus_infinity(backend: Backend) -> None:
    """§2: the value is +inf, the derivative p - q as usual; with a class dropped by `where`, p on those that remain."""
    where = backend.array([[True, True, True], [True, False, True]])
    for labels in (backend.array([1, 1]), backend.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])):
        logits = backend.array([[0.0, -INF, 0.0], [0.0, 5.0, 0.0]], "float64").requires_grad_()
        losses = cross_entropy(logits, labels, where=where, reduction="none")
        losses.sum().backward()
        assert losses.tolist() == [INF, INF]
        assert logits.grad.tolist() == [[0.5, -1.0, 0.5], [0.5, 0.0, 0.5]]


def test_smoothing_over_minus_infinity(backend: Backend) -> None:
    """§2: +inf, with p - q' as derivative."""
    logits = backend.array([[0.0, -INF, 0.0]], "float64").requires_grad_()
    loss = cross_entropy(logits, backend.array([0]), label_smoothing=0.75)
    loss.backward()
    assert loss.item() == INF
    assert logits.grad.tolist() == [[0.0, -0.25, 0.25]]


@both_paths
@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
def test_derivatives_by_absent_classes_are_finite(backend: Backend, *, soft: bool) -> None:
    """Classes with w = 0 or q = 0 contribute exactly 0 at -inf, to every order (§2)."""
    logits = backend.array([[2, -INF, 1]], "float64").requires_grad_()
    weight = backend.array([1.0, 0.0, 1.0], "float64").requires_grad_()
    labels = backend.array([[0.5, 0.5, 0.0]], "float64") if soft else backend.array([1])
    loss = cross_entropy(logits, labels, weight=weight, reduction="sum")
    grads = backend.xp.autograd.grad(loss, (logits, weight), create_graph=True)
    twice = backend.xp.autograd.grad(sum(g.sum() for g in grads), (logits, weight))
    assert all(g.isfinite().all() for g in (*grads, *twice))


def test_sample_weight_of_nan_logits(backend: Backend) -> None:
    """A row of weight 0 is not looked at: NaN in it reaches nothing."""
    case = BY_NAME["sample-weight-of-nan"]
    arguments = tensors(backend, case, "float64", ("logits", "sample_weight"))
    weighed(backend)(**arguments).backward()
    assert arguments["sample_weight"].grad.isfinite().all()
    assert arguments["logits"].grad.isfinite().all()


AUX = ("lse", "z_loss", "entropy", "target_log_prob", "margin")


@pytest.mark.parametrize("name", ["ignored", "where-examples", "where-logits", "sample-weight", "soft-zeros"])
def test_aux_has_derivatives(backend: Backend, name: str) -> None:
    """By finite differences, and 0 in idle rows; none of these has a tie at which the margin has no derivative."""
    arguments = tensors(backend, BY_NAME[name], "float64", ("logits",))
    logits, labels = arguments.pop("logits"), arguments.pop("labels")

    def by_products(x: Array) -> tuple[Array, ...]:
        _, aux = cross_entropy(x, labels, aux=AUX, z_loss=0.5, check=False, **arguments)
        return tuple(finite_only(backend, lambda v: v)(aux[one]) for one in AUX)

    assert backend.xp.autograd.gradcheck(by_products, [logits], **DIFFERENCES)


# -- halves -----------------------------------------------------------------------------------------------------------


@pytest.mark.dtypes("float16", "bfloat16")
@pytest.mark.parametrize("name", ["where-classes", "ignored", "where-logits", "sample-weight-of-nan", "temperature"])
def test_halves(backend: Backend, dtype: str, name: str) -> None:
    """The gradient is in the logits' dtype, correctly rounded but for ties: computed in float32 and rounded once."""
    case = BY_NAME[name]
    arguments = tensors(backend, case, dtype)
    logits = arguments["logits"].requires_grad_()
    losses = rows(**arguments)
    assert losses.dtype == backend.xp.float32
    losses.sum().backward()
    assert logits.grad.dtype == backend.dtype(dtype)
    value = oracle.cross_entropy(**case.arrays(dtype)).gradient("logits").value
    error = ulps.error(backend.numpy(logits.grad), value, dtype)
    assert error.max() <= 0.51


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves_of_normalizers(backend: Backend, dtype: str) -> None:
    """Forward and backward round once, from float32."""
    rng = np.random.default_rng(0)
    x, g = (backend.numpy(backend.array(rng.normal(size=(4, 5)), dtype)) for _ in range(2))
    for function, pullback in ((softmax, oracle.softmax_vjp), (log_softmax, oracle.log_softmax_vjp)):
        logits = backend.array(x).requires_grad_()
        function(logits).backward(backend.array(g))
        sums = pullback(g, x)
        assert logits.grad.dtype == backend.dtype(dtype)
        room = 0.51 * ulps.spacing(sums.value, dtype) + 8 * ulps.eps("float32") * sums.absolute
        assert np.all(ulps.difference(backend.numpy(logits.grad), sums.value, dtype) <= room)


# -- normalizers and targets ------------------------------------------------------------------------------------------

# Ties at the top and below, wide gaps, an offset, -inf, a masked NaN, a fully masked row.
LOGITS = [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [1000002, 1000000, 1000001], [-INF, 3, 3], [NAN, 0, 1], [NAN] * 3]
KEPT = [[True] * 3] * 5 + [[False, True, True], [False] * 3]
WEIGHTS = [
    [1.0, -0.5, 2.0],
    [0.5, -0.25, 0.25],
    [1.0, 1.0, -3.0],
    [0.25, 1.0, 0.0],
    [0.0, -1.0, 4.0],
    [1.0] * 3,
    [1.0] * 3,
]
PULL = [
    [1.0, -0.5, 0.25],
    [2.0, 1.0, -1.0],
    [0.5, 1.0, 2.0],
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [4.0, 1.0, 1.0],
    [1.0] * 3,
]


def softmin_vjp(g: Array, x: Array, **options: Any) -> oracle.Sum:
    pulled = oracle.softmax_vjp(g, -x, **options)
    return oracle.Sum(-pulled.value, pulled.absolute)


@both_paths
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("temperature", [None, 0.5], ids=["T=1", "T=0.5"])
@pytest.mark.parametrize(
    ("function", "pullback"),
    [(softmax, oracle.softmax_vjp), (log_softmax, oracle.log_softmax_vjp), (softmin, softmin_vjp)],
    ids=["softmax", "log_softmax", "softmin"],
)
def test_backward_of_normalizers(
    backend: Backend, dtype: str, function: Any, pullback: Any, temperature: float | None
) -> None:
    x, g, where = np.asarray(LOGITS, dtype=dtype), np.asarray(PULL, dtype=dtype), np.asarray(KEPT)
    if function is softmin:
        x = -x
    logits = backend.array(x).requires_grad_()
    function(logits, where=backend.array(where), temperature=temperature).backward(backend.array(g))
    sums = pullback(g, x, where=where, temperature=temperature)
    gap = oracle.gaps(-x if function is softmin else x, where=where, temperature=temperature)
    assert_close(logits.grad.numpy(), sums, dtype=dtype, gap=np.max(gap, axis=-1, keepdims=True, initial=0))


@pytest.mark.parametrize("function", [softmax, softmin])
def test_all_ones_pull_nothing_through_softmax(backend: Backend, function: Any) -> None:
    """Probabilities sum to 1, so that there is nothing to pull but rounding."""
    logits = backend.array(LOGITS[:3], "float64").requires_grad_()
    function(logits).sum().backward()
    assert logits.grad.abs().max().item() <= 4 * ulps.eps("float64")


@both_paths
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("signed", [False, True], ids=["plain", "return_sign"])
def test_backward_of_logsumexp(backend: Backend, dtype: str, *, signed: bool) -> None:
    """By x and by b; a sum that is 0, empty or of -inf alone has derivative 0, a negative one is NaN unless signed."""
    x, where = np.asarray(LOGITS, dtype=dtype), np.asarray(KEPT)
    b = np.asarray(WEIGHTS if signed else np.abs(WEIGHTS), dtype=dtype)
    given, weights = backend.array(x).requires_grad_(), backend.array(b).requires_grad_()
    result = logsumexp(given, b=weights, where=backend.array(where), return_sign=signed)
    log_sum = result[0] if signed else result
    g = np.asarray([1.0, -0.5, 2.0, 0.25, 1.5, -1.0, 0.75], dtype=dtype)
    (log_sum * backend.array(g)).sum().backward()
    by_x, by_b = oracle.logsumexp_vjp(g, x, b=b, where=where)
    for found, sums in ((given.grad, by_x), (weights.grad, by_b)):
        assert_close(
            found.numpy(), sums, dtype=dtype, gap=np.max(oracle.gaps(x, where=where), axis=-1, keepdims=True, initial=0)
        )


@both_paths
@pytest.mark.dtypes("float32", "float64")
def test_backward_of_logsumexp_without_weights(backend: Backend, dtype: str) -> None:
    """p, to 4 ULP, also where the gap is wide."""
    x, where = np.asarray(LOGITS, dtype=dtype), np.asarray(KEPT)
    given = backend.array(x).requires_grad_()
    logsumexp(given, where=backend.array(where)).nan_to_num(neginf=0.0).sum().backward()
    assert_ulps(given.grad.numpy(), oracle.softmax(x, where=where), dtype=dtype, bound=4.0)


@both_paths
@pytest.mark.parametrize(
    ("row", "expected"),
    [([-INF, -INF], [0.0, 0.0]), ([0.0, INF], [NAN, NAN]), ([0.0, NAN], [NAN, NAN]), ([0.0, -INF], [1.0, 0.0])],
    ids=["all -inf", "+inf", "NaN", "-inf"],
)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "b=1"])
def test_backward_of_logsumexp_at_infinity(
    backend: Backend, row: list[float], expected: list[float], *, weighted: bool
) -> None:
    x = backend.array(row, "float64").requires_grad_()
    logsumexp(x, b=backend.array([1.0, 1.0], "float64") if weighted else None).backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@both_paths
def test_an_empty_or_vanishing_sum_has_derivative_0(backend: Backend) -> None:
    x = backend.array([[1.0, 1.0], [NAN, INF], [2.0, 2.0]], "float64").requires_grad_()
    b = backend.array([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]], "float64").requires_grad_()
    log_sum, sign = logsumexp(x, b=b, return_sign=True)
    log_sum.sum().backward()
    assert log_sum.tolist() == [-INF] * 3
    assert sign.tolist() == [0.0] * 3
    assert not x.grad.any()
    assert not b.grad.any()


NORMALIZERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "softmax": (lambda x, t: softmax(x, temperature=t), ([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, -INF]], 0.5)),
    "softmax-where": (
        lambda x: softmax(x, where=~x.isnan()),
        ([[0.5, NAN, 2], [1, 1, -0.5], [NAN, NAN, NAN]],),
    ),
    "softmax-axes": (lambda x: softmax(x, axis=(0, 1)), ([[0.5, -1.25, 2], [2, 1, -0.5]],)),
    "softmax-rows": (lambda x, t: softmax(x, temperature=t, axis=0), ([[0.5, 2], [1, 1]], [[0.5, 2.0]])),
    "softmin": (lambda x, t: softmin(x, temperature=t), ([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, INF]], 2.0)),
    "log_softmax": (lambda x, t: log_softmax(x, temperature=t), ([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0]], 0.5)),
    "log_softmax-classes": (
        lambda x, t: log_softmax(x, temperature=t),
        ([[0.5, -1.25, 2], [1, 2, -0.5]], [[0.5, 1.0, 2.0]]),
    ),
    "logsumexp": (logsumexp, ([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, -INF], [-INF] * 3],)),
    "logsumexp-b": (
        lambda x, b: logsumexp(x, b=b, return_sign=True)[0],
        ([[0.5, -1.25, 2], [1, 1, -0.5], [3, 1, 0]], [[1.0, -0.5, 2.0], [0.5, -2.0, 0.25], [1.0, 1.0, -3.0]]),
    ),
    "logsumexp-near-0": (lambda x, b: logsumexp(x, b=b, axis=None), ([[0.5, 0.25]], [[1.5, -0.75]])),
    "smooth_labels": (
        lambda q, e, u: smooth_labels(q, e, smoothing_prior=u, axis=0),
        ([[0.5, 0.25], [0.5, 0.25], [0.25, 0.5]], [0.125, 0.5], [1.0, 0.5, 2.0]),
    ),
}


@both_paths
@pytest.mark.parametrize(("function", "values"), NORMALIZERS.values(), ids=NORMALIZERS)
def test_gradcheck_of_the_others(backend: Backend, function: Any, values: tuple[Any, ...]) -> None:
    """Reverse, forward, and reverse twice."""
    inputs = [backend.array(value, "float64").requires_grad_() for value in values]
    autograd = backend.xp.autograd
    assert autograd.gradcheck(finite_only(backend, function), inputs, check_forward_ad=True, **DIFFERENCES)
    assert autograd.gradgradcheck(finite_only(backend, function), inputs, **DIFFERENCES_TWICE)


# -- torch.func -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_func_agrees_with_autograd(backend: Backend, name: str) -> None:
    """grad, jacrev, jacfwd, jvp and vjp of one function are one derivative."""
    case = BY_NAME[name]
    torch, func = backend.xp, backend.xp.func
    arguments = tensors(backend, case, "float64")
    total = weighed(backend)
    logits = arguments["logits"]

    def of_logits(x: Array) -> Array:
        return total(**{**arguments, "logits": x})

    tracked = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(of_logits(tracked), tracked)
    reverse = {"grad": func.grad(of_logits)(logits), "jacrev": func.jacrev(of_logits)(logits)}
    for (
        found
    ) in reverse.values():  # autograd on its own does not record its derivative: another way to the same numbers
        torch.testing.assert_close(found, expected, rtol=2.0**-50, atol=1e-17)
    torch.testing.assert_close(func.jacfwd(of_logits)(logits), expected, rtol=1e-14, atol=1e-17)
    value, pushed = func.jvp(of_logits, (logits,), (torch.ones_like(logits),))
    torch.testing.assert_close(value, of_logits(logits), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(pushed, expected.sum(), rtol=1e-13, atol=1e-15)
    assert_gradient(case, "logits", func.jacfwd(of_logits)(logits).numpy(), dtype="float64")


@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
def test_vmap(backend: Backend, *, soft: bool) -> None:
    """One example at a time under vmap gives what the batch gives: values, gradients, Hessians."""
    torch, func = backend.xp, backend.xp.func
    logits = backend.array(LOGITS[:4], "float64")
    labels = backend.array([[0.25, 0.75, 0.0]] * 4, "float64") if soft else backend.array([2, 1, 0, 1])
    values = func.vmap(cross_entropy)(logits, labels)
    torch.testing.assert_close(values, cross_entropy(logits, labels, reduction="none"), rtol=1e-15, atol=0)
    gradients = func.vmap(func.grad(cross_entropy))(logits, labels)
    whole_batch = func.grad(lambda x: cross_entropy(x, labels, reduction="sum"))(logits)
    torch.testing.assert_close(gradients, whole_batch, rtol=1e-14, atol=0)
    second = func.vmap(func.hessian(cross_entropy))(logits, labels)
    for n in range(4):
        alone = func.hessian(cross_entropy)(logits[n], labels[n])
        torch.testing.assert_close(second[n], alone, rtol=1e-14, atol=0)
    one = func.vmap(cross_entropy, in_dims=(0, None))(logits, labels[0])
    torch.testing.assert_close(one[0], values[0], rtol=1e-15, atol=0)


def test_vmap_over_options(backend: Backend) -> None:
    """Per-example losses by an option that differs between calls, and gradients by it."""
    func = backend.xp.func
    logits, labels = backend.array(LOGITS[:3], "float64"), backend.array([2, 0, 1])
    temperatures = backend.array([0.5, 1.0, 2.0], "float64")

    def loss(temperature: Array) -> Array:
        return cross_entropy(logits, labels, temperature=temperature, reduction="sum")

    losses = func.vmap(loss)(temperatures)
    slopes = func.vmap(func.grad(loss))(temperatures)
    for n in range(3):
        expected = cross_entropy(logits, labels, temperature=float(temperatures[n]), reduction="sum")
        assert losses[n].item() == pytest.approx(expected.item(), rel=1e-14)
        sums = oracle.cross_entropy(logits.numpy(), labels.numpy(), temperature=temperatures.numpy()[n]).gradient(
            "temperature"
        )
        assert_close(slopes[n].numpy(), sums, dtype="float64")


@pytest.mark.parametrize("function", [softmax, log_softmax, softmin, logsumexp])
def test_func_of_normalizers(backend: Backend, function: Any) -> None:
    """jacfwd, jacrev, vmap and Hessians of each agree."""
    torch, func = backend.xp, backend.xp.func
    logits = backend.array(LOGITS[:4], "float64")
    torch.testing.assert_close(func.vmap(function)(logits), function(logits), rtol=1e-15, atol=0)
    for row in logits:
        reverse, forward = func.jacrev(function)(row), func.jacfwd(function)(row)
        torch.testing.assert_close(reverse, forward, rtol=1e-14, atol=1e-16)
        twice = func.jacfwd(func.jacrev(function))(row)
        torch.testing.assert_close(twice, func.jacrev(func.jacfwd(function))(row), rtol=1e-13, atol=1e-16)
        torch.testing.assert_close(twice, twice.mT, rtol=1e-13, atol=1e-16)


def test_out_of_range_under_vmap(backend: Backend) -> None:
    """Labels have no values there: NaN instead of an error, and check=True says that it cannot look."""
    func = backend.xp.func
    logits, labels = backend.array(LOGITS[:3], "float64"), backend.array([2, 7, -1])
    assert func.vmap(cross_entropy)(logits, labels).isnan().tolist() == [False, True, True]
    gradients = func.vmap(func.grad(cross_entropy))(logits, labels)
    assert gradients.isnan().all(dim=1).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="check=True must read the values of labels"):
        func.vmap(lambda x, t: cross_entropy(x, t, check=True))(logits, labels)


def test_targets_under_vmap(backend: Backend) -> None:
    func, labels = backend.xp.func, backend.array([2, 0, -1])
    hot = func.vmap(lambda t: one_hot(t, 3, ignore_index=-1))(labels)
    assert hot.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    smooth = func.vmap(lambda t: smooth_labels(t, 0.75, num_classes=3, ignore_index=-1))(labels)
    assert smooth.tolist() == [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0.0, 0.0, 0.0]]


# -- torch.compile, fake tensors, export ------------------------------------------------------------------------------


COMPILED = ("plain", "ignored", "where-logits", "soft-zeros", "temperature-classes", "everything")


@pytest.mark.parametrize("name", COMPILED)
def test_compile(backend: Backend, name: str) -> None:
    """fullgraph=True, value and backward, without a warning and as exact as eager."""
    case = BY_NAME[name]
    arguments = tensors(backend, case, "float64", case.by)
    eager = rows(**arguments)

    def call(**given: Array) -> Array:
        return cross_entropy(given.pop("logits"), given.pop("labels"), reduction="none", **given)

    with fresh_dynamo(backend):
        compiled = backend.xp.compile(call, fullgraph=True, backend="aot_eager")
        losses = compiled(**arguments)
        backend.xp.testing.assert_close(losses, eager, rtol=1e-15, atol=0, equal_nan=True)
        (losses * backend.array(COTANGENT)).sum().backward()
    for one in case.by:
        assert_gradient(case, one, backend.numpy(arguments[one].grad), dtype="float64")


OTHERS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: softmax(x, temperature=0.5, axis=(0, 1)),
    "log_softmax": log_softmax,
    "softmin": lambda x: softmin(x, where=x < 3),
    "logsumexp": logsumexp,
    "logsumexp-b": lambda x: logsumexp(x, b=x - 1, return_sign=True)[0],
    "smooth_labels": lambda x: smooth_labels(x, 0.125),
    "mean": lambda x: cross_entropy(x, one_hot(x[:, 0].long().clamp(0, 2), 3), label_smoothing=0.125),
    "numbers": lambda x: cross_entropy(x[0], 1, sample_weight=2.0, where=True) * logsumexp(x[1], b=2.0),
    "pair": lambda x: cross_entropy(x, x[:, 0].long(), reduction="sum_and_weight", aux=("lse", "entropy"))[0][0],
}


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_compile_the_others(backend: Backend, function: Any) -> None:
    torch = backend.xp
    x = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [2, 0, 0]], "float64")
    eager, traced = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = function(eager)
    with fresh_dynamo(backend):
        result = torch.compile(function, fullgraph=True, backend="aot_eager")(traced)
        torch.testing.assert_close(result, expected, rtol=1e-15, atol=0, equal_nan=True)
        pull = torch.arange(1.0, result.numel() + 1, dtype=result.dtype).reshape(result.shape)
        result.backward(pull)
    expected.backward(pull)
    torch.testing.assert_close(traced.grad, eager.grad, rtol=1e-14, atol=1e-16, equal_nan=True)


def test_compiled_labels_out_of_range(backend: Backend) -> None:
    """No values to look at in a trace: NaN in that row, value and derivative."""
    logits = backend.array(LOGITS[:3], "float64").requires_grad_()
    with fresh_dynamo(backend):
        call = backend.xp.compile(
            lambda x, t: cross_entropy(x, t, reduction="none"), fullgraph=True, backend="aot_eager"
        )
        losses = call(logits, backend.array([2, 7, -1]))
        losses.sum().backward()
    assert losses.isnan().tolist() == [False, True, True]
    assert logits.grad.isnan().all(dim=1).tolist() == [False, True, True]


def test_compile_once_for_other_values(backend: Backend) -> None:
    """Values of arguments are operands: new ones are no reason to compile again.

    Nor is what the first call of all changes, the table of backends in use, once an eager call has been made.
    """
    cross_entropy(backend.array(LOGITS[:3], "float64"), backend.array([2, 0, 1]))
    torch = backend.xp
    seen: list[int] = []

    def counting(graph: Any, _inputs: Any) -> Any:
        seen.append(1)
        return graph.forward

    with fresh_dynamo(backend):
        call = torch.compile(lambda x, t, heat: cross_entropy(x, t, temperature=heat), fullgraph=True, backend=counting)
        for n in range(3):
            call(backend.array(LOGITS[:3], "float64") + n, backend.array([n, 0, 1]), torch.tensor(1.0 + n))
    assert len(seen) == 1


def test_compile_with_a_dynamic_batch(backend: Backend) -> None:
    """The last batch of an epoch is smaller: with dynamic=True that is no reason to compile again."""
    torch = backend.xp
    seen: list[int] = []

    def counting(graph: Any, _inputs: Any) -> Any:
        seen.append(1)
        return graph.forward

    x, t = backend.array(LOGITS[:3] * 2, "float64"), backend.array([2, 0, 1, 0, 1, 2])
    weight = backend.array([2.0, 1.0, 0.5], "float64")
    with fresh_dynamo(backend):
        call = torch.compile(
            lambda x, t: cross_entropy(x, t, weight=weight, label_smoothing=0.125),
            fullgraph=True,
            dynamic=True,
            backend=counting,
        )
        for size in (6, 5, 4):  # a batch as large as the number of classes would be a case of its own
            expected = cross_entropy(x[:size], t[:size], weight=weight, label_smoothing=0.125)
            torch.testing.assert_close(call(x[:size].clone(), t[:size].clone()), expected, rtol=1e-15, atol=0)
    assert len(seen) == 1


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, _: softmax(x),
    "log_softmax": lambda x, _: log_softmax(x),
    "softmin": lambda x, _: softmin(x),
    "logsumexp": lambda x, _: logsumexp(x, b=x, return_sign=True)[0],
    "cross_entropy": lambda x, t: cross_entropy(x, t, ignore_index=-1, label_smoothing=0.125, temperature=2.0),
    "cross_entropy-soft": lambda x, _: cross_entropy(x, softmax(x), where=x > 0, aux="margin")[0],
    "one_hot": lambda _, t: one_hot(t, 3),
    "smooth_labels": lambda _, t: smooth_labels(t, 0.125, num_classes=3),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("place", ["meta", "fake"])
def test_without_values(backend: Backend, function: Any, place: str) -> None:
    """Meta and fake tensors have a shape and a dtype and no value: nothing may ask for one."""
    torch = backend.xp
    x, t = backend.array(LOGITS[:3], "float32"), backend.array([2, 0, 1])
    expected = function(x, t)
    if place == "meta":
        found = function(x.to("meta"), t.to("meta"))
    else:
        with torch._subclasses.FakeTensorMode() as mode:
            found = function(mode.from_tensor(x), mode.from_tensor(t))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_export(backend: Backend) -> None:
    """A loss inside a module is exported with its value and takes other batches."""
    torch = backend.xp

    class Loss(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Array, t: Array) -> Array:
            return cross_entropy(x, t, ignore_index=-100, label_smoothing=0.125)

    x, t = backend.array(LOGITS[:4], "float32"), backend.array([2, -100, 1, 0])
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Loss(), (x, t), dynamic_shapes=({0: batch}, {0: batch}))
    more, labels = torch.cat([x, x]), torch.cat([t, t])
    torch.testing.assert_close(exported.module()(more, labels), Loss()(more, labels), rtol=1e-6, atol=0)


# -- what a torch user expects besides --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_no_graph_where_none_is_asked_for(backend: Backend, function: Any) -> None:
    x, t = backend.array(LOGITS[:3], "float32"), backend.array([2, 0, 1])
    result = function(x, t)
    assert result.grad_fn is None
    assert not result.requires_grad
    with backend.xp.no_grad():
        assert not function(x.clone().requires_grad_(), t).requires_grad
    with backend.xp.inference_mode():
        assert function(x.clone(), t).is_inference()


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_inputs_are_left_alone(backend: Backend, function: Any) -> None:
    x, t = backend.array(LOGITS[:3], "float32"), backend.array([2, 0, 1])
    before = (x.clone(), t.clone(), x._version, t._version)
    function(x, t)
    assert backend.xp.equal(x, before[0])
    assert backend.xp.equal(t, before[1])
    assert (x._version, t._version) == before[2:]


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_integers_take_the_default_dtype(backend: Backend, default: str) -> None:
    torch = backend.xp
    before = torch.get_default_dtype()
    torch.set_default_dtype(backend.dtype(default))
    try:
        x, t = backend.array([[2, 0, -1]], "int8"), backend.array([0])
        results = [softmax(x), log_softmax(x), softmin(x), logsumexp(x), cross_entropy(x, t), one_hot(t, 3)]
    finally:
        torch.set_default_dtype(before)
    assert {result.dtype for result in results} == {backend.dtype(default)}


def test_views(backend: Backend) -> None:
    """Transposed, strided and expanded logits and labels give what contiguous ones give, and so do their gradients."""
    torch = backend.xp
    base = torch.linspace(-2.0, 3.0, 24, dtype=torch.float64).reshape(4, 6)
    labels = torch.tensor([[0, 9], [2, 9], [1, 9]])[:, 0]
    views = {"transposed": base.T[::2, :3], "strided": base[:3, ::2], "expanded": base[:1, :3].expand(3, 3)}
    for view in views.values():
        assert not view.is_contiguous()
        given, plain = view.detach().requires_grad_(), view.contiguous().detach().requires_grad_()
        losses = [cross_entropy(x, labels, label_smoothing=0.125) for x in (given, plain)]
        gradients = [torch.autograd.grad(loss, x)[0] for loss, x in zip(losses, (given, plain), strict=True)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-15, atol=0)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-14, atol=1e-17)


def test_parameters_learn(backend: Backend) -> None:
    """nn.Parameter as logits, temperature, class and sample weights: one step of SGD goes downhill."""
    torch = backend.xp
    linear = torch.nn.Linear(3, 3, dtype=torch.float64)
    heat = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    x, t = backend.array(LOGITS[:2], "float64"), backend.array([2, 0])
    optimizer = torch.optim.SGD([*linear.parameters(), heat, weight], lr=1e-3)

    def loss() -> Array:
        return cross_entropy(linear(x), t, temperature=heat, weight=weight)

    before = loss()
    before.backward()
    assert all(p.grad.isfinite().all() for p in (*linear.parameters(), heat, weight))
    optimizer.step()
    assert loss().item() < before.item()
    assert isinstance(softmax(weight), torch.Tensor)
    assert not isinstance(softmax(weight), torch.nn.Parameter)


def test_create_graph_and_retain_graph(backend: Backend) -> None:
    """A gradient penalty: the derivative of a derivative, and a second backward through the same graph."""
    logits = backend.array(LOGITS[:3], "float64").requires_grad_()
    loss = cross_entropy(logits, backend.array([2, 0, 1]))
    (first,) = backend.xp.autograd.grad(loss, logits, create_graph=True)
    (first * first).sum().backward(retain_graph=True)
    penalty = logits.grad.clone()
    logits.grad = None
    loss.backward()
    # One gradient is recorded to be differentiated, the other is not: by two ways to the same numbers.
    backend.xp.testing.assert_close(logits.grad, first.detach(), rtol=2.0**-51, atol=0)
    loss = cross_entropy(logits, backend.array([2, 0, 1]))
    again = [backend.xp.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2)]
    assert backend.xp.equal(*again)
    assert penalty.abs().sum() > 0


HERE = {
    "cross_entropy",
    "grad",
    "hessian_diagonal",
    "hvp",
    "log_softmax",
    "logsumexp",
    "one_hot",
    "smooth_labels",
    "softmax",
    "softmin",
    "threads",
    "value_and_grad",
    "vjp",
}
NUMBERS = {"Evaluation", "LossSum", "evaluate"}  # what nobody differentiates
ELSEWHERE = {  # files that hold automatic differentiation on torch and jax against exact derivatives
    "test_binary": {"binary_cross_entropy", "binary_focal_loss"},
    "test_binary_probabilities": {"binary_cross_entropy_from_probs"},
    "test_divergences": {
        f"{measure}{suffix}"
        for measure in ("cross_entropy_between", "entropy", "js_divergence", "kl_divergence", "total_variation")
        for suffix in ("", "_from_probs")
    },
    "test_elementwise": {"log_sigmoid", "logit", "sigmoid", "softplus"},
    "test_information": {"entr", "rel_entr", "xlog1py", "xlogy"},
    "test_linear": {"linear_cross_entropy", "linear_kl_divergence", "linear_log_prob"},
    "test_logspace": {"log1mexp", "logcumsumexp", "logmeanexp", "logsubexp"},
    "test_probabilities": {"cross_entropy_from_probs", "nll_loss"},
    "test_relatives": {"focal_loss", "generalized_cross_entropy", "poly_loss"},
    "test_sampling": {"gumbel_softmax"},
    "test_segments": {"segment_logsumexp", "segment_softmax"},
    "test_streaming": {"LogSumExp", "SoftmaxStatistics"},
    "test_sparse": {"entmax", "entmax_loss", "fenchel_young_loss", "sparsemax", "sparsemax_loss"},
}


def test_public_names_are_differentiated() -> None:
    """A function that is added wants its place in this file, or in one of its own that does the same."""
    assert set(softxent.__all__) == HERE.union(NUMBERS, *ELSEWHERE.values())
    for name, functions in ELSEWHERE.items():
        text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert 'pytest.mark.backends("torch", "jax")' in text or 'pytest.mark.backends("autodiff")' in text
        assert "gradients(" in text or "jax.grad(" in text
        assert all(function.removesuffix("_from_probs") in text for function in functions)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("b", [2.0, [1.0, -3.0, 1.0]])
def test_vmap_of_weighted_sums(backend: Backend, b: Any) -> None:
    import torch

    x = torch.asarray([[0.0, 1.0, 2.0], [3.0, 3.0, 1.0]], dtype=torch.float64)
    b = b if isinstance(b, float) else torch.asarray(b, dtype=torch.float64)

    def log_size(row: Any) -> Any:
        return backend.call(logsumexp, row, b=b, return_sign=True)[0]

    assert torch.equal(torch.func.vmap(log_size)(x), torch.stack([log_size(row) for row in x]))
    gradients = torch.func.vmap(torch.func.grad(log_size))(x)
    weighted = b * torch.exp(x)
    torch.testing.assert_close(gradients, weighted / weighted.sum(-1, keepdim=True), rtol=1e-14, atol=0)


def _transformed_in_compiled() -> dict[str, Callable[[Any], Any]]:
    """What a compiler traces of torch.func, on logits whose derivatives are lost where the wrong form is traced."""
    import torch
    from torch.func import grad, hessian, jvp, vmap

    def along_first(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: jvp(f, (x,), (torch.nn.functional.one_hot(torch.zeros(2, dtype=torch.int64), 3).to(x.dtype),))[
            1
        ]

    labels = torch.zeros(2, dtype=torch.int64)
    return {
        "vmap": vmap(softmax),
        "jvp of softmax": along_first(softmax),
        "jvp of the loss": along_first(lambda x: cross_entropy(x, labels)),
        "grad": grad(lambda x: log_softmax(x)[:, 0].sum()),
        "hessian": hessian(lambda x: cross_entropy(x, labels)),
    }


@pytest.mark.backends("torch")
@pytest.mark.parametrize("name", ["vmap", "jvp of softmax", "jvp of the loss", "grad", "hessian"])
def test_transforms_inside_a_compiled_function_lose_nothing(backend: Backend, name: str) -> None:
    torch = backend.xp
    function = _transformed_in_compiled()[name]
    x = backend.array([[40.0, 0.0, 0.0], [0.5, -1.0, 0.0]], "float32")
    found = torch.compile(function, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(found, function(x), rtol=4 * torch.finfo(torch.float32).eps, atol=0.0)
