"""C text of the sums over runs of taps: each run is a jump into a chain of taps, without a counter.

How long the runs are stands in words, four bits each, the first lowest; see
`offramp.backends.tvm.integer.runs`. A filter starts with a word of its own.
"""

from __future__ import annotations

from collections.abc import Callable

LONGEST_RUN = 15
"""Taps of the longest run: what four bits tell. Longer ones would save little and be more code."""


def over_runs(start: str, tap: Callable[[int], str], fold: str) -> str:
    """A loop over the runs from the pointer `run` on, until `x` is `end`.

    start: C statements in front of the `taps` of a run, which move the pointers behind it. tap:
    statements of the tap that so many others follow, itself included; they may declare. fold:
    statements behind a run.
    """
    cases = [f"          case {left}: {{ {tap(left)} }}" for left in range(LONGEST_RUN, 0, -1)]
    return _LOOP.format(start=start, cases=" /* fall through */\n".join(cases), fold=fold)


_LOOP = """\
    do {{
      uint32_t runs = *run++;
      do {{
        const uint32_t taps = runs & 15u;
        runs >>= 4;
        {start}
        switch (taps) {{
{cases} break;
#if defined(__GNUC__)
          default: __builtin_unreachable();
#endif
        }}
        {fold}
      }} while (runs);
    }} while (x != end);"""
