"""What TensorFlow does to the functions: tapes, nested and forward, graphs, XLA, unknown sizes, variables.

First derivatives are held against exact ones (`derivatives`, `oracle`), second ones against finite differences of the
oracle. Collected where TensorFlow is asked for: `pytest --backend tensorflow`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derivatives import (
    BY_NAME,
    CASES,
    COTANGENT,
    NAMES,
    Case,
    assert_close,
    assert_gradient,
    assert_ulps,
    hessian,
    row_gaps,
    second_derivative,
    tangent,
)
from every import COUNTED, DIFFERENTIABLE, EVERY, WEIGHTS, cotangent, expected

from softxent import (
    cross_entropy,
    cross_entropy_from_probs,
    focal_loss,
    hvp,
    logsumexp,
    segment_logsumexp,
    softmax,
    value_and_grad,
    vjp,
)
from softxent.backends import backend_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

pytestmark = pytest.mark.backends("tensorflow")

Array = Any

FLUSHED = 16.0  # smallest normal numbers that may be flushed to 0 in a sum of a few terms
HOW: dict[str, dict[str, Any]] = {"graph": {}, "xla": {"jit_compile": True}}
compiled = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


# -- helpers ----------------------------------------------------------------------------------------------------------


def arrays(backend: Backend, case: Case, dtype: str) -> dict[str, Array]:
    return {name: backend.array(array) for name, array in case.arrays(dtype).items()}


def rows(arguments: dict[str, Array]) -> Array:
    """One loss a row."""
    options = {name: value for name, value in arguments.items() if name not in {"logits", "labels"}}
    return cross_entropy(arguments["logits"], arguments["labels"], reduction="none", **options)


def weighed(backend: Backend, arguments: dict[str, Array]) -> Array:
    """Σ cotangent · row."""
    losses = rows(arguments)
    return backend.tf.reduce_sum(losses * backend.tf.constant(COTANGENT, losses.dtype))  # type: ignore[attr-defined]


def gradients(backend: Backend, arguments: dict[str, Array], by: tuple[str, ...]) -> dict[str, Array]:
    """Its derivatives by a tape."""
    tf = backend.tf  # type: ignore[attr-defined]
    moving = {name: arguments[name] for name in by}
    with tf.GradientTape() as tape:
        tape.watch(moving)
        total = weighed(backend, arguments)
    found: dict[str, Array] = tape.gradient(total, moving, unconnected_gradients="zero")
    return found


def unknown(tf: Any, x: Array) -> Any:
    """A tensor's specification but for the number of rows."""
    return tf.TensorSpec([None, *x.shape[1:]] if x.ndim else [], x.dtype)


