"""The rows of the table: which call is measured against which, at what sizes, and what it is to reach.

The times are of float32 on the libraries' own number of threads, unless a row says otherwise.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import contenders as c
import jax
from inputs import Shape, assert_close, expected, given
from targets import Outcome, Target
from timing import Spread, interleaved, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from timing import Plan

SMALL, SMALL_BATCH, MEDIUM, HALF, LARGE = (8, 10), (32, 10), (256, 1_000), (4_096, 1_024), (8_192, 1_024)
TEN_CLASSES, THREE_CLASSES = (1_000_000, 10), (4_000_000, 3)
WIDE, TOKENS, VOCABULARY = (2_048, 4_096), (192, 32_000), (256, 50_257)

SHAPES: tuple[Shape, ...] = (
    *(SMALL, SMALL_BATCH, MEDIUM, HALF, LARGE),
    *(TEN_CLASSES, THREE_CLASSES, WIDE, TOKENS, VOCABULARY),
)
FEW_SHAPES: tuple[Shape, ...] = (SMALL_BATCH, MEDIUM, LARGE, TEN_CLASSES)
# Where a target is stated for one thread.
ONE_THREAD_SHAPES: tuple[Shape, ...] = (WIDE,)

OTHER_DTYPES: Mapping[str, tuple[Shape, ...]] = {"float16": (MEDIUM, LARGE), "float64": (MEDIUM, LARGE, TEN_CLASSES)}
HALVES: Mapping[str, tuple[Shape, ...]] = {"float16": (MEDIUM, LARGE), "bfloat16": (MEDIUM, LARGE)}
ALL_DTYPES: Mapping[str, tuple[Shape, ...]] = {**OTHER_DTYPES, **HALVES}


@dataclass(frozen=True)
class Pair:
    """A function on a library, our call of it and the peer's."""

    function: str
    ours: c.Contender
    peer: c.Contender
    shapes: tuple[Shape, ...] = SHAPES
    other_dtypes: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    targets: Mapping[Shape, Target] = field(default_factory=dict)
    one_thread: tuple[Shape, ...] = ()
    how: str = ""  # "jitted" or "compiled"; eager where it is empty

    @property
    def library(self) -> str:
        """Whose arrays our call is given."""
        return self.ours.library

    @property
    def label(self) -> str:
        """The function, and how it is run."""
        return f"{self.function}, {self.how}" if self.how else self.function


@dataclass(frozen=True)
class Row:
    """A pair at one size in one dtype."""

    pair: Pair
    shape: Shape
    dtype: str = "float32"

    @property
    def one_thread(self) -> bool:
        """Whether both sides are held to one thread."""
        return self.shape in self.pair.one_thread

    @property
    def elements(self) -> int:
        """Number of logits."""
        return self.shape[0] * self.shape[1]

    @property
    def target(self) -> Target | None:
        """What is to be reached, if anything is."""
        return self.pair.targets.get(self.shape) if self.dtype == "float32" else None

    @property
    def size(self) -> str:
        """The shape, and the threads where they are limited."""
        return size_text(self.shape) + (", 1 thread" if self.one_thread else "")

    @property
    def work(self) -> str:
        """What is done, whoever does it."""
        rows, classes = self.shape
        return f"{self.pair.library} {self.pair.label} {rows}x{classes} {self.dtype}"

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"time {self.work} against {self.pair.peer.name}"


@dataclass(frozen=True)
class Timed:
    """A row with its measurements: seconds a call on both sides, and the ratio, peer ÷ ours, round by round."""

    row: Row
    peer: Spread
    ours: Spread
    ratios: Spread
    rounds: int

    @property
    def ratio(self) -> float:
        """The medians' ratio."""
        return self.peer.median / self.ours.median

    def outcome(self) -> Outcome:
        """The row's target and what became of it."""
        row, target = self.row, self.row.target
        assert target is not None
        measured = self.ratio if target.quantity == "ratio" else self.ours.median * 1e6
        return Outcome(row.pair.library, row.pair.label, row.size, row.pair.peer.name, target, measured)


