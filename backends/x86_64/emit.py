"""From a planned Program to `libNAME.so`, `NAME.h`, `NAME.py` and `interface.json`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from offramp.backends import tools
from offramp.backends.base import LoweredProgram
from offramp.backends.driver.constants import write_blob
from offramp.backends.driver.interface import describe
from offramp.backends.driver.memories import static_arrays
from offramp.backends.driver.render import render_driver
from offramp.backends.x86_64 import loader
from offramp.compiler import targets
from offramp.passes.memory.validate import check_memory

C_FLAGS = ("-std=c99", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror")


def emit(lowered: LoweredProgram, folder: Path) -> None:
    """Compile and link everything into `folder`; sources and objects stay in a scratch folder.

    Raises:
        InternalError: the memory plan is missing or wrong.
        ToolError: gcc is missing or failed.
    """
    plan = lowered.plan
    check_memory(plan)
    tools.require("gcc")
    interface = describe(plan, targets.get(plan.target).alignment)
    with tempfile.TemporaryDirectory(prefix="offramp-") as scratch:
        build = Path(scratch)
        write_sources(lowered, build)
        link(plan.name, build, folder / f"lib{plan.name}.so")
        shutil.copy(build / f"{plan.name}.h", folder)
    shutil.copy(loader.__file__, folder / f"{plan.name}.py")
    interface.write(folder)


def write_sources(lowered: LoweredProgram, build: Path) -> None:
    """Write the driver, its header, the weights and the kernels' object into `build`."""
    plan, alignment = lowered.plan, targets.get(lowered.plan.target).alignment
    interface, constants = describe(plan, alignment), write_blob(plan, build, alignment)
    arrays = static_arrays(plan, interface, constants)
    prototypes = lowered.kernels.prototypes()
    driver = render_driver(plan, interface, constants, arrays, prototypes, batch=True)
    (build / f"{plan.name}.h").write_text(driver.header)
    (build / "driver.c").write_text(driver.source)
    lowered.kernels.to_object(build / "kernels.o")


def link(
    name: str, build: Path, library: Path, *options: str, exports: tuple[str, ...] = ()
) -> None:
    """Compile the driver and link the shared library; it exports the C API and `exports` only."""
    tools.run(["gcc", *C_FLAGS, "-c", "driver.c", "-o", "driver.o"], folder=build)
    tools.run(["gcc", "-c", "weights.S", "-o", "weights.o"], folder=build)
    objects = ["driver.o", "kernels.o", "weights.o"]
    interface = [f"{name}_{f}" for f in ("init", "input", "run", "output", "run_batch")]
    public = "".join(f"{symbol};" for symbol in (*interface, *exports))
    (build / "exports.map").write_text(f"{{ global: {public} local: *; }};\n")
    hardening = ["-Wl,--version-script=exports.map", "-Wl,-Bsymbolic", "-Wl,-z,noexecstack"]
    command = [
        "gcc",
        "-shared",
        *options,
        *objects,
        *hardening,
        "-Wl,--no-undefined",
        "-lm",
        "-o",
        str(library),
    ]
    tools.run(command, folder=build)
