"""cross_entropy: examples, special values, options and regressions, on every backend."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, assert_near, call, calls, default_float, gradients, hessian
from matrix import HALVES, Backend

from softxent import cross_entropy, one_hot, smooth_labels

if TYPE_CHECKING:
    from pathlib import Path

INF, NAN = math.inf, math.nan
AUTODIFF = pytest.mark.backends("autodiff")

X = np.array([[0.5, -1.0, 2.0], [3.0, 3.0, -4.0], [1.0, 0.0, 0.25], [-2.0, 0.5, 0.5]])
Y = np.array([2, 1, 0, 0])
Q = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.0, 0.875], [0.0, 0.0, 0.0]])
W = np.array([0.5, 2.0, 1.0])
S = np.array([1.0, 0.5, 0.0, 2.0])
LOG2, LOG3 = 0.6931471805599453, 1.0986122886681098
FEW = 12.0  # ULP, for rows that are sums of a few products


def rows(backend: Backend, logits: Any, labels: Any, **options: Any) -> Any:
    """The loss of each row."""
    return call(backend, cross_entropy, logits, labels, reduction="none", **options)


def put(backend: Backend, value: Any, dtype: str = "float32") -> Any:
    """A number as it is; an array on the backend: masks as bool, integers as int32, numbers in the dtype."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = np.asarray(value).dtype.kind
    return backend.array(value, {"b": "bool", "i": "int32", "u": "int32"}.get(kind, dtype))


def both(backend: Backend, labels: Any = Y, logits: Any = X) -> tuple[Any, Any]:
    return backend.array(logits, "float32"), put(backend, np.asarray(labels))


def exact_rows(labels: Any = Y, logits: Any = X, **options: Any) -> Any:
    return oracle.cross_entropy(np.asarray(logits), np.asarray(labels), **options).rows


# -- arrays, shapes, dtypes -------------------------------------------------------------------------------------------


def test_every_floating_dtype_of_logits(backend: Backend, dtype: str) -> None:
    result = "float32" if dtype in HALVES else dtype
    x, y = backend.array(X, dtype), backend.array(Y, "int32")
    assert_exact(backend, rows(backend, x, y), exact_rows(), result)
    mean = oracle.cross_entropy(X, Y).mean().value
    assert_exact(backend, call(backend, cross_entropy, x, y), mean, result, ulp=8)
    assert_exact(backend, rows(backend, x, backend.array(Q, dtype)), exact_rows(Q), result, ulp=FEW)


def test_every_integer_dtype_of_logits(backend: Backend, int_dtype: str) -> None:
    info = np.iinfo(int_dtype)
    x = np.array([[info.min, info.max, 3], [1, 60, 2]], dtype=int_dtype)
    name = default_float(backend)
    promoted = x.astype(name).astype(np.float64)
    result = rows(backend, backend.array(x), backend.array([1, 0], "int32"))
    assert_exact(backend, result, exact_rows([1, 0], promoted), name)


def test_every_integer_dtype_of_labels(backend: Backend, int_dtype: str) -> None:
    result = rows(backend, backend.array(X, "float32"), backend.array(Y, int_dtype))
    assert_exact(backend, result, exact_rows())


def test_bool_logits(backend: Backend) -> None:
    result = rows(backend, backend.array([[True, False, True]]), backend.array([1], "int32"))
    assert_exact(backend, result, [math.log(1 + 2 * math.e)], default_float(backend))


@pytest.mark.backends("numpy", "strict", "torch", "dask")
def test_float64_options_and_labels_never_raise_the_dtype(backend: Backend) -> None:
    double = partial(backend.array, dtype="float64")
    x = backend.array(X, "float32")
    options = {"weight": W, "sample_weight": S, "temperature": np.array([1.0, 2.0, 0.5, 4.0])}
    result = rows(backend, x, double(Q), **{name: double(value) for name, value in options.items()})
    assert_exact(backend, result, exact_rows(Q, **options), ulp=FEW)
    y = backend.array(Y, "int32")
    for denominator in ("weight", "count", "all", 3.0, double(3.0)):
        result = call(backend, cross_entropy, x, y, sample_weight=double(S), denominator=denominator)
        assert backend.numpy(result).dtype == np.float32


def test_integer_weights_are_cast(backend: Backend) -> None:
    x, y = both(backend)
    result = rows(backend, x, y, weight=put(backend, [1, 2, 3]), sample_weight=put(backend, [3, 0, 1, 2]))
    assert_exact(backend, result, exact_rows(weight=np.array([1.0, 2, 3]), sample_weight=np.array([3.0, 0, 1, 2])))


def test_dtype_by_name_and_by_object(backend: Backend) -> None:
    x, y = backend.array([[2**24 + 1, 2**24, 0]], "int32"), backend.array([1], "int32")
    for dtype in ("float32", backend.dtype("float32")):
        assert_exact(backend, rows(backend, x, y, dtype=dtype), [LOG2])
    if "float64" in backend.floats:
        for dtype in ("float64", backend.dtype("float64")):
            result = rows(backend, x, y, dtype=dtype)
            assert_exact(backend, result, exact_rows([1], [[2.0**24 + 1, 2**24, 0]]), "float64")


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves_accumulate_in_float32(backend: Backend, dtype: str) -> None:
    x, y = backend.array(np.zeros((300, 3)), dtype), backend.array(np.zeros(300), "int32")
    assert_exact(backend, call(backend, cross_entropy, x, y, reduction="sum"), 300 * LOG3, ulp=8)
    assert_exact(backend, call(backend, cross_entropy, x, y), LOG3, ulp=8)


@pytest.mark.parametrize("axis", [0, -2, (2,), (2, 0), None], ids=str)
def test_axes(backend: Backend, axis: Any) -> None:
    """Several axes are classes jointly, indexed in C order of the axes as given; weights and priors follow."""
    cube = np.arange(24.0).reshape(2, 3, 4) % 7 - 3 + np.arange(3.0).reshape(3, 1) / 4
    layout = oracle.Layout(cube.shape, axis)
    y = (np.arange(math.prod(layout.batch)) * 5 % layout.classes).reshape(layout.batch)
    w, prior = 0.5 + np.arange(layout.classes) / 4, np.arange(layout.classes) % 3 + 1.0
    x = backend.array(cube, "float32")
    assert_exact(backend, rows(backend, x, put(backend, y), axis=axis), exact_rows(y, cube, axis=axis), ulp=8)
    q = layout.back(np.eye(layout.classes)[y] / 2 + 0.5 / layout.classes)
    options = {"weight": w, "label_smoothing": 0.25, "smoothing_prior": prior}
    given = {name: put(backend, value) for name, value in options.items()}
    for labels in (y, q.astype(np.float32).astype(float)):
        result = rows(backend, x, put(backend, labels), axis=axis, **given)
        assert_exact(backend, result, exact_rows(labels, cube, axis=axis, **options), ulp=32)


def test_unbatched_logits(backend: Backend) -> None:
    x = backend.array(X[0], "float32")
    expected = exact_rows(np.array(2), X[0])
    for reduction in ("none", "mean", "sum"):
        assert_exact(backend, call(backend, cross_entropy, x, backend.array(2, "int32"), reduction=reduction), expected)
        assert_exact(backend, call(backend, cross_entropy, x, 2, reduction=reduction), expected)
    assert_exact(
        backend, call(backend, cross_entropy, x, backend.array(Q[0], "float32")), exact_rows(Q[0], X[0]), ulp=8
    )
    mask = backend.array([False, True, True])
    result = call(backend, cross_entropy, x, 2, where=mask)
    assert_exact(backend, result, exact_rows(np.array(2), X[0], where=np.array([False, True, True])))
    for nothing in (False, backend.array(np.zeros((), dtype=bool))):
        assert_exact(backend, call(backend, cross_entropy, x, 2, where=nothing), 0.0)
    assert_exact(backend, call(backend, cross_entropy, x, -7, ignore_index=-7), 0.0)
    assert_exact(backend, call(backend, cross_entropy, x, 2**70, ignore_index=2**70), 0.0)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3"):
        call(backend, cross_entropy, x, 3)


@pytest.mark.backends("numpy")
def test_numpy_scalars_are_labels_and_logits(backend: Backend) -> None:
    assert_exact(backend, cross_entropy(backend.array(X[0], "float32"), np.int8(2)), exact_rows(np.array(2), X[0]))
    assert_exact(backend, cross_entropy(np.float32(7), np.uint8(0)), 0.0)


def test_0_d_logits_are_one_class(backend: Backend) -> None:
    x = backend.array(5.0, "float32")
    for axis in (-1, None, ()):
        assert_exact(backend, call(backend, cross_entropy, x, backend.array(0, "int32"), axis=axis), 0.0)
    each = backend.array([1.0, -INF], "float32")
    result = rows(backend, each, backend.array([0, 0], "int32"), axis=())
    assert_exact(backend, result, [0.0, NAN])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)], ids=str)
def test_empty_inputs(backend: Backend, shape: tuple[int, ...]) -> None:
    """Examples without classes take no part; no examples have the mean 0."""
    x, y = backend.array(np.zeros(shape), "float32"), backend.array(np.zeros(shape[:-1]), "int32")
    q = backend.array(np.zeros(shape), "float32")
    for labels in (y, q):
        assert_exact(backend, rows(backend, x, labels), np.zeros(shape[:-1]))
        assert_exact(backend, rows(backend, x, labels, label_smoothing=0.5, z_loss=1.0), np.zeros(shape[:-1]))
        each: list[dict[str, Any]] = [{"denominator": one} for one in ("weight", "count", "all", 4.0)]
        each += [{"empty_mean": "nan"}, {"reduction": "sum_and_weight"}, {"aux": ("correct", "lse", "margin")}]
        *zeros, nothing, (total, mass), (_, aux) = calls(backend, cross_entropy, x, labels, each=each)
        for zero in (*zeros, total, mass):
            assert_exact(backend, zero, 0.0)
        assert_exact(backend, nothing, NAN)
        assert_exact(backend, aux["lse"], np.zeros(shape[:-1]))
        assert_equal(backend, aux["correct"], np.zeros(shape[:-1], dtype=bool))


