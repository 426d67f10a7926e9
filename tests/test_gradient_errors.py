"""Wrong calls of value_and_grad, grad, vjp, hvp and hessian_diagonal, and all that they say (§8).

Each line of a table has a text and the call that must be answered with it, word for word; " ... " stands for what
depends on the library. Most go wrong before there is an array, and run once; the others run on every backend.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_errors import LOGITS, Bad, Inputs, refused, table

import softxent
from softxent import cross_entropy, log_softmax, logsumexp, one_hot, smooth_labels, softmax, softmin

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

Array = Any

# Called wrongly on purpose, so without their types.
value_and_grad: Any = softxent.value_and_grad
grad: Any = softxent.grad
vjp: Any = softxent.vjp
hvp: Any = softxent.hvp
hessian_diagonal: Any = softxent.hessian_diagonal


def assert_says(bad: Bad, call: Callable[[], object]) -> None:
    """All of the text, in which " ... " stands for anything."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert caught.type is bad.error, said
    pattern = ".+".join(re.escape(part) for part in bad.text.split(" ... "))
    assert re.fullmatch(pattern, said, re.DOTALL), f"{said!r} is not {bad.text!r}"


# -- before there is an array -----------------------------------------------------------------------------------------

ELSEWHERE = (
    "; for others use the automatic differentiation of their library, for example torch.func.grad or jax.grad, or "
    "differentiate one of these by its logits and apply the chain rule"
)


def stranger(user: str, came: str) -> str:
    return f"{user} must be given a function of softxent such as cross_entropy, got {came}{ELSEWHERE}"


def without_cotangent(user: str, name: str) -> str:
    return (
        f"{user} must be given a function of one value, or one a row, got {name}, which returns an array; "
        f"pass a cotangent to vjp({name})"
    )


def without_second(user: str, name: str) -> str:
    return (
        f"{user} must be given a function of one value, or one a row, got {name}, which returns an array; "
        "losses, logsumexp and functions of each element have second derivatives"
    )


def theirs(logits: Array, labels: Array) -> Array:
    return logits, labels


FUNCTIONS = refused(
    TypeError,
    {
        stranger("value_and_grad", " ... .theirs"): lambda _: value_and_grad(theirs),
        stranger("grad", " ... .<lambda>"): lambda _: grad(lambda x: cross_entropy(x, 0)),
        stranger("vjp", "math.exp"): lambda _: vjp(math.exp),
        stranger("hvp", "[1, 2]"): lambda _: hvp([1, 2]),
        stranger("hessian_diagonal", "None"): lambda _: hessian_diagonal(None),
        stranger("value_and_grad", "'cross_entropy'"): lambda _: value_and_grad("cross_entropy"),
        stranger("value_and_grad", "{}"): lambda _: value_and_grad({}),
        stranger("grad", "functools.partial(<function theirs at  ... >, labels=1)"): lambda _: grad(
            partial(theirs, labels=1)
        ),
        "grad must be given a function of softxent such as cross_entropy, got vjp(softmax); "
        "for second derivatives there are hvp and hessian_diagonal": lambda _: grad(vjp(softmax)),
        "grad must be given a function, got an array; pass the function and call what comes back, "
        "grad(cross_entropy)(logits, labels)": lambda _: grad(cross_entropy(np.zeros(3), 0)),
        "vjp must be given a function with a derivative, got one_hot, whose labels are integers": lambda _: vjp(
            one_hot
        ),
        "grad must be given a function with a derivative, got one_hot, whose labels are integers": lambda _: grad(
            partial(one_hot, num_classes=3)
        ),
        without_cotangent("value_and_grad", "softmax"): lambda _: value_and_grad(softmax),
        without_cotangent("grad", "log_softmax"): lambda _: grad(partial(log_softmax, axis=0)),
        without_cotangent("grad", "smooth_labels"): lambda _: grad(smooth_labels, "label_smoothing"),
        without_second("hvp", "softmax"): lambda _: hvp(softmax),
        without_second("hessian_diagonal", "softmin"): lambda _: hessian_diagonal(softmin),
    },
)

DIFFERENTIABLE = "logits, labels, weight, sample_weight, label_smoothing, smoothing_prior, temperature, softcap, z_loss"


def no_argument(came: str) -> str:
    return (
        f"argnums must be positions (0 for logits, 1 for labels) or names among {DIFFERENTIABLE} for cross_entropy, "
        f"got {came}"
    )


