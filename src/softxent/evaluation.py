"""Evaluation of a classifier in one pass over batches that need not fit in memory."""

from __future__ import annotations

import math
from importlib import import_module
from numbers import Integral
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from softxent import layout
from softxent.arguments import adopted, dtype_name, floating, kind_of
from softxent.categorical import cross_entropy
from softxent.formulas import evaluation as formula
from softxent.formulas.targets import equals
from softxent.streaming import LossSum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Array = Any

ENTRIES = 2**21  # logits that are looked at together: some blocks of a backend, so that its threads have work
_LONG = 2.0  # seconds after which work is long enough for a progress bar


class Evaluation(NamedTuple):
    """What :func:`evaluate` has found. It merges with others, of any library, and resumes: it holds Python numbers.

    Attributes
    ----------
    losses : LossSum
        The losses' sums and spread.
    entropies : float
        The sum of the entropies.
    hits : tuple of (int, int)
        For each k, how many labels were among the k classes of the largest logits; k = 1 first.
    bins : tuple of (int, int, float)
        For each bin of confidence: examples, how many of them right, and the sum of their confidences.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import evaluate
    >>> found = evaluate([(np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([0, 0]))], top_k=2)
    >>> found.examples, found.accuracy, found.top_k
    (2, 0.5, {2: 1.0})
    >>> print(found)
    examples                       2
    loss                      0.7201  (95 %: -0.4425 to 1.8827)
    perplexity                2.0546  (95 %: 0.6424 to 6.5711)
    accuracy                  0.5000
    top-2 accuracy            1.0000
    entropy                   0.4738
    calibration error         0.4251
    """

    losses: LossSum
    entropies: float
    hits: tuple[tuple[int, int], ...]
    bins: tuple[tuple[int, int, float], ...]

    @property
    def examples(self) -> int:
        """How many took part."""
        return 0 if self.losses.examples is None else int(self.losses.examples)

    @property
    def loss(self) -> float:
        """The mean cross-entropy; NaN, as all means here, if there are no examples."""
        return float(self.losses.mean) if self.examples else math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return float(self.losses.perplexity) if self.examples else math.nan

    def loss_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of a confidence interval of the loss, as :meth:`LossSum.interval` has it."""
        return self.losses.interval(level) if self.examples else (math.nan, math.nan)

    def perplexity_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of that of the perplexity."""
        return self.losses.perplexity_interval(level) if self.examples else (math.nan, math.nan)

    @property
    def accuracy(self) -> float:
        """How often the label is the argmax."""
        return self._mean(self.hits[0][1])

    @property
    def top_k(self) -> dict[int, float]:
        """For each k asked for, how often the label is among the k largest logits; of equal ones the first count."""
        return {k: self._mean(hits) for k, hits in self.hits[1:]}

    @property
    def entropy(self) -> float:
        """The mean entropy of the predictions."""
        return self._mean(self.entropies)

    @property
    def calibration_error(self) -> float:
        """How far confidence is from accuracy in the mean: Σ_m n_m abs(accuracy_m - confidence_m) / n over the bins."""
        return self._mean(math.fsum(abs(right - confidence) for _, right, confidence in self.bins))

    def _mean(self, total: float) -> float:
        return total / self.examples if self.examples else math.nan

    def merge(self, other: Evaluation) -> Evaluation:
        """The evaluation of all examples of the one and the other."""
        if not isinstance(other, Evaluation):
            msg = f"other must be an Evaluation, got {type(other).__name__}; batches go to evaluate()"
            raise TypeError(msg)
        if self._asked != other._asked:
            msg = f"other must have {_told(self._asked)}, got {_told(other._asked)}; evaluate both alike"
            raise ValueError(msg)
        return Evaluation(
            self.losses.merge(other.losses),
            self.entropies + other.entropies,
            tuple((k, a + b) for (k, a), (_, b) in zip(self.hits, other.hits, strict=True)),
            tuple((n + m, a + b, p + q) for (n, a, p), (m, b, q) in zip(self.bins, other.bins, strict=True)),
        )

    def __add__(self, other: Evaluation) -> Evaluation:  # type: ignore[override] # tuples would be put end to end
        """The same as ``merge``."""
        return self.merge(other)

    @property
    def _asked(self) -> tuple[tuple[int, ...], int]:
        return tuple(k for k, _ in self.hits[1:]), len(self.bins)

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and interval, to be read."""

        def interval(ends: tuple[float, float]) -> str:
            low, high = ends
            return "" if math.isnan(low + high) else f"(95 %: {low:.4f} to {high:.4f})"

        yield "examples", str(self.examples), ""
        yield "loss", f"{self.loss:.4f}", interval(self.loss_interval())
        yield "perplexity", f"{self.perplexity:.4f}", interval(self.perplexity_interval())
        yield "accuracy", f"{self.accuracy:.4f}", ""
        for k, share in self.top_k.items():
            yield f"top-{k} accuracy", f"{share:.4f}", ""
        yield "entropy", f"{self.entropy:.4f}", ""
        yield "calibration error", f"{self.calibration_error:.4f}", ""

    def __str__(self) -> str:
        """A table."""
        return "\n".join(f"{name:18}{value:>14}  {ends}".rstrip() for name, value, ends in self._rows())

    def __rich__(self) -> Any:
        """The table as rich has it, which calls this."""
        table = import_module("rich.table").Table("", "value", "95 % interval")
        table.columns[1].justify = "right"
        for name, value, ends in self._rows():
            table.add_row(name, value, ends.strip("()").removeprefix("95 %: "))
        return table


def evaluate(
    batches: Iterable[tuple[Any, ...]],
    *,
    axis: int = -1,
    ignore_index: int | None = None,
    top_k: int | tuple[int, ...] = (5,),
    bins: int = 15,
    progress: bool | None = None,
    state: Evaluation | None = None,
) -> Evaluation:
    """Loss, perplexity, accuracy, top-k accuracy, entropy and expected calibration error, in one pass over batches.

    Parameters
    ----------
    batches : iterable of (logits, labels) or (features, weight, labels)
        Logits ``(..., C, ...)`` with integer labels of the batch shape, as for :func:`cross_entropy`; or features
        ``(..., D)`` and the weight ``(C, D)`` of a linear layer, whose logits are made a block at a time. Batches may
        be of any size, one numpy.memmap larger than memory among them: they are looked at in blocks of rows.
    axis : int, default -1
        The class axis of the logits.
    ignore_index : int, optional
        Examples with this label take no part.
    top_k : int or tuple of int, default (5,)
        The k of top-k accuracies; () for none beside accuracy.
    bins : int, default 15
        How many bins of equal width the calibration error sorts confidences into.
    progress : bool, optional
        A progress bar on standard error. By default there is one where rich is installed, somebody is watching (a
        terminal or a notebook) and the work has gone on for two seconds.
    state : Evaluation, optional
        What an earlier call has returned: batches are added to it.

    Returns
    -------
    Evaluation
        An immutable tuple of Python numbers with the results as attributes. It prints as a table, can be pickled, and
        merges with others: ``evaluate(a).merge(evaluate(b))`` and ``evaluate(b, state=evaluate(a))`` are both the
        evaluation of a and b.

    Raises
    ------
    TypeError
        If a batch is no tuple of two or three arrays, or its labels are no integers.
    ValueError
        If shapes do not fit, a label is out of range (where values can be read), an option is out of its bounds, or
        ``state`` has other bins or another ``top_k``.
    ModuleNotFoundError
        If ``progress`` is True and rich is not installed.

    See Also
    --------
    LossSum : the loss alone, with weights.

    Notes
    -----
    - Examples count alike. Where softmax is not defined the label is not found, and loss, entropy and calibration error
      are NaN.
    - Sums over a block are in the losses' dtype, those over blocks in double precision.
    - Of equal logits the first counts as the larger, as for an argmax.
    - Confidence is the largest probability, and in the bin (m / bins, (m + 1) / bins].
    - Beside what the caller holds, memory is needed for about 8 MiB of logits and what a block of them takes.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import evaluate
    >>> logits, labels = np.asarray([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.asarray([0, 2])
    >>> batches = [(logits[:1], labels[:1]), (logits[1:], labels[1:])]
    >>> found = evaluate(batches, top_k=(2,))
    >>> found.loss, found.accuracy, found.top_k
    (0.82318384, 0.5, {2: 0.5})
    >>> resumed = evaluate(batches[1:], top_k=(2,), state=evaluate(batches[:1], top_k=(2,)))
    >>> resumed == found
    True
    """
    top = _numbers("top_k", top_k if isinstance(top_k, tuple) else (top_k,))
    (count,) = _numbers("bins", (bins,))
    found = _nothing(top, count)
    if state is not None:
        found = state.merge(found) if isinstance(state, Evaluation) else found.merge(state)
    with _Bar(progress, batches) as bar:
        for number, piece in enumerate(batches):
            for share, logits, labels in _logits_of(piece, axis, number):
                found = found.merge(_measured(logits, labels, axis, ignore_index, top=top, bins=count))
                bar.advance(share)
    return found


def _nothing(top: tuple[int, ...], bins: int) -> Evaluation:
    """The evaluation of no examples."""
    return Evaluation(LossSum(), 0.0, tuple((k, 0) for k in (1, *top)), ((0, 0, 0.0),) * bins)


def _numbers(name: str, values: tuple[Any, ...]) -> tuple[int, ...]:
    for value in values:
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            msg = f"{name} must be a positive int, got {value!r}; for example {5 if name == 'top_k' else 15}"
            raise ValueError(msg)
    return tuple(map(int, values))


def _told(asked: tuple[tuple[int, ...], int]) -> str:
    top, bins = asked
    return f"top_k={top} and bins={bins}"


# -- batches ----------------------------------------------------------------------------------------------------------


def _logits_of(piece: Any, axis: int, number: int) -> Iterator[tuple[float, Array, Array]]:
    """The logits and labels of a batch in blocks of rows, and which share of the batch each is.

    Those of a linear layer are made here, and exist for one block: the place for the loop of ``softxent.linear``.
    """
    if not isinstance(piece, (tuple, list)) or len(piece) not in {2, 3}:
        came = f"{len(piece)} of them" if isinstance(piece, (tuple, list)) else type(piece).__name__
        msg = f"batches must hold (logits, labels) or (features, weight, labels), got {came} at position {number}"
        raise TypeError(msg)
    if len(piece) == 2:  # noqa: PLR2004 - logits and labels
        logits, labels = piece
        form = _form("logits", logits, labels, axis)
        for share, at, of_labels in _blocks(form, form.size):
            yield share, logits[at], labels[of_labels]
        return
    features, weight, labels = piece
    if axis != -1:
        msg = f"axis must be -1 for (features, weight, labels), got {axis}; features lie along the last axis"
        raise ValueError(msg)
    form = _form("features", features, labels, axis)
    backend, (_, weight) = adopted(features=features[:0, ...], weight=weight)
    if weight.ndim != 2 or weight.shape[1] != form.size:  # noqa: PLR2004 - a matrix
        msg = f"weight must have shape (C, {form.size}), one row a class, got {tuple(weight.shape)}; transpose it?"
        raise ValueError(msg)
    transposed = backend.permute_dims(backend.stop_gradient(weight), (1, 0))
    for share, at, of_labels in _blocks(form, weight.shape[0]):
        rows = backend.stop_gradient(backend.adopt(features[at]))
        yield share, backend.quietly(backend.matmul, rows, transposed), labels[of_labels]


def _form(name: str, x: Any, labels: Any, axis: int) -> layout.Layout:
    """Where the classes or features lie in an array of which nothing is read yet; labels are checked beside it."""
    backend, (x,) = adopted(**{name: x})
    form = layout.aligned(backend, name, x, axis)
    if not form.single:
        msg = f"axis must be an int for {name} of at least one dimension, got {axis}; reshape several axes into one"
        raise ValueError(msg)
    _, (labels,) = adopted(labels=labels)
    if kind_of(labels.dtype) != "integer":
        msg = f"labels must be integers, got dtype {dtype_name(labels.dtype)}; an evaluation counts right and wrong"
        raise TypeError(msg)
    if not layout.same(tuple(labels.shape), form.batch_shape):
        msg = f"labels must have the batch shape {form.batch_shape}, got {tuple(labels.shape)}; reshape one of them"
        raise ValueError(msg)
    return form


def _blocks(form: layout.Layout, classes: int) -> Iterator[tuple[float, tuple[slice, ...], tuple[slice, ...]]]:
    """Blocks of rows: which share of them each is, and where it lies in the array and in the labels."""
    most = max(1, ENTRIES // max(classes, 1))
    rows = math.prod(form.batch_shape)
    for at in _boxes(form.batch_shape, most) if rows else ():
        share = math.prod(len(range(n)[s]) for n, s in zip(form.batch_shape, at, strict=True)) / rows
        yield share, (*at[: form.axis], slice(None), *at[form.axis :]), at


def _boxes(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Slices of an array in C order, of at most so many entries each."""
    if not shape:
        yield ()
        return
    first, *others = shape
    inner = math.prod(others)
    if inner > most:
        for n in range(first):
            yield from ((slice(n, n + 1), *box) for box in _boxes(tuple(others), most))
        return
    step = most // inner
    for n in range(0, first, step):
        yield (slice(n, min(n + step, first)), *(slice(None) for _ in others))


def _measured(
    logits: Any, labels: Any, axis: int, ignore_index: int | None, *, top: tuple[int, ...], bins: int
) -> Evaluation:
    """The evaluation of one block."""
    backend, (x, integers) = adopted(logits=logits, labels=labels)
    x, integers = backend.stop_gradient(x), backend.comparable(integers)
    form = layout.aligned(backend, "logits", x, axis)
    losses = cross_entropy(x, labels, axis=axis, ignore_index=ignore_index, reduction="none")
    rows = {"x": x, "labels": form.per_row(integers)}
    dtype, _ = floating(backend, "logits", x, None)
    standing = map(form.rows, backend.evaluate(formula.standing, rows, axis=form.axis, dtype=dtype))

    examples = {"losses": losses, **dict(zip(("before", "sureness", "entropies"), standing, strict=True))}
    if ignore_index is not None:
        examples["kept"] = ~backend.quietly(equals, backend, integers, ignore_index)
    line = {name: backend.reshape(y, (-1,)) for name, y in examples.items()}
    found = backend.evaluate(formula.tallies, line, axis=0, top=(1, *top), bins=bins, dtype=dtype)
    numbers = found.tolist() if hasattr(found, "tolist") else [float(found[n]) for n in range(found.shape[0])]

    sums, (entropies, *numbers) = numbers[: len(LossSum._fields)], numbers[len(LossSum._fields) :]
    hits, of_bins = numbers[: 1 + len(top)], numbers[1 + len(top) :]
    return Evaluation(
        LossSum(*sums),
        entropies,
        tuple(zip((1, *top), map(int, hits), strict=True)),
        tuple((int(of_bins[m]), int(of_bins[m + bins]), of_bins[m + 2 * bins]) for m in range(bins)),
    )


# -- progress ---------------------------------------------------------------------------------------------------------


class _Bar:
    """A progress bar that appears when work turns out to be long, or at once where it was asked for."""

    def __init__(self, asked: bool | None, batches: Any) -> None:  # noqa: FBT001 - the caller's option
        if asked is not None and not isinstance(asked, bool):
            msg = f"progress must be True, False or None, got {asked!r}"
            raise TypeError(msg)
        self.asked, self.began, self.done = asked, monotonic(), 0.0
        self.total = len(batches) if hasattr(batches, "__len__") else None
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.asked:
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, share: float) -> None:
        """Some part of a batch is done."""
        self.done += share
        if self.bar is None and self.asked is None and monotonic() - self.began > _LONG:
            self._start()
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)

    def _start(self) -> None:
        try:
            progress, console = import_module("rich.progress"), import_module("rich.console").Console(stderr=True)
        except ModuleNotFoundError as error:
            if self.asked:
                msg = "progress=True must have rich, which is not installed; pip install rich, or leave progress out"
                raise ModuleNotFoundError(msg) from error
            self.asked = False
            return
        if self.asked or console.is_terminal or console.is_jupyter:
            self.bar = progress.Progress(
                *progress.Progress.get_default_columns(), progress.TimeElapsedColumn(), console=console
            )
            self.task = self.bar.add_task("evaluate", total=self.total)
            self.bar.start()
        else:
            self.asked = False
