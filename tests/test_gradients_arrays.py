"""What gradients may be taken of and inside what: transforms of torch and jax, views, lazy arrays, blocks of rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import ulps
from checks import ROUNDED_ONCE, assert_equal
from derivatives import (
    BY_NAME,
    CASES,
    COTANGENT,
    NAMES,
    ROWS,
    Case,
    assert_close,
    assert_ulps,
    exact,
)
from exact_gradients import (
    EAGER,
    KEPT,
    LOGITS,
    PULL,
    REDUCED,
    VECTOR,
    WEIGHTS,
    applied,
    arguments_of,
    assert_like,
    assert_same,
    by_weights,
    covariances,
    diagonal,
    exact_hessian,
    placed,
    single,
)
from matrix import numpy_dtype

from softxent import (
    cross_entropy,
    grad,
    hessian_diagonal,
    hvp,
    log_softmax,
    logsumexp,
    smooth_labels,
    softmax,
    value_and_grad,
    vjp,
)
from softxent.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # So does Dynamo, which makes an instance of Function for every rule that it traces.
    pytest.mark.filterwarnings("ignore:.*function.Function.* should not be instantiated:DeprecationWarning"),
]

Array = Any
NumPy = np.ndarray[Any, Any]


# -- pullbacks and transforms -----------------------------------------------------------------------------------------


def test_pullbacks_are_linear(backend: Backend) -> None:
    """And can be called again: to twice the cotangent belongs twice the derivative, to a sum the sum."""
    x = backend.array(LOGITS[:5])
    _, pullback = backend.call(vjp(softmax), x)
    g, h = PULL[:5], PULL[4::-1]
    of_g, of_h, twice, both = (
        backend.numpy(backend.call(pullback, backend.array(one))) for one in (g, h, 2 * g, g + h)
    )
    np.testing.assert_array_equal(twice, 2 * of_g)
    size = sum(oracle.softmax_vjp(one, LOGITS[:5]).absolute for one in (g, h))
    assert np.all(abs(both - (of_g + of_h)) <= 4 * ulps.eps("float32") * size.astype(float))


X = [[0.5, -1.25, 2.0], [1.0, 1.0, -0.5], [40.0, 0.0, 0.0]]


TRANSPOSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "softmax": (softmax, {"logits": X, "temperature": [0.5, 1.0, 2.0]}),
    "log_softmax": (log_softmax, {"logits": X, "temperature": 0.5}),
    "logsumexp": (logsumexp, {"x": X, "b": [[1, 0.5, 2], [0.5, 0.25, 0], [1, 2, 1]]}),
    "cross_entropy": (
        partial(cross_entropy, reduction="none"),
        {"logits": X, "labels": [[0.25, 0.5, 0.75], [1, 0, 0], [0.5, 0.5, 0.25]], "temperature": [0.5, 2.0, 1.0]},
    ),
    "smooth_labels": (
        smooth_labels,
        {"labels": [[0.25, 0.5, 0.75], [1, 0, 0], [0.5, 0.5, 0.25]], "label_smoothing": [0.125, 0.5, 0.25]},
    ),
}


def assert_transposed(backend: Backend, name: str, dtype: str, pushforward: Callable[..., Any]) -> None:
    """The g · (J t) of the library is our (Jᵀ g) · t."""
    function, given = TRANSPOSED[name]
    primals = tuple(backend.array(x, dtype) for x in given.values())
    tangents = tuple(backend.array(np.resize([1.0, -0.5, 0.25, 2.0, 0.5], np.shape(x)), dtype) for x in given.values())

    def call(*arrays: Array) -> Array:
        return function(**dict(zip(given, arrays, strict=True)))

    value, pushed = pushforward(call, primals, tangents)
    g = np.resize([1.0, -0.5, 2.0, 0.25], np.shape(value))
    _, pullback = vjp(function, tuple(given))(**dict(zip(given, primals, strict=True)))
    pulled = pullback(backend.array(g, dtype))
    left = g * backend.numpy(pushed)
    right = [backend.numpy(d) * backend.numpy(t) for d, t in zip(pulled, tangents, strict=True)]
    size = abs(left).sum() + sum(abs(terms).sum() for terms in right)
    assert abs(left.sum() - sum(terms.sum() for terms in right)) <= 4 * ulps.eps(dtype) * size


@pytest.mark.backends("torch")
@pytest.mark.parametrize("name", TRANSPOSED)
def test_pullbacks_are_transposed_pushforwards_of_torch(backend: Backend, name: str) -> None:
    assert_transposed(backend, name, "float64", backend.xp.func.jvp)


@pytest.mark.backends("jax")
@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_pullbacks_are_transposed_pushforwards_of_jax(backend: Backend, name: str) -> None:
    import jax

    assert_transposed(backend, name, "float32", jax.jit(jax.jvp, static_argnums=0))


@pytest.mark.backends("torch")
def test_torch_vmap(backend: Backend) -> None:
    """One example at a time is what the batch is."""
    vmap, close = backend.xp.func.vmap, partial(backend.xp.testing.assert_close, rtol=1e-14, atol=0)
    x, t, v = backend.array(X, "float64"), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    close(vmap(value_and_grad(cross_entropy))(x, t), value_and_grad(cross_entropy)(x, t, reduction="none"))
    close(vmap(hessian_diagonal(cross_entropy))(x, t), hessian_diagonal(cross_entropy)(x, t, reduction="sum"))
    of_rows = vmap(lambda x, t, v: hvp(cross_entropy)(x, t, vector=v))(x, t, v)
    close(of_rows, hvp(cross_entropy)(x, t, reduction="sum", vector=v))
    close(vmap(lambda x, g: vjp(softmax)(x)[1](g))(x, v), vjp(softmax)(x)[1](v))


@pytest.mark.backends("torch")
@pytest.mark.parametrize("small", [True, False], ids=["autograd of the formula", "rule"])
def test_torch_autograd(backend: Backend, monkeypatch: pytest.MonkeyPatch, *, small: bool) -> None:
    """Through the value comes the gradient, through the gradient the Hessian times what is pulled back."""
    if not small:
        monkeypatch.setattr(backend_of(backend.array(1.0)), "small", 0)
    autograd, close = backend.xp.autograd, partial(backend.xp.testing.assert_close, rtol=1e-14, atol=0)
    x, t, v = backend.array(X, "float64").requires_grad_(), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    loss, found = value_and_grad(cross_entropy)(x, t, label_smoothing=0.125)
    assert loss.requires_grad
    assert found.requires_grad
    close(autograd.grad(loss, x, retain_graph=True)[0], found.detach())
    expected = hvp(cross_entropy)(x.detach(), t, label_smoothing=0.125, vector=v)
    close(autograd.grad(found, x, v)[0], expected, atol=1e-17)
    with backend.xp.no_grad():
        assert not any(y.requires_grad for y in value_and_grad(cross_entropy)(x, t))


@pytest.mark.backends("torch")
def test_torch_compile(backend: Backend) -> None:
    """fullgraph=True, and the compiled loss has its backward."""
    torch = backend.xp
    x, t, v = backend.array(X, "float64").requires_grad_(), backend.array([2, 1, 0]), backend.array(VECTOR[:3])
    weight = backend.array([2.0, 1.0, 0.5], "float64")

    def everything(x: Array, t: Array, v: Array, weight: Array) -> tuple[Any, ...]:
        smoothed = partial(cross_entropy, weight=weight, label_smoothing=0.125)
        return (
            *value_and_grad(smoothed)(x, t),
            *grad(cross_entropy, (0, "weight"))(x, t, weight=weight),
            hvp(smoothed)(x, t, vector=v),
            hessian_diagonal(cross_entropy)(x, t),
            vjp(softmax)(x)[1](v),
        )

    torch._dynamo.reset()
    found = torch.compile(everything, fullgraph=True, backend="aot_eager")(x, t, v, weight)
    for one, expected in zip(found, everything(x, t, v, weight), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-14, atol=1e-17)
    torch.testing.assert_close(torch.autograd.grad(found[0], x)[0], found[1].detach(), rtol=1e-14, atol=1e-17)
    torch._dynamo.reset()


@pytest.mark.backends("jax")
def test_jax_transforms(backend: Backend) -> None:
    """Inside jit: the call itself, under vmap, and differentiated again, forward and in reverse."""
    import jax

    x, t = backend.array(X, "float32"), backend.array([2, 1, 0], "int32")

    def everything(x: Array, t: Array) -> tuple[Any, ...]:
        def columns(x: Array, t: Array) -> Array:
            return jax.vmap(lambda v: hvp(cross_entropy)(x, t, vector=v))(jax.numpy.eye(3, dtype=x.dtype))

        return (
            value_and_grad(cross_entropy)(x, t, reduction="none"),
            jax.vmap(value_and_grad(cross_entropy))(x, t),
            jax.vmap(columns)(x, t),
            jax.vmap(jax.jacfwd(grad(cross_entropy)))(x, t),
            jax.vmap(jax.jacrev(grad(cross_entropy)))(x, t),
        )

    *gradients, columns, forward, reverse = jax.jit(everything)(x, t)
    reference = oracle.cross_entropy(np.asarray(X), np.asarray([2, 1, 0]))
    for losses, found in gradients:
        assert_ulps(losses, reference.rows, dtype="float32", bound=4.0)
        assert_ulps(found, reference.gradient("logits").value, dtype="float32", bound=4.0)
    p = oracle.softmax(np.asarray(X))
    for found in (columns, forward, reverse):
        assert_close(found, covariances(oracle.Sum(p, p)), dtype="float32", floor=1.0)


# -- sums over rows ---------------------------------------------------------------------------------------------------


def test_long_sums_over_rows_keep_their_digits(backend: Backend) -> None:
    """By what all rows share, one number for all or one a class: as exact at 1e5 rows as at one."""
    rng = np.random.default_rng(0)
    x, t = single(rng.normal(size=(100_000, 3))), rng.integers(0, 3, size=100_000).astype("int32")
    options = {"weight": single([1.0, 2.0, 0.5]), "z_loss": single(0.5)}
    found = backend.call(
        grad(cross_entropy, tuple(options)),
        backend.array(x),
        backend.array(t),
        **placed(backend, options),
        reduction="sum",
    )
    double = {name: option.astype("float64") for name, option in options.items()}
    expected = grad(cross_entropy, tuple(options))(x.astype("float64"), t, **double, reduction="sum")
    for one, other in zip(found, expected, strict=True):  # no term is negative
        off = abs(backend.numpy(one) - other) / other / ulps.eps("float32") * 2
        assert np.all(off <= 4), off


# -- what arrays may be -----------------------------------------------------------------------------------------------


def test_inputs_are_left_alone(backend: Backend) -> None:
    """Neither written to nor given back: a derivative is memory of its own."""
    case = BY_NAME["everything"]
    before = case.arrays("float32")
    given = arguments_of(backend, case)
    found = backend.call(grad(cross_entropy, case.by), **given)
    _, pullback = backend.call(vjp(log_softmax), given["logits"])
    cotangent = backend.array(PULL)
    backend.call(pullback, cotangent)
    assert_equal(backend, cotangent, PULL)
    for name, array in given.items():
        assert_equal(backend, array, before[name])
        assert not any(one is array for one in found)


@pytest.mark.backends("numpy", "torch")
def test_views(backend: Backend) -> None:
    """Transposed, strided, expanded and, on NumPy, reversed: as exact as any, in the shape of the view."""
    base = np.linspace(-2.0, 3.0, 24, dtype="float32").reshape(4, 6)
    whole = backend.array(base)
    xp = backend.xp
    pairs = [(whole.T[::2, :3], base.T[::2, :3]), (whole[:3, ::2], base[:3, ::2])]
    pairs.append((xp.broadcast_to(whole[0, :3], (3, 3)), np.broadcast_to(base[0, :3], (3, 3))))
    if backend.library == "numpy":
        pairs += [(whole[2::-1, 5::-2], base[2::-1, 5::-2]), (np.asfortranarray(whole[:3, :3]), base[:3, :3])]
    labels = np.asarray([[0, 9], [2, 9], [1, 9]])
    vector = VECTOR[:3].astype("float32")
    for view, plain in pairs:
        exactly = oracle.cross_entropy(plain, labels[:, 0])
        t = backend.array(labels)[:, 0]
        losses, found = value_and_grad(cross_entropy)(view, t, reduction="none")
        assert_ulps(backend.numpy(losses), exactly.rows, dtype="float32", bound=4.0 + 5.0)
        assert_close(backend.numpy(found), exactly.gradient("logits"), dtype="float32", gap=5.0)
        p = oracle.softmax(plain)
        product = hvp(cross_entropy)(view, t, reduction="sum", vector=backend.array(vector.T.copy()).T)
        matrices = covariances(oracle.Sum(p, p))
        assert_close(backend.numpy(product), applied(matrices, vector), dtype="float32", gap=5.0)
        pulled = vjp(softmax)(view)[1](backend.array(vector.T.copy()).T)
        assert_close(backend.numpy(pulled), oracle.softmax_vjp(vector, plain), dtype="float32", gap=5.0)


SIZES = ((0, 3), (2, 0), (0, 0), (3, 1), (1, 3), (1, 1))


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_no_and_one_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    """Where there is nothing to choose from, nothing is lost and nothing changes that."""
    rows, classes = shape
    x, t = backend.array(np.full(shape, 1.5), "float32"), backend.array(np.zeros(rows), "int32")
    given = {"temperature": backend.array(np.ones((rows, 1)), "float32")}
    (loss, (by_x, by_heat)) = backend.call(value_and_grad(cross_entropy, (0, "temperature")), x, t, **given)
    assert_like(backend, by_x, x)
    assert_like(backend, by_heat, given["temperature"])
    certain = classes <= 1 or rows == 0
    expected = oracle.cross_entropy(np.full(shape, 1.5), np.zeros(rows, dtype=int))
    assert_ulps(backend.numpy(loss), expected.mean().value, dtype="float32", bound=4.0)
    assert_ulps(backend.numpy(by_x), expected.gradient("logits").value, dtype="float32", bound=4.0)
    if certain:
        assert not backend.numpy(by_x).any()
        assert not backend.numpy(by_heat).any()


@EAGER
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_second_derivatives_of_no_and_one_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    x, t = backend.array(np.full(shape, 1.5), "float32"), backend.array(np.zeros(shape[0]), "int32")
    for found in (
        backend.call(hvp(cross_entropy), x, t, vector=x),
        backend.call(hvp(logsumexp), x, vector=x),
        backend.call(hessian_diagonal(logsumexp), x, b=x),
        backend.call(vjp(softmax), x)[1](x),
    ):
        assert_like(backend, found, x)
        assert shape == (1, 3) or not backend.numpy(found).any()


@EAGER
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
def test_options_of_no_row_or_class(backend: Backend, shape: tuple[int, int]) -> None:
    """A derivative that is a sum over nothing is 0."""
    rows, classes = shape
    given = {
        "logits": np.zeros(shape),
        "labels": np.zeros(shape),
        "weight": np.ones(classes),
        "sample_weight": np.ones(rows),
        "label_smoothing": np.asarray(0.125),
        "smoothing_prior": np.ones(classes),
        "softcap": np.asarray(8.0),
        "z_loss": np.asarray(0.5),
    }
    placed_ = {name: backend.array(x, "float32") for name, x in given.items()}
    for name, found in zip(given, backend.call(grad(cross_entropy, tuple(given)), **placed_), strict=True):
        assert_equal(backend, found, np.zeros_like(given[name], dtype="float32"))


@EAGER
def test_every_integer_dtype_of_labels(backend: Backend, int_dtype: str) -> None:
    x = backend.array(X, "float32")
    vector = backend.array(VECTOR[:3], "float32")
    for function in (value_and_grad(cross_entropy), partial(hvp(cross_entropy), vector=vector)):
        found = backend.call(function, x, backend.array([2, 1, 0], int_dtype))
        assert_same(backend, found, backend.call(function, x, backend.array([2, 1, 0], "int32")))


@pytest.mark.dtypes("float16", "bfloat16")
@pytest.mark.parametrize("name", ["where-classes", "temperature"])
def test_halves(backend: Backend, dtype: str, name: str) -> None:
    """float32 losses; derivatives in the dtype of halves, correctly rounded but for ties."""
    case = BY_NAME[name]
    arguments = arguments_of(backend, case, dtype) | {"reduction": "sum"}
    loss, found = backend.call(value_and_grad(cross_entropy), **arguments)
    assert backend.numpy(loss).dtype == "float32"
    assert_like(backend, found, arguments["logits"])
    value = exact(case, dtype).gradient("logits").value
    assert ulps.error(backend.numpy(found), value, dtype).max() <= ROUNDED_ONCE
    if backend.library != "jax":
        squares = backend.call(hessian_diagonal(cross_entropy), **arguments)
        assert_like(backend, squares, arguments["logits"])
        value = diagonal(exact_hessian(name)).value
        if dtype == "float16":  # bfloat16 rounds the offsets that `exact_hessian` was taken at
            assert ulps.error(backend.numpy(squares), value, dtype).max() <= ROUNDED_ONCE


@pytest.mark.dtypes("float16", "bfloat16")
def test_halves_of_normalisers(backend: Backend, dtype: str) -> None:
    """Halves in, halves out, rounded once from float32; so is the cotangent that comes in."""
    x, g = (np.resize(values, (4, 5)).astype(numpy_dtype(dtype)) for values in ([0.5, -1.25, 2, 1], [1, -0.5, 0.25]))
    for function, pullback in ((softmax, oracle.softmax_vjp), (log_softmax, oracle.log_softmax_vjp)):
        value, pull = backend.call(vjp(function), backend.array(x))
        found = backend.call(pull, backend.array(g))
        assert backend.numpy(value).dtype.name == dtype
        assert backend.numpy(found).dtype.name == dtype
        sums = pullback(g, x)
        room = ROUNDED_ONCE * ulps.spacing(sums.value, dtype) + 8 * ulps.eps("float32") * sums.absolute
        assert np.all(ulps.difference(backend.numpy(found), sums.value, dtype) <= room)


@pytest.mark.backends("jax", "dask")
def test_numpy_arrays_may_stand_beside_those_of_jax_and_dask(backend: Backend) -> None:
    """§1.2, whichever of them they are: logits, labels, cotangent, vector."""
    x, t = single(X), np.asarray([2, 1, 0], dtype="int32")
    v = VECTOR[:3].astype("float32")
    ours, labels = backend.array(x), backend.array(t)
    expected = backend.call(value_and_grad(cross_entropy), ours, labels)
    assert_same(backend, backend.call(value_and_grad(cross_entropy), ours, t), expected)
    assert_same(backend, backend.call(value_and_grad(cross_entropy), x, labels), expected)
    expected = backend.call(hvp(cross_entropy), ours, labels, vector=backend.array(v))
    assert_same(backend, backend.call(hvp(cross_entropy), ours, t, vector=v), expected)
    expected = backend.call(vjp(softmax), ours)[1](backend.array(v))
    assert_same(backend, backend.call(vjp(softmax), ours)[1](v), expected)


# -- dask -------------------------------------------------------------------------------------------------------------


@pytest.mark.backends("dask")
def test_derivatives_are_cut_as_the_logits_are(backend: Backend) -> None:
    """By rows; class axes are made whole, since every class has a say in every derivative."""
    blocks = ((3, 4), (3,))
    given = {name: backend.array(x) for name, x in BY_NAME["soft"].arrays("float32").items()}
    given = {name: x.rechunk(blocks) for name, x in given.items()}
    v = backend.xp.from_array(VECTOR, chunks=(2, 3))
    by = backend.call(grad(cross_entropy, (0, 1)), **given)
    product = backend.call(hvp(cross_entropy), **given, vector=v)
    squares = backend.call(hessian_diagonal(cross_entropy), **given)
    pulled = backend.call(vjp(softmax), given["logits"])[1](v)
    assert {x.chunks for x in (*by, product, squares, pulled)} == {blocks}


@pytest.mark.backends("dask")
def test_an_unknown_batch_size(backend: Backend) -> None:
    """Rows chosen by a boolean array: nobody knows how many, and nothing has to."""
    x, t = np.resize(single(X), (ROWS, 3)), np.resize(np.asarray([2, 1, -1, 0]), ROWS)
    v, kept, weight = VECTOR.astype("float32"), np.asarray([1, 0, 1, 1, 0, 1, 1], dtype=bool), single([2.0, 1.0, 0.5])

    def chosen(array: NumPy) -> Array:
        lazy, choice = (backend.xp.from_array(one, chunks=(3, *one.shape[1:])) for one in (array, kept))
        return lazy[choice]

    rows, labels, vector = chosen(x), chosen(t), chosen(v)
    assert np.isnan(rows.shape[0])
    options: dict[str, Any] = {"ignore_index": -1, "label_smoothing": 0.125, "weight": weight}
    value, found = backend.call(value_and_grad(cross_entropy, (0, "weight")), rows, labels, **options)
    expected, derivatives = value_and_grad(cross_entropy, (0, "weight"))(x[kept], t[kept], **options)
    np.testing.assert_allclose(backend.numpy(value), expected, rtol=1e-6)
    for one, other in zip(found, derivatives, strict=True):
        np.testing.assert_allclose(backend.numpy(one), other, rtol=1e-6, atol=1e-9)
    product = backend.call(hvp(cross_entropy), rows, labels, vector=vector, reduction="none", **options)
    expected = hvp(cross_entropy)(x[kept], t[kept], vector=v[kept], reduction="none", **options)
    np.testing.assert_array_equal(backend.numpy(product), expected)
    pulled = backend.call(vjp(log_softmax), rows)[1](vector)
    np.testing.assert_array_equal(backend.numpy(pulled), vjp(log_softmax)(x[kept])[1](v[kept]))


@pytest.mark.backends("dask")
def test_blocks_of_unknown_size_that_do_not_match(backend: Backend) -> None:
    """One block of labels beside two of logits cannot be cut to fit: an error, and no labels used twice."""
    x, t, kept = single(X + X[:1]), np.asarray([2, 1, 0, 1]), np.asarray([True, False, True, False])
    rows = backend.xp.from_array(x, chunks=(2, 3))[backend.xp.from_array(kept, chunks=2)]
    labels = backend.xp.from_array(t, chunks=4)[backend.xp.from_array(kept, chunks=4)]
    with pytest.raises(ValueError, match="labels must"):
        backend.call(grad(cross_entropy), rows, labels)


# -- blocks of rows ---------------------------------------------------------------------------------------------------


def everything_of(backend: Backend, given: dict[str, Any], **options: Any) -> dict[str, NumPy]:
    """The value of a call and all its derivatives, by name."""
    by = tuple(name for name, x in given.items() if backend.numpy(x).dtype.kind == "f")
    value, pullback = vjp(cross_entropy, by)(**given, **options)
    seed = np.resize(COTANGENT, tuple(value.shape))
    found = dict(zip(by, pullback(backend.array(seed, "float32")), strict=True))
    vector = backend.array(np.resize(VECTOR, tuple(given["logits"].shape)), "float32")
    found["hvp"] = hvp(cross_entropy)(**given, **options, vector=vector)
    found["hessian_diagonal"] = hessian_diagonal(cross_entropy)(**given, **options)
    return {name: backend.numpy(x) for name, x in ({"value": value} | found).items()}


def assert_same_in_blocks(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], blocks: int, **options: Any
) -> None:
    """Bit for bit where a row or a logit has a number of its own; within rounding where rows are added up."""
    whole = everything_of(backend, given, **options)
    ours = backend_of(given["logits"])
    assert ours is not None
    monkeypatch.setattr(ours, "entries", 1)
    _, cuts = ours.of_one_block(None).blocks({"logits": given["logits"]}, options.get("axis", -1))
    assert len(cuts) == blocks
    cut = everything_of(backend, given, **options)
    for name, expected in whole.items():
        if expected.shape == whole["logits"].shape or expected.shape == whole["value"].shape:
            np.testing.assert_array_equal(cut[name], expected, err_msg=name)
        else:
            np.testing.assert_allclose(cut[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_rows_in_blocks(backend: Backend, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_in_blocks(backend, monkeypatch, arguments_of(backend, case), ROWS, reduction="none", check=False)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize(("shape", "axis", "rows"), [((2, 5, 3), -1, 5), ((5, 3, 2), 1, 5), ((3, 2, 4), 0, 4)], ids=str)
def test_blocks_are_cut_along_the_longest_axis(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axis: int, rows: int
) -> None:
    """Options that are the same along it are added up, others are cut with it."""
    batch = tuple(n for d, n in enumerate(shape) if d != axis % 3)
    longest = tuple(n if n == rows else 1 for n in batch)
    given = {
        "logits": np.resize(X, shape),
        "labels": np.resize([0.25, 0.5, 0.0, 1.0], shape),
        "sample_weight": np.resize([1.0, 0.5, 2.0], longest),
        "temperature": np.resize([0.5, 2.0], tuple(1 if n == rows else n for n in batch)),
        "weight": np.resize([2.0, 1.0, 0.5], shape[axis]),
        "softcap": np.asarray(8.0),
    }
    arrays = {name: backend.array(x, "float32") for name, x in given.items()}
    assert_same_in_blocks(backend, monkeypatch, arrays, rows, axis=axis, reduction="none")


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("reduction", ["mean", "sum_and_weight"])
def test_reductions_in_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    given = arguments_of(backend, REDUCED) | {"reduction": reduction}
    expected = value_and_grad(cross_entropy, ("logits", "weight"))(**given)
    monkeypatch.setattr(backend_of(given["logits"]), "entries", 1)
    value, (by_logits, by_weight) = value_and_grad(cross_entropy, ("logits", "weight"))(**given)
    assert_same(backend, (value, by_logits), (expected[0], expected[1][0]))
    np.testing.assert_allclose(backend.numpy(by_weight), backend.numpy(expected[1][1]), rtol=1e-6, atol=1e-6)
    assert grad(cross_entropy, ())(**given) == ()


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("name", WEIGHTS)
def test_sums_in_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = placed(backend, {"x": LOGITS, "where": KEPT, "b": WEIGHTS[name]}) | {"return_sign": True}
    seed = backend.array(COTANGENT, "float32")
    expected = vjp(logsumexp, by_weights(name))(**given)[1](seed)
    monkeypatch.setattr(backend_of(given["x"]), "entries", 1)
    found = vjp(logsumexp, by_weights(name))(**given)[1](seed)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6, atol=1e-6)
    assert_same(backend, found[0], expected[0])
