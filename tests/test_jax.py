"""What jax does to the functions: jit, vmap, grad and its relatives once and twice, tracers as options, NumPy arrays.

First derivatives are held against exact ones (`derivatives`, `oracle`), second ones against finite differences of the
oracle and by jax's own check_grads. The whole file runs with x64 on and off, in processes of their own; what only
float64 can show asks for that dtype.
"""

from __future__ import annotations

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
    second_derivative,
    tangent,
)

from softxent import cross_entropy, log_softmax, logsumexp, one_hot, smooth_labels, softmax, softmin, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = pytest.mark.backends("jax")

Array = Any

FLUSHED = 16.0  # smallest normal numbers that XLA on CPU may flush to 0 in a sum of a few terms


# -- helpers ----------------------------------------------------------------------------------------------------------


def arrays(backend: Backend, case: Case, dtype: str) -> dict[str, Array]:
    return {name: backend.array(array) for name, array in case.arrays(dtype).items()}


def rows(arguments: dict[str, Array]) -> Array:
    """One loss a row."""
    options = {name: value for name, value in arguments.items() if name not in {"logits", "labels"}}
    return cross_entropy(arguments["logits"], arguments["labels"], reduction="none", **options)


def weighed(moving: dict[str, Array], rest: dict[str, Array]) -> Array:
    """Σ cotangent · row, as a function of what is differentiated and of the rest, all of it operands."""
    losses = rows({**rest, **moving})
    return (losses * COTANGENT.astype(losses.dtype)).sum()


