"""The benchmark of classic networks finds and proves what it states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "docs" / "results" / "memory_models.json"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """A chain, a network of modules, and the one whose order matters."""
    names = ["zfnet512", "squeezenet", "shufflenet"]
    command = [sys.executable, "benchmarks/memory_models.py", "--json", "--models", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["model"]: row for row in json.loads(done.stdout)}


def test_every_arena_and_every_order_is_proven(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        proofs = (row["status"], row["order"], row["status_reordered"])
        assert proofs == ("optimal",) * 3
        assert row["arena_reordered"] == row["lowest"] <= row["arena"] <= row["greedy_by_size"]
        assert max(row["seconds"], row["seconds_reordered"]) < 2


def test_the_order_of_shufflenet_saves_memory(rows: dict[str, dict[str, Any]]) -> None:
    assert (rows["shufflenet"]["arena"], rows["shufflenet"]["lowest"]) == (3_110_912, 2_885_120)


def test_the_committed_bytes_are_those_that_are_found(rows: dict[str, dict[str, Any]]) -> None:
    committed = {row["model"]: row for row in json.loads(COMMITTED.read_text())}
    assert len(committed) == 9
    for name, row in rows.items():
        measured = {"seconds", "seconds_reordered"}
        assert {k: v for k, v in row.items() if k not in measured} == {
            k: v for k, v in committed[name].items() if k not in measured
        }
