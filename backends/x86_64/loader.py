"""Run a network compiled by offramp from Python. Needs NumPy only; may be copied along freely.

    from kws import Network                      # this file, named after the network
    network = Network()                          # libkws.so and interface.json beside this file
    outputs, exit_index, confidence = network.run([x])

Networks hold no state between runs: `run` may be called from several threads at a time, and
Python's lock is released while it runs.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Network:
    """The shared library in one folder."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(__file__).parent if folder is None else Path(folder)
        self.interface: dict[str, Any] = json.loads((self.folder / "interface.json").read_text())
        name: str = self.interface["name"]
        self.context_type = _context_type(len(self.interface["exits"]))
        self.library = ctypes.CDLL(str((self.folder / f"lib{name}.so").resolve()))
        self.c_init = self.library[f"{name}_init"]
        self.c_run = self.library[f"{name}_run"]
        self.c_run_batch = self.library[f"{name}_run_batch"]
        self.c_input = self.library[f"{name}_input"]
        self.c_input.restype = ctypes.c_void_p
        self.c_run_batch.restype = None

    def new_context(self, thresholds: Sequence[float] | Array | None = None) -> tuple[Any, Array]:
        """A context of its own, and the arena that must be kept alive as long as it."""
        context = self.context_type()
        self.c_init(ctypes.byref(context))
        arena = _aligned(self.interface["arena"], self.interface["alignment"])
        context.arena = arena.ctypes.data
        if thresholds is not None and len(self.interface["exits"]):
            context.thresholds[:] = [float(threshold) for threshold in thresholds]
        return context, arena

    def run(
        self, inputs: Sequence[Array], thresholds: Sequence[float] | Array | None = None
    ) -> tuple[list[Array], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Answer N samples, each on its own.

        inputs: one array `[N, *shape]` per input, of the input's type; N is 1 without inputs.
        Returns an array `[N, *shape]` per output, and exit index and confidence of each sample.
        """
        count = len(inputs[0]) if len(inputs) else 1
        tensors = zip(self.interface["inputs"], inputs, strict=True)
        dense = [_checked(tensor, array, count) for tensor, array in tensors]
        outputs = [
            np.empty((count, *tensor["shape"]), tensor["dtype"])
            for tensor in self.interface["outputs"]
        ]
        exit_index, confidence = np.empty(count, np.int32), np.empty(count, np.float32)
        context, _arena = self.new_context(thresholds)
        self.c_run_batch(
            ctypes.byref(context),
            ctypes.c_int(count),
            _pointers(dense),
            _pointers(outputs),
            ctypes.c_void_p(exit_index.ctypes.data),
            ctypes.c_void_p(confidence.ctypes.data),
        )
        return outputs, exit_index, confidence


def _context_type(exits: int) -> type[Any]:
    """The context structure of the header."""
    thresholds = [("thresholds", ctypes.c_float * exits)] if exits else []

    class Context(ctypes.Structure):
        """Mirrors `NAME_context`."""

        _fields_ = [
            ("arena", ctypes.c_void_p),
            *thresholds,
            ("exit_index", ctypes.c_int),
            ("confidence", ctypes.c_float),
            ("next_block", ctypes.c_int),
            ("between_blocks", ctypes.c_void_p),
            ("user", ctypes.c_void_p),
        ]

    return Context


def _aligned(size: int, alignment: int) -> Array:
    """Uninitialised bytes at an aligned address."""
    raw = np.empty(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


def _checked(tensor: dict[str, Any], array: Array, count: int) -> Array:
    wanted = (count, *tensor["shape"])
    if array.shape != wanted or array.dtype != np.dtype(tensor["dtype"]):
        raise ValueError(
            f"input {tensor['name']!r}: expected {tensor['dtype']} {wanted}, "
            f"found {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array)


def _pointers(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
