"""The calls that are measured: softxent's and those of its peers, each from two operands to finished results.

The operands are logits and labels, or whatever else a function is given (inputs.py).

softxent is looked up at every call, as its users do. So this module can be imported with a revision of it that lacks a
function, and only the call fails.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import entmax
import jax
import numpy as np
import optax
import scipy.special
import scipy.stats
import sklearn.metrics
import sklearn.utils.extmath
import torch
from inputs import segments
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
def softxent_value_and_grad(name: str) -> Call:
    """A loss of ours with its own derivative."""
    return softxent.value_and_grad(getattr(softxent, name))


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
    return softxent_value_and_grad("cross_entropy")(logits, labels)


def of_logits(name: str) -> Call:
    """Our function of that name, of the logits alone."""
    return lambda logits, _: getattr(softxent, name)(logits)


def of_both(name: str, **options: Any) -> Call:
    """Our function of that name, of both operands."""
    return lambda logits, second: getattr(softxent, name)(logits, second, **options)


def kl_divergence(logits: Array, teacher: Array) -> Array:
    """Of every row, from the teacher."""
    return softxent.kl_divergence(teacher, logits)


def kl_loss(logits: Array, teacher: Array) -> Array:
    """The mean, which only the logits are to follow."""
    return softxent.kl_divergence(teacher, logits, reduction="mean")


def segment_logsumexp(logits: Array, ids: Array) -> Array:
    """Of groups of rows."""
    return softxent.segment_logsumexp(logits, ids, segments(len(logits)))


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


# -- Peers of the rest of the family: where they have no such function, the lines that their users write ---------------


def scipy_entropy(logits: Array, _: Array) -> Array:
    """The entropy as SciPy has it: of probabilities."""
    return scipy.stats.entropy(scipy.special.softmax(logits, axis=-1), axis=-1)


def scipy_kl_divergence(logits: Array, teacher: Array) -> Array:
    """The divergence as SciPy has it: of probabilities."""
    p, q = scipy.special.softmax(teacher, axis=-1), scipy.special.softmax(logits, axis=-1)
    return scipy.special.rel_entr(p, q).sum(axis=-1)


def torch_binary_loss(logits: Array, targets: Array) -> Array:
    """The mean."""
    return functional.binary_cross_entropy_with_logits(logits, targets)


def torch_focal_loss(logits: Array, labels: Array) -> Array:
    """The mean, from the loss of torch."""
    loss = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


def torch_entropy(logits: Array, _: Array) -> Array:
    """Of every row, as in torch.distributions.Categorical."""
    return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()


def torch_kl_loss(logits: Array, teacher: Array) -> Array:
    """The mean."""
    log_q, log_p = functional.log_softmax(logits, dim=-1), functional.log_softmax(teacher, dim=-1)
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def torch_gumbel_softmax(logits: Array, noise: Array) -> Array:
    """What torch makes of its own noise."""
    return functional.softmax((logits + noise) / 0.5, dim=-1)


def entmax_package_loss(logits: Array, labels: Array) -> Array:
    """The mean."""
    return entmax.entmax15_loss(logits, labels).mean()


def optax_binary_loss(logits: Array, targets: Array) -> Array:
    """The mean that optax leaves to its caller."""
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean()


def optax_binary_focal_loss(logits: Array, targets: Array) -> Array:
    """The mean that optax leaves to its caller."""
    return optax.sigmoid_focal_loss(logits, targets).mean()


def optax_kl_loss(logits: Array, teacher: Array) -> Array:
    """The mean that optax leaves to its caller."""
    log_q, log_p = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher)
    return optax.losses.kl_divergence_with_log_targets(log_q, log_p).mean()


def jax_segment_logsumexp(logits: Array, ids: Array) -> Array:
    """From jax's sums and maxima of segments."""
    count = segments(len(logits))
    largest = jax.ops.segment_max(logits, ids, count)
    return jax.numpy.log(jax.ops.segment_sum(jax.numpy.exp(logits - largest[ids]), ids, count)) + largest


SCIPY_SIGMOID = on_numpy("scipy.special.expit", lambda x, _: scipy.special.expit(x))
SCIPY_LOG_SIGMOID = on_numpy("scipy.special.log_expit", lambda x, _: scipy.special.log_expit(x))
SCIPY_SOFTPLUS = on_numpy("scipy.special.softplus", lambda x, _: scipy.special.softplus(x))
SCIPY_ENTROPY = on_numpy("scipy.stats.entropy of scipy's softmax", scipy_entropy)
SCIPY_KL = on_numpy("scipy.special.rel_entr of its softmax", scipy_kl_divergence)
NUMPY_LOGCUMSUMEXP = on_numpy("numpy.logaddexp.accumulate", lambda x, _: np.logaddexp.accumulate(x, axis=-1))

TORCH_SIGMOID = on_torch("torch.sigmoid", lambda x, _: torch.sigmoid(x))
TORCH_LOG_SIGMOID = on_torch("torch.nn.functional.logsigmoid", lambda x, _: functional.logsigmoid(x))
TORCH_SOFTPLUS = on_torch("torch.nn.functional.softplus", lambda x, _: functional.softplus(x))
TORCH_BINARY_BACKWARD = on_torch(
    "torch.nn.functional.binary_cross_entropy_with_logits", with_backward(torch_binary_loss)
)
TORCH_FOCAL_BACKWARD = on_torch("torch.nn.functional.cross_entropy, and a formula", with_backward(torch_focal_loss))
TORCH_NLL_BACKWARD = on_torch("torch.nn.functional.nll_loss", with_backward(functional.nll_loss))
TORCH_ENTROPY = on_torch("torch.distributions.Categorical", torch_entropy)
TORCH_KL_BACKWARD = on_torch("torch.nn.functional.kl_div of log_softmax", with_backward(torch_kl_loss))
TORCH_LOGCUMSUMEXP = on_torch("torch.logcumsumexp", lambda x, _: torch.logcumsumexp(x, dim=-1))
TORCH_GUMBEL_SOFTMAX = on_torch("torch.nn.functional.softmax of the sum", torch_gumbel_softmax)
ENTMAX_SPARSEMAX = on_torch("entmax.sparsemax", lambda x, _: entmax.sparsemax(x))
ENTMAX_ENTMAX = on_torch("entmax.entmax15", lambda x, _: entmax.entmax15(x))
ENTMAX_BACKWARD = on_torch("entmax.entmax15_loss", with_backward(entmax_package_loss))

JAX_SIGMOID = on_jax("jax.nn.sigmoid", lambda x, _: jax.nn.sigmoid(x))
JAX_LOG_SIGMOID = on_jax("jax.nn.log_sigmoid", lambda x, _: jax.nn.log_sigmoid(x))
JAX_SOFTPLUS = on_jax("jax.nn.softplus", lambda x, _: jax.nn.softplus(x))
JAX_LOGCUMSUMEXP = on_jax("jax.lax.cumlogsumexp", lambda x, _: jax.lax.cumlogsumexp(x, axis=1))
JAX_SEGMENTS = on_jax("jax.ops.segment_max and segment_sum", jax_segment_logsumexp)
OPTAX_BINARY_GRADIENT = on_jax("optax.sigmoid_binary_cross_entropy", jax.value_and_grad(optax_binary_loss))
OPTAX_FOCAL_GRADIENT = on_jax("optax.sigmoid_focal_loss", jax.value_and_grad(optax_binary_focal_loss))
OPTAX_KL_GRADIENT = on_jax("optax.kl_divergence_with_log_targets", jax.value_and_grad(optax_kl_loss))
