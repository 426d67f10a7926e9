"""What dask does to the functions: graphs built without one compute, whatever the chunks and with unknown sizes.

`backend.call` refuses any compute inside. Computed at last, results are NumPy's bit for bit: the same formulas run on
the same rows, in blocks. Reductions add blocks in another order, which is held to a few units in the last place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from derivatives import CASES, INF, NAMES, NAN, Case, assert_ulps, exact
from matrix import ComputedError, no_compute

from softxent import cross_entropy, log_softmax, logsumexp, one_hot, smooth_labels, softmax, softmin

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = pytest.mark.backends("dask")

Array = Any
AUX = ("lse", "entropy", "correct", "target_log_prob", "margin")
BLOCK = np.random.default_rng(0).normal(size=(7, 5, 3)) * 4


def options_of(arguments: dict[str, Array]) -> dict[str, Array]:
    return {name: value for name, value in arguments.items() if name not in {"logits", "labels"}}


def same(backend: Backend, lazy: Array, eager: Array) -> None:
    """The lazy result knew its dtype and shape all along, and computed it is the eager one to the bit."""
    eager = np.asarray(eager)
    assert backend.owns(lazy)
    assert lazy.dtype == eager.dtype
    assert all(np.isnan(n) or n == m for n, m in zip(lazy.shape, eager.shape, strict=True))
    found = backend.numpy(lazy)
    assert found.dtype == eager.dtype
    np.testing.assert_array_equal(found, eager)


def test_a_compute_is_noticed(backend: Backend) -> None:
    """The scheduler that refuses does refuse, in `call` and by itself."""
    x = backend.array([1.0, 2.0], "float32")
    with pytest.raises(ComputedError):
        backend.call(lambda a: bool(a[0] > 0), x)
    with no_compute(), pytest.raises(ComputedError):
        x.sum().compute()


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_rows_are_numpys(backend: Backend, dtype: str, case: Case) -> None:
    """Every option, lazy too; by-products besides."""
    given = case.arrays(dtype)
    call: dict[str, Any] = {"reduction": "none", "aux": AUX, "check": False}
    losses, aux = cross_entropy(given["logits"], given["labels"], **options_of(given), **call)
    lazy = {name: backend.array(value) for name, value in given.items()}
    found, by_products = backend.call(cross_entropy, lazy["logits"], lazy["labels"], **options_of(lazy), **call)
    same(backend, found, losses)
    for name in AUX:
        same(backend, by_products[name], aux[name])


@pytest.mark.parametrize("labels", ["lazy", "numpy"])
@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"denominator": "count"}, {"denominator": "all"}, {"denominator": 3.5}],
    ids=str,
)
def test_reductions(backend: Backend, labels: str, options: dict[str, Any]) -> None:
    """0-d results, NumPy labels beside the lazy logits included."""
    x = BLOCK[:, 0].astype("float64")
    t = np.asarray([0, 1, 2, -1, 1, 0, 2])
    weight = np.asarray([2.0, 1.0, 0.5])
    given = backend.array(t) if labels == "lazy" else t
    found = backend.call(cross_entropy, backend.array(x), given, ignore_index=-1, weight=weight, **options)
    reference = oracle.cross_entropy(x, t, ignore_index=-1, weight=weight)
    kind = options.get("denominator", "weight")
    value = reference.numerator().value if "reduction" in options else reference.mean(kind).value
    assert found.shape == ()
    assert_ulps(backend.numpy(found), value, dtype="float64", bound=4.0)


def test_sum_and_weight(backend: Backend) -> None:
    """Both sums lazy; they add up over parts."""
    x, t = BLOCK[:, 0], np.asarray([0, 1, 2, -1, 1, 0, 2])
    parts = [
        backend.call(cross_entropy, backend.array(x[rows]), t[rows], ignore_index=-1, reduction="sum_and_weight")
        for rows in (slice(0, 3), slice(3, 7))
    ]
    total, mass = (sum(float(backend.numpy(part[k])) for part in parts) for k in range(2))
    assert mass == 6.0
    assert total / mass == pytest.approx(float(cross_entropy(x, t, ignore_index=-1)), rel=1e-14)


@pytest.mark.parametrize("empty_mean", ["zero", "nan"])
def test_a_mean_of_nothing(backend: Backend, empty_mean: str) -> None:
    t = backend.array([-1, -1, -1], "int32")
    found = backend.call(cross_entropy, backend.array(BLOCK[:3, 0]), t, ignore_index=-1, empty_mean=empty_mean)
    np.testing.assert_array_equal(backend.numpy(found), NAN if empty_mean == "nan" else 0.0)


NORMALIZERS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax-where": lambda x: softmax(x, where=x < 2),
    "log_softmax": log_softmax,
    "log_softmax-temperature": lambda x: log_softmax(x, temperature=abs(x) + 1),
    "softmin": softmin,
    "logsumexp": logsumexp,
    "logsumexp-keepdims": lambda x: logsumexp(x, keepdims=True),
    "logsumexp-b": lambda x: logsumexp(x, b=x - 1, return_sign=True)[0],
    "logsumexp-sign": lambda x: logsumexp(x, b=x - 1, return_sign=True)[1],
    "smooth_labels": lambda x: smooth_labels(abs(x), 0.125),
}


@pytest.mark.parametrize("dtype_", ["float16", "float32", "float64"])
@pytest.mark.parametrize("function", NORMALIZERS.values(), ids=NORMALIZERS)
def test_normalizers_are_numpys(backend: Backend, function: Any, dtype_: str) -> None:
    x = BLOCK[:, 0].astype(dtype_)
    x[1, 1] = -INF
    same(backend, backend.call(function, backend.array(x)), function(x))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 0), (1,), (), None])
@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
def test_axes(backend: Backend, function: Any, axis: Any) -> None:
    """Along one axis, several in either order, none and all, whatever the chunks."""
    same(backend, backend.call(function, backend.array(BLOCK), axis=axis), function(BLOCK, axis=axis))


@pytest.mark.parametrize("axis", [0, 1, (0, 2), (2, 0), None])
def test_class_axes_of_losses(backend: Backend, axis: Any) -> None:
    left = [size for d, size in enumerate(BLOCK.shape) if axis is not None and d not in np.atleast_1d(axis)]
    labels = np.resize(np.arange(3), left)
    eager = cross_entropy(BLOCK, labels, axis=axis, reduction="none")
    found = backend.call(cross_entropy, backend.array(BLOCK), backend.array(labels), axis=axis, reduction="none")
    same(backend, found, eager)


@pytest.mark.parametrize("chunks", [(7, 5, 3), (1, 5, 1), ((3, 4), (2, 3), (1, 2)), (7, 1, 2)], ids=str)
def test_chunks(backend: Backend, chunks: Any) -> None:
    """Cut along batch and class axis, evenly or not; labels and weights cut otherwise."""
    x = backend.xp.from_array(BLOCK, chunks=chunks)
    labels = np.resize(np.arange(3), (7, 5))
    lazy = backend.xp.from_array(labels, chunks=(2, 5))
    weight = backend.xp.from_array(np.asarray([2.0, 1.0, 0.5]), chunks=1)
    found = backend.call(cross_entropy, x, lazy, weight=weight, reduction="none")
    same(backend, found, cross_entropy(BLOCK, labels, weight=np.asarray([2.0, 1.0, 0.5]), reduction="none"))
    same(backend, backend.call(softmax, x), softmax(BLOCK))


def test_an_unknown_batch_size(backend: Backend) -> None:
    """Rows chosen by a boolean array: nobody knows how many, and nothing has to."""
    x, t = BLOCK[:, 0], np.asarray([0, 1, 2, -1, 1, 0, 2])
    kept = np.asarray([True, False, True, True, False, True, True])
    rows, labels = (
        backend.xp.from_array(one, chunks=(2, *one.shape[1:]))[backend.xp.from_array(kept, chunks=2)] for one in (x, t)
    )
    assert np.isnan(rows.shape[0])
    for function in (softmax, log_softmax, softmin, logsumexp):
        same(backend, backend.call(function, rows), function(x[kept]))
    call: dict[str, Any] = {"ignore_index": -1, "label_smoothing": 0.125, "temperature": 2.0}
    found = backend.call(cross_entropy, rows, labels, reduction="none", **call)
    same(backend, found, cross_entropy(x[kept], t[kept], reduction="none", **call))
    mean = backend.call(cross_entropy, rows, labels, **call)
    assert float(backend.numpy(mean)) == pytest.approx(float(cross_entropy(x[kept], t[kept], **call)), rel=1e-14)
    every = backend.call(cross_entropy, rows, labels, denominator="all", **call)
    eager = cross_entropy(x[kept], t[kept], denominator="all", **call)
    assert float(backend.numpy(every)) == pytest.approx(float(eager), rel=1e-14)
    soft = backend.call(cross_entropy, rows, backend.call(softmax, rows), reduction="none")
    same(backend, soft, cross_entropy(x[kept], softmax(x[kept]), reduction="none"))


def test_an_unknown_number_of_classes(backend: Backend) -> None:
    x = backend.array(BLOCK[:, 0])
    columns = x[:, backend.array(np.asarray([True, False, True]))]
    with pytest.raises(ValueError, match="must have a known number of classes"):
        backend.call(softmax, columns)


def test_labels_out_of_range(backend: Backend) -> None:
    """§3.5: not looked at, so NaN in that row; ignored or weightless ones are 0."""
    x, t = BLOCK[:5, 0], np.asarray([0, 3, -1, 9, 2])
    weights = np.asarray([1.0, 1.0, 1.0, 0.0, 1.0])
    losses = backend.call(
        cross_entropy, backend.array(x), backend.array(t), ignore_index=-1, sample_weight=weights, reduction="none"
    )
    found = backend.numpy(losses)
    assert np.isnan(found).tolist() == [False, True, False, False, False]
    assert found[2:4].tolist() == [0.0, 0.0]
    hot = backend.numpy(backend.call(one_hot, backend.array(t), 3, ignore_index=-1))
    assert np.isnan(hot).all(axis=1).tolist() == [False, True, False, True, False]
    assert hot[2].tolist() == [0.0, 0.0, 0.0]


def test_numpy_labels_are_looked_at_for_free(backend: Backend) -> None:
    """Labels in host memory can be read without a compute; whether they are is said in §8: where values can be read."""
    t = np.asarray([0, 1, 7])
    x = backend.array(BLOCK[:3, 0])
    losses = backend.call(cross_entropy, x, t, check=False, reduction="none")
    assert np.isnan(backend.numpy(losses)).tolist() == [False, False, True]


def test_check_computes(backend: Backend) -> None:
    """check=True reads lazy labels, distributions and options, and names what is wrong."""
    x = backend.array(BLOCK[:3, 0])
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 7"):
        cross_entropy(x, backend.array([0, 1, 7], "int32"), check=True)
    with pytest.raises(ValueError, match="labels must be finite and not negative"):
        cross_entropy(x, backend.array(BLOCK[:3, 0]), check=True)
    with pytest.raises(ValueError, match="temperature must be finite and positive"):
        cross_entropy(x, backend.array([0, 1, 2], "int32"), temperature=backend.array([1.0, 0.0, 1.0]), check=True)
    with pytest.raises(ComputedError):
        backend.call(cross_entropy, x, backend.array([0, 1, 2], "int32"), check=True)
    good = cross_entropy(x, backend.array([0, 1, 2], "int32"), check=True, reduction="none")
    same(backend, good, cross_entropy(BLOCK[:3, 0], np.asarray([0, 1, 2]), reduction="none"))


def test_targets(backend: Backend) -> None:
    t = np.asarray([[0, 2, 1], [1, -1, 0]], dtype="int16")
    for axis in (-1, 0, 1):
        found = backend.call(one_hot, backend.array(t), 3, axis=axis, ignore_index=-1, dtype="float32")
        same(backend, found, one_hot(t, 3, axis=axis, ignore_index=-1, dtype="float32"))
    prior = np.asarray([0.5, 0.25, 0.25])
    options: dict[str, Any] = {"num_classes": 3, "ignore_index": -1, "smoothing_prior": prior}
    same(backend, backend.call(smooth_labels, backend.array(t), 0.125, **options), smooth_labels(t, 0.125, **options))


def test_numpy_logits_beside_lazy_labels(backend: Backend) -> None:
    """§1.2: the result is dask's whichever argument was."""
    t = np.asarray([0, 1, 2])
    found = backend.call(cross_entropy, BLOCK[:3, 0], backend.array(t), reduction="none")
    same(backend, found, cross_entropy(BLOCK[:3, 0], t, reduction="none"))