def assert_equal(found: Any, expected: Any, *, ulp: float = 4.0) -> None:
    """Within units in the last place of the largest of them, NaN and infinity in the same places."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    finite = expected[np.isfinite(expected)]
    size = float(np.max(np.abs(finite), initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ulp * 2.0**-23 * max(size, 1e-30))


# -- derivatives ------------------------------------------------------------------------------------------------------


def test_confident_prediction(backend: Backend) -> None:
    """8.4967e-18 in float32, and its negative is the derivative at the target."""
    tf = backend.tf  # type: ignore[attr-defined]
    x = backend.array([40, 0, 0], "float32")

    def both(x: Array) -> tuple[Array, Array]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = cross_entropy(x, 0)
        return loss, tape.gradient(loss, x)

    for call in (both, tf.function(both), tf.function(both, jit_compile=True)):
        loss, gradient = map(backend.numpy, call(x))
        assert float(loss) == pytest.approx(8.4967e-18, rel=1e-5)
        np.testing.assert_allclose(gradient, [-8.4967e-18, 4.24835e-18, 4.24835e-18], rtol=1e-5)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradient_of_a_tape_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    found = gradients(backend, arrays(backend, case, dtype), case.by)
    for name in case.by:
        assert_gradient(case, name, backend.numpy(found[name]), dtype=dtype, floor=FLUSHED)


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradient_of_a_graph_is_exact(backend: Backend, dtype: str, case: Case) -> None:
    """All arguments are symbolic, ignore_index and the numbers among them; tape and graph inside one another."""
    tf, given = backend.tf, arrays(backend, case, dtype)  # type: ignore[attr-defined]
    inside = tf.function(lambda given: gradients(backend, given, case.by))(given)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.function(partial(weighed, backend))(given)
    outside = tape.gradient(total, {name: given[name] for name in case.by}, unconnected_gradients="zero")
    for found in (inside, outside):
        for name in case.by:
            assert_gradient(case, name, backend.numpy(found[name]), dtype=dtype, floor=FLUSHED)


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("name", ["plain", "infinities", "where-logits", "soft-zeros"])
def test_gradient_under_xla_is_exact(backend: Backend, dtype: str, name: str) -> None:
    tf, case = backend.tf, BY_NAME[name]  # type: ignore[attr-defined]
    found = tf.function(lambda given: gradients(backend, given, case.by), jit_compile=True)(
        arrays(backend, case, dtype)
    )
    for one in case.by:
        assert_gradient(case, one, backend.numpy(found[one]), dtype=dtype, floor=FLUSHED)


TWICE = ("infinities", "soft", "soft-zeros", "temperature-classes", "everything")
# A forward accumulator gives what has no tangent one of 0 and multiplies by that: -inf over a temperature makes it NaN.
FORWARD_OVER_TAPE = ("infinities", "soft", "soft-zeros")


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(backend: Backend, dtype: str, name: str) -> None:
    """Tape over tape, forward over tape and tape over forward, eager and of a graph."""
    tf, case = backend.tf, BY_NAME[name]  # type: ignore[attr-defined]
    given = arrays(backend, case, dtype)
    along = {one: backend.array(tangent(case, one), dtype) for one in case.by}

    def tape_over_tape(given: dict[str, Array]) -> dict[str, Array]:
        moving = {one: given[one] for one in case.by}
        with tf.GradientTape() as tape:
            tape.watch(moving)
            first = gradients(backend, given, case.by)
            projected = sum(tf.reduce_sum(first[one] * along[one]) for one in case.by)
        found: dict[str, Array] = tape.gradient(projected, moving, unconnected_gradients="zero")
        return found

    def forward_over_tape(given: dict[str, Array]) -> dict[str, Array]:
        moving = [given[one] for one in case.by]
        with tf.autodiff.ForwardAccumulator(moving, list(along.values())) as accumulator:
            first = gradients(backend, given, case.by)
        return {one: accumulator.jvp(x, unconnected_gradients="zero") for one, x in first.items()}

    def tape_over_forward(given: dict[str, Array]) -> dict[str, Array]:
        moving = {one: given[one] for one in case.by}
        with tf.GradientTape() as tape:
            tape.watch(moving)
            with tf.autodiff.ForwardAccumulator(list(moving.values()), list(along.values())) as accumulator:
                total = weighed(backend, given)
            pushed = accumulator.jvp(total)
        found: dict[str, Array] = tape.gradient(pushed, moving, unconnected_gradients="zero")
        return found

    expected = second_derivative(case, case.by)
    ways = [tape_over_tape, tape_over_forward, tf.function(tape_over_tape)]
    if name in FORWARD_OVER_TAPE:
        ways.append(forward_over_tape)
    for twice in ways:
        found = twice(given)
        for one in case.by:
            right = expected[one].astype(float)
            np.testing.assert_allclose(backend.numpy(found[one]), right, rtol=1e-12, atol=1e-13, err_msg=one)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", ["plain", "infinities", "ignored", "where-logits", "weight", "sample-weight-of-nan"])
def test_hessian(backend: Backend, dtype: str, name: str) -> None:
    """Exact, each row by itself, by pfor and by a loop."""
    tf, case = backend.tf, BY_NAME[name]  # type: ignore[attr-defined]
    given = arrays(backend, case, dtype)
    x, others = given["logits"], {key: value for key, value in given.items() if key != "logits"}
    sums, gap = hessian(case), row_gaps(case)[:, None]
    for pfor in (True, False):
        with tf.GradientTape(persistent=not pfor) as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(rows({"logits": x, **others}))
            first = tape.gradient(total, x)
        second = backend.numpy(outer.batch_jacobian(first, x, experimental_use_pfor=pfor))
        assert_close(second, sums, dtype=dtype, gap=gap, floor=FLUSHED)


@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("label", [0, 1], ids=["hit", "miss"])
def test_hessian_keeps_every_digit(backend: Backend, dtype: str, label: int) -> None:
    tf, case = backend.tf, Case("gap", [[40, 0, 0]], [label])  # type: ignore[attr-defined]
    x, labels = arrays(backend, case, dtype).values()
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = cross_entropy(x, labels, reduction="sum")
        first = tape.gradient(total, x)
    second = backend.numpy(outer.batch_jacobian(first, x))
    assert_ulps(second, hessian(case).value, dtype=dtype, bound=8.0, floor=FLUSHED)


def test_by_products_are_differentiated(backend: Backend) -> None:
    """They leave the closed form; the loss beside them has the derivative that it has without them."""
    tf, given = backend.tf, arrays(backend, BY_NAME["plain"], "float64")  # type: ignore[attr-defined]
    x, labels = given["logits"], given["labels"]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        alone = cross_entropy(x, labels)
        loss, aux = cross_entropy(x, labels, aux=("lse", "entropy"))
    np.testing.assert_allclose(tape.gradient(loss, x), tape.gradient(alone, x), rtol=1e-14)
    np.testing.assert_allclose(tape.gradient(aux["lse"], x), softmax(x), rtol=1e-14)


def test_closed_forms(backend: Backend) -> None:
    """value_and_grad, vjp and hvp give what tapes give."""
    tf = backend.tf  # type: ignore[attr-defined]
    x, labels = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"), backend.array([2, 0], "int32")
    v = backend.array([[1, 2, -1], [0.5, 0, 1]], "float32")
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = cross_entropy(x, labels)
        first = tape.gradient(loss, x)
        along = tf.reduce_sum(first * v)
    value, gradient = value_and_grad(cross_entropy)(x, labels)
    assert_equal(value, loss)
    assert_equal(gradient, first)
    assert_equal(hvp(cross_entropy)(x, labels, vector=v), outer.gradient(along, x))
    with tf.GradientTape() as tape:
        tape.watch(x)
        p = softmax(x)
    assert_equal(vjp(softmax)(x)[1](v), tape.gradient(p, x, v))


@compiled
def test_closed_forms_compiled(backend: Backend, how: dict[str, Any]) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    x, labels = backend.array([[0.5, -1.25, 2], [1, 1, -0.5]], "float32"), backend.array([2, 0], "int32")
    f = tf.function(value_and_grad(cross_entropy), input_signature=[unknown(tf, x), unknown(tf, labels)], **how)
    for found, right in zip(f(x, labels), value_and_grad(cross_entropy)(x, labels), strict=True):
        assert_equal(found, right)


# -- graphs -----------------------------------------------------------------------------------------------------------

X = np.asarray([[0.5, -1.25, 2], [1, 1, -0.5], [40, 0, 0], [0, 3, 0.25]])
P = np.asarray([[0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.125, 0.75, 0.125]])
Q = np.asarray([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.75, 0.125, 0.125], [0.125, 0.75, 0.125]])
T = np.asarray([2, 0, 1, 1], dtype="int32")

XLA = ("softmax", "logsumexp", "cross_entropy", "entmax", "kl_divergence", "binary_cross_entropy", "segment_softmax")


@pytest.mark.parametrize(
    ("name", "how"), [*((name, {}) for name in EVERY), *((name, {"jit_compile": True}) for name in XLA)]
)
def test_unknown_batch_size(backend: Backend, name: str, how: dict[str, Any]) -> None:
    """Values and derivatives are those of NumPy, whatever the number of rows turns out to be."""
    tf, (function, arrays) = backend.tf, EVERY[name]  # type: ignore[attr-defined]
    value, pulled = expected(name) if name in DIFFERENTIABLE else (function(*arrays), None)
    first, *others = map(backend.array, arrays)

    def both(g: Array, first: Array, *others: Array) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(first)
            value = function(first, *others)
        return value, tape.gradient(value, first, g) if pulled is not None else None

    g = backend.array(cotangent(value))
    given = (g, first, *others)
    fixed = range(-1, len(arrays)) if name in COUNTED else WEIGHTS.get(name, ())  # g is before the arrays
    signature = [tf.TensorSpec(x.shape, x.dtype) if n in fixed else unknown(tf, x) for n, x in enumerate(given, -1)]
    traced = tf.function(both, input_signature=signature, **how)
    room = {"rtol": 4e-6, "atol": 2e-6 * np.abs(value).max(initial=0)}
    for found in (traced(*given), both(*given)):
        np.testing.assert_allclose(found[0], value, **room)
        if pulled is not None:
            np.testing.assert_allclose(found[1], pulled, rtol=4e-6, atol=2e-6 * np.abs(pulled).max(initial=0))
    if name not in COUNTED and np.shape(value):
        few = traced(*(x if n in fixed else x[:2] for n, x in enumerate(given, -1)))
        np.testing.assert_allclose(few[0], np.asarray(value)[:2], **room)


@compiled
def test_unknown_sizes_and_options(backend: Backend, how: dict[str, Any]) -> None:
    """Two unknown sizes, masks, weights, every reduction."""
    tf = backend.tf  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    x, t = backend.array(rng.normal(size=(4, 3, 5)), "float32"), backend.array(rng.integers(0, 5, (4, 3)), "int32")
    mask, weight = backend.array(rng.random((4, 3)) < 0.75), backend.array(rng.random((4, 3)), "float32")
    free = [tf.TensorSpec([None, None, 5]), tf.TensorSpec([None, None], tf.int32)]
    options = [tf.TensorSpec([None, None], tf.bool), tf.TensorSpec([None, None])]

    def losses(x: Array, t: Array, mask: Array, weight: Array) -> Any:
        given = {"where": mask, "sample_weight": weight, "label_smoothing": 0.125}
        return [cross_entropy(x, t, reduction=kind, **given) for kind in ("none", "sum", "mean", "sum_and_weight")]

    found = tf.function(losses, input_signature=free + options, **how)(x, t, mask, weight)
    for one, right in zip(tf.nest.flatten(found), tf.nest.flatten(losses(x, t, mask, weight)), strict=True):
        assert_equal(one, right, ulp=8.0)


def test_several_class_axes_beside_an_unknown_size(backend: Backend) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    x = backend.array(np.random.default_rng(0).normal(size=(4, 3, 5)), "float32")

    def several(x: Array) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = [softmax(x, axis=(0, 2)), logsumexp(x, axis=(2, 0), keepdims=True)]
        return [*found, tape.gradient(found[1], x)]

    traced = tf.function(several, input_signature=[tf.TensorSpec([4, None, 5])])
    for found, right in zip(traced(x), several(x), strict=True):
        assert_equal(found, right, ulp=8.0)


def test_an_unknown_number_of_classes_is_refused(backend: Backend) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    traced = tf.function(softmax, input_signature=[tf.TensorSpec([3, None])])
    with pytest.raises(ValueError, match="must have a known number of classes"):
        traced(backend.array(X[:3], "float32"))


def test_labels_in_a_graph_are_not_looked_at(backend: Backend) -> None:
    """They make NaN of their row. Labels that a graph closes over are looked at."""
    tf, x = backend.tf, backend.array(X, "float32")  # type: ignore[attr-defined]
    wrong = backend.array([0, 3, -1, 1], "int32")
    found = backend.numpy(tf.function(partial(cross_entropy, reduction="none"))(x, wrong))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True, False])
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        tf.function(lambda x: cross_entropy(x, wrong))(x)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3 at position 1"):
        cross_entropy(x, wrong)
    with pytest.raises(ValueError, match=r"check=True must read the values of .*, got a traced array"):
        tf.function(partial(cross_entropy, check=True))(x, wrong)


def test_one_trace_for_all_sizes(backend: Backend) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    f = tf.function(cross_entropy, input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32)])
    for size in (4, 3, 0):
        f(backend.array(X[:size], "float32"), backend.array(T[:size]))
    assert f.experimental_get_tracing_count() == 1


def test_vectorized_map(backend: Backend) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    x, labels = backend.array(X, "float32"), backend.array(T)
    found = tf.vectorized_map(lambda given: cross_entropy(*given), (x, labels))
    assert_equal(found, cross_entropy(x, labels, reduction="none"))


# -- tensors and what is none -----------------------------------------------------------------------------------------


def test_numpy_behaviour_stays_off(backend: Backend) -> None:
    x = backend.array(X, "float32")
    softmax(x)
    for name in ("T", "reshape", "astype", "__array_namespace__"):
        assert not hasattr(x, name)


def test_variables(backend: Backend) -> None:
    """They are read, and watched without being told to; a mask and weights may be variables too."""
    tf = backend.tf  # type: ignore[attr-defined]
    logits, weight = tf.Variable(X, dtype=tf.float32), tf.Variable([1.0, 2.0, 0.5], dtype=tf.float32)
    labels, fixed = tf.Variable(T), backend.array(X, "float32")
    with tf.GradientTape() as tape:
        loss = cross_entropy(logits, labels, weight=weight)
    found = tape.gradient(loss, [logits, weight])
    right = value_and_grad(cross_entropy, (0, "weight"))(
        fixed, backend.array(T), weight=backend.array([1, 2, 0.5], "float32")
    )
    assert_equal(loss, right[0])
    for one, slope in zip(found, right[1], strict=True):
        assert_equal(one, slope)
    value, gradient = value_and_grad(cross_entropy)(logits, labels, weight=weight)
    assert isinstance(gradient, tf.Tensor)
    assert_equal(value, right[0])
    traced = tf.function(lambda: cross_entropy(logits, labels, weight=weight))
    assert_equal(traced(), right[0])
    assert_equal(vjp(softmax)(logits)[1](fixed), vjp(softmax)(fixed)[1](fixed))


def test_numpy_beside_tensors(backend: Backend) -> None:
    x = backend.array(X, "float32")
    assert_equal(cross_entropy(x, T), cross_entropy(x, backend.array(T)))
    assert_equal(softmax(x, where=X > 0), softmax(x, where=backend.array(X > 0)))
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 7 at position 0"):
        cross_entropy(x, np.asarray([7, 0, 0, 0]))


def test_tensors_that_are_none(backend: Backend) -> None:
    tf = backend.tf  # type: ignore[attr-defined]
    x = backend.array(X, "float32")
    for odd, remedy in (
        (tf.ragged.constant([[1.0, 2.0], [3.0]]), r"a RaggedTensor; pass its \.to_tensor\(\)"),
        (tf.sparse.from_dense(x), r"a SparseTensor; pass tf\.sparse\.to_dense"),
        (tf.IndexedSlices(x, backend.array(T)), r"IndexedSlices; pass tf\.convert_to_tensor"),
    ):
        with pytest.raises(TypeError, match=f"logits must be a plain array, got {remedy}"):
            softmax(odd)
    traced = tf.function(softmax, input_signature=[tf.TensorSpec(None)])
    with pytest.raises(TypeError, match=r"got one of unknown rank; pass tf\.ensure_shape"):
        traced(x)


@pytest.mark.parametrize("how", [None, {}, {"jit_compile": True}], ids=["eager", "graph", "xla"])
def test_long_sums_keep_their_digits(backend: Backend, how: dict[str, Any] | None) -> None:
    """70 000 equal logits, and as many rows, along either axis; XLA and Eigen add one by one."""
    tf, size = backend.tf, 70_000  # type: ignore[attr-defined]
    x, labels = backend.array(np.zeros((size, 2)), "float32"), backend.array([0, 1], "int32")

    def each(x: Array) -> tuple[Array, ...]:
        loss = cross_entropy(tf.transpose(x), labels)
        rows = cross_entropy(x, tf.zeros_like(x[:, 0], tf.int32), reduction="sum")
        return logsumexp(x, axis=0)[0], logsumexp(tf.transpose(x))[0], loss, rows

    call = each if how is None else tf.function(each, **how)
    for found, right in zip(call(x), [np.log(size)] * 3 + [size * np.log(2.0)], strict=True):
        assert abs(float(found) - right) <= 2 * np.spacing(np.float32(right))
    signature = [tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int32)]
    free = tf.function(partial(cross_entropy, reduction="sum"), input_signature=signature, **(how or {}))
    assert float(free(x, tf.zeros(size, tf.int32))) == pytest.approx(size * np.log(2.0), rel=2e-6)


def test_segments_without_entries_and_with_nan(backend: Backend) -> None:
    x = backend.array([1.0, np.nan, -np.inf, 2.0, -np.inf], "float32")
    found = backend.numpy(segment_logsumexp(x, backend.array([0, 1, 2, 0, 3], "int32"), 5))
    np.testing.assert_allclose(found, [np.logaddexp(1, 2), np.nan, -np.inf, -np.inf, -np.inf], rtol=1e-6)


def test_the_classic_loss(backend: Backend) -> None:
    """reduce_mean(-reduce_sum(y * log(p), axis=1)) is cross_entropy_from_probs, which has no NaN at p = 0."""
    tf = backend.tf  # type: ignore[attr-defined]
    p, y = backend.array(Q, "float32"), backend.array(P, "float32")
    assert_equal(cross_entropy_from_probs(p, y), tf.reduce_mean(-tf.reduce_sum(y * tf.math.log(p), axis=1)))
    p = backend.array([[1.0, 0.0, 0.0]], "float32")
    assert np.isnan(backend.numpy(tf.reduce_mean(-tf.reduce_sum(p * tf.math.log(p), axis=1))))
    assert float(cross_entropy_from_probs(p, p)) == 0


def test_training(backend: Backend) -> None:
    """A linear classifier learns, in a compiled step."""
    tf, rng = backend.tf, np.random.default_rng(0)  # type: ignore[attr-defined]
    means = np.asarray([[2.0, 0], [-2, 0], [0, 3]])
    labels = backend.array(rng.integers(0, 3, 90), "int64")
    points = backend.array(means[backend.numpy(labels)] + rng.normal(size=(90, 2)), "float32")
    weights = tf.Variable(tf.zeros([2, 3]))

    @tf.function  # type: ignore[untyped-decorator] # TensorFlow's annotations are left out
    def step() -> Array:
        with tf.GradientTape() as tape:
            loss = focal_loss(tf.matmul(points, weights), labels, gamma=1.0)
        weights.assign_sub(tape.gradient(loss, weights))
        return loss

    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_copysign_knows_minus_zero(backend: Backend) -> None:
    for dtype in ("float32", "float64"):
        one = backend.array([1.0, -2.0, 3.0, 0.0], dtype)
        sign: Callable[..., Array] = backend_of(one).copysign  # type: ignore[union-attr]
        found = backend.numpy(sign(one, backend.array([-0.0, 0.0, -1.0, -5.0], dtype)))
        np.testing.assert_array_equal(np.signbit(found), [True, False, True, True])
        np.testing.assert_array_equal(np.abs(found), [1, 2, 3, 0])
