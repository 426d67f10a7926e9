"""Time and extra memory of our calls as the rows or the classes grow over decades."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import memory
import numpy as np
import suites
import torch
from inputs import Shape, given
from targets import Outcome, Target
from timing import interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memory import Usage
    from timing import Plan

# While one grows, the other stays.
ROWS, CLASSES = tuple(10**k for k in range(2, 7)), tuple(10**k for k in range(2, 8))
FIXED_CLASSES, FIXED_ROWS = 100, 8
UPPER = 3  # sizes, two decades apart, that the slope is fitted to; below them calls are still getting up to speed
COPIED = 2**26  # elements of the array whose copy shows the bandwidth

STEEPEST = Target(1.1, "slope")
# Of memory beyond the results: losses of single rows and blocks of scratch.
LARGEST = Target(0.05, "memory ÷ input")


@dataclass(frozen=True)
class Curve:
    """What grows, and the sizes."""

    library: str
    function: str
    axis: str
    shapes: tuple[Shape, ...]

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"growth {self.library} {self.function} {self.axis}"


@dataclass(frozen=True)
class Measured:
    """A curve with seconds and memory at each size."""

    curve: Curve
    seconds: tuple[float, ...]
    usage: tuple[Usage, ...]

    @property
    def elements(self) -> tuple[int, ...]:
        """Number of logits at each size."""
        return tuple(rows * classes for rows, classes in self.curve.shapes)

    @property
    def slope(self) -> float:
        """Of the logarithm of time over that of size, in the upper decades: 1 where time is linear."""
        logarithms = (np.log(values[-UPPER:]) for values in (self.elements, self.seconds))
        return statistics.linear_regression(*logarithms).slope

    def outcomes(self) -> list[Outcome]:
        """Both targets and what became of them."""
        last = self.usage[-1]
        size = f"{self.curve.axis} up to {suites.size_text(self.curve.shapes[-1])}"
        outcome = partial(Outcome, self.curve.library, self.curve.function, size, "")
        return [outcome(STEEPEST, self.slope), outcome(LARGEST, (last.extra - last.results) / last.given)]


CURVES = tuple(
    Curve(library, function, axis, shapes)
    for library in ("NumPy", "torch")
    for function in ("logsumexp", suites.WITH_GRADIENT)
    for axis, shapes in (
        ("rows", tuple((rows, FIXED_CLASSES) for rows in ROWS)),
        ("classes", tuple((FIXED_ROWS, classes) for classes in CLASSES)),
    )
)


def call_of(curve: Curve, shape: Shape) -> Callable[[], object]:
    """Our call at one size."""
    ours = memory.pair_of(curve.library, curve.function).ours
    return partial(ours.call, *given(ours.library, shape))


def timed(curve: Curve, plan: Plan) -> tuple[float, ...]:
    """Median seconds at each size."""
    return tuple(statistics.median(interleaved([call_of(curve, shape)], plan)[0]) for shape in curve.shapes)


def weighed(curve: Curve) -> tuple[Usage, ...]:
    """Memory at each size."""
    return tuple(memory.weigh("ours", curve.library, curve.function, curve.shapes))


def all_weighed(curves: Sequence[Curve]) -> list[tuple[Usage, ...]]:
    """Memory of all curves, several processes at once."""
    with ThreadPoolExecutor(memory.AT_ONCE) as pool:
        return list(pool.map(weighed, curves))


def copying(plan: Plan) -> float:
    """Seconds that torch, with all its threads, needs to copy one float32 of a large array into another."""
    source = torch.ones(COPIED)
    target = torch.empty_like(source).fill_(0)
    return statistics.median(interleaved([partial(target.copy_, source)], plan)[0]) / COPIED
