"""Normalisers: softmax, its logarithm, its mirror image softmin, and logsumexp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from softxent import layout
from softxent.arguments import adopted, cast, flag, floating, mask, number
from softxent.calls import Call, remembered
from softxent.endings import Rows, SameShape
from softxent.formulas import log_softmax as log_softmax_formula
from softxent.formulas import logsumexp as logsumexp_formula
from softxent.formulas import softmax as softmax_formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula

Array = Any
ArrayT = TypeVar("ArrayT")


def softmax(
    logits: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    temperature: Any = None,
    dtype: Any = None,
) -> ArrayT:
    """Probabilities from logits: exp(x_j / T) / Σ_k exp(x_k / T) along the class axis.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to normalise along; several of them jointly; None for all. ``()`` normalises each element alone.
    where : bool or array of bool, optional
        Broadcasts against the logits. Classes where it is False get probability 0 and are not looked at.
    temperature : float or array, optional
        Divides the logits; an array broadcasts against them. Rows where it is not positive are NaN.
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
        If ``axis`` is out of range or repeated, an option does not broadcast to the logits' shape, or ``temperature``
        is a number that is not positive, or arrays are on two devices.

    See Also
    --------
    log_softmax : its logarithm, to every digit.
    cross_entropy : the loss, which needs no softmax before it.

    Notes
    -----
    - A logit of -inf has probability 0. A row with no class left by ``where`` is 0, with derivative 0.
    - A row of -inf alone, with +inf or with NaN among the classes that take part, is NaN.
    - float16 and bfloat16 are computed in float32 and rounded once. Each value is within 4 + g units in the last place
      of exact, where g is the distance of its logit to the largest one over the temperature.
    - Derivatives by torch's and jax's autodiff are as accurate as the values, also of probabilities next to 1.
    - NumPy and torch on the CPU work through the rows in blocks: beside the result, memory is needed for one block.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import softmax
    >>> softmax(np.asarray([6.0, 6.0, -6.0]))
    array([4.99998464e-01, 4.99998464e-01, 3.07209674e-06])
    >>> softmax(np.asarray([1.0, 2.0, 99.0]), where=np.asarray([True, True, False]))
    array([0.26894142, 0.73105858, 0.        ])
    """
    return softmax_call(logits, axis=axis, where=where, temperature=temperature, dtype=dtype).value()


def log_softmax(
    logits: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    temperature: Any = None,
    dtype: Any = None,
) -> ArrayT:
    """Log-probabilities from logits: x_j / T - log Σ_k exp(x_k / T) along the class axis.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to normalise along; several of them jointly; None for all.
    where : bool or array of bool, optional
        Broadcasts against the logits. Classes where it is False get -inf and are not looked at.
    temperature : float or array, optional
        Divides the logits; an array broadcasts against them. Rows where it is not positive are NaN.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax`.

    See Also
    --------
    softmax : the probabilities.

    Notes
    -----
    - The value of the largest logit is -log1p of what the others add up to, so it is never lost: of ``[40, 0]`` it is
      -4.2e-18, where ``x - logsumexp(x)`` is 0.
    - A logit of -inf gives -inf. A row with no class left by ``where`` is -inf, with derivative 0; a row of -inf alone
      without ``where``, with +inf or with NaN is NaN.
    - Each value is within 4 + g units in the last place of exact, g being the distance to the largest logit over the
      temperature; float16 and bfloat16 are computed in float32 and rounded once.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import log_softmax
    >>> log_softmax(np.asarray([40.0, 0.0]))
    array([-4.24835426e-18, -4.00000000e+01])
    """
    return log_softmax_call(logits, axis=axis, where=where, temperature=temperature, dtype=dtype).value()


def softmin(
    logits: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    temperature: Any = None,
    dtype: Any = None,
) -> ArrayT:
    """Softmax of the negative: the smallest entry gets the largest probability.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype. Unsigned integers are made floating before they are negated.
    axis, where, temperature, dtype
        As for :func:`softmax`.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmax`.

    See Also
    --------
    softmax : has the notes on special values and accuracy, which hold for -logits.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import softmin
    >>> softmin(np.asarray([0, 1], dtype=np.uint8))
    array([0.73105858, 0.26894142])
    """
    return softmin_call(logits, axis=axis, where=where, temperature=temperature, dtype=dtype).value()


def logsumexp(
    x: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    b: Any = None,
    where: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    dtype: Any = None,
) -> Any:
    """Logarithm of the sum of exponentials along an axis, log Σ_k b_k exp(x_k).

    Parameters
    ----------
    x : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to sum along; several of them; None for all. (SciPy's and JAX's default is None.)
    b : float or array, optional
        Weights of either sign; broadcasts against ``x`` and is cast to its dtype. An entry with weight 0 is absent,
        whatever ``x`` is there.
    where : bool or array of bool, optional
        Broadcasts against ``x``. Entries where it is False are absent.
    keepdims : bool, default False
        Keep the summed axes, with size 1.
    return_sign : bool, default False
        Return the logarithm of the absolute value, and the sign, as two arrays.
    dtype : dtype or str, optional
        Floating dtype that ``x`` is cast to before the arithmetic, and of the result.

    Returns
    -------
    array, or tuple of two arrays
        Of the shape of ``x`` without the summed axes. With ``return_sign`` also the sign: 1, -1, or 0 for an empty sum.

    Raises
    ------
    TypeError
        If an argument is no array, is complex or of another library than ``x``, or ``where`` is not bool.
    ValueError
        If ``axis`` is out of range or repeated, or an option does not broadcast to the shape of ``x``.

    Notes
    -----
    - A sum that is 0, empty, or of -inf alone gives -inf (sign 0), with derivative 0.
    - A negative sum gives NaN without ``return_sign``. +inf gives +inf; +inf with weights of both signs gives NaN.
    - Within 4 units in the last place but for its condition number, Σ abs(b exp x) / abs(Σ b exp x) and, near 0, the
      size of ``x`` over that of the result. float16 and bfloat16 are computed in float32 and rounded once.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import logsumexp
    >>> float(logsumexp(np.asarray([1000.0, 1000.0])))
    1000.6931471805599
    >>> logsumexp(np.asarray([1.0, 2.0]), b=np.asarray([1, -1]), return_sign=True)
    (array(1.54132485), array(-1.))
    """
    return logsumexp_call(
        x, axis=axis, b=b, where=where, keepdims=keepdims, return_sign=return_sign, dtype=dtype
    ).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


@remembered("logits")
def softmax_call(logits: Any, **options: Any) -> Call:
    """A call of softmax, checked and laid out."""
    return _normalising(softmax_formula, logits, negate=False, **options)


@remembered("logits")
def softmin_call(logits: Any, **options: Any) -> Call:
    """A call of softmin."""
    return _normalising(softmax_formula, logits, negate=True, **options)


@remembered("logits")
def log_softmax_call(logits: Any, **options: Any) -> Call:
    """A call of log_softmax."""
    return _normalising(log_softmax_formula, logits, **options)


def _normalising(
    formula: Formula, logits: Any, *, axis: Any, where: Any, temperature: Any, dtype: Any, **static: Any
) -> Call:
    temperature = number("temperature", temperature, low=0.0, above=True)
    backend, (logits, where, temperature) = adopted(logits=logits, where=where, temperature=temperature)
    compute, result = floating(backend, "logits", logits, dtype)
    form = layout.aligned(backend, "logits", logits, axis)
    where = mask(backend, logits, where)
    of_where = layout.broadcast(form, "where", where)
    heat = cast(backend, "temperature", temperature, compute)
    return Call(
        form,
        arguments={"logits": logits, "where": where, "temperature": heat},
        given={"logits": logits, "temperature": temperature},
        denominator=None,
        ways=(form.whole, of_where, layout.broadcast(form, "temperature", heat)),
        formula=formula,
        ending=SameShape(),
        static=(("dtype", compute), ("result", result), *static.items()),
        per_example=False,
    )


@remembered("x")
def logsumexp_call(x: Any, *, axis: Any, b: Any, where: Any, keepdims: bool, return_sign: bool, dtype: Any) -> Call:
    """A call of logsumexp."""
    keepdims, return_sign = flag("keepdims", keepdims), flag("return_sign", return_sign)
    b = number("b", b)
    backend, (x, b, where) = adopted(x=x, b=b, where=where)
    compute, result = floating(backend, "x", x, dtype)
    form = layout.aligned(backend, "x", x, axis)
    weights = cast(backend, "b", backend.scalar(b, x, compute) if isinstance(b, float) else b, compute)
    of_weights = layout.broadcast(form, "b", weights)
    where = mask(backend, x, where)
    return Call(
        form,
        arguments={"x": x, "b": weights, "where": where},
        given={"x": x, "b": b},
        denominator=None,
        ways=(form.whole, of_weights, layout.broadcast(form, "where", where)),
        formula=logsumexp_formula,
        ending=Rows(result, keepdims, return_sign),
        static=(("dtype", compute), ("result", result), ("signed", return_sign)),
        beside=return_sign,
        per_example=False,
    )


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    log_softmax: (log_softmax_call, log_softmax_formula),
    logsumexp: (logsumexp_call, logsumexp_formula),
    softmax: (softmax_call, softmax_formula),
    softmin: (softmin_call, softmax_formula),
}
