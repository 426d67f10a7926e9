"""Calls of `cross_entropy` that the tests of torch and jax take through every transform, with their exact derivatives.

`CASES` names them: ties, wide gaps, offsets, -inf, masks of every kind, what takes no part holding NaN, soft labels,
weights, smoothing, temperatures, caps. Each gives one loss a row; `COTANGENT` weighs the rows. All numbers have so few
bits that every shift is exact in float32, so that bounds hold without allowance for it. References: `oracle`, and its
derivatives once more by differences of 1e-30 at 100 digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracle
import ulps
from matrix import numpy_dtype
from mpmath import mp, mpf

Array = Any
Exact = Any

INF, NAN = float("inf"), float("nan")
ROWS = 7
COTANGENT = np.asarray([1.0, -0.5, 2.0, 0.25, 1.5, -1.0, 0.75])


@dataclass(frozen=True)
class Case:
    """A call and what it is differentiated by.

    ``smooth`` names the arguments by which finite differences make sense too: not soft labels that leave 0 where the
    log-probability is -inf. ``sharp``: derivatives by logits are few ULP exact entry by entry, since nothing cancels.
    """

    name: str
    logits: Any
    labels: Any
    options: dict[str, Any] = field(default_factory=dict)
    by: tuple[str, ...] = ("logits",)
    smooth: tuple[str, ...] | None = None
    sharp: bool = False

    def arrays(self, dtype: str) -> dict[str, Any]:
        """All arguments as NumPy arrays: numbers in `dtype`, labels as int32 unless they are distributions.

        The rows are repeated until there are `ROWS`, since jax compiles for every shape anew.
        """
        given = {"logits": self.logits, "labels": self.labels, **self.options}
        return {name: self._rows(name, _array(name, value, dtype)) for name, value in given.items()}

    def _rows(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        by_row = array.ndim > 0 and len(array) == len(self.logits) and name not in {"weight", "smoothing_prior"}
        return np.resize(array, (ROWS, *array.shape[1:])) if by_row else array

    @property
    def varied(self) -> tuple[str, ...]:
        return self.by if self.smooth is None else self.smooth


def _array(name: str, value: Any, dtype: str) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return array
    integers = name == "ignore_index" or (name == "labels" and array.dtype.kind == "i")
    return array.astype("int32" if integers else numpy_dtype(dtype))


CASES = (
    Case(
        "plain",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [0, 40, 0], [1000002, 1000000, 1000001], [6, 6, -6], [3, 3, 3]],
        [2, 0, 0, 0, 1, 1, 2],
        sharp=True,
    ),
    Case(
        "infinities",
        [[-INF, 1, 2], [0, -INF, -INF], [85, 0, -INF], [-80, 0, -INF], [-30000.0, 10000, 0]],
        [1, 0, 0, 0, 1],
        sharp=True,
    ),
    Case(
        "ignored",
        [[0.5, -1.25, 2], [NAN, 1, 2], [INF, INF, NAN], [40, 0, 0], [-INF, -INF, -INF]],
        [0, -1, -1, 0, -1],
        {"ignore_index": -1},
        sharp=True,
    ),
    Case(
        "where-examples",
        [[0.5, -1.25, 2], [NAN, 1, 2], [2, 2, 0]],
        [2, 7, 1],
        {"where": [True, False, True]},
        sharp=True,
    ),
    Case(
        "where-classes",
        [[0.5, NAN, 2], [2, INF, 2], [40, -INF, 0]],
        [2, 0, 0],
        {"where": [[True, False, True]]},
        sharp=True,
    ),
    Case(
        "where-logits",
        [[0.5, NAN, 2], [NAN, INF, -INF], [40, 40, 0], [1, 2, NAN]],
        [2, 0, 1, 0],
        {"where": [[True, False, True], [False, False, False], [True, True, True], [True, False, False]]},
        sharp=True,
    ),
    Case(
        "sample-weight",
        [[0.5, -1.25, 2], [1, 1, -0.5], [0, 3, 0.25], [40, 0, 0]],
        [2, 0, 0, 0],
        {"sample_weight": [2.0, 0.0, -1.0, 0.5]},
        ("logits", "sample_weight"),
        sharp=True,
    ),
    Case(
        "sample-weight-of-nan",
        [[0.5, -1.25, 2], [NAN, 1, INF], [-INF, -INF, -INF], [40, 0, 0]],
        [2, 7, -1, 0],
        {"sample_weight": [2.0, 0.0, 0.0, 0.5]},
        sharp=True,
    ),
    Case(
        "soft",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [0, 40, 0]],
        [[0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.75, 0.0, 0.0]],
        by=("logits", "labels"),
    ),
    Case(
        "soft-zeros",
        [[0.5, -INF, 2], [NAN, 1, INF], [-INF, 40, -INF], [1, 2, 4]],
        [[0.25, 0.0, 0.75], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        by=("logits", "labels"),
        smooth=("logits",),
    ),
    Case(
        "soft-where",
        [[0.5, NAN, 2], [1, 1, -0.5], [NAN, NAN, NAN]],
        [[0.25, 0.0, 0.75], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25]],
        {"where": [[True, False, True], [True, True, True], [False, False, False]]},
        by=("logits", "labels"),
        smooth=("logits",),
    ),
    Case(
        "weight",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [2, 3, 1]],
        [2, 0, 1, 1],
        {"weight": [2.0, 0.0, 0.5]},
        ("logits", "weight"),
        sharp=True,
    ),
    Case(
        "weight-0-at-infinity",
        [[0.5, -1.25, 2], [1, 1, -0.5], [2, -INF, 1]],
        [2, 0, 1],
        {"weight": [2.0, 0.0, 0.5]},
        sharp=True,
    ),
    Case(
        "soft-weight",
        [[0.5, -1.25, 2], [1, 1, -0.5], [3, 0, -INF]],
        [[0.25, 0.5, 0.25], [0.0, 0.5, 0.5], [0.5, 0.25, 0.0]],
        {"weight": [2.0, 1.0, 0.5], "sample_weight": [1.0, 0.5, 2.0], "z_loss": 0.25},
        ("logits", "labels", "weight", "sample_weight"),
        smooth=("logits", "weight", "sample_weight", "z_loss"),
    ),
    Case(
        "smoothing",
        [[0.5, -1.25, 2], [1, 1, -0.5], [8, 0, 0], [NAN, 0, 1]],
        [2, 0, 0, -1],
        {"label_smoothing": 0.125, "ignore_index": -1, "weight": [2.0, 1.0, 0.5]},
        ("logits", "weight"),
        smooth=("logits", "weight", "label_smoothing"),
    ),
    Case(
        "smoothing-prior",
        [[0.5, NAN, 2], [1, 1, -0.5], [8, 0, 0]],
        [[0.25, 0.0, 0.75], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]],
        {
            "label_smoothing": [0.125, 0.5, 0.0],
            "smoothing_prior": [0.5, 0.25, 0.75],
            "where": [[True, False, True], [True, True, True], [True, True, True]],
        },
        smooth=("logits", "label_smoothing", "smoothing_prior"),
    ),
    Case(
        "temperature",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [-INF, 0, 2]],
        [2, 0, 0, 1],
        {"temperature": 0.5},
        ("logits", "temperature"),
        sharp=True,
    ),
    Case(
        "temperature-examples",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [-INF, 0, 2], [NAN, 0, 1]],
        [2, 0, 0, 1, -1],
        {"temperature": [0.5, 2.0, 4.0, 0.25, 1.0], "ignore_index": -1, "label_smoothing": 0.0},
        ("logits", "temperature"),
        smooth=("logits", "temperature"),
    ),
    Case(
        "temperature-classes",
        [[0.5, -1.25, 2], [1, 2, -0.5], [40, 0, 0], [-INF, 0, 2]],
        [2, 0, 0, 1],
        {"temperature": [[0.5, 1.0, 2.0]]},
        ("logits", "temperature"),
        sharp=True,
    ),
    Case(
        "softcap",
        [[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [-INF, 0, 2]],
        [2, 0, 0, 1],
        {"softcap": 8.0, "z_loss": 0.5},
        smooth=("logits", "softcap", "z_loss"),
    ),
    Case(
        "everything",
        [[0.5, -1.25, 2], [1, 1, NAN], [40, 0, 0], [NAN, NAN, 1], [INF, NAN, NAN]],
        [2, 0, 0, -1, 1],
        {
            "where": [[True, True, True], [True, True, False], [True, True, True], [True, True, True], [False] * 3],
            "ignore_index": -1,
            "weight": [2.0, 1.0, 0.5],
            "sample_weight": [1.0, 0.5, 2.0, 1.0, 1.0],
            "label_smoothing": [0.125, 0.25, 0.5, 0.25, 0.125],
            "smoothing_prior": [0.5, 0.25, 0.25],
            "temperature": [0.5, 2.0, 1.0, 1.0, 1.0],
            "softcap": 16.0,
            "z_loss": 0.125,
        },
        ("logits", "weight", "sample_weight", "temperature"),
        smooth=(
            "logits",
            "weight",
            "sample_weight",
            "label_smoothing",
            "smoothing_prior",
            "temperature",
            "softcap",
            "z_loss",
        ),
    ),
)
BY_NAME = {case.name: case for case in CASES}
NAMES = tuple(BY_NAME)


# -- exact ------------------------------------------------------------------------------------------------------------


def exact(case: Case, dtype: str = "float64") -> oracle.CrossEntropy:
    """The call, by the oracle, on the numbers as they are in `dtype`."""
    return oracle.cross_entropy(**case.arrays(dtype))


def gradient(case: Case, name: str, dtype: str = "float64") -> oracle.Sum:
    """The exact derivative of Σ cotangent · row by an argument, and the sum of its terms' absolute values."""
    return exact(case, dtype).gradient(name, COTANGENT)


