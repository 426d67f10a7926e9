"""Losses of a linear classifier, of which the logits are never all in memory."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from softxent.arguments import dtype_name, jointly_floating, kind_of
from softxent.categorical import categorical
from softxent.divergences import measuring, power_of_temperature
from softxent.endings import Columns
from softxent.formulas import linear as formulas
from softxent.layout import Layout, Making, same

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Backend, Formula
    from softxent.calls import Call

Array = Any


def linear_cross_entropy(
    features: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    where: Any = None,
    ignore_index: Any = None,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: Any = None,
    smoothing_prior: Any = None,
    temperature: Any = None,
    softcap: Any = None,
    z_loss: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    aux: Any = None,
    check: bool | None = None,
    chunk_bytes: int | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of the logits x Wᵀ + b, which are made and used so many rows at a time.

    It is ``cross_entropy(features @ weight.T + bias, labels, ...)`` in value and derivatives, where the logits, by far
    the largest array of a language model, would not fit or take their time.

    Parameters
    ----------
    features : array
        x, shape ``(..., D)``, of any real dtype.
    weight : array
        W, shape ``(C, D)``: one row a class.
    labels : array or int
        Class indices of the batch shape, that of the features without their last axis; or floating distributions of
        shape ``(..., C)``.
    bias : array, optional
        b, shape ``(C,)``.
    class_weight : array, optional
        What ``weight`` is in :func:`cross_entropy`: class weights, shape ``(C,)``.
    where, ignore_index, sample_weight, label_smoothing, smoothing_prior, temperature, softcap, z_loss
        As for :func:`cross_entropy`, with logits of shape ``(..., C)``.
    reduction, denominator, empty_mean, aux, check
        As for :func:`cross_entropy`.
    chunk_bytes : int, optional
        How much memory the logits may take at a time, in bytes; at least one row's are made. By default 16 MiB.
    dtype : dtype or str, optional
        Floating dtype of the arithmetic; by default that which features, weight and bias are promoted to, float32 for
        float16 and bfloat16.

    Returns
    -------
    loss : array
        As :func:`cross_entropy`.
    aux : dict of arrays
        Only with ``aux``.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`; a ValueError too if weight or bias do not have the shapes above.

    See Also
    --------
    cross_entropy : of logits; has the notes on special values, which hold here too.

    Notes
    -----
    - Derivatives by features, weight and bias, and by what :func:`cross_entropy` has them by. For a mean or a sum they
      are made beside the value, where the library tells that they are wanted (``value_and_grad``, torch, jax); for
      single losses and higher derivatives the logits are made again.
    - Memory beside results and derivatives: some arrays of ``chunk_bytes``. Where torch records what it differentiates,
      for ``aux`` and for second derivatives, all logits are kept; they are also made at once where the number of rows
      is not known (graphs of TensorFlow, programs of Paddle, ONNX).
    - float16 and bfloat16 are cast to float32 before the product, so that losses and the derivative by the weight are
      summed in float32. Its error is that of ``features @ weight.T``, which differs between libraries, followed by
      that of :func:`cross_entropy`.

    References
    ----------
    E. Wijmans et al., "Cut your losses in large-vocabulary language models", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import linear_cross_entropy, value_and_grad
    >>> x, w = np.asarray([[1.0, 2.0], [0.0, -1.0]]), np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> loss, (by_x, by_w) = value_and_grad(linear_cross_entropy, ("features", "weight"))(x, w, np.asarray([2, 0]))
    >>> print(f"{loss:.6f}")
    0.479525
    >>> by_w.shape
    (3, 2)
    """
    return linear_cross_entropy_call(
        features,
        weight,
        labels,
        bias=bias,
        where=where,
        ignore_index=ignore_index,
        class_weight=class_weight,
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
        chunk_bytes=chunk_bytes,
        dtype=dtype,
    ).value()


