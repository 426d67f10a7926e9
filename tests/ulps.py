"""Errors in units in the last place of the exact result, for every floating dtype the library returns.

`error(result, exact)` compares computed numbers with exact ones (mpmath) entry by entry; `spacing(exact, dtype)` is the
unit itself. Subnormals count in units of the smallest subnormal. An infinity or a NaN must be matched exactly and then
counts as 0, otherwise as infinity. A sign that is wrong at ordinary size is simply a large error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mpmath import mp, mpf

if TYPE_CHECKING:
    from collections.abc import Callable

Exact = Any  # an object array of mpf

# significand bits with the implicit one, exponent of the smallest normal number, exponent past the largest number
FORMATS = {
    "float16": (11, -14, 16),
    "bfloat16": (8, -126, 128),
    "float32": (24, -126, 128),
    "float64": (53, -1022, 1024),
}


def eps(dtype: str) -> float:
    """Spacing of the numbers just above 1."""
    return float(2.0 ** (1 - FORMATS[dtype][0]))


def smallest_normal(dtype: str) -> float:
    """Below this, precision is lost gradually, or altogether where subnormals are flushed."""
    return float(2.0 ** FORMATS[dtype][1])


def largest(dtype: str) -> mpf:
    """The largest finite number."""
    bits, _, top = FORMATS[dtype]
    return mp.ldexp(1 - mp.ldexp(1, -bits), top)


def _spacing(exact: mpf, dtype: str) -> mpf:
    bits, low, top = FORMATS[dtype]
    if not mp.isfinite(exact):
        return mpf(1)
    exponent = low
    if exact:
        _, binary = mp.frexp(exact)  # abs(exact) = m · 2**binary with 1/2 <= m < 1
        exponent = min(max(low, int(binary) - 1), top - 1)
    return mp.ldexp(mpf(1), exponent - bits + 1)


def _difference(result: Any, exact: mpf, dtype: str) -> mpf:
    """abs(result - exact); 0 for equal infinities and for two NaNs, +inf for unequal ones."""
    result = number(result)
    if mp.isnan(exact) or mp.isnan(result):
        return mpf(0) if mp.isnan(exact) and mp.isnan(result) else mp.inf
    if mp.isinf(exact):
        return mpf(0) if result == exact else mp.inf
    if mp.isinf(result):  # rounding to infinity is right from half a unit past the largest number on
        bound = largest(dtype)
        past = bound + _spacing(bound, dtype) / 2
        return mpf(0) if abs(exact) >= past and (result > 0) == (exact > 0) else mp.inf
    return abs(result - exact)


def number(value: Any) -> mpf:
    """Any real number, exactly."""
    return value if isinstance(value, mpf) else mpf(float(value))


def exactly(values: Any) -> Exact:
    """An array of any real dtype as an object array of mpf."""
    return _each(number, np.asarray(values))


def _each(function: Callable[..., Any], *arrays: Any) -> Exact:
    with np.errstate(all="ignore"):  # frompyfunc reports what happened inside mpmath's conversions
        return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), dtype=object)


def spacing(exact: Exact, dtype: str) -> Exact:
    """The unit in the last place of every entry."""
    exact = np.asarray(exact, dtype=object)
    return _each(lambda e: _spacing(e, dtype), exact)


def difference(result: Any, exact: Exact, dtype: str) -> Exact:
    """Absolute errors, with infinities and NaNs matched."""
    result, exact = np.asarray(result), np.asarray(exact, dtype=object)
    if result.shape != exact.shape:
        raise AssertionError(f"shape {result.shape} where {exact.shape} is right")
    return _each(lambda r, e: _difference(r, e, dtype), result, exact)


def error(result: Any, exact: Exact, dtype: str | None = None) -> np.ndarray[Any, Any]:
    """Errors in units in the last place, as float64."""
    dtype = dtype or np.asarray(result).dtype.name
    return np.asarray(difference(result, exact, dtype) / spacing(exact, dtype), dtype=np.float64)
