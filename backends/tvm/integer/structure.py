"""What integer convolutions are, whatever microkernels compute them."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.integer.addition import Addition
from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.window import Window


@dataclass(frozen=True)
class Convolution:
    """Structure of an ungrouped convolution or dense layer.

    window: over the image, flattened where it slides nowhere. zero: zero point of the input.
    scaling: of the sums. addition: of a residual.
    """

    window: Window
    channels: int
    filters: int
    zero: int
    scaling: Scaling
    addition: Addition | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels * self.filters


@dataclass(frozen=True)
class DepthwiseConvolution:
    """Structure of a convolution that keeps channels apart; fields as in `Convolution`."""

    window: Window
    channels: int
    zero: int
    scaling: Scaling

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels
