"""Progress on standard error: a spinner on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.table import Table

from offramp.cli.session import errors_console, interruption
from offramp.observer import Observer

SECONDS_BETWEEN_LINES = 10.0


class ConsoleObserver(Observer):
    """Shows stages, notes and dumped programs on a console."""

    def __init__(self, console: Console, status: Status | None) -> None:
        super().__init__()
        self._console = console
        self._status = status
        self._stage = ""
        self._shown = time.monotonic()

    def started(self, name: str) -> None:
        """Show the new stage, unless the user has interrupted the one before."""
        interruption.check()
        self._stage = name
        if self._status is None:
            self._console.print(f"{name} ...", markup=False)
        else:
            self._status.update(f"{name} ...")

    def note(self, text: str) -> None:
        """Show how far the stage has come; where lines stay, one now and then is enough."""
        interruption.check()
        if self._status is not None:
            self._status.update(f"{self._stage}: {text}")
        elif time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self._console.print(f"  {text}", markup=False)

    def dump(self, text: str) -> None:
        """Print a program."""
        self._console.print(text, markup=False, soft_wrap=True)

    def print_timing(self) -> None:
        """Print how long every stage and pass took."""
        table = Table("stage", box=None, header_style="dim", pad_edge=False)
        table.add_column("seconds", justify="right")
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.3f}")
        self._console.print(table)


@contextmanager
def showing_progress() -> Generator[ConsoleObserver]:
    """An observer for one command."""
    console = errors_console()
    if not console.is_terminal:
        yield ConsoleObserver(console, None)
        return
    with console.status("") as status:
        yield ConsoleObserver(console, status)
