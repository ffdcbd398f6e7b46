"""A small network with every kind of terminator, its kernels written by hand in C."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from offramp import backends
from offramp.backends import tools
from offramp.backends.base import Backend, Runner
from offramp.compiler.ir import Branch, Exit, Jump, Return, Successor, Switch, Terminator
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.passes.memory import plan_memory

Floats = npt.NDArray[np.float32]

PROTOTYPES = """\
void zoo_double(float *x, float *out, void *scratch);
void zoo_sum(float *x, float *out);
void zoo_head(float *x, float *bias, int64_t *count, float *out);
void zoo_positive(float *x, bool *out);
void zoo_negate(float *x, float *out);
void zoo_index(float *x, int64_t *out);
void zoo_add(float *x, float *bias, float *out);
"""
SOURCE = f"""
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
{PROTOTYPES}
void zoo_double(float *x, float *out, void *scratch) {{
    float *s = scratch;
    for (int i = 0; i < 4; ++i) s[3 - i] = x[i];
    for (int i = 0; i < 4; ++i) out[i] = 2 * s[3 - i];
}}
void zoo_sum(float *x, float *out) {{ *out = x[0] + x[1] + x[2] + x[3]; }}
void zoo_head(float *x, float *bias, int64_t *count, float *out) {{
    out[0] = x[0] + x[1] + bias[0];
    out[1] = x[2] + x[3] + bias[1];
    out[2] = (float)*count;
}}
void zoo_positive(float *x, bool *out) {{ *out = x[0] > 0; }}
void zoo_negate(float *x, float *out) {{ for (int i = 0; i < 4; ++i) out[i] = -x[i]; }}
void zoo_index(float *x, int64_t *out) {{ *out = (int64_t)x[1]; }}
void zoo_add(float *x, float *bias, float *out) {{
    for (int i = 0; i < 4; ++i) out[i] = x[i] + bias[i];
}}
"""


@dataclass(frozen=True)
class HandKernels:
    """C kernels in place of compiled ones."""

    source: str
    declarations: str

    def prototypes(self) -> str:
        return self.declarations

    def to_c(self) -> str:
        return self.source

    def to_object(self, path: Path) -> None:
        source = path.with_suffix(".hand.c")
        source.write_text(self.source)
        tools.run(["gcc", "-O1", "-fPIC", "-c", source, "-o", path])


@dataclass(frozen=True)
class HandLowered:
    plan: Plan
    kernels: HandKernels


@dataclass(frozen=True)
class Zoo:
    """The network in C for one target, and the same in NumPy.

    x [1, 4] and count [1] -> double -> exit (sum >= 10, head) -> if x[0] > 0: negate -> one of
    three biases by x[1] -> exit (sum >= 100, head) -> head.
    """

    lowered: HandLowered
    biases: Floats

    def reference(
        self, x: Floats, count: npt.NDArray[np.int64], thresholds: tuple[float, float]
    ) -> tuple[list[Floats], list[int], list[float]]:
        answers, exits, scores = list[Floats](), list[int](), list[float]()
        for sample, number in zip(x, count, strict=True):
            answer, where, score = self._one(sample, int(number), thresholds)
            answers.append(answer)
            exits.append(where)
            scores.append(score)
        return answers, exits, scores

    def _one(
        self, x: Floats, count: int, thresholds: tuple[float, float]
    ) -> tuple[Floats, int, float]:
        h = 2 * x
        if h.sum() >= thresholds[0]:
            return self._head(h, count), 0, float(h.sum())
        h = -h if h[0] > 0 else h
        h = h + self.biases[int(np.clip(np.trunc(h[1]), 0, 2))]
        if h.sum() >= thresholds[1]:
            return self._head(h, count), 1, float(h.sum())
        return self._head(h + 1, count), 2, float("nan")

    def _head(self, h: Floats, count: int) -> Floats:
        return np.array([h[0] + h[1] + 5, h[2] + h[3] - 5, count], np.float32)


def _block(
    name: str, calls: list[KernelCall], parameters: str, operands: str, end: Terminator
) -> BlockPlan:
    return BlockPlan(name, tuple(calls), tuple(parameters.split()), tuple(operands.split()), end)


def _blocks() -> tuple[BlockPlan, ...]:
    def call(
        kernel: str, *arguments: str, workspace: int = 0, in_place: bool = False
    ) -> KernelCall:
        pairs = ((len(arguments) - 1, 0),) if in_place else ()
        return KernelCall(f"zoo_{kernel}", arguments, workspace=workspace, in_place=pairs, macs=10)

    cases = tuple(Successor(f"case{i}", (1, 2)) for i in range(3))
    return (
        _block(
            "first */ block",
            [
                call("double", "x", "h", workspace=16),
                call("sum", "h", "s0"),
                call("head", "h", "bias", "count", "early0"),
            ],
            "x count",
            "early0 s0 h count",
            Exit((0,), 1, 10.0, "max_softmax", Successor("gate", (2, 3))),
        ),
        _block(
            "gate",
            [call("positive", "gate.h", "flag")],
            "gate.h gate.count",
            "flag gate.h gate.count",
            Branch(0, Successor("negate", (1, 2)), Successor("route", (1, 2))),
        ),
        _block(
            "negate",
            [call("negate", "negate.h", "n", in_place=True)],
            "negate.h negate.count",
            "n negate.count",
            Jump(Successor("route", (0, 1))),
        ),
        _block(
            "route",
            [call("index", "route.h", "i")],
            "route.h route.count",
            "i route.h route.count",
            Switch(0, cases),
        ),
        *(
            _block(
                f"case{i}",
                [call("add", f"case{i}.h", f"bias{i}", f"case{i}.y", in_place=True)],
                f"case{i}.h case{i}.count",
                f"case{i}.y case{i}.count",
                Jump(Successor("second", (0, 1))),
            )
            for i in range(3)
        ),
        _block(
            "second",
            [
                call("sum", "second.h", "s1"),
                call("head", "second.h", "bias", "second.count", "early1"),
            ],
            "second.h second.count",
            "early1 s1 second.h second.count",
            Exit((0,), 1, 100.0, "max_softmax", Successor("last", (2, 3))),
        ),
        _block(
            "last",
            [
                call("add", "last.h", "ones", "z", in_place=True),
                call("head", "z", "bias", "last.count", "final"),
            ],
            "last.h last.count",
            "final",
            Return((0,)),
        ),
    )


def _buffers(biases: Floats) -> dict[str, Buffer]:
    aliases = {"gate": "", "negate": "", "last": "second."} | {
        f"case{i}": "route." for i in range(3)
    }
    floats = {"x": 4, "h": 4, "s0": 1, "early0": 3, "n": 4, "route.h": 4, "second.h": 4}
    floats |= {"s1": 1, "early1": 3, "z": 4, "final": 3} | {f"case{i}.y": 4 for i in range(3)}
    found = [Buffer(name, (1, size), "float32") for name, size in floats.items()]
    found += [Buffer(f"{b}.h", (1, 4), "float32", alias_of=f"{a}h") for b, a in aliases.items()]
    found += [Buffer(f"{b}.count", (1,), "int64", alias_of=f"{a}count") for b, a in aliases.items()]
    found += [Buffer(n, (1,), "int64") for n in ("count", "i", "route.count", "second.count")]
    found += [Buffer("flag", (), "bool")]
    constants = {f"bias{i}": bias for i, bias in enumerate(biases)}
    constants |= {"ones": np.ones(4, np.float32), "bias": np.array([5, -5], np.float32)}
    found += [
        Buffer(name, data.shape, "float32", Storage.CONSTANT, data)
        for name, data in constants.items()
    ]
    return {buffer.name: buffer for buffer in found}


@pytest.fixture(
    params=[
        "x86-64",
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
    scope="session",
)
def target(request: pytest.FixtureRequest) -> str:
    """Every target that code is emitted for: a new one is added here."""
    return str(request.param)


@pytest.fixture(scope="session")
def backend(target: str) -> Backend:
    return backends.get(target)


@pytest.fixture(scope="session")
def zoo(target: str) -> Zoo:
    biases = np.arange(12, dtype=np.float32).reshape(3, 4) * 7
    names = ("x", "count")
    plan = Plan("zoo", target, _buffers(biases), _blocks(), names, ("y",), batched=True)
    return Zoo(HandLowered(plan_memory(plan), HandKernels(SOURCE, PROTOTYPES)), biases)


@pytest.fixture(scope="session")
def zoo_folder(zoo: Zoo, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    backend.emit(zoo.lowered, folder)
    return folder


@pytest.fixture(scope="session")
def zoo_runner(backend: Backend, zoo_folder: Path) -> Runner:
    return backend.load(zoo_folder)
