"""Rows that operators need, against windows counted out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.compiler.ir.parser import from_text
from offramp.passes.patches.rows import Rows, Sliding, sliding

HEAD = "program p opset 18 batched -> (y) entry(%x: float[1,2,9,9]):\n"


@given(
    stride=st.integers(1, 4),
    pad=st.integers(0, 3),
    taps=st.integers(1, 5),
    dilation=st.integers(1, 3),
    first=st.integers(0, 9),
    count=st.integers(1, 5),
)
def test_needed_rows_are_those_of_all_taps(
    stride: int, pad: int, taps: int, dilation: int, first: int, count: int
) -> None:
    outputs = range(first, first + count)
    read = {o * stride - pad + t * dilation for o in outputs for t in range(taps)}
    window = Sliding(stride, pad, (taps - 1) * dilation + 1)
    assert window.needed(Rows(first, first + count)) == Rows(min(read), max(read) + 1)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("%y: float[1,2,9,9] = Relu(%x)", Sliding(1, 0, 1)),
        ("%y: float[1,2,9,9] = Transpose(%x) {perm = [0, 1, 3, 2]}", None),
        ("%y: float[1,2,9,9] = Softmax(%x)", None),
        (
            "%y: float[1,2,5,5] = MaxPool(%x) {kernel_shape = [3, 3], strides = [2, 2], "
            "pads = [1, 1, 1, 1]}",
            Sliding(2, 1, 3),
        ),
        (
            "%y: float[1,2,5,9] = MaxPool(%x) {kernel_shape = [2, 1], strides = [2, 1], "
            'auto_pad = "SAME_UPPER"}',
            Sliding(2, 0, 2),
        ),
        (
            "%y: float[1,2,5,9] = MaxPool(%x) {kernel_shape = [2, 1], strides = [2, 1], "
            'auto_pad = "SAME_LOWER"}',
            Sliding(2, 1, 2),
        ),
        ("%y: float[1,2,11,9] = MaxPool(%x) {kernel_shape = [1, 1], pads = [1, 0, 1, 0]}", None),
        (
            "%y: float[1,2,5,5] = MaxPool(%x) {kernel_shape = [2, 2], strides = [2, 2], "
            "ceil_mode = 1}",
            None,
        ),
    ],
)
def test_operators_and_their_windows(node: str, expected: Sliding | None) -> None:
    graph = from_text(f"{HEAD}{node}\nreturn (%y)").entry.graph
    assert sliding(graph[0]) == expected


def test_a_constant_that_differs_from_row_to_row_keeps_rows_together() -> None:
    nine = ", ".join(f"{i}.0" for i in range(9))
    for shape, expected in (("1,9", Sliding(1, 0, 1)), ("9,1", None)):
        body = f"weight %w: float[{shape}] = [{nine}]\n%y: float[1,2,9,9] = Add(%x, %w)"
        assert sliding(from_text(f"{HEAD}{body}\nreturn (%y)").entry.graph[0]) == expected
