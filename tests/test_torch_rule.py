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

from softxent import cross_entropy, log_softmax, logsumexp, smooth_labels, softmax, softmin
from softxent.formulas import cross_entropy as formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = [
    pytest.mark.backends("torch"),
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

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

    def counted(rule: Any) -> Any:
        def counting(*args: Any, by: tuple[str, ...], **kwargs: Any) -> Any:
            asked.append(by)
            return rule(*args, by=by, **kwargs)

        return counting

    for name in ("pullback", "value_and_pullback"):  # by one or the other
        monkeypatch.setattr(formula, name, counted(getattr(formula, name)))
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


@pytest.mark.usefixtures("no_call_is_small")
@pytest.mark.parametrize("name", ["weight", "soft-weight", "smoothing", "sample-weight", "temperature-examples"])
def test_batched_cotangents(backend: Backend, name: str) -> None:
    """is_grads_batched, which jacobian(vectorize=True) uses: every row of the Jacobian is a pullback of its own."""
    torch, case = backend.xp, BY_NAME[name]
    arguments = {one: backend.array(array) for one, array in case.arrays("float64").items()}
    leaves = [arguments[one].requires_grad_() for one in case.by]
    losses = cross_entropy(arguments.pop("logits"), arguments.pop("labels"), **arguments, reduction="none")
    units = torch.eye(len(losses), dtype=losses.dtype)
    together = torch.autograd.grad(losses, leaves, units, is_grads_batched=True, retain_graph=True)
    for n, unit in enumerate(units):
        alone = torch.autograd.grad(losses, leaves, unit, retain_graph=True)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[n], other, rtol=1e-15, atol=0, equal_nan=True)


def tangents_of(backend: Backend, function: Callable[..., Any], arrays: dict[str, Array]) -> Any:
    """What forward mode makes of a direction for every array, each a leaf that wants a gradient as well."""
    forward = backend.xp.autograd.forward_ad
    with forward.dual_level():
        duals = {}
        for name, x in arrays.items():
            direction = backend.xp.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).reshape(x.shape)
            duals[name] = forward.make_dual(x.clone().requires_grad_(), direction)
        found = function(**duals)
        return tuple(forward.unpack_dual(y).tangent for y in (found if isinstance(found, tuple) else (found,)))


FORWARD: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "softmax": (softmax, {"logits": [[0.5, -1.25, 2], [40, 0, 0]], "temperature": 0.5}),
    "softmax-rows": (softmax, {"logits": [[0.5, -1.25, 2], [1, 1, 0]], "temperature": [[0.5], [2.0]]}),
    "softmin": (softmin, {"logits": [[0.5, -1.25, 2], [40, 0, 0]], "temperature": [0.5, 1.0, 2.0]}),
    "log_softmax": (log_softmax, {"logits": [[0.5, -1.25, 2], [40, 0, 0]], "temperature": 0.5}),
    "log_softmax-classes": (log_softmax, {"logits": [[0.5, -1.25, 2], [4, 0, 0]], "temperature": [0.5, 1.0, 2.0]}),
    "logsumexp": (logsumexp, {"x": [[0.5, -1.25, 2], [40, 0, 0]], "b": [1.0, 0.5, 2.0]}),
    "smooth_labels": (
        smooth_labels,
        {"labels": [[0.5, 0.25, 0.25]], "label_smoothing": [0.125], "smoothing_prior": [1.0, 0.5, 2.0]},
    ),
    "smooth_labels-number": (partial(smooth_labels, label_smoothing=0.125), {"labels": [[0.5, 0.25, 0.25]]}),
    "sum_and_weight": (
        partial(cross_entropy, reduction="sum_and_weight", label_smoothing=0.125),
        {
            "logits": [[0.5, -1.25, 2], [4, 0, 0]],
            "labels": [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]],
            "weight": [2.0, 1.0, 0.5],
            "sample_weight": [1.0, 0.5],
            "z_loss": 0.25,
            "softcap": 8.0,
        },
    ),
}


