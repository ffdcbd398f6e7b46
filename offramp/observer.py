"""How a compilation tells what it is doing: stages with their times, notes, dumped programs."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Observer:
    """Keeps the time of every stage and shows nothing; subclasses show.

    seconds: by stage name, in the order in which stages ended; nested stages have their own entry.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """A part of the compilation that takes a while."""
        self.started(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def started(self, name: str) -> None:
        """A stage begins."""

    def note(self, text: str) -> None:
        """One line about how far the present stage has come."""

    def dump(self, text: str) -> None:
        """A program that the user asked to see."""
