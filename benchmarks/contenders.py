"""The calls that are measured: softxent's and those of its peers, each from (logits, labels) to finished results.

softxent is looked up at every call, as its users do. So this module can be imported with a revision of it that lacks a
function, and only the call fails.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
import scipy.special
import sklearn.metrics
import sklearn.utils.extmath
import torch
from torch.nn import functional

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[Any, Any], Any]

Array = Any


@dataclass(frozen=True)
class Contender:
    """A call, the library whose arrays it takes, and on jax the function that it compiles."""

    name: str
    library: str
    call: Call
    traced: Call | None = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and softxent to the calling thread; SciPy knows no other, and for jax there is no such switch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # A revision of softxent without this switch has no threads.
        with softxent.threads(1) if hasattr(softxent, "threads") else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


def on_numpy(name: str, call: Call) -> Contender:
    """A call with NumPy's arrays."""
    return Contender(name, "NumPy", call)


def on_torch(name: str, call: Call) -> Contender:
    """A call with torch's."""
    return Contender(name, "torch", call)


def on_jax(name: str, call: Call, *, compiled: bool = True) -> Contender:
    """A call with jax's, which returns when its results are there; compiled here or, if it wants to, by itself."""
    run = jax.jit(call) if compiled else call
    return Contender(name, "jax", lambda logits, labels: jax.block_until_ready(run(logits, labels)), call)


def with_backward(loss_of: Call) -> Call:
    """Loss and gradient through torch's autograd, from a leaf that has no gradient yet."""

    def value_and_gradient(logits: Array, labels: Array) -> tuple[Array, Array]:
        leaf = logits.detach().requires_grad_()
        loss = loss_of(leaf, labels)
        loss.backward()
        return loss.detach(), leaf.grad

    return value_and_gradient


def compiled(call: Call) -> Call:
    """The call through torch.compile, once for every shape."""
    # The compiler takes seconds to import: only where it is used.
    made = cache(partial(torch.compile, call, dynamic=False))

    def run(logits: Array, labels: Array) -> Any:
        return made()(logits, labels)

    return run


@cache
def softxent_value_and_grad() -> Call:
    """Our loss with its own derivative."""
    return softxent.value_and_grad(softxent.cross_entropy)


def sklearn_log_loss(logits: Array, labels: Array) -> Array:
    """The loss as scikit-learn has it: of probabilities."""
    probs = scipy.special.softmax(logits, axis=-1)
    return np.asarray(sklearn.metrics.log_loss(labels, probs, labels=np.arange(logits.shape[-1])))


def torch_loss(logits: Array, labels: Array) -> Array:
    """The loss of torch; a function of ours, because torch.compile passes over a call of one of torch's own files."""
    return functional.cross_entropy(logits, labels)


def optax_loss(logits: Array, labels: Array) -> Array:
    """The mean that optax leaves to its caller."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# What softxent is called with is the same everywhere, so each of these is measured on all three libraries.
def softmax(logits: Array, _labels: Array) -> Array:
    """Probabilities."""
    return softxent.softmax(logits)


def log_softmax(logits: Array, _labels: Array) -> Array:
    """Their logarithms."""
    return softxent.log_softmax(logits)


def logsumexp(logits: Array, _labels: Array) -> Array:
    """The normalisers' logarithms."""
    return softxent.logsumexp(logits)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean loss."""
    return softxent.cross_entropy(logits, labels)


def own_gradient(logits: Array, labels: Array) -> tuple[Array, Array]:
    """The mean loss and its gradient, without the library's help."""
    return softxent_value_and_grad()(logits, labels)


SCIPY_SOFTMAX = on_numpy("scipy.special.softmax", lambda x, _: scipy.special.softmax(x, axis=-1))
SCIPY_LOG_SOFTMAX = on_numpy("scipy.special.log_softmax", lambda x, _: scipy.special.log_softmax(x, axis=-1))
SCIPY_LOGSUMEXP = on_numpy("scipy.special.logsumexp", lambda x, _: scipy.special.logsumexp(x, axis=-1))
SKLEARN_SOFTMAX = on_numpy("sklearn.utils.extmath.softmax", lambda x, _: sklearn.utils.extmath.softmax(x))
SKLEARN_LOG_LOSS = on_numpy("sklearn.metrics.log_loss of scipy's softmax", sklearn_log_loss)

TORCH_SOFTMAX = on_torch("torch.nn.functional.softmax", lambda x, _: functional.softmax(x, dim=-1))
TORCH_LOG_SOFTMAX = on_torch("torch.nn.functional.log_softmax", lambda x, _: functional.log_softmax(x, dim=-1))
TORCH_LOGSUMEXP = on_torch("torch.logsumexp", lambda x, _: torch.logsumexp(x, dim=-1))
TORCH_LOSS = on_torch("torch.nn.functional.cross_entropy", torch_loss)
TORCH_BACKWARD = on_torch("torch.nn.functional.cross_entropy", with_backward(torch_loss))
TORCH_SOFTMAX_COMPILED = on_torch("torch.nn.functional.softmax", compiled(TORCH_SOFTMAX.call))
TORCH_BACKWARD_COMPILED = on_torch("torch.nn.functional.cross_entropy", with_backward(compiled(torch_loss)))

JAX_SOFTMAX = on_jax("jax.nn.softmax", lambda x, _: jax.nn.softmax(x), compiled=False)
JAX_SOFTMAX_JITTED = on_jax("jax.nn.softmax", lambda x, _: jax.nn.softmax(x))
JAX_LOG_SOFTMAX = on_jax("jax.nn.log_softmax", lambda x, _: jax.nn.log_softmax(x), compiled=False)
JAX_LOGSUMEXP = on_jax(
    "jax.scipy.special.logsumexp", lambda x, _: jax.scipy.special.logsumexp(x, axis=-1), compiled=False
)
OPTAX_LOSS = on_jax("optax.softmax_cross_entropy_with_integer_labels", optax_loss, compiled=False)
OPTAX_LOSS_JITTED = on_jax("optax.softmax_cross_entropy_with_integer_labels", optax_loss)
OPTAX_GRADIENT_JITTED = on_jax("optax.softmax_cross_entropy_with_integer_labels", jax.value_and_grad(optax_loss))