def parted(arguments: dict[str, Array], by: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    moving = {name: arguments[name] for name in by}
    return moving, {name: value for name, value in arguments.items() if name not in by}


# -- cross_entropy ----------------------------------------------------------------------------------------------------


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_jitted_gradient_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    """All arguments are tracers, ignore_index and the numbers among them."""
    jax = backend.jax  # type: ignore[attr-defined]
    gradients = jax.jit(jax.grad(weighed))(*parted(arrays(backend, case, dtype), case.by))
    for name in case.by:
        assert_gradient(case, name, backend.numpy(gradients[name]), dtype=dtype, floor=FLUSHED)


EAGER = ("ignored", "soft-zeros")


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("name", EAGER)
def test_eager_gradient_is_exact(backend: Backend, dtype: str, name: str) -> None:
    case = BY_NAME[name]
    gradients = backend.jax.grad(weighed)(*parted(arrays(backend, case, dtype), case.by))  # type: ignore[attr-defined]
    for one in case.by:
        assert_gradient(case, one, backend.numpy(gradients[one]), dtype=dtype, floor=FLUSHED)


TWICE = ("infinities", "soft", "soft-zeros", "temperature-classes", "everything")


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(backend: Backend, dtype: str, name: str) -> None:
    """Forward over reverse, reverse over forward and reverse over reverse are what the oracle's differences are."""
    jax, case = backend.jax, BY_NAME[name]  # type: ignore[attr-defined]
    moving, rest = parted(arrays(backend, case, dtype), case.by)
    along = {one: backend.array(tangent(case, one)) for one in case.by}

    def twice(moving: dict[str, Array], along: dict[str, Array], rest: dict[str, Array]) -> list[dict[str, Array]]:
        def pushed(m: dict[str, Array]) -> Array:
            return jax.jvp(lambda m: weighed(m, rest), (m,), (along,))[1]

        def projected(m: dict[str, Array]) -> Array:
            gradient = jax.grad(weighed)(m, rest)
            return sum((gradient[one] * along[one]).sum() for one in case.by)

        forward = jax.jvp(lambda m: jax.grad(weighed)(m, rest), (moving,), (along,))[1]
        return [forward, jax.grad(pushed)(moving), jax.grad(projected)(moving)]

    expected = second_derivative(case, case.by)
    for found in jax.jit(twice)(moving, along, rest):
        for one in case.by:
            np.testing.assert_allclose(found[one], expected[one].astype(float), rtol=1e-12, atol=1e-13, err_msg=one)


@pytest.mark.dtypes("float64")
def test_check_grads(backend: Backend, dtype: str) -> None:
    """The check that jax ships, by finite differences: to second order, forward and reverse in every combination."""
    from jax.test_util import check_grads

    case = BY_NAME["soft"]
    moving, rest = parted(arrays(backend, case, dtype), case.varied)
    losses = backend.jax.jit(lambda moving: rows({**rest, **moving}))  # type: ignore[attr-defined]
    check_grads(losses, (moving,), order=2, eps=2.0**-17, atol=1e-6, rtol=1e-5)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", ["plain", "infinities", "ignored", "where-logits", "weight", "sample-weight-of-nan"])
def test_hessian(backend: Backend, dtype: str, name: str) -> None:
    """Exact, each row by itself, jitted: forward over reverse and reverse over forward."""
    jax, case = backend.jax, BY_NAME[name]  # type: ignore[attr-defined]
    moving, rest = parted(arrays(backend, case, dtype), ("logits",))
    logits = moving["logits"]

    def total(x: Array) -> Array:
        return rows({**rest, "logits": x}).sum()

    def own(second: Array) -> Array:
        return np.stack([backend.numpy(second)[n, :, n] for n in range(len(logits))])

    sums, gap = hessian(case), row_gaps(case)[:, None]
    forward, reverse = jax.jit(lambda x: (jax.hessian(total)(x), jax.jacrev(jax.jacfwd(total))(x)))(logits)
    for second in (forward, reverse):
        assert_close(own(second), sums, dtype=dtype, gap=gap, floor=FLUSHED)
        assert not np.asarray([backend.numpy(second)[n, :, n - 1] for n in range(len(logits))]).any()


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("label", [0, 1], ids=["hit", "miss"])
def test_hessian_keeps_every_digit(backend: Backend, dtype: str, label: int) -> None:
    case = Case("gap", [[40, 0, 0]], [label])
    logits, labels = arrays(backend, case, dtype).values()
    twice = backend.jax.hessian(lambda x: cross_entropy(x, labels, reduction="sum"))  # type: ignore[attr-defined]
    second = backend.numpy(backend.jax.jit(twice)(logits))  # type: ignore[attr-defined]
    assert_ulps(second[0, :, 0, :], hessian(case).value[0], dtype=dtype, bound=8.0, floor=FLUSHED)


def test_confident_prediction(backend: Backend) -> None:
    """Issue 2: 8.4967e-18 in float32, and its negative is the derivative at the target."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits, labels = backend.array([[40, 0, 0]], "float32"), backend.array([0], "int32")
    for transform in (lambda f: f, jax.jit):
        loss, gradient = transform(jax.value_and_grad(cross_entropy))(logits, labels)
        assert float(loss) == pytest.approx(8.4967e-18, rel=1e-5)
        assert float(gradient[0, 0]) == pytest.approx(-8.4967e-18, rel=1e-5)
        assert float(gradient.sum()) == 0.0


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("name", ["plain", "soft-zeros", "everything"])
def test_transforms_agree(backend: Backend, dtype: str, name: str) -> None:
    """grad, jacfwd, jacrev, jvp and vjp of the mean are one derivative."""
    jax, case = backend.jax, BY_NAME[name]  # type: ignore[attr-defined]
    moving, rest = parted(arrays(backend, case, dtype), ("logits",))

    def mean(x: Array) -> Array:
        options = {key: value for key, value in rest.items() if key != "labels"}
        return cross_entropy(x, rest["labels"], **options)

    def all_of_them(x: Array) -> dict[str, Array]:
        value, pushed = jax.jvp(mean, (x,), (jax.numpy.ones_like(x),))
        pulled = jax.vjp(mean, x)[1](jax.numpy.ones_like(value))[0]
        return {
            "pushed": pushed,
            "grad": jax.grad(mean)(x),
            "vjp": pulled,
            "jacrev": jax.jacrev(mean)(x),
            "jacfwd": jax.jacfwd(mean)(x),
        }

    found = {key: backend.numpy(value) for key, value in jax.jit(all_of_them)(moving["logits"]).items()}
    reference = exact(case, dtype)
    sums = reference.gradient("logits").times(1 / reference.denominator().value)
    gap = ROWS + (32.0 if "softcap" in case.options else 0.0)
    for key in ("grad", "vjp", "jacrev", "jacfwd"):
        assert_close(found[key], sums, dtype=dtype, gap=gap, floor=FLUSHED)
    np.testing.assert_allclose(found["pushed"], found["grad"].sum(dtype="float64"), atol=1e-6)


@pytest.mark.parametrize("kind", ["weight", "count"])
@pytest.mark.dtypes("float32")
def test_mean_by_sample_weight(backend: Backend, dtype: str, kind: str) -> None:
    """(L_n - mean · W_n) / Σ s W under "weight", also at s_n = 0; else L_n / count."""
    case = Case(
        "reweight",
        [[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]],
        [2, 0, 0],
        {"sample_weight": [2.0, 0.0, 0.5], "weight": [2.0, 0.5, 1.0]},
    )
    given = arrays(backend, case, dtype)

    def mean(s: Array) -> Array:
        return cross_entropy(
            given["logits"], given["labels"], weight=given["weight"], sample_weight=s, denominator=kind
        )

    found = backend.jax.jit(backend.jax.grad(mean))(given["sample_weight"])  # type: ignore[attr-defined]
    reference = exact(case)
    below, average = reference.denominator(kind).value, reference.mean(kind).value
    share = [e.W if kind == "weight" else 0 for e in reference.examples]
    value = [(e.per_unit() - average * w) / below for e, w in zip(reference.examples, share, strict=True)]
    np.testing.assert_allclose(backend.numpy(found), np.asarray(value, dtype=float), rtol=1e-6)


# -- labels out of range, special rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype_of_labels", ["int8", "uint8", "int32", "uint32"])
def test_out_of_range_under_jit(backend: Backend, dtype_of_labels: str) -> None:
    """NaN in that row, value and derivative, and in no other; ignored it is 0."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25], [1, 2, 3]], "float32")
    labels = backend.array([2, 3, 127, 1], dtype_of_labels)

    def losses(x: Array, t: Array) -> tuple[Array, Array]:
        values, pull = jax.vjp(lambda x: cross_entropy(x, t, reduction="none", ignore_index=127), x)
        return values, pull(jax.numpy.ones_like(values))[0]

    values, gradient = jax.jit(losses)(logits, labels)
    assert np.isnan(values).tolist() == [False, True, False, False]
    assert np.isnan(gradient).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(gradient).any(axis=1).tolist() == [False, True, False, False]
    assert float(values[2]) == 0.0
    assert not gradient[2].any()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.125}, {"z_loss": 0.5}, {"temperature": 2.0}], ids=str)
