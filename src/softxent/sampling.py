"""Samples of a categorical distribution that have derivatives."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from softxent import layout
from softxent.arguments import adopted, cast, flag, floating, mask, number
from softxent.backends import backend_of
from softxent.calls import Call, remembered
from softxent.endings import SameShape
from softxent.formulas import gumbel as formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula

Array = Any
ArrayT = TypeVar("ArrayT")


def gumbel_softmax(
    logits: ArrayT,
    noise: ArrayT,
    *,
    temperature: Any = 1.0,
    hard: bool = False,
    axis: int | tuple[int, ...] | None = -1,
    where: Any = None,
    dtype: Any = None,
) -> ArrayT:
    """A relaxed sample of a class: softmax((x + G) / T) along the class axis, with Gumbel noise G.

    Its largest entry is at class j with the probability softmax(x)_j, whatever T is; as T falls to 0 it becomes the
    one-hot vector of that class.

    Parameters
    ----------
    logits : array
        Any shape, of any real dtype; integers and bool become the library's default floating dtype first.
    noise : array
        Of the logits' shape: independent standard Gumbel numbers, -log(-log U) of a U uniform between 0 and 1. In NumPy
        ``rng.gumbel(size=x.shape)``, in PyTorch ``-torch.empty_like(x).exponential_().log()``, in JAX
        ``jax.random.gumbel(key, x.shape)``. It is cast to the dtype of the arithmetic. With 0 for noise it is softmax.
    temperature : float or array, default 1.0
        T, which divides the sum; an array broadcasts against the logits. Rows where it is not positive are NaN.
    hard : bool, default False
        Return the one-hot vector of the largest entry (the first of equal ones), with the derivatives of the relaxed
        sample: the straight-through estimator.
    axis : int, tuple of int or None, default -1
        The axis of the classes; several of them jointly; None for all.
    where : bool or array of bool, optional
        Broadcasts against the logits. Classes where it is False get 0; neither logit nor noise is looked at there.
    dtype : dtype or str, optional
        Floating dtype that the logits are cast to before the arithmetic, and of the result.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError
        If an argument is no array, is complex or of another library than the logits, if ``where`` is not bool,
        ``hard`` is no bool, or ``dtype`` not floating.
    ValueError
        If ``noise`` has another shape than the logits, ``axis`` is out of range or repeated, an option does not
        broadcast to the logits' shape, or ``temperature`` is a number that is not positive, or arrays are on two
        devices.

    See Also
    --------
    softmax : has the notes on special values and accuracy, which hold for the sum of logits and noise.

    Notes
    -----
    - A class with a logit of -inf is never chosen and gets 0. A row with no class left by ``where`` is 0, with
      derivative 0, also if ``hard``.
    - A row of -inf alone, with +inf or with NaN among the classes that take part is NaN, also if ``hard``.
    - Derivatives by the noise are those by the logits. A temperature has one too.
    - float16 and bfloat16 are computed in float32: noise of more digits than the logits have is not rounded to theirs.

    References
    ----------
    E. Jang, S. Gu, B. Poole, "Categorical reparameterization with Gumbel-softmax", 2017; C. J. Maddison, A. Mnih,
    Y. W. Teh, "The concrete distribution", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import gumbel_softmax
    >>> x, noise = np.asarray([1.0, 0.0, 2.0]), np.asarray([0.5, 2.0, -0.25])
    >>> gumbel_softmax(x, noise, temperature=0.5)
    array([0.18632372, 0.50648039, 0.30719589])
    >>> gumbel_softmax(x, noise, hard=True)
    array([0., 1., 0.])
    """
    return gumbel_softmax_call(
        logits, noise, temperature=temperature, hard=hard, axis=axis, where=where, dtype=dtype
    ).value()


@remembered("logits", "noise")
def gumbel_softmax_call(
    logits: Any, noise: Any, *, temperature: Any, hard: Any, axis: Any, where: Any, dtype: Any
) -> Call:
    """A call of gumbel_softmax, checked and laid out, ready to be differentiated."""
    if noise is None or isinstance(noise, Real):
        own = backend_of(noise)
        if own is None:
            msg = f"noise must be an array of the logits' shape, got {noise!r}; draw one Gumbel number a logit"
            raise TypeError(msg)
        noise = own.adopt(noise)
    hard = flag("hard", hard)
    temperature = number("temperature", temperature, low=0.0, above=True)
    backend, (logits, noise, where, temperature) = adopted(
        logits=logits, noise=noise, where=where, temperature=temperature
    )
    compute, result = floating(backend, "logits", logits, dtype)
    form = layout.aligned(backend, "logits", logits, axis)
    noisy = cast(backend, "noise", noise, compute)
    if not layout.same(tuple(noise.shape), form.shape):
        msg = (
            f"noise must have the logits' shape {form.shape}, got {tuple(noise.shape)}; nothing is broadcast: draw one "
            "Gumbel number a logit"
        )
        raise ValueError(msg)
    where = mask(backend, logits, where)
    of_where = layout.broadcast(form, "where", where)
    heat = cast(backend, "temperature", temperature, compute)
    return Call(
        form,
        arguments={"logits": logits, "noise": noisy, "where": where, "temperature": heat},
        given={"logits": logits, "noise": noise, "temperature": temperature},
        denominator=None,
        ways=(form.whole, form.whole, of_where, layout.broadcast(form, "temperature", heat)),
        formula=formula,
        ending=SameShape(),
        static=(("hard", hard), ("dtype", compute), ("result", result)),
        per_example=False,
    )


CALLS: dict[Callable[..., Any], tuple[Callable[..., Call], Formula]] = {
    gumbel_softmax: (gumbel_softmax_call, formula),
}
