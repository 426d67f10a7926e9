"""Train a softmax classifier on handwritten digits three times over: on NumPy, torch and jax arrays.

The loss is one call, ``softxent.cross_entropy``, and takes whichever arrays it is given. torch and jax differentiate it
themselves; NumPy, which cannot, gets the derivative from ``softxent.value_and_grad``. All three start from zero, see
the same digits in float64 and take the same steps, so what separates their losses in the end is rounding and nothing
else. Then, beside this file, ``newton.py`` takes the NumPy classifier to an optimum by second derivatives,
``calibration.py`` mends one that is too sure of itself, and ``sparsity.py`` predicts some classes with exactly 0.

Run ``python -m nox -s demo``, or this file where softxent, scikit-learn, rich and matplotlib are installed. NumPy is
enough; torch and jax join in where they are installed, and others where ``--with`` names them:

    python -m nox -s demo -- --with tensorflow,paddle,mlx,autograd,ndonnx
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import calibration
import frameworks
import newton
import numpy as np
import sparsity
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

Array = Any  # an array of NumPy, torch, jax or one of the others
Parameters = tuple[Array, Array]  # weights (64, 10) and bias (10,)

SEED, HELD_OUT, CLASSES = 0, 500, 10
STEPS, RATE, MOMENTUM = 400, 0.5, 0.9
LEAST_ACCURACY, LARGEST_DISAGREEMENT = 0.95, 1e-5
EPSILON = float(np.finfo(np.float64).eps)
OUTPUT = Path(__file__).resolve().parent / "output"


# -- The model and its loss: the same lines for every library ----------------------------------------------------------


def logits_of(parameters: Parameters, images: Array) -> Array:
    """Return the logits, (N, 10), of the images, (N, 64)."""
    weights, bias = parameters
    return images @ weights + bias


def loss_of(parameters: Parameters, images: Array, labels: Array) -> Array:
    """Return the mean cross-entropy, a 0-d array of the library that the images came from."""
    return softxent.cross_entropy(logits_of(parameters, images), labels)


# -- The derivative: each library in its own way -----------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """How a library makes an array, and the loss with its gradient at (parameters, images, labels)."""

    asarray: Callable[[Any], Array]
    value_and_gradient: Callable[[Parameters, Array, Array], tuple[Array, Parameters]]


def numpy_library() -> Library:
    """NumPy: softxent's derivative by the logits, and the chain rule through images @ weights + bias."""
    loss_and_gradient = softxent.value_and_grad(softxent.cross_entropy)

    def value_and_gradient(parameters: Parameters, images: Array, labels: Array) -> tuple[Array, Parameters]:
        loss, by_logits = loss_and_gradient(logits_of(parameters, images), labels)
        return loss, (images.T @ by_logits, by_logits.sum(axis=0))

    return Library(np.asarray, value_and_gradient)


def torch_library() -> Library:
    """torch: its own autograd."""
    import torch

    torch.set_num_threads(1)  # on arrays this small threads mostly wait for each other

    def value_and_gradient(parameters: Parameters, images: Array, labels: Array) -> tuple[Array, Parameters]:
        weights, bias = (parameter.detach().requires_grad_() for parameter in parameters)
        loss = loss_of((weights, bias), images, labels)
        loss.backward()
        return loss.detach(), (weights.grad, bias.grad)

    return Library(torch.asarray, value_and_gradient)


def jax_library() -> Library:
    """jax: its own autograd, compiled."""
    import jax

    jax.config.update("jax_enable_x64", val=True)  # without it jax would turn the digits into float32
    return Library(jax.numpy.asarray, jax.jit(jax.value_and_grad(loss_of)))


LIBRARIES = {"numpy": numpy_library, "torch": torch_library, "jax": jax_library}
OTHERS = {name: lambda ways=ways: Library(*ways(loss_of)) for name, ways in frameworks.WAYS.items()}


# -- Training: gradient descent with Nesterov's momentum, on all digits at once ----------------------------------------


@dataclass(frozen=True)
class Run:
    """What one library made of the digits, as NumPy arrays."""

    name: str
    losses: NDArray[np.float64]  # before every step, and after the last
    parameters: tuple[NDArray[np.float64], NDArray[np.float64]]
    accuracy: float  # on the held-out digits
    seconds: float  # of training, jax's compilation included


@dataclass(frozen=True)
class Digits:
    """Images (N, 64) with values in [0, 1] and labels (N,), to train on and held out."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    held_out_images: NDArray[np.float64]
    held_out_labels: NDArray[np.int64]


def load() -> Digits:
    """Shuffle the 1797 digits that scikit-learn ships and hold 500 of them out."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    return Digits(images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT])


