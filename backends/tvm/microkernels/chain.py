"""A C `switch` that jumps into a chain of taps: a loop of known steps without a counter."""

from __future__ import annotations

from collections.abc import Callable

LONGEST_RUN = 16
"""Taps of the longest run: longer ones would save little and be more code."""


def chain(tap: Callable[[int], str]) -> str:
    """Cases that do the last `taps` of `LONGEST_RUN` taps.

    tap: C statements of the tap that so many others follow, itself included; they may declare.
    """
    cases = [
        f"        case {left}: {{ {tap(left)} }}{' /* fall through */' if left > 1 else ' break;'}"
        for left in range(LONGEST_RUN, 0, -1)
    ]
    return "\n".join(["      switch (taps) {", *cases, _NOTHING_ELSE, "      }"])


_NOTHING_ELSE = """\
#if defined(__GNUC__)
        default: __builtin_unreachable();
#endif"""
