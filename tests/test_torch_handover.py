"""The gradient that torch's autograd gets from the forward pass: made where it can serve, used once, right otherwise.

`cross_entropy` of a leaf makes the derivatives together with the loss; the backward pass hands them over, scaled if
need be. Every use of the loss is held against the same call by the formula, which torch differentiates by itself.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from softxent import cross_entropy, logsumexp, vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = [
    pytest.mark.backends("torch"),
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

Array = Any
INF = math.inf
ROWS, CLASSES = 12, 7
KIND = "softxent.backends.torch.Backend"


class Seen:
    """What was made with a value, and what became of it: addresses, since a tensor that is kept would be copied."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.made: list[Any] = []
        self.handed: list[Any] = []


def addresses(tensors: dict[str, Array]) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> Seen:
    """Large calls, with blocks of a few rows, watched."""
    from softxent.backends.torch import _Call

    assert backend.autodiff == "torch"
    monkeypatch.setattr(f"{KIND}.small", -1)
    monkeypatch.setattr(f"{KIND}.entries", 3 * CLASSES)
    found, value, handed_over = Seen(), _Call.value, _Call.handed_over

    def making(self: Any, tensors: Any) -> Any:
        result = value(self, tensors)
        found.calls.append(self)
        found.made.append(None if self.made is None else addresses(self.made[1]))
        return result

    def handing(self: Any, cotangents: Any) -> Any:
        result = handed_over(self, cotangents)
        found.handed.append(None if result is None else addresses(result))
        return result

    monkeypatch.setattr(_Call, "value", making)
    monkeypatch.setattr(_Call, "handed_over", handing)
    return found


def arguments(backend: Backend, dtype: str = "float32") -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "logits": backend.array(rng.normal(size=(ROWS, CLASSES)) * 3, dtype),
        "labels": backend.array(rng.integers(0, CLASSES, size=ROWS)),
        "weight": backend.array(rng.uniform(0.5, 2, size=CLASSES), dtype),
        "temperature": backend.array(1.5, dtype),
    }


def gradients(
    backend: Backend, use: Callable[..., Array], by: tuple[str, ...] = ("logits",), dtype: str = "float32", **more: Any
) -> tuple[Array, ...]:
    """Derivatives of what ``use`` makes of the arguments, by those named."""
    given = arguments(backend, dtype)
    leaves = [given[name].requires_grad_() for name in by]
    use(**given, **more).backward()
    return tuple(leaf.grad for leaf in leaves)


def assert_right(
    backend: Backend,
    use: Callable[..., Array],
    monkeypatch: pytest.MonkeyPatch,
    by: tuple[str, ...] = ("logits",),
    **more: Any,
) -> tuple[Array, ...]:
    """As torch differentiates the formula in float64."""
    found = gradients(backend, use, by, **more)
    with monkeypatch.context() as formula:
        formula.setattr(f"{KIND}.small", 2**62)
        expected = gradients(backend, use, by, "float64", **more)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == backend.dtype("float32")
        scale = float(other.abs()[other.isfinite()].max())
        backend.xp.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6 * scale, equal_nan=True)
    return found


def mean(logits: Array, labels: Array, **_: Any) -> Array:
    return cross_entropy(logits, labels)


USES: dict[str, Callable[..., Array]] = {
    "mean": mean,
    "sum": lambda logits, labels, **_: cross_entropy(logits, labels, reduction="sum"),
    "a quarter": lambda **given: 0.25 * mean(**given),
    "nothing": lambda **given: 0.0 * mean(**given),
    "the opposite": lambda **given: -mean(**given),
    "eight times": lambda **given: 8 * mean(**given),
    "squared": lambda **given: mean(**given) ** 2,
    "sum over weight": lambda logits, labels, weight, **_: _quotient(
        *cross_entropy(logits, labels, weight=weight, reduction="sum_and_weight")
    ),
    "weighted mean": lambda logits, labels, weight, **_: cross_entropy(logits, labels, weight=weight),
    "count": lambda logits, labels, weight, **_: cross_entropy(logits, labels, weight=weight, denominator="count"),
    "ignored": lambda logits, labels, **_: cross_entropy(logits, labels, ignore_index=int(labels[0])),
    "soft": lambda logits, **_: cross_entropy(logits, logits.detach().softmax(-1).flip(0), label_smoothing=0.1),
    "logsumexp": lambda logits, **_: logsumexp(logits).sum(),
    "soft, weighted": lambda logits, weight, **_: cross_entropy(logits, logits.detach().softmax(-1), weight=weight),
    "two losses": lambda **given: mean(**given) + 0.5 * USES["sum"](**given),
    "one loss twice": lambda **given: sum([mean(**given)] * 2),
    "of what is no leaf": lambda logits, **given: mean(logits * 2.0, **given),
    "transposed": lambda logits, labels, **_: cross_entropy(logits.t().contiguous(), labels, axis=0),
    "everything": lambda logits, labels, weight, temperature: cross_entropy(
        logits, labels, weight=weight, temperature=temperature, z_loss=1e-2, reduction="sum"
    ),
}


