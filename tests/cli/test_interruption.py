"""`python -m offramp` ends with 130 after an interruption, wherever that struck."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INTERRUPTED_IN_EXEC = """
import runpy, sys
import offramp.cli

def main():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        sys.exit(130)

offramp.cli.main = main
sys.argv = ["offramp"]
runpy.run_module("offramp", run_name="__main__")
"""


def test_an_interruption_within_exec_ends_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_IN_EXEC)
    ended = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False)
    assert ended.returncode == 130
