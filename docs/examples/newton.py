"""Newton's method on NumPy, beside gradient descent, for the classifier of ``digits.py``, which runs this file.

The loss is the mean cross-entropy plus a small ridge penalty. Without the penalty there is no optimum to reach: a
linear classifier can tell the training digits apart, and the larger its weights grow, the lower the loss. With it the
loss is strictly convex and has exactly one.

A Newton step solves Hessian · step = -gradient. Conjugate gradients do that with nothing but products of the Hessian
with vectors. ``softxent.hvp`` has those by the logits, and two matrix products with the images carry them to the
weights, as they carry the gradient from ``softxent.value_and_grad``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Weights = NDArray[np.float64]  # (65, 10), the last row being the bias

RIDGE = 1e-3  # times half the sum of squares of all weights
SMALL_ENOUGH = 1e-12  # a gradient of this norm counts as the optimum,
MOST_STEPS = 10  # which Newton's method has to reach in so many steps;
PATIENCE = 5000  # gradient descent gives up after so many.
LARGEST_DIFFERENCE = 1e-12  # of the losses that the two end with
SUFFICIENT = 1e-4  # the part that a step has to bring of the decrease that the slope promises
ROUNDING = 8 * float(np.finfo(np.float64).eps)  # relative; a lower loss may come out higher by so much

value_and_gradient = softxent.value_and_grad(softxent.cross_entropy)
hessian_product = softxent.hvp(softxent.cross_entropy)


# -- The problem -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Images (N, 65), whose last column is all 1 so that the last row of the weights is the bias; labels (N,)."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, images: NDArray[np.float64], labels: NDArray[np.int64]) -> Problem:
        """Append that column to images (N, 64)."""
        return cls(np.concatenate([images, np.ones((len(images), 1))], axis=1), labels)

    def loss(self, weights: Weights) -> float:
        """Return the loss."""
        return float(softxent.cross_entropy(self.images @ weights, self.labels) + RIDGE / 2 * np.sum(weights**2))

    def loss_and_gradient(self, weights: Weights) -> tuple[float, Weights]:
        """Return the loss and its gradient by the weights."""
        loss, by_logits = value_and_gradient(self.images @ weights, self.labels)
        return float(loss + RIDGE / 2 * np.sum(weights**2)), self.images.T @ by_logits + RIDGE * weights

    def hessian(self, weights: Weights) -> Callable[[Weights], Weights]:
        """Return the function that multiplies a direction by the Hessian at the weights."""
        logits = self.images @ weights

        def times(direction: Weights) -> Weights:
            by_logits = hessian_product(logits, self.labels, vector=self.images @ direction)
            return self.images.T @ by_logits + RIDGE * direction

        return times

    def accuracy(self, weights: Weights) -> float:
        """Return the share of images whose largest logit is the label's."""
        return float(np.mean(np.argmax(self.images @ weights, axis=-1) == self.labels))


# -- Two ways to its optimum -------------------------------------------------------------------------------------------


@dataclass
class Descent:
    """The way of one method. The lists have an entry for the start, and one after every step."""

    weights: Weights
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)  # of the gradient
    passes: list[int] = field(default_factory=list)  # matrix products with the images so far
    hessian_products: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.losses) - 1

    def arrived(self, loss: float, gradient: Weights, passes: int) -> bool:
        """Write down where the weights are, and tell whether that is the optimum."""
        self.losses.append(loss)
        self.norms.append(float(np.linalg.norm(gradient)))
        self.passes.append(passes)
        return self.norms[-1] <= SMALL_ENOUGH


def newton(problem: Problem, start: Weights) -> Descent:
    """Take Newton steps. The smaller the gradient, the more exactly each is solved: so the digits double at the end."""
    descent = Descent(start)
    began = time.perf_counter()
    loss, gradient = problem.loss_and_gradient(start)
    passes = 2
    while not descent.arrived(loss, gradient, passes) and descent.steps < MOST_STEPS:
        tolerance = min(0.1, descent.norms[-1]) * descent.norms[-1]
        step, products = conjugate_gradients(problem.hessian(descent.weights), -gradient, tolerance)
        descent.weights, trials = line_search(problem, descent.weights, step, loss, float(np.sum(gradient * step)))
        loss, gradient = problem.loss_and_gradient(descent.weights)
        descent.hessian_products += products
        passes += 1 + 2 * products + trials + 2
    descent.seconds = time.perf_counter() - began
    return descent


def conjugate_gradients(times: Callable[[Weights], Weights], target: Weights, tolerance: float) -> tuple[Weights, int]:
    """Solve times(x) = target until the residual has no larger norm; return x and the number of products."""
    x, residual, direction, products = np.zeros_like(target), target, target, 0
    square = np.sum(residual**2)
    while np.sqrt(square) > tolerance and products < target.size:
        product = times(direction)
        products += 1
        length = square / np.sum(direction * product)
        x = x + length * direction
        residual = residual - length * product
        previous, square = square, np.sum(residual**2)
        direction = residual + square / previous * direction
    return x, products