def test_a_single_class(backend: Backend) -> None:
    x, y = backend.array([[3.0], [-3e38]], "float32"), backend.array([0, 0], "int32")
    assert_exact(backend, rows(backend, x, y), [0.0, 0.0])
    assert_exact(backend, rows(backend, x, y, label_smoothing=0.5), [0.0, 0.0])
    keep = backend.array([[True], [False]])
    assert_exact(backend, call(backend, cross_entropy, x, y, where=keep, reduction="sum_and_weight")[1], 1.0)


@pytest.mark.backends("numpy", "torch")
def test_views_that_are_not_contiguous(backend: Backend) -> None:
    base = np.arange(120.0).reshape(10, 12) % 8 / 4
    x, y = backend.array(base, "float32"), backend.array(np.arange(20) % 4, "int64")
    assert_exact(backend, rows(backend, x[:, ::3], y[::2]), exact_rows(np.arange(0, 20, 2) % 4, base[:, ::3]))
    assert_exact(backend, rows(backend, x.T, y[:12]), exact_rows(np.arange(12) % 4, base.T), ulp=8)
    assert_exact(backend, rows(backend, x.T, y[:10], axis=0), exact_rows(np.arange(10) % 4, base.T, axis=0), ulp=8)


@pytest.mark.backends("numpy-readonly")
def test_memory_maps(backend: Backend, tmp_path: Path) -> None:
    X.astype(np.float32).tofile(tmp_path / "logits")
    Y.astype(np.uint16).tofile(tmp_path / "labels")
    x = np.memmap(tmp_path / "logits", dtype=np.float32, mode="r", shape=X.shape)
    y = np.memmap(tmp_path / "labels", dtype=np.uint16, mode="r", shape=Y.shape)
    result = cross_entropy(x, y, reduction="none")
    assert type(result) is np.ndarray
    assert_exact(backend, result, exact_rows())


def test_inputs_are_never_written_to(backend: Backend) -> None:
    given = {
        "weight": W,
        "sample_weight": S,
        "label_smoothing": np.array([0.5, 0.25, 0.0, 1.0]),
        "smoothing_prior": np.array([1.0, 0.0, 2.0]),
        "temperature": np.array([[1.0], [2.0], [0.5], [4.0]]),
        "where": np.array([[True, True, False], [True, True, True], [True, False, True], [True, True, True]]),
    }
    options = {name: put(backend, value) for name, value in given.items()}
    for labels in (Y, Q):
        x, y = both(backend, labels)
        for extra in ({}, {"softcap": 2.0, "z_loss": 0.5}):
            for reduction in ("none", "mean"):
                call(
                    backend,
                    cross_entropy,
                    x,
                    y,
                    **options,
                    **extra,
                    reduction=reduction,
                    check=not backend.lazy or None,
                )
                call(backend, cross_entropy, x, y, **extra, reduction=reduction)
        assert_equal(backend, x, X.astype(np.float32))
        assert_equal(backend, y, labels.astype(np.int32 if labels is Y else np.float32))
    for name, value in given.items():
        assert_equal(backend, options[name], value.astype(np.float32 if value.dtype != bool else bool))
    if backend.library == "torch":
        assert all(option._version == 0 for option in options.values())


# -- special values (SEMANTICS §2) ------------------------------------------------------------------------------------

P0, P2 = 0.2689414213699951, 0.7310585786300049  # softmax of 0 beside 1
L0, L2 = 1.3132616875182228, 0.31326168751822286  # minus their logarithms
LSE = 1.3132616875182228
ABOVE, BELOW = (0.25, 0.0, -1.0), (2.0, 1.0, 2.0)
ON_0 = (P0 - 1, 0.0, P2)


class Special(NamedTuple):
    """A row between two ordinary ones, its target (an index, or a distribution), its options, its loss and gradient."""

    row: tuple[float, ...]
    target: Any
    loss: float
    gradient: tuple[float, ...]
    where: tuple[bool, ...] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to
    ordinary: bool = True  # whether the options leave the ordinary rows what they are


NONE, UNKNOWN = (0.0,) * 3, (NAN,) * 3
BUT_1 = (True, False, True)
NOTHING = (False,) * 3
HALF = 0.5 * (L0 + L2)

SPECIAL = {
    "-inf beside the label": Special((0.0, -INF, 1.0), 0, L0, ON_0),
    "-inf beside a distribution": Special((0.0, -INF, 1.0), (0.5, 0.0, 0.5), HALF, (P0 - 0.5, 0.0, P2 - 0.5)),
    "-inf beside a one-hot": Special((0.0, -INF, 1.0), (1.0, 0.0, 0.0), L0, ON_0),
    "label on -inf": Special((0.0, -INF, 1.0), 1, INF, (P0, -1.0, P2)),
    "one-hot on -inf": Special((0.0, -INF, 1.0), (0.0, 1.0, 0.0), INF, (P0, -1.0, P2)),
    "mass on -inf": Special((0.0, -INF, 1.0), (0.5, 0.5, 0.0), INF, (P0 - 0.5, -0.5, P2)),
    "all masked": Special((5.0, 6.0, 7.0), 1, 0.0, NONE, NOTHING),
    "all masked, soft": Special((5.0, 6.0, 7.0), (0.5, 0.0, 0.5), 0.0, NONE, NOTHING),
    "all masked, NaN, bad label": Special((NAN, INF, -INF), 77, 0.0, NONE, NOTHING),
    "all masked, NaN, NaN labels": Special((NAN, INF, -INF), (NAN, INF, 0.0), 0.0, NONE, NOTHING),
    "all -inf": Special((-INF,) * 3, 1, NAN, UNKNOWN),
    "all -inf, soft": Special((-INF,) * 3, (0.0, 1.0, 0.0), NAN, UNKNOWN),
    "+inf": Special((0.0, INF, 1.0), 0, NAN, UNKNOWN),
    "label on +inf": Special((0.0, INF, 1.0), 1, NAN, UNKNOWN),
    "+inf, soft": Special((0.0, INF, 1.0), (0.5, 0.5, 0.0), NAN, UNKNOWN),
    "+inf and a label on -inf": Special((-INF, INF, 1.0), 0, NAN, UNKNOWN),
    "NaN": Special((0.0, NAN, 1.0), 0, NAN, UNKNOWN),
    "label on NaN": Special((0.0, NAN, 1.0), 1, NAN, UNKNOWN),
    "NaN, soft": Special((0.0, NAN, 1.0), (0.5, 0.0, 0.5), NAN, UNKNOWN),
    "NaN, smoothed": Special((0.0, NAN, 1.0), 0, NAN, UNKNOWN, options={"label_smoothing": 0.0}),
    "NaN and +inf": Special((INF, NAN, 1.0), 2, NAN, UNKNOWN),
    "label on a dropped class": Special((0.0, 0.5, 1.0), 1, INF, (P0, 0.0, P2), BUT_1),
    "mass on a dropped class": Special((0.0, 0.5, 1.0), (0.0, 1.0, 0.0), INF, (P0, 0.0, P2), BUT_1),
    "some mass on a dropped class": Special((0.0, NAN, 1.0), (0.5, 0.5, 0.0), INF, (P0 - 0.5, 0.0, P2), BUT_1),
    "w = 0 on -inf": Special((0.0, -INF, 1.0), 1, 0.0, NONE, options={"weight": [1.0, 0.0, 1.0]}, ordinary=False),
    "w = 0 on a dropped class": Special(
        (0.0, 5.0, 1.0), 1, 0.0, NONE, BUT_1, options={"weight": [1.0, 0.0, 1.0]}, ordinary=False
    ),
    "w = 0 on -inf, soft": Special(
        (0.0, -INF, 1.0),
        (0.5, 0.5, 0.0),
        0.5 * L0,
        (0.5 * (P0 - 1), 0.0, 0.5 * P2),
        options={"weight": [1.0, 0.0, 1.0]},
        ordinary=False,
    ),
    "smoothing over -inf": Special(
        (0.0, -INF, 1.0),
        0,
        INF,
        (P0 - 0.5 - 0.5 / 3, -0.5 / 3, P2 - 0.5 / 3),
        options={"label_smoothing": 0.5},
        ordinary=False,
    ),
    "smoothing over a masked -inf": Special(
        (0.0, -INF, 1.0),
        0,
        0.75 * L0 + 0.25 * L2,
        (P0 - 0.75, 0.0, P2 - 0.25),
        BUT_1,
        options={"label_smoothing": 0.5},
        ordinary=False,
    ),
    "a prior of 0 on -inf": Special(
        (0.0, -INF, 1.0),
        0,
        0.75 * L0 + 0.25 * L2,
        (P0 - 0.75, 0.0, P2 - 0.25),
        options={"label_smoothing": 0.5, "smoothing_prior": [3.0, 0.0, 3.0]},
        ordinary=False,
    ),
    "no smoothing over -inf": Special((0.0, -INF, 1.0), 0, L0, ON_0, options={"label_smoothing": 0.0}),
    "-inf under a soft cap": Special(
        (0.0, -INF, 0.0), 0, LOG2, (-0.5, 0.0, 0.5), options={"softcap": 30.0}, ordinary=False
    ),
    "label on -inf under a soft cap": Special(
        (0.0, -INF, 0.0), 1, INF, (0.5, -1.0, 0.5), options={"softcap": 30.0}, ordinary=False
    ),
    "+inf under a soft cap": Special((0.0, INF, 1.0), 0, NAN, UNKNOWN, options={"softcap": 30.0}, ordinary=False),
    "-inf over a temperature": Special(
        (0.0, -INF, 2.0), 0, L0, ((P0 - 1) / 2, 0.0, P2 / 2), options={"temperature": 2.0}, ordinary=False
    ),
    "all -inf with z_loss": Special((-INF,) * 3, 1, NAN, UNKNOWN, options={"z_loss": 0.5}, ordinary=False),
    "ignored NaN": Special((NAN, INF, 1.0), -7, 0.0, NONE, options={"ignore_index": -7}),
    "weightless NaN": Special((NAN, INF, 1.0), 77, 0.0, NONE, options={"sample_weight": [1.0, 0.0, 1.0]}),
    "weightless NaN, soft": Special(
        (NAN, INF, 1.0), (NAN, 0.0, INF), 0.0, NONE, options={"sample_weight": [1.0, 0.0, 1.0]}
    ),
    "soft labels all 0": Special((NAN, INF, 1.0), (0.0, 0.0, 0.0), 0.0, NONE),
    "example dropped": Special((NAN, INF, 1.0), 77, 0.0, NONE, options={"where": [True, False, True]}),
    "example dropped, soft": Special(
        (NAN, INF, 1.0), (NAN, INF, 1.0), 0.0, NONE, options={"where": [True, False, True]}
    ),
    "dropped, with everything": Special(
        (NAN, INF, 1.0),
        77,
        0.0,
        NONE,
        options={
            "where": [True, False, True],
            "label_smoothing": 0.5,
            "z_loss": 0.5,
            "softcap": 3.0,
            "temperature": [1.0, NAN, 1.0],
            "weight": [1.0, 2.0, 3.0],
        },
        ordinary=False,
    ),
} | {
    f"{masked} masked{', soft' if soft else ''}": Special(
        (0.0, masked, 1.0), (1.0, 0.0, 0.0) if soft else 0, L0, ON_0, BUT_1
    )
    for masked in (NAN, INF, -INF, 1e30)
    for soft in (False, True)
}
special = pytest.mark.parametrize("case", SPECIAL.values(), ids=list(SPECIAL))