def test_out_of_range_unchecked(backend: Backend, options: dict[str, Any]) -> None:
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25]], "float32")
    labels = backend.array([2, -1, 0], "int32")

    def total(x: Array) -> Array:
        return cross_entropy(x, labels, reduction="sum", check=False, **options)

    gradient = backend.jax.jit(backend.jax.grad(total))(logits)  # type: ignore[attr-defined]
    assert np.isnan(gradient).all(axis=1).tolist() == [False, True, False]
    assert np.isnan(gradient).any(axis=1).tolist() == [False, True, False]


def test_check_in_a_trace(backend: Backend) -> None:
    """What has no value yet cannot be checked, and saying check=True is then an error rather than a promise."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits, labels = backend.array([[1, 2]], "float32"), backend.array([0], "int32")
    checked = jax.jit(lambda x, t: cross_entropy(x, t, check=True))
    with pytest.raises(ValueError, match="check=True must read the values of labels"):
        checked(logits, labels)
    with pytest.raises(ValueError, match=r"labels must be from 0 to 1, got 5 at position 0"):
        jax.grad(cross_entropy)(logits, labels + 5)  # the labels are no tracers here


UNDEFINED: dict[str, list[float]] = {
    "all -inf": [-INF, -INF, -INF],
    "+inf": [0.0, INF, 1.0],
    "+inf at the label": [INF, 0.0, 1.0],
    "NaN": [0.0, NAN, 1.0],
    "NaN at the label": [NAN, 0.0, 1.0],
}


@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
def test_undefined_rows(backend: Backend, *, soft: bool) -> None:
    """The table of §2: NaN in that row only, value and derivative."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([*UNDEFINED.values(), [0.5, -1.25, 2]], "float32")
    labels = backend.array([[0.5, 0.5, 0.0]] * 6, "float32") if soft else backend.array([0] * 6, "int32")

    def losses(x: Array) -> tuple[Array, Array]:
        values, pull = jax.vjp(lambda x: cross_entropy(x, labels, reduction="none"), x)
        return values, pull(jax.numpy.ones_like(values))[0]

    values, gradient = jax.jit(losses)(logits)
    undefined = [True] * 5 + [False]
    assert np.isnan(values).tolist() == undefined
    assert np.isnan(gradient).all(axis=1).tolist() == undefined
    assert np.isnan(gradient).any(axis=1).tolist() == undefined