def hessian(case: Case) -> oracle.Sum:
    """Second derivatives of each row by its own logits: (rows, classes, classes), from differences at 100 digits.

    The absolute terms are those of A (δ_ij p_i - p_i p_j), A being what the row's loss is of a label's.
    """
    arrays = case.arrays("float64")
    logits = ulps.exactly(arrays.pop("logits"))
    rows, classes = logits.shape
    found = np.full((rows, classes, classes), mpf(0), dtype=object)
    absolute = found.copy()
    examples = exact(case).examples
    with mp.workdps(oracle.DIGITS):
        step = mpf(10) ** -30
        for j in range(classes):
            up, down = logits.copy(), logits.copy()
            up[:, j] += step
            down[:, j] -= step
            above, below = (oracle.cross_entropy(x, **arrays).gradient("logits").value for x in (up, down))
            for n, i in np.ndindex(rows, classes):
                e = examples[n]
                found[n, i, j] = mpf(0) if above[n, i] == below[n, i] else (above[n, i] - below[n, i]) / (2 * step)
                if e.takes_part:
                    factor = abs(e.s * sum(e.a, mpf(0))) / (e.temperature[i] * e.temperature[j])
                    absolute[n, i, j] = factor * (e.d.p[i] * e.d.p[j] + (e.d.p[i] if i == j else 0))
    return oracle.Sum(found, absolute)


