"""Time our calls in two revisions, in turn, each in a process of its own.

Run as a program this is such a process: it reads names of rows, and for each writes the seconds of one sample, or null
where its softxent lacks the function.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import suites
from report import Table, number
from timing import sample, spread, warmed_up

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from timing import Plan

    Worker = subprocess.Popen[str]


# -- In the process of a revision ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def ready(work: str) -> tuple[suites.Row, Callable[[], Any], int] | None:
    """Our call of a row, warmed up, and how many make a sample; None if this revision has no such function."""
    row = by_work(suites.rows())[work]
    try:
        with suites.threads(row):
            call = suites.prepared(row.pair.ours, row)
            return row, call, warmed_up(call)
    except AttributeError as error:
        if error.obj is not softxent:
            raise
        return None


def seconds(work: str) -> float | None:
    """One sample of our call of a row."""
    found = ready(work)
    if found is None:
        return None
    row, call, repeats = found
    with suites.threads(row):
        return sample(call, repeats)


def serve() -> None:
    """Answer for one row after the other."""
    for line in sys.stdin:
        print(json.dumps(seconds(json.loads(line))), flush=True)


# -- In the process that asks ----------------------------------------------------------------------------------------


def by_work(rows: Iterable[suites.Row]) -> dict[str, suites.Row]:
    """Rows by what we do in them: many peers of one call are one row here."""
    return {row.work: row for row in rows}


def ask(worker: Worker, work: str) -> float | None:
    """Have a revision take one sample."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(json.dumps(work), file=worker.stdin, flush=True)
    return json.loads(worker.stdout.readline())


def started(source: Path) -> Worker:
    """Start the process of the revision whose package lies there."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)  # noqa: S603 - this file


@contextlib.contextmanager
def both(revision: str) -> Iterator[tuple[Worker, Worker]]:
    """Processes of the revision and of the checkout as it is."""
    with tempfile.TemporaryDirectory() as folder:
        archive = io.BytesIO(machine.git("archive", "--format=tar", revision, "src"))
        with tarfile.open(fileobj=archive) as files:
            files.extractall(folder, filter="data")
        with started(Path(folder) / "src") as before, started(machine.ROOT / "src") as after:
            yield before, after


def compared(workers: Sequence[Worker], work: str, plan: Plan) -> tuple[str, ...]:
    """One line of the table: medians before and after, and their ratio."""
    first = [ask(worker, work) for worker in workers]
    if None in first:
        known = ["absent" if taken is None else number(1e3 * taken) for taken in first]
        return (work, *known, "", "", "")
    taken: list[list[float]] = [[] for _ in workers]
    turns = list(zip(taken, workers, strict=True))
    for _ in range(plan.rounds(first)):
        for samples, worker in turns:
            samples.append(ask(worker, work))
        turns.reverse()
    before, after = taken
    ratios = spread([old / new for old, new in zip(before, after, strict=True)])
    old, new = spread(before).median, spread(after).median
    quartiles = f"{ratios.low:.2f} to {ratios.high:.2f}"
    return (work, number(1e3 * old), number(1e3 * new), f"{old / new:.2f}", quartiles, str(len(before)))


def table(revision: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """What was compared."""
    title = f"{revision} (before) and the checkout (after)"
    return Table(title, ("work",), ("before, ms", "after, ms", "before ÷ after", "quartiles", "rounds"), rows)


if __name__ == "__main__":
    serve()
