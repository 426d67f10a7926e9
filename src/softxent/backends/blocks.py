"""Rows in blocks: a formula's temporaries then stay in the cache, and never grow with the number of rows."""

from __future__ import annotations

from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from softxent.backends import generic, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

Array = Any

WIDE = 4  # blocks that a row may fill before it is taken in pieces


class Product(NamedTuple):
    """Two matrices whose product is to be added to something."""

    left: Array
    right: Array


class Backend(generic.Backend):
    """A library whose arrays can be cut into views and written to: rows are taken so many at a time."""

    entries = 2**18  # of the logits, in a block: 1 MiB of float32
    enough = 8  # blocks, so that more need not be; whatever the threads, as sums over rows depend on what is in a block
    few = 32  # classes up to which a block is laid out with the classes first, so that operations run along the rows
    worth_moving = 2**11  # entries from which on that pays

    # What the primitives of one block know.
    private = False  # whether nobody else sees its arrays: no trace, no graph
    room: Array | None = None  # where its result goes

    def writable(self, operands: Mapping[str, Any]) -> bool:  # noqa: ARG002 - other backends look at them
        """Whether results may be written into memory of our own, unseen by any trace."""
        return True

    def empty(self, like: Array, shape: tuple[int, ...]) -> Array:
        """Memory of the library, device and dtype of an array."""
        return self.namespace.empty(shape, dtype=like.dtype, device=self.device(like))

    def minus(self, x: Array, y: Array) -> Array:
        """Where the result of a block goes, if it fits there: what the formula makes of it need not be copied then."""
        room = self.room
        if room is None or room.shape != x.shape or room.dtype != x.dtype:
            return x - y
        self.room = None
        return self.namespace.subtract(x, y, out=room)

    def reusing(self, operation: str, x: Array, *others: Array) -> Array:
        """In place, where it is nobody else's."""
        function = getattr(self.namespace, operation)
        return function(x, *others, out=x) if self.private else function(x, *others)

    def keep_freed_memory(self) -> None:
        """Let malloc hand out again what blocks free, which it would return to the system each time.

        glibc keeps twice the size of the largest mapping that was ever freed, up to 64 MiB; elsewhere nothing happens.
        The pages of this one are never touched. Without it, fresh pages take longer than the arithmetic on them.
        """
        self.namespace.empty(2**25 - 2**16, dtype=self.namespace.uint8)

    def in_parallel(self, work: Callable[[int], None], count: int) -> None:
        """Call ``work`` with 0 to ``count`` - 1; one after the other, where the library has threads of its own."""
        for n in range(count):
            work(n)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Block by block; what has one value a row or a logit is written where it belongs."""
        if getattr(function, "loops", False):
            return super().evaluate(function, operands, axis=axis, **static)
        if self.private:
            if self.are_wide(operands, axis) and not getattr(function, "needs_whole_rows", False):
                return pieces.evaluate(self, function, operands, axis=axis, step=self.entries, **static)
            return super().evaluate(function, operands, axis=axis, **static)
        if not self.writable(operands):
            return super().evaluate(function, operands, axis=axis, **static)
        ops = self.of_one_block(None)
        as_large = getattr(function, "one_a_logit", False)
        cut, blocks = ops.blocks(operands, axis, as_large=as_large)
        if not blocks:
            return self.in_rows(self.quietly(ops.evaluate, function, operands, axis=axis, **static))
        made = self.for_parts("evaluate", function, operands, axis=axis, **static)
        several = False

        def part_of(part: Mapping[str, Any], room: Array | None) -> tuple[Array, ...]:
            nonlocal several
            found = made(part, room)
            several = isinstance(found, tuple)
            return found if several else (found,)

        logits = next(iter(operands.values()))
        known = {-1: self.empty(logits, tuple(logits.shape))} if as_large and static["result"] == logits.dtype else None
        results = self._walk(part_of, operands, cut, blocks, known=known, has_room=ops.leaves(operands, axis))
        return results if several else results[0]

    def derived(
        self,
        function: Callable[..., Any],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """Block by block; what rows share, such as the derivative by a class weight, is added up over blocks."""
        if self.private or getattr(function, "loops", False) or not self.writable(operands):
            return super().derived(function, operands, by=by, axis=axis, **static)
        ops = self.of_one_block(None)
        cut, blocks = ops.blocks(operands, axis, as_large=next(iter(operands)) in by)
        if not blocks:
            return self.in_rows(self.quietly(ops.derived, function, operands, by=by, axis=axis, **static))
        shared, known = set(), {}
        for n, x in enumerate((operands[name] for name in by), start=-len(by)):
            if x.ndim == 0 or x.shape[cut] == 1:
                shared.add(n)
            else:
                known[n] = self.empty(x, tuple(x.shape))
        part_of = self.for_parts("derived", function, operands, by=by, axis=axis, **static)
        has_room = ops.leaves(operands, axis)
        return self._walk(part_of, operands, cut, blocks, shared=shared, known=known, has_room=has_room)

    def for_parts(
        self,
        method: str,
        function: Callable[..., Any],
        operands: Mapping[str, Any],  # noqa: ARG002 - other backends look at them
        **details: Any,
    ) -> Callable[[Mapping[str, Any], Array | None], Any]:
        """What a method of ours makes, with a function, of any part of the operands, given room for the result."""
        return lambda part, room: getattr(self.of_one_block(room), method)(function, part, **details)

    def are_wide(self, operands: Mapping[str, Any], axis: int) -> bool:
        """Whether a row is so wide that it is taken in pieces."""
        return bool(next(iter(operands.values())).shape[axis] > WIDE * self.entries)

    def leaves(self, operands: Mapping[str, Any], axis: int) -> bool:
        """Whether the class axis stays where it is, so that the result lies as its room does."""
        place = self.place(operands, axis)
        return place is None or (place - axis) % next(iter(operands.values())).ndim == 0

    def over_rows(
        self,
        function: Callable[[dict[str, Array], Callable[..., Any]], tuple[Any, ...]],
        operands: Mapping[str, Array],
        *,
        axis: int,
        count: int,
        added: Collection[int],
    ) -> tuple[Array, ...]:
        """Written where it belongs, and added in place."""
        if count == 1 or not self.writable(operands):
            return super().over_rows(function, operands, axis=axis, count=count, added=added)
        whole: list[Array] = []
        multiply: Callable[..., Any] = self.matmul
        size, start = next(iter(operands.values())).shape[axis], 0
        for part in self.parts(operands, axis, count):
            found = function(part, multiply)
            multiply = Product  # what there is something to add to
            rows = next(iter(part.values())).shape[axis]
            for n, x in enumerate(found):
                is_sum = n - len(found) in added
                if len(whole) == n:  # the first part
                    shape = tuple(size if d == axis else m for d, m in enumerate(x.shape))
                    whole.append(x if is_sum else self.empty(x, shape))
                elif is_sum:
                    self.add_to(whole[n], x)
                if not is_sum:
                    self.fill(whole[n][_at(axis, slice(start, start + rows))], x)
            start += rows
            del found, x  # before the next part makes as much
        return tuple(whole)

    def add_to(self, whole: Array, x: Array | Product) -> None:
        """In place; of a product a mebibyte of float32 at a time, so that none as large as the weights is made."""
        if not isinstance(x, Product):
            whole += x
            return
        one, other = x
        step = max(1, 2**18 // max(other.shape[1], 1))
        for n in range(0, whole.shape[0], step):
            whole[n : n + step] += self.matmul(one[n : n + step], other)

    def _walk(
        self,
        part_of: Callable[[Mapping[str, Any], Array | None], tuple[Array, ...]],
        operands: Mapping[str, Any],
        cut: int,
        blocks: list[slice],
        *,
        shared: Collection[int] = (),
        known: Mapping[int, Array] | None = None,
        has_room: bool,
    ) -> tuple[Array, ...]:
        """The results for each block put together, in memory that is ``known`` or yet to be had.

        There they are made, if a block ``has_room`` for them, or copied to.
        Those in ``shared`` are added up instead. Both count results from the end.
        """
        rows = next(iter(operands.values())).shape[cut]
        lock = Lock()
        whole: dict[int, Array] = dict(known or {})
        sums: dict[int, list[Array]] = {k: [None] * len(blocks) for k in shared}
        count = 0

        def work(n: int) -> None:
            nonlocal count
            at, part = _at(cut, blocks[n]), self._part(operands, cut, blocks[n])
            shape = next(iter(part.values())).shape
            rooms = tuple(whole.values()) if has_room else ()
            room = next((x[at] for x in rooms if x[at].shape == shape), None)
            found = part_of(part, room)
            count = len(found)
            for k, x in enumerate(found, start=-count):
                if k in sums:
                    sums[k][n] = x
                    continue
                with lock:
                    if k not in whole:
                        whole[k] = self.empty(x, (*x.shape[:cut], rows, *x.shape[cut + 1 :]))
                if x is not room:
                    self.fill(whole[k][at], x)

        self.quietly(self.in_parallel, work, len(blocks))
        whole |= {k: self.quietly(self._added, parts) for k, parts in sums.items()}
        return tuple(whole[k] for k in range(-count, 0))

    def of_one_block(self, room: Array | None) -> Backend:
        """The primitives for one block, which remember what belongs to it."""
        ops = object.__new__(type(self))
        ops.__dict__.update(self.__dict__, private=True, room=room)
        return ops

    def in_rows(self, found: Any) -> Any:
        """Results with memory in the order of their axes, which blocks put together have by themselves."""
        return tuple(map(self.in_order, found)) if isinstance(found, tuple) else self.in_order(found)

    def fill(self, whole: Array, part: Array) -> None:
        """Copy."""
        whole[...] = part

    def _added(self, parts: list[Array]) -> Array:
        """The sum of arrays, pairwise."""
        return self.adopt(self.sum(self.stack(parts, axis=-1), axis=-1))

    def blocks(self, operands: Mapping[str, Any], axis: int, *, as_large: bool = False) -> tuple[int, list[slice]]:
        """The axis to cut, the longest of the batch, and the blocks along it; none where one is enough.

        A result ``as_large`` as the logits has room for temporaries, so that blocks may be larger, and fewer.
        """
        shape = tuple(next(iter(operands.values())).shape)
        total, entries = prod(shape), self.entries
        if total <= entries:
            return 0, []
        batch = [d for d in range(len(shape)) if d != axis % len(shape)]
        few = self.place(operands, axis) == 0
        if few:  # rows are worth more there
            entries *= 2
        if not batch or total <= entries:
            return 0, []
        cut = max(batch, key=lambda d: shape[d])
        rows = shape[cut]
        count = min(rows, -(-total // entries))
        if as_large and not few and count < rows:
            count = max(-(-count // 2), min(count, self.enough))
        return cut, list(_even(rows, count))

    def _part(self, operands: Mapping[str, Any], cut: int, block: slice) -> dict[str, Any]:
        def part(x: Any) -> Any:
            return x if getattr(x, "ndim", 0) == 0 or x.shape[cut] == 1 else x[_at(cut, block)]

        return {name: part(x) for name, x in operands.items()}

    def place(self, operands: Mapping[str, Any], axis: int) -> int | None:
        """First where they are so few, and the rows so many, that moving the classes pays."""
        logits = next(iter(operands.values()))
        if 1 < logits.shape[axis] <= self.few and prod(logits.shape) >= self.worth_moving and self.private:
            return 0
        return super().place(operands, axis)


def _at(cut: int, block: slice) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(cut)), block)


def _even(rows: int, count: int) -> Iterator[slice]:
    """So many blocks, of nearly the same size."""
    for n in range(count):
        yield slice(n * rows // count, (n + 1) * rows // count)
