"""What the tail hands over: fused calls, views, names, provenance, and clear refusals."""

from __future__ import annotations

import time

import numpy as np
import pytest

from offramp.backends.tvm.tail import lower_tail
from offramp.compiler import targets
from offramp.compiler.errors import UnsupportedError
from tests.backends.tvm.tail.conftest import Runner, execute, graph_of, lower

CHAIN = "g (float[4,6] x) => (float[4,6] y) { a = Sigmoid(x) b = Mul(a, x) y = Add(b, x) }"


def test_elementwise_chain_is_one_call() -> None:
    (call,) = lower(CHAIN)
    assert call.inputs == ("x",)
    assert call.outputs == ("y",)
    assert call.output_shapes == ((4, 6),)
    assert call.output_dtypes == ("float32",)
    assert call.nodes == ("a", "b", "y")


def test_buffer_parameters_are_inputs_then_outputs() -> None:
    (call,) = lower("g (float[3] x, float[3] z) => (float[3] y) { y = Sub(x, z) }")
    assert call.func is not None
    assert [str(p.ty.dtype) for p in call.func.params] == ["float32"] * 3
    assert call.inputs == ("x", "z")


def test_scalar_constants_are_immediates() -> None:
    (call,) = lower(
        "g (float[3] x, float c) => (float[3] y) { y = Mul(x, c) }", {"c": np.array(2, np.float32)}
    )
    assert call.inputs == ("x",)


def test_constant_tensors_are_operands() -> None:
    weights = np.arange(3, dtype=np.float32)
    (call,) = lower("g (float[3] x, float[3] w) => (float[3] y) { y = Mul(x, w) }", {"w": weights})
    assert call.inputs[0] == "x"
    np.testing.assert_array_equal(call.inputs[1], weights)


def test_nodes_are_told_apart_between_calls() -> None:
    calls = lower("g (float[2,8] x) => (float[2,8] y) { a = Exp(x) s = Softmax(a) y = Neg(s) }")
    assert [call.nodes for call in calls] == [("a",), ("s", "y")]


def test_reshape_is_a_view() -> None:
    shape = np.array([12], np.int64)
    calls = lower(
        "g (float[3,4] x, int64[1] s) => (float[12] y) { y = Reshape(x, s) }", {"s": shape}
    )
    assert [(c.is_view, c.inputs, c.outputs) for c in calls] == [(True, ("x",), ("y",))]


def test_several_outputs_of_one_node(run: Runner) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    sizes = np.array([2, 3], np.int64)
    text = """g (float[2,5] x, int64[2] s) => (float[2,2] a, float[2,3] b)
        { a, b = Split<axis=1>(x, s) }"""
    a, b = run(text, {"x": x}, {"s": sizes})
    np.testing.assert_array_equal(a, x[:, :2])
    np.testing.assert_array_equal(b, x[:, 2:])


def test_output_that_is_a_constant_is_written(run: Runner) -> None:
    text = "g (float[2] x) => (float[2] y, int64[1] s) { y = Relu(x) s = Shape(x) }"
    y, s = run(text, {"x": np.array([-1, 1], np.float32)})
    np.testing.assert_array_equal(y, [0, 1])
    np.testing.assert_array_equal(s, [2])
    assert s.dtype == np.int64


def test_value_that_is_output_and_operand_keeps_its_name() -> None:
    calls = lower("g (float[4] x) => (float[4] a, float[4] y) { a = Exp(x) y = Neg(a) }")
    written = [name for call in calls for name in call.outputs]
    assert sorted(written) == ["a", "y"]


def test_scalars_have_rank_zero(run: Runner) -> None:
    (y,) = run("g (float x) => (float y) { y = Exp(x) }", {"x": np.array(1, np.float32)})
    assert y.shape == ()
    assert y == pytest.approx(np.e)


