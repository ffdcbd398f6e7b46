"""A network with every integer operator in odd shapes, quantised by onnxruntime's own tool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

NETWORK = """
<ir_version: 9, opset_import: ["" : 17]>
odd (float[1,5,11,9] x) => (float[1,7] y) <
  float[20,5,3,3] w1, float[20] b1, float[20,1,3,4] d1, float[20] e1, float[20,1,3,3] d2,
  float[20] e2, float[20,20,1,1] w2, float[20] b2, float[9,20,3,3] w3, float[9] b3,
  float[9,20,1,1] w4, float[9] b4, float[6,9,5,5] w5, float[6] b5, int64[2] flat = {1, -1},
  float low = {0.0}, float high = {6.0}, float[24,10] m1, float[10] c1, float[10,7] m2, float[7] c2
> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  b = Relu (a)
  c = Conv <group = 20, pads = [1,2,1,1]> (b, d1, e1)
  d = Clip (c, low, high)
  e = Conv <group = 20, pads = [0,0,1,1], strides = [1,1]> (d, d2, e2)
  f = Conv (e, w2, b2)
  skip = Conv <strides = [2,2]> (f, w4, b4)
  g = Conv <strides = [2,2], pads = [0,0,2,2]> (f, w3, b3)
  h = Add (g, skip)
  i = Relu (h)
  j = Conv <pads = [2,2,2,2]> (i, w5, b5)
  k = AveragePool <kernel_shape = [2,2], strides = [2,2]> (j)
  l = Reshape (k, flat)
  m = Gemm (l, m1, c1)
  n = Relu (m)
  y = Gemm (n, m2, c2)
}
"""


def samples(count: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 5, 11, 9)).astype(np.float32)


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no stubs
    """Calibration samples one at a time."""

    def __init__(self) -> None:
        self._rows: Iterator[npt.NDArray[np.float32]] = iter(samples(20, 0))

    def get_next(self) -> Any:
        row = next(self._rows, None)
        return None if row is None else {"x": row[None]}


@pytest.fixture(scope="session")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The text above with random weights, in QDQ form: per-channel int8 weights."""
    return quantised_network(tmp_path_factory.mktemp("quantised"), QuantType.QInt8)


@pytest.fixture(scope="session")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The same with activations of unsigned bytes, as the tool makes them unless told otherwise."""
    return quantised_network(tmp_path_factory.mktemp("unsigned"), QuantType.QUInt8)


def quantised_network(folder: Path, activations: QuantType) -> onnx.ModelProto:
    """The text above with random weights, quantised in `folder`."""
    model = onnx.parser.parse_model(NETWORK)
    random = np.random.default_rng(3)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        data = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) + 1)
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(data.astype(np.float32), value.name)
        )
    del model.graph.value_info[:]
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(folder / "int8.onnx")
