from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from onnxruntime import InferenceSession

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.torch_module import GraphModule, store

FLATTENED = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (float[1,4,4,3] image) => (float[1,2] answer, float[6,4] columns)
<float[6,3,1,1] kernel, float[6] bias, float[96,2] dense,
 int64[2] rows = {1, 96}, int64[2] merged = {6, 4}, float half = {0.5}>
{
  planes = Transpose <perm = [0, 3, 1, 2]> (image)
  features = Conv (planes, kernel, bias)
  active = Relu (features)
  flat = Reshape (active, rows)
  logits = MatMul (flat, dense)
  answer = Mul (logits, half)
  rows_only = ReduceMean <keepdims = 0> (active, axis)
  columns = Reshape (rows_only, merged)
}
""".replace("float half = {0.5}>", "float half = {0.5}, int64[1] axis = {3}>")


def tiny() -> ir.Model:
    """A network that writes the batch size 1 into its Reshapes."""
    model = onnx.parser.parse_model(FLATTENED)
    rng = np.random.default_rng(0)
    for name, shape in (("kernel", (6, 3, 1, 1)), ("bias", (6,)), ("dense", (96, 2))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    parsed: ir.Model = ir.from_proto(model)
    return parsed


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 4, 4, 3)).astype(np.float32)


def one_by_one(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime answers to each sample alone, stacked."""
    session = InferenceSession(ir.to_proto(model).SerializeToString())
    name = model.graph.inputs[0].name
    answers = zip(*(session.run(None, {name: x[i : i + 1]}) for i in range(len(x))), strict=True)
    return [np.stack([y[0] if y.shape[0] == 1 else y for y in ys]) for ys in answers]


def test_a_batch_means_independent_samples() -> None:
    x = images(5)
    answer, columns = GraphModule(tiny().graph)(torch.from_numpy(x))
    expected_answer, expected_columns = one_by_one(tiny(), x)
    np.testing.assert_allclose(answer.detach(), expected_answer, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(columns.detach(), expected_columns, rtol=1e-5, atol=1e-5)
    assert columns.shape == (5, 6, 4)


def test_without_a_batch_axis_the_graph_runs_as_it_is() -> None:
    module = GraphModule(tiny().graph, batched=False)
    answer, columns = module(torch.from_numpy(images(1)))
    assert answer.shape == (1, 2)
    assert columns.shape == (6, 4)


def test_float_initializers_are_parameters_and_only_weights_are_learned() -> None:
    module = GraphModule(tiny().graph)
    learned = {
        name: weight.requires_grad
        for name, weight in zip(module.weight_names, module.weights, strict=True)
    }
    assert learned == {"half": False, "kernel": True, "bias": True, "dense": True}


def test_values_inside_the_graph_can_be_tapped() -> None:
    x = torch.from_numpy(images(3))
    module = GraphModule(tiny().graph)
    *_, features, active = module(x, taps=("features", "active"))
    assert features.shape == (3, 6, 4, 4)
    torch.testing.assert_close(active, torch.relu(features))


def test_gradients_equal_those_of_torch_itself() -> None:
    x = torch.from_numpy(images(3))
    module = GraphModule(tiny().graph)
    weights = dict(zip(module.weight_names, module.weights, strict=True))
    module(x)[0].square().sum().backward()
    found = weights["kernel"].grad
    kernel = weights["kernel"].detach().clone().requires_grad_()
    features = torch.relu(torch.conv2d(x.permute(0, 3, 1, 2), kernel, weights["bias"].detach()))
    logits = 0.5 * features.flatten(1) @ weights["dense"].detach()
    logits.square().sum().backward()
    assert found is not None
    assert kernel.grad is not None
    torch.testing.assert_close(found, kernel.grad)


def test_stored_weights_give_the_trained_answers() -> None:
    model = tiny()
    module = GraphModule(model.graph)
    with torch.no_grad():
        module.weights[module.weight_names.index("dense")].mul_(2)
    trained = store(module, model.graph)
    x = images(2)
    found = one_by_one(ir.Model(trained, ir_version=10), x)[0]
    np.testing.assert_allclose(found, 2 * one_by_one(model, x)[0], rtol=1e-5)
    originals = set(model.graph.initializers.values())
    assert originals.isdisjoint(trained.initializers.values())
    kept = trained.initializers["kernel"].const_value
    assert kept is model.graph.initializers["kernel"].const_value


def test_storing_into_another_graph_is_refused() -> None:
    other = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> other (float[1] x) => (float[1] y) '
            "{ y = Relu(x) }"
        )
    )
    with pytest.raises(UserError, match="no such initializer"):
        store(GraphModule(tiny().graph), other.graph)


def test_wrong_inputs_are_refused() -> None:
    module = GraphModule(tiny().graph)
    with pytest.raises(UserError, match=r'"image".*\[4, 4, 3\].*\[2, 3, 4, 4\]'):
        module(torch.zeros(2, 3, 4, 4))
    with pytest.raises(UserError, match="expected 1 inputs"):
        module()
    with pytest.raises(UserError, match="nowhere"):
        module(torch.zeros(2, 4, 4, 3), taps=("nowhere",))


def test_an_unknown_operator_is_named() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    noise (float[1,2] x) => (float[1,2] y) { y = RandomNormalLike (x) }
    """
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    graph[0].name = "noisy"
    with pytest.raises(UnsupportedError, match='RandomNormalLike node "noisy"'):
        GraphModule(graph)


def test_a_shape_computed_from_the_data_is_refused() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    late (float[1,4] x) => (float[1,4] y)
    { shape = Cast <to = 7> (x)  y = Reshape (x, shape) }
    """
    module = GraphModule(ir.from_proto(onnx.parser.parse_model(text)).graph)
    with pytest.raises(UnsupportedError, match="computed from the data"):
        module(torch.ones(3, 4))


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["ic_resnet8", "ic_resnet8_jpeg", "kws_dscnn", "vww_mbv1", "ad_fcae"]
)
def test_shared_models_equal_onnxruntime(shared: Path, name: str) -> None:
    model = ir.load(shared / f"models/{name}_float.onnx")
    samples = np.load(shared / f"models/{name.removesuffix('_jpeg')}_float_samples.npz")["x"]
    shape = model.graph.inputs[0].shape
    assert shape is not None
    x = samples.astype(np.float32).reshape(len(samples), *shape.numpy()[1:])
    with torch.no_grad():
        (found,) = GraphModule(model.graph)(torch.from_numpy(x))
    (expected,) = one_by_one(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae"])
def test_shared_quantised_models_equal_onnxruntime(shared: Path, name: str) -> None:
    path = shared / f"models/{name}_int8.onnx"
    model = ir.load(path)
    shape = model.graph.inputs[0].shape
    assert shape is not None
    samples = np.load(path.with_name(f"{path.stem}_samples.npz"))["x"]
    x = samples.astype(np.int8).reshape(len(samples), *shape.numpy()[1:])
    with torch.no_grad():
        (found,) = GraphModule(model.graph)(torch.from_numpy(x))
    (expected,) = one_by_one(model, x)
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1
