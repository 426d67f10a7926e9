"""Calibrate a classifier that is too sure of itself, on NumPy: ``digits.py`` runs this file.

A linear classifier sees the upper three rows of 300 handwritten digits until it has learned them by heart. On other
digits, many of which are ambiguous that way, it is right less often than its probabilities say. One number mends that:
the logits are multiplied by an inverse temperature β, the one with the smallest loss on digits kept for the purpose.
The loss is convex in β, and Newton's method has both derivatives from the library: with z = β x they are
Σ x · ∂loss/∂z and Σ x · (∂²loss/∂z² x), made of what ``value_and_grad`` and ``hvp`` return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import softxent

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEEN = 3 * 8  # pixels of the 64
LEARNED, KEPT = 300, 500  # digits to fit the classifier to, and the temperature; the others are for the diagram
STEPS, RATE, MOMENTUM = 2000, 0.2, 0.99
SMALL_ENOUGH = 1e-12  # a derivative by β of this size counts as 0
MOST_STEPS = 20
BINS = 10
LEAST_GAIN = 2.0  # times by which the calibration error has to shrink

value_and_gradient = softxent.value_and_grad(softxent.cross_entropy)
hessian_product = softxent.hvp(softxent.cross_entropy)


@dataclass(frozen=True)
class Calibration:
    """Logits and labels of digits that nothing was fitted to, and the inverse temperatures on the way to the best."""

    logits: Floats
    labels: NDArray[np.int64]
    path: list[float]

    @property
    def probabilities(self) -> dict[str, Floats]:
        """Predicted distributions before and after."""
        return {
            "as fitted": softxent.softmax(self.logits),
            "calibrated": softxent.softmax(self.logits, temperature=1 / self.path[-1]),
        }

    def errors(self) -> dict[str, float]:
        """The calibration error before and after."""
        return {name: calibration_error(p, self.labels) for name, p in self.probabilities.items()}


def calibrate(images: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Fit the classifier, then the temperature, to digits of their own."""
    first, second = LEARNED, LEARNED + KEPT
    images = images[:, :SEEN]
    weights = fit(images[:first], labels[:first])
    path = temperatures(images[first:second] @ weights, labels[first:second])
    return Calibration(images[second:] @ weights, labels[second:], path)


def fit(images: Floats, labels: NDArray[np.int64]) -> Floats:
    """Fit a linear classifier by gradient descent with momentum, without any penalty."""
    weights = velocity = np.zeros((images.shape[1], 10))
    for _ in range(STEPS):
        _, by_logits = value_and_gradient(images @ weights, labels)
        velocity = MOMENTUM * velocity - RATE * images.T @ by_logits
        weights = weights + velocity
    return weights


def temperatures(logits: Floats, labels: NDArray[np.int64]) -> list[float]:
    """Newton's way from β = 1 to the inverse temperature with the smallest loss."""
    path = [1.0]
    for _ in range(MOST_STEPS):
        _, by_z = value_and_gradient(path[-1] * logits, labels)
        slope = float(np.sum(logits * by_z))
        if abs(slope) <= SMALL_ENOUGH:
            break
        bend = float(np.sum(logits * hessian_product(path[-1] * logits, labels, vector=logits)))
        step = -slope / bend
        path.append(path[-1] + max(step, -path[-1] / 2))  # β stays positive
    return path


def reliability(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """By how sure the prediction is: mean confidence, accuracy, and number of digits in each bin that has any."""
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    some = counts > 0
    sums = [np.bincount(bins, weights=x, minlength=BINS)[some] / counts[some] for x in (confidence, correct)]
    return sums[0], sums[1], counts[some]


def calibration_error(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    """How far accuracy is from confidence, on average over the digits."""
    confidence, accuracy, counts = reliability(probabilities, labels)
    return float(np.sum(counts * np.abs(confidence - accuracy)) / np.sum(counts))


def fault_of(found: Calibration) -> str | None:
    """Return what is wrong with the outcome, None if nothing is."""
    before, after = found.errors().values()
    if after * LEAST_GAIN > before:
        return f"calibration takes its error from {before:.3f} to {after:.3f} only"
    return None


def table_of(found: Calibration) -> Table:
    """One column before, one after."""
    table = Table(title="One temperature for a classifier that is too sure, on NumPy", title_style="bold")
    table.add_column()
    rows: dict[str, list[str]] = {"temperature": ["1.000", f"{1 / found.path[-1]:.3f}"]}
    for name, p in found.probabilities.items():
        table.add_column(name, justify="right")
        loss = softxent.cross_entropy_from_probs(p, found.labels)
        rows.setdefault("loss on further digits", []).append(f"{float(loss):.4f}")
        rows.setdefault("mean entropy", []).append(f"{float(np.mean(softxent.entropy_from_probs(p))):.4f}")
        rows.setdefault("confidence less accuracy", []).append(f"{calibration_error(p, found.labels):.4f}")
        rows.setdefault("accuracy", []).append(f"{np.mean(p.argmax(-1) == found.labels):.1%}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    table.caption = f"the temperature by Newton's method, in {len(found.path) - 1} steps"
    return table


def draw_reliability(axes: Axes, name: str, probabilities: Floats, labels: NDArray[np.int64]) -> None:
    """Draw accuracy against confidence; the area of a point is the number of digits it stands for."""
    confidence, accuracy, counts = reliability(probabilities, labels)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="as sure as right")
    axes.vlines(confidence, accuracy, confidence, color="#d94801", linewidth=1.5, label="the difference")
    axes.scatter(confidence, accuracy, s=8 + counts / 2, color="#6b8ba4", zorder=3, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    axes.set_title(f"{name}: on average {calibration_error(probabilities, labels):.3f} apart")
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


def draw(found: Calibration, path: Path) -> None:
    """Write the figure: the reliability diagrams before and after."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (name, p) in zip(panels, found.probabilities.items(), strict=True):
        draw_reliability(axes, name, p, found.labels)
    figure.savefig(path, dpi=130)
