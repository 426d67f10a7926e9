"""Derivatives in closed form on every library: value_and_grad, grad, vjp, hvp, hessian_diagonal."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from softxent import (
    binary,
    categorical,
    divergences,
    elementwise,
    linear,
    logspace,
    normalizers,
    sampling,
    sparse,
    targets,
)
from softxent.arguments import adopted, dtype_name, kind_of
from softxent.backends import backend_of
from softxent.layout import same
from softxent.targets import one_hot

if TYPE_CHECKING:
    from collections.abc import Callable

    from softxent.backends.generic import Formula
    from softxent.calls import Call

Array = Any
Argnums = int | str | tuple[int | str, ...]

# How each function is called to be differentiated, and its formula.
_CALLS = (
    binary.CALLS
    | categorical.CALLS
    | divergences.CALLS
    | elementwise.CALLS
    | linear.CALLS
    | logspace.CALLS
    | normalizers.CALLS
    | sampling.CALLS
    | sparse.CALLS
    | targets.CALLS
)
_SIGNATURES = {f: inspect.signature(f) for f in _CALLS}


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Any]]:
    """The value of a function and its gradient, without automatic differentiation.

    ``value_and_grad(cross_entropy)(logits, labels, weight=w)`` is the loss and its derivative by the logits. Any
    library will do, NumPy and Dask included; what comes back are arrays of it.

    Parameters
    ----------
    f : function
        A loss, ``logsumexp`` or a function of each element such as ``sigmoid``; or a ``functools.partial`` of one.
    argnums : int, str or tuple of these, default 0
        What to differentiate by: the position of an argument or its name, such as "temperature" or "sample_weight".
        Positions count what a partial has left open.

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
    - On Dask nothing is computed. NumPy and torch on the CPU work through the rows in blocks, and make value and
      gradient of each at once: the gradient is all the memory that is needed beside the arguments.

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
    array([[-0.07810263,  0.0570976 ,  0.02100503],
           [ 0.02263925,  0.4547215 , -0.47736075]])
    >>> _, (by_logits, by_t) = value_and_grad(cross_entropy, (0, "temperature"))(
    ...     logits, labels, temperature=np.asarray(2.0)
    ... )
    >>> by_t
    array(-0.1488918)
    """
    known = _Function.of(f, argnums, "value_and_grad", of_one_value=True)

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call, by = known.called(args, kwargs)
        value, derivatives = call.value_and_pull(by)
        return value, known.unpacked(derivatives)

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
    known = _Function.of(f, argnums, "grad", of_one_value=True)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        call, by = known.called(args, kwargs)
        return known.unpacked(call.gradient(by))

    return known.named(gradient, "grad")


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
        Σ cotangent · value, each of the shape and dtype of its argument. The cotangent is a floating array of the
        value's shape; with ``aux`` or ``return_sign`` of the loss's or logarithm's, which alone are differentiated;
        with ``reduction="sum_and_weight"`` a pair of them.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`; a ValueError too for a cotangent of another shape.

    See Also
    --------
    value_and_grad : for functions with one value, where the cotangent is 1.

    Notes
    -----
    - A cotangent of softmax or log_softmax is not looked at where ``where`` drops classes. A constant one pulls back
      to 0 through softmax, but for rounding.
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
        value, pull = call.pullback()

        def pullback(cotangent: Any) -> Any:
            return known.unpacked(pull(_like(call, "cotangent", cotangent, call.differentiated(value)), by))

        return value, pullback

    return known.named(value_and_pullback, "vjp")


def hvp(f: Callable[..., Any]) -> Callable[..., Any]:
    """The Hessian of a function by its logits, times a vector: what Newton's method asks for, without a Hessian.

    Parameters
    ----------
    f : function
        A loss, ``logsumexp`` or a function of each element such as ``sigmoid``; or a ``functools.partial`` of one.

    Returns
    -------
    function
        Takes the arguments of ``f`` and a keyword ``vector``, a floating array of the logits' shape. Returns an array
        of the logits' shape and dtype: the derivative of the gradient (that of :func:`grad`) along the vector.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`; a ValueError too for a vector of another shape.

    See Also
    --------
    hessian_diagonal : the diagonal of the same Hessian.

    Notes
    -----
    - For a row with probabilities p it is p_i (v_i - Σ p v), times the weights of the row, plus what a z-loss and a
      softcap add. No Hessian is made: time and memory are those of a gradient.
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
    known = _Function.of(f, 0, "hvp", of_one_value=True, by_logits=True)

    def times_vector(*args: Any, vector: Any = None, **kwargs: Any) -> Any:
        call, _ = known.called(args, kwargs)
        vector = _like(call, "vector", vector, call.given[call.like])
        return call.second("hvp", vector=vector)

    return known.named(times_vector, "hvp")