class Arranged(NamedTuple):
    x: Any
    labels: Any
    options: dict[str, Any]


def arranged(backend: Backend, case: Special) -> Arranged:
    """The special row as the middle one of three, on the backend."""
    soft = isinstance(case.target, tuple)
    labels = [(0.0, 0.25, 0.75), case.target, (1.0, 0.0, 0.0)] if soft else [2, case.target, 0]
    options = {name: put(backend, value) for name, value in case.options.items()}
    if case.where is not None:
        options["where"] = backend.array([(True,) * 3, case.where, (True,) * 3])
    return Arranged(backend.array([ABOVE, case.row, BELOW], "float32"), put(backend, np.array(labels)), options)


@cache
def of_ordinary(*, soft: bool) -> Any:
    labels = np.array([(0.0, 0.25, 0.75), (1.0, 0.0, 0.0)]) if soft else np.array([2, 0])
    found = oracle.cross_entropy(np.array([ABOVE, BELOW]), labels)
    return found.rows, found.gradient("logits").value


@special
def test_special_values(backend: Backend, case: Special) -> None:
    given = arranged(backend, case)
    result = rows(backend, given.x, given.labels, **given.options)
    got = backend.numpy(result)
    assert_exact(backend, result[1], case.loss)
    above, below = of_ordinary(soft=isinstance(case.target, tuple))[0]
    if case.ordinary:
        assert_exact(backend, result, [above, case.loss, below])
    assert np.isfinite(got[[0, 2]]).all()


@AUTODIFF
@special
def test_derivatives_at_special_values(backend: Backend, case: Special) -> None:
    given = arranged(backend, case)
    (got,) = gradients(backend, lambda x: cross_entropy(x, given.labels, reduction="none", **given.options), given.x)
    assert_near(got[1], case.gradient, ulp=8)
    assert np.isfinite(got[[0, 2]]).all()
    if case.ordinary:
        assert_near(got[[0, 2]], of_ordinary(soft=isinstance(case.target, tuple))[1], ulp=8)


@AUTODIFF
@pytest.mark.parametrize(
    "name", ["-inf beside a distribution", "-inf beside the label", "nan masked", "nan masked, soft", "ignored NaN"]
)
def test_second_derivatives_are_finite_at_q_0(backend: Backend, name: str) -> None:
    """A class with q = 0 contributes exactly 0, also at -inf, to every order: the Hessian is diag(p) - p p'."""
    case = SPECIAL[name]
    soft = isinstance(case.target, tuple)
    target = backend.array(case.target, "float32") if soft else backend.array(case.target, "int32")
    where = None if case.where is None else backend.array(case.where)
    got = hessian(
        backend,
        lambda x: cross_entropy(x, target, where=where, **case.options),
        backend.array(case.row, "float32"),
    )
    p = np.array([P0, 0.0, P2])
    assert_near(got, np.diag(p) - np.outer(p, p) if case.loss else np.zeros((3, 3)), ulp=16)


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [-100, -1, 255, 2**32 - 1, 2**40, 2**64 - 1, -(2**63)])
def test_ignore_index_of_any_size(backend: Backend, int_dtype: str, index: int) -> None:
    """It is compared as an integer: one that the labels' dtype cannot hold matches nothing, and never wraps."""
    x = backend.array(X[:3], "float32")
    info = np.iinfo(int_dtype)
    if info.min <= index <= info.max:
        y = np.array([2, index, 0], dtype=int_dtype)
        result = rows(backend, x, backend.array(y), ignore_index=index)
        expected = exact_rows([2, 1, 0], X[:3])
        expected[1] = 0
        assert_exact(backend, result, expected)
        mean = call(backend, cross_entropy, x, backend.array(y), ignore_index=index)
        assert_exact(backend, mean, (expected[0] + expected[2]) / 2)
    else:
        result = rows(backend, x, backend.array([2, 1, 0], int_dtype), ignore_index=index)
        assert_exact(backend, result, exact_rows([2, 1, 0], X[:3]))


def test_ignore_index_as_a_0_d_array(backend: Backend, int_dtype: str) -> None:
    x, y = backend.array(X[:3], "float32"), backend.array([2, 1, 0], int_dtype)
    expected = exact_rows([2, 1, 0], X[:3])
    expected[1] = 0
    for dtype in {int_dtype, "int32"}:
        assert_exact(backend, rows(backend, x, y, ignore_index=backend.array(1, dtype)), expected)
    top = np.iinfo(int_dtype).max
    labels = backend.array(np.array([2, top, 0], dtype=int_dtype))
    same = backend.array(np.array(top, dtype=int_dtype))
    assert_exact(backend, rows(backend, x, labels, ignore_index=same), expected)
    wide = "int64" if "int64" in backend.ints else "int32"
    minus_1 = backend.array(-1, wide)  # the bits of the largest unsigned integer
    if int_dtype.startswith("u"):
        kept = rows(backend, x, labels, ignore_index=minus_1, check=False)
        assert math.isnan(backend.numpy(kept)[1])


@pytest.mark.parametrize("bad", [-1, 3, 127])
def test_labels_out_of_range_are_named(backend: Backend, int_dtype: str, bad: int) -> None:
    if bad < np.iinfo(int_dtype).min:
        return
    x, y = backend.array(X, "float32"), backend.array([2, 1, bad, 0], int_dtype)
    if backend.readable:
        with pytest.raises(ValueError, match=rf"labels must be from 0 to 2, got {bad} at .*\b2\b"):
            rows(backend, x, y)
    else:
        with pytest.raises(ValueError, match="labels must be from 0 to 2"):
            cross_entropy(x, y, check=True)
    expected = exact_rows([2, 1, 0, 0])
    expected[2] = NAN
    assert_exact(backend, rows(backend, x, y, check=False), expected)
    assert_exact(backend, call(backend, cross_entropy, x, y, check=False), NAN)


@AUTODIFF
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.5}, {"weight": [1.0, 2.0, 3.0]}, {"z_loss": 0.5}], ids=str
)
def test_labels_out_of_range_have_derivative_nan(backend: Backend, options: dict[str, Any]) -> None:
    y = backend.array([2, -1, 3, 0], "int32")
    given = {name: put(backend, value) for name, value in options.items()}
    (got,) = gradients(
        backend,
        lambda x: cross_entropy(x, y, reduction="none", check=False, **given),
        backend.array(X, "float32"),
    )
    assert np.isnan(got[1:3]).all()
    assert np.isfinite(got[[0, 3]]).all()


def test_labels_out_of_range_of_examples_that_take_no_part_are_not_checked(backend: Backend) -> None:
    x, y = both(backend, [2, 99, -5, 0])
    expected = exact_rows([2, 0, 0, 0])
    expected[1] = expected[2] = 0
    drop = np.array([True, False, False, True])
    classes = np.broadcast_to(drop[:, None], (4, 3))
    for options in (
        {"where": backend.array(drop)},
        {"where": backend.array(drop[:, None])},
        {"where": backend.array(classes)},
        {"sample_weight": backend.array(drop * 1.0, "float32")},
        {"ignore_index": -5, "where": backend.array([True, False, True, True])},
    ):
        assert_exact(backend, rows(backend, x, y, **options), expected)


def test_more_classes_than_the_labels_dtype_holds(backend: Backend) -> None:
    x = np.zeros((2, 300))
    x[0, 255], x[1, 3] = 5.0, 5.0
    loss = math.log1p(299 * math.exp(-5))
    result = rows(backend, backend.array(x, "float32"), backend.array([255, 3], "uint8"))
    assert_exact(backend, result, [loss, loss])
    result = rows(backend, backend.array(x, "float32"), backend.array([3, 3], "int8"), label_smoothing=0.0)
    assert_exact(backend, result, [loss + 5, loss])


