"""The rows of what makes its logits from features and never holds them all, beside the plain way that does.

A size is rows, features and classes. What a call is given is ((features, weight), labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import contenders as c
import jax
import numpy as np
import suites
import torch
from inputs import assert_close
from targets import Outcome, Target
from timing import interleaved, spread
from torch.nn import functional

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memory import Usage, Weighed
    from timing import Plan

    Shape = tuple[int, int, int]
    Parameters = tuple[Any, Any]  # features and weight

Array = Any

MIB = 2**20
FUNCTION = "linear_cross_entropy"
WITH_GRADIENT = f"{FUNCTION} with gradient"
SHAPE: Shape = (2_048, 256, 16_384)
SMALL: Shape = (2_048, 64, 4_096)
# Sixteen times as many rows, and sixteen times as many classes.
LARGER: tuple[Shape, ...] = ((32_768, 64, 4_096), (2_048, 64, 65_536))
WARM_UP: Shape = (512, 64, 1_024)
CHUNKS = 2 * MIB, 32 * MIB  # either side of what is chosen by default


# -- Inputs ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def drawn(shape: Shape) -> tuple[Array, Array, Array]:
    """Standard normal features, weights that make logits of variance 1 of them, and labels."""
    rows, features, classes = shape
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal((length, features), np.float32) for length in (rows, classes))
    weight /= np.float32(features**0.5)
    return x, weight, generator.integers(classes, size=rows)


def given(library: str, shape: Shape) -> tuple[Parameters, Array]:
    """The same as arrays of the library."""
    x, weight, labels = drawn(shape)
    if library == "jax":
        return jax.block_until_ready(jax.tree.map(jax.numpy.asarray, ((x, weight), labels)))
    if library == "torch":  # copies, because torch aligns its own arrays
        return (torch.tensor(x), torch.tensor(weight)), torch.tensor(labels)
    return (x, weight), labels


@lru_cache(maxsize=1)
def expected(shape: Shape) -> tuple[Array, Array, Array]:
    """The loss and its derivatives by features and weight, in float64."""
    x, weight, labels = drawn(shape)
    x, weight, own = x.astype(np.float64), weight.astype(np.float64), (np.arange(len(x)), labels)
    by_logits = x @ weight.T
    label = by_logits[own]
    np.exp(by_logits, out=by_logits)  # of variance 1: no exponential is large
    sums = by_logits.sum(axis=-1)
    by_logits /= sums[:, np.newaxis]
    by_logits[own] -= 1
    by_logits /= len(x)
    return (np.log(sums) - label).mean(), by_logits @ weight, by_logits.T @ x


# -- Calls -----------------------------------------------------------------------------------------------------------


def with_backward(loss_of: c.Call) -> c.Call:
    """Loss and derivatives through torch's autograd, from leaves that have no gradient yet."""

    def call(parameters: Parameters, labels: Array) -> tuple[Array, ...]:
        leaves = [x.detach().requires_grad_() for x in parameters]
        loss = loss_of(leaves, labels)
        loss.backward()
        return loss.detach(), *(leaf.grad for leaf in leaves)

    return call


def with_gradient(loss_of: c.Call) -> c.Call:
    """The same through jax's."""

    def call(parameters: Parameters, labels: Array) -> tuple[Array, ...]:
        loss, derivatives = jax.value_and_grad(loss_of)(parameters, labels)
        return loss, *derivatives

    return call


@cache
def softxent_value_and_grad() -> Callable[..., tuple[Array, tuple[Array, Array]]]:
    """Our loss with its own derivatives."""
    return softxent.value_and_grad(softxent.linear_cross_entropy, ("features", "weight"))


def ours(parameters: Parameters, labels: Array, chunk_bytes: int | None = None) -> Array:
    """The mean loss."""
    return softxent.linear_cross_entropy(*parameters, labels, chunk_bytes=chunk_bytes)


def own_gradient(parameters: Parameters, labels: Array, chunk_bytes: int | None = None) -> tuple[Array, ...]:
    """The mean loss and its derivatives, without the library's help."""
    loss, derivatives = softxent_value_and_grad()(*parameters, labels, chunk_bytes=chunk_bytes)
    return loss, *derivatives


def torch_plain(parameters: Parameters, labels: Array) -> Array:
    """The mean loss of all logits at once."""
    return functional.cross_entropy(functional.linear(*parameters), labels)


def optax_plain(parameters: Parameters, labels: Array) -> Array:
    """The same on jax."""
    x, weight = parameters
    return c.optax_loss(x @ weight.T, labels)