def size_text(shape: Shape) -> str:
    """A shape as in the table."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{length:,}".replace(",", "\N{NO-BREAK SPACE}") for length in shape)


def at_least(ratios: Mapping[Shape, float]) -> dict[Shape, Target]:
    """Targets for ratios."""
    return {shape: Target(ratio) for shape, ratio in ratios.items()}


WITH_GRADIENT = "cross_entropy with gradient"

ON_NUMPY = (
    Pair(
        "softmax",
        c.on_numpy("softxent.softmax", c.softmax),
        c.SCIPY_SOFTMAX,
        other_dtypes=OTHER_DTYPES,
        targets=at_least({SMALL_BATCH: 1, LARGE: 2.3, HALF: 1.9, TEN_CLASSES: 5, THREE_CLASSES: 5}),
    ),
    Pair("softmax", c.on_numpy("softxent.softmax", c.softmax), c.SKLEARN_SOFTMAX, FEW_SHAPES),
    Pair(
        "log_softmax",
        c.on_numpy("softxent.log_softmax", c.log_softmax),
        c.SCIPY_LOG_SOFTMAX,
        (SMALL_BATCH, MEDIUM, HALF, LARGE, TEN_CLASSES, THREE_CLASSES),
        targets=at_least({LARGE: 2.3, HALF: 1.9, TEN_CLASSES: 5, THREE_CLASSES: 5}),
    ),
    Pair(
        "logsumexp",
        c.on_numpy("softxent.logsumexp", c.logsumexp),
        c.SCIPY_LOGSUMEXP,
        other_dtypes=OTHER_DTYPES,
        targets=at_least({WIDE: 5, TEN_CLASSES: 8}),
        one_thread=ONE_THREAD_SHAPES,
    ),
    Pair("cross_entropy", c.on_numpy("softxent.cross_entropy", c.cross_entropy), c.SKLEARN_LOG_LOSS, FEW_SHAPES),
    Pair("cross_entropy", c.on_numpy("softxent.cross_entropy", c.cross_entropy), c.TORCH_LOSS),
    Pair(
        WITH_GRADIENT,
        c.on_numpy("softxent.value_and_grad(cross_entropy)", c.own_gradient),
        c.TORCH_BACKWARD,
        other_dtypes=OTHER_DTYPES,
        targets=at_least({LARGE: 1.4, TEN_CLASSES: 3.5}),
    ),
)

ON_TORCH = (
    Pair(
        "softmax",
        c.on_torch("softxent.softmax", c.softmax),
        c.TORCH_SOFTMAX,
        other_dtypes=ALL_DTYPES,
        targets=at_least({LARGE: 0.8, HALF: 0.55, TEN_CLASSES: 2, THREE_CLASSES: 2}),
    ),
    Pair("log_softmax", c.on_torch("softxent.log_softmax", c.log_softmax), c.TORCH_LOG_SOFTMAX, FEW_SHAPES),
    Pair(
        "logsumexp",
        c.on_torch("softxent.logsumexp", c.logsumexp),
        c.TORCH_LOGSUMEXP,
        other_dtypes=ALL_DTYPES,
        targets=at_least({WIDE: 2, LARGE: 2, TEN_CLASSES: 2}),
        one_thread=ONE_THREAD_SHAPES,
    ),
    Pair(
        "cross_entropy",
        c.on_torch("softxent.cross_entropy", c.cross_entropy),
        c.TORCH_LOSS,
        targets={SMALL_BATCH: Target(40, "µs")},
    ),
    Pair(
        WITH_GRADIENT,
        c.on_torch("softxent.cross_entropy", c.with_backward(c.cross_entropy)),
        c.TORCH_BACKWARD,
        other_dtypes=ALL_DTYPES,
        targets=at_least({LARGE: 1.5, HALF: 1.1, TEN_CLASSES: 2}),
    ),
)

COMPILED_ON_TORCH = (
    Pair(
        "softmax",
        c.on_torch("softxent.softmax", c.compiled(c.softmax)),
        c.TORCH_SOFTMAX_COMPILED,
        (LARGE,),
        targets=at_least({LARGE: 0.9}),
        how="compiled",
    ),
    Pair(
        WITH_GRADIENT,
        c.on_torch("softxent.cross_entropy", c.with_backward(c.compiled(c.cross_entropy))),
        c.TORCH_BACKWARD_COMPILED,
        (LARGE,),
        targets=at_least({LARGE: 0.9}),
        how="compiled",
    ),
)

ON_JAX = (
    Pair(
        "softmax",
        c.on_jax("softxent.softmax", c.softmax, compiled=False),
        c.JAX_SOFTMAX,
        other_dtypes=HALVES,
        targets=at_least({LARGE: 2}),
    ),
    Pair(
        "log_softmax",
        c.on_jax("softxent.log_softmax", c.log_softmax, compiled=False),
        c.JAX_LOG_SOFTMAX,
        FEW_SHAPES,
    ),
    Pair(
        "logsumexp",
        c.on_jax("softxent.logsumexp", c.logsumexp, compiled=False),
        c.JAX_LOGSUMEXP,
        targets=at_least({SMALL_BATCH: 10}),
    ),
    Pair(
        "cross_entropy",
        c.on_jax("softxent.cross_entropy", c.cross_entropy, compiled=False),
        c.OPTAX_LOSS,
        FEW_SHAPES,
        targets=at_least({SMALL_BATCH: 10}),
    ),
    Pair("softmax", c.on_jax("softxent.softmax", c.softmax), c.JAX_SOFTMAX_JITTED, FEW_SHAPES, how="jitted"),
    Pair(
        "cross_entropy",
        c.on_jax("softxent.cross_entropy", c.cross_entropy),
        c.OPTAX_LOSS_JITTED,
        targets=at_least({LARGE: 0.5, TOKENS: 0.5, TEN_CLASSES: 0.5}),
        how="jitted",
    ),
    Pair(
        WITH_GRADIENT,
        c.on_jax("softxent.cross_entropy", jax.value_and_grad(c.cross_entropy)),
        c.OPTAX_GRADIENT_JITTED,
        # For 4 million rows XLA folds a scatter of optax's into a constant for a quarter of a minute before it runs.
        tuple(shape for shape in SHAPES if shape != THREE_CLASSES),
        other_dtypes=HALVES,
        targets=at_least({LARGE: 0.8, TOKENS: 0.8, TEN_CLASSES: 0.8}),
        how="jitted",
    ),
)

# The rest of the family, at a few sizes of what it is used for.
BINARY_WITH_GRADIENT, KL_WITH_GRADIENT = "binary_cross_entropy with gradient", "kl_divergence with gradient"


def own_gradient_of(name: str) -> c.Call:
    """A loss and its gradient, without the library's help."""
    return lambda logits, second: c.softxent_value_and_grad(name)(logits, second)  # noqa: PLW0108 - looked up late


