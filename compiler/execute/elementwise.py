"""Operators that act on each element alone, with NumPy broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.compiler.execute.constants import describe, torch_dtype

Elementwise = Callable[..., Tensor | tuple[Tensor, ...]]


def plain(function: Callable[..., Tensor]) -> Elementwise:
    """An operator without attributes that torch has under the same meaning."""

    def run(_: ir.Node, *operands: Tensor) -> Tensor:
        return function(*operands)

    return run


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Elementwise:
    """An operator over any number of operands, folded from the left."""

    def run(_: ir.Node, *operands: Tensor) -> Tensor:
        return functools.reduce(function, operands)

    return run


def divide(_: ir.Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    """Div: integers truncate toward zero."""
    if dividend.is_floating_point():
        return dividend / divisor
    return torch.div(dividend, divisor, rounding_mode="trunc")


def modulo(node: ir.Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    """Mod: the sign follows the divisor, or the dividend with `fmod`."""
    if node.attributes.get_int("fmod", 0):
        return torch.fmod(dividend, divisor)
    return torch.remainder(dividend, divisor)


def power(_: ir.Node, base: Tensor, exponent: Tensor) -> Tensor:
    """Pow: the result has the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def mean(_: ir.Node, *operands: Tensor) -> Tensor:
    """Mean of the operands."""
    return functools.reduce(torch.add, operands) / len(operands)


def clip(_: ir.Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip with optional bounds; the upper bound wins where they cross."""
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def leaky_relu(node: ir.Node, x: Tensor) -> Tensor:
    """LeakyRelu."""
    return F.leaky_relu(x, node.attributes.get_float("alpha", 0.01))


def prelu(_: ir.Node, x: Tensor, slope: Tensor) -> Tensor:
    """PRelu: the slope broadcasts to the input."""
    return torch.where(x < 0, x * slope, x)


def elu(node: ir.Node, x: Tensor) -> Tensor:
    """Elu."""
    return F.elu(x, node.attributes.get_float("alpha", 1.0))


def celu(node: ir.Node, x: Tensor) -> Tensor:
    """Celu."""
    return F.celu(x, node.attributes.get_float("alpha", 1.0))


def selu(node: ir.Node, x: Tensor) -> Tensor:
    """Selu."""
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return gamma * F.elu(x, alpha)


def thresholded_relu(node: ir.Node, x: Tensor) -> Tensor:
    """ThresholdedRelu."""
    return torch.where(x > node.attributes.get_float("alpha", 1.0), x, torch.zeros_like(x))


def shrink(node: ir.Node, x: Tensor) -> Tensor:
    """Shrink: zero within [-lambd, lambd], moved toward zero by `bias` outside."""
    bias = node.attributes.get_float("bias", 0.0)
    bound = node.attributes.get_float("lambd", 0.5)
    shrunk = torch.where(x > bound, x - bias, torch.zeros_like(x))
    return torch.where(x < -bound, x + bias, shrunk)


def hard_sigmoid(node: ir.Node, x: Tensor) -> Tensor:
    """HardSigmoid."""
    alpha = node.attributes.get_float("alpha", 0.2)
    beta = node.attributes.get_float("beta", 0.5)
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def hard_swish(_: ir.Node, x: Tensor) -> Tensor:
    """HardSwish."""
    return x * torch.clamp(x / 6.0 + 0.5, 0.0, 1.0)


def gelu(node: ir.Node, x: Tensor) -> Tensor:
    """Gelu, exact or with the tanh approximation (Hendrycks and Gimpel, 2016)."""
    return F.gelu(x, approximate=node.attributes.get_string("approximate", "none"))


def swish(node: ir.Node, x: Tensor) -> Tensor:
    """Swish: x * sigmoid(alpha * x)."""
    return x * torch.sigmoid(node.attributes.get_float("alpha", 1.0) * x)


def cast_to(node: ir.Node, x: Tensor) -> Tensor:
    """Cast."""
    return x.to(torch_dtype(ir.DataType(node.attributes.get_int("to", 1)), describe(node)))


def cast_like(_: ir.Node, x: Tensor, like: Tensor) -> Tensor:
    """CastLike."""
    return x.to(like.dtype)


def is_infinite(node: ir.Node, x: Tensor) -> Tensor:
    """IsInf, for either sign or one of them."""
    positive = torch.isposinf(x) & bool(node.attributes.get_int("detect_positive", 1))
    return positive | (torch.isneginf(x) & bool(node.attributes.get_int("detect_negative", 1)))


def dropout(_: ir.Node, x: Tensor, *__: Tensor | None) -> tuple[Tensor, Tensor]:
    """Dropout at inference: the identity, and a mask that keeps everything."""
    return x, torch.ones_like(x, dtype=torch.bool)


ELEMENTWISE: dict[str, Elementwise] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "Cast": cast_to,
    "CastLike": cast_like,
    "Ceil": plain(torch.ceil),
    "Celu": celu,
    "Clip": clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": divide,
    "Dropout": dropout,
    "Elu": elu,
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Identity": plain(lambda x: x),
    "IsInf": is_infinite,
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": leaky_relu,
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": folded(torch.maximum),
    "Mean": mean,
    "Min": folded(torch.minimum),
    "Mish": plain(F.mish),
    "Mod": modulo,
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Round": plain(torch.round),
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Softplus": plain(F.softplus),
    "Softsign": plain(F.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": folded(torch.add),
    "Swish": swish,
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": thresholded_relu,
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
