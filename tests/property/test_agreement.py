"""Agreement: every backend with the exact result, for the same draws, in units in the last place.

One draw, one exact result (`oracle`), one tolerance an entry (`bounds`), and then every selected backend: on jax under
jit, on Dask without a single compute, with 50 digits on mparray. Values first, then derivatives by torch's and jax's
autodiff, then a few large deterministic cases.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from matrix import FRAMEWORKS, HALVES, Backend, numpy_dtype
from mpmath import mp, mpf
from property import bounds
from property.inputs import KINDS, SHAPES, Batch, Call, batches, calls, compute_dtype, rounded
from ulps import difference, eps, exactly, spacing

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable

    from oracle import Exact

PRECISIONS = ("float16", "bfloat16", "float32", "float64")
EXACT = mpf(10) ** -38  # mparray has 50 digits; offsets and gaps of 1e8 may take some

precision = pytest.mark.parametrize("dtype", PRECISIONS)
# Derivatives by torch's autograd, by jax's transformations, and by ours: on everything but jax, which compiles too much
# for that (`test_gradients` has it).
differentiable = pytest.mark.backends("autodiff", "numpy-readonly")


def examples(ci: int, dtype: str, backend: Backend | None = None) -> settings:
    """So many examples in the ci profile, in proportion in the others; fewer of halves, and where each is compiled."""
    if dtype in HALVES:
        ci = ci // 4
    if backend is not None and backend.autodiff == "jax":
        ci = ci // 4
    return settings(max_examples=max(3, ci * settings().max_examples // 30))


def shapes_for(dtype: str) -> Any:
    """All shapes in float32, three in float64, one in halves: shapes and dtypes do not mix into new mistakes."""
    return {"float32": SHAPES, "float64": SHAPES[3:6]}.get(dtype, SHAPES[3:4])


# How a call runs on a backend.

_COMPILED: dict[Any, Callable[..., Any]] = {}


def applied(backend: Backend, function: Callable[..., Any], arguments: dict[str, Any], **static: Any) -> Any:
    """`function(**arguments, **static)`; on jax compiled once for every structure, with Python numbers as operands."""
    if backend.autodiff != "jax":
        return backend.call(partial(function, **static), **arguments)
    key = (backend.name, function, *sorted(static.items()))
    if key not in _COMPILED:
        _COMPILED[key] = backend.compiled(partial(function, **static))
    return _COMPILED[key](**arguments)


def pulled(
    backend: Backend,
    function: Callable[..., Any],
    arguments: dict[str, Any],
    by: list[str],
    seed: Any,
    *,
    ours: bool,
    **static: Any,
) -> tuple[Any, dict[str, Any]]:
    """The result and the derivatives of Σ seed · result by the arguments named, by the library or by us (``ours``)."""
    if ours:
        result, back = backend.call(softxent.vjp(function, tuple(by)), **arguments, **static)
        return result, dict(zip(by, backend.call(back, seed), strict=True))
    if backend.autodiff == "torch":
        leaves = {name: arguments[name].detach().clone().requires_grad_() for name in by}
        result = function(**{**arguments, **leaves}, **static)
        grad = backend.xp.autograd.grad(result, list(leaves.values()), seed, materialize_grads=True, allow_unused=True)
        return result.detach(), dict(zip(by, grad, strict=True))
    if backend.autodiff in FRAMEWORKS:
        result, found = backend.pulled(
            lambda *leaves: function(**{**arguments, **dict(zip(by, leaves, strict=True))}, **static),
            [arguments[name] for name in by],
            backend.numpy(seed),
        )
        return result, {name: backend.array(x) for name, x in zip(by, found, strict=True)}
    key = (backend.name, function, tuple(by), *sorted(static.items()))
    if key not in _COMPILED:
        import jax

        def pull(leaves: dict[str, Any], others: dict[str, Any], seed: Any) -> Any:
            result, back = jax.vjp(lambda leaves: function(**leaves, **others, **static), leaves)
            return result, back(seed)[0]

        _COMPILED[key] = jax.jit(pull)
    leaves = {name: arguments[name] for name in by}
    others = {name: value for name, value in arguments.items() if name not in by}
    result, grads = _COMPILED[key](leaves, others, seed)
    return result, grads


def taking(members: list[Backend], batch: Batch) -> list[Backend]:
    """Those whose turn it is: each structure of a call costs jax a compilation, so it sees values of one shape only."""
    return [backend for backend in members if backend.autodiff != "jax" or batch.shape == SHAPES[3][0]]


def beside(backend: Backend, backends: list[Backend], dtype: str) -> list[Backend]:
    """The backend; or, in place of NumPy, all whose derivatives are to be ours, for the same draws."""
    if backend.autodiff:
        return [backend]
    return [one for one in having(backends, dtype) if one.autodiff != "jax" and not one.exact]


def having(backends: list[Backend], dtype: str) -> list[Backend]:
    return [backend for backend in backends if dtype in backend.floats]


# How a result is compared.


def assert_within(
    backend: Backend, what: str, result: Any, exact: Exact, tolerance: Exact, dtype: str, flush: mpf | float = 0.0
) -> None:
    """Every entry is as near to exact as the tolerance says; up to terms that are flushed, as XLA does."""
    assert backend.owns(result), f"{backend}: {what} is a {type(result)}"
    got = backend.numpy(result)
    if backend.exact:
        tolerance = np.abs(np.where(_finite(exact), exact, mpf(0))) * EXACT
    else:
        assert got.dtype == numpy_dtype(dtype), f"{backend}: {what} is {got.dtype}, not {dtype}"
    if backend.flushes:
        tolerance = tolerance + flush
    exact, tolerance = np.asarray(exact, dtype=object), np.asarray(tolerance, dtype=object)
    error = difference(got, exact, dtype)
    wrong = np.asarray(error > tolerance, dtype=bool)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        unit = spacing(exact, dtype)[where] if np.ndim(exact) else spacing(exact, dtype)[()]
        worst = f"{mp.nstr(error[where] / unit, 5)} ulp where {mp.nstr(tolerance[where] / unit, 5)} are right"
        raise AssertionError(f"{backend}: {what}{list(where)} is {got[where]!r}, exact {exact[where]}: {worst}")


def _finite(exact: Exact) -> Any:
    return np.asarray(np.frompyfunc(mp.isfinite, 1, 1)(exact), dtype=bool)


def finally_in(dtype: str, exact: Exact, tolerance: Exact) -> Exact:
    """The tolerance of what is computed in float32 and returned in a half."""
    return bounds.rounded_once(tolerance, exact, dtype) if dtype in HALVES else tolerance


def on(backend: Backend, value: Any, dtype: str) -> Any:
    """A NumPy array on the backend in the dtype given, a mask as it is, a Python number as a Python number."""
    if isinstance(value, np.ndarray | np.generic):
        return backend.array(value, None if value.dtype == bool else dtype)
    if backend.exact:  # what a Python number is combined with before it meets an array is rounded to double precision
        return backend.array(np.asarray(value), dtype)
    return value


def per_entry(batch: Batch, what: Callable[..., mpf], options: dict[str, Any], dtype: str) -> Exact:
    """A tolerance for every entry of a softmax or log_softmax, in the layout of the logits."""
    layout, rows = oracle._distributions(batch.logits, batch.axis, options.get("where"), options.get("temperature"))
    heat = np.asarray(options.get("temperature", 1.0))
    one = heat.ndim == 0 or all(heat.shape[a - len(batch.shape)] == 1 for a in layout.axes)
    tempered = int("temperature" in options)
    out = np.full((*layout.batch, layout.classes), mpf(0), dtype=object)
    for n in np.ndindex(*layout.batch):
        d = rows[n]
        units = bounds.shift_units(d, dtype, divided=tempered * one, before=tempered * (not one))
        out[n] = [what(d, units, j, dtype) for j in range(layout.classes)]
    return layout.back(out)


@st.composite
def normalizer_options(draw: st.DrawFn, batch: Batch) -> dict[str, Any]:
    """`where` and `temperature` of softmax, which broadcast as in NumPy."""
    options: dict[str, Any] = {}
    rng = batch.rng
    if draw(st.booleans()):
        options["where"] = rng.random(size=batch.shape) < 0.7
    precise = compute_dtype(batch.dtype)
    match draw(st.integers(0, 4)):
        case 0:
            options["temperature"] = rounded(rng.uniform(0.3, 3.0), precise)
        case 1:
            shape = batch.layout.keepdims(np.empty(batch.batch)).shape
            options["temperature"] = rounded(rng.uniform(0.3, 3.0, size=shape), precise)
        case 2:
            options["temperature"] = rounded(rng.uniform(0.3, 3.0, size=batch.shape), precise)
        case _:
            pass
    return options


# Values.


@precision
def test_softmax_and_log_softmax_are_exact_to_4_ulp_and_the_gap(backends: list[Backend], dtype: str) -> None:
    """Softmax and log_softmax: <= 4 + g ULP for every input class; halves <= 0.51 ULP."""
    members = having(backends, dtype)
    precise = compute_dtype(dtype)

    @examples(40, dtype)
    @given(st.data(), batches(dtype, shapes=shapes_for(dtype)))
    def law(data: st.DataObject, batch: Batch) -> None:
        options = data.draw(normalizer_options(batch))
        for function, reference, entry in (
            (softxent.softmax, oracle.softmax, bounds.softmax_entry),
            (softxent.log_softmax, oracle.log_softmax, bounds.log_softmax_entry),
        ):
            exact = reference(batch.logits, axis=batch.axis, **options)
            tolerance = finally_in(dtype, exact, per_entry(batch, entry, options, precise))
            for backend in taking(members, batch):
                arguments = {"logits": backend.array(batch.logits, dtype)}
                arguments |= {name: on(backend, value, precise) for name, value in options.items()}
                result = applied(backend, function, arguments, axis=batch.axis)
                flush = bounds.flushed(batch.classes, precise)
                assert_within(backend, f"{function.__name__} {options}", result, exact, tolerance, dtype, flush)

    law()


@precision
def test_softmin_is_softmax_of_the_negative(backends: list[Backend], dtype: str) -> None:
    members = having(backends, dtype)
    precise = compute_dtype(dtype)

    @examples(8, dtype)
    @given(batches(dtype, shapes=SHAPES[2:4]))
    def law(batch: Batch) -> None:
        exact = oracle.softmin(batch.logits, axis=batch.axis)
        mirrored = Batch(batch.kind, batch.seed, dtype, batch.shape, batch.axis)
        mirrored.logits = -batch.logits
        tolerance = finally_in(dtype, exact, per_entry(mirrored, bounds.softmax_entry, {}, precise))
        for backend in taking(members, batch):
            result = applied(backend, softxent.softmin, {"logits": backend.array(batch.logits, dtype)}, axis=batch.axis)
            flush = bounds.flushed(batch.classes, precise)
            assert_within(backend, "softmin", result, exact, tolerance, dtype, flush)

    law()


@precision
def test_logsumexp_is_exact_to_4_ulp_and_its_condition_number(backends: list[Backend], dtype: str) -> None:
    """Logsumexp: <= 4 ULP but for its condition number, with weights of either sign and the sign returned."""
    members = having(backends, dtype)
    precise = compute_dtype(dtype)

    @examples(30, dtype)
    @given(st.data(), batches(dtype, shapes=shapes_for(dtype)))
    def law(data: st.DataObject, batch: Batch) -> None:
        options: dict[str, Any] = {}
        weights = data.draw(st.sampled_from(["none", "positive", "mixed"]))
        if weights != "none":
            b = batch.rng.uniform(0.25, 4.0, size=batch.shape) * (batch.rng.random(size=batch.shape) < 0.8)
            signs = batch.rng.choice([-1.0, 1.0], size=batch.shape)
            options["b"] = rounded(b * signs if weights == "mixed" else b, precise)
        if data.draw(st.booleans()):
            options["where"] = batch.rng.random(size=batch.shape) < 0.8
        keepdims, return_sign = data.draw(st.booleans()), data.draw(st.booleans())
        value, sign, _ = oracle.logsumexp(batch.logits, axis=batch.axis, **options)
        tolerance = bounds.logsumexp_rows(batch.logits, precise, axis=batch.axis, **options)
        known = np.asarray(tolerance != mp.inf, dtype=bool)
        if not return_sign:
            value = np.where(np.asarray(sign < 0, dtype=bool), oracle.NAN, value)
        sign = np.where(known, sign, oracle.NAN)
        if keepdims:
            value, sign, tolerance, known = map(batch.layout.keepdims, (value, sign, tolerance, known))
        tolerance = finally_in(dtype, value, tolerance)
        for backend in taking(members, batch):
            arguments = {"x": backend.array(batch.logits, dtype)}
            arguments |= {name: on(backend, v, precise) for name, v in options.items()}
            result = applied(
                backend, softxent.logsumexp, arguments, axis=batch.axis, keepdims=keepdims, return_sign=return_sign
            )
            log_sum = result[0] if return_sign else result
            flush = bounds.flushed(4 * batch.classes, precise)
            what = f"logsumexp {options}"
            if not (weights == "mixed" and not known.all()):
                assert_within(backend, what, log_sum, value, tolerance, dtype, flush)
            if return_sign:
                got = backend.numpy(result[1])
                agree = np.asarray(difference(got, sign, dtype) == 0, dtype=bool)
                assert (agree | ~known).all(), f"{backend}: sign of {what}: {got}, not {sign}"

    law()


@precision
def test_cross_entropy_of_a_label_is_exact_to_4_ulp_and_the_gap(backends: list[Backend], dtype: str) -> None:
    """Integer labels: values <= 4 + g ULP, never lost, at the largest logit and away from it; halves give float32."""
    members = having(backends, dtype)
    precise = compute_dtype(dtype)

    @examples(50, dtype)
    @given(batches(dtype, shapes=shapes_for(dtype)))
    def law(batch: Batch) -> None:
        labels = batch.labels()
        whole = oracle.cross_entropy(batch.logits, labels, axis=batch.axis)
        rule = bounds.Rounding(precise, {}, soft=False, one_temperature=True)
        exact, tolerance = whole.rows, whole._map(rule.value)
        for backend in taking(members, batch):
            arguments = {"logits": backend.array(batch.logits, dtype), "labels": label_array(backend, labels, "int64")}
            result = applied(backend, softxent.cross_entropy, arguments, axis=batch.axis, reduction="none")
            flush = bounds.flushed(batch.classes, precise)
            assert_within(backend, "cross_entropy", result, exact, tolerance, precise, flush)

    law()


def label_array(backend: Backend, labels: np.ndarray[Any, Any], dtype: str) -> Any:
    """Labels in the dtype drawn, or in int32 where the library does not have it."""
    return backend.array(labels, dtype if dtype in backend.ints else "int32")


def arguments_of(backend: Backend, call: Call, dtype: str) -> dict[str, Any]:
    """The arrays and numbers of a call on a backend."""
    labels = label_array(backend, call.labels, call.label_dtype) if not call.soft else on(backend, call.labels, dtype)
    precise = compute_dtype(dtype)
    options = {name: on(backend, value, precise) for name, value in call.options.items() if name != "ignore_index"}
    return {"logits": backend.array(call.batch.logits, dtype), "labels": labels, **options}


def static_of(call: Call, **more: Any) -> dict[str, Any]:
    ignored = {name: call.options[name] for name in call.options if name == "ignore_index"}
    return {"axis": call.batch.axis, **ignored, **more}


def reference(call: Call, dtype: str) -> tuple[oracle.CrossEntropy, bounds.Rounding]:
    whole = oracle.cross_entropy(call.batch.logits, call.labels, axis=call.batch.axis, **call.options)
    rule = bounds.Rounding(compute_dtype(dtype), call.options, call.soft, whole.one_temperature)
    return whole, rule


def scale_of(whole: oracle.CrossEntropy, rule: bounds.Rounding) -> mpf:
    """What jax's flushing may cost anywhere in the batch."""
    return max((rule.scale(e) for e in whole.examples.ravel()), default=mpf(1))