def test_label_on_minus_infinity(backend: Backend) -> None:
    """§2: the value is +inf, the derivative p - q as usual; with a class dropped by `where`, p on those that remain."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.0, -INF, 0.0], [0.0, 5.0, 0.0]], "float32")
    where = backend.array([[True, True, True], [True, False, True]])
    hard, soft = backend.array([1, 1], "int32"), backend.array([[0, 1, 0], [0, 1, 0]], "float32")
    for labels in (hard, soft):

        def total(x: Array, labels: Array = labels) -> tuple[Array, Array]:
            losses = cross_entropy(x, labels, where=where, reduction="none")
            return losses.sum(), losses

        gradient, losses = jax.jit(jax.grad(total, has_aux=True))(logits)
        assert losses.tolist() == [INF, INF]
        assert gradient.tolist() == [[0.5, -1.0, 0.5], [0.5, 0.0, 0.5]]


@pytest.mark.dtypes("float16", "bfloat16", "float32")
@pytest.mark.parametrize("name", ["ignored", "where-logits", "soft-zeros"])
def test_gradient_is_0_where_nothing_takes_part(backend: Backend, dtype: str, name: str) -> None:
    """Exactly 0, not NaN, in the mean too, in every dtype."""
    case = BY_NAME[name]
    moving, rest = parted(arrays(backend, case, dtype), ("logits",))
    labels = rest.pop("labels")
    gradient = backend.jax.jit(backend.jax.grad(lambda x: cross_entropy(x, labels, **rest)))(moving["logits"])  # type: ignore[attr-defined]
    gradient = backend.numpy(gradient).astype("float32")
    idle = ~exact(case, dtype).takes_part
    assert idle.any()
    assert not gradient[idle].any()
    assert np.isfinite(gradient).all()


# -- halves -----------------------------------------------------------------------------------------------------------


@pytest.mark.dtypes("float16", "bfloat16")
@pytest.mark.parametrize("name", ["where-classes", "temperature"])
def test_halves(backend: Backend, dtype: str, name: str) -> None:
    """float32 losses; gradients in the logits' dtype, correctly rounded but for ties."""
    case = BY_NAME[name]
    moving, rest = parted(arrays(backend, case, dtype), ("logits",))

    def total(x: Array) -> Array:
        losses = rows({**rest, "logits": x})
        assert losses.dtype == "float32"
        return losses.sum()

    gradient = backend.numpy(backend.jax.jit(backend.jax.grad(total))(moving["logits"]))  # type: ignore[attr-defined]
    assert gradient.dtype.name == dtype
    value = oracle.cross_entropy(**case.arrays(dtype)).gradient("logits").value
    assert ulps.error(gradient, value, dtype).max() <= 0.51


# -- options as tracers, jit caches -----------------------------------------------------------------------------------


NUMBERS: dict[str, Any] = {
    "temperature": 0.5,
    "label_smoothing": 0.125,
    "z_loss": 0.25,
    "softcap": 8.0,
    "sample_weight": 2.0,
    "denominator": 4.0,
}


@pytest.mark.dtypes("float32")
def test_numbers_as_tracers(backend: Backend, dtype: str) -> None:
    """A number gives the same static, as an array, and as an argument of jit; another value is no reason to retrace."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], dtype)
    labels = backend.array([2, 0], "int32")
    traces = []

    @jax.jit  # type: ignore[untyped-decorator]
    def loss(x: Array, t: Array, options: dict[str, Any]) -> Array:
        traces.append(1)
        return cross_entropy(x, t, **options)

    static = jax.jit(lambda x, t: cross_entropy(x, t, **NUMBERS))(logits, labels)
    assert float(loss(logits, labels, NUMBERS)) == pytest.approx(float(static), rel=1e-6)
    assert float(cross_entropy(logits, labels, **NUMBERS)) == pytest.approx(float(static), rel=1e-6)
    assert loss(logits, labels, NUMBERS).dtype == dtype
    other = {name: 0.75 * value for name, value in NUMBERS.items()}
    expected = oracle.cross_entropy(
        np.asarray(logits), np.asarray(labels), **{k: v for k, v in other.items() if k != "denominator"}
    ).mean(other["denominator"])
    assert float(loss(logits + 0, labels, other)) == pytest.approx(float(expected.value), rel=1e-6)
    assert len(traces) == 1


def test_ignore_index_and_where_as_tracers(backend: Backend) -> None:
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [NAN, 1, -0.5], [0, 3, 0.25]], "float32")
    labels = backend.array([2, 7, 0], "int32")
    loss = jax.jit(lambda x, t, i, w: cross_entropy(x, t, ignore_index=i, where=w, reduction="none"))
    where = backend.array([True, True, False])
    losses = loss(logits, labels, 7, where)
    assert losses[1:].tolist() == [0.0, 0.0]
    expected = oracle.cross_entropy(np.asarray(logits)[:1], np.asarray(labels)[:1]).rows
    assert_ulps(np.asarray(losses[:1]), expected, dtype="float32", bound=4.0)
    assert not np.isnan(jax.grad(lambda x: loss(x, labels, 7, where).sum())(logits)).any()
    assert np.isnan(loss(logits, labels, -100, where)).tolist() == [False, True, False]


def test_a_temperature_that_is_not_positive_is_nan(backend: Backend) -> None:
    """§3.8: an array's value is not looked at; its row is NaN, value and derivative by the logits."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits, labels = backend.array([[0.5, 2], [1, 1], [3, 0]], "float32"), backend.array([0, 1, 0], "int32")
    heat = backend.array([1.0, 0.0, -1.0], "float32")
    losses = jax.jit(lambda x, t: cross_entropy(x, labels, temperature=t, reduction="none"))(logits, heat)
    assert np.isnan(losses).tolist() == [False, True, True]


