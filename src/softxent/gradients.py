"""Derivatives in closed form on every library: value_and_grad, grad, vjp, hvp, hessian_diagonal."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from softxent.arguments import adopted, dtype_name, kind_of
from softxent.categorical import cross_entropy, cross_entropy_call
from softxent.layout import same
from softxent.normalizers import (
    log_softmax,
    log_softmax_call,
    logsumexp,
    logsumexp_call,
    softmax,
    softmax_call,
    softmin,
    softmin_call,
)
from softxent.targets import one_hot, smooth_labels, smooth_labels_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.calls import Call

Array = Any
Argnums = int | str | tuple[int | str, ...]

_CALLS: dict[Callable[..., Any], Callable[..., Call]] = {
    cross_entropy: cross_entropy_call,
    log_softmax: log_softmax_call,
    logsumexp: logsumexp_call,
    smooth_labels: smooth_labels_call,
    softmax: softmax_call,
    softmin: softmin_call,
}


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Any]]:
    """The value of a function and its gradient, without automatic differentiation.

    ``value_and_grad(cross_entropy)(logits, labels, weight=w)`` is the loss and its derivative by the logits. Any library
    will do, NumPy and Dask included; what comes back are arrays of it.

    Parameters
    ----------
    f : function
        ``cross_entropy`` or ``logsumexp``, or a ``functools.partial`` of one.
    argnums : int, str or tuple of these, default 0
        What to differentiate by: the position of an argument or its name, such as "temperature" or "sample_weight".

    Returns
    -------
    function
        Takes the arguments of ``f``. Returns what ``f`` returns, and the gradient: an array of the argument's shape and
        dtype, or a tuple of them if ``argnums`` is one. Where ``f`` gives one value a row it is the gradient of their
        sum; of a result with ``aux`` that of the loss, with ``reduction="sum_and_weight"`` that of the sum, with
        ``return_sign`` that of the logarithm.

    Raises
    ------
    TypeError
        If ``f`` is no function of softxent, or returns an array of probabilities: those have :func:`vjp`. When called:
        if an argument to differentiate by is not a floating array.
    ValueError
        If ``argnums`` names no argument of ``f`` that has a derivative.

    See Also
    --------
    grad : the gradient alone.
    vjp : derivatives of functions that return arrays.
    hvp : second derivatives.

    Notes
    -----
    - Derivatives keep every digit, as the values do: of ``[40, 0, 0]`` with label 0 it is -8.5e-18 at the label. By
      logits with integer labels they are within 4 + g units in the last place of exact, g being the largest difference
      of logits that matters; all others within (4 + g) u Σ of the absolute values of the terms that they are sums of.
    - Special values are those of :func:`cross_entropy` and :func:`logsumexp`: 0 for what takes no part, NaN throughout
      a row that is undefined.
    - torch's autograd and jax's transformations give the same derivatives and compose with this function: it can be
      jitted, compiled, mapped and differentiated again.
    - On Dask nothing is computed. NumPy and torch on the CPU work through the rows in blocks, so that the gradient is
      all the memory that is needed beside the arguments.

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2008, chapter 3 (reverse mode).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy, value_and_grad
    >>> logits, labels = np.asarray([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]]), np.asarray([0, 2])
    >>> loss, gradient = value_and_grad(cross_entropy)(logits, labels)
    >>> loss
    array(1.63238449)
    >>> gradient
    array([[-0.07810264,  0.05709984,  0.0210028 ],
           [ 0.02264042,  0.45471915, -0.47735958]])
    >>> _, (by_logits, by_t) = value_and_grad(cross_entropy, (0, "temperature"))(
    ...     logits, labels, temperature=np.asarray(2.0)
    ... )
    >>> by_t
    array(-0.47115364)
    """
    known = _Function.of(f, argnums, "value_and_grad")
    if known.call in {softmax_call, softmin_call, log_softmax_call, smooth_labels_call}:
        raise TypeError(
            f"value_and_grad must be given a function of one value, or one a row, got {known.name}, which returns an "
            f"array; pass a cotangent to vjp({known.name})"
        )

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call, by = known.called(args, kwargs)
        results = call.results()
        return call.finish(results), known.unpacked(call.pull(results, None, by))

    return known.named(value_and_gradient, "value_and_grad")


def grad(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The gradient of a function: what :func:`value_and_grad` returns, without the value.

    Parameters
    ----------
    f, argnums
        As for :func:`value_and_grad`.

    Returns
    -------
    function
        Takes the arguments of ``f`` and returns the gradient, or a tuple of them if ``argnums`` is one.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`, whose notes on accuracy and special values hold.

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import grad, logsumexp
    >>> grad(logsumexp)(np.asarray([0.0, 1.0]))
    array([0.26894142, 0.73105858])
    """
    both = value_and_grad(f, argnums)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return _Function.of(f, argnums, "grad").named(gradient, "grad")


