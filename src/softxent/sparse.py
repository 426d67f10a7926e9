"""Sparse relatives of softmax: sparsemax and entmax, their losses, and the loss of any other such map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import adopted, cast, floating, mask, number
from softxent.calls import Call, remembered
from softxent.categorical import categorical
from softxent.endings import SameShape
from softxent.formulas import entmax as map_formula
from softxent.formulas import entmax_loss as loss_formula
from softxent.formulas import fenchel_young as young_formula
from softxent.layout import Layout
from softxent.normalizers import softmax_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula

Array = Any
ArrayT = TypeVar("ArrayT")


def sparsemax(
    logits: ArrayT, *, axis: int | tuple[int, ...] | None = -1, where: Any = None, dtype: Any = None
) -> ArrayT:
    """The distribution nearest to the logits: max(x_j - τ, 0) with the τ for which the sum is 1.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to normalise along; several of them jointly; None for all. ``()`` normalises each element alone.
    where : bool or array of bool, optional
        Broadcasts against the logits. Classes where it is False get probability 0 and are not looked at.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError
        If an argument is no array, is complex or of another library than the logits, if ``where`` is not bool, or
        ``dtype`` not floating.
    ValueError
        If ``axis`` is out of range or repeated, ``where`` does not broadcast to the logits' shape, or arrays are on two
        devices.

    See Also
    --------
    entmax : a family of maps with this one and softmax in it; has the notes on special values and accuracy.
    sparsemax_loss : the loss that belongs to it.

    Notes
    -----
    - Logits more than 1 below the largest have probability exactly 0, and others may: the support is found by sorting.
    - The Jacobian is diag(s) - s sᵀ / Σ s, s being 1 on the support and 0 off it. At the border of the support, where
      there is no derivative, it is that of what has probability 0.

    References
    ----------
    A. F. T. Martins, R. F. Astudillo, "From softmax to sparsemax", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import sparsemax
    >>> sparsemax(np.asarray([[1.0, 0.5], [3.0, 0.5]]))
    array([[0.75, 0.25],
           [1.  , 0.  ]])
    """
    return sparsemax_call(logits, axis=axis, where=where, dtype=dtype).value()


def entmax(
    logits: ArrayT, alpha: Any = 1.5, *, axis: int | tuple[int, ...] | None = -1, where: Any = None, dtype: Any = None
) -> ArrayT:
    """Softmax that can be sparse: [(α - 1) x_j - τ]₊^(1 / (α - 1)) with the τ for which the sum is 1.

    α = 1 is softmax, α = 2 is :func:`sparsemax`. The larger α is, the more probabilities are 0.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    alpha : float or array, default 1.5
        α, at least 1. An array has one value a row: it broadcasts against the logits, with size 1 along the class axis.
        It is differentiable, and cast to the dtype of the arithmetic; rows where it is less than 1 are NaN.
    axis : int, tuple of int or None, default -1
        The axis to normalise along; several of them jointly; None for all. ``()`` normalises each element alone.
    where : bool or array of bool, optional
        Broadcasts against the logits. Classes where it is False get probability 0 and are not looked at.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError
        If an argument is no array, is complex or of another library than the logits, if ``where`` is not bool, or
        ``dtype`` not floating.
    ValueError
        If ``alpha`` is a number less than 1 or differs between classes, ``axis`` is out of range or repeated, an
        option does not broadcast to the logits' shape, or arrays are on two devices.

    See Also
    --------
    sparsemax : α = 2.
    softmax : α = 1.
    entmax_loss : the loss that belongs to it.

    Notes
    -----
    - A logit of -inf has probability 0. A row with no class left by ``where`` is 0, with derivative 0.
    - A row of -inf alone, with +inf or with NaN among the classes that take part, is NaN.
    - The number 1 is softmax to the last digit. An array may hold 1 too: value and derivatives, that by α among them,
      pass through it without a gap.
    - 1.5 and 2 as numbers are solved by sorting. For others a fixed number of Newton's steps converges to the last
      digit, on a convex problem; their number grows with log2 of the classes. An array, whose values are not looked at,
      is taken through what α ≤ 2 and what α > 2 need: numbers are faster. JAX compiles anew for every number.
    - With s_j = p_j^(2 - α) on the support and 0 off it, each value is within 4 u of p_j (1 - log p_j) plus s_j times
      the largest difference of logits within the support. float16 and bfloat16 are computed in float32 and rounded
      once.
    - The Jacobian is diag(s) - s sᵀ / Σ s. At the border of the support, where there is no derivative, it is that of
      what has probability 0. Derivatives are within (4 + r) u Σ of the absolute values of their terms, r being the
      largest of those bounds relative to its p: many u where a probability is about to leave the support.

    References
    ----------
    B. Peters, V. Niculae, A. F. T. Martins, "Sparse sequence-to-sequence models", 2019; G. M. Correia, V. Niculae,
    A. F. T. Martins, "Adaptively sparse transformers", 2019 (the derivative by α).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import entmax
    >>> x = np.asarray([[2.0, 1.0, -1.0]])
    >>> entmax(x)
    array([[0.83071891, 0.16928109, 0.        ]])
    >>> entmax(x, np.asarray([[1.0]]))
    array([[0.70538451, 0.25949646, 0.03511903]])
    """
    return entmax_call(logits, alpha=alpha, axis=axis, where=where, dtype=dtype).value()


def sparsemax_loss(
    logits: Any,
    labels: Any,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """The loss whose gradient by the logits is sparsemax minus the label: :func:`entmax_loss` with α = 2.

    Parameters
    ----------
    logits, labels, axis, where, ignore_index, sample_weight, reduction, denominator, empty_mean, check, dtype
        As for :func:`entmax_loss`.

    Returns
    -------
    loss : array
        As :func:`entmax_loss`.

    Raises
    ------
    TypeError, ValueError
        As :func:`entmax_loss`.

    See Also
    --------
    sparsemax : the map.
    entmax_loss : the family; has the notes on special values and accuracy.

    Notes
    -----
    - It is Σ (q_j - p_j)² / 2, and q_j times what the logit lacks to the threshold off the support; exactly 0 once the
      label's logit is 1 above all others.

    References
    ----------
    A. F. T. Martins, R. F. Astudillo, "From softmax to sparsemax", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import sparsemax_loss
    >>> sparsemax_loss(np.asarray([[1.0, 0.5], [3.0, 0.5]]), np.asarray([0, 1]), reduction="none")
    array([0.0625, 2.5   ])
    """
    return sparsemax_loss_call(
        logits,
        labels,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def entmax_loss(
    logits: Any,
    labels: Any,
    alpha: Any = 1.5,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    ignore_index: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """The loss whose gradient by the logits is entmax minus the label.

    It is max_p (⟨p, x⟩ + H(p)) - ⟨q, x⟩ - H(q) with Tsallis' entropy H(p) = Σ (p_j - p_j^α) / (α (α - 1)), the maximum
    over all distributions p; q is the label. α = 1 makes it cross-entropy minus the entropy of the label.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    labels : array or int
        Class indices (an integer dtype) of the logits' shape without the class axis, or distributions (a floating
        dtype) of the logits' shape. Distributions that sum to Q count Q times as much as those divided by Q.
    alpha : float or array, default 1.5
        α, at least 1: a scalar or one value an example. An array is differentiable; rows where it is less than 1 are
        NaN.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all.
    where : bool or array of bool, optional
        Examples (batch shape) or classes (the logits' number of dimensions) that take part, sizes equal or 1.
    ignore_index : int or 0-d array, optional
        Examples with this label take no part; for class indices.
    sample_weight : float or array, optional
        What each example weighs: a scalar or the batch shape, sizes equal or 1. An example of weight 0 takes no part.
    reduction, denominator, empty_mean
        As for :func:`cross_entropy`.
    check : bool, optional
        As for :func:`cross_entropy`: by default class indices out of range are refused where values can be read for
        free; True checks distributions and options too.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic.

    Returns
    -------
    loss : array
        A 0-d array; of the batch shape for reduction="none"; for "sum_and_weight" a tuple of two 0-d arrays. Of the
        logits' library and device, and of their floating dtype, but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If an argument is no array, has a dtype that cannot be what it is for, or belongs to another library than the
        logits.
    ValueError
        If shapes do not fit, a label is out of range, ``alpha`` is a number less than 1, a number is out of its bounds,
        arrays are on two devices, or an option cannot matter beside the others.

    See Also
    --------
    entmax : the map.
    cross_entropy : α = 1, where the entropy of the label is a constant.

    Notes
    -----
    - It is computed as a sum of terms that are not negative, so that small losses are not lost: it is 0 if and only if
      entmax of the logits is the label, which for α > 1 happens at finite logits.
    - A label on a logit of -inf, or on a class dropped by ``where``, costs +inf. Elsewhere -inf is a class that is out.
    - An example that takes no part has loss 0 and derivative 0. A row of -inf alone, with +inf or with NaN is NaN.
    - The derivative by a distribution is 0 where it would be infinite: at 0 for α = 1, and at a logit of -inf.
    - A loss is within 6 units in the last place and u Σ abs(p - q) times the gap to the largest logit.
    - Second derivatives (:func:`hvp`, :func:`hessian_diagonal`) are those of the support as it is.

    References
    ----------
    M. Blondel, A. F. T. Martins, V. Niculae, "Learning with Fenchel-Young losses", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import entmax_loss
    >>> entmax_loss(np.asarray([[2.0, 1.0, -1.0], [0.0, 3.0, 0.0]]), np.asarray([0, 2]), reduction="none")
    array([0.06165587, 3.        ])
    """
    return entmax_loss_call(
        logits,
        labels,
        alpha=alpha,
        axis=axis,
        where=where,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


def fenchel_young_loss(
    logits: Any,
    labels: Any,
    *,
    mapping: Callable[[Any], Any],
    regulariser: Callable[[Any], Any],
    axis: int | tuple[int, ...] | None = -1,
    ignore_index: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    denominator: Any = "weight",
    empty_mean: str = "zero",
    check: bool | None = None,
    dtype: Any = None,
) -> Any:
    """The loss that belongs to a map of your own, p(x) = argmax_p ⟨p, x⟩ - Ω(p): Ω(q) - Ω(p) + ⟨p - q, x⟩.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    labels : array or int
        Class indices of the logits' shape without the class axis, or arrays of the logits' shape with what q is.
    mapping : function
        Takes the logits, in the dtype of the arithmetic, and returns p(x), of their shape.
    regulariser : function
        Takes an array of the logits' shape, p(x) or the label, and returns Ω of each example: the logits' shape without
        the class axis.
    axis : int, tuple of int or None, default -1
        The class axis; several of them jointly; None for all. Both functions have to know it themselves.
    ignore_index : int or 0-d array, optional
        Examples with this label take no part; for class indices. Their logits are 0 for both functions.
    sample_weight : float or array, optional
        What each example weighs: a scalar or the batch shape, sizes equal or 1.
    reduction, denominator, empty_mean, check
        As for :func:`cross_entropy`; ``check`` looks at no distributions, which q need not be.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic.

    Returns
    -------
    loss : array
        As :func:`cross_entropy`.

    Raises
    ------
    TypeError
        If ``mapping`` or ``regulariser`` is no function, or for an argument that is none of what it is for.
    ValueError
        If shapes do not fit, what the functions return included, or a label is out of range.

    See Also
    --------
    entmax_loss, sparsemax_loss, cross_entropy : such losses, with every digit.

    Notes
    -----
    - The derivative by the logits is p(x) - q, without differentiating ``mapping``: where p is the maximum it does not
      matter how it moves. Second derivatives, which are those of ``mapping``, are not there: automatic differentiation
      takes them for 0.
    - The derivative by distributions is what automatic differentiation makes of ``regulariser``.
    - The loss is not negative, but for rounding, if ``mapping`` is the argmax that belongs to ``regulariser``. It is a
      difference: of a loss much smaller than Ω and ⟨p - q, x⟩ digits are lost.

    References
    ----------
    M. Blondel, A. F. T. Martins, V. Niculae, "Learning with Fenchel-Young losses", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import fenchel_young_loss, sparsemax
    >>> fenchel_young_loss(
    ...     np.asarray([[1.0, 0.5], [3.0, 0.5]]),
    ...     np.asarray([0, 1]),
    ...     mapping=sparsemax,
    ...     regulariser=lambda p: 0.5 * np.sum(p * p, axis=-1),
    ...     reduction="none",
    ... )
    array([0.0625, 2.5   ])
    """
    return fenchel_young_loss_call(
        logits,
        labels,
        mapping=mapping,
        regulariser=regulariser,
        axis=axis,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        reduction=reduction,
        denominator=denominator,
        empty_mean=empty_mean,
        check=check,
        dtype=dtype,
    ).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


@remembered("logits")
def sparsemax_call(logits: Any, *, axis: Any, where: Any, dtype: Any) -> Call:
    """A call of sparsemax, checked and laid out."""
    return _mapping(logits, 2.0, axis=axis, where=where, dtype=dtype)


@remembered("logits")
def entmax_call(logits: Any, *, alpha: Any, axis: Any, where: Any, dtype: Any) -> Call:
    """A call of entmax."""
    alpha = _at_least_1(alpha)
    if isinstance(alpha, float) and alpha == 1.0:
        return softmax_call(logits, axis=axis, where=where, temperature=None, dtype=dtype)
    return _mapping(logits, alpha, axis=axis, where=where, dtype=dtype)


def _at_least_1(alpha: Any) -> Any:
    """α as a float, or an array that is not looked at."""
    if alpha is None:
        msg = "alpha must be a number or an array, got None; 1.0 is softmax, 2.0 sparsemax"
        raise ValueError(msg)
    return number("alpha", alpha, low=1.0)


def _mapping(logits: Any, alpha: Any, *, axis: Any, where: Any, dtype: Any) -> Call:
    backend, (logits, alpha, where) = adopted(logits=logits, alpha=alpha, where=where)
    compute, result = floating(backend, "logits", logits, dtype)
    form = layout.aligned(backend, "logits", logits, axis)
    where = mask(backend, logits, where)
    ways = [form.whole, layout.broadcast(form, "where", where)]
    arguments = {"logits": logits, "where": where}
    static: tuple[tuple[str, Any], ...] = (("dtype", compute), ("result", result))
    if isinstance(alpha, float):
        static = (*static, ("alpha", alpha))
    else:
        arguments["alpha"] = cast(backend, "alpha", alpha, compute)
        ways.append(layout.broadcast(form, "alpha", alpha))
        _check_one_a_row(form, alpha)
    return Call(
        form,
        arguments=arguments,
        given={"logits": logits, "alpha": alpha},
        denominator=None,
        ways=tuple(ways),
        formula=map_formula,
        ending=SameShape(),
        static=static,
        per_example=False,
    )


def _check_one_a_row(form: Layout, alpha: Array) -> None:
    """α is the same for all classes of a row."""
    shape = (*(1 for _ in range(len(form.shape) - alpha.ndim)), *alpha.shape)
    if any(shape[d] != 1 for d in form.axes):
        full = tuple(1 if d in form.axes else n for d, n in enumerate(form.shape))
        msg = (
            f"alpha must be one value a row, of size 1 along the class axis, got shape {tuple(alpha.shape)} beside "
            f"logits of {form.shape}; reshape it, for example to {full}"
        )
        raise ValueError(msg)


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def sparsemax_loss_call(logits: Any, labels: Any, **options: Any) -> Call:
    """A call of sparsemax_loss."""
    return _loss(logits, labels, 2.0, **options)


@remembered("logits", "labels", checked=given_labels.rechecked_range)
def entmax_loss_call(logits: Any, labels: Any, *, alpha: Any, **options: Any) -> Call:
    """A call of entmax_loss."""
    return _loss(logits, labels, _at_least_1(alpha), **options)


def _loss(logits: Any, labels: Any, alpha: Any, **options: Any) -> Call:
    """A call of a cross-entropy, of which the loss is another."""
    numeric = isinstance(alpha, float)
    call = categorical(
        "logits",
        logits,
        labels,
        alpha=None if numeric else alpha,
        weight=None,
        label_smoothing=None,
        smoothing_prior=None,
        ways=_WAYS,
        bounds=_BOUNDS,
        **options,
    )
    static = {name: option for name, option in call.static if name not in {"aux", "in_bounds"}}
    static |= {"alpha": alpha} if numeric else {}
    return call._replace(formula=loss_formula, static=(*static.items(), call.static[-1]))


# α is one for each example, not one for each class.
_WAYS = {"alpha": layout.per_example}
_BOUNDS: given_labels.Bounds = {
    **given_labels.BOUNDS,
    "alpha": ("finite and at least 1", lambda a: a >= 1),
}


def fenchel_young_loss_call(
    logits: Any, labels: Any, *, mapping: Callable[[Any], Any], regulariser: Callable[[Any], Any], **options: Any
) -> Call:
    """A call of fenchel_young_loss: both functions have been called when it is made."""
    for name, function in (("mapping", mapping), ("regulariser", regulariser)):
        if not callable(function):
            msg = (
                f"{name} must be a function of an array of the logits' shape, got {function!r}; "
                "pass for example a lambda"
            )
            raise TypeError(msg)
    call = _loss(logits, labels, None, where=None, distributions=False, **options)
    form, backend, static = call.form, call.form.backend, dict(call.static)
    if not static["hard"]:
        names = ("q" if name == "labels" else name for name in call.arguments)
        call = call._replace(arguments=dict(zip(names, call.arguments.values(), strict=True)))

    def evaluated() -> dict[str, Array]:
        x, q = young_formula.safe(backend, axis=form.axis, **static, **call.operands)
        still = mapping(form.outward(backend.stop_gradient(x)))
        p = backend.stop_gradient(_returned("mapping", still, form.shape))
        of_p, of_q = (_returned("regulariser", regulariser(y), form.batch_shape) for y in (p, form.outward(q)))
        return {"p": p, "of_p": backend.stop_gradient(of_p), "of_q": of_q}

    return call._replace(
        arguments={**call.arguments, **backend.quietly(evaluated)},
        ways=(*call.ways, form.whole, Layout.per_row, Layout.per_row),
        formula=young_formula,
    )


def _returned(name: str, x: Any, shape: tuple[Any, ...]) -> Array:
    """What a function of the caller's has made, of the shape that it should have."""
    found = getattr(x, "shape", None)
    if found is None or not layout.same(tuple(found), shape):
        came = type(x).__name__ if found is None else f"shape {tuple(found)}"
        of_what = "one number an example" if name == "regulariser" else "one a logit"
        msg = f"{name} must return an array of shape {shape}, got {came}; it is {of_what}"
        raise ValueError(msg)
    return x


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    entmax: (entmax_call, map_formula),
    entmax_loss: (entmax_loss_call, loss_formula),
    fenchel_young_loss: (fenchel_young_loss_call, young_formula),
    sparsemax: (sparsemax_call, map_formula),
    sparsemax_loss: (sparsemax_loss_call, loss_formula),
}
