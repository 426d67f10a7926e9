"""Logits and what stands beside them, as arrays of each library, and what the results have to be close to."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import scipy.special
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = Any
Shape = tuple[int, int]  # rows, classes

# Of the largest element. Wide enough for the peers, some of which lose digits: that is another table's subject.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-5, "float64": 1e-12}


# -- Inputs ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def drawn(shape: Shape, dtype: str) -> tuple[Array, Array]:
    """Standard normal logits (rows, classes) and labels (rows,), made without temporaries of a wider dtype."""
    generator = np.random.default_rng(0)
    logits = generator.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    return logits.astype(dtype, copy=False), generator.integers(shape[1], size=shape[0])


def segments(rows: int) -> int:
    """How many segments so many rows belong to."""
    return rows // 10


def segment_ids(generator: np.random.Generator, shape: Shape) -> Array:
    """The segment of each row, in no order: none is empty, and they are of different lengths."""
    rows, count = shape[0], segments(shape[0])
    return generator.permutation(np.concatenate([np.arange(count), generator.integers(count, size=rows - count)]))


# What a function is given beside the logits, where that is not one label a row.
SECOND: Mapping[str, Callable[[np.random.Generator, Shape], Array]] = {
    "binary_cross_entropy with gradient": lambda generator, shape: generator.integers(2, size=shape).astype("float64"),
    "binary_focal_loss with gradient": lambda generator, shape: generator.integers(2, size=shape).astype("float64"),
    "kl_divergence": lambda generator, shape: generator.standard_normal(shape),
    "kl_divergence with gradient": lambda generator, shape: generator.standard_normal(shape),
    "gumbel_softmax": lambda generator, shape: generator.gumbel(size=shape),
    "segment_logsumexp": segment_ids,
}
# These take log-probabilities in place of logits.
OF_LOG_PROBS = ("nll_loss with gradient",)


@lru_cache(maxsize=1)
def operands(function: str, shape: Shape, dtype: str) -> tuple[Array, Array]:
    """What a function is given, as NumPy arrays."""
    first, second = drawn(shape, dtype)
    if function in OF_LOG_PROBS:
        first = scipy.special.log_softmax(first.astype("float64"), axis=-1).astype(dtype)
    if function in SECOND:
        second = SECOND[function](np.random.default_rng(1), shape)
        second = second.astype(dtype, copy=False) if second.dtype.kind == "f" else second
    return first, second


def as_torch(array: Array) -> torch.Tensor:
    """A copy, because torch aligns its own arrays."""
    if array.dtype.name == "bfloat16":  # torch does not know NumPy's
        return torch.asarray(array.view(np.int16)).view(torch.bfloat16).clone()
    return torch.asarray(array).clone()


def given(library: str, shape: Shape, dtype: str = "float32", function: str = "") -> tuple[Array, Array]:
    """The same operands as arrays of the library: logits and labels, if the function needs no others."""
    first, second = operands(function, shape, dtype)
    if library == "NumPy":
        return first, second
    if library == "jax":
        return jax.block_until_ready((jax.numpy.asarray(first), jax.numpy.asarray(second)))
    return as_torch(first), as_torch(second)


# -- References ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def normalised(shape: Shape, dtype: str) -> tuple[Array, Array]:
    """The logarithms of the normalisers, and those of the probabilities, in float64."""
    logits = drawn(shape, dtype)[0].astype(np.float64)
    lse = scipy.special.logsumexp(logits, axis=-1)
    logits -= lse[:, np.newaxis]
    return lse, logits


def binary_cross_entropy(x: Array, y: Array) -> tuple[Array, ...]:
    """The mean and its gradient."""
    return (np.logaddexp(0, x) - x * y).mean(), (scipy.special.expit(x) - y) / x.size


def binary_focal_loss(x: Array, y: Array) -> tuple[Array, ...]:
    """The mean of -(1 - p)² log p and its gradient."""
    sign = 2 * y - 1
    log_p, p = scipy.special.log_expit(sign * x), scipy.special.expit(sign * x)
    slope = 2 * p * (1 - p) ** 2 * log_p - (1 - p) ** 3
    return (-((1 - p) ** 2) * log_p).mean(), sign * slope / x.size


def focal_loss(x: Array, labels: Array) -> tuple[Array, ...]:
    """The mean of -(1 - p)² log p and its gradient."""
    own = (np.arange(len(x)), labels)
    log_p = scipy.special.log_softmax(x, axis=-1)
    s, p = log_p[own], np.exp(log_p[own])
    gradient = -np.exp(log_p)
    gradient[own] += 1
    gradient *= ((2 * p * s - (1 - p)) * (1 - p) / len(x))[:, np.newaxis]
    return (-((1 - p) ** 2) * s).mean(), gradient


def nll_loss(log_p: Array, labels: Array) -> tuple[Array, ...]:
    """The mean and its gradient."""
    own, gradient = (np.arange(len(log_p)), labels), np.zeros_like(log_p)
    gradient[own] = -1 / len(log_p)
    return -log_p[own].mean(), gradient


def kl_divergence(x: Array, teacher: Array) -> Array:
    """Of every row, from the teacher to these logits."""
    log_p, log_q = (scipy.special.log_softmax(logits, axis=-1) for logits in (teacher, x))
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def kl_gradient(x: Array, teacher: Array) -> Array:
    """Of the mean, by these logits."""
    return (scipy.special.softmax(x, axis=-1) - scipy.special.softmax(teacher, axis=-1)) / len(x)


def segment_logsumexp(x: Array, ids: Array) -> Array:
    """Every segment's; no segment is empty, and no logit so large that it has to be shifted."""
    starts = np.searchsorted(np.sort(ids), np.arange(segments(len(x))))
    return np.log(np.add.reduceat(np.exp(x)[np.argsort(ids, kind="stable")], starts, axis=0))