def vjp(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Callable[[Any], Any]]]:
    """The value of a function and its pullback, which takes a cotangent to derivatives (vector times Jacobian).

    Parameters
    ----------
    f : function
        Any function of softxent but ``one_hot``, or a ``functools.partial`` of one.
    argnums : int, str or tuple of these, default 0
        What to differentiate by, as for :func:`value_and_grad`.

    Returns
    -------
    function
        Takes the arguments of ``f``. Returns what ``f`` returns, and ``pullback(cotangent)``: the derivatives of
        Σ cotangent · value, each of the shape and dtype of its argument. The cotangent is a floating array of the value's
        shape; with ``aux`` or ``return_sign`` of the loss's or logarithm's, which alone are differentiated; with
        ``reduction="sum_and_weight"`` a pair of them.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`; a ValueError too for a cotangent of another shape.

    See Also
    --------
    value_and_grad : for functions with one value, where the cotangent is 1.

    Notes
    -----
    - A cotangent is not looked at where ``where`` drops classes. A constant one pulls back to 0 through softmax.
    - Each derivative is within (4 + g) u Σ of the absolute values of the terms that it is a sum of: p_i (1 - p_i) g_i
      and p_i p_j g_j for softmax, also where a probability is next to 1.

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import softmax, vjp
    >>> p, pullback = vjp(softmax)(np.asarray([0.0, 1.0]))
    >>> p
    array([0.26894142, 0.73105858])
    >>> pullback(np.asarray([1.0, 0.0]))
    array([ 0.19661193, -0.19661193])
    """
    known = _Function.of(f, argnums, "vjp")

    def value_and_pullback(*args: Any, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
        call, by = known.called(args, kwargs)
        results = call.results()
        value = call.finish(results)

        def pullback(cotangent: Any) -> Any:
            differentiated = value[0] if isinstance(value, tuple) and not isinstance(cotangent, tuple) else value
            return known.unpacked(call.pull(results, _like(call, "cotangent", cotangent, differentiated), by))

        return value, pullback

    return known.named(value_and_pullback, "vjp")


def hvp(f: Callable[..., Any]) -> Callable[..., Any]:
    """The Hessian of a function by its logits, times a vector: what Newton's method asks for, without a Hessian.

    Parameters
    ----------
    f : function
        ``cross_entropy`` or ``logsumexp``, or a ``functools.partial`` of one.

    Returns
    -------
    function
        Takes the arguments of ``f`` and a keyword ``vector``, a floating array of the logits' shape. Returns an array of
        the logits' shape and dtype: the derivative of the gradient (that of :func:`grad`) along the vector.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`; a ValueError too for a vector of another shape.

    See Also
    --------
    hessian_diagonal : the diagonal of the same Hessian.

    Notes
    -----
    - For a row with probabilities p it is W (p · v - p (p·v)), plus what a z-loss and a softcap add. No Hessian is made:
      time and memory are those of a gradient.
    - Within (4 + g) u Σ of the absolute values of its terms, also where a probability is next to 1.
    - What takes no part gets 0, whatever the vector has there.

    References
    ----------
    B. A. Pearlmutter, "Fast exact multiplication by the Hessian", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy, hvp
    >>> hvp(cross_entropy)(np.asarray([0.0, 1.0]), 0, vector=np.asarray([1.0, 0.0]))
    array([ 0.19661193, -0.19661193])
    """
    known = _Function.of(f, 0, "hvp")
    known.refuse_without("hvp")

    def times_vector(*args: Any, vector: Any, **kwargs: Any) -> Any:
        call, _ = known.called(args, kwargs)
        vector = _like(call, "vector", vector, call.given[call.like])
        return call.second(call.formula.hvp, call.results(), vector=vector)

    return known.named(times_vector, "hvp")


def hessian_diagonal(f: Callable[..., Any]) -> Callable[..., Any]:
    """Second derivatives of a function by each of its logits: the diagonal of the Hessian.

    Parameters
    ----------
    f : function
        ``cross_entropy`` or ``logsumexp``, or a ``functools.partial`` of one.

    Returns
    -------
    function
        Takes the arguments of ``f`` and returns an array of the logits' shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`.

    See Also
    --------
    hvp : the whole Hessian, times a vector.

    Notes
    -----
    - For a row with probabilities p it is W p (1 - p), to 4 + g units in the last place; a z-loss and a softcap add to it.
    - Where a row's loss is convex in its logits, the diagonal is not negative, as boosting and scaled gradient steps need.

    References
    ----------
    T. Chen, C. Guestrin, "XGBoost: a scalable tree boosting system", 2016 (gradients with diagonal Hessians).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import cross_entropy, hessian_diagonal
    >>> hessian_diagonal(cross_entropy)(np.asarray([40.0, 0.0]), 0)
    array([4.24835426e-18, 4.24835426e-18])
    """
    known = _Function.of(f, 0, "hessian_diagonal")
    known.refuse_without("hessian_diagonal")

    def diagonal(*args: Any, **kwargs: Any) -> Any:
        call, _ = known.called(args, kwargs)
        return call.second(call.formula.hessian_diagonal, call.results())

    return known.named(diagonal, "hessian_diagonal")


# -- whose function it is, and what it is differentiated by -----------------------------------------------------------


@dataclass(frozen=True)
class _Function:
    """A function of softxent, the arguments that a partial has fixed, and those it is differentiated by."""

    call: Callable[..., Call]
    name: str
    positional: tuple[str, ...]
    defaults: dict[str, Any]
    fixed: tuple[Any, ...]
    keywords: dict[str, Any]
    by: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, f: Any, argnums: Argnums, user: str) -> _Function:
        """Look the function up, and the arguments that ``argnums`` names."""
        fixed: tuple[Any, ...] = ()
        keywords: dict[str, Any] = {}
        given = f
        while isinstance(f, partial):
            f, fixed, keywords = f.func, (*f.args, *fixed), {**f.keywords, **keywords}
        if f is one_hot:
            raise TypeError(f"{user} must be given a function with a derivative, got one_hot; its labels are integers")
        call = _CALLS.get(f) if callable(f) and f.__hash__ else None
        if call is None:
            raise TypeError(
                f"{user} must be given a function of softxent such as cross_entropy, got {_described(given)}; for others "
                "use their library's own differentiation, for example torch.func.grad or jax.grad"
            )
        parameters = inspect.signature(f).parameters
        positional = tuple(name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD)
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        several = isinstance(argnums, tuple)
        by = tuple(
            _argument(one, positional[len(fixed) :], tuple(parameters), f.__name__)
            for one in (argnums if isinstance(argnums, tuple) else (argnums,))
        )
        if len(set(by)) < len(by):
            raise ValueError(f"argnums must name each argument once, got {argnums}")
        return cls(call, f.__name__, positional, defaults, fixed, keywords, by, several)

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, tuple[str, ...]]:
        """The call, and what it is differentiated by, all of which must be floating arrays."""
        args, kwargs = (*self.fixed, *args), {**self.keywords, **kwargs}
        by_position = dict(zip(self.positional, args, strict=False))
        arguments = {**self.defaults, **by_position, **kwargs}
        missing = [name for name in self.positional if name not in arguments]
        unknown = [name for name in kwargs if name not in self.positional and name not in self.defaults]
        twice = [name for name in kwargs if name in by_position]
        if missing or unknown or twice or len(args) > len(self.positional):
            problem = (
                f"is missing {missing[0]}"
                if missing
                else f"has no argument {unknown[0]}"
                if unknown
                else f"got {twice[0]} twice"
                if twice
                else f"takes {len(self.positional)} positional arguments, got {len(args)}"
            )
            raise TypeError(f"{self.name} {problem}; its arguments are {', '.join(self.positional)} and options by name")
        call = self.call(**arguments)
        for name in self.by:
            if name not in call.given:
                raise ValueError(
                    f"argnums must name arguments that {self.name} can be differentiated by, "
                    f"{', '.join(call.given)}, got {name!r}"
                )
            x = call.given[name]
            kind = kind_of(x.dtype) if hasattr(x, "dtype") else ""
            if kind != "floating":
                came = f"dtype {dtype_name(x.dtype)}" if kind else repr(x)
                hint = "cast it, for example to float32" if kind else "pass an array, of no dimensions for a number"
                raise TypeError(f"{name} must be a floating array to be differentiated by, got {came}; {hint}")
        return call, self.by

    def unpacked(self, derivatives: tuple[Array, ...]) -> Any:
        """A tuple if several arguments were named, the only one otherwise."""
        return derivatives if self.several else derivatives[0]

    def named(self, function: Callable[..., Any], user: str) -> Callable[..., Any]:
        """A function that says what it is of."""
        function.__name__ = function.__qualname__ = f"{user}({self.name})"
        return function

    def refuse_without(self, user: str) -> None:
        """Second derivatives are there for losses and logsumexp."""
        if self.call not in {cross_entropy_call, logsumexp_call}:
            raise TypeError(
                f"{user} must be given a function of one value, or one a row, got {self.name}, which returns an array; "
                "cross_entropy and logsumexp have second derivatives"
            )


