"""The edges of backends and of the checks on labels: how a library is found, and values that are half known."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from softxent import cross_entropy, softmax
from softxent.backends import backend_of, generic
from softxent.backends.numpy import Backend as NumpyBackend
from softxent.backends.numpy import registered
from softxent.formulas import softmax as softmax_formula

if TYPE_CHECKING:
    from collections.abc import Collection

    from matrix import Backend

Array = Any


@pytest.mark.backends("strict")
def test_arrays_of_one_namespace_share_a_backend(backend: Backend) -> None:
    class One:
        def __array_namespace__(self, **_: Any) -> Any:
            return backend.xp

    class Another(One):
        pass

    assert backend_of(One()) is backend_of(Another()) is backend_of(backend.array([1.0], "float32"))


def test_a_backend_can_be_copied(backend: Backend) -> None:
    found = backend_of(backend.array([1.0], "float32"))
    assert found is not None
    assert copy.copy(found).namespace is found.namespace


@pytest.mark.backends("numpy")
def test_formulas_go_by_their_rules(backend: Backend) -> None:
    """Those of libraries that are told derivatives; by-products, and what nobody watches, by the value alone."""
    x, told = backend.array([1.0, 2.0], "float32"), []

    class Told(generic.Ruled):
        array = np.ndarray
        watched = True

        def watches(self, arrays: Collection[Array]) -> bool:
            return super().watches(arrays) and self.watched

        def by_rule(self, formula: Any, names: tuple[str, ...], options: dict[str, Any], *arrays: Array) -> Array:
            told.append((names, options))
            return formula.value(self, **dict(zip(names, arrays, strict=True)), **options)

    ops, dtypes = Told(np), {"dtype": x.dtype, "result": x.dtype}
    exact = backend_of(x).run(softmax_formula, {"logits": x, "temperature": 2.0}, axis=0, **dtypes)  # type: ignore[union-attr] # it has one
    for watched, by_products in ((True, False), (True, True), (False, False)):
        ops.watched = watched
        given = {"logits": x, "temperature": 2.0}
        found = ops.run(softmax_formula, given, axis=0, by_products=by_products, **dtypes)
        np.testing.assert_allclose(found, exact, rtol=2e-7)
    assert told == [(("logits",), {"temperature": 2.0, "axis": 0, **dtypes})]


def test_numpy_knows_dtypes_that_are_registered_with_it() -> None:
    assert registered("float32", None) == np.float32
    assert registered("no such dtype", np.float32) == np.float32
    assert registered("no such dtype", "no such dtype") is None


@pytest.mark.backends("numpy")
def test_only_a_block_remembers_where_entries_lie(backend: Backend) -> None:
    """What all threads share keeps nothing of a call, and finds the same."""
    x, index = backend.array([[3.0, 1.0], [2.0, 5.0]], "float32"), backend.array([[1], [0]])
    shared = backend_of(x)
    assert isinstance(shared, NumpyBackend)
    block = shared.of_one_block(None)
    ids = backend.array([1, 0])
    for ops in (shared, block):
        np.testing.assert_array_equal(ops.take_along_axis(x, index, axis=-1), [[1.0], [2.0]])
        np.testing.assert_array_equal(ops.segment_sum(x, ids, 2, axis=0), [[2.0, 5.0], [3.0, 1.0]])
    assert shared._last is None
    assert shared._groups is None
    assert block._last is not None
    assert block._groups is not None


@pytest.mark.backends("dask")
def test_dask_blocks_have_to_be_arrays(backend: Backend) -> None:
    x = backend.array([[1.0, 2.0]], "float32")
    lists = x.map_blocks(lambda block: block.tolist(), dtype=x.dtype, meta=np.empty((0, 0), np.float32))
    with pytest.raises(TypeError, match="Dask blocks hold list, which is no array"):
        softmax(lists).compute()


@pytest.mark.backends("jax")
def test_a_committed_array_stays_on_its_device(backend: Backend) -> None:
    import jax

    device = jax.devices()[0]
    x = jax.device_put(backend.array([[1.0, 2.0]], "float32"), device)
    assert softmax(x, temperature=jax.device_put(backend.array(2.0, "float32"), device)).devices() == {device}


def test_int_label_and_array_ignore_index(backend: Backend) -> None:
    x = backend.array([1.0, 2.0, 4.0], "float32")
    one = backend.array(1, "int32")
    assert float(backend.numpy(backend.call(cross_entropy, x, 1, ignore_index=one))) == 0
    assert float(backend.numpy(backend.call(cross_entropy, x, 0, ignore_index=one))) > 0


def test_int_label_that_is_no_class(backend: Backend) -> None:
    """Whether it is refused depends on whether the example takes part, where that can be read."""
    x = backend.array([1.0, 2.0, 4.0], "float32")
    assert float(backend.numpy(backend.call(cross_entropy, x, 7, where=backend.array(np.False_, "bool")))) == 0
    takes_part = backend.array(np.True_, "bool")
    if backend.readable:
        with pytest.raises(ValueError, match="labels must be from 0 to 2, got 7"):
            backend.call(cross_entropy, x, 7, where=takes_part)
    else:
        assert np.isnan(backend.numpy(backend.call(cross_entropy, x, 7, where=takes_part)))


def test_negative_weight_of_an_ignored_example(backend: Backend) -> None:
    """It enters no denominator, so it is not refused."""
    x = backend.array([[1.0, 2.0], [3.0, 0.0]], "float32")
    labels, weight = backend.array([0, -1], "int32"), backend.array([2.0, -1.0], "float32")
    weighted = backend.call(cross_entropy, x, labels, ignore_index=-1, sample_weight=weight)
    np.testing.assert_allclose(backend.numpy(weighted), np.log1p(np.e), rtol=1e-6)


@pytest.mark.backends("jax")
def test_negative_weight_beside_a_mask_that_cannot_be_read(backend: Backend) -> None:
    import jax

    x = backend.array([[1.0, 2.0], [3.0, 0.0]], "float32")
    labels, weight = backend.array([0, 1], "int32"), backend.array([2.0, -1.0], "float32")
    masks = backend.array([[True, False], [True, True]], "bool")
    means = jax.vmap(lambda where: cross_entropy(x, labels, where=where, sample_weight=weight))(masks)
    np.testing.assert_allclose(means, [np.log1p(np.e), np.nan], rtol=1e-6)
