"""What a measurement is to reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantity = Literal["ratio", "µs", "memory ÷ input", "memory ÷ peer's", "memory ÷ that of 1/16", "slope"]


@dataclass(frozen=True)
class Target:
    """A bound on a quantity: from below on a ratio, peer ÷ ours, and from above on everything else."""

    bound: float
    quantity: Quantity = "ratio"

    def is_met(self, measured: float) -> bool:
        """Whether the measured value keeps to the bound."""
        return measured >= self.bound if self.quantity == "ratio" else measured <= self.bound

    def __str__(self) -> str:
        """As in the table: sign and bound."""
        return f"{'≥' if self.quantity == 'ratio' else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Outcome:
    """A target beside what was measured."""

    library: str
    function: str
    size: str
    peer: str
    target: Target
    measured: float