@precision
def test_cross_entropy_is_exact_with_every_combination_of_options(backends: list[Backend], dtype: str) -> None:
    """All options compose: a row is Σ w q' (-log p) + λ W lse², times its sample weight."""
    members = having(backends, dtype)
    precise = compute_dtype(dtype)

    @examples(40, dtype)
    @given(calls(dtype))
    def law(call: Call) -> None:
        note(f"{call}")
        whole, rule = reference(call, dtype)
        exact, tolerance = whole.rows, whole._map(rule.value)
        flush = bounds.flushed(4 * call.batch.classes, precise) * scale_of(whole, rule)
        for backend in members:
            if backend.autodiff:  # held below, with the derivatives
                continue
            result = applied(
                backend, softxent.cross_entropy, arguments_of(backend, call, dtype), **static_of(call, reduction="none")
            )
            assert_within(backend, f"cross_entropy {call}", result, exact, tolerance, precise, flush)

    law()


AUX = ("lse", "z_loss", "entropy", "correct", "target_log_prob", "margin")


@pytest.mark.parametrize("dtype", ["float32"])
def test_reductions_and_aux_are_those_of_the_rows(backends: list[Backend], dtype: str) -> None:
    """Mean, sum and sum_and_weight under every denominator, and what aux names, from the definition."""
    members = having(backends, dtype)

    @examples(20, dtype)
    @given(st.data(), calls(dtype, shapes=SHAPES[4:6], kinds=("normal", "exact ties", "uniform ±50")))
    def law(data: st.DataObject, call: Call) -> None:
        whole, rule = reference(call, dtype)
        kind = data.draw(st.sampled_from(["weight", "count", "all", 3.0]))
        empty = data.draw(st.sampled_from(["zero", "nan"]))
        scale = 1 + sum((abs(v) for v in whole.rows.ravel() if mp.isfinite(v)), mpf(0))
        below = whole.denominator(kind).value
        numerator = whole.numerator().value
        rows = sum((t for t in whole._map(rule.value).ravel()), mpf(0))
        loose = (len(whole.examples.ravel()) + 8) * mpf(eps(dtype))
        exact = {
            "mean": (whole.mean(kind, empty).value, (rows + loose * scale) / below if below else mpf(0)),
            "sum": (numerator, rows + loose * scale),
        }
        note(f"{call} {kind} {empty}")
        for backend in members:
            arguments, flush = arguments_of(backend, call, dtype), mpf(0)
            names = tuple(name for name in AUX if name != "z_loss" or "z_loss" in call.options)
            static = static_of(call, reduction="mean", denominator=kind, empty_mean=empty, aux=names)
            loss, found = backend.call(softxent.cross_entropy, **arguments, **static)
            value, tolerance = exact["mean"]
            assert_within(backend, f"mean {call}", loss, box(value), box(tolerance), dtype, flush)
            for name in names:
                assert_aux(backend, name, found[name], whole, rule, dtype)
            static = static_of(call, reduction="sum")
            value, tolerance = exact["sum"]
            total = backend.call(softxent.cross_entropy, **arguments, **static)
            assert_within(backend, f"sum {call}", total, box(value), box(tolerance), dtype, flush)
            if isinstance(kind, str):
                static = static_of(call, reduction="sum_and_weight", denominator=kind)
                total, weight = backend.call(softxent.cross_entropy, **arguments, **static)
                assert_within(backend, f"numerator {call}", total, box(value), box(tolerance), dtype, flush)
                assert_within(backend, f"weight {call}", weight, box(below), box(below * loose), dtype, flush)

    law()