@pytest.mark.backends("jax", "dask")
def test_numpy_labels_are_settled_before_conversion(backend: Backend) -> None:
    """int64 labels beyond int32 would wrap into range on jax without x64."""
    x = backend.array(X[:3], "float32")
    expected = exact_rows([2, 1, 0], X[:3])
    assert_exact(backend, rows(backend, x, np.array([2, 1, 0])), expected)
    assert_exact(backend, rows(backend, x, np.array([2, 1, 0], dtype=np.uint64)), expected)
    for big in (2**32 + 1, 2**40, -(2**32) + 1):
        y = np.array([2, big, 0])
        with pytest.raises(ValueError, match=rf"got {big} at .*\b1\b"):
            rows(backend, x, y)
        without = rows(backend, x, y, ignore_index=big)
        assert_exact(backend, without, [expected[0], 0.0, expected[2]])
        assert_exact(backend, rows(backend, x, y, check=False), [expected[0], NAN, expected[2]])


def test_ignore_index_is_none_by_default(backend: Backend) -> None:
    x, y = both(backend, [2, -100, 0, 0])
    got = backend.numpy(rows(backend, x, y, check=False))
    assert math.isnan(got[1])


def test_ignore_index_beside_distributions_points_to_where(backend: Backend) -> None:
    x, q = both(backend, Q)
    with pytest.raises(ValueError, match=r"ignore_index.*where"):
        call(backend, cross_entropy, x, q, ignore_index=-100)


# -- soft labels ------------------------------------------------------------------------------------------------------


def test_soft_labels(backend: Backend) -> None:
    x, q = both(backend, Q)
    assert_exact(backend, rows(backend, x, q), exact_rows(Q), ulp=8)
    total, mass = call(backend, cross_entropy, x, q, reduction="sum_and_weight")
    assert_exact(backend, total, oracle.cross_entropy(X, Q).numerator().value, ulp=8)
    assert_exact(backend, mass, 3.0)


@AUTODIFF
def test_derivatives_by_soft_labels_hold_at_0(backend: Backend) -> None:
    """-w_c log p_c, at q_c = 0 too; 0 where log p_c = -inf."""
    x = np.array([[0.0, 1.0, -INF], [0.0, 1.0, 2.0]])
    q = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for where in (None, np.array([[True] * 3, [True, True, False]])):
        mask = None if where is None else backend.array(where)
        (got,) = gradients(
            backend,
            partial(
                lambda q, where: cross_entropy(
                    backend.array(x, "float32"), q, weight=put(backend, W), where=where, reduction="none"
                ),
                where=mask,
            ),
            backend.array(q, "float32"),
        )
        p = np.asarray(oracle.log_softmax(x, where=where))
        assert_near(got, [[0 if v == -INF else -w * v for w, v in zip(W, row, strict=True)] for row in p], ulp=8)


def test_one_hot_floats_agree_with_indices__pytorch_61044(backend: Backend) -> None:
    """Torch gives 1.3046 for indices and 1.9569 for one-hot floats of the same data."""
    x, y, w = X, Y, np.array([1.0, 2.0, 3.0])
    hot = np.eye(3)[y]
    every: list[dict[str, Any]] = [{}, {"label_smoothing": 0.25}, {"z_loss": 0.5}]
    for options in (*every, {"label_smoothing": 0.25, "temperature": 0.5}):
        expected = oracle.cross_entropy(x, y, weight=w, **options)
        for labels in (y, hot):
            result = call(
                backend,
                cross_entropy,
                backend.array(x, "float32"),
                put(backend, labels),
                weight=put(backend, w),
                **options,
            )
            assert_exact(backend, result, expected.mean().value, ulp=FEW)


def test_weighted_mean_of_the_textbook__pytorch_61044(backend: Backend) -> None:
    """Σ w_y loss / Σ w_y by hand: two rows of equal logits but one, weights 1 and 3."""
    x, y = [[0.0, 0.0], [LOG3, 0.0]], [0, 1]
    expected = (1 * LOG2 + 3 * (2 * LOG2)) / 4
    for labels in (np.array(y), np.eye(2)[y]):
        result = call(
            backend,
            cross_entropy,
            backend.array(x, "float32"),
            put(backend, labels),
            weight=put(backend, np.array([1.0, 3.0])),
        )
        assert_exact(backend, result, expected, ulp=8)


@pytest.mark.parametrize("denominator", ["weight", "count"])
def test_constant_class_weights_never_change_a_mean(backend: Backend, denominator: str) -> None:
    x = backend.array(X, "float32")
    plain = oracle.cross_entropy(X, Y).mean().value
    factor = 1.0 if denominator == "weight" else 4.0
    for labels in (Y, np.eye(3)[Y]):
        result = call(
            backend,
            cross_entropy,
            x,
            put(backend, labels),
            weight=put(backend, np.full(3, 4.0)),
            denominator=denominator,
        )
        assert_exact(backend, result, factor * plain, ulp=8)


def test_unnormalised_rows_keep_their_scale(backend: Backend) -> None:
    """By default soft labels are taken as they are; W is a mean over the row: the scale is not in the denominator."""
    q = np.array([[2.0, 1.0, 1.0], [0.0, 0.5, 0.0]])
    x, labels = both(backend, q, X[:2])
    expected = oracle.cross_entropy(X[:2], q, weight=W)
    total, mass = call(backend, cross_entropy, x, labels, weight=put(backend, W), reduction="sum_and_weight")
    assert_exact(backend, total, expected.numerator().value, ulp=8)
    assert_exact(backend, mass, (0.5 * 2 + 2 + 1) / 4 + 2.0)


# -- what takes part --------------------------------------------------------------------------------------------------

MASKS = {
    "examples": np.array([True, False, True, True]),
    "one example": np.array([True]),
    "no example": np.array([False]),
    "vocabulary": np.array([[True, False, True]]),
    "examples, with an axis": np.array([[True], [True], [False], [True]]),
    "classes": np.array([[True, True, False], [True, True, True], [False, False, False], [True, False, True]]),
    "all": np.array([[True]]),
}


@pytest.mark.parametrize("name", list(MASKS))
def test_where_of_examples_and_of_classes(backend: Backend, name: str) -> None:
    where, y = MASKS[name], np.array([0, 0, 2, 2])
    for labels in (y, np.eye(3)[y] * 0.75 + np.array([0.25, 0, 0])[None] * (name != "classes")):
        x, target = both(backend, labels)
        expected = oracle.cross_entropy(X, labels, where=where)
        assert_exact(backend, rows(backend, x, target, where=backend.array(where)), expected.rows, ulp=8)
        count = expected.denominator("count").value
        result = call(
            backend,
            cross_entropy,
            x,
            target,
            where=backend.array(where),
            denominator="count",
            reduction="sum_and_weight",
        )
        assert_exact(backend, result[1], count)


def test_where_as_a_scalar(backend: Backend) -> None:
    x, y = both(backend)
    for where in (True, backend.array(np.ones((), dtype=bool))):
        assert_exact(backend, rows(backend, x, y, where=where), exact_rows())
    for where in (False, backend.array(np.zeros((), dtype=bool))):
        assert_exact(backend, rows(backend, x, y, where=where), np.zeros(4))
        assert_exact(backend, call(backend, cross_entropy, x, y, where=where), 0.0)


def test_the_number_of_dimensions_tells_where_both_readings_fit(backend: Backend) -> None:
    x, y = backend.array(X[:3], "float32"), backend.array([0, 2, 0], "int32")  # N = C = 3
    mask = np.array([True, False, True])
    for where in (mask, mask[None, :]):
        result = rows(backend, x, y, where=backend.array(where))
        assert_exact(backend, result, exact_rows([0, 2, 0], X[:3], where=where))


@pytest.mark.parametrize("name", ["where", "sample_weight", "temperature", "label_smoothing"])
def test_per_example_options_are_not_enlarging(backend: Backend, name: str) -> None:
    x, y = both(backend)
    bad = np.ones((5,)) if name != "where" else np.ones((5,), dtype=bool)
    with pytest.raises(ValueError, match=name):
        call(backend, cross_entropy, x, y, **{name: put(backend, bad)})
    worse = np.ones((2, 4, 1)) if name != "where" else np.ones((2, 4, 1), dtype=bool)
    with pytest.raises(ValueError, match=name):
        call(backend, cross_entropy, x, y, **{name: put(backend, worse)})


# -- options, one by one ----------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "weight": {"weight": W},
    "weight with 0": {"weight": np.array([0.0, 2.0, 1.0])},
    "sample_weight": {"sample_weight": S},
    "one sample_weight": {"sample_weight": 0.5},
    "sample_weight of size 1": {"sample_weight": np.array([0.25])},
    "negative sample_weight": {"sample_weight": np.array([1.0, -0.5, 0.0, -2.0])},
    "smoothing": {"label_smoothing": 0.25},
    "smoothing of 1": {"label_smoothing": 1.0},
    "smoothing an example": {"label_smoothing": np.array([0.0, 0.25, 0.5, 1.0])},
    "prior": {"label_smoothing": 0.5, "smoothing_prior": np.array([1.0, 0.0, 3.0])},
    "prior of 0": {"label_smoothing": 0.5, "smoothing_prior": np.zeros(3)},
    "prior restricted": {
        "label_smoothing": 0.5,
        "smoothing_prior": np.array([1.0, 2.0, 0.0]),
        "where": np.array([[True, False, True], [True] * 3, [True] * 3, [True, True, False]]),
    },
    "prior with nothing left": {
        "label_smoothing": 0.5,
        "smoothing_prior": np.array([0.0, 2.0, 0.0]),
        "where": np.array([[True, False, True], [True] * 3, [True] * 3, [True, True, False]]),
    },
    "temperature": {"temperature": 0.5},
    "temperature an example": {"temperature": np.array([1.0, 2.0, 0.5, 4.0])},
    "temperature with an axis": {"temperature": np.array([[1.0], [2.0], [0.5], [4.0]])},
    "temperature a class": {"temperature": np.array([[1.0, 2.0, 0.5]])},
    "temperature a logit": {"temperature": 2.0 ** (np.arange(12).reshape(4, 3) % 3)},
    "softcap": {"softcap": 2.0},
    "z_loss": {"z_loss": 0.5},
    "z_loss with weights": {"z_loss": 0.25, "weight": W, "sample_weight": S},
    "negative z_loss": {"z_loss": -0.5},
    "z_loss after cap and temperature": {"z_loss": 0.5, "softcap": 2.0, "temperature": 2.0},
    "everything": {
        "where": np.array([[True, False, True], [True] * 3, [True] * 3, [True, True, False]]),
        "weight": W,
        "sample_weight": S,
        "label_smoothing": 0.25,
        "smoothing_prior": np.array([1.0, 2.0, 1.0]),
        "temperature": np.array([1.0, 2.0, 0.5, 4.0]),
        "softcap": 4.0,
        "z_loss": 0.125,
    },
}


