"""The package as users get it: quick to import, complete as a wheel, pinned to tested versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import onnx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import offramp

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("compiler", "passes", "backends", "cost_models", "autotune")
HEAVY = (
    "torch",
    "tvm",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "ortools",
    "scipy",
    "numpy",
    "matplotlib",
    "numba",
)

SMALL_MODEL = """
<ir_version: 10, opset_import: ["": 20]>
small (float[N,4] x) => (float[N,3] y) <float[4,3] w = {1,0,0, 0,1,0, 0,0,1, 1,1,1}>
{ h = MatMul(x, w) y = Relu(h) }
"""


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints for `code`."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | environment, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = "import time; t = time.process_time(); import offramp; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(3)) < 0.3
    loaded = python(f"import sys, offramp; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_help_is_quick_and_loads_no_compiler() -> None:
    code = (
        "import sys; sys.argv = ['offramp', 'compile', '--help']\n"
        "import offramp.cli\n"
        "try: offramp.cli.main()\n"
        "except SystemExit: print([m for m in ('torch', 'tvm', 'onnx') if m in sys.modules])"
    )
    assert python(code).endswith("[]")


@pytest.mark.parametrize("name", offramp.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(offramp, name) is not None
    assert name in dir(offramp)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = offramp.nothing


def test_the_constraints_pin_every_dependency_to_what_is_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in lines if line and line[0] != "#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
        installed = metadata.version(requirement.name).split("+")[0]
        assert installed == version, f"{requirement.name}: tested {installed}, pinned {version}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tracked folders, as `pip install .` would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*FOLDERS, "offramp"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, source], check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_ships_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    expected = {
        f"offramp/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - shipped == set()
    assert "offramp/py.typed" in shipped
    assert {name.split("/")[0] for name in shipped if ".dist-info" not in name} == {"offramp"}


@pytest.mark.slow
def test_the_installed_wheel_compiles_and_runs_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, timeout=300)
    onnx.save(onnx.parser.parse_model(SMALL_MODEL), tmp_path / "small.onnx")
    code = (
        "import offramp, numpy as np\n"
        f"assert offramp.__file__.startswith({str(target)!r}), offramp.__file__\n"
        f"a = offramp.compile({str(tmp_path / 'small.onnx')!r}, target='x86-64', exits=False)\n"
        "print(a.run(np.ones((2, 4), np.float32)).outputs['y'].tolist())"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(target)}, timeout=300, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]"