def tangent(case: Case, name: str) -> np.ndarray[Any, Any]:
    """A direction for an argument: it leaves alone what is not finite, and 0 where 0 says that something is absent."""
    value = case.arrays("float64")[name]
    direction = np.resize(np.asarray([1.0, -0.5, 0.25, 2.0, 0.5]), value.shape)
    still = ~np.isfinite(value) | ((value == 0) & (name != "logits"))
    return np.where(still, 0.0, direction)


def second_derivative(case: Case, by: tuple[str, ...]) -> dict[str, Exact]:
    """How the gradient of Σ cotangent · row by each argument changes along `tangent`, at 100 digits."""
    arrays = case.arrays("float64")
    with mp.workdps(oracle.DIGITS):
        step = mpf(10) ** -30
        sides = []
        for sign in (1, -1):
            moved = {n: _moved(arrays[n], sign * step * ulps.exactly(tangent(case, n))) for n in by}
            call = oracle.cross_entropy(**{**arrays, **moved})
            sides.append({n: np.asarray(call.gradient(n, COTANGENT).value, dtype=object) for n in by})
        slope = np.frompyfunc(lambda a, b: mpf(0) if a == b else (a - b) / (2 * step), 2, 1)
        return {n: np.asarray(slope(sides[0][n], sides[1][n]), dtype=object) for n in by}