def sparsemax(x: Array) -> Array:
    """By sorting."""
    ordered, k = -np.sort(-x, axis=-1), np.arange(1, x.shape[-1] + 1)
    sums = ordered.cumsum(axis=-1)
    size = (ordered - (sums - 1) / k > 0).sum(axis=-1, keepdims=True)
    return np.maximum(x - (np.take_along_axis(sums, size - 1, axis=-1) - 1) / size, 0)


def entmax(x: Array) -> Array:
    """For α = 1.5, by sorting."""
    x = (x - x.max(axis=-1, keepdims=True)) / 2
    ordered, k = -np.sort(-x, axis=-1), np.arange(1, x.shape[-1] + 1)
    mean, squares = ordered.cumsum(axis=-1) / k, (ordered**2).cumsum(axis=-1) / k
    tau = mean - np.sqrt(np.maximum((1 - k * (squares - mean**2)) / k, 0))
    size = (tau <= ordered).sum(axis=-1, keepdims=True)
    return np.maximum(x - np.take_along_axis(tau, size - 1, axis=-1), 0) ** 2


def entmax_loss(x: Array, labels: Array) -> tuple[Array, ...]:
    """For α = 1.5, the mean and its gradient."""
    own, p = (np.arange(len(x)), labels), entmax(x)
    rows = ((x - x[own][:, np.newaxis]) * p).sum(axis=-1) + (1 - (p**1.5).sum(axis=-1)) / 0.75
    p[own] -= 1
    return rows.mean(), p / len(x)


# Of float64 operands.
REFERENCES: Mapping[str, Callable[[Array, Array], tuple[Array, ...]]] = {
    "sigmoid": lambda x, _: (scipy.special.expit(x),),
    "log_sigmoid": lambda x, _: (scipy.special.log_expit(x),),
    "softplus": lambda x, _: (np.logaddexp(0, x),),
    "binary_cross_entropy with gradient": binary_cross_entropy,
    "binary_focal_loss with gradient": binary_focal_loss,
    "focal_loss with gradient": focal_loss,
    "nll_loss with gradient": nll_loss,
    "entropy": lambda x, _: (scipy.special.entr(scipy.special.softmax(x, axis=-1)).sum(axis=-1),),
    "kl_divergence": lambda x, teacher: (kl_divergence(x, teacher),),
    "kl_divergence with gradient": lambda x, teacher: (kl_divergence(x, teacher).mean(), kl_gradient(x, teacher)),
    "logcumsumexp": lambda x, _: (np.logaddexp.accumulate(x, axis=-1),),
    "segment_logsumexp": lambda x, ids: (segment_logsumexp(x, ids),),
    "sparsemax": lambda x, _: (sparsemax(x),),
    "entmax": lambda x, _: (entmax(x),),
    "entmax_loss with gradient": entmax_loss,
    "gumbel_softmax": lambda x, noise: (scipy.special.softmax((x + noise) / 0.5, axis=-1),),
}


def expected(function: str, shape: Shape, dtype: str) -> tuple[Array, ...]:
    """The results of a function in float64."""
    if function in REFERENCES:
        first, second = operands(function, shape, dtype)
        return REFERENCES[function](*(a.astype("float64") if a.dtype.kind == "f" else a for a in (first, second)))
    lse, log_probs = normalised(shape, dtype)
    if function == "logsumexp":
        return (lse,)
    if function == "log_softmax":
        return (log_probs,)
    if function == "softmax":
        return (np.exp(log_probs),)
    own = (np.arange(shape[0]), drawn(shape, dtype)[1])
    loss = -log_probs[own].mean()
    if function == "cross_entropy":
        return (loss,)
    gradient = np.exp(log_probs)
    gradient[own] -= 1
    gradient /= shape[0]
    return loss, gradient


def as_float64(result: Array) -> Array:
    """An array of any of the libraries, on NumPy."""
    return np.asarray(result.double() if isinstance(result, torch.Tensor) else result, dtype=np.float64)


def assert_close(results: Array | tuple[Array, ...], references: tuple[Array, ...], dtype: str) -> None:
    """Compare with what is expected, relative to the largest element."""
    results = results if isinstance(results, tuple) else (results,)
    for result, reference in zip(results, references, strict=True):
        error = np.abs(as_float64(result) - reference).max() / np.abs(reference).max()
        assert error <= TOLERANCE[dtype], f"off by {error:.1e} of the largest element"