def _described(f: Any) -> str:
    module, name = getattr(f, "__module__", None), getattr(f, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(f)


def _argument(one: Any, positional: tuple[str, ...], names: tuple[str, ...], function: str) -> str:
    """The name of an argument given by position or name."""
    if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < len(positional):
        return positional[one]
    if isinstance(one, str) and one in names:
        return one
    raise ValueError(
        f"argnums must be positions from 0 to {len(positional) - 1} or names of arguments of {function}, "
        f"{', '.join(names)}, got {one!r}"
    )


def _like(call: Call, name: str, x: Any, value: Any) -> Any:
    """A cotangent or vector of the same library and shape as a value; of a pair, a pair."""
    if isinstance(value, tuple):
        if not isinstance(x, tuple) or len(x) != len(value):
            raise TypeError(f"{name} must be a tuple of {len(value)} arrays, got {type(x).__name__}")
        return tuple(_like(call, name, one, part) for one, part in zip(x, value, strict=True))
    backend, (_, x) = adopted(**{call.like: call.given[call.like], name: x})
    if kind_of(x.dtype) != "floating":
        raise TypeError(f"{name} must be a floating array, got dtype {dtype_name(x.dtype)}; cast it to float32")
    if not same(x.shape, value.shape):
        raise ValueError(
            f"{name} must have shape {tuple(value.shape)}, as the {'logits have' if name == 'vector' else 'value has'}, "
            f"got {tuple(x.shape)}; nothing is broadcast"
        )
    return backend.astype(x, value.dtype, copy=False)
