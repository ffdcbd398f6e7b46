"""Damaged and hostile files: one clear UserError each, before anything large is allocated."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.frontends.onnx import from_onnx

HEADER = '<ir_version: 10, opset_import: ["": 18]>'


def parse(text: str, header: str = HEADER) -> onnx.ModelProto:
    return parser.parse_model(f"{header} {text}")


def dense() -> onnx.ModelProto:
    model = parse("m (float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 2), np.float32), "w"))
    return model


def external(model: onnx.ModelProto, folder: Path, location: str, **entries: str) -> Path:
    """Write `model` with the data of its first initializer said to be in `location`."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path: Path, keep: float) -> None:
    data = dense().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match=r"cut\.onnx .*(truncated|not ONNX)"):
        from_onnx(path)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"not a model at all", bytes(range(256)) * 8])
def test_garbage(data: bytes) -> None:
    with pytest.raises(UserError, match="given bytes"):
        from_onnx(data)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        from_onnx(tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="is a folder"):
        from_onnx(str(tmp_path))


def test_a_source_of_another_kind() -> None:
    with pytest.raises(UserError, match="cannot read a model from int"):
        from_onnx(3)  # pyright: ignore[reportArgumentType]


def test_tensor_that_declares_terabytes() -> None:
    model = dense()
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    with pytest.raises(UserError, match=r"tensor 'w' declares 4096 GiB"):
        from_onnx(model)


@pytest.mark.parametrize("dims", [[4, 3], [1 << 12, 1 << 12], [0]])
def test_tensor_without_its_data(dims: list[int]) -> None:
    model = dense()
    model.graph.initializer[0].dims[:] = dims
    with pytest.raises(UserError, match=r"tensor 'w' of shape .* the model holds 32"):
        from_onnx(model)


def test_tensor_with_a_negative_dimension() -> None:
    model = dense()
    model.graph.initializer[0].dims[:] = [-4, -2]
    with pytest.raises(UserError, match="negative dimension"):
        from_onnx(model)


def test_input_that_declares_terabytes() -> None:
    with pytest.raises(UserError, match=r"'x' .* GiB"):
        from_onnx(parse("m (float[1,1000000,1000000] x) => (float[1] y) { y = ReduceSum(x) }"))


def test_node_whose_result_has_terabytes() -> None:
    text = """m (float[1,1000000] x) => (float[1] y)
    { t = Transpose<perm=[1,0]>(x) h = MatMul(t, x) y = ReduceSum(h) }"""
    with pytest.raises(UserError, match=r"MatMul.*'h'.* GiB"):
        from_onnx(parse(text))


def test_cycle_is_named() -> None:
    text = "m (float[1,2] x) => (float[1,2] y) { a = Add(x, b) b = Neg(a) y = Relu(a) }"
    with pytest.raises(UserError, match=r"cycle.*'Add'.*'Neg'|cycle.*'Neg'.*'Add'"):
        from_onnx(parse(text))


def test_node_that_reads_itself() -> None:
    with pytest.raises(UserError, match="cycle"):
        from_onnx(parse("m (float[1,2] x) => (float[1,2] y) { y = Add(x, y) }"))


def test_unsorted_nodes_are_sorted() -> None:
    text = "m (float[1,2] x) => (float[1,2] y) { y = Relu(a) a = Neg(x) }"
    program = from_onnx(parse(text))
    assert [node.op_type for node in program.entry.graph] == ["Neg", "Relu"]


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "a/../../secret.bin", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    with pytest.raises(UserError, match=r"'w' .*outside the model's folder"):
        from_onnx(external(dense(), folder, location))


def test_external_data_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UserError, match="outside the model's folder"):
        from_onnx(external(dense(), folder, "weights.bin"))


def test_external_data_that_is_absent_or_short(tmp_path: Path) -> None:
    path = external(dense(), tmp_path, "weights.bin")
    with pytest.raises(UserError, match="is no file"):
        from_onnx(path)
    (tmp_path / "weights.bin").write_bytes(bytes(31))
    with pytest.raises(UserError, match=r"needs 32 bytes at offset 0 .* has 31 bytes"):
        from_onnx(path)


