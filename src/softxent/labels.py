"""Labels checked: what kind they are, their shape, and, where values can be read, their range."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from softxent.arguments import dtype_name, kind_of
from softxent.backends import backend_of
from softxent.calls import Call, rechecked
from softxent.formulas.participation import both, present_rows
from softxent.formulas.targets import equals, in_range
from softxent.layout import same

if TYPE_CHECKING:
    from softxent.backends.generic import Backend
    from softxent.layout import Layout

Array = Any
Arguments = dict[str, Any]
Ways = dict[str, Any]  # of arguments that are not as they are

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}
_MANY = 2**31 - 1
_IGNORED, _INVALID = -1, -2


# -- kind and shape ---------------------------------------------------------------------------------------------------


def is_hard(form: Layout, labels: Any, name: str = "logits") -> bool:
    """Whether labels are class indices (an integer dtype) or distributions (floating); their shape is checked."""
    if labels is None or isinstance(labels, Real):
        if isinstance(labels, bool) or not isinstance(labels, Integral):
            msg = f"labels must be an array, or an int for unbatched {name}, got {labels!r}; class indices are integers"
            raise TypeError(msg)
        if form.batch_axes:
            msg = (
                f"labels must have the batch shape {form.batch_shape}, got the int {labels}; pass one label an example"
            )
            raise ValueError(msg)
        return True
    kind, shape = kind_of(labels.dtype), tuple(labels.shape)
    if kind == "integer":
        _check_index_shape(form, shape)
    elif kind == "floating":
        _check_distribution_shape(form, shape, name)
    else:
        hint = (
            "cast them to an integer dtype if they name two classes" if kind == "bool" else "class indices are integers"
        )
        name = dtype_name(labels.dtype)
        msg = f"labels must be integer class indices or floating distributions, got dtype {name}; {hint}"
        raise TypeError(msg)
    return kind == "integer"


def _check_index_shape(form: Layout, shape: tuple[Any, ...]) -> None:
    if same(shape, form.batch_shape):
        return
    if same(shape, form.shape):
        hint = "one-hot? cast them to float, or pass indices"
    elif form.single and same(shape, tuple(1 if d in form.axes else n for d, n in enumerate(form.shape))):
        hint = f"drop the class axis, for example with squeeze(labels, axis={form.axis})"
    else:
        hint = "pass one index an example, and axis= if the classes are not on the last axis"
    msg = f"integer labels must have the batch shape {form.batch_shape}, got {shape}; {hint}"
    raise ValueError(msg)


def _check_distribution_shape(form: Layout, shape: tuple[Any, ...], name: str) -> None:
    if same(shape, form.shape):
        return
    indices = same(shape, form.batch_shape)
    hint = (
        "class indices? cast them to an integer dtype"
        if indices
        else "pass one probability a class; nothing is broadcast"
    )
    expected = f"the logits' shape {form.shape}" if name == "logits" else f"the shape of {name}, {form.shape}"
    msg = f"floating labels must have {expected}, got {shape}; {hint}"
    raise ValueError(msg)


def refuse_beside_distributions(*, ignore_index: Any, num_classes: int | None = None) -> None:
    """Options that only class indices have a meaning for."""
    if ignore_index is not None:
        msg = (
            f"ignore_index must be left out beside floating labels, which name no class, got {ignore_index}; "
            "drop examples with where="
        )
        raise ValueError(msg)
    if num_classes is not None:
        msg = f"num_classes must be left out beside floating labels, which have their own, got {num_classes}"
        raise ValueError(msg)


# -- integer labels ---------------------------------------------------------------------------------------------------


def comparable(form: Layout, like: Array, given: Any, labels: Any, ignore_index: Any) -> dict[str, Any]:
    """Integer labels and ``ignore_index`` in dtypes that their library compares without wrapping.

    ``given`` is what the caller passed, ``labels`` the same in the library and on the device of ``like``. A Python int,
    or NumPy labels beside another library, may not fit a dtype there: they are settled first, to -1 if ignored and -2
    if they are no class.
    """
    backend = form.backend
    own = backend if isinstance(given, Integral) else backend_of(given)
    static = ignore_index is None or isinstance(ignore_index, int)
    if isinstance(given, Integral):
        code = int(given) if 0 <= int(given) < form.size else _INVALID
        if static:
            code, ignore_index = (_IGNORED if given == ignore_index else code), _IGNORED
        labels = backend.scalar(code, like, _index_dtype(backend, form.size))
    elif own is not None and own is not backend and static:
        labels, ignore_index = backend.adopt(_codes(own, given, form.size, ignore_index)), _IGNORED
    else:
        labels, ignore_index = _widened(backend, labels, ignore_index)
    return {"labels": labels, "ignore_index": ignore_index}


def widened(backend: Backend, given: Any, labels: Array, ignore_index: Any) -> dict[str, Any]:
    """Binary targets of an integer dtype, and ``ignore_index``, as ``comparable`` has class indices."""
    own = backend_of(given)
    if own is not None and own is not backend and (ignore_index is None or isinstance(ignore_index, int)):
        labels = backend.adopt(_codes(own, given, 2, ignore_index))
        ignore_index = None if ignore_index is None else _IGNORED
    else:
        labels, ignore_index = _widened(backend, labels, ignore_index)
    return {"labels": labels, "ignore_index": ignore_index}


def _widened(backend: Backend, labels: Array, ignore_index: Any) -> tuple[Array, Any]:
    wide = backend.comparable(labels)
    if wide is not labels and isinstance(ignore_index, int):
        if dtype_name(labels.dtype) == "uint64":
            ignore_index = _as_int64(ignore_index)
    elif ignore_index is not None and not isinstance(ignore_index, int):
        if wide is not labels and backend.comparable(ignore_index) is ignore_index:  # signed: below 0 it is no label
            wide = backend.where(wide < 0, _IGNORED, wide)
            ignore_index = backend.where(ignore_index < 0, _INVALID, ignore_index)
        ignore_index = backend.comparable(ignore_index)
    return wide, ignore_index


def _codes(backend: Any, labels: Array, size: int, ignore_index: int | None) -> Array:
    dtype = _index_dtype(backend, size)
    valid = in_range(backend, labels, size)
    codes = backend.astype(backend.where(valid, labels, backend.zeros_like(labels)), dtype)
    codes = backend.where(valid, codes, _INVALID)
    return codes if ignore_index is None else backend.where(equals(backend, labels, ignore_index), _IGNORED, codes)


def _index_dtype(backend: Backend, size: int) -> Any:
    return backend.int64 if size > _MANY else backend.int32


def _as_int64(value: int) -> int | None:
    """The int64 of the same 64 bits as an uint64; None for what is no uint64 and so equals no label."""
    if not 0 <= value < 2**64:
        return None
    return value - 2**64 if value >= 2**63 else value


def check_range(form: Layout, given: Any, arguments: Arguments, ways: Ways, *, check: bool | None) -> bool:
    """Refuse labels of participating rows that are no class, where the values can be read; whether they could.

    ``given`` are the labels of the caller, since NumPy's beside another library are looked at as such. Who takes part
    is told by the arguments, with the ways they are aligned to the logits.
    """
    one = isinstance(given, Integral)
    own = form.backend if one else backend_of(given) or form.backend
    look = check is not False if one else should_look(own, given, check)
    if form.size == 0 or not look:
        return False
    if _is_settled(form, int(given), arguments) if one else _are_classes(form, own, given):
        return True
    with own.reading():
        labels, wrong, index = _wrong(form, own, given, arguments)
        if not one:
            found = read(own, own.any(wrong), "labels", check)
            if not found:
                return found is not None
    deciding = {name: _aligned(form, arguments, ways, name) for name in ("where", "sample_weight")}
    deciding["ignore_index"] = index
    checking = own
    if any(x is not None for x in deciding.values()):
        checking = form.backend
        if not all(should_look(checking, x, check) for x in deciding.values() if x is not None):
            return False
        with checking.reading():
            wrong = _taking_part(form, wrong, labels, **deciding)
            found = read(checking, checking.any(wrong), "where and sample_weight", check)
            if not found:  # a label of sample weight 0 may be none, and is not masked for that
                return found is not None and deciding["sample_weight"] is None
    with checking.reading():
        position = first(checking, checking.squeeze(wrong, axis=form.axis))
    with own.reading():
        value = int(given) if one else int(own.squeeze(labels, axis=form.axis)[position])
    if value < 0 and not one and dtype_name(given.dtype) == "uint64":  # widened to the int64 of the same bits
        value += 2**64
    raise ValueError(_out_of_range(form, value, position))


def _wrong(form: Layout, own: Backend, given: Any, arguments: Arguments) -> tuple[Array, Array, Any]:
    """Labels, one a row, which of them are neither a class nor ignored, and ``ignore_index`` if that is an array."""
    ignore_index = arguments.get("ignore_index")
    if isinstance(given, Integral):
        known = comparable(form, next(iter(arguments.values())), given, given, ignore_index)
        labels, index = known["labels"], known.get("ignore_index")
    else:
        labels, index = _widened(own, given, ignore_index)
    labels = own.expand_dims(labels, axis=form.axis)
    wrong = ~in_range(own, labels, form.size)
    if isinstance(index, int):
        return labels, wrong & ~equals(own, labels, index), None
    return labels, wrong, index


def _taking_part(
    form: Layout, rows: Array, labels: Array, *, where: Any, sample_weight: Any, ignore_index: Any
) -> Array:
    """Those of the rows that take part."""
    backend = form.backend
    present = present_rows(backend, backend.adopt(labels), where, ignore_index, hard=True, axis=form.axis)
    rows = both(backend.adopt(rows), present)
    return rows if sample_weight is None else rows & backend.not_equal(sample_weight, 0)


def _is_settled(form: Layout, label: int, arguments: Arguments) -> bool:
    """Whether an int is a class or ignored, for which no array is read; where nothing else decides it is refused."""
    ignore_index = arguments.get("ignore_index")
    plain = ignore_index is None or isinstance(ignore_index, int)
    if 0 <= label < form.size or (plain and label == ignore_index):
        return True
    if plain and arguments.get("where") is None and arguments.get("sample_weight") is None:
        raise ValueError(_out_of_range(form, label, ()))
    return False


def _aligned(form: Layout, arguments: Arguments, ways: Ways, name: str) -> Any:
    """An argument as formulas see it; None if there is none."""
    x, way = arguments.get(name), ways.get(name)
    return x if x is None or way is None else way(form, x)


def _are_classes(form: Layout, backend: Backend, labels: Array) -> bool:
    """Whether all labels are known to be classes, those of rows that take no part included."""
    bounds = backend.bounds(labels)
    return bounds is not None and bounds[0] >= 0 and bounds[1] < form.size


def _out_of_range(form: Layout, value: int, position: tuple[int, ...]) -> str:
    return (
        f"labels must be from 0 to {form.size - 1}, got {value}{at(position)}; "
        f"to leave such examples out pass ignore_index={value}"
    )


# -- binary targets ---------------------------------------------------------------------------------------------------


def binary_kind(form: Layout, labels: Any, ignore_index: Any, name: str = "logits") -> str:
    """Whether targets are "bool", "integer", "floating" or one "number" for a 0-d logit; their shape is checked."""
    if labels is None or (isinstance(labels, Real) and form.shape):
        msg = f"labels must be an array of the {name}' shape {form.shape}, got {labels!r}; pass one target an element"
        raise TypeError(msg)
    kind = "number" if isinstance(labels, Real) else kind_of(labels.dtype)
    if kind == "other":
        msg = (
            f"labels must be bool, integers 0 and 1 or floating numbers from 0 to 1, "
            f"got dtype {dtype_name(labels.dtype)}; cast them"
        )
        raise TypeError(msg)
    if kind != "number" and not same(tuple(labels.shape), form.shape):
        msg = (
            f"labels must have the {name}' shape {form.shape}, got {tuple(labels.shape)}; nothing is broadcast: "
            "reshape or squeeze one of them"
        )
        raise ValueError(msg)
    if kind != "integer" and ignore_index is not None:
        msg = (
            f"ignore_index must come with integer labels, got {ignore_index} beside {kind} ones; "
            "drop elements with where="
        )
        raise ValueError(msg)
    return kind


def rechecked_range(earlier: Call, given: Arguments) -> Call:
    """A call of a loss like an earlier one, with its class indices looked at."""
    static, labels = dict(earlier.static), given["labels"]
    if static["in_bounds"] and _are_classes(earlier.form, backend_of(labels) or earlier.form.backend, labels):
        return earlier  # they could be looked at then
    arguments = {**earlier.arguments, **given}
    return rechecked(earlier, static["hard"] and check_range(earlier.form, labels, arguments, {}, check=None))


def check_binary(form: Layout, given: Any, arguments: Arguments, ways: Ways, *, check: bool | None) -> bool:
    """Refuse targets of participating elements outside 0 to 1, where the values can be read; whether none is left."""
    one = isinstance(given, Real)
    labels = arguments["labels"] if one else given
    own = backend_of(labels) or form.backend
    kind = kind_of(labels.dtype)
    if kind == "bool" or (one and _is_target(float(given), arguments, check)):
        return True
    if not should_look(own, labels, check):
        return False
    with own.reading():
        if _are_targets(own, labels, kind):
            return True
        labels, index = _widened(own, labels, arguments.get("ignore_index"))
        wrong = ~((labels >= 0) & (labels <= 1))
        if isinstance(index, int):
            wrong, index = wrong & ~equals(own, labels, index), None
        found = read(own, own.any(wrong), "labels", check)
    if not found:
        return found is not None
    position = _taking_part_wrongly(form, wrong, labels, index, arguments=arguments, ways=ways, check=check)
    if isinstance(position, bool):
        return position
    with own.reading():
        value = own.stop_gradient(labels)[position]  # what is differentiated may be no number
    if kind != "integer":
        raise ValueError(_no_binary_target(float(value), position, "where="))
    raise ValueError(_no_binary_target(int(value), position, f"ignore_index={int(value)}"))


def _taking_part_wrongly(
    form: Layout,
    wrong: Array,
    labels: Array,
    index: Any,
    *,
    arguments: Arguments,
    ways: Ways,
    check: bool | None,
) -> bool | tuple[int, ...]:
    """The first wrong target that takes part; where there is none, or it cannot be told, whether none is left."""
    backend = form.backend
    where, weight = (_aligned(form, arguments, ways, name) for name in ("where", "weight"))
    if not all(should_look(backend, x, check) for x in (where, weight, index) if x is not None):
        return False
    with backend.reading():
        wrong = form.inward(backend.adopt(wrong))
        if index is not None:
            wrong = wrong & ~equals(backend, form.inward(backend.adopt(labels)), index)
        wrong = both(where, wrong)
        if weight is not None:
            wrong = wrong & backend.not_equal(weight, 0)
        found = read(backend, backend.any(wrong), "where and weight", check)
        if not found:  # a target of weight 0 may be none, and is not masked for that
            return found is not None and weight is None
        return first(backend, form.outward(wrong))


def _is_target(number: float, arguments: Arguments, check: bool | None) -> bool:  # noqa: FBT001 - the caller's option
    """Whether a number is a target; where nothing else decides it is refused."""
    if 0 <= number <= 1:
        return True
    if check is not False and arguments.get("where") is None and arguments.get("weight") is None:
        raise ValueError(_no_binary_target(number, (), "where="))
    return False


def _are_targets(backend: Backend, labels: Array, kind: str) -> bool:
    """Whether all targets are known to be from 0 to 1, those that take no part included; in two cheap looks."""
    if kind == "integer":
        bounds = backend.bounds(labels)
        return bounds is not None and bounds[0] >= 0 and bounds[1] <= 1
    if not backend.is_readable(labels) or math.prod(labels.shape) == 0:
        return False
    return bool(backend.read((backend.min(labels) >= 0) & (backend.max(labels) <= 1)))


def _no_binary_target(value: Any, position: tuple[int, ...], option: str) -> str:
    """The error for a target, with the option that leaves such elements out."""
    hint = "of -1 and 1 make 0 and 1, or " if value == -1 else ""
    return f"labels must be from 0 to 1, got {value}{at(position)}; {hint}to leave such elements out pass {option}"


# -- values -----------------------------------------------------------------------------------------------------------


def should_look(backend: Backend, x: Array, check: bool | None) -> bool:  # noqa: FBT001 - it is the caller's option
    """Whether values are checked: by default where looking is free."""
    return check or (check is None and backend.is_readable(x))


def read(backend: Backend, condition: Array, name: str, check: bool | None) -> bool | None:  # noqa: FBT001
    """A condition's value; None if it cannot be read, which is an error with check=True."""
    value = backend.read(condition)
    if value is None and check:
        msg = f"check=True must read the values of {name}, got a traced array; check outside the trace"
        raise ValueError(msg)
    return value


