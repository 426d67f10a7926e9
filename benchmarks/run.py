"""Measure softxent against its peers, or against an earlier revision of itself.

    python benchmarks/run.py                        everything, into docs/benchmarks.md: ten minutes or more
    python benchmarks/run.py --only PATTERN         the rows whose names match, into benchmarks/output
    python benchmarks/run.py --quick                three rounds of small sizes, into benchmarks/output
    python benchmarks/run.py --compare REVISION     our times there and in the checkout, on the terminal

A name reads "time torch softmax 8192x1024 float32 against torch.nn.functional.softmax", "memory NumPy logsumexp
2048x4096" or "growth NumPy logsumexp rows"; a pattern is a regular expression that matches anywhere in it. Without one
a comparison takes the rows that have a target. Run this as ``python -m nox -s benchmarks -- ARGUMENTS``, or where
softxent and the dependency group "bench" are installed.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import compare
import growth
import linear
import machine
import memory
import report
import suites
import timing
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterable

NamedT = TypeVar("NamedT", suites.Row, memory.Row, growth.Curve)

OUTPUT = machine.ROOT / "benchmarks" / "output"
SMALL = 2**20  # logits
WIDTH = 180  # of a table in a log


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", type=re.compile, help="only the rows whose name matches")
    parser.add_argument("--quick", action="store_true", help="three rounds of small sizes")
    parser.add_argument("--compare", metavar="REVISION", help="compare with another revision of softxent")
    return parser.parse_args()


def chosen(rows: Iterable[NamedT], pattern: re.Pattern[str] | None) -> list[NamedT]:
    """Rows whose names match."""
    return [row for row in rows if pattern is None or pattern.search(row.name)]


def shortened(curves: Iterable[growth.Curve]) -> list[growth.Curve]:
    """The small sizes of curves."""
    return [replace(c, shapes=tuple(s for s in c.shapes if s[0] * s[1] <= SMALL)) for c in curves]


def timed(rows: list[suites.Row], plan: timing.Plan, progress: Progress) -> list[suites.Timed]:
    """Time rows, those with equal inputs one after another, and return them as they were."""
    task = progress.add_task("times", total=len(rows))
    done = {}
    for row in sorted(rows, key=lambda row: (row.elements, row.shape, row.dtype)):
        progress.update(task, description=row.name)
        done[row.name] = (linear if isinstance(row, linear.Row) else suites).timed(row, plan)
        progress.advance(task)
    return [done[row.name] for row in rows]


def weighed(rows: list[memory.Row], progress: Progress) -> list[memory.Weighed]:
    """Weigh rows."""
    if rows:
        memory.assert_control()
    return list(progress.track(memory.all_weighed(rows), total=len(rows), description="memory"))


def grown(curves: list[growth.Curve], plan: timing.Plan, progress: Progress) -> list[growth.Measured]:
    """Time and weigh curves."""
    times = [growth.timed(curve, plan) for curve in progress.track(curves, description="growth, time")]
    usage = progress.track(growth.all_weighed(curves), total=len(curves), description="growth, memory")
    return [growth.Measured(*measured) for measured in zip(curves, times, usage, strict=True)]


def measured(options: argparse.Namespace, plan: timing.Plan, progress: Progress) -> report.Results:
    """Measure everything that was asked for."""
    rows = chosen([*suites.rows(), *linear.rows()], options.only)
    curves = chosen(growth.CURVES, options.only)
    if options.quick:
        rows, curves = [row for row in rows if row.elements <= SMALL], shortened(curves)
    return report.Results(
        machine.description(),
        timed(rows, plan, progress),
        weighed(chosen(memory.ROWS, options.only), progress),
        grown(curves, plan, progress),
        growth.copying(plan) if curves else 0.0,
    )


def compared(options: argparse.Namespace, plan: timing.Plan, progress: Progress) -> report.Table:
    """Compare two revisions."""
    rows = chosen((row for row in suites.rows() if options.only or row.target), options.only)
    if options.quick:
        rows = [row for row in rows if row.elements <= SMALL]
    with compare.both(options.compare) as workers:
        works = progress.track(compare.by_work(rows), description="comparing")
        return compare.table(options.compare, [compare.compared(workers, work, plan) for work in works])


def main() -> None:
    """Measure, show and write."""
    options = arguments()
    plan = timing.QUICK if options.quick else timing.FULL
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        if options.compare:
            console.print(compared(options, plan, progress).terminal())
            return
        results = measured(options, plan, progress)
    for table in report.tables(results):
        console.print(table.terminal())
    if suites.LEFT_OUT:
        console.print(suites.LEFT_OUT)
    everything = not (options.only or options.quick)
    page = (machine.ROOT / "docs" if everything else OUTPUT) / "benchmarks.md"
    report.write(results, page, OUTPUT / "results.json")
    console.print(f"written: {page.relative_to(machine.ROOT)}, {(OUTPUT / 'results.json').relative_to(machine.ROOT)}")


if __name__ == "__main__":
    main()