def box(value: mpf) -> Exact:
    """A 0-d object array."""
    out = np.empty((), dtype=object)
    out[()] = value
    return out


def assert_aux(
    backend: Backend, name: str, result: Any, whole: oracle.CrossEntropy, rule: bounds.Rounding, dtype: str
) -> None:
    """What aux names: lse and z_loss as in the loss, the others to the errors of the final logits."""
    exact = whole.aux(name)
    if name == "correct":
        # A tie that rounding makes or breaks may go either way.
        clear = whole._map(lambda e: not e.takes_part or mp.isinf(m := e.aux("margin")) or abs(m) > blur(rule, e))
        got = backend.numpy(result)
        assert got.dtype == bool
        unclear = ~np.asarray(clear, dtype=bool)
        assert (unclear | (got == np.asarray(exact, dtype=bool))).all(), f"{backend}: correct"
        return
    tolerance = whole._map(lambda e: aux_tolerance(name, e, rule))
    assert_within(backend, f"aux {name}", result, exact, tolerance, dtype)


def blur(rule: bounds.Rounding, e: oracle.Example) -> mpf:
    """How far apart two final logits may be moved by rounding."""
    top = max((abs(z) for z, k in zip(e.z, e.keep, strict=True) if k and mp.isfinite(z)), default=mpf(0))
    return (2 * max(rule.units(e), default=mpf(0)) + 4 * top) * eps(rule.dtype)


