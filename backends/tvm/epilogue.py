"""Elementwise work done on a kernel's accumulators before they are stored.

An epilogue is a chain of steps on the value `v` of one output element (or a vector of channels).
Activations follow the ONNX operator specification; the second operand of a binary step is a
tensor of the output's shape (a residual, read element by element just before the store, so the
sum may overwrite it), a vector of one value per channel, or a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from tvm import tirx

from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, constant


class Operand(Enum):
    """What the second operand of a binary step is."""

    NONE = "none"
    TENSOR = "tensor"
    CHANNEL = "channel"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Step:
    """One elementwise operation on the accumulator.

    op: ONNX operator. values: its numeric attributes, in the order that `_UNARY` documents, or the
    constant operand of a binary step. reversed: the accumulator is the right operand.
    """

    op: str
    values: tuple[float, ...] = ()
    operand: Operand = Operand.NONE
    reversed: bool = False

    @property
    def has_argument(self) -> bool:
        """Whether the kernel takes one more pointer for this step."""
        return self.operand in (Operand.TENSOR, Operand.CHANNEL)


Epilogue = tuple[Step, ...]

_BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}


def _clip(v: Expr, lanes: int, low: float, high: float) -> Expr:
    return tirx.min(tirx.max(v, constant(low, lanes)), constant(high, lanes))


def _leaky_relu(v: Expr, lanes: int, alpha: float) -> Expr:
    zero = constant(0.0, lanes)
    return tirx.max(v, zero) + tirx.min(v, zero) * constant(alpha, lanes)


def _sigmoid(v: Expr, lanes: int) -> Expr:
    one = constant(1.0, lanes)
    return one / (one + tirx.exp(constant(0.0, lanes) - v))


def _hard_sigmoid(v: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    return _clip(v * constant(alpha, lanes) + constant(beta, lanes), lanes, 0.0, 1.0)


_UNARY: dict[str, Callable[..., Expr]] = {
    "Relu": lambda v, lanes: tirx.max(v, constant(0.0, lanes)),
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "Sigmoid": _sigmoid,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda v, lanes: v * _hard_sigmoid(v, lanes, 1.0 / 6.0, 0.5),
    "Silu": lambda v, lanes: v * _sigmoid(v, lanes),
    "Tanh": lambda v, lanes: tirx.tanh(v),
}

_LONG = frozenset({"Sigmoid", "Silu", "Tanh"})

UNARY = frozenset(_UNARY)
"""Operators with one tensor operand; `values` are their attributes in the signature's order."""
BINARY = frozenset(_BINARY)
"""Operators with two operands."""


def parameters(
    code: FunctionBuilder, epilogue: Epilogue, positions: int, channels: int
) -> list[Array]:
    """Declare the pointers of an epilogue's arguments, in order."""
    return [
        code.pointer(f"operand{i}", channels * (positions if step.operand is Operand.TENSOR else 1))
        for i, step in enumerate(epilogue)
        if step.has_argument
    ]


def is_long(epilogue: Epilogue) -> bool:
    """Whether the code of an epilogue is too long to repeat it for every element of a tile.

    It is then run in a loop over stored sums, unless a residual may lie where they are stored.
    """
    reads_tensor = any(step.operand is Operand.TENSOR for step in epilogue)
    return not reads_tensor and any(step.op in _LONG for step in epilogue)


@dataclass(frozen=True)
class Place:
    """Where a value goes: `lanes` output elements at `index`, of channels from `channel` on."""

    index: Expr
    channel: Expr
    lanes: int


def apply(epilogue: Epilogue, value: Expr, operands: Sequence[Array], place: Place) -> Expr:
    """The epilogue of `place.lanes` output elements; `operands` belong to its steps, in order."""
    remaining = iter(operands)
    lanes = place.lanes
    for step in epilogue:
        if step.operand is Operand.NONE:
            value = _UNARY[step.op](value, lanes, *step.values)
            continue
        if step.operand is Operand.CONSTANT:
            other = constant(step.values[0], lanes)
        else:
            index = place.index if step.operand is Operand.TENSOR else place.channel
            other = next(remaining).load(index, lanes)
        pair = (other, value) if step.reversed else (value, other)
        value = _BINARY[step.op](*pair)
    return value


def apply_in_memory(
    code: FunctionBuilder,
    epilogue: Epilogue,
    operands: Sequence[Array],
    output: Array,
    *,
    index: Expr,
    channel: Expr,
    count: int,
) -> None:
    """The epilogue of `count` channels from `channel` on, already stored from `index` on."""
    if not epilogue:
        return
    with code.loop("channel", count) as step:
        place = Place(index + step, channel + step, 1)
        value = apply(epilogue, output.load(place.index), operands, place)
        code.store(output, place.index, value)
