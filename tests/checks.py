"""What the tests of values ask of a result: its library, its dtype, its shape, and its distance from exact in ULP.

`assert_exact` compares one result with numbers known otherwise (by hand, from mpmath); `gradients` are the derivatives
that torch and jax find by themselves; `default_float` is what integers become.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matrix import FRAMEWORKS, HALVES, Backend, numpy_dtype
from ulps import error, exactly

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Array = Any
NumPy = np.ndarray[Any, Any]

ROUNDED_ONCE = 0.51  # a half computed in float32: correct but for near ties


def assert_exact(
    backend: Backend, result: Array, expected: Any, dtype: str = "float32", *, ulp: float | None = None
) -> None:
    """Every entry within `ulp` units (4; 0.51 in halves) of the number expected, 0 exactly where that is 0."""
    assert backend.owns(result), f"{backend}: got a {type(result)}"
    got = backend.numpy(result)
    assert got.dtype == numpy_dtype(dtype), f"{backend}: {got.dtype}, not {dtype}"
    exact = exactly(expected)
    bound = ulp if ulp is not None else ROUNDED_ONCE if dtype in HALVES else 4.0
    off = error(got, exact, dtype)  # refuses another shape
    zero = np.asarray(exact == 0, dtype=bool)
    wrong = np.where(zero, np.asarray(got, dtype=np.float64) != 0, ~(off <= bound))
    assert not wrong.any(), (
        f"{backend}: {got!r} where {np.asarray(exact, dtype=np.float64)!r} is right, off by {off} ulp"
    )


def assert_equal(backend: Backend, result: Array, expected: NumPy) -> None:
    """The same bits, shape and dtype as a NumPy array (any NaN equals any NaN)."""
    assert backend.owns(result), f"{backend}: got a {type(result)}"
    got = backend.numpy(result)
    assert got.dtype == expected.dtype, f"{backend}: {got.dtype}, not {expected.dtype}"
    np.testing.assert_array_equal(got, expected, err_msg=str(backend), strict=True)


# float32 logits of these shapes go through jax eagerly: its operations are compiled once for all tests. Others would
# each cost seconds that way, and run under jit.
SHARED = {(3,), (2, 3), (3, 3), (4, 3)}


def _jitted(backend: Backend, x: Array) -> bool:
    return backend.autodiff == "jax" and (tuple(x.shape) not in SHARED or x.dtype.name != "float32")


def call(backend: Backend, function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """`backend.call`, on jax under jit for shapes that are not `SHARED` (no label is checked there)."""
    if not _jitted(backend, arrays[0]):
        return backend.call(function, *arrays, **options)
    given = {name: value for name, value in options.items() if backend.owns(value)}
    static = {name: value for name, value in options.items() if name not in given}
    return backend.compiled(lambda arrays, given: function(*arrays, **given, **static))(arrays, given)


def calls(
    backend: Backend, function: Callable[..., Any], *arrays: Array, each: Sequence[dict[str, Any]], **options: Any
) -> list[Any]:
    """The same call once with each of these further options: on jax one compiled function, which shares what is alike.

    The further options are no arrays, and no label is checked on jax.
    """
    if backend.autodiff != "jax":
        return [backend.call(function, *arrays, **options, **more) for more in each]
    given = {name: value for name, value in options.items() if backend.owns(value)}
    static = {name: value for name, value in options.items() if name not in given}
    together = backend.compiled(lambda arrays, given: [function(*arrays, **given, **static, **more) for more in each])
    results: list[Any] = together(arrays, given)
    return results


def gradients(
    backend: Backend, function: Callable[..., Array], *arrays: Array, cotangent: Any = 1.0
) -> tuple[NumPy, ...]:
    """Derivatives of Σ cotangent · function(*arrays) by each of the arrays, found by the library."""
    if backend.autodiff == "torch":
        leaves = [x.detach().clone().requires_grad_() for x in arrays]
        result = function(*leaves)
        if not result.requires_grad:
            return tuple(np.zeros_like(backend.numpy(x)) for x in arrays)
        seed = backend.xp.ones_like(result) * backend.xp.asarray(cotangent, dtype=result.dtype)
        found = backend.xp.autograd.grad(result, leaves, seed, materialize_grads=True, allow_unused=True)
        return tuple(backend.numpy(g) for g in found)
    if backend.autodiff in FRAMEWORKS:
        return backend.pulled(function, arrays, cotangent)[1]
    import jax

    def pulled(*arrays: Array) -> Any:
        result, pullback = jax.vjp(function, *arrays)
        return pullback(backend.xp.ones_like(result) * backend.xp.asarray(cotangent, dtype=result.dtype))

    found = (jax.jit(pulled) if _jitted(backend, arrays[0]) else pulled)(*arrays)
    return tuple(backend.numpy(g) for g in found)


def hessian(backend: Backend, function: Callable[[Array], Array], x: Array) -> NumPy:
    """Second derivatives of a 0-d result by one array."""
    if backend.autodiff == "torch":
        return backend.numpy(backend.xp.autograd.functional.hessian(function, x))
    if backend.autodiff in FRAMEWORKS:
        return backend.numpy(backend.hessian(function, x))
    import jax

    return backend.numpy(jax.jit(jax.hessian(function))(x))


def assert_near(got: NumPy, expected: Any, dtype: str = "float32", *, ulp: float = 4.0) -> None:
    """`assert_exact` for derivatives, which `gradients` gives as NumPy arrays."""
    assert got.dtype == numpy_dtype(dtype), f"{got.dtype}, not {dtype}"
    exact = exactly(expected)
    off = error(got, exact, dtype)
    zero = np.asarray(exact == 0, dtype=bool)
    wrong = np.where(zero, np.asarray(got, dtype=np.float64) != 0, ~(off <= ulp))
    assert not wrong.any(), f"{got!r} where {np.asarray(exact, dtype=np.float64)!r} is right, off by {off} ulp"


def default_float(backend: Backend) -> str:
    """What integer and bool arrays become: the library's own default floating dtype."""
    if backend.library == "array_api_strict":
        info = backend.xp.__array_namespace_info__()
        return str(info.default_dtypes(device=backend.device)["real floating"]).rsplit(".", maxsplit=1)[-1]
    if backend.library in {"torch", "tensorflow", "paddle", "mlx"} or "float64" not in backend.floats:
        return "float32"
    return "float64"
