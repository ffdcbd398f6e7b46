"""Entropy of the class probabilities (Teerapittayanon et al. 2016), negated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.criteria._base import Criterion, Logits, probabilities
from offramp.passes.exits.writer import NodeWriter

SMALLEST = 1e-20
"""Added to probabilities before the logarithm; a class that cannot be then adds nothing."""


class Entropy(Criterion):
    """Sum of p log p in nats, in [-log(classes), 0]."""

    name: ClassVar[str] = "entropy"

    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Negated entropy of the last answer."""
        p = probabilities(answers[-1])
        return np.asarray((p * np.log(p + np.float32(SMALLEST))).sum(axis=1), np.float32)

    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """Softmax, Log, Mul and ReduceSum."""
        p = writer.softmax(answers[-1])
        logarithm = writer.op("Log", writer.op("Add", p, writer.constant([SMALLEST])))
        return writer.reduce("ReduceSum", writer.op("Mul", p, logarithm), -1)
