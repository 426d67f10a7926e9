"""States of streams: what is known of rows whose classes, or of means whose examples, come piece by piece."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from softxent import layout
from softxent.arguments import adopted, adopted_by_name, cast, floating, integer, mask, number
from softxent.backends import backend_of
from softxent.formulas import merging

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any


class LogSumExp(NamedTuple):
    """log Σ exp(x) along the class axis, of classes that come in blocks.

    ``LogSumExp()`` has seen nothing. ``update`` takes a block of classes, ``merge`` what another state has seen: both
    return a new state, and any split of the classes, in any order, has the same ``value``. A state is a tuple of arrays
    of the batch shape, of the library, device and floating dtype of the blocks (float32 for float16 and bfloat16). It
    can be pickled and is a pytree, so that it passes through jax.jit, jax.vmap, torch.func.vmap and the like.

    Attributes
    ----------
    top : array
        The largest entry so far; -inf if there is none.
    rest, rest_lost : array
        What the others add up to, Σ exp(x_j - r) with r the top rounded to an integer, and its rounding errors.

    See Also
    --------
    logsumexp : the same of all classes at once.
    SoftmaxStatistics : more than the sum.

    Notes
    -----
    - -inf, +inf, NaN, empty blocks and ``where`` mean what they mean to :func:`logsumexp`, as do derivatives, which
      torch's and jax's autodiff find through ``update``, ``merge`` and ``value``.
    - A carry of jax.lax.scan keeps its structure: begin with a block of no classes, ``LogSumExp().update(x[..., :0])``.
    - Within 4 units in the last place, as :func:`logsumexp` is, however many blocks there are: rounding errors of
      additions are carried along, and a sum is rescaled only where the largest entry rises past an integer.

    References
    ----------
    M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import LogSumExp
    >>> x = np.asarray([[1000.0, 1000.0, 0.0], [-1.0, 0.0, 2.0]])
    >>> LogSumExp().update(x[:, :1]).update(x[:, 1:]).value
    array([1000.69314718,    2.16984602])
    >>> LogSumExp().update(x[:, 2:]).merge(LogSumExp().update(x[:, :2])).value
    array([1000.69314718,    2.16984602])
    """

    top: Any = None
    rest: Any = None
    rest_lost: Any = None

    def update(self, block: Any, *, axis: int | tuple[int, ...] | None = -1, where: Any = None) -> LogSumExp:
        """The state with a block of classes added.

        Parameters
        ----------
        block : array
            The classes along ``axis``; without it, the shape is that of all blocks, the batch shape.
        axis : int, tuple of int or None, default -1
            The class axis, or several that are classes jointly.
        where : bool or array of bool, optional
            Broadcasts against the block. Classes where it is False are absent.
        """
        form, sums = _sums(block, axis, where)
        return self.merge(LogSumExp(*map(form.rows, sums)))

    def merge(self, other: LogSumExp) -> LogSumExp:
        """The state of all that the one and the other have seen."""
        merged = _merged(self, other)
        return merged if isinstance(merged, LogSumExp) else LogSumExp(*merged)

    def __add__(self, other: LogSumExp) -> LogSumExp:  # type: ignore[override] # tuples would be put end to end
        """The same as ``merge``."""
        return self.merge(other)

    @property
    def value(self) -> Any:
        """The logarithm of Σ exp(x), in the batch shape; -inf where no class took part."""
        return _found(merging.log_sum, self)


class SoftmaxStatistics(NamedTuple):
    """What softmax is like, along the class axis, where classes come in blocks: one value a row of each statistic.

    ``SoftmaxStatistics()`` has seen nothing; ``update`` and ``merge`` return new states, as those of
    :class:`LogSumExp` do.

    Attributes
    ----------
    top, rest, rest_lost : array
        As for :class:`LogSumExp`.
    drop, drop_lost : array
        Σ exp(x_j - r) (r - x_j) over the same entries, and its rounding errors.
    position : array of int
        Of the first of the largest entries.
    classes : int
        Where the next block begins: the number of classes seen, if none was given a place of its own.

    See Also
    --------
    softmax, entropy : of all classes at once.

    Notes
    -----
    - Where softmax is undefined (+inf, NaN, or -inf alone without ``where``), so are entropy, mean and confidence: NaN.
      Where no class took part they are 0, the maximum is -inf and the argmax -1.
    - The notes of :class:`LogSumExp` on derivatives and on jax.lax.scan hold here too. Entropy and mean are exact to
      4 + g units in the last place of the sum of absolute terms, g being the largest difference of logits that matters.

    References
    ----------
    M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import SoftmaxStatistics
    >>> x = np.asarray([[0.0, 1.0, 2.0, -1.0]])
    >>> seen = SoftmaxStatistics().update(x[:, :2]).update(x[:, 2:])
    >>> seen.entropy
    array([0.94753696])
    >>> seen.argmax, seen.confidence
    (array([2]), array([0.64391426]))
    """

    top: Any = None
    rest: Any = None
    rest_lost: Any = None
    drop: Any = None
    drop_lost: Any = None
    position: Any = None
    classes: Any = 0

    def update(
        self, block: Any, *, axis: int | tuple[int, ...] | None = -1, where: Any = None, start: Any = None
    ) -> SoftmaxStatistics:
        """The state with a block of classes added.

        Parameters
        ----------
        block, axis, where
            As for :meth:`LogSumExp.update`.
        start : int or 0-d array of int, optional
            Which class the first of the block is, for the argmax: by default the next one of this state. Parts of a
            vocabulary on several devices give their own.
        """
        start = self.classes if start is None else integer("start", start)
        form, sums = _sums(block, axis, where, start)
        return self.merge(SoftmaxStatistics(*map(form.rows, sums))._replace(classes=start + form.size))

    def merge(self, other: SoftmaxStatistics) -> SoftmaxStatistics:
        """The state of all that the one and the other have seen; positions stay what they are."""
        merged = _merged(self, other)
        if isinstance(merged, SoftmaxStatistics):
            return merged
        return SoftmaxStatistics(*merged)._replace(classes=_larger(self.classes, other.classes))

    def __add__(self, other: SoftmaxStatistics) -> SoftmaxStatistics:  # type: ignore[override] # as for LogSumExp
        """The same as ``merge``."""
        return self.merge(other)

    @property
    def max(self) -> Any:
        """The largest logit."""
        _seen(self)
        return self.top

    @property
    def argmax(self) -> Any:
        """Its class, the first of several."""
        _seen(self)
        return self.position

    @property
    def logsumexp(self) -> Any:
        """The logarithm of Σ exp(x)."""
        return _found(merging.log_sum, self)

    @property
    def entropy(self) -> Any:
        """-Σ p log p, of p = softmax(x)."""
        return _found(merging.entropy, self)

    @property
    def mean(self) -> Any:
        """Σ p x, the mean of the logits under their own softmax."""
        return _found(merging.mean, self)

    @property
    def confidence(self) -> Any:
        """The largest probability."""
        return _found(merging.confidence, self)


class LossSum(NamedTuple):
    """The sums of which a mean loss is made, over micro-batches, accumulation steps and devices.

    ``LossSum()`` has seen nothing. ``add`` takes the pairs of ``reduction="sum_and_weight"``, ``update`` the losses of
    examples, ``merge`` another such sum: each returns a new one. Only ``update`` sees how losses differ, so only a sum
    of losses knows the interval of its mean. A sum is a tuple of 0-d arrays of the losses' library, device and dtype
    (float32 for float16 and bfloat16), or of Python floats. It can be pickled and is a pytree.

    Attributes
    ----------
    total, total_lost : array
        Σ w x of losses x with weights w, and its rounding errors.
    weight, weight_lost : array
        Σ w, and its rounding errors.
    examples : array of int, or None
        How many examples had a weight other than 0.
    squares, centre, spread : array, or None
        Σ w², the mean of the losses weighted by w², and Σ w² (x - centre)². None where a pair was added.

    Notes
    -----
    - Sums carry along what additions lose, so that many small micro-batches add up in float32 as they would in float64.
    - ``interval`` is the normal approximation mean ± z · standard error, for examples drawn independently: there should
      be some dozens of them. The standard error is that of a quotient of sums, √(n / (n - 1) Σ w² (x - mean)²) / Σ w;
      weights that are all equal change neither.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", 1983.
    W. G. Cochran, "Sampling techniques", 1977 (the variance of a ratio).

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import LossSum, cross_entropy
    >>> logits, labels = np.asarray([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]]), np.asarray([0, 0, 1])
    >>> pairs = (cross_entropy(logits[n:], labels[n:], reduction="sum_and_weight") for n in range(3))
    >>> seen = LossSum()
    >>> for pair in pairs:
    ...     seen = seen.add(*pair)
    >>> float(seen.mean), float(seen.weight)
    (0.94594706, 6.0)
    >>> seen = LossSum().update(cross_entropy(logits, labels, reduction="none"))
    >>> float(seen.perplexity), [float(end) for end in seen.interval(0.9)]
    (2.23614983, [0.22449341, 1.38501771])
    """

    total: Any = None
    total_lost: Any = None
    weight: Any = None
    weight_lost: Any = None
    examples: Any = None
    squares: Any = None
    centre: Any = None
    spread: Any = None

    def update(self, losses: Any, weight: Any = None) -> LossSum:
        """The sum with losses of examples added.

        Parameters
        ----------
        losses : array
            Of any shape, as ``reduction="none"`` gives them where no weights are passed.
        weight : float or array, optional
            What each counts for, at least 0; broadcasts against the losses. A loss of weight 0 is not looked at: give 0
            (or False) to examples that take no part.
        """
        weight = number("weight", weight, low=0.0)
        backend, (losses, weight) = adopted(losses=losses, weight=weight)
        dtype, _ = floating(backend, "losses", losses, None)
        form = layout.aligned(backend, "losses", losses, None)
        weight = backend.scalar(weight, losses, dtype) if isinstance(weight, float) else weight
        weight = cast(backend, "weight", weight, dtype)
        way = layout.broadcast(form, "weight", weight)
        operands = {"x": form.inward(losses)} | ({} if weight is None else {"weight": form.aligned(weight, way)})
        sums = backend.evaluate(merging.of_losses, operands, axis=form.axis, dtype=dtype)
        return self.merge(LossSum(*map(form.rows, sums)))

    def add(self, total: Any, weight: Any) -> LossSum:
        """The sum with a pair added: numerator and denominator of a mean, two 0-d arrays or two Python numbers."""
        weight = number("weight", weight)
        if _is_number(total) and isinstance(weight, float):
            return self.merge(LossSum(float(total), 0.0, weight, 0.0))
        backend, (total, weight) = adopted(total=total, weight=weight)
        dtype, _ = floating(backend, "total", total, None)
        weight = backend.scalar(weight, total, dtype) if isinstance(weight, float) else weight
        for name, x in (("total", total), ("weight", weight)):
            if x.ndim:
                msg = f"{name} must be a 0-d array, got shape {tuple(x.shape)}; losses of examples go to update()"
                raise ValueError(msg)
        total, weight = cast(backend, "total", total, dtype), cast(backend, "weight", weight, dtype)
        return self.merge(LossSum(total, 0.0 * weight, weight, 0.0 * weight))

    def merge(self, other: LossSum) -> LossSum:
        """The sum of both."""
        _alike(self, other)
        if self.total is None or other.total is None:
            return other if self.total is None else self
        if _is_number(self.total) != _is_number(other.total):
            msg = "other must hold what this sum does, got Python numbers beside arrays; merge both as in_numbers()"
            raise TypeError(msg)
        known = [name for name in self._fields if getattr(self, name) is not None and getattr(other, name) is not None]
        operands = {name: getattr(self, name) for name in known}
        operands |= {f"other_{name}": getattr(other, name) for name in known}
        return LossSum(*_each_row(merging.losses_merged, operands))

    def __add__(self, other: LossSum) -> LossSum:  # type: ignore[override] # as for LogSumExp
        """The same as ``merge``."""
        return self.merge(other)

    @property
    def mean(self) -> Any:
        """Σ w x / Σ w; 0 if that is over nothing."""
        _seen(self)
        return _each_row(merging.mean_loss, {name: getattr(self, name) for name in self._fields[:4]})

    @property
    def perplexity(self) -> Any:
        """exp(mean)."""
        return _exp(self.mean)

    @property
    def standard_error(self) -> Any:
        """Of the mean; NaN for fewer than two examples.

        Raises
        ------
        ValueError
            If a pair was added, which does not tell how losses differ.
        """
        _seen(self)
        if self.spread is None:
            msg = "standard_error must come from losses of examples, got sums of them; give update() reduction='none'"
            raise ValueError(msg)
        dtype = float if _is_number(self.total) else self.total.dtype
        return _each_row(merging.standard_error, self._asdict(), dtype=dtype)

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """The ends of a confidence interval of the mean: the normal approximation, mean ± z · ``standard_error``.

        Raises
        ------
        ValueError
            As ``standard_error``, and if ``level`` is not between 0 and 1.
        """
        mean, reach = self.mean, _quantile(level) * self.standard_error
        return _plain(mean - reach), _plain(mean + reach)

    def perplexity_interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """The ends of that of the perplexity, exp of the others."""
        low, high = self.interval(level)
        return _exp(low), _exp(high)

    def in_numbers(self) -> LossSum:
        """The same sum as Python numbers, which merge with those of any library, in double precision."""
        return LossSum(*(None if x is None else float(x) for x in self))


# -- what states share ------------------------------------------------------------------------------------------------


def _sums(block: Any, axis: Any, where: Any, start: Any = None) -> tuple[layout.Layout, tuple[Array, ...]]:
    """The sums of a block, and how rows of it leave; with a ``start``, all that statistics need."""
    backend, (block, where) = adopted(block=block, where=where)
    dtype, _ = floating(backend, "block", block, None)
    form = layout.aligned(backend, "block", block, axis)
    where = mask(backend, block, where)
    way = layout.broadcast(form, "where", where)
    operands = {"x": form.inward(block)}
    if where is not None:
        operands["where"] = form.aligned(where, way)
    if start is not None:
        operands["start"] = backend.scalar(start, block, backend.int32) if isinstance(start, int) else start
    sums = backend.evaluate(merging.of_block, operands, axis=form.axis, dtype=dtype, moments=start is not None)
    return form, sums


def _merged(one: Any, other: Any) -> Any:
    """A state that has seen nothing gives the other; otherwise the merged sums."""
    _alike(one, other)
    if one.top is None or other.top is None:
        return other if one.top is None else one
    ours, theirs = tuple(one.top.shape), tuple(other.top.shape)
    if not layout.same(ours, theirs):
        msg = f"other must have the batch shape {ours}, got {theirs}; what is merged are classes of the same rows"
        raise ValueError(msg)
    names = [name for name in one._fields if name != "classes"]
    operands = {name: getattr(one, name) for name in names}
    return _each_row(merging.merged, {**operands, **{f"other_{name}": getattr(other, name) for name in names}})


def _alike(one: Any, other: Any) -> None:
    if type(other) is not type(one):
        kind = type(one).__name__
        msg = f"other must be a {kind}, got {type(other).__name__}; blocks and losses go to update()"
        raise TypeError(msg)


def _seen(state: Any) -> None:
    if state[0] is None:
        msg = f"{type(state).__name__}() must have seen something, got none; call update() first"
        raise ValueError(msg)


def _found(function: Callable[..., Array], state: Any) -> Array:
    _seen(state)
    return _each_row(function, {name: x for name, x in state._asdict().items() if name != "classes"})


def _each_row(function: Callable[..., Any], operands: dict[str, Any], **static: Any) -> Any:
    """A formula of one value a row, on arrays of the batch shape or on Python numbers."""
    if all(map(_is_number, operands.values())):
        return function(_NUMBERS, **operands, **static)
    backend, arrays = adopted_by_name(**operands)
    form = layout.elements(backend, next(iter(arrays.values())))
    arrays = {name: form.inward(x) for name, x in arrays.items()}
    found = backend.evaluate(function, arrays, axis=form.axis, **static)
    return tuple(map(form.outward, found)) if isinstance(found, tuple) else form.outward(found)


def _is_number(x: Any) -> bool:
    """Whether it is one of Python's; NumPy's scalars are arrays."""
    return isinstance(x, (int, float)) and backend_of(x) is None


def _larger(one: Any, other: Any) -> Any:
    """Of two counts, Python's or traced ones."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    traced, number = (other, one) if isinstance(one, int) else (one, other)
    backend, (x, y) = adopted(classes=traced, other=number)
    return backend.where(x > y, x, y)


