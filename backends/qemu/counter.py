"""Exact instruction counts of firmware in QEMU, by run, mnemonic and function."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from offramp.backends import tools
from offramp.compiler.errors import ToolError


@dataclass(frozen=True)
class Counts:
    """Instructions executed between entry and return of the measured function.

    runs: one count per call, in order. The rest are totals over all runs: by mnemonic, by function,
    and by owner (a function of interest with what it calls).
    objects: bytes loaded and stored by array of interest, over all runs.
    """

    runs: tuple[int, ...]
    mnemonics: dict[str, int]
    functions: dict[str, int]
    owners: dict[str, int]
    objects: dict[str, int]


@dataclass(frozen=True)
class Symbol:
    """A label, function or array of the firmware; its size is 0 if it is a label."""

    address: int
    size: int
    name: str


CODE = "tTwW"
DATA = "bBdDrR"
"""Kinds of symbols, in `nm`'s letters."""


def symbols(elf: Path, nm: str, kinds: str = CODE) -> tuple[Symbol, ...]:
    """The symbols of an ELF file by address, read by the target's `nm`.

    Raises:
        ToolError: nm is missing or failed.
    """
    line = rf"^([0-9a-f]+) (?:([0-9a-f]+) )?[{kinds}] ([^$].*)$"
    found = re.findall(line, tools.run([nm, "-S", elf]), re.MULTILINE)
    listed = (Symbol(int(start, 16), int(size or "0", 16), name) for start, size, name in found)
    return tuple(sorted(listed, key=lambda symbol: symbol.address))


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


@dataclass(frozen=True)
class Counter:
    """The plugin set up for one firmware.

    entry, leave: symbols between which is counted. owners: functions whose cost is wanted with
    everything that they call. objects: arrays whose loads and stores are wanted, which takes a
    few times as long.
    """

    plugin: Path
    symbols: tuple[Symbol, ...]
    entry: str
    leave: str
    owners: tuple[str, ...]
    objects: tuple[Symbol, ...] = ()

    def options(self, out: Path) -> list[str]:
        """QEMU's command-line options to count into the file `out`.

        Raises:
            ToolError: the firmware lacks a symbol.
        """
        by_name = {symbol.name: symbol for symbol in self.symbols}
        missing = {self.entry, self.leave, *self.owners} - set(by_name)
        if missing:
            raise ToolError(f"the firmware has no symbol {', '.join(missing)}: was it stripped?")
        owners = out.with_suffix(".owners")
        _write_spans(owners, [by_name[owner] for owner in self.owners])
        entry, leave = by_name[self.entry].address, by_name[self.leave].address
        arguments = f"entry={entry:#x},leave={leave:#x},owners={owners},out={out}"
        if self.objects:
            objects = out.with_suffix(".objects")
            _write_spans(objects, self.objects)
            arguments += f",objects={objects}"
        return ["-plugin", f"{self.plugin},{arguments}"]

    def read(self, out: Path) -> Counts:
        """What the plugin wrote.

        Raises:
            ToolError: it wrote nothing, so QEMU did not load it.
        """
        if not out.is_file():
            raise ToolError(f"QEMU's counting plugin wrote no {out}: was QEMU built with plugins?")
        runs: list[int] = []
        owners: dict[str, int] = {}
        objects: dict[str, int] = {}
        mnemonics: Tally[str] = Tally()
        functions: Tally[str] = Tally()
        starts = [symbol.address for symbol in self.symbols]
        for line in out.read_text().splitlines():
            match line.split():
                case ["run", count]:
                    runs.append(int(count))
                case ["owner", index, count]:
                    owners[self.owners[int(index)]] = int(count)
                case ["object", index, count]:
                    objects[self.objects[int(index)].name] = int(count)
                case ["at", address, count, mnemonic]:
                    mnemonics[mnemonic] += int(count)
                    position = bisect_right(starts, int(address, 16)) - 1
                    functions[self.symbols[position].name] += int(count)
                case _:
                    raise ToolError(f"QEMU's counting plugin wrote a line of another kind: {line}")
        return Counts(
            runs=tuple(runs),
            mnemonics=dict(mnemonics.most_common()),
            functions=dict(functions.most_common()),
            owners=owners,
            objects=objects,
        )


def _write_spans(path: Path, spans: Iterable[Symbol]) -> None:
    path.write_text("".join(f"{s.address:x} {s.address + s.size:x}\n" for s in spans))
