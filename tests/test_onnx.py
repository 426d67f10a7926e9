"""Models exported by ndonnx and run by onnxruntime: every function, any number of rows, the digits of NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from every import COUNTED, EVERY, LABELS, WEIGHTS, X
from ulps import error, exactly

from softxent import cross_entropy, log_softmax, softmax, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

pytestmark = pytest.mark.backends("ndonnx")


class Model:
    """A function of arrays with any number of rows, or as many as they have, as an ONNX model."""

    def __init__(
        self, backend: Backend, function: Callable[..., Any], *like: NumPy, fixed: Collection[int] = ()
    ) -> None:
        import onnxruntime as ort

        names = [f"input_{n}" for n in range(len(like))]
        inputs = {
            name: backend.xp.argument(
                shape=(len(x) if n in fixed else "rows", *x.shape[1:]), dtype=backend.dtype(x.dtype.name)
            )
            for n, (name, x) in enumerate(zip(names, like, strict=True))
        }
        found = function(*inputs.values())
        outputs = found if isinstance(found, tuple) else (found,)
        model = backend.xp.build(inputs, {f"output_{n}": y for n, y in enumerate(outputs)})
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.names = names

    def __call__(self, *arrays: NumPy) -> Any:
        found = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return tuple(found) if len(found) > 1 else found[0]


def test_the_digits_that_everybody_loses(backend: Backend) -> None:
    x, label = np.asarray([[40, 0, 0]], dtype="float32"), np.asarray([0], dtype="int64")
    loss, gradient = Model(backend, value_and_grad(cross_entropy), x, label)(x, label)
    np.testing.assert_allclose(loss, 8.496708e-18, rtol=3e-7)
    np.testing.assert_allclose(gradient, [[-8.496708e-18, 4.248354e-18, 4.248354e-18]], rtol=3e-7)
    assert loss.dtype == gradient.dtype == np.float32


@pytest.mark.parametrize("name", EVERY)
def test_every_function(backend: Backend, name: str) -> None:
    """What NumPy has, for any number of rows. Entries of segments are counted beforehand."""
    function, arrays = EVERY[name]
    fixed = range(len(arrays)) if name in COUNTED else WEIGHTS.get(name, ())
    model = Model(backend, function, *arrays, fixed=fixed)
    for repeated in (1,) if name in COUNTED else (1, 3):
        given = [x if n in fixed else np.concatenate([x] * repeated) for n, x in enumerate(arrays)]
        value = function(*given)
        room = 2e-6 * np.abs(np.asarray(value)).max()
        np.testing.assert_allclose(model(*given), value, rtol=4e-6, atol=room)
        assert model(*given).dtype == np.asarray(value).dtype


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_units_in_the_last_place(backend: Backend, dtype: str, function: Callable[..., Any]) -> None:
    """As far from NumPy's results as those may be from exact, on both sides: 4 + g units each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 7)).astype(dtype) * np.asarray(8, dtype=dtype)
    gaps = x.max(axis=-1, keepdims=True) - x
    model = Model(backend, function, x)
    off = error(model(x), exactly(function(x)), dtype)
    assert (off <= 2 * (4 + gaps)).all()


def test_units_of_losses(backend: Backend) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 7)).astype("float32") * np.float32(8)
    labels = rng.integers(0, 7, 200)
    rows = Model(backend, lambda x, y: cross_entropy(x, y, reduction="none"), x, labels)(x, labels)
    gaps = x.max(axis=-1) - x.min(axis=-1)
    off = error(rows, exactly(cross_entropy(x, labels, reduction="none")), "float32")
    assert (off <= 2 * (4 + gaps)).all()


def test_options_in_a_model(backend: Backend) -> None:
    """An ignored label, a mask of the rows, smoothing; wrong labels cannot be seen and give NaN."""
    where = np.asarray([True, True, False, True])

    def loss(x: Array, labels: Array, where: Array) -> Array:
        return cross_entropy(x, labels, where=where, ignore_index=-1, label_smoothing=0.125, reduction="none")

    model = Model(backend, loss, X, LABELS, where)
    labels = np.asarray([0, -1, 1, 2], dtype="int32")
    np.testing.assert_allclose(model(X, labels, where), loss(X, labels, where), rtol=2e-6)
    wrong = np.asarray([0, 3, 7, 2], dtype="int32")
    np.testing.assert_array_equal(np.isnan(model(X, wrong, where)), [False, True, False, False])


def test_no_rows(backend: Backend) -> None:
    model = Model(backend, softmax, X)
    assert model(X[:0]).shape == (0, 3)


def test_labels_are_looked_at_if_constants(backend: Backend) -> None:
    """With check=True; inputs of a model have no values to be looked at."""
    x, wrong = backend.array(X), backend.array([0, 3, 1, 0], "int64")
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        cross_entropy(x, wrong, check=True)
    with pytest.raises(ValueError, match="check=True must read the values of labels"):
        Model(backend, lambda x, y: cross_entropy(x, y, check=True), X, LABELS)
