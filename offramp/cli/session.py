"""What every command shares: where output goes, and how failures end the process.

Standard output carries only the answer (a table, or JSON with `--json`), also when a library
prints: the file descriptor itself points to standard error while a command works.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console, RenderableType

from offramp.compiler.errors import InternalError, OfframpError, UnsupportedError

P = ParamSpec("P")
R = TypeVar("R")

BUG_EXIT_CODE = 1
INTERRUPTED_EXIT_CODE = 130
"""128 + SIGINT, as shells expect it."""
LEDGER = "docs/results/ledger.md"
LEDGER_HINT = f"{LEDGER} lists by operator what compiles."
INTERRUPTED = "error: interrupted; nothing was written"


def errors_console() -> Console:
    """A console on standard error, for progress and messages."""
    return Console(stderr=True, highlight=False)


@dataclass
class Answer:
    """What a command prints on standard output when it has succeeded."""

    data: dict[str, Any] = field(default_factory=dict)
    shown: list[RenderableType] = field(default_factory=list)


@contextmanager
def answering(as_json: bool) -> Generator[Answer]:
    """Collect the answer while everything else goes to standard error; then print it."""
    answer = Answer()
    with _stdout_to_stderr():
        yield answer
    if as_json:
        sys.stdout.write(json.dumps(answer.data, indent=2, allow_nan=False) + "\n")
    else:
        console = Console(highlight=False)
        for renderable in answer.shown:
            console.print(renderable)
    sys.stdout.flush()


def ends_cleanly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn failures of a command into one message on standard error and an exit code.

    With the environment variable OFFRAMP_DEBUG set, the traceback is shown as well.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        interruption.install()
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            _end(INTERRUPTED, INTERRUPTED_EXIT_CODE)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BUG_EXIT_CODE) from None
        except Exception as error:
            if interruption.happened:
                _end(INTERRUPTED, INTERRUPTED_EXIT_CODE)
            _end(*_message_and_code(error))

    return wrapped


def _end(message: str, code: int) -> NoReturn:
    if os.environ.get("OFFRAMP_DEBUG"):
        traceback.print_exc()
    errors_console().print(message, style="bold red" if code else "", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _message_and_code(error: Exception) -> tuple[str, int]:
    if isinstance(error, OfframpError) and not isinstance(error, InternalError):
        hint = f"\n{LEDGER_HINT}" if isinstance(error, UnsupportedError) else ""
        return f"error: {error}{'' if LEDGER in str(error) else hint}", error.exit_code
    message = (
        f"error: {str(error) or type(error).__name__}\nThis is a bug of offramp "
        f"({type(error).__name__}). Run again with OFFRAMP_DEBUG=1 for the traceback, and please "
        "report both."
    )
    return message, BUG_EXIT_CODE


class Interruption:
    """Handles SIGINT and SIGTERM; `happened` tells of it when a library ate the exception.

    An extension module that is interrupted while it loads fails with an error of its own, and an
    interruption during a callback is printed and forgotten.
    """

    def __init__(self) -> None:
        self.happened = False

    def install(self) -> None:
        """Handle both signals from now on."""
        self.happened = False
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was an interruption that did not arrive."""
        if self.happened:
            raise KeyboardInterrupt

    def _interrupt(self, _signal: int, _frame: object) -> None:
        self.happened = True
        raise KeyboardInterrupt


interruption = Interruption()
"""The one of this process: signal handlers are global."""


@contextmanager
def _stdout_to_stderr() -> Generator[None]:
    """Point file descriptor 1 to 2, so that no library can write into the answer."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # standard output is closed
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
