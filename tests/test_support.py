"""What the README's table of libraries says, one test a column: `docs/support_table.py` makes its cells of them.

A library says in `matrix` by what means it does what a column is about; where it names none, nothing is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from checks import assert_exact, gradients, hessian
from matrix import FRAMEWORKS, numpy_dtype
from mpmath import mp

from softxent import cross_entropy, softmax, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

SURE, LABEL = [40, 0, 0], 0
ROWS, LABELS = [[0.5, -1.25, 2.0], [40.0, 0.0, 0.0]], [2, 0]
ANY_FLOAT = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-20, "float64": 2.0**-49}


def by(means: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Collects a test where the library has such means."""
    return pytest.mark.means(means)


def test_values(backend: Backend, dtype: str) -> None:
    """log1p(2 e^-40) to the last digit."""
    loss = backend.call(cross_entropy, backend.array(SURE, dtype), backend.array(LABEL, "int32"))
    assert_exact(backend, loss, mp.log1p(2 * mp.exp(-40)), "float64" if dtype == "float64" else "float32")


@by("gradient")
def test_gradient(backend: Backend, dtype: str) -> None:
    """The library's own, to the last digits at the label too, and what value_and_grad has."""
    labels = backend.array(LABEL, "int32")
    (found,) = gradients(backend, lambda x: cross_entropy(x, labels), backend.array(SURE, dtype))
    exact = [-2 / (mp.exp(40) + 2), 1 / (mp.exp(40) + 2), 1 / (mp.exp(40) + 2)]
    at_most = 2.0**-24 if dtype == "float16" else 0.0  # of which e^-40 is nothing
    np.testing.assert_allclose(
        found.astype("float64"), np.asarray(exact, "float64"), rtol=ANY_FLOAT[dtype], atol=at_most
    )
    assert found.dtype == numpy_dtype(dtype)
    _, ours = backend.call(value_and_grad(cross_entropy), backend.array(SURE, dtype), labels)
    np.testing.assert_array_equal(backend.numpy(ours), found)


@by("second order")
def test_second_order(backend: Backend) -> None:
    """diag(p) - p pᵀ."""
    x, label = backend.array(ROWS[0], "float32"), backend.array(LABEL, "int32")
    p = np.exp(ROWS[0]) / np.sum(np.exp(ROWS[0]))
    found = hessian(backend, lambda x: cross_entropy(x, label), x)
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), rtol=2e-6)


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")  # Paddle's own, of its own functions
@by("compiled")
def test_compiled(backend: Backend) -> None:
    """The value that eager calls have."""
    x, labels = backend.array(ROWS, "float32"), backend.array(LABELS, "int32")

    def losses(x: object) -> object:
        return cross_entropy(x, labels, reduction="none")

    expected = backend.numpy(backend.call(losses, x))
    np.testing.assert_allclose(backend.numpy(backend.fused(losses)(x)), expected, rtol=2e-6)


@by("lazy")
def test_lazy(backend: Backend) -> None:
    """64 GiB of logits are no obstacle to what nobody looks at."""
    shape = (2**20, 2**14)
    assert tuple(backend.call(softmax, backend.promised(shape)).shape) == shape


def test_every_framework_has_a_row() -> None:
    assert {"tensorflow", "paddle", "mlx", "autograd", "ndonnx"} == set(FRAMEWORKS)
