"""The command line in this process, and small real models to give it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from offramp import cli

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed; `message` is standard error on one line."""

    code: int
    stdout: str
    message: str

    @property
    def data(self) -> dict[str, Any]:
        """Standard output, which must be JSON and nothing else."""
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer


Command = Callable[..., Outcome]


@pytest.fixture
def offramp(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `offramp ARGUMENTS...`."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["offramp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        code = ended.value.code
        return Outcome(
            code if isinstance(code, int) else 0, printed.out, " ".join(printed.err.split())
        )

    return run


def classifier(seed: int = 0) -> onnx.ModelProto:
    """A small convolutional network with 3 classes, 8x8 images and a free batch."""
    text = """
    <ir_version: 10, opset_import: ["": 20]>
    small (float[N,1,8,8] image) => (float[N,3] scores)
    {
        c1 = Conv<pads = [1, 1, 1, 1]>(image, w1)
        r1 = Relu(c1)
        c2 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(r1, w2)
        r2 = Relu(c2)
        c3 = Conv<pads = [1, 1, 1, 1]>(r2, w3)
        r3 = Relu(c3)
        p = GlobalAveragePool(r3)
        f = Flatten(p)
        scores = Gemm(f, w4)
    }
    """
    shapes = {"w1": (8, 1, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 3, 3), "w4": (8, 3)}
    return with_weights(text, shapes, seed)


def with_weights(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> onnx.ModelProto:
    """An ONNX model in text form with random weights of the given shapes."""
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(seed)
    for name, shape in shapes.items():
        weights = generator.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    return model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`classifier` as a file."""
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture(scope="session")
def samples() -> dict[str, Array]:
    """Random images with labels."""
    generator = np.random.default_rng(1)
    images = generator.normal(size=(60, 1, 8, 8)).astype(np.float32)
    return {"x": images, "y": generator.integers(0, 3, 60)}


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays to an npz file and return its path."""

    def write(name: str = "data.npz", **arrays: Any) -> Path:
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write
