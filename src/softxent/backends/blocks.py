"""Rows in blocks: a formula's temporaries then stay in the cache, and never grow with the number of rows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from softxent.backends import generic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from softxent.backends.generic import Formula

Array = Any


class Backend(generic.Backend):
    """A library whose arrays can be cut into views and written to: rows are taken so many at a time."""

    entries = 2**18  # of the logits, in a block: 1 MiB of float32

    def writable(self, operands: Mapping[str, Any]) -> bool:  # noqa: ARG002 - other backends look at them
        """Whether results may be written into memory of our own, unseen by any trace."""
        return True

    def empty(self, like: Array, shape: tuple[int, ...]) -> Array:
        """Memory of the library, device and dtype of an array."""
        return self.namespace.empty(shape, dtype=like.dtype, device=self.device(like))

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Block by block; what has one value a row or a logit is written where it belongs."""
        cut, blocks = self._blocks(operands, axis)
        if not blocks:
            return super().evaluate(function, operands, axis=axis, **static)
        rows = next(iter(operands.values())).shape[cut]
        out: list[Array] = []
        for block in blocks:
            found = super().evaluate(function, self._part(operands, cut, block), axis=axis, **static)
            parts = found if isinstance(found, tuple) else (found,)
            out = out or [self.empty(x, (*x.shape[:cut], rows, *x.shape[cut + 1 :])) for x in parts]
            for whole, part in zip(out, parts, strict=True):
                whole[_at(cut, block)] = part
        return tuple(out) if isinstance(found, tuple) else out[0]

    def pull(
        self,
        formula: Formula,
        cotangents: Mapping[str, Array],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """Block by block; what rows share, such as a class weight, is added up over blocks."""
        everything = {**operands, **cotangents}
        cut, blocks = self._blocks(everything, axis)
        if not blocks:
            return super().pull(formula, cotangents, operands, by=by, axis=axis, **static)
        shared = {name for name in by if operands[name].ndim == 0 or operands[name].shape[cut] == 1}
        out = {name: self.empty(operands[name], tuple(operands[name].shape)) for name in by if name not in shared}
        sums: dict[str, list[Array]] = {name: [] for name in by if name in shared}
        for block in blocks:
            part = self._part(everything, cut, block)
            seeds = {name: part.pop(name) for name in cotangents}
            found = super().pull(formula, seeds, part, by=by, axis=axis, **static)
            for name, x in zip(by, found, strict=True):
                if name in shared:
                    sums[name].append(x)
                else:
                    out[name][_at(cut, block)] = x
        added = {name: self.quietly(self._added, parts) for name, parts in sums.items()}
        return tuple(added[name] if name in shared else out[name] for name in by)

    def _added(self, parts: list[Array]) -> Array:
        """The sum of arrays, pairwise."""
        return self.adopt(self.sum(self.stack(parts, axis=-1), axis=-1))

    def _blocks(self, operands: Mapping[str, Any], axis: int) -> tuple[int, list[slice]]:
        """The axis to cut, the longest of the batch, and the blocks along it; none where one is enough."""
        shape = tuple(next(iter(operands.values())).shape)
        batch = [d for d in range(len(shape)) if d != axis % len(shape)]
        if not batch or not self.writable(operands) or prod(shape) <= self.entries:  # a trace may not know the size
            return 0, []
        cut = max(batch, key=lambda d: shape[d])
        rows = shape[cut]
        count = min(rows, -(-prod(shape) // self.entries))
        return cut, list(_even(rows, count))

    def _part(self, operands: Mapping[str, Any], cut: int, block: slice) -> dict[str, Any]:
        def part(x: Any) -> Any:
            return x if getattr(x, "ndim", 0) == 0 or x.shape[cut] == 1 else x[_at(cut, block)]

        return {name: part(x) for name, x in operands.items()}


def _at(cut: int, block: slice) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(cut)), block)


def _even(rows: int, count: int) -> Iterator[slice]:
    """So many blocks, of nearly the same size."""
    for n in range(count):
        yield slice(n * rows // count, (n + 1) * rows // count)
