"""What deciding costs at run time: a three-exit ResNet-20 whose exits take 50, 25 and 25 percent.

Each implementation is compared with static networks that do the same work without deciding: for
every exit one straight network, from the input through all heads on the way, weighted by the share
of samples that leave there. Ours is also compared with the weighted sum of its own blocks, which
must agree within 3 percent. Everything is timed in turns on one thread, as CPU time; medians over
rounds.

    .venv/bin/python benchmarks/exits_overhead.py [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import thread_time_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from offramp import backends
from offramp.backends.samples import forcing
from offramp.backends.tvm.lower import lower
from offramp.backends.x86_64.measure import Instruments
from offramp.backends.x86_64.run import X86Runner
from offramp.compiler import targets
from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir import Block, Exit, Program, Return, Successor
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.passes.memory import plan_memory
from offramp.passes.simplify import simplify

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
SHARES = (0.5, 0.25, 0.25)
SAMPLES = 64
LIMIT = 0.03
"""Promised: expected time within 3 percent of the weighted sum of the own blocks."""

Images = npt.NDArray[np.float32]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip, as in He et al. (2016), section 4.2."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        stride = 1 if inside == outside else 2
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip = nn.Conv2d(inside, outside, 1, stride) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inside, H, W] to [N, outside, H / stride, W / stride]."""
        return torch.relu(self.body(x) + self.skip(x))


class Segment(nn.Module):
    """One stage of ResNet-20 and its classifier: features on, logits and confidence out."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, logits [N, 10], largest probability [N, 1]."""
        features = self.body(x)
        logits = self.head(features)
        return features, logits, torch.softmax(logits, 1).amax(1, keepdim=True)


class Way(nn.Module):
    """All segments up to one exit in a row, without deciding; every head's answer is computed."""

    def __init__(self, segments: Sequence[nn.Module]) -> None:
        super().__init__()
        self.segments = nn.ModuleList(segments)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits and confidence of every head on the way, the last first."""
        found: tuple[Tensor, ...] = ()
        for segment in self.segments:
            x, logits, score = segment(x)
            found = (logits, score, *found)
        return found


def segments() -> list[Segment]:
    """ResNet-20 in three stages, with random weights: time does not depend on them."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    first = nn.Sequential(stem, *(Residual(16, 16) for _ in range(3)))
    second = nn.Sequential(Residual(16, 32), Residual(32, 32), Residual(32, 32))
    third = nn.Sequential(Residual(32, 64), Residual(64, 64), Residual(64, 64))
    parts = zip((first, second, third), (16, 32, 64), strict=True)
    return [Segment(body, channels).eval() for body, channels in parts]


def straight(module: nn.Module, x: Tensor, name: str) -> Program:
    """A module as a simplified Program of one block."""
    return simplify()(from_torch(module, (x,), name=name))


def with_exits(parts: list[Program]) -> Program:
    """The segments as one Program; thresholds are set by the caller."""
    names = [f"stage{i + 1}" for i in range(len(parts))]
    blocks: dict[str, Block] = {}
    for i, (name, part) in enumerate(zip(names, parts, strict=True)):
        end: Exit | Return = Return((1,), confidence=2)
        if i < len(parts) - 1:
            end = Exit((1,), 2, 0.0, "max_softmax", Successor(names[i + 1], (0,)))
        blocks[name] = Block(name, part.entry.graph, end)
    return Program("resnet20", blocks, ("logits",), parts[0].opset_imports)


def compiled(program: Program, folder: Path) -> X86Runner:
    """A Program as a loaded shared library."""
    folder.mkdir()
    lowered = lower(program, targets.get("x86-64"))
    backends.get("x86-64").emit(replace(lowered, plan=plan_memory(lowered.plan)), folder)
    return X86Runner(folder)


