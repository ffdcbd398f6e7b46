"""The Python interface, as a user's script would use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import offramp
from offramp.compiler.ir import Program
from offramp.observer import Observer
from offramp.passes.simplify import simplify
from tests.cli.conftest import classifier

ROOT = Path(__file__).resolve().parent.parent
X = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)


def answers(artifact: offramp.Artifact) -> Any:
    return artifact.run(X).outputs["scores"]


@pytest.fixture(scope="module")
def artifact() -> offramp.Artifact:
    return offramp.compile(classifier(), exits=False)


def test_without_an_output_folder_the_artifact_is_temporary(tmp_path: Path) -> None:
    artifact = offramp.compile(classifier(), exits=False)
    folder = artifact.folder
    expected = answers(artifact)
    saved = artifact.save(tmp_path / "kept")
    del artifact
    assert not folder.exists()
    np.testing.assert_array_equal(answers(saved), expected)
    np.testing.assert_array_equal(answers(offramp.load(tmp_path / "kept")), expected)
    with pytest.raises(offramp.UserError, match="exists already"):
        saved.save(tmp_path / "kept")


@pytest.mark.parametrize("kind", ["path", "bytes", "proto", "program"])
def test_every_way_to_hand_over_onnx(kind: str, tmp_path: Path, artifact: offramp.Artifact) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    model: Any = {
        "path": tmp_path / "net.onnx",
        "bytes": classifier().SerializeToString(),
        "proto": classifier(),
        "program": offramp.from_onnx(classifier()),
    }[kind]
    compiled = offramp.compile(model, exits=False)
    np.testing.assert_array_equal(answers(compiled), answers(artifact))


def test_a_torch_module() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    artifact = offramp.compile(network, example_inputs=(torch.from_numpy(X),), exits=False)
    (found,) = artifact.run(X).outputs.values()
    expected = network(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_something_else_is_refused() -> None:
    with pytest.raises(offramp.UserError, match="cannot compile a dict"):
        offramp.compile({}, exits=False)


def test_programs_are_piped_through_passes() -> None:
    program = offramp.from_onnx(classifier()) | simplify()
    assert isinstance(program, Program)
    assert isinstance(simplify(), offramp.passes.Pass)
    np.testing.assert_allclose(
        answers(offramp.compile(program, exits=False)),
        answers(offramp.compile(classifier(), exits=False)),
        rtol=1e-5,
    )


def test_stages_are_timed() -> None:
    observer = Observer()
    offramp.compile(classifier(), exits=False, observer=observer)
    assert {"reading the model", "simplifying", "choosing exits", "lowering"} <= set(
        observer.seconds
    )
    assert all(seconds >= 0 for seconds in observer.seconds.values())
    assert "  fold-constants" in observer.seconds


def test_exits_in_the_model_are_kept_as_they_are(artifact: offramp.Artifact) -> None:
    """What compile wrote compiles again, to the same answers."""
    again = offramp.compile(artifact.folder / "program.onnx", exits=False)
    np.testing.assert_array_equal(answers(again), answers(artifact))


def test_the_report_names_the_model_and_the_seed(artifact: offramp.Artifact) -> None:
    page = (artifact.folder / "report.html").read_text()
    assert "<title>small for x86-64</title>" in page
    assert "<td><code>0</code></td>" in page


def test_a_board_implies_its_target_and_is_in_the_manifest() -> None:
    compiled = offramp.compile(classifier(), board="nano-33-ble", exits=False)
    assert compiled.manifest.target == "cortex-m4"
    assert compiled.manifest.provenance["board"] == "nano-33-ble"
    assert "nano-33-ble" in (compiled.folder / "report.html").read_text()


@pytest.mark.arm
@pytest.mark.slow
def test_the_demo_runs_and_the_second_run_only_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "demo.py"), "--folder", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert first.returncode == 0, first.stderr
    for target in ("x86-64", "cortex-m7"):
        assert f"{target}: 397 unseen samples" in first.stdout
        manifest = offramp.load(tmp_path / target).manifest
        assert manifest.certificate is not None
        assert manifest.certificate.bound <= 3
        assert manifest.expected_cost.macs < 0.8 * manifest.static_cost.macs
    stamp = (tmp_path / "x86-64" / "manifest.json").stat().st_mtime_ns
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "x86-64" / "manifest.json").stat().st_mtime_ns == stamp
