from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.frontends.onnx_probe import samples_are_independent


def parse(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> {text}')


@pytest.mark.parametrize(
    ("body", "independent"),
    [
        ("y = Softmax<axis = 1>(x)", True),
        ("y = Softmax<axis = 0>(x)", False),
        ("y = CumSum(x, zero)", False),
        ("y = Log(x)", True),
    ],
)
@pytest.mark.parametrize("batch", [None, 5])
def test_mixing_samples_is_noticed(body: str, independent: bool, batch: int | None) -> None:
    def model(size: str) -> onnx.ModelProto:
        header = f"m (float[{size},4] x) => (float[{size},4] y) <int64 zero = {{0}}>"
        return parse(f"{header} {{ {body} }}")

    original, alone = model("N" if batch is None else str(batch)), from_onnx(model("1"))
    assert samples_are_independent(original, alone, batch) == independent


def test_a_result_of_another_size_is_no_batch() -> None:
    text = "m (float[N,4] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }"
    alone = from_onnx(parse(text.replace("N", "1")))
    assert not samples_are_independent(parse(text), alone, None)


def test_what_onnxruntime_cannot_run_is_not_vouched_for() -> None:
    text = "m (bfloat16[N,4] x) => (bfloat16[N,4] y) { y = Erf(x) }"
    alone = from_onnx(parse(text.replace("N", "1")))
    assert not samples_are_independent(parse(text), alone, None)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn"])
def test_quantised_models_with_a_free_batch_are_read(shared: Path, name: str) -> None:
    model = onnx.load(shared / "models" / f"{name}_int8.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    assert from_onnx(model).batched
