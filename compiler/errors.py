"""Three kinds of failure, told apart because three different people can mend them.

Every message says what failed, what was expected, what was found and what to do.
"""

from __future__ import annotations


class OfframpError(Exception):
    """Base of all errors that offramp raises on purpose; `exit_code` is the command line's."""

    exit_code = 1


class UserError(OfframpError):
    """The model, the data or the arguments are at fault (exit code 2)."""

    exit_code = 2


class UnsupportedError(UserError):
    """A model uses something that offramp cannot compile; names the operator and its node."""


class ToolError(OfframpError):
    """A compiler, emulator, browser or device is missing, failed or hangs (exit code 3)."""

    exit_code = 3


class InternalError(OfframpError):
    """offramp broke one of its own rules: a bug of ours (exit code 1)."""

    exit_code = 1
