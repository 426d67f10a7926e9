"""Exact derivatives by differences at 100 digits, of any function that is written down in mpmath.

With a step of 1e-30 a central difference is right to more than 50 digits, which makes it a reference that nobody had to
derive. Functions take arrays of mpf by name and return one mpf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
from mpmath import mp, mpf
from ulps import exactly

if TYPE_CHECKING:
    from collections.abc import Mapping

Exact = Any  # an object array of mpf
Function = Callable[[dict[str, Exact]], Any]

STEP = mpf(10) ** -30


def exact_arrays(arrays: Mapping[str, Any]) -> dict[str, Exact]:
    """Numbers as mpf, bool and integer arrays as they are."""
    return {name: x if np.asarray(x).dtype.kind in "biuO" else exactly(x) for name, x in arrays.items()}


def gradient(function: Function, arrays: Mapping[str, Any], by: str) -> Exact:
    """Derivative of the function by each entry of one array; 0 by entries that are not finite."""
    given = exact_arrays(arrays)
    found = np.full(np.shape(given[by]), mpf(0), dtype=object)
    with mp.workdps(oracle.DIGITS):
        for at in np.ndindex(found.shape):
            if mp.isfinite(given[by][at]):
                above, below = (function({**given, by: _moved(given[by], at, step)}) for step in (STEP, -STEP))
                found[at] = mpf(0) if above == below else (above - below) / (2 * STEP)
    return found


def second(function: Function, arrays: Mapping[str, Any], by: str, vector: Any) -> Exact:
    """Hessian by one array, times a vector: how the gradient changes along it."""
    given, v = exact_arrays(arrays), exactly(vector)
    with mp.workdps(oracle.DIGITS):
        still = np.frompyfunc(lambda x, t: t if mp.isfinite(x) else mpf(0), 2, 1)(given[by], v)
        up, down = (gradient(function, {**given, by: given[by] + sign * STEP * still}, by) for sign in (1, -1))
        return np.asarray((up - down) / (2 * STEP), dtype=object)


def _moved(array: Exact, at: tuple[int, ...], step: mpf) -> Exact:
    moved = array.copy()
    moved[at] += step
    return moved
