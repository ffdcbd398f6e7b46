"""Patience: how many answers in a row agree (PABEE, Zhou et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.criteria._base import Criterion, Logits, probabilities
from offramp.passes.exits.writer import NodeWriter


class Patience(Criterion):
    """Number of answers in a row that name the same class as this one, plus half its probability.

    The count is PABEE's; the fraction below 1 orders samples of equal count, so that thresholds
    can lie between them.
    """

    name: ClassVar[str] = "patience"
    looks_back: ClassVar[bool] = True

    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Length of the run that ends with the last answer, in [1, len(answers)], plus p / 2."""
        last = answers[-1].argmax(axis=1)
        alike = np.ones(len(last), np.float32)
        run = np.ones(len(last), np.float32)
        for logits in reversed(answers[:-1]):
            alike = alike * (logits.argmax(axis=1) == last)
            run = run + alike
        top = probabilities(answers[-1]).max(axis=1)
        return np.asarray(run + np.float32(0.5) * top, np.float32)

    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """ArgMax of every answer, compared with the last one's."""
        top = writer.top_probability(answers[-1])
        half = writer.op("Mul", top, writer.constant([0.5]))
        run = writer.op("Add", half, writer.constant([1.0]))
        last = writer.op("ArgMax", answers[-1], axis=-1, keepdims=1)
        alike: ir.Value | None = None
        for logits in reversed(answers[:-1]):
            named = writer.op("ArgMax", logits, axis=-1, keepdims=1)
            same = writer.op("Cast", writer.op("Equal", named, last), to=int(ir.DataType.FLOAT))
            alike = same if alike is None else writer.op("Mul", alike, same)
            run = writer.op("Add", run, alike)
        return run
