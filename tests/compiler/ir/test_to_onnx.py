from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Exit, Program, Return
from offramp.compiler.ir.onnx_form import MAX_NESTING, SHARED_BYTES
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.to_onnx import IR_VERSION, to_onnx
from offramp.compiler.oracle import Oracle

Samples = npt.NDArray[np.float32]


def run(model: onnx.ModelProto, **inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, inputs)]


def reference(x: Samples) -> tuple[Samples, int, float]:
    """`every_terminator` in NumPy, for one sample."""
    scale = np.array([1, 2, 3, 4], np.float32)
    y = x * scale
    if x.max() >= 1.0:
        return y, 0, float(x.max())
    z = -(y * scale) if x.sum() > 0 else y
    index = int(np.trunc(z.sum()))
    z = -z if index <= 0 else np.tanh(z) if index == 1 else z
    u = np.abs(z)
    return np.sqrt(u), 1, float(u.min())


def test_model_is_valid_onnx_that_onnxruntime_reads(every_terminator: Program) -> None:
    model = to_onnx(every_terminator)

    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == IR_VERSION
    assert [o.name for o in model.graph.output] == ["out", "exit_index", "confidence"]
    assert [i.name for i in model.graph.input] == ["x"]


def test_every_way_through_answers_as_the_reference(
    every_terminator: Program, samples: Samples
) -> None:
    model = to_onnx(every_terminator)
    taken: set[int] = set()
    for x in samples:
        out, index, confidence = run(model, x=x[None])
        expected, expected_index, expected_confidence = reference(x)
        np.testing.assert_allclose(out[0], expected, rtol=1e-6)
        assert index.tolist() == [expected_index]
        np.testing.assert_allclose(confidence, [expected_confidence], rtol=1e-6)
        taken.add(expected_index)
    assert taken == {0, 1}


