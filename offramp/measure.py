"""Running and measuring artifacts, and the peer that they are measured against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp import backends
from offramp.backends.base import Answers, Bench, Runner
from offramp.compiler import artifact as folders
from offramp.compiler.errors import UserError
from offramp.compiler.manifest import Manifest, TensorSpec
from offramp.data import Dataset
from offramp.layers import LayerCost, layer_costs

Array = npt.NDArray[Any]
PEERS = ("onnxruntime",)
PEER_SECONDS = 1.0
"""How long the peer is measured; its median over all runs in that time counts."""


@dataclass(frozen=True)
class Result:
    """Answers of N samples.

    outputs: by name, with a leading axis of N samples.
    exit_index: int64 [N], where each sample left; the final output is the number of exits.
    confidence: float32 [N], the score of the exit taken; NaN for a final output without one.
    unit: what `cost` is counted in ("ns" or "instructions").
    exit_rates: fraction of the samples at each exit, the final output last.
    """

    outputs: dict[str, Array]
    exit_index: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    unit: str
    exit_rates: tuple[float, ...]
    _find_cost: Callable[[], npt.NDArray[np.float64]] = field(repr=False, compare=False)

    @cached_property
    def cost(self) -> npt.NDArray[np.float64]:
        """float64 [N]: instructions counted in this run, or the time measured for the exit taken.

        Times are measured when they are first asked for, which takes about a second.
        """
        return self._find_cost()


@dataclass(frozen=True)
class Peer:
    """What another runtime needs for the network without exits, on the same machine."""

    name: str
    value: float
    unit: str


class Session:
    """The loaded code of an artifact.

    Raises:
        ToolError: a compiler or emulator of the target is missing.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._runner: Runner = backends.get(manifest.target).load(folder)

    def run(self, samples: Dataset) -> Result:
        """Answers to checked samples.

        Raises:
            ToolError: the emulator failed.
        """
        manifest = self._manifest
        answers = _answers(self._runner, samples, manifest)
        counts = np.bincount(answers.exit_index, minlength=len(manifest.exits))
        index, counted = answers.exit_index, answers.cost
        return Result(
            outputs=answers.outputs,
            exit_index=index,
            confidence=answers.confidence,
            unit=manifest.static_cost.unit,
            exit_rates=tuple(float(count) / len(samples) for count in counts),
            _find_cost=lambda: self._exit_costs[index] if counted is None else counted,
        )

    def bench(self) -> Bench:
        """Cost of every exit, RAM and flash."""
        return self._runner.bench(_example(self._manifest))

    def layers(self, measured: Bench) -> list[LayerCost]:
        """What every kernel call costs, from one measurement."""
        return layer_costs(self._manifest, self._runner.interface, measured)

    def peer(self, name: str) -> Peer:
        """The network without exits in another runtime.

        Raises:
            UserError: there is no such peer, or it does not run on the target.
        """
        if name not in PEERS:
            raise UserError(f"unknown peer {name!r}: expected one of {', '.join(PEERS)}")
        if self._manifest.static_cost.unit != "ns":
            raise UserError(
                f"{name} does not run on {self._manifest.target}: compare an artifact for x86-64 "
                "with it"
            )
        model = self._folder / folders.REFERENCE
        return Peer(name, _onnxruntime_ns(model, _example(self._manifest)), "ns")

    @cached_property
    def _exit_costs(self) -> npt.NDArray[np.float64]:
        """Measured cost of a sample that leaves at each exit, where a run does not tell costs."""
        return np.array([cost.value for cost in self.bench().per_exit])


def _answers(runner: Runner, samples: Dataset, manifest: Manifest) -> Answers:
    """All samples at once, or one by one for a network without a batch axis."""
    if manifest.batched:
        return runner.run(samples.inputs)
    each = [
        runner.run({name: x[i] for name, x in samples.inputs.items()}) for i in range(len(samples))
    ]
    costs = [a.cost for a in each if a.cost is not None]
    return Answers(
        {name: np.stack([a.outputs[name] for a in each]) for name in each[0].outputs},
        np.concatenate([a.exit_index for a in each]),
        np.concatenate([a.confidence for a in each]),
        np.concatenate(costs) if costs else None,
    )


def _example(manifest: Manifest) -> dict[str, Array]:
    """One sample of seeded noise: costs do not depend on the values."""
    generator = np.random.default_rng(0)
    return {spec.name: _noise(generator, spec) for spec in manifest.inputs}


def _noise(generator: np.random.Generator, spec: TensorSpec) -> Array:
    if np.dtype(spec.dtype).kind == "f":
        return generator.normal(size=spec.shape).astype(spec.dtype)
    return generator.integers(0, 2, spec.shape).astype(spec.dtype)


def _onnxruntime_ns(model: Path, inputs: dict[str, Array]) -> float:
    """Median CPU time of one inference on one thread, in nanoseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    times: list[int] = []
    end = time.perf_counter() + PEER_SECONDS
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time_ns()
        session.run(None, inputs)
        times.append(time.process_time_ns() - start)
    return float(np.median(times[1:]))
