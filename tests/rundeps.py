"""softxent where nothing but its runtime dependency is installed: `nox -s rundeps` runs this as a program.

No pytest, because that would be one package more. The arrays come from a namespace of some forty lines written here, so
that what passes below needs no array library whatsoever.
"""

from __future__ import annotations

import math
import operator
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = (
    *("autograd", "cupy", "dask", "jax", "ml_dtypes", "mlx", "ndonnx", "numpy", "paddle", "scipy", "tensorflow"),
    "torch",
)
FUNCTIONS = {"cross_entropy", "log_softmax", "logsumexp", "one_hot", "smooth_labels", "softmax", "softmin"}
DTYPES = {bool: "bool", int: "int32", float: "float64"}  # in the order of promotion


class Row:
    """Some numbers in one dimension, or one number in none: what softxent needs to see of an array."""

    device = "here"
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: len(self.values))

    def __init__(self, values: Any, kind: type, shape: tuple[int, ...] | None = None) -> None:
        self.values, self.kind, self.dtype = [kind(value) for value in values], kind, DTYPES[kind]
        self.shape = (self.size,) if shape is None else shape

    def __array_namespace__(self, **_: Any) -> Any:
        return namespace

    def __float__(self) -> float:
        return float(*self.values)

    def __bool__(self) -> bool:
        return bool(*self.values)


def elementwise(function: Callable[..., Any], kind: type | None = None) -> Callable[..., Row]:
    """Let a function of numbers take rows and numbers; what is single is repeated."""

    def apply(*given: Any) -> Row:
        rows = [x if isinstance(x, Row) else Row([x], type(x), ()) for x in given]
        shape = max((x.shape for x in rows), key=lambda shape: (shape not in {(), (1,)}, shape))
        columns = zip(*(x.values * (1 if x.shape == shape else math.prod(shape)) for x in rows), strict=True)
        return Row([function(*c) for c in columns], kind or max((x.kind for x in rows), key=list(DTYPES).index), shape)

    return apply


def reduction(function: Callable[..., Any], kind: type | None = None) -> Callable[..., Row]:
    """Let a function of a list take a row."""
    return lambda x, axis=None, keepdims=False: Row([function(x.values)], kind or x.kind, (1,) * (keepdims and x.ndim))  # noqa: ARG005 - there is one axis


def full_like(x: Row, value: Any, dtype: str | None = None, **_: Any) -> Row:
    """Row of one value."""
    return Row([value] * x.size, kind_of(dtype) if dtype else x.kind, x.shape)


def kind_of(dtype: str) -> type:
    """Python's type of a dtype."""
    return {name: kind for kind, name in DTYPES.items()}[dtype]


for names, kind in (("add sub mul truediv neg and_ or_ invert", None), ("lt le gt ge eq ne", bool)):
    for name in names.split():
        function = operator.not_ if name == "invert" else getattr(operator, name)
        setattr(Row, f"__{name.strip('_')}__", elementwise(function, kind))
        setattr(Row, f"__r{name.strip('_')}__", elementwise(lambda a, b, f=function: f(b, a), kind))

namespace = SimpleNamespace(
    __name__="rows",
    **{name: name for name in DTYPES.values()},
    **{name: elementwise(getattr(math, name)) for name in ("exp", "expm1", "log1p")},
    **{name: elementwise(getattr(math, name), bool) for name in ("isfinite", "isinf", "isnan")},
    log=elementwise(lambda x: math.log(x) if x > 0 else -math.inf),
    divide=elementwise(lambda a, b: a / b),
    where=elementwise(lambda condition, a, b: a if condition else b),
    sum=reduction(math.fsum),
    **{function.__name__: reduction(function) for function in (all, any, max, min)},
    arange=lambda stop, **_: Row(range(stop), int),
    asarray=lambda x, dtype, **_: Row([x], kind_of(dtype), ()),
    astype=lambda x, dtype, **_: Row(x.values, kind_of(dtype), x.shape),
    reshape=lambda x, shape: Row(x.values, x.kind, tuple(x.size if n == -1 else n for n in shape)),
    expand_dims=lambda x, **_: Row(x.values, x.kind, (1,)),
    squeeze=lambda x, **_: Row(x.values, x.kind, ()),
    full_like=full_like,
    ones_like=lambda x, **_: full_like(x, 1),
    zeros_like=lambda x, **_: full_like(x, 0),
    iinfo=lambda _: SimpleNamespace(min=-(2**31), max=2**31 - 1),
)


def check_imports() -> None:
    """Nothing is installed that could help, and nothing was loaded."""
    installed = [name for name in LIBRARIES if find_spec(name)]
    assert not installed, f"meant for an environment without {', '.join(installed)}"
    assert not set(LIBRARIES) & set(sys.modules)
    assert set(softxent.__all__) >= FUNCTIONS, softxent.__all__
    assert all(callable(getattr(softxent, name)) for name in FUNCTIONS)


def check_list_is_refused() -> None:
    """A list is no array: the error names the argument and says what to do."""
    for function, arguments in ((softxent.softmax, ([1.0, 2.0],)), (softxent.cross_entropy, ([1.0, 2.0], 0))):
        text = "no error"
        try:
            function(*arguments)
        except TypeError as error:
            text = str(error)
        assert "logits must be an array, got list" in text, text


def check_values() -> None:
    """The classic example, and a loss that a difference of logarithms would lose."""
    probabilities = softxent.softmax(Row([6.0, 6.0, -6.0], float))
    assert isinstance(probabilities, Row)
    assert [f"{p:.6g}" for p in probabilities.values] == ["0.499998", "0.499998", "3.0721e-06"], probabilities.values
    loss = softxent.cross_entropy(Row([40.0, 0.0, 0.0], float), 0)
    assert isinstance(loss, Row)
    assert loss.shape == ()
    assert math.isclose(float(loss), 2 * math.exp(-40.0), rel_tol=1e-14), float(loss)


if __name__ == "__main__":
    check_imports()
    check_list_is_refused()
    check_values()
    print(f"softxent {softxent.__version__} works on its own")