FAMILY_ON_NUMPY = (
    Pair("sigmoid", c.on_numpy("softxent.sigmoid", c.of_logits("sigmoid")), c.SCIPY_SIGMOID, (SMALL_BATCH, LARGE)),
    Pair("log_sigmoid", c.on_numpy("softxent.log_sigmoid", c.of_logits("log_sigmoid")), c.SCIPY_LOG_SIGMOID, (LARGE,)),
    Pair("softplus", c.on_numpy("softxent.softplus", c.of_logits("softplus")), c.SCIPY_SOFTPLUS, (LARGE,)),
    Pair(
        BINARY_WITH_GRADIENT,
        c.on_numpy("softxent.value_and_grad(binary_cross_entropy)", own_gradient_of("binary_cross_entropy")),
        c.TORCH_BINARY_BACKWARD,
        (MEDIUM, LARGE),
    ),
    Pair("entropy", c.on_numpy("softxent.entropy", c.of_logits("entropy")), c.SCIPY_ENTROPY, (MEDIUM, TEN_CLASSES)),
    Pair("kl_divergence", c.on_numpy("softxent.kl_divergence", c.kl_divergence), c.SCIPY_KL, (MEDIUM, TEN_CLASSES)),
    Pair(
        "logcumsumexp",
        c.on_numpy("softxent.logcumsumexp", c.of_logits("logcumsumexp")),
        c.NUMPY_LOGCUMSUMEXP,
        (MEDIUM,),
    ),
)

FAMILY_ON_TORCH = (
    Pair("sigmoid", c.on_torch("softxent.sigmoid", c.of_logits("sigmoid")), c.TORCH_SIGMOID, (SMALL_BATCH, LARGE)),
    Pair("log_sigmoid", c.on_torch("softxent.log_sigmoid", c.of_logits("log_sigmoid")), c.TORCH_LOG_SIGMOID, (LARGE,)),
    Pair("softplus", c.on_torch("softxent.softplus", c.of_logits("softplus")), c.TORCH_SOFTPLUS, (LARGE,)),
    Pair(
        BINARY_WITH_GRADIENT,
        c.on_torch("softxent.binary_cross_entropy", c.with_backward(c.of_both("binary_cross_entropy"))),
        c.TORCH_BINARY_BACKWARD,
        (SMALL_BATCH, MEDIUM, LARGE),
    ),
    Pair(
        "focal_loss with gradient",
        c.on_torch("softxent.focal_loss", c.with_backward(c.of_both("focal_loss"))),
        c.TORCH_FOCAL_BACKWARD,
        (MEDIUM, TEN_CLASSES),
    ),
    Pair(
        "nll_loss with gradient",
        c.on_torch("softxent.nll_loss", c.with_backward(c.of_both("nll_loss"))),
        c.TORCH_NLL_BACKWARD,
        (MEDIUM, TEN_CLASSES),
    ),
    Pair("entropy", c.on_torch("softxent.entropy", c.of_logits("entropy")), c.TORCH_ENTROPY, (TOKENS,)),
    Pair(
        KL_WITH_GRADIENT,
        c.on_torch("softxent.kl_divergence", c.with_backward(c.kl_loss)),
        c.TORCH_KL_BACKWARD,
        (MEDIUM, TOKENS),
    ),
    Pair(
        "logcumsumexp",
        c.on_torch("softxent.logcumsumexp", c.of_logits("logcumsumexp")),
        c.TORCH_LOGCUMSUMEXP,
        (MEDIUM,),
    ),
    Pair("sparsemax", c.on_torch("softxent.sparsemax", c.of_logits("sparsemax")), c.ENTMAX_SPARSEMAX, (SMALL, HALF)),
    Pair("entmax", c.on_torch("softxent.entmax", c.of_logits("entmax")), c.ENTMAX_ENTMAX, (MEDIUM, HALF)),
    Pair(
        "entmax_loss with gradient",
        c.on_torch("softxent.entmax_loss", c.with_backward(c.of_both("entmax_loss"))),
        c.ENTMAX_BACKWARD,
        (MEDIUM,),
    ),
    Pair(
        "gumbel_softmax",
        c.on_torch("softxent.gumbel_softmax", c.of_both("gumbel_softmax", temperature=0.5)),
        c.TORCH_GUMBEL_SOFTMAX,
        (SMALL_BATCH, MEDIUM),
    ),
)