def aux_tolerance(name: str, e: oracle.Example, rule: bounds.Rounding) -> mpf:
    if not e.takes_part or e.undefined:
        return mpf(0)
    units = rule.units(e)
    unit = mpf(eps(rule.dtype))
    if name == "lse":
        return rule.lse(e, units)
    if name == "z_loss":
        return abs(e.s) * rule.z_part(e, units) + 4 * unit * abs(e.z_part)
    if name == "margin":
        return blur(rule, e)
    weights = e.d.p if name == "entropy" else e.q
    mean, classes = bounds.mean_units(e.d, units), len(e.x)
    out = mpf(0)
    for c, weight in enumerate(weights):
        if weight and mp.isfinite(e.d.log_p[c]):
            share = weight * (1 + abs(e.d.log_p[c]))
            out += (bounds.BASE + classes) * unit * share + weight * (units[c] + mean) * unit * (1 + abs(e.d.log_p[c]))
    return out


# Derivatives.


@differentiable
def test_derivative_of_the_loss_of_a_label_is_exact_to_4_ulp_and_the_gap(
    backend: Backend, backends: list[Backend], dtype: str
) -> None:
    """Integer labels: derivatives by the logits <= 4 + g ULP, at ties and at the label; halves correctly rounded."""
    precise = compute_dtype(dtype)
    members, ours = beside(backend, backends, dtype), backend.autodiff is None

    @examples(60, dtype, backend)
    @given(batches(dtype, shapes=shapes_for(dtype)))
    def law(batch: Batch) -> None:
        labels = batch.labels()
        whole = oracle.cross_entropy(batch.logits, labels, axis=batch.axis)
        rule = bounds.Rounding(precise, {}, soft=False, one_temperature=True)
        values, loose = whole.rows, whole._map(rule.value)
        exact = whole.gradient("logits").value
        tolerance = finally_in(dtype, exact, whole.spread("logits", rule.by_x))
        flush = bounds.flushed(batch.classes, precise)
        for one in members:
            arguments = {"logits": one.array(batch.logits, dtype), "labels": label_array(one, labels, "int64")}
            result, grad = pulled(
                one,
                softxent.cross_entropy,
                arguments,
                ["logits"],
                one.array(np.ones(batch.batch), precise),
                ours=ours,
                axis=batch.axis,
                reduction="none",
            )
            assert_within(one, "cross_entropy", result, values, loose, precise, flush)
            assert_within(one, "derivative", grad["logits"], exact, tolerance, dtype, flush)

    law()


