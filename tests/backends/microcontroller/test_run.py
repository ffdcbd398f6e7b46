"""The firmware in QEMU: exact counts, a cross-check by timer, files for a project, failures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.backends import tools
from offramp.backends.microcontroller.backend import MicrocontrollerBackend
from offramp.backends.microcontroller.firmware import SECONDS
from offramp.backends.microcontroller.toolchain import Toolchain
from offramp.backends.qemu.counter import symbols
from offramp.backends.samples import forcing
from offramp.compiler import targets
from offramp.compiler.errors import ToolError, UserError

pytestmark = pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
    indirect=True,
    scope="session",
)


@pytest.fixture
def toolchain(backend: MicrocontrollerBackend) -> Toolchain:
    return backend.toolchain


def zoo_inputs(count: int) -> list[Any]:
    x = np.random.default_rng(0).integers(-8, 8, (count, 1, 4)).astype(np.float32)
    return [x, np.zeros((count, 1), np.int64)]


def test_counts_do_not_vary(zoo_runner: Any) -> None:
    firmware, thresholds = zoo_runner.firmware, forcing(zoo_runner.interface, 2)
    first, second = (firmware.run(zoo_inputs(3), thresholds).counts for _ in range(2))
    assert first == second
    assert len(first.runs) == 3


def test_histograms_account_for_every_instruction(zoo_runner: Any) -> None:
    counts = zoo_runner.firmware.run(zoo_inputs(5), forcing(zoo_runner.interface, 2)).counts
    assert sum(counts.mnemonics.values()) == sum(counts.runs)
    assert sum(counts.functions.values()) == sum(counts.runs)
    assert sum(counts.owners.values()) == sum(counts.runs)
    assert {"zoo_run", "zoo_head", "zoo_double"} <= set(counts.functions)
    assert {"add", "b", "bl", "ble", "j", "jal"} & set(counts.mnemonics)
    assert not any(re.fullmatch(r"[0-9a-f]{4}|[0-9a-f]{8}", name) for name in counts.mnemonics)


def test_counts_agree_with_the_processors_timer(zoo_runner: Any, target: str) -> None:
    """Reading the timer costs a few instructions."""
    session = zoo_runner.firmware.run(
        zoo_inputs(6), forcing(zoo_runner.interface, 2), "-icount", "shift=6"
    )
    board = targets.get(target).board
    assert board is not None
    by_timer = session.ticks / (board.clock * SECONDS)
    overhead = by_timer - np.array(session.counts.runs)
    assert (overhead >= 0).all()
    assert (overhead <= 12).all()


def test_counting_starts_at_entry_and_stops_at_return(
    zoo_runner: Any, toolchain: Toolchain
) -> None:
    """The driver's own share, known from its disassembly: every instruction of zoo_run counts."""
    firmware = zoo_runner.firmware
    names = [symbol.name for symbol in symbols(firmware.elf, toolchain.program("nm"))]
    assert {"zoo_run", "measured_run_returned"} <= set(names)
    counts = firmware.run(zoo_inputs(1), forcing(zoo_runner.interface, 0)).counts
    assert "measured_run" not in counts.functions
    assert "main" not in counts.functions


def test_code_data_and_weights_are_told_apart(zoo_runner: Any) -> None:
    sections = zoo_runner.firmware.sections()
    assert sections[".weights"] == (3 * 4 + 4 + 2) * 4
    assert sections[".bss"] >= zoo_runner.interface.arena
    bench = zoo_runner.bench({"x": np.ones((1, 4), np.float32), "count": np.zeros(1, int)})
    assert bench.ram.arena + bench.ram.static == sections[".bss"] + sections.get(".data", 0)
    assert sum(bench.kernels.values()) == pytest.approx(bench.per_exit[-1].value)


def test_the_sources_build_as_a_library_without_the_board(
    zoo_folder: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    tools.run(["make", "-C", zoo_folder, "lib", f"BUILD={tmp_path}"])
    undefined = re.findall(
        r"U (\w+)", tools.run([toolchain.program("nm"), "-u", tmp_path / "libzoo.a"])
    )
    outside = {name for name in undefined if not name.startswith(("zoo_", "__"))}
    assert outside <= {"memcpy", "memset"}


def test_the_readme_compiles(zoo_folder: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    text = (zoo_folder / "README.md").read_text()
    code = text.split("```c\n")[1].split("```")[0]
    (tmp_path / "user.c").write_text(code)
    command = [toolchain.program("gcc"), toolchain.library, "-std=c99", "-Wall", "-Wextra"]
    tools.run([*command, "-Werror", "-c", "user.c", f"-I{zoo_folder}"], folder=tmp_path)


def test_a_device_that_hangs_is_stopped(zoo_runner: Any, toolchain: Toolchain) -> None:
    thresholds = forcing(zoo_runner.interface, 0)
    with pytest.raises(ToolError, match=f"{toolchain.emulator} did not finish within 1 s"):
        zoo_runner.firmware.run(zoo_inputs(1), thresholds, "-S", timeout=1)


def test_a_fault_is_reported(zoo: Any, backend: MicrocontrollerBackend, tmp_path: Path) -> None:
    kernels = zoo.lowered.kernels
    broken = kernels.source.replace("*out = x[0] > 0;", "*(volatile int *)0xE8000000 = *out = 1;")
    lowered = type(zoo.lowered)(zoo.lowered.plan, type(kernels)(broken, kernels.declarations))
    backend.emit(lowered, tmp_path)
    runner = backend.load(tmp_path)
    with pytest.raises(ToolError, match="the processor faulted"):
        runner.run({"x": np.zeros((1, 4), np.float32), "count": np.zeros(1, int)})


def test_a_missing_emulator_says_what_to_install(
    zoo_folder: Path,
    backend: MicrocontrollerBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tool in ("make", "gcc", backend.toolchain.program("gcc")):
        (tmp_path / tool).symlink_to(tools.require(tool))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=f"install {backend.toolchain.packages[-1]}"):
        backend.load(zoo_folder)


def test_a_network_too_large_for_the_board_is_refused(
    zoo: Any, backend: MicrocontrollerBackend, tmp_path: Path
) -> None:
    plan = zoo.lowered.plan
    plan = replace(plan, memory=replace(plan.memory, peak=5_000_000))
    with pytest.raises(UserError, match="its arena needs 5000000 bytes, memory 'sram' has 4194304"):
        backend.emit(replace(zoo.lowered, plan=plan), tmp_path)
