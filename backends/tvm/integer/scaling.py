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

MOST_RIGHT = 31
"""Bits of the largest shift to the right; a factor that wants more makes nothing of any sum."""

ROOM = 2
"""Bits by which some microkernels shift sums further to the left where there is room."""

WORDS = 2
"""Of a scale table for a channel: bias, multiplier."""

EXACT_WORDS = 4
"""The same for exact scaling: bias, multiplier, shift to the right, mask of the sign."""


def whole_range(bits: int) -> tuple[int, int]:
    """The smallest and the largest signed integer of some bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@dataclass(frozen=True)
class Scaling:
    """What is done to sums, the same in all channels.

    shift: to the left, before they are multiplied. low, high: bounds of the outputs, in what their
    bits can say. zero: zero point of the outputs. exact: with the rounding of TFLite's reference
    kernels. has_room: sums may be shifted further to the left, by `ROOM` bits. bits: of the
    outputs, 8 or 16.
    """

    shift: int
    low: int
    high: int
    zero: int
    exact: bool
    has_room: bool = False
    bits: int = 8

    @property
    def words(self) -> int:
        """Words of the scale table for a channel."""
        return EXACT_WORDS if self.exact else WORDS

    @property
    def name(self) -> str:
        """What it adds to the name of a C function; the zero point is an argument."""
        bounds = f"{self.low}to{self.high}".replace("-", "m")
        exact, room = "_exact" if self.exact else "", "_room" if self.has_room else ""
        bits = "" if self.bits == 8 else f"_{self.bits}bits"
        return f"{self.shift}_{bounds}{exact}{room}{bits}"


@dataclass(frozen=True)
class Quantized:
    """What signed integers q of 8 or 16 bits stand for: (q - zero) * scale."""

    scale: float
    zero: int
    bits: int = 8

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return whole_range(self.bits)

    @property
    def reach(self) -> int:
        """A bound on |q| + |zero|: sums of q that start from their zero points stay below it."""
        return -self.range[0] + abs(self.zero)

    def bounds(self, low: float, high: float) -> tuple[int, int]:
        """The integers that a clamp to real numbers leaves."""
        ends = [
            np.rint(np.float32(end) / np.float32(self.scale)) + self.zero for end in (low, high)
        ]
        return int(np.clip(ends[0], *self.range)), int(np.clip(ends[1], *self.range))


@dataclass(frozen=True)
class Factors:
    """How the sums of all channels are scaled.

    columns: int32 [channels, 1], multipliers; exact: [channels, 3], multipliers, shifts to the
    right, and masks of the sign. shift: to the left beforehand, common to all.
    """

    columns: npt.NDArray[np.int32]
    shift: int

    def table(self, sums: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """What a kernel reads: for each channel where its sum starts, then how it is scaled."""
        return np.concatenate([sums[:, None], self.columns], axis=1).astype(np.int32).ravel()


def fixed_point(factors: npt.NDArray[np.float64], largest_sum: int) -> Factors | None:
    """Factors as multipliers; None if a shifted sum could leave 32 bits.

    factors: real and positive, one per channel. largest_sum: bound on the absolute sums.
    """
    shift = 0
    while np.any(factors * 2.0 ** (32 - shift) > LARGEST):
        shift += 1
    if largest_sum << shift >= 2**31:
        return None
    multipliers = np.rint(factors * 2.0 ** (32 - shift)).astype(np.int32)
    return Factors(multipliers[:, None], shift)


def exact(factors: npt.NDArray[np.float64], largest_sum: int) -> Factors | None:
    """Factors as TFLite's reference kernels have them: 31 bits and a power of two (gemmlowp).

    None if they need different shifts to the left, or a shifted sum could leave 32 bits.
    """
    fraction, exponent = np.frexp(factors)
    multipliers = np.rint(fraction * 2.0**31)
    rounded_up = multipliers == 2.0**31
    multipliers, exponent = np.where(rounded_up, 2.0**30, multipliers), exponent + rounded_up
    vanishes = exponent < -MOST_RIGHT
    multipliers, exponent = np.where(vanishes, 0, multipliers), np.where(vanishes, 0, exponent)
    lefts = np.maximum(exponent, 0)
    right = np.maximum(-exponent, 0)
    if len(set(lefts.tolist())) > 1 or largest_sum << int(lefts[0]) >= 2**31:
        return None
    columns = np.stack([multipliers, right, -(right > 0).astype(np.int64)], axis=1)
    return Factors(columns.astype(np.int32), int(lefts[0]))