@differentiable
def test_derivatives_of_the_loss_are_exact_with_every_combination_of_options(
    backend: Backend, backends: list[Backend], dtype: str
) -> None:
    """By logits, soft labels, class weights, sample weights and temperature: (4 + g) u Σ of the absolute terms."""
    precise = compute_dtype(dtype)
    members, ours = beside(backend, backends, dtype), backend.autodiff is None

    @examples(40, dtype, backend)
    @given(calls(dtype))
    def law(call: Call) -> None:
        note(f"{call}")
        whole, rule = reference(call, dtype)
        values, loose = whole.rows, whole._map(rule.value)
        cotangent = call.batch.cotangent(call.batch.batch, precise)
        by = [name for name in bounds.RULES if name in ("logits", "labels") or differentiates(call.options.get(name))]
        by = [name for name in by if name != "labels" or call.soft]
        flush = bounds.flushed(8 * call.batch.classes, precise) * scale_of(whole, rule) * 4
        expected = {}
        for name in by:
            exact = whole.gradient(name, cotangent)
            tolerance = whole.spread(name, partial(bounds.RULES[name], rule), np.abs(cotangent))
            # The sum over rows, the product with the cotangent, and the last rounding, which comes after both.
            tolerance = tolerance + exact.absolute * (cotangent.size + 2) * mpf(eps(precise))
            tolerance = bounds.rounded_once(tolerance, exact.value, precise)
            expected[name] = exact.value, tolerance
        for one in members:
            result, grads = pulled(
                one,
                softxent.cross_entropy,
                arguments_of(one, call, dtype),
                by,
                one.array(cotangent, precise),
                ours=ours,
                **static_of(call, reduction="none"),
            )
            assert_within(one, f"cross_entropy {call}", result, values, loose, precise, flush)
            for name, (exact, tolerance) in expected.items():
                own = dtype if name in ("logits", "labels") else precise
                final = finally_in(own, exact, tolerance)
                assert_within(one, f"derivative by {name} {call}", grads[name], exact, final, own, flush)

    law()