def refuse(backend: Backend, name: str, x: Array, *, good: Array, expected: str, hint: str) -> None:
    """Refuse an argument unless ``good`` holds throughout, naming the first place where it does not; for check=True."""
    if not read(backend, backend.any(~good), name, check=True):
        return
    position = first(backend, ~good)
    raise ValueError(
        f"{name} must be {expected}, got {float(backend.stop_gradient(x)[position]):g}{at(position)}; {hint}"
    )


def first(backend: Backend, condition: Array) -> tuple[int, ...]:
    """Position of the first True in C order."""
    flat = int(backend.argmax(backend.astype(backend.reshape(condition, (-1,)), backend.float32), axis=0))
    position = []
    for size in reversed(condition.shape):
        flat, here = divmod(flat, size)
        position.append(here)
    return tuple(reversed(position))


def at(position: tuple[int, ...]) -> str:
    """A position in an error."""
    return f" at position {position[0] if len(position) == 1 else position}" if position else ""


def check_distributions(form: Layout, arguments: Arguments, ways: Ways, dtype: Any) -> None:
    """Refuse soft labels that are no distributions, in rows that take part."""
    backend = form.backend
    labels, where, weight = (_aligned(form, arguments, ways, name) for name in ("labels", "where", "sample_weight"))
    present = present_rows(backend, labels, where, None, hard=False, axis=form.axis)
    present = present if weight is None else both(backend.not_equal(weight, 0), present)
    q = backend.where(present, backend.astype(labels, dtype, copy=False), 0.0)
    hint = "divide each row by its sum, or drop check=True"
    refuse(backend, "labels", q, good=(q >= 0) & backend.isfinite(q), expected="finite and not negative", hint=hint)
    total = form.rows(backend.sum(q, axis=form.axis, keepdims=True))
    tolerance = max(_EPS.get(dtype_name(of.dtype), 2.0**-52) for of in (labels, q)) ** 0.5
    good = (backend.abs(total - 1.0) <= tolerance) | ~form.rows(present)
    refuse(backend, "labels", total, good=good, expected="distributions that sum to 1", hint=hint)


