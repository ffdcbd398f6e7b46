"""C literals have exactly the bits of the NumPy scalars they stand for."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.backends import tools
from offramp.backends.driver.constants import literal, write_arrays
from offramp.compiler.plan import Buffer, Storage

EDGES: dict[str, list[Any]] = {
    "float32": [0.0, -0.0, 1e-45, 3.4e38, np.inf, -np.inf, 0.1, -1 / 3, 16777217],
    "float64": [0.0, -0.0, 5e-324, 1.7e308, np.inf, -np.inf, 0.1, -1 / 3],
    "float16": [0.0, -0.0, 6e-8, 65504, np.inf, 0.1],
    "int8": [-128, 127],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1, 0],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
}


def compiled(arrays: dict[str, npt.NDArray[Any]], zoo: Any, folder: Path) -> ctypes.CDLL:
    buffers = {n: Buffer(n, a.shape, a.dtype.name, Storage.CONSTANT, a) for n, a in arrays.items()}
    constants = write_arrays(replace(zoo.lowered.plan, buffers=buffers), folder / "w.c", 4)
    assert list(constants.address.values()) == [f"zoo_w{i}" for i in range(len(arrays))]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    tools.run(["gcc", *flags, "w.c", "-o", "w.so"], folder=folder)
    return ctypes.CDLL(str(folder / "w.so"))


def test_arrays_come_back_bit_by_bit(zoo: Any, tmp_path: Path) -> None:
    arrays = {name: np.array(values, name) for name, values in EDGES.items()}
    library = compiled(arrays, zoo, tmp_path)
    for index, array in enumerate(arrays.values()):
        raw = (ctypes.c_char * array.nbytes).in_dll(library, f"zoo_w{index}")
        assert bytes(raw) == array.tobytes(), array.dtype


def test_not_a_number_stays_one(zoo: Any, tmp_path: Path) -> None:
    library = compiled({"n": np.array([np.nan], np.float32)}, zoo, tmp_path)
    assert np.isnan(ctypes.c_float.in_dll(library, "zoo_w0").value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_literals_read_back_exactly(value: float) -> None:
    text = literal(np.float32(value))
    assert text.endswith("f")
    assert np.float32(float.fromhex(text[:-1])).tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize("value", [-(2**63), -(2**31), 2**31, 2**63 - 1])
def test_wide_integers_carry_a_suffix(value: int) -> None:
    assert "LL" in literal(np.int64(value))
