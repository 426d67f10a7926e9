"""Bad calls and what they say: the argument, what was expected, what came, what to do (§8).

A table has one bad call a line: what it must say, and the call. " ... " in a text stands for anything; every text also
has the form "argument must …, got …". Each call runs on every backend that it applies to, and leaves its inputs as they
were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matrix import Backend, load, numpy_dtype

import softxent
from softxent.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Array = Any

# Called wrongly on purpose, so without their types.
softmax: Any = softxent.softmax
log_softmax: Any = softxent.log_softmax
softmin: Any = softxent.softmin
logsumexp: Any = softxent.logsumexp
cross_entropy: Any = softxent.cross_entropy
one_hot: Any = softxent.one_hot
smooth_labels: Any = softxent.smooth_labels

LOGITS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
LABELS = [0, 1, 2, 0]
ONE_HOT = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]

EAGER = ("numpy", "array_api_strict", "torch", "jax")
LAZY = ("dask",)


class Inputs:
    """Makes the arrays of a call on a backend, and remembers them."""

    def __init__(self, backend: Backend, wrap: Callable[[Array], Array] = lambda array: array) -> None:
        self.backend = backend
        self.wrap = wrap
        self.made: list[tuple[Array, np.ndarray[Any, Any]]] = []

    def array(self, value: Any, dtype: str) -> Array:
        array = self.backend.array(value, dtype)
        self.made.append((array, np.array(value, dtype=numpy_dtype(dtype))))
        return self.wrap(array)

    def floats(self, value: Any) -> Array:
        return self.array(value, "float32")

    def ints(self, value: Any, dtype: str = "int32") -> Array:
        return self.array(value, dtype)

    def bools(self, value: Any) -> Array:
        return self.array(value, "bool")

    def foreign(self, value: Any) -> Array:
        """An array of a library that never mixes with the backend's."""
        return load("numpy" if self.backend.library == "array_api_strict" else "strict").array(value)

    def loss(self, **options: Any) -> object:
        return cross_entropy(self.x, self.y, **options)

    @property
    def x(self) -> Array:
        """Logits (4, 3)."""
        return self.floats(LOGITS)

    @property
    def row(self) -> Array:
        """Unbatched logits (3,)."""
        return self.floats(LOGITS[0])

    @property
    def y(self) -> Array:
        """Labels (4,)."""
        return self.ints(LABELS)

    @property
    def q(self) -> Array:
        """Distributions (4, 3)."""
        return self.floats(ONE_HOT)

    def assert_untouched(self) -> None:
        for array, value in self.made:
            np.testing.assert_array_equal(self.backend.numpy(array), value, strict=True)


@dataclass(frozen=True)
class Bad:
    """A bad call."""

    error: type[Exception]
    text: str
    call: Callable[[Inputs], object]


def refused(error: type[Exception], calls: dict[str, Callable[[Inputs], object]]) -> list[Bad]:
    """Lines of a table: what each call must say."""
    return [Bad(error, text, call) for text, call in calls.items()]


def table(bad: Sequence[Bad]) -> pytest.MarkDecorator:
    """Run the test on each line."""
    return pytest.mark.parametrize("bad", bad, ids=lambda line: line.text)


