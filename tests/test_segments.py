"""segment_logsumexp and segment_softmax: each segment as the row that it is, in whatever order its entries come."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import differences
import numpy as np
import oracle
import pytest
import ulps
from checks import assert_equal, assert_exact, default_float, gradients, hessian
from derivatives import INF, NAN, assert_close, assert_ulps
from exact_gradients import assert_like, assert_same, floor_of, single
from hypothesis import given
from hypothesis import strategies as st
from matrix import HALVES, numpy_dtype
from mpmath import mp, mpf

from softxent import grad, logsumexp, segment_logsumexp, segment_softmax, softmax, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matrix import Backend

Array = Any
NumPy = np.ndarray[Any, Any]

AUTODIFF = pytest.mark.backends("autodiff")
pytestmark = [
    # torch's own forward mode compiles its formulas with what it tells others to leave.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]


def each_way(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How derivatives are found: torch's on the formula itself, as of small arrays, then by the formula's own."""
    yield
    if backend.library == "torch":
        monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
        yield


# Segments 1 and 4 are empty. Each column has its own numbers: plain; ties, an offset and -inf; gaps; one segment of
# -inf alone. Segment 3 has one entry.
COUNT = 6
IDS = np.asarray([2, 0, 5, 2, 0, 2, 3, 0, 5])
X = single(
    [
        [0.5, 1000002, 40, 1],
        [-1.25, 2, 0, -INF],
        [2, 7, 60, 0],
        [1, 1000002, 0, 2],
        [3, -INF, 0, -INF],
        [0, 1000000, 0, 0.25],
        [1.5, -3, 85, -2],
        [0.25, 2, 80, -INF],
        [-2, 7, 0, 0.5],
    ]
)
OF_SUMS = single(np.resize([1, -0.5, 2, 0.25, -1.5], (COUNT, 4)))
OF_ENTRIES = single(np.resize([1, -0.5, 2, 0.25, -1, 3, -2], (9, 4)))
# What softmax is not defined on has no derivative.
DEFINED = np.where((IDS == 0)[:, None] & (np.arange(4) == 3), False, True)  # noqa: FBT003


def rows(ids: NumPy = IDS) -> list[list[int]]:
    """The places of each segment's entries."""
    return [[int(k) for k in np.flatnonzero(ids == s)] for s in range(COUNT)]


def log_sums(x: Any) -> Any:
    """From the definition, (segments, columns)."""
    found = np.full((COUNT, x.shape[1]), -mp.inf, dtype=object)
    for s, places in enumerate(rows()):
        for c in range(x.shape[1]):
            total = mp.fsum(mp.exp(x[k, c]) for k in places)
            found[s, c] = mp.log(total) if total else -mp.inf
    return found


def shares(x: Any) -> Any:
    """From the definition; NaN where nothing is shared."""
    found = np.full(x.shape, mp.nan, dtype=object)
    for places in rows():
        for c in range(x.shape[1]):
            total = mp.fsum(mp.exp(x[k, c]) for k in places)
            for k in places:
                found[k, c] = mp.exp(x[k, c]) / total if total else mp.nan
    return found


def exactly(function: Callable[[Any], Any], x: NumPy) -> Any:
    with mp.workdps(oracle.DIGITS):
        return function(ulps.exactly(x))


@cache
def pulled_sums() -> Any:
    """Σ over what is finite of cotangent · value, by the entries."""

    def total(given: dict[str, Any]) -> mpf:
        values = zip(log_sums(given["x"]).flat, given["g"].flat, strict=True)
        return mp.fsum(g * v for v, g in values if mp.isfinite(v))

    return differences.gradient(total, {"x": X, "g": ulps.exactly(OF_SUMS)}, "x")


