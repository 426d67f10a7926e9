"""Softmax and cross-entropy, written once against the Python array API standard."""

from softxent.categorical import cross_entropy
from softxent.gradients import grad, hessian_diagonal, hvp, value_and_grad, vjp
from softxent.normalizers import log_softmax, logsumexp, softmax, softmin
from softxent.targets import one_hot, smooth_labels
from softxent.workers import threads

__version__ = "0.1.0"

__all__ = [
    "cross_entropy",
    "grad",
    "hessian_diagonal",
    "hvp",
    "log_softmax",
    "logsumexp",
    "one_hot",
    "smooth_labels",
    "softmax",
    "softmin",
    "threads",
    "value_and_grad",
    "vjp",
]
