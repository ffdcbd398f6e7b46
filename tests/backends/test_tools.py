"""Tools that are missing, fail or hang end in one clear message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from offramp.backends import tools
from offramp.compiler.errors import ToolError


def test_output_is_returned() -> None:
    assert tools.run([sys.executable, "-c", "print(2 + 2)"]) == "4\n"


def test_a_failure_quotes_what_the_tool_said() -> None:
    script = "import sys; print('no such chip', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ToolError, match=r"failed with exit code 3:\nno such chip"):
        tools.run([sys.executable, "-c", script])


def test_a_tool_that_hangs_is_stopped() -> None:
    with pytest.raises(ToolError, match=r"did not finish within 1 s and was stopped"):
        tools.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=1)


def test_a_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"install gcc-arm-none-eabi and libnewlib-arm-none-eabi"):
        tools.run(["arm-none-eabi-gcc", "--version"])
