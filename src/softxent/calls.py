"""A call of a public function after its checks: what formula it runs on what, and what becomes of the results.

A public function makes a `Call` and returns its value. The functions in ``gradients`` make the same call and ask it for
derivatives: the cotangent of the result goes back the way the rows came, through the reduction and the layout, the
formula's own pullback takes it to the operands, and each derivative leaves in the shape and dtype of its argument.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from softxent.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from softxent.backends.generic import Backend, Formula
    from softxent.layout import Layout, Way

Array = Any
T = TypeVar("T")

DENOMINATOR, COTANGENT = "denominator", "cotangent"  # names beside those of arguments
_MOST = 1024  # calls that are remembered
_PLAIN = {type(None), bool, int, float, str}  # options that are remembered


class Ending(Protocol):
    """What a public function makes of its formula's results. It holds no arrays: equal ones are compiled once."""

    @property
    def is_one_value(self) -> bool:
        """Whether all examples make one number."""

    @property
    def is_one_array(self) -> bool:
        """Whether there is one array, with nothing beside it."""

    def finish(self, call: Call, results: Any) -> Any:
        """The result that the caller gets from the formula's."""

    def start(self, call: Call, results: Callable[[], Any], cotangent: Any) -> tuple[Array, ...]:
        """The cotangents of the formula's results, which it may not need, from the caller's; from ones where None."""

    def foresee(self, call: Call, by: tuple[str, ...]) -> tuple[Array, ...] | None:
        """The same from ones, before there are results, where derivatives by those arguments do not need any."""