@cache
def pulled_shares() -> oracle.Sum:
    """p_i (1 - p_i) g_i - p_i Σ_{j≠i} p_j g_j, and with the absolute values of the terms."""
    value, absolute = (np.full(X.shape, mpf(0), dtype=object) for _ in range(2))
    with mp.workdps(oracle.DIGITS):
        p, g = shares(ulps.exactly(X)), ulps.exactly(OF_ENTRIES)
        for places in rows():
            for c, i in ((c, i) for c in range(4) for i in places if DEFINED[i, c]):
                others = [p[i, c] * p[j, c] * (g[i, c] - g[j, c]) for j in places if j != i]
                sizes = [p[i, c] * p[j, c] * (abs(g[i, c]) + abs(g[j, c])) for j in places if j != i]
                value[i, c], absolute[i, c] = mp.fsum(others), mp.fsum(sizes)
    return oracle.Sum(value, absolute)


def assert_defined(found: NumPy, sums: oracle.Sum, floor: float) -> None:
    """`assert_close` where softmax is defined, and NaN elsewhere."""
    np.testing.assert_array_equal(np.isnan(found), ~DEFINED)
    assert_close(np.where(DEFINED, found, 0.0), sums, dtype="float32", floor=floor)


# -- values -----------------------------------------------------------------------------------------------------------


def test_sums_are_exact(backend: Backend, dtype: str) -> None:
    """4 units; -inf of nothing. A first axis alone, or with others behind it."""
    x = np.minimum(X, 100).astype(numpy_dtype(dtype)) if dtype in HALVES else X.astype(numpy_dtype(dtype))
    ids, expected = backend.array(IDS, "int32"), exactly(log_sums, x)
    assert_exact(backend, backend.call(segment_logsumexp, backend.array(x), ids, COUNT), expected, dtype)
    column = backend.array(np.ascontiguousarray(x[:, 0]))
    assert_exact(backend, backend.call(segment_logsumexp, column, ids, COUNT), expected[:, 0], dtype)


def test_shares_are_exact(backend: Backend, dtype: str) -> None:
    x = np.minimum(X, 100).astype(numpy_dtype(dtype)) if dtype in HALVES else X.astype(numpy_dtype(dtype))
    found = backend.call(segment_softmax, backend.array(x), backend.array(IDS, "int32"), COUNT)
    assert found.dtype == backend.dtype(dtype)
    expected, got = exactly(shares, x), backend.numpy(found).astype("float64")
    bound, floor = 0.51 if dtype in HALVES else 4.0, 0.0 if dtype in HALVES else floor_of(backend)
    assert_ulps(got, expected, dtype=dtype, bound=bound, floor=floor)
    np.testing.assert_array_equal(np.isnan(got), ~DEFINED)


@pytest.mark.dtypes("int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64")
def test_ids_of_any_dtype(backend: Backend, int_dtype: str) -> None:
    x = backend.array(np.ascontiguousarray(X[:, 0]))
    expected = backend.numpy(backend.call(segment_logsumexp, x, backend.array(IDS, "int32"), COUNT))
    assert_equal(backend, backend.call(segment_logsumexp, x, backend.array(IDS, int_dtype), COUNT), expected)


@pytest.mark.backends("jax", "dask")
def test_ids_of_numpy_beside(backend: Backend) -> None:
    x = backend.array(X)
    expected = backend.numpy(backend.call(segment_softmax, x, backend.array(IDS, "int32"), COUNT))
    assert_equal(backend, backend.call(segment_softmax, x, IDS, COUNT), expected)


