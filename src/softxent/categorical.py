"""Losses of logits against class labels or distributions over classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import adopted_by_name, cast, floating, integer, mask, number, tristate
from softxent.calls import Call, remembered
from softxent.endings import Loss
from softxent.formulas import cross_entropy as formula
from softxent.formulas import probabilities
from softxent.layout import Layout, Making
from softxent.reductions import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from softxent.backends.generic import Formula

Array = Any

AUX = ("lse", "z_loss", "entropy", "correct", "target_log_prob", "margin")


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    aux: str | tuple[str, ...] | None = None,
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of logits against labels: -log softmax(logits)[label], or -Σ_c q_c log softmax(logits)_c.

    With every option the loss of example n is ``s · (Σ_c w_c q'_c (-log p_c) + z_loss · W · lse²)``, where p is the
    softmax of ``softcap · tanh(logits / softcap) / temperature`` over the classes that take part, lse its normaliser,
    q' = (1 - ε) q + ε u the smoothed target, w the class weights, s the sample weight, and W = Σ_c w_c q_c / Σ_c q_c.

    Parameters
    ----------
    logits : array
        Shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. ``(C,)`` is a single example.
    labels : array or int
        Integers of any width: class indices, of the logits' shape without the class axis (the batch shape).
        Floating: one distribution an example, of exactly the logits' shape. An int labels a single example.
    axis : int, tuple of int or None, default -1
        The class axis. Several axes (None: all) are classes jointly, indexed in C order of the axes as given.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes take part.
        Sizes equal or 1: a mask over a vocabulary is ``(1, C)``. What takes no part is not looked at.
    ignore_index : int or 0-d array, optional
        Examples with this label take no part. None by default, so that a wrong label is never taken for an ignored one.
    weight : array, optional
        Class weights, shape ``(C,)``.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    label_smoothing : float or array, optional
        ε from 0 to 1, a scalar or one an example.
    smoothing_prior : array, optional
        u, shape ``(C,)``, rescaled to sum to 1 over the classes that take part; uniform over these by default.
    temperature : float or array, optional
        A scalar, one an example, or of the logits' number of dimensions. Rows where it is not positive are NaN.
    softcap : float or 0-d array, optional
        Bounds the logits smoothly by ±softcap, before the temperature; infinite logits stay infinite.
    z_loss : float or 0-d array, optional
        Factor of the squared normaliser.
    reduction : {"mean", "sum", "none", "sum_and_weight"}, default "mean"
        "none" returns one loss an example. "sum_and_weight" returns numerator and denominator of the mean: such pairs
        add up over micro-batches and devices.
    denominator : {"weight", "count", "all"}, float or 0-d array, default "weight"
        What the mean divides by: Σ s · W of the examples that take part, their number, the number of all examples, or a
        number such as a token count over all devices.
    empty_mean : {"zero", "nan"}, default "zero"
        The mean if the denominator is 0.
    aux : str or tuple of str, optional
        By-products, one an example, 0 or False where it takes no part: "lse", "z_loss" (the example's share of the
        loss), "entropy" of p, "correct" (whether the label is the argmax; for distributions, whether the two argmaxes
        agree), "target_log_prob" (log p of the label, or Σ q log p) and "margin" (the label's final logit less the
        largest other).
    check : bool, optional
        By default labels out of range are refused where values can be read for free (NumPy, CPU tensors outside a
        trace). True also reads lazy arrays and accelerators, and checks distributions and options as well; inside a
        trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic.

    Returns
    -------
    loss : array
        A 0-d array; of the batch shape for reduction="none"; for "sum_and_weight" a tuple of two 0-d arrays. Of the
        logits' library and device, and of their floating dtype, but float32 for float16 and bfloat16.
    aux : dict of arrays
        Only with ``aux``: then the result is the pair ``(loss, aux)``.

    Raises
    ------
    TypeError
        If an argument is no array, has a dtype that cannot be what it is for (bool labels, complex logits), or belongs
        to another library than the logits. NumPy arrays may stand beside jax's and Dask's.
    ValueError
        If shapes do not fit (nothing is broadcast between logits and labels), a label is out of range, a number is out
        of its bounds, arrays are on two devices, or an option cannot matter beside the others.

    See Also
    --------
    smooth_labels : what ``label_smoothing`` does to the labels.
    one_hot : labels as distributions.
    log_softmax : all classes' log-probabilities.

    Notes
    -----
    - Confident predictions keep every digit: the loss of ``[40, 0, 0]`` with label 0 is 8.5e-18 in float32 as well,
      where the usual forms give 0, and so is the derivative. Values are within 4 + g units in the last place of exact,
      g being the largest difference of logits that matters, over the temperature; a softcap c rounds the logits
      themselves, which adds up to 4 c over the temperature. Halves are computed and returned in float32.
    - A label out of range that is not refused (in a trace, on an accelerator, lazy) makes its row NaN, value and
      derivative; it never wraps around.
    - A label, or mass of a distribution, on a logit of -inf or on a class dropped by ``where`` costs +inf. A class of
      target 0 or weight 0 costs nothing, also at -inf. Smoothing over a -inf logit costs +inf: drop the class instead.
    - Logits of -inf alone, +inf, or NaN among the classes that take part make their row NaN and no other.
    - An example that takes no part has loss 0 and derivative 0, whatever its logits are. The derivative by a sample
      weight of 0 is the example's loss (0 if that is infinite).
    - One-hot distributions give what indices give, and class weights that are all equal change no mean.
    - A temperature that differs between the classes of a row divides the logits before they are compared.
    - NumPy and torch on the CPU work through the rows in blocks: beside the result, memory is needed for one block, on
      NumPy for one a thread. Where torch is to differentiate an eager call of more than 2^14 logits on the CPU without
      ``aux``, the gradient is made with the loss, and handed over in the backward pass; nothing else is kept.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016 (label smoothing).
    A. Chowdhery et al., "PaLM: scaling language modeling with pathways", 2022 (z-loss).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy
    >>> logits = np.asarray([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]])
    >>> cross_entropy(logits, np.asarray([0, 2]), reduction="none")
    array([0.16984602, 3.09492296])
    >>> cross_entropy(logits, np.asarray([0, -1]), ignore_index=-1)
    array(0.16984602)
    >>> loss, aux = cross_entropy(logits, np.asarray([0, 2]), label_smoothing=0.1, aux=("correct",))
    >>> aux["correct"]
    array([ True, False])
    """
    return cross_entropy_call(
        logits,
        labels,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        temperature=temperature,
        softcap=softcap,
        z_loss=z_loss,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        aux=aux,
        check=check,
        dtype=dtype,
    ).value()