def hessian_diagonal(f: Callable[..., Any]) -> Callable[..., Any]:
    """Second derivatives of a function by each of its logits: the diagonal of the Hessian.

    Parameters
    ----------
    f : function
        A loss, ``logsumexp`` or a function of each element such as ``sigmoid``; or a ``functools.partial`` of one.

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
    - For a row with probabilities p it is p_i (1 - p_i), times the weights of the row, plus what a z-loss and a softcap
      add; to 4 + g units in the last place without these.
    - It is not negative but under a softcap, negative weights or a z-loss, as boosting and scaled gradient steps need.

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
    known = _Function.of(f, 0, "hessian_diagonal", of_one_value=True, by_logits=True)

    def diagonal(*args: Any, **kwargs: Any) -> Any:
        call, _ = known.called(args, kwargs)
        return call.second("hessian_diagonal")

    return known.named(diagonal, "hessian_diagonal")


# -- whose function it is, and what it is differentiated by -----------------------------------------------------------


@dataclass(frozen=True)
class _Function:
    """A function of softxent, the arguments that a partial has fixed, and those it is differentiated by."""

    call: Callable[..., Call]
    name: str
    signature: inspect.Signature
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    by: tuple[str, ...]
    several: bool
    positional: tuple[str, ...]
    defaults: dict[str, Any]

    @classmethod
    def of(
        cls, f: Any, argnums: Argnums, user: str, *, of_one_value: bool = False, by_logits: bool = False
    ) -> _Function:
        """Look the function up, and the arguments that ``argnums`` names; ``by_logits`` even those that are fixed."""
        given, args = f, ()
        kwargs: dict[str, Any] = {}
        while isinstance(f, partial):
            f, args, kwargs = f.func, (*f.args, *args), {**f.keywords, **kwargs}
        known = _known(f)
        if known is None:
            raise TypeError(_stranger(f, given, user))
        call, formula = known
        several = len(formula.COTANGENTS) > 1 and "g_mass" not in formula.COTANGENTS
        if of_one_value and (several or not hasattr(formula, "value_and_pullback")):
            hint = (
                "losses, logsumexp and functions of each element have second derivatives"
                if user in {"hvp", "hessian_diagonal"}
                else f"pass a cotangent to vjp({f.__name__})"
            )
            msg = (
                f"{user} must be given a function of one value, or one a row, got {f.__name__}, which returns "
                f"{'several' if several else 'an array'}; {hint}"
            )
            raise TypeError(msg)
        if by_logits and not hasattr(formula, user):
            msg = (
                f"{user} must be given a function whose second derivatives are known in closed form, got {f.__name__}; "
                "differentiate its gradient by the library's own means, for example torch.func.jvp or jax.jvp"
            )
            raise TypeError(msg)
        signature = _SIGNATURES[f]
        sources = set().union(*formula.COTANGENTS.values())
        names = tuple(name for name in signature.parameters if name in sources)
        free = _positional(signature)[len(args) :]
        argnums = names[0] if by_logits else argnums
        wanted = argnums if isinstance(argnums, tuple) else (argnums,)
        by = tuple(_argument(one, free, names, f.__name__) for one in wanted)
        if len(set(by)) < len(by):
            msg = f"argnums must name each argument once, got {argnums}"
            raise ValueError(msg)
        defaults = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}
        several = isinstance(argnums, tuple)
        return cls(call, f.__name__, signature, args, kwargs, by, several, _positional(signature), defaults)

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, tuple[str, ...]]:
        """The call, and what it is differentiated by, all of which must be floating arrays."""
        arguments = self._bound((*self.args, *args), {**self.kwargs, **kwargs})
        for name in self.by:
            arguments[name] = x = _adopted_scalar(arguments[name])
            kind = kind_of(x.dtype) if hasattr(x, "dtype") else ""
            if kind != "floating" and (kind or x is None or isinstance(x, Real)):  # what is no array at all is refused
                came = f"dtype {dtype_name(x.dtype)}" if kind else repr(x)
                hint = _remedy(name, x, kind)
                msg = f"{name} must be a floating array to be differentiated by, got {came}; {hint}"
                raise TypeError(msg)
        return self.call(**arguments), self.by

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Every argument by name. Python's own binding, which torch.compile does not trace, has the say on errors."""
        by_position = dict(zip(self.positional, args, strict=False))
        arguments = {**self.defaults, **by_position, **kwargs}
        unclear = len(by_position) < len(args) or set(by_position) & set(kwargs)
        if unclear or set(arguments) != set(self.signature.parameters):
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                msg = f"{self.name}: {error}"
                raise TypeError(msg) from None
        return arguments

    def unpacked(self, derivatives: tuple[Array, ...]) -> Any:
        """A tuple if several arguments were named, the only one otherwise."""
        return derivatives if self.several else derivatives[0]

    def named(self, function: Callable[..., Any], user: str) -> Callable[..., Any]:
        """A function that says what it is of."""
        function.__name__ = function.__qualname__ = f"{user}({self.name})"
        function.autograph_info__ = None  # type: ignore[attr-defined] # as the package says of its own functions
        function.__doc__ = f"What {user} makes of {self.name}, differentiated by {', '.join(self.by)}."
        return function