ARGNUMS = refused(
    ValueError,
    {
        no_argument("2"): lambda _: grad(cross_entropy, 2),
        no_argument("-1"): lambda _: value_and_grad(cross_entropy, -1),
        no_argument("True"): lambda _: vjp(cross_entropy, argnums=True),
        no_argument("0.0"): lambda _: grad(cross_entropy, 0.0),
        no_argument("None"): lambda _: grad(cross_entropy, None),
        no_argument("'x'"): lambda _: grad(cross_entropy, "x"),
        no_argument("'where'"): lambda _: grad(cross_entropy, "where"),
        no_argument("'axis'"): lambda _: grad(cross_entropy, (0, "axis")),
        no_argument("'denominator'"): lambda _: grad(cross_entropy, "denominator"),
        no_argument("[0, 1]") + "; pass several as a tuple": lambda _: grad(cross_entropy, [0, 1]),
        "argnums must be positions (0 for labels) or names among "
        f"{DIFFERENTIABLE} for cross_entropy, got 1": lambda _: grad(partial(cross_entropy, 0), 1),
        "argnums must be positions (0 for x) or names among x, b for logsumexp, got 'keepdims'": lambda _: grad(
            logsumexp, "keepdims"
        ),
        "argnums must be positions (0 for logits) or names among logits, temperature for softmax, got 1": lambda _: vjp(
            softmax, 1
        ),
        "argnums must name each argument once, got (0, 0)": lambda _: grad(cross_entropy, (0, 0)),
        "argnums must name each argument once, got ('logits', 0)": lambda _: vjp(cross_entropy, ("logits", 0)),
    },
)

# As Python says it, with the function's name before it.
CALLS = refused(
    TypeError,
    {
        "cross_entropy: missing a required argument: 'labels'": lambda _: grad(cross_entropy)(np.zeros(3)),
        "cross_entropy: missing a required argument: 'logits'": lambda _: value_and_grad(cross_entropy)(),
        "cross_entropy: got an unexpected keyword argument 'weights'": lambda _: grad(cross_entropy)(
            np.zeros(3), 0, weights=np.ones(3)
        ),
        "cross_entropy: multiple values for argument 'logits'": lambda _: grad(cross_entropy)(
            np.zeros(3), 0, logits=np.zeros(3)
        ),
        "cross_entropy: multiple values for argument 'labels'": lambda _: grad(partial(cross_entropy, labels=0))(
            np.zeros(3), 0
        ),
        "cross_entropy: too many positional arguments": lambda _: vjp(cross_entropy)(np.zeros(3), 0, -1),
        "softmax: too many positional arguments": lambda _: vjp(softmax)(np.zeros(3), -1),
        "vector must be an array of shape (3,), got None; pass vector=...": lambda _: hvp(cross_entropy)(
            np.zeros(3), 0
        ),
    },
)


@table([*FUNCTIONS, *ARGNUMS, *CALLS])
def test_refused_before_there_is_an_array(bad: Bad) -> None:
    assert_says(bad, lambda: bad.call(None))  # type: ignore[arg-type] # nothing is asked of inputs


@pytest.mark.backends("torch")
def test_functions_of_torch(backend: Backend) -> None:
    theirs = backend.xp.nn.functional.cross_entropy
    came = "torch.nn.functional.cross_entropy"
    assert_says(Bad(TypeError, stranger("value_and_grad", came), id), lambda: value_and_grad(theirs))


@pytest.mark.backends("jax")
def test_functions_wrapped_by_jax(backend: Backend) -> None:
    """The other way round it works, and the text says so."""
    import jax

    text = (
        "grad must be given cross_entropy itself, got it wrapped as a PjitFunction; "
        "transform the result instead, for example jit(grad(cross_entropy))"
    )
    assert_says(Bad(TypeError, text, id), lambda: grad(jax.jit(cross_entropy)))
    x = backend.array([0.0, 0.0], "float32")
    np.testing.assert_array_equal(jax.jit(grad(cross_entropy), static_argnums=1)(x, 0), [-0.5, 0.5])


# -- arrays -----------------------------------------------------------------------------------------------------------


def no_number(name: str, came: str) -> str:
    hint = "" if came == "None" else f" of no dimensions, for example numpy.asarray({came})"
    return f"{name} must be a floating array to be differentiated by, got {came}; pass an array{hint}"