@cache
def exact_with(name: str, *, soft: bool) -> Any:
    return oracle.cross_entropy(X, Q if soft else Y, **OPTIONS[name])


@pytest.mark.any_width
@pytest.mark.parametrize("name", list(OPTIONS))
def test_options(backend: Backend, name: str) -> None:
    given = {option: put(backend, value) for option, value in OPTIONS[name].items()}
    for labels in (Y, Q):
        x, y = both(backend, labels)
        expected = exact_with(name, soft=labels is Q)
        assert_exact(backend, rows(backend, x, y, **given), expected.rows, ulp=24)
        denominators: list[Any] = ["weight", "count", "all", 3.0]
        if name.startswith("negative sample"):
            denominators.remove("weight")
        means = calls(backend, cross_entropy, x, y, each=[{"denominator": one} for one in denominators], **given)
        for denominator, result in zip(denominators, means, strict=True):
            assert_exact(backend, result, expected.mean(denominator).value, ulp=32)


@AUTODIFF
@pytest.mark.parametrize("name", list(OPTIONS))
def test_derivatives_with_options(backend: Backend, name: str) -> None:
    given = {option: put(backend, value) for option, value in OPTIONS[name].items()}
    for labels in (Y, Q):
        x, y = both(backend, labels)
        expected = exact_with(name, soft=labels is Q)
        (got,) = gradients(backend, partial(cross_entropy, labels=y, reduction="none", **given), x)
        value, absolute = expected.gradient("logits")
        off = np.abs(got.astype(float) - value.astype(float))
        assert (off <= 24 * 2.0**-24 * absolute.astype(float)).all(), (got, value)


@pytest.mark.parametrize("soft", [False, True])
def test_numbers_and_arrays_are_the_same(backend: Backend, soft: bool) -> None:  # noqa: FBT001
    x, y = both(backend, Q if soft else Y)
    numbers = {"label_smoothing": 0.25, "temperature": 0.5, "sample_weight": 2.0, "softcap": 4.0, "z_loss": 0.125}
    expected = backend.numpy(rows(backend, x, y, **numbers))
    scalars = {name: backend.array(value, "float32") for name, value in numbers.items()}
    assert_equal(backend, rows(backend, x, y, **scalars), expected)
    shaped = scalars | {
        name: backend.array(np.full(4, numbers[name]), "float32")
        for name in ("label_smoothing", "temperature", "sample_weight")
    }
    assert_equal(backend, rows(backend, x, y, **shaped), expected)
    if backend.library == "numpy":
        assert_equal(backend, rows(backend, x, y, **{k: np.float64(v) for k, v in numbers.items()}), expected)
    mean = backend.numpy(call(backend, cross_entropy, x, y, denominator=3.0))
    for three in (3, backend.array(3.0, "float32"), backend.array(3, "int32")):
        assert_equal(backend, call(backend, cross_entropy, x, y, denominator=three), mean)


def test_none_switches_an_option_off(backend: Backend) -> None:
    x, y = both(backend)
    names = ("label_smoothing", "temperature", "sample_weight", "softcap", "z_loss", "weight", "where", "ignore_index")
    expected = backend.numpy(rows(backend, x, y))
    nothing: dict[str, Any] = dict.fromkeys(names)
    assert_equal(backend, rows(backend, x, y, **nothing), expected)


def test_z_loss_of_0_adds_nothing_even_at_infinite_lse(backend: Backend) -> None:
    x, y = backend.array([[1e30, 0.0], [0.0, 0.0]], "float32"), backend.array([0, 1], "int32")
    assert_exact(backend, rows(backend, x, y, z_loss=0.0), [0.0, LOG2])
    assert_exact(backend, rows(backend, x, y, z_loss=backend.array(0.0, "float32")), [0.0, LOG2])
    assert_exact(backend, rows(backend, x, y, z_loss=1.0), [INF, LOG2 + LOG2**2])


@AUTODIFF
def test_z_loss_of_0_has_derivative_0_even_at_infinite_lse(backend: Backend) -> None:
    y = backend.array([0, 1], "int32")
    for zero in (0.0, backend.array(0.0, "float32")):
        (got,) = gradients(
            backend,
            partial(cross_entropy, labels=y, z_loss=zero, reduction="none"),
            backend.array([[1e30, 0.0], [0.0, 0.0]], "float32"),
        )
        assert_near(got, [[0.0, 0.0], [0.5, -0.5]])


def test_softcap_comes_before_the_temperature(backend: Backend) -> None:
    x, y = backend.array([[100.0, -100.0]], "float32"), backend.array([1], "int32")
    result = rows(backend, x, y, softcap=1.0, temperature=2.0)  # ±1 over 2: a gap of 1
    assert_exact(backend, result, [math.log1p(math.exp(1.0))])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.0}], ids=str)
def test_temperature_divides_after_the_shift(backend: Backend, options: dict[str, Any]) -> None:
    x, y = backend.array([[100.0, 99.0], [3e38, 3e38]], "float32"), backend.array([0, 1], "int32")
    assert_exact(backend, rows(backend, x, y, temperature=1e-37, **options), [0.0, LOG2])


@AUTODIFF
def test_derivatives_by_temperature_are_finite_wherever_the_loss_is(backend: Backend) -> None:
    x = backend.array([[100.0, 99.0], [3e38, 3e38], [0.0, -INF], [2.0, 0.0]], "float32")
    y = backend.array([0, 1, 0, 1], "int32")
    heat = np.array([1e-37, 1e-37, 1e-37, 0.5])
    for labels in (y, backend.array(np.eye(2)[[0, 1, 0, 1]], "float32")):
        (got,) = gradients(
            backend,
            partial(lambda t, labels: cross_entropy(x, labels, temperature=t, reduction="none"), labels=labels),
            backend.array(heat, "float32"),
        )
        p0 = 1 / (1 + math.exp(-4))
        assert_near(got, [0.0, 0.0, 0.0, -p0 * 2 / 0.25], ulp=8)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3)], ids=str)
def test_temperatures_that_are_not_positive_are_nan_in_that_row(backend: Backend, shape: tuple[int, ...]) -> None:
    heat = np.broadcast_to(np.array([1.0, 0.0, -1.0, NAN]).reshape(4, *[1] * (len(shape) - 1)), shape)
    expected = exact_rows()
    expected[1:] = NAN
    for labels in (Y, np.eye(3)[Y]):
        x, y = both(backend, labels)
        result = rows(backend, x, y, temperature=backend.array(heat, "float32"))
        assert_exact(backend, result, expected, ulp=8)
    with pytest.raises(ValueError, match=r"temperature.*argmax"):
        call(backend, cross_entropy, x, y, temperature=0)


@AUTODIFF
def test_derivative_by_a_sample_weight_is_the_loss_at_0_too(backend: Backend) -> None:
    """Only the value and the derivatives by logits and labels of such a row are cut off."""
    s = np.array([0.0, 2.0, 0.0, 1.0])
    q = np.eye(3)[Y] * 0.5 + 0.125
    for labels in (put(backend, Y), backend.array(q, "float32")):
        by_x, by_s = gradients(
            backend,
            partial(
                lambda x, s, labels: cross_entropy(x, labels, sample_weight=s, reduction="none", z_loss=0.25),
                labels=labels,
            ),
            backend.array(X, "float32"),
            backend.array(s, "float32"),
        )
        exact = oracle.cross_entropy(X, backend.numpy(labels), z_loss=0.25)
        assert_near(by_s, exact.rows, ulp=16)
        assert (by_x[[0, 2]] == 0).all()
        assert (by_x[[1, 3]] != 0).all()
    (by_q,) = gradients(
        backend,
        lambda q: cross_entropy(
            backend.array(X, "float32"), q, sample_weight=backend.array(s, "float32"), reduction="none"
        ),
        backend.array(q, "float32"),
    )
    assert (by_q[[0, 2]] == 0).all()


# -- reductions -------------------------------------------------------------------------------------------------------


def test_reductions(backend: Backend) -> None:
    x, y = both(backend)
    exact = oracle.cross_entropy(X, Y)
    assert_exact(backend, call(backend, cross_entropy, x, y), exact.mean().value)
    assert_exact(backend, call(backend, cross_entropy, x, y, reduction="mean"), exact.mean().value)
    assert_exact(backend, call(backend, cross_entropy, x, y, reduction="sum"), exact.numerator().value)
    result = call(backend, cross_entropy, x, y, reduction="sum_and_weight")
    assert isinstance(result, tuple)
    assert_exact(backend, result[0], exact.numerator().value)
    assert_exact(backend, result[1], 4.0)


