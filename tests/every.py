"""One call of every public function that makes an array of arrays, for what has to hold of all of them.

`EVERY` has each under its name: a function of arrays, and NumPy's for them, of which the first is what derivatives are
by. They have four rows and may have any number of them, but for what `COUNTED` and `WEIGHTS` name.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any

X = np.asarray([[40, 0, 0], [0.5, -1.25, 2], [1, 3, -0.5], [0.25, 0.125, -1]], dtype="float32")
Y = np.asarray([[1, 2, 4], [0.5, 0.25, -1], [-2, 1, 0], [3, 2, 1]], dtype="float32")
P = np.asarray([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25], [0.75, 0.125, 0.125], [0.25, 0.25, 0.5]], dtype="float32")
Q = P[::-1].copy()
LABELS = np.asarray([0, 2, 1, 0], dtype="int32")
IDS = np.asarray([0, 1, 1, 0], dtype="int32")
BELOW = -np.abs(X) - 1  # negative numbers, of which the logarithm of 1 - exp is taken


def _negative_entropy(p: Array) -> Array:
    return -softxent.entropy_from_probs(p)


def _log_probs(x: Array, labels: Array) -> Array:
    return softxent.nll_loss(softxent.log_softmax(x), labels)


def _log_prob_and_entropy(x: Array, weight: Array, labels: Array) -> Array:
    log_prob, spread = softxent.linear_log_prob(x, weight, labels)
    return log_prob + 2.0 * spread


EVERY: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{
        name: (getattr(softxent, name), (X,))
        for name in (
            *("entmax", "entropy", "log_sigmoid", "log_softmax", "logcumsumexp", "logmeanexp", "logsumexp", "sigmoid"),
            *("softmax", "softmin", "softplus", "sparsemax"),
        )
    },
    **{name: (getattr(softxent, name), (P,)) for name in ("entr", "entropy_from_probs", "logit")},
    **{
        name: (getattr(softxent, name), (X, Y))
        for name in ("cross_entropy_between", "gumbel_softmax", "js_divergence", "kl_divergence", "total_variation")
    },
    **{
        name: (getattr(softxent, name), (P, Q))
        for name in (
            *("cross_entropy_between_from_probs", "js_divergence_from_probs", "kl_divergence_from_probs", "rel_entr"),
            *("binary_cross_entropy_from_probs", "total_variation_from_probs", "xlog1py", "xlogy"),
        )
    },
    **{
        name: (getattr(softxent, name), (X, LABELS))
        for name in (
            *("cross_entropy", "entmax_loss", "focal_loss", "generalized_cross_entropy", "poly_loss"),
            "sparsemax_loss",
        )
    },
    **{name: (getattr(softxent, name), (X, P)) for name in ("binary_cross_entropy", "binary_focal_loss")},
    "cross_entropy_from_probs": (softxent.cross_entropy_from_probs, (P, LABELS)),
    "fenchel_young_loss": (
        partial(softxent.fenchel_young_loss, mapping=softxent.softmax, regulariser=_negative_entropy),
        (X, LABELS),
    ),
    "linear_cross_entropy": (softxent.linear_cross_entropy, (X, Y, LABELS)),
    "linear_kl_divergence": (softxent.linear_kl_divergence, (X, Y, P, Q)),
    "linear_log_prob": (_log_prob_and_entropy, (X, Y, LABELS)),
    "log1mexp": (softxent.log1mexp, (BELOW,)),
    "logsubexp": (softxent.logsubexp, (X + 50, Y)),
    "nll_loss": (_log_probs, (X, LABELS)),
    "one_hot": (lambda labels: softxent.one_hot(labels, 3, dtype="float32"), (LABELS,)),
    "segment_logsumexp": (partial(softxent.segment_logsumexp, num_segments=2), (X, IDS)),
    "segment_softmax": (partial(softxent.segment_softmax, num_segments=2), (X, IDS)),
    "smooth_labels": (lambda labels: softxent.smooth_labels(labels, 0.125), (P,)),
}
DIFFERENTIABLE = tuple(name for name in EVERY if name != "one_hot")
COUNTED = ("segment_logsumexp", "segment_softmax")  # the number of entries has to be known
# Positions of arrays with a row a class, which have to be known.
WEIGHTS = {"linear_cross_entropy": (1,), "linear_kl_divergence": (1, 3), "linear_log_prob": (1,)}


def cotangent(value: Any) -> Any:
    """A number for each of the results, none of which is like another."""
    shape = np.shape(value)
    return np.reshape(np.asarray([1, -0.5, 2, 0.25, -1.5], dtype="float32")[np.arange(np.size(value)) % 5], shape)


def expected(name: str) -> tuple[Any, Any]:
    """The value by NumPy, and Σ cotangent · value differentiated by the first array, in closed form there."""
    function, arrays = EVERY[name]
    value = function(*arrays)
    options: dict[str, Any] = {}
    if isinstance(function, partial):
        given: partial[Any] = function
        function, options = given.func, given.keywords
    if name == "nll_loss":  # of log_softmax: the same as cross_entropy
        function = softxent.cross_entropy
    if name == "linear_log_prob":  # of two results
        value_and_pull = softxent.vjp(softxent.linear_log_prob)(*arrays)
        return value, value_and_pull[1]((np.asarray(cotangent(value)), 2 * np.asarray(cotangent(value))))
    if name == "smooth_labels":
        options = {"label_smoothing": 0.125}
        function = softxent.smooth_labels
    _, pullback = softxent.vjp(function)(*arrays, **options)
    return value, pullback(np.asarray(cotangent(value)))
