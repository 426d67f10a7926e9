"""Small calls: what was written down of one does the same to other arrays, to the bit, and nothing is kept of them."""

from __future__ import annotations

import gc
import itertools
import weakref
from functools import cache, partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from every import DIFFERENTIABLE, EVERY, expected
from hypothesis import given
from hypothesis import strategies as st

import softxent
from softxent import calls, cross_entropy, grad, logsumexp, softmax, value_and_grad, vjp
from softxent.backends import backend_of, blocks, recording
from softxent.endings import Columns, Rows, SameShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

    from softxent.calls import Call

Array = Any

NUMPY: Any = backend_of(np.zeros(1))
LINEAR = {name for name in EVERY if name.startswith("linear")}  # loops over rows are not written down
RNG = np.random.default_rng(8)
SPECIAL = np.asarray([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 88.0, -700.0])


def bits(result: Any) -> Any:
    """What two results have to have in common: dtype, shape and entries, any NaN like any other."""
    if isinstance(result, dict):
        return {name: bits(one) for name, one in result.items()}
    if isinstance(result, (tuple, list)):
        return [bits(one) for one in result]
    array = np.asarray(result)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return type(result).__name__, array.dtype.name, array.shape, array.tobytes()


def thrice(call: Callable[[], Any]) -> list[Any]:
    """The results of a call that is made out, of one that is written down, and of one that is read off."""
    return [bits(call()) for _ in range(3)]


def made_out(_: Any, function: Callable[..., Any], call: Call, *details: Any) -> Any:
    """What `at_once` is where there are no programs."""
    return function(call.made, *details)


def plainly(call: Callable[[], Any]) -> Any:
    """The result without all this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(NUMPY), "at_once", made_out)
        return bits(call())


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """All calls that are made from now on, as if there had been none."""
    known: dict[Any, Any] = {}
    monkeypatch.setattr("softxent.calls._ALIKE", known)
    monkeypatch.setattr("softxent.calls._REMEMBERED", {})
    return known


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("name", sorted(set(EVERY) - LINEAR))
def test_every_function_is_written_down(backend: Backend, name: str, alike: dict[Any, Any]) -> None:
    assert backend.library == "numpy"
    function, arrays = EVERY[name]
    found = thrice(lambda: function(*arrays))
    assert found == [plainly(lambda: function(*arrays))] * 3
    programs = [program for one in alike.values() for program in one.programs.values()]
    assert {program.__name__ for program in programs} == {"program"}


@pytest.mark.parametrize(
    "x",
    [
        RNG.normal(size=(300, 8)),
        RNG.normal(size=(100, 30)).astype("float32"),
        RNG.normal(size=(2_100, 3)),
        RNG.normal(size=(10, 7, 40)).swapaxes(0, 2),
        RNG.normal(size=(4, 2_000)).T,
        RNG.normal(size=(33, 40)),
    ],
    ids=lambda x: f"{x.shape}",
)
@pytest.mark.parametrize("axis", [-1, 0])
def test_the_first_call_has_the_same_bits(x: Array, axis: int, alike: dict[Any, Any]) -> None:
    """Also where classes are moved; and programs have no line for every class."""
    labels = np.zeros(np.delete(x.shape, axis), dtype=np.int64)
    for call in (lambda: softmax(x, axis=axis), lambda: value_and_grad(cross_entropy)(x, labels, axis=axis)):
        first, *others = thrice(call)
        assert others == [first] * 2 == [plainly(call)] * 2
    programs = [program.__wrapped__ for one in alike.values() for program in one.programs.values()]
    assert len(programs) == 2
    assert all(len(program.__code__.co_code) < 5_000 for program in programs)


def entries(shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers, with special ones and ties among them."""
    x = np.round(RNG.normal(scale=4, size=shape), 1)
    return np.where(RNG.random(shape) < 0.15, RNG.choice(SPECIAL, size=shape), x).astype(dtype)