def rows_taking_part(form: Layout, *, hard: bool) -> Callable[..., Any]:
    """What tells rows that take part by their labels, ``where`` and ``ignore_index``."""
    return partial(present_rows, form.backend, hard=hard, axis=form.axis)


def refuse_negative(
    form: Layout,
    name: str,
    arguments: Arguments,
    ways: Ways,
    taking_part: Callable[..., Any],
    *,
    check: bool | None,
) -> None:
    """Refuse negative weights of examples that take part, where the mean divides by their sum."""
    backend = form.backend
    weight = _aligned(form, arguments, ways, name)
    if weight is None or not should_look(backend, weight, check):
        return
    if not read(backend, backend.any(weight < 0), name, check):
        return
    deciding = [_aligned(form, arguments, ways, one) for one in ("labels", "where", "ignore_index")]
    if not all(should_look(backend, x, check) for x in deciding if x is not None and not isinstance(x, int)):
        return
    present = taking_part(*deciding)
    counted = weight if present is None else backend.where(present, weight, 0.0)
    if not read(backend, backend.any(counted < 0), name, check):
        return
    counted = form.rows(counted) if weight.ndim > 0 else weight
    position = first(backend, counted < 0) if weight.ndim > 0 else ()
    msg = (
        f"{name} must not be negative where the mean divides by it, "
        f"got {float(backend.stop_gradient(counted)[position]):g}{at(position)}; pass denominator='count'"
    )
    raise ValueError(msg)


