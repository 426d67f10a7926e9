"""Write what was measured: tables for the terminal and the documentation, figures, and the figures' numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import linear
import rich.table
from figures import draw_growth, draw_ratios
from obstacles import explained
from suites import LEFT_OUT, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from growth import Measured
    from memory import Usage, Weighed
    from suites import Timed
    from targets import Outcome

MIB = 2**20

INTRODUCTION = """\
# Benchmarks

`python -m nox -s benchmarks` measured this and wrote the page.
"""
METHOD = """\
## How it was measured

Times: both sides of a row are called in turn in one process, in the opposite order every other round. Every result is
compared with a float64 reference before the clock runs. Inputs are standard normal logits and random labels, made
beforehand; results are allocated anew by both sides, and jax's are waited for. A round's sample of a short call is the
mean of many. Rounds go on for 0.3 seconds, but there are at least 10 after the warm-up, or 5 where a call takes half a
second. A time is the median of the rounds, the ratio is the peer's median divided by ours, and the quartiles are those
of the ratios of single rounds. All libraries use as many threads as they do by themselves, unless a row says
"1 thread"; SciPy and scikit-learn have one. "Compiled" rows go through `torch.compile`, "jitted" rows through
`jax.jit`, on both sides; all others are eager. jax is in its default mode, which has no float64.

Memory: the peak of a process during the call, less what was resident before it, so that results and gradients count and
the input does not. A call with two temporaries of the input's size has to read as 2 first. On jax it is what XLA's
analysis of the compiled call says, temporaries and results.

`linear_cross_entropy`: a size is that of rows, features and classes, the input is features and weights. They are
standard normal, the weights scaled so that logits have variance 1. What its memory is held against, the peer's or that
of a sixteenth of the rows or classes, does not count results, which are the loss and its derivatives by features and
weights. A number of MiB is the caller's `chunk_bytes`.
"""
TARGETS = """\
## Targets

Ratios are peer ÷ ours and should be at least the target. Everything else should be at most the target.
"""
MISSED = """\
What stands in the way of those that were missed:
"""
TIMES = """\
## Times

"On" names the library whose arrays each side gets.
"""
MEMORY = """\
## Memory

In MiB beyond the input, and as multiples of the input.
"""
GROWTH = """\
## Growth

Our calls on float32, from the smallest size to the largest. The slope is that of log time against log size over the
last two decades; 1 is linear. Extra memory does not count the results here.
"""
RATIO_FIGURE, GROWTH_FIGURE = "benchmark_ratios.png", "benchmark_growth.png"
FIGURES = f"""\
## Figures

The rows that have a target for their ratio:

![Time of the peers divided by that of softxent, as bars grouped by library](figures/{RATIO_FIGURE})

Time against size. The dotted line is the time in which torch copies the logits into an existing array:

