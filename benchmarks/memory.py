"""Extra memory of a call: its peak less what was resident before, input included; results count as extra.

Each side of a function has a process of its own, which is first warmed up on a small input. There the allocator gives
freed arrays back at once (see ENVIRONMENT), or memory left over from the last call would hide part of the next one's.
XLA knows what a compiled call on jax needs, and is asked: temporaries and results.

    python benchmarks/memory.py SIDE LIBRARY FUNCTION SHAPE ...

is such a process. It prints the bytes of input, extra memory and results for each shape.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import linear
import suites
from contenders import Contender, on_numpy
from inputs import Shape, given
from targets import Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Array = Any

MIB = 2**20
WARM_UP: Shape = (512, 100)  # calls of up to 2**14 logits take another way than large ones
AT_ONCE = 2  # processes; memory, unlike time, does not depend on what else is running
# Set, this also stays what it is: each array from 128 KiB on is mapped for itself and unmapped when it is freed.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
CONTROL = on_numpy("two temporaries", lambda logits, _: ((logits + 1) + logits.copy()).sum())
CONTROL_SHAPE: Shape = (2_048, 4_096)
BIG: Shape = (16_384, 4_096)


class Usage(NamedTuple):
    """Bytes of the input, of what a call needed beyond them, and of its results."""

    given: int
    extra: int
    results: int


@dataclass(frozen=True)
class Row:
    """A pair of calls at one size, and the most that ours may need, in sizes of the logits."""

    library: str
    function: str
    shape: Shape
    target: Target | None = None

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"memory {self.library} {self.function} {'x'.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Weighed:
    """A row with its measurements."""

    row: Row
    peer_name: str
    peer: Usage
    ours: Usage

    def outcome(self) -> Outcome:
        """The row's target and what became of it."""
        assert self.row.target is not None
        size = suites.size_text(self.row.shape)
        measured = self.ours.extra / self.ours.given
        return Outcome(self.row.library, self.row.function, size, self.peer_name, self.row.target, measured)


def at_most(limit: float) -> Target:
    """A target for memory."""
    return Target(limit, "memory ÷ input")


ROWS = (
    Row("NumPy", "softmax", suites.LARGE),
    Row("NumPy", "logsumexp", suites.WIDE, at_most(0.1)),
    Row("NumPy", "logsumexp", BIG, at_most(0.1)),
    Row("NumPy", "logsumexp", suites.TEN_CLASSES),
    Row("NumPy", "cross_entropy", suites.LARGE),
    Row("NumPy", suites.WITH_GRADIENT, suites.LARGE),
    Row("NumPy", suites.WITH_GRADIENT, suites.TEN_CLASSES),
    Row("torch", "softmax", suites.LARGE),
    Row("torch", "logsumexp", suites.WIDE),
    Row("torch", suites.WITH_GRADIENT, suites.LARGE, at_most(1.1)),
    Row("torch", suites.WITH_GRADIENT, suites.TEN_CLASSES, at_most(1.1)),
    Row("jax", "softmax", suites.LARGE),
    Row("jax", suites.WITH_GRADIENT, suites.LARGE),
    *(
        Row(library, linear.WITH_GRADIENT, shape)
        for library in ("NumPy", "torch", "jax")
        for shape in (linear.SHAPE, linear.SMALL, *linear.LARGER)
    ),
)


def pair_of(library: str, function: str) -> suites.Pair:
    """The first pair of the suites for this work."""
    pairs = (*suites.PAIRS, *linear.PAIRS)
    return next(pair for pair in pairs if (pair.library, pair.function) == (library, function))


def contender(side: str, library: str, function: str) -> Contender:
    """Ours or the peer."""
    if side == "control":
        return CONTROL
    pair = pair_of(library, function)
    return pair.ours if side == "ours" else pair.peer


# -- In the process that measures ------------------------------------------------------------------------------------


def sizes(arrays: Array | tuple[Array, ...]) -> int:
    """Bytes of one array or several."""
    return sum(part.nbytes for part in (arrays if isinstance(arrays, tuple) else (arrays,)))


