"""Files that are read, and one clear message for each that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.compiler.errors import UserError
from offramp.passes.memory.search import Buffer
from offramp.passes.memory.search.read import read_csv

HEADER = "id,lower,upper,size\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "buffers.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_columns_come_in_any_order_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffsize, id,upper,lower\r\n8, a ,3,-1\r\n\r\n0,b,9,2\r\n")
    assert read_csv(path).buffers == (Buffer("a", -1, 3, 8), Buffer("b", 2, 9, 0))


def test_no_buffers_at_all(tmp_path: Path) -> None:
    assert read_csv(write(tmp_path, HEADER)).buffers == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty: no column id, lower, upper, size"),
        ("hello\nworld\n", "the first line is 'hello': no column id"),
        ("id,lower,size\na,0,1\n", "no column upper; expected a CSV file with the columns"),
        ("id,lower,upper,size,alignment\n", "column 'alignment' has no meaning here"),
        ("id,lower,upper,size,size\na,0,1,2,3\n", "column 'size' occurs twice"),
        (HEADER + "a,0,1\n", "line 2: 3 values, expected 4"),
        (HEADER + "a,0,1,2,3\n", "line 2: 5 values, expected 4"),
        (HEADER + ",0,1,2\n", "line 2: a buffer without id"),
        (HEADER + "a,0,1,-4\n", "line 2: buffer 'a' has size -4; expected 0 bytes or more"),
        (HEADER + "a,3,3,4\n", "buffer 'a' has an empty lifetime, lower 3 and upper 3"),
        (HEADER + "a,4,3,4\n", "expected lower < upper"),
        (HEADER + "a,0,1,4.5\n", "size of buffer 'a' is '4.5'; expected an integer"),
        (HEADER + "a,zero,1,4\n", "lower of buffer 'a' is 'zero'; expected an integer"),
        (HEADER + "a,0,1_0,4\n", "upper of buffer 'a' is '1_0'; expected an integer"),
        (HEADER + "a,0,1,9223372036854775808\n", "expected a number of magnitude 2**63 - 1"),
        (HEADER + f"a,0,1,{'9' * 5000}\n", "expected a number of magnitude 2**63 - 1"),
        (HEADER + "a,0,1,4\nb,0,1,4\na,2,3,4\n", "ids must be unique; more than one buffer is "),
        (HEADER + "a,0,1," + "x" * 200_000, "is not a CSV file (field larger than"),
        (b"\xff\xfe\x00\x01" * 9, "is not text; expected a CSV file"),
    ],
)
def test_one_message_each(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_csv(write(tmp_path, text))
    assert message in str(refused.value)
    assert "buffers.csv" in str(refused.value)
    assert len(str(refused.value)) < 400


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_csv(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_csv(tmp_path)
