"""Hold every function against its definition, computed with mpmath, and say which share of its bound the errors take.

    python benchmarks/accuracy.py                   everything, into docs/accuracy.md: about four minutes
    python benchmarks/accuracy.py --only PATTERN    the functions whose names match, into benchmarks/output

A pattern is a regular expression that matches anywhere in a name such as "cross_entropy, soft labels". The status is 1
if a share is above 1. Run this as ``python -m nox -s accuracy -- ARGUMENTS``, or where softxent and the dependency
group "bench" are installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

import definitions as exact
import hard_inputs as hard
import jax
import machine
import ml_dtypes
import numpy as np
import torch
from definitions import ARITHMETIC, COMPUTED, DIGITS, FORMATS, Exact
from mpmath import mp, mpf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Array = Any

OUTPUT = machine.ROOT / "benchmarks" / "output"
WIDTH = 220  # of a table in a log
CLOSE = 0.8  # of a bound: named on the terminal

BACKENDS = ("NumPy", "torch", "jax")
DTYPES = ("float32", "float64", "float16", "bfloat16")
ROUNDED = 0.51  # units of a half: one rounding of what was computed in float32, but for ties
FLUSHED = 12  # smallest normal numbers: one for each class of the rows that have terms as small as that


# -- the functions -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A function with its definition, and what it is tried on."""

    name: str
    function: Callable[..., Any]
    definition: Callable[..., Any]
    inputs: Callable[[str], list[tuple[Array, ...]]]
    by: tuple[int | str, ...] = (0,)  # the arguments that it is differentiated by
    keywords: tuple[str, ...] = ()  # the names of the last arguments, where they cannot be given by position
    maps: bool = False  # results are rows, and the definition takes the cotangents of one
    columns: bool = False  # rows go along the first axis; an array of one dimension belongs to all of them
    wider: tuple[tuple[str, str, float], ...] = ()  # a backend and dtype where a docstring admits more for derivatives


PAIR = (0, 1)
by_row = partial(partial, reduction="none")
by_segment = partial(partial, num_segments=exact.SEGMENTS)

# jax has an expm1 that is off by 4.7 itself, NumPy an exp of float32 that is off by 2.4.
LOG1MEXP = tuple(("jax", dtype, 7 / 4) for dtype in ("float32", "float64"))
SIGMOID = (("NumPy", "float32", 5 / 4),)