def differentiates(value: Any) -> bool:
    return isinstance(value, np.ndarray)


@differentiable
def test_pullbacks_of_the_normalizers_are_exact_to_their_absolute_terms(
    backend: Backend, backends: list[Backend], dtype: str
) -> None:
    """Random cotangents on softmax, log_softmax and logsumexp: (4 + g) u Σ of the absolute terms."""
    precise = compute_dtype(dtype)
    members, ours = beside(backend, backends, dtype), backend.autodiff is None

    @examples(32, dtype, backend)
    @given(st.data(), batches(dtype, shapes=SHAPES[3:5]))
    def law(data: st.DataObject, batch: Batch) -> None:
        options = data.draw(normalizer_options(batch))
        g = batch.cotangent(batch.shape, dtype)
        gap = oracle.gaps(batch.logits, axis=batch.axis, **options)
        gap = np.where(_finite(gap), gap, mpf(0)) * (1 + 2 * ("temperature" in options))
        if "temperature" in options:
            gap = gap + 2 * blurred(batch, options)
        flush = bounds.flushed(8 * batch.classes, precise) * 40
        for function, vjp in (
            (softxent.softmax, oracle.softmax_vjp),
            (softxent.log_softmax, oracle.log_softmax_vjp),
        ):
            exact = vjp(g, batch.logits, axis=batch.axis, **options)
            widest = np.broadcast_to(batch.layout.keepdims(row_max(batch, gap)), batch.shape)
            tolerance = bounds.vjp_terms(exact.absolute, widest + batch.classes, precise, g=g)
            tolerance = finally_in(dtype, exact.value, tolerance)
            what = f"pullback of {function.__name__} {options}"
            for one in members:
                arguments = {"logits": one.array(batch.logits, dtype)}
                arguments |= {name: on(one, v, precise) for name, v in options.items()}
                seed = one.array(g, dtype)
                _, grads = pulled(one, function, arguments, ["logits"], seed, ours=ours, axis=batch.axis)
                assert_within(one, what, grads["logits"], exact.value, tolerance, dtype, flush)

    law()


