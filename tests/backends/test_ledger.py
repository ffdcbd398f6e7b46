"""The committed ledger is true: a sample of its cases has the outcome that it states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "docs" / "results" / "ledger.json"
SAMPLE = 40

FAILURES = {"wrong answer", "internal failure", "crash", "timeout"}


def committed() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(LEDGER.read_text())
    return rows


def sample() -> list[dict[str, str]]:
    """Evenly spread over each outcome, so that rare ones are there too."""
    rows = committed()
    outcomes = sorted({row["outcome"] for row in rows})
    chosen: list[dict[str, str]] = []
    for outcome in outcomes:
        group = [row for row in rows if row["outcome"] == outcome]
        count = min(len(group), max(2, round(SAMPLE * len(group) / len(rows))))
        chosen += [group[i * len(group) // count] for i in range(count)]
    return chosen


def run(names: list[str]) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "benchmarks/ledger.py", "--json", "--cases", *names]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout, found.stderr[-2000:]
    return {row["case"]: row for row in json.loads(found.stdout)}


@pytest.mark.slow
def test_sampled_cases_have_their_committed_outcome() -> None:
    expected = {row["case"]: row for row in sample()}
    found = run(list(expected))
    changed = [
        f"{name}: committed {row['outcome']}: {row.get('message', '')}, "
        f"found {found[name]['outcome']}: {found[name]['message']}"
        for name, row in expected.items()
        if (row["outcome"], row.get("message", ""))
        != (found[name]["outcome"], found[name]["message"])
    ]
    assert not changed, "run `python benchmarks/ledger.py` again:\n" + "\n".join(changed)


def test_most_of_onnx_compiles_and_nothing_crashes_or_hangs() -> None:
    outcomes = [row["outcome"] for row in committed()]
    assert len(outcomes) == 1404
    assert outcomes.count("pass") >= 0.7 * len(outcomes)
    assert not {"crash", "timeout", "internal failure"} & set(outcomes)


def test_refusals_say_why() -> None:
    for row in committed():
        if row["outcome"] in ("refused", *FAILURES):
            assert len(row["message"]) > 20, row
