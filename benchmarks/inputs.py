"""Logits and labels to measure with, as arrays of each library, and what the results have to be close to."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
import scipy.special
import torch

Array = Any
Shape = tuple[int, int]  # rows, classes

# Of the largest element. Wide enough for the peers, some of which lose digits: that is another table's subject.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-5, "float64": 1e-12}


@lru_cache(maxsize=1)
def drawn(shape: Shape, dtype: str) -> tuple[Array, Array]:
    """Standard normal logits (rows, classes) and labels (rows,), made without temporaries of a wider dtype."""
    generator = np.random.default_rng(0)
    logits = generator.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    return logits.astype(dtype, copy=False), generator.integers(shape[1], size=shape[0])


def given(library: str, shape: Shape, dtype: str = "float32") -> tuple[Array, Array]:
    """The same logits and labels as arrays of the library."""
    logits, labels = drawn(shape, dtype)
    if library == "NumPy":
        return logits, labels
    if library == "jax":
        return jax.block_until_ready((jax.numpy.asarray(logits), jax.numpy.asarray(labels)))
    if dtype == "bfloat16":  # torch does not know NumPy's
        return torch.asarray(logits.view(np.int16)).view(torch.bfloat16).clone(), torch.asarray(labels)
    return torch.asarray(logits).clone(), torch.asarray(labels)  # a copy, because torch aligns its own arrays


@lru_cache(maxsize=1)
def normalised(shape: Shape, dtype: str) -> tuple[Array, Array]:
    """The logarithms of the normalisers, and those of the probabilities, in float64."""
    logits = drawn(shape, dtype)[0].astype(np.float64)
    lse = scipy.special.logsumexp(logits, axis=-1)
    logits -= lse[:, np.newaxis]
    return lse, logits


def expected(function: str, shape: Shape, dtype: str) -> tuple[Array, ...]:
    """The results of a function in float64."""
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
