"""Softmax and cross-entropy, written once against the Python array API standard."""

from softxent.binary import binary_cross_entropy, binary_cross_entropy_from_probs, binary_focal_loss
from softxent.categorical import (
    cross_entropy,
    cross_entropy_from_probs,
    focal_loss,
    generalized_cross_entropy,
    nll_loss,
    poly_loss,
)
from softxent.divergences import (
    cross_entropy_between,
    cross_entropy_between_from_probs,
    entropy,
    entropy_from_probs,
    js_divergence,
    js_divergence_from_probs,
    kl_divergence,
    kl_divergence_from_probs,
    total_variation,
    total_variation_from_probs,
)
from softxent.elementwise import entr, log_sigmoid, logit, rel_entr, sigmoid, softplus, xlog1py, xlogy
from softxent.evaluation import Evaluation, evaluate
from softxent.gradients import grad, hessian_diagonal, hvp, value_and_grad, vjp
from softxent.linear import linear_cross_entropy, linear_kl_divergence, linear_log_prob
from softxent.logspace import (
    log1mexp,
    logcumsumexp,
    logmeanexp,
    logsubexp,
    segment_logsumexp,
    segment_softmax,
)
from softxent.normalizers import log_softmax, logsumexp, softmax, softmin
from softxent.sampling import gumbel_softmax
from softxent.sparse import entmax, entmax_loss, fenchel_young_loss, sparsemax, sparsemax_loss
from softxent.streaming import LogSumExp, LossSum, SoftmaxStatistics
from softxent.targets import one_hot, smooth_labels
from softxent.workers import threads

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "LogSumExp",
    "LossSum",
    "SoftmaxStatistics",
    "binary_cross_entropy",
    "binary_cross_entropy_from_probs",
    "binary_focal_loss",
    "cross_entropy",
    "cross_entropy_between",
    "cross_entropy_between_from_probs",
    "cross_entropy_from_probs",
    "entmax",
    "entmax_loss",
    "entr",
    "entropy",
    "entropy_from_probs",
    "evaluate",
    "fenchel_young_loss",
    "focal_loss",
    "generalized_cross_entropy",
    "grad",
    "gumbel_softmax",
    "hessian_diagonal",
    "hvp",
    "js_divergence",
    "js_divergence_from_probs",
    "kl_divergence",
    "kl_divergence_from_probs",
    "linear_cross_entropy",
    "linear_kl_divergence",
    "linear_log_prob",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logcumsumexp",
    "logit",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "nll_loss",
    "one_hot",
    "poly_loss",
    "rel_entr",
    "segment_logsumexp",
    "segment_softmax",
    "sigmoid",
    "smooth_labels",
    "softmax",
    "softmin",
    "softplus",
    "sparsemax",
    "sparsemax_loss",
    "threads",
    "total_variation",
    "total_variation_from_probs",
    "value_and_grad",
    "vjp",
    "xlog1py",
    "xlogy",
]

# TensorFlow's AutoGraph rewrites the Python that runs inside a tf.function, and leaves alone what has this attribute.
for _name in __all__:
    globals()[_name].autograph_info__ = None
