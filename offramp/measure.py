"""Running and measuring artifacts, and the peer that they are measured against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offramp import backends
from offramp.backends.base import Answers, Bench, Runner
from offramp.compiler import artifact as folders
from offramp.compiler.errors import UserError
from offramp.compiler.manifest import Manifest, TensorSpec
from offramp.data import Dataset

if TYPE_CHECKING:
    from offramp.api import Artifact

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
    cost: float64 [N] in `unit`: instructions counted in this run, or nanoseconds measured for the
        exit that the sample took.
    exit_rates: fraction of the samples at each exit, the final output last.
    """

    outputs: dict[str, Array]
    exit_index: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    cost: npt.NDArray[np.float64]
    unit: str
    exit_rates: tuple[float, ...]


@dataclass(frozen=True)
class Peer:
    """What another runtime needs for the network without exits, on the same machine."""

    name: str
    value: float
    unit: str


def run(artifact: Artifact, samples: Dataset) -> Result:
    """The artifact's answers to checked samples.

    Raises:
        ToolError: the emulator is missing or failed.
    """
    manifest = artifact.manifest
    runner = backends.get(manifest.target).load(artifact.folder)
    answers = _answers(runner, samples, manifest)
    cost = (
        _costs_by_exit(runner, manifest)[answers.exit_index]
        if answers.cost is None
        else answers.cost
    )
    counts = np.bincount(answers.exit_index, minlength=len(manifest.exits))
    return Result(
        outputs=answers.outputs,
        exit_index=answers.exit_index,
        confidence=answers.confidence,
        cost=cost,
        unit=manifest.static_cost.unit,
        exit_rates=tuple(float(count) / len(samples) for count in counts),
    )


def bench(artifact: Artifact, against: str | None) -> tuple[Bench, Peer | None]:
    """Measurements of an artifact and of the peer; see `Artifact.bench`."""
    manifest = artifact.manifest
    peer = None if against is None else _peer(artifact.folder, manifest, against)
    runner = backends.get(manifest.target).load(artifact.folder)
    return runner.bench(_example(manifest)), peer


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


def _costs_by_exit(runner: Runner, manifest: Manifest) -> npt.NDArray[np.float64]:
    """Measured cost of a sample that leaves at each exit, where a run does not tell costs."""
    return np.array([cost.value for cost in runner.bench(_example(manifest)).per_exit])


def _example(manifest: Manifest) -> dict[str, Array]:
    """One sample of seeded noise: costs do not depend on the values."""
    generator = np.random.default_rng(0)
    return {spec.name: _noise(generator, spec) for spec in manifest.inputs}


def _noise(generator: np.random.Generator, spec: TensorSpec) -> Array:
    if np.dtype(spec.dtype).kind == "f":
        return generator.normal(size=spec.shape).astype(spec.dtype)
    return generator.integers(0, 2, spec.shape).astype(spec.dtype)


def _peer(folder: Path, manifest: Manifest, name: str) -> Peer:
    if name not in PEERS:
        raise UserError(f"unknown peer {name!r}: expected one of {', '.join(PEERS)}")
    if manifest.static_cost.unit != "ns":
        raise UserError(
            f"{name} does not run on {manifest.target}: compare an artifact for x86-64 with it"
        )
    return Peer(name, _onnxruntime_ns(folder / folders.REFERENCE, _example(manifest)), "ns")


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