def laid(x: Array, layout: str) -> Array:
    """The same array, otherwise in memory."""
    if layout == "columns":
        return np.asfortranarray(x)
    if layout == "backwards":
        return x[::-1].copy()[::-1]
    if layout == "every other":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


LAYOUTS = st.sampled_from(["rows", "columns", "backwards", "every other"])
CALLS: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, **_: softmax(x),
    "softmax of an axis": lambda x, **_: softmax(x, axis=0),
    "softmax of both": lambda x, **_: softmax(x, axis=(1, 0)),
    "masked": lambda x, kept, **_: softxent.log_softmax(x, where=kept),
    "signed": lambda x, w, **_: logsumexp(x, b=w - 1.0, return_sign=True),
    "heated": lambda x, w, **_: softxent.entmax(x, alpha=1.5) + softmax(x, temperature=np.abs(w) + 0.5),
    "loss": lambda x, labels, **_: cross_entropy(x, labels),
    "weighted": lambda x, labels, w, **_: cross_entropy(x, labels, weight=np.abs(w), sample_weight=labels + 1.0),
    "aux": lambda x, labels, **_: cross_entropy(
        x, labels, z_loss=0.1, aux=("lse", "correct", "entropy"), ignore_index=1
    ),
    "sum and weight": lambda x, labels, **_: cross_entropy(x, labels, reduction="sum_and_weight", label_smoothing=0.1),
    "by an array": lambda x, labels, **_: cross_entropy(x, labels, denominator=np.asarray(3.0)),
    "binary": lambda x, kept, **_: softxent.binary_cross_entropy(x, kept, pos_weight=2.0),
    "divergence": lambda x, **_: softxent.kl_divergence(x, x[::-1], temperature=2.0),
    "gradient": lambda x, labels, w, **_: value_and_grad(cross_entropy, (0, "weight"))(x, labels, weight=np.abs(w)),
    "gradient of rows": lambda x, labels, **_: grad(cross_entropy)(x, labels, reduction="none"),
    "gradient by alpha": lambda x, labels, w, **_: grad(softxent.focal_loss, "alpha")(
        x, labels, gamma=2.0, alpha=np.abs(w)
    ),
    "pullback": lambda x, g, **_: vjp(softmax)(x)[1](g),
    "pullback of two": lambda x, labels, **_: vjp(cross_entropy)(x, labels, reduction="sum_and_weight")[1](
        (x.dtype.type(2.0), x.dtype.type(-1.0))
    ),
}


def drawn(shape: tuple[int, int], dtypes: tuple[str, ...], layouts: tuple[str, ...]) -> dict[str, Array]:
    """Arguments of those calls."""
    rows, classes = shape
    return {
        "x": laid(entries(shape, dtypes[0]), layouts[0]),
        "g": laid(entries(shape, dtypes[1]), layouts[1]),
        "w": RNG.normal(size=classes).astype(dtypes[2]),
        "kept": laid(RNG.random(shape) < 0.7, layouts[2]),
        "labels": RNG.integers(0, classes, size=rows),
    }


of_all_kinds = given(
    shape=st.tuples(st.sampled_from([0, 1, 4, 33]), st.sampled_from([1, 3, 9])),
    dtypes=st.tuples(*[st.sampled_from(["float16", "float32", "float64"])] * 3),
    layouts=st.tuples(*[LAYOUTS] * 3),
)


@pytest.mark.parametrize("name", CALLS)
@of_all_kinds
def test_others_alike_have_the_same_bits(name: str, **kinds: Any) -> None:
    """Whatever the entries: written down for one call, it is right for the next, of any strides and dtypes."""
    for _ in range(3):
        call = partial(CALLS[name], **drawn(**kinds))
        assert bits(call()) == plainly(call)


@pytest.mark.parametrize("first", ["float16", "float32", "float64"])
def test_a_cotangent_may_be_of_any_dtype(first: str) -> None:
    """Also after others that were not."""
    x = RNG.normal(size=(6, 5)).astype("float32")
    for dtype in (*[first] * 3, "float16", "float32", "float64"):
        call = partial(CALLS["pullback"], x=x, g=entries(x.shape, dtype))
        assert bits(call()) == plainly(call)