def train(name: str, digits: Digits, advance: Callable[[], None]) -> Run:
    """Fit the classifier with one library, calling ``advance`` after every step."""
    library = (LIBRARIES | OTHERS)[name]()
    images, labels = library.asarray(digits.images), library.asarray(digits.labels)
    weights, bias = library.asarray(np.zeros((images.shape[1], CLASSES))), library.asarray(np.zeros(CLASSES))
    velocities = (0 * weights, 0 * bias)
    losses = []

    start = time.perf_counter()
    for _ in range(STEPS):
        loss, gradients = library.value_and_gradient((weights, bias), images, labels)
        velocities = tuple(MOMENTUM * v - RATE * g for v, g in zip(velocities, gradients, strict=True))
        weights, bias = (
            p + MOMENTUM * v - RATE * g for p, v, g in zip((weights, bias), velocities, gradients, strict=True)
        )
        losses.append(float(loss))
        advance()
    losses.append(float(library.value_and_gradient((weights, bias), images, labels)[0]))
    seconds = time.perf_counter() - start

    parameters = np.asarray(weights), np.asarray(bias)
    correct = logits_of(parameters, digits.held_out_images).argmax(-1) == digits.held_out_labels
    return Run(name, np.asarray(losses), parameters, float(np.mean(correct)), seconds)


def train_alone(name: str, digits: Digits) -> Run:
    """Do the same in a process of its own: TensorFlow and Paddle, in one, end it by a fault of memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(train, name, digits, int).result()


# -- What came of it: one table and one figure -------------------------------------------------------------------------


def disagreement_of_losses(one: Run, other: Run) -> float:
    """Return the largest relative difference of two runs' losses over all steps."""
    return float(np.max(np.abs(one.losses - other.losses) / other.losses))


def disagreement_of_parameters(one: Run, other: Run) -> float:
    """Return the largest difference of two runs' parameters, relative to the largest parameter."""
    return max(
        float(np.max(np.abs(p - q)) / np.max(np.abs(q))) for p, q in zip(one.parameters, other.parameters, strict=True)
    )


def largest(measure: Callable[[Run, Run], float], runs: Sequence[Run]) -> float:
    """Return the largest disagreement between any two of the runs."""
    return max((measure(one, other) for one, other in combinations(runs, 2)), default=0.0)


def titled(name: str) -> str:
    """Return a library's name and version; that of its distribution, which may have another name."""
    return f"{name} {version(packages_distributions()[name][0])}"


def table_of(runs: Sequence[Run]) -> Table:
    """One row a library; the last two columns compare it with the first one, NumPy."""
    table = Table(title="The same classifier, trained with softxent.cross_entropy", title_style="bold")
    table.add_column("library")
    for heading in ("loss", "accuracy,\nheld out", "time", "losses\ndiffer by", "parameters\ndiffer by"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            titled(run.name),
            f"{run.losses[-1]:.8f}",
            f"{run.accuracy:.1%}",
            f"{run.seconds:.2f} s",
            *(
                "" if run is runs[0] else f"{measure(run, runs[0]):.1e}"
                for measure in (disagreement_of_losses, disagreement_of_parameters)
            ),
        )
    if runs[1:]:
        worst = largest(disagreement_of_losses, runs)
        table.caption = f"largest disagreement of the losses between any two: {worst:.1e}"
    return table


LINES: dict[str, dict[str, Any]] = {  # the widest below, the thinnest on top: all three show where they coincide
    "numpy": {"color": "#9ecae1", "linewidth": 8, "solid_capstyle": "butt"},
    "torch": {"color": "#d94801", "linewidth": 3, "dashes": (4, 2)},
    "jax": {"color": "black", "linewidth": 1.2, "dashes": (3, 3)},
}
OTHER_LINE = {"linewidth": 1, "dashes": (1, 4)}


def draw_losses(figure: SubFigure, runs: Sequence[Run]) -> None:
    """Draw the loss curves and, where there are several, how far each is from NumPy's."""
    reference, *others = runs
    curves, *beside = figure.subplots(1, 2 if others else 1, width_ratios=(3, 2) if others else None, squeeze=False)[0]
    for run in runs:
        curves.semilogy(run.losses, label=titled(run.name), **LINES.get(run.name, OTHER_LINE))
    curves.set(xlabel="step", ylabel="mean cross-entropy", title="Loss on the training digits")
    curves.set_yticks(ticks := (0.05, 0.1, 0.2, 0.5, 1, 2), labels=map(str, ticks))
    curves.minorticks_off()
    for differences in beside:
        for run in others:
            relative = np.abs(run.losses - reference.losses) / reference.losses
            differences.plot(
                relative / EPSILON, ".", color=LINES.get(run.name, {}).get("color"), markersize=4, label=run.name
            )
        unit = f"relative difference, in units of {EPSILON:.1e}"
        differences.set(xlabel="step", ylabel=unit, title="Distance from NumPy's losses")
    for axes in (curves, *beside):
        axes.legend(frameon=False, handlelength=4)
        axes.spines[["top", "right"]].set_visible(False)


