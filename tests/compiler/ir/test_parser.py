from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.ir import Annotations, Exit, Program
from offramp.compiler.ir.parser import from_text, weights_of
from offramp.compiler.ir.text import to_text

HEADER = "program p opset 18 batched -> (y)\n"


def body(text: str) -> Program:
    return from_text(HEADER + "e(%x: float[1,2]):\n" + text)


def test_text_is_what_it_says(every_terminator: Program) -> None:
    block = every_terminator.blocks["stem"]
    assert block.annotations == Annotations(reach=1.0, rate=0.25, accuracy=0.9)
    assert isinstance(block.terminator, Exit)
    assert block.terminator.threshold == 1.0
    assert [node.op_type for node in block.graph] == ["Mul", "ReduceMax"]
    assert block.graph[1].name == "score"
    assert every_terminator.opset_imports == {"": 18}


def test_comments_and_line_breaks_mean_nothing() -> None:
    program = body("%h: # first\n float[1,2]\n= Relu(\n%x) # done\nreturn (%h)")
    assert len(program.entry.graph) == 1


def test_unusual_names_are_quoted() -> None:
    text = (
        'program p opset 18 batched -> ("out:0")\n\n'
        '"block 1"(%"in:0": float[1,2]):\n'
        '  %"a b\\"c": float[1,2] = Relu(%"in:0") as "model/Relu:0"\n'
        '  return (%"a b\\"c")\n'
    )
    program = from_text(text)
    assert [value.name for value in program.inputs] == ["in:0"]
    assert to_text(program) == text


def test_attributes_of_every_kind_survive() -> None:
    text = HEADER + (
        "\ne(%x: float[1,2]):\n"
        '  %h: float[1,2] = Custom(%x, _, %x) {i = 3, f = 1.0, tiny = 1e-30, s = "a\\n", '
        'ints = [1, -2], floats = [0.5, inf], strings = ["a", "b"], none = ints [], '
        "t = tensor int64[2] [1, 2]}\n"
        "  return (%h)\n"
    )
    program = from_text(text)
    attributes = program.entry.graph[0].attributes
    assert attributes["none"].type == ir.AttributeType.INTS
    assert attributes["f"].type == ir.AttributeType.FLOAT
    assert program.entry.graph[0].inputs[1] is None
    assert to_text(program) == text


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("float", "[0.1, -inf]"),
        ("float", "[nan, 1e-45]"),
        ("double", "[0.1, 1e-300]"),
        ("float16", "[0.1, 6.55e+04]"),
        ("int8", "[-128, 127]"),
        ("uint64", "[0, 18446744073709551615]"),
        ("bool", "[true, false]"),
        ("bfloat16", "hex:803f0040"),
        ("int4", "hex:21"),
    ],
)
def test_tensors_of_every_type_survive(dtype: str, data: str) -> None:
    text = f"{HEADER}\ne(%x: float[1,2]):\n  weight %w: {dtype}[2] = {data}\n  return (%x)\n"
    assert to_text(from_text(text)) == text


def test_long_tensors_are_hashes_or_bytes() -> None:
    program = body("return (%x)")
    array = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    weight = ir.Value(
        name="w",
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
        const_value=ir.tensor(array),
    )
    program.entry.graph.register_initializer(weight)

    hashed, inline = to_text(program), to_text(program, weights="inline")

    assert "sha256:" in hashed
    assert "hex:" in inline
    for again in (from_text(hashed, weights=weights_of(program)), from_text(inline)):
        tensor = again.entry.graph.initializers["w"].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array)
    with pytest.raises(UserError, match="no tensor with SHA-256"):
        from_text(hashed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected 'program', found the end of the text"),
        ("program p opset x -> (y)", "expected a number"),
        ("program p opset 1.5 -> (y)", "expected a whole number, found '1.5'"),
        (HEADER + "e(%x: floaty[1,2]): return (%x)", "line 2: 'floaty' is no element type"),
        (HEADER + "e(%x: float[1,2]):\n return (%z)", "line 3: value %z is used before"),
        (
            HEADER + "e(%x: float[1,2]):\n stop (%x)",
            "expected a node or a terminator, found 'stop'",
        ),
        (HEADER + "e(%x: float[1,2], %x: float[1,2]): return (%x)", "%x is defined twice"),
        (HEADER + "e(%x: float[1,2]): jump f(%x) e(%x: float[1,2]): return (%x)", "twice"),
        (HEADER + "e(%x: float[1,2]) {speed = 1.0}: return (%x)", "unknown annotations"),
        (HEADER + "e(%x: float[1,2]): weight %w: float[2] = [1.0] return (%x)", "1 elements"),
        (HEADER + "e(%x: float[1,2]): weight %w: float[2] = hex:00 return (%x)", "8 bytes"),
        (HEADER + "e(%x: float[1,2]): weight %w: int8[1] = [300] return (%x)", "of type int8"),
        (HEADER + "e(%x: float[1,2]): weight %w: int8[1] = [0.5] return (%x)", "of type int8"),
        (HEADER + "e(%x: float[1,2]): weight %w: float[1] = [true] return (%x)", "of type float"),
        (HEADER + 'e(%x: float[1,2]): %"a\\q": float[1] = A(%x) return (%x)', "no quoted text"),
        (HEADER + "e(%x: float[1,2]): ; return (%x)", "';' begins no word"),
        (
            HEADER + "e(%x: float[1,2]): %h: float[1,2] = A(%x) {a = [1, 0.5]} return (%h)",
            "of one kind",
        ),
        (HEADER + "e(%x: float[1,2]): jump f(%x)", "leads to 'f', which does not exist"),
        (HEADER, "there are no blocks"),
    ],
)
def test_errors_name_the_line_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_text(text)


def test_graph_attributes_have_no_text(every_terminator: Program) -> None:
    node = every_terminator.blocks["heavy"].graph[0]
    node.attributes.add(ir.AttrGraph("body", ir.Graph((), (), nodes=())))
    with pytest.raises(UnsupportedError, match="attribute 'body'"):
        to_text(every_terminator)
