"""Distance between the two most likely classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.criteria._base import Criterion, Logits, probabilities
from offramp.passes.exits.writer import NodeWriter


class Margin(Criterion):
    """Largest probability minus the largest of those below it, in [0, 1].

    Classes that tie for the first place count as one: no sorting is needed, and devices have none.
    """

    name: ClassVar[str] = "margin"

    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Margin of the last answer."""
        p = probabilities(answers[-1])
        first = p.max(axis=1, keepdims=True)
        second = np.where(p < first, p, np.float32(0)).max(axis=1, keepdims=True)
        return np.asarray((first - second)[:, 0], np.float32)

    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """Softmax, the largest, the largest of the others, and their difference."""
        p = writer.softmax(answers[-1])
        first = writer.reduce("ReduceMax", p, -1)
        others = writer.op("Where", writer.op("Less", p, first), p, writer.constant([0.0]))
        return writer.op("Sub", first, writer.reduce("ReduceMax", others, -1))
