"""Cut weights into runs whose products with bytes sum up to less than 2^15, half a word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.microkernels.chain import LONGEST_RUN

LARGEST_SUM = 255
"""Of the magnitudes of a run's weights: times 128, the magnitude of a byte, just below 2^15."""


@dataclass(frozen=True)
class Runs:
    """How many taps there are in each run, from the first to the last; uint8."""

    lengths: npt.NDArray[np.uint8]

    @property
    def words(self) -> npt.NDArray[np.int32]:
        """Eight runs a word, four bits each, the first lowest; int32, filled up with zeros."""
        nibbles = np.pad(self.lengths, (0, -len(self.lengths) % 8)).reshape(-1, 2)
        return (nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8).view(np.int32)

    @property
    def offset(self) -> int:
        """What the runs add to each sum besides products: microkernels start halves at 2^15."""
        return len(self.lengths) << 15


def cut(weights: npt.NDArray[np.int8], together: int = 1) -> Runs:
    """The fewest runs that fit all lanes of weights `[lanes, taps]`.

    together: taps that count as one and are never parted.
    """
    magnitudes = np.abs(weights.astype(np.int32)).reshape(len(weights), -1, together).sum(axis=2)
    lengths: list[int] = []
    sums = np.zeros(len(weights), np.int32)
    for magnitude in magnitudes.T:
        sums = sums + magnitude
        if not lengths or lengths[-1] == LONGEST_RUN or sums.max() > LARGEST_SUM:
            lengths.append(0)
            sums = magnitude
        lengths[-1] += 1
    return Runs(np.array(lengths, np.uint8))