def test_static_options(backend: Backend) -> None:
    """axis, reduction, denominator, aux, check and dtype are static: as static_argnames they are not traced."""
    jax = backend.jax  # type: ignore[attr-defined]
    names = ("axis", "reduction", "denominator", "aux", "check", "dtype", "empty_mean")
    jitted = jax.jit(cross_entropy, static_argnames=names)
    logits, labels = backend.array([[0.5, -1.25], [1, 1], [2, 0]], "float32"), backend.array([2, 0], "int32")
    losses, aux = jitted(logits, labels, axis=0, reduction="none", aux=("lse", "correct"), check=False, dtype="float16")
    assert losses.shape == (2,)
    assert losses.dtype == "float32"
    assert aux["lse"].dtype == "float32"
    assert aux["correct"].tolist() == [True, False]
    total, mass = jitted(logits, labels, axis=0, reduction="sum_and_weight", denominator="count")
    assert float(mass) == 2.0
    assert float(total) == pytest.approx(float(losses.sum()), rel=1e-6)
    assert np.isnan(jitted(logits, labels, axis=0, ignore_index=labels[0], where=labels == 2, empty_mean="nan"))


AUX = ("lse", "z_loss", "entropy", "correct", "target_log_prob", "margin")


def test_aux_under_jit(backend: Backend) -> None:
    """A dictionary of arrays through jit, grad(has_aux=True) and vmap."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [NAN, 3, 0.25]], "float32")
    labels = backend.array([2, 0, -1], "int32")

    def loss(x: Array, t: Array) -> Any:
        return cross_entropy(x, t, ignore_index=-1, z_loss=0.5, aux=AUX)

    gradient, aux = jax.jit(jax.grad(loss, has_aux=True))(logits, labels)
    assert not np.isnan(gradient).any()
    _, single = jax.jit(jax.vmap(loss))(logits, labels)
    reference = oracle.cross_entropy(np.asarray(logits), np.asarray(labels), ignore_index=-1, z_loss=0.5)
    for name in AUX:
        exactly = np.asarray([float(value) for value in reference.aux(name)])
        np.testing.assert_allclose(np.asarray(aux[name], dtype=float), exactly, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(np.asarray(single[name], dtype=float), exactly, rtol=1e-6, err_msg=name)


# -- vmap -------------------------------------------------------------------------------------------------------------


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("soft", [False, True], ids=["label", "distribution"])
def test_vmap(backend: Backend, dtype: str, *, soft: bool) -> None:
    """One example at a time under vmap gives what the batch gives: values, gradients, Hessians."""
    jax = backend.jax  # type: ignore[attr-defined]
    case = Case("rows", [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0]], [[0.25, 0.75, 0.0]] * 3 if soft else [2, 1, 0])
    logits, labels = arrays(backend, case, dtype).values()

    @jax.jit  # type: ignore[untyped-decorator]
    def everything(x: Array, t: Array) -> tuple[Array, ...]:
        values = jax.vmap(cross_entropy)(x, t)
        gradients = jax.vmap(jax.grad(cross_entropy))(x, t)
        return (
            values,
            gradients,
            jax.vmap(jax.hessian(cross_entropy))(x, t),
            jax.vmap(cross_entropy, (0, None))(x, t[0]),
        )

    values, gradients, second, one = (backend.numpy(found) for found in everything(logits, labels))
    reference = exact(case)
    assert_ulps(values, reference.rows, dtype=dtype, bound=4.0)
    assert_close(gradients, reference.gradient("logits"), dtype=dtype, floor=FLUSHED)
    assert_close(second, hessian(case), dtype=dtype, floor=FLUSHED)
    assert one[0] == pytest.approx(values[0], rel=1e-6)


def test_vmap_over_options(backend: Backend) -> None:
    """Losses and slopes by an option that differs between calls; out-of-range labels are NaN without jit too."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits, labels = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"), backend.array([2, 0], "int32")
    heats = backend.array([0.5, 2.0], "float32")

    def loss(temperature: Array) -> Array:
        return cross_entropy(logits, labels, temperature=temperature, reduction="sum")

    losses, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(heats)
    for n, heat in enumerate(np.asarray(heats)):
        reference = oracle.cross_entropy(np.asarray(logits), np.asarray(labels), temperature=heat)
        assert float(losses[n]) == pytest.approx(float(reference.numerator().value), rel=1e-6)
        assert_close(np.asarray(slopes[n]), reference.gradient("temperature"), dtype="float32")
    eager = jax.vmap(cross_entropy)(logits, labels + 2)
    assert np.isnan(eager).tolist() == [True, False]


