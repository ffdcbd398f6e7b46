"""`offramp plan memory`: the contract of its JSON, its tables, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, Outcome
from tests.cli.test_bad_input import USER, check_refusal

ROWS = "id,lower,upper,size\nimage,0,2,3072\nfeatures,1,3,8192\nscores,2,4,40\n"
KEYS = ["offsets", "peak", "lower_bound", "proof", "clique", "status", "seconds"]
GAP = """\
id,lower,upper,size
a,3,7,2
b,1,5,3
c,2,3,3
d,5,7,2
e,4,8,1
f,7,8,1
g,9,11,3
h,7,11,3
i,6,9,1
j,8,9,2
"""


@pytest.fixture
def buffers(tmp_path: Path) -> Path:
    path = tmp_path / "buffers.csv"
    path.write_text(ROWS)
    return path


def test_the_answer_as_json(offramp: Command, buffers: Path) -> None:
    outcome = offramp("plan", "memory", buffers, "--json")
    assert outcome.code == 0, outcome.message
    assert list(outcome.data) == KEYS
    assert outcome.data["offsets"].keys() == {"image", "features", "scores"}
    assert outcome.data["peak"] == outcome.data["lower_bound"] == 3072 + 8192
    assert outcome.data["status"] == "optimal"
    assert outcome.data["proof"] == "clique"
    assert outcome.data["clique"]["size"] == outcome.data["peak"]
    assert 0 <= outcome.data["seconds"] < 5


def test_the_answer_for_people(offramp: Command, buffers: Path) -> None:
    outcome = offramp("plan", "memory", buffers, "--capacity", 20000)
    assert outcome.code == 0, outcome.message
    for expected in ("11,264", "optimal", "0.00 %", "features", "8,192"):
        assert expected in outcome.stdout
    assert "placing 3 buffers" in outcome.message


def test_nothing_to_place(offramp: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,lower,upper,size\na,0,1,0\n")
    data = offramp("plan", "memory", tmp_path / "empty.csv", "--capacity", 1, "--json").data
    assert (data["peak"], data["lower_bound"], data["status"]) == (0, 0, "optimal")
    assert (data["proof"], data["clique"]) == (None, None)


def refused(offramp: Command, *words: object) -> Outcome:
    """Without `--json` nothing is on standard output; with it there are all keys."""
    check_refusal(offramp("plan", "memory", *words), USER)
    outcome = offramp("plan", "memory", *words, "--json")
    assert outcome.code == USER
    assert list(outcome.data) == KEYS
    assert (outcome.data["status"], outcome.data["peak"]) == ("infeasible", None)
    assert outcome.data["offsets"] == {}
    return outcome


def test_a_capacity_below_the_live_bytes_names_the_clique(offramp: Command, buffers: Path) -> None:
    outcome = refused(offramp, buffers, "--capacity", 11263)
    assert "11,263 bytes are not enough" in outcome.message
    assert "from 1 to 2, 11,264 bytes are in use at a time" in outcome.message
    assert "2 buffers: image, features" in outcome.message
    assert "--capacity 11264" in outcome.message
    assert (outcome.data["proof"], outcome.data["lower_bound"]) == ("clique", 11264)
    assert outcome.data["clique"] == {
        "ids": ["image", "features"], "lower": 1, "upper": 2, "size": 11264
    }  # fmt: skip


def test_a_capacity_that_only_a_search_can_refuse(offramp: Command, tmp_path: Path) -> None:
    (tmp_path / "gap.csv").write_text(GAP)
    outcome = refused(offramp, tmp_path / "gap.csv", "--capacity", 6)
    assert "an exhaustive search found that no placement fits" in outcome.message
    assert "--capacity 7" in outcome.message
    assert (outcome.data["proof"], outcome.data["clique"]) == ("search", None)
    assert outcome.data["lower_bound"] == 7


@pytest.mark.shared
def test_an_undecided_search_says_so(offramp: Command, shared: Path) -> None:
    path = shared / "data" / "memory" / "D.1048576.csv"
    words = ("plan", "memory", path, "--capacity", 990000, "--timeout", 0.5)
    outcome = offramp(*words, "--json")
    assert outcome.code == 0, outcome.message
    assert list(outcome.data) == KEYS
    assert (outcome.data["status"], outcome.data["peak"]) == ("unknown", None)
    assert (outcome.data["offsets"], outcome.data["lower_bound"]) == ({}, 986112)
    assert outcome.data["clique"]["size"] == 986112
    shown = offramp(*words).stdout
    assert "Undecided after 0.5 s" in shown
    assert "unknown" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--capacity", 0), "--capacity is 0; expected 1 to 2**63 - 1 bytes"),
        (("--capacity", -5), "--capacity is -5"),
        (("--capacity", 2**63), "--capacity is 9223372036854775808"),
        (("--seed", -1), "--seed is -1; expected 0 or more"),
        (("--timeout", 0), "--timeout is 0.0; expected a number of seconds above 0"),
        (("--timeout", "nan"), "--timeout is nan"),
    ],
)
def test_options_that_make_no_sense(
    offramp: Command, buffers: Path, options: tuple[object, ...], message: str
) -> None:
    outcome = offramp("plan", "memory", buffers, *options, "--json")
    check_refusal(outcome, USER)
    assert message in outcome.message


def test_a_file_that_makes_no_sense(offramp: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("id,lower,upper,size\na,0,1,-4\n")
    for name, message in (("bad.csv", "has size -4"), ("nothing.csv", "no such file")):
        outcome = offramp("plan", "memory", tmp_path / name, "--json")
        check_refusal(outcome, USER)
        assert message in outcome.message
