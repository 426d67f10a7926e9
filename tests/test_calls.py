"""Calls that are like earlier ones: nothing but the checks is remembered."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matrix import load

from softxent import cross_entropy, log_softmax, logsumexp, softmax, softmin, value_and_grad
from softxent.calls import _MOST, Call, remembered
from softxent.categorical import cross_entropy_call
from softxent.normalizers import softmax_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

DEFAULTS: dict[str, Any] = {"axis": -1, "where": None, "temperature": None, "dtype": None}


def counted(make: Callable[..., Call]) -> tuple[Callable[..., Call], list[Any]]:
    """A maker that remembers, and what it was asked to check so far."""
    checks: list[Any] = []

    @remembered("logits")
    def call(logits: Any, **options: Any) -> Call:
        checks.append(logits)
        return make.__wrapped__(logits, **options)  # type: ignore[attr-defined, no-any-return]

    return call, checks


@pytest.mark.backends("numpy", "torch", "jax")
def test_equal_traits_are_checked_once(backend: Backend) -> None:
    call, checks = counted(softmax_call)
    for value in ([1.0, 2.0], [3.0, 5.0]):
        x = backend.array([value], "float32")
        found = backend.numpy(call(x, **DEFAULTS).value())
        np.testing.assert_array_equal(found, backend.numpy(softmax(x)))
    assert len(checks) == 1


@pytest.mark.backends("numpy", "torch", "jax")
def test_other_traits_are_checked_again(backend: Backend) -> None:
    call, checks = counted(softmax_call)
    given: tuple[tuple[Any, dict[str, Any]], ...] = (
        (backend.array([[1.0, 2.0]], "float32"), {}),
        (backend.array([[1.0, 2.0]], "float16"), {}),
        (backend.array([[1, 2]], "int32"), {}),
        (backend.array([1.0, 2.0], "float32"), {}),
        (backend.array([[1.0, 2.0]], "float32"), {"axis": 0}),
        (backend.array([[1.0, 2.0]], "float32"), {"axis": None}),
        (backend.array([[1.0, 2.0]], "float32"), {"temperature": 2.0}),
        (backend.array([[1.0, 2.0]], "float32"), {"temperature": 3.0}),
    )
    for x, options in given:
        call(x, **{**DEFAULTS, **options})
    assert len(checks) == len(given)


@pytest.mark.backends("numpy", "torch", "jax")
def test_options_that_are_arrays_are_looked_at_each_time(backend: Backend) -> None:
    call, checks = counted(softmax_call)
    x = backend.array([[1.0, 2.0]], "float32")
    for kept, p in (([True, True], [0.26894143, 0.7310586]), ([False, True], [0.0, 1.0])):
        options = {**DEFAULTS, "where": backend.array(kept, "bool")}
        np.testing.assert_allclose(backend.numpy(call(x, **options).value()), [p], rtol=1e-6)
    assert len(checks) == 2


def test_equal_options_of_another_class_are_refused_still(backend: Backend) -> None:
    x = backend.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    softmax(x, axis=1)
    for axis in (True, 1.0):
        with pytest.raises(ValueError, match="axis must be an int"):
            softmax(x, axis=axis)  # type: ignore[arg-type]
    logsumexp(x, keepdims=False)
    with pytest.raises(TypeError, match="keepdims must be True or False"):
        logsumexp(x, keepdims=0)  # type: ignore[arg-type]


@pytest.mark.backends("numpy", "torch", "jax")
def test_labels_are_looked_at_each_time(backend: Backend) -> None:
    x = backend.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], "float32")
    right, wrong = backend.array([0, 2], "int32"), backend.array([0, 3], "int32")
    first = cross_entropy(x, right)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        cross_entropy(x, wrong)
    assert backend.numpy(cross_entropy(x, right)) == backend.numpy(first)


@pytest.mark.backends("numpy", "torch", "jax")
def test_a_call_whose_labels_were_ignored_is_no_excuse_for_others(backend: Backend) -> None:
    x = backend.array([[2.0, 0.0], [0.0, 3.0]], "float32")
    for labels, expected in (
        ([0, 1], [0.126928, 0.04858735]),
        ([0, -1], [0.126928, 0.0]),
        ([0, 1], [0.126928, 0.04858735]),
    ):
        loss = cross_entropy(x, backend.array(labels, "int32"), ignore_index=-1, reduction="none")
        np.testing.assert_allclose(backend.numpy(loss), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="labels must be from 0 to 1, got 2 at position 1"):
        cross_entropy(x, backend.array([0, 2], "int32"), ignore_index=-1, reduction="none")


@pytest.mark.backends("numpy", "torch", "jax")
def test_no_array_is_kept(backend: Backend) -> None:
    x = backend.array(np.arange(7.0).reshape(1, 7), "float32")
    gone = weakref.ref(x)
    softmax(x)
    value_and_grad(cross_entropy)(x, backend.array([1], "int32"))
    del x
    gc.collect()
    assert gone() is None


def test_so_many_are_remembered_and_no_more() -> None:
    call, checks = counted(softmax_call)
    for rows in range(_MOST + 1):
        call(np.zeros((rows, 2)), **DEFAULTS)
    call(np.zeros((_MOST, 2)), **DEFAULTS)
    assert len(checks) == _MOST + 1
    call(np.zeros((0, 2)), **DEFAULTS)
    assert len(checks) == _MOST + 2


@pytest.mark.backends("torch")
def test_torch_default_dtype_is_asked_each_time(backend: Backend) -> None:
    torch = backend.xp
    x = backend.array([[1, 2]], "int32")
    assert softmax(x).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert softmax(x).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.backends("torch")
def test_what_inference_mode_made_serves_nobody_else(backend: Backend) -> None:
    torch = backend.xp
    x, labels = backend.array([[1.0, 2.0, 4.0]], "float32"), backend.array([1], "int64")
    options: dict[str, Any] = {"sample_weight": 2.0, "denominator": "count"}
    with torch.inference_mode():
        cross_entropy(x, labels, **options)
    x.requires_grad_()
    cross_entropy(x, labels, **options).backward()
    np.testing.assert_allclose(backend.numpy(x.grad.sum()), 0.0, atol=1e-6)


def test_arrays_may_be_given_by_name() -> None:
    x, labels = np.asarray([[1.0, 2.0]]), np.asarray([1])
    options: dict[str, Any] = dict.fromkeys(
        ("where", "ignore_index", "weight", "sample_weight", "label_smoothing", "smoothing_prior", "temperature")
    )
    options |= dict.fromkeys(("softcap", "z_loss", "aux", "check", "dtype"))
    options |= {"axis": -1, "reduction": "mean", "denominator": "weight", "empty_mean": "zero"}
    by_name = cross_entropy_call(logits=x, labels=labels, **options).value()
    assert by_name == cross_entropy_call(x, labels, **options).value() == cross_entropy(x, labels)


def test_libraries_are_not_taken_for_one_another() -> None:
    for name in ("numpy", "strict", "numpy"):
        member = load(name)
        x = member.array([[1.0, 2.0]], "float32")
        assert type(softmax(x)) is type(x)


@pytest.mark.backends("torch")
def test_calls_compile_after_many_others(backend: Backend) -> None:
    torch = backend.xp
    x = np.asarray([[1.0, 2.0]], dtype="float32")
    for function in (softmax, log_softmax, softmin, logsumexp):
        for size in range(1, _MOST):  # keys with dtypes, which a compiler cannot compare
            function(x[:, :1] * np.ones(size, dtype="float32"))
        expected = function(x)
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        np.testing.assert_allclose(backend.numpy(compiled(backend.array(x))), expected, rtol=1e-6)