# -- normalizers and targets ------------------------------------------------------------------------------------------

LOGITS = [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [1000002, 1000000, 1000001], [-INF, 3, 3], [NAN, 0, 1], [NAN] * 3]
KEPT = [[True] * 3] * 5 + [[False, True, True], [False] * 3]
PULL = [
    [1.0, -0.5, 0.25],
    [2.0, 1.0, -1.0],
    [0.5, 1.0, 2.0],
    [1.0, 0.0, 0.0],
    [0.0, 1.0, 0.0],
    [4.0, 1.0, 1.0],
    [1.0] * 3,
]
WEIGHTS = [
    [1.0, -0.5, 2.0],
    [0.5, -0.25, 0.25],
    [1.0, 1.0, -3.0],
    [0.25, 1.0, 0.0],
    [0.0, -1.0, 4.0],
    [1.0] * 3,
    [1.0] * 3,
]


def softmin_vjp(g: Array, x: Array, **options: Any) -> oracle.Sum:
    pulled = oracle.softmax_vjp(g, -x, **options)
    return oracle.Sum(-pulled.value, pulled.absolute)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize(
    ("function", "pullback"),
    [(softmax, oracle.softmax_vjp), (log_softmax, oracle.log_softmax_vjp), (softmin, softmin_vjp)],
    ids=["softmax", "log_softmax", "softmin"],
)
def test_gradient_of_normalizers(backend: Backend, dtype: str, function: Any, pullback: Any) -> None:
    """Mask and temperature are tracers too."""
    jax = backend.jax  # type: ignore[attr-defined]
    sign = -1 if function is softmin else 1
    x, g, where = np.asarray(LOGITS, dtype=dtype) * sign, np.asarray(PULL, dtype=dtype), np.asarray(KEPT)

    @jax.jit  # type: ignore[untyped-decorator]
    def pulled(x: Array, g: Array, where: Array, temperature: Array) -> Array:
        return jax.vjp(lambda x: function(x, where=where, temperature=temperature), x)[1](g)[0]

    found = pulled(x, g, where, backend.array(0.5, dtype))
    gap = oracle.gaps(x * sign, where=where, temperature=0.5)
    sums = pullback(g, x, where=where, temperature=0.5)
    widest = np.max(gap, axis=-1, keepdims=True, initial=0)
    assert_close(backend.numpy(found), sums, dtype=dtype, gap=widest, floor=FLUSHED)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("signed", [False, True], ids=["plain", "return_sign"])
def test_gradient_of_logsumexp(backend: Backend, dtype: str, *, signed: bool) -> None:
    jax = backend.jax  # type: ignore[attr-defined]
    x, where = np.asarray(LOGITS, dtype=dtype), np.asarray(KEPT)
    b = np.asarray(WEIGHTS if signed else np.abs(WEIGHTS), dtype=dtype)
    g = np.asarray([1.0, -0.5, 2.0, 0.25, 1.5, -1.0, 0.75], dtype=dtype)

    @jax.jit  # type: ignore[untyped-decorator]
    def pulled(x: Array, b: Array) -> tuple[Array, Array]:
        def log_sum(x: Array, b: Array) -> Array:
            result = logsumexp(x, b=b, where=where, return_sign=signed)
            return result[0] if signed else result

        by_x, by_b = jax.vjp(log_sum, x, b)[1](backend.array(g))
        return by_x, by_b

    gap = np.max(oracle.gaps(x, where=where), axis=-1, keepdims=True, initial=0)
    for found, sums in zip(
        pulled(backend.array(x), backend.array(b)), oracle.logsumexp_vjp(g, x, b=b, where=where), strict=True
    ):
        assert_close(backend.numpy(found), sums, dtype=dtype, gap=gap, floor=FLUSHED)


@pytest.mark.dtypes("float32")
def test_gradient_of_logsumexp_at_infinity(backend: Backend, dtype: str) -> None:
    """The table of §2: 0 for all -inf, NaN for +inf and NaN, with weights and without."""
    jax = backend.jax  # type: ignore[attr-defined]
    x = backend.array([[-INF, -INF], [0.0, INF], [0.0, NAN], [0.0, -INF]], dtype)
    for b in (None, backend.array([1.0, 1.0], dtype)):
        gradient = jax.jit(jax.grad(lambda x, b=b: logsumexp(x, b=b).sum()))(x)
        np.testing.assert_array_equal(gradient, [[0.0, 0.0], [NAN, NAN], [NAN, NAN], [1.0, 0.0]])


NORMALIZERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "logsumexp": (
        lambda x, b: logsumexp(x, b=b, return_sign=True)[0],
        ([[0.5, -1.25, 2], [1, 1, -0.5], [3, 1, 0]], [[1.0, -0.5, 2.0], [0.5, -2.0, 0.25], [1.0, 1.0, -3.0]]),
    ),
    "smooth_labels": (
        lambda q, e, u: smooth_labels(q, e, smoothing_prior=u, axis=0),
        ([[0.5, 0.25], [0.5, 0.25], [0.25, 0.5]], [0.125, 0.5], [1.0, 0.5, 2.0]),
    ),
}


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize(("function", "values"), NORMALIZERS.values(), ids=NORMALIZERS)
def test_check_grads_of_the_others(backend: Backend, dtype: str, function: Any, values: tuple[Any, ...]) -> None:
    from jax.test_util import check_grads

    inputs = tuple(backend.array(value, dtype) for value in values)
    jitted = backend.jax.jit(function)  # type: ignore[attr-defined]
    check_grads(jitted, inputs, order=2, eps=2.0**-17, atol=1e-6, rtol=1e-5)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("function", [softmax, log_softmax, softmin, logsumexp])
def test_second_derivatives_of_normalizers(backend: Backend, dtype: str, function: Any) -> None:
    """Jacobians of Jacobians, forward and reverse in either order, agree and are symmetric."""
    jax = backend.jax  # type: ignore[attr-defined]
    x = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [-INF, 3, 3]], dtype)

    def both(row: Array) -> tuple[Array, Array]:
        return jax.jacfwd(jax.jacrev(function))(row), jax.jacrev(jax.jacfwd(function))(row)

    one, other = (backend.numpy(found) for found in jax.jit(jax.vmap(both))(x))
    np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(one, one.swapaxes(-1, -2), rtol=1e-13, atol=1e-16)


def test_targets_are_traced(backend: Backend) -> None:
    """one_hot and smooth_labels under jit and vmap: NaN rows for bad labels, 0 for ignored ones."""
    jax = backend.jax  # type: ignore[attr-defined]
    labels = backend.array([2, 0, -1, 3], "int32")
    nothing = [NAN, NAN, NAN]
    for lift in (lambda f: f, jax.vmap):
        hot = jax.jit(lift(lambda t: one_hot(t, 3, ignore_index=-1)))(labels)
        np.testing.assert_array_equal(hot, [[0, 0, 1], [1, 0, 0], [0, 0, 0], nothing])
        smooth = jax.jit(lift(lambda t: smooth_labels(t, 0.75, num_classes=3, ignore_index=-1)))(labels)
        np.testing.assert_array_equal(smooth, [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0, 0, 0], nothing])


# -- NumPy beside jax, dtypes -----------------------------------------------------------------------------------------


def test_numpy_beside_jax(backend: Backend) -> None:
    """§1.2: NumPy labels, weights and masks, inside jit and outside, give jax arrays."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32")
    labels, weight = np.asarray([2, -1]), np.asarray([2.0, 1.0, 0.5])

    def loss(x: Array) -> Array:
        return cross_entropy(x, labels, ignore_index=-1, weight=weight, where=np.asarray([True, True]))

    for value in (loss(logits), jax.jit(loss)(logits)):
        assert isinstance(value, jax.Array)
        assert value.dtype == "float32"
    gradient = jax.jit(jax.grad(loss))(logits)
    assert not gradient[1].any()
    assert gradient[0].any()
    beside = cross_entropy(np.asarray(logits), backend.array([2, 0], "int32"))
    assert isinstance(beside, jax.Array)


def test_numpy_labels_beyond_int32(backend: Backend) -> None:
    """§3.4: checked before conversion, so 2**32 is never taken for class 0, nor an ignored 2**40 for a class."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32")
    labels = np.asarray([2**32, 1])
    with pytest.raises(ValueError, match=f"labels must be from 0 to 2, got {2**32} at position 0"):
        cross_entropy(logits, labels)
    losses = jax.jit(lambda x: cross_entropy(x, labels, reduction="none", check=False))(logits)
    assert np.isnan(losses).tolist() == [True, False]
    ignored = jax.jit(lambda x: cross_entropy(x, labels, reduction="none", ignore_index=2**32))(logits)
    assert float(ignored[0]) == 0.0
    assert not np.isnan(ignored).any()
    hot = jax.jit(lambda: one_hot(jax.numpy.asarray(labels.astype("uint32")), 3, ignore_index=2**40))()
    np.testing.assert_array_equal(hot, [[1, 0, 0], [0, 1, 0]])


