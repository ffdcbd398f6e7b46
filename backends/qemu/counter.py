"""Exact instruction counts of firmware in QEMU, by run, mnemonic and function."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from offramp.backends import tools
from offramp.compiler.errors import ToolError


@dataclass(frozen=True)
class Counts:
    """Instructions executed between entry and return of the measured function.

    runs: one count per call, in order. mnemonics, functions: totals over all runs.
    """

    runs: tuple[int, ...]
    mnemonics: dict[str, int]
    functions: dict[str, int]


@dataclass(frozen=True)
class Symbol:
    """A function of the firmware."""

    address: int
    name: str


def symbols(elf: Path, nm: str) -> tuple[Symbol, ...]:
    """The code symbols of an ELF file by address, read by the target's `nm`.

    Raises:
        ToolError: nm is missing or failed.
    """
    found = re.findall(r"^([0-9a-f]+) [tTwW] ([^$].*)$", tools.run([nm, elf]), re.MULTILINE)
    return tuple(sorted((Symbol(int(a, 16), n) for a, n in found), key=lambda s: s.address))


def build_plugin(folder: Path, qemu: str) -> Path:
    """Build the counting plugin for the QEMU program `qemu` with the host's gcc.

    Raises:
        ToolError: gcc or QEMU is missing, or compilation failed.
    """
    source, library = folder / "count.c", folder / "count.so"
    source.write_text(resources.files("offramp.backends.qemu").joinpath("count.c").read_text())
    version = re.search(r"version (\d+)", tools.run([qemu, "--version"]))
    interface = 1 if version is None or int(version.group(1)) < 9 else 2
    define = f"-DQEMU_PLUGIN_VERSION={interface}"
    tools.run(["gcc", "-O2", "-shared", "-fPIC", define, source, "-o", library])
    return library


def plugin_option(
    plugin: Path, elf_symbols: tuple[Symbol, ...], out: Path, *, entry: str, leave: str
) -> list[str]:
    """QEMU's command-line options to count from symbol `entry` to symbol `leave`.

    Raises:
        ToolError: the firmware lacks one of them.
    """
    address = {symbol.name: symbol.address for symbol in elf_symbols}
    missing = [name for name in (entry, leave) if name not in address]
    if missing:
        raise ToolError(f"the firmware has no symbol {', '.join(missing)}: was it stripped?")
    return [
        "-plugin",
        f"{plugin},entry={address[entry]:#x},leave={address[leave]:#x},out={out}",
    ]


def read_counts(path: Path, elf_symbols: tuple[Symbol, ...]) -> Counts:
    """What the plugin wrote to `path`.

    Raises:
        ToolError: the plugin wrote nothing, so QEMU did not load it.
    """
    if not path.is_file():
        raise ToolError(f"QEMU's counting plugin wrote no {path}: was QEMU built with plugins?")
    runs: list[int] = []
    mnemonics, functions = Counter[str](), Counter[str]()
    starts = [symbol.address for symbol in elf_symbols]
    for line in path.read_text().splitlines():
        kind, *words = line.split()
        if kind == "run":
            runs.append(int(words[0]))
            continue
        executions = int(words[1])
        mnemonics[words[2]] += executions
        position = bisect_right(starts, int(words[0], 16)) - 1
        functions[elf_symbols[position].name if position >= 0 else "?"] += executions
    return Counts(tuple(runs), dict(mnemonics.most_common()), dict(functions.most_common()))
