"""A learned gate: predicts whether leaving costs accuracy (the idea of JEI-DNN, Regol et al. 2024).

JEI-DNN trains gates and heads jointly; here the backbone and heads are frozen, and the gate learns
from the heads' answers on training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.criteria._base import Criterion, Logits, probabilities
from offramp.passes.exits.writer import NodeWriter

HIDDEN = 16
STEPS = 300


class LearnedGate(Criterion):
    """A small MLP on the class probabilities: log-odds that the full network would do no better.

    Unlike a single threshold on the largest probability it knows which classes the head confuses.
    Before `fit` it is the largest probability plus a constant.
    """

    name: ClassVar[str] = "learned-gate"

    def __init__(self, weights: Sequence[npt.NDArray[np.float32]] = ()) -> None:
        self._weights = tuple(weights)

    def fit(self, answers: Sequence[Logits], gain: npt.NDArray[np.float32], seed: int) -> Criterion:
        """Logistic regression of `gain >= 0` on the last answer, with one hidden layer."""
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Linear(answers[-1].shape[1] + 1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
            )
        features = torch.from_numpy(_features(answers[-1]))
        target = torch.from_numpy(np.asarray(gain >= 0, np.float32))
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
        for _ in range(STEPS):
            loss = nn.functional.binary_cross_entropy_with_logits(net(features)[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        arrays = [p.detach().numpy() for p in net.parameters()]
        return LearnedGate([a.T.copy() if a.ndim == 2 else a.copy() for a in arrays])

    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Log-odds for the last answer."""
        features = _features(answers[-1])
        first, bias, second, offset = self._layers(features.shape[1])
        hidden = np.maximum(features @ first + bias, 0)
        return np.asarray((hidden @ second + offset)[:, 0], np.float32)

    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """Two dense layers over the probabilities and the largest of them."""
        p = writer.softmax(answers[-1])
        features = writer.op("Concat", p, writer.reduce("ReduceMax", p, -1), axis=-1)
        classes = answers[-1].shape.numpy()[-1] if answers[-1].shape is not None else 0
        first, bias, second, offset = (writer.constant(w) for w in self._layers(classes + 1))
        hidden = writer.op("Add", writer.op("MatMul", features, first), bias)
        gate = writer.op("MatMul", writer.op("Relu", hidden), second)
        return writer.op("Add", gate, offset)

    def _layers(self, inputs: int) -> tuple[npt.NDArray[np.float32], ...]:
        if self._weights:
            return self._weights
        first = np.zeros((inputs, HIDDEN), np.float32)
        first[-1, 0] = 1.0
        second = np.zeros((HIDDEN, 1), np.float32)
        second[0, 0] = 1.0
        return first, np.zeros(HIDDEN, np.float32), second, np.zeros(1, np.float32)


def _features(logits: Logits) -> npt.NDArray[np.float32]:
    p = probabilities(logits)
    return np.concatenate([p, p.max(axis=1, keepdims=True)], axis=1)