def blurred(batch: Batch, options: dict[str, Any]) -> Exact:
    """abs(x / T): what a temperature of every class's own rounds before the shift."""
    z = exactly(np.broadcast_to(batch.logits, batch.shape)) / exactly(np.asarray(options["temperature"]))
    return np.abs(np.where(_finite(z), z, mpf(0)))


def row_max(batch: Batch, values: Exact) -> Exact:
    """The largest that matters: what is beyond the reach of exp has no share in anything."""
    reach = mpf(800 if batch.dtype == "float64" else 110)
    rows = batch.layout.rows(np.minimum(np.asarray(values, dtype=object), reach))
    return np.max(rows, axis=-1)


@differentiable
def test_pullback_of_logsumexp_is_exact_to_its_condition_number(
    backend: Backend, backends: list[Backend], dtype: str
) -> None:
    """By x: b e^x / Σ b e^x; by b: e^x / Σ b e^x, 0 where b is 0."""
    precise = compute_dtype(dtype)
    members, ours = beside(backend, backends, dtype), backend.autodiff is None

    @examples(24, dtype, backend)
    @given(st.data(), batches(dtype, shapes=SHAPES[3:5]))
    def law(data: st.DataObject, batch: Batch) -> None:
        options: dict[str, Any] = {}
        if data.draw(st.booleans()):
            b = batch.rng.uniform(0.25, 4.0, size=batch.shape) * (batch.rng.random(size=batch.shape) < 0.8)
            options["b"] = rounded(b * batch.rng.choice([-1.0, 1.0], size=batch.shape), dtype)
        g = batch.cotangent(batch.batch, dtype)
        sums, _, condition = oracle.logsumexp(batch.logits, axis=batch.axis, **options)
        if any(not mp.isfinite(s) for s in sums.ravel()) or max(condition.ravel()) * eps(dtype) > 1e-3:
            return  # nothing left to differentiate, or no digit of it
        by_x, by_b = oracle.logsumexp_vjp(g, batch.logits, axis=batch.axis, **options)
        gap = oracle.gaps(batch.logits, axis=batch.axis)
        gap = np.where(_finite(gap), gap, mpf(0))
        widest = np.broadcast_to(batch.layout.keepdims(row_max(batch, gap)), batch.shape) + batch.classes
        flush = bounds.flushed(8 * batch.classes, precise) * 40 * max(condition.ravel())
        for one in members:
            arguments = {"x": one.array(batch.logits, dtype)}
            arguments |= {name: on(one, v, dtype) for name, v in options.items()}
            function: Any = first_of_two if options and not ours else softxent.logsumexp
            static = {"return_sign": True} if options and ours else {}
            seed = one.array(g, dtype)
            _, grads = pulled(one, function, arguments, list(arguments), seed, ours=ours, axis=batch.axis, **static)
            for name, exact in (("x", by_x), ("b", by_b)):
                if name in grads:
                    tolerance = finally_in(dtype, exact.value, bounds.vjp_terms(exact.absolute, widest, precise, g=g))
                    what = f"pullback of logsumexp by {name} {options}"
                    assert_within(one, what, grads[name], exact.value, tolerance, dtype, flush)

    law()


