"""The frozen network: features at the candidate points by torch, the full answer by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.ir import Program
from offramp.compiler.ir.beginning import beginning
from offramp.compiler.oracle import Oracle
from offramp.compiler.torch_module import GraphModule
from offramp.passes.exits.candidates import Point
from offramp.passes.exits.heads import Statistics
from offramp.passes.exits.result import Samples
from offramp.passes.exits.task import Task

CHUNK = 64
"""Samples computed at once; of many more, the tensors in between leave the processor's caches."""


LOGITS = "logits"


class Backbone:
    """Runs a network or its beginning on batches, without gradients.

    Args:
        program: straight-line.
        task: where its logits are.
    """

    def __init__(self, program: Program, task: Task) -> None:
        self.program = program
        self.task = task
        self.input_names = [str(value.name) for value in program.inputs]
        self._modules: dict[tuple[ir.Value, ...], GraphModule] = {}

    def values(
        self, samples: Mapping[str, Tensor], wanted: Sequence[ir.Value]
    ) -> tuple[Tensor, ...]:
        """Values of the network for a batch, [N, ...] each; runs no further than needed."""
        key = tuple(wanted)
        if key not in self._modules:
            self._modules[key] = self._cut(key)
        inputs = [samples[name] for name in self.input_names]
        with torch.no_grad():
            found: tuple[Tensor, ...] = self._modules[key](*inputs)
        return found

    def features(self, samples: Mapping[str, Tensor], points: Sequence[Point]) -> list[Tensor]:
        """Features at `points`; feature maps in channels-last memory order."""
        values = self.values(samples, [point.value for point in points])
        return [
            v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for v in values
        ]

    def logits(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Logits of the full network, [N, classes]; on as many threads as torch uses.

        onnxruntime takes half of torch's time for it.
        """
        threads = min(torch.get_num_threads(), count_of(samples))
        parts = np.array_split(np.arange(count_of(samples)), max(1, threads))
        with ThreadPoolExecutor(len(parts)) as pool:
            found = pool.map(lambda rows: self._oracle.run(take(samples, rows)), parts)
        return np.concatenate([answers.outputs[LOGITS] for answers in found])

    @cached_property
    def _oracle(self) -> Oracle:
        return Oracle(beginning(self.program, [self.task.logits], [LOGITS]))

    def statistics(
        self, samples: Samples, values: Sequence[ir.Value]
    ) -> dict[ir.Value, Statistics]:
        """Mean and standard deviation of `values` by channel (axis 1), over the samples."""
        found = self.values(tensors(samples), values)
        axes = [tuple(axis for axis in range(v.ndim) if axis != 1) for v in found]
        return {
            value: (data.mean(dim).numpy(), data.std(dim).numpy())
            for value, data, dim in zip(values, found, axes, strict=True)
        }

    def _cut(self, wanted: tuple[ir.Value, ...]) -> GraphModule:
        """A module that ends at the wanted values."""
        return GraphModule(beginning(self.program, wanted).entry.graph).eval()


def tensors(samples: Samples) -> dict[str, Tensor]:
    """Arrays as tensors, sharing memory where they are writable."""
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in samples.items()}


def chunks(samples: Samples, size: int = CHUNK) -> list[dict[str, Tensor]]:
    """Samples in batches of at most `size`."""
    count = count_of(samples)
    return [tensors(take(samples, slice(i, i + size))) for i in range(0, count, size)]


def take(samples: Samples, index: Any) -> dict[str, npt.NDArray[Any]]:
    """Rows of every array."""
    return {name: array[index] for name, array in samples.items()}


def count_of(samples: Samples) -> int:
    """How many samples there are."""
    return len(next(iter(samples.values())))
