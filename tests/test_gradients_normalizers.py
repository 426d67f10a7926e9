"""Pullbacks of softmax, log_softmax, softmin, logsumexp and smooth_labels, and derivatives along every kind of axis."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal
from derivatives import (
    COTANGENT,
    INF,
    NAN,
    ROWS,
    assert_close,
    assert_ulps,
)
from exact_gradients import (
    EAGER,
    KEPT,
    LOGITS,
    PULL,
    VECTOR,
    WEIGHTS,
    added_up,
    applied,
    assert_like,
    assert_same,
    by_prior,
    by_smoothing,
    by_weights,
    covariances,
    diagonal,
    floor_of,
    placed,
    single,
)
from mpmath import mp, mpf

from softxent import (
    cross_entropy,
    grad,
    hessian_diagonal,
    hvp,
    log_softmax,
    logsumexp,
    smooth_labels,
    softmax,
    softmin,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # So does Dynamo, which makes an instance of Function for every rule that it traces.
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]

Array = Any
NumPy = np.ndarray[Any, Any]


# -- normalisers ------------------------------------------------------------------------------------------------------

HEATS: dict[str, Any] = {
    "none": None,
    "0-d": single(0.5),
    "rows": single([[0.5], [2], [4], [0.25], [1], [2], [1]]),
    "classes": single([0.5, 1.0, 2.0]),
}


# A normaliser, the exact pullback, and the sign that turns logits of the one into those of the other.
NORMALISERS: dict[str, tuple[Any, Callable[..., oracle.Sum], int]] = {
    "softmax": (softmax, oracle.softmax_vjp, 1),
    "log_softmax": (log_softmax, oracle.log_softmax_vjp, 1),
    "softmin": (softmin, oracle.softmax_vjp, -1),
}


@cache
def exact_pullback(name: str, heat_name: str) -> tuple[oracle.Sum, oracle.Sum]:
    """Of a normaliser, by its logits and by its temperature: -Σ dz_j z_j / T, z after the shift if T is a row's."""
    _, pullback, sign = NORMALISERS[name]
    heat = np.asarray(1.0 if HEATS[heat_name] is None else HEATS[heat_name])
    with mp.workdps(oracle.DIGITS):
        by_logits = pullback(PULL, LOGITS, where=KEPT, temperature=HEATS[heat_name])
        x = np.where(KEPT & np.isfinite(LOGITS), LOGITS, np.nan)
        of_rows = heat.ndim == 0 or heat.shape[-1] == 1
        top = np.nanmax(np.where(KEPT.any(axis=-1, keepdims=True), x, 0.0), axis=-1, keepdims=True)
        z = ulps.exactly(np.nan_to_num(x - top if of_rows else x)) / ulps.exactly(heat)
        value, absolute = -by_logits.value * z, by_logits.absolute * abs(z)
    by_heat = oracle.Sum(*(oracle.sum_to(part, heat.shape) for part in (value, absolute)))
    return oracle.Sum(sign * by_logits.value, by_logits.absolute), by_heat


PAIRS = [(name, heat) for name in NORMALISERS for heat in HEATS if name == "softmax" or heat in {"none", "classes"}]


@pytest.mark.parametrize(("name", "heat"), PAIRS)
def test_normalisers_pull_back_exactly(backend: Backend, name: str, heat: str) -> None:
    function, _, sign = NORMALISERS[name]
    given = placed(backend, {"where": KEPT, "temperature": HEATS[heat]})
    x, by = backend.array(sign * LOGITS), ("logits",) if heat == "none" else ("logits", "temperature")
    value, pullback = backend.call(vjp(function, by), x, **given)
    assert_same(backend, value, backend.call(function, x, **given))
    found = backend.call(pullback, backend.array(PULL))
    for one, derivative, sums in zip(by, found, exact_pullback(name, heat), strict=False):
        assert_like(backend, derivative, x if one == "logits" else given[one])
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


def test_log_softmax_passes_the_cotangent_of_minus_infinity(backend: Backend) -> None:
    """§2: -inf gives 0 by softmax, and by log_softmax the entry's own cotangent."""
    x, g = backend.array([0.0, -INF, 0.0], "float32"), backend.array([1.0, 4.0, 2.0], "float32")
    assert_equal(backend, backend.call(vjp(softmax), x)[1](g), single([-0.25, 0.0, 0.25]))
    assert_equal(backend, backend.call(vjp(log_softmax), x)[1](g), single([-2.5, 4.0, -1.5]))


