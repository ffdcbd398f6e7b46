"""Integer dense layers of one sample on cores without dual multiplies; see the microkernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.runs import Runs, cut
from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.packed_dense import PackedDense
from offramp.backends.tvm.microkernels.rounding import Rounding, arguments
from offramp.backends.tvm.tir import FunctionBuilder, external_call


@dataclass(frozen=True)
class Dense:
    """Structure of a dense layer of one sample."""

    channels: int
    filters: int
    scaling: Scaling
    workspace: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.channels * self.filters

    @property
    def kernel(self) -> PackedDense:
        """The microkernel."""
        return PackedDense(1 if self.filters <= 4 else 2, Rounding.of(self.scaling))

    @property
    def padded(self) -> int:
        """Filters of all blocks, those that are there to fill the last one included."""
        return -(-self.filters // self.kernel.lanes) * self.kernel.lanes

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        return (self.kernel,)


def pack(
    spec: Dense, weights: npt.NDArray[np.int8], table: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Weights `[filters, channels]` as words of four filters, runs, and scales for these.

    The order of weights is block of filters, channel, filter in block, each plus 128.
    """
    lanes, missing = spec.kernel.lanes, spec.padded - spec.filters
    rows = np.pad(weights, ((0, missing), (0, 0))).reshape(-1, lanes, spec.channels)
    runs: list[Runs] = [cut(block) for block in rows]
    scales = np.pad(table.reshape(spec.filters, -1), ((0, missing), (0, 0)))
    scales[:, 0] -= np.repeat([block.offset for block in runs], lanes).astype(np.int32)
    biased = (rows.transpose(0, 2, 1).astype(np.int16) + 128).astype(np.uint8)
    words = np.ascontiguousarray(biased).reshape(-1).view(np.int32)
    return words, np.concatenate([block.words for block in runs]), scales.ravel()


def build(spec: Dense) -> Any:
    """The kernel: input, weights, runs, scales, output."""
    code, size = FunctionBuilder(), spec.padded * spec.channels
    source = code.pointer("input", spec.channels, "int8")
    weights = code.pointer("weights", size // 4, "int32")
    runs = code.pointer("runs", size // spec.kernel.lanes, "int32")
    scales = code.pointer("scales", spec.scaling.words * spec.padded, "int32")
    output = code.pointer("output", spec.filters, "int8")
    code.run(
        external_call(
            spec.kernel.name,
            output.address(0),
            source.address(0),
            weights.address(0),
            runs.address(0),
            scales.address(0),
            spec.channels,
            spec.filters,
            *arguments(spec.scaling),
        )
    )
    return code.build()