def test_layer_normalization_with_all_outputs(run: Runner) -> None:
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    ones = np.ones(8, np.float32)
    text = """g (float[3,8] x, float[8] w) => (float[3,8] y, float[3,1] m, float[3,1] d)
        { y, m, d = LayerNormalization(x, w) }"""
    y, mean, inverse = run(text, {"x": x}, {"w": ones})
    np.testing.assert_allclose(mean[:, 0], x.mean(1), atol=1e-6)
    np.testing.assert_allclose(inverse[:, 0], 1 / np.sqrt(x.var(1) + 1e-5), rtol=1e-4)
    np.testing.assert_allclose(y, (x - mean) * inverse, atol=1e-5)


def test_branch_decided_by_a_shape_is_inlined(run: Runner) -> None:
    text = """g (float[4] x) => (float[4] y) {
        n = Size(x) four = Constant<value_int=4>() is4 = Equal(n, four)
        y = If(is4) <then_branch = a () => (float[4] t) { t = Neg(x) },
                     else_branch = b () => (float[4] e) { e = Exp(x) }>
    }"""
    (y,) = run(text, {"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(y, -np.ones(4))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[4] x) => (int64[1,N] y) { y = NonZero(x) }", "depends on data"),
        ("g (string[4] x) => (bool[4] y) { y = Equal(x, x) }", "strings"),
        ("g (float[4] x) => (float[4] y) { y = RandomNormalLike(x) }", "no lowering"),
        (
            "g (float[4] x, int64 a) => (float[4] y) { y = CumSum(x, a) }",
            "'axis' must be a constant",
        ),
        ("g (float[6,6] x) => (float y) { y = Det(x) }", "6x6"),
    ],
)
def test_refusal_names_operator_node_and_ledger(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lower(text)
    message = str(caught.value)
    assert reason in message
    assert text.rsplit("= ", maxsplit=1)[-1].split("(", maxsplit=1)[0] in message
    assert "(node 'y')" in message
    assert "docs/results/ledger.md" in message
    assert "\n" not in message


def test_whatever_tvm_raises_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    from offramp.backends.tvm.tail import nodes

    def broken(*_: object) -> object:
        raise RuntimeError("first line\n  InternalError: something in C++ broke.\n")

    class Converter:
        @classmethod
        def get_converter(cls, _: int) -> object:
            return broken

    monkeypatch.setattr(nodes, "_tvm_converters", lambda: {"Tan": Converter})
    with pytest.raises(UnsupportedError, match=r"Tan \(node 'y'\).*something in C\+\+ broke\. "):
        lower("g (float[4] x) => (float[4] y) { y = Tan(x) }")


def test_result_of_another_type_than_declared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from offramp.backends.tvm.tail import nodes

    class Converter:
        @classmethod
        def get_converter(cls, _: int) -> object:
            return lambda builder, inputs, attributes, parameters: inputs[0]

    monkeypatch.setattr(nodes, "_tvm_converters", lambda: {"Transpose": Converter})
    with pytest.raises(
        UnsupportedError, match=r"should be float32\[3,2\].*lowered to float32\[2,3\]"
    ):
        lower("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }")


def test_lowering_is_quick_and_deterministic() -> None:
    graph = graph_of("g (float[1,1000] x) => (float[1,1000] y) { y = Softmax(x) }")
    first = lower_tail(graph, targets.get("x86-64"))
    started = time.process_time()
    second = lower_tail(graph, targets.get("x86-64"))
    assert time.process_time() - started < 0.5
    assert [str(call.func) for call in first] == [str(call.func) for call in second]


def test_chain_computes_what_it_says() -> None:
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)
    y = execute(lower(CHAIN), {"x": x})["y"]
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)) + x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "code"), [("float16", 10), ("bfloat16", 16)])
def test_small_floats_need_more_than_c(dtype: str, code: int) -> None:
    graph = graph_of(f"g (float[4] x) => ({dtype}[4] y) {{ y = Cast<to={code}>(x) }}")
    with pytest.raises(UnsupportedError, match=r"Cast \(node 'y'\).*cortex-m7 code is C"):
        lower_tail(graph, targets.get("cortex-m7"))
