"""From real numbers to the scale and zero point that lose least of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

METHODS = ("mse", "percentile", "minmax")
"""How ranges are chosen: least squared error, the bulk of the values, or all of them."""

PERCENTILE = 99.99
"""The bulk: values above this percentile, and below the same from the other end, saturate."""

FRACTIONS = np.linspace(1.0, 0.4, 61)
"""Fractions of the full range that are tried for the least squared error."""

LOW, HIGH = -128, 127
"""Of signed bytes; weights leave -128 out, so that they are symmetric."""

WIDEST = 2**15 - 1
"""Of 16 bits."""

SMALLEST_SCALE = 1e-8
"""Of a tensor that is always zero."""


@dataclass(frozen=True)
class Affine:
    """Signed integers q of `bits` bits, 8 or 16, stand for (q - zero) * scale."""

    scale: float
    zero: int
    bits: int = 8

    def rounded(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """What is left of real numbers once they are quantised."""
        return np.asarray((self._steps(values) - self.zero) * self.scale, np.float64)

    def quantised(self, values: npt.NDArray[Any]) -> npt.NDArray[np.signedinteger[Any]]:
        """The integers that stand for real numbers, as QuantizeLinear rounds them."""
        return self._steps(values).astype(self.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the integers."""
        return np.dtype(f"int{self.bits}")

    def _steps(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        limits = np.iinfo(self.dtype)
        steps = np.rint(values / self.scale) + self.zero
        return np.asarray(np.clip(steps, limits.min, limits.max))


def affine(low: float, high: float) -> Affine:
    """The finest quantisation of [low, high]; zero, which padding needs, is represented exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / (HIGH - LOW), SMALLEST_SCALE)))
    return Affine(scale, int(np.clip(np.rint(LOW - low / scale), LOW, HIGH)))


def wide(low: float, high: float) -> Affine:
    """The finest symmetric quantisation of [low, high] in 16 bits; no value saturates."""
    scale = float(np.float32(max(-low, high) / WIDEST))
    return Affine(max(scale, SMALLEST_SCALE), 0, 16)


def activation(low: float, high: float, values: npt.NDArray[np.float32], method: str) -> Affine:
    """The quantisation of a tensor.

    Args:
        low: smallest value seen.
        high: largest value seen.
        values: a sample of the values, one axis.
        method: one of `METHODS`.
    """
    if method == "percentile":
        low, high = np.percentile(values, [100.0 - PERCENTILE, PERCENTILE]).tolist()
    if method != "mse":
        return affine(low, high)
    tried = [affine(low * fraction, high * fraction) for fraction in FRACTIONS]
    errors = [float(np.mean((found.rounded(values) - values) ** 2)) for found in tried]
    return tried[int(np.argmin(errors))]


def weight_scales(
    filters: npt.NDArray[np.float32], method: str, high: int = HIGH
) -> npt.NDArray[np.float32]:
    """Symmetric scales of weights `[filters, ...]`, one a filter, for integers up to `high`.

    A percentile of a few hundred weights means little: but for "mse", all are kept in range.
    """
    rows = filters.reshape(len(filters), -1).astype(np.float64)
    full = np.maximum(np.abs(rows).max(axis=1) / high, SMALLEST_SCALE)
    if method != "mse":
        return np.asarray(full, np.float32)
    best, least = full, np.full(len(rows), np.inf)
    for fraction in FRACTIONS:
        scale = (full * fraction)[:, None]
        error = ((np.clip(np.rint(rows / scale), -high, high) * scale - rows) ** 2).sum(axis=1)
        best, least = np.where(error < least, scale[:, 0], best), np.minimum(error, least)
    return np.asarray(best, np.float32)
