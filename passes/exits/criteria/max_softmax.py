"""Probability of the most likely class (BranchyNet and most work since)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.criteria._base import Criterion, Logits, probabilities
from offramp.passes.exits.writer import NodeWriter


class MaxSoftmax(Criterion):
    """The largest class probability, in [1 / classes, 1]."""

    name: ClassVar[str] = "max-softmax"

    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Largest probability of the last answer."""
        return np.asarray(probabilities(answers[-1]).max(axis=1), np.float32)

    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """See `NodeWriter.top_probability`."""
        return writer.top_probability(answers[-1])
