"""Instances as CSV files: a header with id, lower, upper and size, and one buffer a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from offramp.compiler.errors import UserError
from offramp.passes.memory.search.instance import LARGEST, Buffer, Instance, repeated

COLUMNS = ("id", "lower", "upper", "size")
EXPECTED = f"a CSV file with the columns {','.join(COLUMNS)}"
MOST_SHOWN = 5
MOST_DIGITS = 40


def read_csv(path: Path) -> Instance:
    """Read an instance; lifetimes are half-open, sizes in bytes.

    Raises:
        UserError: the file cannot be read, is no such table, or a row makes no sense; names the
            line, the buffer and the value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {EXPECTED}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text; expected {EXPECTED}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected {EXPECTED}") from None
    try:
        buffers = tuple(_rows(path, text))
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}); expected {EXPECTED}") from None
    if again := repeated(buffer.id for buffer in buffers):
        shown = ", ".join(map(repr, again[:MOST_SHOWN]))
        raise UserError(f"{path}: ids must be unique; more than one buffer is called {shown}")
    return Instance(buffers)


def _rows(path: Path, text: str) -> Iterator[Buffer]:
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    if missing := [name for name in COLUMNS if name not in header]:
        found = f"the first line is {','.join(header)[:80]!r}" if header else "the file is empty"
        raise UserError(f"{path}: {found}: no column {', '.join(missing)}; expected {EXPECTED}")
    if unknown := [name for name in header if name not in (*COLUMNS, "offset")]:
        raise UserError(
            f"{path}: column {unknown[0]!r} has no meaning here; expected {','.join(COLUMNS)}"
        )
    if again := repeated(header):
        raise UserError(f"{path}: column {again[0]!r} occurs twice; expected {','.join(COLUMNS)}")
    for row in reader:
        if not row:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(header):
            raise UserError(f"{where}: {len(row)} values, expected {len(header)} as in the header")
        yield _buffer(where, dict(zip(header, row, strict=True)))


def _buffer(where: str, values: dict[str, str]) -> Buffer:
    name = values["id"].strip()
    if not name:
        raise UserError(f"{where}: a buffer without id")
    lower, upper, size = (_integer(where, name, key, values[key]) for key in COLUMNS[1:])
    if size < 0:
        raise UserError(f"{where}: buffer {name!r} has size {size}; expected 0 bytes or more")
    if upper <= lower:
        raise UserError(
            f"{where}: buffer {name!r} has an empty lifetime, lower {lower} and upper {upper}; "
            "expected lower < upper"
        )
    return Buffer(name, lower, upper, size)


def _integer(where: str, name: str, key: str, text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
        raise UserError(f"{where}: {key} of buffer {name!r} is {text[:40]!r}; expected an integer")
    if len(text.strip()) > MOST_DIGITS or abs(int(text)) > LARGEST:
        raise UserError(
            f"{where}: {key} of buffer {name!r} is {text.strip()[:40]}; expected a number of "
            "magnitude 2**63 - 1 or less"
        )
    return int(text)
