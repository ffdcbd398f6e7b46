"""From an ONNX operator to the function that runs it on torch tensors."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from torch import Tensor

from offramp.compiler.errors import UnsupportedError
from offramp.compiler.execute.constants import describe
from offramp.compiler.execute.convolution import CONVOLUTION
from offramp.compiler.execute.creation import CREATION
from offramp.compiler.execute.elementwise import ELEMENTWISE
from offramp.compiler.execute.layout import LAYOUT
from offramp.compiler.execute.normalization import NORMALIZATION
from offramp.compiler.execute.pooling import POOLING
from offramp.compiler.execute.quantization import QUANTIZATION
from offramp.compiler.execute.reduction import REDUCTION
from offramp.compiler.execute.resize import RESIZE

Operator = Callable[..., Tensor | tuple[Tensor, ...]]
"""`operator(node, *operands)`: absent optional operands are None."""

OPERATORS: dict[str, Operator] = {
    **CONVOLUTION,
    **CREATION,
    **ELEMENTWISE,
    **LAYOUT,
    **NORMALIZATION,
    **POOLING,
    **QUANTIZATION,
    **REDUCTION,
    **RESIZE,
}

FIXED_OPERANDS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "DequantizeLinear": (1,),
    "Pad": (2,),
    "QuantizeLinear": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
}
"""Operand positions that are measured or configured, not learned: gradients never move them."""


def operator_of(node: ir.Node) -> Operator:
    """The function for a node.

    Raises:
        UnsupportedError: no torch function for this operator; names it and its node.
    """
    if node.domain not in {"", "ai.onnx"} or node.op_type not in OPERATORS:
        domain = f"{node.domain}." if node.domain else ""
        raise UnsupportedError(
            f"no torch function for operator {domain}{node.op_type} ({describe(node)}); "
            "the network can be compiled but not trained: leave out fine-tuning, or rewrite "
            "the node with standard operators"
        )
    return OPERATORS[node.op_type]