def _exp(x: Any) -> Any:
    if _is_number(x):
        try:
            return math.exp(x)
        except OverflowError:
            return math.inf
    backend, _ = adopted(x=x)
    return backend.adopt(backend.quietly(backend.exp, x))


def _plain(x: Any) -> Any:
    """An array, also where NumPy has made a scalar of it."""
    return x if _is_number(x) else adopted(x=x)[1][0]


def _quantile(level: float) -> float:
    """Of the normal distribution: z with erf(z / √2) = level, by Newton's method, which rises to it from 0."""
    if not isinstance(level, Real) or not 0 < level < 1:
        msg = f"level must be between 0 and 1, got {level!r}; 0.95 is usual"
        raise ValueError(msg)
    z, step = 0.0, 1.0
    while step > 1e-12 * (1.0 + z):
        step = (level - math.erf(z / math.sqrt(2.0))) * math.sqrt(math.pi / 2.0) * math.exp(z * z / 2.0)
        z += step
    return z


class _Numbers:
    """What formulas of sums use, of Python numbers."""

    isfinite, sqrt = staticmethod(math.isfinite), staticmethod(math.sqrt)
    equal, not_equal = staticmethod(operator.eq), staticmethod(operator.ne)

    @staticmethod
    def where(condition: bool, x: Any, y: Any) -> Any:  # noqa: FBT001 - as arrays have it
        """A choice."""
        return x if condition else y

    @staticmethod
    def stop_gradient(x: Any) -> Any:
        """Numbers are constant."""
        return x

    @staticmethod
    def astype(x: Any, dtype: Any) -> Any:
        """By the type."""
        return dtype(x)


_NUMBERS = _Numbers()
