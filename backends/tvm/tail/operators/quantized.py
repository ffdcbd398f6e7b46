"""Integer arithmetic with scales, as ONNX functions of simpler operators."""

from __future__ import annotations

from offramp.backends.tvm.tail.operators.context import OperatorCall


def qlinear_matmul(call: OperatorCall) -> str:
    """QLinearMatMul: integer product, then one multiplication and requantisation."""
    return """
    QLinearMatMul (a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero) => (y) {
        sums = MatMulInteger (a, b, a_zero, b_zero)
        scale = Mul (a_scale, b_scale)
        wide_scale = Cast <to = 1> (scale)
        wide_sums = Cast <to = 1> (sums)
        real = Mul (wide_sums, wide_scale)
        wide_y_scale = Cast <to = 1> (y_scale)
        y = QuantizeLinear (real, wide_y_scale, y_zero)
    }"""


def conv_integer(call: OperatorCall) -> str:
    """ConvInteger: exact in float64, whose 53 bits no sum of 8-bit products outgrows."""
    filters = _per_filter(call, first=True)
    return f"""
    ConvInteger <auto_pad, dilations, group, kernel_shape, pads, strides> (x, w, x_zero, w_zero)
        => (y) {{
        {_difference("x", call, 2)}
        {_difference("w", call, 3, filters)}
        sums = {_CONV} (x_real, w_real)
        y = Cast <to = 6> (sums)
    }}"""


def qlinear_conv(call: OperatorCall) -> str:
    """QLinearConv: exact sums in float64, one rounding at the end."""
    bias = f"""
        bias_shape = Constant <value_ints = {_per_filter(call, first=False)}> ()
        bias_column = Reshape (bias, bias_shape)
        bias_real = Cast <to = 11> (bias_column)
        sums = Add (products, bias_real)"""
    return f"""
    QLinearConv <auto_pad, dilations, group, kernel_shape, pads, strides>
        (x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias) => (y) {{
        {_difference("x", call, 2)}
        {_difference("w", call, 5, _per_filter(call, first=True))}
        products = {_CONV} (x_real, w_real)
        {bias if call.operand(8) is not None else "sums = Identity (products)"}
        scale = Mul (x_scale, w_scale)
        scale_shape = Constant <value_ints = {_per_filter(call, first=False)}> ()
        scale_column = Reshape (scale, scale_shape)
        scale_real = Cast <to = 11> (scale_column)
        scaled = Mul (sums, scale_real)
        real = Cast <to = 1> (scaled)
        y = QuantizeLinear (real, y_scale, y_zero)
    }}"""


_CONV = (
    "Conv <auto_pad: string = @auto_pad, dilations: ints = @dilations, group: int = @group, "
    "kernel_shape: ints = @kernel_shape, pads: ints = @pads, strides: ints = @strides>"
)


def _difference(name: str, call: OperatorCall, position: int, shape: str = "") -> str:
    """`<name>_real`: a tensor minus its zero point, if it has one, in float64."""
    if call.operand(position) is None:
        return f"{name}_real = Cast <to = 11> ({name})"
    zero = f"{name}_zero"
    column = f"{name}_shape = Constant <value_ints = {shape}> ()\n" if shape else ""
    reshaped = f"Reshape ({zero}, {name}_shape)" if shape else f"Identity ({zero})"
    return f"""{column}
        {name}_column = {reshaped}
        {name}_offset = Cast <to = 11> ({name}_column)
        {name}_wide = Cast <to = 11> ({name})
        {name}_real = Sub ({name}_wide, {name}_offset)"""


def _per_filter(call: OperatorCall, first: bool) -> str:
    """The shape that lines up one value per filter with the weights (first) or the result."""
    rank = len(call.type_of(0).shape)
    ones = [1] * (rank - (1 if first else 2))
    return str([-1, *ones] if first else [1, -1, *ones])
