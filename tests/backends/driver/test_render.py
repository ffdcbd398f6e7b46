"""The generated driver as C text: clean under strict compilers, exact, and safe from odd names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.backends import tools
from offramp.backends.driver.constants import write_arrays, write_blob
from offramp.backends.driver.interface import describe, read
from offramp.backends.driver.memories import static_arrays
from offramp.backends.driver.render import Driver, render_driver
from offramp.compiler.errors import InternalError, UnsupportedError
from offramp.compiler.plan import Buffer, Plan, Storage

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wshadow"]


def rendered(plan: Plan, prototypes: str, folder: Path, *, batch: bool = True) -> Driver:
    interface, constants = describe(plan, 4), write_arrays(plan, folder / "weights.c", 4)
    arrays = static_arrays(plan, interface, constants)
    return render_driver(plan, interface, constants, arrays, prototypes, batch=batch)


def written(zoo: Any, folder: Path) -> Path:
    driver = rendered(zoo.lowered.plan, zoo.lowered.kernels.prototypes(), folder)
    (folder / "zoo.h").write_text(driver.header)
    (folder / "zoo.c").write_text(driver.source)
    return folder


def test_driver_and_weights_compile_clean_on_the_host(zoo: Any, tmp_path: Path) -> None:
    written(zoo, tmp_path)
    for source in ("zoo.c", "weights.c"):
        tools.run(["gcc", *STRICT, "-O2", "-c", source, "-o", "out.o"], folder=tmp_path)


@pytest.mark.arm
def test_driver_and_weights_compile_clean_for_arm(zoo: Any, tmp_path: Path) -> None:
    written(zoo, tmp_path)
    for source in ("zoo.c", "weights.c"):
        flags = ["-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"]
        tools.run(["arm-none-eabi-gcc", *STRICT, *flags, "-c", source, "-o", "o"], folder=tmp_path)


def test_the_header_is_also_cxx(zoo: Any, tmp_path: Path) -> None:
    written(zoo, tmp_path)
    command = ["gcc", "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    tools.run([*command, "zoo.h"], folder=tmp_path)


def test_only_memory_functions_and_libm_are_called(zoo: Any, tmp_path: Path) -> None:
    written(zoo, tmp_path)
    tools.run(["gcc", "-std=c99", "-O2", "-c", "zoo.c", "-o", "zoo.o"], folder=tmp_path)
    undefined = tools.run(["nm", "-u", "zoo.o"], folder=tmp_path).split()
    called = {name for name in undefined if name != "U" and not name.startswith("zoo_")}
    assert called <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_a_join_that_shares_its_argument_copies_nothing(zoo: Any, tmp_path: Path) -> None:
    """All arms hand over in place, so that no copy of a vector is left in the driver."""
    source = written(zoo, tmp_path).joinpath("zoo.c").read_text()
    offsets = zoo.lowered.plan.memory.offsets
    assert offsets["route.h"] == offsets["h"]
    blocks = source.split("static block_function *const blocks")[0]
    assert "memcpy(arena" not in blocks


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int64"])
def test_a_score_of_a_type_the_api_has_not_is_refused(zoo: Any, dtype: str, tmp_path: Path) -> None:
    plan: Plan = zoo.lowered.plan
    buffers = plan.buffers | {"s0": replace(plan.buffers["s0"], dtype=dtype)}
    with pytest.raises(UnsupportedError, match=rf"element type {dtype}: expected float32 or"):
        rendered(replace(plan, buffers=buffers), "", tmp_path)


def test_a_name_that_is_no_c_identifier_is_our_bug(zoo: Any) -> None:
    with pytest.raises(InternalError, match="C identifier, found 'resnet-8'"):
        describe(replace(zoo.lowered.plan, name="resnet-8"), 4)


def test_the_interface_survives_its_file(zoo: Any, tmp_path: Path) -> None:
    interface = describe(zoo.lowered.plan, 64)
    interface.write(tmp_path)
    assert read(tmp_path) == interface


def constant(name: str, data: Any) -> Buffer:
    array = np.asarray(data)
    return Buffer(name, array.shape, array.dtype.name, Storage.CONSTANT, array)


def test_equal_constants_are_stored_once(zoo: Any, tmp_path: Path) -> None:
    buffers = {
        n: constant(n, np.full(16, v, np.float32)) for n, v in zip("abc", (1, 1, 2), strict=True)
    }
    plan = replace(zoo.lowered.plan, buffers=buffers)
    for constants in (write_arrays(plan, tmp_path / "w.c", 4), write_blob(plan, tmp_path, 64)):
        assert constants.address["a"] == constants.address["b"] != constants.address["c"]
    assert (tmp_path / "weights.bin").stat().st_size == 128


def test_bytes_of_the_same_value_but_another_type_stay_apart(zoo: Any, tmp_path: Path) -> None:
    buffers = {
        "i": constant("i", np.zeros(2, np.int32)),
        "f": constant("f", np.zeros(2, np.float32)),
    }
    constants = write_arrays(replace(zoo.lowered.plan, buffers=buffers), tmp_path / "w.c", 4)
    assert constants.address["i"] != constants.address["f"]
