"""Targets of categorical losses as distributions: labels one-hot, and smoothed."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import (
    adopted,
    arithmetic,
    cast,
    dtype_name,
    floating,
    floating_dtype,
    integer,
    kind_of,
    mask,
    number,
    tristate,
)
from softxent.calls import Call
from softxent.endings import SameShape
from softxent.formulas import distribution
from softxent.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula


def one_hot(
    labels: Any,
    num_classes: int,
    *,
    axis: int = -1,
    ignore_index: Any = None,
    dtype: Any = None,
    check: bool | None = None,
) -> Any:
    """Class labels as distributions: 1 at the label, 0 elsewhere.

    Parameters
    ----------
    labels : array
        Class indices from 0 to ``num_classes - 1``, any shape and integer dtype.
    num_classes : int
        Number of classes, C.
    axis : int, default -1
        Where the class axis is put among the axes of the result.
    ignore_index : int or 0-d array, optional
        Examples with this label get a row of 0, which losses take as no example.
    dtype : dtype or str, optional
        Floating dtype of the result; the library's default one otherwise.
    check : bool, optional
        By default labels out of range are refused where values can be read for free. True always reads them; False
        never.

    Returns
    -------
    array
        Of the labels' shape with C inserted at ``axis``, of their library and device.

    Raises
    ------
    TypeError
        If the labels are no array or not of an integer dtype, or ``dtype`` is not floating.
    ValueError
        If a label is out of range, ``axis`` is, or ``num_classes`` is negative.

    See Also
    --------
    smooth_labels : distributions that are not quite one-hot.
    cross_entropy : takes class indices as they are.

    Notes
    -----
    A label out of range that is not refused (in a trace, on an accelerator, lazy) gives a row of NaN: it never wraps
    around and never turns into 0. The values are exact.

    References
    ----------
    C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4 (1-of-K coding).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import one_hot
    >>> one_hot(np.asarray([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    if kind_of(getattr(labels, "dtype", "int64")) != "integer":
        msg = f"labels must have an integer dtype, got {dtype_name(labels.dtype)}; class indices are integers"
        raise TypeError(msg)
    return _distributions(
        labels, None, num_classes=_count(num_classes), axis=axis, ignore_index=ignore_index, dtype=dtype, check=check
    ).value()


def smooth_labels(
    labels: Any,
    label_smoothing: Any,
    *,
    num_classes: int | None = None,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    smoothing_prior: Any = None,
    ignore_index: Any = None,
    dtype: Any = None,
    check: bool | None = None,
) -> Any:
    """Labels mixed with a prior over the classes, (1 - ε) q + ε u: what ``label_smoothing`` does in the losses.

    Parameters
    ----------
    labels : array
        Floating: one distribution an example along ``axis``. Integers: class indices, for which ``num_classes`` is
        needed.
    label_smoothing : float or array
        ε from 0 to 1, a scalar or one an example.
    num_classes : int, optional
        Number of classes C, for integer labels only.
    axis : int, tuple of int or None, default -1
        The class axis of the result (for integer labels an int).
    where : bool or array of bool, optional
        Of the batch shape or of the result's number of dimensions, sizes equal or 1: what takes part, as in
        :func:`cross_entropy`. Classes that do not get nothing of ε.
    smoothing_prior : array, optional
        u, shape ``(C,)``, rescaled to sum to 1 over the classes that take part; uniform over these by default.
    ignore_index : int or 0-d array, optional
        Integer labels that take no part.
    dtype : dtype or str, optional
        Floating dtype of the result; that of floating labels, or the library's default one, otherwise.
    check : bool, optional
        As for :func:`cross_entropy`.

    Returns
    -------
    array
        Of the shape of floating labels, or of integer labels with C inserted at ``axis``.

    Raises
    ------
    TypeError, ValueError
        As :func:`cross_entropy`; a ValueError too if ``num_classes`` is missing or not needed.

    See Also
    --------
    one_hot : without smoothing.

    Notes
    -----
    - An example that takes no part (an ignored label, labels all 0, no class left) is a row of 0, which losses take as
      no example.
    - The loss of an example is the same with ``label_smoothing=``. A mean with class weights is not, since it divides
      by the weight of the labels as given, and these are then the smoothed ones; so is a z-loss with class weights.
    - float16 and bfloat16 are computed in float32 and rounded once. Correct to 2 units in the last place otherwise.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import smooth_labels
    >>> smooth_labels(np.asarray([[0.0, 1.0, 0.0, 0.0]]), 0.1)
    array([[0.025, 0.925, 0.025, 0.025]])
    >>> smooth_labels(np.asarray([1]), 0.1, num_classes=4)
    array([[0.025, 0.925, 0.025, 0.025]])
    """
    return smooth_labels_call(
        labels,
        label_smoothing,
        num_classes=num_classes,
        axis=axis,
        where=where,
        smoothing_prior=smoothing_prior,
        ignore_index=ignore_index,
        dtype=dtype,
        check=check,
    ).value()


def smooth_labels_call(labels: Any, label_smoothing: Any, *, num_classes: Any, **options: Any) -> Call:
    """A call of smooth_labels, checked and laid out, ready to be differentiated."""
    if label_smoothing is None:
        msg = "label_smoothing must be a number or an array, got None; 0.0 smooths nothing"
        raise ValueError(msg)
    return _distributions(
        labels, label_smoothing, num_classes=None if num_classes is None else _count(num_classes), **options
    )


def _count(num_classes: Any) -> int:
    if not isinstance(num_classes, Integral) or isinstance(num_classes, bool):
        msg = f"num_classes must be an int, got {num_classes!r}; a shape has to be known"
        raise TypeError(msg)
    if num_classes < 0:
        msg = f"num_classes must be at least 0, got {num_classes}; it is the number of classes"
        raise ValueError(msg)
    return int(num_classes)


def _distributions(
    labels: Any,
    label_smoothing: Any,
    *,
    num_classes: int | None,
    axis: Any,
    where: Any = None,
    smoothing_prior: Any = None,
    ignore_index: Any = None,
    dtype: Any = None,
    check: bool | None = None,
) -> Call:
    tristate("check", check)
    caller, ignore_index = labels, integer("ignore_index", ignore_index)
    backend, (labels, label_smoothing, where, smoothing_prior, ignore_index) = adopted(
        labels=labels,
        label_smoothing=number("label_smoothing", label_smoothing, low=0.0, high=1.0),
        where=where,
        smoothing_prior=smoothing_prior,
        ignore_index=ignore_index,
    )
    hard = kind_of(labels.dtype) == "integer"
    if hard:
        if num_classes is None:
            msg = "num_classes must be given beside integer labels, got None; pass the number of classes"
            raise ValueError(msg)
        form = layout.with_classes(backend, labels, num_classes, axis)
        seen = backend.default_float(labels) if dtype is None else floating_dtype(backend, dtype, labels)
        compute = arithmetic(backend, seen)
    else:
        form = layout.aligned(backend, "labels", labels, axis)
        given_labels.is_hard(form, labels)
        given_labels.refuse_beside_distributions(num_classes=num_classes, ignore_index=ignore_index)
        compute, seen = floating(backend, "labels", labels, dtype)
    options = {"label_smoothing": label_smoothing, "smoothing_prior": smoothing_prior}
    arguments = {"labels": labels, "where": mask(backend, labels, where), "ignore_index": ignore_index}
    ways = {
        "labels": Layout.per_row if hard else form.whole,
        "where": layout.example_or_class_mask(form, "where", arguments["where"]),
        "ignore_index": layout.scalar(form, "ignore_index", ignore_index),
    }
    if hard:
        given_labels.check_range(form, caller, arguments, ways, check=check)
        arguments |= given_labels.comparable(form, labels, caller, labels, ignore_index)
    elif check:
        given_labels.check_distributions(form, arguments, ways, compute)
    arguments |= {name: cast(backend, name, x, compute) for name, x in options.items()}
    ways["label_smoothing"] = layout.per_example(form, "label_smoothing", arguments["label_smoothing"])
    ways["smoothing_prior"] = layout.per_class(form, "smoothing_prior", arguments["smoothing_prior"])
    given_labels.check_options(backend, arguments, check)
    return Call(
        form,
        arguments=arguments,
        given={"labels": labels, **options},
        denominator=None,
        ways=tuple(ways.values()),
        formula=distribution,
        ending=SameShape(),
        static=(("size", form.size), ("hard", hard), ("dtype", compute), ("result", seen)),
    )


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    smooth_labels: (smooth_labels_call, distribution),
}
