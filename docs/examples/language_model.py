"""Train a model that predicts the next word of English three times over: on NumPy, torch and jax arrays.

The text is Python's own documentation, which comes with the standard library; every word in it is a class. The last
layer, from 64 features to some thousands of logits a word, is most of the arithmetic and nearly all of the memory.
``softxent.linear_cross_entropy`` is that layer with its loss, and never has all of the logits. torch and jax
differentiate it themselves; NumPy gets the derivatives from ``softxent.value_and_grad`` and takes the chain rule on
through the two layers before. All three start from the same numbers and see the same batches in float32.

Pages that were held out measure what was learned, in perplexity, the number of words that the model hesitates between:
that of the words' frequencies alone, the unigram model, is what it has to beat. A figure shows what the last layer
takes, in memory and in time, as the vocabulary grows: softxent on torch, and the plain way with torch's own functions.

Run ``python -m nox -s demo``, or this file where softxent, rich and matplotlib are installed. NumPy is enough; torch,
which the figure needs, and jax join in where they are installed.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Array = Any  # an array of NumPy, torch or jax

SEED = 0
WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*|[.,;:!?()]")
BEFORE = 4  # words that the next one is predicted from
WIDTH, FEATURES = 32, 64  # of a word's embedding, and what the last layer sees
STEPS, BATCH = 100, 1024
RATE, MEMORY_OF_MEAN, MEMORY_OF_SQUARES, SMALL = 3e-2, 0.9, 0.99, 1e-8  # of Adam; the rate falls to 0
LARGEST_DISAGREEMENT = 1e-4
OUTPUT = Path(__file__).resolve().parent / "output"


# -- The text ----------------------------------------------------------------------------------------------------------


class Examples(NamedTuple):
    """Words, as places in the vocabulary, (N,), and the words before each, (N, BEFORE)."""

    contexts: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Text:
    """Examples to train on and held out; the vocabulary's first entry stands for what is before a page."""

    vocabulary: list[str]
    seen: Examples
    held_out: Examples

    def batches(self) -> Iterator[Examples]:
        """The examples to train on, as many of them as there are steps, each drawn once before any is drawn again."""
        generator, count = np.random.default_rng(SEED), len(self.seen.labels)
        order = np.concatenate([generator.permutation(count) for _ in range(-(-STEPS * BATCH // count))])
        for chosen in order[: STEPS * BATCH].reshape(STEPS, BATCH):
            yield Examples(self.seen.contexts[chosen], self.seen.labels[chosen])

    def unigram_losses(self) -> NDArray[np.float64]:
        """-log p of each word held out, where p is how frequent it is elsewhere; none is less than once."""
        counts = 1 + np.bincount(self.seen.labels, minlength=len(self.vocabulary))
        return -np.log(counts / counts.sum())[self.held_out.labels]


def examples(pages: Sequence[NDArray[np.int64]]) -> Examples:
    """Every word of the pages as an example."""
    padded = (np.pad(page, (BEFORE, 0)) for page in pages)
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(page, BEFORE + 1) for page in padded])
    return Examples(windows[:, :-1], windows[:, -1])


def load() -> Text:
    """Cut the pages into lower-case words and marks, and hold a tenth of the pages out."""
    pages = [WORD.findall(page.lower()) for _, page in sorted(topics.items())]
    vocabulary = ["", *sorted({word for page in pages for word in page})]
    places = {word: place for place, word in enumerate(vocabulary)}
    numbers = [np.asarray([places[word] for word in page]) for page in pages]
    order = np.random.default_rng(SEED).permutation(len(pages))
    held_out, seen = np.split(order, [len(pages) // 10])
    return Text(vocabulary, *(examples([numbers[n] for n in part]) for part in (seen, held_out)))


# -- The model and its loss: the same lines for every library ----------------------------------------------------------


class Parameters(NamedTuple):
    """Of V words: embedding (V, WIDTH), hidden layer (BEFORE * WIDTH, FEATURES) and (FEATURES,), last layer."""

    embedding: Array
    hidden: Array
    shift: Array
    weight: Array  # (V, FEATURES)
    bias: Array  # (V,)

    @classmethod
    def drawn(cls, words: int) -> Parameters:
        """Small random numbers."""
        generator = np.random.default_rng(SEED)

        def normal(scale: float, *shape: int) -> NDArray[np.float32]:
            return np.float32(scale) * generator.standard_normal(shape, np.float32)

        shift, bias = np.zeros(FEATURES, np.float32), np.zeros(words, np.float32)
        inner = BEFORE * WIDTH
        hidden, weight = normal(inner**-0.5, inner, FEATURES), normal(0.05, words, FEATURES)
        return cls(normal(0.3, words, WIDTH), hidden, shift, weight, bias)


def features_of(library: Library, parameters: Parameters, contexts: Array) -> Array:
    """Return what the last layer sees of the words before, (N, FEATURES)."""
    embedded = parameters.embedding[contexts].reshape(len(contexts), -1)
    return library.tanh(embedded @ parameters.hidden + parameters.shift)


def loss_of(library: Library, parameters: Parameters, contexts: Array, labels: Array, reduction: str = "mean") -> Array:
    """Return the cross-entropy of the next words, the mean unless something else is asked for."""
    features = features_of(library, parameters, contexts)
    return softxent.linear_cross_entropy(features, parameters.weight, labels, bias=parameters.bias, reduction=reduction)


# -- The derivative: each library in its own way -----------------------------------------------------------------------

Derivative = Any  # a function of (parameters, contexts, labels) with the loss and Parameters of derivatives


@dataclass(frozen=True)
class Library:
    """How a library makes an array, its tanh, and how it differentiates the loss."""

    asarray: Callable[[Any], Array]
    tanh: Callable[[Array], Array]
    derivative: Callable[[Library], Derivative]


def numpy_library() -> Library:
    """NumPy: softxent's derivatives of the last layer, and the chain rule through the other two."""
    last_layer = softxent.value_and_grad(softxent.linear_cross_entropy, ("features", "weight", "bias"))

    def derivative(library: Library) -> Derivative:
        def of(parameters: Parameters, contexts: Array, labels: Array) -> tuple[Array, Parameters]:
            embedding, hidden, _, weight, bias = parameters
            features = features_of(library, parameters, contexts)
            loss, (by_features, by_weight, by_bias) = last_layer(features, weight, labels, bias=bias)
            by_sum = by_features * (1 - features**2)  # the derivative of tanh
            by_embedded = (by_sum @ hidden.T).reshape(*contexts.shape, WIDTH)
            by_embedding = np.zeros_like(embedding)
            np.add.at(by_embedding, contexts, by_embedded)
            by_hidden = embedding[contexts].reshape(len(contexts), -1).T @ by_sum
            return loss, Parameters(by_embedding, by_hidden, by_sum.sum(axis=0), by_weight, by_bias)

        return of

    return Library(np.asarray, np.tanh, derivative)


def torch_library() -> Library:
    """torch: its own autograd."""
    import torch

    def derivative(library: Library) -> Derivative:
        def of(parameters: Parameters, contexts: Array, labels: Array) -> tuple[Array, Parameters]:
            leaves = Parameters(*(parameter.detach().requires_grad_() for parameter in parameters))
            loss = loss_of(library, leaves, contexts, labels)
            loss.backward()
            return loss.detach(), Parameters(*(leaf.grad for leaf in leaves))

        return of

    return Library(torch.asarray, torch.tanh, derivative)


def jax_library() -> Library:
    """jax: its own autograd, compiled."""
    import jax

    def derivative(library: Library) -> Derivative:
        return jax.jit(jax.value_and_grad(partial(loss_of, library)))

    return Library(jax.numpy.asarray, jax.numpy.tanh, derivative)


LIBRARIES = {"numpy": numpy_library, "torch": torch_library, "jax": jax_library}


# -- Training: Adam ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one library made of the text."""

    name: str
    losses: NDArray[np.float64]  # of every batch
    parameters: Parameters  # as NumPy arrays
    before: softxent.LossSum  # of the words held out
    after: softxent.LossSum
    seconds: float  # of training, jax's compilation included


def held_out_losses(library: Library, parameters: Parameters, text: Text) -> softxent.LossSum:
    """Measure the model on the words held out: their losses as a sum that knows its spread."""
    contexts, labels = map(library.asarray, text.held_out)
    return softxent.LossSum().update(loss_of(library, parameters, contexts, labels, reduction="none"))


def train(name: str, text: Text, advance: Callable[[], None]) -> Run:
    """Fit the model with one library, calling ``advance`` after every step."""
    library = LIBRARIES[name]()
    derivative = library.derivative(library)
    parameters = Parameters(*map(library.asarray, Parameters.drawn(len(text.vocabulary))))
    means = squares = [0 * parameter for parameter in parameters]
    before, losses = held_out_losses(library, parameters, text), []

    start = time.perf_counter()
    for step, batch in enumerate(text.batches(), start=1):
        loss, gradients = derivative(parameters, *map(library.asarray, batch))
        means = [MEMORY_OF_MEAN * m + (1 - MEMORY_OF_MEAN) * g for m, g in zip(means, gradients, strict=True)]
        squares = [
            MEMORY_OF_SQUARES * s + (1 - MEMORY_OF_SQUARES) * g**2 for s, g in zip(squares, gradients, strict=True)
        ]
        unbiased = (1 - MEMORY_OF_SQUARES**step) ** 0.5 / (1 - MEMORY_OF_MEAN**step)
        rate = RATE * (1 - (step - 1) / STEPS) * unbiased
        moved = zip(parameters, means, squares, strict=True)
        parameters = Parameters(*(p - rate * m / (s**0.5 + SMALL) for p, m, s in moved))
        losses.append(float(loss))
        advance()
    seconds = time.perf_counter() - start

    after = held_out_losses(library, parameters, text)
    return Run(name, np.asarray(losses), Parameters(*map(np.asarray, parameters)), before, after, seconds)


def disagreement(one: Run, other: Run) -> float:
    """Return the largest relative difference of two runs' losses over all steps."""
    return float(np.max(np.abs(one.losses - other.losses) / other.losses))


def unigram(text: Text) -> softxent.LossSum:
    """The losses of the unigram model."""
    return softxent.LossSum().update(text.unigram_losses())


def fault_of(runs: Sequence[Run], text: Text) -> str | None:
    """Return what is wrong with the outcome, None if nothing is."""
    if max(disagreement(run, runs[0]) for run in runs) > LARGEST_DISAGREEMENT:
        return f"losses differ by more than {LARGEST_DISAGREEMENT}"
    worst = max(float(run.after.perplexity_interval()[1]) for run in runs)
    if worst >= float(unigram(text).perplexity_interval()[0]):
        return f"a perplexity of up to {worst:.0f} does not beat that of the unigram model"
    return None


def interval_of(losses: softxent.LossSum) -> str:
    """A perplexity with its confidence interval, for the table."""
    low, high = map(float, losses.perplexity_interval())
    return f"{float(losses.perplexity):.1f} ({low:.0f} to {high:.0f})"


def table_of(runs: Sequence[Run], text: Text) -> Table:
    """One row a library; the last column compares it with the first one, NumPy."""
    table = Table(title="The next word, learned with softxent.linear_cross_entropy", title_style="bold")
    table.add_column("library")
    for heading in ("perplexity\nuntrained", "trained, with its\n95 % interval", "time", "losses\ndiffer by"):
        table.add_column(heading, justify="right")
    table.add_row("word frequencies", "", interval_of(unigram(text)), "", "", end_section=True)
    for run in runs:
        table.add_row(
            f"{run.name} {version(run.name)}",
            f"{float(run.before.perplexity):.0f}",
            interval_of(run.after),
            f"{run.seconds:.1f} s",
            "" if run is runs[0] else f"{disagreement(run, runs[0]):.1e}",
        )
    seen, held_out = len(text.seen.labels), len(text.held_out.labels)
    table.caption = f"{len(text.vocabulary) - 1} different words, {seen} to train on, {held_out} held out"
    return table


def continued(run: Run, text: Text, words: Sequence[str], length: int) -> str:
    """Let the model go on after some words; a temperature below 1 keeps it to what it is surer of."""
    generator, numbers = np.random.default_rng(SEED), [text.vocabulary.index(word) for word in words]
    library = numpy_library()
    for _ in range(length):
        context = np.pad(numbers, (BEFORE, 0))[None, -BEFORE:]
        logits = features_of(library, run.parameters, context) @ run.parameters.weight.T + run.parameters.bias
        p = softxent.softmax(logits[0].astype(np.float64), temperature=0.5)
        numbers.append(int(generator.choice(len(p), p=p)))
    return re.sub(r" (?=[.,;:!?)])|(?<=\() ", "", " ".join(text.vocabulary[n] for n in numbers))


# -- What the last layer takes, on torch -------------------------------------------------------------------------------

ROWS, SIZES, ROUNDS = 1024, tuple(2**k for k in range(10, 17)), 3
OURS, PLAIN = "softxent.linear_cross_entropy", "F.cross_entropy(F.linear(...))"
MIB = 2**20
# Each array is mapped for itself, and given back when it is freed; otherwise what was freed before would hide a peak.
OF_ITS_OWN = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes beyond the derivatives, of value and derivatives at each of the sizes."""

    seconds: dict[str, list[float]]
    extra: dict[str, list[int]]  # empty where the peak cannot be measured


def call_of(side: str, words: int) -> Callable[[], tuple[Array, ...]]:
    """Value and derivatives of a last layer with so many words, one way or the other."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(SEED)
    features = torch.randn(ROWS, FEATURES, generator=generator)
    weight = torch.randn(words, FEATURES, generator=generator) / FEATURES**0.5
    labels = torch.randint(words, (ROWS,), generator=generator)

    def call() -> tuple[Array, ...]:
        leaves = [x.detach().requires_grad_() for x in (features, weight)]
        if side == OURS:
            loss = softxent.linear_cross_entropy(*leaves, labels)
        else:
            loss = functional.cross_entropy(functional.linear(*leaves), labels)
        loss.backward()
        return tuple(leaf.grad for leaf in leaves)

    return call


def status(field: str) -> int:
    """Bytes in a field of this process's status, as Linux keeps it."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def extra_of(side: str, words: int) -> int:
    """Bytes by which a second call raises the peak of this process, less those of its results."""
    call = call_of(side, words)
    call()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc: hand back what the first call left
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is resident
    before = status("VmRSS")
    results = call()
    return max(0, status("VmHWM") - before - sum(x.nbytes for x in results))


def extras(side: str) -> list[int]:
    """The same at every size, in a process of its own."""
    command = [sys.executable, __file__, side]
    done = subprocess.run(command, env=os.environ | OF_ITS_OWN, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this file
    return json.loads(done.stdout)


def seconds_of(words: int) -> dict[str, float]:
    """Seconds of both ways, called in turn: the least of some calls, since whatever else runs only adds to them."""
    calls = {side: call_of(side, words) for side in (PLAIN, OURS)}
    taken: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(ROUNDS):
        for side, call in calls.items():
            start = time.perf_counter()
            call()
            taken[side].append(time.perf_counter() - start)
    return {side: min(samples) for side, samples in taken.items()}


def measure() -> Cost:
    """Measure both ways at every size, on one thread: several are slowed down by whatever else runs, and not alike."""
    import torch

    torch.set_num_threads(1)
    times = [seconds_of(words) for words in SIZES]
    seconds = {side: [at[side] for at in times] for side in (PLAIN, OURS)}
    if sys.platform != "linux":
        return Cost(seconds, {})
    with ThreadPoolExecutor() as pool:  # memory, unlike time, does not depend on what else is running
        return Cost(seconds, dict(zip(seconds, pool.map(extras, seconds), strict=True)))


STYLES: dict[str, dict[str, Any]] = {
    PLAIN: {"color": "#6b8ba4", "marker": "s", "linestyle": "--"},
    OURS: {"color": "#d94801", "marker": "o"},
}


def draw_sizes(axes: Axes, values: dict[str, list[float]], title: str, unit: str) -> None:
    """Draw a line for each way, on logarithmic axes."""
    for side, line in values.items():
        axes.plot(SIZES, line, label=side, **STYLES[side])
        axes.annotate(f"  {line[-1]:.0f} {unit}", (SIZES[-1], line[-1]), va="center", color=STYLES[side]["color"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(SIZES, labels=[f"{words:,}".replace(",", "\N{NO-BREAK SPACE}") for words in SIZES])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="words in the vocabulary", ylabel=unit, title=title)
    axes.tick_params(axis="x", labelsize=8)
    axes.margins(x=0.12)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw(cost: Cost, path: Path) -> None:
    """Write the figure: memory, where it was measured, and time against the vocabulary."""
    panels = [("Time of value and derivatives", "ms", {side: [1e3 * s for s in v] for side, v in cost.seconds.items()})]
    if cost.extra:
        extra = {side: [n / MIB for n in v] for side, v in cost.extra.items()}
        panels.insert(0, ("Peak memory beside the derivatives", "MiB", extra))
    figure = Figure(figsize=(6 * len(panels), 4.6), layout="constrained")
    for axes, (title, unit, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw_sizes(axes, values, title, unit)
    figure.suptitle(
        f"The last layer of a language model on torch, one thread: {ROWS} words at a time, {FEATURES} features"
    )
    figure.savefig(path, dpi=130)


def main() -> str | None:
    """Train with every library that is installed; return what is wrong with the outcome, None if nothing is."""
    console = Console()
    installed = [name for name in LIBRARIES if find_spec(name)]
    for name in LIBRARIES:
        if name not in installed:
            remedy = f"python -m pip install '.[{name}]'"
            console.print(f"{name} is not installed and is left out; to add it: {remedy}", markup=False, soft_wrap=True)

    text = load()
    columns = TextColumn("{task.description:6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        tasks = {name: progress.add_task(name, total=STEPS) for name in installed}
        runs = [train(name, text, partial(progress.advance, task)) for name, task in tasks.items()]

    console.print(table_of(runs, text))
    console.print(f"It goes on: {continued(runs[0], text, ('the', 'object'), 25)}", markup=False, highlight=False)

    if "torch" in installed:
        with console.status("memory and time of the last layer as the vocabulary grows"):
            cost = measure()
        OUTPUT.mkdir(exist_ok=True)
        draw(cost, OUTPUT / "language_model.png")
        console.print(f"figure: {OUTPUT / 'language_model.png'}", soft_wrap=True, highlight=False)
    return fault_of(runs, text)


if __name__ == "__main__":
    if sys.argv[1:]:  # in a process that measures one way's memory
        print(json.dumps([extra_of(sys.argv[1], words) for words in SIZES]))
    else:
        sys.exit(main())