FIRST_AND_SECOND: dict[str, Any] = {
    "grad": lambda f, _, *args, **given: grad(f)(*args, **given),
    "hvp": lambda f, vector, *args, **given: hvp(f)(*args, **given, vector=vector),
    "hessian_diagonal": lambda f, _, *args, **given: hessian_diagonal(f)(*args, **given),
}


def test_rows_that_are_undefined(backend: Backend) -> None:
    """§2: NaN throughout the row, and in no other."""
    x = single([[-INF, -INF, -INF], [0, INF, 1], [0, NAN, 1], [0.5, -1.25, 2]])
    undefined = [[True] * 3] * 3 + [[False] * 3]
    ones = backend.array(np.ones((4, 3)), "float32")
    for function, _, sign in NORMALISERS.values():
        found = backend.numpy(backend.call(vjp(function), backend.array(sign * x))[1](ones))
        np.testing.assert_array_equal(np.isnan(found), undefined)
    labels = backend.array([0, 0, 0, 0], "int32")
    for derivative in FIRST_AND_SECOND.values():
        found = backend.call(derivative, cross_entropy, ones, backend.array(x), labels, reduction="sum")
        np.testing.assert_array_equal(np.isnan(backend.numpy(found)), undefined)


@EAGER
@pytest.mark.parametrize("row", [[-INF, -INF, -INF], [0, INF, 1], [0, NAN, 1]], ids=str)
def test_options_of_an_undefined_row(backend: Backend, row: list[float]) -> None:
    """A loss that is NaN has NaN for every derivative, by numbers as by distributions."""
    given = {
        "logits": [row],
        "labels": [[0.5, 0.25, 0.25]],
        "sample_weight": 2.0,
        "label_smoothing": 0.25,
        "temperature": 0.5,
        "softcap": 8.0,
        "z_loss": 0.5,
    }
    arrays = {name: backend.array(x, "float32") for name, x in given.items()}
    loss, found = backend.call(value_and_grad(cross_entropy, tuple(given)), **arrays, reduction="sum")
    assert_equal(backend, loss, single(NAN))
    for name, derivative in zip(given, found, strict=True):
        assert np.isnan(backend.numpy(derivative)).all(), name


