"""Softmax and cross-entropy, written once against the Python array API standard."""

from softxent.categorical import cross_entropy
from softxent.normalizers import log_softmax, logsumexp, softmax, softmin
from softxent.targets import one_hot, smooth_labels

__version__ = "0.1.0"

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "one_hot", "smooth_labels", "softmax", "softmin"]