def test_one_segment_is_a_row(backend: Backend) -> None:
    """The values of softmax and logsumexp along the first axis; sorted ids, and one segment for each entry."""
    x = backend.array(np.where(np.isfinite(X), X, single(-5.0)))
    one, own = backend.array(np.zeros(9), "int32"), backend.array(np.arange(9), "int32")
    found = backend.numpy(backend.call(segment_logsumexp, x, one, 1))
    expected = backend.numpy(backend.call(logsumexp, x, axis=0, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=5e-7)
    found = backend.numpy(backend.call(segment_softmax, x, one, 1))
    np.testing.assert_allclose(found, backend.numpy(backend.call(softmax, x, axis=0)), rtol=1e-6, atol=1e-37)
    assert_same(backend, backend.call(segment_logsumexp, x, own, 9), x)


@pytest.mark.parametrize("sorted_ids", [True, False])
def test_long_segments(backend: Backend, sorted_ids: bool) -> None:  # noqa: FBT001
    """Sums of many are not one by one: a fourth of 400 000 entries each, in runs or in turn."""
    if backend.library == "array_api_strict":
        return  # its fallback has no order of its own
    n = 400_000
    ids = np.arange(n) // (n // 4) if sorted_ids else np.arange(n) % 4
    x = np.resize(single([0.0, -1.0, -2.0, -0.5, -4.0]), n)
    found = backend.numpy(backend.call(segment_logsumexp, backend.array(x), backend.array(ids, "int32"), 4))
    mean = (1 + mp.exp(-1) + mp.exp(-2) + mp.exp(-0.5) + mp.exp(-4)) / 5
    expected = np.asarray([mp.log(mean * (n // 4))] * 4, dtype=object)
    assert_ulps(found, expected, dtype="float32", bound=4.0)


@pytest.mark.parametrize(("n", "count"), [(0, 3), (0, 0), (2, 0)])
def test_nothing(backend: Backend, n: int, count: int) -> None:
    """No entries, no segments; without a segment no id is one."""
    x, ids = backend.array(np.ones((n, 2)), "float32"), backend.array(np.zeros(n), "int32")
    call = partial(backend.call, check=False) if n else backend.call
    value, pullback = call(vjp(segment_logsumexp), x, ids, count)
    assert_equal(backend, value, np.full((count, 2), -INF, dtype="float32"))
    by = backend.call(pullback, backend.array(np.ones((count, 2)), "float32"))
    assert_equal(backend, by, np.zeros((n, 2), dtype="float32"))
    value, pullback = call(vjp(segment_softmax), x, ids, count)
    for found in (value, backend.call(pullback, x)):
        assert_equal(backend, found, np.full((n, 2), NAN, dtype="float32"))


def test_integers_become_floating(backend: Backend) -> None:
    x, ids = backend.array([1, 2, 3], "int8"), backend.array([0, 1, 0], "int32")
    for function in (segment_logsumexp, segment_softmax):
        assert backend.numpy(backend.call(function, x, ids, 2)).dtype.name == default_float(backend)
        assert backend.numpy(backend.call(function, x, ids, 2, dtype="float32")).dtype == np.float32


def test_infinities_stay_in_their_segment(backend: Backend) -> None:
    """+inf and NaN are the sum, and their segment's derivatives NaN; shares are NaN in it."""
    x = backend.array([[0, INF, 1], [NAN, 1, 2], [3, 0, 0], [1, 2, 0]], "float32")
    ids = backend.array([1, 0, 1, 0], "int32")
    value, pullback = backend.call(vjp(segment_logsumexp), x, ids, 2)
    np.testing.assert_allclose(
        backend.numpy(value), single([[NAN, 2.3132617, 2.126928], [3.0485873, INF, 1.3132617]]), rtol=1e-6
    )
    undefined = [[False, True, False], [True, False, False], [False, True, False], [True, False, False]]
    ones = backend.array(np.ones((4, 3)), "float32")
    by = backend.call(pullback, backend.array(np.ones((2, 3)), "float32"))
    p, share_pullback = backend.call(vjp(segment_softmax), x, ids, 2)
    for found in (by, p, backend.call(share_pullback, ones)):
        np.testing.assert_array_equal(np.isnan(backend.numpy(found)), undefined)
    if backend.autodiff:
        for function in (segment_logsumexp, segment_softmax):
            (found,) = gradients(backend, lambda x, f=function: f(x, ids, 2), x)
            np.testing.assert_array_equal(np.isnan(found), undefined)


# -- derivatives ------------------------------------------------------------------------------------------------------


def test_pullbacks_are_exact(backend: Backend) -> None:
    """By sums p g of the segment, by shares p (g - Σ p g), also where a share is next to 1."""
    x, ids = backend.array(X), backend.array(IDS, "int32")
    value, pullback = backend.call(vjp(segment_logsumexp), x, ids, COUNT)
    assert_same(backend, value, backend.call(segment_logsumexp, x, ids, COUNT))
    by = backend.call(pullback, backend.array(OF_SUMS))
    assert_like(backend, by, x)
    assert_ulps(backend.numpy(by), pulled_sums(), dtype="float32", bound=4.0, floor=floor_of(backend))
    p, pullback = backend.call(vjp(segment_softmax), x, ids, COUNT)
    assert_same(backend, p, backend.call(segment_softmax, x, ids, COUNT))
    by = backend.call(pullback, backend.array(OF_ENTRIES))
    assert_like(backend, by, x)
    assert_defined(backend.numpy(by), pulled_shares(), floor_of(backend))


@AUTODIFF
def test_autodiff_is_exact(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = backend.array(IDS, "int32")
    for _ in each_way(backend, monkeypatch):
        (by,) = gradients(backend, lambda x: segment_logsumexp(x, ids, COUNT), backend.array(X), cotangent=OF_SUMS)
        assert_ulps(by, pulled_sums(), dtype="float32", bound=4.0, floor=floor_of(backend))
        (by,) = gradients(backend, lambda x: segment_softmax(x, ids, COUNT), backend.array(X), cotangent=OF_ENTRIES)
        assert_defined(by, pulled_shares(), floor_of(backend))


@AUTODIFF
def test_second_derivatives_are_exact(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of [40, 0] and [1, 2] with the ids 0, 1, 0, 1: p (1 - p) next to 1 too."""
    row, ids, g = single([40, 1, 0, 2]), np.asarray([0, 1, 0, 1]), single([1, -0.5, 2, 0.25])
    x, known, seed = backend.array(row), backend.array(ids, "int32"), backend.array(g)

    def sums(x: Array) -> Array:
        return backend.xp.sum(segment_logsumexp(x, known, 2) * backend.array(g[:2]))

    def entries(x: Array) -> Array:
        return backend.xp.sum(segment_softmax(x, known, 2) * seed)

    def exact(of: str, given: dict[str, Any]) -> mpf:
        e = [mp.exp(v) for v in given["x"]]
        totals = [e[0] + e[2], e[1] + e[3]]
        if of == "sums":
            return mp.log(totals[0]) - mp.log(totals[1]) / 2
        return mp.fsum(mpf(float(g[k])) * e[k] / totals[ids[k]] for k in range(4))

    for _ in each_way(backend, monkeypatch):
        for name, function in (("sums", sums), ("entries", entries)):
            found = hessian(backend, function, x)
            for k in range(4):
                expected = differences.second(partial(exact, name), {"x": row}, "x", np.eye(4)[k])
                np.testing.assert_allclose(found[k], expected.astype("float64"), rtol=2e-6, atol=1e-30)


@pytest.mark.backends("torch", "jax")
def test_forward_mode(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """⟨g, J t⟩ = ⟨Jᵀ g, t⟩."""
    for _ in each_way(backend, monkeypatch):
        ids, t = backend.array(IDS, "int32"), np.where(np.isfinite(X), single(np.arange(36.0).reshape(9, 4) % 5 - 2), 0)
        x, along = backend.array(np.where(DEFINED, X, single(0.0))), backend.array(t, "float32")
        for function, g in ((segment_logsumexp, OF_SUMS), (segment_softmax, OF_ENTRIES)):
            of = partial(function, segment_ids=ids, num_segments=COUNT)
            if backend.library == "torch":
                value, pushed = backend.xp.func.jvp(of, (x,), (along,))
            else:
                import jax

                value, pushed = jax.jit(lambda x, t, of=of: jax.jvp(of, (x,), (t,)))(x, along)
            kept = np.isfinite(backend.numpy(value))
            back = backend.numpy(vjp(function)(x, ids, COUNT)[1](backend.array(np.where(kept, g, single(0.0)))))
            ahead = float(np.sum(np.where(kept, backend.numpy(pushed).astype("float64") * g, 0.0)))
            assert abs(ahead - float(np.sum(back.astype("float64") * t))) <= 1e-5


@pytest.mark.backends("jax")
def test_forward_mode_of_nothing(backend: Backend) -> None:
    import jax

    for n, count in ((0, 3), (2, 0)):
        x, ids = backend.array(np.ones((n, 2)), "float32"), backend.array(np.zeros(n), "int32")
        of = partial(segment_logsumexp, segment_ids=ids, num_segments=count, check=False)
        value, pushed = jax.jvp(of, (x,), (x,))
        assert_equal(backend, value, np.full((count, 2), -INF, dtype="float32"))
        assert_equal(backend, pushed, np.zeros((count, 2), dtype="float32"))


@pytest.mark.backends("torch")
def test_torch_maps(backend: Backend) -> None:
    """Over entries, over ids, over both."""
    vmap, x, ids = backend.xp.func.vmap, backend.array(X.T), backend.array(np.stack([IDS, IDS[::-1], IDS, IDS]))
    for function in (segment_logsumexp, segment_softmax):
        expected = [function(one, of, COUNT) for one, of in zip(x, ids, strict=True)]
        found = vmap(lambda x, ids, f=function: f(x, ids, COUNT))(x, ids)
        assert_same(backend, found, backend.xp.stack(expected))
        again = vmap(lambda x, f=function: f(x, ids[0], COUNT))(x)
        assert_same(backend, again[0], expected[0])
    total = backend.xp.func.grad(lambda x, ids, g: backend.xp.sum(segment_softmax(x, ids, COUNT) * g))
    rows, g = x[:3], backend.array(OF_ENTRIES.T)[:3]
    pulled = pulled_shares()
    found = backend.numpy(vmap(total)(rows, ids[[0, 0, 0]], g)).T
    assert_close(found, oracle.Sum(pulled.value[:, :3], pulled.absolute[:, :3]), dtype="float32")


@pytest.mark.backends("jax")
def test_jax_maps(backend: Backend) -> None:
    import jax

    x, ids = backend.array(X.T), backend.array(np.stack([IDS, IDS[::-1], IDS, IDS]), "int32")
    found = jax.jit(jax.vmap(lambda x, ids: segment_softmax(x, ids, COUNT)))(x, ids)
    expected = segment_softmax(x[0], ids[0], COUNT)
    np.testing.assert_allclose(backend.numpy(found[0]), backend.numpy(expected), rtol=1e-6)


@pytest.mark.backends("numpy-readonly", "torch")
def test_blocks_are_the_same(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """However columns are cut; a first axis is never."""
    x, ids, g, h = (backend.array(v) for v in (X, IDS, OF_SUMS, OF_ENTRIES))

    def everything() -> tuple[Array, ...]:
        value, pullback = vjp(segment_logsumexp)(x, ids, COUNT)
        p, of_shares = vjp(segment_softmax)(x, ids, COUNT)
        return value, pullback(g), p, of_shares(h)

    expected = everything()
    monkeypatch.setattr("softxent.backends.blocks.WIDE", 1)
    for entries in (20, 1):
        monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.entries", entries)
        assert_same(backend, everything(), expected)
    monkeypatch.undo()
    monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.worth_moving", 0)
    for one, other in zip(everything(), expected, strict=True):
        np.testing.assert_allclose(backend.numpy(one), backend.numpy(other), rtol=1e-6)


def test_the_first_axis_of_several(backend: Backend) -> None:
    """Axes behind the first are places of their own; memory in any order."""
    cube = np.where(np.isfinite(X), X, single(-5.0)).reshape(9, 2, 2)
    ids = backend.array(IDS, "int32")
    flat = backend.numpy(backend.call(segment_softmax, backend.array(cube.reshape(9, 4)), ids, COUNT))
    found = backend.numpy(backend.call(segment_softmax, backend.array(cube), ids, COUNT))
    np.testing.assert_allclose(found, flat.reshape(9, 2, 2), rtol=1e-6)
    if backend.library in {"numpy", "torch"}:
        x = backend.array(cube.transpose(2, 1, 0))
        strided = x.T if backend.library == "numpy" else x.permute(2, 1, 0)
        np.testing.assert_array_equal(backend.numpy(segment_softmax(strided, ids, COUNT)), found)


# -- ids that are none ------------------------------------------------------------------------------------------------

BAD = np.where(np.arange(9) == 3, COUNT, np.where(np.arange(9) == 6, -1, IDS))


def test_ids_out_of_range_are_seen(backend: Backend) -> None:
    """Unread they make their entries' shares NaN, and all sums: they never wrap, and add nothing to any segment."""
    x, ids = backend.array(np.where(DEFINED, X, single(0.0))), backend.array(BAD, "int32")
    bad = np.isin(np.arange(9), [3, 6])
    p, pullback = backend.call(vjp(segment_softmax), x, ids, COUNT, check=False)
    by = backend.call(pullback, backend.array(np.where(bad[:, None], single(NAN), OF_ENTRIES)))
    rest = [backend.array(np.ascontiguousarray(v[~bad])) for v in (backend.numpy(x), IDS.astype("int32"), OF_ENTRIES)]
    q, pullback = backend.call(vjp(segment_softmax), rest[0], rest[1], COUNT)
    for found, expected in ((p, q), (by, backend.call(pullback, rest[2]))):
        assert np.isnan(backend.numpy(found)[bad]).all()
        np.testing.assert_allclose(backend.numpy(found)[~bad], backend.numpy(expected), rtol=1e-5, atol=1e-7)
    value, pullback = backend.call(vjp(segment_logsumexp), x, ids, COUNT, check=False)
    assert np.isnan(backend.numpy(value)).all()
    assert np.isnan(backend.numpy(backend.call(pullback, backend.array(OF_SUMS)))).all()
    if backend.autodiff:
        (by,) = gradients(backend, lambda x: segment_logsumexp(x, ids, COUNT, check=False), x)
        assert np.isnan(by).all()
        (by,) = gradients(backend, lambda x: segment_softmax(x, ids, COUNT, check=False), x)
        np.testing.assert_array_equal(np.isnan(by), np.broadcast_to(bad[:, None], (9, 4)))


def test_traced_ids_in_range_do_no_harm(backend: Backend) -> None:
    """Unread, but good: the values and derivatives of those that were read."""
    x, ids = backend.array(X), backend.array(IDS, "int32")
    for function, g in ((segment_logsumexp, OF_SUMS), (segment_softmax, OF_ENTRIES)):
        value, pullback = backend.call(vjp(function), x, ids, COUNT)
        unread, unread_pullback = backend.call(vjp(function), x, ids, COUNT, check=False)
        np.testing.assert_allclose(backend.numpy(unread), backend.numpy(value), rtol=1e-6)
        found, expected = (backend.numpy(f(backend.array(g))) for f in (unread_pullback, pullback))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_ids_out_of_range_are_refused(backend: Backend) -> None:
    """Where they can be read for free, or are to be; with the value and the place of the first."""
    x, ids = backend.array(X), backend.array(BAD, "int32")
    check = None if backend.readable else True
    for function in (segment_logsumexp, segment_softmax):
        with pytest.raises(
            ValueError,
            match=r"segment_ids must be from 0 to 5, got 6 at position 3; to leave an entry out make it -inf",
        ):
            function(x, ids, COUNT, check=check)
    with pytest.raises(ValueError, match=r"segment_ids must be absent where num_segments is 0, got 2 at position 0"):
        segment_softmax(x, backend.array(IDS, "int32"), 0, check=check)
    if "uint64" in backend.ints:
        with pytest.raises(ValueError, match=rf"got {2**64 - 1} at position 1"):
            segment_softmax(x, backend.array([0, 2**64 - 1, *[0] * 7], "uint64"), COUNT, check=check)


@pytest.mark.backends("jax")
def test_check_needs_values(backend: Backend) -> None:
    import jax

    with pytest.raises(ValueError, match=r"check=True must read the values of segment_ids, got a traced array"):
        jax.jit(partial(segment_softmax, num_segments=COUNT, check=True))(backend.array(X), backend.array(IDS, "int32"))


@pytest.mark.backends("dask")
def test_dask_needs_to_know_how_many_entries(backend: Backend) -> None:
    x = backend.array(X[:, 0])
    with pytest.raises(ValueError, match=r"x must have a known number of classes, got an unknown size along axis 0"):
        segment_logsumexp(x[x > 0], backend.array(IDS, "int32"), COUNT)


@pytest.mark.backends("numpy", "torch", "jax", "dask")
def test_errors(backend: Backend) -> None:
    x, ids = backend.array(X), backend.array(IDS, "int32")
    with pytest.raises(TypeError, match=r"logits must be an array, got list; wrap it"):
        segment_softmax([1.0], ids, 2)
    with pytest.raises(TypeError, match=r"segment_ids must be an array of integers, got 0; pass one for each entry"):
        segment_softmax(x, 0, 2)
    with pytest.raises(TypeError, match=r"segment_ids must be of an integer dtype, got float32; cast them"):
        segment_logsumexp(x, x[:, 0], 2)
    with pytest.raises(TypeError, match=r"num_segments must be an int, got 2.0; a shape has to be known"):
        segment_logsumexp(x, ids, 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num_segments must be at least 0, got -1"):
        segment_logsumexp(x, ids, -1)
    with pytest.raises(ValueError, match=r"segment_ids must have shape \(9,\), .* first axis of x, got \(3,\)"):
        segment_logsumexp(x, ids[:3], COUNT)
    with pytest.raises(ValueError, match=r"segment_ids must have shape \(9,\), .* first axis of logits, got \(9, 4\)"):
        segment_softmax(x, backend.array(np.zeros((9, 4)), "int32"), COUNT)
    with pytest.raises(ValueError, match=r"x must have a first axis to be cut into segments, got a 0-d array"):
        segment_logsumexp(backend.array(1.0, "float32"), ids, COUNT)
    with pytest.raises(TypeError, match=r"check must be True, False or None, got 1"):
        segment_logsumexp(x, ids, COUNT, check=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"grad must be given a function of one value.*pass a cotangent to vjp"):
        grad(segment_logsumexp)


# -- laws -------------------------------------------------------------------------------------------------------------


@given(
    ids=st.lists(st.integers(0, COUNT - 1), min_size=9, max_size=9),
    values=st.lists(st.floats(-60, 60, width=32), min_size=9, max_size=9),
    order=st.permutations(range(9)),
)
@pytest.mark.dtypes("float32")
def test_order_does_not_matter(backend: Backend, dtype: str, ids: Any, values: Any, order: Any) -> None:
    """Shares move with their entries and add up to 1 in every segment; sums stay."""
    x, of = single(values), np.asarray(ids, dtype="int32")
    sums, p = (
        backend.numpy(backend.call(f, backend.array(x), backend.array(of), COUNT))
        for f in (segment_logsumexp, segment_softmax)
    )
    moved_x, moved_of = backend.array(x[order]), backend.array(of[order])
    moved = backend.numpy(backend.call(segment_softmax, moved_x, moved_of, COUNT))
    np.testing.assert_allclose(moved, p[order], rtol=8 * ulps.eps(dtype), atol=1e-37)
    again = backend.numpy(backend.call(segment_logsumexp, moved_x, moved_of, COUNT))
    np.testing.assert_allclose(again, sums, rtol=4 * ulps.eps(dtype), atol=64 * ulps.eps(dtype))
    held = np.bincount(of, minlength=COUNT) > 0
    np.testing.assert_allclose(np.bincount(of, p, COUNT), held, rtol=1e-5)
    np.testing.assert_array_equal(np.isfinite(sums), held)