![Time of calls against the number of logits, on logarithmic axes](figures/{GROWTH_FIGURE})
"""


@dataclass(frozen=True)
class Results:
    """Everything that a run measured."""

    machine: dict[str, str]
    times: list[Timed]
    memory: list[Weighed]
    growth: list[Measured]
    seconds_a_copied_element: float


@dataclass(frozen=True)
class Table:
    """A table for either place; columns of words are aligned left, columns of numbers right."""

    title: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """As markdown, without the title."""
        lines = [(*self.words, *self.numbers), (*["---"] * len(self.words), *["---:"] * len(self.numbers)), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def terminal(self) -> rich.table.Table:
        """For rich."""
        table = rich.table.Table(title=self.title)
        for heading in self.words:
            table.add_column(heading)
        for heading in self.numbers:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def outcomes(results: Results) -> list[Outcome]:
    """Every target of the run."""
    timed = [timed.outcome() for timed in results.times if timed.row.target]
    weighed = [weighed.outcome() for weighed in results.memory if weighed.row.target]
    grown = [outcome for measured in results.growth for outcome in measured.outcomes()]
    return [*timed, *weighed, *linear.outcomes(results.memory), *grown]


def target_table(results: Results) -> Table:
    """Targets beside what was measured."""
    words = ("library", "function", "size", "peer", "quantity")
    rows = [
        (
            *(found.library, found.function, found.size, found.peer, found.target.quantity),
            *(str(found.target), number(found.measured), "met" if found.target.is_met(found.measured) else "missed"),
        )
        for found in outcomes(results)
    ]
    return Table("Targets", words, ("target", "measured", ""), rows)


def time_table(results: Results) -> Table:
    """Every row that was timed."""
    words = ("function", "size", "dtype", "on", "peer", "peer on")
    rows = [
        (
            *(timed.row.pair.label, timed.row.size, timed.row.dtype, timed.row.pair.library),
            *(timed.row.pair.peer.name, timed.row.pair.peer.library),
            *(number(1e3 * timed.peer.median), number(1e3 * timed.ours.median), f"{timed.ratio:.2f}"),
            *(f"{timed.ratios.low:.2f} to {timed.ratios.high:.2f}", str(timed.rounds)),
        )
        for timed in results.times
    ]
    return Table("Times", words, ("peer, ms", "ours, ms", "ratio", "quartiles", "rounds"), rows)


def memory_columns(usage: Usage) -> tuple[str, str]:
    """MiB and multiples of the input."""
    return f"{usage.extra / MIB:.1f}", f"{usage.extra / usage.given:.2f}\N{MULTIPLICATION SIGN}"


def memory_table(results: Results) -> Table:
    """Extra memory of both sides."""
    words = ("function", "size", "on", "peer")
    rows = [
        (
            *(weighed.row.function, size_text(weighed.row.shape), weighed.row.library, weighed.peer_name),
            *(f"{weighed.ours.given / MIB:.1f}", *memory_columns(weighed.peer), *memory_columns(weighed.ours)),
        )
        for weighed in results.memory
    ]
    return Table("Memory", words, ("input, MiB", "peer, MiB", "peer", "ours, MiB", "ours"), rows)


def growth_table(results: Results) -> Table:
    """Time and memory at every size."""
    words = ("function", "on", "what grows", "size")
    rows = [
        (
            *(measured.curve.function, measured.curve.library, measured.curve.axis, size_text(shape)),
            *(number(1e3 * seconds), number(1e9 * seconds / elements)),
            *(f"{(usage.extra - usage.results) / MIB:.2f}", f"{measured.slope:.2f}"),
        )
        for measured in results.growth
        for shape, elements, seconds, usage in zip(
            measured.curve.shapes, measured.elements, measured.seconds, measured.usage, strict=True
        )
    ]
    return Table("Growth", words, ("ms", "ns an element", "extra, MiB", "slope"), rows)


def tables(results: Results) -> list[Table]:
    """In the order of the report, without the empty ones."""
    made = [make(results) for make in (target_table, time_table, memory_table, growth_table)]
    return [table for table in made if table.rows]


def markdown(results: Results) -> str:
    """The whole page."""
    head = Table("", ("", ""), (), list(results.machine.items()))
    texts = {"Targets": TARGETS, "Times": TIMES, "Memory": MEMORY, "Growth": GROWTH}
    sections = [f"{texts[table.title]}\n{table.markdown()}" for table in tables(results)]
    missed = explained(outcomes(results))
    if missed:
        sections.insert(1, "\n".join([MISSED, *missed, ""]))
    notes = [f"{LEFT_OUT}\n"] if LEFT_OUT else []
    return "\n".join([INTRODUCTION, head.markdown(), METHOD, *notes, *sections, FIGURES])


def raw(results: Results) -> dict[str, Any]:
    """The numbers, by row."""
    return {
        "machine": results.machine,
        "times": {
            timed.row.name: {"peer": asdict(timed.peer), "ours": asdict(timed.ours), "rounds": timed.rounds}
            for timed in results.times
        },
        "memory": {
            weighed.row.name: {"peer": weighed.peer._asdict(), "ours": weighed.ours._asdict()}
            for weighed in results.memory
        },
        "growth": {
            measured.curve.name: {
                "shapes": measured.curve.shapes,
                "seconds": measured.seconds,
                "usage": [usage._asdict() for usage in measured.usage],
            }
            for measured in results.growth
        },
        "seconds_a_copied_element": results.seconds_a_copied_element,
    }


def write(results: Results, page: Path, numbers: Path) -> None:
    """Write the page with its figures beside it, and the numbers."""
    for folder in (page.parent / "figures", numbers.parent):
        folder.mkdir(parents=True, exist_ok=True)
    page.write_text(markdown(results), encoding="utf-8")
    draw_ratios(results.times, page.parent / "figures" / RATIO_FIGURE)
    draw_growth(results.growth, results.seconds_a_copied_element, page.parent / "figures" / GROWTH_FIGURE)
    numbers.write_text(json.dumps(raw(results), indent=1) + "\n", encoding="utf-8")
