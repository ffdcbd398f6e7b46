"""What integer convolutions are, whatever microkernels compute them."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.integer.addition import Addition, ExactAddition
from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.window import Window


@dataclass(frozen=True)
class Convolution:
    """Structure of an ungrouped convolution or dense layer.

    window: over the image, flattened where it slides nowhere. zero: zero point of the input.
    scaling: of the sums. addition: of a residual; exact_addition: the same as TFLite's reference
    kernel adds it. source_bits: of the input, 8 or 16.
    """

    window: Window
    channels: int
    filters: int
    zero: int
    scaling: Scaling
    addition: Addition | None = None
    source_bits: int = 8
    exact_addition: ExactAddition | None = None

    @property
    def keeps_bits(self) -> bool:
        """Whether outputs have as many bits as inputs."""
        return self.source_bits == self.scaling.bits

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels * self.filters

    @property
    def kept_rows(self) -> int:
        """Rows of the input that are copied before they are read, so that rows of outputs may
        overwrite them; 0: none are.

        For the first layers of networks, whose inputs are images of few channels.
        """
        rows, columns = self.window.rows, self.window.columns
        is_plain = self.addition is None and self.exact_addition is None
        is_first = self.channels % 4 > 0 and self.window.batch == 1 and is_plain
        is_bytes = self.source_bits == self.scaling.bits == 8
        if not is_first or not is_bytes or rows.taps == 1 or rows.dilation > 1:
            return 0
        line, out_line = columns.size * self.channels, columns.out * self.filters
        copied = (min(y * rows.stride - rows.pad + rows.taps, rows.size) for y in range(rows.out))
        return rows.taps if all(n * line >= (y + 1) * out_line for y, n in enumerate(copied)) else 0


@dataclass(frozen=True)
class DepthwiseConvolution:
    """Structure of a convolution that keeps channels apart; fields as in `Convolution`."""

    window: Window
    channels: int
    zero: int
    scaling: Scaling
    source_bits: int = 8

    @property
    def keeps_bits(self) -> bool:
        """Whether outputs have as many bits as inputs."""
        return self.source_bits == self.scaling.bits

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels
