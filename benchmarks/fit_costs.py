"""Fit the analytical cost model to kernels of the emitted code, and show how well it predicts.

Compiles the shared models and a family of small heads for a target, measures every kernel (counted
in QEMU, or timed on one thread), fits non-negative coefficients per kind of kernel, and writes
them into compiler/targets/TARGET.toml with --write.

    .venv/bin/python benchmarks/fit_costs.py cortex-m7 x86-64 [--write]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls

from offramp import backends
from offramp.backends.base import LoweredProgram
from offramp.backends.tvm.lower import lower
from offramp.backends.x86_64.profile import kernel_nanoseconds
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir import Program
from offramp.cost_models.features import Features, features
from offramp.passes.memory import plan_memory
from offramp.passes.simplify import simplify

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
MODELS = ("kws_dscnn", "ic_resnet8", "ad_fcae", "vww_mbv1")
KINDS = (
    "conv", "pointwise", "depthwise", "dense", "pool", "elementwise", "transcendental", "move",
)  # fmt: skip
UNITS = ("per_mac", "per_element", "per_call")
PRIORS = {
    "cortex-m7": [
        (1.0, 4, 150), (1.0, 4, 150), (1.3, 4, 150), (1.1, 2, 100), (0, 3, 100), (0, 1.5, 0),
        (0, 60, 100), (0, 4, 50),
    ],
    "x86-64": [
        (0.009, 0.1, 100), (0.009, 0.1, 100), (0.03, 0.1, 100), (0.03, 0.1, 50), (0, 0.1, 50),
        (0, 0.05, 0), (0, 2, 50), (0, 0.3, 50),
    ],
}  # fmt: skip
"""KINDS x UNITS as the schedules suggest: decides where the measured kernels leave a choice, for
instance between the elements of a convolution and those of the activation fused into it."""
PRIOR_WEIGHT = 0.3
HEADER = "# Linear cost of emitted kernels by kind; written by benchmarks/fit_costs.py."


@dataclass(frozen=True)
class Sample:
    """One measured kernel of one network: the work of all its calls, and what they cost."""

    network: str
    kernel: str
    work: tuple[Features, ...]
    cost: float

    def row(self) -> npt.NDArray[np.float64]:
        """The factors of all coefficients, in the order of KINDS x UNITS."""
        found = np.zeros((len(KINDS), len(UNITS)))
        for node in self.work:
            if node.kind in KINDS:
                found[KINDS.index(node.kind)] += (node.macs, node.elements, 1)
        return found.reshape(-1)


def heads() -> Iterator[Program]:
    """Small side networks such as exits add: depthwise-separable, then dense, then pooled."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    for channels, size, width in ((16, 32, 24), (16, 16, 32), (32, 16, 48), (64, 8, 64)):
        network = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 2, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 10),
            nn.Softmax(1),
        )
        program = from_torch(network.eval(), (torch.zeros(1, channels, size, size),))
        yield replace(program, name=f"head_{channels}x{size}")


def networks() -> Iterator[Program]:
    """Everything that is measured."""
    for model in MODELS:
        yield simplify()(from_onnx(SHARED / "models" / f"{model}_float.onnx"))
    yield from (simplify()(head) for head in heads())


def measure(program: Program, target: str) -> list[Sample]:
    """The kernels of one network."""
    lowered = lower(program, targets.get(target))
    lowered = replace(lowered, plan=plan_memory(lowered.plan))
    unit = targets.get(target).cost_unit
    costs = kernel_nanoseconds(lowered) if unit == "ns" else _kernel_instructions(lowered)
    named = {n.name or str(n.outputs[0].name): n for b in program.blocks.values() for n in b.graph}
    samples: list[Sample] = []
    for kernel in dict.fromkeys(c.kernel for b in lowered.plan.blocks for c in b.calls):
        calls = [c for b in lowered.plan.blocks for c in b.calls if c.kernel == kernel]
        nodes = [named[node] for call in calls for node in call.nodes if node in named]
        work = tuple(features(node) for node in nodes)
        samples.append(Sample(program.name, kernel, work, costs[kernel]))
    return samples


def _kernel_instructions(lowered: LoweredProgram) -> dict[str, float]:
    """Instructions of each kernel, with the functions that it calls."""
    with tempfile.TemporaryDirectory(prefix="offramp-") as folder:
        backend = backends.get(lowered.plan.target)
        backend.emit(lowered, Path(folder))
        runner = backend.load(Path(folder))
        generator = np.random.default_rng(0)
        inputs = {
            t.name: generator.normal(size=t.shape).astype(t.dtype) for t in runner.interface.inputs
        }
        return runner.bench(inputs).kernels


def fit(samples: list[Sample], target: str) -> dict[str, dict[str, float]]:
    """Non-negative coefficients, near the priors where that costs little.

    Relative errors weigh by kernel and, ten times as much, by network.
    """
    totals = _totals(samples)
    rows: list[npt.NDArray[np.float64]] = []
    costs: list[float] = []
    for sample in samples:
        weight = 1 / np.sqrt(max(sample.cost, 1.0) * totals[sample.network])
        rows.append(weight * sample.row())
        costs.append(weight * sample.cost)
    for network, total in totals.items():
        own = np.array([sample.row() for sample in samples if sample.network == network])
        rows.append(10 / total * own.sum(axis=0))
        costs.append(10.0)
    priors = np.array(PRIORS[target], np.float64).reshape(-1)
    known = priors > 0
    nearness = PRIOR_WEIGHT * np.eye(len(priors))[known] / priors[known, None]
    matrix = np.vstack([*rows, nearness]) * known
    found, _ = nnls(matrix, np.array([*costs, *[PRIOR_WEIGHT] * int(known.sum())]))
    table = found.reshape(len(KINDS), len(UNITS))
    return {
        kind: {unit: float(f"{value:.4g}") for unit, value in zip(UNITS, line, strict=True)}
        for kind, line in zip(KINDS, table, strict=True)
    }


def _totals(samples: list[Sample]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for sample in samples:
        totals[sample.network] = totals.get(sample.network, 0.0) + sample.cost
    return totals


def show(target: str, samples: list[Sample], cost: dict[str, dict[str, float]]) -> None:
    """Predicted beside measured, by network."""
    flat = np.array([cost[kind][unit] for kind in KINDS for unit in UNITS])
    table = Table("network", title=f"{target}, {targets.get(target).cost_unit} per inference")
    for heading in ("measured", "predicted", "error"):
        table.add_column(heading, justify="right")
    for network, total in _totals(samples).items():
        predicted = sum(float(s.row() @ flat) for s in samples if s.network == network)
        table.add_row(
            network, f"{total:,.0f}", f"{predicted:,.0f}", f"{predicted / total - 1:+.0%}"
        )
    Console(width=100).print(table)


def write(target: str, cost: dict[str, dict[str, float]]) -> None:
    """Replace the coefficients in the target's description; the driver's share is kept."""
    path = ROOT / "compiler" / "targets" / f"{target}.toml"
    head = path.read_text().split(HEADER)[0]
    full = cost | {"driver": targets.get(target).cost["driver"]}
    lines = [HEADER]
    for kind, units in full.items():
        lines += [f"[cost.{kind}]", *(f"{unit} = {value}" for unit, value in units.items()), ""]
    path.write_text(head + "\n".join(lines))


def main() -> None:
    """Fit every target named on the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("targets", nargs="+", choices=sorted(PRIORS))
    options.add_argument("--write", action="store_true", help="keep the coefficients")
    arguments = options.parse_args()
    for target in arguments.targets:
        samples = [sample for program in networks() for sample in measure(program, target)]
        cost = fit(samples, target)
        show(target, samples, cost)
        if arguments.write:
            write(target, cost)


if __name__ == "__main__":
    main()
