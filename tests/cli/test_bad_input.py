"""One clear message for each thing that can be wrong, the right exit code, and nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from offramp.compiler import artifact, boards
from tests.cli.conftest import Array, Command, Outcome, classifier, with_weights

Npz = Callable[..., Path]
USER, TOOL, BUG = 2, 3, 1


@pytest.fixture
def refused(offramp: Command, tmp_path: Path) -> Callable[..., str]:
    """Compile something that must be refused: its message, after checking that nothing is left."""

    def run(model: object, *options: object, code: int = USER) -> str:
        outcome = offramp("compile", model, *options, "--json", "-o", tmp_path / "out")
        check_refusal(outcome, code)
        assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
        return outcome.message

    return run


def check_refusal(outcome: Outcome, code: int) -> None:
    assert outcome.code == code, outcome.message
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.message
    assert outcome.message.count("error:") == 1


Refused = Callable[..., str]


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_a_missing_file(refused: Refused, tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.onnx").lower()


def test_a_board_that_is_not_known(refused: Refused, model: Path) -> None:
    message = refused(model, "--board", "nucleo-f446")
    assert "unknown board 'nucleo-f446'" in message
    assert all(name in message for name in boards.names())


def test_patches_that_cost_less_than_nothing(refused: Refused, model: Path) -> None:
    message = refused(model, "--patches", "-1", "--no-exits")
    assert "patches may cost -1 % more multiply-accumulates: expected 0 (none) to 1000" in message


def test_integer_inputs_of_a_network_that_is_not_quantised(refused: Refused, model: Path) -> None:
    message = refused(model, "--integer-inputs", "--no-exits")
    assert "give --quantize int8" in message


def test_a_board_with_another_processor(refused: Refused, model: Path) -> None:
    message = refused(model, "--board", "nucleo-f446re", "--target", "cortex-m7")
    assert "needs the target cortex-m4, found cortex-m7" in message


@pytest.mark.shared
def test_activations_that_the_ram_of_a_board_does_not_hold(refused: Refused, shared: Path) -> None:
    path = shared / "models" / "ic_resnet8_float.onnx"
    message = refused(path, "--board", "nucleo-f446re", "--no-exits")
    assert "does not fit nucleo-f446re: its arena needs 131072 bytes and the RAM has 122880" in (
        message
    )
    assert "sram1+sram2: 131072, 8192 reserved for stack" in message
    assert re.search(r"Most is in use at Relu__8: entry\.Relu__5:0 \(65536 bytes\), ", message)
    assert "its weights" not in message
    assert "--quantize int8" in message
    assert message.endswith("nano-33-ble, nucleo-f746zg, nucleo-h743zi2")


@pytest.mark.shared
def test_weights_that_the_flash_of_a_board_does_not_hold(refused: Refused, shared: Path) -> None:
    path = shared / "models" / "ad_fcae_float.onnx"
    message = refused(path, "--board", "nucleo-f746zg", "--no-exits")
    assert re.search(r"its weights need 1063456 bytes and the flash has 1015808", message)
    assert re.search(r"The largest belong to Relu__5 \(327680 bytes\), Add__51", message)
    assert "its arena" not in message
    assert message.endswith("nucleo-h743zi2")


@pytest.mark.shared
def test_exits_are_not_trained_for_a_board_that_is_too_small(
    refused: Refused, offramp: Command, shared: Path, npz: Npz, tmp_path: Path
) -> None:
    """And the advice is good: in int8 the same network fits the same board."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(40, 32, 32, 3)).astype(np.float32)
    data = npz(x=images, y=generator.integers(0, 10, 40))
    path = shared / "models" / "ic_resnet8_float.onnx"
    message = refused(path, "--board", "nucleo-f446re", "--calibration", data)
    assert "checking the board" in message
    assert "choosing exits" not in message
    options = ["--calibration", data, "--no-exits", "--quantize", "int8"]
    outcome = offramp("compile", path, "--board", "nucleo-f446re", *options, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.message


def test_options_that_are_not_known(refused: Refused, model: Path) -> None:
    assert "expected one of size, speed" in refused(model, "--optimize", "flash")
    assert "expected one of int8, mixed" in refused(model, "--quantize", "int4")
    assert "more than 0 and less than 100" in refused(model, "--quantize-drop", "100")


def test_quantising_without_samples(refused: Refused, tmp_path: Path) -> None:
    model = save(tmp_path / "net.onnx", classifier())
    assert "give calibration data" in refused(model, "--quantize", "int8")


def test_quantising_to_an_unknown_precision(refused: Refused, tmp_path: Path) -> None:
    model = save(tmp_path / "net.onnx", classifier())
    message = refused(model, "--quantize", "fp4")
    assert "cannot quantise to 'fp4': expected one of int8" in message


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_scales_nothing(refused: Refused, tmp_path: Path, scale: float) -> None:
    message = refused(save(tmp_path / "m.onnx", quantised(scale)), "--no-exits")
    assert "QuantizeLinear 'narrow' has a scale of" in message
    assert "above zero" in message


@pytest.mark.parametrize(
    "target",
    [
        "x86-64",
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
def test_blocked_quantisation(offramp: Command, tmp_path: Path, target: str) -> None:
    """Weights with a scale for every two of a row: no integer kernel has them, real numbers do."""
    made = quantised(0.1, blocked=True)
    out = tmp_path / "out"
    outcome = offramp(
        "compile", save(tmp_path / "m.onnx", made), "--no-exits", "--target", target, "-o", out
    )
    assert outcome.code == 0, outcome.message


def quantised(scale: float, *, blocked: bool = False) -> onnx.ModelProto:
    """A dense layer on integers."""
    per_row = "scales = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1}" if blocked else "scales = {0.1}"
    kind = "float[2,3]" if blocked else "float"
    blocks = "<axis = 0, block_size = 2> (w, scales)" if blocked else "(w, scales)"
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        dense (float[1,4] x) => (float[1,3] y)
        <float scale = {{{scale}}}, int8 zero = {{0}}, {kind} {per_row},
         int8[4,3] w = {{1, -2, 3, 4, -5, 6, 7, -8, 9, 10, -11, 12}}> {{
          [narrow] q = QuantizeLinear (x, scale, zero)
          d = DequantizeLinear (q, scale, zero)
          v = DequantizeLinear {blocks}
          m = MatMul (d, v)
          n = QuantizeLinear (m, scale, zero)
          y = DequantizeLinear (n, scale, zero)
        }}"""
    )


def test_a_weight_that_is_not_a_number(refused: Refused, tmp_path: Path) -> None:
    model = classifier()
    weight = next(w for w in model.graph.initializer if len(w.dims) > 1)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[3] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    message = refused(save(tmp_path / "spoilt.onnx", model), "--target", "x86-64")
    assert re.search(rf"1 of the {values.size} elements of weight '{weight.name}' are NaN", message)
    assert "checkpoint" in message


def test_a_file_that_is_no_model(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello " * 100)
    assert "text.onnx" in refused(tmp_path / "text.onnx")


def test_a_truncated_model(refused: Refused, tmp_path: Path, model: Path) -> None:
    for keep in (0.3, 0.9):
        data = model.read_bytes()
        (tmp_path / "cut.onnx").write_bytes(data[: int(keep * len(data))])
        assert "cut.onnx" in refused(tmp_path / "cut.onnx")


def test_a_declared_tensor_of_terabytes(refused: Refused, tmp_path: Path) -> None:
    bomb = classifier()
    bomb.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 3]
    message = refused(save(tmp_path / "bomb.onnx", bomb))
    assert "w1" in message


def test_a_cyclic_graph(refused: Refused, tmp_path: Path) -> None:
    cyclic = classifier()
    cyclic.graph.node[0].input[0] = "r3"
    assert "cycl" in refused(save(tmp_path / "cyclic.onnx", cyclic)).lower()


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_outside_the_folder(refused: Refused, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "inner").mkdir()
    thief = classifier()
    tensor = thief.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    message = refused(save(tmp_path / "inner" / "thief.onnx", thief))
    assert location in message
    assert "outside" in message


@pytest.mark.parametrize(
    ("operator", "outputs"),
    [
        ("Cast<to = 8>(h)", "string[N,4] y"),
        ("NonZero(h)", "int64[2,M] y"),
        ("Bernoulli(h)", "float[N,4] y"),
    ],
)
def test_an_unsupported_operator_is_named(
    refused: Refused, tmp_path: Path, operator: str, outputs: str
) -> None:
    """With its node, and the table that lists what compiles."""
    text = f"""
    <ir_version: 10, opset_import: ["": 20]>
    odd (float[N,4] x) => ({outputs}) {{ h = Relu(x) [the_node] y = {operator} }}
    """
    message = refused(save(tmp_path / "odd.onnx", onnx.parser.parse_model(text)))
    assert re.split(r"\W", operator)[0] in message
    assert "the_node" in message
    assert message.count("docs/results/ledger.md") == 1


def test_an_operator_of_another_domain_is_named(refused: Refused, tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["": 20, "com.acme": 1]>
    odd (float[N,4] x) => (float[N,4] y) { [the_node] y = com.acme.Frobnicate(x) }
    """
    message = refused(save(tmp_path / "odd.onnx", onnx.parser.parse_model(text)))
    assert "Frobnicate" in message
    assert "the_node" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None, "picture": np.zeros((9, 1, 8, 8))}, "expected arrays x or image"),
        ({"x": np.zeros((60, 8, 8, 1), np.float32)}, "[N, 1, 8, 8], found an array of shape"),
        ({"x": np.full((60, 1, 8, 8), 0.1)}, "expects float32, found float64"),
        ({"x": np.full((60, 1, 8, 8), "a")}, "expects float32, found <U1"),
        ({"x": np.full((60, 1, 8, 8), np.nan, np.float32)}, "NaN or infinite"),
        ({"x": np.ones((60, 1, 8, 8), np.float32)}, "all 60 samples are the same"),
        ({"y": np.full(60, 3)}, "class numbers from 0 to 2"),
        ({"y": np.full(60, -1)}, "class numbers from 0 to 2"),
        ({"y": np.zeros(59, int)}, "shape [60]; found shape [59]"),
        ({"y": np.full(60, 0.5)}, "class numbers (integers)"),
    ],
)
def test_calibration_data_that_does_not_fit(
    refused: Refused, model: Path, npz: Npz, samples: dict[str, Array], change: Any, message: str
) -> None:
    arrays = {k: v for k, v in (samples | change).items() if v is not None}
    found = refused(model, "--calibration", npz(**arrays))
    assert message in found
    assert "calibration" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--target", "z80"),
            "unknown target 'z80': expected one of cortex-m4, cortex-m55, cortex-m7, riscv32,",
        ),
        (("--accuracy-drop", 0), "accuracy drop (points) is 0"),
        (("--confidence", 1.5), "confidence is 1.5"),
        (("--risk", "luck"), "unknown risk 'luck': expected one of drop, flip"),
        (("--print-after", "magic"), "no pass 'magic'"),
        (("--finetune",), "needs training data"),
        (("--finetune", "--no-exits"), "it needs exits"),
        (("--calibration", "nothing.npz"), "nothing.npz: no such file"),
    ],
)
def test_options_that_make_no_sense(
    refused: Refused, model: Path, options: tuple[object, ...], message: str
) -> None:
    assert message in refused(model, *options)


