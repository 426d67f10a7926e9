"""Functions of each element alone: the sigmoid family, and terms of entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from softxent import layout
from softxent.arguments import adopted, floating, jointly_floating, number
from softxent.calls import Call, remembered
from softxent.endings import Rows
from softxent.formulas import information
from softxent.formulas import sigmoid as sigmoid_family

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula
    from softxent.formulas.elementwise import Elementwise

Array = Any
ArrayT = TypeVar("ArrayT")


def sigmoid(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """The logistic function 1 / (1 + exp(-x)): the probability that a logit stands for.

    Parameters
    ----------
    x : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    dtype : dtype or str, optional
        Floating dtype that ``x`` is cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        If ``x`` is no array, or not real.

    See Also
    --------
    log_sigmoid : its logarithm, which keeps what rounding to 1 loses.
    logit : its inverse.

    Notes
    -----
    - Right in both tails: sigmoid(-100) is 3.7e-44, and so is its derivative, sigmoid(x) sigmoid(-x), at 100.
    - At +inf 1, at -inf 0, with derivative 0; NaN at NaN.
    - Within 4 units in the last place; the derivative too, but for 5 on NumPy in float32, whose exponential alone is
      2.4 off. float16 and bfloat16 are computed in float32 and rounded once.

    References
    ----------
    P.-F. Verhulst, "Notice sur la loi que la population suit dans son accroissement", 1838.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import sigmoid
    >>> sigmoid(np.asarray([-100.0, 0.0, 1.0]))
    array([3.72007598e-44, 5.00000000e-01, 7.31058579e-01])
    """
    return sigmoid_call(x, dtype=dtype).value()


def log_sigmoid(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """Logarithm of the sigmoid, -log(1 + exp(-x)): the log-probability that a logit stands for.

    Parameters
    ----------
    x, dtype
        As for :func:`sigmoid`.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        As :func:`sigmoid`.

    See Also
    --------
    softplus : the same of -x, negative.

    Notes
    -----
    - At +inf 0, at -inf -inf, with derivatives 0 and 1. The derivative is sigmoid(-x).
    - Within 4 units in the last place, value and derivative; float16 and bfloat16 are computed in float32 and rounded
      once.

    References
    ----------
    M. Mächler, "Accurately computing log(1 - exp(-abs(a)))", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import log_sigmoid
    >>> log_sigmoid(np.asarray([-100.0, 0.0, 100.0]))
    array([-1.00000000e+02, -6.93147181e-01, -3.72007598e-44])
    """
    return log_sigmoid_call(x, dtype=dtype).value()


def softplus(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """log(1 + exp(x)), which rises smoothly from 0 to x.

    Parameters
    ----------
    x, dtype
        As for :func:`sigmoid`.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        As :func:`sigmoid`.

    See Also
    --------
    log_sigmoid : the same of -x, negative.

    Notes
    -----
    - There is no threshold from which on it is taken for x: the derivative is sigmoid(x) everywhere, 1/2 at 0.
    - At +inf inf, at -inf 0, with derivatives 1 and 0.
    - Within 4 units in the last place, value and derivative; float16 and bfloat16 are computed in float32 and rounded
      once.

    References
    ----------
    C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import softplus
    >>> softplus(np.asarray([-100.0, 0.0, 100.0]))
    array([3.72007598e-44, 6.93147181e-01, 1.00000000e+02])
    """
    return softplus_call(x, dtype=dtype).value()


def logit(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """Logarithm of the odds, log(p / (1 - p)): the logit that stands for a probability.

    Parameters
    ----------
    x : array
        Probabilities, from 0 to 1.
    dtype
        As for :func:`sigmoid`.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        As :func:`sigmoid`.

    See Also
    --------
    sigmoid : its inverse.

    Notes
    -----
    - At 0 -inf, at 1 +inf, where the derivative, 1 / (p (1 - p)), is infinite; NaN outside.
    - Near 1/2 no digit is lost: it is computed from the distance to 1/2 there.
    - Within 4 units in the last place, value and derivative; float16 and bfloat16 are computed in float32 and rounded
      once.

    References
    ----------
    J. Berkson, "Application of the logistic function to bio-assay", 1944.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import logit
    >>> logit(np.asarray([0.0, 0.25, 0.5, 1.0]))
    array([       -inf, -1.09861229,  0.        ,         inf])
    """
    return logit_call(x, dtype=dtype).value()


def entr(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """A term of an entropy: -x log x.

    Parameters
    ----------
    x, dtype
        As for :func:`sigmoid`.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        As :func:`sigmoid`.

    See Also
    --------
    entropy_from_probs : their sum.

    Notes
    -----
    - 0 at 0, where the derivative, -log x - 1, is +inf; -inf below 0, as in SciPy, with derivative 0.
    - Within 4 units in the last place; the derivative within 4 u (1 + abs(log x)).

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import entr
    >>> entr(np.asarray([0.0, 0.5, 1.0]))
    array([0.        , 0.34657359, 0.        ])
    """
    return entr_call(x, dtype=dtype).value()


def rel_entr(x: Any, y: Any, *, dtype: Any = None) -> Any:
    """A term of a relative entropy: x log(x / y).

    Parameters
    ----------
    x : array
        Any shape, of any real dtype.
    y : float or array
        A number, or an array of the shape of ``x`` with sizes equal or 1.
    dtype : dtype or str, optional
        Floating dtype that both are cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the shape, library and device of ``x``, and of the floating dtype that both are promoted to.

    Raises
    ------
    TypeError
        If an argument is no array, or of another library than ``x``.
    ValueError
        If ``y`` has another shape.

    See Also
    --------
    kl_divergence_from_probs : their sum.

    Notes
    -----
    - 0 where x = 0 and y is not negative; +inf where y = 0 alone, or anything is negative, as in SciPy.
    - The derivatives are log(x / y) + 1 and -x / y; both are 0 where x = y = 0 or anything is negative.
    - Within 4 units in the last place, also where x and y are near each other.

    References
    ----------
    S. Kullback, R. A. Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import rel_entr
    >>> rel_entr(np.asarray([0.0, 0.5, 0.5]), np.asarray([0.5, 0.25, 0.0]))
    array([0.        , 0.34657359,        inf])
    """
    return rel_entr_call(x, y, dtype=dtype).value()


def xlogy(x: Any, y: Any, *, dtype: Any = None) -> Any:
    """X log y, which is 0 where x is 0, also where the logarithm is infinite.

    Parameters
    ----------
    x, y, dtype
        As for :func:`rel_entr`.

    Returns
    -------
    array
        As :func:`rel_entr`.

    Raises
    ------
    TypeError, ValueError
        As :func:`rel_entr`.

    See Also
    --------
    xlog1py : the same of 1 + y.

    Notes
    -----
    - NaN where y is NaN, or negative and x is not 0, as in SciPy.
    - The derivatives are log y and x / y, the second 0 where x is 0.
    - Within 4 units in the last place.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import xlogy
    >>> xlogy(np.asarray([0.0, 2.0]), np.asarray([0.0, 3.0]))
    array([0.        , 2.19722458])
    """
    return xlogy_call(x, y, dtype=dtype).value()


def xlog1py(x: Any, y: Any, *, dtype: Any = None) -> Any:
    """X log(1 + y), which is 0 where x is 0, also where the logarithm is infinite.

    Parameters
    ----------
    x, y, dtype
        As for :func:`rel_entr`.

    Returns
    -------
    array
        As :func:`rel_entr`.

    Raises
    ------
    TypeError, ValueError
        As :func:`rel_entr`.

    See Also
    --------
    xlogy : the same of y.

    Notes
    -----
    - NaN where y is NaN, or below -1 and x is not 0, as in SciPy.
    - The derivatives are log(1 + y) and x / (1 + y), the second 0 where x is 0.
    - Within 4 units in the last place.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import xlog1py
    >>> xlog1py(np.asarray([0.0, 2.0]), np.asarray([-1.0, 1e-20]))
    array([0.e+00, 2.e-20])
    """
    return xlog1py_call(x, y, dtype=dtype).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


@remembered("x")
def sigmoid_call(x: Any, *, dtype: Any) -> Call:
    """A call of sigmoid, checked and laid out."""
    return of_one(sigmoid_family.sigmoid, x, dtype)


@remembered("x")
def log_sigmoid_call(x: Any, *, dtype: Any) -> Call:
    """A call of log_sigmoid."""
    return of_one(sigmoid_family.log_sigmoid, x, dtype)


@remembered("x")
def softplus_call(x: Any, *, dtype: Any) -> Call:
    """A call of softplus."""
    return of_one(sigmoid_family.softplus, x, dtype)


@remembered("x")
def logit_call(x: Any, *, dtype: Any) -> Call:
    """A call of logit."""
    return of_one(sigmoid_family.logit, x, dtype)


@remembered("x")
def entr_call(x: Any, *, dtype: Any) -> Call:
    """A call of entr."""
    return of_one(information.entr, x, dtype)


def rel_entr_call(x: Any, y: Any, *, dtype: Any) -> Call:
    """A call of rel_entr."""
    return of_two(information.rel_entr, ("x", x), ("y", y), dtype)


def xlogy_call(x: Any, y: Any, *, dtype: Any) -> Call:
    """A call of xlogy."""
    return of_two(information.xlogy, ("x", x), ("y", y), dtype)


def xlog1py_call(x: Any, y: Any, *, dtype: Any) -> Call:
    """A call of xlog1py."""
    return of_two(information.xlog1py, ("x", x), ("y", y), dtype)


def of_one(formula: Elementwise, x: Any, dtype: Any) -> Call:
    """A function of one array."""
    backend, (x,) = adopted(x=x)
    compute, result = floating(backend, "x", x, dtype)
    return _elements(backend, formula, {"x": x}, compute, result)


def of_two(formula: Elementwise, first: tuple[str, Any], second: tuple[str, Any], dtype: Any) -> Call:
    """A function of two arrays, by name; the second may be a number, or have sizes of 1."""
    (one, x), (other, y) = first, second
    backend, (x, y) = adopted(**{one: x, other: number(other, y)})
    compute, result = jointly_floating(backend, {one: x, other: y}, dtype)
    y = backend.scalar(y, x, compute) if isinstance(y, float) else y
    return _elements(backend, formula, {one: x, other: y}, compute, result)


def _elements(backend: Any, formula: Elementwise, given: dict[str, Any], compute: Any, result: Any) -> Call:
    (_, x), *others = given.items()
    form = layout.elements(backend, x)
    return Call(
        form,
        arguments=given,
        given=given,
        denominator=None,
        ways=(form.whole, *(layout.per_example(form, name, y) for name, y in others)),
        formula=formula,
        ending=Rows(result),
        static=(("dtype", compute), ("result", result)),
    )


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    entr: (entr_call, information.entr),
    log_sigmoid: (log_sigmoid_call, sigmoid_family.log_sigmoid),
    logit: (logit_call, sigmoid_family.logit),
    rel_entr: (rel_entr_call, information.rel_entr),
    sigmoid: (sigmoid_call, sigmoid_family.sigmoid),
    softplus: (softplus_call, sigmoid_family.softplus),
    xlog1py: (xlog1py_call, information.xlog1py),
    xlogy: (xlogy_call, information.xlogy),
}
