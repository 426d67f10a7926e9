"""Arithmetic in log space: means, running sums, differences, and sums of segments."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from softxent import labels as given_labels
from softxent import layout
from softxent.arguments import adopted, dtype_name, flag, floating, kind_of, mask, tristate
from softxent.backends import backend_of
from softxent.calls import Call, remembered
from softxent.elementwise import of_one, of_two
from softxent.endings import Rows, SameShape
from softxent.formulas import cumulative, log_space, segments
from softxent.formulas import logmeanexp as logmeanexp_formula
from softxent.formulas.targets import in_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Backend, Formula

Array = Any
ArrayT = TypeVar("ArrayT")


def logmeanexp(
    x: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    keepdims: bool = False,
    dtype: Any = None,
) -> ArrayT:
    """Logarithm of the mean of exponentials along an axis, log((1 / n) Σ_k exp(x_k)).

    Parameters
    ----------
    x : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to average along; several of them; None for all.
    where : bool or array of bool, optional
        Broadcasts against ``x``. Entries where it is False are absent, and are not counted.
    keepdims : bool, default False
        Keep the averaged axes, with size 1.
    dtype : dtype or str, optional
        Floating dtype that ``x`` is cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the shape of ``x`` without the averaged axes.

    Raises
    ------
    TypeError
        If an argument is no array, is complex or of another library than ``x``, or ``where`` is not bool.
    ValueError
        If ``axis`` is out of range or repeated, or ``where`` does not broadcast to the shape of ``x``.

    See Also
    --------
    logsumexp : the sum.

    Notes
    -----
    - Entries of -inf are counted. A mean of no entries, or of -inf alone, is -inf, with derivative 0. +inf gives +inf
      and NaN gives NaN, with derivative NaN.
    - The mean of equal entries is that entry. Within 4 units in the last place but for its condition number: that is 1
      or, near 0, Σ p abs(x) / abs(result), where p is the softmax of ``x``; an entry that has none of the mass does not
      count, however large it is. float16 and bfloat16 are computed in float32 and rounded once.
    - Each exponential is computed twice, relative to the largest entry and to the mean.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import logmeanexp
    >>> float(logmeanexp(np.asarray([1000.0, 1000.0])))
    1000.0
    >>> logmeanexp(np.asarray([0.0, 1.0, 99.0]), where=np.asarray([True, True, False]))
    array(0.62011451)
    """
    return logmeanexp_call(x, axis=axis, where=where, keepdims=keepdims, dtype=dtype).value()


def logcumsumexp(
    x: ArrayT,
    *,
    axis: int | tuple[int, ...] | None = -1,
    reverse: bool = False,
    exclusive: bool = False,
    dtype: Any = None,
) -> ArrayT:
    """Logarithm of the running sum of exponentials along an axis, log Σ_{j≤i} exp(x_j).

    Parameters
    ----------
    x : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    axis : int, tuple of int or None, default -1
        The axis to sum along; several of them as one, in C order of the axes as given; None for all.
    reverse : bool, default False
        Sum from each entry to the last.
    exclusive : bool, default False
        Leave the entry itself out of its sum: the first is -inf then.
    dtype : dtype or str, optional
        Floating dtype that ``x`` is cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the shape, library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        If ``x`` is no array, or not real, or an option not bool.
    ValueError
        If ``axis`` is out of range or repeated.

    See Also
    --------
    logsumexp : the whole sum.

    Notes
    -----
    - A sum of -inf alone is -inf, with derivative 0. From +inf on it is +inf, from NaN on NaN; derivatives by all that
      is in such a sum are NaN.
    - Within 4 + g units in the last place of exact, g being the distance to the largest entry so far, but for the
      condition number near 0, Σ p abs(x) / abs(result). float16 and bfloat16 are computed in float32 and rounded once.
    - Derivatives are within (4 + g) u Σ of the absolute values of their terms, for cotangents of either sign.
    - The entries are taken log2(n) times, in memory for a few arrays of the shape of ``x`` (NumPy and torch on the CPU:
      of a block of rows).

    References
    ----------
    W. D. Hillis, G. L. Steele, "Data parallel algorithms", 1986 (sums by doubling).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import logcumsumexp
    >>> logcumsumexp(np.asarray([0.0, 0.0, 1000.0, 0.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03, 1.00000000e+03])
    >>> logcumsumexp(np.asarray([0.0, 1.0, 2.0]), reverse=True, exclusive=True)
    array([2.31326169, 2.        ,       -inf])
    """
    return logcumsumexp_call(x, axis=axis, reverse=reverse, exclusive=exclusive, dtype=dtype).value()


def log1mexp(x: ArrayT, *, dtype: Any = None) -> ArrayT:
    """log(1 - exp(-x)) for x ≥ 0: from the negative logarithm of a probability that of its complement.

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
    logsubexp : the difference of two exponentials.

    Notes
    -----
    - At 0 -inf, with derivative +inf; at +inf 0, with derivative 0; NaN below 0. The derivative is 1 / expm1(x).
    - Mind the sign: JAX and Mächler's R function take x ≥ 0 as here, TensorFlow Probability takes either.
    - Within 4 units in the last place, value and derivative (on jax 7 for the derivative, whose compiler has an expm1
      that is off by 4.7 itself); float16 and bfloat16 are computed in float32 and rounded once.

    References
    ----------
    M. Mächler, "Accurately computing log(1 - exp(-abs(a)))", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import log1mexp
    >>> log1mexp(np.asarray([0.0, 1e-20, 1.0, 100.0]))
    array([           -inf, -4.60517019e+01, -4.58675145e-01, -3.72007598e-44])
    """
    return log1mexp_call(x, dtype=dtype).value()


def logsubexp(x: ArrayT, y: Any, *, dtype: Any = None) -> ArrayT:
    """log(exp(x) - exp(y)) for x ≥ y, the difference of two numbers that are known by their logarithms.

    Parameters
    ----------
    x : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    y : array or float
        A number or 0-d array, or an array with the number of dimensions of ``x`` and every size equal or 1.
    dtype : dtype or str, optional
        Floating dtype that both are cast to before the arithmetic, and of the result; that which both are promoted to
        otherwise.

    Returns
    -------
    array
        Of the shape, library and device of ``x``.

    Raises
    ------
    TypeError
        If ``x`` is no array, if either is not real, or they are of two libraries.
    ValueError
        If ``y`` does not fit the shape of ``x``, or is a number that is not finite.

    See Also
    --------
    log1mexp : the same of 0 and -x.
    logsumexp : sums with weights of either sign, by ``b``.

    Notes
    -----
    - Equal arguments give -inf, with derivatives inf and -inf; x < y gives NaN. If y is -inf it is x, with derivatives
      1 and 0, also for x = -inf. If x alone is +inf it is +inf; two of them give NaN.
    - The derivatives are 1 / (1 - exp(y - x)) and -1 / expm1(x - y), within 4 + g units in the last place, g being
      x - y: that much is what rounding x - y can do. The value is within 4 units but for its condition number.
      float16 and bfloat16 are computed in float32 and rounded once.

    References
    ----------
    M. Mächler, "Accurately computing log(1 - exp(-abs(a)))", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import logsubexp
    >>> logsubexp(np.asarray([1000.0, 1.0, 0.0]), np.asarray([999.0, 1.0, -np.inf]))
    array([999.54132485,         -inf,   0.        ])
    """
    return logsubexp_call(x, y, dtype=dtype).value()


def segment_logsumexp(
    x: ArrayT, segment_ids: Any, num_segments: int, *, dtype: Any = None, check: bool | None = None
) -> ArrayT:
    """Logarithm of the sum of exponentials of each segment, log Σ_{k: id_k = s} exp(x_k), along the first axis.

    Parameters
    ----------
    x : array, shape (n, ...)
        Any real dtype; integers and bool become the library's default floating dtype first. Segments are made of
        entries along the first axis; each place along the others has its own.
    segment_ids : array of int, shape (n,)
        The segment of each entry, from 0 to ``num_segments - 1``, in any order. Any integer dtype.
    num_segments : int
        How many segments there are, empty ones included.
    dtype : dtype or str, optional
        Floating dtype that ``x`` is cast to before the arithmetic, and of the result.
    check : bool, optional
        By default ids out of range are refused where values can be read for free. True always reads them; False never.

    Returns
    -------
    array, shape (num_segments, ...)
        Of the library, device and floating dtype of ``x``.

    Raises
    ------
    TypeError
        If an argument is no array, ``x`` is not real, the ids are not of an integer dtype, or ``num_segments`` is no
        int.
    ValueError
        If an id is out of range, there is not one id for each entry along the first axis, or that has an unknown size
        (Dask); with ``check=True`` also where values cannot be read.

    See Also
    --------
    segment_softmax : the shares of the entries.

    Notes
    -----
    - An empty segment is -inf. So is one of -inf alone, with derivative 0: what is to be left out may be -inf. +inf and
      NaN in a segment are its sum, with derivative NaN in that segment.
    - An id out of range that is not refused (in a trace, on an accelerator, lazy, with ``check=False``) makes every sum
      NaN: nobody can tell where the entry belonged, and ``jax.ops.segment_sum``, which drops it, hides the mistake. It
      never wraps around.
    - Within 4 units in the last place but for its condition number near 0. NumPy sums pairwise; torch and jax add one
      by one what falls into one of n // ``num_segments`` parts of a segment, so that errors grow where there are many
      segments and one of them has most of the entries. float16 and bfloat16 are computed in float32.
    - Memory: a few arrays of the shape of ``x``. A library that is known by the array API standard alone needs
      ``num_segments`` times as much.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import segment_logsumexp
    >>> segment_logsumexp(np.asarray([0.0, 1000.0, 0.0]), np.asarray([0, 2, 0]), 3)
    array([6.93147181e-01,           -inf, 1.00000000e+03])
    """
    return segment_logsumexp_call(x, segment_ids, num_segments, dtype=dtype, check=check).value()


def segment_softmax(
    logits: ArrayT, segment_ids: Any, num_segments: int, *, dtype: Any = None, check: bool | None = None
) -> ArrayT:
    """Softmax over each segment, exp(x_j) / Σ_{k: id_k = id_j} exp(x_k), along the first axis.

    Parameters
    ----------
    logits : array, shape (n, ...)
        As ``x`` for :func:`segment_logsumexp`.
    segment_ids, num_segments, dtype, check
        As for :func:`segment_logsumexp`.

    Returns
    -------
    array, shape (n, ...)
        Of the library, device and floating dtype of ``logits``.

    Raises
    ------
    TypeError, ValueError
        As :func:`segment_logsumexp`.

    See Also
    --------
    softmax : over an axis.

    Notes
    -----
    - A logit of -inf has probability 0. A segment of -inf alone, with +inf or with NaN is NaN, and no other.
    - An id out of range that is not refused makes that entry NaN, with derivative NaN. It adds nothing to any segment.
    - Within 4 + g units in the last place, g being the distance to the largest logit of the segment, and derivatives
      within (4 + g) u Σ of the absolute values of their terms, also of probabilities next to 1; the note on long sums
      of :func:`segment_logsumexp` holds.

    References
    ----------
    P. Veličković et al., "Graph attention networks", 2018 (softmax over the neighbours of each node).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import segment_softmax
    >>> segment_softmax(np.asarray([0.0, 1000.0, 1.0]), np.asarray([0, 2, 0]), 3)
    array([0.26894142, 1.        , 0.73105858])
    """
    return segment_softmax_call(logits, segment_ids, num_segments, dtype=dtype, check=check).value()


# -- the same calls, ready to be differentiated -----------------------------------------------------------------------


def logmeanexp_call(x: Any, *, axis: Any, where: Any, keepdims: bool, dtype: Any) -> Call:
    """A call of logmeanexp, checked and laid out."""
    keepdims = flag("keepdims", keepdims)
    backend, (x, where) = adopted(x=x, where=where)
    compute, result = floating(backend, "x", x, dtype)
    form = layout.aligned(backend, "x", x, axis)
    where = mask(backend, x, where)
    return Call(
        form,
        arguments={"x": x, "where": where},
        given={"x": x},
        denominator=None,
        ways=(form.whole, layout.broadcast(form, "where", where)),
        formula=logmeanexp_formula,
        ending=Rows(result, keepdims),
        static=(("dtype", compute), ("result", result)),
        per_example=False,
    )


def logcumsumexp_call(x: Any, *, axis: Any, reverse: bool, exclusive: bool, dtype: Any) -> Call:
    """A call of logcumsumexp."""
    reverse, exclusive = flag("reverse", reverse), flag("exclusive", exclusive)
    backend, (x,) = adopted(x=x)
    compute, result = floating(backend, "x", x, dtype)
    form = layout.aligned(backend, "x", x, axis)
    return Call(
        form,
        arguments={"x": x},
        given={"x": x},
        denominator=None,
        ways=(form.whole,),
        formula=cumulative,
        ending=SameShape(),
        static=(("dtype", compute), ("result", result), ("reverse", reverse), ("exclusive", exclusive)),
    )


@remembered("x")
def log1mexp_call(x: Any, *, dtype: Any) -> Call:
    """A call of log1mexp."""
    return of_one(log_space.log1mexp, x, dtype)


@remembered("x", "y")
def logsubexp_call(x: Any, y: Any, *, dtype: Any) -> Call:
    """A call of logsubexp."""
    return of_two(log_space.logsubexp, ("x", x), ("y", y), dtype)


def segment_logsumexp_call(x: Any, segment_ids: Any, num_segments: int, *, dtype: Any, check: Any) -> Call:
    """A call of segment_logsumexp."""
    return _of_segments(segments.logsumexp, "x", x, segment_ids, num_segments, dtype=dtype, check=check)


def segment_softmax_call(logits: Any, segment_ids: Any, num_segments: int, *, dtype: Any, check: Any) -> Call:
    """A call of segment_softmax."""
    return _of_segments(segments.softmax, "logits", logits, segment_ids, num_segments, dtype=dtype, check=check)


def _of_segments(
    formula: Formula, name: str, x: Any, segment_ids: Any, num_segments: int, *, dtype: Any, check: Any
) -> Call:
    """The first axis is that of the classes; ids are an operand along it."""
    tristate("check", check)
    count = _count(num_segments)
    if segment_ids is None or isinstance(segment_ids, Real):
        msg = f"segment_ids must be an array of integers, got {segment_ids!r}; pass one for each entry"
        raise TypeError(msg)
    backend, (x, ids) = adopted(**{name: x, "segment_ids": segment_ids})
    compute, result = floating(backend, name, x, dtype)
    if kind_of(segment_ids.dtype) != "integer":
        msg = f"segment_ids must be of an integer dtype, got {dtype_name(segment_ids.dtype)}; cast them"
        raise TypeError(msg)
    if x.ndim == 0:
        msg = f"{name} must have a first axis to be cut into segments, got a 0-d array; reshape it to (1,)"
        raise ValueError(msg)
    form = layout.aligned(backend, name, x, 0)
    if not layout.same(tuple(ids.shape), (form.size,)):
        msg = (
            f"segment_ids must have shape ({form.size},), one id for each entry along the first axis of {name}, "
            f"got {tuple(ids.shape)}; flatten both, or move that axis to the front"
        )
        raise ValueError(msg)
    known = layout.with_classes(backend, ids, count, -1)  # ids are labels, and segments their classes
    in_bounds = _check_ids(backend_of(segment_ids) or backend, segment_ids, count, check)
    ids = given_labels.comparable(known, x, segment_ids, ids, None)["labels"]
    return Call(
        form,
        arguments={name: x, "segment_ids": ids},
        given={name: x},
        denominator=None,
        ways=(None, layout.Layout.per_class),
        formula=formula,
        ending=SameShape(),
        static=(("dtype", compute), ("result", result), ("num_segments", count), ("in_bounds", in_bounds)),
    )


def _count(num_segments: Any) -> int:
    if not isinstance(num_segments, Integral) or isinstance(num_segments, bool):
        msg = f"num_segments must be an int, got {num_segments!r}; a shape has to be known"
        raise TypeError(msg)
    if num_segments < 0:
        msg = f"num_segments must be at least 0, got {num_segments}; it is the number of segments"
        raise ValueError(msg)
    return int(num_segments)


def _check_ids(backend: Backend, ids: Array, count: int, check: bool | None) -> bool:  # noqa: FBT001 - the caller's
    """Refuse ids that are none, where the values can be read; whether they could."""
    if not given_labels.should_look(backend, ids, check):
        return False
    with backend.reading():
        bounds = backend.bounds(ids)
        if bounds is not None and bounds[0] >= 0 and bounds[1] < count:
            return True
        wide = backend.comparable(ids)
        wrong = ~in_range(backend, wide, count)
        found = given_labels.read(backend, backend.any(wrong), "segment_ids", check)
        if not found:
            return found is not None
        position = given_labels.first(backend, wrong)
        value = int(wide[position])
    if value < 0 and dtype_name(ids.dtype) == "uint64":  # widened to the int64 of the same bits
        value += 2**64
    expected = f"from 0 to {count - 1}" if count else "absent where num_segments is 0"
    msg = (
        f"segment_ids must be {expected}, got {value}{given_labels.at(position)}; "
        "to leave an entry out make it -inf, or give it a segment more"
    )
    raise ValueError(msg)


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    log1mexp: (log1mexp_call, log_space.log1mexp),
    logcumsumexp: (logcumsumexp_call, cumulative),
    logmeanexp: (logmeanexp_call, logmeanexp_formula),
    logsubexp: (logsubexp_call, log_space.logsubexp),
    segment_logsumexp: (segment_logsumexp_call, segments.logsumexp),
    segment_softmax: (segment_softmax_call, segments.softmax),
}
