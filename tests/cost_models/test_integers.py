"""Which nodes of a network in QDQ form are integer kernels, and what these cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.cost_models.analytical import AnalyticalModel
from offramp.cost_models.features import features
from offramp.passes.simplify import simplify

HEAD = """program small opset 18 batched -> (y) entry(%x: int8[1,2,4,4]):
    weight %s: float[] = [0.5]
    weight %zero: int8[] = [0]
    weight %wi: int8[2,2,1,1] = [1, 2, 3, 4]
    %r: float[1,2,4,4] = DequantizeLinear(%x, %s, %zero)
    %w: float[2,2,1,1] = DequantizeLinear(%wi, %s, %zero)
    %c: float[1,2,4,4] = Conv(%r, %w)
    %a: float[1,2,4,4] = Relu(%c)"""

QUANTISED = """
    %q: int8[1,2,4,4] = QuantizeLinear(%a, %s, %zero)
    %y: float[1,2,4,4] = DequantizeLinear(%q, %s, %zero)
    return (%y)"""

REAL = """
    %y: float[1,2,4,4] = Exp(%a)
    return (%y)"""


def kinds(text: str) -> list[str | None]:
    return [features(node).integer for node in from_text(text).entry.graph]


def test_a_kernel_takes_along_what_is_around_its_operator() -> None:
    expected = ["free", "free", "int8_pointwise", "free", "free", "convert"]
    assert kinds(HEAD + QUANTISED) == expected


FUNCTION = """
    %q: int8[1,2,4,4] = QuantizeLinear(%a, %s, %zero)
    %d: float[1,2,4,4] = DequantizeLinear(%q, %s, %zero)
    %g: float[1,2,4,4] = Sigmoid(%d)
    %m: float[1,2,4,4] = Mul(%d, %g)
    %p: int8[1,2,4,4] = QuantizeLinear(%m, %s, %zero)
    %e: float[1,2,4,4] = DequantizeLinear(%p, %s, %zero)
    %z: float[1,2,1,1] = GlobalMaxPool(%e)
    %t: int8[1,2,1,1] = QuantizeLinear(%z, %s, %zero)
    %y: float[1,2,1,1] = DequantizeLinear(%t, %s, %zero)
    return (%y)"""


def test_a_function_is_one_kernel_and_so_is_a_maximum() -> None:
    layer = ["free", "free", "int8_pointwise", "free", "free"]
    function = ["free", "free", "int8_elementwise", "free"]
    assert kinds(HEAD + FUNCTION) == [*layer, *function, "free", "int8_pool", "free", "convert"]


def test_an_operator_whose_result_stays_real_runs_on_real_numbers() -> None:
    assert kinds(HEAD + REAL) == ["convert", "free", None, None, None]


@pytest.mark.shared
def test_every_layer_of_the_shared_networks_is_on_integers(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*_int8.onnx")):
        graph = simplify()(from_onnx(path)).entry.graph
        layers = [node for node in graph if features(node).macs]
        assert layers
        assert all(str(features(node).integer).startswith("int8_") for node in layers), path


def counted(program: Program, target: str) -> float:
    return AnalyticalModel(targets.get(target)).block(program.entry)


@pytest.mark.shared
def test_predictions_for_riscv_are_near_the_instructions_counted(shared: Path) -> None:
    """Counted in the emulator by `benchmarks/riscv.py`."""
    known = {"ad_fcae": 0.731e6, "kws_dscnn": 7.51e6, "ic_resnet8": 30.6e6, "vww_mbv1": 20.2e6}
    for name, instructions in known.items():
        program = simplify()(from_onnx(shared / "models" / f"{name}_int8.onnx"))
        assert counted(program, "riscv32") == pytest.approx(instructions, rel=0.05), name


@pytest.mark.shared
@pytest.mark.parametrize(
    ("target", "known"),
    [
        ("cortex-m7", {"ad_fcae": 0.345, "kws_dscnn": 3.23, "ic_resnet8": 13.0, "vww_mbv1": 10.2}),
        ("cortex-m55", {"ad_fcae": 0.051, "kws_dscnn": 0.73, "ic_resnet8": 2.08, "vww_mbv1": 2.26}),
    ],
)
def test_predictions_are_near_the_instructions_counted(
    shared: Path, target: str, known: dict[str, float]
) -> None:
    """Millions, counted in the emulator by `benchmarks/mcu.py --precision int8`.

    Transposes that compiling removes are predicted: 5 % of the fastest MobileNet.
    """
    for name, millions in known.items():
        program = simplify()(from_onnx(shared / "models" / f"{name}_int8.onnx"))
        assert counted(program, target) == pytest.approx(millions * 1e6, rel=0.06), name


@pytest.mark.shared
def test_without_integer_kernels_the_conversions_cost(shared: Path) -> None:
    real, integer = (
        simplify()(from_onnx(shared / "models" / f"kws_dscnn_{precision}.onnx"))
        for precision in ("float", "int8")
    )
    assert counted(integer, "x86-64") > counted(real, "x86-64")
