"""CPU time of every kernel of an emitted x86-64 library, by linking a stopwatch around each."""

from __future__ import annotations

import ctypes
import re
import tempfile
from pathlib import Path

import numpy as np

from offramp.backends import tools
from offramp.backends.base import LoweredProgram
from offramp.backends.driver.interface import describe
from offramp.backends.samples import forcing
from offramp.backends.x86_64.emit import link, write_sources
from offramp.backends.x86_64.loader import Network
from offramp.compiler import targets

REPEATS = 200
_STOPWATCH = """
#include <stdint.h>
#include <time.h>
static inline int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
"""


def kernel_nanoseconds(lowered: LoweredProgram) -> dict[str, float]:
    """Median time in ns of each kernel, summed over its calls in one run to the end."""
    name, prototypes = lowered.plan.name, lowered.kernels.prototypes()
    arity = {
        symbol: arguments.count(",") + 1
        for symbol, arguments in re.findall(r"(\w+)\(([^)]*)\)", prototypes)
    }
    interface = describe(lowered.plan, targets.get(lowered.plan.target).alignment)
    with tempfile.TemporaryDirectory(prefix="offramp-") as scratch:
        build = Path(scratch)
        write_sources(lowered, build)
        (build / "stopwatch.c").write_text(_STOPWATCH + _wrappers(arity))
        tools.run(["gcc", "-O2", "-fPIC", "-c", "stopwatch.c"], folder=build)
        wraps = [f"-Wl,--wrap={symbol}" for symbol in arity]
        library = build / f"lib{name}.so"
        link(name, build, library, *wraps, "stopwatch.o", exports=("stopwatch",))
        interface.write(build)
        network = Network(build)
        table = (ctypes.c_int64 * len(arity)).in_dll(network.library, "stopwatch")
        generator = np.random.default_rng(0)
        inputs = [generator.normal(size=(1, *t.shape)).astype(t.dtype) for t in interface.inputs]
        runs: list[list[int]] = []
        for _ in range(REPEATS):
            ctypes.memset(table, 0, ctypes.sizeof(table))
            network.run(inputs, forcing(interface, len(interface.exits)))
            runs.append(list(table))
    return dict(zip(arity, np.median(runs, axis=0).tolist(), strict=True))


def _wrappers(arity: dict[str, int]) -> str:
    """For every kernel a function that times it and takes off what the clock itself costs."""
    text = f"int64_t stopwatch[{len(arity)}];\n"
    for index, (symbol, count) in enumerate(arity.items()):
        parameters = ", ".join(f"void *a{i}" for i in range(count))
        arguments = ", ".join(f"a{i}" for i in range(count))
        text += f"""
extern void __real_{symbol}({parameters});
void __wrap_{symbol}({parameters})
{{
    const int64_t first = now(), began = now();
    __real_{symbol}({arguments});
    stopwatch[{index}] += (now() - began) - (began - first);
}}
"""
    return text
