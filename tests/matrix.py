"""The backend matrix: every array library the tests run on, each as one small object.

A reader finds here what a test needs to know about a library: how an array gets in and out of it without losing its
dtype, which dtypes it has, whether it is lazy, whether values can be read, whether it differentiates. `MEMBERS` lists
them by name, `FRAMEWORKS` those that run only when `--backend` names them; `load(name)` imports the library and returns
the backend. Inputs and references are NumPy arrays; only the tested call runs on the library.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import math
import os
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Array = Any

INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NARROW_INTS = tuple(name for name in INTS if not name.endswith("64"))
HALVES = ("float16", "bfloat16")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        bfloat16: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
        return bfloat16
    return np.dtype(name)


class ComputedError(AssertionError):
    """A lazy array was computed where nothing may be."""


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise ComputedError("a lazy array was computed inside the call")


@contextlib.contextmanager
def no_compute() -> Iterator[None]:
    """Inside, computing any Dask array is an error."""
    import dask

    with dask.config.set(scheduler=_refuse):
        yield


class Backend:
    """One member of the matrix. This base class is NumPy itself; the others override what differs.

    Attributes
    ----------
    name: what `--backend` and the `backends` marker call it.
    library: the import name of the library; several members may share one.
    floats, ints: names of the dtypes it has.
    lazy: True for arrays that hold a graph instead of numbers.
    readable: True where value checks happen without being asked for (eager, on the host).
    autodiff: "torch", "jax" or the name of a framework; None where there is no automatic differentiation.
    flushes: True where numbers below the smallest normal one become 0.
    exact: True where the numbers have 50 digits whatever the dtype says.
    means: what the library calls its ways to a "gradient", "second order", "compiled" and "lazy" call, if it has any.
    """

    library = "numpy"
    floats: tuple[str, ...] = ("float16", "bfloat16", "float32", "float64")
    ints: tuple[str, ...] = INTS
    lazy = False
    readable = True
    autodiff: str | None = None
    flushes = False
    exact = False
    device: Any = None
    means: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.xp: Any = importlib.import_module(self.library)
        self.version = str(self.xp.__version__)

    def __repr__(self) -> str:
        return self.name

    def dtype(self, name: str) -> Any:
        """The library's own dtype of that name."""
        return numpy_dtype(name)

    def array(self, value: Any, dtype: str | None = None) -> Array:
        """`value` (NumPy array, bfloat16 of ml_dtypes included, or nested list) as a new array, on the device."""
        return self._put(_as_numpy(value, dtype))

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Numbers, shape and dtype of an array of this library, as a NumPy array (ml_dtypes for bfloat16)."""
        return np.asarray(array)

    def owns(self, array: Array) -> bool:
        """Whether it is an array of this library (NumPy's 0-d results may be scalars)."""
        return isinstance(array, (np.ndarray, np.generic))

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """What must hold while this backend is in use; the `backend` fixture enters it."""
        yield

    def call(self, function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
        """`function(*arrays, **options)` inside the context; on a lazy library computing is an error meanwhile."""
        with self.context(), no_compute() if self.lazy else contextlib.nullcontext():
            return function(*arrays, **options)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function under the library's own jit where the tests should use it (jax), otherwise as it is."""
        return function

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The function through the library's compiler, if it has such means."""
        raise NotImplementedError

    def promised(self, shape: tuple[int, ...]) -> Array:
        """A float32 array that is not in memory, if the library has such means."""
        return self.xp.zeros(shape, dtype=self.dtype("float32"))

    def pulled(
        self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any
    ) -> tuple[Array, tuple[np.ndarray[Any, Any], ...]]:
        """The value, and derivatives of Σ cotangent · value by the arrays, as one of `FRAMEWORKS` itself finds them.

        The cotangent is cast and broadcast; 0 is the derivative by what the value does not depend on.
        """
        raise NotImplementedError

    def hessian(self, function: Callable[[Array], Array], x: Array) -> Array:
        """Second derivatives of a 0-d result, (*x.shape, *x.shape), by the same."""
        raise NotImplementedError

    def _like(self, array: Array, value: Any) -> Array:
        """Numbers, broadcast to the shape and cast to the dtype of an array."""
        return self.array(np.broadcast_to(value, tuple(array.shape)), self.numpy(array).dtype.name)

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return value


class ReadOnlyNumPy(Backend):
    """NumPy arrays that cannot be written to: an in-place operation on an input is an error."""

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        value.flags.writeable = False
        return value


class Strict(Backend):
    """array-api-strict: the standard and nothing else, optionally on a restricted device or with restricted flags."""

    library = "array_api_strict"
    floats: tuple[str, ...] = ("float32", "float64")

    def __init__(self, name: str, device: str = "CPU_DEVICE", flags: dict[str, bool] | None = None) -> None:
        super().__init__(name)
        self.device = self.xp.Device(device)
        self.flags = flags or {}
        if device in ("no_float64", "no_x64"):
            self.floats = ("float32",)
        if device == "no_x64":
            self.ints = NARROW_INTS

    def dtype(self, name: str) -> Any:
        return getattr(self.xp, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array.to_device(self.xp.Device("CPU_DEVICE")))

    def owns(self, array: Array) -> bool:
        return type(array).__module__.startswith("array_api_strict") and array.device == self.device

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        flags = self.xp.ArrayAPIStrictFlags(**self.flags) if self.flags else contextlib.nullcontext()
        with flags, np.errstate(all="ignore"):  # NumPy's warnings are no part of the standard
            yield

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return self.xp.asarray(value, device=self.device)


class Torch(Backend):
    """PyTorch on the CPU, one thread."""

    library = "torch"
    autodiff = "torch"
    means: ClassVar = {
        "gradient": "autograd, torch.func",
        "second order": "autograd twice, hessian",
        "compiled": "torch.compile",
    }

    def __init__(self, name: str) -> None:
        super().__init__(name)
        from softxent.backends import torch

        # Otherwise NumPy would do all that is small here, and nobody would try what is left to torch elsewhere. Tests
        # of that have it back.
        torch.Backend.lends = False
        self.xp.set_num_threads(1)
        self.device = self.xp.device("cpu")

    def dtype(self, name: str) -> Any:
        return getattr(self.xp, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        array = array.detach()
        if array.dtype == self.xp.bfloat16:
            return np.asarray(array.to(self.xp.float32).numpy().astype(numpy_dtype("bfloat16")))
        return np.asarray(array.resolve_neg().numpy())

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        made: Callable[..., Any] = self.xp.compile(function, fullgraph=True, backend="aot_eager")
        return made

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.xp.Tensor)

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        if value.dtype.name == "bfloat16":  # torch.from_numpy does not know ml_dtypes; float32 holds every bfloat16
            return self.xp.from_numpy(value.astype(np.float32)).to(self.xp.bfloat16)
        return self.xp.from_numpy(value)


class Jax(Backend):
    """jax on the CPU. Whether it has 64-bit dtypes is decided once per process, by JAX_ENABLE_X64."""

    library = "jax"
    autodiff = "jax"
    flushes = True
    means: ClassVar = {
        "gradient": "grad, jvp, vmap",
        "second order": "hessian",
        "compiled": "jit",
    }

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.jax = self.xp
        self.xp = importlib.import_module("jax.numpy")
        self.x64 = bool(self.jax.config.jax_enable_x64)
        self.device = self.jax.devices("cpu")[0]
        if not self.x64:
            self.floats = ("float16", "bfloat16", "float32")
            self.ints = NARROW_INTS

    def dtype(self, name: str) -> Any:
        return self.xp.dtype(name)

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return self.compiled(function)

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.jax.Array)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        jitted: Callable[..., Any] = self.jax.jit(function)
        return jitted

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        if not self.x64 and value.dtype.itemsize == 8:
            raise TypeError(f"jax without x64 has no {value.dtype}")
        return self.xp.asarray(value)


class Dask(Backend):
    """Dask arrays in at most four chunks: along the first axis, or along every axis (so the class axis is cut too)."""

    library = "dask"
    lazy = True
    readable = False
    means: ClassVar = {
        "lazy": "task graph",
    }

    def __init__(self, name: str, *, every_axis: bool = False) -> None:
        super().__init__(name)
        self.xp = importlib.import_module("dask.array")
        self.every_axis = every_axis

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array.compute(scheduler="synchronous"))

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.xp.Array)

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        config = importlib.import_module("dask.config")
        with config.set(scheduler="synchronous"):
            yield

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        small = [max(2, -(-n // 4)) for n in value.shape]
        cut = [n if self.every_axis or (k == 0 and value.ndim > 1) else -1 for k, n in enumerate(small)]
        return self.xp.from_array(value, chunks=tuple(cut))


class MPArray(Backend):
    """mparray: mpmath numbers behind the array API. Its dtype is a label; the numbers carry 50 digits."""

    library = "mparray"
    floats = ("float64",)
    ints = ("int64",)
    exact = True

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """The 50-digit numbers themselves for floats (an object array), ordinary NumPy arrays otherwise."""
        if array.dtype.kind == "f":
            return np.asarray(array._data, dtype=object)
        return np.asarray(array._data.astype(array.dtype))

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.xp.MPArray)

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        mpmath = importlib.import_module("mpmath")
        with mpmath.workdps(50):
            yield

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return self.xp.asarray(value)


class TensorFlow(Backend):
    """TensorFlow on the CPU, whose threads flush what is below the smallest normal number."""

    library = "tensorflow"
    autodiff = "tensorflow"
    flushes = True
    means: ClassVar = {
        "gradient": "GradientTape",
        "second order": "nested tapes",
        "compiled": "tf.function, XLA",
    }

    def __init__(self, name: str) -> None:
        with _quiet_logs("TF_CPP_MIN_LOG_LEVEL", "3"):
            super().__init__(name)
        self.tf = self.xp
        self.xp = importlib.import_module("softxent.backends.tensorflow").Namespace()  # TensorFlow has none of its own
        self.tf.config.threading.set_intra_op_parallelism_threads(1)
        self.tf.config.threading.set_inter_op_parallelism_threads(1)

    def dtype(self, name: str) -> Any:
        return getattr(self.tf, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array.numpy())

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        made: Callable[..., Any] = self.tf.function(function, jit_compile=True)
        return made

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.tf.Tensor)

    def pulled(
        self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any
    ) -> tuple[Array, tuple[np.ndarray[Any, Any], ...]]:
        with self.tf.GradientTape() as tape:
            tape.watch(arrays)
            value = function(*arrays)
        seed = self._like(value, cotangent)
        zero = self.tf.UnconnectedGradients.ZERO
        found = tape.gradient(value, list(arrays), seed, unconnected_gradients=zero)
        return value, tuple(map(self.numpy, found))

    def hessian(self, function: Callable[[Array], Array], x: Array) -> Array:
        with self.tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
            gradient = tape.gradient(value, x)
        return outer.jacobian(gradient, x, experimental_use_pfor=False)

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return self.tf.constant(value)


class Paddle(Backend):
    """Paddle on the CPU. Of integers without sign it has those of 8 bits: NumPy's uint16 is its bfloat16."""

    library = "paddle"
    autodiff = "paddle"
    ints = ("int8", "int16", "int32", "int64", "uint8")
    means: ClassVar = {
        "gradient": "backward, grad",
        "second order": "create_graph",
        "compiled": "to_static",
    }

    def __init__(self, name: str) -> None:
        with warnings.catch_warnings(), _quiet_logs("GLOG_minloglevel", "3"):
            warnings.simplefilter("ignore")
            super().__init__(name)
        self.paddle = self.xp
        self.xp = importlib.import_module("softxent.backends.paddle").Namespace()  # Paddle has none of its own
        self.device = "Place(cpu)"
        self.paddle.set_device("cpu")

    def dtype(self, name: str) -> Any:
        return getattr(self.paddle, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        if array.dtype == self.paddle.bfloat16:
            return np.asarray(array.astype("float32").numpy().astype(numpy_dtype("bfloat16")))
        return np.asarray(array.numpy())

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        made: Callable[..., Any] = self.paddle.jit.to_static(function, full_graph=False)
        return made

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.paddle.Tensor)

    def pulled(
        self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any
    ) -> tuple[Array, tuple[np.ndarray[Any, Any], ...]]:
        leaves = self._leaves(arrays)
        value = function(*leaves)
        found = self.paddle.grad(value, leaves, self._like(value, cotangent), allow_unused=True)
        zeros = (self.numpy(self.paddle.zeros_like(x)) for x in leaves)
        grads = tuple(zero if x is None else self.numpy(x) for x, zero in zip(found, zeros, strict=True))
        return value.detach(), grads

    def hessian(self, function: Callable[[Array], Array], x: Array) -> Array:
        (leaf,) = self._leaves([x])
        (gradient,) = self.paddle.grad(function(leaf), leaf, create_graph=True)
        seeds = [self.array(seed, self.numpy(x).dtype.name) for seed in units(x)]
        rows = [self.paddle.grad(gradient, leaf, seed, retain_graph=True)[0] for seed in seeds]
        return self.paddle.reshape(self.paddle.stack(rows), [*x.shape, *x.shape])

    def _leaves(self, arrays: Sequence[Array]) -> list[Array]:
        leaves = [x.detach() for x in arrays]
        for leaf in leaves:
            leaf.stop_gradient = False
        return leaves

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        if value.dtype.name == "bfloat16":
            return self.paddle.to_tensor(value.astype(np.float32)).astype("bfloat16")
        return self.paddle.to_tensor(value)


class Mlx(Backend):
    """MLX on the CPU."""

    library = "mlx"
    autodiff = "mlx"
    means: ClassVar = {
        "gradient": "grad, jvp, vmap",
        "second order": "nested",
        "compiled": "compile",
        "lazy": "until eval",
    }

    def __init__(self, name: str) -> None:
        self.name = name
        self.xp = importlib.import_module("mlx.core")
        self.xp.set_default_device(self.xp.cpu)
        self.version = str(self.xp.__version__)

    def dtype(self, name: str) -> Any:
        return self.xp.bool_ if name == "bool" else getattr(self.xp, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        if array.dtype == self.xp.bfloat16:  # no buffer format has it
            return np.asarray(np.array(array.astype(self.xp.float32)).astype(numpy_dtype("bfloat16")))
        return np.array(array)

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        made: Callable[..., Any] = self.xp.compile(function)
        return made

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.xp.array)

    def pulled(
        self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any
    ) -> tuple[Array, tuple[np.ndarray[Any, Any], ...]]:
        value, found = self._pulled(function, arrays, cotangent)
        return value, tuple(map(self.numpy, found))

    def _pulled(self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any) -> tuple[Array, Any]:
        def weighed(*arrays: Array) -> tuple[Array, Array]:
            value = function(*arrays)
            return self.xp.sum(value * self.xp.array(np.asarray(cotangent), dtype=value.dtype)), value

        (_, value), found = self.xp.value_and_grad(weighed, argnums=tuple(range(len(arrays))))(*arrays)
        return value, found if len(arrays) > 1 else (found,)

    def hessian(self, function: Callable[[Array], Array], x: Array) -> Array:
        rows = [self._pulled(self.xp.grad(function), (x,), seed)[1][0] for seed in units(x)]
        return self.xp.reshape(self.xp.stack(rows), (*x.shape, *x.shape))

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return self.xp.array(value, dtype=self.dtype(value.dtype.name))


class Autograd(Backend):
    """HIPS autograd: floating arrays come in a box of a trace that lies under those of its derivatives."""

    library = "autograd"
    autodiff = "autograd"

    _OUTERMOST = -0.5  # autograd counts its traces from 0
    means: ClassVar = {
        "gradient": "grad, elementwise_grad",
        "second order": "hessian, nested",
    }

    def __init__(self, name: str) -> None:
        self.name = name
        self.xp = importlib.import_module("autograd.numpy")
        self.autograd = importlib.import_module("autograd")
        self.tracer = importlib.import_module("autograd.tracer")
        self.root = importlib.import_module("autograd.core").VJPNode.new_root
        self.version = importlib.metadata.version("autograd")

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(self.tracer.getval(array))

    def owns(self, array: Array) -> bool:
        return isinstance(self.tracer.getval(array), (np.ndarray, np.generic))

    def pulled(
        self, function: Callable[..., Array], arrays: Sequence[Array], cotangent: Any
    ) -> tuple[Array, tuple[np.ndarray[Any, Any], ...]]:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # where nothing depends on an argument
            pullback, value = self.autograd.make_vjp(function, tuple(range(len(arrays))))(*map(self.numpy, arrays))
            value = self.numpy(value)
            found = pullback(np.broadcast_to(np.asarray(cotangent, dtype=value.dtype), value.shape))
        return value, tuple(map(self.numpy, found))

    def hessian(self, function: Callable[[Array], Array], x: Array) -> Array:
        return self.autograd.hessian(function)(self.numpy(x))

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        floating = value.dtype.name in self.floats
        return self.tracer.new_box(value, self._OUTERMOST, self.root()) if floating else value


class Ndonnx(Backend):
    """ndonnx, which builds ONNX models. Its arrays of constants are computed at once, by onnxruntime."""

    library = "ndonnx"
    floats = ("float16", "float32", "float64")
    readable = False
    means: ClassVar = {
        "compiled": "an ONNX model",
        "lazy": "until built",
    }

    def dtype(self, name: str) -> Any:
        return getattr(self.xp, name)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array.unwrap_numpy())

    def fused(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def run(x: Array) -> Array:
            given = self.xp.argument(shape=("rows", *x.shape[1:]), dtype=x.dtype)
            model = self.xp.build({"x": given}, {"y": function(given)})
            session = importlib.import_module("onnxruntime").InferenceSession(model.SerializeToString())
            return self.xp.asarray(session.run(None, {"x": self.numpy(x)})[0])

        return run

    def promised(self, shape: tuple[int, ...]) -> Array:
        return self.xp.argument(shape=shape, dtype=self.xp.float32)

    def owns(self, array: Array) -> bool:
        return isinstance(array, self.xp.Array)

    def _put(self, value: np.ndarray[Any, Any]) -> Array:
        return self.xp.asarray(value)


@contextlib.contextmanager
def _quiet_logs(variable: str, level: str) -> Iterator[None]:
    """Inside, a library that logs at import is told not to."""
    before = os.environ.get(variable)
    os.environ[variable] = level
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def units(x: Array) -> Iterator[np.ndarray[Any, Any]]:
    """One in the place of each entry in turn, 0 elsewhere."""
    size = math.prod(x.shape)
    return (np.reshape(row, tuple(x.shape)) for row in np.eye(size))


def _as_numpy(value: Any, dtype: str | None) -> np.ndarray[Any, Any]:
    """A fresh C-contiguous NumPy array."""
    return np.array(value, dtype=None if dtype is None else numpy_dtype(dtype), order="C")


_NO_LAZY = {"boolean_indexing": False, "data_dependent_shapes": False}

MEMBERS: dict[str, Callable[[], Backend]] = {
    "numpy": partial(Backend, "numpy"),
    "numpy-readonly": partial(ReadOnlyNumPy, "numpy-readonly"),
    "strict": partial(Strict, "strict"),
    "strict-no-lazy": partial(Strict, "strict-no-lazy", flags=_NO_LAZY),
    "strict-no-float64": partial(Strict, "strict-no-float64", device="no_float64"),
    "strict-no-x64": partial(Strict, "strict-no-x64", device="no_x64"),
    "strict-device2": partial(Strict, "strict-device2", device="device2"),
    "torch": partial(Torch, "torch"),
    "jax": partial(Jax, "jax"),
    "dask": partial(Dask, "dask"),
    "dask-classes": partial(Dask, "dask-classes", every_axis=True),
    "mparray": partial(MPArray, "mparray"),
}

# Run only when `--backend` names them, one at a time: `nox -s frameworks` installs them and does.
FRAMEWORKS: dict[str, Callable[[], Backend]] = {
    "tensorflow": partial(TensorFlow, "tensorflow"),
    "paddle": partial(Paddle, "paddle"),
    "mlx": partial(Mlx, "mlx"),
    "autograd": partial(Autograd, "autograd"),
    "ndonnx": partial(Ndonnx, "ndonnx"),
}

_LOADED: dict[str, Backend] = {}


def load(name: str) -> Backend:
    """The backend of that name; ImportError names the missing library."""
    if name not in _LOADED:
        _LOADED[name] = (MEMBERS | FRAMEWORKS)[name]()
    return _LOADED[name]
