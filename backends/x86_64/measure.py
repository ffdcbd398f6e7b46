"""CPU time per exit and block, and stack depth, of a loaded network."""

from __future__ import annotations

import ctypes
import tempfile
from importlib import resources
from pathlib import Path
from time import thread_time_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends import tools
from offramp.backends.x86_64.loader import Network
from offramp.compiler.errors import ToolError

Array = npt.NDArray[Any]
_MAX_TICKS = 4096


class _Trace(ctypes.Structure):
    """Mirrors `trace` of measure.c."""

    _fields_ = [
        ("next_block", ctypes.c_void_p),
        ("count", ctypes.c_int),
        ("blocks", ctypes.c_int * _MAX_TICKS),
        ("nanoseconds", ctypes.c_uint64 * _MAX_TICKS),
    ]


class Instruments:
    """The measuring functions of measure.c, built with gcc on construction.

    Raises:
        ToolError: gcc is missing or failed.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="offramp-") as scratch:
            source = Path(scratch) / "measure.c"
            source.write_text(
                resources.files("offramp.backends.x86_64")
                .joinpath("templates/measure.c")
                .read_text()
            )
            library = Path(scratch) / "measure.so"
            tools.run(["gcc", "-O2", "-shared", "-fPIC", "-pthread", source, "-o", library])
            self._library = ctypes.CDLL(str(library))
        self._library.measure_stack.restype = ctypes.c_int64
        self._library.measure_run.restype = ctypes.c_uint64

    def stack(self, network: Network, thresholds: Array, sample: list[Array]) -> int:
        """Bytes of stack that one run needs.

        Raises:
            ToolError: no thread could be started.
        """
        context, _arena = network.new_context(thresholds)
        _write_inputs(network, context, sample)
        depth: int = self._library.measure_stack(network.c_run, ctypes.byref(context))
        if depth < 0:
            raise ToolError("cannot measure the stack: no thread with a stack of 1 MiB could start")
        return depth

    def blocks(
        self, network: Network, thresholds: Array, sample: list[Array], repeats: int = 30
    ) -> dict[str, float]:
        """Median CPU time in ns of each block that runs, by name."""
        context, _arena = network.new_context(thresholds)
        trace = _Trace()
        trace.next_block = ctypes.addressof(context) + network.context_type.next_block.offset
        callback = self._library.measure_between_blocks
        context.between_blocks = ctypes.cast(callback, ctypes.c_void_p).value
        context.user = ctypes.addressof(trace)
        spans: dict[int, list[int]] = {}
        for _ in range(repeats):
            _write_inputs(network, context, sample)
            whole = self._library.measure_run(
                network.c_run, ctypes.byref(context), ctypes.byref(trace)
            )
            for block, nanoseconds in _spans(trace, whole):
                spans.setdefault(block, []).append(nanoseconds)
        names: list[str] = network.interface["blocks"]
        return {names[block]: float(np.median(values)) for block, values in spans.items()}


def _spans(trace: _Trace, whole: int) -> list[tuple[int, int]]:
    """Block and CPU time, in order; the last tick is that after the run."""
    ticks = [(trace.blocks[i], trace.nanoseconds[i]) for i in range(trace.count)]
    began, block, found = ticks[-1][1] - whole, 0, list[tuple[int, int]]()
    for following, time in ticks:
        found.append((block, time - began))
        block, began = following, time
    return found


def _write_inputs(network: Network, context: Any, sample: list[Array]) -> None:
    for index, array in enumerate(sample):
        target = network.c_input(ctypes.byref(context), ctypes.c_int(index))
        ctypes.memmove(target, array.ctypes.data, array.nbytes)


def time_per_sample(
    network: Network, thresholds: Array, samples: list[Array], budget_ns: int = 200_000_000
) -> float:
    """Median CPU time in ns of one sample on this thread, over batches of at least 2 ms each.

    A network without inputs runs once per call, so that the call's own microsecond is included.
    """
    batch = list(samples)
    while batch and _timed(network, thresholds, batch) < 2_000_000:
        batch = [np.concatenate([array, array]) for array in batch]
    repeats = int(np.clip(budget_ns / max(_timed(network, thresholds, batch), 1), 5, 50))
    times = [_timed(network, thresholds, batch) for _ in range(repeats)]
    return float(np.median(times)) / (len(batch[0]) if batch else 1)


def _timed(network: Network, thresholds: Array, batch: list[Array]) -> int:
    began = thread_time_ns()
    network.run(batch, thresholds)
    return thread_time_ns() - began
