"""Softmax over the innermost axis: three passes over each row, which may be done in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from offramp.backends.tvm.templates.channelwise import LOWEST
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, constant, splat


@dataclass(frozen=True)
class Softmax:
    """Structure of a softmax of `rows` rows of `columns` values; `lanes` at most `columns`."""

    rows: int
    columns: int
    lanes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates: none."""
        return 0


def build(spec: Softmax) -> Any:
    """The kernel: input, output."""
    code = FunctionBuilder()
    source = code.pointer("input", spec.rows * spec.columns)
    result = code.pointer("output", spec.rows * spec.columns)
    with code.loop("row", spec.rows) as row:
        builder = _RowBuilder(spec, code, source, result, row * spec.columns)
        builder.exponentials(builder.largest())
    return code.build()


@dataclass(frozen=True)
class _RowBuilder:
    """Emits the code of one row, which starts at index `start`."""

    spec: Softmax
    code: FunctionBuilder
    source: Array
    result: Array
    start: Expr

    def largest(self) -> Expr:
        """The largest value of the row."""
        code, lanes = self.code, self.spec.lanes
        found = code.registers("largest", lanes)
        code.store(found, 0, constant(LOWEST, lanes), lanes)
        with code.loop("vector", self._vectors) as vector:
            item = self.source.load(self.start + vector * lanes, lanes)
            code.store(found, 0, tirx.max(found.load(0, lanes), item), lanes)
        for column in self._rest:
            item = self.source.load(self.start + column)
            code.store(found, 0, tirx.max(found.load(0), item))
        for lane in range(1, lanes):
            code.store(found, 0, tirx.max(found.load(0), found.load(lane)))
        return code.bind("largest", found.load(0))

    def exponentials(self, largest: Expr) -> None:
        """Store exp(x - largest), divided by its sum over the row."""
        code, lanes = self.code, self.spec.lanes
        total = code.registers("total", lanes)
        code.store(total, 0, constant(0.0, lanes), lanes)
        with code.loop("vector", self._vectors) as vector:
            self._exponential(total, largest, vector * lanes, lanes)
        for column in self._rest:
            self._exponential(total, largest, column, 1)
        for lane in range(1, lanes):
            code.store(total, 0, total.load(0) + total.load(lane))
        scale = code.bind("scale", constant(1.0) / total.load(0))
        with code.loop("vector", self._vectors) as vector:
            self._scale(scale, vector * lanes, lanes)
        for column in self._rest:
            self._scale(scale, column, 1)

    @property
    def _vectors(self) -> int:
        return self.spec.columns // self.spec.lanes

    @property
    def _rest(self) -> range:
        return range(self._vectors * self.spec.lanes, self.spec.columns)

    def _exponential(self, total: Array, largest: Expr, column: Expr, lanes: int) -> None:
        index = self.start + column
        value = tirx.exp(self.source.load(index, lanes) - splat(largest, lanes))
        self.code.store(self.result, index, value, lanes)
        value = self.result.load(index, lanes)
        self.code.store(total, 0, total.load(0, lanes) + value, lanes)

    def _scale(self, scale: Expr, column: Expr, lanes: int) -> None:
        index = self.start + column
        value = self.result.load(index, lanes) * splat(scale, lanes)
        self.code.store(self.result, index, value, lanes)