def no_float(name: str, came: str) -> str:
    return f"{name} must be a floating array to be differentiated by, got dtype {came}; cast it, for example to float32"


DIFFERENTIATED = refused(
    TypeError,
    {
        no_float("logits", "int32"): lambda i: grad(cross_entropy)(i.ints(LOGITS), i.y),
        no_float("logits", "bool"): lambda i: hvp(cross_entropy)(i.bools(LOGITS), i.y, vector=i.x),
        no_float("x", "int32"): lambda i: hessian_diagonal(logsumexp)(i.ints(LOGITS)),
        "labels must be a floating array to be differentiated by, got dtype int32; class indices have no derivative; "
        "pass distributions, for example one_hot(labels, C)": lambda i: grad(cross_entropy, 1)(i.x, i.y),
        no_float("weight", "int32"): lambda i: grad(cross_entropy, "weight")(i.x, i.y, weight=i.ints([1, 2, 3])),
        no_float("b", "bool"): lambda i: grad(logsumexp, "b")(i.x, b=i.bools([True, True, False])),
        no_number("temperature", "2.0"): lambda i: grad(cross_entropy, "temperature")(i.x, i.y, temperature=2.0),
        no_number("temperature", "None"): lambda i: vjp(softmax, "temperature")(i.x),
        no_number("sample_weight", "1"): lambda i: grad(cross_entropy, (0, "sample_weight"))(i.x, i.y, sample_weight=1),
        no_number("b", "None"): lambda i: grad(logsumexp, "b")(i.x),
        "logits must be an array, got list; wrap it, for example with numpy.asarray(...)": lambda i: grad(
            cross_entropy
        )(LOGITS, i.y),
    },
)


def pulled(i: Inputs, cotangent: Any) -> object:
    return vjp(softmax)(i.x)[1](cotangent)


def paired(i: Inputs, cotangent: Any) -> object:
    return vjp(cross_entropy)(i.x, i.y, reduction="sum_and_weight")[1](cotangent)


def times(i: Inputs, vector: Any) -> object:
    return hvp(cross_entropy)(i.x, i.y, vector=vector)


def no_pair(came: str) -> str:
    return f"cotangent must be a tuple of 2 arrays, as the value is, got {came}; pass one for each"


def other_library(name: str) -> str:
    return f"{name} must be of the same library as logits, got  ...  beside  ... ; convert one of them"


COTANGENTS = refused(
    TypeError,
    {
        "cotangent must be a floating array, got dtype int32; cast it, for example to float32": lambda i: pulled(
            i, i.ints(LOGITS)
        ),
        "cotangent must be a floating array, got dtype bool; cast it, for example to float32": lambda i: pulled(
            i, i.bools(LOGITS)
        ),
        "cotangent must be an array, got list; wrap it, for example with numpy.asarray(...)": lambda i: pulled(
            i, LOGITS
        ),
        "cotangent must be an array, got tuple; wrap it, for example with numpy.asarray(...)": lambda i: pulled(
            i, (i.x,)
        ),
        "cotangent must be an array of shape (4, 3), got 1.0; make it an array of  ... ": lambda i: pulled(i, 1.0),
        "cotangent must be an array of shape (), got 1.0; make it an array of  ... ": lambda i: vjp(cross_entropy)(
            i.x, i.y
        )[1](1.0),
        "cotangent must be an array of shape (4, 3), got None; make it an array of  ... ": lambda i: pulled(i, None),
        other_library("cotangent"): lambda i: pulled(i, i.foreign(LOGITS)),
        "vector must be a floating array, got dtype int32; cast it, for example to float32": lambda i: times(
            i, i.ints(LOGITS)
        ),
        "vector must be an array, got list; wrap it, for example with numpy.asarray(...)": lambda i: times(i, LOGITS),
        "vector must be an array of shape (4, 3), got 1; make it an array of  ... ": lambda i: times(i, 1),
        "vector must be an array of shape (4, 3), got None; pass vector=...": lambda i: hvp(logsumexp)(
            i.x, vector=None
        ),
        other_library("vector"): lambda i: times(i, i.foreign(LOGITS)),
        no_pair(" ... "): lambda i: paired(i, i.floats(1.0)),
        no_pair("list"): lambda i: paired(i, [i.floats(1.0)] * 2),
        no_pair("a tuple of 3"): lambda i: paired(i, (i.floats(1.0),) * 3),
        "cotangent must be an array of shape (), got 0; make it an array of  ... ": lambda i: paired(
            i, (i.floats(1.0), 0)
        ),
        # What comes beside the value has no derivative, and so no cotangent.
        "cotangent must be an array, got tuple; wrap it, for example with  ... ": lambda i: vjp(cross_entropy)(
            i.x, i.y, aux="lse"
        )[1]((i.floats(1.0), i.y)),
        "cotangent must be an array, got  ... ple; wrap it, for example with numpy.asarray(...)": lambda i: vjp(
            logsumexp
        )(i.x, return_sign=True)[1]((i.floats([1.0] * 4),) * 2),
    },
) + refused(
    ValueError,
    {
        "cotangent must have the shape of the value, (4, 3), got (3,); nothing is broadcast": lambda i: pulled(
            i, i.floats(LOGITS[0])
        ),
        "cotangent must have the shape of the value, (4,), got (4, 1); nothing is broadcast": lambda i: vjp(logsumexp)(
            i.x
        )[1](i.floats([[1.0]] * 4)),
        "cotangent must have the shape of the value, (), got (2,); nothing is broadcast": lambda i: vjp(cross_entropy)(
            i.x, i.y, aux="lse"
        )[1](i.floats([1.0, 2.0])),
        "vector must have the shape of the logits, (4, 3), got (2,); nothing is broadcast": lambda i: times(
            i, i.floats([1.0, 2.0])
        ),
        "vector must have the shape of the x, (4, 3), got (1, 3); nothing is broadcast": lambda i: hvp(logsumexp)(
            i.x, vector=i.floats(LOGITS[:1])
        ),
    },
)