def test_arguments_are_looked_at_each_time() -> None:
    x, labels, weight = np.zeros((4, 3)), np.asarray([0, 1, 2, 0]), np.ones(4)
    for _ in range(3):
        cross_entropy(x, labels)
        cross_entropy(x, labels, sample_weight=weight)
        cross_entropy(x, labels, sample_weight=weight, check=True)
        softxent.binary_cross_entropy(x, x)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 7"):
        cross_entropy(x, np.asarray([0, 1, 7, 0]))
    with pytest.raises(ValueError, match="sample_weight must"):
        cross_entropy(x, labels, sample_weight=-weight)
    with pytest.raises(ValueError, match="sample_weight must"):
        cross_entropy(x, labels, sample_weight=weight * np.nan, check=True)
    with pytest.raises(ValueError, match="labels must"):
        softxent.binary_cross_entropy(x, x + 2)
    assert np.isnan(cross_entropy(x, np.asarray([0, 1, 7, 0]), check=False))


@pytest.mark.parametrize("cut", [False, True], ids=["calls", "blocks"])
def test_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, *, cut: bool) -> None:
    """Neither of what was written down nor of what follows, not even until garbage is collected."""
    if cut:
        cut_small(monkeypatch)
    monkeypatch.setattr("softxent.calls._ALIKE", {})
    monkeypatch.setattr("softxent.calls._REMEMBERED", {})
    monkeypatch.setattr("softxent.backends.numpy._walked", cache(lambda *_: (itertools.count(), {})))
    kept = []
    gc.disable()
    try:
        for _ in range(4):
            x = RNG.normal(size=(5, 4))
            p, pull = vjp(softmax)(x)
            loss, slope = value_and_grad(cross_entropy)(x, np.zeros(5, dtype=np.int64), sample_weight=np.ones(5))
            g = pull(p)
            kept += [weakref.ref(one) for one in (x, p, slope, g, loss)]
            del x, p, pull, loss, slope, g
    finally:
        gc.enable()
    assert [one for one in kept if one() is not None] == []


