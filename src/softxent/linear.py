"""Losses of a linear classifier, of which the logits are never all in memory."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from softxent.arguments import dtype_name, jointly_floating, kind_of
from softxent.categorical import Making, categorical
from softxent.formulas import linear as formulas
from softxent.layout import Layout, same

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Backend, Formula
    from softxent.calls import Call

Array = Any

# What the logits of so many rows at a time may take. Measured on two cores at 2048 rows, 256 features, 16384 classes:
# a product of fewer rows reads the weights too often, and one of more leaves the cache before the loss has read it.
CHUNK_BYTES = 2**24


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
        How much memory the logits may take at a time, in bytes; at least one row's are made. 16 MiB by default.
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
    - Memory beside results and derivatives: two arrays of ``chunk_bytes`` and one like ``weight``. Exceptions are
      derivatives that torch records for ``aux``, and second ones: then all logits are kept.
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
    0.634730
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


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


def linear_cross_entropy_call(
    features: Any, weight: Any, labels: Any, *, bias: Any, class_weight: Any, chunk_bytes: Any, **options: Any
) -> Call:
    """A call of linear_cross_entropy, checked and laid out."""
    if weight is None or isinstance(weight, Real):
        msg = f"weight must be an array, got {weight!r}; pass the classifier's weights, one row a class"
        raise TypeError(msg)
    beside = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    making = Making(beside, _laid_out, (("chunk_bytes", _budget(chunk_bytes)),))
    return categorical("features", features, labels, weight=class_weight, axis=-1, making=making, **options)


def _laid_out(backend: Backend, given: dict[str, Any], dtype: Any) -> tuple[Any, Layout]:
    """The dtype of the arithmetic, and the layout of the logits, once the shapes are known to fit."""
    arrays: dict[str, Any] = {name: given[name] for name in ("features", "weight", "bias") if name in given}
    x, weight = arrays["features"], arrays["weight"]
    for name, array in arrays.items():
        if name != "features" and kind_of(array.dtype) != "floating":
            msg = f"{name} must be of a floating dtype, got {dtype_name(array.dtype)}; cast it, for example to float32"
            raise TypeError(msg)
    if x.ndim == 0:
        msg = "features must have an axis of features, the last one, got a 0-d array; reshape it to (1,)"
        raise ValueError(msg)
    if weight.ndim != 2 or not same(tuple(weight.shape)[1:], tuple(x.shape)[-1:]):  # noqa: PLR2004 - a matrix
        msg = (
            f"weight must have shape (C, {x.shape[-1]}), one row a class and as many columns as there are features, "
            f"got {tuple(weight.shape)}; transpose it if its columns are classes"
        )
        raise ValueError(msg)
    size = weight.shape[0]
    if "bias" in arrays and not same(tuple(arrays["bias"].shape), (size,)):
        msg = (
            f"bias must have shape ({size},), one value a class, got {tuple(arrays['bias'].shape)}; leave it out for 0"
        )
        raise ValueError(msg)
    compute, _ = jointly_floating(backend, arrays, dtype)
    return compute, Layout(backend, (*tuple(x.shape)[:-1], size), (x.ndim - 1,))


def _budget(chunk_bytes: Any) -> int:
    if chunk_bytes is None:
        return CHUNK_BYTES
    if not isinstance(chunk_bytes, Integral) or isinstance(chunk_bytes, bool):
        msg = f"chunk_bytes must be an int, got {chunk_bytes!r}; it is a number of bytes"
        raise TypeError(msg)
    if chunk_bytes < 1:
        msg = f"chunk_bytes must be positive, got {chunk_bytes}; one row's logits are made at a time at least"
        raise ValueError(msg)
    return int(chunk_bytes)


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    linear_cross_entropy: (linear_cross_entropy_call, formulas.cross_entropy),
}
