"""Bytes that an inference moves, counted by hand."""

from __future__ import annotations

import pytest

from offramp.compiler.ir import Exit, Jump, Return, Successor
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.passes.memory.access import expected_traffic

SIZES = {"x": 10, "a": 20, "s": 4, "b": 30, "y": 5}


def network() -> Plan:
    """An exit that sees every sample, and a rest; weights are read thrice in both."""
    buffers = {name: Buffer(name, (size,), "uint8") for name, size in SIZES.items()}
    buffers["p"] = Buffer("p", (20,), "uint8", alias_of="a")
    buffers["w"] = Buffer("w", (8,), "uint8", Storage.CONSTANT)
    first = KernelCall("k", ("x", "w", "a"), workspace=6, traffic=(40, 24, 20, 100))
    score = KernelCall("k", ("a", "s"))
    rest = KernelCall("k", ("p", "w", "b"), traffic=(20, 24, 30))
    last = KernelCall("k", ("b", "y"), workspace=2)
    leave = Exit((0,), 0, 0.5, "max_softmax", Successor("rest", (1,)))
    return Plan(
        "p",
        "cortex-m7",
        buffers,
        (
            BlockPlan("first", (first, score), ("x",), ("s", "a"), leave),
            BlockPlan("rest", (rest, last), ("p",), ("y",), Return((0,))),
        ),
        ("x",),
        ("y",),
        False,
    )


def test_traffic_is_weighed_by_how_often_a_block_is_reached() -> None:
    assert expected_traffic(network(), {"first": 1.0, "rest": 0.25}) == {
        "x": 40 + 10,
        "w": 24 + 0.25 * 24,
        "a": 20 + 20 + 0.25 * 20,
        "first.0.workspace": 100,
        "s": 4,
        "b": 0.25 * (30 + 30),
        "y": 0.25 * 5,
        "rest.1.workspace": 0.25 * 2 * 2,
    }


def test_copies_into_a_join_move_both_ends() -> None:
    buffers = {name: Buffer(name, (8,), "uint8") for name in ("x", "p")}
    first = BlockPlan("b", (), ("x",), ("x",), Jump(Successor("c", (0,))))
    second = BlockPlan("c", (), ("p",), ("p",), Return((0,)))
    plan = Plan("p", "cortex-m7", buffers, (first, second), ("x",), ("y",), False)
    moved = expected_traffic(plan, {"b": 1.0, "c": 0.5})
    assert moved == pytest.approx({"x": 8 + 4, "p": 4})