def test_an_output_folder_that_exists(offramp: Command, tmp_path: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    for options in ((), ("--force",)):
        outcome = offramp("compile", model, "--no-exits", *options, "-o", tmp_path / "out")
        check_refusal(outcome, USER)
        assert "exists" in outcome.message
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_missing_compiler(
    refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    message = refused(model, "--no-exits", "--target", "x86-64", code=TOOL)
    assert "gcc was not found" in message
    assert "install gcc" in message


@pytest.mark.parametrize(
    ("target", "present", "missing"),
    [
        pytest.param("cortex-m7", "", "arm-none-eabi-gcc", marks=pytest.mark.arm),
        pytest.param("cortex-m7", "arm-none-eabi-*", "qemu-system-arm", marks=pytest.mark.arm),
        pytest.param("riscv32", "", "riscv64-unknown-elf-gcc", marks=pytest.mark.riscv),
        pytest.param("riscv32", "riscv64-*", "qemu-system-riscv32", marks=pytest.mark.riscv),
    ],
)
def test_a_missing_cross_compiler_or_emulator(
    offramp: Command, model: Path, npz: Npz, samples: dict[str, Array], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, target: str, present: str, missing: str,
) -> None:  # fmt: skip
    out, programs = tmp_path / "out", tmp_path / "bin"
    assert offramp("compile", model, "--no-exits", "--target", target, "-o", out).code == 0
    programs.mkdir()
    for program in Path("/usr/bin").glob(present) if present else ():
        (programs / program.name).symlink_to(program)
    for name in ("gcc", "cc", "nm", "size", "make", "sh"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    outcome = offramp("run", out, "--input", npz(x=samples["x"][:1]), "--json")
    check_refusal(outcome, TOOL)
    assert f"{missing} was not found" in outcome.message


def test_a_changed_artifact(
    offramp: Command, model: Path, npz: Npz, samples: dict[str, Array], tmp_path: Path
) -> None:
    assert offramp("compile", model, "--no-exits", "-o", tmp_path / "out").code == 0
    with (tmp_path / "out" / "program.onnx").open("ab") as stream:
        stream.write(b"x")
    for command in (("inspect",), ("bench",), ("run", "--input", npz(x=samples["x"]))):
        outcome = offramp(command[0], tmp_path / "out", *command[1:])
        check_refusal(outcome, USER)
        assert "program.onnx was changed" in outcome.message


def test_a_folder_that_is_no_artifact(offramp: Command, tmp_path: Path) -> None:
    outcome = offramp("inspect", tmp_path)
    check_refusal(outcome, USER)
    assert "is not an artifact" in outcome.message


def test_an_output_file_that_cannot_be_written(
    offramp: Command, model: Path, npz: Npz, samples: dict[str, Array], tmp_path: Path
) -> None:
    assert offramp("compile", model, "--no-exits", "-o", tmp_path / "out").code == 0
    outcome = offramp(
        "run", tmp_path / "out", "--input", npz(**samples), "--output", tmp_path / "no" / "y.npz"
    )
    check_refusal(outcome, USER)
    assert "existing folder" in outcome.message


def test_a_bug_says_so(refused: Refused, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("offramp.pipeline.lower", broken)
    message = refused(model, "--no-exits", code=BUG)
    assert "This is a bug of offramp (ZeroDivisionError)" in message
    assert "OFFRAMP_DEBUG=1" in message


def test_an_unknown_option_is_refused_by_name(offramp: Command) -> None:
    outcome = offramp("compile", "--fast")
    assert outcome.code == USER
    assert "--fast" in outcome.message
    assert "Traceback" not in outcome.message


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.5])
def test_ctrl_c_leaves_nothing(model: Path, tmp_path: Path, seconds: float) -> None:
    """Interrupt a compilation while libraries load, while it lowers, while it writes."""
    words = ["-m", "offramp", "compile", str(model), "--no-exits", "-o", str(tmp_path / "out")]
    command = [sys.executable, *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    if (tmp_path / "out").exists():  # it was faster than the signal, which may even find it leaving
        assert seconds > 1
        assert process.returncode in (0, -signal.SIGINT)
        assert artifact.read(tmp_path / "out")
        return
    assert process.returncode == 130
    assert "interrupted" in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_classes_gets_no_exits_but_compiles(
    offramp: Command, npz: Npz, tmp_path: Path
) -> None:
    text = """
    <ir_version: 10, opset_import: ["": 20]>
    regression (float[N,6] x) => (float[N,6] y) { h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }
    """
    path = save(tmp_path / "reg.onnx", with_weights(text, {"a": (6, 4), "b": (4, 6)}))
    x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    outcome = offramp(
        "compile", path, "--calibration", npz(x=x, y=x[:, 0]), "--json", "-o", tmp_path / "out"
    )
    assert outcome.code == USER or outcome.data["certificate"] is None


def test_too_few_samples_to_certify(
    offramp: Command, model: Path, npz: Npz, samples: dict[str, Array], tmp_path: Path
) -> None:
    few = {name: array[:12] for name, array in samples.items()}
    outcome = offramp(
        "compile", model, "--calibration", npz(**few), "--json", "-o", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.message
    answer = outcome.data
    assert answer["certificate"] is None
    assert "samples" in answer["reason"]
    assert answer["expected_cost"] == answer["static_cost"]
    assert len(answer["exits"]) == 1
