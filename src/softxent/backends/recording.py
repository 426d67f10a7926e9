"""Small calls and blocks: what is done to arrays is written down once, and done again for arrays alike.

A small call takes more time to find out what to do than to do it, and while a block of a large one finds out, threads
wait for each other. Nothing of that depends on the entries of arrays: the formulas can be traced, as jax does. A
`Recorder` stands for a backend, and `Recorded` for arrays; both go about their work as the real ones do, and note each
operation on the way. What comes of it is a function of nothing but these.
"""

from __future__ import annotations

import operator
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from softxent.backends import blocks, generic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Array = Any

# What these found, for each other.
_REMEMBERING = {"argmax", "put_along_axis", "segment_max", "segment_sum", "take_along_axis"}
_COMPOSED = {"in_columns", "max", "sum"}  # of other primitives, which are noted instead
_READING = {"bounds", "over_rows", "read"}
_ROOM = "room"  # for the result


class _UnrecordableError(AttributeError):
    """What is done depends on entries of arrays."""


class Recorded:
    """An array under a name."""

    __slots__ = ("name", "real", "recorder")
    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(self, recorder: Recorder, real: Array, name: str) -> None:
        self.recorder, self.real, self.name = recorder, real, name

    def __getattr__(self, name: str) -> Any:
        """What does not depend on entries."""
        if name not in {"shape", "dtype", "ndim", "size", "flags"}:
            raise _UnrecordableError(name)
        return getattr(self.real, name)

    def __bool__(self) -> NoReturn:
        """That depends on them."""
        raise _UnrecordableError

    def __getitem__(self, key: Any) -> Any:
        """A view."""
        return self.recorder.noted(operator.getitem, self, key)

    __hash__ = None  # type: ignore[assignment] # as arrays have none