def assert_refused(bad: Bad, call: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert caught.type is bad.error, said
    assert re.match(r"[a-z_]+\b.* must (not )?\w+.*\bgot ", said, re.DOTALL), said
    pattern = ".*".join(re.escape(part) for part in bad.text.split(" ... "))
    assert re.search(pattern, said, re.DOTALL), f"{said!r} is not {bad.text!r}"
    assert len(said) < 300, said


def assert_refused_untouched(backend: Backend, bad: Bad) -> None:
    inputs = Inputs(backend)
    assert_refused(bad, lambda: backend.call(bad.call, inputs))
    inputs.assert_untouched()


def complexes(i: Inputs, value: Any = LOGITS) -> Array:
    x = i.floats(value)
    xp: Any = backend_of(x)
    return xp.astype(x, xp.complex64)


def loss(**options: Any) -> Callable[[Inputs], object]:
    """A loss with plain options."""
    return lambda i: cross_entropy(i.x, i.y, **options)


# -- what no backend takes --------------------------------------------------------------------------------------------

NO_ARRAYS = refused(
    TypeError,
    {
        "logits must be an array ... got list ... asarray": lambda _: softmax(LOGITS),
        "logits must be an array ... got tuple": lambda _: log_softmax((1.0, 2.0)),
        "logits must be an array ... got None": lambda _: softmin(None),
        "logits must be an array ... got str": lambda _: softmax("1, 2"),
        "logits must be an array ... got dict": lambda _: softmax({"a": 1.0}),
        "logits must be an array ... got ": lambda i: softmax(type(i.x)),
        "x must be an array ... got float ... asarray": lambda _: logsumexp(1.0),
        "x must be an array ... got None": lambda _: logsumexp(None),
        "logits must be an array ... got list": lambda i: cross_entropy(LOGITS, i.y),
        "logits must be an array, got None": lambda i: cross_entropy(None, i.y),
        "logits must be an array ... got int": lambda i: cross_entropy(3, i.y),
        "labels must be an array ... got list": lambda i: cross_entropy(i.x, LABELS),
        "labels must be ... array ... got None": lambda i: cross_entropy(i.x, None),
        "labels must be an array ... got str": lambda i: cross_entropy(i.x, "cat"),
        "labels must be an array, got list; wrap": lambda _: one_hot(LABELS, 3),
        "labels must be an array, got list": lambda _: smooth_labels(ONE_HOT, 0.1),
        "labels must be an array ... got int": lambda _: one_hot(1, 3),
        "labels must be an array ... got None": lambda _: one_hot(None, 3),
        "labels must be an array, got None": lambda _: smooth_labels(None, 0.1),
        "where must be ... array ... got list": lambda i: softmax(i.x, where=[True] * 3),
        "b must be ... array ... got list": lambda i: logsumexp(i.x, b=[1.0] * 3),
        "weight must be ... array ... got tuple ... asarray": lambda i: i.loss(weight=(1.0, 1.0, 2.0)),
        "sample_weight must be ... array ... got list": lambda i: i.loss(sample_weight=[1.0] * 4),
        "label_smoothing must be ... array ... got str": lambda i: i.loss(label_smoothing="0.1"),
        "temperature must be ... array ... got complex": lambda i: softmax(i.x, temperature=1j),
        "softcap must be ... got list": lambda i: i.loss(softcap=[30.0]),
        "denominator must be ... got list": lambda i: i.loss(denominator=[4.0]),
        "ignore_index must be an int ... got ": lambda i: i.loss(ignore_index=[0]),
        "smoothing_prior must be ... array ... got list": lambda i: i.loss(
            label_smoothing=0.1, smoothing_prior=[0.2, 0.3, 0.5]
        ),
    },
)

LIBRARIES = refused(
    TypeError,
    {
        "labels must be of the same library as logits ... got ... beside ... convert": lambda i: cross_entropy(
            i.x, i.foreign(LABELS)
        ),
        "labels must be of the same library as logits, got ... beside": lambda i: cross_entropy(i.foreign(LOGITS), i.y),
        "where must be of the same library as logits ... got ... beside": lambda i: softmax(
            i.x, where=i.foreign([True, True, False])
        ),
        "temperature must be of the same library as logits ... got ... beside": lambda i: log_softmax(
            i.x, temperature=i.foreign(2.0)
        ),
        "b must be of the same library as x": lambda i: logsumexp(i.x, b=i.foreign([1.0] * 3)),
        "weight must be of the same library as ": lambda i: i.loss(weight=i.foreign([1.0] * 3)),
        "ignore_index must be of the same library as labels": lambda i: one_hot(i.y, 3, ignore_index=i.foreign(0)),
        "smoothing_prior must be of the same library as labels": lambda i: smooth_labels(
            i.q, 0.1, smoothing_prior=i.foreign([0.2, 0.3, 0.5])
        ),
    },
)

DTYPES = refused(
    TypeError,
    {
        "logits must be ... got dtype complex64 ... real": lambda i: softmax(complexes(i)),
        "x must be ... got dtype complex64": lambda i: logsumexp(complexes(i)),
        "labels must be integer ... or floating ... got dtype complex64": lambda i: cross_entropy(i.x, complexes(i)),
        "temperature must be ... got dtype complex64": lambda i: softmax(i.x, temperature=complexes(i, 1.0)),
        "b must be ... got dtype complex64": lambda i: logsumexp(i.x, b=complexes(i)),
        "weight must be ... got dtype complex64": lambda i: i.loss(weight=complexes(i, [1, 1, 1])),
        "labels must be integer ... got dtype bool ... cast": lambda i: cross_entropy(
            i.x, i.bools([True, False, True, True])
        ),
        "labels must be ... floating ... got dtype bool ... cast": lambda i: cross_entropy(i.x, i.bools(ONE_HOT)),
        "labels must ... integer dtype, got ... bool": lambda i: one_hot(i.bools([True]), 2),
        "labels must ... integer dtype, got ... float32": lambda i: one_hot(i.x, 3),
        "labels must be integer ... got dtype bool": lambda i: smooth_labels(i.bools([True, False]), 0.1),
        "labels must be integer ... floating ... got dtype bool": lambda i: smooth_labels(
            i.bools([True, False]), 0.1, num_classes=2
        ),
        "where must be bool ... got 1": lambda i: softmax(i.x, where=1),
        "where must be bool ... got 1.0": lambda i: i.loss(where=1.0),
        "where must be bool ... got dtype float32 ... compare": lambda i: log_softmax(
            i.x, where=i.floats([1.0, 1.0, 0.0])
        ),
        "where must be bool ... got dtype int32 ... compare": lambda i: i.loss(where=i.ints([1, 1, 0, 1])),
        "ignore_index must be an int ... got -1.0": lambda i: i.loss(ignore_index=-1.0),
        "ignore_index must be an int": lambda i: one_hot(i.y, 3, ignore_index=True),
        "ignore_index must be an int ... got ": lambda i: i.loss(ignore_index=i.floats([[1.0] * 8] * 30)),
        "dtype must be a floating ... 'int32'": lambda i: softmax(i.x, dtype="int32"),
        "dtype must be a floating ... got 'complex64'": lambda i: i.loss(dtype="complex64"),
        "dtype must be a floating ... 'real'": lambda i: logsumexp(i.x, dtype="real"),
        "dtype must be a floating ... got 32": lambda i: one_hot(i.y, 3, dtype=32),
        "dtype must be a floating ... int32": lambda i: smooth_labels(i.q, 0.1, dtype=i.backend.dtype("int32")),
    },
)

SHAPES = refused(
    ValueError,
    {
        "labels must have the batch shape (4,) ... got (4, 1) ... squeeze(labels, axis=1)": lambda i: cross_entropy(
            i.x, i.ints([[0], [1], [2], [0]])
        ),
        "labels must have the batch shape (3,) ... got (1, 3) ... squeeze(labels, axis=0)": lambda i: cross_entropy(
            i.x, i.ints([[0, 1, 2]]), axis=0
        ),
        "labels must have the batch shape (4,) ... got (1, 4) ... one index an example": lambda i: cross_entropy(
            i.x, i.ints([LABELS])
        ),
        "labels must have the batch shape (4,) ... got (3,) ... axis": lambda i: cross_entropy(i.x, i.ints([0, 1, 2])),
        "labels must have the batch shape (4,) ... got () ... one index an example": lambda i: cross_entropy(
            i.x, i.ints(1)
        ),
        "labels must have the batch shape (4,) ... got (4, 3) ... one-hot? ... float": lambda i: cross_entropy(
            i.x, i.ints(ONE_HOT)
        ),
        "labels must have the batch shape () ... got (3,) ... one-hot? ... float": lambda i: cross_entropy(
            i.row, i.ints([0, 1, 0])
        ),
        "labels must have the batch shape () ... got (1,) ... squeeze": lambda i: cross_entropy(i.row, i.ints([0])),
        "labels must have the batch shape (4,) ... got the int 1 ... one label an example": lambda i: cross_entropy(
            i.x, 1
        ),
        "labels must have the logits' shape (4, 3) ... got (4,) ... indices? cast": lambda i: cross_entropy(
            i.x, i.floats(LABELS)
        ),
        "labels must have the logits' shape (4, 3) ... got (4, 1) ... one probability a class": lambda i: cross_entropy(
            i.x, i.floats([[1.0]] * 4)
        ),
        "labels must have the logits' shape (4, 3) ... got (3,) ... nothing is broadcast": lambda i: cross_entropy(
            i.x, i.floats([1.0, 0.0, 0.0])
        ),
        "labels must have the batch shape (2,) ... got (2, 2)": lambda i: cross_entropy(
            i.floats(np.zeros((2, 3, 2))), i.ints([[0, 1], [2, 0]]), axis=(1, 2)
        ),
        "where must broadcast to the logits' shape (4, 3) ... got shape (4,)": lambda i: softmax(
            i.x, where=i.bools([True] * 4)
        ),
        "where must broadcast to the logits' shape (3,) ... got shape (4, 3)": lambda i: softmin(
            i.row, where=i.bools(ONE_HOT)
        ),
        "where must ... batch shape (4,) ... (4, 3) ... got shape (3,)": lambda i: i.loss(where=i.bools([True] * 3)),
        "temperature must broadcast to the logits' shape (4, 3) ... got shape (2,)": lambda i: log_softmax(
            i.x, temperature=i.floats([1.0, 2.0])
        ),
        "temperature must ... batch shape (4,) ... (4, 3) ... got shape (2, 3)": lambda i: i.loss(
            temperature=i.floats([[1.0] * 3] * 2)
        ),
        "b must broadcast to ... (4, 3) ... got shape (4,)": lambda i: logsumexp(i.x, b=i.floats([1.0] * 4)),
        "weight must have shape (3,), one value a class, got shape (4,)": lambda i: i.loss(weight=i.floats([1.0] * 4)),
        "weight must have shape (4,), one value a class, got shape (3,)": lambda i: cross_entropy(
            i.x, i.ints([0, 1, 3]), weight=i.floats([1.0] * 3), axis=0
        ),
        "weight must have shape (3,) ... got shape (1, 3)": lambda i: i.loss(weight=i.floats([[1.0] * 3])),
        "weight must have shape (3,) ... got a number": lambda i: i.loss(weight=2.0),
        "weight must have shape (3,), one value a class, got a number": lambda i: i.loss(weight=2),
        "smoothing_prior must have shape (3,) ... got shape (2,)": lambda i: i.loss(
            label_smoothing=0.1, smoothing_prior=i.floats([0.5, 0.5])
        ),
        "smoothing_prior must have shape (3,) ... got a number": lambda i: smooth_labels(i.q, 0.1, smoothing_prior=1),
        "sample_weight must be a scalar or have the batch shape (4,) ... got shape (3,)": lambda i: i.loss(
            sample_weight=i.floats([1.0] * 3)
        ),
        "sample_weight must be a scalar or have the batch shape (4,) ... got shape (4, 1) ... dimension": lambda i: (
            i.loss(sample_weight=i.floats([[1.0]] * 4))
        ),
        "label_smoothing must be a scalar or have the batch shape (4,) ... got shape (4, 3)": lambda i: smooth_labels(
            i.y, i.x, num_classes=3
        ),
        "softcap must be a number or a 0-d array ... got shape (1,)": lambda i: i.loss(softcap=i.floats([30.0])),
        "z_loss must be a number or a 0-d array ... got shape (4,)": lambda i: i.loss(z_loss=i.floats([1e-4] * 4)),
        "denominator must be a number or a 0-d array ... got shape (2,)": lambda i: i.loss(
            denominator=i.floats([2.0, 2.0])
        ),
        "ignore_index must be ... 0-d array ... got shape (1,)": lambda i: i.loss(ignore_index=i.ints([-1])),
    },
) + refused(
    TypeError,
    {
        "labels must be ... got 1.0 ... integers": lambda i: cross_entropy(i.row, 1.0),
        "labels must be ... got True ... integers": lambda i: cross_entropy(i.row, labels=True),
    },
)

AXES = refused(
    ValueError,
    {
        "axis must be from -2 to 1 ... logits ... got 2": lambda i: softmax(i.x, axis=2),
        "axis must be from -2 to 1 ... x ... got -3": lambda i: logsumexp(i.x, axis=-3),
        "axis must ... got ... 5": lambda i: log_softmax(i.x, axis=(0, 5)),
        "axis must ... once ... (0, 0)": lambda i: i.loss(axis=(0, 0)),
        "axis must ... once ... (1, -1)": lambda i: softmin(i.x, axis=(1, -1)),
        "axis must be an int ... got 1.0": lambda i: i.loss(axis=1.0),
        "axis must be an int ... got True": lambda i: softmax(i.x, axis=True),
        "axis must be an int ... got 'C'": lambda i: logsumexp(i.x, axis="C"),
        "axis must be an int, a tuple ... got [1]": lambda i: softmax(i.x, axis=[1]),
        "axis must be ... got ... 1.0": lambda i: softmax(i.x, axis=(0, 1.0)),
        "axis must be ... -1 ... 0 ... got 1": lambda i: softmax(i.floats(1.0), axis=1),
        "axis must be ... from -2 to 1 ... got 2": lambda i: one_hot(i.y, 3, axis=2),
        "axis must be an int ... got None": lambda i: one_hot(i.y, 3, axis=None),
        "axis must be an int from -2 to 1 ... got 1.0": lambda i: one_hot(i.y, 3, axis=1.0),
        "axis must be from -2 to 1 ... got 2": lambda i: smooth_labels(i.q, 0.1, axis=2),
        "axis must be an int ... got (0, 1)": lambda i: smooth_labels(i.y, 0.1, num_classes=3, axis=(0, 1)),
    },
)

NUMBERS = refused(
    ValueError,
    {
        "temperature must ... greater than 0, got 0; ... argmax": loss(temperature=0),
        "temperature must ... greater than 0, got 0.0; ... argmax": loss(temperature=0.0),
        "temperature must ... greater than 0, got -1.0": loss(temperature=-1.0),
        "temperature must be finite ... got nan": loss(temperature=np.nan),
        "temperature must be finite ... got inf": loss(temperature=np.inf),
        "temperature must be finite ... got inf; ": loss(temperature=10**400),
        "temperature must ... got 0": lambda i: softmax(i.x, temperature=0),
        "softcap must ... greater than 0, got 0; None": loss(softcap=0),
        "softcap must ... greater than 0, got -30.0": loss(softcap=-30.0),
        "softcap must be finite ... got inf; None": loss(softcap=np.inf),
        "z_loss must be finite, got nan": loss(z_loss=np.nan),
        "label_smoothing must ... from 0 to 1, got 10": loss(label_smoothing=10),
        "label_smoothing must ... got -0.1": loss(label_smoothing=-0.1),
        "label_smoothing must ... got nan": loss(label_smoothing=np.nan),
        "label_smoothing must ... got 1.5": lambda i: smooth_labels(i.q, 1.5),
        "label_smoothing must ... got None; 0.0": lambda i: smooth_labels(i.q, None),
        "sample_weight must be finite, got inf": loss(sample_weight=np.inf),
        "b must be finite, got nan": lambda i: logsumexp(i.x, b=np.nan),
        "denominator must ... at least 0, got -1": loss(denominator=-1),
        "denominator must be finite ... got nan": loss(denominator=np.nan),
        "num_classes must be at least 0, got -1": lambda i: one_hot(i.y, -1),
    },
) + refused(
    TypeError,
    {
        "temperature must be a number ... got True": loss(temperature=True),
        "z_loss must be a number ... got True": loss(z_loss=True),
        "label_smoothing must ... number ... True": loss(label_smoothing=True),
        "sample_weight must be a number ... got True": loss(sample_weight=True),
        "b must be a number ... got True": lambda i: logsumexp(i.x, b=True),
        "denominator must be a number ... got True": loss(denominator=True),
        "num_classes must be an int, got 3.0": lambda i: one_hot(i.y, 3.0),
        "num_classes must be an int, got True": lambda i: one_hot(i.y, num_classes=True),
        "num_classes must be an int, got None": lambda i: one_hot(i.y, None),
    },
)

OPTIONS = refused(
    ValueError,
    {
        "reduction must be one of 'mean', 'sum' ... got 'avg'": loss(reduction="avg"),
        "reduction must be one of ... 'none' ... got None": loss(reduction=None),
        "denominator must be one of 'weight' ... got 'n'": loss(denominator="n"),
        "denominator must be one of ... number, got None": loss(denominator=None),
        "denominator must be left out for reduction='none' ... got 'count'": loss(
            reduction="none", denominator="count"
        ),
        "denominator must be left out for reduction='sum' ... got 4": loss(reduction="sum", denominator=4),
        "denominator must be ... for reduction='sum_and_weight' ... got 4.0": loss(
            reduction="sum_and_weight", denominator=4.0
        ),
        "empty_mean must be one of 'zero', 'nan', got 0.0": loss(empty_mean=0.0),
        "empty_mean must be left out for reduction='sum' ... got 'nan'": loss(reduction="sum", empty_mean="nan"),
        "aux must be ... 'lse' ... got ": loss(aux="logsumexp"),
        "aux must be ... 'lse' ... got ('lse', 'acc')": loss(aux=("lse", "acc")),
        "aux must be a tuple ... got ['lse']": loss(aux=["lse"]),
        "aux must be a tuple ... got True": loss(aux=True),
        "aux='z_loss' must come with z_loss": loss(aux="z_loss"),
        "smoothing_prior must come with label_smoothing": lambda i: i.loss(smoothing_prior=i.floats([0.2, 0.3, 0.5])),
        "ignore_index must be left out beside floating labels ... where=": lambda i: cross_entropy(
            i.x, i.q, ignore_index=0
        ),
        "ignore_index must be left out beside floating labels": lambda i: smooth_labels(i.q, 0.1, ignore_index=0),
        "num_classes must be given beside integer labels, got None": lambda i: smooth_labels(i.y, 0.1),
        "num_classes must be left out beside floating labels ... got 3": lambda i: smooth_labels(
            i.q, 0.1, num_classes=3
        ),
    },
) + refused(
    TypeError,
    {
        "check must be True ... None ... got 1": loss(check=1),
        "check must be ... got 'yes'": lambda i: one_hot(i.y, 3, check="yes"),
        "keepdims must be True or False, got 1": lambda i: logsumexp(i.x, keepdims=1),
        "return_sign must be ... got None": lambda i: logsumexp(i.x, return_sign=None),
    },
)

STATIC = [*NO_ARRAYS, *LIBRARIES, *DTYPES, *SHAPES, *AXES, *NUMBERS, *OPTIONS]


@table(STATIC)
def test_refused(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


def test_two_libraries(backends: list[Backend]) -> None:
    # NumPy's arrays alone may stand beside others, those of jax and Dask among them. §1.2
    members = list({member.library: member for member in backends if not member.exact}.values())
    adopting = {"jax", "dask", "tensorflow"}
    for one, two in permutations(members, 2):
        if {one.library, two.library} & {"numpy"} and {one.library, two.library} & adopting:
            continue
        x, y, weight = one.array(LOGITS, "float32"), two.array(LABELS, "int32"), two.array([1, 1, 1], "float32")
        beside = f"got {two.library} beside {one.library}; convert"
        bad = Bad(TypeError, f"labels must be of the same library as logits, {beside}", lambda _: None)
        assert_refused(bad, lambda: cross_entropy(x, y))  # noqa: B023 - called at once
        if one.library in adopting:
            y = one.array(LABELS, "int32")
            bad = Bad(TypeError, f"weight must be of the same library as labels, {beside}", lambda _: None)
            assert_refused(bad, lambda: cross_entropy(np.asarray(LOGITS), y, weight=weight))  # noqa: B023


@pytest.mark.backends("jax")
@table([bad for bad in STATIC if bad not in LIBRARIES])
def test_refused_inside_a_trace(backend: Backend, bad: Bad) -> None:
    import jax

    inputs = Inputs(backend, wrap=jax.numpy.copy)  # inside jit, where even a copy of a constant is a tracer
    assert_refused(bad, lambda: jax.eval_shape(lambda: bad.call(inputs)))


def test_the_tables_are_long_enough() -> None:
    assert len([*STATIC, *NUMPY, *ML_DTYPES, *TORCH, *JAX, *DASK, *STRICT, *VALUES, *CHECKED, *TRACED]) >= 200


# -- what one library does not take -----------------------------------------------------------------------------------


class OwnMatrix(np.matrix):
    pass


def masked(value: Any) -> Array:
    return np.ma.masked_array(value, mask=False)


NUMPY = refused(
    TypeError,
    {
        "logits must be a plain array, got ... matrix; ... asarray": lambda _: softmax(np.matrix(LOGITS)),
        "logits must be a plain array, got ": lambda _: softmax(OwnMatrix(LOGITS)),
        "labels must be a plain array, got ... matrix": lambda i: cross_entropy(i.x, np.matrix([0, 1, 2, 0])),
        "x must be a plain array, got ... MaskedArray; ... where=": lambda _: logsumexp(masked(LOGITS)),
        "labels must be a plain array, got ... MaskedArray": lambda _: one_hot(masked(LABELS), 3),
        "where must be a plain array, got ... MaskedArray": lambda i: i.loss(where=masked([True] * 4)),
        "logits must be a plain array, got ... Masked": lambda _: softmax(np.ma.masked),
        "logits must be ... got dtype object; convert": lambda _: softmax(np.array(LOGITS, object)),
        "labels must be integer ... got dtype object": lambda i: cross_entropy(i.x, np.array(LABELS, object)),
        "weight must be ... got dtype object": lambda i: i.loss(weight=np.array([1, 2, 3], object)),
        "logits must be ... got dtype str": lambda _: log_softmax(np.array([["1.0", "2.0"]])),
        "labels must be integer ... got dtype str": lambda i: cross_entropy(
            i.x, np.array(["cat", "dog", "cat", "cow"])
        ),
        "labels must ... integer dtype, got ... str": lambda _: one_hot(np.array(["a"]), 3),
        "x must be ... got dtype datetime64": lambda _: logsumexp(np.zeros(3, "M8[s]")),
        "logits must be ... got dtype timedelta64": lambda _: softmin(np.zeros(3, "m8[s]")),
        "logits must be ... got dtype void": lambda _: softmax(np.zeros(3, "f4,i4")),
    },
)


ML_DTYPES = refused(
    TypeError,
    {
        "logits must be ... got dtype float8_e4m3fn; cast": lambda i: softmax(tiny(i, "float8_e4m3fn")),
        "x must be ... got dtype float8_e5m2": lambda i: logsumexp(tiny(i, "float8_e5m2")),
        "labels must be integer ... or floating ... got dtype float8_e4m3fn": lambda i: cross_entropy(
            i.x, tiny(i, "float8_e4m3fn")
        ),
        "temperature must be ... got dtype float8_e4m3fn": lambda i: softmax(i.x, temperature=tiny(i, "float8_e4m3fn")),
        "labels must be integer ... got dtype int4": lambda i: cross_entropy(i.x, tiny(i, "int4")),
        "dtype must be a floating ... float8": lambda i: softmax(i.x, dtype="float8_e4m3fn"),
    },
)


def tiny(i: Inputs, dtype: str) -> Array:
    """Zeros (4, 3) of a dtype that NumPy does not have itself."""
    import ml_dtypes

    return i.backend.xp.asarray(np.zeros((4, 3), getattr(ml_dtypes, dtype)))


def tensor(value: Any, **options: Any) -> Array:
    import torch

    return torch.tensor(value, **options)


def torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


TORCH = refused(
    TypeError,
    {
        "logits must be ... got dtype float8_e4m3fn; cast": lambda i: softmax(i.x.to(torch_dtype("float8_e4m3fn"))),
        "labels must be integer ... got dtype float8_e5m2": lambda i: cross_entropy(
            i.x, i.q.to(torch_dtype("float8_e5m2"))
        ),
        "temperature must be of the same library as logits, got numpy beside torch": lambda i: softmax(
            i.x, temperature=np.asarray(2.0)
        ),
        "dtype must be ... torch ... got ": lambda i: softmax(i.x, dtype=np.longdouble),
        "logits must be ... got ... sparse": lambda i: softmax(i.x.to_sparse()),
    },
) + refused(
    ValueError,
    {
        "labels must be on the device of logits, cpu, got meta; move": lambda i: cross_entropy(i.x, i.y.to("meta")),
        "labels must be on the device of logits, meta, got cpu; move": lambda i: cross_entropy(i.x.to("meta"), i.y),
        "weight must be on the device of logits, cpu, got meta": lambda i: i.loss(
            weight=i.floats([1.0] * 3).to("meta")
        ),
        "temperature must be on the device of logits, cpu, got meta": lambda i: softmax(
            i.x, temperature=tensor(2.0, device="meta")
        ),
    },
)


JAX = refused(
    TypeError,
    {
        "logits must be ... got dtype key": lambda _: softmax(random_key()),
        "dtype must be ... jax ... got ": lambda i: softmax(i.x, dtype=np.longdouble),
        "check must be True ... got ": lambda i: jitted(lambda x, a: cross_entropy(x, 0, check=a == 1), i.row),
        "num_classes must be an int ... got": lambda i: jitted(one_hot, i.y),
        "ignore_index must be an int ... got ... float": lambda i: jitted(
            lambda y, a: one_hot(y, 3, ignore_index=a / 2), i.y
        ),
    },
) + refused(
    ValueError,
    {
        "axis must be an int ... got ": lambda i: jitted(lambda x, a: softmax(x, axis=a), i.x),
    },
)


def random_key() -> Array:
    import jax

    return jax.random.key(0)


def jitted(function: Callable[[Array, Array], object], array: Array) -> object:
    import jax

    return jax.jit(lambda option: function(array, option))(1)


DASK = refused(
    ValueError,
    {
        "logits must have a known number of classes, got ... axis 1; ... compute_chunk_sizes()": lambda i: softmax(
            i.x[:, i.row > 1.0]
        ),
        "x must have a known number of classes, got ... axis 0": lambda i: logsumexp(i.x[i.x[:, 0] > 0.0], axis=0),
        "logits must have a known number of classes, got ... axis 0": lambda i: log_softmax(
            i.x[i.x[:, 0] > 0.0], axis=None
        ),
        "logits must have a known number of classes, got ... compute_chunk_sizes()": lambda i: cross_entropy(
            i.x[:, i.row > 1.0], i.y
        ),
        "labels must have a known number of classes": lambda i: smooth_labels(i.q[:, i.row > 1.0], 0.1),
    },
) + refused(
    TypeError,
    {
        "logits must be a plain array, got ... MaskedArray": lambda i: softmax(i.backend.xp.ma.masked_array(i.x)),
        "logits must be ... got dtype str": lambda i: softmax(i.backend.xp.from_array(np.array([["a", "b"]]))),
    },
)


def elsewhere(i: Inputs, value: Any, dtype: str = "float32") -> Array:
    """An array of the strict library on another device than the backend's."""
    return load("strict" if i.backend.name == "strict-device2" else "strict-device2").array(value, dtype)


STRICT = refused(
    ValueError,
    {
        "labels must be on the device of logits, ... got ... move": lambda i: cross_entropy(
            i.x, elsewhere(i, LABELS, "int32")
        ),
        "labels must be on the device of logits, ... device2 ... move": lambda i: cross_entropy(
            elsewhere(i, LOGITS), i.y
        ),
        "temperature must be on the device of logits, ... got ... move": lambda i: softmax(
            i.x, temperature=elsewhere(i, 2.0)
        ),
        "b must be on the device of x, ... got ... move": lambda i: logsumexp(i.x, b=elsewhere(i, [1.0, 1.0, 1.0])),
    },
) + refused(
    TypeError,
    {
        "where must be of the same library as logits, got numpy beside array_api_strict": lambda i: softmax(
            i.x, where=np.asarray([True, True, False])
        ),
        "dtype must be ... array_api_strict ... got float16": lambda i: softmax(i.x, dtype="float16"),
        "dtype must be ... array_api_strict has ... got float16": lambda i: one_hot(i.y, 3, dtype=np.float16),
    },
)


@pytest.mark.backends("numpy")
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@table(NUMPY)
def test_refused_by_numpy(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends("numpy", "jax", "dask")
@table(ML_DTYPES)
def test_refused_by_what_has_ml_dtypes(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends("torch")
@table(TORCH)
def test_refused_by_torch(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends("jax")
@table(JAX)
def test_refused_by_jax(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends("dask")
@table(DASK)
def test_refused_by_dask(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends("array_api_strict")
@table(STRICT)
def test_refused_by_strict(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.fixture
def no_x64() -> Iterator[None]:
    """As jax is by default."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)  # noqa: FBT003
    yield
    jax.config.update("jax_enable_x64", before)


FLOAT64 = refused(
    TypeError,
    {
        "dtype must be ... has ... got float64": lambda i: softmax(i.x, dtype="float64"),
        "dtype must be ... has ... float64": lambda i: i.loss(dtype=np.float64),
        "dtype must be ... has ... got ... 64": lambda i: one_hot(i.y, 3, dtype=np.dtype("f8")),
    },
)


@pytest.mark.backends("jax")
@pytest.mark.usefixtures("no_x64")
@table(FLOAT64)
def test_float64_without_x64(backend: Backend, bad: Bad) -> None:
    assert_refused(bad, lambda: backend.call(bad.call, Inputs(backend)))


@pytest.mark.backends("jax")
@pytest.mark.usefixtures("no_x64")
def test_float64_without_x64_says_how_to_enable_it(backend: Backend) -> None:
    with pytest.raises(TypeError, match="jax_enable_x64"):
        softmax(Inputs(backend).x, dtype="float64")


@pytest.mark.backends("strict-no-float64", "strict-no-x64")
@table(FLOAT64)
def test_float64_on_a_device_without_it(backend: Backend, bad: Bad) -> None:
    assert_refused(bad, lambda: backend.call(bad.call, Inputs(backend)))


# -- values -----------------------------------------------------------------------------------------------------------

# By default refused where values can be read for free, and NaN elsewhere.
VALUES = refused(
    ValueError,
    {
        "labels must be from 0 to 2, got 3 at position 1; ... ignore_index=3": lambda i: cross_entropy(
            i.x, i.ints([0, 3, 1, 7])
        ),
        "labels must be from 0 to 2, got -1 at position 3; ... ignore_index=-1": lambda i: cross_entropy(
            i.x, i.ints([0, 1, 2, -1])
        ),
        "labels must be from 0 to 2, got -100 at position 2": lambda i: cross_entropy(
            i.x, i.ints([0, -1, -100, 1]), ignore_index=-1
        ),
        "labels must be from 0 to 2, got 3; ... ignore_index=3": lambda i: cross_entropy(i.row, i.ints(3)),
        "labels must be from 0 to 3, got 4 at position 2": lambda i: cross_entropy(i.x, i.ints([0, 3, 4]), axis=0),
        "labels must be from 0 to 2, got 5 at position (1, 0)": lambda i: cross_entropy(
            i.floats(np.zeros((2, 3, 2))), i.ints([[0, 1], [5, 9]]), axis=1
        ),
        "labels must be from 0 to 5, got 6 at position 1": lambda i: cross_entropy(
            i.floats(np.zeros((2, 3, 2))), i.ints([5, 6]), axis=(1, 0)
        ),
        "labels must be from 0 to 0, got 1 at position 0": lambda i: cross_entropy(
            i.floats([[1.0], [2.0]]), i.ints([1, 0])
        ),
        "labels must be from 0 to 2, got 9 at position 3": lambda i: cross_entropy(
            i.x, i.ints([7, 8, 6, 9]), ignore_index=8, where=i.bools([0, 1, 1, 1]), sample_weight=i.floats([1, 1, 0, 1])
        ),
        "labels must be from 0 to 2, got 3 at position (0, 1); ... ignore_index=3": lambda i: one_hot(
            i.ints([[0, 3], [1, -1]]), 3
        ),
        "labels must be from 0 to 2, got -1 at position 1": lambda i: smooth_labels(
            i.ints([0, -1]), 0.1, num_classes=3
        ),
        "sample_weight must not be negative ... got -2 ... denominator='count'": lambda i: i.loss(
            sample_weight=i.floats([1, 1, -2, 1])
        ),
        "sample_weight must not be negative": loss(sample_weight=-1.0),
        "sample_weight must not be negative ... got -2 at position 2": lambda i: cross_entropy(
            i.x, i.q, sample_weight=i.floats([1, 1, -2, 1]), reduction="sum_and_weight"
        ),
    },
)


@pytest.mark.backends(*EAGER)
@table(VALUES)
def test_values_refused(backend: Backend, bad: Bad) -> None:
    assert_refused_untouched(backend, bad)


@pytest.mark.backends(*LAZY)
@table(VALUES)
def test_values_that_cannot_be_read_are_nan(backend: Backend, bad: Bad) -> None:
    result = backend.call(bad.call, Inputs(backend))
    parts = result if isinstance(result, tuple) else (result,)
    assert any(np.isnan(backend.numpy(part)).any() for part in parts)


def test_int_label_out_of_range(backend: Backend) -> None:
    # A Python int has a value everywhere: no array has to be read.
    bad = Bad(ValueError, "labels must be from 0 to 2, got 3; ", lambda i: cross_entropy(i.row, 3))
    assert_refused(bad, lambda: backend.call(bad.call, Inputs(backend)))


def out_of_range(int_dtype: str) -> list[int]:
    """Both ends of the dtype and what lies next to the three classes."""
    info = np.iinfo(int_dtype)
    return [3, int(info.max), *((-1, int(info.min)) if info.min < 0 else ())]


@pytest.mark.backends(*EAGER)
def test_label_out_of_range_is_named(backend: Backend, int_dtype: str) -> None:
    for wrong in out_of_range(int_dtype):
        inputs = Inputs(backend)
        labels = inputs.ints([0, 2, wrong, wrong], int_dtype)
        said = f"labels must be from 0 to 2, got {wrong} at position 2; "
        for call in (
            lambda: cross_entropy(inputs.x, labels),  # noqa: B023 - called at once
            lambda: one_hot(labels, 3),  # noqa: B023
            lambda: smooth_labels(labels, 0.1, num_classes=3),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=re.escape(said)):
                backend.call(call)
        inputs.assert_untouched()


@pytest.mark.parametrize("function", ["cross_entropy", "one_hot", "smooth_labels"])
def test_label_out_of_range_is_nan_unless_checked(backend: Backend, int_dtype: str, function: str) -> None:
    # It does not wrap around, is not clamped, and no other row hears of it. §3.5
    check = None if backend.lazy else False
    for wrong in out_of_range(int_dtype):
        inputs = Inputs(backend)
        labels = inputs.ints([0, 2, wrong, 1], int_dtype)
        if function == "cross_entropy":
            rows = backend.call(cross_entropy, inputs.x, labels, reduction="none", check=check)
        elif function == "one_hot":
            rows = backend.call(one_hot, labels, 3, check=check)
        else:
            rows = backend.call(smooth_labels, labels, 0.1, num_classes=3, check=check)
        unsound = np.isnan(backend.numpy(rows)).reshape(4, -1)
        np.testing.assert_array_equal(unsound.any(axis=1), [False, False, True, False])
        np.testing.assert_array_equal(unsound.all(axis=1), [False, False, True, False])
        inputs.assert_untouched()


@pytest.mark.backends("jax", "dask")
@pytest.mark.parametrize("wide", ["int64", "uint64"])
def test_numpy_labels_are_checked_before_they_are_converted(backend: Backend, wide: str) -> None:
    # Without x64 jax would make 2**32 + 1 a 1. §3.4
    labels = np.asarray([0, 2**32 + 1, 2, 0], wide)
    with pytest.raises(ValueError, match=r"labels must be from 0 to 2, got 4294967297 at position 1"):
        backend.call(cross_entropy, Inputs(backend).x, labels)
    rows = backend.call(cross_entropy, Inputs(backend).x, labels, reduction="none", check=False)
    np.testing.assert_array_equal(np.isnan(backend.numpy(rows)), [False, True, False, False])


IDLE: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "ignore_index": lambda _: {"ignore_index": 99},
    "ignore_index-0d": lambda i: {"ignore_index": i.ints(99)},
    "where-False": lambda i: {"where": i.bools([True, False, True, True])},
    "where-no-class": lambda i: {"where": i.bools([[True] * 3, [False] * 3, [True] * 3, [True] * 3])},
    "sample_weight-0": lambda i: {"sample_weight": i.floats([1.0, 0.0, 1.0, 1.0])},
}


@pytest.mark.parametrize("idle", IDLE)
@pytest.mark.parametrize("check", [None, True, False])
def test_labels_that_take_no_part_are_not_checked(backend: Backend, idle: str, check: bool | None) -> None:  # noqa: FBT001
    inputs = Inputs(backend)
    labels = inputs.ints([0, 99, 2, 0])
    rows = cross_entropy(inputs.x, labels, **IDLE[idle](inputs), reduction="none", check=check)
    expected = cross_entropy(inputs.x, inputs.y, reduction="none")
    np.testing.assert_array_equal(backend.numpy(rows), backend.numpy(expected) * np.asarray([1, 0, 1, 1], np.float32))


@pytest.mark.parametrize("idle", [name for name in IDLE if not name.startswith("sample_weight")])
@pytest.mark.parametrize("check", [None, True, False])
def test_labels_that_take_no_part_are_not_checked_by_smooth_labels(
    backend: Backend,
    idle: str,
    check: bool | None,  # noqa: FBT001
) -> None:
    inputs = Inputs(backend)
    labels = inputs.ints([0, 99, 2, 0])
    rows = smooth_labels(labels, 0.1, num_classes=3, **IDLE[idle](inputs), check=check, dtype="float32")
    np.testing.assert_array_equal(backend.numpy(rows)[1], 0)
    assert not np.isnan(backend.numpy(rows)).any()


def test_ignored_label_is_not_checked_by_one_hot(backend: Backend) -> None:
    rows = one_hot(Inputs(backend).ints([0, 99]), 3, ignore_index=99, check=True, dtype="float32")
    np.testing.assert_array_equal(backend.numpy(rows), [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("options", [{"reduction": "sum"}, {"denominator": "count"}, {"denominator": 4.0}], ids=str)
def test_negative_sample_weight_where_nothing_is_divided_by_it(backend: Backend, options: dict[str, Any]) -> None:
    inputs = Inputs(backend)
    value = backend.call(cross_entropy, inputs.x, inputs.y, sample_weight=inputs.floats([1, -1, 1, 1]), **options)
    assert np.isfinite(backend.numpy(value))


# -- check=True -------------------------------------------------------------------------------------------------------


def checked(**options: Callable[[Inputs], Any]) -> Callable[[Inputs], object]:
    """A checked loss with arrays as options."""
    return lambda i: cross_entropy(
        i.x, i.y, check=True, reduction="sum", **{name: make(i) for name, make in options.items()}
    )


CHECKED = refused(
    ValueError,
    {
        "labels must be from 0 to 2, got 5 at position 1; ... ignore_index=5": lambda i: cross_entropy(
            i.x, i.ints([0, 5, 0, 0]), check=True
        ),
        "labels must be from 0 to 2, got 5 at position 1": lambda i: one_hot(i.ints([0, 5]), 3, check=True),
        "labels must be from 0 to 2, got 5 at": lambda i: smooth_labels(i.ints([0, 5]), 0.1, num_classes=3, check=True),
        "labels must be ... sum to 1, got 1.5 at position 1; ... check=True": lambda i: cross_entropy(
            i.x, i.floats([[1, 0, 0], [1, 0, 0.5], [0, 1, 0], [0, 0, 1]]), check=True
        ),
        "labels must be ... sum to 1, got 0.5 at position 2": lambda i: cross_entropy(
            i.x, i.floats([[1, 0, 0.5], [0, 1, 0], [0, 0, 0], [0, 0, 0]]), axis=0, check=True
        ),
        "labels must be ... not negative, got -1 at position (1, 1)": lambda i: cross_entropy(
            i.x, i.floats([[1, 0, 0], [2, -1, 0], [0, 1, 0], [0, 0, 1]]), check=True
        ),
        "labels must be finite ... got nan at position (3, 2)": lambda i: cross_entropy(
            i.x, i.floats([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, np.nan]]), check=True
        ),
        "labels must be ... sum to 1, got 2 at position 0": lambda i: smooth_labels(
            i.floats([[1, 1, 0]]), 0.1, check=True
        ),
        "weight must be finite and not negative": checked(weight=lambda i: i.floats([1, -1, 1])),
        "sample_weight must be finite, got inf": checked(sample_weight=lambda i: i.floats([1, 1, np.inf, 1])),
        "temperature must be ... positive, got 0": checked(temperature=lambda i: i.floats(0.0)),
        "temperature must be ... positive, got -1 at position 3": checked(
            temperature=lambda i: i.floats([1, 2, 3, -1])
        ),
        "softcap must be ... positive, got -30": checked(softcap=lambda i: i.floats(-30.0)),
        "z_loss must be finite, got nan": checked(z_loss=lambda i: i.floats(np.nan)),
        "label_smoothing must be ... 1, got 2": checked(label_smoothing=lambda i: i.floats(2.0)),
        "label_smoothing must be from 0 to 1, got -1 at position 1": lambda i: smooth_labels(
            i.ints([0, 1]), i.floats([0.1, -1.0]), num_classes=3, check=True
        ),
        "smoothing_prior must be ... not negative, got -1": checked(
            label_smoothing=lambda _: 0.1, smoothing_prior=lambda i: i.floats([1, 1, -1])
        ),
    },
)


@table(CHECKED)
def test_checked_values_refused_also_if_lazy(backend: Backend, bad: Bad) -> None:
    inputs = Inputs(backend)
    assert_refused(bad, lambda: bad.call(inputs))  # not backend.call: here a lazy array is computed
    inputs.assert_untouched()


def test_distributions_are_taken_as_they_are_unless_checked(backend: Backend) -> None:
    inputs = Inputs(backend)
    half = backend.call(cross_entropy, inputs.x, inputs.floats(np.asarray(ONE_HOT) / 2), reduction="none")
    whole = backend.call(cross_entropy, inputs.x, inputs.q, reduction="none")
    np.testing.assert_allclose(backend.numpy(half) * 2, backend.numpy(whole), rtol=1e-6)


def test_sound_values_pass_the_check(backend: Backend, dtype: str) -> None:
    thirds = np.full((4, 3), 1 / 3)
    inputs = Inputs(backend)
    cross_entropy(inputs.array(LOGITS, dtype), inputs.array(thirds, dtype), check=True)
    smooth_labels(inputs.array(thirds, dtype), 0.1, check=True)


def test_distributions_that_take_no_part_are_not_checked(backend: Backend) -> None:
    inputs = Inputs(backend)
    labels = inputs.floats([[1, 0, 0], [9, -9, np.nan], [0, 0, 0], [0, 0, 1]])
    for options in (
        {"where": inputs.bools([True, False, True, True])},
        {"sample_weight": inputs.floats([1.0, 0.0, 1.0, 1.0])},
    ):
        value = cross_entropy(inputs.x, labels, check=True, **options)
        assert np.isfinite(backend.numpy(value))


# -- where values cannot be read --------------------------------------------------------------------------------------

TRACED = refused(
    ValueError,
    {
        "check=True must read ... labels, got ... traced": lambda i: cross_entropy(i.x, i.y, check=True),
        "check=True must read ... labels, got ... outside the trace": lambda i: cross_entropy(i.x, i.q, check=True),
        "check=True must read ... labels": lambda i: one_hot(i.y, 3, check=True),
        "check=True must read ... labels, got": lambda i: smooth_labels(i.q, 0.1, check=True),
    },
)


@pytest.mark.backends("jax")
@table(TRACED)
def test_check_in_jit(backend: Backend, bad: Bad) -> None:
    import jax

    inputs = Inputs(backend, wrap=jax.numpy.copy)
    assert_refused(bad, jax.jit(partial(bad.call, inputs)))


@pytest.mark.backends("jax")
def test_check_in_jit_of_what_is_known(backend: Backend) -> None:
    import jax

    inputs = Inputs(backend)
    known, wrong = inputs.y, inputs.ints([0, 1, 7, 0])
    value = jax.jit(lambda x: cross_entropy(x, known, check=True))(inputs.x)
    assert np.isfinite(backend.numpy(value))
    with pytest.raises(ValueError, match="got 7 at position 2"):
        jax.jit(lambda x: cross_entropy(x, wrong, check=True))(inputs.x)
    with pytest.raises(ValueError, match="got 7 at position 2"):
        jax.grad(lambda x: cross_entropy(x, wrong))(inputs.x)


@pytest.mark.backends("jax", "torch")
def test_check_in_vmap(backend: Backend) -> None:
    vmap = vmap_of(backend)
    inputs = Inputs(backend)
    calls: list[Callable[[], object]] = [
        lambda: vmap(partial(cross_entropy, check=True))(inputs.x, inputs.y),
        lambda: vmap(partial(cross_entropy, check=True))(inputs.x, inputs.q),
        lambda: vmap(partial(one_hot, num_classes=3, check=True))(inputs.y),
    ]
    for call in calls:
        bad = Bad(ValueError, "check=True must read ... labels", lambda _: None)
        assert_refused(bad, call)


@pytest.mark.backends("jax", "torch")
def test_wrong_labels_in_vmap_are_nan(backend: Backend) -> None:
    inputs = Inputs(backend)
    rows = vmap_of(backend)(cross_entropy)(inputs.x, inputs.ints([0, 9, 1, 2]))
    np.testing.assert_array_equal(np.isnan(backend.numpy(rows)), [False, True, False, False])


def vmap_of(backend: Backend) -> Any:
    if backend.library == "jax":
        import jax

        return jax.vmap
    import torch

    return torch.func.vmap


@pytest.mark.backends("torch")
@table(TRACED[:1])  # seconds each
def test_check_in_compile(backend: Backend, bad: Bad) -> None:
    import torch

    inputs = Inputs(backend)
    ready: dict[str, Array] = {"x": inputs.x, "y": inputs.y, "q": inputs.q}
    torch.compiler.reset()
    compiled = torch.compile(lambda arrays: bad.call(Ready(arrays)), backend="eager")  # type: ignore[arg-type]
    assert_refused(bad, lambda: compiled(ready))


class Ready:
    """What a traced call sees of the inputs."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.x, self.y, self.q = arrays["x"], arrays["y"], arrays["q"]


@pytest.mark.backends("torch")
def test_wrong_shape_in_compile(backend: Backend) -> None:
    import torch

    inputs = Inputs(backend)
    torch.compiler.reset()
    compiled = torch.compile(cross_entropy, backend="eager")
    with pytest.raises(ValueError, match=r"batch shape \(4,\), got \(4, 1\)"):
        compiled(inputs.x, inputs.ints([[0], [1], [2], [0]]))


@pytest.mark.backends("torch")
def test_check_of_tensors_without_values(backend: Backend) -> None:
    import torch

    inputs = Inputs(backend)
    bad = Bad(ValueError, "check=True must read ... labels", lambda _: None)
    assert_refused(bad, lambda: cross_entropy(inputs.x.to("meta"), inputs.y.to("meta"), check=True))
    assert cross_entropy(inputs.x.to("meta"), inputs.y.to("meta")).shape == ()
    with torch._subclasses.fake_tensor.FakeTensorMode() as mode:
        x, y = mode.from_tensor(inputs.x), mode.from_tensor(inputs.y)
        assert cross_entropy(x, y).shape == ()
        assert_refused(bad, lambda: cross_entropy(x, y, check=True))


# -- what looks wrong and is not --------------------------------------------------------------------------------------


def test_no_classes(backend: Backend) -> None:
    # C = 0: nobody takes part, so no label can be wrong. §2
    inputs = Inputs(backend)
    none = inputs.floats(np.zeros((2, 0)))
    assert backend.numpy(softmax(none)).shape == (2, 0)
    assert backend.numpy(log_softmax(none)).shape == (2, 0)
    assert backend.numpy(smooth_labels(none, 0.1)).shape == (2, 0)
    assert backend.numpy(one_hot(inputs.ints([0, 7]), 0)).shape == (2, 0)
    np.testing.assert_array_equal(backend.numpy(logsumexp(none)), [-np.inf, -np.inf])
    np.testing.assert_array_equal(backend.numpy(cross_entropy(none, inputs.ints([0, 7]), reduction="none")), [0, 0])
    loss, slope = softxent.value_and_grad(cross_entropy)(none, inputs.ints([0, 7]), weight=inputs.floats([]))
    assert float(backend.numpy(loss)) == 0
    assert backend.numpy(slope).shape == (2, 0)


def test_numbers_that_are_allowed(backend: Backend) -> None:
    inputs = Inputs(backend)
    plain = backend.numpy(backend.call(softmax, inputs.x))
    for options in (
        {"where": True},
        {"where": inputs.bools(True)},  # noqa: FBT003
        {"temperature": 1},
        {"temperature": np.float32(1.0)},
        {"axis": np.int64(1)},
        {"dtype": "float32"},
        {"dtype": np.float32},
        {"dtype": backend.dtype("float32")},
    ):
        np.testing.assert_array_equal(backend.numpy(backend.call(softmax, inputs.x, **options)), plain)
    one = backend.numpy(backend.call(cross_entropy, inputs.row, inputs.ints(1)))
    for label in (1, np.int64(1), np.uint8(1)):
        np.testing.assert_array_equal(backend.numpy(backend.call(cross_entropy, inputs.row, label)), one)


@pytest.mark.backends("jax", "dask")
def test_numpy_arrays_beside_those_of_jax_and_dask(backend: Backend) -> None:
    inputs = Inputs(backend)
    expected = backend.numpy(backend.call(cross_entropy, inputs.x, inputs.y))
    x, y = np.asarray(LOGITS, np.float32), np.asarray(LABELS)
    for value in (
        backend.call(cross_entropy, inputs.x, y),
        backend.call(cross_entropy, x, inputs.y),
        backend.call(cross_entropy, x, y, weight=inputs.floats([1.0, 1.0, 1.0])),
    ):
        assert backend.owns(value)
        np.testing.assert_allclose(backend.numpy(value), expected, rtol=1e-6)


@pytest.mark.backends("dask")
def test_rows_of_unknown_number(backend: Backend) -> None:
    # Unknown sizes pass static checks. §1.6
    inputs = Inputs(backend)
    x, y = inputs.x, inputs.y
    rows = x[:, 0] > 0.0
    value = backend.call(cross_entropy, x[rows], y[rows])
    expected = cross_entropy(np.asarray(LOGITS, np.float32)[[0, 1, 3]], np.asarray(LABELS)[[0, 1, 3]])
    np.testing.assert_allclose(backend.numpy(value), expected, rtol=1e-6)
