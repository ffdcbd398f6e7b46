"""Calls lowered for a target without LLVM are C that a compiler accepts without warnings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnx.parser
import pytest

from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx

OPERATORS = ("Abs", "Erf", "Exp", "Gelu", "Log", "Mish", "Sigmoid", "Softmax", "Softplus", "Tanh")
BODIES = [f"g (float[4,6] x) => (float[4,6] y) {{ y = {name}(x) }}" for name in OPERATORS] + [
    "g (float[4,6] x) => (int8[4,6] y) { y = Cast<to=3>(x) }",
    "g (float[4,6] x) => (int64[4,1] y) { y = ArgMax<axis=1>(x) }",
    """g (float[4,6] x) => (float[4,2] v, int64[4,2] i)
        { k = Constant<value_ints=[2]>() v, i = TopK<axis=1>(x, k) }""",
]
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


@pytest.mark.parametrize("body", BODIES)
def test_source_compiles(body: str, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {body}')
    lowered = lower(from_onnx(model, batched=False), targets.get("cortex-m7"))
    (tmp_path / "kernels.c").write_text(lowered.kernels.to_c())
    command = ["gcc", *FLAGS, "-c", "kernels.c", "-o", "kernels.o"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
