"""What the laws and the agreement tests draw: logits of every class of input, labels, weights, options.

Everything is drawn once, in NumPy, as float64 or int64 arrays whose values the dtype under test holds exactly, so that
every backend and the oracle see the same numbers. Shapes come from a short list (a new one costs jax a compilation),
values from a generator that Hypothesis seeds, by the kinds of input where losses go wrong (`KINDS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from matrix import INTS, numpy_dtype
from oracle import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from oracle import Axis

Array = np.ndarray[Any, Any]

# Logits' shape and class axis.
SHAPES: tuple[tuple[tuple[int, ...], Axis], ...] = (
    ((2,), -1),
    ((3, 2), -1),
    ((4, 5), -1),
    ((5, 9), -1),
    ((9, 4), 0),
    ((2, 4, 3), 1),
    ((3, 1), -1),
    ((2, 3, 3), (2, 0)),
    ((3, 3), None),
    ((1, 8), 1),
)


def rounded(values: Any, dtype: str) -> Array:
    """The values as numbers that the dtype holds, in float64."""
    with np.errstate(over="ignore"):
        return np.asarray(np.asarray(values, dtype=np.float64).astype(numpy_dtype(dtype)), dtype=np.float64)


def compute_dtype(dtype: str) -> str:
    """The dtype that the arithmetic is done in."""
    return "float64" if dtype == "float64" else "float32"


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:  # noqa: ARG001
    return rng.normal(size=shape)


def _uniform(bound: float) -> Callable[..., Array]:
    def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:  # noqa: ARG001
        return rng.uniform(-bound, bound, size=shape)

    return draw


def _near_ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    base = rng.normal(size=(*shape[:-1], 1))
    bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype]
    return np.asarray(base * (1 + rng.integers(0, 5, size=shape) * 2.0 ** (1 - bits)))


def _ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:  # noqa: ARG001
    return np.asarray(rng.choice([-1.5, 0.0, 2.25], size=(*shape[:-1], 1)) + rng.integers(0, 2, size=shape))


def _dominant(low: dict[str, float], high: dict[str, float]) -> Callable[..., Array]:
    """One logit a row above all the others, by a gap between the bounds for the dtype."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        name = compute_dtype(dtype)
        x = rng.integers(0, 3, size=shape) * rng.choice([0.0, 0.25, 1.0])
        first = rng.integers(0, shape[-1], size=shape[:-1])
        gap = rng.uniform(low[name], high[name], size=shape[:-1]) + x.max(axis=-1)
        np.put_along_axis(x, first[..., None], gap[..., None], axis=-1)
        return np.asarray(x)

    return draw


def _offset(by: float) -> Callable[..., Array]:
    def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        offset = min(by, 3e4) if dtype == "float16" else by
        return np.asarray(rng.normal(size=shape) * rng.choice([1.0, 30.0]) + offset * rng.choice([-1.0, 1.0]))

    return draw


def _with_minus_inf(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:  # noqa: ARG001
    x = rng.normal(size=shape) * 3
    x[rng.random(size=shape) < 0.4] = -math.inf
    x[..., rng.integers(shape[-1])] = 1.0  # a row of nothing but -inf is another matter
    return x


def _log_probs(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:  # noqa: ARG001
    x = rng.normal(size=shape) * rng.choice([0.1, 3.0, 20.0])
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True)))


KINDS: dict[str, Callable[..., Array]] = {
    "normal": _normal,
    "uniform ±50": _uniform(50.0),
    "uniform ±1e4": _uniform(1e4),
    "near ties": _near_ties,
    "exact ties": _ties,
    "one dominant": _dominant({"float32": 5.0, "float64": 5.0}, {"float32": 85.0, "float64": 700.0}),
    "subnormal loss": _dominant({"float32": 86.0, "float64": 707.0}, {"float32": 103.0, "float64": 744.0}),
    "offset 1e6": _offset(1e6),
    "offset 1e8": _offset(1e8),
    "-inf entries": _with_minus_inf,
    "log-probabilities": _log_probs,
}


