from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Agree = Callable[..., None]
REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(0.5, 2, shape).astype(np.float32)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data(), keepdims=st.integers(0, 1))
@settings(max_examples=8, deadline=None)
def test_reduction_over_any_axes(
    agree: Agree, name: str, data: st.DataObject, keepdims: int
) -> None:
    rank = data.draw(st.integers(1, 4))
    axes = data.draw(st.lists(st.integers(0, rank - 1), unique=True))
    wrapped = [axis - rank * data.draw(st.integers(0, 1)) for axis in axes]
    x = values(*data.draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    agree(f"Reduce{name}", x, constants=[np.array(wrapped, np.int64)], keepdims=keepdims)
    agree(f"Reduce{name}", x, keepdims=keepdims)


def test_no_axes_may_mean_no_reduction(agree: Agree) -> None:
    none = np.array([], np.int64)
    agree("ReduceSum", values(2, 3), constants=[none], noop_with_empty_axes=1)
    agree("ReduceSum", values(2, 3), constants=[none], noop_with_empty_axes=0)


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_position_of_an_extreme(agree: Agree, op_type: str, last: int) -> None:
    x = np.array([[1, 3, 3], [0, 0, 2]], np.float32)
    agree(op_type, x, axis=1, keepdims=0, select_last_index=last)
    agree(op_type, x, axis=-1, keepdims=1, select_last_index=last)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(agree: Agree, largest: int) -> None:
    agree("TopK", values(3, 5), constants=[np.array([2])], outputs=2, axis=-1, largest=largest)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum(agree: Agree, exclusive: int, reverse: int) -> None:
    axis = np.array(1, np.int64)
    agree("CumSum", values(2, 5), constants=[axis], exclusive=exclusive, reverse=reverse)


@given(
    batch=st.sampled_from([((), ()), ((2,), (2,)), ((3, 1), (2,)), ((2,), ())]),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
)
@settings(max_examples=20, deadline=None)
def test_matmul_broadcasts(
    agree: Agree,
    batch: tuple[tuple[int, ...], tuple[int, ...]],
    sizes: tuple[int, int, int],
) -> None:
    rows, inner, columns = sizes
    agree("MatMul", values(*batch[0], rows, inner), values(*batch[1], inner, columns))
    agree("MatMul", values(*batch[0], rows, inner), values(inner))


@given(a=st.integers(0, 1), b=st.integers(0, 1), bias=st.sampled_from([None, (4,), (2, 1), (2, 4)]))
@settings(max_examples=16, deadline=None)
def test_gemm(agree: Agree, a: int, b: int, bias: tuple[int, ...] | None) -> None:
    x = values(3, 2) if a else values(2, 3)
    weight = values(4, 3) if b else values(3, 4)
    constants = [weight] if bias is None else [weight, values(*bias)]
    agree("Gemm", x, constants=constants, transA=a, transB=b, alpha=0.5, beta=2.0)


def test_einsum(agree: Agree) -> None:
    agree("Einsum", values(2, 3, 4), values(2, 5, 4), equation="bij,bkj->bik")
