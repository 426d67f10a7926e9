"""Measure losses of confident predictions in float32, and print them as the tables in the README.

The loss of logits [g, 0] against label 0 is log(1 + exp(-g)), and its derivative by the first logit is
-1 / (1 + exp(g)). Both shrink with the gap g, and both are ordinary float32 numbers up to g = 87. Every column starts
from the same two float32 logits; mpmath says what the results should be.

Run ``python benchmarks/gap_table.py`` where softxent, torch, jax, optax, scipy and mpmath are installed.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jax
import mpmath
import numpy as np
import optax
import scipy.special
import torch

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable

GAPS = (5, 10, 17, 20, 40, 80)
LIBRARIES = ("numpy", "torch", "jax", "optax", "scipy")

Measured = tuple[float, float | None]  # the loss, and its derivative by the label's logit where the library has one


def exact(gap: int) -> Measured:
    """Return both to 60 digits, rounded once."""
    with mpmath.workdps(60):
        return float(mpmath.log1p(mpmath.exp(-gap))), float(-1 / (1 + mpmath.exp(gap)))


def example(gap: int) -> tuple[Any, Any]:
    """Return logits (1, 2) and labels (1,)."""
    return np.asarray([[gap, 0]], dtype=np.float32), np.asarray([0])


def with_numpy(gap: int) -> Measured:
    """Measure softxent on NumPy, with its own derivative."""
    loss, gradient = softxent.value_and_grad(softxent.cross_entropy)(*example(gap))
    return float(loss), float(gradient[0, 0])


def with_scipy(gap: int) -> Measured:
    """Measure what SciPy, which has no such loss, offers for it: its logsumexp less the label's logit."""
    logits, labels = example(gap)
    return float(scipy.special.logsumexp(logits, axis=-1)[0] - logits[0, labels[0]]), None


def with_torch(cross_entropy: Callable[..., Any], gap: int) -> Measured:
    """Measure a loss on torch."""
    logits, labels = map(torch.asarray, example(gap))
    loss = cross_entropy(logits.requires_grad_(), labels)
    loss.backward()
    return loss.item(), logits.grad[0, 0].item()


def with_jax(cross_entropy: Callable[..., Any], gap: int) -> Measured:
    """Measure a loss on jax."""
    loss, gradient = jax.value_and_grad(cross_entropy)(*map(jax.numpy.asarray, example(gap)))
    return float(loss), float(gradient[0, 0])


def optax_mean(logits: Any, labels: Any) -> Any:
    """Take the mean that optax leaves to its caller."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


COLUMNS: dict[str, Callable[[int], Measured]] = {
    "exact": exact,
    "softxent, NumPy": with_numpy,
    "softxent, torch": lambda gap: with_torch(softxent.cross_entropy, gap),
    "softxent, jax": lambda gap: with_jax(softxent.cross_entropy, gap),
    "torch.nn.functional": lambda gap: with_torch(torch.nn.functional.cross_entropy, gap),
    "optax": lambda gap: with_jax(optax_mean, gap),
    "scipy": with_scipy,
}


def table(quantity: str, which: int) -> list[str]:
    """Return a markdown table of the losses (0) or the derivatives (1), without the columns that have none."""
    measured = {name: [column(gap)[which] for gap in GAPS] for name, column in COLUMNS.items()}
    shown = {name: values for name, values in measured.items() if None not in values}
    rows = [(quantity, *shown), ("---:",) * (len(shown) + 1)]
    rows += [
        (f"g = {gap}", *("0" if value == 0 else f"{value:.4e}" for value in values))
        for gap, *values in zip(GAPS, *shown.values(), strict=True)
    ]
    return [f"| {' | '.join(row)} |" for row in rows]


def main() -> None:
    """Print both tables and the versions they were measured with."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print("\n".join([*table("loss", 0), "", *table("derivative", 1), "", f"Measured in float32 with {versions}."]))


if __name__ == "__main__":
    main()
