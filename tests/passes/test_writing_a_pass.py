"""The page on writing a pass, tried by following it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "writing-a-pass.md"


def test_every_code_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)  # noqa: S102 - the page is our own

    assert len(blocks) == 5
    printed = capsys.readouterr().out
    assert "# after expand-hard-swish" in printed
    assert "fold-constants: " in printed