GROUPS = {
    "Normalisers": (
        Case("softmax", softxent.softmax, exact.of_softmax, hard.logits, maps=True),
        Case("log_softmax", softxent.log_softmax, exact.of_log_softmax, hard.logits, maps=True),
        Case("softmin", softxent.softmin, exact.of_softmin, hard.logits, maps=True),
        Case(
            *(
                "gumbel_softmax",
                partial(softxent.gumbel_softmax, temperature=0.5),
                exact.of_gumbel_softmax,
                hard.noisy,
                PAIR,
            ),
            maps=True,
        ),
        Case("logsumexp", softxent.logsumexp, exact.of_logsumexp, hard.logits),
        Case(
            "logsumexp, signed weights",
            softxent.logsumexp,
            exact.of_weighted_logsumexp,
            hard.weighed,
            ("x", "b"),
            ("b",),
        ),
    ),
    "Losses of logits": (
        Case("cross_entropy", by_row(softxent.cross_entropy), exact.of_cross_entropy, hard.labelled),
        Case(
            "cross_entropy, soft labels",
            by_row(softxent.cross_entropy),
            exact.of_soft_cross_entropy,
            hard.soft,
            PAIR,
        ),
        Case("focal_loss", by_row(softxent.focal_loss), exact.of_focal_loss, hard.labelled),
        Case("poly_loss", by_row(softxent.poly_loss), exact.of_poly_loss, hard.labelled),
        Case(
            *("generalized_cross_entropy", by_row(softxent.generalized_cross_entropy, q=0.75)),
            *(exact.of_generalized_cross_entropy, hard.labelled),
        ),
        Case(
            "sparsemax_loss",
            by_row(softxent.sparsemax_loss),
            partial(exact.of_entmax_loss, alpha=mpf(2)),
            hard.labelled,
        ),
        Case("entmax_loss", by_row(softxent.entmax_loss), exact.of_entmax_loss, hard.labelled),
    ),
    "Losses of probabilities": (
        Case("nll_loss", by_row(softxent.nll_loss), exact.of_nll_loss, hard.labelled_log_probs),
        Case(
            *("nll_loss, soft labels", by_row(softxent.nll_loss), exact.of_soft_nll_loss),
            *(partial(hard.soft, make=hard.log_probs), PAIR),
        ),
        Case(
            *("cross_entropy_from_probs", by_row(softxent.cross_entropy_from_probs)),
            *(exact.of_cross_entropy_from_probs, hard.labelled_probs),
        ),
        Case(
            *("cross_entropy_from_probs, soft labels", by_row(softxent.cross_entropy_from_probs)),
            *(exact.of_soft_cross_entropy_from_probs, partial(hard.soft, make=hard.probs), PAIR),
        ),
    ),
    "Binary losses": (
        Case(
            *("binary_cross_entropy", by_row(softxent.binary_cross_entropy)),
            *(exact.of_binary_cross_entropy, hard.targeted(hard.elements)),
        ),
        Case(
            *("binary_cross_entropy, soft labels", by_row(softxent.binary_cross_entropy)),
            *(exact.of_soft_binary_cross_entropy, hard.softly_targeted, PAIR),
        ),
        Case(
            "binary_focal_loss",
            by_row(softxent.binary_focal_loss),
            exact.of_binary_focal_loss,
            hard.targeted(hard.elements),
        ),
        Case(
            *("binary_cross_entropy_from_probs", by_row(softxent.binary_cross_entropy_from_probs)),
            *(exact.of_binary_cross_entropy_from_probs, hard.targeted(hard.fractions)),
        ),
    ),
    "Functions of each element": (
        Case("sigmoid", softxent.sigmoid, exact.of_sigmoid, hard.elements, wider=SIGMOID),
        Case("log_sigmoid", softxent.log_sigmoid, exact.of_log_sigmoid, hard.elements),
        Case("softplus", softxent.softplus, exact.of_softplus, hard.elements),
        Case("logit", softxent.logit, exact.of_logit, hard.fractions),
        Case("entr", softxent.entr, exact.of_entr, hard.positive),
        Case("rel_entr", softxent.rel_entr, exact.of_rel_entr, hard.positive_pairs, PAIR),
        Case("xlogy", softxent.xlogy, exact.of_xlogy, hard.positive_pairs, PAIR),
        Case("xlog1py", softxent.xlog1py, exact.of_xlog1py, hard.from_minus_one, PAIR),
        Case("log1mexp", softxent.log1mexp, exact.of_log1mexp, hard.positive, wider=LOG1MEXP),
        Case("logsubexp", softxent.logsubexp, exact.of_logsubexp, hard.descending, PAIR),
    ),
    "Log space": (
        Case("logmeanexp", softxent.logmeanexp, exact.of_logmeanexp, hard.logits),
        Case("logcumsumexp", softxent.logcumsumexp, exact.of_logcumsumexp, hard.logits, maps=True),
        Case(
            *("segment_logsumexp", by_segment(softxent.segment_logsumexp), exact.of_segment_logsumexp, hard.grouped),
            maps=True,
            columns=True,
        ),
        Case(
            *("segment_softmax", by_segment(softxent.segment_softmax), exact.of_segment_softmax, hard.grouped),
            maps=True,
            columns=True,
        ),
    ),
    "Entropies and divergences of logits": (
        Case("entropy", softxent.entropy, exact.of_entropy, hard.logits),
        Case("cross_entropy_between", softxent.cross_entropy_between, exact.of_cross_entropy_between, hard.pairs, PAIR),
        Case("kl_divergence", softxent.kl_divergence, exact.of_kl_divergence, hard.pairs, PAIR),
        Case("js_divergence", softxent.js_divergence, exact.of_js_divergence, hard.pairs, PAIR),
        Case("total_variation", softxent.total_variation, exact.of_total_variation, hard.pairs, PAIR),
    ),
    "Entropies and divergences of probabilities": (
        Case("entropy_from_probs", softxent.entropy_from_probs, exact.of_entropy_from_probs, hard.probs),
        Case(
            *("cross_entropy_between_from_probs", softxent.cross_entropy_between_from_probs),
            *(exact.of_cross_entropy_between_from_probs, hard.prob_pairs, PAIR),
        ),
        Case(
            *("kl_divergence_from_probs", softxent.kl_divergence_from_probs),
            *(exact.of_kl_divergence_from_probs, hard.prob_pairs, PAIR),
        ),
        Case(
            *("js_divergence_from_probs", softxent.js_divergence_from_probs),
            *(exact.of_js_divergence_from_probs, hard.prob_pairs, PAIR),
        ),
        Case(
            *("total_variation_from_probs", softxent.total_variation_from_probs),
            *(exact.of_total_variation_from_probs, hard.prob_pairs, PAIR),
        ),
    ),
    "Sparse maps": (
        Case("sparsemax", softxent.sparsemax, partial(exact.of_entmax, alpha=mpf(2)), hard.logits, maps=True),
        Case("entmax, α = 1.5", softxent.entmax, exact.of_entmax, hard.logits, maps=True),
        Case(
            *(
                "entmax, α = 1.25",
                partial(softxent.entmax, alpha=1.25),
                partial(exact.of_entmax, alpha=mpf(1.25)),
                hard.logits,
            ),
            maps=True,
        ),
    ),
}
CASES = {case.name: case for group in GROUPS.values() for case in group}


