"""Fit the analytical cost model to kernels of the emitted code, and show how well it predicts.

Compiles the shared models and a family of small heads for a target, measures every kernel (counted
in QEMU, or timed on one thread), fits non-negative coefficients per kind of kernel, and writes
them into compiler/targets/TARGET.toml with --write.

    .venv/bin/python benchmarks/fit_costs.py cortex-m7 x86-64 [--write]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
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
from offramp.passes.quantize.insert import Quantize
from offramp.passes.simplify import simplify

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
MODELS = ("kws_dscnn", "ic_resnet8", "ad_fcae", "vww_mbv1")
UNITS = ("per_mac", "per_element", "per_call")
Coefficients = dict[str, tuple[float, float, float]]
MICROCONTROLLER: Coefficients = {
    "conv": (1.0, 4, 150),
    "pointwise": (1.0, 4, 150),
    "depthwise": (1.3, 4, 150),
    "dense": (1.1, 2, 100),
    "pool": (0, 3, 100),
    "elementwise": (0, 1.5, 0),
    "transcendental": (0, 60, 100),
    "move": (0, 4, 50),
    "int8_conv": (1.0, 8, 150),
    "int8_pointwise": (1.2, 8, 150),
    "int8_depthwise": (2.0, 8, 150),
    "int8_dense": (1.2, 8, 100),
    "int8_pool": (0, 2, 100),
    "int8_elementwise": (0, 4, 0),
    "convert": (0, 8, 50),
}
RISCV: Coefficients = {
    "conv": (90, 20, 150),
    "pointwise": (90, 20, 150),
    "depthwise": (90, 20, 150),
    "dense": (90, 20, 100),
    "pool": (0, 60, 100),
    "elementwise": (0, 40, 0),
    "transcendental": (0, 500, 100),
    "move": (0, 4, 50),
    "int8_conv": (2.3, 15, 150),
    "int8_pointwise": (2.3, 15, 150),
    "int8_depthwise": (3.0, 15, 150),
    "int8_dense": (2.5, 15, 100),
    "int8_pool": (0, 5, 100),
    "int8_elementwise": (0, 20, 0),
    "convert": (0, 200, 50),
}
"""Real numbers are computed by functions of the C library there."""
HELIUM: Coefficients = MICROCONTROLLER | {
    "int8_conv": (0.15, 3, 150),
    "int8_pointwise": (0.15, 3, 150),
    "int8_depthwise": (0.6, 2, 150),
    "int8_dense": (0.15, 2, 100),
}
PRIORS: dict[str, Coefficients] = {
    "cortex-m4": MICROCONTROLLER,
    "cortex-m7": MICROCONTROLLER,
    "cortex-m55": HELIUM,
    "riscv32": RISCV,
    "x86-64": {
        "conv": (0.009, 0.1, 100),
        "pointwise": (0.009, 0.1, 100),
        "depthwise": (0.03, 0.1, 100),
        "dense": (0.03, 0.1, 50),
        "pool": (0, 0.1, 50),
        "elementwise": (0, 0.05, 0),
        "transcendental": (0, 2, 50),
        "move": (0, 0.3, 50),
    },
}
"""By kind and in the order of UNITS, as the schedules suggest: decides where the measured kernels
leave a choice, for instance between the elements of a convolution and those of the activation fused
into it. A target with integer kernels has their kinds too."""
PRIOR_WEIGHT = 0.3
HEADER = "# Linear cost of emitted kernels by kind; written by benchmarks/fit_costs.py."


@dataclass(frozen=True)
class Sample:
    """One measured kernel of one network: the work of all its calls, and what they cost."""

    network: str
    kernel: str
    work: tuple[Features, ...]
    cost: float

    def row(self, kinds: Sequence[str]) -> npt.NDArray[np.float64]:
        """The factors of all coefficients, in the order of kinds x UNITS."""
        found = np.zeros((len(kinds), len(UNITS)))
        for node in self.work:
            kind = node.kind if node.integer is None else node.integer
            if kind in kinds:
                found[kinds.index(kind)] += (node.macs, node.elements, 1)
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


def networks(target: str) -> Iterator[Program]:
    """Everything that is measured: where there are integer kernels, in int8 as well."""
    precisions = ("float", "int8") if "convert" in PRIORS[target] else ("float",)
    for precision, model in itertools.product(precisions, MODELS):
        yield simplify()(from_onnx(SHARED / "models" / f"{model}_{precision}.onnx"))
    for head in map(simplify(), heads()):
        yield head
        if "int8" in precisions:
            yield _quantised(head)


def _quantised(program: Program) -> Program:
    (value,) = program.inputs
    shape = () if value.shape is None else tuple(value.shape.numpy())
    samples = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)
    program = Quantize("int8", {str(value.name): samples})(program)
    return replace(program, name=f"{program.name}_int8")


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
    kinds, totals = list(PRIORS[target]), _totals(samples)
    rows: list[npt.NDArray[np.float64]] = []
    costs: list[float] = []
    for sample in samples:
        weight = 1 / np.sqrt(max(sample.cost, 1.0) * totals[sample.network])
        rows.append(weight * sample.row(kinds))
        costs.append(weight * sample.cost)
    for network, total in totals.items():
        own = np.array([sample.row(kinds) for sample in samples if sample.network == network])
        rows.append(10 / total * own.sum(axis=0))
        costs.append(10.0)
    priors = np.array(list(PRIORS[target].values()), np.float64).reshape(-1)
    known = priors > 0
    nearness = PRIOR_WEIGHT * np.eye(len(priors))[known] / priors[known, None]
    matrix = np.vstack([*rows, nearness]) * known
    found, _ = nnls(matrix, np.array([*costs, *[PRIOR_WEIGHT] * int(known.sum())]))
    table = found.reshape(len(kinds), len(UNITS))
    return {
        kind: {unit: float(f"{value:.4g}") for unit, value in zip(UNITS, line, strict=True)}
        for kind, line in zip(kinds, table, strict=True)
    }


def _totals(samples: list[Sample]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for sample in samples:
        totals[sample.network] = totals.get(sample.network, 0.0) + sample.cost
    return totals


def show(target: str, samples: list[Sample], cost: dict[str, dict[str, float]]) -> None:
    """Predicted beside measured, by network."""
    kinds = list(cost)
    flat = np.array([cost[kind][unit] for kind in kinds for unit in UNITS])
    table = Table("network", title=f"{target}, {targets.get(target).cost_unit} per inference")
    for heading in ("measured", "predicted", "error"):
        table.add_column(heading, justify="right")
    for network, total in _totals(samples).items():
        predicted = sum(float(s.row(kinds) @ flat) for s in samples if s.network == network)
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
        samples = [sample for program in networks(target) for sample in measure(program, target)]
        cost = fit(samples, target)
        show(target, samples, cost)
        if arguments.write:
            write(target, cost)


if __name__ == "__main__":
    main()