def test_there_are_so_many_and_no_more(alike: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softxent.calls._MOST", 5)
    for rows in range(1, 20):
        call = partial(softmax, RNG.normal(size=(rows, 3)))
        assert thrice(call) == [plainly(call)] * 3
        assert len(alike) <= 5
        assert len(calls._REMEMBERED) <= 5


def test_calls_of_many_threads_at_once(alike: dict[Any, Any]) -> None:
    """All of which find that nothing is written down yet; then it is."""
    x, labels = RNG.normal(size=(6, 5)), RNG.integers(0, 5, size=6)
    call = partial(value_and_grad(cross_entropy), x, labels)
    expected = plainly(call)
    found: list[Any] = []
    threads = [Thread(target=lambda: found.extend(bits(call()) for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160
    assert [one.programs.keys() for one in alike.values()] == [one.recordable.keys() for one in alike.values()]


# -- blocks -----------------------------------------------------------------------------------------------------------


Walked = dict[Any, tuple[Any, dict[Any, Any]]]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Walked:
    """All walks that are made from now on, as if there had been none."""
    known: Walked = {}
    monkeypatch.setattr("softxent.backends.numpy._walked", lambda *key: known.setdefault(key, (itertools.count(), {})))
    cut_small(monkeypatch)
    return known


def cut_small(patch: pytest.MonkeyPatch) -> None:
    """Calls have blocks of one or two rows, and no programs of their own."""
    patch.setattr(type(NUMPY), "entries", 5)
    patch.setattr(type(NUMPY), "at_once", made_out)


def by_blocks(walked: Walked) -> set[str]:
    """The names of what blocks are done by from the second walk on."""
    return {each.__qualname__ for _, programs in walked.values() for each in programs.values()}


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("name", sorted(set(DIFFERENTIABLE) - LINEAR))
def test_every_function_is_written_down_for_blocks(backend: Backend, name: str, walked: Walked) -> None:
    """With its derivative, and has the same bits from the first walk on."""
    assert backend.library == "numpy"
    first, *others = thrice(partial(expected, name))
    assert others == [first] * 2
    assert by_blocks(walked) == {"part.<locals>.<lambda>"}


@pytest.mark.parametrize("name", CALLS)
@of_all_kinds
def test_blocks_alike_have_the_same_bits(name: str, **kinds: Any) -> None:
    """As calls have."""
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        for _ in range(3):
            call = partial(CALLS[name], **drawn(**kinds))
            found = bits(call())
            with pytest.MonkeyPatch.context() as plain:
                plain.setattr(type(NUMPY), "for_parts", blocks.Backend.for_parts)
                assert found == bits(call())


# -- what is not written down -----------------------------------------------------------------------------------------


def recorded(function: Callable[[Any, Any], Any]) -> Callable[..., Any] | None:
    """The program of a function of the primitives and logits."""
    call: Call = softxent.normalizers.softmax_call(
        np.asarray([[1.0, 2.0]]), axis=-1, where=None, temperature=None, dtype=None
    )
    return recording.program(NUMPY, lambda call: function(call.form.backend, call.arguments["logits"]), call)


OTHER = np.asarray(3.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: x if x[0, 0] > 0 else -x,
        lambda ops, x: ops.sum(x) if ops.read(ops.any(x > 0)) else x,
        lambda _, x: x + OTHER,
        lambda _, x: OTHER + x,
        lambda _, x: x.strides,
        lambda ops, x: ops.divmod(x, 2.0),
        lambda _, x: {"in": x},
        lambda ops, x: ops.no_such_thing(x),
    ],
    ids=[
        "a choice",
        "a look",
        "another's array",
        "another's array first",
        "strides",
        "two results",
        "a dict",
        "an error",
    ],
)
def test_what_cannot_be_written_down(function: Callable[[Any, Any], Any]) -> None:
    assert recorded(function) is None


def test_what_is_written() -> None:
    """Only what the result depends on; numbers that have no literal; lists; names once more than once."""

    def function(ops: Any, x: Any) -> Any:
        ops.exp(x)
        wide = ops.concat([x, ops.where(x > 1.5, float("inf"), x)], axis=-1)
        return wide, (2.0 / -(abs(x) ** 2) % 7 // 1,), ops.astype(x, x.dtype, copy=False), 4

    program = recorded(function)
    assert program is not None
    x = np.asarray([[3.0, -1.0]])
    wide, (other,), same, four = program(x)
    np.testing.assert_array_equal(wide, [[3.0, -1.0, np.inf, -1.0]])
    np.testing.assert_array_equal(other, 2.0 / -(np.abs(x) ** 2) % 7 // 1)
    assert same is x
    assert four == 4
    called = [program.__globals__[name] for name in program.__code__.co_names]
    assert "exp" not in [getattr(one, "__name__", "") for one in called]


def test_results_take_the_place_of_what_is_not_needed() -> None:
    """But of no argument, of nothing that others see or have looked things up in, and of no number."""

    def function(ops: Any, x: Any) -> tuple[Any, ...]:
        seen, again, asked = x + 1.0, x * 0.5, ops.permute_dims(x, (1, 0)) - 3.0
        first = seen[:, :1]
        lead = ops.argmax(asked, axis=0, keepdims=True)
        largest = ops.take_along_axis(ops.exp(asked), lead, axis=0)
        total = ops.exp(ops.sum(x)) * 2.0
        return (
            first,
            -(ops.exp(seen) * 2.0),
            ops.exp(again) + again,
            largest,
            total,
            ops.permute_dims(x, (1, 0)) * (x + 2.0),
        )

    program = recorded(function)
    assert program is not None
    assert ("out",) in program.__code__.co_consts
    x = np.asarray([[3.0, -1.0]])
    for _ in range(2):
        first, in_its_place, both, largest, total, products = program(x)
        np.testing.assert_array_equal(x, [[3.0, -1.0]])
        np.testing.assert_array_equal(first, [[4.0]])
        np.testing.assert_array_equal(in_its_place, -2 * np.exp(x + 1))
        np.testing.assert_array_equal(both, np.exp(x / 2) + x / 2)
        np.testing.assert_array_equal(largest, [[1.0]])
        np.testing.assert_array_equal(total, 2 * np.exp(2.0))
        np.testing.assert_array_equal(products, x.T * (x + 2))
    negated = recorded(lambda _, x: -x)
    assert negated is not None
    np.testing.assert_array_equal(negated(x), [[-3.0, 1.0]])
    np.testing.assert_array_equal(x, [[3.0, -1.0]])


# -- torch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere but in the other tests."""
    monkeypatch.setattr("softxent.backends.torch.Backend.lends", True)


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
@pytest.mark.parametrize("name", sorted(set(EVERY) - LINEAR - {"fenchel_young_loss", "one_hot"}))
def test_torch_has_the_bits_of_numpy(backend: Backend, name: str) -> None:
    """From the first call on, with the derivative, whatever that is multiplied by."""
    torch = backend.xp
    function, arrays = EVERY[name]
    x, *others = (backend.array(one) for one in arrays)
    expected = np.asarray(function(*arrays))
    slope = None
    for _ in range(3):
        np.testing.assert_array_equal(backend.numpy(function(x, *others)), expected, strict=True)
        leaf = x.clone().requires_grad_()
        value = function(leaf, *others)
        np.testing.assert_array_equal(backend.numpy(value.detach()), expected, strict=True)
        for g in (1.0, -2.0, 2.0**-20):
            (found,) = torch.autograd.grad(value, leaf, torch.full_like(value, g), retain_graph=True)
            slope = found / g if slope is None else slope
            torch.testing.assert_close(found / g, slope, rtol=1e-6, atol=1e-30, equal_nan=True)


@pytest.mark.backends("torch")
@pytest.mark.parametrize("lends", [True, False])
@pytest.mark.parametrize("name", sorted(set(EVERY) - LINEAR - {"one_hot"}))
def test_torch_takes_several_cotangents_at_once(
    backend: Backend, name: str, monkeypatch: pytest.MonkeyPatch, *, lends: bool
) -> None:
    """The vmap of is_grads_batched, which knows fewer operations than torch.func's; loops are beyond it."""
    monkeypatch.setattr("softxent.backends.torch.Backend.lends", lends)
    torch = backend.xp
    function, arrays = EVERY[name]
    x, *others = (backend.array(one) for one in arrays)
    leaf = x.clone().requires_grad_()
    value = function(leaf, *others)
    g = torch.stack([torch.ones_like(value), torch.full_like(value, -2.0)])
    (found,) = torch.autograd.grad(value, leaf, g, is_grads_batched=True, retain_graph=True)
    expected = torch.stack([torch.autograd.grad(value, leaf, one, retain_graph=True)[0] for one in g])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
def test_torch_differentiates_again(backend: Backend) -> None:
    torch = backend.xp
    labels = torch.tensor([0, 2, 1, 0])
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        for reduction in ("mean", "none"):
            for order in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
                assert order(
                    lambda x, weight, how=reduction: cross_entropy(x, labels, weight=weight, reduction=how), (x, weight)
                )


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
def test_torch_refuses_a_changed_argument(backend: Backend) -> None:
    torch = backend.xp
    x = torch.randn(4, 3, requires_grad=True)
    y = x * 2.0
    loss = cross_entropy(y, torch.tensor([0, 2, 1, 0]))
    y.mul_(3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
@pytest.mark.filterwarnings("ignore")  # of torch.jit.trace, which is deprecated and warns of every size it is asked for
def test_torch_shows_operations_to_those_who_trace_them(backend: Backend) -> None:
    """make_fx would take what NumPy makes for a constant."""
    from torch.fx.experimental.proxy_tensor import make_fx

    torch = backend.xp

    def function(x: Array) -> Array:
        return softmax(x)

    x, other = torch.randn(4, 3), torch.randn(4, 3)
    for _ in range(3):
        function(x)
    torch.testing.assert_close(make_fx(function)(x)(other), function(other))
    torch.testing.assert_close(torch.jit.trace(softxent.sigmoid, x)(other), softxent.sigmoid(other))
    large = torch.randn(40_000, 3)
    torch.testing.assert_close(make_fx(function)(large)(-large), function(-large))


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
def test_torch_mixes_dtypes(backend: Backend) -> None:
    """A derivative comes in the dtype of what it is by, also where that was cast first."""
    torch = backend.xp
    x = torch.randn(4, 3, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        by_x, by_weight = torch.autograd.grad(cross_entropy(x, torch.tensor([0, 2, 1, 0]), weight=weight), (x, weight))
        assert by_x.dtype == torch.float32
        assert by_weight.dtype == torch.float64
    half = torch.randn(4, 3, dtype=torch.bfloat16)  # which NumPy has not
    assert [softmax(half).dtype for _ in range(3)] == [torch.bfloat16] * 3


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
def test_torch_has_each_gradient_in_memory_of_its_own(backend: Backend) -> None:
    """Autograd adds up in place, and would add to two leaves at once."""
    torch = backend.xp
    x, noise, g = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    for _ in range(3):
        (softxent.gumbel_softmax(x, noise) * g).sum().backward()
    (once,) = torch.autograd.grad((softxent.gumbel_softmax(x, noise) * g).sum(), x)
    torch.testing.assert_close(x.grad, 3 * once)
    torch.testing.assert_close(noise.grad, 3 * once)
    first, second = vjp(softxent.gumbel_softmax, (0, 1))(x.detach().numpy(), noise.detach().numpy())[1](g.numpy())
    assert not np.shares_memory(first, second)


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
@pytest.mark.parametrize("rows", [4, 40_000])
def test_torch_takes_what_inference_mode_has_made(backend: Backend, rows: int) -> None:
    """As a teacher's logits often are."""
    torch = backend.xp
    with torch.inference_mode():
        teacher = torch.randn(rows, 3)
        assert softmax(teacher).is_inference()
    found = []
    for target in (teacher, teacher.clone()):
        student = torch.ones(rows, 3).cumsum(-1).requires_grad_()
        softxent.kl_divergence(target, student, reduction="mean").backward()
        found.append(student.grad)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_torch_has_sparse_tensors_refused(backend: Backend) -> None:
    torch = backend.xp
    for sparse in (torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr()):
        with pytest.raises(TypeError, match=r"logits must be a plain array, got a torch.sparse_\w+ tensor"):
            softmax(sparse)


@pytest.mark.usefixtures("alike")
def test_what_cannot_be_written_down_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(recording, "program", lambda *_: tried.append(1))
    x = RNG.normal(size=(2, 5))
    assert [bits(softmax(x)) for _ in range(5)] == [plainly(partial(softmax, x))] * 5
    assert tried == [1]


def test_large_calls_keep_what_a_pullback_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only small ones make it again."""
    x, labels = RNG.normal(size=(3_000, 9)), RNG.integers(0, 9, size=3_000)
    expected = grad(cross_entropy)(x, labels)
    _, pull = vjp(cross_entropy)(x, labels)
    monkeypatch.setattr("softxent.formulas.cross_entropy.value", None)
    np.testing.assert_array_equal(pull(np.asarray(1.0)), expected)


@pytest.mark.backends("torch")
@pytest.mark.usefixtures("small_by_numpy")
def test_torch_negates_when_asked(backend: Backend) -> None:
    """What such a view has in memory is not what it says."""
    torch = backend.xp
    x = torch.randn(4, 3)
    negated = torch.complex(torch.zeros_like(x), x).conj().imag
    assert negated.is_neg()
    for _ in range(3):
        torch.testing.assert_close(softmax(negated), softmax(-x))


def test_what_returns_several_arrays() -> None:
    """Of those, one is not told from another by what is pulled back."""
    assert not Columns().is_one_array
    assert not Rows(np.float32, signed=True).is_one_array
    assert SameShape().is_one_array
