"""Importing softxent imports no array library, and a backend only when an array of its library has arrived.

Each check runs in a fresh interpreter, and the checks themselves are checked: they fail where they should.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from matrix import FRAMEWORKS

import softxent

if TYPE_CHECKING:
    from matrix import Backend

LIBRARIES = ("numpy", "torch", "jax", "dask", "mlx", "autograd", "ndonnx", "tensorflow", "paddle", "cupy")
LOADED = f"import json, sys; print(json.dumps([m for m in {LIBRARIES} if m in sys.modules]))"
BACKENDS = (
    "import json, sys; "
    "print(json.dumps(sorted(m for m in sys.modules if m.startswith('softxent.backends.') and sys.modules[m])))"
)

ARRAYS = {
    "numpy": "import numpy; x = numpy.asarray([1.0, 2.0])",
    "torch": "import torch; x = torch.asarray([1.0, 2.0])",
    "jax": "import jax.numpy; x = jax.numpy.asarray([1.0, 2.0])",
    "dask": "import dask.array; x = dask.array.asarray([1.0, 2.0])",
    "array_api_strict": "import array_api_strict; x = array_api_strict.asarray([1.0, 2.0])",
    "tensorflow": "import tensorflow; x = tensorflow.constant([1.0, 2.0])",
    "paddle": "import paddle; x = paddle.to_tensor([1.0, 2.0])",
    "mlx": "import mlx.core; x = mlx.core.array([1.0, 2.0])",
    "autograd": (
        "import autograd.numpy, autograd.core, autograd.tracer; "
        "x = autograd.tracer.new_box(autograd.numpy.ones(2), 0, autograd.core.VJPNode.new_root())"
    ),
    "ndonnx": "import ndonnx; x = ndonnx.asarray([1.0, 2.0])",
}

# One member a library, by names that no library has, where it has several.
MEMBERS = pytest.mark.backends("numpy-readonly", "strict", "torch", "jax", "dask-classes", *FRAMEWORKS)


def fresh(*statements: str) -> list[str]:
    """What a new interpreter prints last, as JSON."""
    return printed(*statements)[-1]


@cache
def printed(*statements: str) -> list[list[str]]:
    """Every line that a new interpreter prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", "\n".join(statements)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_importing_imports_no_array_library() -> None:
    assert fresh("import softxent", LOADED) == []


def test_the_line_of_the_readme_prints_an_empty_list() -> None:
    line = "import softxent, sys; print([m for m in ('numpy','torch','jax','dask') if m in sys.modules])"
    assert fresh(line) == []


def arrival(library: str) -> list[list[str]]:
    """Libraries loaded when an array is there, backends loaded then, and backends loaded after a call with it."""
    return printed("import softxent", ARRAYS[library], LOADED, BACKENDS, "softxent.softmax(x)", BACKENDS)


@MEMBERS
def test_that_test_can_fail(backend: Backend) -> None:
    """The same check after an import of the library does find it (array-api-strict brings NumPy)."""
    expected = {"array_api_strict": "numpy"}.get(backend.library, backend.library)
    assert expected in arrival(backend.library)[0]


def test_a_failing_interpreter_is_an_error() -> None:
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        fresh("import softxent.nothing_of_this_name")


def test_an_error_imports_nothing_either() -> None:
    """A list is refused without a library in sight."""
    refusal = "try:\n    softxent.softmax([1.0])\nexcept TypeError:\n    pass\nelse:\n    raise SystemExit(1)"
    assert fresh("import softxent", refusal, LOADED) == []


@pytest.mark.backends("ndonnx")
def test_numpy_needs_no_framework(backend: Backend) -> None:
    """Even where all of them are installed, as they are with this backend."""
    use = "import numpy, softxent; softxent.value_and_grad(softxent.cross_entropy)(numpy.zeros(3), 0)"
    assert backend.library in FRAMEWORKS
    assert all(importlib.util.find_spec(library) for library in FRAMEWORKS if sys.platform != "win32")
    assert fresh(use, LOADED) == ["numpy"]


@MEMBERS
def test_a_backend_is_loaded_when_its_array_arrives(backend: Backend) -> None:
    """Its library being there is not enough, and none other comes along.

    Dask's blocks are NumPy's, and torch has NumPy look for the largest entries of its memory.
    """
    _, before, after = arrival(backend.library)
    assert before == []
    own = {
        "array_api_strict": (),
        "autograd": ("autograd", "blocks", "numpy", "pieces", "recording"),
        "dask": ("blocks", "dask", "numpy", "pieces", "recording"),
        "numpy": ("blocks", "numpy", "pieces", "recording"),
        "torch": ("blocks", "numpy", "pieces", "recording", "torch"),
    }.get(backend.library, (backend.library,))
    expected = sorted(f"softxent.backends.{name}" for name in ("generic", *own))
    assert after == expected


def test_public_names() -> None:
    """`__all__` is what is public: sorted, all there, functions of this package, and nothing public beside it."""
    assert sorted(softxent.__all__) == softxent.__all__
    public = {
        name for name, value in vars(softxent).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(softxent.__all__)
    for name in softxent.__all__:
        function = getattr(softxent, name)
        assert function.__module__.startswith("softxent.")
        assert function.__name__ == name
        assert function.__doc__


def test_star_import() -> None:
    names = "print(json.dumps(sorted(n for n in dir() if not n.startswith('_') and n != 'json')))"
    assert fresh("import json", "from softxent import *", names) == softxent.__all__
