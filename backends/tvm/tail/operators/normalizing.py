"""Normalisations, as ONNX functions of simpler operators."""

from __future__ import annotations

import numpy as np

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.types import numpy_dtype


def lp_normalization(call: OperatorCall) -> str:
    """LpNormalization: divided by its norm along an axis, zero where the norm is."""
    axis = call.attribute("axis", -1)
    norm = {1: "ReduceL1", 2: "ReduceL2"}[call.attribute("p", 2)]
    return f"""
    LpNormalization (x) => (y) {{
        axes = Constant <value_ints = [{axis}]> ()
        norm = {norm} <keepdims = 1> (x, axes)
        zero_real = Constant <value_float = 0.0> ()
        one_real = Constant <value_float = 1.0> ()
        zero = CastLike (zero_real, x)
        one = CastLike (one_real, x)
        vanishes = Equal (norm, zero)
        divisor = Where (vanishes, one, norm)
        y = Div (x, divisor)
    }}"""


def batch_normalization(call: OperatorCall) -> str | None:
    """BatchNormalization in training mode: statistics of the batch, and running ones updated."""
    if not call.attribute("training_mode", 0):
        return None
    rank = len(call.type_of(0).shape)
    axes = [axis for axis in range(rank) if axis != 1]
    return f"""
    BatchNormalization (x, scale, bias, mean, var) => (y, new_mean, new_var) {{
        axes = Constant <value_ints = {axes}> ()
        column = Constant <value_ints = {[-1] + [1] * (rank - 2)}> ()
        batch_mean = ReduceMean <keepdims = 1> (x, axes)
        deviation = Sub (x, batch_mean)
        square = Mul (deviation, deviation)
        batch_var = ReduceMean <keepdims = 1> (square, axes)
        epsilon_real = Constant <value_float = {call.attribute("epsilon", 1e-5)!r}> ()
        epsilon = CastLike (epsilon_real, x)
        shifted = Add (batch_var, epsilon)
        deviation_unit = Sqrt (shifted)
        normal = Div (deviation, deviation_unit)
        scale_column = Reshape (scale, column)
        bias_column = Reshape (bias, column)
        scaled = Mul (normal, scale_column)
        y = Add (scaled, bias_column)
        keep_real = Constant <value_float = {call.attribute("momentum", 0.9)!r}> ()
        take_real = Constant <value_float = {1 - call.attribute("momentum", 0.9)!r}> ()
        keep = CastLike (keep_real, x)
        take = CastLike (take_real, x)
        flat_mean = Squeeze (batch_mean, axes)
        flat_var = Squeeze (batch_var, axes)
        old_mean = Mul (mean, keep)
        old_var = Mul (var, keep)
        add_mean = Mul (flat_mean, take)
        add_var = Mul (flat_var, take)
        new_mean = Add (old_mean, add_mean)
        new_var = Add (old_var, add_var)
    }}"""


def dropout(call: OperatorCall) -> object:
    """Dropout: the identity, and a mask that keeps everything.

    Raises:
        RefusalError: it drops values at random.
    """
    training = call.operand(2)
    if training is not None and not isinstance(training, np.ndarray):
        raise RefusalError("'training_mode' must be a constant")
    if training is not None and training.any() and _ratio(call) > 0:
        raise RefusalError("in training mode it is random")
    return call.expression(0), np.ones(call.type_of(0).shape, numpy_dtype("bool"))


def _ratio(call: OperatorCall) -> float:
    if call.operand(1) is None:
        return 0.5
    return float(call.constant(1, "ratio").reshape(()))