@pytest.mark.parametrize("entries", [{"offset": "-4"}, {"offset": "x"}, {"length": "1000000"}])
def test_external_data_with_damaged_entries(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    with pytest.raises(UserError, match="tensor 'w'"):
        from_onnx(external(dense(), tmp_path, "weights.bin", **entries))


def test_external_data_of_a_model_without_folder(tmp_path: Path) -> None:
    data = external(dense(), tmp_path, "weights.bin").read_bytes()
    with pytest.raises(UserError, match="pass the path"):
        from_onnx(data)


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    weights = np.arange(8, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(bytes(8) + weights.tobytes())
    program = from_onnx(external(dense(), tmp_path, "weights.bin", offset="8", length="32"))
    tensor = program.entry.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), weights.reshape(4, 2))


def test_missing_initializer_is_named_with_its_reader() -> None:
    text = "m (float[1,4] x) => (float[1,2] y) { y = MatMul(x, w) }"
    with pytest.raises(UserError, match=r"'MatMul' .*reads 'w'.*initializer missing"):
        from_onnx(parse(text))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("y = com.microsoft.Gelu(x)", r"'com\.microsoft\.Gelu' .*only standard ONNX"),
        ("y = ai.onnx.ml.Normalizer(x)", r"'ai\.onnx\.ml\.Normalizer'"),
        ("y = Frobnicate(x)", r"'Frobnicate' .*does not exist in ONNX opset 18"),
        ("y = Upsample(x, x)", r"'Upsample' .*(deprecated|does not exist)"),
        ("y = NonZero(x)", r"'NonZero' .*depends on data"),
    ],
)
def test_unsupported_operator_is_named(node: str, message: str) -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1, "ai.onnx.ml": 2]>'
    with pytest.raises(UnsupportedError, match=message):
        from_onnx(parse(f"m (float[1,4] x) => (float[1,4] y) {{ {node} }}", header))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2])
def test_quantisation_to_small_floats_is_named(kind: int) -> None:
    model = parse(
        "m (float[N,4] x) => (float[N,4] y) <float s = {0.5}>"
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
        '<ir_version: 10, opset_import: ["": 21]>',
    )
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [0.0]))
    with pytest.raises(UnsupportedError, match=r"'QuantizeLinear' .*uses FLOAT8E.*int8"):
        from_onnx(model)


def test_zero_size_dimension() -> None:
    with pytest.raises(UserError, match=r"'x' has shape \[1, 0\].*nothing to compute"):
        from_onnx(parse("m (float[1,0] x) => (float[1,0] y) { y = Relu(x) }"))


def test_free_dimension_that_is_no_batch() -> None:
    with pytest.raises(UserError, match=r"'x' has the free dimension 'time' at axis 1"):
        from_onnx(parse("m (float[N,time,4] x) => (float[N,time,4] y) { y = Relu(x) }"))


def test_duplicated_names() -> None:
    with pytest.raises(UserError, match="value name 'y' is defined twice"):
        from_onnx(parse("m (float[1,2] x) => (float[1,2] y) { y = Relu(x) y = Neg(x) }"))
    model = dense()
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(UserError, match="initializer name 'w' is defined twice"):
        from_onnx(model)


def test_output_that_nothing_defines() -> None:
    with pytest.raises(UserError, match="output 'z' is defined by no node"):
        from_onnx(parse("m (float[1,2] x) => (float[1,2] z) { y = Relu(x) }"))


def test_outputs_that_share_names() -> None:
    with pytest.raises(UserError, match="output 'x' is an input too"):
        from_onnx(parse("m (float[1,2] x) => (float[1,2] x, float[1,2] y) { y = Relu(x) }"))
    with pytest.raises(UserError, match="output name 'y' is defined twice"):
        from_onnx(parse("m (float[1,2] x) => (float[1,2] y, float[1,2] y) { y = Relu(x) }"))


@pytest.mark.parametrize("kind", ["bool[1,2]", "float"])
def test_condition_that_does_not_decide(kind: str) -> None:
    text = f"""m (float[1,2] x, {kind} c) => (float[1,2] y) {{
        y = If (c) < then_branch = t () => (float[1,2] a) {{ a = Neg(x) }},
                     else_branch = e () => (float[1,2] b) {{ b = Relu(x) }} > }}"""
    with pytest.raises(UserError, match=r"'If' .*needs one boolean"):
        from_onnx(parse(text))


def nested_ifs(depth: int) -> onnx.ModelProto:
    """`If`s in the then-branches of one another, built in place: copying would hit a limit."""
    model = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 18)])
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2]))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, [1, 1]))
    for level in range(depth):
        output = helper.make_tensor_value_info(f"y{level}", TensorProto.FLOAT, [1, 2])
        graph.output.append(output)
        node = graph.node.add(op_type="If", input=["c"], output=[output.name])
        other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "e", [], [output])
        node.attribute.append(helper.make_attribute("else_branch", other))
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    graph.node.add(op_type="Neg", input=["x"], output=["deepest"])
    graph.output.append(helper.make_tensor_value_info("deepest", TensorProto.FLOAT, [1, 2]))
    return model


