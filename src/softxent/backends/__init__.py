"""How each library runs a formula. A backend is loaded when the first array of its library arrives, never before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import array_api_compat as compat

if TYPE_CHECKING:
    from softxent.backends.generic import Backend

# Known by a class that arrays of the library descend from: array-api-compat's tests, which follow, are none of those
# that torch.compile traces without a warning.
_LIBRARIES = {
    ("numpy", "ndarray"): "numpy",
    ("numpy", "generic"): "numpy",
    ("torch", "Tensor"): "torch",
    ("jaxlib", "ArrayImpl"): "jax",
    ("jax", "Tracer"): "jax",
    ("dask", "Array"): "dask",
    ("tensorflow", "Tensor"): "tensorflow",
    ("tensorflow", "Variable"): "tensorflow",
    ("tensorflow", "RaggedTensor"): "tensorflow",
    ("tensorflow", "SparseTensor"): "tensorflow",
    ("tensorflow", "IndexedSlices"): "tensorflow",
    ("paddle", "Tensor"): "paddle",
    ("paddle", "Value"): "paddle",
    ("mlx", "array"): "mlx",
    ("autograd", "ArrayBox"): "autograd",
    ("ndonnx", "Array"): "ndonnx",
}
_BY_TYPE: dict[type, Backend | None] = {}
_BY_NAME: dict[str, Backend] = {}


def backend_of(x: Any) -> Backend | None:
    """The backend of an array's library; None for what is no array."""
    kind = type(x)
    if kind not in _BY_TYPE:
        _BY_TYPE[kind] = _find(x)
    return _BY_TYPE[kind]


def _find(x: Any) -> Backend | None:
    for base in type(x).__mro__:
        library = _LIBRARIES.get((base.__module__.partition(".")[0], base.__name__))
        if library is not None:
            return _known(library)
    if compat.is_jax_array(x):
        return _known("jax")
    if isinstance(x, type) or not (hasattr(x, "__array_namespace__") or compat.is_cupy_array(x)):
        return None
    namespace = compat.array_namespace(x)
    name = getattr(namespace, "__name__", repr(namespace))
    if name not in _BY_NAME:
        from softxent.backends import generic

        _BY_NAME[name] = generic.Backend(namespace)
    return _BY_NAME[name]


def _known(library: str) -> Backend:
    if library not in _BY_NAME:
        _BY_NAME[library] = _load(library)
    return _BY_NAME[library]


def _load(library: str) -> Backend:
    """Import a backend; torch's by a statement, which torch.compile can trace where it cannot trace importlib."""
    if library == "numpy":
        from softxent.backends import numpy

        return numpy.backend()
    if library == "torch":
        from softxent.backends import torch

        return torch.backend()
    return importlib.import_module(f"softxent.backends.{library}").backend()
