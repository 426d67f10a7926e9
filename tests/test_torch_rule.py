"""The rule that torch's autograd gets from every formula: when it is used, what it keeps, and what it is not asked for.

That its derivatives are exact, in every mode, is in `test_torch`.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derivatives import BY_NAME

from softxent import cross_entropy, log_softmax, logsumexp, smooth_labels, softmax
from softxent.formulas import cross_entropy as formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = pytest.mark.backends("torch")

Array = Any

RULE = "_RuleBackward"
ROWS, CLASSES = 520, 520  # more entries than a small call has


@pytest.fixture
def no_call_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)


def large(backend: Backend, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    logits = backend.array(rng.normal(size=(ROWS, CLASSES)), "float32")
    return logits, backend.array(rng.integers(0, CLASSES, size=ROWS))


def nodes(result: Array) -> list[str]:
    """The names of all nodes in the graph behind a tensor."""
    seen, to_do = set(), [result.grad_fn]
    while to_do:
        node = to_do.pop()
        if node is not None and node not in seen:
            seen.add(node)
            to_do += [following for following, _ in node.next_functions]
    return [type(node).__name__ for node in seen]


CALLS: dict[str, Callable[[Array, Array], Array]] = {
    "softmax": lambda x, _: softmax(x),
    "log_softmax": lambda x, _: log_softmax(x, temperature=2.0),
    "logsumexp": lambda x, _: logsumexp(x, return_sign=True)[0],
    "smooth_labels": lambda x, _: smooth_labels(x, 0.125),
    "cross_entropy": cross_entropy,
    "cross_entropy-smoothed": lambda x, t: cross_entropy(x, t, label_smoothing=0.125, z_loss=1e-3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_large_calls_have_one_node(backend: Backend, call: Any) -> None:
    """Small ones have torch's own nodes, and the same derivative."""
    logits, labels = large(backend)
    whole = logits.clone().requires_grad_()
    loss = call(whole, labels)
    assert nodes(loss).count(RULE) == 1
    assert not {"ExpBackward0", "ArgmaxBackward0", "ScatterBackward0"} & set(nodes(loss))
    few = logits[:3].clone().requires_grad_()
    assert RULE not in nodes(call(few, labels[:3]))


def test_by_products_take_the_formula(backend: Backend) -> None:
    """The pullback knows the loss alone; what aux names has derivatives too."""
    logits, labels = large(backend)
    logits.requires_grad_()
    loss, aux = cross_entropy(logits, labels, aux=("lse", "correct"))
    assert RULE not in nodes(loss)
    assert aux["lse"].requires_grad


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_is_kept_but_the_arguments(backend: Backend, call: Any) -> None:
    """No tensor of the logits' size but the logits waits for the backward pass."""
    logits, labels = large(backend)
    logits.requires_grad_()
    kept: list[Array] = []

    def pack(tensor: Array) -> Array:
        kept.append(tensor)
        return tensor

    with backend.xp.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(logits, labels)
    assert {tensor.data_ptr() for tensor in kept if tensor.numel() > ROWS} == {logits.data_ptr()}
    plain = logits.detach()
    kept.clear()
    with backend.xp.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(plain, labels)
    assert not kept


@pytest.mark.usefixtures("no_call_is_small")
@pytest.mark.parametrize("by", [("logits",), ("weight",), ("logits", "sample_weight"), ("labels",)], ids=str)
def test_only_what_needs_a_gradient_is_pulled_back(
    backend: Backend, by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that does not require a gradient costs nothing."""
    asked: list[tuple[str, ...]] = []
    pullback = formula.pullback

    def counting(*args: Any, by: tuple[str, ...], **kwargs: Any) -> Any:
        asked.append(by)
        return pullback(*args, by=by, **kwargs)

    monkeypatch.setattr(formula, "pullback", counting)
    arguments = {name: backend.array(array) for name, array in BY_NAME["soft-weight"].arrays("float64").items()}
    for name in by:
        arguments[name].requires_grad_()
    cross_entropy(arguments.pop("logits"), arguments.pop("labels"), **arguments, reduction="sum").backward()
    assert asked == [by]


@pytest.mark.usefixtures("no_call_is_small")
def test_masses_have_a_graph_only_where_they_move(backend: Backend) -> None:
    """A denominator that is summed first does not keep the logits alive."""
    case = BY_NAME["soft-weight"].arrays("float64")
    for name, moves in (("logits", False), ("z_loss", False), ("labels", True), ("weight", True)):
        arguments = {one: backend.array(array) for one, array in case.items()}
        arguments[name].requires_grad_()
        total, mass = cross_entropy(
            arguments.pop("logits"), arguments.pop("labels"), **arguments, reduction="sum_and_weight"
        )
        assert total.requires_grad
        assert mass.requires_grad is moves, name


def test_retain_graph_and_double_backward_of_a_large_call(backend: Backend) -> None:
    """A gradient penalty, whose derivative is 2 H g, and the first backward once more."""
    torch = backend.xp
    logits, labels = large(backend)
    logits.requires_grad_()
    loss = cross_entropy(logits, labels, reduction="sum")
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    (penalty,) = torch.autograd.grad((first * first).sum(), logits, retain_graph=True)
    p = torch.softmax(logits.detach().double(), dim=-1)
    g = first.detach().double()
    expected = 2 * p * (g - (p * g).sum(dim=-1, keepdim=True))
    torch.testing.assert_close(penalty.double(), expected, rtol=1e-4, atol=1e-7)
    loss.backward()
    torch.testing.assert_close(logits.grad, first.detach(), rtol=0, atol=1e-7)


def test_changed_logits_are_noticed(backend: Backend) -> None:
    """The backward pass starts from the logits: they must be what they were."""
    logits, labels = large(backend)
    leaf = logits.requires_grad_()
    moved = leaf * 1.0
    loss = cross_entropy(moved, labels)
    moved.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_deepcopy(backend: Backend) -> None:
    """A leaf with its gradient, and a model whose forward is the loss, can be copied between steps."""
    torch = backend.xp

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(4, CLASSES))
            self.loss = partial(cross_entropy, label_smoothing=0.125)

        def forward(self, x: Array, t: Array) -> Array:
            return self.loss(x @ self.weight, t)

    x, t = backend.array(np.random.default_rng(1).normal(size=(ROWS, 4)), "float32"), large(backend)[1]
    model = Model()
    model(x, t).backward()
    twin = copy.deepcopy(model)
    for one in (model, twin):
        one.weight.grad = None
        one(x, t).backward()
    assert torch.equal(twin.weight.grad, model.weight.grad)
    assert model.weight.grad.any()
    leaf = large(backend)[0].requires_grad_()
    cross_entropy(leaf, t).backward()
    assert torch.equal(copy.deepcopy(leaf).grad, leaf.grad)
