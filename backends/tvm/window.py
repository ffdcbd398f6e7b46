"""Geometry of sliding windows over channels-last images: which taps of which outputs are valid.

Borders are never tested inside inner loops and inputs are never padded: vertically the range of
window rows is computed once a row, horizontally a row of outputs is cut into tiles whose valid
taps are known when the kernel is generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from offramp.backends.tvm.tir import Expr, FunctionBuilder, ceil_div, clamped


@dataclass(frozen=True)
class Axis:
    """A window sliding along one spatial axis: `size` inputs give `out` outputs.

    Output `o` reads inputs `o * stride - pad + tap * dilation`, for taps in `range(taps)`.
    """

    size: int
    out: int
    taps: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    def valid(self, output: int) -> range:
        """The taps of one output that lie inside the input."""
        first = output * self.stride - self.pad
        inside = [t for t in range(self.taps) if 0 <= first + t * self.dilation < self.size]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    @property
    def is_ragged(self) -> bool:
        """Whether some output has taps outside the input."""
        last = (self.out - 1) * self.stride - self.pad + (self.taps - 1) * self.dilation
        return self.pad > 0 or last >= self.size

    @property
    def is_pointwise(self) -> bool:
        """Whether output `o` reads input `o` and nothing else."""
        return self.taps == 1 and self.stride == 1 and not self.is_ragged and self.size == self.out


@dataclass(frozen=True)
class Segment:
    """Consecutive taps that are valid for the same consecutive outputs of a tile."""

    taps: range
    outputs: range


@dataclass(frozen=True)
class Tiles:
    """`count` neighbouring tiles of `width` outputs with the same valid taps, from `start` on."""

    start: int
    count: int
    width: int
    segments: tuple[Segment, ...]


def tiles(axis: Axis, width: int) -> Iterator[Tiles]:
    """Cut a row of outputs into tiles of at most `width`, and collect equal neighbours."""
    cuts = [
        (start, min(width, axis.out - start), _segments(axis, start, min(width, axis.out - start)))
        for start in range(0, axis.out, width)
    ]
    for (size, segments), group in groupby(cuts, key=lambda cut: cut[1:]):
        members = list(group)
        yield Tiles(members[0][0], len(members), size, segments)


def uniform_tiles(axis: Axis, width: int) -> Iterator[Tiles]:
    """Cut a row so that all outputs of a tile have the same valid taps."""
    start = 0
    for taps, run in groupby(range(axis.out), key=axis.valid):
        length = len(list(run))
        for size, count in ((width, length // width), (1, length % width)):
            if count:
                yield Tiles(start, count, size, (Segment(taps, range(size)),))
                start += count * size


def _segments(axis: Axis, start: int, width: int) -> tuple[Segment, ...]:
    """The valid taps of one tile, neighbouring taps with equal outputs merged."""
    valid = [axis.valid(start + i) for i in range(width)]
    outputs = []
    for tap in range(axis.taps):
        users = [i for i, taps in enumerate(valid) if tap in taps]
        outputs.append(range(users[0], users[-1] + 1) if users else range(0))
    segments = []
    for users, group in groupby(range(axis.taps), key=lambda tap: outputs[tap]):
        members = list(group)
        if users:
            segments.append(Segment(range(members[0], members[-1] + 1), users))
    return tuple(segments)


@dataclass(frozen=True)
class Window:
    """A window over `batch` images of `rows` by `columns` positions."""

    batch: int
    rows: Axis
    columns: Axis

    @property
    def taps(self) -> int:
        """Taps of the whole window."""
        return self.rows.taps * self.columns.taps

    @property
    def outputs(self) -> int:
        """Output positions, all images together."""
        return self.batch * self.rows.out * self.columns.out

    @property
    def inputs(self) -> int:
        """Input positions, all images together."""
        return self.batch * self.rows.size * self.columns.size

    @property
    def is_pointwise(self) -> bool:
        """Whether every output reads the input at its own position and nothing else."""
        return self.rows.is_pointwise and self.columns.is_pointwise

    def flattened(self) -> Window:
        """The same window with axes that slide nowhere merged into one long row."""
        if self.is_pointwise:
            merged = self.outputs
            return Window(1, Axis(1, 1, 1), replace(self.columns, size=merged, out=merged))
        return self


def valid_rows(builder: FunctionBuilder, axis: Axis, output: Expr) -> tuple[Expr, Expr]:
    """First valid tap and number of valid taps of output row `output`, as expressions."""
    if not axis.is_ragged:
        return 0, axis.taps
    before = axis.pad - output * axis.stride
    first = builder.bind("first", ceil_div(clamped(before, 0), axis.dilation))
    room = ceil_div(clamped(before + axis.size, 0), axis.dilation)
    stop = min(room, axis.taps) if isinstance(room, int) else _at_most(room, axis.taps)
    return first, builder.bind("count", stop - first)


def _at_most(value: Expr, limit: int) -> Expr:
    from tvm import tirx

    return tirx.min(value, limit)
