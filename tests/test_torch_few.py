"""Few classes on torch: worked on by NumPy in the same memory, with torch's own number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matrix import load

from softxent import cross_entropy, log_softmax, logsumexp, softmax, workers
from softxent.backends import backend_of, blocks
from softxent.backends import torch as torch_backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = pytest.mark.backends("torch")

ROWS, CLASSES = 1_500, 7
LOGITS = np.random.default_rng(4).normal(scale=5.0, size=(ROWS, CLASSES))
LABELS = np.arange(ROWS) % CLASSES
MATRICES: tuple[Callable[..., Any], ...] = (softmax, log_softmax, logsumexp)


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads NumPy was allowed, each time that it was lent torch's memory."""
    calls: list[int] = []
    of_given = torch_backend._threads

    def threads() -> Any:
        calls.append(min(load("torch").xp.get_num_threads(), workers.allowed()))
        return of_given()

    monkeypatch.setattr(torch_backend, "_threads", threads)
    return calls


@pytest.mark.dtypes("float16", "float32", "float64")
@pytest.mark.parametrize("function", MATRICES)
def test_bits_are_those_of_numpy(backend: Backend, dtype: str, function: Callable[..., Any], lent: list[int]) -> None:
    found = function(backend.array(LOGITS, dtype))
    np.testing.assert_array_equal(backend.numpy(found), function(LOGITS.astype(dtype)))
    assert lent == [1]


@pytest.mark.dtypes("bfloat16")
@pytest.mark.parametrize("function", MATRICES)
def test_what_numpy_has_not_stays_with_torch(
    backend: Backend, dtype: str, function: Callable[..., Any], lent: list[int]
) -> None:
    x = backend.array(LOGITS, dtype)
    np.testing.assert_allclose(
        backend.numpy(function(x).float()), backend.numpy(function(x.double()).float()), rtol=2**-8
    )
    assert len(lent) == 1  # for the float64 beside it


@pytest.mark.dtypes("float32", "float64")
def test_gradient_is_that_of_numpy_and_of_torch(
    backend: Backend, dtype: str, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = backend.xp
    monkeypatch.setattr(torch_backend.Backend, "small", 0)

    def both(weight: Any) -> tuple[Any, Any]:
        x = backend.array(LOGITS, dtype).requires_grad_()
        loss = cross_entropy(x, torch.from_numpy(LABELS), weight=weight, temperature=1.5)
        loss.backward()
        return loss.detach(), x.grad

    weight = backend.array(np.linspace(0.5, 2.0, CLASSES), dtype)
    by_numpy = both(weight)
    assert lent
    times = len(lent)
    monkeypatch.setattr(blocks.Backend, "few", 0)
    for one, other in zip(by_numpy, both(weight), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=40 * torch.finfo(one.dtype).eps, atol=0.0)
    assert len(lent) == times


@pytest.mark.parametrize("mine", [1, 2, 5])
@pytest.mark.parametrize("torchs", [1, 3])
def test_threads_are_no_more_than_either_has(backend: Backend, mine: int, torchs: int, lent: list[int]) -> None:
    torch = backend.xp
    seen: list[int] = []

    def in_turn(work: Callable[[int], None], count: int) -> None:
        seen.append(workers.allowed())
        for n in range(count):
            work(n)

    before = torch.get_num_threads()
    torch.set_num_threads(torchs)
    try:
        with workers.threads(mine), pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "in_parallel", in_turn)
            softmax(torch.zeros((200_000, 3)))
        assert workers.allowed() >= 1
    finally:
        torch.set_num_threads(before)
    assert lent == seen == [min(mine, torchs)]


def test_views_that_torch_negates_when_asked(backend: Backend, lent: list[int]) -> None:
    torch = backend.xp
    x = backend.array(LOGITS, "float32")
    negated = torch.complex(torch.zeros_like(x), x).conj().imag
    assert negated.is_neg()
    torch.testing.assert_close(softmax(negated), softmax(-x), rtol=0.0, atol=0.0)
    assert lent == [1, 1]


def test_tensors_without_memory_stay_with_torch(backend: Backend, lent: list[int]) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        p = softmax(backend.xp.zeros((ROWS, CLASSES)))
    assert p.shape == (ROWS, CLASSES)
    assert lent == []


def test_torch_does_without_numpy(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    x = backend.array(LOGITS, "float64")
    by_numpy = softmax(x)
    monkeypatch.setattr(torch_backend, "_numpy", None)
    ops = backend_of(x)
    assert ops is not None
    backend.xp.testing.assert_close(softmax(x), by_numpy, rtol=1e-14, atol=0.0)
