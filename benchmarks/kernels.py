"""Four MLPerf Tiny networks on this x86-64 machine without exits, beside onnxruntime.

One thread, one sample at a time, both called with inputs already in place, in turns; medians.
Prints a table and keeps the numbers under docs/results/.

    .venv/bin/python benchmarks/kernels.py [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt
import onnxruntime
from rich.console import Console
from rich.table import Table

import offramp
from offramp.backends.x86_64.loader import Network

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
RESULTS = ROOT / "docs" / "results"
MODELS = ("ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae")
ROUNDS = 1000
WARM_UP = 50

Sample = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One network: microseconds per sample, and the largest deviation relative to the scale."""

    model: str
    macs: int
    microseconds: float
    onnxruntime: float
    error: float

    @property
    def ratio(self) -> float:
        """Our time as a fraction of onnxruntime's."""
        return self.microseconds / self.onnxruntime


def measure(model: str) -> Row:
    """Compile one network and race it."""
    path = SHARED / "models" / f"{model}_float.onnx"
    artifact = offramp.compile(path, target="x86-64", exits=False)
    network = Network(artifact.folder)
    samples = np.load(path.with_name(f"{model}_float_samples.npz"))
    shape = [1, *network.interface["inputs"][0]["shape"]]
    x = samples["x"][:1].astype(np.float32).reshape(shape)
    (found,), _, _ = network.run([x])
    expected = samples["y"][0].reshape(found.shape)
    ours, theirs = race(direct_call(network, x), bound_session(path, x[0]))
    return Row(
        model=model,
        macs=network.interface["macs"][-1],
        microseconds=ours,
        onnxruntime=theirs,
        error=float(np.abs(found - expected).max() / np.abs(expected).max()),
    )


def direct_call(network: Network, x: Sample) -> Callable[[], object]:
    """The C function on a context whose input is filled before every run."""
    context, arena = network.new_context()
    handle = ctypes.byref(context)
    source, size = x.ctypes.data, x.nbytes

    def call() -> object:
        ctypes.memmove(network.c_input(handle, 0), source, size)
        network.c_run(handle)
        return arena

    return call


def bound_session(path: Path, x: Sample) -> Callable[[], object]:
    """An onnxruntime session on bound inputs and outputs, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    binding.bind_output(session.get_outputs()[0].name)
    return lambda: session.run_with_iobinding(binding)


def race(*contestants: Callable[[], object]) -> list[float]:
    """Median microseconds of each, run in turns so that all see the same machine."""
    times: list[list[int]] = [[] for _ in contestants]
    for _ in range(ROUNDS + WARM_UP):
        for contestant, taken in zip(contestants, times, strict=True):
            began = perf_counter_ns()
            contestant()
            taken.append(perf_counter_ns() - began)
    return [float(np.median(taken[WARM_UP:])) / 1000 for taken in times]


def table(rows: list[Row]) -> Table:
    """All figures, onnxruntime's beside."""
    title = f"{_processor()}, one thread, float32, µs per sample"
    drawn = Table(title=title)
    drawn.add_column("network")
    for heading in ("MACs", "offramp", "GFLOP/s", "onnxruntime", "ratio", "error"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        drawn.add_row(
            row.model,
            f"{row.macs / 1e6:.2f} M",
            f"{row.microseconds:.1f}",
            f"{2 * row.macs / row.microseconds / 1000:.0f}",
            f"{row.onnxruntime:.1f}",
            f"{row.ratio:.2f}",
            f"{row.error:.0e}",
        )
    return drawn


def _processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> int:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = [measure(model) for model in MODELS]
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (RESULTS / "kernels.json").write_text(text)
    with (RESULTS / "kernels.txt").open("w") as file:
        Console(file=file, width=110).print(table(rows))
    if arguments.json:
        print(text, end="")
    else:
        Console(width=110).print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
