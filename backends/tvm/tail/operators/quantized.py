"""Integer arithmetic with scales, as ONNX functions of simpler operators."""

from __future__ import annotations

import onnx_ir as ir

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.types import numpy_dtype


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


def quantize(call: OperatorCall) -> str | None:
    """QuantizeLinear in blocks, or to types that TVM cannot quantise to."""
    stored = call.stored_dtypes[0] if call.stored_dtypes else None
    small_integer = stored in ("int2", "int4", "uint2", "uint4")
    if not (small_integer or _is_small_float(stored) or call.attribute("block_size", 0)):
        return None
    has_zero = call.operand(2) is not None
    if _is_small_float(stored):
        steps = "real = Add (scaled, zero_real)" if has_zero else "real = Identity (scaled)"
    else:
        low, high = _LIMITS[stored or "uint8"]
        moved = "Add (whole, zero_real)" if has_zero else "Identity (whole)"
        steps = _ROUND.format(moved=moved, low=float(low), high=float(high))
    code = _element_code(call)
    return f"""
    QuantizeLinear (x, scale, zero) => (y) {{
        {_spread("scale", call, 1)}
        {_spread("zero", call, 2) if has_zero else ""}
        wide = Cast <to = 1> (x)
        scaled = Div (wide, scale_real)
        {steps}
        y = Cast <to = {code}> (real)
    }}"""


def dequantize(call: OperatorCall) -> str | None:
    """DequantizeLinear in blocks, or of small floats."""
    if not call.attribute("block_size", 0) and "float" not in call.type_of(0).dtype:
        return None
    shift = "shifted = Sub (wide, zero_real)"
    return f"""
    DequantizeLinear (x, scale, zero) => (y) {{
        {_spread("scale", call, 1)}
        {_spread("zero", call, 2) if call.operand(2) is not None else ""}
        wide = Cast <to = 1> (x)
        {shift if call.operand(2) is not None else "shifted = Identity (wide)"}
        product = Mul (shifted, scale_real)
        y = CastLike (product, scale)
    }}"""


_LIMITS = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "uint2": (0, 3),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
_ROUND = """
        whole = Round (scaled)
        moved = {moved}
        low = Constant <value_float = {low}> ()
        high = Constant <value_float = {high}> ()
        real = Clip (moved, low, high)"""


def _is_small_float(dtype: str | None) -> bool:
    return dtype is not None and dtype.startswith(("float8", "float4"))


def _element_code(call: OperatorCall) -> int:
    """ONNX's code of the type that the result is computed in."""
    declared = call.declared(0)
    dtype = declared.dtype if declared is not None else "uint8"
    return int(ir.DataType.from_numpy(numpy_dtype(dtype)))


def _spread(name: str, call: OperatorCall, position: int) -> str:
    """`<name>_real`: a scale or zero point in float32, broadcast against the whole tensor."""
    data, kind = call.type_of(0).shape, call.type_of(position)
    axis = call.attribute("axis", 1) % max(len(data), 1)
    wide = f"{name}_wide = Cast <to = 1> ({name})"
    if kind.elements == 1:
        one = f"{name}_shape = Constant <value_ints = [1]> ()"
        return f"{wide}\n{one}\n{name}_real = Reshape ({name}_wide, {name}_shape)"
    if not call.attribute("block_size", 0):
        shape = [1] * axis + [-1] + [1] * (len(data) - axis - 1)
        column = f"{name}_shape = Constant <value_ints = {shape}> ()"
        return f"{wide}\n{column}\n{name}_real = Reshape ({name}_wide, {name}_shape)"
    block = call.attribute("block_size", 0)
    repeated = [*kind.shape[: axis + 1], block, *kind.shape[axis + 1 :]]
    whole = [*kind.shape[:axis], kind.shape[axis] * block, *kind.shape[axis + 1 :]]
    return f"""{wide}
        {name}_axis = Constant <value_ints = [{axis + 1}]> ()
        {name}_open = Unsqueeze ({name}_wide, {name}_axis)
        {name}_repeated = Constant <value_ints = {repeated}> ()
        {name}_blocks = Expand ({name}_open, {name}_repeated)
        {name}_whole = Constant <value_ints = {whole}> ()
        {name}_flat = Reshape ({name}_blocks, {name}_whole)
        {name}_begin = Constant <value_ints = [0]> ()
        {name}_end = Constant <value_ints = [{data[axis]}]> ()
        {name}_along = Constant <value_ints = [{axis}]> ()
        {name}_real = Slice ({name}_flat, {name}_begin, {name}_end, {name}_along)"""
