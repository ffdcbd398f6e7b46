"""compile, run, bench and inspect on real networks: contract of the JSON, truth of the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from offramp import api
from offramp.compiler import boards
from offramp.compiler.oracle import Oracle
from tests.cli.conftest import Array, Command

Npz = Callable[..., Path]
COMPILE_KEYS = {
    "target", "static_cost", "expected_cost", "exits", "certificate", "memory", "patches",
    "real_layers",
}  # fmt: skip
EXIT_KEYS = {"block", "criterion", "threshold", "rate", "macs"}
UNITS = {"x86-64": "ns", "cortex-m7": "instructions", "riscv32": "instructions"}
TARGETS = [
    "x86-64",
    pytest.param("cortex-m7", marks=pytest.mark.arm),
    pytest.param("riscv32", marks=pytest.mark.riscv),
]


def reference(model: Path, x: Array) -> Array:
    """What onnxruntime answers."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize("target", TARGETS)
def test_without_exits(
    offramp: Command, model: Path, samples: dict[str, Array], npz: Npz, tmp_path: Path, target: str
) -> None:
    out, x = tmp_path / "out", samples["x"][:5]
    compiled = offramp("compile", model, "--target", target, "--no-exits", "--json", "-o", out)
    assert compiled.code == 0, compiled.message
    assert set(compiled.data) == COMPILE_KEYS | {"reason"}
    assert compiled.data["target"] == target
    assert compiled.data["certificate"] is None
    assert compiled.data["reason"] == "no exits were asked for"
    assert compiled.data["static_cost"] == compiled.data["expected_cost"]
    assert compiled.data["static_cost"].keys() == {"macs", "value", "unit"}
    assert compiled.data["static_cost"]["unit"] == UNITS[target]
    assert [set(entry) for entry in compiled.data["exits"]] == [EXIT_KEYS]
    # 64 pixels by 9, and twice 16 pixels by 72, each for 8 channels; then the dense layer
    macs = 64 * 9 * 8 + 2 * 16 * 72 * 8 + 24
    assert compiled.data["exits"][0]["macs"] == compiled.data["static_cost"]["macs"] == macs

    answers = tmp_path / "y.npz"
    ran = offramp("run", out, "--input", npz(x=x), "--output", answers, "--json")
    assert ran.code == 0, ran.message
    assert set(ran.data) == {"samples", "exit_rates", "cost"}
    assert ran.data["samples"] == 5
    assert ran.data["exit_rates"] == [1.0]
    cost = ran.data["cost"]
    assert cost["unit"] == UNITS[target]
    assert 0 < cost["p50"] <= cost["p99"] <= cost["max"]
    with np.load(answers) as written:
        assert set(written.files) == {"scores", "exit_index"}
        np.testing.assert_allclose(written["scores"], reference(model, x), rtol=1e-4, atol=1e-5)
        assert written["exit_index"].tolist() == [0] * 5

    measured = offramp("bench", out, "--json")
    assert measured.code == 0, measured.message
    assert set(measured.data) == {"per_exit", "expected", "worst", "ram", "flash", "layers"}
    (final,) = measured.data["per_exit"]
    assert set(final) == {"exit_index", "value", "unit", "macs", "source"}
    assert final | {"value": 0} == {
        "exit_index": 0, "value": 0, "unit": UNITS[target], "macs": macs, "source": "measured"
    }  # fmt: skip
    assert final["value"] > 0
    assert measured.data["expected"]["value"] == measured.data["worst"]["value"] == final["value"]
    assert sum(layer["macs"] for layer in measured.data["layers"]) == macs
    assert set(measured.data["ram"]) == {"arena", "static", "stack", "weights"}
    assert set(measured.data["flash"]) == {"code", "weights"}
    weights = 4 * (8 * 9 + 2 * 8 * 72 + 24)
    padded = 3 * weights  # 8 channels fill half of a register tile
    assert weights <= measured.data["flash"]["weights"] <= padded


def test_onnxruntime_as_a_peer(offramp: Command, model: Path, tmp_path: Path) -> None:
    assert offramp("compile", model, "--no-exits", "-o", tmp_path / "out").code == 0
    measured = offramp("bench", tmp_path / "out", "--against", "onnxruntime", "--json")
    assert measured.data["against"]["name"] == "onnxruntime"
    assert measured.data["against"]["value"] > 0
    refused = offramp("bench", tmp_path / "out", "--against", "tflite", "--json")
    assert refused.code == 2
    assert "expected one of onnxruntime" in refused.message


def test_inspect_shows_program_costs_and_reason(
    offramp: Command, model: Path, tmp_path: Path
) -> None:
    assert offramp("compile", model, "--no-exits", "-o", tmp_path / "out").code == 0
    shown = offramp("inspect", tmp_path / "out")
    for expected in ("Conv", "Gemm", "entry", "no exits were asked for", "23,064"):
        assert expected in shown.stdout
    data = offramp("inspect", tmp_path / "out", "--json").data
    assert COMPILE_KEYS.issubset(data)
    assert data["blocks"][0]["parameters"] == 8 * 9 + 2 * 8 * 72 + 24
    assert data["provenance"]["seed"] == "0"
    assert "Conv" in data["program"]


