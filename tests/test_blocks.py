"""Rows in blocks: exact whatever the blocks are, the same bits whatever their size, and nobody else's memory.

`RUNNERS` name the ways that rows can be cut. The first tests hold each of them against mpmath, the others against the
same call in one piece.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import oracle
import pytest
from derivatives import BY_NAME, CASES, exact
from exact_gradients import SHAPED, arguments_of
from matrix import HALVES, Backend
from property import bounds
from property.inputs import KINDS, Batch, compute_dtype, logits_rows, rounded
from property.test_agreement import assert_within, finally_in, per_entry, pulled, row_max
from test_gradients import assert_pulls_back
from test_recording import made_out

from softxent import (
    cross_entropy,
    hessian_diagonal,
    hvp,
    log_softmax,
    logsumexp,
    smooth_labels,
    softmax,
    softmin,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from derivatives import Case

pytestmark = pytest.mark.backends("numpy-readonly", "torch")

Array = Any
NumPy = np.ndarray[Any, Any]

NEVER = 2**62
IN_ONE_PIECE = {"entries": NEVER, "enough": NEVER, "few": 0, "WIDE": NEVER}
CLASSES_FIRST = {"few": 64, "worth_moving": 0}
# Attributes of the backends, and how many blocks a row may fill before it is cut itself. For rows of 9 classes.
RUNNERS: dict[str, dict[str, int]] = {
    "off": IN_ONE_PIECE,
    "blocks": {**IN_ONE_PIECE, "entries": 40},
    "rows": {**IN_ONE_PIECE, "entries": 1},
    "pieces of rows": {**IN_ONE_PIECE, "entries": 4, "WIDE": 1},
    "single classes": {**IN_ONE_PIECE, "entries": 1, "WIDE": 1},
    "classes first": {**IN_ONE_PIECE, **CLASSES_FIRST},
    "large blocks": {**IN_ONE_PIECE, "entries": 40, "enough": 2},
    "blocks, classes first": {**IN_ONE_PIECE, **CLASSES_FIRST, "entries": 20},
    "rows, classes first": {**IN_ONE_PIECE, **CLASSES_FIRST, "entries": 1},
}


def cut(monkeypatch: pytest.MonkeyPatch, backend: Backend, runner: dict[str, int]) -> None:
    """Have the backend run that way."""
    for name, value in runner.items():
        if name == "WIDE":
            monkeypatch.setattr("softxent.backends.blocks.WIDE", value)
        else:
            monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.{name}", value)
    monkeypatch.setattr("softxent.backends.numpy.Backend.at_once", made_out)  # programs of calls have no blocks
    walked: Any = cache(lambda *_: (itertools.count(1), {}))  # blocks do, from the first walk on
    monkeypatch.setattr("softxent.backends.numpy._walked", walked)
    if backend.library == "torch":  # the rule for autograd, whose blocks they are
        monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)


@pytest.fixture(params=list(RUNNERS.values()), ids=list(RUNNERS))
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, backend: Backend) -> dict[str, int]:
    attributes: dict[str, int] = request.param
    cut(monkeypatch, backend, attributes)
    return attributes


SOME = ("off", "blocks", "pieces of rows", "rows, classes first")
in_some_ways = pytest.mark.parametrize("runner", [RUNNERS[name] for name in SOME], ids=SOME, indirect=True)


def bits(backend: Backend, result: Any) -> Any:
    """Results that can be compared to the bit: dtype, shape and bytes of every array, any NaN as any other."""
    if isinstance(result, dict):
        return {name: bits(backend, one) for name, one in result.items()}
    if isinstance(result, tuple):
        return tuple(bits(backend, one) for one in result)
    array = backend.numpy(result)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.dtype.name, array.shape, array.tobytes()


def arrays_in(result: Any) -> Iterator[Array]:
    """All arrays of a result, however nested."""
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, tuple):
        yield from chain.from_iterable(map(arrays_in, result))
    else:
        yield result


def put(backend: Backend, given: dict[str, Any]) -> dict[str, Any]:
    """NumPy arrays on the backend, all else as it is."""
    return {name: backend.array(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}


# -- exact, however rows are cut --------------------------------------------------------------------------------------

CLASSES = 9


class Known(NamedTuple):
    """Every kind of input, a row of each, and what is exact for it, with the error that is allowed."""

    batch: Batch
    labels: NumPy
    cotangent: NumPy
    of: dict[str, tuple[Any, Any]]


@cache
def known(dtype: str) -> Known:
    precise = compute_dtype(dtype)
    batch = Batch("normal", 0, dtype, (len(KINDS), CLASSES), -1)
    rows = [logits_rows(kind, np.random.default_rng(n), (1, CLASSES), dtype) for n, kind in enumerate(KINDS)]
    batch.logits = np.concatenate(rows)
    labels, g = batch.labels(), batch.cotangent(batch.shape, dtype)
    x = batch.logits
    of = {}
    for name, reference, entry in (
        ("softmax", oracle.softmax, bounds.softmax_entry),
        ("log_softmax", oracle.log_softmax, bounds.log_softmax_entry),
    ):
        value = reference(x)
        of[name] = value, finally_in(dtype, value, per_entry(batch, entry, {}, precise))
    value = oracle.logsumexp(x)[0]
    of["logsumexp"] = value, finally_in(dtype, value, bounds.logsumexp_rows(x, precise, axis=-1))
    whole = oracle.cross_entropy(x, labels)
    rule = bounds.Rounding(precise, {}, soft=False, one_temperature=True)
    of["cross_entropy"] = whole.rows, whole._map(rule.value)
    value = whole.gradient("logits").value
    of["gradient"] = value, finally_in(dtype, value, whole.spread("logits", rule.by_x))
    gap = oracle.gaps(x)
    gap = np.where(np.isfinite(gap.astype(float)), gap, 0)
    units = np.broadcast_to(batch.layout.keepdims(row_max(batch, gap)), batch.shape) + CLASSES
    for name, pullback in (("softmax", oracle.softmax_vjp), ("log_softmax", oracle.log_softmax_vjp)):
        pulled_back = pullback(g, x)
        tolerance = bounds.vjp_terms(pulled_back.absolute, units, precise, g=g)
        of[f"{name} pulled back"] = pulled_back.value, finally_in(dtype, pulled_back.value, tolerance)
    return Known(batch, labels, g, of)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("axis", [-1, 0])
def test_every_kind_of_input_is_exact(backend: Backend, dtype: str, axis: int) -> None:
    """The bounds of `property.test_agreement`: 4 ULP and the gap, halves 0.51 ULP."""
    k, precise = known(dtype), compute_dtype(dtype)
    turn = (lambda array: array) if axis == -1 else np.transpose

    def assert_known(what: str, result: Any, dtype: str = dtype) -> None:
        value, tolerance = (turn(part) if part.ndim == 2 else part for part in k.of[what])
        assert_within(backend, what, result, value, tolerance, dtype)

    logits, labels = backend.array(turn(k.batch.logits), dtype), backend.array(k.labels)
    seed = backend.array(turn(k.cotangent), dtype)
    for function in (softmax, log_softmax):
        assert_known(function.__name__, function(logits, axis=axis))
        for ours in {True, backend.autodiff is None}:
            _, grads = pulled(backend, function, {"logits": logits}, ["logits"], seed, ours=ours, axis=axis)
            assert_known(f"{function.__name__} pulled back", grads["logits"])
    assert_known("logsumexp", logsumexp(logits, axis=axis))
    assert_known("cross_entropy", cross_entropy(logits, labels, axis=axis, reduction="none"), precise)
    losses, gradient = value_and_grad(cross_entropy)(logits, labels, axis=axis, reduction="none")
    assert_known("cross_entropy", losses, precise)
    assert_known("gradient", gradient)
    if backend.autodiff == "torch":
        leaf = logits.requires_grad_()
        cross_entropy(leaf, labels, axis=axis, reduction="sum").backward()
        assert_known("gradient", leaf.grad)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("case", [*CASES, *SHAPED], ids=lambda case: case.name)
def test_every_option_is_exact(backend: Backend, case: Case) -> None:
    whole = exact(case, "float32")
    arrays = case.arrays("float32")
    soft = arrays["labels"].dtype.kind == "f"
    numbers = {name: x.item() if x.ndim == 0 else x for name, x in arrays.items() if name not in ("logits", "labels")}
    rule = bounds.Rounding("float32", numbers, soft=soft, one_temperature=whole.one_temperature)
    given = arguments_of(backend, case)
    losses = cross_entropy(**given, reduction="none", check=False)
    assert_within(backend, case.name, losses, whole.rows, whole._map(rule.value), "float32")
    by = ("logits", *case.options) if case in SHAPED else tuple(dict.fromkeys((*case.by, *case.varied)))
    assert_pulls_back(backend, case, "float32", by)


def test_rows_are_cut_where_a_test_says_so(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests here would hold nothing against anything."""
    counts: list[int] = []
    kind = type_of(backend)
    in_parallel = kind.in_parallel

    def counting(self: Any, work: Callable[[int], None], count: int) -> None:
        counts.append(count)
        in_parallel(self, work, count)

    monkeypatch.setattr(kind, "in_parallel", counting)
    x = backend.array(np.zeros((11, CLASSES)), "float32")
    labels = backend.array(np.zeros(11), "int64")
    expected = {"off": None, "blocks": 3, "large blocks": 3, "rows": 11}
    expected |= {"classes first": None, "blocks, classes first": 3, "rows, classes first": 11}
    for name, count in expected.items():
        cut(monkeypatch, backend, RUNNERS[name])
        for function in (softmax, logsumexp, lambda x: value_and_grad(cross_entropy)(x, labels)):
            counts.clear()
            function(x)
            fewer = name == "large blocks" and function is not logsumexp  # the result has one value a logit
            assert max(counts, default=None) == (2 if fewer else count), (name, function)