@pytest.mark.parametrize("name", WEIGHTS)
def test_logsumexp_pulls_back_exactly(backend: Backend, name: str) -> None:
    """By x and by b, of the logarithm if the sign comes with it, in the cotangent's shape."""
    x = backend.array(LOGITS)
    given = placed(backend, {"where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True, "keepdims": True}
    value, pullback = backend.call(vjp(logsumexp, by_weights(name)), x, **given)
    assert_same(backend, value, backend.call(logsumexp, x, **given))
    found = backend.call(pullback, backend.array(COTANGENT[:, None], "float32"))
    expected = oracle.logsumexp_vjp(COTANGENT, LOGITS, b=WEIGHTS[name], where=KEPT)
    for one, derivative, (value, absolute) in zip(by_weights(name), found, expected, strict=False):
        argument = x if one == "x" else given["b"]
        assert_like(backend, derivative, argument)
        sums = oracle.Sum(*(oracle.sum_to(part, tuple(argument.shape)) for part in (value, absolute)))
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


@pytest.mark.parametrize("name", WEIGHTS)
def test_second_derivatives_of_logsumexp(backend: Backend, name: str) -> None:
    """(diag(p) - p pᵀ) v with p = b e^x / Σ: 0 where nothing is summed, whatever the vector has there."""
    given = placed(backend, {"where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True}
    matrices = covariances(oracle.logsumexp_vjp(1.0, LOGITS, b=WEIGHTS[name], where=KEPT)[0])
    x, vector = backend.array(LOGITS), single(np.where(KEPT, VECTOR, NAN))
    product = backend.call(hvp(logsumexp), x, **given, vector=backend.array(vector))
    assert_close(backend.numpy(product), applied(matrices, vector), dtype="float32", floor=floor_of(backend))
    squares = backend.call(hessian_diagonal(logsumexp), x, **given)
    assert_close(backend.numpy(squares), diagonal(matrices), dtype="float32", floor=floor_of(backend))


def test_sums_without_a_logarithm(backend: Backend) -> None:
    """Derivatives are 0 of a sum that is 0, empty or of -inf alone; NaN of a negative one, and beside +inf."""
    x = single([[1, 1, NAN], [NAN, INF, 0], [-INF, -INF, -INF], [0, 0, 0], [0, INF, 0], [0, 0, 0]])
    b = single([[1, -1, 0], [0, 0, 0], [1, 2, 1], [1, -2, 0.5], [1, 1, 1], [1, 2, 1]])
    by_x, by_b = backend.call(grad(logsumexp, ("x", "b")), backend.array(x), b=backend.array(b))
    nan = [NAN, NAN, NAN]
    expected = single([[0, 0, 0], [0, 0, 0], [0, 0, 0], nan, nan, [0.25, 0.5, 0.25]])
    assert_equal(backend, by_x, expected)
    assert_equal(backend, by_b, np.where(np.isnan(expected) | (expected == 0), expected, single(0.25)))


@pytest.mark.parametrize("derivative", FIRST_AND_SECOND.values(), ids=FIRST_AND_SECOND)
def test_what_is_absent_from_an_undefined_sum(backend: Backend, derivative: Any) -> None:
    """§2: exactly 0 where an entry is masked or of weight 0, NaN throughout the rest of the row."""
    x, b = single([[0, 0, 5], [0, NAN, 5], [0, 1, 2]]), single([[1, -2, 1], [1, 1, 1], [0, 1, -2]])
    kept = np.asarray([[True, True, False], [True, True, False], [False, True, True]])
    where, ones = backend.array(kept | [[False], [False], [True]]), backend.array(np.ones((3, 3)), "float32")
    found = backend.call(derivative, logsumexp, ones, backend.array(x), b=backend.array(b), where=where)
    assert_equal(backend, found, np.where(kept, single(NAN), single(0.0)))


@pytest.mark.parametrize("derivative", FIRST_AND_SECOND.values(), ids=FIRST_AND_SECOND)
def test_what_is_masked_in_an_undefined_row(backend: Backend, derivative: Any) -> None:
    """§2: exactly 0 at a dropped class, NaN throughout the rest of the row."""
    x = backend.array([[0, INF, 5], [0, NAN, 5], [-INF, -INF, 5]], "float32")
    where, ones = backend.array([[True, True, False]]), backend.array(np.ones((3, 3)), "float32")
    found = backend.call(derivative, cross_entropy, ones, x, backend.array([0, 1, 0], "int32"), where=where)
    assert_equal(backend, found, single([[NAN, NAN, 0]] * 3))


SMOOTHED = {
    "labels": single([[0.25, 0.5, 0.75], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 0], [0.25, 0.5, 0], [0, 1, 0], [0, 0, 1]]),
    "label_smoothing": single([0.125, 0.5, 0.0, 0.25, 0.75, 1.0, 0.5]),
    "smoothing_prior": single([0.5, 0.25, 0.75]),
}


def test_smooth_labels_pull_back_exactly(backend: Backend) -> None:
    """(1 - ε) g by the labels, Σ g (u - q) by ε; the prior is rescaled over the classes that take part.

    A dropped class gets nothing of ε and keeps (1 - ε) q. A row that takes no part is not looked at.
    """
    where = np.asarray([[True, False, True]] + [[True] * 3] * 5 + [[False] * 3])
    pulled = PULL[[0, 1, 2, 6, 3, 4, 6]]
    given = placed(backend, SMOOTHED)
    value, pullback = backend.call(vjp(smooth_labels, tuple(SMOOTHED)), **given, where=backend.array(where))
    assert_same(backend, value, backend.call(smooth_labels, **given, where=backend.array(where)))
    found = backend.call(pullback, backend.array(pulled))
    reference = oracle.cross_entropy(
        np.zeros((ROWS, 3)),
        SMOOTHED["labels"],
        where=where,
        label_smoothing=SMOOTHED["label_smoothing"],
        smoothing_prior=SMOOTHED["smoothing_prior"],
    )
    seeds = {id(e): list(ulps.exactly(np.nan_to_num(g))) for e, g in zip(reference.examples, pulled, strict=True)}
    rules: dict[str, Callable[[oracle.Example], Any]] = {
        "labels": lambda e: [oracle.total(g - e.smoothing * g) for g in seeds[id(e)]],
        "label_smoothing": lambda e: by_smoothing(e, seeds[id(e)]),
        "smoothing_prior": lambda e: by_prior(e, seeds[id(e)]),
    }
    reference.shapes |= {name: value.shape for name, value in SMOOTHED.items()}
    for name, derivative in zip(SMOOTHED, found, strict=True):
        assert_like(backend, derivative, given[name])
        sums = added_up(reference, name, rules[name])
        assert_close(backend.numpy(derivative), sums, dtype="float32", floor=floor_of(backend))


def test_a_prior_that_leaves_nothing(backend: Backend) -> None:
    """It is uniform then, and has derivative 0 (§3.6): its mass is a divisor."""
    q, epsilon = backend.array([[0.5, 0.25, 0.25]], "float32"), backend.array(0.5, "float32")
    prior, where = backend.array([0.0, 0.0, 2.0], "float32"), backend.array([[True, True, False]])
    given = {"labels": q, "label_smoothing": epsilon, "smoothing_prior": prior, "where": where}
    _, pullback = backend.call(vjp(smooth_labels, ("label_smoothing", "smoothing_prior")), **given)
    by_epsilon, by_prior = backend.call(pullback, backend.array([[1.0, 2.0, 4.0]], "float32"))
    assert_equal(backend, by_epsilon, single(-0.5))  # Σ g (u - q), u = (1/2, 1/2, 0)
    assert_equal(backend, by_prior, single([0.0, 0.0, 0.0]))


def test_smooth_labels_of_indices_by_smoothing(backend: Backend) -> None:
    """Σ g (1/3 - q); an ignored label has no part in it."""
    labels, epsilon = backend.array([2, -1, 0], "int32"), backend.array([0.25, 0.5, 0.0], "float32")
    given = {"num_classes": 3, "ignore_index": -1}
    _, pullback = backend.call(vjp(smooth_labels, 1), labels, epsilon, **given)
    found = backend.call(pullback, backend.array([[3, 6, 12], [NAN, NAN, NAN], [6, 0, 3]], "float32"))
    assert_ulps(backend.numpy(found), [mpf(-5), mpf(0), mpf(-3)], dtype="float32", bound=4.0)


# -- axes -------------------------------------------------------------------------------------------------------------

CUBE = single(np.arange(24.0).reshape(2, 3, 4) % 7 / 4 + np.arange(3.0).reshape(3, 1) / 2)


MASK = np.arange(12).reshape(1, 3, 4) % 5 > 0


HEAT = single([[[0.5, 1.0, 2.0, 1.0]], [[4.0, 0.5, 1.0, 2.0]]])  # (2, 1, 4)


BY_CLASS = single([0.5, 1.0, 2.0, 0.25])  # (4,)


def flattened(form: oracle.Layout, given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The same call with the class axes moved to the end and made one, and nothing left to broadcast."""
    return given | {name: np.ascontiguousarray(form.rows(given[name])) for name in names}


def assert_along(
    backend: Backend, function: Any, form: oracle.Layout, given: dict[str, Any], names: tuple[str, ...], **options: Any
) -> None:
    """Derivatives along the axis are those of the flattened call, moved back and added up where it broadcast."""
    by = tuple(name for name, x in given.items() if x.dtype.kind == "f")
    axis = options.pop("axis")
    rows = placed(backend, flattened(form, given, names))
    value, pullback = backend.call(vjp(function, by), **placed(backend, given), axis=axis, **options)
    flat, flat_pullback = backend.call(vjp(function, by), **rows, **options)
    g = np.resize(COTANGENT, np.shape(backend.numpy(flat))).astype("float32")
    moved = form.back(g) if g.ndim == len(form.batch) + 1 else g
    found = backend.call(pullback, backend.array(moved))
    expected = backend.call(flat_pullback, backend.array(g))
    assert_equal(backend, value, form.back(backend.numpy(flat)) if moved is not g else backend.numpy(flat))
    for name, one, other in zip(by, found, expected, strict=True):
        assert one.shape == given[name].shape
        of_rows = backend.numpy(other)
        whole = form.back(of_rows) if name in names else of_rows
        if whole.shape == given[name].shape and name in names:
            assert_equal(backend, one, whole)
        else:  # added up in another order
            size = oracle.sum_to(abs(whole.astype("float64")), given[name].shape)
            difference = backend.numpy(one) - oracle.sum_to(whole.astype("float64"), given[name].shape)
            assert np.all(abs(difference) <= 4 * ulps.eps("float32") * size)


def losses_along(axis: Any) -> tuple[oracle.Layout, dict[str, Any], tuple[str, ...]]:
    """Distributions as labels, temperatures with sizes of 1, weights of both kinds, a mask of classes."""
    form = oracle.Layout(CUBE.shape, axis)
    examples = [n if k == 0 else 1 for k, n in enumerate(form.batch)]
    given = {
        "logits": CUBE,
        "labels": np.where(MASK, CUBE / 8, single(0.0)),
        "temperature": HEAT,
        "sample_weight": single(np.arange(1.0, np.prod(examples) + 1)).reshape(examples),
        "weight": single(np.arange(1.0, form.classes + 1) / 4),
        "where": MASK,
    }
    return form, given, ("logits", "labels", "temperature", "where")


AXES = (0, -2, (0, 2), (2, 0), None, ())


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_class_axes_of_losses(backend: Backend, axis: Any) -> None:
    form, given, names = losses_along(axis)
    assert_along(backend, cross_entropy, form, given, names, axis=axis, reduction="none")


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axes_of_normalisers(backend: Backend, axis: Any) -> None:
    """Options of fewer dimensions broadcast as in NumPy."""
    form = oracle.Layout(CUBE.shape, axis)
    for function, name, option in ((softmax, "logits", "temperature"), (logsumexp, "x", "b")):
        given = {name: CUBE, option: BY_CLASS, "where": MASK[0]}
        assert_along(backend, function, form, given, tuple(given), axis=axis)


@EAGER
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_cotangents_of_sums_with_their_dimensions_kept(backend: Backend, axis: Any) -> None:
    form, x = oracle.Layout(CUBE.shape, axis), backend.array(CUBE)
    g = np.resize(COTANGENT, form.batch).astype("float32")
    _, pullback = backend.call(vjp(logsumexp), x, axis=axis, keepdims=True)
    _, plain = backend.call(vjp(logsumexp), x, axis=axis)
    found = backend.call(pullback, backend.array(form.keepdims(g)))
    assert_same(backend, found, backend.call(plain, backend.array(g)))


@pytest.mark.backends("jax")
def test_axes_on_jax(backend: Backend) -> None:
    form, given, names = losses_along((2, 0))
    assert_along(backend, cross_entropy, form, given, names, axis=(2, 0), reduction="none")


@pytest.mark.parametrize("axis", [-1, None, ()], ids=str)
def test_0_d_input(backend: Backend, axis: Any) -> None:
    """One element is one class: certain, whatever it is."""
    x, one, heat = (backend.array(v, "float32") for v in (2.5, 1.0, 0.5))
    zero = single(0.0)
    loss, by = backend.call(value_and_grad(cross_entropy, ("logits", "temperature")), x, 0, temperature=heat, axis=axis)
    for found in (loss, *by, *(backend.call(vjp(f), x, axis=axis)[1](one) for f in (softmax, log_softmax))):
        assert_equal(backend, found, zero)
    assert_equal(backend, backend.call(grad(logsumexp), x, axis=axis), single(1.0))
    assert_equal(backend, backend.call(grad(logsumexp), x, b=one, axis=axis, keepdims=True), single(1.0))
    by_x, by_labels = backend.call(grad(cross_entropy, (0, 1)), x, one, axis=axis)
    assert_equal(backend, by_x, zero)
    assert_equal(backend, by_labels, zero)
    for function in (hessian_diagonal(cross_entropy), partial(hvp(cross_entropy), vector=one)):
        assert_equal(backend, backend.call(function, x, 0, axis=axis), zero)


@pytest.mark.parametrize("shape", [(2, 0), (0, 0)], ids=str)
def test_no_classes(backend: Backend, shape: tuple[int, ...]) -> None:
    """Nothing to differentiate by, in its shape; a temperature has derivative 0."""
    x, heat = backend.array(np.zeros(shape), "float32"), backend.array(2.0, "float32")
    for function in (softmax, log_softmax):
        _, pullback = backend.call(vjp(function, (0, "temperature")), x, temperature=heat)
        by_logits, by_heat = backend.call(pullback, x)
        assert_like(backend, by_logits, x)
        assert_equal(backend, by_heat, np.asarray(0.0, dtype="float32"))
    assert_like(backend, backend.call(grad(logsumexp), x), x)
    assert_like(backend, backend.call(hessian_diagonal(logsumexp), x), x)
    assert_like(backend, backend.call(hvp(logsumexp), x, vector=x), x)
    labels = backend.array(np.zeros(shape[0], dtype="int32"))
    options = {"check": False, "reduction": "sum"}
    assert_like(backend, backend.call(hessian_diagonal(cross_entropy), x, labels, **options), x)
    assert_like(backend, backend.call(hvp(cross_entropy), x, labels, vector=x, **options), x)
