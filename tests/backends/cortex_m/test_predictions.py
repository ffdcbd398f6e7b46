"""The analytical cost model foretells what QEMU counts for the emitted code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offramp import backends
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.cost_models.analytical import AnalyticalModel
from offramp.cost_models.base import expected_cost
from offramp.passes.memory import plan_memory


@pytest.mark.arm
@pytest.mark.shared
@pytest.mark.parametrize("model", ["kws_dscnn", "ad_fcae"])
def test_predicted_instructions_are_within_15_percent(
    model: str, shared: Path, tmp_path: Path
) -> None:
    target = targets.get("cortex-m7")
    program = from_onnx(shared / "models" / f"{model}_float.onnx")
    lowered = lower(program, target)
    backend = backends.get(target.name)
    backend.emit(replace(lowered, plan=plan_memory(lowered.plan)), tmp_path)
    runner = backend.load(tmp_path)
    (tensor,) = runner.interface.inputs
    counted = runner.bench({tensor.name: np.zeros(tensor.shape, np.float32)}).per_exit[0].value
    assert expected_cost(AnalyticalModel(target), program) == pytest.approx(counted, rel=0.15)
