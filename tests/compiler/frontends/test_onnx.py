"""ONNX models into Programs, judged by onnxruntime on the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.frontends.onnx import from_onnx, identifier
from offramp.compiler.ir import Branch, Exit, Program, Return
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.oracle import Oracle

Array = npt.NDArray[Any]
HEADER = '<ir_version: 10, opset_import: ["": 18]>'


def parse(text: str, opset: int = 18) -> onnx.ModelProto:
    return parser.parse_model(f"{HEADER} {text}".replace("18", str(opset)))


def run_original(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, inputs)]


def run_program(program: Program, inputs: dict[str, Array]) -> list[Array]:
    """One sample, with the shapes that the Program declares."""
    rows = inputs if program.batched else {name: array[None] for name, array in inputs.items()}
    outputs = Oracle(program).run(rows).outputs.values()
    return [output if program.batched else output[0] for output in outputs]


def assert_same(model: onnx.ModelProto, program: Program, inputs: dict[str, Array]) -> None:
    expected, found = run_original(model, inputs), run_program(program, inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=1e-5, atol=1e-6)


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def operators(program: Program) -> list[str]:
    return [node.op_type for block in program.blocks.values() for node in block.graph]


def shape(program: Program, position: int = 0) -> list[int]:
    found = program.inputs[position].shape
    assert found is not None
    return list(found.numpy())


def test_every_way_to_pass_a_model(tmp_path: Any) -> None:
    model = parse("net (float[1,2] x) => (float[1,2] y) { y = Relu(x) }")
    path = tmp_path / "my net-2.onnx"
    path.write_bytes(model.SerializeToString())
    before = model.SerializeToString()

    assert from_onnx(model).name == "net"
    assert from_onnx(before).name == "net"
    assert from_onnx(path).name == from_onnx(str(path)).name == "my_net_2"
    assert from_onnx(path, name="other").name == "other"
    assert model.SerializeToString() == before


@pytest.mark.parametrize(("name", "expected"), [("a-b", "a_b"), ("8bit", "m_8bit"), ("é", "_")])
def test_names_are_c_identifiers(name: str, expected: str) -> None:
    assert identifier(name) == expected


class TestBatch:
    @pytest.mark.parametrize("batch", ["N", "1", "8"])
    def test_leading_dimension_becomes_one(self, batch: str) -> None:
        model = parse(f"m (float[{batch},4] x) => (float[{batch},4] y) {{ y = Softmax(x) }}")
        program = from_onnx(model)
        assert (shape(program), program.batched) == ([1, 4], True)
        assert_same(model, program, {"x": normal(1 if batch == "1" else 8, 4)})

    def test_inputs_without_a_shared_leading_axis_are_read_as_they_are(self) -> None:
        model = parse("m (float[4] x, float[1,4] z) => (float[1,4] y) { y = Add(x, z) }")
        program = from_onnx(model)
        assert (shape(program), shape(program, 1), program.batched) == ([4], [1, 4], False)
        assert_same(model, program, {"x": normal(4), "z": normal(1, 4)})

    def test_fixed_leading_axis_that_mixes_samples_is_no_batch(self) -> None:
        model = parse("m (float[8,4] x) => (float[8,4] y) { y = Softmax<axis = 0>(x) }")
        program = from_onnx(model)
        assert (shape(program), program.batched) == ([8, 4], False)
        assert_same(model, program, {"x": normal(8, 4)})

    def test_free_leading_axis_that_mixes_samples_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"\['x'\] cannot be set to 1"):
            from_onnx(parse("m (float[N,4] x) => (float[N,4] y) { y = Softmax<axis = 0>(x) }"))

    def test_caller_may_say_that_there_is_no_batch(self) -> None:
        model = parse("m (float[8,4] x) => (float[8,4] y) { y = Relu(x) }")
        assert shape(from_onnx(model, batched=False)) == [8, 4]

    @pytest.mark.parametrize("target", ["8,2,2", "8,-1,2", "-1,2,2", "0,2,2"])
    def test_reshape_targets_that_hard_code_the_batch_are_mended(self, target: str) -> None:
        model = parse(
            f"m (float[8,4] x) => (float[8,2,2] y) "
            f"<int64[3] t = {{{target}}}> {{ y = Reshape(x, t) }}"
        )
        program = from_onnx(model)
        assert program.batched
        assert_same(model, program, {"x": normal(8, 4)})

    def test_shape_arithmetic_of_exporters_folds(self) -> None:
        model = parse(
            """m (float[N,4] x) => (float[N,2,2] y)
            <int64[1] first = {0}, int64[2] rest = {2, 2}>
            { s = Shape(x) n = Gather(s, first) t = Concat<axis = 0>(n, rest) y = Reshape(x, t) }"""
        )
        program = from_onnx(model)
        assert operators(program) == ["Reshape"]
        assert_same(model, program, {"x": normal(3, 4)})

    def test_operators_without_inference_keep_their_shape(self) -> None:
        model = parse(
            """m (float[N,4,2] x) => (float[N,4,2] y)
            <float[4] s = {1, 2, 3, 4}, float[4] b = {0, 1, 0, 1}>
            { h = GroupNormalization<num_groups = 2>(x, s, b) y = Relu(h) }""",
            opset=21,
        )
        assert_same(model, from_onnx(model), {"x": normal(3, 4, 2)})


class TestVersions:
    @pytest.mark.parametrize("opset", [13, 17, 18, 21, 23, 26])
    def test_supported_opsets_stay(self, opset: int) -> None:
        program = from_onnx(parse("m (float[1,2] x) => (float[1,2] y) { y = Relu(x) }", opset))
        assert program.opset_imports == {"": opset}

    def test_older_and_newer_opsets_are_converted(self) -> None:
        text = "m (float[1,2,2] x) => (float[2,2] y) { y = Squeeze<axes = [0]>(x) }"
        program = from_onnx(parse(text, 11))
        assert program.opset_imports == {"": 13}
        assert_same(parse(text, 11), program, {"x": normal(1, 2, 2)})
        newest = onnx.defs.onnx_opset_version()
        program = from_onnx(parse("m (float[1,2] x) => (float[1,2] y) { y = Relu(x) }", newest))
        assert program.opset_imports == {"": 26}

    def test_what_cannot_be_converted_says_so(self) -> None:
        text = "m (float[1,2] x) => (float[1,2] y) { y = SwiGLU(x, x) }"
        newest = onnx.defs.onnx_opset_version()
        with pytest.raises(UserError, match=f"opset {newest} and cannot be converted to 26"):
            from_onnx(parse(text, newest))


def test_functions_are_inlined_and_constants_lifted() -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "f": 1]>'
    model = parser.parse_model(
        f"{header} m (float[1,2] x) => (float[1,2] y) {{ y = f.twice_plus(x) }} "
        '<domain: "f", opset_import: ["": 18]> twice_plus (a) => (b) '
        "{ c = Constant<value_float = 2.0>() d = Mul(a, c) b = Add(d, a) }"
    )
    program = from_onnx(model)
    assert operators(program) == ["Mul", "Add"]
    assert_same(model, program, {"x": normal(1, 2)})


@pytest.mark.parametrize("version", [3, 9])
def test_initializers_listed_as_inputs_are_weights(version: int) -> None:
    """Up to IR version 3 all had to be."""
    model = parse("m (float[1,2] x, float[2] w) => (float[1,2] y) { y = Mul(x, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(2), "w"))
    model.ir_version = version
    program = from_onnx(model)
    assert [value.name for value in program.inputs] == ["x"]
    assert "w" in program.entry.graph.initializers


def test_outputs_may_lack_shapes() -> None:
    model = parse("m (float[1,2] x) => (float[1,2] y) { y = Relu(x) }")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert from_onnx(model).output_names == ("y",)


NESTED = """m (float[1,4] x) => (float[1,4] y) <float[4] w = {1, 2, 3, 4}, float zero = {0}>
{
    sum = ReduceSum<keepdims = 0>(x)
    c = Greater(sum, zero)
    skip = Tanh(x)
    y1 = If (c) <
        then_branch = t () => (float[1,4] a) { a = Mul(x, w) },
        else_branch = e () => (float[1,4] b) {
            most = ReduceMax<keepdims = 0>(x)
            d = Greater(most, zero)
            b = If (d) <
                then_branch = tt () => (float[1,4] aa) { aa = Add(x, w) },
                else_branch = ee () => (float[1,4] bb) { n = Neg(x) bb = Mul(n, w) }
            >
        }
    >
    y = Add(y1, skip)
}"""


class TestControlFlow:
    def test_nested_ifs_become_branches(self) -> None:
        program = from_onnx(parse(NESTED))
        kinds = [type(block.terminator).__name__ for block in program.blocks.values()]
        assert kinds == ["Branch", "Jump", "Branch", "Jump", "Jump", "Jump", "Return"]

    def test_they_answer_as_the_original_on_every_way(self) -> None:
        model = parse(NESTED)
        program = from_onnx(model)
        rows = [[1, 1, 1, 1], [1, -3, 0, 0], [-1, -2, -3, -4]]
        for row in rows:
            assert_same(model, program, {"x": np.array([row], np.float32)})

    def test_outer_weights_sink_into_the_blocks_that_use_them(self) -> None:
        program = from_onnx(parse(NESTED))
        users = [b.name for b in program.blocks.values() if "w" in b.graph.initializers]
        assert len(users) == 3
        tensors = {id(program.blocks[b].graph.initializers["w"].const_value) for b in users}
        assert len(tensors) == 1

    def test_values_that_are_used_after_the_join_are_passed_through(self) -> None:
        program = from_onnx(parse(NESTED))
        assert [len(block.parameters) for block in program.blocks.values()][-1] == 2

    def test_branches_of_different_shapes_are_refused(self) -> None:
        text = """m (float[1,2] x, bool c) => (float y) {
            h = If (c) < then_branch = t () => (float[1,2] a) { a = Neg(x) },
                         else_branch = e () => (float[2] b) { b = ReduceSum<keepdims = 0>(x, n) } >
            n = Constant<value_ints = [0]>()
            y = ReduceSum<keepdims = 0>(h) }"""
        with pytest.raises(UnsupportedError, match=r"'If' .*in one branch and"):
            from_onnx(parse(text))

    def test_a_decided_if_is_inlined(self) -> None:
        text = """m (float[1,4] x) => (float[1,4] y) <int64 four = {4}> {
            n = Size(x) c = Equal(n, four)
            y = If (c) < then_branch = t () => (float[1,4] a) { a = Neg(x) },
                         else_branch = e () => (float[1,4] b) { b = Relu(x) } > }"""
        model = parse(text)
        program = from_onnx(model)
        assert list(program.blocks) == ["entry"]
        assert "Relu" not in operators(program)
        assert_same(model, program, {"x": normal(1, 4)})


class TestLoops:
    def test_loop_with_a_constant_trip_count_is_unrolled(self) -> None:
        model = parse(
            """m (float[1,4] x) => (float[1,4] y, float[5,1,4] s) <int64 n = {5}> {
            y, s = Loop (n, , x) < body = b (int64 i, bool c, float[1,4] h)
                => (bool again, float[1,4] next, float[1,4] row) {
                    again = Identity(c) f = Cast<to = 1>(i)
                    next = Add(h, f) row = Mul(next, x) } > }"""
        )
        program = from_onnx(model)
        assert "Loop" not in operators(program)
        assert operators(program).count("Mul") == 5
        assert_same(model, program, {"x": normal(1, 4)})

    def test_loop_ends_by_its_condition(self) -> None:
        model = parse(
            """m (float[1,4] x) => (float[1,4] y) <bool go = {1}, int64 two = {2}, int64 n = {9}> {
            y = Loop (n, go, x) < body = b (int64 i, bool c, float[1,4] h)
                => (bool again, float[1,4] next)
                { again = Less(i, two) next = Mul(h, h) } > }"""
        )
        program = from_onnx(model)
        assert operators(program).count("Mul") == 3
        assert_same(model, program, {"x": normal(1, 4)})

    def test_scan_is_unrolled(self) -> None:
        model = parse(
            """m (float[1,3,4] x, float[1,4] start) => (float[1,4] last, float[1,4,3] rows) {
            last, rows = Scan <num_scan_inputs = 1, scan_input_axes = [1],
                               scan_output_axes = [2], scan_input_directions = [1],
                               scan_output_directions = [1],
                body = b (float[1,4] state, float[1,4] row) => (float[1,4] next, float[1,4] out)
                { next = Add(state, row) out = Tanh(next) } > (start, x) }"""
        )
        program = from_onnx(model)
        assert "Scan" not in operators(program)
        assert_same(model, program, {"x": normal(1, 3, 4), "start": normal(1, 4)})

    @pytest.mark.parametrize(
        ("count", "message"), [("n", "trip count that depends on data"), ("many", "runs 65 times")]
    )
    def test_other_loops_are_refused_by_name(self, count: str, message: str) -> None:
        text = f"""m (float[1,4] x, int64 n) => (float[1,4] y) <int64 many = {{65}}> {{
            [sum_up] y = Loop ({count}, , x) < body = b (int64 i, bool c, float[1,4] h)
                => (bool again, float[1,4] next) {{ again = Identity(c) next = Neg(h) }} > }}"""
        with pytest.raises(UnsupportedError, match=f"'Loop' .*'sum_up'.* {message}"):
            from_onnx(parse(text))


class TestWrittenByUs:
    TEXT = """program two opset 18 batched -> (y)
    a(%x: float[1,2]):
      %s: float[] = ReduceMax(%x) {keepdims = 0}
      exit (%x) when %s >= 0.5 by max_softmax else b(%x)
    b(%p: float[1,2]):
      %q: float[1,2] = Neg(%p)
      return (%q)"""

    def test_exits_are_read_back(self) -> None:
        program = from_onnx(to_onnx(from_text(self.TEXT)))
        terminator = program.blocks["a"].terminator
        assert isinstance(terminator, Exit)
        assert (terminator.threshold, terminator.criterion) == (0.5, "max_softmax")
        assert program.output_names == ("y",)

    @pytest.mark.parametrize(
        "key", ["offramp.threshold", "offramp.successors", "offramp.arguments"]
    )
    def test_tampered_metadata_makes_it_a_plain_model(self, key: str) -> None:
        model = to_onnx(from_text(self.TEXT))
        for node in model.graph.node:
            for prop in node.metadata_props:
                if prop.key == key:
                    prop.value = "nonsense"
        program = from_onnx(model)
        assert isinstance(program.entry.terminator, Branch)
        assert isinstance(list(program.blocks.values())[-1].terminator, Return)
        assert program.output_names == ("y", "exit_index", "confidence")

    def test_programs_without_a_batch_stay_so(self) -> None:
        text = (
            "program flat opset 18 -> (y) e(%x: float[8,2]): %y: float[8,2] = Relu(%x) return (%y)"
        )
        program = from_onnx(to_onnx(from_text(text)))
        assert (program.batched, shape(program)) == (False, [8, 2])
