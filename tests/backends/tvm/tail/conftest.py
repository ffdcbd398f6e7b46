"""Lower small ONNX graphs by the tail and run the result, call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from offramp.backends.tvm.tail import TailCall, lower_tail
from offramp.compiler import targets

Array = npt.NDArray[Any]
Runner = Callable[..., list[Array]]


def graph_of(text: str, constants: Mapping[str, Array] | None = None, opset: int = 21) -> ir.Graph:
    """The graph of `g (...) => (...) {...}`; inputs named in `constants` become initializers."""
    header = f'<ir_version: 10, opset_import: ["": {opset}]>'
    model: Any = onnx.parser.parse_model(header + text)
    for name, data in (constants or {}).items():
        value = next(v for v in model.graph.input if v.name == name)
        model.graph.input.remove(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph: ir.Graph = ir.from_proto(model).graph
    return graph


def lower(
    text: str, constants: Mapping[str, Array] | None = None, opset: int = 21
) -> list[TailCall]:
    """The calls of a graph for x86-64."""
    return lower_tail(graph_of(text, constants, opset), targets.get("x86-64"))


def execute(calls: list[TailCall], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """All values that the calls compute, by name."""
    values = dict(inputs)
    functions = _compiled([call.func for call in calls if call.func is not None])
    for call in calls:
        operands = [values[i] if isinstance(i, str) else i for i in call.inputs]
        shapes = zip(call.output_shapes, call.output_dtypes, strict=True)
        if call.is_view:
            results = [operands[0].reshape(call.output_shapes[0])]
        else:
            results = [np.zeros(shape, dtype_of(dtype)) for shape, dtype in shapes]
            _run(next(functions), call.func, [*operands, *results])
        values.update(zip(call.outputs, results, strict=True))
    return values


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def _compiled(functions: list[Any]) -> Iterator[Any]:
    """The functions in machine code, compiled together."""
    import tvm

    attributes: Any = dict(targets.get("x86-64").llvm)
    named = {f"f{i}": f.with_attr("global_symbol", f"f{i}") for i, f in enumerate(functions)}
    library: Any = tvm.compile(tvm.IRModule(named), target=tvm.target.Target(attributes))
    return (library[name] for name in named)


def _run(compiled: Any, function: Any, arrays: list[Array]) -> None:
    """Call one function; arrays are passed as the bits that kernels see."""
    import tvm

    held = [_as_parameter(a, b) for a, b in zip(arrays, function.params, strict=True)]
    tensors = [tvm.runtime.tensor(array) for array in held]
    compiled(*tensors)
    for array, tensor in zip(arrays, tensors, strict=True):
        array[...] = tensor.numpy().reshape(array.shape).view(array.dtype)


def _as_parameter(array: Array, parameter: Any) -> Array:
    wanted = dtype_of(str(parameter.ty.dtype))
    shape = tuple(int(extent) for extent in parameter.ty.shape)
    return np.ascontiguousarray(array).view(wanted).reshape(shape)


@pytest.fixture(scope="session")
def run() -> Runner:
    """`run(text, inputs, constants)`: lower a graph and run it; its outputs in order."""

    def run_graph(
        text: str,
        inputs: Mapping[str, Array],
        constants: Mapping[str, Array] | None = None,
        opset: int = 21,
    ) -> list[Array]:
        graph = graph_of(text, constants, opset)
        names = [str(value.name) for value in graph.outputs]
        values = execute(lower_tail(graph, targets.get("x86-64")), inputs)
        return [values[name] for name in names]

    return run_graph


@pytest.fixture(scope="session")
def agrees() -> Callable[..., None]:
    """`agrees(text, inputs, constants)`: the compiled graph answers as onnxruntime does."""

    def check(
        text: str,
        inputs: Mapping[str, Array],
        constants: Mapping[str, Array] | None = None,
        opset: int = 21,
        tolerance: float = 1e-5,
    ) -> None:
        expected = by_onnxruntime(text, inputs, constants or {}, opset)
        values = execute(lower(text, constants, opset), inputs)
        for name, wanted in expected.items():
            np.testing.assert_allclose(values[name], wanted, rtol=tolerance, atol=tolerance)
            assert values[name].dtype == wanted.dtype

    return check


def by_onnxruntime(
    text: str, inputs: Mapping[str, Array], constants: Mapping[str, Array], opset: int
) -> dict[str, Array]:
    import onnxruntime

    header = f'<ir_version: 10, opset_import: ["": {opset}]>'
    model: Any = onnx.parser.parse_model(header + text)
    session: Any = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {**inputs, **constants}), strict=True))