def test_special_rows_without_warnings(backend: Backend) -> None:
    """The table of §2, computed in blocks; NumPy has nothing to warn of (warnings are errors here)."""
    x = np.asarray([[-INF] * 3, [0, INF, 1], [NAN, 0, 0], [-INF, 0, 0], [1e308, -1e308, 0], [0, 0, 0]])
    t = np.asarray([0, 0, 0, 0, 1, 2])
    for function in (softmax, log_softmax, softmin, logsumexp):
        same(backend, backend.call(function, backend.array(x)), function(x))
    found = backend.call(cross_entropy, backend.array(x), backend.array(t), reduction="none")
    same(backend, found, cross_entropy(x, t, reduction="none"))
    assert np.isnan(backend.numpy(found)).tolist() == [True, True, True, False, False, False]


def test_values_are_exact(backend: Backend) -> None:
    """Not only NumPy's: right."""
    case = CASES[0]
    given = case.arrays("float32")
    found = backend.call(cross_entropy, backend.array(given["logits"]), given["labels"], reduction="none")
    assert_ulps(backend.numpy(found), exact(case, "float32").rows, dtype="float32", bound=4.0)


def test_an_empty_batch(backend: Backend) -> None:
    x = backend.xp.zeros((0, 3), dtype="float32", chunks=(1, 3))
    t = backend.xp.zeros((0,), dtype="int32", chunks=1)
    assert backend.numpy(backend.call(softmax, x)).shape == (0, 3)
    assert float(backend.numpy(backend.call(cross_entropy, x, t))) == 0.0


def test_no_batch(backend: Backend) -> None:
    """One example alone, with a 0-d label or a Python int."""
    x = np.asarray([0.5, -1.25, 2])
    for label in (2, np.asarray(2), backend.array(2, "int32")):
        found = backend.call(cross_entropy, backend.array(x), label)
        assert float(backend.numpy(found)) == pytest.approx(float(cross_entropy(x, 2)), rel=1e-15)


def test_the_graph_stays_small(backend: Backend) -> None:
    """A handful of layers a call, not one for every step of the formula."""
    x = backend.array(BLOCK)
    assert len(backend.call(softmax, x).dask.layers) <= len(x.dask.layers) + 4
