"""Code that Inductor generates: a few functions only, since each costs seconds; `test_torch` has all, by aot_eager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import oracle
import pytest
from derivatives import BY_NAME, COTANGENT, assert_gradient, assert_ulps, exact

from softxent import cross_entropy, softmax

if TYPE_CHECKING:
    from matrix import Backend

pytestmark = [
    pytest.mark.backends("torch"),
    # Inductor itself still uses what torch tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]


@pytest.mark.parametrize("name", ["plain", "where-logits"])
def test_cross_entropy(backend: Backend, name: str) -> None:
    """Value and backward in one graph, without a warning and with every digit."""
    torch, case = backend.xp, BY_NAME[name]
    torch._dynamo.reset()
    arguments = {one: backend.array(array) for one, array in case.arrays("float32").items()}
    arguments["logits"].requires_grad_()

    def rows(**given: Any) -> Any:
        return cross_entropy(given.pop("logits"), given.pop("labels"), reduction="none", **given)

    losses = torch.compile(rows, fullgraph=True)(**arguments)
    assert_ulps(backend.numpy(losses), exact(case, "float32").rows, dtype="float32", bound=4.0)
    (losses * backend.array(COTANGENT).to(losses.dtype)).sum().backward()
    assert_gradient(case, "logits", backend.numpy(arguments["logits"].grad), dtype="float32")


def test_softmax(backend: Backend) -> None:
    torch = backend.xp
    torch._dynamo.reset()
    x = backend.array([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0]], "float32")
    p = torch.compile(softmax, fullgraph=True)(x)
    assert_ulps(backend.numpy(p), oracle.softmax(x.numpy()), dtype="float32", bound=4.0)