def test_integers_take_the_default_dtype(backend: Backend) -> None:
    expected = backend.jax.dtypes.canonicalize_dtype(float)  # type: ignore[attr-defined]
    x, t = backend.array([[2, 0, -1]], "int8"), backend.array([0], "int8")
    results = [softmax(x), log_softmax(x), softmin(x), logsumexp(x), cross_entropy(x, t), one_hot(t, 3)]
    assert {result.dtype for result in results} == {expected}
    wide = [cross_entropy(x, t, dtype="float32"), softmax(x, dtype="float16")]
    assert [result.dtype.name for result in wide] == ["float32", "float16"]


def test_nothing_at_all_takes_part(backend: Backend) -> None:
    """A denominator of 0 gives 0 with derivative 0, whatever the logits are."""
    jax = backend.jax  # type: ignore[attr-defined]
    logits, labels = backend.array([[NAN, 1, INF], [-INF] * 3], "float32"), backend.array([-1, -1], "int32")
    value, gradient = jax.jit(jax.value_and_grad(lambda x: cross_entropy(x, labels, ignore_index=-1)))(logits)
    assert float(value) == 0.0
    assert not gradient.any()


# -- what is compiled, and how often ----------------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formulas that are traced from here on: nothing compiled before counts."""
    from softxent import formulas
    from softxent.backends import jax as ours

    found: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            found.append(name)
            return function(*args, **kwargs)

        return wrapper

    for formula in (formulas.cross_entropy, formulas.softmax, formulas.logsumexp):
        for name in {"value", "pullback", "value_and_pullback"} & set(vars(formula)):
            monkeypatch.setattr(formula, name, counted(name, getattr(formula, name)))
    ours._compiled.cache_clear()
    return found


def test_one_trace_for_all_numbers(backend: Backend, traced: list[str]) -> None:
    """A number is an operand: 100 temperatures, smoothings, denominators are one trace."""
    x, t = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"), backend.array([2, 0], "int32")
    losses = {
        float(cross_entropy(x, t, temperature=1 + n / 100, label_smoothing=n / 100, denominator=1.0 + n))
        for n in range(100)
    }
    assert len(losses) == 100
    assert traced == ["value"]
    assert len({float(softmax(x, temperature=1 + n / 100)[0, 0]) for n in range(100)}) == 100
    assert traced == ["value", "value"]


def test_one_trace_for_equal_options(backend: Backend, traced: list[str]) -> None:
    from softxent.backends import jax as ours

    x, t = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"), backend.array([2, 0], "int32")
    ways: tuple[tuple[Any, ...], ...] = ((-1, "float32", None), (1, x.dtype, True), (np.int64(1), np.float32, False))
    for axis, dtype, check in ways:
        softmax(x, axis=axis, dtype=dtype)
        value_and_grad(cross_entropy)(x, t, axis=axis, dtype=dtype, check=None if check is False else check)
    assert traced == ["value", "value_and_pullback"]
    for rows in range(3, 8):  # one entry for all shapes, for which jax has a cache of its own
        logsumexp(backend.array(np.zeros((rows, 3)), "float32"))
    assert ours._compiled.cache_info().currsize == 3
    assert ours._compiled.cache_info().maxsize == 256


CALLS: dict[str, Callable[[dict[str, Array]], Any]] = {
    "softmax": lambda i: softmax(i["logits"]),
    "softmax, several axes": lambda i: softmax(i["logits"], axis=None, temperature=2.0),
    "log_softmax": lambda i: log_softmax(i["logits"], axis=0),
    "logsumexp": lambda i: logsumexp(i["logits"], b=i["weight"], keepdims=True),
    "cross_entropy": lambda i: cross_entropy(i["logits"], i["labels"]),
    "no reduction": lambda i: cross_entropy(i["logits"], i["labels"], reduction="none", z_loss=2.0, ignore_index=5),
    "weighed": lambda i: cross_entropy(**i, aux=("lse", "correct"), denominator=3.0),
    "value_and_grad": lambda i: value_and_grad(cross_entropy, ("logits", "weight"))(**i),
}


@pytest.mark.parametrize("name", CALLS)
def test_concrete_call_is_one_compiled_function(backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Once compiled, no operation of jax is run one by one: each costs more than the whole."""
    from jax.extend.core import Primitive

    given = {
        "logits": backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"),
        "labels": backend.array([2, 0], "int32"),
        "weight": backend.array([2, 1, 0.5], "float32"),
    }
    CALLS[name](given)
    bound: list[str] = []
    bind = Primitive.bind

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound.append(self.name)
        return bind(self, *args, **kwargs)

    monkeypatch.setattr(Primitive, "bind", watched)
    CALLS[name](given)
    assert not bound