# -- what comes out ----------------------------------------------------------------------------------------------------


class Worst(NamedTuple):
    """The largest error in shares of its bound, and where it is."""

    share: float
    found: str = ""
    exact: str = ""
    bound: str = ""  # absolute
    row: str = ""


class Key(NamedTuple):
    """What is compared."""

    name: str
    backend: str
    dtype: str
    quantity: str


def spacing(right: mpf, dtype: str) -> mpf:
    """The unit in the last place of a number; below the normal numbers that of the smallest of them."""
    bits, low, high = FORMATS[dtype]
    exponent = min(max(low, mp.frexp(right)[1] - 1), high - 1) if right else low
    return mp.ldexp(mpf(1), exponent - bits + 1)


def bound(right: Exact, dtype: str, backend: str, wider: float = 1.0) -> mpf:
    """How far a result of this dtype may be off.

    A half is what was computed in float32, rounded once. XLA takes subnormal terms for 0.
    """
    computed = ARITHMETIC[dtype]
    terms = right.terms * mp.ldexp(1, -FORMATS[computed].bits)
    units = ROUNDED if dtype != computed else right.units
    flushed = FLUSHED * mp.ldexp(1, FORMATS[computed].low) if backend == "jax" else 0
    least = 4 * spacing(mpf(0), computed) if right.terms else 0
    return wider * (units * spacing(right.value, dtype) + max(terms, least)) + flushed


def placed(x: Array, backend: str) -> Array:
    """An array of the library."""
    if backend == "NumPy":
        return x
    if backend == "jax":
        return jax.numpy.asarray(x)
    if x.dtype == ml_dtypes.bfloat16:
        return torch.asarray(x.astype(np.float32)).to(torch.bfloat16)
    return torch.asarray(x)


def fetched(x: Array) -> tuple[Array, str]:
    """Its numbers as float64, and its dtype's name."""
    name = str(x.dtype).removeprefix("torch.")
    return np.asarray(x.to(torch.float64) if isinstance(x, torch.Tensor) else x).astype(np.float64), name


def called(case: Case, arguments: Sequence[Array]) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """Value and pullback of a function."""
    first = len(arguments) - len(case.keywords)
    named = dict(zip(case.keywords, arguments[first:], strict=True))
    return softxent.vjp(case.function, case.by)(*arguments[:first], **named)


def cotangents(shape: tuple[int, ...]) -> Array:
    """Powers of two with a random sign."""
    generator = np.random.default_rng(13)
    return generator.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], size=shape)


def exactly(x: Array) -> Any:
    """Labels as int, other numbers as mpf, and rows of them as tuples."""
    if np.ndim(x):
        return tuple(exactly(v) for v in x)
    return int(x) if x.dtype.kind in "iu" else mpf(float(x))


def rows_of(case: Case, arguments: Sequence[Array], g: Array) -> list[tuple[Any, ...]]:
    """What the definition takes for each row."""
    if case.columns:
        x, ids = arguments
        return [(exactly(row), exactly(own), exactly(ids)) for row, own in zip(x.T, g.T, strict=True)]
    arrays = (*arguments, g) if case.maps else arguments
    return [tuple(exactly(part) for part in row) for row in zip(*arrays, strict=True)]


