"""Dask: formulas run block by block on the arrays inside, with whole class axes, and nothing is computed."""

from __future__ import annotations

from functools import partial
from math import isnan
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import array_api_compat.dask.array as namespace
import dask.array as da
import numpy as np

from softxent.backends import backend_of, generic
from softxent.backends.numpy import registered, unplain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = Any


class Backend(generic.Backend):
    """Dask arrays."""

    name = "dask"
    adopts_numpy = True

    def adopt(self, x: Array) -> Array:
        """NumPy arrays may stand beside Dask arrays."""
        return x if isinstance(x, da.Array) else da.from_array(x)

    def oddity(self, x: Array) -> str | None:
        """That of the blocks."""
        return unplain(type(da.utils.meta_from_array(x)))

    def expand_dims(self, x: Array, *, axis: int) -> Array:
        """By indexing, which takes unknown sizes."""
        return x[(*(slice(None) for _ in range(axis)), None)]

    def device(self, x: Array) -> Any:  # noqa: ARG002 - the scheduler knows
        """Nothing to compare."""
        return None

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - the scheduler knows
        """As in NumPy."""
        return registered(name, dtype)

    def is_readable(self, x: Array) -> bool:  # noqa: ARG002 - never
        """A look would compute."""
        return False

    def bounds(self, integers: Array) -> tuple[int, int] | None:  # noqa: ARG002 - never
        """Two computations, where one condition will do."""
        return None

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Map the function over blocks of rows, unless it cuts them itself."""
        if getattr(function, "loops", False):
            return super().evaluate(function, operands, axis=axis, **static)
        arrays = {name: x for name, x in operands.items() if isinstance(x, da.Array)}
        numbers = {name: x for name, x in operands.items() if name not in arrays}
        arrays = _in_step(arrays, axis)
        on_block = partial(_on_block, function, tuple(arrays), {**numbers, **static, "axis": axis})

        logits = next(iter(arrays.values()))
        samples = on_block(*(_sample(x, axis) for x in arrays.values()))
        several = isinstance(samples, tuple)
        blocks = da.map_blocks(on_block, *arrays.values(), dtype=logits.dtype, meta=da.utils.meta_from_array(logits))

        def result(number: int | None, sample: Any) -> Array:
            chunks = list(logits.chunks)
            chunks[axis] = (sample.shape[axis],)
            pick = _whole if number is None else itemgetter(number)
            return da.map_blocks(pick, blocks, dtype=sample.dtype, chunks=tuple(chunks), meta=sample)

        return tuple(map(result, range(len(samples)), samples)) if several else result(None, samples)

    def sum_over(self, x: Array, axes: tuple[int, ...]) -> Array:
        """By Dask's tree of reductions, each by the blocks' own library."""
        return da.reduction(x, _sum_over, _sum_over, axis=axes, keepdims=True, dtype=x.dtype)


def _sum_over(block: Any, axis: tuple[int, ...], keepdims: bool) -> Any:  # noqa: ARG001, FBT001 - as Dask calls it
    """One block, or the sums of several, added up."""
    return _inner(block).sum_over(block, axis)


def _in_step(arrays: dict[str, Array], axis: int) -> dict[str, Array]:
    """Arrays cut into the same blocks of rows, with whole class axes. Unknown sizes have to be cut alike already."""
    (like, first), *others = arrays.items()
    unknown = [d for d, sizes in enumerate(first.chunks) if any(map(isnan, sizes))]
    for name, x in others:
        for d in unknown:
            if x.ndim and x.shape[d] != 1 and x.numblocks[d] != first.numblocks[d]:
                msg = (
                    f"{name} must be cut into as many blocks as {like} along an axis of unknown size, "
                    f"got {x.numblocks[d]} beside {first.numblocks[d]}; call compute_chunk_sizes() on both first"
                )
                raise ValueError(msg)
    cuts = {d: sizes for d, sizes in enumerate(first.chunks) if not any(map(isnan, sizes))}

    def cut(x: Array) -> Array:
        return x.rechunk({d: sizes for d, sizes in cuts.items() if x.shape[d] != 1} | {axis: -1}) if x.ndim else x

    return {name: cut(x) for name, x in arrays.items()}


def _on_block(function: Callable[..., Any], names: tuple[str, ...], keywords: dict[str, Any], *blocks: Any) -> Any:
    """Evaluate on the arrays inside one block, by their own library's backend."""
    return _inner(blocks[0]).evaluate(function, dict(zip(names, blocks, strict=True)), **keywords)


def _inner(block: Any) -> generic.Backend:
    """The backend of the library that a block belongs to."""
    inner = backend_of(block)
    if inner is None:
        msg = f"Dask blocks hold {type(block).__name__}, which is no array"
        raise TypeError(msg)
    return inner


def _sample(x: Array, axis: int) -> Any:
    """An array like a block of ``x``, with all its classes and no rows."""
    shape = tuple(x.shape[d] if d == axis % x.ndim else 0 for d in range(x.ndim))
    return np.zeros_like(da.utils.meta_from_array(x), shape=shape)


def _whole(block: Any) -> Any:
    return block


def backend() -> Backend:
    """The one instance."""
    return Backend(namespace)
