"""Networks spread over the memories of a board: equal answers, and arrays where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import offramp
from offramp import backends
from offramp.backends.microcontroller.run import FirmwareRunner
from offramp.compiler import boards

pytestmark = [pytest.mark.shared, pytest.mark.arm]


@pytest.mark.parametrize(
    ("model", "board", "optimize", "memories"),
    [
        ("ic_resnet8_float", "nucleo-h743zi2", "size", ["dtcm", "axi-sram"]),
        ("kws_dscnn_int8", "nucleo-f746zg", "speed", ["dtcm"]),
        ("vww_mbv1_int8", "nucleo-f746zg", "speed", ["dtcm", "sram1+sram2"]),
    ],
)
def test_answers_do_not_depend_on_the_memories(
    model: str, board: str, optimize: str, memories: list[str], shared: Path, tmp_path: Path
) -> None:
    path, target = shared / "models" / f"{model}.onnx", boards.get(board).target
    plain = offramp.compile(path, target=target, exits=False, optimize=optimize)
    spread = offramp.compile(
        path, board=board, exits=False, optimize=optimize, output=tmp_path / "spread"
    )
    (spec,) = spread.manifest.inputs
    with np.load(shared / "models" / f"{model}_samples.npz") as samples:
        x = samples["x"].reshape(-1, *spec.shape[1:])[:3].astype(spec.dtype)
    for name, expected in plain.run(x).outputs.items():
        np.testing.assert_array_equal(spread.run(x).outputs[name], expected)
    banks = spread.manifest.memory.banks
    assert [bank.memory for bank in banks] == memories
    runner = backends.get(target).load(tmp_path / "spread")
    assert isinstance(runner, FirmwareRunner)
    moved = runner.traffic({spec.name: x[:1]})
    arrays = {name for name in moved if name.startswith(("static_arena", "weights_"))}
    assert len(arrays) == sum((bank.arena > 0) + (bank.weights > 0) for bank in banks)
    ram = spread.bench()[0].ram
    assert ram.weights == sum(bank.weights for bank in banks)
    assert ram.static < 200


def test_the_readme_of_an_artifact_has_a_macro_for_every_array(
    shared: Path, tmp_path: Path
) -> None:
    offramp.compile(
        shared / "models" / "vww_mbv1_int8.onnx",
        board="nucleo-f746zg",
        optimize="speed",
        exits=False,
        output=tmp_path / "out",
    )
    text = (tmp_path / "out" / "README.md").read_text()
    source = (tmp_path / "out" / "vww_mbv1_int8.c").read_text()
    macros = {
        line.split("`")[1] for line in text.splitlines() if line.startswith("   | `VWW_MBV1_INT8_")
    }
    assert macros == {
        "VWW_MBV1_INT8_ARENA_ATTRIBUTES",
        "VWW_MBV1_INT8_WEIGHTS_DTCM_ATTRIBUTES",
        "VWW_MBV1_INT8_WEIGHTS_SRAM1_SRAM2_ATTRIBUTES",
    }
    assert all(f"#ifndef {macro}" in source for macro in macros)
