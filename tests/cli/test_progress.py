"""Progress on standard error: overwritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from offramp.cli import progress
from offramp.cli.progress import ConsoleObserver
from offramp.cli.session import interruption


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def observer(printed: io.StringIO) -> ConsoleObserver:
    return ConsoleObserver(Console(file=printed, width=80), None)


def test_stages_are_one_line_each(observer: ConsoleObserver, printed: io.StringIO) -> None:
    with observer.stage("reading"):
        observer.note("half of it")
    with observer.stage("lowering"):
        pass
    assert printed.getvalue() == "reading ...\nlowering ...\n"
    assert list(observer.seconds) == ["reading", "lowering"]


def test_long_stages_tell_how_far_they_are(
    observer: ConsoleObserver, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with observer.stage("choosing exits"):
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        observer.note("training [64] heads, 40 %")
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e9)
        observer.note("41 %")
    assert printed.getvalue() == "choosing exits ...\n  training [64] heads, 40 %\n"


def test_a_stage_that_fails_is_timed_all_the_same(observer: ConsoleObserver) -> None:
    with pytest.raises(ZeroDivisionError), observer.stage("dividing"):
        _ = 1 / 0
    assert observer.seconds["dividing"] >= 0


def test_an_interruption_that_got_lost_is_noticed(
    observer: ConsoleObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interruption, "happened", True)
    with pytest.raises(KeyboardInterrupt):
        observer.note("60 %")
    with pytest.raises(KeyboardInterrupt):
        observer.started("lowering")


def test_timing_is_a_table(observer: ConsoleObserver, printed: io.StringIO) -> None:
    observer.seconds["  fold-constants"] = 0.25
    observer.print_timing()
    assert "fold-constants" in printed.getvalue()
    assert "0.250" in printed.getvalue()