def logits_rows(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Rows (classes last) of one kind of input."""
    return rounded(KINDS[kind](rng, shape, dtype), dtype)


@dataclass
class Batch:
    """Logits as drawn, with what is needed to draw things that fit them."""

    kind: str
    seed: int
    dtype: str
    shape: tuple[int, ...]
    axis: Axis
    logits: Array = field(init=False)
    layout: Layout = field(init=False, repr=False)
    rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.layout = Layout(self.shape, self.axis)
        rows = logits_rows(self.kind, self.rng, (*self.layout.batch, self.layout.classes), self.dtype)
        self.logits = np.ascontiguousarray(self.layout.back(rows))

    @property
    def batch(self) -> tuple[int, ...]:
        return self.layout.batch

    @property
    def classes(self) -> int:
        return self.layout.classes

    def cotangent(self, shape: tuple[int, ...], dtype: str) -> Array:
        return rounded(self.rng.normal(size=shape), dtype)

    def labels(self) -> Array:
        """Class indices, about half of them at the largest logit."""
        rows = self.layout.rows(self.logits)
        anywhere = self.rng.integers(0, self.classes, size=self.batch)
        return np.asarray(
            np.where(self.rng.random(size=self.batch) < 0.5, rows.argmax(axis=-1), anywhere), dtype=np.int64
        )

    def distributions(self) -> Array:
        """Soft labels of the logits' shape: one-hot rows, rows with zeros, rows of 0, dense rows."""
        shape = (*self.batch, self.classes)
        q = self.rng.uniform(size=shape) * (self.rng.random(size=shape) < self.rng.choice([0.5, 1.0]))
        q = q / np.where(q.sum(axis=-1, keepdims=True) > 0, q.sum(axis=-1, keepdims=True), 1.0)
        one_hot = np.eye(self.classes)[self.labels()]
        q = np.where(self.rng.random(size=(*self.batch, 1)) < 0.3, one_hot, q)
        return rounded(self.layout.back(q), self.dtype)


def batches(dtype: str, *, kinds: tuple[str, ...] = tuple(KINDS), shapes: Any = SHAPES) -> st.SearchStrategy[Batch]:
    """Logits of any kind, shape and class axis."""
    return st.builds(
        lambda kind, seed, where: Batch(kind, seed, dtype, *where),
        st.sampled_from(kinds),
        st.integers(0, 2**32 - 1),
        st.sampled_from(shapes),
    )


int_dtypes = st.sampled_from(INTS)


@dataclass
class Call:
    """One call of cross_entropy: a batch, labels and options, as NumPy arrays and Python numbers."""

    batch: Batch
    labels: Array
    label_dtype: str  # "" for soft labels
    options: dict[str, Any]

    @property
    def soft(self) -> bool:
        return not self.label_dtype


@st.composite
def calls(draw: st.DrawFn, dtype: str, *, shapes: Any = SHAPES, kinds: tuple[str, ...] = tuple(KINDS)) -> Call:
    """Any combination of cross_entropy's options that says something about a row."""
    batch = draw(batches(dtype, shapes=shapes, kinds=kinds))
    rng, n, c = batch.rng, batch.batch, batch.classes
    precise = compute_dtype(dtype)
    options: dict[str, Any] = {}

    def also(name: str, *ways: Callable[[], Any]) -> None:
        way = draw(st.integers(0, len(ways) + 1))  # none twice as often as each of the others
        if way < len(ways):
            options[name] = ways[way]()

    def number(*values: float) -> Callable[[], float]:
        return lambda: float(rounded(rng.choice(values), precise))

    def one_left(mask: Array) -> Array:
        mask[..., rng.integers(c)] = True
        return np.ascontiguousarray(batch.layout.back(mask))

    soft = draw(st.booleans())
    label_dtype = "" if soft else draw(int_dtypes)
    labels = batch.distributions() if soft else batch.labels()
    if not soft and draw(st.booleans()):
        ignored = draw(st.sampled_from([-1, -100, 255, 0]))
        if np.iinfo(label_dtype).min <= ignored <= np.iinfo(label_dtype).max:
            labels = np.where(rng.random(size=n) < 0.3, ignored, labels)
        options["ignore_index"] = ignored
    also(
        "where",
        lambda: rng.random(size=n) < 0.7,
        lambda: one_left(rng.random(size=(*n, c)) < 0.7),
        lambda: np.ascontiguousarray(batch.layout.back(rng.random(size=(*n, c)) < 0.7)),
    )
    also(
        "weight",
        lambda: rounded(rng.uniform(0.25, 4.0, size=c), precise),
        lambda: rounded(rng.uniform(0.25, 4.0, size=c) * (rng.random(size=c) < 0.7), precise),
    )
    also(
        "sample_weight",
        number(0.5, 3.0),
        lambda: rounded(rng.uniform(0.25, 4.0, size=n) * (rng.random(size=n) < 0.7), precise),
    )
    also("label_smoothing", number(0.0, 0.1, 0.75, 1.0), lambda: rounded(rng.uniform(0, 1, size=n), precise))
    if "label_smoothing" in options:
        also(
            "smoothing_prior",
            lambda: rounded(rng.uniform(0, 3, size=c), precise),
            lambda: rounded(rng.uniform(0, 3, size=c) * (rng.random(size=c) < 0.5), precise),
        )
    also(
        "temperature",
        number(0.5, 0.7, 3.0),
        lambda: rounded(rng.uniform(0.3, 3.0, size=n), precise),
        lambda: rounded(rng.uniform(0.3, 3.0, size=batch.shape), precise),
    )
    also("softcap", number(2.0, 30.0, 50.3))
    also("z_loss", number(1e-4, 0.3))
    return Call(batch, labels, label_dtype, options)