@table([*DIFFERENTIATED, *COTANGENTS])
def test_refused_on_every_backend(backend: Backend, bad: Bad) -> None:
    inputs = Inputs(backend)
    assert_says(bad, lambda: backend.call(bad.call, inputs))
    inputs.assert_untouched()


def not_of(name: str, logits: str) -> str:
    return f"{name} must be of the same library as {logits}, got  ...  beside numpy; convert one of them"


BESIDE_NUMPY = refused(
    TypeError,
    {
        not_of("cotangent", "logits"): lambda i: vjp(softmax)(np.asarray(LOGITS))[1](i.x),
        not_of("vector", "x"): lambda i: hvp(logsumexp)(np.asarray(LOGITS), vector=i.x),
    },
)


@pytest.mark.backends("jax", "dask")
@table(BESIDE_NUMPY)
def test_numpy_logits_take_numpy_cotangents(backend: Backend, bad: Bad) -> None:
    """The other way round NumPy arrays may stand beside (§1.2), but a value that NumPy has is pulled back by NumPy."""
    assert_says(bad, lambda: backend.call(bad.call, Inputs(backend)))


@pytest.mark.backends("torch", "strict", "strict-device2")
def test_another_device(backend: Backend) -> None:
    inputs = Inputs(backend)
    if backend.library == "torch":
        there, came = inputs.x.to("meta"), "meta"
    else:
        there = backend.xp.asarray(inputs.x, device=backend.xp.Device("device1"), copy=True)
        came = "array_api_strict.Device('device1')"
    for name, call in (("cotangent", pulled), ("vector", times)):
        text = f"{name} must be on the device of logits,  ... , got {came}; move one of them"
        assert_says(Bad(ValueError, text, id), partial(call, inputs, there))


@pytest.mark.backends("numpy", "array_api_strict", "torch", "jax")
@pytest.mark.parametrize("function", [value_and_grad, grad, vjp, hessian_diagonal], ids=lambda f: f.__name__)
def test_the_call_is_checked_as_ever(backend: Backend, function: Any) -> None:
    """What the function itself refuses, its derivatives refuse in the same words."""
    inputs = Inputs(backend)
    bad = Bad(
        ValueError,
        "labels must be from 0 to 2, got 3 at position 1; to leave such examples out pass ignore_index=3",
        lambda i: function(cross_entropy)(i.x, i.ints([0, 3, 1, 0])),
    )
    assert_says(bad, lambda: backend.call(bad.call, inputs))
    bad = Bad(
        ValueError,
        "reduction must be one of 'mean', 'sum', 'none', 'sum_and_weight', got 'avg'",
        lambda i: function(cross_entropy)(i.x, i.y, reduction="avg"),
    )
    assert_says(bad, lambda: backend.call(bad.call, inputs))
    inputs.assert_untouched()