def thresholds(runner: X86Runner, x: Images) -> list[float]:
    """Half of the samples leave at the first exit, half of the rest at the second."""
    name = runner.interface.inputs[0].name
    chosen = [float("nan")] * 2
    for exit_index in range(2):
        everyone = runner.run({name: x}, [-np.inf if i == exit_index else np.nan for i in range(2)])
        staying = runner.run({name: x}, chosen).exit_index == 2
        scores = np.sort(everyone.confidence[staying])
        chosen[exit_index] = float(scores[len(scores) // 2 - 1 : len(scores) // 2 + 1].mean())
    return chosen


def session(model: Any) -> Any:
    """An onnxruntime session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@dataclass(frozen=True)
class Row:
    """Microseconds per sample, medians over rounds.

    deciding: with exits. static: the weighted static networks, in the same runtime. blocks: the
    weighted own blocks, where they can be timed.
    """

    implementation: str
    deciding: float
    static: float
    blocks: float | None = None

    @property
    def over_static(self) -> float:
        """What deciding adds, as a fraction."""
        return self.deciding / self.static - 1

    @property
    def over_blocks(self) -> float | None:
        """What deciding adds to the own blocks, as a fraction."""
        return None if self.blocks is None else self.deciding / self.blocks - 1


class Contest:
    """All implementations of the same network, ready to run on the same samples."""

    def __init__(self, folder: Path) -> None:
        parts = segments()
        shapes = [(1, 3, 32, 32), (1, 16, 32, 32), (1, 32, 16, 16)]
        programs = [
            straight(part, torch.zeros(shape), f"segment{i}")
            for i, (part, shape) in enumerate(zip(parts, shapes, strict=True))
        ]
        ways = [straight(Way(parts[: i + 1]), torch.zeros(shapes[0]), f"way{i}") for i in range(3)]
        program = with_exits(programs)
        self.x = np.random.default_rng(0).normal(size=(SAMPLES, 3, 32, 32)).astype(np.float32)
        self.ours = compiled(program, folder / "exits")
        self.thresholds = thresholds(self.ours, self.x)
        self.our_ways = [compiled(way, folder / way.name) for way in ways]
        for block, threshold in zip(program.exits, self.thresholds, strict=True):
            assert isinstance(block.terminator, Exit)  # noqa: S101 - a typing fact
            block.terminator = replace(block.terminator, threshold=threshold)
        self.nested = session(to_onnx(program))
        self.sessions = [session(to_onnx(part)) for part in programs]
        self.ort_ways = [session(to_onnx(way)) for way in ways]
        self.instruments = Instruments()
        self.left = self.run_ours().exit_index

    def run_ours(self) -> Any:
        """Our library on all samples."""
        name = self.ours.interface.inputs[0].name
        return self.ours.run({name: self.x}, self.thresholds)

    def run_way(self, index: int) -> Any:
        """Our static network to one exit on all samples."""
        runner = self.our_ways[index]
        return runner.run({runner.interface.inputs[0].name: self.x})

    def own_blocks(self) -> float:
        """Weighted sum of our blocks in ns, each a median over runs to the end."""
        network, everything = self.ours.network, forcing(self.ours.interface, 2)
        times = self.instruments.blocks(network, everything, [self.x[:1, None]], repeats=SAMPLES)
        reach = 1 - np.cumsum([0.0, *SHARES[:-1]])
        return float(np.dot(list(times.values()), reach))

    def run_nested(self) -> list[int]:
        """The nested `If` in onnxruntime, sample by sample; exit indices."""
        name = self.nested.get_inputs()[0].name
        return [
            int(self.nested.run(None, {name: self.x[i : i + 1]})[1].item()) for i in range(SAMPLES)
        ]

    def run_segments(self) -> list[int]:
        """One session per segment, decided in Python; exit indices."""
        names = [s.get_inputs()[0].name for s in self.sessions]
        found: list[int] = []
        for i in range(SAMPLES):
            features, index = self.x[i : i + 1], 0
            while True:
                outputs = self.sessions[index].run(None, {names[index]: features})
                features, score = outputs[0], float(outputs[2].reshape(-1)[0])
                if index == len(self.thresholds) or score >= self.thresholds[index]:
                    break
                index += 1
            found.append(index)
        return found

    def run_ort_way(self, index: int) -> None:
        """onnxruntime's static network to one exit, sample by sample."""
        network = self.ort_ways[index]
        name = network.get_inputs()[0].name
        for i in range(SAMPLES):
            network.run(None, {name: self.x[i : i + 1]})


def timed(work: Callable[[], object]) -> float:
    """CPU time of this thread per sample, in ns."""
    began = thread_time_ns()
    work()
    return (thread_time_ns() - began) / SAMPLES


def weighted(work: Callable[[int], object]) -> float:
    """Expected ns per sample over the static networks."""
    return sum(share * timed(partial(work, k)) for k, share in enumerate(SHARES))


def compete(contest: Contest, rounds: int) -> list[Row]:
    """Time everything in turns; medians."""
    keys = ("ours", "our ways", "our blocks", "nested", "segments", "their ways")
    times: dict[str, list[float]] = {key: [] for key in keys}
    for _ in range(rounds):
        times["ours"].append(timed(contest.run_ours))
        times["our ways"].append(weighted(contest.run_way))
        times["our blocks"].append(contest.own_blocks())
        times["nested"].append(timed(contest.run_nested))
        times["segments"].append(timed(contest.run_segments))
        times["their ways"].append(weighted(contest.run_ort_way))
    median = {key: float(np.median(values)) / 1000 for key, values in times.items()}
    return [
        Row("offramp", median["ours"], median["our ways"], median["our blocks"]),
        Row("onnxruntime, nested If", median["nested"], median["their ways"]),
        Row("onnxruntime, segments from Python", median["segments"], median["their ways"]),
    ]


def table(rows: list[Row]) -> Table:
    """All implementations."""
    drawn = Table(title="ResNet-20, exits 50/25/25, x86-64, one thread, CPU time in us per sample")
    drawn.add_column("implementation")
    for heading in ("with exits", "static", "deciding adds", "own blocks", "deciding adds"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        blocks = "-" if row.blocks is None else f"{row.blocks:.1f}"
        over = "-" if row.over_blocks is None else f"{row.over_blocks:+.1%}"
        drawn.add_row(
            row.implementation, f"{row.deciding:.1f}", f"{row.static:.1f}",
            f"{row.over_static:+.1%}", blocks, over,
        )  # fmt: skip
    return drawn


def main() -> int:
    """Run the contest; 1 if ours misses the limit or implementations disagree."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_argument("--rounds", type=int, default=30)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="offramp-") as folder:
        contest = Contest(Path(folder))
        exits = contest.left.tolist()
        if exits != contest.run_nested() or exits != contest.run_segments():
            print("the implementations leave at different exits", file=sys.stderr)
            return 1
        rows = compete(contest, arguments.rounds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (RESULTS / "exits_overhead.json").write_text(text)
    with (RESULTS / "exits_overhead.txt").open("w") as file:
        Console(file=file, width=110).print(table(rows))
    if arguments.json:
        print(text, end="")
    else:
        Console(width=110).print(table(rows))
    over = rows[0].over_blocks
    return 0 if over is not None and abs(over) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
