"""Losses of logits, or of probabilities, against binary targets: every element is an example."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import adopted_by_name, cast, floating, integer, mask, number, tristate
from softxent.calls import Call, rechecked, remembered
from softxent.endings import Loss
from softxent.formulas import binary as formula
from softxent.reductions import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula

Array = Any


def binary_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    axis: int | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    pos_weight: Any = None,
    label_smoothing: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of logits against binary targets: -y log sigmoid(x) - (1 - y) log sigmoid(-x) of every element.

    With every option it is ``weight · (pos_weight · y' · softplus(-x) + (1 - y') · softplus(x))``, where
    y' = y (1 - ε) + ε / 2 is the smoothed target.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    labels : array or number
        Of exactly the logits' shape: bool, integers 0 and 1, or floating numbers from 0 to 1. A number labels a single
        logit.
    axis : int or None, default -1
        The axis that a 1-D ``weight`` or ``pos_weight`` is aligned to, and nothing else.
    where : bool or array of bool, optional
        Which elements take part: the logits' number of dimensions, each size equal or 1. What takes no part is not
        looked at.
    ignore_index : int or 0-d array, optional
        Elements with this label take no part; for integer labels.
    weight : float or array, optional
        What each element weighs: a scalar, the logits' number of dimensions with sizes equal or 1, or one value for
        each place along ``axis``. An element of weight 0 takes no part.
    pos_weight : float or array, optional
        What positive targets weigh beside negative ones, in the same shapes. A mean does not divide by it.
    label_smoothing : float or array, optional
        ε from 0 to 1: a scalar, or the logits' number of dimensions with sizes equal or 1.
    reduction, denominator, empty_mean
        As for :func:`cross_entropy`; by default the mean divides by Σ weight of the elements that take part.
    check : bool, optional
        By default targets outside 0 to 1 are refused where values can be read for free (NumPy, CPU tensors outside a
        trace). True also reads lazy arrays and accelerators, and checks options; inside a trace it is an error. False
        reads nothing.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic.

    Returns
    -------
    loss : array
        A 0-d array; of the logits' shape for reduction="none"; for "sum_and_weight" a tuple of two 0-d arrays. Of the
        logits' library and device, and of their floating dtype, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, has a dtype that cannot be what it is for, or belongs to another library than the
        logits. NumPy arrays may stand beside jax's and Dask's.
    ValueError
        If shapes do not fit (nothing is broadcast between logits and labels), a target is out of range, a number is out
        of its bounds, arrays are on two devices, or an option cannot matter beside the others.

    See Also
    --------
    binary_focal_loss : the same with easy examples weighing less.
    binary_cross_entropy_from_probs : of probabilities.
    cross_entropy : for one class out of several.

    Notes
    -----
    - Right in both tails: the loss of logit 100 with target 1 is 3.7e-44, and so is its derivative. Values and
      derivatives by logits are within 4 units in the last place for targets 0 and 1; for others within 4 u Σ of the
      absolute values of their terms.
    - Logits of +inf with target 1 and -inf with target 0 cost nothing, the other way round +inf.
    - A target out of range that is not refused makes its element NaN, value and derivative.
    - An element that takes no part has loss 0 and derivative 0, whatever its logit is.
    - The derivative by a target holds at 0 and 1 too; it is 0 where a term is infinite. By a weight of 0 it is the
      element's loss.

    References
    ----------
    I. J. Good, "Rational decisions", 1952.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import binary_cross_entropy
    >>> logits = np.asarray([[2.0, -100.0], [0.0, 1.0]])
    >>> labels = np.asarray([[True, False], [False, True]])
    >>> binary_cross_entropy(logits, labels, reduction="none")
    array([[1.26928011e-01, 3.72007598e-44],
           [6.93147181e-01, 3.13261688e-01]])
    >>> binary_cross_entropy(logits, labels, pos_weight=np.asarray([1.0, 3.0]))
    array(0.43996505)
    """
    return binary_cross_entropy_call(
        logits,
        labels,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def binary_focal_loss(
    logits: Any,
    labels: Any,
    *,
    gamma: Any = 2.0,
    alpha: Any = None,
    axis: int | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    pos_weight: Any = None,
    label_smoothing: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Focal loss of logits against binary targets: cross-entropy in which what is already predicted well weighs less.

    With p = sigmoid(x) an element costs ``α y' (1 - p)^γ (-log p) + (1 - α) (1 - y') p^γ (-log(1 - p))``, times its
    weights; without ``alpha`` both halves count fully.

    Parameters
    ----------
    logits, labels
        As for :func:`binary_cross_entropy`.
    gamma : float or array, default 2.0
        γ, at least 0: a scalar, or the logits' number of dimensions with sizes equal or 1. 0 is cross-entropy.
    alpha : float or array, optional
        α, from 0 to 1, in the same shapes. A mean does not divide by it.
    axis, where, ignore_index, weight, pos_weight, label_smoothing, reduction, denominator, empty_mean, check, dtype
        As for :func:`binary_cross_entropy`.

    Returns
    -------
    loss : array
        As :func:`binary_cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        As :func:`binary_cross_entropy`.

    See Also
    --------
    binary_cross_entropy : has the notes on special values, which hold here too.

    Notes
    -----
    - The powers are exponentials of γ log(1 - p) and γ log p: the hardest examples keep their gradients, and so does
      γ between 0 and 1 where p is next to 1.
    - Within 4 + γ g units in the last place for targets 0 and 1, g being the larger of -log p and -log(1 - p).

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import binary_focal_loss
    >>> binary_focal_loss(np.asarray([4.0, -4.0]), np.asarray([1, 1]), gamma=2.0, alpha=0.25, reduction="none")
    array([1.46789243e-06, 9.68726809e-01])
    """
    return binary_focal_loss_call(
        logits,
        labels,
        gamma=gamma,
        alpha=alpha,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def binary_cross_entropy_from_probs(
    probs: Any,
    labels: Any,
    *,
    eps: Any = None,
    axis: int | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    weight: Any = None,
    pos_weight: Any = None,
    label_smoothing: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """Cross-entropy of probabilities against binary targets, as they are: -y log p - (1 - y) log(1 - p).

    It is what ``sum(nan_to_num(-y * log(p) - (1 - y) * log(1 - p)))`` computes with p = y, namely 0, without hiding
    what is infinite: 0 · log 0 = 0. From logits use :func:`binary_cross_entropy`, which keeps the digits that
    probabilities next to 1 have lost.

    Parameters
    ----------
    probs : array
        Probabilities of any shape and real dtype; integers and bool become the library's default floating dtype first.
    labels : array or number
        Of exactly the shape of ``probs``; as for :func:`binary_cross_entropy`.
    eps : float or 0-d array, optional
        Clip probabilities to ``[eps, 1 - eps]``, with derivative 0 where that changes them. None clips nothing.
    axis, where, ignore_index, weight, pos_weight, label_smoothing, reduction, denominator, empty_mean, check
        As for :func:`binary_cross_entropy`.
    dtype : dtype or str, optional
        Floating dtype that the probabilities are cast to before the arithmetic.

    Returns
    -------
    loss : array
        As :func:`binary_cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        As :func:`binary_cross_entropy`.

    See Also
    --------
    binary_cross_entropy : of logits; has the notes on targets, weights and what takes no part, which hold here too.
    cross_entropy_from_probs : for one class out of several.

    Notes
    -----
    - Nothing is clipped unasked: p = 0 with target 1 and p = 1 with target 0 cost +inf, and their derivatives are
      infinite. p = y in {0, 1} costs 0, with derivatives 1 and -1 by p.
    - A p outside 0 to 1, or NaN, makes its element NaN, value and derivative. ``eps`` clips the former.
    - Both bounds are exact under ``eps``, also one so small that 1 - eps would be rounded to 1.
    - Within 4 units in the last place for targets 0 and 1, and 4 u Σ of the absolute values of the terms for others.

    References
    ----------
    C. M. Bishop, "Pattern recognition and machine learning", 2006, section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import binary_cross_entropy_from_probs
    >>> p, y = np.asarray([0.0, 1.0, 0.25, 0.75]), np.asarray([0, 1, 0, 0])
    >>> binary_cross_entropy_from_probs(p, y, reduction="none")
    array([0.        , 0.        , 0.28768207, 1.38629436])
    >>> binary_cross_entropy_from_probs(np.asarray([0.0]), np.asarray([1]), eps=1e-7)
    array(16.11809565)
    """
    return binary_cross_entropy_from_probs_call(
        probs,
        labels,
        eps=eps,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


def _checked(earlier: Call, given: dict[str, Any]) -> Call:
    """A call like an earlier one with its targets looked at."""
    arguments = {**earlier.arguments, **given}
    found = given_labels.check_binary(earlier.form, given["labels"], arguments, {}, check=None)
    return rechecked(earlier, found)


@remembered("logits", "labels", checked=_checked)
def binary_cross_entropy_call(logits: Any, labels: Any, **options: Any) -> Call:
    """A call of binary_cross_entropy, checked and laid out."""
    return _binary("logits", logits, labels, **options)


@remembered("logits", "labels", checked=_checked)
def binary_focal_loss_call(logits: Any, labels: Any, *, gamma: Any, alpha: Any, **options: Any) -> Call:
    """A call of binary_focal_loss."""
    if gamma is None:
        raise ValueError("gamma must be a number or an array, got None; 0.0 is binary_cross_entropy")
    focal = {"gamma": number("gamma", gamma, low=0.0), "alpha": number("alpha", alpha, low=0.0, high=1.0)}
    return _binary("logits", logits, labels, **focal, **options)


@remembered("probs", "labels", checked=_checked)
def binary_cross_entropy_from_probs_call(probs: Any, labels: Any, *, eps: Any, **options: Any) -> Call:
    """A call of binary_cross_entropy_from_probs."""
    return _binary("probs", probs, labels, eps=number("eps", eps, low=0.0, high=0.5, above=True), **options)


def _binary(
    name: str,
    x: Any,
    labels: Any,
    *,
    axis: Any,
    where: Any,
    ignore_index: Any,
    weight: Any,
    pos_weight: Any,
    label_smoothing: Any,
    reduction: str,
    denominator: Any,
    empty_mean: str,
    check: bool | None,
    dtype: Any,
    **parameters: Any,
) -> Call:
    """A call of a loss of ``x``, which is called ``name``: logits or probs."""
    chosen = Reduction.chosen(reduction, denominator, empty_mean)
    tristate("check", check)
    options = {
        "where": where,
        "ignore_index": integer("ignore_index", ignore_index),
        "weight": number("weight", weight),
        "pos_weight": number("pos_weight", pos_weight, low=0.0),
        "label_smoothing": number("label_smoothing", label_smoothing, low=0.0, high=1.0),
        **parameters,
        "denominator": number("denominator", denominator, low=0.0) if chosen.denominator is None else None,
    }
    options = {name: x for name, x in options.items() if x is not None}
    backend, given = adopted_by_name(**{name: x, "labels": labels, **options})
    x = given[name]
    compute, _ = floating(backend, name, x, dtype)
    form = layout.elements(backend, x)
    place = layout.place_along(name, x, axis)
    kind = given_labels.binary_kind(form, given["labels"], given.get("ignore_index"), name)
    cast_options = {
        option: cast(backend, option, given[option], compute)
        for option in options
        if option not in {"where", "ignore_index"}
    }
    arguments = {**given, **cast_options}
    if kind == "number":
        arguments["labels"] = given["labels"] = backend.scalar(float(labels), x, compute)
    if isinstance(arguments.get("weight"), float):
        arguments["weight"] = backend.scalar(arguments["weight"], x, compute)
    if "where" in options:
        arguments["where"] = mask(backend, x, arguments["where"])
    ways = {name: form.whole, "labels": form.whole, "ignore_index": None, "denominator": None, "eps": None}
    for option in ("where", "weight", "pos_weight", "label_smoothing", "gamma", "alpha"):
        ways[option] = layout.per_element(form, option, arguments.get(option), place if option in _ALONG else None)
    for option in ("ignore_index", "denominator", "eps"):
        layout.scalar(form, option, arguments.get(option))
    in_bounds = given_labels.check_binary(form, labels, arguments, ways, check=check)
    if kind == "integer":
        arguments |= given_labels.widened(backend, labels, arguments["labels"], arguments.get("ignore_index"))
    given_labels.check_options(backend, cast_options, check, given_labels.BINARY_BOUNDS)
    if chosen.divides_by_weight:
        given_labels.refuse_negative(
            form, "weight", arguments, ways, partial(formula.taking_part, backend), check=check
        )
    total = arguments.pop("denominator", None)
    arguments = {option: value for option, value in arguments.items() if value is not None}
    plain = not {"where", "ignore_index", "weight"} & set(arguments)
    return Call(
        form,
        arguments=arguments,
        given=given,
        denominator=total,
        ways=tuple(ways[argument] for argument in arguments),
        formula=formula,
        ending=Loss(chosen, plain=plain),
        static=(
            ("dtype", compute),
            ("mass", chosen.mass),
            ("in_bounds", in_bounds),
        ),
    )


_ALONG = ("weight", "pos_weight")  # options that may have one value for each place along the axis

CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    binary_cross_entropy: (binary_cross_entropy_call, formula),
    binary_cross_entropy_from_probs: (binary_cross_entropy_from_probs_call, formula),
    binary_focal_loss: (binary_focal_loss_call, formula),
}
