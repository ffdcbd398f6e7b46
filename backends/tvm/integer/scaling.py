"""Fixed-point factors: how a real scale becomes integers.

A sum of products s stands for the real number s * factor. An output is
`clamp(zero + round(s * factor))`, computed as the high word of a 64-bit product:
`(s * 2^shift * multiplier + zero * 2^32 + 2^31) >> 32`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST = 2.0**31 - 1


@dataclass(frozen=True)
class Quantized:
    """What 8-bit integers q stand for: (q - zero) * scale."""

    scale: float
    zero: int

    def bounds(self, low: float, high: float) -> tuple[int, int]:
        """The integers that a clamp to real numbers leaves, within [-128, 127]."""
        ends = [
            np.rint(np.float32(end) / np.float32(self.scale)) + self.zero for end in (low, high)
        ]
        return int(np.clip(ends[0], -128, 127)), int(np.clip(ends[1], -128, 127))


@dataclass(frozen=True)
class Factors:
    """Multipliers of all channels, int32 each, and the shift that they have in common."""

    multipliers: npt.NDArray[np.int32]
    shift: int


def fixed_point(factors: npt.NDArray[np.float64], largest_sum: int) -> Factors | None:
    """Factors as multipliers; None if a shifted sum could leave 32 bits.

    factors: real and positive, one per channel. largest_sum: bound on the absolute sums.
    """
    shift = 0
    while np.any(factors * 2.0 ** (32 - shift) > LARGEST):
        shift += 1
    if largest_sum << shift >= 2**31:
        return None
    return Factors(np.rint(factors * 2.0 ** (32 - shift)).astype(np.int32), shift)
