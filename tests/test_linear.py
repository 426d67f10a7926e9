"""linear_cross_entropy and its relatives: functions of logits that are never all there, and every derivative.

What is right is cross-entropy of the logits that NumPy makes of features, weights and bias in float64, followed by the
chain rule: the loss itself is held against exact numbers elsewhere.
"""

from __future__ import annotations

import tracemalloc
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checks import gradients
from exact_gradients import placed, widest
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES, numpy_dtype

from softxent import (
    cross_entropy,
    entropy,
    grad,
    hessian_diagonal,
    hvp,
    kl_divergence,
    linear_cross_entropy,
    linear_kl_divergence,
    linear_log_prob,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

N, D, C = 7, 3, 4
RNG = np.random.default_rng(0)
X, W, B = RNG.standard_normal((N, D)), 2.0 * RNG.standard_normal((C, D)), RNG.standard_normal(C)
LABELS, SOFT = np.asarray([0, 3, 1, 1, 2, 0, 3]), RNG.dirichlet(np.ones(C), N)
WEIGHTS, CLASSES = RNG.uniform(0.5, 2.0, N), RNG.uniform(0.5, 2.0, C)
WHERE = (np.arange(N * C).reshape(N, C) % 5 != 2) | (np.arange(C) == LABELS[:, None])
THREE_ROWS = 3 * C * 8  # bytes of float64
BY = ("features", "weight", "bias")

CASES: dict[str, tuple[NumPy, dict[str, Any]]] = {
    "plain": (LABELS, {}),
    "weighted": (LABELS, {"sample_weight": WEIGHTS, "class_weight": CLASSES, "label_smoothing": 0.1, "z_loss": 0.05}),
    "masked": (LABELS, {"where": WHERE, "ignore_index": 1, "softcap": 3.0, "reduction": "sum"}),
    "soft": (SOFT, {"temperature": 0.5 + WEIGHTS, "class_weight": CLASSES, "denominator": "count"}),
}
names = pytest.mark.parametrize("name", CASES)
AUTODIFF = pytest.mark.backends("torch", "jax")
pytestmark = [
    # torch sets up forward mode by scripting; its compiler asks for an instance of a class that it then traces.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]


def of_logits(options: dict[str, Any]) -> dict[str, Any]:
    """The options as cross_entropy calls them."""
    return {"weight" if name == "class_weight" else name: option for name, option in options.items()}


def plainly(x: NumPy, w: NumPy, b: NumPy, labels: NumPy, **options: Any) -> tuple[NumPy, dict[str, NumPy]]:
    """Value and derivatives by features, weights, bias and what else there is."""
    options = of_logits(options)
    others = tuple(name for name in ("weight", "sample_weight") if name in options)
    loss, (dz, *rest) = value_and_grad(cross_entropy, ("logits", *others))(x @ w.T + b, labels, **options)
    found = {"features": dz @ w, "weight": dz.T @ x, "bias": dz.sum(axis=0)}
    return loss, found | {"class_weight" if name == "weight" else name: d for name, d in zip(others, rest, strict=True)}


@cache
def reference(name: str) -> tuple[NumPy, dict[str, NumPy]]:
    labels, options = CASES[name]
    return plainly(X, W, B, labels, **options)


def rows_of(name: str) -> NumPy:
    """Losses of each row."""
    labels, options = CASES[name]
    options = of_logits(options)
    return np.asarray(cross_entropy(X @ W.T + B, labels, **{**options, "reduction": "none", "denominator": "weight"}))


def on(backend: Backend, name: str, *, dtype: str | None = None) -> tuple[list[Array], Array, dict[str, Any]]:
    """Features, weights and bias; labels; options: arrays of the backend, floating ones in its widest dtype."""
    dtype = dtype or widest(backend)

    def cast(value: Any) -> Any:
        return value.astype(numpy_dtype(dtype)) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    labels, options = CASES[name]
    integers = labels.astype("int32") if labels.dtype.kind == "i" else cast(labels)
    given = placed(backend, {key: cast(value) for key, value in options.items()})
    return [backend.array(array.astype(numpy_dtype(dtype))) for array in (X, W, B)], backend.array(integers), given


def assert_close(backend: Backend, found: Any, expected: NumPy) -> None:
    got = found if isinstance(found, np.ndarray) else backend.numpy(found)
    room = 1e-12 if widest(backend) == "float64" else 1e-5
    np.testing.assert_allclose(got, expected, rtol=room, atol=room)


# -- values and derivatives by our own functions ----------------------------------------------------------------------


@names
@pytest.mark.parametrize("chunk_bytes", [None, THREE_ROWS])
def test_it_is_cross_entropy_of_the_logits(backend: Backend, name: str, chunk_bytes: int | None) -> None:
    (x, w, b), labels, options = on(backend, name)
    loss, by = reference(name)
    wanted = tuple(by)
    found, derivatives = backend.call(
        value_and_grad(linear_cross_entropy, wanted), x, w, labels, bias=b, chunk_bytes=chunk_bytes, **options
    )
    assert backend.owns(found)
    assert_close(backend, found, loss)
    for one, derivative in zip(wanted, derivatives, strict=True):
        assert_close(backend, derivative, by[one])
    if backend.library != "jax":  # compiled together with the derivatives, it is the same number
        assert_close(
            backend,
            backend.call(linear_cross_entropy, x, w, labels, bias=b, chunk_bytes=chunk_bytes, **options),
            loss,
        )


@pytest.mark.backends("numpy", "strict-no-x64", "torch", "dask")
def test_rows_and_by_products(backend: Backend) -> None:
    (x, w, b), labels, _ = on(backend, "plain")
    options: dict[str, Any] = {"bias": b, "chunk_bytes": THREE_ROWS, "reduction": "none"}
    loss, others = backend.call(linear_cross_entropy, x, w, labels, aux=("lse", "correct"), **options)
    expected, beside = cross_entropy(X @ W.T + B, LABELS, reduction="none", aux=("lse", "correct"))
    assert_close(backend, loss, expected)
    assert_close(backend, others["lse"], beside["lse"])
    np.testing.assert_array_equal(backend.numpy(others["correct"]), beside["correct"])
    seed = np.linspace(-1.0, 1.0, N)
    value, pullback = backend.call(vjp(linear_cross_entropy, BY), x, w, labels, **options)
    assert_close(backend, value, expected)
    dz = vjp(cross_entropy)(X @ W.T + B, LABELS, reduction="none")[1](seed)
    found = backend.call(pullback, backend.array(seed.astype(widest(backend))))
    for one, right in zip(found, (dz @ W, dz.T @ X, dz.sum(axis=0)), strict=True):
        assert_close(backend, one, right)


@pytest.mark.backends("numpy", "strict", "torch", "dask")
def test_hessian_vector_products(backend: Backend) -> None:
    for name, (raw, case) in CASES.items():
        (x, w, b), labels, options = on(backend, name)
        t = np.cos(np.arange(N * D)).reshape(N, D)
        found = backend.call(
            partial(hvp(linear_cross_entropy), vector=backend.array(t)),
            *(x, w, labels),
            bias=b,
            chunk_bytes=THREE_ROWS,
            **options,
        )
        assert_close(backend, found, hvp(cross_entropy)(X @ W.T + B, raw, vector=t @ W.T, **of_logits(case)) @ W)


@pytest.mark.backends("numpy", "torch")
def test_batches_of_any_shape(backend: Backend) -> None:
    dtype = widest(backend)
    x, w = RNG.standard_normal((2, 5, D)), W
    labels = RNG.integers(0, C, (2, 5))
    weights = np.asarray([[1.0], [0.5]])
    for chunk_bytes in (None, 1):
        found, by = backend.call(
            value_and_grad(linear_cross_entropy, ("features", "weight")),
            *(backend.array(one.astype(dtype)) for one in (x, w)),
            backend.array(labels),
            sample_weight=backend.array(weights.astype(dtype)),
            chunk_bytes=chunk_bytes,
        )
        loss, dz = value_and_grad(cross_entropy)(x @ w.T, labels, sample_weight=weights)
        assert_close(backend, found, loss)
        assert_close(backend, by[0], dz @ w)
        assert_close(backend, by[1], np.einsum("abc,abd->cd", dz, x))
    one_row = backend.call(linear_cross_entropy, backend.array(X[0]), backend.array(W), 3)
    assert_close(backend, one_row, cross_entropy(X[0] @ W.T, 3))
    nothing = backend.call(linear_cross_entropy, backend.array(X[:0]), backend.array(W), backend.array(LABELS[:0]))
    assert backend.numpy(nothing) == 0


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.integers(1, 400))
def test_the_budget_changes_nothing(rows: int, features: int, classes: int, chunk_bytes: int) -> None:
    rng = np.random.default_rng(rows * 100 + features * 10 + classes)
    x, w = rng.standard_normal((rows, features)), rng.standard_normal((classes, features))
    labels = rng.integers(0, classes, rows)
    found = value_and_grad(linear_cross_entropy, ("features", "weight"))(x, w, labels, chunk_bytes=chunk_bytes)
    loss, by = plainly(x, w, np.zeros(classes), labels)
    np.testing.assert_allclose(found[0], loss, rtol=1e-13)
    for one, right in zip(found[1], (by["features"], by["weight"]), strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-12, atol=1e-15)


def test_halves_are_summed_in_float32(backend: Backend, dtype: str) -> None:
    if dtype not in HALVES or backend.library == "dask":
        return
    (x, w, b), labels, _ = on(backend, "plain", dtype=dtype)
    loss, derivatives = backend.call(
        value_and_grad(linear_cross_entropy, BY), x, w, labels, bias=b, chunk_bytes=THREE_ROWS
    )
    assert backend.numpy(loss).dtype == "float32"
    wide = [np.asarray(backend.numpy(one), dtype="float64") for one in (x, w, b)]
    expected, by = plainly(wide[0], wide[1], wide[2], LABELS)
    np.testing.assert_allclose(backend.numpy(loss), expected, rtol=1e-6)
    for one, derivative in zip(BY, derivatives, strict=True):
        got = backend.numpy(derivative)
        assert got.dtype.name == dtype
        room = 2.0**-11 if dtype == "float16" else 2.0**-8
        np.testing.assert_allclose(got.astype("float64"), by[one], rtol=room, atol=room * 2.0**-10)


# -- the libraries' own derivatives -----------------------------------------------------------------------------------


@pytest.mark.backends("torch", "jax")
@names
def test_automatic_differentiation(backend: Backend, name: str) -> None:
    (x, w, b), labels, options = on(backend, name)

    def f(x: Array, w: Array, b: Array) -> Array:
        return linear_cross_entropy(x, w, labels, bias=b, chunk_bytes=THREE_ROWS, **options)

    _, by = reference(name)
    for found, one in zip(gradients(backend, f, x, w, b), BY, strict=True):
        assert_close(backend, found, by[one])


@AUTODIFF
def test_automatic_differentiation_of_rows(backend: Backend) -> None:
    (x, w, b), labels, _ = on(backend, "plain")
    seed = np.linspace(-1.0, 1.0, N)

    def f(x: Array, w: Array, b: Array) -> Array:
        return linear_cross_entropy(x, w, labels, bias=b, chunk_bytes=THREE_ROWS, reduction="none")

    dz = vjp(cross_entropy)(X @ W.T + B, LABELS, reduction="none")[1](seed)
    found = gradients(backend, f, x, w, b, cotangent=seed)
    for one, right in zip(found, (dz @ W, dz.T @ X, dz.sum(axis=0)), strict=True):
        assert_close(backend, one, right)


def forward_and_second(backend: Backend, f: Any, x: Array, w: Array, t: Array, t_w: Array) -> tuple[Any, Any]:
    """The derivative along tangents, and that of the gradient."""
    if backend.library == "torch":
        from torch.func import grad as gradient
        from torch.func import jvp
    else:
        import jax

        gradient, jvp = jax.grad, jax.jvp
        both: Any = jax.jit(lambda *a: (jvp(f, a[:2], a[2:])[1], jvp(gradient(f, (0, 1)), a[:2], a[2:])[1]))
        along, of_gradient = both(x, w, t, t_w)
        return along, of_gradient
    return jvp(f, (x, w), (t, t_w))[1], jvp(gradient(f, (0, 1)), (x, w), (t, t_w))[1]


@AUTODIFF
def test_forward_mode_and_second_derivatives(backend: Backend) -> None:
    (x, w, b), labels, options = on(backend, "weighted")
    dtype = widest(backend)
    t, t_w = np.sin(np.arange(N * D)).reshape(N, D), np.cos(np.arange(C * D)).reshape(C, D)

    def f(x: Array, w: Array) -> Array:
        return linear_cross_entropy(x, w, labels, bias=b, chunk_bytes=THREE_ROWS, **options)

    tangents = [backend.array(one.astype(dtype)) for one in (t, t_w)]
    along, (by_x, by_w) = forward_and_second(backend, f, x, w, *tangents)
    raw, given = CASES["weighted"]
    given = of_logits(given)
    dz = grad(cross_entropy)(X @ W.T + B, raw, **given)
    t_z = t @ W.T + X @ t_w.T
    hz = hvp(cross_entropy)(X @ W.T + B, raw, vector=t_z, **given)
    assert_close(backend, along, np.sum(dz * t_z))
    assert_close(backend, by_x, hz @ W + dz @ t_w)
    assert_close(backend, by_w, hz.T @ X + dz.T @ t)


@pytest.mark.backends("jax")
def test_forward_mode_of_the_weights_alone(backend: Backend) -> None:
    """Of single losses, by a rule of its own."""
    import jax

    (x, w, b), labels, _ = on(backend, "plain")
    t = np.cos(np.arange(C * D)).reshape(C, D)
    f = partial(linear_cross_entropy, reduction="none", chunk_bytes=THREE_ROWS)
    along = jax.jvp(lambda w: f(x, w, labels, bias=b), (w,), (backend.array(t.astype(widest(backend))),))[1]
    dz = grad(cross_entropy)(X @ W.T + B, CASES["plain"][0], reduction="sum")
    assert_close(backend, along, np.sum(dz * (X @ t.T), axis=-1))


@pytest.mark.backends("torch")
def test_torch_transforms(backend: Backend) -> None:
    torch = backend.xp
    (x, w, b), labels, _ = on(backend, "plain")
    f = partial(linear_cross_entropy, chunk_bytes=THREE_ROWS)
    leaves = [one.clone().requires_grad_() for one in (x, w, b)]
    assert torch.autograd.gradgradcheck(lambda x, w, b: f(x, w, labels, bias=b), leaves)
    assert torch.autograd.gradcheck(lambda x, w, b: f(x, w, labels, bias=b), leaves, check_forward_ad=True)
    both = torch.stack([x, 2.0 * x])
    by = torch.func.vmap(torch.func.grad(lambda x: f(x, w, labels)))(both)
    torch.testing.assert_close(by, torch.stack([torch.func.grad(lambda x: f(x, w, labels))(one) for one in both]))
    hessian = torch.func.hessian(lambda b: f(x, w, labels, bias=b))(b)
    torch.testing.assert_close(hessian, torch.func.hessian(lambda b: cross_entropy(x @ w.T + b, labels))(b))


@pytest.mark.backends("torch")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torch_compile(backend: Backend, reduction: str) -> None:
    torch = backend.xp
    (x, w, b), labels, options = on(backend, "weighted", dtype="float32")
    options["reduction"] = reduction

    def f(x: Array, w: Array, b: Array) -> Array:
        return linear_cross_entropy(x, w, labels, bias=b, chunk_bytes=THREE_ROWS, **options)

    found = []
    for function in (f, torch.compile(f, backend="aot_eager", fullgraph=True)):
        leaves = [one.clone().requires_grad_() for one in (x, w, b)]
        loss = function(*leaves)
        loss.sum().backward()
        found.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.backends("jax")
def test_jax_jit(backend: Backend) -> None:
    """A value of which nobody asks for derivatives."""
    import jax

    (x, w, b), labels, _ = on(backend, "plain")
    f = jax.jit(lambda x, w, b: linear_cross_entropy(x, w, labels, bias=b, chunk_bytes=THREE_ROWS, check=False))
    assert_close(backend, f(x, w, b), np.asarray(cross_entropy(X @ W.T + B, CASES["plain"][0])))


@pytest.mark.backends("jax")
def test_jax_vmap(backend: Backend) -> None:
    import jax

    (x, w, _), labels, _ = on(backend, "plain")
    f = jax.grad(lambda x: linear_cross_entropy(x, w, labels, chunk_bytes=THREE_ROWS, check=False))
    found = jax.jit(jax.vmap(f))(backend.xp.stack([x, 2.0 * x]))
    for one, factor in zip(found, (1.0, 2.0), strict=True):
        assert_close(backend, one, plainly(factor * X, W, np.zeros(C), LABELS)[1]["features"])


@pytest.mark.parametrize("empty", ["features", "rows"])
def test_nothing_to_multiply(backend: Backend, empty: str) -> None:
    """Without features all classes are as likely as others; without rows there is no loss."""
    n, d = (N, 0) if empty == "features" else (0, 2)
    x, w = backend.array(np.ones((n, d)), "float32"), backend.array(np.ones((C, d)), "float32")
    labels = backend.array(LABELS[:n], "int32")
    loss, by = backend.call(value_and_grad(linear_cross_entropy, ("features", "weight")), x, w, labels, reduction="sum")
    np.testing.assert_allclose(backend.numpy(loss), n * np.log(C), rtol=1e-6)
    for one, like in zip(by, (x, w), strict=True):
        np.testing.assert_array_equal(backend.numpy(one), np.zeros(like.shape, dtype="float32"))


# -- relatives --------------------------------------------------------------------------------------------------------

X2, W2 = RNG.standard_normal((N, 2)), 2.0 * RNG.standard_normal((C, 2))
PAIRS = ("p_features", "p_weight", "q_features", "q_weight", "q_bias")


@pytest.mark.backends("numpy-readonly", "strict-no-x64", "torch", "jax", "dask-classes")
def test_kl_divergence_of_two_classifiers(backend: Backend) -> None:
    arrays = [backend.array(one.astype(widest(backend))) for one in (X, W, X2, W2)]
    b, weights = (backend.array(one.astype(widest(backend))) for one in (B, WEIGHTS))
    options: dict[str, Any] = {"chunk_bytes": THREE_ROWS, "temperature": 2.0, "scale_by_t2": True}
    expected, (dp, dq) = value_and_grad(kl_divergence, ("p_logits", "q_logits"))(
        X @ W.T, X2 @ W2.T + B, temperature=2.0, scale_by_t2=True, reduction="mean", sample_weight=WEIGHTS
    )
    exact = (dp @ W, dp.T @ X, dq @ W2, dq.T @ X2, dq.sum(axis=0))
    options |= {"reduction": "mean", "sample_weight": weights}
    found, by = backend.call(value_and_grad(linear_kl_divergence, PAIRS), *arrays, q_bias=b, **options)
    assert_close(backend, found, expected)
    for one, right in zip(by, exact, strict=True):
        assert_close(backend, one, right)
    if backend.autodiff:

        def f(*given: Array) -> Array:
            p, p_weight, q, q_weight, q_bias = given
            return linear_kl_divergence(p, p_weight, q, q_weight, q_bias=q_bias, **options)

        for one, right in zip(gradients(backend, f, *arrays, b), exact, strict=True):
            assert_close(backend, one, right)


@pytest.mark.backends("numpy-readonly", "strict-no-x64", "torch", "jax", "dask-classes")
def test_log_probabilities_and_entropies(backend: Backend) -> None:
    (x, w, b), labels, _ = on(backend, "plain")
    options: dict[str, Any] = {"bias": b, "chunk_bytes": THREE_ROWS, "ignore_index": 1, "temperature": 0.5}
    z, counted = X @ W.T + B, LABELS != 1
    loss, of_loss = vjp(cross_entropy)(z, LABELS, reduction="none", ignore_index=1, temperature=0.5)
    spread, of_spread = vjp(entropy)(z, temperature=0.5, where=counted)
    seed = np.linspace(-1.0, 1.0, N)
    found, pullback = backend.call(vjp(linear_log_prob), x, w, labels, **options)
    assert_close(backend, found[0], -loss)
    assert_close(backend, found[1], spread)
    exact = (of_spread(2.0 * seed) - of_loss(seed)) @ W
    seeds = tuple(backend.array(one.astype(widest(backend))) for one in (seed, 2.0 * seed))
    assert_close(backend, backend.call(pullback, seeds), exact)
    if backend.autodiff:

        def f(x: Array) -> Array:
            log_prob, of_row = linear_log_prob(x, w, labels, **options)
            return log_prob + 2.0 * of_row

        assert_close(backend, gradients(backend, f, x, cotangent=seed)[0], exact)


# -- memory -----------------------------------------------------------------------------------------------------------


def peak(rows: int, classes: int) -> int:
    """Bytes that value and derivatives take on NumPy at most, beyond themselves."""
    x, w = np.ones((rows, 4), dtype="float32"), np.ones((classes, 4), dtype="float32")
    labels = np.zeros(rows, dtype="int64")
    both = value_and_grad(linear_cross_entropy, ("features", "weight"))
    both(x[:8], w[:8], labels[:8])
    tracemalloc.start()
    try:
        _, by = both(x, w, labels, chunk_bytes=2**20)
        most: int = tracemalloc.get_traced_memory()[1]
        return int(most - sum(one.nbytes for one in by) - w.nbytes)
    finally:
        tracemalloc.stop()


@pytest.mark.backends("numpy")
def test_memory_does_not_grow(backend: Backend) -> None:  # noqa: ARG001 - once, not for each library
    small = peak(1024, 1024)
    assert small < 4 * 2**20
    assert peak(16 * 1024, 1024) < small + 2**20
    assert peak(1024, 16 * 1024) < small + 2**20


@pytest.mark.backends("jax")
def test_memory_in_a_compiled_function(backend: Backend) -> None:
    import jax

    xp = backend.xp
    x, w, labels = xp.ones((512, 8)), xp.ones((2048, 8)), xp.zeros(512, dtype="int32")

    def temporaries(f: Callable[..., Array]) -> int:
        compiled = jax.jit(jax.grad(f, (0, 1))).lower(x, w).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    ours = temporaries(lambda x, w: linear_cross_entropy(x, w, labels, chunk_bytes=2**19, check=False))
    assert ours < temporaries(lambda x, w: cross_entropy(x @ w.T, labels, check=False)) / 2


# -- errors -----------------------------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: linear_cross_entropy(X, W.T, LABELS), ValueError, r"weight must have shape \(C, 3\), .* transpose it"),
    (lambda: linear_cross_entropy(X, W, LABELS, bias=B[:2]), ValueError, r"bias must have shape \(4,\), .*"),
    (lambda: linear_cross_entropy(X, W.astype("int64"), LABELS), TypeError, "weight must be of a floating dtype, .*"),
    (lambda: linear_cross_entropy(X, W, LABELS[:3]), ValueError, "labels must .*"),
    (lambda: linear_cross_entropy(X, W, LABELS + 1), ValueError, "labels must be from 0 to 3, got 4 .*"),
    (
        lambda: linear_cross_entropy(X, W, LABELS, class_weight=B[:2]),
        ValueError,
        r"class_weight must have shape \(4,\)",
    ),
    (lambda: linear_cross_entropy(X, W, LABELS, chunk_bytes=0), ValueError, "chunk_bytes must be positive, got 0; .*"),
    (lambda: linear_cross_entropy(X, W, LABELS, chunk_bytes=1.5), TypeError, "chunk_bytes must be an int, got 1.5; .*"),  # type: ignore[arg-type]
    (lambda: linear_cross_entropy(np.asarray(1.0), W, 0), ValueError, "features must have an axis of features, .*"),
    (lambda: linear_cross_entropy([[1.0]], W, LABELS), TypeError, "features must be an array, got list; .*"),
    (lambda: linear_cross_entropy(X, None, LABELS), TypeError, "weight must be an array, got None; .*"),
    (lambda: linear_log_prob(X, W, SOFT), TypeError, "labels must be class indices, .* got distributions; .*"),
    (lambda: value_and_grad(linear_log_prob), TypeError, "value_and_grad must be given a function of one value, .*"),
    (
        lambda: linear_kl_divergence(X, W, X2, W2[:3]),
        ValueError,
        r"q_features and q_weight must make logits .* \(7, 4\), got \(7, 3\); .*",
    ),
    (lambda: linear_kl_divergence(X, W, X2, None), TypeError, "q_weight must be an array, got None; .*"),
    (
        lambda: linear_kl_divergence(X, W, X2, W2, scale_by_t2=True),
        ValueError,
        "scale_by_t2 must come with temperature, got none; .*",
    ),
    (
        lambda: hessian_diagonal(linear_cross_entropy)(X, W, LABELS),
        TypeError,
        "hessian_diagonal must be given a function .*, got linear_cross_entropy; .*",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