def first_of_two(x: Any, **options: Any) -> Any:
    """The logarithm of the absolute value, for weights whose sum may be negative."""
    return softxent.logsumexp(x, return_sign=True, **options)[0]


# Large cases.

WIDE = 100_000


def wide(kind: str, dtype: str) -> np.ndarray[Any, Any]:
    """Equal logits, or random ones of a thousand distinct values: the exact sum then takes a thousand terms."""
    if kind == "equal":
        return np.full(WIDE, 0.75)
    rng = np.random.default_rng(5)
    return np.asarray(rng.choice(rounded(rng.normal(size=1000), dtype), size=WIDE))


def exact_sum(x: np.ndarray[Any, Any]) -> mpf:
    """Σ e^x."""
    values, counts = np.unique(x, return_counts=True)
    return mp.fsum(mp.exp(mpf(float(v))) * int(n) for v, n in zip(values, counts, strict=True))


@pytest.mark.parametrize("kind", ["random", "equal"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.dtypes("float16", "float32", "float64")
def test_100_000_classes_lose_nothing(backend: Backend, dtype: str, kind: str, axis: int) -> None:
    """1e5 classes, random and all equal, along the last axis and the first: values <= 4 + g ULP."""
    x = wide(kind, dtype)
    precise = compute_dtype(dtype)
    rows = np.stack([x, x[::-1]])
    logits = backend.array(rows if axis == -1 else rows.T, dtype)
    labels = np.array([int(x.argmax()), WIDE - 1 - 17])
    with mp.workdps(40):
        whole = exact_sum(x)
        target = [mp.log(whole) - mpf(float(x[labels[0]])), mp.log(whole) - mpf(float(x[17]))]
        g = mpf(float(x.max() - x.min()))
        loss = np.array(target, dtype=object)
        log_sum = np.array([mp.log(whole)] * 2, dtype=object)
        some = [0, 17, int(x.argmax()), WIDE - 1]
        p = np.array([mp.exp(mpf(float(x[j]))) / whole for j in some], dtype=object)
    result = backend.call(
        softxent.cross_entropy, logits, label_array(backend, labels, "int64"), axis=axis, reduction="none"
    )
    assert_within(backend, "cross_entropy", result, loss, 4 * spacing(loss, precise), precise)
    result = backend.call(softxent.logsumexp, logits, axis=axis)
    units = 0.51 if dtype in HALVES else 4
    assert_within(backend, "logsumexp", result, log_sum, units * spacing(log_sum, dtype), dtype)
    result = backend.call(softxent.softmax, logits, axis=axis)
    assert backend.owns(result)
    got = np.moveaxis(backend.numpy(result), axis, -1)[0][some]
    error = difference(got, p, dtype) / spacing(p, dtype)
    assert max(error) <= (0.51 if dtype in HALVES else 4 + g), f"{backend}: softmax is off by {max(error)} ulp"


def test_every_kind_of_input_is_drawn() -> None:
    """The list of input classes in NUMERICS is the list of kinds, apart from the wide rows above."""
    assert len(KINDS) == 11