def test_denominators(backend: Backend) -> None:
    """Σ s·w_y of what takes part, its number, the number of all, a number. By hand, on losses of log 2."""
    x = backend.array(np.zeros((5, 2)), "float32")
    y = backend.array([0, 1, 1, -9, 0], "int32")
    options = {
        "weight": put(backend, np.array([1.0, 3.0])),
        "sample_weight": put(backend, np.array([2.0, 1.0, 0.0, 5.0, 1.0])),
        "where": backend.array([True, True, True, True, False]),
        "ignore_index": -9,
    }
    total = (2 * 1 + 1 * 3) * LOG2
    kinds: dict[Any, float] = {"weight": 5.0, "count": 2.0, "all": 5.0}
    numbers: dict[Any, float] = {8: 8.0, 0.25: 0.25}
    means: list[dict[str, Any]] = [{"denominator": one} for one in (*kinds, *numbers)]
    pairs: list[dict[str, Any]] = [{"denominator": one, "reduction": "sum_and_weight"} for one in kinds]
    found = calls(backend, cross_entropy, x, y, each=[*means, *pairs], **options)
    for result, below in zip(found, (*kinds.values(), *numbers.values()), strict=False):
        assert_exact(backend, result, total / below)
    for pair, below in zip(found[len(means) :], kinds.values(), strict=True):
        assert_exact(backend, pair[0], total)
        assert_exact(backend, pair[1], below)


@pytest.mark.any_width
@pytest.mark.parametrize("name", ["weight", "everything", "sample_weight", "prior restricted"])
def test_sum_and_weight_adds_up_over_micro_batches(backend: Backend, name: str) -> None:
    kinds = ("weight", "count", "all")
    each = [{"reduction": "sum_and_weight", "denominator": denominator} for denominator in kinds]
    above, below = np.zeros(3), np.zeros(3)
    per_example = {option: np.shape(value)[:1] == (4,) for option, value in OPTIONS[name].items()}
    for part in (slice(0, 1), slice(1, 4)):
        options = {
            option: put(backend, np.asarray(value)[part] if per_example[option] else value)
            for option, value in OPTIONS[name].items()
        }
        pairs = calls(backend, cross_entropy, *both(backend, Y[part], X[part]), each=each, **options)
        above += [float(backend.numpy(pair[0])) for pair in pairs]
        below += [float(backend.numpy(pair[1])) for pair in pairs]
    whole = {option: put(backend, value) for option, value in OPTIONS[name].items()}
    x, y = both(backend)
    pairs = calls(backend, cross_entropy, x, y, each=each, **whole)
    for kind, mean, pair in zip(kinds, above / below, pairs, strict=True):
        exact = exact_with(name, soft=False).mean(kind).value
        assert mean == pytest.approx(float(exact), rel=32 * 2.0**-24)
        passed = call(backend, cross_entropy, x, y, denominator=pair[1], **whole)
        assert_exact(backend, passed, exact, ulp=32)


@pytest.mark.parametrize("denominator", ["weight", "count", "all", 0.0, 0])
def test_empty_means(backend: Backend, denominator: Any) -> None:
    x, y = both(backend, [7, 7, 7, 7])
    options = {"ignore_index": 7, "denominator": denominator}
    assert_exact(backend, call(backend, cross_entropy, x, y, **options), 0.0)
    expected = 0.0 if denominator == "all" else NAN
    assert_exact(backend, call(backend, cross_entropy, x, y, empty_mean="nan", **options), expected)
    zero = backend.array(0.0, "float32")
    assert_exact(backend, call(backend, cross_entropy, *both(backend), denominator=zero), 0.0)
    assert_exact(backend, call(backend, cross_entropy, *both(backend), denominator=0.0), 0.0)


@AUTODIFF
@pytest.mark.parametrize("empty_mean", ["zero", "nan"])
def test_a_denominator_of_0_has_derivative_0(backend: Backend, empty_mean: str) -> None:
    y, ignored = put(backend, Y), put(backend, np.full(4, 9))
    for labels, options in (
        (ignored, {"ignore_index": 9}),
        (y, {"denominator": 0.0}),
        (y, {"denominator": backend.array(0.0, "float32")}),
        (y, {"weight": backend.array(np.zeros(3), "float32")}),
    ):
        (got,) = gradients(
            backend,
            partial(cross_entropy, labels=labels, empty_mean=empty_mean, **options),
            backend.array(X, "float32"),
        )
        assert (got == 0).all()


def test_negative_sample_weights(backend: Backend) -> None:
    s = np.array([1.0, -0.5, 0.0, 2.0])
    x, y = both(backend)
    weights = backend.array(s, "float32")
    exact = oracle.cross_entropy(X, Y, sample_weight=s)
    assert_exact(backend, rows(backend, x, y, sample_weight=weights), exact.rows, ulp=8)
    result = call(backend, cross_entropy, x, y, sample_weight=weights, reduction="sum")
    assert_exact(backend, result, exact.numerator().value, ulp=16)
    result = call(backend, cross_entropy, x, y, sample_weight=weights, denominator="count")
    assert_exact(backend, result, exact.mean("count").value, ulp=16)
    if backend.readable:
        with pytest.raises(ValueError, match=r"sample_weight.*denominator"):
            call(backend, cross_entropy, x, y, sample_weight=weights)
    assert_exact(backend, call(backend, cross_entropy, x, y, sample_weight=weights, check=False), NAN)
    pair = call(backend, cross_entropy, x, y, sample_weight=weights, check=False, reduction="sum_and_weight")
    assert_exact(backend, pair[1], NAN)


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "none", "denominator": "count"},
        {"reduction": "sum", "denominator": "all"},
        {"reduction": "none", "denominator": 3.0},
        {"reduction": "sum_and_weight", "denominator": 3.0},
        {"reduction": "sum", "empty_mean": "nan"},
        {"reduction": "none", "empty_mean": "nan"},
        {"reduction": "sum_and_weight", "empty_mean": "nan"},
        {"smoothing_prior": [1.0, 1.0, 1.0]},
        {"aux": ("z_loss",)},
        {"reduction": "average"},
        {"denominator": "batch"},
        {"denominator": -1.0},
        {"empty_mean": "one"},
        {"aux": ("accuracy",)},
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.1},
        {"label_smoothing": NAN},
        {"temperature": -1.0},
        {"softcap": 0.0},
    ],
    ids=str,
)
def test_options_that_cannot_matter_or_be(backend: Backend, options: dict[str, Any]) -> None:
    x, y = both(backend)
    name = next(name for name in (*options, "reduction") if name != "reduction" or len(options) == 1)
    given = {key: put(backend, value) if isinstance(value, list) else value for key, value in options.items()}
    with pytest.raises(ValueError, match=name):
        call(backend, cross_entropy, x, y, **given)


# -- aux --------------------------------------------------------------------------------------------------------------

AUX = ("lse", "z_loss", "entropy", "correct", "target_log_prob", "margin")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("tempered", [False, True])
def test_aux(backend: Backend, soft: bool, tempered: bool) -> None:  # noqa: FBT001
    labels = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.0, 0.875], [1.0, 0.0, 0.0]]) if soft else Y
    options: dict[str, Any] = {"z_loss": 0.5, "weight": W, "sample_weight": np.array([1.0, 2.0, 0.5, 0.0])}
    if tempered:
        options |= {"temperature": 0.5, "softcap": 8.0}
    exact = oracle.cross_entropy(X, labels, **options)
    x, y = both(backend, labels)
    given = {name: put(backend, value) for name, value in options.items()}
    loss, aux = call(backend, cross_entropy, x, y, aux=AUX, **given)
    assert tuple(aux) == AUX
    assert_exact(backend, loss, exact.mean().value, ulp=32)
    for name in AUX:
        if name == "correct":
            assert_equal(backend, aux[name], np.asarray(exact.aux(name), dtype=bool))
        else:
            assert_exact(backend, aux[name], exact.aux(name), ulp=32)


def test_aux_by_one_name_and_none(backend: Backend) -> None:
    x, y = both(backend)
    plain = backend.numpy(call(backend, cross_entropy, x, y))

    def assert_same(loss: Any) -> None:
        """XLA compiles each set of results by itself, and may round its sums otherwise."""
        if backend.library == "jax":
            np.testing.assert_array_max_ulp(backend.numpy(loss), plain, maxulp=2)
        else:
            assert_equal(backend, loss, plain)

    for name in AUX:
        if name != "z_loss":
            loss, aux = call(backend, cross_entropy, x, y, aux=name)
            assert list(aux) == [name]
            assert_same(loss)
    loss, aux = call(backend, cross_entropy, x, y, aux=())
    assert aux == {}
    assert_same(loss)
    pair, aux = call(backend, cross_entropy, x, y, aux=("lse",), reduction="sum_and_weight")
    assert_same(pair[0] / pair[1])


def test_aux_is_0_or_false_where_an_example_takes_no_part(backend: Backend) -> None:
    x = backend.array([[NAN, 1.0, 2.0], [0.0, 0.0, 0.0], [INF, 0.0, 1.0]], "float32")
    y = backend.array([0, -4, 88], "int32")
    drop = {"where": backend.array([False, True, False]), "ignore_index": -4, "z_loss": 0.5}
    weightless = {"sample_weight": backend.array(np.zeros(3), "float32"), "z_loss": 0.5}
    for options in (drop, weightless):
        loss, aux = call(backend, cross_entropy, x, y, aux=AUX, reduction="none", **options)
        assert_exact(backend, loss, [0.0] * 3)
        for name in AUX:
            if name == "correct":
                assert_equal(backend, aux[name], np.array([False] * 3))
            else:
                assert_exact(backend, aux[name], [0.0] * 3)


