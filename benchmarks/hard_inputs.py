"""Inputs that are hard: rows of logits and probabilities, labels, and numbers for functions of each element.

Each maker takes a dtype and returns tuples of arguments, one tuple for each shape, as NumPy arrays of the dtype.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from definitions import ARITHMETIC, FORMATS, SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any
Arguments = list[tuple[Array, ...]]

MANY = 1000
# Classes. One row has many; jax compiles for every shape anew, and halves are but rounded.
WIDTHS = {"float32": (3, 12, MANY), "float64": (12, MANY), "float16": (12,), "bfloat16": (12,)}
# Gaps of one dominant logit: up to where its exponential is barely a normal number.
GAPS = {"float32": (5, 10, 17, 20, 40, 80), "float64": (5, 17, 37, 80, 300, 700)}
OFFSETS = {"float16": 3e4, "bfloat16": 1e6, "float32": 1e6, "float64": 1e8}
TINY = {"float16": 2.0**-12, "bfloat16": 1e-30, "float32": 1e-30, "float64": 1e-290}


def numpy_dtype(dtype: str) -> Any:
    """As NumPy knows it."""
    return ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)


def of_dtype(x: Array, dtype: str) -> Array:
    """Rounded to the dtype, where all of it must be finite."""
    rounded = np.asarray(x, dtype=np.float64).astype(numpy_dtype(dtype))
    assert np.all(np.isfinite(rounded.astype(np.float64)))
    return rounded


def spacing_of(x: Array, dtype: str) -> Array:
    """Between neighbouring numbers of the dtype, as float64."""
    return np.ldexp(1.0, np.frexp(x)[1] - FORMATS[dtype].bits)


def hard_rows(classes: int, dtype: str) -> Array:
    """Rows of every kind that is hard, or one of many classes, as float64."""
    generator = np.random.default_rng(classes)
    if classes == MANY:
        return 3.0 * generator.standard_normal((1, MANY))
    normal = partial(generator.standard_normal, classes)
    uniform = partial(generator.uniform, size=classes)
    first = np.arange(classes) == generator.integers(classes)
    base = 3.0 * normal()
    near = np.round(2.5 / spacing_of(2.5, dtype)) * spacing_of(2.5, dtype)
    rows = [normal(), 0.3 * normal(), 10 * normal(), uniform(-40, 40), uniform(-1e4, 1e4), 1e-3 * normal()]
    rows += [near + spacing_of(near, dtype) * generator.integers(-3, 4, size=classes)]  # near ties
    rows += [np.full(classes, 1.3), np.where(first, -2.7, 3.1), np.where(normal() > 0, 1.7, -6.3)]  # ties
    rows += [np.where(first, gap + 0.3, 0.0) + 0.9 * normal() for gap in GAPS[ARITHMETIC[dtype]]]  # one dominates
    rows += [np.where(first, -GAPS[ARITHMETIC[dtype]][-2], normal())]  # one is hopeless
    rows += [base + offset for offset in (OFFSETS[dtype], -OFFSETS[dtype], 100.0)]
    rows += [base - np.log(np.sum(np.exp(base)))]  # normalised log-probabilities
    return np.stack(rows)


@lru_cache(maxsize=64)
def logits(dtype: str) -> Arguments:
    """The rows, by width."""
    return [(of_dtype(hard_rows(classes, dtype), dtype),) for classes in WIDTHS[dtype]]


def labelled(dtype: str) -> Arguments:
    """Each row with the best label, the worst, and another."""
    found = []
    for (x,) in logits(dtype):
        wide = x.astype(np.float64)
        random = np.random.default_rng(1).integers(x.shape[1], size=len(x))
        labels = np.concatenate([wide.argmax(axis=-1), wide.argmin(axis=-1), random])
        found.append((np.concatenate([x, x, x]), labels))
    return found


def soft(dtype: str, make: Callable[[str], Arguments] = logits) -> Arguments:
    """Each row with a distribution of sixty-fourths, some of them 0."""
    generator = np.random.default_rng(2)
    found = []
    for (x,) in make(dtype):
        counts = [generator.multinomial(64, generator.dirichlet(np.full(x.shape[1], 0.5))) for _ in x]
        found.append((x, of_dtype(np.stack(counts) / 64, dtype)))
    return found


def noisy(dtype: str) -> Arguments:
    """Each row with Gumbel noise, both of so few digits that their sum is a number of the dtype."""
    found = []
    for (x,) in logits(dtype):
        wide = x.astype(np.float64)
        last = spacing_of(np.abs(wide).max(axis=-1, keepdims=True) + 20, dtype)
        noise = np.random.default_rng(3).gumbel(size=x.shape)
        found.append(tuple(of_dtype(np.round(v / last) * last, dtype) for v in (wide, noise)))
    return found


def weighed(dtype: str) -> Arguments:
    """Each row with weights of either sign, the largest share positive."""
    found = []
    for (x,) in logits(dtype):
        b = np.random.default_rng(4).uniform(-1, 1, size=x.shape)
        top = x.astype(np.float64).argmax(axis=-1)
        b[np.arange(len(x)), top] = 1.5
        p = np.exp(x.astype(np.float64) - x.astype(np.float64).max(axis=-1, keepdims=True))
        b = np.where((np.sum(p * b, axis=-1) < 0.1)[:, None], np.abs(b), b)
        found.append((x, of_dtype(b, dtype)))
    return found


def pairs(dtype: str) -> Arguments:
    """Pairs of rows: a few last digits apart, unrelated, and in turn a thousandth apart, equal, mirrored, moved."""
    generator = np.random.default_rng(5)
    found = []
    for (x,) in logits(dtype):
        wide, kind = x.astype(np.float64), np.arange(len(x))[:, None] % 4
        near = wide + spacing_of(wide, dtype) * generator.integers(-4, 5, size=x.shape)
        apart = wide + 1e-3 * (1 + np.abs(wide)) * generator.standard_normal(x.shape)
        other = np.select([kind == 0, kind == 1, kind == 2], [apart, wide, -wide], wide + 20)
        sides = near, np.roll(wide, 3, axis=0), other
        found.append((np.concatenate([x] * len(sides)), of_dtype(np.concatenate(sides), dtype)))
    return found


def probs(dtype: str) -> Arguments:
    """Probabilities of the rows, none too small for the dtype."""
    found = []
    for (x,) in logits(dtype):
        p = np.exp(x.astype(np.float64) - x.astype(np.float64).max(axis=-1, keepdims=True))
        found.append((of_dtype(np.maximum(p / p.sum(axis=-1, keepdims=True), TINY[dtype]), dtype),))
    return found


def labelled_probs(dtype: str) -> Arguments:
    """Probabilities of the rows, and their labels."""
    return [(np.concatenate([p, p, p]), y) for (p,), (_, y) in zip(probs(dtype), labelled(dtype), strict=True)]


def prob_pairs(dtype: str) -> Arguments:
    """Probabilities beside others: a few last digits apart, a thousandth apart, equal, unrelated."""
    generator = np.random.default_rng(6)
    found = []
    for (p,) in probs(dtype):
        wide = p.astype(np.float64)
        digits = spacing_of(wide, dtype) * generator.integers(-4, 5, size=p.shape)
        sides = [wide + digits, wide * (1 + 1e-3 * generator.standard_normal(p.shape)), wide, np.roll(wide, 1, axis=0)]
        ratio = 2.0**14 if dtype == "float16" else np.inf  # of p to q, which is a derivative
        sides = [np.maximum(side, wide / ratio) for side in sides]
        found.append((np.concatenate([p] * len(sides)), of_dtype(np.concatenate(sides), dtype)))
    return found


def log_probs(dtype: str) -> Arguments:
    """Logarithms of the probabilities."""
    return [(of_dtype(np.log(p.astype(np.float64)), dtype),) for (p,) in probs(dtype)]


def labelled_log_probs(dtype: str) -> Arguments:
    """Logarithms of the probabilities, and labels."""
    return [(np.concatenate([p, p, p]), y) for (p,), (_, y) in zip(log_probs(dtype), labelled(dtype), strict=True)]


def scale(dtype: str) -> Array:
    """Positive numbers over the whole scale of the dtype, and among ordinary ones."""
    generator = np.random.default_rng(7)
    top = 80.0 if dtype != "float64" else 700.0
    wide = np.exp(generator.uniform(np.log(TINY[dtype]), np.log(top), size=120))
    return np.concatenate([wide, generator.uniform(0, 20, size=160), np.linspace(0.5, 2, 40), [top, 1.0]])


def next_to(point: float, dtype: str) -> Array:
    """A number and its neighbours in the dtype."""
    steps = np.concatenate([-(2.0 ** np.arange(8)), [0], 2.0 ** np.arange(8)])
    return point + spacing_of(np.asarray(abs(point) * (1 - 2.0**-12)), dtype) * steps


def elements(dtype: str) -> Arguments:
    """Numbers of either sign, and 0."""
    return [(of_dtype(np.concatenate([scale(dtype), -scale(dtype), [0.0]]), dtype),)]


def positive(dtype: str) -> Arguments:
    """Positive numbers, many of them next to 1, 1/e and log 2."""
    points = [next_to(float(of_dtype(v, dtype)), dtype) for v in (1.0, np.exp(-1), np.log(2))]
    return [(of_dtype(np.concatenate([scale(dtype), *points]), dtype),)]


def fractions(dtype: str) -> Arguments:
    """Numbers between 0 and 1, many of them next to 1/2 and to 1."""
    small = np.exp(np.random.default_rng(8).uniform(np.log(TINY[dtype]), 0, size=100)) * (1 - 2.0**-7)
    points = np.concatenate([next_to(v, dtype) for v in (0.5, 1.0)])
    return [(of_dtype(np.concatenate([small, np.linspace(0.01, 0.99, 99), points[points < 1]]), dtype),)]


def positive_pairs(dtype: str) -> Arguments:
    """Positive numbers beside others: near, and of another size."""
    generator = np.random.default_rng(9)
    x = of_dtype(generator.uniform(0.1, 8, size=320), dtype)
    near = x.astype(np.float64) + spacing_of(x.astype(np.float64), dtype) * generator.integers(-6, 7, size=320)
    far = np.exp(generator.uniform(-4, 4, size=320))
    points = next_to(1.0, dtype)
    y = np.concatenate([near, far, points])
    return [(np.concatenate([x, x, x[: len(points)]]), of_dtype(y, dtype))]


def from_minus_one(dtype: str) -> Arguments:
    """Numbers beside numbers above -1, some of them tiny."""
    generator = np.random.default_rng(10)
    tiny = np.exp(generator.uniform(np.log(TINY[dtype]), 2, size=200))
    points = next_to(1.0, dtype)
    y = np.concatenate([tiny, -tiny[tiny < 0.9], -points[points < 1], generator.uniform(-0.99, 3, size=200)])
    return [(of_dtype(generator.uniform(-8, 8, size=len(y)), dtype), of_dtype(y, dtype))]


def descending(dtype: str) -> Arguments:
    """Numbers beside smaller ones, near and far, with and without an offset."""
    generator = np.random.default_rng(11)
    x = generator.uniform(-30, 30, size=300)
    x = of_dtype(np.concatenate([x, 3 * x + min(OFFSETS[dtype], 2.0**20)]), dtype).astype(np.float64)
    steps = np.where(generator.uniform(size=600) < 0.3, generator.integers(1, 9, size=600) * spacing_of(x, dtype), 0)
    gaps = np.where(steps > 0, steps, np.exp(generator.uniform(-5, np.log(75), size=600)))
    y = of_dtype(x - gaps, dtype)
    kept = y.astype(np.float64) < x
    return [(of_dtype(x, dtype)[kept], y[kept])]


def targeted(make: Callable[[str], Arguments]) -> Callable[[str], Arguments]:
    """Each element with both targets."""

    def inner(dtype: str) -> Arguments:
        ((x,),) = make(dtype)
        return [(np.concatenate([x, x]), np.repeat(np.asarray([0, 1]), len(x)))]

    return inner


def softly_targeted(dtype: str) -> Arguments:
    """Each element with a target of so many sixty-fourths."""
    ((x,),) = elements(dtype)
    return [(x, of_dtype(np.random.default_rng(12).integers(0, 65, size=len(x)) / 64, dtype))]


def grouped(dtype: str) -> Arguments:
    """Columns of entries, and the segment of each, in no order."""
    return [(np.ascontiguousarray(x.T), np.arange(x.shape[1]) * 2 % SEGMENTS) for (x,) in logits(dtype)]
