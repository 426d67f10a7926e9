"""Derivatives by everything at once, against differences of the value with 50 digits.

The value runs on mparray, the derivative on NumPy. The two share the formulas and nothing else, and the oracle, which
knows fewer arguments to differentiate by, has no part in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from matrix import load
from mpmath import mp, mpf
from property.inputs import SHAPES, Call, batches, calls
from ulps import exactly

from softxent import cross_entropy, log_softmax, logsumexp, smooth_labels, softmax, vjp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.backends("mparray")

NumPy = np.ndarray[Any, Any]

KINDS = ("normal", "uniform ±50", "exact ties", "near ties", "one dominant", "log-probabilities")
STEP = mpf(10) ** -20  # an error of its square, beside 50 digits
WITHIN = 1e-9  # of the sum of all terms' sizes; what is wrong is wrong by far more


def examples(ci: int) -> settings:
    """So many examples in the ci profile, in proportion in the others."""
    return settings(max_examples=max(3, ci * settings().max_examples // 30))


def moved(array: NumPy, direction: NumPy, step: mpf) -> Any:
    """The array some way along the direction, on mparray."""
    member = load("mparray")
    return member.xp.asarray(exactly(array) + step * exactly(direction))


def assert_derivative(
    function: Callable[..., Any], moving: dict[str, NumPy], still: dict[str, Any], rng: np.random.Generator
) -> None:
    """Σ derivative · direction is the difference quotient of Σ cotangent · value."""
    member = load("mparray")
    value, pullback = vjp(function, tuple(moving))(**moving, **still)
    cotangent = np.asarray(rng.normal(size=value.shape))
    derivatives = dict(zip(moving, pullback(cotangent), strict=True))
    directions = {name: np.where(moves(name, x), rng.normal(size=x.shape), 0.0) for name, x in moving.items()}
    terms = [exactly(derivatives[name]) * exactly(directions[name]) for name in moving]
    slope = sum((np.sum(term) for term in terms), mpf(0))
    with member.context():
        sides = []
        for step in (STEP, -STEP):
            arrays = {name: moved(x, directions[name], step) for name, x in moving.items()}
            fixed = {n: member.array(x) if isinstance(x, np.ndarray) else x for n, x in still.items()}
            sides.append(np.sum(exactly(cotangent) * member.numpy(function(**arrays, **fixed))))
        expected = (sides[0] - sides[1]) / (2 * STEP)
        size = sum((np.sum(np.abs(term)) for term in terms), mpf(1))
        assert abs(slope - expected) <= WITHIN * size, f"{mp.nstr(slope, 20)} where {mp.nstr(expected, 20)} is right"


def moves(name: str, x: NumPy) -> Any:
    """What may move: not an example that takes no part, nor weights of 0, through which only first derivatives pass."""
    if name == "labels":
        return np.any(x != 0, axis=-1, keepdims=True)
    return x != 0 if name in {"sample_weight", "smoothing_prior"} else True


def arrays_of(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a call that are differentiated by, all numbers made 0-d arrays, and the others."""
    given: dict[str, Any] = {"logits": call.batch.logits, "labels": call.labels, **call.options}
    moving: dict[str, Any] = {}
    still: dict[str, Any] = {}
    for name, x in given.items():
        is_real = isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")
        (moving if is_real else still)[name] = np.asarray(x) if is_real else x
    return moving, still


@examples(10)
@given(call=calls("float64", shapes=SHAPES[2:3], kinds=KINDS))
def test_cross_entropy_along_any_direction(call: Call) -> None:
    """By logits, soft labels, all weights, smoothing and its prior, temperature, softcap and z-loss at once."""
    note(f"{call}")
    moving, still = arrays_of(call)
    smoothing = moving.get("label_smoothing")
    if smoothing is not None:  # bounds are checked for numbers alone, and the middle is as good a place
        moving["label_smoothing"] = 0.125 + 0.75 * smoothing
    still |= {"reduction": "none", "check": False}
    # A label on a class that is dropped costs +inf, and so does mass that moves there.
    if "labels" in moving or not np.isfinite(cross_entropy(**moving, **still)).all():
        still.pop("where", None)
    assert_derivative(cross_entropy, moving, still, call.batch.rng)


@examples(6)
@given(data=st.data(), batch=batches("float64", shapes=SHAPES[2:3], kinds=KINDS))
def test_the_others_along_any_direction(data: st.DataObject, batch: Any) -> None:
    rng = batch.rng
    function: Any = data.draw(st.sampled_from([softmax, log_softmax, logsumexp, smooth_labels]))
    if function is smooth_labels:
        arrays = {
            "labels": batch.distributions(),
            "label_smoothing": rng.uniform(size=batch.batch),
            "smoothing_prior": rng.uniform(0.25, 1.0, size=batch.classes),
        }
        assert_derivative(function, arrays, {}, rng)
        return
    where = {"where": rng.random(size=batch.shape) < 0.7} if data.draw(st.booleans()) else {}
    if function is logsumexp:
        keep = where.get("where", np.ones(batch.shape, dtype=bool))
        keep[..., 0] = True  # an empty sum is -inf
        arrays = {"x": batch.logits, "b": rng.uniform(0.25, 4.0, size=batch.shape)}
        assert_derivative(function, arrays, where, rng)
        return
    if function is log_softmax:
        where = {}  # -inf has no difference
    size = data.draw(st.sampled_from([(), (1,), (batch.classes,)]))
    arrays = {"logits": batch.logits, "temperature": rng.uniform(0.5, 2.0, size=size)}
    assert_derivative(function, arrays, where, rng)


def test_a_wrong_derivative_is_noticed() -> None:
    """The same check on a function whose value is not what vjp differentiates."""

    def twice(**arguments: Any) -> Any:
        return 2.0 * softmax(**arguments)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3))
    assert_derivative(softmax, {"logits": x}, {}, rng)
    with pytest.raises(TypeError, match="must be given a function of softxent"):
        assert_derivative(twice, {"logits": x}, {}, rng)