@pytest.mark.parametrize("depth", [40, 400])
def test_deeply_nested_ifs(depth: int) -> None:
    model = nested_ifs(depth)
    with pytest.raises(UserError, match="deeper than 30 levels"):
        from_onnx(model)


def test_functions_that_multiply_beyond_bounds() -> None:
    functions = ['<domain: "f", opset_import: ["": 18, "f": 1]> f0 (a) => (b) { b = Neg(a) }']
    for level in range(40):
        calls = f"t = f.f{level}(a) b = f.f{level}(t)"
        functions.append(
            f'<domain: "f", opset_import: ["": 18, "f": 1]> f{level + 1} (a) => (b) {{ {calls} }}'
        )
    header = '<ir_version: 10, opset_import: ["": 18, "f": 1]>'
    model = parse("m (float[1,2] x) => (float[1,2] y) { y = f.f40(x) }", header)
    model.functions.extend(parser.parse_function(text) for text in functions)
    with pytest.raises(UserError, match=r"functions inline to \d+ nodes"):
        from_onnx(model)


def test_function_that_calls_itself() -> None:
    header = '<ir_version: 10, opset_import: ["": 18, "f": 1]>'
    model = parse("m (float[1,2] x) => (float[1,2] y) { y = f.g(x) }", header)
    model.functions.append(
        parser.parse_function(
            '<domain: "f", opset_import: ["": 18, "f": 1]> g (a) => (b) { b = f.g(a) }'
        )
    )
    with pytest.raises(UserError, match="'g' calls itself"):
        from_onnx(model)


@pytest.mark.parametrize("version", [0, 999])
def test_opset_that_does_not_exist(version: int) -> None:
    model = dense()
    model.opset_import[0].version = version
    with pytest.raises(UserError, match=f"opset {version}; known are"):
        from_onnx(model)


def test_shapes_that_do_not_fit() -> None:
    text = "m (float[1,4] x) => (float[1,2] y) <float[3,2] w = {1,1,1,1,1,1}> { y = MatMul(x, w) }"
    with pytest.raises(UserError, match=r"'MatMul' .*does not accept its inputs"):
        from_onnx(parse(text))


@pytest.mark.parametrize("kind", ["string[1,2]", "seq(float[1,2])"])
def test_inputs_that_are_no_tensors_of_numbers(kind: str) -> None:
    with pytest.raises(UnsupportedError, match=r"input 'x' is of type .*tensors of numbers"):
        from_onnx(parse(f"m ({kind} x) => ({kind} y) {{ y = Identity(x) }}"))


def test_input_without_shape_and_model_without_inputs() -> None:
    model = parse("m (float[1] x) => (float[1] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UserError, match="'x' declares no shape"):
        from_onnx(model)
    with pytest.raises(UserError, match="has no inputs"):
        from_onnx(parse("m () => (float[1] y) { y = Constant<value_floats=[1.0]>() }"))


def test_node_attributes_that_are_not_valid() -> None:
    text = "m (float[1,2] x) => (float[1,2] y) { y = Relu<unknown=3>(x) }"
    with pytest.raises(UserError, match="not valid ONNX"):
        from_onnx(parse(text))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_never_crash(seed: int) -> None:
    """A changed byte gives a readable model or a UserError, nothing else."""
    branches = """m (float[1,4] x, bool c) => (float[1,4] y) <float[4] w = {1, 2, 3, 4}> {
        y = If (c) < then_branch = t () => (float[1,4] a) { a = Mul(x, w) },
                     else_branch = e () => (float[1,4] b) { b = Neg(x) } > }"""
    intact = parse(branches).SerializeToString()
    rng = random.Random(seed)  # noqa: S311 - test data, no secret
    read = 0
    for _ in range(150):
        data = bytearray(intact)
        data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(UserError):
            from_onnx(bytes(data))
            read += 1
    assert 0 < read < 150


def test_weights_beyond_what_one_message_carries() -> None:
    model = dense()
    for number in range(3):
        tensor = model.graph.initializer.add(name=f"large{number}", data_type=TensorProto.INT8)
        tensor.dims.append(1 << 30)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="large.bin")
    with pytest.raises(UserError, match="holds 2 GiB of weights or more"):
        from_onnx(model)
