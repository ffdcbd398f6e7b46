from __future__ import annotations

import numpy as np
import pytest

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle

EXIT = """program p opset 18 batched -> (y, z)
a(%x: float[1,2]):
  %n: float[1,2] = Neg(%x)
  %s: float[1,1] = ReduceMax(%x, %axis)
  exit (%n, %s) when %s >= 0.5 by max_softmax else b(%x, %s)
b(%p: float[1,2], %s: float[1,1]):
  %q: float[1,2] = Abs(%p)
  return (%q, %s)""".replace("  %n", "  weight %axis: int64[1] = [1]\n  %n", 1)


@pytest.fixture
def program() -> Program:
    return from_text(EXIT)


def test_answers_are_stacked_by_sample(program: Program) -> None:
    x = np.array([[1, 0], [-1, 0.25], [0.5, -3]], np.float32)
    answers = Oracle(program).run({"x": x})
    np.testing.assert_array_equal(answers.outputs["y"], [[-1, 0], [1, 0.25], [-0.5, 3]])
    np.testing.assert_array_equal(answers.outputs["z"], [[1], [0.25], [0.5]])
    assert answers.exit_index.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(answers.confidence, np.array([1, np.nan, 0.5], np.float32))
    assert answers.exit_index.dtype == np.int64
    assert answers.confidence.dtype == np.float32


def test_a_sample_never_depends_on_its_companions(program: Program) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    oracle = Oracle(program)
    together = oracle.run({"x": x})
    alone = [oracle.run({"x": row[None]}) for row in x]
    np.testing.assert_array_equal(
        together.exit_index, np.concatenate([one.exit_index for one in alone])
    )
    np.testing.assert_array_equal(
        together.outputs["y"], np.concatenate([one.outputs["y"] for one in alone])
    )


def test_no_samples_give_empty_answers(program: Program) -> None:
    answers = Oracle(program).run({"x": np.zeros((0, 2), np.float32)})
    assert [output.shape for output in answers.outputs.values()] == [(0, 2), (0, 1)]
    assert answers.exit_index.shape == answers.confidence.shape == (0,)


def test_programs_without_exits_and_batch_get_a_sample_axis() -> None:
    program = from_text(
        "program p opset 18 -> (y) e(%x: float[], %z: float[3]): "
        "%y: float[3] = Mul(%x, %z) return (%y)"
    )
    x = np.array([2, 3], np.float32)
    z = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    answers = Oracle(program).run({"x": x, "z": z})
    np.testing.assert_array_equal(answers.outputs["y"], x[:, None] * z)
    assert answers.exit_index.tolist() == [0, 0]
    assert np.isnan(answers.confidence).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"expected inputs \['x'\], found \[\]"),
        ({"z": np.zeros((1, 2), np.float32)}, r"found \['z'\]"),
        ({"x": np.zeros((1, 3), np.float32)}, r"float32 \[1, 3\]: expected float32 \['N', 2\]"),
        ({"x": np.zeros((1, 2), np.float64)}, "float64"),
        ({"x": np.float32(1)}, r"float32 \[\]"),
    ],
)
def test_wrong_inputs_are_named(
    program: Program, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Oracle(program).run(inputs)


def test_inputs_must_have_as_many_samples() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) e(%x: float[1,2], %z: float[1,2]): "
        "%y: float[1,2] = Add(%x, %z) return (%y)"
    )
    rows = {"x": np.zeros((2, 2), np.float32), "z": np.zeros((3, 2), np.float32)}
    with pytest.raises(UserError, match=r"different numbers of samples: \[2, 3\]"):
        Oracle(program).run(rows)


def test_values_that_make_an_operator_fail_are_the_users_fault() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) e(%x: float[1,2], %i: int64[1]): "
        "%y: float[1,1] = Gather(%x, %i) {axis = 1} return (%y)"
    )
    inputs = {"x": np.zeros((1, 2), np.float32), "i": np.array([7])}
    with pytest.raises(UserError, match="onnxruntime fails on program 'p'"):
        Oracle(program).run(inputs)


def test_what_onnxruntime_cannot_run_is_said() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) e(%x: bfloat16[1,2]): "
        "%y: bfloat16[1,2] = Erf(%x) return (%y)"
    )
    with pytest.raises(UserError, match="onnxruntime cannot run program 'p'"):
        Oracle(program)