def line_search(problem: Problem, weights: Weights, step: Weights, loss: float, slope: float) -> tuple[Weights, int]:
    """Halve the step until the loss decreases; return the new weights and the number of trials."""
    length, trials = 1.0, 1
    while problem.loss(weights + length * step) > loss + SUFFICIENT * length * slope + ROUNDING * loss:
        length, trials = length / 2, trials + 1
    return weights + length * step, trials


def gradient_descent(problem: Problem, start: Weights) -> Descent:
    """Take steps with Nesterov's momentum; rate and momentum are the best that bounds of the Hessian allow.

    Its eigenvalues lie between the ridge and, as those of one row by its logits are 1/2 at most, ``steepest``.
    """
    steepest = np.linalg.eigvalsh(problem.images.T @ problem.images)[-1] / (2 * len(problem.labels)) + RIDGE
    rate, root = 1 / steepest, np.sqrt(RIDGE / steepest)
    momentum = (1 - root) / (1 + root)

    descent = Descent(start)
    began = time.perf_counter()
    velocity = np.zeros_like(start)
    loss, gradient = problem.loss_and_gradient(start)
    passes = 2
    while not descent.arrived(loss, gradient, passes) and descent.steps < PATIENCE:
        velocity = momentum * velocity - rate * gradient
        descent.weights = descent.weights + momentum * velocity - rate * gradient
        loss, gradient = problem.loss_and_gradient(descent.weights)
        passes += 2
    descent.seconds = time.perf_counter() - began
    return descent


METHODS = {"Newton": newton, "gradient descent": gradient_descent}


def fault_of(descents: dict[str, Descent]) -> str | None:
    """Return what is wrong with the outcome, None if nothing is."""
    if descents["Newton"].norms[-1] > SMALL_ENOUGH:
        return f"Newton's method leaves a gradient above {SMALL_ENOUGH} after {MOST_STEPS} steps"
    losses = [descent.losses[-1] for descent in descents.values()]
    if max(losses) - min(losses) > LARGEST_DIFFERENCE:
        return f"the losses at the end differ by more than {LARGEST_DIFFERENCE}"
    return None


# -- What came of it: one table and one figure -------------------------------------------------------------------------


def table_of(descents: dict[str, Descent], held_out: Problem) -> Table:
    """One column a method."""
    table = Table(title="Two ways to the optimum under a ridge penalty, on NumPy", title_style="bold")
    table.add_column()
    for name in descents:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[Descent], str]] = {
        "steps": lambda d: f"{d.steps}",
        "products with the Hessian": lambda d: f"{d.hessian_products}",
        "matrix products with the images": lambda d: f"{d.passes[-1]}",
        "time": lambda d: f"{d.seconds:.2f} s",
        "loss": lambda d: f"{d.losses[-1]:.12f}",
        "norm of the gradient": lambda d: f"{d.norms[-1]:.1e}",
        "accuracy, held out": lambda d: f"{held_out.accuracy(d.weights):.1%}",
    }
    for heading, cell in rows.items():
        table.add_row(heading, *map(cell, descents.values()))
    return table


LINES = {
    "Newton": {"color": "#d94801", "marker": "o"},
    "gradient descent": {"color": "#6b8ba4"},
}


def draw(descents: dict[str, Descent], path: Path) -> None:
    """Write the figure: the norm of the gradient against steps, and against what the steps cost."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    by_steps, by_passes = figure.subplots(1, 2, sharey=True)
    for name, descent in descents.items():
        label = f"{name}: {descent.steps} steps, {descent.seconds:.1f} s"
        by_steps.plot(range(descent.steps + 1), descent.norms, linewidth=2, label=label, **LINES[name])
        by_passes.plot(descent.passes, descent.norms, linewidth=2, label=label, **LINES[name])
    for axes in (by_steps, by_passes):
        axes.axhline(SMALL_ENOUGH, color="black", linewidth=0.8, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yscale("log")
    by_steps.set_xscale("symlog", linthresh=10, linscale=1.5)  # room for a handful of steps beside thousands
    by_steps.set_xticks(ticks := (0, 2, 4, 6, 8, 10, 100, 1000), labels=map(str, ticks))
    by_steps.set_xlim(left=-0.5)
    by_steps.set(xlabel="steps, logarithmic from 10 on", ylabel="norm of the gradient", title="By steps")
    by_steps.text(10, 1.5 * SMALL_ENOUGH, "counts as the optimum")
    by_passes.set(xlabel="matrix products with the images, two a gradient or Hessian product", title="By work")
    by_passes.legend(frameon=False)
    figure.suptitle("The way to the optimum on NumPy: Newton's method through softxent.hvp, and gradient descent")
    figure.savefig(path, dpi=130)