def linear_log_prob(
    features: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    where: Any = None,
    ignore_index: Any = None,
    temperature: Any = None,
    check: bool | None = None,
    chunk_bytes: int | None = None,
    dtype: Any = None,
) -> tuple[Any, Any]:
    """Log-probabilities of labels, and entropies, under softmax of the logits x Wᵀ + b: what evaluation and RL ask for.

    Parameters
    ----------
    features, weight, labels, bias, where, ignore_index, temperature, check, chunk_bytes, dtype
        As for :func:`linear_cross_entropy`; labels are class indices.

    Returns
    -------
    log_prob : array
        log p of the label, of the batch shape, in the dtype of the arithmetic: float32 for float16 and bfloat16.
    entropy : array
        -Σ p log p, in nats, likewise.

    Raises
    ------
    TypeError, ValueError
        As :func:`linear_cross_entropy`.

    See Also
    --------
    linear_cross_entropy : one loss; log_prob is minus it with reduction="none".
    entropy : of logits.

    Notes
    -----
    - Both come from the same logits, made so many rows at a time. Derivatives of both make them again: by ``vjp``, and
      by torch's and jax's own means.
    - What takes no part has log_prob 0 and entropy 0.

    References
    ----------
    J. Schulman et al., "Proximal policy optimization algorithms", 2017 (the two in a loss).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import linear_log_prob
    >>> x, w = np.asarray([[1.0, 2.0], [0.0, -1.0]]), np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> log_prob, entropy = linear_log_prob(x, w, np.asarray([2, 0]))
    >>> log_prob
    array([-0.40760596, -0.55144471])
    >>> entropy
    array([0.83239558, 0.97532783])
    """
    return linear_log_prob_call(
        features,
        weight,
        labels,
        bias=bias,
        where=where,
        ignore_index=ignore_index,
        temperature=temperature,
        check=check,
        chunk_bytes=chunk_bytes,
        dtype=dtype,
    ).value()


def linear_kl_divergence(
    p_features: Any,
    p_weight: Any,
    q_features: Any,
    q_weight: Any,
    *,
    p_bias: Any = None,
    q_bias: Any = None,
    where: Any = None,
    sample_weight: Any = None,
    temperature: Any = None,
    scale_by_t2: bool = False,
    reduction: str = "none",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    chunk_bytes: int | None = None,
    dtype: Any = None,
) -> Any:
    """Kullback-Leibler divergence KL(p, q) of two linear classifiers, such as a teacher p and a student q.

    It is ``kl_divergence(p_features @ p_weight.T + p_bias, q_features @ q_weight.T + q_bias, ...)``, so many rows at a
    time: neither's logits are all in memory.

    Parameters
    ----------
    p_features, q_features : array
        Shapes ``(..., D)`` and ``(..., E)``, of one batch shape.
    p_weight, q_weight : array
        Shapes ``(C, D)`` and ``(C, E)``: one row a class.
    p_bias, q_bias : array, optional
        Shape ``(C,)``.
    where, sample_weight, temperature, scale_by_t2, reduction, denominator, empty_mean, check
        As for :func:`kl_divergence`, with logits of shape ``(..., C)``.
    chunk_bytes : int, optional
        How much memory the logits of one of the two may take at a time, in bytes. By default 16 MiB.
    dtype : dtype or str, optional
        Floating dtype of the arithmetic; by default that which all arrays are promoted to, float32 for halves.

    Returns
    -------
    array
        As :func:`kl_divergence`.

    Raises
    ------
    TypeError, ValueError
        As :func:`kl_divergence`; a ValueError too if weights or biases do not have the shapes above.

    See Also
    --------
    kl_divergence : of logits; has the notes on accuracy and special values.
    linear_cross_entropy : against labels.

    Notes
    -----
    - Derivatives by all six arrays, as :func:`linear_cross_entropy` has them; for a mean the logits are made again.

    References
    ----------
    G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import linear_kl_divergence
    >>> x, w = np.asarray([[1.0, 2.0], [0.0, -1.0]]), np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> linear_kl_divergence(x, w, x, 0.5 * w)
    array([0.0602689, 0.0309905])
    """
    return linear_kl_divergence_call(
        p_features,
        p_weight,
        q_features,
        q_weight,
        p_bias=p_bias,
        q_bias=q_bias,
        where=where,
        sample_weight=sample_weight,
        temperature=temperature,
        scale_by_t2=scale_by_t2,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        chunk_bytes=chunk_bytes,
        dtype=dtype,
    ).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


def linear_cross_entropy_call(
    features: Any, weight: Any, labels: Any, *, bias: Any, class_weight: Any, chunk_bytes: Any, **options: Any
) -> Call:
    """A call of linear_cross_entropy, checked and laid out."""
    making = _making({"weight": weight, "bias": bias}, formulas.cross_entropy, chunk_bytes)
    return categorical("features", features, labels, weight=class_weight, axis=-1, making=making, **options)


def linear_log_prob_call(
    features: Any, weight: Any, labels: Any, *, bias: Any, chunk_bytes: Any, **options: Any
) -> Call:
    """A call of linear_log_prob: that of a cross-entropy, which ends otherwise."""
    making = _making({"weight": weight, "bias": bias}, formulas.log_probability, chunk_bytes)
    unused: dict[str, Any] = dict.fromkeys(("weight", "sample_weight", "label_smoothing", "smoothing_prior"))
    reduction: dict[str, Any] = {"reduction": "none", "denominator": "weight", "empty_mean": "zero"}
    call = categorical("features", features, labels, axis=-1, making=making, **unused, **reduction, **options)
    static = dict(call.static)
    if not static["hard"]:
        msg = "labels must be class indices, of an integer dtype, got distributions; linear_cross_entropy takes these"
        raise TypeError(msg)
    kept = tuple((name, option) for name, option in static.items() if name not in {"mass", "aux"})
    return call._replace(ending=Columns(), static=kept)