def _positional(signature: inspect.Signature) -> tuple[str, ...]:
    return tuple(name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD)


def _known(f: Any) -> tuple[Callable[..., Call], Formula] | None:
    try:
        return _CALLS.get(f)
    except TypeError:  # no key of a dict, and no function
        return None


def _stranger(f: Any, given: Any, user: str) -> str:
    """The error for what is no function of softxent with derivatives."""
    if f is one_hot:
        return f"{user} must be given a function with a derivative, got one_hot, whose labels are integers"
    if backend_of(f) is not None:
        return (
            f"{user} must be given a function, got an array; pass the function and call what comes back, "
            f"{user}(cross_entropy)(logits, labels)"
        )
    inner: Any = getattr(f, "__wrapped__", None)
    if _known(inner) is not None:
        name = inner.__name__
        return (
            f"{user} must be given {name} itself, got it wrapped as a {type(f).__name__}; "
            f"transform the result instead, for example jit({user}({name}))"
        )
    module, name = getattr(given, "__module__", None), getattr(given, "__qualname__", None)
    if module == __name__:
        return (
            f"{user} must be given a function of softxent such as cross_entropy, got {name}; "
            "for second derivatives there are hvp and hessian_diagonal"
        )
    came = f"{module}.{name}" if module and name else repr(given)
    return (
        f"{user} must be given a function of softxent such as cross_entropy, got {came}; for others use the automatic "
        "differentiation of their library, for example torch.func.grad or jax.grad, or differentiate one of these by "
        "its logits and apply the chain rule"
    )


def _remedy(name: str, x: Any, kind: str) -> str:
    """What to do about an argument that has no derivative."""
    if name == "labels":
        return "class indices have no derivative; pass distributions, for example one_hot(labels, C)"
    if kind:
        return "cast it, for example to float32"
    return "pass an array" if x is None else f"pass an array of no dimensions, for example numpy.asarray({x})"


def _argument(one: Any, positional: tuple[str, ...], names: tuple[str, ...], function: str) -> str:
    """The name of an argument given by position, among those that are left to give, or by name."""
    place = int(one) if isinstance(one, Integral) and not isinstance(one, bool) else -1
    if 0 <= place < len(positional):
        one = positional[place]
    if isinstance(one, str) and one in names:
        return one
    places = ", ".join(f"{n} for {name}" for n, name in enumerate(positional))
    positions = f"positions ({places}) or " if places else ""
    hint = "; pass several as a tuple" if isinstance(one, list) else ""
    msg = f"argnums must be {positions}names among {', '.join(names)} for {function}, got {one!r}{hint}"
    raise ValueError(msg)


def _adopted_scalar(x: Any) -> Any:
    """A NumPy scalar as the 0-d array that it stands for."""
    backend = backend_of(x) if isinstance(x, Real) else None
    return x if backend is None else backend.adopt(x)


def _like(call: Call, name: str, x: Any, value: Any) -> Any:
    """A cotangent or vector of the same library and shape as a value; of a pair, a pair."""
    if isinstance(value, tuple):
        if not isinstance(x, tuple) or len(x) != len(value):
            came = f"a tuple of {len(x)}" if isinstance(x, tuple) else type(x).__name__
            msg = f"{name} must be a tuple of {len(value)} arrays, as the value is, got {came}; pass one for each"
            raise TypeError(msg)
        return tuple(_like(call, name, one, part) for one, part in zip(x, value, strict=True))
    shape, x = tuple(value.shape), _adopted_scalar(x)
    if x is None or isinstance(x, Real):
        how = f"pass {name}=..." if x is None and name == "vector" else f"make it an array of {call.form.backend.label}"
        msg = f"{name} must be an array of shape {shape}, got {x!r}; {how}"
        raise TypeError(msg)
    backend, (_, x) = adopted(**{call.like: call.given[call.like], name: x})
    if backend is not call.form.backend:
        msg = (
            f"{name} must be of the same library as {call.like}, got {backend.label} beside "
            f"{call.form.backend.label}; convert one of them"
        )
        raise TypeError(msg)
    if kind_of(x.dtype) != "floating":
        msg = f"{name} must be a floating array, got dtype {dtype_name(x.dtype)}; cast it, for example to float32"
        raise TypeError(msg)
    if not same(x.shape, shape):
        owner = call.like if name == "vector" else "value"
        msg = f"{name} must have the shape of the {owner}, {shape}, got {tuple(x.shape)}; nothing is broadcast"
        raise ValueError(msg)
    return backend.astype(x, value.dtype, copy=False)
