"""Evaluation in one pass: equal to direct computations whatever the batches, merged, resumed, in little memory."""

from __future__ import annotations

import io
import pickle
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrix import FRAMEWORKS

from softxent import evaluation
from softxent.evaluation import Evaluation, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

LIBRARIES = pytest.mark.backends("numpy-readonly", "strict", "torch", "jax")
EAGER = pytest.mark.backends("numpy-readonly", "strict", "torch")  # jax compiles for seconds

RNG = np.random.default_rng(6)
LOGITS = np.round(RNG.normal(size=(12, 5)) * 2, 1).astype(np.float32)  # rounded: with ties
LOGITS[3] = [1.0, 2.0, 2.0, -1.0, 2.0]
LOGITS[4] = [-np.inf, 30.0, 0.0, 0.0, -5.0]
LABELS = RNG.integers(0, 5, 12).astype(np.int32)
LABELS[3:5] = [2, 1]
IGNORED = np.where(np.arange(12) % 5 == 2, -1, LABELS).astype(np.int32)


def directly(x: NumPy, labels: NumPy, *, top: tuple[int, ...], bins: int) -> dict[str, Any]:
    """Every result by its definition, in double precision, of labels that are classes."""
    x = x.astype(float)[labels >= 0]
    labels = labels[labels >= 0]
    gaps = x - np.max(x, axis=-1, keepdims=True)
    log_p = gaps - np.log(np.sum(np.exp(gaps), axis=-1, keepdims=True))
    p = np.exp(log_p)
    rows = np.arange(len(x))
    losses = -log_p[rows, labels]
    order = np.argsort(-x, axis=-1, kind="stable")
    sure, right = np.max(p, axis=-1), order[:, 0] == labels
    error = 0.0
    for m in range(bins):
        inside = (sure > m / bins) & (sure <= (m + 1) / bins)
        error += abs(np.sum(right[inside]) - np.sum(sure[inside])) / len(x)
    reach = 1.959963984540054 * np.std(losses, ddof=1) / np.sqrt(len(x))
    loss = np.mean(losses)
    return {
        "examples": len(x),
        "loss": loss,
        "perplexity": np.exp(loss),
        "loss_interval": (loss - reach, loss + reach),
        "perplexity_interval": (np.exp(loss - reach), np.exp(loss + reach)),
        "accuracy": np.mean(right),
        "top_k": {k: np.mean([labels[n] in order[n, :k] for n in rows]) for k in top},
        "entropy": np.mean(-np.sum(p * np.where(p == 0, 0.0, log_p), axis=-1)),
        "calibration_error": error,
    }