TORCH, OPTAX = "torch.nn.functional.cross_entropy of linear", "optax.softmax_cross_entropy_with_integer_labels of x Wᵀ"
TORCH_LOSS, TORCH_BACKWARD = c.on_torch(TORCH, torch_plain), c.on_torch(TORCH, with_backward(torch_plain))

PAIRS = (
    suites.Pair(FUNCTION, c.on_numpy("softxent.linear_cross_entropy", ours), TORCH_LOSS, (SHAPE,)),
    suites.Pair(
        WITH_GRADIENT,
        c.on_numpy("softxent.value_and_grad(linear_cross_entropy)", own_gradient),
        TORCH_BACKWARD,
        (SHAPE,),
        targets=suites.at_least({SHAPE: 1}),
    ),
    suites.Pair(FUNCTION, c.on_torch("softxent.linear_cross_entropy", ours), TORCH_LOSS, (SHAPE,)),
    suites.Pair(
        WITH_GRADIENT,
        c.on_torch("softxent.linear_cross_entropy", with_backward(ours)),
        TORCH_BACKWARD,
        (SHAPE,),
        targets=suites.at_least({SHAPE: 1.33}),
    ),
    *(
        suites.Pair(WITH_GRADIENT, contender, TORCH_BACKWARD, (SHAPE,), how=f"{chunk // MIB} MiB")
        for chunk in CHUNKS
        for contender in (
            c.on_numpy("softxent.linear_cross_entropy", partial(own_gradient, chunk_bytes=chunk)),
            c.on_torch("softxent.linear_cross_entropy", with_backward(partial(ours, chunk_bytes=chunk))),
        )
    ),
    suites.Pair(
        FUNCTION,
        c.on_jax("softxent.linear_cross_entropy", ours),
        c.on_jax(OPTAX, optax_plain),
        (SHAPE,),
        how="jitted",
    ),
    suites.Pair(
        WITH_GRADIENT,
        c.on_jax("softxent.linear_cross_entropy", with_gradient(ours)),
        c.on_jax(OPTAX, with_gradient(optax_plain)),
        (SHAPE,),
        targets=suites.at_least({SHAPE: 1}),
        how="jitted",
    ),
)


# -- Times -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row(suites.Row):
    """A pair at one size."""

    @property
    def elements(self) -> int:
        """Number of logits."""
        return self.shape[0] * self.shape[2]

    @property
    def work(self) -> str:
        """What is done, whoever does it."""
        return f"{self.pair.library} {self.pair.label} {'x'.join(map(str, self.shape))} {self.dtype}"


def rows() -> Iterator[Row]:
    """All of them, in the order of the table."""
    for pair in PAIRS:
        yield from (Row(pair, shape) for shape in pair.shapes)


def prepared(contender: c.Contender, row: Row) -> Callable[[], Any]:
    """A contender's call with its inputs, once it has been seen to return the right values."""
    call = partial(contender.call, *given(contender.library, row.shape))
    results, references = call(), expected(row.shape)
    assert_close(results, references if row.pair.function == WITH_GRADIENT else references[:1], row.dtype)
    return call


def timed(row: Row, plan: Plan) -> suites.Timed:
    """Measure a row."""
    calls = [prepared(contender, row) for contender in (row.pair.peer, row.pair.ours)]
    peer, own = interleaved(calls, plan)
    ratios = [theirs / this for theirs, this in zip(peer, own, strict=True)]
    return suites.Timed(row, spread(peer), spread(own), spread(ratios), len(ratios))


# -- Memory ----------------------------------------------------------------------------------------------------------

# Of what the plain way needs; on jax XLA's temporaries.
SHARES = {"torch": Target(0.1, "memory ÷ peer's"), "jax": Target(0.25, "memory ÷ peer's")}
GROWTH = Target(1.1, "memory ÷ that of 1/16")


def beyond_results(usage: Usage) -> int:
    """Bytes that are not the loss and its derivatives."""
    return usage.extra - usage.results


def outcomes(memory: Sequence[Weighed]) -> Iterator[Outcome]:
    """What became of the targets for memory beyond the derivatives."""
    linear = [weighed for weighed in memory if weighed.row.function == WITH_GRADIENT]
    for library, own in groupby(linear, lambda weighed: weighed.row.library):
        found = {weighed.row.shape: weighed for weighed in own}
        outcome = partial(Outcome, library, WITH_GRADIENT)
        if library in SHARES and SHAPE in found:
            at = found[SHAPE]
            share = beyond_results(at.ours) / beyond_results(at.peer)
            yield outcome(suites.size_text(SHAPE), at.peer_name, SHARES[library], share)
        for shape in LARGER if SMALL in found else ():
            if shape in found:
                growth = beyond_results(found[shape].ours) / beyond_results(found[SMALL].ours)
                yield outcome(suites.size_text(shape), "", GROWTH, growth)
