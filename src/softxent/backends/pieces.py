"""Rows wider than a block: the class axis in pieces, one after the other, so that temporaries do not grow with it.

A formula runs on a piece as on a whole row, but for what it asks of the whole row: a maximum, a sum, the entry at a
label. Such a question ends the walk over a piece, with the piece's own answer to it. Once every piece has answered, the
answers are merged, and the next walk finds it answered. The last walk has no question left: it makes the result, which
one piece can tell where it has one value a row.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from softxent.backends.blocks import Backend

Array = Any


def evaluate(
    backend: Backend, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, step: int, **static: Any
) -> Any:
    """A function of a formula's on rows that are taken ``step`` classes at a time, or a few more, and never one alone.

    What has size 1 along the class axis is one value a row.
    """
    size = next(iter(operands.values())).shape[axis]
    count = size // max(step, 2)
    cuts = [n * size // count for n in range(count + 1)]
    answers: list[Any] = []
    while True:
        told: list[Any] = []
        merge: Callable[[list[Any]], Any] | None = None
        whole: list[Array] = []
        several = False
        for start, stop in pairwise(cuts):
            at = (*(slice(None) for _ in range(axis)), slice(start, stop))
            part = {
                name: x[at] if getattr(x, "ndim", 0) and x.shape[axis] == size else x for name, x in operands.items()
            }
            ops = _Piece(backend, start, size, answers)
            try:
                found = function(ops, **part, axis=axis, **static)
            except _Question as question:
                told.append(question.answer)  # not the question: its traceback holds what the formula has made
                merge = question.merge
                continue
            several = isinstance(found, tuple)
            results = found if several else (found,)
            whole = whole or _rooms(backend, results, axis, size)
            for room, x in zip(whole, results, strict=True):
                room[at if x.shape[axis] != 1 else ...] = x
            if all(x.shape[axis] == 1 for x in results):  # of the row: every piece has the same
                break
        if merge is None:
            return tuple(whole) if several else whole[0]
        answers.append(merge(told))


def _rooms(backend: Backend, parts: tuple[Array, ...], axis: int, size: int) -> list[Array]:
    """Memory for results, of which each has one value a row, or one a class: where the block's goes, if that fits."""
    rooms, free = [], backend.room
    for part in parts:
        shape = tuple(size if d == axis and n != 1 else n for d, n in enumerate(part.shape))
        if free is not None and tuple(free.shape) == shape and free.dtype == part.dtype:
            rooms.append(free)
            free = None
        else:
            rooms.append(backend.empty(part, shape))
    return rooms


class _Question(Exception):  # noqa: N818 - it is none
    """What a formula asks of the whole row: the answer for this piece, and how such answers are merged."""

    def __init__(self, answer: Any, merge: Callable[[list[Any]], Any]) -> None:
        super().__init__()
        self.answer, self.merge = answer, merge


class _Piece:
    """The primitives for one piece, with the questions that are already answered for the whole row."""

    def __init__(self, backend: Backend, start: int, size: int, answers: list[Any]) -> None:
        self.backend, self.start, self.size, self.answers = backend, start, size, iter(answers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def _ask(self, answer: Callable[[], Any], merge: Callable[[list[Any]], Any]) -> Any:
        for known in self.answers:
            return known
        raise _Question(answer(), merge)

    def classes(self, x: Array, axis: int) -> int:  # noqa: ARG002 - that of the piece does not matter
        """Of the whole row."""
        return self.size

    def positions(self, like: Array, axis: int, size: int) -> Array:
        """Counted from the start of the row."""
        return self.backend.positions(like, axis, size) + self.start

    def max(self, x: Array, *, axis: int, keepdims: bool) -> Array:
        """The largest of the largest."""
        return self._ask(lambda: self.backend.max(x, axis=axis, keepdims=keepdims), self._reduced("max"))

    def sum(self, x: Array, *, axis: int, keepdims: bool) -> Array:
        """The sum of the sums, pairwise."""
        return self._ask(lambda: self.backend.sum(x, axis=axis, keepdims=keepdims), self._reduced("sum"))

    def any(self, x: Array, *, axis: int, keepdims: bool) -> Array:
        """Whether in any."""
        return self._ask(lambda: self.backend.any(x, axis=axis, keepdims=keepdims), self._reduced("any"))

    def _reduced(self, name: str) -> Callable[[list[Array]], Array]:
        return lambda answers: getattr(self.backend, name)(self.backend.stack(answers, axis=-1), axis=-1)

    def argmax(self, x: Array, *, axis: int, keepdims: bool) -> Array:  # noqa: ARG002 - formulas keep them
        """The first position of the largest, or of NaN."""

        def answer() -> tuple[Array, Array]:
            found = self.backend.argmax(x, axis=axis, keepdims=True)
            return found + self.start, self.backend.take_along_axis(x, found, axis=axis)

        def merge(answers: list[tuple[Array, Array]]) -> Array:
            found, largest = answers[0]
            for position, here in answers[1:]:
                better = (here > largest) | (self.isnan(here) & ~self.isnan(largest))
                found, largest = self.where(better, position, found), self.where(better, here, largest)
            return found

        return self._ask(answer, merge)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """From the piece that has it."""

        def answer() -> tuple[Array, Array]:
            here, own = self._here(x, index, axis)
            return self.backend.take_along_axis(x, own, axis=axis), here

        def merge(answers: list[tuple[Array, Array]]) -> Array:
            found, _ = answers[0]
            for entry, here in answers[1:]:
                found = self.where(here, entry, found)
            return found

        return self._ask(answer, merge)

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """Into the piece that has it."""
        here, own = self._here(x, index, axis)
        value = self.where(here, value, self.backend.take_along_axis(x, own, axis=axis))
        return self.backend.put_along_axis(x, own, value, axis=axis)

    def _here(self, x: Array, index: Array, axis: int) -> tuple[Array, Array]:
        """Whether an index of the whole row is one of this piece, and which; 0 if it is none."""
        own = self.astype(index, self.int64) - self.start
        here = (own >= 0) & (own < x.shape[axis])
        return here, self.where(here, own, 0)