class Call(NamedTuple):
    """What a public function is to compute. What follows the first four says how, without arrays, and can be hashed.

    ``arguments`` are named as the formula's operands are, and become these in the ways given, one for each that is not
    as it is. ``given`` has the caller's arrays by argument.
    """

    form: Layout
    arguments: Mapping[str, Any]
    given: Mapping[str, Any]
    denominator: Any  # a number or array of the ending's own
    ways: tuple[Way | None, ...]
    formula: Formula
    ending: Ending
    static: tuple[tuple[str, Any], ...]
    by_products: bool = False  # whether the formula's pullback leaves some of its results out
    beside: bool = False  # whether what is differentiated is only the first part of the caller's result
    names: tuple[str, ...] | None = None  # of by-products, the second part then
    per_example: bool = True  # options of fewer dimensions than the logits belong to rows; otherwise they broadcast
    alike: Alike | None = None  # what it shares with calls that differ in entries of arrays alone; None if not known

    @property
    def like(self) -> str:
        """What the logits are called."""
        return next(iter(self.arguments))

    def of(self, arrays: Mapping[str, Any]) -> Call:
        """The same call of other arrays."""
        form, arguments, given, denominator = self[:4]
        given = {name: arrays.get(name, x) for name, x in given.items()}
        if DENOMINATOR in arrays:
            denominator, arrays = arrays[DENOMINATOR], {name: x for name, x in arrays.items() if name != DENOMINATOR}
        return Call._make((form, {**arguments, **arrays}, given, denominator, *self[4:]))

    def arrays(self, kind: type | tuple[type, ...]) -> dict[str, Any]:
        """What is of a class of arrays, by name."""
        found = {name: x for name, x in self.arguments.items() if isinstance(x, kind)}
        return found | {DENOMINATOR: self.denominator} if isinstance(self.denominator, kind) else found

    @property
    def inputs(self) -> list[Array]:
        """The arrays that tell it from calls alike."""
        names = () if self.alike is None else self.alike.names
        return [self.denominator if name == DENOMINATOR else self.arguments[name] for name in names]

    @property
    def made(self) -> Call:
        """Itself: an `Again` has yet to be made out."""
        return self

    @property
    def empty(self) -> Call:
        """The same without the arrays that tell it from calls alike."""
        return self if self.alike is None else self.of(dict.fromkeys(self.alike.names))

    def again(self, inputs: Sequence[Array]) -> Again:
        """A call alike."""
        return Again(self, inputs)

    @property
    def operands(self) -> dict[str, Any]:
        """The arguments as the formula sees them."""
        ways = zip(self.arguments.items(), self.ways, strict=True)
        return {name: x if way is None else way(self.form, x) for (name, x), way in ways}

    def results(self) -> Any:
        """What the formula gives."""
        return self.form.backend.run(
            self.formula,
            self.operands,
            axis=self.form.axis,
            by_products=self.by_products,
            foresee=partial(self.ending.foresee, self),
            **dict(self.static),
        )

    def finish(self, results: Any) -> Any:
        """What the caller gets from that."""
        return self.named(self.ending.finish(self, results))

    def value(self) -> Any:
        """What the caller gets."""
        return self.named(self._at_once(Call.valued))

    def _at_once(self, function: Callable[..., Any], *details: Any) -> Any:
        return self.form.backend.at_once(function, likened(self), *details)

    def valued(self) -> Any:
        """The value, by-products in their order."""
        return self.ending.finish(self, self.results())

    def named(self, value: Any) -> Any:
        """By-products as a dict, which jax would hand back in another order."""
        return value if self.names is None else (value[0], dict(zip(self.names, value[1], strict=True)))

    def differentiated(self, value: Any) -> Any:
        """The part of the caller's result that has derivatives."""
        return value[0] if self.beside else value

    def pull(self, results: Callable[[], Any], cotangent: Any, by: tuple[str, ...]) -> tuple[Array, ...]:
        """Derivatives by arguments, each of the argument's shape and dtype."""
        seeds = self.ending.start(self, results, cotangent)
        found = self.form.backend.pull(
            self.formula, self._cotangents(seeds), self.operands, by=by, axis=self.form.axis, **dict(self.static)
        )
        return self._outward(by, found)

    def pullback(self) -> tuple[Any, Callable[[Any, tuple[str, ...]], tuple[Array, ...]]]:
        """What the caller gets, and a function that takes its cotangent to derivatives."""
        call = likened(self)
        if call.alike is None:
            results = self.results()
            return self.finish(results), lambda cotangent, by: self.pull(lambda: results, cotangent, by)
        at_once = self.form.backend.at_once

        def pull(cotangent: Any, by: tuple[str, ...]) -> tuple[Array, ...]:
            seeds = cotangent if isinstance(cotangent, tuple) else (cotangent,)
            found: tuple[Array, ...] = at_once(Call.pulled, call.seeded(*seeds), by)
            return found

        return call.value(), pull

    def seeded(self, *cotangents: Array) -> Call:
        """The call with cotangents as further arguments, for ``pulled``."""
        seeds = {f"{COTANGENT} {n}": x for n, x in enumerate(cotangents)}
        return likened(self.of(seeds)._replace(alike=None))

    def pulled(self, by: tuple[str, ...]) -> tuple[Array, ...]:
        """Derivatives by arguments, where the cotangent, or each that there is, is one more of these."""
        seeds = tuple(x for name, x in self.arguments.items() if name.startswith(COTANGENT))
        call = self._replace(
            arguments={name: x for name, x in self.arguments.items() if not name.startswith(COTANGENT)}
        )
        return call.pull(call.results, seeds if len(seeds) > 1 else seeds[0] if seeds else None, by)

    def gradient(self, by: tuple[str, ...]) -> tuple[Array, ...]:
        """Derivatives by arguments, of the sum of all values if there are several."""
        found: tuple[Array, ...] = self._at_once(Call.pulled, by)
        return found

    def value_and_pull(self, by: tuple[str, ...]) -> tuple[Any, tuple[Array, ...]]:
        """What the caller gets, and its derivatives by arguments; from one look at the logits if possible."""
        value, found = self._at_once(Call.value_and_pulled, by)
        return self.named(value), found

    def value_and_pulled(self, by: tuple[str, ...]) -> tuple[Any, tuple[Array, ...]]:
        """Both."""
        seeds = self.ending.foresee(self, by)
        if seeds is None:
            results = self.results()
            return self.ending.finish(self, results), self.pull(lambda: results, None, by)
        results, found = self.form.backend.visit(
            self.formula, self._cotangents(seeds), self.operands, by=by, axis=self.form.axis, **dict(self.static)
        )
        results = results if len(results) > 1 else results[0]
        return self.ending.finish(self, results), self._outward(by, found)

    def second(self, name: str, **arrays: Array) -> Array:
        """A second derivative by the logits, which the formula has under that name."""
        backend = self.form.backend
        seed = {next(iter(self.formula.COTANGENTS)): self.ending.start(self, self.results, None)[0]}
        operands = {**self.operands, **seed, **{name: self.form.inward(x) for name, x in arrays.items()}}
        found = backend.evaluate(getattr(self.formula, name), operands, axis=self.form.axis, **dict(self.static))
        return self._outward((self.like,), (found,))[0]

    def _cotangents(self, seeds: tuple[Array, ...]) -> dict[str, Array]:
        return dict(zip(self.formula.COTANGENTS, seeds, strict=True))

    def _outward(self, by: tuple[str, ...], derivatives: tuple[Array, ...]) -> tuple[Array, ...]:
        """Derivatives in the shapes and dtypes of the arguments that they are by, each in memory of its own."""
        backend = self.form.backend
        first = {id(x): n for n, x in reversed(list(enumerate(derivatives)))}
        derivatives = tuple(
            x if first[id(x)] == n else backend.astype(x, x.dtype, copy=True) for n, x in enumerate(derivatives)
        )

        def outward(x: Array, given: Array) -> Array:
            x = backend.quietly(self.form.returned, x, tuple(given.shape), per_example=self.per_example)
            return backend.quietly(backend.astype, x, given.dtype, copy=False)

        return tuple(outward(x, self.given[name]) for name, x in zip(by, derivatives, strict=True))


# -- calls alike ------------------------------------------------------------------------------------------------------


