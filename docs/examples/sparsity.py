"""Sparse predictions beside dense ones, on NumPy: ``digits.py`` runs this file, and it runs alone.

Softmax never rules a class out: all ten digits keep a probability, however small. Sparsemax, and entmax between the
two, give exactly 0 to the classes that are too far behind. Each map has a loss whose gradient by the logits is the
map's prediction minus the label. Here a linear classifier is trained with each of them, by the same steps, and asked
about the held-out digits: most are left with one class, the ambiguous ones with the few that they could be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import softxent

if TYPE_CHECKING:
    from pathlib import Path

    from digits import Digits
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Predictions = dict[str, NDArray[np.float64]]  # for each map the probabilities of the held-out digits, (N, 10)

MAPS = {  # each with its loss; the α of entmax and entmax_loss is 1.5 unless given
    "softmax": (softxent.softmax, softxent.cross_entropy),
    "entmax, α = 1.5": (softxent.entmax, softxent.entmax_loss),
    "sparsemax": (softxent.sparsemax, softxent.sparsemax_loss),
}
CLASSES, DRAWN = 10, 5
STEPS, RATE, MOMENTUM = 200, 0.5, 0.9
LARGEST_SUPPORT = 2.0  # classes on average that entmax and sparsemax may leave


def predict(digits: Digits) -> Predictions:
    """Train a classifier with each loss, by gradient descent with momentum, and ask it about the held-out digits."""
    images, held_out = (np.pad(x, ((0, 0), (0, 1)), constant_values=1) for x in (digits.images, digits.held_out_images))
    predictions = {}
    for name, (mapping, loss) in MAPS.items():
        value_and_gradient = softxent.value_and_grad(loss)
        weights = velocity = np.zeros((images.shape[1], CLASSES))  # the last row is the bias
        for _ in range(STEPS):
            _, by_logits = value_and_gradient(images @ weights, digits.labels)
            velocity = MOMENTUM * velocity - RATE * images.T @ by_logits
            weights = weights + velocity
        predictions[name] = mapping(held_out @ weights)
    return predictions


def fault_of(predictions: Predictions) -> str | None:
    """Return what is wrong with the outcome, None if nothing is."""
    _, *sparse = (np.mean(np.count_nonzero(p, axis=-1)) for p in predictions.values())
    return f"the supports have {max(sparse):.2f} classes on average" if max(sparse) > LARGEST_SUPPORT else None


def table_of(predictions: Predictions, labels: NDArray[np.int64]) -> Table:
    """One row a map; the support is the classes with a probability other than 0."""
    table = Table(title="Dense and sparse predictions of the held-out digits, on NumPy", title_style="bold")
    table.add_column("map")
    for heading in ("accuracy", "mean size of\nthe support", "digits with one\nclass alone", "of these\nright"):
        table.add_column(heading, justify="right")
    for name, p in predictions.items():
        right, support = p.argmax(axis=-1) == labels, np.count_nonzero(p, axis=-1)
        sure = f"{np.mean(right[support == 1]):.1%}" if np.any(support == 1) else "none"
        table.add_row(name, f"{np.mean(right):.1%}", f"{np.mean(support):.2f}", f"{np.mean(support == 1):.1%}", sure)
    return table


def draw_bars(axes: Axes, probabilities: NDArray[np.float64], label: int) -> None:
    """Draw one predicted distribution, the label's bar in orange; the numerals of classes with probability 0 fade."""
    axes.bar(range(CLASSES), probabilities, color=["#d94801" if c == label else "#6b8ba4" for c in range(CLASSES)])
    axes.set(ylim=(0, 1.25), xticks=range(CLASSES), yticks=(0, 0.5, 1))
    for numeral, probability in zip(axes.get_xticklabels(), probabilities, strict=True):
        numeral.set_color("black" if probability else "0.75")
    axes.text(9.4, 1.22, f"{np.count_nonzero(probabilities)} classes", horizontalalignment="right", va="top")
    axes.spines[["top", "right"]].set_visible(False)


def draw(digits: Digits, predictions: Predictions, path: Path) -> None:
    """Write the figure: the held-out digits that softmax doubts most, each beside its predicted distributions."""
    by_doubt = np.argsort(-softxent.entropy_from_probs(predictions["softmax"]))[:DRAWN]
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    grid = figure.subplots(DRAWN, 1 + len(MAPS), width_ratios=(1, *(2 for _ in MAPS)))
    for (picture, *panels), index in zip(grid, by_doubt, strict=True):
        picture.imshow(digits.held_out_images[index].reshape(8, 8), cmap="Greys")
        picture.set_title(f"label {digits.held_out_labels[index]}", fontsize=10)
        picture.axis("off")
        for axes, (name, p) in zip(panels, predictions.items(), strict=True):
            draw_bars(axes, p[index], digits.held_out_labels[index])
            axes.set(title=name if index == by_doubt[0] else "", ylabel="probability" if axes is panels[0] else "")
    figure.suptitle("The most doubtful held-out digits: how many classes have a probability other than 0", fontsize=14)
    figure.supxlabel("class (the label's in orange; grey numerals: the probability is exactly 0)", fontsize=10)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    from digits import OUTPUT, load
    from rich.console import Console

    found = predict(data := load())
    OUTPUT.mkdir(exist_ok=True)
    draw(data, found, OUTPUT / "sparse.png")
    console = Console()
    console.print(table_of(found, data.held_out_labels))
    console.print(f"figure: {OUTPUT / 'sparse.png'}", soft_wrap=True, highlight=False)
    raise SystemExit(fault_of(found))