def type_of(backend: Backend) -> Any:
    from softxent.backends import backend_of

    return type(backend_of(backend.array([1.0], "float32")))


# -- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("function", [softmax, softmin, log_softmax])
def test_blocks_may_be_square(backend: Backend, function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result with its classes moved is not made where it belongs, though it would fit there."""
    x = backend.array(np.random.default_rng(0).normal(size=(9, 27)), "float32")
    cut(monkeypatch, backend, IN_ONE_PIECE)
    expected = bits(backend, function(x, axis=0))
    cut(monkeypatch, backend, {**IN_ONE_PIECE, "entries": 81})
    monkeypatch.setattr("softxent.backends.numpy._PIECE", 20)
    for _ in range(2):
        assert bits(backend, function(x, axis=0)) == expected


@pytest.mark.parametrize("function", [softmax, softmin, log_softmax])
def test_square_blocks_of_full_size(backend: Backend, function: Any) -> None:
    x = np.random.default_rng(0).normal(size=(512, 1024)).astype("float32")
    found = backend.numpy(function(backend.array(x), axis=0))
    np.testing.assert_allclose(found, backend.numpy(function(backend.array(x.T), axis=1)).T, rtol=2e-6)


SHAPE = (26, 13)


def drawn(shape: tuple[int, ...] = SHAPE, axis: int = -1, seed: int = 0) -> dict[str, NumPy]:
    """Arrays for every option: logits with everything that can happen to a row, and what belongs to them."""
    rng = np.random.default_rng(seed)
    axis %= len(shape)
    batch, size = tuple(n for d, n in enumerate(shape) if d != axis), shape[axis]
    x = rng.normal(size=(*batch, size)) * 5
    x[rng.random(size=x.shape) < 0.05] = -np.inf
    flat = x.reshape(math.prod(batch), size)
    for n, row in ((1, -np.inf), (2, np.inf), (3, np.nan)):
        flat[n::17, : size if n == 1 else 1] = row

    def single(values: Any) -> NumPy:
        return np.asarray(values, dtype="float32")

    q = rng.random(size=(*batch, size)) * (rng.random(size=(*batch, size)) < 0.7)
    return {
        "logits": single(np.moveaxis(x, -1, axis)),
        "labels": np.asarray(rng.integers(0, max(size, 1), size=batch)),
        "soft": single(np.moveaxis(q / (q.sum(-1, keepdims=True) + (q.sum(-1, keepdims=True) == 0)), -1, axis)),
        "rows": np.asarray(rng.random(size=batch) < 0.7),
        "kept": rng.random(size=shape) < 0.7,
        "weight": single(rng.uniform(0.25, 4, size=size)),
        "sample_weight": single(rng.uniform(0.25, 4, size=batch) * (rng.random(size=batch) < 0.8)),
        "per_row": single(rng.uniform(0, 1, size=batch)),
        "heat": single(rng.uniform(0.3, 3, size=batch)),
        "one": single(1.5),
        "vector": single(rng.normal(size=shape)),
    }


# What cross_entropy is given beside logits (names of `drawn`), and what it is differentiated by.
OPTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ("logits",)),
    "weight": ({"weight": "weight"}, ("logits", "weight")),
    "sample_weight": ({"sample_weight": "sample_weight"}, ("logits", "sample_weight")),
    "ignored": ({"ignore_index": 0, "label_smoothing": "per_row"}, ("logits", "label_smoothing")),
    "where rows": ({"where": "rows", "weight": "weight"}, ("logits", "weight")),
    "where classes": ({"where": "kept", "temperature": "heat"}, ("logits", "temperature")),
    "smoothed": ({"label_smoothing": 0.125, "smoothing_prior": "weight"}, ("logits", "smoothing_prior")),
    "temperature": ({"temperature": "one", "z_loss": "one"}, ("logits", "temperature", "z_loss")),
    "capped": ({"softcap": "one", "z_loss": 1e-3, "weight": "weight"}, ("logits", "softcap", "weight")),
    "soft": ({"labels": "soft"}, ("logits", "labels")),
    "soft, weighed": (
        {"labels": "soft", "weight": "weight", "sample_weight": "sample_weight", "temperature": "one"},
        ("logits", "labels", "weight", "sample_weight", "temperature"),
    ),
}
options_of_all_kinds = pytest.mark.parametrize(("options", "by"), OPTIONS.values(), ids=OPTIONS)


def given(backend: Backend, options: dict[str, Any], shape: tuple[int, ...] = SHAPE, axis: int = -1) -> dict[str, Any]:
    """Arguments of cross_entropy on the backend."""
    arrays = drawn(shape, axis)
    named = {"logits": "logits", "labels": "labels", **options}
    chosen = {name: arrays[value] if isinstance(value, str) else value for name, value in named.items()}
    return {**put(backend, chosen), "axis": axis, "check": False}


REDUCED: tuple[dict[str, Any], ...] = (
    {"reduction": "none"},
    {"reduction": "sum"},
    {"reduction": "mean"},
    {"reduction": "mean", "denominator": "count"},
    {"reduction": "sum_and_weight"},
    {"reduction": "none", "aux": ("lse", "entropy", "correct", "target_log_prob", "margin")},
)


def everything(backend: Backend, arguments: dict[str, Any], by: tuple[str, ...]) -> list[Any]:
    """Values, gradients and second derivatives of a loss, by every reduction."""
    found: list[Any] = []
    for reduced in REDUCED:
        found.append(cross_entropy(**arguments, **reduced))
        found.append(value_and_grad(cross_entropy, by)(**arguments, **reduced))
    vector = backend.array(drawn()["vector"])
    found.append(hvp(cross_entropy)(**arguments, vector=vector))
    found.append(hessian_diagonal(cross_entropy)(**arguments))
    return found


@pytest.mark.backends("numpy-readonly")
@pytest.mark.parametrize("few", [0, 64], ids=["classes last", "classes first"])
@options_of_all_kinds
def test_losses_do_not_depend_on_the_number_of_threads(
    backend: Backend, options: dict[str, Any], by: tuple[str, ...], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the last bit, nor do derivatives by what the rows of several blocks share."""
    from softxent import threads

    cut(monkeypatch, backend, {"entries": 30, "few": few, "worth_moving": 0})
    arguments, found = given(backend, options), []
    for limit in (1, 2, 3, 7):
        with threads(limit):
            found.append(bits(backend, tuple(everything(backend, arguments, by))))
    assert all(one == found[0] for one in found)


def normalised(backend: Backend, shape: tuple[int, ...] = SHAPE, axis: int = -1) -> list[Any]:
    """Values and pullbacks of everything that returns an array, with and without options."""
    arrays = put(backend, drawn(shape, axis))
    x, kept, one, g = (arrays[name] for name in ("logits", "kept", "one", "vector"))
    found: list[Any] = [smooth_labels(arrays["soft"], 0.125, axis=axis)]
    for function in (softmax, log_softmax, softmin):
        for more in ({}, {"where": kept, "temperature": one}):
            value, back = vjp(function, ("logits", *(["temperature"] if more else [])))(x, axis=axis, **more)
            found += [function(x, axis=axis, **more), value, back(g)]
    for more in ({}, {"where": kept, "b": backend.array(drawn(shape, axis)["soft"])}):
        found += [logsumexp(x, axis=axis, keepdims=True, **more), value_and_grad(logsumexp)(x, axis=axis, **more)]
    return found


@pytest.mark.backends("numpy-readonly")
@pytest.mark.parametrize("few", [0, 64], ids=["classes last", "classes first"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_normalisers_do_not_depend_on_the_number_of_threads(
    backend: Backend, axis: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softxent import threads

    cut(monkeypatch, backend, {"entries": 30, "few": few, "worth_moving": 0})
    found = []
    for limit in (1, 2, 3, 7):
        with threads(limit):
            found.append(bits(backend, tuple(normalised(backend, axis=axis))))
    assert all(one == found[0] for one in found)


@pytest.mark.backends("numpy-readonly")
@pytest.mark.parametrize("few", [0, 64], ids=["classes last", "classes first"])
@options_of_all_kinds
def test_losses_of_rows_do_not_depend_on_the_blocks(
    backend: Backend, options: dict[str, Any], by: tuple[str, ...], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's own loss and derivatives, to the bit; sums over rows differ by their order."""
    arguments = given(backend, options)
    own = tuple(name for name in by if name in {"logits", "labels", "sample_weight"})
    found = []
    for entries in (NEVER, 200, 30, 1):
        cut(monkeypatch, backend, {**IN_ONE_PIECE, "few": few, "worth_moving": 0, "entries": entries})
        losses = cross_entropy(**arguments, reduction="none")
        pair = value_and_grad(cross_entropy, own)(**arguments, reduction="none")
        found.append(bits(backend, (losses, pair)))
    assert all(one == found[0] for one in found)


# -- layouts ----------------------------------------------------------------------------------------------------------

# Rows enough for a last block that is smaller than the others, and no more: in pieces each takes a hundred calls.
SHAPES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((5, 13), 1),
    ((13, 5), 0),
    ((3, 5, 7), 1),
    ((7, 2, 5), 0),
    ((2, 1, 12, 4), 2),
    ((2, 4, 1, 12), -1),
    ((1, 13), 1),
    ((13, 1), 0),
    ((40, 1), 1),
    ((1, 1, 40), 1),
    ((13,), 0),
    ((0, 5), 1),
    ((5, 0), 1),
    ((0, 5, 3), 1),
    ((3, 0, 4), 1),
)
shapes = pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)


def close(backend: Backend, found: Any, expected: Any) -> None:
    """The same shapes and dtypes, and values up to the order of sums: a few ULP of the largest term."""
    for one, other in zip(arrays_in(found), arrays_in(expected), strict=True):
        one, other = backend.numpy(one), backend.numpy(other)  # noqa: PLW2901 - as NumPy arrays
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        scale = np.max(np.abs(other[np.isfinite(other)]), initial=0.0) if other.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=2e-7 * scale, strict=True)


def losses_of(backend: Backend, shape: tuple[int, ...], axis: int) -> list[Any]:
    found = []
    for name, reduced in (("soft, weighed", REDUCED[0]), ("where classes", REDUCED[2]), ("capped", REDUCED[1])):
        options, by = OPTIONS[name]
        arguments = given(backend, options, shape, axis)
        found.append(value_and_grad(cross_entropy, by)(**arguments, **reduced))
    return found


@in_some_ways
@pytest.mark.usefixtures("runner")
@shapes
def test_every_shape(backend: Backend, shape: tuple[int, ...], axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class axes anywhere, one row, one class, no rows, no classes."""
    found = [*normalised(backend, shape, axis), *losses_of(backend, shape, axis)]
    with monkeypatch.context() as off:
        cut(off, backend, IN_ONE_PIECE)
        expected = [*normalised(backend, shape, axis), *losses_of(backend, shape, axis)]
    close(backend, tuple(found), tuple(expected))


VIEWS: dict[str, Callable[[NumPy], NumPy]] = {
    "Fortran": np.asfortranarray,
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "every other": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "broadcast row": lambda x: np.broadcast_to(x[:1], x.shape),
    "broadcast class": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), dtype=x.dtype, offset=1).reshape(x.shape),
}


@in_some_ways
@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_every_view(backend: Backend, view: Callable[[NumPy], NumPy]) -> None:
    """What lies in memory in another way is the same array."""
    labels = backend.array(drawn()["labels"])
    for name in ("logits", "soft"):
        plain = view(drawn()[name])
        if backend.library == "numpy":
            seen = plain
        else:  # torch has no negative strides, and asks that memory be aligned
            base = backend.array(plain.copy(order="A"))
            seen = (
                base.t().contiguous().t()
                if plain.flags.f_contiguous
                else backend.xp.as_strided(base.repeat_interleave(2, 1), base.shape, (2 * base.shape[1], 2))
            )
        given, other = backend.array(plain.copy(order="C")), labels if name == "logits" else seen
        for function in (softmax, log_softmax, logsumexp, value_and_grad(logsumexp)):
            close(backend, function(seen), function(given))
        close(backend, value_and_grad(cross_entropy)(seen, other), value_and_grad(cross_entropy)(given, other))


BROADCAST: dict[str, dict[str, tuple[int, ...]]] = {
    "sample_weight (N, 1)": {"sample_weight": (6, 1)},
    "sample_weight (1, M)": {"sample_weight": (1, 4)},
    "temperature (N, 1)": {"temperature": (6, 1)},
    "temperature of rows": {"temperature": (6, 1, 1)},
    "temperature of classes": {"temperature": (1, 1, 9)},
    "temperature of some": {"temperature": (1, 4, 9)},
    "smoothing (1, M)": {"label_smoothing": (1, 4)},
    "where (N, 1)": {"where": (6, 1)},
    "where of classes": {"where": (1, 1, 9)},
    "where of some": {"where": (6, 1, 9)},
}


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("sizes", BROADCAST.values(), ids=BROADCAST)
def test_options_that_some_rows_share(
    backend: Backend, sizes: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of size 1 along the axis that is cut, or along another one."""
    rng = np.random.default_rng(3)
    arguments = given(backend, {}, (6, 4, 9))
    for name, size in sizes.items():
        values = rng.random(size=size) < 0.6 if name == "where" else rng.uniform(0.3, 0.9, size=size)
        arguments[name] = backend.array(values, None if name == "where" else "float32")
    by = ("logits", *(name for name in sizes if name != "where"))
    found = [value_and_grad(cross_entropy, by)(**arguments, **reduced) for reduced in REDUCED[:3]]
    cut(monkeypatch, backend, IN_ONE_PIECE)
    close(backend, tuple(found), tuple(value_and_grad(cross_entropy, by)(**arguments, **r) for r in REDUCED[:3]))


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("kind", ["int8", "int32", "uint8", "bool", *HALVES])
def test_logits_of_every_kind(backend: Backend, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cast block by block: integers and halves are computed as they are in one piece."""
    values = np.random.default_rng(1).integers(-9, 9, size=SHAPE)
    x = backend.array(np.abs(values) if kind == "uint8" else values > 0 if kind == "bool" else values, kind)
    labels = backend.array(drawn()["labels"])

    def results() -> tuple[Any, ...]:
        found: tuple[Any, ...] = softmax(x), log_softmax(x), logsumexp(x), cross_entropy(x, labels, reduction="none")
        return (*found, *(value_and_grad(cross_entropy)(x, labels) if kind in HALVES else ()))

    found = results()
    cut(monkeypatch, backend, IN_ONE_PIECE)
    for one, other in zip(found, results(), strict=True):
        assert one.dtype == other.dtype
        one, other = (backend.numpy(array).astype("float32") for array in (one, other))  # noqa: PLW2901
        rtol = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(kind, 1e-6)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-7)


# -- nobody else's memory ---------------------------------------------------------------------------------------------


def few_rows(runner: dict[str, int]) -> tuple[int, int]:
    """Two blocks, where it does not matter how many there are: of rows, or of each of two rows."""
    return (2 if runner["WIDE"] == 1 else 5, CLASSES)


def overlap(backend: Backend, one: Array, other: Array) -> bool:
    """Whether two arrays share memory."""
    one, other = (x if backend.library == "numpy" else x.detach().numpy() for x in (one, other))
    return bool(np.shares_memory(one, other))


@in_some_ways
@options_of_all_kinds
def test_inputs_are_left_alone_and_results_are_the_callers(
    backend: Backend, options: dict[str, Any], by: tuple[str, ...], runner: dict[str, int]
) -> None:
    """Blocks write where results go and over what is theirs: neither inputs nor results of other calls."""
    arguments = given(backend, options, few_rows(runner))
    inputs = {name: x for name, x in arguments.items() if backend.owns(x)}
    before = bits(backend, inputs)
    results = [
        result
        for _ in range(2)
        for reduced in (REDUCED[2], REDUCED[5])
        for result in (cross_entropy(**arguments, **reduced), value_and_grad(cross_entropy, by)(**arguments, **reduced))
    ]
    results += normalised(backend, few_rows(runner)) if not options else []
    assert bits(backend, inputs) == before
    arrays = [x for x in arrays_in(tuple(results)) if x.ndim]
    for result in arrays:
        assert not any(overlap(backend, result, x) for x in inputs.values())
    for one, other in combinations(arrays, 2):
        assert not overlap(backend, one, other)
    if backend.library == "torch":
        assert all(x._version == 0 for x in inputs.values())


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("function", [softmax, log_softmax, softmin, logsumexp, cross_entropy])
def test_a_second_call_leaves_the_first_result_alone(backend: Backend, function: Callable[..., Any]) -> None:
    arrays = [put(backend, drawn(seed=seed)) for seed in (0, 1)]
    more = [{"labels": one["labels"], "reduction": "none"} if function is cross_entropy else {} for one in arrays]
    first = function(arrays[0]["logits"], **more[0])
    before = bits(backend, first)
    second = function(arrays[1]["logits"], **more[1])
    assert bits(backend, first) == before
    assert bits(backend, second) != before
    assert not overlap(backend, first, second)


@pytest.mark.backends("torch")
@in_some_ways
@options_of_all_kinds
def test_backward_leaves_inputs_alone(
    backend: Backend, options: dict[str, Any], by: tuple[str, ...], runner: dict[str, int]
) -> None:
    arguments = given(backend, options, few_rows(runner))
    inputs = {name: x for name, x in arguments.items() if backend.owns(x)}
    before = bits(backend, inputs)
    for reduced in REDUCED[:4]:
        for name in by:
            inputs[name].requires_grad_()
            inputs[name].grad = None
        (0.25 * cross_entropy(**arguments, **reduced)).sum().backward()
        assert bits(backend, inputs) == before
        assert all(x._version == 0 for x in inputs.values())
        for one, other in combinations([*inputs.values(), *(inputs[name].grad for name in by)], 2):
            assert not overlap(backend, one, other)


def test_float64_and_the_plain_case_are_among_the_known() -> None:
    assert BY_NAME["plain"] in CASES
    assert rounded(1 / 3, "float64") == 1 / 3


@pytest.mark.parametrize("rows", [3, 200, 2_000, 70_000])
@pytest.mark.parametrize("classes", [2, 10, 40])
@pytest.mark.parametrize("axis", [-1, 0])
def test_results_lie_in_order(backend: Backend, rows: int, classes: int, axis: int) -> None:
    """So that they can be viewed in one dimension, whatever was moved on the way."""
    x = backend.array(np.ones((rows, classes) if axis == -1 else (classes, rows)), "float32")
    labels = backend.array(np.zeros(rows, dtype=np.int64))
    for _ in range(3):
        _, slope = value_and_grad(cross_entropy)(x, labels, axis=axis)
        for found in (softmax(x, axis=axis), log_softmax(x, axis=axis), slope):
            contiguous = found.is_contiguous() if backend.library == "torch" else found.flags.c_contiguous
            assert contiguous