def linear_kl_divergence_call(
    p_features: Any,
    p_weight: Any,
    q_features: Any,
    q_weight: Any,
    *,
    p_bias: Any,
    q_bias: Any,
    chunk_bytes: Any,
    scale_by_t2: Any,
    **options: Any,
) -> Call:
    """A call of linear_kl_divergence."""
    beside = {"p_weight": p_weight, "q_weight": q_weight, "p_bias": p_bias, "q_bias": q_bias}
    making = _making(beside, formulas.kl_divergence, chunk_bytes)
    power = power_of_temperature(scale_by_t2, options["temperature"])
    arrays = {"p_features": p_features, "q_features": q_features, **making.beside}
    return measuring(arrays, measure="kl_divergence", making=making, power=power, axis=-1, **options)


def _making(beside: dict[str, Any], formula: formulas.Linear, chunk_bytes: Any) -> Making:
    for name, x in beside.items():
        if "weight" in name and (x is None or isinstance(x, Real)):
            msg = f"{name} must be an array, got {x!r}; pass the classifier's weights, one row a class"
            raise TypeError(msg)
    beside = {name: x for name, x in beside.items() if x is not None}
    laid_out = partial(_laid_out, tuple(formula.heads.values()))
    return Making(formula, beside, laid_out, (("chunk_bytes", _budget(chunk_bytes)),))


def _laid_out(
    heads: tuple[formulas.Head, ...], backend: Backend, given: dict[str, Any], dtype: Any
) -> tuple[Any, Layout]:
    """The dtype of the arithmetic, and the layout of the logits, once the shapes are known to fit."""
    arrays: dict[str, Any] = {name: given[name] for head in heads for name in head if name in given}
    for name, array in arrays.items():
        if "features" not in name and kind_of(array.dtype) != "floating":
            msg = f"{name} must be of a floating dtype, got {dtype_name(array.dtype)}; cast it, for example to float32"
            raise TypeError(msg)
    shape = _shape_of(heads[0], arrays)
    for head in heads[1:]:
        other = _shape_of(head, arrays)
        if not same(other, shape):
            msg = (
                f"{head.features} and {head.weight} must make logits of the shape that {heads[0].features} and "
                f"{heads[0].weight} make, {shape}, got {other}; batch shapes and numbers of classes have to agree"
            )
            raise ValueError(msg)
    compute, _ = jointly_floating(backend, arrays, dtype)
    return compute, Layout(backend, shape, (len(shape) - 1,))


def _shape_of(head: formulas.Head, arrays: dict[str, Any]) -> tuple[Any, ...]:
    """That of the logits."""
    x, weight = arrays[head.features], arrays[head.weight]
    if x.ndim == 0:
        msg = f"{head.features} must have an axis of features, the last one, got a 0-d array; reshape it to (1,)"
        raise ValueError(msg)
    if weight.ndim != 2 or not same(tuple(weight.shape)[1:], tuple(x.shape)[-1:]):  # noqa: PLR2004 - a matrix
        msg = (
            f"{head.weight} must have shape (C, {x.shape[-1]}), one row a class and as many columns as there are "
            f"features, got {tuple(weight.shape)}; transpose it if its columns are classes"
        )
        raise ValueError(msg)
    size = weight.shape[0]
    bias = arrays.get(head.bias)
    if bias is not None and not same(tuple(bias.shape), (size,)):
        msg = f"{head.bias} must have shape ({size},), one value a class, got {tuple(bias.shape)}"
        raise ValueError(msg)
    return (*tuple(x.shape)[:-1], size)


def _budget(chunk_bytes: Any) -> int:
    """The caller's; 0 for the backend's own."""
    if chunk_bytes is None:
        return 0
    if not isinstance(chunk_bytes, Integral) or isinstance(chunk_bytes, bool):
        msg = f"chunk_bytes must be an int, got {chunk_bytes!r}; it is a number of bytes"
        raise TypeError(msg)
    if chunk_bytes < 1:
        msg = f"chunk_bytes must be positive, got {chunk_bytes}; one row's logits are made at a time at least"
        raise ValueError(msg)
    return int(chunk_bytes)


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    linear_cross_entropy: (linear_cross_entropy_call, formulas.cross_entropy),
    linear_kl_divergence: (linear_kl_divergence_call, formulas.kl_divergence),
    linear_log_prob: (linear_log_prob_call, formulas.log_probability),
}
