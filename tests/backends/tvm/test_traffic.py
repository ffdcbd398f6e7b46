"""Bytes that kernels say they move, beside those that the emulator counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp import backends
from offramp.backends.microcontroller.run import FirmwareRunner
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.plan import Storage
from offramp.passes.memory import plan_memory
from offramp.passes.memory.access import expected_traffic
from offramp.passes.simplify import simplify


def predicted_and_counted(
    model: Path, target: str, folder: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes of weights and of the arena in one run, inputs not written."""
    program = simplify()(from_onnx(model))
    lowered = lower(program, targets.get(target))
    plan = plan_memory(lowered.plan)
    backend = backends.get(target)
    backend.emit(Lowered(plan, lowered.kernels), folder)
    runner = backend.load(folder)
    assert isinstance(runner, FirmwareRunner)
    predicted: dict[str, float] = {"weights": 0.0, "arena": 0.0}
    for name, moved in expected_traffic(plan, {b.name: 1.0 for b in plan.blocks}).items():
        is_constant = name in plan.buffers and plan.buffers[name].storage is Storage.CONSTANT
        predicted["weights" if is_constant else "arena"] += moved
    predicted["arena"] -= sum(plan.buffers[name].nbytes for name in plan.blocks[0].parameters)
    (tensor,) = runner.interface.inputs
    counted = runner.traffic({tensor.name: np.zeros(tensor.shape, tensor.dtype)})
    weights = sum(n for name, n in counted.items() if name.startswith(f"{plan.name}_w"))
    return predicted, {"weights": weights, "arena": counted["static_arena"]}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("target", "model"),
    [
        pytest.param("cortex-m7", "kws_dscnn_int8", marks=pytest.mark.arm),
        pytest.param("cortex-m7", "vww_mbv1_int8", marks=pytest.mark.arm),
        pytest.param("cortex-m7", "kws_dscnn_float", marks=pytest.mark.arm),
        pytest.param("cortex-m55", "kws_dscnn_int8", marks=pytest.mark.arm),
        pytest.param("cortex-m55", "ad_fcae_int8", marks=pytest.mark.arm),
        pytest.param("riscv32", "kws_dscnn_int8", marks=pytest.mark.riscv),
    ],
)
def test_traffic_is_near_what_is_counted(
    target: str, model: str, shared: Path, tmp_path: Path
) -> None:
    """Weights to a tenth, though most are exact; activations to a fifth: borders are not read."""
    predicted, counted = predicted_and_counted(
        shared / "models" / f"{model}.onnx", target, tmp_path
    )
    assert predicted["weights"] == pytest.approx(counted["weights"], rel=0.1)
    assert predicted["arena"] == pytest.approx(counted["arena"], rel=0.2)