FAMILY_ON_JAX = tuple(
    replace(pair, how="jitted")
    for pair in (
        Pair("sigmoid", c.on_jax("softxent.sigmoid", c.of_logits("sigmoid")), c.JAX_SIGMOID, (LARGE,)),
        Pair("log_sigmoid", c.on_jax("softxent.log_sigmoid", c.of_logits("log_sigmoid")), c.JAX_LOG_SIGMOID, (LARGE,)),
        Pair("softplus", c.on_jax("softxent.softplus", c.of_logits("softplus")), c.JAX_SOFTPLUS, (LARGE,)),
        Pair(
            BINARY_WITH_GRADIENT,
            c.on_jax("softxent.binary_cross_entropy", jax.value_and_grad(c.of_both("binary_cross_entropy"))),
            c.OPTAX_BINARY_GRADIENT,
            (MEDIUM, LARGE),
        ),
        Pair(
            "binary_focal_loss with gradient",
            c.on_jax("softxent.binary_focal_loss", jax.value_and_grad(c.of_both("binary_focal_loss"))),
            c.OPTAX_FOCAL_GRADIENT,
            (MEDIUM,),
        ),
        Pair(
            KL_WITH_GRADIENT,
            c.on_jax("softxent.kl_divergence", jax.value_and_grad(c.kl_loss)),
            c.OPTAX_KL_GRADIENT,
            (TOKENS,),
        ),
        Pair(
            "logcumsumexp",
            c.on_jax("softxent.logcumsumexp", c.of_logits("logcumsumexp")),
            c.JAX_LOGCUMSUMEXP,
            (MEDIUM,),
        ),
        Pair(
            "segment_logsumexp",
            c.on_jax("softxent.segment_logsumexp", c.segment_logsumexp),
            c.JAX_SEGMENTS,
            (TEN_CLASSES,),
        ),
    )
)

# What torch.compile calls on the CPU.
COMPILER = shutil.which("g++") or shutil.which("clang++")
PAIRS = (
    *(*ON_NUMPY, *FAMILY_ON_NUMPY),
    *(*ON_TORCH, *FAMILY_ON_TORCH, *(COMPILED_ON_TORCH if COMPILER else ())),
    *(*ON_JAX, *FAMILY_ON_JAX),
)
LEFT_OUT = "" if COMPILER else "The rows of torch.compile are left out: there is no C++ compiler."


def rows() -> Iterator[Row]:
    """All of them, in the order of the table."""
    for pair in PAIRS:
        yield from (Row(pair, shape) for shape in pair.shapes)
        yield from (Row(pair, shape, dtype) for dtype, shapes in pair.other_dtypes.items() for shape in shapes)


def prepared(contender: c.Contender, row: Row) -> Callable[[], Any]:
    """A contender's call with its inputs, once it has been seen to return the right values."""
    call = partial(contender.call, *given(contender.library, row.shape, row.dtype, row.pair.function))
    assert_close(call(), expected(row.pair.function, row.shape, row.dtype), row.dtype)
    return call


def threads(row: Row) -> contextlib.AbstractContextManager[None]:
    """The limit under which a row is timed."""
    return c.one_thread() if row.one_thread else contextlib.nullcontext()


def timed(row: Row, plan: Plan) -> Timed:
    """Measure a row."""
    with threads(row):
        calls = [prepared(contender, row) for contender in (row.pair.peer, row.pair.ours)]
        peer, ours = interleaved(calls, plan)
    ratios = [theirs / own for theirs, own in zip(peer, ours, strict=True)]
    return Timed(row, spread(peer), spread(ours), spread(ratios), len(ratios))
