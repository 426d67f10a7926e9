"""How other libraries differentiate a loss, for ``digits.py --with tensorflow,paddle,mlx,autograd,ndonnx``.

Each function returns what makes an array of NumPy's, and a function that returns a loss and its derivatives by the
parameters, a tuple of arrays. The loss is the same Python function for all of them, and calls
``softxent.cross_entropy``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

import softxent

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = Any
    Parameters = tuple[Array, Array]
    Loss = Callable[[Parameters, Array, Array], Array]
    Ways = tuple[Callable[[Any], Array], Callable[[Parameters, Array, Array], tuple[Array, Parameters]]]


def tensorflow(loss_of: Loss) -> Ways:
    """A tape, inside a graph."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it tells of the processor
    import tensorflow as tf

    @tf.function
    def value_and_gradient(parameters: Parameters, images: Array, labels: Array) -> tuple[Array, Parameters]:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            loss = loss_of(parameters, images, labels)
        return loss, tape.gradient(loss, parameters)

    return tf.convert_to_tensor, value_and_gradient


def paddle(loss_of: Loss) -> Ways:
    """Leaves, and a backward pass."""
    import paddle

    paddle.set_device("cpu")

    def value_and_gradient(parameters: Parameters, images: Array, labels: Array) -> tuple[Array, Parameters]:
        leaves = tuple(parameter.detach() for parameter in parameters)
        for leaf in leaves:
            leaf.stop_gradient = False
        loss = loss_of(leaves, images, labels)
        return loss.detach(), tuple(paddle.grad(loss, leaves))

    return paddle.to_tensor, value_and_gradient


def mlx(loss_of: Loss) -> Ways:
    """A transformation, of what is lazy; MLX has float64 on the CPU."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    return lambda x: mx.array(x, dtype=getattr(mx, x.dtype.name)), mx.value_and_grad(loss_of)


def autograd(loss_of: Loss) -> Ways:
    """A transformation of functions of NumPy arrays."""
    import autograd

    return np.asarray, autograd.value_and_grad(loss_of)


def ndonnx(_loss_of: Loss) -> Ways:
    """No derivatives of its own: softxent's are part of an ONNX model, which onnxruntime runs at every step."""
    import ndonnx as ndx
    import onnxruntime

    def model_of(shapes: dict[str, tuple[int, ...]]) -> onnxruntime.InferenceSession:
        given = {
            name: ndx.argument(shape=shape, dtype=ndx.int64 if name == "labels" else ndx.float64)
            for name, shape in shapes.items()
        }
        weights, bias, images, labels = given.values()
        loss, by_logits = softxent.value_and_grad(softxent.cross_entropy)(images @ weights + bias, labels)
        results = {"loss": loss, "by_weights": images.T @ by_logits, "by_bias": ndx.sum(by_logits, axis=0)}
        model = ndx.build(given, results).SerializeToString()
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    made: list[onnxruntime.InferenceSession] = []

    def value_and_gradient(parameters: Parameters, images: Array, labels: Array) -> tuple[Array, Parameters]:
        given = dict(zip(("weights", "bias", "images", "labels"), (*parameters, images, labels), strict=True))
        if not made:
            made.append(model_of({name: array.shape for name, array in given.items()}))
        loss, *by = made[0].run(None, given)
        return loss, tuple(by)

    return np.asarray, value_and_gradient


WAYS = {"tensorflow": tensorflow, "paddle": paddle, "mlx": mlx, "autograd": autograd, "ndonnx": ndonnx}