def draw_digits(figure: SubFigure, digits: Digits, run: Run) -> None:
    """Draw held-out digits, from the surest to the most doubtful, each above its predicted distribution."""
    logits = logits_of(run.parameters, digits.held_out_images)
    probabilities = softxent.softmax(logits)
    _, about = softxent.cross_entropy(logits, digits.held_out_labels, reduction="none", aux=("entropy",))
    by_doubt = np.argsort(about["entropy"])
    chosen = by_doubt[[0, 250, 400, 450, -8, -5, -2, -1]]

    figure.suptitle("Held-out digits and their predicted distributions, from the surest to the most doubtful")
    axes = figure.subplots(2, len(chosen), height_ratios=(1, 1))
    for (picture, bars), index in zip(axes.T, chosen, strict=True):
        label = digits.held_out_labels[index]
        picture.imshow(digits.held_out_images[index].reshape(8, 8), cmap="Greys")
        picture.set_title(f"label {label}", fontsize=10)
        picture.axis("off")
        colors = ["#d94801" if c == label else "#6b8ba4" for c in range(CLASSES)]
        bars.bar(range(CLASSES), probabilities[index], color=colors)
        bars.set(ylim=(0, 1), xticks=range(CLASSES), yticks=(0, 0.5, 1))
        bars.tick_params(labelsize=7, length=2)
        bars.spines[["top", "right"]].set_visible(False)
        bars.label_outer()
    axes[1, 0].set_ylabel("probability")
    figure.supxlabel("class (the label's in orange)", fontsize=10)


def draw(digits: Digits, runs: Sequence[Run], path: Path) -> None:
    """Write the figure."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(5, 4), hspace=0.05, squeeze=False)
    draw_losses(halves[0, 0], runs)
    draw_digits(halves[1, 0], digits, runs[0])
    figure.savefig(path, dpi=130)


def asked_for() -> list[str]:
    """Return the libraries that the command line names beside NumPy, torch and jax."""
    parser = argparse.ArgumentParser(description="Train a classifier of digits on several libraries.")
    parser.add_argument("--with", dest="others", default="", metavar="LIBRARY,...", help=f"of {', '.join(OTHERS)}")
    names = [name for name in parser.parse_args().others.split(",") if name]
    unknown = sorted({*names} - {*OTHERS})
    if unknown:
        parser.error(f"--with: no {', '.join(unknown)}; there are {', '.join(OTHERS)}")
    missing = [name for name in names if not find_spec(name)]
    if missing:
        parser.error(f"--with: not installed: {', '.join(missing)}; python -m nox -s demo -- --with ... installs them")
    return names


def main() -> str | None:
    """Train with every library that is installed; return what is wrong with the outcome, None if nothing is."""
    console, others = Console(), asked_for()
    installed = [name for name in LIBRARIES if find_spec(name)]
    for name in LIBRARIES:
        if name not in installed:
            remedy = f"python -m pip install '.[{name}]'"
            console.print(f"{name} is not installed and is left out; to add it: {remedy}", markup=False, soft_wrap=True)

    digits = load()
    columns = TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        tasks = {name: progress.add_task(name, total=STEPS) for name in (*installed, *others)}
        runs = [train(name, digits, partial(progress.advance, tasks[name])) for name in installed]
        for name in others:
            runs.append(train_alone(name, digits))
            progress.update(tasks[name], completed=STEPS)

    console.print(table_of(runs))

    problem = newton.Problem.of(digits.images, digits.labels)
    with console.status("the same classifier to its optimum, by Newton's method and by gradient descent"):
        start = np.zeros((problem.images.shape[1], CLASSES))
        descents = {name: method(problem, start) for name, method in newton.METHODS.items()}
    held_out = newton.Problem.of(digits.held_out_images, digits.held_out_labels)
    console.print(newton.table_of(descents, held_out))

    images = np.concatenate([digits.images, digits.held_out_images])
    labels = np.concatenate([digits.labels, digits.held_out_labels])
    calibrated = calibration.calibrate(images, labels)
    console.print(calibration.table_of(calibrated))

    with console.status("the same classifier with sparse predictions"):
        predictions = sparsity.predict(digits)
    console.print(sparsity.table_of(predictions, digits.held_out_labels))

    OUTPUT.mkdir(exist_ok=True)
    draw(digits, runs, OUTPUT / "digits.png")
    newton.draw(descents, OUTPUT / "newton.png")
    calibration.draw(calibrated, OUTPUT / "calibration.png")
    sparsity.draw(digits, predictions, OUTPUT / "sparse.png")
    for figure in ("digits.png", "newton.png", "calibration.png", "sparse.png"):
        console.print(f"figure: {OUTPUT / figure}", soft_wrap=True, highlight=False)

    if min(run.accuracy for run in runs) < LEAST_ACCURACY:
        return f"an accuracy is below {LEAST_ACCURACY}"
    if largest(disagreement_of_losses, runs) > LARGEST_DISAGREEMENT:
        return f"losses differ by more than {LARGEST_DISAGREEMENT}"
    return newton.fault_of(descents) or calibration.fault_of(calibrated) or sparsity.fault_of(predictions)


if __name__ == "__main__":
    sys.exit(main())