def focal_loss(
    logits: Any,
    labels: Any,
    *,
    gamma: Any = 2.0,
    alpha: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    aux: str | tuple[str, ...] | None = None,
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy in which classes that are already predicted well weigh less: (1 - p)^γ (-log p) at the label.

    Of a distribution it is Σ_c q'_c w_c α_c (1 - p_c)^γ (-log p_c).

    Parameters
    ----------
    logits, labels
        As for :func:`cross_entropy`.
    gamma : float or array, default 2.0
        γ, at least 0: a scalar or one an example. 0 is cross-entropy.
    alpha : array, optional
        α, shape ``(C,)``: class weights that a mean does not divide by.
    axis, where, ignore_index, weight, sample_weight, label_smoothing, smoothing_prior, temperature, softcap, z_loss, \
    reduction, denominator, empty_mean, aux, check, dtype
        As for :func:`cross_entropy`.

    Returns
    -------
    loss : array
        As :func:`cross_entropy`, and with ``aux`` the pair ``(loss, aux)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : has the notes on special values, which hold here too.

    Notes
    -----
    - (1 - p)^γ comes from 1 - p itself, of which no digit is lost: confident predictions keep their losses, the hardest
      examples their gradients, and gradients are finite for every γ, 0 and those below 1 among them.
    - Within 4 + g + γ (4 + log(1 / (1 - p))) units in the last place, g being the largest difference of logits that
      matters.

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import focal_loss
    >>> focal_loss(np.asarray([[4.0, 0.0], [0.0, 4.0]]), np.asarray([0, 0]), gamma=2.0, reduction="none")
    array([5.87156972e-06, 3.87490724e+00])
    """
    return focal_loss_call(
        logits,
        labels,
        gamma=gamma,
        alpha=alpha,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        temperature=temperature,
        softcap=softcap,
        z_loss=z_loss,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        aux=aux,
        check=check,
        dtype=dtype,
    ).value()


def poly_loss(
    logits: Any,
    labels: Any,
    *,
    epsilon: Any = 2.0,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    aux: str | tuple[str, ...] | None = None,
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy plus ε (1 - p) at the label: the first term of its expansion in 1 - p weighs 1 + ε.

    Of a distribution it is Σ_c q'_c w_c (-log p_c + ε (1 - p_c)).

    Parameters
    ----------
    logits, labels
        As for :func:`cross_entropy`.
    epsilon : float or array, default 2.0
        ε, a scalar or one an example. 0 is cross-entropy.
    axis, where, ignore_index, weight, sample_weight, label_smoothing, smoothing_prior, temperature, softcap, z_loss, \
    reduction, denominator, empty_mean, aux, check, dtype
        As for :func:`cross_entropy`.

    Returns
    -------
    loss : array
        As :func:`cross_entropy`, and with ``aux`` the pair ``(loss, aux)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : has the notes on special values, which hold here too.

    Notes
    -----
    - Within 4 + g units in the last place where ε is not negative, g being the largest difference of logits that
      matters.

    References
    ----------
    Z. Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss functions", 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import poly_loss
    >>> poly_loss(np.asarray([[4.0, 0.0], [0.0, 4.0]]), np.asarray([0, 0]), epsilon=1.0, reduction="none")
    array([0.03613614, 5.00016372])
    """
    return poly_loss_call(
        logits,
        labels,
        epsilon=epsilon,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        temperature=temperature,
        softcap=softcap,
        z_loss=z_loss,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        aux=aux,
        check=check,
        dtype=dtype,
    ).value()


def generalized_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    q: Any = 0.7,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    aux: str | tuple[str, ...] | None = None,
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """A bounded loss for labels that may be wrong: (1 - p^q) / q at the label.

    For q to 0 it becomes cross-entropy, for q = 1 it is 1 - p. Of a distribution it is Σ_c q'_c w_c (1 - p_c^q) / q.

    Parameters
    ----------
    logits, labels
        As for :func:`cross_entropy`.
    q : float or array, default 0.7
        Greater than 0 and at most 1: a scalar or one an example.
    axis, where, ignore_index, weight, sample_weight, label_smoothing, smoothing_prior, temperature, softcap, z_loss, \
    reduction, denominator, empty_mean, aux, check, dtype
        As for :func:`cross_entropy`.

    Returns
    -------
    loss : array
        As :func:`cross_entropy`, and with ``aux`` the pair ``(loss, aux)``.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : has the notes on special values, which hold here too.

    Notes
    -----
    - A label on a logit of -inf, or on a class dropped by ``where``, costs 1 / q: the largest loss there is.
    - Within 4 + g units in the last place, g being the largest difference of logits that matters; derivatives within
      q (4 + log(1 / p)) more.

    References
    ----------
    Z. Zhang, M. R. Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import generalized_cross_entropy
    >>> generalized_cross_entropy(np.asarray([[4.0, 0.0], [0.0, 4.0]]), np.asarray([0, 0]), reduction="none")
    array([0.01803512, 1.34279663])
    """
    return generalized_cross_entropy_call(
        logits,
        labels,
        q=q,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        temperature=temperature,
        softcap=softcap,
        z_loss=z_loss,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        aux=aux,
        check=check,
        dtype=dtype,
    ).value()


def nll_loss(
    log_probs: Any,
    labels: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of log-probabilities as they are: minus that of the label, or -Σ_c q_c log_probs_c.

    Parameters
    ----------
    log_probs : array
        Log-probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. ``(C,)`` is a
        single example.
    labels : array or int
        Class indices or distributions, as for :func:`cross_entropy`.
    axis, ignore_index, weight, sample_weight, label_smoothing, smoothing_prior
        As for :func:`cross_entropy`.
    reduction, denominator, empty_mean, check
        As for :func:`cross_entropy`.
    where : bool or array of bool, optional
        As for :func:`cross_entropy`; a class that it drops costs nothing, and the others are not normalised anew.
    dtype : dtype or str, optional
        Floating dtype that the log-probabilities are cast to before the arithmetic.

    Returns
    -------
    loss : array
        A 0-d array; of the batch shape for reduction="none"; for "sum_and_weight" a tuple of two 0-d arrays. float32
        for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : of logits, whose small losses are not lost in log-probabilities rounded to 0.
    cross_entropy_from_probs : of probabilities.

    Notes
    -----
    - Nothing is normalised: what does not add up to 1 is taken as it is.
    - -inf at the label costs +inf; a class of target 0 costs nothing, also at -inf.
    - The derivative by a log-probability is minus the target, times the weights.

    References
    ----------
    C. M. Bishop, "Pattern recognition and machine learning", 2006, section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import log_softmax, nll_loss
    >>> nll_loss(log_softmax(np.asarray([[2.0, 0.0], [0.0, 1.0]])), np.asarray([0, 0]), reduction="none")
    array([0.12692801, 1.31326169])
    """
    return nll_loss_call(
        log_probs,
        labels,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def cross_entropy_from_probs(
    probs: Any,
    labels: Any,
    *,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of probabilities as they are: -log p of the label, or -Σ_c q_c log p_c.

    It is what ``mean(-sum(y * log(p), axis=1))`` computes, with 0 · log 0 = 0. From logits use :func:`cross_entropy`,
    which keeps the digits that probabilities have lost.

    Parameters
    ----------
    probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. ``(C,)`` is a single
        example.
    labels : array or int
        Class indices or distributions, as for :func:`cross_entropy`.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis, ignore_index, weight, sample_weight, label_smoothing, smoothing_prior
        As for :func:`cross_entropy`.
    reduction, denominator, empty_mean, check
        As for :func:`cross_entropy`.
    where : bool or array of bool, optional
        As for :func:`cross_entropy`; a class that it drops costs nothing, and the others are not normalised anew.
    dtype : dtype or str, optional
        Floating dtype that the probabilities are cast to before the arithmetic.

    Returns
    -------
    loss : array
        A 0-d array; of the batch shape for reduction="none"; for "sum_and_weight" a tuple of two 0-d arrays. float32
        for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`.

    See Also
    --------
    cross_entropy : of logits.
    nll_loss : of log-probabilities.

    Notes
    -----
    - Nothing is normalised or clipped unasked: p = 0 on the target costs +inf, p < 0 is NaN, and what does not add up
      to 1 is taken as it is.
    - The derivative by p is -w q / p: 0 for a class of target 0, also at p = 0, and -inf at p = 0 on the target.
    - Within 4 units in the last place for a label, and 4 u Σ of the absolute values of the terms for a distribution.

    References
    ----------
    C. M. Bishop, "Pattern recognition and machine learning", 2006, section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy_from_probs
    >>> p, y = np.asarray([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]), np.asarray([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    >>> cross_entropy_from_probs(p, y)
    array(1.03972077)
    """
    return cross_entropy_from_probs_call(
        probs,
        labels,
        eps=eps,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        smoothing_prior=smoothing_prior,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def cross_entropy_call(logits: Any, labels: Any, **options: Any) -> Call:
    """A call of cross_entropy, checked and laid out, ready to be differentiated."""
    return categorical("logits", logits, labels, **options)


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def focal_loss_call(logits: Any, labels: Any, *, gamma: Any, **options: Any) -> Call:
    """A call of focal_loss."""
    return categorical("logits", logits, labels, gamma=_needed("gamma", gamma, low=0.0), **options)


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def poly_loss_call(logits: Any, labels: Any, *, epsilon: Any, **options: Any) -> Call:
    """A call of poly_loss."""
    return categorical("logits", logits, labels, epsilon=_needed("epsilon", epsilon), **options)


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def generalized_cross_entropy_call(logits: Any, labels: Any, *, q: Any, **options: Any) -> Call:
    """A call of generalized_cross_entropy."""
    return categorical("logits", logits, labels, q=_needed("q", q, low=0.0, high=1.0, above=True), **options)


@remembered("log_probs", "labels", checked=given_labels.rechecked_range)
def nll_loss_call(log_probs: Any, labels: Any, **options: Any) -> Call:
    """A call of nll_loss."""
    return categorical("log_probs", log_probs, labels, **options)


@remembered("probs", "labels", checked=given_labels.rechecked_range)
def cross_entropy_from_probs_call(probs: Any, labels: Any, *, eps: Any, **options: Any) -> Call:
    """A call of cross_entropy_from_probs."""
    return categorical("probs", probs, labels, eps=number("eps", eps, low=0.0, high=0.5, above=True), **options)


def _needed(name: str, value: Any, **bounds: Any) -> Any:
    """A parameter that has to be there."""
    if value is None:
        msg = f"{name} must be a number or an array, got None; without it there is cross_entropy"
        raise ValueError(msg)
    return number(name, value, **bounds)


def categorical(
    name: str,
    x: Any,
    labels: Any,
    *,
    axis: Any,
    where: Any,
    ignore_index: Any,
    weight: Any,
    sample_weight: Any,
    label_smoothing: Any,
    smoothing_prior: Any,
    reduction: str,
    denominator: Any,
    empty_mean: str,
    check: bool | None,
    dtype: Any,
    alpha: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    aux: Any = None,
    making: Making | None = None,
    ways: Mapping[str, Callable[[Layout, str, Any], Any]] | None = None,
    bounds: given_labels.Bounds = given_labels.BOUNDS,
    distributions: bool = True,
    **parameter: Any,
) -> Call:
    """A call of a loss of ``x``, called ``name``: logits, probs or log_probs; or features, which need a ``making``.

    ``ways`` and ``bounds`` are those of options that mean something else to another loss; without ``distributions``
    its floating labels need not be any.
    """
    classes, beside = ("weight", {}) if making is None else ("class_weight", making.beside)
    chosen = Reduction.chosen(reduction, denominator, empty_mean)
    wanted = _wanted(aux, z_loss)
    tristate("check", check)
    options = {
        "where": where,
        "ignore_index": integer("ignore_index", ignore_index),
        classes: weight,
        "alpha": alpha,
        "sample_weight": number("sample_weight", sample_weight),
        "label_smoothing": number("label_smoothing", label_smoothing, low=0.0, high=1.0),
        "smoothing_prior": smoothing_prior,
        "temperature": number("temperature", temperature, low=0.0, above=True),
        "softcap": number("softcap", softcap, low=0.0, above=True),
        "z_loss": number("z_loss", z_loss),
        **parameter,
        "denominator": number("denominator", denominator, low=0.0) if chosen.denominator is None else None,
    }
    options = {name: x for name, x in options.items() if x is not None}
    backend, given = adopted_by_name(**{name: x, "labels": labels, **options, **beside})
    x = given[name]
    if making is None:
        compute, _ = floating(backend, name, x, dtype)
        form = layout.aligned(backend, name, x, axis)
    else:
        compute, form = making.laid_out(backend, given, dtype)
    hard = given_labels.is_hard(form, given["labels"], name)
    if not hard:
        given_labels.refuse_beside_distributions(ignore_index=given.get("ignore_index"))
    if smoothing_prior is not None and label_smoothing is None:
        msg = "smoothing_prior must come with label_smoothing, got none; pass both"
        raise ValueError(msg)
    cast_options = {
        name: cast(backend, name, option, compute) for name, option in given.items() if name in _CAST - {*beside}
    }
    arguments = {**given, **cast_options}
    if isinstance(arguments.get("sample_weight"), float):
        arguments["sample_weight"] = backend.scalar(arguments["sample_weight"], x, compute)
    if "where" in options:
        arguments["where"] = mask(backend, x, arguments["where"])
    of = {name: form.whole, "labels": Layout.per_row if hard else form.whole}
    known = {**_WAYS, **(ways or {})}
    of |= {name: way(form, name, arguments[name]) for name, way in known.items() if name in options}
    in_bounds = hard and given_labels.check_range(form, labels, arguments, of, check=check)
    if hard:
        ignore_index = arguments.get("ignore_index")
        arguments |= given_labels.comparable(form, x, labels, arguments["labels"], ignore_index)
    elif check and distributions:
        given_labels.check_distributions(form, arguments, of, compute)
    given_labels.check_options(backend, cast_options, check, bounds)
    if chosen.divides_by_weight:
        taking_part = given_labels.rows_taking_part(form, hard=hard)
        given_labels.refuse_negative(form, "sample_weight", arguments, of, taking_part, check=check)
    total = arguments.pop("denominator", None)
    arguments = {name: argument for name, argument in arguments.items() if argument is not None}
    plain = hard and form.size > 0 and not {"where", "ignore_index", classes, "sample_weight"} & set(arguments)
    return Call(
        form,
        arguments=arguments,
        given=given,
        denominator=total,
        ways=tuple(of.get(name) for name in arguments),
        formula=_FORMULAS[name] if making is None else making.formula,
        ending=Loss(chosen, wanted, beside=aux is not None, plain=plain),
        static=(
            ("dtype", compute),
            ("hard", hard),
            ("mass", chosen.mass),
            *((("aux", wanted),) if name in {"logits", "features"} else ()),
            *(() if making is None else making.static),
            ("in_bounds", in_bounds),
        ),
        by_products=bool(wanted),
        beside=aux is not None,
        names=None if aux is None else wanted,
    )


_FORMULAS: dict[str, Formula] = {
    "logits": formula,
    "probs": probabilities,
    "log_probs": probabilities,
}

_CAST = frozenset(
    {
        "weight",
        "class_weight",
        "alpha",
        "sample_weight",
        "label_smoothing",
        "smoothing_prior",
        "temperature",
        "softcap",
        "z_loss",
        "gamma",
        "epsilon",
        "q",
        "eps",
        "denominator",
    }
)

# How each option is aligned to the logits.
_WAYS: dict[str, Callable[[Layout, str, Any], Any]] = {
    "where": layout.example_or_class_mask,
    "weight": layout.per_class,
    "class_weight": layout.per_class,
    "alpha": layout.per_class,
    "sample_weight": layout.per_example,
    "label_smoothing": layout.per_example,
    "smoothing_prior": layout.per_class,
    "temperature": layout.per_example_or_class,
    "softcap": layout.scalar,
    "z_loss": layout.scalar,
    "gamma": layout.per_example,
    "epsilon": layout.per_example,
    "q": layout.per_example,
    "eps": layout.scalar,
    "denominator": layout.scalar,
    "ignore_index": layout.scalar,
}


def _wanted(aux: Any, z_loss: Any) -> tuple[str, ...]:
    names = (aux,) if isinstance(aux, str) else () if aux is None else aux
    if not isinstance(names, tuple) or any(name not in AUX for name in names):
        msg = f"aux must be a tuple of {', '.join(map(repr, AUX))}, got {aux!r}"
        raise ValueError(msg)
    if "z_loss" in names and z_loss is None:
        msg = "aux='z_loss' must come with z_loss, got none; pass both"
        raise ValueError(msg)
    return names


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    cross_entropy: (cross_entropy_call, formula),
    cross_entropy_from_probs: (cross_entropy_from_probs_call, probabilities),
    focal_loss: (focal_loss_call, formula),
    generalized_cross_entropy: (generalized_cross_entropy_call, formula),
    nll_loss: (nll_loss_call, probabilities),
    poly_loss: (poly_loss_call, formula),
}