class Alike:
    """Calls that differ in nothing but entries of arrays; equal to itself alone."""

    __slots__ = ("names", "programs", "recordable")

    def __init__(self, names: Iterable[str]) -> None:
        """``names`` are those of the arrays."""
        self.names = tuple(names)
        self.programs: dict[tuple[Any, ...], Callable[..., Any]] = {}  # of the arrays, written down by a backend
        self.recordable: dict[tuple[Any, ...], bool] = {}  # whether what has been asked for once may be written down


class Again:
    """A call like an earlier, ``empty`` one, of other arrays. It is made out only where no program does it."""

    __slots__ = ("_made", "empty", "inputs")

    def __init__(self, empty: Call, inputs: Sequence[Array]) -> None:
        self.empty, self.inputs = empty, inputs
        self._made: Call | None = None

    @property
    def alike(self) -> Alike | None:
        """What it shares with the earlier one."""
        return self.empty.alike

    @property
    def made(self) -> Call:
        """The call itself."""
        if self._made is None:
            names = self.empty.alike.names if self.empty.alike is not None else ()
            self._made = self.empty.of(dict(zip(names, self.inputs, strict=True)))
        return self._made

    def __getattr__(self, name: str) -> Any:
        """All else."""
        return getattr(self.made, name)

    value, gradient, value_and_pull = Call.value, Call.gradient, Call.value_and_pull

    def _at_once(self, function: Callable[..., Any], *details: Any) -> Any:
        return self.empty.form.backend.at_once(function, self, *details)

    def named(self, value: Any) -> Any:
        """By-products by name."""
        return value if self.empty.names is None else self.empty.named(value)


_ALIKE: dict[Any, Alike] = {}
_REMEMBERED: dict[Any, Call] = {}


def _entered(known: dict[Any, T], key: Any, found: T) -> T:
    """What was found, known from now on; so much of it is and no more."""
    if len(known) >= _MOST:
        known.clear()
    known[key] = found
    return found


def likened(call: Call) -> Call:
    """The call with what it shares with all calls alike, where that is of use."""
    if call.alike is not None or not call.form.backend.replays(call):
        return call
    form, arguments, given, denominator, *how, _ = call
    traits = [_trait(form.backend, x) for x in (*arguments.values(), *given.values(), denominator)]
    if None in traits:
        return call
    key = form, tuple(arguments), tuple(given), *traits, *how
    alike = _ALIKE.get(key) or _entered(_ALIKE, key, Alike(call.arrays(form.backend.kinds)))
    return call._replace(alike=alike)


def _trait(backend: Backend, x: Any) -> Any:
    """All but the entries of an array, or a plain value; None if there is no telling."""
    if type(x) in _PLAIN:
        return type(x), x
    return backend.traits(x) if hasattr(x, "dtype") else None


def remembered(
    *names: str, checked: Callable[[Call, dict[str, Array]], Call] | None = None
) -> Callable[[Callable[..., Call]], Callable[..., Call]]:
    """Check a call once: what is found serves for arrays of the same traits, under the same options.

    ``names`` are the arrays, given in this order or by name; ``checked`` is what has to be done for their entries each
    time, which may make another call of the earlier one. Options that are arrays are not remembered, nor are arrays
    that a call makes others of.
    """

    def deciding(make: Callable[..., Call]) -> Callable[..., Call]:
        @wraps(make)
        def call(*arrays: Array, **options: Any) -> Any:
            arrays = arrays or tuple(options.pop(name) for name in names)
            traits = _traits(arrays, options)
            if traits is None:  # a compiler is not to look at what others left
                return make(*arrays, **options)
            key = make, *traits
            earlier = _REMEMBERED.get(key)
            if earlier is not None:
                if checked is not None:
                    earlier = checked(earlier, dict(zip(names, arrays, strict=True)))
                if earlier.alike is not None and earlier.alike.names == names:
                    return Again(earlier, arrays)
                return earlier.of(dict(zip(names, arrays, strict=True)))
            made = likened(make(*arrays, **options))
            empty = made.of(dict.fromkeys(names))
            others = (*empty.arguments.values(), *empty.given.values(), empty.denominator)
            same = all(made.arguments[name] is x for name, x in zip(names, arrays, strict=True))
            if same and _PLAIN.issuperset(map(type, others)):
                _entered(_REMEMBERED, key, empty)
            return made

        return call

    return deciding


def rechecked(earlier: Call, in_bounds: bool) -> Call:  # noqa: FBT001 - the one thing that was found
    """The earlier call, with what was found of other labels, which is the last of what is static."""
    *static, (name, before) = earlier.static
    return earlier if in_bounds == before else earlier._replace(static=(*static, (name, in_bounds)), alike=None)


def _traits(arrays: tuple[Array, ...], options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What the checks of a call depend on, apart from entries of arrays; None if it is not to be remembered."""
    traits = []
    for x in arrays:
        backend = backend_of(x)
        of_x = None if backend is None else backend.traits(x)
        if of_x is None:
            return None
        traits.append(of_x)
    if options.get("check") is not None:  # what is to be checked each time
        return None
    values = tuple(options.values())
    kinds = tuple(map(type, values))
    return (*traits, tuple(options), values, kinds) if _PLAIN.issuperset(kinds) else None