def assert_found(found: Evaluation, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        got = getattr(found, name)
        got = got() if callable(got) else got
        if isinstance(value, dict):
            assert got == pytest.approx(value), name
        else:
            np.testing.assert_allclose(got, value, rtol=2e-6, err_msg=name)


def alike(a: Evaluation, b: Evaluation) -> None:
    """The same but for the order of additions."""
    assert a.hits == b.hits
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(a.entropies, b.entropies, rtol=1e-6)
    np.testing.assert_allclose(a.bins, b.bins, rtol=1e-6)


# -- values -----------------------------------------------------------------------------------------------------------


def test_equal_to_direct_computations(backend: Backend) -> None:
    """Two batches, of which some examples are ignored; integers of any width."""
    batches = [
        (backend.array(LOGITS[:6]), backend.array(IGNORED[:6])),
        (backend.array(LOGITS[6:]), backend.array(IGNORED[6:], "int8")),
    ]
    with backend.context():
        found = evaluate(batches, ignore_index=-1, top_k=(2, 3), bins=4)
    assert_found(found, directly(LOGITS, IGNORED, top=(2, 3), bins=4))


@LIBRARIES
@pytest.mark.dtypes("bfloat16", "float64")
def test_dtypes(backend: Backend, dtype: str) -> None:
    x = backend.array(LOGITS, dtype)
    seen = np.asarray(backend.numpy(x), dtype=float)
    found = evaluate([(x, backend.array(LABELS))])
    expected = directly(seen, LABELS, top=(5,), bins=15)
    assert_found(found, expected)


@EAGER
def test_other_axes(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of any shape, in one block and in many; a single example."""
    x, labels = LOGITS.reshape(2, 6, 5), LABELS.reshape(2, 6)
    expected = directly(LOGITS, LABELS, top=(2,), bins=15)
    batch = (backend.array(np.moveaxis(x, 2, 1)), backend.array(labels))
    assert_found(evaluate([batch], axis=1, top_k=2), expected)
    monkeypatch.setattr(evaluation, "ENTRIES", 20)
    cut = evaluate([batch], axis=1, top_k=2)
    assert_found(cut, expected)
    single = evaluate([(backend.array(LOGITS[0]), backend.array(LABELS[0]))])
    assert single.examples == 1
    assert np.isnan(single.loss_interval()[0])


@pytest.mark.backends("numpy", "torch")
def test_wide_rows_in_pieces(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties are counted from the start of the row."""
    monkeypatch.setattr("softxent.backends.blocks.WIDE", 1)
    for library in ("numpy", "torch"):
        monkeypatch.setattr(f"softxent.backends.{library}.Backend.entries", 2)
    found = evaluate([(backend.array(LOGITS), backend.array(LABELS))], top_k=2)
    assert_found(found, directly(LOGITS, LABELS, top=(2,), bins=15))


@LIBRARIES
def test_logits_of_a_linear_layer(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made a block at a time."""
    features, weight = np.round(RNG.normal(size=(3, 4, 2)), 1), np.round(RNG.normal(size=(5, 2)), 1)
    batch = tuple(backend.array(a, "float32") for a in (features, weight))
    labels = LABELS.reshape(3, 4)
    expected = directly((features @ weight.T).reshape(12, 5), LABELS, top=(5,), bins=15)
    monkeypatch.setattr(evaluation, "ENTRIES", 20)
    assert_found(evaluate([(*batch, backend.array(labels))]), expected)


@EAGER
def test_undefined_rows_are_wrong(backend: Backend) -> None:
    x = np.asarray([[np.nan, 0.0], [0.0, np.nan], [0.0, np.nan], [2.0, 0.0]], dtype=np.float32)
    labels = np.asarray([1, 0, 1, 0], dtype=np.int32)
    with backend.context():
        found = evaluate([(backend.array(x), backend.array(labels))], top_k=2)
    assert (found.accuracy, found.top_k) == (0.25, {2: 0.25})
    assert np.isnan([found.loss, found.entropy, found.calibration_error]).all()


@EAGER
def test_no_examples(backend: Backend) -> None:
    empty = (backend.array(LOGITS[:0]), backend.array(LABELS[:0]))
    with backend.context():
        found = evaluate([empty])
        ignored = evaluate([(backend.array(LOGITS[:2]), backend.array([-1, -1], "int32"))], ignore_index=-1)
    for one in (found, ignored, evaluate([])):
        assert one.examples == 0
        assert np.isnan([one.loss, one.perplexity, one.accuracy, one.top_k[5], one.entropy, *one.loss_interval()]).all()
        assert np.isnan([one.calibration_error, *one.perplexity_interval()]).all()


@pytest.mark.backends("torch")
def test_no_graph_is_recorded(backend: Backend) -> None:
    x = backend.array(np.maximum(LOGITS, -9.0)).requires_grad_()
    weight = backend.array(np.eye(5), "float32").requires_grad_()
    labels = backend.array(LABELS)
    alike(evaluate([(x, labels)]), evaluate([(x, weight, labels)]))


# -- merging ----------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy-readonly", "torch")
@given(cuts=st.lists(st.integers(0, 12), max_size=4), at=st.integers(0, 4))
def test_merged_and_resumed_equal_the_whole(backend: Backend, cuts: list[int], at: int) -> None:
    """Resumed to the last bit, and merged in any order up to rounding."""
    ends = zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True)
    batches = [(backend.array(LOGITS[a:b]), backend.array(IGNORED[a:b])) for a, b in ends]
    whole = evaluate(batches, ignore_index=-1)
    state = pickle.loads(pickle.dumps(evaluate(batches[:at], ignore_index=-1)))  # noqa: S301 - our own
    assert evaluate(batches[at:], ignore_index=-1, state=state) == whole
    rest = evaluate(batches[at:], ignore_index=-1)
    for merged in (state.merge(rest), rest + state):
        alike(merged, whole)
    assert_found(whole, directly(LOGITS, IGNORED, top=(5,), bins=15))
    with pytest.raises(AttributeError):
        whole.entropies = 0.0  # type: ignore[misc]


def test_results_of_libraries_merge(backends: list[Backend]) -> None:
    one_each = {"numpy", "strict", "torch", "jax", *FRAMEWORKS}
    usable = [backend for backend in backends if backend.name in one_each]
    found = evaluate([])
    for backend in usable:
        batch = (backend.array(LOGITS), backend.array(LABELS))
        found = found.merge(backend.call(evaluate, [batch]))
    assert found.examples == 12 * len(usable)
    np.testing.assert_allclose(found.loss, directly(LOGITS, LABELS, top=(), bins=1)["loss"], rtol=1e-6)


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("linear", [False, True])
def test_memory_does_not_grow_with_the_batch(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linear: bool
) -> None:
    """One memory map, of which a block at a time is looked at: sixteen times the rows, the same memory."""
    monkeypatch.setattr(evaluation, "ENTRIES", 2**14)
    peaks = []
    for rows in (512, 8192):
        shape = (rows, 4) if linear else (rows, 128)
        x = np.memmap(tmp_path / f"{rows}", dtype=np.float32, mode="w+", shape=shape)
        x[:] = RNG.normal(size=shape)
        labels = RNG.integers(0, 128, rows)
        batch = (x, backend.array(RNG.normal(size=(128, 4)), "float32"), labels) if linear else (x, labels)
        for _ in range(2):  # what is done for the second time is written down
            evaluate([batch])
        tracemalloc.start()
        assert evaluate([batch]).examples == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 2**14
    assert peaks[1] < 2**20 < 8192 * 128 * 4


# -- what people look at ----------------------------------------------------------------------------------------------

TABLE = """\
examples                      12
loss                      0.6931  (95 %: 0.6931 to 0.6931)
perplexity                2.0000  (95 %: 2.0000 to 2.0000)
accuracy                  1.0000
top-2 accuracy            1.0000
entropy                   0.6931
calibration error         0.5000"""


def flat() -> Evaluation:
    """Of predictions that know nothing."""
    return evaluate([(np.zeros((12, 2), dtype=np.float32), np.zeros(12, dtype=np.int32))], top_k=2)


@pytest.mark.backends("numpy")
def test_prints(backend: Backend) -> None:  # noqa: ARG001 - once
    assert str(flat()) == TABLE
    assert "(95 %" not in str(evaluate([]))


@pytest.mark.backends("numpy")
def test_prints_with_rich(backend: Backend) -> None:  # noqa: ARG001 - once
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=80)
    console.print(flat())
    printed = console.file.getvalue()
    for word in ("calibration error", "0.5000", "0.6931 to 0.6931"):
        assert word in printed


@pytest.mark.backends("numpy")
def test_progress(backend: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error where it is asked for; by default only for somebody who waits and watches."""
    pytest.importorskip("rich")
    batches = [(backend.array(LOGITS), backend.array(LABELS))] * 3
    evaluate(batches, progress=True)
    shown = capsys.readouterr()
    assert "evaluate" in shown.err
    assert "100%" in shown.err
    assert shown.out == ""
    evaluate(iter(batches), progress=True)
    assert "evaluate" in capsys.readouterr().err
    monkeypatch.setattr(evaluation, "_LONG", -1.0)
    evaluate(batches)
    evaluate(batches, progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    evaluate(batches)
    assert "evaluate" in capsys.readouterr().err


@pytest.mark.backends("numpy")
def test_progress_without_rich(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [(backend.array(LOGITS), backend.array(LABELS))] * 2
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(evaluation, "_LONG", -1.0)
    assert evaluate(batches).examples == 24
    with pytest.raises(ModuleNotFoundError, match="progress=True must have rich, which is not installed; pip install"):
        evaluate(batches, progress=True)


# -- errors -----------------------------------------------------------------------------------------------------------


anything: Any = evaluate  # mypy would find what these are to find


@pytest.mark.backends("numpy")
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda x, _: anything([x]),
            TypeError,
            r"batches must hold \(logits, labels\) or .*, got ndarray at position 0",
        ),
        (lambda x, y: anything([(x, y), (x,)]), TypeError, "got 1 of them at position 1"),
        (lambda x, _: anything([(x, [0] * 12)]), TypeError, "labels must be an array, got list"),
        (lambda x, y: anything([(x.tolist(), y)]), TypeError, "logits must be an array, got list"),
        (lambda x, y: anything([(x, y.astype(float))]), TypeError, "labels must be integers, got dtype float64"),
        (lambda x, y: anything([(x, y[:5])]), ValueError, r"labels must have the batch shape \(12,\), got \(5,\)"),
        (lambda x, y: anything([(x, y + 9)]), ValueError, "labels must be from 0 to 4"),
        (lambda x, y: anything([(x, y)], axis=(0, 1)), ValueError, "axis must be an int for logits"),
        (
            lambda x, y: anything([(x, x.T, y)]),
            ValueError,
            r"weight must have shape \(C, 5\), one row a class, got \(5, 12\)",
        ),
        (lambda x, y: anything([(x, x, y)], axis=1), ValueError, "axis must be -1 for"),
        (lambda x, y: anything([(x, y)], top_k=(0,)), ValueError, "top_k must be a positive int, got 0"),
        (lambda x, y: anything([(x, y)], bins=2.5), ValueError, "bins must be a positive int, got 2.5"),
        (lambda x, y: anything([(x, y)], progress=1), TypeError, "progress must be True, False or None, got 1"),
        (lambda x, y: anything([(x, y)], state=3), TypeError, "other must be an Evaluation, got int"),
        (
            lambda x, y: anything([(x, y)], state=anything([], bins=3)),
            ValueError,
            r"other must have top_k=\(5,\) and bins=3, got top_k=\(5,\) and bins=15",
        ),
    ],
)
def test_errors(backend: Backend, wrong: Callable[[Array, Array], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrong(backend.array(LOGITS), backend.array(LABELS))