def inputs(library: str, function: str, shape: Shape) -> tuple[Array | tuple[Array, ...], Array]:
    """What a function is given: logits, or what they are made of, and labels."""
    if function == linear.WITH_GRADIENT:
        return linear.given(library, shape)
    return given(library, shape, function=function)


def status(field: str) -> int:
    """Bytes in a field of this process's status, as Linux keeps it."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def peak_on_linux(call: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes by which a call raises the peak above what is resident now, and the call's results."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc: hand back what the warm-up left
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is resident
    before = status("VmRSS")
    results = call()
    return status("VmHWM") - before, results


def peak_elsewhere(call: Callable[[], Any]) -> tuple[int, Any]:
    """The same by the highest peak of the process so far; right as long as nothing before was higher."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit, results


def warm_up(function: str, shape: Shape) -> Shape:
    """A small size, but where matrices are multiplied the very size: the room a library does that in, it keeps.

    Elsewhere than on Linux that would hide the peak.
    """
    if function != linear.WITH_GRADIENT:
        return WARM_UP
    return shape if sys.platform == "linux" else linear.WARM_UP


def resident(side: Contender, function: str, shape: Shape) -> Usage:
    """Measure a call by the memory of this process."""
    side.call(*inputs(side.library, function, warm_up(function, shape)))
    logits, labels = inputs(side.library, function, shape)
    peak = peak_on_linux if sys.platform == "linux" else peak_elsewhere
    extra, results = peak(lambda: side.call(logits, labels))
    return Usage(sizes(logits), extra, sizes(results))


def analysed(side: Contender, function: str, shape: Shape) -> Usage:
    """Ask XLA what the compiled call needs."""
    logits, labels = inputs(side.library, function, shape)
    analysis = jax.jit(side.traced).lower(logits, labels).compile().memory_analysis()
    results = analysis.output_size_in_bytes
    return Usage(sizes(logits), analysis.temp_size_in_bytes + results, results)


def serve(arguments: Sequence[str]) -> None:
    """Measure what the arguments ask for and print it."""
    side, library, function, *shapes = arguments
    chosen = contender(side, library, function)
    print(json.dumps([resident(chosen, function, tuple(map(int, shape.split("x")))) for shape in shapes]))


# -- In the process that asks ----------------------------------------------------------------------------------------


def weigh(side: str, library: str, function: str, shapes: Sequence[Shape]) -> list[Usage]:
    """Measure one side at several sizes, in a process of its own unless XLA knows the answer."""
    chosen = contender(side, library, function)
    if chosen.library == "jax":
        return [analysed(chosen, function, shape) for shape in shapes]
    command = [sys.executable, __file__, side, library, function, *("x".join(map(str, shape)) for shape in shapes)]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this file
    return [Usage(*usage) for usage in json.loads(done.stdout)]


def assert_control() -> None:
    """See the two temporaries of a call that is known to make two."""
    (usage,) = weigh("control", "NumPy", "none", [CONTROL_SHAPE])
    assert 1.95 <= usage.extra / usage.given <= 2.05, f"two temporaries read as {usage.extra / usage.given:.2f}"


def weighed(library: str, function: str, rows: Sequence[Row]) -> list[Weighed]:
    """Measure both sides of the rows of one function."""
    shapes = [row.shape for row in rows]
    sides = [weigh(side, library, function, shapes) for side in ("peer", "ours")]
    name = pair_of(library, function).peer.name
    return [Weighed(row, name, peer, ours) for row, peer, ours in zip(rows, *sides, strict=True)]


def all_weighed(rows: Iterable[Row]) -> Iterator[Weighed]:
    """Measure rows, several functions at once."""
    functions = [(*key, list(same)) for key, same in groupby(rows, lambda row: (row.library, row.function))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(lambda function: weighed(*function), functions):
            yield from done


if __name__ == "__main__":
    serve(sys.argv[1:])