def _quotient(total: Array, mass: Array) -> Array:
    return total / mass


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_of_a_loss(
    backend: Backend, seen: Seen, use: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_right(backend, use, monkeypatch)
    assert seen.calls
    assert all(call.made is None for call in seen.calls)


@pytest.mark.parametrize("by", [("weight",), ("temperature",), ("logits", "weight", "temperature")], ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.25, 8.0])
@pytest.mark.parametrize("name", ["everything", "weighted mean", "sum over weight"])
def test_derivatives_by_what_rows_share(
    backend: Backend, seen: Seen, name: str, by: tuple[str, ...], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = tuple(one for one in by if name == "everything" or one != "temperature") or ("logits",)
    assert_right(backend, lambda **given: factor * USES[name](**given), monkeypatch, by)
    assert all(call.made is None for call in seen.calls)


COTANGENTS: dict[str, list[float]] = {
    "ones": [1.0],
    "small": [0.5, 0.0, 1.0, -0.25],
    "large": [2.0, 0.5, -3.0],
    "zeros": [0.0],
    "infinite": [1.0, INF, 0.5],
    "one infinite, small": [0.5, -INF],
    "NaN": [math.nan, 0.5],
    "one for all": [0.25],
}


@pytest.mark.parametrize("values", COTANGENTS.values(), ids=COTANGENTS)
@pytest.mark.parametrize("by", [("logits",), ("logits", "weight")], ids=str)
def test_cotangents_of_rows(backend: Backend, seen: Seen, values: list[float], by: tuple[str, ...]) -> None:
    """As by the closed form in float64, for numbers of any size."""
    given = arguments(backend, "float64")
    seed = backend.array(np.resize(values, ROWS), "float64")
    _, back = vjp(cross_entropy, by)(given["logits"], given["labels"], weight=given["weight"], reduction="none")
    expected = back(seed)
    single = arguments(backend)
    leaves = [single[name].requires_grad_() for name in by]
    rows = cross_entropy(single["logits"], single["labels"], weight=single["weight"], reduction="none")
    rows.backward(seed.float())
    for leaf, other in zip(leaves, expected, strict=True):
        backend.xp.testing.assert_close(leaf.grad.double(), other, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert [call.made for call in seen.calls] == [None]


@pytest.mark.parametrize(
    ("factor", "handed"), [(1.0, True), (0.25, True), (2.0**-10, True), (-1.0, True), (8.0, False), (math.nan, False)]
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_handed_over_without_a_copy(
    backend: Backend,
    seen: Seen,
    reduction: str,
    factor: float,
    handed: bool,  # noqa: FBT001 - what is expected
) -> None:
    given = arguments(backend)
    leaf = given["logits"].requires_grad_()
    (factor * cross_entropy(leaf, given["labels"], reduction=reduction)).backward()
    (made,), (found,) = seen.made, seen.handed
    if not handed:
        assert found is None
        return
    assert leaf.grad.data_ptr() == found["logits"] == made["logits"]


def test_made_once_and_kept_no_longer_than_needed(backend: Backend, seen: Seen) -> None:
    """After one backward pass nothing is kept; a second one starts from the logits, and adds to the first."""
    given = arguments(backend)
    leaf = given["logits"].requires_grad_()
    loss = cross_entropy(leaf, given["labels"])
    assert seen.calls[0].made is not None
    loss.backward(retain_graph=True)
    assert seen.calls[0].made is None
    first = leaf.grad.clone()
    loss.backward(retain_graph=True)
    assert seen.handed[1] is None
    backend.xp.testing.assert_close(leaf.grad, 2 * first, rtol=1e-6, atol=1e-9)
    again = backend.xp.autograd.grad(0.5 * loss, leaf)[0]
    backend.xp.testing.assert_close(again, 0.5 * first, rtol=1e-6, atol=1e-9)


def test_a_gradient_in_use_is_left_alone(backend: Backend, seen: Seen) -> None:
    """What was handed over is the caller's: the next forward and backward pass write elsewhere."""
    given = arguments(backend)
    leaf = given["logits"].requires_grad_()
    kept = []
    for factor in (1.0, 0.5, 1.0):
        leaf.grad = None
        (factor * cross_entropy(leaf, given["labels"])).backward()
        kept.append((leaf.grad, leaf.grad.clone()))
    assert len({one.data_ptr() for one, _ in kept}) == 3
    assert all(backend.xp.equal(one, before) for one, before in kept)
    assert backend.xp.equal(kept[0][0], kept[2][0])
    assert len(seen.calls) == 3


def test_a_graph_of_the_gradient(backend: Backend, seen: Seen) -> None:
    """create_graph=True asks for derivatives of the gradient: what was made has none and does not serve."""
    torch = backend.xp
    given = arguments(backend, "float64")
    leaf, labels = given["logits"].requires_grad_(), given["labels"]
    (g,) = torch.autograd.grad(cross_entropy(leaf, labels, reduction="sum"), leaf, create_graph=True)
    assert seen.handed == [None]
    vector = torch.linspace(-1, 1, ROWS * CLASSES, dtype=g.dtype).reshape(ROWS, CLASSES)
    (found,) = torch.autograd.grad((g * vector).sum(), leaf)
    p = torch.softmax(leaf.detach(), dim=-1)
    torch.testing.assert_close(found, p * (vector - (p * vector).sum(-1, keepdim=True)), rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradgradcheck(lambda x: cross_entropy(x, labels, reduction="sum"), leaf)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_batched_cotangents(backend: Backend, seen: Seen, reduction: str) -> None:
    torch, given = backend.xp, arguments(backend, "float64")
    leaf = given["logits"].requires_grad_()
    result = cross_entropy(leaf, given["labels"], reduction=reduction)
    units = torch.linspace(-2, 2, 5 * result.numel(), dtype=result.dtype).reshape(5, *result.shape)
    together = torch.autograd.grad(result, leaf, units, is_grads_batched=True, retain_graph=True)[0]
    for unit, one in zip(units, together, strict=True):
        torch.testing.assert_close(
            torch.autograd.grad(result, leaf, unit, retain_graph=True)[0], one, rtol=1e-14, atol=0
        )
    assert seen.calls


def test_transforms_of_torch_func(backend: Backend, seen: Seen) -> None:
    torch, given = backend.xp, arguments(backend, "float64")
    x, labels = given["logits"], given["labels"]
    leaf = x.clone().requires_grad_()
    mean(leaf, labels).backward()
    same = {"rtol": 1e-13, "atol": 1e-16}
    torch.testing.assert_close(torch.func.grad(mean)(x, labels), leaf.grad, **same)
    loss, pull = torch.func.vjp(lambda x: mean(x, labels), x)
    torch.testing.assert_close(pull(torch.ones_like(loss))[0], leaf.grad, **same)
    stacked = torch.stack([x, x + 1.0, 2 * x])
    each = torch.func.vmap(torch.func.grad(mean), in_dims=(0, None))(stacked, labels)
    torch.testing.assert_close(each[0], leaf.grad, **same)
    torch.testing.assert_close(each[2], torch.func.grad(mean)(2 * x, labels), **same)
    torch.testing.assert_close(torch.func.jacrev(mean)(x, labels), leaf.grad, **same)
    assert all(call.made is None for call in seen.calls)


@pytest.mark.parametrize("context", ["no_grad", "inference_mode"])
def test_nothing_is_made_where_no_gradient_is_wanted(backend: Backend, seen: Seen, context: str) -> None:
    given = arguments(backend)
    leaf = given["logits"].requires_grad_()
    with getattr(backend.xp, context)():
        loss = cross_entropy(leaf, given["labels"])
    assert not loss.requires_grad
    cross_entropy(leaf.detach(), given["labels"])
    assert seen.calls == []


def test_a_copy_of_the_result_keeps_nothing(backend: Backend, seen: Seen) -> None:
    """A leaf with a gradient handed over can be copied, as between training steps."""
    given = arguments(backend)
    leaf = given["logits"].requires_grad_()
    mean(leaf, given["labels"]).backward()
    twin = copy.deepcopy(leaf)
    assert backend.xp.equal(twin.grad, leaf.grad)
    assert twin.grad.data_ptr() != leaf.grad.data_ptr()
    assert seen.calls[0].made is None