def test_tables_for_people(
    offramp: Command, model: Path, samples: dict[str, Array], npz: Npz, tmp_path: Path
) -> None:
    compiled = offramp("compile", model, "--no-exits", "--timing", "-o", tmp_path / "out")
    assert "23.06 k MACs expected of 23.06 k (0.0 % saved)" in compiled.stdout
    assert "Nothing was certified: no exits were asked for." in compiled.stdout
    assert "lowering" in compiled.message  # timing goes to standard error
    ran = offramp("run", tmp_path / "out", "--input", npz(x=samples["x"]))
    assert "100.0 %" in ran.stdout
    measured = offramp("bench", tmp_path / "out", "--layers")
    assert "RAM: arena" in measured.stdout
    assert "conv_0" in measured.stdout


def test_a_board_that_holds_the_network(offramp: Command, model: Path, tmp_path: Path) -> None:
    compiled = offramp(
        "compile", model, "--board", "nucleo-f446re", "--no-exits", "--json", "-o", tmp_path / "out"
    )
    assert compiled.code == 0, compiled.message
    assert compiled.data["target"] == "cortex-m4"
    memory = compiled.data["memory"]
    (bank,) = memory["banks"]
    assert (bank["memory"], bank["arena"]) == ("sram1+sram2", memory["peak"])
    assert 0 < memory["access"]["lower_bound"] == memory["access"]["cycles"]


def test_what_lies_where_is_shown(offramp: Command, model: Path, tmp_path: Path) -> None:
    options = ("--board", "nucleo-f746zg", "--optimize", "speed", "--no-exits")
    shown = offramp("compile", model, *options, "-o", tmp_path / "out").stdout
    assert "copied weights" in shown
    assert "dtcm" in shown
    assert "no other choice of memories takes fewer" in " ".join(shown.split())
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Memories of the board" in report


def test_bands_and_integer_inputs(
    offramp: Command, model: Path, samples: dict[str, Array], npz: Npz, tmp_path: Path
) -> None:
    """The same answers from less memory; what the integers stand for is in the manifest."""
    data = ("--calibration", npz(x=samples["x"][:60]), "--quantize", "int8", "--no-exits")
    options = ("--target", "cortex-m7", "--integer-inputs", *data, "--json")
    whole = offramp("compile", model, *options, "-o", tmp_path / "whole")
    banded = offramp("compile", model, *options, "--patches", "100", "-o", tmp_path / "banded")
    assert banded.code == 0, banded.message
    assert whole.data["patches"] is None
    patches = banded.data["patches"]
    assert patches["arena"] == banded.data["memory"]["peak"] < whole.data["memory"]["peak"]
    assert patches["arena_before"] == whole.data["memory"]["peak"]
    assert 0 <= patches["macs"] <= 1
    (spec,) = offramp("inspect", tmp_path / "banded", "--json").data["inputs"]
    assert spec["dtype"] == "int8"
    zero, scale = re.findall(r"\(q - (\S+)\) \* (\S+)", spec["meaning"])[0]
    integers = np.clip(np.rint(samples["x"][:5] / float(scale)) + float(zero), -128, 127)
    answers: list[Array] = []
    for name in ("whole", "banded"):
        out = tmp_path / f"{name}.npz"
        x = npz(x=integers.astype(np.int8))
        assert offramp("run", tmp_path / name, "--input", x, "--output", out).code == 0
        with np.load(out) as written:
            answers.append(written["scores"])
    refused = offramp("run", tmp_path / "banded", "--input", npz(x=samples["x"][:2]))
    assert refused.code == 2
    assert f"quantise the array first: integers q stand for (q - {zero}) * {scale}" in (
        " ".join(refused.message.split())
    )
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - reference(model, samples["x"][:5])).max() < 0.2


def test_bands_that_do_not_help_are_said(offramp: Command, model: Path, tmp_path: Path) -> None:
    """Of real numbers the first layer's result is as large as the image; nothing is recomputed."""
    options = ("--target", "cortex-m7", "--no-exits", "--patches", "0.001")
    shown = offramp("compile", model, *options, "-o", tmp_path / "out").stdout
    assert "No bands of rows within the budget" in shown


def test_the_help_lists_the_boards(offramp: Command) -> None:
    listed = offramp("compile", "--help").stdout
    assert all(name in listed for name in boards.names())


