"""How each library runs a formula. A backend is loaded when the first array of its library arrives, never before."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import array_api_compat as compat

if TYPE_CHECKING:
    from softxent.backends.generic import Backend

_LIBRARIES = {
    "numpy": compat.is_numpy_array,
    "torch": compat.is_torch_array,
    "jax": compat.is_jax_array,
    "dask": compat.is_dask_array,
}
_BY_TYPE: dict[type, Backend | None] = {}
_BY_NAMESPACE: dict[str, Backend] = {}


def backend_of(x: Any) -> Backend | None:
    """The backend of an array's library; None for what is no array."""
    kind = type(x)
    if kind not in _BY_TYPE:
        _BY_TYPE[kind] = _find(x)
    return _BY_TYPE[kind]


def _find(x: Any) -> Backend | None:
    for library, is_array in _LIBRARIES.items():
        if is_array(x):
            return _load(library)
    if isinstance(x, type) or not hasattr(x, "__array_namespace__"):
        return None
    namespace = x.__array_namespace__()
    if namespace.__name__ not in _BY_NAMESPACE:
        generic = import_module("softxent.backends.generic")
        _BY_NAMESPACE[namespace.__name__] = generic.Backend(namespace)
    return _BY_NAMESPACE[namespace.__name__]


def _load(library: str) -> Backend:
    if library not in _BY_NAMESPACE:
        _BY_NAMESPACE[library] = import_module(f"softxent.backends.{library}").backend()
    return _BY_NAMESPACE[library]