Bounds = dict[str, tuple[str, Callable[[Array], Array]]]

BOUNDS: Bounds = {
    "weight": ("finite and not negative", lambda w: w >= 0),
    "class_weight": ("finite and not negative", lambda w: w >= 0),
    "pos_weight": ("finite and not negative", lambda w: w >= 0),
    "sample_weight": ("finite", lambda s: s == s),  # noqa: PLR0124 - any number will do
    "label_smoothing": ("from 0 to 1", lambda e: (e >= 0) & (e <= 1)),
    "smoothing_prior": ("finite and not negative", lambda u: u >= 0),
    "temperature": ("finite and positive", lambda t: t > 0),
    "softcap": ("finite and positive", lambda c: c > 0),
    "z_loss": ("finite", lambda z: z == z),  # noqa: PLR0124 - the same
    "gamma": ("finite and not negative", lambda g: g >= 0),
    "alpha": ("finite and not negative", lambda a: a >= 0),
    "epsilon": ("finite", lambda e: e == e),  # noqa: PLR0124 - the same
    "q": ("greater than 0 and at most 1", lambda q: (q > 0) & (q <= 1)),
    "eps": ("greater than 0 and at most 0.5", lambda e: (e > 0) & (2 * e <= 1)),
}
BINARY_BOUNDS: Bounds = {  # where weights belong to elements, and α to the two outcomes
    **BOUNDS,
    "weight": BOUNDS["sample_weight"],
    "alpha": ("from 0 to 1", lambda a: (a >= 0) & (a <= 1)),
}


def check_options(
    backend: Backend,
    options: dict[str, Any],
    check: bool | None,  # noqa: FBT001 - it is the caller's option
    bounds: Bounds = BOUNDS,
) -> None:
    """With check=True, refuse options whose values are out of their bounds."""
    if not check:
        return
    for name, (expected, is_good) in bounds.items():
        option = options.get(name)
        if option is not None and not isinstance(option, float):
            good = is_good(option) & backend.isfinite(option)
            refuse(backend, name, option, good=good, expected=expected, hint="mend it, or drop check=True")
