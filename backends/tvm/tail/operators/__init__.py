"""Lowerings of our own: operators that TVM's importer lacks or gets wrong."""

from __future__ import annotations

from offramp.backends.tvm.tail.operators import (
    deform_conv,
    elementwise,
    linear,
    normalizing,
    ordering,
    padding,
    quantized,
    recurrent,
    reductions,
    resize,
    scattering,
    shapes,
    windows,
)
from offramp.backends.tvm.tail.operators.context import Lowering, OperatorCall

LOWERINGS: dict[str, Lowering] = {
    "BatchNormalization": normalizing.batch_normalization,
    "BitCast": elementwise.bit_cast,
    "BitShift": elementwise.bit_shift,
    "Col2Im": windows.col_to_im,
    "Concat": shapes.concat,
    "ConvInteger": quantized.conv_integer,
    "CumProd": ordering.cumulative_product,
    "CumSum": ordering.cumulative_sum,
    "DFT": linear.dft,
    "DeformConv": deform_conv.deform_conv,
    "DequantizeLinear": quantized.dequantize,
    "Det": linear.determinant,
    "Dropout": normalizing.dropout,
    "EyeLike": shapes.eye_like,
    "GRU": recurrent.gru,
    "Gather": scattering.gather,
    "IsInf": elementwise.is_inf,
    "LSTM": recurrent.lstm,
    "LpNormalization": normalizing.lp_normalization,
    "MaxPool": windows.max_pool,
    "Mish": elementwise.mish,
    "Mod": elementwise.modulo,
    "OneHot": scattering.one_hot,
    "Pad": padding.pad,
    "Pow": elementwise.power,
    "QLinearConv": quantized.qlinear_conv,
    "QLinearMatMul": quantized.qlinear_matmul,
    "QuantizeLinear": quantized.quantize,
    "RNN": recurrent.rnn,
    "Range": shapes.range_,
    "ReduceMax": reductions.reduce_max,
    "ReduceMin": reductions.reduce_min,
    "Reshape": shapes.view,
    "Resize": resize.resize,
    "ReverseSequence": ordering.reverse_sequence,
    "RoiAlign": windows.roi_align,
    "STFT": linear.stft,
    "Shape": shapes.shape,
    "Size": shapes.size,
    "Split": shapes.split,
    "Squeeze": shapes.view,
    "TensorScatter": scattering.tensor_scatter,
    "TopK": ordering.top_k,
    "Unsqueeze": shapes.view,
}
"""By operator of the standard set."""

BY_FUNCTION_BODY = frozenset({"AffineGrid", "Attention", "RMSNormalization", "SpaceToDepth"})
"""Operators that TVM's importer reads differently from ONNX, lowered by ONNX's own definition."""

__all__ = ["BY_FUNCTION_BODY", "LOWERINGS", "Lowering", "OperatorCall"]
