"""Time calls in turn, so that whatever slows the machine down for a while slows all of them down.

A round takes one sample of every call; the next round takes them in the opposite order. A sample of a short call is
the mean of many calls, long enough for the clock. What a call returns is let go inside the sample, on every side alike.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORTEST_SAMPLE = 2e-3  # seconds
SLOW, SLOW_ROUNDS = 0.5, 5  # calls that take so many seconds get no more rounds than this


@dataclass(frozen=True)
class Plan:
    """How many rounds to take: as many as fit into `seconds`, within bounds."""

    seconds: float
    least: int
    most: int

    def rounds(self, samples: Sequence[float]) -> int:
        """Number of rounds, when each takes these seconds a sample."""
        least = min(self.least, SLOW_ROUNDS) if max(samples) >= SLOW else self.least
        return min(self.most, max(least, int(self.seconds / sum(samples))))


FULL = Plan(seconds=0.3, least=10, most=100)
QUICK = Plan(seconds=0.0, least=3, most=3)


@dataclass(frozen=True)
class Spread:
    """The median of measurements between their quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise two or more measurements."""
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def sample(call: Callable[[], Any], repeats: int) -> float:
    """Seconds per call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def warmed_up(call: Callable[[], Any]) -> int:
    """Call until caches are warm and everything is compiled; return how many repeats make one sample."""
    call()
    return math.ceil(SHORTEST_SAMPLE / min(sample(call, 1) for _ in range(2)))


def interleaved(calls: Sequence[Callable[[], Any]], plan: Plan) -> list[list[float]]:
    """Seconds per call: one list for each of the calls, one entry a round."""
    repeats = [warmed_up(call) for call in calls]
    last_warm_up = [sample(call, number) * number for call, number in zip(calls, repeats, strict=True)]
    seconds: list[list[float]] = [[] for _ in calls]
    turns = list(zip(seconds, calls, repeats, strict=True))
    for _ in range(plan.rounds(last_warm_up)):
        for taken, call, number in turns:
            taken.append(sample(call, number))
        turns.reverse()
    return seconds
