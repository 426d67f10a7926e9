"""one_hot and smooth_labels: examples, invalid labels, regressions, on every backend."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from checks import assert_equal, assert_exact, assert_near, default_float, gradients
from matrix import Backend, numpy_dtype

from softxent import one_hot, smooth_labels

if TYPE_CHECKING:
    from pathlib import Path

INF, NAN = math.inf, math.nan
AUTODIFF = pytest.mark.backends("autodiff")

Y = np.array([2, 0, 1, 0])
Q = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.0, 0.875], [0.0, 0.0, 0.0]])


def labels_of(backend: Backend, values: Any = Y, dtype: str = "int32") -> Any:
    return backend.array(np.asarray(values), dtype)


# -- one_hot ----------------------------------------------------------------------------------------------------------


def test_one_hot_of_every_integer_dtype(backend: Backend, int_dtype: str) -> None:
    result = backend.call(one_hot, labels_of(backend, Y, int_dtype), 3)
    assert_exact(backend, result, np.eye(3)[Y], default_float(backend))


def test_one_hot_in_every_floating_dtype(backend: Backend, dtype: str) -> None:
    for asked in (dtype, backend.dtype(dtype)):
        result = backend.call(one_hot, labels_of(backend), 3, dtype=asked)
        assert_equal(backend, result, np.eye(3)[Y].astype(numpy_dtype(dtype)))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_one_hot_puts_the_class_axis_anywhere(backend: Backend, axis: int) -> None:
    y = np.array([[2, 0, 1], [1, 1, 3]])
    result = backend.call(one_hot, labels_of(backend, y), 4, axis=axis, dtype="float32")
    assert_equal(backend, result, np.moveaxis(np.eye(4, dtype=np.float32)[y], -1, axis))


def test_one_hot_of_one_label(backend: Backend) -> None:
    for axis in (0, -1):
        result = backend.call(one_hot, labels_of(backend, 2), 3, axis=axis, dtype="float32")
        assert_equal(backend, result, np.array([0, 0, 1], dtype=np.float32))


@pytest.mark.backends("numpy")
def test_one_hot_of_a_numpy_scalar(backend: Backend) -> None:
    assert_equal(backend, one_hot(np.uint8(1), 2), np.array([0.0, 1.0]))


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)], ids=str)
def test_one_hot_of_no_labels(backend: Backend, shape: tuple[int, ...]) -> None:
    result = backend.call(one_hot, labels_of(backend, np.zeros(shape)), 3, dtype="float32")
    assert_equal(backend, result, np.zeros((*shape, 3), dtype=np.float32))


def test_one_hot_of_no_classes(backend: Backend) -> None:
    result = backend.call(one_hot, labels_of(backend, [], "int32"), 0, dtype="float32")
    assert_equal(backend, result, np.zeros((0, 0), dtype=np.float32))
    result = backend.call(one_hot, labels_of(backend, [5, 5]), 0, ignore_index=5, dtype="float32")
    assert_equal(backend, result, np.zeros((2, 0), dtype=np.float32))


@pytest.mark.parametrize("bad", [-1, 3, 120])
def test_one_hot_of_labels_out_of_range(backend: Backend, int_dtype: str, bad: int) -> None:
    if bad < np.iinfo(int_dtype).min:
        return
    y = labels_of(backend, [2, bad, 0], int_dtype)
    if backend.readable:
        with pytest.raises(ValueError, match=rf"labels must be from 0 to 2, got {bad} at .*\b1\b"):
            backend.call(one_hot, y, 3)
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        one_hot(y, 3, check=True)
    result = backend.call(one_hot, y, 3, check=False, dtype="float32")
    assert_exact(backend, result, [[0.0, 0.0, 1.0], [NAN] * 3, [1.0, 0.0, 0.0]])


@pytest.mark.parametrize("index", [-100, -1, 0, 255, 2**32 - 1, 2**40, 2**64 - 1])
def test_one_hot_with_an_ignored_label(backend: Backend, int_dtype: str, index: int) -> None:
    info = np.iinfo(int_dtype)
    expected = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    y = np.array([2, 0, 1], dtype=int_dtype)
    if info.min <= index <= info.max:
        y[1] = index
        expected[1] = 0
    result = backend.call(one_hot, labels_of(backend, y, int_dtype), 3, ignore_index=index, dtype="float32")
    assert_equal(backend, result, expected)


def test_one_hot_with_an_ignored_label_as_an_array(backend: Backend) -> None:
    result = backend.call(one_hot, labels_of(backend), 3, ignore_index=labels_of(backend, 0), dtype="float32")
    assert_equal(backend, result, np.eye(3, dtype=np.float32)[Y] * (Y != 0)[:, None].astype(np.float32))


def test_one_hot_of_more_classes_than_the_dtype_holds(backend: Backend) -> None:
    result = backend.call(one_hot, labels_of(backend, [255, 44], "uint8"), 300, dtype="float32")
    assert_equal(backend, result, np.eye(300, dtype=np.float32)[[255, 44]])


@pytest.mark.backends("jax", "numpy", "torch", "dask")
def test_one_hot_refuses_what_is_no_label(backend: Backend) -> None:
    for dtype in ("float32", "bool"):
        with pytest.raises(TypeError, match="labels"):
            backend.call(one_hot, labels_of(backend, [0, 1], dtype), 3)
    with pytest.raises(ValueError, match="num_classes"):
        backend.call(one_hot, labels_of(backend), -1)
    for axis in (2, -3):
        with pytest.raises(ValueError, match="axis"):
            backend.call(one_hot, labels_of(backend), 3, axis=axis)
    with pytest.raises(TypeError, match="dtype"):
        backend.call(one_hot, labels_of(backend), 3, dtype="int32")


@pytest.mark.backends("jax")
def test_one_hot_in_a_trace(backend: Backend) -> None:
    import jax

    result = jax.jit(partial(one_hot, num_classes=3, dtype="float32"))(labels_of(backend, [2, -1, 3]))
    assert_exact(backend, result, [[0.0, 0.0, 1.0], [NAN] * 3, [NAN] * 3])
    with pytest.raises(ValueError, match="check=True"):
        jax.jit(partial(one_hot, num_classes=3, check=True))(labels_of(backend))


# -- smooth_labels ----------------------------------------------------------------------------------------------------


def test_smooth_labels_by_hand(backend: Backend) -> None:
    expected = [[0.0625, 0.0625, 0.8125, 0.0625], [0.8125, 0.0625, 0.0625, 0.0625]]
    result = backend.call(smooth_labels, labels_of(backend, [2, 0]), 0.25, num_classes=4, dtype="float32")
    assert_exact(backend, result, expected, ulp=2)
    hot = np.eye(4)[[2, 0]]
    result = backend.call(smooth_labels, backend.array(hot, "float32"), 0.25)
    assert_exact(backend, result, expected, ulp=2)


def test_smooth_labels_of_every_floating_dtype(backend: Backend, dtype: str) -> None:
    result = backend.call(smooth_labels, backend.array(Q, dtype), 0.25)
    assert_exact(backend, result, oracle.smooth_labels(Q, 0.25), dtype, ulp=None if "16" in dtype else 2)
    result = backend.call(smooth_labels, labels_of(backend), 0.25, num_classes=3, dtype=dtype)
    expected = oracle.smooth_labels(Y, 0.25, num_classes=3)
    assert_exact(backend, result, expected, dtype, ulp=None if "16" in dtype else 2)


def test_smooth_labels_of_every_integer_dtype(backend: Backend, int_dtype: str) -> None:
    result = backend.call(smooth_labels, labels_of(backend, Y, int_dtype), 0.25, num_classes=3)
    assert_exact(backend, result, oracle.smooth_labels(Y, 0.25, num_classes=3), default_float(backend), ulp=2)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 0.1])
def test_smooth_labels_from_nothing_to_the_prior(backend: Backend, epsilon: float) -> None:
    result = backend.call(smooth_labels, backend.array(Q, "float32"), epsilon)
    exact = oracle.smooth_labels(Q, epsilon)
    assert_exact(backend, result, exact, ulp=4)


def test_smooth_labels_one_epsilon_an_example(backend: Backend) -> None:
    epsilon = np.array([0.0, 0.25, 0.5, 1.0])
    for labels, options in ((Q, {}), (Y, {"num_classes": 3, "dtype": "float32"})):
        given = backend.array(labels, "float32" if labels is Q else "int32")
        result = backend.call(smooth_labels, given, backend.array(epsilon, "float32"), **options)
        expected = oracle.smooth_labels(labels, epsilon, num_classes=None if labels is Q else 3)
        assert_exact(backend, result, expected, ulp=2)
    number = backend.numpy(backend.call(smooth_labels, backend.array(Q, "float32"), 0.25))
    for same in (backend.array(0.25, "float32"), backend.array(np.full(4, 0.25), "float32")):
        assert_equal(backend, backend.call(smooth_labels, backend.array(Q, "float32"), same), number)


@pytest.mark.parametrize("axis", [0, 1, 2, -2], ids=str)
def test_smooth_labels_along_an_axis(backend: Backend, axis: int) -> None:
    y = np.array([[2, 0, 1], [1, 1, 3]])
    result = backend.call(smooth_labels, labels_of(backend, y), 0.25, num_classes=4, axis=axis, dtype="float32")
    expected = np.moveaxis(np.eye(4)[y] * 0.75 + 0.0625, -1, axis)
    assert_exact(backend, result, expected, ulp=2)
    hot = np.moveaxis(np.eye(4)[y], -1, axis)
    assert_exact(backend, backend.call(smooth_labels, backend.array(hot, "float32"), 0.25, axis=axis), expected, ulp=2)


@pytest.mark.parametrize("axis", [(0, 2), (2, 0), None, ()], ids=str)
def test_smooth_labels_over_several_axes(backend: Backend, axis: Any) -> None:
    q = np.arange(12.0).reshape(2, 3, 2) / 64
    layout = oracle.Layout(q.shape, axis)
    prior = np.arange(layout.classes) % 3 + 1.0
    result = backend.call(
        smooth_labels, backend.array(q, "float32"), 0.5, axis=axis, smoothing_prior=backend.array(prior, "float32")
    )
    assert_exact(backend, result, oracle.smooth_labels(q, 0.5, axis=axis, smoothing_prior=prior), ulp=4)


@pytest.mark.parametrize(
    "where",
    [
        [True, False, True, True],
        [[True, False, True]],
        [[True], [False], [True], [True]],
        [[True, True, False], [True] * 3, [False] * 3, [True, True, True]],
    ],
    ids=str,
)
def test_smooth_labels_with_where(backend: Backend, where: Any) -> None:
    """Classes that take no part get nothing of ε; an example that takes none is a row of 0."""
    mask = np.array(where)
    for prior in (None, np.array([1.0, 5.0, 3.0]), np.array([0.0, 1.0, 0.0])):
        options = {"where": backend.array(mask)}
        if prior is not None:
            options["smoothing_prior"] = backend.array(prior, "float32")
        for labels, also in ((Q, {}), (Y, {"num_classes": 3, "dtype": "float32"})):
            given = backend.array(labels, "float32" if labels is Q else "int32")
            result = backend.call(smooth_labels, given, 0.25, **options, **also)
            expected = oracle.smooth_labels(
                labels, 0.25, where=mask, smoothing_prior=prior, num_classes=None if labels is Q else 3
            )
            assert_exact(backend, result, expected, ulp=4)


def test_smooth_labels_where_as_a_scalar(backend: Backend) -> None:
    q = backend.array(Q, "float32")
    for where in (True, backend.array(np.ones((), dtype=bool))):
        assert_exact(backend, backend.call(smooth_labels, q, 0.25, where=where), oracle.smooth_labels(Q, 0.25), ulp=2)
    assert_exact(backend, backend.call(smooth_labels, q, 0.25, where=False), np.zeros((4, 3)))


def test_smooth_labels_of_what_takes_no_part_is_0(backend: Backend) -> None:
    y = labels_of(backend, [2, -100, 0])
    result = backend.call(smooth_labels, y, 0.75, num_classes=3, ignore_index=-100, dtype="float32")
    assert_exact(backend, result, [[0.25, 0.25, 0.5], [0.0] * 3, [0.5, 0.25, 0.25]], ulp=2)
    q = backend.array([[NAN, 1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
    result = backend.call(smooth_labels, q, 0.75, where=backend.array([False, True]))
    assert_exact(backend, result, [[0.0] * 3, [0.5, 0.25, 0.25]], ulp=2)


def test_smooth_labels_out_of_range(backend: Backend) -> None:
    y = labels_of(backend, [2, 3, -1])
    if backend.readable:
        with pytest.raises(ValueError, match=r"got 3 at .*\b1\b"):
            backend.call(smooth_labels, y, 0.25, num_classes=3)
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        smooth_labels(y, 0.25, num_classes=3, check=True)
    result = backend.call(smooth_labels, y, 0.75, num_classes=3, check=False, dtype="float32")
    assert_exact(backend, result, [[0.25, 0.25, 0.5], [NAN] * 3, [NAN] * 3], ulp=2)


def test_smooth_labels_are_taken_as_they_are_unless_checked(backend: Backend) -> None:
    q = np.array([[0.5, 1.0, 0.0]])
    given = backend.array(q, "float32")
    assert_exact(backend, backend.call(smooth_labels, given, 0.5), oracle.smooth_labels(q, 0.5), ulp=2)
    with pytest.raises(ValueError, match="labels"):
        smooth_labels(given, 0.5, check=True)
    with pytest.raises(ValueError, match="label_smoothing"):
        smooth_labels(backend.array(Q[:3], "float32"), backend.array([0.5, 1.5, 0.0], "float32"), check=True)
    with pytest.raises(ValueError, match="smoothing_prior"):
        smooth_labels(
            backend.array(Q[:3], "float32"), 0.5, smoothing_prior=backend.array([-1.0, 1.0, 1.0], "float32"), check=True
        )
    assert_exact(
        backend,
        smooth_labels(backend.array(Q, "float32"), 0.5, check=True),
        oracle.smooth_labels(Q, 0.5),
        ulp=2,
    )


def test_smooth_labels_refuses_what_has_no_meaning(backend: Backend) -> None:
    q, y = backend.array(Q, "float32"), labels_of(backend)
    for bad in (-0.1, 1.5, NAN, INF, None):
        with pytest.raises((ValueError, TypeError), match="label_smoothing"):
            backend.call(smooth_labels, q, bad)
    with pytest.raises(ValueError, match="num_classes"):
        backend.call(smooth_labels, y, 0.5)
    with pytest.raises(ValueError, match="num_classes"):
        backend.call(smooth_labels, q, 0.5, num_classes=3)
    with pytest.raises(ValueError, match="ignore_index"):
        backend.call(smooth_labels, q, 0.5, ignore_index=1)
    with pytest.raises(ValueError, match="smoothing_prior"):
        backend.call(smooth_labels, q, 0.5, smoothing_prior=backend.array([1.0, 2.0], "float32"))
    with pytest.raises(ValueError, match="axis"):
        backend.call(smooth_labels, y, 0.5, num_classes=3, axis=2)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_smooth_labels_of_nothing(backend: Backend, shape: tuple[int, int]) -> None:
    result = backend.call(smooth_labels, backend.array(np.zeros(shape), "float32"), 0.5)
    assert_exact(backend, result, np.zeros(shape))
    y = labels_of(backend, np.zeros(shape[0]))
    result = backend.call(smooth_labels, y, 0.5, num_classes=shape[1], ignore_index=0, dtype="float32")
    assert_exact(backend, result, np.zeros(shape))


def test_labels_are_never_written_to(backend: Backend) -> None:
    q, y = backend.array(Q, "float32"), labels_of(backend)
    mask, prior = backend.array([[True, False, True]]), backend.array([1.0, 2.0, 3.0], "float32")
    backend.call(smooth_labels, q, 0.0)
    backend.call(smooth_labels, q, 0.5, where=mask, smoothing_prior=prior)
    backend.call(smooth_labels, y, 0.5, num_classes=3, where=mask, smoothing_prior=prior)
    backend.call(one_hot, y, 3, ignore_index=0)
    assert_equal(backend, q, Q.astype(np.float32))
    assert_equal(backend, y, Y.astype(np.int32))
    assert_equal(backend, mask, np.array([[True, False, True]]))
    assert_equal(backend, prior, np.array([1, 2, 3], dtype=np.float32))


@pytest.mark.backends("numpy-readonly")
def test_memory_maps(backend: Backend, tmp_path: Path) -> None:
    Q.astype(np.float32).tofile(tmp_path / "labels")
    mapped = np.memmap(tmp_path / "labels", dtype=np.float32, mode="r", shape=Q.shape)
    result = smooth_labels(mapped, 0.25)
    assert type(result) is np.ndarray
    assert_exact(backend, result, oracle.smooth_labels(Q, 0.25), ulp=2)


@AUTODIFF
def test_derivatives_of_smoothing(backend: Backend) -> None:
    """By q: 1 - ε. By ε: u - q. By a prior v with mass V: ε (g - Σ g v / V) / V."""
    g = np.array([[1.0, 2.0, -4.0]])
    q, epsilon, prior = np.array([[0.5, 0.5, 0.0]]), np.array([0.25]), np.array([1.0, 0.0, 3.0])
    by_q, by_epsilon, by_prior = gradients(
        backend,
        lambda q, epsilon, prior: smooth_labels(q, epsilon, smoothing_prior=prior),
        *(backend.array(value, "float32") for value in (q, epsilon, prior)),
        cotangent=g,
    )
    u = prior / 4
    assert_near(by_q, 0.75 * g)
    assert_near(by_epsilon, np.sum(g * (u - q), axis=1))
    assert_near(by_prior, 0.25 * (g[0] - np.sum(g[0] * u)) / 4)


# -- regressions ------------------------------------------------------------------------------------------------------


def test_smoothing_of_integer_labels_without_one_hot__optax_1486(backend: Backend) -> None:
    hard = backend.call(smooth_labels, labels_of(backend), 0.25, num_classes=3, dtype="float32")
    soft = backend.call(smooth_labels, backend.call(one_hot, labels_of(backend), 3, dtype="float32"), 0.25)
    assert_equal(backend, hard, backend.numpy(soft))


def test_smoothing_counts_the_class_axis__keras_3_15(backend: Backend) -> None:
    q = np.eye(2)[[0, 1, 1, 0, 1]].T  # classes first: two of them, five examples
    result = backend.call(smooth_labels, backend.array(q, "float32"), 0.5, axis=0)
    assert_exact(backend, result, q * 0.5 + 0.25)


def test_smoothing_leaves_padded_classes_at_0__annotated_transformer_109(backend: Backend) -> None:
    result = backend.call(
        smooth_labels,
        labels_of(backend, [0]),
        0.5,
        num_classes=3,
        where=backend.array([[True, True, False]]),
        dtype="float32",
    )
    assert_exact(backend, result, [[0.75, 0.25, 0.0]])


def test_ignored_labels_are_not_smoothed__pytorch_69339(backend: Backend) -> None:
    y = labels_of(backend, [-100, 1])
    result = backend.call(smooth_labels, y, 0.5, num_classes=2, ignore_index=-100, dtype="float32")
    assert_exact(backend, result, [[0.0, 0.0], [0.25, 0.75]])