def _operation(function: Callable[..., Any], *, swapped: bool = False) -> Callable[..., Any]:
    def method(self: Recorded, *others: Any) -> Any:
        return self.recorder.noted(function, *(reversed((self, *others)) if swapped else (self, *others)))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _function = getattr(operator, f"__{_name}__")
    setattr(Recorded, f"__{_name}__", _operation(_function))
    setattr(Recorded, f"__r{_name}__", _operation(_function, swapped=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "invert", "abs"):
    setattr(Recorded, f"__{_name}__", _operation(getattr(operator, f"__{_name}__")))


class _Line(NamedTuple):
    """An operation."""

    made: str  # the name of its result
    called: str
    given: str
    taken: set[str]  # names of arrays
    anew: bool  # whether the result is not one of these
    into: Callable[..., Any] | None  # the same with an ``out``, if there is such a thing
    places: list[str]  # arrays laid out as the result is, whose memory it may take once nobody needs them


class Recorder:
    """A backend's primitives for one block, which note what they are asked for."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.ops = backend.of_one_block(None)
        self.lines: list[_Line] = []
        self.shared: set[str] = set()  # names of arrays whose memory belongs to others as well, or is remembered
        self.constants: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """A primitive, or whatever it is."""
        if name in _COMPOSED:
            return partial(getattr(type(self.ops), name), self)
        found = getattr(self.ops, name)
        if not callable(found) or isinstance(found, type):
            return found
        if name in _READING:
            raise _UnrecordableError(name)
        return partial(self.noted, found)

    # -- how formulas are run: as everywhere, but that this is the backend --------------------------------------------

    run, pull, visit = generic.Backend.run, generic.Backend.pull, generic.Backend.visit
    derived = generic.Backend.derived

    def evaluate(self, *arguments: Any, **keywords: Any) -> Any:
        """With memory in order."""
        found = generic.Backend.evaluate(self, *arguments, **keywords)  # type: ignore[arg-type] # it has what is asked for
        return blocks.Backend.in_rows(self, found)  # type: ignore[arg-type] # the same

    def minus(self, x: Recorded, y: Recorded) -> Any:
        """A difference."""
        return self.noted(self.ops.subtract, x, y)

    def reusing(self, operation: str, x: Recorded, *others: Recorded) -> Any:
        """In place."""
        return self.noted(getattr(self.ops, operation), x, *others, out=x)

    def quietly(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """The whole is quiet."""
        return function(*arguments, **keywords)

    # -- notes --------------------------------------------------------------------------------------------------------

    def array(self, real: Array) -> Recorded:
        """An array under a new name."""
        return Recorded(self, real, f"x{len(self.lines)}")

    def noted(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """What the function makes of its arguments; where that is an array, a line of its own."""
        found = function(*map(_real, arguments), **{name: _real(x) for name, x in keywords.items()})
        if not isinstance(found, self.backend.kinds):
            if isinstance(found, tuple) and any(isinstance(x, self.backend.kinds) for x in found):
                raise _UnrecordableError
            return found
        taken = [x for x in _leaves((arguments, tuple(keywords.values()))) if isinstance(x, Recorded)]
        same = next((x for x in taken if x.real is found), None)
        name = getattr(function, "__name__", "")
        in_place = name == "put_along_axis" or "out" in keywords
        if same is not None and not in_place:
            return same
        made = self.array(found) if same is None else same
        given = (*map(self._written, arguments), *(f"{name}={self._written(x)}" for name, x in keywords.items()))
        called = f"ops.{name}" if name in _REMEMBERING else self._constant(self._fresh(function))
        names = {x.name for x in taken}
        if name in _REMEMBERING or not found.flags.owndata:
            self.shared |= names | {made.name}
        into = None if keywords else self.backend.into(function)
        places = [x.name for x in taken if into is not None and _has_room(x.real, found)]
        self.lines.append(_Line(made.name, called, ", ".join(given), names, not in_place, into, places))
        return made

    def followed(
        self, function: Callable[[dict[str, Recorded]], Any], arrays: Mapping[str, Array], *others: str
    ) -> tuple[Callable[..., Any], Any] | None:
        """What a function makes of arrays by name: as a program of them in order and of ``others``, and itself.

        None if it depends on their entries.
        """
        recorded = {name: Recorded(self, x, f"a{n}") for n, (name, x) in enumerate(arrays.items())}
        try:
            result = function(recorded)
            return self.program([*(x.name for x in recorded.values()), *others], result), _real(result)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whatever cannot be recorded can still be done
            return None

    def _fresh(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, or method of a backend, without what it remembers of this call."""
        method = getattr(function, "__self__", None) is self.ops
        return getattr(self.backend.of_one_block(None), function.__name__) if method else function

    def _written(self, x: Any) -> str:
        if isinstance(x, Recorded):
            return x.name
        if isinstance(x, self.backend.kinds):  # from elsewhere: it belongs to this call alone
            raise _UnrecordableError
        if type(x) in {tuple, list}:
            entries = "".join(f"{self._written(one)}, " for one in x)
            return f"({entries})" if type(x) is tuple else f"[{entries}]"
        if x is None or type(x) in {bool, int, str} or (type(x) is float and isfinite(x)):
            return repr(x)
        if isinstance(x, (tuple, list, dict)):  # there may be arrays in it
            raise _UnrecordableError
        return self._constant(x)

    def _constant(self, x: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = x
        return name

    def program(self, arguments: Collection[str], result: Any) -> Callable[..., Any]:
        """A function of arrays, which does what was noted as far as the result depends on it."""
        needed = {x.name for x in _leaves(result) if isinstance(x, Recorded)}
        kept = self.shared | set(arguments)
        lines = []  # from the last on
        for line in reversed(self.lines):
            if line.anew and line.made not in needed:
                continue
            spent = line.taken - needed
            needed |= line.taken
            place = next((x for x in line.places if x in spent - kept), None)
            called = line.called if place is None else self._constant(line.into)
            given = line.given if place is None else f"{line.given}, out={place}"
            lines += [*(f"del {x}" for x in sorted(spent)), f"{line.made} = {called}({given})"]
        if any(" = ops." in line for line in lines):
            lines.append(f"ops = {self._constant(self.backend.of_one_block)}(None)")
        body = "".join(f"    {line}\n" for line in reversed(lines))
        source = f"def program({', '.join(arguments)}):\n{body}    return {self._written(result)}\n"
        exec(source, self.constants)  # noqa: S102 - all of it was written above
        made_of: Callable[..., Any] = self.constants["program"]
        return made_of


class PartRecorder(Recorder):
    """The same for part of a call, with room for its result, which is put in order where it is put together."""

    evaluate = generic.Backend.evaluate

    def __init__(self, backend: Any, room: Array | None) -> None:
        super().__init__(backend)
        self.room = room

    def minus(self, x: Recorded, y: Recorded) -> Any:
        """Where the result goes, once, if it fits there."""
        room = self.room
        if room is None or room.shape != x.shape or room.dtype != x.dtype:
            return super().minus(x, y)
        self.room = None
        return self.noted(self.ops.subtract, x, y, out=Recorded(self, room, _ROOM))


def _real(x: Any) -> Any:
    """What recorded arrays stand for."""
    if isinstance(x, Recorded):
        return x.real
    if isinstance(x, dict):
        return {name: _real(one) for name, one in x.items()}
    return type(x)(map(_real, x)) if type(x) in {tuple, list} else x


def _has_room(x: Array, y: Array) -> bool:
    """Whether an array could have the entries of the other, as they are laid out; without axes they may be numbers."""
    return bool(x.ndim > 0 and (x.shape, x.dtype, x.strides) == (y.shape, y.dtype, y.strides))


def _leaves(x: Any) -> list[Any]:
    """Whatever is in tuples and lists."""
    return [leaf for one in x for leaf in _leaves(one)] if isinstance(x, (tuple, list)) else [x]


def program(backend: Any, function: Callable[..., Any], call: Any, *details: Any) -> Callable[..., Any] | None:
    """What a function makes of a call, as a function of the call's arrays; None if it depends on their entries."""
    recorder = Recorder(backend)

    def of(arrays: dict[str, Recorded]) -> Any:
        watched = call.of(arrays)._replace(form=call.form._replace(backend=recorder), given=call.given)
        return function(watched, *details)

    found = recorder.followed(of, call.arrays(backend.kinds))
    return None if found is None else found[0]


def part(
    backend: Any,
    method: str,
    function: Callable[..., Any],
    operands: Mapping[str, Any],
    room: Array | None,
    **details: Any,
) -> tuple[Callable[[Mapping[str, Any], Array | None], Any], Any] | None:
    """What a method makes of part of the operands: as a function of parts alike and room, and itself.

    None if it depends on entries.
    """
    recorder = PartRecorder(backend, room)
    run = getattr(recorder, method)
    arrays = {name: x for name, x in operands.items() if isinstance(x, backend.kinds)}
    found = recorder.followed(lambda recorded: run(function, {**operands, **recorded}, **details), arrays, _ROOM)
    if found is None:
        return None
    names, (made, result) = tuple(arrays), found
    return lambda operands, room: made(*[operands[name] for name in names], room), result
