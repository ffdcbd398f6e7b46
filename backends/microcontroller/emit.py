"""From a planned Program to C sources that drop into any project for a microcontroller."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from offramp.backends.base import LoweredProgram
from offramp.backends.driver.constants import write_arrays
from offramp.backends.driver.interface import Interface, describe
from offramp.backends.driver.memories import StaticArrays, static_arrays
from offramp.backends.driver.render import environment, render_driver
from offramp.backends.microcontroller.toolchain import Toolchain
from offramp.compiler import targets
from offramp.compiler.errors import UserError
from offramp.compiler.targets import Target
from offramp.passes.memory.validate import check_memory

PACKAGE = "offramp.backends.microcontroller"
_TEMPLATES = {
    "Makefile.j2": "Makefile",
    "README.md.j2": "README.md",
    "board/main.c.j2": "board/main.c",
    "board/board.ld.j2": "board/board.ld",
}
_SEMIHOSTING = "board/semihosting.h"
_OF_PROCESSOR = ("board/startup.c", "board/processor.h")


def emit(lowered: LoweredProgram, toolchain: Toolchain, folder: Path) -> None:
    """Write everything into `folder`; no compiler is needed.

    Raises:
        InternalError: the memory plan is missing or wrong.
        UserError: arena or weights do not fit the board's memories.
    """
    plan, target = lowered.plan, targets.get(lowered.plan.target)
    check_memory(plan)
    interface = describe(plan, target.alignment)
    _check_fits(interface, target)
    constants = write_arrays(plan, folder / f"{plan.name}_weights.c", target.alignment)
    arrays = static_arrays(plan, interface, constants)
    prototypes = lowered.kernels.prototypes()
    driver = render_driver(plan, interface, constants, arrays, prototypes, batch=False)
    (folder / f"{plan.name}.h").write_text(driver.header)
    (folder / f"{plan.name}.c").write_text(driver.source)
    (folder / f"{plan.name}_kernels.c").write_text(lowered.kernels.to_c())
    _write_support(interface, arrays, target, toolchain, folder)
    interface.write(folder)


def _write_support(
    interface: Interface,
    arrays: StaticArrays,
    target: Target,
    toolchain: Toolchain,
    folder: Path,
) -> None:
    (folder / "board").mkdir()
    values: dict[str, Any] = {
        "name": interface.name,
        "NAME": interface.name.upper(),
        "inputs": interface.inputs,
        "outputs": interface.outputs,
        "exits": interface.exits,
        "arena": interface.arena,
        "weights": interface.weights,
        "parts": interface.parts,
        "arrays": (*arrays.arenas, *arrays.copied),
        "copied": arrays.copied,
        "board": target.board,
        "toolchain": toolchain,
        "memories": {memory.name: memory for memory in target.memories},
    }
    templates = environment(PACKAGE)
    for template, name in _TEMPLATES.items():
        (folder / name).write_text(templates.get_template(template).render(values))
    copied = {_SEMIHOSTING: PACKAGE} | dict.fromkeys(_OF_PROCESSOR, toolchain.package)
    for name, package in copied.items():
        source = resources.files(package).joinpath("templates").joinpath(name)
        (folder / name).write_text(source.read_text())


def _check_fits(interface: Interface, target: Target) -> None:
    needs = {"sram": ("arena", interface.arena), "code": ("weights", interface.weights)}
    for memory in target.memories:
        what, size = needs.get(memory.name, ("", 0))
        if size > memory.bytes:
            raise UserError(
                f"{interface.name} does not fit {target.name}: its {what} needs {size} bytes, "
                f"memory {memory.name!r} has {memory.bytes}; choose a smaller network or input"
            )