@pytest.mark.parametrize(("function", "values"), FORWARD.values(), ids=FORWARD)
def test_pushforward(
    backend: Backend, function: Callable[..., Any], values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward mode by the rule is forward mode by torch through the formula."""
    arrays = {name: backend.array(value, "float64") for name, value in values.items()}
    expected = tangents_of(backend, function, arrays)
    monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
    for one, other in zip(tangents_of(backend, function, arrays), expected, strict=True):
        backend.xp.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


ALONE = [(name, one) for name, (_, values) in FORWARD.items() for one in values if name != "sum_and_weight"]


@pytest.mark.parametrize(("name", "moving"), ALONE)
def test_pushforward_of_one_argument(backend: Backend, name: str, moving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others stand still."""
    function, values = FORWARD[name]
    arrays = {one: backend.array(value, "float64") for one, value in values.items()}
    alone = {moving: arrays.pop(moving)}
    expected = tangents_of(backend, partial(function, **arrays), alone)
    monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
    for one, other in zip(tangents_of(backend, partial(function, **arrays), alone), expected, strict=True):
        backend.xp.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


def test_pushforward_beside_class_indices(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integer labels have no tangent; by ε it is u - q."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
    smoothed = partial(smooth_labels, backend.array([1]), num_classes=4)
    (tangent,) = tangents_of(backend, smoothed, {"label_smoothing": backend.array([0.125], "float64")})
    direction = backend.xp.linspace(-1.0, 2.0, 1, dtype=tangent.dtype)
    expected = direction[:, None] * backend.array([[0.25, -0.75, 0.25, 0.25]], "float64")
    backend.xp.testing.assert_close(tangent.double(), expected)


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_pushforward_beside_integer_logits(
    backend: Backend, function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Integer logits have no tangent, and what is left is that of the same numbers as floats standing still."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
    heat = {"temperature": backend.array(2.0, "float32")}
    found, expected = (
        tangents_of(backend, partial(function, backend.array([[3, 0, -1]], dtype)), heat)
        for dtype in ("int32", "float32")
    )
    assert backend.xp.equal(found[0], expected[0])
    assert found[0].any()


@pytest.mark.usefixtures("no_call_is_small")
@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
def test_pushforward_of_no_classes(backend: Backend, function: Callable[..., Any]) -> None:
    (tangent,) = tangents_of(backend, lambda x: function(x, axis=-1), {"x": backend.array(np.zeros((2, 0)), "float64")})
    assert tangent.shape == function(backend.array(np.zeros((2, 0)))).shape
    assert not tangent.any()


@pytest.mark.usefixtures("no_call_is_small")
def test_forward_over_reverse_beside_a_constant_result(backend: Backend) -> None:
    """The sign of a sum has no tangent; the logarithm's Hessian is diag(p) - p pᵀ."""
    torch = backend.xp
    x = backend.array([0.5, -1.25, 2.0], "float64")
    found = torch.func.hessian(lambda x: logsumexp(x, return_sign=True)[0])(x)
    p = torch.softmax(x, dim=-1)
    torch.testing.assert_close(found, torch.diag(p) - p[:, None] * p, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize("small", [-1, 2**18], ids=["rule", "formula"])
def test_no_mass_on_a_dropped_class_to_every_order(
    backend: Backend, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§2: q = 0 contributes exactly 0 at infinite cost, also to the derivative of the gradient by q."""
    monkeypatch.setattr("softxent.backends.torch.Backend.small", small)
    torch = backend.xp
    logits = backend.array([[1.0, 2.0, 3.0]], "float64").requires_grad_()
    q = backend.array([[0.5, 0.5, 0.0]], "float64").requires_grad_()
    kept = backend.array([[True, True, False]])
    (first,) = torch.autograd.grad(cross_entropy(logits, q, where=kept), logits, create_graph=True)
    (mixed,) = torch.autograd.grad(first[0, 0], q)
    assert mixed[0, 2].item() == 0.0
    assert mixed[0, 0].item() != 0.0


@pytest.mark.usefixtures("no_call_is_small")
def test_a_count_has_no_graph(backend: Backend) -> None:
    """However many take part, no weight moves their number."""
    arguments = {one: backend.array(array) for one, array in BY_NAME["soft-weight"].arrays("float64").items()}
    arguments["weight"].requires_grad_()
    total, count = cross_entropy(
        arguments.pop("logits"), arguments.pop("labels"), **arguments, reduction="sum_and_weight", denominator="count"
    )
    assert total.requires_grad
    assert not count.requires_grad