def _moved(array: np.ndarray[Any, Any], by: Exact) -> Exact:
    return np.asarray(ulps.exactly(array) + by, dtype=object)


def row_gaps(case: Case) -> Any:
    """The widest gap of every row, over the temperature; rows that take no part have none."""
    widest = [max([g for g in e.d.gap if mp.isfinite(g)], default=mpf(0)) for e in exact(case).examples]
    return np.asarray(widest, dtype=object)[:, None]


def temperature_gap(case: Case) -> float:
    """What rounding of the gaps over a temperature or through a cap costs, in ULP; 0 where they are exact."""
    if "softcap" not in case.options:
        return 0.0
    arrays = case.arrays("float64")
    x = np.nan_to_num(arrays["logits"], nan=0.0, posinf=0.0, neginf=0.0)
    cap = float(arrays["softcap"])
    widest: float = np.max(np.abs(cap * np.tanh(x / cap))) / np.min(arrays.get("temperature", 1.0))
    return 2.0 * widest


# -- held against it --------------------------------------------------------------------------------------------------


def assert_close(result: Any, sums: oracle.Sum, *, dtype: str, gap: Any = 0.0, floor: float = 0.0) -> None:
    """Within (4 + gap) · u of the absolute terms, underflow aside; 0 where nothing is summed."""
    bound = (4.0 + gap) * ulps.eps(dtype) / 2
    absolute = np.asarray(sums.absolute, dtype=object)
    finite = np.asarray(np.frompyfunc(mp.isfinite, 1, 1)(absolute), dtype=bool)
    room = np.where(finite, absolute, mpf(0)) * bound
    room = np.where(absolute == 0, mpf(0), room + (floor + 4 * ulps.eps(dtype)) * ulps.smallest_normal(dtype))
    off = ulps.difference(np.asarray(result, dtype=np.float64), np.asarray(sums.value, dtype=object), dtype)
    assert np.all(off <= room), f"off by {off / ulps.eps(dtype)} eps, of {absolute}\n{result}\n{sums.value}"


def assert_ulps(result: Any, value: Exact, *, dtype: str, bound: float, floor: float = 0.0) -> None:
    """Within `bound` units in the last place, entry by entry; an exact 0 admits only `floor` smallest normals."""
    value = np.asarray(value, dtype=object)
    room = ulps.spacing(value, dtype) * bound + floor * ulps.smallest_normal(dtype)
    room = np.where(value == 0, mpf(floor * ulps.smallest_normal(dtype)), room)
    off = ulps.difference(np.asarray(result, dtype=np.float64), value, dtype)
    assert np.all(off <= room), f"off by {off / ulps.spacing(value, dtype)} ULP\n{result}\n{value}"


def assert_gradient(case: Case, name: str, result: Any, *, dtype: str, floor: float = 0.0) -> None:
    """The derivative of Σ cotangent · row by an argument, against the exact one."""
    sums = gradient(case, name, dtype)
    gap = temperature_gap(case)
    assert_close(result, sums, dtype=dtype, gap=gap, floor=floor)
    if case.sharp and name == "logits":
        assert_ulps(result, sums.value, dtype=dtype, bound=4.0 + gap, floor=floor)
