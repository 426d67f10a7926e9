"""Arguments checked one by one: libraries and devices, dtypes, numbers, choices."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from softxent.backends import backend_of

if TYPE_CHECKING:
    from softxent.backends.generic import Backend

Array = Any

HALVES = ("float16", "bfloat16")
_REAL = "float16, bfloat16, float32, float64, integer or bool"


# -- libraries and devices --------------------------------------------------------------------------------------------


def adopted(**given: Any) -> tuple[Backend, list[Any]]:
    """The backend of the arrays, and the arguments in their order, ready for it; the first has to be an array.

    Python numbers (NumPy's scalars among them, but for the first argument) and None stay what they are.
    """
    libraries: dict[str, Backend] = {}
    for name, value in given.items():
        if not libraries or not (value is None or isinstance(value, Real)):
            libraries[name] = _library(name, value)
    backend = _common(libraries)
    arrays = {name: backend.adopt(given[name]) for name in libraries}
    if len(arrays) > 1:
        _check_devices(backend, arrays)
    return backend, list({**given, **arrays}.values())


def adopted_by_name(**given: Any) -> tuple[Backend, dict[str, Any]]:
    """The same, the arguments by name."""
    backend, arguments = adopted(**given)
    return backend, dict(zip(given, arguments, strict=True))


_ARRAYS = {
    *("logits", "p_logits", "q_logits", "probs", "p_probs", "q_probs", "log_probs", "x", "labels", "noise"),
    *("features", "bias", "class_weight", "where", "weight", "smoothing_prior", "segment_ids", "cotangent", "vector"),
}


def _library(name: str, value: Any) -> Backend:
    backend = backend_of(value)
    if backend is None:
        expected = "an array" if name in _ARRAYS else "a number or an array"
        hint = (
            "wrap it, for example with numpy.asarray(...)"
            if isinstance(value, (list, tuple, Real))
            else ("convert it to a NumPy, PyTorch, JAX, Dask or other array API array")
        )
        msg = f"{name} must be {expected}, got {type(value).__name__}; {hint}"
        raise TypeError(msg)
    oddity = backend.oddity(value)
    if oddity is not None:
        raise TypeError(f"{name} must be a plain array, got {oddity}")
    return backend


def _common(libraries: dict[str, Backend]) -> Backend:
    """The library that all arrays belong to; NumPy's may stand beside those of jax and Dask."""
    (first, backend), *rest = libraries.items()
    for name, other in rest:
        if other is backend:
            continue
        if backend.name == "numpy" and other.adopts_numpy:
            first, backend = name, other
        elif not (other.name == "numpy" and backend.adopts_numpy):
            msg = (
                f"{name} must be of the same library as {first}, got {other.label} beside {backend.label}; "
                "convert one of them"
            )
            raise TypeError(msg)
    return backend


def _check_devices(backend: Backend, arrays: dict[str, Array]) -> None:
    devices = {name: backend.device(array) for name, array in arrays.items()}
    (first, device), *rest = [(name, device) for name, device in devices.items() if device is not None] or [("", None)]
    for name, other in rest:
        if other != device and not backend.is_portable(arrays[name]):
            msg = f"{name} must be on the device of {first}, {device}, got {other}; move one of them"
            raise ValueError(msg)


# -- dtypes -----------------------------------------------------------------------------------------------------------


def dtype_name(dtype: Any) -> str:
    """A dtype's bare name: float32 for numpy.float32, torch.float32 and their like."""
    try:
        return _NAMES[type(dtype), dtype]
    except (KeyError, TypeError):  # not yet known, or no key of a dict
        name = str(getattr(dtype, "name", dtype)).rsplit(".", maxsplit=1)[-1]
        name = name.lower() if name.isupper() else name  # Paddle's are FLOAT32 and the like
        if name in _KINDS:
            _NAMES[type(dtype), dtype] = name
        return name


def kind_of(dtype: Any) -> str:
    """One of "bool", "integer", "floating" or, for what no function takes, "other"."""
    return _KINDS.get(dtype_name(dtype), "other")


_KINDS = {
    "bool": "bool",
    **{f"{sign}int{bits}": "integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **dict.fromkeys((*HALVES, "float32", "float64", "float96", "float128", "longdouble"), "floating"),
}
_NAMES: dict[tuple[type, Any], str] = {}  # as many as libraries have dtypes; none is compared with another library's


def _dtype_hint(name: str) -> str:
    if name.startswith("complex"):
        return "take its real part or absolute value"
    if name.startswith(("float", "bfloat")):
        return "cast it to float16, bfloat16 or float32"
    return "convert it to float32 or float64"


def floating(backend: Backend, name: str, x: Array, dtype: Any) -> tuple[Any, Any]:
    """The dtype of the arithmetic on ``x``, and the one that ``x`` has for the caller: ``dtype`` if given."""
    kind = kind_of(x.dtype)
    if kind == "other":
        msg = f"{name} must be {_REAL}, got dtype {dtype_name(x.dtype)}; {_dtype_hint(dtype_name(x.dtype))}"
        raise TypeError(msg)
    if dtype is not None:
        seen = floating_dtype(backend, dtype, x)
    else:
        seen = x.dtype if kind == "floating" else backend.default_float(x)
    return arithmetic(backend, seen), seen


def jointly_floating(backend: Backend, given: dict[str, Any], dtype: Any) -> tuple[Any, Any]:
    """The same for several arrays: the dtype that all are promoted to. Python numbers follow the arrays."""
    seen = [floating(backend, name, x, dtype)[1] for name, x in given.items() if not isinstance(x, Real)]
    names = {dtype_name(one) for one in seen}
    if len(names) == 1:
        joint = seen[0]
    elif names == set(HALVES):  # neither holds the other
        joint = backend.float32
    else:
        joint = backend.result_type(*seen)
    return arithmetic(backend, joint), joint


def arithmetic(backend: Backend, dtype: Any) -> Any:
    """The dtype to compute in: float32 for halves."""
    return backend.float32 if dtype_name(dtype) in HALVES else dtype


def floating_dtype(backend: Backend, dtype: Any, like: Array) -> Any:
    """The library's floating dtype of the name that ``dtype`` is or has."""
    name = dtype.__name__ if isinstance(dtype, type) else dtype_name(dtype)
    if kind_of(name) != "floating":
        came = repr(dtype)
        came = came if str(name) in came else name
        msg = f"dtype must be a floating dtype or its name, got {came}; pass for example 'float32'"
        raise TypeError(msg)
    found = backend.floating_dtype(name, dtype, like)
    if found is None:
        hint = "; jax has float64 once jax_enable_x64 is set" if backend.name == "jax" and name == "float64" else ""
        msg = f"dtype must be one that {backend.label} has as it is set up and on the array's device, got {name}{hint}"
        raise TypeError(msg)
    return found


def cast(backend: Backend, name: str, option: Any, dtype: Any) -> Any:
    """A real-valued option in the dtype of the arithmetic; Python numbers and None pass."""
    if option is None or isinstance(option, Real):
        return option
    if kind_of(option.dtype) == "other":
        msg = f"{name} must be {_REAL}, got dtype {dtype_name(option.dtype)}; cast it to float32 or float64"
        raise TypeError(msg)
    return option if option.dtype == dtype else backend.quietly(backend.astype, option, dtype, copy=False)


# -- numbers and choices ----------------------------------------------------------------------------------------------


def number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, above: bool = False) -> Any:
    """A Python number within its bounds as a float; an array (whose value is not looked at) or None as it is.

    ``above`` excludes the lower bound. Numbers are finite.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        msg = f"{name} must be a number, got {value}; {_NUMBER_HINTS.get(name, 'None leaves it out')}"
        raise TypeError(msg)
    if not isinstance(value, Real):
        return value
    try:
        as_float = float(value)
    except OverflowError:
        value = as_float = math.inf
    if not math.isfinite(as_float) or as_float < low or as_float > high or (above and as_float == low):
        bounds = "" if low == -math.inf else f" and {'greater than' if above else 'at least'} {low:g}"
        expected = f"finite{bounds}" if high == math.inf else f"from {low:g} to {high:g}"
        msg = f"{name} must be {expected}, got {value!r}; {_NUMBER_HINTS.get(name, 'None leaves it out')}"
        raise ValueError(msg)
    return as_float


_NUMBER_HINTS = {
    "denominator": "pass 'weight', 'count', 'all' or a number",
    "temperature": "the limit at 0 is argmax of the logits",
}


def integer(name: str, value: Any) -> Any:
    """A Python int; an integer array or None as it is."""
    if value is None:
        return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind_of(getattr(value, "dtype", None)) != "integer":
        came = f"dtype {dtype_name(value.dtype)}" if hasattr(value, "dtype") else repr(value)
        msg = f"{name} must be an int or a 0-d array of an integer dtype, got {came}; labels are integers"
        raise TypeError(msg)
    return value


def tristate(name: str, value: Any) -> None:
    """True, False or None."""
    if value is not None and not isinstance(value, bool):
        msg = f"{name} must be True, False or None, got {value!r}"
        raise TypeError(msg)


def flag(name: str, value: Any) -> bool:
    """A Python bool."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {value!r}"
        raise TypeError(msg)
    return value


def mask(backend: Backend, like: Array, where: Any) -> Any:
    """``where`` as a bool array."""
    if where is None:
        return None
    if isinstance(where, bool):
        return backend.scalar(where, like, backend.bool)
    if isinstance(where, Real):
        msg = f"where must be bool, got {where!r}; compare first, for example where=x != 0"
        raise TypeError(msg)
    if kind_of(where.dtype) != "bool":
        msg = f"where must be bool, got dtype {dtype_name(where.dtype)}; compare first, for example where=x != 0"
        raise TypeError(msg)
    return where
