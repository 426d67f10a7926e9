"""Entropies and divergences, from logits and from probabilities."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import (
    HALVES,
    adopted_by_name,
    cast,
    dtype_name,
    flag,
    jointly_floating,
    kind_of,
    mask,
    number,
    tristate,
)
from softxent.backends import backend_of
from softxent.calls import Call, remembered
from softxent.endings import Loss
from softxent.formulas import divergences as formula
from softxent.formulas.participation import both
from softxent.layout import same
from softxent.reductions import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula
    from softxent.layout import Layout, Making

Array = Any


def entropy(
    logits: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Entropy of softmax: -Σ p log p, in nats.

    Parameters
    ----------
    logits : array
        Logits, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes; the others are
        normalised without those.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    temperature : float or array, optional
        Divides the logits: a scalar, one an example, or of their number of dimensions.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options, also where that computes; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        of the argument, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    entropy_from_probs : of probabilities.

    Notes
    -----
    - A logit of -inf contributes nothing, also to derivatives.
    - Derivatives are within (4 + g) u Σ of the absolute values of their terms, g being the largest difference of logits
      that matters.
    - A row with no class left is 0 with derivative 0; one of -inf alone, with +inf or NaN is NaN.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import entropy
    >>> entropy(np.asarray([[0.0, 0.0], [40.0, 0.0], [0.0, -np.inf]]))
    array([6.93147181e-01, 1.74182524e-16, 0.00000000e+00])
    """
    return entropy_call(
        logits,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def cross_entropy_between(
    p_logits: Any,
    q_logits: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    scale_by_t2: bool = False,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of one distribution against another, -Σ p log q, both given by logits.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of the same shape.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes; the others are
        normalised without those.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    temperature : float or array, optional
        Divides the logits of both: a scalar, one an example, or of their number of dimensions.
    scale_by_t2 : bool, default False
        Multiply by the squared temperature, so that gradients keep their size under any; not for one of each class.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options, also where that computes; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    cross_entropy_between_from_probs : of probabilities.

    Notes
    -----
    - The first distribution is the one that expects, such as a teacher's; derivatives go to both.
    - A class of p = 0 contributes nothing; p > 0 where q = 0 costs +inf.
    - Within 4 + g units in the last place, g as in :func:`kl_divergence`. The derivative by q's logits, q - p, is
      within (8 + g) u Σ_k abs(q p_k - p q_k); where torch differentiates a small call by itself, within 4 u (p + q).
    - A row with no class left is 0 with derivative 0; one of -inf alone, with +inf or NaN is NaN.

    References
    ----------
    G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy_between
    >>> cross_entropy_between(np.asarray([[2.0, 0.0]]), np.asarray([[0.0, 1.0]]))
    array([1.19405876])
    """
    return cross_entropy_between_call(
        p_logits,
        q_logits,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def kl_divergence(
    p_logits: Any,
    q_logits: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    scale_by_t2: bool = False,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Kullback-Leibler divergence KL(p, q) = Σ p log(p / q), both given by logits.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of the same shape.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes; the others are
        normalised without those.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    temperature : float or array, optional
        Divides the logits of both: a scalar, one an example, or of their number of dimensions.
    scale_by_t2 : bool, default False
        Multiply by the squared temperature, so that gradients keep their size under any; not for one of each class.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options, also where that computes; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    kl_divergence_from_probs : of probabilities.

    Notes
    -----
    - In mathematical order: p, which the mean is over, comes first. (torch and optax take log q first.)
    - A class of p = 0 contributes nothing, also where q = 0; p > 0 where q = 0 costs +inf.
    - The derivative by the logits of q is q - p.
    - Never negative. Within 4 + g units in the last place, g being the largest gap to the top of either row that
      matters, also where both distributions are next to each other. There q - p keeps its digits too: it is within
      (8 + g) u Σ_k abs(q p_k - p q_k), which is p times how far differences of the logits are apart.
    - A row with no class left is 0 with derivative 0; one of -inf alone, with +inf or NaN is NaN.

    References
    ----------
    S. Kullback, R. A. Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import kl_divergence
    >>> kl_divergence(np.asarray([[2.0, 0.0], [1.0, 1.0]]), np.asarray([[0.0, 1.0], [1.0, 1.0]]))
    array([0.82872491, 0.        ])
    """
    return kl_divergence_call(
        p_logits,
        q_logits,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def js_divergence(
    p_logits: Any,
    q_logits: Any,
    *,
    beta: Any = 0.5,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    scale_by_t2: bool = False,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Jensen-Shannon divergence β KL(p, m) + (1 - β) KL(q, m) with m = β p + (1 - β) q, both given by logits.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of the same shape.
    beta : float or 0-d array, default 0.5
        β, between 0 and 1.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes; the others are
        normalised without those.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    temperature : float or array, optional
        Divides the logits of both: a scalar, one an example, or of their number of dimensions.
    scale_by_t2 : bool, default False
        Multiply by the squared temperature, so that gradients keep their size under any; not for one of each class.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options, also where that computes; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    js_divergence_from_probs : of probabilities.

    Notes
    -----
    - At most log 2 for β = 1/2, and finite wherever the logits are finite or -inf.
    - Never negative. Within 5 + g units in the last place for β = 1/2, g as in :func:`kl_divergence`.
    - A row with no class left is 0 with derivative 0; one of -inf alone, with +inf or NaN is NaN.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", 1991.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import js_divergence
    >>> js_divergence(np.asarray([[2.0, 0.0], [0.0, -np.inf]]), np.asarray([[0.0, 1.0], [-np.inf, 0.0]]))
    array([0.20812562, 0.69314718])
    """
    return js_divergence_call(
        p_logits,
        q_logits,
        beta=beta,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def total_variation(
    p_logits: Any,
    q_logits: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    scale_by_t2: bool = False,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Total variation distance Σ abs(p - q) / 2, both given by logits.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of the same shape.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the logits' number of dimensions: which classes; the others are
        normalised without those.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    temperature : float or array, optional
        Divides the logits of both: a scalar, one an example, or of their number of dimensions.
    scale_by_t2 : bool, default False
        Multiply by the squared temperature, so that gradients keep their size under any; not for one of each class.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options, also where that computes; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    total_variation_from_probs : of probabilities.

    Notes
    -----
    - From 0 to 1, within 4 + g units in the last place, g as in :func:`kl_divergence`.
    - Where p = q its derivative is taken to be 0.
    - A row with no class left is 0 with derivative 0; one of -inf alone, with +inf or NaN is NaN.

    References
    ----------
    A. L. Gibbs, F. E. Su, "On choosing and bounding probability metrics", 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import total_variation
    >>> total_variation(np.asarray([[2.0, 0.0]]), np.asarray([[0.0, 1.0]]))
    array([0.61185566])
    """
    return total_variation_call(
        p_logits,
        q_logits,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def entropy_from_probs(
    probs: Any,
    *,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Entropy: -Σ p log p, in nats.

    Parameters
    ----------
    probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the probabilities' number of dimensions: which classes; nothing
        is normalised anew.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options and that probabilities are finite, not negative and, unless classes are left out,
        add up to 1; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        of the argument, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    entropy : of logits.

    Notes
    -----
    - Nothing is normalised or clipped unasked; p < 0 is NaN. 0 · log 0 is 0, with derivatives taken to be 0.
    - Values and derivatives are within 4 units in the last place of each term that they are a sum of.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import entropy_from_probs
    >>> entropy_from_probs(np.asarray([[0.5, 0.5], [1.0, 0.0]]))
    array([0.69314718, 0.        ])
    """
    return entropy_from_probs_call(
        probs,
        eps=eps,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def cross_entropy_between_from_probs(
    p_probs: Any,
    q_probs: Any,
    *,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of one distribution against another, -Σ p log q.

    Parameters
    ----------
    p_probs, q_probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of one shape.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the probabilities' number of dimensions: which classes; nothing
        is normalised anew.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options and that probabilities are finite, not negative and, unless classes are left out,
        add up to 1; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    cross_entropy_between : of logits.

    Notes
    -----
    - Nothing is normalised or clipped unasked; p < 0 is NaN. 0 · log 0 is 0, with derivatives taken to be 0.
    - Values and derivatives are within 4 units in the last place of each term that they are a sum of.
    - The first distribution is the one that expects, such as a teacher's; derivatives go to both.
    - A class of p = 0 contributes nothing; p > 0 where q = 0 costs +inf.

    References
    ----------
    G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy_between_from_probs
    >>> cross_entropy_between_from_probs(np.asarray([[0.75, 0.25]]), np.asarray([[0.25, 0.75]]))
    array([1.11164129])
    """
    return cross_entropy_between_from_probs_call(
        p_probs,
        q_probs,
        eps=eps,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def kl_divergence_from_probs(
    p_probs: Any,
    q_probs: Any,
    *,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Kullback-Leibler divergence KL(p, q) = Σ p log(p / q).

    Parameters
    ----------
    p_probs, q_probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of one shape.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the probabilities' number of dimensions: which classes; nothing
        is normalised anew.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options and that probabilities are finite, not negative and, unless classes are left out,
        add up to 1; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    kl_divergence : of logits.

    Notes
    -----
    - Nothing is normalised or clipped unasked; p < 0 is NaN. 0 · log 0 is 0, with derivatives taken to be 0.
    - Values and derivatives are within 4 units in the last place of each term that they are a sum of.
    - In mathematical order: p, which the mean is over, comes first. (torch and optax take log q first.)
    - A class of p = 0 contributes nothing, also where q = 0; p > 0 where q = 0 costs +inf.

    References
    ----------
    S. Kullback, R. A. Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import kl_divergence_from_probs
    >>> kl_divergence_from_probs(np.asarray([[0.75, 0.25], [1.0, 0.0]]), np.asarray([[0.25, 0.75], [1.0, 0.0]]))
    array([0.54930614, 0.        ])
    """
    return kl_divergence_from_probs_call(
        p_probs,
        q_probs,
        eps=eps,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def js_divergence_from_probs(
    p_probs: Any,
    q_probs: Any,
    *,
    beta: Any = 0.5,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Jensen-Shannon divergence β KL(p, m) + (1 - β) KL(q, m) with m = β p + (1 - β) q.

    Parameters
    ----------
    p_probs, q_probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of one shape.
    beta : float or 0-d array, default 0.5
        β, between 0 and 1.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the probabilities' number of dimensions: which classes; nothing
        is normalised anew.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options and that probabilities are finite, not negative and, unless classes are left out,
        add up to 1; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    js_divergence : of logits.

    Notes
    -----
    - Nothing is normalised or clipped unasked; p < 0 is NaN. 0 · log 0 is 0, with derivatives taken to be 0.
    - Values and derivatives are within 4 units in the last place of each term that they are a sum of.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", 1991.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import js_divergence_from_probs
    >>> js_divergence_from_probs(np.asarray([[0.75, 0.25]]), np.asarray([[0.25, 0.75]]))
    array([0.13081204])
    """
    return js_divergence_from_probs_call(
        p_probs,
        q_probs,
        beta=beta,
        eps=eps,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def total_variation_from_probs(
    p_probs: Any,
    q_probs: Any,
    *,
    eps: Any = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Total variation distance Σ abs(p - q) / 2.

    Parameters
    ----------
    p_probs, q_probs : array
        Probabilities, shape ``(..., C, ...)`` with the C classes along ``axis``; any real dtype. Both of one shape.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Of the batch shape: which examples take part. Of the probabilities' number of dimensions: which classes; nothing
        is normalised anew.
    sample_weight : float or array, optional
        Example weights, a scalar or of the batch shape (sizes equal or 1). An example of weight 0 takes no part.
    reduction : {"none", "sum", "mean", "sum_and_weight"}, default "none"
        "none" returns one value an example.
    denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        By default a negative sample weight is refused where a mean divides by the weights and values can be read for
        free. True also checks options and that probabilities are finite, not negative and, unless classes are left out,
        add up to 1; inside a trace it is an error. False reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the arrays are cast to before the arithmetic.

    Returns
    -------
    array
        Of the batch shape; a 0-d array for "sum" and "mean", a tuple of two for "sum_and_weight". Of the floating dtype
        that both are promoted to, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, or belongs to another library than the first.
    ValueError
        If shapes do not fit (nothing is broadcast), a number is out of its bounds, or an option cannot matter.

    See Also
    --------
    total_variation : of logits.

    Notes
    -----
    - Nothing is normalised or clipped unasked; p < 0 is NaN. 0 · log 0 is 0, with derivatives taken to be 0.
    - Values and derivatives are within 4 units in the last place of each term that they are a sum of.
    - From 0 to 1. Where p = q its derivative is taken to be 0.

    References
    ----------
    A. L. Gibbs, F. E. Su, "On choosing and bounding probability metrics", 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import total_variation_from_probs
    >>> total_variation_from_probs(np.asarray([[0.75, 0.25]]), np.asarray([[0.25, 0.75]]))
    array([0.5])
    """
    return total_variation_from_probs_call(
        p_probs,
        q_probs,
        eps=eps,
        axis=axis,
        where=where,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


def entropy_call(logits: Any, **options: Any) -> Call:
    """A call of entropy, checked and laid out."""
    return _of_logits(logits, measure="entropy", **options)


def cross_entropy_between_call(p_logits: Any, q_logits: Any, **options: Any) -> Call:
    """A call of cross_entropy_between."""
    return _scaled("cross_entropy_between", p_logits, q_logits, **options)


def kl_divergence_call(p_logits: Any, q_logits: Any, **options: Any) -> Call:
    """A call of kl_divergence."""
    return _scaled("kl_divergence", p_logits, q_logits, **options)


def js_divergence_call(p_logits: Any, q_logits: Any, *, beta: Any, **options: Any) -> Call:
    """A call of js_divergence."""
    return _scaled("js_divergence", p_logits, q_logits, beta=_mixing(beta), **options)


def total_variation_call(p_logits: Any, q_logits: Any, **options: Any) -> Call:
    """A call of total_variation."""
    return _scaled("total_variation", p_logits, q_logits, **options)


def entropy_from_probs_call(probs: Any, **options: Any) -> Call:
    """A call of entropy_from_probs."""
    return _of_probs(probs, measure="entropy", **options)


def cross_entropy_between_from_probs_call(p_probs: Any, q_probs: Any, **options: Any) -> Call:
    """A call of cross_entropy_between_from_probs."""
    return _of_two_probs(p_probs, q_probs, measure="cross_entropy_between", **options)


def kl_divergence_from_probs_call(p_probs: Any, q_probs: Any, **options: Any) -> Call:
    """A call of kl_divergence_from_probs."""
    return _of_two_probs(p_probs, q_probs, measure="kl_divergence", **options)


def js_divergence_from_probs_call(p_probs: Any, q_probs: Any, *, beta: Any, **options: Any) -> Call:
    """A call of js_divergence_from_probs."""
    return _of_two_probs(p_probs, q_probs, measure="js_divergence", beta=_mixing(beta), **options)


def total_variation_from_probs_call(p_probs: Any, q_probs: Any, **options: Any) -> Call:
    """A call of total_variation_from_probs."""
    return _of_two_probs(p_probs, q_probs, measure="total_variation", **options)


def _mixing(beta: Any) -> Any:
    beta = number("beta", beta, low=0.0, high=1.0)
    if beta is None or (isinstance(beta, float) and beta in {0.0, 1.0}):
        msg = f"beta must be between 0 and 1, got {beta}; at the ends the divergence is 0 throughout"
        raise ValueError(msg)
    return beta


def _scaled(measure: str, p_logits: Any, q_logits: Any, *, scale_by_t2: Any, **options: Any) -> Call:
    """A call of logits, whose measure may be scaled."""
    power = power_of_temperature(scale_by_t2, options["temperature"])
    return _of_two_logits(p_logits, q_logits, measure=measure, power=power, **options)


def power_of_temperature(scale_by_t2: Any, temperature: Any) -> int:
    """The power of the temperature that the measure is scaled by."""
    if flag("scale_by_t2", scale_by_t2) and temperature is None:
        msg = "scale_by_t2 must come with temperature, got none; pass both"
        raise ValueError(msg)
    return 2 if scale_by_t2 else 0


@remembered("logits")
def _of_logits(logits: Any, **options: Any) -> Call:
    return measuring({"logits": logits}, **options)


@remembered("p_logits", "q_logits")
def _of_two_logits(p_logits: Any, q_logits: Any, **options: Any) -> Call:
    return measuring({"p_logits": p_logits, "q_logits": q_logits}, **options)


@remembered("probs")
def _of_probs(probs: Any, **options: Any) -> Call:
    return measuring({"probs": probs}, **options)


@remembered("p_probs", "q_probs")
def _of_two_probs(p_probs: Any, q_probs: Any, **options: Any) -> Call:
    return measuring({"p_probs": p_probs, "q_probs": q_probs}, **options)


def measuring(
    arrays: dict[str, Any],
    *,
    measure: str,
    making: Making | None = None,
    axis: Any,
    where: Any,
    sample_weight: Any,
    reduction: str,
    denominator: Any,
    empty_mean: str,
    check: bool | None,
    dtype: Any,
    temperature: Any = None,
    power: int = 0,
    beta: Any = None,
    eps: Any = None,
) -> Call:
    """A call of the measure of that name, of one or two arrays; or of features, which need a ``making``."""
    chosen = Reduction.chosen(reduction, denominator, empty_mean)
    tristate("check", check)
    options = {
        "where": where,
        "sample_weight": number("sample_weight", sample_weight),
        "temperature": number("temperature", temperature, low=0.0, above=True),
        "beta": beta,
        "eps": number("eps", eps, low=0.0, high=0.5, above=True),
        "denominator": number("denominator", denominator, low=0.0) if chosen.denominator is None else None,
    }
    options = {name: x for name, x in options.items() if x is not None}
    arrays = {name: _array(name, x) for name, x in arrays.items()}
    backend, given = adopted_by_name(**arrays, **options)
    (name, x), *others = ((name, given[name]) for name in arrays)
    if making is None:
        compute, _ = jointly_floating(backend, {name: given[name] for name in arrays}, dtype)
        form = layout.aligned(backend, name, x, axis)
        _check_shapes(form, name, others)
    else:
        compute, form = making.laid_out(backend, given, dtype)
    cast_options = {name: cast(backend, name, given[name], compute) for name in options if name != "where"}
    arguments = {**given, **cast_options}
    if isinstance(arguments.get("sample_weight"), float):
        arguments["sample_weight"] = backend.scalar(arguments["sample_weight"], x, compute)
    if "where" in options:
        arguments["where"] = mask(backend, x, arguments["where"])
    if power:
        layout.per_example(form, "temperature", arguments["temperature"])
    ways: dict[str, Any] = dict.fromkeys(arrays, form.whole if making is None else None)
    ways |= {option: way(form, option, arguments[option]) for option, way in _WAYS.items() if option in options}
    given_labels.check_options(backend, cast_options, check, _BOUNDS)
    if check:
        _check(form, arguments, ways, [name for name in arrays if "probs" in name])
    if chosen.divides_by_weight:
        taking_part = partial(_taking_part, form)
        given_labels.refuse_negative(form, "sample_weight", arguments, ways, taking_part, check=check)
    total = arguments.pop("denominator", None)
    return Call(
        form,
        arguments=arguments,
        given=given,
        denominator=total,
        ways=tuple(ways[one] for one in arguments),
        formula=formula if making is None else making.formula,
        ending=Loss(chosen, plain=not {"where", "sample_weight"} & set(arguments)),
        static=(
            ("measure", measure),
            ("dtype", compute),
            ("mass", chosen.mass),
            ("squared", bool(power)),
            *(() if making is None else making.static),
        ),
    )


def _check_shapes(form: Layout, name: str, others: list[tuple[str, Any]]) -> None:
    for other, y in others:
        if not same(tuple(y.shape), form.shape):
            msg = f"{other} must have the shape of {name}, {form.shape}, got {tuple(y.shape)}; nothing is broadcast"
            raise ValueError(msg)


def _array(name: str, x: Any) -> Any:
    """NumPy's scalars are arrays of no dimensions; other numbers are none."""
    backend = backend_of(x) if isinstance(x, Real) else None
    if backend is not None:
        return backend.adopt(x)
    if x is None or isinstance(x, Real):
        msg = f"{name} must be an array, got {x!r}; wrap it, for example with numpy.asarray(...)"
        raise TypeError(msg)
    return x


def _taking_part(form: Layout, _: None, where: Any, __: None) -> Any:
    """The rows that have a class; None for all."""
    return None if where is None else form.backend.any(where, axis=form.axis, keepdims=True)


def _check(form: Layout, arguments: dict[str, Any], ways: dict[str, Any], names: list[str]) -> None:
    """With check=True, refuse probabilities that are none, where they take part."""
    backend = form.backend
    where, weight = (form.aligned(arguments.get(name), ways.get(name)) for name in ("where", "sample_weight"))
    kept = both(where, None if weight is None else backend.not_equal(weight, 0))
    of_classes = where is not None and where.shape[form.axis] != 1
    for name in names:
        p = form.aligned(arguments[name], ways[name])
        p = backend.astype(p, backend.float32) if dtype_name(p.dtype) in HALVES else p
        if kind_of(p.dtype) != "floating":
            p = backend.astype(p, backend.default_float(p))
        p = p if kept is None else backend.where(kept, p, backend.zeros_like(p))
        good, hint = (p >= 0) & backend.isfinite(p), "drop check=True to take it as it is"
        given_labels.refuse(backend, name, form.outward(p), good=form.outward(good), expected=_PROBABILITIES, hint=hint)
        if not of_classes:
            total = backend.sum(p, axis=form.axis, keepdims=True)
            good = backend.abs(total - 1.0) <= _TOLERANCES.get(dtype_name(arguments[name].dtype), 2.0**-26)
            good = good if kept is None else good | ~kept
            total, good, hint = form.rows(total), form.rows(good), "divide each row by its sum, or drop check=True"
            given_labels.refuse(backend, name, total, good=good, expected="distributions that sum to 1", hint=hint)


_BOUNDS: given_labels.Bounds = {
    **given_labels.BOUNDS,
    "beta": ("between 0 and 1", lambda b: (b > 0) & (b < 1)),
    "eps": ("between 0 and 0.5", lambda e: (e > 0) & (2 * e < 1)),
}
_PROBABILITIES = "finite and not negative"
_TOLERANCES = {"float16": 2.0**-5, "bfloat16": 2.0**-3.5, "float32": 2.0**-11.5}  # square roots of the spacing at 1

# How each option is aligned to the logits.
_WAYS: dict[str, Callable[..., Any]] = {
    "where": layout.example_or_class_mask,
    "sample_weight": layout.per_example,
    "temperature": layout.per_example_or_class,
    "beta": layout.scalar,
    "eps": layout.scalar,
    "denominator": layout.scalar,
}

CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    entropy: (entropy_call, formula),
    cross_entropy_between: (cross_entropy_between_call, formula),
    kl_divergence: (kl_divergence_call, formula),
    js_divergence: (js_divergence_call, formula),
    total_variation: (total_variation_call, formula),
    entropy_from_probs: (entropy_from_probs_call, formula),
    cross_entropy_between_from_probs: (cross_entropy_between_from_probs_call, formula),
    kl_divergence_from_probs: (kl_divergence_from_probs_call, formula),
    js_divergence_from_probs: (js_divergence_from_probs_call, formula),
    total_variation_from_probs: (total_variation_from_probs_call, formula),
}