def test_loop_answers_as_single_samples_do(every_terminator: Program, samples: Samples) -> None:
    model = to_onnx(every_terminator, loop=True)
    onnx.checker.check_model(model, full_check=True)

    stacked = run(model, x=samples)
    singles = [run(to_onnx(every_terminator), x=x[None]) for x in samples]

    for together, alone in zip(stacked, zip(*singles, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.concatenate(alone))
    assert [output.shape for output in stacked] == [(40, 4), (40,), (40,)]


def test_loop_gives_unbatched_programs_a_sample_axis() -> None:
    program = from_text(
        "program flat opset 18 -> (y) entry(%x: float[3]): %y: float[3] = Relu(%x) return (%y)"
    )
    x = np.array([[-1, 0, 1], [2, -2, 3]], np.float32)
    (y,) = run(to_onnx(program, loop=True), x=x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_program_without_exits_has_only_its_own_outputs() -> None:
    program = from_text(
        "program plain opset 18 batched -> (y) "
        "entry(%x: float[1,3]): %h: float[1,3] = Relu(%x) return (%h)"
    )
    model = to_onnx(program)
    assert [output.name for output in model.graph.output] == ["y"]
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_weights_live_in_the_branch_that_uses_them(every_terminator: Program) -> None:
    model = to_onnx(every_terminator)
    exit_ = next(node for node in model.graph.node if node.op_type == "If")
    else_branch = next(a.g for a in exit_.attribute if a.name == "else_branch")

    top = sum(tensor.dims == [4] for tensor in model.graph.initializer)
    inner = sum(tensor.dims == [4] for tensor in else_branch.initializer)
    assert (top, inner) == (1, 1)


def test_large_tensor_of_several_blocks_stays_outside() -> None:
    program = from_text(
        "program big opset 18 batched -> (y) "
        "a(%x: float[1,1]): %s: float[1,1] = Neg(%x) "
        "exit (%s) when %s >= 0.0 by c else b(%s) "
        "b(%p: float[1,1]): %q: float[1,1] = Neg(%p) return (%q)"
    )
    large = ir.tensor(np.ones((SHARED_BYTES // 4 + 1, 1), np.float32))
    small = ir.tensor(np.ones((2, 1), np.float32))
    for block in program.blocks.values():
        for name, tensor in (("large", large), ("small", small)):
            weight = ir.Value(
                name=name,
                type=ir.TensorType(ir.DataType.FLOAT),
                shape=ir.Shape(tensor.shape.numpy()),
                const_value=tensor,
            )
            block.graph.register_initializer(weight)
            first = block.graph[0]
            total = ir.Node("", "Mul", [weight, block.parameters[0]], name=name)
            total.outputs[0].type, total.outputs[0].shape = weight.type, weight.shape
            block.graph.insert_before(first, total)
    model = to_onnx(program)
    exit_ = next(node for node in model.graph.node if node.op_type == "If")
    branch = next(a.g for a in exit_.attribute if a.name == "else_branch")

    assert sum(max(t.dims, default=1) > 2 for t in model.graph.initializer) == 1
    assert [t.dims for t in branch.initializer] == [[2, 1]]
    run(model, x=np.ones((1, 1), np.float32))


def test_structure_is_written_as_node_metadata(every_terminator: Program) -> None:
    model = to_onnx(every_terminator)
    roles = {
        prop.value
        for graph in (model.graph,)
        for node in graph.node
        for prop in node.metadata_props
        if prop.key == "offramp.role"
    }
    assert roles == {"exit"}
    exit_ = next(node for node in model.graph.node if node.op_type == "If")
    facts = {prop.key: prop.value for prop in exit_.metadata_props}
    assert facts["offramp.block"] == "stem"
    assert facts["offramp.threshold"] == "1.0"
    assert facts["offramp.annotations"] == '{"reach": 1.0, "rate": 0.25, "accuracy": 0.9}'


def test_outputs_keep_their_names_where_inner_values_bear_them() -> None:
    program = from_text(
        "program clash opset 18 batched -> (h) "
        "entry(%x: float[1,3]): %h: float[1,3] = Relu(%x) %y: float[1,3] = Neg(%h) return (%y)"
    )
    model = to_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["h"]
    (h,) = run(model, x=np.array([[1, -1, 2]], np.float32))
    np.testing.assert_array_equal(h, [[-1, 0, -2]])


def test_an_input_may_be_the_answer() -> None:
    program = from_text("program same opset 18 batched -> (y) e(%x: float[1,2]): return (%x)")
    x = np.array([[1, 2]], np.float32)
    np.testing.assert_array_equal(run(to_onnx(program), x=x)[0], x)


def chain_of_exits(count: int) -> Program:
    blocks = [
        f"b{i}(%x: float[1,1]): %y: float[1,1] = Neg(%x) "
        f"exit (%y) when %y >= 5.0 by c else b{i + 1}(%y)"
        for i in range(count)
    ]
    last = f"b{count}(%x: float[1,1]): %y: float[1,1] = Neg(%x) return (%y)"
    return from_text("\n".join(["program deep opset 18 batched -> (y)", *blocks, last]))


def test_deepest_nesting_is_read_by_onnxruntime_and_by_us() -> None:
    program = chain_of_exits(MAX_NESTING)
    data = to_onnx(program).SerializeToString()

    x = np.array([[-7.0], [1.0]], np.float32)
    assert Oracle(program).run({"x": x}).exit_index.tolist() == [0, MAX_NESTING]
    assert len(from_onnx(data).exits) == MAX_NESTING


def test_deeper_nesting_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'deep' nests control flow deeper than 30 levels"):
        to_onnx(chain_of_exits(MAX_NESTING + 1))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae"])
def test_real_models_answer_as_the_original(shared: Path, name: str) -> None:
    path = shared / "models" / f"{name}_float.onnx"
    program = from_onnx(path)
    archive = np.load(shared / "models" / f"{name}_float_samples.npz")
    (value,) = program.inputs
    assert value.shape is not None
    x = archive["x"].reshape(-1, *value.shape.numpy()[1:])[:3]

    original = run(onnx.load(path), input=x[:1].astype(np.float32))[0]
    answers = Oracle(program).run({"input": x.astype(np.float32)})

    np.testing.assert_array_equal(answers.outputs["output"][:1], original)
    assert isinstance(program.entry.terminator, Return)
    assert not any(isinstance(b.terminator, Exit) for b in program.blocks.values())