def scaled(right: Any, factor: mpf) -> Any:
    """Derivatives times a cotangent."""
    return right.times(factor) if isinstance(right, Exact) else [scaled(part, factor) for part in right]


def defined(case: Case, arguments: Sequence[Array], g: Array) -> tuple[list[tuple[Any, ...]], list[list[Any]]]:
    """The rows; and row by row what the definition says of the value and of each derivative."""
    rows = rows_of(case, arguments, g)
    found = [case.definition(*row) for row in rows]
    if not case.maps:
        weights = [mpf(float(v)) for v in g]
        found = [(value, scaled(by, weight)) for (value, by), weight in zip(found, weights, strict=True)]
    return rows, [[value for value, _ in found], *([by[n] for _, by in found] for n in range(len(case.by)))]


def compared(
    case: Case, backend: str, result: Array, right: Sequence[Exact], rows: Sequence[Any], *, slope: bool
) -> Worst:
    """A result beside what it should be."""
    numbers, dtype = fetched(result)
    found = (numbers.T if case.columns else numbers).ravel().tolist()
    wider = next((f for b, d, f in case.wider if slope and (b, d) == (backend, dtype)), 1.0)
    worst, place, each = Worst(-1.0), 0, len(found) // len(rows)
    with mp.workprec(53):  # a difference of numbers with more digits is still rounded but once
        for n, (one, e) in enumerate(zip(found, right, strict=True)):
            off, room = abs(e.value - one), bound(e, dtype, backend, wider)
            share = float(off / room) if room and mp.isfinite(off) else float(mp.inf if off else 0)
            if share > worst.share:
                worst, place = Worst(share, repr(one), mp.nstr(e.value, 20), mp.nstr(room, 3)), n
    return worst._replace(row=shown(rows[place // each], place % each))


def shown(row: Any, place: int) -> str:
    """What the definition was given, and the place in it that is meant; long rows as the place alone."""
    numbers = flat(row)
    given = [str(v) if isinstance(v, int) else mp.nstr(v, 17) for v in numbers] if len(numbers) < 40 else ["…"]
    return f"{', '.join(given)} at {place}"


def flat(nested: Any) -> list[Any]:
    """The numbers of nested rows."""
    if isinstance(nested, Exact) or not isinstance(nested, (tuple, list)):
        return [nested]
    return [v for part in nested for v in flat(part)]


def measured(name: str) -> dict[Key, Worst]:
    """The largest shares of one function, on every backend in every dtype."""
    case, found = CASES[name], {}
    for dtype in DTYPES:
        COMPUTED.set(ARITHMETIC[dtype])
        with mp.workdps(DIGITS[ARITHMETIC[dtype]]), np.errstate(all="ignore"):
            for n, arguments in enumerate(case.inputs(dtype)):
                g = cotangents(called(case, arguments)[0].shape)
                rows, (values, *slopes) = defined(case, arguments, g)
                if dtype == "float32" and n == 0:
                    assert_derivatives(case, rows, slopes, g)
                right = [flat(values), *(flat(by) for by in slopes)]
                for backend in BACKENDS:
                    value, pullback = called(case, [placed(x, backend) for x in arguments])
                    results = value, *pullback(placed(hard.of_dtype(g, fetched(value)[1]), backend))
                    for m, (result, e) in enumerate(zip(results, right, strict=True)):
                        key = Key(name, backend, dtype, "derivative" if m else "value")
                        worst = compared(case, backend, result, e, rows, slope=m > 0)
                        found[key] = max(found.get(key, worst), worst)
    return found


# -- derivatives against differences ----------------------------------------------------------------------------------

ROWS_CHECKED = 24


def moved(row: tuple[Any, ...], argument: int, place: int, step: mpf) -> tuple[Any, ...]:
    """A row with one number of one argument moved."""
    x = row[argument]
    x = tuple(v + step * (j == place) for j, v in enumerate(x)) if isinstance(x, tuple) else x + step
    return (*row[:argument], x, *row[argument + 1 :])


def assert_derivatives(case: Case, rows: Sequence[Any], slopes: Sequence[Any], g: Array) -> None:
    """What a definition says of derivatives agrees with differences of what it says of values."""
    weights = g.T if case.columns else g

    def total(row: tuple[Any, ...], n: int) -> mpf:
        """Σ cotangent · value."""
        pairs = zip(flat(case.definition(*row)[0]), np.atleast_1d(weights[n]), strict=True)
        return sum((e.value * float(w) for e, w in pairs), mpf(0))

    for n in range(0, len(rows), -(-len(rows) // ROWS_CHECKED)):
        for argument, by in enumerate(slopes):
            for place, e in enumerate(flat(by[n])):
                x = rows[n][argument][place] if isinstance(rows[n][argument], tuple) else rows[n][argument]
                step = mpf(10) ** -45 * min(abs(x) or 1, 1)
                up, down = (total(moved(rows[n], argument, place, side), n) for side in (step, -step))
                off = abs((up - down) / (2 * step) - e.value)
                assert off <= mpf(10) ** -18 * (abs(e.value) + e.terms) + mpf(10) ** -44, (case.name, rows[n], place)


# -- the page ----------------------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Accuracy

`python -m nox -s accuracy` measured this and wrote the page.

A share is the largest error of a function, over many inputs that are hard, divided by the bound that its documentation
states for it: at 1 the bound is reached. The first number is that of values, the second that of derivatives.
"""
METHOD = f"""\
## How it is measured

Every result is compared with the function's definition, computed by mpmath with {DIGITS["float32"]} digits, or
{DIGITS["float64"]} for float64. Rows have 3, 12 or {hard.MANY} classes: normal, wide and narrow; near and exact ties;
one logit far above or below the others; offsets; normalised log-probabilities. Each goes with the best label, the worst
and another, or with distributions that have zeros; pairs are a few last digits apart, a thousandth apart, equal,
mirrored or unrelated. Functions of each element get numbers over the whole scale and the neighbours of their critical
points.

Derivatives come from `softxent.vjp`, with powers of two of random sign for cotangents; those of functions of two arrays
are by both, and the worse counts. The definitions' derivatives agree with differences of the definitions' values.

Halves are computed in float32; losses and divergences of halves are returned as float32, their derivatives as halves. A
number that is rounded to a half once has a share of {0.5 / ROUNDED:.2f} at most. Calls are eager, on the CPU. XLA takes
subnormal terms for 0: on jax a bound is {FLUSHED} times the smallest normal number more.
"""
BOUNDS = f"""\
## The bounds

A unit is the distance between the two numbers of the dtype that are next to the exact result, in its last place, and
u is half the distance between 1 and the next number. g is the gap to the largest logit that matters: that of the
class itself or, for what the other classes add up to, the mean of theirs by their shares of it. In the first line of
this list it is 0 for rows whose gaps are all numbers of the dtype, so that nothing is rounded.

- Values of `softmax`, `log_softmax`, `softmin`, `gumbel_softmax`, `segment_softmax` and `cross_entropy`, and
  derivatives of `cross_entropy` by logits with class indices: 4 + g units. (Of `gumbel_softmax` g always counts.)
- Values of `poly_loss` and `generalized_cross_entropy`: 4 + g units.
- Every other derivative, unless this list says more: (4 + g) u times Σ of the absolute values of the terms that it is
  a sum of, as p_i (1 - p_i) g_i and p_i p_j g_j of softmax.
- `focal_loss`: γ (4 + log 1 / (1 - p)) beside 4 + g. Derivatives of `generalized_cross_entropy`: q (4 + log 1 / p)
  beside it. `binary_focal_loss`: 4 + γ max(-log p, -log(1 - p)) units.
- `logsumexp`, `logmeanexp`, `segment_logsumexp`, `logsubexp`: 4 units times the condition number where that is above
  1, which is Σ p abs(x) / abs(result), and Σ abs(b exp x) / abs(Σ b exp x) where weights are given. `logcumsumexp`: 4
  + g units, or the same near 0. Derivatives of `logsubexp`: 4 + x - y units.
- `entropy`, `cross_entropy_between`, `kl_divergence`, `total_variation`: 4 + g units, `js_divergence`: 5 + g, g being
  the larger of both rows' gaps, as a mean over the classes by what they contribute. Derivatives by q that are q - p:
  (8 + g) u Σ_k abs(q_j p_k - p_j q_k), which is about p times how far the differences of the logits are apart. Where
  rounding decides which of p and q is larger, either derivative of `total_variation` counts as right.
- `binary_cross_entropy` and `binary_cross_entropy_from_probs` with targets 0 and 1, `cross_entropy_from_probs` with
  class indices, and functions of each element: 4 units, values and derivatives; the derivative of `sigmoid` 5 on
  NumPy in float32, that of `log1mexp` 7 on jax. Where there are two terms, as in log(x / y) + 1, and for targets in
  between: 4 u Σ of their absolute values.
- `sparsemax`, `entmax`: 4 u times p (1 - log p) + s D, where s is p^(2 - α) and D the largest difference of logits
  within the support; derivatives (4 + r) u Σ, r being the largest of these bounds relative to its p.
  `sparsemax_loss`, `entmax_loss`: 6 units and u Σ abs(p - q) times the gap; derivatives as the values of `entmax`, of
  all others for the label.
- Halves: {ROUNDED} units, and u Σ of float32 where terms cancel.
- `nll_loss` and `cross_entropy_from_probs` of distributions: 4 u Σ of the absolute values of the terms. Entropies and
  divergences of probabilities: 8 u Σ, which is 4 units of each term.
"""
ABOVE = """\
## Above their bounds
"""


def number(share: float) -> str:
    """Two digits."""
    return f"{share:.2f}" if share < 100 else f"{share:.0e}"


def cell(found: dict[Key, Worst], name: str, backend: str, dtype: str) -> str:
    """Both shares."""
    return " / ".join(number(found[Key(name, backend, dtype, what)].share) for what in ("value", "derivative"))


def tables(found: dict[Key, Worst]) -> list[Any]:
    """One for each group that was measured."""
    from report import Table  # here, because the processes that measure need none of what it imports

    columns = [(backend, dtype) for dtype in DTYPES for backend in BACKENDS]
    known = {key.name for key in found}
    made = [
        Table(
            *(title, ("function",), tuple(f"{backend} {dtype}" for backend, dtype in columns)),
            [
                (case.name, *(cell(found, case.name, *column) for column in columns))
                for case in group
                if case.name in known
            ],
        )
        for title, group in GROUPS.items()
    ]
    return [table for table in made if table.rows]


def named(worst: dict[Key, Worst]) -> Any:
    """The entries themselves."""
    from report import Table

    rows = [(*key, number(w.share), w.found, w.exact, w.bound, w.row) for key, w in worst.items()]
    words = ("function", "backend", "dtype", "", "share", "found", "exact", "bound", "row")
    return Table("The entries nearest to their bounds", words, (), rows)


def written(found: dict[Key, Worst], page: Path) -> None:
    """Write the page."""
    from report import Table

    head = Table("", ("", ""), (), list(machine.description().items())).markdown()
    sections = [f"## {table.title}\n\n{table.markdown()}" for table in tables(found)]
    above = {key: w for key, w in found.items() if not w.share <= 1}
    warning = [f"{ABOVE}\n{named(above).markdown()}"] if above else []
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([INTRODUCTION, head, *sections, *warning, METHOD, BOUNDS]), encoding="utf-8")


def prepared() -> None:
    """Set a process up: float64 on jax, and one thread each."""
    jax.config.update("jax_enable_x64", val=True)
    torch.set_num_threads(1)


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", type=re.compile, help="only the functions whose name matches")
    only = parser.parse_args().only
    names = [name for name in CASES if only is None or only.search(name)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found: dict[Key, Worst] = {}
    with (
        Progress(*columns, console=console, transient=True) as progress,
        ProcessPoolExecutor(machine.cores(), get_context("spawn"), prepared) as pool,
    ):
        task = progress.add_task("accuracy", total=len(names))
        for done in as_completed([pool.submit(measured, name) for name in names]):
            found |= done.result()
            progress.advance(task)
    found = {key: found[key] for key in sorted(found, key=lambda key: names.index(key.name))}
    for table in tables(found):
        console.print(table.terminal())
    close = {key: w for key, w in found.items() if w.share > (CLOSE if key.dtype in DIGITS else 1)}
    if close:
        console.print(named(close).terminal())
    page = (OUTPUT if only else machine.ROOT / "docs") / "accuracy.md"
    written(found, page)
    console.print(f"written: {page.relative_to(machine.ROOT)}")
    sys.exit(any(not w.share <= 1 for w in found.values()))


if __name__ == "__main__":
    main()