def test_aux_at_special_rows(backend: Backend) -> None:
    """Entropy is finite with -inf logits; the margin over no rival is +inf; log p of a label on -inf is -inf."""
    x = backend.array([[0.0, -INF, 1.0], [0.0, -INF, 1.0], [2.0, -INF, -INF]], "float32")
    y = backend.array([0, 1, 0], "int32")
    _, aux = call(backend, cross_entropy, x, y, aux=AUX[:1] + AUX[2:], reduction="none")
    entropy = P0 * L0 + P2 * L2
    assert_exact(backend, aux["entropy"], [entropy, entropy, 0.0], ulp=8)
    assert_exact(backend, aux["lse"], [LSE, LSE, 2.0])
    assert_exact(backend, aux["target_log_prob"], [-L0, -INF, 0.0])
    assert_exact(backend, aux["margin"], [-1.0, -INF, INF])
    assert_equal(backend, aux["correct"], np.array([False, False, True]))


# -- check ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing", [0.5, 1.5, 0.0, 0.0]),
        ("label_smoothing", [0.5, -0.5, 0.0, 0.0]),
        ("label_smoothing", [NAN, 0.5, 0.0, 0.0]),
        ("temperature", [1.0, 0.0, 1.0, 1.0]),
        ("temperature", [1.0, INF, 1.0, 1.0]),
        ("weight", [1.0, -1.0, 1.0]),
        ("weight", [1.0, NAN, 1.0]),
        ("sample_weight", [1.0, INF, 1.0, 1.0]),
        ("sample_weight", [1.0, NAN, 1.0, 1.0]),
        ("smoothing_prior", [1.0, -1.0, 1.0]),
        ("softcap", np.float32(-1.0)),
        ("labels", [[0.5, 0.5, 0.5]] * 4),
        ("labels", [[1.5, -0.5, 0.0]] * 4),
        ("labels", [[NAN, 0.5, 0.5]] * 4),
        ("labels", [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_check_reads_everything(backend: Backend, name: str, value: Any) -> None:
    """check=True: soft labels, smoothing, temperature, weights too; on lazy arrays it computes."""
    x, y = both(backend)
    array = put(backend, np.asarray(value)) if name != "softcap" else backend.array(value, "float32")
    options = {name: array} if name != "labels" else {}
    if name == "smoothing_prior":
        options["label_smoothing"] = 0.5
    labels = array if name == "labels" else y
    with pytest.raises(ValueError, match=name):
        cross_entropy(x, labels, check=True, reduction="none", **options)
    call(backend, cross_entropy, x, labels, check=False, reduction="none", **options)


def test_check_passes_what_is_right(backend: Backend) -> None:
    x, y = both(backend)
    for labels in (Y, np.array([[0.1, 0.2, 0.7]] * 4), np.eye(3)[Y], Q):
        arrays = {"weight": W, "sample_weight": S, "temperature": np.ones(4), "label_smoothing": np.full(4, 0.5)}
        options = {name: put(backend, value) for name, value in arrays.items()}
        result = cross_entropy(x, put(backend, labels), check=True, reduction="none", **options)
        expected = backend.numpy(rows(backend, x, put(backend, labels), **options))
        assert_equal(backend, result, expected)
    assert_exact(backend, cross_entropy(x, y, check=True), oracle.cross_entropy(X, Y).mean().value, ulp=8)


def test_check_leaves_out_what_takes_no_part(backend: Backend) -> None:
    q = np.array([[0.5, 0.25, 0.25], [NAN, 9.0, -1.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    x, labels = both(backend, q)
    where = backend.array([True, False, True, True])
    s = backend.array([1.0, 1.0, 1.0, 0.0], "float32")
    expected = exact_rows(np.where(np.array([[1], [0], [1], [0]]) == 1, q, 0.0))
    result = cross_entropy(x, labels, where=where, sample_weight=s, check=True, reduction="none")
    assert_exact(backend, result, expected, ulp=8)


@pytest.mark.backends("jax")
def test_check_is_an_error_in_a_trace(backend: Backend) -> None:
    import jax

    x, y = both(backend)
    with pytest.raises(ValueError, match="check=True"):
        jax.jit(partial(cross_entropy, check=True))(x, y)
    expected = exact_rows([2, 1, 0, 0])
    expected[1] = NAN
    result = jax.jit(partial(cross_entropy, reduction="none"))(x, backend.array([2, -1, 0, 0], "int32"))
    assert_exact(backend, result, expected)


@pytest.mark.backends("dask")
def test_lazy_labels_are_not_computed_unless_asked(backend: Backend) -> None:
    x, y = both(backend, [2, 5, 0, 0])
    expected = exact_rows([2, 1, 0, 0])
    expected[1] = NAN
    assert_exact(backend, rows(backend, x, y), expected)
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        cross_entropy(x, y, check=True)


# -- regressions: what users of the peers ran into (PEERS, sections 2 and 3) -------------------------------------------


def test_mean_with_every_target_ignored_is_0__pytorch_70348(backend: Backend) -> None:
    x, y = both(backend, [-100] * 4)
    assert_exact(backend, call(backend, cross_entropy, x, y, ignore_index=-100), 0.0)
    assert_exact(backend, call(backend, cross_entropy, x, y, ignore_index=-100, empty_mean="nan"), NAN)


@AUTODIFF
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_nan_row_does_not_poison_gradient__pytorch_11551(backend: Backend, reduction: str) -> None:
    x = backend.array([[NAN, INF, 0.0], [0.0, 0.0, 0.0]], "float32")
    y = backend.array([-100, 0], "int32")
    (got,) = gradients(backend, partial(cross_entropy, labels=y, ignore_index=-100, reduction=reduction), x)
    assert_near(got, [[0.0, 0.0, 0.0], [-2 / 3, 1 / 3, 1 / 3]])


def test_soft_label_of_0_on_minus_inf__optax_896_898(backend: Backend) -> None:
    result = rows(backend, *both(backend, [[0.5, 0.5, 0.0]], [[0.0, 0.0, -INF]]))
    assert_exact(backend, result, [LOG2])


@pytest.mark.backends("jax")
def test_forward_mode_at_soft_label_0__optax_1762(backend: Backend) -> None:
    import jax

    x, q = both(backend, [[0.5, 0.5, 0.0]], [[0.0, 0.0, -INF]])
    one = backend.array(np.ones((1, 3)), "float32")
    _, tangent = jax.jvp(lambda x: cross_entropy(x, q), (x,), (one,))
    assert_exact(backend, tangent, 0.0)


@pytest.mark.backends("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_at_soft_label_0_on_torch__optax_1762(backend: Backend) -> None:
    import torch

    x, q = both(backend, [[0.5, 0.5, 0.0]], [[0.0, 0.0, -INF]])
    _, tangent = torch.func.jvp(lambda x: cross_entropy(x, q), (x,), (torch.ones_like(x),))
    assert_exact(backend, tangent, 0.0)


def test_a_batch_of_one_with_weights__pytorch_8062(backend: Backend) -> None:
    """The mean under "weight" makes class weights vanish from a batch of one; "count" and "all" do not."""
    x, y = both(backend, [1], X[:1])
    loss = exact_rows([1], X[:1])[0]
    weight = put(backend, W)
    assert_exact(backend, call(backend, cross_entropy, x, y, weight=weight), loss)
    for denominator in ("count", "all", 1.0):
        assert_exact(backend, call(backend, cross_entropy, x, y, weight=weight, denominator=denominator), 2 * loss)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_smoothing_weights_and_ignored_labels__pytorch_69339_72056_73205(backend: Backend, reduction: str) -> None:
    y = np.array([2, -100, 0, -100])
    exact = oracle.cross_entropy(X, y, ignore_index=-100, weight=W, label_smoothing=0.25)
    x, labels = both(backend, y)
    result = call(
        backend,
        cross_entropy,
        x,
        labels,
        ignore_index=-100,
        weight=put(backend, W),
        label_smoothing=0.25,
        reduction=reduction,
    )
    expected = {"none": exact.rows, "sum": exact.numerator().value, "mean": exact.mean().value}[reduction]
    assert_exact(backend, result, expected, ulp=FEW)


def test_weighted_smoothing_by_hand__pytorch_73205(backend: Backend) -> None:
    """Two equal logits, ε = 1/2, weights 1 and 3: q' = (3/4, 1/4), loss = (3/4 + 3/4) log 2, W = 1."""
    x, y = both(backend, [0], [[0.0, 0.0]])
    result = call(backend, cross_entropy, x, y, weight=put(backend, np.array([1.0, 3.0])), label_smoothing=0.5)
    assert_exact(backend, result, 1.5 * LOG2)


def test_smoothing_of_integer_labels__optax_1486_keras_23487(backend: Backend) -> None:
    x, y = both(backend, [0], [[LOG3, 0.0]])  # p = 3/4, 1/4
    result = call(backend, cross_entropy, x, y, label_smoothing=0.5)
    assert_exact(backend, result, 0.75 * math.log(4 / 3) + 0.25 * math.log(4))


def test_smoothing_along_another_axis__keras_3_15(backend: Backend) -> None:
    """Keras divides ε by the size of the last axis, whatever the class axis is."""
    exact = oracle.cross_entropy(X.T, np.eye(3)[Y].T, axis=0, label_smoothing=0.25)
    result = call(
        backend,
        cross_entropy,
        backend.array(X.T, "float32"),
        put(backend, np.eye(3)[Y].T),
        axis=0,
        label_smoothing=0.25,
    )
    assert_exact(backend, result, exact.mean().value, ulp=FEW)


def test_smoothing_with_padded_classes__annotated_transformer_109(backend: Backend) -> None:
    x = [[0.0, 0.0, -INF]]
    result = call(
        backend, cross_entropy, *both(backend, [0], x), label_smoothing=0.5, where=backend.array([[True, True, False]])
    )
    assert_exact(backend, result, LOG2)


def test_all_false_mask_with_smoothing__keras_21908(backend: Backend) -> None:
    x, y = both(backend)
    for reduction in ("mean", "sum"):
        result = call(
            backend, cross_entropy, x, y, where=backend.array([False]), label_smoothing=0.5, reduction=reduction
        )
        assert_exact(backend, result, 0.0)


@AUTODIFF
def test_weight_0_masks_nan_rows__keras_18818(backend: Backend) -> None:
    x = backend.array([[NAN, 0.0], [0.0, 0.0]], "float32")
    s = backend.array([0.0, 1.0], "float32")
    y = backend.array([0, 0], "int32")
    assert_exact(backend, call(backend, cross_entropy, x, y, sample_weight=s), LOG2)
    (got,) = gradients(backend, partial(cross_entropy, labels=y, sample_weight=s), x)
    assert_near(got, [[0.0, 0.0], [-0.5, 0.5]])


def test_a_global_token_count__transformers_34191(backend: Backend) -> None:
    exact = oracle.cross_entropy(X, Y).mean().value
    total = 0.0
    for part in (slice(0, 1), slice(1, 4)):
        x, y = both(backend, Y[part], X[part])
        total += float(backend.numpy(call(backend, cross_entropy, x, y, denominator=4)))
    assert total == pytest.approx(float(exact), rel=2.0**-21)


def test_ignore_index_never_drops_a_class__pytorch_63004(backend: Backend) -> None:
    x, y = both(backend, [0, 1], [[0.0, 0.0], [0.0, 0.0]])
    assert_exact(backend, rows(backend, x, y, ignore_index=1), [LOG2, 0.0])


def test_ignore_index_minus_1_is_no_python_index__nanogpt_323(backend: Backend) -> None:
    x, y = both(backend, [-1, 2], X[:2])
    expected = exact_rows([0, 2], X[:2])
    assert_exact(backend, rows(backend, x, y, ignore_index=-1), [0.0, expected[1]])


def test_every_integer_dtype_of_labels__pytorch_45540(backend: Backend, int_dtype: str) -> None:
    result = call(backend, cross_entropy, backend.array(X, "float32"), backend.array(Y, int_dtype))
    assert_exact(backend, result, oracle.cross_entropy(X, Y).mean().value)


def test_class_axis__pytorch_29754(backend: Backend) -> None:
    x = np.stack([X[:3], -X[1:], X[1:] / 2])  # N = C = L = 3: the axes can only be told apart by the argument
    y = np.arange(9).reshape(3, 3) % 3
    for axis in (0, 1, 2):
        result = rows(backend, backend.array(x, "float32"), put(backend, y), axis=axis)
        assert_exact(backend, result, exact_rows(y, x, axis=axis), ulp=8)


def test_a_column_of_labels_does_not_broadcast__tensorflow_1343_optax(backend: Backend) -> None:
    x, y = both(backend, Y[:, None])
    with pytest.raises(ValueError, match=r"(?s)batch shape \(4,\), got \(4, 1\)"):
        call(backend, cross_entropy, x, y)


def test_weight_is_aligned_to_the_class_axis__pytorch_82496(backend: Backend) -> None:
    x = np.stack([X[:3], -X[1:]])
    y = np.array([[0, 1, 2], [2, 2, 0]])
    result = rows(backend, backend.array(x, "float32"), put(backend, y), axis=1, weight=put(backend, W))
    assert_exact(backend, result, exact_rows(y, x, axis=1, weight=W), ulp=8)


def test_label_minus_1_never_wraps__optax_1185(backend: Backend) -> None:
    x, y = both(backend, [-1, 1, 0, 0])
    assert math.isnan(backend.numpy(rows(backend, x, y, check=False))[0])
    if backend.readable:
        with pytest.raises(ValueError, match=r"got -1 at .*\b0\b"):
            call(backend, cross_entropy, x, y)


def test_label_on_a_masked_class_is_not_finite__optax(backend: Backend) -> None:
    x, y = both(backend, [0, 1], [[0.0, 0.0], [0.0, 0.0]])
    assert_exact(backend, rows(backend, x, y, where=backend.array([[False, True]])), [INF, 0.0])


def test_negative_probabilities_are_refused_with_check__pytorch_152437(backend: Backend) -> None:
    x, q = both(backend, [[1.5, -0.5]], [[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"labels must be finite.* not negative"):
        cross_entropy(x, q, check=True)


@pytest.mark.parametrize("smoothing", [-0.1, NAN, 1.5])
def test_bad_smoothing_is_refused__torch_2_13(backend: Backend, smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        call(backend, cross_entropy, *both(backend), label_smoothing=smoothing)


@pytest.mark.dtypes("bfloat16")
def test_bfloat16_losses_are_not_quantised__optax_1020(backend: Backend, dtype: str) -> None:
    x, y = backend.array(np.zeros((1, 99)), dtype), backend.array([7], "int32")
    assert_exact(backend, rows(backend, x, y), [math.log(99)])


@pytest.mark.backends("numpy", "torch", "jax")
@pytest.mark.dtypes("float16")
def test_mean_of_70000_half_rows_is_finite__torch_2_13(backend: Backend, dtype: str) -> None:
    x, y = backend.array(np.zeros((70_000, 2)), dtype), backend.array(np.zeros(70_000), "int32")
    assert_exact(backend, call(backend, cross_entropy, x, y), LOG2, ulp=8)
    total, count = call(backend, cross_entropy, x, y, reduction="sum_and_weight")
    assert_exact(backend, total, 70_000 * LOG2, ulp=8)
    assert_exact(backend, count, 70_000.0)


@pytest.mark.dtypes("float32", "float64")
def test_confident_predictions_keep_every_digit__everyone(backend: Backend, dtype: str) -> None:
    x = np.array([[40.0, 0.0, 0.0], [20.0, 0.0, 0.0], [85.0, 0.0, -1.0]])
    labels = np.array([0, 0, 0])
    result = rows(backend, backend.array(x, dtype), put(backend, labels))
    assert_exact(backend, result, exact_rows(labels, x), dtype)
    assert float(backend.numpy(result)[0]) == pytest.approx(8.4967e-18, rel=1e-4)


@AUTODIFF
@pytest.mark.dtypes("float32", "float64")
def test_the_derivative_at_the_target_keeps_every_digit__everyone(backend: Backend, dtype: str) -> None:
    y = backend.array([0], "int32")
    (got,) = gradients(backend, partial(cross_entropy, labels=y), backend.array([[40.0, 0.0, 0.0]], dtype))
    p = math.exp(-40) / (1 + 2 * math.exp(-40))
    assert_near(got, [[-2 * p, p, p]], dtype)


@AUTODIFF
def test_derivatives_at_ties_and_hits(backend: Backend) -> None:
    x, y = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), np.array([0, 1, 0])
    for labels in (y, np.eye(2)[y]):
        (got,) = gradients(
            backend, partial(cross_entropy, labels=put(backend, labels), reduction="none"), backend.array(x, "float32")
        )
        assert_near(got, oracle.cross_entropy(x, labels).gradient("logits").value)


def test_a_common_offset_loses_nothing__optax_scipy_sklearn(backend: Backend) -> None:
    x, y = both(backend, [0, 1], [[1e6, 1e6 - 1, 1e6 - 2], [10_000.0, 9_999.0, -1e6]])
    expected = exact_rows([0, 1], [[1e6, 1e6 - 1, 1e6 - 2], [10_000.0, 9_999.0, -1e6]])
    assert_exact(backend, rows(backend, x, y), expected)


@AUTODIFF
@pytest.mark.parametrize("soft", [False, True])
def test_lse_as_a_by_product_is_differentiable__cce_43(backend: Backend, soft: bool) -> None:  # noqa: FBT001
    labels = put(backend, np.eye(3)[Y] if soft else Y)
    (got,) = gradients(
        backend, lambda x: cross_entropy(x, labels, aux="lse", reduction="none")[1]["lse"], backend.array(X, "float32")
    )
    assert_near(got, oracle.softmax(X))


def test_functions_and_options_agree(backend: Backend) -> None:
    """cross_entropy of one_hot and of smooth_labels is cross_entropy with the options."""
    x, y = both(backend)
    hot = backend.call(one_hot, y, 3, dtype="float32")
    assert_exact(backend, rows(backend, x, hot), exact_rows(), ulp=8)
    soft = backend.call(smooth_labels, y, 0.25, num_classes=3, dtype="float32")
    assert_exact(backend, rows(backend, x, soft), exact_rows(label_smoothing=0.25), ulp=FEW)


def test_infinite_weight_of_an_absent_class(backend: Backend) -> None:
    """What 1 / bincount gives a class that does not occur takes no part, with one-hot labels as with indices."""
    logits = backend.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], "float32")
    weight = backend.array([1.0, np.inf, 1.0], "float32")
    one_hot_labels = backend.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "float32")
    by_index = call(backend, cross_entropy, logits, backend.array([0, 2], "int32"), weight=weight)
    by_distribution = call(backend, cross_entropy, logits, one_hot_labels, weight=weight)
    assert np.isfinite(backend.numpy(by_index))
    np.testing.assert_allclose(backend.numpy(by_distribution), backend.numpy(by_index), rtol=1e-6)


@pytest.mark.parametrize("stored", [0.0, np.nan])
def test_temperature_of_a_dropped_class_is_not_looked_at(backend: Backend, stored: float) -> None:
    logits = backend.array([[1.0, 2.0, 0.5]], "float32")
    where = backend.array([[True, True, False]], "bool")
    temperature = backend.array([[1.0, 2.0, stored]], "float32")
    labels = backend.array([0], "int32")
    loss = call(backend, cross_entropy, logits, labels, where=where, temperature=temperature)
    np.testing.assert_allclose(backend.numpy(loss), np.log(2.0), rtol=1e-6)


def test_infinite_temperature_is_uniform(backend: Backend) -> None:
    logits, labels = backend.array([[1.0, 2.0, 0.5]], "float32"), backend.array([0], "int32")
    loss = call(backend, cross_entropy, logits, labels, temperature=backend.array(np.inf, "float32"))
    np.testing.assert_allclose(backend.numpy(loss), np.log(3.0), rtol=1e-6)