def test_print_after_shows_the_program(offramp: Command, model: Path, tmp_path: Path) -> None:
    from offramp.passes.simplify import simplification

    name = simplification()[0].name
    outcome = offramp("compile", model, "--no-exits", "--print-after", name, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.message
    assert f"after {name}" in outcome.message
    assert "Conv" in outcome.message
    assert "Conv" not in outcome.stdout


def test_the_compile_script_is_the_subcommand(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    from offramp.cli import compile_main

    words = ["compile", str(model), "--no-exits", "--json", "-o", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        compile_main()
    assert not ended.value.code
    assert json.loads(capfd.readouterr().out)["target"] == "x86-64"


def digit_network(path: Path, x: Array, y: Array) -> Path:
    """A multilayer perceptron trained on digits, as an ONNX file with a free batch."""
    network: Any = MLPClassifier((16, 256, 256), max_iter=200, random_state=0).fit(x, y)
    lines, value = [], "image"
    initializers = []
    for i, (w, b) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        initializers += [
            onnx.numpy_helper.from_array(w.astype(np.float32), f"w{i}"),
            onnx.numpy_helper.from_array(b.astype(np.float32), f"b{i}"),
        ]
        last = i == len(network.coefs_) - 1
        result = "logits" if last else f"h{i}"
        lines.append(f"{result} = Gemm({value}, w{i}, b{i})")
        value = result if last else f"r{i}"
        lines += [] if last else [f"{value} = Relu({result})"]
    text = '<ir_version: 10, opset_import: ["": 20]>\n'
    text += "digits (float[N,64] image) => (float[N,10] logits) {" + "\n".join(lines) + "}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(initializers)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A trained digit network, calibration samples for it, and samples it has never seen."""
    folder = tmp_path_factory.mktemp("digits")
    bundled: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(bundled.target))
    x, y = (bundled.data[order] / 16).astype(np.float32), bundled.target[order]
    np.savez(folder / "calibration.npz", x=x[500:1400], y=y[500:1400])
    return {
        "model": digit_network(folder / "digits.onnx", x[:500], y[:500]),
        "calibration": folder / "calibration.npz",
        "unseen": (x[1400:], y[1400:]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_with_certified_exits(
    offramp: Command, digits: dict[str, Any], npz: Npz, tmp_path: Path, target: str
) -> None:
    out = tmp_path / "out"
    options = ("--calibration", digits["calibration"], "--accuracy-drop", 2, "--target", target)
    compiled = offramp("compile", digits["model"], *options, "--json", "-o", out)
    assert compiled.code == 0, compiled.message
    answer = compiled.data
    assert set(answer) == COMPILE_KEYS
    certificate = answer["certificate"]
    assert set(certificate) == {"risk", "budget", "confidence", "bound", "samples"}
    assert certificate["budget"] == 2
    assert certificate["bound"] <= 2
    assert answer["expected_cost"]["macs"] < answer["static_cost"]["macs"]
    final = answer["exits"][-1]  # cutting the network off early is a policy too: the only entry
    assert final["criterion"] is None
    assert sum(entry["rate"] for entry in answer["exits"]) == pytest.approx(1.0)
    expected = sum(entry["rate"] * entry["macs"] for entry in answer["exits"])
    assert expected == pytest.approx(answer["expected_cost"]["macs"], rel=1e-3)

    x, y = digits["unseen"]
    x, y = (x, y) if target == "x86-64" else (x[:40], y[:40])
    ran = offramp("run", out, "--input", npz(x=x), "--output", tmp_path / "y.npz", "--json")
    assert ran.code == 0, ran.message
    assert len(ran.data["exit_rates"]) == len(answer["exits"])
    with np.load(tmp_path / "y.npz") as written:
        index, logits = written["exit_index"], written["logits"]
    judged = Oracle(api.load(out).program()).run({"image": x})
    np.testing.assert_array_equal(index, judged.exit_index)
    np.testing.assert_allclose(logits, judged.outputs["logits"], rtol=1e-3, atol=1e-3)
    full = np.mean(reference(digits["model"], x).argmax(1) == y)
    assert np.mean(logits.argmax(1) == y) > full - 0.08

    measured = offramp("bench", out, "--json").data["per_exit"]
    assert [entry["exit_index"] for entry in measured] == list(range(len(answer["exits"])))
    values = [entry["value"] for entry in measured]
    assert values == sorted(values)
    assert [entry["macs"] for entry in measured] == [entry["macs"] for entry in answer["exits"]]

    shown = offramp("inspect", out, "--json").data
    assert any(candidate["chosen"] for candidate in shown["candidates"])
    assert all(candidate["why"] for candidate in shown["candidates"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_artifact(
    offramp: Command, digits: dict[str, Any], tmp_path: Path
) -> None:
    options = ("--calibration", digits["calibration"], "--accuracy-drop", 2, "--seed", 7)
    for name in ("one", "two"):
        assert offramp("compile", digits["model"], *options, "-o", tmp_path / name).code == 0
    for file in ("program.onnx", "report.html"):
        one, two = (tmp_path / name / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
