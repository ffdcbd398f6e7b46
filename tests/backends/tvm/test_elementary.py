"""Vector arithmetic against double precision, over the whole range and in every lane count."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special
from tvm import tirx

from offramp.backends.tvm.bare import Bare
from offramp.backends.tvm.library import KernelLibrary
from offramp.backends.tvm.tir import FunctionBuilder
from offramp.compiler import targets

SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-30, 88.7, 89.0, -87.0, -104.0, 200.0, -200.0]
COUNT = 4096

Function = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
FUNCTIONS: dict[str, tuple[Any, Function]] = {
    "exp": (tirx.exp, np.exp),
    "tanh": (tirx.tanh, np.tanh),
    "sigmoid": (tirx.sigmoid, scipy.special.expit),
    "erf": (tirx.erf, scipy.special.erf),
}


def samples() -> npt.NDArray[np.float32]:
    wide = np.linspace(-95.0, 95.0, COUNT // 2)
    narrow = np.random.default_rng(0).normal(size=COUNT - len(wide) - len(SPECIAL))
    return np.concatenate([wide, narrow, SPECIAL]).astype(np.float32)


def kernel(function: Any, lanes: int) -> Bare:
    code = FunctionBuilder()
    source, result = code.pointer("source", COUNT), code.pointer("result", COUNT)
    with code.loop("i", COUNT // lanes) as i:
        code.store(result, i * lanes, function(source.load(i * lanes, lanes)), lanes)
    return Bare(code.build(), ("float32", "float32"))


@pytest.mark.parametrize("lanes", [1, 8])
def test_agrees_with_double_precision(tmp_path: Path, lanes: int) -> None:
    kernels = {name: kernel(function, lanes) for name, (function, _) in FUNCTIONS.items()}
    KernelLibrary(kernels, targets.get("x86-64")).to_object(tmp_path / "kernels.o")
    command = ["gcc", "-shared", "-nostdlib", "-Wl,--no-undefined", "kernels.o", "-o", "kernels.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "kernels.so"))
    x = samples()
    for name, (_, reference) in FUNCTIONS.items():
        found = np.empty_like(x)
        library[name](ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(found.ctypes.data))
        with np.errstate(over="ignore"):
            expected = reference(x.astype(np.float64)).astype(np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37, err_msg=name)
